// SPDX-License-Identifier: BSD-2-Clause
//! Negative controls: what breaks a rule ends the process with a message.
//! A check that cannot fail proves nothing.
mod support;

use std::ffi::CStr;
use std::sync::Mutex;

use bpfrs::kpi::epoch::{Ref, pin};
use bpfrs::kpi::host::{self, File, Interface};
use bpfrs::kpi::lock::{Control, Expire, Monitor, MonitorGuard};
use bpfrs::kpi::memory::Array;
use bpfrs::kpi::{epoch, ifnet, stats, time, user};
use bpfrs_sys as sys;
use support::*;

/// I1.
#[test]
fn catches_an_allocation_inside_a_section() {
    dies("malloc(9) with M_WAITOK inside an epoch section", || {
        pin(|_| drop(Array::<u8>::zeroed(8)));
    });
}

/// I1.
#[test]
fn catches_a_sleep_inside_a_section() {
    dies("msleep(9) inside an epoch section", || {
        let monitor = Monitor::new(());
        pin(|_| {
            let _ = monitor.lock().sleep(1);
        });
    });
}

#[test]
fn catches_a_pause_inside_a_section() {
    dies("pause(9) inside an epoch section", || pin(|_| time::pause(1)));
}

#[test]
fn catches_a_fault_inside_a_section() {
    dies("copyout(9) inside an epoch section", || {
        let mut place = 0u32;
        pin(|_| user::copyout(&[1u32], &raw mut place)).unwrap();
    });
}

#[test]
fn catches_a_sleepable_lock_inside_a_section() {
    dies("sx_xlock(9) inside an epoch section", || {
        static CONTROL: Control<()> = Control::new(());
        pin(|_| drop(CONTROL.lock()));
    });
}

#[test]
fn catches_a_drain_inside_a_section() {
    dies("epoch_drain_callbacks(9) inside an epoch section", || pin(|_| epoch::drain()));
}

#[test]
fn catches_an_exit_without_an_enter() {
    dies("left an epoch section that was not entered", || {
        let mut tracker = sys::bpfrs_epoch_tracker { et_opaque: [0; 8] };
        // SAFETY: wrong on purpose; the host body does not use the tracker.
        unsafe { sys::bpfrs_kpi_epoch_exit(&raw mut tracker) };
    });
}

#[test]
fn catches_an_allocation_with_a_monitor_locked() {
    dies("malloc(9) with M_WAITOK with a monitor locked", || {
        let monitor = Monitor::new(());
        let _state = monitor.lock();
        drop(Array::<u8>::zeroed(8));
    });
}

#[test]
fn catches_the_control_lock_inside_a_monitor() {
    dies("sx_xlock(9) with a monitor locked", || {
        static CONTROL: Control<()> = Control::new(());
        let monitor = Monitor::new(());
        let _state = monitor.lock();
        drop(CONTROL.lock());
    });
}

#[test]
fn catches_recursion_on_the_control_lock() {
    dies("recursion on the control lock", || {
        static ONE: Control<()> = Control::new(());
        static TWO: Control<()> = Control::new(());
        let _one = ONE.lock();
        drop(TWO.lock());
    });
}

#[test]
fn catches_recursion_on_a_monitor() {
    dies("recursion on the monitor lock", || {
        let monitor = Monitor::new(());
        let _state = monitor.lock();
        drop(monitor.lock());
    });
}

#[test]
fn catches_a_second_monitor() {
    dies("a second monitor is locked", || {
        let (one, two) = (Monitor::new(()), Monitor::new(()));
        let _state = one.lock();
        drop(two.lock());
    });
}

#[test]
fn catches_an_unlock_by_a_stranger() {
    dies("unlock without the monitor lock", || {
        // SAFETY: thread context; the second unlock is wrong on purpose.
        unsafe {
            let monitor = sys::bpfrs_kpi_monitor_alloc();
            sys::bpfrs_kpi_monitor_lock(monitor);
            let address = monitor.expose_provenance();
            let stranger = std::thread::spawn(move || {
                sys::bpfrs_kpi_monitor_unlock(std::ptr::with_exposed_provenance_mut(address));
            });
            let _ = stranger.join();
        }
    });
}

