// SPDX-License-Identifier: BSD-2-Clause
//! From steps to the operations of the threaded machine.

use crate::Insn;
use crate::memory::Memory;
use crate::opcode::{LD_MEM, LDX_MEM, MEMWORDS};
use crate::packet::Packet;
use crate::reference::{self, State};
use crate::step::{Exit, Header, Kind, Step, Steps};
use crate::table;
use crate::threaded::{self, LEAVE, Machine, Op};

/// Operations, and what belongs to them.
pub(crate) struct Threaded<M: Memory> {
    ops: M::Array<Op>,
    /// The instruction that each operation begins with.
    origin: M::Array<u32>,
    kinds: M::Array<Kind>,
    tables: M::Array<u32>,
    /// Whether it uses scratch memory.
    scratch: bool,
}

impl<M: Memory> Threaded<M> {
    /// `None` without memory.
    pub(crate) fn new(steps: &Steps<'_, M>) -> Option<Self> {
        let list = steps.steps();
        let table_words = list.iter().map(|(_, step)| match step {
            Step::Set { keys, .. } => table::words(*keys as usize),
            _ => 0,
        });
        let none = Op { run: threaded::RETURN_K, at: 0, k: 0, l: 0, m: 0, yes: 0, no: 0 };
        let slots = steps.slots() as usize;
        let mut this = Self {
            ops: M::array(slots, none)?,
            origin: M::array(slots, 0u32)?,
            kinds: M::array(list.len(), Kind::Plain)?,
            tables: M::array(table_words.sum(), 0u32)?,
            // What is only written need not be there.
            scratch: steps.insns.iter().any(|insn| matches!(insn.code, LD_MEM | LDX_MEM)),
        };
        let (mut slot, mut free) = (0u32, 0u32);
        for (kind, (pc, step)) in this.kinds.iter_mut().zip(list) {
            let (op, more) = lower(steps, slot, step)?;
            let place = this.ops.get_mut(slot as usize)?;
            *place = op;
            (*kind, *this.origin.get_mut(slot as usize)?) = (step.kind(), *pc);
            if let Step::Set { keys, .. } = step {
                let words = table::words(*keys as usize);
                let set = this.tables.get_mut(free as usize..)?.get_mut(..words)?;
                (place.k, place.l) = (free, table::shift(*keys as usize));
                table::fill(set, || steps.keys(*pc, *keys), place.l);
                free = free.checked_add(u32::try_from(words).ok()?)?;
            }
            slot = slot.checked_add(1)?;
            if let Some(more) = more {
                *this.ops.get_mut(slot as usize)? = more;
                slot = slot.checked_add(1)?;
            }
        }
        Some(this)
    }

    /// Runs it: how many bytes to keep, 0 for none. `insns` are those that it
    /// was made of.
    #[inline]
    pub(crate) fn run<P: Packet + ?Sized>(&self, insns: &M::Array<Insn>, packet: &P) -> u32 {
        if self.scratch {
            self.run_with(insns, packet, &mut [0; MEMWORDS])
        } else {
            self.run_with(insns, packet, &mut [])
        }
    }

    #[inline(always)]
    fn run_with<P: Packet + ?Sized>(
        &self,
        insns: &M::Array<Insn>,
        packet: &P,
        memory: &mut [u32],
    ) -> u32 {
        let wire_len = packet.wire_len();
        let mut m = Machine { x: 0, a: 0, wire_len, memory, tables: &self.tables };
        let result = threaded::run(&self.ops, packet.window(), &mut m);
        if result & LEAVE != 0 { self.leave(insns, packet, &m, result) } else { result as u32 }
    }

    /// Goes on by the reference. All that it needs is found here: what is kept for
    /// it elsewhere is kept for every packet.
    #[cold]
    #[inline(never)]
    fn leave<P: Packet + ?Sized>(
        &self,
        insns: &M::Array<Insn>,
        packet: &P,
        m: &Machine<'_>,
        result: u64,
    ) -> u32 {
        let op = self.ops.len().wrapping_sub(threaded::left(&self.ops, result).len());
        let pc = self.origin.get(op).map_or(usize::MAX, |pc| *pc as usize);
        let mut memory = [0; MEMWORDS];
        for (to, from) in memory.iter_mut().zip(m.memory.iter()) {
            *to = *from;
        }
        reference::run(insns, packet, State { pc, a: m.a, x: m.x, memory })
    }

