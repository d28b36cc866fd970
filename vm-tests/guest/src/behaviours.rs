// SPDX-License-Identifier: BSD-2-Clause
//! What can be seen of bpf(4), as names and values: the runner compares those of two drivers.
//!
//! A family makes its behaviours out of tables. Each is looked at in a process of its own, with an
//! open of its own, so that none depends on another; what cannot be the same twice (times,
//! process numbers) is not part of a value.

mod counters;
mod departure;
mod filter;
mod ioctl;
mod opens;
mod read;
mod ready;
mod records;
mod signals;
mod sysctls;
mod write;
mod zero_copy;

use alloc::boxed::Box;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt::Write as _;
use core::time::Duration;

use bpfrs_vm_protocol::frame::ethernet;
use bpfrs_vm_protocol::{Behaviour, Message};

use crate::arguments::{Arguments, Device};
use crate::bpf::{self, Bpf, SOON, STOCK, udp_to};
use crate::driver::eventually;
use crate::ifnet::{self, Epair};
use crate::loopback::{Sender, silent_receiver};
use crate::report::{self, Reporter};
use crate::stalls::Watch;
use crate::sys::{self, Address, Errno, Fd};
use crate::tests::{Trouble, While, ensure, in_a_process};

pub(crate) use ioctl::{FIOSETOWN, PROBES, TIOCSPGRP};

/// A value, or why it could not be seen.
type Seen = Result<String, Trouble>;

/// One thing to look at.
struct Look<'a> {
    name: String,
    body: Box<dyn Fn() -> Seen + 'a>,
}

fn look<'a>(name: String, body: impl Fn() -> Seen + 'a) -> Look<'a> {
    Look { name, body: Box::new(body) }
}

type Family = fn(&Lab) -> Vec<Look<'_>>;

const FAMILIES: [(&str, Family); 12] = [
    ("open", opens::looks),
    ("ioctl", ioctl::looks),
    ("read", read::looks),
    ("ready", ready::looks),
    ("record", records::looks),
    ("filter", filter::looks),
    ("write", write::looks),
    ("signal", signals::looks),
    ("counter", counters::looks),
    ("departure", departure::looks),
    ("sysctl", sysctls::looks),
    ("zero-copy", zero_copy::looks),
];

/// What a look says of times during which a processor stood still for so long may be another thing
/// next time.
const STALL: Duration = Duration::from_millis(100);

/// What is on its way, or is counted and not yet stored, has come by then, or never will.
const ARRIVAL: Duration = Duration::from_millis(150);

/// By then a look hangs; none should.
const LIMIT: Duration = Duration::from_secs(20);

/// `behaviours FAMILY …`; all without a name.
pub(crate) fn run(arguments: &Arguments) -> i32 {
    let wanted = &arguments.rest;
    if let Some(unknown) = wanted.iter().find(|&&n| FAMILIES.iter().all(|(name, _)| *name != n)) {
        report::human(&format!("bpfrs-guest behaviours: no family {unknown}"));
        return 2;
    }
    let (lab, watch) = match Lab::new(arguments).and_then(|lab| Ok((lab, Watch::start()?))) {
        Ok(both) => both,
        Err(Trouble::Wrong(why) | Trouble::NotHere(why)) => {
            report::human(&format!("bpfrs-guest behaviours: {why}"));
            return 2;
        }
    };
    let mut reporter = Reporter::new();
    let mut good = true;
    for (family, looks) in FAMILIES {
        if !wanted.is_empty() && !wanted.contains(&family) {
            continue;
        }
        let mut told = Vec::new();
        good &= reporter.case(family, || {
            let mut unseen = String::new();
            for Look { name, body } in looks(&lab) {
                match watch.settled(STALL, is_late, || in_a_process(LIMIT, &body)) {
                    Ok(value) => told.push(Behaviour { name: format!("{family}/{name}"), value }),
                    Err(Trouble::Wrong(why) | Trouble::NotHere(why)) => {
                        let _ = write!(unseen, "\n{family}/{name}: {why}");
                    }
                }
            }
            ensure!(unseen.is_empty(), "could not be seen:{unseen}");
            Ok(())
        });
        for behaviour in told {
            reporter.message(&Message::Behaviour(behaviour));
        }
    }
    reporter.end();
    i32::from(!good)
}

