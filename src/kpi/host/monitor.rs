// SPDX-License-Identifier: BSD-2-Clause
//! Monitors: a mutex(9), its sleepers, its selecters, its knotes and its
//! callout(9).

use std::collections::BTreeMap;
use std::ffi::{c_int, c_void};
use std::ops::Deref;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bpfrs_sys::{bpfrs_const, bpfrs_monitor, knote};

use super::clock::{self, Deadline};
use super::errno::ESRCH;
use super::hook::{self, Hook};
use super::kqueue::{self, Knote};
use super::lock::Lock;
use super::object::{Hold, Kind};
use super::thread::{self, Channel, End, Thread};
use super::{guard, time};
use crate::kpi::primitive::relax;

/// What the driver has the address of. The wheel keeps the rest longer.
pub(super) struct Monitor(Arc<Inner>);

pub(super) struct Inner {
    lock: Lock,
    /// Touched with `lock` held.
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    sleepers: Vec<Thread>,
    selecters: Vec<Thread>,
    /// `si_note`.
    knotes: Vec<Hold<Knote>>,
    /// Hooks that knotes have: those on the list, and those that
    /// knlist_delete(9) took from it.
    hooks: u32,
    /// The callout was started, and neither stopped nor run since.
    waiting: bool,
    /// Which start of the callout counts: an older one comes to nothing.
    generation: u64,
    /// Who gets the signal of FIOASYNC: fsetown(9).
    owner: c_int,
    /// Nobody may wait any more.
    drained: bool,
}

impl Kind for Monitor {
    fn live() -> &'static AtomicUsize {
        static LIVE: AtomicUsize = AtomicUsize::new(0);
        &LIVE
    }
}

impl Deref for Monitor {
    type Target = Arc<Inner>;

    fn deref(&self) -> &Arc<Inner> {
        &self.0
    }
}

impl Inner {
    pub(super) fn new() -> Self {
        Inner { lock: Lock::new("monitor"), state: Mutex::default() }
    }

    fn address(&self) -> usize {
        std::ptr::from_ref(self).addr()
    }

    pub(super) fn lock(&self) {
        thread::monitors(|held| {
            assert!(!held.contains(&self.address()), "recursion on the monitor lock");
            assert!(held.is_empty(), "a second monitor is locked: lock order");
        });
        self.lock.acquire();
        thread::monitors(|held| held.push(self.address()));
    }

    pub(super) fn assert_owned(&self, what: &str) {
        self.lock.assert_owned(what);
    }

    pub(super) fn unlock(&self) {
        self.lock.assert_owned("unlock");
        thread::monitors(|held| held.retain(|other| *other != self.address()));
        self.lock.release();
    }

    fn wakeup(&self) {
        self.lock.assert_owned("wakeup(9)");
        {
            let mut state = guard(&self.state);
            for sleeper in state.sleepers.drain(..) {
                sleeper.wake(Channel::Sleep);
            }
            for selecter in state.selecters.drain(..) {
                selecter.wake(Channel::Select);
            }
        }
        for knote in self.knotes() {
            kqueue::activate(&knote);
        }
    }

    /// The list of knotes, with the lock.
    pub(super) fn knotes(&self) -> Vec<Hold<Knote>> {
        self.lock.assert_owned("the list of knotes");
        guard(&self.state).knotes.clone()
    }

    pub(super) fn add_knote(self: &Arc<Self>, knote: Hold<Knote>, hook: *mut c_void) {
        self.lock.assert_owned("knlist_add(9)");
        knote.join(self, hook);
        let mut state = guard(&self.state);
        state.knotes.push(knote);
        state.hooks += 1;
    }

    /// Takes a knote from the list, with the lock.
    pub(super) fn forget_knote(&self, knote: &Hold<Knote>) {
        self.lock.assert_owned("knlist_remove(9)");
        knote.leave();
        guard(&self.state).knotes.retain(|other| !other.same(knote));
    }

    fn drop_knotes(&self) -> u32 {
        thread::may_sleep("knlist_delete(9)");
        self.lock();
        let file = self.knotes().first().map(|knote| knote.file());
        self.unlock();
        let Some(file) = file else { return 0 };
        // Longer here than hz / 10 there would only be slow.
        clock::pause(Duration::from_millis(20));
        kqueue::delete_all(self);
        self.lock();
        let hooks = std::mem::take(&mut guard(&self.state).hooks);
        self.unlock();
        drop(file);
        hooks
    }

