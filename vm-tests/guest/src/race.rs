// SPDX-License-Identifier: BSD-2-Clause
//! The reproducer: lo0 under a flood, readers that open, set up, read and die, and a revoke(2)
//! every millisecond or so, all at once; counted and timed.

use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use core::sync::atomic::Ordering::Relaxed;
use core::time::Duration;

use bpfrs_vm_protocol::tally::{LOOK, MAX_READERS, Random, Tally, count, nanoseconds};
use bpfrs_vm_protocol::{Message, Race};

use crate::arguments::{Arguments, Device};
use crate::bpf::{self, ACCEPT, Bpf, REJECT};
use crate::driver;
use crate::loopback;
use crate::report::{self, Reporter};
use crate::sys::{self, Errno, Fd, Pid, Result, Terminal};

/// SIGKILL must have worked by then, and nodes must be free.
const LAST_PATIENCE: Duration = Duration::from_secs(5);
/// Echo requests a second and family: enough to keep readers busy, little enough for emulation.
const FLOOD_RATE: u64 = 400;

/// A generator of choices, different in each process.
fn random() -> Random {
    let process = u64::from(Pid::current().number().unsigned_abs());
    Random::new(nanoseconds(sys::now()) ^ (process << 32))
}

struct Plan {
    device: Device,
    prefix: &'static str,
    malloc_type: &'static str,
    nodes: usize,
    readers: usize,
    /// So long, and until so many revocations, …
    time: Duration,
    revokes: u64,
    /// … but no longer than this.
    limit: Duration,
    pause: Duration,
    /// In microseconds.
    wake_limit: u64,
    tcpdump: Option<&'static str>,
    ping: Option<&'static str>,
}

impl Plan {
    fn from(arguments: &Arguments) -> core::result::Result<Self, String> {
        let device = arguments.device();
        let nodes = if device.is_pool() { arguments.number("--nodes", 4)? } else { 1 };
        let readers = arguments.number("--readers", 4)?;
        if !(1..=MAX_READERS as u64).contains(&readers) || !(1..=256).contains(&nodes) {
            return Err(format!("1 to {MAX_READERS} readers, 1 to 256 nodes"));
        }
        Ok(Self {
            device,
            prefix: arguments.or("--prefix", ""),
            malloc_type: arguments.or("--type", ""),
            nodes: nodes as usize,
            readers: readers as usize,
            time: Duration::from_secs(arguments.number("--seconds", 10)?),
            revokes: arguments.number("--revokes", 1)?,
            limit: Duration::from_secs(arguments.number("--limit", 0)?),
            pause: Duration::from_micros(arguments.number("--pause-us", 1000)?),
            wake_limit: arguments.number("--wake-limit-us", 10_000)?,
            tcpdump: arguments.get("--tcpdump"),
            ping: arguments.get("--ping"),
        })
    }
}

pub(crate) fn run(arguments: &Arguments) -> i32 {
    let plan = match Plan::from(arguments) {
        Ok(plan) => plan,
        Err(problem) => {
            report::human(&format!("bpfrs-guest race: {problem}"));
            return 2;
        }
    };
    let mut reporter = Reporter::new();
    match race(&plan, &mut reporter) {
        Ok(()) => {
            reporter.end();
            0
        }
        Err(errno) => {
            report::human(&format!("bpfrs-guest race: {errno}"));
            1
        }
    }
}

fn race(plan: &Plan, reporter: &mut Reporter) -> Result<()> {
    let shared: &Tally = sys::shared()?;
    let mut result = Race {
        device: plan.device.pattern.into(),
        readers: plan.readers as u64,
        nodes: plan.nodes as u64,
        wake_limit: plan.wake_limit,
        memory_before: driver::memory(plan.malloc_type),
        ..Race::default()
    };
    let start = sys::now();
    let terminal = Terminal::new()?;
    let mut company = Company::new(plan, shared, &terminal)?;
    let mut next_report = start;
    while sys::now() < start + plan.time
        || (shared.revokes.load(Relaxed) < plan.revokes && sys::now() < start + plan.limit)
    {
        company.supervise();
        if sys::now() >= next_report {
            // More often at first: a bad driver does not live to see the second.
            let young = sys::now() < start + Duration::from_secs(2);
            next_report += Duration::from_millis(if young { 100 } else { 1000 });
            company.fill(&mut result, start);
            reporter.message(&Message::Progress(result.clone()));
        }
        sys::sleep(LOOK);
    }
    company.dismiss();
    company.fill(&mut result, start);
    result.stuck_nodes = stuck_nodes(plan);
    // What epoch callbacks free may come a little later.
    driver::eventually(LAST_PATIENCE, || {
        result.memory_after = driver::memory(plan.malloc_type);
        result.driver = driver::counters(plan.prefix).ok();
        let descriptors = result.driver.as_ref().map_or(0, |d| d.descriptors);
        result.memory_after == result.memory_before && descriptors == 0
    });
    summary(&result);
    reporter.message(&Message::Race(result));
    Ok(())
}

