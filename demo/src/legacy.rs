// SPDX-License-Identifier: BSD-2-Clause
//! The positive control: a packet-capture device with the life cycle that
//! bpf(4) had until 2008, wrong in the same places. `vm-tests/legacy` is the
//! same in C for a real kernel; here packets come by the tap.
//!
//! It is as careful as that one was, and more so: who sleeps is woken before
//! the descriptor goes, and the lock that sleepers come back to outlives it. (A
//! monitor of the border cannot be freed under a sleeper: that would be caught
//! before the reader shows what happens to it.)

use std::ffi::{c_char, c_int, c_ulong, c_void};
use std::mem::MaybeUninit;
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use bpfrs::kpi::abi::{bpf_insn, bpf_program, bpf_stat, timeval};
use bpfrs::kpi::host::Driver;
use bpfrs::kpi::stats;
use bpfrs_sys::bpfrs_const::*;
use bpfrs_sys::bpfrs_ioc::*;
use bpfrs_sys::{self as sys, bpfrs_if, bpfrs_mbuf_look, bpfrs_monitor, cdev, knote, mbuf, uio};

/// What `host::load_driver` takes.
pub(crate) const LEGACY: Driver = Driver {
    load: legacy_load,
    unload: legacy_unload,
    clone: legacy_clone,
    open: legacy_open,
    close: legacy_close,
    purge: legacy_purge,
    read: legacy_read,
    write: legacy_write,
    ioctl: legacy_ioctl,
    poll: legacy_poll,
    kqfilter: legacy_kqfilter,
    dtor: legacy_dtor,
    ifdeparture: legacy_ifdeparture,
    tap: legacy_tap,
};

const NODES: usize = 16;
/// bh_hdrlen of DLT_NULL.
const HEADER: usize = 28;
const BUFSIZE: usize = 4096;
const BUFSIZE_MAX: u32 = 0x80000;

/// State of an open.
struct Legacy {
    /// The node's.
    lock: *mut bpfrs_monitor,
    buffer: *mut u8,
    size: usize,
    /// Bytes for the reader.
    length: usize,
    received: u32,
    dropped: u32,
    /// Ticks, 0: for ever.
    timeout: c_int,
    reject: bool,
    promisc: bool,
    interface: *mut bpfrs_if,
}

/// A node. `si_drv1` of its cdev is the state, or NULL: nothing locks it.
struct Node {
    dev: AtomicPtr<cdev>,
    lock: AtomicPtr<bpfrs_monitor>,
    /// Of the newest open.
    closes: AtomicU64,
    /// Ever.
    opened: AtomicBool,
}

static NODE: [Node; NODES] = [const {
    Node {
        dev: AtomicPtr::new(ptr::null_mut()),
        lock: AtomicPtr::new(ptr::null_mut()),
        closes: AtomicU64::new(0),
        opened: AtomicBool::new(false),
    }
}; NODES];

/// The states that listen to lo0, by address: bif_dlist and its lock.
static LISTENERS: Mutex<Vec<usize>> = Mutex::new(Vec::new());

fn listeners() -> MutexGuard<'static, Vec<usize>> {
    LISTENERS.lock().unwrap_or_else(PoisonError::into_inner)
}

fn node_of(dev: *mut cdev) -> Option<&'static Node> {
    NODE.iter().find(|node| node.dev.load(Ordering::Relaxed) == dev)
}

/// The newest open of a node is over: a new one begins, or none.
fn tally(node: &Node, opens: bool) {
    let closes = node.closes.swap(0, Ordering::Relaxed);
    if node.opened.swap(opens, Ordering::Relaxed) {
        stats::increment(match closes {
            0 => stats::CLOSES_ZERO,
            1 => stats::CLOSES_ONE,
            2 => stats::CLOSES_TWO,
            _ => stats::CLOSES_MORE,
        });
    }
}

/// si_drv1.
fn drv1(dev: *mut cdev) -> &'static AtomicPtr<Legacy> {
    // SAFETY: nodes stay until the module goes, and their cdevs with them.
    unsafe { &*sys::bpfrs_kpi_cdev_drv1(dev).cast() }
}

