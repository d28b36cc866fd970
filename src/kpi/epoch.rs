// SPDX-License-Identifier: BSD-2-Clause
//! Epoch-protected references: how a `bpf_d` is found, kept and given back.
//!
//! [`Ref`] counts who keeps an object. [`Slot`] is a place, such as a cdev's
//! `si_drv1`, that publishes one of them. Who reads a slot enters the epoch
//! first ([`pin`]), and an object whose count fell to zero is destroyed only
//! after every section that could have read its address has ended (I1).
//!
//! The guard of a section is a value on the stack of one call: no token of a
//! reader is ever stored in a shared object.

use core::cell::UnsafeCell;
use core::marker::PhantomData;
use core::mem::MaybeUninit;
use core::ptr::{self, NonNull};
use core::sync::atomic::Ordering;

use bpfrs_sys::{
    bpfrs_epoch_context, bpfrs_epoch_tracker, bpfrs_kpi_epoch_call, bpfrs_kpi_epoch_drain,
    bpfrs_kpi_epoch_enter, bpfrs_kpi_epoch_exit,
};

use super::primitive::{AtomicPtr, AtomicUsize, Watch, acquire, const_fn, fence};
use super::{memory, time};

/// Proof of being inside an epoch section. Never sleep, fault or allocate
/// while one exists.
pub struct Guard {
    /// epoch(9) sections belong to a thread.
    not_send: PhantomData<*const ()>,
}

/// Runs `section` inside the epoch.
///
/// The result cannot borrow from the guard, so nothing read from a [`Slot`]
/// outlives the section unless it is counted.
pub fn pin<R>(section: impl FnOnce(&Guard) -> R) -> R {
    /// Leaves the section on every way out.
    struct Section(*mut bpfrs_epoch_tracker);
    impl Drop for Section {
        fn drop(&mut self) {
            // SAFETY: entered below with the same tracker, by this thread.
            unsafe { bpfrs_kpi_epoch_exit(self.0) };
        }
    }

    let mut tracker = MaybeUninit::<bpfrs_epoch_tracker>::uninit();
    // SAFETY: the tracker stays on this stack frame until the section ends.
    unsafe { bpfrs_kpi_epoch_enter(tracker.as_mut_ptr()) };
    let _section = Section(tracker.as_mut_ptr());
    section(&Guard { not_send: PhantomData })
}

/// Runs `section` inside a section that somebody else entered: a packet comes in
/// one, and entering another costs as much as a descriptor's filter.
///
/// # Safety
/// This thread is inside the network epoch, until this returns.
pub(super) unsafe fn within<R>(section: impl FnOnce(&Guard) -> R) -> R {
    section(&Guard { not_send: PhantomData })
}

/// Objects that have memory, over all `T`: an unload waits for the last one.
static OBJECTS: core::sync::atomic::AtomicUsize = core::sync::atomic::AtomicUsize::new(0);

/// Waits until the last reference to every object is gone and its destruction
/// done, including what destructions let go of in their turn. Sleeps.
pub fn drain() {
    loop {
        // SAFETY: thread context without locks, as the documentation asks.
        unsafe { bpfrs_kpi_epoch_drain() };
        if OBJECTS.load(Ordering::Acquire) == 0 {
            break;
        }
        time::pause(1);
    }
    // The callback that took the last one has more to do than count: return.
    // SAFETY: as above.
    unsafe { bpfrs_kpi_epoch_drain() };
}

#[repr(C)]
struct Inner<T> {
    /// For the deferred destruction. First, so that its address is ours.
    context: UnsafeCell<bpfrs_epoch_context>,
    count: AtomicUsize,
    watch: Watch,
    value: T,
}

/// A counted reference to a `T` that is destroyed a grace period after the
/// last one is gone.
///
/// The destructor of `T` runs in an epoch callback: it must not sleep.
/// Dropping a reference is allowed anywhere.
pub struct Ref<T: Send + Sync + 'static> {
    inner: NonNull<Inner<T>>,
}

impl<T: Send + Sync> Ref<T> {
    /// Moves `value` to the heap. Sleeps.
    pub fn new(value: T) -> Self {
        let inner = memory::allocate::<Inner<T>>();
        OBJECTS.fetch_add(1, Ordering::Relaxed);
        let start = Inner {
            context: UnsafeCell::new(bpfrs_epoch_context { ec_opaque: [ptr::null_mut(); 2] }),
            count: AtomicUsize::new(1),
            watch: Watch::new(),
            value,
        };
        // SAFETY: freshly allocated for an Inner<T>, and ours alone.
        unsafe { inner.as_ptr().write(start) };
        Ref { inner }
    }

