// SPDX-License-Identifier: BSD-2-Clause
//! Code without a branch that a packet decides.
//!
//! Traffic is mixed: IPv4 or not, TCP or not, nobody can predict, and a
//! branch that was predicted wrongly waits for the packet to come from memory
//! before the next one may begin. So a short program that only asks for
//! fields of a packet is written twice. Here all its questions are asked, of
//! every packet, and whether a step is reached is a number: that of the step
//! before, and what that one found. The other code follows; it takes over,
//! from the beginning, what is too short for all the questions.
//!
//! | register | has |
//! |---|---|
//! | rdi, rsi | the arguments |
//! | r8b to r11b | which steps are reached, and whether the packet is accepted |
//! | eax, ecx, dl | what a step needs for itself; dl is its answer |

use super::{
    Condition, EAX, ECX, EDX, Emitter, IPV6_FRAGMENT, R8, R11, Target, condition, fits, swap,
};
use crate::memory::Memory;
use crate::step::{Compare, Exit, Header, Load, Step};

/// So many steps; and so many bytes for each of them on an average. More cost
/// more than branches do.
pub(super) const STEPS: usize = 12;
const STEP: usize = 45;

/// What is so far into a packet, a packet that is not asked for it need not
/// fetch from memory: it looks at its beginning instead.
const FAR: u32 = 48;

/// Where fields are.
#[derive(Clone, Copy)]
enum Place {
    Window,
    /// Behind X, which is 4 * rcx.
    Header,
    /// At rcx, which is this, or 0.
    Far(u32),
}

/// Those for whether steps are reached.
const MASKS: core::ops::RangeInclusive<u8> = R8..=R11;

/// What two registers do.
const OR: u8 = 0x08;
const AND: u8 = 0x20;
const XOR: u8 = 0x30;
const MOV: u8 = 0x89;

/// What is known where a step begins, on all the ways there.
#[derive(Clone, Copy, Default)]
struct Fact {
    /// Something leads there.
    reached: bool,
    /// Whether it is reached; the first step always is.
    mask: Option<u8>,
    /// X is 4 * the low nibble of this byte.
    header: Option<u32>,
    /// A is this load, and what of it is kept.
    a: Option<(Load, u32)>,
}

/// Two types of frames that a program begins with.
pub(super) struct Types {
    /// Where the two bytes are that tell them.
    pub(super) at: u32,
    pub(super) types: [u32; 2],
    /// Where it goes on for them, and for others.
    pub(super) ways: [Exit; 2],
    pub(super) others: Exit,
}

struct Flat<M: Memory> {
    facts: M::Array<Fact>,
    /// How many bytes the window must have.
    need: u32,
    /// Whether the packet is accepted, and with how many bytes.
    accept: Option<u8>,
    amount: u32,
    /// The registers that have nothing.
    free: u32,
}

impl<M: Memory> Flat<M> {
    fn take(&mut self) -> Option<u8> {
        let register = MASKS.into_iter().find(|register| self.free & (1 << register) != 0)?;
        self.free &= !(1 << register);
        Some(register)
    }

    fn give(&mut self, register: u8) {
        self.free |= 1 << register;
    }

    fn need(&mut self, end: u32) {
        self.need = self.need.max(end);
    }

    /// This way leads somewhere, and `after` holds at its end.
    fn arrive(&mut self, exit: Exit, after: Fact) -> Option<()> {
        match exit {
            Exit::Return(amount) => {
                let known = core::mem::replace(&mut self.amount, amount);
                (known == 0 || known == amount).then_some(())
            }
            Exit::Go(pc) => {
                let fact = self.facts.get_mut(pc as usize)?;
                if fact.reached {
                    fact.header = fact.header.filter(|_| fact.header == after.header);
                    fact.a = fact.a.filter(|_| fact.a == after.a);
                } else {
                    *fact = Fact { reached: true, mask: None, ..after };
                }
                Some(())
            }
        }
    }

    /// Where the number is that says whether this way is taken.
    fn mask(&mut self, exit: Exit) -> Option<&mut Option<u8>> {
        match exit {
            Exit::Return(_) => Some(&mut self.accept),
            Exit::Go(pc) => Some(&mut self.facts.get_mut(pc as usize)?.mask),
        }
    }
}

impl<M: Memory> Emitter<'_, '_, M> {
    /// Writes it, if this is such a program; `None`, and nothing, if not.
    pub(super) fn flat(&mut self) -> Option<()> {
        let start = (self.at, self.fixed);
        for write in [Self::try_protocol, Self::try_ports, Self::try_addresses, Self::try_flat] {
            if write(self).is_some() {
                return Some(());
            }
            (self.at, self.fixed) = start;
        }
        None
    }

