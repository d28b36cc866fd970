// SPDX-License-Identifier: BSD-2-Clause
//! A good module passes; for each rule there are modules broken in one way
//! that make exactly that rule fail. They are made here byte by byte, so no
//! compiler is needed and none can hide a defect.

mod elf;

use std::collections::BTreeMap;

use object::elf::*;

use crate::lists::{Entry, List, Lists, Need};
use crate::module::Arch::{self, Aarch64, Amd64};
use crate::report::Report;
use crate::{check, rules};

use elf::{Fixup, Image, Section, Symbol, Target};

const OSVERSION: u32 = 1_500_068;

/// `MDT_*` of sys/module.h.
const DEPEND: u32 = 1;
const MODULE: u32 = 2;
const VERSION: u32 = 3;

/// Sections of every module, in this order.
const TEXT: usize = 0;
const DATA: usize = 1;
const METADATA_SET: usize = 2;
const SYSINIT_SET: usize = 3;
const STACK_SIZES: usize = 4;

/// What a module is made of. [`Spec::new`] gives a good one.
struct Spec {
    arch: Arch,
    code: Vec<u8>,
    /// What a shared object says of its code: `GNU_PROPERTY_AARCH64_FEATURE_1_AND`.
    features: Option<u32>,
    /// The type of the relocation to printf in the code.
    call: RelocationType,
    call_to: &'static str,
    symbols: Vec<Symbol>,
    sections: Vec<Section>,
    /// The module's records: kind, name, number.
    records: Vec<(u32, &'static str, u32)>,
    sysinits: usize,
    /// A shared object names the bounds of its linker sets.
    bounds: bool,
    /// The size of the function's frame.
    frame: Option<u64>,
}

impl Spec {
    fn new(arch: Arch) -> Self {
        Self {
            arch,
            code: match arch {
                Amd64 => vec![0x90, 0xc3], // nop; ret
                Aarch64 => words(&[BTI_C, RET]),
            },
            features: (arch == Aarch64).then_some(3),
            call: match arch {
                Amd64 => R_X86_64_64,
                Aarch64 => R_AARCH64_ABS64,
            },
            call_to: "printf",
            symbols: Vec::new(),
            sections: Vec::new(),
            records: vec![
                (DEPEND, "kernel", OSVERSION),
                (MODULE, "bpfrs", 0),
                (VERSION, "bpfrs", 1),
            ],
            sysinits: 1,
            bounds: true,
            frame: Some(40),
        }
    }

    fn symbol(mut self, name: &'static str, bind: SymbolBind, defined: bool) -> Self {
        self.symbols.push(Symbol {
            name,
            bind,
            kind: STT_OBJECT,
            place: defined.then_some((DATA, 0)),
        });
        self
    }

    /// Puts one behind the first.
    fn instruction(mut self, bytes: &[u8]) -> Self {
        let first = match self.arch {
            Amd64 => 1,
            Aarch64 => 4,
        };
        self.code.splice(first..first, bytes.iter().copied());
        self
    }

    fn function(mut self, name: &'static str, bind: SymbolBind, offset: u64) -> Self {
        let place = Some((TEXT, offset));
        self.symbols.push(Symbol { name, bind, kind: STT_FUNC, place });
        self
    }

    fn section(mut self, name: &'static str, size: usize) -> Self {
        self.sections.push(Section {
            name,
            address: None,
            flags: SectionFlags(0),
            data: vec![0; size],
        });
        self
    }

