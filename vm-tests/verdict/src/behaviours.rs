// SPDX-License-Identifier: BSD-2-Clause
//! What was seen of two drivers, compared: only what a table explains may differ.

use std::collections::{BTreeMap, BTreeSet};

use bpfrs_vm_protocol::{Behaviour, Message};
use comfy_table::{ContentArrangement, Table, presets};
use pulldown_cmark::{Event, Options, Parser, Tag, TagEnd};
use wildmatch::WildMatch;

/// What is there for a name that only the other driver has.
const UNSEEN: &str = "(not seen)";

/// What was seen of one driver, by name.
pub type Seen = BTreeMap<String, String>;

/// The behaviours among messages.
pub fn seen(messages: &[Message]) -> Seen {
    let behaviours = messages.iter().filter_map(|message| match message {
        Message::Behaviour(Behaviour { name, value }) => Some((name.clone(), value.clone())),
        _ => None,
    });
    behaviours.collect()
}

/// One difference that is on purpose: a row of the table in docs/differences.md.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Names of behaviours; `*` stands for anything.
    pub names: String,
    /// What stock says, likewise.
    pub stock: String,
    /// What bpfrs says, likewise.
    pub bpfrs: String,
    /// Releases on which it was seen ("15.0"): it must occur, and may, on those of the same major
    /// number.
    pub releases: BTreeSet<String>,
    /// Why that is so.
    pub why: String,
}

/// The header of the table that is read; the others of the file are for humans.
const HEADER: [&str; 5] = ["behaviour", "stock", "bpfrs", "releases", "why"];

/// The rules in docs/differences.md.
///
/// # Errors
/// When the file has no such table, or a row is not as it should be.
pub fn rules(markdown: &str) -> Result<Vec<Rule>, String> {
    let mut tables: Vec<Vec<Vec<String>>> = Vec::new();
    for event in Parser::new_ext(markdown, Options::ENABLE_TABLES) {
        match event {
            Event::Start(Tag::Table(_)) => tables.push(Vec::new()),
            Event::Start(Tag::TableHead | Tag::TableRow) => {
                tables.last_mut().into_iter().for_each(|table| table.push(Vec::new()));
            }
            Event::Start(Tag::TableCell) => {
                let row = tables.last_mut().and_then(|table| table.last_mut());
                row.into_iter().for_each(|row| row.push(String::new()));
            }
            Event::End(TagEnd::Table) => tables.push(Vec::new()),
            Event::Text(text) | Event::Code(text) => {
                let cell = tables.last_mut().and_then(|table| table.last_mut()?.last_mut());
                cell.into_iter().for_each(|cell| cell.push_str(&text));
            }
            _ => {}
        }
    }
    let wanted = |table: &&Vec<Vec<String>>| table.first().is_some_and(|head| *head == HEADER);
    let table = tables.iter().find(wanted).ok_or("no table of behaviours")?;
    table.iter().skip(1).map(|row| rule(row)).collect()
}

fn rule(row: &[String]) -> Result<Rule, String> {
    let [names, stock, bpfrs, releases, why] = row else {
        return Err(format!("a row of {} cells: {row:?}", row.len()));
    };
    let releases = releases.split(',').map(str::trim).filter(|release| !release.is_empty());
    let releases: BTreeSet<String> = releases.map(String::from).collect();
    if releases.iter().any(|release| major(release).is_none()) {
        return Err(format!("{names}: releases are numbers, as 15.0: {releases:?}"));
    }
    if [names, stock, bpfrs, why].iter().any(|cell| cell.is_empty()) || releases.is_empty() {
        return Err(format!("a row with an empty cell: {row:?}"));
    }
    let [names, stock, bpfrs, why] = [names, stock, bpfrs, why].map(Clone::clone);
    Ok(Rule { names, stock, bpfrs, releases, why })
}

/// A release's major number.
fn major(release: &str) -> Option<u32> {
    release.split_once('.')?.0.parse().ok()
}

impl Rule {
    /// Whether it was seen on such a release.
    fn is_of(&self, release: &str) -> bool {
        self.releases.iter().any(|seen| major(seen) == major(release))
    }

    /// Whether this is the difference that it is about.
    pub fn explains(&self, difference: &Difference) -> bool {
        let matches = |pattern: &str, text: &str| WildMatch::new(pattern).matches(text);
        matches(&self.names, &difference.name)
            && matches(&self.stock, &difference.stock)
            && matches(&self.bpfrs, &difference.bpfrs)
    }
}

/// Something of which the two say different things.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// The behaviour.
    pub name: String,
    /// What stock says.
    pub stock: String,
    /// What bpfrs says.
    pub bpfrs: String,
}

/// Two drivers, compared.
#[derive(Debug)]
pub struct Comparison {
    /// Behaviours, of either.
    pub behaviours: usize,
    /// Rules that hold on this release, with how many differences each explains. 0: it is out of
    /// date.
    pub rules: Vec<(Rule, usize)>,
    /// Differences that no rule explains.
    pub unexplained: Vec<Difference>,
}

/// Compares what was seen on a release of FreeBSD.
pub fn compare(stock: &Seen, bpfrs: &Seen, rules: &[Rule], release: &str) -> Comparison {
    let mut rules: Vec<_> =
        rules.iter().filter(|rule| rule.is_of(release)).map(|rule| (rule.clone(), 0)).collect();
    let names: BTreeSet<&String> = stock.keys().chain(bpfrs.keys()).collect();
    let value = |seen: &Seen, name| seen.get(name).map_or(UNSEEN, String::as_str).to_string();
    let mut unexplained = Vec::new();
    for name in &names {
        let (stock, bpfrs) = (value(stock, *name), value(bpfrs, *name));
        if stock == bpfrs {
            continue;
        }
        let difference = Difference { name: (*name).clone(), stock, bpfrs };
        match rules.iter_mut().find(|(rule, _)| rule.explains(&difference)) {
            Some((_, count)) => *count += 1,
            None => unexplained.push(difference),
        }
    }
    Comparison { behaviours: names.len(), rules, unexplained }
}

