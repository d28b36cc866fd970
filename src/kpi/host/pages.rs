// SPDX-License-Identifier: BSD-2-Clause
//! Wired user pages: a second mapping of shared memory, so that the kernel's
//! and the user's lives are apart, and a use after the release is a fault.

use std::ffi::{c_int, c_void};
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicUsize, Ordering};

use bpfrs_sys::{bpfrs_const, bpfrs_pages};

use super::{thread, user};

const PAGE: usize = 4096;

/// What is held now, bytes.
static HELD: AtomicUsize = AtomicUsize::new(0);

pub(super) fn held() -> usize {
    HELD.load(Ordering::SeqCst)
}

struct Held {
    start: *mut c_void,
    len: usize,
}

#[unsafe(no_mangle)]
unsafe extern "C" fn bpfrs_kpi_pages_hold(
    uaddr: usize,
    len: usize,
    kaddr: *mut *mut c_void,
    out: *mut *mut bpfrs_pages,
) -> c_int {
    thread::may_sleep("vm_fault_quick_hold_pages()");
    assert!(uaddr.is_multiple_of(PAGE) && len.is_multiple_of(PAGE) && len != 0, "not whole pages");
    let uaddr: *mut c_void = ptr::with_exposed_provenance_mut(uaddr);
    let start = if user::faults(uaddr.addr(), len) {
        libc::MAP_FAILED
    } else {
        // SAFETY: with an old size of 0 it maps shared pages once more, and
        // fails for an address where there are none.
        unsafe { libc::mremap(uaddr, 0, len, libc::MREMAP_MAYMOVE) }
    };
    if start == libc::MAP_FAILED {
        return bpfrs_const::BPFRS_EFAULT;
    }
    HELD.fetch_add(len, Ordering::SeqCst);
    let held = Box::into_raw(Box::new(Held { start, len }));
    // SAFETY: the driver's own variables, for the call.
    unsafe {
        kaddr.write(start);
        out.write(held.cast());
    }
    0
}

#[unsafe(no_mangle)]
unsafe extern "C" fn bpfrs_kpi_pages_release(raw: *mut bpfrs_pages) {
    thread::may_sleep("pmap_qremove()");
    let raw = NonNull::new(raw).expect("pages that are held");
    // SAFETY: made by hold, and given up by the driver.
    let held = unsafe { Box::from_raw(raw.cast::<Held>().as_ptr()) };
    // SAFETY: a mapping of our own, which the driver does not use any more.
    let error = unsafe { libc::munmap(held.start, held.len) };
    assert!(error == 0, "munmap(2) of {:p}", held.start);
    HELD.fetch_sub(held.len, Ordering::SeqCst);
}

#[unsafe(no_mangle)]
extern "C" fn bpfrs_kpi_page_size() -> usize {
    PAGE
}

/// Shared memory of the process, as minherit(2) or mmap(2) make it.
pub struct SharedMemory {
    start: NonNull<u8>,
    len: usize,
}

impl SharedMemory {
    /// `pages` pages of zeros.
    ///
    /// # Panics
    /// If the host has no more memory.
    pub fn new(pages: usize) -> Self {
        Self::at(ptr::null_mut(), pages)
    }

    /// The same, where the address fits in 32 bits.
    ///
    /// # Panics
    /// If there is no room.
    pub fn low() -> Self {
        let low = Self::at(ptr::without_provenance_mut(0x1000_0000), 1);
        assert!(u32::try_from(low.address()).is_ok(), "no memory below 4 GB");
        low
    }

    fn at(hint: *mut c_void, pages: usize) -> Self {
        let len = pages * PAGE;
        let (protection, flags) =
            (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED | libc::MAP_ANONYMOUS);
        // SAFETY: a new mapping, over no other: the address is a hint.
        let start = unsafe { libc::mmap(hint, len, protection, flags, -1, 0) };
        assert!(start != libc::MAP_FAILED, "mmap(2) of {len} bytes");
        start.expose_provenance();
        SharedMemory { start: NonNull::new(start.cast()).expect("not at 0"), len }
    }

    /// Its address.
    pub fn address(&self) -> usize {
        self.start.addr().get()
    }

    /// What is there now.
    pub fn read(&self) -> Vec<u8> {
        let place = |at: usize| self.start.as_ptr().wrapping_add(at);
        // SAFETY: mapped while self is; volatile, for the driver may write.
        (0..self.len).map(|at| unsafe { place(at).read_volatile() }).collect()
    }

    /// Writes there, as the process may at any time.
    ///
    /// # Panics
    /// If it does not fit.
    pub fn write(&self, at: usize, bytes: &[u8]) {
        assert!(at + bytes.len() <= self.len, "beyond the end");
        for (i, byte) in bytes.iter().enumerate() {
            // SAFETY: mapped while self is; volatile, as above.
            unsafe { self.start.as_ptr().add(at + i).write_volatile(*byte) };
        }
    }

    /// The words of the header: the kernel's generation and length, and the
    /// user's generation.
    ///
    /// # Panics
    /// Never: a page has so many bytes.
    pub fn header(&self) -> [u32; 3] {
        let bytes = self.read();
        let word = |at: usize| u32::from_ne_bytes(bytes[at..at + 4].try_into().expect("4 bytes"));
        [word(0), word(4), word(8)]
    }
}

impl Drop for SharedMemory {
    fn drop(&mut self) {
        // SAFETY: ours, and not used any more.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.len) };
    }
}

// SAFETY: a mapping is there for every thread.
unsafe impl Send for SharedMemory {}
// SAFETY: as above; all accesses are volatile.
unsafe impl Sync for SharedMemory {}
