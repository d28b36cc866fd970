// SPDX-License-Identifier: BSD-2-Clause
//! Memory of malloc type `bpfrs`: the only allocations the driver makes.
//!
//! malloc(9) with `M_WAITOK` sleeps until it has memory, so allocating cannot
//! fail; it is for thread context only and never for a packet. What the driver
//! can do without it asks for with `M_NOWAIT`.

use core::marker::PhantomData;
use core::mem::{align_of, size_of};
use core::ops::{Deref, DerefMut};
use core::ptr::{self, NonNull};

/// Allocates zeroed memory for one `T`. Sleeps.
///
/// The memory is returned with [`free`].
pub(super) fn allocate<T>() -> NonNull<T> {
    // malloc(9) aligns to at least two words.
    const { assert!(align_of::<T>() <= 16, "malloc(9) does not align that much") };
    allocate_bytes(size_of::<T>()).cast()
}

fn allocate_bytes(size: usize) -> NonNull<u8> {
    // SAFETY: any size is allowed; the caller is in thread context (module
    // documentation).
    let p = unsafe { bpfrs_sys::bpfrs_kpi_malloc(size) };
    match NonNull::new(p.cast()) {
        Some(p) => p,
        // M_WAITOK never returns NULL; this is the kernel breaking its word.
        None => out_of_memory(),
    }
}

#[cold]
pub(super) fn out_of_memory() -> ! {
    const MESSAGE: &str = "malloc(9) with M_WAITOK returned NULL";
    // SAFETY: pointer and length are those of a constant.
    unsafe { bpfrs_sys::bpfrs_kpi_panic(MESSAGE.as_ptr().cast(), MESSAGE.len()) }
}

/// Gives memory back.
///
/// # Safety
/// `p` came from [`allocate`] and is not used afterwards.
pub(super) unsafe fn free<T>(p: NonNull<T>) {
    // SAFETY: by the contract of this function.
    unsafe { bpfrs_sys::bpfrs_kpi_free(p.as_ptr().cast()) }
}

/// A place to write to, perhaps in memory that others write to as well: a
/// user's. Nothing is read back from it.
pub struct Window<'a> {
    start: NonNull<u8>,
    len: usize,
    owner: PhantomData<&'a mut [u8]>,
}

impl<'a> Window<'a> {
    /// # Safety
    /// `len` bytes at `start` can be written for `'a`, and no Rust code has
    /// another way to them meanwhile.
    pub(super) unsafe fn new(start: NonNull<u8>, len: usize) -> Self {
        Window { start, len, owner: PhantomData }
    }

    /// How many bytes it is.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is no byte.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The first `at` bytes, or all if they are fewer, and the rest.
    #[inline]
    pub fn split_at(self, at: usize) -> (Window<'a>, Window<'a>) {
        let Some(len) = self.len.checked_sub(at) else { return self.all_of_it() };
        // SAFETY: not beyond the end, by the difference above.
        let rest = unsafe { self.start.add(at) };
        (Window { len: at, ..self }, Window { start: rest, len, owner: PhantomData })
    }

    /// Itself, and nothing behind it.
    #[cold]
    #[inline(never)]
    fn all_of_it(self) -> (Window<'a>, Window<'a>) {
        // SAFETY: its end.
        let end = unsafe { self.start.add(self.len) };
        (self, Window { start: end, len: 0, owner: PhantomData })
    }

    /// Writes `bytes` at `offset`, if there is room for all of them.
    #[inline]
    pub fn set<const N: usize>(&mut self, offset: usize, bytes: [u8; N]) {
        if self.len.checked_sub(N).is_some_and(|last| offset <= last) {
            // SAFETY: within the window, and the bytes are nobody else's.
            unsafe { self.start.add(offset).cast().write_unaligned(bytes) };
        }
    }

