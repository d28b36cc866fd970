// SPDX-License-Identifier: BSD-2-Clause
//! The module's own records, as `sys/module.h` lays them out: what the kernel
//! finds the module, its version and its dependency on a release by.

use anyhow::{Context, Result, bail, ensure};

use crate::module::{Arch, Module};

/// `MDT_*` of `sys/module.h`.
const MDT_DEPEND: u32 = 1;
const MDT_MODULE: u32 = 2;
const MDT_VERSION: u32 = 3;

pub(crate) struct Metadata {
    pub(crate) name: String,
    pub(crate) version: u32,
    /// `__FreeBSD_version` of the oldest kernel that may load it.
    pub(crate) osversion: u32,
    pub(crate) sysinits: usize,
}

/// `struct mod_metadata`: version, type (int), data, cval (pointers).
struct Record<'module> {
    kind: u32,
    data: Option<u64>,
    name: &'module str,
}

pub(crate) fn read(module: &Module<'_>) -> Result<Metadata> {
    let records = set(module, "set_modmetadata_set")?
        .into_iter()
        .map(|address| record(module, address))
        .collect::<Result<Vec<_>>>()?;
    let find = |kind, what| {
        let mut found = records.iter().filter(move |record| record.kind == kind);
        match (found.next(), found.next()) {
            (Some(record), None) => Ok(record),
            (Some(_), Some(_)) => bail!("more than one {what}"),
            (None, _) => bail!("no {what}"),
        }
    };
    let of_module = find(MDT_MODULE, "DECLARE_MODULE")?;
    let version = find(MDT_VERSION, "MODULE_VERSION")?;
    ensure!(
        version.name == of_module.name,
        "MODULE_VERSION is of {}, DECLARE_MODULE of {}",
        version.name,
        of_module.name
    );
    let kernel = records
        .iter()
        .find(|record| record.kind == MDT_DEPEND && record.name == "kernel")
        .context("no dependency on the kernel")?;
    let number = |record: &Record<'_>, what| {
        record
            .data
            .and_then(|address| module.int(address))
            .with_context(|| format!("{what} cannot be read"))
    };
    let sysinits = set(module, "set_sysinit_set")?.len();
    ensure!(sysinits > 0, "no SYSINIT: the kernel would never call it");
    Ok(Metadata {
        name: of_module.name.to_owned(),
        version: number(version, "MODULE_VERSION")?,
        osversion: number(kernel, "the kernel's version")?,
        sysinits,
    })
}

/// The addresses in a linker set.
fn set(module: &Module<'_>, name: &str) -> Result<Vec<u64>> {
    let section = module.section(name).with_context(|| format!("no linker set {name}"))?;
    // A shared object's sets are found by these, in its dynamic symbols.
    if module.arch != Arch::Amd64 {
        for bound in [format!("__start_{name}"), format!("__stop_{name}")] {
            ensure!(
                module
                    .symbols
                    .iter()
                    .any(|symbol| symbol.name == bound && symbol.address.is_some()),
                "the loader cannot find {name}: no dynamic symbol {bound}"
            );
        }
    }
    (0..section.data.len() as u64)
        .step_by(8)
        .map(|offset| {
            module
                .pointer(section.address + offset)
                .and_then(|pointer| pointer.target)
                .with_context(|| format!("{name}: entry {} points nowhere", offset / 8))
        })
        .collect()
}

fn record<'module>(module: &'module Module<'_>, address: u64) -> Result<Record<'module>> {
    let target = |offset| module.pointer(address + offset)?.target;
    let name = target(16).and_then(|name| module.string(name));
    match (module.int(address), module.int(address + 4), name) {
        (Some(1), Some(kind), Some(name)) => Ok(Record { kind, data: target(8), name }),
        _ => bail!("a module record at {address:#x} cannot be read"),
    }
}
