// SPDX-License-Identifier: BSD-2-Clause
//! write(2): packets that a descriptor sends on lo0, stock's behaviour being the measure.

use alloc::vec;
use alloc::vec::Vec;
use core::time::Duration;

use bpfrs_vm_protocol::frame::ethernet;

use super::life_of_an_open::{FailPoint, SETTLE};
use super::{Bench, Child, Test, Trouble, Verdict, While, common, ensure, equal, own, refused};
use crate::bpf::{self, ACCEPT, Bpf, REJECT, SOON, records, udp_to};
use crate::ifnet::Epair;
use crate::loopback::{internet_checksum, payload, silent_receiver};
use crate::sys::{self, Address, Errno, Fd};

pub(super) const TESTS: &[Test] = &[
    common("write-is-captured", write_is_captured),
    common("write-errors", write_errors),
    common("write-filter", write_filter),
    common("write-feedback", write_feedback),
    common("write-locked", write_locked),
    common("write-only", write_only),
    own("write-feedback-without-memory", write_feedback_without_memory),
    own("revoke-writers", revoke_writers),
];

/// The port of 127.0.0.1 that packets are written to.
const PORT: u16 = 40_041;
/// The link header of lo0: AF_INET.
const LINK: [u8; 4] = libc::AF_INET.to_ne_bytes();

/// A UDP packet for `PORT` with a payload of its own, link header first.
fn packet(number: usize) -> Vec<u8> {
    let payload = payload(number);
    let udp_length = (8 + payload.len()) as u16;
    let mut ip = vec![0x45, 0];
    ip.extend((20 + udp_length).to_be_bytes());
    // No fragment; a TTL of 64, UDP, no checksum yet.
    ip.extend([0, 7, 0, 0, 64, 17, 0, 0]);
    ip.extend([127, 0, 0, 1, 127, 0, 0, 1]);
    let checksum = internet_checksum(&ip);
    ip[10..12].copy_from_slice(&checksum.to_be_bytes());
    // UDP over IPv4 needs no checksum.
    let udp = [PORT.to_be_bytes(), PORT.to_be_bytes(), udp_length.to_be_bytes(), [0, 0]];
    [&LINK[..], &ip, &udp.concat(), &payload].concat()
}

/// Attached to lo0, seeing the packets to `PORT` alone, at once or not at all.
fn listening(bench: &Bench, node: usize) -> Result<Bpf, Trouble> {
    let bpf = bench.listening_on(node, PORT)?;
    bpf.fd.set_nonblocking(true)?;
    Ok(bpf)
}

/// What the descriptor has captured since.
fn captured(bpf: &Bpf) -> Result<Vec<Vec<u8>>, Trouble> {
    match bpf.read() {
        Ok(bytes) => Ok(records(&bytes)?.into_iter().map(|record| record.data).collect()),
        Err(Errno(libc::EAGAIN)) => Ok(vec![]),
        Err(errno) => refused(errno.0).at("read"),
    }
}

fn receiver() -> Result<Fd, Trouble> {
    silent_receiver(Address::V4(PORT)).at("bind")
}

fn write_is_captured(bench: &Bench) -> Verdict {
    let receiver = receiver()?;
    let writer = listening(bench, 0)?;
    let other = listening(bench, 1)?;
    for number in 0..20 {
        let packet = packet(number);
        equal!("write", writer.fd.write(&packet), Ok(packet.len()));
        equal!("captured by another", captured(&other)?, [packet.as_slice()]);
        equal!("captured by the writer", captured(&writer)?, [packet.as_slice()]);
        // It is a packet like any other.
        let come = receiver.poll(libc::POLLIN, Some(SOON)).at("poll")?;
        equal!("the receiver", come, libc::POLLIN);
        let mut data = vec![0; 200];
        let length = receiver.read(&mut data).at("read of the receiver")?;
        equal!("received", data.get(..length), Some(payload(number).as_slice()));
    }
    Ok(())
}

fn write_errors(bench: &Bench) -> Verdict {
    let bpf = bench.open()?;
    equal!("write unattached", bpf.fd.write(&packet(0)), refused(libc::ENXIO));
    equal!("write of nothing unattached", bpf.fd.write(&[]), refused(libc::ENXIO));
    drop(bpf);
    let bpf = listening(bench, 0)?;
    equal!("write of nothing", bpf.fd.write(&[]), Ok(0));
    let mut long = vec![0; 16384 + 5];
    long[..4].copy_from_slice(&LINK);
    equal!("write of half a header", bpf.fd.write(&LINK[..3]), refused(libc::EMSGSIZE));
    equal!("write beyond the MTU", bpf.fd.write(&long), refused(libc::EMSGSIZE));
    equal!("write beyond an mbuf", bpf.fd.write(&long[..16384 + 4]), refused(libc::EIO));
    equal!("write from nowhere", bpf.fd.write_null(100), refused(libc::EFAULT));
    let mut other = packet(0);
    other[..4].copy_from_slice(&16_i32.to_ne_bytes());
    equal!("write of another family", bpf.fd.write(&other), refused(libc::EAFNOSUPPORT));
    equal!("captured", captured(&bpf)?.len(), 0);
    Ok(())
}

