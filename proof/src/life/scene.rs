// SPDX-License-Identifier: BSD-2-Clause
//! Scenes: who takes part.

use std::fmt;

/// What a thread does, once.
///
/// Nodes, mounts and files are numbered from 0. File `n` is the one of the
/// scene's `n`th [`Role::File`], and the descriptor it makes is bpf_d `n`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Role {
    /// open(2) of a node by a mount and, when nobody uses the file, close(2).
    File { node: u8, mount: u8 },
    /// read(2) of a file, without a timeout.
    Reader { file: u8 },
    /// poll(2) of a file, without a timeout.
    Poller { file: u8 },
    /// BIOCSETIF on a file.
    Attacher { file: u8 },
    /// A packet of a tapped interface.
    Packet,
    /// revoke(2) of a node by a mount; maybe from inside an operation on a
    /// file, which `td_fpop` is then.
    Revoker { node: u8, mount: u8, inside: Option<u8> },
    /// umount(2) by force.
    Unmounter { mount: u8 },
    /// kldunload(8).
    Unloader { force: bool },
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Role::File { .. } => f.write_str("file"),
            Role::Reader { .. } => f.write_str("reader"),
            Role::Poller { .. } => f.write_str("poller"),
            Role::Attacher { .. } => f.write_str("BIOCSETIF"),
            Role::Packet => f.write_str("packet"),
            Role::Revoker { .. } => f.write_str("revoke"),
            Role::Unmounter { .. } => f.write_str("unmount"),
            Role::Unloader { force: false } => f.write_str("unload"),
            Role::Unloader { force: true } => f.write_str("unload -f"),
        }
    }
}

/// The threads of a world. Files come first.
#[derive(Debug)]
pub struct Scene {
    /// What it is about.
    pub name: &'static str,
    /// Its threads.
    pub(super) roles: &'static [Role],
    /// A mount that has a vnode of node 0, which nobody uses, from the start.
    pub(super) known: Option<u8>,
}

const FILE: Role = Role::File { node: 0, mount: 0 };
const JAIL: Role = Role::File { node: 0, mount: 1 };
const REVOKE: Role = Role::Revoker { node: 0, mount: 0, inside: None };

/// What is explored ordinarily.
pub const STANDARD: &[Scene] = &[
    Scene {
        name: "2 opens, 2 readers, 2 revocations",
        roles: &[FILE, FILE, Role::Reader { file: 0 }, Role::Reader { file: 1 }, REVOKE, REVOKE],
        known: None,
    },
    Scene {
        name: "2 mounts: 2 opens, revocation, unmount",
        roles: &[
            FILE,
            JAIL,
            Role::Revoker { node: 0, mount: 1, inside: None },
            Role::Unmounter { mount: 0 },
        ],
        known: Some(1),
    },
    Scene {
        name: "poll(2), BIOCSETIF, a packet, 2 readers, revocation",
        roles: &[
            FILE,
            Role::Reader { file: 0 },
            Role::Reader { file: 0 },
            Role::Poller { file: 0 },
            Role::Attacher { file: 0 },
            Role::Packet,
            REVOKE,
        ],
        known: None,
    },
    Scene {
        name: "2 nodes, revocation from inside the other's file",
        roles: &[
            FILE,
            Role::File { node: 1, mount: 0 },
            Role::Reader { file: 0 },
            Role::Reader { file: 1 },
            Role::Revoker { node: 0, mount: 0, inside: Some(1) },
        ],
        known: None,
    },
    Scene {
        name: "unload: 2 opens, a reader, revocation",
        roles: &[FILE, FILE, Role::Reader { file: 0 }, REVOKE, Role::Unloader { force: false }],
        known: None,
    },
    Scene {
        name: "unload by force: 2 opens, a reader, poll(2), BIOCSETIF",
        roles: &[
            FILE,
            FILE,
            Role::Reader { file: 0 },
            Role::Poller { file: 0 },
            Role::Attacher { file: 0 },
            Role::Unloader { force: true },
        ],
        known: None,
    },
];

/// What takes longer.
pub const LARGE: &[Scene] = &[
    Scene {
        name: "3 opens, 2 readers, 2 revocations",
        roles: &[
            FILE,
            FILE,
            FILE,
            Role::Reader { file: 0 },
            Role::Reader { file: 1 },
            REVOKE,
            REVOKE,
        ],
        known: None,
    },
    Scene {
        name: "2 mounts: 3 opens, a reader, 2 revocations, unmount",
        roles: &[
            FILE,
            FILE,
            JAIL,
            Role::Reader { file: 0 },
            REVOKE,
            Role::Revoker { node: 0, mount: 1, inside: None },
            Role::Unmounter { mount: 0 },
        ],
        known: Some(1),
    },
    Scene {
        name: "unload by force: 2 opens, a reader, poll(2), BIOCSETIF, a packet, revocation",
        roles: &[
            FILE,
            FILE,
            Role::Reader { file: 0 },
            Role::Poller { file: 0 },
            Role::Attacher { file: 0 },
            Role::Packet,
            REVOKE,
            Role::Unloader { force: true },
        ],
        known: None,
    },
];
