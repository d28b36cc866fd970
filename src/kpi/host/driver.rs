// SPDX-License-Identifier: BSD-2-Clause
//! The driver that the host body calls: `bpfrs_rs_*` of `sys/kpi.h`, or
//! another one that is written over the same border.

use std::ffi::{c_int, c_ulong, c_void};
use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering};

use bpfrs_sys::{self as sys, bpfrs_if, cdev, knote, mbuf, uio};

/// The entry points of a driver; each is what `sys/kpi.h` says of the
/// `bpfrs_rs_` function of its name.
///
/// A driver counts its opens and closes in [`crate::kpi::stats`].
#[expect(missing_docs, reason = "documented in sys/kpi.h")]
#[derive(Debug)]
pub struct Driver {
    pub load: unsafe extern "C" fn() -> c_int,
    pub unload: unsafe extern "C" fn(force: c_int) -> c_int,
    pub clone: unsafe extern "C" fn(unit: c_int) -> *mut cdev,
    pub open: unsafe extern "C" fn(*mut cdev, oflags: c_int) -> c_int,
    pub close: unsafe extern "C" fn(*mut cdev, revoke: c_int) -> c_int,
    pub purge: unsafe extern "C" fn(*mut cdev),
    pub read: unsafe extern "C" fn(*mut cdev, *mut uio, ioflag: c_int) -> c_int,
    pub write: unsafe extern "C" fn(*mut cdev, *mut uio) -> c_int,
    pub ioctl: unsafe extern "C" fn(*mut cdev, command: c_ulong, data: *mut c_void) -> c_int,
    pub poll: unsafe extern "C" fn(*mut cdev, events: c_int) -> c_int,
    pub kqfilter: unsafe extern "C" fn(*mut cdev, *mut knote, filter: c_int) -> c_int,
    pub dtor: unsafe extern "C" fn(private: *mut c_void),
    pub ifdeparture: unsafe extern "C" fn(*mut bpfrs_if),
    pub tap: unsafe extern "C" fn(
        *mut bpfrs_if,
        header: *const c_void,
        header_len: usize,
        chain: *const mbuf,
        inbound: c_int,
    ),
}

/// The driver of this crate.
pub const BPFRS: Driver = Driver {
    load: sys::bpfrs_rs_load,
    unload: sys::bpfrs_rs_unload,
    clone: sys::bpfrs_rs_clone,
    open: sys::bpfrs_rs_open,
    close: sys::bpfrs_rs_close,
    purge: sys::bpfrs_rs_purge,
    read: sys::bpfrs_rs_read,
    write: sys::bpfrs_rs_write,
    ioctl: sys::bpfrs_rs_ioctl,
    poll: sys::bpfrs_rs_poll,
    kqfilter: sys::bpfrs_rs_kqfilter,
    dtor: sys::bpfrs_rs_dtor,
    ifdeparture: sys::bpfrs_rs_ifdeparture,
    tap: sys::bpfrs_rs_tap,
};

/// The one that was loaded last. No thread learns of anything else by it.
static DRIVER: AtomicPtr<Driver> = AtomicPtr::new(ptr::from_ref(&BPFRS).cast_mut());

pub(super) fn set(driver: &'static Driver) {
    DRIVER.store(ptr::from_ref(driver).cast_mut(), Ordering::Relaxed);
}

pub(super) fn driver() -> &'static Driver {
    // SAFETY: comes from a static reference, and nobody writes through it.
    unsafe { &*DRIVER.load(Ordering::Relaxed) }
}
