// SPDX-License-Identifier: BSD-2-Clause
//! The life of an open: opening, sharing, closing, revoking, in every order that a user can cause.

use alloc::format;
use alloc::vec;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, Ordering::SeqCst};
use core::time::Duration;

use super::{Bench, Child, Test, Trouble, Verdict, While, ensure, equal, own, refused};
use crate::bpf::{self, ACCEPT, Bpf, POLL_READ, REJECT, SOON, WAITING, records, udp_to};
use crate::driver::eventually;
use crate::loopback::{Sender, payload, silent_receiver};
use crate::sys::{self, Address, Errno, Fd, Node, Pid, Shared};

pub(super) const TESTS: &[Test] = &[
    own("node-owner-and-mode", node_owner_and_mode),
    own("nodes-on-demand", nodes_on_demand),
    own("second-open-is-busy", second_open_is_busy),
    own("nodes-are-independent", nodes_are_independent),
    own("one-close-after-dup-and-fork", one_close_after_dup_and_fork),
    own("one-close-after-scm-rights", one_close_after_scm_rights),
    own("descriptor-lost-in-a-socket", descriptor_lost_in_a_socket),
    own("killed-in-read", killed_in_read),
    own("revoke-read", revoke_read),
    own("revoke-read-with-timeout", revoke_read_with_timeout),
    own("revoke-poll", revoke_poll),
    own("revoke-select", revoke_select),
    own("revoke-many-readers", revoke_many_readers),
    own("revoke-without-an-open", revoke_without_an_open),
    own("revoke-ends-promiscuous-mode", revoke_ends_promiscuous_mode),
    own("reopen-after-revoke", reopen_after_revoke),
    own("stale-descriptor-touches-nothing", stale_descriptor_touches_nothing),
    own("leaving-readers-touch-nothing", leaving_readers_touch_nothing),
    own("revoke-while-closing", revoke_while_closing),
    own("many-revokers", many_revokers),
    own("revoke-during-open", revoke_during_open),
    own("revoke-during-close", revoke_during_close),
    own("late-close-spares-the-new-open", late_close_spares_the_new_open),
    own("descriptors-are-freed", descriptors_are_freed),
    own("closes-add-up", closes_add_up),
];

/// Long enough for what must not happen to have happened: where it is too short on a busy machine, a
/// test sees less, and says nothing wrong.
pub(super) const SETTLE: Duration = Duration::from_millis(150);
const PORT: u16 = 40_021;

/// A child that sleeps in `body` on a descriptor, whose verdict is its exit status; there by now.
pub(super) fn asleep_in(body: impl FnOnce() -> i32) -> Result<Child, Trouble> {
    let child = Child::start(body)?;
    child.sleeps_in(&WAITING)?;
    Ok(child)
}

/// A child that does nothing until it may go, and then ends: whatever it has open is closed then.
struct Holder {
    child: Child,
    go: Shared<AtomicBool>,
}

impl Holder {
    fn new() -> Result<Self, Trouble> {
        let go: Shared<AtomicBool> = Shared::new().at("shared memory")?;
        let child = Child::start(|| {
            while !go.load(SeqCst) {
                sys::sleep(Duration::from_millis(1));
            }
            0
        })?;
        Ok(Self { child, go })
    }

    fn let_go(&self) {
        self.go.store(true, SeqCst);
    }

    fn finish(self) -> Verdict {
        self.let_go();
        equal!("the child", self.child.finish(SOON)?, 0);
        Ok(())
    }
}

/// What a sleeping read(2) ended with, as an exit status: an errno, or 0 for data.
pub(super) fn end_of_read(bpf: &Bpf) -> i32 {
    // The size that every open begins with: on a dead one it can no longer be asked for.
    let mut buffer = vec![0; 4096];
    bpf.fd.read(&mut buffer).err().map_or(0, |errno| errno.0)
}

/// Attached to lo0; no packet passes.
pub(super) fn deaf(bench: &Bench) -> Result<Bpf, Trouble> {
    let bpf = bench.attached()?;
    bpf.set_filter(bpf::BIOCSETF, &REJECT).at("BIOCSETF")?;
    Ok(bpf)
}

fn revoke(bench: &Bench) -> Verdict {
    sys::revoke(&bench.path()).at("revoke")
}

