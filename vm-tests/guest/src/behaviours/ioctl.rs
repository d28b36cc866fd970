// SPDX-License-Identifier: BSD-2-Clause
//! Every ioctl(2) in every state: its result, and what it changed.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;

use super::{Lab, Look, Place, Seen, Source, hex, look, told};
use crate::bpf::{self, ACCEPT, Bpf, Instruction, REJECT, name_of, statement};
use crate::ifnet::{self, Cloned};
use crate::sys::{self, Pid};
use crate::tests::{Trouble, While};

/// What an ioctl is given.
#[derive(Clone, Copy)]
pub(crate) enum Argument {
    None,
    Word(u32),
    Half(i32),
    /// Two 32-bit words.
    Pair([u32; 2]),
    Long(u64),
    /// Two 64-bit words.
    Time([i64; 2]),
    /// Three.
    Buffers([u64; 3]),
    /// struct ifreq with this name.
    Name(&'static str),
    Program(&'static [Instruction]),
    /// A program of so many instructions, each of which accepts.
    Accepts(usize),
    /// A list of so many words.
    List(usize),
    /// A NULL list, said to have so many elements.
    Null(u32),
    /// A list where nothing is.
    Lost(u32),
    /// This process, times this.
    Me(i32),
}

/// One ioctl with one argument.
pub(crate) struct Probe {
    pub(crate) name: &'static str,
    pub(crate) command: u64,
    pub(crate) argument: Argument,
}

const fn probe(name: &'static str, command: u64, argument: Argument) -> Probe {
    Probe { name, command, argument }
}

use Argument::{
    Accepts, Buffers, Half, List, Long, Lost, Me, Name, None, Null, Pair, Program, Time, Word,
};

const BIOCGRSIG: u64 = 0x4004_4272;
pub(super) const BIOCSRSIG: u64 = 0x8004_4273;
const BIOCGHDRCMPLT: u64 = 0x4004_4274;
pub(super) const BIOCGETBUFMODE: u64 = 0x4004_427d;
const BIOCSETVLANPCP: u64 = 0x8004_4285;
pub(super) const FIOASYNC: u64 = 0x8004_667d;
pub(crate) const FIOSETOWN: u64 = 0x8004_667c;
pub(super) const FIOGETOWN: u64 = 0x4004_667b;
pub(crate) const TIOCSPGRP: u64 = 0x8004_7476;
const TIOCGPGRP: u64 = 0x4004_7477;

/// Address 4096 is that of no page, and a page's.
const NO_PAGE: u64 = 4096;

/// Every ioctl of bpf(4), and some that it has not.
pub(crate) const PROBES: &[Probe] = &[
    probe("BIOCGBLEN", bpf::BIOCGBLEN, Word(7)),
    probe("BIOCSBLEN-0", bpf::BIOCSBLEN, Word(0)),
    probe("BIOCSBLEN-33", bpf::BIOCSBLEN, Word(33)),
    probe("BIOCSBLEN-8192", bpf::BIOCSBLEN, Word(8192)),
    probe("BIOCSBLEN-max", bpf::BIOCSBLEN, Word(u32::MAX)),
    probe("BIOCSETF-accept", bpf::BIOCSETF, Program(&ACCEPT)),
    probe("BIOCSETF-reject", bpf::BIOCSETF, Program(&REJECT)),
    probe("BIOCSETF-512", bpf::BIOCSETF, Accepts(512)),
    probe("BIOCSETF-513", bpf::BIOCSETF, Accepts(513)),
    probe("BIOCSETF-invalid", bpf::BIOCSETF, Program(&[statement(bpf::LD_W_ABS, 0)])),
    probe("BIOCSETF-none", bpf::BIOCSETF, Null(0)),
    probe("BIOCSETF-null", bpf::BIOCSETF, Null(1)),
    probe("BIOCSETF-lost", bpf::BIOCSETF, Lost(1)),
    probe("BIOCSETF-lost-none", bpf::BIOCSETF, Lost(0)),
    probe("BIOCFLUSH", bpf::BIOCFLUSH, None),
    probe("BIOCPROMISC", bpf::BIOCPROMISC, None),
    probe("BIOCGDLT", bpf::BIOCGDLT, Word(7)),
    probe("BIOCGETIF", bpf::BIOCGETIF, Name("garbage")),
    probe("BIOCSETIF-lo0", bpf::BIOCSETIF, Name("lo0")),
    probe("BIOCSETIF-epair", bpf::BIOCSETIF, Name("epair21a")),
    probe("BIOCSETIF-unknown", bpf::BIOCSETIF, Name("nosuch0")),
    probe("BIOCSETIF-empty", bpf::BIOCSETIF, Name("")),
    probe("BIOCSETIF-long", bpf::BIOCSETIF, Name("a-name-longer-than-one")),
    probe("BIOCSRTIMEOUT-0", bpf::BIOCSRTIMEOUT, Time([0, 0])),
    probe("BIOCSRTIMEOUT-1us", bpf::BIOCSRTIMEOUT, Time([0, 1])),
    probe("BIOCSRTIMEOUT-1500ms", bpf::BIOCSRTIMEOUT, Time([1, 500_000])),
    probe("BIOCSRTIMEOUT-large", bpf::BIOCSRTIMEOUT, Time([100_000_000, 0])),
    probe("BIOCSRTIMEOUT-too-large", bpf::BIOCSRTIMEOUT, Time([100_000_001, 0])),
    probe("BIOCSRTIMEOUT-usec", bpf::BIOCSRTIMEOUT, Time([0, 1_000_000])),
    probe("BIOCSRTIMEOUT-negative", bpf::BIOCSRTIMEOUT, Time([-1, 0])),
    probe("BIOCSRTIMEOUT-negative-usec", bpf::BIOCSRTIMEOUT, Time([0, -1])),
    probe("BIOCGRTIMEOUT", bpf::BIOCGRTIMEOUT, Time([7, 7])),
    probe("BIOCGSTATS", bpf::BIOCGSTATS, Pair([7, 7])),
    probe("BIOCIMMEDIATE-0", bpf::BIOCIMMEDIATE, Word(0)),
    probe("BIOCIMMEDIATE-2", bpf::BIOCIMMEDIATE, Word(2)),
    probe("BIOCVERSION", bpf::BIOCVERSION, Word(7)),
    probe("BIOCGRSIG", BIOCGRSIG, Word(7)),
    probe("BIOCSRSIG-0", BIOCSRSIG, Word(0)),
    probe("BIOCSRSIG-31", BIOCSRSIG, Word(31)),
    probe("BIOCSRSIG-32", BIOCSRSIG, Word(32)),
    probe("BIOCSRSIG-max", BIOCSRSIG, Word(u32::MAX)),
    probe("BIOCGHDRCMPLT", BIOCGHDRCMPLT, Word(7)),
    probe("BIOCSHDRCMPLT-2", bpf::BIOCSHDRCMPLT, Word(2)),
    probe("BIOCSHDRCMPLT-0", bpf::BIOCSHDRCMPLT, Word(0)),
    probe("BIOCGDIRECTION", bpf::BIOCGDIRECTION, Word(7)),
    probe("BIOCSDIRECTION-in", bpf::BIOCSDIRECTION, Word(bpf::D_IN)),
    probe("BIOCSDIRECTION-inout", bpf::BIOCSDIRECTION, Word(bpf::D_INOUT)),
    probe("BIOCSDIRECTION-out", bpf::BIOCSDIRECTION, Word(bpf::D_OUT)),
    probe("BIOCSDIRECTION-3", bpf::BIOCSDIRECTION, Word(3)),
    probe("BIOCSDLT-null", bpf::BIOCSDLT, Word(0)),
    probe("BIOCSDLT-ethernet", bpf::BIOCSDLT, Word(1)),
    probe("BIOCSDLT-unknown", bpf::BIOCSDLT, Word(9999)),
    probe("BIOCGDLTLIST-count", bpf::BIOCGDLTLIST, Null(0)),
    probe("BIOCGDLTLIST-count-9", bpf::BIOCGDLTLIST, Null(9)),
    probe("BIOCGDLTLIST-4", bpf::BIOCGDLTLIST, List(4)),
    probe("BIOCGDLTLIST-0", bpf::BIOCGDLTLIST, Lost(0)),
    probe("BIOCGDLTLIST-lost", bpf::BIOCGDLTLIST, Lost(4)),
    probe("BIOCLOCK", bpf::BIOCLOCK, None),
    probe("BIOCSETWF-accept", bpf::BIOCSETWF, Program(&ACCEPT)),
    probe("BIOCSETWF-invalid", bpf::BIOCSETWF, Program(&[statement(0x0e, 0)])),
    probe("BIOCSETWF-none", bpf::BIOCSETWF, Null(0)),
    probe("BIOCSETWF-null", bpf::BIOCSETWF, Null(1)),
    probe("BIOCSETWF-lost", bpf::BIOCSETWF, Lost(1)),
    probe("BIOCFEEDBACK-1", bpf::BIOCFEEDBACK, Word(1)),
    probe("BIOCFEEDBACK-0", bpf::BIOCFEEDBACK, Word(0)),
    probe("BIOCGETBUFMODE", BIOCGETBUFMODE, Word(7)),
    probe("BIOCSETBUFMODE-0", bpf::BIOCSETBUFMODE, Word(0)),
    probe("BIOCSETBUFMODE-buffer", bpf::BIOCSETBUFMODE, Word(1)),
    probe("BIOCSETBUFMODE-zbuf", bpf::BIOCSETBUFMODE, Word(2)),
    probe("BIOCSETBUFMODE-3", bpf::BIOCSETBUFMODE, Word(3)),
    probe("BIOCGETZMAX", bpf::BIOCGETZMAX, Long(7)),
    probe("BIOCROTZBUF", bpf::BIOCROTZBUF, Buffers([7, 7, 7])),
    probe("BIOCSETZBUF-null", bpf::BIOCSETZBUF, Buffers([0, 0, 4096])),
    probe("BIOCSETZBUF-lost", bpf::BIOCSETZBUF, Buffers([NO_PAGE, NO_PAGE, 4096])),
    probe("BIOCSETFNR-accept", bpf::BIOCSETFNR, Program(&ACCEPT)),
    probe("BIOCSETFNR-reject", bpf::BIOCSETFNR, Program(&REJECT)),
    probe("BIOCSETFNR-none", bpf::BIOCSETFNR, Null(0)),
    probe("BIOCSETFNR-lost", bpf::BIOCSETFNR, Lost(1)),
    probe("BIOCGTSTAMP", bpf::BIOCGTSTAMP, Word(7)),
    probe("BIOCSTSTAMP-nano", bpf::BIOCSTSTAMP, Word(bpf::T_NANOTIME)),
    probe("BIOCSTSTAMP-none", bpf::BIOCSTSTAMP, Word(bpf::T_NONE)),
    probe("BIOCSTSTAMP-all", bpf::BIOCSTSTAMP, Word(0x302)),
    probe("BIOCSTSTAMP-none-fast", bpf::BIOCSTSTAMP, Word(0x103)),
    probe("BIOCSTSTAMP-4", bpf::BIOCSTSTAMP, Word(4)),
    probe("BIOCSTSTAMP-0x400", bpf::BIOCSTSTAMP, Word(0x400)),
    probe("BIOCSETVLANPCP-3", BIOCSETVLANPCP, Word(3)),
    probe("BIOCSETVLANPCP-8", BIOCSETVLANPCP, Word(8)),
    probe("FIONREAD", bpf::FIONREAD, Word(7)),
    probe("FIONBIO", bpf::FIONBIO, Word(1)),
    probe("FIOASYNC-1", FIOASYNC, Word(1)),
    probe("FIOASYNC-0", FIOASYNC, Word(0)),
    probe("FIOSETOWN-me", FIOSETOWN, Me(1)),
    probe("FIOSETOWN-0", FIOSETOWN, Half(0)),
    probe("FIOSETOWN-nobody", FIOSETOWN, Half(99_999)),
    probe("FIOSETOWN-no-group", FIOSETOWN, Half(-99_999)),
    probe("FIOSETOWN-min", FIOSETOWN, Half(i32::MIN)),
    probe("FIOGETOWN", FIOGETOWN, Word(7)),
    probe("TIOCSPGRP-me", TIOCSPGRP, Me(-1)),
    probe("TIOCSPGRP-0", TIOCSPGRP, Half(0)),
    probe("TIOCSPGRP-nobody", TIOCSPGRP, Half(-99_999)),
    probe("TIOCGPGRP", TIOCGPGRP, Word(7)),
    // The same with the structures of a 32-bit process.
    probe("BIOCSETF32-none", 0x8008_4267, Pair([0, 0])),
    probe("BIOCSETF32-null", 0x8008_4267, Pair([1, 0])),
    probe("BIOCSETF32-lost", 0x8008_4267, Pair([1, 8])),
    probe("BIOCSETFNR32-none", 0x8008_4282, Pair([0, 0])),
    probe("BIOCSETFNR32-null", 0x8008_4282, Pair([1, 0])),
    probe("BIOCSETWF32-none", 0x8008_427b, Pair([0, 0])),
    probe("BIOCSETWF32-null", 0x8008_427b, Pair([1, 0])),
    probe("BIOCGDLTLIST32-count", 0xc008_4279, Pair([0, 0])),
    probe("BIOCGDLTLIST32-lost", 0xc008_4279, Pair([4, 8])),
    probe("BIOCSRTIMEOUT32-1500ms", 0x8008_426d, Pair([1, 500_000])),
    probe("BIOCSRTIMEOUT32-usec", 0x8008_426d, Pair([0, 1_000_000])),
    probe("BIOCSRTIMEOUT32-negative", 0x8008_426d, Pair([u32::MAX, 0])),
    probe("BIOCGRTIMEOUT32", 0x4008_426e, Pair([7, 7])),
    // No command of bpf(4).
    probe("unknown-B-200", 0x2000_42c8, None),
    probe("unknown-B-200-word", 0x8004_42c8, Word(1)),
    probe("BIOCSDLT-as-long", 0x8008_4278, Long(0)),
    probe("BIOCGBLEN-as-long", 0x4008_4266, Long(0)),
    probe("BIOCGETIFLIST", 0xc010_4286, Null(0)),
    probe("BIOCGETIFLIST-small", 0xc010_4286, Null(1)),
    probe("BIOCGETIFLIST-lost", 0xc010_4286, Lost(4096)),
    probe("SIOCGIFFLAGS", 0xc020_6911, Name("lo0")),
    probe("TIOCSTI", 0x2000_7472, None),
    probe("FIODTYPE", 0x4004_667a, Word(7)),
    probe("FIODGNAME", 0x8010_6678, Null(0)),
    probe("FIOSEEKDATA", 0xc008_6661, Long(0)),
];

impl Probe {
    /// Does it, and tells its result.
    pub(crate) fn apply(&self, bpf: &Bpf) -> String {
        let fd = &bpf.fd;
        let command = self.command;
        // What a command does not give back stays as it was.
        match self.argument {
            None => told(fd.ioctl_none(command), |()| "ok".into()),
            Word(mut word) => told(fd.ioctl(command, &mut word), |()| as_owner(word as i32)),
            Half(mut word) => told(fd.ioctl(command, &mut word), |()| as_owner(word)),
            Me(sign) => {
                let mut word = Pid::current().number() * sign;
                told(fd.ioctl(command, &mut word), |()| as_owner(word))
            }
            Pair(mut pair) => told(fd.ioctl(command, &mut pair), |()| format!("{pair:?}")),
            Long(mut long) => told(fd.ioctl(command, &mut long), |()| long.to_string()),
            Time(mut time) => told(fd.ioctl(command, &mut time), |()| format!("{time:?}")),
            Buffers(mut three) => told(fd.ioctl(command, &mut three), |()| format!("{three:?}")),
            Name(name) => {
                let mut request: [u8; 32] = ifnet::request(name);
                told(fd.ioctl(command, &mut request), |()| match command {
                    bpf::BIOCGETIF => hex(&request),
                    _ => "ok".into(),
                })
            }
            Program(program) => {
                told(fd.ioctl_list(command, &mut program.to_vec()), |count| count.to_string())
            }
            Accepts(count) => {
                told(fd.ioctl_list(command, &mut vec![ACCEPT[0]; count]), |n| n.to_string())
            }
            List(count) => {
                let mut list = vec![77_u32; count];
                told(fd.ioctl_list(command, &mut list), |count| format!("{count} of {list:?}"))
            }
            Null(count) => told(fd.ioctl_null_list(command, count), |count| count.to_string()),
            Lost(count) => told(fd.ioctl_lost_list(command, count), |count| count.to_string()),
        }
    }
}

/// A number; a process number as whose it is.
fn as_owner(number: i32) -> String {
    match number {
        own if own == Pid::current().number() => "me".into(),
        own if own == -Pid::current().number() => "-me".into(),
        other => other.cast_unsigned().to_string(),
    }
}

/// What can be asked without changing anything.
const STATE: [Probe; 14] = [
    probe("blen", bpf::BIOCGBLEN, Word(0)),
    probe("dlt", bpf::BIOCGDLT, Word(0)),
    probe("rtimeout", bpf::BIOCGRTIMEOUT, Time([0, 0])),
    probe("stats", bpf::BIOCGSTATS, Pair([0, 0])),
    probe("rsig", BIOCGRSIG, Word(0)),
    probe("hdrcmplt", BIOCGHDRCMPLT, Word(0)),
    probe("direction", bpf::BIOCGDIRECTION, Word(0)),
    probe("tstamp", bpf::BIOCGTSTAMP, Word(0)),
    probe("bufmode", BIOCGETBUFMODE, Word(0)),
    probe("readable", bpf::FIONREAD, Word(0)),
    probe("owner", FIOGETOWN, Word(0)),
    probe("pgrp", TIOCGPGRP, Word(0)),
    probe("dlts", bpf::BIOCGDLTLIST, Null(0)),
    probe("zmax", bpf::BIOCGETZMAX, Long(0)),
];

/// The state of a descriptor, and of its interface.
fn state(lab: &Lab, bpf: &Bpf) -> Vec<(&'static str, String)> {
    let mut state: Vec<_> = STATE.iter().map(|probe| (probe.name, probe.apply(bpf))).collect();
    let mut request = [0_u8; 32];
    let interface = bpf.fd.ioctl(bpf::BIOCGETIF, &mut request);
    state.push(("interface", told(interface, |()| name_of(&request))));
    for name in ["lo0", &lab.pair.a] {
        let promiscuous = told(bpf::is_promiscuous(name), |on| on.to_string());
        state.push((if name == "lo0" { "lo0-promisc" } else { "epair-promisc" }, promiscuous));
    }
    state
}

/// What differs of two states.
fn changes(before: &[(&str, String)], after: &[(&str, String)]) -> String {
    let pairs = before.iter().zip(after).filter(|((_, before), (_, after))| before != after);
    let texts: Vec<_> =
        pairs.map(|((name, old), (_, new))| format!("; {name} {old} -> {new}")).collect();
    texts.concat()
}

/// States of a descriptor before an ioctl.
pub(super) const STATES: [&str; 15] = [
    "fresh",
    "sized",
    "lo0",
    "epair",
    "store",
    "hold",
    "full",
    "locked-fresh",
    "locked",
    "promiscuous",
    "immediate",
    "non-blocking",
    "filtered",
    "departed",
    "revoked",
];

/// A descriptor in a state, and what keeps it there.
pub(super) fn in_state(lab: &Lab, state: &str) -> Result<(Bpf, Option<Source>), Trouble> {
    /// Three records of these fit in a buffer, and four do not.
    const FRAME: usize = 100;
    const BUFFER: u32 = 400;
    let bpf = lab.open()?;
    let mut source = Option::None;
    let with_frames = |count| -> Result<Source, Trouble> {
        bpf.set_buffer_length(BUFFER)?;
        lab.attach(&bpf, Place::Ethernet, u32::MAX)?;
        let source = lab.source(Place::Ethernet)?;
        source.fill(&bpf, 0..count, FRAME)?;
        Ok(source)
    };
    match state {
        "fresh" => {}
        "sized" => drop(bpf.set_buffer_length(8192)?),
        "lo0" => bpf.attach("lo0")?,
        "epair" => bpf.attach(&lab.pair.a)?,
        "store" => source = Some(with_frames(2)?),
        "hold" => source = Some(with_frames(4)?),
        "full" => source = Some(with_frames(9)?),
        "locked-fresh" => bpf.lock()?,
        "locked" => {
            source = Some(with_frames(2)?);
            bpf.lock()?;
        }
        "promiscuous" => {
            bpf.attach(&lab.pair.a)?;
            bpf.promiscuous()?;
        }
        "immediate" => {
            bpf.set_immediate(true)?;
            source = Some(with_frames(2)?);
        }
        "non-blocking" => {
            bpf.fd.set_nonblocking(true)?;
            source = Some(with_frames(4)?);
        }
        "filtered" => {
            source = Some(with_frames(2)?);
            bpf.set_filter(bpf::BIOCSETFNR, &REJECT)?;
            source.iter().try_for_each(|source| source.fill(&bpf, 2..5, FRAME))?;
        }
        "departed" => {
            let tap = Cloned::new("tap33").at("tap33")?;
            bpf.attach(tap.name())?;
            tap.destroy().at("tap33")?;
        }
        "revoked" => {
            bpf.attach("lo0")?;
            // Another user, or revoke(2) finds nobody to take it from.
            sys::revoke(&lab.device.node(0)).at("revoke")?;
        }
        other => return Err(format!("no state {other}").into()),
    }
    Ok((bpf, source))
}

fn seen(lab: &Lab, at: &str, probe: &Probe) -> Seen {
    let (bpf, _source) = in_state(lab, at)?;
    let before = state(lab, &bpf);
    let result = probe.apply(&bpf);
    Ok(format!("{result}{}", changes(&before, &state(lab, &bpf))))
}

pub(super) fn looks(lab: &Lab) -> Vec<Look<'_>> {
    let mut looks = Vec::new();
    for at in STATES {
        let whole = move || {
            let (bpf, _source) = in_state(lab, at)?;
            let all = state(lab, &bpf);
            let texts: Vec<_> = all.iter().map(|(name, value)| format!("{name} {value}")).collect();
            Ok(texts.join("; "))
        };
        looks.push(look(format!("{at}/state"), whole));
        for probe in PROBES {
            looks.push(look(format!("{at}/{}", probe.name), move || seen(lab, at, probe)));
        }
    }
    looks
}
