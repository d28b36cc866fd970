// SPDX-License-Identifier: BSD-2-Clause
//! From steps to machine code of amd64.
//!
//! What comes out is a function of the System V ABI,
//!
//! ```text
//! u64 filter(const u8 *window, u64 window_len, u32 wire_len)
//! ```
//!
//! which returns what the program does, or [`LEFT`] if a load leaves the
//! window: then another machine has to run the program, from its beginning. It
//! calls nothing, writes to nothing but its own stack, does not touch what is
//! below the stack pointer, and uses no floating point or vector registers.
//!
//! | register | has |
//! |---|---|
//! | eax, ecx | A, X |
//! | rdi, rsi, r8d | the arguments |
//! | edx, r9, r10, r11 | what a step needs for itself |
//! | 16 words at rsp | scratch memory, if the program reads it |
//!
//! What stands before that for some programs, and why, `flat.rs` tells.

mod addresses;
mod flat;
mod ports;
mod protocol;

use crate::memory::Memory;
use crate::opcode::*;
use crate::step::{Compare, Exit, Header, Load, Step, Steps};
use crate::table;

/// A load left the window.
pub const LEFT: u64 = u64::MAX;

/// Condition codes, as in `jcc`; the lowest bit negates.
#[derive(Clone, Copy)]
struct Condition(u8);

impl Condition {
    const BELOW: Condition = Condition(2);
    const EQUAL: Condition = Condition(4);
    const NOT_EQUAL: Condition = Condition(5);
    const BELOW_OR_EQUAL: Condition = Condition(6);
    const ABOVE: Condition = Condition(7);
    const AT_LEAST: Condition = Condition(3);

    fn not(self) -> Self {
        Condition(self.0 ^ 1)
    }
}

/// The protocol that says that a fragment header of IPv6 follows: too rare to
/// look behind that in every packet.
const IPV6_FRAGMENT: u32 = 44;

/// Registers, as instructions number them.
const EAX: u8 = 0;
const ECX: u8 = 1;
const EDX: u8 = 2;
const R8: u8 = 8;
const R9: u8 = 9;
const R10: u8 = 10;
const R11: u8 = 11;

/// What a distance of 32 bits leads to.
#[derive(Clone, Copy)]
enum Target {
    /// The end, for who leaves the window.
    Leave,
    /// The code with branches, behind the one without.
    Other,
    /// The code of an instruction.
    Insn(u32),
    /// A byte of the tables.
    Table(u32),
}

/// No step takes more bytes, jumps or loads than that.
const STEP_BYTES: usize = 192;
const STEP_FIXUPS: usize = 12;

// What the code pushes and pops.
const _: () = assert!(MEMWORDS * size_of::<u32>() == 64);

fn table_words(step: &Step) -> usize {
    match step {
        Step::Set { keys, .. } => table::words(*keys as usize),
        _ => 0,
    }
}

/// How many bytes the code of a program takes at the most.
fn bound<M: Memory>(steps: &Steps<'_, M>) -> usize {
    let steps = steps.steps().iter().map(|(_, step)| step);
    let bytes = |step| table_words(step).saturating_mul(4).saturating_add(STEP_BYTES);
    let once = steps.map(bytes).fold(STEP_BYTES, usize::saturating_add);
    once.saturating_add(flat::STEPS * STEP_BYTES)
}

/// Machine code, as bytes.
pub struct Code<M: Memory> {
    bytes: M::Array<u8>,
    len: usize,
    flat: usize,
}

impl<M: Memory> Code<M> {
    pub(crate) fn new(steps: &Steps<'_, M>) -> Option<Self> {
        let mut bytes = M::array(bound(steps), 0u8)?;
        let (len, flat) = emit(steps, &mut bytes)?;
        Some(Code { bytes, len, flat })
    }

