// SPDX-License-Identifier: BSD-2-Clause
//! Results in the Test Anything Protocol, a table of them, and a closing line that counts.

use bpfrs_verdict::markdown;
use bpfrs_vm_protocol::Outcome;

use crate::guest::{Basis, Guest};

/// Counts results and prints each of them.
#[derive(Debug, Default)]
pub(crate) struct Tap {
    passed: u64,
    failed: u64,
    skipped: u64,
    /// What was tried, and the counts when it began.
    parts: Vec<([String; 5], [u64; 3])>,
}

impl Tap {
    /// What follows is about this guest, with modules built from that.
    pub(crate) fn begin(&mut self, guest: &Guest, basis: Basis) {
        let Guest { name, release, arch, .. } = guest;
        let what =
            [name, release, arch.name(), &guest.kernel(), basis.name()].map(ToString::to_string);
        self.parts.push((what, self.counts()));
    }

    fn counts(&self) -> [u64; 3] {
        [self.passed, self.failed, self.skipped]
    }

    fn table(&self) -> String {
        let mut table = markdown([
            "guest",
            "FreeBSD",
            "architecture",
            "kernel",
            "modules from",
            "passed",
            "failed",
            "skipped",
        ]);
        let ends = self.parts.iter().skip(1).map(|(_, counts)| *counts).chain([self.counts()]);
        for ((what, begin), end) in self.parts.iter().zip(ends) {
            let counted = [0, 1, 2].map(|index| (end[index] - begin[index]).to_string());
            table.add_row(what.iter().chain(&counted));
        }
        table.to_string()
    }

    /// One result.
    pub(crate) fn result(&mut self, name: &str, outcome: &Outcome) {
        let number = self.passed + self.failed + self.skipped + 1;
        match outcome {
            Outcome::Passed => {
                self.passed += 1;
                println!("ok {number} - {name}");
            }
            Outcome::Skipped(why) => {
                self.skipped += 1;
                println!("ok {number} - {name} # SKIP {why}");
            }
            Outcome::Failed(why) => {
                self.failed += 1;
                println!("not ok {number} - {name}");
                for line in why.lines() {
                    println!("# {line}");
                }
            }
        }
    }

    /// The end; whether all is well. Nothing tried is not well.
    pub(crate) fn finish(&self) -> bool {
        println!("1..{}", self.passed + self.failed + self.skipped);
        self.table().lines().for_each(|line| println!("# {line}"));
        println!("{} passed, {} failed, {} skipped", self.passed, self.failed, self.skipped);
        self.failed == 0 && self.passed > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_passing_is_well() {
        let mut tap = Tap::default();
        assert!(!tap.finish());
        tap.result("a", &Outcome::Skipped("no tcpdump".into()));
        assert!(!tap.finish());
        tap.result("b", &Outcome::Passed);
        assert!(tap.finish());
        tap.result("c", &Outcome::Failed("why".into()));
        assert!(!tap.finish());
    }
}
