// SPDX-License-Identifier: BSD-2-Clause
//! Each kind of interface, set up with a way to send through it in both directions.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;

use bpfrs_vm_protocol::frame::{
    BROADCASTS, SMALLEST, TAG_LENGTH, ethernet, number_of, size_of, tagged,
};
use bpfrs_vm_protocol::parity::Frame;

use super::{ARRIVAL, QUIET, STOCK, listener, writer};
use crate::bpf::Bpf;
use crate::ifnet::{self, Cloned, Epair};
use crate::loopback::{Sender, silent_receiver};
use crate::sys::{self, Address, Errno, Fd};
use crate::tests::{Trouble, Verdict, While, ensure};

/// All of them.
pub(super) const KINDS: [&str; 10] = [
    "lo0",
    "epair",
    "vlan",
    "vlan-parent",
    "bridge-member",
    "tap",
    "vtnet",
    "em",
    "vlan-on-em",
    "vlan-on-em-parent",
];

/// Seen from the interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Direction {
    In,
    Out,
}

impl Direction {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::In => "in",
            Self::Out => "out",
        }
    }
}

/// An Ethernet header and the usual MTU. write(2) counts a tag as a part of what the MTU bounds.
const ETHERNET: usize = 14 + 1500;
/// net.inet.udp.maxdgram bounds what a socket sends; lo0's MTU and an IPv6 header do.
const DATAGRAM: usize = 16_384 - 40 - 8;
/// What a card of real Ethernet pads to.
const PADDED: usize = 60;
/// The VLAN of tests that use one.
const VLAN: u16 = 5;
/// The port of datagrams on lo0.
const PORT: u16 = 40_013;

/// What frames go in by.
enum Port {
    Bpf(Bpf),
    Tap(Fd),
    Udp([Sender; 2], #[expect(dead_code, reason = "receives, unread")] [Fd; 2]),
}

/// An interface, and ways to it.
pub(super) struct Wire {
    /// Where the capture is.
    pub(super) interface: String,
    input: Option<Port>,
    output: Option<Port>,
    /// tap(4) sends a frame, and shows it to bpf, when somebody reads it.
    reader: Option<Fd>,
    /// Smallest and largest frame.
    smallest: usize,
    largest: usize,
    /// One frame in four has a tag of its own.
    mixed: bool,
    /// The kernel adds a tag on the way.
    wrapped: bool,
    _interfaces: Vec<Cloned>,
    _pairs: Vec<Epair>,
}

impl Wire {
    fn new(interface: &str, input: Option<Port>, output: Option<Port>) -> Self {
        Self {
            interface: interface.to_string(),
            input,
            output,
            reader: None,
            smallest: SMALLEST,
            largest: ETHERNET,
            mixed: true,
            wrapped: false,
            _interfaces: vec![],
            _pairs: vec![],
        }
    }

    /// Sets one up.
    pub(super) fn of_kind(kind: &str) -> Result<Self, Trouble> {
        match kind {
            "lo0" => lo0(),
            "epair" => epair(),
            "vlan" => vlan("vlan10", false),
            "vlan-parent" => vlan("epair10a", true),
            "bridge-member" => bridge_member(),
            "tap" => tap(),
            "vtnet" => cards("vtnet0", "vtnet1"),
            "em" => em(),
            "vlan-on-em" => vlan_on_em("vlan10", false),
            "vlan-on-em-parent" => vlan_on_em("em0", true),
            other => Err(Trouble::Wrong(format!("no kind {other}"))),
        }
    }

    /// Directions in which something can be sent.
    pub(super) fn directions(&self) -> Vec<Direction> {
        let ways = [(Direction::In, &self.input), (Direction::Out, &self.output)];
        ways.iter().filter(|(_, port)| port.is_some()).map(|(way, _)| *way).collect()
    }

    /// Whether the interface can be promiscuous: all but lo0, on which it means nothing.
    pub(super) fn is_ethernet(&self) -> bool {
        !matches!(self.input, Some(Port::Udp(..)))
    }