    /// Whether both are references to the same object.
    pub fn same(&self, other: &Self) -> bool {
        self.inner == other.inner
    }

    /// Gives the reference to C, which returns it through [`Ref::from_raw`].
    pub(super) fn into_raw(self) -> *mut core::ffi::c_void {
        let raw = self.inner.as_ptr().cast();
        core::mem::forget(self);
        raw
    }

    /// What [`Ref::into_raw`] of another reference gave away.
    pub(super) fn as_raw(&self) -> NonNull<core::ffi::c_void> {
        self.inner.cast()
    }

    /// Takes back a reference that [`Ref::into_raw`] gave away.
    ///
    /// # Safety
    /// `raw` came from `into_raw` of the same `T`, once for each call.
    pub(super) unsafe fn from_raw(raw: NonNull<core::ffi::c_void>) -> Self {
        Ref { inner: raw.cast() }
    }

    /// Another reference to what C keeps.
    ///
    /// # Safety
    /// `raw` came from `into_raw` of the same `T` and C still keeps it.
    pub(super) unsafe fn borrow_raw(raw: NonNull<core::ffi::c_void>) -> Self {
        // SAFETY: by the contract of this function; the copy that would give
        // up C's own reference is forgotten.
        let kept = core::mem::ManuallyDrop::new(unsafe { Self::from_raw(raw) });
        Ref::clone(&kept)
    }

    fn inner(&self) -> &Inner<T> {
        // SAFETY: the count is at least one while self lives, and memory is
        // given back only after it fell to zero (I1).
        unsafe { self.inner.as_ref() }
    }
}

impl<T: Send + Sync> Clone for Ref<T> {
    fn clone(&self) -> Self {
        // Relaxed: who clones already has a reference, so nothing is read
        // through this one that was not visible before. 2^64 references
        // cannot exist.
        self.inner().count.fetch_add(1, Ordering::Relaxed);
        Ref { inner: self.inner }
    }
}

impl<T: Send + Sync> core::ops::Deref for Ref<T> {
    type Target = T;

    fn deref(&self) -> &T {
        let inner = self.inner();
        inner.watch.used();
        &inner.value
    }
}

impl<T: Send + Sync> Drop for Ref<T> {
    fn drop(&mut self) {
        /// The epoch callback: no reference and no section is left (I1).
        unsafe extern "C" fn destroy<T>(context: *mut bpfrs_epoch_context) {
            let Some(inner) = NonNull::new(context.cast::<Inner<T>>()) else { return };
            // SAFETY: the context is the first field of the Inner<T> that was
            // handed to epoch_call(9), which runs this once, after the last
            // reference and the last section that could see the address.
            unsafe { inner.as_ref() }.watch.gone();
            // SAFETY: as above.
            unsafe { ptr::drop_in_place(inner.as_ptr()) };
            // SAFETY: allocated by Ref::new and not used any more.
            unsafe { memory::free(inner) };
            OBJECTS.fetch_sub(1, Ordering::Release);
        }

        // Release: what this holder did comes before the destruction.
        if self.inner().count.fetch_sub(1, Ordering::Release) != 1 {
            return;
        }
        // And so does what the other holders did.
        acquire(&self.inner().count);
        let context = self.inner().context.get();
        // SAFETY: the count is zero and cannot rise again (Slot::get refuses
        // it), so this call is made once; the memory stays until it returns.
        unsafe { bpfrs_kpi_epoch_call(context.cast(), Some(destroy::<T>)) };
    }
}

// SAFETY: a Ref moves no T between threads that is not Send, and shares none
// that is not Sync; the count is atomic.
unsafe impl<T: Send + Sync> Send for Ref<T> {}
// SAFETY: as above.
unsafe impl<T: Send + Sync> Sync for Ref<T> {}

/// A place that publishes one object, or none, and keeps it.
#[repr(transparent)]
pub struct Slot<T: Send + Sync + 'static> {
    pointer: AtomicPtr<Inner<T>>,
    keeps: PhantomData<Ref<T>>,
}

