// SPDX-License-Identifier: BSD-2-Clause
//! The descriptor, `struct bpf_d`: one open of `/dev/bpfrsN`.

use core::ffi::c_int;
use core::sync::atomic::{AtomicI32, AtomicU32, AtomicU64, Ordering};

use bpfrs_sys::bpfrs_const::{
    BPFRS_BPF_BUFMODE_BUFFER, BPFRS_BPF_BUFMODE_ZBUF, BPFRS_BPF_D_IN, BPFRS_BPF_D_INOUT,
    BPFRS_BPF_D_OUT, BPFRS_POLLHUP, BPFRS_POLLIN, BPFRS_POLLOUT, BPFRS_POLLRDNORM,
    BPFRS_POLLWRNORM,
};

use crate::buffer::Buffers;
use crate::gate;
use crate::kpi::abi::xbpf_d;
use crate::kpi::devfs::{Cdev, CdevRef, Vnode};
use crate::kpi::epoch::{Guard, Ref, Slot};
use crate::kpi::errno::{Errno, Result};
use crate::kpi::ifnet::Name;
use crate::kpi::kqueue::{Event, Filter};
use crate::kpi::lock::{Expire, Monitor, MonitorGuard, Timer, Wake};
use crate::kpi::mbuf::Packet;
use crate::kpi::user::{Read, Uio};
use crate::kpi::{process, stats, tunable};
use crate::program::Program;
use crate::record::{Appended, Clock, Format, Record, Tstamp};
use crate::tap::{self, Attachment};

/// One open. Found through `si_drv1` and the file's private value.
pub struct BpfD {
    /// Keeps `si_drv1` in memory for as long as somebody may look there.
    cdev: CdevRef,
    /// `d_close` calls so far.
    closes: AtomicU32,
    /// Who called last.
    pid: AtomicI32,
    /// More than 0: it gets no packets, until so many filters were set.
    writer: AtomicU32,
    /// What is decided before the lock is taken.
    pub(crate) direction: Direction,
    pub(crate) counters: Counters,
    /// The read filter; none accepts everything.
    pub(crate) rfilter: Slot<Program>,
    /// The write filter; none lets everything out.
    pub(crate) wfilter: Slot<Program>,
    pub(crate) monitor: Monitor<State>,
}

/// The life of an open. It only moves forward (I3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// open(2) has not returned.
    Opening,
    /// open(2) succeeded.
    Live,
    /// Closed, revoked or purged; the bool says whether it was ever live.
    Dead { lived: bool },
}

/// What the lock protects.
pub(crate) struct State {
    phase: Phase,
    /// Where the file came by; taken away at the end.
    vnode: Option<Vnode>,
    pub(crate) bufmode: Bufmode,
    /// Brought by BIOCSETZBUF, or allocated by BIOCSBLEN or BIOCSETIF.
    pub(crate) buffers: Option<Buffers>,
    /// What BIOCGBLEN says, with or without buffers.
    pub(crate) bufsize: u32,
    pub(crate) attachment: Option<Attachment>,
    /// Readers that wait for another reader to finish its copy.
    waiting: u32,
    pub(crate) settings: Settings,
}

/// Whose memory the buffers are: BIOCSETBUFMODE.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bufmode {
    /// The kernel's: read(2) copies them out.
    Buffer,
    /// The user's: zero-copy.
    Zbuf,
}

impl Bufmode {
    /// The `BPF_BUFMODE_*` value.
    pub(crate) fn value(self) -> u32 {
        (match self {
            Bufmode::Buffer => BPFRS_BPF_BUFMODE_BUFFER,
            Bufmode::Zbuf => BPFRS_BPF_BUFMODE_ZBUF,
        }) as u32
    }
}

