// SPDX-License-Identifier: BSD-2-Clause
//! tcpdump: it must capture exactly what is sent, and end when revoked.

use alloc::format;
use alloc::string::ToString;
use alloc::vec::Vec;
use core::time::Duration;

use super::pcap::{Capture, DLT_NULL};
use super::{Cage, TCPDUMP};
use crate::bpf::SOON;
use crate::loopback::{Sender, payload};
use crate::report::{self, Reporter};
use crate::stat;
use crate::sys::{self, Address};
use crate::tests::exact_capture::{TO, check_packet, sender};
use crate::tests::{Child, Trouble, Verdict, While, ensure, equal};

/// tcpdump's read timeout: by then it has what there is.
pub(super) const TICK: Duration = Duration::from_secs(1);
const CAPTURE: &str = "/tmp/capture.pcap";
const FAMILIES: [Address; 2] = [Address::V4(TO), Address::V6(TO)];
/// Packets of each family.
const COUNT: usize = 200;

pub(super) fn run(reporter: &mut Reporter, cage: &Cage) -> bool {
    let [Ok(v4), Ok(v6)] = FAMILIES.map(sender) else {
        return reporter.case("tcpdump", || Err(format!("port {TO} cannot be had").into()));
    };
    let loopback = Loopback { cage, senders: [v4, v6] };
    let mut good = reporter.case("tcpdump-captures-exactly", || loopback.captures_exactly());
    good &= reporter.case("tcpdump-sets-its-buffers", || loopback.sets_its_buffers());
    good &= reporter.case("tcpdump-chooses", || loopback.chooses());
    // Stock lets it sleep on; ours must not.
    if !cage.is_stock() {
        good &= reporter.case("tcpdump-ends-when-revoked", || ends_when_revoked(cage));
    }
    good
}

/// tcpdump on lo0.
struct Loopback<'a> {
    cage: &'a Cage,
    /// To both families.
    senders: [Sender; 2],
}

impl Loopback<'_> {
    /// Starts it with these options besides; it writes to [`CAPTURE`].
    fn start(&self, options: &[&str]) -> Result<Child, Trouble> {
        let filter = format!("udp and dst port {TO}");
        let words = [&["-n", "-i", "lo0", "-U", "-w", CAPTURE][..], options, &[&filter]].concat();
        self.cage.tcpdump(&words)
    }

    /// Sends so many packets of both families, and ends tcpdump when it has `wanted`.
    fn capture(&self, tcpdump: Child, count: usize, wanted: usize) -> Result<Capture, Trouble> {
        for sender in &self.senders {
            for number in 0..count {
                sender.send(&payload(number)).at("sendto")?;
                if number % 20 == 19 {
                    sys::sleep(Duration::from_millis(10));
                }
            }
        }
        self.cage.captured(tcpdump, CAPTURE, DLT_NULL, wanted)
    }

    fn captures_exactly(&self) -> Verdict {
        let wanted = FAMILIES.len() * COUNT;
        let capture = self.capture(self.start(&[])?, COUNT, wanted)?;
        for (number, (length, data)) in capture.iter().enumerate() {
            let address = FAMILIES[number / COUNT];
            check_packet(address, number, *length, data, &payload(number % COUNT))?;
        }
        let said = self.cage.said(TCPDUMP);
        for line in
            [format!("{wanted} packets captured"), "0 packets dropped by kernel".to_string()]
        {
            ensure!(said.contains(&line), "tcpdump did not say '{line}': {said}");
        }
        said.lines().for_each(|line| report::human(&format!("tcpdump: {line}")));
        // As it prints them itself.
        let said = self.cage.finish(TCPDUMP, &["-n", "-c", "2", "-r", CAPTURE])?;
        ensure!(said.contains(&format!("127.0.0.1.{TO}: UDP")), "tcpdump -r printed: {said}");
        said.lines().for_each(|line| report::human(&format!("tcpdump: {line}")));
        Ok(())
    }

    /// -B: the buffers have the size that was asked for, as the driver says.
    fn sets_its_buffers(&self) -> Verdict {
        let prefix = if self.cage.is_stock() { "net.bpf" } else { "net.bpfrs" };
        for kilobytes in [16, 256] {
            let tcpdump = self.start(&["-B", &kilobytes.to_string()])?;
            let sizes: Vec<i32> =
                stat::descriptors(prefix)?.iter().map(|descriptor| descriptor.bufsize).collect();
            equal!(format!("buffers with -B {kilobytes}"), sizes, [kilobytes * 1024]);
            self.capture(tcpdump, 20, FAMILIES.len() * 20)?;
        }
        Ok(())
    }

    /// -Q: on lo0 all is received. -j: there is one kind of stamps.
    fn chooses(&self) -> Verdict {
        for (options, share) in [(["-Q", "in"], 1), (["-Q", "out"], 0), (["-j", "host"], 1)] {
            let wanted = share * FAMILIES.len() * 20;
            match self.capture(self.start(&options)?, 20, wanted) {
                Err(Trouble::Wrong(why)) => Err(format!("{}: {why}", options.join(" ")))?,
                other => drop(other?),
            }
        }
        Ok(())
    }
}

fn ends_when_revoked(cage: &Cage) -> Verdict {
    let tcpdump = cage.tcpdump(&["-n", "-i", "lo0", "-w", "/dev/null"])?;
    sys::sleep(Duration::from_millis(200));
    ensure!(tcpdump.runs(), "tcpdump ended by itself: {}", cage.said(TCPDUMP));
    for node in 0..16 {
        sys::revoke(&cage.device.node(node)).at("revoke")?;
    }
    let status = tcpdump.finish(SOON)?;
    ensure!(status != 0, "tcpdump ended as if nothing had happened: {}", cage.said(TCPDUMP));
    Ok(())
}
