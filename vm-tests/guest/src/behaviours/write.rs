// SPDX-License-Identifier: BSD-2-Clause
//! write(2): what is accepted, and where it arrives.

use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

use bpfrs_vm_protocol::frame::ethernet;

use super::{ARRIVAL, Lab, Look, Place, STOCK, Seen, counters, done, hex, look, number};
use crate::bpf::{self, Bpf, REJECT, records, statement};
use crate::ifnet::{self, Cloned};
use crate::sys;
use crate::tests::{Trouble, While};

/// How a descriptor is set before it writes.
const MODES: [(&str, bool, bool, u32); 8] = [
    ("plain", false, false, bpf::D_INOUT),
    ("plain-in", false, false, bpf::D_IN),
    ("plain-out", false, false, bpf::D_OUT),
    ("hdrcmplt", true, false, bpf::D_INOUT),
    ("feedback", false, true, bpf::D_INOUT),
    ("feedback-in", false, true, bpf::D_IN),
    ("feedback-out", false, true, bpf::D_OUT),
    ("both", true, true, bpf::D_INOUT),
];

/// Sizes about the bounds: the link header's, the smallest frame's, the MTU's, an mbuf's.
const SIZES: [usize; 26] = [
    0, 1, 3, 4, 5, 13, 14, 15, 24, 59, 60, 61, 255, 256, 257, 1500, 1513, 1514, 1515, 2048, 4096,
    4097, 9000, 16_384, 16_388, 16_389,
];

/// A packet for that place: addressed to nobody who would answer.
fn packet(place: Place, size: usize) -> Vec<u8> {
    match place {
        Place::Ethernet => {
            let mut frame = ethernet(0, size.max(18));
            frame.truncate(size);
            frame
        }
        Place::Loopback => {
            let mut packet = vec![0; size];
            for (to, from) in packet.iter_mut().zip(libc::AF_INET.to_ne_bytes()) {
                *to = from;
            }
            packet
        }
    }
}

fn set(
    bpf: &Bpf,
    (_, header_complete, feedback, direction): (&str, bool, bool, u32),
) -> Result<(), Trouble> {
    bpf.set_direction(direction)?;
    if header_complete {
        bpf.set_header_complete()?;
    }
    bpf.set_feedback(feedback).at("BIOCFEEDBACK")
}

/// What a descriptor that does not wait has captured, beginning with these bytes of each.
fn heads(lab: &Lab, bpf: &Bpf, length: usize) -> Result<String, Trouble> {
    let bytes = match bpf.read() {
        Ok(bytes) => bytes,
        Err(sys::Errno(libc::EAGAIN)) => vec![],
        Err(errno) => return Ok(errno.name()),
    };
    let texts: Vec<_> = records(&bytes)?
        .iter()
        .map(|record| {
            let data = record.data.get(..length).unwrap_or(&record.data);
            format!("{}:{}", record.length, shown(lab, data))
        })
        .collect();
    Ok(texts.join(" "))
}

/// Bytes of a frame; the interface's own address, which is another in each boot, by its name.
fn shown(lab: &Lab, data: &[u8]) -> String {
    match data.get(6..12) {
        Some(source) if source == lab.address => {
            let (before, after) = (data.get(..6), data.get(12..));
            format!("{}-own-{}", hex(before.unwrap_or_default()), hex(after.unwrap_or_default()))
        }
        _ => hex(data),
    }
}

/// Writes one packet; its result, and what its writer, stock beside it, and the other end capture.
fn written(lab: &Lab, place: Place, mode: (&str, bool, bool, u32), packet: &[u8]) -> Seen {
    let writer = lab.open()?;
    writer.set_buffer_length(65_536)?;
    set(&writer, mode)?;
    writer.attach(lab.interface(place))?;
    let beside = Bpf::open(STOCK).at(STOCK)?;
    beside.set_buffer_length(65_536)?;
    beside.attach(lab.interface(place))?;
    let there = Bpf::open(STOCK).at(STOCK)?;
    there.set_buffer_length(65_536)?;
    there.attach(&lab.pair.b)?;
    for bpf in [&writer, &beside, &there] {
        bpf.fd.set_nonblocking(true)?;
    }
    let result = number(writer.fd.write(packet));
    sys::sleep(ARRIVAL);
    let seen = [heads(lab, &writer, 20)?, heads(lab, &beside, 20)?, heads(lab, &there, 20)?];
    let [here, beside, there] = seen;
    Ok(format!("{result}; writer {here}; beside {beside}; there {there}"))
}

