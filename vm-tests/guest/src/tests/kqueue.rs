// SPDX-License-Identifier: BSD-2-Clause
//! kqueue(2): packets as events, and the end of an open as the last one.

use alloc::vec::Vec;
use core::time::Duration;

use libc::{EV_ADD, EV_DELETE, EV_EOF, EVFILT_READ, EVFILT_WRITE};

use super::life_of_an_open::{asleep_in, deaf};
use super::{Bench, Child, Test, Trouble, Verdict, While, common, ensure, equal, own, refused};
use crate::bpf::{self, ACCEPT, Bpf, SOON};
use crate::driver::eventually;
use crate::loopback::{Sender, payload, silent_receiver};
use crate::sys::{self, Address, Fd, Kevent};

pub(super) const TESTS: &[Test] = &[
    common("kqueue-read", kqueue_read),
    common("kqueue-read-timeout", kqueue_read_timeout),
    common("kqueue-without-an-interface", kqueue_without_an_interface),
    common("kqueue-close", kqueue_close),
    own("kqueue-write", kqueue_write),
    own("revoke-kqueue", revoke_kqueue),
    own("revoke-kqueue-many", revoke_kqueue_many),
    own("kqueue-under-revoke", kqueue_under_revoke),
];

const PORT: u16 = 40_031;
const NOW: Option<Duration> = Some(Duration::ZERO);
const NOTHING: [i64; 0] = [];
/// struct bpf_hdr, the header of DLT_NULL, IPv4 and UDP: what a record has before the payload.
const HEADERS: i64 = 28 + 4 + 20 + 8;

/// Sends packets that nobody answers.
fn sender() -> Result<Sender, Trouble> {
    silent_receiver(Address::V4(PORT)).at("bind")?.leak();
    Sender::new(Address::V4(PORT)).at("socket")
}

fn watch(fd: &Fd, filter: i16) -> Result<Fd, Trouble> {
    let queue = Fd::kqueue().at("kqueue")?;
    queue.register(fd, filter, EV_ADD).at("kevent")?;
    Ok(queue)
}

/// Whether these are the one event that says that the open ended.
pub(crate) fn is_end(events: &[Kevent]) -> bool {
    matches!(events, [event] if event.flags & EV_EOF != 0)
}

fn listening(bench: &Bench) -> Result<Bpf, Trouble> {
    bench.listening(PORT)
}

fn data(queue: &Fd, timeout: Option<Duration>) -> Result<Vec<i64>, Trouble> {
    let events = queue.events(timeout).at("kevent")?;
    for event in &events {
        ensure!(event.flags & EV_EOF == 0, "EV_EOF of a live open");
    }
    Ok(events.iter().map(|event| event.data).collect())
}

fn kqueue_read(bench: &Bench) -> Verdict {
    let bpf = listening(bench)?;
    bpf.set_immediate(true)?;
    let sender = sender()?;
    let (one, two) = (watch(&bpf.fd, EVFILT_READ)?, watch(&bpf.fd, EVFILT_READ)?);
    equal!("without a packet", data(&one, NOW)?, NOTHING);
    let child = Child::start(|| {
        sys::sleep(Duration::from_millis(100));
        i32::from(sender.send(&payload(0)).is_err())
    })?;
    let length = HEADERS + 8;
    equal!("a packet", data(&one, Some(SOON))?, [length]);
    equal!("the sender", child.finish(SOON)?, 0);
    equal!("the other kqueue", data(&two, NOW)?, [length]);
    equal!("FIONREAD", i64::from(bpf.readable()?), length);
    bpf.read()?;
    equal!("when read", data(&one, NOW)?, NOTHING);
    // Not immediate: what lies in the store buffer is not yet there for a reader.
    bpf.set_immediate(false)?;
    sender.send(&payload(1)).at("sendto")?;
    equal!("with a half-full buffer", data(&one, NOW)?, NOTHING);
    Ok(())
}

fn kqueue_read_timeout(bench: &Bench) -> Verdict {
    let bpf = listening(bench)?;
    bpf.set_timeout_ms(200)?;
    sender()?.send(&payload(0)).at("sendto")?;
    let begin = sys::now();
    let queue = watch(&bpf.fd, EVFILT_READ)?;
    equal!("a packet", data(&queue, Some(SOON))?, [HEADERS + 8]);
    let waited = sys::now() - begin;
    ensure!(
        waited >= Duration::from_millis(100),
        "reported after {waited:?}, with a timeout of 200 ms"
    );
    Ok(())
}

fn kqueue_without_an_interface(bench: &Bench) -> Verdict {
    let bpf = bench.open()?;
    let queue = watch(&bpf.fd, EVFILT_READ)?;
    equal!("events", data(&queue, Some(Duration::from_millis(50)))?, NOTHING);
    let other = queue.register(&bpf.fd, libc::EVFILT_VNODE, EV_ADD);
    equal!("EVFILT_VNODE", other, refused(libc::EPERM));
    Ok(())
}

/// A knote is about a descriptor and goes with it; a copy has its own.
fn kqueue_close(bench: &Bench) -> Verdict {
    let bpf = listening(bench)?;
    bpf.set_immediate(true)?;
    let copy = bpf.fd.dup().at("dup")?;
    let queue = watch(&bpf.fd, EVFILT_READ)?;
    queue.register(&copy, EVFILT_READ, EV_ADD).at("kevent of the copy")?;
    sender()?.send(&payload(0)).at("sendto")?;
    equal!("events", data(&queue, NOW)?.len(), 2);
    drop(bpf);
    equal!("events of the copy", data(&queue, NOW)?.len(), 1);
    drop(copy);
    equal!("events after the close", data(&queue, Some(Duration::from_millis(50)))?, NOTHING);
    drop(bench.open()?);
    Ok(())
}

