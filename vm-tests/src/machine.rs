// SPDX-License-Identifier: BSD-2-Clause
//! A running guest: QEMU (or bhyve) with its console in our hands, dead at the latest when dropped.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use clap::ValueEnum;

use crate::console::{Console, Nothing};
use crate::guest::{Arch, Boot, Firmware, Guest};

/// What runs the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Monitor {
    /// QEMU, with KVM where the host has it.
    Qemu,
    /// FreeBSD's own, for disk images.
    Bhyve,
}

/// How a guest is run.
#[derive(Clone, Debug)]
pub(crate) struct Hardware {
    pub(crate) monitor: Monitor,
    pub(crate) cpus: u32,
    /// In MB.
    pub(crate) memory: u32,
    /// Without KVM, even where there is one.
    pub(crate) emulate: bool,
    /// QEMU's name of a processor, "max" for all that it can do.
    pub(crate) cpu: String,
    /// Three network cards, two vtnet and an em, on a hub with nothing else (QEMU only).
    pub(crate) network: bool,
    /// The guest's clock counts instructions, [`NS_PER_INSTRUCTION`] for each, and stands still when it
    /// idles: what the host does meanwhile makes no difference (QEMU, one CPU, emulated).
    pub(crate) instructions: bool,
}

/// The clock of a guest that counts instructions: `-icount shift=1`.
pub(crate) const NS_PER_INSTRUCTION: u64 = 2;

/// Variables for the kernel's environment; a guest with a loader of its own does not get them.
pub(crate) type Environment<'a> = &'a [(&'a str, &'a str)];

/// Process id of the guest that runs, or 0: a signal that ends us must not leave it behind.
static RUNNING: AtomicU32 = AtomicU32::new(0);

/// Makes Ctrl-C and SIGTERM take the guest along.
pub(crate) fn end_with_us() -> Result<()> {
    ctrlc::set_handler(|| {
        let guest = RUNNING.load(Ordering::SeqCst);
        if guest != 0 {
            // There is no safe kill(2) in std. Should it fail, we end all the same.
            let _ = Command::new("kill").args(["-KILL", &guest.to_string()]).status();
        }
        std::process::exit(130);
    })
    .context("signal handler")
}

/// A guest that runs.
pub(crate) struct Machine {
    monitor: Child,
    input: ChildStdin,
    pub(crate) console: Console,
    started: Instant,
    /// bhyve's virtual machine outlives its process until it is destroyed.
    bhyve_name: Option<String>,
}

impl Machine {
    /// Starts it. `folder` takes console.log and what else belongs to this run.
    pub(crate) fn start(
        guest: &Guest,
        hardware: &Hardware,
        environment: Environment<'_>,
        payload: &Path,
        folder: &Path,
    ) -> Result<Self> {
        let mut command = command(guest, hardware, environment, payload, folder)?;
        let mut monitor = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(File::create(folder.join("monitor.log"))?)
            .spawn()
            .with_context(|| missing(&command))?;
        RUNNING.store(monitor.id(), Ordering::SeqCst);
        let (Some(input), Some(output)) = (monitor.stdin.take(), monitor.stdout.take()) else {
            bail!("no pipes to {}", command.get_program().display());
        };
        let log = File::create(folder.join("console.log")).context("console.log")?;
        let console = Console::listen(output, log);
        let bhyve_name = (hardware.monitor == Monitor::Bhyve).then(|| bhyve_name(guest));
        Ok(Self { monitor, input, console, started: Instant::now(), bhyve_name })
    }

    /// Types something on the console.
    pub(crate) fn send(&mut self, text: &str) -> Result<(), Nothing> {
        self.input
            .write_all(text.as_bytes())
            .and_then(|()| self.input.flush())
            .map_err(|_| Nothing::Gone)
    }

    /// How long it has been running.
    pub(crate) fn age(&self) -> Duration {
        self.started.elapsed()
    }

    /// Waits a while for the guest to end by itself (a panicked kernel reboots, and QEMU leaves).
    pub(crate) fn wait_for_end(&self, limit: Duration) {
        let deadline = Instant::now() + limit;
        while !self.console.ended() && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(50));
        }
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // Failing means that it has ended already.
        let _ = self.monitor.kill();
        let _ = self.monitor.wait();
        RUNNING.store(0, Ordering::SeqCst);
        if let Some(name) = &self.bhyve_name {
            let _ = Command::new("bhyvectl").args(["--destroy", &format!("--vm={name}")]).status();
        }
    }
}

