// SPDX-License-Identifier: BSD-2-Clause
//! The header in front of each captured packet: `bpf_hdr` and `bpf_xhdr`.

use core::mem::offset_of;

use crate::buffer::{Buffers, Full, align};
use crate::kpi::abi::{bpf_hdr, bpf_xhdr};
use crate::kpi::errno::{Errno, Result};
use crate::kpi::mbuf::Packet;
use crate::kpi::time::{self, Bintime};

/// `bpf_hdr` and `bpf_xhdr` up to the end of `bh_hdrlen`, on LP64.
const USED: usize = offset_of!(bpf_hdr, bh_hdrlen) + size_of::<u16>();
const _: () = assert!(USED == offset_of!(bpf_xhdr, bh_hdrlen) + size_of::<u16>());

/// How a descriptor wants its timestamps: `BIOCSTSTAMP`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tstamp(u32);

/// What a timestamp costs; more is better.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Quality {
    None,
    Fast,
    Normal,
}

use bpfrs_sys::bpfrs_const::{
    BPFRS_BPF_T_BINTIME as BINTIME, BPFRS_BPF_T_FAST as FAST,
    BPFRS_BPF_T_FORMAT_MASK as FORMAT_MASK, BPFRS_BPF_T_MICROTIME as MICROTIME,
    BPFRS_BPF_T_MONOTONIC as MONOTONIC, BPFRS_BPF_T_NANOTIME as NANOTIME, BPFRS_BPF_T_NONE as NONE,
};

impl Tstamp {
    /// What a new descriptor has: `BPF_T_MICROTIME`.
    pub const MICROTIME: Tstamp = Tstamp(MICROTIME as u32);

    /// Checks a `BPF_T_*` value: a format, with or without flags; no flags
    /// with `BPF_T_NONE`.
    pub fn new(value: u32) -> Result<Tstamp> {
        let flags = value & !(FORMAT_MASK as u32);
        let none = value & FORMAT_MASK as u32 == NONE as u32;
        let known = flags & !(FAST as u32 | MONOTONIC as u32) == 0;
        if known && !(none && flags != 0) { Ok(Tstamp(value)) } else { Err(Errno::EINVAL) }
    }

    /// The `BPF_T_*` value.
    pub fn value(self) -> u32 {
        self.0
    }

    fn format(self) -> u32 {
        self.0 & FORMAT_MASK as u32
    }

    /// What has to be measured for it.
    pub(crate) fn quality(self) -> Quality {
        if self.format() == NONE as u32 {
            Quality::None
        } else if self.0 & FAST as u32 != 0 {
            Quality::Fast
        } else {
            Quality::Normal
        }
    }

    /// Seconds and fraction as the header has them, from a time since boot.
    fn present(self, uptime: Bintime) -> (i64, u64) {
        let time =
            if self.0 & MONOTONIC as u32 != 0 { uptime } else { uptime.plus(time::boottime()) };
        match self.format() {
            f if f == BINTIME as u32 => (time.sec, time.frac),
            f if f == NANOTIME as u32 => (time.sec, time.frac_in(1_000_000_000).into()),
            _ => (time.sec, time.frac_in(1_000_000).into()),
        }
    }
}

/// The time of one packet, measured at most once for each quality: for all
/// descriptors together, and only after a filter accepted the packet.
pub struct Clock {
    best: Quality,
    uptime: Bintime,
}

impl Default for Clock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock {
    /// Not measured yet.
    pub fn new() -> Self {
        Clock { best: Quality::None, uptime: Bintime { sec: 0, frac: 0 } }
    }

    fn read(&mut self, wanted: Quality) -> Bintime {
        if self.best < wanted {
            self.uptime =
                if wanted == Quality::Fast { time::uptime_fast() } else { time::uptime() };
            self.best = wanted;
        }
        self.uptime
    }
}

/// `bh_hdrlen` for frames with a link header of `link` bytes: such that the
/// network header behind it is aligned.
pub fn hdrlen(link: u32) -> usize {
    let link = link as usize;
    align(USED.saturating_add(link)).saturating_sub(link)
}

/// Appends a record of at most `snaplen` bytes of the packet, behind a header
/// of `hdrlen`. True if the buffers rotated.
///
/// # Errors
/// [`Full`] if the packet is lost.
#[inline]
pub fn append(
    buffers: &mut Buffers,
    packet: &Packet<'_>,
    snaplen: usize,
    hdrlen: usize,
    tstamp: Tstamp,
    clock: &mut Clock,
) -> core::result::Result<bool, Full> {
    let wanted = hdrlen.saturating_add(snaplen.min(packet.len()));
    let (record, rotated) = buffers.reserve(wanted)?;
    let caplen = record.len().saturating_sub(hdrlen);
    write_header(record, tstamp, clock, hdrlen, caplen, packet.len());
    packet.copy(0, record.get_mut(hdrlen..).unwrap_or_default());
    Ok(rotated)
}

