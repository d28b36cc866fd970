// SPDX-License-Identifier: BSD-2-Clause
//! Sequences of everything that can happen to a descriptor, in one thread: no
//! call of it may wait. The host body checks every step.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arbitrary::{Arbitrary, Unstructured};
use bpfrs::kpi::abi::{bpf_dltlist, bpf_insn, bpf_program, ifreq, timeval};
use bpfrs::kpi::host::{self, Chain, File, Hook, Interface, Mount, Thread, Tunable, Unmapped};
use bpfrs::kpi::stats;
use bpfrs_sys::bpfrs_const::BPFRS_POLLHUP;
use bpfrs_sys::bpfrs_ioc::*;

use super::{Words, get, session, set};

/// A small number of things, by number.
#[derive(Arbitrary, Clone, Copy, Debug)]
struct Pick(u8);

impl Pick {
    fn of<T: Copy>(self, things: &[T]) -> T {
        things[usize::from(self.0) % things.len()]
    }
}

/// Where in user memory an argument is.
#[derive(Arbitrary, Clone, Copy, Debug)]
enum Place {
    Mapped,
    Unmapped,
    Null,
}

#[derive(Arbitrary, Clone, Copy, Debug)]
enum Ioctl {
    Plain(Pick),
    Word(Pick, u32),
    Half(Pick, [u32; 2]),
    Timeval(i64, i64),
    Zbuf(Pick, [u32; 6]),
    SetIf(Pick),
    GetIf,
    Filter {
        command: Pick,
        len: u16,
        insn: (u8, u8, u8, u8),
        snaplen: u32,
        place: Place,
    },
    DltList {
        len: u32,
        place: Place,
    },
    Owner {
        command: Pick,
        owner: i8,
    },
    /// A number that may be that of a command; the size of its argument.
    Unknown(u16, Pick),
}

#[derive(Arbitrary, Clone, Copy, Debug)]
enum Op {
    Open(Pick, Pick),
    OpenWithout(Pick),
    Stat(Pick, Pick),
    Ioctl(Pick, Ioctl),
    Listen(Pick, Pick),
    Read {
        file: Pick,
        size: Option<u16>,
        place: Place,
    },
    Poll {
        file: Pick,
        events: u8,
        signal: bool,
    },
    Packet {
        interface: Pick,
        len: u16,
        cut: u8,
        header: u8,
        inbound: bool,
        unmapped: bool,
    },
    Revoke(Pick, Pick),
    RevokeInside(Pick, Pick),
    Unmount(Pick),
    Dup(Pick),
    Close(Pick),
    CloseWithout(Pick),
    Depart(Pick),
    Arrive(Pick),
    Rename(Pick, Pick),
    /// To another network stack and back.
    Move(Pick),
    /// BIOCPROMISC on an interface that cannot.
    PromiscFails(Pick, Pick, u8),
    Tunable(Pick, u16),
    /// Grace periods end here, and with an unload, only.
    Settle,
    Unload(bool),
    Hook {
        hook: Pick,
        act: Act,
        other_thread: bool,
    },
    /// A link header of `header` and zeros, or nothing of it.
    Write {
        file: Pick,
        len: u16,
        header: u8,
        place: Place,
    },
}

/// What happens at a hook, once.
#[derive(Arbitrary, Clone, Copy, Debug)]
enum Act {
    Packet,
    Open(Pick, Pick),
    Close(Pick),
    Read(Pick),
    Ioctl(Pick, Ioctl),
    Revoke(Pick, Pick),
    Unmount(Pick),
    Depart(Pick),
}

const UNITS: [i32; 6] = [0, 0, 1, 2, 255, 256];
const NAMES: [&str; 5] = ["lo0", "lo0", "lo1", "em0", "an interface name that is too long"];

