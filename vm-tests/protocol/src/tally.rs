// SPDX-License-Identifier: BSD-2-Clause
//! What the parts of a reproducer count together: processes in a guest, threads on the host.
//!
//! Times are since any fixed moment that all of them share.

use alloc::collections::BTreeMap;
use alloc::string::String;
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};
use core::time::Duration;

use zerocopy::FromZeros;

use crate::Race;
use crate::histogram::Histogram;

/// Readers there may be.
pub const MAX_READERS: usize = 64;
/// How long whoever supervises the readers waits between two looks at them.
pub const LOOK: Duration = Duration::from_millis(5);
/// A reader that revoke(2) has not woken after so many looks counts as asleep: a second, and as much
/// more as the machine stands still meanwhile.
const LOOKS: u64 = 200;
/// Errors above are counted as this one.
const ERRNO_MAX: usize = 128;

/// How often each errno came.
#[derive(Debug, FromZeros)]
#[repr(C)]
pub struct Errors([AtomicU64; ERRNO_MAX]);

impl Errors {
    /// Counts one.
    pub fn add(&self, errno: i32) {
        let index = usize::try_from(errno).unwrap_or(0).min(ERRNO_MAX - 1);
        if let Some(count) = self.0.get(index) {
            count.fetch_add(1, Relaxed);
        }
    }

    /// Those that came, by the names that `name` gives them.
    pub fn by_name(&self, name: fn(i32) -> String) -> BTreeMap<String, u64> {
        self.0
            .iter()
            .zip(0..)
            .filter(|(count, _)| count.load(Relaxed) > 0)
            .map(|(count, number)| (name(number), count.load(Relaxed)))
            .collect()
    }
}

/// What one reader is doing, for the revoker.
#[derive(Debug, FromZeros)]
#[repr(C)]
struct Slot {
    /// 1 + the node that it is blocked on, or 0.
    waits_on: AtomicU64,
    /// When the first revoke(2) of that node during this wait began (ns), or 0.
    revoked_at: AtomicU64,
    /// How often it was looked at since then.
    looks: AtomicU64,
}

impl Slot {
    /// A revocation of `node` begins; whether it is the first one that this wait meets.
    fn meets(&self, node: usize, now: Duration) -> bool {
        let met = self.waits_on.load(Relaxed) == node as u64 + 1
            && self.revoked_at.compare_exchange(0, nanoseconds(now), Relaxed, Relaxed).is_ok();
        if met {
            self.looks.store(0, Relaxed);
        }
        met
    }

    /// How long ago the wait that has ended was met by a revocation, if it was.
    fn ended(&self, when: Duration) -> Option<Duration> {
        match self.revoked_at.swap(0, Relaxed) {
            0 => None,
            since => Some(when.saturating_sub(Duration::from_nanos(since))),
        }
    }
}

/// What [`Race`] tells, while it is counted.
#[expect(missing_docs, reason = "documented in Race")]
#[derive(Debug, FromZeros)]
#[repr(C)]
pub struct Tally {
    pub opens: AtomicU64,
    pub opens_busy: AtomicU64,
    pub open_errors: Errors,
    pub setup_errors: Errors,
    pub reads: AtomicU64,
    pub read_timeouts: AtomicU64,
    pub read_errors: Errors,
    pub packets: AtomicU64,
    pub bytes: AtomicU64,
    pub bad_records: AtomicU64,
    pub captured: AtomicU64,
    pub dropped: AtomicU64,
    pub sent: AtomicU64,
    pub revokes: AtomicU64,
    pub revoke_errors: Errors,
    pub revoke_time: Histogram,
    blocked: AtomicU64,
    woken: AtomicU64,
    returned: AtomicU64,
    killed: AtomicU64,
    asleep: AtomicU64,
    wake_time: Histogram,
    control_time: Histogram,
    control: Slot,
    slots: [Slot; MAX_READERS],
}

/// Adds one.
pub fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Relaxed);
}

/// A time as a number.
pub fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

impl Tally {
    /// A revocation of `node` begins.
    pub fn revoke_begins(&self, node: usize, now: Duration) {
        for slot in &self.slots {
            if slot.meets(node, now) {
                count(&self.blocked);
            }
        }
    }

    /// A reader is about to block on `node`.
    pub fn wait_begins(&self, reader: usize, node: usize) {
        if let Some(slot) = self.slots.get(reader) {
            slot.waits_on.store(node as u64 + 1, Relaxed);
        }
    }

    /// It does not block any more.
    pub fn wait_ends(&self, reader: usize) {
        if let Some(slot) = self.slots.get(reader) {
            slot.waits_on.store(0, Relaxed);
        }
    }

    /// If a revocation met this wait: how it ended, when it ended.
    pub fn wait_ended(&self, reader: usize, dead: bool, when: Duration) {
        let Some(time) = self.slots.get(reader).and_then(|slot| slot.ended(when)) else { return };
        if dead {
            self.wake_time.add(time);
        }
        count(if dead { &self.woken } else { &self.returned });
    }

    /// The control is about to block: something that is none of the driver's, and that whoever
    /// revokes wakes now and then instead.
    pub fn control_begins(&self) {
        self.control.waits_on.store(1, Relaxed);
    }

    /// It is being woken.
    pub fn control_meets(&self, now: Duration) {
        self.control.meets(0, now);
    }

    /// It woke.
    pub fn control_ended(&self, when: Duration) {
        self.control.waits_on.store(0, Relaxed);
        if let Some(time) = self.control.ended(when) {
            self.control_time.add(time);
        }
    }

