// SPDX-License-Identifier: BSD-2-Clause
//! fail(9): moments that a test can stretch.

use std::sync::{Arc, Mutex};

use super::{guard, thread};

/// Where a test can step in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hook {
    /// In `d_open`, before the open is published.
    Open,
    /// In `d_close`, after it found its open.
    Close,
    /// In a copy to or from user memory, before the first byte.
    Copy,
    /// In dev_rel(9), before the reference is given up.
    Release,
    /// In mtx_unlock(9) of a knote's detach, before it returns.
    Detach,
}

type Action = Arc<dyn Fn() + Send + Sync>;

static HOOKS: Mutex<[Option<Action>; 5]> = Mutex::new([const { None }; 5]);

/// Runs `action` at a hook from now on; none to stop that.
pub fn set_hook(hook: Hook, action: Option<Arc<dyn Fn() + Send + Sync>>) {
    let before = std::mem::replace(&mut guard(&HOOKS)[hook as usize], action);
    drop(before);
}

pub(super) fn run(hook: Hook) {
    let action = guard(&HOOKS)[hook as usize].clone();
    if let Some(action) = action {
        action();
    }
}

#[unsafe(no_mangle)]
extern "C" fn bpfrs_kpi_fail_open() {
    thread::may_sleep("a fail point");
    run(Hook::Open);
}

#[unsafe(no_mangle)]
extern "C" fn bpfrs_kpi_fail_close() {
    thread::may_sleep("a fail point");
    run(Hook::Close);
}