    /// How many bytes, at the beginning, have no branch that a packet decides,
    /// but for those that leave them. 0 for most programs.
    pub fn flat(&self) -> usize {
        self.flat
    }
}

impl<M: Memory> core::ops::Deref for Code<M> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }
}

/// Writes the code of a program into `buffer`: how long it is, and what of it
/// is flat. `None` without room or without memory.
fn emit<M: Memory>(steps: &Steps<'_, M>, buffer: &mut [u8]) -> Option<(usize, usize)> {
    // Distances are of 32 bits.
    i32::try_from(buffer.len()).ok()?;
    let fixups = steps.steps().len().saturating_add(flat::STEPS).saturating_mul(STEP_FIXUPS);
    let mut emitter = Emitter {
        steps,
        buffer,
        at: 0,
        full: false,
        known_at: M::array(steps.insns.len(), u32::MAX)?,
        known: 0,
        addresses: M::array(steps.insns.len(), 0)?,
        fixups: M::array(fixups, (0, Target::Leave))?,
        fixed: 0,
        table_bytes: 0,
        scratch: steps.insns.iter().any(|insn| matches!(insn.code, LD_MEM | LDX_MEM)),
        asks_len: steps.insns.iter().any(|insn| matches!(insn.code, LD_LEN | LDX_LEN)),
        next: None,
    };
    // Few programs can be flat: the code behind it does everything.
    let _ = emitter.flat();
    let flat = emitter.at;
    emitter.program();
    emitter.tables()?;
    (!emitter.full).then_some((emitter.at, flat))
}

struct Emitter<'e, 'p, M: Memory> {
    steps: &'e Steps<'p, M>,
    buffer: &'e mut [u8],
    at: usize,
    /// Something had no room.
    full: bool,
    /// How many bytes the window has for sure where an instruction begins.
    known_at: M::Array<u32>,
    /// … and here.
    known: u32,
    /// Where the code of an instruction is.
    addresses: M::Array<u32>,
    /// Distances still to be written, and how many there are.
    fixups: M::Array<(u32, Target)>,
    fixed: usize,
    table_bytes: u32,
    scratch: bool,
    /// The program asks for the packet's length.
    asks_len: bool,
    /// The instruction whose code comes next.
    next: Option<u32>,
}

/// A number in the order of the packet.
fn swap(size: u8, value: u32) -> u32 {
    match size {
        1 => value,
        2 => u32::from((value as u16).swap_bytes()),
        _ => value.swap_bytes(),
    }
}

/// Whether a field of that size may have the value.
fn fits(size: u8, value: u32) -> bool {
    match size {
        1 => value <= 0xff,
        2 => value <= 0xffff,
        _ => true,
    }
}

impl<M: Memory> Emitter<'_, '_, M> {
    fn put(&mut self, bytes: &[u8]) {
        let end = self.at.saturating_add(bytes.len());
        match self.buffer.get_mut(self.at..end) {
            Some(place) => {
                place.copy_from_slice(bytes);
                self.at = end;
            }
            None => self.full = true,
        }
    }

    /// An instruction that ends in a number of 32 bits.
    fn put32(&mut self, bytes: &[u8], number: u32) {
        self.put(bytes);
        self.put(&number.to_le_bytes());
    }

    /// … in the distance to a target.
    fn put_distance(&mut self, bytes: &[u8], target: Target) {
        self.put(bytes);
        match self.fixups.get_mut(self.fixed) {
            Some(fixup) => *fixup = (self.at as u32, target),
            None => self.full = true,
        }
        self.fixed = self.fixed.saturating_add(1);
        self.put(&[0; 4]);
    }