/// The same guest with the user's terminal as its console; comes back when it ends.
pub(crate) fn interactive(
    guest: &Guest,
    hardware: &Hardware,
    environment: Environment<'_>,
    payload: &Path,
    folder: &Path,
) -> Result<()> {
    let mut command = command(guest, hardware, environment, payload, folder)?;
    command.status().with_context(|| missing(&command))?;
    Ok(())
}

fn missing(command: &Command) -> String {
    let program = command.get_program().display().to_string();
    let package = if program.ends_with("aarch64") { "qemu-system-arm" } else { "qemu-system-x86" };
    format!("cannot run {program} (on Debian: apt-get install {package})")
}

fn command(
    guest: &Guest,
    hardware: &Hardware,
    environment: Environment<'_>,
    payload: &Path,
    folder: &Path,
) -> Result<Command> {
    match hardware.monitor {
        Monitor::Qemu => qemu(guest, hardware, environment, payload, folder),
        Monitor::Bhyve => bhyve(guest, hardware, payload, folder),
    }
}

fn qemu(
    guest: &Guest,
    hardware: &Hardware,
    environment: Environment<'_>,
    payload: &Path,
    folder: &Path,
) -> Result<Command> {
    let mut command = Command::new(format!("qemu-system-{}", guest.arch.cpu()));
    if hardware.instructions {
        let shift = NS_PER_INSTRUCTION.ilog2();
        command.args(["-accel", "tcg,thread=single"]);
        command.args(["-icount", &format!("shift={shift},sleep=off")]);
    } else if hardware.emulate || !has_virtualization(guest.arch) {
        command.args(["-accel", "tcg,thread=multi"]);
    } else {
        // The first that works: whether KVM does, QEMU finds out itself.
        command.args(["-accel", "kvm", "-accel", "tcg,thread=multi"]);
    }
    let cpu = match (guest.arch, hardware.cpu.as_str()) {
        // Pointer authentication by an algorithm of QEMU's own, many times faster than the standard's.
        (Arch::Aarch64, "max") => "max,pauth-impdef=on",
        (_, cpu) => cpu,
    };
    command.args(["-cpu", cpu, "-no-reboot", "-nographic", "-net", "none"]);
    match guest.arch {
        // By this our loader ends QEMU. (A kernel does it by a reset, hence -no-reboot.)
        Arch::Amd64 => command.args(["-device", "isa-debug-exit,iobase=0xf4,iosize=4"]),
        Arch::Aarch64 => command.args(["-machine", "virt,gic-version=3"]),
    };
    let cards: &[_] =
        if hardware.network { &["virtio-net-pci", "virtio-net-pci", "e1000"] } else { &[] };
    for (number, card) in cards.iter().enumerate() {
        command.args(["-netdev", &format!("hubport,id=n{number},hubid=0")]);
        command.args(["-device", &format!("{card},netdev=n{number},mac=02:bf:70:00:01:0{number}")]);
    }
    command.args(["-smp", &hardware.cpus.to_string(), "-m", &hardware.memory.to_string()]);
    let disk = |path: &Path, format: &str| {
        // A comma in an option's value is doubled.
        let path = path.display().to_string().replace(',', ",,");
        format!("file={path},format={format},if=virtio,snapshot=on")
    };
    match &guest.boot {
        Boot::Kernel { kernel, root } => {
            let root = if root.is_dir() { make_root(root, folder)? } else { root.clone() };
            // A line on the console for each change of promiscuous mode takes milliseconds of a
            // lock under emulation; it is the kernel's own, for every driver alike.
            let mut words = String::from(
                "-s -h vfs.root.mountfrom=ufs:/dev/vtbd0 kern.panic_reboot_wait_time=0 \
                 net.link.log_promisc_mode_change=0",
            );
            for (name, value) in environment {
                words.push_str(&format!(" {name}={value}"));
            }
            match guest.arch {
                Arch::Amd64 => {
                    command.arg("-kernel").arg(boot_loader(folder)?).args(["-append", &words]);
                    command.arg("-initrd").arg(kernel.display().to_string().replace(',', ",,"));
                }
                // The kernel takes bootargs of the device tree for its own only after this word.
                Arch::Aarch64 => {
                    command
                        .arg("-kernel")
                        .arg(kernel)
                        .args(["-append", &format!("FreeBSD: {words}")]);
                }
            }
            command.args(["-drive", &disk(&root, "raw")]);
        }
        Boot::Image { path, format, firmware } => {
            if *firmware == Firmware::Uefi {
                command.arg("-bios").arg(uefi(guest.arch)?);
            }
            command.args(["-drive", &disk(path, format)]);
        }
    }
    command.args(["-drive", &disk(payload, "raw")]);
    Ok(command)
}

