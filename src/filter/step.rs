// SPDX-License-Identifier: BSD-2-Clause
//! What the fast machines do in one go: an instruction, or several that
//! libpcap writes one after the other.
//!
//! A step is found by following the program from where it begins, through
//! branches if need be, not by what stands side by side: libpcap shares tails.
//! What another way leads to is a step of its own there. So every instruction
//! begins at most one step, and the program is never larger than before.

use crate::Insn;
use crate::memory::Memory;
use crate::opcode::*;

/// Where it goes from a branch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// On, with this instruction.
    Go(u32),
    /// The program ends, with this many bytes.
    Return(u32),
}

/// A load from the packet: of 1, 2 or 4 bytes, at `at` or at X + `at`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Load {
    pub(crate) size: u8,
    pub(crate) indirect: bool,
    pub(crate) at: u32,
}

/// A comparison of A.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Compare {
    Equal,
    Above,
    AtLeast,
    Bits,
}

/// One step. `yes` and `no` are where it goes on when the condition holds and
/// when it does not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// An instruction that leads to the next one.
    Plain(Insn),
    /// `ja` that the instruction before runs into.
    Go(u32),
    ReturnK(u32),
    ReturnA,
    /// A against k, or against X.
    Branch {
        compare: Compare,
        k: Option<u32>,
        yes: Exit,
        no: Exit,
    },
    /// ld; and; jeq (or another).
    Test {
        load: Load,
        mask: u32,
        compare: Compare,
        k: u32,
        yes: Exit,
        no: Exit,
    },
    /// Ports, addresses: is one of two fields equal to k?
    Pair {
        load: Load,
        second: u32,
        mask: u32,
        k: u32,
        yes: Exit,
        no: Exit,
    },
    /// Is low <= A <= low + span?
    Range {
        load: Load,
        low: u32,
        span: u32,
        yes: Exit,
        no: Exit,
    },
    /// IPv4, IPv6 or neither.
    TwoWay {
        load: Load,
        k: [u32; 2],
        yes: [Exit; 2],
        no: Exit,
    },
    /// TCP, UDP or SCTP: is it one of three?
    OneOf {
        load: Load,
        k: [u32; 3],
        yes: Exit,
        no: Exit,
    },
    /// Is it one of `keys` many? [`Steps::keys`] says which.
    Set {
        load: Load,
        mask: u32,
        keys: u32,
        yes: Exit,
        no: Exit,
    },
    /// `ldh; jset; ldxb 4*([k]&0xf)`: a fragment, or how long is the header?
    Fragment {
        header: Header,
        yes: Exit,
        no: u32,
    },
    /// One of these protocols, and no fragment: the header is `yes`.
    Transport {
        protocol: Load,
        k: [u32; 3],
        header: Header,
        yes: u32,
        no: Exit,
    },
    /// The same, and one of two ports is k. Where the ports are at X + `at`,
    /// there is a header to be looked at before.
    Ports {
        protocol: Load,
        protocols: [u32; 3],
        header: Option<Header>,
        load: Load,
        second: u32,
        k: u32,
        yes: Exit,
        no: Exit,
    },
}

/// What tells IPv4 fragments, and where the header's length is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) flags: u32,
    pub(crate) bits: u32,
    pub(crate) len: u32,
}

/// The kinds of steps, to be counted: see [`Program::kinds`](crate::Program::kinds).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(missing_docs, reason = "they are named as the steps")]
pub enum Kind {
    Plain,
    Branch,
    Test,
    Pair,
    Range,
    TwoWay,
    OneOf,
    Set,
    Fragment,
    Transport,
    Ports,
}

