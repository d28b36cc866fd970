// SPDX-License-Identifier: BSD-2-Clause
//! A kernel module as the loader sees it: sections in memory, relocations,
//! symbols. One view for both kinds: amd64 loads relocatable objects, all
//! others shared objects.

use std::collections::HashMap;
use std::fmt;

use anyhow::{Result, bail, ensure};
use object::elf;
use object::read::elf::{ElfFile64, FileHeader as _};
use object::{
    Endianness, Object as _, ObjectSection as _, ObjectSymbol as _, RelocationFlags,
    RelocationTarget, SectionFlags, SectionIndex, SymbolIndex,
};

type File<'data> = ElfFile64<'data, Endianness>;
type ElfSymbol<'data, 'file> = object::read::elf::ElfSymbol64<'data, 'file, Endianness>;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Arch {
    Amd64,
    Aarch64,
}

impl fmt::Display for Arch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Amd64 => "amd64",
            Self::Aarch64 => "aarch64",
        })
    }
}

pub(crate) struct Section<'data> {
    pub(crate) name: String,
    pub(crate) address: u64,
    pub(crate) data: &'data [u8],
    pub(crate) executable: bool,
}

pub(crate) struct Symbol {
    pub(crate) name: String,
    /// `None`: undefined, some other module or the kernel has it.
    pub(crate) address: Option<u64>,
    pub(crate) global: bool,
    pub(crate) weak: bool,
    pub(crate) function: bool,
}

pub(crate) struct Relocation {
    pub(crate) section: String,
    pub(crate) address: u64,
    pub(crate) kind: elf::RelocationType,
    /// Where it points to, if that is inside the module.
    pub(crate) target: Option<u64>,
    /// The name of the symbol it points to, if that is outside.
    pub(crate) undefined: Option<String>,
}

pub(crate) struct Module<'data> {
    pub(crate) arch: Arch,
    /// The sections that are loaded, at the addresses they have or get here.
    pub(crate) sections: Vec<Section<'data>>,
    /// The symbols that the loader resolves.
    pub(crate) symbols: Vec<Symbol>,
    /// All symbols, for names of functions and forbidden names.
    pub(crate) all_symbols: Vec<Symbol>,
    /// Of loaded sections.
    pub(crate) relocations: Vec<Relocation>,
    /// Names of all sections.
    pub(crate) section_names: Vec<String>,
    /// `.stack_sizes`, with the addresses relocated.
    pub(crate) stack_sizes: Vec<u8>,
}

/// Where sections of a relocatable object are in memory: they have no
/// addresses, so they get some.
struct Layout(HashMap<SectionIndex, u64>);

impl Layout {
    fn new(file: &File<'_>, relocatable: bool) -> Self {
        let mut next = 0x1000;
        let place = |section: object::read::elf::ElfSection64<'_, '_, Endianness>| {
            if !relocatable {
                return (section.index(), 0);
            }
            let align = section.align().max(1);
            let address = next_multiple(next, align);
            next = address + section.size();
            (section.index(), address)
        };
        Self(file.sections().filter(is_loaded).map(place).collect())
    }

    fn base(&self, section: Option<SectionIndex>) -> u64 {
        section.and_then(|index| self.0.get(&index).copied()).unwrap_or(0)
    }
}

fn next_multiple(value: u64, align: u64) -> u64 {
    value.div_ceil(align) * align
}

fn is_loaded(section: &object::read::elf::ElfSection64<'_, '_, Endianness>) -> bool {
    flags(section).contains(elf::SHF_ALLOC)
}

fn flags(section: &object::read::elf::ElfSection64<'_, '_, Endianness>) -> elf::SectionFlags {
    match section.flags() {
        SectionFlags::Elf { sh_flags, .. } => sh_flags,
        _ => elf::SectionFlags::default(),
    }
}

