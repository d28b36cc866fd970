// SPDX-License-Identifier: BSD-2-Clause
//! kqueue(2). I4 and I6 are those of docs/design.md.
mod support;

use std::sync::Arc;
use std::time::{Duration, Instant};

use bpfrs::kpi::abi::timeval;
use bpfrs::kpi::errno::Errno;
use bpfrs::kpi::host::{self, EpochHold, File, Hook, Interface, Kevent, Kqueue};
use bpfrs::kpi::stats;
use bpfrs_sys::bpfrs_ioc::*;
use bpfrs_sys::{BPFRS_EVFILT_READ as READ, BPFRS_EVFILT_WRITE as WRITE};
use support::*;

const NOW: Option<Duration> = Some(Duration::ZERO);
/// EVFILT_VNODE, which bpf(4) does not know.
const VNODE: i32 = -4;

fn send() {
    host::inject("lo0", 2, &[&[1; 8]]);
}

/// A kqueue that watches `file`.
fn watch(file: &File, filter: i32) -> Arc<Kqueue> {
    let queue = Kqueue::new();
    queue.add(file, filter).expect("kevent(2)");
    Arc::new(queue)
}

fn event(file: &File, filter: i32, data: i64) -> Kevent {
    Kevent { ident: file.descriptor(), filter, data, eof: false }
}

fn eof(file: &File, filter: i32) -> Kevent {
    Kevent { ident: file.descriptor(), filter, data: 0, eof: true }
}

/// A thread that sleeps in kevent(2).
fn waiter(queue: &Arc<Kqueue>) -> Worker<Result<Vec<Kevent>, i32>> {
    let queue = Arc::clone(queue);
    Worker::asleep(move || queue.wait(None))
}

fn slow(file: &File, milliseconds: i64) {
    set(file, BPFRS_BIOCIMMEDIATE, 0u32).unwrap();
    let time = timeval { tv_sec: 0, tv_usec: milliseconds * 1000 };
    set(file, BPFRS_BIOCSRTIMEOUT, time).unwrap();
}

#[test]
fn a_packet_is_an_event_until_it_is_read() {
    run(|| {
        let file = listen(256);
        let queue = watch(&file, READ);
        assert_eq!(queue.wait(NOW), Ok(vec![]));
        let waiter = waiter(&queue);
        send();
        assert_eq!(waiter.join(), Ok(vec![event(&file, READ, 40)]));
        // Store and hold together; and a level, not an edge.
        send();
        assert_eq!(queue.wait(NOW), Ok(vec![event(&file, READ, 80)]));
        assert_eq!(read_now(&file).len(), 2);
        assert_eq!(queue.wait(NOW), Ok(vec![]));
    });
}

#[test]
fn packets_from_before_are_an_event() {
    run(|| {
        let file = listen(128);
        send();
        assert_eq!(watch(&file, READ).wait(NOW), Ok(vec![event(&file, READ, 40)]));
    });
}

#[test]
fn not_immediate_only_the_hold_buffer_counts() {
    run(|| {
        let file = listen(128);
        set(&file, BPFRS_BIOCIMMEDIATE, 0u32).unwrap();
        let queue = watch(&file, READ);
        (0..3).for_each(|_| send());
        assert_eq!(queue.wait(NOW), Ok(vec![]));
        send();
        assert_eq!(queue.wait(NOW), Ok(vec![event(&file, READ, 160)]));
    });
}

/// What a reader is copying out is not there for another.
#[test]
fn a_copy_under_way_does_not_count() {
    run(|| {
        let file = listen(128);
        let queue = watch(&file, READ);
        send();
        let (gate, reader) = copying(&file);
        assert_eq!(queue.wait(NOW), Ok(vec![]));
        send();
        assert_eq!(queue.wait(NOW), Ok(vec![event(&file, READ, 40)]));
        gate.open();
        assert_eq!(reader.join().unwrap().len(), 1);
    });
}

#[test]
fn the_read_timeout_makes_stored_packets_an_event() {
    run(|| {
        let file = listen(1024);
        slow(&file, 30);
        send();
        let begin = Instant::now();
        let queue = watch(&file, READ);
        assert_eq!(waiter(&queue).join(), Ok(vec![event(&file, READ, 40)]));
        assert!(begin.elapsed() >= Duration::from_millis(25), "{:?}", begin.elapsed());
        assert_eq!(file.read(&mut vec![0; 1024], false), Ok(40));
        // The clock starts again when the filter is asked again.
        let waiter = waiter(&queue);
        send();
        assert_eq!(waiter.join(), Ok(vec![event(&file, READ, 40)]));
    });
}