/// What ioctl(2) sets.
#[derive(Clone, Copy)]
pub(crate) struct Settings {
    pub(crate) immediate: bool,
    /// BIOCLOCK was called.
    pub(crate) locked: bool,
    pub(crate) hdrcmplt: bool,
    pub(crate) feedback: bool,
    /// BIOCSETVLANPCP: the priority of what is written; 0 for none.
    pub(crate) pcp: u32,
    /// FIOASYNC: a signal whenever a reader would wake.
    pub(crate) asynchronous: bool,
    pub(crate) format: Format,
    /// Ticks that a read waits; 0 for ever.
    pub(crate) rtout: c_int,
    /// The signal for FIOASYNC; 0 for none.
    pub(crate) sig: u32,
}

/// Packets captured and written, since the last reset.
#[derive(Default)]
pub(crate) struct Counters {
    /// Offered to the filter.
    pub(crate) received: AtomicU64,
    /// Accepted by the filter.
    pub(crate) matched: AtomicU64,
    /// Accepted and lost, for want of room unless the next two say otherwise.
    pub(crate) dropped: AtomicU64,
    /// Of these: while a reader copied the other buffer out.
    copying: AtomicU64,
    /// Of these: without an interface, on its way when that went.
    detached: AtomicU64,
    /// Accepted, and cut to the size of the buffers.
    cut: AtomicU64,
    /// Copies to a user's buffer: one for a header, one for what follows.
    zerocopy: AtomicU64,
    /// write(2) calls.
    pub(crate) written: AtomicU64,
    /// Accepted by the write filter.
    pub(crate) write_matched: AtomicU64,
    /// Written and not sent, whyever.
    pub(crate) write_dropped: AtomicU64,
}

impl Counters {
    pub(crate) fn reset(&self) {
        let captured = [&self.received, &self.matched, &self.dropped];
        let closer = [&self.copying, &self.detached, &self.cut, &self.zerocopy];
        let written = [&self.written, &self.write_matched, &self.write_dropped];
        for counter in captured.into_iter().chain(closer).chain(written) {
            counter.store(0, Ordering::Relaxed);
        }
    }
}

/// Which packets are wanted: `BPF_D_*`.
pub(crate) struct Direction(AtomicU32);

impl Direction {
    /// Sets a `BPF_D_*` value.
    pub(crate) fn set(&self, value: u32) -> Result<()> {
        let known = [BPFRS_BPF_D_IN, BPFRS_BPF_D_INOUT, BPFRS_BPF_D_OUT];
        if !known.iter().any(|known| *known as u32 == value) {
            return Err(Errno::EINVAL);
        }
        self.0.store(value, Ordering::Relaxed);
        Ok(())
    }

    /// The `BPF_D_*` value.
    pub(crate) fn get(&self) -> u32 {
        self.0.load(Ordering::Relaxed)
    }

    fn wants(&self, inbound: bool) -> bool {
        let unwanted = if inbound { BPFRS_BPF_D_OUT } else { BPFRS_BPF_D_IN };
        self.get() != unwanted as u32
    }
}

/// How many filters like libpcap's first a writer sets before it is a reader.
const WRITER: u32 = 2;

const READABLE: c_int = (BPFRS_POLLIN | BPFRS_POLLRDNORM) as c_int;
const WRITABLE: c_int = (BPFRS_POLLOUT | BPFRS_POLLWRNORM) as c_int;
const HANGUP: c_int = BPFRS_POLLHUP as c_int;

impl State {
    /// # Errors
    /// ENXIO once the open is dead.
    pub(crate) fn alive(&self) -> Result<()> {
        match self.phase {
            Phase::Opening | Phase::Live => Ok(()),
            Phase::Dead { .. } => Err(Errno::ENXIO),
        }
    }

    fn hold_ready(&self) -> bool {
        self.buffers.as_ref().is_some_and(Buffers::has_hold)
    }

    fn with_reader(&self) -> bool {
        self.buffers.as_ref().is_some_and(Buffers::with_reader)
    }

    fn stored(&self) -> usize {
        self.buffers.as_ref().map_or(0, Buffers::stored)
    }

    fn rotate(&mut self) -> bool {
        self.buffers.as_mut().is_some_and(Buffers::rotate)
    }

