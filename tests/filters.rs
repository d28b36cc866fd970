// SPDX-License-Identifier: BSD-2-Clause
//! The fast machines against the reference, on random programs and packets, and
//! step by step.

mod support;

#[path = "../fuzz/src/lib.rs"]
pub mod targets;

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::str::FromStr;
use std::sync::atomic::{AtomicU64, Ordering};

use arbitrary::Unstructured;
use bpfrs::filter::{Insn, Kind};
use bpfrs::kpi::host;
use bpfrs::program::Program;
use proptest::collection::vec;
use proptest::prelude::*;
use targets::{filter, idioms};

/// What a variable asks for, or what is usual.
fn asked<T: FromStr<Err: Debug>>(name: &str, usual: T) -> T {
    std::env::var(name).map_or(usual, |number| number.parse().expect("a number"))
}

/// Runs of each property; BPFRS_FILTER_RUNS asks for more.
fn runs() -> u32 {
    asked("BPFRS_FILTER_RUNS", 4000)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: runs(), failure_persistence: None, ..ProptestConfig::default() })]

    /// What the fuzzer checks, on bytes that nobody chose.
    #[test]
    fn all_machines_agree(data in vec(any::<u8>(), 0..1200)) {
        filter::run(&data);
    }
}

/// The same for hours: random programs, and many packets for each. How many
/// answers to compare BPFRS_FILTER_ANSWERS says, where to begin BPFRS_SEED.
#[test]
#[ignore = "a billion answers take a while: make soak"]
fn machines_agree_a_billion_times() {
    let wanted = asked("BPFRS_FILTER_ANSWERS", 1_000_000_000);
    let seed: u64 = asked("BPFRS_SEED", fastrand::u64(..));
    println!("BPFRS_SEED={seed}");
    let (programs, answers) = (AtomicU64::new(0), AtomicU64::new(0));
    let one_after_another = |seed| {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut data = vec![0; 1 << 14];
        while answers.load(Ordering::Relaxed) < wanted {
            random.fill(&mut data);
            let compared = filter::compare(&mut Unstructured::new(&data), 64);
            let compared = compared.expect("enough bytes");
            programs.fetch_add(u64::from(compared != 0), Ordering::Relaxed);
            answers.fetch_add(compared, Ordering::Relaxed);
        }
    };
    let threads = std::thread::available_parallelism().map_or(1, |threads| threads.get() as u64);
    std::thread::scope(|scope| {
        for thread in 0..threads {
            scope.spawn(move || one_after_another(seed.wrapping_add(thread)));
        }
    });
    println!("{} answers of {} programs", answers.into_inner(), programs.into_inner());
}

fn insn(code: u16, jt: u8, jf: u8, k: u32) -> Insn {
    Insn { code, jt, jf, k }
}

fn compile(insns: &[Insn]) -> Program {
    filter::program(insns, false).expect("a valid program")
}

const LDW: u16 = 0x20;
const LDH: u16 = 0x28;
const LDH_X: u16 = 0x48;
const LDB: u16 = 0x30;
const LDB_X: u16 = 0x50;
const LDXB: u16 = 0xb1;
const AND: u16 = 0x54;
const JEQ: u16 = 0x15;
const JGT: u16 = 0x25;
const JGE: u16 = 0x35;
const JSET: u16 = 0x45;
const RET: u16 = 0x06;
const RET_A: u16 = 0x16;
const NO: Insn = Insn { code: RET, jt: 0, jf: 0, k: 0 };
const YES: Insn = Insn { code: RET, jt: 0, jf: 0, k: 7 };

