// SPDX-License-Identifier: BSD-2-Clause
//! Places where packets are seen: network interfaces, and what producers attach.

use core::ffi::c_char;
use core::ptr::NonNull;

use bpfrs_sys as sys;

use super::errno::{Errno, Result};
use super::memory::Array;

/// An interface name as in `struct ifreq`, ending in NUL.
pub type Name = [c_char; sys::BPFRS_IFNAMSIZ as usize];

/// What identifies an interface while it exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key(usize);

impl Key {
    pub(super) fn of(raw: *mut sys::bpfrs_if) -> Key {
        Key(raw.addr())
    }
}

/// The frames of an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TapInfo {
    /// `DLT_*`.
    pub dlt: u32,
    /// Length of the link header, bytes.
    pub hdrlen: u32,
}

/// A counted reference to an interface.
pub struct Ifnet {
    pub(super) raw: NonNull<sys::bpfrs_if>,
}

impl Ifnet {
    /// The interface of that name in the caller's network stack. Sleeps.
    ///
    /// # Errors
    /// ENXIO if there is none.
    pub fn by_name(name: &Name) -> Result<Ifnet> {
        let mut name = *name;
        if let Some(last) = name.last_mut() {
            *last = 0;
        }
        // SAFETY: thread context; the name has its full length and ends in NUL.
        let raw = unsafe { sys::bpfrs_kpi_ifnet_byname(name.as_ptr()) };
        NonNull::new(raw).map(|raw| Ifnet { raw }).ok_or(Errno::ENXIO)
    }

    /// What identifies this interface.
    pub fn key(&self) -> Key {
        Key::of(self.raw.as_ptr())
    }

    /// Its name now.
    pub fn name(&self) -> Name {
        let mut name: Name = [0; sys::BPFRS_IFNAMSIZ as usize];
        // SAFETY: self keeps the interface; the array has the length asked for.
        unsafe { sys::bpfrs_kpi_ifnet_name(self.raw.as_ptr(), name.as_mut_ptr()) };
        name
    }

    /// Whether the calling thread may know of it: in a jail with a network
    /// stack of its own only what is there.
    pub fn is_visible(&self) -> bool {
        // SAFETY: self keeps the interface.
        unsafe { sys::bpfrs_kpi_ifnet_visible(self.raw.as_ptr()) != 0 }
    }

    /// Counts promiscuous mode up or down. Sleeps.
    pub fn set_promisc(&self, on: bool) -> Result<()> {
        // SAFETY: thread context; self keeps the interface.
        let error = unsafe { sys::bpfrs_kpi_ifnet_promisc(self.raw.as_ptr(), on.into()) };
        Errno::check(error)
    }

    /// The longest packet that it sends, in bytes without link header.
    pub fn mtu(&self) -> usize {
        // SAFETY: self keeps the interface.
        let mtu = unsafe { sys::bpfrs_kpi_ifnet_mtu(self.raw.as_ptr()) };
        usize::try_from(mtu).unwrap_or(0)
    }

    /// What a tap of this interface shows.
    ///
    /// # Errors
    /// ENXIO if there is no sound way to tap an interface of its kind.
    pub fn tap_info(&self) -> Result<TapInfo> {
        let mut info = sys::bpfrs_tap_info { ti_dlt: 0, ti_hdrlen: 0 };
        // SAFETY: self keeps the interface; `info` is written by the call.
        Errno::check(unsafe { sys::bpfrs_kpi_tap_info(self.raw.as_ptr(), &raw mut info) })?;
        Ok(TapInfo { dlt: info.ti_dlt, hdrlen: info.ti_hdrlen })
    }

    /// Lets the packets of this interface pass through [`crate::tap`]. Sleeps.
    ///
    /// # Errors
    /// ENXIO if there is no sound way, and for an interface that is gone.
    pub fn tap_on(&self) -> Result<()> {
        // SAFETY: self keeps the interface; the caller has the control lock.
        Errno::check(unsafe { sys::bpfrs_kpi_tap_on(self.raw.as_ptr()) })
    }

    /// Undoes [`Ifnet::tap_on`]. A packet may still be on its way. Sleeps.
    pub fn tap_off(&self) {
        // SAFETY: self keeps the interface; the caller has the control lock.
        unsafe { sys::bpfrs_kpi_tap_off(self.raw.as_ptr()) }
    }
}

/// The names of all places in the caller's network stack that have a tap, the
/// first `max` of them (0: all), each with its NUL; and how many. Sleeps.
pub fn tap_names(max: u32) -> (Array<u8>, u32) {
    let mut names = Array::zeroed(0);
    loop {
        let mut count = 0;
        // SAFETY: thread context; the array has the length that is given.
        let len = unsafe {
            sys::bpfrs_kpi_tap_names(max, &raw mut count, names.as_mut_ptr().cast(), names.len())
        };
        // Until nothing came, went or was renamed in between.
        if len == names.len() {
            return (names, count);
        }
        names = Array::zeroed(len);
    }
}

impl Drop for Ifnet {
    fn drop(&mut self) {
        // SAFETY: gives back the reference that self holds; that is allowed
        // anywhere, in an epoch callback too.
        unsafe { sys::bpfrs_kpi_ifnet_rele(self.raw.as_ptr()) }
    }
}

// SAFETY: an ifnet is the kernel's and may be used from every thread.
unsafe impl Send for Ifnet {}
// SAFETY: as above.
unsafe impl Sync for Ifnet {}
