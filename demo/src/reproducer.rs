// SPDX-License-Identifier: BSD-2-Clause
//! The reproducer of `vm-tests/guest`, with threads in place of processes: lo0 under a flood,
//! readers that open, set up, read and go, and a revoke(2) every millisecond or so.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, LazyLock, Mutex, PoisonError, mpsc};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use bpfrs::kpi::abi::{bpf_insn, bpf_program, bpf_stat, ifreq, timeval};
use bpfrs::kpi::host::{self, File, Interface, Thread};
use bpfrs::kpi::stats;
use bpfrs_sys::bpfrs_const::*;
use bpfrs_sys::bpfrs_ioc::*;
use bpfrs_vm_protocol::tally::{LOOK, Random, Tally, count, nanoseconds};
use bpfrs_vm_protocol::{AfterRevoke, Driver, Memory, Race};
use zerocopy::FromZeros;

const NODES: usize = 4;
const READERS: usize = 4;
const PAUSE: Duration = Duration::from_millis(1);
/// Anything that must happen "at once", on a busy machine.
const SOON: Duration = Duration::from_secs(1);
/// Threads must have ended by then, and nodes must be free.
const LAST_PATIENCE: Duration = Duration::from_secs(5);
const AF_INET: u32 = 2;
const AF_INET6: u32 = 28;

/// Since the program began.
fn now() -> Duration {
    static START: LazyLock<Instant> = LazyLock::new(Instant::now);
    START.elapsed()
}

fn random(seed: u64) -> Random {
    Random::new(nanoseconds(now()) ^ (seed << 32))
}

/// Waits until `condition` holds, but not longer than `limit`; whether it came to hold.
fn eventually(limit: Duration, mut condition: impl FnMut() -> bool) -> bool {
    let deadline = now() + limit;
    while !condition() {
        if now() >= deadline {
            return false;
        }
        thread::sleep(Duration::from_millis(1));
    }
    true
}

/// An error's name, or its number where nobody expects it.
fn name(errno: i32) -> String {
    let known = match errno {
        host::errno::ENOENT => "ENOENT",
        host::errno::EIO => "EIO",
        host::errno::ENOTTY => "ENOTTY",
        BPFRS_EINTR => "EINTR",
        BPFRS_ENXIO => "ENXIO",
        BPFRS_EBUSY => "EBUSY",
        BPFRS_EINVAL => "EINVAL",
        BPFRS_EWOULDBLOCK => "EWOULDBLOCK",
        other => return format!("errno {other}"),
    };
    known.into()
}

/// Whether an error says that the descriptor is dead: from the driver, or from the dead vnode.
fn is_death(errno: i32) -> bool {
    [BPFRS_ENXIO, host::errno::EIO, host::errno::ENOTTY].contains(&errno)
}

fn counters() -> Driver {
    Driver {
        opens: stats::read(stats::OPENS),
        live: stats::read(stats::LIVE),
        descriptors: stats::read(stats::DESCRIPTORS),
        zero: stats::read(stats::CLOSES_ZERO),
        one: stats::read(stats::CLOSES_ONE),
        two: stats::read(stats::CLOSES_TWO),
        more: stats::read(stats::CLOSES_MORE),
        orphan: stats::read(stats::CLOSES_ORPHAN),
        revokes: stats::read(stats::REVOKES),
    }
}

fn memory() -> Memory {
    Memory { allocations: host::census().allocations as u64, ..Memory::default() }
}

fn attach(file: &File) -> Result<(), i32> {
    let mut request = ifreq { ifr_name: [0; 16], ifr_rest: [0; 16] };
    for (to, from) in request.ifr_name.iter_mut().zip(b"lo0") {
        *to = from.cast_signed();
    }
    file.ioctl(BPFRS_BIOCSETIF, &mut request)
}

/// BIOCSETF of a filter that keeps `snaplen` bytes of everything.
fn set_filter(file: &File, snaplen: u32) -> Result<(), i32> {
    let mut insns = [bpf_insn { code: 0x06, jt: 0, jf: 0, k: snaplen }];
    let mut program = bpf_program { bf_len: 1, bf_insns: insns.as_mut_ptr() };
    file.ioctl(BPFRS_BIOCSETF, &mut program)
}

