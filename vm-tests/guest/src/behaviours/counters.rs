// SPDX-License-Identifier: BSD-2-Clause
//! Counters, directions, and what `net.bpf.stats` says of a descriptor.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use bpfrs_vm_protocol::frame::ethernet;

use super::{ARRIVAL, Lab, Look, Place, Seen, done, ioctl, look, number, told, writer};
use crate::bpf::{self, ACCEPT, Bpf, REJECT, name_of, records, statement};
use crate::sys::{self, Pid};
use crate::tests::{Trouble, While};

/// struct xbpf_d of net/bpfdesc.h: where its numbers are, and their sizes.
const XBPF_D: [(&str, usize, usize); 21] = [
    ("size", 0, 4),
    ("promisc", 4, 1),
    ("immediate", 5, 1),
    ("hdrcmplt", 12, 4),
    ("direction", 16, 4),
    ("feedback", 20, 4),
    ("async", 24, 4),
    ("recv", 32, 8),
    ("drop", 40, 8),
    ("match", 48, 8),
    ("sig", 56, 4),
    ("slen", 60, 4),
    ("hlen", 64, 4),
    ("bufsize", 68, 4),
    ("locked", 92, 4),
    ("write", 96, 8),
    ("write-match", 104, 8),
    ("write-drop", 112, 8),
    ("zcopy", 120, 8),
    ("bufmode", 128, 4),
    ("spare", 136, 8),
];
const XBPF_D_SIZE: usize = 168;
const PID: usize = 72;
const INTERFACE: usize = 76;

/// What the statistics say of the descriptors that this process used last, but for `writer`'s.
pub(super) fn of_this_process(lab: &Lab) -> String {
    let raw = match sys::sysctl(&format!("{}.stats", lab.prefix)) {
        Ok(raw) => raw,
        Err(errno) => return errno.name(),
    };
    let number_at = |entry: &[u8], at: usize, size: usize| -> u64 {
        let bytes = entry.get(at..at + size).unwrap_or_default();
        bytes.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte))
    };
    let own = Pid::current().number() as u64;
    let mut texts = Vec::new();
    for entry in raw.chunks_exact(XBPF_D_SIZE) {
        let interface = name_of(entry.get(INTERFACE..INTERFACE + 16).unwrap_or_default());
        if number_at(entry, PID, 4) != own || interface == lab.pair.b {
            continue;
        }
        let numbers = XBPF_D
            .iter()
            .map(|(name, at, size)| format!(" {name} {}", number_at(entry, *at, *size)));
        texts.push(format!("{interface}{}", numbers.collect::<Vec<_>>().concat()));
    }
    format!("{} descriptors {}", texts.len(), texts.join("; "))
}

/// A descriptor that may turn out to be a writer's: what it captures after each step.
pub(super) fn of_a_writer(lab: &Lab) -> Seen {
    let bpf = lab.open()?;
    bpf.attach(lab.interface(Place::Ethernet))?;
    bpf.fd.set_nonblocking(true)?;
    let source = writer(&lab.pair.b)?;
    let count = || -> Seen {
        source.fd.write(&ethernet(0, 60)).at("write")?;
        sys::sleep(ARRIVAL);
        Ok(number(bpf.readable()))
    };
    let snaplen = [statement(bpf::RET_K, 50)];
    let program = [statement(bpf::LD_W_LEN, 0), statement(bpf::RET_K, 40)];
    let mut seen = Vec::from([count()?]);
    for program in [&snaplen[..], &snaplen[..], &program[..]] {
        bpf.set_filter(bpf::BIOCSETF, program)?;
        seen.push(count()?);
    }
    Ok(seen.join(" "))
}

/// What is received and dropped in the end, and what is read.
fn counted(
    lab: &Lab,
    place: Place,
    filter: &[bpf::Instruction],
    buffer: u32,
    packets: usize,
) -> Seen {
    let bpf = lab.listening(place, buffer)?;
    bpf.fd.set_nonblocking(true)?;
    bpf.set_filter(bpf::BIOCSETF, filter)?;
    lab.source(place)?.fill(&bpf, 0..packets, 100)?;
    let before = told(bpf.statistics(), |counts| format!("{counts:?}"));
    let all = of_this_process(lab);
    let mut read = 0;
    while let Ok(bytes) = bpf.read() {
        read += records(&bytes)?.len();
    }
    let after = told(bpf.statistics(), |counts| format!("{counts:?}"));
    bpf.flush()?;
    let flushed = told(bpf.statistics(), |counts| format!("{counts:?}"));
    Ok(format!("{before} {read} {after} {flushed}; {all}"))
}

