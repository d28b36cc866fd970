// SPDX-License-Identifier: BSD-2-Clause
//! What stock captures and bpfrs cannot, all in one list. Each is seen to occur, so that the list
//! cannot outlive its reasons.

use alloc::format;
use alloc::vec;
use alloc::vec::Vec;

use bpfrs_vm_protocol::frame::{BROADCASTS, SMALLEST, ethernet, number_of};

use super::{ARRIVAL, QUIET, STOCK, Subject, writer};
use crate::bpf::{self, Bpf, records};
use crate::driver::eventually;
use crate::ifnet::{self, Cloned, Epair};
use crate::report::Reporter;
use crate::sys::{self, Errno, Fd, Sockaddr};
use crate::tests::{Trouble, Verdict, While, ensure, equal};

struct Exception {
    name: &'static str,
    #[expect(dead_code, reason = "for the reader of this list")]
    why: &'static str,
    scene: fn() -> Result<Scene, Trouble>,
}

const EXCEPTIONS: [Exception; 5] = [
    Exception {
        name: "broadcast-loop-back",
        why: "the sender's own copy of a broadcast goes by if_simloop, which shows it to bpf(4) \
              alone and calls no function of the interface",
        scene: broadcast,
    },
    Exception {
        name: "bridge-receives",
        why: "bridge(4) shows to bpf(4) alone what its members receive",
        scene: bridge,
    },
    Exception {
        name: "lagg-receives",
        why: "lagg(4) shows to bpf(4) alone what its ports receive",
        scene: lagg,
    },
    Exception { name: "gif", why: "no Ethernet: no function to be put in front of", scene: gif },
    Exception { name: "tun", why: "the same", scene: tun },
];

/// Frames sent in each scene, all of them for everybody: others a bridge only forwards.
const FRAMES: u32 = 40;
const PORT: u16 = 40_014;

/// An interface, and how frames that it receives are sent. Without a sender BIOCSETIF is all that
/// can be asked.
struct Scene {
    interface: &'static str,
    /// Where stock shows them.
    direction: u32,
    sender: Option<Fd>,
    _interfaces: Vec<Cloned>,
    _pairs: Vec<Epair>,
}

/// `exception-NAME`: on stock it must not occur, or it proves nothing here.
pub(super) fn run(reporter: &mut Reporter, subject: Subject) -> bool {
    let mut good = true;
    for exception in &EXCEPTIONS {
        let name = format!("exception-{}", exception.name);
        good &= reporter.case(&name, || occurs(exception, subject));
    }
    good
}

fn occurs(exception: &Exception, subject: Subject) -> Verdict {
    let scene = (exception.scene)()?;
    let stock = Bpf::open(STOCK).at(STOCK)?;
    listen_on(&stock, &scene).at("stock")?;
    let tried = subject.open()?;
    let attached = listen_on(&tried, &scene);
    ensure!(
        matches!(attached, Ok(()) | Err(Errno(libc::ENXIO))),
        "BIOCSETIF {}: {attached:?}",
        scene.interface
    );
    let Some(sender) = &scene.sender else {
        equal!("the subject is attached", attached.is_ok(), subject.stock);
        return Ok(());
    };
    for number in 0..FRAMES {
        sender.write(&ethernet(BROADCASTS + number % 8, SMALLEST)).at("sending")?;
    }
    let (mut by_stock, mut by_subject) = (0, 0);
    eventually(ARRIVAL, || {
        by_stock += received(&stock);
        by_stock >= FRAMES
    });
    if attached.is_ok() {
        let (limit, wanted) = if subject.stock { (ARRIVAL, FRAMES) } else { (5 * QUIET, 1) };
        eventually(limit, || {
            by_subject += received(&tried);
            by_subject >= wanted
        });
    }
    equal!("captured by stock", by_stock, FRAMES);
    equal!("captured by the subject", by_subject, if subject.stock { FRAMES } else { 0 });
    Ok(())
}

fn listen_on(bpf: &Bpf, scene: &Scene) -> sys::Result<()> {
    bpf.set_buffer_length(65_536)?;
    bpf.attach(scene.interface)?;
    bpf.set_direction(scene.direction)?;
    bpf.fd.set_nonblocking(true)
}

/// Frames of ours that have been captured since: as they are, or in a datagram.
fn received(bpf: &Bpf) -> u32 {
    const DATAGRAM_AT: usize = 14 + 20 + 8;
    let frames = bpf.read().map_or_else(|_| Ok(vec![]), |bytes| records(&bytes));
    let is_ours = |data: &[u8]| {
        let inner = data.get(DATAGRAM_AT..).unwrap_or_default();
        number_of(data).or_else(|| number_of(inner)).is_some()
    };
    let ours = frames.map_or(0, |list| list.iter().filter(|r| is_ours(&r.data)).count());
    u32::try_from(ours).unwrap_or(u32::MAX)
}

fn broadcast() -> Result<Scene, Trouble> {
    let pair = Epair::new(12)?;
    ifnet::run(&format!("ifconfig {} inet 10.12.0.1/24", pair.a))?;
    let socket = sys::socket(libc::AF_INET, libc::SOCK_DGRAM, 0)?;
    socket.set_option(libc::SO_BROADCAST, 1).at("SO_BROADCAST")?;
    socket.connect(Sockaddr::inet([10, 12, 0, 255], PORT)).at("connect")?;
    Ok(Scene {
        interface: "epair12a",
        direction: bpf::D_IN,
        sender: Some(socket),
        _interfaces: vec![],
        _pairs: vec![pair],
    })
}

/// An interface over the end of a pair; what the other end sends it receives.
fn over(name: &'static str, configure: &str) -> Result<Scene, Trouble> {
    let upper = Cloned::new(name).at(name)?;
    let pair = Epair::new(12)?;
    ifnet::run(&format!("ifconfig {name} {configure} up"))?;
    let sender = Some(writer(&pair.b)?.fd);
    Ok(Scene {
        interface: name,
        // lagg shows frames before it makes them its own: to bpf they look sent.
        direction: bpf::D_INOUT,
        sender,
        _interfaces: vec![upper],
        _pairs: vec![pair],
    })
}

fn bridge() -> Result<Scene, Trouble> {
    over("bridge12", "addm epair12a")
}

fn lagg() -> Result<Scene, Trouble> {
    over("lagg12", "laggproto failover laggport epair12a")
}

fn alone(name: &'static str) -> Result<Scene, Trouble> {
    let interfaces = vec![Cloned::new(name).at(name)?];
    Ok(Scene {
        interface: name,
        direction: bpf::D_INOUT,
        sender: None,
        _interfaces: interfaces,
        _pairs: vec![],
    })
}

fn gif() -> Result<Scene, Trouble> {
    alone("gif12")
}

fn tun() -> Result<Scene, Trouble> {
    alone("tun12")
}
