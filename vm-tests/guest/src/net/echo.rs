// SPDX-License-Identifier: BSD-2-Clause
//! Datagrams to a jail and back, with numbers, so that every lost one is counted.

use alloc::string::ToString;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering::SeqCst};
use core::time::Duration;

use bpfrs_vm_protocol::frame::{ethernet, number_of, size_of};
use bpfrs_vm_protocol::net::Reload;
use bpfrs_vm_protocol::tally::count;
use zerocopy::FromZeros;

use crate::driver::eventually;
use crate::ifnet::Jail;
use crate::sys::{self, Fd, Sockaddr};
use crate::tests::{Child, Trouble, Verdict, equal};

/// Requests under way at once.
const WINDOW: u32 = 8;
/// An answer that takes longer is lost: much longer than a busy host makes a guest stand still.
const LOST: Duration = Duration::from_secs(20);
/// From the first request on, which asks for an address.
const WARM_UP: Duration = Duration::from_secs(20);
const LARGEST: usize = 1472;

/// What client and main process see.
#[derive(FromZeros)]
#[repr(C)]
struct Counts {
    /// 1: stop.
    stop: AtomicU32,
    /// 1: the first answer is there.
    ready: AtomicU32,
    sent: AtomicU64,
    lost: AtomicU64,
    /// With other bytes, or of an earlier window.
    wrong: AtomicU64,
}

/// A server in the jail and a client here.
pub(super) struct Echo {
    name: &'static str,
    counts: &'static Counts,
    client: Child,
    _server: Child,
}

fn socket(port: u16, peer: [u8; 4]) -> sys::Result<Fd> {
    let socket = sys::socket(libc::AF_INET, libc::SOCK_DGRAM, 0)?;
    socket.bind(Sockaddr::inet([0; 4], port))?;
    socket.connect(Sockaddr::inet(peer, port))?;
    Ok(socket)
}

impl Echo {
    /// Starts both; returns when the first answer has come.
    pub(super) fn start(
        name: &'static str,
        jail: &Jail,
        port: u16,
        here: [u8; 4],
        there: [u8; 4],
    ) -> Result<Self, Trouble> {
        let counts: &'static Counts = sys::shared()?;
        let server = jail.start(|| socket(port, here).map_or(1, |socket| serve(&socket)))?;
        let client = Child::start(|| socket(port, there).map_or(1, |socket| ask(&socket, counts)))?;
        eventually(WARM_UP, || counts.ready.load(SeqCst) == 1 || !client.runs());
        equal!(name.to_string() + ": the first answer", counts.ready.load(SeqCst), 1);
        Ok(Self { name, counts, client, _server: server })
    }

    /// Lets the last window come home, and writes down what was counted.
    pub(super) fn stop(self, reload: &mut Reload) -> Verdict {
        self.counts.stop.store(1, SeqCst);
        let Self { name, counts, client, _server } = self;
        let end = client.finish(2 * LOST);
        reload.sent.insert(name.to_string(), counts.sent.load(SeqCst));
        reload.lost.insert(name.to_string(), counts.lost.load(SeqCst));
        equal!(name.to_string() + ": the client's exit", end?, 0);
        equal!(name.to_string() + ": wrong answers", counts.wrong.load(SeqCst), 0);
        Ok(())
    }

    /// Requests lost so far.
    pub(super) fn lost(&self) -> u64 {
        self.counts.lost.load(SeqCst)
    }
}

fn serve(socket: &Fd) -> i32 {
    let mut data = [0; 2048];
    loop {
        // An error of an earlier datagram (ICMP) is told here; the next call is another chance.
        if let Ok(length) = socket.read(&mut data) {
            let _ = socket.write(data.get(..length).unwrap_or_default());
        }
    }
}

/// The datagram of request `number`.
fn request(number: u32) -> Vec<u8> {
    ethernet(number, size_of(number, LARGEST))
}

fn ask(socket: &Fd, counts: &Counts) -> i32 {
    let mut data = [0; 2048];
    let mut answer = |limit: Duration| {
        let ready = socket.poll(libc::POLLIN, Some(limit)).is_ok_and(|events| events != 0);
        ready.then(|| socket.read(&mut data).ok()).flatten().map(|length| data[..length].to_vec())
    };
    // One at a time: while an address is being asked for, only one request waits for it.
    while counts.ready.load(SeqCst) == 0 {
        let _ = socket.write(&request(0));
        if answer(Duration::from_millis(500)).is_some() {
            counts.ready.store(1, SeqCst);
        }
    }
    // Answers to what was asked more than once.
    while answer(Duration::from_millis(500)).is_some() {}
    let mut next = 1;
    while counts.stop.load(SeqCst) == 0 {
        let window = next..next + WINDOW;
        for number in window.clone() {
            count(&counts.sent);
            // A full queue of our own is no excuse: it is lost.
            let _ = socket.write(&request(number));
        }
        let mut answered = 0;
        while answered < WINDOW {
            let Some(data) = answer(LOST) else { break };
            match number_of(&data) {
                Some(number) if window.contains(&number) && data == request(number) => {
                    answered += 1
                }
                _ => count(&counts.wrong),
            }
        }
        counts.lost.fetch_add(u64::from(WINDOW - answered), SeqCst);
        next = window.end;
    }
    0
}