impl Step {
    pub(crate) fn kind(&self) -> Kind {
        match self {
            Step::Plain(_) | Step::Go(_) | Step::ReturnK(_) | Step::ReturnA => Kind::Plain,
            Step::Branch { .. } => Kind::Branch,
            Step::Test { .. } => Kind::Test,
            Step::Pair { .. } => Kind::Pair,
            Step::Range { .. } => Kind::Range,
            Step::TwoWay { .. } => Kind::TwoWay,
            Step::OneOf { .. } => Kind::OneOf,
            Step::Set { .. } => Kind::Set,
            Step::Fragment { .. } => Kind::Fragment,
            Step::Transport { .. } => Kind::Transport,
            Step::Ports { .. } => Kind::Ports,
        }
    }

    /// How many operations it takes.
    pub(crate) fn slots(&self) -> u32 {
        match self {
            Step::Transport { .. } | Step::Ports { .. } => 2,
            _ => 1,
        }
    }

    /// The instructions that it may go on with.
    pub(crate) fn successors(&self, pc: u32) -> impl Iterator<Item = u32> {
        let go = |exit: Exit| match exit {
            Exit::Go(to) => Some(to),
            Exit::Return(_) => None,
        };
        let [first, second, third] = match *self {
            Step::Plain(_) => [Some(pc.wrapping_add(1)), None, None],
            Step::Go(to) => [Some(to), None, None],
            Step::ReturnK(_) | Step::ReturnA => [None; 3],
            Step::Branch { yes, no, .. }
            | Step::Test { yes, no, .. }
            | Step::Pair { yes, no, .. }
            | Step::Range { yes, no, .. }
            | Step::OneOf { yes, no, .. }
            | Step::Set { yes, no, .. }
            | Step::Ports { yes, no, .. } => [go(yes), go(no), None],
            Step::TwoWay { yes: [one, two], no, .. } => [go(one), go(two), go(no)],
            Step::Fragment { yes, no, .. } => [go(yes), Some(no), None],
            Step::Transport { yes, no, .. } => [Some(yes), go(no), None],
        };
        [first, second, third].into_iter().flatten()
    }
}

/// What is known of an instruction.
#[derive(Clone, Copy, Default)]
struct Fact {
    /// The first one that is no `ja`, if one jumps here.
    lands: u32,
    /// Whether what A has here is used.
    a_is_used: bool,
    /// … and X.
    x_is_used: bool,
}

/// What stands in the index for an instruction that no step begins with, and
/// for one whose step is still to come.
const UNREACHED: u32 = u32::MAX;
const WANTED: u32 = u32::MAX - 1;

/// The steps of a valid program, in its order.
pub(crate) struct Steps<'p, M: Memory> {
    pub(crate) insns: &'p [Insn],
    facts: M::Array<Fact>,
    /// How many more keys of sets may be looked at. Many loads may share a
    /// tail of many keys; time and memory are to stay in proportion to the
    /// program's length.
    budget: usize,
    /// Each with the instruction that it begins with.
    steps: M::Array<(u32, Step)>,
    len: usize,
    /// The first operation of the step that an instruction begins.
    index: M::Array<u32>,
    /// How many operations there are. No more than instructions: what takes
    /// two comes of six or more.
    slots: u32,
}

impl<'p, M: Memory> Steps<'p, M> {
    /// `None` without memory.
    pub(crate) fn new(insns: &'p [Insn]) -> Option<Self> {
        let mut this = Self {
            insns,
            facts: M::array(insns.len(), Fact::default())?,
            budget: insns.len().saturating_mul(4),
            steps: M::array(insns.len(), (0, Step::ReturnA))?,
            len: 0,
            index: M::array(insns.len(), UNREACHED)?,
            slots: 0,
        };
        this.look();
        this.want(0);
        for pc in 0..insns.len() as u32 {
            // Every jump goes forward: who wants this one has said so.
            if this.index.get(pc as usize) == Some(&WANTED) {
                let step = this.begin(pc);
                step.successors(pc).for_each(|next| this.want(next));
                if let Some(place) = this.steps.get_mut(this.len) {
                    *place = (pc, step);
                }
                if let Some(place) = this.index.get_mut(pc as usize) {
                    *place = this.slots;
                }
                this.slots = this.slots.saturating_add(step.slots());
                this.len = this.len.saturating_add(1);
            }
        }
        Some(this)
    }

