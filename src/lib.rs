// SPDX-License-Identifier: BSD-2-Clause
//! bpfrs: FreeBSD's bpf(4) packet-capture device in Rust.
//!
//! The driver is safe Rust over the wrappers of [`kpi`], which is the only
//! place with `unsafe`. `docs/design.md` has the states, the locks and the
//! invariants; bpf(4) has the interface.
//!
//! | module | what it is |
//! |---|---|
//! | `dev` | nodes, opens, and the ways an open ends |
//! | `bpf_d` | one open: its life, read, poll, capture |
//! | `write` | write(2) |
//! | `gate` | opens that are alive, and the unload that waits for them |
//! | `ioctl` | ioctl(2) |
//! | `tap` | from an interface to the descriptors that listen |
//! | [`program`] | a descriptor's filters; the machine itself is the crate [`filter`] |
//! | [`buffer`], `zbuf`, [`record`] | store, hold and free; zero-copy; record headers |
//! | [`kpi`] | what the kernel offers, as types |
#![cfg_attr(feature = "kernel", no_std)]
#![deny(unsafe_code)]
#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects
    )
)]

mod bpf_d;
pub mod buffer;
mod dev;
mod gate;
mod ioctl;
#[expect(unsafe_code, reason = "the one place for it")]
pub mod kpi;
pub mod program;
pub mod record;
mod tap;
mod write;
mod zbuf;

pub use bpfrs_filter as filter;
