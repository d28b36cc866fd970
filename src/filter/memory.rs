// SPDX-License-Identifier: BSD-2-Clause
//! Where a compiled program is kept: a kernel has a heap of its own.

use core::ops::DerefMut;

/// A heap.
pub trait Memory {
    /// A fixed number of `T`.
    type Array<T: Copy>: DerefMut<Target = [T]>;

    /// `len` times `item`, or `None` if there is no memory for it.
    fn array<T: Copy>(len: usize, item: T) -> Option<Self::Array<T>>;
}

/// The heap of `alloc`.
#[cfg(any(test, feature = "alloc"))]
#[derive(Debug)]
pub enum Heap {}

#[cfg(any(test, feature = "alloc"))]
impl Memory for Heap {
    type Array<T: Copy> = alloc::boxed::Box<[T]>;

    fn array<T: Copy>(len: usize, item: T) -> Option<Self::Array<T>> {
        let mut items = alloc::vec::Vec::new();
        items.try_reserve_exact(len).ok()?;
        items.resize(len, item);
        Some(items.into_boxed_slice())
    }
}
