// SPDX-License-Identifier: BSD-2-Clause
#![doc = include_str!("../README.md")]

mod bench;
mod console;
mod controls;
mod diff;
mod findings;
mod group;
mod guest;
mod machine;
mod net;
mod payload;
mod race;
mod shell;
mod tap;
mod test;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::builder::{OsStringValueParser, TypedValueParser};
use clap::{Args, Parser, Subcommand};
use indicatif::{ProgressBar, ProgressStyle};

use crate::guest::{Basis, Guest};
use crate::machine::{Hardware, Monitor};
use crate::payload::Module;

/// What a skipped test run exits with, by the custom of automake.
const SKIPPED: u8 = 77;

#[derive(Parser)]
#[command(about = "Boots FreeBSD guests and tests bpfrs in them", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// The device's own tests, programs of libpcap's, load and unload, in every guest
    Test(TestOptions),
    /// The revoke(2) reproducer on legacy, stock and bpfrs, in every guest
    Race(RaceOptions),
    /// Real interfaces beside stock, interfaces that come and go, reloads under traffic, in every guest
    Net(NetOptions),
    /// What can be seen of bpfrs beside what can be seen of stock, in every guest
    Diff(DiffOptions),
    /// What a packet on lo0 costs with stock and with bpfrs, in every guest that is no debug kernel
    Bench(BenchOptions),
    /// Boots one guest, with the console here
    Shell(ShellOptions),
    /// Shows which guests there are
    List(Place),
}

/// Where guests are, and how they run.
#[derive(Args, Clone)]
struct Place {
    /// A guest folder, a folder of them, or a FreeBSD VM image [default: ~/.cache/bpfrs/guest]
    #[arg(long, env = "BPFRS_GUEST", value_name = "PATH", value_parser = any_path())]
    guests: Option<PathBuf>,
    /// Only the guest of this name (may be given more than once)
    #[arg(long, value_name = "NAME")]
    only: Vec<String>,
    #[arg(long, value_enum, default_value = "qemu")]
    monitor: Monitor,
    /// CPUs of a guest
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=64))]
    cpus: u32,
    /// Memory of a guest, in MB
    #[arg(long, default_value_t = 1024, value_parser = clap::value_parser!(u32).range(256..))]
    memory: u32,
    /// Without KVM, even where there is one
    #[arg(long)]
    emulate: bool,
    /// QEMU's processor (`-cpu help`): cortex-a72 is one of arm64 without BTI
    #[arg(long, default_value = "max", value_name = "NAME")]
    cpu: String,
}

impl Place {
    /// What was given; an empty BPFRS_GUEST gives nothing.
    fn given(&self) -> Option<&PathBuf> {
        self.guests.as_ref().filter(|path| !path.as_os_str().is_empty())
    }

    fn path(&self) -> PathBuf {
        self.given().cloned().unwrap_or_else(|| {
            let home = std::env::var_os("HOME").map_or_else(|| "/".into(), PathBuf::from);
            home.join(".cache/bpfrs/guest")
        })
    }

    /// All that are asked for; none only if nobody named a place and there is none by default.
    fn guests(&self) -> Result<Vec<Guest>> {
        if self.given().is_none() && !self.path().exists() {
            return Ok(Vec::new());
        }
        let mut guests = guest::find(&self.path())?;
        if let Some(unknown) = self.only.iter().find(|n| guests.iter().all(|g| g.name != **n)) {
            anyhow::bail!("no guest is called {unknown}");
        }
        guests.retain(|guest| self.only.is_empty() || self.only.contains(&guest.name));
        Ok(guests)
    }

    fn hardware(&self) -> Hardware {
        Hardware {
            monitor: self.monitor,
            cpus: self.cpus,
            memory: self.memory,
            emulate: self.emulate,
            cpu: self.cpu.clone(),
            network: false,
            instructions: false,
        }
    }
}