    fn want(&mut self, pc: u32) {
        if let Some(place) = self.index.get_mut(pc as usize) {
            *place = WANTED;
        }
    }

    /// Gathers the facts, from the end: every jump goes forward.
    fn look(&mut self) {
        for (pc, insn) in self.insns.iter().enumerate().rev() {
            let at = |distance: u32| {
                let next = pc.saturating_add(1).saturating_add(distance as usize);
                self.facts.get(next).copied().unwrap_or_default()
            };
            let fact = match insn.code {
                JA => at(insn.k),
                code => Fact {
                    lands: pc as u32,
                    a_is_used: match code & CLASS {
                        LD => false,
                        LDX | STX => at(0).a_is_used,
                        RET => code == RET_A,
                        MISC => code == TAX,
                        _ => true,
                    },
                    x_is_used: match code {
                        LDX_IMM | LDX_MEM | LDX_LEN | LDX_MSH | TAX | RET_K | RET_A => false,
                        LD_W_IND | LD_H_IND | LD_B_IND | STX | TXA => true,
                        _ if matches!(code & CLASS, ALU | JMP) && code & X != 0 => true,
                        _ if code & CLASS == JMP => {
                            at(insn.jt.into()).x_is_used || at(insn.jf.into()).x_is_used
                        }
                        _ => at(0).x_is_used,
                    },
                },
            };
            if let Some(place) = self.facts.get_mut(pc) {
                *place = fact;
            }
        }
    }

    /// The steps, each with the instruction that it begins with.
    pub(crate) fn steps(&self) -> &[(u32, Step)] {
        self.steps.get(..self.len).unwrap_or_default()
    }

    /// How many operations there are.
    pub(crate) fn slots(&self) -> u32 {
        self.slots
    }

    /// The operation that the step of an instruction begins with, if another
    /// step leads there.
    pub(crate) fn operation(&self, pc: u32) -> u32 {
        self.index.get(pc as usize).copied().unwrap_or(UNREACHED)
    }

    fn insn(&self, pc: u32) -> Insn {
        // A valid program does not leave itself.
        self.insns.get(pc as usize).copied().unwrap_or(Insn { code: RET_K, ..Insn::default() })
    }

    /// Where a jump to `pc` ends.
    fn lands(&self, pc: u32) -> u32 {
        self.facts.get(pc as usize).map_or(pc, |fact| fact.lands)
    }

    /// Whether the value that A has at the end of this way is used.
    pub(crate) fn a_is_used(&self, exit: Exit) -> bool {
        match exit {
            Exit::Return(_) => false,
            Exit::Go(pc) => self.facts.get(pc as usize).is_none_or(|fact| fact.a_is_used),
        }
    }

    /// … and that of X.
    pub(crate) fn x_is_used(&self, exit: Exit) -> bool {
        match exit {
            Exit::Return(_) => false,
            Exit::Go(pc) => self.facts.get(pc as usize).is_none_or(|fact| fact.x_is_used),
        }
    }

    /// Whether neither A nor X is used at the end of this way.
    fn forgets(&self, exit: Exit) -> bool {
        !self.a_is_used(exit) && !self.x_is_used(exit)
    }

    fn exit(&self, pc: u32, distance: u8) -> Exit {
        let to = self.lands(pc.wrapping_add(1).wrapping_add(distance.into()));
        match self.insn(to) {
            Insn { code: RET_K, k, .. } => Exit::Return(k),
            _ => Exit::Go(to),
        }
    }