    /// Writes as many of `bytes` as fit, and zeros behind them to the end.
    #[inline]
    pub fn put(self, bytes: &[u8]) {
        let len = bytes.len().min(self.len);
        // SAFETY: both have `len` bytes, and the window's are nobody else's.
        unsafe { self.start.as_ptr().copy_from_nonoverlapping(bytes.as_ptr(), len) };
        let rest = self.split_at(len).1;
        if !rest.is_empty() {
            // SAFETY: the window has them.
            unsafe { rest.start.as_ptr().write_bytes(0, rest.len) };
        }
    }

    /// For C to write to.
    pub(super) fn as_mut_ptr(&mut self) -> *mut u8 {
        self.start.as_ptr()
    }
}

impl<'a> From<&'a mut [u8]> for Window<'a> {
    fn from(bytes: &'a mut [u8]) -> Self {
        Window { start: NonNull::from(&mut *bytes).cast(), len: bytes.len(), owner: PhantomData }
    }
}

/// A fixed number of `T` on the heap.
pub struct Array<T> {
    start: NonNull<T>,
    /// How many elements there are.
    len: usize,
    /// How many the allocation has room for.
    room: usize,
}

impl<T> Array<T> {
    /// The first `room` elements of an iterator. Sleeps.
    pub fn collect(room: usize, items: impl Iterator<Item = T>) -> Self {
        let mut array = Self::with_room(room);
        for (i, item) in items.take(room).enumerate() {
            // SAFETY: i < room, and the place is not initialised yet.
            unsafe { array.start.as_ptr().add(i).write(item) };
            array.len = i.wrapping_add(1);
        }
        array
    }

    /// `len` times `item`, unless there is no memory for it just now. Does not
    /// sleep.
    pub fn filled(len: usize, item: T) -> Option<Self>
    where
        T: Copy,
    {
        const { assert!(align_of::<T>() <= 16, "malloc(9) does not align that much") };
        let start: NonNull<T> = match len.checked_mul(size_of::<T>())? {
            0 => NonNull::dangling(),
            // SAFETY: any size is allowed.
            size => NonNull::new(unsafe { bpfrs_sys::bpfrs_kpi_malloc_nowait(size) })?.cast(),
        };
        let mut array = Array { start, len: 0, room: len };
        for i in 0..len {
            // SAFETY: i < len, and the place is not initialised yet.
            unsafe { array.start.as_ptr().add(i).write(item) };
        }
        array.len = len;
        Some(array)
    }

    fn with_room(room: usize) -> Self {
        const { assert!(align_of::<T>() <= 16, "malloc(9) does not align that much") };
        let start = match room.checked_mul(size_of::<T>()) {
            None => out_of_memory(),
            Some(0) => NonNull::dangling(),
            Some(size) => allocate_bytes(size).cast(),
        };
        Array { start, len: 0, room }
    }
}

impl Array<u8> {
    /// `len` zero bytes. Sleeps.
    pub fn zeroed(len: usize) -> Self {
        let mut array = Self::with_room(len);
        // The allocation is zeroed, and any byte is a u8.
        array.len = len;
        array
    }
}

impl<T> Deref for Array<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        // SAFETY: `len` elements from `start` are initialised and owned by
        // self, which is borrowed for as long as the slice.
        unsafe { core::slice::from_raw_parts(self.start.as_ptr(), self.len) }
    }
}

impl<T> DerefMut for Array<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        // SAFETY: as for deref, and self is borrowed exclusively.
        unsafe { core::slice::from_raw_parts_mut(self.start.as_ptr(), self.len) }
    }
}

impl<T> Drop for Array<T> {
    fn drop(&mut self) {
        let size = self.room.wrapping_mul(size_of::<T>());
        // SAFETY: the elements are initialised and nobody uses them after.
        unsafe { ptr::drop_in_place(ptr::from_mut::<[T]>(self)) };
        if size != 0 {
            // SAFETY: a non-zero size came from `allocate_bytes`.
            unsafe { free(self.start) };
        }
    }
}

// SAFETY: an Array owns its elements, as a Box of a slice does.
unsafe impl<T: Send> Send for Array<T> {}
// SAFETY: a shared Array only gives out shared elements.
unsafe impl<T: Sync> Sync for Array<T> {}
