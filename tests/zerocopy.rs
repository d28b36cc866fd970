// SPDX-License-Identifier: BSD-2-Clause
//! Zero-copy buffers: pages of the user's that the driver writes records to.
mod support;

use std::ffi::c_void;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bpfrs::kpi::abi::{bpf_zbuf, timeval};
use bpfrs::kpi::errno::Errno;
use bpfrs::kpi::host::{self, File, SharedMemory, Tunable, Unmapped};
use bpfrs_sys::bpfrs_const::*;
use bpfrs_sys::bpfrs_ioc::*;
use support::*;

const PAGE: usize = 4096;
const HEADER: usize = 32;
const NOTHING: bpf_zbuf =
    bpf_zbuf { bz_bufa: std::ptr::null_mut(), bz_bufb: std::ptr::null_mut(), bz_buflen: 0 };

fn pointer(address: usize) -> *mut c_void {
    std::ptr::with_exposed_provenance_mut(address)
}

fn zbuf(a: usize, b: usize, bz_buflen: usize) -> bpf_zbuf {
    bpf_zbuf { bz_bufa: pointer(a), bz_bufb: pointer(b), bz_buflen }
}

/// An open in zero-copy mode.
fn new(unit: i32) -> File {
    host::set_tunable(Tunable::ZerocopyEnable, 1);
    let file = File::open(unit).unwrap();
    set(&file, BPFRS_BIOCSETBUFMODE, BPFRS_BPF_BUFMODE_ZBUF as u32).unwrap();
    file
}

/// One with two buffers of a page, attached to lo0.
fn sharing() -> (File, [SharedMemory; 2]) {
    let file = new(0);
    let buffers = [SharedMemory::new(1), SharedMemory::new(1)];
    let [a, b] = &buffers;
    set(&file, BPFRS_BIOCSETZBUF, zbuf(a.address(), b.address(), PAGE)).unwrap();
    attach(&file, "lo0").unwrap();
    (file, buffers)
}

/// What BIOCROTZBUF hands over: the address and the length.
fn rotate(file: &File) -> (usize, usize) {
    let got = get(file, BPFRS_BIOCROTZBUF, NOTHING).unwrap();
    assert!(got.bz_bufb.is_null());
    (got.bz_bufa.addr(), got.bz_buflen)
}

/// The packets in a buffer that the user has.
fn packets(buffer: &SharedMemory) -> Vec<Record> {
    let [_, len, _] = buffer.header();
    support::records(&buffer.read()[HEADER..HEADER + len as usize])
}

/// Gives a buffer back.
fn acknowledge(buffer: &SharedMemory) {
    let [generation, ..] = buffer.header();
    buffer.write(8, &generation.to_ne_bytes());
}

/// A packet whose record takes half of what a buffer has room for, and a bit.
fn half(byte: u8) -> Vec<u8> {
    vec![byte; (PAGE - HEADER) / 2 - 32 + 8]
}

