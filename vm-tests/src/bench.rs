// SPDX-License-Identifier: BSD-2-Clause
//! `bench`: what stock and bpfrs add to a packet, in every guest.

use std::process::ExitCode;

use anyhow::Result;
use bpfrs_verdict::bench::{Unit, cost_table};
use bpfrs_vm_protocol::Message;
use bpfrs_vm_protocol::bench::Cost;

use crate::BenchOptions;
use crate::group::{Boot, Group};
use crate::guest::Guest;
use crate::machine::{Hardware, Monitor, NS_PER_INSTRUCTION};
use crate::payload::{self, Module};
use crate::tap::Tap;

/// A round of everything, in seconds, at the worst.
const ROUND: u64 = 600;

pub(crate) fn run(
    guests: &[Guest],
    hardware: Hardware,
    options: &BenchOptions,
) -> Result<ExitCode> {
    let (hardware, unit) = if options.instructions {
        anyhow::ensure!(hardware.monitor == Monitor::Qemu, "only QEMU counts instructions");
        (
            Hardware { instructions: true, cpus: 1, ..hardware },
            Unit::Instructions(NS_PER_INSTRUCTION),
        )
    } else {
        (hardware, Unit::Nanoseconds)
    };
    // INVARIANTS, WITNESS and sanitizers cost more than what is to be measured.
    let plain = |guest: &&Guest| !guest.debug && guest.sanitizer.is_none();
    let guests: Vec<&Guest> = guests.iter().filter(plain).collect();
    anyhow::ensure!(!guests.is_empty(), "there are only guests with debug kernels");
    let mut tap = Tap::default();
    let mut told: Vec<(String, Vec<Cost>)> = Vec::new();
    for guest in guests {
        let basis = guest.basis(options.modules);
        tap.begin(guest, basis);
        let payload = payload::make(guest, basis, &[Module::Bpfrs])?;
        let boot = Boot { series: "bench", guest, basis, hardware: &hardware, payload: &payload };
        let group = |name: &str, must_fail, command: String, rounds: u64| Group {
            name: name.into(),
            setup: vec![Module::Bpfrs.load()],
            guarded: false,
            must_fail,
            commands: vec![(format!("/mnt/bpfrs-guest bench {command}"), ROUND * (rounds + 1))],
        };
        let (packets, rounds) = (options.packets, options.rounds);
        let command = format!("--frames {packets} --count {rounds}");
        let control = group("control", true, "--frames 64 --count 1 --spoil snaplen".into(), 1);
        control.run(&boot, &mut tap)?;
        let group = group("bench", false, command, rounds);
        let costs = group.run(&boot, &mut tap)?.into_iter().filter_map(|message| match message {
            Message::Cost(cost) => Some(cost),
            _ => None,
        });
        told.push((guest.name.clone(), costs.collect()));
    }
    for (guest, costs) in &told {
        println!("{}\n", cost_table(guest, costs, unit));
    }
    println!(
        "# {unit} of sender and listeners for each packet; medians of {} rounds",
        options.rounds
    );
    if let Some(path) = &options.json {
        crate::write_file(path, &serde_json::to_string_pretty(&told)?)?;
    }
    println!("# consoles: {}/bench-*/console.log", payload::work_folder().display());
    Ok(if tap.finish() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