/// Where packets are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// lo0: datagrams to [`PORT`].
    Loopback,
    /// One end of an epair: frames that come from the other.
    Ethernet,
}

impl Place {
    const ALL: [Self; 2] = [Self::Loopback, Self::Ethernet];

    fn name(self) -> &'static str {
        match self {
            Self::Loopback => "lo0",
            Self::Ethernet => "epair",
        }
    }

    /// What a packet has at least: of lo0 the family, IPv4 and UDP; of Ethernet what
    /// [`ethernet`] needs.
    fn smallest(self) -> usize {
        match self {
            Self::Loopback => 4 + 20 + 8,
            Self::Ethernet => bpfrs_vm_protocol::frame::SMALLEST,
        }
    }
}

/// The port of datagrams on lo0.
const PORT: u16 = 40_051;

/// What is looked at, and with what.
struct Lab {
    device: Device,
    /// Where the driver's sysctls are.
    prefix: &'static str,
    /// The negative control: every open is immediate, which bpf(4)'s are not.
    spoil: bool,
    pair: Epair,
    /// Of the end of it where the descriptors are.
    address: [u8; 6],
}

impl Lab {
    fn new(arguments: &Arguments) -> Result<Self, Trouble> {
        let stock = arguments.has("--stock");
        let spoil = match arguments.get("--spoil") {
            None => false,
            Some("immediate") => true,
            Some(other) => return Err(format!("--spoil: not {other}").into()),
        };
        ifnet::silence()?;
        silent_receiver(Address::V4(PORT)).at("bind")?.leak();
        let pair = Epair::new(21)?;
        Ok(Self {
            device: arguments.device(),
            prefix: arguments.or("--prefix", if stock { "net.bpf" } else { "net.bpfrs" }),
            spoil,
            address: ifnet::address(&pair.a).at("SIOCGHWADDR")?,
            pair,
        })
    }

    /// Opens the first node that is free, as it comes.
    fn open_with(&self, flags: i32) -> sys::Result<Bpf> {
        let open = |number| Fd::open(&self.device.node(number), flags | libc::O_CLOEXEC);
        let mut result = open(0);
        for number in 1..8 {
            let busy = matches!(result, Err(Errno(libc::EBUSY)));
            if !self.device.is_pool() || !busy {
                break;
            }
            result = open(number);
        }
        result.map(|fd| Bpf { fd })
    }

    fn open(&self) -> Result<Bpf, Trouble> {
        let bpf = self.open_with(libc::O_RDWR).at("open")?;
        if self.spoil {
            bpf.set_immediate(true)?;
        }
        Ok(bpf)
    }

    fn interface(&self, place: Place) -> &str {
        match place {
            Place::Loopback => "lo0",
            Place::Ethernet => &self.pair.a,
        }
    }

    /// Attaches; of lo0 it sees what [`Source`] sends alone, `snaplen` bytes of it.
    fn attach(&self, bpf: &Bpf, place: Place, snaplen: u32) -> Result<(), Trouble> {
        bpf.attach(self.interface(place)).at("BIOCSETIF")?;
        let filter: &[bpf::Instruction] = match place {
            Place::Loopback => &udp_to(PORT, snaplen),
            Place::Ethernet => &[bpf::statement(bpf::RET_K, snaplen)],
        };
        bpf.set_filter(bpf::BIOCSETF, filter).at("BIOCSETF")
    }

    /// A fresh open that listens there, with buffers of `length` bytes.
    fn listening(&self, place: Place, length: u32) -> Result<Bpf, Trouble> {
        let bpf = self.open()?;
        bpf.set_buffer_length(length).at("BIOCSBLEN")?;
        self.attach(&bpf, place, u32::MAX)?;
        Ok(bpf)
    }

