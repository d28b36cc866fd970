// SPDX-License-Identifier: BSD-2-Clause
//! The driver's descriptors as `net.bpfrs.stats` (or `net.bpf.stats`) has them.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use bpfrsstat::Descriptor;

use crate::arguments::Arguments;
use crate::{report, sys};

/// All that have an interface; an error text otherwise.
pub(crate) fn descriptors(prefix: &str) -> Result<Vec<Descriptor>, String> {
    let name = format!("{prefix}.stats");
    let bytes = sys::sysctl(&name).map_err(|errno| format!("{name}: {errno}"))?;
    bpfrsstat::parse(&bytes).map_err(|problem| format!("{name}: {problem}"))
}

/// `stat`
pub(crate) fn run(arguments: &Arguments) -> i32 {
    match descriptors(arguments.or("--prefix", "net.bpfrs")) {
        Ok(descriptors) => {
            report::human(bpfrsstat::table(&descriptors, true, |_| None).trim_end());
            0
        }
        Err(problem) => {
            report::human(&format!("bpfrs-guest stat: {problem}"));
            1
        }
    }
}
