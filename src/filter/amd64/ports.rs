// SPDX-License-Identifier: BSD-2-Clause
//! Ports over IPv4 and over IPv6, asked once.
//!
//! What libpcap makes of `port` asks the same twice: behind an IPv6 header, and
//! behind an IPv4 header, whose length the packet says. In [flat](super::flat)
//! code both would be asked of every packet. Here what differs is chosen first,
//! without a branch: where the ports are, which byte is the protocol, and whether
//! there is a fragment. Then all questions are asked one time.
//!
//! What is asked is a number here that is 0 if the answer is yes: `|` of two says
//! whether both are, their product, whether one of them is.
//!
//! | register | has |
//! |---|---|
//! | rdi, rsi | the arguments |
//! | r11d | a fourth of what the ports are counted from |
//! | r8d | the protocol |
//! | r10 | whether the packet is accepted, as far as is known |
//! | r9 | whether one of the questions is answered with yes |
//! | eax, ecx, edx | what a question needs for itself; eax is its answer |

use super::flat::Types;
use super::{Condition, EAX, ECX, Emitter, R8, R9, R10, R11, condition, fits, swap};
use crate::memory::Memory;
use crate::step::{Compare, Exit, Header, Load, Step};

/// More questions are too many for every packet.
const QUESTIONS: usize = 3;

/// A question about ports.
#[derive(Clone, Copy, PartialEq)]
enum Question {
    Pair { second: u32, k: u32 },
    Range { low: u32, span: u32 },
    OneOf([u32; 3]),
    Test { mask: u32, compare: Compare, k: u32 },
}

impl Question {
    /// How many bits the answer has, of fields of 16.
    fn bits(self) -> u32 {
        match self {
            Question::Pair { .. } => 32,
            Question::OneOf([first, second, third]) if second != first && third != first => 48,
            Question::OneOf(_) => 32,
            Question::Range { .. } | Question::Test { .. } => 1,
        }
    }
}

/// … and where it is asked.
type Asked = (Load, Question);

/// What is asked of one of the two protocols.
struct Way {
    protocol: u32,
    /// One of these.
    k: [u32; 3],
    /// That of IPv4 has a length.
    header: Option<Header>,
    questions: [Option<Asked>; QUESTIONS],
    /// If one of them holds, and if none does.
    yes: Exit,
    no: Exit,
}

impl<M: Memory> Emitter<'_, '_, M> {
    /// What a program does from there, if it is of this kind.
    fn way(&self, exit: Exit) -> Option<Way> {
        let Exit::Go(pc) = exit else { return None };
        let byte = |load: Load| (load.size == 1 && !load.indirect).then_some(load.at);
        let (protocol, k, header, mut next, outside) = match *self.step_at(pc)? {
            Step::Ports { protocol, protocols: k, header, load, second, k: port, yes, no } => {
                let asked = (load, Question::Pair { second, k: port });
                let questions = [Some(asked), None, None];
                return Some(Way { protocol: byte(protocol)?, k, header, questions, yes, no });
            }
            Step::Transport { protocol, k, header, yes, no } => {
                (byte(protocol)?, k, Some(header), yes, no)
            }
            Step::OneOf { load, k, yes: Exit::Go(yes), no } => (byte(load)?, k, None, yes, no),
            Step::Test {
                load,
                mask: u32::MAX,
                compare: Compare::Equal,
                k,
                yes: Exit::Go(yes),
                no,
            } => (byte(load)?, [k; 3], None, yes, no),
            _ => return None,
        };
        let mut questions = [None; QUESTIONS];
        let mut holds = None;
        for place in &mut questions {
            let (load, question, yes, no) = match *self.step_at(next)? {
                Step::Pair { load, second, mask: u32::MAX, k, yes, no } => {
                    (load, Question::Pair { second, k }, yes, no)
                }
                Step::Range { load, low, span, yes, no } => {
                    (load, Question::Range { low, span }, yes, no)
                }
                Step::OneOf { load, k, yes, no } => (load, Question::OneOf(k), yes, no),
                Step::Test { load, mask, compare, k, yes, no } => {
                    (load, Question::Test { mask, compare, k }, yes, no)
                }
                _ => return None,
            };
            *place = Some((load, question));
            if *holds.get_or_insert(yes) != yes {
                return None;
            }
            match no {
                Exit::Go(pc) => next = pc,
                Exit::Return(_) if no == outside => {
                    return Some(Way { protocol, k, header, questions, yes, no });
                }
                Exit::Return(_) => return None,
            }
        }
        None
    }

