// SPDX-License-Identifier: BSD-2-Clause
//! Whether two captures of the same frames are the same.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::ops::AddAssign;

use serde::{Deserialize, Serialize};

/// One captured frame, or one that should have been.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Its number; `None`: not one of the test's.
    pub number: Option<u32>,
    /// Length on the wire (bh_datalen).
    pub length: u32,
    /// What was captured of it (bh_caplen bytes).
    pub data: Vec<u8>,
}

/// How one capture differs from another, in frames.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Differences {
    /// Not there.
    pub missing: u64,
    /// There, but not in the other one, or twice.
    pub extra: u64,
    /// After one that should come later.
    pub reordered: u64,
    /// With other bytes, another length, or cut.
    pub changed: u64,
}

impl Differences {
    /// All of them.
    pub fn sum(&self) -> u64 {
        self.missing + self.extra + self.reordered + self.changed
    }
}

impl AddAssign for Differences {
    fn add_assign(&mut self, other: Self) {
        self.missing += other.missing;
        self.extra += other.extra;
        self.reordered += other.reordered;
        self.changed += other.changed;
    }
}

/// Compares numbered frames; frames without a number count as extra.
pub fn compare(
    wanted: &[Frame],
    got: &[Frame],
    same: impl Fn(&Frame, &Frame) -> bool,
) -> Differences {
    let mut open: BTreeMap<u32, (usize, &Frame)> = BTreeMap::new();
    for (place, frame) in wanted.iter().enumerate() {
        if let Some(number) = frame.number {
            open.insert(number, (place, frame));
        }
    }
    let mut differences = Differences::default();
    let mut furthest = 0;
    for frame in got {
        let Some((place, want)) = frame.number.and_then(|number| open.remove(&number)) else {
            differences.extra += 1;
            continue;
        };
        differences.reordered += u64::from(place < furthest);
        furthest = furthest.max(place);
        differences.changed += u64::from(!same(want, frame));
    }
    differences.missing = open.len() as u64;
    differences
}

/// Compares frames that have no numbers, place by place.
pub fn compare_by_place(wanted: &[Frame], got: &[Frame]) -> Differences {
    Differences {
        missing: wanted.len().saturating_sub(got.len()) as u64,
        extra: got.len().saturating_sub(wanted.len()) as u64,
        reordered: 0,
        changed: wanted.iter().zip(got).filter(|(a, b)| a != b).count() as u64,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::ethernet;

    fn frames(numbers: &[u32]) -> Vec<Frame> {
        let frame = |&number: &u32| {
            let data = ethernet(number, 60);
            Frame { number: Some(number), length: 60, data }
        };
        numbers.iter().map(frame).collect()
    }

    fn told(wanted: &[Frame], got: &[Frame]) -> (u64, u64, u64, u64) {
        let d = compare(wanted, got, PartialEq::eq);
        (d.missing, d.extra, d.reordered, d.changed)
    }

    #[test]
    fn each_difference_is_told_apart() {
        let wanted = frames(&[1, 2, 3, 4]);
        assert_eq!(told(&wanted, &wanted), (0, 0, 0, 0));
        assert_eq!(told(&wanted, &[]), (4, 0, 0, 0));
        assert_eq!(told(&wanted, &frames(&[1, 2, 4])), (1, 0, 0, 0));
        assert_eq!(told(&wanted, &frames(&[1, 2, 2, 3, 4])), (0, 1, 0, 0));
        assert_eq!(told(&wanted, &frames(&[1, 2, 9, 3, 4])), (0, 1, 0, 0));
        assert_eq!(told(&wanted, &frames(&[1, 3, 2, 4])), (0, 0, 1, 0));
        assert_eq!(told(&wanted, &frames(&[2, 1, 4, 3])), (0, 0, 2, 0));
        assert_eq!(told(&[], &wanted), (0, 4, 0, 0));
    }

    #[test]
    fn every_field_counts() {
        let wanted = frames(&[1, 2]);
        let change = |change: fn(&mut Frame)| {
            let mut got = wanted.clone();
            change(&mut got[1]);
            told(&wanted, &got)
        };
        assert_eq!(change(|f| f.length += 1), (0, 0, 0, 1));
        assert_eq!(change(|f| f.data[59] ^= 1), (0, 0, 0, 1));
        assert_eq!(change(|f| f.data.truncate(59)), (0, 0, 0, 1));
        assert_eq!(change(|f| f.number = None), (1, 1, 0, 0));
    }

    #[test]
    fn by_place() {
        let wanted = frames(&[1, 2, 3]);
        assert_eq!(compare_by_place(&wanted, &wanted).sum(), 0);
        assert_eq!(compare_by_place(&wanted, &wanted[..2]).missing, 1);
        assert_eq!(compare_by_place(&wanted[..1], &wanted).extra, 2);
        assert_eq!(compare_by_place(&wanted, &frames(&[1, 3, 2])).changed, 2);
    }
}
