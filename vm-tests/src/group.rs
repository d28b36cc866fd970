// SPDX-License-Identifier: BSD-2-Clause
//! Commands of the program inside, for one boot of a guest: run, and every case of theirs told.

use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use bpfrs_vm_protocol::{Message, Outcome};

use crate::guest::{Basis, Guest};
use crate::machine::{Environment, Hardware};
use crate::payload;
use crate::shell::{End, Shell};
use crate::tap::Tap;

/// What boots.
pub(crate) struct Boot<'a> {
    /// Names the folders of consoles.
    pub(crate) series: &'static str,
    pub(crate) guest: &'a Guest,
    /// What our modules were built from.
    pub(crate) basis: Basis,
    pub(crate) hardware: &'a Hardware,
    pub(crate) payload: &'a Path,
}

/// Commands for one boot of a guest.
pub(crate) struct Group {
    pub(crate) name: String,
    /// Commands of the system that come first, each a case of its own.
    pub(crate) setup: Vec<String>,
    /// Under memguard, on a debug guest.
    pub(crate) guarded: bool,
    /// The negative control: every test must fail.
    pub(crate) must_fail: bool,
    /// With their limits in seconds.
    pub(crate) commands: Vec<(String, u64)>,
}

impl Group {
    /// Whether modules of ours are in it.
    pub(crate) fn loads(&self) -> bool {
        !self.setup.is_empty()
    }

    /// Runs them in a fresh boot; everything that the program inside has said.
    pub(crate) fn run(&self, boot: &Boot<'_>, tap: &mut Tap) -> Result<Vec<Message>> {
        self.run_with(boot, &[], tap)
    }

    /// … with more in the kernel's environment.
    pub(crate) fn run_with(
        &self,
        boot: &Boot<'_>,
        more: Environment<'_>,
        tap: &mut Tap,
    ) -> Result<Vec<Message>> {
        let Boot { series, guest, basis, hardware, payload } = *boot;
        let mut title = format!("{} {}", guest.name, self.name);
        let mut folder = format!("{series}-{}-{}", guest.name, self.name);
        if self.loads() {
            title.push_str(&format!(" ({})", basis.name()));
            folder.push_str(&format!("-{}", basis.name()));
        }
        let bar = crate::progress(title.clone());
        bar.set_message("booting");
        let folder = payload::run_folder(&folder)?;
        let memguard = [("vm.memguard.desc", "bpfrs")];
        let guarded = guest.debug && self.guarded;
        let environment = [if guarded { &memguard[..] } else { &[] }, more].concat();
        let mut shell = Shell::boot(guest, hardware, &environment, payload, &folder)?;
        for command in &self.setup {
            let output = shell.run(command, Duration::from_secs(60));
            tap.result(&format!("{title}: {command}"), &output.outcome());
        }
        let mut told = Vec::new();
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
                    let outcome =
                        if self.must_fail { inverted(&case.outcome) } else { case.outcome.clone() };
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
            told.extend(output.messages);
            if output.end == End::Gone {
                break;
            }
        }
        bar.finish_and_clear();
        tap.result(&format!("{title}: the kernel reports nothing"), &shell.silence());
        Ok(told)
    }
}

/// The verdict on a case that must fail. One that cannot be tried here is skipped, and told as all
/// that is.
fn inverted(outcome: &Outcome) -> Outcome {
    match outcome {
        Outcome::Failed(_) => Outcome::Passed,
        Outcome::Passed => Outcome::Failed("it must fail, but passed".into()),
        Outcome::Skipped(why) => Outcome::Skipped(format!("a control: {why}")),
    }
}

fn last(lines: &[String]) -> String {
    lines[lines.len().saturating_sub(10)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_control_must_fail_or_is_skipped() {
        assert_eq!(inverted(&Outcome::Failed("a frame differs".into())), Outcome::Passed);
        assert!(matches!(inverted(&Outcome::Passed), Outcome::Failed(_)));
        let skipped = inverted(&Outcome::Skipped("the guest has no bittwist".into()));
        assert_eq!(skipped, Outcome::Skipped("a control: the guest has no bittwist".into()));
    }
}