/// For each kind of step a program that has it, and no other branches.
fn each_kind() -> Vec<(Kind, Vec<Insn>)> {
    let ports = [
        insn(LDB, 0, 0, 0),
        insn(JEQ, 0, 7, 6),
        insn(LDH, 0, 0, 2),
        insn(JSET, 5, 0, 0x1fff),
        insn(LDXB, 0, 0, 1),
        insn(LDH_X, 0, 0, 0),
        insn(JEQ, 3, 0, 0x105),
        insn(LDH_X, 0, 0, 2),
        insn(JEQ, 1, 0, 0x105),
        NO,
        YES,
    ];
    let transport = [
        insn(LDB, 0, 0, 0),
        // Where it is not TCP, nobody asks for A.
        insn(JEQ, 0, 5, 6),
        insn(LDH, 0, 0, 2),
        insn(JSET, 3, 0, 0x1fff),
        insn(LDXB, 0, 0, 1),
        insn(0x50, 0, 0, 1), // ldb [x + 1]
        insn(RET_A, 0, 0, 0),
        NO,
    ];
    let set = [
        insn(LDB, 0, 0, 0),
        insn(JEQ, 4, 0, 1),
        insn(JEQ, 3, 0, 3),
        insn(JEQ, 2, 0, 4),
        insn(JEQ, 1, 0, 200),
        insn(RET_A, 0, 0, 0),
        YES,
    ];
    let pair = [
        insn(LDH, 0, 0, 0),
        insn(JEQ, 3, 0, 0x105),
        insn(LDH, 0, 0, 2),
        insn(JEQ, 1, 0, 0x105),
        insn(RET_A, 0, 0, 0),
        YES,
    ];
    let two_way = [
        insn(LDH, 0, 0, 0),
        insn(JEQ, 1, 0, 0x105),
        insn(JEQ, 1, 2, 6),
        YES,
        NO,
        insn(RET_A, 0, 0, 0),
    ];
    let fragment = [
        insn(LDH, 0, 0, 2),
        insn(JSET, 2, 0, 0x1fff),
        insn(LDXB, 0, 0, 1),
        insn(0x87, 0, 0, 0),
        insn(RET_A, 0, 0, 0),
    ];
    vec![
        (Kind::Plain, vec![insn(LDH, 0, 0, 2), insn(RET_A, 0, 0, 0)]),
        (Kind::Branch, vec![insn(LDB, 0, 0, 0), insn(0x04, 0, 0, 1), insn(JEQ, 0, 1, 2), YES, NO]),
        (Kind::Test, vec![insn(LDH, 0, 0, 1), insn(AND, 0, 0, 0xff), insn(JGT, 0, 1, 4), YES, NO]),
        (Kind::Pair, pair.to_vec()),
        (Kind::Range, vec![insn(LDB, 0, 0, 0), insn(JGE, 0, 1, 2), insn(JGT, 0, 1, 6), NO, YES]),
        (Kind::TwoWay, two_way.to_vec()),
        (Kind::OneOf, vec![insn(LDB, 0, 0, 0), insn(JEQ, 1, 0, 6), insn(JEQ, 0, 1, 1), YES, NO]),
        (Kind::Set, set.to_vec()),
        (Kind::Fragment, fragment.to_vec()),
        (Kind::Transport, transport.to_vec()),
        (Kind::Ports, ports.to_vec()),
    ]
}

/// Every kind of step is found, and does what the instructions do: on packets
/// of all lengths, so that each of its loads is at some time beyond the end.
#[test]
fn each_step_equals_its_instructions() {
    for (kind, insns) in each_kind() {
        let program = compile(&insns);
        let jit = filter::program(&insns, true).expect("a valid program");
        assert!(
            program.filter().kinds().contains(&kind),
            "{kind:?}: {:?}",
            program.filter().kinds()
        );
        let mut answers = BTreeMap::new();
        for mut seed in 0..432 {
            let values: [&[u8]; 6] =
                [&[6, 1, 200, 4], &[5, 0, 1], &[0, 0x1f, 1], &[0, 5], &[1, 6, 9], &[5, 0]];
            let bytes = values.map(|values| {
                let value = values[seed % values.len()];
                seed /= values.len();
                value
            });
            for len in 0..=bytes.len() {
                let expected = program.filter().run_reference(&bytes[..len]);
                assert_eq!(program.run(&bytes[..len]), expected, "{kind:?} on {:?}", &bytes[..len]);
                assert_eq!(jit.run(&bytes[..len]), expected, "{kind:?} on {:?}", &bytes[..len]);
                *answers.entry(expected).or_insert(0) += 1;
            }
        }
        // More than one way was taken, or this shows little.
        assert!(answers.len() > 1, "{kind:?}: {answers:?}");
    }
}

