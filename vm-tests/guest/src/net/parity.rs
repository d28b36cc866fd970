// SPDX-License-Identifier: BSD-2-Clause
//! Stock and the subject on one interface at once: what one captures the other captures, and that
//! is what was sent.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;
use core::time::Duration;

use bpfrs_vm_protocol::Message;
use bpfrs_vm_protocol::net::Parity;
use bpfrs_vm_protocol::parity::{Frame, compare, compare_by_place};

use super::wires::{Direction, KINDS, Wire};
use super::{ARRIVAL, QUIET, STOCK, Subject, counted, exceptions, frame, writes};
use crate::arguments::Arguments;
use crate::bpf::{self, ACCEPT, Bpf, Instruction, jump, records, statement};
use crate::report::{self, Reporter};
use crate::sys::{self, Errno};
use crate::tests::{Trouble, Verdict, While, ensure, equal};

/// Frames sent before the next look into the buffers. A tap's queue holds 50, and the largest frames
/// of lo0, so many at once, still fit a buffer.
const BATCH: u32 = 40;
/// The largest buffer there is: the drivers cut it down to what they allow.
const BUFFER: u32 = 1 << 30;
/// After so many bad batches it is clear.
const ENOUGH: u32 = 2;

/// `net-parity [KIND …]`
pub(crate) fn run(arguments: &Arguments) -> i32 {
    let subject = Subject::new(arguments);
    let (frames, spoil) = match options(arguments) {
        Ok(options) => options,
        Err(problem) => {
            report::human(&format!("bpfrs-guest net-parity: {problem}"));
            return 2;
        }
    };
    let is_asked = |kind: &str| arguments.rest.is_empty() || arguments.rest.contains(&kind);
    super::command("net-parity", |reporter| {
        let mut good = true;
        for kind in KINDS.into_iter().filter(|kind| is_asked(kind)) {
            good &= one_kind(reporter, kind, subject, frames, spoil);
        }
        // What differs on purpose would only hide behind a spoiled subject.
        if spoil.is_empty() && is_asked("writes") {
            good &= writes::run(reporter, subject);
        }
        if spoil.is_empty() && is_asked("exceptions") {
            good &= exceptions::run(reporter, subject);
        }
        good
    })
}

/// Frames, and the filter that spoils the subject's capture.
fn options(arguments: &Arguments) -> Result<(u32, &'static [Instruction]), String> {
    let known = |kind: &&str| KINDS.contains(kind) || ["writes", "exceptions"].contains(kind);
    if let Some(unknown) = arguments.rest.iter().find(|kind| !known(kind)) {
        return Err(format!("no kind {unknown}; there are {KINDS:?}, writes and exceptions"));
    }
    let spoil: &[Instruction] = match arguments.or("--spoil", "") {
        "" => &[],
        "size" => &NO_MULTIPLES_OF_8,
        "snaplen" => &SNAPLEN_60,
        other => return Err(format!("--spoil {other}: size or snaplen")),
    };
    let frames = arguments.number("--frames", 100_000)?;
    Ok((u32::try_from(frames).map_err(|_| "--frames: too many".to_string())?, spoil))
}

/// Rejects some sizes.
const NO_MULTIPLES_OF_8: [Instruction; 5] = [
    statement(bpf::LD_W_LEN, 0),
    statement(bpf::AND_K, 7),
    jump(bpf::JEQ_K, 0, 0, 1),
    statement(bpf::RET_K, 0),
    statement(bpf::RET_K, u32::MAX),
];
/// Cuts what is longer.
const SNAPLEN_60: [Instruction; 1] = [statement(bpf::RET_K, 60)];

fn one_kind(
    reporter: &mut Reporter,
    kind: &str,
    subject: Subject,
    frames: u32,
    spoil: &[Instruction],
) -> bool {
    let wire = match Wire::of_kind(kind) {
        Ok(wire) => wire,
        Err(trouble) => return reporter.case(&format!("parity-{kind}"), || Err(trouble)),
    };
    let mut good = true;
    for direction in wire.directions() {
        let mut row = Parity {
            kind: kind.to_string(),
            direction: direction.name().to_string(),
            ..Parity::default()
        };
        let name = format!("parity-{kind}-{}", direction.name());
        good &= counted(reporter, &name, &mut row, Message::Parity, |row| {
            let begin = sys::now();
            let result = Comparison::new(&wire, direction, subject, spoil)
                .and_then(|mut comparison| comparison.run(frames, row));
            row.milliseconds = u64::try_from((sys::now() - begin).as_millis()).unwrap_or(u64::MAX);
            result
        });
    }
    good
}

