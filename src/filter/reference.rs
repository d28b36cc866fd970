// SPDX-License-Identifier: BSD-2-Clause
//! The reference: one instruction after the other, nothing clever.

use super::Packet;
use super::opcode::*;
use crate::Insn;

/// Where a machine stands.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct State {
    pub(crate) pc: usize,
    pub(crate) a: u32,
    pub(crate) x: u32,
    pub(crate) memory: [u32; MEMWORDS],
}

/// Runs a valid program from `state` to its end: how many bytes to keep, 0 for
/// none.
///
/// Where C leaves the result open, it is what an amd64 kernel does: shifts
/// take their count modulo 32. A load beyond the packet rejects it, and so
/// does a division by X = 0.
pub(crate) fn run<P: Packet + ?Sized>(insns: &[Insn], packet: &P, state: State) -> u32 {
    let State { mut pc, mut a, mut x, mut memory } = state;

    // Every jump goes forward, so this ends after at most insns.len() turns;
    // a program that ran off its end, which a valid one cannot, rejects.
    while let Some(insn) = insns.get(pc) {
        let k = insn.k;
        pc = pc.wrapping_add(1);
        match insn.code {
            LD_W_ABS => match packet.bytes(k) {
                Some(bytes) => a = u32::from_be_bytes(bytes),
                None => return 0,
            },
            LD_H_ABS => match packet.bytes(k) {
                Some(bytes) => a = u16::from_be_bytes(bytes).into(),
                None => return 0,
            },
            LD_B_ABS => match packet.bytes(k) {
                Some([byte]) => a = byte.into(),
                None => return 0,
            },
            LD_W_IND => match x.checked_add(k).and_then(|at| packet.bytes(at)) {
                Some(bytes) => a = u32::from_be_bytes(bytes),
                None => return 0,
            },
            LD_H_IND => match x.checked_add(k).and_then(|at| packet.bytes(at)) {
                Some(bytes) => a = u16::from_be_bytes(bytes).into(),
                None => return 0,
            },
            LD_B_IND => match x.checked_add(k).and_then(|at| packet.bytes(at)) {
                Some([byte]) => a = byte.into(),
                None => return 0,
            },
            LDX_MSH => match packet.bytes(k) {
                Some([byte]) => x = u32::from(byte & 0x0f) << 2,
                None => return 0,
            },
            LD_LEN => a = packet.wire_len(),
            LDX_LEN => x = packet.wire_len(),
            LD_IMM => a = k,
            LDX_IMM => x = k,
            LD_MEM => a = memory.get(k as usize).copied().unwrap_or(0),
            LDX_MEM => x = memory.get(k as usize).copied().unwrap_or(0),
            ST => store(&mut memory, k, a),
            STX => store(&mut memory, k, x),
            ADD_K => a = a.wrapping_add(k),
            SUB_K => a = a.wrapping_sub(k),
            MUL_K => a = a.wrapping_mul(k),
            DIV_K => match a.checked_div(k) {
                Some(quotient) => a = quotient,
                None => return 0,
            },
            MOD_K => match a.checked_rem(k) {
                Some(rest) => a = rest,
                None => return 0,
            },
            OR_K => a |= k,
            AND_K => a &= k,
            XOR_K => a ^= k,
            LSH_K => a = a.wrapping_shl(k),
            RSH_K => a = a.wrapping_shr(k),
            ADD_X => a = a.wrapping_add(x),
            SUB_X => a = a.wrapping_sub(x),
            MUL_X => a = a.wrapping_mul(x),
            DIV_X => match a.checked_div(x) {
                Some(quotient) => a = quotient,
                None => return 0,
            },
            MOD_X => match a.checked_rem(x) {
                Some(rest) => a = rest,
                None => return 0,
            },
            OR_X => a |= x,
            AND_X => a &= x,
            XOR_X => a ^= x,
            LSH_X => a = a.wrapping_shl(x),
            RSH_X => a = a.wrapping_shr(x),
            NEG => a = a.wrapping_neg(),
            JA => pc = pc.saturating_add(k as usize),
            JEQ_K => pc = branch(pc, insn, a == k),
            JGT_K => pc = branch(pc, insn, a > k),
            JGE_K => pc = branch(pc, insn, a >= k),
            JSET_K => pc = branch(pc, insn, a & k != 0),
            JEQ_X => pc = branch(pc, insn, a == x),
            JGT_X => pc = branch(pc, insn, a > x),
            JGE_X => pc = branch(pc, insn, a >= x),
            JSET_X => pc = branch(pc, insn, a & x != 0),
            TAX => x = a,
            TXA => a = x,
            RET_K => return k,
            RET_A => return a,
            _ => return 0,
        }
    }
    0
}

fn store(memory: &mut [u32; MEMWORDS], k: u32, value: u32) {
    if let Some(word) = memory.get_mut(k as usize) {
        *word = value;
    }
}

