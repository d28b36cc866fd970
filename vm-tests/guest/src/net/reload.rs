// SPDX-License-Identifier: BSD-2-Clause
//! Traffic through a bridge and a VLAN into a jail, while the module is unloaded and loaded: nobody
//! who does not capture may notice.

use alloc::format;
use alloc::vec;
use alloc::vec::Vec;
use core::time::Duration;

use bpfrs_vm_protocol::Message;
use bpfrs_vm_protocol::frame::{BROADCASTS, ethernet, number_of};
use bpfrs_vm_protocol::net::Reload;

use super::echo::Echo;
use super::{STOCK, Subject, counted, listener, writer};
use crate::arguments::Arguments;
use crate::bpf::{Bpf, records};
use crate::driver::{self, eventually};
use crate::ifnet::{self, Cloned, Epair, Jail};
use crate::report;
use crate::sys;
use crate::tests::{Trouble, Verdict, While, ensure, equal};
use crate::unload::Module;

const JAIL: i32 = 79;
/// The first rounds fill caches and make what the kernel makes once.
const WARM_UP: u64 = 5;
/// A capture in the way of the traffic has packets by then.
const TRAFFIC: Duration = Duration::from_secs(5);
/// What stays loaded.
const RESIDENT: &str = "bpfrs_tap.ko";

/// Interfaces that the traffic passes, and that are captured on: a bridge's member, a VLAN's parent,
/// the VLAN.
const CAPTURED: [&str; 3] = ["epair40a", "epair41a", "vlan41"];

/// `net-reload`
pub(crate) fn run(arguments: &Arguments) -> i32 {
    let subject = Subject::new(arguments);
    let count = match arguments.number("--count", 200) {
        Ok(count) => count,
        Err(problem) => {
            report::human(&format!("bpfrs-guest net-reload: {problem}"));
            return 2;
        }
    };
    let spoil = arguments.get("--spoil") == Some("down");
    let module = arguments.get("--module").map(|path| Module { path, device: subject.device });
    super::command("net-reload", |reporter| {
        let mut good = true;
        if !spoil {
            good &= reporter.case("netmap-on-top", || netmap(subject, module.as_ref(), true));
            good &= reporter.case("netmap-beneath", || netmap(subject, module.as_ref(), false));
        }
        let mut reload = Reload::default();
        good & counted(reporter, "reload-under-traffic", &mut reload, Message::Reload, |reload| {
            under_traffic(subject, module.as_ref(), count, spoil, reload)
        })
    })
}

/// A jail that is reached by two ways.
struct Network {
    jail: Jail,
    _interfaces: Vec<Cloned>,
    _pairs: [Epair; 2],
}

impl Network {
    fn new() -> Result<Self, Trouble> {
        let pairs = [Epair::new(40)?, Epair::new(41)?];
        let mut interfaces = vec![];
        for name in ["bridge40", "vlan41"] {
            interfaces.push(Cloned::new(name).at(name)?);
        }
        let jail = Jail::new(JAIL, "vnet path=/")?;
        for pair in &pairs {
            ifnet::move_to_jail(&pair.b, jail.id).at(&pair.b)?;
        }
        for here in [
            "ifconfig bridge40 addm epair40a up",
            "ifconfig bridge40 inet 10.40.0.1/24",
            "ifconfig vlan41 vlan 5 vlandev epair41a up",
            "ifconfig vlan41 inet 10.41.0.1/24",
        ] {
            ifnet::run(here)?;
        }
        for there in [
            "ifconfig epair40b inet 10.40.0.2/24 up",
            "ifconfig epair41b up",
            "ifconfig vlan42 create vlan 5 vlandev epair41b up",
            "ifconfig vlan42 inet 10.41.0.2/24",
        ] {
            ifnet::run_in(jail.id, there)?;
        }
        Ok(Self { jail, _interfaces: interfaces, _pairs: pairs })
    }
}

fn under_traffic(
    subject: Subject,
    module: Option<&Module>,
    count: u64,
    spoil: bool,
    reload: &mut Reload,
) -> Verdict {
    let network = Network::new()?;
    let way =
        |name, port, net| Echo::start(name, &network.jail, port, [10, net, 0, 1], [10, net, 0, 2]);
    let echoes = [way("bridge", 40_040, 40)?, way("vlan", 40_041, 41)?];
    let result = rounds(subject, module, count, &echoes, reload);
    if spoil {
        ifnet::run("ifconfig epair40a down")?;
        sys::sleep(Duration::from_millis(200));
        ifnet::run("ifconfig epair40a up")?;
    }
    let ends = echoes.map(|echo| echo.stop(reload));
    result?;
    ends.into_iter().collect::<Verdict>()?;
    for (way, lost) in &reload.lost {
        equal!(format!("requests lost by way of the {way}"), *lost, 0);
        let sent = reload.sent.get(way).copied().unwrap_or(0);
        ensure!(sent >= 10 * count, "{way}: only {sent} requests in {count} rounds");
    }
    Ok(())
}

