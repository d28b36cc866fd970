// SPDX-License-Identifier: BSD-2-Clause
//! A packet as a tap sees it: a header of the tap's own, then mbuf(9)s.

use core::marker::PhantomData;
use core::mem::MaybeUninit;
use core::ptr::NonNull;

use bpfrs_sys as sys;

use super::memory::Window;
use super::time::Bintime;

/// How far filters look, as a rule: link and network header with options, and
/// the ports, or the IPv6 header and what follows.
const START: usize = 128;

/// Room for so much of a packet with a header, on the stack of who shows it.
pub(super) struct Start(MaybeUninit<[u8; START]>);

impl Start {
    pub(super) fn new() -> Start {
        Start(MaybeUninit::uninit())
    }

    /// The beginning of both in a row. Apart: most packets come in one piece.
    #[cold]
    #[inline(never)]
    fn fill(&mut self, header: &[u8], first: &[u8]) -> &[u8] {
        // SAFETY: START bytes, borrowed exclusively; nothing is read from it.
        let place = unsafe { Window::new(NonNull::from(&mut self.0).cast(), START) };
        // At once: byte by byte is many times slower.
        let (head, tail) = place.split_at(header.len());
        head.put(header);
        tail.put(first);
        // SAFETY: put() writes to the end of its window, with zeros if need be.
        let start: &[u8] = unsafe { self.0.assume_init_ref() };
        start.get(..header.len().saturating_add(first.len())).unwrap_or(start)
    }
}

/// When a packet was seen; zero before anybody asked.
pub struct Time(sys::bpfrs_mbuf_time);

impl Time {
    /// A place for one.
    pub const fn zero() -> Self {
        let zero = sys::bpfrs_bintime { bt_sec: 0, bt_frac: 0 };
        Time(sys::bpfrs_mbuf_time { mt_uptime: zero, mt_boottime: zero })
    }

    /// So long after boot.
    pub fn uptime(&self) -> Bintime {
        self.0.mt_uptime.into()
    }

    /// The time of day.
    pub fn time_of_day(&self) -> Bintime {
        self.uptime().plus(self.0.mt_boottime.into())
    }
}

/// A packet, for as long as the tap's call.
///
/// Offsets count from the start of the header.
pub struct Packet<'call> {
    header: &'call [u8],
    chain: *const sys::mbuf,
    /// Of header and chain together.
    len: usize,
    /// The first bytes, as many as are in a row, for filters.
    window: &'call [u8],
    call: PhantomData<&'call sys::mbuf>,
}

impl<'call> Packet<'call> {
    /// # Safety
    /// `chain` is an mbuf chain that nobody changes for `'call`.
    pub(super) unsafe fn new(
        header: &'call [u8],
        chain: *const sys::mbuf,
        start: &'call mut Start,
    ) -> Self {
        let mut look = MaybeUninit::uninit();
        // SAFETY: the chain is valid.
        unsafe { sys::bpfrs_kpi_mbuf_look(chain, look.as_mut_ptr()) };
        // SAFETY: written by the call.
        let look: sys::bpfrs_mbuf_look = unsafe { look.assume_init() };
        let first: &[u8] = if look.ml_data.is_null() {
            &[]
        } else {
            // SAFETY: the first mbuf has ml_first bytes at ml_data, unchanged
            // and mapped for 'call.
            unsafe { core::slice::from_raw_parts(look.ml_data.cast(), look.ml_first) }
        };
        let len = header.len().saturating_add(look.ml_length);
        let window = if header.is_empty() { first } else { start.fill(header, first) };
        Packet { header, chain, len, window, call: PhantomData }
    }

    /// The length on the wire, bytes.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is not one byte.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Puts its time in `out`: from its card or its driver, which it says, or
    /// else of now, exact (binuptime(9)) or as of the last tick (getbinuptime(9)).
    pub fn time(&self, fast: bool, out: &mut Time) -> bool {
        let how = if fast { sys::BPFRS_TIME_FAST } else { sys::BPFRS_TIME_PRECISE };
        // SAFETY: the chain is valid for 'call, and the place for this one.
        unsafe { sys::bpfrs_kpi_mbuf_time(self.chain, how, &raw mut out.0) != 0 }
    }

    /// The first bytes, as many as are in a row.
    pub fn window(&self) -> &[u8] {
        self.window
    }

    /// The `N` bytes at `offset`, if the packet has them.
    pub fn bytes<const N: usize>(&self, offset: u32) -> Option<[u8; N]> {
        let offset = offset as usize;
        let end = offset.checked_add(N)?;
        if end > self.len {
            return None;
        }
        let window = self.window.get(offset..).and_then(|rest| rest.first_chunk());
        if let Some(bytes) = window {
            return Some(*bytes);
        }
        let mut bytes = [0; N];
        self.copy(offset, Window::from(&mut bytes[..]));
        Some(bytes)
    }

    /// Copies as much as fits into `to`, from `offset`; returns how much.
    #[inline]
    pub fn copy(&self, offset: usize, to: Window<'_>) -> usize {
        // The window has it all, as a rule.
        if let Some(bytes) = self.window.get(offset..).and_then(|rest| rest.get(..to.len())) {
            to.put(bytes);
            return bytes.len();
        }
        self.copy_chain(offset, to)
    }

    #[cold]
    #[inline(never)]
    fn copy_chain(&self, offset: usize, to: Window<'_>) -> usize {
        let len = to.len().min(self.len.saturating_sub(offset));
        let (to, _) = to.split_at(len);
        let from_header = self.header.get(offset..).unwrap_or_default();
        let (head, mut tail) = to.split_at(from_header.len());
        head.put(from_header);
        if !tail.is_empty() {
            let offset = offset.saturating_sub(self.header.len());
            // SAFETY: the chain is unchanged for 'call and has the bytes:
            // offset and length were clipped to `len`; `tail` is writable.
            unsafe {
                sys::bpfrs_kpi_mbuf_copy(self.chain, offset, tail.len(), tail.as_mut_ptr().cast());
            }
        }
        len
    }
}
