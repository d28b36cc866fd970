// SPDX-License-Identifier: BSD-2-Clause
//! What the tests of the whole driver share.
//!
//! The driver's state is that of the process and a broken rule aborts it, so
//! each test runs in a process of its own: the test binary again, with one
//! test. The module is loaded before a test and unloaded after it, and
//! whatever it leaves behind fails it.
#![allow(dead_code, clippy::allow_attributes, reason = "each test binary uses a part of this")]

use std::process::{Command, Output};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use bpfrs::kpi::abi::{Plain, bpf_insn, bpf_program, bpf_stat, ifreq};
use bpfrs::kpi::host::{self, File, Hook, Thread};
use bpfrs::kpi::stats;
use bpfrs_sys::bpfrs_ioc::*;

const CHILD: &str = "BPFRS_TEST_CHILD";

/// How long anything may take, but for the stress itself.
const PATIENCE: Duration = Duration::from_secs(30);

/// How long a stress test lasts: BPFRS_STRESS_SECONDS, or as long as it says.
pub(crate) fn stress_time(ordinarily: Duration) -> Duration {
    std::env::var("BPFRS_STRESS_SECONDS").map_or(ordinarily, |seconds| {
        Duration::from_secs(seconds.parse().expect("BPFRS_STRESS_SECONDS is a number"))
    })
}

fn again<F>(_: &F) -> Output {
    // "life::open_and_close::{{closure}}" is the test "open_and_close".
    let path = std::any::type_name::<F>();
    let test = path.strip_suffix("::{{closure}}").and_then(|path| path.split_once("::"));
    let (_, test) = test.expect("called with a closure from a test");
    Command::new(std::env::current_exe().expect("this test's binary"))
        .args([test, "--exact", "--nocapture", "--include-ignored", "--test-threads=1"])
        .env(CHILD, "1")
        .env_remove("RUST_BACKTRACE")
        .output()
        .expect("the test runs again")
}

fn is_child() -> bool {
    std::env::var_os(CHILD).is_some()
}

fn session(test: impl FnOnce()) {
    std::thread::spawn(|| {
        std::thread::sleep(PATIENCE + stress_time(Duration::ZERO));
        eprintln!("the test hangs");
        std::process::abort();
    });
    host::load().expect("the module loads");
    test();
    if host::is_loaded() {
        assert_eq!(stats::read(stats::LIVE), 0, "the test left an open");
        host::unload(false).expect("the module unloads");
    }
    let left = host::census();
    assert_eq!(
        (left.allocations, left.monitors, left.cdevs, left.vnodes, left.packets),
        (0, 0, 0, 0, 0),
        "{left:?}"
    );
    assert_eq!((left.taps, left.wired), (0, 0));
    assert_eq!(stats::read(stats::DESCRIPTORS), 0);
}

/// Runs a test in its own process.
pub(crate) fn run<F: FnOnce()>(test: F) {
    if is_child() {
        return session(test);
    }
    let output = again(&test);
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}\n{text}", output.status);
    // Figures.
    print!("{}", String::from_utf8_lossy(&output.stdout));
}

/// Runs a model checker's test in its own process, because of the driver's
/// state, and prints what it says.
pub(crate) fn alone<F: FnOnce()>(test: F) {
    if is_child() {
        return test();
    }
    let output = again(&test);
    let said = String::from_utf8_lossy(&output.stdout);
    said.lines().filter(|line| line.contains(" s, ")).for_each(|line| println!("{line}"));
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}\n{text}", output.status);
}

/// Runs a test in its own process, however that ends: its exit code, if no
/// signal ended it, and its stderr. None in that process itself.
pub(crate) fn last_words<F: FnOnce()>(test: F) -> Option<(Option<i32>, String)> {
    if is_child() {
        session(test);
        return None;
    }
    let output = again(&test);
    Some((output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned()))
}

/// Runs a test that ends its process with `message`.
pub(crate) fn dies<F: FnOnce()>(message: &str, test: F) {
    let Some((code, text)) = last_words(test) else { return };
    assert!(code != Some(0), "nobody complained: {message}\n{text}");
    assert!(text.contains(message), "not the complaint {message:?}:\n{text}");
}

/// Waits until something is so.
#[track_caller]
pub(crate) fn until(is: impl Fn() -> bool) {
    let start = Instant::now();
    while !is() {
        assert!(start.elapsed() < PATIENCE / 4, "it does not happen");
        std::thread::sleep(Duration::from_micros(200));
    }
}

/// A thread of a test.
pub(crate) struct Worker<T> {
    pub(crate) thread: Thread,
    handle: JoinHandle<T>,
}

impl<T: Send + 'static> Worker<T> {
    pub(crate) fn spawn(body: impl FnOnce() -> T + Send + 'static) -> Self {
        let (send, receive) = channel();
        let handle = std::thread::spawn(move || {
            send.send(Thread::current()).expect("the test waits");
            body()
        });
        Worker { thread: receive.recv().expect("the worker starts"), handle }
    }

    /// Spawns it, and waits until it sleeps in the driver or in poll(2).
    pub(crate) fn asleep(body: impl FnOnce() -> T + Send + 'static) -> Self {
        let worker = Self::spawn(body);
        until(|| worker.thread.is_asleep());
        // Not on its way out already.
        std::thread::sleep(Duration::from_millis(2));
        assert!(worker.thread.is_asleep(), "it does not stay asleep");
        worker
    }

    pub(crate) fn is_finished(&self) -> bool {
        self.handle.is_finished()
    }

    #[track_caller]
    pub(crate) fn join(self) -> T {
        self.handle.join().expect("the worker ends well")
    }
}

/// Holds the first call that comes to a hook, until it is let go.
pub(crate) struct Gate {
    arrived: Receiver<()>,
    leave: Sender<()>,
    hook: Hook,
}

