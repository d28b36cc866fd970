// SPDX-License-Identifier: BSD-2-Clause
//! Ethernet frames, the same for the same seed.

use etherparse::{
    ArpHardwareId, ArpOperation, ArpPacket, EtherType, IpFragOffset, IpNumber, Ipv4Header,
    Ipv4Options, PacketBuilder, VlanId,
};
use rand::seq::IndexedRandom as _;
use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

/// Ports that the filters ask for, and others.
const PORTS: [u16; 12] = [22, 25, 53, 80, 123, 443, 993, 1024, 1500, 5060, 8080, 33_000];

struct Maker {
    random: ChaCha8Rng,
}

impl Maker {
    fn new(seed: u64) -> Self {
        Maker { random: ChaCha8Rng::seed_from_u64(seed) }
    }

    fn chance(&mut self, percent: u32) -> bool {
        self.random.random_ratio(percent, 100)
    }

    fn of<T: Copy>(&mut self, items: &[T]) -> T {
        *items.choose(&mut self.random).expect("something to choose from")
    }

    fn mac(&mut self) -> [u8; 6] {
        [2, 0, 0, 0, 0, self.random.random_range(0..8)]
    }

    fn v4(&mut self) -> [u8; 4] {
        let net = self.of(&[[10, 0], [192, 168], [172, 16], [8, 8]]);
        [net[0], net[1], self.random.random_range(0..4), self.random.random()]
    }

    fn v6(&mut self) -> [u8; 16] {
        let mut address = [0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        address[15] = self.random.random_range(0..16);
        address
    }

    fn port(&mut self) -> u16 {
        if self.chance(50) { self.of(&PORTS) } else { self.random.random_range(1024..=65535) }
    }

    fn payload(&mut self, len: usize) -> Vec<u8> {
        let mut payload = vec![0; len];
        self.random.fill(&mut payload[..]);
        payload
    }

    fn arp(&mut self) -> Vec<u8> {
        let packet = ArpPacket::new(
            ArpHardwareId::ETHERNET,
            EtherType::IPV4,
            self.of(&[ArpOperation::REQUEST, ArpOperation::REPLY]),
            &self.mac(),
            &self.v4(),
            &self.mac(),
            &self.v4(),
        )
        .expect("lengths that fit");
        let builder = PacketBuilder::ethernet2(self.mac(), [0xff; 6]).arp(packet);
        let mut frame = Vec::new();
        builder.write(&mut frame).expect("a frame in memory");
        frame
    }

    /// A frame of about `len` bytes; never shorter than its headers.
    fn ip(&mut self, len: usize, six: bool, vlan: bool, odd: bool) -> Vec<u8> {
        let ether = PacketBuilder::ethernet2(self.mac(), self.mac());
        let mut frame = Vec::new();
        let transport = self.random.random_range(0..100);
        let (from, to) = (self.port(), self.port());
        let (number, headers) = match transport {
            0..65 => (IpNumber::TCP, 20),
            65..92 => (IpNumber::UDP, 8),
            92..97 => (IpNumber::ICMP, 8),
            _ => (self.of(&[IpNumber::SCTP, IpNumber::GRE, IpNumber::IPV6_ICMP]), 0),
        };
        let options = if odd && self.chance(50) { 4 * self.random.random_range(0..=10) } else { 0 };
        let before = 14 + if vlan { 4 } else { 0 } + if six { 40 } else { 20 + options } + headers;
        let payload = self.payload(len.saturating_sub(before));
        let (source, destination) = (self.v4(), self.v4());
        let mut v4 = Ipv4Header::new(0, 64, number, source, destination).expect("an empty payload");
        let bytes = self.payload(options);
        v4.options = Ipv4Options::try_from(&bytes[..]).expect("whole words");
        if odd && self.chance(40) {
            v4.fragment_offset = IpFragOffset::try_new(self.of(&[0, 1, 185])).expect("13 bits");
            v4.more_fragments = self.chance(50);
        }
        let id = VlanId::try_new(self.of(&[1, 5, 100])).expect("12 bits");
        let (six_from, six_to) = (self.v6(), self.v6());
        // Each step of the builder has a type of its own.
        macro_rules! finish {
            ($ip:expr) => {{
                let ip = $ip;
                match number {
                    IpNumber::TCP => {
                        let tcp = ip.tcp(from, to, 1, 1024);
                        let tcp = match self.random.random_range(0..5) {
                            0 => tcp.syn(),
                            1 => tcp.syn().ack(2),
                            2 => tcp.fin().ack(2),
                            _ => tcp.ack(2).psh(),
                        };
                        tcp.write(&mut frame, &payload)
                    }
                    IpNumber::UDP => ip.udp(from, to).write(&mut frame, &payload),
                    IpNumber::ICMP if !six => {
                        ip.icmpv4_echo_request(1, 2).write(&mut frame, &payload)
                    }
                    IpNumber::ICMP => ip.icmpv6_echo_request(1, 2).write(&mut frame, &payload),
                    other => ip.write(&mut frame, other, &payload),
                }
                .expect("a frame in memory");
            }};
        }
        match (vlan, six) {
            (false, false) => {
                finish!(ether.ip(etherparse::IpHeaders::Ipv4(v4, Default::default())))
            }
            (false, true) => finish!(ether.ipv6(six_from, six_to, 64)),
            (true, false) => finish!(
                ether.single_vlan(id).ip(etherparse::IpHeaders::Ipv4(v4, Default::default()))
            ),
            (true, true) => finish!(ether.single_vlan(id).ipv6(six_from, six_to, 64)),
        }
        frame
    }
}

/// Frames as on the Internet: the simple IMIX (7 of 64 bytes, 4 of 594, 1 of
/// 1518, with the checksum that no capture has), mostly TCP over IPv4.
pub fn imix(seed: u64, frames: usize) -> Vec<Vec<u8>> {
    let mut maker = Maker::new(seed);
    let one = |maker: &mut Maker| {
        if maker.chance(1) {
            return maker.arp();
        }
        let len = maker.of(&[60, 60, 60, 60, 60, 60, 60, 590, 590, 590, 590, 1514]);
        let six = maker.chance(15);
        maker.ip(len, six, false, false)
    };
    (0..frames).map(|_| one(&mut maker)).collect()
}

/// Frames of all kinds, each as often as the others: VLAN tags, fragments, IP
/// options, frames that are cut, and noise.
pub fn variety(seed: u64, frames: usize) -> Vec<Vec<u8>> {
    let mut maker = Maker::new(seed);
    let one = |maker: &mut Maker| {
        let len = maker.random.random_range(14..200);
        let (six, vlan, odd) = (maker.chance(40), maker.chance(25), maker.chance(60));
        let mut frame = if maker.chance(10) { maker.arp() } else { maker.ip(len, six, vlan, odd) };
        match maker.random.random_range(0..10) {
            0 => frame.truncate(maker.random.random_range(0..=frame.len())),
            1 => {
                // Something in a header is not what it seems.
                let at = maker.random.random_range(0..frame.len().min(60));
                frame[at] ^= 1 << maker.random.random_range(0..8);
            }
            2 => {
                let len = maker.random.random_range(0..80);
                frame = maker.payload(len);
            }
            _ => {}
        }
        frame
    };
    (0..frames).map(|_| one(&mut maker)).collect()
}