/// How many records one read(2) delivered; none if they are malformed.
fn records(mut bytes: &[u8]) -> Option<u64> {
    let mut records = 0;
    while !bytes.is_empty() {
        let word = |at| Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
        let (captured, length) = (word(16)? as usize, word(20)? as usize);
        let start = (word(24)? & 0xffff) as usize;
        let data = bytes.get(start..start + captured)?;
        // The sender's packets are of one byte value, behind the address family.
        let payload = data.get(4..)?;
        if start < 26 || captured > length || payload.windows(2).any(|pair| pair[0] != pair[1]) {
            return None;
        }
        records += 1;
        bytes = bytes.get((start + captured).next_multiple_of(8)..).unwrap_or_default();
    }
    Some(records)
}

/// What all threads of a run have in common.
struct Run {
    tally: Tally,
    stop: AtomicBool,
    /// The readers, as signals know them.
    readers: [Mutex<Option<Thread>>; READERS],
}

impl Run {
    fn goes_on(&self) -> bool {
        !self.stop.load(Relaxed)
    }

    /// Ends the sleep that a reader is in.
    fn interrupt(&self, reader: usize) {
        let thread = self.readers[reader].lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(thread) = thread {
            thread.signal();
        }
    }
}

fn spawn(name: String, run: &Arc<Run>, body: impl FnOnce(&Run) + Send + 'static) -> JoinHandle<()> {
    let run = Arc::clone(run);
    let thread = thread::Builder::new().name(name).spawn(move || body(&run));
    #[expect(clippy::expect_used, reason = "without threads there is nothing to show")]
    thread.expect("a thread")
}

/// The race, for `time`; readers should wake within `wake_limit` microseconds. `progress` is told now
/// and then how far it came.
pub(crate) fn race(
    device: &str,
    time: Duration,
    wake_limit: u64,
    mut progress: impl FnMut(&Race),
) -> Race {
    let mut result = Race {
        device: device.into(),
        readers: READERS as u64,
        nodes: NODES as u64,
        wake_limit,
        memory_before: memory(),
        ..Race::default()
    };
    let run = Arc::new(Run {
        tally: Tally::new_zeroed(),
        stop: AtomicBool::new(false),
        readers: [const { Mutex::new(None) }; READERS],
    });
    let start = now();
    let fill = |result: &mut Race| {
        result.seconds = (now() - start).as_secs_f64();
        run.tally.fill(result, name);
        result.driver = Some(counters());
    };
    let mut threads = vec![spawn("sender".into(), &run, sender)];
    for slot in 0..READERS {
        let name = format!("reader {slot}");
        threads.push(spawn(name, &run, move |run| {
            Reader { run, slot, random: random(slot as u64) }.work()
        }));
    }
    let (waker, sleeper) = mpsc::channel();
    threads.push(spawn("control".into(), &run, move |run| control(run, &sleeper)));
    threads.push(spawn("revoker".into(), &run, move |run| revoker(run, &waker)));

    let mut random = random(99);
    let mut next_report = start;
    while now() < start + time {
        if now() >= next_report {
            next_report += Duration::from_millis(100);
            fill(&mut result);
            progress(&result);
        }
        for slot in 0..READERS {
            if run.tally.sleeps_on(slot) {
                run.interrupt(slot);
            }
        }
        if random.one_in(40) {
            let slot = random.below(READERS);
            // Readers that are just being revoked are mostly spared: whether they wake is the
            // question.
            if !run.tally.is_being_revoked(slot) || random.one_in(4) {
                run.tally.forget_wait(slot);
                run.interrupt(slot);
            }
        }
        thread::sleep(LOOK);
    }
    for slot in 0..READERS {
        run.tally.forget_wait(slot);
    }
    run.stop.store(true, Relaxed);
    eventually(LAST_PATIENCE, || {
        (0..READERS).for_each(|slot| run.interrupt(slot));
        threads.iter().all(JoinHandle::is_finished)
    });
    fill(&mut result);
    result.stuck_processes = threads.iter().filter(|thread| !thread.is_finished()).count() as u64;
    let free = |node: &i32| eventually(LAST_PATIENCE, || File::open(*node).is_ok());
    result.stuck_nodes = (0..NODES as i32).filter(|node| !free(node)).count() as u64;
    // Files that were left to others are closed a little later.
    eventually(LAST_PATIENCE, || {
        result.memory_after = memory();
        result.driver = Some(counters());
        result.memory_after == result.memory_before && stats::read(stats::DESCRIPTORS) == 0
    });
    result
}

