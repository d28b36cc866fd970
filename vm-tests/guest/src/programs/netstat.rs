// SPDX-License-Identifier: BSD-2-Clause
//! netstat -B, which knows only stock bpf(4): what bpfrsstat prints of the same descriptors.

use alloc::string::String;

use super::Cage;
use crate::bpf::{self, Bpf};
use crate::loopback::{Sender, payload, silent_receiver};
use crate::report::Reporter;
use crate::stat;
use crate::sys::Address;
use crate::tests::{Verdict, While, ensure, equal};

const NETSTAT: &str = "/usr/bin/netstat";
const PACKETS: usize = 30;
const PORT: u16 = 40_051;

pub(super) fn run(reporter: &mut Reporter, cage: &Cage) -> bool {
    reporter.case("netstat-prints-the-same", || prints_the_same(cage))
}

fn prints_the_same(cage: &Cage) -> Verdict {
    let bpf = Bpf::open(&cage.device.node(0)).at("open")?;
    bpf.attach("lo0").at("BIOCSETIF")?;
    bpf.set_filter(bpf::BIOCSETF, &bpf::udp_to(PORT, u32::MAX)).at("BIOCSETF")?;
    bpf.promiscuous()?;
    // Another line: other flags, no packets.
    let locked = Bpf::open(&cage.device.node(0)).at("open")?;
    locked.attach("lo0").at("BIOCSETIF")?;
    locked.set_direction(bpf::D_IN)?;
    locked.set_immediate(true)?;
    locked.set_filter(bpf::BIOCSETF, &bpf::REJECT).at("BIOCSETF")?;
    locked.lock()?;
    let to = Address::V4(PORT);
    let _receiver = silent_receiver(to).at("bind")?;
    let to = Sender::new(to).at("socket")?;
    for number in 0..PACKETS {
        to.send(&payload(number)).at("sendto")?;
    }
    let said = cage.finish(NETSTAT, &["-B"])?;
    let descriptors = stat::descriptors("net.bpf")?;
    ensure!(descriptors.len() == 2, "{} descriptors, not 2", descriptors.len());
    let table = bpfrsstat::table(&descriptors, false, |_| Some(String::from("bpfrs-guest")));
    equal!("what netstat -B prints", said, table);
    Ok(())
}
