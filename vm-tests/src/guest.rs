// SPDX-License-Identifier: BSD-2-Clause
//! What there is to boot: guest folders and FreeBSD VM images.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use clap::ValueEnum;
use serde::Deserialize;

/// How to get a guest, for whoever has none.
pub(crate) const HOW_TO_GET_ONE: &str = "\
an official FreeBSD VM image will do: from download.freebsd.org, under releases/VM-IMAGES/, take \
FreeBSD-15.0-RELEASE-amd64-BASIC-CI-ufs.raw.xz, unpack it (xz -d) and put it into that folder, or let \
BPFRS_GUEST name it; vm-tests/README.md has the details";

/// One FreeBSD to boot.
#[derive(Clone, Debug)]
pub(crate) struct Guest {
    /// For the reports: the folder's or the image's name.
    pub(crate) name: String,
    /// FreeBSD's release, such as "15.0"; empty when nobody said.
    pub(crate) release: String,
    /// What it runs on.
    pub(crate) arch: Arch,
    /// How it boots.
    pub(crate) boot: Boot,
    /// Its kernel has INVARIANTS, WITNESS and DEBUG_MEMGUARD.
    pub(crate) debug: bool,
    /// What its kernel was instrumented by; our modules must be, too.
    pub(crate) sanitizer: Option<Sanitizer>,
    /// Sources and build directory of its kernel, for building modules; else FreeBSD's released headers do.
    pub(crate) sysdir: Option<PathBuf>,
    pub(crate) kernbuilddir: Option<PathBuf>,
}

impl Guest {
    /// What to build modules from: what is wanted, or the other where there is only that.
    pub(crate) fn basis(&self, wanted: Basis) -> Basis {
        match wanted {
            Basis::Sources if self.sysdir.is_none() => Basis::Headers,
            // Without sources it is for the build to say that there are no headers, either.
            Basis::Headers if self.sysdir.is_some() && !HEADERS.contains(&self.major()) => {
                Basis::Sources
            }
            wanted => wanted,
        }
    }

    /// The same for several, each once.
    pub(crate) fn bases(&self, wanted: &[Basis]) -> Vec<Basis> {
        let mut bases: Vec<Basis> = wanted.iter().map(|wanted| self.basis(*wanted)).collect();
        bases.dedup();
        bases
    }

    /// "15.0" → "15".
    pub(crate) fn major(&self) -> &str {
        self.release.split('.').next().unwrap_or_default()
    }

    /// What it is, for whoever reads a table.
    pub(crate) fn kernel(&self) -> String {
        let sanitizer = self.sanitizer.map(Sanitizer::kernel);
        let words: Vec<&str> = self.debug.then_some("debug").into_iter().chain(sanitizer).collect();
        if words.is_empty() { "plain".into() } else { words.join(" ") }
    }
}

/// Releases whose headers the build finds.
const HEADERS: [&str; 2] = ["14", "15"];

/// What a guest consists of.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Boot {
    /// A kernel file, and a root file system: an image of one, or a folder to make it from.
    Kernel { kernel: PathBuf, root: PathBuf },
    /// A disk with everything on it, its own loader included.
    Image { path: PathBuf, format: &'static str, firmware: Firmware },
}

/// A processor's architecture.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Arch {
    #[default]
    Amd64,
    Aarch64,
}

impl Arch {
    /// FreeBSD's name, and that of `make kmod ARCH=`.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Amd64 => "amd64",
            Self::Aarch64 => "aarch64",
        }
    }

    /// QEMU's name, and Rust's.
    pub(crate) fn cpu(self) -> &'static str {
        match self {
            Self::Amd64 => "x86_64",
            Self::Aarch64 => "aarch64",
        }
    }
}

/// A sanitizer of the kernel: KASAN, KMSAN, KCSAN.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Sanitizer {
    Address,
    Memory,
    Thread,
}

impl Sanitizer {
    /// The name of `make kmod SANITIZE=`.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Address => "address",
            Self::Memory => "memory",
            Self::Thread => "thread",
        }
    }

    /// What is said of its kernel.
    pub(crate) fn kernel(self) -> &'static str {
        match self {
            Self::Address => "KASAN",
            Self::Memory => "KMSAN",
            Self::Thread => "KCSAN",
        }
    }
}

/// What a module is built from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Basis {
    /// FreeBSD's released headers, as whoever has no sources builds it
    Headers,
    /// The sources of that very kernel
    Sources,
}

