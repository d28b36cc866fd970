// SPDX-License-Identifier: BSD-2-Clause
//! The demo itself, for two seconds; and its negative control, in which each driver runs under the
//! name of the other.

use std::process::{Command, Output};

fn demo(arguments: &[&str]) -> (Output, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_bpfrs-demo"))
        .args(["--seconds", "2", "--wake-limit", "1000"])
        .args(arguments)
        .output()
        .unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
    (output, stdout, stderr)
}

#[test]
fn legacy_is_caught_and_bpfrs_is_clean() {
    let (output, stdout, stderr) = demo(&[]);
    assert!(output.status.success(), "{stdout}\n{stderr}");
    assert!(stdout.contains("legacy: panic after"), "{stdout}");
    assert!(stdout.contains("bpfrs: survived 2 s: ok"), "{stdout}");
    assert!(stdout.contains("| legacy            | stock (modelled) | bpfrs "), "{stdout}");
    assert!(stdout.contains("d_close per open: 0/1/2/more"), "{stdout}");
}

#[test]
fn a_legacy_that_survives_and_a_bpfrs_that_dies_are_told() {
    let (output, stdout, stderr) = demo(&["--swap"]);
    assert_eq!(output.status.code(), Some(1), "{stdout}\n{stderr}");
    assert!(stderr.contains("legacy: the positive control did not panic"), "{stderr}");
    assert!(stderr.contains("bpfrs: panic after"), "{stderr}");
}