    fn sleep(&self, ticks: c_int) -> c_int {
        self.lock.assert_owned("msleep(9)");
        thread::may_sleep_unlocked("msleep(9)");
        thread::monitors(|held| assert!(held.len() == 1, "msleep(9) with another monitor locked"));
        let me = Thread::current();
        me.arm(Channel::Sleep);
        {
            let mut state = guard(&self.state);
            assert!(!state.drained, "msleep(9) on a monitor that was drained");
            state.sleepers.push(me.clone());
        }
        let deadline = (ticks > 0).then(|| Deadline::after(time::duration(ticks)));
        self.unlock();
        let end = me.wait(Channel::Sleep, deadline);
        self.lock();
        guard(&self.state).sleepers.retain(|sleeper| sleeper.id() != me.id());
        match end {
            End::Woken => 0,
            End::Signalled => bpfrs_const::BPFRS_EINTR,
            End::TimedOut => bpfrs_const::BPFRS_EWOULDBLOCK,
        }
    }

    fn selrecord(&self) {
        self.lock.assert_owned("selrecord(9)");
        let me = Thread::current();
        let mut state = guard(&self.state);
        assert!(!state.drained, "selrecord(9) on a monitor that was drained");
        if state.selecters.iter().all(|selecter| selecter.id() != me.id()) {
            state.selecters.push(me);
        }
    }

    fn drain(&self) {
        thread::may_sleep("callout_drain(9)");
        // A callout that runs has the lock: with it, there is none.
        self.lock();
        {
            let mut state = guard(&self.state);
            state.generation += 1;
            state.drained = true;
            state.owner = 0;
            assert!(state.sleepers.is_empty(), "a drained monitor has sleepers that nobody woke");
            // seldrain(9).
            for selecter in state.selecters.drain(..) {
                selecter.wake(Channel::Select);
            }
        }
        self.unlock();
        self.forget_callouts();
    }

    /// What is freed with it must be over.
    pub(super) fn check_unused(&self) {
        assert!(self.lock.is_free(), "a locked monitor is freed");
        let state = guard(&self.state);
        assert!(state.sleepers.is_empty(), "a monitor with sleepers is freed");
        assert!(state.selecters.is_empty(), "a monitor with selecters is freed");
        assert!(state.knotes.is_empty(), "a monitor with knotes is freed");
        assert!(state.hooks == 0, "a monitor is freed that knotes still keep");
        assert!(state.owner == 0, "a monitor with an owner for SIGIO is freed");
        assert!(state.drained || !state.waiting, "a monitor with a running callout is freed");
    }

    /// Takes stopped callouts off the wheel, and lets one that found itself
    /// stopped let go of the lock.
    fn forget_callouts(&self) {
        loop {
            let mut wheel = guard(&WHEEL);
            wheel.retain(|_, (monitor, ..)| !std::ptr::eq(&raw const **monitor, self));
            // Changes with the wheel locked only.
            if RUNNING.load(Ordering::SeqCst) != self.address() {
                return;
            }
            drop(wheel);
            relax();
        }
    }
}

/// Signals sent, to whom.
static SIGNALS: Mutex<Vec<(c_int, c_int)>> = Mutex::new(Vec::new());

/// The signals that the driver has sent so far: owner and number.
pub fn signals() -> Vec<(c_int, c_int)> {
    guard(&SIGNALS).clone()
}

/// A callout's function and its argument, an address.
type Expired = (unsafe extern "C" fn(*mut c_void), usize);

/// Callouts by time: the monitor, and the generation of the start.
type Wheel = BTreeMap<(Deadline, u64), (Arc<Inner>, u64, Expired)>;
static WHEEL: Mutex<Wheel> = Mutex::new(BTreeMap::new());
/// Address of the monitor whose callout runs; 0 for none.
static RUNNING: AtomicUsize = AtomicUsize::new(0);

