// SPDX-License-Identifier: BSD-2-Clause
//! The calling process: this one, or one of 32 bits that a thread plays.

use std::cell::Cell;
use std::ffi::c_int;
use std::sync::atomic::{AtomicBool, Ordering};

use bpfrs_sys as sys;

std::thread_local! {
    static ILP32: Cell<bool> = const { Cell::new(false) };
}

/// `options COMPAT_FREEBSD32`.
static COMPAT32: AtomicBool = AtomicBool::new(true);

/// Makes system calls as a 32-bit process.
pub fn as_ilp32<R>(body: impl FnOnce() -> R) -> R {
    let before = ILP32.replace(true);
    let result = body();
    ILP32.set(before);
    result
}

/// Whether the kernel runs 32-bit processes.
pub fn set_compat32(on: bool) {
    COMPAT32.store(on, Ordering::Relaxed);
}

#[unsafe(no_mangle)]
extern "C" fn bpfrs_kpi_pid() -> c_int {
    std::process::id().cast_signed()
}

#[unsafe(no_mangle)]
extern "C" fn bpfrs_kpi_compat32() -> c_int {
    match (COMPAT32.load(Ordering::Relaxed), ILP32.get()) {
        (false, _) => sys::BPFRS_COMPAT32_UNKNOWN,
        (true, false) => sys::BPFRS_COMPAT32_NO,
        (true, true) => sys::BPFRS_COMPAT32_YES,
    }
}
