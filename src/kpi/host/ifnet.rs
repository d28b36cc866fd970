// SPDX-License-Identifier: BSD-2-Clause
//! Interfaces: they come, carry packets past a tap, and go.

use std::ffi::{CStr, c_char, c_int};
use std::sync::Mutex as Hidden;
use std::sync::atomic::{AtomicBool as HiddenBool, AtomicI32, AtomicUsize, Ordering};

use bpfrs_sys::{self as sys, BPFRS_IFNAMSIZ, bpfrs_const, ifnet};

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
    /// lo(4); Ethernet otherwise.
    pub(super) loopback: bool,
    /// What a tap shows: the DLT and the link header's length. None: no tap.
    frames: Option<(i32, u32)>,
    pub(super) output: Out,
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
    use_it(ifnets.get_or_insert_with(|| vec![Hold::new(Ifnet::new("lo0", true, LOOPBACK))]))
}

impl Ifnet {
    fn new(name: &str, loopback: bool, frames: Option<(i32, u32)>) -> Self {
        Ifnet {
            name: Hidden::new(name.to_owned()),
            loopback,
            frames,
            output: Out::default(),
            promisc: AtomicI32::new(0),
            promisc_error: AtomicI32::new(0),
            tapped: AtomicBool::new(false),
            covered: HiddenBool::new(false),
        }
    }
}

/// The frames of lo(4).
const LOOPBACK: Option<(i32, u32)> = Some((bpfrs_const::BPFRS_DLT_NULL, 4));

/// lo(4)'s `if_mtu`.
const LOMTU: c_int = 16384;

/// How many interfaces are tapped.
pub(super) fn tapped() -> usize {
    registry(|ifnets| ifnets.iter().filter(|i| i.tapped.load(Ordering::SeqCst)).count())
}

/// A network interface.
#[derive(Clone)]
pub struct Interface(pub(super) Hold<Ifnet>);

impl Interface {
    fn add(name: &str, loopback: bool, frames: Option<(i32, u32)>) -> Interface {
        let new = Hold::new(Ifnet::new(name, loopback, frames));
        registry(|ifnets| ifnets.push(new.clone()));
        Interface(new)
    }

    /// A new lo(4).
    pub fn loopback(name: &str) -> Interface {
        Self::add(name, true, LOOPBACK)
    }

    /// A new Ethernet interface.
    pub fn ethernet(name: &str) -> Interface {
        Self::add(name, false, Some((bpfrs_const::BPFRS_DLT_EN10MB, 14)))
    }

    /// A new interface of another kind: its DLT, if it has a tap.
    pub fn other(name: &str, dlt: Option<i32>) -> Interface {
        Self::add(name, false, dlt.map(|dlt| (dlt, 0)))
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
        // Its addresses go after a grace period.
        epoch::wait();
        self.0.output.departed();
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
pub(super) unsafe fn borrow(raw: *mut ifnet) -> Hold<Ifnet> {
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
    let Some((dlt, ti_hdrlen)) = unsafe { borrow(raw) }.frames else {
        return bpfrs_const::BPFRS_ENXIO;
    };
    let ti_dlt = dlt.cast_unsigned();
    // SAFETY: the driver's own variable, for the call.
    unsafe { info.write(sys::bpfrs_tap_info { ti_dlt, ti_hdrlen }) };
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
