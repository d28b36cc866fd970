// SPDX-License-Identifier: BSD-2-Clause
//! Unloading the module: refused while open, forced with sleepers, and load and unload so often
//! that the smallest leak shows.

use alloc::collections::BTreeMap;
use alloc::format;
use core::time::Duration;

use crate::arguments::{Arguments, Device};
use crate::bpf::{self, Bpf, POLL_READ, REJECT, SOON, WAITING};
use crate::driver::{self, eventually};
use crate::report::{self, Reporter};
use crate::sys::{self, Errno, Fd};
use crate::tests::{Child, Trouble, Verdict, While, ensure, equal, kqueue, refused};

pub(crate) fn run(arguments: &Arguments) -> i32 {
    let Some(path) = arguments.get("--module") else {
        report::human("bpfrs-guest unload: --module PATH is needed");
        return 2;
    };
    let count = match arguments.number("--count", 1000) {
        Ok(count) => count,
        Err(problem) => {
            report::human(&problem);
            return 2;
        }
    };
    let module = Module { path, device: arguments.device() };
    let mut reporter = Reporter::new();
    let mut good = reporter.case("unload-is-refused-while-open", || module.refused_while_open());
    good &= reporter.case("forced-unload-ends-sleepers", || module.forced_with_sleepers());
    good &= reporter.case("forced-unload-takes-knotes", || module.forced_with_knotes());
    good &= reporter.case("load-and-unload", || module.many_times(count));
    reporter.end();
    i32::from(!good)
}

/// The driver's module, in a file.
pub(crate) struct Module {
    pub(crate) path: &'static str,
    pub(crate) device: Device,
}

impl Module {
    /// Loads the module, unless it is there.
    pub(crate) fn load(&self) -> Result<i32, Trouble> {
        let name = self.path.rsplit('/').next().unwrap_or(self.path);
        match sys::kldfind(name) {
            Ok(id) => Ok(id),
            Err(_) => sys::kldload(self.path).at("kldload"),
        }
    }

    fn unload(id: i32, force: bool) -> sys::Result<()> {
        sys::kldunload(id, force)
    }

    fn refused_while_open(&self) -> Verdict {
        let id = self.load()?;
        let bpf = Bpf::open(&self.device.node(0)).at("open")?;
        equal!("kldunload while open", Self::unload(id, false), refused(libc::EBUSY));
        bpf.attach("lo0").at("BIOCSETIF after the refusal")?;
        drop(bpf);
        Self::unload_unused(id).at("kldunload with nothing open")?;
        let open = Bpf::open(&self.device.node(0)).map(drop);
        equal!("open of a node that is gone", open, refused(libc::ENOENT));
        Ok(())
    }

    fn forced_with_sleepers(&self) -> Verdict {
        let id = self.load()?;
        let sleeper = |number: usize| {
            let path = self.device.node(number);
            Child::start(move || {
                let Ok(bpf) = Bpf::open(&path) else { return 1 };
                if bpf.attach("lo0").is_err() || bpf.promiscuous().is_err() {
                    return 2;
                }
                if bpf.set_filter(bpf::BIOCSETF, &REJECT).is_err() {
                    return 3;
                }
                if number == 0 {
                    return bpf.read().err().map_or(4, |errno| errno.0);
                }
                match bpf.fd.poll(POLL_READ, None) {
                    Ok(events) if events & libc::POLLHUP != 0 => libc::ENXIO,
                    Ok(_) => 5,
                    Err(errno) => errno.0,
                }
            })
        };
        let (reader, poller) = (sleeper(0)?, sleeper(1)?);
        for sleeper in [&reader, &poller] {
            sleeper.sleeps_in(&WAITING)?;
        }
        equal!("kldunload with sleepers", Self::unload(id, false), refused(libc::EBUSY));
        // In a process of its own: if it hangs, it must not take this one along.
        let forced =
            Child::start(|| Self::unload(id, true).err().map_or(0, |Errno(number)| number))?;
        equal!("errno of the sleeping read", reader.finish(SOON)?, libc::ENXIO);
        equal!("end of the sleeping poll", poller.finish(SOON)?, libc::ENXIO);
        equal!("kldunload -f", forced.finish(SOON)?, 0);
        equal!("lo0 promiscuous", bpf::is_promiscuous("lo0")?, false);
        let open = Bpf::open(&self.device.node(0)).map(drop);
        equal!("open of a node that is gone", open, refused(libc::ENOENT));
        Ok(())
    }

