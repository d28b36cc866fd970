// SPDX-License-Identifier: BSD-2-Clause
//! Signals: FIOASYNC, FIOSETOWN and BIOCSRSIG.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use super::ioctl::{BIOCSRSIG, FIOASYNC, FIOSETOWN, TIOCSPGRP};
use super::{ARRIVAL, Lab, Look, Place, Seen, done, look};
use crate::bpf::Bpf;
use crate::driver::eventually;
use crate::ifnet::Cloned;
use crate::sys::{self, Pid};
use crate::tests::{Trouble, While};

/// Whom a signal goes to.
const OWNERS: [&str; 4] = ["nobody", "process", "tiocspgrp", "taken-back"];
/// Which signal: none of these by default ends a process that catches it.
const SIGNALS: [(&str, Option<i32>); 4] =
    [("default", None), ("usr1", Some(libc::SIGUSR1)), ("none", Some(0)), ("highest", Some(31))];

fn own(bpf: &Bpf, owner: &str) -> String {
    let me = Pid::current().number();
    let set = |command, mut whom: i32| done(bpf.fd.ioctl(command, &mut whom));
    match owner {
        "nobody" => "-".into(),
        "process" => set(FIOSETOWN, me),
        "tiocspgrp" => set(TIOCSPGRP, -me),
        _ => format!("{} {}", set(FIOSETOWN, me), set(FIOSETOWN, 0)),
    }
}

fn catch_all() -> Result<(), Trouble> {
    for signal in [libc::SIGIO, libc::SIGUSR1, libc::SIGUSR2] {
        sys::catch(signal).at("sigaction")?;
    }
    sys::caught();
    Ok(())
}

/// The signal that comes, after some time.
fn signal() -> String {
    let mut caught = None;
    eventually(ARRIVAL, || {
        caught = sys::caught();
        caught.is_some()
    });
    caught.map_or_else(|| "no signal".into(), |signal| format!("signal {signal}"))
}

fn sent(lab: &Lab, owner: &str, which: Option<i32>, on: bool, mode: &str) -> Seen {
    catch_all()?;
    let bpf = lab.listening(Place::Ethernet, 400)?;
    bpf.set_immediate(mode == "immediate")?;
    let owned = own(&bpf, owner);
    if let Some(mut signal) = which {
        bpf.fd.ioctl(BIOCSRSIG, &mut signal).at("BIOCSRSIG")?;
    }
    let switched = done(bpf.fd.ioctl(FIOASYNC, &mut i32::from(on)));
    let source = lab.source(Place::Ethernet)?;
    source.fill(&bpf, 0..1, 100)?;
    let one = signal();
    // More than a buffer takes.
    source.fill(&bpf, 1..5, 100)?;
    Ok(format!("{owned}; {switched}; {one}; {}", signal()))
}

pub(super) fn looks(lab: &Lab) -> Vec<Look<'_>> {
    let mut looks = Vec::new();
    for owner in OWNERS {
        for (name, which) in SIGNALS {
            for (state, on) in [("on", true), ("off", false)] {
                for mode in ["immediate", "blocking"] {
                    let name = format!("{owner}/{name}/{state}/{mode}");
                    looks.push(look(name, move || sent(lab, owner, which, on, mode)));
                }
            }
        }
    }
    // What wakes a sleeper is a signal's reason, too.
    looks.push(look("departure".into(), || {
        catch_all()?;
        let tap = Cloned::new("tap35").at("tap35")?;
        let bpf = lab.open()?;
        bpf.attach(tap.name())?;
        let owned = own(&bpf, "process");
        bpf.fd.ioctl(FIOASYNC, &mut 1_i32)?;
        tap.destroy().at("tap35")?;
        Ok(format!("{owned}; {}", signal()))
    }));
    looks.push(look("time".into(), || {
        catch_all()?;
        let bpf = lab.listening(Place::Ethernet, 400)?;
        bpf.set_timeout_ms(50)?;
        lab.source(Place::Ethernet)?.fill(&bpf, 0..1, 100)?;
        let owned = own(&bpf, "process");
        bpf.fd.ioctl(FIOASYNC, &mut 1_i32)?;
        let ready = bpf.fd.poll(libc::POLLIN, Some(core::time::Duration::ZERO))?;
        Ok(format!("{owned}; {ready:#x}; {}", signal()))
    }));
    looks.push(look("closed".into(), || {
        catch_all()?;
        let bpf = lab.listening(Place::Ethernet, 400)?;
        let owned = own(&bpf, "process");
        bpf.fd.ioctl(FIOASYNC, &mut 1_i32)?;
        bpf.fd.close()?;
        Ok(format!("{owned}; {}", signal()))
    }));
    looks
}
