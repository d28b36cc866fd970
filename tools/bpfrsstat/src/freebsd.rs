// SPDX-License-Identifier: BSD-2-Clause
//! sysctl(3) of FreeBSD.
#![expect(unsafe_code, reason = "sysctl(3)")]

use std::ffi::{CStr, CString};
use std::io::Error;
use std::mem::MaybeUninit;
use std::ptr;

use anyhow::{Context, Result, ensure};

/// The value of a sysctl. What it holds may grow between two calls: it is
/// asked again while the room was too little.
pub(crate) fn read(name: &str) -> Result<Vec<u8>> {
    let c_name = CString::new(name)?;
    loop {
        let mut size = 0;
        // SAFETY: a C string; without a place for the value only the size is
        // written.
        let error = unsafe {
            libc::sysctlbyname(c_name.as_ptr(), ptr::null_mut(), &raw mut size, ptr::null(), 0)
        };
        ensure!(error == 0, "{name}: {}", Error::last_os_error());
        let mut value = vec![0u8; size];
        // SAFETY: as above, and the place has `size` bytes.
        let error = unsafe {
            let place = value.as_mut_ptr().cast();
            libc::sysctlbyname(c_name.as_ptr(), place, &raw mut size, ptr::null(), 0)
        };
        if error == 0 {
            value.truncate(size);
            return Ok(value);
        }
        let error = Error::last_os_error();
        if error.raw_os_error() != Some(libc::ENOMEM) {
            return Err(error).context(name.to_owned());
        }
    }
}

/// Sets a sysctl.
pub(crate) fn write(name: &str, value: &[u8]) -> Result<()> {
    let c_name = CString::new(name)?;
    // SAFETY: a C string; the value has so many bytes, which are only read.
    let error = unsafe {
        let value_at = value.as_ptr().cast();
        libc::sysctlbyname(c_name.as_ptr(), ptr::null_mut(), ptr::null_mut(), value_at, value.len())
    };
    ensure!(error == 0, "{name}: {}", Error::last_os_error());
    Ok(())
}

/// What a process is called: `kern.proc.pid`. None for one that is gone.
pub(crate) fn command(pid: i32) -> Option<String> {
    let mib = [libc::CTL_KERN, libc::KERN_PROC, libc::KERN_PROC_PID, pid];
    let mut process = MaybeUninit::<libc::kinfo_proc>::zeroed();
    let mut size = size_of::<libc::kinfo_proc>();
    // SAFETY: a name of four numbers; the place has `size` bytes.
    let error = unsafe {
        let place = process.as_mut_ptr().cast();
        libc::sysctl(mib.as_ptr(), 4, place, &raw mut size, ptr::null(), 0)
    };
    if error != 0 || size != size_of::<libc::kinfo_proc>() {
        return None;
    }
    // SAFETY: the kernel wrote all of it, integers and pointers.
    let process = unsafe { process.assume_init() };
    // SAFETY: the kernel ends the name with a NUL.
    let name = unsafe { CStr::from_ptr(process.ki_comm.as_ptr()) };
    Some(name.to_string_lossy().into_owned())
}
