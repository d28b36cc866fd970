// SPDX-License-Identifier: BSD-2-Clause
//! The filter machine of bpf(4), without `unsafe` and without the driver.
//!
//! The language is McCanne and Jacobson's "The BSD Packet Filter" (USENIX
//! 1993) as FreeBSD has it: forward jumps only, 16 words of scratch memory,
//! MOD and XOR included, no coprocessor.
//!
//! A [`Program`] is checked once and compiled once. Three machines run it:
//!
//! | machine | what it is |
//! |---|---|
//! | `reference` | one instruction after the other, nothing clever: what the others must equal |
//! | `threaded` | functions that call one another; each does what libpcap writes as several instructions |
//! | [`amd64`] | machine code, for who has memory that can be executed |
//!
//! The fast ones see the first contiguous part of a packet only
//! ([`Packet::window`]). A load that leaves it ends them, and the reference
//! goes on from there. So what is beyond, and whether that rejects the packet,
//! is decided in one place.
//!
//! ```
//! use bpfrs_filter::{Heap, Insn, Program};
//!
//! // ip: ldh [12]; jeq #0x800 jt 0 jf 1; ret #262144; ret #0
//! let ip = [
//!     Insn { code: 0x28, jt: 0, jf: 0, k: 12 },
//!     Insn { code: 0x15, jt: 0, jf: 1, k: 0x800 },
//!     Insn { code: 0x06, jt: 0, jf: 0, k: 262_144 },
//!     Insn { code: 0x06, jt: 0, jf: 0, k: 0 },
//! ];
//! let ip = Program::<Heap>::new(Box::from(ip))?;
//! let mut frame = [0; 60];
//! assert_eq!(ip.run(&frame[..]), 0);
//! frame[12] = 8;
//! assert_eq!(ip.run(&frame[..]), 262_144);
//! # Ok::<(), bpfrs_filter::Invalid>(())
//! ```
#![no_std]
#![forbid(unsafe_code)]
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

#[cfg(any(test, feature = "alloc"))]
extern crate alloc;

pub mod amd64;
mod compile;
pub mod decimal;
mod handlers;
mod memory;
mod opcode;
mod packet;
mod program;
mod reference;
mod step;
mod table;
mod threaded;
mod validate;

#[cfg(any(test, feature = "alloc"))]
pub use memory::Heap;
pub use memory::Memory;
pub use packet::{Captured, Packet};
pub use program::Program;
pub use step::Kind;
pub use validate::{Invalid, Reason, validate};

/// The package's own page: its example is tested.
#[cfg(doctest)]
#[doc = include_str!("README.md")]
struct Readme;

// Addresses of the machine (32 bits and what two of them add up to) are indices.
const _: () = assert!(usize::BITS >= 64);

/// One instruction, laid out as `struct bpf_insn` of `<net/bpf.h>`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Insn {
    /// What it does.
    pub code: u16,
    /// How many instructions a jump skips if its condition holds.
    pub jt: u8,
    /// … and if it does not.
    pub jf: u8,
    /// The operand.
    pub k: u32,
}
