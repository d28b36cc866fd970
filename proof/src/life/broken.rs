// SPDX-License-Identifier: BSD-2-Clause
//! Negative controls: drivers that are wrong in one place.

use std::fmt;

use clap::ValueEnum;

use super::Invariant;

/// What is wrong with a driver.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Broken {
    /// The driver of 2008: si_drv1 without references, freed by d_close
    #[value(name = "2008")]
    Legacy,
    /// d_close frees the open that it ends, whoever still uses it
    FreeAtClose,
    /// The last reference frees at once, without a grace period
    NoGracePeriod,
    /// A lookup raises a count that is zero
    CountFromZero,
    /// An end gives the slot's reference back though it did not withdraw it
    SecondEndFrees,
    /// A read takes the open that the node has, whosever it is
    NodeOnly,
    /// A reader that slept goes on with what si_drv1 has then
    NodeAfterSleep,
    /// d_close without a file ends the node's open, whatever its vnode
    AnyVnode,
    /// d_close with a file ends the node's open instead of the file's
    CloseByNode,
    /// The thread's file is believed to be of this cdev
    AnyFile,
    /// An end empties si_drv1, whatever is published there
    WithdrawAny,
    /// An end does not look whether the open is dead already
    EndTwice,
    /// An end that came second does not wait for si_drv1 to be free
    LoserLeaves,
    /// Only d_close ends opens: neither the destructor nor a failed open does
    OnlyDClose,
    /// The end wakes nobody
    NoWake,
    /// The end wakes first and marks dead afterwards
    WakeFirst,
    /// The end waits until nobody sleeps, and marks dead afterwards
    WaitForReaders,
    /// A reader sleeps without a test for death
    SleepUntested,
    /// A reader that woke goes back to sleep without a test for death
    WokenUntested,
    /// poll(2) notes the thread without a test for death
    SelectUntested,
    /// BIOCSETIF attaches without a test for death
    AttachUntested,
    /// The end leaves the open attached to its interface
    NoDetach,
    /// An open does not look for a revocation after publishing
    NoCheck,
    /// An open looks for a revocation before publishing, and not after
    CheckFirst,
    /// An open does not look whether the module unloads
    NoFlag,
    /// Unload looks at the count of live opens before it sets the flag
    CountFirst,
    /// Unload does not look at the count of live opens
    NoCount,
    /// Unload destroys the nodes without having ended their opens
    UnloadEndsNothing,
    /// Unload does not wait until descriptors have no memory any more
    NoDrain,
}

impl Broken {
    /// The invariant that this breaks, before any other.
    pub fn breaks(self) -> Invariant {
        match self {
            Broken::Legacy
            | Broken::FreeAtClose
            | Broken::NoGracePeriod
            | Broken::CountFromZero
            | Broken::SecondEndFrees => Invariant::Memory,
            Broken::NodeOnly
            | Broken::NodeAfterSleep
            | Broken::AnyVnode
            | Broken::CloseByNode
            | Broken::AnyFile
            | Broken::WithdrawAny => Invariant::Identity,
            Broken::EndTwice | Broken::LoserLeaves | Broken::OnlyDClose => Invariant::OneEnd,
            Broken::NoWake
            | Broken::WakeFirst
            | Broken::WaitForReaders
            | Broken::SleepUntested
            | Broken::WokenUntested
            | Broken::SelectUntested
            | Broken::AttachUntested
            | Broken::NoDetach => Invariant::Order,
            Broken::NoCheck | Broken::CheckFirst => Invariant::Opening,
            Broken::NoFlag
            | Broken::CountFirst
            | Broken::NoCount
            | Broken::UnloadEndsNothing
            | Broken::NoDrain => Invariant::Unload,
        }
    }
}

/// The name that the command line knows it by.
impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = self.to_possible_value().expect("no variant is skipped");
        f.write_str(value.get_name())
    }
}
