// SPDX-License-Identifier: BSD-2-Clause
//! What the fuzzers run: one function of bytes for each target.
//!
//! libFuzzer calls them, and so does `tests/fuzz.rs`, with the inputs that once
//! found something (`regressions`). A broken rule is a panic.

use std::sync::LazyLock;

use bpfrs::kpi::abi::Plain;
use bpfrs::kpi::host::{self, File, Tunable};
use bpfrs::kpi::stats;

pub mod filter;
pub mod idioms;
pub mod ops;
pub mod read;

/// The argument of an ioctl(2), as words.
#[derive(Clone, Copy)]
#[repr(C)]
struct Words<const N: usize>([u32; N]);

// SAFETY: integers without padding.
unsafe impl<const N: usize> Plain for Words<N> {}

fn set<T: Plain>(file: &File, command: u64, mut value: T) -> Result<(), i32> {
    file.ioctl(command, &mut value)
}

fn get<T: Plain>(file: &File, command: u64, mut value: T) -> Result<T, i32> {
    file.ioctl(command, &mut value).map(|()| value)
}

/// Shows a step that comes next, with BPFRS_FUZZ_TRACE=1: to understand an input.
fn trace(step: &impl std::fmt::Debug) {
    static WANTED: LazyLock<bool> =
        LazyLock::new(|| std::env::var_os("BPFRS_FUZZ_TRACE").is_some());
    if *WANTED {
        eprintln!("{step:?}");
    }
}

/// Runs `body` with the module. Afterwards nothing of an open may be left; and,
/// for every eighth length of the input, nothing of the module, which leaves.
fn session(data: &[u8], body: impl FnOnce()) {
    // The same input, the same run; and no other thread to wait for.
    host::reclaim_synchronously();
    if !host::is_loaded() {
        host::load().expect("the module loads");
    }
    for (tunable, value) in [
        (Tunable::Bufsize, 4096),
        (Tunable::Maxbufsize, 0x80000),
        (Tunable::Maxinsns, 512),
        (Tunable::Jit, 0),
    ] {
        host::set_tunable(tunable, value);
    }
    body();
    host::settle();
    if data.len().is_multiple_of(8) {
        host::unload(false).expect("the module unloads");
        let left = host::census();
        assert_eq!((left.cdevs, left.vnodes), (0, 0), "{left:?}");
    }
    let left = host::census();
    assert_eq!((left.allocations, left.monitors, left.packets), (0, 0, 0), "{left:?}");
    assert_eq!((left.taps, left.ifnets), (0, 1), "{left:?}");
    assert_eq!((stats::read(stats::LIVE), stats::read(stats::DESCRIPTORS)), (0, 0));
}