fn sender(run: &Run) {
    let mut random = random(77);
    while run.goes_on() {
        let packet = vec![random.below(256) as u8; 20 + random.below(100)];
        let (start, rest) = packet.split_at(packet.len() / 3);
        host::inject("lo0", if random.one_in(2) { AF_INET } else { AF_INET6 }, &[start, rest]);
        count(&run.tally.sent);
        thread::sleep(PAUSE);
    }
}

/// Sleeps until the revoker wakes it, of which the driver knows nothing.
fn control(run: &Run, sleeper: &mpsc::Receiver<()>) {
    loop {
        run.tally.control_begins();
        let woken = sleeper.recv();
        run.tally.control_ended(now());
        if woken.is_err() {
            // The revoker has ended.
            return;
        }
    }
}

fn revoker(run: &Run, waker: &mpsc::Sender<()>) {
    let mut random = random(88);
    while run.goes_on() {
        let node = random.below(NODES + 1);
        let begin = now();
        if node == NODES {
            run.tally.control_meets(begin);
            if waker.send(()).is_err() {
                return;
            }
            thread::sleep(PAUSE);
            continue;
        }
        run.tally.revoke_begins(node, begin);
        match host::revoke(node as i32) {
            Ok(()) => count(&run.tally.revokes),
            Err(errno) => run.tally.revoke_errors.add(errno),
        }
        run.tally.revoke_time.add(now() - begin);
        thread::sleep(PAUSE);
    }
}

/// As tcpdump: open, set up, read until the end.
struct Reader<'a> {
    run: &'a Run,
    slot: usize,
    random: Random,
}

