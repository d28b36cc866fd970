// SPDX-License-Identifier: BSD-2-Clause
//! Explores a state machine and prints what it found; of a broken driver the
//! shortest way to the failure.

use std::process::ExitCode;

use clap::{Parser, Subcommand, ValueEnum};
use comfy_table::{Table, presets::NOTHING};

use bpfrs_proof::life::{self, Broken, Invariant, LARGE, Outcome, STANDARD};

#[derive(Parser)]
#[command(about = "Explores the state machines of bpfrs", version)]
struct Cli {
    #[command(subcommand)]
    machine: Machine,
}

#[derive(Subcommand)]
enum Machine {
    /// The life of an open: devfs, revoke(2), and who ends it
    Life {
        /// More threads
        #[arg(long)]
        large: bool,
        /// Only the scenes whose names contain this
        #[arg(long, value_name = "TEXT", default_value = "")]
        scene: String,
        /// A driver that is wrong in one place, which must be found
        #[arg(long, value_name = "NAME", conflicts_with = "controls")]
        broken: Option<Broken>,
        /// Every broken driver in turn
        #[arg(long)]
        controls: bool,
    },
}

fn main() -> ExitCode {
    let Machine::Life { large, scene, broken, controls } = Cli::parse().machine;
    let all = if large { LARGE } else { STANDARD };
    let scenes: Vec<_> = all.iter().filter(|s| s.name.contains(&scene)).collect();
    let good = match broken {
        _ if scenes.is_empty() => {
            eprintln!("bpfrs-proof: no scene has {scene:?} in its name");
            false
        }
        Some(broken) => show_broken(broken, &life::explore(&scenes, Some(broken))),
        None if controls => run_controls(&scenes),
        None => show(&life::explore(&scenes, None), scene.is_empty() && !large),
    };
    if good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// What was explored, in one line.
fn figures(outcome: &Outcome) -> String {
    let Outcome { states, unique, depth, time, .. } = outcome;
    format!("{states} states, {unique} different, depth {depth}, {:.1} s", time.as_secs_f64())
}

/// The driver as it is: nothing may be broken and, if the scenes are those
/// that show it, everything must be seen.
fn show(outcome: &Outcome, complete: bool) -> bool {
    println!("{}", figures(outcome));
    let mut table = Table::new();
    table.load_preset(NOTHING);
    let broken = outcome.broken.as_ref();
    for invariant in Invariant::ALL {
        let fails = broken.is_some_and(|(which, _)| *which == invariant);
        let verdict = match broken {
            None => "holds",
            Some(_) if fails => "BROKEN",
            Some(_) => "not decided",
        };
        table.add_row([verdict.to_owned(), invariant.to_string()]);
    }
    for (name, trace) in &outcome.sights {
        let verdict = match trace {
            Some(trace) => format!("seen, step {}", trace.steps.len()),
            None if complete => "NOT SEEN".to_owned(),
            None => "not seen".to_owned(),
        };
        table.add_row([verdict, (*name).to_owned()]);
    }
    println!("{table}");
    if let Some((_, trace)) = broken {
        println!("{trace}");
    }
    broken.is_none() && (!complete || outcome.sights.values().all(Option::is_some))
}

fn show_broken(control: Broken, outcome: &Outcome) -> bool {
    println!("{}", figures(outcome));
    match &outcome.broken {
        None => println!("NOT FOUND: should break {}", control.breaks()),
        Some((invariant, trace)) => {
            println!("Broken: {invariant}\n{trace}");
            if *invariant != control.breaks() {
                println!("WRONG REASON: should break {}", control.breaks());
            }
        }
    }
    is_caught(control, outcome)
}

fn is_caught(control: Broken, outcome: &Outcome) -> bool {
    outcome.broken.as_ref().is_some_and(|(invariant, _)| *invariant == control.breaks())
}

fn run_controls(scenes: &[&'static life::Scene]) -> bool {
    let mut table = Table::new();
    table.load_preset(NOTHING);
    table.set_header(["control", "", "broken first", "steps", "states", "seconds"]);
    let mut good = true;
    for control in Broken::value_variants() {
        let outcome = life::explore(scenes, Some(*control));
        let caught = is_caught(*control, &outcome);
        good &= caught;
        let found = outcome.broken.as_ref();
        table.add_row([
            control.to_string(),
            if caught { "caught" } else { "MISSED" }.to_owned(),
            found.map_or("nothing".to_owned(), |(invariant, _)| invariant.to_string()),
            found.map_or(String::new(), |(_, trace)| trace.steps.len().to_string()),
            outcome.unique.to_string(),
            format!("{:.2}", outcome.time.as_secs_f64()),
        ]);
    }
    println!("{table}");
    good
}
