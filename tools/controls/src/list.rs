// SPDX-License-Identifier: BSD-2-Clause
//! The list of controls, `controls.toml`.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

/// One rule, broken.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Control {
    /// Its number in docs/proof.md.
    pub(crate) number: u32,
    /// The invariant of docs/design.md.
    pub(crate) rule: String,
    /// What the broken driver does.
    pub(crate) what: String,
    /// The file that is changed.
    pub(crate) file: PathBuf,
    /// A text that the file has exactly once …
    pub(crate) from: String,
    /// … and what takes its place.
    pub(crate) to: String,
    /// Test binary and test, as `loom revoke_a_reader`.
    pub(crate) check: String,
    /// What the complaint says: another one does not count.
    pub(crate) because: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct List {
    control: Vec<Control>,
}

pub(crate) fn read(path: &Path) -> Result<Vec<Control>> {
    let text = fs::read_to_string(path).with_context(|| path.display().to_string())?;
    parse(&text).with_context(|| path.display().to_string())
}

fn parse(text: &str) -> Result<Vec<Control>> {
    let List { control: controls } = toml::from_str(text)?;
    let mut numbers = BTreeSet::new();
    for Control { number, check, because, .. } in &controls {
        ensure!(numbers.insert(*number), "two controls have the number {number}");
        ensure!(check.split(' ').count() == 2, "control {number}: a check is a binary and a test");
        ensure!(!because.is_empty(), "control {number}: any complaint would do");
    }
    Ok(controls)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(number: u32, check: &str, because: &str) -> String {
        format!(
            "[[control]]\nnumber = {number}\nrule = 'I1'\nwhat = 'w'\nfile = 'f'\n\
             from = 'a'\nto = 'b'\ncheck = '{check}'\nbecause = '{because}'\n"
        )
    }

    #[test]
    fn a_list_is_checked() {
        assert_eq!(parse(&entry(1, "loom a", "x")).unwrap().len(), 1);
        for wrong in [
            [entry(1, "loom a", "x"), entry(1, "loom b", "x")].concat(),
            entry(1, "loom", "x"),
            entry(1, "loom a", ""),
            entry(1, "loom a", "x").replace("rule", "rules"),
        ] {
            assert!(parse(&wrong).is_err(), "{wrong}");
        }
    }

    /// A driver that changed takes its controls along.
    #[test]
    fn every_control_has_its_place() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        for control in read(&root.join("tools/controls/controls.toml")).unwrap() {
            let text = fs::read_to_string(root.join(&control.file)).unwrap();
            assert_eq!(text.matches(&control.from).count(), 1, "control {}", control.number);
        }
    }

    /// Every control of the list is in docs/proof.md, and nothing else is.
    #[test]
    fn the_document_lists_the_same() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let controls = read(&root.join("tools/controls/controls.toml")).unwrap();
        let document = fs::read_to_string(root.join("docs/proof.md")).unwrap();
        let listed: Vec<_> = document
            .lines()
            .filter_map(|line| {
                let mut cells = line.split('|').map(str::trim).skip(1);
                let number: u32 = cells.next()?.parse().ok()?;
                Some((number, cells.next()?.to_owned(), cells.next()?.to_owned()))
            })
            .filter(|(number, ..)| *number < 100)
            .collect();
        let said = format!("{} broken drivers", controls.len());
        let expected: Vec<_> = controls.into_iter().map(|c| (c.number, c.rule, c.what)).collect();
        assert_eq!(listed, expected);
        let readme = fs::read_to_string(root.join("README.md")).unwrap();
        assert!(readme.contains(&said), "README.md has another number of {said}");
    }
}
