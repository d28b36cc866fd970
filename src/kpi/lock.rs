// SPDX-License-Identifier: BSD-2-Clause
//! Locks: [`Monitor`] for one descriptor, [`Control`] for the module.

use core::cell::{Cell, UnsafeCell};
use core::ffi::{c_int, c_void};
use core::marker::PhantomData;
use core::mem::ManuallyDrop;
use core::ops::{Deref, DerefMut};
use core::ptr::NonNull;

use bpfrs_sys as sys;

use super::errno::{Errno, Result};

/// A value with its mutex(9) and with all that waits for it to change:
/// sleepers, select(2)/poll(2), knotes ([`super::kqueue`]), an owner for SIGIO
/// and one callout(9).
///
/// Who holds the lock must not sleep, fault or allocate.
pub struct Monitor<T> {
    raw: NonNull<sys::bpfrs_monitor>,
    /// Touched with the lock held.
    timer: Cell<Timer>,
    value: UnsafeCell<T>,
}

/// Why a sleep ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "a sleeper looks again at what it waited for"]
pub enum Wake {
    /// Something changed, or nothing: look again.
    Woken,
    /// The time is over.
    TimedOut,
    /// A signal: EINTR or ERESTART, for the caller of the system call.
    Signal(Errno),
}

/// The state of the callout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Timer {
    /// Not started since it was stopped.
    Idle,
    /// Started.
    Waiting,
    /// Expired.
    TimedOut,
}

/// A value that hears of the end of its monitor's callout.
pub trait Expire: Sized {
    /// The time is over.
    fn expired(state: &mut MonitorGuard<'_, Self>);
}

impl<T> Monitor<T> {
    /// Makes the lock around `value`. Sleeps.
    pub fn new(value: T) -> Self {
        // SAFETY: thread context, as the documentation asks.
        let raw = unsafe { sys::bpfrs_kpi_monitor_alloc() };
        let Some(raw) = NonNull::new(raw) else { super::memory::out_of_memory() };
        Monitor { raw, timer: Cell::new(Timer::Idle), value: UnsafeCell::new(value) }
    }

    /// Takes the lock.
    pub fn lock(&self) -> MonitorGuard<'_, T> {
        // SAFETY: the monitor lives as long as self.
        unsafe { sys::bpfrs_kpi_monitor_lock(self.raw.as_ptr()) };
        MonitorGuard { monitor: self, not_send: PhantomData }
    }

    /// Runs `body` with the lock that the calling thread has already, which
    /// stays locked.
    ///
    /// # Safety
    /// The calling thread has it, and uses nothing borrowed from the value
    /// until this returns.
    pub(super) unsafe fn with_lock_held<R>(
        &self,
        body: impl FnOnce(&mut MonitorGuard<'_, T>) -> R,
    ) -> R {
        let guard = MonitorGuard { monitor: self, not_send: PhantomData };
        body(&mut ManuallyDrop::new(guard))
    }

    /// What the border knows the monitor by.
    pub(super) fn raw(&self) -> *mut sys::bpfrs_monitor {
        self.raw.as_ptr()
    }

    /// Who gets the signal of [`MonitorGuard::sigio`]: a process, or minus a
    /// process group; 0 for nobody. Sleeps.
    pub fn set_owner(&self, owner: c_int) -> Result<()> {
        // SAFETY: thread context without the lock, as the documentation asks.
        Errno::check(unsafe { sys::bpfrs_kpi_monitor_setown(self.raw.as_ptr(), owner) })
    }

    /// What [`Monitor::set_owner`] set.
    pub fn owner(&self) -> c_int {
        // SAFETY: the monitor lives as long as self.
        unsafe { sys::bpfrs_kpi_monitor_getown(self.raw.as_ptr()) }
    }

    /// Waits until the callout cannot run any more, lets go of whoever is
    /// still selecting and forgets the owner. For a value whose users never
    /// wait again. Sleeps.
    pub fn drain(&self) {
        // SAFETY: thread context without the lock, as the documentation asks.
        unsafe { sys::bpfrs_kpi_monitor_drain(self.raw.as_ptr()) }
    }
}

impl<T> Drop for Monitor<T> {
    fn drop(&mut self) {
        // SAFETY: nobody else has a reference any more, so nobody waits.
        unsafe { sys::bpfrs_kpi_monitor_free(self.raw.as_ptr()) }
    }
}

// SAFETY: a mutex gives out T, and the timer's state, to one thread at a time.
unsafe impl<T: Send> Send for Monitor<T> {}
// SAFETY: as above; T need not be Sync.
unsafe impl<T: Send> Sync for Monitor<T> {}

/// The lock of a [`Monitor`], held.
#[must_use = "dropping the guard releases the lock at once"]
pub struct MonitorGuard<'a, T> {
    monitor: &'a Monitor<T>,
    /// mutex(9) wants the owner to unlock.
    not_send: PhantomData<*const ()>,
}

