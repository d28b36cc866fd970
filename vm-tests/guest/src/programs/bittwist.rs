// SPDX-License-Identifier: BSD-2-Clause
//! bittwist, which writes the packets of a file to an interface: each must go out as it is.

use alloc::format;

use bpfrs_vm_protocol::frame::ethernet;

use super::Cage;
use super::pcap::{self, DLT_EN10MB};
use crate::ifnet::{self, Epair};
use crate::report::Reporter;
use crate::tests::{Verdict, While, ensure, equal};

const BITTWIST: &str = "/usr/local/bin/bittwist";
const FRAMES: &str = "/tmp/frames.pcap";
const CAPTURE: &str = "/tmp/written.pcap";
const COUNT: u32 = 300;
/// Lengths of frames, bytes: the shortest that bittwist takes, the longest of an Ethernet.
const SHORTEST: usize = 60;
const LONGEST: usize = 1514;

/// Spoiled: one byte in the file is not what is expected.
pub(super) fn run(reporter: &mut Reporter, cage: &Cage, spoil: bool) -> bool {
    reporter.case("bittwist-writes-exactly", || writes_exactly(cage, spoil))
}

/// Every length in turn, both ends of the range included.
fn frame(number: u32) -> alloc::vec::Vec<u8> {
    let span = LONGEST - SHORTEST;
    ethernet(number, SHORTEST + number as usize * span / (COUNT as usize - 1))
}

fn writes_exactly(cage: &Cage, spoil: bool) -> Verdict {
    ifnet::silence()?;
    let pair = Epair::new(41)?;
    let mut file = pcap::file(DLT_EN10MB, (0..COUNT).map(frame));
    if let Some(last) = file.last_mut().filter(|_| spoil) {
        *last ^= 1;
    }
    equal!(FRAMES, cage.create(FRAMES)?.write(&file).at(FRAMES)?, file.len());
    // The other end of the wire is seen by the same driver.
    let tcpdump = cage.tcpdump(&["-n", "-i", &pair.b, "-Q", "in", "-U", "-w", CAPTURE])?;
    let said = cage.finish(BITTWIST, &["-i", &pair.a, FRAMES])?;
    let line = format!("{COUNT} packets");
    ensure!(said.contains(&line), "bittwist did not say '{line}': {said}");
    let written = cage.captured(tcpdump, CAPTURE, DLT_EN10MB, COUNT as usize)?;
    for (number, (length, data)) in (0..).zip(&written) {
        let sent = frame(number);
        equal!(format!("length of frame {number}"), *length as usize, sent.len());
        ensure!(*data == sent, "frame {number} is not what was written");
    }
    Ok(())
}
