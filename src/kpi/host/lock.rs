// SPDX-License-Identifier: BSD-2-Clause
//! A lock with an owner, taken and released by two separate calls.

use std::sync::atomic::{AtomicU64, Ordering};

use super::{guard_seen, thread};
use crate::kpi::primitive::{Condvar, Mutex, const_fn};

pub(super) struct Lock {
    name: &'static str,
    state: Mutex<State>,
    released: Condvar,
    /// Id of the owner; 0 without one. For the checks only.
    owner: AtomicU64,
}

struct State {
    held: bool,
    /// How many wait for it.
    waiting: usize,
}

impl Lock {
    const_fn! {
        pub(super) fn new(name: &'static str) -> Self {
            Lock {
                name,
                state: Mutex::new(State { held: false, waiting: 0 }),
                released: Condvar::new(),
                owner: AtomicU64::new(0),
            }
        }
    }

    pub(super) fn acquire(&self) {
        let me = thread::id();
        assert!(self.owner.load(Ordering::Relaxed) != me, "recursion on the {} lock", self.name);
        let mut state = guard_seen(&self.state);
        while state.held {
            state.waiting += 1;
            state = self.released.wait(state).expect("a live lock");
            state.waiting -= 1;
        }
        state.held = true;
        self.owner.store(me, Ordering::Relaxed);
    }

    pub(super) fn release(&self) {
        self.assert_owned("unlock");
        self.owner.store(0, Ordering::Relaxed);
        let mut state = guard_seen(&self.state);
        state.held = false;
        if state.waiting != 0 {
            self.released.notify_one();
        }
    }

    pub(super) fn assert_owned(&self, what: &str) {
        let (owner, me) = (self.owner.load(Ordering::Relaxed), thread::id());
        assert!(owner == me, "{what} without the {} lock: owner {owner}, caller {me}", self.name);
    }

    pub(super) fn is_free(&self) -> bool {
        self.owner.load(Ordering::Relaxed) == 0
    }
}