    fn program(&mut self) {
        let other = self.at as u32;
        let start = Exit::Go(0);
        if self.steps.a_is_used(start) {
            self.put(&[0x31, 0xc0]); // xor eax, eax
        }
        if self.steps.x_is_used(start) {
            self.put(&[0x31, 0xc9]); // xor ecx, ecx
        }
        if self.asks_len {
            self.put(&[0x41, 0x89, 0xd0]); // mov r8d, edx
        }
        if self.scratch {
            self.put(&[0x6a, 0, 0x6a, 0, 0x6a, 0, 0x6a, 0]); // push 0, of 8 bytes each
            self.put(&[0x6a, 0, 0x6a, 0, 0x6a, 0, 0x6a, 0]);
        }
        self.reach(0);
        let steps = self.steps.steps();
        for (number, (pc, step)) in (1usize..).zip(steps) {
            self.next = steps.get(number).map(|(next, _)| *next);
            if let Some(address) = self.addresses.get_mut(*pc as usize) {
                *address = self.at as u32;
            }
            self.known = self.known_at.get(*pc as usize).copied().unwrap_or(0);
            self.step(*pc, step);
        }
        let leave = self.at as u32;
        self.put32(&[0x48, 0xc7, 0xc0], u32::MAX); // mov rax, -1
        self.ret();
        let tables = self.at as u32;
        for (place, target) in self.fixups.iter().take(self.fixed) {
            let address = match target {
                Target::Leave => leave,
                Target::Other => other,
                Target::Insn(pc) => self.addresses.get(*pc as usize).copied().unwrap_or(leave),
                Target::Table(byte) => tables.wrapping_add(*byte),
            };
            let distance = address.wrapping_sub(place.wrapping_add(4));
            let bytes = self.buffer.get_mut(*place as usize..);
            if let Some(bytes) = bytes.and_then(|bytes| bytes.first_chunk_mut()) {
                *bytes = distance.to_le_bytes();
            }
        }
    }

    /// Writes the tables behind the code, in the order of their sets.
    fn tables(&mut self) -> Option<()> {
        let steps = self.steps;
        for (pc, step) in steps.steps() {
            if let Step::Set { keys, .. } = step {
                let mut set = M::array(table_words(step), 0u32)?;
                table::fill(&mut set, || steps.keys(*pc, *keys), table::shift(*keys as usize));
                for word in set.iter() {
                    self.put(&word.to_le_bytes());
                }
            }
        }
        Some(())
    }

    /// From here the instruction is reached.
    fn reach(&mut self, pc: u32) {
        if let Some(known) = self.known_at.get_mut(pc as usize) {
            *known = (*known).min(self.known);
        }
    }

    fn ret(&mut self) {
        if self.scratch {
            self.put(&[0x48, 0x83, 0xc4, 64]); // add rsp, 64
        }
        self.put(&[0xc3]); // ret
    }

    /// Goes on there.
    fn go(&mut self, exit: Exit) {
        match exit {
            Exit::Return(0) => {
                self.put(&[0x31, 0xc0]); // xor eax, eax
                self.ret();
            }
            Exit::Return(k) => {
                self.put32(&[0xb8], k); // mov eax, k
                self.ret();
            }
            Exit::Go(pc) => {
                self.reach(pc);
                if self.next != Some(pc) {
                    self.put_distance(&[0xe9], Target::Insn(pc)); // jmp
                }
            }
        }
    }

    /// Goes on there if the condition holds.
    fn go_if(&mut self, condition: Condition, exit: Exit) {
        match exit {
            Exit::Return(k) => {
                // Over what go() writes.
                let skip = match (k, self.scratch) {
                    (0, false) => 3,
                    (0, true) => 7,
                    (_, false) => 6,
                    (_, true) => 10,
                };
                self.put(&[0x70 | condition.not().0, skip]); // jcc
                self.go(exit);
            }
            Exit::Go(pc) => {
                self.reach(pc);
                self.put_distance(&[0x0f, 0x80 | condition.0], Target::Insn(pc)); // jcc
            }
        }
    }

