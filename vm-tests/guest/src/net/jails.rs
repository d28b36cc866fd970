// SPDX-License-Identifier: BSD-2-Clause
//! Interfaces that move between vnets, and nodes in a jail's own devfs.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering::SeqCst};
use core::time::Duration;

use bpfrs_vm_protocol::Message;
use bpfrs_vm_protocol::frame::{ethernet, number_of};
use bpfrs_vm_protocol::net::Life;
use zerocopy::FromZeros;

use super::life::left_behind;
use super::{Subject, counted, writer};
use crate::bpf::{self, Bpf, REJECT, SOON, records};
use crate::driver::eventually;
use crate::ifnet::{self, Epair, Jail};
use crate::report::Reporter;
use crate::sys::{self, Errno, Fd};
use crate::tests::{Child, Trouble, Verdict, While, ensure, equal, refused};

/// Numbers of our jails, and of a devfs ruleset.
const VNET: i32 = 77;
const CELL: i32 = 78;
/// What a process needs to get into a jail and do something there.
const PATIENCE: Duration = Duration::from_secs(60);
/// Frames sent to each capture.
const FRAMES: u32 = 4;

pub(super) fn run(
    reporter: &mut Reporter,
    subject: Subject,
    moves: u64,
    is_asked: impl Fn(&str) -> bool,
) -> bool {
    let mut good = true;
    // Stock keeps its captures, and lets the readers sleep.
    if is_asked("vnet-moves") && !subject.stock {
        let mut life = Life { what: "vnet moves".to_string(), ..Life::default() };
        good &= counted(reporter, "vnet-moves", &mut life, Message::Life, |life| {
            vnet_moves(subject, moves, life)
        });
    }
    if is_asked("names-in-a-vnet") {
        good &= reporter.case("names-in-a-vnet", || names_in_a_vnet(subject));
    }
    // Stock has no such list, and a setting of each network stack's own.
    if is_asked("interfaces-in-a-vnet") && !subject.stock {
        good &= reporter.case("interfaces-in-a-vnet", || interfaces_in_a_vnet(subject));
    }
    if is_asked("writers-in-a-vnet") && !subject.stock {
        good &= reporter.case("writers-in-a-vnet", || writers_in_a_vnet(subject));
    }
    if is_asked("nodes-in-a-jail") {
        good &= reporter.case("nodes-in-a-jail", || nodes_in_a_jail(subject));
    }
    good
}

fn send_frames(port: &Fd) -> Verdict {
    for number in 0..FRAMES {
        port.write(&ethernet(number, 100)).at("write")?;
    }
    Ok(())
}

/// How far the process in the jail is, and what it saw.
#[derive(FromZeros)]
#[repr(C)]
struct Shared {
    /// 1: attached, 2: has its packets and sleeps.
    stage: AtomicU32,
    packets: AtomicU64,
}

impl Shared {
    fn reaches(&self, stage: u32) -> bool {
        eventually(PATIENCE, || self.stage.load(SeqCst) >= stage)
    }

    /// What a process does that reads on `interface`, up to its end.
    fn read_to_the_end(&self, subject: Subject, interface: &str) -> sys::Result<i32> {
        let bpf = subject.open().map_err(|_| Errno(libc::EBUSY))?;
        bpf.attach(interface)?;
        bpf.set_immediate(true)?;
        self.stage.store(1, SeqCst);
        let mut seen = 0;
        while seen < FRAMES as usize {
            let list = records(&bpf.read()?).unwrap_or_default();
            // A vnet may have something to say to an interface that comes.
            seen += list.iter().filter(|record| number_of(&record.data).is_some()).count();
        }
        self.packets.fetch_add(seen as u64, SeqCst);
        bpf.set_filter(bpf::BIOCSETF, &REJECT)?;
        self.stage.store(2, SeqCst);
        Ok(bpf.read().err().map_or(0, |errno| errno.0))
    }
}