/// Programs of questions only, each with a way that code without branches
/// could get wrong; and whether there is such code.
fn questions() -> Vec<(&'static str, bool, Vec<Insn>)> {
    let two_way = [
        insn(LDB, 0, 0, 0),
        insn(JEQ, 1, 0, 6),
        insn(JEQ, 3, 8, 5),
        // The second of these leads to a third field.
        insn(LDB, 0, 0, 1),
        insn(JEQ, 5, 0, 200),
        insn(JEQ, 2, 5, 44),
        // Who does not end here goes on to that field, too.
        insn(LDB, 0, 0, 2),
        insn(JEQ, 2, 0, 31),
        insn(LDB, 0, 0, 50),
        insn(JEQ, 0, 1, 5),
        YES,
        NO,
    ];
    let header = [
        insn(LDB, 0, 0, 0),
        insn(JEQ, 0, 6, 6),
        insn(LDH, 0, 0, 1),
        insn(JSET, 3, 0, 0x1f00),
        insn(LDXB, 0, 0, 3),
        insn(LDB_X, 0, 0, 2),
        insn(JEQ, 0, 1, 9),
        YES,
        NO,
    ];
    // A fragment has no header, and X is 0.
    let mut no_header = header;
    no_header[3] = insn(JSET, 1, 0, 0x1f00);
    vec![
        ("two-way", true, two_way.to_vec()),
        ("header", true, header.to_vec()),
        ("no header", false, no_header.to_vec()),
    ]
}

/// The program against its reference, on packets from a seed; how often it gives which answer.
fn compare(
    name: &str,
    program: &Program,
    packet: impl Fn(&mut fastrand::Rng) -> Vec<u8>,
) -> BTreeMap<u32, u32> {
    let mut random = fastrand::Rng::with_seed(1);
    let mut answers = BTreeMap::new();
    for _ in 0..20_000 {
        let packet = &packet(&mut random)[..];
        let expected = program.filter().run_reference(packet);
        assert_eq!(program.run(packet), expected, "{name} says something else of {packet:?}");
        *answers.entry(expected).or_insert(0) += 1;
    }
    answers
}

/// Flat code does what the instructions do, on packets of all lengths.
#[test]
fn flat_code_equals_its_instructions() {
    for (name, flat, insns) in questions() {
        let program = filter::program(&insns, true).expect("a valid program");
        let code = program.filter().amd64().expect("memory");
        assert_eq!(code.flat() > 0, flat, "{name}");
        let answers = compare(name, &program, |random| {
            let mut packet: Vec<u8> =
                (0..60).map(|_| random.choice([0, 5, 9, 31]).unwrap()).collect();
            packet[0] = random.choice([6, 5, 1]).unwrap();
            packet[1] = random.choice([200, 44, 0, 31]).unwrap();
            packet[3] = random.choice([0x40, 1, 0x4f]).unwrap();
            packet.truncate(random.usize(0..=60));
            packet
        });
        assert!(answers.len() > 1, "{name}: {answers:?}");
    }
}

/// What libpcap makes of `tcp port`, with fields nearer to each other: the ports behind IPv6 (0x605),
/// then those behind IPv4 (0x501).
fn both() -> Vec<Insn> {
    vec![
        insn(LDH, 0, 0, 0),
        insn(JEQ, 0, 6, 0x605),
        insn(LDB, 0, 0, 6),
        insn(JEQ, 0, 14, 6),
        insn(LDH, 0, 0, 28),
        insn(JEQ, 13, 0, 0x509),
        insn(LDH, 0, 0, 30),
        insn(JEQ, 11, 10, 0x509),
        insn(JEQ, 0, 9, 0x501),
        insn(LDB, 0, 0, 5),
        insn(JEQ, 0, 7, 6),
        insn(LDH, 0, 0, 2),
        insn(JSET, 5, 0, 0x1fff),
        insn(LDXB, 0, 0, 4),
        insn(LDH_X, 0, 0, 8),
        insn(JEQ, 3, 0, 0x509),
        insn(LDH_X, 0, 0, 10),
        insn(JEQ, 1, 0, 0x509),
        NO,
        YES,
        insn(RET, 0, 0, 9),
    ]
}

/// `portrange` of the same.
fn both_ranges() -> Vec<Insn> {
    let mut program = both();
    program.truncate(4);
    program[1] = insn(JEQ, 0, 8, 0x605);
    program[3] = insn(JEQ, 0, 18, 6);
    program.extend([
        insn(LDH, 0, 0, 28),
        insn(JGE, 0, 1, 0x505),
        insn(JGT, 0, 16, 0x905),
        insn(LDH, 0, 0, 30),
        insn(JGE, 0, 13, 0x505),
        insn(JGT, 12, 13, 0x905),
        insn(JEQ, 0, 11, 0x501),
        insn(LDB, 0, 0, 5),
        insn(JEQ, 0, 9, 6),
        insn(LDH, 0, 0, 2),
        insn(JSET, 7, 0, 0x1fff),
        insn(LDXB, 0, 0, 4),
        insn(LDH_X, 0, 0, 8),
        insn(JGE, 0, 1, 0x505),
        insn(JGT, 0, 4, 0x905),
        insn(LDH_X, 0, 0, 10),
        insn(JGE, 0, 1, 0x505),
        insn(JGT, 0, 1, 0x905),
        NO,
        YES,
    ]);
    program
}

