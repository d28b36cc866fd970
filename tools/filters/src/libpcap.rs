// SPDX-License-Identifier: BSD-2-Clause
//! The few functions of libpcap that are needed.

use std::ffi::{CStr, CString, c_char, c_int, c_uint, c_void};
use std::ptr;

use bpfrs_filter::Insn;

/// `struct bpf_program` of `<pcap/bpf.h>`; its instructions are laid out as
/// the kernel's.
#[repr(C)]
struct BpfProgram {
    len: c_uint,
    insns: *mut Insn,
}

#[link(name = "pcap")]
unsafe extern "C" {
    fn pcap_open_dead(linktype: c_int, snaplen: c_int) -> *mut c_void;
    fn pcap_close(pcap: *mut c_void);
    fn pcap_geterr(pcap: *mut c_void) -> *mut c_char;
    fn pcap_compile(
        pcap: *mut c_void,
        program: *mut BpfProgram,
        expression: *const c_char,
        optimize: c_int,
        netmask: u32,
    ) -> c_int;
    fn pcap_freecode(program: *mut BpfProgram);
    fn bpf_filter(insns: *const Insn, packet: *const u8, wire_len: c_uint, len: c_uint) -> c_uint;
    fn bpf_validate(insns: *const Insn, len: c_int) -> c_int;
}

const DLT_EN10MB: c_int = 1;
const SNAPLEN: c_int = 262_144;

/// Compiles a filter expression for Ethernet, with libpcap's optimizer or
/// without it.
///
/// # Errors
/// What libpcap says of the expression.
pub fn compile(expression: &str, optimize: bool) -> Result<Vec<Insn>, String> {
    let text = CString::new(expression).map_err(|error| error.to_string())?;
    // SAFETY: numbers only.
    let pcap = unsafe { pcap_open_dead(DLT_EN10MB, SNAPLEN) };
    assert!(!pcap.is_null(), "libpcap is out of memory");
    let mut program = BpfProgram { len: 0, insns: ptr::null_mut() };
    // SAFETY: an open handle, a string, and a place for the program.
    let error =
        unsafe { pcap_compile(pcap, &raw mut program, text.as_ptr(), optimize.into(), u32::MAX) };
    let result = if error != 0 {
        // SAFETY: the handle's own message, until it is closed.
        let message = unsafe { CStr::from_ptr(pcap_geterr(pcap)) };
        Err(message.to_string_lossy().into_owned())
    } else {
        // SAFETY: `len` instructions, until they are freed below.
        let insns = unsafe { std::slice::from_raw_parts(program.insns, program.len as usize) };
        Ok(insns.to_vec())
    };
    // SAFETY: neither is used any more; without a program this does nothing.
    unsafe {
        pcap_freecode(&raw mut program);
        pcap_close(pcap);
    }
    result
}

/// A program that libpcap's interpreter runs.
pub struct Program(Vec<Insn>);

impl Program {
    /// `None` if libpcap's own validator refuses the instructions.
    pub fn new(insns: &[Insn]) -> Option<Self> {
        let len = c_int::try_from(insns.len()).ok()?;
        // SAFETY: `len` instructions.
        let valid = unsafe { bpf_validate(insns.as_ptr(), len) } != 0;
        valid.then(|| Program(insns.to_vec()))
    }

    /// Runs it: how many bytes to keep, 0 for none.
    #[inline]
    pub fn run(&self, bytes: &[u8], wire_len: u32) -> u32 {
        // No packet is that long.
        let len = c_uint::try_from(bytes.len()).unwrap_or(c_uint::MAX);
        // SAFETY: a valid program, and `len` bytes or more.
        unsafe { bpf_filter(self.0.as_ptr(), bytes.as_ptr(), wire_len, len) }
    }
}
