// SPDX-License-Identifier: BSD-2-Clause
//! kqueue(2): knotes, their queues, and a descriptor's list of them.
//!
//! The order of things is that of `kern_event.c`: a list's lock (a monitor)
//! comes before a queue's; a knote that somebody is busy with is in flux, and
//! nobody else drops it; the knotes of a file descriptor go before its file.

use std::ffi::{c_int, c_void};
use std::sync::atomic::{AtomicPtr, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex as Hidden, Weak};
use std::time::Duration;

use bpfrs_sys::{self as sys, bpfrs_const, knote};

use super::clock::Deadline;
use super::devfs::{File, OpenFile};
use super::monitor::Inner as Monitor;
use super::object::{Hold, Kind};
use super::thread::{self, Channel, End, Thread};
use super::{guard, guard_seen};
use crate::kpi::primitive::{Condvar, Mutex, MutexGuard};

/// What kevent(2) reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kevent {
    /// [`File::descriptor`] of the file.
    pub ident: u64,
    /// `EVFILT_*`.
    pub filter: i32,
    /// Bytes to be read or written.
    pub data: i64,
    /// EV_EOF.
    pub eof: bool,
}

/// A registration.
pub(super) struct Knote {
    queue: Arc<Queue>,
    /// `kn_fp`; none once it is dropped.
    file: Hidden<Option<Arc<OpenFile>>>,
    /// `kn_knlist`; changes with the list's lock.
    list: Hidden<Option<Arc<Monitor>>>,
    hook: AtomicPtr<c_void>,
    /// What was reported last; changes with the list's lock.
    kevent: Hidden<Kevent>,
    /// Changes with the queue's lock.
    status: Hidden<Status>,
}

struct Status {
    /// How many are busy with it: `kn_influx`.
    flux: u32,
    /// They are only asking its filter: KN_SCAN.
    scan: bool,
    /// KN_ACTIVE.
    active: bool,
    /// KN_DETACHED.
    detached: bool,
}

impl Kind for Knote {
    fn live() -> &'static AtomicUsize {
        static LIVE: AtomicUsize = AtomicUsize::new(0);
        &LIVE
    }
}

/// How many knotes are on a list, and so may call the driver.
static ATTACHED: AtomicUsize = AtomicUsize::new(0);

/// How many knotes may call the driver.
pub(super) fn attached() -> usize {
    ATTACHED.load(Ordering::SeqCst)
}

/// A kqueue, as long as somebody has a knote of it.
struct Queue {
    state: Mutex<State>,
    /// A knote is not in flux any more.
    settled: Condvar,
}

#[derive(Default)]
struct State {
    knotes: Vec<Hold<Knote>>,
    sleepers: Vec<Thread>,
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, State> {
        guard_seen(&self.state)
    }

    /// A knote that `which` wants and nobody is busy with; waits for those
    /// that somebody is. Now it is in flux.
    fn take(&self, scan: bool, which: impl Fn(&Knote) -> bool) -> Option<Hold<Knote>> {
        let mut state = self.lock();
        loop {
            let knote = state.knotes.iter().find(|knote| which(knote)).cloned()?;
            {
                let mut status = guard(&knote.status);
                if status.flux == 0 {
                    (status.flux, status.scan) = (1, scan);
                    drop(status);
                    return Some(knote);
                }
            }
            state = self.settled.wait(state).expect("a live queue");
        }
    }

    fn drop_all(&self, which: impl Fn(&Knote) -> bool) {
        while let Some(knote) = self.take(false, &which) {
            knote.drop_attached();
        }
    }
}

impl State {
    fn wake(&mut self) {
        for sleeper in self.sleepers.drain(..) {
            sleeper.wake(Channel::Sleep);
        }
    }
}

impl Knote {
    fn new(queue: &Arc<Queue>, file: Option<Arc<OpenFile>>, ident: u64, filter: c_int) -> Self {
        Knote {
            queue: Arc::clone(queue),
            file: Hidden::new(file),
            list: Hidden::new(None),
            hook: AtomicPtr::new(std::ptr::null_mut()),
            kevent: Hidden::new(Kevent { ident, filter, data: 0, eof: false }),
            status: Hidden::new(Status { flux: 1, scan: false, active: false, detached: true }),
        }
    }

    fn is(&self, ident: u64, filter: c_int) -> bool {
        let kevent = guard(&self.kevent);
        (kevent.ident, kevent.filter) == (ident, filter)
    }

    /// One more reference to its file: fhold(9).
    pub(super) fn file(&self) -> Option<Arc<OpenFile>> {
        guard(&self.file).clone()
    }

    fn list(&self) -> Option<Arc<Monitor>> {
        guard(&self.list).clone()
    }

    /// knlist_add(9), with the list's lock.
    pub(super) fn join(&self, list: &Arc<Monitor>, hook: *mut c_void) {
        let _queue = self.queue.lock();
        let mut status = guard(&self.status);
        assert!(status.detached, "a knote that is on a list is added to one");
        assert!(status.flux != 0, "a knote is added to a list, and not in flux");
        status.detached = false;
        self.hook.store(hook, Ordering::Relaxed);
        *guard(&self.list) = Some(Arc::clone(list));
        ATTACHED.fetch_add(1, Ordering::SeqCst);
    }