extern "C" fn legacy_load() -> c_int {
    for (node, unit) in NODE.iter().zip(0..) {
        let mut dev = ptr::null_mut();
        // SAFETY: thread context; `dev` receives a referenced cdev.
        let error = unsafe { sys::bpfrs_kpi_node_create(unit, &raw mut dev) };
        if error != 0 {
            return error;
        }
        // SAFETY: thread context.
        node.lock.store(unsafe { sys::bpfrs_kpi_monitor_alloc() }, Ordering::Relaxed);
        node.dev.store(dev, Ordering::Relaxed);
    }
    0
}

extern "C" fn legacy_unload(_force: c_int) -> c_int {
    for node in &NODE {
        let dev = node.dev.swap(ptr::null_mut(), Ordering::Relaxed);
        // SAFETY: made by legacy_load, which kept the reference given up here.
        unsafe {
            sys::bpfrs_kpi_node_destroy(dev);
            sys::bpfrs_kpi_cdev_rel(dev);
            sys::bpfrs_kpi_monitor_free(node.lock.load(Ordering::Relaxed));
        }
        tally(node, false);
    }
    0
}

/// All nodes there will be are there.
extern "C" fn legacy_clone(_unit: c_int) -> *mut cdev {
    ptr::null_mut()
}

unsafe extern "C" fn legacy_open(dev: *mut cdev, _oflags: c_int) -> c_int {
    // WRONG: nothing keeps two opens, or an open and a close, apart.
    if !drv1(dev).load(Ordering::Relaxed).is_null() {
        return BPFRS_EBUSY;
    }
    let Some(node) = node_of(dev) else { return BPFRS_ENXIO };
    // SAFETY: fresh memory, which nobody else knows. All zeroes are a Legacy.
    unsafe {
        let state: *mut Legacy = sys::bpfrs_kpi_malloc(size_of::<Legacy>()).cast();
        (*state).lock = node.lock.load(Ordering::Relaxed);
        (*state).size = BUFSIZE;
        (*state).buffer = sys::bpfrs_kpi_malloc(BUFSIZE).cast();
        drv1(dev).store(state, Ordering::Relaxed);
    }
    tally(node, true);
    stats::increment(stats::OPENS);
    stats::increment(stats::LIVE);
    stats::increment(stats::DESCRIPTORS);
    0
}

unsafe extern "C" fn legacy_close(dev: *mut cdev, revoke: c_int) -> c_int {
    let state = drv1(dev).load(Ordering::Relaxed);
    if revoke != 0 {
        stats::increment(stats::REVOKES);
    }
    match node_of(dev) {
        Some(node) if !state.is_null() => _ = node.closes.fetch_add(1, Ordering::Relaxed),
        _ => stats::increment(stats::CLOSES_ORPHAN),
    }
    // WRONG: it takes this to be the one and last close, and nobody else to be
    // inside of the driver. A second close at the same time frees once more;
    // one after this finds NULL.
    // SAFETY: none.
    unsafe {
        detach(state);
        sys::bpfrs_kpi_monitor_lock((*state).lock);
        // More than 2008, which woke those in poll(2) alone.
        sys::bpfrs_kpi_monitor_wakeup((*state).lock);
        sys::bpfrs_kpi_monitor_unlock((*state).lock);
        sys::bpfrs_kpi_free((*state).buffer.cast());
        drv1(dev).store(ptr::null_mut(), Ordering::Relaxed);
        // WRONG: readers sleep on it.
        sys::bpfrs_kpi_free(state.cast());
    }
    stats::decrement(stats::LIVE);
    stats::decrement(stats::DESCRIPTORS);
    0
}

/// bpf_attachd.
///
/// # Safety
/// `state` is that of an open.
unsafe fn attach(state: *mut Legacy, name: *const c_char) -> c_int {
    // SAFETY: by the contract of this function; thread context.
    unsafe {
        let interface = sys::bpfrs_kpi_ifnet_byname(name);
        if interface.is_null() {
            return BPFRS_ENXIO;
        }
        detach(state);
        sys::bpfrs_kpi_control_lock();
        let error = sys::bpfrs_kpi_tap_on(interface);
        if error == 0 {
            (*state).interface = interface;
            listeners().push(state.expose_provenance());
        } else {
            sys::bpfrs_kpi_ifnet_rele(interface);
        }
        sys::bpfrs_kpi_control_unlock();
        error
    }
}

