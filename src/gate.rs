// SPDX-License-Identifier: BSD-2-Clause
//! The gate that opens pass and an unload shuts (I7).
//!
//! How many opens are alive and whether more may begin are one word, so that an
//! open and an unload that come at the same time cannot miss each other.

use core::sync::atomic::Ordering;

use crate::kpi::errno::{Errno, Result};
use crate::kpi::primitive::{AtomicUsize, statics};
use crate::kpi::stats;

/// No open may begin.
const SHUT: usize = 1;
/// One open that is alive.
const OPEN: usize = 2;

statics! {
    static GATE: AtomicUsize = AtomicUsize::new(0);
}

/// An open comes alive.
///
/// # Errors
/// ENXIO while the module unloads.
pub(crate) fn enter() -> Result<()> {
    let add = |word: usize| if word & SHUT == 0 { word.checked_add(OPEN) } else { None };
    // Release: who shuts the gate finds what was published before.
    GATE.fetch_update(Ordering::Release, Ordering::Relaxed, add).map_err(|_| Errno::ENXIO)?;
    stats::increment(stats::LIVE);
    Ok(())
}

/// One that was alive ended.
pub(crate) fn leave() {
    stats::decrement(stats::LIVE);
    GATE.fetch_sub(OPEN, Ordering::Release);
}

/// Lets no open begin any more.
///
/// # Errors
/// EBUSY while one is alive, unless forced: the gate stays as it was.
pub(crate) fn shut(force: bool) -> Result<()> {
    let set = |word: usize| if word == 0 || force { Some(word | SHUT) } else { None };
    GATE.fetch_update(Ordering::Acquire, Ordering::Relaxed, set).map_err(|_| Errno::EBUSY)?;
    Ok(())
}

/// Lets opens begin.
pub(crate) fn reopen() {
    GATE.fetch_and(!SHUT, Ordering::Relaxed);
}

/// Whether no open may begin.
pub(crate) fn is_shut() -> bool {
    GATE.load(Ordering::Relaxed) & SHUT != 0
}
