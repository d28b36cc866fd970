// SPDX-License-Identifier: BSD-2-Clause
//! `race`: the reproducer on each driver in turn, judged and shown as one table.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Result;
use bpfrs_verdict::{Column, Driver, Limits, outcome, problems, table};
use bpfrs_vm_protocol::Message;
use indicatif::ProgressBar;

use crate::RaceOptions;
use crate::guest::Guest;
use crate::machine::Hardware;
use crate::payload::{self, Module};
use crate::shell::{End, Shell};

/// How long it is tried, to see how long it did take.
const LEGACY_SECONDS: u64 = 60;
const STOCK_SECONDS: u64 = 30;
const FULL_SECONDS: u64 = 630;
const FULL_REVOKES: u64 = 10_000;
/// So many times longer it may take until there were as many, on a machine that is busy or slow.
const SLOWEST: u64 = 6;

/// A driver's sysctls and its malloc(9) type.
fn accounts(driver: Driver) -> Option<(&'static str, &'static str)> {
    match driver {
        Driver::Legacy => Some(("net.bpflegacy", "bpflegacy")),
        Driver::Stock => None,
        Driver::Bpfrs => Some(("net.bpfrs", "bpfrs")),
    }
}

fn module(driver: Driver) -> Option<Module> {
    match driver {
        Driver::Legacy => Some(Module::Legacy),
        Driver::Stock => None,
        Driver::Bpfrs => Some(Module::Bpfrs),
    }
}

