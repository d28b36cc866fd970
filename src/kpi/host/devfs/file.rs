// SPDX-License-Identifier: BSD-2-Clause
//! Open files and the system calls on them.

use std::ffi::{c_int, c_void};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bpfrs_sys::{self as sys, bpfrs_const, bpfrs_ioc};

use super::super::clock::Deadline;
use super::super::driver::driver;
use super::super::errno::{EIO, ENOTTY};
use super::super::kqueue::{Watcher, new_descriptor};
use super::super::object::Hold;
use super::super::thread::{Channel, End, Thread, with_file};
use super::super::user::Uio;
use super::super::{guard, guard_seen};
use super::{Inside, Private, Use, Vnode, borrow};
use crate::kpi::abi::Plain;

/// `O_RDWR`, as the driver gets it.
pub(super) const READ_WRITE: c_int = bpfrs_const::BPFRS_FREAD | bpfrs_const::BPFRS_FWRITE;

/// An open file: what `struct file` and devfs know of it.
pub(in super::super) struct OpenFile {
    /// `f_data`: the address of the cdev, to compare.
    data: usize,
    vnode: Use,
    /// `f_cdevpriv`.
    private: Mutex<Option<Arc<Private>>>,
    non_block: AtomicBool,
    /// Whether there is something to close.
    opened: AtomicBool,
}

impl OpenFile {
    pub(super) fn vnode(&self) -> &Hold<Vnode> {
        &self.vnode.0
    }

    /// devfs_set_cdevpriv(9), in `d_open`. The vnode may be dead already.
    pub(super) fn set_private(&self, value: *mut c_void) -> c_int {
        // SAFETY: open_at keeps the cdev during d_open.
        let cdev = unsafe { borrow(std::ptr::with_exposed_provenance_mut(self.data)) };
        let new = Arc::new(Private(Mutex::new(Some(value.expose_provenance()))));
        let mut private = guard(&self.private);
        if private.is_some() {
            return bpfrs_const::BPFRS_EBUSY;
        }
        guard_seen(&cdev.state).privates.push(Arc::clone(&new));
        *private = Some(new);
        0
    }

    /// devfs_get_cdevpriv(9), if the file is one of that cdev.
    pub(super) fn private_of(&self, cdev: usize) -> Option<*mut c_void> {
        if self.data != cdev {
            return None;
        }
        let private = guard(&self.private);
        let value = *guard(&private.as_ref()?.0);
        value.map(std::ptr::with_exposed_provenance_mut)
    }

    /// `f_cdevpriv`'s value.
    pub(in super::super) fn private(&self) -> Option<*mut c_void> {
        self.private_of(self.data)
    }

    /// devfs_fpdrop: the destructor, if destroy_dev(9) was not faster.
    fn drop_private(&self) {
        let private = guard(&self.private).take();
        if let Some(private) = private {
            if let Some(cdev) = self.vnode.0.rdev() {
                guard_seen(&cdev.state).privates.retain(|other| !Arc::ptr_eq(other, &private));
            }
            private.destroy();
        }
    }

    /// devfs_fp_check: into the driver, unless the vnode is dead.
    fn enter(&self) -> Option<Inside> {
        Inside::enter(&self.vnode.0.rdev()?)
    }

    /// devfs_kqfilter_f.
    pub(in super::super) fn kqfilter(&self, knote: *mut sys::knote, filter: c_int) -> c_int {
        let Some(inside) = self.enter() else { return bpfrs_const::BPFRS_ENXIO };
        // SAFETY: the cdev has a reference during the call, and so has the
        // knote.
        with_file("kevent(2)", self, || unsafe {
            (driver().kqfilter)(inside.0.raw(), knote, filter)
        })
    }
}

impl Drop for OpenFile {
    /// The last reference to the file is gone.
    fn drop(&mut self) {
        if self.opened.load(Ordering::Relaxed) {
            with_file("close(2)", self, || self.vnode.locked(Vnode::close));
        }
        self.drop_private();
    }
}

/// A file descriptor. Dropping the last one of a file closes the file.
pub struct File(Arc<OpenFile>, Descriptor);

struct Descriptor {
    number: u64,
    /// `fd_kqlist`, as far as it is about this one.
    watchers: Mutex<Vec<Watcher>>,
}

impl Descriptor {
    fn new() -> Self {
        Descriptor { number: new_descriptor(), watchers: Mutex::default() }
    }
}

