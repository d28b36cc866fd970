// SPDX-License-Identifier: BSD-2-Clause
//! What a system call brings and takes away. All of it sleeps (page faults).

use core::ffi::c_void;
use core::marker::PhantomData;
use core::mem::{MaybeUninit, size_of};
use core::ptr::NonNull;

use bpfrs_sys as sys;

use super::abi::Plain;
use super::errno::{Errno, Result};
use super::memory::Array;

/// `UIO_READ`: a read(2).
pub enum Read {}

/// `UIO_WRITE`: a write(2).
pub enum Write {}

/// The user's buffer in a read(2) or a write(2).
pub struct Uio<'call, Call> {
    raw: NonNull<sys::uio>,
    call: PhantomData<(&'call mut sys::uio, Call)>,
}

impl<Call> Uio<'_, Call> {
    /// # Safety
    /// `raw` is the uio of a `d_read` or `d_write` call, as `Call` says, which
    /// lasts for the lifetime.
    pub(super) unsafe fn from_raw(raw: NonNull<sys::uio>) -> Self {
        Uio { raw, call: PhantomData }
    }

    /// How many bytes are left of what the caller wants to read or write.
    pub fn resid(&self) -> usize {
        // SAFETY: valid during the call.
        let resid = unsafe { sys::bpfrs_kpi_uio_resid(self.raw.as_ptr()) };
        usize::try_from(resid).unwrap_or(0)
    }
}

impl Uio<'_, Read> {
    /// Hands over `bytes`.
    ///
    /// # Errors
    /// EFAULT if the user's memory is not there.
    pub fn write(&mut self, bytes: &[u8]) -> Result<()> {
        let from = bytes.as_ptr().cast_mut().cast();
        // SAFETY: valid during the call; d_read's uio only reads `bytes`.
        let error = unsafe { sys::bpfrs_kpi_uiomove(from, bytes.len(), self.raw.as_ptr()) };
        Errno::check(error)
    }
}

impl Uio<'_, Write> {
    /// Takes the next `len` bytes to `to`, all of them unless it fails.
    ///
    /// # Safety
    /// There are so many left, and `to` has room for them.
    ///
    /// # Errors
    /// EFAULT if the user's memory is not there.
    pub(super) unsafe fn read(&mut self, to: NonNull<c_void>, len: usize) -> Result<()> {
        // SAFETY: by the contract of this function; valid during the call.
        let error = unsafe { sys::bpfrs_kpi_uiomove(to.as_ptr(), len, self.raw.as_ptr()) };
        Errno::check(error)
    }
}

/// The argument of an ioctl(2): kernel memory, which sys_ioctl copied in and
/// will copy out.
pub struct Argument<'call> {
    raw: *mut c_void,
    len: usize,
    call: PhantomData<&'call mut [u8]>,
}

impl Argument<'_> {
    /// # Safety
    /// `raw` is the argument of a `d_ioctl` call with the command `command`,
    /// which lasts for the lifetime.
    pub(super) unsafe fn from_raw(raw: *mut c_void, command: u64) -> Self {
        // IOCPARM_LEN of sys/ioccom.h; IOC_VOID commands have length 0.
        let len = (command >> 16) as usize & 0x1fff;
        Argument { raw, len, call: PhantomData }
    }

    /// The argument as a `T`.
    ///
    /// # Errors
    /// EINVAL if the command's argument is smaller.
    pub fn get<T: Plain>(&self) -> Result<T> {
        if size_of::<T>() > self.len {
            return Err(Errno::EINVAL);
        }
        // SAFETY: sys_ioctl's buffer has `len` bytes; any bytes are a T.
        Ok(unsafe { self.raw.cast::<T>().read_unaligned() })
    }

    /// Answers with `value`.
    ///
    /// # Errors
    /// EINVAL if the command's argument is smaller.
    pub fn put<T: Plain>(&mut self, value: T) -> Result<()> {
        if size_of::<T>() > self.len {
            return Err(Errno::EINVAL);
        }
        // SAFETY: sys_ioctl's buffer has `len` bytes and is ours for the call.
        unsafe { self.raw.cast::<T>().write_unaligned(value) };
        Ok(())
    }
}

/// Copies `len` elements in from a user address. Each byte is read once.
///
/// # Errors
/// EFAULT if the memory is not there.
pub fn copyin<T: Plain>(from: *const T, len: usize) -> Result<Array<T>> {
    let zero = MaybeUninit::<T>::zeroed();
    // SAFETY: any bytes are a T, zeros included.
    let zeros = core::iter::repeat_with(|| unsafe { zero.assume_init() });
    let mut array = Array::collect(len, zeros);
    let size = size_of::<T>().saturating_mul(len);
    // SAFETY: the array has `size` bytes; copyin(9) checks the user address.
    let error = unsafe { sys::bpfrs_kpi_copyin(from.cast(), array.as_mut_ptr().cast(), size) };
    Errno::check(error).map(|()| array)
}

/// Copies elements out to a user address.
///
/// # Errors
/// EFAULT if the memory is not there.
pub fn copyout<T: Plain>(from: &[T], to: *mut T) -> Result<()> {
    // SAFETY: `from` is only read; copyout(9) checks the user address.
    let error =
        unsafe { sys::bpfrs_kpi_copyout(from.as_ptr().cast(), to.cast(), size_of_val(from)) };
    Errno::check(error)
}
