// SPDX-License-Identifier: BSD-2-Clause
//! Records, byte by byte; a time stamp is judged, and not shown.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;

use super::{Lab, Look, Place, Seen, hex, look, number};
use crate::bpf::{self, Bpf, T_BINTIME, T_FAST, T_MICROTIME, T_MONOTONIC, T_NANOTIME, T_NONE};
use crate::sys;
use crate::tests::While;

/// Where a stamp ends.
const STAMP: usize = 16;
/// struct bpf_hdr up to its last field.
const CAPTURED: usize = 16;
const HEADER_LENGTH: usize = 24;

/// A stamp as what it is.
fn stamp(bytes: &[u8], format: u32, before: [Duration; 2], after: [Duration; 2]) -> String {
    let word = |at: usize| -> u64 {
        let chunk = bytes.get(at..).and_then(|rest| rest.first_chunk());
        chunk.map_or(0, |bytes| u64::from_ne_bytes(*bytes))
    };
    let (seconds, fraction) = (word(0), word(8));
    if (seconds, fraction) == (0, 0) {
        return "zero".into();
    }
    let nanos = match format & 3 {
        T_MICROTIME => fraction.saturating_mul(1000),
        T_NANOTIME => fraction,
        _ => ((u128::from(fraction) * 1_000_000_000) >> 64) as u64,
    };
    if nanos >= 1_000_000_000 {
        return "no fraction".into();
    }
    let stamp = Duration::new(seconds, nanos as u32);
    // FAST may be a tick old.
    let slack = Duration::from_millis(50);
    let clocks = ["wall clock", "uptime"].iter().zip(before.iter().zip(after));
    let mut fits = clocks.filter(|(_, (from, to))| stamp + slack >= **from && stamp <= *to + slack);
    fits.next().map_or("another time", |(name, _)| name).into()
}

/// The records of one read(2): each as its stamp, and the rest with what fills up to the next.
fn records(bpf: &Bpf, format: u32, before: [Duration; 2]) -> Seen {
    let bytes = bpf.read().at("read")?;
    let after = [sys::wall_clock(), sys::now()];
    let mut rest = bytes.as_slice();
    let mut texts = Vec::new();
    while rest.len() > HEADER_LENGTH + 2 {
        let captured =
            rest[CAPTURED..CAPTURED + 4].iter().rev().fold(0, |n, b| n << 8 | usize::from(*b));
        let header =
            usize::from(u16::from_ne_bytes([rest[HEADER_LENGTH], rest[HEADER_LENGTH + 1]]));
        let end = (header + captured).min(rest.len());
        let (record, next) = rest.split_at(end);
        // What fills up to the next one is a look of its own.
        let pad = (end.next_multiple_of(8) - end).min(next.len());
        let shown = record.get(STAMP..).unwrap_or_default();
        texts.push(format!("{} {} +{pad}", stamp(record, format, before, after), hex(shown)));
        rest = next.get(pad..).unwrap_or_default();
    }
    Ok(format!("{} bytes: {}", bytes.len(), texts.join(" | ")))
}

const FLAGS: [(&str, u32); 4] =
    [("", 0), ("-fast", T_FAST), ("-monotonic", T_MONOTONIC), ("-both", T_FAST | T_MONOTONIC)];
const FORMATS: [(&str, u32); 4] =
    [("micro", T_MICROTIME), ("nano", T_NANOTIME), ("bin", T_BINTIME), ("none", T_NONE)];

/// What is looked at with one set of settings.
#[derive(Clone, Copy)]
struct Shape {
    place: Place,
    format: u32,
    snaplen: u32,
    /// Bytes of the first packet; each one after it is one byte longer.
    size: usize,
    count: usize,
    buffer: u32,
}

fn captured(lab: &Lab, shape: Shape) -> Seen {
    let Shape { place, format, snaplen, size, count, buffer } = shape;
    let bpf = lab.open()?;
    bpf.set_buffer_length(buffer)?;
    bpf.set_timestamp(format).at("BIOCSTSTAMP")?;
    lab.attach(&bpf, place, snaplen)?;
    bpf.fd.set_nonblocking(true)?;
    let source = lab.source(place)?;
    let before = [sys::wall_clock(), sys::now()];
    for number in 0..count {
        source.fill(&bpf, number..number + 1, size + number)?;
    }
    let [received, dropped] = bpf.statistics()?;
    let first = match bpf.readable()? {
        0 => "nothing".into(),
        _ => records(&bpf, format, before)?,
    };
    let after = match bpf.readable()? {
        0 => String::from("nothing"),
        _ => records(&bpf, format, before)?,
    };
    Ok(mask_identification(place, format!("{first}; then {after}; {received} {dropped}")))
}

