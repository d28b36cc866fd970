// SPDX-License-Identifier: BSD-2-Clause
//! The allow-list: a pattern and the reason for it on every line.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use regex::Regex;

/// Patterns of C names that may become Rust.
pub(crate) struct AllowList(Vec<String>);

impl AllowList {
    pub(crate) fn read(path: &Path) -> Result<Self> {
        let context = || path.display().to_string();
        let text = fs::read_to_string(path).with_context(context)?;
        Self::parse(&text).with_context(context)
    }

    fn parse(text: &str) -> Result<Self> {
        let mut patterns = Vec::new();
        for (number, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let Some((pattern, _reason)) = line.split_once(char::is_whitespace) else {
                bail!("line {}: {line} is without a reason", number + 1);
            };
            patterns.push(pattern.to_owned());
        }
        ensure!(!patterns.is_empty(), "nothing is allowed");
        Ok(Self(patterns))
    }

    pub(crate) fn patterns(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(String::as_str)
    }

    /// A pattern that allows nothing (any more) is a mistake.
    pub(crate) fn all_used(&self, bindings: &str) -> Result<()> {
        let is_name = |c: char| c.is_alphanumeric() || c == '_';
        for pattern in self.patterns() {
            let whole = Regex::new(&format!("^(?:{pattern})$"))?;
            ensure!(
                bindings.split(|c| !is_name(c)).any(|name| whole.is_match(name)),
                "{pattern} is on the allow-list, but there is nothing of that name"
            );
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error<T>(result: Result<T>) -> String {
        result.err().map(|e| e.to_string()).unwrap_or_default()
    }

    #[test]
    fn reads_patterns_and_skips_comments() {
        let list = AllowList::parse("# head\n\nbpf_insn  a filter\nbpfrs_.*\tours\n").unwrap();
        assert_eq!(list.patterns().collect::<Vec<_>>(), ["bpf_insn", "bpfrs_.*"]);
    }

    #[test]
    fn refuses_a_pattern_without_a_reason() {
        assert_eq!(
            error(AllowList::parse("a why\nbpf_insn \n")),
            "line 2: bpf_insn is without a reason"
        );
    }

    #[test]
    fn refuses_an_empty_list() {
        assert_eq!(error(AllowList::parse("# nothing\n")), "nothing is allowed");
    }

    #[test]
    fn finds_a_pattern_that_matches_nothing() {
        let list = AllowList::parse("bpf_insn x\nbpf_ins x\n").unwrap();
        assert_eq!(
            error(list.all_used("pub struct bpf_insn {}")),
            "bpf_ins is on the allow-list, but there is nothing of that name"
        );
        let list = AllowList::parse("bpf_i.* x\n").unwrap();
        list.all_used("pub struct bpf_insn {}").unwrap();
    }
}