fn summary(r: &Race) {
    report::human(&format!(
        "{}: {:.0} s, {} opens ({} busy), {} reads, {} revokes; {} blocked readers: {} woken, {} asleep",
        r.device,
        r.seconds,
        r.opens,
        r.opens_busy,
        r.reads,
        r.revokes,
        r.blocked,
        r.woken,
        r.asleep
    ));
}

/// Nodes that cannot be opened although nobody is left.
fn stuck_nodes(plan: &Plan) -> u64 {
    let free = |node: usize| {
        driver::eventually(LAST_PATIENCE, || Bpf::open(&plan.device.node(node)).is_ok())
    };
    (0..plan.nodes).filter(|&node| !free(node)).count() as u64
}

/// All processes of a run.
struct Company<'a> {
    plan: &'a Plan,
    shared: &'static Tally,
    random: Random,
    /// By slot.
    readers: Vec<Pid>,
    tcpdump: Option<(Pid, Duration)>,
    ping: Option<Pid>,
    next_ping: Duration,
    others: Vec<Pid>,
    tcpdump_runs: u64,
    stuck: u64,
}

impl<'a> Company<'a> {
    fn new(plan: &'a Plan, shared: &'static Tally, terminal: &Terminal) -> Result<Self> {
        let mut company = Self {
            plan,
            shared,
            random: random(),
            readers: Vec::new(),
            tcpdump: None,
            ping: None,
            next_ping: Duration::ZERO,
            others: Vec::new(),
            tcpdump_runs: 0,
            stuck: 0,
        };
        company.others.push(sys::fork(|| loopback::flood(FLOOD_RATE, &shared.sent))?);
        for slot in 0..plan.readers {
            company.readers.push(company.hire(slot)?);
        }
        company.others.push(sys::fork(|| control(shared, &terminal.path))?);
        company.others.push(sys::fork(|| revoker(plan, shared, &terminal.path))?);
        Ok(company)
    }

    fn hire(&self, slot: usize) -> Result<Pid> {
        sys::fork(|| Reader::new(self.plan, self.shared, slot).work())
    }

    /// Replaces who has gone, kills at random, and looks for sleepers that should be awake.
    fn supervise(&mut self) {
        while let Some((pid, _)) = sys::reap(None) {
            if let Some(slot) = self.readers.iter().position(|&p| p == pid) {
                self.shared.forget_wait(slot);
                if let (Ok(pid), Some(place)) = (self.hire(slot), self.readers.get_mut(slot)) {
                    *place = pid;
                }
            } else if self.tcpdump.is_some_and(|(p, _)| p == pid) {
                self.tcpdump = None;
            } else if self.ping == Some(pid) {
                self.ping = None;
            }
        }
        for (slot, reader) in self.readers.iter().enumerate() {
            if self.shared.sleeps_on(slot) {
                reader.signal(libc::SIGKILL);
            }
        }
        if self.random.one_in(40) {
            self.kill_one();
        }
        let now = sys::now();
        self.supervise_tcpdump(now);
        self.supervise_ping(now);
    }

    /// The real ping floods in bursts: without an end it has one of the CPUs for itself.
    fn supervise_ping(&mut self, now: Duration) {
        if let Some(ping) = self.plan.ping
            && self.ping.is_none()
            && now >= self.next_ping
        {
            let words = ["ping", "-f", "-q", "-c", "200", "127.0.0.1"];
            self.ping = sys::fork(|| quietly(ping, &words)).ok();
            self.next_ping = now + Duration::from_secs(1);
        }
    }

    /// SIGKILL in the middle of whatever it does. Readers that are just being revoked are mostly
    /// spared: whether they wake is the question.
    fn kill_one(&mut self) {
        let victim = self.random.below(self.readers.len());
        let Some(reader) = self.readers.get(victim) else { return };
        if !self.shared.is_being_revoked(victim) || self.random.one_in(4) {
            self.shared.forget_wait(victim);
            reader.signal(libc::SIGKILL);
        }
    }

