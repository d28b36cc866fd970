// SPDX-License-Identifier: BSD-2-Clause
//! Interfaces come and go while four processes attach to them by name and read, and a fifth revokes
//! the nodes.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering::SeqCst};
use core::time::Duration;

use bpfrs_vm_protocol::Message;
use bpfrs_vm_protocol::frame::{BROADCASTS, ethernet, tagged};
use bpfrs_vm_protocol::net::Life;
use bpfrs_vm_protocol::tally::{Errors, count};
use zerocopy::FromZeros;

use super::{Subject, counted, jails, writer};
use crate::arguments::Arguments;
use crate::bpf::{self, Bpf, REJECT, SOON, records};
use crate::driver::{self, eventually};
use crate::ifnet::{self, Cloned, Epair};
use crate::report;
use crate::sys::{self, Errno, Fd};
use crate::tests::{Child, Trouble, Verdict, While, ensure, equal};

const READERS: usize = 4;
const VLAN: u16 = 5;
/// Between two revocations; a sleep takes at least a tick of the clock, mostly 10 ms.
const PAUSE: Duration = Duration::from_millis(5);
/// Somebody has attached to a new interface by then.
const ATTACH: Duration = Duration::from_millis(200);

/// `net-life [CASE …]`
pub(crate) fn run(arguments: &Arguments) -> i32 {
    let subject = Subject::new(arguments);
    let (cycles, moves) =
        match (arguments.number("--cycles", 1000), arguments.number("--moves", 200)) {
            (Ok(cycles), Ok(moves)) => (cycles, moves),
            (Err(problem), _) | (_, Err(problem)) => {
                report::human(&format!("bpfrs-guest net-life: {problem}"));
                return 2;
            }
        };
    let spoil = arguments.get("--spoil") == Some("stop");
    super::command("net-life", |reporter| {
        let is_asked = |case: &str| arguments.rest.is_empty() || arguments.rest.contains(&case);
        let mut good = true;
        if is_asked("gone-ends-read") {
            good &= reporter.case("gone-ends-read", || gone_ends_read(subject));
        }
        if is_asked("renamed-goes-on") {
            good &= reporter.case("renamed-goes-on", || renamed_goes_on(subject));
        }
        for (what, interfaces, make) in STORMS {
            let name = format!("{what}-comes-and-goes");
            if is_asked(&name) {
                let mut life = Life { what: what.to_string(), ..Life::default() };
                good &= counted(reporter, &name, &mut life, Message::Life, |life| {
                    storm(subject, (interfaces, make), cycles, spoil, life)
                });
            }
        }
        good & jails::run(reporter, subject, moves, is_asked)
    })
}

/// Nobody revokes: the error tells what happened.
fn gone_ends_read(subject: Subject) -> Verdict {
    let pair = Epair::new(20)?;
    let bpf = subject.open()?;
    bpf.attach(&pair.a).at("BIOCSETIF")?;
    bpf.set_filter(bpf::BIOCSETF, &REJECT)?;
    let child = Child::start(|| bpf.read().err().map_or(0, |errno| errno.0))?;
    child.sleeps_in(&bpf::WAITING)?;
    pair.into_cloned().destroy().at("destroying the pair")?;
    equal!("errno of read", child.finish(SOON)?, libc::ENXIO);
    equal!("read after it", bpf.read(), Err(Errno(libc::ENXIO)));
    Ok(())
}

/// A new name is announced as a departure, and is none.
fn renamed_goes_on(subject: Subject) -> Verdict {
    const NAME: &str = "renamed21";
    let pair = Epair::new(21)?;
    let bpf = subject.open()?;
    bpf.attach(&pair.a).at("BIOCSETIF")?;
    bpf.fd.set_nonblocking(true)?;
    let port = writer(&pair.b)?;
    ifnet::run(&format!("ifconfig {} name {NAME}", pair.a))?;
    let name = bpf.interface();
    let by_old = subject.open()?.attach(&pair.a);
    let by_new = subject.open()?.attach(NAME);
    let written = port.fd.write(&ethernet(BROADCASTS, 100));
    let heard = eventually(SOON, || bpf.read().is_ok_and(|bytes| !bytes.is_empty()));
    // The pair goes by its own name.
    ifnet::run(&format!("ifconfig {NAME} name {}", pair.a))?;
    equal!("BIOCGETIF", name.as_deref(), Ok(NAME));
    equal!("BIOCSETIF of the old name", by_old, Err(Errno(libc::ENXIO)));
    equal!("BIOCSETIF of the new name", by_new, Ok(()));
    equal!("write", written, Ok(100));
    ensure!(heard, "the capture ended");
    Ok(())
}

