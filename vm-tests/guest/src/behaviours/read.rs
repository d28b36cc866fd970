// SPDX-License-Identifier: BSD-2-Clause
//! read(2): sizes, what it waits for, and what it leaves.

use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

use super::{Lab, Look, Place, Seen, TIMEOUT, ioctl, look, number, timed};
use crate::bpf;
use crate::bpf::{Bpf, REJECT, SOON, records};
use crate::sys;
use crate::tests::{Child, Trouble, While};

/// How a descriptor waits.
pub(super) const MODES: [&str; 6] = [
    "blocking",
    "timeout",
    "immediate",
    "non-blocking",
    "immediate-timeout",
    "non-blocking-timeout",
];

/// What a descriptor has when it is asked.
pub(super) const FILLS: [&str; 7] =
    ["fresh", "epair", "store", "hold", "full", "locked", "departed"];

/// A descriptor with that in its buffers, which waits so.
pub(super) fn prepared(
    lab: &Lab,
    mode: &str,
    fill: &str,
) -> Result<(Bpf, Option<super::Source>), Trouble> {
    let (bpf, source) = ioctl::in_state(lab, fill)?;
    let_wait(&bpf, mode)?;
    if mode.starts_with("non-blocking") && bpf.fd.set_nonblocking(true).is_err() {
        // Refused when locked: which another family shows.
        return Err(Trouble::NotHere("locked".into()));
    }
    Ok((bpf, source))
}

/// Lets it wait so, if it waits.
fn let_wait(bpf: &Bpf, mode: &str) -> sys::Result<()> {
    if mode.starts_with("immediate") {
        bpf.set_immediate(true)?;
    }
    if mode.ends_with("timeout") {
        bpf.set_timeout_ms(TIMEOUT.as_millis() as i64)?;
    }
    Ok(())
}

fn count(bytes: Vec<u8>) -> String {
    match records(&bytes) {
        Ok(records) => format!("{} bytes, {} records", bytes.len(), records.len()),
        Err(why) => why,
    }
}

/// Three reads, one after the other.
fn reads(lab: &Lab, mode: &str, fill: &str) -> Seen {
    let (bpf, _source) = prepared(lab, mode, fill)?;
    let length = bpf.buffer_length()? as usize;
    let read = || {
        let mut buffer = vec![0; length];
        bpf.fd.read(&mut buffer).map(|length| {
            buffer.truncate(length);
            buffer
        })
    };
    let seen = [timed(read, count)?, timed(read, count)?, timed(read, count)?];
    Ok(format!("{}; readable {}", seen.join("; "), number(bpf.readable())))
}

/// What `see` sees of a descriptor that waits so, while packets come to it.
pub(super) fn woken(
    lab: &Lab,
    mode: &str,
    packets: usize,
    place: Place,
    see: impl FnOnce(&Bpf) -> Seen,
) -> Seen {
    let bpf = lab.listening(place, 400)?;
    let_wait(&bpf, mode)?;
    let source = lab.source(place)?;
    let child = Child::start(|| {
        sys::sleep(TIMEOUT / 8);
        // The second after the first woke somebody: no packet comes in between.
        i32::from((0..packets).any(|number| source.send(number, 100).is_err()))
    })?;
    let seen = see(&bpf)?;
    let status = child.finish(SOON)?;
    Ok(format!("{seen}; sent {status}"))
}

/// Sizes, relative to the buffer's.
const SIZES: [(&str, i64, i64); 7] = [
    ("nothing", 0, 0),
    ("one-byte", 0, 1),
    ("one-less", 1, -1),
    ("exact", 1, 0),
    ("one-more", 1, 1),
    ("half", -2, 0),
    ("twice", 2, 0),
];

fn of_size(lab: &Lab, buffer: u32, (_, factor, more): (&str, i64, i64), fill: bool) -> Seen {
    let bpf = lab.listening(Place::Ethernet, buffer)?;
    bpf.fd.set_nonblocking(true)?;
    if fill {
        lab.source(Place::Ethernet)?.fill(&bpf, 0..2, 60)?;
    }
    let whole = i64::from(bpf.buffer_length()?);
    let size = if factor < 0 { whole / -factor } else { whole * factor } + more;
    let mut bytes = vec![0; usize::try_from(size).map_err(|_| String::from("size"))?];
    let read = number(bpf.fd.read(&mut bytes));
    Ok(format!("{read}; readable {}", number(bpf.readable())))
}

pub(super) fn looks(lab: &Lab) -> Vec<Look<'_>> {
    let mut looks = Vec::new();
    for fill in FILLS {
        for mode in MODES {
            if fill == "locked" && mode.starts_with("non-blocking") {
                continue;
            }
            looks.push(look(format!("{fill}/{mode}"), move || reads(lab, mode, fill)));
        }
    }
    for place in Place::ALL {
        for mode in ["blocking", "timeout", "immediate", "immediate-timeout"] {
            for packets in [1, 3, 4, 5] {
                // How many of them an immediate reader meets is a matter of speed.
                if mode.starts_with("immediate") && packets > 1 {
                    continue;
                }
                let name = format!("woken/{}/{mode}/{packets}", place.name());
                looks.push(look(name, move || {
                    woken(lab, mode, packets, place, |bpf| timed(|| bpf.read(), count))
                }));
            }
        }
    }
    for buffer in [32, 100, 4096, 0x8_0000] {
        for size in SIZES {
            for fill in [false, true] {
                let name =
                    format!("size/{buffer}/{}/{}", size.0, if fill { "store" } else { "empty" });
                looks.push(look(name, move || of_size(lab, buffer, size, fill)));
            }
        }
    }
    // A copy that faults loses what it was to copy.
    looks.push(look("fault".into(), || {
        let (bpf, _source) = prepared(lab, "non-blocking", "hold")?;
        let length = bpf.buffer_length()? as usize;
        let lost = number(bpf.fd.read_null(length));
        Ok(format!(
            "{lost}; readable {}; then {}",
            number(bpf.readable()),
            number(bpf.read().map(|b| b.len()))
        ))
    }));
    // What an ioctl in between does to the time that poll(2) began.
    for (name, ask) in [("read-after-poll", false), ("read-after-poll-and-ioctl", true)] {
        looks.push(look(name.into(), move || {
            let (bpf, _source) = prepared(lab, "timeout", "store")?;
            let poll = timed(|| bpf.fd.poll(libc::POLLIN, None), |events| format!("{events:#x}"))?;
            if ask {
                bpf.readable()?;
            }
            let mut buffer = vec![0; 400];
            let read = timed(|| bpf.fd.read(&mut buffer), |length| format!("{length}"))?;
            Ok(format!("{poll}; {read}"))
        }));
    }
    // The time begins anew with each wake-up.
    looks.push(look("filter-in-between".into(), || {
        let (bpf, _source) = prepared(lab, "timeout", "hold")?;
        bpf.set_filter(bpf::BIOCSETFNR, &REJECT).at("BIOCSETFNR")?;
        timed(|| bpf.read(), count)
    }));
    looks
}
