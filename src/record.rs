// SPDX-License-Identifier: BSD-2-Clause
//! The header in front of each captured packet: `bpf_hdr`, `bpf_xhdr`, and
//! `bpf_hdr32` for a 32-bit process.

use core::mem::offset_of;

use crate::buffer::{ALIGNMENT, ALIGNMENT32, Buffers, Full, align};
use crate::kpi::abi::{bpf_hdr, bpf_hdr32, bpf_xhdr};
use crate::kpi::errno::{Errno, Result};
use crate::kpi::mbuf::{Packet, Time};
use crate::kpi::memory::Window;

/// `bpf_hdr` and `bpf_xhdr` up to the end of `bh_hdrlen`, on LP64.
const USED: usize = offset_of!(bpf_hdr, bh_hdrlen) + size_of::<u16>();
const _: () = assert!(USED == offset_of!(bpf_xhdr, bh_hdrlen) + size_of::<u16>());

/// `bpf_hdr32` up to there.
const USED32: usize = offset_of!(bpf_hdr32, bh_hdrlen) + size_of::<u16>();

/// How a descriptor wants its timestamps: `BIOCSTSTAMP`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tstamp(u32);

/// What a timestamp costs; more is better.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Quality {
    None,
    Fast,
    Normal,
    /// Of the packet's own card or driver: nothing is better.
    External,
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

    /// Seconds and fraction as the header has them.
    #[inline]
    fn present(self, clock: &mut Clock, packet: &Packet<'_>) -> (i64, u64) {
        let quality = self.quality();
        if quality == Quality::None {
            return (0, 0);
        }
        let time = clock.time(quality, packet);
        let monotonic = self.0 & MONOTONIC as u32 != 0;
        let time = if monotonic { time.uptime() } else { time.time_of_day() };
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
    /// Written by the kernel, and left here: a copy of it would wait for that.
    time: Time,
}

impl Default for Clock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock {
    /// Not measured yet.
    pub fn new() -> Self {
        Clock { best: Quality::None, time: Time::zero() }
    }

    #[inline]
    fn time(&mut self, wanted: Quality, packet: &Packet<'_>) -> &Time {
        if self.best < wanted {
            let stamped = packet.time(wanted == Quality::Fast, &mut self.time);
            self.best = if stamped { Quality::External } else { wanted };
        }
        &self.time
    }
}

/// What a record looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Format {
    /// `BIOCSTSTAMP`.
    pub tstamp: Tstamp,
    /// The reader is a 32-bit process.
    pub compat32: bool,
}

impl Format {
    /// Where records begin: at multiples of this.
    fn alignment(self) -> usize {
        if self.compat32 { ALIGNMENT32 } else { ALIGNMENT }
    }

    /// Whether the header is `bpf_hdr32`: only the oldest of the two headers
    /// has a form of its own for 32-bit processes.
    fn is_short(self) -> bool {
        let format = self.tstamp.format();
        self.compat32 && (format == MICROTIME as u32 || format == NONE as u32)
    }

    /// Bytes of a header up to the end of `bh_hdrlen`.
    fn used(self) -> usize {
        if self.is_short() { USED32 } else { USED }
    }

    /// `bh_hdrlen` for frames with a link header of `link` bytes: such that the
    /// network header behind it is aligned.
    #[inline]
    pub fn hdrlen(self, link: u32) -> usize {
        let link = link as usize;
        align(self.used().saturating_add(link), self.alignment()).saturating_sub(link)
    }