    /// Bytes that a read could return: FIONREAD.
    pub(crate) fn readable(&self) -> usize {
        self.buffers.as_ref().map_or(0, |b| b.stored().saturating_add(b.held()))
    }
}

impl Expire for State {
    /// The read timeout of poll(2) and kevent(2). What comes from now on wakes
    /// at once.
    fn expired(state: &mut MonitorGuard<'_, State>) {
        if state.stored() != 0 {
            BpfD::wake(state);
        }
    }
}

impl BpfD {
    /// A descriptor for the file that this thread is opening, for reading or
    /// not. Sleeps.
    pub(crate) fn new(cdev: Cdev<'_>, reads: bool) -> Ref<BpfD> {
        stats::increment(stats::DESCRIPTORS);
        Ref::new(BpfD {
            cdev: cdev.keep(),
            closes: AtomicU32::new(0),
            pid: AtomicI32::new(process::pid()),
            writer: AtomicU32::new(if reads { 0 } else { WRITER }),
            direction: Direction(AtomicU32::new(BPFRS_BPF_D_INOUT as u32)),
            counters: Counters::default(),
            rfilter: Slot::new(),
            wfilter: Slot::new(),
            monitor: Monitor::new(State {
                phase: Phase::Opening,
                vnode: Vnode::current(),
                bufmode: Bufmode::Buffer,
                buffers: None,
                bufsize: tunable::bufsize(),
                attachment: None,
                waiting: 0,
                settings: Settings {
                    immediate: false,
                    locked: false,
                    hdrcmplt: false,
                    feedback: false,
                    pcp: 0,
                    asynchronous: false,
                    format: Format { tstamp: Tstamp::MICROTIME, compat32: false },
                    rtout: 0,
                    sig: bpfrs_sys::bpfrs_const::BPFRS_SIGIO as u32,
                },
            }),
        })
    }

    /// open(2) is about to succeed, if nothing ended this open meanwhile.
    ///
    /// Called after publication: a revocation that comes later finds the
    /// open in `si_drv1`, and one that came earlier shows here, as a doomed
    /// vnode or as death (I5).
    ///
    /// # Errors
    /// EBUSY for an open that was overtaken; ENXIO while the module unloads.
    pub(crate) fn begin(&self) -> Result<()> {
        let mut state = self.monitor.lock();
        let doomed = state.vnode.as_ref().is_some_and(Vnode::is_doomed);
        if doomed || state.alive().is_err() {
            return Err(Errno::EBUSY);
        }
        gate::enter()?;
        state.phase = Phase::Live;
        Ok(())
    }

    /// Whether a revocation that does not say of which open means this one:
    /// its own vnode is doomed. Without a vnode it is, to be safe.
    pub(crate) fn is_revoked(&self) -> bool {
        self.monitor.lock().vnode.as_ref().is_none_or(Vnode::is_doomed)
    }

    /// Ends this open. Whoever calls first does it, in the order of I4: mark
    /// dead and wake, unpublish, detach, drain. For all others it is done.
    pub(crate) fn end(this: &Ref<BpfD>) {
        let (vnode, buffers) = {
            let mut state = this.monitor.lock();
            let lived = match state.phase {
                Phase::Dead { .. } => {
                    drop(state);
                    // The winner may not have come so far; the node must be
                    // free when any end of the open returns.
                    Self::unpublish(this);
                    return;
                }
                Phase::Opening => false,
                Phase::Live => true,
            };
            state.phase = Phase::Dead { lived };
            if lived {
                gate::leave();
            }
            state.stop_timer();
            // A signal tells of what somebody else did: not of one's own close(2).
            if state.vnode.as_ref().is_none_or(Vnode::is_doomed) {
                Self::wake(&mut state);
            } else {
                state.wakeup();
            }
            // No packet comes after this; a reader who copies has its own. A
            // user's pages are let go here, whoever keeps the file.
            (state.vnode.take(), state.buffers.take())
        };
        Self::unpublish(this);
        tap::detach(this);
        this.monitor.drain();
        drop((vnode, buffers));
    }

