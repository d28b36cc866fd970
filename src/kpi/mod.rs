// SPDX-License-Identifier: BSD-2-Clause
//! Safe wrappers over the KPI border (`sys/kpi.h`).
//!
//! All `unsafe` of the driver is in this module. The wrappers are the same
//! everywhere; what stands behind the border is chosen by the build: the C
//! shims of `sys/` in the kernel (feature `kernel`), [`host`] elsewhere.
//!
//! SAFETY comments cite the invariants of `docs/design.md` by number (I1...).

pub mod abi;
pub mod code;
#[cfg(bpfrs_sanitizer_control)]
mod control;
pub mod devfs;
mod entry;
pub mod epoch;
pub mod errno;
pub mod ifnet;
pub mod kqueue;
pub mod lock;
pub mod mbuf;
pub mod memory;
pub mod output;
pub mod pages;
pub(crate) mod primitive;
pub mod process;
pub mod stats;
pub mod time;
pub mod tunable;
pub mod user;

#[cfg(not(feature = "kernel"))]
pub mod host;

#[cfg(feature = "kernel")]
mod panic {
    use core::fmt::{self, Write};
    use core::panic::PanicInfo;

    /// A line of text on the stack: a panic must not allocate.
    struct Line {
        bytes: [u8; 256],
        used: usize,
    }

    impl Write for Line {
        fn write_str(&mut self, s: &str) -> fmt::Result {
            let room = self.bytes.get_mut(self.used..).unwrap_or_default();
            let n = s.len().min(room.len());
            if let (Some(to), Some(from)) = (room.get_mut(..n), s.as_bytes().get(..n)) {
                to.copy_from_slice(from);
            }
            self.used = self.used.saturating_add(n);
            Ok(())
        }
    }

    #[cfg(target_os = "none")]
    #[panic_handler]
    fn panic(info: &PanicInfo<'_>) -> ! {
        panic9(info)
    }

    /// Ends in panic(9), with the place and the reason.
    #[cfg_attr(not(target_os = "none"), expect(dead_code, reason = "kernel body linted on a host"))]
    fn panic9(info: &PanicInfo<'_>) -> ! {
        let mut line = Line { bytes: [0; 256], used: 0 };
        // Line::write_str never fails.
        let _ = write!(line, "{info}");
        // SAFETY: used never exceeds the array, which lives on this stack
        // until the call ends; it does not return.
        unsafe { bpfrs_sys::bpfrs_kpi_panic(line.bytes.as_ptr().cast(), line.used) }
    }
}
