// SPDX-License-Identifier: BSD-2-Clause
//! The device's own tests, each in a process of its own and bounded in time.

mod data_path;
pub(crate) mod exact_capture;
pub(crate) mod kqueue;
mod life_of_an_open;
mod several_mounts;
mod statistics;
mod write;
mod zero_copy;

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::cell::Cell;
use core::sync::atomic::{AtomicU8, AtomicU64, Ordering::SeqCst};
use core::time::Duration;

use bpfrs_vm_protocol::{Case, Message, Outcome};
use zerocopy::FromZeros;

use crate::arguments::{Arguments, Device};
use crate::bpf::{self, Bpf, SOON, udp_to};
use crate::driver::eventually;
use crate::loopback::{Sender, payload, silent_receiver};
use crate::report::{self, Reporter};
use crate::sys::{self, Address, End, Errno, Pid, Shared};

/// Why a test did not pass.
pub(crate) enum Trouble {
    /// Something was not as it should be.
    Wrong(String),
    /// It cannot be tried here.
    NotHere(String),
}

/// A call failed that should not have.
impl From<Errno> for Trouble {
    fn from(errno: Errno) -> Self {
        Self::Wrong(format!("unexpected {errno}"))
    }
}

impl From<String> for Trouble {
    fn from(problem: String) -> Self {
        Self::Wrong(problem)
    }
}

/// What a test gives.
pub(crate) type Verdict = Result<(), Trouble>;

/// Names what was being done when a call failed.
pub(crate) trait While<T> {
    /// Adds the name.
    fn at(self, what: &str) -> Result<T, Trouble>;
}

impl<T> While<T> for sys::Result<T> {
    fn at(self, what: &str) -> Result<T, Trouble> {
        self.map_err(|errno| Trouble::Wrong(format!("{what}: {errno}")))
    }
}

/// Fails the test unless two values are equal.
macro_rules! equal {
    ($what:expr, $got:expr, $want:expr $(,)?) => {
        // `match`, not `let`: temporaries in the expressions must live as long as the references.
        match (&$got, &$want) {
            (got, want) if got == want => {}
            (got, want) => {
                return Err($crate::tests::Trouble::Wrong(alloc::format!(
                    "{}: got {:?}, expected {:?}",
                    $what,
                    got,
                    want
                )));
            }
        }
    };
}

/// Fails the test unless a condition holds.
macro_rules! ensure {
    ($condition:expr, $($message:tt)+) => {
        if !$condition {
            return Err($crate::tests::Trouble::Wrong(alloc::format!($($message)+)));
        }
    };
}

pub(crate) use {ensure, equal};

/// An expected refusal.
pub(crate) fn refused<T>(errno: i32) -> Result<T, Errno> {
    Err(Errno(errno))
}

/// What a test works on.
#[derive(Clone, Copy)]
pub(crate) struct Bench {
    pub(crate) device: Device,
    /// Where the driver's counters are (`net.bpfrs`).
    pub(crate) prefix: &'static str,
    /// The device is the kernel's own bpf(4): the measure of all data-path tests.
    pub(crate) stock: bool,
}

impl Bench {
    /// Opens node 0. Whoever had it before may still be leaving.
    pub(crate) fn open(&self) -> Result<Bpf, Trouble> {
        self.open_node(0)
    }

    pub(crate) fn open_node(&self, number: usize) -> Result<Bpf, Trouble> {
        let path = self.device.node(number);
        let mut result = Bpf::open(&path);
        eventually(SOON, || {
            if result.is_err() {
                result = Bpf::open(&path);
            }
            result.is_ok()
        });
        result.at(&format!("open {path}"))
    }

    /// Opens node 0 and attaches it to lo0.
    pub(crate) fn attached(&self) -> Result<Bpf, Trouble> {
        let bpf = self.open()?;
        bpf.attach("lo0").at("BIOCSETIF lo0")?;
        Ok(bpf)
    }

    /// Opens node 0 and attaches it to lo0, seeing the packets to that port alone: from the beginning,
    /// for a packet that somebody else sent just before is stored when the processor that has it goes
    /// on.
    pub(crate) fn listening(&self, port: u16) -> Result<Bpf, Trouble> {
        self.listening_on(0, port)
    }