const PLAIN: [u64; 3] = [BPFRS_BIOCFLUSH, BPFRS_BIOCPROMISC, BPFRS_BIOCLOCK];
const WORD: [u64; 24] = [
    BPFRS_BIOCGBLEN,
    BPFRS_BIOCSBLEN,
    BPFRS_BIOCGDLT,
    BPFRS_BIOCSDLT,
    BPFRS_BIOCIMMEDIATE,
    BPFRS_BIOCVERSION,
    BPFRS_BIOCGRSIG,
    BPFRS_BIOCSRSIG,
    BPFRS_BIOCGHDRCMPLT,
    BPFRS_BIOCSHDRCMPLT,
    BPFRS_BIOCGDIRECTION,
    BPFRS_BIOCSDIRECTION,
    BPFRS_BIOCFEEDBACK,
    BPFRS_BIOCGETBUFMODE,
    BPFRS_BIOCSETBUFMODE,
    BPFRS_BIOCGTSTAMP,
    BPFRS_BIOCSTSTAMP,
    BPFRS_BIOCSETVLANPCP,
    BPFRS_FIONREAD,
    BPFRS_FIONBIO,
    BPFRS_FIOASYNC,
    BPFRS_FIOGETOWN,
    BPFRS_TIOCGPGRP,
    BPFRS_BIOCSTSTAMP,
];
const HALF: [u64; 2] = [BPFRS_BIOCGSTATS, BPFRS_BIOCGETZMAX];
const ZBUF: [u64; 2] = [BPFRS_BIOCROTZBUF, BPFRS_BIOCSETZBUF];
const FILTER: [u64; 3] = [BPFRS_BIOCSETF, BPFRS_BIOCSETFNR, BPFRS_BIOCSETWF];
const OWNER: [u64; 2] = [BPFRS_FIOSETOWN, BPFRS_TIOCSPGRP];
/// With pointers, which must not be just any.
const POINTERS: [u64; 4] = [BPFRS_BIOCSETF, BPFRS_BIOCSETFNR, BPFRS_BIOCSETWF, BPFRS_BIOCGDLTLIST];

/// A descriptor; `open` is the same in those that were duplicated.
#[derive(Clone)]
struct Entry {
    file: File,
    open: usize,
}

/// What a sequence works on. No lock is held while the driver is called.
struct World {
    files: Mutex<[Option<Entry>; 8]>,
    opens: AtomicUsize,
    interfaces: Mutex<Vec<Interface>>,
    mounts: [Mount; 3],
    /// Who is in read(2), as `open` + 1: another reader of the same open would
    /// wait for the copy, O_NONBLOCK or not.
    reading: AtomicUsize,
    /// Vnodes are on their way out: who looks one up would wait for them.
    dooming: AtomicUsize,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Memory as a program gives it to the kernel.
fn placed<T, R>(memory: &mut [T], place: Place, call: impl FnOnce(*mut T) -> R) -> R {
    let unmapped = matches!(place, Place::Unmapped).then(|| Unmapped::new(memory));
    let at = if matches!(place, Place::Null) { std::ptr::null_mut() } else { memory.as_mut_ptr() };
    let result = call(at);
    drop(unmapped);
    result
}

impl World {
    fn file(&self, pick: Pick) -> Option<Entry> {
        let files = lock(&self.files);
        let open: Vec<&Entry> = files.iter().flatten().collect();
        (!open.is_empty()).then(|| open[usize::from(pick.0) % open.len()].clone())
    }

    /// Keeps it, or closes it if there are too many.
    fn keep(&self, entry: Entry) {
        let mut files = lock(&self.files);
        let Some(place) = files.iter_mut().find(|place| place.is_none()) else {
            drop(files);
            return entry.file.close();
        };
        *place = Some(entry);
    }

    fn open(&self, mount: Pick, unit: Pick) {
        if self.dooming.load(Ordering::Relaxed) != 0 {
            return;
        }
        if let Ok(file) = mount.of(&self.mounts).open(unit.of(&UNITS)) {
            self.keep(Entry { file, open: self.opens.fetch_add(1, Ordering::Relaxed) });
        }
    }

    fn close(&self, pick: Pick) {
        let entry = {
            let mut files = lock(&self.files);
            let mut open: Vec<_> = files.iter_mut().filter(|place| place.is_some()).collect();
            let at = usize::from(pick.0) % open.len().max(1);
            open.get_mut(at).and_then(|place| place.take())
        };
        if let Some(Entry { file, .. }) = entry {
            let doomed = file.is_revoked();
            self.dooming.fetch_add(doomed.into(), Ordering::Relaxed);
            file.close();
            self.dooming.fetch_sub(doomed.into(), Ordering::Relaxed);
        }
    }

    /// Does what dooms vnodes, if they are not being doomed already.
    fn doom<R>(&self, body: impl FnOnce() -> R) -> Option<R> {
        let result = (self.dooming.fetch_add(1, Ordering::Relaxed) == 0).then(body);
        self.dooming.fetch_sub(1, Ordering::Relaxed);
        result
    }

