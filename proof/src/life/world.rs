// SPDX-License-Identifier: BSD-2-Clause
//! The state of a world: devfs, the driver's objects, and its threads.

use super::Invariant;
use super::broken::Broken;
use super::scene::{Role, Scene};

/// Bounds of every scene.
pub(super) const NODES: usize = 2;
const FILES: usize = 3;
const VNODES: usize = 6;
const THREADS: usize = 8;

/// One moment of a scene.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct World {
    /// Which scene.
    pub(super) scene: u8,
    pub(super) nodes: [Node; NODES],
    pub(super) vnodes: [Vnode; VNODES],
    pub(super) unmounted: [bool; 2],
    pub(super) files: [File; FILES],
    /// By the number of the file that made it.
    pub(super) opens: [BpfD; FILES],
    pub(super) threads: [Thread; THREADS],
    /// `UNLOADING`.
    pub(super) unloading: bool,
    /// The module's text is gone.
    pub(super) unloaded: bool,
    /// How many opens are counted as live.
    pub(super) live: u8,
    /// What a step just did that it must not.
    pub(super) fault: Option<Invariant>,
}

/// A cdev.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Node {
    /// `si_drv1`.
    pub(super) slot: Option<u8>,
    /// `si_threadcount`.
    pub(super) inside: u8,
    /// destroy_dev(9) began: nobody gets in any more.
    pub(super) gone: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) enum VnodeState {
    /// Not made yet.
    #[default]
    None,
    Valid,
    /// On its way out; its operations are still those of devfs.
    Doomed,
    /// Its operations are those of a dead vnode.
    Dead,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Vnode {
    pub(super) node: u8,
    pub(super) mount: u8,
    pub(super) state: VnodeState,
    /// Files and system calls that use it.
    pub(super) users: u8,
    /// vgone(9) has the lock.
    pub(super) locked: bool,
}

/// A `struct file`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct File {
    pub(super) vnode: u8,
    pub(super) state: FileState,
    /// The private value is there: the destructor has not taken it.
    pub(super) private: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) enum FileState {
    /// open(2) has not returned.
    #[default]
    Opening,
    Open,
    /// Its last close began.
    Closing,
    /// The destructor of its private value returned, if it had one.
    Closed,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) enum Phase {
    /// There is no such descriptor yet.
    #[default]
    None,
    Opening,
    Live,
    Dead,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) enum Memory {
    #[default]
    None,
    Allocated,
    /// The count fell to zero; the threads (bits) whose sections are waited for.
    Deferred(u8),
    Freed,
}

/// A descriptor.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct BpfD {
    pub(super) memory: Memory,
    pub(super) refs: u8,
    pub(super) phase: Phase,
    /// It was live before it died.
    pub(super) lived: bool,
    /// Somebody is inside the lock and has more than one step to do there.
    pub(super) locked: bool,
    /// Its vnode is still known.
    pub(super) vnode: bool,
    pub(super) attached: bool,
    /// There is a packet to read.
    pub(super) stored: bool,
    /// The threads (bits) noted by selrecord(9).
    pub(super) selecting: u8,
    /// `d_close` calls, up to 3.
    pub(super) closes: u8,
    /// The end has done all it does.
    pub(super) ended: bool,
}

/// Where a thread is. A step does what no other thread can come between.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) enum Pc {
    /// The system call has not begun.
    #[default]
    Start,
    Done,

    // d_open
    OpenNew,
    OpenCheckFirst,
    OpenPublish,
    OpenBegin,
    OpenFlag,
    OpenRelease,
    OpenLeave,
    /// The file is open.
    Idle,

    // Slot::get
    Load,
    Count,

    // d_read
    ReadLock,
    Asleep,
    Woken,
    Signalled,
    Copy,
    // d_poll, d_ioctl, a packet
    PollLock,
    PollRelease,
    PollLeave,
    /// Asleep in select(2), outside the driver.
    Selecting,
    AttachLock,
    PacketLock,
    PacketLeave,
    Release,
    Leave,

    // d_close
    CloseOwn,
    Judge,
    CloseRelease,
    CloseLeave,

    // BpfD::end
    EndWait,
    EndWake,
    EndMark,
    EndWithdraw,
    EndDetach,
    EndDrain,
    EndFree,

    // The destructor of the private value
    Dtor,
    DtorRelease,

    // revoke(2), unmount
    Doom,
    GoneClose,
    Reclaim,

    // MOD_UNLOAD
    UnloadFlag,
    UnloadCount,
    UnloadRelease,
    UnloadTaps,
    Destroy,
    DestroyWait,
    DestroyFiles,
    Drain,
}

impl Pc {
    /// The thread runs, or will run, the driver's text.
    pub(super) fn in_driver(self) -> bool {
        !matches!(
            self,
            Pc::Start
                | Pc::Done
                | Pc::Idle
                | Pc::Selecting
                | Pc::Dtor
                | Pc::Doom
                | Pc::GoneClose
                | Pc::Reclaim
        )
    }
}

/// What an end, or a lookup, was for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) enum Cause {
    #[default]
    None,
    /// `d_open` fails: somebody has the node, or the module unloads.
    Refused,
    /// `d_open` fails: a revocation overtook it.
    Overtaken,
    /// `d_close` with the file.
    Close,
    /// `d_close` without it.
    Revoke,
    /// The destructor.
    Dtor,
    Unload,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Thread {
    pub(super) pc: Pc,
    pub(super) cause: Cause,
    /// The descriptor it is busy with.
    pub(super) d: Option<u8>,
    /// It ends `d`, and was first.
    pub(super) first: bool,
    /// It is inside an epoch section.
    pub(super) pinned: bool,
    /// The vnode, or the node of an unload.
    pub(super) at: u8,
}