pub(crate) fn run(
    guests: &[Guest],
    hardware: &Hardware,
    options: &RaceOptions,
) -> Result<ExitCode> {
    let mut columns = Vec::new();
    let limits = Limits { revokes: if options.full { FULL_REVOKES } else { 1 } };
    for guest in guests {
        let modules: Vec<Module> = options.drivers.iter().filter_map(|d| module(*d)).collect();
        let basis = guest.basis(options.modules);
        let payload = payload::make(guest, basis, &modules)?;
        for driver in &options.drivers {
            let bar = crate::progress(format!("{} {}", guest.name, driver.name()));
            let mut column = race(guest, hardware, *driver, options, &payload, &bar)?;
            if module(*driver).is_some() {
                column.release.push_str(&format!(", {}", basis.name()));
            }
            column.problems = problems(&column, limits);
            bar.finish_and_clear();
            let verdict = if column.problems.is_empty() { "ok" } else { "NOT OK" };
            println!("{} {}: {}: {verdict}", guest.name, driver.name(), outcome(&column));
            columns.push(column);
        }
    }
    println!("{}", table(&columns));
    if let Some(path) = &options.json {
        crate::write_file(path, &serde_json::to_string_pretty(&columns)?)?;
    }
    let mut good = true;
    for column in &columns {
        for finding in &column.findings {
            // legacy is there to panic; its backtraces are in the console log.
            if column.driver != Driver::Legacy {
                println!("\n{} {}: {}", column.guest, column.driver.name(), finding.kind);
                finding.quote.iter().for_each(|line| println!("    {line}"));
            }
        }
        for problem in &column.problems {
            good = false;
            eprintln!("vm-race: {} {}: {problem}", column.guest, column.driver.name());
        }
    }
    println!("consoles: {}/race-*/console.log", payload::work_folder().display());
    Ok(if good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn race(
    guest: &Guest,
    hardware: &Hardware,
    driver: Driver,
    options: &RaceOptions,
    payload: &std::path::Path,
    bar: &ProgressBar,
) -> Result<Column> {
    let folder = payload::run_folder(&format!("race-{}-{}", guest.name, driver.name()))?;
    let memguard = guest.debug.then(|| accounts(driver)).flatten().map(|(_, kind)| kind);
    let environment: Vec<_> = memguard.iter().map(|kind| ("vm.memguard.desc", *kind)).collect();
    bar.set_message("booting");
    let mut shell = Shell::boot(guest, hardware, &environment, payload, &folder)?;
    let booted = shell.machine.age();
    let mut column = Column {
        guest: guest.name.clone(),
        release: format!("{} {}", guest.release, guest.arch.name()),
        debug_kernel: guest.debug,
        memguard,
        boot_seconds: Some(booted.as_secs_f64()),
        ..Column::new(driver)
    };
    if let Some(module) = module(driver) {
        let load = module.load();
        let loaded = shell.run(&load, Duration::from_secs(60));
        if !loaded.is_good() {
            column.findings = shell.findings();
            column.problems.push(format!("{load}: {:?}: {}", loaded.end, loaded.lines.join(" / ")));
            return Ok(column);
        }
    }
    let mut command = format!("/mnt/bpfrs-guest race --device {}", driver.device());
    if let Some((prefix, kind)) = accounts(driver) {
        command.push_str(&format!(" --prefix {prefix} --type {kind}"));
    }
    if driver != Driver::Legacy {
        let mut after = format!("/mnt/bpfrs-guest after-revoke --device {}", driver.device());
        if let Some((prefix, _)) = accounts(driver) {
            after.push_str(&format!(" --prefix {prefix}"));
        }
        let output = shell.run(&after, Duration::from_secs(60));
        column.after_revoke = output.messages.into_iter().find_map(|message| match message {
            Message::AfterRevoke(after) => Some(after),
            _ => None,
        });
    }
    let cage = match driver {
        Driver::Legacy => None,
        Driver::Stock => Some("/"),
        Driver::Bpfrs => {
            let made = shell.run("sh /mnt/cage.sh /tmp/cage", Duration::from_secs(60));
            made.is_good().then_some("/tmp/cage")
        }
    };
    if let Some(cage) = cage
        && shell.run("test -x /usr/sbin/tcpdump", Duration::from_secs(30)).is_good()
    {
        command.push_str(&format!(" --tcpdump {cage}"));
    }
    if shell.run("test -x /sbin/ping", Duration::from_secs(30)).is_good() {
        command.push_str(" --ping /sbin/ping");
    }
    let seconds = match (driver, options.full) {
        (Driver::Legacy, _) => LEGACY_SECONDS,
        (Driver::Stock, _) => STOCK_SECONDS.min(options.seconds),
        (Driver::Bpfrs, true) => FULL_SECONDS.max(options.seconds),
        (Driver::Bpfrs, false) => options.seconds,
    };
    let (revokes, limit) = match (driver, options.full) {
        (Driver::Bpfrs, true) => (FULL_REVOKES, seconds * SLOWEST),
        _ => (1, seconds),
    };
    command.push_str(&format!(
        " --seconds {seconds} --revokes {revokes} --limit {limit} --readers {} --nodes {} --pause-us {} --wake-limit-us {}",
        options.readers,
        options.nodes,
        options.pause_us,
        options.wake_limit * 1000
    ));
    // The kernel would answer only a part of the flood, and print that it does.
    let _ = shell.run("sysctl net.inet.icmp.icmplim=0", Duration::from_secs(30));
    let begin = Instant::now();
    let output = shell.run_watched(&command, Duration::from_secs(limit + 120), |message| {
        if let Message::Progress(race) = message {
            bar.set_message(format!(
                "{:.0} of {seconds} s: {} opens, {} reads, {} revokes",
                race.seconds, race.opens, race.reads, race.revokes
            ));
        }
    });
    column.race = output.messages.into_iter().rev().find_map(|message| match message {
        Message::Race(race) | Message::Progress(race) => Some(race),
        _ => None,
    });
    column.hung = output.end == End::Late;
    column.findings = shell.findings();
    if let Some((at, _)) = shell.death() {
        column.seconds_to_panic = Some(at.saturating_duration_since(begin).as_secs_f64());
    } else if output.end == End::Gone {
        column.problems.push("the guest ended without a word".into());
    } else if let End::Status(status @ 1..) = output.end {
        column
            .problems
            .push(format!("the reproducer exited with {status}: {}", output.lines.join(" / ")));
    }
    Ok(column)
}
