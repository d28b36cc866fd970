// SPDX-License-Identifier: BSD-2-Clause
//! The driver's sysctls: what they are, and what they do.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use super::{Lab, Look, Seen, counters, done, hex, look, told};
use crate::bpf::{self, ACCEPT};
use crate::sys;
use crate::tests::{Trouble, While};

const NAMES: [&str; 5] =
    ["bufsize", "maxbufsize", "maxinsns", "zerocopy_enable", "optimize_writers"];

/// A sysctl with another value, for as long as `body` runs.
fn with(lab: &Lab, name: &str, value: i32, body: impl FnOnce() -> Seen) -> Seen {
    let name = format!("{}.{name}", lab.prefix);
    let before = match sys::sysctl(&name) {
        Ok(before) => before,
        Err(errno) => return Ok(errno.name()),
    };
    let set = done(sys::set_sysctl(&name, &value.to_ne_bytes()));
    let seen = body();
    sys::set_sysctl(&name, &before).at(&name)?;
    Ok(format!("{set}; {}", seen?))
}

/// What a fresh descriptor is, and takes.
fn lengths(lab: &Lab) -> Seen {
    let bpf = lab.open()?;
    let fresh = bpf.buffer_length()?;
    let granted = [0, 100, 5000, u32::MAX]
        .map(|length| told(bpf.set_buffer_length(length), |granted| format!(" {granted}")));
    let other = lab.open()?;
    let attached = done(other.attach("lo0"));
    Ok(format!("{fresh};{}; {attached} {}", granted.concat(), other.buffer_length()?))
}

fn programs(lab: &Lab) -> Seen {
    let bpf = lab.open()?;
    let results: Vec<String> = [1, 2, 3, 512, 513, 600]
        .iter()
        .map(|&length| done(bpf.set_filter(bpf::BIOCSETF, &ACCEPT.repeat(length))))
        .collect();
    Ok(results.join(" "))
}

pub(super) fn looks(lab: &Lab) -> Vec<Look<'_>> {
    let mut looks = Vec::new();
    for name in NAMES {
        let path = move || format!("{}.{name}", lab.prefix);
        looks.push(look(format!("{name}/value"), move || {
            Ok(told(sys::sysctl(&path()), |bytes| hex(&bytes)))
        }));
        looks.push(look(format!("{name}/description"), move || {
            Ok(told(sys::sysctl_description(&path()), |text| text))
        }));
        looks.push(look(format!("{name}/format"), move || {
            Ok(told(sys::sysctl_format(&path()), |text| text))
        }));
        looks.push(look(format!("{name}/short"), move || Ok(done(sys::set_sysctl(&path(), &[1])))));
    }
    for value in [-1, 0, 1, 31, 32, 33, 8192, 0x8_0000, 0x10_0000] {
        for name in ["bufsize", "maxbufsize"] {
            // A buffer that the machine has no memory for is none of a driver's.
            if name == "maxbufsize" && value < 0 {
                continue;
            }
            looks.push(look(format!("{name}/{value}"), move || {
                with(lab, name, value, || lengths(lab))
            }));
        }
    }
    for value in [-1, 0, 1, 2, 512, 600] {
        looks.push(look(format!("maxinsns/{value}"), move || {
            with(lab, "maxinsns", value, || programs(lab))
        }));
    }
    for value in [0, 1] {
        looks.push(look(format!("optimize_writers/{value}"), move || {
            with(lab, "optimize_writers", value, || counters::of_a_writer(lab))
        }));
    }
    looks.push(look("stats/nothing-to-write".into(), || {
        let name = format!("{}.stats", lab.prefix);
        Ok::<_, Trouble>(done(sys::set_sysctl(&name, &[0; 7])))
    }));
    looks
}