    fn unpublish(this: &Ref<BpfD>) {
        drop(this.cdev.slot().withdraw(this));
    }

    /// Wakes whoever is inside once more: devfs waits for them.
    pub(crate) fn purge(&self) {
        Self::wake(&mut self.monitor.lock());
    }

    /// Wakes whoever waits for packets, or for the end of them.
    pub(crate) fn wake(state: &mut MonitorGuard<'_, State>) {
        if state.timer() == Timer::Waiting {
            state.stop_timer();
        }
        state.wakeup();
        let Settings { asynchronous, sig, .. } = state.settings;
        if asynchronous && sig != 0 {
            state.sigio(c_int::try_from(sig).unwrap_or(0));
        }
    }

    /// A process makes a call.
    pub(crate) fn used_by(&self, pid: i32) {
        self.pid.store(pid, Ordering::Relaxed);
    }

    /// Whether it gets no packets: `net.bpfrs.optimize_writers`.
    pub(crate) fn is_writer(&self) -> bool {
        self.writer.load(Ordering::Relaxed) != 0
    }

    /// It gets an interface: whether it begins as a writer.
    pub(crate) fn born_writer(&self) {
        if self.is_writer() || tunable::optimize_writers() {
            self.writer.store(WRITER, Ordering::Relaxed);
        }
    }

    /// It sets a read filter. `snaplen`: it looks like libpcap's first, which
    /// only sets the length; a second one like this is meant.
    pub(crate) fn is_reader(&self, snaplen: bool) {
        let left = |writer: u32| Some(if snaplen { writer.saturating_sub(1) } else { 0 });
        // Never fails.
        let _ = self.writer.fetch_update(Ordering::Relaxed, Ordering::Relaxed, left);
    }

    /// `struct xbpf_d`, of one that has the interface `name`.
    pub(crate) fn describe(&self, name: Name) -> xbpf_d {
        let state = self.monitor.lock();
        let settings = state.settings;
        let int = |value: usize| i32::try_from(value).unwrap_or(i32::MAX);
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let counters = &self.counters;
        xbpf_d {
            bd_structsize: size_of::<xbpf_d>() as u32,
            bd_promisc: state.attachment.as_ref().is_some_and(Attachment::promisc).into(),
            bd_immediate: settings.immediate.into(),
            bd_pad: [0; 6],
            bd_hdrcmplt: settings.hdrcmplt.into(),
            bd_direction: self.direction.get().cast_signed(),
            bd_feedback: settings.feedback.into(),
            bd_async: settings.asynchronous.into(),
            bd_rcount: count(&counters.received),
            bd_dcount: count(&counters.dropped),
            bd_fcount: count(&counters.matched),
            bd_sig: settings.sig.cast_signed(),
            bd_slen: int(state.stored()),
            bd_hlen: int(state.buffers.as_ref().map_or(0, Buffers::held)),
            bd_bufsize: state.bufsize.cast_signed(),
            bd_pid: self.pid.load(Ordering::Relaxed),
            bd_ifname: name,
            bd_locked: settings.locked.into(),
            bd_wcount: count(&counters.written),
            bd_wfcount: count(&counters.write_matched),
            bd_wdcount: count(&counters.write_dropped),
            bd_zcopy: count(&counters.zerocopy),
            bd_bufmode: state.bufmode.value().cast_signed(),
            bd_pad1: 0,
            bd_pad2: 0,
            bd_copying: count(&counters.copying),
            bd_detached: count(&counters.detached),
            bd_cut: count(&counters.cut),
            bd_spare: 0,
        }
    }

    /// Counts a `d_close`.
    pub(crate) fn count_close(&self) {
        self.closes.fetch_add(1, Ordering::Relaxed);
    }