    /// Sends frame `number`; what must be captured of it, in front of it perhaps a header that the
    /// stack chooses (`prefix` bytes).
    pub(super) fn send(&self, direction: Direction, number: u32) -> Result<Frame, Trouble> {
        let port = match direction {
            Direction::In => &self.input,
            Direction::Out => &self.output,
        };
        let port = port.as_ref().ok_or_else(|| "no such way".to_string())?;
        let with_tag = self.mixed && number % 4 == 3;
        let room = self.largest - if with_tag { TAG_LENGTH } else { 0 };
        let mut data = ethernet(number, size_of(number, room).max(self.smallest));
        if with_tag {
            // All priorities and some VLANs.
            data = tagged(&data, (number as u16 >> 2) << 13 | (number as u16 & 0xfff));
        }
        let written = match port {
            Port::Bpf(bpf) => bpf.fd.write(&data),
            Port::Tap(tap) => tap.write(&data),
            Port::Udp(senders, _) => senders[number as usize % 2].send(&data).map(|()| data.len()),
        };
        let length = written.at(&format!("sending frame {number} of {} bytes", data.len()))?;
        ensure!(length == data.len(), "{length} of {} bytes written", data.len());
        if self.wrapped {
            data = tagged(&data, VLAN);
        }
        let length = data.len() + self.prefix(number);
        Ok(Frame { number: Some(number), length: u32::try_from(length).unwrap_or(0), data })
    }

    /// What stands in front of a frame: on lo0 the address family, IP and UDP.
    fn prefix(&self, number: u32) -> usize {
        match (self.is_ethernet(), number % 2) {
            (true, _) => 0,
            (false, 0) => 4 + 20 + 8,
            (false, _) => 4 + 40 + 8,
        }
    }

    /// The number of a captured frame, if it is one of ours.
    pub(super) fn number_of(&self, data: &[u8]) -> Option<u32> {
        if self.is_ethernet() {
            return number_of(data);
        }
        // IPv4 or IPv6: the number must agree.
        [0, 1].into_iter().find_map(|family| {
            number_of(data.get(self.prefix(family)..)?).filter(|number| number % 2 == family)
        })
    }

    /// Whether a captured frame is what was sent, cut nowhere.
    pub(super) fn is_as_sent(&self, sent: &Frame, captured: &Frame) -> bool {
        captured.length == sent.length
            && captured.data.len() == captured.length as usize
            && captured.data.ends_with(&sent.data)
    }

