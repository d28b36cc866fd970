// SPDX-License-Identifier: BSD-2-Clause
//! The filters that are measured.

use bpfrs_filter::Insn;

use crate::by_hand;

/// How a program is written by hand.
pub(crate) type ByHand = fn(&[u8]) -> u32;

pub(crate) struct Filter {
    pub(crate) name: String,
    pub(crate) insns: Vec<Insn>,
    /// Counts in the means of small filters.
    pub(crate) small: bool,
    pub(crate) by_hand: Option<ByHand>,
}

const SMALL: &[(&str, Option<ByHand>)] = &[
    ("ip", Some(by_hand::ip)),
    ("ip6", None),
    ("arp", Some(by_hand::arp)),
    ("tcp", Some(by_hand::tcp)),
    ("udp", Some(by_hand::udp)),
    ("icmp", None),
    ("tcp port 80", Some(by_hand::tcp_port_80)),
    ("not port 22", Some(by_hand::not_port_22)),
    ("udp port 53", Some(by_hand::udp_port_53)),
    ("port 53 or port 123", None),
    ("portrange 1000-2000", None),
    ("host 10.0.0.1", Some(by_hand::host)),
    ("net 10.0.0.0/8", Some(by_hand::net)),
    ("host 10.0.1.7 and tcp port 443", None),
    ("tcp[tcpflags] & (tcp-syn|tcp-fin) != 0", Some(by_hand::syn_or_fin)),
    ("src net 192.168 and dst net 10", None),
    ("ip[6:2] & 0x1fff != 0", None),
    ("less 100", None),
    ("vlan 5 and tcp", None),
    ("tcp dst portrange 20-1023 and not host 8.8.1.1", None),
];

fn compile(expression: &str) -> Vec<Insn> {
    bpfrs_filters::compile(expression, true).expect("a filter")
}

pub(crate) fn all() -> Vec<Filter> {
    let small = SMALL.iter().map(|(name, by_hand)| Filter {
        name: (*name).to_owned(),
        insns: compile(name),
        small: true,
        by_hand: *by_hand,
    });
    let large =
        |name: &str, insns| Filter { name: name.to_owned(), insns, small: false, by_hand: None };
    let ports = |count: u32| {
        let ports: Vec<_> = (0..count).map(|i| format!("tcp port {}", 2000 + 13 * i)).collect();
        compile(&ports.join(" or "))
    };
    let hosts = |count: u32| {
        let host = |i: u32| format!("host 172.20.{}.{}", i / 8, i * 7 % 256);
        compile(&(0..count).map(host).collect::<Vec<_>>().join(" or "))
    };
    let payload = "tcp port 80 and (((ip[2:2] - ((ip[0]&0xf)<<2)) - ((tcp[12]&0xf0)>>2)) != 0)";
    small
        .chain([
            large("tcp port 80 with a payload", compile(payload)),
            large("20 tcp ports or'ed", ports(20)),
            large("20 hosts or'ed", hosts(20)),
            large("200 hosts or'ed", hosts(200)),
            large("512 ALU instructions", alu(512)),
        ])
        .collect()
}

/// A program of one load and arithmetic.
fn alu(len: u32) -> Vec<Insn> {
    // add, sub, xor, or, and, lsh, rsh, mul with k; add, xor with X; tax
    const CODES: [u16; 11] = [0x04, 0x14, 0xa4, 0x44, 0x54, 0x64, 0x74, 0x24, 0x0c, 0xac, 0x07];
    let insn = |code, k| Insn { code, jt: 0, jf: 0, k };
    let middle = (2..len).map(|i| {
        let code = CODES[i as usize % CODES.len()];
        match code {
            0x54 => insn(code, 0xffff_ff0f | i),
            0x64 | 0x74 => insn(code, 1 + i % 7),
            _ => insn(code, 3 * i + 1),
        }
    });
    [insn(0x28, 12)].into_iter().chain(middle).chain([insn(0x16, 0)]).collect()
}
