// SPDX-License-Identifier: BSD-2-Clause
//! Reads a finished module the way FreeBSD's module loader will, and says
//! what would go wrong in the kernel: relocations that the loader does not
//! know, floating point, missing symbols, too large stack frames, functions without
//! landing pads, filters whose steps call one another instead of jumping.

mod code;
mod landing;
mod lists;
mod metadata;
mod module;
mod report;
mod rules;
mod stack;
#[cfg(test)]
mod tests;
mod threading;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Parser;

use lists::Lists;
use module::Module;
use report::Report;

#[derive(Parser)]
#[command(about = "Checks a finished module before a kernel loads it")]
struct Options {
    /// Folder of the lists of kernel symbols, freebsdN.txt
    #[arg(long, default_value = "sys/symbols")]
    symbols: PathBuf,
    /// List of the symbols that the module exports
    #[arg(long, default_value = "sys/exports")]
    exports: PathBuf,
    /// List of the symbols that a module it depends on exports
    #[arg(long)]
    provided: Option<PathBuf>,
    /// List of the symbols that an instrumented module may need besides: it is one
    #[arg(long)]
    sanitizer: Option<PathBuf>,
    /// Folder of the kernel headers that the module was built with (may be given more than once)
    #[arg(long)]
    include: Vec<PathBuf>,
    /// The stripped module; beside it must stand the same with .full appended,
    /// which has the stack sizes
    ko: PathBuf,
}

fn main() -> ExitCode {
    match run(&Options::parse()) {
        Ok(report) => {
            print!("{report}");
            if report.passed() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(error) => {
            eprintln!("bpfrs-check-ko: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Result<Report> {
    let full = PathBuf::from(format!("{}.full", options.ko.display()));
    let lists = Lists::read(
        &options.symbols,
        &options.exports,
        options.provided.as_deref(),
        options.sanitizer.as_deref(),
    )?;
    check(&read(&options.ko)?, &read(&full)?, &lists, &options.include)
        .with_context(|| options.ko.display().to_string())
}

fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).with_context(|| format!("{}", path.display()))
}

/// Applies every rule to the stripped module and to the full one.
fn check(ko: &[u8], full: &[u8], lists: &Lists, include: &[PathBuf]) -> Result<Report> {
    let module = Module::parse(ko)?;
    let full = Module::parse(full).context("the .full file")?;
    let metadata = metadata::read(&module);
    let osversion = metadata.as_ref().ok().map(|m| m.osversion);

    let mut report = Report::new(module.arch, osversion);
    report.rule("size", rules::size(ko, lists));
    report.rule("metadata", rules::metadata(metadata));
    report.rule("relocations", rules::relocations(&module));
    report.rule("instructions", code::check(&module));
    report.rule("landing", landing::check(&module));
    report.rule("emitter", rules::emitter(&module));
    report.rule("unwinder", rules::unwinder(&module));
    report.rule("undefined", rules::undefined(&module, osversion, lists));
    report.rule("headers", rules::headers(&module, osversion, lists, include));
    report.rule("globals", rules::globals(&module, lists));
    report.rule("stack", stack::check(&full));
    report.rule("threading", threading::check(&full));
    Ok(report)
}