/// What comes and what goes, as each direction shows it.
fn directed(lab: &Lab, place: Place, direction: u32, promiscuous: bool) -> Seen {
    let bpf = lab.listening(place, 4096)?;
    bpf.set_direction(direction)?;
    bpf.fd.set_nonblocking(true)?;
    if promiscuous {
        bpf.promiscuous()?;
    }
    let source = lab.source(place)?;
    for number in [0, 8, 16] {
        source.send(number, 60)?;
    }
    // The other way: on lo0 there is none.
    let other = writer(lab.interface(place))?;
    if place == Place::Ethernet {
        for number in [1, 9, 17, 18] {
            other.fd.write(&ethernet(number, 62)).at("write")?;
        }
    }
    sys::sleep(ARRIVAL);
    let counts = told(bpf.statistics(), |counts| format!("{counts:?}"));
    let mut lengths = match bpf.read() {
        Ok(bytes) => records(&bytes)?.iter().map(|record| record.length).collect::<Vec<_>>(),
        Err(_) => Vec::new(),
    };
    // What comes and what goes are in no order.
    lengths.sort_unstable();
    Ok(format!("{counts} {lengths:?}"))
}

pub(super) fn looks(lab: &Lab) -> Vec<Look<'_>> {
    let mut looks = Vec::new();
    for (name, filter) in [("accept", &ACCEPT), ("reject", &REJECT)] {
        for buffer in [32, 100, 400, 4096] {
            for packets in [1, 3, 4, 7, 20] {
                let name = format!("epair/{name}/{buffer}/{packets}");
                looks.push(look(name, move || {
                    counted(lab, Place::Ethernet, filter, buffer, packets)
                }));
            }
        }
    }
    for place in Place::ALL {
        for direction in [bpf::D_IN, bpf::D_INOUT, bpf::D_OUT] {
            for promiscuous in [false, true] {
                let name = format!("direction/{}/{direction}/{promiscuous}", place.name());
                looks.push(look(name, move || directed(lab, place, direction, promiscuous)));
            }
        }
    }
    for at in ioctl::STATES {
        looks.push(look(format!("stats/{at}"), move || {
            let (_bpf, _source) = ioctl::in_state(lab, at)?;
            Ok(of_this_process(lab))
        }));
    }
    // Every setting that the statistics show.
    looks.push(look("stats/settings".into(), || {
        let bpf = lab.listening(Place::Ethernet, 5000)?;
        bpf.set_immediate(true)?;
        bpf.set_header_complete()?;
        bpf.set_feedback(true)?;
        bpf.set_direction(bpf::D_OUT)?;
        bpf.fd.ioctl(ioctl::FIOASYNC, &mut 1_i32)?;
        bpf.fd.ioctl(ioctl::BIOCSRSIG, &mut 30_u32)?;
        bpf.promiscuous()?;
        bpf.lock()?;
        Ok(of_this_process(lab))
    }));
    looks.push(look("stats/zeroed".into(), || {
        let (_bpf, _source) = ioctl::in_state(lab, "full")?;
        let name = format!("{}.stats", lab.prefix);
        let odd = done(sys::set_sysctl(&name, &[1; XBPF_D_SIZE]));
        let kept = of_this_process(lab);
        let zeroed = done(sys::set_sysctl(&name, &[0; XBPF_D_SIZE]));
        Ok(format!("{odd}; {kept}; {zeroed}; {}", of_this_process(lab)))
    }));
    looks.push(look("writer".into(), || of_a_writer(lab)));
    looks.push(look("writer/wronly".into(), || {
        let bpf = Bpf { fd: lab.open_with(libc::O_WRONLY).at("open")?.fd };
        bpf.attach(lab.interface(Place::Ethernet))?;
        let source = lab.source(Place::Ethernet)?;
        for number in 0..3 {
            source.send(number, 60)?;
        }
        sys::sleep(ARRIVAL);
        Ok::<_, Trouble>(number(bpf.readable()))
    }));
    looks
}