    fn branch(&mut self, condition: Condition, yes: Exit, no: Exit) {
        if yes == no {
            self.go(no);
        } else if let (Exit::Return(yes), Exit::Return(no)) = (yes, no) {
            // What a packet has at the end, nobody can predict.
            self.put32(&[0xb8], no); // mov eax, no
            self.put32(&[0xba], yes); // mov edx, yes
            self.put(&[0x0f, 0x40 | condition.0, 0xc2]); // cmovcc eax, edx
            self.ret();
        } else if self.next.map(Exit::Go) == Some(yes) {
            self.go_if(condition.not(), no);
            self.go(yes);
        } else {
            self.go_if(condition, yes);
            self.go(no);
        }
    }

    fn leave_if(&mut self, condition: Condition) {
        self.put_distance(&[0x0f, 0x80 | condition.0], Target::Leave); // jcc
    }

    /// Makes sure that the window has `end` bytes.
    fn need(&mut self, end: u64) {
        if end <= self.known.into() {
            return;
        }
        match u32::try_from(end) {
            Ok(end) if end <= i32::MAX as u32 => {
                self.put32(&[0x48, 0x81, 0xfe], end); // cmp rsi, end
                self.leave_if(Condition::BELOW);
                self.known = end;
            }
            // No window is that long.
            _ => self.put_distance(&[0xe9], Target::Leave), // jmp
        }
    }

    /// … X + `end` bytes.
    fn need_from_x(&mut self, end: u64) {
        match i32::try_from(end) {
            Ok(end) => {
                self.put32(&[0x4c, 0x8d, 0x89], end.cast_unsigned()); // lea r9, [rcx + end]
                self.put(&[0x49, 0x39, 0xf1]); // cmp r9, rsi
                self.leave_if(Condition::ABOVE);
            }
            Err(_) => self.put_distance(&[0xe9], Target::Leave), // jmp
        }
    }

    fn need_load(&mut self, load: Load, second: u32) {
        let end = u64::from(load.at.max(second)).saturating_add(load.size.into());
        if load.indirect { self.need_from_x(end) } else { self.need(end) }
    }

    /// Loads what the window has for sure, as it stands there.
    fn load_raw(&mut self, load: Load, to: u8) {
        // [rdi + at] or [rdi + rcx + at]
        let (base, sib): (u8, &[u8]) = if load.indirect { (4, &[0x0f]) } else { (7, &[]) };
        self.fetch(load.size, to, base, sib, load.at);
    }

    /// Loads 1, 2 or 4 bytes.
    fn fetch(&mut self, size: u8, to: u8, base: u8, sib: &[u8], at: u32) {
        if to >= R8 {
            self.put(&[0x44]);
        }
        match size {
            1 => self.put(&[0x0f, 0xb6]), // movzx, byte
            2 => self.put(&[0x0f, 0xb7]), // movzx, word
            _ => self.put(&[0x8b]),       // mov
        }
        let short = i8::try_from(at);
        self.put(&[if short.is_ok() { 0x40 } else { 0x80 } | (to & 7) << 3 | base]);
        self.put(sib);
        match short {
            Ok(at) => self.put(&at.to_le_bytes()),
            Err(_) => self.put(&at.to_le_bytes()),
        }
    }

    /// Puts A into the order of the machine.
    fn swap_a(&mut self, size: u8) {
        match size {
            1 => {}
            2 => self.put(&[0x66, 0xc1, 0xc0, 8]), // rol ax, 8
            _ => self.put(&[0x0f, 0xc8]),          // bswap eax
        }
    }

    fn load(&mut self, load: Load) {
        self.need_load(load, load.at);
        self.load_raw(load, EAX);
        self.swap_a(load.size);
    }

    /// X = 4 * the low nibble of the byte at `at`, which is there.
    fn header_len(&mut self, at: u32) {
        // movzx ecx, byte [rdi + at]
        self.put32(&[0x0f, 0xb6, 0x8f], at);
        self.put(&[0x83, 0xe1, 0x0f]); // and ecx, 15
        self.put(&[0xc1, 0xe1, 2]); // shl ecx, 2
    }

