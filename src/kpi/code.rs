// SPDX-License-Identifier: BSD-2-Clause
//! Filters as machine code: memory that is written first and executed then,
//! never both.

use core::ptr::NonNull;

use bpfrs_filter::amd64::LEFT;
use bpfrs_filter::{Memory, Program};
use bpfrs_sys as sys;

/// The code of one program.
pub struct Code {
    start: NonNull<u8>,
    size: usize,
}

/// What [`bpfrs_filter::amd64`] says it writes.
type Function = unsafe extern "C" fn(window: *const u8, window_len: usize, wire_len: u32) -> u64;

impl Code {
    /// Compiles a program. `None` if this kernel executes no such code, and
    /// without memory. May sleep.
    pub fn new<M: Memory>(program: &Program<M>) -> Option<Code> {
        // Known here, so that the kernel of another processor gets no emitter either.
        if cfg!(not(target_arch = "x86_64")) {
            return None;
        }
        let bytes = program.amd64()?;
        let size = bytes.len();
        // SAFETY: any size is allowed, in thread context.
        let start = NonNull::new(unsafe { sys::bpfrs_kpi_code_alloc(size) })?.cast::<u8>();
        let code = Code { start, size };
        // SAFETY: `size` bytes, ours alone and writable until they are sealed.
        unsafe { start.as_ptr().copy_from_nonoverlapping(bytes.as_ptr(), size) };
        // SAFETY: what alloc gave, not sealed yet.
        let error = unsafe { sys::bpfrs_kpi_code_seal(start.as_ptr().cast(), size) };
        (error == 0).then_some(code)
    }

    /// Runs it on the first bytes of a packet. `None`: they are too few for it,
    /// and it did nothing.
    #[inline]
    pub fn run(&self, window: &[u8], wire_len: u32) -> Option<u32> {
        // SAFETY: sealed memory with the code that bpfrs_filter made of a valid
        // program: a function with this signature, which reads the window
        // only. It is there as long as self.
        let result = unsafe {
            let function = core::mem::transmute::<*mut u8, Function>(self.start.as_ptr());
            function(window.as_ptr(), window.len(), wire_len)
        };
        (result != LEFT).then_some(result as u32)
    }
}

impl Drop for Code {
    fn drop(&mut self) {
        // SAFETY: what alloc gave; nobody runs it any more.
        unsafe { sys::bpfrs_kpi_code_free(self.start.as_ptr().cast(), self.size) };
    }
}

// SAFETY: sealed memory is only read and executed, by any thread.
unsafe impl Send for Code {}
// SAFETY: as above.
unsafe impl Sync for Code {}