/// As stock: poll(2) calls it ready, kevent(2) has nothing to tell.
#[test]
fn without_an_interface_nothing_is_new() {
    run(|| {
        let file = File::open(0).unwrap();
        let (reads, writes) = (watch(&file, READ), watch(&file, WRITE));
        assert_eq!((reads.wait(NOW), writes.wait(NOW)), (Ok(vec![]), Ok(vec![])));
        attach(&file, "lo0").unwrap();
        // Stock does not wake for it: the next look finds it.
        writes.add(&file, WRITE).unwrap();
        assert_eq!(writes.wait(NOW), Ok(vec![event(&file, WRITE, 16384)]));
        assert_eq!(reads.wait(NOW), Ok(vec![]));
    });
}

#[test]
fn other_filters_are_refused() {
    run(|| {
        let file = listen(128);
        let queue = Kqueue::new();
        assert_eq!(queue.add(&file, VNODE), Err(Errno::EPERM.into()));
        assert_eq!(queue.add(&file, 0), Err(Errno::EPERM.into()));
        host::revoke(0).unwrap();
        assert_eq!(queue.add(&file, READ), Err(Errno::ENXIO.into()));
        assert_eq!(queue.wait(NOW), Ok(vec![]));
    });
}

#[test]
fn two_kqueues_and_both_filters() {
    run(|| {
        let file = listen(256);
        let one = watch(&file, READ);
        let two = watch(&file, READ);
        two.add(&file, WRITE).unwrap();
        assert_eq!(two.wait(NOW), Ok(vec![event(&file, WRITE, 16384)]));
        let waiter = waiter(&one);
        send();
        assert_eq!(waiter.join(), Ok(vec![event(&file, READ, 40)]));
        let mut events = two.wait(NOW).unwrap();
        events.sort_by_key(|event| event.filter);
        assert_eq!(events, [event(&file, WRITE, 16384), event(&file, READ, 40)]);
        drop(one);
        send();
        assert_eq!(two.wait(NOW).unwrap().len(), 2);
    });
}

#[test]
fn a_signal_and_a_timeout() {
    run(|| {
        let file = listen(128);
        let queue = watch(&file, READ);
        let waiter = waiter(&queue);
        waiter.thread.signal();
        assert_eq!(waiter.join(), Err(Errno::EINTR.into()));
        assert_eq!(queue.wait(Some(Duration::from_millis(5))), Ok(vec![]));
    });
}

/// I4: the end is an event, for every kqueue, and stays one.
#[test]
fn revoke_is_the_end_of_file() {
    run(|| {
        let file = listen(128);
        // A packet that nobody will read any more.
        send();
        let copy = file.clone();
        let (one, two) = (watch(&file, READ), watch(&copy, WRITE));
        assert_eq!(one.wait(NOW), Ok(vec![event(&file, READ, 40)]));
        read_now(&file);
        assert_eq!(one.wait(NOW), Ok(vec![]));
        let waiter = waiter(&one);
        host::revoke(0).unwrap();
        assert_eq!(waiter.join(), Ok(vec![eof(&file, READ)]));
        for _ in 0..2 {
            assert_eq!(one.wait(NOW), Ok(vec![eof(&file, READ)]));
            assert_eq!(two.wait(NOW), Ok(vec![eof(&copy, WRITE)]));
        }
        // A knote that is there already: its filter is asked again.
        assert_eq!(one.add(&file, READ), Ok(()));
        // The node's next open is not what they wait for.
        let next = listen(128);
        send();
        assert_eq!(one.wait(NOW), Ok(vec![eof(&file, READ)]));
        next.close();
        file.close();
        assert_eq!(one.wait(NOW), Ok(vec![]));
        assert_eq!(two.wait(NOW), Ok(vec![eof(&copy, WRITE)]));
    });
}

/// I4: nor does the timeout begin again after the end.
#[test]
fn revoke_with_a_timeout_running() {
    run(|| {
        let file = listen(128);
        slow(&file, 2);
        let queue = watch(&file, READ);
        host::revoke(0).unwrap();
        std::thread::sleep(Duration::from_millis(5));
        assert_eq!(queue.wait(NOW), Ok(vec![eof(&file, READ)]));
        file.close();
    });
}