/// dup(2).
impl Clone for File {
    fn clone(&self) -> Self {
        File(Arc::clone(&self.0), Descriptor::new())
    }
}

impl Drop for File {
    /// The knotes of a descriptor go first, then its reference to the file.
    fn drop(&mut self) {
        let watchers = std::mem::take(&mut *guard(&self.1.watchers));
        for watcher in watchers {
            watcher.descriptor_closes(self.1.number);
        }
    }
}

impl File {
    /// Its number, which kevent(2) calls it by.
    pub fn descriptor(&self) -> u64 {
        self.1.number
    }

    pub(in super::super) fn open_file(&self) -> &Arc<OpenFile> {
        &self.0
    }

    pub(in super::super) fn watched_by(&self, watcher: Watcher) {
        guard(&self.1.watchers).push(watcher);
    }

    /// open(2) of `/dev/bpfrs<unit>`.
    ///
    /// # Errors
    /// ENOENT, and what the driver says.
    pub fn open(unit: i32) -> Result<File, i32> {
        super::Mount::DEV.open(unit)
    }

    /// An open by the kernel itself, through VOP_OPEN: it has no file.
    ///
    /// # Errors
    /// As [`File::open`].
    pub fn open_without(unit: i32) -> Result<(), i32> {
        let vnode = super::Mount::DEV.lookup(unit)?;
        let cdev = vnode.0.rdev().ok_or(bpfrs_const::BPFRS_ENXIO)?;
        let inside = Inside::enter(&cdev).ok_or(bpfrs_const::BPFRS_ENXIO)?;
        // SAFETY: the cdev has a reference during the call.
        let error = with_file("open(2)", std::ptr::null(), || unsafe {
            (driver().open)(inside.0.raw(), READ_WRITE)
        });
        if error == 0 { Ok(()) } else { Err(error) }
    }

    /// open(2) with `O_WRONLY`.
    ///
    /// # Errors
    /// As [`File::open`].
    pub fn open_to_write(unit: i32) -> Result<File, i32> {
        Self::open_at(super::Mount::DEV.lookup(unit)?, bpfrs_const::BPFRS_FWRITE)
    }

    pub(super) fn open_at(vnode: Use, oflags: c_int) -> Result<File, i32> {
        let cdev = vnode.0.rdev().ok_or(bpfrs_const::BPFRS_ENXIO)?;
        let open = OpenFile {
            data: cdev.raw::<sys::cdev>().expose_provenance(),
            vnode,
            private: Mutex::new(None),
            non_block: AtomicBool::new(false),
            opened: AtomicBool::new(false),
        };
        let file = File(Arc::new(open), Descriptor::new());
        // devfs_open: the vnode lock is not held in d_open.
        let Some(inside) = Inside::enter(&cdev) else { return Err(bpfrs_const::BPFRS_ENXIO) };
        // SAFETY: the cdev has a reference during the call.
        let error = with_file("open(2)", file.as_ptr(), || unsafe {
            (driver().open)(inside.0.raw(), oflags)
        });
        if error != 0 {
            file.0.drop_private();
        }
        drop(inside);
        match error {
            0 => {
                file.0.opened.store(true, Ordering::Relaxed);
                Ok(file)
            }
            bpfrs_const::BPFRS_ERESTART => Err(bpfrs_const::BPFRS_EINTR),
            error => Err(error),
        }
    }

    pub(super) fn as_ptr(&self) -> *const OpenFile {
        Arc::as_ptr(&self.0)
    }

    /// A step of open(2) after `d_open` failed: VOP_CLOSE of what was opened,
    /// which comes without the file; that closes when it is dropped.
    pub fn close_without(&self) {
        with_file("open(2)", std::ptr::null(), || self.0.vnode.locked(Vnode::close));
    }

    /// read(2): how many bytes.
    ///
    /// # Errors
    /// EIO once the vnode is dead; what the driver says.
    pub fn read(&self, buffer: &mut [u8], non_block: bool) -> Result<usize, i32> {
        let Some(inside) = self.0.enter() else { return Err(EIO) };
        let non_block = non_block || self.0.non_block.load(Ordering::Relaxed);
        let flags = if non_block { bpfrs_const::BPFRS_O_NONBLOCK } else { 0 };
        let mut uio = Uio::for_read(buffer);
        let before = uio.left();
        // SAFETY: the cdev has a reference and the buffer is borrowed during
        // the call.
        let error = with_file("read(2)", self.as_ptr(), || unsafe {
            (driver().read)(inside.0.raw(), uio.raw(), flags)
        });
        if error == 0 { Ok(before - uio.left()) } else { Err(error) }
    }