    /// Compares A with one to three numbers: equal if it is one of them.
    fn one_of(&mut self, k: [u32; 3]) -> Condition {
        let [first, second, third] = k;
        self.put32(&[0x3d], first); // cmp eax, first
        if second == first && third == first {
            return Condition::EQUAL;
        }
        self.put(&[0x0f, 0x94, 0xc2]); // sete dl
        for other in [second, third] {
            if other != first {
                self.put32(&[0x3d], other); // cmp eax, other
                self.put(&[0x41, 0x0f, 0x94, 0xc1]); // sete r9b
                self.put(&[0x44, 0x08, 0xca]); // or dl, r9b
            }
        }
        self.put(&[0x84, 0xd2]); // test dl, dl
        Condition::NOT_EQUAL
    }

    /// Whether A or r9d is k: not equal then.
    fn either(&mut self, k: u32) -> Condition {
        self.put32(&[0x3d], k); // cmp eax, k
        self.put(&[0x0f, 0x94, 0xc2]); // sete dl
        self.put32(&[0x41, 0x81, 0xf9], k); // cmp r9d, k
        self.put(&[0x41, 0x0f, 0x94, 0xc2]); // sete r10b
        self.put(&[0x44, 0x08, 0xd2]); // or dl, r10b
        Condition::NOT_EQUAL
    }

    /// Compares what was loaded to eax: in the order of the packet, if A is
    /// not used any more.
    fn compare(&mut self, size: u8, mask: u32, compare: Compare, k: u32, used: bool) {
        let raw = matches!(compare, Compare::Equal | Compare::Bits) && fits(size, k) && !used;
        let order = |value| if raw { swap(size, value) } else { value };
        if !raw {
            self.swap_a(size);
        }
        if mask != u32::MAX {
            self.put32(&[0x25], order(mask)); // and eax, mask
        }
        let opcode = if compare == Compare::Bits { 0xa9 } else { 0x3d };
        self.put32(&[opcode], order(k)); // test or cmp eax, k
    }

    /// Whether A is used after this one of the ways out.
    fn uses_a(&self, yes: Exit, no: Exit) -> bool {
        self.steps.a_is_used(yes) || self.steps.a_is_used(no)
    }

