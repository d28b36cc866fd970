// SPDX-License-Identifier: BSD-2-Clause
//! epoch(9): sections, grace periods and callbacks.
//!
//! Every thread says in a word of its own which epoch its section began in.
//! A grace period raises the global epoch and waits for whoever is in an older
//! one. Nothing blocks a reader: with a reader-writer lock instead, a section
//! that waits for a mutex whose owner wants to enter one would hang.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering, fence};
use std::sync::{Condvar, Mutex, MutexGuard, Once};
use std::time::Duration;

use bpfrs_sys::{bpfrs_epoch_context, bpfrs_epoch_tracker};

use super::{guard, thread};
use crate::kpi::primitive::relax;

/// The epoch that new sections begin in.
static EPOCH: AtomicU64 = AtomicU64::new(1);

type Callback = unsafe extern "C" fn(*mut bpfrs_epoch_context);

struct Queue {
    callbacks: VecDeque<(usize, Callback)>,
    /// How many were ever queued, and how many of them have run.
    queued: u64,
    done: u64,
}

static QUEUE: Mutex<Queue> = Mutex::new(Queue { callbacks: VecDeque::new(), queued: 0, done: 0 });
static CHANGED: Condvar = Condvar::new();
/// How many [`EpochHold`]s there are.
static HOLDS: AtomicUsize = AtomicUsize::new(0);

/// A grace period that takes its time: no callback begins while one exists.
pub struct EpochHold(());

impl EpochHold {
    /// Holds back callbacks that are queued from now on.
    #[expect(clippy::new_without_default, reason = "it does something")]
    pub fn new() -> Self {
        HOLDS.fetch_add(1, Ordering::SeqCst);
        EpochHold(())
    }
}

impl Drop for EpochHold {
    fn drop(&mut self) {
        HOLDS.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Waits until every section that has begun has ended.
pub(super) fn wait() {
    let now = EPOCH.fetch_add(1, Ordering::SeqCst) + 1;
    // Pairs with the fence of enter: a section that is not seen below sees
    // what was unpublished before.
    fence(Ordering::SeqCst);
    for thread in thread::all() {
        loop {
            let epoch = thread.epoch().load(Ordering::SeqCst);
            if epoch == 0 || epoch >= now {
                break;
            }
            relax();
        }
    }
}

/// Whoever waits for callbacks runs them, instead of a thread of their own.
static SYNCHRONOUS: AtomicBool = AtomicBool::new(false);

/// Callbacks run in the threads that wait for them from now on, and only then:
/// what one thread does is the same in every run. To be called before the
/// first is queued.
pub fn reclaim_synchronously() {
    SYNCHRONOUS.store(true, Ordering::Relaxed);
}

/// Runs the callbacks, a grace period after each was queued.
fn reclaim() {
    loop {
        let mut queue = guard(&QUEUE);
        while queue.callbacks.is_empty() {
            queue = CHANGED.wait(queue).expect("a live queue");
        }
        run(queue);
    }
}

/// Runs those that are queued now.
fn run(mut queue: MutexGuard<'_, Queue>) {
    let batch = std::mem::take(&mut queue.callbacks);
    drop(queue);
    while HOLDS.load(Ordering::SeqCst) != 0 {
        std::thread::sleep(Duration::from_micros(100));
    }
    wait();
    for (context, callback) in batch {
        // SAFETY: queued by bpfrs_kpi_epoch_call, run once, after the
        // grace period that the caller asked for.
        thread::without_sleeping("an epoch callback", || unsafe {
            callback(std::ptr::with_exposed_provenance_mut(context));
        });
        guard(&QUEUE).done += 1;
        CHANGED.notify_all();
    }
}

/// Waits until `is_done` says so of the queue.
fn wait_for(is_done: impl Fn(&Queue) -> bool) {
    loop {
        let queue = guard(&QUEUE);
        if is_done(&queue) {
            return;
        }
        if SYNCHRONOUS.load(Ordering::Relaxed) && !queue.callbacks.is_empty() {
            run(queue);
        } else {
            drop(CHANGED.wait(queue).expect("a live queue"));
        }
    }
}

/// How many callbacks have not run.
pub fn pending() -> u64 {
    let queue = guard(&QUEUE);
    queue.queued - queue.done
}

/// Waits until no callback is left, those queued by callbacks included.
pub fn settle() {
    wait_for(|queue| queue.queued == queue.done);
}

#[unsafe(no_mangle)]
extern "C" fn bpfrs_kpi_epoch_enter(tracker: *mut bpfrs_epoch_tracker) {
    if thread::enter_section(tracker.addr()) {
        let thread = thread::Thread::current();
        thread.epoch().store(EPOCH.load(Ordering::SeqCst), Ordering::SeqCst);
        fence(Ordering::SeqCst);
    }
}

#[unsafe(no_mangle)]
extern "C" fn bpfrs_kpi_epoch_exit(tracker: *mut bpfrs_epoch_tracker) {
    if thread::exit_section(tracker.addr()) {
        thread::Thread::current().epoch().store(0, Ordering::SeqCst);
    }
}

#[unsafe(no_mangle)]
extern "C" fn bpfrs_kpi_epoch_call(context: *mut bpfrs_epoch_context, callback: Option<Callback>) {
    static RECLAIMER: Once = Once::new();
    if !SYNCHRONOUS.load(Ordering::Relaxed) {
        RECLAIMER.call_once(|| {
            std::thread::spawn(reclaim);
        });
    }
    let callback = callback.expect("an epoch callback");
    let mut queue = guard(&QUEUE);
    let address = context.expose_provenance();
    let twice = queue.callbacks.iter().any(|(other, _)| *other == address);
    assert!(!twice, "an epoch context is queued twice");
    queue.callbacks.push_back((address, callback));
    queue.queued += 1;
    // Otherwise who waits does so for a batch under way, whose end is announced.
    if !SYNCHRONOUS.load(Ordering::Relaxed) {
        CHANGED.notify_all();
    }
}

/// As epoch_drain_callbacks(9): what a callback queues meanwhile is not
/// waited for.
#[unsafe(no_mangle)]
extern "C" fn bpfrs_kpi_epoch_drain() {
    thread::may_sleep("epoch_drain_callbacks(9)");
    let target = guard(&QUEUE).queued;
    wait_for(|queue| queue.done >= target);
}
