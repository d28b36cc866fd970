// SPDX-License-Identifier: BSD-2-Clause
//! Taps: from an interface to the descriptors that listen to it.
//!
//! Who listens is a list that is copied on every change and published as a
//! whole, so that a packet takes no lock on its way to a descriptor. Changes
//! are made under the control lock.

use crate::bpf_d::{BpfD, Bufmode};
use crate::buffer::Buffers;
use crate::kpi::abi::xbpf_d;
use crate::kpi::epoch::{Guard, Ref, Slot};
use crate::kpi::errno::{Errno, Result};
use crate::kpi::ifnet::{Ifnet, Key, Name, TapInfo};
use crate::kpi::lock::{Control, ControlGuard};
use crate::kpi::mbuf::Packet;
use crate::kpi::memory::Array;
use crate::kpi::primitive::statics;
use crate::record::Clock;

type List<T> = Array<Ref<T>>;

/// A tapped interface.
pub(crate) struct Tap {
    ifnet: Ifnet,
    info: TapInfo,
    peers: Slot<List<BpfD>>,
}

/// What a descriptor has of its tap.
pub(crate) struct Attachment {
    tap: Ref<Tap>,
    /// BIOCPROMISC was called: one count of promiscuous mode is ours.
    promisc: bool,
}

impl Attachment {
    pub(crate) fn dlt(&self) -> u32 {
        self.tap.info.dlt
    }

    pub(crate) fn link_hdrlen(&self) -> u32 {
        self.tap.info.hdrlen
    }

    pub(crate) fn mtu(&self) -> usize {
        self.tap.ifnet.mtu()
    }

    pub(crate) fn name(&self) -> Name {
        self.tap.ifnet.name()
    }

    pub(crate) fn promisc(&self) -> bool {
        self.promisc
    }

    pub(crate) fn tap(&self) -> &Ref<Tap> {
        &self.tap
    }
}

statics! {
    static TAPS: Slot<List<Tap>> = Slot::new();
}

/// Who changes [`TAPS`], a tap's peers or a descriptor's attachment.
static CONTROL: Control<()> = Control::new(());

/// Publishes the list without those that `keep` refuses and with `new`.
fn change<T: Send + Sync>(
    _control: &ControlGuard<'_, ()>,
    place: &Slot<List<T>>,
    keep: impl Fn(&Ref<T>) -> bool,
    new: Option<&Ref<T>>,
) {
    let old = place.get();
    let old: &[Ref<T>] = old.as_ref().map_or(&[], |list| list);
    // `keep` may act: it is asked once for each.
    let kept = old.iter().filter(|item| keep(item)).chain(new).cloned();
    let list = Array::collect(old.len().saturating_add(1), kept);
    drop(place.swap(if list.is_empty() { None } else { Some(Ref::new(list)) }));
}

impl Tap {
    pub(crate) fn dlt(&self) -> u32 {
        self.info.dlt
    }

    pub(crate) fn ifnet(&self) -> &Ifnet {
        &self.ifnet
    }

    fn has_peers(&self) -> bool {
        !self.peers.is_empty()
    }
}

/// The tap of an interface, if it is tapped.
fn find(_control: &ControlGuard<'_, ()>, key: Key) -> Option<Ref<Tap>> {
    TAPS.get()?.iter().find(|tap| tap.ifnet.key() == key).cloned()
}

/// The tap of an interface, which is tapped from now on.
fn find_or_create(control: &ControlGuard<'_, ()>, ifnet: Ifnet, info: TapInfo) -> Result<Ref<Tap>> {
    if let Some(tap) = find(control, ifnet.key()) {
        return Ok(tap);
    }
    ifnet.tap_on()?;
    let tap = Ref::new(Tap { ifnet, info, peers: Slot::new() });
    change(control, &TAPS, |_| true, Some(&tap));
    Ok(tap)
}

/// Takes the taps off that `keep` refuses.
fn release(control: &ControlGuard<'_, ()>, keep: impl Fn(&Tap) -> bool) {
    let stays = |tap: &Ref<Tap>| {
        let stays = keep(tap);
        if !stays {
            tap.ifnet.tap_off();
        }
        stays
    };
    change(control, &TAPS, stays, None);
}

/// Takes the taps off that nobody listens to.
fn release_unused(control: &ControlGuard<'_, ()>) {
    release(control, Tap::has_peers);
}

