// SPDX-License-Identifier: BSD-2-Clause
//! Which programs the kernel takes.

use core::error::Error;
use core::fmt;

use super::opcode::*;
use crate::Insn;

/// The program is refused: the instruction (counted from 0, as `tcpdump -d` does) and
/// why. User space gets EINVAL without a reason, as ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Invalid {
    /// Which instruction.
    pub at: usize,
    /// What is wrong with it.
    pub reason: Reason,
}

/// What is wrong with an instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// It is not there: a program has at least one.
    Missing,
    /// Its code is none of the language's.
    Code(u16),
    /// A jump leads behind the last instruction.
    Jump,
    /// It names a word of scratch memory that is not there.
    Memory(u32),
    /// It divides by a constant that is zero.
    Division,
    /// It is the last one and no return.
    End,
}

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "instruction {}: {}", self.at, self.reason)
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => f.write_str("a program needs one"),
            Self::Code(code) => write!(f, "{code:#06x} is no code of an instruction"),
            Self::Jump => f.write_str("jumps behind the end of the program"),
            Self::Memory(word) => write!(f, "scratch memory has {MEMWORDS} words, no word {word}"),
            Self::Division => f.write_str("divides by zero"),
            Self::End => f.write_str("the last one must return"),
        }
    }
}

impl Error for Invalid {}

/// Accepts exactly what FreeBSD's `bpf_validate` accepts of a program with at
/// least one instruction: known codes, jumps forward and inside, scratch
/// memory inside, no constant division by zero, a return at the end.
///
/// # Errors
/// [`Invalid`] for everything else.
pub fn validate(insns: &[Insn]) -> Result<(), Invalid> {
    for (at, insn) in insns.iter().enumerate() {
        // How many instructions follow: a jump of n needs more than n.
        let following = insns.len().saturating_sub(at).saturating_sub(1);
        check(insn, following).map_err(|reason| Invalid { at, reason })?;
    }
    match insns.last() {
        Some(last) if matches!(last.code, RET_K | RET_A) => Ok(()),
        Some(_) => Err(Invalid { at: insns.len().saturating_sub(1), reason: Reason::End }),
        None => Err(Invalid { at: 0, reason: Reason::Missing }),
    }
}

fn check(insn: &Insn, following: usize) -> Result<(), Reason> {
    let unless = |valid, reason| if valid { Ok(()) } else { Err(reason) };
    let lands = |jump: u32| (jump as usize) < following;
    match insn.code {
        LD_W_ABS | LD_H_ABS | LD_B_ABS | LD_W_IND | LD_H_IND | LD_B_IND | LD_LEN | LD_IMM
        | LDX_LEN | LDX_IMM | LDX_MSH => Ok(()),
        LD_MEM | LDX_MEM | ST | STX => unless((insn.k as usize) < MEMWORDS, Reason::Memory(insn.k)),
        ADD_K | SUB_K | MUL_K | OR_K | AND_K | LSH_K | RSH_K | XOR_K | NEG | ADD_X | SUB_X
        | MUL_X | DIV_X | OR_X | AND_X | LSH_X | RSH_X | MOD_X | XOR_X => Ok(()),
        DIV_K | MOD_K => unless(insn.k != 0, Reason::Division),
        JA => unless(lands(insn.k), Reason::Jump),
        JEQ_K | JGT_K | JGE_K | JSET_K | JEQ_X | JGT_X | JGE_X | JSET_X => {
            unless(lands(insn.jt.into()) && lands(insn.jf.into()), Reason::Jump)
        }
        RET_K | RET_A | TAX | TXA => Ok(()),
        code => Err(Reason::Code(code)),
    }
}

#[cfg(test)]
mod tests {
    use alloc::boxed::Box;
    use alloc::string::ToString;
    use alloc::vec;

    use super::*;

    fn insn(code: u16, jt: u8, jf: u8, k: u32) -> Insn {
        Insn { code, jt, jf, k }
    }

    const ACCEPT: Insn = Insn { code: RET_K, jt: 0, jf: 0, k: u32::MAX };