impl World {
    /// The start of a scene.
    pub(super) fn new(number: usize, scene: &Scene) -> Self {
        let mut world = World {
            scene: u8::try_from(number).expect("few scenes"),
            nodes: Default::default(),
            vnodes: Default::default(),
            unmounted: Default::default(),
            files: Default::default(),
            opens: Default::default(),
            threads: Default::default(),
            unloading: false,
            unloaded: false,
            live: 0,
            fault: None,
        };
        if let Some(mount) = scene.known {
            world.vnode_of(0, mount);
        }
        // Those that play no part.
        for thread in &mut world.threads[scene.roles.len()..] {
            thread.pc = Pc::Done;
        }
        world
    }

    pub(super) fn slot_of(&mut self, node: u8) -> &mut Option<u8> {
        &mut self.nodes[usize::from(node)].slot
    }

    pub(super) fn open(&self, d: u8) -> &BpfD {
        &self.opens[usize::from(d)]
    }

    pub(super) fn open_mut(&mut self, d: u8) -> &mut BpfD {
        &mut self.opens[usize::from(d)]
    }

    pub(super) fn vnode(&self, v: u8) -> &Vnode {
        &self.vnodes[usize::from(v)]
    }

    pub(super) fn vnode_mut(&mut self, v: u8) -> &mut Vnode {
        &mut self.vnodes[usize::from(v)]
    }

    /// Whether the vnode that `d` came by is doomed.
    pub(super) fn is_doomed(&self, d: u8) -> bool {
        self.vnode(self.files[usize::from(d)].vnode).state != VnodeState::Valid
    }

    /// A vnode that some lookup by `mount` finds, dying ones included.
    pub(super) fn known_vnode(&self, node: u8, mount: u8) -> Option<u8> {
        self.find_vnode(|v| {
            (v.node, v.mount) == (node, mount)
                && matches!(v.state, VnodeState::Valid | VnodeState::Doomed)
        })
    }

    pub(super) fn find_vnode(&self, which: impl Fn(&Vnode) -> bool) -> Option<u8> {
        let place = self.vnodes.iter().position(which)?;
        Some(u8::try_from(place).expect("few vnodes"))
    }

    /// The vnode of a lookup, which is made if need be.
    pub(super) fn vnode_of(&mut self, node: u8, mount: u8) -> u8 {
        if let Some(known) = self.known_vnode(node, mount) {
            return known;
        }
        let unused =
            self.find_vnode(|v| v.state == VnodeState::None).expect("a scene with few lookups");
        *self.vnode_mut(unused) =
            Vnode { node, mount, state: VnodeState::Valid, users: 0, locked: false };
        unused
    }

    /// Something happened that must not.
    pub(super) fn fault(&mut self, invariant: Invariant) {
        self.fault.get_or_insert(invariant);
    }

    /// Memory of `d` is read or written.
    pub(super) fn touch(&mut self, d: u8) {
        if self.open(d).memory == Memory::Freed {
            self.fault(Invariant::Memory);
        }
    }

    /// One more reference, by who has one.
    pub(super) fn keep(&mut self, d: u8) {
        self.touch(d);
        self.open_mut(d).refs += 1;
    }

    /// One reference less: the last one defers destruction.
    pub(super) fn release(&mut self, broken: Option<Broken>, d: u8) {
        if broken == Some(Broken::Legacy) {
            return;
        }
        self.touch(d);
        let sections = self.sections();
        let open = self.open_mut(d);
        if open.refs == 0 {
            // Given back more often than taken.
            self.fault(Invariant::Memory);
            return;
        }
        open.refs -= 1;
        if open.refs == 0 {
            if broken == Some(Broken::NoGracePeriod) {
                self.free(d);
            } else {
                open.memory = Memory::Deferred(sections);
            }
        }
    }

    /// The memory of `d` goes.
    pub(super) fn free(&mut self, d: u8) {
        self.touch(d);
        // selfds on a list inside it.
        if self.open(d).selecting != 0 {
            self.fault(Invariant::Memory);
        }
        self.open_mut(d).memory = Memory::Freed;
    }

    /// The threads (bits) inside an epoch section.
    fn sections(&self) -> u8 {
        let bits = self.threads.iter().enumerate();
        bits.filter(|(_, thread)| thread.pinned).map(|(n, _)| 1 << n).sum()
    }

    /// A thread leaves its section.
    pub(super) fn unpin(&mut self, thread: usize) {
        self.threads[thread].pinned = false;
        for open in &mut self.opens {
            if let Memory::Deferred(waits) = &mut open.memory {
                *waits &= !(1 << thread);
            }
        }
    }

    /// Wakes whoever sleeps on `d` or selects it.
    pub(super) fn wake(&mut self, d: u8) {
        for thread in &mut self.threads {
            if thread.pc == Pc::Asleep && thread.d == Some(d) {
                thread.pc = Pc::Woken;
            }
        }
        self.open_mut(d).selecting = 0;
    }

    /// Whether a system call on `file` is under way. One that selects is not:
    /// it does not keep the file meanwhile.
    pub(super) fn is_used(&self, roles: &[Role], file: u8) -> bool {
        roles.iter().zip(&self.threads).any(|(role, thread)| match *role {
            Role::Reader { file: of } | Role::Poller { file: of } | Role::Attacher { file: of } => {
                of == file && !matches!(thread.pc, Pc::Start | Pc::Done | Pc::Selecting)
            }
            _ => false,
        })
    }
}
