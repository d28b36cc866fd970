// SPDX-License-Identifier: BSD-2-Clause
//! What was found: one line for each rule, with every violation under it.

use std::fmt;

use crate::module::Arch;

/// What one rule found.
#[derive(Default)]
pub(crate) struct Finding {
    /// What was looked at, for the report's line.
    pub(crate) summary: String,
    /// What the module must not be loaded with.
    pub(crate) violations: Vec<String>,
    /// What somebody should know.
    pub(crate) warnings: Vec<String>,
}

pub(crate) struct Report {
    arch: Arch,
    osversion: Option<u32>,
    findings: Vec<(&'static str, Finding)>,
}

impl Report {
    pub(crate) fn new(arch: Arch, osversion: Option<u32>) -> Self {
        Self { arch, osversion, findings: Vec::new() }
    }

    pub(crate) fn rule(&mut self, name: &'static str, finding: Finding) {
        self.findings.push((name, finding));
    }

    /// The names of the rules that failed.
    pub(crate) fn failed(&self) -> impl Iterator<Item = &'static str> {
        self.findings
            .iter()
            .filter(|(_, finding)| !finding.violations.is_empty())
            .map(|(name, _)| *name)
    }

    pub(crate) fn passed(&self) -> bool {
        self.failed().next().is_none()
    }

    #[cfg(test)]
    pub(crate) fn finding(&self, rule: &str) -> &Finding {
        let found = self.findings.iter().find(|(name, _)| *name == rule);
        &found.unwrap().1
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.osversion {
            Some(version) => writeln!(f, "FreeBSD {version} {}", self.arch)?,
            None => writeln!(f, "FreeBSD (release unknown) {}", self.arch)?,
        }
        for (name, finding) in &self.findings {
            let verdict = if finding.violations.is_empty() { "ok" } else { "FAIL" };
            writeln!(f, "  {verdict:<5} {name:<13} {}", finding.summary)?;
            for violation in &finding.violations {
                writeln!(f, "        - {violation}")?;
            }
            for warning in &finding.warnings {
                writeln!(f, "        (warning: {warning})")?;
            }
        }
        let violations: usize = self.findings.iter().map(|(_, f)| f.violations.len()).sum();
        match violations {
            0 => writeln!(f, "{} rules, all kept", self.findings.len()),
            n => writeln!(
                f,
                "{} rules, {} broken, {n} violations",
                self.findings.len(),
                self.failed().count()
            ),
        }
    }
}
