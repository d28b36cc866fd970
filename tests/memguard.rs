// SPDX-License-Identifier: BSD-2-Clause
//! memguard(9) of the host body: who touches freed memory is told on, together
//! with who had it and who freed it (I1).
mod support;

use std::ffi::c_void;
use std::thread::Builder;

use bpfrs::kpi::epoch::Ref;
use bpfrs::kpi::host::{self, MEMGUARD_EXIT, Thread};
use bpfrs_sys as sys;
use support::*;

#[inline(never)]
fn give() -> usize {
    // SAFETY: thread context.
    unsafe { sys::bpfrs_kpi_malloc(100) }.expose_provenance()
}

fn memory(address: usize) -> *mut c_void {
    std::ptr::with_exposed_provenance_mut(address)
}

#[inline(never)]
fn take_back(address: usize) {
    // SAFETY: from `give`; wrong on purpose if it comes twice.
    unsafe { sys::bpfrs_kpi_free(memory(address)) };
}

#[inline(never)]
fn look(address: usize) -> u8 {
    // SAFETY: from `give`; wrong on purpose if it is free.
    unsafe { memory(address).cast::<u8>().add(3).read_volatile() }
}

/// Runs `step` in a thread of that name, which the kernel knows.
fn as_thread<T: Send + 'static>(name: &str, step: impl FnOnce() -> T + Send + 'static) -> T {
    let step = || {
        let _ = Thread::current();
        step()
    };
    Builder::new().name(name.into()).spawn(step).unwrap().join().unwrap()
}

/// Each part of the report names a thread and a function.
#[track_caller]
fn tells(report: &str, parts: &[(&str, &str, &str)]) {
    let mut rest = report;
    for (what, thread, function) in parts {
        let (_, after) = rest.split_once(&format!("  {what} by thread ")).expect(report);
        rest = after;
        let part = after.split(" by thread ").next().unwrap();
        assert!(part.contains(&format!("\"{thread}\"")), "{what}: no {thread}\n{report}");
        assert!(part.contains(&format!("::{function}")), "{what}: no {function}\n{report}");
        assert!(part.contains("tests/memguard.rs:"), "{what}: no line\n{report}");
    }
}

#[test]
fn a_late_touch_names_all_three() {
    let words = last_words(|| {
        host::set_memguard(true);
        let address = as_thread("owner", give);
        as_thread("closer", move || take_back(address));
        as_thread("reader", move || look(address));
    });
    let Some((code, report)) = words else { return };
    assert_eq!(code, Some(MEMGUARD_EXIT), "{report}");
    assert!(report.contains("memory used after free: byte 3 of 100"), "{report}");
    tells(
        &report,
        &[
            ("allocated", "owner", "give"),
            ("freed", "closer", "take_back"),
            ("touched", "reader", "look"),
        ],
    );
}

#[test]
fn a_second_free_names_all_three() {
    let words = last_words(|| {
        host::set_memguard(true);
        let address = as_thread("owner", give);
        as_thread("closer", move || take_back(address));
        as_thread("revoker", move || take_back(address));
    });
    let Some((code, report)) = words else { return };
    assert_eq!(code, Some(MEMGUARD_EXIT), "{report}");
    assert!(report.contains("memory freed twice"), "{report}");
    tells(
        &report,
        &[
            ("allocated", "owner", "give"),
            ("freed", "closer", "take_back"),
            ("freed again", "revoker", "take_back"),
        ],
    );
}

/// I1, in a driver: the destructor runs in the epoch's own thread.
#[test]
fn a_touch_in_an_epoch_callback_is_reported() {
    struct Late(usize);
    impl Drop for Late {
        fn drop(&mut self) {
            look(self.0);
        }
    }
    let words = last_words(|| {
        host::set_memguard(true);
        let address = give();
        take_back(address);
        drop(Ref::new(Late(address)));
        host::settle();
    });
    let Some((code, report)) = words else { return };
    assert_eq!(code, Some(MEMGUARD_EXIT), "{report}");
    assert!(report.contains(", in an epoch callback"), "{report}");
}

/// A fault that is none of memguard's ends as it always did.
#[test]
fn another_fault_is_not_reported() {
    let words = last_words(|| {
        host::set_memguard(true);
        as_thread("lost", || look(16));
    });
    let Some((code, report)) = words else { return };
    assert_eq!(code, None, "killed by a signal\n{report}");
    assert!(!report.contains("memguard"), "{report}");
}

#[test]
fn is_silent_otherwise() {
    let words = last_words(|| {
        host::set_memguard(true);
        for _ in 0..1000 {
            let address = give();
            assert_eq!(look(address), 0, "memory is zeroed");
            take_back(address);
        }
        assert_eq!(host::census().allocations, 0);
        listen(64).close();
    });
    let Some((code, report)) = words else { return };
    assert_eq!((code, report.contains("memguard")), (Some(0), false), "{report}");
}

#[test]
fn counts_what_is_left() {
    dies("left 1 allocations", || {
        host::set_memguard(true);
        give();
    });
}
