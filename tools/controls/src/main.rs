// SPDX-License-Identifier: BSD-2-Clause
//! Negative controls: breaks one rule of the driver at a time, in a copy of the
//! source, and sees that the check that guards the rule complains, for the right
//! reason. A check that cannot fail proves nothing.

mod list;
mod run;
mod tree;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Result, ensure};
use clap::Parser;
use comfy_table::{ContentArrangement, Table, presets};
use indicatif::{ProgressBar, ProgressStyle};

use list::Control;
use run::{Check, Verdict};
use tree::Tree;

/// What fits a terminal.
const WIDTH: u16 = 100;

#[derive(Parser)]
#[command(about = "Breaks the driver on purpose and sees that the checks catch it")]
struct Options {
    /// The list of controls
    #[arg(long, default_value = "tools/controls/controls.toml")]
    list: PathBuf,
    /// Only these numbers
    numbers: Vec<u32>,
}

fn main() -> ExitCode {
    match controls(&Options::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("bpfrs-controls: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Whether every control was caught.
fn controls(options: &Options) -> Result<bool> {
    let mut controls = list::read(&options.list)?;
    controls.retain(|c| options.numbers.is_empty() || options.numbers.contains(&c.number));
    ensure!(!controls.is_empty(), "no such control");
    let tree = Tree::copy(&std::env::current_dir()?)?;

    let bar = ProgressBar::new(controls.len() as u64)
        .with_style(ProgressStyle::with_template("{pos}/{len} {wide_msg}")?);
    // Each is said on a line of its own where no bar can be drawn.
    let say = |what: &str| {
        bar.set_message(what.to_owned());
        if bar.is_hidden() {
            eprintln!("{}/{} {what}", bar.position(), controls.len());
        }
    };
    say("the checks on the driver as it is");
    for check in Check::all(&controls) {
        check.passes_unbroken(&tree)?;
    }

    let mut table = Table::new();
    table.load_preset(presets::ASCII_MARKDOWN);
    table.set_content_arrangement(ContentArrangement::Dynamic).set_width(WIDTH);
    table.set_header(["", "rule", "what is broken", "caught by", "seconds"]);
    let mut missed = Vec::new();
    for control in &controls {
        say(&control.what);
        let verdict = judge(&tree, control)?;
        let seconds = match &verdict {
            Verdict::Caught { seconds } => format!("{seconds:.1}"),
            Verdict::Missed(_) => "NOT CAUGHT".to_owned(),
        };
        if let Verdict::Missed(why) = verdict {
            missed.push(format!("{} ({}): {why}", control.number, control.what));
        }
        let Control { number, rule, what, check, .. } = control;
        table.add_row([&number.to_string(), rule, what, check, &seconds]);
        bar.inc(1);
    }
    bar.finish_and_clear();
    println!("{table}");
    for control in &missed {
        eprintln!("bpfrs-controls: not caught: {control}");
    }
    println!("{} passed, {} failed", controls.len() - missed.len(), missed.len());
    Ok(missed.is_empty())
}

/// Breaks the tree for as long as the check runs.
fn judge(tree: &Tree, control: &Control) -> Result<Verdict> {
    let broken = tree.replace(&control.file, &control.from, &control.to)?;
    let verdict = Check::of(control).complains(tree, &control.because);
    broken.mend()?;
    verdict
}
