// SPDX-License-Identifier: BSD-2-Clause
//! epoch(9) under a model checker: callbacks run as early as epoch(9) allows,
//! in the next thread that may run them.
//!
//! Which section is older than which callback is told by the order of changes
//! of `CALLED`, which also gives what the fences of a real epoch give: a
//! section that a callback does not wait for sees what was done before the
//! callback was queued.

use std::collections::VecDeque;
use std::sync::Mutex as Hidden;
use std::sync::atomic::Ordering;

use bpfrs_sys::{bpfrs_epoch_context, bpfrs_epoch_tracker};

use super::{guard, thread};
use crate::kpi::primitive::{AtomicUsize, relax, statics};

type Callback = unsafe extern "C" fn(*mut bpfrs_epoch_context);

/// The checker does not see this: it is changed in one step.
struct Book {
    /// Numbers sections and callbacks in their order.
    clock: u64,
    /// When each section that is under way began.
    sections: Vec<(u64, u64)>,
    callbacks: VecDeque<(u64, usize, Callback)>,
    queued: u64,
    done: u64,
}

static BOOK: Hidden<Book> = Hidden::new(Book {
    clock: 0,
    sections: Vec::new(),
    callbacks: VecDeque::new(),
    queued: 0,
    done: 0,
});

statics! {
    /// Changed by each section that begins and each callback that is queued.
    static CALLED: AtomicUsize = AtomicUsize::new(0);
    /// Changed by each section that ends.
    static LEFT: AtomicUsize = AtomicUsize::new(0);
}

/// A callback that nothing older than it holds up.
fn next() -> Option<(usize, Callback)> {
    let mut book = guard(&BOOK);
    let (queued, _, _) = book.callbacks.front()?;
    if book.sections.iter().any(|(_, began)| began < queued) {
        return None;
    }
    book.callbacks.pop_front().map(|(_, context, callback)| (context, callback))
}

/// Runs the callbacks that may run, if this thread may.
fn reclaim() {
    if !thread::may_run_callbacks() {
        return;
    }
    while let Some((context, callback)) = next() {
        CALLED.fetch_add(0, Ordering::Acquire);
        LEFT.fetch_add(0, Ordering::Acquire);
        // SAFETY: queued by bpfrs_kpi_epoch_call, run once, after the sections
        // that the caller asked to wait for.
        thread::without_sleeping("an epoch callback", || unsafe {
            callback(std::ptr::with_exposed_provenance_mut(context));
        });
        guard(&BOOK).done += 1;
    }
}

/// Waits until every section that has begun has ended.
pub(super) fn wait() {
    CALLED.fetch_add(1, Ordering::Release);
    let now = {
        let mut book = guard(&BOOK);
        book.clock += 1;
        book.clock
    };
    while guard(&BOOK).sections.iter().any(|(_, began)| *began < now) {
        relax();
    }
    LEFT.fetch_add(0, Ordering::Acquire);
}

/// How many callbacks have not run.
pub fn pending() -> u64 {
    let book = guard(&BOOK);
    book.queued - book.done
}

/// Waits until no callback is left, those queued by callbacks included.
pub fn settle() {
    while pending() != 0 {
        reclaim();
        relax();
    }
}

#[unsafe(no_mangle)]
extern "C" fn bpfrs_kpi_epoch_enter(tracker: *mut bpfrs_epoch_tracker) {
    if thread::enter_section(tracker.addr()) {
        CALLED.fetch_add(0, Ordering::Acquire);
        let mut book = guard(&BOOK);
        book.clock += 1;
        let section = (thread::id(), book.clock);
        book.sections.push(section);
    }
}

#[unsafe(no_mangle)]
extern "C" fn bpfrs_kpi_epoch_exit(tracker: *mut bpfrs_epoch_tracker) {
    if thread::exit_section(tracker.addr()) {
        LEFT.fetch_add(1, Ordering::Release);
        let me = thread::id();
        guard(&BOOK).sections.retain(|(thread, _)| *thread != me);
        reclaim();
    }
}

#[unsafe(no_mangle)]
extern "C" fn bpfrs_kpi_epoch_call(context: *mut bpfrs_epoch_context, callback: Option<Callback>) {
    let callback = callback.expect("an epoch callback");
    let address = context.expose_provenance();
    CALLED.fetch_add(1, Ordering::Release);
    {
        let mut book = guard(&BOOK);
        let twice = book.callbacks.iter().any(|(_, other, _)| *other == address);
        assert!(!twice, "an epoch context is queued twice");
        book.clock += 1;
        let call = (book.clock, address, callback);
        book.callbacks.push_back(call);
        book.queued += 1;
    }
    reclaim();
}

#[unsafe(no_mangle)]
extern "C" fn bpfrs_kpi_epoch_drain() {
    thread::may_sleep("epoch_drain_callbacks(9)");
    let target = guard(&BOOK).queued;
    loop {
        reclaim();
        if guard(&BOOK).done >= target {
            break;
        }
        relax();
    }
}
