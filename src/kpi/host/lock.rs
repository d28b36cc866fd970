// SPDX-License-Identifier: BSD-2-Clause
//! A lock with an owner, taken and released by two separate calls.

use std::sync::{Condvar, Mutex};

use super::guard;
use super::thread::Thread;

pub(super) struct Lock {
    name: &'static str,
    /// Id of the owner; 0 without one.
    owner: Mutex<u64>,
    released: Condvar,
}

impl Lock {
    pub(super) const fn new(name: &'static str) -> Self {
        Lock { name, owner: Mutex::new(0), released: Condvar::new() }
    }

    pub(super) fn acquire(&self) {
        let me = Thread::current().id();
        let mut owner = guard(&self.owner);
        assert!(*owner != me, "recursion on the {} lock", self.name);
        while *owner != 0 {
            owner = self.released.wait(owner).expect("a live lock");
        }
        *owner = me;
    }

    pub(super) fn release(&self) {
        self.assert_owned("unlock");
        *guard(&self.owner) = 0;
        self.released.notify_one();
    }

    pub(super) fn assert_owned(&self, what: &str) {
        let (owner, me) = (*guard(&self.owner), Thread::current().id());
        assert!(owner == me, "{what} without the {} lock: owner {owner}, caller {me}", self.name);
    }

    pub(super) fn is_free(&self) -> bool {
        *guard(&self.owner) == 0
    }
}
