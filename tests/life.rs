// SPDX-License-Identifier: BSD-2-Clause
//! The life of an open: every order of open(2), close(2), revoke(2), unmount
//! and unload that devfs can produce. I1…I8 are those of docs/design.md.
mod support;

use std::time::Duration;

use bpfrs::kpi::errno::Errno;
use bpfrs::kpi::host::{self, EpochHold, File, Hook, Interface, Mount, Thread, errno::*};
use bpfrs::kpi::stats::{self, Stat};
use bpfrs_sys::bpfrs_const::{BPFRS_POLLHUP, BPFRS_POLLIN};
use bpfrs_sys::bpfrs_ioc::*;
use support::*;

fn busy() -> i32 {
    Errno::EBUSY.into()
}

fn enxio() -> i32 {
    Errno::ENXIO.into()
}

fn stat(stat: Stat) -> u64 {
    stats::read(stat)
}

/// How many opens ended with 0, 1, 2, more `d_close`; closes for no open.
fn closes() -> [u64; 5] {
    host::settle();
    [
        stats::CLOSES_ZERO,
        stats::CLOSES_ONE,
        stats::CLOSES_TWO,
        stats::CLOSES_MORE,
        stats::CLOSES_ORPHAN,
    ]
    .map(stats::read)
}

/// A reader without a timeout, asleep.
fn reader(file: &File) -> Worker<Result<usize, i32>> {
    let file = file.clone();
    Worker::asleep(move || {
        let size = get(&file, BPFRS_BIOCGBLEN, 0u32)?;
        file.read(&mut vec![0; size as usize], false)
    })
}

#[test]
fn open_and_close() {
    run(|| {
        for _ in 0..3 {
            let file = File::open(0).unwrap();
            assert_eq!((stat(stats::LIVE), stat(stats::DESCRIPTORS)), (1, 1));
            file.close();
            host::settle();
        }
        assert_eq!(closes(), [0, 3, 0, 0, 0]);
        assert_eq!((stat(stats::OPENS), stat(stats::LIVE), stat(stats::DESCRIPTORS)), (3, 0, 0));
    });
}

#[test]
fn nodes_are_made_on_demand_and_exclusive() {
    run(|| {
        let (one, two) = (File::open(0).unwrap(), File::open(255).unwrap());
        assert_eq!(File::open(0).err(), Some(busy()));
        assert_eq!(File::open(256).err(), Some(ENOENT));
        assert_eq!(File::open(-1).err(), Some(ENOENT));
        one.close();
        File::open(0).unwrap().close();
        two.close();
        assert_eq!(closes(), [0, 3, 0, 0, 0]);
    });
}

#[test]
fn dup_closes_once() {
    run(|| {
        let file = File::open(0).unwrap();
        let copies: Vec<File> = (0..5).map(|_| file.clone()).collect();
        file.close();
        assert_eq!(stat(stats::LIVE), 1);
        drop(copies);
        assert_eq!(closes(), [0, 1, 0, 0, 0]);
    });
}

#[test]
fn a_dead_file_answers_like_devfs() {
    run(|| {
        let file = File::open(0).unwrap();
        host::revoke(0).unwrap();
        assert_eq!(stat(stats::LIVE), 0);
        assert_eq!(file.read(&mut [0; 4096], true), Err(EIO));
        assert_eq!(file.ioctl0(BPFRS_BIOCFLUSH), Err(ENOTTY));
        assert_eq!(file.poll(BPFRS_POLLIN, None), Ok(BPFRS_POLLHUP | BPFRS_POLLIN));
        file.close();
        assert_eq!(closes(), [0, 1, 0, 0, 0]);
    });
}

/// I4: the sleeper leaves, the tap and promiscuous mode go, and none of that
/// waits for the reader.
#[test]
fn revoke_with_a_sleeping_reader() {
    run(|| {
        let file = listen(4096);
        file.ioctl0(BPFRS_BIOCPROMISC).unwrap();
        let lo0 = Interface::named("lo0").unwrap();
        assert_eq!((lo0.promisc(), lo0.is_tapped()), (1, true));
        let sleeper = reader(&file);
        host::revoke(0).unwrap();
        assert_eq!((lo0.promisc(), lo0.is_tapped()), (0, false));
        assert_eq!(sleeper.join(), Err(enxio()));
        assert_eq!(stat(stats::DESCRIPTORS), 1);
        file.close();
        assert_eq!(closes(), [0, 1, 0, 0, 0]);
    });
}