/// One descriptor and what it has captured.
struct Ear {
    name: &'static str,
    bpf: Bpf,
    /// Frames of the test, of the batch under way.
    ours: Vec<Frame>,
    /// All others, and on the descriptor of the other direction all.
    others: Vec<Frame>,
}

impl Ear {
    fn new(
        name: &'static str,
        bpf: Bpf,
        wire: &Wire,
        direction: Direction,
        filter: &[Instruction],
    ) -> Result<Self, Trouble> {
        bpf.set_buffer_length(BUFFER).at("BIOCSBLEN")?;
        bpf.attach(&wire.interface).at(&format!("{name}: BIOCSETIF {}", wire.interface))?;
        bpf.set_direction(match direction {
            Direction::In => bpf::D_IN,
            Direction::Out => bpf::D_OUT,
        })?;
        if wire.is_ethernet() {
            bpf.promiscuous().at("BIOCPROMISC")?;
        }
        bpf.set_filter(bpf::BIOCSETF, filter).at("BIOCSETF")?;
        bpf.fd.set_nonblocking(true)?;
        Ok(Self { name, bpf, ours: vec![], others: vec![] })
    }

    /// Reads what there is; what others sent only from `since` on.
    fn listen(
        &mut self,
        buffer: &mut [u8],
        since: Duration,
        number_of: impl Fn(&[u8]) -> Option<u32>,
    ) -> Verdict {
        let room = self.bpf.buffer_length()? as usize;
        loop {
            let length = match self.bpf.fd.read(buffer.get_mut(..room).unwrap_or_default()) {
                Ok(length) => length,
                Err(Errno(libc::EAGAIN)) => return Ok(()),
                Err(errno) => return Err(errno).at(&format!("{}: read", self.name)),
            };
            for record in records(buffer.get(..length).unwrap_or_default())? {
                let [seconds, micros] = record.stamp.map(Duration::from_secs);
                let time = seconds + micros / 1_000_000;
                let frame = frame(record, &number_of);
                match frame.number {
                    Some(_) => self.ours.push(frame),
                    None if time >= since => self.others.push(frame),
                    None => {}
                }
            }
        }
    }
}

/// Two drivers with two descriptors each, on one wire, for one direction.
struct Comparison<'a> {
    wire: &'a Wire,
    direction: Direction,
    /// Stock and the subject in this direction, then both in the other one.
    ears: [Ear; 4],
    /// When all of them heard, time of day.
    since: Duration,
    buffer: Vec<u8>,
}

impl<'a> Comparison<'a> {
    fn new(
        wire: &'a Wire,
        direction: Direction,
        subject: Subject,
        spoil: &[Instruction],
    ) -> Result<Self, Trouble> {
        let other = match direction {
            Direction::In => Direction::Out,
            Direction::Out => Direction::In,
        };
        let filter = if spoil.is_empty() { &ACCEPT } else { spoil };
        let stock = |direction| {
            let bpf = Bpf::open(STOCK).at(STOCK)?;
            Ear::new("stock", bpf, wire, direction, &ACCEPT)
        };
        let tried = |direction| Ear::new("subject", subject.open()?, wire, direction, filter);
        let ears = [stock(direction)?, tried(direction)?, stock(other)?, tried(other)?];
        let mut largest = 0;
        for ear in &ears {
            largest = largest.max(ear.bpf.buffer_length()?);
        }
        let since = sys::wall_clock();
        Ok(Self { wire, direction, ears, since, buffer: vec![0; largest as usize] })
    }

