// SPDX-License-Identifier: BSD-2-Clause
//! Runs a check on the tree, broken or not.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{Read as _, Seek as _};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use wait_timeout::ChildExt as _;

use crate::list::Control;
use crate::tree::Tree;

/// A broken driver may hang: so long, and no longer.
const PATIENCE: Duration = Duration::from_secs(300);

/// A test in a test binary.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Check {
    binary: String,
    test: String,
}

/// What a check said of a broken driver.
#[derive(Debug, PartialEq)]
pub(crate) enum Verdict {
    /// It complained, for the right reason, after so long (without the build).
    Caught { seconds: f64 },
    /// It did not; why that is known.
    Missed(String),
}

struct Outcome {
    success: bool,
    in_time: bool,
    seconds: f64,
    text: String,
}

impl Check {
    pub(crate) fn of(control: &Control) -> Self {
        let (binary, test) = control.check.split_once(' ').unwrap_or((&control.check, ""));
        Check { binary: binary.to_owned(), test: test.to_owned() }
    }

    /// Each once.
    pub(crate) fn all(controls: &[Control]) -> BTreeSet<Check> {
        controls.iter().map(Check::of).collect()
    }

    /// # Errors
    /// If the check does not pass on the tree as it is: then what it says of a
    /// broken one means nothing.
    pub(crate) fn passes_unbroken(&self, tree: &Tree) -> Result<()> {
        self.build(tree)?;
        let outcome = self.run(tree)?;
        // A filter that matches nothing passes, too.
        let ran = outcome
            .text
            .lines()
            .any(|line| line.starts_with("test result: ok.") && !line.contains(" 0 passed"));
        ensure!(
            outcome.success && outcome.in_time && ran,
            "{} {} does not pass on the driver as it is:\n{}",
            self.binary,
            self.test,
            outcome.text
        );
        Ok(())
    }

    pub(crate) fn complains(&self, tree: &Tree, because: &str) -> Result<Verdict> {
        self.build(tree)?;
        let outcome = self.run(tree)?;
        Ok(judge(&outcome, because))
    }

    fn build(&self, tree: &Tree) -> Result<()> {
        let output = self.cargo(tree).arg("--no-run").output().context("cargo")?;
        ensure!(
            output.status.success(),
            "{} does not build:\n{}",
            self.binary,
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(())
    }

    fn run(&self, tree: &Tree) -> Result<Outcome> {
        let log = tree.root.join("output");
        let mut file = File::create(&log)?;
        let start = Instant::now();
        let mut child = self
            .cargo(tree)
            .args(["--", &self.test, "--test-threads=1"])
            .env("RUST_BACKTRACE", "0")
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file.try_clone()?)
            .spawn()
            .context("cargo")?;
        let status = child.wait_timeout(PATIENCE)?;
        if status.is_none() {
            child.kill()?;
            child.wait()?;
        }
        let seconds = start.elapsed().as_secs_f64();
        file = File::open(&log)?;
        file.rewind()?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        Ok(Outcome {
            success: status.is_some_and(|status| status.success()),
            in_time: status.is_some(),
            seconds,
            text: String::from_utf8_lossy(&bytes).into_owned(),
        })
    }

    /// The same builds as those of sys/build/loom.sh and shuttle.sh (`explore_with`).
    fn cargo(&self, tree: &Tree) -> Command {
        let mut cargo = Command::new("cargo");
        cargo.current_dir(&tree.root).args(["test", "--package", "bpfrs", "--test", &self.binary]);
        let checker = ["loom", "shuttle"].into_iter().find(|name| *name == self.binary);
        cargo.env("CARGO_TARGET_DIR", tree.builds.join(checker.unwrap_or("tests")));
        match checker {
            Some(checker) => cargo
                .args(["--profile", "model"])
                .env("RUSTFLAGS", format!("--cfg bpfrs_{checker}")),
            None => cargo.env_remove("RUSTFLAGS"),
        };
        cargo
    }
}

fn judge(outcome: &Outcome, because: &str) -> Verdict {
    if outcome.success {
        Verdict::Missed("the check passes".to_owned())
    } else if outcome.text.contains(because) {
        Verdict::Caught { seconds: outcome.seconds }
    } else if outcome.in_time {
        let said = outcome.text.lines().find(|line| line.contains("panicked at"));
        Verdict::Missed(format!("another complaint: {}", said.unwrap_or("none")))
    } else {
        Verdict::Missed("the check hangs".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_right_complaint_counts() {
        let outcome = |success, text: &str| Outcome {
            success,
            in_time: true,
            seconds: 1.0,
            text: text.to_owned(),
        };
        assert_eq!(judge(&outcome(false, "x: a leak"), "leak"), Verdict::Caught { seconds: 1.0 });
        for (outcome, because) in [
            (outcome(true, "a leak"), "leak"),
            (outcome(false, "error: could not compile"), "leak"),
            (Outcome { in_time: false, ..outcome(false, "") }, "leak"),
        ] {
            assert!(matches!(judge(&outcome, because), Verdict::Missed(_)));
        }
    }
}
