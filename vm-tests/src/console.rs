// SPDX-License-Identifier: BSD-2-Clause
//! The guest's serial console: collected line by line as it comes, kept in a file, waited on.

use std::fs::File;
use std::io::{Read, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// One line, and when it was complete.
#[derive(Clone, Debug)]
pub(crate) struct Line {
    pub(crate) at: Instant,
    pub(crate) text: String,
}

#[derive(Default)]
struct Text {
    lines: Vec<Line>,
    /// What follows the last line end: a prompt, mostly.
    partial: String,
    /// Bytes of all of that.
    heard: usize,
    ended: bool,
}

impl Text {
    fn append(&mut self, bytes: &[u8]) {
        self.heard += bytes.len();
        for character in String::from_utf8_lossy(bytes).chars() {
            match character {
                '\n' => {
                    let text = std::mem::take(&mut self.partial);
                    self.lines.push(Line { at: Instant::now(), text });
                }
                '\r' => {}
                other => self.partial.push(other),
            }
        }
    }
}

/// Why waiting came to nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Nothing {
    /// The time is over.
    Late,
    /// The guest is gone, or has panicked and will be.
    Gone,
}

/// A console that a thread listens to.
#[derive(Clone, Default)]
pub(crate) struct Console {
    shared: Arc<(Mutex<Text>, Condvar)>,
}

impl Console {
    /// Listens to `source` until it ends; everything goes to `log`, too.
    pub(crate) fn listen(mut source: impl Read + Send + 'static, mut log: File) -> Self {
        let console = Self::default();
        let listener = console.clone();
        thread::spawn(move || {
            let mut block = [0; 4096];
            while let Ok(length @ 1..) = source.read(&mut block) {
                let bytes = &block[..length];
                // The log is a convenience; a full disk must not end the test.
                let _ = log.write_all(bytes);
                listener.text().append(bytes);
                listener.shared.1.notify_all();
            }
            listener.text().ended = true;
            listener.shared.1.notify_all();
        });
        console
    }

    fn text(&self) -> MutexGuard<'_, Text> {
        // A panic elsewhere leaves the text as good as it was.
        self.shared.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many lines there are: a position to wait or to look from.
    pub(crate) fn position(&self) -> usize {
        self.text().lines.len()
    }

    /// How many bytes there are: the same number again means silence.
    pub(crate) fn heard(&self) -> usize {
        self.text().heard
    }

    /// The lines from a position on.
    pub(crate) fn since(&self, position: usize) -> Vec<Line> {
        self.text().lines.get(position..).unwrap_or_default().to_vec()
    }

    /// The last line with something on it.
    pub(crate) fn last_line(&self) -> String {
        let text = self.text();
        let lines = text.lines.iter().rev().map(|line| line.text.trim());
        let mut said = std::iter::once(text.partial.trim()).chain(lines);
        said.find(|line| !line.is_empty()).unwrap_or("(none)").to_string()
    }

    /// Whether the guest has ended.
    pub(crate) fn ended(&self) -> bool {
        self.text().ended
    }

    /// Waits until `found` gives something, for a complete line or the incomplete last one, from
    /// `position` on.
    pub(crate) fn wait<T>(
        &self,
        position: usize,
        limit: Duration,
        mut found: impl FnMut(&str) -> Option<T>,
    ) -> Result<T, Nothing> {
        let deadline = Instant::now() + limit;
        let mut next = position;
        let mut text = self.text();
        loop {
            while let Some(line) = text.lines.get(next) {
                if let Some(result) = found(&line.text) {
                    return Ok(result);
                }
                next += 1;
            }
            if let Some(result) = found(&text.partial) {
                return Ok(result);
            }
            if text.ended {
                return Err(Nothing::Gone);
            }
            let Some(left) = deadline.checked_duration_since(Instant::now()) else {
                return Err(Nothing::Late);
            };
            text = self.shared.1.wait_timeout(text, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Cursor;

    /// A guest that says `0` and then nothing, for ever.
    struct Hangs(Cursor<&'static [u8]>);

    impl Read for Hangs {
        fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
            match self.0.read(buffer)? {
                0 => loop {
                    thread::park();
                },
                length => Ok(length),
            }
        }
    }

    fn log() -> File {
        tempfile::tempfile().unwrap()
    }

    #[test]
    fn lines_and_prompts() {
        let console = Console::listen(Cursor::new(b"one\r\ntwo\r\n# ".as_slice()), log());
        let second = Duration::from_secs(1);
        assert_eq!(console.wait(0, second, |l| (l == "two").then_some(2)), Ok(2));
        assert_eq!(console.wait(0, second, |l| (l == "# ").then_some(())), Ok(()));
        assert_eq!(console.wait(2, second, |l| (l == "one").then_some(())), Err(Nothing::Gone));
        assert_eq!(console.position(), 2);
    }

    #[test]
    fn a_hanging_guest_ends_in_a_timeout() {
        let console = Console::listen(Hangs(Cursor::new(b"booting\n")), log());
        let begin = Instant::now();
        let result = console.wait(0, Duration::from_millis(200), |l| l.contains('#').then_some(()));
        assert_eq!(result, Err(Nothing::Late));
        assert!(begin.elapsed() < Duration::from_secs(5));
    }
}