    /// A branch on A and k at the end of this way.
    fn branch_at(&self, exit: Exit) -> Option<(Compare, u32, Exit, Exit)> {
        let Exit::Go(pc) = exit else { return None };
        let insn = self.insn(pc);
        let compare = match insn.code {
            JEQ_K => Compare::Equal,
            JGT_K => Compare::Above,
            JGE_K => Compare::AtLeast,
            JSET_K => Compare::Bits,
            _ => return None,
        };
        Some((compare, insn.k, self.exit(pc, insn.jt), self.exit(pc, insn.jf)))
    }

    /// `A == k` at the end of this way.
    fn equal_at(&self, exit: Exit) -> Option<(u32, Exit, Exit)> {
        match self.branch_at(exit)? {
            (Compare::Equal, k, yes, no) => Some((k, yes, no)),
            _ => None,
        }
    }

    /// A load from the packet, what of it is kept, and what comes after.
    fn load_at(&self, pc: u32) -> Option<(Load, u32, u32)> {
        let insn = self.insn(pc);
        let (size, indirect) = match insn.code {
            LD_W_ABS => (4, false),
            LD_H_ABS => (2, false),
            LD_B_ABS => (1, false),
            LD_W_IND => (4, true),
            LD_H_IND => (2, true),
            LD_B_IND => (1, true),
            _ => return None,
        };
        let load = Load { size, indirect, at: insn.k };
        let next = self.lands(pc.wrapping_add(1));
        Some(match self.insn(next) {
            Insn { code: AND_K, k, .. } => (load, k, self.lands(next.wrapping_add(1))),
            _ => (load, u32::MAX, next),
        })
    }

    /// The step that begins with the instruction `pc`.
    fn begin(&mut self, pc: u32) -> Step {
        let insn = self.insn(pc);
        match insn.code {
            JA => Step::Go(self.lands(pc)),
            RET_K => Step::ReturnK(insn.k),
            RET_A => Step::ReturnA,
            JEQ_K | JGT_K | JGE_K | JSET_K | JEQ_X | JGT_X | JGE_X | JSET_X => Step::Branch {
                compare: match insn.code & !X {
                    JEQ_K => Compare::Equal,
                    JGT_K => Compare::Above,
                    JGE_K => Compare::AtLeast,
                    _ => Compare::Bits,
                },
                k: (insn.code & X == 0).then_some(insn.k),
                yes: self.exit(pc, insn.jt),
                no: self.exit(pc, insn.jf),
            },
            _ => self.load_and_test(pc).unwrap_or(Step::Plain(insn)),
        }
    }

    fn load_and_test(&mut self, pc: u32) -> Option<Step> {
        let (load, mask, next) = self.load_at(pc)?;
        let (compare, k, yes, no) = self.branch_at(Exit::Go(next))?;
        let special = match compare {
            Compare::Equal => self.equal(load, mask, k, yes, no),
            Compare::AtLeast if mask == u32::MAX => self.range(load, k, yes, no),
            Compare::Bits if mask == u32::MAX => self.fragment(load, k, yes, no),
            _ => None,
        };
        Some(special.unwrap_or(Step::Test { load, mask, compare, k, yes, no }))
    }

    /// What begins with `A == k`.
    fn equal(&mut self, load: Load, mask: u32, k: u32, yes: Exit, no: Exit) -> Option<Step> {
        let mut three = [k; 3];
        let (mut keys, mut rest) = (1u32, no);
        while let Some((k, also, no)) = self.equal_at(rest)
            && also == yes
            && self.budget > 0
        {
            self.budget = self.budget.saturating_sub(1);
            if let Some(place) = three.get_mut(keys as usize) {
                *place = k;
            }
            (keys, rest) = (keys.wrapping_add(1), no);
        }
        if keys > 3 || (keys > 1 && mask != u32::MAX) {
            return Some(Step::Set { load, mask, keys, yes, no: rest });
        }
        if mask == u32::MAX
            && let Some(step) = self.transport(load, three, yes, rest)
        {
            return Some(step);
        }
        if keys > 1 {
            return Some(Step::OneOf { load, k: three, yes, no: rest });
        }
        if let Some((other, also, no)) = self.equal_at(no) {
            let plain = mask == u32::MAX && !load.indirect;
            return plain.then_some(Step::TwoWay { load, k: [k, other], yes: [yes, also], no });
        }
        let (second, last) = self.pair(load, mask, k, yes, no)?;
        Some(Step::Pair { load, second, mask, k, yes, no: last })
    }