    /// The 49 codes of FreeBSD 12.1 to 15, written down independently of the
    /// names in `opcode`.
    const ACCEPTED: [u16; 49] = [
        0x00, 0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x07, 0x0c, 0x14, 0x15, 0x16, 0x1c, 0x1d, 0x20,
        0x24, 0x25, 0x28, 0x2c, 0x2d, 0x30, 0x34, 0x35, 0x3c, 0x3d, 0x40, 0x44, 0x45, 0x48, 0x4c,
        0x4d, 0x50, 0x54, 0x5c, 0x60, 0x61, 0x64, 0x6c, 0x74, 0x7c, 0x80, 0x81, 0x84, 0x87, 0x94,
        0x9c, 0xa4, 0xac, 0xb1,
    ];

    #[test]
    fn knows_exactly_the_kernels_codes() {
        for code in 0..=u16::MAX {
            let program = [insn(code, 0, 0, 1), ACCEPT, ACCEPT, ACCEPT];
            assert_eq!(validate(&program).is_ok(), ACCEPTED.contains(&code), "{code:#06x}");
        }
    }

    #[test]
    fn jumps_land_inside() {
        // A jump of n skips n instructions and needs one to land on.
        for (len, jump, valid) in [(2, 0, true), (2, 1, false), (3, 1, true), (3, 2, false)] {
            let mut program = vec![ACCEPT; len];
            program[0] = insn(JA, 0, 0, jump);
            assert_eq!(validate(&program).is_ok(), valid, "ja {jump} of {len}");
            program[0] = insn(JEQ_K, jump as u8, 0, 0);
            assert_eq!(validate(&program).is_ok(), valid, "jt {jump} of {len}");
            program[0] = insn(JEQ_K, 0, jump as u8, 0);
            assert_eq!(validate(&program).is_ok(), valid, "jf {jump} of {len}");
        }
        assert!(validate(&[insn(JA, 0, 0, u32::MAX), ACCEPT]).is_err());
    }

    #[test]
    fn scratch_memory_is_bounded() {
        for code in [LD_MEM, LDX_MEM, ST, STX] {
            assert!(validate(&[insn(code, 0, 0, 15), ACCEPT]).is_ok());
            assert!(validate(&[insn(code, 0, 0, 16), ACCEPT]).is_err());
        }
    }

    #[test]
    fn constant_division_by_zero_is_refused() {
        for code in [DIV_K, MOD_K] {
            assert!(validate(&[insn(code, 0, 0, 0), ACCEPT]).is_err());
            assert!(validate(&[insn(code, 0, 0, 1), ACCEPT]).is_ok());
        }
    }

    #[test]
    fn says_which_instruction_and_why() {
        for (program, said) in [
            (vec![], "instruction 0: a program needs one"),
            (
                vec![ACCEPT, insn(0xff, 0, 0, 0), ACCEPT],
                "instruction 1: 0x00ff is no code of an instruction",
            ),
            (
                vec![insn(JEQ_K, 0, 1, 0), ACCEPT],
                "instruction 0: jumps behind the end of the program",
            ),
            (
                vec![insn(ST, 0, 0, 16), ACCEPT],
                "instruction 0: scratch memory has 16 words, no word 16",
            ),
            (vec![ACCEPT, insn(MOD_K, 0, 0, 0), ACCEPT], "instruction 1: divides by zero"),
            (vec![ACCEPT, insn(TAX, 0, 0, 0)], "instruction 1: the last one must return"),
        ] {
            let error: Box<dyn Error> = validate(&program).unwrap_err().into();
            assert_eq!(error.to_string(), said);
        }
    }

    #[test]
    fn ends_in_a_return() {
        assert!(validate(&[]).is_err());
        assert!(validate(&[insn(TAX, 0, 0, 0)]).is_err());
        assert!(validate(&[ACCEPT, insn(LD_IMM, 0, 0, 0)]).is_err());
        assert!(validate(&[insn(RET_A, 0, 0, 0)]).is_ok());
    }
}
