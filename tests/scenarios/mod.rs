// SPDX-License-Identifier: BSD-2-Clause
//! Small worlds in which the unchanged driver runs under a model checker. Each
//! cites the invariants of docs/design.md that it is about, and fails if one
//! is broken; the host body adds its own checks to every step.
#![allow(dead_code, clippy::allow_attributes, reason = "each checker takes those it can finish")]

use bpfrs::kpi::host::{
    self, File, Kqueue, Mount, Tunable,
    errno::{EIO, ENOTTY},
};
use bpfrs::kpi::stats;
use bpfrs_sys::BPFRS_EVFILT_READ;
use bpfrs_sys::bpfrs_const::{
    BPFRS_BPF_BUFMODE_ZBUF, BPFRS_EBUSY as EBUSY, BPFRS_EINTR as EINTR, BPFRS_ENXIO as ENXIO,
    BPFRS_EPERM as EPERM, BPFRS_POLLIN,
};
use bpfrs_sys::bpfrs_ioc::*;
#[cfg(bpfrs_loom)]
use loom::thread::{JoinHandle, spawn};
#[cfg(bpfrs_shuttle)]
use shuttle::thread::{JoinHandle, spawn};

use crate::support::{Record, attach, get, keep, listen, records, set, setf};

/// The worlds that both checkers explore.
macro_rules! small_worlds {
    ($explored:ident $($how:tt)*) => {
        $explored! { $($how)*
            revoke_a_reader
            revoke_two_readers
            two_revokes_of_a_reader
            revoke_a_close
            reopen_after_either_end
            revoke_an_open
            reopen_after_a_revoke
            a_stale_file_and_a_new_open
            two_opens
            a_packet_a_reader_a_revoke
            a_packet_and_a_close
            a_packet_and_a_new_filter
            revoke_a_poller
            revoke_a_knote
            a_knote_and_a_close
            a_packet_wakes_a_reader
            departure_and_a_revoke
            attach_and_a_revoke
            attach_and_a_mode
            revoke_a_writer
            departure_and_a_writer
            a_write_and_a_new_filter
        }
    };
}
pub(crate) use small_worlds;

/// Loads the module, runs a scenario, unloads it: nothing may be left.
pub(crate) fn world(scenario: impl FnOnce()) {
    let before = [
        stats::OPENS,
        stats::CLOSES_ZERO,
        stats::CLOSES_ONE,
        stats::CLOSES_TWO,
        stats::CLOSES_MORE,
    ]
    .map(stats::read);
    host::load().expect("the module loads");
    scenario();
    if host::is_loaded() {
        assert_eq!(stats::read(stats::LIVE), 0, "an open is left");
        host::unload(false).expect("the module unloads");
    }
    let left = host::census();
    assert_eq!(
        (left.allocations, left.monitors, left.cdevs, left.vnodes, left.packets, left.taps),
        (0, 0, 0, 0, 0, 0),
        "{left:?}"
    );
    assert_eq!(stats::read(stats::DESCRIPTORS), 0);
    let opens = stats::read(stats::OPENS) - before[0];
    let ended: u64 = [stats::CLOSES_ZERO, stats::CLOSES_ONE, stats::CLOSES_TWO, stats::CLOSES_MORE]
        .map(stats::read)
        .iter()
        .sum();
    assert_eq!(ended - before[1..].iter().sum::<u64>(), opens, "every open ends once (I3)");
}

pub(crate) fn reader(file: &File) -> JoinHandle<Result<Vec<Record>, i32>> {
    let file = file.clone();
    spawn(move || {
        let mut buffer = [0; 128];
        file.read(&mut buffer, false).map(|len| records(&buffer[..len]))
    })
}

fn revoker(unit: i32) -> JoinHandle<()> {
    spawn(move || host::revoke(unit).expect("a node"))
}

pub(crate) fn sender(byte: u8) -> JoinHandle<()> {
    spawn(move || host::inject("lo0", 2, &[&[byte; 8]]))
}

/// What a reader may say that a revocation found inside, or on its way in.
#[track_caller]
fn ended(result: &Result<Vec<Record>, i32>) {
    assert!(matches!(result, Err(ENXIO | EIO)), "{result:?}");
}

/// I3, I4: a reader, asleep or about to be, returns.
pub(crate) fn revoke_a_reader() {
    let file = listen(128);
    let (reader, revoker) = (reader(&file), revoker(0));
    revoker.join().unwrap();
    ended(&reader.join().unwrap());
    assert_eq!(stats::read(stats::LIVE), 0);
    file.close();
}

