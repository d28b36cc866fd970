// SPDX-License-Identifier: BSD-2-Clause
//! Interfaces: they come, carry packets past a tap, and go. As bpfrs_tap.ko
//! shows them.

use std::ffi::{CStr, c_char, c_int};
use std::sync::Mutex as Hidden;
use std::sync::atomic::{AtomicBool as HiddenBool, AtomicI32, AtomicUsize, Ordering};

use bpfrs_sys::{self as sys, BPFRS_IFNAMSIZ, bpfrs_const, bpfrs_if};

use super::driver::driver;
use super::mbuf::Chain;
use super::object::{Hold, Kind};
use super::output::Out;
use super::thread::{self, current_file, with_file};
use super::{epoch, guard, guard_seen, module};
use crate::kpi::epoch::pin;
use crate::kpi::primitive::{AtomicBool, Mutex, statics};

pub(super) struct Ifnet {
    name: Hidden<String>,
    sort: Sort,
    pub(super) output: Out,
    promisc: AtomicI32,
    /// What the next change of promiscuous mode fails with.
    promisc_error: AtomicI32,
    /// Its packets are wanted.
    tapped: AtomicBool,
    /// In another network stack than a jailed caller.
    elsewhere: HiddenBool,
}

/// What an interface is to its tap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sort {
    /// lo(4).
    Loopback,
    /// Ethernet, or like one.
    Ethernet,
    /// None that has a tap.
    Other,
    /// Not an interface: what a producer attached.
    Producer { dlt: u32, hdrlen: u32 },
}

impl Kind for Ifnet {
    fn live() -> &'static AtomicUsize {
        static LIVE: AtomicUsize = AtomicUsize::new(0);
        &LIVE
    }
}

statics! {
    /// Those that can be found by name. `lo0` is there from the start.
    static IFNETS: Mutex<Option<Vec<Hold<Ifnet>>>> = Mutex::new(None);
}

fn registry<R>(use_it: impl FnOnce(&mut Vec<Hold<Ifnet>>) -> R) -> R {
    let mut ifnets = guard_seen(&IFNETS);
    use_it(ifnets.get_or_insert_with(|| vec![Hold::new(Ifnet::new("lo0", Sort::Loopback))]))
}

impl Ifnet {
    fn new(name: &str, sort: Sort) -> Self {
        Ifnet {
            name: Hidden::new(name.to_owned()),
            sort,
            output: Out::default(),
            promisc: AtomicI32::new(0),
            promisc_error: AtomicI32::new(0),
            tapped: AtomicBool::new(false),
            elsewhere: HiddenBool::new(false),
        }
    }
}

impl Ifnet {
    pub(super) fn is_loopback(&self) -> bool {
        self.sort == Sort::Loopback
    }

    pub(super) fn is_producer(&self) -> bool {
        matches!(self.sort, Sort::Producer { .. })
    }
}

/// lo(4)'s `if_mtu`.
const LOMTU: c_int = 16384;
/// That of an Ethernet.
const ETHERMTU: c_int = 1500;
/// Bytes of an Ethernet header.
const ETHER_HDR_LEN: u32 = 14;

/// bpfrs_tap.ko has a consumer.
static CONSUMER: HiddenBool = HiddenBool::new(false);

/// The driver is there for packets.
pub(super) fn register() {
    CONSUMER.store(true, Ordering::SeqCst);
}

/// The driver is not called with a packet any more, nor being called.
pub(super) fn unregister() {
    CONSUMER.store(false, Ordering::SeqCst);
    epoch::wait();
}

/// How many interfaces are tapped.
pub(super) fn tapped() -> usize {
    registry(|ifnets| ifnets.iter().filter(|i| i.tapped.load(Ordering::SeqCst)).count())
}

/// A network interface.
#[derive(Clone)]
pub struct Interface(pub(super) Hold<Ifnet>);

impl Interface {
    fn add(name: &str, sort: Sort) -> Interface {
        let new = Hold::new(Ifnet::new(name, sort));
        registry(|ifnets| ifnets.push(new.clone()));
        Interface(new)
    }

    /// A new lo(4).
    pub fn loopback(name: &str) -> Interface {
        Self::add(name, Sort::Loopback)
    }

    /// A new Ethernet.
    pub fn ethernet(name: &str) -> Interface {
        Self::add(name, Sort::Ethernet)
    }

    /// A new interface of a kind without a tap.
    pub fn other(name: &str) -> Interface {
        Self::add(name, Sort::Other)
    }

