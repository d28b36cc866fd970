// SPDX-License-Identifier: BSD-2-Clause
//! panic(9).

use std::ffi::c_char;

#[unsafe(no_mangle)]
unsafe extern "C" fn bpfrs_kpi_panic(message: *const c_char, len: usize) -> ! {
    // SAFETY: a str of the driver.
    let message = unsafe { super::bytes(message.cast(), len) };
    panic!("bpfrs: {}", String::from_utf8_lossy(message));
}
