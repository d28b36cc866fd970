// SPDX-License-Identifier: BSD-2-Clause
//! The counters behind `net.bpfrs.*`.

use core::sync::atomic::{AtomicU64, Ordering};

pub use bpfrs_sys::bpfrs_stat::{
    BPFRS_STAT_CLOSES_MORE as CLOSES_MORE, BPFRS_STAT_CLOSES_ONE as CLOSES_ONE,
    BPFRS_STAT_CLOSES_ORPHAN as CLOSES_ORPHAN, BPFRS_STAT_CLOSES_TWO as CLOSES_TWO,
    BPFRS_STAT_CLOSES_ZERO as CLOSES_ZERO, BPFRS_STAT_DESCRIPTORS as DESCRIPTORS,
    BPFRS_STAT_LIVE as LIVE, BPFRS_STAT_OPENS as OPENS, BPFRS_STAT_REVOKED_OPENS as REVOKED_OPENS,
    BPFRS_STAT_REVOKES as REVOKES, Type as Stat,
};

const COUNT: usize = bpfrs_sys::bpfrs_stat::BPFRS_NSTATS as usize;

/// C reads it for sysctl(9).
#[unsafe(export_name = "bpfrs_stats")]
static STATS: [AtomicU64; COUNT] = [const { AtomicU64::new(0) }; COUNT];

fn counter(stat: Stat) -> Option<&'static AtomicU64> {
    STATS.get(stat as usize)
}

/// Adds one.
pub fn increment(stat: Stat) {
    if let Some(counter) = counter(stat) {
        counter.fetch_add(1, Ordering::SeqCst);
    }
}

/// Takes one away.
pub fn decrement(stat: Stat) {
    if let Some(counter) = counter(stat) {
        counter.fetch_sub(1, Ordering::SeqCst);
    }
}

/// The value now.
pub fn read(stat: Stat) -> u64 {
    counter(stat).map_or(0, |counter| counter.load(Ordering::SeqCst))
}
