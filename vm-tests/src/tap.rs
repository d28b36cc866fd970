// SPDX-License-Identifier: BSD-2-Clause
//! Results in the Test Anything Protocol, and a closing line that counts.

use bpfrs_vm_protocol::Outcome;

/// Counts results and prints each of them.
#[derive(Debug, Default)]
pub(crate) struct Tap {
    passed: u64,
    failed: u64,
    skipped: u64,
}

impl Tap {
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