    pub(super) fn step_at(&self, pc: u32) -> Option<&Step> {
        let steps = self.steps.steps();
        let at = steps.binary_search_by_key(&pc, |(pc, _)| *pc).ok()?;
        steps.get(at).map(|(_, step)| step)
    }

    pub(super) fn types(&self) -> Option<Types> {
        let (_, Step::TwoWay { load, k: types, yes: ways, no: others }) =
            *self.steps.steps().first()?
        else {
            return None;
        };
        let Load { size: 2, indirect: false, at } = load else { return None };
        let [first, second] = types;
        let told = first != second && fits(2, first | second);
        told.then_some(Types { at, types, ways, others })
    }

    /// The beginning, for what asks with numbers that are 0 for yes: the window has
    /// `need` bytes, and eax has the type, which is at `at`.
    pub(super) fn begin(&mut self, need: u32, at: u32) -> Option<()> {
        let need = need.max(at.checked_add(2)?);
        i16::try_from(need).ok()?;
        self.put32(&[0x48, 0x81, 0xfe], need); // cmp rsi, need
        self.other_if(Condition::BELOW);
        self.fetch(2, EAX, 7, &[], at); // movzx eax, word [rdi + at]
        Some(())
    }

    /// … and the end: the flags say whether what was asked is 0.
    pub(super) fn answer(&mut self, yes: u32, no: u32) {
        self.put32(&[0xb8], no); // mov eax, no
        self.put32(&[0xb9], yes); // mov ecx, yes
        self.put(&[0x0f, 0x44, 0xc1]); // cmove eax, ecx
        self.put(&[0xc3]); // ret
    }

    fn try_flat(&mut self) -> Option<()> {
        let steps = self.steps.steps();
        // The packet's length is in edx, and lost here.
        if self.asks_len || !(2..=STEPS).contains(&steps.len()) {
            return None;
        }
        // A tag of a VLAN, or none: it is the same for all packets of a link.
        if let Some((_, Step::OneOf { .. })) = steps.first() {
            return None;
        }
        let mut flat = Flat::<M> {
            facts: M::array(self.steps.insns.len(), Fact::default())?,
            need: 0,
            accept: None,
            amount: 0,
            free: MASKS.map(|register| 1 << register).sum(),
        };
        flat.facts.first_mut()?.reached = true;
        let at = self.at;
        self.put32(&[0x48, 0x81, 0xfe], 0); // cmp rsi, need
        let need = self.at.checked_sub(4)?..self.at;
        self.other_if(Condition::BELOW);
        for (pc, step) in steps {
            let fact = *flat.facts.get(*pc as usize)?;
            if fact.reached {
                self.flat_step(&mut flat, fact, step)?;
            }
        }
        // movzx eax, accept; neg eax; and eax, amount
        self.put(&[0x41, 0x0f, 0xb6, 0xc0 | flat.accept? & 7]);
        self.put(&[0xf7, 0xd8]);
        self.put32(&[0x25], flat.amount);
        self.put(&[0xc3]); // ret
        if self.at.checked_sub(at)? > steps.len().checked_mul(STEP)? {
            return None;
        }
        let length = i32::try_from(flat.need).ok()?;
        self.buffer.get_mut(need)?.copy_from_slice(&length.to_le_bytes());
        Some(())
    }

    /// Leaves for the other code.
    pub(super) fn other_if(&mut self, condition: Condition) {
        self.put_distance(&[0x0f, 0x80 | condition.0], Target::Other); // jcc
    }

    /// An operation on two registers; all but MOV look at the lowest byte.
    fn two(&mut self, operation: u8, to: u8, from: u8) {
        let rex = 0x40 | (from >> 3) << 2 | to >> 3;
        self.put(&[rex, operation, 0xc0 | (from & 7) << 3 | to & 7]);
    }

    pub(super) fn set_if(&mut self, condition: Condition, to: u8) {
        self.put(&[0x0f, 0x90 | condition.0, 0xc0 | to]); // setcc
    }

    /// Compares eax with k.
    fn equals(&mut self, k: u32, to: u8) {
        self.put32(&[0x3d], k); // cmp eax, k
        self.set_if(Condition::EQUAL, to);
    }