#[test]
fn modes() {
    run(|| {
        let file = File::open(0).unwrap();
        let zbuf_mode = BPFRS_BPF_BUFMODE_ZBUF as u32;
        // Off unless the administrator says so.
        assert_eq!(set(&file, BPFRS_BIOCSETBUFMODE, zbuf_mode), Err(Errno::EINVAL.into()));
        host::set_tunable(Tunable::ZerocopyEnable, 1);
        assert_eq!(set(&file, BPFRS_BIOCSETBUFMODE, 3u32), Err(Errno::EINVAL.into()));
        set(&file, BPFRS_BIOCSETBUFMODE, zbuf_mode).unwrap();
        assert_eq!(get(&file, BPFRS_BIOCGETBUFMODE, 0u32), Ok(zbuf_mode));
        assert_eq!(get(&file, BPFRS_BIOCGETZMAX, 0usize), Ok(512 * PAGE));
        assert_eq!(get(&file, BPFRS_BIOCSBLEN, 64u32), Err(Errno::EOPNOTSUPP.into()));
        assert_eq!(rotate(&file), (0, 0));
        // There is nothing to forget yet.
        file.ioctl0(BPFRS_BIOCFLUSH).unwrap();
        setf(&file, BPFRS_BIOCSETF, &mut keep(100)).unwrap();
        // Without buffers there is nothing to attach, but the name comes first.
        assert_eq!(attach(&file, "lo9"), Err(Errno::ENXIO.into()));
        assert_eq!(attach(&file, "lo0"), Err(Errno::EINVAL.into()));
        // There and back, as long as there are no buffers.
        set(&file, BPFRS_BIOCSETBUFMODE, 1u32).unwrap();
        assert_eq!(get(&file, BPFRS_BIOCGETZMAX, 0usize), Err(Errno::EOPNOTSUPP.into()));
        get(&file, BPFRS_BIOCSBLEN, 64u32).unwrap();
        assert_eq!(set(&file, BPFRS_BIOCSETBUFMODE, zbuf_mode), Err(Errno::EBUSY.into()));
        // It was on when the session began: that is enough.
        let (file, _buffers) = (new(1), ());
        host::set_tunable(Tunable::ZerocopyEnable, 0);
        let pages = SharedMemory::new(2);
        let (a, b) = (pages.address(), pages.address() + PAGE);
        set(&file, BPFRS_BIOCSETZBUF, zbuf(a, b, PAGE)).unwrap();
        assert_eq!(get(&file, BPFRS_BIOCGBLEN, 0u32), Ok((PAGE - HEADER) as u32));
        assert_eq!(set(&file, BPFRS_BIOCSETBUFMODE, 1u32), Err(Errno::EBUSY.into()));
        // read(2) wants the size first.
        assert_eq!(file.read(&mut [0; 64], true), Err(Errno::EINVAL.into()));
        let mut buffer = [0; PAGE - HEADER];
        assert_eq!(file.read(&mut buffer, true), Err(Errno::EOPNOTSUPP.into()));
    });
}

#[test]
fn which_buffers() {
    run(|| {
        let file = new(0);
        let pages = SharedMemory::new(3);
        let at = pages.address();
        let offer = |a, b, len| set(&file, BPFRS_BIOCSETZBUF, zbuf(a, b, len));
        let wrong = [
            (0, at, PAGE),
            (at, 0, PAGE),
            (at, at + PAGE, 0),
            (at + 8, at + PAGE, PAGE),
            (at, at + PAGE + 8, PAGE),
            (at, at + PAGE, PAGE + 8),
            (at, at + PAGE, 513 * PAGE),
            (at, at + PAGE, usize::MAX - PAGE + 1),
        ];
        for (a, b, len) in wrong {
            assert_eq!(offer(a, b, len), Err(Errno::EINVAL.into()), "{a:#x} {b:#x} {len}");
        }
        let bytes = vec![0u8; 2 * PAGE];
        let private = bytes.as_ptr().expose_provenance().next_multiple_of(PAGE);
        let hole = Unmapped::new(&bytes);
        assert_eq!(offer(at, private, PAGE), Err(Errno::EFAULT.into()));
        drop(hole);
        // What was taken of a failed call is given back; then once, and no more.
        assert_eq!(host::census().wired, 0);
        offer(at, at + PAGE, PAGE).unwrap();
        assert_eq!(host::census().wired, 2 * PAGE);
        assert_eq!(offer(at, at + PAGE, PAGE), Err(Errno::EINVAL.into()));
        assert_eq!(host::census().wired, 2 * PAGE);
    });
}