/// I4: both of two readers return.
pub(crate) fn revoke_two_readers() {
    let file = listen(128);
    let readers = [reader(&file), reader(&file)];
    host::revoke(0).unwrap();
    for reader in readers {
        ended(&reader.join().unwrap());
    }
    file.close();
}

/// I3: one open, two ends of it at once.
pub(crate) fn two_revokes_of_a_reader() {
    let file = listen(128);
    let reader = reader(&file);
    let revokers = [revoker(0), revoker(0)];
    for revoker in revokers {
        revoker.join().unwrap();
    }
    ended(&reader.join().unwrap());
    file.close();
}

/// I3: the last close meets a revocation.
pub(crate) fn revoke_a_close() {
    let file = listen(128);
    let revoker = revoker(0);
    file.close();
    revoker.join().unwrap();
    assert_eq!(stats::read(stats::LIVE), 0);
}

/// I3: whichever of two ends returns first, the node is free.
pub(crate) fn reopen_after_either_end() {
    let (file, jail) = (listen(128), Mount::new());
    let revoker = revoker(0);
    file.close();
    let overtaken = stats::read(stats::REVOKED_OPENS);
    // Through another mount: in this one devfs waits for the revocation.
    match jail.open(0) {
        Ok(file) => file.close(),
        Err(EBUSY) => assert_ne!(stats::read(stats::REVOKED_OPENS), overtaken, "the node is busy"),
        // devfs found the vnode dead.
        Err(error) => assert_eq!(error, ENXIO),
    }
    revoker.join().unwrap();
}

/// I5: an open that a revocation overtakes does not live.
pub(crate) fn revoke_an_open() {
    let opener = spawn(|| File::open(0));
    host::revoke(0).unwrap();
    match opener.join().unwrap() {
        Ok(file) => {
            let lives = u64::from(!file.is_revoked());
            assert_eq!(stats::read(stats::LIVE), lives, "revoked and alive");
            if lives == 1 {
                assert_eq!(get(&file, BPFRS_BIOCGBLEN, 0u32), Ok(4096));
            }
        }
        // ENXIO: devfs found the vnode dead before it called d_open.
        Err(error) => assert!([EBUSY, ENXIO].contains(&error), "{error}"),
    }
}

/// I2, I4: the node is free after a revocation, while the old reader may still
/// be inside; it never acts on the new open, nor the old file on it.
pub(crate) fn reopen_after_a_revoke() {
    let old = listen(128);
    let reader = reader(&old);
    host::revoke(0).unwrap();
    let new = File::open(0).expect("the node is free");
    ended(&reader.join().unwrap());
    old.close();
    assert_eq!(stats::read(stats::LIVE), 1);
    assert_eq!(get(&new, BPFRS_BIOCGBLEN, 0u32), Ok(4096));
    new.close();
}

/// I2: after its end, but before devfs knows, an old file does not reach the
/// node's new open.
pub(crate) fn a_stale_file_and_a_new_open() {
    let (old, jail) = (listen(128), Mount::new());
    let stale = {
        let old = old.clone();
        spawn(move || get(&old, BPFRS_BIOCGBLEN, 0u32))
    };
    let revoker = revoker(0);
    let new = jail.open(0);
    let answer = stale.join().unwrap();
    assert!(matches!(answer, Ok(128) | Err(ENXIO | ENOTTY)), "{answer:?}");
    revoker.join().unwrap();
    drop((old, new));
}

/// I2: two opens of one node at once: exactly one gets it.
pub(crate) fn two_opens() {
    let other = spawn(|| File::open(0));
    let one = File::open(0);
    let other = other.join().unwrap();
    assert!(
        matches!((&one, &other), (Ok(_), Err(EBUSY)) | (Err(EBUSY), Ok(_))),
        "{:?} {:?}",
        one.map(drop),
        other.map(drop)
    );
}

/// I8, I9: a packet, its reader, and the end of the open.
pub(crate) fn a_packet_a_reader_a_revoke() {
    let file = listen(128);
    let (reader, sender) = (reader(&file), sender(7));
    host::revoke(0).unwrap();
    sender.join().unwrap();
    match reader.join().unwrap() {
        Ok(packets) => assert_eq!(packets[0].data[4..], [7; 8]),
        error => ended(&error),
    }
    file.close();
}

/// I1: the lists of taps and listeners change under a packet.
pub(crate) fn a_packet_and_a_close() {
    let (one, two) = (listen(128), File::open(1).unwrap());
    attach(&two, "lo0").unwrap();
    let sender = sender(3);
    one.close();
    sender.join().unwrap();
    assert_eq!(get(&two, BPFRS_FIONREAD, 0i32), Ok(40));
    two.close();
}

