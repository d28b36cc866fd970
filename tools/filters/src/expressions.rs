// SPDX-License-Identifier: BSD-2-Clause
//! Filter expressions as people write them.

use std::collections::BTreeSet;

/// What stands for itself.
const SINGLE: &[&str] = &[
    "ip",
    "ip6",
    "arp",
    "rarp",
    "tcp",
    "udp",
    "icmp",
    "icmp6",
    "sctp",
    "igmp",
    "pim",
    "vrrp",
    "ah",
    "esp",
    "ip proto 47",
    "ip6 proto 58",
    "ether broadcast",
    "ether multicast",
    "ip broadcast",
    "ip multicast",
    "ip6 multicast",
    "ether host 02:00:00:00:00:01",
    "ether src 02:00:00:00:00:02",
    "ether dst 02:00:00:00:00:03",
    "ether proto 0x88cc",
    "ether[0] & 1 != 0",
    "vlan",
    "vlan 5",
    "vlan and ip",
    "vlan 100 and tcp port 80",
    "vlan and vlan",
    "mpls",
    "mpls 1024 and ip",
    "pppoes",
    "pppoes and ip",
    "geneve",
    "stp",
    "ipx",
    "atalk",
    "llc",
    "lat",
    "decnet src 1.2",
    "iso",
    "clnp",
    "less 100",
    "greater 500",
    "len > 60 and len <= 590",
    "len = 60",
    "tcp[tcpflags] & (tcp-syn|tcp-fin) != 0",
    "tcp[tcpflags] & (tcp-syn|tcp-ack) == tcp-syn",
    "tcp[tcpflags] == tcp-syn|tcp-ack",
    "tcp[13] & 7 != 0",
    "tcp[0:2] > 1024 and tcp[2:2] < 1024",
    "(ip[0] & 0xf) > 5",
    "ip[6:2] & 0x1fff != 0",
    "ip[6] & 0x20 != 0",
    "ip[8] < 5",
    "ip[2:2] > 576",
    "ip[0] & 0xf0 == 0x40",
    "ip[12:4] = ip[16:4]",
    "ip[9] = ip[23]",
    "ether[12:2] = 0x800",
    "ether[6:4] = ether[0:4]",
    "icmp[icmptype] = icmp-echo",
    "icmp[icmptype] != icmp-echoreply and icmp[icmpcode] = 0",
    "icmp6[icmp6type] = icmp6-echo",
    "udp[4:2] > 100",
    "udp[8:4] & 0xff = 0x11",
    "tcp[20:4] = 0x47455420",
    "tcp[((tcp[12:1] & 0xf0) >> 2):4] = 0x47455420",
    "ip[2:2] - ((ip[0] & 0xf) << 2) - ((tcp[12] & 0xf0) >> 2) != 0",
    "ip[2:2] / 4 > 30",
    "ip[2:2] % 7 = 3",
    "ip[8] * 2 > 100",
    "ip[1] ^ 1 = 1",
    "(ip[16] | ip[17]) = 10",
    "-ip[8] = -64",
    "ip[4:2] + ip[2:2] > 1000",
    "ip[100] = 0",
    "tcp[100:2] = 0",
    "ip6[6] = 6",
    "ip6[40:2] = 80",
    "ip6 and ip6[4:2] > 20",
    "ip[40:1] / ip[41:1] > 1",
    "ip[40:1] % ip[41:1] = 1",
    "ip[2:2] >> (ip[8] & 7) = 1",
    "link[0] = 2",
    "not ip",
    "not (tcp or udp)",
    "ip or arp",
    "ip and not tcp",
    "tcp or udp or sctp",
    "icmp or icmp6",
    "arp and ether src 02:00:00:00:00:01",
    "arp[6:2] = 1",
    "ip src or dst 10.0.1.7",
    "host 10.0.0.1",
    "host 10.0.0.1 or host 10.0.0.2",
    "src host 10.0.0.1 or src host 10.0.1.2 or src host 10.0.2.3 or src host 10.0.3.4",
    "host 10.0.0.1 and host 192.168.0.1",
    "src host 10.0.1.7 and dst host 192.168.2.9",
    "ip host 172.16.1.1 and not port 22",
    "ip6 host 2001:db8::1",
    "host 2001:db8::3",
    "src host 2001:db8::2 or dst host 2001:db8::4",
    "net 2001:db8::/32",
    "ip6 src net 2001:db8::/64 and tcp",
    "net 10.0.0.0/8 and tcp dst port 443",
    "src net 192.168 and dst net 10",
    "net 172.16.0.0 mask 255.240.0.0",
    "dst net 8.8.0.0/16 or dst net 10.0.2.0/24",
    "not net 10.0.0.0/8",
    "port 53 or port 123",
    "tcp port 80 or tcp port 443 or tcp port 8080 or tcp port 22 or tcp port 25",
    "tcp dst port 80 and src net 10.0.0.0/8",
    "udp port 53 and host 8.8.1.1",
    "portrange 1000-2000",
    "tcp portrange 20-30 or udp portrange 50-60",
    "not portrange 1024-65535",
    "src portrange 80-80",
    "tcp and not port 22 and not port 443",
    "(tcp or udp) and port 53 and (net 10.0.0.0/8 or net 8.8.0.0/16)",
    "tcp port 80 and (((ip[2:2] - ((ip[0]&0xf)<<2)) - ((tcp[12]&0xf0)>>2)) != 0)",
    "(port 80 or port 443) and not host 10.0.0.1 and tcp[tcpflags] & tcp-rst == 0",
    "ether proto 0x0800 and ip proto 6",
    "proto 17",
    "inbound or not inbound",
];

