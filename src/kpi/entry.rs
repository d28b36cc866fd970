// SPDX-License-Identifier: BSD-2-Clause
//! The driver's entry points: the only functions that C calls.
//!
//! Each turns what C passed into types with lifetimes and calls the driver.

use core::ffi::{c_int, c_ulong, c_void};
use core::ptr::{self, NonNull};

use bpfrs_sys as sys;

use super::devfs::Cdev;
use super::epoch::{self, Ref};
use super::errno::Errno;
use super::ifnet::Key;
use super::kqueue::{self, Event, Filter, Knote};
use super::mbuf::{Packet, Start};
use super::user::{Argument, Read, Uio, Write};
use crate::bpf_d::BpfD;
use crate::{dev, tap};

/// `MOD_LOAD`.
#[unsafe(no_mangle)]
extern "C" fn bpfrs_rs_load() -> c_int {
    Errno::value(dev::load())
}

/// `MOD_UNLOAD`.
#[unsafe(no_mangle)]
extern "C" fn bpfrs_rs_unload(force: c_int) -> c_int {
    Errno::value(dev::unload(force != 0))
}

/// dev_clone: a referenced cdev, or NULL.
#[unsafe(no_mangle)]
extern "C" fn bpfrs_rs_clone(unit: c_int) -> *mut sys::cdev {
    let Ok(unit) = u32::try_from(unit) else { return ptr::null_mut() };
    dev::with_node(unit, |node| node.lend()).unwrap_or(ptr::null_mut())
}

/// `d_open`.
///
/// # Safety
/// Called by devfs, through module.c.
#[unsafe(no_mangle)]
unsafe extern "C" fn bpfrs_rs_open(cdev: *mut sys::cdev, oflags: c_int) -> c_int {
    let reads = oflags & sys::bpfrs_const::BPFRS_FREAD as c_int != 0;
    // SAFETY: devfs keeps the cdev during the call.
    Errno::value(dev::open(unsafe { Cdev::from_raw(cdev) }, reads))
}

/// `d_close`.
///
/// # Safety
/// Called by devfs, through module.c.
#[unsafe(no_mangle)]
unsafe extern "C" fn bpfrs_rs_close(cdev: *mut sys::cdev, revoke: c_int) -> c_int {
    // SAFETY: devfs keeps the cdev during the call.
    dev::close(unsafe { Cdev::from_raw(cdev) }, revoke != 0);
    0
}

/// `d_purge`. Called with devfs' mutex held.
///
/// # Safety
/// Called by devfs, through module.c.
#[unsafe(no_mangle)]
unsafe extern "C" fn bpfrs_rs_purge(cdev: *mut sys::cdev) {
    // SAFETY: devfs keeps the cdev during the call.
    dev::purge(unsafe { Cdev::from_raw(cdev) });
}

/// `d_read`.
///
/// # Safety
/// Called by devfs, through module.c.
#[unsafe(no_mangle)]
unsafe extern "C" fn bpfrs_rs_read(
    cdev: *mut sys::cdev,
    uio: *mut sys::uio,
    ioflag: c_int,
) -> c_int {
    let Some(uio) = NonNull::new(uio) else { return Errno::value(Err(Errno::EINVAL)) };
    // SAFETY: devfs keeps the cdev during the call.
    let cdev = unsafe { Cdev::from_raw(cdev) };
    // SAFETY: the uio of this call.
    let mut uio = unsafe { Uio::<Read>::from_raw(uio) };
    let non_block = ioflag & sys::bpfrs_const::BPFRS_O_NONBLOCK as c_int != 0;
    Errno::value(dev::current(cdev).and_then(|d| d.read(&mut uio, non_block)))
}

/// `d_write`.
///
/// # Safety
/// Called by devfs, through module.c.
#[unsafe(no_mangle)]
unsafe extern "C" fn bpfrs_rs_write(cdev: *mut sys::cdev, uio: *mut sys::uio) -> c_int {
    let Some(uio) = NonNull::new(uio) else { return Errno::value(Err(Errno::EINVAL)) };
    // SAFETY: devfs keeps the cdev during the call.
    let cdev = unsafe { Cdev::from_raw(cdev) };
    // SAFETY: the uio of this call.
    let mut uio = unsafe { Uio::<Write>::from_raw(uio) };
    Errno::value(dev::current(cdev).and_then(|d| d.write(&mut uio)))
}

/// `d_ioctl`.
///
/// # Safety
/// Called by devfs, through module.c.
#[unsafe(no_mangle)]
unsafe extern "C" fn bpfrs_rs_ioctl(
    cdev: *mut sys::cdev,
    command: c_ulong,
    data: *mut c_void,
) -> c_int {
    // SAFETY: devfs keeps the cdev during the call.
    let cdev = unsafe { Cdev::from_raw(cdev) };
    // SAFETY: sys_ioctl's buffer for this command and call.
    let argument = unsafe { Argument::from_raw(data, command) };
    Errno::value(dev::current(cdev).and_then(|d| BpfD::ioctl(&d, command, argument)))
}

