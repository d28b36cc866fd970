// SPDX-License-Identifier: BSD-2-Clause
//! Addresses of IPv4 and of ARP, asked once.
//!
//! `host` and `net` ask for two fields of IPv4, and for two fields of ARP and RARP,
//! which have other places. As in [ports](super::ports) these are chosen first, and
//! what is asked is a number that is 0 if the answer is yes.
//!
//! | register | has |
//! |---|---|
//! | rdi, rsi | the arguments |
//! | ecx, edx | where the fields are, then what is asked of the second |
//! | r10 | whether it is one of the protocols |
//! | rax | what is asked of the first field, then of both |

use super::flat::Types;
use super::{Emitter, fits, swap};
use crate::memory::Memory;
use crate::step::{Compare, Exit, Load, Step};

/// A field is to be a number.
#[derive(Clone, Copy, PartialEq)]
struct Wanted {
    mask: u32,
    k: u32,
}

/// What is asked of the addresses of a protocol.
struct Way {
    /// Where the fields are.
    at: [u32; 2],
    wanted: [Wanted; 2],
    /// One of them is enough.
    any: bool,
    yes: Exit,
    no: Exit,
}

impl Way {
    fn is_like(&self, other: &Way) -> bool {
        self.wanted == other.wanted
            && self.any == other.any
            && (self.yes, self.no) == (other.yes, other.no)
    }
}

impl<M: Memory> Emitter<'_, '_, M> {
    /// What a program asks from there, if it is of this kind.
    fn addresses_at(&self, pc: u32) -> Option<Way> {
        let place = |load: Load| (load.size == 4 && !load.indirect).then_some(load.at);
        match *self.step_at(pc)? {
            Step::Pair { load, second, mask, k, yes, no } => {
                let wanted = [Wanted { mask, k }; 2];
                Some(Way { at: [place(load)?, second], wanted, any: true, yes, no })
            }
            Step::Test { load, mask, compare: Compare::Equal, k, yes: Exit::Go(next), no } => {
                let first = (place(load)?, Wanted { mask, k });
                let Step::Test { load, mask, compare: Compare::Equal, k, yes, no: last } =
                    *self.step_at(next)?
                else {
                    return None;
                };
                let (at, wanted) = ([first.0, place(load)?], [first.1, Wanted { mask, k }]);
                (no == last).then_some(Way { at, wanted, any: false, yes, no })
            }
            _ => None,
        }
    }

    /// Writes it, if this is such a program.
    pub(super) fn try_addresses(&mut self) -> Option<()> {
        let Types { at, types: [first, second], ways, others } = self.types()?;
        let [Exit::Go(one), Exit::Go(other)] = ways else { return None };
        // RARP has its fields where ARP has them.
        let (third, others) = match others {
            Exit::Return(_) => (None, others),
            Exit::Go(pc) => match *self.step_at(pc)? {
                Step::Branch { compare: Compare::Equal, k: Some(k), yes, no }
                    if yes == Exit::Go(other) =>
                {
                    (Some(k), no)
                }
                _ => return None,
            },
        };
        let (one, other) = (self.addresses_at(one)?, self.addresses_at(other)?);
        let (Exit::Return(yes), Exit::Return(no)) = (one.yes, one.no) else { return None };
        if !one.is_like(&other) || others != one.no || !fits(2, third.unwrap_or(0)) {
            return None;
        }
        let [a, b] = one.at;
        let [c, d] = other.at;

        self.begin(a.max(b).max(c).max(d).checked_add(4)?, at)?;
        self.put32(&[0xb9], c); // mov ecx, c
        self.put32(&[0xba], d); // mov edx, d
        self.put32(&[0x41, 0xb8], a); // mov r8d, a
        self.put32(&[0x41, 0xb9], b); // mov r9d, b
        self.put(&[0x41, 0x89, 0xc2]); // mov r10d, eax
        self.put32(&[0x41, 0x81, 0xf2], swap(2, first)); // xor r10d, first
        self.put(&[0x41, 0x0f, 0x44, 0xc8]); // cmove ecx, r8d
        self.put(&[0x41, 0x0f, 0x44, 0xd1]); // cmove edx, r9d
        self.put(&[0x41, 0x89, 0xc3]); // mov r11d, eax
        self.put32(&[0x41, 0x81, 0xf3], swap(2, second)); // xor r11d, second
        self.put(&[0x4d, 0x0f, 0xaf, 0xd3]); // imul r10, r11
        if let Some(third) = third {
            self.put32(&[0x35], swap(2, third)); // xor eax, third
            self.put(&[0x4c, 0x0f, 0xaf, 0xd0]); // imul r10, rax
        }
        self.put(&[0x8b, 0x04, 0x0f]); // mov eax, [rdi + rcx]
        self.put(&[0x8b, 0x0c, 0x17]); // mov ecx, [rdi + rdx]
        let [source, target] = one.wanted;
        if source.mask != u32::MAX {
            self.put32(&[0x25], source.mask.swap_bytes()); // and eax, mask
        }
        if target.mask != u32::MAX {
            self.put32(&[0x81, 0xe1], target.mask.swap_bytes()); // and ecx, mask
        }
        self.put32(&[0x35], source.k.swap_bytes()); // xor eax, k
        self.put32(&[0x81, 0xf1], target.k.swap_bytes()); // xor ecx, k
        if one.any {
            self.put(&[0x48, 0x0f, 0xaf, 0xc1]); // imul rax, rcx
        } else {
            self.put(&[0x09, 0xc8]); // or eax, ecx
        }
        self.put(&[0x4c, 0x09, 0xd0]); // or rax, r10
        self.answer(yes, no);
        Some(())
    }
}
