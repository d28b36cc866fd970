// SPDX-License-Identifier: BSD-2-Clause
//! Test frames: each has a number, and every byte of it follows from that number and its size.

use alloc::vec::Vec;

/// IEEE 802's first type for local experiments: no protocol answers to it.
const ETHER_TYPE: [u8; 2] = [0x88, 0xb5];
const VLAN_TYPE: [u8; 2] = [0x81, 0x00];
/// Two addresses.
const TYPE_AT: usize = 12;
const HEADER: usize = 14;
const TAG: usize = 4;

/// The smallest frame: an Ethernet header and the number.
pub const SMALLEST: usize = HEADER + 4;
/// What an 802.1Q tag adds to a frame.
pub const TAG_LENGTH: usize = TAG;

/// Eight numbers from here on are those of broadcasts: every interface takes them in, and a bridge
/// for itself, too.
pub const BROADCASTS: u32 = 16;

/// Locally administered; nobody has them.
const SOURCE: [u8; 6] = [0x02, 0xbf, 0x70, 0, 0, 1];
const DESTINATIONS: [[u8; 6]; 4] = [
    [0x02, 0xbf, 0x70, 0, 0, 2],
    [0x01, 0x00, 0x5e, 0x7f, 0, 1],
    [0xff; 6],
    [0x33, 0x33, 0, 0, 0x70, 1],
];

/// Frame `number`, `size` bytes of it: to a foreign host, a multicast group or all, in turn.
pub fn ethernet(number: u32, size: usize) -> Vec<u8> {
    // Changes only after every size of `size_of` has had its turn.
    let destination = DESTINATIONS[number as usize / SIZES % DESTINATIONS.len()];
    let mut frame = Vec::with_capacity(size);
    frame.extend_from_slice(&destination);
    frame.extend_from_slice(&SOURCE);
    frame.extend_from_slice(&ETHER_TYPE);
    frame.extend_from_slice(&number.to_be_bytes());
    let seed = number.wrapping_mul(0x9e37_79b1);
    frame.extend((SMALLEST..size).map(|at| (seed >> 24) as u8 ^ (at.wrapping_mul(7) & 0xff) as u8));
    frame
}

/// The same frame with an 802.1Q tag.
pub fn tagged(frame: &[u8], vlan: u16) -> Vec<u8> {
    let (addresses, rest) = frame.split_at(TYPE_AT.min(frame.len()));
    [addresses, &VLAN_TYPE, &vlan.to_be_bytes(), rest].concat()
}

/// The number of a frame made here, tagged or not; `None` for anything else.
pub fn number_of(frame: &[u8]) -> Option<u32> {
    let at = match frame.get(TYPE_AT..HEADER)? {
        kind if kind == VLAN_TYPE => TYPE_AT + TAG,
        _ => TYPE_AT,
    };
    let (kind, rest) = frame.get(at..)?.split_at_checked(2)?;
    if kind != ETHER_TYPE || frame.get(6..TYPE_AT)? != SOURCE {
        return None;
    }
    rest.first_chunk().map(|number| u32::from_be_bytes(*number))
}

/// Sizes that frames have in turn.
const SIZES: usize = 8;

/// The size of frame `number`: in turn the bounds, those around the smallest frame of real
/// Ethernet, one in between, and one that grows until every size was there.
pub fn size_of(number: u32, largest: usize) -> usize {
    let turn = number as usize % SIZES;
    let size = match turn {
        0 => SMALLEST,
        1 => SMALLEST + 1,
        2 => 60,
        3 => 64,
        4 => 590,
        5 => largest - 1,
        6 => largest,
        _ => SMALLEST + number as usize / SIZES % (largest - SMALLEST + 1),
    };
    size.min(largest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_tells_its_number() {
        for number in [0, 1, 77, u32::MAX] {
            let frame = ethernet(number, 100);
            assert_eq!((frame.len(), number_of(&frame)), (100, Some(number)));
            let tagged = tagged(&frame, 5);
            assert_eq!((tagged.len(), number_of(&tagged)), (104, Some(number)));
            assert_eq!(tagged[12..16], [0x81, 0, 0, 5]);
        }
        assert_eq!(number_of(&ethernet(3, SMALLEST)), Some(3));
    }

    #[test]
    fn what_is_no_frame_of_ours_has_none() {
        let frame = ethernet(7, 60);
        assert_eq!(number_of(&frame[..SMALLEST - 1]), None);
        assert_eq!(number_of(&[]), None);
        for at in [6, 12, 13] {
            let mut other = frame.clone();
            other[at] ^= 1;
            assert_eq!(number_of(&other), None, "byte {at}");
        }
    }

    #[test]
    fn every_size_and_destination_has_its_turn() {
        let largest = 1514;
        let frames = SIZES * (largest - SMALLEST + 1);
        let sizes: alloc::collections::BTreeSet<usize> =
            (0..frames as u32).map(|number| size_of(number, largest)).collect();
        assert_eq!(sizes.len(), largest - SMALLEST + 1);
        assert_eq!((sizes.first(), sizes.last()), (Some(&SMALLEST), Some(&largest)));
        for destination in DESTINATIONS {
            for turn in 0..SIZES {
                let is = |n: &u32| *n as usize % SIZES == turn;
                assert!(
                    (0..64).filter(is).any(|n| ethernet(n, SMALLEST)[..6] == destination),
                    "{destination:?} in turn {turn}"
                );
            }
        }
    }

    #[test]
    fn broadcasts_are_where_they_are_said_to_be() {
        for number in BROADCASTS..BROADCASTS + 8 {
            assert_eq!(ethernet(number, SMALLEST)[..6], [0xff; 6]);
        }
    }

    #[test]
    fn no_two_frames_are_alike() {
        assert_ne!(ethernet(1, 60)[SMALLEST..], ethernet(2, 60)[SMALLEST..]);
    }
}