/// A knote is about a descriptor: with it, it goes.
#[test]
fn a_close_takes_the_knotes_of_its_descriptor() {
    run(|| {
        let file = listen(128);
        let copy = file.clone();
        let queue = watch(&file, READ);
        queue.add(&copy, READ).unwrap();
        file.close();
        send();
        assert_eq!(queue.wait(NOW), Ok(vec![event(&copy, READ, 40)]));
        assert_eq!(stats::read(stats::LIVE), 1);
        copy.close();
        assert_eq!(stats::read(stats::LIVE), 0);
        assert_eq!(queue.wait(NOW), Ok(vec![]));
        host::settle();
        assert_eq!(stats::read(stats::DESCRIPTORS), 0);
    });
}

/// As stock: what was captured is there, and no more comes. It is no end: the
/// descriptor may attach to another interface.
#[test]
fn a_departure_is_no_end() {
    run(|| {
        let lo1 = Interface::loopback("lo1");
        let file = listen(128);
        attach(&file, "lo1").unwrap();
        set(&file, BPFRS_BIOCIMMEDIATE, 1u32).unwrap();
        let queue = watch(&file, READ);
        queue.add(&file, WRITE).unwrap();
        assert_eq!(queue.wait(NOW), Ok(vec![event(&file, WRITE, 16384)]));
        host::inject("lo1", 2, &[&[1; 8]]);
        lo1.depart();
        assert_eq!(queue.wait(NOW), Ok(vec![event(&file, READ, 40)]));
        read_now(&file);
        assert_eq!(queue.wait(NOW), Ok(vec![]));
        attach(&file, "lo0").unwrap();
        let waiter = waiter(&queue);
        send();
        assert!(waiter.join().unwrap().contains(&event(&file, READ, 40)));
    });
}

/// I6, I7: who sleeps in kevent(2) sees the end; then the knote is gone, since
/// it would call a module that is not there.
#[test]
fn unload_is_the_end_of_file() {
    run(|| {
        let file = listen(128);
        let queue = watch(&file, READ);
        let waiter = waiter(&queue);
        assert_eq!(host::unload(false), Err(Errno::EBUSY.into()));
        host::unload(true).unwrap();
        assert_eq!(waiter.join(), Ok(vec![eof(&file, READ)]));
        assert_eq!(queue.wait(NOW), Ok(vec![]));
        file.close();
    });
}

/// I6, I7: a revoked open whose file and knotes are still there.
#[test]
fn unload_after_a_revoke() {
    run(|| {
        let file = listen(128);
        let queues = [watch(&file, READ), watch(&file, READ), watch(&file, WRITE)];
        host::revoke(0).unwrap();
        host::settle();
        assert_eq!(stats::read(stats::DESCRIPTORS), 1);
        host::unload(false).unwrap();
        for queue in &queues {
            assert_eq!(queue.wait(NOW), Ok(vec![]));
        }
        file.close();
    });
}

/// I6: a knote keeps what its list and its lock are in until its detach has
/// returned, and so keeps the module.
#[test]
fn unload_waits_for_a_detach() {
    run(|| {
        let file = listen(128);
        let queue = watch(&file, READ);
        let gate = Gate::at(Hook::Detach);
        let detach = Worker::spawn(move || drop(queue));
        gate.wait();
        let unload = Worker::spawn(|| host::unload(true));
        std::thread::sleep(Duration::from_millis(100));
        assert!(!unload.is_finished(), "the module left, and a detach was still in it");
        gate.open();
        detach.join();
        assert_eq!(unload.join(), Ok(()));
        file.close();
    });
}

/// I6: everybody at once; many times.
#[test]
fn attach_and_detach_under_revoke() {
    run(|| {
        for round in 0..300u64 {
            let file = listen(128);
            let queue = watch(&file, READ);
            let hold = EpochHold::new();
            let attacher = {
                let (file, queue) = (file.clone(), Arc::clone(&queue));
                Worker::spawn(move || {
                    for _ in 0..4 {
                        let other = Kqueue::new();
                        let _ = other.add(&file, READ);
                        let _ = queue.add(&file, WRITE);
                    }
                })
            };
            let waiter = {
                let queue = Arc::clone(&queue);
                Worker::spawn(move || {
                    loop {
                        let events = queue.wait(None).expect("no signal");
                        if events.iter().any(|event| event.eof) {
                            break;
                        }
                    }
                })
            };
            std::thread::sleep(Duration::from_micros(round));
            send();
            host::revoke(0).unwrap();
            waiter.join();
            attacher.join();
            drop(queue);
            file.close();
            drop(hold);
        }
        host::settle();
        assert_eq!(stats::read(stats::DESCRIPTORS), 0);
    });
}
