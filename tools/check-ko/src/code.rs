// SPDX-License-Identifier: BSD-2-Clause
//! Instructions. The kernel keeps a process's floating point and vector
//! registers where they are: who touches one corrupts that process.

use iced_x86::{
    Code, CpuidFeature, Decoder, DecoderOptions, Formatter as _, GasFormatter,
    InstructionInfoFactory, Mnemonic,
};
use yaxpeax_arch::{Decoder as _, U8Reader};
use yaxpeax_arm::armv8::a64::{InstDecoder, Operand};

use crate::module::{Arch, Module, Section};
use crate::report::Finding;

pub(crate) fn check(module: &Module<'_>) -> Finding {
    let mut finding = Finding::default();
    let mut count = 0;
    for section in module.sections.iter().filter(|s| s.executable) {
        let bad = |address, what| {
            finding.violations.push(format!("{}: {what}", module.function(address)));
        };
        count += match module.arch {
            Arch::Amd64 => amd64(section, bad),
            Arch::Aarch64 => aarch64(section, bad),
        };
    }
    if count == 0 {
        finding.violations.push("there is no code".to_owned());
    }
    finding.summary = format!("{count}, without floating point and vector registers");
    finding
}

fn amd64(section: &Section<'_>, mut bad: impl FnMut(u64, String)) -> usize {
    let mut decoder = Decoder::with_ip(64, section.data, section.address, DecoderOptions::NONE);
    let mut info = InstructionInfoFactory::new();
    let mut formatter = GasFormatter::new();
    let mut count = 0;
    while decoder.can_decode() {
        let instruction = decoder.decode();
        count += 1;
        if instruction.code() == Code::INVALID {
            bad(instruction.ip(), "bytes that are no instruction".to_owned());
            continue;
        }
        let registers = info.info(&instruction).used_registers();
        let vector = registers
            .iter()
            .map(|used| used.register())
            .any(|r| r.is_vector_register() || r.is_st() || r.is_mm() || r.is_k() || r.is_tmm());
        // Those that use the state as a whole name no register.
        let state = instruction.cpuid_features().iter().any(|feature| {
            matches!(
                feature,
                CpuidFeature::FPU
                    | CpuidFeature::FPU287
                    | CpuidFeature::FPU287XL_ONLY
                    | CpuidFeature::FPU387
                    | CpuidFeature::FPU387SL_ONLY
                    | CpuidFeature::MMX
                    | CpuidFeature::FXSR
                    | CpuidFeature::XSAVE
            )
        }) || matches!(
            instruction.mnemonic(),
            Mnemonic::Ldmxcsr | Mnemonic::Stmxcsr | Mnemonic::Vldmxcsr | Mnemonic::Vstmxcsr
        );
        if vector || state {
            let mut text = String::new();
            formatter.format(&instruction, &mut text);
            bad(instruction.ip(), text);
        }
    }
    count
}

fn aarch64(section: &Section<'_>, mut bad: impl FnMut(u64, String)) -> usize {
    let decoder = InstDecoder::default();
    let mut count = 0;
    for (word, address) in section.data.chunks(4).zip((section.address..).step_by(4)) {
        count += 1;
        match decoder.decode(&mut U8Reader::new(word)) {
            Err(error) => bad(address, format!("bytes that are no instruction: {error}")),
            Ok(instruction) if instruction.operands.iter().any(is_vector) => {
                bad(address, instruction.to_string());
            }
            Ok(_) => {}
        }
    }
    count
}

fn is_vector(operand: &Operand) -> bool {
    matches!(
        operand,
        Operand::SIMDRegister(..)
            | Operand::SIMDRegisterElements(..)
            | Operand::SIMDRegisterElementsLane(..)
            | Operand::SIMDRegisterElementsMultipleLane(..)
            | Operand::SIMDRegisterGroup(..)
            | Operand::SIMDRegisterGroupLane(..)
    )
}