/// `d_poll`.
///
/// # Safety
/// Called by devfs, through module.c.
#[unsafe(no_mangle)]
unsafe extern "C" fn bpfrs_rs_poll(cdev: *mut sys::cdev, events: c_int) -> c_int {
    // SAFETY: devfs keeps the cdev during the call.
    let cdev = unsafe { Cdev::from_raw(cdev) };
    dev::current(cdev).map_or_else(|_| BpfD::poll_dead(events), |d| d.poll(events))
}

/// `d_kqfilter`.
///
/// # Safety
/// Called by devfs, through module.c.
#[unsafe(no_mangle)]
unsafe extern "C" fn bpfrs_rs_kqfilter(
    cdev: *mut sys::cdev,
    knote: *mut sys::knote,
    filter: c_int,
) -> c_int {
    let Some(knote) = NonNull::new(knote) else { return Errno::value(Err(Errno::EINVAL)) };
    // SAFETY: devfs keeps the cdev during the call.
    let cdev = unsafe { Cdev::from_raw(cdev) };
    // SAFETY: the knote of this call.
    let knote = unsafe { Knote::from_raw(knote) };
    let attached = dev::current(cdev).and_then(|d| {
        Filter::new(filter)?;
        knote.attach(&d)
    });
    Errno::value(attached)
}

/// `f_event`.
///
/// # Safety
/// Called with the monitor's lock held, through module.c, for a knote that
/// `bpfrs_rs_kqfilter` took: with its hook and filter, and a place for the
/// number of bytes.
#[unsafe(no_mangle)]
unsafe extern "C" fn bpfrs_rs_kqevent(hook: *mut c_void, filter: c_int, data: *mut i64) -> c_int {
    let (Some(hook), Ok(filter)) = (NonNull::new(hook), Filter::new(filter)) else {
        return sys::BPFRS_KNOTE_QUIET;
    };
    // SAFETY: by the contract of this function.
    let event = unsafe { kqueue::event(hook, filter) };
    let (bytes, told) = match event {
        Event::Quiet => return sys::BPFRS_KNOTE_QUIET,
        Event::Ready(bytes) => (bytes, sys::BPFRS_KNOTE_READY),
        Event::Eof => (0, sys::BPFRS_KNOTE_EOF),
    };
    // SAFETY: by the contract of this function.
    unsafe { data.write(i64::try_from(bytes).unwrap_or(i64::MAX)) };
    told
}

/// `f_detach`.
///
/// # Safety
/// Called once for a knote that `bpfrs_rs_kqfilter` took, through module.c.
#[unsafe(no_mangle)]
unsafe extern "C" fn bpfrs_rs_kqdetach(hook: *mut c_void, knote: *mut sys::knote) {
    if let Some(hook) = NonNull::new(hook) {
        // SAFETY: by the contract of this function.
        unsafe { kqueue::detach(hook, knote) };
    }
}

/// The cdevpriv destructor: once for each file whose open got that far.
///
/// # Safety
/// Called by devfs with what `set_private` gave it.
#[unsafe(no_mangle)]
unsafe extern "C" fn bpfrs_rs_dtor(private: *mut c_void) {
    if let Some(private) = NonNull::new(private) {
        // SAFETY: given away by set_private and returned once (I2).
        dev::destroyed(unsafe { Ref::<BpfD>::from_raw(private) });
    }
}

/// sysctl(3) `net.bpfrs.stats`: how many descriptors have an interface.
///
/// # Safety
/// `to` has `room` places of zeros, which are nobody else's during the call.
#[unsafe(no_mangle)]
unsafe extern "C" fn bpfrs_rs_stats(to: *mut sys::bpfrs_xbpf_d, room: usize) -> usize {
    let places: &mut [sys::bpfrs_xbpf_d] = if to.is_null() {
        &mut []
    } else {
        // SAFETY: by the contract of this function.
        unsafe { core::slice::from_raw_parts_mut(to, room) }
    };
    tap::describe(places)
}

/// sysctl(3) `net.bpfrs.stats`, written to.
#[unsafe(no_mangle)]
extern "C" fn bpfrs_rs_stats_reset() {
    tap::reset_counters();
}

/// ifnet_departure_event.
#[unsafe(no_mangle)]
extern "C" fn bpfrs_rs_ifdeparture(ifnet: *mut sys::bpfrs_if) {
    tap::departed(Key::of(ifnet));
}

/// One packet on an interface that is tapped.
///
/// # Safety
/// `header` has `header_len` bytes, `chain` is an mbuf chain; both stay as
/// they are during the call, which is made inside the network epoch.
#[unsafe(no_mangle)]
unsafe extern "C" fn bpfrs_rs_tap(
    ifnet: *mut sys::bpfrs_if,
    header: *const c_void,
    header_len: usize,
    chain: *const sys::mbuf,
    inbound: c_int,
) {
    let header: &[u8] = if header.is_null() {
        &[]
    } else {
        // SAFETY: by the contract of this function.
        unsafe { core::slice::from_raw_parts(header.cast(), header_len) }
    };
    let mut start = Start::new();
    // SAFETY: by the contract of this function.
    let packet = unsafe { Packet::new(header, chain, &mut start) };
    // SAFETY: by the contract of this function.
    unsafe {
        epoch::within(|guard| tap::packet(Key::of(ifnet), &packet, inbound != 0, guard));
    }
}
