// SPDX-License-Identifier: BSD-2-Clause
//! Filters: which programs are accepted, and what they do with a packet.

use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

use super::{ARRIVAL, Lab, Look, Place, Seen, done, look, number};
use crate::bpf::{self, ACCEPT, Instruction, RET_K, jump, records, statement};
use crate::driver::eventually;
use crate::tests::{Trouble, While, ensure};

const LD_IMM: u16 = 0x00;
const LDX_IMM: u16 = 0x01;
const ST: u16 = 0x02;
const STX: u16 = 0x03;
const JA: u16 = 0x05;
const TAX: u16 = 0x07;
const RET_A: u16 = 0x16;
const LD_B_ABS: u16 = 0x30;
const LD_W_IND: u16 = 0x40;
const LD_H_IND: u16 = 0x48;
const LD_B_IND: u16 = 0x50;
const LD_MEM: u16 = 0x60;
const LDX_MEM: u16 = 0x61;
const LDX_LEN: u16 = 0x81;
const LDX_MSH: u16 = 0xb1;
const TXA: u16 = 0x87;
const ADD_K: u16 = 0x04;
const RSH_K: u16 = 0x74;
const AND_K: u16 = bpf::AND_K;

/// Arithmetic, by a constant; with X the code is one bit more.
const ARITHMETIC: [(&str, u16); 11] = [
    ("add", 0x04),
    ("sub", 0x14),
    ("mul", 0x24),
    ("div", 0x34),
    ("or", 0x44),
    ("and", 0x54),
    ("lsh", 0x64),
    ("rsh", 0x74),
    ("neg", 0x84),
    ("mod", 0x94),
    ("xor", 0xa4),
];
const BY_X: u16 = 0x08;

/// Conditional jumps, likewise.
const JUMPS: [(&str, u16); 4] = [("jeq", 0x15), ("jgt", 0x25), ("jge", 0x35), ("jset", 0x45)];

/// A frame of the tests in this file: longer than A's greatest byte.
const FRAME: usize = 400;
/// As many bytes are captured for 0.
const BASE: u32 = 100;

/// What a program leaves in A, or that it rejects the packet.
fn accumulator(lab: &Lab, program: &[Instruction]) -> Seen {
    let bpf = lab.listening(Place::Ethernet, 4096)?;
    bpf.fd.set_nonblocking(true)?;
    let source = lab.source(Place::Ethernet)?;
    let mut value = 0;
    for byte in 0..4_u32 {
        // One byte of A is what is captured beyond the base.
        let tail = [
            statement(RSH_K, 8 * byte),
            statement(AND_K, 0xff),
            statement(ADD_K, BASE),
            statement(RET_A, 0),
        ];
        let program = [program, &tail].concat();
        bpf.set_filter(bpf::BIOCSETF, &program).at("BIOCSETF")?;
        source.fill(&bpf, 0..1, FRAME)?;
        // It is counted before it is judged, and that may take its time.
        let stored = || bpf.readable().is_ok_and(|bytes| bytes > 0);
        if !eventually(ARRIVAL, stored) {
            return Ok("rejects".into());
        }
        let records = records(&bpf.read()?)?;
        ensure!(records.len() == 1, "{} records", records.len());
        let captured: u32 = records.iter().map(|record| record.data.len() as u32).sum();
        value |= (captured - BASE) << (8 * byte);
    }
    Ok(format!("{value:#010x}"))
}

/// Whether a program is accepted, by each of the ioctls that install one.
fn accepted(lab: &Lab, programs: &[Vec<Instruction>]) -> Seen {
    let bpf = lab.open()?;
    let mut texts = vec![];
    for program in programs {
        for command in [bpf::BIOCSETF, bpf::BIOCSETFNR, bpf::BIOCSETWF] {
            texts.push(done(bpf.set_filter(command, program)));
        }
    }
    Ok(texts.join(" "))
}

