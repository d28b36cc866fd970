// SPDX-License-Identifier: BSD-2-Clause
//! Instruction codes, as in `<net/bpf.h>`.
//!
//! A code is a class (3 bits) with, depending on the class, a size and an
//! addressing mode, or an operation and the source of its operand.

macro_rules! codes {
    ($($name:ident = $value:expr, $doc:literal;)*) => {
        $(
            #[doc = $doc]
            pub(crate) const $name: u16 = $value;
        )*
    };
}

/// The bits of a class.
pub(crate) const CLASS: u16 = 0x07;

const W: u16 = 0x00;
const H: u16 = 0x08;
const B: u16 = 0x10;

const IMM: u16 = 0x00;
const ABS: u16 = 0x20;
const IND: u16 = 0x40;
const MEM: u16 = 0x60;
const LEN: u16 = 0x80;
const MSH: u16 = 0xa0;

const K: u16 = 0x00;
pub(crate) const X: u16 = 0x08;
const A: u16 = 0x10;

pub(crate) const LD: u16 = 0;
pub(crate) const LDX: u16 = 1;
pub(crate) const ALU: u16 = 4;
pub(crate) const JMP: u16 = 5;
pub(crate) const RET: u16 = 6;
pub(crate) const MISC: u16 = 7;

codes! {
    LD_W_ABS = LD | W | ABS, "A = 32 bits at k";
    LD_H_ABS = LD | H | ABS, "A = 16 bits at k";
    LD_B_ABS = LD | B | ABS, "A = 8 bits at k";
    LD_W_IND = LD | W | IND, "A = 32 bits at X + k";
    LD_H_IND = LD | H | IND, "A = 16 bits at X + k";
    LD_B_IND = LD | B | IND, "A = 8 bits at X + k";
    LD_LEN = LD | W | LEN, "A = length of the packet";
    LD_IMM = LD | IMM, "A = k";
    LD_MEM = LD | MEM, "A = `M[k]`";
    LDX_LEN = LDX | W | LEN, "X = length of the packet";
    LDX_IMM = LDX | IMM, "X = k";
    LDX_MEM = LDX | MEM, "X = `M[k]`";
    LDX_MSH = LDX | B | MSH, "X = 4 * the low nibble of the byte at k";
    ST = 2, "`M[k]` = A";
    STX = 3, "`M[k]` = X";
    ADD_K = ALU | K, "A += k";
    SUB_K = ALU | 0x10 | K, "A -= k";
    MUL_K = ALU | 0x20 | K, "A *= k";
    DIV_K = ALU | 0x30 | K, "A /= k";
    OR_K = ALU | 0x40 | K, "A |= k";
    AND_K = ALU | 0x50 | K, "A &= k";
    LSH_K = ALU | 0x60 | K, "A <<= k";
    RSH_K = ALU | 0x70 | K, "A >>= k";
    NEG = ALU | 0x80, "A = -A";
    MOD_K = ALU | 0x90 | K, "A %= k";
    XOR_K = ALU | 0xa0 | K, "A ^= k";
    ADD_X = ALU | X, "A += X";
    SUB_X = ALU | 0x10 | X, "A -= X";
    MUL_X = ALU | 0x20 | X, "A *= X";
    DIV_X = ALU | 0x30 | X, "A /= X";
    OR_X = ALU | 0x40 | X, "A |= X";
    AND_X = ALU | 0x50 | X, "A &= X";
    LSH_X = ALU | 0x60 | X, "A <<= X";
    RSH_X = ALU | 0x70 | X, "A >>= X";
    MOD_X = ALU | 0x90 | X, "A %= X";
    XOR_X = ALU | 0xa0 | X, "A ^= X";
    JA = JMP, "skip k";
    JEQ_K = JMP | 0x10 | K, "A == k";
    JGT_K = JMP | 0x20 | K, "A > k";
    JGE_K = JMP | 0x30 | K, "A >= k";
    JSET_K = JMP | 0x40 | K, "A & k";
    JEQ_X = JMP | 0x10 | X, "A == X";
    JGT_X = JMP | 0x20 | X, "A > X";
    JGE_X = JMP | 0x30 | X, "A >= X";
    JSET_X = JMP | 0x40 | X, "A & X";
    RET_K = RET | K, "accept k bytes";
    RET_A = RET | A, "accept A bytes";
    TAX = MISC, "X = A";
    TXA = MISC | 0x80, "A = X";
}

/// Words of scratch memory: `BPF_MEMWORDS`.
pub(crate) const MEMWORDS: usize = 16;