/// Writes the header of a record into its first `hdrlen` bytes.
///
/// `bpf_hdr` (seconds, microseconds) and `bpf_xhdr` (seconds, fraction) have
/// the same layout on LP64: two 64-bit words, three lengths.
#[inline]
pub fn write_header(
    record: &mut [u8],
    tstamp: Tstamp,
    clock: &mut Clock,
    hdrlen: usize,
    caplen: usize,
    datalen: usize,
) {
    let (sec, frac) = match tstamp.quality() {
        Quality::None => (0, 0),
        quality => tstamp.present(clock.read(quality)),
    };
    let lens = [clip(caplen, u32::MAX), clip(datalen, u32::MAX)];
    let write = |header: &mut [u8; USED]| {
        // Field by field, where it stays: a copy of it would wait for these.
        let mut put = |offset: usize, bytes: &[u8]| {
            let place = header.get_mut(offset..).and_then(|rest| rest.get_mut(..bytes.len()));
            if let Some(place) = place {
                place.copy_from_slice(bytes);
            }
        };
        put(0, &sec.to_ne_bytes());
        put(size_of::<i64>(), &frac.to_ne_bytes());
        put(offset_of!(bpf_xhdr, bh_caplen), &lens[0].to_ne_bytes());
        put(offset_of!(bpf_xhdr, bh_datalen), &lens[1].to_ne_bytes());
        put(offset_of!(bpf_xhdr, bh_hdrlen), &clip::<u16>(hdrlen, u16::MAX).to_ne_bytes());
    };
    let len = hdrlen.min(record.len());
    let place = record.get_mut(..len).unwrap_or_default();
    match place.split_first_chunk_mut() {
        Some((header, rest)) => {
            write(header);
            // None on Ethernet.
            if !rest.is_empty() {
                rest.fill(0);
            }
        }
        // Only a buffer that is smaller than a header cuts it.
        None => {
            let mut header = [0; USED];
            write(&mut header);
            for (to, from) in place.iter_mut().zip(header) {
                *to = from;
            }
        }
    }
}

fn clip<T: TryFrom<usize>>(value: usize, max: T) -> T {
    T::try_from(value).unwrap_or(max)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hdrlen_aligns_the_network_header() {
        // FreeBSD's own figures: EN10MB 26, NULL 28, RAW 32.
        assert_eq!([hdrlen(14), hdrlen(4), hdrlen(0)], [26, 28, 32]);
    }

    #[test]
    fn tstamp_values() {
        for value in [0, 1, 2, 3, 0x100, 0x101, 0x102, 0x200, 0x201, 0x202, 0x300, 0x302] {
            assert_eq!(Tstamp::new(value).map(Tstamp::value), Ok(value), "{value:#x}");
        }
        for value in [4, 0x103, 0x203, 0x303, 0x400, 0x1000, u32::MAX] {
            assert_eq!(Tstamp::new(value), Err(Errno::EINVAL), "{value:#x}");
        }
        assert_eq!(Tstamp(0x101).quality(), Quality::Fast);
        assert_eq!(Tstamp(0x201).quality(), Quality::Normal);
        assert_eq!(Tstamp(3).quality(), Quality::None);
    }

    #[test]
    fn header_bytes() {
        let mut record = [0xffu8; 40];
        // Half a second after boot, monotonic: no time of day in it.
        for (tstamp, frac) in [(0x200, 500_000), (0x201, 500_000_000), (0x202, 1 << 63)] {
            let mut clock =
                Clock { best: Quality::Normal, uptime: Bintime { sec: 7, frac: 1 << 63 } };
            write_header(&mut record, Tstamp(tstamp), &mut clock, 28, 60, 1500);
            assert_eq!(record[..8], 7u64.to_ne_bytes());
            assert_eq!(record[8..16], u64::to_ne_bytes(frac));
            assert_eq!(record[16..20], 60u32.to_ne_bytes());
            assert_eq!(record[20..24], 1500u32.to_ne_bytes());
            assert_eq!(record[24..26], 28u16.to_ne_bytes());
            assert_eq!(record[26..28], [0, 0]);
            assert_eq!(record[28..], [0xff; 12]);
        }
    }

    #[test]
    fn a_record_shorter_than_its_header_is_cut() {
        let mut record = [0xffu8; 20];
        write_header(&mut record, Tstamp(3), &mut Clock::new(), 32, 0, 9);
        assert_eq!(record[..16], [0; 16]);
        assert_eq!(record[16..], 0u32.to_ne_bytes());
    }
}
