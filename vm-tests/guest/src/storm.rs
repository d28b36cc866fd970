// SPDX-License-Identifier: BSD-2-Clause
//! Random operations by many processes on a few nodes, and whether anything is left behind.

use alloc::format;
use alloc::string::String;
use alloc::vec;
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};
use core::time::Duration;

use zerocopy::FromZeros;

use crate::arguments::{Arguments, Device};
use crate::behaviours::{FIOSETOWN, PROBES, TIOCSPGRP};
use crate::bpf::{Bpf, STOCK};
use crate::driver::{self, eventually};
use crate::loopback;
use crate::report::{self, Reporter};
use crate::sys::{self, Errno, Fd, Pid};
use crate::tests::{Child, Trouble, Verdict, While, ensure, equal, refused};

/// Fewer nodes than processes: they meet.
const NODES: usize = 4;
/// Packets a second on lo0.
const RATE: u64 = 400;
/// A call that may sleep is interrupted then.
const NAP: Duration = Duration::from_millis(10);
/// The malloc(9) type of who gets signals: FIOSETOWN.
const SIGIO: &str = "sigio";
/// Operations of one process, far below which the slowest machine gets in a second.
const LEAST_RATE: u64 = 20;

/// A generator of Marsaglia's (xorshift64*); never 0.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 16
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }
}

/// `storm`
pub(crate) fn run(arguments: &Arguments) -> i32 {
    let clock = sys::wall_clock().subsec_nanos();
    let numbers = (
        arguments.number("--processes", 8),
        arguments.number("--operations", 100_000),
        arguments.number("--seed", u64::from(clock) + 1),
    );
    let (Ok(processes), Ok(operations), Ok(seed)) = numbers else {
        report::human("bpfrs-guest storm: no number");
        return 2;
    };
    let device = arguments.device();
    let prefix = arguments.or("--prefix", "net.bpfrs");
    // The negative control: something is left behind.
    let leave = match arguments.get("--spoil") {
        None => false,
        Some("leave") => true,
        Some(other) => {
            report::human(&format!("bpfrs-guest storm: --spoil: not {other}"));
            return 2;
        }
    };
    let mut reporter = Reporter::new();
    // Part of the name: who sees it fail can have the same again.
    let name = format!("storm-{processes}-{operations}-seed-{seed}");
    let good = reporter.case(&name, || storm(device, prefix, processes, operations, seed, leave));
    reporter.end();
    i32::from(!good)
}

/// What the processes count together.
#[derive(FromZeros)]
#[repr(C)]
struct Counts {
    sent: AtomicU64,
    finished: AtomicU64,
    /// Owners of signals that fsetown(9) refused.
    refused: AtomicU64,
}

/// Allocations in use of the type that has owners of signals.
fn owners() -> Result<u64, Trouble> {
    let types = driver::malloc_types().at("kern.malloc_stats")?;
    Ok(types.get(SIGIO).map_or(0, |(allocations, _)| *allocations))
}

/// How many of them this kernel loses with each that it refuses: fsetown(9) of 14 and 15 does not free
/// what it has prepared, whoever calls it. Seen with the kernel's own device.
fn lost_with_each_refusal() -> Result<u64, Trouble> {
    const TRIES: u64 = 100;
    let bpf = Bpf::open(STOCK).at(STOCK)?;
    let before = owners()?;
    for round in 0..TRIES {
        let (command, mut nobody) =
            if round % 2 == 0 { (FIOSETOWN, -99_999) } else { (TIOCSPGRP, 99_999) };
        let result: sys::Result<()> = bpf.fd.ioctl(command, &mut nobody);
        equal!("an owner that is nobody, with stock", result, refused(libc::ESRCH));
    }
    let lost = owners()? - before;
    ensure!(lost == 0 || lost == TRIES, "{lost} of {TRIES} refused owners are lost");
    Ok(lost / TRIES)
}

fn storm(
    device: Device,
    prefix: &str,
    processes: u64,
    operations: u64,
    seed: u64,
    leave: bool,
) -> Verdict {
    let counts: &Counts = sys::shared().at("shared memory")?;
    let lost_each = lost_with_each_refusal()?;
    let share = operations.div_ceil(processes.max(1));
    // What the first use of anything keeps for ever is not counted: so many processes, too.
    crowd(device, processes, share.min(200), !seed, counts)?;
    counts.finished.store(0, Relaxed);
    counts.refused.store(0, Relaxed);
    let mut before = driver::malloc_types().at("kern.malloc_stats")?;
    let owners_before = owners()?;
    // Counted below, to the last one.
    before.insert(SIGIO.into(), (u64::MAX, 0));
    crowd(device, processes, share, seed, counts)?;
    let [done, sent, refused] =
        [&counts.finished, &counts.sent, &counts.refused].map(|count| count.load(Relaxed));
    report::human(&format!(
        "storm: {done} operations, {sent} packets sent, {refused} owners refused; the kernel loses \
         {lost_each} with each of these"
    ));
    ensure!(done >= share * processes, "{done} operations of {}", share * processes);
    ensure!(sent > 0, "no packets");
    ensure!(refused > 0 || share * processes < 10_000, "no owner was refused");
    let kept = if leave { Some(Bpf::open(STOCK).at(STOCK)?) } else { None };
    if let Some(bpf) = &kept {
        let mut me = Pid::current().number();
        bpf.fd.ioctl(FIOSETOWN, &mut me).at("FIOSETOWN")?;
    }
    let counters = || driver::counters(prefix).at("the driver's sysctls");
    let gone = || counters().is_ok_and(|c| (c.live, c.descriptors) == (0, 0));
    ensure!(eventually(Duration::from_secs(10), gone), "left behind: {:?}", counters()?);
    let mut grown = String::new();
    let still = || {
        // What dies by a grace period needs a while.
        grown = driver::grown(&before, 0).unwrap_or_else(|errno| errno.name());
        grown.is_empty()
    };
    ensure!(eventually(Duration::from_secs(10), still), "malloc(9) types have grown:{grown}");
    let allowed = owners_before + lost_each * refused;
    let freed = || owners().is_ok_and(|now| now == allowed);
    ensure!(
        eventually(Duration::from_secs(10), freed),
        "{} owners of signals are left, {owners_before} were there before, {refused} were refused",
        owners()?
    );
    drop(kept);
    for node in 0..NODES {
        Bpf::open(&device.node(node)).at("open, afterwards")?;
    }
    let promiscuous = crate::bpf::is_promiscuous("lo0").at("lo0")?;
    ensure!(!promiscuous, "lo0 is still promiscuous");
    Ok::<(), Trouble>(())
}