/// Captures packets: the proof that an open is alive.
pub(super) fn check_alive(bpf: &Bpf) -> Verdict {
    let receiver = silent_receiver(Address::V4(PORT)).at("bind")?;
    bpf.set_filter(bpf::BIOCSETF, &udp_to(PORT, u32::MAX)).at("BIOCSETF of a live open")?;
    bpf.set_timeout_ms(100).at("BIOCSRTIMEOUT of a live open")?;
    let sender = Sender::new(Address::V4(PORT)).at("socket")?;
    for number in 0..3 {
        sender.send(&payload(number)).at("sendto")?;
    }
    let records = records(&bpf.read().at("read of a live open")?)?;
    let ours = (0..3).filter(|&number| records.iter().any(|r| r.data.ends_with(&payload(number))));
    equal!("packets of a live open", ours.count(), 3);
    drop(receiver);
    Ok(())
}

/// The node can be opened and works.
pub(super) fn check_node(bench: &Bench) -> Verdict {
    check_alive(&bench.attached()?)
}

fn node_owner_and_mode(bench: &Bench) -> Verdict {
    let path = bench.path();
    let expected = Node { mode: 0o020_600, uid: 0, gid: 0 };
    equal!(path, sys::stat(&path)?, expected);
    Ok(())
}

fn nodes_on_demand(bench: &Bench) -> Verdict {
    for number in [1, 17, 255] {
        drop(bench.open_node(number)?);
    }
    let absent = |path: &str| sys::stat(path).map(drop);
    equal!("node 256", absent(&bench.device.node(256)), refused(libc::ENOENT));
    for suffix in ["", "x", "00", "01", "1x", "-1", "99999999999"] {
        let path = bench.device.pattern.replace("%d", suffix);
        equal!(path, absent(&path), refused(libc::ENOENT));
    }
    Ok(())
}

fn second_open_is_busy(bench: &Bench) -> Verdict {
    let first = bench.attached()?;
    for flags in [libc::O_RDWR, libc::O_RDONLY, libc::O_WRONLY] {
        let second = Fd::open(&bench.path(), flags).map(drop);
        equal!("second open", second, refused(libc::EBUSY));
    }
    check_alive(&first)?;
    drop(first);
    check_node(bench)
}

fn nodes_are_independent(bench: &Bench) -> Verdict {
    let second = bench.open_node(1)?;
    second.attach("lo0")?;
    {
        let _first = bench.attached()?;
        check_alive(&second)?;
        revoke(bench)?;
        check_alive(&second)?;
    }
    check_alive(&second)
}

fn one_close_after_dup_and_fork(bench: &Bench) -> Verdict {
    let before = bench.counters()?;
    let bpf = bench.attached()?;
    let copy = bpf.fd.dup().at("dup")?;
    let child = Holder::new()?;
    drop(bpf);
    drop(copy);
    equal!("live while the child has it", bench.counters()?.live, before.live + 1);
    equal!("second open", Bpf::open(&bench.path()).map(drop), refused(libc::EBUSY));
    child.finish()?;
    ensure!(
        eventually(SOON, || bench.counters().is_ok_and(|c| c.live == before.live)),
        "not closed"
    );
    let after = bench.counters()?;
    equal!("opens", after.opens, before.opens + 1);
    equal!("opens with one close", after.one, before.one + 1);
    Ok(())
}

fn one_close_after_scm_rights(bench: &Bench) -> Verdict {
    let before = bench.counters()?;
    let (left, right) = sys::socket_pair()?;
    let bpf = bench.attached()?;
    left.send_fd(&bpf.fd).at("sendmsg")?;
    drop(bpf);
    equal!("open in flight", Bpf::open(&bench.path()).map(drop), refused(libc::EBUSY));
    let received = Bpf { fd: right.receive_fd().at("recvmsg")? };
    check_alive(&received)?;
    drop(received);
    ensure!(
        eventually(SOON, || bench.counters().is_ok_and(|c| c.live == before.live)),
        "not closed"
    );
    equal!("opens with one close", bench.counters()?.one, before.one + 1);
    Ok(())
}

