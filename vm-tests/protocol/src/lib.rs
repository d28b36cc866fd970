// SPDX-License-Identifier: BSD-2-Clause
//! What `bpfrs-guest` (inside a FreeBSD guest) and the runner (outside) say to each other.
//!
//! The two share one serial console with the kernel, which prints when it likes, in the middle of
//! a line if it must. So every message is one line that proves itself:
//!
//! ```text
//! @bpfrs 17 9f0c1a2b {"Case":{"name":"revoke-read", …}}
//!        |  |        the message as JSON
//!        |  CRC-32 of the JSON
//!        sequence number, from 0
//! ```
//!
//! A line that the kernel's output has torn fails its check, the gap shows in the sequence
//! numbers, and the runner asks for the lines again (`bpfrs-guest resend`).
#![no_std]

extern crate alloc;

pub mod bench;
pub mod frame;
pub mod histogram;
pub mod net;
pub mod parity;
pub mod tally;

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;

use serde::{Deserialize, Serialize};

/// Starts every line meant for the runner.
pub const MARKER: &str = "@bpfrs ";

/// One message.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Message {
    /// Result of one named test.
    Case(Case),
    /// Where the reproducer stands, about once a second: the last one before a panic counts.
    Progress(Race),
    /// The reproducer came to its end.
    Race(Race),
    /// What still works on a descriptor's behalf after its node was revoked.
    AfterRevoke(AfterRevoke),
    /// What two drivers captured on one interface.
    Parity(net::Parity),
    /// Interfaces that came and went.
    Life(net::Life),
    /// Traffic while the module came and went.
    Reload(net::Reload),
    /// What packets cost one way of listening.
    Cost(bench::Cost),
    /// One thing that was seen of a driver.
    Behaviour(Behaviour),
    /// The last message of a command: so many came before it.
    End {
        /// Number of messages before this one.
        messages: u64,
    },
}

/// Result of one named test.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Case {
    /// Its name, as `bpfrs-guest test NAME` takes it.
    pub name: String,
    /// How it ended.
    pub outcome: Outcome,
    /// How long it took.
    pub milliseconds: u64,
}

/// One thing that was seen of a driver.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Behaviour {
    /// The same for every driver: `FAMILY/…`.
    pub name: String,
    /// What was seen, without what changes from run to run.
    pub value: String,
}

/// How a test ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Outcome {
    /// As it should.
    Passed,
    /// It did not; why.
    Failed(String),
    /// It could not be tried here; why.
    Skipped(String),
}

/// A distribution of times, in microseconds.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Times {
    /// How many were measured.
    pub count: u64,
    /// Median (upper edge of its bucket, at most 1/16 too high).
    pub p50: u64,
    /// 99th percentile, likewise.
    pub p99: u64,
    /// The greatest, exactly.
    pub max: u64,
}

/// d_close calls that the driver saw, by open. Only drivers of ours count them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Driver {
    /// Successful opens since the module was loaded.
    pub opens: u64,
    /// Open and not dead.
    pub live: u64,
    /// Descriptors allocated and not yet freed.
    pub descriptors: u64,
    /// Finished opens that saw no d_close.
    pub zero: u64,
    /// … one.
    pub one: u64,
    /// … two.
    pub two: u64,
    /// … three or more.
    pub more: u64,
    /// d_close calls that belonged to no open.
    pub orphan: u64,
    /// d_close calls that carried FREVOKE.
    pub revokes: u64,
}

/// Kernel memory of one malloc(9) type.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Memory {
    /// Allocations in use.
    pub allocations: u64,
    /// Bytes in use.
    pub bytes: u64,
    /// Bytes that memguard holds: what a guarded type uses is counted only there.
    pub guarded: u64,
}

