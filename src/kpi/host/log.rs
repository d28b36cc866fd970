// SPDX-License-Identifier: BSD-2-Clause
//! printf(9) and panic(9).

use std::ffi::c_char;
use std::sync::Mutex;

use super::guard;

static LINES: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// What the driver has logged.
pub fn lines() -> Vec<String> {
    guard(&LINES).clone()
}

/// # Safety
/// `message` has `len` bytes.
unsafe fn text(message: *const c_char, len: usize) -> String {
    // SAFETY: by the contract of this function.
    String::from_utf8_lossy(unsafe { super::bytes(message.cast(), len) }).into_owned()
}

#[unsafe(no_mangle)]
unsafe extern "C" fn bpfrs_kpi_log(message: *const c_char, len: usize) {
    // SAFETY: a str of the driver.
    let line = unsafe { text(message, len) };
    eprintln!("bpfrs: {line}");
    guard(&LINES).push(line);
}

#[unsafe(no_mangle)]
unsafe extern "C" fn bpfrs_kpi_panic(message: *const c_char, len: usize) -> ! {
    // SAFETY: a str of the driver.
    panic!("bpfrs: {}", unsafe { text(message, len) });
}