    /// Writes the header of a record to its place, which is `hdrlen` bytes
    /// unless the record was cut.
    ///
    /// `bpf_hdr` (seconds, microseconds) and `bpf_xhdr` (seconds, fraction)
    /// have the same layout on LP64: two 64-bit words, three lengths. The two
    /// words of `bpf_hdr32` have 32 bits: its seconds end in 2038.
    #[inline]
    fn write_header(
        self,
        header: Window<'_>,
        (sec, frac): (i64, u64),
        hdrlen: usize,
        caplen: usize,
        datalen: usize,
    ) {
        // Buffers and packets are shorter than 4 GB.
        let (caplen, datalen, hdrlen) = (caplen as u32, datalen as u32, hdrlen as u16);
        // Made where it is needed: one for both would be in memory.
        let fields = || Fields { sec, frac, caplen, datalen, hdrlen };
        let (place, mut rest) = header.split_at(self.used());
        // With a length that the compiler knows no field looks for its room.
        if place.len() == USED && !self.compat32 {
            fields().write(place);
        } else {
            fields().write_rarely(place, self.is_short());
        }
        // Two on lo(4), none on Ethernet.
        if rest.len() == 2 {
            rest.set(0, [0; 2]);
        } else if !rest.is_empty() {
            rest.put(&[]);
        }
    }
}

/// What a header says.
struct Fields {
    sec: i64,
    frac: u64,
    caplen: u32,
    datalen: u32,
    hdrlen: u16,
}

impl Fields {
    /// As `bpf_hdr` and `bpf_xhdr` have it.
    #[inline]
    fn write(self, mut place: Window<'_>) {
        // Field by field, where it stays: a copy of it would wait for these.
        place.set(0, self.sec.to_ne_bytes());
        place.set(size_of::<i64>(), self.frac.to_ne_bytes());
        place.set(offset_of!(bpf_xhdr, bh_caplen), self.caplen.to_ne_bytes());
        place.set(offset_of!(bpf_xhdr, bh_datalen), self.datalen.to_ne_bytes());
        place.set(offset_of!(bpf_xhdr, bh_hdrlen), self.hdrlen.to_ne_bytes());
    }

    /// For a 32-bit process, or into a buffer that is smaller than a header:
    /// what has no room is left out.
    #[cold]
    fn write_rarely(self, mut place: Window<'_>, short: bool) {
        if !short {
            return self.write(place);
        }
        place.set(0, (self.sec as u32).to_ne_bytes());
        place.set(size_of::<u32>(), (self.frac as u32).to_ne_bytes());
        place.set(offset_of!(bpf_hdr32, bh_caplen), self.caplen.to_ne_bytes());
        place.set(offset_of!(bpf_hdr32, bh_datalen), self.datalen.to_ne_bytes());
        place.set(offset_of!(bpf_hdr32, bh_hdrlen), self.hdrlen.to_ne_bytes());
    }
}

/// What became of a packet that was not lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Appended {
    /// The buffers rotated.
    pub rotated: bool,
    /// The record is as large as a buffer, and less than was wanted.
    pub cut: bool,
}

/// A record to be made.
#[derive(Clone, Copy)]
pub struct Record<'p> {
    /// Of what packet.
    pub packet: &'p Packet<'p>,
    /// At most so many bytes of it.
    pub snaplen: usize,
    /// What the header in front of them looks like.
    pub format: Format,
    /// How many of them are the link's header.
    pub link: u32,
}