impl<'data> Module<'data> {
    pub(crate) fn parse(data: &'data [u8]) -> Result<Self> {
        let file = File::parse(data)?;
        let header = file.elf_header();
        let endian = file.endian();
        let (arch, wanted, what) = match header.e_machine(endian) {
            elf::EM_X86_64 => (Arch::Amd64, elf::ET_REL, "a relocatable object"),
            elf::EM_AARCH64 => (Arch::Aarch64, elf::ET_DYN, "a shared object"),
            other => bail!("machine {other:?}: neither amd64 nor aarch64"),
        };
        ensure!(
            header.e_type(endian) == wanted,
            "not {what}, which is what FreeBSD loads on {arch}"
        );
        let relocatable = wanted == elf::ET_REL;
        let layout = Layout::new(&file, relocatable);

        let mut sections = Vec::new();
        for section in file.sections().filter(is_loaded) {
            sections.push(Section {
                name: section.name()?.to_owned(),
                address: section.address() + layout.base(Some(section.index())),
                data: section.data()?,
                executable: flags(&section).contains(elf::SHF_EXECINSTR),
            });
        }
        let names = file.sections().map(|s| Ok(s.name()?.to_owned()));

        let symbols = |symbols: &mut dyn Iterator<Item = ElfSymbol<'data, '_>>| {
            symbols.map(|symbol| named(&symbol, &layout)).collect::<Result<Vec<_>>>()
        };
        Ok(Self {
            arch,
            section_names: names.collect::<Result<_>>()?,
            symbols: match relocatable {
                true => symbols(&mut file.symbols())?,
                false => symbols(&mut file.dynamic_symbols())?,
            },
            all_symbols: symbols(&mut file.symbols())?,
            relocations: match relocatable {
                true => static_relocations(&file, &layout)?,
                false => dynamic_relocations(&file, &sections)?,
            },
            stack_sizes: stack_sizes(&file, &layout)?,
            sections,
        })
    }

    /// The section that this address is in, and how far.
    fn at(&self, address: u64) -> Option<(&Section<'data>, usize)> {
        self.sections.iter().find_map(|section| {
            let offset = usize::try_from(address.checked_sub(section.address)?).ok()?;
            (offset < section.data.len()).then_some((section, offset))
        })
    }

    pub(crate) fn section(&self, name: &str) -> Option<&Section<'data>> {
        self.sections.iter().find(|section| section.name == name)
    }

    /// The 32-bit number at this address.
    pub(crate) fn int(&self, address: u64) -> Option<u32> {
        let (section, offset) = self.at(address)?;
        let bytes = section.data.get(offset..)?.first_chunk()?;
        Some(u32::from_le_bytes(*bytes))
    }

    /// The NUL-terminated string at this address.
    pub(crate) fn string(&self, address: u64) -> Option<&str> {
        let (section, offset) = self.at(address)?;
        let bytes = section.data.get(offset..)?;
        let end = bytes.iter().position(|&byte| byte == 0)?;
        std::str::from_utf8(&bytes[..end]).ok()
    }

    /// The pointer at this address, once relocated: where it points to, or
    /// the name of what it points to outside.
    pub(crate) fn pointer(&self, address: u64) -> Option<&Relocation> {
        self.relocations.iter().find(|r| r.address == address)
    }

    /// The function at or before this address, readable.
    pub(crate) fn function(&self, address: u64) -> String {
        let before = self
            .all_symbols
            .iter()
            .filter(|symbol| symbol.function && symbol.address.is_some_and(|a| a <= address))
            .max_by_key(|symbol| symbol.address);
        match before {
            Some(symbol) => format!("{:#}", rustc_demangle::demangle(&symbol.name)),
            None => format!("{address:#x}"),
        }
    }
}

fn named(symbol: &ElfSymbol<'_, '_>, layout: &Layout) -> Result<Symbol> {
    Ok(Symbol {
        name: symbol.name()?.to_owned(),
        address: (!symbol.is_undefined())
            .then(|| symbol.address() + layout.base(symbol.section_index())),
        global: symbol.is_global(),
        weak: symbol.is_weak(),
        function: symbol.kind() == object::SymbolKind::Text,
    })
}

