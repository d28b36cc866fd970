// SPDX-License-Identifier: BSD-2-Clause
//! Time that sleepers and callouts wait for. Under a model checker it passes
//! when a test says so.

use crate::kpi::primitive::{Condvar, MutexGuard};

#[cfg(not(any(bpfrs_loom, bpfrs_shuttle)))]
mod body {
    use std::time::{Duration, Instant};

    use super::{Condvar, MutexGuard};

    /// A moment to come.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
    pub(in super::super) struct Deadline(Instant);

    impl Deadline {
        pub(in super::super) fn after(time: Duration) -> Self {
            Deadline(Instant::now() + time)
        }

        pub(in super::super) fn has_passed(self) -> bool {
            self.0 <= Instant::now()
        }
    }

    /// Waits for a notification, for the deadline, or for no reason.
    pub(in super::super) fn wait<'a, T>(
        condvar: &Condvar,
        guard: MutexGuard<'a, T>,
        deadline: Option<Deadline>,
    ) -> MutexGuard<'a, T> {
        match deadline {
            None => condvar.wait(guard).expect("a live thread"),
            Some(Deadline(at)) => {
                let left = at.saturating_duration_since(Instant::now());
                condvar.wait_timeout(guard, left).expect("a live thread").0
            }
        }
    }

    /// Gives others some time.
    pub(in super::super) fn pause(time: Duration) {
        std::thread::sleep(time);
    }
}

#[cfg(any(bpfrs_loom, bpfrs_shuttle))]
mod body {
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::time::Duration;

    use super::super::{monitor, thread};
    use super::{Condvar, MutexGuard};
    use crate::kpi::primitive::relax;

    /// How often time has passed.
    static NOW: AtomicU64 = AtomicU64::new(0);

    #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
    pub(in super::super) struct Deadline(u64);

    impl Deadline {
        pub(in super::super) fn after(_time: Duration) -> Self {
            Deadline(NOW.load(Ordering::SeqCst))
        }

        pub(in super::super) fn has_passed(self) -> bool {
            self.0 < NOW.load(Ordering::SeqCst)
        }
    }

    pub(in super::super) fn wait<'a, T>(
        condvar: &Condvar,
        guard: MutexGuard<'a, T>,
        _deadline: Option<Deadline>,
    ) -> MutexGuard<'a, T> {
        condvar.wait(guard).expect("a live thread")
    }

    pub(in super::super) fn pause(_time: Duration) {
        relax();
    }

    /// Every deadline set so far passes: callouts run, sleepers time out.
    pub fn pass_time() {
        NOW.fetch_add(1, Ordering::SeqCst);
        monitor::turn();
        thread::all().iter().for_each(thread::Thread::look_at_the_clock);
    }
}

#[cfg(any(bpfrs_loom, bpfrs_shuttle))]
pub use body::pass_time;
pub(super) use body::{Deadline, pause, wait};
