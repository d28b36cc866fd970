// SPDX-License-Identifier: BSD-2-Clause
//! The functions of the threaded machine, and nothing else: `check-ko` looks at
//! each of them in the finished module.

use crate::table;
use crate::threaded::{LEAVE, Machine, NEXT, Op, call};

/// The next operation, `distance` further.
#[inline(always)]
fn go<'p>(code: &'p [Op], distance: usize, window: &[u8], a: u32, m: &mut Machine<'p>) -> u64 {
    let code = code.get(distance..).unwrap_or_default();
    if cfg!(debug_assertions) {
        m.a = a;
        return NEXT | code.len() as u64;
    }
    call(code, window, a, m)
}

/// A way out of a branch.
#[inline(always)]
fn exit<'p, const RETURNS: bool>(
    code: &'p [Op],
    to: u32,
    window: &[u8],
    a: u32,
    m: &mut Machine<'p>,
) -> u64 {
    if RETURNS { to.into() } else { go(code, to as usize, window, a, m) }
}

/// The two ways out of a branch. If the program ends on both, there is none: what
/// a packet has at the end, nobody can predict.
#[inline(always)]
fn fork<'p, const YES: bool, const NO: bool>(
    holds: bool,
    code: &'p [Op],
    op: &Op,
    window: &[u8],
    a: [u32; 2],
    m: &mut Machine<'p>,
) -> u64 {
    if YES && NO {
        return core::hint::select_unpredictable(holds, op.yes, op.no).into();
    }
    if holds {
        exit::<YES>(code, op.yes, window, a[0], m)
    } else {
        exit::<NO>(code, op.no, window, a[1], m)
    }
}

/// Leaves this operation, and what comes after it, to the reference.
#[cold]
#[inline(never)]
fn leave<'p>(code: &'p [Op], _: &[u8], a: u32, m: &mut Machine<'p>) -> u64 {
    m.a = a;
    LEAVE | code.len() as u64
}

/// `N` bytes of the window.
#[inline(always)]
fn load<const N: usize>(window: &[u8], at: usize) -> Option<u32> {
    let bytes: [u8; N] = *window.get(at..at.wrapping_add(N))?.first_chunk()?;
    Some(bytes.into_iter().fold(0, |value, byte| (value << 8) | u32::from(byte)))
}

/// … at `at`, or at X + `at`: which is beyond the window if it has 33 bits.
#[inline(always)]
fn load_from<const N: usize, const X: bool>(
    window: &[u8],
    at: u32,
    m: &Machine<'_>,
) -> Option<u32> {
    let x = if X { m.x as usize } else { 0 };
    load::<N>(window, x.wrapping_add(at as usize))
}

pub(crate) const EQUAL: u8 = 0;
pub(crate) const ABOVE: u8 = 1;
pub(crate) const AT_LEAST: u8 = 2;
pub(crate) const BITS: u8 = 3;

#[inline(always)]
fn compare<const COMPARE: u8>(a: u32, k: u32) -> bool {
    match COMPARE {
        EQUAL => a == k,
        ABOVE => a > k,
        AT_LEAST => a >= k,
        _ => a & k != 0,
    }
}

/// Whether one of the two is k, in one branch: which one it is, nobody could
/// predict.
#[inline(always)]
fn either(first: u32, second: u32, k: u32) -> bool {
    (first ^ k).min(second ^ k) == 0
}

/// 0 if it is `k`, `l` or `m`; something else otherwise.
#[inline(always)]
fn none_of_three(a: u32, op: &Op) -> u32 {
    (a ^ op.k).min(a ^ op.l).min(a ^ op.m)
}