#[test]
fn revoke_with_a_poller() {
    run(|| {
        let file = listen(4096);
        let copy = file.clone();
        let poller = Worker::asleep(move || copy.poll(BPFRS_POLLIN, None));
        host::revoke(0).unwrap();
        assert_eq!(poller.join(), Ok(BPFRS_POLLHUP | BPFRS_POLLIN));
        file.close();
    });
}

/// I8: the buffer that is being copied out outlives the end of the open.
#[test]
fn revoke_while_a_reader_copies() {
    run(|| {
        let file = listen(64);
        host::inject("lo0", 2, &[&[7; 20]]);
        let (gate, reader) = copying(&file);
        host::revoke(0).unwrap();
        gate.open();
        assert_eq!(reader.join().unwrap()[0].data[4..], [7; 20]);
        assert_eq!(file.read(&mut [0; 64], true), Err(EIO));
        file.close();
    });
}

#[test]
fn revoke_without_an_open_is_nothing() {
    run(|| {
        host::revoke(0).unwrap();
        host::revoke(7).unwrap();
        assert_eq!((stat(stats::REVOKES), closes()), (0, [0; 5]));
    });
}

#[test]
fn revoke_and_reopen() {
    run(|| {
        for round in 1..=20 {
            let file = File::open(0).unwrap();
            host::revoke(0).unwrap();
            let next = File::open(0).unwrap();
            next.close();
            file.close();
            assert_eq!(closes(), [0, 2 * round, 0, 0, 0]);
        }
    });
}

/// Facts: the close came first, and is held in the driver when the vnode dies.
#[test]
fn close_then_revoke_at_the_same_time() {
    run(|| {
        let file = File::open(0).unwrap();
        let gate = Gate::at(Hook::Close);
        let closer = Worker::spawn(move || file.close());
        gate.wait();
        host::revoke(0).unwrap();
        // revoke(2) ended it; the node is free for others.
        assert_eq!(stat(stats::LIVE), 0);
        let next = File::open(0).unwrap();
        gate.open();
        closer.join();
        assert_eq!(stat(stats::LIVE), 1);
        assert_eq!(get(&next, BPFRS_BIOCGBLEN, 0u32), Ok(4096));
        next.close();
        assert_eq!(closes(), [0, 1, 1, 0, 0]);
    });
}

/// The revocation came first; the file's own close carries FREVOKE then, and
/// has the private value.
#[test]
fn revoke_then_close_at_the_same_time() {
    run(|| {
        let file = File::open(0).unwrap();
        let gate = Gate::at(Hook::Close);
        let revoker = Worker::spawn(|| host::revoke(0));
        gate.wait();
        file.close();
        assert_eq!((stat(stats::LIVE), stat(stats::REVOKES)), (0, 2));
        gate.open();
        revoker.join().unwrap();
        // The file is gone before its second close was counted.
        assert_eq!(closes().iter().sum::<u64>(), 1);
    });
}

#[test]
fn a_vnode_in_every_mount_gets_a_close() {
    run(|| {
        let mounts: Vec<Mount> = (0..3).map(|_| Mount::new()).collect();
        for mount in &mounts {
            mount.stat(0).unwrap();
        }
        let file = File::open(0).unwrap();
        host::revoke(0).unwrap();
        file.close();
        // The open's own vnode came first; three more were about nothing.
        assert_eq!(stat(stats::REVOKES), 4);
        assert_eq!(closes(), [0, 1, 0, 0, 3]);
        // The other way round: the open is of the last mount.
        for mount in &mounts {
            mount.stat(0).unwrap();
        }
        let file = mounts[2].open(0).unwrap();
        host::revoke(0).unwrap();
        assert_eq!(stat(stats::LIVE), 0);
        file.close();
        assert_eq!(stat(stats::REVOKES), 8);
        assert_eq!(closes(), [0, 2, 0, 0, 6]);
    });
}

