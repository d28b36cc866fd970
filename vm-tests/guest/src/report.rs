// SPDX-License-Identifier: BSD-2-Clause
//! What the program says: lines for humans, and messages for the runner.

use alloc::format;
use alloc::string::String;
use alloc::vec;

use bpfrs_vm_protocol::{Case, Message, Outcome, encode};

use crate::sys::{self, Fd};
use crate::tests::{Trouble, Verdict};

/// The messages of the last command, for `resend`.
const KEPT: &str = "/tmp/bpfrs-guest.messages";

/// Prints a line for humans.
pub(crate) fn human(line: &str) {
    let mut text = String::from(line);
    text.push('\n');
    sys::print(text.as_bytes());
}

/// The messages of one command.
pub(crate) struct Reporter {
    sequence: u64,
    kept: Option<Fd>,
}

impl Reporter {
    /// For a command that begins now.
    pub(crate) fn new() -> Self {
        let flags = libc::O_WRONLY | libc::O_CREAT | libc::O_TRUNC | libc::O_CLOEXEC;
        // Without the file (a root that is read-only) only the second chance is lost.
        Self { sequence: 0, kept: Fd::open(KEPT, flags).ok() }
    }

    /// Sends one.
    pub(crate) fn message(&mut self, message: &Message) {
        let mut line = encode(self.sequence, message);
        line.push('\n');
        self.sequence += 1;
        if let Some(file) = &self.kept {
            let _ = file.write(line.as_bytes());
        }
        // On a line of its own, whatever the kernel has just printed.
        line.insert(0, '\n');
        sys::print(line.as_bytes());
    }

    /// Runs one case in this process and tells its outcome; true unless it failed.
    pub(crate) fn case(&mut self, name: &str, body: impl FnOnce() -> Verdict) -> bool {
        let begin = sys::now();
        let outcome = match body() {
            Ok(()) => Outcome::Passed,
            Err(Trouble::Wrong(why)) => Outcome::Failed(why),
            Err(Trouble::NotHere(why)) => Outcome::Skipped(why),
        };
        let good = !matches!(outcome, Outcome::Failed(_));
        human(&format!("{name}: {outcome:?}"));
        let milliseconds = u64::try_from((sys::now() - begin).as_millis()).unwrap_or(u64::MAX);
        self.message(&Message::Case(Case { name: String::from(name), outcome, milliseconds }));
        good
    }

    /// The command is done.
    pub(crate) fn end(mut self) {
        let messages = self.sequence;
        self.message(&Message::End { messages });
    }
}

/// `resend`: prints the messages of the command before once more.
pub(crate) fn resend() -> i32 {
    let Ok(file) = Fd::open(KEPT, libc::O_RDONLY) else {
        return 1;
    };
    let mut block = vec![0; 1 << 16];
    while let Ok(length @ 1..) = file.read(&mut block) {
        sys::print(block.get(..length).unwrap_or_default());
    }
    0
}
