// SPDX-License-Identifier: BSD-2-Clause
//! errno(2) values as a type.

use core::ffi::c_int;
use core::num::NonZeroI32;

/// A kernel error: never zero, so that success cannot be mistaken for one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Errno(NonZeroI32);

/// The result of anything that can fail in the kernel.
pub type Result<T> = core::result::Result<T, Errno>;

macro_rules! errnos {
    ($($name:ident = $value:ident,)*) => {
        $(
            #[doc = concat!("errno(2) `", stringify!($name), "`.")]
            pub const $name: Errno = match NonZeroI32::new(bpfrs_sys::bpfrs_const::$value as i32) {
                Some(value) => Errno(value),
                None => panic!("an errno is zero"),
            };
        )*
    };
}

impl Errno {
    errnos! {
        EPERM = BPFRS_EPERM,
        EINTR = BPFRS_EINTR,
        ENXIO = BPFRS_ENXIO,
        EIO = BPFRS_EIO,
        ENOMEM = BPFRS_ENOMEM,
        EFAULT = BPFRS_EFAULT,
        EBUSY = BPFRS_EBUSY,
        EINVAL = BPFRS_EINVAL,
        EWOULDBLOCK = BPFRS_EWOULDBLOCK,
        EMSGSIZE = BPFRS_EMSGSIZE,
        ENETDOWN = BPFRS_ENETDOWN,
        ENOSPC = BPFRS_ENOSPC,
        EOPNOTSUPP = BPFRS_EOPNOTSUPP,
        ERESTART = BPFRS_ERESTART,
    }

    /// `Ok` for 0, the error otherwise.
    pub fn check(value: c_int) -> Result<()> {
        match NonZeroI32::new(value) {
            None => Ok(()),
            Some(value) => Err(Errno(value)),
        }
    }

    /// The value that a kernel function returns.
    pub fn value(result: Result<()>) -> c_int {
        match result {
            Ok(()) => 0,
            Err(Errno(value)) => value.get(),
        }
    }
}