/// The header, the generations and the records, through two rounds.
#[test]
fn buffers_go_to_and_fro() {
    run(|| {
        let (file, [a, b]) = sharing();
        assert_eq!((a.header(), rotate(&file)), ([0; 3], (0, 0)));
        for round in 1..=3u32 {
            for buffer in [&a, &b] {
                let byte = round as u8;
                host::inject("lo0", 2, &[&[byte; 5]]);
                host::inject("lo0", 2, &[&[byte; 50]]);
                assert_eq!(buffer.header()[0], round - 1, "the kernel has it");
                assert_eq!(get(&file, BPFRS_FIONREAD, 0i32), Ok(122));
                assert_eq!(rotate(&file), (buffer.address(), 122));
                assert_eq!(buffer.header(), [round, 122, round - 1]);
                let got: Vec<_> = packets(buffer).iter().map(|r| r.data[4..].to_vec()).collect();
                assert_eq!(got, [vec![byte; 5], vec![byte; 50]]);
                acknowledge(buffer);
            }
        }
        assert_eq!(counts(&file), (12, 0));
        assert_eq!(host::stats(1).1[0].bd_zcopy, 24);
    });
}

/// Both full: packets are lost, and the user is told of both.
#[test]
fn full() {
    run(|| {
        let (file, [a, b]) = sharing();
        for byte in 1..=4 {
            host::inject("lo0", 2, &[&half(byte)]);
        }
        // The second packet rotated, the third found no room.
        assert_eq!(counts(&file), (4, 2));
        assert_eq!((a.header()[0], b.header()[0]), (1, 1));
        assert_eq!((packets(&a)[0].data[4], packets(&b)[0].data[4]), (1, 2));
        // A small one would have room, but the buffer is the user's now.
        host::inject("lo0", 2, &[&[9]]);
        assert_eq!(
            (counts(&file), b.header()[1] as usize),
            ((5, 3), packets(&b)[0].data.len() + 28)
        );
        assert_eq!(rotate(&file), (0, 0));
        file.ioctl0(BPFRS_BIOCFLUSH).unwrap();
        assert_eq!((packets(&a)[0].data[4], packets(&b)[0].data[4]), (1, 2));
        // With the first one back, the second goes on hold and this is next.
        acknowledge(&a);
        host::inject("lo0", 2, &[&[5]]);
        assert_eq!(counts(&file), (1, 0));
        assert_eq!(rotate(&file), (0, 0));
        acknowledge(&b);
        assert_eq!(rotate(&file), (a.address(), 33));
        assert_eq!(packets(&a)[0].data[4..], [5]);
    });
}

/// poll(2) until a buffer is the user's, and not when it was given back.
#[test]
fn readiness() {
    run(|| {
        let (file, [a, _b]) = sharing();
        let readable = BPFRS_POLLIN;
        let ready = || file.poll(readable, Some(Duration::ZERO)).unwrap();
        assert_eq!(ready(), 0);
        host::inject("lo0", 2, &[&[1]]);
        assert_eq!(ready(), 0);
        rotate(&file);
        assert_eq!(ready(), readable);
        acknowledge(&a);
        assert_eq!(ready(), 0);
        // The timeout: whoever waits looks into the store buffer by BIOCROTZBUF.
        set(&file, BPFRS_BIOCSRTIMEOUT, timeval { tv_sec: 0, tv_usec: 20_000 }).unwrap();
        host::inject("lo0", 2, &[&[1]]);
        assert_eq!(file.poll(readable, Some(Duration::from_secs(10))), Ok(readable));
        assert_ne!(rotate(&file), (0, 0));
    });
}