/// Words before a port, and before an address.
const PORT_OF: &[&str] =
    &["", "tcp ", "udp ", "sctp ", "src ", "dst ", "tcp src ", "tcp dst ", "udp dst ", "not "];
const HOST_OF: &[&str] = &["host ", "src host ", "dst host ", "ip host ", "arp host ", "not src "];
const NET_OF: &[&str] = &["net ", "src net ", "dst net "];

/// More than 300, each once, that libpcap compiles for Ethernet; the ones that
/// say nothing there (`inbound`) or that it refuses are not among them; nor is
/// `protochain`, which jumps backward: no kernel takes that.
pub fn expressions() -> Vec<String> {
    let mut all: BTreeSet<String> = SINGLE.iter().map(ToString::to_string).collect();
    let mut cross = |words: &[&str], values: &[&str]| {
        for word in words {
            all.extend(values.iter().map(|value| format!("{word}{value}")));
        }
    };
    cross(PORT_OF, &["port 22", "port 53", "port 80", "port 443", "port 33000", "portrange 20-99"]);
    cross(HOST_OF, &["10.0.0.1", "10.0.1.200", "192.168.3.7", "8.8.0.8"]);
    cross(NET_OF, &["10.0.0.0/8", "192.168.0.0/16", "172.16.0.0/22", "8.8.2.128/25", "0.0.0.0/0"]);
    cross(&["ether[", "ip[", "ip6[", "tcp[", "udp["], &["0] = 2", "1:2] > 300", "4:4] != 0"]);
    cross(
        &["tcp and ", "udp or ", "vlan and ", "not (arp) and ", "ip6 or "],
        &["port 80", "net 10.0.0.0/8", "host 10.0.2.2", "less 200", "ip[8] = 64", "portrange 1-99"],
    );
    for count in [2u32, 3, 4, 5, 8, 20, 60, 200] {
        for (word, value) in [("host", 0), ("src host", 1), ("dst host", 2)] {
            let one = |i: u32| format!("{word} 10.0.{}.{}", (i + value) % 4, i * 7 % 256);
            all.insert((0..count).map(one).collect::<Vec<_>>().join(" or "));
        }
        let one = |i: u32| format!("port {}", 20 + i);
        all.insert((0..count).map(one).collect::<Vec<_>>().join(" or "));
        let one = |i: u32| format!("net 10.{}.0.0/16", i);
        all.insert((0..count).map(one).collect::<Vec<_>>().join(" or "));
    }
    all.retain(|expression| crate::compile(expression, true).is_ok());
    all.into_iter().collect()
}