/// I1, I9: BIOCSETF while a packet is judged: after it, no packet that only
/// the old filter wanted.
pub(crate) fn a_packet_and_a_new_filter() {
    let file = listen(128);
    let sender = sender(5);
    setf(&file, BPFRS_BIOCSETF, &mut keep(0)).unwrap();
    assert_eq!(get(&file, BPFRS_FIONREAD, 0i32), Ok(0));
    sender.join().unwrap();
    assert_eq!(get(&file, BPFRS_FIONREAD, 0i32), Ok(0));
    file.close();
}

/// I4: poll(2) does not sleep through the end, nor through a packet.
pub(crate) fn revoke_a_poller() {
    let file = listen(128);
    let poller = {
        let file = file.clone();
        spawn(move || file.poll(BPFRS_POLLIN, None))
    };
    host::revoke(0).unwrap();
    assert_ne!(poller.join().unwrap(), Ok(0));
    file.close();
}

/// I4, I6: kevent(2) does not sleep through the end; its kqueue closes at the
/// same time.
pub(crate) fn revoke_a_knote() {
    let file = listen(128);
    let queue = Kqueue::new();
    queue.add(&file, BPFRS_EVFILT_READ).unwrap();
    let waiter = spawn(move || queue.wait(None));
    host::revoke(0).unwrap();
    let events = waiter.join().unwrap().unwrap();
    assert!(events[0].eof, "{events:?}");
    file.close();
}

/// I6: the file and the kqueue close: one of them detaches the knote.
pub(crate) fn a_knote_and_a_close() {
    let file = listen(128);
    let queue = Kqueue::new();
    queue.add(&file, BPFRS_EVFILT_READ).unwrap();
    let closer = spawn(move || drop(queue));
    file.close();
    closer.join().unwrap();
}

/// I6, I7: a kqueue closes while the module goes: the knote goes once, and the
/// module after it.
pub(crate) fn a_knote_and_an_unload() {
    let file = listen(128);
    let queue = Kqueue::new();
    queue.add(&file, BPFRS_EVFILT_READ).unwrap();
    let closer = spawn(move || drop(queue));
    host::unload(true).expect("forced");
    closer.join().unwrap();
    file.close();
}

/// I4, I8: no wake-up is lost between a packet and a reader.
pub(crate) fn a_packet_wakes_a_reader() {
    let file = listen(128);
    let (reader, sender) = (reader(&file), sender(9));
    sender.join().unwrap();
    assert_eq!(reader.join().unwrap().unwrap()[0].data[4..], [9; 8]);
    file.close();
}

/// I8: two readers share one descriptor with room for one packet in each
/// buffer: each gets one, and the one that waits for the other's copy is woken.
pub(crate) fn two_readers_two_packets() {
    let file = listen(40);
    let readers = [1, 2].map(|_| {
        let file = file.clone();
        spawn(move || {
            let mut buffer = [0; 40];
            file.read(&mut buffer, false).map(|len| records(&buffer[..len])[0].data[4])
        })
    });
    let senders = [sender(1), sender(2)];
    for sender in senders {
        sender.join().unwrap();
    }
    let mut seen = readers.map(|reader| reader.join().unwrap());
    seen.sort_unstable();
    assert_eq!(seen, [Ok(1), Ok(2)]);
    file.close();
}

/// A signal ends a reader's sleep, whatever else comes.
pub(crate) fn a_signal_and_a_revoke() {
    let file = listen(128);
    let sleeper = {
        let file = file.clone();
        spawn(move || {
            host::Thread::current().signal();
            file.read(&mut [0; 128], false)
        })
    };
    host::revoke(0).unwrap();
    assert!(matches!(sleeper.join().unwrap(), Err(ENXIO | EIO | EINTR)));
    file.close();
}

/// I7: unload meets an open: one of the two is refused.
pub(crate) fn unload_and_open() {
    let opener = spawn(|| File::open(0));
    let unloaded = host::unload(false);
    let opened = opener.join().unwrap();
    match (unloaded, opened) {
        (Ok(()), Err(_)) => assert!(!host::is_loaded()),
        (Err(EBUSY), Ok(file)) => {
            assert_eq!(get(&file, BPFRS_BIOCGBLEN, 0u32), Ok(4096));
            file.close();
        }
        // The open saw the flag of an unload that saw its count.
        (Err(EBUSY), Err(_)) => {}
        (unloaded, opened) => panic!("unload {unloaded:?}, open {:?}", opened.map(drop)),
    }
}

