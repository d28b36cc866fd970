// SPDX-License-Identifier: BSD-2-Clause
//! mbuf(9) chains.

use std::ffi::{c_int, c_void};
use std::ptr;

use bpfrs_sys::{BPFRS_TIME_FAST, bpfrs_mbuf_look, bpfrs_mbuf_time, mbuf};

use super::super::mbuf::{Packet, Start};
use super::super::time::Bintime;
use super::time;

/// A packet in segments.
#[derive(Clone, Debug)]
pub struct Chain {
    segments: Vec<Vec<u8>>,
    /// The first mbuf has pages that are not mapped (`M_EXTPG`).
    unmapped: bool,
    /// What its card says when it came.
    stamp: Option<Bintime>,
}

impl Chain {
    /// A chain of one mbuf for each segment; at least one, if empty.
    pub fn new(segments: &[&[u8]]) -> Self {
        let mut segments: Vec<_> = segments.iter().map(|segment| segment.to_vec()).collect();
        if segments.is_empty() {
            segments.push(Vec::new());
        }
        Chain { segments, unmapped: false, stamp: None }
    }

    /// The same, without an address for the bytes of the first mbuf.
    #[must_use]
    pub fn unmapped(self) -> Self {
        Chain { unmapped: true, ..self }
    }

    /// The same, stamped by its card: so long after boot.
    #[must_use]
    pub fn stamped(self, stamp: Bintime) -> Self {
        Chain { stamp: Some(stamp), ..self }
    }

    /// Shows the chain, behind `header`, as the driver sees it.
    pub fn with_packet<R>(&self, header: &[u8], look: impl FnOnce(&Packet<'_>) -> R) -> R {
        let mut start = Start::new();
        // SAFETY: self is borrowed, and so unchanged, until `look` returns.
        look(&unsafe { Packet::new(header, self.raw(), &mut start) })
    }

    pub(super) fn raw(&self) -> *const mbuf {
        ptr::from_ref(self).cast()
    }
}

/// # Safety
/// `raw` came from [`Chain::raw`], of a chain that is borrowed for `'a`.
unsafe fn borrow<'a>(raw: *const mbuf) -> &'a Chain {
    // SAFETY: by the contract of this function.
    unsafe { &*raw.cast() }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn bpfrs_kpi_mbuf_time(
    raw: *const mbuf,
    how: c_int,
    out: *mut bpfrs_mbuf_time,
) -> c_int {
    // SAFETY: the chain of the call under way.
    let stamp = unsafe { borrow(raw) }.stamp;
    let uptime = stamp.unwrap_or_else(|| time::uptime(how == BPFRS_TIME_FAST));
    let time =
        bpfrs_mbuf_time { mt_uptime: time::raw(uptime), mt_boottime: time::raw(time::boottime()) };
    // SAFETY: the driver's own variable, for the call.
    unsafe { out.write(time) };
    stamp.is_some().into()
}

#[unsafe(no_mangle)]
unsafe extern "C" fn bpfrs_kpi_mbuf_look(raw: *const mbuf, out: *mut bpfrs_mbuf_look) {
    // SAFETY: the chain of the call under way.
    let chain = unsafe { borrow(raw) };
    let first = if chain.unmapped { &[][..] } else { &chain.segments[0] };
    let look = bpfrs_mbuf_look {
        ml_data: if chain.unmapped { ptr::null() } else { first.as_ptr().cast() },
        ml_first: first.len(),
        ml_length: chain.segments.iter().map(Vec::len).sum(),
    };
    // SAFETY: the driver's own variable, for the call.
    unsafe { out.write(look) };
}

#[unsafe(no_mangle)]
unsafe extern "C" fn bpfrs_kpi_mbuf_copy(
    raw: *const mbuf,
    offset: usize,
    len: usize,
    to: *mut c_void,
) {
    // SAFETY: the chain of the call under way.
    let chain = unsafe { borrow(raw) };
    let (mut skip, mut done) = (offset, 0);
    for segment in &chain.segments {
        let from = &segment[skip.min(segment.len())..];
        let from = &from[..from.len().min(len - done)];
        // SAFETY: the driver's buffer has `len` bytes, of which `done` are
        // written and these fit.
        unsafe { to.cast::<u8>().add(done).copy_from_nonoverlapping(from.as_ptr(), from.len()) };
        skip = skip.saturating_sub(segment.len());
        done += from.len();
    }
    assert!(done == len, "m_copydata(9): {offset}+{len} is beyond the chain");
}
