// SPDX-License-Identifier: BSD-2-Clause
//! Programs and packets: what the validator takes, and what a valid program
//! answers for a packet in any number of pieces.

use std::sync::Mutex;

use arbitrary::{Arbitrary, Unstructured};
use bpfrs::filter::{Captured, Insn, validate};
use bpfrs::kpi::abi::bpf_insn;
use bpfrs::kpi::host::{self, Chain, Tunable};
use bpfrs::program::Program;

use super::idioms;

/// What the kernel asks of an instruction with a known code.
#[derive(Clone, Copy, PartialEq)]
enum Rule {
    /// Nothing.
    Any,
    /// k is a word of scratch memory.
    Scratch,
    /// k is not 0.
    NotZero,
    /// A jump by k lands inside.
    Jump,
    /// Jumps by jt and by jf land inside.
    Branch,
    /// It may be the last one.
    Return,
}

/// The rules of bpf_validate(), by number: every code that it knows.
const RULES: [(u16, Rule); 49] = {
    use Rule::{Any, Branch, Jump, NotZero, Return, Scratch};
    [
        // ld, ldx
        (0x00, Any),
        (0x20, Any),
        (0x28, Any),
        (0x30, Any),
        (0x40, Any),
        (0x48, Any),
        (0x50, Any),
        (0x80, Any),
        (0x60, Scratch),
        (0x01, Any),
        (0x81, Any),
        (0xb1, Any),
        (0x61, Scratch),
        // st, stx
        (0x02, Scratch),
        (0x03, Scratch),
        // alu with k, with x
        (0x04, Any),
        (0x14, Any),
        (0x24, Any),
        (0x34, NotZero),
        (0x44, Any),
        (0x54, Any),
        (0x64, Any),
        (0x74, Any),
        (0x84, Any),
        (0x94, NotZero),
        (0xa4, Any),
        (0x0c, Any),
        (0x1c, Any),
        (0x2c, Any),
        (0x3c, Any),
        (0x4c, Any),
        (0x5c, Any),
        (0x6c, Any),
        (0x7c, Any),
        (0x9c, Any),
        (0xac, Any),
        // jmp with k, with x
        (0x05, Jump),
        (0x15, Branch),
        (0x25, Branch),
        (0x35, Branch),
        (0x45, Branch),
        (0x1d, Branch),
        (0x2d, Branch),
        (0x3d, Branch),
        (0x4d, Branch),
        // ret, misc
        (0x06, Return),
        (0x16, Return),
        (0x07, Any),
        (0x87, Any),
    ]
};

fn rule(code: u16) -> Option<Rule> {
    RULES.iter().find(|(known, _)| *known == code).map(|(_, rule)| *rule)
}

/// Whether the kernel knows the code.
pub fn is_known(code: u16) -> bool {
    rule(code).is_some()
}

fn is_valid(insns: &[Insn]) -> bool {
    let inside = |at: usize, jump: u64| (at as u64) + 1 + jump < insns.len() as u64;
    let each = insns.iter().enumerate().all(|(at, insn)| match rule(insn.code) {
        None => false,
        Some(Rule::Any | Rule::Return) => true,
        Some(Rule::Scratch) => insn.k < 16,
        Some(Rule::NotZero) => insn.k != 0,
        Some(Rule::Jump) => inside(at, insn.k.into()),
        Some(Rule::Branch) => inside(at, insn.jt.into()) && inside(at, insn.jf.into()),
    });
    each && insns.last().is_some_and(|last| rule(last.code) == Some(Rule::Return))
}