    /// The same of another field, at the end of the way `no`.
    fn pair(&self, load: Load, mask: u32, k: u32, yes: Exit, no: Exit) -> Option<(u32, Exit)> {
        let Exit::Go(second) = no else { return None };
        let (other, other_mask, next) = self.load_at(second)?;
        let (other_k, also, last) = self.equal_at(Exit::Go(next))?;
        let same = Load { at: load.at, ..other } == load && (other_mask, other_k) == (mask, k);
        // Of more keys a set is made, for each of the two fields.
        let more = self.equal_at(last).is_some();
        (same && also == yes && !more).then_some((other.at, last))
    }

    /// What begins with a look at the protocol, which is one of three.
    fn transport(&self, protocol: Load, k: [u32; 3], yes: Exit, no: Exit) -> Option<Step> {
        let Exit::Go(pc) = yes else { return None };
        if protocol.size != 1 || protocol.indirect || !self.forgets(no) {
            return None;
        }
        let header = self.load_at(pc).and_then(|(load, mask, next)| {
            let (Compare::Bits, bits, fragment, next) = self.branch_at(Exit::Go(next))? else {
                return None;
            };
            let header = self.header(load, bits, next)?;
            (mask == u32::MAX && fragment == no).then_some(header)
        });
        let pc = header.map_or(pc, |(_, next)| next);
        let ports = self.load_at(pc).and_then(|(load, mask, next)| {
            let (k, yes, also) = self.equal_at(Exit::Go(next))?;
            let (second, last) = self.pair(load, mask, k, yes, also)?;
            let fits = load.size == 2 && load.indirect == header.is_some();
            (fits && mask == u32::MAX && last == no).then_some((load, second, k, yes))
        });
        match (header, ports) {
            (header, Some((load, second, port, yes))) => Some(Step::Ports {
                protocol,
                protocols: k,
                header: header.map(|(header, _)| header),
                load,
                second,
                k: port,
                yes,
                no,
            }),
            (Some((header, yes)), None) => Some(Step::Transport { protocol, k, header, yes, no }),
            (None, None) => None,
        }
    }

    /// The keys of a set that begins with the instruction `pc`.
    pub(crate) fn keys(&self, pc: u32, keys: u32) -> impl Iterator<Item = u32> {
        let next = self.load_at(pc).map(|(_, _, next)| Exit::Go(next));
        let first = next.and_then(|next| self.equal_at(next));
        core::iter::successors(first, |(_, _, no)| self.equal_at(*no))
            .map(|(k, _, _)| k)
            .take(keys as usize)
    }

    fn range(&self, load: Load, low: u32, yes: Exit, no: Exit) -> Option<Step> {
        let (Compare::Above, high, above, inside) = self.branch_at(yes)? else { return None };
        let span = high.checked_sub(low)?;
        (above == no).then_some(Step::Range { load, low, span, yes: inside, no })
    }

    fn fragment(&self, load: Load, bits: u32, yes: Exit, no: Exit) -> Option<Step> {
        let (header, no) = self.header(load, bits, no)?;
        Some(Step::Fragment { header, yes, no })
    }

    /// The header's length, after the flags, at the end of the way `next`.
    fn header(&self, flags: Load, bits: u32, next: Exit) -> Option<(Header, u32)> {
        let Exit::Go(pc) = next else { return None };
        let Insn { code: LDX_MSH, k: len, .. } = self.insn(pc) else { return None };
        let next = self.lands(pc.wrapping_add(1));
        (flags.size == 2 && !flags.indirect)
            .then_some((Header { flags: flags.at, bits, len }, next))
    }
}