/// To the jail and back; at each step a reader sleeps on the interface that goes.
fn vnet_moves(subject: Subject, moves: u64, life: &mut Life) -> Verdict {
    let jail = Jail::new(VNET, "vnet path=/")?;
    let pair = Epair::new(30)?;
    let port = writer(&pair.b)?.fd;
    let send = || send_frames(&port);
    let interface = pair.a.as_str();
    let shared: &'static Shared = sys::shared()?;
    // Starts a reader, feeds it, moves its interface, and sees it end.
    let mut meet = |reader: Child, travel: &dyn Fn() -> sys::Result<()>| -> Verdict {
        ensure!(shared.reaches(1), "the reader is not attached after {PATIENCE:?}");
        send()?;
        ensure!(shared.reaches(2), "the reader has no packets after {PATIENCE:?}");
        reader.sleeps_in(&bpf::WAITING)?;
        life.blocked += 1;
        travel().at("moving the interface")?;
        if eventually(SOON, || !reader.runs()) {
            let end = Errno(reader.finish(SOON)?).name();
            *life.ends.entry(end).or_default() += 1;
        } else {
            life.asleep += 1;
        }
        shared.stage.store(0, SeqCst);
        Ok(())
    };
    for round in 0..moves {
        let old = subject.open()?;
        old.attach(interface).at("BIOCSETIF")?;
        let body = || shared.read_to_the_end(subject, interface).unwrap_or(1);
        meet(Child::start(body)?, &|| ifnet::move_to_jail(interface, jail.id))
            .map_err(|trouble| in_round(round, "out", trouble))?;
        let before = old.statistics()?;
        equal!("the interface's name here", old.attach(interface), refused(libc::ENXIO));
        let inside = || match ifnet::up(interface) {
            Ok(()) => shared.read_to_the_end(subject, interface).unwrap_or(1),
            Err(_) => 2,
        };
        meet(jail.start(inside)?, &|| ifnet::take_from_jail(interface, jail.id))
            .map_err(|trouble| in_round(round, "back", trouble))?;
        ifnet::up(interface).at("up")?;
        // The frames for the jail, and some for the interface after its return.
        send()?;
        sys::sleep(Duration::from_millis(20));
        equal!("packets of the old capture", old.statistics()?, before);
        life.cycles += 1;
    }
    life.packets = shared.packets.load(SeqCst);
    equal!("blocked readers still asleep", life.asleep, 0);
    equal!("ends with ENXIO", life.ends.get("ENXIO").copied(), Some(2 * moves));
    left_behind(subject)
}

fn in_round(round: u64, which: &str, trouble: Trouble) -> Trouble {
    match trouble {
        Trouble::Wrong(why) => Trouble::Wrong(format!("move {round}, {which}: {why}")),
        other => other,
    }
}

/// A name means an interface of the caller's vnet: lo0 another one, the host's others none.
fn names_in_a_vnet(subject: Subject) -> Verdict {
    let jail = Jail::new(VNET, "vnet path=/")?;
    let pair = Epair::new(30)?;
    let here = subject.open()?;
    here.attach("lo0").at("BIOCSETIF lo0")?;
    here.promiscuous()?;
    jail.try_in("names", PATIENCE, || {
        let bpf = subject.open()?;
        equal!("a name of the host", bpf.attach(&pair.a), refused(libc::ENXIO));
        bpf.attach("lo0").at("BIOCSETIF lo0")?;
        equal!("the jail's lo0 is promiscuous", bpf::is_promiscuous("lo0"), Ok(false));
        Ok(())
    })?;
    ifnet::move_to_jail(&pair.a, jail.id).at("moving the interface")?;
    jail.try_in("names", PATIENCE, || {
        subject.open()?.attach(&pair.a).at("BIOCSETIF of the jail's own interface")
    })?;
    equal!("a name of the jail", here.attach(&pair.a), refused(libc::ENXIO));
    ifnet::take_from_jail(&pair.a, jail.id).at("taking it back")
}

/// BIOCGETIFLIST: those of the caller's vnet.
fn interfaces_in_a_vnet(subject: Subject) -> Verdict {
    let jail = Jail::new(VNET, "vnet path=/")?;
    let pair = Epair::new(30)?;
    let here = || -> Result<Vec<String>, Trouble> { Ok(subject.open()?.interfaces(0)?) };
    let inside = |mut expected: Vec<&str>| {
        jail.try_in("interfaces", PATIENCE, || {
            let mut names = here()?;
            names.sort_unstable();
            expected.sort_unstable();
            equal!("the list", names, expected);
            Ok(())
        })
    };
    inside(vec!["lo0"])?;
    ensure!(here()?.contains(&pair.a), "{} is not in the list", pair.a);
    ifnet::move_to_jail(&pair.a, jail.id).at("moving the interface")?;
    inside(vec!["lo0", &pair.a])?;
    ensure!(!here()?.contains(&pair.a), "{} is still in the list", pair.a);
    ifnet::take_from_jail(&pair.a, jail.id).at("taking it back")
}

