// SPDX-License-Identifier: BSD-2-Clause
//! The driver under loom: every order of what its threads do, within a bound
//! on preemptions, under the memory model of C11. See docs/proof.md.
#![cfg(bpfrs_loom)]

mod scenarios;
mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use bpfrs::kpi::epoch::{Ref, Slot, pin};
use loom::thread::spawn;
use scenarios::*;
use support::alone;

/// How many preemptions an execution may have; a wait is none.
fn bound(default: usize) -> usize {
    std::env::var("BPFRS_LOOM_BOUND").map_or(default, |bound| bound.parse().expect("a number"))
}

fn explore(name: &str, bound: Option<usize>, execution: impl Fn() + Send + Sync + 'static) {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = bound;
    model.max_branches = 100_000;
    let executions = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&executions);
    let start = Instant::now();
    model.check(move || {
        count.fetch_add(1, Ordering::Relaxed);
        execution();
    });
    let bound = bound.map_or_else(|| "none".to_owned(), |bound| bound.to_string());
    println!(
        "loom {name}: {:.1} s, {} executions, preemption bound {bound}",
        start.elapsed().as_secs_f64(),
        executions.load(Ordering::Relaxed),
    );
}

/// One test for each scenario, with so many preemptions unless told otherwise.
macro_rules! explored {
    ($bound:literal: $($name:ident)*) => { $(
        mod $name {
            #[test]
            fn explored() {
                super::alone(|| {
                    let bound = Some(super::bound($bound));
                    super::explore(stringify!($name), bound, || super::world(super::$name));
                });
            }
        }
    )* };
}

small_worlds!(explored 2:);

// Long: the module goes and everything with it.
explored! { 1: unload_and_open }

/// A value that says whether it was dropped.
struct Canary(u64);

impl Drop for Canary {
    fn drop(&mut self) {
        self.0 = 0;
    }
}

/// I1: what is read inside a section stays, complete, until it ends.
#[test]
fn load_against_withdraw() {
    alone(|| {
        explore("load_against_withdraw", None, || {
            let slot = Arc::new(Slot::new());
            let publisher = {
                let slot = Arc::clone(&slot);
                spawn(move || {
                    let value = Ref::new(Canary(7));
                    slot.publish(value.clone()).ok().unwrap();
                    drop(slot.withdraw(&value));
                })
            };
            pin(|guard| {
                if let Some(canary) = slot.load(guard) {
                    assert_eq!(canary.0, 7);
                }
            });
            publisher.join().unwrap();
            bpfrs::kpi::host::settle();
        });
    });
}

/// I1: what is counted stays; a count of zero never rises.
#[test]
fn get_against_withdraw() {
    alone(|| {
        explore("get_against_withdraw", None, || {
            let slot = Arc::new(Slot::new());
            slot.publish(Ref::new(Canary(7))).ok().unwrap();
            let taker = {
                let slot = Arc::clone(&slot);
                spawn(move || {
                    if let Some(canary) = slot.get() {
                        assert_eq!(canary.0, 7);
                    }
                })
            };
            drop(slot.swap(None));
            taker.join().unwrap();
            bpfrs::kpi::host::settle();
        });
    });
}

/// I1: who destroys sees what every other holder did.
#[test]
fn the_last_reference() {
    alone(|| {
        explore("the_last_reference", None, || {
            let one = Ref::new(Canary(7));
            let other = {
                let one = one.clone();
                spawn(move || assert_eq!(one.0, 7))
            };
            drop(one);
            other.join().unwrap();
            bpfrs::kpi::host::settle();
        });
    });
}

/// I1: two swap, one reads: each object goes once, and never too early.
#[test]
fn load_against_two_swaps() {
    alone(|| {
        explore("load_against_two_swaps", Some(bound(3)), || {
            let slot = Arc::new(Slot::new());
            slot.publish(Ref::new(Canary(1))).ok().unwrap();
            let swappers = [2, 3].map(|value| {
                let slot = Arc::clone(&slot);
                spawn(move || drop(slot.swap(Some(Ref::new(Canary(value))))))
            });
            pin(|guard| {
                let seen = slot.load(guard).map(|canary| canary.0);
                assert!(matches!(seen, Some(1..=3)), "{seen:?}");
            });
            for swapper in swappers {
                swapper.join().unwrap();
            }
            drop(slot);
            bpfrs::kpi::host::settle();
            assert_eq!(bpfrs::kpi::host::census().allocations, 0);
        });
    });
}
