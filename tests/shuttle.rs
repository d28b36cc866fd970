// SPDX-License-Identifier: BSD-2-Clause
//! The driver under shuttle: many parties in many random orders, one step of
//! one thread at a time. Finds lost wake-ups, deadlocks and broken protocols
//! in worlds that are too large for loom. See docs/proof.md.
#![cfg(bpfrs_shuttle)]

mod scenarios;
mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Instant;

use bpfrs::kpi::abi::timeval;
use bpfrs::kpi::host::{self, File};
use bpfrs_sys::bpfrs_ioc::*;
use scenarios::*;
use shuttle::scheduler::{PctScheduler, RandomScheduler, Scheduler};
use shuttle::thread::spawn;
use support::{alone, attach, get, listen, set};

/// How many schedules of each kind.
fn schedules() -> usize {
    std::env::var("BPFRS_SCHEDULES").map_or(1000, |number| number.parse().expect("a number"))
}

fn explore(name: &str, execution: fn()) {
    let start = Instant::now();
    let run = |scheduler: Box<dyn Scheduler + Send>| {
        let mut config = shuttle::Config::new();
        config.stack_size = 0x20000;
        config.silence_warnings = true;
        shuttle::Runner::new(scheduler, config).run(move || world(execution))
    };
    let random = run(Box::new(RandomScheduler::new(schedules())));
    let pct = run(Box::new(PctScheduler::new(3, schedules())));
    println!(
        "shuttle {name}: {:.1} s, {random} random schedules, {pct} by priorities (PCT, depth 3)",
        start.elapsed().as_secs_f64()
    );
}

macro_rules! explored {
    ($($name:ident)*) => { $(
        #[test]
        fn $name() {
            alone(|| explore(stringify!($name), scenarios::$name));
        }
    )* };
}

small_worlds!(explored);

// Too large for loom, or in part.
explored! {
    a_knote_and_an_unload
    two_readers_two_packets
    a_signal_and_a_revoke
    unload_and_open
    forced_unload_of_a_reader
    departure_and_a_reader
}

/// A timeout, a packet and a reader: it returns, with the packet or without,
/// and the packet is not lost (I8).
#[test]
fn a_timeout_and_a_packet() {
    fn execution() {
        let file = listen(128);
        set(&file, BPFRS_BIOCIMMEDIATE, 0u32).unwrap();
        set(&file, BPFRS_BIOCSRTIMEOUT, timeval { tv_sec: 1, tv_usec: 0 }).unwrap();
        let sender = sender(4);
        let (reader, left) = {
            let (file, left) = (file.clone(), Arc::new(AtomicBool::new(false)));
            let done = Arc::clone(&left);
            let reader = spawn(move || {
                let packets = file.read(&mut [0; 128], false).map(|len| len / 40);
                done.store(true, Ordering::SeqCst);
                packets
            });
            (reader, left)
        };
        // It may begin after any number of ticks.
        while !left.load(Ordering::SeqCst) {
            host::pass_time();
            shuttle::thread::yield_now();
        }
        sender.join().unwrap();
        let read = reader.join().unwrap().unwrap();
        let stored = get(&file, BPFRS_FIONREAD, 0i32).unwrap();
        assert_eq!((read, stored), if read == 1 { (1, 0) } else { (0, 40) });
        file.close();
    }
    alone(|| explore("a_timeout_and_a_packet", execution));
}

/// Everybody at once: I1 to I9.
#[test]
fn all_parties() {
    fn parties() {
        let working = Arc::new(AtomicUsize::new(3));
        let spawned = [0u8, 1, 2].map(|party| {
            let working = Arc::clone(&working);
            spawn(move || {
                for _ in 0..2 {
                    let Ok(file) = File::open((party % 2).into()) else { continue };
                    let _ = set(&file, BPFRS_BIOCIMMEDIATE, 1u32);
                    let _ = attach(&file, "lo0");
                    let _ = file.read(&mut vec![0; 4096], party == 0);
                }
                working.fetch_sub(1, Ordering::SeqCst);
            })
        });
        let world = [
            spawn(|| (1..4).for_each(|byte| host::inject("lo0", 2, &[&[byte; 8]]))),
            spawn(|| (0..3).for_each(|unit| host::revoke(unit % 2).unwrap())),
        ];
        for thread in world {
            thread.join().unwrap();
        }
        // Those who sleep without a packet.
        while working.load(Ordering::SeqCst) != 0 {
            let _ = host::revoke(0);
            let _ = host::revoke(1);
            shuttle::thread::yield_now();
        }
        for thread in spawned {
            thread.join().unwrap();
        }
        drop(listen(64));
    }
    alone(|| explore("all_parties", parties));
}
