// SPDX-License-Identifier: BSD-2-Clause
//! What the tests on real interfaces count.

use alloc::collections::BTreeMap;
use alloc::string::String;

use serde::{Deserialize, Serialize};

use crate::parity::Differences;

/// One kind of interface in one direction, captured by stock and by the subject at once.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Parity {
    /// Kind of interface.
    pub kind: String,
    /// "in" or "out", as seen from the interface.
    pub direction: String,
    /// Frames of the test that went through the interface.
    pub sent: u64,
    /// … captured by stock,
    pub stock: u64,
    /// … by the subject.
    pub subject: u64,
    /// Frames captured by stock that are none of the test's.
    pub others: u64,
    /// Stock's capture against what was sent.
    pub from_sent: Differences,
    /// The subject's capture against stock's, other frames included.
    pub from_stock: Differences,
    /// Frames that found no room in a buffer (BIOCGSTATS, all descriptors).
    pub dropped: u64,
    /// How long it took.
    pub milliseconds: u64,
}

/// Interfaces that come and go, or move, under readers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Life {
    /// What came and went.
    pub what: String,
    /// How often.
    pub cycles: u64,
    /// Successful BIOCSETIF.
    pub attached: u64,
    /// Packets read.
    pub packets: u64,
    /// revoke(2) calls.
    pub revokes: u64,
    /// Readers that were blocked when their interface began to go …
    pub blocked: u64,
    /// … and still were a second after it had gone.
    pub asleep: u64,
    /// Ends of read(2), by errno's name.
    pub ends: BTreeMap<String, u64>,
}

/// Echoes through configured interfaces while the module comes and goes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reload {
    /// Times that the module was unloaded and loaded; without one: that a capture began and ended.
    pub reloads: u64,
    /// Packets captured in between.
    pub captured: u64,
    /// Requests sent, by way.
    pub sent: BTreeMap<String, u64>,
    /// … without an answer.
    pub lost: BTreeMap<String, u64>,
}