fn elf_type(relocation: &object::Relocation) -> Result<elf::RelocationType> {
    match relocation.flags() {
        RelocationFlags::Elf { r_type } => Ok(r_type),
        other => bail!("relocation without an ELF type: {other:?}"),
    }
}

/// Where a relocation by this symbol points to: an address inside, or a name.
fn resolve(
    symbol: Option<ElfSymbol<'_, '_>>,
    addend: i64,
    layout: &Layout,
) -> Result<(Option<u64>, Option<String>)> {
    match symbol {
        None => Ok((Some(addend.cast_unsigned()), None)),
        Some(symbol) if symbol.is_undefined() => Ok((None, Some(symbol.name()?.to_owned()))),
        Some(symbol) => {
            let base = symbol.address() + layout.base(symbol.section_index());
            Ok((Some(base.wrapping_add_signed(addend)), None))
        }
    }
}

fn symbol_of(target: RelocationTarget) -> Option<SymbolIndex> {
    match target {
        RelocationTarget::Symbol(index) => Some(index),
        _ => None,
    }
}

fn static_relocations(file: &File<'_>, layout: &Layout) -> Result<Vec<Relocation>> {
    let mut relocations = Vec::new();
    for section in file.sections().filter(is_loaded) {
        for (offset, relocation) in section.relocations() {
            let symbol = symbol_of(relocation.target())
                .map(|index| file.symbol_by_index(index))
                .transpose()?;
            let (target, undefined) = resolve(symbol, relocation.addend(), layout)?;
            relocations.push(Relocation {
                section: section.name()?.to_owned(),
                address: layout.base(Some(section.index())) + offset,
                kind: elf_type(&relocation)?,
                target,
                undefined,
            });
        }
    }
    Ok(relocations)
}

fn dynamic_relocations(file: &File<'_>, sections: &[Section<'_>]) -> Result<Vec<Relocation>> {
    let mut relocations = Vec::new();
    let no_layout = Layout(HashMap::new());
    let Some(symbols) = object::Object::dynamic_symbol_table(file) else {
        bail!("no dynamic symbols");
    };
    for (address, relocation) in file.dynamic_relocations().into_iter().flatten() {
        let symbol = symbol_of(relocation.target())
            .map(|index| object::ObjectSymbolTable::symbol_by_index(&symbols, index))
            .transpose()?;
        let (target, undefined) = resolve(symbol, relocation.addend(), &no_layout)?;
        let section = sections
            .iter()
            .find(|s| (s.address..s.address + s.data.len() as u64).contains(&address));
        relocations.push(Relocation {
            section: section.map_or_else(|| "?".to_owned(), |s| s.name.clone()),
            address,
            kind: elf_type(&relocation)?,
            target,
            undefined,
        });
    }
    Ok(relocations)
}

/// The section's bytes with the functions' addresses filled in. A shared
/// object's linker has done so already.
fn stack_sizes(file: &File<'_>, layout: &Layout) -> Result<Vec<u8>> {
    let mut all = Vec::new();
    for section in file.sections() {
        if section.name()? != ".stack_sizes" {
            continue;
        }
        let mut data = section.data()?.to_vec();
        for (offset, relocation) in section.relocations() {
            let symbol = symbol_of(relocation.target())
                .map(|index| file.symbol_by_index(index))
                .transpose()?;
            let (target, _) = resolve(symbol, relocation.addend(), layout)?;
            let place = usize::try_from(offset)
                .ok()
                .and_then(|offset| data.get_mut(offset..)?.first_chunk_mut());
            let (Some(place), Some(target)) = (place, target) else {
                bail!(".stack_sizes: relocation out of place");
            };
            *place = target.to_le_bytes();
        }
        all.append(&mut data);
    }
    Ok(all)
}