impl<T: Send + Sync> Slot<T> {
    const_fn! {
        /// An empty slot.
        pub fn new() -> Self {
            Slot { pointer: AtomicPtr::new(ptr::null_mut()), keeps: PhantomData }
        }
    }

    /// The slot that C keeps as a `void *`, such as `si_drv1`.
    ///
    /// # Safety
    /// `place` is valid and NULL at first, stays valid for `'a`, and is used
    /// as a slot of `T` only. Under a model checker it is one of its pointers.
    pub(super) unsafe fn from_raw<'a>(place: NonNull<*mut core::ffi::c_void>) -> &'a Self {
        // SAFETY: Slot is transparent over an atomic pointer, which has the
        // layout of a pointer; validity is the caller's.
        unsafe { place.cast::<Self>().as_ref() }
    }

    /// What is published now, for as long as the section lasts.
    pub fn load<'g>(&self, _guard: &'g Guard) -> Option<&'g T> {
        // Acquire pairs with the release of publish and swap: the object was
        // complete before its address could be read.
        let inner = NonNull::new(self.pointer.load(Ordering::Acquire))?;
        // SAFETY: read inside the section `_guard`, so the memory outlives it
        // even if the slot lets go of it now (I1). T is Sync.
        let inner = unsafe { &*inner.as_ptr() };
        inner.watch.used();
        Some(&inner.value)
    }

    /// A counted reference to what is published now. May be called anywhere
    /// but with an epoch section already entered it is not needed.
    pub fn get(&self) -> Option<Ref<T>> {
        pin(|_guard| {
            loop {
                let inner = NonNull::new(self.pointer.load(Ordering::Acquire))?;
                // SAFETY: as in load: the memory outlives this section (I1).
                let Inner { count, watch, .. } = unsafe { &*inner.as_ptr() };
                watch.used();
                let taken = count.fetch_update(Ordering::Relaxed, Ordering::Acquire, |n| {
                    if n == 0 { None } else { n.checked_add(1) }
                });
                if taken.is_ok() {
                    return Some(Ref { inner });
                }
                // Zero: the slot has let go of it since. Acquire: that is seen
                // by the next look, which finds something else.
            }
        })
    }

    /// As [`Slot::get`], for a thread that said before that it revokes: it
    /// sees what was published, or who publishes sees that (I5).
    pub fn get_after_revoke(&self) -> Option<Ref<T>> {
        fence(Ordering::SeqCst);
        self.get()
    }

    /// Whether nothing is published.
    pub fn is_empty(&self) -> bool {
        self.pointer.load(Ordering::Acquire).is_null()
    }

    /// Publishes `new` if the slot is empty; gives it back otherwise.
    pub fn publish(&self, new: Ref<T>) -> Result<(), Ref<T>> {
        match self.pointer.compare_exchange(
            ptr::null_mut(),
            new.inner.as_ptr(),
            Ordering::AcqRel,
            Ordering::Relaxed,
        ) {
            Ok(_) => {
                // The count that `new` had is the slot's now.
                core::mem::forget(new);
                // Who published looks next whether a revocation began; who
                // revokes has said so before get_after_revoke (I5).
                fence(Ordering::SeqCst);
                Ok(())
            }
            Err(_) => Err(new),
        }
    }

    /// Empties the slot if it publishes `old`. Whoever is first gets the
    /// slot's reference; for all others this does nothing (I3).
    pub fn withdraw(&self, old: &Ref<T>) -> Option<Ref<T>> {
        self.pointer
            .compare_exchange(
                old.inner.as_ptr(),
                ptr::null_mut(),
                Ordering::AcqRel,
                Ordering::Relaxed,
            )
            .ok()
            .map(|_| Ref { inner: old.inner })
    }

    /// Publishes `new` in place of what was there, which is returned.
    pub fn swap(&self, new: Option<Ref<T>>) -> Option<Ref<T>> {
        let new = new.map_or(ptr::null_mut(), |new| new.into_raw().cast());
        let old = self.pointer.swap(new, Ordering::AcqRel);
        NonNull::new(old).map(|inner| Ref { inner })
    }
}

impl<T: Send + Sync> Default for Slot<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T: Send + Sync> Drop for Slot<T> {
    fn drop(&mut self) {
        drop(self.swap(None));
    }
}
