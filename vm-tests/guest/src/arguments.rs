// SPDX-License-Identifier: BSD-2-Clause
//! The command line. (The argument parsers on crates.io want `std`.)

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

/// Options that take no value.
const FLAGS: [&str; 2] = ["--stock", "--list"];
/// Options that do.
const OPTIONS: [&str; 23] = [
    "--device",
    "--prefix",
    "--type",
    "--nodes",
    "--readers",
    "--seconds",
    "--revokes",
    "--limit",
    "--pause-us",
    "--wake-limit-us",
    "--tcpdump",
    "--ping",
    "--module",
    "--producer",
    "--chroot",
    "--count",
    "--frames",
    "--spoil",
    "--cycles",
    "--moves",
    "--processes",
    "--operations",
    "--seed",
];

/// What was asked for.
pub(crate) struct Arguments {
    options: Vec<(&'static str, &'static str)>,
    /// What was no option.
    pub(crate) rest: Vec<&'static str>,
}

impl Arguments {
    pub(crate) fn parse(words: &[&'static str]) -> Result<Self, String> {
        let mut arguments = Self { options: Vec::new(), rest: Vec::new() };
        let mut words = words.iter();
        while let Some(&word) = words.next() {
            if FLAGS.contains(&word) {
                arguments.options.push((word, ""));
            } else if OPTIONS.contains(&word) {
                let value = words.next().ok_or_else(|| format!("{word} needs a value"))?;
                arguments.options.push((word, value));
            } else if word.starts_with('-') {
                return Err(format!("no option {word}"));
            } else {
                arguments.rest.push(word);
            }
        }
        Ok(arguments)
    }

    /// The value of an option.
    pub(crate) fn get(&self, option: &str) -> Option<&'static str> {
        assert!(
            FLAGS.contains(&option) || OPTIONS.contains(&option),
            "{option} is asked for, but cannot be given"
        );
        self.options.iter().find(|(name, _)| *name == option).map(|(_, value)| *value)
    }

    /// Whether a flag was given.
    pub(crate) fn has(&self, flag: &str) -> bool {
        self.get(flag).is_some()
    }

    /// The value of an option, or what is usual.
    pub(crate) fn or(&self, option: &str, usual: &'static str) -> &'static str {
        self.get(option).unwrap_or(usual)
    }

    /// A number.
    pub(crate) fn number(&self, option: &str, usual: u64) -> Result<u64, String> {
        match self.get(option) {
            None => Ok(usual),
            Some(text) => text.parse().map_err(|_| format!("{option}: no number: {text}")),
        }
    }

    /// Paths of the device's nodes.
    pub(crate) fn device(&self) -> Device {
        Device { pattern: self.or("--device", "/dev/bpfrs%d") }
    }
}

/// Names of device nodes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Device {
    /// A path, in which %d stands for the number.
    pub(crate) pattern: &'static str,
}

impl Device {
    /// The path of node `number`.
    pub(crate) fn node(self, number: usize) -> String {
        self.pattern.replace("%d", &format!("{number}"))
    }

    /// Only a pattern with a number names more than one node.
    pub(crate) fn is_pool(self) -> bool {
        self.pattern.contains("%d")
    }
}
