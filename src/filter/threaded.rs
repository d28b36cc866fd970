// SPDX-License-Identifier: BSD-2-Clause
//! The threaded machine: a step is a function that calls the next one.
//!
//! That call is the last thing a function does, and all have the same
//! signature, whose arguments are in registers: so an optimising compiler makes
//! it a jump, and the stack does not grow. The language does not promise this.
//! The checks of the finished object look for it, and where nobody optimises a
//! loop makes the calls.

use crate::handlers::*;
use crate::opcode::*;
use crate::step::{Compare, Load};

/// The first operation is the one that runs. The result is the program's, of 32
/// bits; or [`NEXT`] or [`LEAVE`], and how many operations are left then.
pub(crate) type Handler = for<'p> fn(&'p [Op], &[u8], u32, &mut Machine<'p>) -> u64;

/// To be called on.
pub(crate) const NEXT: u64 = 1 << 62;
/// This operation is one for the reference.
pub(crate) const LEAVE: u64 = 1 << 63;

/// An operation. What the numbers mean, its function knows; `yes` and `no` are
/// how many operations further it goes on, or, where the function says so,
/// what the program returns.
#[derive(Clone, Copy)]
pub(crate) struct Op {
    pub(crate) run: Handler,
    pub(crate) at: u32,
    pub(crate) k: u32,
    pub(crate) l: u32,
    pub(crate) m: u32,
    pub(crate) yes: u32,
    pub(crate) no: u32,
}

/// What is not in registers.
pub(crate) struct Machine<'p> {
    pub(crate) x: u32,
    /// Where [`NEXT`] or [`LEAVE`] is returned.
    pub(crate) a: u32,
    pub(crate) wire_len: u32,
    pub(crate) memory: &'p mut [u32],
    pub(crate) tables: &'p [u32],
}

/// Runs operations to their end, or to where they leave.
#[inline(always)]
pub(crate) fn run<'p>(ops: &'p [Op], window: &[u8], m: &mut Machine<'p>) -> u64 {
    // What is further away has no address.
    let window = window.get(..u32::MAX as usize).unwrap_or(window);
    let mut result = call(ops, window, 0, m);
    while cfg!(debug_assertions) && result & NEXT != 0 {
        let a = m.a;
        result = call(left(ops, result), window, a, m);
    }
    result
}

/// What is left of the operations.
pub(crate) fn left(ops: &[Op], result: u64) -> &[Op] {
    let done = ops.len().wrapping_sub(result as u32 as usize);
    ops.get(done..).unwrap_or_default()
}

/// Runs the first operation.
#[inline(always)]
pub(crate) fn call<'p>(code: &'p [Op], window: &[u8], a: u32, m: &mut Machine<'p>) -> u64 {
    match code.first() {
        Some(op) => (op.run)(code, window, a, m),
        None => 0,
    }
}

/// The function of an instruction that leads to the next one.
pub(crate) fn plain(code: u16) -> Option<Handler> {
    Some(match code {
        LD_W_ABS => ld::<4, false>,
        LD_H_ABS => ld::<2, false>,
        LD_B_ABS => ld::<1, false>,
        LD_W_IND => ld::<4, true>,
        LD_H_IND => ld::<2, true>,
        LD_B_IND => ld::<1, true>,
        LDX_MSH => ldx_msh,
        LD_LEN => ld_len,
        LD_IMM => ld_imm,
        LD_MEM => ld_mem,
        LDX_LEN => ldx_len,
        LDX_IMM => ldx_imm,
        LDX_MEM => ldx_mem,
        ST => st,
        STX => stx,
        ADD_K => add_k,
        SUB_K => sub_k,
        MUL_K => mul_k,
        DIV_K => div_k,
        MOD_K => mod_k,
        OR_K => or_k,
        AND_K => and_k,
        XOR_K => xor_k,
        LSH_K => lsh_k,
        RSH_K => rsh_k,
        ADD_X => add_x,
        SUB_X => sub_x,
        MUL_X => mul_x,
        DIV_X => div_x,
        MOD_X => mod_x,
        OR_X => or_x,
        AND_X => and_x,
        XOR_X => xor_x,
        LSH_X => lsh_x,
        RSH_X => rsh_x,
        NEG => neg,
        TAX => tax,
        TXA => txa,
        _ => return None,
    })
}