/// A close without a file that is about another vnode: the open survives.
#[test]
fn unmount_of_another_mount() {
    run(|| {
        let jail = Mount::new();
        let file = listen(4096);
        // Its vnode is known there, but nobody uses it: no d_close at all.
        assert_eq!(jail.open(0).err(), Some(busy()));
        jail.stat(0).unwrap();
        jail.unmount();
        assert_eq!(stat(stats::LIVE), 1);
        host::inject("lo0", 2, &[&[1, 2, 3]]);
        assert_eq!(read_now(&file).len(), 1);
        file.close();
        // The mount it came by: the same call is about this open.
        let jail = Mount::new();
        let file = jail.open(0).unwrap();
        jail.unmount();
        assert_eq!((stat(stats::LIVE), file.read(&mut [0; 4096], true)), (0, Err(EIO)));
        file.close();
        assert_eq!(closes(), [0, 2, 0, 0, 0]);
    });
}

/// A vnode in use, but not by the open, is revoked: FREVOKE without a file.
#[test]
fn revoke_of_a_vnode_that_is_not_the_opens_own() {
    run(|| {
        let jail = Mount::new();
        let file = File::open(0).unwrap();
        let gate = Gate::at(Hook::Open);
        // An open through the jail's vnode that is held, and will be refused.
        file.close();
        let other = Worker::spawn(move || jail.open(0).map(drop));
        gate.wait();
        let file = File::open(0).unwrap();
        jail.unmount();
        assert_eq!(stat(stats::LIVE), 1);
        gate.open();
        assert_eq!(other.join(), Err(busy()));
        assert_eq!(stat(stats::LIVE), 1);
        file.close();
        assert_eq!(closes(), [0, 2, 0, 0, 1]);
    });
}

/// I5: no further close comes for such an open.
#[test]
fn revoke_during_open() {
    run(|| {
        let holder = File::open(1).unwrap();
        let gate = Gate::at(Hook::Open);
        let opener = Worker::spawn(|| File::open(0).map(drop));
        gate.wait();
        // The second user that makes revoke(2) do something.
        host::revoke(0).unwrap();
        assert_eq!(stat(stats::REVOKES), 1);
        let next = File::open(0).unwrap();
        next.close();
        gate.open();
        assert_eq!(opener.join(), Err(busy()));
        assert_eq!((stat(stats::REVOKED_OPENS), stat(stats::LIVE)), (1, 1));
        assert_eq!(closes(), [0, 1, 0, 0, 1]);
        holder.close();
    });
}

/// I5: the same, and somebody else has the node meanwhile.
#[test]
fn revoke_during_open_and_reopen() {
    run(|| {
        let gate = Gate::at(Hook::Open);
        let opener = Worker::spawn(|| File::open(0).map(drop));
        gate.wait();
        host::revoke(0).unwrap();
        let next = File::open(0).unwrap();
        gate.open();
        assert_eq!(opener.join(), Err(busy()));
        assert_eq!(get(&next, BPFRS_BIOCGBLEN, 0u32), Ok(4096));
        next.close();
        assert_eq!(closes(), [0, 1, 0, 0, 1]);
    });
}

/// I2: the old reader leaves late; the new open does not notice.
#[test]
fn reopen_while_the_old_reader_leaves() {
    run(|| {
        let old = listen(64);
        host::inject("lo0", 2, &[&[1; 8]]);
        let (gate, reader) = copying(&old);
        host::revoke(0).unwrap();
        let new = listen(64);
        host::inject("lo0", 2, &[&[2; 8]]);
        gate.open();
        assert_eq!(reader.join().unwrap()[0].data[4..], [1; 8]);
        assert_eq!(read_now(&new)[0].data[4..], [2; 8]);
        assert_eq!(old.ioctl0(BPFRS_BIOCFLUSH), Err(ENOTTY));
        old.close();
        assert_eq!(stat(stats::LIVE), 1);
        host::inject("lo0", 2, &[&[3; 8]]);
        assert_eq!(read_now(&new).len(), 1);
        new.close();
        assert_eq!(closes(), [0, 2, 0, 0, 0]);
    });
}

