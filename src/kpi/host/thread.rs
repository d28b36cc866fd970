// SPDX-License-Identifier: BSD-2-Clause
//! A thread as the kernel knows it: what it holds, and how it is woken.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex as Hidden, Weak};

use super::clock::{self, Deadline};
use super::devfs::OpenFile;
use super::{guard, guard_seen, memguard};
use crate::kpi::primitive::{Condvar, Mutex, thread_local};

/// A thread that has called the kernel: sleepers and signals are told by it.
#[derive(Clone)]
pub struct Thread(Arc<Inner>);

struct Inner {
    id: u64,
    /// The epoch that its section began in; 0 outside.
    #[cfg(not(any(bpfrs_loom, bpfrs_shuttle)))]
    epoch: AtomicU64,
    wait: Mutex<Wait>,
    changed: Condvar,
}

#[derive(Default)]
struct Wait {
    /// wakeup(9) came since the sleep was armed.
    woken: bool,
    /// selwakeup(9) came since the poll was armed.
    selected: bool,
    /// A signal is pending.
    signalled: bool,
    asleep: bool,
}

/// What a thread waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Channel {
    Sleep,
    Select,
}

/// Why it does not wait any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    Woken,
    Signalled,
    TimedOut,
}

impl Thread {
    /// The calling thread.
    pub fn current() -> Thread {
        LOCAL.with(|local| local.thread.clone())
    }

    /// Sends a signal: ends a sleep, now or the next one, with EINTR.
    pub fn signal(&self) {
        guard_seen(&self.0.wait).signalled = true;
        self.0.changed.notify_all();
    }

    /// Whether it sleeps, or waits in poll(2).
    pub fn is_asleep(&self) -> bool {
        let wait = guard_seen(&self.0.wait);
        wait.asleep && !wait.woken && !wait.selected
    }

    pub(super) fn id(&self) -> u64 {
        self.0.id
    }

    #[cfg(not(any(bpfrs_loom, bpfrs_shuttle)))]
    pub(super) fn epoch(&self) -> &AtomicU64 {
        &self.0.epoch
    }

    /// From here on a wake-up counts.
    pub(super) fn arm(&self, channel: Channel) {
        *guard_seen(&self.0.wait).flag(channel) = false;
    }

    pub(super) fn wake(&self, channel: Channel) {
        let mut wait = guard_seen(&self.0.wait);
        *wait.flag(channel) = true;
        if wait.asleep {
            self.0.changed.notify_all();
        }
    }

    /// Waits for a wake-up since `arm`, for a signal or for the time.
    pub(super) fn wait(&self, channel: Channel, deadline: Option<Deadline>) -> End {
        let mut wait = guard_seen(&self.0.wait);
        wait.asleep = true;
        let end = loop {
            if *wait.flag(channel) {
                break End::Woken;
            }
            if wait.signalled {
                wait.signalled = false;
                break End::Signalled;
            }
            if deadline.is_some_and(Deadline::has_passed) {
                break End::TimedOut;
            }
            wait = clock::wait(&self.0.changed, wait, deadline);
        };
        wait.asleep = false;
        end
    }

    /// Time has passed: a sleeper with a deadline looks at it.
    #[cfg(any(bpfrs_loom, bpfrs_shuttle))]
    pub(super) fn look_at_the_clock(&self) {
        drop(guard_seen(&self.0.wait));
        self.0.changed.notify_all();
    }
}

impl fmt::Debug for Thread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "thread {}", self.0.id)
    }
}

impl Wait {
    fn flag(&mut self, channel: Channel) -> &mut bool {
        match channel {
            Channel::Sleep => &mut self.woken,
            Channel::Select => &mut self.selected,
        }
    }
}

/// What the calling thread holds.
struct Local {
    thread: Thread,
    /// Trackers of the epoch sections it is in, outermost first.
    sections: RefCell<Vec<usize>>,
    /// Monitors that it has locked, by address.
    monitors: RefCell<Vec<usize>>,
    /// Where it runs, if sleeping is forbidden there.
    context: Cell<Option<&'static str>>,
    /// `td_fpop`.
    file: Cell<*const OpenFile>,
    /// The operation it is in, for reports.
    call: Cell<&'static str>,
}

/// All threads, for the grace periods.
static THREADS: Hidden<Vec<Weak<Inner>>> = Hidden::new(Vec::new());

thread_local! {
    static LOCAL: Local = {
        static LAST: AtomicU64 = AtomicU64::new(0);
        let inner = Arc::new(Inner {
            id: LAST.fetch_add(1, Ordering::Relaxed) + 1,
            #[cfg(not(any(bpfrs_loom, bpfrs_shuttle)))]
            epoch: AtomicU64::new(0),
            wait: Mutex::new(Wait::default()),
            changed: Condvar::new(),
        });
        memguard::prepare();
        let mut threads = guard(&THREADS);
        threads.retain(|thread| thread.strong_count() != 0);
        threads.push(Arc::downgrade(&inner));
        Local {
            thread: Thread(inner),
            sections: RefCell::default(),
            monitors: RefCell::default(),
            context: Cell::new(None),
            file: Cell::new(std::ptr::null()),
            call: Cell::new("no operation"),
        }
    };
}

