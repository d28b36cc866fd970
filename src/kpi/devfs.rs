// SPDX-License-Identifier: BSD-2-Clause
//! devfs(5): nodes, and which open a call belongs to.

use core::marker::PhantomData;
use core::ptr::{self, NonNull};

use bpfrs_sys as sys;

use super::epoch::{Ref, Slot};
use super::errno::{Errno, Result};
use crate::bpf_d::BpfD;

/// The cdev that a call came by, for as long as the call.
#[derive(Clone, Copy)]
pub struct Cdev<'call> {
    raw: NonNull<sys::cdev>,
    call: PhantomData<&'call sys::cdev>,
}

impl<'call> Cdev<'call> {
    /// # Safety
    /// `raw` is the cdev of a `d_*` call of our cdevsw, which lasts for
    /// `'call`: devfs keeps a cdev while a thread is in one of its methods.
    pub(super) unsafe fn from_raw(raw: *mut sys::cdev) -> Self {
        match NonNull::new(raw) {
            Some(raw) => Cdev { raw, call: PhantomData },
            None => unreachable_null(),
        }
    }

    /// `si_drv1`: what this node publishes.
    pub fn slot(&self) -> &'call Slot<BpfD> {
        // SAFETY: valid during the call, as from_raw was promised.
        unsafe { slot_of(self.raw) }
    }

    /// Keeps the cdev beyond the call.
    pub fn keep(&self) -> CdevRef {
        // SAFETY: valid during the call; dev_ref(9) is allowed anywhere.
        unsafe { sys::bpfrs_kpi_cdev_ref(self.raw.as_ptr()) };
        CdevRef { raw: self.raw }
    }

    /// The open that the calling thread's file belongs to: what
    /// [`set_private`] stored when it was opened. None in a `d_close` by
    /// revocation, which comes without a file.
    pub fn private(&self) -> Option<Ref<BpfD>> {
        // SAFETY: valid during the call.
        let private = unsafe { sys::bpfrs_kpi_cdevpriv_get(self.raw.as_ptr()) };
        let private = NonNull::new(private)?;
        // SAFETY: files of our cdevs have private values by set_private only.
        // devfs keeps it until it calls the destructor, which it does neither
        // while the file has a call under way nor while the cdev has (I2).
        Some(unsafe { Ref::borrow_raw(private) })
    }
}

/// # Safety
/// `raw` is valid for `'a`, and only the driver uses its `si_drv1`.
unsafe fn slot_of<'a>(raw: NonNull<sys::cdev>) -> &'a Slot<BpfD> {
    // SAFETY: the cdev is valid; the address of one of its fields is, too.
    let place = unsafe { sys::bpfrs_kpi_cdev_drv1(raw.as_ptr()) };
    match NonNull::new(place) {
        // SAFETY: si_drv1 is NULL when a cdev is made, and devfs leaves it
        // alone until destroy_dev(9) ends, when every open is dead (I7).
        Some(place) => unsafe { Slot::from_raw(place) },
        None => unreachable_null(),
    }
}

#[cold]
fn unreachable_null() -> ! {
    const MESSAGE: &str = "devfs passed a NULL cdev";
    // SAFETY: pointer and length are those of a constant.
    unsafe { sys::bpfrs_kpi_panic(MESSAGE.as_ptr().cast(), MESSAGE.len()) }
}

/// A counted reference to a cdev: its memory, not its node.
pub struct CdevRef {
    raw: NonNull<sys::cdev>,
}

impl CdevRef {
    /// Makes `/dev/bpfrs<unit>`. Sleeps.
    pub fn create(unit: u32) -> Result<CdevRef> {
        let mut raw = ptr::null_mut();
        let unit = i32::try_from(unit).map_err(|_| Errno::EINVAL)?;
        // SAFETY: thread context; `raw` receives a referenced cdev.
        Errno::check(unsafe { sys::bpfrs_kpi_node_create(unit, &raw mut raw) })?;
        match NonNull::new(raw) {
            Some(raw) => Ok(CdevRef { raw }),
            None => Err(Errno::ENXIO),
        }
    }

    /// Removes the node, waits for the calls under way to end, and runs the
    /// destructors of all open files. Sleeps.
    pub fn destroy(self) {
        // SAFETY: the reference keeps the cdev; it was made by make_dev_s(9)
        // and is destroyed once, since self is consumed.
        unsafe { sys::bpfrs_kpi_node_destroy(self.raw.as_ptr()) }
    }

    /// `si_drv1`: what this node publishes.
    pub fn slot(&self) -> &Slot<BpfD> {
        // SAFETY: self keeps the cdev.
        unsafe { slot_of(self.raw) }
    }

    /// Gives one more reference to C.
    pub(super) fn lend(&self) -> *mut sys::cdev {
        // SAFETY: self keeps the cdev.
        unsafe { sys::bpfrs_kpi_cdev_ref(self.raw.as_ptr()) };
        self.raw.as_ptr()
    }
}

impl Drop for CdevRef {
    fn drop(&mut self) {
        // SAFETY: gives back the reference that self holds.
        unsafe { sys::bpfrs_kpi_cdev_rel(self.raw.as_ptr()) }
    }
}

// SAFETY: a cdev is the kernel's and may be used from every thread.
unsafe impl Send for CdevRef {}
// SAFETY: as above.
unsafe impl Sync for CdevRef {}

/// Makes `open` the private value of the file that this thread is opening.
/// devfs destroys it exactly once, through `bpfrs_rs_dtor`.
pub fn set_private(open: Ref<BpfD>) -> Result<()> {
    let raw = open.into_raw();
    // SAFETY: in d_open, thread context; on success C keeps the reference.
    let error = unsafe { sys::bpfrs_kpi_cdevpriv_set(raw) };
    if error != 0
        && let Some(raw) = NonNull::new(raw)
    {
        // SAFETY: C did not take the reference given away above.
        drop(unsafe { Ref::<BpfD>::from_raw(raw) });
    }
    Errno::check(error)
}

/// The vnode that an open came by: revoked exactly when it is doomed.
pub struct Vnode {
    raw: NonNull<sys::vnode>,
}

impl Vnode {
    /// The vnode of the file that this thread is opening, in `d_open` only.
    pub fn current() -> Option<Vnode> {
        // SAFETY: in d_open; returns a held vnode or NULL.
        let raw = unsafe { sys::bpfrs_kpi_vnode_hold() };
        NonNull::new(raw).map(|raw| Vnode { raw })
    }

    /// Whether it was revoked, or its file system unmounted by force.
    pub fn is_doomed(&self) -> bool {
        // SAFETY: self holds the vnode.
        unsafe { sys::bpfrs_kpi_vnode_doomed(self.raw.as_ptr()) != 0 }
    }
}

impl Drop for Vnode {
    /// Sleeps.
    fn drop(&mut self) {
        // SAFETY: gives back the hold that self has.
        unsafe { sys::bpfrs_kpi_vnode_drop(self.raw.as_ptr()) }
    }
}

// SAFETY: a held vnode may be used from every thread.
unsafe impl Send for Vnode {}
// SAFETY: as above.
unsafe impl Sync for Vnode {}

/// Fail point `debug.fail_point.bpfrs_open`: an open that is not published.
pub fn fail_point_open() {
    // SAFETY: in d_open, which may sleep.
    unsafe { sys::bpfrs_kpi_fail_open() }
}

/// Fail point `debug.fail_point.bpfrs_close`: a close that takes its time.
pub fn fail_point_close() {
    // SAFETY: in d_close, which may sleep.
    unsafe { sys::bpfrs_kpi_fail_close() }
}
