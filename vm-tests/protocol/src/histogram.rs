// SPDX-License-Identifier: BSD-2-Clause
//! A distribution of times that many threads or processes fill at once.

use core::sync::atomic::{AtomicU64, Ordering};
use core::time::Duration;

use zerocopy::FromZeros;

use crate::Times;

/// Buckets within one power of two: a value is known to 1/16.
const STEPS: usize = 16;
const BUCKETS: usize = 40 * STEPS;

/// Microseconds, in buckets that grow with the value.
#[derive(Debug, FromZeros)]
#[repr(C)]
pub struct Histogram {
    buckets: [AtomicU64; BUCKETS],
    max: AtomicU64,
}

impl Histogram {
    /// Adds one.
    pub fn add(&self, time: Duration) {
        let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        if let Some(bucket) = self.buckets.get(bucket_of(micros).min(BUCKETS - 1)) {
            bucket.fetch_add(1, Ordering::Relaxed);
        }
        self.max.fetch_max(micros, Ordering::Relaxed);
    }

    /// How many were added so far.
    pub fn count(&self) -> u64 {
        self.buckets.iter().map(|b| b.load(Ordering::Relaxed)).sum()
    }

    /// How many of them are above a limit in microseconds (to the edge of its bucket).
    pub fn above(&self, limit: u64) -> u64 {
        let above = self.buckets.iter().skip(bucket_of(limit) + 1);
        above.map(|b| b.load(Ordering::Relaxed)).sum()
    }

    /// What was added so far.
    pub fn times(&self) -> Times {
        let count = self.count();
        let max = self.max.load(Ordering::Relaxed);
        let quantile = |per_cent: u64| {
            let rank = (count * per_cent).div_ceil(100);
            let mut seen = 0;
            for (index, bucket) in self.buckets.iter().enumerate() {
                seen += bucket.load(Ordering::Relaxed);
                if seen >= rank {
                    return upper_edge(index).min(max);
                }
            }
            max
        };
        Times { count, p50: quantile(50), p99: quantile(99), max }
    }
}

/// Values below `STEPS` have a bucket each; then every power of two has `STEPS` of them.
fn bucket_of(value: u64) -> usize {
    if value < STEPS as u64 {
        return value as usize;
    }
    let power = value.ilog2() as usize;
    (power - 3) * STEPS + ((value >> (power - 4)) as usize - STEPS)
}

fn upper_edge(bucket: usize) -> u64 {
    if bucket < STEPS {
        return bucket as u64;
    }
    let power = bucket / STEPS + 3;
    (((bucket % STEPS + STEPS + 1) as u64) << (power - 4)) - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_known_to_a_sixteenth() {
        let histogram = Histogram::new_zeroed();
        for micros in 1..=1000 {
            histogram.add(Duration::from_micros(micros));
        }
        let times = histogram.times();
        assert_eq!((times.count, times.max), (1000, 1000));
        assert_eq!((histogram.count(), histogram.above(1000), histogram.above(0)), (1000, 0, 1000));
        assert!((469..=500).contains(&histogram.above(500)));
        assert!((500..=531).contains(&times.p50) && (990..=1000).contains(&times.p99), "{times:?}");
    }
}