/// So many processes, with so many operations each, and packets on lo0.
fn crowd(device: Device, processes: u64, share: u64, seed: u64, counts: &Counts) -> Verdict {
    let _flood = Child::start(|| loopback::flood(RATE, &counts.sent))?;
    let mut children = vec![];
    for index in 0..processes {
        let seed = seed.wrapping_add(index.wrapping_mul(0x9e37_79b9_7f4a_7c15)).max(1);
        children.push(Child::start(|| {
            work(device, seed, share, counts);
            0
        })?);
    }
    for child in children {
        let status = child.finish(Duration::from_secs(60 + share / LEAST_RATE))?;
        ensure!(status == 0, "a process ended with {status}");
    }
    Ok(())
}

/// So many operations, one after the other.
fn work(device: Device, seed: u64, operations: u64, counts: &Counts) {
    // What FIOASYNC and BIOCSRSIG bring must not end us.
    for signal in [libc::SIGIO, libc::SIGUSR2] {
        let _ = sys::catch(signal);
    }
    let mut random = Random(seed);
    let mut opens: [Option<Bpf>; 3] = [const { None }; 3];
    let mut block = vec![0_u8; 0x8_0000];
    for _ in 0..operations {
        counts.finished.fetch_add(1, Relaxed);
        let node = device.node(random.below(NODES));
        let index = random.below(opens.len());
        let Some(place) = opens.get_mut(index) else { continue };
        // Whatever they answer: that the kernel stands it is what counts.
        match (random.below(16), place.take()) {
            (0, Some(bpf)) => drop(bpf),
            (1, other) => {
                *place = other;
                let _ = sys::revoke(&node);
            }
            (_, None) => *place = open(&node, &mut random),
            (what, Some(bpf)) => {
                let _ = sys::alarm(NAP);
                operate(&bpf, what, &mut random, &mut block, counts);
                let _ = sys::alarm(Duration::ZERO);
                *place = Some(bpf);
            }
        }
    }
}

/// A fresh open, which in half of the cases listens.
fn open(node: &str, random: &mut Random) -> Option<Bpf> {
    let bpf = Bpf::open(node).ok()?;
    if random.below(2) == 0 {
        let _ = bpf.attach("lo0");
    }
    Some(bpf)
}

fn operate(bpf: &Bpf, what: usize, random: &mut Random, block: &mut [u8], counts: &Counts) {
    let nap = Some(Duration::from_millis(random.below(3) as u64));
    match what {
        2..=4 => {
            let length = bpf.buffer_length().map_or(64, |length| length as usize);
            let _ = bpf.fd.read(block.get_mut(..length).unwrap_or_default());
        }
        5 => {
            let length = random.below(2000);
            // Of another family lo0 says on the console that it has none.
            let family = libc::AF_INET.to_ne_bytes();
            block.iter_mut().zip(family).for_each(|(to, from)| *to = from);
            let _ = bpf.fd.write(block.get(..length).unwrap_or_default());
        }
        6 => drop(bpf.fd.poll(libc::POLLIN | libc::POLLOUT, nap)),
        7 => drop(bpf.fd.select(nap)),
        8 => {
            if let Ok(queue) = Fd::kqueue() {
                for filter in [libc::EVFILT_READ, libc::EVFILT_WRITE] {
                    let _ = queue.register(&bpf.fd, filter, libc::EV_ADD);
                }
                let _ = queue.events(nap);
            }
        }
        9 => drop(bpf.attach("lo0")),
        10 => drop(bpf.set_timeout_ms(random.below(20) as i64)),
        11 => drop(bpf.set_immediate(random.below(2) == 0)),
        _ => {
            if let Some(probe) = PROBES.get(random.below(PROBES.len())) {
                let result = probe.apply(bpf);
                // Nobody else says so than fsetown(9).
                if [FIOSETOWN, TIOCSPGRP].contains(&probe.command)
                    && result == Errno(libc::ESRCH).name()
                {
                    counts.refused.fetch_add(1, Relaxed);
                }
            }
        }
    }
}