    fn build(&self) -> Vec<u8> {
        let pointer = match self.arch {
            Amd64 => R_X86_64_64,
            Aarch64 => R_AARCH64_RELATIVE,
        };
        let inside = |place, offset, target, at| Fixup {
            place,
            offset,
            kind: pointer,
            target: Target::Inside(target, at),
        };
        let mut fixups = Vec::new();

        // The records: struct mod_metadata, then its number, then its name.
        let mut data = vec![0; 16];
        for (index, &(kind, name, number)) in self.records.iter().enumerate() {
            let start = data.len() as u64;
            fixups.push(inside(METADATA_SET, index as u64 * 8, DATA, start));
            fixups.push(inside(DATA, start + 8, DATA, start + 24));
            fixups.push(inside(DATA, start + 16, DATA, start + 28));
            data.extend([1, kind].map(u32::to_le_bytes).concat());
            data.extend([0; 16]);
            data.extend(number.to_le_bytes());
            data.extend(name.as_bytes());
            data.resize(data.len().next_multiple_of(8) + 8, 0);
        }
        for index in 0..self.sysinits as u64 {
            fixups.push(inside(SYSINIT_SET, index * 8, DATA, 0));
        }
        // What a SYSINIT calls.
        fixups.push(inside(DATA, 0, TEXT, 0));
        // Code calls printf by a pointer, so any type of relocation fits.
        fixups.push(Fixup { place: DATA, offset: 8, kind: self.call, target: Target::Symbol(1) });
        // The function's address and its frame's size.
        let mut stack_sizes = Vec::new();
        if let Some(frame) = self.frame {
            let address: u64 = match self.arch {
                Amd64 => 0,
                Aarch64 => 0x1000,
            };
            stack_sizes.extend(address.to_le_bytes());
            stack_sizes.extend([(frame & 0x7f | 0x80) as u8, (frame >> 7) as u8]);
            if self.arch == Amd64 {
                fixups.push(inside(STACK_SIZES, 0, TEXT, 0));
            }
        }

        let loaded =
            |name, address, flags, data| Section { name, address: Some(address), flags, data };
        let mut sections = vec![
            loaded(".text", 0x1000, SHF_EXECINSTR, self.code.clone()),
            loaded(".data", 0x2000, SHF_WRITE, data),
            loaded("set_modmetadata_set", 0x3000, SHF_WRITE, vec![0; self.records.len() * 8]),
            loaded("set_sysinit_set", 0x4000, SHF_WRITE, vec![0; self.sysinits * 8]),
            Section {
                name: ".stack_sizes",
                address: None,
                flags: SectionFlags(0),
                data: stack_sizes,
            },
        ];
        if let Some(features) = self.features {
            let note = [4, 16, 5, u32::from_le_bytes(*b"GNU\0"), 0xc000_0000, 4, features, 0];
            let data = words(&note);
            sections.push(loaded(".note.gnu.property", 0x5000, SectionFlags(0), data));
        }
        for extra in &self.sections {
            sections.push(Section { data: extra.data.clone(), ..*extra });
        }

        let symbol = |name, bind, kind, place| Symbol { name, bind, kind, place };
        let mut symbols = vec![
            symbol("entry", STB_LOCAL, STT_FUNC, Some((TEXT, 0))),
            symbol(self.call_to, STB_GLOBAL, STT_NOTYPE, None),
            symbol("__start_set_vnet", STB_GLOBAL, STT_NOTYPE, None),
        ];
        for (name, place) in [
            ("__start_set_modmetadata_set", METADATA_SET),
            ("__stop_set_modmetadata_set", METADATA_SET),
            ("__start_set_sysinit_set", SYSINIT_SET),
            ("__stop_set_sysinit_set", SYSINIT_SET),
        ] {
            let place = (self.arch == Aarch64 && self.bounds).then_some((place, 0));
            symbols.push(symbol(name, STB_WEAK, STT_NOTYPE, place));
        }
        symbols.extend(self.symbols.iter().cloned());
        let image = Image { arch: self.arch, sections, symbols, fixups };
        image.write()
    }

    fn report(&self) -> Report {
        let bytes = self.build();
        check(&bytes, &bytes, &lists(), &[]).unwrap()
    }

