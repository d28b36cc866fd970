// SPDX-License-Identifier: BSD-2-Clause
//! What bpf adds to a packet.

use alloc::string::String;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

/// Who listens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Driver {
    /// Nobody: what a packet costs anyway.
    #[default]
    Nobody,
    /// The kernel's own.
    Stock,
    /// Ours.
    Bpfrs,
    /// Ours, with `net.bpfrs.jit` on.
    Jit,
}

/// The filters, the first of which accepts and has everything copied.
pub const FILTERS: [&str; 4] = ["all", "udp port", "100 hosts", "40 networks"];

/// How many descriptors listen.
pub const LISTENERS: [usize; 3] = [1, 4, 16];

/// What packets cost one way of listening, in every round.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cost {
    /// Who listens,
    pub driver: Driver,
    /// … by which of the [`FILTERS`],
    pub filter: String,
    /// … on how many descriptors.
    pub listeners: usize,
    /// Packets in a round.
    pub packets: u64,
    /// Bytes read in a round, all descriptors together.
    pub bytes: u64,
    /// Processor time that sender and listeners used up, in ns; a number for each round.
    pub processor: Vec<u64>,
    /// Time that went by, in ns; a number for each round.
    pub elapsed: Vec<u64>,
}
