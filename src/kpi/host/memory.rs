// SPDX-License-Identifier: BSD-2-Clause
//! malloc(9): every allocation is known, and freed memory is watched: by its
//! contents here, by the MMU in `memguard`.

use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::collections::{HashMap, VecDeque};
use std::ffi::c_void;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use super::{code, guard, memguard, thread};

/// What freed memory is filled with.
const POISON: u8 = 0xde;
/// A model checker watches uses itself, through what is in the memory.
const POISONS: bool = !cfg!(any(bpfrs_loom, bpfrs_shuttle));

struct Heap {
    live: Option<HashMap<usize, Layout>>,
    /// Freed, poisoned and not given back yet, oldest first.
    quarantine: VecDeque<(usize, Layout)>,
    /// How many may be there. None under what watches better.
    room: usize,
}

static HEAP: Mutex<Heap> = Mutex::new(Heap {
    live: None,
    quarantine: VecDeque::new(),
    room: if cfg!(any(miri, bpfrs_sanitizer)) { 0 } else { 256 },
});

impl Heap {
    /// Gives memory back until `room` freed allocations are left.
    fn shrink(&mut self, room: usize) {
        while self.quarantine.len() > room
            && let Some((address, layout)) = self.quarantine.pop_front()
        {
            check(address, layout);
            // SAFETY: allocated below with this layout; not live any more.
            unsafe { dealloc(std::ptr::with_exposed_provenance_mut(address), layout) };
        }
    }
}

/// Panics if freed memory was written to.
fn check(address: usize, layout: Layout) {
    // SAFETY: the allocation is in quarantine: ours, initialised by POISON.
    let memory = unsafe { super::bytes(std::ptr::with_exposed_provenance(address), layout.size()) };
    if POISONS && let Some(at) = memory.iter().position(|byte| *byte != POISON) {
        panic!("memory modified after free: byte {at} of {} at {address:#x}", layout.size());
    }
}

/// How many allocations are alive.
pub(super) fn live() -> usize {
    guard(&HEAP).live.as_ref().map_or(0, HashMap::len) + memguard::live() + code::live()
}

/// Panics if any freed memory was written to since.
pub fn check_freed() {
    for (address, layout) in &guard(&HEAP).quarantine {
        check(*address, *layout);
    }
}

/// How many freed allocations are kept to be watched; 0 leaves that to a
/// sanitizer.
pub fn set_quarantine(room: usize) {
    let mut heap = guard(&HEAP);
    heap.room = room;
    heap.shrink(room);
}

#[unsafe(no_mangle)]
extern "C" fn bpfrs_kpi_malloc(size: usize) -> *mut c_void {
    thread::may_sleep("malloc(9) with M_WAITOK");
    allocate(size)
}

fn allocate(size: usize) -> *mut c_void {
    if memguard::is_on() {
        return memguard::malloc(size);
    }
    let layout = Layout::from_size_align(size.max(1), 16).expect("a sane size");
    // SAFETY: the layout is not empty.
    let memory = unsafe { alloc_zeroed(layout) };
    assert!(!memory.is_null(), "the host is out of memory");
    let address = memory.expose_provenance();
    guard(&HEAP).live.get_or_insert_default().insert(address, layout);
    memory.cast()
}

static SHORT: AtomicBool = AtomicBool::new(false);

/// Whether malloc(9) with `M_NOWAIT` finds no memory.
pub fn set_short(short: bool) {
    SHORT.store(short, Ordering::Relaxed);
}

#[unsafe(no_mangle)]
extern "C" fn bpfrs_kpi_malloc_nowait(size: usize) -> *mut c_void {
    if SHORT.load(Ordering::Relaxed) { std::ptr::null_mut() } else { allocate(size) }
}

#[unsafe(no_mangle)]
extern "C" fn bpfrs_kpi_free(memory: *mut c_void) {
    if memory.is_null() || memguard::free(memory) {
        return;
    }
    let mut heap = guard(&HEAP);
    let address = memory.addr();
    let Some(layout) = heap.live.as_mut().and_then(|live| live.remove(&address)) else {
        panic!("free(9) of {address:#x}, which is not allocated");
    };
    let room = heap.room;
    if room == 0 {
        drop(heap);
        // SAFETY: it was live, with this layout, and nobody may use it any more.
        return unsafe { dealloc(memory.cast(), layout) };
    }
    if POISONS {
        // SAFETY: as above.
        unsafe { memory.cast::<u8>().write_bytes(POISON, layout.size()) };
    }
    heap.quarantine.push_back((address, layout));
    heap.shrink(room);
}
