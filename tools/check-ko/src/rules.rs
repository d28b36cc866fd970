// SPDX-License-Identifier: BSD-2-Clause
//! The rules about the file, its relocations and its symbols.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;

use anyhow::Result;
use object::elf;

use crate::lists::{Entry, List, Lists, Need};
use crate::metadata::Metadata;
use crate::module::{Arch, Module, Symbol};
use crate::report::Finding;

/// Bytes that the stripped module may have; twice as many if it is instrumented.
pub(crate) const MAX_SIZE: usize = 512 * 1024;

pub(crate) fn size(ko: &[u8], lists: &Lists) -> Finding {
    let most = if lists.sanitizer.is_empty() { MAX_SIZE } else { 2 * MAX_SIZE };
    let mut finding =
        Finding { summary: format!("{} bytes of at most {most}", ko.len()), ..Finding::default() };
    if ko.len() > most {
        finding.violations.push(format!("{} bytes too large", ko.len() - most));
    }
    finding
}

pub(crate) fn metadata(metadata: Result<Metadata>) -> Finding {
    match metadata {
        Ok(m) => Finding {
            summary: format!(
                "module {} version {}, kernel from {}, {} sysinits",
                m.name, m.version, m.osversion, m.sysinits
            ),
            ..Finding::default()
        },
        Err(error) => Finding { violations: vec![format!("{error:#}")], ..Finding::default() },
    }
}

/// What `elf_reloc()` of sys/amd64/amd64/elf_machdep.c and its arm64 twin
/// know, in all releases from 12.1 on.
fn is_known(arch: Arch, kind: elf::RelocationType) -> bool {
    match arch {
        Arch::Amd64 => matches!(
            kind,
            elf::R_X86_64_NONE
                | elf::R_X86_64_64
                | elf::R_X86_64_PC32
                | elf::R_X86_64_PLT32
                | elf::R_X86_64_32S
                | elf::R_X86_64_COPY
                | elf::R_X86_64_GLOB_DAT
                | elf::R_X86_64_JUMP_SLOT
                | elf::R_X86_64_RELATIVE
                | elf::R_X86_64_IRELATIVE
        ),
        Arch::Aarch64 => matches!(
            kind,
            elf::R_AARCH64_NONE
                | elf::R_AARCH64_ABS64
                | elf::R_AARCH64_GLOB_DAT
                | elf::R_AARCH64_JUMP_SLOT
                | elf::R_AARCH64_RELATIVE
                | elf::R_AARCH64_IRELATIVE
        ),
    }
}

fn type_name(arch: Arch, kind: elf::RelocationType) -> String {
    let names = match arch {
        Arch::Amd64 => &elf::NAMES_R_X86_64,
        Arch::Aarch64 => &elf::NAMES_R_AARCH64,
    };
    match names.name(kind) {
        Some(name) => name.to_owned(),
        None => format!("type {}", kind.0),
    }
}

pub(crate) fn relocations(module: &Module<'_>) -> Finding {
    let mut finding = Finding::default();
    let mut types = BTreeMap::new();
    for relocation in &module.relocations {
        *types.entry(relocation.kind.0).or_insert(0_u32) += 1;
        if !is_known(module.arch, relocation.kind) {
            finding.violations.push(format!(
                "{} in {} of {}, to {}: the loader does not know this type",
                type_name(module.arch, relocation.kind),
                relocation.section,
                module.function(relocation.address),
                relocation.undefined.as_deref().unwrap_or("itself")
            ));
        }
    }
    let types: Vec<_> = types
        .into_iter()
        .map(|(kind, count)| {
            let name = type_name(module.arch, elf::RelocationType(kind));
            format!("{count} {name}")
        })
        .collect();
    finding.summary = types.join(", ");
    finding
}

/// What makes machine code of filters knows one processor: others need not carry it.
pub(crate) fn emitter(module: &Module<'_>) -> Finding {
    let mut finding = Finding::default();
    let count = module
        .all_symbols
        .iter()
        .filter(|symbol| {
            format!("{:#}", rustc_demangle::demangle(&symbol.name)).contains("bpfrs_filter::amd64")
        })
        .count();
    if module.arch != Arch::Amd64 && count > 0 {
        finding
            .violations
            .push(format!("{count} symbols of code that writes amd64's instructions"));
    }
    finding.summary = format!("{count} symbols");
    finding
}

/// A panic ends in panic(9): nothing may be there that unwinds.
pub(crate) fn unwinder(module: &Module<'_>) -> Finding {
    let mut finding = Finding { summary: "no unwinding".to_owned(), ..Finding::default() };
    for symbol in module.symbols.iter().chain(&module.all_symbols) {
        if symbol.name.starts_with("_Unwind_") || symbol.name.contains("_personality") {
            finding.violations.push(format!("symbol {}", symbol.name));
        }
    }
    for name in &module.section_names {
        if name.starts_with(".gcc_except_table") {
            finding.violations.push(format!("section {name}"));
        }
    }
    finding.violations.sort();
    finding.violations.dedup();
    finding
}

/// The bounds of a linker set: the loader knows where a set is, and a set
/// that is named by headers only is never looked for.
fn is_set_bound(module: &Module<'_>, name: &str) -> bool {
    let set = name.strip_prefix("__start_").or_else(|| name.strip_prefix("__stop_"));
    set.is_some_and(|set| {
        set.starts_with("set_")
            && (module.section(set).is_some()
                || !module.relocations.iter().any(|r| r.undefined.as_deref() == Some(name)))
    })
}