/// Runs the callouts that are due.
pub(super) fn turn() {
    loop {
        let mut wheel = guard(&WHEEL);
        let Some(due) = wheel.first_entry().filter(|entry| entry.key().0.has_passed()) else {
            return;
        };
        let (monitor, generation, expired) = due.remove();
        RUNNING.store(monitor.address(), Ordering::SeqCst);
        drop(wheel);
        thread::without_sleeping("a callout", || expire(&monitor, generation, expired));
        let _wheel = guard(&WHEEL);
        RUNNING.store(0, Ordering::SeqCst);
    }
}

fn expire(monitor: &Inner, generation: u64, (expired, arg): Expired) {
    monitor.lock();
    let current = {
        let mut state = guard(&monitor.state);
        let current = state.generation == generation;
        if current {
            state.waiting = false;
        }
        current
    };
    if current {
        // SAFETY: the driver's, with the lock; it was not stopped.
        unsafe { expired(std::ptr::with_exposed_provenance_mut(arg)) };
    }
    monitor.unlock();
}

fn start_callout(monitor: Arc<Inner>, generation: u64, after: Duration, expired: Expired) {
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    let number = COUNT.fetch_add(1, Ordering::Relaxed) as u64;
    guard(&WHEEL).insert((Deadline::after(after), number), (monitor, generation, expired));
    softclock::start();
}

/// The softclock(9) thread.
#[cfg(not(any(bpfrs_loom, bpfrs_shuttle)))]
mod softclock {
    use std::sync::{Condvar, Once};

    use super::super::{clock, guard};
    use super::{WHEEL, turn};

    static CHANGED: Condvar = Condvar::new();

    /// A callout was started.
    pub(super) fn start() {
        static THREAD: Once = Once::new();
        THREAD.call_once(|| {
            std::thread::spawn(run);
        });
        CHANGED.notify_one();
    }

    fn run() {
        loop {
            turn();
            let wheel = guard(&WHEEL);
            let next = wheel.keys().next().map(|(at, _)| *at);
            drop(clock::wait(&CHANGED, wheel, next));
        }
    }
}

/// Time passes when a test says so.
#[cfg(any(bpfrs_loom, bpfrs_shuttle))]
mod softclock {
    pub(super) fn start() {}
}

/// # Safety
/// `raw` came from `bpfrs_kpi_monitor_alloc`.
unsafe fn borrow(raw: *mut bpfrs_monitor) -> Hold<Monitor> {
    // SAFETY: by the contract of this function.
    unsafe { Hold::borrow(raw) }
}

#[unsafe(no_mangle)]
extern "C" fn bpfrs_kpi_monitor_alloc() -> *mut bpfrs_monitor {
    thread::may_sleep("malloc(9) with M_WAITOK");
    Hold::new(Monitor(Arc::new(Inner::new()))).into_raw()
}

#[unsafe(no_mangle)]
unsafe extern "C" fn bpfrs_kpi_monitor_free(raw: *mut bpfrs_monitor) {
    // SAFETY: the driver's monitor; its reference is given up here.
    let monitor = unsafe { Hold::<Monitor>::from_raw(raw) };
    monitor.forget_callouts();
    monitor.check_unused();
    drop(monitor);
}

#[unsafe(no_mangle)]
unsafe extern "C" fn bpfrs_kpi_monitor_lock(raw: *mut bpfrs_monitor) {
    // SAFETY: the driver's monitor.
    unsafe { borrow(raw) }.lock();
}

#[unsafe(no_mangle)]
unsafe extern "C" fn bpfrs_kpi_monitor_unlock(raw: *mut bpfrs_monitor) {
    // SAFETY: the driver's monitor.
    unsafe { borrow(raw) }.unlock();
}

#[unsafe(no_mangle)]
unsafe extern "C" fn bpfrs_kpi_monitor_sleep(raw: *mut bpfrs_monitor, ticks: c_int) -> c_int {
    // SAFETY: the driver's monitor.
    unsafe { borrow(raw) }.sleep(ticks)
}

#[unsafe(no_mangle)]
unsafe extern "C" fn bpfrs_kpi_monitor_wakeup(raw: *mut bpfrs_monitor) {
    // SAFETY: the driver's monitor.
    unsafe { borrow(raw) }.wakeup();
}

#[unsafe(no_mangle)]
unsafe extern "C" fn bpfrs_kpi_monitor_selrecord(raw: *mut bpfrs_monitor) {
    // SAFETY: the driver's monitor.
    unsafe { borrow(raw) }.selrecord();
}