/// The machine of the paper, decoded by the bits of the code; none for a load
/// beyond the packet and a division by 0, which reject.
fn answer(insns: &[Insn], packet: &[u8], wire_len: u32) -> Option<u32> {
    let (mut a, mut x, mut scratch) = (0u32, 0u32, [0u32; 16]);
    let mut pc = 0;
    loop {
        let Insn { code, jt, jf, k } = insns[pc];
        pc += 1;
        let operand = if code & 0x08 != 0 { x } else { k };
        let load = |start: u64, len: u64| {
            let mut bytes = (start..start + len).map(|at| packet.get(usize::try_from(at).ok()?));
            bytes.try_fold(0u32, |value, byte| Some(value << 8 | u32::from(*byte?)))
        };
        match code & 0x07 {
            class @ (0 | 1) => {
                let len = [4, 2, 1][usize::from(code >> 3 & 3)];
                let value = match code & 0xe0 {
                    0x00 => k,
                    0x20 => load(k.into(), len)?,
                    0x40 => load(u64::from(x) + u64::from(k), len)?,
                    0x60 => scratch[k as usize],
                    0x80 => wire_len,
                    _ => (load(k.into(), 1)? & 0x0f) * 4,
                };
                *(if class == 0 { &mut a } else { &mut x }) = value;
            }
            2 => scratch[k as usize] = a,
            3 => scratch[k as usize] = x,
            4 => {
                a = match code >> 4 {
                    0x0 => a.wrapping_add(operand),
                    0x1 => a.wrapping_sub(operand),
                    0x2 => a.wrapping_mul(operand),
                    0x3 => a.checked_div(operand)?,
                    0x4 => a | operand,
                    0x5 => a & operand,
                    0x6 => a << (operand % 32),
                    0x7 => a >> (operand % 32),
                    0x8 => 0u32.wrapping_sub(a),
                    0x9 => a.checked_rem(operand)?,
                    _ => a ^ operand,
                };
            }
            5 => {
                let taken = match code >> 4 {
                    0 => {
                        pc += k as usize;
                        continue;
                    }
                    1 => a == operand,
                    2 => a > operand,
                    3 => a >= operand,
                    _ => a & operand != 0,
                };
                pc += usize::from(if taken { jt } else { jf });
            }
            6 => return Some(if code & 0x10 != 0 { a } else { k }),
            _ if code & 0x80 != 0 => a = x,
            _ => x = a,
        }
    }
}

/// Any instruction, most of them of a known code.
pub fn insn(u: &mut Unstructured<'_>) -> arbitrary::Result<Insn> {
    let code = match u.arbitrary::<u8>()? {
        255 => u.arbitrary()?,
        n => RULES[usize::from(n) % RULES.len()].0,
    };
    let k = match u.arbitrary::<u8>()? {
        n @ 0..192 => u32::from(n) % 48,
        192..224 => u.arbitrary::<u32>()?,
        n => u32::MAX - u32::from(n % 32),
    };
    let jump = |n: u8| if n < 224 { n % 8 } else { n };
    Ok(Insn { code, jt: jump(u.arbitrary()?), jf: jump(u.arbitrary()?), k })
}

/// Puts right what is wrong with a program, so that it runs.
fn mend(insns: &mut [Insn]) {
    let len = insns.len();
    for (at, insn) in insns.iter_mut().enumerate() {
        let following = len - at - 1;
        let ret = |insn: &mut Insn| insn.code = if insn.k.is_multiple_of(2) { 0x06 } else { 0x16 };
        match rule(insn.code) {
            _ if following == 0 => ret(insn),
            None => insn.code = 0x87,
            Some(Rule::Scratch) => insn.k %= 16,
            Some(Rule::NotZero) => insn.k = insn.k.max(1),
            Some(Rule::Jump) => insn.k %= following as u32,
            Some(Rule::Branch) => {
                insn.jt = (usize::from(insn.jt) % following) as u8;
                insn.jf = (usize::from(insn.jf) % following) as u8;
            }
            Some(Rule::Any | Rule::Return) => {}
        }
    }
}