    fn flat_step(&mut self, flat: &mut Flat<M>, fact: Fact, step: &Step) -> Option<()> {
        let mut after = Fact { a: None, ..fact };
        // Of a header that only who is no fragment looks at.
        let mut length = None;
        let (yes, no) = match *step {
            Step::Test { load, mask, compare, k, yes, no } => {
                self.question(flat, fact, (load, mask), compare, k)?;
                after.a = Some((load, mask));
                (yes, no)
            }
            Step::Branch { compare, k: Some(k), yes, no } => {
                self.question(flat, fact, fact.a?, compare, k)?;
                after.a = fact.a;
                (yes, no)
            }
            Step::TwoWay { load, k, yes, no } => {
                after.a = Some((load, u32::MAX));
                return self.flat_two_way(flat, after, load, k, yes, no);
            }
            Step::OneOf { load, k, yes, no } => {
                self.flat_one_of(flat, fact, load, k)?;
                after.a = Some((load, u32::MAX));
                (yes, no)
            }
            Step::Range { load, low, span, yes, no } => {
                let place = self.place(flat, fact, load, load.at)?;
                self.field(place, load, EAX);
                self.swap_a(load.size);
                self.put32(&[0x8d, 0x88], low.wrapping_neg()); // lea ecx, [rax - low]
                self.put32(&[0x81, 0xf9], span); // cmp ecx, span
                self.set_if(Condition::BELOW_OR_EQUAL, EDX);
                after.a = Some((load, u32::MAX));
                (yes, no)
            }
            Step::Pair { load, second, mask, k, yes, no } => {
                self.flat_pair(flat, fact, load, second, mask, k)?;
                self.two(MOV, EDX, EAX);
                (yes, no)
            }
            Step::Fragment { header, yes, no } => {
                self.flat_flags(flat, header);
                self.set_if(Condition::NOT_EQUAL, EDX);
                length = Some(header.len);
                (yes, Exit::Go(no))
            }
            Step::Transport { protocol, k, header, yes, no } => {
                self.flat_transport(flat, &mut after, protocol, k, Some(header))?;
                (Exit::Go(yes), no)
            }
            Step::Ports { protocol, protocols, header, load, second, k, yes, no } => {
                self.flat_transport(flat, &mut after, protocol, protocols, header)?;
                self.flat_pair(flat, after, load, second, u32::MAX, k)?;
                self.two(AND, EDX, EAX);
                (yes, no)
            }
            Step::Plain(_)
            | Step::Go(_)
            | Step::ReturnK(_)
            | Step::ReturnA
            | Step::Branch { .. }
            | Step::Set { .. } => return None,
        };
        if let Some(mask) = fact.mask {
            self.two(AND, EDX, mask);
        }
        let otherwise = Fact { header: length.or(after.header), ..after };
        self.or_else(flat, otherwise, &[EDX], no)?;
        self.lead(flat, after, EDX, yes)
    }

    /// dl = whether the field compares so.
    fn question(
        &mut self,
        flat: &mut Flat<M>,
        fact: Fact,
        (load, mask): (Load, u32),
        compare: Compare,
        k: u32,
    ) -> Option<()> {
        let place = self.place(flat, fact, load, load.at)?;
        self.field(place, load, EAX);
        self.compare(load.size, mask, compare, k, false);
        self.set_if(condition(compare), EDX);
        Some(())
    }

    fn flat_two_way(
        &mut self,
        flat: &mut Flat<M>,
        fact: Fact,
        load: Load,
        [first, second]: [u32; 2],
        [yes, also]: [Exit; 2],
        no: Exit,
    ) -> Option<()> {
        if first == second || !fits(load.size, first | second) {
            return None;
        }
        let place = self.place(flat, fact, load, load.at)?;
        self.field(place, load, EAX);
        self.equals(swap(load.size, first), EDX);
        self.equals(swap(load.size, second), ECX);
        if let Some(mask) = fact.mask {
            self.two(AND, EDX, mask);
            self.two(AND, ECX, mask);
        }
        self.or_else(flat, fact, &[EDX, ECX], no)?;
        self.lead(flat, fact, EDX, yes)?;
        if load.size == 1 && second == IPV6_FRAGMENT {
            self.put(&[0x84, 0xc9]); // test cl, cl
            self.other_if(Condition::NOT_EQUAL);
            return Some(());
        }
        self.lead(flat, fact, ECX, also)
    }

    /// dl = whether the field is one of three.
    fn flat_one_of(
        &mut self,
        flat: &mut Flat<M>,
        fact: Fact,
        load: Load,
        [first, second, third]: [u32; 3],
    ) -> Option<()> {
        if !fits(load.size, first | second | third) {
            return None;
        }
        let place = self.place(flat, fact, load, load.at)?;
        self.field(place, load, EAX);
        self.equals(swap(load.size, first), EDX);
        for other in [second, third] {
            if other != first {
                self.equals(swap(load.size, other), ECX);
                self.two(OR, EDX, ECX);
            }
        }
        Some(())
    }

    /// dl = whether it is one of the protocols, and no fragment. X is its
    /// header's length.
    fn flat_transport(
        &mut self,
        flat: &mut Flat<M>,
        fact: &mut Fact,
        protocol: Load,
        k: [u32; 3],
        header: Option<Header>,
    ) -> Option<()> {
        self.flat_one_of(flat, *fact, protocol, k)?;
        if let Some(header) = header {
            self.flat_flags(flat, header);
            self.set_if(Condition::EQUAL, EAX);
            self.two(AND, EDX, EAX);
            fact.header = Some(header.len);
        }
        Some(())
    }