/// I7: a forced unload ends a reader and waits until it has left.
pub(crate) fn forced_unload_of_a_reader() {
    let file = listen(128);
    let reader = reader(&file);
    host::unload(true).expect("forced");
    ended(&reader.join().unwrap());
    file.close();
}

/// An interface goes away under its listener.
pub(crate) fn departure_and_a_reader() {
    let lo1 = host::Interface::loopback("lo1");
    let file = listen(128);
    attach(&file, "lo1").unwrap();
    let reader = reader(&file);
    lo1.depart();
    assert_eq!(reader.join().unwrap(), Err(ENXIO));
    assert!(!lo1.is_tapped());
    file.close();
}

/// I3: departure and revocation detach the same attachment.
pub(crate) fn departure_and_a_revoke() {
    let lo1 = host::Interface::loopback("lo1");
    let file = listen(128);
    attach(&file, "lo1").unwrap();
    file.ioctl0(BPFRS_BIOCPROMISC).unwrap();
    let revoker = revoker(0);
    lo1.depart();
    revoker.join().unwrap();
    assert_eq!((lo1.promisc(), lo1.is_tapped()), (0, false));
    file.close();
}

/// A packet for a loopback interface, link header first.
const WRITTEN: [u8; 12] = [2, 0, 0, 0, 6, 6, 6, 6, 6, 6, 6, 6];

fn writer(file: &File) -> JoinHandle<Result<usize, i32>> {
    let file = file.clone();
    spawn(move || file.write(&WRITTEN))
}

/// What a writer said is what came of its packet.
#[track_caller]
fn sent(result: Result<usize, i32>, by: &host::Interface, refusals: &[i32]) {
    match result {
        Ok(len) => assert_eq!((len, by.sent().len()), (WRITTEN.len(), 1)),
        Err(error) => {
            assert!(refusals.contains(&error), "{error}");
            assert_eq!(by.sent(), [], "refused and sent");
        }
    }
}

/// I4: a writer and the end of its open.
pub(crate) fn revoke_a_writer() {
    let file = listen(128);
    let lo0 = host::Interface::named("lo0").unwrap();
    let writer = writer(&file);
    host::revoke(0).unwrap();
    sent(writer.join().unwrap(), &lo0, &[ENXIO, EIO]);
    file.close();
}

/// I4: nothing is sent from an interface that has departed.
pub(crate) fn departure_and_a_writer() {
    let lo1 = host::Interface::loopback("lo1");
    let file = listen(128);
    attach(&file, "lo1").unwrap();
    let writer = writer(&file);
    lo1.depart();
    sent(writer.join().unwrap(), &lo1, &[ENXIO]);
    file.close();
}

/// I1: BIOCSETWF while a packet is judged.
pub(crate) fn a_write_and_a_new_filter() {
    let file = listen(128);
    let lo0 = host::Interface::named("lo0").unwrap();
    setf(&file, BPFRS_BIOCSETWF, &mut keep(1)).unwrap();
    let writer = writer(&file);
    setf(&file, BPFRS_BIOCSETWF, &mut keep(0)).unwrap();
    sent(writer.join().unwrap(), &lo0, &[EPERM]);
    file.close();
}

/// I4: BIOCSETIF meets the end of the open: a dead descriptor never listens.
pub(crate) fn attach_and_a_revoke() {
    let file = File::open(0).unwrap();
    let attacher = {
        let file = file.clone();
        spawn(move || attach(&file, "lo0"))
    };
    host::revoke(0).unwrap();
    let _ = attacher.join().unwrap();
    let lo0 = host::Interface::named("lo0").unwrap();
    assert!(!lo0.is_tapped(), "a dead descriptor listens");
    file.close();
}

/// I8: BIOCSETIF meets BIOCSETBUFMODE: buffers are of the mode that is set.
pub(crate) fn attach_and_a_mode() {
    host::set_tunable(Tunable::ZerocopyEnable, 1);
    let file = File::open(0).unwrap();
    let attacher = {
        let file = file.clone();
        spawn(move || attach(&file, "lo0"))
    };
    let mode = set(&file, BPFRS_BIOCSETBUFMODE, BPFRS_BPF_BUFMODE_ZBUF as u32);
    let attached = attacher.join().unwrap();
    assert!(mode.is_ok() != attached.is_ok(), "{mode:?} {attached:?}");
    file.close();
}
