// SPDX-License-Identifier: BSD-2-Clause
//! `make bench`: what a filter costs, and an append, against what others do.
//!
//! Where a linker happens to put functions changes an interpreter's speed by up
//! to a third. So the same program is linked several times in random order
//! (`sys/build/bench.sh`); each of these measures all machines in turn, the
//! programs take turns, too, and what counts is the median over them.

mod append;
mod by_hand;
mod filters;
mod measure;
mod report;

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use clap::Parser;
use indicatif::ProgressBar;
use measure::Measurement;
use report::{Host, Results};

#[derive(Parser)]
#[command(about = "Measures filters and the append against what others do")]
enum Options {
    /// Measure everything once, in this layout; JSON on standard output
    Measure,
    /// Let several layouts take turns, and report the medians
    Run {
        /// Directory for results.json and filters.svg
        #[arg(long)]
        out: PathBuf,
        /// When this is, as results.json tells it
        #[arg(long)]
        date: String,
        /// How often each layout has its turn
        #[arg(long, default_value_t = 9)]
        turns: usize,
        /// This program, linked in different orders
        #[arg(required = true)]
        layouts: Vec<PathBuf>,
    },
}

fn main() -> Result<()> {
    match Options::parse() {
        Options::Measure => {
            serde_json::to_writer(std::io::stdout().lock(), &measure::all())?;
            Ok(())
        }
        Options::Run { out, date, turns, layouts } => run(&out, date, turns, &layouts),
    }
}

fn run(out: &Path, date: String, turns: usize, layouts: &[PathBuf]) -> Result<()> {
    let bar = ProgressBar::new((turns * layouts.len()) as u64);
    // For each layout the best of its turns.
    let mut best: Vec<Option<Measurement>> = vec![None; layouts.len()];
    for turn in 1..=turns {
        if bar.is_hidden() {
            eprintln!("Measuring: turn {turn} of {turns}");
        }
        for (layout, best) in layouts.iter().zip(&mut best) {
            let output = Command::new(layout).arg("measure").output();
            let output = output.with_context(|| layout.display().to_string())?;
            let error = String::from_utf8_lossy(&output.stderr);
            ensure!(output.status.success(), "{}: {error}", layout.display());
            let now: Measurement = serde_json::from_slice(&output.stdout)?;
            *best = Some(match best.take() {
                None => now,
                Some(before) => before.better(&now),
            });
            bar.inc(1);
        }
    }
    bar.finish_and_clear();
    let median = Measurement::median(&best.into_iter().flatten().collect::<Vec<_>>());
    let results = Results {
        date,
        host: Host::this(),
        rustc: env!("BENCH_RUSTC"),
        bpfrs: env!("CARGO_PKG_VERSION"),
        unit: "ns for each packet",
        layouts: layouts.len(),
        turns,
        measured: median,
    };
    report::print(&results);
    report::write(&results, out)
}
