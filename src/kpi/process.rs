// SPDX-License-Identifier: BSD-2-Clause
//! The process that makes a call.

use bpfrs_sys as sys;

/// Its id.
pub fn pid() -> i32 {
    // SAFETY: allowed in any thread.
    unsafe { sys::bpfrs_kpi_pid() }
}

/// What the kernel knows of 32-bit processes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compat32 {
    /// It runs none: their ioctl(2)s do not exist.
    Unknown,
    /// The caller is none.
    No,
    /// The caller is one.
    Yes,
}

/// Whether the caller is a 32-bit process.
pub fn compat32() -> Compat32 {
    // SAFETY: allowed in any thread.
    match unsafe { sys::bpfrs_kpi_compat32() } {
        sys::BPFRS_COMPAT32_NO => Compat32::No,
        sys::BPFRS_COMPAT32_YES => Compat32::Yes,
        _ => Compat32::Unknown,
    }
}