fn branch(pc: usize, insn: &Insn, taken: bool) -> usize {
    pc.wrapping_add(usize::from(if taken { insn.jt } else { insn.jf }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn insn(code: u16, jt: u8, jf: u8, k: u32) -> Insn {
        Insn { code, jt, jf, k }
    }

    fn start(program: &[Insn], packet: &[u8]) -> u32 {
        run(program, packet, State::default())
    }

    /// Loads a and x, does one thing, returns A.
    fn alu(code: u16, a: u32, x: u32, k: u32) -> u32 {
        let program = [
            insn(LD_IMM, 0, 0, a),
            insn(LDX_IMM, 0, 0, x),
            insn(code, 0, 0, k),
            insn(RET_A, 0, 0, 0),
        ];
        start(&program, &[][..])
    }

    #[test]
    fn arithmetic() {
        for (code, a, x, k, result) in [
            (ADD_K, u32::MAX, 0, 2, 1),
            (SUB_X, 1, 2, 0, u32::MAX),
            (MUL_K, 0x8000_0000, 0, 2, 0),
            (DIV_K, 7, 0, 2, 3),
            (MOD_X, 7, 4, 0, 3),
            (OR_X, 1, 2, 0, 3),
            (AND_K, 6, 0, 3, 2),
            (XOR_K, 6, 0, 3, 5),
            (NEG, 1, 0, 0, u32::MAX),
            (LSH_K, 1, 0, 33, 2),
            (RSH_X, 4, 33, 0, 2),
            (TXA, 1, 9, 0, 9),
        ] {
            assert_eq!(alu(code, a, x, k), result, "{code:#04x}");
        }
    }

    #[test]
    fn division_by_x_zero_rejects() {
        assert_eq!(alu(DIV_X, 7, 0, 0), 0);
        assert_eq!(alu(MOD_X, 7, 0, 0), 0);
    }

    #[test]
    fn loads() {
        let packet = &[0x45u8, 1, 2, 3, 4, 5][..];
        let load = |code, x, k| {
            let program = [insn(LDX_IMM, 0, 0, x), insn(code, 0, 0, k), insn(RET_A, 0, 0, 0)];
            start(&program, packet)
        };
        assert_eq!(load(LD_W_ABS, 0, 1), 0x0102_0304);
        assert_eq!(load(LD_H_ABS, 0, 4), 0x0405);
        assert_eq!(load(LD_B_ABS, 0, 5), 5);
        assert_eq!(load(LD_W_IND, 1, 1), 0x0203_0405);
        assert_eq!(load(LD_LEN, 0, 0), 6);
        // One byte beyond, and addresses that wrap, reject.
        assert_eq!(load(LD_W_ABS, 0, 3), 0);
        assert_eq!(load(LD_H_ABS, 0, 5), 0);
        assert_eq!(load(LD_B_ABS, 0, 6), 0);
        assert_eq!(load(LD_B_IND, u32::MAX, 2), 0);
        assert_eq!(load(LD_W_IND, u32::MAX, u32::MAX), 0);
        let header_len = [insn(LDX_MSH, 0, 0, 0), insn(TXA, 0, 0, 0), insn(RET_A, 0, 0, 0)];
        assert_eq!(start(&header_len, packet), 20);
    }

    #[test]
    fn scratch_memory_starts_at_zero() {
        let read = [insn(LD_MEM, 0, 0, 15), insn(ADD_K, 0, 0, 1), insn(RET_A, 0, 0, 0)];
        assert_eq!(start(&read, &[][..]), 1);
        let keep = [
            insn(LDX_IMM, 0, 0, 7),
            insn(STX, 0, 0, 3),
            insn(LD_MEM, 0, 0, 3),
            insn(RET_A, 0, 0, 0),
        ];
        assert_eq!(start(&keep, &[][..]), 7);
    }

    #[test]
    fn branches() {
        let jump = |code, a| {
            let program = [
                insn(LD_IMM, 0, 0, a),
                insn(LDX_IMM, 0, 0, 5),
                insn(code, 1, 0, 5),
                insn(RET_K, 0, 0, 1),
                insn(RET_K, 0, 0, 2),
            ];
            start(&program, &[][..]) == 2
        };
        for (code, below, equal, above) in [
            (JEQ_K, false, true, false),
            (JGT_K, false, false, true),
            (JGE_K, false, true, true),
            (JEQ_X, false, true, false),
            (JGT_X, false, false, true),
            (JGE_X, false, true, true),
        ] {
            assert_eq!([jump(code, 4), jump(code, 5), jump(code, 6)], [below, equal, above]);
        }
        assert!(jump(JSET_K, 4) && !jump(JSET_K, 2));
        let ja = [insn(JA, 0, 0, 1), insn(RET_K, 0, 0, 1), insn(RET_K, 0, 0, 2)];
        assert_eq!(start(&ja, &[][..]), 2);
    }
}