    /// bpfrs_attach: a producer's.
    pub fn producer(name: &str, dlt: u32, hdrlen: u32) -> Interface {
        Self::add(name, Sort::Producer { dlt, hdrlen })
    }

    /// The interface of that name.
    pub fn named(name: &str) -> Option<Interface> {
        registry(|ifnets| ifnets.iter().find(|i| *guard(&i.name) == name).cloned()).map(Interface)
    }

    /// From here on callers are in a jail whose network stack has it, or not.
    pub fn set_visible(&self, visible: bool) {
        self.0.elsewhere.store(!visible, Ordering::Relaxed);
    }

    /// Gives it another name.
    pub fn rename(&self, name: &str) {
        name.clone_into(&mut guard(&self.0.name));
    }

    /// Removes it: ifnet_departure_event, or bpfrs_detach.
    pub fn depart(&self) {
        registry(|ifnets| ifnets.retain(|other| !other.same(&self.0)));
        self.0.tapped.store(false, Ordering::SeqCst);
        // SAFETY: the driver is loaded; the interface is kept by self.
        module::while_loaded(|| unsafe { (driver().ifdeparture)(self.0.raw()) });
        // Its addresses go after a grace period.
        epoch::wait();
        self.0.output.departed();
    }

    /// Takes it to another network stack and back.
    pub fn move_and_return(&self) {
        self.depart();
        self.0.output.returned();
        registry(|ifnets| ifnets.push(self.0.clone()));
    }

    /// How often promiscuous mode was asked for.
    pub fn promisc(&self) -> i32 {
        self.0.promisc.load(Ordering::SeqCst)
    }

    /// Whether its packets pass the driver.
    pub fn is_tapped(&self) -> bool {
        self.0.tapped.load(Ordering::SeqCst)
    }

    /// Makes the next ifpromisc(9) fail; 0 for none.
    pub fn set_promisc_error(&self, error: i32) {
        self.0.promisc_error.store(error, Ordering::SeqCst);
    }

    /// One packet of address family `af`. `inbound`: as if received here, and
    /// that is how lo(4) shows all.
    pub fn pass(&self, af: u32, chain: &Chain, inbound: bool) {
        self.pass_raw(&af.to_ne_bytes(), chain, inbound);
    }

    /// One packet with a link header of any bytes.
    pub fn pass_raw(&self, header: &[u8], chain: &Chain, inbound: bool) {
        pin(|_| {
            if self.is_tapped() && CONSUMER.load(Ordering::SeqCst) {
                // SAFETY: header and chain are borrowed during the call.
                with_file("if_output", current_file(), || unsafe {
                    (driver().tap)(
                        self.0.raw(),
                        header.as_ptr().cast(),
                        header.len(),
                        chain.raw(),
                        inbound.into(),
                    );
                });
            }
        });
    }
}

/// One packet on a loopback interface, in segments.
///
/// # Panics
/// If there is no such interface.
pub fn inject(name: &str, af: u32, segments: &[&[u8]]) {
    let ifnet = Interface::named(name).expect("an interface of that name");
    ifnet.pass(af, &Chain::new(segments), true);
}