impl Gate {
    pub(crate) fn at(hook: Hook) -> Gate {
        let (arrive, arrived) = channel();
        let (leave, left) = channel();
        let once = std::sync::Mutex::new(Some((arrive, left)));
        host::set_hook(
            hook,
            Some(Arc::new(move || {
                let first = once.lock().expect("no panic before").take();
                if let Some((arrive, left)) = first {
                    arrive.send(()).expect("the test waits");
                    // Let go, or the gate was dropped.
                    let _ = left.recv();
                }
            })),
        );
        Gate { arrived, leave, hook }
    }

    /// Waits until a call is held.
    #[track_caller]
    pub(crate) fn wait(&self) {
        self.arrived.recv_timeout(PATIENCE).expect("a call comes");
    }

    /// Lets it go; later calls are not held.
    pub(crate) fn open(self) {
        host::set_hook(self.hook, None);
        self.leave.send(()).expect("a call is held");
    }
}

/// An interface name as ioctl(2) takes it.
pub(crate) fn ifreq(name: &str) -> ifreq {
    let mut request = ifreq { ifr_name: [0; 16], ifr_rest: [0; 16] };
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *to = from.cast_signed();
    }
    request
}

pub(crate) fn name(request: &ifreq) -> String {
    let bytes = request.ifr_name.iter().map(|byte| byte.cast_unsigned());
    String::from_utf8(bytes.take_while(|byte| *byte != 0).collect()).expect("a name")
}

pub(crate) fn attach(file: &File, interface: &str) -> Result<(), i32> {
    file.ioctl(BPFRS_BIOCSETIF, &mut ifreq(interface))
}

pub(crate) fn set<T: Plain>(file: &File, command: u64, mut value: T) -> Result<(), i32> {
    file.ioctl(command, &mut value)
}

pub(crate) fn get<T: Plain>(file: &File, command: u64, mut value: T) -> Result<T, i32> {
    file.ioctl(command, &mut value).map(|()| value)
}

pub(crate) fn setf(file: &File, command: u64, insns: &mut [bpf_insn]) -> Result<(), i32> {
    let bf_len = u32::try_from(insns.len()).expect("a short program");
    file.ioctl(command, &mut bpf_program { bf_len, bf_insns: insns.as_mut_ptr() })
}

pub(crate) fn insn(code: u16, jt: u8, jf: u8, k: u32) -> bpf_insn {
    bpf_insn { code, jt, jf, k }
}

/// A filter that keeps `snaplen` bytes of everything.
pub(crate) fn keep(snaplen: u32) -> [bpf_insn; 1] {
    [insn(0x06, 0, 0, snaplen)]
}

pub(crate) fn counts(file: &File) -> (u32, u32) {
    let zero = bpf_stat { bs_recv: 0, bs_drop: 0 };
    let stat = get(file, BPFRS_BIOCGSTATS, zero).expect("BIOCGSTATS");
    (stat.bs_recv, stat.bs_drop)
}

/// An open of unit 0, attached to lo0, immediate, with buffers of `size`.
pub(crate) fn listen(size: u32) -> File {
    let file = File::open(0).expect("an open");
    assert_eq!(get(&file, BPFRS_BIOCSBLEN, size), Ok(size));
    attach(&file, "lo0").expect("an attachment");
    set(&file, BPFRS_BIOCIMMEDIATE, 1u32).expect("BIOCIMMEDIATE");
    file
}

/// One captured packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) sec: u64,
    pub(crate) frac: u64,
    pub(crate) datalen: u32,
    pub(crate) hdrlen: u16,
    pub(crate) data: Vec<u8>,
}

/// Takes what read(2) gave apart.
pub(crate) fn records(mut bytes: &[u8]) -> Vec<Record> {
    let mut records = Vec::new();
    let (mut total, word) = (0usize, |bytes: &[u8], at: usize| {
        u64::from_ne_bytes(bytes[at..at + 8].try_into().expect("8 bytes"))
    });
    while !bytes.is_empty() {
        let lengths = word(bytes, 16);
        let caplen = (lengths & 0xffff_ffff) as usize;
        let hdrlen = u16::from_ne_bytes(bytes[24..26].try_into().expect("2 bytes"));
        let start = usize::from(hdrlen);
        assert_eq!(total % 8, 0, "a record is aligned");
        records.push(Record {
            sec: word(bytes, 0),
            frac: word(bytes, 8),
            datalen: (lengths >> 32) as u32,
            hdrlen,
            data: bytes[start..start + caplen].to_vec(),
        });
        let len = (start + caplen).next_multiple_of(8).min(bytes.len());
        total += len;
        bytes = &bytes[len..];
    }
    records
}

fn read(file: &File, nonblocking: bool) -> Result<Vec<Record>, i32> {
    let size = get(file, BPFRS_BIOCGBLEN, 0u32).expect("BIOCGBLEN");
    let mut buffer = vec![0; size as usize];
    file.read(&mut buffer, nonblocking).map(|len| records(&buffer[..len]))
}

/// Reads what is there, without waiting.
#[track_caller]
pub(crate) fn read_now(file: &File) -> Vec<Record> {
    read(file, true).expect("packets")
}

/// A reader that sleeps in the driver.
pub(crate) fn reader(file: &File) -> Worker<Result<Vec<Record>, i32>> {
    let file = file.clone();
    Worker::asleep(move || read(&file, false))
}

/// A reader that is held while it copies what there is.
pub(crate) fn copying(file: &File) -> (Gate, Worker<Result<Vec<Record>, i32>>) {
    let gate = Gate::at(Hook::Copy);
    let file = file.clone();
    let reader = Worker::spawn(move || read(&file, false));
    gate.wait();
    (gate, reader)
}
