// SPDX-License-Identifier: BSD-2-Clause
//! bpf(4) as its users see it: ioctls (net/bpf.h), filters, the records that read(2) delivers.

use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use core::time::Duration;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::ifnet;
pub(crate) use crate::ifnet::is_promiscuous;
use crate::sys::{self, Errno, Fd, Result};

/// The kernel's own device.
pub(crate) const STOCK: &str = "/dev/bpf";

pub(crate) const BIOCGBLEN: u64 = 0x4004_4266;
pub(crate) const BIOCSBLEN: u64 = 0xc004_4266;
pub(crate) const BIOCSETF: u64 = 0x8010_4267;
pub(crate) const BIOCFLUSH: u64 = 0x2000_4268;
pub(crate) const BIOCPROMISC: u64 = 0x2000_4269;
pub(crate) const BIOCGDLT: u64 = 0x4004_426a;
const BIOCGETIFLIST: u64 = 0xc010_4286;
pub(crate) const BIOCGETIF: u64 = 0x4020_426b;
pub(crate) const BIOCSETIF: u64 = 0x8020_426c;
pub(crate) const BIOCSRTIMEOUT: u64 = 0x8010_426d;
pub(crate) const BIOCGRTIMEOUT: u64 = 0x4010_426e;
pub(crate) const BIOCGSTATS: u64 = 0x4008_426f;
pub(crate) const BIOCIMMEDIATE: u64 = 0x8004_4270;
pub(crate) const BIOCVERSION: u64 = 0x4004_4271;
pub(crate) const BIOCSHDRCMPLT: u64 = 0x8004_4275;
pub(crate) const BIOCGDIRECTION: u64 = 0x4004_4276;
pub(crate) const BIOCSDIRECTION: u64 = 0x8004_4277;
pub(crate) const BIOCSDLT: u64 = 0x8004_4278;
pub(crate) const BIOCGDLTLIST: u64 = 0xc010_4279;
pub(crate) const BIOCLOCK: u64 = 0x2000_427a;
pub(crate) const BIOCSETWF: u64 = 0x8010_427b;
pub(crate) const BIOCFEEDBACK: u64 = 0x8004_427c;
pub(crate) const BIOCSETBUFMODE: u64 = 0x8004_427e;
pub(crate) const BIOCGETZMAX: u64 = 0x4008_427f;
pub(crate) const BIOCROTZBUF: u64 = 0x4018_4280;
pub(crate) const BIOCSETZBUF: u64 = 0x8018_4281;
pub(crate) const BIOCSETFNR: u64 = 0x8010_4282;
pub(crate) const BIOCGTSTAMP: u64 = 0x4004_4283;
pub(crate) const BIOCSTSTAMP: u64 = 0x8004_4284;
pub(crate) const FIONREAD: u64 = 0x4004_667f;
pub(crate) const FIONBIO: u64 = 0x8004_667e;

/// poll(2) events of reading, as the tests ask for them.
pub(crate) const POLL_READ: i16 = libc::POLLIN | libc::POLLRDNORM;

/// struct bpf_insn.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(crate) struct Instruction {
    pub(crate) code: u16,
    pub(crate) jump_true: u8,
    pub(crate) jump_false: u8,
    pub(crate) k: u32,
}

/// An instruction without jumps.
pub(crate) const fn statement(code: u16, k: u32) -> Instruction {
    Instruction { code, jump_true: 0, jump_false: 0, k }
}

/// A conditional jump.
pub(crate) const fn jump(code: u16, k: u32, jump_true: u8, jump_false: u8) -> Instruction {
    Instruction { code, jump_true, jump_false, k }
}

pub(crate) const RET_K: u16 = 0x06;
pub(crate) const LD_W_ABS: u16 = 0x20;
pub(crate) const LD_H_ABS: u16 = 0x28;
pub(crate) const LD_W_LEN: u16 = 0x80;
pub(crate) const AND_K: u16 = 0x54;
pub(crate) const JEQ_K: u16 = 0x15;
/// Accepts whole packets.
pub(crate) const ACCEPT: [Instruction; 1] = [statement(RET_K, u32::MAX)];
/// Rejects all.
pub(crate) const REJECT: [Instruction; 1] = [statement(RET_K, 0)];

