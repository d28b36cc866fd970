// SPDX-License-Identifier: BSD-2-Clause
//! bpf on real interfaces: what is captured, interfaces that come and go, traffic while the module
//! is loaded again.

mod echo;
mod exceptions;
mod jails;
mod life;
mod parity;
mod reload;
mod wires;
mod writes;

use core::time::Duration;

use bpfrs_vm_protocol::Message;
use bpfrs_vm_protocol::parity::Frame;

use crate::arguments::{Arguments, Device};
use crate::bpf::{self, Bpf, STOCK};
use crate::ifnet;
use crate::report::{self, Reporter};
use crate::sys;
use crate::tests::{Trouble, Verdict, While};

pub(crate) use life::run as life;
pub(crate) use parity::run as parity;
pub(crate) use reload::run as reload;

/// What was sent has arrived by then, even on a busy host.
const ARRIVAL: Duration = Duration::from_secs(5);
/// What nobody expects has been captured by then.
const QUIET: Duration = Duration::from_millis(200);

/// The driver that is tried.
#[derive(Clone, Copy)]
struct Subject {
    device: Device,
    /// It is the kernel's own.
    stock: bool,
}

impl Subject {
    fn new(arguments: &Arguments) -> Self {
        Self { device: arguments.device(), stock: arguments.has("--stock") }
    }

    /// Opens the first node that is free.
    fn open(self) -> Result<Bpf, Trouble> {
        let mut result = Bpf::open(&self.device.node(0));
        for number in 1..16 {
            match result {
                Err(sys::Errno(libc::EBUSY)) => result = Bpf::open(&self.device.node(number)),
                other => return other.at("open"),
            }
        }
        result.at("open")
    }
}

/// Opens stock's device for writing complete frames to an interface.
fn writer(interface: &str) -> Result<Bpf, Trouble> {
    let bpf = Bpf::open(STOCK).at(STOCK)?;
    bpf.attach(interface).at(interface)?;
    bpf.set_header_complete()?;
    // Reads nothing: its buffers must not fill.
    bpf.set_filter(bpf::BIOCSETF, &bpf::REJECT)?;
    Ok(bpf)
}

/// Captures what an interface receives; reads do not block.
fn listener(bpf: Bpf, interface: &str) -> Result<Bpf, Trouble> {
    bpf.attach(interface).at(interface)?;
    bpf.set_direction(bpf::D_IN)?;
    bpf.fd.set_nonblocking(true)?;
    Ok(bpf)
}

/// A captured record as a frame; `number_of` looks for the number in its data.
fn frame(record: bpf::Record, number_of: impl Fn(&[u8]) -> Option<u32>) -> Frame {
    Frame { number: number_of(&record.data), length: record.length, data: record.data }
}

/// Runs the cases of one command in a system that speaks only when spoken to.
pub(crate) fn command(name: &str, cases: impl FnOnce(&mut Reporter) -> bool) -> i32 {
    if let Err(Trouble::Wrong(why) | Trouble::NotHere(why)) = ifnet::silence() {
        report::human(&alloc::format!("bpfrs-guest {name}: {why}"));
        return 2;
    }
    let mut reporter = Reporter::new();
    let good = cases(&mut reporter);
    reporter.end();
    i32::from(!good)
}

/// Runs a case that counts, and tells what it counted, however it ended.
fn counted<T: Clone>(
    reporter: &mut Reporter,
    name: &str,
    counts: &mut T,
    message: fn(T) -> Message,
    body: impl FnOnce(&mut T) -> Verdict,
) -> bool {
    let good = reporter.case(name, || body(counts));
    reporter.message(&message(counts.clone()));
    good
}
