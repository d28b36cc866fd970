// SPDX-License-Identifier: BSD-2-Clause
//! What revoke(2) under a sleeping reader does to bpf(4) as it was in 2008, and to bpfrs: the whole
//! driver, on a model of devfs in an ordinary process (`bpfrs::kpi::host`), with memguard.
//!
//! Each driver runs in a child process, for the first one does not live long.

mod legacy;
mod reproducer;

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Command, ExitCode, Stdio};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use bpfrs::kpi::host;
use bpfrs_verdict::{Column, Driver, Finding, Limits, PANIC, outcome, problems, table};
use bpfrs_vm_protocol::{AfterRevoke, Message, decode, encode};
use clap::{Parser, Subcommand};
use indicatif::{ProgressBar, ProgressStyle};

/// A child may take so much longer than it was told to.
const PATIENCE: Duration = Duration::from_secs(30);
/// How often legacy may die before its death must do, whatever it tells.
const LEGACY_TRIES: usize = 5;

#[derive(Parser)]
#[command(
    about = "The revoke(2) race of bpf(4) on the host: legacy is caught, bpfrs stands it",
    version
)]
struct Cli {
    #[command(flatten)]
    options: Options,
    #[command(subcommand)]
    child: Option<Role>,
}

#[derive(clap::Args)]
struct Options {
    /// How long bpfrs has to stand it; legacy gets ten of them at most
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..))]
    seconds: u64,
    /// By then 99 of 100 blocked readers must be awake; and more may be late only if as many of a
    /// control are, which the driver has nothing to do with
    #[arg(long, default_value_t = 100, value_name = "MILLISECONDS")]
    wake_limit: u64,
    /// Loads bpfrs where legacy is announced, and the other way round: both must be judged bad
    #[arg(long, hide = true)]
    swap: bool,
}

#[derive(Subcommand)]
enum Role {
    /// One driver under the reproducer, in this process
    #[command(hide = true)]
    Child {
        /// What is announced
        driver: Driver,
        /// What is loaded
        loaded: Driver,
        /// For so long
        seconds: u64,
        /// See above
        wake_limit: u64,
    },
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let result = match cli.child {
        Some(Role::Child { driver, loaded, seconds, wake_limit }) => {
            child(driver, loaded, seconds, wake_limit)
        }
        None => show(&cli.options),
    };
    match result {
        Ok(code) => code,
        Err(error) => {
            eprintln!("bpfrs-demo: {error:#}");
            ExitCode::from(2)
        }
    }
}

/// Runs the reproducer, and tells on stdout what it counts.
fn child(driver: Driver, loaded: Driver, seconds: u64, wake_limit: u64) -> Result<ExitCode> {
    let mut sequence = 0;
    let mut tell = |message: &Message| {
        let mut stdout = std::io::stdout().lock();
        let told = writeln!(stdout, "{}", encode(sequence, message)).and_then(|()| stdout.flush());
        if told.is_err() {
            // The parent has gone.
            std::process::exit(1);
        }
        sequence += 1;
    };
    let error = |what: &'static str| move |errno| anyhow::anyhow!("{what}: errno {errno}");
    host::set_memguard(true);
    host::load_driver(if loaded == Driver::Legacy { &legacy::LEGACY } else { &host::BPFRS })
        .map_err(error("loading"))?;
    if driver != Driver::Legacy {
        let after = reproducer::after_revoke(driver.device()).map_err(error("after revoke"))?;
        tell(&Message::AfterRevoke(after));
    }
    let time = Duration::from_secs(seconds);
    let race = reproducer::race(driver.device(), time, wake_limit * 1000, |race| {
        tell(&Message::Progress(race.clone()));
    });
    tell(&Message::Race(race));
    // Whatever the driver leaves behind ends the process.
    host::unload(false).map_err(error("unloading"))?;
    tell(&Message::End { messages: 0 });
    Ok(ExitCode::SUCCESS)
}

