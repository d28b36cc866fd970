// SPDX-License-Identifier: BSD-2-Clause
//! Mistakes that a kernel's address sanitizer must report: they show that it sees the code of
//! this driver. In no other module.

use core::hint::black_box;
use core::ptr;

use cty::c_int;

use super::memory::{allocate, free};

/// No multiple of what a byte of the shadow stands for, nor of malloc(9)'s sizes.
type Memory = [u8; 100];

/// net.bpfrs.sanitizer_control=rust-beyond
#[unsafe(no_mangle)]
extern "C" fn bpfrs_rs_control_beyond() -> c_int {
    let memory = allocate::<Memory>();
    let end = black_box(memory.cast::<u8>().as_ptr()).wrapping_add(size_of::<Memory>());
    // SAFETY: none: the byte behind the memory is not ours, which is the point. It is mapped.
    let _ = unsafe { ptr::read_volatile(end) };
    // SAFETY: what allocate gave, not used any more.
    unsafe { free(memory) };
    0
}

/// net.bpfrs.sanitizer_control=rust-freed
#[unsafe(no_mangle)]
extern "C" fn bpfrs_rs_control_freed() -> c_int {
    let memory = allocate::<Memory>();
    let start = black_box(memory.cast::<u8>().as_ptr());
    // SAFETY: what allocate gave; it is used once more, which is the point.
    unsafe { free(memory) };
    // SAFETY: none: it is not ours any more. It is mapped.
    let _ = unsafe { ptr::read_volatile(start) };
    0
}