    pub(crate) fn kinds(&self) -> &[Kind] {
        &self.kinds
    }
}

/// The operation of a step at `slot`, and what belongs to it in the next slot.
fn lower<M: Memory>(steps: &Steps<'_, M>, slot: u32, step: &Step) -> Option<(Op, Option<Op>)> {
    let distance = |pc: u32| steps.operation(pc).checked_sub(slot);
    let way = |exit: Exit| match exit {
        Exit::Go(pc) => distance(pc),
        Exit::Return(k) => Some(k),
    };
    let ends = |exit: Exit| matches!(exit, Exit::Return(_));
    let op = |run| Op { run, at: 0, k: 0, l: 0, m: 0, yes: 0, no: 0 };
    let branch = |run, yes, no| Some(Op { yes: way(yes)?, no: way(no)?, ..op(run) });
    let mut more = None;
    let first = match *step {
        Step::Plain(insn) => Op { at: insn.k, k: insn.k, ..op(threaded::plain(insn.code)?) },
        Step::Go(pc) => Op { yes: distance(pc)?, ..op(threaded::JA) },
        Step::ReturnK(k) => Op { k, ..op(threaded::RETURN_K) },
        Step::ReturnA => op(threaded::RETURN_A),
        Step::Branch { compare, k, yes, no } => {
            let run = threaded::branch_of(k.is_none(), compare, ends(yes), ends(no));
            Op { k: k.unwrap_or(0), ..branch(run, yes, no)? }
        }
        Step::Test { load, mask, compare, k, yes, no } => {
            let run = threaded::test_of(load, compare, ends(yes), ends(no));
            Op { at: load.at, k, m: mask, ..branch(run, yes, no)? }
        }
        Step::Pair { load, second, mask, k, yes, no } => {
            let run = threaded::pair_of(load, ends(yes), ends(no));
            Op { at: load.at, l: second, k, m: mask, ..branch(run, yes, no)? }
        }
        Step::Range { load, low, span, yes, no } => {
            let run = threaded::range_of(load, ends(yes), ends(no));
            Op { at: load.at, k: low, l: span, ..branch(run, yes, no)? }
        }
        Step::TwoWay { load, k: [k, l], yes: [yes, also], no } => {
            let run = threaded::two_way_of(load, [ends(yes), ends(also)], ends(no));
            Op { at: load.at, k, l, m: way(also)?, ..branch(run, yes, no)? }
        }
        Step::OneOf { load, k: [k, l, m], yes, no } => {
            let run = threaded::one_of_of(load, ends(yes), ends(no));
            Op { at: load.at, k, l, m, ..branch(run, yes, no)? }
        }
        Step::Set { load, mask, yes, no, .. } => {
            let run = threaded::set_of(load, ends(yes), ends(no));
            Op { at: load.at, m: mask, ..branch(run, yes, no)? }
        }
        Step::Fragment { header, yes, no } => Op {
            at: header.flags,
            k: header.bits,
            l: header.len,
            yes: way(yes)?,
            no: distance(no)?,
            ..op(threaded::fragment_of(ends(yes)))
        },
        Step::Transport { protocol, k: [k, l, m], header, yes, no } => {
            more = Some(with_header(op(threaded::RETURN_K), header));
            let run = threaded::transport_of(ends(no));
            Op { at: protocol.at, k, l, m, ..branch(run, Exit::Go(yes), no)? }
        }
        Step::Ports { protocol, protocols: [k, l, m], header, load, second, k: port, yes, no } => {
            let ports = Op { at: load.at, l: second, k: port, ..op(threaded::RETURN_K) };
            more = Some(header.map_or(ports, |header| with_header(ports, header)));
            let run = threaded::ports_of(header.is_some(), ends(yes), ends(no));
            Op { at: protocol.at, k, l, m, ..branch(run, yes, no)? }
        }
    };
    Some((first, more))
}

/// Where the handlers of two slots find a header.
fn with_header(op: Op, header: Header) -> Op {
    Op { m: header.len, yes: header.bits, no: header.flags, ..op }
}
