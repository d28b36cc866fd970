// SPDX-License-Identifier: BSD-2-Clause
//! `diff`: what a program can see of stock and of bpfrs, compared; and a storm of operations.

use std::fs;
use std::process::ExitCode;

use anyhow::{Context, Result, anyhow, ensure};
use bpfrs_verdict::behaviours::{self, Comparison, Rule, Seen, compare};
use bpfrs_vm_protocol::Outcome;
use clap::ValueEnum;

use crate::DiffOptions;
use crate::group::{Boot, Group};
use crate::guest::Guest;
use crate::machine::Hardware;
use crate::payload::{self, Module};
use crate::tap::Tap;

/// What can be asked for alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Part {
    /// Stock and bpfrs behave the same
    Behaviours,
    /// Random operations by many processes
    Storm,
}

/// A family that shows what the negative control spoils.
const SPOILED: &str = "counter";

pub(crate) fn run(
    guests: &[Guest],
    hardware: &Hardware,
    options: &DiffOptions,
) -> Result<ExitCode> {
    let path = payload::repository().join("docs/differences.md");
    let text = fs::read_to_string(&path).with_context(|| format!("{}", path.display()))?;
    let rules = behaviours::rules(&text).map_err(|why| anyhow!("{}: {why}", path.display()))?;
    let mut tap = Tap::default();
    for guest in guests {
        let basis = guest.basis(options.modules);
        tap.begin(guest, basis);
        let payload = payload::make(guest, basis, &[Module::Bpfrs])?;
        let boot = Boot { series: "diff", guest, basis, hardware, payload: &payload };
        if options.parts.contains(&Part::Behaviours) {
            behave(&boot, options, &rules, &mut tap)?;
        }
        if options.parts.contains(&Part::Storm) {
            storm(options, "").run(&boot, &mut tap)?;
            // What is left behind must be seen.
            let few = DiffOptions { operations: options.operations.min(2000), ..options.clone() };
            storm(&few, " --spoil leave").run(&boot, &mut tap)?;
        }
    }
    println!("# consoles: {}/diff-*/console.log", payload::work_folder().display());
    Ok(if tap.finish() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// A boot that looks at one driver.
fn looking(name: &str, setup: Vec<String>, subject: &str, families: &[String]) -> Group {
    let command = format!("/mnt/bpfrs-guest behaviours {subject} {}", families.join(" "));
    Group {
        name: name.into(),
        // What is watched is bpfrs' memory: of stock there is none.
        guarded: !setup.is_empty(),
        setup,
        must_fail: false,
        commands: vec![(command, 3600)],
    }
}

fn behave(boot: &Boot<'_>, options: &DiffOptions, rules: &[Rule], tap: &mut Tap) -> Result<()> {
    const STOCK: &str = "--stock --device /dev/bpf";
    let see = |group: Group, tap: &mut Tap| -> Result<Seen> {
        Ok(behaviours::seen(&group.run(boot, tap)?))
    };
    let families = &options.families;
    let stock = see(looking("stock", vec![], STOCK, families), tap)?;
    let bpfrs = see(looking("bpfrs", vec![Module::Bpfrs.load()], "", families), tap)?;
    let control = format!("{STOCK} --spoil immediate");
    let control = see(looking("control", vec![], &control, &[SPOILED.into()]), tap)?;

    let guest = &boot.guest.name;
    let release = boot.guest.release.as_str();
    ensure!(!release.is_empty(), "{guest}: which FreeBSD is it?");
    let compared = compare(&stock, &bpfrs, rules, release);
    show(guest, &compared);
    judge(boot.guest, &compared, rules, families.is_empty(), tap);

    // The same driver with one setting changed must not pass for itself.
    let family = format!("{SPOILED}/");
    let mut same = stock;
    same.retain(|name, _| name.starts_with(&family));
    if !same.is_empty() {
        let spoiled = compare(&same, &control, rules, release).unexplained.len();
        let outcome = match spoiled {
            0 => Outcome::Failed(
                "an open that is immediate was not told from one that is not".into(),
            ),
            _ => Outcome::Passed,
        };
        tap.result(&format!("{guest} control: {spoiled} unexplained differences"), &outcome);
    }
    Ok(())
}

fn show(guest: &str, compared: &Comparison) {
    println!("{}", compared.table());
    println!(
        "# {guest}: {} behaviours, {} explained differences, {} unexplained",
        compared.behaviours,
        compared.explained(),
        compared.unexplained.len()
    );
}

fn judge(
    Guest { name: guest, release, .. }: &Guest,
    compared: &Comparison,
    rules: &[Rule],
    whole: bool,
    tap: &mut Tap,
) {
    for difference in &compared.unexplained {
        let mut text = format!("stock: {}\nbpfrs: {}", difference.stock, difference.bpfrs);
        if let Some(rule) = rules.iter().find(|rule| rule.explains(difference)) {
            text.push_str(&format!("\non {:?}, not on {release}: {}", rule.releases, rule.why));
        }
        tap.result(&format!("{guest}: {}", difference.name), &Outcome::Failed(text));
    }
    // A part of the behaviours cannot show every difference.
    for rule in compared.out_of_date().filter(|_| whole) {
        let text = format!(
            "docs/differences.md says {:?}, but it does not occur on {release}: {}",
            rule.releases, rule.why
        );
        tap.result(&format!("{guest}: {}", rule.names), &Outcome::Failed(text));
    }
    let number = compared.behaviours;
    let outcome = if number > 0 && compared.unexplained.is_empty() {
        Outcome::Passed
    } else {
        Outcome::Failed(format!("{} differ without a reason", compared.unexplained.len()))
    };
    tap.result(
        &format!("{guest}: {number} behaviours, the same but for what is explained"),
        &outcome,
    );
}

fn storm(options: &DiffOptions, spoil: &str) -> Group {
    let DiffOptions { processes, operations, seed, .. } = options;
    let seed = seed.map_or_else(String::new, |seed| format!(" --seed {seed}"));
    Group {
        name: if spoil.is_empty() { "storm" } else { "storm-control" }.into(),
        setup: vec![Module::Bpfrs.load()],
        // malloc(9)'s counters, which show what is left, leave out what memguard has.
        guarded: false,
        must_fail: !spoil.is_empty(),
        commands: vec![(
            format!(
                "/mnt/bpfrs-guest storm --processes {processes} --operations {operations}{seed}{spoil}"
            ),
            600 + operations / 50,
        )],
    }
}
