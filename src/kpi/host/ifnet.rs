// SPDX-License-Identifier: BSD-2-Clause
//! Interfaces: they come, carry packets past a tap, and go.

use std::ffi::{CStr, c_char, c_int};
use std::sync::Mutex as Hidden;
use std::sync::atomic::{AtomicBool as HiddenBool, AtomicI32, AtomicUsize, Ordering};

use bpfrs_sys::{self as sys, BPFRS_IFNAMSIZ, bpfrs_const, ifnet};

use super::driver::driver;
use super::mbuf::Chain;
use super::object::{Hold, Kind};
use super::thread::{self, current_file, with_file};
use super::{epoch, guard, guard_seen, module};
use crate::kpi::epoch::pin;
use crate::kpi::primitive::{AtomicBool, Mutex, statics};

pub(super) struct Ifnet {
    name: Hidden<String>,
    /// Only a loopback interface has a tap.
    loopback: bool,
    promisc: AtomicI32,
    /// What the next change of promiscuous mode fails with.
    promisc_error: AtomicI32,
    /// `if_output` is ours, or what is on top of it leads there.
    tapped: AtomicBool,
    /// Somebody put a function on top.
    covered: HiddenBool,
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
    use_it(ifnets.get_or_insert_with(|| vec![Hold::new(Ifnet::new("lo0", true))]))
}

impl Ifnet {
    fn new(name: &str, loopback: bool) -> Self {
        Ifnet {
            name: Hidden::new(name.to_owned()),
            loopback,
            promisc: AtomicI32::new(0),
            promisc_error: AtomicI32::new(0),
            tapped: AtomicBool::new(false),
            covered: HiddenBool::new(false),
        }
    }
}

/// lo(4)'s `if_mtu`.
const LOMTU: c_int = 16384;

/// How many interfaces are tapped.
pub(super) fn tapped() -> usize {
    registry(|ifnets| ifnets.iter().filter(|i| i.tapped.load(Ordering::SeqCst)).count())
}

/// A network interface.
#[derive(Clone)]
pub struct Interface(Hold<Ifnet>);

impl Interface {
    fn add(name: &str, loopback: bool) -> Interface {
        let new = Hold::new(Ifnet::new(name, loopback));
        registry(|ifnets| ifnets.push(new.clone()));
        Interface(new)
    }

    /// A new lo(4).
    pub fn loopback(name: &str) -> Interface {
        Self::add(name, true)
    }

    /// A new interface of a kind without a tap.
    pub fn ethernet(name: &str) -> Interface {
        Self::add(name, false)
    }

    /// The interface of that name.
    pub fn named(name: &str) -> Option<Interface> {
        registry(|ifnets| ifnets.iter().find(|i| *guard(&i.name) == name).cloned()).map(Interface)
    }

    /// Gives it another name.
    pub fn rename(&self, name: &str) {
        name.clone_into(&mut guard(&self.0.name));
    }

    /// Removes it: ifnet_departure_event.
    pub fn depart(&self) {
        registry(|ifnets| ifnets.retain(|other| !other.same(&self.0)));
        // SAFETY: the driver is loaded; the interface is kept by self.
        module::while_loaded(|| unsafe { (driver().ifdeparture)(self.0.raw()) });
    }

    /// How often promiscuous mode was asked for.
    pub fn promisc(&self) -> i32 {
        self.0.promisc.load(Ordering::SeqCst)
    }

    /// Whether its packets pass the driver.
    pub fn is_tapped(&self) -> bool {
        self.0.tapped.load(Ordering::SeqCst)
    }