/// Every opcode of eight bits, and some above: first and last of a program, with several operands.
fn opcodes<'a>(lab: &'a Lab, looks: &mut Vec<Look<'a>>) {
    for code in (0..=0xff).chain([0x100, 0x106, 0x1006, 0xff06, 0xffff]) {
        looks.push(look(format!("opcode/{code:#04x}"), move || {
            let operands = [0, 1, 2, 15, 16, 31, 32, u32::MAX];
            let first = operands.map(|k| vec![statement(code, k), ACCEPT[0], ACCEPT[0]]);
            let last = vec![ACCEPT[0], statement(code, 0)];
            accepted(lab, &[&first[..], &[last]].concat())
        }));
    }
    for (name, code) in JUMPS {
        for code in [code, code + BY_X] {
            for (yes, no) in [(0, 0), (1, 1), (2, 0), (0, 2), (3, 0), (0, 3), (255, 255)] {
                looks.push(look(format!("target/{name}/{code:#04x}/{yes}/{no}"), move || {
                    accepted(lab, &[vec![jump(code, 1, yes, no), ACCEPT[0], ACCEPT[0], ACCEPT[0]]])
                }));
            }
        }
    }
    for length in [0, 1, 2, 511, 512, 513, 600, 1024] {
        looks.push(look(format!("length/{length}"), move || {
            accepted(lab, &[vec![ACCEPT[0]; length]])
        }));
    }
}

fn arithmetic(mut run: impl FnMut(String, Vec<Instruction>)) {
    let operands = [
        (0, 1),
        (1, 3),
        (7, 3),
        (0xffff_ffff, 1),
        (0xffff_ffff, 0xffff_ffff),
        (0x8000_0000, 31),
        (0x1234_5678, 32),
        (0x1234_5678, 33),
        (5, 0),
    ];
    for (name, code) in ARITHMETIC {
        for (a, b) in operands {
            // Division by a constant zero is no program.
            if b != 0 || !["div", "mod"].contains(&name) {
                let program = vec![statement(LD_IMM, a), statement(code, b)];
                run(format!("run/{name}-k/{a:#x}/{b:#x}"), program);
            }
            if name != "neg" {
                let x = [statement(LDX_IMM, b), statement(LD_IMM, a), statement(code + BY_X, 0)];
                run(format!("run/{name}-x/{a:#x}/{b:#x}"), x.to_vec());
            }
        }
    }
    for (name, code) in JUMPS {
        for (a, b) in [(0, 0), (1, 2), (2, 1), (0x8000_0000, 1), (0xffff_ffff, 0x8000_0000)] {
            for (kind, code) in [("k", code), ("x", code + BY_X)] {
                let program = vec![
                    statement(LDX_IMM, b),
                    statement(LD_IMM, a),
                    jump(code, b, 1, 0),
                    statement(LD_IMM, 0x11),
                    statement(ADD_K, 0x22),
                ];
                run(format!("run/{name}-{kind}/{a:#x}/{b:#x}"), program);
            }
        }
    }
}

fn loads(mut run: impl FnMut(String, Vec<Instruction>)) {
    let last = FRAME as u32;
    let places =
        [0, 12, 14, 15, last - 4, last - 3, last - 2, last - 1, last, last + 100, u32::MAX];
    for (name, absolute, indirect) in [
        ("word", bpf::LD_W_ABS, LD_W_IND),
        ("half", bpf::LD_H_ABS, LD_H_IND),
        ("byte", LD_B_ABS, LD_B_IND),
    ] {
        for at in places {
            run(format!("run/ld-{name}-abs/{at}"), vec![statement(absolute, at)]);
            let program = vec![statement(LDX_IMM, at), statement(indirect, 0)];
            run(format!("run/ld-{name}-ind/{at}"), program);
            let program = vec![statement(LDX_IMM, at), statement(indirect, 3)];
            run(format!("run/ld-{name}-ind-3/{at}"), program);
        }
    }
    for at in places {
        run(format!("run/ldx-msh/{at}"), vec![statement(LDX_MSH, at), statement(TXA, 0)]);
    }
    run("run/ld-len".into(), vec![statement(bpf::LD_W_LEN, 0)]);
    run("run/ldx-len".into(), vec![statement(LDX_LEN, 0), statement(TXA, 0)]);
    run(
        "run/tax-txa".into(),
        vec![statement(LD_IMM, 7), statement(TAX, 0), statement(LD_IMM, 9), statement(TXA, 0)],
    );
    for cell in [0, 7, 15] {
        run(
            format!("run/memory/{cell}"),
            vec![
                statement(LD_IMM, 0x0102_0304),
                statement(ST, cell),
                statement(LD_IMM, 0),
                statement(LD_MEM, cell),
            ],
        );
        run(
            format!("run/memory-x/{cell}"),
            vec![
                statement(LDX_IMM, 0x0506_0708),
                statement(STX, cell),
                statement(LDX_IMM, 0),
                statement(LDX_MEM, cell),
                statement(TXA, 0),
            ],
        );
        run(format!("run/memory-fresh/{cell}"), vec![statement(LD_MEM, cell)]);
    }
    run(
        "run/ja".into(),
        vec![statement(LD_IMM, 1), statement(JA, 1), statement(LD_IMM, 2), statement(ADD_K, 0x10)],
    );
}