impl Comparison {
    /// Differences that are on purpose.
    pub fn explained(&self) -> usize {
        self.rules.iter().map(|(_, count)| count).sum()
    }

    /// Rules that explain nothing.
    pub fn out_of_date(&self) -> impl Iterator<Item = &Rule> {
        self.rules.iter().filter(|(_, count)| *count == 0).map(|(rule, _)| rule)
    }

    /// The rules, with how many differences each explains.
    pub fn table(&self) -> Table {
        let mut table = Table::new();
        table.load_preset(presets::ASCII_MARKDOWN);
        table.set_content_arrangement(ContentArrangement::Dynamic);
        table.set_header(["differences", "behaviour", "why"]);
        for (rule, count) in &self.rules {
            table.add_row([count.to_string(), rule.names.clone(), rule.why.clone()]);
        }
        table
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "\
# Differences

| what | why |
|---|---|
| another table | for humans |

| behaviour | stock | bpfrs | releases | why |
|---|---|---|---|---|
| `open/same*` | `ok` | `EBUSY` | 12.1, 15.0 | the node names the open |
| `*/PCP-*` | `EINVAL` | `*` | 12.1, 13.2 | one set of ioctls |
";

    #[test]
    fn every_ioctl_that_is_tried_is_in_the_list() {
        let list = include_str!("../../../docs/compat.md");
        let tried = include_str!("../../guest/src/behaviours/ioctl.rs");
        let names =
            tried.split("probe(\"").skip(1).filter_map(|rest| rest.split(['"', '-']).next());
        let ioctls: Vec<_> = names.filter(|name| name.starts_with("BIOC")).collect();
        assert!(ioctls.len() > 50);
        for name in ioctls {
            let listed = list.split([' ', ',']).any(|word| word == name);
            assert!(listed, "{name} is not in docs/compat.md");
        }
    }

    fn all(pairs: &[(&str, &str)]) -> Seen {
        pairs.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect()
    }

    #[test]
    fn the_table_is_read() {
        let rules = rules(TABLE).unwrap();
        assert_eq!(rules.len(), 2);
        assert_eq!((rules[0].names.as_str(), rules[0].bpfrs.as_str()), ("open/same*", "EBUSY"));
        assert_eq!(rules[1].releases, BTreeSet::from(["12.1".into(), "13.2".into()]));
        assert!(rules[1].is_of("12.1") && rules[1].is_of("13.0") && rules[0].is_of("15.1"));
        assert!(!rules[1].is_of("15.0") && !rules[0].is_of("13.0") && !rules[0].is_of("1.1"));
    }

    #[test]
    fn a_broken_table_is_refused() {
        assert!(rules("# nothing").is_err());
        for releases in ["", "old", "12.1, 13"] {
            assert!(rules(&TABLE.replace("12.1, 13.2", releases)).is_err(), "{releases}");
        }
        assert!(rules(&TABLE.replace("`EBUSY`", "")).is_err());
    }

    #[test]
    fn the_file_in_the_repository_is_read() {
        let rules = rules(include_str!("../../../docs/differences.md")).unwrap();
        assert!(!rules.is_empty());
    }

    #[test]
    fn only_what_a_rule_says_may_differ() {
        let rules = rules(TABLE).unwrap();
        let stock = all(&[("a", "1"), ("open/same", "ok"), ("x/PCP-3", "EINVAL")]);
        let good = all(&[("a", "1"), ("open/same", "EBUSY"), ("x/PCP-3", "ok")]);
        let compared = compare(&stock, &good, &rules, "12.1");
        assert_eq!((compared.behaviours, compared.explained()), (3, 2));
        assert_eq!((compared.unexplained.len(), compared.out_of_date().count()), (0, 0));

        // Another value than the rule's, a value of neither, a name that one lacks.
        for (name, value) in [("open/same", "EIO"), ("a", "2"), ("b", "1")] {
            let mut bad = good.clone();
            bad.insert(name.into(), value.into());
            let compared = compare(&stock, &bad, &rules, "12.1");
            let names: Vec<_> = compared.unexplained.iter().map(|d| d.name.as_str()).collect();
            assert_eq!(names, [name]);
        }
        let compared = compare(&stock, &all(&[("a", "1")]), &rules, "12.1");
        assert_eq!(compared.unexplained.len(), 1);
    }

    #[test]
    fn a_rule_that_explains_nothing_is_out_of_date_where_it_holds() {
        let rules = rules(TABLE).unwrap();
        let same = all(&[("open/same", "ok")]);
        assert_eq!(compare(&same, &same, &rules, "12.1").out_of_date().count(), 2);
        assert_eq!(compare(&same, &same, &rules, "15.0").out_of_date().count(), 1);
    }

    #[test]
    fn a_difference_that_was_not_seen_on_a_release_is_unexplained_there() {
        let rules = rules(TABLE).unwrap();
        let (stock, bpfrs) = (all(&[("x/PCP-3", "EINVAL")]), all(&[("x/PCP-3", "3")]));
        assert!(compare(&stock, &bpfrs, &rules, "12.1").unexplained.is_empty());
        let compared = compare(&stock, &bpfrs, &rules, "15.0");
        assert_eq!(compared.unexplained.len(), 1);
        assert!(rules[1].explains(&compared.unexplained[0]));
    }
}
