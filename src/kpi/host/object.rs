// SPDX-License-Identifier: BSD-2-Clause
//! Counted kernel objects, which the driver has by address.
//!
//! As an `Arc`, but references that C code would hold are checked: an address
//! that is not that of a live object ends the process with a message.

use std::any::{Any, type_name};
use std::collections::VecDeque;
use std::mem::ManuallyDrop;
use std::ops::Deref;
use std::ptr::NonNull;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::guard;

/// What can be a kernel object.
pub(super) trait Kind: Send + Sync + 'static {
    /// How many are alive.
    fn live() -> &'static AtomicUsize;
}

struct Object<T> {
    alive: AtomicUsize,
    references: AtomicUsize,
    value: ManuallyDrop<T>,
}

const ALIVE: usize = 0x0b7e_c701;
const DEAD: usize = 0xdead_c0de;

/// Dead objects whose memory is kept, so that a late use finds `DEAD`.
static GRAVES: Mutex<VecDeque<Box<dyn Any + Send>>> = Mutex::new(VecDeque::new());
const MOST_GRAVES: usize = 1024;

/// One reference.
pub(super) struct Hold<T: Kind>(NonNull<Object<T>>);

impl<T: Kind> Hold<T> {
    pub(super) fn new(value: T) -> Self {
        T::live().fetch_add(1, Ordering::SeqCst);
        Hold(NonNull::from(Box::leak(Box::new(Object {
            alive: AtomicUsize::new(ALIVE),
            references: AtomicUsize::new(1),
            value: ManuallyDrop::new(value),
        }))))
    }

    fn object(&self) -> &Object<T> {
        // SAFETY: self is a reference, or claims to be one of an object that
        // died recently, whose memory GRAVES keeps.
        unsafe { self.0.as_ref() }
    }

    fn check(&self) {
        assert!(
            self.object().alive.load(Ordering::Relaxed) == ALIVE,
            "use of a freed {}",
            type_name::<T>()
        );
    }

    /// The address, without giving up the reference.
    pub(super) fn raw<U>(&self) -> *mut U {
        self.0.as_ptr().cast()
    }

    /// Gives the reference to the driver.
    pub(super) fn into_raw<U>(self) -> *mut U {
        let raw = self.raw();
        std::mem::forget(self);
        raw
    }

    /// Takes a reference back from the driver.
    ///
    /// # Safety
    /// `raw` is the address of a `T` object.
    pub(super) unsafe fn from_raw<U>(raw: *const U) -> Self {
        let hold: Self = Hold(NonNull::new(raw.cast_mut().cast()).expect("a NULL object"));
        hold.check();
        hold
    }

    /// One more reference to what the driver has.
    ///
    /// # Safety
    /// `raw` is the address of a `T` object.
    pub(super) unsafe fn borrow<U>(raw: *const U) -> Self {
        // SAFETY: by the contract of this function; the driver's reference is
        // not given up.
        ManuallyDrop::new(unsafe { Self::from_raw(raw) }).deref().clone()
    }

    pub(super) fn same(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}

impl<T: Kind> Clone for Hold<T> {
    fn clone(&self) -> Self {
        self.check();
        self.object().references.fetch_add(1, Ordering::Relaxed);
        Hold(self.0)
    }
}

impl<T: Kind> Deref for Hold<T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.check();
        &self.object().value
    }
}

impl<T: Kind> Drop for Hold<T> {
    fn drop(&mut self) {
        self.check();
        if self.object().references.fetch_sub(1, Ordering::AcqRel) != 1 {
            return;
        }
        T::live().fetch_sub(1, Ordering::SeqCst);
        // SAFETY: the last reference; made by Box in new().
        let mut object = unsafe { Box::from_raw(self.0.as_ptr()) };
        object.alive.store(DEAD, Ordering::Relaxed);
        // SAFETY: dropped once, here; nobody uses a dead object.
        unsafe { ManuallyDrop::drop(&mut object.value) };
        let mut graves = guard(&GRAVES);
        graves.push_back(object);
        if graves.len() > MOST_GRAVES {
            let oldest = graves.pop_front();
            drop(graves);
            drop(oldest);
        }
    }
}

// SAFETY: as for Arc: T is Send and Sync, the count is atomic.
unsafe impl<T: Kind> Send for Hold<T> {}
// SAFETY: as above.
unsafe impl<T: Kind> Sync for Hold<T> {}
