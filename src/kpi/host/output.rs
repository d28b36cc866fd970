// SPDX-License-Identifier: BSD-2-Clause
//! Packets that write(2) sends: what `if_output` makes of them.

use std::collections::VecDeque;
use std::ffi::{c_int, c_void};
use std::ptr::{self, NonNull};
use std::sync::Mutex as Hidden;
use std::sync::atomic::{AtomicBool as HiddenBool, AtomicI32, AtomicUsize, Ordering};

use bpfrs_sys::{self as sys, bpfrs_const, bpfrs_if, mbuf};

use super::devfs::File;
use super::errno::EAFNOSUPPORT;
use super::ifnet::{Ifnet, Interface, borrow};
use super::mbuf::Chain;
use super::object::{Hold, Kind};
use super::{guard, thread};
use crate::bpf_d::BpfD;
use crate::kpi::epoch::Ref;

/// An mbuf on its way out, not yet sent.
pub(super) struct Packet(NonNull<[u8]>);

impl Packet {
    fn bytes(&self) -> &[u8] {
        // SAFETY: made by Box::leak, and not freed while self is there.
        unsafe { self.0.as_ref() }
    }
}

impl Drop for Packet {
    fn drop(&mut self) {
        // SAFETY: made by Box::leak, freed here only.
        drop(unsafe { Box::from_raw(self.0.as_ptr()) });
    }
}

// SAFETY: an mbuf belongs to whoever has its address.
unsafe impl Send for Packet {}
// SAFETY: as above.
unsafe impl Sync for Packet {}

impl Kind for Packet {
    fn live() -> &'static AtomicUsize {
        static LIVE: AtomicUsize = AtomicUsize::new(0);
        &LIVE
    }
}

/// What an mbuf says of its packet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flags {
    /// `M_BCAST`.
    pub broadcast: bool,
    /// `M_MCAST`.
    pub multicast: bool,
    /// `M_PROMISC`, without `rcvif`: taps leave it out.
    pub unseen: bool,
    /// `MTAG_8021Q_PCP_OUT`; 0 for none.
    pub pcp: u32,
}

/// A packet that an interface sent, or that was fed back to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sent {
    /// The packet, link header first.
    pub bytes: Vec<u8>,
    /// Of its mbuf.
    pub flags: Flags,
    /// It went to `if_input`.
    pub input: bool,
}

/// The output side of an interface.
#[derive(Default)]
pub(super) struct Out {
    /// Without `IFF_UP`.
    down: HiddenBool,
    /// It has departed: no address is left to send from.
    gone: HiddenBool,
    /// What the next `if_output` fails with.
    error: AtomicI32,
    /// The last ones that left.
    sent: Hidden<VecDeque<Sent>>,
}

impl Out {
    pub(super) fn departed(&self) {
        self.gone.store(true, Ordering::SeqCst);
    }

    pub(super) fn returned(&self) {
        self.gone.store(false, Ordering::SeqCst);
    }
}

/// How many packets are kept for who asks.
const MOST_SENT: usize = 64;

impl Interface {
    /// `IF_LLADDR` of every Ethernet interface.
    pub const ADDRESS: [u8; 6] = [2, 0, 0, 0, 0, 1];

    /// What was sent since the last call, the last 64 packets.
    pub fn sent(&self) -> Vec<Sent> {
        guard(&self.0.output.sent).drain(..).collect()
    }

    /// Sets or clears `IFF_UP`.
    pub fn set_up(&self, up: bool) {
        self.0.output.down.store(!up, Ordering::SeqCst);
    }

    /// Makes the next `if_output` fail; 0 for none.
    pub fn set_output_error(&self, error: i32) {
        self.0.output.error.store(error, Ordering::SeqCst);
    }

    fn record(&self, bytes: &[u8], flags: Flags, input: bool) {
        let mut sent = guard(&self.0.output.sent);
        if sent.len() == MOST_SENT {
            sent.pop_front();
        }
        sent.push_back(Sent { bytes: bytes.to_vec(), flags, input });
    }

    /// looutput(): back in, with the address family where others have the
    /// address. if_simloop() sets rcvif before its tap, so `M_PROMISC` hides
    /// nothing there.
    fn lo_output(&self, bytes: &[u8], flags: Flags) -> c_int {
        let (family, payload) = bytes.split_at(4);
        let family = u32::from_ne_bytes(family.try_into().expect("four bytes"));
        if family != AF_INET && family != AF_INET6 {
            return EAFNOSUPPORT;
        }
        self.record(bytes, flags, false);
        self.pass(family, &Chain::new(&[payload]), true);
        0
    }