/// A handler: a function whose body sees the operation and may leave.
macro_rules! handler {
    ($(#[$meta:meta])* $name:ident $(<$(const $param:ident: $type:ty),*>)?
        |$op:pat_param, $code:ident, $window:ident, $a:ident, $m:ident| $body:expr) => {
        $(#[$meta])*
        pub(crate) fn $name<'p $($(, const $param: $type)*)?>(
            $code: &'p [Op],
            $window: &[u8],
            $a: u32,
            $m: &mut Machine<'p>,
        ) -> u64 {
            let $op = $code else { return 0 };
            $body
        }
    };
}

handler! {
    /// ld; and; jeq (or another).
    test<const N: usize, const X: bool, const COMPARE: u8, const YES: bool, const NO: bool>
    |[op, ..], code, window, a, m| {
        let Some(value) = load_from::<N, X>(window, op.at, m) else {
            return leave(code, window, a, m);
        };
        let a = value & op.m;
        fork::<YES, NO>(compare::<COMPARE>(a, op.k), code, op, window, [a, a], m)
    }
}

handler! {
    /// A against k, or X.
    branch<const X: bool, const COMPARE: u8, const YES: bool, const NO: bool>
    |[op, ..], code, window, a, m| {
        let k = if X { m.x } else { op.k };
        fork::<YES, NO>(compare::<COMPARE>(a, k), code, op, window, [a, a], m)
    }
}

handler! {
    /// Two fields, at `at` and `l`, against one number.
    pair<const N: usize, const X: bool, const YES: bool, const NO: bool>
    |[op, ..], code, window, a, m| {
        let first = load_from::<N, X>(window, op.at, m);
        let second = load_from::<N, X>(window, op.l, m);
        // Without the second, what the first says may still count.
        let (Some(first), Some(second)) = (first, second) else {
            return leave(code, window, a, m);
        };
        let (first, second) = (first & op.m, second & op.m);
        fork::<YES, NO>(either(first, second, op.k), code, op, window, [op.k, second], m)
    }
}

handler! {
    /// From `k` to `k` + `l`.
    range<const N: usize, const X: bool, const YES: bool, const NO: bool>
    |[op, ..], code, window, a, m| {
        let Some(a) = load_from::<N, X>(window, op.at, m) else {
            return leave(code, window, a, m);
        };
        fork::<YES, NO>(a.wrapping_sub(op.k) <= op.l, code, op, window, [a, a], m)
    }
}

handler! {
    /// `k`, `l` (which goes on at `m`), or neither.
    two_way<const N: usize, const YES: bool, const ALSO: bool, const NO: bool>
    |[op, ..], code, window, a, m| {
        let Some(a) = load::<N>(window, op.at as usize) else {
            return leave(code, window, a, m);
        };
        if a == op.k {
            exit::<YES>(code, op.yes, window, a, m)
        } else if a == op.l {
            exit::<ALSO>(code, op.m, window, a, m)
        } else {
            exit::<NO>(code, op.no, window, a, m)
        }
    }
}

handler! {
    /// `k`, `l` or `m`.
    one_of<const N: usize, const X: bool, const YES: bool, const NO: bool>
    |[op, ..], code, window, a, m| {
        let Some(a) = load_from::<N, X>(window, op.at, m) else {
            return leave(code, window, a, m);
        };
        fork::<YES, NO>(none_of_three(a, op) == 0, code, op, window, [a, a], m)
    }
}

handler! {
    /// The set that begins at word `k` of the tables.
    set<const N: usize, const X: bool, const YES: bool, const NO: bool>
    |[op, ..], code, window, a, m| {
        let Some(value) = load_from::<N, X>(window, op.at, m) else {
            return leave(code, window, a, m);
        };
        let a = value & op.m;
        let set = m.tables.get(op.k as usize..).unwrap_or_default();
        if table::contains(set, op.l, a) {
            exit::<YES>(code, op.yes, window, a, m)
        } else {
            exit::<NO>(code, op.no, window, a, m)
        }
    }
}

handler! {
    /// Fragments go one way, with A alone; others the other way, with X, too.
    fragment<const YES: bool>
    |[op, ..], code, window, a, m| {
        let at = load::<2>(window, op.at as usize);
        let header = load::<1>(window, op.l as usize);
        let (Some(flags), Some(header)) = (at, header) else {
            return leave(code, window, a, m);
        };
        if flags & op.k != 0 {
            exit::<YES>(code, op.yes, window, flags, m)
        } else {
            m.x = (header & 0x0f) << 2;
            go(code, op.no as usize, window, flags, m)
        }
    }
}

/// 0 if the packet has one of three protocols and is no fragment: the
/// protocols are those of `op`, the place of the flags in `more`.
#[inline(always)]
fn header(op: &Op, more: &Op, window: &[u8]) -> Option<(u32, u32)> {
    let protocol = load::<1>(window, op.at as usize)?;
    let flags = load::<2>(window, more.no as usize)?;
    let header = load::<1>(window, more.m as usize)?;
    Some((none_of_three(protocol, op) | (flags & more.yes), (header & 0x0f) << 2))
}

handler! {
    /// One of three protocols, and no fragment. Where it is not, A and X do
    /// not matter.
    transport<const NO: bool>
    |[op, more, ..], code, window, a, m| {
        let flags = load::<2>(window, more.no as usize);
        let (Some(flags), Some((wrong, x))) = (flags, header(op, more, window)) else {
            return leave(code, window, a, m);
        };
        if wrong == 0 {
            m.x = x;
            go(code, op.yes as usize, window, flags, m)
        } else {
            exit::<NO>(code, op.no, window, a, m)
        }
    }
}

handler! {
    /// The same, and one of the ports at `at` and `l`, in the second slot, is
    /// its `k`. Without a header the flags are not looked at.
    ports<const HEADER: bool, const YES: bool, const NO: bool>
    |[op, more, ..], code, window, a, m| {
        let before = if HEADER {
            header(op, more, window)
        } else {
            load::<1>(window, op.at as usize).map(|protocol| (none_of_three(protocol, op), m.x))
        };
        let Some((wrong, x)) = before else { return leave(code, window, a, m) };
        let x_if = if HEADER { x as usize } else { 0 };
        let first = load::<2>(window, x_if.wrapping_add(more.at as usize));
        let second = load::<2>(window, x_if.wrapping_add(more.l as usize));
        let (Some(first), Some(second)) = (first, second) else {
            return leave(code, window, a, m);
        };
        // Where it is not, X does not matter.
        m.x = x;
        let holds = wrong | (first ^ more.k).min(second ^ more.k) == 0;
        fork::<YES, NO>(holds, code, op, window, [more.k, a], m)
    }
}

handler! { ret_k |[op, ..], code, window, a, m| {
    let _ = (window, a, m);
    op.k.into()
} }
handler! { ret_a |[_, ..], code, window, a, m| {
    let _ = (window, m);
    a.into()
} }
handler! { ja |[op, ..], code, window, a, m| go(code, op.yes as usize, window, a, m) }
handler! { ld<const N: usize, const X: bool> |[op, ..], code, window, a, m| {
    let Some(a) = load_from::<N, X>(window, op.at, m) else {
        return leave(code, window, a, m);
    };
    go(code, 1, window, a, m)
} }
handler! { ldx_msh |[op, ..], code, window, a, m| {
    let Some(header) = load::<1>(window, op.at as usize) else {
        return leave(code, window, a, m);
    };
    m.x = (header & 0x0f) << 2;
    go(code, 1, window, a, m)
} }

/// Functions of one instruction: the new A, from A, k and the machine.
macro_rules! plain {
    ($($name:ident |$a:pat_param, $k:pat_param, $m:pat_param| $value:expr;)*) => {
        $(
            handler! { $name |[op, ..], code, window, a, machine| {
                let a = {
                    let ($a, $k, $m) = (a, op.k, &mut *machine);
                    $value
                };
                go(code, 1, window, a, machine)
            } }
        )*
    };
}

plain! {
    ld_len |_, _, m| m.wire_len;
    ld_imm |_, k, _| k;
    ld_mem |_, k, m| m.memory.get(k as usize).copied().unwrap_or(0);
    ldx_len |a, _, m| { m.x = m.wire_len; a };
    ldx_imm |a, k, m| { m.x = k; a };
    ldx_mem |a, k, m| { m.x = m.memory.get(k as usize).copied().unwrap_or(0); a };
    st |a, k, m| { if let Some(word) = m.memory.get_mut(k as usize) { *word = a } a };
    stx |a, k, m| { if let Some(word) = m.memory.get_mut(k as usize) { *word = m.x } a };
    add_k |a, k, _| a.wrapping_add(k);
    sub_k |a, k, _| a.wrapping_sub(k);
    mul_k |a, k, _| a.wrapping_mul(k);
    or_k |a, k, _| a | k;
    and_k |a, k, _| a & k;
    xor_k |a, k, _| a ^ k;
    lsh_k |a, k, _| a.wrapping_shl(k);
    rsh_k |a, k, _| a.wrapping_shr(k);
    add_x |a, _, m| a.wrapping_add(m.x);
    sub_x |a, _, m| a.wrapping_sub(m.x);
    mul_x |a, _, m| a.wrapping_mul(m.x);
    or_x |a, _, m| a | m.x;
    and_x |a, _, m| a & m.x;
    xor_x |a, _, m| a ^ m.x;
    lsh_x |a, _, m| a.wrapping_shl(m.x);
    rsh_x |a, _, m| a.wrapping_shr(m.x);
    neg |a, _, _| a.wrapping_neg();
    tax |a, _, m| { m.x = a; a };
    txa |_, _, m| m.x;
    // A valid program does not divide by a constant 0.
    div_k |a, k, _| a.checked_div(k).unwrap_or(0);
    mod_k |a, k, _| a.checked_rem(k).unwrap_or(0);
}
handler! { div_x |[_, ..], code, window, a, m| match a.checked_div(m.x) {
    Some(a) => go(code, 1, window, a, m),
    None => 0,
} }
handler! { mod_x |[_, ..], code, window, a, m| match a.checked_rem(m.x) {
    Some(a) => go(code, 1, window, a, m),
    None => 0,
} }
