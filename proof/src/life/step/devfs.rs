// SPDX-License-Identifier: BSD-2-Clause
//! System calls, and devfs(5) around the driver.

use super::super::broken::Broken;
use super::super::scene::Role;
use super::super::world::{Cause, FileState, Pc, VnodeState};
use super::Step;

impl Step<'_> {
    pub(super) fn start(&mut self) {
        match self.role {
            Role::File { node, mount } => {
                let cut_off = self.w.unloaded || self.w.unmounted[usize::from(mount)];
                if cut_off || !self.enter() {
                    say!(self, "open(2) finds no node");
                    self.w.files[self.me].state = FileState::Closed;
                    return self.goto(Pc::Done);
                }
                let v = self.w.vnode_of(node, mount);
                self.w.vnode_mut(v).users += 1;
                self.w.files[self.me].vnode = v;
                say!(self, "open(2) of bpfrs{node} by vnode {v} of mount {mount}, into d_open");
                self.goto(Pc::OpenNew);
            }
            Role::Reader { file } | Role::Poller { file } | Role::Attacher { file } => {
                let dead =
                    self.w.vnode(self.w.files[usize::from(file)].vnode).state == VnodeState::Dead;
                if dead || !self.enter() {
                    say!(self, "the vnode of file {file} is dead: EIO");
                    return self.goto(Pc::Done);
                }
                say!(self, "enters the driver with file {file}");
                self.goto(Pc::Load);
            }
            Role::Packet => {
                let d = self.w.opens.iter().position(|open| open.attached).expect("ready");
                say!(self, "enters the epoch, finds bpf_d {d} among the tap's peers");
                let thread = &mut self.w.threads[self.me];
                (thread.d, thread.pinned) = (Some(d as u8), true);
                self.goto(Pc::PacketLock);
            }
            Role::Revoker { node, mount, .. } => {
                let v = self.w.vnode_of(node, mount);
                self.w.vnode_mut(v).users += 1;
                self.w.threads[self.me].at = v;
                say!(self, "revoke(2) of bpfrs{node} by vnode {v} of mount {mount}");
                self.goto(Pc::Doom);
            }
            Role::Unmounter { mount } => {
                self.w.unmounted[usize::from(mount)] = true;
                say!(self, "mount {mount}, by force");
                self.next_vnode();
            }
            Role::Unloader { force } => {
                say!(self, "kldunload{}", if force { " -f" } else { "" });
                let count_first = self.is(Broken::CountFirst);
                self.goto(if count_first { Pc::UnloadCount } else { Pc::UnloadFlag });
            }
        }
    }

    /// The file has nothing to do with the vnode any more.
    pub(super) fn closed(&mut self) {
        let file = &mut self.w.files[self.me];
        file.state = FileState::Closed;
        let v = file.vnode;
        self.w.vnode_mut(v).users -= 1;
        self.goto(Pc::Done);
    }

    /// close(2) of the last descriptor: VOP_CLOSE.
    pub(super) fn close(&mut self) {
        let file = &mut self.w.files[self.me];
        file.state = FileState::Closing;
        let v = file.vnode;
        let state = self.w.vnode(v).state;
        if state == VnodeState::Dead {
            say!(self, "close(2): the vnode is dead, no d_close");
            return self.goto(Pc::Dtor);
        }
        if !self.enter() {
            say!(self, "close(2): the node is gone, no d_close");
            return self.goto(Pc::Dtor);
        }
        let flags =
            if state == VnodeState::Doomed { "FREVOKE, with the file" } else { "with the file" };
        say!(self, "close(2): d_close({flags})");
        if self.is(Broken::Legacy) {
            self.w.threads[self.me].cause = Cause::Close;
            return self.goto(Pc::Load);
        }
        self.goto(Pc::CloseOwn);
    }

    /// devfs_fpdrop, and `dev::destroyed`.
    pub(super) fn dtor(&mut self) {
        let own = self.me as u8;
        if self.w.threads[self.me].pc == Pc::Dtor {
            let file = &mut self.w.files[self.me];
            if !file.private {
                say!(self, "the destructor was called, or is not needed");
                return self.file_dropped();
            }
            file.private = false;
            say!(self, "the destructor of file {own}'s private value");
            self.end(own, Cause::Dtor);
            if self.is(Broken::OnlyDClose) {
                self.goto(Pc::DtorRelease);
            }
            return;
        }
        self.release();
        if matches!(self.role, Role::Unloader { .. }) {
            let d = self.d();
            say!(self, "the destructor gives file {d}'s reference back");
            return self.goto(Pc::DestroyFiles);
        }
        say!(self, "the destructor gives the file's reference back");
        self.file_dropped();
    }

    pub(super) fn file_dropped(&mut self) {
        if self.w.files[self.me].state == FileState::Opening {
            // Still inside d_open's call.
            let thread = &mut self.w.threads[self.me];
            (thread.cause, thread.d) = (Cause::Refused, None);
            return self.goto(Pc::OpenLeave);
        }
        self.closed();
    }

    /// vgone(9), by revoke(2) or a forced unmount.
    pub(super) fn vgone(&mut self) {
        let v = self.at();
        match self.w.threads[self.me].pc {
            Pc::Doom => {
                let vnode = self.w.vnode_mut(v);
                if vnode.state != VnodeState::Valid {
                    say!(self, "vnode {v} is doomed already");
                    return self.vput();
                }
                (vnode.state, vnode.locked) = (VnodeState::Doomed, true);
                say!(self, "dooms vnode {v}");
                self.goto(Pc::GoneClose);
            }
            Pc::GoneClose => {
                self.w.vnode_mut(v).locked = false;
                if self.w.vnode(v).users == 0 || !self.enter() {
                    say!(self, "nobody uses vnode {v}, or the node is gone: no d_close");
                    return self.goto(Pc::Reclaim);
                }
                let thread = &mut self.w.threads[self.me];
                (thread.cause, thread.d) = (Cause::Revoke, None);
                let Role::Revoker { inside: Some(file), .. } = self.role else {
                    say!(self, "d_close(FREVOKE), without a file");
                    return self.goto(Pc::Load);
                };
                say!(self, "d_close(FREVOKE), inside an operation on file {file}");
                if self.is(Broken::AnyFile) && self.w.files[usize::from(file)].private {
                    self.w.keep(file);
                    return self.end(file, Cause::Revoke);
                }
                self.goto(Pc::Load);
            }
            _ => {
                self.w.vnode_mut(v).state = VnodeState::Dead;
                say!(self, "vnode {v} is dead");
                self.vput();
            }
        }
    }

    /// Done with a vnode: the next one.
    pub(super) fn vput(&mut self) {
        if let Role::Revoker { .. } = self.role {
            let v = self.at();
            self.w.vnode_mut(v).users -= 1;
        }
        self.next_vnode();
    }

    /// devfs_revoke goes over all mounts, an unmount over all nodes.
    pub(super) fn next_vnode(&mut self) {
        let role = self.role;
        let next = self.w.find_vnode(|v| {
            v.state == VnodeState::Valid
                && match role {
                    Role::Revoker { node, .. } => v.node == node,
                    Role::Unmounter { mount } => v.mount == mount,
                    _ => false,
                }
        });
        let Some(v) = next else { return self.goto(Pc::Done) };
        if let Role::Revoker { .. } = role {
            self.w.vnode_mut(v).users += 1;
        }
        let thread = &mut self.w.threads[self.me];
        (thread.at, thread.cause, thread.d) = (v, Cause::None, None);
        self.goto(Pc::Doom);
    }
}