/// How much of a frame is captured for a filter's result.
fn cut(lab: &Lab, result: u32, size: usize) -> Seen {
    let bpf = lab.open()?;
    bpf.attach(lab.interface(Place::Ethernet)).at("BIOCSETIF")?;
    bpf.set_filter(bpf::BIOCSETF, &[statement(RET_K, result)]).at("BIOCSETF")?;
    bpf.fd.set_nonblocking(true)?;
    lab.source(Place::Ethernet)?.fill(&bpf, 0..1, size)?;
    let readable = number(bpf.readable());
    let read = bpf.read().map(|bytes| records(&bytes));
    let text = match read {
        Ok(records) => records?
            .iter()
            .map(|record| format!(" {} of {}", record.data.len(), record.length))
            .collect::<Vec<_>>()
            .concat(),
        Err(errno) => errno.name(),
    };
    Ok(format!("{readable}: {text}"))
}

/// A filter that is replaced: what is left of the packets before.
fn replaced(lab: &Lab, command: u64) -> Seen {
    let bpf = lab.listening(Place::Ethernet, 4096)?;
    bpf.fd.set_nonblocking(true)?;
    let source = lab.source(Place::Ethernet)?;
    source.fill(&bpf, 0..2, 60)?;
    let set = done(bpf.set_filter(command, &[statement(RET_K, 20)]));
    let kept = number(bpf.readable());
    source.fill(&bpf, 2..3, 60)?;
    let lengths =
        records(&bpf.read()?)?.iter().map(|r| format!(" {}", r.data.len())).collect::<Vec<_>>();
    Ok(format!("{set}; {kept};{}", lengths.concat()))
}

pub(super) fn looks(lab: &Lab) -> Vec<Look<'_>> {
    let mut looks = Vec::new();
    opcodes(lab, &mut looks);
    let mut run = |name: String, program: Vec<Instruction>| {
        looks.push(look(name, move || accumulator(lab, &program)));
    };
    arithmetic(&mut run);
    loads(&mut run);
    for result in [0, 1, 13, 14, 60, 100, 101, 1514, 1515, 0x7fff_ffff, 0x8000_0000, u32::MAX] {
        for size in [60, 100, 1514] {
            looks.push(look(format!("cut/{result}/{size}"), move || cut(lab, result, size)));
        }
    }
    for (name, command) in
        [("setf", bpf::BIOCSETF), ("setfnr", bpf::BIOCSETFNR), ("setwf", bpf::BIOCSETWF)]
    {
        looks.push(look(format!("replaced/{name}"), move || replaced(lab, command)));
    }
    // On lo0 a packet is a chain of mbufs, its family in front.
    for (name, load) in
        [("word", bpf::LD_W_ABS), ("half", bpf::LD_H_ABS), ("byte", LD_B_ABS), ("msh", LDX_MSH)]
    {
        for at in [0, 2, 3, 4, 31, 62, 63, 64, 1000] {
            looks.push(look(format!("chain/{name}/{at}"), move || {
                let bpf = lab.open()?;
                bpf.attach(lab.interface(Place::Loopback))?;
                let program = [statement(load, at), statement(RET_K, u32::MAX)];
                bpf.set_filter(bpf::BIOCSETF, &program)?;
                lab.source(Place::Loopback)?.fill(&bpf, 0..1, 64)?;
                Ok::<_, Trouble>(number(bpf.readable()))
            }));
        }
    }
    looks.push(look("survives-setif".into(), || {
        let bpf = lab.open()?;
        bpf.set_filter(bpf::BIOCSETF, &[statement(RET_K, 20)])?;
        bpf.attach("lo0")?;
        bpf.attach(lab.interface(Place::Ethernet))?;
        bpf.fd.set_nonblocking(true)?;
        lab.source(Place::Ethernet)?.fill(&bpf, 0..1, 60)?;
        let lengths = records(&bpf.read()?)?.iter().map(|r| r.data.len()).collect::<Vec<_>>();
        Ok::<_, Trouble>(format!("{lengths:?}"))
    }));
    looks
}
