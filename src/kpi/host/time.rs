// SPDX-License-Identifier: BSD-2-Clause
//! Clocks and ticks.

use std::ffi::c_int;
use std::sync::{LazyLock, Mutex};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bpfrs_sys::{bpfrs_bintime, bpfrs_const};

use super::super::time::Bintime;
use super::{clock, guard, thread};

/// Ticks a second.
pub const HZ: c_int = 1000;

/// The clocks, standing still.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frozen {
    /// What binuptime(9) says.
    pub uptime: Bintime,
    /// What getbinuptime(9) says.
    pub uptime_fast: Bintime,
    /// What getboottimebin(9) says.
    pub boottime: Bintime,
}

static FROZEN: Mutex<Option<Frozen>> = Mutex::new(None);

/// Stops the clocks, or lets them run again. Sleeps take their time anyway.
pub fn freeze(clocks: Option<Frozen>) {
    *guard(&FROZEN) = clocks;
}

static BOOT: LazyLock<(Instant, SystemTime)> =
    LazyLock::new(|| (Instant::now(), SystemTime::now()));

fn bintime(time: Duration) -> Bintime {
    let frac = (u128::from(time.subsec_nanos()) << 64) / 1_000_000_000;
    Bintime { sec: time.as_secs().cast_signed(), frac: frac as u64 }
}

/// How long `ticks` last.
pub(super) fn duration(ticks: c_int) -> Duration {
    Duration::from_secs(1) * ticks.max(0).unsigned_abs() / HZ.unsigned_abs()
}

/// As the border has it.
pub(super) fn raw(time: Bintime) -> bpfrs_bintime {
    bpfrs_bintime { bt_sec: time.sec, bt_frac: time.frac }
}

/// As binuptime(9), or getbinuptime(9).
pub(super) fn uptime(fast: bool) -> Bintime {
    if let Some(frozen) = *guard(&FROZEN) {
        return if fast { frozen.uptime_fast } else { frozen.uptime };
    }
    let mut time = BOOT.0.elapsed();
    if fast {
        // As of the last tick.
        time = Duration::from_millis(u64::try_from(time.as_millis()).expect("a short test"));
    }
    bintime(time)
}

/// As getboottimebin(9).
pub(super) fn boottime() -> Bintime {
    if let Some(frozen) = *guard(&FROZEN) {
        return frozen.boottime;
    }
    bintime(BOOT.1.duration_since(UNIX_EPOCH).expect("a time after 1970"))
}

/// As itimerfix(9) and tvtohz(9).
#[unsafe(no_mangle)]
extern "C" fn bpfrs_kpi_timeval2ticks(sec: i64, usec: i64, ticks: *mut c_int) -> c_int {
    if sec < 0 || !(0..1_000_000).contains(&usec) {
        return bpfrs_const::BPFRS_EINVAL;
    }
    let tick = i64::from(1_000_000 / HZ);
    // Less than a sixteenth of a tick is that much.
    let usec = if sec == 0 && usec != 0 { usec.max(tick / 16) } else { usec };
    let whole = sec.saturating_mul(HZ.into());
    let count = whole.saturating_add((usec + tick - 1) / tick).saturating_add(1);
    // SAFETY: the driver's own variable, for the call.
    unsafe { ticks.write(c_int::try_from(count).unwrap_or(c_int::MAX)) };
    0
}

#[unsafe(no_mangle)]
extern "C" fn bpfrs_kpi_hz() -> c_int {
    HZ
}

#[unsafe(no_mangle)]
extern "C" fn bpfrs_kpi_pause(ticks: c_int) {
    thread::may_sleep("pause(9)");
    clock::pause(duration(ticks));
}