    fn run(&mut self, frames: u32, row: &mut Parity) -> Verdict {
        let mut bad = 0;
        let mut first_problem = String::new();
        for first in (0..frames).step_by(BATCH as usize) {
            let batch = first..frames.min(first + BATCH);
            if let Some(problem) = self.batch(batch, row)? {
                bad += 1;
                if first_problem.is_empty() {
                    first_problem = problem;
                }
                if bad == ENOUGH {
                    break;
                }
            }
        }
        self.finish(row)?;
        ensure!(
            row.from_sent.sum() == 0 && row.from_stock.sum() == 0,
            "stock differs from what was sent: {:?}; the subject from stock: {:?}; at first: {}",
            row.from_sent,
            row.from_stock,
            first_problem
        );
        equal!("frames dropped for want of room", row.dropped, 0);
        equal!("frames sent", row.sent, u64::from(frames));
        Ok(())
    }

    fn listen(&mut self) -> Verdict {
        let Self { wire, ears, since, buffer, .. } = self;
        for ear in ears {
            ear.listen(buffer, *since, |data| wire.number_of(data))?;
        }
        Ok(())
    }

    /// Sends some frames, and compares; what was wrong, if anything was.
    fn batch(
        &mut self,
        numbers: core::ops::Range<u32>,
        row: &mut Parity,
    ) -> Result<Option<String>, Trouble> {
        let mut sent = Vec::with_capacity(numbers.len());
        for number in numbers {
            sent.push(self.wire.send(self.direction, number)?);
        }
        self.wire.drain()?;
        let deadline = sys::now() + ARRIVAL;
        loop {
            self.listen()?;
            let [stock, subject, ..] = &self.ears;
            let all = stock.ours.len() >= sent.len() && subject.ours.len() >= sent.len();
            if all || sys::now() >= deadline {
                break;
            }
            sys::yield_now();
        }
        let [stock, subject, ..] = &mut self.ears;
        let (stock, subject) =
            (core::mem::take(&mut stock.ours), core::mem::take(&mut subject.ours));
        let from_sent = compare(&sent, &stock, |sent, got| self.wire.is_as_sent(sent, got));
        let from_stock = compare(&stock, &subject, PartialEq::eq);
        row.sent += sent.len() as u64;
        row.stock += stock.len() as u64;
        row.subject += subject.len() as u64;
        row.from_sent += from_sent;
        row.from_stock += from_stock;
        Ok(if from_sent.sum() > 0 {
            first_difference("sent", &sent, "stock", &stock, |a, b| self.wire.is_as_sent(a, b))
        } else {
            first_difference("stock", &stock, "subject", &subject, PartialEq::eq)
        })
    }

    /// What came late, what came the other way, what others sent, and what was dropped.
    fn finish(&mut self, row: &mut Parity) -> Verdict {
        let deadline = sys::now() + QUIET;
        while sys::now() < deadline {
            self.wire.drain()?;
            self.listen()?;
            sys::sleep(Duration::from_millis(10));
        }
        let [stock, subject, other_stock, other_subject] = &self.ears;
        for (stock, subject) in [(stock, subject), (other_stock, other_subject)] {
            row.from_stock += compare(&stock.ours, &subject.ours, PartialEq::eq);
            row.from_stock += compare_by_place(&stock.others, &subject.others);
            // Ours, but too late or in the wrong direction.
            row.from_sent.extra += stock.ours.len() as u64;
            row.others += stock.others.len() as u64;
        }
        for ear in &self.ears {
            let [_, dropped] = ear.bpf.statistics()?;
            row.dropped += u64::from(dropped);
        }
        Ok(())
    }
}

/// The first place where two captures differ, for a human.
fn first_difference(
    one: &str,
    wanted: &[Frame],
    other: &str,
    got: &[Frame],
    same: impl Fn(&Frame, &Frame) -> bool,
) -> Option<String> {
    let short = |frame: Option<&Frame>| match frame {
        None => String::from("nothing"),
        Some(f) => {
            let head = f.data.get(..f.data.len().min(20)).unwrap_or_default();
            format!("frame {:?}, {} of {} bytes: {head:02x?}", f.number, f.data.len(), f.length)
        }
    };
    (0..wanted.len().max(got.len())).find_map(|place| {
        let (want, have) = (wanted.get(place), got.get(place));
        let equal = want.zip(have).is_some_and(|(a, b)| a.number == b.number && same(a, b));
        (!equal).then(|| format!("{one} {}, {other} {}", short(want), short(have)))
    })
}
