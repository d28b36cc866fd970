// SPDX-License-Identifier: BSD-2-Clause
//! The host body of the KPI: `sys/kpi.h` on std threads.
//!
//! With it the unchanged driver runs as an ordinary program. It is a small
//! kernel rather than a stub: locks, epochs, callouts, devfs with revoke(2)
//! and several mounts, interfaces that come and go. And it checks what
//! INVARIANTS and WITNESS would: whoever sleeps inside an epoch section,
//! unlocks a lock of somebody else, frees twice or leaves something behind
//! gets a message and ends the process.
//!
//! The driver's entry points and these functions are `extern "C"`, which does
//! not unwind: a panic is an abort, as in the kernel.
//!
//! | module | instead of |
//! |---|---|
//! | `thread` | struct thread: what it holds, how it is woken |
//! | `object` | counted kernel objects: cdevs, vnodes, interfaces |
//! | `memory`, `memguard`, `code` | malloc(9), memguard(9), memory to execute |
//! | `epoch` | epoch(9); `epoch_checked` under a model checker |
//! | `lock`, `monitor`, `control` | mutex(9), sx(9), msleep(9), callout(9), select |
//! | `devfs` | devfs(5), struct file, revoke(2), forced unmount |
//! | `kqueue` | kqueue(2), knote(9) |
//! | `ifnet`, `mbuf`, `output` | interfaces and packets, those that write(2) sends |
//! | `user`, `pages`, `process` | copyin(9), wired user pages, struct proc |
//! | `time`, `clock`, `tunable`, `panic`, `hook` | clocks, sysctl(9), panic(9), fail(9) |
//! | `module`, `driver` | kldload(2), kldunload(2), and what they load |
#![expect(
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "host body: a broken rule must stop the test"
)]

mod clock;
mod code;
mod control;
mod devfs;
mod driver;
#[cfg_attr(any(bpfrs_loom, bpfrs_shuttle), path = "epoch_checked.rs")]
mod epoch;
mod hook;
mod ifnet;
mod kqueue;
mod lock;
mod mbuf;
mod memguard;
mod memory;
mod module;
mod monitor;
mod object;
mod output;
mod pages;
mod panic;
mod process;
mod thread;
mod time;
mod tunable;
mod user;

use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::kpi::primitive;

#[cfg(any(bpfrs_loom, bpfrs_shuttle))]
pub use clock::pass_time;
pub use devfs::{File, Mount, revoke, revoke_inside};
pub use driver::{BPFRS, Driver};
#[cfg(not(any(bpfrs_loom, bpfrs_shuttle)))]
pub use epoch::{EpochHold, reclaim_synchronously};
pub use epoch::{pending as epoch_pending, settle};
pub use hook::{Hook, set_hook};
pub use ifnet::{Interface, inject};
pub use kqueue::{Kevent, Kqueue};
pub use mbuf::Chain;
pub use memguard::{MEMGUARD_EXIT, set_memguard};
pub use memory::{check_freed, set_quarantine, set_short};
pub use module::{Census, census, is_loaded, load, load_driver, unload};
pub use monitor::signals;
pub use output::{Flags, Sent, write_counts};
pub use pages::SharedMemory;
pub use process::{as_ilp32, set_compat32};
pub use thread::Thread;
pub use time::{Frozen, HZ, freeze as freeze_clock};
pub use tunable::{Tunable, reset_stats, set_tunable, stats};
pub use user::Unmapped;

/// errno(2) values of devfs and the system calls; the driver's own are in
/// [`crate::kpi::errno`].
pub mod errno {
    /// No such file.
    pub const ENOENT: i32 = 2;
    /// No such process.
    pub const ESRCH: i32 = 3;
    /// Input/output error.
    pub const EIO: i32 = 5;
    /// Not a terminal: no such ioctl.
    pub const ENOTTY: i32 = 25;
    /// No such address family.
    pub const EAFNOSUPPORT: i32 = 47;
}

/// Locks a mutex of the host body's own books, which no model checker sees:
/// nothing that one sees is done while it is locked. One that a panic left
/// behind is as good as any: the process is about to end.
fn guard<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Locks a mutex that a model checker sees, because the kernel has one there.
fn guard_seen<T>(mutex: &primitive::Mutex<T>) -> primitive::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The bytes behind a pointer and a length from the driver.
///
/// # Safety
/// They are those of a live slice, for `'a`.
unsafe fn bytes<'a>(start: *const u8, len: usize) -> &'a [u8] {
    // SAFETY: by the contract of this function.
    unsafe { std::slice::from_raw_parts(start, len) }
}