    /// ether_output(), if_transmit.
    fn ether_output(&self, bytes: &[u8], flags: Flags) -> c_int {
        if self.0.output.down.load(Ordering::SeqCst) {
            return bpfrs_const::BPFRS_ENETDOWN;
        }
        self.record(bytes, flags, false);
        if !flags.unseen {
            self.pass_raw(&[], &Chain::new(&[bytes]), false);
        }
        0
    }

    /// if_input: that of lo(4) frees what it gets.
    fn input(&self, bytes: &[u8], flags: Flags) {
        self.record(bytes, flags, true);
        if !self.0.is_loopback() {
            self.pass_raw(&[], &Chain::new(&[bytes]), true);
        }
    }
}

const AF_INET: u32 = 2;
const AF_INET6: u32 = 28;

/// How many writes an open counted since the last reset: all, those that its
/// filter accepted, those that were not sent. None if it has ended for devfs.
pub fn write_counts(file: &File) -> Option<[u64; 3]> {
    let private = NonNull::new(file.open_file().private()?)?;
    // SAFETY: bpfrs' own private value, which the file keeps.
    let d = unsafe { Ref::<BpfD>::borrow_raw(private) };
    let counters = [&d.counters.written, &d.counters.write_matched, &d.counters.write_dropped];
    Some(counters.map(|counter| counter.load(Ordering::Relaxed)))
}

/// `MJUM16BYTES`: what m_get3(9) can have.
const MOST_BYTES: usize = 16384;

#[unsafe(no_mangle)]
unsafe extern "C" fn bpfrs_kpi_packet_alloc(len: usize, data: *mut *mut c_void) -> *mut mbuf {
    thread::may_sleep("m_get3(9) with M_WAITOK");
    if len > MOST_BYTES {
        return ptr::null_mut();
    }
    let bytes = NonNull::from(Box::leak(vec![0xdb_u8; len].into_boxed_slice()));
    // SAFETY: the driver's own variable, for the call.
    unsafe { data.write(bytes.as_ptr().cast()) };
    Hold::new(Packet(bytes)).into_raw()
}

#[unsafe(no_mangle)]
unsafe extern "C" fn bpfrs_kpi_packet_free(raw: *mut mbuf) {
    // SAFETY: the driver's packet, given up here.
    drop(unsafe { Hold::<Packet>::from_raw(raw) });
}

#[unsafe(no_mangle)]
unsafe extern "C" fn bpfrs_kpi_ifnet_ready(raw: *mut bpfrs_if) -> c_int {
    // SAFETY: the driver's interface.
    let ifnet: Hold<Ifnet> = unsafe { borrow(raw) };
    match ifnet.output.down.load(Ordering::SeqCst) {
        _ if ifnet.is_producer() => bpfrs_const::BPFRS_EOPNOTSUPP,
        true => bpfrs_const::BPFRS_ENETDOWN,
        false => 0,
    }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn bpfrs_kpi_packet_output(
    raw: *mut bpfrs_if,
    packet: *mut mbuf,
    how: *const sys::bpfrs_output,
) -> c_int {
    thread::may_output();
    // SAFETY: the driver's packet, given up here.
    let packet = unsafe { Hold::<Packet>::from_raw(packet) };
    // SAFETY: the driver's interface and variable, for the call.
    let (interface, how) = unsafe { (Interface(borrow(raw)), *how) };
    let gone = interface.0.output.gone.load(Ordering::SeqCst);
    assert!(!gone, "a packet is sent from an address that is gone");
    let is = |flag: i32| how.o_flags & flag.cast_unsigned() != 0;
    let mut bytes = packet.bytes().to_vec();
    let mut flags = Flags::default();
    if how.o_dlt == bpfrs_const::BPFRS_DLT_EN10MB.cast_unsigned() {
        flags.broadcast = bytes[..6] == [0xff; 6];
        flags.multicast = bytes[0] & 1 != 0 && !flags.broadcast;
        if !is(sys::BPFRS_OUTPUT_HDRCMPLT) {
            bytes[6..12].copy_from_slice(&Interface::ADDRESS);
        }
    }
    let copy = is(sys::BPFRS_OUTPUT_FEEDBACK).then_some(flags);
    flags.unseen = copy.is_some() && is(sys::BPFRS_OUTPUT_ONCE);
    flags.pcp = how.o_pcp;
    let error = match interface.0.output.error.swap(0, Ordering::SeqCst) {
        0 if interface.0.is_loopback() => interface.lo_output(&bytes, flags),
        0 => interface.ether_output(&bytes, flags),
        error => error,
    };
    if let Some(flags) = copy.filter(|_| error == 0) {
        interface.input(&bytes, flags);
    }
    error
}