/// Whatever the user writes to the pages, only the user suffers.
#[test]
fn nothing_there_is_trusted() {
    run(|| {
        let (file, [a, b]) = sharing();
        // Random words all over both headers, while packets come.
        let stop = Arc::new(AtomicBool::new(false));
        let (a, b) = (Arc::new(a), Arc::new(b));
        let scribbler = std::thread::spawn({
            let (stop, a, b) = (Arc::clone(&stop), Arc::clone(&a), Arc::clone(&b));
            move || {
                let mut word = 1u32;
                while !stop.load(Ordering::Relaxed) {
                    word = word.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    for buffer in [&a, &b] {
                        // Often a generation that could be.
                        let word = if word >> 31 == 0 { word >> 16 & 7 } else { word };
                        buffer.write(4 * (word as usize >> 8 & 7), &word.to_ne_bytes());
                    }
                }
            }
        });
        for i in 0..2000u32 {
            host::inject("lo0", 2, &[&half(i as u8)]);
            if i % 3 == 0 {
                let (address, len) = rotate(&file);
                let known = [0, a.address(), b.address()].contains(&address);
                assert!(known && len <= PAGE - HEADER, "{address:#x} {len}");
            }
        }
        stop.store(true, Ordering::Relaxed);
        scribbler.join().unwrap();
        let stats = host::stats(1).1[0];
        assert_eq!(stats.bd_rcount, 2000);
        // Now it gives back what it has, and finds its packets again. It knows
        // the generations no more, so it tries.
        let (address, len) = (0..10_000u32)
            .map(|generation| {
                for buffer in [&a, &b] {
                    buffer.write(8, &generation.to_ne_bytes());
                }
                host::inject("lo0", 2, &[&[7; 7]]);
                rotate(&file)
            })
            .find(|(_, len)| *len != 0)
            .expect("a buffer comes back");
        let buffer = if address == a.address() { &a } else { &b };
        assert_eq!(buffer.header()[1] as usize, len);
        assert_eq!(packets(buffer).last().unwrap().data[4..], [7; 7]);
    });
}

/// What a program wrote to `bzh_kernel_gen` is not what the kernel counts on.
#[test]
fn the_kernels_generation_is_its_own() {
    run(|| {
        let (file, [a, _b]) = sharing();
        a.write(0, &77u32.to_ne_bytes());
        host::inject("lo0", 2, &[&[1]]);
        rotate(&file);
        assert_eq!(a.header()[0], 1);
        // Equal words, but not the kernel's: the buffer stays with the user.
        a.write(0, &[0; 4]);
        host::inject("lo0", 2, &[&[2]]);
        assert_eq!(rotate(&file), (0, 0));
        assert_eq!(packets(&a)[0].data[4..], [1]);
    });
}

/// The end of the open lets go of the pages at once, whoever keeps the file;
/// packets on their way find no buffer.
#[test]
fn the_end_lets_go() {
    run(|| {
        let (file, [a, b]) = sharing();
        host::inject("lo0", 2, &[&[1]]);
        rotate(&file);
        assert_eq!(host::census().wired, 2 * PAGE);
        host::revoke(0).unwrap();
        assert_eq!(host::census().wired, 0);
        let before = (a.read(), b.read());
        host::inject("lo0", 2, &[&half(3)]);
        assert!((a.read(), b.read()) == before);
        drop(file);

        // close(2), and the process' own end of its mapping before it.
        let (file, buffers) = sharing();
        drop(buffers);
        host::inject("lo0", 2, &[&[1]]);
        host::inject("lo0", 2, &[&half(1), &half(2)]);
        assert_eq!(host::census().wired, 2 * PAGE);
        file.close();
        assert_eq!(host::census().wired, 0);
    });
}

/// Packets, rotations and revoke(2) at once: a late write would be a fault.
#[test]
fn revoked_under_packets() {
    run(|| {
        let stop = Arc::new(AtomicBool::new(false));
        let threads: Vec<_> = (0..2)
            .map(|_| {
                let stop = Arc::clone(&stop);
                std::thread::spawn(move || {
                    while !stop.load(Ordering::Relaxed) {
                        host::inject("lo0", 2, &[&half(1)]);
                    }
                })
            })
            .collect();
        for round in 0..200 {
            let (file, [a, b]) = sharing();
            for buffer in [&a, &b].into_iter().cycle().take(round % 5) {
                let _ = get(&file, BPFRS_BIOCROTZBUF, NOTHING);
                acknowledge(buffer);
            }
            let revoker = std::thread::spawn(|| host::revoke(0).unwrap());
            // Either the one or the other: it was revoked, or it was not yet.
            let _ = get(&file, BPFRS_BIOCROTZBUF, NOTHING);
            revoker.join().unwrap();
            drop(file);
        }
        stop.store(true, Ordering::Relaxed);
        threads.into_iter().for_each(|thread| thread.join().unwrap());
    });
}
