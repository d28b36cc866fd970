// SPDX-License-Identifier: BSD-2-Clause
//! One record into a capture buffer, against no more than its bytes: a header
//! and a memcpy.

use std::hint::black_box;
use std::thread;
use std::time::Instant;

use bpfrs::buffer::{ALIGNMENT, Buffers, align};
use bpfrs::kpi::host::Chain;
use bpfrs::kpi::mbuf::Packet;
use bpfrs::record::{Appended, Clock, Format, Record, Tstamp};
use serde::{Deserialize, Serialize};

/// `BPF_T_NONE`: the clock costs more than the append.
const NO_TIME: u32 = 3;
const ETHERNET: u32 = 14;
/// What the driver's default grows to with libpcap.
const BUFFER: usize = 512 * 1024;
const PACKETS: usize = 2000;
const ROUNDS: usize = 20;

/// ns for each packet.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Cost {
    /// `u32::MAX`: whole packets.
    pub(crate) snaplen: u32,
    /// A header and a memcpy.
    pub(crate) limit: f64,
    pub(crate) bpfrs: f64,
}

/// Packets that exist at the same time, as a list on the stack.
struct List<'p> {
    packet: &'p Packet<'p>,
    rest: Option<&'p List<'p>>,
}

/// Shows all packets as the driver sees them.
fn with_packets(chains: &[Chain], rest: Option<&List<'_>>, run: &mut dyn FnMut(&[&Packet<'_>])) {
    match chains.split_last() {
        Some((last, before)) => last.with_packet(&[], |packet| {
            with_packets(before, Some(&List { packet, rest }), run);
        }),
        None => {
            let list = std::iter::successors(rest, |list| list.rest);
            run(&list.map(|list| list.packet).collect::<Vec<_>>());
        }
    }
}

fn format() -> Format {
    black_box(Format { tstamp: Tstamp::new(NO_TIME).expect("BPF_T_NONE"), compat32: false })
}

/// What is written of a header, and no more.
fn limit(packets: &[&Packet<'_>], snaplen: usize, buffers: &mut [Vec<u8>; 2]) -> usize {
    let hdrlen = format().hdrlen(ETHERNET);
    let mut at = 0;
    for packet in packets {
        let frame = packet.window();
        let caplen = frame.len().min(snaplen);
        if at + hdrlen + caplen > BUFFER {
            buffers.swap(0, 1);
            at = 0;
        }
        let (header, rest) = buffers[0][at..].split_at_mut(hdrlen);
        header[..16].copy_from_slice(&[0; 16]);
        header[16..20].copy_from_slice(&(caplen as u32).to_ne_bytes());
        header[20..24].copy_from_slice(&(packet.len() as u32).to_ne_bytes());
        header[24..26].copy_from_slice(&(hdrlen as u16).to_ne_bytes());
        rest[..caplen].copy_from_slice(&frame[..caplen]);
        at = align(at + hdrlen + caplen, ALIGNMENT);
    }
    at
}

fn bpfrs(packets: &[&Packet<'_>], snaplen: usize, buffers: &mut Buffers) -> usize {
    let format = format();
    // From the beginning of the buffer, as the limit does: the same caches.
    buffers.reset();
    // The clock is the packet's, and for all descriptors.
    let mut clock = Clock::new();
    for packet in packets {
        let record = Record { packet, snaplen, format, link: ETHERNET };
        if record.append(buffers, &mut clock) != Ok(Appended { rotated: false, cut: false }) {
            // The reader is fast.
            buffers.reset();
        }
    }
    buffers.stored()
}

fn measure(packets: &[&Packet<'_>], snaplen: u32) -> Cost {
    assert_eq!(BUFFER % ALIGNMENT, 0);
    let mut cost = Cost { snaplen, limit: f64::MAX, bpfrs: f64::MAX };
    let snaplen = snaplen as usize;
    let mut pair = [vec![0; BUFFER], vec![0; BUFFER]];
    let mut buffers = Buffers::new(BUFFER);
    let each = |start: Instant| start.elapsed().as_nanos() as f64 / packets.len() as f64;
    for _ in 0..ROUNDS {
        let start = Instant::now();
        black_box(limit(black_box(packets), snaplen, &mut pair));
        black_box(&mut pair);
        cost.limit = cost.limit.min(each(start));
        let start = Instant::now();
        black_box(bpfrs(black_box(packets), snaplen, &mut buffers));
        cost.bpfrs = cost.bpfrs.min(each(start));
    }
    cost
}

pub(crate) fn all(frames: &[Vec<u8>]) -> Vec<Cost> {
    let frames: Vec<&[u8]> = frames.iter().take(PACKETS).map(Vec::as_slice).collect();
    let chains: Vec<_> = frames.iter().map(|frame| Chain::new(&[frame])).collect();
    let mut costs = Vec::new();
    thread::scope(|scope| {
        let all = || {
            with_packets(&chains, None, &mut |packets| {
                costs.extend([64, u32::MAX].map(|snaplen| measure(packets, snaplen)));
            });
        };
        let thread = thread::Builder::new().stack_size(64 << 20).spawn_scoped(scope, all);
        thread.expect("a thread").join().expect("a measurement");
    });
    costs
}
