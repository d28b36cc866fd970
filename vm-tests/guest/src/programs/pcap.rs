// SPDX-License-Identifier: BSD-2-Clause
//! Files of libpcap's, in the byte order of this machine.

use alloc::string::ToString;
use alloc::vec::Vec;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::sys;
use crate::tests::{Trouble, equal};

const MAGIC: u32 = 0xa1b2_c3d4;
pub(super) const DLT_NULL: u32 = 0;
pub(super) const DLT_EN10MB: u32 = 1;

/// Packets by length on the wire and data.
pub(super) type Capture = Vec<(u32, Vec<u8>)>;

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct FileHeader {
    magic: u32,
    version: [u16; 2],
    zone: u32,
    accuracy: u32,
    snap_length: u32,
    link_type: u32,
}

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct PacketHeader {
    time: [u32; 2],
    captured: u32,
    length: u32,
}

/// A file of whole packets that all came at once.
pub(super) fn file(link_type: u32, packets: impl Iterator<Item = Vec<u8>>) -> Vec<u8> {
    let header = FileHeader {
        magic: MAGIC,
        version: [2, 4],
        zone: 0,
        accuracy: 0,
        snap_length: 65535,
        link_type,
    };
    let mut file = header.as_bytes().to_vec();
    for packet in packets {
        let length = packet.len() as u32;
        let header = PacketHeader { time: [1, 0], captured: length, length };
        file.extend_from_slice(header.as_bytes());
        file.extend_from_slice(&packet);
    }
    file
}

/// The packets of a file.
pub(super) fn packets(file: &[u8], link_type: u32) -> Result<Capture, Trouble> {
    let header: FileHeader = sys::parse(file).ok_or("no pcap file".to_string())?;
    equal!("magic of the pcap file", header.magic, MAGIC);
    equal!("link type of the pcap file", header.link_type, link_type);
    let mut packets = Vec::new();
    let mut rest = file.get(24..).unwrap_or_default();
    while let Some(header) = sys::parse::<PacketHeader>(rest) {
        let end = 16 + header.captured as usize;
        let data = rest.get(16..end).ok_or("the pcap file ends early".to_string())?;
        packets.push((header.length, data.to_vec()));
        rest = rest.get(end..).unwrap_or_default();
    }
    Ok(packets)
}