    /// knlist_remove(9), with the list's lock.
    pub(super) fn leave(&self) {
        let _queue = self.queue.lock();
        let mut status = guard(&self.status);
        assert!(!status.detached, "a knote is detached twice");
        status.detached = true;
        *guard(&self.list) = None;
        ATTACHED.fetch_sub(1, Ordering::SeqCst);
    }

    /// `f_event`, with the list's lock.
    fn event(&self) -> bool {
        self.list().expect("a knote on a list").assert_owned("f_event");
        let mut kevent = guard(&self.kevent);
        let hook = self.hook.load(Ordering::Relaxed);
        // SAFETY: the driver's hook, of a knote that is on its list; the lock
        // is held.
        let told = unsafe { sys::bpfrs_rs_kqevent(hook, kevent.filter, &raw mut kevent.data) };
        kevent.eof |= told == sys::BPFRS_KNOTE_EOF;
        told != sys::BPFRS_KNOTE_QUIET
    }

    /// Asks the filter of a knote in flux, which it is no longer then: the
    /// event, if there is one.
    fn ask(&self) -> Option<Kevent> {
        let list = self.list().expect("a knote in flux stays on its list");
        list.lock();
        let event = self.event().then(|| *guard(&self.kevent));
        let mut queue = self.queue.lock();
        {
            let mut status = guard(&self.status);
            if event.is_some() && !status.active {
                queue.wake();
            }
            status.active = event.is_some();
            (status.flux, status.scan) = (status.flux - 1, false);
        }
        list.unlock();
        drop(queue);
        self.queue.settled.notify_all();
        event
    }

    /// knote_drop: the caller has it in flux.
    fn drop_attached(&self) {
        let attached = !guard(&self.status).detached;
        if attached {
            let (hook, raw) = (self.hook.load(Ordering::Relaxed), self.raw());
            // SAFETY: the driver's hook; it is called once, since nobody else
            // drops a knote in flux.
            unsafe { sys::bpfrs_rs_kqdetach(hook, raw) };
        }
        self.drop_detached();
    }

    fn raw(&self) -> *mut knote {
        let queue = self.queue.lock();
        let knotes = &mut queue.knotes.iter();
        let me = knotes.find(|knote| std::ptr::eq(&raw const ***knote, self));
        me.expect("a knote of its queue").raw()
    }

    /// knote_drop_detached.
    fn drop_detached(&self) {
        let mut queue = self.queue.lock();
        let me = {
            let status = guard(&self.status);
            assert!(status.detached, "a knote is dropped while on a list");
            assert!(status.flux == 1, "a knote is dropped, and {} are busy with it", status.flux);
            let at = queue.knotes.iter().position(|knote| std::ptr::eq(&raw const **knote, self));
            queue.knotes.swap_remove(at.expect("a knote is dropped once"))
        };
        drop(queue);
        self.queue.settled.notify_all();
        let file = guard(&self.file).take();
        // It may have been the last reference to the file.
        drop(file);
        drop(me);
    }
}

/// knote(9): a change, told to one knote of a list whose lock is held.
pub(super) fn activate(knote: &Knote) {
    let mut queue = knote.queue.lock();
    {
        let status = guard(&knote.status);
        // Who is busy with it asks the filter later, or drops it.
        if status.flux != 0 && !status.scan {
            return;
        }
    }
    if knote.event() {
        guard(&knote.status).active = true;
        queue.wake();
    }
}

/// knlist_delete(9): takes all knotes of a list from their queues. The driver
/// is not asked.
pub(super) fn delete_all(list: &Monitor) {
    loop {
        list.lock();
        for knote in list.knotes() {
            {
                let _queue = knote.queue.lock();
                let mut status = guard(&knote.status);
                if status.flux != 0 {
                    continue;
                }
                status.flux = 1;
            }
            list.forget_knote(&knote);
            knote.drop_detached();
        }
        // Those in flux: whoever is busy with them needs the list's lock. One
        // wait, then another look: a knote that was dropped stays in flux.
        let Some(busy) = list.knotes().into_iter().next() else { break };
        let queue = busy.queue.lock();
        list.unlock();
        if guard(&busy.status).flux != 0 {
            drop(busy.queue.settled.wait(queue).expect("a live queue"));
        }
    }
    list.unlock();
}

/// A kqueue. Dropping it closes it.
pub struct Kqueue(Arc<Queue>);

impl Kqueue {
    /// kqueue(2).
    #[expect(clippy::new_without_default, reason = "it does something")]
    pub fn new() -> Kqueue {
        Kqueue(Arc::new(Queue { state: Mutex::new(State::default()), settled: Condvar::new() }))
    }

