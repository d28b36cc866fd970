// SPDX-License-Identifier: BSD-2-Clause
//! What goes into a guest: our program and the modules, built for its kernel, on a disk of their own.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::guest::{Arch, Basis, Guest};
use crate::machine::make_file_system;

/// The repository.
pub(crate) fn repository() -> &'static Path {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here)
}

/// Where runs leave their files: target/vm.
pub(crate) fn work_folder() -> PathBuf {
    let target = std::env::var_os("CARGO_TARGET_DIR");
    target.map_or_else(|| repository().join("target"), PathBuf::from).join("vm")
}

/// A fresh folder for a run.
pub(crate) fn run_folder(name: &str) -> Result<PathBuf> {
    let folder = work_folder().join(name);
    if folder.exists() {
        fs::remove_dir_all(&folder).with_context(|| format!("{}", folder.display()))?;
    }
    fs::create_dir_all(&folder).with_context(|| format!("{}", folder.display()))?;
    Ok(folder)
}

/// Kernel modules that a payload may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Module {
    /// The driver.
    Bpfrs,
    /// A source of packets, for the driver.
    Producer,
    /// The positive control.
    Legacy,
    /// The driver as it must not be loaded: its struct ifnet is not the kernel's.
    Shifted,
}

impl Module {
    fn target(self) -> &'static str {
        match self {
            Self::Bpfrs => "kmod",
            Self::Producer => "producer",
            Self::Legacy => "legacy",
            Self::Shifted => "shifted",
        }
    }

    /// In the order in which they are loaded.
    fn files(self) -> &'static [&'static str] {
        match self {
            Self::Bpfrs => &["bpfrs_tap.ko", "bpfrs.ko"],
            Self::Producer => &["producer.ko"],
            Self::Legacy => &["legacy.ko"],
            Self::Shifted => &["bpfrs_tap_shifted.ko", "bpfrs_shifted.ko"],
        }
    }

    /// The command that loads it.
    pub(crate) fn load(self) -> String {
        let files: Vec<_> = self.files().iter().map(|file| format!(" /mnt/{file}")).collect();
        format!("kldload{}", files.concat())
    }
}

/// Builds everything for `guest`; the disk's path.
pub(crate) fn make(guest: &Guest, basis: Basis, modules: &[Module]) -> Result<PathBuf> {
    let bar = crate::progress(format!("{}: building with {}", guest.name, basis.name()));
    let folder = run_folder(&format!("payload-{}-{}", guest.name, basis.name()))?;
    let content = folder.join("content");
    fs::create_dir(&content)?;
    let program = guest_program(guest.arch)?;
    for file in [program.as_path(), &repository().join("vm-tests/guest/cage.sh")] {
        let name = file.file_name().context("no file name")?;
        fs::copy(file, content.join(name)).with_context(|| format!("{}", file.display()))?;
    }
    for module in modules {
        let out = folder.join("modules");
        build_module(guest, basis, *module, &out)?;
        for file in module.files() {
            fs::copy(out.join(file), content.join(file))
                .with_context(|| format!("{file} was not built"))?;
        }
    }
    let disk = folder.join("disk.img");
    make_file_system(&content, &disk)?;
    bar.finish_and_clear();
    Ok(disk)
}

fn guest_program(arch: Arch) -> Result<PathBuf> {
    let script = repository().join("vm-tests/guest/build.sh");
    let mut command = Command::new(&script);
    command.env("ARCH", arch.name());
    // What cargo told us about ourselves does not hold for the other program.
    for (name, _) in std::env::vars() {
        if (name.starts_with("CARGO") && name != "CARGO_TARGET_DIR" && name != "CARGO_HOME")
            || name == "RUSTUP_TOOLCHAIN"
        {
            command.env_remove(name);
        }
    }
    let output = command.output().with_context(|| format!("{}", script.display()))?;
    ensure!(output.status.success(), "{}", first_problem("vm-tests/guest", &output.stderr));
    let text = String::from_utf8_lossy(&output.stdout);
    Ok(PathBuf::from(text.lines().last().unwrap_or_default()))
}

fn build_module(guest: &Guest, basis: Basis, module: Module, out: &Path) -> Result<()> {
    let mut command = Command::new("make");
    command.arg("-C").arg(repository()).arg(module.target()).arg(format!("OUT={}", out.display()));
    command.arg(format!("ARCH={}", guest.arch.name()));
    if let Some(sanitizer) = guest.sanitizer {
        command.arg(format!("SANITIZE={}", sanitizer.name()));
    }
    if let (Basis::Sources, Some(sysdir)) = (basis, &guest.sysdir) {
        command.arg(format!("SYSDIR={}", sysdir.display()));
        if let Some(folder) = &guest.kernbuilddir {
            command.arg(format!("KERNBUILDDIR={}", folder.display()));
        }
    } else {
        let major = guest.major();
        ensure!(
            major.parse::<u32>().is_ok(),
            "{}: which FreeBSD is it? guest.toml must say: release = \"15.0\"",
            guest.name
        );
        command.arg(format!("FREEBSD={major}"));
    }
    // make and cargo above us must not steer the make below.
    const CALL: [&str; 4] = ["MAKEFLAGS", "MFLAGS", "MAKELEVEL", "RUSTUP_TOOLCHAIN"];
    // Nor what our caller builds: the guest says what it needs.
    const PURPOSE: [&str; 4] = ["FREEBSD", "SYSDIR", "KERNBUILDDIR", "SANITIZE"];
    for name in CALL.into_iter().chain(PURPOSE) {
        command.env_remove(name);
    }
    let output = command.output().context("cannot run make")?;
    ensure!(
        output.status.success(),
        "{}",
        first_problem(&format!("make {}", module.target()), &output.stderr)
    );
    Ok(())
}

/// One line out of many: the first that says "error", or the last.
fn first_problem(what: &str, output: &[u8]) -> String {
    let text = String::from_utf8_lossy(output);
    let line = text.lines().find(|line| line.contains("error")).or(text.lines().last());
    format!("{what} failed: {}", line.unwrap_or("without a word"))
}
