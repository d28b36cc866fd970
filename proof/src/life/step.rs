// SPDX-License-Identifier: BSD-2-Clause
//! The steps: what each thread does next, in devfs and in the driver.
//!
//! A step is one lock section, or one atomic operation on what others see.

use super::broken::Broken;
use super::scene::{Role, Scene};
use super::world::{BpfD, Cause, FileState, Memory, Pc, Phase, VnodeState, World};
use super::{Action, Invariant};

/// What a step says it did, if anybody listens.
pub(super) struct Log(pub(super) Option<String>);

/// Tells the log; nothing is formatted if nobody listens.
macro_rules! say {
    ($step:ident, $($arg:tt)*) => {
        if let Some(line) = &mut $step.log.0 {
            use std::fmt::Write as _;
            write!(line, $($arg)*).expect("a String");
        }
    };
}

// They use the macro.
mod devfs;
mod driver;

/// Whether `action` can happen now.
pub(super) fn ready(scene: &Scene, w: &World, action: Action) -> bool {
    match action {
        Action::Callback(d) => w.open(d).memory == Memory::Deferred(0),
        Action::Signal(thread) => w.threads[usize::from(thread)].pc == Pc::Asleep,
        Action::Step(thread) => ready_to_step(scene, w, usize::from(thread)),
    }
}

fn ready_to_step(scene: &Scene, w: &World, number: usize) -> bool {
    let thread = &w.threads[number];
    let unlocked = || thread.d.is_none_or(|d| !w.open(d).locked);
    match thread.pc {
        Pc::Start => ready_to_start(scene, w, number),
        Pc::Done | Pc::Asleep => false,
        Pc::Idle => {
            let file = number as u8;
            !w.is_used(scene.roles, file) && !w.vnode(w.files[number].vnode).locked
        }
        Pc::Selecting => thread.d.is_none_or(|d| w.open(d).selecting & (1 << number) == 0),
        Pc::OpenBegin
        | Pc::ReadLock
        | Pc::Woken
        | Pc::Signalled
        | Pc::Copy
        | Pc::PollLock
        | Pc::AttachLock
        | Pc::PacketLock
        | Pc::Judge
        | Pc::EndWake
        | Pc::EndMark
        | Pc::EndDetach
        | Pc::EndDrain => unlocked(),
        Pc::EndWait => !w.threads.iter().any(|t| t.pc == Pc::Asleep && t.d == thread.d),
        Pc::DestroyWait => w.nodes[usize::from(thread.at)].inside == 0,
        Pc::Drain => w.opens.iter().all(|open| matches!(open.memory, Memory::None | Memory::Freed)),
        _ => true,
    }
}

fn ready_to_start(scene: &Scene, w: &World, number: usize) -> bool {
    let roles = scene.roles;
    // Of two that do the same the first one starts first: who is who makes no
    // difference. Of files it does, because others have their numbers.
    let same = number > 0 && roles[number - 1] == roles[number];
    let is_file = matches!(roles[number], Role::File { .. });
    if same && !is_file && w.threads[number - 1].pc == Pc::Start {
        return false;
    }
    let valid = |node, mount| {
        w.known_vnode(node, mount).is_none_or(|v| w.vnode(v).state == VnodeState::Valid)
    };
    match roles[number] {
        Role::File { node, mount } => valid(node, mount),
        Role::Reader { file } | Role::Poller { file } | Role::Attacher { file } => {
            matches!(w.files[usize::from(file)].state, FileState::Open)
        }
        Role::Packet => w.opens.iter().any(|open| open.attached),
        Role::Revoker { node, mount, inside } => {
            let used = |v: &super::world::Vnode| v.node == node && v.users > 0;
            // sys_revoke: nothing to do if nobody uses it.
            valid(node, mount)
                && w.find_vnode(used).is_some()
                && inside.is_none_or(|file| w.files[usize::from(file)].state == FileState::Open)
        }
        Role::Unmounter { .. } | Role::Unloader { .. } => true,
    }
}

/// The world after `action`, which is ready.
pub(super) fn step(
    scene: &Scene,
    broken: Option<Broken>,
    before: &World,
    action: Action,
    log: &mut Log,
) -> World {
    let mut w = before.clone();
    match action {
        Action::Callback(d) => {
            if let Some(line) = &mut log.0 {
                *line = format!("epoch: grace period over, bpf_d {d} is freed");
            }
            w.free(d);
            // Of what is gone nothing is looked at any more.
            let BpfD { memory, selecting, .. } = *w.open(d);
            *w.open_mut(d) = BpfD { memory, selecting, phase: Phase::Dead, ..BpfD::default() };
        }
        Action::Signal(thread) => {
            let thread = usize::from(thread);
            w.threads[thread].pc = Pc::Signalled;
            if let Some(line) = &mut log.0 {
                *line = format!("{}: a signal ends the sleep", name(scene, thread));
            }
        }
        Action::Step(thread) => {
            let me = usize::from(thread);
            if let Some(line) = &mut log.0 {
                *line = format!("{}: ", name(scene, me));
            }
            Step { role: scene.roles[me], broken, w: &mut w, me, log }.run();
        }
    }
    w
}

