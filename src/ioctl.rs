// SPDX-License-Identifier: BSD-2-Clause
//! ioctl(2) on a descriptor.
//!
//! Values, effects and errors are those of stock bpf(4): see bpf(4) and
//! `<net/bpf.h>`.

use core::sync::atomic::Ordering;

use bpfrs_sys::bpfrs_const::*;
use bpfrs_sys::bpfrs_ioc::{self, *};

use crate::bpf_d::BpfD;
use crate::buffer::Buffers;
use crate::kpi::abi::{bpf_dltlist, bpf_program, bpf_stat, bpf_version, ifreq, timeval};
use crate::kpi::epoch::{Ref, Slot};
use crate::kpi::errno::{Errno, Result};
use crate::kpi::time::{ticks_to_timeval, timeval_to_ticks};
use crate::kpi::tunable;
use crate::kpi::user::{self, Argument};
use crate::program::Program;
use crate::record::Tstamp;
use crate::tap;

/// What a descriptor still does after BIOCLOCK.
const ALLOWED_WHEN_LOCKED: [bpfrs_ioc::Type; 18] = [
    BPFRS_BIOCGBLEN,
    BPFRS_BIOCFLUSH,
    BPFRS_BIOCGDLT,
    BPFRS_BIOCGDLTLIST,
    BPFRS_BIOCGETIF,
    BPFRS_BIOCGRTIMEOUT,
    BPFRS_BIOCSRTIMEOUT,
    BPFRS_BIOCGSTATS,
    BPFRS_BIOCVERSION,
    BPFRS_BIOCGRSIG,
    BPFRS_BIOCGHDRCMPLT,
    BPFRS_BIOCSTSTAMP,
    BPFRS_BIOCFEEDBACK,
    BPFRS_BIOCIMMEDIATE,
    BPFRS_FIONREAD,
    BPFRS_BIOCLOCK,
    BPFRS_TIOCGPGRP,
    BPFRS_BIOCROTZBUF,
];

/// The highest priority of a VLAN tag: three bits.
const VLAN_PCP_MAX: u32 = 7;

/// What installing a read filter does to the packets so far.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Packets {
    Forget,
    Keep,
}