/// A socket that is in flight within itself can only be freed by the kernel's collector, and with
/// it our descriptor: d_close then comes without a thread. The collector runs when a socket of that
/// family has come to its end, and takes what nobody can reach then: so this one is given up before
/// the other, whose end it is.
fn descriptor_lost_in_a_socket(bench: &Bench) -> Verdict {
    let (left, right) = sys::socket_pair()?;
    let bpf = bench.attached()?;
    left.send_fd(&bpf.fd).at("sendmsg")?;
    left.send_fd(&right).at("sendmsg of the socket")?;
    drop((bpf, right, left));
    let free = || Bpf::open(&bench.path()).is_ok();
    ensure!(eventually(SOON, free), "the node stays busy");
    check_node(bench)
}

fn killed_in_read(bench: &Bench) -> Verdict {
    let path = bench.path();
    let child = asleep_in(|| {
        let Ok(bpf) = Bpf::open(&path) else { return 1 };
        let _ = bpf.attach("lo0");
        let _ = bpf.set_filter(bpf::BIOCSETF, &REJECT);
        end_of_read(&bpf)
    })?;
    equal!("open meanwhile", Bpf::open(&path).map(drop), refused(libc::EBUSY));
    child.kill();
    ensure!(eventually(SOON, || !child.runs()), "SIGKILL does not end the reader");
    check_node(bench)
}

fn revoke_read(bench: &Bench) -> Verdict {
    let bpf = deaf(bench)?;
    let child = asleep_in(|| end_of_read(&bpf))?;
    revoke(bench)?;
    equal!("errno of read", child.finish(SOON)?, libc::ENXIO);
    check_dead(&bpf)
}

fn revoke_read_with_timeout(bench: &Bench) -> Verdict {
    let bpf = deaf(bench)?;
    bpf.set_timeout_ms(30_000)?;
    let child = asleep_in(|| end_of_read(&bpf))?;
    revoke(bench)?;
    equal!("errno of read", child.finish(SOON)?, libc::ENXIO);
    check_dead(&bpf)
}

/// Every call on the descriptor of a revoked open fails, from the driver or from the dead vnode.
fn check_dead(bpf: &Bpf) -> Verdict {
    let mut buffer = vec![0; 4096];
    let read = bpf.fd.read(&mut buffer);
    ensure!(matches!(read, Err(Errno(libc::EIO | libc::ENXIO))), "read of a dead open: {read:?}");
    let ioctls = [
        ("BIOCGBLEN", bpf.buffer_length().map(drop)),
        ("BIOCGSTATS", bpf.statistics().map(drop)),
        ("BIOCFLUSH", bpf.flush()),
        ("BIOCSETIF", bpf.attach("lo0")),
        ("BIOCSETF", bpf.set_filter(bpf::BIOCSETF, &ACCEPT)),
        ("BIOCPROMISC", bpf.promiscuous()),
        ("FIONREAD", bpf.readable().map(drop)),
    ];
    for (name, result) in ioctls {
        ensure!(
            matches!(result, Err(Errno(libc::ENOTTY | libc::ENXIO | libc::EIO))),
            "{name} of a dead open: {result:?}"
        );
    }
    let events = bpf.fd.poll(POLL_READ, Some(SOON))?;
    equal!("poll of a dead open", events, POLL_READ | libc::POLLHUP);
    equal!("select of a dead open", bpf.fd.select(Some(SOON))?, true);
    Ok(())
}

fn revoke_poll(bench: &Bench) -> Verdict {
    for (asked, expected) in [
        (POLL_READ, POLL_READ | libc::POLLHUP),
        (libc::POLLIN, libc::POLLIN | libc::POLLHUP),
        (libc::POLLRDNORM, libc::POLLRDNORM | libc::POLLHUP),
    ] {
        let bpf = deaf(bench)?;
        let child = asleep_in(|| match bpf.fd.poll(asked, None) {
            Ok(events) if events == expected => 0,
            Ok(events) => 100 + i32::from(events) % 100,
            Err(errno) => errno.0,
        })?;
        revoke(bench)?;
        equal!(format!("poll for {asked:#x}"), child.finish(SOON)?, 0);
        check_dead(&bpf)?;
    }
    Ok(())
}