impl Record<'_> {
    /// Appends it.
    ///
    /// # Errors
    /// [`Full`] if the packet is lost.
    #[inline]
    pub fn append(
        self,
        buffers: &mut Buffers,
        clock: &mut Clock,
    ) -> core::result::Result<Appended, Full> {
        // First: what is known by then need not be kept while a clock is asked.
        let stamp = self.format.tstamp.present(clock, self.packet);
        if !self.format.compat32
            && let Some(place) = buffers.room(self.len(), ALIGNMENT)
        {
            self.write(place, stamp);
            return Ok(Appended { rotated: false, cut: false });
        }
        self.append_rarely(buffers, stamp)
    }

    /// The same for a 32-bit process, for a full buffer, or a user's: apart, so
    /// that what the compiler knows as a rule is not looked up.
    #[cold]
    #[inline(never)]
    fn append_rarely(
        self,
        buffers: &mut Buffers,
        stamp: (i64, u64),
    ) -> core::result::Result<Appended, Full> {
        let (place, rotated) = buffers.reserve(self.len(), self.format.alignment())?;
        let cut = place.len() < self.len();
        self.write(place, stamp);
        Ok(Appended { rotated, cut })
    }

    /// Its length, header included.
    #[inline]
    fn len(&self) -> usize {
        let hdrlen = self.format.hdrlen(self.link);
        hdrlen.saturating_add(self.snaplen.min(self.packet.len()))
    }

    /// In both of its callers, each of which knows what saves it steps.
    #[inline(always)]
    fn write(&self, place: Window<'_>, stamp: (i64, u64)) {
        let hdrlen = self.format.hdrlen(self.link);
        let (header, data) = place.split_at(hdrlen);
        self.format.write_header(header, stamp, hdrlen, data.len(), self.packet.len());
        self.packet.copy(0, data);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kpi::host::Chain;
    use crate::kpi::time::Bintime;

    #[test]
    fn hdrlen_aligns_the_network_header() {
        // FreeBSD's own figures, for EN10MB, NULL and RAW.
        let hdrlens = |tstamp, compat32| {
            let format = Format { tstamp: Tstamp(tstamp), compat32 };
            [14, 4, 0].map(|link| format.hdrlen(link))
        };
        for tstamp in [0, 1, 2, 3, 0x201] {
            assert_eq!(hdrlens(tstamp, false), [26, 28, 32]);
        }
        for tstamp in [0, 3, 0x300] {
            assert_eq!(hdrlens(tstamp, true), [18, 20, 20]);
        }
        for tstamp in [1, 2, 0x302] {
            assert_eq!(hdrlens(tstamp, true), [26, 28, 28]);
        }
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

    /// What a packet gets that came 7.5 s after boot.
    fn stamp(tstamp: Tstamp) -> (i64, u64) {
        let chain = Chain::new(&[]).stamped(Bintime { sec: 7, frac: 1 << 63 });
        chain.with_packet(&[], |packet| tstamp.present(&mut Clock::new(), packet))
    }

    #[test]
    fn header_bytes() {
        let mut record = [0xffu8; 40];
        // Half a second after boot, monotonic: no time of day in it.
        for (tstamp, frac) in [(0x200, 500_000), (0x201, 500_000_000), (0x202, 1 << 63)] {
            let format = Format { tstamp: Tstamp(tstamp), compat32: false };
            let stamp = stamp(format.tstamp);
            format.write_header(Window::from(&mut record[..28]), stamp, 28, 60, 1500);
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
        let format = Format { tstamp: Tstamp(3), compat32: false };
        format.write_header(Window::from(&mut record[..]), stamp(format.tstamp), 32, 0, 9);
        assert_eq!(record[..16], [0; 16]);
        assert_eq!(record[16..], 0u32.to_ne_bytes());
    }

    #[test]
    fn header_bytes_for_32_bits() {
        let header = |tstamp, hdrlen: usize| {
            let mut bytes = [0xffu8; 40];
            let format = Format { tstamp: Tstamp(tstamp), compat32: true };
            let place = Window::from(&mut bytes[..hdrlen]);
            format.write_header(place, stamp(format.tstamp), hdrlen, 60, 1500);
            bytes
        };
        let words = |words: &[u32]| -> Vec<u8> {
            words.iter().flat_map(|word| word.to_ne_bytes()).collect()
        };
        assert_eq!(header(0x200, 18)[..16], words(&[7, 500_000, 60, 1500]));
        assert_eq!(header(0x200, 18)[16..19], [18, 0, 0xff]);
        // No form of its own for the newer header.
        assert_eq!(header(0x201, 28)[..24], words(&[7, 0, 500_000_000, 0, 60, 1500]));
        assert_eq!(header(0x201, 28)[24..29], [28, 0, 0, 0, 0xff]);
    }
}