/// What it makes of `tcp`: behind IPv6, behind a fragment header there, and behind IPv4.
fn protocol() -> Vec<Insn> {
    vec![
        insn(LDH, 0, 0, 0),
        insn(JEQ, 0, 5, 0x605),
        insn(LDB, 0, 0, 6),
        insn(JEQ, 7, 0, 6),
        insn(JEQ, 0, 5, 44),
        insn(LDB, 0, 0, 20),
        insn(JEQ, 4, 3, 5),
        insn(JEQ, 0, 2, 0x501),
        insn(LDB, 0, 0, 5),
        insn(JEQ, 1, 0, 6),
        NO,
        YES,
        insn(RET, 0, 0, 9),
    ]
}

/// What it makes of `host`: addresses of IPv4 (0x605), of ARP (0x501) and of RARP (0x509).
fn addresses() -> Vec<Insn> {
    vec![
        insn(LDH, 0, 0, 0),
        insn(JEQ, 0, 4, 0x605),
        insn(LDW, 0, 0, 8),
        insn(JEQ, 9, 0, ADDRESS),
        insn(LDW, 0, 0, 12),
        insn(JEQ, 7, 6, ADDRESS),
        insn(JEQ, 1, 0, 0x501),
        insn(JEQ, 0, 4, 0x509),
        insn(LDW, 0, 0, 16),
        insn(JEQ, 3, 0, ADDRESS),
        insn(LDW, 0, 0, 24),
        insn(JEQ, 1, 0, ADDRESS),
        NO,
        YES,
        insn(RET, 0, 0, 9),
    ]
}

/// `src and dst` of the same.
fn both_addresses() -> Vec<Insn> {
    let mut program = addresses();
    program[3] = insn(JEQ, 0, 8, ADDRESS);
    program[5] = insn(JEQ, 7, 6, 0x0505_0505);
    program[9] = insn(JEQ, 0, 2, ADDRESS);
    program[11] = insn(JEQ, 1, 0, 0x0505_0505);
    program
}

const ADDRESS: u32 = 0x0909_0909;