    /// al = whether one of two fields is k.
    fn flat_pair(
        &mut self,
        flat: &mut Flat<M>,
        fact: Fact,
        load: Load,
        second: u32,
        mask: u32,
        k: u32,
    ) -> Option<()> {
        let place = self.place(flat, fact, load, second)?;
        let (order_mask, order_k) = (swap(load.size, mask), swap(load.size, k));
        self.field(place, load, EAX);
        self.field(place, Load { at: second, ..load }, ECX);
        if mask != u32::MAX {
            self.put32(&[0x25], order_mask); // and eax, mask
            self.put32(&[0x81, 0xe1], order_mask); // and ecx, mask
        }
        self.equals(order_k, EAX);
        self.put32(&[0x81, 0xf9], order_k); // cmp ecx, k
        self.set_if(Condition::EQUAL, ECX);
        self.two(OR, EAX, ECX);
        fits(load.size, k).then_some(())
    }

    /// Whether it is a fragment: not equal then.
    fn flat_flags(&mut self, flat: &mut Flat<M>, header: Header) {
        let load = Load { size: 2, indirect: false, at: header.flags };
        flat.need(header.flags.saturating_add(2));
        flat.need(header.len.saturating_add(1));
        self.field(Place::Window, load, EAX);
        self.put32(&[0xa9], swap(2, header.bits)); // test eax, bits
    }

    /// Makes sure that the fields are there, at `load.at` and at `second`, and
    /// says how to get at them. What it puts into ecx is good until then.
    fn place(&mut self, flat: &mut Flat<M>, fact: Fact, load: Load, second: u32) -> Option<Place> {
        let end = load.at.max(second).checked_add(load.size.into())?;
        i16::try_from(end).ok()?;
        if load.indirect {
            let header = fact.header?;
            flat.need(header.saturating_add(1));
            self.put32(&[0x0f, 0xb6, 0x8f], header); // movzx ecx, byte [rdi + header]
            self.put(&[0x83, 0xe1, 0x0f]); // and ecx, 15
            self.put32(&[0x8d, 0x04, 0x8d], end); // lea eax, [4 * rcx + end]
            self.put(&[0x48, 0x39, 0xf0]); // cmp rax, rsi
            self.other_if(Condition::ABOVE);
            return Some(Place::Header);
        }
        flat.need(end);
        let first = load.at.min(second);
        match fact.mask {
            Some(mask) if first >= FAR => {
                self.put(&[0x41, 0x0f, 0xb6, 0xc8 | mask & 7]); // movzx ecx, mask
                self.put32(&[0x69, 0xc9], first); // imul ecx, ecx, first
                Some(Place::Far(first))
            }
            _ => Some(Place::Window),
        }
    }

    /// Loads a field, in the order of the packet.
    fn field(&mut self, place: Place, load: Load, to: u8) {
        // [rdi + at], [rdi + 4 * rcx + at] or [rdi + rcx + at - first]
        let (base, sib, at): (u8, &[u8], u32) = match place {
            Place::Window => (7, &[], load.at),
            Place::Header => (4, &[0x8f], load.at),
            Place::Far(first) => (4, &[0x0f], load.at.wrapping_sub(first)),
        };
        self.fetch(load.size, to, base, sib, at);
    }

    /// The way that is taken if none of these is.
    fn or_else(&mut self, flat: &mut Flat<M>, fact: Fact, taken: &[u8], no: Exit) -> Option<()> {
        if no == Exit::Return(0) {
            if let Some(mask) = fact.mask {
                flat.give(mask);
            }
            return Some(());
        }
        // The number of this step is not needed any more.
        let mask = match fact.mask {
            Some(mask) => mask,
            None => {
                let mask = flat.take()?;
                self.put32(&[0x41, 0xb8 | mask & 7], 1); // mov mask, 1
                mask
            }
        };
        for taken in taken {
            self.two(XOR, mask, *taken);
        }
        flat.arrive(no, fact)?;
        if let Some(other) = *flat.mask(no)? {
            self.two(OR, other, mask);
            flat.give(mask);
        } else {
            *flat.mask(no)? = Some(mask);
        }
        Some(())
    }

    /// The way that is taken if `taken` says so.
    fn lead(&mut self, flat: &mut Flat<M>, fact: Fact, taken: u8, exit: Exit) -> Option<()> {
        if exit == Exit::Return(0) {
            return Some(());
        }
        flat.arrive(exit, fact)?;
        if let Some(mask) = *flat.mask(exit)? {
            self.two(OR, mask, taken);
        } else {
            let mask = flat.take()?;
            self.two(MOV, mask, taken);
            *flat.mask(exit)? = Some(mask);
        }
        Some(())
    }
}
