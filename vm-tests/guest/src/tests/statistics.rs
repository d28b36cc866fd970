// SPDX-License-Identifier: BSD-2-Clause
//! sysctl(3) `stats`: what netstat -B and bpfrsstat read.

use bpfrsstat::{Descriptor, ZERO};

use super::{Bench, Test, Trouble, Verdict, While, common, ensure, equal, own, refused, send_to};
use crate::bpf::{self, udp_to};
use crate::stat;
use crate::sys::{self, Pid};

pub(super) const TESTS: &[Test] = &[
    common("stats", stats),
    common("stats-are-set-to-zero-only", stats_are_set_to_zero_only),
    own("stats-after-revoke", stats_after_revoke),
];

const PORT: u16 = 40_051;

/// What the driver says of this process' descriptors.
fn mine(bench: &Bench) -> Result<Option<Descriptor>, Trouble> {
    let mut all = stat::descriptors(bench.sysctls())?.into_iter();
    Ok(all.find(|d| d.pid == Pid::current().number()))
}

fn stats(bench: &Bench) -> Verdict {
    let bpf = bench.open()?;
    bpf.set_buffer_length(8192)?;
    ensure!(mine(bench)?.is_none(), "listed without an interface");
    bpf.attach("lo0").at("BIOCSETIF")?;
    bpf.set_filter(bpf::BIOCSETF, &udp_to(PORT, u32::MAX)).at("BIOCSETF")?;
    // What loops back on lo0 comes in.
    bpf.set_direction(bpf::D_IN)?;
    bpf.set_header_complete()?;
    bpf.promiscuous().at("BIOCPROMISC")?;
    send_to(PORT, 0..3)?;
    let got = mine(bench)?.ok_or_else(|| Trouble::Wrong("not listed".into()))?;
    equal!("interface", got.interface(), "lo0");
    equal!("flags", got.flags(), "p------");
    equal!("matched, dropped", (got.matched, got.dropped), (3, 0));
    ensure!(got.received >= 3, "{} received", got.received);
    equal!("bytes", got.stored.cast_unsigned(), bpf.readable()?);
    equal!("on hold, size, mode", (got.held, got.bufsize, got.bufmode), (0, 8192, 1));
    Ok(())
}

fn stats_are_set_to_zero_only(bench: &Bench) -> Verdict {
    let bpf = bench.attached()?;
    bpf.set_filter(bpf::BIOCSETF, &udp_to(PORT, u32::MAX)).at("BIOCSETF")?;
    send_to(PORT, 0..2)?;
    let name = bench.sysctl("stats");
    equal!("too short", sys::set_sysctl(&name, &[0; 8]), refused(libc::EINVAL));
    let mut one = ZERO;
    one[40] = 1;
    equal!("not zero", sys::set_sysctl(&name, &one), refused(libc::EINVAL));
    equal!("before", mine(bench)?.map(|d| d.matched), Some(2));
    sys::set_sysctl(&name, &ZERO).at("zeros")?;
    equal!("after", mine(bench)?.map(|d| d.matched), Some(0));
    Ok(())
}

fn stats_after_revoke(bench: &Bench) -> Verdict {
    let bpf = bench.attached()?;
    ensure!(mine(bench)?.is_some(), "not listed");
    sys::revoke(&bench.path()).at("revoke")?;
    ensure!(mine(bench)?.is_none(), "still listed");
    drop(bpf);
    Ok(())
}