    /// Somebody else puts a function on top of `if_output`, or takes it away.
    pub fn set_covered(&self, covered: bool) {
        self.0.covered.store(covered, Ordering::SeqCst);
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
        // The function pointer is read and called inside the epoch.
        pin(|_| {
            if self.is_tapped() {
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
unsafe fn borrow(raw: *mut ifnet) -> Hold<Ifnet> {
    // SAFETY: by the contract of this function.
    unsafe { Hold::borrow(raw) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn bpfrs_kpi_ifnet_byname(name: *const c_char) -> *mut ifnet {
    thread::may_sleep("ifunit_ref(9)");
    // SAFETY: the driver's array, which ends in NUL.
    let name = unsafe { CStr::from_ptr(name) }.to_string_lossy().into_owned();
    Interface::named(&name).map_or(std::ptr::null_mut(), |found| found.0.into_raw())
}

#[unsafe(no_mangle)]
unsafe extern "C" fn bpfrs_kpi_ifnet_rele(raw: *mut ifnet) {
    // SAFETY: the driver's reference, given up here.
    drop(unsafe { Hold::<Ifnet>::from_raw(raw) });
}

#[unsafe(no_mangle)]
unsafe extern "C" fn bpfrs_kpi_ifnet_name(raw: *mut ifnet, name: *mut c_char) {
    // SAFETY: the driver's interface.
    let ifnet = unsafe { borrow(raw) };
    let mut bytes = guard(&ifnet.name).clone().into_bytes();
    bytes.truncate(BPFRS_IFNAMSIZ as usize - 1);
    bytes.push(0);
    // SAFETY: the driver's array has BPFRS_IFNAMSIZ bytes.
    unsafe { name.cast::<u8>().copy_from_nonoverlapping(bytes.as_ptr(), bytes.len()) };
}

#[unsafe(no_mangle)]
unsafe extern "C" fn bpfrs_kpi_ifnet_promisc(raw: *mut ifnet, on: c_int) -> c_int {
    thread::may_sleep("ifpromisc(9)");
    // SAFETY: the driver's interface.
    let ifnet = unsafe { borrow(raw) };
    let error = ifnet.promisc_error.swap(0, Ordering::SeqCst);
    if error != 0 {
        return error;
    }
    let before = ifnet.promisc.fetch_add(if on != 0 { 1 } else { -1 }, Ordering::SeqCst);
    assert!(on != 0 || before > 0, "promiscuous mode is switched off once too often");
    0
}

#[unsafe(no_mangle)]
unsafe extern "C" fn bpfrs_kpi_ifnet_mtu(raw: *mut ifnet) -> c_int {
    // SAFETY: the driver's interface.
    if unsafe { borrow(raw) }.loopback { LOMTU } else { 1500 }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn bpfrs_kpi_tap_info(raw: *mut ifnet, info: *mut sys::bpfrs_tap_info) -> c_int {
    // SAFETY: the driver's interface.
    if !unsafe { borrow(raw) }.loopback {
        return bpfrs_const::BPFRS_ENXIO;
    }
    let loopback = sys::bpfrs_tap_info { ti_dlt: bpfrs_const::BPFRS_DLT_NULL as u32, ti_hdrlen: 4 };
    // SAFETY: the driver's own variable, for the call.
    unsafe { info.write(loopback) };
    0
}

#[unsafe(no_mangle)]
unsafe extern "C" fn bpfrs_kpi_tap_on(raw: *mut ifnet) -> c_int {
    // SAFETY: the driver's interface.
    let ifnet = unsafe { borrow(raw) };
    if ifnet.covered.load(Ordering::SeqCst) && !ifnet.tapped.load(Ordering::SeqCst) {
        return bpfrs_const::BPFRS_EBUSY;
    }
    ifnet.tapped.store(true, Ordering::SeqCst);
    0
}

#[unsafe(no_mangle)]
unsafe extern "C" fn bpfrs_kpi_tap_off(raw: *mut ifnet) -> c_int {
    // SAFETY: the driver's interface.
    let ifnet = unsafe { borrow(raw) };
    if ifnet.covered.load(Ordering::SeqCst) || !ifnet.tapped.load(Ordering::SeqCst) {
        return bpfrs_const::BPFRS_EBUSY;
    }
    ifnet.tapped.store(false, Ordering::SeqCst);
    0
}

#[unsafe(no_mangle)]
extern "C" fn bpfrs_kpi_tap_quiesce() {
    thread::may_sleep("epoch_wait_preempt(9)");
    assert!(tapped() == 0, "quiesce with an interface that is still tapped");
    epoch::wait();
}