impl Basis {
    /// For titles.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Headers => "headers",
            Self::Sources => "sources",
        }
    }
}

/// What finds the loader on a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Firmware {
    Bios,
    Uefi,
}

/// guest.toml; every key may be left out.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Settings {
    release: Option<String>,
    #[serde(default)]
    arch: Arch,
    kernel: Option<PathBuf>,
    root: Option<PathBuf>,
    image: Option<PathBuf>,
    firmware: Option<Firmware>,
    #[serde(default)]
    debug: bool,
    sanitizer: Option<Sanitizer>,
    sysdir: Option<PathBuf>,
    kernbuilddir: Option<PathBuf>,
}

/// All guests at `place`: at least one, or an error.
pub(crate) fn find(place: &Path) -> Result<Vec<Guest>> {
    ensure!(place.exists(), "{}: no such file or folder", place.display());
    if let Some(guest) = one(place)? {
        return Ok(vec![guest]);
    }
    ensure!(
        place.is_dir(),
        "{}: neither a folder nor a .raw, .img or .qcow2 image",
        place.display()
    );
    let entries = fs::read_dir(place).with_context(|| format!("{}", place.display()))?;
    let mut paths: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    // The guest with the debug kernel last: it finds most, and takes longest.
    paths.sort_by_key(|path| (path.ends_with("debug"), path.clone()));
    let mut guests = Vec::new();
    for path in paths {
        guests.extend(one(&path)?);
    }
    ensure!(!guests.is_empty(), "{}: no guest in that folder", place.display());
    Ok(guests)
}

/// The guest that `path` itself is, if it is one.
fn one(path: &Path) -> Result<Option<Guest>> {
    if path.is_dir() {
        let file = path.join("guest.toml");
        if file.exists() {
            let text = fs::read_to_string(&file).with_context(|| format!("{}", file.display()))?;
            // One line: what toml says over several is in the first.
            let settings: Settings = toml::from_str(&text).map_err(|error| {
                let problem = error.message().lines().next().unwrap_or_default().to_string();
                anyhow::anyhow!("{}: {problem}", file.display())
            })?;
            return folder(path, settings).map(Some);
        }
        if path.join("kernel").exists() {
            return folder(path, Settings::default()).map(Some);
        }
        return Ok(None);
    }
    let Some(format) = image_format(path) else {
        return Ok(None);
    };
    check_image(path, format)?;
    let name = name_of(path);
    let arch = arch_in(&name);
    Ok(Some(Guest {
        release: release_in(&name),
        arch,
        boot: Boot::Image { path: path.into(), format, firmware: usual_firmware(arch, path)? },
        debug: false,
        sanitizer: None,
        sysdir: None,
        kernbuilddir: None,
        name,
    }))
}

/// What an image boots by, unless said otherwise. Official ones of amd64 boot by both.
fn usual_firmware(arch: Arch, image: &Path) -> Result<Firmware> {
    // GPT's header, in the second sector, and after it its entries. freebsd-boot is what the BIOS
    // way needs: 83bd6b9d-7f41-11dc-be0b-001560b84f0f.
    const HEADER: &[u8] = b"EFI PART";
    const FREEBSD_BOOT: &[u8] = b"\x9d\x6b\xbd\x83\x41\x7f\xdc\x11\xbe\x0b\x00\x15\x60\xb8\x4f\x0f";
    const ENTRIES: std::ops::Range<u64> = 0..128;
    if arch == Arch::Aarch64 {
        return Ok(Firmware::Uefi);
    }
    if !holds(image, 512, HEADER)? {
        return Ok(Firmware::Bios);
    }
    for entry in ENTRIES {
        if holds(image, 1024 + 128 * entry, FREEBSD_BOOT)? {
            return Ok(Firmware::Bios);
        }
    }
    Ok(Firmware::Uefi)
}

