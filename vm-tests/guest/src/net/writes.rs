// SPDX-License-Identifier: BSD-2-Clause
//! Frames written to an Ethernet: the subject does with them what stock does.

use alloc::format;
use alloc::vec;
use alloc::vec::Vec;

use bpfrs_vm_protocol::frame::{ethernet, number_of};

use super::{ARRIVAL, QUIET, STOCK, Subject};
use crate::bpf::{self, Bpf, SOON, records};
use crate::driver::eventually;
use crate::ifnet::Epair;
use crate::report::Reporter;
use crate::sys::Errno;
use crate::tests::{Trouble, Verdict, While, ensure, equal};

/// How a descriptor is set before it writes.
#[derive(Clone, Copy)]
struct Mode {
    name: &'static str,
    header_complete: bool,
    feedback: bool,
    direction: u32,
}

const MODES: [Mode; 6] = [
    Mode { name: "plain", header_complete: false, feedback: false, direction: bpf::D_INOUT },
    Mode { name: "hdrcmplt", header_complete: true, feedback: false, direction: bpf::D_INOUT },
    Mode { name: "feedback", header_complete: false, feedback: true, direction: bpf::D_INOUT },
    Mode { name: "feedback-in", header_complete: false, feedback: true, direction: bpf::D_IN },
    Mode { name: "feedback-out", header_complete: false, feedback: true, direction: bpf::D_OUT },
    Mode { name: "both", header_complete: true, feedback: true, direction: bpf::D_INOUT },
];

/// Of every way to address: to a host, a group, all.
const FRAMES: [u32; 4] = [0, 8, 16, 24];
/// Where a frame says whom it is from.
const SOURCE: core::ops::Range<usize> = 6..12;

/// `write-NAME`
pub(super) fn run(reporter: &mut Reporter, subject: Subject) -> bool {
    let mut good = true;
    for mode in MODES {
        good &= reporter.case(&format!("write-{}", mode.name), || as_stock(subject, mode));
    }
    good
}

fn as_stock(subject: Subject, mode: Mode) -> Verdict {
    let pair = Epair::new(13)?;
    let stock = written(&pair, Bpf::open(STOCK).at(STOCK)?, subject, mode)?;
    let tried = written(&pair, subject.open()?, subject, mode)?;
    for ((who, by_stock), (_, by_subject)) in stock.iter().zip(&tried) {
        ensure!(
            by_stock == by_subject,
            "{who} captures {:02x?} of stock's frames, and {:02x?} of the subject's",
            heads(by_stock),
            heads(by_subject)
        );
    }
    let [_, (_, here), _, (_, there)] = &tried;
    equal!("frames that arrive", there.len(), FRAMES.len());
    for (frame, number) in there.iter().zip(FRAMES) {
        let as_written = *frame == ethernet(number, 64);
        equal!(format!("frame {number} arrives as written"), as_written, mode.header_complete);
        equal!("its number", number_of_any(frame), Some(number));
    }
    // Fed back, or on its way out: once, unless the writer's direction makes two of it.
    ensure!(!here.is_empty(), "nobody here sees them");
    Ok(())
}

/// A frame's number, whoever it is from.
fn number_of_any(frame: &[u8]) -> Option<u32> {
    let mut frame = frame.to_vec();
    frame.get_mut(SOURCE)?.copy_from_slice(ethernet(0, 64).get(SOURCE)?);
    number_of(&frame)
}

fn heads(frames: &[Vec<u8>]) -> Vec<Vec<u8>> {
    frames.iter().map(|frame| frame.get(..20).unwrap_or(frame).to_vec()).collect()
}

type Captures = [(&'static str, Vec<Vec<u8>>); 4];

/// Writes the frames; what the writer, both drivers beside it, and the other end capture of them.
fn written(pair: &Epair, writer: Bpf, subject: Subject, mode: Mode) -> Result<Captures, Trouble> {
    writer.set_direction(mode.direction)?;
    if mode.header_complete {
        writer.set_header_complete()?;
    }
    writer.set_feedback(mode.feedback).at("BIOCFEEDBACK")?;
    let ears = [
        ("the writer", writer, &pair.a),
        ("stock beside it", Bpf::open(STOCK).at(STOCK)?, &pair.a),
        ("the subject beside it", subject.open()?, &pair.a),
        ("the other end", Bpf::open(STOCK).at(STOCK)?, &pair.b),
    ];
    for (name, bpf, interface) in &ears {
        bpf.set_buffer_length(65_536)?;
        bpf.attach(interface).at(&format!("{name}: {interface}"))?;
        bpf.fd.set_nonblocking(true)?;
    }
    ears[3].1.set_direction(bpf::D_IN)?;
    for number in FRAMES {
        let frame = ethernet(number, 64);
        equal!("write", ears[0].1.fd.write(&frame), Ok(frame.len()));
    }
    let mut captures = ears.each_ref().map(|(name, _, _)| (*name, vec![]));
    let mut trouble = Ok(());
    let mut listen = || -> bool {
        for ((_, frames), (name, bpf, _)) in captures.iter_mut().zip(&ears) {
            trouble = match bpf.read() {
                Ok(bytes) => records(&bytes).map_err(Trouble::Wrong).map(|records| {
                    let ours = records.into_iter().map(|record| record.data);
                    frames.extend(ours.filter(|data| number_of_any(data).is_some()));
                }),
                Err(Errno(libc::EAGAIN)) => Ok(()),
                Err(errno) => Err(errno).at(name),
            };
            if trouble.is_err() {
                return true;
            }
        }
        captures[3].1.len() >= FRAMES.len()
    };
    eventually(ARRIVAL, &mut listen);
    // One too many would come by then.
    let end = crate::sys::now() + QUIET;
    eventually(SOON, || listen() && crate::sys::now() >= end);
    trouble?;
    Ok(captures)
}