/// Counts and times of one run of the reproducer.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Race {
    /// The device pattern, as given.
    pub device: String,
    /// Seconds since the start.
    pub seconds: f64,
    /// Reader processes at any one time, tcpdump not counted.
    pub readers: u64,
    /// Device nodes.
    pub nodes: u64,
    /// Successful opens.
    pub opens: u64,
    /// Opens refused because the node was busy.
    pub opens_busy: u64,
    /// Other refusals, by errno's name.
    pub open_errors: BTreeMap<String, u64>,
    /// Calls of set-up (ioctl) that found the open dead, by errno's name.
    pub setup_errors: BTreeMap<String, u64>,
    /// read(2) calls that returned data.
    pub reads: u64,
    /// read(2) calls that returned nothing at a timeout.
    pub read_timeouts: u64,
    /// Ends of read(2), by errno's name.
    pub read_errors: BTreeMap<String, u64>,
    /// Packets in the records read.
    pub packets: u64,
    /// Bytes read.
    pub bytes: u64,
    /// Records that made no sense.
    pub bad_records: u64,
    /// BIOCGSTATS at the end of orderly readers: packets seen.
    pub captured: u64,
    /// … and dropped.
    pub dropped: u64,
    /// Packets that the flood sent on lo0.
    pub sent: u64,
    /// revoke(2) calls.
    pub revokes: u64,
    /// Refused ones, by errno's name.
    pub revoke_errors: BTreeMap<String, u64>,
    /// How long revoke(2) took.
    pub revoke_time: Times,
    /// Readers that were blocked on a node when its revocation began …
    pub blocked: u64,
    /// … of these: ended by an error,
    pub woken: u64,
    /// … returned once more with data or at a timeout, then met the dead descriptor,
    pub returned: u64,
    /// … killed by the reproducer itself before they could show anything,
    pub killed: u64,
    /// … still asleep after a second or more, and then killed.
    pub asleep: u64,
    /// From the start of revoke(2) to the return of the blocked call.
    pub wake_time: Times,
    /// In microseconds: by then a reader should be awake.
    pub wake_limit: u64,
    /// Readers that woke later than that.
    pub late: u64,
    /// The same for the control: a reader with the same priority, woken in between by the same
    /// process, for which the driver does nothing.
    pub control_time: Times,
    /// … and how often that took longer than the limit.
    pub control_late: u64,
    /// Processes that SIGKILL did not end.
    pub stuck_processes: u64,
    /// Nodes that stayed busy after everybody had left. Known at the end only.
    pub stuck_nodes: u64,
    /// Runs of the real tcpdump.
    pub tcpdump_runs: u64,
    /// The driver's own counters, where it has some.
    pub driver: Option<Driver>,
    /// The driver's malloc type before …
    pub memory_before: Memory,
    /// … and after everybody had left.
    pub memory_after: Memory,
}

/// What still works on a descriptor's behalf after its node was revoked.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct AfterRevoke {
    /// The device pattern, as given.
    pub device: String,
    /// lo0 was promiscuous while the descriptor was open.
    pub promiscuous_before: bool,
    /// … and still is, a second after the revocation, with the dead descriptor not yet closed.
    pub promiscuous_after: bool,
    /// … and even after it was closed (a leaked count).
    pub promiscuous_at_end: bool,
    /// The interface still feeds the revoked descriptor (stock: packets it took after the
    /// revocation, by `net.bpf.stats`; our drivers: still counted as live). None: cannot be known.
    pub captures_after: Option<bool>,
    /// The sleeping reader left read(2) within a second.
    pub reader_woken: bool,
    /// With what.
    pub reader_result: String,
    /// The node could be opened again within a second, the dead descriptor still open.
    pub reopened: bool,
}

/// The line that carries `message`, without a line end.
pub fn encode(sequence: u64, message: &Message) -> String {
    // Serialising plain data into memory cannot fail; an empty object would fail its reader.
    let json = serde_json::to_string(message).unwrap_or_default();
    format!("{MARKER}{sequence} {:08x} {json}", crc32fast::hash(json.as_bytes()))
}

/// A line that began like a message and is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Torn;

/// The message in a console line: `None` when the line holds none, [`Torn`] when it holds a
/// damaged one. What the kernel printed before the marker does no harm.
pub fn decode(line: &str) -> Option<Result<(u64, Message), Torn>> {
    let (_, rest) = line.split_once(MARKER)?;
    Some(parse(rest.trim_end()).ok_or(Torn))
}

fn parse(rest: &str) -> Option<(u64, Message)> {
    let (sequence, rest) = rest.split_once(' ')?;
    let (checksum, json) = rest.split_once(' ')?;
    let checksum = u32::from_str_radix(checksum, 16).ok()?;
    if checksum != crc32fast::hash(json.as_bytes()) {
        return None;
    }
    Some((sequence.parse().ok()?, serde_json::from_str(json).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Message {
        Message::Case(Case {
            name: "revoke-read".into(),
            outcome: Outcome::Failed("expected ENXIO, got \"EIO\"\n".into()),
            milliseconds: 12,
        })
    }

    #[test]
    fn round_trip() {
        let line = encode(7, &sample());
        assert!(!line.contains('\n'), "a message is one line: {line}");
        assert_eq!(decode(&line), Some(Ok((7, sample()))));
    }

    #[test]
    fn kernel_output_before_the_marker_is_harmless() {
        let line = format!("lo0: promiscuous mode enabled{}\r", encode(7, &sample()));
        assert_eq!(decode(&line), Some(Ok((7, sample()))));
    }

    #[test]
    fn every_single_damage_is_noticed() {
        let line = encode(7, &sample());
        let payload = MARKER.len() + 2;
        for at in payload..line.len() {
            let mut torn = line.clone();
            torn.insert_str(at, "lo0: promiscuous mode enabled");
            assert_eq!(decode(&torn), Some(Err(Torn)), "insertion at {at}");
            if line.is_char_boundary(at) {
                assert_eq!(decode(&line[..at]), Some(Err(Torn)), "cut at {at}");
            }
        }
    }

    #[test]
    fn other_lines_are_none() {
        assert_eq!(decode("login: root"), None);
        assert_eq!(decode("@bpfr 1 2 {}"), None);
    }
}