    pub(crate) fn listening_on(&self, node: usize, port: u16) -> Result<Bpf, Trouble> {
        let bpf = self.open_node(node)?;
        bpf.set_filter(bpf::BIOCSETF, &udp_to(port, u32::MAX)).at("BIOCSETF")?;
        bpf.attach("lo0").at("BIOCSETIF lo0")?;
        Ok(bpf)
    }

    /// Where the driver's sysctls are, or stock's.
    pub(crate) fn sysctls(&self) -> &'static str {
        if self.stock { "net.bpf" } else { self.prefix }
    }

    /// One of them.
    pub(crate) fn sysctl(&self, name: &str) -> String {
        format!("{}.{name}", self.sysctls())
    }

    /// The path of node 0.
    pub(crate) fn path(&self) -> String {
        self.device.node(0)
    }

    /// The driver's counters.
    pub(crate) fn counters(&self) -> Result<bpfrs_vm_protocol::Driver, Trouble> {
        crate::driver::counters(self.prefix).at("the driver's sysctls")
    }
}

struct Test {
    name: &'static str,
    body: fn(&Bench) -> Verdict,
    /// Also true of the stock driver.
    stock: bool,
}

/// A test of what every bpf(4) does.
const fn common(name: &'static str, body: fn(&Bench) -> Verdict) -> Test {
    Test { name, body, stock: true }
}

/// A test of what this driver promises beyond it.
const fn own(name: &'static str, body: fn(&Bench) -> Verdict) -> Test {
    Test { name, body, stock: false }
}

/// By a test that runs longer than this something hangs, on a machine however busy.
const LIMIT: Duration = Duration::from_secs(180);

#[derive(FromZeros)]
#[repr(C)]
struct Slate {
    /// 1: passed, 2: failed, 3: skipped.
    verdict: AtomicU8,
    length: AtomicU64,
    text: [AtomicU8; 2000],
}

impl Slate {
    fn write(&self, verdict: u8, text: &str) {
        let length = text.len().min(self.text.len());
        for (to, from) in self.text.iter().zip(text.bytes()) {
            to.store(from, SeqCst);
        }
        self.length.store(length as u64, SeqCst);
        self.verdict.store(verdict, SeqCst);
    }

