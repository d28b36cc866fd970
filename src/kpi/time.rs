// SPDX-License-Identifier: BSD-2-Clause
//! Clocks and ticks.

use core::ffi::c_int;

use bpfrs_sys as sys;
use spin::Once;

use super::abi::timeval;
use super::errno::{Errno, Result};

/// Seconds and 2^-64ths of a second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bintime {
    /// Whole seconds.
    pub sec: i64,
    /// The rest, in units of 2^-64 s.
    pub frac: u64,
}

impl Bintime {
    /// The sum, wrapping.
    pub fn plus(self, other: Bintime) -> Bintime {
        let (frac, carry) = self.frac.overflowing_add(other.frac);
        Bintime { sec: self.sec.wrapping_add(other.sec).wrapping_add(carry.into()), frac }
    }

    /// The rest in units of 1/`per_second` s, rounded down.
    pub fn frac_in(self, per_second: u32) -> u32 {
        let scaled = u128::from(self.frac).wrapping_mul(u128::from(per_second)) >> 64;
        // Less than per_second.
        u32::try_from(scaled).unwrap_or(u32::MAX)
    }
}

impl From<sys::bpfrs_bintime> for Bintime {
    fn from(time: sys::bpfrs_bintime) -> Self {
        Bintime { sec: time.bt_sec, frac: time.bt_frac }
    }
}

/// Ticks a second; constant since the kernel started.
fn hz() -> i64 {
    static HZ: Once<c_int> = Once::new();
    // SAFETY: allowed in any context.
    i64::from(*HZ.call_once(|| unsafe { sys::bpfrs_kpi_hz() }))
}

/// How many ticks a time is, rounded up, plus the one under way.
///
/// # Errors
/// EINVAL if it is negative or not normal.
pub fn timeval_to_ticks(tv: timeval) -> Result<c_int> {
    let mut ticks = 0;
    // SAFETY: the pointer is valid for the call.
    let error = unsafe { sys::bpfrs_kpi_timeval2ticks(tv.tv_sec, tv.tv_usec, &raw mut ticks) };
    Errno::check(error).map(|()| ticks)
}

/// How long `ticks` last.
pub fn ticks_to_timeval(ticks: c_int) -> timeval {
    let (ticks, hz) = (i64::from(ticks), hz());
    let usec_per_tick = 1_000_000i64.checked_div(hz).unwrap_or(0);
    timeval {
        tv_sec: ticks.checked_div(hz).unwrap_or(0),
        tv_usec: ticks.checked_rem(hz).unwrap_or(0).saturating_mul(usec_per_tick),
    }
}

/// Sleeps for `ticks`.
pub fn pause(ticks: c_int) {
    // SAFETY: thread context without locks, as the documentation asks.
    unsafe { sys::bpfrs_kpi_pause(ticks) }
}
