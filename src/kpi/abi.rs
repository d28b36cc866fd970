// SPDX-License-Identifier: BSD-2-Clause
//! The user ABI of `<net/bpf.h>`: C names, C layouts.
//!
//! `sys/abi.c` asserts the same sizes against the headers of each release.

use core::mem::{offset_of, size_of};

pub use bpfrs_sys::{
    bpf_dltlist, bpf_hdr, bpf_insn, bpf_program, bpf_stat, bpf_version, bpf_xhdr, bpf_zbuf,
    bpf_zbuf_header, bpfrs_dltlist32 as bpf_dltlist32, bpfrs_hdr32 as bpf_hdr32,
    bpfrs_iflist as bpf_iflist, bpfrs_iflist32 as bpf_iflist32, bpfrs_ifreq as ifreq,
    bpfrs_program32 as bpf_program32, bpfrs_timeval32 as timeval32, bpfrs_xbpf_d as xbpf_d,
    timeval,
};

const _: () = {
    assert!(size_of::<bpf_insn>() == 8);
    assert!(offset_of!(bpf_insn, k) == 4);
    assert!(size_of::<bpf_program>() == 16);
    assert!(offset_of!(bpf_program, bf_insns) == 8);
    assert!(size_of::<bpf_stat>() == 8);
    assert!(size_of::<bpf_version>() == 4);
    assert!(size_of::<bpf_dltlist>() == 16);
    assert!(offset_of!(bpf_dltlist, bfl_list) == 8);
    assert!(size_of::<bpf_iflist>() == 16);
    assert!(offset_of!(bpf_iflist, bi_ubuf) == 8);
    assert!(size_of::<bpf_hdr>() == 32);
    assert!(offset_of!(bpf_hdr, bh_caplen) == 16);
    assert!(offset_of!(bpf_hdr, bh_datalen) == 20);
    assert!(offset_of!(bpf_hdr, bh_hdrlen) == 24);
    assert!(size_of::<bpf_xhdr>() == 32);
    assert!(offset_of!(bpf_xhdr, bh_caplen) == 16);
    assert!(offset_of!(bpf_xhdr, bh_datalen) == 20);
    assert!(offset_of!(bpf_xhdr, bh_hdrlen) == 24);
    assert!(size_of::<ifreq>() == 32);
    assert!(offset_of!(ifreq, ifr_name) == 0);
    assert!(size_of::<timeval>() == 16);
    assert!(size_of::<bpf_hdr32>() == 20);
    assert!(offset_of!(bpf_hdr32, bh_caplen) == 8);
    assert!(offset_of!(bpf_hdr32, bh_datalen) == 12);
    assert!(offset_of!(bpf_hdr32, bh_hdrlen) == 16);
    assert!(size_of::<bpf_program32>() == 8);
    assert!(size_of::<bpf_dltlist32>() == 8);
    assert!(size_of::<bpf_iflist32>() == 12);
    assert!(size_of::<timeval32>() == 8);
    assert!(size_of::<bpf_zbuf>() == 24);
    assert!(size_of::<bpf_zbuf_header>() == 32);
    assert!(size_of::<xbpf_d>() == 168);
};

/// Data without meaning of its own: any bytes of the right length are one.
///
/// # Safety
/// Every bit pattern is a valid value, and there is no padding to leak.
pub unsafe trait Plain: Copy {}

macro_rules! plain {
    ($($name:ty,)*) => {
        $(
            // SAFETY: integers, and structs and unions of them and of raw
            // pointers; what padding they have is written by memcpy only.
            unsafe impl Plain for $name {}
        )*
    };
}

plain! {
    u8, u32, i32, usize,
    bpf_insn, bpf_program, bpf_stat, bpf_version, bpf_dltlist, bpf_iflist, bpf_zbuf, ifreq,
    timeval, bpf_program32, bpf_dltlist32, bpf_iflist32, timeval32,
}