    fn text(&self) -> String {
        let length = self.length.load(SeqCst) as usize;
        let bytes: Vec<u8> = self.text.iter().take(length).map(|b| b.load(SeqCst)).collect();
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

/// `test NAME … | all`
pub(crate) fn run(arguments: &Arguments) -> i32 {
    let bench = Bench {
        device: arguments.device(),
        prefix: arguments.or("--prefix", "net.bpfrs"),
        stock: arguments.has("--stock"),
    };
    let all: Vec<&Test> = data_path::TESTS
        .iter()
        .chain(exact_capture::TESTS)
        .chain(kqueue::TESTS)
        .chain(life_of_an_open::TESTS)
        .chain(several_mounts::TESTS)
        .chain(statistics::TESTS)
        .chain(write::TESTS)
        .chain(zero_copy::TESTS)
        .filter(|test| test.stock || !bench.stock)
        .collect();
    if arguments.has("--list") {
        all.iter().for_each(|test| report::human(test.name));
        return 0;
    }
    if let Some(unknown) =
        arguments.rest.iter().find(|&&n| n != "all" && all.iter().all(|test| test.name != n))
    {
        report::human(&format!("bpfrs-guest test: no test {unknown}"));
        return 2;
    }
    let mut reporter = Reporter::new();
    let mut failed = 0;
    for test in all {
        if !arguments.rest.iter().any(|&n| n == "all" || n == test.name) {
            continue;
        }
        let begin = sys::now();
        let result = in_a_process(LIMIT, || (test.body)(&bench).map(|()| String::new()));
        let outcome = match result {
            Ok(_) => Outcome::Passed,
            Err(Trouble::Wrong(why)) => Outcome::Failed(why),
            Err(Trouble::NotHere(why)) => Outcome::Skipped(why),
        };
        match &outcome {
            Outcome::Passed => report::human(&format!("ok {}", test.name)),
            Outcome::Skipped(why) => report::human(&format!("ok {} # SKIP {why}", test.name)),
            Outcome::Failed(why) => {
                failed += 1;
                report::human(&format!("not ok {}: {why}", test.name));
            }
        }
        let milliseconds = u64::try_from((sys::now() - begin).as_millis()).unwrap_or(u64::MAX);
        let case = Case { name: test.name.to_string(), outcome, milliseconds };
        reporter.message(&Message::Case(case));
    }
    reporter.end();
    i32::from(failed > 0)
}

/// Sends test packets to a port of 127.0.0.1, which has a receiver meanwhile.
pub(crate) fn send_to(port: u16, numbers: impl Iterator<Item = usize>) -> Verdict {
    let _receiver = silent_receiver(Address::V4(port)).at("bind")?;
    let sender = Sender::new(Address::V4(port)).at("socket")?;
    for number in numbers {
        sender.send(&payload(number)).at("send")?;
    }
    Ok(())
}

/// Runs `body` in a process of its own, within `limit`; what it said.
pub(crate) fn in_a_process(
    limit: Duration,
    body: impl FnOnce() -> Result<String, Trouble>,
) -> Result<String, Trouble> {
    let slate: Shared<Slate> = Shared::new().at("shared memory")?;
    let body = || {
        match body() {
            Ok(text) => slate.write(1, &text),
            Err(Trouble::Wrong(why)) => slate.write(2, &why),
            Err(Trouble::NotHere(why)) => slate.write(3, &why),
        }
        0
    };
    let child = sys::fork(body).at("fork")?;
    let end = sys::wait(child, limit);
    if end.is_none() {
        child.signal(libc::SIGKILL);
        let died = sys::wait(child, Duration::from_secs(5)).is_some();
        let how = if died { "hangs" } else { "hangs, and SIGKILL does not end it" };
        return Err(Trouble::Wrong(String::from(how)));
    }
    match (slate.verdict.load(SeqCst), end) {
        (1, Some(End::Exited(0))) => Ok(slate.text()),
        (2, _) => Err(Trouble::Wrong(slate.text())),
        (3, _) => Err(Trouble::NotHere(slate.text())),
        (_, end) => Err(Trouble::Wrong(format!("ended without a verdict: {end:?}"))),
    }
}

/// A child process of a test; killed when the test ends, however it does.
pub(crate) struct Child {
    pid: Pid,
    end: Cell<Option<End>>,
}

impl Child {
    /// Forks; the child's exit status is what `body` gives.
    pub(crate) fn start(body: impl FnOnce() -> i32) -> Result<Self, Trouble> {
        Ok(Self { pid: sys::fork(body).at("fork")?, end: Cell::new(None) })
    }

    /// Whether it has not ended yet.
    pub(crate) fn runs(&self) -> bool {
        if self.end.get().is_none() {
            self.end.set(sys::reap(Some(self.pid)).map(|(_, end)| end));
        }
        self.end.get().is_none()
    }

    /// Waits until it sleeps, in something that the kernel calls by one of these names.
    pub(crate) fn sleeps_in(&self, names: &[&str]) -> Verdict {
        let mut last = None;
        let there = eventually(SOON, || {
            last = self.pid.waits_for();
            last.as_deref().is_some_and(|name| names.contains(&name)) || !self.runs()
        });
        ensure!(there && self.runs(), "a child does not sleep in {names:?}: {last:?}");
        Ok(())
    }

    /// Its id.
    pub(crate) fn pid(&self) -> Pid {
        self.pid
    }

    /// Waits for it, a while; its exit status.
    pub(crate) fn finish(self, limit: Duration) -> Result<i32, Trouble> {
        eventually(limit, || !self.runs());
        match self.end.get() {
            Some(End::Exited(status)) => Ok(status),
            Some(End::Killed(signal)) => {
                Err(Trouble::Wrong(format!("child killed by signal {signal}")))
            }
            None => Err(Trouble::Wrong(format!("child not done after {limit:?}"))),
        }
    }

    pub(crate) fn signal(&self, signal: i32) {
        if self.runs() {
            self.pid.signal(signal);
        }
    }

    pub(crate) fn kill(&self) {
        self.signal(libc::SIGKILL);
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        self.kill();
        eventually(SOON, || !self.runs());
    }
}