    fn source(&self, place: Place) -> Result<Source, Trouble> {
        Ok(match place {
            Place::Loopback => Source::Datagrams(Sender::from_port(Address::V4(PORT), PORT + 1)?),
            Place::Ethernet => Source::Frames(writer(&self.pair.b)?),
        })
    }
}

/// Opens stock's device for writing complete frames to an interface, and nothing else.
fn writer(interface: &str) -> Result<Bpf, Trouble> {
    let bpf = Bpf::open(STOCK).at(STOCK)?;
    bpf.set_filter(bpf::BIOCSETF, &bpf::REJECT)?;
    bpf.attach(interface).at(interface)?;
    bpf.set_header_complete()?;
    Ok(bpf)
}

/// What packets come from.
enum Source {
    Datagrams(Sender),
    Frames(Bpf),
}

impl Source {
    /// Sends packet `number`, `size` bytes with its link header.
    fn send(&self, number: usize, size: usize) -> Result<(), Trouble> {
        match self {
            Self::Datagrams(sender) => {
                let length = size - Place::Loopback.smallest();
                let payload: Vec<u8> = (0..length).map(|at| (at * 7 + number) as u8).collect();
                sender.send(&payload).at("sendto")
            }
            Self::Frames(writer) => {
                writer.fd.write(&ethernet(number as u32, size)).at("write").map(drop)
            }
        }
    }

    /// Sends some, and waits until `bpf` has seen them.
    fn fill(
        &self,
        bpf: &Bpf,
        numbers: core::ops::Range<usize>,
        size: usize,
    ) -> Result<(), Trouble> {
        let before = bpf.statistics()?[0];
        let want = numbers.len() as u32;
        for number in numbers {
            self.send(number, size)?;
        }
        let come = || bpf.statistics().is_ok_and(|now| now[0].wrapping_sub(before) >= want);
        ensure!(eventually(SOON, come), "packets do not come: {:?}", bpf.statistics());
        // One is counted before the filter sees it, and stored after that.
        sys::sleep(Duration::from_millis(1));
        Ok(())
    }
}

/// BIOCSRTIMEOUT of those that have one.
const TIMEOUT: Duration = Duration::from_millis(400);
/// Whoever waits as long sleeps.
const PATIENCE: Duration = Duration::from_millis(1000);

/// Whether a look tells of something that [`timed`] did not see at once.
fn is_late(said: &str) -> bool {
    [AT_THE_TIMEOUT, AT_LAST, SLEEPS].iter().any(|late| said.contains(late))
}

const AT_THE_TIMEOUT: &str = "at the timeout";
const AT_LAST: &str = "at last";
const SLEEPS: &str = "sleeps";

/// Makes a call that may sleep; its result, and what it waited for.
fn timed<T>(call: impl FnOnce() -> sys::Result<T>, tell: impl FnOnce(T) -> String) -> Seen {
    sys::caught();
    sys::alarm(PATIENCE).at("setitimer")?;
    let begin = sys::now();
    let result = call();
    let waited = sys::now() - begin;
    sys::alarm(Duration::ZERO).at("setitimer")?;
    Ok(match (result, sys::caught()) {
        (Err(Errno(libc::EINTR)), Some(libc::SIGALRM)) => SLEEPS.into(),
        (result, _) => {
            let when = match waited {
                at_once if at_once < TIMEOUT / 2 => "at once",
                late if late < TIMEOUT * 7 / 4 => AT_THE_TIMEOUT,
                _ => AT_LAST,
            };
            format!("{when} {}", told(result, tell))
        }
    })
}

/// A result as text: an errno's name, or what `tell` says.
fn told<T>(result: sys::Result<T>, tell: impl FnOnce(T) -> String) -> String {
    result.map_or_else(Errno::name, tell)
}

/// A result that says nothing but whether.
fn done(result: sys::Result<()>) -> String {
    told(result, |()| "ok".into())
}

/// A result that is a number.
fn number<T: ToString>(result: sys::Result<T>) -> String {
    told(result, |number| number.to_string())
}

fn hex(bytes: &[u8]) -> String {
    let mut text = String::new();
    for byte in bytes {
        let _ = write!(text, "{byte:02x}");
    }
    text
}
