// SPDX-License-Identifier: BSD-2-Clause
//! `race`: the reproducer on each driver in turn, judged and shown as one table.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use bpfrs_vm_protocol::{AfterRevoke, Message, Race, Times};
use clap::ValueEnum;
use comfy_table::{Table, presets};
use indicatif::ProgressBar;
use serde::Serialize;

use crate::RaceOptions;
use crate::findings::Finding;
use crate::guest::{Boot, Guest};
use crate::machine::{Hardware, Machine};
use crate::payload::{self, Module};
use crate::shell::{End, Shell};

/// The positive control must be dead by then.
const LEGACY_LIMIT: f64 = 10.0;
/// How long it is tried, to see how long it did take.
const LEGACY_SECONDS: u64 = 60;
const STOCK_SECONDS: u64 = 30;
const FULL_SECONDS: u64 = 630;
const FULL_REVOKES: u64 = 10_000;

/// What is put to the test.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Driver {
    /// The positive control: must panic.
    Legacy,
    /// The kernel's own bpf(4), for comparison.
    Stock,
    /// Ours: must stand it.
    Bpfrs,
}

impl Driver {
    fn name(self) -> &'static str {
        match self {
            Self::Legacy => "legacy",
            Self::Stock => "stock",
            Self::Bpfrs => "bpfrs",
        }
    }

    fn device(self) -> &'static str {
        match self {
            Self::Legacy => "/dev/legacy%d",
            Self::Stock => "/dev/bpf",
            Self::Bpfrs => "/dev/bpfrs%d",
        }
    }

    /// Its sysctls and its malloc(9) type.
    fn accounts(self) -> Option<(&'static str, &'static str)> {
        match self {
            Self::Legacy => Some(("net.bpflegacy", "bpflegacy")),
            Self::Stock => None,
            Self::Bpfrs => Some(("net.bpfrs", "bpfrs")),
        }
    }

    fn module(self) -> Option<Module> {
        match self {
            Self::Legacy => Some(Module::Legacy),
            Self::Stock => None,
            Self::Bpfrs => Some(Module::Bpfrs),
        }
    }
}

/// One driver on one guest: a column of the table.
#[derive(Debug, Serialize)]
pub(crate) struct Column {
    guest: String,
    release: String,
    debug_kernel: bool,
    memguard: Option<&'static str>,
    driver: Driver,
    /// From power-on to a shell.
    boot_seconds: f64,
    /// Until the panic; nothing: survived.
    seconds_to_panic: Option<f64>,
    /// The runner's patience was over before the reproducer's end came.
    hung: bool,
    /// The last that the reproducer said of itself: at its end, or before the panic.
    race: Option<Race>,
    after_revoke: Option<AfterRevoke>,
    findings: Vec<Finding>,
    /// Why this is not as it must be.
    problems: Vec<String>,
}

