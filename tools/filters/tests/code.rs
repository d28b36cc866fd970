// SPDX-License-Identifier: BSD-2-Clause
//! What machine code of filters does and does not do (F4 of docs/filter.md), read
//! back by a disassembler.

use bpfrs_filter::{Heap, Program};
use bpfrs_filters as filters;
use iced_x86::{
    CpuidFeature, Decoder, DecoderOptions, FlowControl, InstructionInfoFactory, OpAccess, Register,
};

/// What is wrong with the code, if something is.
fn fault(code: &[u8]) -> Option<String> {
    let mut info = InstructionInfoFactory::new();
    let mut decoder = Decoder::with_ip(64, code, 0, DecoderOptions::NONE);
    // Tables follow the last return; nothing jumps there.
    let (mut farthest, mut last) = (0, 0);
    while decoder.can_decode() && (last == 0 || decoder.ip() <= farthest) {
        let instruction = decoder.decode();
        let wrong = |what: &str| Some(format!("{:#x}: {what}: {instruction}", instruction.ip()));
        match instruction.flow_control() {
            _ if instruction.is_invalid() => return wrong("no instruction"),
            FlowControl::Next => {}
            FlowControl::Return => last = instruction.ip(),
            FlowControl::ConditionalBranch | FlowControl::UnconditionalBranch => {
                farthest = farthest.max(instruction.near_branch_target());
            }
            _ => return wrong("leaves the function"),
        }
        let features = instruction.cpuid_features();
        if features.iter().any(|f| {
            !matches!(
                f,
                CpuidFeature::INTEL8086
                    | CpuidFeature::INTEL186
                    | CpuidFeature::INTEL386
                    | CpuidFeature::INTEL486
                    | CpuidFeature::X64
                    | CpuidFeature::CMOV
            )
        }) {
            return wrong("no plain instruction");
        }
        for memory in info.info(&instruction).used_memory() {
            let below = memory.displacement().cast_signed() < 0;
            match memory.base() {
                // push writes below, and moves the pointer there.
                Register::RSP if !below || instruction.is_stack_instruction() => {}
                Register::RDI | Register::R10 if memory.access() == OpAccess::Read => {}
                Register::RSP => return wrong("below the stack pointer"),
                _ => return wrong("memory of somebody else"),
            }
        }
    }
    None
}

#[test]
fn code_keeps_to_itself() {
    for expression in filters::expressions() {
        for optimize in [true, false] {
            let insns = filters::compile(&expression, optimize).expect("a filter");
            let program = Program::<Heap>::new(insns.into()).expect("a valid program");
            let code = program.amd64().expect("memory");
            // A return, and that of who leaves the window.
            assert!(code.len() > 10);
            assert_eq!(fault(&code), None, "{expression}");
        }
    }
}

/// Flat code has branches, each to the code behind it, when a packet is too
/// short for all its questions; and one end.
#[test]
fn flat_code_has_no_branch_that_a_packet_decides() {
    let mut flat = Vec::new();
    for expression in filters::expressions() {
        let insns = filters::compile(&expression, true).expect("a filter");
        let program = Program::<Heap>::new(insns.into()).expect("a valid program");
        let code = program.amd64().expect("memory");
        let end = code.flat() as u64;
        let decoder = Decoder::with_ip(64, &code[..code.flat()], 0, DecoderOptions::NONE);
        for instruction in decoder {
            let fine = match instruction.flow_control() {
                FlowControl::Next => instruction.next_ip() < end,
                FlowControl::Return => instruction.next_ip() == end,
                FlowControl::ConditionalBranch => instruction.near_branch_target() == end,
                _ => false,
            };
            assert!(fine, "{expression}: {:#x}: {instruction}", instruction.ip());
        }
        if end > 0 {
            flat.push(expression);
        }
    }
    assert!(flat.len() >= 80, "{} expressions: {flat:?}", flat.len());
    let has = |expression: &str| flat.iter().any(|flat| flat == expression);
    // One question; a question about the length; a link with tags, or without.
    assert!(!has("ip") && !has("less 100") && !has("vlan 5 and tcp"));
    assert!(has("tcp") && has("icmp"));
}

#[test]
fn what_does_not_is_found() {
    for (code, what) in [
        (&[0xff, 0xd0, 0xc3][..], "leaves the function"), // call rax
        (&[0x0f, 0x05, 0xc3], "leaves the function"),     // syscall
        (&[0x89, 0x44, 0x24, 0xf8, 0xc3], "below the stack pointer"), // mov [rsp - 8], eax
        (&[0x89, 0x07, 0xc3], "memory of somebody else"), // mov [rdi], eax
        (&[0x8b, 0x06, 0xc3], "memory of somebody else"), // mov eax, [rsi]
        (&[0x0f, 0x28, 0xc1, 0xc3], "no plain instruction"), // movaps
        (&[0x06], "no instruction"),
    ] {
        let fault = fault(code).unwrap_or_default();
        assert!(fault.contains(what), "{code:x?}: {fault}");
    }
}