    /// The file is gone: no `d_close` will come any more.
    pub(crate) fn count_end(&self) {
        if self.monitor.lock().phase == (Phase::Dead { lived: true }) {
            stats::increment(match self.closes.load(Ordering::Relaxed) {
                0 => stats::CLOSES_ZERO,
                1 => stats::CLOSES_ONE,
                2 => stats::CLOSES_TWO,
                _ => stats::CLOSES_MORE,
            });
        }
    }

    /// Forgets packets and counters: BIOCFLUSH.
    pub(crate) fn reset(&self, state: &mut State) {
        if let Some(buffers) = &mut state.buffers {
            buffers.reset();
        }
        self.counters.reset();
    }

    /// read(2).
    ///
    /// # Errors
    /// As stock: EINVAL unless the caller asks for exactly one buffer; ENXIO
    /// without an interface; EOPNOTSUPP with zero-copy buffers; EWOULDBLOCK;
    /// EINTR; EFAULT. ENXIO also when the open ended, whether the call found it
    /// so or slept through it.
    pub(crate) fn read(&self, uio: &mut Uio<'_, Read>, non_block: bool) -> Result<()> {
        let mut state = self.monitor.lock();
        state.alive()?;
        if uio.resid() != state.bufsize as usize {
            return Err(Errno::EINVAL);
        }
        if state.bufmode != Bufmode::Buffer {
            return Err(Errno::EOPNOTSUPP);
        }
        let timed_out = state.timer() == Timer::TimedOut;
        state.stop_timer();
        if !self.wait_for_hold(&mut state, non_block, timed_out)? {
            return Ok(());
        }
        let hold = state.buffers.as_mut().and_then(Buffers::take_hold);
        drop(state);

        // Without the lock: the copy may fault. The buffer is ours alone.
        let Some((buffer, len)) = hold else { return Ok(()) };
        let result = uio.write(buffer.get(..len).unwrap_or_default());

        let mut state = self.monitor.lock();
        let left = match &mut state.buffers {
            Some(buffers) => buffers.give_back(buffer),
            None => Some(buffer),
        };
        if state.waiting > 0 {
            state.wakeup();
        }
        drop(state);
        drop(left);
        result
    }

    /// Waits until there is a hold buffer for this reader; false if the time
    /// ran out with nothing captured.
    fn wait_for_hold(
        &self,
        state: &mut MonitorGuard<'_, State>,
        non_block: bool,
        timed_out: bool,
    ) -> Result<bool> {
        loop {
            if state.with_reader() {
                // Another reader of this descriptor is copying out.
                state.waiting = state.waiting.saturating_add(1);
                let wake = state.sleep(0);
                state.waiting = state.waiting.saturating_sub(1);
                state.alive()?;
                match wake {
                    Wake::Signal(error) => return Err(error),
                    Wake::Woken | Wake::TimedOut => continue,
                }
            }
            if state.hold_ready() {
                return Ok(true);
            }
            let at_once = state.settings.immediate || non_block || timed_out;
            if state.stored() != 0 && at_once {
                return Ok(state.rotate());
            }
            if state.attachment.is_none() {
                return Err(Errno::ENXIO);
            }
            if non_block {
                return Err(Errno::EWOULDBLOCK);
            }
            let rtout = state.settings.rtout;
            let wake = state.sleep(rtout);
            state.alive()?;
            match wake {
                Wake::Signal(error) => return Err(error),
                Wake::TimedOut if !state.hold_ready() && !state.with_reader() => {
                    return Ok(state.stored() != 0 && state.rotate());
                }
                Wake::Woken | Wake::TimedOut => {}
            }
        }
    }

    /// poll(2) and select(2): the events of `events` that are there.
    pub(crate) fn poll(&self, events: c_int) -> c_int {
        let mut state = self.monitor.lock();
        if state.alive().is_err() {
            return Self::poll_dead(events);
        }
        if state.attachment.is_none() {
            return events & (HANGUP | READABLE | WRITABLE);
        }
        let mut ready = events & WRITABLE;
        if events & READABLE != 0 {
            if Self::is_ready(&mut state) {
                ready |= events & READABLE;
            } else {
                state.selrecord();
            }
        }
        ready
    }

