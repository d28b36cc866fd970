// SPDX-License-Identifier: BSD-2-Clause
//! `test`: the device's own tests, tcpdump, load and unload, in every guest.

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};
use bpfrs_vm_protocol::{Message, Outcome};

use crate::guest::Guest;
use crate::machine::{Hardware, Machine};
use crate::payload::{self, Module};
use crate::shell::{End, Shell};
use crate::tap::Tap;

pub(crate) fn run(
    guests: &[Guest],
    hardware: &Hardware,
    loads: u64,
    only: &[String],
) -> Result<ExitCode> {
    let mut tap = Tap::default();
    for guest in guests {
        let bar = crate::progress(format!("{}: building", guest.name));
        let payload = payload::make(guest, &[Module::Bpfrs])?;
        bar.finish_and_clear();
        let mut groups = vec![];
        if only.is_empty() {
            // Stock first: these tests must be true of the original, or they measure nothing.
            groups.push(Group {
                name: "stock",
                module: false,
                must_fail: false,
                commands: vec![
                    ("/mnt/bpfrs-guest test all --stock --device /dev/bpf".into(), 300),
                    ("/mnt/bpfrs-guest tcpdump --chroot /".into(), 60),
                ],
            });
            groups.push(Group {
                name: "negative-control",
                module: false,
                must_fail: true,
                commands: vec![(
                    format!("/mnt/bpfrs-guest test --device /dev/bpf {BEYOND_STOCK}"),
                    300,
                )],
            });
            groups.push(Group {
                name: "bpfrs",
                module: true,
                must_fail: false,
                commands: vec![
                    ("/mnt/bpfrs-guest test all".into(), 900),
                    ("/mnt/bpfrs-guest tcpdump --chroot /tmp/cage".into(), 60),
                    // The cage's devfs knows the nodes; unloading is another group.
                ],
            });
            groups.push(Group {
                name: "unload",
                module: true,
                must_fail: false,
                commands: vec![(
                    format!("/mnt/bpfrs-guest unload --module /mnt/bpfrs.ko --count {loads}"),
                    300 + loads,
                )],
            });
        } else {
            groups.push(Group {
                name: "bpfrs",
                module: true,
                must_fail: false,
                commands: vec![(format!("/mnt/bpfrs-guest test {}", only.join(" ")), 900)],
            });
        }
        for group in groups {
            group.run(guest, hardware, &payload, &mut tap)?;
        }
    }
    println!("# consoles: {}/test-*/console.log", payload::work_folder().display());
    Ok(if tap.finish() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Tests of what bpfrs promises beyond the stock driver, and the stock driver does not keep: run
/// there they must fail, or they can not fail at all.
const BEYOND_STOCK: &str = "second-open-is-busy killed-in-read revoke-read \
    revoke-read-with-timeout revoke-poll revoke-select revoke-kqueue revoke-many-readers \
    revoke-ends-promiscuous-mode busy-through-another-mount revoke-through-another-mount \
    open-through-another-mount forced-unmount-with-an-open";

/// Commands for one boot of a guest.
struct Group {
    name: &'static str,
    module: bool,
    /// The negative control: every test must fail.
    must_fail: bool,
    /// With their limits in seconds.
    commands: Vec<(String, u64)>,
}

impl Group {
    fn run(&self, guest: &Guest, hardware: &Hardware, payload: &Path, tap: &mut Tap) -> Result<()> {
        let title = format!("{} {}", guest.name, self.name);
        let bar = crate::progress(title.clone());
        bar.set_message("booting");
        let folder = payload::run_folder(&format!("test-{}-{}", guest.name, self.name))?;
        let memguard = [("vm.memguard.desc", "bpfrs")];
        // Not for unloading: memguard's counters are none of malloc(9)'s, which show the leaks.
        let guarded = guest.debug && self.module && self.name != "unload";
        let environment = if guarded { &memguard[..] } else { &[] };
        let machine = Machine::start(guest, hardware, environment, payload, &folder)?;
        let mut shell = Shell::boot(guest, machine)
            .with_context(|| format!("{} ({}/console.log)", guest.name, folder.display()))?;
        if self.module {
            for command in [Module::Bpfrs.load(), "sh /mnt/cage.sh /tmp/cage".into()] {
                if self.name == "unload" && command.starts_with("sh") {
                    continue;
                }
                let output = shell.run(&command, Duration::from_secs(60));
                let outcome = match output.end {
                    End::Status(0) => Outcome::Passed,
                    end => Outcome::Failed(format!("{end:?}: {}", output.lines.join("\n"))),
                };
                tap.result(&format!("{title}: {command}"), &outcome);
            }
        }
        for (command, limit) in &self.commands {
            bar.set_message(command.clone());
            let output = shell.run_watched(command, Duration::from_secs(*limit), |message| {
                if let Message::Case(case) = message {
                    bar.set_message(case.name.clone());
                }
            });
            let mut cases = 0;
            for message in &output.messages {
                if let Message::Case(case) = message {
                    cases += 1;
                    let outcome = match (self.must_fail, &case.outcome) {
                        (true, Outcome::Failed(_)) => Outcome::Passed,
                        (true, other) => Outcome::Failed(format!(
                            "it must fail on the stock driver, but gave {other:?}"
                        )),
                        (false, outcome) => outcome.clone(),
                    };
                    bar.suspend(|| tap.result(&format!("{title}: {}", case.name), &outcome));
                }
            }
            // 1 says that a test failed, which has been told.
            let ended = matches!(output.end, End::Status(0 | 1)) && output.complete && cases > 0;
            if !ended {
                let how = if output.complete { "" } else { ", and lines of it are lost" };
                let problem =
                    format!("{:?}{how}; its last lines:\n{}", output.end, last(&output.lines));
                tap.result(&format!("{title}: {command}"), &Outcome::Failed(problem));
            }
            for line in output.lines.iter().filter(|line| line.starts_with("tcpdump: ")) {
                println!("# {line}");
            }
            if output.end == End::Gone {
                break;
            }
        }
        bar.finish_and_clear();
        let findings = shell.findings();
        let outcome = if findings.is_empty() {
            Outcome::Passed
        } else {
            let quotes: Vec<String> =
                findings.iter().map(|f| format!("{}:\n{}", f.kind, f.quote.join("\n"))).collect();
            Outcome::Failed(quotes.join("\n\n"))
        };
        tap.result(&format!("{title}: the kernel reports nothing"), &outcome);
        Ok(())
    }
}

fn last(lines: &[String]) -> String {
    lines[lines.len().saturating_sub(10)..].join("\n")
}