fn rounds(
    subject: Subject,
    module: Option<&Module>,
    count: u64,
    echoes: &[Echo],
    reload: &mut Reload,
) -> Verdict {
    let mut before = driver::malloc_types().at("kern.malloc_stats")?;
    for round in 0..WARM_UP + count {
        if round == WARM_UP {
            before = driver::malloc_types().at("kern.malloc_stats")?;
        }
        one_round(subject, module, reload).map_err(|trouble| match trouble {
            Trouble::Wrong(why) => Trouble::Wrong(format!("round {round}: {why}")),
            other => other,
        })?;
        let lost: u64 = echoes.iter().map(Echo::lost).sum();
        ensure!(lost == 0, "round {round}: {lost} requests lost");
        reload.reloads += u64::from(round >= WARM_UP);
    }
    let grown = driver::grown(&before, count / 10).at("kern.malloc_stats")?;
    ensure!(grown.is_empty(), "allocations grew in {count} rounds:{grown}");
    Ok(())
}

/// Loads, captures on every interface at once, unloads.
fn one_round(subject: Subject, module: Option<&Module>, reload: &mut Reload) -> Verdict {
    let id = module.map(Module::load).transpose()?;
    let resident = sys::kldfind(RESIDENT).ok();
    let mut captures = vec![];
    for interface in CAPTURED {
        let bpf = subject.open()?;
        bpf.attach(interface).at(interface)?;
        bpf.promiscuous().at("BIOCPROMISC")?;
        bpf.set_immediate(true)?;
        captures.push((interface, bpf));
    }
    for (interface, bpf) in &captures {
        reload.captured += first_packets(bpf).at(&format!("no traffic on {interface}"))?;
    }
    drop(captures);
    if let Some(id) = id {
        Module::unload_unused(id).at("kldunload")?;
        equal!(format!("{RESIDENT} after it"), sys::kldfind(RESIDENT).ok(), resident);
    }
    Ok(())
}

/// Packets of the first read that has some.
fn first_packets(bpf: &Bpf) -> sys::Result<u64> {
    if bpf.fd.poll(libc::POLLIN, Some(TRAFFIC))? == 0 {
        return Err(sys::Errno(libc::EAGAIN));
    }
    let bytes = bpf.read()?;
    records(&bytes).map(|list| list.len() as u64).map_err(|_| sys::Errno(libc::EINVAL))
}

/// netmap(4) takes an interface over, without its driver's help, and gives it back: first while a
/// capture is there, or before it. Module and capture go meanwhile; the interface works, and a later
/// capture has its packets.
fn netmap(subject: Subject, module: Option<&Module>, on_top: bool) -> Verdict {
    let pair = Epair::new(45)?;
    let far = writer(&pair.b)?;
    let stock = listener(Bpf::open(STOCK).at(STOCK)?, &pair.a)?;
    let mut id = module.map(Module::load).transpose()?;
    // Its functions are called from now on, whoever is in front of them.
    let before = if on_top { Some(listener(subject.open()?, &pair.a)?) } else { None };
    let taken = ifnet::netmap(&pair.a)?;
    let capture = match before {
        Some(capture) => capture,
        None => listener(subject.open()?, &pair.a)?,
    };
    far.fd.write(&ethernet(BROADCASTS, 100)).at("write")?;
    // With a frame in hand when it goes, netmap(4) may call a pointer that it has just cleared.
    let arrived = taken.poll(libc::POLLIN, Some(TRAFFIC)).at("poll of netmap")?;
    ensure!(arrived & libc::POLLIN != 0, "netmap has no frame");
    if on_top {
        drop(capture);
        id = again(module, id)?;
        taken.close().at("leaving netmap")?;
    } else {
        taken.close().at("leaving netmap")?;
        drop(capture);
        id = again(module, id)?;
    }
    let capture = listener(subject.open()?, &pair.a)?;
    stock.flush()?;
    for number in BROADCASTS..BROADCASTS + 8 {
        far.fd.write(&ethernet(number, 100)).at("write")?;
    }
    for (name, bpf) in [("stock", &stock), ("the subject", &capture)] {
        let mut frames = 0;
        eventually(TRAFFIC, || {
            let bytes = bpf.read().unwrap_or_default();
            let records = records(&bytes).unwrap_or_default();
            frames += records.iter().filter(|r| number_of(&r.data).is_some()).count();
            frames >= 8
        });
        equal!(format!("frames that {name} captures afterwards"), frames, 8);
    }
    drop(capture);
    if let Some(id) = id {
        Module::unload_unused(id).at("kldunload")?;
    }
    Ok(())
}

/// Unloads the module, and loads it.
fn again(module: Option<&Module>, id: Option<i32>) -> Result<Option<i32>, Trouble> {
    if let Some(id) = id {
        Module::unload_unused(id).at("kldunload")?;
    }
    module.map(Module::load).transpose()
}