    fn step(&mut self, pc: u32, step: &Step) {
        match *step {
            Step::Plain(insn) => {
                self.plain(insn.code, insn.k);
                self.go(Exit::Go(pc.wrapping_add(1)));
            }
            Step::Go(to) => self.go(Exit::Go(to)),
            Step::ReturnK(k) => self.go(Exit::Return(k)),
            Step::ReturnA => self.ret(),
            Step::Branch { compare, k, yes, no } => {
                match (compare, k) {
                    (Compare::Bits, Some(k)) => self.put32(&[0xa9], k), // test eax, k
                    (Compare::Bits, None) => self.put(&[0x85, 0xc8]),   // test eax, ecx
                    (_, Some(k)) => self.put32(&[0x3d], k),             // cmp eax, k
                    (_, None) => self.put(&[0x39, 0xc8]),               // cmp eax, ecx
                }
                self.branch(condition(compare), yes, no);
            }
            Step::Test { load, mask, compare, k, yes, no } => {
                self.need_load(load, load.at);
                self.load_raw(load, EAX);
                self.compare(load.size, mask, compare, k, self.uses_a(yes, no));
                self.branch(condition(compare), yes, no);
            }
            Step::Pair { load, second, mask, k, yes, no } => {
                self.pair(load, second, mask, k, yes, no);
            }
            Step::Range { load, low, span, yes, no } => {
                self.load(load);
                self.put32(&[0x44, 0x8d, 0x88], low.wrapping_neg()); // lea r9d, [rax - low]
                self.put32(&[0x41, 0x81, 0xf9], span); // cmp r9d, span
                self.branch(Condition::BELOW_OR_EQUAL, yes, no);
            }
            Step::TwoWay { load, k: [first, second], yes: [yes, also], no } => {
                self.need_load(load, load.at);
                self.load_raw(load, EAX);
                let used = self.uses_a(yes, no) || self.steps.a_is_used(also);
                let fits = fits(load.size, first | second);
                let raw = fits && !used;
                let order = |value| if raw { swap(load.size, value) } else { value };
                if !raw {
                    self.swap_a(load.size);
                }
                self.put32(&[0x3d], order(first)); // cmp eax, first
                self.go_if(Condition::EQUAL, yes);
                self.put32(&[0x3d], order(second)); // cmp eax, second
                self.branch(Condition::EQUAL, also, no);
            }
            Step::OneOf { load, k, yes, no } => {
                self.load(load);
                let condition = self.one_of(k);
                self.branch(condition, yes, no);
            }
            Step::Set { load, mask, keys, yes, no } => {
                self.set(table_words(step), load, mask, keys, yes, no);
            }
            Step::Fragment { header, yes, no } => {
                self.flags(header, self.uses_a(yes, Exit::Go(no)));
                self.go_if(Condition::NOT_EQUAL, yes);
                self.header_len(header.len);
                self.go(Exit::Go(no));
            }
            Step::Transport { protocol, k, header, yes, no } => {
                self.transport(protocol, k, Some(header), self.steps.a_is_used(Exit::Go(yes)), no);
                self.go(Exit::Go(yes));
            }
            Step::Ports { protocol, protocols, header, load, second, k, yes, no } => {
                self.ports(protocol, protocols, header);
                // The protocol is in r11b while the ports are looked at.
                self.need_load(load, second);
                self.load_raw(load, EAX);
                self.load_raw(Load { at: second, ..load }, R9);
                self.either(swap(2, k));
                self.put(&[0x44, 0x20, 0xda]); // and dl, r11b
                if self.steps.a_is_used(yes) {
                    self.put32(&[0xb8], k); // mov eax, k
                }
                if fits(2, k) {
                    self.branch(Condition::NOT_EQUAL, yes, no);
                } else {
                    self.go(no);
                }
            }
        }
    }

    /// A = the flags of a header whose length is in the window, too.
    /// They tell a fragment then if the result is not zero. A is good for
    /// nothing else unless it is `used`.
    fn flags(&mut self, header: Header, used: bool) {
        let load = Load { size: 2, indirect: false, at: header.flags };
        self.need_load(load, header.len);
        self.load_raw(load, EAX);
        if used {
            self.swap_a(2);
        }
        let bits = if used { header.bits } else { swap(2, header.bits) };
        self.put32(&[0xa9], bits); // test eax, bits
    }

    /// Leaves for `no` unless it is one of the protocols, and no fragment.
    fn transport(
        &mut self,
        protocol: Load,
        k: [u32; 3],
        header: Option<Header>,
        used: bool,
        no: Exit,
    ) {
        self.load(protocol);
        let condition = self.one_of(k);
        self.go_if(condition.not(), no);
        if let Some(header) = header {
            self.flags(header, used);
            self.go_if(Condition::NOT_EQUAL, no);
            self.header_len(header.len);
        }
    }

    /// r11b = whether it is one of the protocols, and no fragment. X is its
    /// header's length.
    fn ports(&mut self, protocol: Load, k: [u32; 3], header: Option<Header>) {
        self.load(protocol);
        let condition = self.one_of(k);
        self.put(&[0x41, 0x0f, 0x90 | condition.0, 0xc3]); // setcc r11b
        if let Some(header) = header {
            self.flags(header, false);
            self.put(&[0x0f, 0x94, 0xc2]); // sete dl
            self.put(&[0x41, 0x20, 0xd3]); // and r11b, dl
            self.header_len(header.len);
        }
    }

