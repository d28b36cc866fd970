// SPDX-License-Identifier: BSD-2-Clause
//! poll(2).
mod support;

use std::time::Duration;

use bpfrs::kpi::abi::timeval;
use bpfrs::kpi::errno::Errno;
use bpfrs::kpi::host::{self, File, Interface};
use bpfrs_sys::bpfrs_const::{
    BPFRS_POLLHUP as HUP, BPFRS_POLLIN as IN, BPFRS_POLLOUT as OUT, BPFRS_POLLRDNORM as RDNORM,
};
use bpfrs_sys::bpfrs_ioc::*;
use support::*;

const NOW: Option<Duration> = Some(Duration::ZERO);
/// POLLPRI, which bpf(4) does not know.
const PRI: i32 = 2;

fn send() {
    host::inject("lo0", 2, &[&[1; 8]]);
}

#[test]
fn without_an_interface_everything_is_ready() {
    run(|| {
        let file = File::open(0).unwrap();
        assert_eq!(file.poll(IN | RDNORM | OUT | HUP, NOW), Ok(IN | RDNORM | OUT | HUP));
        assert_eq!(file.poll(IN, NOW), Ok(IN));
        assert_eq!(file.poll(PRI, NOW), Ok(0));
    });
}

#[test]
fn writable_always_readable_with_packets() {
    run(|| {
        let file = listen(128);
        assert_eq!(file.poll(IN | OUT, NOW), Ok(OUT));
        assert_eq!(file.poll(IN | RDNORM, NOW), Ok(0));
        send();
        assert_eq!(file.poll(IN | RDNORM | PRI, NOW), Ok(IN | RDNORM));
        // Not immediate: what is stored does not count, what is on hold does.
        set(&file, BPFRS_BIOCIMMEDIATE, 0u32).unwrap();
        assert_eq!(file.poll(IN, NOW), Ok(0));
        for _ in 0..3 {
            send();
        }
        assert_eq!(file.poll(IN, NOW), Ok(IN));
    });
}

#[test]
fn a_packet_wakes() {
    run(|| {
        let file = listen(128);
        let copy = file.clone();
        let poller = Worker::asleep(move || copy.poll(IN, None));
        send();
        assert_eq!(poller.join(), Ok(IN));
        assert_eq!(file.poll(IN, Some(Duration::from_millis(5))), Ok(IN));
    });
}

#[test]
fn the_read_timeout_makes_stored_packets_ready() {
    run(|| {
        let file = listen(1024);
        set(&file, BPFRS_BIOCIMMEDIATE, 0u32).unwrap();
        set(&file, BPFRS_BIOCSRTIMEOUT, timeval { tv_sec: 0, tv_usec: 30_000 }).unwrap();
        send();
        let copy = file.clone();
        let poller = Worker::asleep(move || copy.poll(IN, None));
        assert_eq!(poller.join(), Ok(IN));
        // read(2) sees that the time is over, and starts anew.
        assert_eq!(file.read(&mut vec![0; 1024], false), Ok(40));
        // Over without a packet: the next one is ready at once.
        assert_eq!(file.poll(IN, Some(Duration::from_millis(60))), Ok(0));
        let copy = file.clone();
        let poller = Worker::asleep(move || copy.poll(IN, None));
        send();
        assert_eq!(poller.join(), Ok(IN));
        // Any ioctl(2) stops the clock.
        assert_eq!(get(&file, BPFRS_FIONREAD, 0i32), Ok(40));
        assert_eq!(file.poll(IN, NOW), Ok(0));
    });
}

#[test]
fn a_signal_and_a_timeout() {
    run(|| {
        let file = listen(128);
        let copy = file.clone();
        let poller = Worker::asleep(move || copy.poll(IN, None));
        poller.thread.signal();
        assert_eq!(poller.join(), Err(Errno::EINTR.into()));
        assert_eq!(file.poll(IN, Some(Duration::from_millis(10))), Ok(0));
    });
}

#[test]
fn many_pollers_and_a_departure() {
    run(|| {
        let lo1 = Interface::loopback("lo1");
        let file = File::open(0).unwrap();
        attach(&file, "lo1").unwrap();
        let pollers: Vec<_> = (0..4)
            .map(|_| {
                let file = file.clone();
                Worker::asleep(move || file.poll(IN | RDNORM, None))
            })
            .collect();
        lo1.depart();
        for poller in pollers {
            assert_eq!(poller.join(), Ok(IN | RDNORM));
        }
    });
}

/// I4: a callout under way does not outlive the open.
#[test]
fn close_with_a_running_callout() {
    run(|| {
        for _ in 0..50 {
            let file = listen(128);
            set(&file, BPFRS_BIOCSRTIMEOUT, timeval { tv_sec: 0, tv_usec: 2000 }).unwrap();
            assert_eq!(file.poll(IN, NOW), Ok(0));
            std::thread::sleep(Duration::from_micros(1700));
            file.close();
        }
    });
}