fn folder(path: &Path, settings: Settings) -> Result<Guest> {
    let arch = settings.arch;
    let boot = if let Some(image) = settings.image {
        ensure!(
            settings.kernel.is_none() && settings.root.is_none(),
            "{}: guest.toml: either an image, or a kernel and a root",
            path.display()
        );
        let image = path.join(image);
        let Some(format) = image_format(&image) else {
            bail!("{}: neither .raw, .img nor .qcow2", image.display());
        };
        check_image(&image, format)?;
        let firmware = match settings.firmware {
            Some(firmware) => firmware,
            None => usual_firmware(arch, &image)?,
        };
        ensure!(
            arch == Arch::Amd64 || firmware == Firmware::Uefi,
            "{}: guest.toml: {} machines have no BIOS",
            path.display(),
            arch.name()
        );
        Boot::Image { path: image, format, firmware }
    } else {
        ensure!(
            settings.firmware.is_none(),
            "{}: guest.toml: only an image is found by firmware",
            path.display()
        );
        let usual = match arch {
            Arch::Amd64 => "kernel",
            Arch::Aarch64 => "kernel.bin",
        };
        let kernel = path.join(settings.kernel.unwrap_or_else(|| usual.into()));
        let root = path.join(settings.root.unwrap_or_else(|| "root.img".into()));
        match arch {
            Arch::Amd64 => {
                ensure!(holds(&kernel, 0, b"\x7fELF")?, "{}: no ELF kernel", kernel.display())
            }
            // The header of Linux' boot protocol, which QEMU asks for.
            Arch::Aarch64 => ensure!(
                holds(&kernel, 56, b"ARM\x64")?,
                "{}: no kernel.bin of FreeBSD/arm64 (the build makes it beside the kernel)",
                kernel.display()
            ),
        }
        let root_size = fs::metadata(&root).with_context(|| format!("{}", root.display()))?.len();
        ensure!(root_size > 0, "{}: empty", root.display());
        Boot::Kernel { kernel, root }
    };
    let existing = |folder: Option<PathBuf>| match folder {
        Some(folder) => {
            let folder = path.join(folder);
            ensure!(folder.is_dir(), "{}: no such folder (guest.toml)", folder.display());
            Ok(Some(folder))
        }
        None => Ok(None),
    };
    Ok(Guest {
        name: name_of(path),
        release: settings.release.unwrap_or_default(),
        arch,
        boot,
        debug: settings.debug,
        sanitizer: settings.sanitizer,
        sysdir: existing(settings.sysdir)?,
        kernbuilddir: existing(settings.kernbuilddir)?,
    })
}

fn name_of(path: &Path) -> String {
    let name = if path.is_dir() { path.file_name() } else { path.file_stem() };
    name.map_or_else(|| "guest".into(), |name| name.to_string_lossy().into_owned())
}

fn image_format(path: &Path) -> Option<&'static str> {
    match path.extension()?.to_str()? {
        "qcow2" => Some("qcow2"),
        "raw" | "img" => Some("raw"),
        _ => None,
    }
}

fn check_image(path: &Path, format: &str) -> Result<()> {
    if format == "qcow2" {
        ensure!(holds(path, 0, b"QFI\xfb")?, "{}: not a qcow2 image", path.display());
    } else {
        let size = fs::metadata(path).with_context(|| format!("{}", path.display()))?.len();
        ensure!(size >= 1 << 20, "{}: {size} bytes are no disk image", path.display());
        ensure!(!holds(path, 0, b"\xfd7zXZ\0")?, "{}: still compressed (xz -d it)", path.display());
        // The protective record before a GPT ends so, too.
        ensure!(
            holds(path, 510, b"\x55\xaa")?,
            "{}: no disk that boots: it has no partition table",
            path.display()
        );
    }
    Ok(())
}

/// Whether there are these bytes at that offset of a file.
fn holds(path: &Path, offset: u64, magic: &[u8]) -> Result<bool> {
    use std::io::{Read, Seek, SeekFrom};
    let mut file = fs::File::open(path).with_context(|| format!("{}", path.display()))?;
    let mut bytes = vec![0; magic.len()];
    file.seek(SeekFrom::Start(offset)).with_context(|| format!("{}", path.display()))?;
    Ok(file.read_exact(&mut bytes).is_ok() && bytes == magic)
}

/// "FreeBSD-15.0-RELEASE-amd64-…" → "15.0".
fn release_in(name: &str) -> String {
    name.strip_prefix("FreeBSD-")
        .and_then(|rest| rest.split('-').next())
        .unwrap_or_default()
        .to_string()
}