fn revoke_select(bench: &Bench) -> Verdict {
    let bpf = deaf(bench)?;
    let child = asleep_in(|| match bpf.fd.select(None) {
        Ok(true) => end_of_read(&bpf),
        Ok(false) => 200,
        Err(errno) => 100 + errno.0,
    })?;
    revoke(bench)?;
    let errno = child.finish(SOON)?;
    ensure!(
        matches!(errno, libc::EIO | libc::ENXIO),
        "read after select: {errno} (200: not readable)"
    );
    check_dead(&bpf)
}

fn revoke_many_readers(bench: &Bench) -> Verdict {
    let bpf = deaf(bench)?;
    let mut children = Vec::new();
    for number in 0..9 {
        let body = || match number % 3 {
            0 => end_of_read(&bpf),
            1 => match bpf.fd.poll(POLL_READ, None) {
                Ok(events) if events & libc::POLLHUP != 0 => libc::ENXIO,
                other => 100 + other.map_or(1, |_| 2),
            },
            _ => bpf.fd.select(None).map_or(1, |_| libc::ENXIO),
        };
        children.push(asleep_in(body)?);
    }
    revoke(bench)?;
    for child in children {
        equal!("end of a reader", child.finish(SOON)?, libc::ENXIO);
    }
    check_dead(&bpf)
}

fn revoke_without_an_open(bench: &Bench) -> Verdict {
    for _ in 0..10 {
        let _ = sys::stat(&bench.path())?;
        revoke(bench)?;
    }
    check_node(bench)
}

fn revoke_ends_promiscuous_mode(bench: &Bench) -> Verdict {
    let promiscuous = || bpf::is_promiscuous("lo0");
    let stale = deaf(bench)?;
    stale.promiscuous().at("BIOCPROMISC")?;
    equal!("promiscuous", promiscuous()?, true);
    revoke(bench)?;
    ensure!(eventually(SOON, || promiscuous() == Ok(false)), "lo0 still promiscuous");
    // The dead descriptor, closed later, takes nothing from the next open.
    let next = bench.attached()?;
    next.promiscuous().at("BIOCPROMISC")?;
    drop(stale);
    sys::sleep(SETTLE);
    equal!("promiscuous after the stale close", promiscuous()?, true);
    drop(next);
    ensure!(eventually(SOON, || promiscuous() == Ok(false)), "lo0 promiscuous at the end");
    Ok(())
}

fn reopen_after_revoke(bench: &Bench) -> Verdict {
    let mut stale = Vec::new();
    for _ in 0..20 {
        let bpf = bench.attached()?;
        check_alive(&bpf)?;
        revoke(bench)?;
        stale.push(bpf);
    }
    let last = bench.attached()?;
    for bpf in stale {
        check_dead(&bpf)?;
        bpf.fd.close().at("close of a dead open")?;
    }
    check_alive(&last)
}

fn stale_descriptor_touches_nothing(bench: &Bench) -> Verdict {
    let stale = bench.attached()?;
    revoke(bench)?;
    let receiver = silent_receiver(Address::V4(PORT)).at("bind")?;
    let sender = Sender::new(Address::V4(PORT)).at("socket")?;
    let new = bench.open()?;
    new.set_buffer_length(8192)?;
    new.attach("lo0")?;
    new.set_filter(bpf::BIOCSETF, &udp_to(PORT, u32::MAX))?;
    new.set_timeout_ms(100)?;
    for number in 0..3 {
        sender.send(&payload(number)).at("sendto")?;
    }
    let state = || -> sys::Result<_> {
        Ok((
            new.readable()?,
            new.statistics()?,
            new.buffer_length()?,
            new.interface()?,
            new.timeout()?,
        ))
    };
    let before = state().at("state of the new open")?;
    ensure!(before.0 > 0, "nothing captured");
    check_dead(&stale)?;
    let mut buffer = vec![0; 8192];
    ensure!(stale.fd.read(&mut buffer).is_err(), "stale read of the new open's size");
    ensure!(stale.set_buffer_length(512).is_err(), "stale BIOCSBLEN");
    ensure!(stale.set_filter(bpf::BIOCSETFNR, &REJECT).is_err(), "stale BIOCSETFNR");
    ensure!(stale.set_immediate(true).is_err(), "stale BIOCIMMEDIATE");
    ensure!(stale.set_timeout_ms(5).is_err(), "stale BIOCSRTIMEOUT");
    ensure!(stale.lock().is_err(), "stale BIOCLOCK");
    equal!("state of the new open", state().at("state of the new open")?, before);
    stale.fd.close().at("stale close")?;
    equal!("state after the stale close", state().at("state of the new open")?, before);
    sender.send(&payload(3)).at("sendto")?;
    let records = records(&new.read()?)?;
    equal!("records of the new open", records.len(), 4);
    for (number, record) in records.iter().enumerate() {
        equal!("payload", record.data.get(32..), Some(payload(number).as_slice()));
    }
    drop(receiver);
    Ok(())
}

