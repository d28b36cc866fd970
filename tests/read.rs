// SPDX-License-Identifier: BSD-2-Clause
//! read(2): sizes, waits, rotation, signals and faults (I8 of docs/design.md).
mod support;

use std::time::{Duration, Instant};

use bpfrs::kpi::abi::timeval;
use bpfrs::kpi::errno::Errno;
use bpfrs::kpi::host::{self, File, Unmapped};
use bpfrs_sys::bpfrs_ioc::*;
use support::*;

/// A packet of `len` bytes takes 28 + 4 + len bytes in a buffer, rounded up.
fn send(byte: u8, len: usize) {
    host::inject("lo0", 2, &[&vec![byte; len]]);
}

fn patient(size: u32) -> File {
    let file = listen(size);
    set(&file, BPFRS_BIOCIMMEDIATE, 0u32).unwrap();
    file
}

fn timeout(file: &File, milliseconds: i64) {
    let tv_usec = milliseconds % 1000 * 1000;
    set(file, BPFRS_BIOCSRTIMEOUT, timeval { tv_sec: milliseconds / 1000, tv_usec }).unwrap();
}

#[test]
fn only_the_exact_size() {
    run(|| {
        let file = listen(64);
        send(1, 8);
        for size in [0, 1, 63, 65, 4096] {
            assert_eq!(file.read(&mut vec![0; size], true), Err(Errno::EINVAL.into()), "{size}");
        }
        assert_eq!(file.read(&mut [0; 64], true), Ok(40));
    });
}

#[test]
fn without_an_interface() {
    run(|| {
        let file = File::open(0).unwrap();
        assert_eq!(file.read(&mut [0; 4096], false), Err(Errno::ENXIO.into()));
        assert_eq!(file.read(&mut [0; 4096], true), Err(Errno::ENXIO.into()));
        assert_eq!(file.read(&mut [0; 32], true), Err(Errno::EINVAL.into()));
    });
}

#[test]
fn non_blocking() {
    run(|| {
        let file = patient(128);
        assert_eq!(file.read(&mut [0; 128], true), Err(Errno::EWOULDBLOCK.into()));
        // What is stored is given at once, without immediate mode.
        send(1, 8);
        assert_eq!(file.read(&mut [0; 128], true), Ok(40));
        // FIONBIO reaches the driver as a flag of each read.
        set(&file, BPFRS_FIONBIO, 1i32).unwrap();
        assert_eq!(file.read(&mut [0; 128], false), Err(Errno::EWOULDBLOCK.into()));
        set(&file, BPFRS_FIONBIO, 0i32).unwrap();
        let sleeper = reader(&file);
        sleeper.thread.signal();
        assert_eq!(sleeper.join(), Err(Errno::EINTR.into()));
    });
}

#[test]
fn immediate_mode_wakes_at_the_first_packet() {
    run(|| {
        let file = listen(128);
        let sleeper = reader(&file);
        send(5, 8);
        assert_eq!(sleeper.join().unwrap()[0].data, [&[2, 0, 0, 0][..], &[5; 8]].concat());
    });
}

#[test]
fn otherwise_a_full_buffer_does() {
    run(|| {
        let file = patient(80);
        let sleeper = reader(&file);
        send(1, 8);
        send(2, 8);
        std::thread::sleep(Duration::from_millis(20));
        assert!(sleeper.thread.is_asleep());
        // The third does not fit: the buffers rotate, and it is the first of
        // the next one.
        send(3, 8);
        assert_eq!(sleeper.join().unwrap().len(), 2);
        assert_eq!(read_now(&file).len(), 1);
    });
}

#[test]
fn timeouts() {
    run(|| {
        let file = patient(128);
        timeout(&file, 30);
        let start = Instant::now();
        assert_eq!(file.read(&mut [0; 128], false), Ok(0));
        assert!(start.elapsed() >= Duration::from_millis(30));
        // With something in store it is that.
        send(1, 8);
        assert_eq!(file.read(&mut [0; 128], false), Ok(40));
        // A packet that does not wake the reader does not end the wait early. It
        // must come in time, however busy the machine is.
        timeout(&file, 1000);
        let sleeper = reader(&file);
        send(2, 8);
        assert_eq!(sleeper.join().unwrap().len(), 1);
    });
}

#[test]
fn drops_when_both_buffers_are_full() {
    run(|| {
        let file = patient(80);
        for byte in 0..10 {
            send(byte, 8);
        }
        assert_eq!(counts(&file), (10, 6));
        let bytes: Vec<u8> =
            [read_now(&file), read_now(&file)].concat().iter().map(|r| r.data[4]).collect();
        assert_eq!(bytes, [0, 1, 2, 3]);
        assert_eq!(file.read(&mut [0; 80], true), Err(Errno::EWOULDBLOCK.into()));
    });
}

/// I8: the second reader waits for the first one's copy, and gets the next
/// buffer.
#[test]
fn two_readers() {
    run(|| {
        let file = listen(80);
        send(1, 8);
        let (gate, first) = copying(&file);
        let second = reader(&file);
        send(2, 8);
        std::thread::sleep(Duration::from_millis(20));
        assert!(!second.is_finished());
        gate.open();
        assert_eq!(first.join().unwrap()[0].data[4], 1);
        assert_eq!(second.join().unwrap()[0].data[4], 2);
    });
}

#[test]
fn a_signal_while_another_reader_copies() {
    run(|| {
        let file = listen(80);
        send(1, 8);
        let (gate, first) = copying(&file);
        let second = reader(&file);
        second.thread.signal();
        assert_eq!(second.join(), Err(Errno::EINTR.into()));
        gate.open();
        assert_eq!(first.join().unwrap().len(), 1);
    });
}

/// The buffers fill, and drop, while a reader has one; BIOCFLUSH leaves him his.
#[test]
fn packets_and_a_flush_while_a_reader_copies() {
    run(|| {
        let file = listen(40);
        send(1, 8);
        let (gate, first) = copying(&file);
        send(2, 8);
        send(3, 8);
        assert_eq!(counts(&file), (3, 1));
        assert_eq!(get(&file, BPFRS_FIONREAD, 0i32), Ok(40));
        file.ioctl0(BPFRS_BIOCFLUSH).unwrap();
        assert_eq!(get(&file, BPFRS_FIONREAD, 0i32), Ok(0));
        send(4, 8);
        gate.open();
        assert_eq!(first.join().unwrap()[0].data[4], 1);
        assert_eq!(read_now(&file)[0].data[4], 4);
    });
}

#[test]
fn a_fault_loses_the_buffer_and_nothing_else() {
    run(|| {
        let file = listen(80);
        send(1, 8);
        let mut buffer = [0; 80];
        let hole = Unmapped::new(&buffer);
        assert_eq!(file.read(&mut buffer, true), Err(Errno::EFAULT.into()));
        drop(hole);
        assert_eq!(file.read(&mut buffer, true), Err(Errno::EWOULDBLOCK.into()));
        send(2, 8);
        assert_eq!(read_now(&file)[0].data[4], 2);
    });
}
