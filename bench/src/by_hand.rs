// SPDX-License-Identifier: BSD-2-Clause
//! Some of the filters, written by hand: what a programmer would write who knows
//! the question, with all the checks that a packet needs.

const ACCEPT: u32 = 262_144;

fn answer(selected: bool) -> u32 {
    if selected { ACCEPT } else { 0 }
}

fn half(frame: &[u8], at: usize) -> Option<u16> {
    frame.get(at..at + 2).map(|bytes| u16::from_be_bytes([bytes[0], bytes[1]]))
}

fn word(frame: &[u8], at: usize) -> Option<u32> {
    frame.get(at..at + 4).map(|b| u32::from_be_bytes([b[0], b[1], b[2], b[3]]))
}

fn is(frame: &[u8], ethertype: u16) -> bool {
    half(frame, 12) == Some(ethertype)
}

pub(crate) fn ip(frame: &[u8]) -> u32 {
    answer(is(frame, 0x800))
}

pub(crate) fn arp(frame: &[u8]) -> u32 {
    answer(is(frame, 0x806))
}

/// Over IPv4 or IPv6, the first extension header included.
fn protocol(frame: &[u8], wanted: u8) -> Option<bool> {
    Some(match half(frame, 12)? {
        0x86dd => match *frame.get(20)? {
            44 => *frame.get(54)? == wanted,
            protocol => protocol == wanted,
        },
        0x800 => *frame.get(23)? == wanted,
        _ => false,
    })
}

pub(crate) fn tcp(frame: &[u8]) -> u32 {
    answer(protocol(frame, 6) == Some(true))
}

pub(crate) fn udp(frame: &[u8]) -> u32 {
    answer(protocol(frame, 17) == Some(true))
}

/// Whether one of the ports of a whole packet is that one.
fn port(frame: &[u8], wanted: u16, of: impl Fn(u8) -> bool) -> Option<bool> {
    let at = match half(frame, 12)? {
        0x86dd => {
            if !of(*frame.get(20)?) {
                return Some(false);
            }
            54
        }
        0x800 => {
            if !of(*frame.get(23)?) || half(frame, 20)? & 0x1fff != 0 {
                return Some(false);
            }
            14 + 4 * usize::from(*frame.get(14)? & 15)
        }
        _ => return Some(false),
    };
    Some(half(frame, at)? == wanted || half(frame, at + 2)? == wanted)
}

pub(crate) fn tcp_port_80(frame: &[u8]) -> u32 {
    answer(port(frame, 80, |protocol| protocol == 6) == Some(true))
}

pub(crate) fn udp_port_53(frame: &[u8]) -> u32 {
    answer(port(frame, 53, |protocol| protocol == 17) == Some(true))
}

pub(crate) fn not_port_22(frame: &[u8]) -> u32 {
    // What is too short to have a port is rejected, as libpcap does.
    answer(port(frame, 22, |protocol| matches!(protocol, 6 | 17 | 132)) == Some(false))
}

/// Two addresses of IPv4 or ARP.
fn addresses(frame: &[u8], wanted: impl Fn(u32) -> bool) -> Option<bool> {
    let (source, target) = match half(frame, 12)? {
        0x800 => (26, 30),
        0x806 | 0x8035 => (28, 38),
        _ => return Some(false),
    };
    Some(wanted(word(frame, source)?) || wanted(word(frame, target)?))
}

pub(crate) fn host(frame: &[u8]) -> u32 {
    answer(addresses(frame, |address| address == 0x0a00_0001) == Some(true))
}

pub(crate) fn net(frame: &[u8]) -> u32 {
    answer(addresses(frame, |address| address >> 24 == 10) == Some(true))
}

pub(crate) fn syn_or_fin(frame: &[u8]) -> u32 {
    let flags = || {
        let unfragmented =
            half(frame, 12)? == 0x800 && *frame.get(23)? == 6 && half(frame, 20)? & 0x1fff == 0;
        unfragmented.then_some(())?;
        frame.get(27 + 4 * usize::from(*frame.get(14)? & 15)).copied()
    };
    answer(flags().is_some_and(|flags| flags & 3 != 0))
}
