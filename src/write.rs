// SPDX-License-Identifier: BSD-2-Clause
//! write(2): one packet, link header first, sent by the interface.

use core::sync::atomic::Ordering;

use bpfrs_sys::bpfrs_const::{BPFRS_BPF_D_INOUT, BPFRS_DLT_EN10MB, BPFRS_DLT_NULL};

use crate::bpf_d::BpfD;
use crate::kpi::epoch::{Guard, Ref, pin};
use crate::kpi::errno::{Errno, Result};
use crate::kpi::output::{Outgoing, Output};
use crate::kpi::user::{Uio, Write};
use crate::tap::Tap;

/// The link header that a packet must bring, bytes.
///
/// # Errors
/// EIO if packets of that kind cannot be written.
fn link_hdrlen(dlt: u32) -> Result<u32> {
    match dlt.cast_signed() {
        BPFRS_DLT_NULL => Ok(4),
        BPFRS_DLT_EN10MB => Ok(14),
        _ => Err(Errno::EIO),
    }
}

impl BpfD {
    /// write(2).
    ///
    /// # Errors
    /// As stock: ENXIO without an interface; ENETDOWN; EIO for a packet that
    /// is of no known kind or longer than an mbuf; EMSGSIZE without a whole
    /// link header or beyond the MTU; EFAULT; EPERM by the write filter; what
    /// the interface says. Besides, EOPNOTSUPP for a producer's place, and
    /// ENXIO when the open ended, or lost its interface, while the packet was
    /// copied: nothing is sent then.
    pub(crate) fn write(&self, uio: &mut Uio<'_, Write>) -> Result<()> {
        self.counters.written.fetch_add(1, Ordering::Relaxed);
        let sent = self.write_packet(uio);
        if sent != Ok(true) {
            self.counters.write_dropped.fetch_add(1, Ordering::Relaxed);
        }
        sent.map(|_| ())
    }

    /// Whether there was a packet: a write of nothing succeeds.
    fn write_packet(&self, uio: &mut Uio<'_, Write>) -> Result<bool> {
        let tap = {
            let state = self.monitor.lock();
            state.alive()?;
            state.attachment.as_ref().ok_or(Errno::ENXIO)?.tap().clone()
        };
        tap.ifnet().ready()?;
        let len = uio.resid();
        if len == 0 {
            return Ok(false);
        }
        let hdrlen = link_hdrlen(tap.dlt())?;
        let payload = len.checked_sub(hdrlen as usize).ok_or(Errno::EMSGSIZE)?;
        if payload > tap.ifnet().mtu() {
            return Err(Errno::EMSGSIZE);
        }
        // Sleeps; what was true above need not be so any more.
        let packet = Outgoing::copyin(uio)?;
        pin(|section| {
            let filter = self.wfilter.load(section);
            if filter.is_some_and(|filter| filter.run(packet.bytes()) == 0) {
                return Err(Errno::EPERM);
            }
            let how = self.output(&tap, hdrlen, section)?;
            self.counters.write_matched.fetch_add(1, Ordering::Relaxed);
            packet.send(tap.ifnet(), how, section).map(|()| true)
        })
    }

    /// The look after the copy: how to send, in the same section.
    ///
    /// # Errors
    /// ENXIO if the open ended or lost the interface (I4).
    fn output(&self, tap: &Ref<Tap>, hdrlen: u32, _section: &Guard) -> Result<Output> {
        let state = self.monitor.lock();
        state.alive()?;
        if !state.attachment.as_ref().is_some_and(|now| now.tap().same(tap)) {
            return Err(Errno::ENXIO);
        }
        let settings = state.settings;
        Ok(Output {
            dlt: tap.dlt(),
            hdrlen,
            hdrcmplt: settings.hdrcmplt,
            feedback: settings.feedback,
            once: self.direction.get() == BPFRS_BPF_D_INOUT as u32,
            pcp: settings.pcp,
        })
    }
}
