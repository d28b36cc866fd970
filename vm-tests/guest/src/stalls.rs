// SPDX-License-Identifier: BSD-2-Clause
//! Whether the machine stood still meanwhile: an emulated processor does when its host has other work,
//! and then a time that was measured says nothing.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, Ordering::SeqCst};
use core::time::Duration;

use zerocopy::FromZeros;

use crate::driver;
use crate::sys::{self, Shared};
use crate::tests::{Child, Trouble, While, ensure};

/// Processors that can be watched.
const PROCESSORS: usize = 64;
/// How often each is asked for.
const TICK: Duration = Duration::from_millis(10);
/// So often the same is tried on a machine that does not run.
const TRIES: u32 = 100;

/// In nanoseconds.
#[derive(FromZeros)]
#[repr(C)]
struct Clocks {
    last: [AtomicU64; PROCESSORS],
    longest: [AtomicU64; PROCESSORS],
}

/// A process on each processor, before all others there, that looks at the clock all the time.
pub(crate) struct Watch {
    clocks: Shared<Clocks>,
    processors: usize,
    tickers: Vec<Child>,
}

impl Watch {
    pub(crate) fn start() -> Result<Self, Trouble> {
        let clocks: Shared<Clocks> = Shared::new().at("shared memory")?;
        let processors = driver::number("hw.ncpu").at("hw.ncpu")? as usize;
        ensure!(processors <= PROCESSORS, "{processors} processors");
        let mut tickers = Vec::new();
        for (processor, (last, longest)) in
            clocks.last.iter().zip(&clocks.longest).enumerate().take(processors)
        {
            last.store(now(), SeqCst);
            tickers.push(Child::start(|| {
                if sys::stay_on(processor).is_err() {
                    return 1;
                }
                sys::set_realtime(true);
                loop {
                    sys::sleep(TICK);
                    let (before, now) = (last.load(SeqCst), now());
                    longest.fetch_max(now - before, SeqCst);
                    last.store(now, SeqCst);
                }
            })?);
        }
        let watch = Self { clocks, processors, tickers };
        watch.begin();
        Ok(watch)
    }

    /// Makes a processor stand still for a while, as far as this can see: the negative control.
    pub(crate) fn stall(&self, time: Duration) {
        let Some(ticker) = self.tickers.last() else { return };
        ticker.signal(libc::SIGSTOP);
        sys::sleep(time);
        ticker.signal(libc::SIGCONT);
        sys::sleep(2 * TICK);
    }

    fn begin(&self) {
        self.clocks.longest.iter().for_each(|longest| longest.store(0, SeqCst));
    }

    /// For how long a processor was not there, at most; one that is not there now included.
    fn longest(&self) -> Duration {
        let now = now();
        let gaps = self.clocks.last.iter().zip(&self.clocks.longest).take(self.processors);
        let gap = |(last, longest): (&AtomicU64, &AtomicU64)| {
            longest.load(SeqCst).max(now.saturating_sub(last.load(SeqCst)))
        };
        Duration::from_nanos(gaps.map(gap).max().unwrap_or(0))
    }

    /// What `body` says. A busy machine can only make things later: what `is_late` must be said twice in
    /// a row, and what is said while a processor stands still for as long as `limit`, five times. (Where
    /// the kernel prints on a slow console one does each time.)
    pub(crate) fn settled(
        &self,
        limit: Duration,
        is_late: fn(&str) -> bool,
        mut body: impl FnMut() -> Result<String, Trouble>,
    ) -> Result<String, Trouble> {
        let mut last = Err(Trouble::Wrong("not tried".into()));
        let mut agreed = 0;
        for _ in 0..TRIES {
            self.begin();
            let result = body();
            let stands_still = self.longest() >= limit;
            agreed = match (&result, &last) {
                (Ok(said), Ok(before)) if said == before => agreed + 1,
                _ => 1,
            };
            let enough = match &result {
                _ if stands_still => 5,
                Ok(said) if is_late(said) => 2,
                _ => 1,
            };
            last = result;
            if agreed >= enough {
                return last;
            }
        }
        last.and_then(|said| {
            Err(Trouble::Wrong(format!("not the same twice in {TRIES} tries; at last {said}")))
        })
    }

    /// What `body` gives while no processor stands still for as long as `limit`: until then it is
    /// done again.
    pub(crate) fn undisturbed<T>(
        &self,
        limit: Duration,
        mut body: impl FnMut() -> Result<T, Trouble>,
    ) -> Result<T, Trouble> {
        let mut longest = Duration::ZERO;
        for _ in 0..TRIES {
            self.begin();
            let result = body();
            longest = self.longest();
            if longest < limit {
                return result;
            }
        }
        Err(Trouble::Wrong(format!(
            "the machine stood still in each of {TRIES} tries, for {longest:?} in the last"
        )))
    }
}

fn now() -> u64 {
    u64::try_from(sys::now().as_nanos()).unwrap_or(u64::MAX)
}