    fn interface(&self, pick: Pick) -> Option<Interface> {
        let interfaces = lock(&self.interfaces);
        (!interfaces.is_empty()).then(|| interfaces[usize::from(pick.0) % interfaces.len()].clone())
    }

    fn depart(&self, pick: Pick) {
        let interface = {
            let mut interfaces = lock(&self.interfaces);
            // lo0, the first, stays.
            let others = interfaces.len().saturating_sub(1);
            (others != 0).then(|| interfaces.remove(1 + usize::from(pick.0) % others))
        };
        if let Some(interface) = interface {
            interface.depart();
            assert!(!interface.is_tapped(), "a departed interface is tapped");
        }
    }

    fn read(&self, Entry { file, open }: &Entry, size: Option<u16>, place: Place) {
        if self.reading.load(Ordering::Relaxed) == open + 1 {
            return;
        }
        let outer = self.reading.swap(open + 1, Ordering::Relaxed);
        let size = size
            .map_or_else(|| get(file, BPFRS_BIOCGBLEN, 0u32).unwrap_or(0) as usize, usize::from);
        let mut buffer = vec![0; size];
        let unmapped = matches!(place, Place::Unmapped).then(|| Unmapped::new(&buffer));
        let read = file.read(&mut buffer, true);
        drop(unmapped);
        self.reading.store(outer, Ordering::Relaxed);
        assert!(read.is_err() || read.is_ok_and(|len| len <= size));
    }

    fn ioctl(&self, file: &File, ioctl: Ioctl) {
        // Every answer is right that breaks no rule of the host body.
        let _ = match ioctl {
            Ioctl::Plain(command) => file.ioctl0(command.of(&PLAIN)),
            Ioctl::Word(command, value) => set(file, command.of(&WORD), value),
            Ioctl::Half(command, value) => set(file, command.of(&HALF), Words(value)),
            Ioctl::Zbuf(command, value) => set(file, command.of(&ZBUF), Words(value)),
            Ioctl::Timeval(tv_sec, tv_usec) => {
                // Minutes and less, or anything.
                let (sec, usec) = (tv_sec % 100, tv_usec % 2_000_000);
                let any = tv_sec % 3 == 0;
                let (tv_sec, tv_usec) = if any { (tv_sec, tv_usec) } else { (sec, usec) };
                set(file, BPFRS_BIOCSRTIMEOUT, timeval { tv_sec, tv_usec })
                    .and_then(|()| set(file, BPFRS_BIOCGRTIMEOUT, timeval { tv_sec, tv_usec }))
            }
            Ioctl::SetIf(name) => set(file, BPFRS_BIOCSETIF, request(name.of(&NAMES))),
            Ioctl::GetIf => set(file, BPFRS_BIOCGETIF, request("")),
            Ioctl::Filter { command, len, insn: (code, jt, jf, k), snaplen, place } => {
                let len = u32::from(len % 600);
                let code = if code % 2 == 0 { 0 } else { code.into() };
                let mut insns = vec![bpf_insn { code, jt, jf, k: k.into() }; len as usize];
                if let Some(last) = insns.last_mut() {
                    *last = bpf_insn { code: 0x06, jt: 0, jf: 0, k: snaplen };
                }
                placed(&mut insns, place, |bf_insns| {
                    set(file, command.of(&FILTER), bpf_program { bf_len: len, bf_insns })
                })
            }
            Ioctl::DltList { len, place } => placed(&mut [0u32; 4], place, |bfl_list| {
                set(file, BPFRS_BIOCGDLTLIST, bpf_dltlist { bfl_len: len, bfl_list })
            }),
            Ioctl::Owner { command, owner } => {
                let me = std::process::id().cast_signed();
                let owner = match owner {
                    1 => me,
                    -1 => -me,
                    other => other.into(),
                };
                set(file, command.of(&OWNER), owner)
            }
            Ioctl::Unknown(number, size) => {
                let size = size.of(&[0u64, 4, 8, 16, 24, 32, 64]);
                let direction = if size == 0 { 0x2000_0000 } else { 0xc000_0000 };
                let command = direction | size << 16 | u64::from(number);
                // Not as an argument of any bytes.
                if POINTERS.iter().any(|known| known & 0x1fff_ffff == command & 0x1fff_ffff) {
                    return;
                }
                match size {
                    0 => file.ioctl0(command),
                    4 => set(file, command, Words([7; 1])),
                    8 => set(file, command, Words([7; 2])),
                    16 => set(file, command, Words([7; 4])),
                    24 => set(file, command, Words([7; 6])),
                    32 => set(file, command, Words([7; 8])),
                    _ => set(file, command, Words([7; 16])),
                }
            }
        };
    }

