// SPDX-License-Identifier: BSD-2-Clause
//! Sequences of system calls and events.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| bpfrs_fuzz::ops::run(data));
