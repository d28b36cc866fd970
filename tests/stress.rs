// SPDX-License-Identifier: BSD-2-Clause
//! Everything at once, for a while; afterwards nothing is left (I1…I9 of
//! docs/design.md). The host body checks every step.
mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bpfrs::kpi::abi::timeval;
use bpfrs::kpi::host::{self, File, Interface, Mount};
use bpfrs::kpi::stats;
use bpfrs_sys::bpfrs_const::BPFRS_POLLIN;
use bpfrs_sys::bpfrs_ioc::*;
use support::*;

/// A generator of choices that is the same in every run.
struct Choices(u64);

impl Choices {
    fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % n
    }
}

/// One open and what a program might do with it.
fn use_a_file(choices: &mut Choices, mount: Mount, unit: i32, captured: &AtomicU64) {
    let Ok(file) = mount.open(unit) else { return };
    let size = 64 << choices.below(4);
    // Any of it may fail: somebody revokes all the time.
    let _ = set(&file, BPFRS_BIOCSBLEN, size);
    let _ = attach(&file, "lo0");
    let _ = set(&file, BPFRS_BIOCIMMEDIATE, choices.below(2) as u32);
    let _ = set(&file, BPFRS_BIOCSRTIMEOUT, timeval { tv_sec: 0, tv_usec: 2000 });
    for _ in 0..choices.below(12) {
        match choices.below(9) {
            0 => drop(file.ioctl0(BPFRS_BIOCPROMISC)),
            1 => drop(setf(&file, BPFRS_BIOCSETF, &mut keep(choices.below(80) as u32))),
            2 => drop(file.ioctl0(BPFRS_BIOCFLUSH)),
            3 => drop(file.poll(BPFRS_POLLIN, Some(Duration::from_millis(2)))),
            4 => drop(attach(&file, "lo0")),
            5 => {
                // Closed by whichever of the two is last.
                let copy = file.clone();
                std::thread::spawn(move || {
                    let _ = copy.read(&mut vec![0; size as usize], false);
                });
            }
            _ => {
                let mut buffer = vec![0; size as usize];
                if let Ok(len) = file.read(&mut buffer, choices.below(2) == 0) {
                    for record in records(&buffer[..len]) {
                        // Whole packets of one byte value, or the start of one.
                        let data = record.data.get(4..).unwrap_or_default();
                        assert!(data.windows(2).all(|pair| pair[0] == pair[1]));
                        captured.fetch_add(1, Ordering::Relaxed);
                    }
                }
            }
        }
    }
}

#[test]
fn opens_revokes_packets() {
    run(|| {
        let stop = Arc::new(AtomicBool::new(false));
        let captured = Arc::new(AtomicU64::new(0));
        let jail = Mount::new();
        let spawn = |seed: u64, step: Box<dyn Fn(&mut Choices) + Send>| {
            let stop = Arc::clone(&stop);
            Worker::spawn(move || {
                let mut choices = Choices(seed);
                let mut steps = 0u64;
                while !stop.load(Ordering::Relaxed) {
                    step(&mut choices);
                    steps += 1;
                }
                steps
            })
        };
        let mut workers = Vec::new();
        for user in 0..4u64 {
            let mount = if user == 3 { jail } else { Mount::DEV };
            let captured = Arc::clone(&captured);
            workers.push(spawn(
                user + 1,
                Box::new(move |choices| {
                    let unit = choices.below(3) as i32;
                    use_a_file(choices, mount, unit, &captured);
                }),
            ));
        }
        workers.push(spawn(
            77,
            Box::new(move |choices| {
                let unit = choices.below(3) as i32;
                let _ = Mount::DEV.revoke(unit);
                if choices.below(20) == 0 {
                    jail.unmount();
                }
                std::thread::sleep(Duration::from_micros(choices.below(400)));
            }),
        ));
        for seed in [5u64, 6] {
            workers.push(spawn(
                seed,
                Box::new(|choices| {
                    let packet = vec![choices.below(256) as u8; choices.below(120) as usize];
                    let (start, rest) = packet.split_at(packet.len() / 3);
                    host::inject("lo0", 2, &[start, rest]);
                    std::thread::sleep(Duration::from_micros(30));
                }),
            ));
        }

        let start = Instant::now();
        while start.elapsed() < stress_time(Duration::from_secs(2)) {
            std::thread::sleep(Duration::from_millis(100));
            host::check_freed();
        }
        stop.store(true, Ordering::Relaxed);
        // The last ones who sleep without a timeout.
        until(|| {
            for unit in 0..3 {
                let _ = host::revoke(unit);
            }
            workers.iter().all(Worker::is_finished)
        });
        let steps: Vec<u64> = workers.into_iter().map(Worker::join).collect();
        until(|| {
            host::settle();
            stats::read(stats::DESCRIPTORS) == 0
        });

        let lo0 = Interface::named("lo0").unwrap();
        assert_eq!((lo0.promisc(), lo0.is_tapped()), (0, false));
        assert_eq!(stats::read(stats::LIVE), 0);
        let ended: u64 =
            [stats::CLOSES_ZERO, stats::CLOSES_ONE, stats::CLOSES_TWO, stats::CLOSES_MORE]
                .map(stats::read)
                .iter()
                .sum();
        assert_eq!(ended, stats::read(stats::OPENS), "every open ended once");
        println!(
            "steps {steps:?}, opens {}, revokes {}, revoked opens {}, captured {}, closes {:?}",
            stats::read(stats::OPENS),
            stats::read(stats::REVOKES),
            stats::read(stats::REVOKED_OPENS),
            captured.load(Ordering::Relaxed),
            [
                stats::CLOSES_ZERO,
                stats::CLOSES_ONE,
                stats::CLOSES_TWO,
                stats::CLOSES_MORE,
                stats::CLOSES_ORPHAN
            ]
            .map(stats::read),
        );
        assert!(stats::read(stats::OPENS) > 50 && stats::read(stats::REVOKES) > 50);
        assert!(captured.load(Ordering::Relaxed) > 0);
        drop(File::open(0).unwrap());
    });
}

