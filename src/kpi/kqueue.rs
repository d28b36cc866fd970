// SPDX-License-Identifier: BSD-2-Clause
//! kqueue(2): knotes on a descriptor's monitor.
//!
//! A knote keeps the descriptor: with its list, its lock and all that a filter
//! looks at (I6). The kernel asks a filter with the monitor's lock held, from
//! a wakeup or from kevent(2), and detaches a knote when the file is closed,
//! when the kqueue is, or by EV_DELETE.

use core::ffi::{c_int, c_void};
use core::marker::PhantomData;
use core::mem::ManuallyDrop;
use core::ptr::NonNull;

use bpfrs_sys as sys;

use super::epoch::Ref;
use super::errno::{Errno, Result};
use crate::bpf_d::BpfD;

/// What a knote waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Filter {
    /// EVFILT_READ.
    Read,
    /// EVFILT_WRITE.
    Write,
}

impl Filter {
    /// # Errors
    /// EPERM for any other `EVFILT_*`, as stock has it.
    pub(super) fn new(filter: c_int) -> Result<Filter> {
        match filter {
            sys::BPFRS_EVFILT_READ => Ok(Filter::Read),
            sys::BPFRS_EVFILT_WRITE => Ok(Filter::Write),
            _ => Err(Errno::EPERM),
        }
    }
}

/// What a knote is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// Nothing to report.
    Quiet,
    /// It may read, or write, so many bytes.
    Ready(usize),
    /// The open ended: EV_EOF, from now on.
    Eof,
}

/// A knote that kevent(2) registers, during `d_kqfilter`.
pub struct Knote<'call> {
    raw: NonNull<sys::knote>,
    call: PhantomData<&'call mut sys::knote>,
}

impl Knote<'_> {
    /// # Safety
    /// `raw` is the knote of a `d_kqfilter` call, which lasts for the lifetime.
    pub(super) unsafe fn from_raw(raw: NonNull<sys::knote>) -> Self {
        Knote { raw, call: PhantomData }
    }

    /// Puts it on the list of `d`, which it keeps from now on.
    ///
    /// # Errors
    /// ENXIO if the open ended.
    pub fn attach(self, d: &Ref<BpfD>) -> Result<()> {
        let state = d.monitor.lock();
        state.alive()?;
        let hook = d.clone().into_raw();
        // SAFETY: the lock is held, and the knote new and on no list. The
        // reference goes with it until detach() or drop_all() (I6).
        unsafe { sys::bpfrs_kpi_monitor_knote_add(d.monitor.raw(), self.raw.as_ptr(), hook) };
        Ok(())
    }
}

/// What a knote is to be told: `f_event`.
///
/// # Safety
/// `hook` is that of a knote which is attached, and the calling thread has the
/// lock of its monitor.
pub(super) unsafe fn event(hook: NonNull<c_void>, filter: Filter) -> Event {
    // SAFETY: the knote has this reference and stays attached during the call,
    // since detaching it takes the lock.
    let d = ManuallyDrop::new(unsafe { Ref::<BpfD>::from_raw(hook) });
    // SAFETY: kevent(2) took the lock itself; else this is inside wakeup(),
    // whose caller has borrowed nothing from the value.
    unsafe { d.monitor.with_lock_held(|state| BpfD::event(state, filter)) }
}

/// Takes a knote from its list: `f_detach`.
///
/// # Safety
/// `hook` is that of `knote`, which is attached and calls this once.
pub(super) unsafe fn detach(hook: NonNull<c_void>, knote: *mut sys::knote) {
    // SAFETY: the reference that attach() gave the knote, given back once.
    let d = unsafe { Ref::<BpfD>::from_raw(hook) };
    // SAFETY: attached, by the contract of this function. `d` outlives the
    // call: an unload, too, waits until this thread has left the lock (I6).
    unsafe { sys::bpfrs_kpi_monitor_knote_remove(d.monitor.raw(), knote) };
}

/// Takes the knotes that are left from their kqueues. For an open that ended
/// with its node; a file that is closed has none any more. Sleeps.
pub fn drop_all(d: &Ref<BpfD>) {
    // SAFETY: thread context without the lock, as the documentation asks.
    let left = unsafe { sys::bpfrs_kpi_monitor_knotes_drop(d.monitor.raw()) };
    for _ in 0..left {
        // SAFETY: a reference that attach() gave to a knote which is gone, and
        // was not detached. All knotes of a monitor keep the same `d`.
        drop(unsafe { Ref::<BpfD>::from_raw(d.as_raw()) });
    }
}