    /// Whether a revocation has met the wait that a reader is in.
    pub fn is_being_revoked(&self, reader: usize) -> bool {
        self.slots.get(reader).is_some_and(|slot| slot.revoked_at.load(Relaxed) != 0)
    }

    /// One look at a reader: whether it sleeps on although its node was revoked; true once for each
    /// wait.
    pub fn sleeps_on(&self, reader: usize) -> bool {
        let Some(slot) = self.slots.get(reader) else { return false };
        let since = slot.revoked_at.load(Relaxed);
        let late = since != 0
            && slot.looks.fetch_add(1, Relaxed) >= LOOKS
            && slot.revoked_at.compare_exchange(since, 0, Relaxed, Relaxed).is_ok();
        if late {
            count(&self.asleep);
        }
        late
    }

    /// A reader that is about to die by our hand cannot show that it was woken.
    pub fn forget_wait(&self, reader: usize) {
        let Some(slot) = self.slots.get(reader) else { return };
        slot.waits_on.store(0, Relaxed);
        if slot.revoked_at.swap(0, Relaxed) != 0 {
            count(&self.killed);
        }
    }

    /// Writes down what was counted so far. `name` gives the names of errors.
    pub fn fill(&self, r: &mut Race, name: fn(i32) -> String) {
        r.opens = self.opens.load(Relaxed);
        r.opens_busy = self.opens_busy.load(Relaxed);
        r.open_errors = self.open_errors.by_name(name);
        r.setup_errors = self.setup_errors.by_name(name);
        r.reads = self.reads.load(Relaxed);
        r.read_timeouts = self.read_timeouts.load(Relaxed);
        r.read_errors = self.read_errors.by_name(name);
        r.packets = self.packets.load(Relaxed);
        r.bytes = self.bytes.load(Relaxed);
        r.bad_records = self.bad_records.load(Relaxed);
        r.captured = self.captured.load(Relaxed);
        r.dropped = self.dropped.load(Relaxed);
        r.sent = self.sent.load(Relaxed);
        r.revokes = self.revokes.load(Relaxed);
        r.revoke_errors = self.revoke_errors.by_name(name);
        r.revoke_time = self.revoke_time.times();
        r.blocked = self.blocked.load(Relaxed);
        r.woken = self.woken.load(Relaxed);
        r.returned = self.returned.load(Relaxed);
        r.killed = self.killed.load(Relaxed);
        r.asleep = self.asleep.load(Relaxed);
        r.wake_time = self.wake_time.times();
        r.late = self.wake_time.above(r.wake_limit);
        r.control_time = self.control_time.times();
        r.control_late = self.control_time.above(r.wake_limit);
    }
}

/// Pseudo-random numbers (xorshift64*): which of the many orders of events comes is chance anyway.
#[derive(Debug)]
pub struct Random(u64);

impl Random {
    /// The same numbers for the same seed.
    pub fn new(seed: u64) -> Self {
        Self(seed | 1)
    }

    /// A number below `limit`.
    pub fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let high = (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32) as usize;
        high % limit.max(1)
    }

    /// True in one of `n` cases.
    pub fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Duration = Duration::from_secs(1);

    fn told(tally: &Tally) -> Race {
        let mut r = Race { wake_limit: 1000, ..Race::default() };
        tally.fill(&mut r, |_| String::new());
        r
    }

    #[test]
    fn every_end_of_a_wait_is_told_apart() {
        let tally = Tally::new_zeroed();
        let meet = |reader| {
            tally.wait_begins(reader, 2);
            tally.revoke_begins(3, START);
            tally.revoke_begins(2, START);
        };
        let end = |reader, dead, when| {
            tally.wait_ends(reader);
            tally.wait_ended(reader, dead, when);
        };
        meet(0);
        end(0, true, START + Duration::from_micros(900));
        meet(1);
        end(1, true, START + Duration::from_micros(1100));
        meet(2);
        end(2, false, START);
        meet(3);
        tally.forget_wait(3);
        meet(4);
        assert!((0..LOOKS).all(|_| !tally.sleeps_on(4)));
        assert!(tally.sleeps_on(4));
        assert!((0..=LOOKS).all(|_| !tally.sleeps_on(4)), "once for each wait");
        let r = told(&tally);
        assert_eq!((r.blocked, r.woken, r.returned, r.killed, r.asleep), (5, 2, 1, 1, 1));
        assert_eq!((r.wake_time.count, r.late), (2, 1));
    }

    #[test]
    fn a_wait_is_looked_at_anew() {
        let tally = Tally::new_zeroed();
        for _ in 0..2 {
            tally.wait_begins(0, 2);
            tally.revoke_begins(2, START);
            assert!((0..LOOKS).all(|_| !tally.sleeps_on(0)));
            tally.wait_ended(0, true, START);
        }
        assert_eq!(told(&tally).woken, 2);
    }

    #[test]
    fn the_control_is_counted_apart() {
        let tally = Tally::new_zeroed();
        // Not blocked yet.
        tally.control_meets(START);
        for micros in [10, 900, 1100] {
            tally.control_begins();
            tally.revoke_begins(0, START);
            tally.control_meets(START);
            tally.control_ended(START + Duration::from_micros(micros));
        }
        let r = told(&tally);
        assert_eq!((r.blocked, r.wake_time.count, r.late), (0, 0, 0));
        assert_eq!((r.control_time.count, r.control_late), (3, 1));
    }
}
