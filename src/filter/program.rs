// SPDX-License-Identifier: BSD-2-Clause
//! A program that was checked and compiled.

use core::ops::Deref;

use crate::Insn;
use crate::amd64::Code;
use crate::compile::Threaded;
use crate::memory::Memory;
use crate::opcode::RET_K;
use crate::packet::Packet;
use crate::reference::{self, State};
use crate::step::{Kind, Steps};
use crate::validate::{Invalid, validate};

/// A program that passed [`validate()`], in the memory of `M`.
pub struct Program<M: Memory> {
    insns: M::Array<Insn>,
    threaded: Option<Threaded<M>>,
}

impl<M: Memory> Program<M> {
    /// Checks `insns` and compiles them, in time and memory in proportion to
    /// their number. Without memory for that the reference runs the program.
    ///
    /// # Errors
    /// [`Invalid`] if [`validate()`] says so. A program without instructions
    /// is none.
    pub fn new(insns: M::Array<Insn>) -> Result<Self, Invalid> {
        validate(&insns)?;
        let threaded = Steps::<M>::new(&insns).and_then(|steps| Threaded::new(&steps));
        Ok(Program { insns, threaded })
    }

    /// Runs the program: how many bytes of the packet to keep, 0 for none.
    #[inline]
    pub fn run<P: Packet + ?Sized>(&self, packet: &P) -> u32 {
        match &self.threaded {
            Some(threaded) => threaded.run(&self.insns, packet),
            None => self.run_reference(packet),
        }
    }

    /// What it says of every packet, if it begins with `ret k`: tcpdump
    /// without an expression.
    #[inline]
    pub fn constant(&self) -> Option<u32> {
        self.insns.first().filter(|insn| insn.code == RET_K).map(|insn| insn.k)
    }

    /// The program as a function of amd64: see [`amd64`](crate::amd64) for how it is called.
    /// `None` without memory.
    pub fn amd64(&self) -> Option<Code<M>> {
        Code::new(&Steps::new(&self.insns)?)
    }

    /// The same as [`Program::run`], by the reference.
    pub fn run_reference<P: Packet + ?Sized>(&self, packet: &P) -> u32 {
        reference::run(&self.insns, packet, State::default())
    }

    /// The steps of the threaded machine, in their order; none if the
    /// reference runs the program.
    pub fn kinds(&self) -> &[Kind] {
        self.threaded.as_ref().map_or(&[], Threaded::kinds)
    }

    /// The instructions.
    pub fn insns(&self) -> &[Insn] {
        self.insns.deref()
    }
}
