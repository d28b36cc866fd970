// SPDX-License-Identifier: BSD-2-Clause
//! User memory that the kernel keeps and writes to: zero-copy buffers.

use core::ptr::{self, NonNull};
use core::sync::atomic::{AtomicU32, Ordering};

use bpfrs_sys as sys;

use super::errno::{Errno, Result};
use super::memory::Window;

/// Whole pages of a process, wired, and mapped for the kernel too.
///
/// The process may write there at any time. So no reference is ever made to
/// them, and nothing is read but single words, which may be anything.
pub struct Pages {
    raw: NonNull<sys::bpfrs_pages>,
    start: NonNull<u8>,
    len: usize,
    address: usize,
}

/// The most that can be held at once, bytes.
pub fn max_len() -> usize {
    // SAFETY: allowed in any context.
    unsafe { sys::bpfrs_kpi_page_size() }.saturating_mul(sys::BPFRS_MAXPAGES as usize)
}

impl Pages {
    /// Holds `len` bytes at `address` of the calling process. Sleeps.
    ///
    /// # Errors
    /// EINVAL unless these are whole pages, at least one and not too many;
    /// EFAULT if one is not there or not writable; ENOMEM.
    pub fn hold(address: usize, len: usize) -> Result<Pages> {
        // SAFETY: allowed in any context.
        let page = unsafe { sys::bpfrs_kpi_page_size() };
        if !address.is_multiple_of(page) || !len.is_multiple_of(page) || len > max_len() {
            return Err(Errno::EINVAL);
        }
        let (mut start, mut raw) = (ptr::null_mut(), ptr::null_mut());
        // SAFETY: thread context; the kernel checks the range, which is one of
        // whole pages; both results are written on success.
        Errno::check(unsafe {
            sys::bpfrs_kpi_pages_hold(address, len, &raw mut start, &raw mut raw)
        })?;
        match (NonNull::new(raw), NonNull::new(start.cast())) {
            (Some(raw), Some(start)) => Ok(Pages { raw, start, len, address }),
            _ => Err(Errno::EFAULT),
        }
    }

    /// How many bytes they are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is no byte.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// What the process called them when they were taken.
    pub fn address(&self) -> usize {
        self.address
    }

    /// A place to write to, from `offset` to the end.
    pub fn window(&mut self, offset: usize) -> Window<'_> {
        // SAFETY: the memory is mapped while self is, and nobody but user
        // programs writes to it meanwhile, for self is borrowed exclusively.
        unsafe { Window::new(self.start, self.len) }.split_at(offset).1
    }

    /// The word at `offset`, which others change at any time.
    fn word(&self, offset: usize) -> Option<&AtomicU32> {
        let end = offset.checked_add(size_of::<u32>())?;
        if end > self.len || !offset.is_multiple_of(size_of::<u32>()) {
            return None;
        }
        // SAFETY: aligned, for a page is, and within the pages, which are
        // mapped while self is borrowed; the kernel's accesses are atomic.
        Some(unsafe { AtomicU32::from_ptr(self.start.as_ptr().add(offset).cast()) })
    }

    /// Sets the word at `offset`, after all that was written before.
    pub fn set_word(&self, offset: usize, value: u32) {
        if let Some(word) = self.word(offset) {
            word.store(value, Ordering::Release);
        }
    }

    /// The word at `offset`, before all that is written after.
    pub fn get_word(&self, offset: usize) -> u32 {
        self.word(offset).map_or(0, |word| word.load(Ordering::Acquire))
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        // SAFETY: held by self and released once; no window outlives self.
        unsafe { sys::bpfrs_kpi_pages_release(self.raw.as_ptr()) }
    }
}

// SAFETY: the pages are mapped for every thread of the kernel.
unsafe impl Send for Pages {}
// SAFETY: shared Pages give out atomic accesses only.
unsafe impl Sync for Pages {}