/// Asking both protocols at once is asking one after the other: also where what is asked of them is
/// not quite the same.
#[test]
fn both_protocols_are_asked_at_once() {
    let change = |mut program: Vec<Insn>, changes: &[(usize, Insn)]| {
        changes.iter().for_each(|(at, insn)| program[*at] = *insn);
        program
    };
    let programs = [
        ("ports", true, both()),
        ("ranges", true, both_ranges()),
        ("flags", true, change(both(), &[(12, insn(JSET, 5, 0, 0xff))])),
        ("rejects", true, change(both(), &[(18, YES), (19, NO)])),
        (
            "IPv4 first",
            true,
            change(both(), &[(1, insn(JEQ, 0, 6, 0x501)), (8, insn(JEQ, 0, 9, 0x605))]),
        ),
        ("another place", false, change(both(), &[(6, insn(LDH, 0, 0, 32))])),
        (
            "an odd distance",
            false,
            change(both(), &[(4, insn(LDH, 0, 0, 29)), (6, insn(LDH, 0, 0, 31))]),
        ),
        (
            "another port",
            false,
            change(both(), &[(5, insn(JEQ, 13, 0, 0x905)), (7, insn(JEQ, 11, 10, 0x905))]),
        ),
        ("another protocol", false, change(both(), &[(3, insn(JEQ, 0, 14, 17))])),
        (
            "another answer",
            false,
            change(both(), &[(5, insn(JEQ, 14, 0, 0x509)), (7, insn(JEQ, 12, 10, 0x509))]),
        ),
        ("another rejection", false, change(both(), &[(8, insn(JEQ, 0, 11, 0x501))])),
        ("no field of two bytes", false, change(both(), &[(8, insn(JEQ, 0, 9, 0x10501))])),
        ("protocol", true, protocol()),
        ("another protocol of IPv4", false, change(protocol(), &[(9, insn(JEQ, 1, 0, 17))])),
        ("another answer for IPv4", false, change(protocol(), &[(9, insn(JEQ, 2, 0, 6))])),
        ("no fragment header", false, change(protocol(), &[(4, insn(JEQ, 0, 5, 17))])),
        ("addresses", true, addresses()),
        ("both addresses", true, both_addresses()),
        ("no RARP", true, change(addresses(), &[(6, insn(JEQ, 1, 5, 0x501))])),
        ("RARP elsewhere", false, change(addresses(), &[(7, insn(JEQ, 2, 4, 0x509))])),
        (
            "another address for ARP",
            false,
            change(
                addresses(),
                &[(9, insn(JEQ, 3, 0, 0x0505_0505)), (11, insn(JEQ, 1, 0, 0x0505_0505))],
            ),
        ),
        ("another address", false, change(addresses(), &[(11, insn(JEQ, 1, 0, 0x0505_0505))])),
        ("one of them", false, change(addresses(), &[(9, insn(JEQ, 0, 2, ADDRESS))])),
        ("another answer for ARP", false, change(addresses(), &[(11, insn(JEQ, 2, 0, ADDRESS))])),
        ("another rejection of others", false, change(addresses(), &[(7, insn(JEQ, 0, 5, 0x509))])),
        ("not equal", false, change(both_addresses(), &[(11, insn(JGT, 1, 0, 0x0505_0505))])),
    ];
    for (name, same, insns) in programs {
        let program = filter::program(&insns, true).expect("a valid program");
        // The others may be flat for another reason.
        assert!(!same || program.filter().amd64().expect("memory").flat() > 0, "{name}");
        let answers = compare(name, &program, |random| {
            let mut packet: Vec<u8> =
                (0..60).map(|_| random.choice([5, 5, 9, 0]).unwrap()).collect();
            let types = [[6, 5], [5, 1], [5, 9], [6, 1], [0, 0]];
            packet[..2].copy_from_slice(&random.choice(types).unwrap());
            packet[2..4].copy_from_slice(&random.choice([[0, 0], [0x40, 0], [0, 9]]).unwrap());
            packet[4] = random.choice([0x45, 0x40, 1, 0x4f]).unwrap();
            packet[5] = random.choice([6, 6, 17]).unwrap();
            packet[6] = random.choice([6, 6, 17, 44]).unwrap();
            for at in [8, 12, 16, 24] {
                if random.bool() {
                    packet[at..at + 4].fill(random.choice([5, 9]).unwrap());
                }
            }
            packet.truncate(if random.bool() { 60 } else { random.usize(0..=60) });
            packet
        });
        let rarest = answers.values().min().copied().unwrap_or(0);
        assert!(answers.len() > 1 && rarest > 100, "{name}: {answers:?}");
    }
}

/// Random programs have steps of all kinds, and the fuzzer with them.
#[test]
fn random_programs_have_every_kind() {
    let mut random = fastrand::Rng::with_seed(1);
    let (mut found, mut flat) = (BTreeMap::new(), 0);
    let (mut ports, mut addresses, mut protocols) = (0, 0, 0);
    for _ in 0..2000 {
        let mut data = vec![0; 1000];
        random.fill(&mut data);
        let insns =
            idioms::program(&mut Unstructured::new(&data), filter::insn).expect("enough bytes");
        let program = compile(&insns);
        for kind in program.filter().kinds() {
            *found.entry(*kind).or_insert(0) += 1;
        }
        let code = program.filter().amd64().expect("memory");
        flat += u32::from(code.flat() > 0);
        // cmove r10d, edx; cmove ecx, r8d; cmove r8d, ecx: what is chosen of two protocols.
        let chooses = |how: &[u8]| code[..code.flat()].windows(4).any(|bytes| bytes == how);
        ports += u32::from(chooses(&[0x44, 0x0f, 0x44, 0xd2]));
        addresses += u32::from(chooses(&[0x41, 0x0f, 0x44, 0xc8]));
        protocols += u32::from(chooses(&[0x44, 0x0f, 0x44, 0xc1]));
    }
    assert!(flat >= 50, "{flat} in 2000 programs have flat code");
    // Of two protocols at once.
    let both = [ports, addresses, protocols];
    assert!(both.iter().all(|times| *times >= 20), "{both:?} in 2000 programs");
    for (kind, _) in each_kind() {
        let times = found.get(&kind).copied().unwrap_or(0);
        assert!(times >= 50, "{kind:?}: {times} in 2000 programs, {found:?}");
    }
}