/// A write to an interface that is not as it should be.
fn to_interface(lab: &Lab, name: &str, size: usize) -> Seen {
    let bpf = lab.open()?;
    let tap = Cloned::new("tap34").at("tap34")?;
    match name {
        "down" => bpf.attach(tap.name())?,
        "up" => {
            bpf.attach(tap.name())?;
            ifnet::up(tap.name())?;
        }
        "departed" => {
            bpf.attach(tap.name())?;
            tap.destroy().at("tap34")?;
            let result = number(bpf.fd.write(&packet(Place::Ethernet, size)));
            return Ok(result);
        }
        _ => {}
    }
    Ok(number(bpf.fd.write(&packet(Place::Ethernet, size))))
}

pub(super) fn looks(lab: &Lab) -> Vec<Look<'_>> {
    let mut looks = Vec::new();
    for place in Place::ALL {
        for size in SIZES {
            for mode in [MODES[0], MODES[3], MODES[4]] {
                let name = format!("size/{}/{}/{size}", place.name(), mode.0);
                looks.push(look(name, move || written(lab, place, mode, &packet(place, size))));
            }
        }
    }
    for mode in MODES {
        // To a host, a group, all.
        for (to, number) in [("host", 0), ("group", 8), ("all", 16)] {
            let name = format!("to/{to}/{}", mode.0);
            looks.push(look(name, move || {
                written(lab, Place::Ethernet, mode, &ethernet(number, 64))
            }));
        }
        for family in [0, 2, 16, 28, u32::MAX] {
            looks.push(look(format!("family/{family}/{}", mode.0), move || {
                let mut packet = packet(Place::Loopback, 60);
                packet[..4].copy_from_slice(&family.to_ne_bytes());
                written(lab, Place::Loopback, mode, &packet)
            }));
        }
    }
    for state in ["fresh", "down", "up", "departed"] {
        for size in [0, 10, 60, 1515, 65_536] {
            let name = format!("{state}/{size}");
            looks.push(look(name, move || to_interface(lab, state, size)));
        }
    }
    for place in Place::ALL {
        // What the write filter says of a packet, whole; and without one again.
        let filters: [(&'static str, Vec<bpf::Instruction>); 5] = [
            ("accept", vec![statement(bpf::RET_K, u32::MAX)]),
            ("accept-1", vec![statement(bpf::RET_K, 1)]),
            ("reject", REJECT.to_vec()),
            (
                "length",
                vec![
                    statement(bpf::LD_W_LEN, 0),
                    bpf::jump(bpf::JEQ_K, 60, 0, 1),
                    statement(bpf::RET_K, 1),
                    statement(bpf::RET_K, 0),
                ],
            ),
            ("beyond", vec![statement(bpf::LD_W_ABS, 60), statement(bpf::RET_K, 1)]),
        ];
        for (name, program) in filters {
            looks.push(look(format!("filter/{}/{name}", place.name()), move || {
                let bpf = lab.listening(place, 4096)?;
                let set = done(bpf.set_filter(bpf::BIOCSETWF, &program));
                let results = [59, 60, 61].map(|size| number(bpf.fd.write(&packet(place, size))));
                bpf.set_filter(bpf::BIOCSETWF, &[])?;
                let without = number(bpf.fd.write(&packet(place, 60)));
                Ok(format!("{set}; {}; {without}", results.join(" ")))
            }));
        }
        looks.push(look(format!("fault/{}", place.name()), move || {
            let bpf = lab.listening(place, 4096)?;
            let results = [0, 60, 70_000].map(|size| number(bpf.fd.write_null(size)));
            Ok(results.join(" "))
        }));
        looks.push(look(format!("locked/{}", place.name()), move || {
            let bpf = lab.listening(place, 4096)?;
            bpf.lock()?;
            Ok(number(bpf.fd.write(&packet(place, 60))))
        }));
        looks.push(look(format!("counters/{}", place.name()), move || {
            let bpf = lab.listening(place, 4096)?;
            for size in [0, 3, 60, 70_000] {
                let _ = bpf.fd.write(&packet(place, size));
            }
            Ok(counters::of_this_process(lab))
        }));
    }
    // A priority for the tag of a frame.
    for pcp in [0, 3, 7] {
        looks.push(look(format!("pcp/{pcp}"), move || {
            let bpf = lab.open()?;
            bpf.attach(lab.interface(Place::Ethernet))?;
            let there = Bpf::open(STOCK).at(STOCK)?;
            there.attach(&lab.pair.b)?;
            there.fd.set_nonblocking(true)?;
            let set = done(bpf.fd.ioctl(0x8004_4285, &mut { pcp }));
            let result = number(bpf.fd.write(&ethernet(0, 64)));
            sys::sleep(ARRIVAL);
            Ok::<_, Trouble>(format!("{set}; {result}; {}", heads(lab, &there, 20)?))
        }));
    }
    looks
}