    fn pair(&mut self, load: Load, second: u32, mask: u32, k: u32, yes: Exit, no: Exit) {
        self.need_load(load, second);
        self.load_raw(load, EAX);
        self.load_raw(Load { at: second, ..load }, R9);
        let size = load.size;
        let (order_mask, order_k) = (swap(size, mask), swap(size, k));
        let fits = fits(size, k);
        if mask != u32::MAX {
            self.put32(&[0x25], order_mask); // and eax, mask
            self.put32(&[0x41, 0x81, 0xe1], order_mask); // and r9d, mask
        }
        if !fits {
            // A field of that size is never k.
            self.put(&[0x44, 0x89, 0xc8]); // mov eax, r9d
            self.swap_a(size);
            return self.go(no);
        }
        let condition = self.either(order_k);
        if self.uses_a(yes, no) {
            // k, or the second field. A mov changes no flags; but a swap would.
            self.put(&[0x44, 0x89, 0xc8]); // mov eax, r9d
            self.put32(&[0xba], order_k); // mov edx, k
            self.put(&[0x0f, 0x40 | condition.0, 0xc2]); // cmovcc eax, edx
            self.put(&[0x41, 0x0f, 0x90 | condition.0, 0xc1]); // setcc r9b
            self.swap_a(size);
            self.put(&[0x45, 0x84, 0xc9]); // test r9b, r9b
            return self.branch(Condition::NOT_EQUAL, yes, no);
        }
        self.branch(condition, yes, no);
    }

    fn set(&mut self, words: usize, load: Load, mask: u32, keys: u32, yes: Exit, no: Exit) {
        self.load(load);
        if mask != u32::MAX {
            self.put32(&[0x25], mask); // and eax, mask
        }
        let shift = table::shift(keys as usize);
        self.put32(&[0x44, 0x69, 0xc8], table::FACTOR); // imul r9d, eax, FACTOR
        self.put(&[0x41, 0xc1, 0xe9, shift as u8]); // shr r9d, shift
        self.put_distance(&[0x4c, 0x8d, 0x15], Target::Table(self.table_bytes)); // lea r10, [rip + …]
        self.table_bytes = self.table_bytes.wrapping_add((words as u32).wrapping_mul(4));
        let look = self.at;
        self.put(&[0x47, 0x8b, 0x5c, 0x8a, 4]); // mov r11d, [r10 + 4 * r9 + 4]
        self.put(&[0x45, 0x3b, 0x1a]); // cmp r11d, [r10]: the mark of free slots
        self.go_if(Condition::EQUAL, no);
        self.put(&[0x41, 0x39, 0xc3]); // cmp r11d, eax
        self.go_if(Condition::EQUAL, yes);
        self.put(&[0x41, 0xff, 0xc1]); // inc r9d
        self.put32(&[0x41, 0x81, 0xe1], u32::MAX.wrapping_shr(shift)); // and r9d, last
        let back = look.wrapping_sub(self.at.wrapping_add(2));
        self.put(&[0xeb, back as u8]); // jmp look
    }

