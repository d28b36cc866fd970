// SPDX-License-Identifier: BSD-2-Clause
//! The threaded filter machine. Its functions end by jumping to the next one; were
//! that a call, each step of a filter would take some of the kernel's stack. The
//! compiler makes them jumps, but nothing obliges it.

use std::collections::BTreeMap;

use iced_x86::{Decoder, DecoderOptions, FlowControl};

use crate::module::{Arch, Module};
use crate::report::Finding;

/// Where these functions are, and nothing else.
const HANDLERS: &str = "bpfrs_filter::handlers::";

/// Indirect jumps, and calls of what is only known at run time.
#[derive(Default)]
struct Flow {
    jumps: usize,
    calls: usize,
}

/// Looks at each function, if the module has the machine.
pub(crate) fn check(module: &Module<'_>) -> Finding {
    let mut finding = Finding::default();
    let functions: BTreeMap<u64, String> = module
        .all_symbols
        .iter()
        .filter(|symbol| symbol.function)
        .filter_map(|symbol| {
            Some((symbol.address?, format!("{:#}", rustc_demangle::demangle(&symbol.name))))
        })
        .collect();
    if !functions.values().any(|name| name.starts_with("bpfrs_filter::")) {
        finding.summary = "no threaded code".to_owned();
        return finding;
    }
    let (mut count, mut jumps) = (0, 0);
    for (&start, name) in functions.iter().filter(|(_, name)| name.starts_with(HANDLERS)) {
        let next = functions.range(start + 1..).next().map(|(next, _)| *next);
        let flow = flow(module, start, next);
        count += 1;
        jumps += flow.jumps;
        if flow.calls > 0 {
            finding.violations.push(format!("{name} calls the next one: the stack grows"));
        }
    }
    if jumps == 0 {
        finding.violations.push(format!("none of {count} functions jumps to the next one"));
    }
    finding.summary = format!("{count} functions, {jumps} jumps to the next one, no calls");
    finding
}

/// What the code from `start` to `end`, or to the section's, does.
fn flow(module: &Module<'_>, start: u64, end: Option<u64>) -> Flow {
    let section = module.sections.iter().find(|section| {
        section.executable
            && (section.address..section.address + section.data.len() as u64).contains(&start)
    });
    let Some(section) = section else { return Flow::default() };
    let offset = |address: u64| (address - section.address) as usize;
    let end = end.map_or(section.data.len(), |end| offset(end).min(section.data.len()));
    let code = &section.data[offset(start)..end];
    let mut flow = Flow::default();
    match module.arch {
        Arch::Amd64 => {
            for instruction in Decoder::with_ip(64, code, start, DecoderOptions::NONE) {
                match instruction.flow_control() {
                    FlowControl::IndirectBranch => flow.jumps += 1,
                    FlowControl::IndirectCall => flow.calls += 1,
                    _ => {}
                }
            }
        }
        Arch::Aarch64 => {
            for word in code.chunks_exact(4) {
                match u32::from_le_bytes([word[0], word[1], word[2], word[3]]) & 0xffff_fc1f {
                    0xd61f_0000 => flow.jumps += 1, // br
                    0xd63f_0000 => flow.calls += 1, // blr
                    _ => {}
                }
            }
        }
    }
    flow
}
