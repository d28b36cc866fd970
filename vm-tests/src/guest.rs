// SPDX-License-Identifier: BSD-2-Clause
//! What there is to boot: guest folders and FreeBSD VM images.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
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
    /// How it boots.
    pub(crate) boot: Boot,
    /// Its kernel has INVARIANTS, WITNESS and DEBUG_MEMGUARD.
    pub(crate) debug: bool,
    /// Sources and build directory of its kernel, for building modules; else FreeBSD's released headers do.
    pub(crate) sysdir: Option<PathBuf>,
    pub(crate) kernbuilddir: Option<PathBuf>,
}

/// What a guest consists of.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Boot {
    /// A kernel file, and a root file system: an image of one, or a folder to make it from.
    Kernel { kernel: PathBuf, root: PathBuf },
    /// A disk with everything on it, its own loader included.
    Image { path: PathBuf, format: &'static str },
}

/// guest.toml; every key may be left out.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Settings {
    release: Option<String>,
    kernel: Option<PathBuf>,
    root: Option<PathBuf>,
    image: Option<PathBuf>,
    #[serde(default)]
    debug: bool,
    sysdir: Option<PathBuf>,
    kernbuilddir: Option<PathBuf>,
}

/// All guests at `place`: none when there is nothing, an error when what is there is broken.
pub(crate) fn find(place: &Path) -> Result<Vec<Guest>> {
    if !place.exists() {
        return Ok(Vec::new());
    }
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
    Ok(Some(Guest {
        name: name_of(path),
        release: release_in(&name_of(path)),
        boot: Boot::Image { path: path.into(), format },
        debug: false,
        sysdir: None,
        kernbuilddir: None,
    }))
}

fn folder(path: &Path, settings: Settings) -> Result<Guest> {
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
        Boot::Image { path: image, format }
    } else {
        let kernel = path.join(settings.kernel.unwrap_or_else(|| "kernel".into()));
        let root = path.join(settings.root.unwrap_or_else(|| "root.img".into()));
        ensure!(starts_with(&kernel, b"\x7fELF")?, "{}: no ELF kernel", kernel.display());
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
        boot,
        debug: settings.debug,
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
        ensure!(starts_with(path, b"QFI\xfb")?, "{}: not a qcow2 image", path.display());
    } else {
        let size = fs::metadata(path).with_context(|| format!("{}", path.display()))?.len();
        ensure!(size >= 1 << 20, "{}: {size} bytes are no disk image", path.display());
        ensure!(
            !starts_with(path, b"\xfd7zXZ\0")?,
            "{}: still compressed (xz -d it)",
            path.display()
        );
    }
    Ok(())
}

fn starts_with(path: &Path, magic: &[u8]) -> Result<bool> {
    use std::io::Read;
    let mut file = fs::File::open(path).with_context(|| format!("{}", path.display()))?;
    let mut start = vec![0; magic.len()];
    Ok(file.read_exact(&mut start).is_ok() && start == magic)
}

/// "FreeBSD-15.0-RELEASE-amd64-…" → "15.0".
fn release_in(name: &str) -> String {
    name.strip_prefix("FreeBSD-")
        .and_then(|rest| rest.split('-').next())
        .unwrap_or_default()
        .to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(place: &Path) -> String {
        find(place).expect_err("must be refused").to_string()
    }

    #[test]
    fn nothing_there_is_no_error() {
        let folder = tempfile::tempdir().unwrap();
        assert!(find(&folder.path().join("absent")).unwrap().is_empty());
        assert!(find(folder.path()).unwrap().is_empty());
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
        fs::write(&image, vec![0; 1 << 20]).unwrap();
        let guests = find(&image).unwrap();
        assert_eq!(guests[0].release, "15.0");
        assert_eq!(guests[0].boot, Boot::Image { path: image.clone(), format: "raw" });
        assert_eq!(find(folder.path()).unwrap().len(), 1);
    }

    #[test]
    fn broken_ones_are_refused_in_one_line() {
        let folder = tempfile::tempdir().unwrap();
        let at = folder.path();
        fs::write(at.join("guest.toml"), "debgu = true").unwrap();
        assert!(problem(at).contains("unknown field `debgu`"), "{}", problem(at));
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