#[derive(Args)]
struct TestOptions {
    #[command(flatten)]
    place: Place,
    /// What modules are built from; with the second only what loads them is run again
    #[arg(long, value_enum, value_delimiter = ',', default_value = "headers,sources")]
    modules: Vec<Basis>,
    /// How often to load and unload the module
    #[arg(long, default_value_t = 1000)]
    loads: u64,
    /// Only these tests of the device (`bpfrs-guest test --list`), "atf", "layout" and "sanitizer-control",
    /// nothing else
    tests: Vec<String>,
}

#[derive(Args)]
struct RaceOptions {
    #[command(flatten)]
    place: Place,
    /// What modules are built from
    #[arg(long, value_enum, default_value = "headers")]
    modules: Basis,
    /// How long bpfrs has to stand it
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// The whole proof: ten minutes and at least 10,000 revocations on every guest
    #[arg(long)]
    full: bool,
    /// Only these drivers
    #[arg(long, value_enum, value_delimiter = ',', default_value = "legacy,stock,bpfrs")]
    drivers: Vec<bpfrs_verdict::Driver>,
    /// Reader processes
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u64).range(4..=64))]
    readers: u64,
    /// Device nodes
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u64).range(1..=16))]
    nodes: u64,
    /// Between two revocations
    #[arg(long, default_value_t = 1000, value_name = "MICROSECONDS")]
    pause_us: u64,
    /// By then 99 of 100 blocked readers must be awake; and more may be late only if as many of a
    /// control are, which the driver has nothing to do with
    #[arg(long, default_value_t = 10, value_name = "MILLISECONDS")]
    wake_limit: u64,
    /// The table as JSON, too
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

#[derive(Args)]
struct NetOptions {
    #[command(flatten)]
    place: Place,
    /// What modules are built from
    #[arg(long, value_enum, default_value = "headers")]
    modules: Basis,
    /// Frames in each direction through each kind of interface
    #[arg(long, default_value_t = 100_000)]
    frames: u64,
    /// How often an interface comes and goes under readers
    #[arg(long, default_value_t = 1000)]
    cycles: u64,
    /// How often one moves to a jail and back
    #[arg(long, default_value_t = 200)]
    moves: u64,
    /// How often the module is unloaded and loaded under traffic
    #[arg(long, default_value_t = 200)]
    reloads: u64,
    /// Only these kinds of interfaces (`bpfrs-guest net-parity` names them), "writes" and "exceptions"
    #[arg(long, value_delimiter = ',', value_name = "KIND")]
    kinds: Vec<String>,
    /// Only these parts
    #[arg(long, value_enum, value_delimiter = ',', default_value = "parity,life,reload")]
    parts: Vec<net::Part>,
    /// Only these drivers; stock is tried as its own subject, which shows that the tests are true
    #[arg(long, value_enum, value_delimiter = ',', default_value = "stock,bpfrs")]
    drivers: Vec<net::Driver>,
    /// Stock does so much less than bpfrs has to do
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..))]
    stock_share: u64,
}

#[derive(Args, Clone)]
struct DiffOptions {
    #[command(flatten)]
    place: Place,
    /// What modules are built from
    #[arg(long, value_enum, default_value = "headers")]
    modules: Basis,
    /// Only these families of behaviours (`bpfrs-guest behaviours` names them)
    #[arg(long, value_delimiter = ',', value_name = "FAMILY")]
    families: Vec<String>,
    /// Only these parts
    #[arg(long, value_enum, value_delimiter = ',', default_value = "behaviours,storm")]
    parts: Vec<diff::Part>,
    /// Processes of the storm
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u64).range(1..=64))]
    processes: u64,
    /// Operations of all of them together
    #[arg(long, default_value_t = 100_000)]
    operations: u64,
    /// Which operations; another one each time unless given
    #[arg(long)]
    seed: Option<u64>,
}

