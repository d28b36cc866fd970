// SPDX-License-Identifier: BSD-2-Clause
//! What read(2) returns.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| bpfrs_fuzz::read::run(data));