/// Who leaves the window leaves A as it is: the reference goes on with it.
#[test]
fn a_step_that_leaves_keeps_a() {
    let program = compile(&[insn(LDB, 0, 0, 0), insn(LDXB, 0, 0, 1), insn(RET_A, 0, 0, 0)]);
    let chain = host::Chain::new(&[&[7], &[0x45]]);
    assert_eq!(chain.with_packet(&[], |packet| program.run(packet)), 7);
}

/// Only what begins with its answer needs no machine.
#[test]
fn a_return_needs_no_machine() {
    support::run(|| {
        let frame: &[u8] = &[0; 60];
        for k in [0, 7, u32::MAX] {
            // What is behind it is not reached.
            for insns in [vec![insn(RET, 0, 0, k)], vec![insn(RET, 0, 0, k), NO]] {
                let program = compile(&insns);
                assert_eq!(program.filter().constant(), Some(k));
                assert_eq!(program.run(frame), k);
            }
        }
        let question = vec![insn(LDB, 0, 0, 60), YES];
        for insns in [question, vec![insn(RET_A, 0, 0, 7)]] {
            let program = compile(&insns);
            assert_eq!(program.filter().constant(), None);
            assert_eq!(program.run(frame), 0, "runs {insns:?}");
        }
    });
}

/// Without memory the reference runs the program.
#[test]
fn without_memory_a_program_is_interpreted() {
    support::run(|| {
        host::set_short(true);
        let (_, insns) = each_kind().pop().expect("a program");
        let program = compile(&insns);
        host::set_short(false);
        assert!(program.filter().kinds().is_empty());
        let frame: &[u8] = &[6, 1, 0, 0, 1, 5];
        assert_eq!(program.run(frame), 7);
        assert_eq!(compile(&insns).filter().kinds().first(), Some(&Kind::Ports));
    });
}

/// A program of any length, and one made to be expensive, compiles in time and
/// memory in proportion.
#[test]
fn compiling_is_bounded() {
    for len in [512, 4096, 16_384] {
        // Many loads, each a set with all the keys of one long tail; jumps that
        // are too far go by `ja`.
        let units = len / 10;
        let blocks = len / 2 / 202;
        let (tail, accept) = (units * 5, units * 5 + blocks * 202 + 1);
        let mut insns = Vec::new();
        let ja = |at: usize, to: u32| insn(0x05, 0, 0, to - at as u32 - 1);
        for at in 0..units {
            insns.extend([insn(JGT, 4, 0, at), insn(LDH, 0, 0, at), insn(JEQ, 0, 1, at)]);
            insns.push(ja(insns.len(), accept));
            insns.push(ja(insns.len(), tail));
        }
        for block in 0..blocks {
            insns.extend((0..200).map(|at| insn(JEQ, 200 - at as u8, 0, block * 200 + at)));
            insns.extend([insn(0x05, 0, 0, 1), ja(insns.len() + 1, accept)]);
        }
        insns.extend([NO, YES]);
        let start = std::time::Instant::now();
        let program = compile(&insns);
        // Much less; were it the square, gigabytes in minutes.
        assert!(start.elapsed().as_secs() < 5, "{len}: {:?}", start.elapsed());
        // Each has half as many keys as there are instructions; four times all
        // instructions are looked at.
        let sets = program.filter().kinds().iter().filter(|kind| **kind == Kind::Set).count();
        assert!((1..=10).contains(&sets), "{len}: {sets} sets");
        let frame = [0; 64];
        assert_eq!(program.run(&frame[..]), program.filter().run_reference(&frame[..]));
    }
}

/// `net.bpfrs.jit` decides when a filter is set; what it made goes with the
/// filter.
#[test]
fn machine_code_comes_with_the_filter_and_goes() {
    support::run(|| {
        let (_, insns) = each_kind().pop().expect("a program");
        let before = host::census().allocations;
        let program = filter::program(&insns, true).expect("a valid program");
        assert_eq!(program.is_code(), cfg!(target_arch = "x86_64"));
        assert!(host::census().allocations > before);
        drop(program);
        assert_eq!(host::census().allocations, before);
    });
}