/// All threads there are.
pub(super) fn all() -> Vec<Thread> {
    guard(&THREADS).iter().filter_map(Weak::upgrade).map(Thread).collect()
}

/// The calling thread's.
pub(super) fn id() -> u64 {
    LOCAL.with(|local| local.thread.id())
}

/// Notes an epoch section of the calling thread: whether it is the outermost.
pub(super) fn enter_section(tracker: usize) -> bool {
    sections(|trackers| {
        assert!(!trackers.contains(&tracker), "an epoch tracker is used twice");
        trackers.push(tracker);
        trackers.len() == 1
    })
}

/// The end of an epoch section: whether it was the outermost.
pub(super) fn exit_section(tracker: usize) -> bool {
    sections(|trackers| {
        let last = trackers.pop();
        assert!(last.is_some(), "left an epoch section that was not entered");
        assert!(last == Some(tracker), "left an epoch section other than the last");
        trackers.is_empty()
    })
}

/// The epoch sections of the calling thread, by tracker.
fn sections<R>(use_them: impl FnOnce(&mut Vec<usize>) -> R) -> R {
    LOCAL.with(|local| use_them(&mut local.sections.borrow_mut()))
}

/// The monitors that the calling thread has locked.
pub(super) fn monitors<R>(use_them: impl FnOnce(&mut Vec<usize>) -> R) -> R {
    LOCAL.with(|local| use_them(&mut local.monitors.borrow_mut()))
}

/// What WITNESS checks before `what`, which sleeps.
pub(super) fn may_sleep(what: &str) {
    assert!(monitors(|held| held.is_empty()), "{what} with a monitor locked");
    may_sleep_unlocked(what);
}

/// As [`may_sleep`], for `what` that releases the one lock itself.
pub(super) fn may_sleep_unlocked(what: &str) {
    assert!(sections(|trackers| trackers.is_empty()), "{what} inside an epoch section");
    if let Some(context) = LOCAL.with(|local| local.context.get()) {
        panic!("{what} in {context}");
    }
}

/// What is true around `if_output`: inside the epoch, and no lock that a tap takes.
pub(super) fn may_output() {
    assert!(sections(|trackers| !trackers.is_empty()), "if_output outside the epoch");
    assert!(monitors(|held| held.is_empty()), "if_output with a monitor locked");
}

/// Runs `body` where sleeping is forbidden.
pub(super) fn without_sleeping<R>(context: &'static str, body: impl FnOnce() -> R) -> R {
    let before = LOCAL.with(|local| local.context.replace(Some(context)));
    let result = body();
    LOCAL.with(|local| local.context.set(before));
    result
}

/// Whether an epoch callback could interrupt here without a lock in its way.
#[cfg(any(bpfrs_loom, bpfrs_shuttle))]
pub(super) fn may_run_callbacks() -> bool {
    monitors(|held| held.is_empty())
        && sections(|trackers| trackers.is_empty())
        && LOCAL.with(|local| local.context.get().is_none())
}

/// What WITNESS checks before taking devfs' own mutex.
pub(super) fn may_lock_devfs(what: &str) {
    assert!(monitors(|held| held.is_empty()), "{what} with a monitor locked: lock order reversal");
    let context = LOCAL.with(|local| local.context.get());
    assert!(context != Some(PURGE), "{what} in {PURGE}: recursion on devfs' mutex");
}

/// The context of `d_purge`.
pub(super) const PURGE: &str = "d_purge";

/// The file whose operation the calling thread is in: `td_fpop`.
pub(super) fn current_file() -> *const OpenFile {
    LOCAL.with(|local| local.file.get())
}

/// Runs `body` as the operation `call` on `file`.
pub(super) fn with_file<R>(
    call: &'static str,
    file: *const OpenFile,
    body: impl FnOnce() -> R,
) -> R {
    let before = LOCAL.with(|local| (local.file.replace(file), local.call.replace(call)));
    let result = body();
    LOCAL.with(|local| (local.file.set(before.0), local.call.set(before.1)));
    result
}

/// The calling thread, and what it is doing.
pub(super) fn describe() -> String {
    LOCAL.with(|local| {
        let (id, thread) = (local.thread.id(), std::thread::current());
        let name = thread.name().map(|name| format!(" \"{name}\"")).unwrap_or_default();
        let place = local.context.get().unwrap_or(local.call.get());
        format!("thread {id}{name}, in {place}")
    })
}
