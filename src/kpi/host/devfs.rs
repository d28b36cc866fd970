// SPDX-License-Identifier: BSD-2-Clause
//! devfs(5): nodes, vnodes of several mounts, open files, revoke(2).
//!
//! The order of things is that of `devfs_vnops.c`, `kern_conf.c` and
//! `vfs_subr.c`: the vnode lock is dropped around `d_open` and `d_close`, a
//! revocation does not wait for readers, a file keeps its private value until
//! its last close or until the node is destroyed.

mod file;

use std::collections::BTreeMap;
use std::ffi::{c_int, c_void};
use std::sync::atomic::{
    AtomicBool as HiddenBool, AtomicU32, AtomicUsize as HiddenUsize, Ordering,
};
use std::sync::{Arc, Mutex as Hidden};
use std::time::Duration;

use bpfrs_sys::{bpfrs_const, cdev, vnode};

pub use file::File;
pub(super) use file::OpenFile;
use file::READ_WRITE;

use super::driver::driver;
use super::errno::ENOENT;
use super::hook::{self, Hook};
use super::lock::Lock;
use super::object::{Hold, Kind};
use super::thread::{self, current_file, with_file};
use super::{guard, guard_seen, module};
use crate::kpi::primitive::{AtomicBool, AtomicPtr, Condvar, Mutex, relax, statics};

pub(super) struct Cdev {
    unit: c_int,
    /// `si_drv1`.
    drv1: AtomicPtr<c_void>,
    state: Mutex<CdevState>,
    /// A thread left the driver.
    left: Condvar,
}

#[derive(Default)]
struct CdevState {
    /// destroy_dev(9) began: `si_devsw` is NULL.
    gone: bool,
    /// `si_threadcount`.
    threads: usize,
    /// The private values of all open files.
    privates: Vec<Arc<Private>>,
}

/// The private value of a file; none once the destructor was called.
struct Private(Hidden<Option<usize>>);

impl Private {
    /// Runs the destructor, if nobody has yet.
    fn destroy(&self) {
        let value = guard(&self.0).take();
        if let Some(value) = value {
            thread::may_sleep("a cdevpriv destructor");
            // SAFETY: stored by the driver, and taken out once.
            unsafe { (driver().dtor)(std::ptr::with_exposed_provenance_mut(value)) };
        }
    }
}

impl Kind for Cdev {
    fn live() -> &'static HiddenUsize {
        static LIVE: HiddenUsize = HiddenUsize::new(0);
        &LIVE
    }
}

/// A thread inside the driver: `si_threadcount`.
struct Inside(Hold<Cdev>);

impl Inside {
    /// dev_refthread(9).
    fn enter(cdev: &Hold<Cdev>) -> Option<Inside> {
        let mut state = guard_seen(&cdev.state);
        if state.gone {
            return None;
        }
        state.threads += 1;
        Some(Inside(cdev.clone()))
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        guard_seen(&self.0.state).threads -= 1;
        self.0.left.notify_all();
    }
}

/// A vnode of a node, in one mount.
pub(super) struct Vnode {
    mount: u32,
    unit: c_int,
    lock: Lock,
    /// Revoked: its last d_close is under way, or was.
    doomed: HiddenBool,
    /// The same, as the driver looks at it: without a lock.
    doomed_unlocked: AtomicBool,
    /// `v_rdev`; none once it is dead.
    rdev: Mutex<Option<Hold<Cdev>>>,
    /// Open files and others who use it; changes with devfs' lock.
    users: HiddenUsize,
}

impl Kind for Vnode {
    fn live() -> &'static HiddenUsize {
        static LIVE: HiddenUsize = HiddenUsize::new(0);
        &LIVE
    }
}

impl Vnode {
    fn is_doomed(&self) -> bool {
        self.doomed.load(Ordering::SeqCst)
    }

    fn rdev(&self) -> Option<Hold<Cdev>> {
        guard_seen(&self.rdev).clone()
    }

    /// VOP_CLOSE, with the vnode lock, which is dropped meanwhile.
    fn close(&self) {
        let Some(cdev) = self.rdev() else { return };
        let revoke = self.is_doomed();
        self.lock.release();
        if let Some(inside) = Inside::enter(&cdev) {
            // SAFETY: the cdev has a reference during the call.
            unsafe { (driver().close)(inside.0.raw(), revoke.into()) };
        }
        self.lock.acquire();
    }

