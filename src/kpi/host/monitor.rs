// SPDX-License-Identifier: BSD-2-Clause
//! Monitors: a mutex(9), its sleepers, its selecters and its callout(9).

use std::collections::BTreeMap;
use std::ffi::c_int;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, Once};
use std::time::{Duration, Instant};

use bpfrs_sys::{
    BPFRS_TIMER_IDLE, BPFRS_TIMER_TIMED_OUT, BPFRS_TIMER_WAITING, bpfrs_const, bpfrs_monitor,
};

use super::lock::Lock;
use super::object::{Hold, Kind};
use super::thread::{self, Channel, End, Thread};
use super::{guard, time};

pub(super) struct Monitor {
    lock: Lock,
    /// Touched with `lock` held.
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    sleepers: Vec<Thread>,
    selecters: Vec<Thread>,
    /// `BPFRS_TIMER_*`.
    timer: c_int,
    /// Which start of the callout counts: an older one comes to nothing.
    generation: u64,
    /// Nobody may wait any more.
    drained: bool,
}

impl Kind for Monitor {
    fn live() -> &'static AtomicUsize {
        static LIVE: AtomicUsize = AtomicUsize::new(0);
        &LIVE
    }
}

impl Monitor {
    fn address(&self) -> usize {
        std::ptr::from_ref(self).addr()
    }

    fn lock(&self) {
        thread::monitors(|held| {
            assert!(!held.contains(&self.address()), "recursion on the monitor lock");
            assert!(held.is_empty(), "a second monitor is locked: lock order");
        });
        self.lock.acquire();
        thread::monitors(|held| held.push(self.address()));
    }

    fn unlock(&self) {
        self.lock.assert_owned("unlock");
        thread::monitors(|held| held.retain(|other| *other != self.address()));
        self.lock.release();
    }

    fn wakeup(&self) {
        self.lock.assert_owned("wakeup(9)");
        let mut state = guard(&self.state);
        for sleeper in state.sleepers.drain(..) {
            sleeper.wake(Channel::Sleep);
        }
        for selecter in state.selecters.drain(..) {
            selecter.wake(Channel::Select);
        }
    }

    fn sleep(&self, ticks: c_int, interruptible: bool) -> c_int {
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
        let deadline = (ticks > 0).then(|| Instant::now() + time::duration(ticks));
        self.unlock();
        let end = me.wait(Channel::Sleep, interruptible, deadline);
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
        }
        // seldrain(9); the sleepers were woken before, this is once more.
        self.wakeup();
        self.unlock();
    }
}

/// Callouts by time: the monitor, and the generation of the start.
static WHEEL: Mutex<BTreeMap<(Instant, u64), (Hold<Monitor>, u64)>> = Mutex::new(BTreeMap::new());
static TURNED: Condvar = Condvar::new();

/// The softclock(9) thread.
fn softclock() {
    let mut wheel = guard(&WHEEL);
    loop {
        let now = Instant::now();
        let next = wheel.keys().next().copied();
        wheel = match next {
            Some(at) if at.0 <= now => {
                let due = wheel.remove(&at);
                drop(wheel);
                if let Some((monitor, generation)) = due {
                    thread::without_sleeping("a callout", || expire(&monitor, generation));
                }
                guard(&WHEEL)
            }
            Some((at, _)) => {
                TURNED.wait_timeout(wheel, at.saturating_duration_since(now)).expect("live").0
            }
            None => TURNED.wait(wheel).expect("live"),
        };
    }
}

fn expire(monitor: &Monitor, generation: u64) {
    monitor.lock();
    let current = {
        let mut state = guard(&monitor.state);
        let current = state.generation == generation;
        if current {
            state.timer = BPFRS_TIMER_TIMED_OUT;
        }
        current
    };
    if current {
        monitor.wakeup();
    }
    monitor.unlock();
}

fn start_callout(monitor: Hold<Monitor>, generation: u64, after: Duration) {
    static SOFTCLOCK: Once = Once::new();
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    SOFTCLOCK.call_once(|| {
        std::thread::spawn(softclock);
    });
    let number = COUNT.fetch_add(1, Ordering::Relaxed) as u64;
    guard(&WHEEL).insert((Instant::now() + after, number), (monitor, generation));
    TURNED.notify_one();
}

/// Takes stopped callouts off the wheel, whose monitors they keep.
pub(super) fn sweep() {
    let stale = {
        let mut wheel = guard(&WHEEL);
        let is_stale = |(monitor, generation): &(Hold<Monitor>, u64)| {
            guard(&monitor.state).generation != *generation
        };
        let keys: Vec<_> =
            wheel.iter().filter(|(_, due)| is_stale(due)).map(|(key, _)| *key).collect();
        keys.iter().filter_map(|key| wheel.remove(key)).collect::<Vec<_>>()
    };
    drop(stale);
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
    Hold::new(Monitor { lock: Lock::new("monitor"), state: Mutex::default() }).into_raw()
}

#[unsafe(no_mangle)]
unsafe extern "C" fn bpfrs_kpi_monitor_free(raw: *mut bpfrs_monitor) {
    // SAFETY: the driver's monitor; its reference is given up here.
    let monitor = unsafe { Hold::<Monitor>::from_raw(raw) };
    assert!(monitor.lock.is_free(), "a locked monitor is freed");
    {
        let state = guard(&monitor.state);
        assert!(state.sleepers.is_empty(), "a monitor with sleepers is freed");
        assert!(state.selecters.is_empty(), "a monitor with selecters is freed");
        assert!(
            state.drained || state.timer != BPFRS_TIMER_WAITING,
            "a monitor with a running callout is freed"
        );
    }
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
unsafe extern "C" fn bpfrs_kpi_monitor_sleep(
    raw: *mut bpfrs_monitor,
    ticks: c_int,
    interruptible: c_int,
) -> c_int {
    // SAFETY: the driver's monitor.
    unsafe { borrow(raw) }.sleep(ticks, interruptible != 0)
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
unsafe extern "C" fn bpfrs_kpi_monitor_timer_start(raw: *mut bpfrs_monitor, ticks: c_int) {
    // SAFETY: the driver's monitor.
    let monitor = unsafe { borrow(raw) };
    monitor.lock.assert_owned("callout_reset(9)");
    let generation = {
        let mut state = guard(&monitor.state);
        assert!(!state.drained, "callout_reset(9) on a monitor that was drained");
        state.timer = BPFRS_TIMER_WAITING;
        state.generation += 1;
        state.generation
    };
    start_callout(monitor, generation, time::duration(ticks));
}

#[unsafe(no_mangle)]
unsafe extern "C" fn bpfrs_kpi_monitor_timer_stop(raw: *mut bpfrs_monitor) {
    // SAFETY: the driver's monitor.
    let monitor = unsafe { borrow(raw) };
    monitor.lock.assert_owned("callout_stop(9)");
    let mut state = guard(&monitor.state);
    state.generation += 1;
    state.timer = BPFRS_TIMER_IDLE;
}

#[unsafe(no_mangle)]
unsafe extern "C" fn bpfrs_kpi_monitor_timer_state(raw: *mut bpfrs_monitor) -> c_int {
    // SAFETY: the driver's monitor.
    let monitor = unsafe { borrow(raw) };
    monitor.lock.assert_owned("reading the callout's state");
    guard(&monitor.state).timer
}

#[unsafe(no_mangle)]
unsafe extern "C" fn bpfrs_kpi_monitor_drain(raw: *mut bpfrs_monitor) {
    // SAFETY: the driver's monitor.
    unsafe { borrow(raw) }.drain();
}
