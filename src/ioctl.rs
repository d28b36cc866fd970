// SPDX-License-Identifier: BSD-2-Clause
//! ioctl(2) on a descriptor.
//!
//! Values, effects and errors are those of stock bpf(4): see bpf(4) and
//! `<net/bpf.h>`.

use core::sync::atomic::Ordering;

use bpfrs_sys::bpfrs_const::*;
use bpfrs_sys::bpfrs_ioc::{self, *};

use crate::bpf_d::{BpfD, Bufmode};
use crate::buffer::Buffers;
use crate::kpi::abi::{
    bpf_dltlist, bpf_dltlist32, bpf_iflist, bpf_iflist32, bpf_program, bpf_program32, bpf_stat,
    bpf_version, bpf_zbuf, ifreq, timeval, timeval32,
};
use crate::kpi::epoch::{Ref, Slot};
use crate::kpi::errno::{Errno, Result};
use crate::kpi::ifnet::tap_names;
use crate::kpi::process::{Compat32, compat32};
use crate::kpi::time::{ticks_to_timeval, timeval_to_ticks};
use crate::kpi::user::{self, Argument};
use crate::kpi::{pages, tunable};
use crate::program::Program;
use crate::record::Tstamp;
use crate::tap;
use crate::zbuf::Zbuf;

/// What a descriptor still does after BIOCLOCK.
const ALLOWED_WHEN_LOCKED: [bpfrs_ioc::Type; 23] = [
    BPFRS_BIOCGBLEN,
    BPFRS_BIOCFLUSH,
    BPFRS_BIOCGDLT,
    BPFRS_BIOCGDLTLIST,
    BPFRS_BIOCGETIF,
    BPFRS_BIOCGETIFLIST,
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
    BPFRS_BIOCGDLTLIST32,
    BPFRS_BIOCGETIFLIST32,
    BPFRS_BIOCGRTIMEOUT32,
    BPFRS_BIOCSRTIMEOUT32,
];

/// What a 32-bit process has its own forms of, because they have longs or
/// pointers in them.
const FOR_32_BITS: [bpfrs_ioc::Type; 7] = [
    BPFRS_BIOCSETF32,
    BPFRS_BIOCSETFNR32,
    BPFRS_BIOCSETWF32,
    BPFRS_BIOCGDLTLIST32,
    BPFRS_BIOCGETIFLIST32,
    BPFRS_BIOCGRTIMEOUT32,
    BPFRS_BIOCSRTIMEOUT32,
];

/// The highest priority of a VLAN tag: three bits.
const VLAN_PCP_MAX: u32 = 7;

/// `BPF_RET | BPF_K`.
const RET_K: u16 = 6;

/// An address of a 32-bit process.
fn pointer<T>(address: u32) -> *mut T {
    core::ptr::with_exposed_provenance_mut(address as usize)
}

/// A 32-bit program as what it means.
fn program(program: bpf_program32) -> bpf_program {
    bpf_program { bf_len: program.bf_len, bf_insns: pointer(program.bf_insns) }
}

