// SPDX-License-Identifier: BSD-2-Clause
//! Negative controls of the kernel's side: modules that must not load, mistakes that a sanitizer
//! must report.

use std::sync::LazyLock;
use std::time::Duration;

use anyhow::Result;
use bpfrs_vm_protocol::Outcome;
use regex::Regex;

use crate::group::Boot;
use crate::machine::Environment;
use crate::payload::{self, Module};
use crate::shell::{End, Shell};
use crate::tap::Tap;

const LIMIT: Duration = Duration::from_secs(60);

/// A module that was built with another struct ifnet is refused, and nothing is left of it: the
/// right ones load and work after it.
pub(crate) fn layout(boot: &Boot<'_>, tap: &mut Tap) -> Result<()> {
    let mut shell = start(boot, "layout", &[])?;
    let refused = |output: &[String], end, says: &str| {
        let told = output.iter().any(|line| line.starts_with("bpfrs_tap: ") && line.contains(says));
        match end {
            End::Status(1) if told => Outcome::Passed,
            _ => Outcome::Failed(format!("no \"{says}\"; {end:?}: {}", output.join("\n"))),
        }
    };
    for (command, says) in [
        ("kldload /mnt/bpfrs_tap_shifted.ko", Some("elsewhere in this kernel's struct ifnet")),
        ("kldload /mnt/bpfrs_tap.ko", None),
        ("kldload /mnt/bpfrs_shifted.ko", Some("built with another struct ifnet")),
        ("kldload /mnt/bpfrs.ko", None),
        // A node is made by a handler of an event, which others have, too.
        ("/mnt/bpfrs-guest test second-open-is-busy", None),
    ] {
        let output = shell.run(command, LIMIT);
        let outcome = match says {
            Some(says) => refused(&output.lines, output.end, says),
            None => output.outcome(),
        };
        let name = if says.is_some() { "refused: " } else { "" };
        tap.result(&format!("{}: {name}{command}", title(boot, "layout")), &outcome);
    }
    let name = format!("{}: the kernel reports nothing", title(boot, "layout"));
    tap.result(&name, &shell.silence());
    Ok(())
}

/// Mistakes of `net.bpfrs.sanitizer_control`, and the function that makes each.
const MISTAKES: [(&str, &str); 3] = [
    ("rust-beyond", "bpfrs_rs_control_beyond"),
    ("rust-freed", "bpfrs_rs_control_freed"),
    ("shim-beyond", "bpfrs_control_beyond"),
];

/// KASAN sees the module's code, Rust's and C's.
pub(crate) fn sanitizer(boot: &Boot<'_>, tap: &mut Tap) -> Result<()> {
    // A report is no panic here, so that there can be several.
    let environment = [("debug.kasan.panic_on_violation", "0")];
    let mut shell = start(boot, "sanitizer-control", &environment)?;
    let name = |what: &str| format!("{}: {what}", title(boot, "sanitizer-control"));
    let mut run = |command: &str| shell.run(command, LIMIT);
    let loaded = run(&Module::Bpfrs.load());
    // What is no mistake is not reported.
    let nothing = run("sysctl net.bpfrs.sanitizer_control=nothing");
    let outcome = if loaded.is_good()
        && nothing.end == End::Status(1)
        && reported(&nothing.lines).is_none()
    {
        Outcome::Passed
    } else {
        Outcome::Failed([loaded.lines, nothing.lines].concat().join("\n"))
    };
    tap.result(&name("no mistake"), &outcome);
    for (mistake, function) in MISTAKES {
        // What it says of the old value would tear the report.
        let output = run(&format!("sysctl -q net.bpfrs.sanitizer_control={mistake} >/dev/null"));
        let outcome = match reported(&output.lines) {
            Some(by) if by == function => Outcome::Passed,
            _ => Outcome::Failed(format!(
                "no report of {function}; {:?}: {}",
                output.end,
                output.lines.join("\n")
            )),
        };
        tap.result(&name(mistake), &outcome);
    }
    Ok(())
}

/// The function of ours that KASAN reports a wrong read in: the first in its backtrace.
fn reported(lines: &[String]) -> Option<String> {
    // "#2 0xffffffff82a1f311 at bpfrs_rs_control_freed+0x101"
    static FRAME: LazyLock<Option<Regex>> =
        LazyLock::new(|| Regex::new(r"#\d+ 0x\w+ at (bpfrs_\w+)\+").ok());
    let report =
        lines.iter().position(|line| line.contains("ASan: Invalid access, 1-byte read"))?;
    let frame = lines[report..].iter().find_map(|line| FRAME.as_ref()?.captures(line))?;
    Some(frame[1].to_owned())
}

fn title(boot: &Boot<'_>, name: &str) -> String {
    format!("{} {name} ({})", boot.guest.name, boot.basis.name())
}

fn start(boot: &Boot<'_>, name: &str, environment: Environment<'_>) -> Result<Shell> {
    let Boot { series, guest, hardware, payload, .. } = *boot;
    let folder = payload::run_folder(&format!("{series}-{}-{name}", guest.name))?;
    Shell::boot(guest, hardware, environment, payload, &folder)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_names_the_function_that_made_the_mistake() {
        let lines = |text: &str| text.lines().map(str::to_owned).collect::<Vec<_>>();
        let report = "sysctl\n\
            ASan: Invalid access, 1-byte read at 0xfffffe0012345678, MallocRedZone(fb)\n\
            #0 0xffffffff80c51234 at kasan_report+0x64\n\
            #1 0xffffffff82a1f311 at bpfrs_rs_control_freed+0x101\n\
            #2 0xffffffff82a10001 at bpfrs_control_sysctl+0x81\n";
        assert_eq!(reported(&lines(report)), Some("bpfrs_rs_control_freed".into()));
        assert_eq!(reported(&lines(&report.replace("ASan", "Asan"))), None);
        assert_eq!(reported(&lines(report)[..3]), None);
        assert_eq!(reported(&[]), None);
    }
}
