// SPDX-License-Identifier: BSD-2-Clause
//! bpfrsstat: who captures what, and what was lost.

#[cfg(target_os = "freebsd")]
mod freebsd;

use std::io::{Write, stdout};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::error::{ContextKind, ContextValue};
use clap::{CommandFactory as _, Parser};

#[derive(Parser)]
#[command(
    about = "Prints what bpfrs knows of its descriptors, one a line, as netstat -B does",
    version
)]
struct Options {
    /// What netstat -B hides, too: size and mode of the buffers, why packets
    /// were lost, what was written
    #[arg(short, long)]
    all: bool,
    /// Only descriptors of this interface
    #[arg(short = 'I', long)]
    interface: Option<String>,
    /// Sets all counters to zero
    #[arg(long, conflicts_with_all = ["all", "interface", "file"])]
    zero: bool,
    /// The sysctl; net.bpf.stats for stock bpf(4)
    #[arg(long, default_value = "net.bpfrs.stats")]
    sysctl: String,
    /// Reads what sysctl -b printed instead
    #[arg(long)]
    file: Option<PathBuf>,
}

#[cfg(not(target_os = "freebsd"))]
mod freebsd {
    use anyhow::{Result, bail};

    pub(crate) fn read(name: &str) -> Result<Vec<u8>> {
        bail!("{name} is there on FreeBSD only; elsewhere --file")
    }

    pub(crate) fn write(name: &str, _value: &[u8]) -> Result<()> {
        bail!("{name} is there on FreeBSD only")
    }

    pub(crate) fn command(_pid: i32) -> Option<String> {
        None
    }
}

fn main() -> ExitCode {
    match stat(&options()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bpfrsstat: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn options() -> Options {
    Options::try_parse().unwrap_or_else(|mut error| {
        // Who mistypes is not pointed to what throws the counters away.
        if error.get(ContextKind::SuggestedArg) == Some(&ContextValue::String("--zero".into())) {
            error.remove(ContextKind::SuggestedArg);
            let usage = Options::command().render_usage();
            error.insert(ContextKind::Usage, ContextValue::StyledStr(usage));
        }
        error.exit()
    })
}

fn stat(options: &Options) -> Result<()> {
    if options.zero {
        return freebsd::write(&options.sysctl, &bpfrsstat::ZERO);
    }
    let (bytes, from) = match &options.file {
        None => (freebsd::read(&options.sysctl)?, options.sysctl.clone()),
        Some(path) => {
            let from = path.display().to_string();
            (std::fs::read(path).with_context(|| from.clone())?, from)
        }
    };
    let mut descriptors = bpfrsstat::parse(&bytes).context(from)?;
    if let Some(interface) = &options.interface {
        descriptors.retain(|d| d.interface() == *interface);
    }
    // What was read from a file is of other processes.
    let command = |pid| if options.file.is_some() { None } else { freebsd::command(pid) };
    stdout().write_all(bpfrsstat::table(&descriptors, options.all, command).as_bytes())?;
    Ok(())
}