/// A program as the driver has it, with machine code or without.
pub fn program(insns: &[Insn], jit: bool) -> Option<Program> {
    let raw = |&Insn { code, jt, jf, k }: &Insn| bpf_insn { code, jt, jf, k };
    // Other tests of the same process do the same.
    static TUNABLE: Mutex<()> = Mutex::new(());
    let _tunable = TUNABLE.lock();
    host::set_tunable(Tunable::Jit, jit.into());
    let program = Program::new(&insns.iter().map(raw).collect::<Vec<_>>()).ok();
    host::set_tunable(Tunable::Jit, 0);
    program
}

#[derive(Arbitrary)]
struct Shape {
    kind: u8,
    unmapped: bool,
    insns: u8,
    header: u8,
    cuts: [u8; 3],
    keep: u8,
}

/// Checks a valid program on one packet: whole, cut short, and in pieces. How
/// many answers were compared.
fn check(insns: &[Insn], programs: &[Program], packet: &[u8], shape: &Shape) -> u64 {
    let wire_len = packet.len() as u32;
    let expected = answer(insns, packet, wire_len).unwrap_or(0);
    let bytes = &packet[..usize::from(shape.keep).min(packet.len())];
    let cut = answer(insns, bytes, wire_len).unwrap_or(0);
    // The same bytes behind a header and in pieces.
    let (header, rest) = packet.split_at(usize::from(shape.header % 8).min(packet.len()));
    let mut cuts = shape.cuts.map(|cut| usize::from(cut).min(rest.len()));
    cuts.sort_unstable();
    let [one, two, three] = cuts;
    let chain = Chain::new(&[&rest[..one], &rest[one..two], &rest[two..three], &rest[three..]]);
    let chain = if shape.unmapped { chain.unmapped() } else { chain };

    let reference = programs[0].filter().run_reference(packet);
    assert_eq!(reference, expected, "reference: {insns:?} on {packet:?}");
    for program in programs {
        assert_eq!(program.run(packet), expected, "{insns:?} on {packet:?}");
        assert_eq!(program.run(&Captured { bytes, wire_len }), cut, "{insns:?} on {bytes:?}");
        let pieces = chain.with_packet(header, |packet| program.run(packet));
        assert_eq!(pieces, expected, "{insns:?} on {header:?}, {chain:?}");
    }
    1 + 3 * programs.len() as u64
}

/// Checks one program on so many packets, or as many as there are bytes for. How
/// many answers were compared.
///
/// # Errors
/// Too few bytes are no program.
pub fn compare(u: &mut Unstructured<'_>, packets: usize) -> arbitrary::Result<u64> {
    let shape: Shape = u.arbitrary()?;
    let insns = if shape.kind % 4 < 2 {
        let mut insns = Vec::new();
        for _ in 0..shape.insns % 40 {
            insns.push(insn(u)?);
        }
        if shape.kind.is_multiple_of(4) {
            mend(&mut insns);
        }
        insns
    } else {
        idioms::program(u, insn)?
    };
    let valid = is_valid(&insns);
    assert!(valid || shape.kind % 4 < 2, "what libpcap writes is valid: {insns:?}");
    assert_eq!(validate(&insns).is_ok(), valid, "validate({insns:?})");
    let programs = [false, true].map(|jit| program(&insns, jit));
    assert!(programs.iter().all(|program| program.is_some() == valid));
    let [Some(plain), Some(jit)] = programs else { return Ok(0) };
    assert!(!plain.is_code());
    assert_eq!(jit.is_code(), cfg!(target_arch = "x86_64"), "machine code for {insns:?}");

    let (programs, mut compared) = ([plain, jit], 0);
    for _ in 0..packets {
        let packet = idioms::packet(u)?;
        compared += check(&insns, &programs, &packet, &shape);
        if u.is_empty() {
            break;
        }
    }
    Ok(compared)
}

/// One program and some packets.
pub fn run(data: &[u8]) {
    // Too few bytes are no program.
    let _ = compare(&mut Unstructured::new(data), 4);
}