    /// A knote would call the module: it sees the end, and goes before it. Its kqueue and its file
    /// stay, and can be used.
    fn forced_with_knotes(&self) -> Verdict {
        let id = self.load()?;
        let path = self.device.node(0);
        let gone = || Bpf::open(&path).is_err_and(|errno| errno.0 == libc::ENOENT);
        let watcher = Child::start(|| {
            let (Ok(bpf), Ok(queue)) = (Bpf::open(&path), Fd::kqueue()) else { return 1 };
            if queue.register(&bpf.fd, libc::EVFILT_READ, libc::EV_ADD).is_err() {
                return 2;
            }
            if !queue.events(None).is_ok_and(|events| kqueue::is_end(&events)) {
                return 3;
            }
            if !eventually(SOON, gone) {
                return 4;
            }
            sys::sleep(Duration::from_millis(500));
            if queue.register(&bpf.fd, libc::EVFILT_READ, libc::EV_ADD) != refused(libc::ENXIO) {
                return 5;
            }
            match queue.events(Some(Duration::ZERO)) {
                Ok(events) if events.is_empty() => 0,
                _ => 6,
            }
        })?;
        watcher.sleeps_in(&WAITING)?;
        let forced =
            Child::start(|| Self::unload(id, true).err().map_or(0, |Errno(number)| number))?;
        equal!("kldunload -f", forced.finish(SOON)?, 0);
        equal!("the watcher (see its steps)", watcher.finish(2 * SOON)?, 0);
        Ok(())
    }

    /// Loads, uses, unloads. No malloc type may have grown by anything like the number of rounds.
    fn many_times(&self, count: u64) -> Verdict {
        // The first rounds fill caches and make what the kernel makes once.
        const WARM_UP: u64 = 20;
        // Without a devd(8) to read them, the kernel keeps its last thousand notices of new nodes.
        sys::set_sysctl("hw.bus.devctl_queue", &0_i32.to_ne_bytes()).at("hw.bus.devctl_queue")?;
        let mut before = BTreeMap::new();
        for round in 0..WARM_UP + count {
            if round == WARM_UP {
                before = driver::malloc_types().at("kern.malloc_stats")?;
            }
            self.one_round(round).map_err(|trouble| match trouble {
                Trouble::Wrong(why) => Trouble::Wrong(format!("round {round}: {why}")),
                other => other,
            })?;
        }
        let grown = driver::grown(&before, count / 10).at("kern.malloc_stats")?;
        ensure!(grown.is_empty(), "allocations grew in {count} rounds:{grown}");
        Ok(())
    }

    fn one_round(&self, round: u64) -> Verdict {
        let id = self.load()?;
        // A different use each time: none, an open and close, a revoked open that stays behind.
        let node = (round % 7) as usize;
        match round % 3 {
            0 => {}
            1 => {
                let bpf = Bpf::open(&self.device.node(node)).at("open")?;
                bpf.attach("lo0").at("BIOCSETIF")?;
            }
            _ => {
                let bpf = Bpf::open(&self.device.node(node)).at("open")?;
                bpf.attach("lo0").at("BIOCSETIF")?;
                sys::revoke(&self.device.node(node)).at("revoke")?;
            }
        }
        Self::unload_unused(id).at("kldunload")
    }

    /// Unloads it. What a dead open still holds may keep it a moment longer.
    pub(crate) fn unload_unused(id: i32) -> sys::Result<()> {
        let mut result = Ok(());
        eventually(SOON, || {
            result = Self::unload(id, false);
            result.is_ok()
        });
        result
    }
}
