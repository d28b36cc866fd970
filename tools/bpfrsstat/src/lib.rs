// SPDX-License-Identifier: BSD-2-Clause
//! What sysctl(3) `net.bpfrs.stats` says of each descriptor, `struct xbpf_d`,
//! and tables of it. `net.bpf.stats` of stock bpf(4) is read as well.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;

use zerocopy::{FromBytes, Immutable, IntoBytes};

/// `struct xbpf_d` of `<net/bpfdesc.h>`: the same from FreeBSD 12 to 15 on
/// machines with 64-bit longs. bpfrs counts in three of its spare words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
pub struct Descriptor {
    /// The size of all this, bytes.
    pub structsize: u32,
    /// Promiscuous mode was asked for.
    pub promisc: u8,
    /// BIOCIMMEDIATE.
    pub immediate: u8,
    /// Nothing.
    pub pad: [u8; 6],
    /// BIOCSHDRCMPLT.
    pub hdrcmplt: i32,
    /// BIOCSDIRECTION: 0 in, 1 both, 2 out.
    pub direction: i32,
    /// BIOCFEEDBACK.
    pub feedback: i32,
    /// FIOASYNC.
    pub asynchronous: i32,
    /// Nothing.
    pub pad1: u32,
    /// Packets seen by the filter.
    pub received: u64,
    /// Packets accepted and lost.
    pub dropped: u64,
    /// Packets accepted.
    pub matched: u64,
    /// BIOCSRSIG.
    pub sig: i32,
    /// Bytes in the store buffer.
    pub stored: i32,
    /// Bytes on hold.
    pub held: i32,
    /// Bytes of a buffer, as granted.
    pub bufsize: i32,
    /// The process that called last.
    pub pid: i32,
    /// The interface, up to a NUL.
    pub ifname: [u8; 16],
    /// BIOCLOCK.
    pub locked: i32,
    /// write(2) calls.
    pub written: u64,
    /// Accepted by the write filter.
    pub write_matched: u64,
    /// Written, and not sent.
    pub write_dropped: u64,
    /// Copies into zero-copy buffers.
    pub zerocopy: u64,
    /// 1: the kernel's buffers; 2: the user's, zero-copy.
    pub bufmode: i32,
    /// Nothing.
    pub pad2: u32,
    /// bpfrs: of the lost ones, those that came while a reader copied.
    pub copying: u64,
    /// bpfrs: of the lost ones, those whose interface went away.
    pub detached: u64,
    /// bpfrs: packets cut to the size of a buffer.
    pub cut: u64,
    /// Nothing yet.
    pub spare: u64,
}

const SIZE: usize = size_of::<Descriptor>();
const _: () = assert!(SIZE == 168);

/// The bytes are no array of `struct xbpf_d` as it is known here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Malformed {
    /// There are bytes left behind the last whole one.
    Length(usize),
    /// One says that it has another size: another release's.
    Size(u32),
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Length(len) => write!(f, "{len} bytes are no multiple of {SIZE}"),
            Self::Size(size) => write!(f, "a descriptor of {size} bytes, not {SIZE}"),
        }
    }
}

impl core::error::Error for Malformed {}

/// Takes apart what sysctl(3) gave.
///
/// # Errors
/// If it is something else.
pub fn parse(bytes: &[u8]) -> Result<Vec<Descriptor>, Malformed> {
    if !bytes.len().is_multiple_of(SIZE) {
        return Err(Malformed::Length(bytes.len()));
    }
    let read = |chunk| match Descriptor::read_from_bytes(chunk) {
        Ok(descriptor) if descriptor.structsize as usize == SIZE => Ok(descriptor),
        Ok(descriptor) => Err(Malformed::Size(descriptor.structsize)),
        Err(_) => Err(Malformed::Length(bytes.len())),
    };
    bytes.chunks_exact(SIZE).map(read).collect()
}

/// What sets all counters to zero when it is written.
pub const ZERO: [u8; SIZE] = [0; SIZE];

