// SPDX-License-Identifier: BSD-2-Clause
//! A descriptor's filters: the machine of [`bpfrs_filter`] on mbuf(9)s and in
//! memory of malloc(9).

use bpfrs_filter::{Insn, Invalid, Memory, Packet};

use crate::kpi::abi::bpf_insn;
use crate::kpi::code::Code;
use crate::kpi::mbuf;
use crate::kpi::memory::Array;
use crate::kpi::tunable;

/// malloc(9). Does not sleep: a program that cannot be compiled for want of
/// memory is interpreted.
pub enum Malloc {}

impl Memory for Malloc {
    type Array<T: Copy> = Array<T>;

    fn array<T: Copy>(len: usize, item: T) -> Option<Array<T>> {
        Array::filled(len, item)
    }
}

/// A filter.
pub struct Program {
    filter: bpfrs_filter::Program<Malloc>,
    /// With `net.bpfrs.jit`, where it can be had.
    code: Option<Code>,
}

impl Program {
    /// Checks and compiles what BIOCSETF brings. Sleeps.
    ///
    /// # Errors
    /// [`Invalid`] for what bpf(4) refuses, and for a program without
    /// instructions.
    pub fn new(insns: &[bpf_insn]) -> Result<Program, Invalid> {
        let insns = insns.iter().map(|&bpf_insn { code, jt, jf, k }| Insn { code, jt, jf, k });
        let filter = bpfrs_filter::Program::new(Array::collect(insns.len(), insns))?;
        let code = if tunable::jit() { Code::new(&filter) } else { None };
        Ok(Program { filter, code })
    }

    /// Runs the program: how many bytes of the packet to keep, 0 for none.
    #[inline]
    pub fn run<P: Packet + ?Sized>(&self, packet: &P) -> u32 {
        self.filter.constant().unwrap_or_else(|| self.run_machine(packet))
    }

    #[inline(never)]
    fn run_machine<P: Packet + ?Sized>(&self, packet: &P) -> u32 {
        let code = self.code.as_ref();
        let result = code.and_then(|code| code.run(packet.window(), packet.wire_len()));
        result.unwrap_or_else(|| self.filter.run(packet))
    }

    /// What interprets it.
    pub fn filter(&self) -> &bpfrs_filter::Program<Malloc> {
        &self.filter
    }

    /// Whether it is machine code, too.
    pub fn is_code(&self) -> bool {
        self.code.is_some()
    }
}

impl Packet for mbuf::Packet<'_> {
    fn wire_len(&self) -> u32 {
        u32::try_from(self.len()).unwrap_or(u32::MAX)
    }

    fn window(&self) -> &[u8] {
        self.window()
    }

    fn bytes<const N: usize>(&self, offset: u32) -> Option<[u8; N]> {
        self.bytes(offset)
    }
}