#[derive(Args)]
struct BenchOptions {
    #[command(flatten)]
    place: Place,
    /// What modules are built from
    #[arg(long, value_enum, default_value = "headers")]
    modules: Basis,
    /// Packets in a round, for each way of listening
    #[arg(long, default_value_t = 1024, value_parser = clap::value_parser!(u64).range(1..))]
    packets: u64,
    /// Rounds, of which the middle one counts
    #[arg(long, default_value_t = 29, value_parser = clap::value_parser!(u64).range(1..))]
    rounds: u64,
    /// Count instructions instead of time, on one emulated CPU: the same in every run
    #[arg(long)]
    instructions: bool,
    /// Every measurement as JSON, too
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

#[derive(Args)]
struct ShellOptions {
    #[command(flatten)]
    place: Place,
    /// What modules are built from
    #[arg(long, value_enum, default_value = "headers")]
    modules: Basis,
    /// Without our modules: nothing of them is built
    #[arg(long)]
    bare: bool,
}

/// A path, also an empty one.
fn any_path() -> impl TypedValueParser<Value = PathBuf> {
    OsStringValueParser::new().map(PathBuf::from)
}

fn main() -> ExitCode {
    match run(&Cli::parse().command) {
        Ok(code) => code,
        Err(error) => {
            // One line, whatever its causes.
            let text = format!("{error:#}").replace('\n', " ");
            eprintln!("vm-tests: {text}");
            ExitCode::from(2)
        }
    }
}

fn run(command: &Command) -> Result<ExitCode> {
    let place = match command {
        Command::Test(options) => &options.place,
        Command::Race(options) => &options.place,
        Command::Net(options) => &options.place,
        Command::Diff(options) => &options.place,
        Command::Bench(options) => &options.place,
        Command::Shell(options) => &options.place,
        Command::List(place) => place,
    };
    let guests = place.guests()?;
    if guests.is_empty() {
        println!(
            "vm-tests: no FreeBSD guest at {}: {}",
            place.path().display(),
            guest::HOW_TO_GET_ONE
        );
        return Ok(ExitCode::from(SKIPPED));
    }
    machine::end_with_us()?;
    match command {
        Command::Test(options) => test::run(&guests, &place.hardware(), options),
        Command::Race(options) => race::run(&guests, &place.hardware(), options),
        Command::Net(options) => net::run(&guests, place.hardware(), options),
        Command::Diff(options) => diff::run(&guests, &place.hardware(), options),
        Command::Bench(options) => bench::run(&guests, place.hardware(), options),
        Command::Shell(options) => shell(&guests[0], &place.hardware(), options),
        Command::List(_) => {
            for guest in &guests {
                println!(
                    "{}: FreeBSD {} {}, {} kernel: {:?}",
                    guest.name,
                    guest.release,
                    guest.arch.name(),
                    guest.kernel(),
                    guest.boot
                );
            }
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn shell(guest: &Guest, hardware: &Hardware, options: &ShellOptions) -> Result<ExitCode> {
    let modules: &[Module] =
        if options.bare { &[] } else { &[Module::Bpfrs, Module::Producer, Module::Legacy] };
    let payload = payload::make(guest, guest.basis(options.modules), modules)?;
    let folder = payload::run_folder(&format!("shell-{}", guest.name))?;
    println!("Our files: mount -t ufs -o ro /dev/vtbd1 /mnt. QEMU ends by Ctrl-A X.");
    machine::interactive(guest, hardware, &[], &payload, &folder)?;
    Ok(ExitCode::SUCCESS)
}

/// A line that tells what is going on; nothing when nobody watches.
fn progress(what: String) -> ProgressBar {
    let bar = ProgressBar::new_spinner();
    if let Ok(style) = ProgressStyle::with_template("{spinner} {prefix} [{elapsed}] {msg}") {
        bar.set_style(style);
    }
    bar.set_prefix(what);
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}

/// Writes a file, naming it in an error.
fn write_file(path: &std::path::Path, text: &str) -> Result<()> {
    std::fs::write(path, text).with_context(|| format!("{}", path.display()))
}