/// BIOCGETIFLIST: what BIOCSETIF takes, or how many bytes that needs.
///
/// # Errors
/// ENOSPC where that is not room enough; EFAULT if the room is not there.
fn if_list(mut list: bpf_iflist) -> Result<bpf_iflist> {
    let (names, count) = tap_names(list.bi_count);
    // An interface has a kilobyte, a name sixteen bytes: 32 bits are enough.
    let len = u32::try_from(names.len()).unwrap_or(u32::MAX);
    if list.bi_size == 0 {
        list.bi_size = len;
    } else if list.bi_size < len {
        return Err(Errno::ENOSPC);
    } else {
        user::copyout(&names, list.bi_ubuf.cast())?;
    }
    list.bi_count = count;
    Ok(list)
}

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
            // Its records have the forms of 32 bits, too, from here on.
            if FOR_32_BITS.contains(&command) {
                match compat32() {
                    Compat32::Unknown => return Err(Errno::EINVAL),
                    Compat32::No => {}
                    Compat32::Yes => state.settings.format.compat32 = true,
                }
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

            BPFRS_BIOCSETF32 => {
                this.set_filter(&this.rfilter, program(arg.get()?), Packets::Forget)
            }
            BPFRS_BIOCSETFNR32 => {
                this.set_filter(&this.rfilter, program(arg.get()?), Packets::Keep)
            }
            BPFRS_BIOCSETWF32 => this.set_filter(&this.wfilter, program(arg.get()?), Packets::Keep),

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
            BPFRS_BIOCGETIFLIST => arg.put(if_list(arg.get()?)?),
            BPFRS_BIOCGETIFLIST32 => {
                let bpf_iflist32 { bi_size, bi_count, bi_ubuf } = arg.get()?;
                let list = bpf_iflist { bi_size, bi_count, bi_ubuf: pointer(bi_ubuf) };
                let bpf_iflist { bi_size, bi_count, .. } = if_list(list)?;
                arg.put(bpf_iflist32 { bi_size, bi_count, bi_ubuf })
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
            BPFRS_BIOCGDLTLIST32 => {
                let bpf_dltlist32 { bfl_len, bfl_list } = arg.get()?;
                let bfl_list = pointer(bfl_list);
                let bpf_dltlist { bfl_len, .. } =
                    this.dlt_list(bpf_dltlist { bfl_len, bfl_list })?;
                arg.put(bpf_dltlist32 { bfl_len, ..arg.get()? })
            }

            BPFRS_BIOCGRTIMEOUT => {
                let rtout = this.monitor.lock().settings.rtout;
                arg.put(ticks_to_timeval(rtout))
            }
            BPFRS_BIOCGRTIMEOUT32 => {
                let rtout = this.monitor.lock().settings.rtout;
                let timeval { tv_sec, tv_usec } = ticks_to_timeval(rtout);
                // Ticks are an int, and seconds are fewer.
                arg.put(timeval32 { tv_sec: tv_sec as i32, tv_usec: tv_usec as i32 })
            }
            BPFRS_BIOCSRTIMEOUT => this.set_timeout(arg.get()?),
            BPFRS_BIOCSRTIMEOUT32 => {
                let timeval32 { tv_sec, tv_usec } = arg.get()?;
                this.set_timeout(timeval { tv_sec: tv_sec.into(), tv_usec: tv_usec.into() })
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
            BPFRS_BIOCGTSTAMP => arg.put(this.monitor.lock().settings.format.tstamp.value()),
            BPFRS_BIOCSTSTAMP => {
                let tstamp = Tstamp::new(arg.get()?)?;
                this.monitor.lock().settings.format.tstamp = tstamp;
                Ok(())
            }
            BPFRS_BIOCLOCK => {
                this.monitor.lock().settings.locked = true;
                Ok(())
            }

            BPFRS_BIOCGETBUFMODE => arg.put(this.monitor.lock().bufmode.value()),
            BPFRS_BIOCSETBUFMODE => this.set_bufmode(arg.get()?),
            BPFRS_BIOCGETZMAX => {
                this.in_mode(Bufmode::Zbuf)?;
                arg.put(pages::max_len())
            }
            BPFRS_BIOCSETZBUF => {
                this.in_mode(Bufmode::Zbuf)?;
                this.set_zbuf(arg.get()?)
            }
            BPFRS_BIOCROTZBUF => {
                this.in_mode(Bufmode::Zbuf)?;
                arg.put(this.rotate_zbuf())
            }
            _ => Err(Errno::EINVAL),
        }
    }

    /// BIOCSBLEN: both buffers at once; returns the size granted.
    fn set_bufsize(&self, wanted: u32) -> Result<u32> {
        self.in_mode(Bufmode::Buffer)?;
        let size = wanted.clamp(BPFRS_BPF_MINBUFSIZE as u32, tunable::maxbufsize());
        let mut buffers = Some(Buffers::new(size as usize));
        let mut state = self.monitor.lock();
        state.alive()?;
        // What is not used is dropped after the lock: declared before it.
        if state.bufmode != Bufmode::Buffer {
            return Err(Errno::EOPNOTSUPP);
        }
        if state.attachment.is_some() {
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

    /// # Errors
    /// EOPNOTSUPP for buffers of the other mode.
    fn in_mode(&self, mode: Bufmode) -> Result<()> {
        if self.monitor.lock().bufmode == mode { Ok(()) } else { Err(Errno::EOPNOTSUPP) }
    }

    /// BIOCSETBUFMODE: while there are no buffers.
    fn set_bufmode(&self, wanted: u32) -> Result<()> {
        let mode = match wanted.cast_signed() {
            BPFRS_BPF_BUFMODE_BUFFER => Bufmode::Buffer,
            BPFRS_BPF_BUFMODE_ZBUF if tunable::zerocopy_enable() => Bufmode::Zbuf,
            _ => return Err(Errno::EINVAL),
        };
        let mut state = self.monitor.lock();
        if state.buffers.is_some() || state.attachment.is_some() {
            return Err(Errno::EBUSY);
        }
        state.bufmode = mode;
        Ok(())
    }

    /// BIOCSETZBUF: once.
    fn set_zbuf(&self, bpf_zbuf { bz_bufa, bz_bufb, bz_buflen }: bpf_zbuf) -> Result<()> {
        if bz_bufa.is_null() || bz_bufb.is_null() || bz_buflen == 0 {
            return Err(Errno::EINVAL);
        }
        let buffer =
            |address: *mut core::ffi::c_void| Zbuf::new(address.expose_provenance(), bz_buflen);
        // Dropped after the lock if they are not wanted: declared before it.
        let mut buffers = Some(Buffers::shared(buffer(bz_bufa)?, buffer(bz_bufb)?));
        let mut state = self.monitor.lock();
        state.alive()?;
        // The mode may have been changed back meanwhile.
        let wanted = state.bufmode == Bufmode::Zbuf;
        if !wanted || state.buffers.is_some() || state.attachment.is_some() {
            return Err(Errno::EINVAL);
        }
        let size = buffers.as_ref().map_or(0, Buffers::size);
        state.bufsize = u32::try_from(size).unwrap_or(u32::MAX);
        core::mem::swap(&mut state.buffers, &mut buffers);
        Ok(())
    }

    /// BIOCROTZBUF: what the user gets; zeros for nothing.
    fn rotate_zbuf(&self) -> bpf_zbuf {
        let rotated = self
            .monitor
            .lock()
            .buffers
            .as_mut()
            .and_then(Buffers::rotate_to_user)
            .unwrap_or((0, 0));
        bpf_zbuf {
            bz_bufa: core::ptr::with_exposed_provenance_mut(rotated.0),
            bz_bufb: core::ptr::null_mut(),
            bz_buflen: rotated.1,
        }
    }

    /// BIOCSRTIMEOUT.
    fn set_timeout(&self, timeout: timeval) -> Result<()> {
        let ticks = timeval_to_ticks(timeout)?;
        // The tick under way is not part of the time asked for.
        self.monitor.lock().settings.rtout = ticks.saturating_sub(1).max(0);
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
        let mut only_snaplen = false;
        let new = if program.bf_len == 0 {
            None
        } else {
            if program.bf_insns.is_null() {
                return Err(Errno::EINVAL);
            }
            let insns = user::copyin(program.bf_insns, program.bf_len as usize)
                .map_err(|_| Errno::EINVAL)?;
            only_snaplen = insns.len() == 1 && insns.first().is_some_and(|insn| insn.code == RET_K);
            Some(Ref::new(Program::new(&insns).map_err(|_| Errno::EINVAL)?))
        };
        let mut state = self.monitor.lock();
        state.alive()?;
        let set = new.is_some();
        let old = place.swap(new);
        if set && core::ptr::eq(place, &raw const self.rfilter) {
            self.is_reader(only_snaplen && packets == Packets::Forget);
        }
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
            user::copyout(&[dlt], list.bfl_list)?;
        }
        list.bfl_len = 1;
        Ok(list)
    }
}