#[test]
fn catches_the_timer_without_the_lock() {
    dies("callout_stop(9) without the monitor lock", || {
        // SAFETY: thread context; the stop is wrong on purpose.
        unsafe { sys::bpfrs_kpi_monitor_timer_stop(sys::bpfrs_kpi_monitor_alloc()) };
    });
}

/// I4.
#[test]
fn catches_waiting_after_the_end() {
    dies("selrecord(9) on a monitor that was drained", || {
        let monitor = Monitor::new(());
        monitor.drain();
        monitor.lock().selrecord();
    });
}

/// I4.
#[test]
fn catches_a_sleeper_that_is_not_woken() {
    dies("has sleepers that nobody woke", || {
        let monitor = std::sync::Arc::new(Monitor::new(()));
        let copy = std::sync::Arc::clone(&monitor);
        let _sleeper = Worker::asleep(move || copy.lock().sleep(0));
        monitor.drain();
    });
}

/// A value that does not mind.
struct Anything;

impl Expire for Anything {
    fn expired(_: &mut MonitorGuard<'_, Self>) {}
}

#[test]
fn catches_a_running_callout_that_is_freed() {
    dies("a monitor with a running callout is freed", || {
        let monitor = Monitor::new(Anything);
        monitor.lock().start_timer(10_000);
        drop(monitor);
    });
}

#[test]
fn catches_a_use_of_a_freed_monitor() {
    dies("use of a freed", || {
        // SAFETY: thread context; the lock is wrong on purpose.
        unsafe {
            let monitor = sys::bpfrs_kpi_monitor_alloc();
            sys::bpfrs_kpi_monitor_free(monitor);
            sys::bpfrs_kpi_monitor_lock(monitor);
        }
    });
}

#[test]
fn catches_a_double_free() {
    dies("which is not allocated", || {
        // SAFETY: thread context; the second free is wrong on purpose.
        unsafe {
            let memory = sys::bpfrs_kpi_malloc(8);
            sys::bpfrs_kpi_free(memory);
            sys::bpfrs_kpi_free(memory);
        }
    });
}

/// I1: what the 2008 pattern does.
#[test]
fn catches_a_write_to_freed_memory() {
    dies("memory modified after free: byte 3 of 8", || {
        // SAFETY: wrong on purpose; the memory is still in quarantine.
        unsafe {
            let memory = sys::bpfrs_kpi_malloc(8);
            sys::bpfrs_kpi_free(memory);
            memory.cast::<u8>().add(3).write(1);
        }
        host::check_freed();
    });
}

/// I1: a reference that is never dropped. (An unload might wait for it.)
#[test]
fn catches_a_leaked_reference() {
    dies("a reference leaks", || {
        let before = host::census();
        std::mem::forget(Ref::new(1u32));
        assert_eq!(host::census(), before, "a reference leaks");
    });
}

#[test]
fn catches_leaked_memory() {
    dies("left 1 allocations", || std::mem::forget(Array::<u8>::zeroed(1)));
}

#[test]
fn catches_a_leaked_monitor() {
    dies("left 0 allocations, 1 monitors", || std::mem::forget(Monitor::new(())));
}

/// I7.
#[test]
fn catches_an_open_that_the_test_forgot() {
    dies("the test left an open", || std::mem::forget(File::open(0).unwrap()));
}

/// I1: a destructor that sleeps, in the callback of the last reference.
#[test]
fn catches_a_destructor_that_sleeps() {
    struct Sleepy;
    impl Drop for Sleepy {
        fn drop(&mut self) {
            time::pause(1);
        }
    }
    dies("pause(9) in an epoch callback", || {
        drop(Ref::new(Sleepy));
        host::settle();
    });
}

#[test]
fn catches_promiscuous_mode_switched_off_twice() {
    dies("switched off once too often", || {
        let name = ifreq("lo0").ifr_name;
        let lo0 = ifnet::Ifnet::by_name(&name).unwrap();
        lo0.set_promisc(true).unwrap();
        lo0.set_promisc(false).unwrap();
        lo0.set_promisc(false).unwrap();
    });
}

#[test]
fn catches_a_tap_that_is_left_on() {
    dies("an interface still calls it", || {
        let name = ifreq("lo0").ifr_name;
        host::load().unwrap();
        ifnet::Ifnet::by_name(&name).unwrap().tap_on().unwrap();
        assert!(Interface::named("lo0").unwrap().is_tapped());
        let _ = host::unload(false);
    });
}

#[test]
fn catches_a_copy_beyond_a_chain() {
    dies("beyond the chain", || {
        // A header that claims to be there: the driver clips, so this calls
        // the border itself.
        static CHAIN: Mutex<Option<host::Chain>> = Mutex::new(None);
        let mut place = [0u8; 8];
        let mut chain = CHAIN.lock().unwrap();
        let chain = chain.insert(host::Chain::new(&[&[1, 2]]));
        // SAFETY: wrong on purpose; the chain is alive and the place is large.
        unsafe {
            sys::bpfrs_kpi_mbuf_copy(
                std::ptr::from_ref(chain).cast(),
                0,
                3,
                place.as_mut_ptr().cast(),
            );
        }
    });
}

/// A packet of four bytes, as write(2) makes it.
fn packet() -> *mut sys::mbuf {
    let mut data = std::ptr::null_mut();
    // SAFETY: thread context; `data` is written by the call.
    let packet = unsafe { sys::bpfrs_kpi_packet_alloc(4, &raw mut data) };
    // SAFETY: four bytes were asked for.
    unsafe { data.cast::<[u8; 4]>().write([2, 0, 0, 0]) };
    packet
}

/// An interface, with a reference that is kept for ever.
fn interface(name: &CStr) -> *mut sys::bpfrs_if {
    // SAFETY: thread context; the name ends in NUL.
    unsafe { sys::bpfrs_kpi_ifnet_byname(name.as_ptr()) }
}

/// Sends a packet.
fn output(ifnet: *mut sys::bpfrs_if, packet: *mut sys::mbuf) {
    let how = sys::bpfrs_output { o_dlt: 0, o_hdrlen: 4, o_flags: 0, o_pcp: 0 };
    // SAFETY: as wrong as the test wants it.
    unsafe { sys::bpfrs_kpi_packet_output(ifnet, packet, &raw const how) };
}

#[test]
fn catches_a_packet_that_is_sent_and_freed() {
    dies("use of a freed", || {
        let (lo0, packet) = (interface(c"lo0"), packet());
        pin(|_| output(lo0, packet));
        // SAFETY: wrong on purpose; the host body keeps the place of dead objects.
        unsafe { sys::bpfrs_kpi_packet_free(packet) };
    });
}

#[test]
fn catches_a_packet_that_is_sent_twice() {
    dies("use of a freed", || {
        let (lo0, packet) = (interface(c"lo0"), packet());
        pin(|_| output(lo0, packet));
        pin(|_| output(lo0, packet));
    });
}

#[test]
fn catches_a_packet_that_is_left() {
    dies("left 0 allocations, 0 monitors, 1 packets", || {
        packet();
    });
}

/// I4: nothing would keep the interface's addresses.
#[test]
fn catches_an_output_outside_the_epoch() {
    dies("if_output outside the epoch", || output(interface(c"lo0"), packet()));
}

#[test]
fn catches_an_output_with_a_monitor_locked() {
    dies("if_output with a monitor locked", || {
        let (lo0, packet, monitor) = (interface(c"lo0"), packet(), Monitor::new(()));
        let _state = monitor.lock();
        pin(|_| output(lo0, packet));
    });
}

/// I4.
#[test]
fn catches_a_packet_from_an_address_that_is_gone() {
    dies("from an address that is gone", || {
        let lo1 = Interface::loopback("lo1");
        let (raw, packet) = (interface(c"lo1"), packet());
        lo1.depart();
        pin(|_| output(raw, packet));
    });
}

/// The checks do not complain of a driver that keeps the rules.
#[test]
fn is_silent_otherwise() {
    run(|| {
        listen(64).close();
        assert_eq!(stats::read(stats::OPENS), 1);
    });
}