    /// Asserts that this rule fails, and only this one, and what it says.
    #[track_caller]
    fn breaks(&self, rule: &str, message: &str) {
        let report = self.report();
        assert_eq!(report.failed().collect::<Vec<_>>(), [rule], "{report}");
        let violations = &report.finding(rule).violations;
        assert!(violations.iter().any(|v| v.contains(message)), "no '{message}' in:\n{report}");
    }
}

const BTI_C: u32 = 0xd503_245f;
const RET: u32 = 0xd65f_03c0;

fn words(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

fn entry(need: Need) -> Entry {
    Entry { need, header: "sys/systm.h".to_owned() }
}

fn lists() -> Lists {
    Lists {
        provided: List::new(),
        sanitizer: List::new(),
        symbols: BTreeMap::from([(15, List::from([("printf".to_owned(), entry(Need::Always))]))]),
        exports: List::new(),
    }
}

#[test]
fn good_modules_pass() {
    for arch in [Amd64, Aarch64] {
        let report = Spec::new(arch).report();
        assert!(report.passed(), "{report}");
        let metadata = &report.finding("metadata").summary;
        assert_eq!(metadata, "module bpfrs version 1, kernel from 1500068, 1 sysinits");
        assert!(report.finding("undefined").summary.starts_with("1 kernel"));
        assert!(report.finding("stack").summary.contains("40 bytes"));
    }
}

#[test]
fn a_large_file_breaks_size() {
    Spec::new(Amd64).section(".comment", rules::MAX_SIZE).breaks("size", "bytes too large");
}

#[test]
fn unknown_relocations_break_relocations() {
    let with = |arch, call| Spec { call, ..Spec::new(arch) };
    with(Amd64, R_X86_64_32).breaks("relocations", "R_X86_64_32 in .data");
    with(Amd64, R_X86_64_GOTPCREL).breaks("relocations", "R_X86_64_GOTPCREL");
    with(Amd64, R_X86_64_REX_GOTPCRELX).breaks("relocations", "to printf");
    with(Aarch64, R_AARCH64_CALL26).breaks("relocations", "R_AARCH64_CALL26");
    with(Aarch64, R_AARCH64_TLSDESC).breaks("relocations", "R_AARCH64_TLSDESC");
}

#[test]
fn floating_point_breaks_instructions() {
    for (bytes, text) in [
        (&[0x0f, 0x28, 0xc1][..], "movaps"),
        (&[0xf2, 0x0f, 0x58, 0xc1], "addsd"),
        (&[0x66, 0x0f, 0xef, 0xc0], "pxor"),
        (&[0xc5, 0xfc, 0x28, 0xc1], "vmovaps"),
        (&[0xc5, 0xf8, 0x77], "vzeroupper"),
        (&[0x62, 0xf1, 0x7c, 0x48, 0x28, 0xc1], "vmovaps"),
        (&[0x0f, 0x77], "emms"),
        (&[0x0f, 0x6e, 0xc0], "movd"),
        (&[0xd9, 0xe8], "fld1"),
        (&[0xdb, 0xe3], "fninit"),
        (&[0x0f, 0xae, 0x00], "fxsave"),
        (&[0x0f, 0xae, 0x18], "stmxcsr"),
        (&[0x0f, 0x0b, 0x06], "no instruction"),
    ] {
        Spec::new(Amd64).instruction(bytes).breaks("instructions", text);
    }
    for (word, text) in [
        (0x1e60_2820_u32, "fadd"),
        (0x4e20_1c00, "and v0"),
        (0x3dc0_0000, "ldr q0"),
        (0x6d00_0400, "stp d0"),
        (0x9e66_0000, "fmov"),
        (0x4c40_7000, "ld1"),
    ] {
        Spec::new(Aarch64).instruction(&word.to_le_bytes()).breaks("instructions", text);
    }
}

/// Instructions of the vector extensions that use no such register.
#[test]
fn fences_and_prefetches_are_allowed() {
    for bytes in [
        &[0x0f, 0xae, 0xe8][..],               // lfence
        &[0x0f, 0xae, 0xf0],                   // mfence
        &[0x0f, 0x18, 0x08],                   // prefetcht0
        &[0x0f, 0xc3, 0x07],                   // movnti
        &[0xf3, 0x90],                         // pause
        &[0xf0, 0x48, 0x0f, 0xb1, 0x0f],       // lock cmpxchg
        &[0x66, 0x0f, 0x1f, 0x44, 0x00, 0x00], // nop
    ] {
        let report = Spec::new(Amd64).instruction(bytes).report();
        assert!(report.passed(), "{report}");
    }
    for word in [
        0xd503_3bbf_u32, // dmb ish
        0xf980_0000,     // prfm
        0xc85f_7c00,     // ldxr
        0xc8df_fc00,     // ldar
        0xd503_233f,     // paciasp
        0xd503_245f,     // bti c
    ] {
        let report = Spec::new(Aarch64).instruction(&word.to_le_bytes()).report();
        assert!(report.passed(), "{report}");
    }
}

/// A step of the threaded machine that has this code.
fn handler(arch: Arch, code: &[u8]) -> Spec {
    let spec = Spec { code: code.to_vec(), ..Spec::new(arch) };
    spec.function("bpfrs_filter::handlers::test", STB_LOCAL, 0)
}

#[test]
fn steps_that_do_not_jump_break_threading() {
    let (br, blr) = (0xd61f_0020, 0xd63f_0020);
    for (arch, jump, call, neither) in [
        // jmp rax; jmp rax, call [rdi], ret; ret
        (Amd64, vec![0xff, 0xe0], vec![0xff, 0xe0, 0xff, 0x17, 0xc3], vec![0xc3]),
        (Aarch64, words(&[BTI_C, br]), words(&[BTI_C, br, blr, RET]), words(&[BTI_C, RET])),
    ] {
        let report = handler(arch, &jump).report();
        assert!(report.passed(), "{report}");
        assert_eq!(
            report.finding("threading").summary,
            "1 functions, 1 jumps to the next one, no calls"
        );
        handler(arch, &call).breaks("threading", "handlers::test calls the next one");
        handler(arch, &neither).breaks("threading", "none of 1 functions jumps");
    }
}

#[test]
fn code_without_landing_pads_breaks_landing() {
    let new = || Spec::new(Aarch64);
    let with = |features| Spec { features, ..new() };
    with(None).breaks("landing", "no note");
    with(Some(2)).breaks("landing", "an object was built without landing pads");
    // The linker's set points to the first function.
    let nop = 0xd503_201f;
    for (first, lands) in [
        (BTI_C, true),
        (0xd503_24df, true),  // bti jc
        (0xd503_233f, true),  // paciasp
        (0xd503_249f, false), // bti j: for jumps only
        (nop, false),
    ] {
        let spec = Spec { code: words(&[first, RET]), ..new() };
        if lands {
            let report = spec.report();
            assert!(report.passed(), "{report}");
            assert_eq!(report.finding("landing").summary, "1 functions whose address is taken");
        } else {
            spec.breaks("landing", "entry at 0x1000: its address is taken");
        }
    }
    // No relocation tells of an address that is computed. Text is at 0x1000.
    let second = |at: &[u32]| {
        let code = words(&[&[BTI_C], at, &[RET, nop, RET]].concat());
        let offset = code.len() as u64 - 8;
        let stacked = Spec { code, ..new() }.function("second", STB_LOCAL, offset);
        let report = stacked.report();
        // It has no frame's size either, and that is another rule.
        let landing = report.finding("landing").violations.clone();
        (landing, report)
    };
    let adr = 0x1000_0040; // adr x0, .+8
    let (adrp, add) = (0x9000_0000, 0x9100_4000); // adrp x0, .; add x0, x0, #0x10
    for (code, taken) in [
        (&[adr][..], true),
        (&[adrp, add], true),
        (&[adrp, nop, 0x9100_5001], true), // add x1, x0, #0x14
        (&[adrp, nop, add], false),        // not to its beginning
        (&[nop, add], false),              // no page
        (&[adrp, 0x9100_4020], false),     // add x0, x1, #0x10
        (&[nop], false),
    ] {
        let (landing, report) = second(code);
        assert_eq!(!landing.is_empty(), taken, "{code:x?}: {report}");
        assert!(landing.iter().all(|line| line.starts_with("second at 0x10")), "{report}");
    }
    // A pad is not asked for where no processor knows them.
    assert!(Spec::new(Amd64).report().passed());
}

#[test]
fn an_exported_function_needs_a_landing_pad() {
    let mut lists = lists();
    lists.exports.insert("bpfrs_tap".to_owned(), entry(Need::Always));
    let bytes = Spec::new(Aarch64).function("bpfrs_tap", STB_GLOBAL, 4).build();
    let report = check(&bytes, &bytes, &lists, &[]).unwrap();
    let violations = &report.finding("landing").violations;
    assert_eq!(*violations, ["bpfrs_tap at 0x1004: its address is taken, but it begins with none"]);
}

#[test]
fn an_emitter_for_another_processor_breaks_emitter() {
    let with = |arch| Spec::new(arch).symbol("bpfrs_filter::amd64::emit", STB_LOCAL, true);
    with(Aarch64).breaks("emitter", "1 symbols");
    assert!(with(Amd64).report().passed());
}

#[test]
fn a_module_without_code_breaks_instructions() {
    let spec = Spec { code: Vec::new(), ..Spec::new(Amd64) };
    spec.breaks("instructions", "no code");
}

#[test]
fn unwinding_breaks_unwinder() {
    for arch in [Amd64, Aarch64] {
        Spec::new(arch)
            .symbol("rust_eh_personality", STB_LOCAL, true)
            .breaks("unwinder", "rust_eh_personality");
        Spec::new(arch)
            .symbol("_Unwind_Resume", STB_LOCAL, true)
            .breaks("unwinder", "_Unwind_Resume");
        Spec::new(arch).section(".gcc_except_table", 8).breaks("unwinder", ".gcc_except_table");
    }
}

#[test]
fn unlisted_symbols_break_undefined() {
    for arch in [Amd64, Aarch64] {
        Spec::new(arch)
            .symbol("bpf_mtap", STB_GLOBAL, false)
            .breaks("undefined", "bpf_mtap is not on the list freebsd15.txt");
    }
}

#[test]
fn what_a_sanitizer_needs_is_for_instrumented_modules() {
    let mut spec = Spec::new(Amd64).symbol("__asan_load8_noabort", STB_GLOBAL, false);
    // In printf's place.
    spec.call_to = "kasan_printf";
    spec.breaks("undefined", "__asan_load8_noabort is not on the list freebsd15.txt");
    spec.breaks("undefined", "kasan_printf is not on the list freebsd15.txt");
    let mut lists = lists();
    let called = Entry { need: Need::Sometimes, header: String::new() };
    lists.sanitizer.insert("__asan_load8_noabort".to_owned(), called);
    lists.sanitizer.insert("kasan_printf".to_owned(), entry(Need::Sometimes));
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(folder.path().join("sys")).unwrap();
    let bytes = spec.build();
    let report = |text: &str| {
        std::fs::write(folder.path().join("sys/systm.h"), text).unwrap();
        check(&bytes, &bytes, &lists, &[folder.path().to_owned()]).unwrap()
    };
    let report_of_both = report("int SAN_INTERCEPTOR(printf)(const char *, ...);");
    assert!(report_of_both.passed(), "{report_of_both}");
    // printf is needed: by another name.
    assert!(report_of_both.finding("undefined").warnings.is_empty(), "{report_of_both}");
    let report = report("");
    assert_eq!(
        report.finding("headers").violations,
        ["kasan_printf is not declared in sys/systm.h"]
    );
}

#[test]
fn weak_symbols_break_undefined() {
    Spec::new(Amd64).symbol("memset", STB_WEAK, false).breaks("undefined", "memset is weak");
}

#[test]
fn a_release_without_a_list_breaks_undefined() {
    let mut spec = Spec::new(Amd64);
    spec.records[0].2 = 1_600_000;
    spec.breaks("undefined", "there is no list freebsd16.txt");
}

#[test]
fn a_listed_symbol_that_is_not_needed_is_a_warning() {
    let mut lists = lists();
    for list in lists.symbols.values_mut() {
        list.insert("uprintf".to_owned(), entry(Need::Always));
        list.insert("__mtx_assert".to_owned(), entry(Need::Sometimes));
    }
    let bytes = Spec::new(Amd64).build();
    let report = check(&bytes, &bytes, &lists, &[]).unwrap();
    assert!(report.passed());
    assert_eq!(report.finding("undefined").warnings, ["uprintf is on the list, but not needed"]);
}

#[test]
fn a_symbol_must_be_declared_where_the_list_says() {
    let folder = tempfile::tempdir().unwrap();
    let bytes = Spec::new(Amd64).build();
    let report = |text: Option<&str>| {
        if let Some(text) = text {
            std::fs::create_dir_all(folder.path().join("sys")).unwrap();
            std::fs::write(folder.path().join("sys/systm.h"), text).unwrap();
        }
        check(&bytes, &bytes, &lists(), &[folder.path().to_owned()]).unwrap()
    };
    for (text, violation) in [
        (None, "printf: there is no sys/systm.h"),
        (Some("int vprintf(const char *); int printf_(int);"), "printf is not declared in sys/"),
    ] {
        let report = report(text);
        assert_eq!(report.failed().collect::<Vec<_>>(), ["headers"]);
        assert!(report.finding("headers").violations[0].starts_with(violation), "{report}");
    }
    assert!(report(Some("int\tprintf(const char *, ...);")).passed());
}

#[test]
fn exported_symbols_break_globals() {
    for arch in [Amd64, Aarch64] {
        for bind in [STB_GLOBAL, STB_WEAK] {
            Spec::new(arch)
                .symbol("bpf_attachd", bind, true)
                .breaks("globals", "bpf_attachd is exported: that name is");
            Spec::new(arch)
                .symbol("bpfrs_stats", bind, true)
                .breaks("globals", "bpfrs_stats is exported, but not listed");
        }
    }
}

#[test]
fn a_listed_export_must_be_there() {
    let mut lists = lists();
    lists.exports.insert("bpfrs_tap".to_owned(), entry(Need::Always));
    let bytes = Spec::new(Amd64).build();
    let report = check(&bytes, &bytes, &lists, &[]).unwrap();
    assert_eq!(report.failed().collect::<Vec<_>>(), ["globals"]);

    let bytes = Spec::new(Amd64).symbol("bpfrs_tap", STB_GLOBAL, true).build();
    assert!(check(&bytes, &bytes, &lists, &[]).unwrap().passed());
}

#[test]
fn incomplete_metadata_breaks_metadata() {
    for arch in [Amd64, Aarch64] {
        for (missing, message) in
            [(0, "no dependency on the kernel"), (1, "no DECLARE_MODULE"), (2, "no MODULE_VERSION")]
        {
            let mut spec = Spec::new(arch);
            spec.records.remove(missing);
            spec.breaks("metadata", message);
        }
        let mut spec = Spec::new(arch);
        spec.records[2].1 = "other";
        spec.breaks("metadata", "MODULE_VERSION is of other");
        let mut spec = Spec::new(arch);
        spec.records.push((MODULE, "second", 0));
        spec.breaks("metadata", "more than one DECLARE_MODULE");
        let spec = Spec { sysinits: 0, ..Spec::new(arch) };
        spec.breaks("metadata", "no SYSINIT");
    }
}

#[test]
fn a_shared_object_must_name_its_linker_sets() {
    let spec = Spec { bounds: false, ..Spec::new(Aarch64) };
    spec.breaks("metadata", "__start_set_modmetadata_set");
}

#[test]
fn large_frames_break_stack() {
    for arch in [Amd64, Aarch64] {
        let with = |frame| Spec { frame: Some(frame), ..Spec::new(arch) };
        with(2056).breaks("stack", "entry: 2056 bytes");
        let report = with(2048).report();
        assert!(report.passed(), "{report}");
    }
}

#[test]
fn missing_stack_sizes_break_stack() {
    let spec = Spec { frame: None, ..Spec::new(Amd64) };
    spec.breaks("stack", "missing or empty");
}

#[test]
fn a_function_without_a_size_breaks_stack() {
    let spec = Spec::new(Amd64).function("second", STB_LOCAL, 1);
    spec.breaks("stack", "second: frame unknown");
}

#[test]
fn files_of_the_wrong_kind_are_refused() {
    let error = |bytes: &[u8]| {
        let good = Spec::new(Amd64).build();
        check(bytes, &good, &lists(), &[]).err().unwrap().to_string()
    };
    let e_type = 16;
    let e_machine = 18;
    let mut shared = Spec::new(Amd64).build();
    shared[e_type] = 3;
    assert!(error(&shared).contains("not a relocatable object"));
    let mut arm = Spec::new(Amd64).build();
    arm[e_machine] = 40;
    assert!(error(&arm).contains("neither amd64 nor aarch64"));
    assert!(!error(b"").is_empty());
    assert!(!error(&Spec::new(Amd64).build()[..100]).is_empty());
}