    /// write(2): how many bytes.
    ///
    /// # Errors
    /// EIO once the vnode is dead; what the driver says.
    pub fn write(&self, data: &[u8]) -> Result<usize, i32> {
        let Some(inside) = self.0.enter() else { return Err(EIO) };
        let mut uio = Uio::for_write(data);
        // SAFETY: the cdev has a reference and the data is borrowed during
        // the call.
        let error = with_file("write(2)", self.as_ptr(), || unsafe {
            (driver().write)(inside.0.raw(), uio.raw())
        });
        if error == 0 { Ok(data.len() - uio.left()) } else { Err(error) }
    }

    /// poll(2) of this file alone: what is ready of `events`, after `timeout`
    /// at the latest.
    ///
    /// # Errors
    /// EINTR.
    pub fn poll(&self, events: i32, timeout: Option<Duration>) -> Result<i32, i32> {
        let deadline = timeout.map(Deadline::after);
        let me = Thread::current();
        loop {
            me.arm(Channel::Select);
            let ready = self.poll_once(events);
            if ready != 0 {
                return Ok(ready);
            }
            match me.wait(Channel::Select, deadline) {
                End::Woken => {}
                End::Signalled => return Err(bpfrs_const::BPFRS_EINTR),
                End::TimedOut => return Ok(0),
            }
        }
    }

    fn poll_once(&self, events: i32) -> i32 {
        let Some(inside) = self.0.enter() else {
            let readable = bpfrs_const::BPFRS_POLLIN | bpfrs_const::BPFRS_POLLRDNORM;
            return bpfrs_const::BPFRS_POLLHUP | (events & readable);
        };
        // SAFETY: the cdev has a reference during the call.
        with_file("poll(2)", self.as_ptr(), || unsafe { (driver().poll)(inside.0.raw(), events) })
    }

    /// ioctl(2) with an argument.
    ///
    /// # Errors
    /// ENOTTY once the vnode is dead; what the driver says.
    ///
    /// # Panics
    /// If the argument is not of the command's size.
    pub fn ioctl<T: Plain>(&self, command: u64, argument: &mut T) -> Result<(), i32> {
        assert!(size_of::<T>() == parameter_len(command), "the argument of {command:#x}");
        // sys_ioctl's buffer: copied in and, after success, out.
        let mut buffer = *argument;
        // FIONBIO is noted in the file first.
        if command == bpfrs_ioc::BPFRS_FIONBIO {
            // SAFETY: any four bytes are an int.
            let on = unsafe { (&raw const buffer).cast::<c_int>().read_unaligned() };
            self.0.non_block.store(on != 0, Ordering::Relaxed);
        }
        self.command(command, (&raw mut buffer).cast())?;
        if command & IOC_OUT != 0 {
            *argument = buffer;
        }
        Ok(())
    }

    /// ioctl(2) without an argument.
    ///
    /// # Errors
    /// As [`File::ioctl`].
    pub fn ioctl0(&self, command: u64) -> Result<(), i32> {
        assert!(parameter_len(command) == 0, "the argument of {command:#x}");
        self.command(command, std::ptr::null_mut())
    }

    fn command(&self, command: u64, data: *mut c_void) -> Result<(), i32> {
        let Some(inside) = self.0.enter() else { return Err(ENOTTY) };
        // SAFETY: the cdev has a reference during the call, and the buffer has
        // the command's length.
        let error = with_file("ioctl(2)", self.as_ptr(), || unsafe {
            (driver().ioctl)(inside.0.raw(), command, data)
        });
        if error == 0 { Ok(()) } else { Err(error) }
    }

    /// Whether its vnode was revoked.
    pub fn is_revoked(&self) -> bool {
        self.0.vnode.0.is_doomed()
    }

    /// close(2), and the destruction of the file if this was the last.
    pub fn close(self) {
        drop(self);
    }
}

const IOC_OUT: u64 = 0x4000_0000;

/// `IOCPARM_LEN`.
fn parameter_len(command: u64) -> usize {
    (command >> 16) as usize & 0x1fff
}
