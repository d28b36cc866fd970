// SPDX-License-Identifier: BSD-2-Clause
//! An interface that goes away under a descriptor, and one that is renamed.

use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

use libc::{EV_ADD, EVFILT_READ};

use super::{Lab, Look, Place, Seen, TIMEOUT, done, look, number, timed, told};
use crate::bpf::{Bpf, SOON};
use crate::ifnet::{self, Cloned};
use crate::sys::{self, Fd};
use crate::tests::{Child, Trouble, While};

/// What is done with the descriptor once its interface is gone.
type Call = fn(&Lab, &Bpf) -> Seen;

const CALLS: [(&str, Call); 12] = [
    ("read", |_, bpf| timed(|| bpf.read(), |bytes| format!("{}", bytes.len()))),
    ("write", |_, bpf| Ok(number(bpf.fd.write(&[0; 60])))),
    ("write-nothing", |_, bpf| Ok(number(bpf.fd.write(&[])))),
    ("poll", |_, bpf| timed(|| bpf.fd.poll(libc::POLLIN, None), |events| format!("{events:#x}"))),
    ("select", |_, bpf| timed(|| bpf.fd.select(None), |ready| format!("{ready}"))),
    ("kevent", |_, bpf| {
        let queue = Fd::kqueue()?;
        let added = done(queue.register(&bpf.fd, EVFILT_READ, EV_ADD));
        Ok(format!("{added}; {}", timed(|| queue.events(None), |e| format!("{}", e.len()))?))
    }),
    ("getif", |_, bpf| Ok(told(bpf.interface(), |name| name))),
    ("readable", |_, bpf| Ok(number(bpf.readable()))),
    ("statistics", |_, bpf| Ok(told(bpf.statistics(), |counts| format!("{counts:?}")))),
    ("promisc", |_, bpf| Ok(done(bpf.promiscuous()))),
    ("attach-gone", |_, bpf| Ok(done(bpf.attach("tap36")))),
    ("attach-other", |lab, bpf| {
        let attached = done(bpf.attach(lab.interface(Place::Ethernet)));
        bpf.fd.set_nonblocking(true)?;
        lab.source(Place::Ethernet)?.fill(bpf, 0..2, 60)?;
        Ok(format!("{attached}; {}", number(bpf.read().map(|bytes| bytes.len()))))
    }),
];

/// How the descriptor was set, and what it had, when the interface went.
const MODES: [&str; 6] =
    ["plain", "immediate", "non-blocking", "timeout", "promiscuous", "with-packets"];

/// A tap that is up, and a descriptor on it.
fn on_a_tap(lab: &Lab, mode: &str) -> Result<(Bpf, Cloned), Trouble> {
    let tap = Cloned::new("tap36").at("tap36")?;
    let bpf = lab.open()?;
    bpf.attach(tap.name())?;
    match mode {
        "immediate" => bpf.set_immediate(true)?,
        "non-blocking" => bpf.fd.set_nonblocking(true)?,
        "timeout" => bpf.set_timeout_ms(TIMEOUT.as_millis() as i64)?,
        "promiscuous" => bpf.promiscuous()?,
        "with-packets" => {
            // Whoever holds the device open gives the interface its other end.
            let end = Fd::open("/dev/tap36", libc::O_RDWR).at("/dev/tap36")?;
            ifnet::up(tap.name())?;
            end.write(&bpfrs_vm_protocol::frame::ethernet(0, 64))?;
        }
        _ => {}
    }
    Ok((bpf, tap))
}

/// Who sleeps when the interface goes.
fn asleep(lab: &Lab, call: &str, mode: &str) -> Seen {
    let (bpf, tap) = on_a_tap(lab, mode)?;
    let child = Child::start(|| {
        sys::sleep(TIMEOUT / 8);
        // Not by a program: on a busy host to load one takes as long as a timeout.
        i32::from(tap.away().is_err())
    })?;
    let seen = match call {
        "read" => timed(|| bpf.read(), |bytes| format!("{}", bytes.len()))?,
        "poll" => timed(|| bpf.fd.poll(libc::POLLIN, None), |events| format!("{events:#x}"))?,
        "select" => timed(|| bpf.fd.select(None), |ready| format!("{ready}"))?,
        _ => {
            let queue = Fd::kqueue()?;
            queue.register(&bpf.fd, EVFILT_READ, EV_ADD)?;
            timed(|| queue.events(None), |events| format!("{}", events.len()))?
        }
    };
    let status = child.finish(SOON)?;
    Ok(format!("{seen}; destroyed {status}"))
}

pub(super) fn looks(lab: &Lab) -> Vec<Look<'_>> {
    let mut looks = Vec::new();
    for mode in MODES {
        for (name, call) in CALLS {
            looks.push(look(format!("gone/{mode}/{name}"), move || {
                let (bpf, tap) = on_a_tap(lab, mode)?;
                tap.destroy().at("tap36")?;
                call(lab, &bpf)
            }));
        }
    }
    for call in ["read", "poll", "select", "kevent"] {
        for mode in ["plain", "immediate", "timeout"] {
            let name = format!("asleep/{mode}/{call}");
            looks.push(look(name, move || asleep(lab, call, mode)));
        }
    }
    looks.push(look("comes-again".into(), || {
        let (bpf, tap) = on_a_tap(lab, "plain")?;
        tap.destroy().at("tap36")?;
        let _tap = Cloned::new("tap36").at("tap36")?;
        let name = told(bpf.interface(), |name| name);
        Ok(format!("{name}; {}", done(bpf.attach("tap36"))))
    }));
    looks.push(look("renamed".into(), || {
        let (bpf, tap) = on_a_tap(lab, "promiscuous")?;
        ifnet::run(&format!("ifconfig {} name renamed0", tap.name()))?;
        let mut seen = vec![told(bpf.interface(), |name| name)];
        seen.push(done(bpf.attach(tap.name())));
        seen.push(done(bpf.attach("renamed0")));
        seen.push(told(ifnet::is_promiscuous("renamed0"), |on| format!("{on}")));
        ifnet::run("ifconfig renamed0 destroy")?;
        seen.push(told(bpf.interface(), |name| name));
        Ok(seen.join("; "))
    }));
    // Down is not gone.
    looks.push(look("down".into(), || {
        let (bpf, _tap) = on_a_tap(lab, "timeout")?;
        ifnet::run("ifconfig tap36 down")?;
        let read = timed(|| bpf.read(), |bytes| format!("{}", bytes.len()))?;
        let name: String = told(bpf.interface(), |name| name);
        Ok(format!("{read}; {name}"))
    }));
    looks
}