/// IPv4 numbers its packets as it likes, and the checksum follows: both are in one place of a text.
fn mask_identification(place: Place, text: String) -> String {
    if place == Place::Ethernet {
        return text;
    }
    // Family, then version, type of service and length of IPv4.
    const BEGIN: &str = "020000004500";
    let mut shown = String::new();
    let mut rest = text.as_str();
    while let Some(at) = rest.find(BEGIN) {
        let (before, header) = rest.split_at(at + BEGIN.len() + 4);
        shown.push_str(before);
        // Identification; then flags, offset, TTL and protocol as they are; then the checksum.
        let digits = header.bytes().take(16).take_while(u8::is_ascii_hexdigit).count();
        let (masked, after) = header.split_at(digits);
        shown.extend(masked.chars().enumerate().map(|(index, digit)| match index {
            4..12 => digit,
            _ => 'x',
        }));
        rest = after;
    }
    shown.push_str(rest);
    shown
}

pub(super) fn looks(lab: &Lab) -> Vec<Look<'_>> {
    let mut looks = Vec::new();
    let mut add = |name: String, shape: Shape| {
        looks.push(look(name, move || captured(lab, shape)));
    };
    for place in Place::ALL {
        let least = place.smallest();
        let usual = Shape {
            place,
            format: T_MICROTIME,
            snaplen: u32::MAX,
            size: 64,
            count: 1,
            buffer: 4096,
        };
        for (format_name, format) in FORMATS {
            for (flags_name, flags) in FLAGS {
                if format == T_NONE && flags != 0 {
                    continue;
                }
                for snaplen in [1, 14, 40, u32::MAX] {
                    let name = format!("{}/{format_name}{flags_name}/{snaplen}", place.name());
                    add(name, Shape { format: format | flags, snaplen, count: 2, ..usual });
                }
            }
        }
        // What fills up between records, whatever their length; packets of more than one mbuf.
        for size in (least..least + 9).chain([100, 101, 102, 103, 104, 105, 106, 107]) {
            add(format!("{}/size/{size}", place.name()), Shape { size, count: 3, ..usual });
        }
        for size in [128, 224, 225, 256, 257, 300] {
            add(format!("{}/size/{size}", place.name()), Shape { size, snaplen: 300, ..usual });
        }
        // Buffers in which a record just fits, or is cut, and a full pair of them.
        for buffer in [32, 48, 64, 89, 90, 91, 92, 93, 96, 176, 180, 184, 192] {
            add(format!("{}/buffer/{buffer}", place.name()), Shape { buffer, count: 3, ..usual });
        }
    }
    // Bytes between two records of a buffer that was full of others before.
    looks.push(look("between".into(), || {
        let bpf = lab.listening(Place::Ethernet, 400)?;
        bpf.fd.set_nonblocking(true)?;
        let source = lab.source(Place::Ethernet)?;
        source.fill(&bpf, 0..9, 100)?;
        bpf.flush()?;
        source.fill(&bpf, 0..2, 19)?;
        let bytes = bpf.read().at("read")?;
        let between = bytes.get(26 + 19..48).unwrap_or_default();
        Ok(if between == [0; 3] { "zero" } else { "what was there before" }.into())
    }));
    looks.push(look("after-bad-stamp".into(), || {
        let bpf = lab.listening(Place::Ethernet, 4096)?;
        let refused = super::done(bpf.set_timestamp(0x104));
        bpf.fd.set_nonblocking(true)?;
        let before = [sys::wall_clock(), sys::now()];
        lab.source(Place::Ethernet)?.fill(&bpf, 0..1, 60)?;
        Ok(format!("{refused}; {}", records(&bpf, T_MICROTIME, before)?))
    }));
    // The format may change between two packets of one buffer.
    looks.push(look("formats-mixed".into(), || {
        let bpf = lab.listening(Place::Ethernet, 4096)?;
        bpf.fd.set_nonblocking(true)?;
        let source = lab.source(Place::Ethernet)?;
        let before = [sys::wall_clock(), sys::now()];
        for (number, (_, format)) in FORMATS.iter().enumerate() {
            bpf.set_timestamp(*format)?;
            source.fill(&bpf, number..number + 1, 60)?;
        }
        let kept = number(bpf.timestamp());
        Ok(format!("{kept}; {}", records(&bpf, bpf::T_NONE, before).map(|text| shape_of(&text))?))
    }));
    looks
}

/// The records without their stamps, whose formats differ.
fn shape_of(text: &str) -> String {
    text.split(" | ")
        .map(|record| record.rsplit(' ').nth(1).unwrap_or_default())
        .collect::<Vec<_>>()
        .join(" | ")
}
