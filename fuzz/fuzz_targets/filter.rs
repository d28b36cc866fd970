// SPDX-License-Identifier: BSD-2-Clause
//! Filter programs.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| bpfrs_fuzz::filter::run(data));