    /// vgone(9), with the vnode lock.
    fn gone(&self) {
        {
            let _devfs = guard_seen(&DEVFS);
            if self.doomed.swap(true, Ordering::SeqCst) {
                return;
            }
        }
        self.doomed_unlocked.store(true, Ordering::Relaxed);
        if users(self) != 0 {
            self.close();
        }
        self.reclaim();
    }

    /// From here on its operations are those of a dead vnode.
    fn reclaim(&self) {
        let rdev = guard_seen(&self.rdev).take();
        let entry = {
            let mut devfs = guard_seen(&DEVFS);
            let key = (self.mount, self.unit);
            let ours = devfs.vnodes.get(&key).is_some_and(|v| std::ptr::eq(&raw const **v, self));
            if ours { devfs.vnodes.remove(&key) } else { None }
        };
        drop((rdev, entry));
    }
}

/// How many use it now.
fn users(vnode: &Vnode) -> usize {
    let _devfs = guard_seen(&DEVFS);
    vnode.users.load(Ordering::SeqCst)
}

/// A reference by a file, or by a system call under way.
struct Use(Hold<Vnode>);

impl Use {
    fn new(vnode: Hold<Vnode>) -> Use {
        let devfs = guard_seen(&DEVFS);
        vnode.users.fetch_add(1, Ordering::SeqCst);
        drop(devfs);
        Use(vnode)
    }

    /// Runs `body` with the vnode lock, which `body` may drop meanwhile.
    fn locked<R>(&self, body: impl FnOnce(&Vnode) -> R) -> R {
        self.0.lock.acquire();
        let result = body(&self.0);
        self.0.lock.release();
        result
    }
}

impl Drop for Use {
    fn drop(&mut self) {
        let _devfs = guard_seen(&DEVFS);
        self.0.users.fetch_sub(1, Ordering::SeqCst);
    }
}

struct Devfs {
    nodes: BTreeMap<c_int, Hold<Cdev>>,
    /// By mount and unit.
    vnodes: BTreeMap<(u32, c_int), Hold<Vnode>>,
}

statics! {
    static DEVFS: Mutex<Devfs> =
        Mutex::new(Devfs { nodes: BTreeMap::new(), vnodes: BTreeMap::new() });
}

/// How many nodes there are.
pub(super) fn nodes() -> usize {
    guard_seen(&DEVFS).nodes.len()
}

/// A mounted devfs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mount(u32);

impl Mount {
    /// `/dev`.
    pub const DEV: Mount = Mount(0);

    /// Mounts another one.
    #[expect(clippy::new_without_default, reason = "it does something")]
    pub fn new() -> Mount {
        static LAST: AtomicU32 = AtomicU32::new(0);
        Mount(LAST.fetch_add(1, Ordering::Relaxed) + 1)
    }

    /// namei(9): the vnode of a node, which is made if need be.
    fn lookup(self, unit: c_int) -> Result<Use, i32> {
        loop {
            let known = guard_seen(&DEVFS).nodes.get(&unit).cloned();
            let cdev = match known {
                Some(cdev) => cdev,
                None => clone(unit)?,
            };
            let mut devfs = guard_seen(&DEVFS);
            let vnode = match devfs.vnodes.get(&(self.0, unit)) {
                Some(vnode) if vnode.is_doomed() => None,
                Some(vnode) => Some(vnode.clone()),
                // The node may have gone since.
                None if devfs.nodes.get(&unit).is_none_or(|node| !node.same(&cdev)) => None,
                None => {
                    let vnode = Hold::new(Vnode {
                        mount: self.0,
                        unit,
                        lock: Lock::new("vnode"),
                        doomed: HiddenBool::new(false),
                        doomed_unlocked: AtomicBool::new(false),
                        rdev: Mutex::new(Some(cdev)),
                        users: HiddenUsize::new(0),
                    });
                    devfs.vnodes.insert((self.0, unit), vnode.clone());
                    Some(vnode)
                }
            };
            drop(devfs);
            if let Some(vnode) = vnode {
                return Ok(Use::new(vnode));
            }
            // Until whoever dooms it is done.
            relax();
        }
    }