/// Interfaces come and go under their listeners.
#[test]
fn attach_and_departure() {
    run(|| {
        let stop = Arc::new(AtomicBool::new(false));
        let workers: Vec<_> = (0..3)
            .map(|unit| {
                let stop = Arc::clone(&stop);
                Worker::spawn(move || {
                    let mut attached = 0;
                    while !stop.load(Ordering::Relaxed) {
                        let Ok(file) = File::open(unit) else { continue };
                        if attach(&file, "lo1").is_ok() {
                            attached += 1;
                        }
                        let _ = file.ioctl0(BPFRS_BIOCPROMISC);
                        let _ = file.read(&mut [0; 4096], true);
                    }
                    attached
                })
            })
            .collect();
        let start = Instant::now();
        while start.elapsed() < stress_time(Duration::from_secs(1)) {
            let lo1 = Interface::loopback("lo1");
            lo1.pass(2, &host::Chain::new(&[&[1; 20]]), true);
            std::thread::sleep(Duration::from_millis(1));
            lo1.depart();
            assert_eq!((lo1.promisc(), lo1.is_tapped()), (0, false));
        }
        stop.store(true, Ordering::Relaxed);
        let attached: u32 = workers.into_iter().map(Worker::join).sum();
        assert!(attached > 0);
        assert_eq!(host::census().ifnets, 1);
    });
}

/// I7: a forced unload in the middle of everything, again and again.
#[test]
fn unload_under_load() {
    run(|| {
        let (start, time) = (Instant::now(), stress_time(Duration::ZERO));
        let mut rounds = 0;
        loop {
            let stop = Arc::new(AtomicBool::new(false));
            let captured = Arc::new(AtomicU64::new(0));
            let workers: Vec<_> = (1..4u64)
                .map(|seed| {
                    let (stop, captured) = (Arc::clone(&stop), Arc::clone(&captured));
                    Worker::spawn(move || {
                        let mut choices = Choices(seed + 4 * rounds);
                        while !stop.load(Ordering::Relaxed) {
                            let unit = choices.below(3) as i32;
                            use_a_file(&mut choices, Mount::DEV, unit, &captured);
                            host::inject("lo0", 2, &[&[3; 30]]);
                        }
                    })
                })
                .collect();
            std::thread::sleep(Duration::from_millis(200));
            // EBUSY if another end of an open has not come to its tap yet.
            until(|| host::unload(true).is_ok());
            stop.store(true, Ordering::Relaxed);
            for worker in workers {
                worker.join();
            }
            // Readers of their own threads let go of their files.
            until(|| host::census().vnodes == 0);
            rounds += 1;
            if start.elapsed() >= time {
                break;
            }
            host::load().expect("the module loads again");
        }
        println!("unloads {rounds}");
    });
}