fn kqueue_write(bench: &Bench) -> Verdict {
    let bpf = bench.open()?;
    let queue = watch(&bpf.fd, EVFILT_WRITE)?;
    equal!("without an interface", data(&queue, NOW)?, NOTHING);
    bpf.attach("lo0")?;
    queue.register(&bpf.fd, EVFILT_WRITE, EV_ADD)?;
    let events = data(&queue, NOW)?;
    ensure!(matches!(events[..], [1280..=65_535]), "events: {events:?}, expected the MTU");
    queue.register(&bpf.fd, EVFILT_WRITE, EV_DELETE)?;
    equal!("after EV_DELETE", data(&queue, NOW)?, NOTHING);
    Ok(())
}

/// The end of the open is an event, for who waits and for who comes later, until the close.
fn revoke_kqueue(bench: &Bench) -> Verdict {
    let bpf = deaf(bench)?;
    let ours = watch(&bpf.fd, EVFILT_READ)?;
    // A kqueue is not inherited.
    let child = asleep_in(|| {
        let Ok(queue) = watch(&bpf.fd, EVFILT_READ) else { return 1 };
        match queue.events(None) {
            Ok(events) if is_end(&events) => 0,
            _ => 2,
        }
    })?;
    sys::revoke(&bench.path()).at("revoke")?;
    equal!("who slept in kevent (1: came too late, 2: no EV_EOF)", child.finish(SOON)?, 0);
    for _ in 0..2 {
        ensure!(is_end(&ours.events(NOW)?), "no EV_EOF: {:?}", ours.events(NOW));
    }
    // Of the old knote the filter is asked again; a new one comes too late.
    equal!("the same again", ours.register(&bpf.fd, EVFILT_READ, EV_ADD), Ok(()));
    equal!("a new one", ours.register(&bpf.fd, EVFILT_WRITE, EV_ADD), refused(libc::ENXIO));
    // The next open of the node is another.
    let next = bench.attached()?;
    next.set_filter(bpf::BIOCSETF, &ACCEPT)?;
    ensure!(is_end(&ours.events(NOW)?), "no EV_EOF: {:?}", ours.events(NOW));
    drop(bpf);
    equal!("events after the close", ours.events(NOW)?.len(), 0);
    Ok(())
}

/// Many kqueues, in many processes.
fn revoke_kqueue_many(bench: &Bench) -> Verdict {
    let bpf = deaf(bench)?;
    let mut children = Vec::new();
    for _ in 0..6 {
        children.push(asleep_in(|| {
            let queues: Vec<_> = (0..4).map_while(|_| watch(&bpf.fd, EVFILT_READ).ok()).collect();
            if queues.len() != 4 {
                return 100;
            }
            let end = |queue: &&Fd| queue.events(None).is_ok_and(|events| is_end(&events));
            4 - i32::try_from(queues.iter().filter(end).count()).unwrap_or(0)
        })?);
    }
    sys::revoke(&bench.path()).at("revoke")?;
    for child in children {
        equal!("kqueues without EV_EOF", child.finish(SOON)?, 0);
    }
    Ok(())
}

/// Some hundred knotes come and go, one by one, with their kqueue or with their descriptor, while
/// the node is revoked, and nothing of them is left.
fn kqueue_under_revoke(bench: &Bench) -> Verdict {
    let path = bench.path();
    let revoker = Child::start(|| {
        loop {
            sys::sleep(Duration::from_millis(10));
            if sys::revoke(&path).is_err() {
                return 1;
            }
        }
    })?;
    let (mut knotes, mut ends) = (0, 0);
    let until = sys::now() + 15 * SOON;
    while (knotes < 400 || ends < 30) && sys::now() < until {
        let Ok(bpf) = Bpf::open(&path) else { continue };
        let _ = bpf.attach("lo0");
        let queue = Fd::kqueue()?;
        for round in 0..8 {
            let filter = if round % 2 == 0 { EVFILT_READ } else { EVFILT_WRITE };
            if queue.register(&bpf.fd, filter, EV_ADD).is_ok() {
                knotes += 1;
            }
            if round % 4 == 3 {
                let _ = queue.register(&bpf.fd, filter, EV_DELETE);
            }
        }
        // EVFILT_WRITE is an event at once: look until one says that this was the end.
        let ended = || queue.events(NOW).is_ok_and(|e| e.iter().any(|e| e.flags & EV_EOF != 0));
        if eventually(Duration::from_millis(200), ended) {
            ends += 1;
        }
        // Now one first, now the other.
        if knotes % 2 == 0 { drop((bpf, queue)) } else { drop((queue, bpf)) }
    }
    ensure!(revoker.runs(), "the revoker stopped");
    revoker.kill();
    ensure!(knotes >= 400 && ends >= 30, "{knotes} knotes, {ends} saw the end");
    let settled = || bench.counters().is_ok_and(|counters| counters.descriptors == 0);
    ensure!(eventually(SOON, settled), "{} descriptors left", bench.counters()?.descriptors);
    drop(bench.open()?);
    Ok(())
}
