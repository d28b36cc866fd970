// SPDX-License-Identifier: BSD-2-Clause
//! Writes small ELF files of both kinds out of sections, symbols and
//! relocations.

use object::build::elf::{
    Builder, DynamicRelocation, DynamicSymbolId, Relocation, SectionData, SectionId, SymbolId,
};
use object::{Endianness, elf};

use crate::module::Arch;

/// Index of a section in [`Image::sections`].
pub(super) type Place = usize;

pub(super) struct Section {
    pub(super) name: &'static str,
    /// Where it is loaded in a shared object; `None`: it is not loaded.
    pub(super) address: Option<u64>,
    pub(super) flags: elf::SectionFlags,
    pub(super) data: Vec<u8>,
}

#[derive(Clone)]
pub(super) struct Symbol {
    pub(super) name: &'static str,
    pub(super) bind: elf::SymbolBind,
    pub(super) kind: elf::SymbolType,
    /// Section and offset; `None`: undefined.
    pub(super) place: Option<(Place, u64)>,
}

pub(super) enum Target {
    Inside(Place, u64),
    /// The symbol of that index in [`Image::symbols`].
    Symbol(usize),
}

pub(super) struct Fixup {
    pub(super) place: Place,
    pub(super) offset: u64,
    pub(super) kind: elf::RelocationType,
    pub(super) target: Target,
}

pub(super) struct Image {
    pub(super) arch: Arch,
    pub(super) sections: Vec<Section>,
    pub(super) symbols: Vec<Symbol>,
    pub(super) fixups: Vec<Fixup>,
}

/// Where a shared object's tables are, behind all sections.
const DYNSYM: u64 = 0x10000;
const DYNSTR: u64 = 0x11000;
const RELA: u64 = 0x12000;

impl Image {
    pub(super) fn write(&self) -> Vec<u8> {
        let mut builder = Builder::new(Endianness::Little, true);
        (builder.header.e_machine, builder.header.e_type) = match self.arch {
            Arch::Amd64 => (elf::EM_X86_64, elf::ET_REL),
            Arch::Aarch64 => (elf::EM_AARCH64, elf::ET_DYN),
        };
        let places: Vec<_> =
            self.sections.iter().map(|section| add_section(&mut builder, section)).collect();
        let mut table = |name: &'static str, data| {
            let table = builder.sections.add();
            table.name = name.into();
            table.data = data;
            table.id()
        };
        let symtab = table(".symtab", SectionData::Symbol);
        table(".strtab", SectionData::String);
        table(".shstrtab", SectionData::SectionString);
        let symbols = self.add_symbols(&mut builder, &places);
        match self.arch {
            Arch::Amd64 => self.relocatable(&mut builder, &places, symtab, &symbols),
            Arch::Aarch64 => self.shared(&mut builder, &places),
        }
        let mut bytes = Vec::new();
        builder.write(&mut bytes).unwrap();
        bytes
    }

    fn address(&self, place: Place) -> u64 {
        match self.arch {
            Arch::Amd64 => 0,
            Arch::Aarch64 => self.sections[place].address.unwrap_or(0),
        }
    }

    fn add_symbols(&self, builder: &mut Builder<'static>, places: &[SectionId]) -> Vec<SymbolId> {
        let add = |symbol: &Symbol| {
            let new = builder.symbols.add();
            new.name = symbol.name.into();
            new.set_st_info(symbol.bind, symbol.kind);
            if let Some((place, offset)) = symbol.place {
                new.section = Some(places[place]);
                new.st_value = self.address(place) + offset;
            }
            new.id()
        };
        self.symbols.iter().map(add).collect()
    }

    fn relocatable(
        &self,
        builder: &mut Builder<'static>,
        places: &[SectionId],
        symtab: SectionId,
        symbols: &[SymbolId],
    ) {
        let starts: Vec<_> = places
            .iter()
            .map(|&id| {
                let start = builder.symbols.add();
                start.set_st_info(elf::STB_LOCAL, elf::STT_SECTION);
                start.section = Some(id);
                start.id()
            })
            .collect();
        for (place, &id) in places.iter().enumerate() {
            let relocation = |fixup: &Fixup| {
                let (symbol, addend) = match fixup.target {
                    Target::Inside(place, offset) => (starts[place], offset),
                    Target::Symbol(index) => (symbols[index], 0),
                };
                Relocation {
                    r_offset: fixup.offset,
                    symbol: Some(symbol),
                    r_type: fixup.kind,
                    r_addend: addend.cast_signed(),
                }
            };
            let here = self.fixups.iter().filter(|fixup| fixup.place == place);
            let relocations: Vec<_> = here.map(relocation).collect();
            if !relocations.is_empty() {
                let table = builder.sections.add();
                table.name = ".rela".into();
                table.sh_type = elf::SHT_RELA;
                table.sh_link_section = Some(symtab);
                table.sh_info_section = Some(id);
                table.sh_flags = elf::SHF_INFO_LINK;
                table.data = SectionData::Relocation(relocations);
            }
        }
    }

    fn shared(&self, builder: &mut Builder<'static>, places: &[SectionId]) {
        let symbols: Vec<Option<DynamicSymbolId>> = self
            .symbols
            .iter()
            .map(|symbol| {
                if symbol.bind == elf::STB_LOCAL {
                    return None;
                }
                let new = builder.dynamic_symbols.add();
                new.name = symbol.name.into();
                new.set_st_info(symbol.bind, symbol.kind);
                if let Some((place, offset)) = symbol.place {
                    new.section = Some(places[place]);
                    new.st_value = self.address(place) + offset;
                }
                Some(new.id())
            })
            .collect();
        let relocations = self.fixups.iter().map(|fixup| {
            let (symbol, addend) = match fixup.target {
                Target::Inside(place, offset) => (None, self.address(place) + offset),
                Target::Symbol(index) => (symbols[index], 0),
            };
            DynamicRelocation {
                r_offset: self.address(fixup.place) + fixup.offset,
                symbol,
                r_type: fixup.kind,
                r_addend: addend.cast_signed(),
            }
        });
        let relocations = SectionData::DynamicRelocation(relocations.collect());
        let mut table = |name: &'static str, kind, address, data| {
            let table = builder.sections.add();
            table.name = name.into();
            table.sh_type = kind;
            table.sh_flags = elf::SHF_ALLOC;
            table.sh_addr = address;
            table.sh_offset = address;
            table.sh_addralign = 8;
            table.data = data;
            table.id()
        };
        let dynsym = table(".dynsym", elf::SHT_DYNSYM, DYNSYM, SectionData::DynamicSymbol);
        table(".dynstr", elf::SHT_STRTAB, DYNSTR, SectionData::DynamicString);
        let rela = table(".rela.dyn", elf::SHT_RELA, RELA, relocations);
        builder.sections.get_mut(rela).sh_link_section = Some(dynsym);
        builder.header.e_phoff = builder.file_header_size();
        builder.segments.add().p_type = elf::PT_LOAD;
    }
}

fn add_section(builder: &mut Builder<'static>, section: &Section) -> SectionId {
    let new = builder.sections.add();
    new.name = section.name.into();
    new.sh_type = elf::SHT_PROGBITS;
    new.sh_flags = section.flags;
    new.sh_addralign = 8;
    if let Some(address) = section.address {
        new.sh_flags |= elf::SHF_ALLOC;
        if builder.header.e_type == elf::ET_DYN {
            new.sh_addr = address;
            new.sh_offset = address;
        }
    }
    new.data = SectionData::Data(section.data.clone().into());
    new.id()
}
