// SPDX-License-Identifier: BSD-2-Clause
//! User memory: real pointers, and ranges that fault.

use std::ffi::{c_int, c_void};
use std::ops::Range;
use std::sync::Mutex;

use bpfrs_sys::{bpfrs_const, uio};

use super::hook::{self, Hook};
use super::{guard, thread};

/// The page at address 0 is never mapped.
const NULL_PAGE: Range<usize> = 0..4096;

static UNMAPPED: Mutex<Vec<Range<usize>>> = Mutex::new(Vec::new());

/// Memory that user space seems not to have, for as long as this exists.
pub struct Unmapped(Range<usize>);

impl Unmapped {
    /// Makes every access to `memory` through the kernel fault.
    pub fn new<T>(memory: &[T]) -> Self {
        let range = memory.as_ptr_range();
        let range = range.start.addr()..range.end.addr();
        guard(&UNMAPPED).push(range.clone());
        Unmapped(range)
    }
}

impl Drop for Unmapped {
    fn drop(&mut self) {
        let mut unmapped = guard(&UNMAPPED);
        if let Some(at) = unmapped.iter().position(|range| *range == self.0) {
            unmapped.swap_remove(at);
        }
    }
}

pub(super) fn faults(address: usize, len: usize) -> bool {
    let overlaps = |range: &Range<usize>| address < range.end && range.start < address + len;
    len != 0 && (overlaps(&NULL_PAGE) || guard(&UNMAPPED).iter().any(overlaps))
}

/// The buffer of a read(2) or a write(2): what a `struct uio` points to.
pub(super) struct Uio {
    start: *mut u8,
    left: usize,
    /// `UIO_WRITE`: the buffer is only read.
    write: bool,
}

impl Uio {
    pub(super) fn for_read(buffer: &mut [u8]) -> Self {
        Uio { start: buffer.as_mut_ptr(), left: buffer.len(), write: false }
    }

    pub(super) fn for_write(data: &[u8]) -> Self {
        Uio { start: data.as_ptr().cast_mut(), left: data.len(), write: true }
    }

    pub(super) fn left(&self) -> usize {
        self.left
    }

    pub(super) fn raw(&mut self) -> *mut uio {
        std::ptr::from_mut(self).cast()
    }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn bpfrs_kpi_uio_resid(raw: *const uio) -> isize {
    // SAFETY: the uio of the call under way, made by Uio::new.
    let uio = unsafe { &*raw.cast::<Uio>() };
    uio.left.cast_signed()
}

#[unsafe(no_mangle)]
unsafe extern "C" fn bpfrs_kpi_uiomove(kaddr: *mut c_void, len: usize, raw: *mut uio) -> c_int {
    thread::may_sleep("uiomove(9)");
    hook::run(Hook::Copy);
    // SAFETY: the uio of the call under way, which no other thread has.
    let uio = unsafe { &mut *raw.cast::<Uio>() };
    let len = len.min(uio.left);
    if faults(uio.start.addr(), len) {
        return bpfrs_const::BPFRS_EFAULT;
    }
    let kaddr = kaddr.cast::<u8>();
    let (from, to) = if uio.write { (uio.start, kaddr) } else { (kaddr, uio.start) };
    // SAFETY: the caller's buffer, borrowed for the call as its direction asks,
    // has `left` bytes; the driver's has `len`.
    unsafe { to.copy_from_nonoverlapping(from, len) };
    // SAFETY: not beyond the end, by the minimum above.
    uio.start = unsafe { uio.start.add(len) };
    uio.left -= len;
    0
}

#[unsafe(no_mangle)]
unsafe extern "C" fn bpfrs_kpi_copyin(from: *const c_void, to: *mut c_void, len: usize) -> c_int {
    thread::may_sleep("copyin(9)");
    if faults(from.addr(), len) {
        return bpfrs_const::BPFRS_EFAULT;
    }
    // SAFETY: a host program passes addresses of its own memory or of what is
    // known to fault; `to` is the driver's.
    unsafe { to.cast::<u8>().copy_from_nonoverlapping(from.cast(), len) };
    0
}

#[unsafe(no_mangle)]
unsafe extern "C" fn bpfrs_kpi_copyout(from: *const c_void, to: *mut c_void, len: usize) -> c_int {
    thread::may_sleep("copyout(9)");
    if faults(to.addr(), len) {
        return bpfrs_const::BPFRS_EFAULT;
    }
    // SAFETY: as for copyin, the other way round.
    unsafe { to.cast::<u8>().copy_from_nonoverlapping(from.cast(), len) };
    0
}