/// Accepts IPv4/UDP packets on lo0 to this port, `snap_length` bytes of them. (Loads are in network
/// order; the family in front is in host order. No fragments and no IP options on lo0.)
pub(crate) fn udp_to(port: u16, snap_length: u32) -> [Instruction; 6] {
    [
        statement(LD_W_ABS, 0),
        jump(JEQ_K, u32::swap_bytes(libc::AF_INET.cast_unsigned()), 0, 3),
        statement(LD_H_ABS, 4 + 20 + 2),
        jump(JEQ_K, u32::from(port), 0, 1),
        statement(RET_K, snap_length),
        statement(RET_K, 0),
    ]
}

/// A descriptor of the device.
#[derive(Debug)]
pub(crate) struct Bpf {
    pub(crate) fd: Fd,
}

impl Bpf {
    pub(crate) fn open(path: &str) -> Result<Self> {
        Fd::open(path, libc::O_RDWR | libc::O_CLOEXEC).map(|fd| Self { fd })
    }

    fn get<T: FromBytes + IntoBytes>(&self, command: u64) -> Result<T> {
        let mut value = T::new_zeroed();
        self.fd.ioctl(command, &mut value)?;
        Ok(value)
    }

    fn set(&self, command: u64, mut value: u32) -> Result<()> {
        self.fd.ioctl(command, &mut value)
    }

    pub(crate) fn version(&self) -> Result<[u16; 2]> {
        self.get(BIOCVERSION)
    }

    pub(crate) fn buffer_length(&self) -> Result<u32> {
        self.get(BIOCGBLEN)
    }

    /// The length in fact set.
    pub(crate) fn set_buffer_length(&self, mut length: u32) -> Result<u32> {
        self.fd.ioctl(BIOCSBLEN, &mut length)?;
        Ok(length)
    }

    pub(crate) fn attach(&self, interface: &str) -> Result<()> {
        self.fd.ioctl(BIOCSETIF, &mut ifnet::request::<32>(interface))
    }

    pub(crate) fn interface(&self) -> Result<String> {
        let request: [u8; 32] = self.get(BIOCGETIF)?;
        Ok(name_of(&request[..16]))
    }

    /// What BIOCSETIF takes; only the first `count` unless that is 0.
    pub(crate) fn interfaces(&self, count: u32) -> Result<Vec<String>> {
        let [length, _] = self.fd.ioctl_room(BIOCGETIFLIST, count, &mut [])?;
        self.interfaces_in(count, length as usize)
    }

    /// The same with room for so many bytes.
    pub(crate) fn interfaces_in(&self, count: u32, length: usize) -> Result<Vec<String>> {
        let mut names = vec![0; length];
        let [_, count] = self.fd.ioctl_room(BIOCGETIFLIST, count, &mut names)?;
        Ok(names.split(|&byte| byte == 0).take(count as usize).map(name_of).collect())
    }

    pub(crate) fn set_immediate(&self, on: bool) -> Result<()> {
        self.set(BIOCIMMEDIATE, on.into())
    }

    pub(crate) fn set_feedback(&self, on: bool) -> Result<()> {
        self.set(BIOCFEEDBACK, on.into())
    }

    pub(crate) fn promiscuous(&self) -> Result<()> {
        self.fd.ioctl_none(BIOCPROMISC)
    }

    /// Installs a filter by `command`: BIOCSETF, BIOCSETFNR or BIOCSETWF.
    pub(crate) fn set_filter(&self, command: u64, program: &[Instruction]) -> Result<()> {
        self.fd.ioctl_list(command, &mut program.to_vec()).map(drop)
    }

    pub(crate) fn flush(&self) -> Result<()> {
        self.fd.ioctl_none(BIOCFLUSH)
    }

    pub(crate) fn lock(&self) -> Result<()> {
        self.fd.ioctl_none(BIOCLOCK)
    }

    pub(crate) fn link_type(&self) -> Result<u32> {
        self.get(BIOCGDLT)
    }

    pub(crate) fn set_link_type(&self, link_type: u32) -> Result<()> {
        self.set(BIOCSDLT, link_type)
    }

    /// Seconds and microseconds.
    pub(crate) fn timeout(&self) -> Result<[i64; 2]> {
        self.get(BIOCGRTIMEOUT)
    }

    pub(crate) fn set_timeout(&self, mut seconds_and_micros: [i64; 2]) -> Result<()> {
        self.fd.ioctl(BIOCSRTIMEOUT, &mut seconds_and_micros)
    }

    pub(crate) fn set_timeout_ms(&self, milliseconds: i64) -> Result<()> {
        self.set_timeout([milliseconds / 1000, milliseconds % 1000 * 1000])
    }

