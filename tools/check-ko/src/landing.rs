// SPDX-License-Identifier: BSD-2-Clause
//! Landing pads. On arm64 the kernel maps every page of its own guarded: where the processor
//! has branch target identification, an indirect call of a function that does not begin with
//! a landing pad is a panic.

use std::collections::{BTreeMap, BTreeSet};

use crate::module::{Arch, Module};
use crate::report::Finding;

/// What an indirect call may land on: `bti c`, `bti jc`, `paciasp`, `pacibsp`.
const PADS: [u32; 4] = [0xd503_245f, 0xd503_24df, 0xd503_233f, 0xd503_237f];

pub(crate) fn check(module: &Module<'_>) -> Finding {
    let mut finding = Finding::default();
    if module.arch != Arch::Aarch64 {
        finding.summary = format!("not asked for on {}", module.arch);
        return finding;
    }
    let note = module.section(".note.gnu.property").and_then(|note| features(note.data));
    match note {
        None => finding.violations.push("no note says what all objects were built for".to_owned()),
        Some(features) if features & FEATURE_BTI == 0 => {
            finding.violations.push("an object was built without landing pads".to_owned());
        }
        Some(_) => {}
    }
    let taken = taken(module);
    for &address in &taken {
        if !module.int(address).is_some_and(|first| PADS.contains(&first)) {
            finding.violations.push(format!(
                "{} at {address:#x}: its address is taken, but it begins with none",
                module.function(address)
            ));
        }
    }
    finding.summary = format!("{} functions whose address is taken", taken.len());
    finding
}

/// `GNU_PROPERTY_AARCH64_FEATURE_1_AND`, and its first bit.
const FEATURE_1_AND: u32 = 0xc000_0000;
const FEATURE_BTI: u32 = 1;

/// What is said in a note of type `NT_GNU_PROPERTY_TYPE_0`.
fn features(note: &[u8]) -> Option<u32> {
    let word =
        |bytes: &[u8], at: usize| Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk::<4>()?));
    let (names, length, kind) = (word(note, 0)?, word(note, 4)?, word(note, 8)?);
    if (names, kind, note.get(12..16)?) != (4, 5, b"GNU\0") {
        return None;
    }
    let mut properties = note.get(16..)?.get(..usize::try_from(length).ok()?)?;
    while !properties.is_empty() {
        let (kind, length) = (word(properties, 0)?, usize::try_from(word(properties, 4)?).ok()?);
        if kind == FEATURE_1_AND {
            return word(properties, 8);
        }
        properties = properties.get(8 + length.next_multiple_of(8)..)?;
    }
    None
}

/// The functions that can be called by their address: somebody has it from a pointer in the
/// module's data, by the symbol, or from an instruction that computes it.
fn taken(module: &Module<'_>) -> BTreeSet<u64> {
    let is_code = |address: u64| {
        module.sections.iter().any(|section| {
            section.executable
                && (section.address..section.address + section.data.len() as u64).contains(&address)
        })
    };
    let functions: BTreeSet<u64> = module
        .all_symbols
        .iter()
        .filter(|symbol| symbol.function)
        .filter_map(|symbol| symbol.address)
        .collect();
    let pointers = module.relocations.iter().filter_map(|relocation| relocation.target);
    let exported = module
        .symbols
        .iter()
        .filter(|symbol| symbol.function && symbol.global)
        .filter_map(|symbol| symbol.address);
    // Tables of jumps begin in the middle of a function.
    let computed = computed(module, &functions).into_iter().filter(|a| functions.contains(a));
    pointers.chain(exported).chain(computed).filter(|&address| is_code(address)).collect()
}

/// Addresses that `adr`, or `adrp` and an `add` in the same function, compute.
fn computed(module: &Module<'_>, functions: &BTreeSet<u64>) -> Vec<u64> {
    let mut addresses = Vec::new();
    for section in module.sections.iter().filter(|section| section.executable) {
        // The page that a register has the address of.
        let mut pages = BTreeMap::new();
        for (word, at) in section.data.chunks_exact(4).zip((section.address..).step_by(4)) {
            let word = u32::from_le_bytes([word[0], word[1], word[2], word[3]]);
            if functions.contains(&at) {
                pages.clear();
            }
            let (to, from) = (word & 0x1f, word >> 5 & 0x1f);
            // Of adr and adrp: 19 bits, and two lower ones elsewhere.
            let distance = i64::from((word >> 5 & 0x7_ffff) << 2 | word >> 29 & 3) << 43 >> 43;
            match word {
                word if word & 0x9f00_0000 == 0x1000_0000 => {
                    addresses.push(at.wrapping_add_signed(distance));
                }
                word if word & 0x9f00_0000 == 0x9000_0000 => {
                    pages.insert(to, (at & !0xfff).wrapping_add_signed(distance << 12));
                }
                // add, 64 bits, not shifted.
                word if word & 0xffc0_0000 == 0x9100_0000 => {
                    let page = pages.get(&from);
                    addresses.extend(page.map(|page| page + u64::from(word >> 10 & 0xfff)));
                }
                _ => {}
            }
        }
    }
    addresses
}