    /// kevent(2), EV_ADD: a filter (`EVFILT_*`) for a file descriptor.
    ///
    /// # Errors
    /// ENXIO once the vnode is dead; what the driver says.
    pub fn add(&self, file: &File, filter: i32) -> Result<(), i32> {
        thread::may_sleep("kevent(2)");
        let ident = file.descriptor();
        let known = self.0.take(true, |knote| knote.is(ident, filter));
        let Some(knote) = known else { return self.register(file, filter) };
        knote.ask();
        Ok(())
    }

    fn register(&self, file: &File, filter: i32) -> Result<(), i32> {
        let open = file.open_file();
        let ident = file.descriptor();
        let knote = Hold::new(Knote::new(&self.0, Some(Arc::clone(open)), ident, filter));
        self.0.lock().knotes.push(knote.clone());
        file.watched_by(Watcher(Arc::downgrade(&self.0)));
        let error = open.kqfilter(knote.raw(), filter);
        if error != 0 {
            knote.drop_detached();
            return Err(error);
        }
        knote.ask();
        Ok(())
    }

    /// kevent(2): waits for events, `timeout` at the most; none after it.
    ///
    /// # Errors
    /// EINTR.
    pub fn wait(&self, timeout: Option<Duration>) -> Result<Vec<Kevent>, i32> {
        thread::may_sleep("kevent(2)");
        let deadline = timeout.map(Deadline::after);
        let me = Thread::current();
        loop {
            let events = self.scan();
            if !events.is_empty() {
                return Ok(events);
            }
            {
                let mut queue = self.0.lock();
                if queue.knotes.iter().any(|knote| guard(&knote.status).active) {
                    continue;
                }
                me.arm(Channel::Sleep);
                queue.sleepers.push(me.clone());
            }
            let end = me.wait(Channel::Sleep, deadline);
            self.0.lock().sleepers.retain(|sleeper| sleeper.id() != me.id());
            match end {
                End::Woken => {}
                End::Signalled => return Err(bpfrs_const::BPFRS_EINTR),
                End::TimedOut => return Ok(Vec::new()),
            }
        }
    }

    /// Asks the active knotes again, each once: an event may be over.
    fn scan(&self) -> Vec<Kevent> {
        let is_active = |knote: &Knote| guard(&knote.status).active;
        let active: Vec<Hold<Knote>> =
            self.0.lock().knotes.iter().filter(|knote| is_active(knote)).cloned().collect();
        let ask = |knote: &Hold<Knote>| {
            let same = |other: &Knote| std::ptr::eq(other, &raw const **knote) && is_active(other);
            self.0.take(true, same)?.ask()
        };
        active.iter().filter_map(ask).collect()
    }
}

impl Drop for Kqueue {
    fn drop(&mut self) {
        self.0.drop_all(|_| true);
    }
}

/// A kqueue that may have knotes of a file descriptor.
pub(super) struct Watcher(Weak<Queue>);

impl Watcher {
    /// knote_fdclose, for this queue.
    pub(super) fn descriptor_closes(&self, ident: u64) {
        if let Some(queue) = self.0.upgrade() {
            queue.drop_all(|knote| guard(&knote.kevent).ident == ident);
        }
    }
}

/// A number for a file descriptor; none is used twice.
pub(super) fn new_descriptor() -> u64 {
    static LAST: AtomicU64 = AtomicU64::new(2);
    LAST.fetch_add(1, Ordering::Relaxed) + 1
}

#[cfg(all(test, not(any(bpfrs_loom, bpfrs_shuttle))))]
mod tests {
    //! Negative controls: what INVARIANTS would say.
    use super::*;

    fn list() -> Arc<Monitor> {
        Arc::new(Monitor::new())
    }

    fn knote() -> Hold<Knote> {
        let Kqueue(queue) = &Kqueue::new();
        Hold::new(Knote::new(queue, None, 3, sys::BPFRS_EVFILT_READ))
    }

    #[test]
    #[should_panic(expected = "knlist_add(9) without the monitor lock")]
    fn added_without_the_lock() {
        list().add_knote(knote(), std::ptr::null_mut());
    }

    #[test]
    #[should_panic(expected = "a knote is detached twice")]
    fn detached_twice() {
        let (list, knote) = (list(), knote());
        list.lock();
        list.add_knote(knote.clone(), std::ptr::null_mut());
        list.forget_knote(&knote);
        list.forget_knote(&knote);
    }

    #[test]
    #[should_panic(expected = "a knote is dropped while on a list")]
    fn dropped_while_on_a_list() {
        let (list, knote) = (list(), knote());
        list.lock();
        list.add_knote(knote.clone(), std::ptr::null_mut());
        knote.drop_detached();
    }

    #[test]
    #[should_panic(expected = "f_event without the monitor lock")]
    fn asked_without_the_lock() {
        let (list, knote) = (list(), knote());
        list.lock();
        list.add_knote(knote.clone(), std::ptr::null_mut());
        list.unlock();
        guard(&knote.status).flux = 0;
        activate(&knote);
    }

    #[test]
    #[should_panic(expected = "a monitor with knotes is freed")]
    fn freed_with_knotes() {
        let list = list();
        list.lock();
        list.add_knote(knote(), std::ptr::null_mut());
        list.unlock();
        list.check_unused();
    }
}
