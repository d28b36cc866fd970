// SPDX-License-Identifier: BSD-2-Clause
//! poll(2), select(2) and kqueue(2).

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use libc::{EV_ADD, EV_CLEAR, EV_EOF};

use super::read::{self, FILLS, MODES, prepared};
use super::{Lab, Look, Place, Seen, done, ioctl, look, number, timed};
use crate::bpf::Bpf;
use crate::sys::{Fd, Kevent};

const EVENTS: [(&str, i16); 10] = [
    ("in", libc::POLLIN),
    ("rdnorm", libc::POLLRDNORM),
    ("out", libc::POLLOUT),
    ("wrnorm", libc::POLLWRNORM),
    ("pri", libc::POLLPRI),
    ("rdband", libc::POLLRDBAND),
    ("hup", libc::POLLHUP),
    ("none", 0),
    ("in-out", libc::POLLIN | libc::POLLOUT),
    ("all", libc::POLLIN | libc::POLLRDNORM | libc::POLLOUT | libc::POLLWRNORM | libc::POLLPRI),
];

/// The filters of kqueue(2), and whether it is one of bpf(4) that waits.
const FILTERS: [(&str, i16); 6] = [
    ("read", libc::EVFILT_READ),
    ("write", libc::EVFILT_WRITE),
    ("vnode", libc::EVFILT_VNODE),
    ("aio", libc::EVFILT_AIO),
    ("empty", libc::EVFILT_EMPTY),
    ("unknown", -99),
];

fn mask(events: i16) -> String {
    format!("{events:#x}")
}

fn events(events: Vec<Kevent>) -> String {
    let texts: Vec<_> = events
        .iter()
        .map(|e| format!("data {}{}", e.data, if e.flags & EV_EOF == 0 { "" } else { " EOF" }))
        .collect();
    format!("{} events {}", texts.len(), texts.join(", "))
}

/// poll(2) and its like of a descriptor in that state, each of which may wait.
fn waits(lab: &Lab, call: &str, mode: &str, fill: &str) -> Seen {
    let (bpf, _source) = prepared(lab, mode, fill)?;
    match call {
        "poll" => timed(|| bpf.fd.poll(libc::POLLIN | libc::POLLRDNORM, None), mask),
        "select" => timed(|| bpf.fd.select(None), |ready| format!("{ready}")),
        _ => {
            let queue = Fd::kqueue()?;
            let added = done(queue.register(&bpf.fd, libc::EVFILT_READ, EV_ADD));
            Ok(format!("{added}; {}", timed(|| queue.events(None), events)?))
        }
    }
}

/// The same, with packets that come meanwhile.
fn woken(bpf: &Bpf, call: &str) -> Seen {
    match call {
        "poll" => timed(|| bpf.fd.poll(libc::POLLIN, None), mask),
        "select" => timed(|| bpf.fd.select(None), |ready| format!("{ready}")),
        _ => {
            let queue = Fd::kqueue()?;
            queue.register(&bpf.fd, libc::EVFILT_READ, EV_ADD)?;
            // How many of the packets it counts is a matter of speed.
            timed(|| queue.events(None), |events| format!("{} events", events.len()))
        }
    }
}

fn registered(lab: &Lab, at: &str, filter: i16) -> Seen {
    let (bpf, _source) = ioctl::in_state(lab, at)?;
    let queue = Fd::kqueue()?;
    let add = done(queue.register(&bpf.fd, filter, EV_ADD | EV_CLEAR));
    let now = || number(queue.events(Some(core::time::Duration::ZERO)).map(|e| e.len()));
    let (first, second) = (now(), now());
    let delete = done(queue.register(&bpf.fd, filter, libc::EV_DELETE));
    let again = done(queue.register(&bpf.fd, filter, libc::EV_DELETE));
    Ok(format!("add {add}; {first}; {second}; delete {delete}; {again}"))
}

pub(super) fn looks(lab: &Lab) -> Vec<Look<'_>> {
    let mut looks = Vec::new();
    for at in ioctl::STATES {
        for (name, asked) in EVENTS {
            looks.push(look(format!("poll/{at}/{name}"), move || {
                let (bpf, _source) = ioctl::in_state(lab, at)?;
                let now = Some(core::time::Duration::ZERO);
                Ok(super::told(bpf.fd.poll(asked, now), mask))
            }));
        }
        for (name, filter) in FILTERS {
            looks.push(look(format!("kevent/{at}/{name}"), move || registered(lab, at, filter)));
        }
    }
    for call in ["poll", "select", "kevent"] {
        for fill in FILLS {
            for mode in MODES {
                if fill == "locked" && mode.starts_with("non-blocking") {
                    continue;
                }
                let name = format!("{call}-waits/{fill}/{mode}");
                looks.push(look(name, move || waits(lab, call, mode, fill)));
            }
        }
        for place in Place::ALL {
            for mode in ["blocking", "timeout", "immediate"] {
                for packets in [1, 5] {
                    let name = format!("{call}-woken/{}/{mode}/{packets}", place.name());
                    looks.push(look(name, move || {
                        read::woken(lab, mode, packets, place, |bpf| woken(bpf, call))
                    }));
                }
            }
        }
    }
    looks
}