    /// One tcpdump at a time; it ends by itself when revoked, or is killed.
    fn supervise_tcpdump(&mut self, now: Duration) {
        let Some(root) = self.plan.tcpdump else {
            return;
        };
        match self.tcpdump {
            Some((pid, until)) if now > until => pid.signal(libc::SIGKILL),
            Some(_) => {}
            None => {
                let body = || {
                    if sys::chroot(root).is_err() {
                        return 1;
                    }
                    let words = ["tcpdump", "-n", "-B", "32", "-i", "lo0", "-w", "/dev/null"];
                    quietly("/usr/sbin/tcpdump", &words)
                };
                if let Ok(pid) = sys::fork(body) {
                    self.tcpdump_runs += 1;
                    let life = Duration::from_millis(200 + 20 * self.random.below(100) as u64);
                    self.tcpdump = Some((pid, now + life));
                }
            }
        }
    }

    /// Ends them all.
    fn dismiss(&mut self) {
        for slot in 0..self.readers.len() {
            self.shared.forget_wait(slot);
        }
        let mut left: Vec<Pid> = self.readers.drain(..).chain(self.others.drain(..)).collect();
        left.extend(self.tcpdump.take().map(|(pid, _)| pid));
        left.extend(self.ping.take());
        for pid in &left {
            pid.signal(libc::SIGKILL);
        }
        driver::eventually(LAST_PATIENCE, || {
            while let Some((pid, _)) = sys::reap(None) {
                left.retain(|&p| p != pid);
            }
            left.is_empty()
        });
        self.stuck = left.len() as u64;
    }

    fn fill(&self, r: &mut Race, start: Duration) {
        r.seconds = (sys::now() - start).as_secs_f64();
        self.shared.fill(r, |errno| Errno(errno).name());
        r.tcpdump_runs = self.tcpdump_runs;
        r.stuck_processes = self.stuck;
        r.driver = driver::counters(self.plan.prefix).ok();
    }
}

/// Runs a program with its output thrown away.
fn quietly(program: &str, arguments: &[&str]) -> i32 {
    if let Ok(null) = Fd::open("/dev/null", libc::O_RDWR) {
        for standard in 0..3 {
            let _ = null.dup_to(standard);
        }
    }
    let _ = sys::exec(program, arguments);
    127
}

/// Reads a terminal, and opens it again when it was revoked: what the kernel's own drivers need from
/// revoke(2) to the end of a read, on this machine in this minute.
fn control(shared: &Tally, path: &str) -> i32 {
    loop {
        let Ok(terminal) = Fd::open(path, libc::O_RDWR | libc::O_NOCTTY) else {
            sys::sleep(Duration::from_millis(1));
            continue;
        };
        sys::set_realtime(true);
        shared.control_begins();
        let _ = terminal.read(&mut [0; 1]);
        shared.control_ended(sys::now());
        sys::set_realtime(false);
    }
}

/// Revokes nodes at random, and the control's terminal as often as each, for ever.
fn revoker(plan: &Plan, shared: &Tally, terminal: &str) -> i32 {
    let mut random = random();
    loop {
        let node = random.below(plan.nodes + 1);
        if node == plan.nodes {
            shared.control_meets(sys::now());
            if let Err(errno) = sys::revoke(terminal) {
                shared.revoke_errors.add(errno.0);
            }
            sys::sleep(plan.pause);
            continue;
        }
        let path = plan.device.node(node);
        let begin = sys::now();
        shared.revoke_begins(node, begin);
        match sys::revoke(&path) {
            Ok(()) => count(&shared.revokes),
            Err(errno) => shared.revoke_errors.add(errno.0),
        }
        shared.revoke_time.add(sys::now() - begin);
        sys::sleep(plan.pause);
    }
}

/// How a reader waits for packets.
#[derive(Clone, Copy)]
enum Wait {
    Read,
    Poll,
    Select,
}

struct Reader<'a> {
    plan: &'a Plan,
    shared: &'a Tally,
    slot: usize,
    random: Random,
}

impl<'a> Reader<'a> {
    fn new(plan: &'a Plan, shared: &'a Tally, slot: usize) -> Self {
        Self { plan, shared, slot, random: random() }
    }

    /// One life: a few sessions, then an end without goodbye.
    fn work(mut self) -> i32 {
        for _ in 0..=self.random.below(40) {
            self.session();
        }
        0
    }

