// SPDX-License-Identifier: BSD-2-Clause
//! What a model checker wants to see: atomics, statics, and in the host body
//! threads and locks.
//!
//! Ordinarily these are the machine's. With `--cfg bpfrs_loom` or
//! `--cfg bpfrs_shuttle` the same driver runs under loom (every order within a
//! bound, weak memory included) or shuttle (many random orders).

use core::sync::atomic::Ordering;

#[cfg(not(any(bpfrs_loom, bpfrs_shuttle)))]
mod body {
    pub(crate) use core::sync::atomic::{AtomicPtr, AtomicUsize, fence};
    #[cfg(not(feature = "kernel"))]
    pub(crate) use host::*;

    #[cfg(not(feature = "kernel"))]
    mod host {
        pub(crate) use std::sync::atomic::AtomicBool;
        pub(crate) use std::sync::{Condvar, Mutex, MutexGuard, RwLock};
        pub(crate) use std::thread_local;

        /// Lets others run, for a loop that waits for them.
        pub(crate) fn relax() {
            std::thread::sleep(std::time::Duration::from_micros(20));
        }
    }

    /// A static; each execution under a model checker has its own.
    macro_rules! statics {
        ($($(#[$meta:meta])* static $name:ident: $type:ty = $value:expr;)*) => {
            $($(#[$meta])* static $name: $type = $value;)*
        };
    }

    /// A function that is const, where the constructors it uses are.
    macro_rules! const_fn {
        ($(#[$meta:meta])* $vis:vis fn $($rest:tt)*) => { $(#[$meta])* $vis const fn $($rest)* };
    }

    pub(crate) use {const_fn, statics};

    /// Accesses to memory that an execution may free. Nothing here: the
    /// machine does not need to be told.
    pub(crate) struct Watch;

    impl Watch {
        pub(crate) fn new() -> Self {
            Watch
        }

        /// The memory is used.
        pub(crate) fn used(&self) {}

        /// The memory goes.
        pub(crate) fn gone(&self) {}
    }
}

#[cfg(bpfrs_loom)]
mod body {
    pub(crate) use loom::sync::atomic::{AtomicBool, AtomicPtr, AtomicUsize, fence};
    pub(crate) use loom::sync::{Condvar, Mutex, MutexGuard, RwLock};
    pub(crate) use loom::thread::yield_now as relax;
    pub(crate) use loom::thread_local;

    macro_rules! statics {
        ($($(#[$meta:meta])* static $name:ident: $type:ty = $value:expr;)*) => {
            loom::lazy_static! { $($(#[$meta])* static ref $name: $type = $value;)* }
        };
    }
    macro_rules! const_fn {
        ($(#[$meta:meta])* $vis:vis fn $($rest:tt)*) => { $(#[$meta])* $vis fn $($rest)* };
    }
    pub(crate) use {const_fn, statics};

    /// loom knows which accesses come after which, and complains of a use
    /// that is not before the end.
    pub(crate) struct Watch(super::Life, loom::cell::UnsafeCell<()>);

    impl Watch {
        pub(crate) fn new() -> Self {
            Watch(super::Life::new(), loom::cell::UnsafeCell::new(()))
        }

        pub(crate) fn used(&self) {
            self.0.check();
            self.1.with(|_| ());
        }

        pub(crate) fn gone(&self) {
            self.0.end();
            self.1.with_mut(|_| ());
        }
    }
}

#[cfg(bpfrs_shuttle)]
mod body {
    pub(crate) use core::sync::atomic::fence;

    pub(crate) use shuttle::sync::atomic::{AtomicBool, AtomicPtr, AtomicUsize};
    pub(crate) use shuttle::sync::{Condvar, Mutex, MutexGuard, RwLock};
    pub(crate) use shuttle::thread::yield_now as relax;
    pub(crate) use shuttle::thread_local;

    macro_rules! statics {
        ($($(#[$meta:meta])* static $name:ident: $type:ty = $value:expr;)*) => {
            shuttle::lazy_static! { $($(#[$meta])* static ref $name: $type = $value;)* }
        };
    }
    macro_rules! const_fn {
        ($(#[$meta:meta])* $vis:vis fn $($rest:tt)*) => { $(#[$meta])* $vis const fn $($rest)* };
    }
    pub(crate) use {const_fn, statics};

    pub(crate) struct Watch(super::Life);

    impl Watch {
        pub(crate) fn new() -> Self {
            Watch(super::Life::new())
        }

        pub(crate) fn used(&self) {
            self.0.check();
        }

        pub(crate) fn gone(&self) {
            self.0.end();
        }
    }
}

/// Whether memory is there. A checker's heap keeps what was freed, so that a
/// late use finds this.
#[cfg(any(bpfrs_loom, bpfrs_shuttle))]
struct Life(core::sync::atomic::AtomicBool);

#[cfg(any(bpfrs_loom, bpfrs_shuttle))]
impl Life {
    fn new() -> Self {
        Life(core::sync::atomic::AtomicBool::new(true))
    }

    fn check(&self) {
        assert!(self.0.load(core::sync::atomic::Ordering::SeqCst), "use after free");
    }

    fn end(&self) {
        assert!(self.0.swap(false, core::sync::atomic::Ordering::SeqCst), "freed twice");
    }
}

pub(crate) use body::*;

/// Who took the last one off `count` sees from here on what the others did
/// before they took theirs (Release).
pub(crate) fn acquire(count: &AtomicUsize) {
    if cfg!(bpfrs_sanitizer) {
        // ThreadSanitizer does not know fences.
        count.load(Ordering::Acquire);
    } else {
        fence(Ordering::Acquire);
    }
}
