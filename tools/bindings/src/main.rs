// SPDX-License-Identifier: BSD-2-Clause
//! Generates `sys/src/bindings.rs` from `sys/kpi.h`, or checks that the file
//! is what would be generated. `sys/build/bindings.sh` calls it with the flags
//! that find the FreeBSD headers.

mod allow;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use bindgen::{EnumVariation, MacroTypeVariation, RustEdition, RustTarget};
use clap::Parser;

use allow::AllowList;

const HEADER: &str = "\
// SPDX-License-Identifier: BSD-2-Clause
// Generated from sys/kpi.h by `make bindings`: do not edit.";

#[derive(Parser)]
#[command(about = "Generates sys/src/bindings.rs from sys/kpi.h")]
struct Options {
    /// The KPI header
    #[arg(long)]
    header: PathBuf,
    /// What of it may be generated, with a reason each
    #[arg(long)]
    allow: PathBuf,
    /// The generated file
    #[arg(long)]
    output: PathBuf,
    /// Only compare with the file, and fail if it differs
    #[arg(long)]
    check: bool,
    /// Files of compiler flags, one flag a line: one file for each release and
    /// architecture. All of them must give the same bindings
    #[arg(required = true)]
    flags: Vec<PathBuf>,
}

fn main() -> ExitCode {
    match run(&Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bpfrs-bindings: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Result<()> {
    let allow = AllowList::read(&options.allow)?;
    let targets = options.flags.iter().map(|flags| {
        let bindings = generate(&options.header, &allow, flags)
            .with_context(|| format!("bindings for {}", name(flags)))?;
        Ok((name(flags), bindings))
    });
    let targets = targets.collect::<Result<Vec<_>>>()?;
    let (first_name, first) = targets.first().context("no flags")?;

    for (name, bindings) in &targets {
        if let Some(diff) = diff((first_name, first), (name, bindings)) {
            bail!("the bindings are not the same for every release:\n{diff}");
        }
    }
    allow.all_used(first)?;

    let output = options.output.display();
    if !options.check {
        return write(&options.output, first).with_context(|| format!("writing {output}"));
    }
    let current =
        fs::read_to_string(&options.output).with_context(|| format!("reading {output}"))?;
    match diff(("checked in", &current), (first_name, first)) {
        Some(diff) => bail!("{output} is not what `make bindings` generates:\n{diff}"),
        None => Ok(()),
    }
}

/// The release and architecture that a file of flags is for.
fn name(flags: &Path) -> &str {
    flags.file_stem().and_then(|stem| stem.to_str()).unwrap_or("?")
}

fn generate(header: &Path, allow: &AllowList, flags: &Path) -> Result<String> {
    let flags =
        fs::read_to_string(flags).with_context(|| format!("reading {}", flags.display()))?;
    let header = header.to_str().context("the header's path is not UTF-8")?;
    // The oldest compiler that must understand the output.
    let target: RustTarget = env!("CARGO_PKG_RUST_VERSION").parse()?;

    let mut builder = bindgen::builder()
        .header(header)
        .clang_args(flags.lines())
        .use_core()
        .ctypes_prefix("cty")
        .rust_target(target)
        .rust_edition(RustEdition::Edition2024)
        .disable_header_comment()
        .raw_line(HEADER)
        .generate_comments(false)
        // What is not on the list is missing, instead of coming along.
        .allowlist_recursively(false)
        // A C enum may hold any value; a Rust one must not.
        .default_enum_style(EnumVariation::ModuleConsts)
        .default_macro_constant_type(MacroTypeVariation::Signed)
        // Sizes and offsets, asserted when the bindings are compiled.
        .layout_tests(true);
    for pattern in allow.patterns() {
        builder = builder.allowlist_item(pattern);
    }
    Ok(builder.generate()?.to_string())
}

fn diff((old_name, old): (&str, &str), (new_name, new): (&str, &str)) -> Option<String> {
    (old != new).then(|| {
        similar::TextDiff::from_lines(old, new)
            .unified_diff()
            .header(old_name, new_name)
            .to_string()
    })
}

/// Replaces the file in one step: a failure leaves the old one whole.
fn write(path: &Path, text: &str) -> Result<()> {
    let partial = path.with_extension("rs.new");
    fs::write(&partial, text)?;
    Ok(fs::rename(&partial, path)?)
}
