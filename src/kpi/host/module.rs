// SPDX-License-Identifier: BSD-2-Clause
//! The module's life in the linker, as `sys/module.c` has it.

use std::sync::PoisonError;
use std::sync::atomic::{AtomicUsize, Ordering};

use bpfrs_sys::bpfrs_const;

use super::devfs::{self, Cdev, Vnode};
use super::driver::{self, BPFRS, Driver, driver};
use super::ifnet::{self, Ifnet};
use super::monitor::Monitor;
use super::object::Kind;
use super::output::Packet;
use super::{epoch, kqueue, memory, pages};
use crate::kpi::primitive::{RwLock, statics};
use crate::kpi::{errno::Errno, stats};

statics! {
    /// The dev_clone handler is registered.
    static CLONING: RwLock<bool> = RwLock::new(false);
    /// The module's text is there.
    static LOADED: RwLock<bool> = RwLock::new(false);
}

fn set(what: &RwLock<bool>, value: bool) {
    *what.write().unwrap_or_else(PoisonError::into_inner) = value;
}

fn when<R>(what: &RwLock<bool>, body: impl FnOnce() -> R) -> Option<R> {
    let is = what.read().unwrap_or_else(PoisonError::into_inner);
    is.then(body)
}

/// Calls a dev_clone handler.
pub(super) fn while_cloning<R>(body: impl FnOnce() -> R) -> Option<R> {
    when(&CLONING, body)
}

/// Calls another event handler.
pub(super) fn while_loaded<R>(body: impl FnOnce() -> R) -> Option<R> {
    when(&LOADED, body)
}

/// kldload(2). The driver's statics are those of the process: it can be loaded
/// once at a time.
///
/// # Errors
/// What the driver says.
pub fn load() -> Result<(), i32> {
    load_driver(&BPFRS)
}

/// kldload(2) of another driver, in place of this crate's.
///
/// # Errors
/// What the driver says.
pub fn load_driver(new: &'static Driver) -> Result<(), i32> {
    driver::set(new);
    ifnet::register();
    // SAFETY: no other entry point is called before.
    let result = check(unsafe { (new.load)() });
    if result.is_err() {
        ifnet::unregister();
        return result;
    }
    set(&LOADED, true);
    set(&CLONING, true);
    Ok(())
}

/// Whether the module is there.
pub fn is_loaded() -> bool {
    while_loaded(|| ()).is_some()
}

/// kldunload(2).
///
/// # Errors
/// EBUSY with opens, unless forced; what the driver says.
///
/// # Panics
/// If the driver says that it has left, and something of it is still there.
pub fn unload(force: bool) -> Result<(), i32> {
    let refused = stats::read(stats::LIVE) != 0;
    if refused && !force {
        return Err(bpfrs_const::BPFRS_EBUSY);
    }
    set(&CLONING, false);
    // SAFETY: the driver is loaded, and its dev_clone handler gone.
    let result = check(unsafe { (driver().unload)(refused.into()) });
    let left = epoch::pending();
    if result.is_err() {
        set(&CLONING, true);
        return result;
    }
    assert!(left == 0, "the module is gone, and {left} epoch callbacks are still to run");
    set(&LOADED, false);
    ifnet::unregister();
    assert!(ifnet::tapped() == 0, "the module is gone, and an interface still calls it");
    assert!(kqueue::attached() == 0, "the module is gone, and a knote still calls it");
    assert!(devfs::nodes() == 0, "the module is gone, and a node still calls it");
    // Not cdevs: threads on their way out of devfs may have references.
    let Census { allocations, monitors, packets, wired, .. } = census();
    assert!(
        (allocations, monitors, packets, wired) == (0, 0, 0, 0),
        "the module is gone and left {allocations} allocations, {monitors} monitors, \
         {packets} packets, {wired} wired bytes"
    );
    Ok(())
}

fn check(error: i32) -> Result<(), i32> {
    if error == 0 { Ok(()) } else { Err(error) }
}

/// What is alive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Census {
    /// malloc(9).
    pub allocations: usize,
    /// Monitors, a mutex(9) each.
    pub monitors: usize,
    /// Cdevs with a reference.
    pub cdevs: usize,
    /// Vnodes with a hold.
    pub vnodes: usize,
    /// Packets that are neither sent nor freed.
    pub packets: usize,
    /// User memory that is held, bytes.
    pub wired: usize,
    /// Interfaces with a reference.
    pub ifnets: usize,
    /// Interfaces with a tap.
    pub taps: usize,
}

/// Counts what is alive, after all deferred destruction.
pub fn census() -> Census {
    epoch::settle();
    memory::check_freed();
    let live = |count: &AtomicUsize| count.load(Ordering::SeqCst);
    let taps = ifnet::tapped();
    Census {
        allocations: memory::live(),
        monitors: live(Monitor::live()),
        cdevs: live(Cdev::live()),
        vnodes: live(Vnode::live()),
        packets: live(Packet::live()),
        wired: pages::held(),
        ifnets: live(Ifnet::live()),
        taps,
    }
}

impl From<Errno> for i32 {
    /// The errno(2) value.
    fn from(error: Errno) -> i32 {
        Errno::value(Err(error))
    }
}
