// SPDX-License-Identifier: BSD-2-Clause
//! The real tcpdump, unmodified: it must capture exactly what is sent, and end when revoked. In a
//! chroot made by cage.sh its /dev/bpfN are nodes of ours.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;
use core::time::Duration;

use zerocopy::{FromBytes, KnownLayout};

use crate::arguments::{Arguments, Device};
use crate::driver::eventually;
use crate::loopback::{Sender, payload};
use crate::report::{self, Reporter};
use crate::stat;
use crate::sys::{self, Address, Fd};
use crate::tests::exact_capture::{TO, check_packet, sender};
use crate::tests::{Child, Trouble, Verdict, While, ensure, equal};

const PROGRAM: &str = "/usr/sbin/tcpdump";
const PATIENCE: Duration = Duration::from_secs(10);
/// tcpdump's read timeout: by then it has what there is.
const TICK: Duration = Duration::from_secs(1);
/// Its file, in its own root.
const CAPTURE: &str = "/tmp/capture.pcap";
const FAMILIES: [Address; 2] = [Address::V4(TO), Address::V6(TO)];

/// Packets by length on the wire and data.
type Capture = Vec<(u32, Vec<u8>)>;

pub(crate) fn run(arguments: &Arguments) -> i32 {
    let count = match arguments.number("--count", 200) {
        Ok(count) => count as usize,
        Err(problem) => {
            report::human(&problem);
            return 2;
        }
    };
    let [Ok(v4), Ok(v6)] = FAMILIES.map(sender) else {
        report::human(&format!("bpfrs-guest tcpdump: port {TO} cannot be had"));
        return 2;
    };
    let senders = [v4, v6];
    let cage = Cage { root: arguments.or("--chroot", "/"), device: arguments.device(), senders };
    let mut reporter = Reporter::new();
    let mut good = reporter.case("tcpdump-captures-exactly", || cage.captures_exactly(count));
    good &= reporter.case("tcpdump-sets-its-buffers", || cage.sets_its_buffers());
    good &= reporter.case("tcpdump-chooses", || cage.chooses());
    // Stock lets it sleep on; ours must not.
    if cage.root != "/" {
        good &= reporter.case("tcpdump-ends-when-revoked", || cage.ends_when_revoked());
    }
    reporter.end();
    i32::from(!good)
}

struct Cage {
    root: &'static str,
    device: Device,
    /// To both families.
    senders: [Sender; 2],
}

impl Cage {
    /// A file's path, seen from outside.
    fn outside(&self, path: &str) -> String {
        format!("{}{path}", self.root.trim_end_matches('/'))
    }

    /// Starts tcpdump and waits until it listens. Its words go to /tmp/tcpdump.said.
    fn start(&self, arguments: &[&str]) -> Result<Child, Trouble> {
        if sys::stat(&self.outside(PROGRAM)).is_err() {
            return Err(Trouble::NotHere("the guest has no tcpdump".into()));
        }
        let said = self.outside("/tmp/tcpdump.said");
        let flags = libc::O_RDWR | libc::O_CREAT | libc::O_TRUNC | libc::O_APPEND;
        let file = Fd::open(&said, flags).at(&said)?;
        let root = self.root;
        let child = Child::start(|| {
            if file.dup_to(1).and_then(|()| file.dup_to(2)).is_err() || sys::chroot(root).is_err() {
                return 126;
            }
            let mut words = vec!["tcpdump"];
            words.extend_from_slice(arguments);
            let _ = sys::exec(PROGRAM, &words);
            127
        })?;
        let listens = || read_file(&said).is_ok_and(|text| contains(&text, b"listening on"));
        let up = eventually(PATIENCE, || listens() || !child.runs());
        let text = read_file(&said).unwrap_or_default();
        ensure!(up && listens(), "tcpdump does not listen: {}", String::from_utf8_lossy(&text));
        Ok(child)
    }

    fn said(&self) -> String {
        let text = read_file(&self.outside("/tmp/tcpdump.said")).unwrap_or_default();
        String::from_utf8_lossy(&text).into_owned()
    }

    /// Starts tcpdump with these options besides; it writes to [`CAPTURE`].
    fn start_capture(&self, options: &[&str]) -> Result<Child, Trouble> {
        let filter = format!("udp and dst port {TO}");
        let words = [&["-n", "-i", "lo0", "-U", "-w", CAPTURE][..], options, &[&filter]].concat();
        self.start(&words)
    }

    /// Sends so many packets of both families, and ends tcpdump when it has `wanted`; its capture.
    fn capture(&self, tcpdump: Child, count: usize, wanted: usize) -> Result<Capture, Trouble> {
        let file = self.outside(CAPTURE);
        for sender in &self.senders {
            for number in 0..count {
                sender.send(&payload(number)).at("sendto")?;
                if number % 20 == 19 {
                    sys::sleep(Duration::from_millis(10));
                }
            }
        }
        let arrived =
            || read_file(&file).ok().and_then(|f| packets(&f).ok()).map_or(0, |p| p.len());
        eventually(PATIENCE, || arrived() >= wanted);
        if wanted == 0 {
            // What should not come has come by then.
            sys::sleep(2 * TICK);
        }
        tcpdump.signal(libc::SIGINT);
        equal!("exit status of tcpdump", tcpdump.finish(PATIENCE)?, 0);
        let capture = packets(&read_file(&file).at(CAPTURE)?)?;
        equal!("packets in tcpdump's file", capture.len(), wanted);
        Ok(capture)
    }

