// SPDX-License-Identifier: BSD-2-Clause
//! `net`: bpf on real interfaces, in every guest; first stock as its own subject, then bpfrs.

use std::process::ExitCode;

use anyhow::Result;
use bpfrs_verdict::net::{life_table, parity_table, reload_table};
use bpfrs_vm_protocol::Message;
use clap::ValueEnum;

use crate::NetOptions;
use crate::group::{Boot, Group};
use crate::guest::Guest;
use crate::machine::Hardware;
use crate::payload::{self, Module};
use crate::tap::Tap;

/// What can be asked for alone; each has a boot of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Part {
    /// Stock and the subject capture the same
    Parity,
    /// Interfaces come, go and move under readers
    Life,
    /// The module is loaded again under traffic
    Reload,
}

/// What is tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Driver {
    /// The kernel's own, against itself
    Stock,
    /// Ours
    Bpfrs,
}

/// Frames of parity's negative control, which stops at the first batches that differ.
const CONTROL_FRAMES: u64 = 200;

pub(crate) fn run(guests: &[Guest], hardware: Hardware, options: &NetOptions) -> Result<ExitCode> {
    let hardware = Hardware { network: true, ..hardware };
    let mut tap = Tap::default();
    let mut told = Vec::new();
    for guest in guests {
        let modules: &[Module] =
            if options.drivers.contains(&Driver::Bpfrs) { &[Module::Bpfrs] } else { &[] };
        let basis = guest.basis(options.modules);
        tap.begin(guest, basis);
        let payload = payload::make(guest, basis, modules)?;
        let boot = Boot { series: "net", guest, basis, hardware: &hardware, payload: &payload };
        for driver in &options.drivers {
            for part in &options.parts {
                for group in groups(*driver, *part, options) {
                    let messages = group.run(&boot, &mut tap)?;
                    if !group.must_fail {
                        let title = format!("{} {}", guest.name, group.name);
                        told.extend(messages.into_iter().map(|message| (title.clone(), message)));
                    }
                }
            }
        }
    }
    show(&told);
    println!("# consoles: {}/net-*/console.log", payload::work_folder().display());
    Ok(if tap.finish() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The boots of one part.
fn groups(driver: Driver, part: Part, options: &NetOptions) -> Vec<Group> {
    let stock = driver == Driver::Stock;
    // Stock only shows that a test is true of it: for that fewer will do.
    let share = |number: u64| if stock { number.div_ceil(options.stock_share) } else { number };
    let subject = if stock { "--stock --device /dev/bpf" } else { "" };
    let (names, command, limit) = match part {
        Part::Parity => {
            let frames = share(options.frames);
            let kinds = options.kinds.join(" ");
            let command = format!("net-parity {subject} --frames {frames} {kinds}");
            // 13 ways through 7 kinds, 20 frames a second at the worst.
            (["parity", "parity-control"], command, 600 + frames * 13 / 20)
        }
        Part::Life => {
            let (cycles, moves) = (share(options.cycles), share(options.moves));
            let cases = if stock { CALM } else { "" };
            let command = format!("net-life {subject} --cycles {cycles} --moves {moves} {cases}");
            (["life", "life-control"], command, 600 + 30 * (cycles + moves))
        }
        Part::Reload => {
            let count = share(options.reloads);
            let module = if stock { "" } else { "--module /mnt/bpfrs.ko" };
            let command = format!("net-reload {subject} {module} --count {count}");
            (["reload", "reload-control"], command, 600 + 60 * count)
        }
    };
    let group = |name, must_fail, commands| Group {
        name: format!("{}-{name}", if stock { "stock" } else { "bpfrs" }),
        setup: if stock { vec![] } else { vec![Module::Bpfrs.load()] },
        // Reloading judges by malloc(9)'s counters, which leave out what memguard has.
        guarded: !stock && part != Part::Reload,
        must_fail,
        commands,
    };
    let mnt = "/mnt/bpfrs-guest";
    let mut groups = vec![group(names[0], false, vec![(format!("{mnt} {command}"), limit)])];
    // A subject that misses some sizes or cuts frames; readers that cannot wake; an interface that
    // goes down in between.
    let controls = match part {
        Part::Parity => {
            let ways = "lo0 epair vlan-parent tap";
            let spoiled = |how| {
                format!("net-parity {subject} --frames {CONTROL_FRAMES} --spoil {how} {ways}")
            };
            vec![spoiled("size"), spoiled("snaplen")]
        }
        Part::Life => {
            let storms = "epair-comes-and-goes tap-and-vlan-comes-and-goes";
            vec![if stock {
                // What bpfrs promises beyond stock, asked of stock.
                "net-life --device /dev/bpf --moves 3 vnet-moves".into()
            } else {
                format!("net-life {subject} --cycles 2 --spoil stop {storms}")
            }]
        }
        Part::Reload => vec![format!("net-reload {subject} --count 1 --spoil down")],
    };
    let controls = controls.into_iter().map(|command| (format!("{mnt} {command}"), 600)).collect();
    groups.push(group(names[1], true, controls));
    groups
}

/// What stock can be asked of interfaces that come and go. Not that they do so while it attaches to
/// them: in 12.1 `bpf_setif()` may look into one that is gone, and panics.
const CALM: &str = "gone-ends-read renamed-goes-on vnet-moves names-in-a-vnet nodes-in-a-jail";

/// Tables of what was counted.
fn show(told: &[(String, Message)]) {
    let (mut parity, mut life, mut reload) = (vec![], vec![], vec![]);
    for (title, message) in told {
        match message {
            Message::Parity(row) => parity.push((title.clone(), row)),
            Message::Life(row) => life.push((title.clone(), row)),
            Message::Reload(row) => reload.push((title.clone(), row)),
            _ => {}
        }
    }
    let tables = [
        (parity.is_empty(), parity_table(&parity)),
        (life.is_empty(), life_table(&life)),
        (reload.is_empty(), reload_table(&reload)),
    ];
    for (_, table) in tables.iter().filter(|(empty, _)| !empty) {
        println!("{table}\n");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    fn options(words: &[&str]) -> NetOptions {
        let words = ["vm-tests", "net"].iter().chain(words);
        match crate::Cli::try_parse_from(words).map(|cli| cli.command) {
            Ok(crate::Command::Net(options)) => options,
            other => panic!("{:?}", other.err().map(|e| e.to_string())),
        }
    }

    fn commands(driver: Driver, part: Part, words: &[&str]) -> Vec<String> {
        let groups = groups(driver, part, &options(words));
        groups.into_iter().flat_map(|g| g.commands).map(|(command, _)| command).collect()
    }

    #[test]
    fn stock_does_its_share_without_the_module() {
        let stock = commands(Driver::Stock, Part::Reload, &["--reloads", "200"]);
        assert!(stock[0].ends_with("--stock --device /dev/bpf  --count 20"), "{stock:?}");
        let ours = commands(Driver::Bpfrs, Part::Reload, &["--reloads", "200"]);
        assert!(ours[0].ends_with("--module /mnt/bpfrs.ko --count 200"), "{ours:?}");
        assert!(groups(Driver::Stock, Part::Life, &options(&[]))[0].setup.is_empty());
    }

    #[test]
    fn every_part_has_its_negative_control() {
        let options = options(&["--kinds", "lo0,tap"]);
        for driver in [Driver::Stock, Driver::Bpfrs] {
            for part in [Part::Parity, Part::Life, Part::Reload] {
                let groups = groups(driver, part, &options);
                let judged: Vec<bool> = groups.iter().map(|g| g.must_fail).collect();
                assert_eq!(judged, [false, true]);
                let control = &groups[1].commands[0].0;
                assert!(control.contains("--spoil") || control.ends_with("vnet-moves"));
            }
            assert!(groups(driver, Part::Parity, &options)[0].commands[0].0.ends_with("lo0 tap"));
        }
    }
}
