// SPDX-License-Identifier: BSD-2-Clause
//! A lock with an owner, taken and released by two separate calls.

use std::sync::atomic::{AtomicU64, Ordering};

use super::guard_seen;
use super::thread::Thread;
use crate::kpi::primitive::{Condvar, Mutex, const_fn};

pub(super) struct Lock {
    name: &'static str,
    held: Mutex<bool>,
    released: Condvar,
    /// Id of the owner; 0 without one. For the checks only.
    owner: AtomicU64,
}

impl Lock {
    const_fn! {
        pub(super) fn new(name: &'static str) -> Self {
            Lock {
                name,
                held: Mutex::new(false),
                released: Condvar::new(),
                owner: AtomicU64::new(0),
            }
        }
    }

    pub(super) fn acquire(&self) {
        let me = Thread::current().id();
        assert!(self.owner.load(Ordering::Relaxed) != me, "recursion on the {} lock", self.name);
        let mut held = guard_seen(&self.held);
        while *held {
            held = self.released.wait(held).expect("a live lock");
        }
        *held = true;
        self.owner.store(me, Ordering::Relaxed);
    }

    pub(super) fn release(&self) {
        self.assert_owned("unlock");
        self.owner.store(0, Ordering::Relaxed);
        *guard_seen(&self.held) = false;
        self.released.notify_one();
    }

    pub(super) fn assert_owned(&self, what: &str) {
        let (owner, me) = (self.owner.load(Ordering::Relaxed), Thread::current().id());
        assert!(owner == me, "{what} without the {} lock: owner {owner}, caller {me}", self.name);
    }

    pub(super) fn is_free(&self) -> bool {
        self.owner.load(Ordering::Relaxed) == 0
    }
}