    /// stat(2): this mount has a vnode of the node afterwards.
    ///
    /// # Errors
    /// ENOENT if there is no such node and none can be made.
    pub fn stat(self, unit: i32) -> Result<(), i32> {
        self.lookup(unit).map(drop)
    }

    /// open(2).
    ///
    /// # Errors
    /// ENOENT, and what the driver says.
    pub fn open(self, unit: i32) -> Result<File, i32> {
        File::open_at(self.lookup(unit)?, READ_WRITE)
    }

    /// revoke(2) of the node, in this mount and so in all.
    ///
    /// # Errors
    /// ENOENT if there is no such node and none can be made.
    pub fn revoke(self, unit: i32) -> Result<(), i32> {
        let vnode = self.lookup(unit)?;
        let all = || -> Vec<Hold<Vnode>> {
            let devfs = guard_seen(&DEVFS);
            devfs.vnodes.values().filter(|vnode| vnode.unit == unit).cloned().collect()
        };
        // sys_revoke: nothing to do if we are the only user.
        let users: usize = all().iter().map(|vnode| users(vnode)).sum();
        if users > 1 {
            with_file("revoke(2)", current_file(), || {
                vnode.locked(Vnode::gone);
                for other in all() {
                    Use::new(other).locked(Vnode::gone);
                }
            });
        }
        Ok(())
    }

    /// umount(2) by force.
    pub fn unmount(self) {
        let all: Vec<Hold<Vnode>> = {
            let devfs = guard_seen(&DEVFS);
            devfs.vnodes.values().filter(|vnode| vnode.mount == self.0).cloned().collect()
        };
        for vnode in all {
            vnode.lock.acquire();
            with_file("unmount(2)", current_file(), || vnode.gone());
            vnode.lock.release();
        }
    }
}

/// revoke(2) of `/dev/bpfrs<unit>`.
///
/// # Errors
/// ENOENT if there is no such node and none can be made.
pub fn revoke(unit: i32) -> Result<(), i32> {
    Mount::DEV.revoke(unit)
}

/// revoke(2) from inside an operation on another file, as a driver that is
/// stacked on devfs might do: `td_fpop` is that file.
///
/// # Errors
/// As [`revoke`].
pub fn revoke_inside(file: &File, unit: i32) -> Result<(), i32> {
    with_file("revoke(2)", file.as_ptr(), || revoke(unit))
}

/// dev_clone: the driver makes the node.
fn clone(unit: c_int) -> Result<Hold<Cdev>, i32> {
    // SAFETY: the dev_clone handler is registered.
    let made = module::while_cloning(|| unsafe { (driver().clone)(unit) });
    match made {
        None => Err(ENOENT),
        Some(raw) if raw.is_null() => Err(ENOENT),
        // SAFETY: the handler returns a referenced cdev, whose reference is
        // devfs' now.
        Some(raw) => Ok(unsafe { Hold::from_raw(raw) }),
    }
}