/// `reader 1`, or `revoke` if there is one only.
fn name(scene: &Scene, number: usize) -> String {
    let role = scene.roles[number];
    let same = |other: &&Role| other.to_string() == role.to_string();
    let before = scene.roles[..number].iter().filter(same).count();
    if scene.roles.iter().filter(same).count() == 1 && !matches!(role, Role::File { .. }) {
        role.to_string()
    } else {
        format!("{role} {before}")
    }
}

struct Step<'a> {
    role: Role,
    broken: Option<Broken>,
    w: &'a mut World,
    /// The thread.
    me: usize,
    log: &'a mut Log,
}

impl Step<'_> {
    fn is(&self, broken: Broken) -> bool {
        self.broken == Some(broken)
    }

    /// The step reads or writes memory of `d`.
    fn touch(&mut self, d: u8) {
        let woke = matches!(self.w.threads[self.me].pc, Pc::Woken | Pc::Signalled);
        if self.is(Broken::Legacy) && !woke {
            // It has many holes; the one that was reported is looked for.
            return;
        }
        if self.w.open(d).memory == Memory::Freed {
            say!(self, "touches freed memory: ");
        }
        self.w.touch(d);
    }

    /// The step does what it must not. The driver of 2008 knows of I1 at most.
    fn fault(&mut self, invariant: Invariant) {
        if !self.is(Broken::Legacy) {
            self.w.fault(invariant);
        }
    }

    fn goto(&mut self, pc: Pc) {
        let thread = &mut self.w.threads[self.me];
        thread.pc = pc;
        if pc == Pc::Done {
            // Nothing of a thread that is through tells worlds apart.
            *thread = super::world::Thread { pc, ..Default::default() };
        }
    }

    fn cause(&self) -> Cause {
        self.w.threads[self.me].cause
    }

    /// The descriptor that the thread is busy with.
    fn d(&self) -> u8 {
        self.w.threads[self.me].d.expect("busy with a descriptor")
    }

    fn at(&self) -> u8 {
        self.w.threads[self.me].at
    }

    /// The node that the thread's call is about.
    fn node(&self) -> u8 {
        let file_node = |file: u8| self.w.vnode(self.w.files[usize::from(file)].vnode).node;
        match self.role {
            Role::File { node, .. } | Role::Revoker { node, .. } => node,
            Role::Reader { file } | Role::Poller { file } | Role::Attacher { file } => {
                file_node(file)
            }
            Role::Unmounter { .. } => self.w.vnode(self.at()).node,
            Role::Unloader { .. } => self.at(),
            Role::Packet => unreachable!("a packet is about no node"),
        }
    }

    fn slot(&mut self) -> &mut Option<u8> {
        let node = self.node();
        self.w.slot_of(node)
    }

    fn inside(&mut self) -> &mut u8 {
        let node = self.node();
        &mut self.w.nodes[usize::from(node)].inside
    }

    /// dev_refthread(9).
    fn enter(&mut self) -> bool {
        let node = usize::from(self.node());
        if self.w.nodes[node].gone {
            return false;
        }
        self.w.nodes[node].inside += 1;
        true
    }

    fn release(&mut self) {
        let d = self.d();
        if self.w.open(d).refs == 0 {
            say!(self, "has no reference: ");
        }
        self.w.release(self.broken, d);
    }

    /// Begins to end `d`.
    fn end(&mut self, d: u8, cause: Cause) {
        let thread = &mut self.w.threads[self.me];
        (thread.d, thread.cause, thread.first) = (Some(d), cause, false);
        self.goto(match self.broken {
            Some(Broken::WakeFirst) => Pc::EndWake,
            Some(Broken::WaitForReaders) => Pc::EndWait,
            _ => Pc::EndMark,
        });
    }

    fn run(&mut self) {
        match self.w.threads[self.me].pc {
            Pc::Start => self.start(),
            Pc::OpenNew
            | Pc::OpenCheckFirst
            | Pc::OpenPublish
            | Pc::OpenBegin
            | Pc::OpenFlag
            | Pc::OpenRelease
            | Pc::OpenLeave => self.d_open(),
            Pc::Idle => self.close(),
            Pc::Load | Pc::Count => self.get(),
            Pc::ReadLock | Pc::Woken | Pc::Signalled | Pc::Copy => self.d_read(),
            Pc::PollLock
            | Pc::PollRelease
            | Pc::PollLeave
            | Pc::Selecting
            | Pc::AttachLock
            | Pc::PacketLock
            | Pc::PacketLeave
            | Pc::Release
            | Pc::Leave => self.others(),
            Pc::CloseOwn | Pc::Judge | Pc::CloseRelease | Pc::CloseLeave => self.d_close(),
            Pc::EndWait
            | Pc::EndWake
            | Pc::EndMark
            | Pc::EndWithdraw
            | Pc::EndDetach
            | Pc::EndDrain
            | Pc::EndFree => self.bpf_d_end(),
            Pc::Dtor | Pc::DtorRelease => self.dtor(),
            Pc::Doom | Pc::GoneClose | Pc::Reclaim => self.vgone(),
            Pc::UnloadFlag
            | Pc::UnloadCount
            | Pc::UnloadRelease
            | Pc::UnloadTaps
            | Pc::Destroy
            | Pc::DestroyWait
            | Pc::DestroyFiles
            | Pc::Drain => self.unload(),
            Pc::Done | Pc::Asleep => unreachable!("not ready"),
        }
    }
}