pub(crate) fn run(
    guests: &[Guest],
    hardware: &Hardware,
    options: &RaceOptions,
) -> Result<ExitCode> {
    let mut columns = Vec::new();
    for guest in guests {
        let modules: Vec<Module> = options.drivers.iter().filter_map(|d| d.module()).collect();
        let bar = crate::progress(format!("{}: building", guest.name));
        let payload = payload::make(guest, &modules)?;
        bar.finish_and_clear();
        for driver in &options.drivers {
            let bar = crate::progress(format!("{} {}", guest.name, driver.name()));
            let mut column = race(guest, hardware, *driver, options, &payload, &bar)?;
            column.problems = problems(&column, Limits::of(options));
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
    let memguard = guest.debug.then(|| driver.accounts()).flatten().map(|(_, kind)| kind);
    let environment: Vec<_> = memguard.iter().map(|kind| ("vm.memguard.desc", *kind)).collect();
    bar.set_message("booting");
    let machine = Machine::start(guest, hardware, &environment, payload, &folder)?;
    let mut shell = Shell::boot(guest, machine)
        .with_context(|| format!("{} ({}/console.log)", guest.name, folder.display()))?;
    let booted = shell.machine.age();
    let mut column = Column {
        guest: guest.name.clone(),
        release: guest.release.clone(),
        debug_kernel: guest.debug,
        memguard,
        driver,
        boot_seconds: booted.as_secs_f64(),
        seconds_to_panic: None,
        hung: false,
        race: None,
        after_revoke: None,
        findings: Vec::new(),
        problems: Vec::new(),
    };
    if let (Some(kind), Boot::Image { .. }) = (memguard, &guest.boot) {
        // Its own loader got no environment from us.
        let set = shell.run(&format!("sysctl vm.memguard.desc={kind}"), Duration::from_secs(30));
        if !set.is_good() {
            column.problems.push("a debug guest without memguard".into());
        }
    }
    if let Some(module) = driver.module() {
        let file = match module {
            Module::Bpfrs => "bpfrs.ko",
            Module::Legacy => "legacy.ko",
        };
        let loaded = shell.run(&format!("kldload /mnt/{file}"), Duration::from_secs(60));
        if !loaded.is_good() {
            column.findings = shell.findings();
            column.problems.push(format!(
                "kldload {file}: {:?}: {}",
                loaded.end,
                loaded.lines.join(" / ")
            ));
            return Ok(column);
        }
    }
    let mut command = format!("/mnt/bpfrs-guest race --device {}", driver.device());
    if let Some((prefix, kind)) = driver.accounts() {
        command.push_str(&format!(" --prefix {prefix} --type {kind}"));
    }
    if driver != Driver::Legacy {
        let mut after = format!("/mnt/bpfrs-guest after-revoke --device {}", driver.device());
        if let Some((prefix, _)) = driver.accounts() {
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
    command.push_str(&format!(
        " --seconds {seconds} --readers {} --nodes {} --pause-us {}",
        options.readers, options.nodes, options.pause_us
    ));
    // The kernel would answer only a part of the flood, and print that it does.
    let _ = shell.run("sysctl net.inet.icmp.icmplim=0", Duration::from_secs(30));
    let begin = Instant::now();
    let output = shell.run_watched(&command, Duration::from_secs(seconds + 120), |message| {
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

/// What bpfrs has to keep.
#[derive(Clone, Copy)]
struct Limits {
    revokes: u64,
    wake_micros: u64,
}

impl Limits {
    fn of(options: &RaceOptions) -> Self {
        let revokes = if options.full { FULL_REVOKES } else { 1 };
        Self { revokes, wake_micros: options.wake_limit * 1000 }
    }
}

/// Why a column is not as it must be.
fn problems(column: &Column, limits: Limits) -> Vec<String> {
    let mut problems = column.problems.clone();
    let mut unless = |good: bool, problem: String| {
        if !good {
            problems.push(problem);
        }
    };
    match column.driver {
        Driver::Legacy => {
            let panicked = column.seconds_to_panic;
            unless(
                panicked.is_some_and(|seconds| seconds <= LEGACY_LIMIT),
                format!(
                    "the positive control did not panic within {LEGACY_LIMIT} s ({}): the reproducer proves nothing",
                    outcome(column)
                ),
            );
        }
        // For comparison only: what stock does is not ours to judge.
        Driver::Stock => {}
        Driver::Bpfrs => {
            unless(column.seconds_to_panic.is_none(), outcome(column));
            unless(!column.hung, "the guest hangs".into());
            unless(
                column.findings.iter().all(Finding::is_fatal),
                format!("{} reports of the kernel", column.findings.len()),
            );
            let finished = !column.hung && column.seconds_to_panic.is_none();
            match &column.race {
                Some(race) if finished => problems.extend(race_problems(race, limits)),
                Some(_) => {}
                None => problems.push("no result of the reproducer".into()),
            }
            match &column.after_revoke {
                Some(after) => problems.extend(after_problems(after)),
                None if finished => problems.push("no result of after-revoke".into()),
                None => {}
            }
        }
    }
    problems
}

fn race_problems(race: &Race, limits: Limits) -> Vec<String> {
    let wake_limit = limits.wake_micros;
    let driver = race.driver.clone().unwrap_or_default();
    let checks = [
        (race.opens > 0 && race.reads > 0 && race.revokes > 0, "nothing was going on".to_string()),
        (race.blocked > 0 && race.woken > 0, "no reader was blocked when a revocation came".into()),
        (
            race.revokes >= limits.revokes,
            format!("only {} revocations of {}", race.revokes, limits.revokes),
        ),
        (race.asleep == 0, format!("{} readers slept on after revoke(2)", race.asleep)),
        (race.woken_late == 0, format!("{} readers woke later than 1 s", race.woken_late)),
        (
            race.wake_time.p99 <= wake_limit,
            format!("p99 of waking is {} us, more than {wake_limit} us", race.wake_time.p99),
        ),
        (race.bad_records == 0, format!("{} malformed records", race.bad_records)),
        (race.stuck_processes == 0, format!("{} processes survived SIGKILL", race.stuck_processes)),
        (race.stuck_nodes == 0, format!("{} nodes stayed busy", race.stuck_nodes)),
        (race.driver.is_some(), "the driver has no counters".into()),
        (driver.live == 0, format!("{} opens live at the end", driver.live)),
        (driver.descriptors == 0, format!("{} descriptors not freed", driver.descriptors)),
        (
            driver.zero + driver.one + driver.two + driver.more == driver.opens,
            format!("opens and their closes do not add up: {driver:?}"),
        ),
        (
            race.memory_after == race.memory_before,
            format!("memory before {:?}, after {:?}", race.memory_before, race.memory_after),
        ),
    ];
    checks.into_iter().filter(|(good, _)| !good).map(|(_, problem)| problem).collect()
}

fn after_problems(after: &AfterRevoke) -> Vec<String> {
    let checks = [
        (after.promiscuous_before, "BIOCPROMISC had no effect"),
        (!after.promiscuous_after, "promiscuous mode goes on after revoke(2)"),
        (!after.promiscuous_at_end, "promiscuous mode goes on after close"),
        (after.captures_after == Some(false), "capture goes on after revoke(2)"),
        (after.reader_woken, "the sleeping reader was not woken"),
        (after.reader_result == "ENXIO", "the sleeping reader did not get ENXIO"),
        (after.reopened, "the node could not be opened again"),
    ];
    checks.into_iter().filter(|(good, _)| !good).map(|(_, problem)| problem.into()).collect()
}

fn outcome(column: &Column) -> String {
    match (column.seconds_to_panic, column.hung, &column.race) {
        (Some(seconds), _, _) => {
            let what = column.findings.iter().find(|f| f.is_fatal());
            let what = what.and_then(|f| f.quote.first()).map_or("", |line| line.trim());
            format!("panic after {seconds:.1} s ({what})")
        }
        (None, true, _) => "hangs".into(),
        (None, false, Some(race)) => format!("survived {:.0} s", race.seconds),
        (None, false, None) => "not run".into(),
    }
}

fn table(columns: &[Column]) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::ASCII_MARKDOWN);
    let mut header = vec![String::new()];
    header.extend(columns.iter().map(|c| {
        let guard = if c.memguard.is_some() { " +memguard" } else { "" };
        format!("{} on {} ({}{guard})", c.driver.name(), c.guest, c.release)
    }));
    table.set_header(header);
    let mut row = |name: &str, value: &dyn Fn(&Column) -> String| {
        let mut cells = vec![name.to_string()];
        cells.extend(columns.iter().map(value));
        table.add_row(cells);
    };
    row("outcome", &outcome);
    row("boot", &|c| format!("{:.1} s", c.boot_seconds));
    row("kernel reports", &|c| c.findings.len().to_string());
    let mut race_row = |name: &str, value: &dyn Fn(&Race) -> String| {
        row(name, &|c| c.race.as_ref().map_or_else(|| "-".into(), value));
    };
    race_row("opens (refused as busy)", &|r| format!("{} ({})", r.opens, r.opens_busy));
    race_row("reads with data", &|r| r.reads.to_string());
    race_row("revoke(2) calls", &|r| r.revokes.to_string());
    race_row("d_close per open: 0/1/2/more", &|r| {
        r.driver.as_ref().map_or_else(
            || "(stock has no d_close)".into(),
            |d| format!("{}/{}/{}/{}", d.zero, d.one, d.two, d.more),
        )
    });
    race_row("… of no open", &|r| r.driver.as_ref().map_or("-".into(), |d| d.orphan.to_string()));
    race_row("blocked readers met by a revoke", &|r| r.blocked.to_string());
    race_row("… woken dead within 1 s, later", &|r| format!("{}, {}", r.woken, r.woken_late));
    race_row("… still asleep after 1 s", &|r| r.asleep.to_string());
    race_row("… had data, killed by us", &|r| format!("{}, {}", r.returned, r.killed));
    race_row("wake latency p50/p99/max", &|r| times(&r.wake_time));
    race_row("revoke(2) latency p50/p99/max", &|r| times(&r.revoke_time));
    race_row("nodes stuck at the end", &|r| r.stuck_nodes.to_string());
    race_row("malloc type: before → after", &|r| {
        if r.driver.is_none() {
            return "-".into();
        }
        let show =
            |m: &bpfrs_vm_protocol::Memory| format!("{} ({} B guarded)", m.allocations, m.guarded);
        format!("{} → {}", show(&r.memory_before), show(&r.memory_after))
    });
    race_row("packets sent on lo0", &|r| r.sent.to_string());
    race_row("packets read, captured, dropped", &|r| {
        format!("{}, {}, {}", r.packets, r.captured, r.dropped)
    });
    race_row("runs of tcpdump", &|r| r.tcpdump_runs.to_string());
    let yes = |good: bool| if good { "yes" } else { "no" };
    let mut after_row = |name: &str, value: &dyn Fn(&AfterRevoke) -> String| {
        row(name, &|c| c.after_revoke.as_ref().map_or_else(|| "-".into(), value));
    };
    after_row("after revoke: sleeping reader", &|a| a.reader_result.clone());
    after_row("after revoke: capture goes on", &|a| a.captures_after.map_or("?", yes).into());
    after_row("after revoke: still promiscuous", &|a| yes(a.promiscuous_after).into());
    table
}

fn times(times: &Times) -> String {
    if times.count == 0 {
        return "-".into();
    }
    let ms = |micros: u64| format!("{}.{:02}", micros / 1000, micros % 1000 / 10);
    format!("{}/{}/{} ms", ms(times.p50), ms(times.p99), ms(times.max))
}

#[cfg(test)]
mod tests {
    use super::*;
    use bpfrs_vm_protocol as protocol;

    const LIMITS: Limits = Limits { revokes: 1000, wake_micros: 10_000 };

    fn good_race() -> Race {
        Race {
            opens: 500,
            reads: 300,
            revokes: 1000,
            blocked: 200,
            woken: 180,
            wake_time: Times { count: 180, p50: 300, p99: 9_000, max: 20_000 },
            driver: Some(protocol::Driver {
                opens: 500,
                zero: 10,
                one: 480,
                two: 9,
                more: 1,
                ..protocol::Driver::default()
            }),
            ..Race::default()
        }
    }

    fn column(driver: Driver) -> Column {
        Column {
            guest: "debug".into(),
            release: "12.1".into(),
            debug_kernel: true,
            memguard: None,
            driver,
            boot_seconds: 8.0,
            seconds_to_panic: None,
            hung: false,
            race: Some(good_race()),
            after_revoke: Some(AfterRevoke {
                promiscuous_before: true,
                captures_after: Some(false),
                reader_woken: true,
                reader_result: "ENXIO".into(),
                reopened: true,
                ..AfterRevoke::default()
            }),
            findings: Vec::new(),
            problems: Vec::new(),
        }
    }

    #[test]
    fn a_good_run_has_no_problems() {
        assert_eq!(problems(&column(Driver::Bpfrs), LIMITS), Vec::<String>::new());
    }

    #[test]
    fn every_defect_of_a_run_is_a_problem() {
        let defects: &[fn(&mut Race)] = &[
            |r| r.reads = 0,
            |r| r.woken = 0,
            |r| r.revokes = 999,
            |r| r.asleep = 1,
            |r| r.woken_late = 1,
            |r| r.wake_time.p99 = 10_001,
            |r| r.bad_records = 1,
            |r| r.stuck_processes = 1,
            |r| r.stuck_nodes = 1,
            |r| r.driver = None,
            |r| r.driver.as_mut().unwrap().live = 1,
            |r| r.driver.as_mut().unwrap().descriptors = 1,
            |r| r.driver.as_mut().unwrap().zero = 9,
            |r| r.memory_after.allocations = 1,
            |r| r.memory_after.guarded = 4096,
        ];
        for (number, defect) in defects.iter().enumerate() {
            let mut column = column(Driver::Bpfrs);
            defect(column.race.as_mut().unwrap());
            assert!(!problems(&column, LIMITS).is_empty(), "defect {number} goes unnoticed");
        }
    }

    #[test]
    fn every_defect_of_a_column_is_a_problem() {
        let defects: &[fn(&mut Column)] = &[
            |c| c.seconds_to_panic = Some(99.0),
            |c| c.hung = true,
            |c| c.race = None,
            |c| c.after_revoke = None,
            |c| c.problems.push("kldload".into()),
            |c| {
                c.findings = crate::findings::find(["acquiring duplicate lock of same type: \"x\""])
            },
            |c| c.after_revoke.as_mut().unwrap().promiscuous_after = true,
            |c| c.after_revoke.as_mut().unwrap().promiscuous_at_end = true,
            |c| c.after_revoke.as_mut().unwrap().captures_after = None,
            |c| c.after_revoke.as_mut().unwrap().reader_woken = false,
            |c| c.after_revoke.as_mut().unwrap().reader_result = "0 bytes".into(),
            |c| c.after_revoke.as_mut().unwrap().reopened = false,
        ];
        for (number, defect) in defects.iter().enumerate() {
            let mut column = column(Driver::Bpfrs);
            defect(&mut column);
            assert!(!problems(&column, LIMITS).is_empty(), "defect {number} goes unnoticed");
        }
    }

    #[test]
    fn the_positive_control_must_panic_in_time() {
        let mut legacy = column(Driver::Legacy);
        assert!(!problems(&legacy, LIMITS).is_empty());
        legacy.seconds_to_panic = Some(2.0);
        assert_eq!(problems(&legacy, LIMITS), Vec::<String>::new());
        legacy.seconds_to_panic = Some(10.5);
        assert!(!problems(&legacy, LIMITS).is_empty());
    }

    #[test]
    fn the_table_has_a_column_for_each() {
        let columns = [column(Driver::Legacy), column(Driver::Stock), column(Driver::Bpfrs)];
        let text = table(&columns).to_string();
        for part in
            ["legacy on debug", "bpfrs on debug", "10/480/9/1", "0.30/9.00/20.00 ms", "ENXIO"]
        {
            assert!(text.contains(part), "{part} in\n{text}");
        }
    }
}