fn show(options: &Options) -> Result<ExitCode> {
    let limits = Limits { revokes: 1 };
    let mut columns =
        vec![legacy(options)?, stock(), run(Driver::Bpfrs, options.seconds, options)?];
    let mut good = true;
    for column in &mut columns {
        column.problems = problems(column, limits);
        for finding in &column.findings {
            println!(
                "{}, after {:.1} s:",
                column.driver.name(),
                column.seconds_to_panic.unwrap_or_default()
            );
            finding.quote.iter().for_each(|line| println!("    {line}"));
            println!();
        }
    }
    println!("{}", table(&columns));
    for column in columns.iter().filter(|column| !column.modelled) {
        let verdict = if column.problems.is_empty() { "ok" } else { "NOT OK" };
        println!("{}: {}: {verdict}", column.driver.name(), outcome(column));
        for problem in &column.problems {
            good = false;
            eprintln!("bpfrs-demo: {}: {problem}", column.driver.name());
        }
    }
    Ok(if good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// How long the positive control is tried.
const LEGACY_SECONDS: u64 = 10;

/// The positive control. It has several ways to die; the one that tells most is by freed memory, so
/// the others get another try.
fn legacy(options: &Options) -> Result<Column> {
    let seconds = options.seconds.min(LEGACY_SECONDS);
    for _ in 1..LEGACY_TRIES {
        let column = run(Driver::Legacy, seconds, options)?;
        let died = column.seconds_to_panic.is_some();
        let told = |finding: &Finding| finding.quote.iter().any(|line| line.contains("memguard: "));
        if !died || column.findings.iter().any(told) {
            return Ok(column);
        }
        println!("legacy: {}; once more", outcome(&column));
    }
    run(Driver::Legacy, seconds, options)
}

/// What stock bpf(4) does, by its source: it has no `d_close`, and what it has on a descriptor is
/// reached by the file alone.
fn stock() -> Column {
    let after = AfterRevoke {
        promiscuous_before: true,
        promiscuous_after: true,
        captures_after: Some(true),
        reader_result: "asleep".into(),
        reopened: true,
        ..AfterRevoke::default()
    };
    Column { modelled: true, after_revoke: Some(after), ..Column::new(Driver::Stock) }
}

/// One driver in a child process.
fn run(driver: Driver, seconds: u64, options: &Options) -> Result<Column> {
    let loaded = match (driver, options.swap) {
        (Driver::Legacy, false) | (Driver::Bpfrs, true) => Driver::Legacy,
        _ => Driver::Bpfrs,
    };
    let mut child = Command::new(std::env::current_exe()?)
        .args(["child", driver.name(), loaded.name()])
        .args([seconds.to_string(), options.wake_limit.to_string()])
        .env_remove("RUST_BACKTRACE")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("the child does not start")?;
    let (Some(stdout), Some(stderr)) = (child.stdout.take(), child.stderr.take()) else {
        bail!("a child without output");
    };
    // What it says there are its last words, and they may take a while.
    let fault = Arc::new(OnceLock::new());
    let first = Arc::clone(&fault);
    let stderr = std::thread::spawn(move || {
        let (mut reader, mut text) = (BufReader::new(stderr), Vec::new());
        reader.read_until(b'\n', &mut text)?;
        let _ = first.set(Instant::now());
        reader.read_to_end(&mut text).map(|_| text)
    });
    let (send, lines) = channel();
    std::thread::spawn(move || {
        BufReader::new(stdout).lines().map_while(Result::ok).try_for_each(|line| send.send(line))
    });
    let bar = progress(driver.name(), seconds);
    let mut column = Column::new(driver);
    let mut begin = Instant::now();
    let deadline = begin + Duration::from_secs(seconds) + PATIENCE;
    loop {
        match lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(line) => match decode(&line) {
                Some(Ok((_, Message::AfterRevoke(after)))) => column.after_revoke = Some(after),
                Some(Ok((_, Message::Progress(_)))) if fault.get().is_some() => {}
                Some(Ok((_, Message::Progress(race) | Message::Race(race)))) => {
                    if column.race.is_none() {
                        begin = Instant::now();
                    }
                    bar.set_position(race.seconds as u64);
                    bar.set_message(format!(
                        "{} opens, {} reads, {} revokes",
                        race.opens, race.reads, race.revokes
                    ));
                    column.race = Some(race);
                }
                Some(Ok(_)) => {}
                Some(Err(_)) | None => column.problems.push(format!("not a message: {line}")),
            },
            Err(RecvTimeoutError::Disconnected) => break,
            Err(RecvTimeoutError::Timeout) => {
                column.hung = true;
                child.kill()?;
                break;
            }
        }
    }
    let status = child.wait()?;
    bar.finish_and_clear();
    let Ok(text) = stderr.join() else { bail!("no stderr of the child") };
    let text = text?;
    // The end of stderr, if it said nothing.
    let end = fault.get().copied().unwrap_or_else(Instant::now);
    let lived = end.saturating_duration_since(begin);
    if !column.hung && !status.success() {
        // What it counted last is from before: nothing was, of the first second.
        column.race = None;
        column.seconds_to_panic = Some(lived.as_secs_f64());
        column.findings.push(Finding {
            kind: PANIC,
            line: 0,
            quote: last_words(&String::from_utf8_lossy(&text), &status.to_string()),
        });
    }
    Ok(column)
}

/// What a child said that ended badly; how it ended, if it said nothing.
fn last_words(text: &str, status: &str) -> Vec<String> {
    let said = text.lines().filter(|line| !line.trim().is_empty()).take(40).map(String::from);
    // Of a panic, the reason first.
    let (place, mut words): (Vec<_>, Vec<_>) = said.partition(|line| line.contains("panicked at"));
    words.extend(place);
    if words.is_empty() {
        words.push(format!("{status}: an access to memory that never was the driver's"));
    }
    words
}

/// A line that tells what is going on; nothing when nobody watches.
fn progress(what: &'static str, seconds: u64) -> ProgressBar {
    let bar = ProgressBar::new(seconds);
    if let Ok(style) = ProgressStyle::with_template("{prefix:6} {bar:20} {pos}/{len} s  {msg}") {
        bar.set_style(style);
    }
    bar.set_prefix(what);
    bar
}
