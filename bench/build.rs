// SPDX-License-Identifier: BSD-2-Clause
//! Tells the program which compiler built it: results.json names it.

use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let rustc = std::env::var_os("RUSTC").expect("cargo names the compiler");
    let output = Command::new(rustc).arg("--version").output().expect("the compiler runs");
    let version = String::from_utf8(output.stdout).expect("text");
    println!("cargo::rustc-env=BENCH_RUSTC={}", version.trim());
}
