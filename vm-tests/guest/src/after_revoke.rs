// SPDX-License-Identifier: BSD-2-Clause
//! What goes on after revoke(2): does the interface stay promiscuous, does it feed the dead
//! descriptor, does the sleeper wake, can the node be opened again?

use alloc::format;
use alloc::string::String;
use core::sync::atomic::{AtomicI32, AtomicU32, Ordering::SeqCst};
use core::time::Duration;

use bpfrs_vm_protocol::{AfterRevoke, Message};
use zerocopy::FromZeros;

use crate::arguments::{Arguments, Device};
use crate::bpf::{self, Bpf, REJECT, SOON, WAITING};
use crate::driver::{self, eventually};
use crate::loopback::{Sender, payload};
use crate::report::{self, Reporter};
use crate::sys::{self, Address, Errno, Pid, Result};

pub(crate) fn run(arguments: &Arguments) -> i32 {
    let mut reporter = Reporter::new();
    match after_revoke(arguments.device(), arguments.or("--prefix", "")) {
        Ok(result) => {
            report::human(&format!("{result:?}"));
            reporter.message(&Message::AfterRevoke(result));
            reporter.end();
            0
        }
        Err(errno) => {
            report::human(&format!("bpfrs-guest after-revoke: {errno}"));
            1
        }
    }
}

#[derive(FromZeros)]
#[repr(C)]
struct Shared {
    /// 1: set up, 2: read(2) has returned, 3: close the descriptor.
    stage: AtomicU32,
    /// What read(2) returned: the length, or the negative errno.
    result: AtomicI32,
}

fn after_revoke(device: Device, prefix: &str) -> Result<AfterRevoke> {
    let shared: &Shared = sys::shared()?;
    let path = device.node(0);
    let mut result = AfterRevoke { device: device.pattern.into(), ..AfterRevoke::default() };
    let reader = sys::fork(|| {
        let Ok(bpf) = sleeper(&path) else { return 1 };
        shared.stage.store(1, SeqCst);
        let read = bpf.read();
        let number = match &read {
            Ok(data) => i32::try_from(data.len()).unwrap_or(i32::MAX),
            Err(errno) => -errno.0,
        };
        shared.result.store(number, SeqCst);
        shared.stage.store(2, SeqCst);
        // The dead descriptor stays open until the parent has looked.
        while shared.stage.load(SeqCst) != 3 {
            sys::sleep(Duration::from_millis(1));
        }
        0
    })?;
    let up = eventually(SOON, || {
        shared.stage.load(SeqCst) == 1
            && reader.waits_for().is_some_and(|name| WAITING.contains(&name.as_str()))
    });
    if !up {
        reader.signal(libc::SIGKILL);
        return Err(Errno(libc::EBUSY));
    }
    result.promiscuous_before = bpf::is_promiscuous("lo0")?;
    sys::revoke(&path)?;
    result.reader_woken = eventually(SOON, || shared.stage.load(SeqCst) == 2);
    result.reader_result = match (result.reader_woken, shared.result.load(SeqCst)) {
        (false, _) => String::from("asleep"),
        (true, errno @ ..0) => Errno(-errno).name(),
        (true, length) => format!("{length} bytes"),
    };
    let seen = received_by(reader);
    let sender = Sender::new(Address::V4(9))?;
    for number in 0..20 {
        sender.send(&payload(number))?;
    }
    result.captures_after = match driver::counters(prefix) {
        // Our drivers feed what is live, and nothing else.
        Ok(counters) => Some(counters.live > 0),
        Err(_) => seen.map(|before| received_by(reader).unwrap_or(before) > before),
    };
    result.promiscuous_after = bpf::is_promiscuous("lo0")?;
    result.reopened = eventually(SOON, || Bpf::open(&path).is_ok());
    shared.stage.store(3, SeqCst);
    if sys::wait(reader, SOON).is_none() {
        reader.signal(libc::SIGKILL);
        let _ = sys::wait(reader, SOON);
    }
    result.promiscuous_at_end = bpf::is_promiscuous("lo0")?;
    Ok(result)
}

/// A descriptor on which a read sleeps for ever: no packet passes its filter.
fn sleeper(path: &str) -> Result<Bpf> {
    let bpf = Bpf::open(path)?;
    bpf.attach("lo0")?;
    bpf.promiscuous()?;
    bpf.set_filter(bpf::BIOCSETF, &REJECT)?;
    Ok(bpf)
}

/// Packets that the stock driver's descriptor of this process has seen, if it is attached at all
/// (`net.bpf.stats`: an array of struct xbpf_d, net/bpfdesc.h).
fn received_by(process: Pid) -> Option<u64> {
    const RECEIVED_AT: usize = 32;
    const PID_AT: usize = 72;
    let raw = sys::sysctl("net.bpf.stats").ok()?;
    let size = usize::try_from(sys::parse::<u32>(&raw)?).ok()?;
    raw.chunks_exact(size.max(PID_AT + 4)).find_map(|entry| {
        let pid: i32 = sys::parse(entry.get(PID_AT..)?)?;
        (pid == process.number()).then(|| sys::parse(entry.get(RECEIVED_AT..)?)).flatten()
    })
}