    /// Packets seen (before the filter), and dropped.
    pub(crate) fn statistics(&self) -> Result<[u32; 2]> {
        self.get(BIOCGSTATS)
    }

    pub(crate) fn direction(&self) -> Result<u32> {
        self.get(BIOCGDIRECTION)
    }

    pub(crate) fn set_direction(&self, direction: u32) -> Result<()> {
        self.set(BIOCSDIRECTION, direction)
    }

    /// Frames written are complete with their source address.
    pub(crate) fn set_header_complete(&self) -> Result<()> {
        self.set(BIOCSHDRCMPLT, 1)
    }

    pub(crate) fn timestamp(&self) -> Result<u32> {
        self.get(BIOCGTSTAMP)
    }

    pub(crate) fn set_timestamp(&self, format: u32) -> Result<()> {
        self.set(BIOCSTSTAMP, format)
    }

    /// Bytes that wait in the buffers.
    pub(crate) fn readable(&self) -> Result<u32> {
        self.get(FIONREAD)
    }

    pub(crate) fn fionbio(&self, on: bool) -> Result<()> {
        self.set(FIONBIO, on.into())
    }

    /// One read(2) of exactly the buffer length.
    pub(crate) fn read(&self) -> Result<Vec<u8>> {
        let mut buffer = vec![0; self.buffer_length()? as usize];
        let length = self.fd.read(&mut buffer)?;
        buffer.truncate(length);
        Ok(buffer)
    }
}

/// The text before the first NUL.
pub(crate) fn name_of(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|&b| b == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(bytes.get(..end).unwrap_or_default()).into_owned()
}

/// Directions of BIOCSDIRECTION.
pub(crate) const D_IN: u32 = 0;
pub(crate) const D_INOUT: u32 = 1;
pub(crate) const D_OUT: u32 = 2;

/// Time-stamp formats of BIOCSTSTAMP.
pub(crate) const T_MICROTIME: u32 = 0;
pub(crate) const T_NANOTIME: u32 = 1;
pub(crate) const T_BINTIME: u32 = 2;
pub(crate) const T_NONE: u32 = 3;
pub(crate) const T_FAST: u32 = 0x100;
pub(crate) const T_MONOTONIC: u32 = 0x200;

/// One captured packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Record {
    /// The two words of the stamp: seconds, and a fraction as the format says.
    pub(crate) stamp: [u64; 2],
    /// Length on the wire.
    pub(crate) length: u32,
    /// bh_hdrlen.
    pub(crate) header: u16,
    /// What was captured of it.
    pub(crate) data: Vec<u8>,
}

/// The records that one read(2) delivered; an error text when they are malformed.
pub(crate) fn records(mut bytes: &[u8]) -> core::result::Result<Vec<Record>, String> {
    // Packed: the last record of a buffer may end where padding would be.
    #[derive(FromBytes, KnownLayout)]
    #[repr(C, packed)]
    struct Header {
        stamp: [u64; 2],
        captured: u32,
        length: u32,
        header: u16,
    }
    let total = bytes.len();
    let mut records = Vec::new();
    while !bytes.is_empty() {
        let at = total - bytes.len();
        let Header { stamp, captured, length, header } =
            sys::parse(bytes).ok_or_else(|| format!("{} bytes left at {at}", bytes.len()))?;
        let start = usize::from(header);
        let end = start + captured as usize;
        if start < 26 || captured > length {
            return Err(format!("record at {at}: header {start}, captured {captured} of {length}"));
        }
        let data = bytes
            .get(start..end)
            .ok_or_else(|| format!("record at {at}: {end} bytes, {} left", bytes.len()))?;
        records.push(Record { stamp, length, header, data: data.to_vec() });
        // BPF_WORDALIGN; the last record is not padded.
        bytes = bytes.get(end.next_multiple_of(8)..).unwrap_or_default();
    }
    Ok(records)
}

/// Whether an error says that the descriptor is dead: from the driver, or from the dead vnode.
pub(crate) fn is_death(errno: Errno) -> bool {
    matches!(errno.0, libc::ENXIO | libc::EIO | libc::EBADF | libc::ENOTTY)
}

/// What has not happened by then never will: it bounds what hangs, on a machine however busy, and
/// decides nothing else.
pub(crate) const SOON: Duration = Duration::from_secs(10);

/// Where the kernel says that a process sleeps that waits for packets: in read(2), in poll(2) or
/// select(2), in kevent(2).
pub(crate) const WAITING: [&str; 3] = ["bpf", "select", "kqread"];