    /// An instruction that leads to the next one.
    fn plain(&mut self, code: u16, k: u32) {
        let word = (k as u8).wrapping_mul(4);
        match code {
            LD_W_ABS | LD_H_ABS | LD_B_ABS | LD_W_IND | LD_H_IND | LD_B_IND => {
                let size = match code {
                    LD_W_ABS | LD_W_IND => 4,
                    LD_H_ABS | LD_H_IND => 2,
                    _ => 1,
                };
                let indirect = matches!(code, LD_W_IND | LD_H_IND | LD_B_IND);
                self.load(Load { size, indirect, at: k });
            }
            LDX_MSH => {
                self.need(u64::from(k).saturating_add(1));
                self.header_len(k);
            }
            LD_LEN => self.put(&[0x44, 0x89, 0xc0]), // mov eax, r8d
            LDX_LEN => self.put(&[0x44, 0x89, 0xc1]), // mov ecx, r8d
            LD_IMM => self.put32(&[0xb8], k),        // mov eax, k
            LDX_IMM => self.put32(&[0xb9], k),       // mov ecx, k
            LD_MEM => self.put(&[0x8b, 0x44, 0x24, word]), // mov eax, [rsp + word]
            LDX_MEM => self.put(&[0x8b, 0x4c, 0x24, word]), // mov ecx, [rsp + word]
            // What nobody reads is not written.
            ST | STX if !self.scratch => {}
            ST => self.put(&[0x89, 0x44, 0x24, word]), // mov [rsp + word], eax
            STX => self.put(&[0x89, 0x4c, 0x24, word]), // mov [rsp + word], ecx
            ADD_K => self.put32(&[0x05], k),           // add eax, k
            SUB_K => self.put32(&[0x2d], k),           // sub eax, k
            MUL_K => self.put32(&[0x69, 0xc0], k),     // imul eax, eax, k
            OR_K => self.put32(&[0x0d], k),            // or eax, k
            AND_K => self.put32(&[0x25], k),           // and eax, k
            XOR_K => self.put32(&[0x35], k),           // xor eax, k
            LSH_K => self.put(&[0xc1, 0xe0, k as u8 & 31]), // shl eax, k
            RSH_K => self.put(&[0xc1, 0xe8, k as u8 & 31]), // shr eax, k
            DIV_K if k.is_power_of_two() => self.put(&[0xc1, 0xe8, k.trailing_zeros() as u8]),
            MOD_K if k.is_power_of_two() => self.put32(&[0x25], k.wrapping_sub(1)),
            DIV_K | MOD_K => {
                self.put(&[0x31, 0xd2]); // xor edx, edx
                self.put32(&[0x41, 0xb9], k); // mov r9d, k
                self.put(&[0x41, 0xf7, 0xf1]); // div r9d
                if code == MOD_K {
                    self.put(&[0x89, 0xd0]); // mov eax, edx
                }
            }
            DIV_X | MOD_X => {
                self.put(&[0x85, 0xc9]); // test ecx, ecx
                self.go_if(Condition::EQUAL, Exit::Return(0));
                self.put(&[0x31, 0xd2]); // xor edx, edx
                self.put(&[0xf7, 0xf1]); // div ecx
                if code == MOD_X {
                    self.put(&[0x89, 0xd0]); // mov eax, edx
                }
            }
            ADD_X => self.put(&[0x01, 0xc8]),       // add eax, ecx
            SUB_X => self.put(&[0x29, 0xc8]),       // sub eax, ecx
            MUL_X => self.put(&[0x0f, 0xaf, 0xc1]), // imul eax, ecx
            OR_X => self.put(&[0x09, 0xc8]),        // or eax, ecx
            AND_X => self.put(&[0x21, 0xc8]),       // and eax, ecx
            XOR_X => self.put(&[0x31, 0xc8]),       // xor eax, ecx
            // These take cl modulo 32.
            LSH_X => self.put(&[0xd3, 0xe0]), // shl eax, cl
            RSH_X => self.put(&[0xd3, 0xe8]), // shr eax, cl
            NEG => self.put(&[0xf7, 0xd8]),   // neg eax
            TAX => self.put(&[0x89, 0xc1]),   // mov ecx, eax
            TXA => self.put(&[0x89, 0xc8]),   // mov eax, ecx
            // There are no others; if there were, the program would not fit.
            _ => self.full = true,
        }
    }
}

fn condition(compare: Compare) -> Condition {
    match compare {
        Compare::Equal => Condition::EQUAL,
        Compare::Above => Condition::ABOVE,
        Compare::AtLeast => Condition::AT_LEAST,
        Compare::Bits => Condition::NOT_EQUAL,
    }
}