impl BpfD {
    /// `d_ioctl`.
    ///
    /// # Errors
    /// ENXIO if the open ended; EPERM after BIOCLOCK; EINVAL for a command
    /// that is not known; each command's own.
    pub(crate) fn ioctl(this: &Ref<BpfD>, command: u64, mut arg: Argument<'_>) -> Result<()> {
        {
            let mut state = this.monitor.lock();
            state.alive()?;
            state.stop_timer();
            // Before the command is looked at: unknown ones are EPERM, too.
            if state.settings.locked && !ALLOWED_WHEN_LOCKED.contains(&command) {
                return Err(Errno::EPERM);
            }
        }
        match command {
            BPFRS_BIOCVERSION => arg.put(bpf_version {
                bv_major: BPFRS_BPF_MAJOR_VERSION as u16,
                bv_minor: BPFRS_BPF_MINOR_VERSION as u16,
            }),
            BPFRS_BIOCGBLEN => arg.put(this.monitor.lock().bufsize),
            BPFRS_BIOCSBLEN => {
                let granted = this.set_bufsize(arg.get()?)?;
                arg.put(granted)
            }
            BPFRS_FIONREAD => {
                let readable = this.monitor.lock().readable();
                arg.put(i32::try_from(readable).unwrap_or(i32::MAX))
            }
            // The flag reaches read(2) without the driver keeping it.
            BPFRS_FIONBIO => Ok(()),
            BPFRS_FIOASYNC => {
                this.monitor.lock().settings.asynchronous = arg.get::<i32>()? != 0;
                Ok(())
            }
            BPFRS_FIOSETOWN => this.set_owner(arg.get()?),
            BPFRS_FIOGETOWN => arg.put(this.monitor.owner()),
            // The same with the sign of a terminal's process group.
            BPFRS_TIOCSPGRP => this.set_owner(arg.get::<i32>()?.wrapping_neg()),
            BPFRS_TIOCGPGRP => arg.put(this.monitor.owner().wrapping_neg()),
            BPFRS_BIOCFLUSH => {
                let mut state = this.monitor.lock();
                this.reset(&mut state);
                Ok(())
            }

            BPFRS_BIOCSETF => this.set_filter(&this.rfilter, arg.get()?, Packets::Forget),
            BPFRS_BIOCSETFNR => this.set_filter(&this.rfilter, arg.get()?, Packets::Keep),
            BPFRS_BIOCSETWF => this.set_filter(&this.wfilter, arg.get()?, Packets::Keep),

            BPFRS_BIOCSETIF => {
                let request: ifreq = arg.get()?;
                tap::attach(this, &request.ifr_name)
            }
            BPFRS_BIOCGETIF => {
                let name = this.attached(|attachment| attachment.name())?;
                let mut answer: ifreq = arg.get()?;
                answer.ifr_name = name;
                arg.put(answer)
            }
            BPFRS_BIOCPROMISC => tap::set_promisc(this),
            BPFRS_BIOCGDLT => arg.put(this.attached(|attachment| attachment.dlt())?),
            BPFRS_BIOCSDLT => {
                let wanted: u32 = arg.get()?;
                // One tap point an interface, and so one DLT.
                let dlt = this.attached(|attachment| attachment.dlt())?;
                if wanted == dlt { Ok(()) } else { Err(Errno::EINVAL) }
            }
            BPFRS_BIOCGDLTLIST => {
                let list = this.dlt_list(arg.get()?)?;
                arg.put(list)
            }

            BPFRS_BIOCGRTIMEOUT => {
                let rtout = this.monitor.lock().settings.rtout;
                arg.put(ticks_to_timeval(rtout))
            }
            BPFRS_BIOCSRTIMEOUT => {
                let ticks = timeval_to_ticks(arg.get::<timeval>()?)?;
                // The tick under way is not part of the time asked for.
                this.monitor.lock().settings.rtout = ticks.saturating_sub(1).max(0);
                Ok(())
            }
            BPFRS_BIOCIMMEDIATE => {
                this.monitor.lock().settings.immediate = arg.get::<u32>()? != 0;
                Ok(())
            }
            BPFRS_BIOCGSTATS => arg.put(bpf_stat {
                // 32 bits of a 64-bit counter: the ABI has no more.
                bs_recv: this.counters.received.load(Ordering::Relaxed) as u32,
                bs_drop: this.counters.dropped.load(Ordering::Relaxed) as u32,
            }),
            BPFRS_BIOCGRSIG => arg.put(this.monitor.lock().settings.sig),
            BPFRS_BIOCSRSIG => {
                let sig: u32 = arg.get()?;
                if sig >= BPFRS_NSIG as u32 {
                    return Err(Errno::EINVAL);
                }
                this.monitor.lock().settings.sig = sig;
                Ok(())
            }
            BPFRS_BIOCGHDRCMPLT => arg.put(u32::from(this.monitor.lock().settings.hdrcmplt)),
            BPFRS_BIOCSHDRCMPLT => {
                this.monitor.lock().settings.hdrcmplt = arg.get::<u32>()? != 0;
                Ok(())
            }
            BPFRS_BIOCFEEDBACK => {
                this.monitor.lock().settings.feedback = arg.get::<u32>()? != 0;
                Ok(())
            }
            BPFRS_BIOCSETVLANPCP => {
                let pcp: u32 = arg.get()?;
                if pcp > VLAN_PCP_MAX {
                    return Err(Errno::EINVAL);
                }
                this.monitor.lock().settings.pcp = pcp;
                Ok(())
            }
            BPFRS_BIOCGDIRECTION => arg.put(this.direction.get()),
            BPFRS_BIOCSDIRECTION => this.direction.set(arg.get()?),
            BPFRS_BIOCGTSTAMP => arg.put(this.monitor.lock().settings.tstamp.value()),
            BPFRS_BIOCSTSTAMP => {
                let tstamp = Tstamp::new(arg.get()?)?;
                this.monitor.lock().settings.tstamp = tstamp;
                Ok(())
            }
            BPFRS_BIOCLOCK => {
                this.monitor.lock().settings.locked = true;
                Ok(())
            }

            // Zero-copy buffers are off, as they are by default in stock.
            BPFRS_BIOCGETBUFMODE => arg.put(BPFRS_BPF_BUFMODE_BUFFER as u32),
            BPFRS_BIOCSETBUFMODE => this.set_bufmode(arg.get()?),
            BPFRS_BIOCGETZMAX | BPFRS_BIOCROTZBUF | BPFRS_BIOCSETZBUF => Err(Errno::EOPNOTSUPP),
            _ => Err(Errno::EINVAL),
        }
    }

