// SPDX-License-Identifier: BSD-2-Clause
//! The module's one sx(9).

use super::lock::Lock;
use super::thread;
use crate::kpi::primitive::statics;

statics! {
    static CONTROL: Lock = Lock::new("control");
}

#[unsafe(no_mangle)]
extern "C" fn bpfrs_kpi_control_lock() {
    thread::may_sleep("sx_xlock(9)");
    CONTROL.acquire();
}

#[unsafe(no_mangle)]
extern "C" fn bpfrs_kpi_control_unlock() {
    CONTROL.release();
}