/// Where packages put EDK2: of Debian, of FreeBSD.
fn uefi(arch: Arch) -> Result<&'static str> {
    let (files, package) = match arch {
        Arch::Amd64 => {
            (["/usr/share/ovmf/OVMF.fd", "/usr/local/share/edk2-qemu/QEMU_UEFI-x86_64.fd"], "ovmf")
        }
        Arch::Aarch64 => (
            [
                "/usr/share/qemu-efi-aarch64/QEMU_EFI.fd",
                "/usr/local/share/edk2-qemu/QEMU_UEFI-aarch64.fd",
            ],
            "qemu-efi-aarch64",
        ),
    };
    let found = files.into_iter().find(|file| Path::new(file).exists());
    found.with_context(|| format!("no UEFI firmware (on Debian: apt-get install {package})"))
}

/// Whether the CPU can run guests by itself. There are hosts with a /dev/kvm but without: QEMU takes
/// it, and the guest dies of the first instruction that the kernel cannot emulate.
fn has_virtualization(arch: Arch) -> bool {
    if arch.cpu() != std::env::consts::ARCH {
        return false;
    }
    if arch == Arch::Aarch64 {
        return Path::new("/dev/kvm").exists();
    }
    let cpus = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let flags = cpus.lines().find(|line| line.starts_with("flags")).unwrap_or_default();
    flags.split_whitespace().any(|flag| flag == "vmx" || flag == "svm")
}

/// Only for disk images, on a FreeBSD host with its UEFI firmware installed.
fn bhyve(guest: &Guest, hardware: &Hardware, payload: &Path, folder: &Path) -> Result<Command> {
    const FIRMWARE: &str = "/usr/local/share/uefi-firmware/BHYVE_UEFI.fd";
    let (Boot::Image { path, format: "raw", .. }, Arch::Amd64) = (&guest.boot, guest.arch) else {
        bail!("{}: bhyve boots raw disk images of amd64 only", guest.name);
    };
    ensure!(Path::new(FIRMWARE).exists(), "{FIRMWARE}: not there (pkg install bhyve-firmware)");
    // bhyve has no snapshots: the guest writes to a copy.
    let disk = folder.join("disk.raw");
    fs::copy(path, &disk).with_context(|| format!("{}", disk.display()))?;
    let mut command = Command::new("bhyve");
    command.args(["-A", "-H", "-P", "-c", &hardware.cpus.to_string()]);
    command.args(["-m", &format!("{}M", hardware.memory), "-s", "0,hostbridge", "-s", "31,lpc"]);
    command.args(["-s", &format!("2,virtio-blk,{}", disk.display())]);
    command.args(["-s", &format!("3,virtio-blk,{},ro", payload.display())]);
    command.args(["-l", "com1,stdio", "-l", &format!("bootrom,{FIRMWARE}"), &bhyve_name(guest)]);
    Ok(command)
}

fn bhyve_name(guest: &Guest) -> String {
    format!("bpfrs-{}-{}", guest.name, std::process::id())
}

/// vm-tests/boot, built on first use.
fn boot_loader(folder: &Path) -> Result<PathBuf> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("boot");
    let out = folder.with_file_name("boot");
    let built = Command::new("make")
        .arg("-s")
        .arg("-C")
        .arg(&source)
        .arg(format!("OUT={}", out.display()))
        .output()
        .context("cannot run make")?;
    let problem = String::from_utf8_lossy(&built.stderr);
    ensure!(
        built.status.success(),
        "vm-tests/boot does not build: {}",
        problem.lines().next().unwrap_or("make failed")
    );
    Ok(out.join("loader.elf"))
}

/// A UFS image of a folder that holds a root file system.
fn make_root(root: &Path, folder: &Path) -> Result<PathBuf> {
    let image = folder.join("root.img");
    make_file_system(root, &image)?;
    Ok(image)
}

/// makefs(8): a UFS image of a folder. UFS1, since all know it: the superblock of its UFS2 is at
/// 8 KB, where FreeBSD 12 looks for it, and 14 and later refuse it.
pub(crate) fn make_file_system(folder: &Path, image: &Path) -> Result<()> {
    let mut command = Command::new("makefs");
    command.args(["-t", "ffs", "-B", "little", "-o", "version=1", "-b", "10%", "-f", "10%"]);
    let made = command
        .arg(image)
        .arg(folder)
        .output()
        .context("cannot run makefs (on Debian: apt-get install makefs)")?;
    let problem = String::from_utf8_lossy(&made.stderr);
    ensure!(
        made.status.success(),
        "makefs {}: {}",
        folder.display(),
        problem.lines().next().unwrap_or("failed")
    );
    Ok(())
}
