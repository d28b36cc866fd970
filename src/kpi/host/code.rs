// SPDX-License-Identifier: BSD-2-Clause
//! Memory to execute, from mmap(2) and mprotect(2).

use std::ffi::{c_int, c_void};
use std::ptr;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::errno::EIO;

static LIVE: AtomicUsize = AtomicUsize::new(0);

/// A jump that is not far is predicted sooner: as the kernel's, code is to be
/// near the program that calls it.
static NEAR: AtomicUsize = AtomicUsize::new(0);
const REACH: usize = 1 << 30;
const PAGE: usize = 4096;

/// How many allocations are alive.
pub(super) fn live() -> usize {
    LIVE.load(Ordering::SeqCst)
}

#[unsafe(no_mangle)]
extern "C" fn bpfrs_kpi_code_alloc(size: usize) -> *mut c_void {
    if !cfg!(target_arch = "x86_64") {
        return ptr::null_mut();
    }
    let (access, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANON);
    let near = NEAR.fetch_add(size.next_multiple_of(PAGE), Ordering::Relaxed) % REACH;
    let wish = (live as fn() -> usize as usize & !(PAGE - 1)) + REACH / 4 + near;
    // SAFETY: anonymous memory, there or wherever there is room.
    let memory = unsafe { libc::mmap(wish as *mut c_void, size, access, flags, -1, 0) };
    if memory == libc::MAP_FAILED {
        return ptr::null_mut();
    }
    LIVE.fetch_add(1, Ordering::SeqCst);
    memory
}

#[unsafe(no_mangle)]
extern "C" fn bpfrs_kpi_code_seal(memory: *mut c_void, size: usize) -> c_int {
    // SAFETY: a mapping of the driver's own, which it does not write any more.
    let error = unsafe { libc::mprotect(memory, size, libc::PROT_READ | libc::PROT_EXEC) };
    if error == 0 { 0 } else { EIO }
}

#[unsafe(no_mangle)]
extern "C" fn bpfrs_kpi_code_free(memory: *mut c_void, size: usize) {
    // SAFETY: a mapping of the driver's own, which it does not use any more.
    let error = unsafe { libc::munmap(memory, size) };
    assert!(error == 0, "munmap: {}", std::io::Error::last_os_error());
    LIVE.fetch_sub(1, Ordering::SeqCst);
}
