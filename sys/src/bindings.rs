// SPDX-License-Identifier: BSD-2-Clause
// Generated from sys/kpi.h by `make bindings`: do not edit.

pub const BPFRS_OUTPUT_HDRCMPLT: i32 = 1;
pub const BPFRS_OUTPUT_FEEDBACK: i32 = 2;
pub const BPFRS_OUTPUT_ONCE: i32 = 4;
pub const BPFRS_IFNAMSIZ: i32 = 16;
pub const BPFRS_MAXPAGES: i32 = 512;
pub const BPFRS_MAXUNITS: i32 = 256;
pub const BPFRS_EVFILT_READ: i32 = -1;
pub const BPFRS_EVFILT_WRITE: i32 = -2;
pub const BPFRS_KNOTE_QUIET: i32 = 0;
pub const BPFRS_KNOTE_READY: i32 = 1;
pub const BPFRS_KNOTE_EOF: i32 = 2;
pub const BPFRS_COMPAT32_UNKNOWN: i32 = 0;
pub const BPFRS_COMPAT32_NO: i32 = 1;
pub const BPFRS_COMPAT32_YES: i32 = 2;
pub const BPFRS_TIME_PRECISE: i32 = 0;
pub const BPFRS_TIME_FAST: i32 = 1;
#[repr(C)]
#[derive(Debug)]
pub struct bpfrs_if {
    _unused: [u8; 0],
}
#[repr(C)]
#[derive(Debug)]
pub struct bpfrs_monitor {
    _unused: [u8; 0],
}
#[repr(C)]
#[derive(Debug)]
pub struct bpfrs_pages {
    _unused: [u8; 0],
}
#[repr(C)]
#[derive(Debug)]
pub struct cdev {
    _unused: [u8; 0],
}
#[repr(C)]
#[derive(Debug)]
pub struct knote {
    _unused: [u8; 0],
}
#[repr(C)]
#[derive(Debug)]
pub struct mbuf {
    _unused: [u8; 0],
}
#[repr(C)]
#[derive(Debug)]
pub struct uio {
    _unused: [u8; 0],
}
#[repr(C)]
#[derive(Debug)]
pub struct vnode {
    _unused: [u8; 0],
}
pub type __uint32_t = cty::c_uint;
pub type __int64_t = cty::c_long;
pub type __uint64_t = cty::c_ulong;
pub type __time_t = __int64_t;
pub type __suseconds_t = cty::c_long;
pub type u_char = cty::c_uchar;
pub type u_short = cty::c_ushort;
pub type u_int = cty::c_uint;
pub type u_int32_t = __uint32_t;
pub type u_int64_t = __uint64_t;
pub type suseconds_t = __suseconds_t;
pub type time_t = __time_t;
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct timeval {
    pub tv_sec: time_t,
    pub tv_usec: suseconds_t,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of timeval"][::core::mem::size_of::<timeval>() - 16usize];
    ["Alignment of timeval"][::core::mem::align_of::<timeval>() - 8usize];
    ["Offset of field: timeval::tv_sec"][::core::mem::offset_of!(timeval, tv_sec) - 0usize];
    ["Offset of field: timeval::tv_usec"][::core::mem::offset_of!(timeval, tv_usec) - 8usize];
};
pub type bpf_u_int32 = u_int32_t;
pub type bpf_int64 = i64;
pub type bpf_u_int64 = u_int64_t;
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct bpf_program {
    pub bf_len: u_int,
    pub bf_insns: *mut bpf_insn,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of bpf_program"][::core::mem::size_of::<bpf_program>() - 16usize];
    ["Alignment of bpf_program"][::core::mem::align_of::<bpf_program>() - 8usize];
    ["Offset of field: bpf_program::bf_len"][::core::mem::offset_of!(bpf_program, bf_len) - 0usize];
    ["Offset of field: bpf_program::bf_insns"]
        [::core::mem::offset_of!(bpf_program, bf_insns) - 8usize];
};
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct bpf_stat {
    pub bs_recv: u_int,
    pub bs_drop: u_int,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of bpf_stat"][::core::mem::size_of::<bpf_stat>() - 8usize];
    ["Alignment of bpf_stat"][::core::mem::align_of::<bpf_stat>() - 4usize];
    ["Offset of field: bpf_stat::bs_recv"][::core::mem::offset_of!(bpf_stat, bs_recv) - 0usize];
    ["Offset of field: bpf_stat::bs_drop"][::core::mem::offset_of!(bpf_stat, bs_drop) - 4usize];
};
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct bpf_version {
    pub bv_major: u_short,
    pub bv_minor: u_short,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of bpf_version"][::core::mem::size_of::<bpf_version>() - 4usize];
    ["Alignment of bpf_version"][::core::mem::align_of::<bpf_version>() - 2usize];
    ["Offset of field: bpf_version::bv_major"]
        [::core::mem::offset_of!(bpf_version, bv_major) - 0usize];
    ["Offset of field: bpf_version::bv_minor"]
        [::core::mem::offset_of!(bpf_version, bv_minor) - 2usize];
};
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct bpf_zbuf {
    pub bz_bufa: *mut cty::c_void,
    pub bz_bufb: *mut cty::c_void,
    pub bz_buflen: usize,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of bpf_zbuf"][::core::mem::size_of::<bpf_zbuf>() - 24usize];
    ["Alignment of bpf_zbuf"][::core::mem::align_of::<bpf_zbuf>() - 8usize];
    ["Offset of field: bpf_zbuf::bz_bufa"][::core::mem::offset_of!(bpf_zbuf, bz_bufa) - 0usize];
    ["Offset of field: bpf_zbuf::bz_bufb"][::core::mem::offset_of!(bpf_zbuf, bz_bufb) - 8usize];
    ["Offset of field: bpf_zbuf::bz_buflen"]
        [::core::mem::offset_of!(bpf_zbuf, bz_buflen) - 16usize];
};
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct bpf_ts {
    pub bt_sec: bpf_int64,
    pub bt_frac: bpf_u_int64,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of bpf_ts"][::core::mem::size_of::<bpf_ts>() - 16usize];
    ["Alignment of bpf_ts"][::core::mem::align_of::<bpf_ts>() - 8usize];
    ["Offset of field: bpf_ts::bt_sec"][::core::mem::offset_of!(bpf_ts, bt_sec) - 0usize];
    ["Offset of field: bpf_ts::bt_frac"][::core::mem::offset_of!(bpf_ts, bt_frac) - 8usize];
};
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct bpf_xhdr {
    pub bh_tstamp: bpf_ts,
    pub bh_caplen: bpf_u_int32,
    pub bh_datalen: bpf_u_int32,
    pub bh_hdrlen: u_short,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of bpf_xhdr"][::core::mem::size_of::<bpf_xhdr>() - 32usize];
    ["Alignment of bpf_xhdr"][::core::mem::align_of::<bpf_xhdr>() - 8usize];
    ["Offset of field: bpf_xhdr::bh_tstamp"][::core::mem::offset_of!(bpf_xhdr, bh_tstamp) - 0usize];
    ["Offset of field: bpf_xhdr::bh_caplen"]
        [::core::mem::offset_of!(bpf_xhdr, bh_caplen) - 16usize];
    ["Offset of field: bpf_xhdr::bh_datalen"]
        [::core::mem::offset_of!(bpf_xhdr, bh_datalen) - 20usize];
    ["Offset of field: bpf_xhdr::bh_hdrlen"]
        [::core::mem::offset_of!(bpf_xhdr, bh_hdrlen) - 24usize];
};
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct bpf_hdr {
    pub bh_tstamp: timeval,
    pub bh_caplen: bpf_u_int32,
    pub bh_datalen: bpf_u_int32,
    pub bh_hdrlen: u_short,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of bpf_hdr"][::core::mem::size_of::<bpf_hdr>() - 32usize];
    ["Alignment of bpf_hdr"][::core::mem::align_of::<bpf_hdr>() - 8usize];
    ["Offset of field: bpf_hdr::bh_tstamp"][::core::mem::offset_of!(bpf_hdr, bh_tstamp) - 0usize];
    ["Offset of field: bpf_hdr::bh_caplen"][::core::mem::offset_of!(bpf_hdr, bh_caplen) - 16usize];
    ["Offset of field: bpf_hdr::bh_datalen"]
        [::core::mem::offset_of!(bpf_hdr, bh_datalen) - 20usize];
    ["Offset of field: bpf_hdr::bh_hdrlen"][::core::mem::offset_of!(bpf_hdr, bh_hdrlen) - 24usize];
};
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct bpf_zbuf_header {
    pub bzh_kernel_gen: u_int,
    pub bzh_kernel_len: u_int,
    pub bzh_user_gen: u_int,
    pub _bzh_pad: [u_int; 5usize],
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of bpf_zbuf_header"][::core::mem::size_of::<bpf_zbuf_header>() - 32usize];
    ["Alignment of bpf_zbuf_header"][::core::mem::align_of::<bpf_zbuf_header>() - 4usize];
    ["Offset of field: bpf_zbuf_header::bzh_kernel_gen"]
        [::core::mem::offset_of!(bpf_zbuf_header, bzh_kernel_gen) - 0usize];
    ["Offset of field: bpf_zbuf_header::bzh_kernel_len"]
        [::core::mem::offset_of!(bpf_zbuf_header, bzh_kernel_len) - 4usize];
    ["Offset of field: bpf_zbuf_header::bzh_user_gen"]
        [::core::mem::offset_of!(bpf_zbuf_header, bzh_user_gen) - 8usize];
    ["Offset of field: bpf_zbuf_header::_bzh_pad"]
        [::core::mem::offset_of!(bpf_zbuf_header, _bzh_pad) - 12usize];
};
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct bpf_insn {
    pub code: u_short,
    pub jt: u_char,
    pub jf: u_char,
    pub k: bpf_u_int32,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of bpf_insn"][::core::mem::size_of::<bpf_insn>() - 8usize];
    ["Alignment of bpf_insn"][::core::mem::align_of::<bpf_insn>() - 4usize];
    ["Offset of field: bpf_insn::code"][::core::mem::offset_of!(bpf_insn, code) - 0usize];
    ["Offset of field: bpf_insn::jt"][::core::mem::offset_of!(bpf_insn, jt) - 2usize];
    ["Offset of field: bpf_insn::jf"][::core::mem::offset_of!(bpf_insn, jf) - 3usize];
    ["Offset of field: bpf_insn::k"][::core::mem::offset_of!(bpf_insn, k) - 4usize];
};
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct bpf_dltlist {
    pub bfl_len: u_int,
    pub bfl_list: *mut u_int,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of bpf_dltlist"][::core::mem::size_of::<bpf_dltlist>() - 16usize];
    ["Alignment of bpf_dltlist"][::core::mem::align_of::<bpf_dltlist>() - 8usize];
    ["Offset of field: bpf_dltlist::bfl_len"]
        [::core::mem::offset_of!(bpf_dltlist, bfl_len) - 0usize];
    ["Offset of field: bpf_dltlist::bfl_list"]
        [::core::mem::offset_of!(bpf_dltlist, bfl_list) - 8usize];
};
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct bpfrs_epoch_tracker {
    pub et_opaque: [u64; 8usize],
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of bpfrs_epoch_tracker"][::core::mem::size_of::<bpfrs_epoch_tracker>() - 64usize];
    ["Alignment of bpfrs_epoch_tracker"][::core::mem::align_of::<bpfrs_epoch_tracker>() - 8usize];
    ["Offset of field: bpfrs_epoch_tracker::et_opaque"]
        [::core::mem::offset_of!(bpfrs_epoch_tracker, et_opaque) - 0usize];
};
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct bpfrs_epoch_context {
    pub ec_opaque: [*mut cty::c_void; 2usize],
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of bpfrs_epoch_context"][::core::mem::size_of::<bpfrs_epoch_context>() - 16usize];
    ["Alignment of bpfrs_epoch_context"][::core::mem::align_of::<bpfrs_epoch_context>() - 8usize];
    ["Offset of field: bpfrs_epoch_context::ec_opaque"]
        [::core::mem::offset_of!(bpfrs_epoch_context, ec_opaque) - 0usize];
};
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct bpfrs_bintime {
    pub bt_sec: i64,
    pub bt_frac: u64,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of bpfrs_bintime"][::core::mem::size_of::<bpfrs_bintime>() - 16usize];
    ["Alignment of bpfrs_bintime"][::core::mem::align_of::<bpfrs_bintime>() - 8usize];
    ["Offset of field: bpfrs_bintime::bt_sec"]
        [::core::mem::offset_of!(bpfrs_bintime, bt_sec) - 0usize];
    ["Offset of field: bpfrs_bintime::bt_frac"]
        [::core::mem::offset_of!(bpfrs_bintime, bt_frac) - 8usize];
};
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct bpfrs_mbuf_time {
    pub mt_uptime: bpfrs_bintime,
    pub mt_boottime: bpfrs_bintime,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of bpfrs_mbuf_time"][::core::mem::size_of::<bpfrs_mbuf_time>() - 32usize];
    ["Alignment of bpfrs_mbuf_time"][::core::mem::align_of::<bpfrs_mbuf_time>() - 8usize];
    ["Offset of field: bpfrs_mbuf_time::mt_uptime"]
        [::core::mem::offset_of!(bpfrs_mbuf_time, mt_uptime) - 0usize];
    ["Offset of field: bpfrs_mbuf_time::mt_boottime"]
        [::core::mem::offset_of!(bpfrs_mbuf_time, mt_boottime) - 16usize];
};
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct bpfrs_mbuf_look {
    pub ml_data: *const cty::c_void,
    pub ml_first: usize,
    pub ml_length: usize,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of bpfrs_mbuf_look"][::core::mem::size_of::<bpfrs_mbuf_look>() - 24usize];
    ["Alignment of bpfrs_mbuf_look"][::core::mem::align_of::<bpfrs_mbuf_look>() - 8usize];
    ["Offset of field: bpfrs_mbuf_look::ml_data"]
        [::core::mem::offset_of!(bpfrs_mbuf_look, ml_data) - 0usize];
    ["Offset of field: bpfrs_mbuf_look::ml_first"]
        [::core::mem::offset_of!(bpfrs_mbuf_look, ml_first) - 8usize];
    ["Offset of field: bpfrs_mbuf_look::ml_length"]
        [::core::mem::offset_of!(bpfrs_mbuf_look, ml_length) - 16usize];
};
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct bpfrs_tap_info {
    pub ti_dlt: u32,
    pub ti_hdrlen: u32,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of bpfrs_tap_info"][::core::mem::size_of::<bpfrs_tap_info>() - 8usize];
    ["Alignment of bpfrs_tap_info"][::core::mem::align_of::<bpfrs_tap_info>() - 4usize];
    ["Offset of field: bpfrs_tap_info::ti_dlt"]
        [::core::mem::offset_of!(bpfrs_tap_info, ti_dlt) - 0usize];
    ["Offset of field: bpfrs_tap_info::ti_hdrlen"]
        [::core::mem::offset_of!(bpfrs_tap_info, ti_hdrlen) - 4usize];
};
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct bpfrs_output {
    pub o_dlt: u32,
    pub o_hdrlen: u32,
    pub o_flags: u32,
    pub o_pcp: u32,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of bpfrs_output"][::core::mem::size_of::<bpfrs_output>() - 16usize];
    ["Alignment of bpfrs_output"][::core::mem::align_of::<bpfrs_output>() - 4usize];
    ["Offset of field: bpfrs_output::o_dlt"][::core::mem::offset_of!(bpfrs_output, o_dlt) - 0usize];
    ["Offset of field: bpfrs_output::o_hdrlen"]
        [::core::mem::offset_of!(bpfrs_output, o_hdrlen) - 4usize];
    ["Offset of field: bpfrs_output::o_flags"]
        [::core::mem::offset_of!(bpfrs_output, o_flags) - 8usize];
    ["Offset of field: bpfrs_output::o_pcp"]
        [::core::mem::offset_of!(bpfrs_output, o_pcp) - 12usize];
};
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct bpfrs_ifreq {
    pub ifr_name: [cty::c_char; 16usize],
    pub ifr_rest: [cty::c_char; 16usize],
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of bpfrs_ifreq"][::core::mem::size_of::<bpfrs_ifreq>() - 32usize];
    ["Alignment of bpfrs_ifreq"][::core::mem::align_of::<bpfrs_ifreq>() - 1usize];
    ["Offset of field: bpfrs_ifreq::ifr_name"]
        [::core::mem::offset_of!(bpfrs_ifreq, ifr_name) - 0usize];
    ["Offset of field: bpfrs_ifreq::ifr_rest"]
        [::core::mem::offset_of!(bpfrs_ifreq, ifr_rest) - 16usize];
};
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct bpfrs_iflist {
    pub bi_size: u32,
    pub bi_count: u32,
    pub bi_ubuf: *mut cty::c_void,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of bpfrs_iflist"][::core::mem::size_of::<bpfrs_iflist>() - 16usize];
    ["Alignment of bpfrs_iflist"][::core::mem::align_of::<bpfrs_iflist>() - 8usize];
    ["Offset of field: bpfrs_iflist::bi_size"]
        [::core::mem::offset_of!(bpfrs_iflist, bi_size) - 0usize];
    ["Offset of field: bpfrs_iflist::bi_count"]
        [::core::mem::offset_of!(bpfrs_iflist, bi_count) - 4usize];
    ["Offset of field: bpfrs_iflist::bi_ubuf"]
        [::core::mem::offset_of!(bpfrs_iflist, bi_ubuf) - 8usize];
};
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct bpfrs_timeval32 {
    pub tv_sec: i32,
    pub tv_usec: i32,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of bpfrs_timeval32"][::core::mem::size_of::<bpfrs_timeval32>() - 8usize];
    ["Alignment of bpfrs_timeval32"][::core::mem::align_of::<bpfrs_timeval32>() - 4usize];
    ["Offset of field: bpfrs_timeval32::tv_sec"]
        [::core::mem::offset_of!(bpfrs_timeval32, tv_sec) - 0usize];
    ["Offset of field: bpfrs_timeval32::tv_usec"]
        [::core::mem::offset_of!(bpfrs_timeval32, tv_usec) - 4usize];
};
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct bpfrs_program32 {
    pub bf_len: u32,
    pub bf_insns: u32,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of bpfrs_program32"][::core::mem::size_of::<bpfrs_program32>() - 8usize];
    ["Alignment of bpfrs_program32"][::core::mem::align_of::<bpfrs_program32>() - 4usize];
    ["Offset of field: bpfrs_program32::bf_len"]
        [::core::mem::offset_of!(bpfrs_program32, bf_len) - 0usize];
    ["Offset of field: bpfrs_program32::bf_insns"]
        [::core::mem::offset_of!(bpfrs_program32, bf_insns) - 4usize];
};
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct bpfrs_dltlist32 {
    pub bfl_len: u32,
    pub bfl_list: u32,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of bpfrs_dltlist32"][::core::mem::size_of::<bpfrs_dltlist32>() - 8usize];
    ["Alignment of bpfrs_dltlist32"][::core::mem::align_of::<bpfrs_dltlist32>() - 4usize];
    ["Offset of field: bpfrs_dltlist32::bfl_len"]
        [::core::mem::offset_of!(bpfrs_dltlist32, bfl_len) - 0usize];
    ["Offset of field: bpfrs_dltlist32::bfl_list"]
        [::core::mem::offset_of!(bpfrs_dltlist32, bfl_list) - 4usize];
};
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct bpfrs_iflist32 {
    pub bi_size: u32,
    pub bi_count: u32,
    pub bi_ubuf: u32,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of bpfrs_iflist32"][::core::mem::size_of::<bpfrs_iflist32>() - 12usize];
    ["Alignment of bpfrs_iflist32"][::core::mem::align_of::<bpfrs_iflist32>() - 4usize];
    ["Offset of field: bpfrs_iflist32::bi_size"]
        [::core::mem::offset_of!(bpfrs_iflist32, bi_size) - 0usize];
    ["Offset of field: bpfrs_iflist32::bi_count"]
        [::core::mem::offset_of!(bpfrs_iflist32, bi_count) - 4usize];
    ["Offset of field: bpfrs_iflist32::bi_ubuf"]
        [::core::mem::offset_of!(bpfrs_iflist32, bi_ubuf) - 8usize];
};
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct bpfrs_hdr32 {
    pub bh_tstamp: bpfrs_timeval32,
    pub bh_caplen: u32,
    pub bh_datalen: u32,
    pub bh_hdrlen: u16,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of bpfrs_hdr32"][::core::mem::size_of::<bpfrs_hdr32>() - 20usize];
    ["Alignment of bpfrs_hdr32"][::core::mem::align_of::<bpfrs_hdr32>() - 4usize];
    ["Offset of field: bpfrs_hdr32::bh_tstamp"]
        [::core::mem::offset_of!(bpfrs_hdr32, bh_tstamp) - 0usize];
    ["Offset of field: bpfrs_hdr32::bh_caplen"]
        [::core::mem::offset_of!(bpfrs_hdr32, bh_caplen) - 8usize];
    ["Offset of field: bpfrs_hdr32::bh_datalen"]
        [::core::mem::offset_of!(bpfrs_hdr32, bh_datalen) - 12usize];
    ["Offset of field: bpfrs_hdr32::bh_hdrlen"]
        [::core::mem::offset_of!(bpfrs_hdr32, bh_hdrlen) - 16usize];
};
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct bpfrs_xbpf_d {
    pub bd_structsize: u32,
    pub bd_promisc: u8,
    pub bd_immediate: u8,
    pub bd_pad: [u8; 6usize],
    pub bd_hdrcmplt: i32,
    pub bd_direction: i32,
    pub bd_feedback: i32,
    pub bd_async: i32,
    pub bd_pad1: u32,
    pub bd_rcount: u64,
    pub bd_dcount: u64,
    pub bd_fcount: u64,
    pub bd_sig: i32,
    pub bd_slen: i32,
    pub bd_hlen: i32,
    pub bd_bufsize: i32,
    pub bd_pid: i32,
    pub bd_ifname: [cty::c_char; 16usize],
    pub bd_locked: i32,
    pub bd_wcount: u64,
    pub bd_wfcount: u64,
    pub bd_wdcount: u64,
    pub bd_zcopy: u64,
    pub bd_bufmode: i32,
    pub bd_pad2: u32,
    pub bd_copying: u64,
    pub bd_detached: u64,
    pub bd_cut: u64,
    pub bd_spare: u64,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of bpfrs_xbpf_d"][::core::mem::size_of::<bpfrs_xbpf_d>() - 168usize];
    ["Alignment of bpfrs_xbpf_d"][::core::mem::align_of::<bpfrs_xbpf_d>() - 8usize];
    ["Offset of field: bpfrs_xbpf_d::bd_structsize"]
        [::core::mem::offset_of!(bpfrs_xbpf_d, bd_structsize) - 0usize];
    ["Offset of field: bpfrs_xbpf_d::bd_promisc"]
        [::core::mem::offset_of!(bpfrs_xbpf_d, bd_promisc) - 4usize];
    ["Offset of field: bpfrs_xbpf_d::bd_immediate"]
        [::core::mem::offset_of!(bpfrs_xbpf_d, bd_immediate) - 5usize];
    ["Offset of field: bpfrs_xbpf_d::bd_pad"]
        [::core::mem::offset_of!(bpfrs_xbpf_d, bd_pad) - 6usize];
    ["Offset of field: bpfrs_xbpf_d::bd_hdrcmplt"]
        [::core::mem::offset_of!(bpfrs_xbpf_d, bd_hdrcmplt) - 12usize];
    ["Offset of field: bpfrs_xbpf_d::bd_direction"]
        [::core::mem::offset_of!(bpfrs_xbpf_d, bd_direction) - 16usize];
    ["Offset of field: bpfrs_xbpf_d::bd_feedback"]
        [::core::mem::offset_of!(bpfrs_xbpf_d, bd_feedback) - 20usize];
    ["Offset of field: bpfrs_xbpf_d::bd_async"]
        [::core::mem::offset_of!(bpfrs_xbpf_d, bd_async) - 24usize];
    ["Offset of field: bpfrs_xbpf_d::bd_pad1"]
        [::core::mem::offset_of!(bpfrs_xbpf_d, bd_pad1) - 28usize];
    ["Offset of field: bpfrs_xbpf_d::bd_rcount"]
        [::core::mem::offset_of!(bpfrs_xbpf_d, bd_rcount) - 32usize];
    ["Offset of field: bpfrs_xbpf_d::bd_dcount"]
        [::core::mem::offset_of!(bpfrs_xbpf_d, bd_dcount) - 40usize];
    ["Offset of field: bpfrs_xbpf_d::bd_fcount"]
        [::core::mem::offset_of!(bpfrs_xbpf_d, bd_fcount) - 48usize];
    ["Offset of field: bpfrs_xbpf_d::bd_sig"]
        [::core::mem::offset_of!(bpfrs_xbpf_d, bd_sig) - 56usize];
    ["Offset of field: bpfrs_xbpf_d::bd_slen"]
        [::core::mem::offset_of!(bpfrs_xbpf_d, bd_slen) - 60usize];
    ["Offset of field: bpfrs_xbpf_d::bd_hlen"]
        [::core::mem::offset_of!(bpfrs_xbpf_d, bd_hlen) - 64usize];
    ["Offset of field: bpfrs_xbpf_d::bd_bufsize"]
        [::core::mem::offset_of!(bpfrs_xbpf_d, bd_bufsize) - 68usize];
    ["Offset of field: bpfrs_xbpf_d::bd_pid"]
        [::core::mem::offset_of!(bpfrs_xbpf_d, bd_pid) - 72usize];
    ["Offset of field: bpfrs_xbpf_d::bd_ifname"]
        [::core::mem::offset_of!(bpfrs_xbpf_d, bd_ifname) - 76usize];
    ["Offset of field: bpfrs_xbpf_d::bd_locked"]
        [::core::mem::offset_of!(bpfrs_xbpf_d, bd_locked) - 92usize];
    ["Offset of field: bpfrs_xbpf_d::bd_wcount"]
        [::core::mem::offset_of!(bpfrs_xbpf_d, bd_wcount) - 96usize];
    ["Offset of field: bpfrs_xbpf_d::bd_wfcount"]
        [::core::mem::offset_of!(bpfrs_xbpf_d, bd_wfcount) - 104usize];
    ["Offset of field: bpfrs_xbpf_d::bd_wdcount"]
        [::core::mem::offset_of!(bpfrs_xbpf_d, bd_wdcount) - 112usize];
    ["Offset of field: bpfrs_xbpf_d::bd_zcopy"]
        [::core::mem::offset_of!(bpfrs_xbpf_d, bd_zcopy) - 120usize];
    ["Offset of field: bpfrs_xbpf_d::bd_bufmode"]
        [::core::mem::offset_of!(bpfrs_xbpf_d, bd_bufmode) - 128usize];
    ["Offset of field: bpfrs_xbpf_d::bd_pad2"]
        [::core::mem::offset_of!(bpfrs_xbpf_d, bd_pad2) - 132usize];
    ["Offset of field: bpfrs_xbpf_d::bd_copying"]
        [::core::mem::offset_of!(bpfrs_xbpf_d, bd_copying) - 136usize];
    ["Offset of field: bpfrs_xbpf_d::bd_detached"]
        [::core::mem::offset_of!(bpfrs_xbpf_d, bd_detached) - 144usize];
    ["Offset of field: bpfrs_xbpf_d::bd_cut"]
        [::core::mem::offset_of!(bpfrs_xbpf_d, bd_cut) - 152usize];
    ["Offset of field: bpfrs_xbpf_d::bd_spare"]
        [::core::mem::offset_of!(bpfrs_xbpf_d, bd_spare) - 160usize];
};
pub mod bpfrs_ioc {
    #[allow(unused_imports)]
    use super::*;
    pub type Type = cty::c_ulong;
    pub const BPFRS_BIOCGBLEN: Type = 1074020966;
    pub const BPFRS_BIOCSBLEN: Type = 3221504614;
    pub const BPFRS_BIOCSETF: Type = 2148549223;
    pub const BPFRS_BIOCFLUSH: Type = 536887912;
    pub const BPFRS_BIOCPROMISC: Type = 536887913;
    pub const BPFRS_BIOCGDLT: Type = 1074020970;
    pub const BPFRS_BIOCGETIF: Type = 1075855979;
    pub const BPFRS_BIOCSETIF: Type = 2149597804;
    pub const BPFRS_BIOCSRTIMEOUT: Type = 2148549229;
    pub const BPFRS_BIOCGRTIMEOUT: Type = 1074807406;
    pub const BPFRS_BIOCGSTATS: Type = 1074283119;
    pub const BPFRS_BIOCIMMEDIATE: Type = 2147762800;
    pub const BPFRS_BIOCVERSION: Type = 1074020977;
    pub const BPFRS_BIOCGRSIG: Type = 1074020978;
    pub const BPFRS_BIOCSRSIG: Type = 2147762803;
    pub const BPFRS_BIOCGHDRCMPLT: Type = 1074020980;
    pub const BPFRS_BIOCSHDRCMPLT: Type = 2147762805;
    pub const BPFRS_BIOCGDIRECTION: Type = 1074020982;
    pub const BPFRS_BIOCSDIRECTION: Type = 2147762807;
    pub const BPFRS_BIOCSDLT: Type = 2147762808;
    pub const BPFRS_BIOCGDLTLIST: Type = 3222291065;
    pub const BPFRS_BIOCLOCK: Type = 536887930;
    pub const BPFRS_BIOCSETWF: Type = 2148549243;
    pub const BPFRS_BIOCFEEDBACK: Type = 2147762812;
    pub const BPFRS_BIOCGETBUFMODE: Type = 1074020989;
    pub const BPFRS_BIOCSETBUFMODE: Type = 2147762814;
    pub const BPFRS_BIOCGETZMAX: Type = 1074283135;
    pub const BPFRS_BIOCROTZBUF: Type = 1075331712;
    pub const BPFRS_BIOCSETZBUF: Type = 2149073537;
    pub const BPFRS_BIOCSETFNR: Type = 2148549250;
    pub const BPFRS_BIOCGTSTAMP: Type = 1074020995;
    pub const BPFRS_BIOCSTSTAMP: Type = 2147762820;
    pub const BPFRS_BIOCSETVLANPCP: Type = 2147762821;
    pub const BPFRS_BIOCGETIFLIST: Type = 3222291078;
    pub const BPFRS_BIOCSETF32: Type = 2148024935;
    pub const BPFRS_BIOCSRTIMEOUT32: Type = 2148024941;
    pub const BPFRS_BIOCGRTIMEOUT32: Type = 1074283118;
    pub const BPFRS_BIOCGDLTLIST32: Type = 3221766777;
    pub const BPFRS_BIOCSETWF32: Type = 2148024955;
    pub const BPFRS_BIOCSETFNR32: Type = 2148024962;
    pub const BPFRS_BIOCGETIFLIST32: Type = 3222028934;
    pub const BPFRS_FIONREAD: Type = 1074030207;
    pub const BPFRS_FIONBIO: Type = 2147772030;
    pub const BPFRS_FIOASYNC: Type = 2147772029;
    pub const BPFRS_FIOSETOWN: Type = 2147772028;
    pub const BPFRS_FIOGETOWN: Type = 1074030203;
    pub const BPFRS_TIOCSPGRP: Type = 2147775606;
    pub const BPFRS_TIOCGPGRP: Type = 1074033783;
}
pub mod bpfrs_const {
    #[allow(unused_imports)]
    use super::*;
    pub type Type = cty::c_int;
    pub const BPFRS_EPERM: Type = 1;
    pub const BPFRS_EINTR: Type = 4;
    pub const BPFRS_ENXIO: Type = 6;
    pub const BPFRS_EIO: Type = 5;
    pub const BPFRS_ENOMEM: Type = 12;
    pub const BPFRS_EFAULT: Type = 14;
    pub const BPFRS_EBUSY: Type = 16;
    pub const BPFRS_EINVAL: Type = 22;
    pub const BPFRS_EWOULDBLOCK: Type = 35;
    pub const BPFRS_EMSGSIZE: Type = 40;
    pub const BPFRS_ENETDOWN: Type = 50;
    pub const BPFRS_ENOSPC: Type = 28;
    pub const BPFRS_EOPNOTSUPP: Type = 45;
    pub const BPFRS_ERESTART: Type = -1;
    pub const BPFRS_POLLIN: Type = 1;
    pub const BPFRS_POLLRDNORM: Type = 64;
    pub const BPFRS_POLLOUT: Type = 4;
    pub const BPFRS_POLLWRNORM: Type = 4;
    pub const BPFRS_POLLHUP: Type = 16;
    pub const BPFRS_O_NONBLOCK: Type = 4;
    pub const BPFRS_FREAD: Type = 1;
    pub const BPFRS_FWRITE: Type = 2;
    pub const BPFRS_SIGIO: Type = 23;
    pub const BPFRS_NSIG: Type = 32;
    pub const BPFRS_DLT_NULL: Type = 0;
    pub const BPFRS_DLT_EN10MB: Type = 1;
    pub const BPFRS_BPF_MAJOR_VERSION: Type = 1;
    pub const BPFRS_BPF_MINOR_VERSION: Type = 1;
    pub const BPFRS_BPF_MINBUFSIZE: Type = 32;
    pub const BPFRS_BPF_MEMWORDS: Type = 16;
    pub const BPFRS_BPF_BUFMODE_BUFFER: Type = 1;
    pub const BPFRS_BPF_BUFMODE_ZBUF: Type = 2;
    pub const BPFRS_BPF_D_IN: Type = 0;
    pub const BPFRS_BPF_D_INOUT: Type = 1;
    pub const BPFRS_BPF_D_OUT: Type = 2;
    pub const BPFRS_BPF_T_MICROTIME: Type = 0;
    pub const BPFRS_BPF_T_NANOTIME: Type = 1;
    pub const BPFRS_BPF_T_BINTIME: Type = 2;
    pub const BPFRS_BPF_T_NONE: Type = 3;
    pub const BPFRS_BPF_T_FORMAT_MASK: Type = 3;
    pub const BPFRS_BPF_T_FAST: Type = 256;
    pub const BPFRS_BPF_T_MONOTONIC: Type = 512;
}
pub mod bpfrs_stat {
    #[allow(unused_imports)]
    use super::*;
    pub type Type = cty::c_uint;
    pub const BPFRS_STAT_OPENS: Type = 0;
    pub const BPFRS_STAT_LIVE: Type = 1;
    pub const BPFRS_STAT_DESCRIPTORS: Type = 2;
    pub const BPFRS_STAT_REVOKES: Type = 3;
    pub const BPFRS_STAT_REVOKED_OPENS: Type = 4;
    pub const BPFRS_STAT_CLOSES_ZERO: Type = 5;
    pub const BPFRS_STAT_CLOSES_ONE: Type = 6;
    pub const BPFRS_STAT_CLOSES_TWO: Type = 7;
    pub const BPFRS_STAT_CLOSES_MORE: Type = 8;
    pub const BPFRS_STAT_CLOSES_ORPHAN: Type = 9;
    pub const BPFRS_NSTATS: Type = 10;
}
unsafe extern "C" {
    pub static mut bpfrs_stats: [u64; 10usize];
}
pub mod bpfrs_tunable {
    #[allow(unused_imports)]
    use super::*;
    pub type Type = cty::c_uint;
    pub const BPFRS_TUNABLE_BUFSIZE: Type = 0;
    pub const BPFRS_TUNABLE_MAXBUFSIZE: Type = 1;
    pub const BPFRS_TUNABLE_MAXINSNS: Type = 2;
    pub const BPFRS_TUNABLE_JIT: Type = 3;
    pub const BPFRS_TUNABLE_OPTIMIZE_WRITERS: Type = 4;
    pub const BPFRS_TUNABLE_ZEROCOPY_ENABLE: Type = 5;
}
unsafe extern "C" {
    pub fn bpfrs_kpi_tunable(arg1: bpfrs_tunable::Type) -> u32;
}
unsafe extern "C" {
    pub fn bpfrs_kpi_panic(msg: *const cty::c_char, len: usize) -> !;
}
unsafe extern "C" {
    pub fn bpfrs_kpi_malloc(size: usize) -> *mut cty::c_void;
}
unsafe extern "C" {
    pub fn bpfrs_kpi_malloc_nowait(size: usize) -> *mut cty::c_void;
}
unsafe extern "C" {
    pub fn bpfrs_kpi_free(arg1: *mut cty::c_void);
}
unsafe extern "C" {
    pub fn bpfrs_kpi_code_alloc(size: usize) -> *mut cty::c_void;
}
unsafe extern "C" {
    pub fn bpfrs_kpi_code_seal(arg1: *mut cty::c_void, size: usize) -> cty::c_int;
}
unsafe extern "C" {
    pub fn bpfrs_kpi_code_free(arg1: *mut cty::c_void, size: usize);
}
unsafe extern "C" {
    pub fn bpfrs_kpi_epoch_enter(arg1: *mut bpfrs_epoch_tracker);
}
unsafe extern "C" {
    pub fn bpfrs_kpi_epoch_exit(arg1: *mut bpfrs_epoch_tracker);
}
unsafe extern "C" {
    pub fn bpfrs_kpi_epoch_call(
        arg1: *mut bpfrs_epoch_context,
        arg2: ::core::option::Option<unsafe extern "C" fn(arg1: *mut bpfrs_epoch_context)>,
    );
}
unsafe extern "C" {
    pub fn bpfrs_kpi_epoch_drain();
}
unsafe extern "C" {
    pub fn bpfrs_kpi_monitor_alloc() -> *mut bpfrs_monitor;
}
unsafe extern "C" {
    pub fn bpfrs_kpi_monitor_free(arg1: *mut bpfrs_monitor);
}
unsafe extern "C" {
    pub fn bpfrs_kpi_monitor_lock(arg1: *mut bpfrs_monitor);
}
unsafe extern "C" {
    pub fn bpfrs_kpi_monitor_unlock(arg1: *mut bpfrs_monitor);
}
unsafe extern "C" {
    pub fn bpfrs_kpi_monitor_sleep(arg1: *mut bpfrs_monitor, ticks: cty::c_int) -> cty::c_int;
}
unsafe extern "C" {
    pub fn bpfrs_kpi_monitor_wakeup(arg1: *mut bpfrs_monitor);
}
unsafe extern "C" {
    pub fn bpfrs_kpi_monitor_selrecord(arg1: *mut bpfrs_monitor);
}
unsafe extern "C" {
    pub fn bpfrs_kpi_monitor_timer_start(
        arg1: *mut bpfrs_monitor,
        ticks: cty::c_int,
        expired: ::core::option::Option<unsafe extern "C" fn(arg1: *mut cty::c_void)>,
        arg: *mut cty::c_void,
    );
}
unsafe extern "C" {
    pub fn bpfrs_kpi_monitor_timer_stop(arg1: *mut bpfrs_monitor);
}
unsafe extern "C" {
    pub fn bpfrs_kpi_monitor_sigio(arg1: *mut bpfrs_monitor, sig: cty::c_int);
}
unsafe extern "C" {
    pub fn bpfrs_kpi_monitor_setown(arg1: *mut bpfrs_monitor, owner: cty::c_int) -> cty::c_int;
}
unsafe extern "C" {
    pub fn bpfrs_kpi_monitor_getown(arg1: *mut bpfrs_monitor) -> cty::c_int;
}
unsafe extern "C" {
    pub fn bpfrs_kpi_monitor_drain(arg1: *mut bpfrs_monitor);
}
unsafe extern "C" {
    pub fn bpfrs_kpi_monitor_knote_add(
        arg1: *mut bpfrs_monitor,
        arg2: *mut knote,
        hook: *mut cty::c_void,
    );
}
unsafe extern "C" {
    pub fn bpfrs_kpi_monitor_knote_remove(arg1: *mut bpfrs_monitor, arg2: *mut knote);
}
unsafe extern "C" {
    pub fn bpfrs_kpi_monitor_knotes_drop(arg1: *mut bpfrs_monitor) -> u_int;
}
unsafe extern "C" {
    pub fn bpfrs_kpi_control_lock();
}
unsafe extern "C" {
    pub fn bpfrs_kpi_control_unlock();
}
unsafe extern "C" {
    pub fn bpfrs_kpi_copyin(
        uaddr: *const cty::c_void,
        kaddr: *mut cty::c_void,
        len: usize,
    ) -> cty::c_int;
}
unsafe extern "C" {
    pub fn bpfrs_kpi_copyout(
        kaddr: *const cty::c_void,
        uaddr: *mut cty::c_void,
        len: usize,
    ) -> cty::c_int;
}
unsafe extern "C" {
    pub fn bpfrs_kpi_uio_resid(arg1: *const uio) -> isize;
}
unsafe extern "C" {
    pub fn bpfrs_kpi_uiomove(kaddr: *mut cty::c_void, len: usize, arg1: *mut uio) -> cty::c_int;
}
unsafe extern "C" {
    pub fn bpfrs_kpi_pages_hold(
        uaddr: usize,
        len: usize,
        kaddr: *mut *mut cty::c_void,
        arg1: *mut *mut bpfrs_pages,
    ) -> cty::c_int;
}
unsafe extern "C" {
    pub fn bpfrs_kpi_pages_release(arg1: *mut bpfrs_pages);
}
unsafe extern "C" {
    pub fn bpfrs_kpi_page_size() -> usize;
}
unsafe extern "C" {
    pub fn bpfrs_kpi_pid() -> cty::c_int;
}
unsafe extern "C" {
    pub fn bpfrs_kpi_compat32() -> cty::c_int;
}
unsafe extern "C" {
    pub fn bpfrs_kpi_node_create(unit: cty::c_int, arg1: *mut *mut cdev) -> cty::c_int;
}
unsafe extern "C" {
    pub fn bpfrs_kpi_node_destroy(arg1: *mut cdev);
}
unsafe extern "C" {
    pub fn bpfrs_kpi_cdev_drv1(arg1: *mut cdev) -> *mut *mut cty::c_void;
}
unsafe extern "C" {
    pub fn bpfrs_kpi_cdev_ref(arg1: *mut cdev);
}
unsafe extern "C" {
    pub fn bpfrs_kpi_cdev_rel(arg1: *mut cdev);
}
unsafe extern "C" {
    pub fn bpfrs_kpi_cdevpriv_set(arg1: *mut cty::c_void) -> cty::c_int;
}
unsafe extern "C" {
    pub fn bpfrs_kpi_cdevpriv_get(arg1: *mut cdev) -> *mut cty::c_void;
}
unsafe extern "C" {
    pub fn bpfrs_kpi_vnode_hold() -> *mut vnode;
}
unsafe extern "C" {
    pub fn bpfrs_kpi_vnode_doomed(arg1: *mut vnode) -> cty::c_int;
}
unsafe extern "C" {
    pub fn bpfrs_kpi_vnode_drop(arg1: *mut vnode);
}
unsafe extern "C" {
    pub fn bpfrs_kpi_fail_open();
}
unsafe extern "C" {
    pub fn bpfrs_kpi_fail_close();
}
unsafe extern "C" {
    pub fn bpfrs_kpi_ifnet_byname(name: *const cty::c_char) -> *mut bpfrs_if;
}
unsafe extern "C" {
    pub fn bpfrs_kpi_ifnet_rele(arg1: *mut bpfrs_if);
}
unsafe extern "C" {
    pub fn bpfrs_kpi_ifnet_name(arg1: *mut bpfrs_if, name: *mut cty::c_char);
}
unsafe extern "C" {
    pub fn bpfrs_kpi_ifnet_promisc(arg1: *mut bpfrs_if, on: cty::c_int) -> cty::c_int;
}
unsafe extern "C" {
    pub fn bpfrs_kpi_ifnet_visible(arg1: *mut bpfrs_if) -> cty::c_int;
}
unsafe extern "C" {
    pub fn bpfrs_kpi_ifnet_mtu(arg1: *mut bpfrs_if) -> cty::c_int;
}
unsafe extern "C" {
    pub fn bpfrs_kpi_tap_info(arg1: *mut bpfrs_if, arg2: *mut bpfrs_tap_info) -> cty::c_int;
}
unsafe extern "C" {
    pub fn bpfrs_kpi_tap_on(arg1: *mut bpfrs_if) -> cty::c_int;
}
unsafe extern "C" {
    pub fn bpfrs_kpi_tap_off(arg1: *mut bpfrs_if);
}
unsafe extern "C" {
    pub fn bpfrs_kpi_tap_names(
        max: u_int,
        count: *mut u_int,
        names: *mut cty::c_char,
        size: usize,
    ) -> usize;
}
unsafe extern "C" {
    pub fn bpfrs_kpi_mbuf_look(arg1: *const mbuf, arg2: *mut bpfrs_mbuf_look);
}
unsafe extern "C" {
    pub fn bpfrs_kpi_mbuf_copy(arg1: *const mbuf, off: usize, len: usize, arg2: *mut cty::c_void);
}
unsafe extern "C" {
    pub fn bpfrs_kpi_mbuf_time(
        arg1: *const mbuf,
        how: cty::c_int,
        out: *mut bpfrs_mbuf_time,
    ) -> cty::c_int;
}
unsafe extern "C" {
    pub fn bpfrs_kpi_packet_alloc(len: usize, data: *mut *mut cty::c_void) -> *mut mbuf;
}
unsafe extern "C" {
    pub fn bpfrs_kpi_packet_free(arg1: *mut mbuf);
}
unsafe extern "C" {
    pub fn bpfrs_kpi_ifnet_ready(arg1: *mut bpfrs_if) -> cty::c_int;
}
unsafe extern "C" {
    pub fn bpfrs_kpi_packet_output(
        arg1: *mut bpfrs_if,
        arg2: *mut mbuf,
        arg3: *const bpfrs_output,
    ) -> cty::c_int;
}
unsafe extern "C" {
    pub fn bpfrs_kpi_timeval2ticks(sec: i64, usec: i64, ticks: *mut cty::c_int) -> cty::c_int;
}
unsafe extern "C" {
    pub fn bpfrs_kpi_hz() -> cty::c_int;
}
unsafe extern "C" {
    pub fn bpfrs_kpi_pause(ticks: cty::c_int);
}
unsafe extern "C" {
    pub fn bpfrs_rs_load() -> cty::c_int;
}
unsafe extern "C" {
    pub fn bpfrs_rs_unload(force: cty::c_int) -> cty::c_int;
}
unsafe extern "C" {
    pub fn bpfrs_rs_clone(unit: cty::c_int) -> *mut cdev;
}
unsafe extern "C" {
    pub fn bpfrs_rs_open(arg1: *mut cdev, oflags: cty::c_int) -> cty::c_int;
}
unsafe extern "C" {
    pub fn bpfrs_rs_close(arg1: *mut cdev, revoke: cty::c_int) -> cty::c_int;
}
unsafe extern "C" {
    pub fn bpfrs_rs_purge(arg1: *mut cdev);
}
unsafe extern "C" {
    pub fn bpfrs_rs_read(arg1: *mut cdev, arg2: *mut uio, ioflag: cty::c_int) -> cty::c_int;
}
unsafe extern "C" {
    pub fn bpfrs_rs_write(arg1: *mut cdev, arg2: *mut uio) -> cty::c_int;
}
unsafe extern "C" {
    pub fn bpfrs_rs_ioctl(arg1: *mut cdev, cmd: cty::c_ulong, data: *mut cty::c_void)
    -> cty::c_int;
}
unsafe extern "C" {
    pub fn bpfrs_rs_poll(arg1: *mut cdev, events: cty::c_int) -> cty::c_int;
}
unsafe extern "C" {
    pub fn bpfrs_rs_kqfilter(arg1: *mut cdev, arg2: *mut knote, filter: cty::c_int) -> cty::c_int;
}
unsafe extern "C" {
    pub fn bpfrs_rs_kqevent(
        hook: *mut cty::c_void,
        filter: cty::c_int,
        data: *mut i64,
    ) -> cty::c_int;
}
unsafe extern "C" {
    pub fn bpfrs_rs_kqdetach(hook: *mut cty::c_void, arg1: *mut knote);
}
unsafe extern "C" {
    pub fn bpfrs_rs_dtor(priv_: *mut cty::c_void);
}
unsafe extern "C" {
    pub fn bpfrs_rs_stats(arg1: *mut bpfrs_xbpf_d, room: usize) -> usize;
}
unsafe extern "C" {
    pub fn bpfrs_rs_stats_reset();
}
unsafe extern "C" {
    pub fn bpfrs_rs_ifdeparture(arg1: *mut bpfrs_if);
}
unsafe extern "C" {
    pub fn bpfrs_rs_tap(
        arg1: *mut bpfrs_if,
        hdr: *const cty::c_void,
        hdrlen: usize,
        m: *const mbuf,
        in_: cty::c_int,
    );
}