    fn captures_exactly(&self, count: usize) -> Verdict {
        let wanted = FAMILIES.len() * count;
        let capture = self.capture(self.start_capture(&[])?, count, wanted)?;
        for (number, (length, data)) in capture.iter().enumerate() {
            let address = FAMILIES[number / count];
            check_packet(address, number, *length, data, &payload(number % count))?;
        }
        let said = self.said();
        for line in
            [format!("{wanted} packets captured"), "0 packets dropped by kernel".to_string()]
        {
            ensure!(said.contains(&line), "tcpdump did not say '{line}': {said}");
        }
        said.lines().for_each(|line| report::human(&format!("tcpdump: {line}")));
        self.show()
    }

    /// -B: the buffers have the size that was asked for, as the driver says.
    fn sets_its_buffers(&self) -> Verdict {
        let prefix = if self.root == "/" { "net.bpf" } else { "net.bpfrs" };
        for kilobytes in [16, 256] {
            let tcpdump = self.start_capture(&["-B", &kilobytes.to_string()])?;
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
            match self.capture(self.start_capture(&options)?, 20, wanted) {
                Err(Trouble::Wrong(why)) => Err(format!("{}: {why}", options.join(" ")))?,
                other => drop(other?),
            }
        }
        Ok(())
    }

    /// Prints the first packets of the file, as tcpdump does.
    fn show(&self) -> Verdict {
        let flags = libc::O_RDWR | libc::O_CREAT | libc::O_TRUNC | libc::O_APPEND;
        let said = self.outside("/tmp/tcpdump.said");
        let file = Fd::open(&said, flags).at("tcpdump.said")?;
        let root = self.root;
        let child = Child::start(|| {
            if file.dup_to(1).is_err() || file.dup_to(2).is_err() || sys::chroot(root).is_err() {
                return 126;
            }
            let words = ["tcpdump", "-n", "-c", "2", "-r", CAPTURE];
            let _ = sys::exec(PROGRAM, &words);
            127
        })?;
        equal!("exit status of tcpdump -r", child.finish(PATIENCE)?, 0);
        let text = self.said();
        ensure!(text.contains(&format!("127.0.0.1.{TO}: UDP")), "tcpdump -r printed: {text}");
        text.lines().for_each(|line| report::human(&format!("tcpdump: {line}")));
        Ok(())
    }

    fn ends_when_revoked(&self) -> Verdict {
        let tcpdump = self.start(&["-n", "-i", "lo0", "-w", "/dev/null"])?;
        sys::sleep(Duration::from_millis(200));
        ensure!(tcpdump.runs(), "tcpdump ended by itself: {}", self.said());
        for node in 0..16 {
            sys::revoke(&self.device.node(node)).at("revoke")?;
        }
        // It may be about to print; the driver's part takes no time.
        let status = tcpdump.finish(Duration::from_secs(2))?;
        ensure!(status != 0, "tcpdump ended as if nothing had happened: {}", self.said());
        Ok(())
    }
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|window| window == part)
}

fn read_file(path: &str) -> sys::Result<Vec<u8>> {
    let file = Fd::open(path, libc::O_RDONLY)?;
    let mut all = Vec::new();
    let mut block = vec![0; 1 << 16];
    loop {
        match file.read(&mut block)? {
            0 => return Ok(all),
            length => all.extend_from_slice(&block[..length]),
        }
    }
}

/// The packets of a pcap file (native byte order, as written on this machine): each one's length
/// on the wire and its data.
fn packets(file: &[u8]) -> Result<Capture, Trouble> {
    #[derive(FromBytes, KnownLayout)]
    #[repr(C)]
    struct FileHeader {
        magic: u32,
        version: [u16; 2],
        zone: u32,
        accuracy: u32,
        snap_length: u32,
        link_type: u32,
    }
    #[derive(FromBytes, KnownLayout)]
    #[repr(C)]
    struct PacketHeader {
        time: [u32; 2],
        captured: u32,
        length: u32,
    }
    let header: FileHeader = sys::parse(file).ok_or("no pcap file".to_string())?;
    equal!("magic of the pcap file", header.magic, 0xa1b2_c3d4);
    equal!("link type of the pcap file", header.link_type, 0);
    let mut packets = Vec::new();
    let mut rest = file.get(24..).unwrap_or_default();
    while let Some(header) = sys::parse::<PacketHeader>(rest) {
        let end = 16 + header.captured as usize;
        let data = rest.get(16..end).ok_or("the pcap file ends early".to_string())?;
        packets.push((header.length, data.to_vec()));
        rest = rest.get(end..).unwrap_or_default();
    }
    Ok(packets)
}