    fn act(&self, act: Act) {
        match act {
            Act::Packet => host::inject("lo0", 2, &[&[0x45; 30]]),
            Act::Open(mount, unit) => self.open(mount, unit),
            Act::Close(file) => self.close(file),
            Act::Read(file) => {
                if let Some(entry) = self.file(file) {
                    self.read(&entry, None, Place::Mapped);
                }
            }
            Act::Ioctl(file, ioctl) => {
                if let Some(Entry { file, .. }) = self.file(file) {
                    self.ioctl(&file, ioctl);
                }
            }
            Act::Revoke(mount, unit) => {
                self.doom(|| mount.of(&self.mounts).revoke(unit.of(&UNITS)));
            }
            Act::Unmount(mount) => {
                self.doom(|| mount.of(&self.mounts).unmount());
            }
            Act::Depart(interface) => self.depart(interface),
        }
    }

    /// An open is live exactly if a descriptor of it works, and no two of a
    /// node are (I2, I3).
    fn check(&self) {
        let files: Vec<Entry> = lock(&self.files).iter().flatten().cloned().collect();
        // EINTR, from a signal that is pending, is no hang-up.
        let works = |entry: &&Entry| entry.file.poll(0, Some(Duration::ZERO)) != Ok(BPFRS_POLLHUP);
        let mut live: Vec<usize> = files.iter().filter(works).map(|entry| entry.open).collect();
        live.dedup();
        live.sort_unstable();
        live.dedup();
        assert_eq!(stats::read(stats::LIVE), live.len() as u64, "live opens");
    }
}

fn request(name: &str) -> ifreq {
    let mut request = ifreq { ifr_name: [0; 16], ifr_rest: [0; 16] };
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *to = from.cast_signed();
    }
    request
}