    /// One open, until it is revoked, closed, or left behind at exit.
    fn session(&mut self) {
        let node = self.random.below(self.plan.nodes);
        let bpf = match Bpf::open(&self.plan.device.node(node)) {
            Ok(bpf) => bpf,
            Err(Errno(libc::EBUSY)) => {
                count(&self.shared.opens_busy);
                // Not at once: who only asks for busy nodes takes the CPUs from those who test.
                sys::sleep(Duration::from_millis(2));
                return;
            }
            Err(errno) => {
                self.shared.open_errors.add(errno.0);
                sys::sleep(Duration::from_micros(200));
                return;
            }
        };
        count(&self.shared.opens);
        if let Err(errno) = self.set_up(&bpf) {
            self.shared.setup_errors.add(errno.0);
        } else {
            self.read(&bpf, node);
        }
        if self.random.one_in(16) {
            // Left to exit(2).
            bpf.fd.leak();
        }
    }

    fn set_up(&mut self, bpf: &Bpf) -> Result<()> {
        bpf.version()?;
        // Small ones: memguard maps and unmaps every page of them.
        bpf.set_buffer_length(if self.random.one_in(2) { 4096 } else { 8192 })?;
        bpf.attach("lo0")?;
        if self.random.one_in(3) {
            bpf.set_immediate(true)?;
        } else if self.random.one_in(2) {
            bpf.set_timeout_ms(20 + 10 * self.random.below(20) as i64)?;
        }
        if self.random.one_in(4) {
            bpf.promiscuous()?;
        }
        // Who accepts nothing is asleep for sure when the revocation comes.
        match self.random.below(3) {
            0 => bpf.set_filter(bpf::BIOCSETF, &ACCEPT),
            1 => bpf.set_filter(bpf::BIOCSETF, &REJECT),
            _ => Ok(()),
        }
    }

    fn read(&mut self, bpf: &Bpf, node: usize) {
        let wait = match self.random.below(4) {
            0 => Wait::Poll,
            1 => Wait::Select,
            _ => Wait::Read,
        };
        let orderly = self.random.one_in(2);
        for _ in 0..self.random.below(30) {
            if let Err(errno) = self.wait_and_read(bpf, node, wait) {
                self.shared.read_errors.add(errno.0);
                if self.random.one_in(4) {
                    // The dead descriptor must stay dead, whoever has the node by now.
                    let _ = bpf.flush();
                    let _ = bpf.read();
                    let _ = bpf.set_filter(bpf::BIOCSETF, &REJECT);
                }
                return;
            }
        }
        if orderly && let Ok([seen, dropped]) = bpf.statistics() {
            self.shared.captured.fetch_add(u64::from(seen), Relaxed);
            self.shared.dropped.fetch_add(u64::from(dropped), Relaxed);
        }
    }

    fn wait_and_read(&mut self, bpf: &Bpf, node: usize, wait: Wait) -> Result<()> {
        let length = bpf.buffer_length()? as usize;
        let mut buffer = vec![0; length];
        // Who is woken must not queue for a CPU behind all the others: the driver's latency is the
        // question, not the scheduler's.
        sys::set_realtime(true);
        self.shared.wait_begins(self.slot, node);
        // For poll and select death shows in the events; the read that follows tells it by errno.
        let (dead, result) = match wait {
            Wait::Read => {
                let result = bpf.fd.read(&mut buffer);
                (result.is_err_and(bpf::is_death), Some(result))
            }
            Wait::Poll => {
                let events = bpf.fd.poll(bpf::POLL_READ, None);
                (events.is_ok_and(|e| e & libc::POLLHUP != 0), None)
            }
            Wait::Select => (bpf.fd.select(None).is_err(), None),
        };
        self.shared.wait_ends(self.slot);
        let returned = sys::now();
        sys::set_realtime(false);
        let result = result.unwrap_or_else(|| bpf.fd.read(&mut buffer));
        // select(2) has no way to say "dead" but readable, and then the read fails.
        let dead = dead || matches!(wait, Wait::Select) && result.is_err_and(bpf::is_death);
        self.shared.wait_ended(self.slot, dead, returned);
        match result? {
            0 => count(&self.shared.read_timeouts),
            length => {
                count(&self.shared.reads);
                self.shared.bytes.fetch_add(length as u64, Relaxed);
                match bpf::records(buffer.get(..length).unwrap_or_default()) {
                    Ok(records) => {
                        self.shared.packets.fetch_add(records.len() as u64, Relaxed);
                    }
                    Err(_) => count(&self.shared.bad_records),
                }
            }
        }
        Ok(())
    }
}