    /// BIOCSBLEN: both buffers at once; returns the size granted.
    fn set_bufsize(&self, wanted: u32) -> Result<u32> {
        let size = wanted.clamp(BPFRS_BPF_MINBUFSIZE as u32, tunable::maxbufsize());
        let mut buffers = Some(Buffers::new(size as usize));
        let mut state = self.monitor.lock();
        state.alive()?;
        if state.attachment.is_some() {
            // Dropped after the lock: declared before it.
            return Err(Errno::EINVAL);
        }
        core::mem::swap(&mut state.buffers, &mut buffers);
        state.bufsize = size;
        drop(state);
        Ok(size)
    }

    /// FIOSETOWN.
    fn set_owner(&self, owner: i32) -> Result<()> {
        self.monitor.set_owner(owner)?;
        // The end of the open forgets the owner after it marked it dead; an
        // owner set later than that would be set for ever (I4).
        let alive = self.monitor.lock().alive();
        if alive.is_err() {
            self.monitor.drain();
        }
        alive
    }

    /// BIOCSETBUFMODE: nothing but what it is.
    fn set_bufmode(&self, mode: u32) -> Result<()> {
        let state = self.monitor.lock();
        if mode != BPFRS_BPF_BUFMODE_BUFFER as u32 {
            return Err(Errno::EINVAL);
        }
        if state.buffers.is_some() || state.attachment.is_some() {
            return Err(Errno::EBUSY);
        }
        Ok(())
    }

    /// BIOCSETF and its kin. Everything that is wrong with a program is
    /// EINVAL, an address that is not there included.
    fn set_filter(
        &self,
        place: &Slot<Program>,
        program: bpf_program,
        packets: Packets,
    ) -> Result<()> {
        if program.bf_len > tunable::maxinsns() {
            return Err(Errno::EINVAL);
        }
        let new = if program.bf_len == 0 {
            None
        } else {
            if program.bf_insns.is_null() {
                return Err(Errno::EINVAL);
            }
            let insns = user::copyin(program.bf_insns, program.bf_len as usize)
                .map_err(|_| Errno::EINVAL)?;
            Some(Ref::new(Program::new(&insns).map_err(|_| Errno::EINVAL)?))
        };
        let mut state = self.monitor.lock();
        state.alive()?;
        let old = place.swap(new);
        if packets == Packets::Forget {
            self.reset(&mut state);
        }
        drop(state);
        drop(old);
        Ok(())
    }

    /// Asks the attachment something.
    ///
    /// # Errors
    /// EINVAL without one.
    fn attached<R>(&self, ask: impl FnOnce(&tap::Attachment) -> R) -> Result<R> {
        let state = self.monitor.lock();
        state.attachment.as_ref().map(ask).ok_or(Errno::EINVAL)
    }

    /// BIOCGDLTLIST.
    fn dlt_list(&self, mut list: bpf_dltlist) -> Result<bpf_dltlist> {
        let dlt = self.attached(|attachment| attachment.dlt())?;
        if !list.bfl_list.is_null() {
            if list.bfl_len < 1 {
                return Err(Errno::ENOMEM);
            }
            user::copyout(dlt, list.bfl_list)?;
        }
        list.bfl_len = 1;
        Ok(list)
    }
}