/// net.bpfrs.optimize_writers holds in a vnet, too, and is not for a jail to set.
fn writers_in_a_vnet(subject: Subject) -> Verdict {
    const SETTING: &str = "net.bpfrs.optimize_writers";
    let jail = Jail::new(VNET, "vnet path=/")?;
    let pair = Epair::new(30)?;
    let port = writer(&pair.b)?.fd;
    ifnet::move_to_jail(&pair.a, jail.id).at("moving the interface")?;
    let send = || send_frames(&port);
    let received = |bpf: &Bpf| bpf.statistics().map(|[received, _]| received);
    let body = || {
        equal!("setting it", sys::set_sysctl(SETTING, &[0; 4]), refused(libc::EPERM));
        ifnet::up(&pair.a).at("up")?;
        let [reader, bpf] = [subject.open()?, subject.open()?];
        for each in [&reader, &bpf] {
            each.attach(&pair.a).at("BIOCSETIF")?;
            // The first such filter only sets libpcap's snaplen.
            each.set_filter(bpf::BIOCSETF, &bpf::ACCEPT)?;
        }
        reader.set_filter(bpf::BIOCSETF, &bpf::ACCEPT)?;
        send()?;
        let arrived = eventually(SOON, || received(&reader).is_ok_and(|count| count >= FRAMES));
        ensure!(arrived, "a reader saw {:?} packets of {FRAMES}", received(&reader));
        equal!("packets of a writer", received(&bpf)?, 0);
        bpf.set_filter(bpf::BIOCSETF, &bpf::ACCEPT)?;
        send()?;
        let arrived = eventually(SOON, || received(&bpf).is_ok_and(|count| count >= FRAMES));
        ensure!(arrived, "{:?} packets with a filter, not {FRAMES}", received(&bpf));
        Ok(())
    };
    let before = sys::sysctl(SETTING).at(SETTING)?;
    sys::set_sysctl(SETTING, &1_i32.to_ne_bytes()).at(SETTING)?;
    let seen = jail.try_in("writers", PATIENCE, body);
    sys::set_sysctl(SETTING, &before).at(SETTING)?;
    seen
}

/// A devfs whose rules show only the subject's nodes.
fn nodes_in_a_jail(subject: Subject) -> Verdict {
    let folder = "/tmp/bpfrs-cell";
    for path in [folder.to_string(), format!("{folder}/dev")] {
        match sys::mkdir(&path) {
            Ok(()) | Err(Errno(libc::EEXIST)) => {}
            Err(errno) => return refused(errno.0).at("mkdir"),
        }
    }
    let node = subject.device.node(0);
    let name = node.trim_start_matches("/dev/").trim_end_matches('0');
    ifnet::run(&format!("devfs rule -s {CELL} add hide"))?;
    ifnet::run(&format!("devfs rule -s {CELL} add path {name}* unhide"))?;
    ifnet::run(&format!("mount -t devfs -o ruleset={CELL} devfs {folder}/dev"))?;
    let jail = Jail::new(CELL, &format!("path={folder}"))?;
    // There, but not for the jail.
    let others: Vec<&str> =
        [super::STOCK, "/dev/null", "/dev/mem"].into_iter().filter(|path| *path != node).collect();
    let result = jail.try_in("nodes", PATIENCE, || {
        subject.open()?.attach("lo0").at("BIOCSETIF lo0")?;
        for other in &others {
            let open = Fd::open(other, libc::O_RDONLY).map(drop);
            equal!(format!("open of {other}"), open, refused(libc::ENOENT));
        }
        Ok(())
    });
    drop(jail);
    let away = sys::unmount_forced(&format!("{folder}/dev")).at("unmount");
    let rules = ifnet::run(&format!("devfs rule -s {CELL} delset"));
    for other in others {
        Fd::open(other, libc::O_RDONLY).at(other)?;
    }
    result.and(away).and(rules)
}