/// "FreeBSD-15.0-RELEASE-arm64-aarch64-…" → aarch64.
fn arch_in(name: &str) -> Arch {
    if name.split('-').any(|part| part == "aarch64") { Arch::Aarch64 } else { Arch::Amd64 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(place: &Path) -> String {
        find(place).expect_err("must be refused").to_string()
    }

    #[test]
    fn nothing_there_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        assert!(problem(&folder.path().join("absent")).contains("no such file"));
        assert!(problem(folder.path()).contains("no guest in"));
    }

    #[test]
    fn what_modules_are_built_from() {
        use Basis::{Headers, Sources};
        let folder = tempfile::tempdir().unwrap();
        let bases = |settings: &str, wanted: &[Basis]| {
            fs::write(folder.path().join("guest.toml"), settings).unwrap();
            find(folder.path()).unwrap().remove(0).bases(wanted)
        };
        fs::write(folder.path().join("kernel"), b"\x7fELF...").unwrap();
        fs::write(folder.path().join("root.img"), b"x").unwrap();
        let with_sources = "sysdir = \".\"\nrelease = \"15.0\"";
        assert_eq!(bases(with_sources, &[Headers, Sources]), [Headers, Sources]);
        assert_eq!(bases(with_sources, &[Headers]), [Headers]);
        assert_eq!(bases(with_sources, &[Sources]), [Sources]);
        assert_eq!(bases("release = \"14.3\"", &[Headers, Sources]), [Headers]);
        // There are no headers of it, and no sources: the one that says so is tried.
        assert_eq!(bases("release = \"13.5\"", &[Sources]), [Headers]);
        let old = "sysdir = \".\"\nrelease = \"12.1\"";
        assert_eq!(bases(old, &[Headers, Sources]), [Sources]);
        assert_eq!(bases(old, &[Headers]), [Sources]);
    }

    #[test]
    fn a_folder_of_guests() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["debug", "plain"] {
            let guest = folder.path().join(name);
            fs::create_dir(&guest).unwrap();
            fs::write(guest.join("kernel"), b"\x7fELF...").unwrap();
            fs::write(guest.join("root.img"), b"x").unwrap();
        }
        fs::write(folder.path().join("debug/guest.toml"), "debug = true\nrelease = \"12.1\"")
            .unwrap();
        let guests = find(folder.path()).unwrap();
        let names: Vec<_> = guests.iter().map(|g| (g.name.as_str(), g.debug)).collect();
        assert_eq!(names, [("plain", false), ("debug", true)]);
        assert_eq!(guests[1].release, "12.1");
        assert_eq!(find(&folder.path().join("plain")).unwrap().len(), 1);
    }

    #[test]
    fn an_official_image() {
        let folder = tempfile::tempdir().unwrap();
        let image = folder.path().join("FreeBSD-15.0-RELEASE-amd64-BASIC-CI-ufs.raw");
        fs::write(&image, disk()).unwrap();
        let guests = find(&image).unwrap();
        assert_eq!((guests[0].release.as_str(), guests[0].arch), ("15.0", Arch::Amd64));
        let boot = |path, firmware| Boot::Image { path, format: "raw", firmware };
        assert_eq!(guests[0].boot, boot(image, Firmware::Bios));
        assert_eq!(find(folder.path()).unwrap().len(), 1);
        let image = folder.path().join("FreeBSD-14.3-RELEASE-arm64-aarch64-BASIC-CI-ufs.raw");
        fs::write(&image, disk()).unwrap();
        let guests = find(&image).unwrap();
        assert_eq!((guests[0].release.as_str(), guests[0].arch), ("14.3", Arch::Aarch64));
        assert_eq!(guests[0].boot, boot(image, Firmware::Uefi));
    }

    #[test]
    fn a_disk_without_a_bios_loader_boots_by_uefi() {
        let folder = tempfile::tempdir().unwrap();
        let image = folder.path().join("disk.raw");
        let firmware = |disk: &[u8]| {
            fs::write(&image, disk).unwrap();
            match find(&image).unwrap().remove(0).boot {
                Boot::Image { firmware, .. } => firmware,
                other => panic!("{other:?}"),
            }
        };
        let mut disk = disk();
        assert_eq!(firmware(&disk), Firmware::Bios);
        disk[512..520].copy_from_slice(b"EFI PART");
        assert_eq!(firmware(&disk), Firmware::Uefi);
        let boot = 0x83bd_6b9d_u32.to_le_bytes();
        disk[1152..1156].copy_from_slice(&boot);
        assert_eq!(firmware(&disk), Firmware::Uefi);
        disk[1156..1168].copy_from_slice(b"\x41\x7f\xdc\x11\xbe\x0b\x00\x15\x60\xb8\x4f\x0f");
        assert_eq!(firmware(&disk), Firmware::Bios);
    }

    /// An empty disk with a boot record.
    fn disk() -> Vec<u8> {
        let mut disk = vec![0; 1 << 20];
        disk[510..512].copy_from_slice(b"\x55\xaa");
        disk
    }

    #[test]
    fn an_arm64_kernel_under_its_sanitizer() {
        let folder = tempfile::tempdir().unwrap();
        let at = folder.path();
        fs::write(at.join("guest.toml"), "arch = \"aarch64\"\nsanitizer = \"address\"").unwrap();
        fs::write(at.join("kernel"), b"\x7fELF...").unwrap();
        fs::write(at.join("root.img"), "x").unwrap();
        assert!(problem(at).contains("kernel.bin"), "{}", problem(at));
        fs::write(at.join("kernel.bin"), [vec![0; 56].as_slice(), b"ARM\x64"].concat()).unwrap();
        let guest = find(at).unwrap().remove(0);
        assert_eq!((guest.arch, guest.sanitizer), (Arch::Aarch64, Some(Sanitizer::Address)));
        assert_eq!(
            guest.boot,
            Boot::Kernel { kernel: at.join("kernel.bin"), root: at.join("root.img") }
        );
    }

    #[test]
    fn broken_ones_are_refused_in_one_line() {
        let folder = tempfile::tempdir().unwrap();
        let at = folder.path();
        fs::write(at.join("guest.toml"), "debgu = true").unwrap();
        assert!(problem(at).contains("unknown field `debgu`"), "{}", problem(at));
        fs::write(at.join("guest.toml"), "arch = \"arm64\"").unwrap();
        assert!(problem(at).contains("`amd64` or `aarch64`"), "{}", problem(at));
        assert_eq!(problem(at).lines().count(), 1);
        fs::write(at.join("guest.toml"), "sanitizer = \"addres\"").unwrap();
        assert!(problem(at).contains("unknown variant `addres`"), "{}", problem(at));
        fs::write(at.join("guest.toml"), "firmware = \"uefi\"").unwrap();
        assert!(problem(at).contains("only an image"), "{}", problem(at));
        fs::write(at.join("guest.toml"), "").unwrap();
        assert!(problem(at).contains("kernel"), "{}", problem(at));
        fs::write(at.join("kernel"), "#!/bin/sh").unwrap();
        assert!(problem(at).contains("no ELF kernel"), "{}", problem(at));
        fs::write(at.join("kernel"), b"\x7fELF...").unwrap();
        assert!(problem(at).contains("root.img"), "{}", problem(at));
        fs::write(at.join("root.img"), "").unwrap();
        assert!(problem(at).contains("empty"), "{}", problem(at));
        fs::write(at.join("guest.toml"), "image = \"disk.qcow2\"\nroot = \"x\"").unwrap();
        assert!(problem(at).contains("either"), "{}", problem(at));
        fs::write(at.join("guest.toml"), "image = \"disk.qcow2\"").unwrap();
        fs::write(at.join("disk.qcow2"), "nonsense").unwrap();
        assert!(problem(at).contains("not a qcow2 image"), "{}", problem(at));
        fs::write(at.join("guest.toml"), "image = \"disk.raw\"").unwrap();
        fs::write(at.join("disk.raw"), vec![0; 1 << 20]).unwrap();
        assert!(problem(at).contains("no partition table"), "{}", problem(at));
        fs::write(at.join("disk.raw"), disk()).unwrap();
        fs::write(
            at.join("guest.toml"),
            "image = \"disk.raw\"\narch = \"aarch64\"\nfirmware = \"bios\"",
        )
        .unwrap();
        assert!(problem(at).contains("no BIOS"), "{}", problem(at));
        fs::write(at.join("guest.toml"), "sysdir = \"nowhere\"").unwrap();
        fs::write(at.join("root.img"), "x").unwrap();
        assert!(problem(at).contains("no such folder"), "{}", problem(at));
        let file = at.join("x.iso");
        fs::write(&file, "").unwrap();
        assert!(problem(&file).contains("neither"), "{}", problem(&file));
        for text in [problem(at), problem(&file)] {
            assert_eq!(text.lines().count(), 1, "{text}");
        }
    }
}