    /// What a knote is told, and on what conditions: as poll(2), but that
    /// without an interface nothing is new. Called by the kernel with the
    /// lock held.
    pub(crate) fn event(state: &mut MonitorGuard<'_, State>, filter: Filter) -> Event {
        if state.alive().is_err() {
            return Event::Eof;
        }
        match filter {
            Filter::Read if Self::is_ready(state) => Event::Ready(state.readable()),
            Filter::Read => Event::Quiet,
            Filter::Write => {
                state.attachment.as_ref().map_or(Event::Quiet, |a| Event::Ready(a.mtu()))
            }
        }
    }

    /// Whether a reader need not wait. If it has to, the read timeout begins.
    fn is_ready(state: &mut MonitorGuard<'_, State>) -> bool {
        let at_once = state.settings.immediate || state.timer() == Timer::TimedOut;
        if state.hold_ready() || (at_once && state.stored() != 0) {
            return true;
        }
        let rtout = state.settings.rtout;
        if rtout > 0 && state.timer() == Timer::Idle {
            state.start_timer(rtout);
        }
        false
    }

    /// What poll(2) says of an open that ended: what devfs says of one.
    pub(crate) fn poll_dead(events: c_int) -> c_int {
        HANGUP | (events & READABLE)
    }

    /// The tap: one packet, inside the epoch.
    pub(crate) fn capture(
        &self,
        packet: &Packet<'_>,
        inbound: bool,
        clock: &mut Clock,
        guard: &Guard,
    ) {
        if self.is_writer() || !self.direction.wants(inbound) {
            return;
        }
        self.counters.received.fetch_add(1, Ordering::Relaxed);
        let filter = self.rfilter.load(guard);
        let accept = |filter: Option<&Program>| filter.map_or(u32::MAX, |f| f.run(packet));
        let mut snaplen = accept(filter);
        if snaplen == 0 {
            return;
        }

        let mut state = self.monitor.lock();
        // BIOCSETF changes the filter and forgets what the old one accepted,
        // both under the lock; what the old one accepts now is too late.
        // Addresses are not reused while the section lasts (I1).
        let now = self.rfilter.load(guard);
        if now.map(core::ptr::from_ref) != filter.map(core::ptr::from_ref) {
            snaplen = accept(now);
            if snaplen == 0 {
                return;
            }
        }
        if state.alive().is_err() {
            return;
        }
        self.counters.matched.fetch_add(1, Ordering::Relaxed);
        if self.store(&mut state, packet, snaplen as usize, clock) {
            Self::wake(&mut state);
        }
    }

    /// Appends a record: `catchpacket`. True if it is time to wake readers.
    fn store(
        &self,
        state: &mut MonitorGuard<'_, State>,
        packet: &Packet<'_>,
        snaplen: usize,
        clock: &mut Clock,
    ) -> bool {
        let Settings { immediate, format, .. } = state.settings;
        let at_once = immediate || state.timer() == Timer::TimedOut;
        let count = |counter: &AtomicU64, by: u64| counter.fetch_add(by, Ordering::Relaxed);
        let counters = &self.counters;
        let State { attachment, buffers, bufmode, .. } = &mut **state;
        let (Some(attachment), Some(buffers)) = (attachment, buffers) else {
            count(&counters.dropped, 1);
            count(&counters.detached, 1);
            return false;
        };
        let record = Record { packet, snaplen, format, link: attachment.link_hdrlen() };
        let Ok(Appended { rotated, cut }) = record.append(buffers, clock) else {
            count(&counters.dropped, 1);
            count(&counters.copying, buffers.with_reader().into());
            return false;
        };
        if cut {
            count(&counters.cut, 1);
        }
        if *bufmode == Bufmode::Zbuf {
            count(&counters.zerocopy, 2);
        }
        rotated || at_once
    }
}

impl Drop for BpfD {
    fn drop(&mut self) {
        stats::decrement(stats::DESCRIPTORS);
    }
}