/// Makes the interfaces of that cycle.
type Make = fn(u64) -> Result<Scene, Trouble>;

/// Names of the storm and of the interfaces that readers try, and how these are made.
const STORMS: [(&str, [&str; 2], Make); 2] =
    [("epair", ["epair20a", "epair20b"], epair), ("tap-and-vlan", ["tap20", "vlan20"], vlan)];

/// Interfaces of one cycle.
struct Scene {
    /// In the order in which they go.
    interfaces: Vec<Cloned>,
    /// Where frames for them are written to.
    port: Fd,
}

fn epair(_cycle: u64) -> Result<Scene, Trouble> {
    let pair = Epair::new(20)?;
    let port = writer(&pair.b)?.fd;
    Ok(Scene { interfaces: vec![pair.into_cloned()], port })
}

fn vlan(cycle: u64) -> Result<Scene, Trouble> {
    let tap = Cloned::new("tap20").at("tap20")?;
    let port = Fd::open("/dev/tap20", libc::O_RDWR | libc::O_CLOEXEC).at("/dev/tap20")?;
    ifnet::up("tap20").at("tap20")?;
    let vlan = Cloned::new("vlan20").at("vlan20")?;
    ifnet::run(&format!("ifconfig vlan20 vlan {VLAN} vlandev tap20 up"))?;
    let interfaces = if cycle.is_multiple_of(2) { vec![vlan, tap] } else { vec![tap, vlan] };
    Ok(Scene { interfaces, port })
}

/// What all processes see.
#[derive(FromZeros)]
#[repr(C)]
struct Storm {
    /// 1 while that reader is in read(2), or about to be.
    blocked: [AtomicU32; READERS],
    attached: AtomicU64,
    packets: AtomicU64,
    malformed: AtomicU64,
    revokes: AtomicU64,
    /// Of read(2); of calls before it only what is not the end of a node or an interface.
    ends: Errors,
}

impl Storm {
    fn blocked(&self) -> u64 {
        self.blocked.iter().filter(|flag| flag.load(SeqCst) != 0).count() as u64
    }
}

