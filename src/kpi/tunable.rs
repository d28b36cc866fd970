// SPDX-License-Identifier: BSD-2-Clause
//! Settings of the administrator: sysctl `net.bpfrs.*`.

use bpfrs_sys as sys;

fn read(which: sys::bpfrs_tunable::Type) -> u32 {
    // SAFETY: reads an integer; allowed in any context.
    unsafe { sys::bpfrs_kpi_tunable(which) }
}

/// Bytes of a buffer unless BIOCSBLEN says otherwise.
pub fn bufsize() -> u32 {
    read(sys::bpfrs_tunable::BPFRS_TUNABLE_BUFSIZE)
        .clamp(sys::bpfrs_const::BPFRS_BPF_MINBUFSIZE as u32, maxbufsize())
}

/// The most that BIOCSBLEN grants.
pub fn maxbufsize() -> u32 {
    read(sys::bpfrs_tunable::BPFRS_TUNABLE_MAXBUFSIZE)
        .max(sys::bpfrs_const::BPFRS_BPF_MINBUFSIZE as u32)
}

/// Whether filters are compiled to machine code when they are set.
pub fn jit() -> bool {
    read(sys::bpfrs_tunable::BPFRS_TUNABLE_JIT) != 0
}

/// Whether a descriptor gets no packets until it has set a filter.
pub fn optimize_writers() -> bool {
    read(sys::bpfrs_tunable::BPFRS_TUNABLE_OPTIMIZE_WRITERS) != 0
}

/// Whether BIOCSETBUFMODE grants zero-copy buffers.
pub fn zerocopy_enable() -> bool {
    read(sys::bpfrs_tunable::BPFRS_TUNABLE_ZEROCOPY_ENABLE) != 0
}

/// The most instructions a program may have.
pub fn maxinsns() -> u32 {
    read(sys::bpfrs_tunable::BPFRS_TUNABLE_MAXINSNS)
}