/// BIOCSETIF.
///
/// # Errors
/// ENXIO for a name that is unknown or of an interface without a tap, and if
/// the open ended; EINVAL in zero-copy mode without buffers.
pub(crate) fn attach(d: &Ref<BpfD>, name: &Name) -> Result<()> {
    let control = CONTROL.lock();
    let ifnet = Ifnet::by_name(name)?;
    let info = ifnet.tap_info()?;

    let bufsize = {
        let mut state = d.monitor.lock();
        state.alive()?;
        let same = |a: &Attachment| a.tap.ifnet.key() == ifnet.key();
        if state.attachment.as_ref().is_some_and(same) {
            d.reset(&mut state);
            return Ok(());
        }
        match state.bufmode {
            _ if state.buffers.is_some() => None,
            Bufmode::Buffer => Some(state.bufsize),
            // The user brings them before.
            Bufmode::Zbuf => return Err(Errno::EINVAL),
        }
    };
    // Allocated without the descriptor's lock. Left over, and dropped after
    // it, if BIOCSBLEN was faster: buffers come, but never go.
    let mut buffers = bufsize.map(|size| Buffers::new(size as usize));

    detach_locked(&control, d);
    let tap = find_or_create(&control, ifnet, info);
    let tap = tap.inspect_err(|_| release_unused(&control))?;
    let result = {
        let mut state = d.monitor.lock();
        // Dead now means that end() waits for the control lock to detach, or
        // has done so already: a dead descriptor never attaches (I4).
        // The mode may have been changed meanwhile.
        let other_mode = state.buffers.is_none() && state.bufmode != Bufmode::Buffer;
        let mode = if other_mode { Err(Errno::EINVAL) } else { Ok(()) };
        state.alive().and(mode).map(|()| {
            if state.buffers.is_none() {
                state.buffers = buffers.take();
            }
            d.reset(&mut state);
            d.born_writer();
            state.attachment = Some(Attachment { tap: tap.clone(), promisc: false });
        })
    };
    if result.is_ok() {
        change(&control, &tap.peers, |_| true, Some(d));
    }
    release_unused(&control);
    result
}

/// BIOCPROMISC: once for each attachment.
///
/// # Errors
/// EINVAL without an interface; what the interface says.
pub(crate) fn set_promisc(d: &Ref<BpfD>) -> Result<()> {
    let _control = CONTROL.lock();
    let tap = {
        let state = d.monitor.lock();
        state.alive()?;
        match &state.attachment {
            None => return Err(Errno::EINVAL),
            Some(attachment) if attachment.promisc => return Ok(()),
            Some(attachment) => attachment.tap.clone(),
        }
    };
    tap.ifnet.set_promisc(true)?;
    // The control lock keeps the attachment, even of a descriptor that died.
    if let Some(attachment) = &mut d.monitor.lock().attachment {
        attachment.promisc = true;
    }
    Ok(())
}

/// Ends an attachment, for a descriptor that is dead.
pub(crate) fn detach(d: &Ref<BpfD>) {
    let control = CONTROL.lock();
    detach_locked(&control, d);
    release_unused(&control);
}

fn detach_locked(control: &ControlGuard<'_, ()>, d: &Ref<BpfD>) {
    let attachment = d.monitor.lock().attachment.take();
    let Some(Attachment { tap, promisc }) = attachment else { return };
    change(control, &tap.peers, |peer| !peer.same(d), None);
    if promisc {
        // An interface on its way out may refuse; its count goes with it.
        let _ = tap.ifnet.set_promisc(false);
    }
}

/// An interface is going away: whoever listens to it reads ENXIO and may
/// attach to another.
pub(crate) fn departed(key: Key) {
    let control = CONTROL.lock();
    let Some(tap) = find(&control, key) else { return };
    if let Some(peers) = tap.peers.get() {
        for d in peers.iter() {
            detach_locked(&control, d);
            BpfD::wake(&mut d.monitor.lock());
        }
    }
    release_unused(&control);
}

/// Takes every tap off, whoever listens: all of them are dead, but one that
/// another thread ends may not be detached yet.
pub(crate) fn release_all() {
    release(&CONTROL.lock(), |_| false);
}

/// Those with an interface that the caller may know of, one tap after another.
fn for_each_attached(mut tell: impl FnMut(&Tap, &[Ref<BpfD>])) {
    let _control = CONTROL.lock();
    let Some(taps) = TAPS.get() else { return };
    for tap in taps.iter().filter(|tap| tap.ifnet.is_visible()) {
        if let Some(peers) = tap.peers.get() {
            tell(tap, &peers);
        }
    }
}

/// Describes descriptors with an interface, as many as there are places, those
/// first that get no packets; how many there are.
pub(crate) fn describe(places: &mut [xbpf_d]) -> usize {
    let mut count = 0usize;
    for_each_attached(|tap, peers| {
        let name = tap.ifnet.name();
        let (writers, readers) = (|d: &&Ref<BpfD>| d.is_writer(), |d: &&Ref<BpfD>| !d.is_writer());
        for d in peers.iter().filter(writers).chain(peers.iter().filter(readers)) {
            if let Some(place) = places.get_mut(count) {
                *place = d.describe(name);
            }
            count = count.saturating_add(1);
        }
    });
    count
}

/// Sets the counters to zero of every descriptor with an interface.
pub(crate) fn reset_counters() {
    for_each_attached(|_, peers| peers.iter().for_each(|d| d.counters.reset()));
}

/// One packet of a tapped interface. `inbound`: it came by this interface.
pub(crate) fn packet(key: Key, packet: &Packet<'_>, inbound: bool, guard: &Guard) {
    let taps = TAPS.load(guard);
    let tap = taps.and_then(|taps| taps.iter().find(|tap| tap.ifnet.key() == key));
    let Some(peers) = tap.and_then(|tap| tap.peers.load(guard)) else { return };
    let mut clock = Clock::new();
    for d in peers.iter() {
        d.capture(packet, inbound, &mut clock, guard);
    }
}