    /// Writes it, if this is such a program.
    pub(super) fn try_ports(&mut self) -> Option<()> {
        let Types { at, types: [first, second], ways: [one, other], others } = self.types()?;
        let (one, other) = (self.way(one)?, self.way(other)?);
        let (six, four, types) = match (one.header, other.header) {
            (None, Some(_)) => (one, other, [first, second]),
            (Some(_), None) => (other, one, [second, first]),
            _ => return None,
        };
        let header = four.header?;
        let same = six.k == four.k && (six.yes, six.no) == (four.yes, four.no) && others == four.no;
        let (Exit::Return(yes), Exit::Return(no)) = (four.yes, four.no) else { return None };
        if !same || !four.k.iter().all(|k| fits(1, *k)) {
            return None;
        }

        // The ports of the one are so far behind those of the other, without X.
        let first_of = |way: &Way| way.questions.first().copied().flatten();
        let further = first_of(&six)?.0.at.checked_sub(first_of(&four)?.0.at)?;
        if further & 3 != 0 {
            return None;
        }
        let mut end = 0u32;
        for (six, four) in six.questions.iter().zip(&four.questions) {
            let ((six, asked), (four, question)) = match (*six, *four) {
                (Some(six), Some(four)) => (six, four),
                (None, None) => break,
                _ => return None,
            };
            let moved = |at: u32| at.checked_add(further);
            let asked_there = match question {
                Question::Pair { second, k } => Question::Pair { second: moved(second)?, k },
                question => question,
            };
            let there = Load { indirect: false, at: moved(four.at)?, ..four };
            if !four.indirect || four.size > 2 || six != there || asked != asked_there {
                return None;
            }
            let last = match question {
                Question::Pair { second, .. } => second.max(four.at),
                _ => four.at,
            };
            end = end.max(last.checked_add(four.size.into())?);
        }
        let bytes_end = six.protocol.max(four.protocol).max(header.len).checked_add(1)?;
        let flags_end = header.flags.checked_add(2)?;

        self.begin(bytes_end.max(flags_end).max(end.checked_add(further)?), at)?;
        self.fetch(1, R11, 7, &[], header.len); // movzx r11d, byte [rdi + …]
        self.put(&[0x41, 0x83, 0xe3, 0x0f]); // and r11d, 15
        self.put32(&[0xb9], further >> 2); // mov ecx, further / 4
        self.fetch(1, R8, 7, &[], four.protocol); // movzx r8d, byte [rdi + …]
        self.fetch(1, R9, 7, &[], six.protocol); // movzx r9d, byte [rdi + …]
        self.fetch(2, R10, 7, &[], header.flags); // movzx r10d, word [rdi + …]
        self.put32(&[0x41, 0x81, 0xe2], swap(2, header.bits)); // and r10d, bits
        self.put(&[0x89, 0xc2]); // mov edx, eax
        self.put32(&[0x81, 0xf2], swap(2, types[0])); // xor edx, IPv6
        self.put(&[0x44, 0x0f, 0x44, 0xd9]); // cmove r11d, ecx
        self.put(&[0x45, 0x0f, 0x44, 0xc1]); // cmove r8d, r9d
        self.put(&[0x44, 0x0f, 0x44, 0xd2]); // cmove r10d, edx: 0
        self.put32(&[0x35], swap(2, types[1])); // xor eax, IPv4
        self.put(&[0x0f, 0xaf, 0xd0]); // imul edx, eax
        self.put(&[0x41, 0x09, 0xd2]); // or r10d, edx
        self.put32(&[0x4a, 0x8d, 0x04, 0x9d], end); // lea rax, [4 * r11 + end]
        self.put(&[0x48, 0x39, 0xf0]); // cmp rax, rsi
        self.other_if(Condition::ABOVE);
        self.protocol(four.k);
        let mut bits = 0u32;
        for (load, question) in four.questions.into_iter().flatten() {
            self.asked(load, question)?;
            match bits {
                0 => self.put(&[0x49, 0x89, 0xc1]),       // mov r9, rax
                _ => self.put(&[0x4c, 0x0f, 0xaf, 0xc8]), // imul r9, rax
            }
            bits = bits.checked_add(question.bits())?;
        }
        // A product that has no room may be 0 without a 0.
        if bits > u64::BITS {
            return None;
        }
        self.put(&[0x4d, 0x09, 0xca]); // or r10, r9
        self.answer(yes, no);
        Some(())
    }

    /// Whether r8d is one of three, too.
    fn protocol(&mut self, [first, second, third]: [u32; 3]) {
        self.put(&[0x44, 0x89, 0xc0]); // mov eax, r8d
        self.put32(&[0x41, 0x81, 0xf0], first); // xor r8d, first
        for other in [second, third] {
            if other != first {
                self.put(&[0x89, 0xc1]); // mov ecx, eax
                self.put32(&[0x81, 0xf1], other); // xor ecx, other
                self.put(&[0x44, 0x0f, 0xaf, 0xc1]); // imul r8d, ecx
            }
        }
        self.put(&[0x45, 0x09, 0xc2]); // or r10d, r8d
    }

    /// Loads a field behind the header, in the order of the packet.
    fn port(&mut self, load: Load, to: u8) {
        self.put(&[0x42]);
        self.fetch(load.size, to, 4, &[0x9f], load.at); // …, [rdi + 4 * r11 + at]
    }

    /// rax = 0 if it holds.
    fn asked(&mut self, load: Load, question: Question) -> Option<()> {
        self.port(load, EAX);
        let fitting = |k: u32| fits(load.size, k).then(|| swap(load.size, k));
        let unless = match question {
            Question::Pair { second, k } => {
                let k = fitting(k)?;
                self.port(Load { at: second, ..load }, ECX);
                self.put32(&[0x35], k); // xor eax, k
                self.put32(&[0x81, 0xf1], k); // xor ecx, k
                self.put(&[0x0f, 0xaf, 0xc1]); // imul eax, ecx
                return Some(());
            }
            Question::OneOf([first, second, third]) => {
                self.put(&[0x89, 0xc1]); // mov ecx, eax
                self.put32(&[0x35], fitting(first)?); // xor eax, first
                for other in [second, third] {
                    if other != first {
                        self.put(&[0x89, 0xca]); // mov edx, ecx
                        self.put32(&[0x81, 0xf2], fitting(other)?); // xor edx, other
                        self.put(&[0x48, 0x0f, 0xaf, 0xc2]); // imul rax, rdx
                    }
                }
                return Some(());
            }
            Question::Range { low, span } => {
                self.swap_a(load.size);
                self.put32(&[0x2d], low); // sub eax, low
                self.put32(&[0x3d], span); // cmp eax, span
                Condition::ABOVE
            }
            Question::Test { mask, compare, k } => {
                self.compare(load.size, mask, compare, k, false);
                condition(compare).not()
            }
        };
        self.set_if(unless, EAX);
        self.put(&[0x0f, 0xb6, 0xc0]); // movzx eax, al
        Some(())
    }
}