impl<T> MonitorGuard<'_, T> {
    /// Releases the lock, sleeps until woken or signalled, and takes it again.
    ///
    /// `ticks` 0 waits for ever.
    pub fn sleep(&mut self, ticks: c_int) -> Wake {
        // SAFETY: the lock is held; `&mut self` shows that nothing borrowed
        // from the value is alive while others change it.
        let error = unsafe { sys::bpfrs_kpi_monitor_sleep(self.raw(), ticks) };
        match Errno::check(error) {
            Ok(()) => Wake::Woken,
            Err(Errno::EWOULDBLOCK) => Wake::TimedOut,
            Err(error) => Wake::Signal(error),
        }
    }

    /// Wakes everybody who waits. Knotes look at the value before this
    /// returns.
    pub fn wakeup(&mut self) {
        // SAFETY: the lock is held; `&mut self` shows that nothing borrowed
        // from the value is alive while the knotes' filters use it.
        unsafe { sys::bpfrs_kpi_monitor_wakeup(self.raw()) }
    }

    /// Sends `sig` to the owner, if there is one.
    pub fn sigio(&mut self, sig: c_int) {
        // SAFETY: the lock is held.
        unsafe { sys::bpfrs_kpi_monitor_sigio(self.raw(), sig) }
    }

    /// Notes the calling thread's select(2) or poll(2).
    pub fn selrecord(&mut self) {
        // SAFETY: the lock is held.
        unsafe { sys::bpfrs_kpi_monitor_selrecord(self.raw()) }
    }

    /// Starts the callout, which calls [`Expire::expired`].
    pub fn start_timer(&mut self, ticks: c_int)
    where
        T: Expire,
    {
        let monitor = core::ptr::from_ref(self.monitor).cast_mut().cast();
        self.monitor.timer.set(Timer::Waiting);
        // SAFETY: the lock is held; the monitor is there when the callout
        // runs, for it is stopped or drained before the value goes (I4).
        unsafe {
            sys::bpfrs_kpi_monitor_timer_start(self.raw(), ticks, Some(expired::<T>), monitor);
        }
    }

    /// Stops the callout and forgets that it expired.
    pub fn stop_timer(&mut self) {
        // The kernel is asked only when there may be something to stop.
        if self.monitor.timer.replace(Timer::Idle) == Timer::Waiting {
            // SAFETY: the lock is held.
            unsafe { sys::bpfrs_kpi_monitor_timer_stop(self.raw()) }
        }
    }

    /// The state of the callout.
    pub fn timer(&self) -> Timer {
        self.monitor.timer.get()
    }

    fn raw(&self) -> *mut sys::bpfrs_monitor {
        self.monitor.raw.as_ptr()
    }
}

/// The callout of a [`Monitor`], with the lock.
unsafe extern "C" fn expired<T: Expire>(monitor: *mut c_void) {
    // SAFETY: what `start_timer` passed, and as it says.
    let monitor = unsafe { &*monitor.cast_const().cast::<Monitor<T>>() };
    monitor.timer.set(Timer::TimedOut);
    // SAFETY: the caller has the lock and nothing borrowed from the value.
    unsafe { monitor.with_lock_held(T::expired) }
}

impl<T> Deref for MonitorGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: the lock is held until self is dropped.
        unsafe { &*self.monitor.value.get() }
    }
}

impl<T> DerefMut for MonitorGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: the lock is held until self is dropped, and self is
        // borrowed exclusively.
        unsafe { &mut *self.monitor.value.get() }
    }
}

impl<T> Drop for MonitorGuard<'_, T> {
    fn drop(&mut self) {
        // SAFETY: this thread holds the lock.
        unsafe { sys::bpfrs_kpi_monitor_unlock(self.raw()) }
    }
}

/// A value under the module's one sleepable lock.
///
/// There is one lock however many values there are: two that are locked at
/// once by one thread are a deadlock, which WITNESS reports.
pub struct Control<T> {
    value: UnsafeCell<T>,
}

impl<T> Control<T> {
    /// Puts `value` under the lock.
    pub const fn new(value: T) -> Self {
        Control { value: UnsafeCell::new(value) }
    }

    /// Takes the lock. Sleeps.
    pub fn lock(&self) -> ControlGuard<'_, T> {
        // SAFETY: thread context without a mutex, as the documentation asks.
        unsafe { sys::bpfrs_kpi_control_lock() };
        ControlGuard { control: self, not_send: PhantomData }
    }
}

// SAFETY: an exclusive lock gives out T to one thread at a time.
unsafe impl<T: Send> Sync for Control<T> {}

/// The lock of a [`Control`], held.
#[must_use = "dropping the guard releases the lock at once"]
pub struct ControlGuard<'a, T> {
    control: &'a Control<T>,
    not_send: PhantomData<*const ()>,
}

impl<T> Deref for ControlGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: the lock is held until self is dropped.
        unsafe { &*self.control.value.get() }
    }
}

impl<T> DerefMut for ControlGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: the lock is held until self is dropped, and self is
        // borrowed exclusively.
        unsafe { &mut *self.control.value.get() }
    }
}

impl<T> Drop for ControlGuard<'_, T> {
    fn drop(&mut self) {
        // SAFETY: this thread holds the lock.
        unsafe { sys::bpfrs_kpi_control_unlock() }
    }
}