impl Reader<'_> {
    fn work(mut self) {
        let me = Thread::current();
        *self.run.readers[self.slot].lock().unwrap_or_else(PoisonError::into_inner) = Some(me);
        while self.run.goes_on() {
            self.session();
        }
    }

    /// One open, until it is revoked, closed, or left to another thread.
    fn session(&mut self) {
        let tally = &self.run.tally;
        let node = self.random.below(NODES);
        let file = match File::open(node as i32) {
            Ok(file) => file,
            Err(BPFRS_EBUSY) => {
                count(&tally.opens_busy);
                // Not at once: who only asks for busy nodes takes the CPUs from those who test.
                return thread::sleep(Duration::from_millis(2));
            }
            Err(errno) => {
                tally.open_errors.add(errno);
                return thread::sleep(Duration::from_micros(200));
            }
        };
        count(&tally.opens);
        match self.set_up(&file) {
            Ok(()) => self.read(&file, node),
            Err(errno) => tally.setup_errors.add(errno),
        }
        if self.random.one_in(16) {
            thread::spawn(move || drop(file));
        }
    }

    fn set_up(&mut self, file: &File) -> Result<(), i32> {
        file.ioctl(BPFRS_BIOCSBLEN, &mut if self.random.one_in(2) { 4096u32 } else { 8192 })?;
        attach(file)?;
        if self.random.one_in(3) {
            file.ioctl(BPFRS_BIOCIMMEDIATE, &mut 1u32)?;
        } else if self.random.one_in(2) {
            let tv_usec = 1000 * (20 + 10 * self.random.below(20) as i64);
            file.ioctl(BPFRS_BIOCSRTIMEOUT, &mut timeval { tv_sec: 0, tv_usec })?;
        }
        if self.random.one_in(4) {
            file.ioctl0(BPFRS_BIOCPROMISC)?;
        }
        // Who accepts nothing is asleep for sure when the revocation comes.
        match self.random.below(3) {
            0 => set_filter(file, u32::MAX),
            1 => set_filter(file, 0),
            _ => Ok(()),
        }
    }

    fn read(&mut self, file: &File, node: usize) {
        let tally = &self.run.tally;
        let polls = self.random.one_in(3);
        for _ in 0..self.random.below(30) {
            if !self.run.goes_on() {
                return;
            }
            if let Err(errno) = self.wait_and_read(file, node, polls) {
                tally.read_errors.add(errno);
                if self.random.one_in(4) {
                    // The dead descriptor must stay dead, whoever has the node by now.
                    let _ = file.ioctl0(BPFRS_BIOCFLUSH);
                    let _ = file.read(&mut [0; 4096], true);
                    let _ = set_filter(file, 0);
                }
                return;
            }
        }
        let mut stat = bpf_stat { bs_recv: 0, bs_drop: 0 };
        if file.ioctl(BPFRS_BIOCGSTATS, &mut stat).is_ok() {
            tally.captured.fetch_add(stat.bs_recv.into(), Relaxed);
            tally.dropped.fetch_add(stat.bs_drop.into(), Relaxed);
        }
    }

    fn wait_and_read(&self, file: &File, node: usize, polls: bool) -> Result<(), i32> {
        let tally = &self.run.tally;
        let mut length = 0u32;
        file.ioctl(BPFRS_BIOCGBLEN, &mut length)?;
        let mut buffer = vec![0; length as usize];
        tally.wait_begins(self.slot, node);
        // For poll death shows in the events; the read that follows tells it by errno.
        let (dead, result) = if polls {
            let events = file.poll(BPFRS_POLLIN, None);
            (events.is_ok_and(|events| events & BPFRS_POLLHUP != 0), events.err().map(Err))
        } else {
            let result = file.read(&mut buffer, false);
            (result.is_err_and(is_death), Some(result))
        };
        tally.wait_ends(self.slot);
        tally.wait_ended(self.slot, dead, now());
        match result.unwrap_or_else(|| file.read(&mut buffer, true))? {
            0 => count(&tally.read_timeouts),
            length => {
                count(&tally.reads);
                tally.bytes.fetch_add(length as u64, Relaxed);
                match records(buffer.get(..length).unwrap_or_default()) {
                    Some(records) => _ = tally.packets.fetch_add(records, Relaxed),
                    None => count(&tally.bad_records),
                }
            }
        }
        Ok(())
    }
}

/// What still works on a descriptor's behalf after its node was revoked.
///
/// # Errors
/// A refusal that comes before the revocation.
pub(crate) fn after_revoke(device: &str) -> Result<AfterRevoke, i32> {
    let is_promiscuous = || Interface::named("lo0").is_some_and(|lo0| lo0.promisc() > 0);
    let mut result = AfterRevoke { device: device.into(), ..AfterRevoke::default() };
    let file = File::open(0)?;
    attach(&file)?;
    file.ioctl0(BPFRS_BIOCPROMISC)?;
    // A read sleeps for ever: no packet passes its filter.
    set_filter(&file, 0)?;
    let copy = file.clone();
    let (send, receive) = std::sync::mpsc::channel();
    let reader = thread::spawn(move || {
        let mut buffer = vec![0; 4096];
        let _ = send.send(Thread::current());
        copy.read(&mut buffer, false)
    });
    let sleeper = receive.recv().map_err(|_| BPFRS_EINTR)?;
    if !eventually(SOON, || sleeper.is_asleep()) {
        return Err(BPFRS_EBUSY);
    }
    result.promiscuous_before = is_promiscuous();
    host::revoke(0)?;
    result.reader_woken = eventually(SOON, || reader.is_finished());
    for byte in 0..20 {
        host::inject("lo0", AF_INET, &[&[byte; 40]]);
    }
    result.captures_after = Some(stats::read(stats::LIVE) > 0);
    result.promiscuous_after = is_promiscuous();
    result.reopened = eventually(SOON, || File::open(0).is_ok());
    drop(file);
    sleeper.signal();
    result.reader_result = match (result.reader_woken, reader.join()) {
        (false, _) => "asleep".into(),
        (true, Ok(Ok(length))) => format!("{length} bytes"),
        (true, Ok(Err(errno))) => name(errno),
        (true, Err(_)) => "panic".into(),
    };
    result.promiscuous_at_end = is_promiscuous();
    Ok(result)
}
