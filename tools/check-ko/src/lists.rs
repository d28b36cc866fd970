// SPDX-License-Identifier: BSD-2-Clause
//! The lists kept by hand: kernel symbols that the module may need, for each
//! release, and symbols that it exports.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};

/// Names, and what is said of each.
pub(crate) type List = BTreeMap<String, Entry>;

#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Entry {
    /// Whether every build needs it.
    pub(crate) need: Need,
    /// The kernel's header that declares it; empty in a list of exports, and for what
    /// compilers call.
    pub(crate) header: String,
}

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
    /// What an instrumented module may need besides; empty for others.
    pub(crate) sanitizer: List,
}

impl Lists {
    pub(crate) fn read(
        symbols: &Path,
        exports: &Path,
        provided: Option<&Path>,
        sanitizer: Option<&Path>,
    ) -> Result<Self> {
        let optional =
            |list: Option<&Path>, kind| list.map_or(Ok(List::new()), |list| parse(list, kind));
        let mut lists = Self {
            symbols: BTreeMap::new(),
            exports: parse(exports, Kind::Exports)?,
            provided: optional(provided, Kind::Exports)?,
            sanitizer: optional(sanitizer, Kind::Sanitizer)?,
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
            lists.symbols.insert(release, parse(&path, Kind::Symbols)?);
        }
        Ok(lists)
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    /// Name, header, reason.
    Symbols,
    /// The same; a dash stands for no header.
    Sanitizer,
    /// Names.
    Exports,
}

/// One name a line, and what else its kind of list has; `#` comments.
fn parse(path: &Path, kind: Kind) -> Result<List> {
    let text = fs::read_to_string(path).with_context(|| path.display().to_string())?;
    lines(&text, kind).with_context(|| path.display().to_string())
}

fn lines(text: &str, kind: Kind) -> Result<List> {
    let mut names = List::new();
    for line in text.lines().map(str::trim) {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let mut words = line.split_whitespace();
        let name = words.next().unwrap_or_default();
        let header = match kind {
            Kind::Exports => "",
            Kind::Symbols | Kind::Sanitizer => words.next().unwrap_or_default(),
        };
        let header = if kind == Kind::Sanitizer && header == "-" { None } else { Some(header) };
        if kind != Kind::Exports {
            if header.is_some_and(|header| !header.ends_with(".h")) {
                bail!("{name} is without a header");
            }
            if words.next().is_none() {
                bail!("{name} is without a reason");
            }
        }
        let (name, need) = match name.strip_suffix('?') {
            Some(name) => (name, Need::Sometimes),
            None => (name, Need::Always),
        };
        let entry = Entry { need, header: header.unwrap_or_default().to_owned() };
        if names.insert(name.to_owned(), entry).is_some() {
            bail!("{name} stands there twice");
        }
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_names_with_headers_and_reasons() {
        let text = "# head\n\nprintf sys/systm.h  messages\npanic?\tsys/kassert.h\twhy not\n";
        let expected =
            [("panic", Need::Sometimes, "sys/kassert.h"), ("printf", Need::Always, "sys/systm.h")];
        assert_eq!(
            lines(text, Kind::Symbols).unwrap(),
            expected
                .map(|(name, need, header)| (
                    name.to_owned(),
                    Entry { need, header: header.to_owned() }
                ))
                .into()
        );
    }

    #[test]
    fn a_name_without_a_header_or_a_reason_is_refused() {
        let error = lines("printf messages\n", Kind::Symbols).unwrap_err();
        assert_eq!(error.to_string(), "printf is without a header");
        let error = lines("printf sys/systm.h \n", Kind::Symbols).unwrap_err();
        assert_eq!(error.to_string(), "printf is without a reason");
        lines("printf\n", Kind::Exports).unwrap();
        let error = lines("__asan_load1 - loads\n", Kind::Symbols).unwrap_err();
        assert_eq!(error.to_string(), "__asan_load1 is without a header");
        let list = lines("__asan_load1 - loads\n", Kind::Sanitizer).unwrap();
        assert_eq!(list["__asan_load1"].header, "");
    }

    #[test]
    fn a_name_must_stand_there_once() {
        let error = lines("panic a.h a\npanic b.h b\n", Kind::Symbols).unwrap_err();
        assert_eq!(error.to_string(), "panic stands there twice");
    }
}