/// bpf_detachd: afterwards no packet finds the state any more.
///
/// # Safety
/// `state` is that of an open.
unsafe fn detach(state: *mut Legacy) {
    // SAFETY: by the contract of this function; thread context.
    unsafe {
        sys::bpfrs_kpi_control_lock();
        let interface = std::mem::replace(&mut (*state).interface, ptr::null_mut());
        if !interface.is_null() {
            let none_left = {
                let mut listeners = listeners();
                listeners.retain(|listener| *listener != state.addr());
                listeners.is_empty()
            };
            if none_left {
                sys::bpfrs_kpi_tap_off(interface);
            }
            if std::mem::take(&mut (*state).promisc) {
                sys::bpfrs_kpi_ifnet_promisc(interface, 0);
            }
            sys::bpfrs_kpi_ifnet_rele(interface);
        }
        sys::bpfrs_kpi_control_unlock();
    }
}

unsafe extern "C" fn legacy_read(dev: *mut cdev, uio: *mut uio, ioflag: c_int) -> c_int {
    let state = drv1(dev).load(Ordering::Relaxed);
    // SAFETY: none: the state is whatever si_drv1 led to.
    unsafe {
        if sys::bpfrs_kpi_uio_resid(uio).cast_unsigned() != (*state).size {
            return BPFRS_EINVAL;
        }
        sys::bpfrs_kpi_monitor_lock((*state).lock);
        loop {
            if (*state).length != 0 {
                break;
            }
            if ioflag & BPFRS_O_NONBLOCK != 0 {
                sys::bpfrs_kpi_monitor_unlock((*state).lock);
                return BPFRS_EWOULDBLOCK;
            }
            // WRONG: when it wakes, the state may be gone.
            let error = sys::bpfrs_kpi_monitor_sleep((*state).lock, (*state).timeout);
            if error == 0 {
                continue;
            }
            let error = if error == BPFRS_EWOULDBLOCK { 0 } else { error };
            if (*state).length == 0 || error != 0 {
                sys::bpfrs_kpi_monitor_unlock((*state).lock);
                return error;
            }
        }
        sys::bpfrs_kpi_monitor_unlock((*state).lock);
        // WRONG: nothing keeps the buffer while it is copied out.
        let error = sys::bpfrs_kpi_uiomove((*state).buffer.cast(), (*state).length, uio);
        sys::bpfrs_kpi_monitor_lock((*state).lock);
        (*state).length = 0;
        sys::bpfrs_kpi_monitor_unlock((*state).lock);
        error
    }
}

/// There was more to write(2), but nothing about its end.
extern "C" fn legacy_write(_dev: *mut cdev, _uio: *mut uio) -> c_int {
    BPFRS_EOPNOTSUPP
}

unsafe extern "C" fn legacy_ioctl(dev: *mut cdev, command: c_ulong, data: *mut c_void) -> c_int {
    let state = drv1(dev).load(Ordering::Relaxed);
    // SAFETY: none for the state, which is whatever si_drv1 led to; `data` has
    // the type of the command.
    unsafe {
        match command {
            BPFRS_BIOCGBLEN => data.cast::<u32>().write((*state).size as u32),
            BPFRS_BIOCSBLEN => {
                let size = (*data.cast::<u32>()).clamp(128, BUFSIZE_MAX);
                let new: *mut u8 = sys::bpfrs_kpi_malloc(size as usize).cast();
                let old = std::mem::replace(&mut (*state).buffer, new);
                (*state).size = size as usize;
                sys::bpfrs_kpi_free(old.cast());
                data.cast::<u32>().write(size);
            }
            BPFRS_BIOCSETIF => return attach(state, data.cast()),
            BPFRS_BIOCPROMISC => {
                if (*state).interface.is_null() {
                    return BPFRS_EINVAL;
                }
                if !std::mem::replace(&mut (*state).promisc, true) {
                    return sys::bpfrs_kpi_ifnet_promisc((*state).interface, 1);
                }
            }
            BPFRS_BIOCSRTIMEOUT => {
                let time = data.cast::<timeval>().read();
                let ticks = &raw mut (*state).timeout;
                return sys::bpfrs_kpi_timeval2ticks(time.tv_sec, time.tv_usec, ticks);
            }
            BPFRS_BIOCGSTATS => {
                let (bs_recv, bs_drop) = ((*state).received, (*state).dropped);
                data.cast::<bpf_stat>().write(bpf_stat { bs_recv, bs_drop });
            }
            // Of filters it knows the one that takes nothing.
            BPFRS_BIOCSETF => {
                let program = data.cast::<bpf_program>().read();
                let mut insn = bpf_insn { code: 0, jt: 0, jf: 0, k: 0 };
                let len = size_of_val(&insn);
                let error = sys::bpfrs_kpi_copyin(
                    program.bf_insns.cast(),
                    (&raw mut insn).cast(),
                    len.min(len * program.bf_len as usize),
                );
                (*state).reject = insn.code == 0x06 && insn.k == 0;
                return error;
            }
            BPFRS_FIONREAD => data.cast::<c_int>().write((*state).length as c_int),
            // Enough for the readers; no effect here.
            BPFRS_BIOCVERSION | BPFRS_BIOCFLUSH | BPFRS_BIOCIMMEDIATE | BPFRS_FIONBIO => {}
            _ => return BPFRS_EINVAL,
        }
    }
    0
}