/// I2: between doom and death of the vnode the file still reaches the driver.
#[test]
fn a_stale_file_in_the_window_of_its_revocation() {
    run(|| {
        let old = listen(64);
        let gate = Gate::at(Hook::Close);
        let revoker = Worker::spawn(|| host::revoke(0));
        gate.wait();
        // Still alive: d_close has not come so far.
        assert_eq!(get(&old, BPFRS_BIOCGBLEN, 0u32), Ok(64));
        gate.open();
        revoker.join().unwrap();
        assert_eq!(get(&old, BPFRS_BIOCGBLEN, 0u32), Err(ENOTTY));
        old.close();
    });
}

/// I2: the thread's file is that of another node.
#[test]
fn revoke_from_inside_another_file() {
    run(|| {
        let (one, other) = (File::open(0).unwrap(), File::open(1).unwrap());
        host::revoke_inside(&other, 0).unwrap();
        assert_eq!(stat(stats::LIVE), 1);
        assert_eq!(get(&other, BPFRS_BIOCGBLEN, 0u32), Ok(4096));
        assert_eq!(one.read(&mut [0; 4096], true), Err(EIO));
        drop((one, other));
        assert_eq!(closes(), [0, 2, 0, 0, 0]);
    });
}

/// I2: the thread's file is one of this node, but of an open that ended.
#[test]
fn revoke_from_inside_an_older_file() {
    run(|| {
        let old = File::open(0).unwrap();
        host::revoke(0).unwrap();
        let file = File::open(0).unwrap();
        assert_eq!(stat(stats::LIVE), 1);
        host::revoke_inside(&old, 0).unwrap();
        assert_eq!(stat(stats::LIVE), 0);
        assert_eq!(file.read(&mut [0; 4096], true), Err(EIO));
        drop((old, file));
        // The old one's own was that of its revocation.
        assert_eq!(closes(), [0, 1, 1, 0, 0]);
    });
}

/// A close that is no revocation and has no file: a step of open(2) failed.
#[test]
fn a_close_without_the_file() {
    run(|| {
        let file = File::open(0).unwrap();
        file.close_without();
        assert_eq!((stat(stats::LIVE), closes()), (1, [0, 0, 0, 0, 1]));
        file.close();
        assert_eq!(closes(), [0, 1, 0, 0, 1]);
    });
}

#[test]
fn an_open_without_a_file_is_refused() {
    run(|| {
        assert_eq!(File::open_without(0), Err(ENOENT));
        assert_eq!((stat(stats::LIVE), closes()), (0, [0; 5]));
        File::open(0).unwrap().close();
    });
}

#[test]
fn unload_is_refused_while_open() {
    run(|| {
        let file = listen(4096);
        let sleeper = reader(&file);
        assert_eq!(host::unload(false), Err(busy()));
        host::inject("lo0", 2, &[&[0; 4]]);
        assert_eq!(sleeper.join(), Ok(28 + 8));
        file.close();
    });
}

/// I7: 0 closes; the destructor is what ends the files.
#[test]
fn unload_by_force_with_sleepers() {
    run(|| {
        let files: Vec<File> = (0..4).map(|unit| File::open(unit).unwrap()).collect();
        let sleepers: Vec<_> = files
            .iter()
            .map(|file| {
                attach(file, "lo0").unwrap();
                reader(file)
            })
            .collect();
        let copy = files[0].clone();
        let poller = Worker::asleep(move || copy.poll(BPFRS_POLLIN, None));
        host::unload(true).unwrap();
        for sleeper in sleepers {
            assert_eq!(sleeper.join(), Err(enxio()));
        }
        assert_eq!(poller.join(), Ok(BPFRS_POLLHUP | BPFRS_POLLIN));
        assert_eq!(closes(), [4, 0, 0, 0, 0]);
        assert_eq!(File::open(0).err(), Some(ENOENT));
        assert_eq!(files[0].read(&mut [0; 4096], true), Err(EIO));
        drop(files);
    });
}