/// # Safety
/// `raw` is the address of a cdev.
unsafe fn borrow(raw: *mut cdev) -> Hold<Cdev> {
    // SAFETY: by the contract of this function.
    unsafe { Hold::borrow(raw) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn bpfrs_kpi_node_create(unit: c_int, out: *mut *mut cdev) -> c_int {
    thread::may_sleep("make_dev_s(9)");
    let mut devfs = guard_seen(&DEVFS);
    assert!(!devfs.nodes.contains_key(&unit), "node {unit} is made twice");
    let node = Hold::new(Cdev {
        unit,
        drv1: AtomicPtr::new(std::ptr::null_mut()),
        state: Mutex::new(CdevState::default()),
        left: Condvar::new(),
    });
    devfs.nodes.insert(unit, node.clone());
    // SAFETY: the driver's own variable, for the call.
    unsafe { out.write(node.into_raw()) };
    0
}

#[unsafe(no_mangle)]
unsafe extern "C" fn bpfrs_kpi_node_destroy(raw: *mut cdev) {
    thread::may_sleep("destroy_dev(9)");
    // SAFETY: the driver has a reference.
    let cdev = unsafe { borrow(raw) };
    let node = guard_seen(&DEVFS).nodes.remove(&cdev.unit);
    assert!(node.is_some_and(|node| node.same(&cdev)), "a node is destroyed twice");

    let mut state = guard_seen(&cdev.state);
    state.gone = true;
    while state.threads != 0 {
        drop(state);
        // SAFETY: the cdev is kept here. devfs' mutex is held in the kernel.
        thread::without_sleeping(thread::PURGE, || unsafe { (driver().purge)(raw) });
        state = guard_seen(&cdev.state);
        if state.threads != 0 {
            // Longer here than hz / 10 there would only be slow.
            let wait = Duration::from_millis(20);
            state = cdev.left.wait_timeout(state, wait).expect("live").0;
        }
    }
    let privates = std::mem::take(&mut state.privates);
    drop(state);
    for private in privates {
        private.destroy();
    }
    // devfs would clear it, and whatever it is would leak.
    let left = cdev.drv1.load(Ordering::SeqCst);
    assert!(left.is_null(), "a node is destroyed with an open published");

    // The next lookup finds no dirent and takes the vnodes away: without
    // d_close, because there is no devsw any more.
    let vnodes: Vec<Hold<Vnode>> = {
        let devfs = guard_seen(&DEVFS);
        devfs.vnodes.values().filter(|vnode| vnode.unit == cdev.unit).cloned().collect()
    };
    for vnode in vnodes {
        vnode.lock.acquire();
        vnode.gone();
        vnode.lock.release();
    }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn bpfrs_kpi_cdev_drv1(raw: *mut cdev) -> *mut *mut c_void {
    // SAFETY: the driver's cdev. The address outlives this reference, because
    // the driver has one.
    (&raw const unsafe { borrow(raw) }.drv1).cast_mut().cast()
}

#[unsafe(no_mangle)]
unsafe extern "C" fn bpfrs_kpi_cdev_ref(raw: *mut cdev) {
    thread::may_lock_devfs("dev_ref(9)");
    // SAFETY: the driver's cdev, of which it has one more now.
    let _: *mut cdev = unsafe { borrow(raw) }.into_raw();
}

#[unsafe(no_mangle)]
unsafe extern "C" fn bpfrs_kpi_cdev_rel(raw: *mut cdev) {
    thread::may_lock_devfs("dev_rel(9)");
    hook::run(Hook::Release);
    // SAFETY: the driver's reference, given up here.
    drop(unsafe { Hold::<Cdev>::from_raw(raw) });
}

/// The file of the operation that this thread is in.
fn file<'a>() -> Option<&'a OpenFile> {
    // SAFETY: with_file's caller keeps the file during the operation, and the
    // driver's call is part of it.
    unsafe { current_file().as_ref() }
}

#[unsafe(no_mangle)]
extern "C" fn bpfrs_kpi_cdevpriv_set(value: *mut c_void) -> c_int {
    thread::may_sleep("malloc(9) with M_WAITOK");
    file().map_or(ENOENT, |file| file.set_private(value))
}

#[unsafe(no_mangle)]
extern "C" fn bpfrs_kpi_cdevpriv_get(raw: *mut cdev) -> *mut c_void {
    file().and_then(|file| file.private_of(raw.addr())).unwrap_or_default()
}

#[unsafe(no_mangle)]
extern "C" fn bpfrs_kpi_vnode_hold() -> *mut vnode {
    file().map_or(std::ptr::null_mut(), |file| file.vnode().clone().into_raw())
}

#[unsafe(no_mangle)]
unsafe extern "C" fn bpfrs_kpi_vnode_doomed(raw: *mut vnode) -> c_int {
    // SAFETY: the driver holds the vnode.
    unsafe { Hold::<Vnode>::borrow(raw) }.doomed_unlocked.load(Ordering::Relaxed).into()
}

#[unsafe(no_mangle)]
unsafe extern "C" fn bpfrs_kpi_vnode_drop(raw: *mut vnode) {
    thread::may_sleep("vdrop(9)");
    // SAFETY: the driver's hold, given up here.
    drop(unsafe { Hold::<Vnode>::from_raw(raw) });
}

const _: () = assert!(bpfrs_const::BPFRS_O_NONBLOCK == 4);
