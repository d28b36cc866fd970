// SPDX-License-Identifier: BSD-2-Clause
//! sysctl `net.bpfrs.*`.

use std::sync::atomic::{AtomicU32, Ordering};

use bpfrs_sys::{self as sys, bpfrs_tunable};

use super::{module, thread};
use crate::kpi::abi::xbpf_d;

/// A setting of the administrator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tunable {
    /// `net.bpfrs.bufsize`.
    Bufsize = bpfrs_tunable::BPFRS_TUNABLE_BUFSIZE as isize,
    /// `net.bpfrs.maxbufsize`.
    Maxbufsize = bpfrs_tunable::BPFRS_TUNABLE_MAXBUFSIZE as isize,
    /// `net.bpfrs.maxinsns`.
    Maxinsns = bpfrs_tunable::BPFRS_TUNABLE_MAXINSNS as isize,
    /// `net.bpfrs.jit`.
    Jit = bpfrs_tunable::BPFRS_TUNABLE_JIT as isize,
    /// `net.bpfrs.optimize_writers`.
    OptimizeWriters = bpfrs_tunable::BPFRS_TUNABLE_OPTIMIZE_WRITERS as isize,
    /// `net.bpfrs.zerocopy_enable`.
    ZerocopyEnable = bpfrs_tunable::BPFRS_TUNABLE_ZEROCOPY_ENABLE as isize,
}

static VALUES: [AtomicU32; 6] = [
    AtomicU32::new(4096),
    AtomicU32::new(0x80000),
    AtomicU32::new(512),
    AtomicU32::new(0),
    AtomicU32::new(0),
    AtomicU32::new(0),
];

/// Changes a setting.
pub fn set_tunable(which: Tunable, value: u32) {
    VALUES[which as usize].store(value, Ordering::Relaxed);
}

#[unsafe(no_mangle)]
extern "C" fn bpfrs_kpi_tunable(which: bpfrs_tunable::Type) -> u32 {
    VALUES[which as usize].load(Ordering::Relaxed)
}

/// `net.bpfrs.stats` in a buffer for `room` descriptors: how many there are,
/// and those that found room. Nothing without the module.
pub fn stats(room: usize) -> (usize, Vec<xbpf_d>) {
    thread::may_sleep("sysctl(3)");
    // SAFETY: integers, for which zeros will do.
    let zero = unsafe { std::mem::zeroed::<xbpf_d>() };
    let mut places = vec![zero; room];
    // SAFETY: so many places of zeros, ours alone.
    let read = || unsafe { sys::bpfrs_rs_stats(places.as_mut_ptr(), room) };
    let count = module::while_loaded(read).unwrap_or(0);
    places.truncate(count);
    (count, places)
}

/// `net.bpfrs.stats` set to a descriptor of zeros.
pub fn reset_stats() {
    thread::may_sleep("sysctl(3)");
    // SAFETY: the driver is loaded.
    module::while_loaded(|| unsafe { sys::bpfrs_rs_stats_reset() });
}