#[unsafe(no_mangle)]
unsafe extern "C" fn bpfrs_kpi_monitor_timer_start(
    raw: *mut bpfrs_monitor,
    ticks: c_int,
    expired: Option<unsafe extern "C" fn(*mut c_void)>,
    arg: *mut c_void,
) {
    let expired = expired.expect("callout_reset(9) without a function");
    // SAFETY: the driver's monitor.
    let monitor = unsafe { borrow(raw) };
    monitor.lock.assert_owned("callout_reset(9)");
    let generation = {
        let mut state = guard(&monitor.state);
        assert!(!state.drained, "callout_reset(9) on a monitor that was drained");
        state.waiting = true;
        state.generation += 1;
        state.generation
    };
    let expired = (expired, arg.expose_provenance());
    start_callout(Arc::clone(&monitor), generation, time::duration(ticks), expired);
}

#[unsafe(no_mangle)]
unsafe extern "C" fn bpfrs_kpi_monitor_timer_stop(raw: *mut bpfrs_monitor) {
    // SAFETY: the driver's monitor.
    let monitor = unsafe { borrow(raw) };
    monitor.lock.assert_owned("callout_stop(9)");
    let mut state = guard(&monitor.state);
    state.generation += 1;
    state.waiting = false;
}

#[unsafe(no_mangle)]
unsafe extern "C" fn bpfrs_kpi_monitor_sigio(raw: *mut bpfrs_monitor, signal: c_int) {
    // SAFETY: the driver's monitor.
    let monitor = unsafe { borrow(raw) };
    monitor.lock.assert_owned("pgsigio(9)");
    let owner = guard(&monitor.state).owner;
    if owner != 0 {
        guard(&SIGNALS).push((owner, signal));
    }
}

/// As fsetown(9), in a world of one process, which leads its group.
#[unsafe(no_mangle)]
unsafe extern "C" fn bpfrs_kpi_monitor_setown(raw: *mut bpfrs_monitor, owner: c_int) -> c_int {
    thread::may_sleep("fsetown(9)");
    if owner != 0 && owner.unsigned_abs() != std::process::id() {
        return ESRCH;
    }
    // SAFETY: the driver's monitor.
    guard(&unsafe { borrow(raw) }.state).owner = owner;
    0
}

#[unsafe(no_mangle)]
unsafe extern "C" fn bpfrs_kpi_monitor_getown(raw: *mut bpfrs_monitor) -> c_int {
    // SAFETY: the driver's monitor.
    guard(&unsafe { borrow(raw) }.state).owner
}

#[unsafe(no_mangle)]
unsafe extern "C" fn bpfrs_kpi_monitor_drain(raw: *mut bpfrs_monitor) {
    // SAFETY: the driver's monitor.
    unsafe { borrow(raw) }.drain();
}

#[unsafe(no_mangle)]
unsafe extern "C" fn bpfrs_kpi_monitor_knote_add(
    raw: *mut bpfrs_monitor,
    knote: *mut knote,
    hook: *mut c_void,
) {
    // SAFETY: the driver's monitor, and the knote of its d_kqfilter.
    let (monitor, knote) = unsafe { (borrow(raw), Hold::borrow(knote)) };
    monitor.add_knote(knote, hook);
}

#[unsafe(no_mangle)]
unsafe extern "C" fn bpfrs_kpi_monitor_knote_remove(raw: *mut bpfrs_monitor, knote: *mut knote) {
    // SAFETY: the driver's monitor, and the knote of its f_detach.
    let (monitor, knote) = unsafe { (borrow(raw), Hold::borrow(knote)) };
    monitor.lock();
    monitor.forget_knote(&knote);
    guard(&monitor.state).hooks -= 1;
    monitor.unlock();
    drop(monitor);
    // Others have the mutex now, before mtx_unlock(9) returned here.
    clock::pause(Duration::ZERO);
    hook::run(Hook::Detach);
    // SAFETY: mtx_unlock(9) may touch the mutex until it returns: the driver's
    // monitor is still there.
    drop(unsafe { borrow(raw) });
}

#[unsafe(no_mangle)]
unsafe extern "C" fn bpfrs_kpi_monitor_knotes_drop(raw: *mut bpfrs_monitor) -> u32 {
    // SAFETY: the driver's monitor.
    unsafe { borrow(raw) }.drop_knotes()
}