fn step(world: &Arc<World>, op: Op) {
    let on_file = |pick, act: &dyn Fn(&File)| {
        if let Some(Entry { file, .. }) = world.file(pick) {
            act(&file);
        }
    };
    let on_interface = |pick, act: &dyn Fn(&Interface)| {
        if let Some(interface) = world.interface(pick) {
            act(&interface);
        }
    };
    match op {
        Op::Open(mount, unit) => world.open(mount, unit),
        // It has no file to come back by: refused.
        Op::OpenWithout(unit) => assert!(File::open_without(unit.of(&UNITS)).is_err()),
        Op::Stat(mount, unit) => drop(mount.of(&world.mounts).stat(unit.of(&UNITS))),
        Op::Ioctl(file, ioctl) => on_file(file, &|file| world.ioctl(file, ioctl)),
        Op::Listen(file, size) => on_file(file, &|file| {
            let _ = set(file, BPFRS_BIOCSBLEN, 32 + u32::from(size.0));
            let _ = set(file, BPFRS_BIOCSETIF, request("lo0"));
            let _ = set(file, BPFRS_BIOCIMMEDIATE, u32::from(size.0) % 2);
        }),
        Op::Read { file, size, place } => {
            if let Some(entry) = world.file(file) {
                world.read(&entry, size, place);
            }
        }
        Op::Write { file, len, header, place } => on_file(file, &|file| {
            let mut packet = vec![0; usize::from(len % 20_000)];
            if let Some(first) = packet.first_mut() {
                *first = header;
            }
            let unmapped = matches!(place, Place::Unmapped).then(|| Unmapped::new(&packet));
            let written = file.write(&packet);
            drop(unmapped);
            assert!(written.is_err() || written == Ok(packet.len()));
        }),
        Op::Poll { file, events, signal } => on_file(file, &|file| {
            if signal {
                Thread::current().signal();
            }
            let _ = file.poll(events.into(), Some(Duration::ZERO));
        }),
        Op::Packet { interface, len, cut, header, inbound, unmapped } => {
            on_interface(interface, &|interface| {
                let packet = vec![header; usize::from(len % 1024)];
                let (start, rest) = packet.split_at(usize::from(cut).min(packet.len()));
                let chain = Chain::new(&[start, rest]);
                let chain = if unmapped { chain.unmapped() } else { chain };
                interface.pass_raw(&[header; 8][..usize::from(header % 9)], &chain, inbound);
            });
        }
        Op::Revoke(mount, unit) => world.act(Act::Revoke(mount, unit)),
        // No operation runs on a file that is revoked.
        Op::RevokeInside(file, unit) => on_file(file, &|file| {
            if file.is_revoked() {
                return;
            }
            world.doom(|| host::revoke_inside(file, unit.of(&UNITS)));
        }),
        Op::Unmount(mount) => world.act(Act::Unmount(mount)),
        Op::Dup(file) => {
            if let Some(entry) = world.file(file) {
                world.keep(entry);
            }
        }
        Op::Close(file) => world.close(file),
        Op::CloseWithout(file) => on_file(file, &File::close_without),
        Op::Depart(interface) => world.depart(interface),
        Op::Arrive(name) => {
            let name = name.of(&NAMES[2..]);
            let mut interfaces = lock(&world.interfaces);
            if interfaces.len() < 4 {
                let new = if name == "em0" { Interface::ethernet } else { Interface::loopback };
                interfaces.push(new(name));
            }
        }
        Op::Rename(interface, name) => {
            // lo0 keeps its name: others look for it.
            let interfaces = lock(&world.interfaces);
            let others = &interfaces[1..];
            if let Some(interface) = others.get(usize::from(interface.0) % others.len().max(1)) {
                interface.rename(name.of(&NAMES[2..]));
            }
        }
        Op::Move(interface) => on_interface(interface, &Interface::move_and_return),
        Op::PromiscFails(file, interface, error) => on_file(file, &|file| {
            on_interface(interface, &|interface| {
                interface.set_promisc_error(i32::from(error % 48));
                let _ = file.ioctl0(BPFRS_BIOCPROMISC);
                interface.set_promisc_error(0);
            });
        }),
        Op::Tunable(which, value) => {
            let which =
                which.of(&[Tunable::Bufsize, Tunable::Maxbufsize, Tunable::Maxinsns, Tunable::Jit]);
            host::set_tunable(which, value.into());
        }
        Op::Settle => host::settle(),
        Op::Unload(force) => {
            host::settle();
            if world.doom(|| host::unload(force)) == Some(Ok(())) {
                host::load().expect("the module loads again");
            }
        }
        Op::Hook { hook, act, other_thread } => {
            let hook = hook.of(&[Hook::Open, Hook::Close, Hook::Copy]);
            let (world, once) = (Arc::clone(world), Mutex::new(Some(act)));
            host::set_hook(
                hook,
                Some(Arc::new(move || {
                    let Some(act) = lock(&once).take() else { return };
                    if other_thread {
                        std::thread::scope(|scope| {
                            scope.spawn(|| world.act(act));
                        });
                    } else {
                        world.act(act);
                    }
                })),
            );
        }
    }
}

/// One sequence.
pub fn run(data: &[u8]) {
    session(data, || {
        let closes = [stats::CLOSES_ZERO, stats::CLOSES_ONE, stats::CLOSES_TWO, stats::CLOSES_MORE];
        let ended = || closes.map(stats::read).iter().sum::<u64>();
        let before = (ended(), stats::read(stats::OPENS));
        let lo0 = Interface::named("lo0").expect("lo0");
        let world = Arc::new(World {
            files: Mutex::new([const { None }; 8]),
            opens: AtomicUsize::new(0),
            interfaces: Mutex::new(vec![lo0.clone()]),
            mounts: [Mount::DEV, Mount::DEV, Mount::new()],
            reading: AtomicUsize::new(0),
            dooming: AtomicUsize::new(0),
        });
        let mut u = Unstructured::new(data);
        for _ in 0..32 {
            // What is left may be too short for another one.
            let Ok(op) = (if u.is_empty() { break } else { u.arbitrary() }) else { break };
            super::trace(&op);
            step(&world, op);
            world.check();
        }

        for hook in [Hook::Open, Hook::Close, Hook::Copy] {
            host::set_hook(hook, None);
        }
        while lock(&world.files).iter().any(Option::is_some) {
            world.close(Pick(0));
        }
        while lock(&world.interfaces).len() > 1 {
            world.depart(Pick(0));
        }
        assert_eq!(lo0.promisc(), 0, "promiscuous mode of nobody");
        let after = (ended(), stats::read(stats::OPENS));
        assert_eq!(after.0 - before.0, after.1 - before.1, "every open ended once");
    });
}