pub(crate) const JA: Handler = ja;
pub(crate) const RETURN_K: Handler = ret_k;
pub(crate) const RETURN_A: Handler = ret_a;

/// `$function` with the constants that two flags say.
macro_rules! flags {
    ($yes:expr, $no:expr, $function:ident [$($given:expr),*]) => {
        match ($yes, $no) {
            (false, false) => $function::<$({ $given },)* false, false>,
            (false, true) => $function::<$({ $given },)* false, true>,
            (true, false) => $function::<$({ $given },)* true, false>,
            (true, true) => $function::<$({ $given },)* true, true>,
        }
    };
}

/// … and with those of a load: its size, and whether it counts from X.
macro_rules! sizes {
    ($load:expr, $yes:expr, $no:expr, $function:ident [$($given:expr),*]) => {
        match ($load.size, $load.indirect) {
            (1, false) => flags!($yes, $no, $function [1, false $(, $given)*]),
            (2, false) => flags!($yes, $no, $function [2, false $(, $given)*]),
            (_, false) => flags!($yes, $no, $function [4, false $(, $given)*]),
            (1, true) => flags!($yes, $no, $function [1, true $(, $given)*]),
            (2, true) => flags!($yes, $no, $function [2, true $(, $given)*]),
            (_, true) => flags!($yes, $no, $function [4, true $(, $given)*]),
        }
    };
}

/// The functions of the steps; `yes` and `no`: the program ends there.
pub(crate) fn test_of(load: Load, how: Compare, yes: bool, no: bool) -> Handler {
    match how {
        Compare::Equal => sizes!(load, yes, no, test[EQUAL]),
        Compare::Above => sizes!(load, yes, no, test[ABOVE]),
        Compare::AtLeast => sizes!(load, yes, no, test[AT_LEAST]),
        Compare::Bits => sizes!(load, yes, no, test[BITS]),
    }
}

pub(crate) fn branch_of(x: bool, how: Compare, yes: bool, no: bool) -> Handler {
    match (x, how) {
        (false, Compare::Equal) => flags!(yes, no, branch [false, EQUAL]),
        (false, Compare::Above) => flags!(yes, no, branch [false, ABOVE]),
        (false, Compare::AtLeast) => flags!(yes, no, branch [false, AT_LEAST]),
        (false, Compare::Bits) => flags!(yes, no, branch [false, BITS]),
        (true, Compare::Equal) => flags!(yes, no, branch [true, EQUAL]),
        (true, Compare::Above) => flags!(yes, no, branch [true, ABOVE]),
        (true, Compare::AtLeast) => flags!(yes, no, branch [true, AT_LEAST]),
        (true, Compare::Bits) => flags!(yes, no, branch [true, BITS]),
    }
}

pub(crate) fn pair_of(load: Load, yes: bool, no: bool) -> Handler {
    sizes!(load, yes, no, pair [])
}

pub(crate) fn range_of(load: Load, yes: bool, no: bool) -> Handler {
    sizes!(load, yes, no, range [])
}

pub(crate) fn one_of_of(load: Load, yes: bool, no: bool) -> Handler {
    sizes!(load, yes, no, one_of [])
}

pub(crate) fn set_of(load: Load, yes: bool, no: bool) -> Handler {
    sizes!(load, yes, no, set [])
}

pub(crate) fn two_way_of(load: Load, yes: [bool; 2], no: bool) -> Handler {
    match (load.size, yes[0]) {
        (1, false) => flags!(yes[1], no, two_way [1, false]),
        (2, false) => flags!(yes[1], no, two_way [2, false]),
        (_, false) => flags!(yes[1], no, two_way [4, false]),
        (1, true) => flags!(yes[1], no, two_way [1, true]),
        (2, true) => flags!(yes[1], no, two_way [2, true]),
        (_, true) => flags!(yes[1], no, two_way [4, true]),
    }
}

pub(crate) fn fragment_of(yes: bool) -> Handler {
    if yes { fragment::<true> } else { fragment::<false> }
}

pub(crate) fn transport_of(no: bool) -> Handler {
    if no { transport::<true> } else { transport::<false> }
}

pub(crate) fn ports_of(header: bool, yes: bool, no: bool) -> Handler {
    if header { flags!(yes, no, ports[true]) } else { flags!(yes, no, ports[false]) }
}
