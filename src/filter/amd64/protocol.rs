// SPDX-License-Identifier: BSD-2-Clause
//! A protocol over IPv4 and over IPv6, asked once.
//!
//! `tcp`, as libpcap writes it: the byte is chosen as in [ports](super::ports). The
//! fragment header of IPv6, behind which there is a third place, is too rare to look
//! for it in every packet: the other code does.
//!
//! | register | has |
//! |---|---|
//! | rdi, rsi | the arguments |
//! | r8d | the protocol |
//! | edx | 0 if the packet is accepted, as far as is known |

use super::flat::Types;
use super::{Condition, ECX, Emitter, IPV6_FRAGMENT, R8, fits, swap};
use crate::memory::Memory;
use crate::step::{Compare, Exit, Load, Step};

/// What is asked of a protocol: where, for what, and where it goes on.
struct Way {
    at: u32,
    k: u32,
    yes: Exit,
    no: Exit,
    /// What follows a fragment header is asked elsewhere.
    fragment: bool,
}

impl<M: Memory> Emitter<'_, '_, M> {
    fn protocol_at(&self, exit: Exit) -> Option<Way> {
        let Exit::Go(pc) = exit else { return None };
        let (load, k, yes, no, fragment) = match *self.step_at(pc)? {
            Step::Test { load, mask: u32::MAX, compare: Compare::Equal, k, yes, no } => {
                (load, k, yes, no, false)
            }
            Step::TwoWay { load, k: [k, IPV6_FRAGMENT], yes: [yes, _], no } => {
                (load, k, yes, no, true)
            }
            _ => return None,
        };
        let Load { size: 1, indirect: false, at } = load else { return None };
        Some(Way { at, k, yes, no, fragment })
    }

    /// Writes it, if this is such a program.
    pub(super) fn try_protocol(&mut self) -> Option<()> {
        let Types { at, types: [first, second], ways: [one, other], others } = self.types()?;
        let (one, other) = (self.protocol_at(one)?, self.protocol_at(other)?);
        let (six, four, types) = match (one.fragment, other.fragment) {
            (true, false) => (one, other, [first, second]),
            (false, true) => (other, one, [second, first]),
            _ => return None,
        };
        let (Exit::Return(yes), Exit::Return(no)) = (six.yes, six.no) else { return None };
        let same = (six.k, six.yes, six.no) == (four.k, four.yes, four.no) && others == six.no;
        if !same || !fits(1, six.k) || six.k == IPV6_FRAGMENT {
            return None;
        }

        self.begin(six.at.max(four.at).checked_add(1)?, at)?;
        self.fetch(1, R8, 7, &[], four.at); // movzx r8d, byte [rdi + …]
        self.fetch(1, ECX, 7, &[], six.at); // movzx ecx, byte [rdi + …]
        self.put(&[0x89, 0xc2]); // mov edx, eax
        self.put32(&[0x81, 0xf2], swap(2, types[0])); // xor edx, IPv6
        self.put(&[0x44, 0x0f, 0x44, 0xc1]); // cmove r8d, ecx
        self.put32(&[0x41, 0x81, 0xf8], IPV6_FRAGMENT); // cmp r8d, IPV6_FRAGMENT
        self.other_if(Condition::EQUAL);
        self.put32(&[0x35], swap(2, types[1])); // xor eax, IPv4
        self.put(&[0x0f, 0xaf, 0xd0]); // imul edx, eax
        self.put32(&[0x41, 0x81, 0xf0], six.k); // xor r8d, k
        self.put(&[0x44, 0x09, 0xc2]); // or edx, r8d
        self.answer(yes, no);
        Some(())
    }
}
