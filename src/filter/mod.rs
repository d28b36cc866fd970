// SPDX-License-Identifier: BSD-2-Clause
//! The filter machine of bpf(4): the validator and the interpreter.
//!
//! The language is McCanne and Jacobson's "The BSD Packet Filter" (USENIX
//! 1993) as FreeBSD has it: forward jumps only, 16 words of scratch memory,
//! MOD and XOR included, no coprocessor.

mod interpreter;
mod opcode;
mod validate;

pub use validate::{Invalid, validate};

use crate::kpi::abi::bpf_insn;
use crate::kpi::memory::Array;

/// What a filter can look at.
pub trait Packet {
    /// The length on the wire, bytes: what `ld len` gives.
    fn wire_len(&self) -> u32;
    /// The `N` bytes at `offset`, or `None` if the packet ends before.
    fn bytes<const N: usize>(&self, offset: u32) -> Option<[u8; N]>;
}

impl Packet for [u8] {
    fn wire_len(&self) -> u32 {
        u32::try_from(self.len()).unwrap_or(u32::MAX)
    }

    fn bytes<const N: usize>(&self, offset: u32) -> Option<[u8; N]> {
        self.get(offset as usize..)?.first_chunk().copied()
    }
}

impl Packet for crate::kpi::mbuf::Packet<'_> {
    fn wire_len(&self) -> u32 {
        u32::try_from(self.len()).unwrap_or(u32::MAX)
    }

    fn bytes<const N: usize>(&self, offset: u32) -> Option<[u8; N]> {
        crate::kpi::mbuf::Packet::bytes(self, offset)
    }
}

/// A program that passed [`validate()`].
pub struct Program {
    insns: Array<bpf_insn>,
}

impl Program {
    /// Checks `insns`. A program without instructions accepts everything and
    /// is represented by no `Program` at all; here it is an error.
    pub fn new(insns: Array<bpf_insn>) -> Result<Program, Invalid> {
        validate(&insns)?;
        Ok(Program { insns })
    }

    /// Runs the program: how many bytes of the packet to keep, 0 for none.
    pub fn run<P: Packet + ?Sized>(&self, packet: &P) -> u32 {
        interpreter::run(&self.insns, packet)
    }

    /// How many instructions.
    pub fn len(&self) -> usize {
        self.insns.len()
    }

    /// Never: a valid program has a last instruction.
    pub fn is_empty(&self) -> bool {
        self.insns.is_empty()
    }
}
