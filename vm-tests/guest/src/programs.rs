// SPDX-License-Identifier: BSD-2-Clause
//! Programs of others, unmodified. In a chroot made by cage.sh their /dev/bpfN are nodes of
//! ours.

pub(crate) mod atf;
mod bittwist;
mod netstat;
mod pcap;
mod tcpdump;

use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use core::time::Duration;

use crate::arguments::{Arguments, Device};
use crate::driver::eventually;
use crate::report::Reporter;
use crate::sys::{self, Fd};
use crate::tests::{Child, Trouble, While, ensure};
use pcap::Capture;

const PATIENCE: Duration = Duration::from_secs(60);
const TCPDUMP: &str = "/usr/sbin/tcpdump";

/// `programs`
pub(crate) fn run(arguments: &Arguments) -> i32 {
    let cage = Cage { root: arguments.or("--chroot", "/"), device: arguments.device() };
    let mut reporter = Reporter::new();
    let spoil = arguments.has("--spoil");
    let mut good = bittwist::run(&mut reporter, &cage, spoil);
    if !spoil {
        good &= tcpdump::run(&mut reporter, &cage);
        if cage.is_stock() {
            good &= netstat::run(&mut reporter, &cage);
        }
    }
    reporter.end();
    i32::from(!good)
}

/// Where a program's words go, in its own root.
fn said_file(program: &str) -> String {
    format!("/tmp/{}.said", program.rsplit('/').next().unwrap_or(program))
}

/// Where a program runs.
struct Cage {
    root: &'static str,
    device: Device,
}

impl Cage {
    /// Whether it is the whole system, with its own bpf(4).
    fn is_stock(&self) -> bool {
        self.root == "/"
    }

    /// A file's path, seen from outside.
    fn outside(&self, path: &str) -> String {
        format!("{}{path}", self.root.trim_end_matches('/'))
    }

    fn create(&self, path: &str) -> Result<Fd, Trouble> {
        let flags = libc::O_RDWR | libc::O_CREAT | libc::O_TRUNC | libc::O_APPEND;
        Fd::open(&self.outside(path), flags).at(path)
    }

    fn read(&self, path: &str) -> sys::Result<Vec<u8>> {
        let file = Fd::open(&self.outside(path), libc::O_RDONLY)?;
        let mut all = Vec::new();
        let mut block = vec![0; 1 << 16];
        loop {
            match file.read(&mut block)? {
                0 => return Ok(all),
                length => all.extend_from_slice(&block[..length]),
            }
        }
    }

    /// What a program said when it ran last.
    fn said(&self, program: &str) -> String {
        String::from_utf8_lossy(&self.read(&said_file(program)).unwrap_or_default()).into_owned()
    }

    /// Starts a program.
    fn start(&self, program: &str, arguments: &[&str]) -> Result<Child, Trouble> {
        if sys::stat(&self.outside(program)).is_err() {
            return Err(Trouble::NotHere(format!("the guest has no {program}")));
        }
        let file = self.create(&said_file(program))?;
        let root = self.root;
        Child::start(|| {
            if file.dup_to(1).and_then(|()| file.dup_to(2)).is_err()
                || sys::lead_a_group().is_err()
                || sys::chroot(root).is_err()
            {
                return 126;
            }
            let _ = sys::exec(program, &[&[program][..], arguments].concat());
            127
        })
    }

    /// Runs a program; what it said.
    fn finish(&self, program: &str, arguments: &[&str]) -> Result<String, Trouble> {
        let status = self.start(program, arguments)?.finish(PATIENCE)?;
        let said = self.said(program);
        ensure!(status == 0, "{program}: exit status {status}: {said}");
        Ok(said)
    }

    /// Starts tcpdump, and waits until it listens.
    fn tcpdump(&self, arguments: &[&str]) -> Result<Child, Trouble> {
        let child = self.start(TCPDUMP, arguments)?;
        let listens = || self.said(TCPDUMP).contains("listening on");
        let up = eventually(PATIENCE, || listens() || !child.runs());
        ensure!(up && listens(), "tcpdump does not listen: {}", self.said(TCPDUMP));
        Ok(child)
    }

    /// Ends tcpdump when there are so many packets in its file; the packets.
    fn captured(
        &self,
        tcpdump: Child,
        file: &str,
        link_type: u32,
        wanted: usize,
    ) -> Result<Capture, Trouble> {
        let capture = || pcap::packets(&self.read(file).at(file)?, link_type);
        eventually(PATIENCE, || capture().is_ok_and(|packets| packets.len() >= wanted));
        if wanted == 0 {
            // What should not come has come by then.
            sys::sleep(2 * tcpdump::TICK);
        }
        tcpdump.signal(libc::SIGINT);
        let status = tcpdump.finish(PATIENCE)?;
        ensure!(status == 0, "tcpdump: exit status {status}: {}", self.said(TCPDUMP));
        let packets = capture()?;
        ensure!(
            packets.len() == wanted,
            "{} packets in tcpdump's file, not {wanted}",
            packets.len()
        );
        Ok(packets)
    }
}