/// I7: the same while a reader is inside, copying.
#[test]
fn unload_waits_for_calls_under_way() {
    run(|| {
        let file = listen(64);
        host::inject("lo0", 2, &[&[9; 8]]);
        let (gate, reader) = copying(&file);
        let unload = Worker::spawn(|| host::unload(true));
        std::thread::sleep(Duration::from_millis(50));
        assert!(!unload.is_finished() && host::is_loaded());
        gate.open();
        assert_eq!(reader.join().unwrap()[0].data[4..], [9; 8]);
        unload.join().unwrap();
        drop(file);
    });
}

/// I7: an open that is not published yet does not get through.
#[test]
fn unload_during_open() {
    run(|| {
        let gate = Gate::at(Hook::Open);
        let opener = Worker::spawn(|| File::open(0).map(drop));
        gate.wait();
        let unload = Worker::spawn(|| host::unload(false));
        std::thread::sleep(Duration::from_millis(30));
        assert!(!unload.is_finished());
        gate.open();
        assert_eq!(opener.join(), Err(enxio()));
        unload.join().unwrap();
    });
}

/// I7, I1: a filter is given back by the callback of a callback.
#[test]
fn unload_waits_for_what_callbacks_leave() {
    run(|| {
        let file = File::open(0).unwrap();
        setf(&file, BPFRS_BIOCSETF, &mut keep(1)).unwrap();
        // The descriptor's destruction has begun, and is held in dev_rel(9).
        let gate = Gate::at(Hook::Release);
        file.close();
        gate.wait();
        assert_eq!(stat(stats::DESCRIPTORS), 0);
        let (unload, hold) = (Worker::spawn(|| host::unload(false)), EpochHold::new());
        std::thread::sleep(Duration::from_millis(50));
        gate.open();
        std::thread::sleep(Duration::from_millis(50));
        drop(hold);
        unload.join().unwrap();
    });
}

/// ifnet_departure_event: ENXIO, and the file may attach again.
#[test]
fn departure_of_the_interface() {
    run(|| {
        let lo1 = Interface::loopback("lo1");
        let file = File::open(0).unwrap();
        attach(&file, "lo1").unwrap();
        file.ioctl0(BPFRS_BIOCPROMISC).unwrap();
        let sleeper = reader(&file);
        lo1.rename("loop1");
        assert_eq!(name(&get(&file, BPFRS_BIOCGETIF, ifreq("")).unwrap()), "loop1");
        lo1.depart();
        assert_eq!(sleeper.join(), Err(enxio()));
        assert_eq!((lo1.promisc(), lo1.is_tapped()), (0, false));
        assert_eq!(file.read(&mut [0; 4096], true), Err(enxio()));
        assert_eq!(attach(&file, "lo1"), Err(enxio()));
        attach(&file, "lo0").unwrap();
        file.close();
        drop(lo1);
        assert_eq!(host::census().ifnets, 1);
    });
}

/// I1: memory outlives every section that could have read its address.
#[test]
fn destruction_waits_for_sections() {
    run(|| {
        let file = listen(64);
        let (gate_in, gate_out) = (std::sync::mpsc::channel(), std::sync::mpsc::channel::<()>());
        let section = Worker::spawn(move || {
            bpfrs::kpi::epoch::pin(|_| {
                gate_in.0.send(()).unwrap();
                gate_out.1.recv().unwrap();
            });
        });
        gate_in.1.recv().unwrap();
        file.close();
        std::thread::sleep(Duration::from_millis(20));
        assert_eq!(stat(stats::DESCRIPTORS), 1);
        gate_out.0.send(()).unwrap();
        section.join();
        host::settle();
        assert_eq!(stat(stats::DESCRIPTORS), 0);
    });
}

#[test]
fn a_signal_does_not_end_an_open() {
    run(|| {
        let file = listen(64);
        let sleeper = reader(&file);
        sleeper.thread.signal();
        assert_eq!(sleeper.join(), Err(Errno::EINTR.into()));
        assert!(!Thread::current().is_asleep());
        host::inject("lo0", 2, &[&[0; 4]]);
        assert_eq!(read_now(&file).len(), 1);
        file.close();
    });
}
