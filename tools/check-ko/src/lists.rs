// SPDX-License-Identifier: BSD-2-Clause
//! The lists kept by hand: kernel symbols that the module may need, for each
//! release, and symbols that it exports.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};

/// Names, and whether each is needed by every build.
pub(crate) type List = BTreeMap<String, Need>;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Need {
    Always,
    /// Marked by a question mark: for example with INVARIANTS only.
    Sometimes,
}

pub(crate) struct Lists {
    /// Release (major version) to the symbols of `freebsdN.txt`.
    pub(crate) symbols: BTreeMap<u32, List>,
    pub(crate) exports: List,
    /// Symbols of the modules that it depends on.
    pub(crate) provided: List,
}

impl Lists {
    pub(crate) fn read(symbols: &Path, exports: &Path, provided: Option<&Path>) -> Result<Self> {
        let mut lists = Self {
            symbols: BTreeMap::new(),
            exports: parse(exports, Reason::None)?,
            provided: provided.map_or(Ok(List::new()), |list| parse(list, Reason::None))?,
        };
        let directory = symbols.display();
        for entry in fs::read_dir(symbols).with_context(|| directory.to_string())? {
            let path = entry?.path();
            let release = path
                .file_name()
                .and_then(|name| name.to_str()?.strip_prefix("freebsd")?.strip_suffix(".txt"))
                .and_then(|release| release.parse().ok());
            let Some(release) = release else {
                bail!("{}: not a list freebsdN.txt", path.display());
            };
            lists.symbols.insert(release, parse(&path, Reason::Required)?);
        }
        Ok(lists)
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Reason {
    Required,
    None,
}

/// One name a line, a reason after it where one is required; `#` comments.
fn parse(path: &Path, reason: Reason) -> Result<List> {
    let text = fs::read_to_string(path).with_context(|| path.display().to_string())?;
    lines(&text, reason).with_context(|| path.display().to_string())
}

fn lines(text: &str, reason: Reason) -> Result<List> {
    let mut names = List::new();
    for line in text.lines().map(str::trim) {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (name, why) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
        if reason == Reason::Required && why.is_empty() {
            bail!("{name} is without a reason");
        }
        let (name, need) = match name.strip_suffix('?') {
            Some(name) => (name, Need::Sometimes),
            None => (name, Need::Always),
        };
        if names.insert(name.to_owned(), need).is_some() {
            bail!("{name} stands there twice");
        }
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_names_with_reasons() {
        let text = "# head\n\nprintf  messages\npanic?\twhy\n";
        let expected = [("panic", Need::Sometimes), ("printf", Need::Always)];
        assert_eq!(
            lines(text, Reason::Required).unwrap(),
            expected.map(|(name, need)| (name.to_owned(), need)).into()
        );
    }

    #[test]
    fn a_name_without_a_reason_is_refused() {
        let error = lines("printf \n", Reason::Required).unwrap_err();
        assert_eq!(error.to_string(), "printf is without a reason");
        lines("printf\n", Reason::None).unwrap();
    }

    #[test]
    fn a_name_must_stand_there_once() {
        let error = lines("panic a\npanic b\n", Reason::Required).unwrap_err();
        assert_eq!(error.to_string(), "panic stands there twice");
    }
}