fn leaving_readers_touch_nothing(bench: &Bench) -> Verdict {
    for round in 0..30 {
        let stale = deaf(bench)?;
        let mut children = Vec::new();
        for _ in 0..4 {
            children.push(Child::start(|| end_of_read(&stale))?);
        }
        sys::sleep(Duration::from_millis(20));
        revoke(bench)?;
        // At once, while they are on their way out.
        check_node(bench)?;
        for child in children {
            let end = child.finish(SOON)?;
            // One that had not yet reached its read(2) meets the dead vnode instead.
            ensure!(matches!(end, libc::ENXIO | libc::EIO), "round {round}: a reader got {end}");
        }
    }
    Ok(())
}

fn revoke_while_closing(bench: &Bench) -> Verdict {
    let path = bench.path();
    for round in 0..200_u64 {
        let revoker = Child::start(|| {
            // A different offset each time, around the moment of the close.
            sys::sleep(Duration::from_micros(round * 10));
            i32::from(sys::revoke(&path).is_err())
        })?;
        drop(bench.open()?);
        equal!("revoke", revoker.finish(SOON)?, 0);
    }
    check_node(bench)
}

fn many_revokers(bench: &Bench) -> Verdict {
    let path = bench.path();
    let mut revokers = Vec::new();
    for _ in 0..4 {
        // Until they are killed: however few turns this process gets beside them, they do not run out.
        revokers.push(Child::start(|| {
            loop {
                let _ = sys::revoke(&path);
                sys::yield_now();
            }
        })?);
    }
    let mut opens = 0;
    let opened = eventually(2 * SOON, || {
        if let Ok(bpf) = Bpf::open(&path) {
            opens += 1;
            let _ = bpf.attach("lo0");
            let _ = bpf.statistics();
        }
        opens == 100
    });
    drop(revokers);
    ensure!(opened, "{opens} of 100 opens succeeded meanwhile");
    check_node(bench)
}

