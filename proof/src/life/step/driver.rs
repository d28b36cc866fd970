// SPDX-License-Identifier: BSD-2-Clause
//! The driver: `src/dev.rs` and `src/bpf_d.rs`.

use super::super::Invariant;
use super::super::broken::Broken;
use super::super::scene::Role;
use super::super::world::{BpfD, Cause, FileState, Memory, NODES, Pc, Phase, VnodeState};
use super::Step;

impl Step<'_> {
    /// `dev::open`.
    pub(super) fn d_open(&mut self) {
        let me = self.me as u8;
        match self.w.threads[self.me].pc {
            Pc::OpenNew => {
                if let Some(other) = *self.slot() {
                    say!(self, "bpf_d {other} has the node: EBUSY");
                    return self.goto(Pc::OpenLeave);
                }
                let legacy = self.is(Broken::Legacy);
                // References: this call's and the private value's.
                *self.w.open_mut(me) = BpfD {
                    memory: Memory::Allocated,
                    refs: 2,
                    phase: Phase::Opening,
                    vnode: true,
                    ..BpfD::default()
                };
                self.w.files[self.me].private = !legacy;
                self.w.threads[self.me].d = Some(me);
                say!(self, "makes bpf_d {me}");
                if !legacy {
                    say!(self, ", the private value of file {me}");
                }
                let check = self.is(Broken::CheckFirst);
                self.goto(if check { Pc::OpenCheckFirst } else { Pc::OpenPublish });
            }
            Pc::OpenCheckFirst => {
                if self.w.is_doomed(me) {
                    say!(self, "its vnode is doomed: EBUSY");
                    return self.fail(Cause::Overtaken);
                }
                say!(self, "its vnode is not doomed");
                self.goto(Pc::OpenPublish);
            }
            Pc::OpenPublish => {
                if let Some(other) = *self.slot() {
                    say!(self, "bpf_d {other} was faster: EBUSY");
                    return self.fail(Cause::Refused);
                }
                *self.slot() = Some(me);
                self.w.keep(me);
                say!(self, "publishes bpf_d {me} in si_drv1");
                self.goto(Pc::OpenBegin);
            }
            Pc::OpenBegin => {
                self.touch(me);
                let unchecked = [Broken::NoCheck, Broken::CheckFirst, Broken::Legacy];
                let checked = !self.broken.is_some_and(|b| unchecked.contains(&b));
                let doomed = checked && self.w.is_doomed(me);
                if doomed || self.w.open(me).phase == Phase::Dead {
                    let why = if doomed { "its vnode is doomed" } else { "it is dead already" };
                    say!(self, "begin: {why}: EBUSY");
                    return self.fail(Cause::Overtaken);
                }
                self.w.live += 1;
                self.w.open_mut(me).locked = true;
                say!(self, "begin: not revoked; counted as live");
                self.goto(Pc::OpenFlag);
            }
            Pc::OpenFlag => {
                self.w.open_mut(me).locked = false;
                if self.w.unloading && !self.is(Broken::NoFlag) {
                    self.w.live -= 1;
                    say!(self, "the module unloads: ENXIO");
                    return self.fail(Cause::Refused);
                }
                self.w.open_mut(me).phase = Phase::Live;
                say!(self, "bpf_d {me} is live");
                self.goto(Pc::OpenRelease);
            }
            Pc::OpenRelease => {
                self.release();
                let failed = self.cause() != Cause::None;
                self.w.threads[self.me].d = None;
                if failed {
                    say!(self, "d_open gives its reference back and fails");
                    return self.goto(Pc::Dtor);
                }
                say!(self, "d_open gives its reference back");
                self.goto(Pc::OpenLeave);
            }
            _ => {
                *self.inside() -= 1;
                if self.w.open(me).phase == Phase::None || self.cause() != Cause::None {
                    say!(self, "open(2) fails");
                    return self.closed();
                }
                say!(self, "open(2) succeeds");
                self.w.files[self.me].state = FileState::Open;
                self.goto(Pc::Idle);
            }
        }
    }

    /// `d_open` does not succeed.
    pub(super) fn fail(&mut self, cause: Cause) {
        self.end(self.me as u8, cause);
        if self.is(Broken::OnlyDClose) {
            self.goto(Pc::OpenRelease);
        }
    }

    /// `Slot::get`, and what its caller does with the result.
    pub(super) fn get(&mut self) {
        let legacy = self.is(Broken::Legacy);
        if self.w.threads[self.me].pc == Pc::Load {
            let found = *self.slot();
            self.w.threads[self.me].pinned = found.is_some() && !legacy;
            self.w.threads[self.me].d = found;
            match found {
                None => {
                    say!(self, "finds nothing in si_drv1");
                    self.found(None);
                }
                Some(d) if legacy => {
                    say!(self, "finds bpf_d {d} in si_drv1");
                    self.found(Some(d));
                }
                Some(d) => {
                    say!(self, "enters the epoch, finds bpf_d {d} in si_drv1");
                    self.goto(Pc::Count);
                }
            }
            return;
        }
        let d = self.d();
        self.touch(d);
        if self.w.open(d).refs == 0 && !self.is(Broken::CountFromZero) {
            say!(self, "the count of bpf_d {d} is zero: looks again");
            return self.goto(Pc::Load);
        }
        self.w.keep(d);
        self.w.unpin(self.me);
        say!(self, "counts bpf_d {d}, leaves the epoch");
        self.found(Some(d));
    }

    /// What the caller of [`Step::get`] does next.
    pub(super) fn found(&mut self, d: Option<u8>) {
        let me = self.me;
        if d.is_none() {
            self.w.unpin(me);
        }
        match (self.role, d) {
            (Role::Reader { file } | Role::Poller { file } | Role::Attacher { file }, Some(d)) => {
                let any = self.is(Broken::Legacy) || self.is(Broken::NodeOnly);
                let call = match self.role {
                    Role::Reader { .. } => Pc::ReadLock,
                    Role::Poller { .. } => Pc::PollLock,
                    _ => Pc::AttachLock,
                };
                self.goto(if d == file || any { call } else { Pc::Release });
            }
            (Role::Reader { .. } | Role::Poller { .. } | Role::Attacher { .. }, None) => {
                self.goto(Pc::Leave);
            }
            (Role::Unloader { .. }, Some(d)) => self.end(d, Cause::Unload),
            (Role::Unloader { .. }, None) => self.next_node(),
            (_, None) => self.goto(Pc::CloseLeave),
            (_, Some(_)) if self.cause() == Cause::Revoke => self.goto(Pc::Judge),
            (_, Some(d)) => self.end(d, Cause::Close),
        }
    }

    /// A call acts on a descriptor: it must be that of its own file (I2).
    pub(super) fn acts(&mut self) {
        let d = self.d();
        self.touch(d);
        if let Role::Reader { file } | Role::Poller { file } | Role::Attacher { file } = self.role
            && file != d
        {
            self.fault(Invariant::Identity);
        }
    }

    /// `BpfD::read`.
    pub(super) fn d_read(&mut self) {
        let pc = self.w.threads[self.me].pc;
        if pc == Pc::Woken && self.is(Broken::NodeAfterSleep) {
            let now = *self.slot();
            if let Some(now) = now {
                self.w.threads[self.me].d = Some(now);
            }
        }
        self.acts();
        let d = self.d();
        let tested = match pc {
            Pc::ReadLock => !self.is(Broken::SleepUntested),
            _ => !self.is(Broken::WokenUntested),
        };
        let legacy = self.is(Broken::Legacy);
        let open = self.w.open_mut(d);
        let after = if legacy { Pc::Leave } else { Pc::Release };
        match pc {
            Pc::Copy => {
                say!(self, "gives the buffer of bpf_d {d} back");
                self.goto(after);
            }
            Pc::Signalled => {
                say!(self, "takes the lock of bpf_d {d} again: EINTR");
                self.goto(after);
            }
            _ if open.phase == Phase::Dead && tested => {
                say!(self, "bpf_d {d} is dead: ENXIO");
                self.goto(after);
            }
            _ if open.stored => {
                open.stored = false;
                say!(self, "takes the hold buffer of bpf_d {d}, copies without the lock");
                self.goto(Pc::Copy);
            }
            _ => {
                say!(self, "sleeps on bpf_d {d}");
                self.goto(Pc::Asleep);
            }
        }
    }

    /// poll(2), ioctl(2), packets, and the way out of all calls.
    pub(super) fn others(&mut self) {
        let bit = 1 << self.me;
        match self.w.threads[self.me].pc {
            Pc::PollLock => {
                self.acts();
                let d = self.d();
                let tested = !self.is(Broken::SelectUntested);
                let open = self.w.open_mut(d);
                if open.phase == Phase::Dead && tested {
                    say!(self, "bpf_d {d} is dead: POLLHUP");
                    self.goto(Pc::Release);
                } else if open.stored {
                    say!(self, "bpf_d {d} is readable");
                    self.goto(Pc::Release);
                } else {
                    open.selecting |= bit;
                    say!(self, "selects bpf_d {d}");
                    self.goto(Pc::PollRelease);
                }
            }
            Pc::PollRelease => {
                self.release();
                say!(self, "gives its reference back");
                self.goto(Pc::PollLeave);
            }
            Pc::PollLeave => {
                *self.inside() -= 1;
                say!(self, "leaves the driver and waits in poll(2)");
                self.goto(Pc::Selecting);
            }
            Pc::Selecting => {
                let Role::Poller { file } = self.role else { unreachable!("a poller") };
                self.w.threads[self.me].d = None;
                if self.w.files[usize::from(file)].state == FileState::Open {
                    say!(self, "is woken, polls again");
                    return self.goto(Pc::Start);
                }
                say!(self, "is woken, file {file} is closed: POLLNVAL");
                self.goto(Pc::Done);
            }
            Pc::AttachLock => {
                self.acts();
                let d = self.d();
                if self.w.open(d).phase == Phase::Dead && !self.is(Broken::AttachUntested) {
                    say!(self, "bpf_d {d} is dead: ENXIO");
                } else {
                    self.w.open_mut(d).attached = true;
                    self.w.keep(d);
                    say!(self, "attaches bpf_d {d} to its interface");
                }
                self.goto(Pc::Release);
            }
            Pc::PacketLock => {
                let d = self.d();
                self.touch(d);
                if self.w.open(d).phase == Phase::Dead {
                    say!(self, "bpf_d {d} is dead");
                } else {
                    self.w.open_mut(d).stored = true;
                    self.w.wake(d);
                    say!(self, "is stored in bpf_d {d}, readers are woken");
                }
                self.goto(Pc::PacketLeave);
            }
            Pc::PacketLeave => {
                self.w.unpin(self.me);
                say!(self, "leaves the epoch");
                self.goto(Pc::Done);
            }
            Pc::Release => {
                self.release();
                say!(self, "gives its reference back");
                self.goto(Pc::Leave);
            }
            _ => {
                *self.inside() -= 1;
                say!(self, "leaves the driver");
                self.goto(Pc::Done);
            }
        }
    }

    /// `dev::close`.
    pub(super) fn d_close(&mut self) {
        match self.w.threads[self.me].pc {
            Pc::CloseOwn => {
                let own = self.me as u8;
                let d = if self.is(Broken::CloseByNode) { *self.slot() } else { Some(own) };
                let Some(d) = d else {
                    say!(self, "d_close finds nothing in si_drv1");
                    return self.goto(Pc::CloseLeave);
                };
                self.w.keep(d);
                say!(self, "d_close is about bpf_d {d}");
                self.end(d, Cause::Close);
            }
            Pc::Judge => {
                let d = self.d();
                self.touch(d);
                let all = self.is(Broken::AnyVnode) || self.is(Broken::Legacy);
                if !self.w.open(d).vnode || self.w.is_doomed(d) || all {
                    say!(self, "d_close(FREVOKE): bpf_d {d} is the one revoked");
                    return self.end(d, Cause::Revoke);
                }
                say!(self, "d_close(FREVOKE): not about bpf_d {d}, whose vnode is not doomed");
                self.goto(Pc::CloseRelease);
            }
            Pc::CloseRelease => {
                self.release();
                self.w.threads[self.me].d = None;
                say!(self, "d_close gives its reference back");
                self.goto(Pc::CloseLeave);
            }
            _ => {
                *self.inside() -= 1;
                say!(self, "d_close returns");
                let file = matches!(self.role, Role::File { .. });
                self.goto(if file { Pc::Dtor } else { Pc::Reclaim });
            }
        }
    }

    /// `BpfD::end`.
    pub(super) fn bpf_d_end(&mut self) {
        let d = self.d();
        let cause = self.cause();
        match self.w.threads[self.me].pc {
            Pc::EndWait => {
                say!(self, "nobody sleeps on bpf_d {d}");
                self.goto(Pc::EndMark);
            }
            Pc::EndWake => {
                self.touch(d);
                self.w.wake(d);
                say!(self, "wakes who sleeps on bpf_d {d}");
                self.goto(Pc::EndMark);
            }
            Pc::EndMark => self.end_mark(d, cause),
            Pc::EndWithdraw => {
                let any = self.is(Broken::WithdrawAny);
                match *self.slot() {
                    Some(there) if there == d || any => {
                        *self.slot() = None;
                        self.w.release(self.broken, there);
                        say!(self, "withdraws bpf_d {there} from si_drv1");
                    }
                    _ => {
                        if self.is(Broken::SecondEndFrees) {
                            self.release();
                        }
                        say!(self, "bpf_d {d} is not in si_drv1 any more");
                    }
                }
                if self.w.threads[self.me].first {
                    self.goto(Pc::EndDetach);
                } else {
                    self.end_returns();
                }
            }
            Pc::EndDetach => {
                self.touch(d);
                if self.w.open(d).attached && self.is(Broken::NoDetach) {
                    say!(self, "leaves bpf_d {d} attached");
                } else if self.w.open(d).attached {
                    self.w.open_mut(d).attached = false;
                    self.release();
                    say!(self, "detaches bpf_d {d} from its interface");
                } else {
                    say!(self, "bpf_d {d} is not attached");
                }
                self.goto(Pc::EndDrain);
            }
            Pc::EndDrain => {
                self.touch(d);
                let open = self.w.open_mut(d);
                open.selecting = 0;
                open.ended = true;
                say!(self, "drains bpf_d {d}");
                let free = matches!(cause, Cause::Close | Cause::Revoke)
                    && (self.is(Broken::FreeAtClose) || self.is(Broken::Legacy));
                if free {
                    return self.goto(Pc::EndFree);
                }
                self.end_returns();
            }
            _ => {
                // With the file's reference, as devfs_clear_cdevpriv(9) would.
                self.w.files[usize::from(d)].private = false;
                self.w.open_mut(d).memory = Memory::Freed;
                say!(self, "d_close frees bpf_d {d}");
                self.w.threads[self.me].d = None;
                self.goto(Pc::CloseLeave);
            }
        }
    }

    pub(super) fn end_mark(&mut self, d: u8, cause: Cause) {
        self.touch(d);
        if matches!(cause, Cause::Close | Cause::Revoke) {
            let open = self.w.open_mut(d);
            open.closes = (open.closes + 1).min(3);
        }
        let phase = self.w.open(d).phase;
        if phase == Phase::Dead && !self.is(Broken::EndTwice) && !self.is(Broken::Legacy) {
            say!(self, "bpf_d {d} is dead already");
            if self.is(Broken::LoserLeaves) {
                return self.end_returns();
            }
            return self.goto(Pc::EndWithdraw);
        }
        if phase == Phase::Dead {
            // A second one does what was done.
            self.fault(Invariant::OneEnd);
        }
        let own = self.me == usize::from(d);
        let may = match cause {
            Cause::Revoke => self.w.is_doomed(d),
            Cause::Unload => self.w.unloading,
            // The destructor is called by destroy_dev(9), too.
            Cause::Dtor => own || matches!(self.role, Role::Unloader { .. }),
            _ => own,
        };
        if !may {
            // It has nothing to do with this open.
            self.fault(Invariant::Identity);
        }
        if phase == Phase::Live {
            self.w.live -= 1;
        }
        let open = self.w.open_mut(d);
        open.lived = phase == Phase::Live;
        open.phase = Phase::Dead;
        open.vnode = false;
        self.w.threads[self.me].first = true;
        let silent = [Broken::NoWake, Broken::WakeFirst, Broken::Legacy];
        if self.broken.is_some_and(|b| silent.contains(&b)) {
            say!(self, "marks bpf_d {d} dead");
        } else {
            self.w.wake(d);
            say!(self, "marks bpf_d {d} dead and wakes who sleeps on it");
        }
        self.goto(Pc::EndWithdraw);
    }

    pub(super) fn end_returns(&mut self) {
        let d = self.d();
        if *self.slot() == Some(d) {
            // The node is still taken.
            self.fault(Invariant::OneEnd);
        }
        match self.cause() {
            Cause::Refused | Cause::Overtaken => self.goto(Pc::OpenRelease),
            Cause::Close | Cause::Revoke => self.goto(Pc::CloseRelease),
            Cause::Dtor => self.goto(Pc::DtorRelease),
            Cause::Unload => self.goto(Pc::UnloadRelease),
            Cause::None => unreachable!("an end has a cause"),
        }
    }

    /// `dev::unload`.
    pub(super) fn unload(&mut self) {
        let Role::Unloader { force } = self.role else { unreachable!("an unload") };
        match self.w.threads[self.me].pc {
            Pc::UnloadFlag => {
                self.w.unloading = true;
                say!(self, "sets the flag that stops new opens");
                if self.is(Broken::CountFirst) {
                    return self.first_node();
                }
                self.goto(Pc::UnloadCount);
            }
            Pc::UnloadCount => {
                let live = self.w.live;
                if live != 0 && !force && !self.is(Broken::NoCount) {
                    self.w.unloading = false;
                    say!(self, "{live} opens are live: EBUSY");
                    return self.goto(Pc::Done);
                }
                say!(self, "{live} opens are live");
                if self.is(Broken::CountFirst) {
                    return self.goto(Pc::UnloadFlag);
                }
                self.first_node();
            }
            Pc::UnloadRelease => {
                self.release();
                say!(self, "gives its reference back");
                self.next_node();
            }
            Pc::UnloadTaps => {
                if self.w.opens.iter().any(|open| open.attached) {
                    self.w.unloading = false;
                    say!(self, "an interface is still tapped: EBUSY");
                    return self.goto(Pc::Done);
                }
                say!(self, "every tap is off");
                self.w.threads[self.me].at = 0;
                self.goto(Pc::Destroy);
            }
            Pc::Destroy => {
                let node = self.at();
                self.w.nodes[usize::from(node)].gone = true;
                // The way in is cut off: d_purge wakes who is inside.
                if let Some(d) = *self.slot() {
                    self.w.wake(d);
                }
                say!(self, "destroy_dev(9) of bpfrs{node}: nobody gets in any more");
                self.goto(Pc::DestroyWait);
            }
            Pc::DestroyWait => {
                say!(self, "nobody is inside any more");
                self.goto(Pc::DestroyFiles);
            }
            Pc::DestroyFiles => self.destroy_files(),
            _ => {
                self.w.unloaded = true;
                say!(self, "no descriptor has memory: the module is gone");
                self.goto(Pc::Done);
            }
        }
    }

    pub(super) fn first_node(&mut self) {
        self.w.threads[self.me].at = 0;
        let ends = !self.is(Broken::UnloadEndsNothing);
        self.goto(if ends { Pc::Load } else { Pc::UnloadTaps });
    }

    pub(super) fn next_node(&mut self) {
        let thread = &mut self.w.threads[self.me];
        (thread.d, thread.cause) = (None, Cause::None);
        thread.at += 1;
        let more = usize::from(thread.at) < NODES;
        self.goto(if more { Pc::Load } else { Pc::UnloadTaps });
    }

    pub(super) fn destroy_files(&mut self) {
        let node = self.at();
        let w = &mut *self.w;
        let left =
            w.files.iter().position(|f| f.private && w.vnodes[usize::from(f.vnode)].node == node);
        if let Some(file) = left {
            w.files[file].private = false;
            say!(self, "destroy_dev(9): the destructor of file {file}'s private value");
            return self.end(file as u8, Cause::Dtor);
        }
        if self.slot().take().is_some() {
            // An open would be lost with it.
            self.fault(Invariant::Unload);
        }
        for vnode in &mut self.w.vnodes {
            if vnode.node == node && vnode.state == VnodeState::Valid {
                vnode.state = VnodeState::Dead;
            }
        }
        say!(self, "destroy_dev(9) of bpfrs{node} returns");
        let thread = &mut self.w.threads[self.me];
        (thread.d, thread.cause) = (None, Cause::None);
        thread.at += 1;
        if usize::from(thread.at) < NODES {
            return self.goto(Pc::Destroy);
        }
        if self.is(Broken::NoDrain) {
            self.w.unloaded = true;
            return self.goto(Pc::Done);
        }
        self.goto(Pc::Drain);
    }
}