/// # Safety
/// `raw` came from `bpfrs_kpi_ifnet_byname`.
pub(super) unsafe fn borrow(raw: *mut bpfrs_if) -> Hold<Ifnet> {
    // SAFETY: by the contract of this function.
    unsafe { Hold::borrow(raw) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn bpfrs_kpi_ifnet_byname(name: *const c_char) -> *mut bpfrs_if {
    thread::may_sleep("ifunit_ref(9)");
    // SAFETY: the driver's array, which ends in NUL.
    let name = unsafe { CStr::from_ptr(name) }.to_string_lossy().into_owned();
    Interface::named(&name).map_or(std::ptr::null_mut(), |found| found.0.into_raw())
}

#[unsafe(no_mangle)]
unsafe extern "C" fn bpfrs_kpi_ifnet_rele(raw: *mut bpfrs_if) {
    // SAFETY: the driver's reference, given up here.
    drop(unsafe { Hold::<Ifnet>::from_raw(raw) });
}

#[unsafe(no_mangle)]
unsafe extern "C" fn bpfrs_kpi_ifnet_name(raw: *mut bpfrs_if, name: *mut c_char) {
    // SAFETY: the driver's interface.
    let ifnet = unsafe { borrow(raw) };
    let mut bytes = guard(&ifnet.name).clone().into_bytes();
    bytes.truncate(BPFRS_IFNAMSIZ as usize - 1);
    bytes.push(0);
    // SAFETY: the driver's array has BPFRS_IFNAMSIZ bytes.
    unsafe { name.cast::<u8>().copy_from_nonoverlapping(bytes.as_ptr(), bytes.len()) };
}

#[unsafe(no_mangle)]
unsafe extern "C" fn bpfrs_kpi_ifnet_promisc(raw: *mut bpfrs_if, on: c_int) -> c_int {
    thread::may_sleep("ifpromisc(9)");
    // SAFETY: the driver's interface.
    let ifnet = unsafe { borrow(raw) };
    if ifnet.is_producer() {
        return 0;
    }
    let error = ifnet.promisc_error.swap(0, Ordering::SeqCst);
    if error != 0 {
        return error;
    }
    let before = ifnet.promisc.fetch_add(if on != 0 { 1 } else { -1 }, Ordering::SeqCst);
    assert!(on != 0 || before > 0, "promiscuous mode is switched off once too often");
    0
}

#[unsafe(no_mangle)]
unsafe extern "C" fn bpfrs_kpi_ifnet_visible(raw: *mut bpfrs_if) -> c_int {
    // SAFETY: the driver's interface.
    (!unsafe { borrow(raw) }.elsewhere.load(Ordering::Relaxed)).into()
}

#[unsafe(no_mangle)]
unsafe extern "C" fn bpfrs_kpi_ifnet_mtu(raw: *mut bpfrs_if) -> c_int {
    // SAFETY: the driver's interface.
    match unsafe { borrow(raw) }.sort {
        Sort::Loopback => LOMTU,
        Sort::Ethernet | Sort::Other => ETHERMTU,
        Sort::Producer { .. } => 0,
    }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn bpfrs_kpi_tap_info(
    raw: *mut bpfrs_if,
    info: *mut sys::bpfrs_tap_info,
) -> c_int {
    // SAFETY: the driver's interface.
    let (ti_dlt, ti_hdrlen) = match unsafe { borrow(raw) }.sort {
        Sort::Loopback => (bpfrs_const::BPFRS_DLT_NULL.cast_unsigned(), 4),
        Sort::Ethernet => (bpfrs_const::BPFRS_DLT_EN10MB.cast_unsigned(), ETHER_HDR_LEN),
        Sort::Other => return bpfrs_const::BPFRS_ENXIO,
        Sort::Producer { dlt, hdrlen } => (dlt, hdrlen),
    };
    // SAFETY: the driver's own variable, for the call.
    unsafe { info.write(sys::bpfrs_tap_info { ti_dlt, ti_hdrlen }) };
    0
}

#[unsafe(no_mangle)]
unsafe extern "C" fn bpfrs_kpi_tap_names(
    max: u32,
    count: *mut u32,
    names: *mut c_char,
    size: usize,
) -> usize {
    let max = if max == 0 { usize::MAX } else { max as usize };
    let mut list = Vec::new();
    let listed = registry(|ifnets| {
        let seen = ifnets
            .iter()
            .filter(|ifnet| ifnet.sort != Sort::Other && !ifnet.elsewhere.load(Ordering::Relaxed));
        let taken = seen.take(max).map(|ifnet| {
            list.extend_from_slice(guard(&ifnet.name).as_bytes());
            list.push(0);
        });
        taken.count()
    });
    // SAFETY: the driver's own variable, for the call.
    unsafe { count.write(listed.try_into().expect("fewer interfaces than 32 bits count")) };
    let len = list.len().min(size);
    // SAFETY: the driver's array has `size` bytes.
    unsafe { names.cast::<u8>().copy_from_nonoverlapping(list.as_ptr(), len) };
    list.len()
}

#[unsafe(no_mangle)]
unsafe extern "C" fn bpfrs_kpi_tap_on(raw: *mut bpfrs_if) -> c_int {
    thread::may_sleep("sx_xlock(9)");
    // SAFETY: the driver's interface.
    let ifnet = unsafe { borrow(raw) };
    // With the list: one that is on it now will be announced when it goes.
    let there = registry(|ifnets| {
        let there = ifnets.iter().any(|other| other.same(&ifnet)) && ifnet.sort != Sort::Other;
        if there {
            ifnet.tapped.store(true, Ordering::SeqCst);
        }
        there
    });
    if there { 0 } else { bpfrs_const::BPFRS_ENXIO }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn bpfrs_kpi_tap_off(raw: *mut bpfrs_if) {
    thread::may_sleep("sx_xlock(9)");
    // SAFETY: the driver's interface.
    unsafe { borrow(raw) }.tapped.store(false, Ordering::SeqCst);
}
