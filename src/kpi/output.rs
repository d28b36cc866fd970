// SPDX-License-Identifier: BSD-2-Clause
//! Packets that write(2) sends.

use core::ffi::c_void;
use core::mem::ManuallyDrop;
use core::ptr::{self, NonNull};

use bpfrs_sys as sys;

use super::epoch::Guard;
use super::errno::{Errno, Result};
use super::ifnet::Ifnet;
use super::user::{Uio, Write};

/// How a packet is sent.
#[derive(Clone, Copy, Debug, Default)]
pub struct Output {
    /// `DLT_*` of the interface.
    pub dlt: u32,
    /// Length of the link header, bytes.
    pub hdrlen: u32,
    /// BIOCSHDRCMPLT: the source address stays as it is.
    pub hdrcmplt: bool,
    /// BIOCFEEDBACK: a copy comes in, as if it was received.
    pub feedback: bool,
    /// Who listens sees that copy only.
    pub once: bool,
    /// The priority of a VLAN tag; 0 for none.
    pub pcp: u32,
}

/// A packet on its way out, link header first. It is freed unless it is sent.
#[must_use]
pub struct Outgoing {
    chain: NonNull<sys::mbuf>,
    data: NonNull<c_void>,
    len: usize,
}

impl Outgoing {
    /// All that a write(2) brings. Sleeps.
    ///
    /// # Errors
    /// EIO if it is more than an mbuf can have; EFAULT.
    pub fn copyin(uio: &mut Uio<'_, Write>) -> Result<Outgoing> {
        let len = uio.resid();
        let mut data = ptr::null_mut();
        // SAFETY: thread context; `data` is written by the call.
        let chain = unsafe { sys::bpfrs_kpi_packet_alloc(len, &raw mut data) };
        let (Some(chain), Some(data)) = (NonNull::new(chain), NonNull::new(data)) else {
            return Err(Errno::EIO);
        };
        let packet = Outgoing { chain, data, len };
        // SAFETY: `len` bytes are left, and there is room for `len`.
        unsafe { uio.read(data, len) }.map(|()| packet)
    }

    /// Its bytes.
    pub fn bytes(&self) -> &[u8] {
        // SAFETY: `len` bytes, written by copyin, and self is borrowed.
        unsafe { core::slice::from_raw_parts(self.data.as_ptr().cast(), self.len) }
    }

    /// Sends it. The section shows that the interface had not departed.
    ///
    /// # Errors
    /// What the interface says: ENETDOWN, ENOBUFS, EAFNOSUPPORT, ...
    pub fn send(self, ifnet: &Ifnet, how: Output, _section: &Guard) -> Result<()> {
        let flag = |on: bool, flag: i32| if on { flag.cast_unsigned() } else { 0 };
        let how = sys::bpfrs_output {
            o_dlt: how.dlt,
            o_hdrlen: how.hdrlen,
            o_flags: flag(how.hdrcmplt, sys::BPFRS_OUTPUT_HDRCMPLT)
                | flag(how.feedback, sys::BPFRS_OUTPUT_FEEDBACK)
                | flag(how.once, sys::BPFRS_OUTPUT_ONCE),
            o_pcp: how.pcp,
        };
        let chain = ManuallyDrop::new(self).chain;
        // SAFETY: the interface is kept; the packet is given away.
        Errno::check(unsafe {
            sys::bpfrs_kpi_packet_output(ifnet.raw.as_ptr(), chain.as_ptr(), &raw const how)
        })
    }
}

impl Drop for Outgoing {
    fn drop(&mut self) {
        // SAFETY: the packet is ours, and not used afterwards.
        unsafe { sys::bpfrs_kpi_packet_free(self.chain.as_ptr()) }
    }
}

impl Ifnet {
    /// Whether it sends packets.
    ///
    /// # Errors
    /// ENETDOWN; EOPNOTSUPP of what a producer attached.
    pub fn ready(&self) -> Result<()> {
        // SAFETY: self keeps the interface.
        Errno::check(unsafe { sys::bpfrs_kpi_ifnet_ready(self.raw.as_ptr()) })
    }
}