fn storm(
    subject: Subject,
    (names, make): ([&'static str; 2], Make),
    cycles: u64,
    spoil: bool,
    life: &mut Life,
) -> Verdict {
    let shared: &'static Storm = sys::shared()?;
    let hire = |slot: usize| Child::start(|| reader(subject, shared, slot, names[slot % 2]));
    let mut readers = (0..READERS).map(hire).collect::<Result<Vec<Child>, Trouble>>()?;
    // Stock has one node for all, the one that frames are written to, too.
    let revoker =
        if subject.stock { None } else { Some(Child::start(|| revoker(subject, shared))?) };
    let before = driver::malloc_types().at("kern.malloc_stats")?;
    for cycle in 0..cycles {
        let Scene { interfaces, port } = make(cycle)?;
        eventually(ATTACH, || shared.blocked() > 0);
        for number in BROADCASTS..BROADCASTS + 4 {
            let frame = ethernet(number, 100);
            port.write(&frame).at("write")?;
            port.write(&tagged(&frame, VLAN)).at("write")?;
        }
        drop(port);
        life.blocked += shared.blocked();
        if spoil {
            readers.iter().for_each(|reader| reader.signal(libc::SIGSTOP));
        }
        for interface in interfaces {
            let name = interface.name().to_string();
            interface.destroy().at(&format!("cycle {cycle}: destroying {name}"))?;
        }
        eventually(SOON, || shared.blocked() == 0);
        for (slot, flag) in shared.blocked.iter().enumerate() {
            if flag.swap(0, SeqCst) != 0 {
                life.asleep += 1;
                if let Some(place) = readers.get_mut(slot) {
                    // The old one is killed.
                    *place = hire(slot)?;
                }
            }
        }
        life.cycles += 1;
    }
    ensure!(readers.iter().all(Child::runs), "a reader has ended by itself");
    drop((readers, revoker));
    life.attached = shared.attached.load(SeqCst);
    life.packets = shared.packets.load(SeqCst);
    life.revokes = shared.revokes.load(SeqCst);
    life.ends = shared.ends.by_name(|errno| Errno(errno).name());
    judge(shared, life)?;
    left_behind(subject)?;
    let grown = driver::grown(&before, cycles / 10).at("kern.malloc_stats")?;
    ensure!(grown.is_empty(), "allocations grew in {cycles} cycles:{grown}");
    Ok(())
}

fn judge(shared: &Storm, life: &Life) -> Verdict {
    equal!("blocked readers still asleep", life.asleep, 0);
    equal!("malformed reads", shared.malformed.load(SeqCst), 0);
    // ENOTTY: the node was revoked before read(2), which asks for the buffer's length first.
    let deaths = ["ENXIO", "EIO", "EBADF", "ENOTTY"];
    let strange: Vec<&String> =
        life.ends.keys().filter(|name| !deaths.contains(&name.as_str())).collect();
    ensure!(strange.is_empty(), "readers ended with {strange:?}");
    // Or nothing was tried.
    for (what, number) in [("blocked readers", life.blocked), ("packets read", life.packets)] {
        ensure!(number >= life.cycles / 2, "{what}: only {number} in {} cycles", life.cycles);
    }
    Ok(())
}

/// With everybody gone the driver has nothing left.
pub(super) fn left_behind(subject: Subject) -> Verdict {
    if subject.stock {
        return Ok(());
    }
    let mut left = None;
    eventually(SOON, || {
        left = driver::counters("net.bpfrs").ok().map(|c| (c.live, c.descriptors));
        left == Some((0, 0))
    });
    equal!("live opens and descriptors", left, Some((0, 0)));
    Ok(())
}

/// Revokes one node after the other, for ever.
fn revoker(subject: Subject, shared: &Storm) -> i32 {
    for number in (0..READERS).cycle() {
        match sys::revoke(&subject.device.node(number)) {
            Ok(()) => count(&shared.revokes),
            // Nobody has asked for that node yet.
            Err(Errno(libc::ENOENT)) => {}
            Err(errno) => shared.ends.add(errno.0),
        }
        sys::sleep(PAUSE);
    }
    0
}

/// Opens, attaches to an interface that may be there, and reads until the end; for ever.
fn reader(subject: Subject, shared: &Storm, slot: usize, interface: &str) -> i32 {
    let Some(blocked) = shared.blocked.get(slot) else { return 1 };
    loop {
        let end = session(subject, shared, slot, interface, blocked);
        blocked.store(0, SeqCst);
        if let Err(errno) = end
            && !bpf::is_death(errno)
            && errno.0 != libc::EBUSY
        {
            shared.ends.add(errno.0);
        }
        sys::yield_now();
    }
}

fn session(
    subject: Subject,
    shared: &Storm,
    slot: usize,
    interface: &str,
    blocked: &AtomicU32,
) -> sys::Result<()> {
    let bpf = Bpf::open(&subject.device.node(slot))?;
    bpf.set_buffer_length(4096)?;
    while let Err(errno) = bpf.attach(interface) {
        if errno.0 != libc::ENXIO {
            return Err(errno);
        }
        // Not there at the moment; or this open is dead, and the next call says so.
        bpf.buffer_length()?;
        sys::sleep(PAUSE);
    }
    count(&shared.attached);
    // Every second one hears the frames, the others sleep until the end.
    if slot / 2 == 0 {
        bpf.set_immediate(true)?;
    } else {
        bpf.set_filter(bpf::BIOCSETF, &REJECT)?;
    }
    blocked.store(1, SeqCst);
    loop {
        match bpf.read() {
            Ok(bytes) => match records(&bytes) {
                Ok(records) => {
                    shared.packets.fetch_add(records.len() as u64, SeqCst);
                }
                Err(_) => count(&shared.malformed),
            },
            Err(errno) => {
                blocked.store(0, SeqCst);
                shared.ends.add(errno.0);
                return Ok(());
            }
        }
    }
}