/// The function that a sanitizer's own stands for: it checks, and does the same.
fn original(name: &str) -> &str {
    name.strip_prefix("kasan_").unwrap_or(name)
}

pub(crate) fn undefined(module: &Module<'_>, osversion: Option<u32>, lists: &Lists) -> Finding {
    let mut finding = Finding::default();
    let wanted: Vec<&Symbol> = module
        .symbols
        .iter()
        .filter(|symbol| symbol.address.is_none() && !symbol.name.is_empty())
        .filter(|symbol| !is_set_bound(module, &symbol.name))
        .filter(|symbol| symbol.weak || !lists.provided.contains_key(&symbol.name))
        .collect();
    // A weak one would silently be address 0 in a kernel without it.
    for symbol in wanted.iter().filter(|symbol| symbol.weak) {
        finding.violations.push(format!("{} is weak: it may be missing", symbol.name));
    }
    let Some(release) = osversion.map(|version| version / 100_000) else {
        finding.summary = "not compared: the release is unknown".to_owned();
        return finding;
    };
    let none = List::new();
    let list = lists.symbols.get(&release).unwrap_or_else(|| {
        finding.violations.push(format!("there is no list freebsd{release}.txt"));
        &none
    });
    for symbol in &wanted {
        if !list.contains_key(&symbol.name) && !lists.sanitizer.contains_key(&symbol.name) {
            finding
                .violations
                .push(format!("{} is not on the list freebsd{release}.txt", symbol.name));
        }
    }
    for (name, entry) in list {
        let is_it = |symbol: &&Symbol| original(&symbol.name) == name;
        if entry.need == Need::Always && !wanted.iter().any(is_it) {
            finding.warnings.push(format!("{name} is on the list, but not needed"));
        }
    }
    finding.summary = format!("{} kernel symbols, of {} listed", wanted.len(), list.len());
    finding
}

/// Every symbol that is needed is where the list says, in the headers that the
/// module was built with: its name and its place are facts of that release.
pub(crate) fn headers(
    module: &Module<'_>,
    osversion: Option<u32>,
    lists: &Lists,
    include: &[PathBuf],
) -> Finding {
    let mut finding = Finding::default();
    let list = osversion.and_then(|version| lists.symbols.get(&(version / 100_000)));
    let (Some(list), false) = (list, include.is_empty()) else {
        finding.summary = "not compared: no headers, or no list for that release".to_owned();
        return finding;
    };
    let mut texts = BTreeMap::new();
    let mut found = 0;
    for symbol in module.symbols.iter().filter(|symbol| symbol.address.is_none()) {
        let listed = list.get(&symbol.name).or_else(|| lists.sanitizer.get(&symbol.name));
        let Some(Entry { header, .. }) = listed.filter(|entry| !entry.header.is_empty()) else {
            continue;
        };
        let text = texts.entry(header).or_insert_with(|| read_header(module.arch, include, header));
        match text {
            None => finding.violations.push(format!("{}: there is no {header}", symbol.name)),
            Some(text) if declares(text, &symbol.name) => found += 1,
            Some(_) => {
                finding.violations.push(format!("{} is not declared in {header}", symbol.name));
            }
        }
    }
    finding.summary = format!("{found} kernel symbols declared in {} headers", texts.len());
    finding
}

/// The first of that name; `machine` is a folder of the architecture's own in a source tree.
fn read_header(arch: Arch, include: &[PathBuf], header: &str) -> Option<String> {
    let machine = match arch {
        Arch::Amd64 => "amd64/include",
        Arch::Aarch64 => "arm64/include",
    };
    include.iter().find_map(|folder| {
        let own = header.strip_prefix("machine/").map(|rest| folder.join(machine).join(rest));
        [Some(folder.join(header)), own]
            .into_iter()
            .flatten()
            .find_map(|path| fs::read(path).ok())
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
    })
}

/// Whether the name is a word of the text. Macros make some names longer.
fn declares(text: &str, name: &str) -> bool {
    // VNET_DECLARE(type, NAME), SYSCTL_DECL(NAME).
    let name = original(name);
    let word =
        ["vnet_entry_", "sysctl__"].iter().find_map(|p| name.strip_prefix(p)).unwrap_or(name);
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
    text.match_indices(word).any(|(at, _)| {
        !text[..at].ends_with(is_part) && !text[at + word.len()..].starts_with(is_part)
    })
}

pub(crate) fn globals(module: &Module<'_>, lists: &Lists) -> Finding {
    let mut finding = Finding::default();
    let mut exported = BTreeSet::new();
    for symbol in &module.symbols {
        if symbol.address.is_none() || !symbol.global || is_set_bound(module, &symbol.name) {
            continue;
        }
        exported.insert(symbol.name.as_str());
        if symbol.name.starts_with("bpf_") {
            finding
                .violations
                .push(format!("{} is exported: that name is the stock driver's", symbol.name));
        } else if !lists.exports.contains_key(&symbol.name) {
            finding.violations.push(format!("{} is exported, but not listed", symbol.name));
        }
    }
    for name in lists.exports.keys() {
        if !exported.contains(name.as_str()) {
            finding.violations.push(format!("{name} is listed as exported, but not there"));
        }
    }
    finding.summary = format!("{} exported", exported.len());
    finding
}