    /// Takes from the interface what it wants to send to us.
    pub(super) fn drain(&self) -> Verdict {
        let Some(tap) = &self.reader else { return Ok(()) };
        let mut frame = [0; 2048];
        loop {
            match tap.read(&mut frame) {
                Ok(_) => {}
                Err(Errno(libc::EAGAIN)) => return Ok(()),
                Err(errno) => return Err(errno).at("reading from tap"),
            }
        }
    }
}

fn lo0() -> Result<Wire, Trouble> {
    let limit = 65_535_u64.to_ne_bytes();
    sys::set_sysctl("net.inet.udp.maxdgram", &limit).at("net.inet.udp.maxdgram")?;
    let both = [Address::V4(PORT), Address::V6(PORT)];
    let [v4, v6] = both.map(|to| Sender::new(to).at("socket"));
    let [to_v4, to_v6] = both.map(|at| silent_receiver(at).at("bind"));
    let input = Port::Udp([v4?, v6?], [to_v4?, to_v6?]);
    // What lo0 sends it receives: bpf sees it once, as received.
    let wire = Wire::new("lo0", Some(input), None);
    Ok(Wire { largest: DATAGRAM, mixed: false, ..wire })
}

fn epair() -> Result<Wire, Trouble> {
    let pair = Epair::new(10)?;
    let (input, output) = (Port::Bpf(writer(&pair.b)?), Port::Bpf(writer(&pair.a)?));
    let wire = Wire::new(&pair.a, Some(input), Some(output));
    Ok(Wire { _pairs: vec![pair], ..wire })
}

fn vlan(interface: &str, wrapped: bool) -> Result<Wire, Trouble> {
    let pair = Epair::new(10)?;
    let wire = vlan_between(&pair.a, &pair.b, interface, wrapped)?;
    Ok(Wire { _pairs: vec![pair], ..wire })
}

/// The same VLAN on both ends of a cable; the capture is on one vlan, or on its parent, which sees
/// the same frames with their tags.
fn vlan_between(near: &str, far: &str, interface: &str, wrapped: bool) -> Result<Wire, Trouble> {
    let mut vlans = vec![];
    for (name, parent) in [("vlan10", near), ("vlan11", far)] {
        vlans.push(Cloned::new(name).at(name)?);
        ifnet::run(&format!("ifconfig {name} vlan {VLAN} vlandev {parent} up"))?;
    }
    let (input, output) = (Port::Bpf(writer("vlan11")?), Port::Bpf(writer("vlan10")?));
    let wire = Wire::new(interface, Some(input), Some(output));
    Ok(Wire { mixed: false, wrapped, _interfaces: vlans, ..wire })
}

/// Frames come in by a member, and cross the bridge to go out by it.
fn bridge_member() -> Result<Wire, Trouble> {
    let bridge = Cloned::new("bridge10").at("bridge10")?;
    let pairs = vec![Epair::new(10)?, Epair::new(11)?];
    ifnet::run("ifconfig bridge10 addm epair10a addm epair11a up")?;
    let (input, output) = (Port::Bpf(writer("epair10b")?), Port::Bpf(writer("epair11b")?));
    let wire = Wire::new("epair10a", Some(input), Some(output));
    Ok(Wire { _interfaces: vec![bridge], _pairs: pairs, ..wire })
}

fn tap() -> Result<Wire, Trouble> {
    let interface = Cloned::new("tap10").at("tap10")?;
    let tap = Fd::open("/dev/tap10", libc::O_RDWR | libc::O_CLOEXEC).at("/dev/tap10")?;
    tap.set_nonblocking(true)?;
    ifnet::up("tap10").at("tap10")?;
    let reader = Some(tap.dup()?);
    let wire = Wire::new("tap10", Some(Port::Tap(tap)), Some(Port::Bpf(writer("tap10")?)));
    Ok(Wire { reader, _interfaces: vec![interface], ..wire })
}

/// Two network cards on one hub.
fn cards(near: &str, far: &str) -> Result<Wire, Trouble> {
    for name in [near, far] {
        if !ifnet::exists(name) {
            return Err(Trouble::NotHere(format!("no {name} here")));
        }
        ifnet::up(name).at(name)?;
    }
    settle(near, far)?;
    // A card is promiscuous before it receives what is not for it.
    Ok(Wire::new(near, Some(Port::Bpf(writer(far)?)), Some(Port::Bpf(writer(near)?))))
}

/// Waits until cards on one hub have links and receive: what is sent to a card that is not ready waits
/// outside, and frames sent later may overtake it.
fn settle(near: &str, far: &str) -> Verdict {
    for name in [near, far] {
        ifnet::wait_for_link(name)?;
    }
    for (from, to) in [(near, far), (far, near)] {
        let (from, ear) = (writer(from)?, listener(Bpf::open(STOCK).at(STOCK)?, to)?);
        ear.set_immediate(true).at("BIOCIMMEDIATE")?;
        let heard = || Ok::<_, Trouble>(ear.fd.poll(libc::POLLIN, Some(QUIET)).at("poll")? != 0);
        let deadline = sys::now() + ARRIVAL;
        while !heard()? {
            ensure!(sys::now() < deadline, "{to} does not receive");
            from.fd.write(&ethernet(BROADCASTS, SMALLEST)).at("write")?;
        }
        while heard()? {
            ear.flush().at("BIOCFLUSH")?;
        }
    }
    Ok(())
}

/// A card whose driver hands over chains of frames, and which pads.
fn em() -> Result<Wire, Trouble> {
    if ifnet::exists("em0") {
        // Or it drops frames of VLANs that the kernel does not ask for, whoever listens.
        ifnet::run("ifconfig em0 -vlanhwfilter")?;
    }
    Ok(Wire { smallest: PADDED, ..cards("em0", "vtnet0")? })
}

/// … and which takes tags out and puts them in: on its way through the kernel a frame has its tag in
/// the packet header.
fn vlan_on_em(interface: &str, wrapped: bool) -> Result<Wire, Trouble> {
    drop(em()?);
    let wire = vlan_between("em0", "vtnet0", interface, wrapped)?;
    // Whether to take tags out the driver asks itself when the card starts.
    for state in ["down", "up"] {
        ifnet::run(&format!("ifconfig em0 {state}"))?;
    }
    settle("em0", "vtnet0")?;
    Ok(Wire { smallest: PADDED, ..wire })
}