fn write_filter(bench: &Bench) -> Verdict {
    let _receiver = receiver()?;
    let bpf = listening(bench, 0)?;
    let (one, two) = (packet(1), packet(2));
    bpf.set_filter(bpf::BIOCSETWF, &REJECT).at("BIOCSETWF")?;
    equal!("write", bpf.fd.write(&one), refused(libc::EPERM));
    equal!("captured", captured(&bpf)?.len(), 0);
    // It looks at the packet from its link header on.
    let mut port = udp_to(PORT, 1);
    bpf.set_filter(bpf::BIOCSETWF, &port).at("BIOCSETWF")?;
    equal!("write to the port", bpf.fd.write(&one), Ok(one.len()));
    port[3].k += 1;
    bpf.set_filter(bpf::BIOCSETWF, &port).at("BIOCSETWF")?;
    equal!("write to another port", bpf.fd.write(&two), refused(libc::EPERM));
    bpf.set_filter(bpf::BIOCSETWF, &[]).at("BIOCSETWF of nothing")?;
    equal!("write without a filter", bpf.fd.write(&two), Ok(two.len()));
    equal!("captured", captured(&bpf)?, [one.as_slice(), two.as_slice()]);
    Ok(())
}

fn write_feedback(bench: &Bench) -> Verdict {
    // lo0 has no input of its own: what is fed back is lost, what goes out comes back as ever.
    let _receiver = receiver()?;
    let bpf = listening(bench, 0)?;
    bpf.set_feedback(true).at("BIOCFEEDBACK")?;
    for direction in [0, 1] {
        bpf.set_direction(direction).at("BIOCSDIRECTION")?;
        equal!("write", bpf.fd.write(&packet(5)), Ok(packet(5).len()));
        equal!("captured", captured(&bpf)?, [packet(5).as_slice()]);
    }
    Ok(())
}

/// The packet is seen once: the copy that comes in, or what goes out where there is no memory for
/// one.
fn write_feedback_without_memory(bench: &Bench) -> Verdict {
    let pair = Epair::new(43)?;
    let [writer, incoming, outgoing] = [0, 1, 2].map(|node| bench.open_node(node));
    let (writer, incoming, outgoing) = (writer?, incoming?, outgoing?);
    for (bpf, direction) in [(&incoming, bpf::D_IN), (&outgoing, bpf::D_OUT)] {
        bpf.attach(&pair.a).at("BIOCSETIF")?;
        bpf.set_direction(direction)?;
        bpf.fd.set_nonblocking(true)?;
    }
    writer.attach(&pair.a).at("BIOCSETIF")?;
    writer.set_header_complete()?;
    writer.set_feedback(true).at("BIOCFEEDBACK")?;
    let seen = |number: u32| -> Result<[usize; 2], Trouble> {
        let frame = ethernet(number, 100);
        writer.fd.write(&frame).at("write")?;
        sys::sleep(SETTLE);
        let count = |bpf| Ok::<_, Trouble>(captured(bpf)?.iter().filter(|f| **f == frame).count());
        Ok([count(&incoming)?, count(&outgoing)?])
    };
    equal!("with a copy: seen coming in, going out", seen(1)?, [1, 0]);
    let point = FailPoint::set("debug.fail_point.bpfrs_feedback", "return")?;
    equal!("without memory: seen coming in, going out", seen(2)?, [0, 1]);
    drop(point);
    equal!("afterwards", seen(3)?, [1, 0]);
    Ok(())
}

fn write_locked(bench: &Bench) -> Verdict {
    let _receiver = receiver()?;
    let bpf = listening(bench, 0)?;
    bpf.set_filter(bpf::BIOCSETWF, &udp_to(PORT, 1)).at("BIOCSETWF")?;
    bpf.lock().at("BIOCLOCK")?;
    equal!("BIOCSETWF", bpf.set_filter(bpf::BIOCSETWF, &ACCEPT), refused(libc::EPERM));
    equal!("write of what it accepts", bpf.fd.write(&packet(3)), Ok(packet(3).len()));
    equal!("write of what it rejects", bpf.fd.write(&LINK), refused(libc::EPERM));
    equal!("captured", captured(&bpf)?, [packet(3).as_slice()]);
    Ok(())
}

fn write_only(bench: &Bench) -> Verdict {
    let _receiver = receiver()?;
    // Whoever had the node before has left it.
    bench.open()?.fd.close()?;
    let fd = Fd::open(&bench.path(), libc::O_WRONLY | libc::O_CLOEXEC).at("open O_WRONLY")?;
    let bpf = Bpf { fd };
    bpf.attach("lo0").at("BIOCSETIF")?;
    equal!("write", bpf.fd.write(&packet(4)), Ok(packet(4).len()));
    equal!("read", bpf.read(), refused(libc::EBADF));
    Ok(())
}

/// Writers find their open ended, each time.
fn revoke_writers(bench: &Bench) -> Verdict {
    const WRITERS: usize = 3;
    let _receiver = receiver()?;
    for _ in 0..100 {
        let bpf = bench.attached()?;
        let mut writers = vec![];
        for _ in 0..WRITERS {
            writers.push(Child::start(|| {
                loop {
                    if let Err(Errno(errno)) = bpf.fd.write(&packet(9)) {
                        return errno;
                    }
                }
            })?);
        }
        sys::sleep(Duration::from_millis(2));
        sys::revoke(&bench.path()).at("revoke")?;
        for writer in writers {
            let errno = writer.finish(SOON)?;
            ensure!([libc::ENXIO, libc::EIO].contains(&errno), "write ended with {}", Errno(errno));
        }
    }
    super::life_of_an_open::check_node(bench)
}
