// SPDX-License-Identifier: BSD-2-Clause
//! Packets on lo0: some that a test counts, or a flood.

use alloc::vec;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, Ordering};
use core::time::Duration;

use crate::sys::{self, Address, Fd, Result};

/// A UDP socket that sends to a port of this host where nobody needs to listen.
pub(crate) struct Sender {
    socket: Fd,
    to: Address,
}

impl Sender {
    pub(crate) fn new(to: Address) -> Result<Self> {
        let socket = sys::socket(to.family(), libc::SOCK_DGRAM, 0)?;
        Ok(Self { socket, to })
    }

    /// … from this port of this host.
    pub(crate) fn from_port(to: Address, port: u16) -> Result<Self> {
        let sender = Self::new(to)?;
        sender.socket.bind(match to {
            Address::V4(_) => Address::V4(port),
            Address::V6(_) => Address::V6(port),
        })?;
        Ok(sender)
    }

    /// Sends one packet.
    pub(crate) fn send(&self, payload: &[u8]) -> Result<()> {
        self.socket.send_to(payload, self.to).map(drop)
    }
}

/// A receiver that keeps the kernel from answering with ICMP "port unreachable", which bpf would
/// see as well. It never reads: the kernel drops what does not fit.
pub(crate) fn silent_receiver(at: Address) -> Result<Fd> {
    let socket = sys::socket(at.family(), libc::SOCK_DGRAM, 0)?;
    socket.bind(at)?;
    Ok(socket)
}

/// The payload of test packet `number`: no two are alike, neither in length.
pub(crate) fn payload(number: usize) -> Vec<u8> {
    let mut payload = vec![0; 8 + number % 97];
    for (index, byte) in payload.iter_mut().enumerate() {
        *byte = (number.wrapping_mul(31).wrapping_add(index.wrapping_mul(7)) & 0xff) as u8;
    }
    for (to, from) in payload.iter_mut().zip((number as u64).to_be_bytes()) {
        *to = from;
    }
    payload
}

/// Sends ICMP echo requests like `ping -f`, `rate` a second over both families, until killed. Every
/// one makes two packets on lo0: itself and the answer.
pub(crate) fn flood(rate: u64, sent: &AtomicU64) -> i32 {
    let v4 = sys::socket(libc::AF_INET, libc::SOCK_RAW, libc::IPPROTO_ICMP).ok();
    let v6 = sys::socket(libc::AF_INET6, libc::SOCK_RAW, libc::IPPROTO_ICMPV6).ok();
    let mut sequence = 0_u16;
    // In bursts: a sleep takes at least a tick of the clock.
    let burst = (rate / 200).max(1);
    loop {
        for _ in 0..burst {
            sequence = sequence.wrapping_add(1);
            // The kernel fills in the checksum of ICMPv6, not that of ICMP.
            let sends = [
                v4.as_ref().map(|s| s.send_to(&echo_request(8, sequence, true), Address::V4(0))),
                v6.as_ref().map(|s| s.send_to(&echo_request(128, sequence, false), Address::V6(0))),
            ];
            let good = sends.iter().flatten().filter(|r| r.is_ok()).count();
            sent.fetch_add(2 * good as u64, Ordering::Relaxed);
        }
        sys::sleep(Duration::from_millis(5));
    }
}

/// An echo request of 64 bytes.
fn echo_request(kind: u8, sequence: u16, with_checksum: bool) -> [u8; 64] {
    let mut packet = [0_u8; 64];
    packet[0] = kind;
    packet[4..6].copy_from_slice(b"rs");
    packet[6..8].copy_from_slice(&sequence.to_be_bytes());
    if with_checksum {
        let checksum = internet_checksum(&packet);
        packet[2..4].copy_from_slice(&checksum.to_be_bytes());
    }
    packet
}

/// The checksum of IP, ICMP and UDP (RFC 1071); 0 over data that carries its right one.
pub(crate) fn internet_checksum(data: &[u8]) -> u16 {
    let mut sum = 0_u32;
    for pair in data.chunks(2) {
        let word = [pair.first().copied().unwrap_or(0), pair.get(1).copied().unwrap_or(0)];
        sum += u32::from(u16::from_be_bytes(word));
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}