unsafe extern "C" fn legacy_poll(dev: *mut cdev, events: c_int) -> c_int {
    let state = drv1(dev).load(Ordering::Relaxed);
    let readable = events & (BPFRS_POLLIN | BPFRS_POLLRDNORM);
    let mut ready = events & (BPFRS_POLLOUT | BPFRS_POLLWRNORM);
    // SAFETY: none: the state is whatever si_drv1 led to.
    unsafe {
        sys::bpfrs_kpi_monitor_lock((*state).lock);
        if readable != 0 {
            if (*state).length != 0 {
                ready |= readable;
            } else {
                sys::bpfrs_kpi_monitor_selrecord((*state).lock);
            }
        }
        sys::bpfrs_kpi_monitor_unlock((*state).lock);
    }
    ready
}

/// Not needed by the readers here.
unsafe extern "C" fn legacy_kqfilter(_: *mut cdev, _: *mut knote, _: c_int) -> c_int {
    BPFRS_EOPNOTSUPP
}

/// bpf_mtap: one packet for everybody whose buffer is free.
unsafe extern "C" fn legacy_tap(
    _ifnet: *mut bpfrs_if,
    header: *const c_void,
    header_len: usize,
    chain: *const mbuf,
    _inbound: c_int,
) {
    for state in &*listeners() {
        let state: *mut Legacy = ptr::with_exposed_provenance_mut(*state);
        // SAFETY: detach takes it off the list, with the list's lock, before
        // it is freed. Header and chain are the caller's, and fit.
        unsafe {
            sys::bpfrs_kpi_monitor_lock((*state).lock);
            (*state).received += 1;
            let mut look = MaybeUninit::<bpfrs_mbuf_look>::uninit();
            sys::bpfrs_kpi_mbuf_look(chain, look.as_mut_ptr());
            let len = header_len + look.assume_init().ml_length;
            if !(*state).reject && (*state).length == 0 && HEADER + len <= (*state).size {
                let buffer = (*state).buffer;
                buffer.write_bytes(0, HEADER);
                buffer.add(16).cast::<[u32; 2]>().write_unaligned([len as u32; 2]);
                buffer.add(24).cast::<u16>().write_unaligned(HEADER as u16);
                buffer.add(HEADER).copy_from_nonoverlapping(header.cast(), header_len);
                let rest = buffer.add(HEADER + header_len).cast();
                sys::bpfrs_kpi_mbuf_copy(chain, 0, len - header_len, rest);
                (*state).length = HEADER + len;
                sys::bpfrs_kpi_monitor_wakeup((*state).lock);
            } else if !(*state).reject {
                (*state).dropped += 1;
            }
            sys::bpfrs_kpi_monitor_unlock((*state).lock);
        }
    }
}

/// It has no d_purge.
extern "C" fn legacy_purge(_dev: *mut cdev) {}

/// It has no private values of files.
extern "C" fn legacy_dtor(_private: *mut c_void) {}

/// lo0 stays.
extern "C" fn legacy_ifdeparture(_ifnet: *mut bpfrs_if) {}