/// A fail point (fail(9)) of the driver, off again when dropped.
pub(super) struct FailPoint(&'static str);

impl FailPoint {
    pub(super) fn set(name: &'static str, action: &str) -> Result<Self, Trouble> {
        let point = Self(name);
        sys::set_sysctl(name, format!("{action}\0").as_bytes()).at(name)?;
        Ok(point)
    }

    /// Holds a process that passes it, until this is dropped.
    fn hold(name: &'static str, process: Pid) -> Result<Self, Trouble> {
        Self::set(name, &format!("pause(0)[pid {}]", process.number()))
    }
}

impl Drop for FailPoint {
    fn drop(&mut self) {
        let _ = sys::set_sysctl(self.0, b"off\0");
    }
}

const HOLD_OPEN: &str = "debug.fail_point.bpfrs_open";
const HOLD_CLOSE: &str = "debug.fail_point.bpfrs_close";

/// Where the kernel says that a process sleeps that a fail point holds.
const HELD: [&str; 1] = ["failpt"];

/// An open that the driver has not published.
struct HeldOpen {
    child: Child,
    point: FailPoint,
}

impl HeldOpen {
    fn of(bench: &Bench) -> Result<Self, Trouble> {
        let path = bench.path();
        let go: Shared<AtomicBool> = Shared::new().at("shared memory")?;
        let child = Child::start(|| {
            while !go.load(SeqCst) {
                sys::sleep(Duration::from_millis(1));
            }
            match Bpf::open(&path) {
                // Whether it works at all.
                Ok(bpf) => bpf.version().map_or(201, |_| 200),
                Err(errno) => errno.0,
            }
        })?;
        let point = FailPoint::hold(HOLD_OPEN, child.pid())?;
        go.store(true, SeqCst);
        child.sleeps_in(&HELD)?;
        Ok(Self { child, point })
    }

    /// Lets it go on. A revocation has overtaken it.
    fn finish(self) -> Verdict {
        self.child.sleeps_in(&HELD)?;
        drop(self.point);
        let end = self.child.finish(SOON)?;
        equal!("errno of the open (200: open and alive, 201: open and dead)", end, libc::EBUSY);
        Ok(())
    }
}

/// FREVOKE comes while the driver is in d_open, and no other close will ever come: the open must
/// not succeed, and the node must not stay busy.
fn revoke_during_open(bench: &Bench) -> Verdict {
    let before = bench.counters()?;
    let open = HeldOpen::of(bench)?;
    revoke(bench)?;
    equal!("FREVOKE during d_open", bench.counters()?.revokes, before.revokes + 1);
    open.finish()?;
    equal!("live", bench.counters()?.live, before.live);
    check_node(bench)
}

/// A close that the driver has not finished.
struct HeldClose {
    holder: Holder,
    point: FailPoint,
}

impl HeldClose {
    fn of(bpf: Bpf) -> Result<Self, Trouble> {
        let holder = Holder::new()?;
        // The last reference is the child's: it closes at its end.
        drop(bpf);
        let point = FailPoint::hold(HOLD_CLOSE, holder.child.pid())?;
        holder.let_go();
        holder.child.sleeps_in(&HELD)?;
        Ok(Self { holder, point })
    }

    /// That it is still there.
    fn check(&self) -> Verdict {
        self.holder.child.sleeps_in(&HELD)
    }

    fn finish(self) -> Verdict {
        drop(self.point);
        self.holder.finish()
    }
}

/// FREVOKE comes while a normal close is still in the driver: two closes for one open, and then
/// `rest`. Some kernels (15) do not count an open any more when its last close reaches the driver, and
/// revoke(2) would find nobody: so another open is on its way meanwhile.
fn two_closes(bench: &Bench, rest: fn(&Bench, HeldClose) -> Verdict) -> Verdict {
    let before = bench.counters()?;
    let open = HeldOpen::of(bench)?;
    let close = HeldClose::of(bench.attached()?)?;
    revoke(bench)?;
    close.check()?;
    ensure!(bench.counters()?.revokes > before.revokes, "no FREVOKE came during the close");
    rest(bench, close)?;
    open.finish()?;
    check_node(bench)?;
    let closed = || bench.counters().is_ok_and(|c| c.live == before.live);
    ensure!(eventually(SOON, closed), "an open is left");
    Ok(())
}

fn revoke_during_close(bench: &Bench) -> Verdict {
    two_closes(bench, |_, held| held.finish())
}

/// … and a new open takes the node before that first close has come to its end.
fn late_close_spares_the_new_open(bench: &Bench) -> Verdict {
    two_closes(bench, |bench, held| {
        let new = bench.attached()?;
        check_alive(&new)?;
        held.check()?;
        held.finish()?;
        check_alive(&new)
    })
}

fn descriptors_are_freed(bench: &Bench) -> Verdict {
    let settled =
        |wanted: u64| eventually(SOON, || bench.counters().is_ok_and(|c| c.descriptors == wanted));
    ensure!(settled(0), "{} descriptors before", bench.counters()?.descriptors);
    let mut stale = Vec::new();
    for number in 0..20 {
        let bpf = bench.open_node(number)?;
        bpf.set_buffer_length(0x8_0000)?;
        bpf.attach("lo0")?;
        stale.push(bpf);
    }
    equal!("descriptors", bench.counters()?.descriptors, 20);
    for number in 0..20 {
        sys::revoke(&bench.device.node(number)).at("revoke")?;
    }
    equal!("live after revoke", bench.counters()?.live, 0);
    drop(stale);
    ensure!(settled(0), "{} descriptors left", bench.counters()?.descriptors);
    Ok(())
}

/// Every successful open is in the histogram of closes once it is over.
fn closes_add_up(bench: &Bench) -> Verdict {
    let sum = || {
        let c = bench.counters().ok()?;
        Some((c.zero + c.one + c.two + c.more, c.opens, c.live))
    };
    for _ in 0..5 {
        drop(bench.open()?);
    }
    let added_up = || sum().is_some_and(|(finished, opens, live)| live == 0 && finished == opens);
    ensure!(eventually(SOON, added_up), "finished, opens, live: {:?}", sum());
    Ok(())
}
