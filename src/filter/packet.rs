// SPDX-License-Identifier: BSD-2-Clause
//! What a filter can look at.

/// A packet.
pub trait Packet {
    /// The length on the wire, bytes: what `ld len` gives.
    fn wire_len(&self) -> u32;

    /// The first bytes, as many as are in a row: what the fast machines see.
    fn window(&self) -> &[u8];

    /// The `N` bytes at `offset`, or `None` if the packet ends before.
    fn bytes<const N: usize>(&self, offset: u32) -> Option<[u8; N]>;
}

impl Packet for [u8] {
    fn wire_len(&self) -> u32 {
        u32::try_from(self.len()).unwrap_or(u32::MAX)
    }

    fn window(&self) -> &[u8] {
        self
    }

    fn bytes<const N: usize>(&self, offset: u32) -> Option<[u8; N]> {
        self.get(offset as usize..)?.first_chunk().copied()
    }
}

/// What was kept of a packet that was longer on the wire.
#[derive(Clone, Copy, Debug)]
pub struct Captured<'a> {
    /// What is there.
    pub bytes: &'a [u8],
    /// How long it was, bytes.
    pub wire_len: u32,
}

impl Packet for Captured<'_> {
    fn wire_len(&self) -> u32 {
        self.wire_len
    }

    fn window(&self) -> &[u8] {
        self.bytes
    }

    fn bytes<const N: usize>(&self, offset: u32) -> Option<[u8; N]> {
        self.bytes.bytes(offset)
    }
}
