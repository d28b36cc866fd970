// SPDX-License-Identifier: BSD-2-Clause
//! sysctl `net.bpfrs.*`.

use std::sync::atomic::{AtomicU32, Ordering};

use bpfrs_sys::bpfrs_tunable;

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
}

static VALUES: [AtomicU32; 4] =
    [AtomicU32::new(4096), AtomicU32::new(0x80000), AtomicU32::new(512), AtomicU32::new(0)];

/// Changes a setting.
pub fn set_tunable(which: Tunable, value: u32) {
    VALUES[which as usize].store(value, Ordering::Relaxed);
}

#[unsafe(no_mangle)]
extern "C" fn bpfrs_kpi_tunable(which: bpfrs_tunable::Type) -> u32 {
    VALUES[which as usize].load(Ordering::Relaxed)
}
