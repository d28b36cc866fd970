// SPDX-License-Identifier: BSD-2-Clause
//! What the fuzzers (fuzz/) once found, in this driver or in a broken variant of
//! it: each input runs again.
mod support;

#[path = "../fuzz/src/lib.rs"]
pub mod targets;

use std::path::Path;

fn replay(target: &str, run: fn(&[u8])) {
    let inputs = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/regressions").join(target);
    let mut runs = 0;
    for input in inputs.read_dir().expect("a directory of inputs") {
        let path = input.expect("an input").path();
        // The last one named is the one that failed.
        eprintln!("{}", path.display());
        run(&std::fs::read(path).expect("an input"));
        runs += 1;
    }
    assert!(runs > 0, "no inputs for {target}");
}

#[test]
fn ops() {
    support::run(|| replay("ops", targets::ops::run));
}

#[test]
fn filter() {
    support::run(|| replay("filter", targets::filter::run));
}

#[test]
fn read() {
    support::run(|| replay("read", targets::read::run));
}
