// SPDX-License-Identifier: BSD-2-Clause
//! What the kernel knows of the driver: its own counters and its memory.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use core::time::Duration;

use bpfrs_vm_protocol::{Driver, Memory};
use zerocopy::{FromBytes, KnownLayout};

use crate::bpf::name_of;
use crate::sys::{self, Errno, Result};

/// A sysctl that is one 64-bit number (shorter ones are widened).
pub(crate) fn number(name: &str) -> Result<u64> {
    let value = sys::sysctl(name)?;
    let mut bytes = [0; 8];
    for (to, from) in bytes.iter_mut().zip(&value) {
        *to = *from;
    }
    Ok(u64::from_ne_bytes(bytes))
}

/// The driver's counters under `prefix` (net.bpfrs, net.bpflegacy).
pub(crate) fn counters(prefix: &str) -> Result<Driver> {
    let counter = |name: &str| number(&format!("{prefix}.{name}"));
    Ok(Driver {
        opens: counter("opens")?,
        live: counter("live")?,
        descriptors: counter("descriptors")?,
        zero: counter("closes.zero")?,
        one: counter("closes.one")?,
        two: counter("closes.two")?,
        more: counter("closes.more")?,
        orphan: counter("closes.orphan")?,
        revokes: counter("revokes")?,
    })
}

/// Allocations and bytes in use of every malloc(9) type.
pub(crate) fn malloc_types() -> Result<BTreeMap<String, (u64, u64)>> {
    // sys/malloc.h, "malloc type stream": a header, then for each type its name and one block of
    // statistics for each CPU that the kernel could have.
    #[derive(FromBytes, KnownLayout)]
    #[repr(C)]
    struct Stream {
        version: u32,
        cpus: u32,
        count: u32,
        _pad: u32,
    }
    #[derive(FromBytes, KnownLayout)]
    #[repr(C)]
    struct Statistics {
        allocated: u64,
        freed: u64,
        allocations: u64,
        frees: u64,
        _more: [u64; 4],
    }
    let raw = sys::sysctl("kern.malloc_stats")?;
    let stream: Stream = sys::parse(&raw).ok_or(Errno(libc::EINVAL))?;
    if stream.version != 1 {
        return Err(Errno(libc::EINVAL));
    }
    let cpus = stream.cpus as usize;
    let mut types = BTreeMap::new();
    for entry in raw.get(16..).unwrap_or_default().chunks_exact(32 + 64 * cpus) {
        let (name, per_cpu) = entry.split_at(32);
        let (mut allocations, mut bytes) = (0_u64, 0_u64);
        for block in per_cpu.chunks_exact(64) {
            let Some(block): Option<Statistics> = sys::parse(block) else { continue };
            // What one CPU allocates another may free: only the sum is meaningful.
            allocations = allocations.wrapping_add(block.allocations).wrapping_sub(block.frees);
            bytes = bytes.wrapping_add(block.allocated).wrapping_sub(block.freed);
        }
        types.insert(name_of(name), (allocations, bytes));
    }
    Ok(types)
}

/// Kept with threads that may be used again: there are as many as once ran at a time.
const OF_THREADS: &str = "umtx";

/// malloc(9) types of which more than `limit` allocations were added since `before`, as text.
pub(crate) fn grown(before: &BTreeMap<String, (u64, u64)>, limit: u64) -> Result<String> {
    let mut after = malloc_types()?;
    after.remove(OF_THREADS);
    let more = |(name, (now, _)): (&String, &(u64, u64))| {
        let more = now.saturating_sub(before.get(name).map_or(0, |(then, _)| *then));
        (more > limit.max(10) && *now < u64::MAX / 2).then(|| format!(" {name} +{more}"))
    };
    Ok(after.iter().filter_map(more).collect())
}

/// Memory in use of one type, and what memguard holds.
pub(crate) fn memory(malloc_type: &str) -> Memory {
    let (allocations, bytes) =
        malloc_types().ok().and_then(|t| t.get(malloc_type).copied()).unwrap_or_default();
    Memory { allocations, bytes, guarded: number("vm.memguard.mapused").unwrap_or(0) }
}

/// Waits until `condition` holds, but not longer than `limit`; whether it came to hold.
pub(crate) fn eventually(limit: Duration, mut condition: impl FnMut() -> bool) -> bool {
    let deadline = sys::now() + limit;
    loop {
        if condition() {
            return true;
        }
        if sys::now() >= deadline {
            return false;
        }
        sys::sleep(Duration::from_millis(1));
    }
}