impl Descriptor {
    /// The name of its interface.
    pub fn interface(&self) -> String {
        let name = self.ifname.split(|byte| *byte == 0).next().unwrap_or_default();
        String::from_utf8_lossy(name).into_owned()
    }

    /// The flags of `netstat -B`: promiscuous, immediate, fills the source in,
    /// shows sent packets (or only those), feedback, asynchronous, locked.
    pub fn flags(&self) -> String {
        let flag = |is: bool, letter| if is { letter } else { '-' };
        let direction = match self.direction {
            0 => '-',
            2 => 'o',
            _ => 's',
        };
        [
            flag(self.promisc != 0, 'p'),
            flag(self.immediate != 0, 'i'),
            flag(self.hdrcmplt == 0, 'f'),
            direction,
            flag(self.feedback != 0, 'b'),
            flag(self.asynchronous != 0, 'a'),
            flag(self.locked != 0, 'l'),
        ]
        .into_iter()
        .collect()
    }

    /// Packets lost because both buffers were full and nobody read.
    pub fn full(&self) -> u64 {
        self.dropped.saturating_sub(self.copying).saturating_sub(self.detached)
    }
}

/// The columns of `netstat -B`, each with its least width.
const BRIEF: [(&str, usize); 8] = [
    ("Pid", 5),
    ("Netif", 6),
    ("Flags", 7),
    ("Recv", 9),
    ("Drop", 9),
    ("Match", 9),
    ("Sblen", 5),
    ("Hblen", 5),
];

/// What `netstat -B` hides.
const MORE: [(&str, usize); 10] = [
    ("Blen", 6),
    ("Mode", 4),
    ("Full", 6),
    ("Copying", 7),
    ("Gone", 4),
    ("Cut", 4),
    ("Write", 6),
    ("Wmatch", 6),
    ("Wdrop", 5),
    ("Zcopy", 5),
];

fn brief(d: &Descriptor) -> Vec<String> {
    let mut cells = Vec::from([d.pid.to_string(), d.interface(), d.flags()]);
    cells.extend([d.received, d.dropped, d.matched].map(|count| count.to_string()));
    cells.extend([d.stored, d.held].map(|len| len.to_string()));
    cells
}

fn more(d: &Descriptor) -> Vec<String> {
    let mode = match d.bufmode {
        1 => "copy".to_string(),
        2 => "zero".to_string(),
        other => other.to_string(),
    };
    let mut cells = Vec::from([d.bufsize.to_string(), mode]);
    let lost = [d.full(), d.copying, d.detached, d.cut];
    let written = [d.written, d.write_matched, d.write_dropped, d.zerocopy];
    cells.extend(lost.into_iter().chain(written).map(|count| count.to_string()));
    cells
}

/// A line for each descriptor below a line of titles: as `netstat -B` prints
/// it, and with `all` what that hides. `command` names a process.
pub fn table(
    descriptors: &[Descriptor],
    all: bool,
    command: impl Fn(i32) -> Option<String>,
) -> String {
    let mut columns = BRIEF.to_vec();
    if all {
        columns.extend(MORE);
    }
    let rows: Vec<Vec<String>> = descriptors
        .iter()
        .map(|d| if all { [brief(d), more(d)].concat() } else { brief(d) })
        .collect();
    // Counters have 64 bits: a column is as wide as its widest cell.
    let widest = |at: usize| rows.iter().filter_map(|row| row.get(at)).map(String::len).max();
    let widths: Vec<usize> = columns
        .iter()
        .enumerate()
        .map(|(at, (title, least))| widest(at).unwrap_or(0).max(title.len()).max(*least))
        .collect();
    let line = |cells: &mut dyn Iterator<Item = &str>, last: &str| {
        let mut line: String =
            cells.zip(&widths).map(|(cell, width)| format!("{cell:>width$} ")).collect();
        line.push_str(last);
        line.push('\n');
        line
    };
    let mut text = line(&mut columns.iter().map(|(title, _)| *title), "Command");
    for (row, d) in rows.iter().zip(descriptors) {
        let name = command(d.pid).unwrap_or_else(|| "??????".into());
        text += &line(&mut row.iter().map(String::as_str), &name);
    }
    text
}
