// SPDX-License-Identifier: BSD-2-Clause
//! The two capture buffers of a descriptor and their rotation.
//!
//! Packets go into the *store* buffer. When it is full, or when a reader may
//! have what is there, the buffers rotate: store becomes *hold*, which the
//! reader gets, and *free* becomes store. There are always two in all, so the
//! one that is not store is free, on hold, or with the reader.

use crate::kpi::memory::Array;

/// Records begin at multiples of this: `BPF_ALIGNMENT` on LP64.
pub const ALIGNMENT: usize = 8;

/// Rounds up to the next record boundary: `BPF_WORDALIGN`.
pub const fn align(len: usize) -> usize {
    len.saturating_add(ALIGNMENT.wrapping_sub(1)) & !ALIGNMENT.wrapping_sub(1)
}

/// The buffer that is not being filled.
enum Other {
    Free(Array<u8>),
    Hold(Array<u8>, usize),
    /// The reader has it while it copies out without the lock: ownership
    /// moved, so it can neither rotate nor be freed under the reader.
    WithReader,
}

/// No room, and no free buffer to rotate to: the packet is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

/// Both buffers.
pub struct Buffers {
    store: Array<u8>,
    stored: usize,
    other: Other,
}

impl Buffers {
    /// Two empty buffers of `size` bytes. Sleeps.
    pub fn new(size: usize) -> Self {
        Buffers { store: Array::zeroed(size), stored: 0, other: Other::Free(Array::zeroed(size)) }
    }

    /// The size of each.
    pub fn size(&self) -> usize {
        self.store.len()
    }

    /// Bytes in the store buffer.
    pub fn stored(&self) -> usize {
        self.stored
    }

    /// Bytes on hold.
    pub fn held(&self) -> usize {
        match self.other {
            Other::Hold(_, len) => len,
            Other::Free(_) | Other::WithReader => 0,
        }
    }

    /// Whether there is a hold buffer for a reader.
    pub fn has_hold(&self) -> bool {
        matches!(self.other, Other::Hold(..))
    }

    /// Whether a reader is copying out.
    pub fn with_reader(&self) -> bool {
        matches!(self.other, Other::WithReader)
    }

    /// Room for a record of `len` bytes at the next boundary; a record larger
    /// than a whole buffer is cut. Says also whether the buffers rotated.
    ///
    /// # Errors
    /// [`Full`] if there is no room and no free buffer.
    pub fn reserve(&mut self, len: usize) -> Result<(&mut [u8], bool), Full> {
        let len = len.min(self.size());
        let mut start = align(self.stored);
        let rotate = start.saturating_add(len) > self.size();
        if rotate {
            if !self.rotate() {
                return Err(Full);
            }
            start = 0;
        }
        let end = start.saturating_add(len);
        // What the record leaves of its last word is zero, whoever comes next. At
        // the end of the buffer nobody does.
        if len > 0
            && let Some(words) = self.store.get_mut(..align(end))
            && let Some(last) = words.last_chunk_mut::<ALIGNMENT>()
        {
            *last = [0; ALIGNMENT];
        }
        self.stored = end;
        self.store.get_mut(start..end).map(|record| (record, rotate)).ok_or(Full)
    }

    /// Puts the store buffer on hold, if the other one is free.
    pub fn rotate(&mut self) -> bool {
        match core::mem::replace(&mut self.other, Other::WithReader) {
            Other::Free(free) => {
                let full = core::mem::replace(&mut self.store, free);
                self.other = Other::Hold(full, self.stored);
                self.stored = 0;
                true
            }
            other => {
                self.other = other;
                false
            }
        }
    }

    /// The hold buffer and how much of it is filled, for the reader, who
    /// brings it back with [`Buffers::give_back`].
    pub fn take_hold(&mut self) -> Option<(Array<u8>, usize)> {
        match core::mem::replace(&mut self.other, Other::WithReader) {
            Other::Hold(buffer, len) => Some((buffer, len)),
            other => {
                self.other = other;
                None
            }
        }
    }

    /// The reader is done. Returns a buffer that has no place here any more,
    /// because the size was changed meanwhile.
    pub fn give_back(&mut self, buffer: Array<u8>) -> Option<Array<u8>> {
        if self.with_reader() && buffer.len() == self.size() {
            self.other = Other::Free(buffer);
            None
        } else {
            Some(buffer)
        }
    }

    /// Forgets what was captured. What a reader is copying out it keeps: that
    /// read(2) came before.
    pub fn reset(&mut self) {
        self.stored = 0;
        if let Some((buffer, _)) = self.take_hold() {
            self.other = Other::Free(buffer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fill(buffers: &mut Buffers, len: usize, byte: u8) -> Result<bool, Full> {
        buffers.reserve(len).map(|(record, rotated)| {
            record.fill(byte);
            rotated
        })
    }

    #[test]
    fn records_are_aligned_and_gaps_are_zero() {
        let mut buffers = Buffers::new(64);
        for byte in [1, 2] {
            assert_eq!(fill(&mut buffers, 13, byte), Ok(false));
        }
        // What was there before must not shine through the gap.
        assert!(buffers.rotate());
        let (hold, len) = buffers.take_hold().unwrap();
        assert_eq!(len, 16 + 13);
        assert_eq!(hold[..13], [1; 13]);
        assert_eq!(hold[13..16], [0; 3]);
        assert_eq!(hold[16..29], [2; 13]);
    }

    #[test]
    fn rotates_when_full_and_drops_when_both_are() {
        let mut buffers = Buffers::new(32);
        assert_eq!(fill(&mut buffers, 32, 1), Ok(false));
        assert_eq!(fill(&mut buffers, 8, 2), Ok(true));
        assert_eq!((buffers.held(), buffers.stored()), (32, 8));
        assert_eq!(fill(&mut buffers, 32, 3), Err(Full));
        // While the reader copies, there is still nothing to rotate to.
        let (hold, len) = buffers.take_hold().unwrap();
        assert_eq!((hold[0], len), (1, 32));
        assert_eq!(fill(&mut buffers, 32, 3), Err(Full));
        assert!(!buffers.rotate() && buffers.take_hold().is_none());
        assert!(buffers.give_back(hold).is_none());
        assert_eq!(fill(&mut buffers, 32, 3), Ok(true));
    }

    #[test]
    fn a_record_larger_than_a_buffer_is_cut() {
        let mut buffers = Buffers::new(32);
        let (record, rotated) = buffers.reserve(1000).unwrap();
        assert_eq!((record.len(), rotated), (32, false));
    }

    #[test]
    fn a_buffer_of_another_size_is_not_taken_back() {
        let mut buffers = Buffers::new(32);
        fill(&mut buffers, 32, 1).unwrap();
        buffers.rotate();
        let (hold, _) = buffers.take_hold().unwrap();
        buffers = Buffers::new(64);
        assert_eq!(buffers.give_back(hold).map(|buffer| buffer.len()), Some(32));
        assert!(buffers.rotate());
    }

    #[test]
    fn reset_forgets_all_but_what_the_reader_has() {
        let mut buffers = Buffers::new(32);
        fill(&mut buffers, 32, 1).unwrap();
        fill(&mut buffers, 8, 2).unwrap();
        buffers.reset();
        assert_eq!((buffers.held(), buffers.stored()), (0, 0));
        fill(&mut buffers, 32, 3).unwrap();
        buffers.rotate();
        let (hold, _) = buffers.take_hold().unwrap();
        buffers.reset();
        assert!(buffers.with_reader());
        assert_eq!(hold[0], 3);
        assert!(buffers.give_back(hold).is_none());
        assert!(!buffers.with_reader());
    }

    /// What a user of [`Buffers`] can do.
    #[derive(Clone, Debug)]
    enum Step {
        Store(usize),
        Rotate,
        Take,
        GiveBack,
        Reset,
    }

    /// The same, slow and simple: records in queues.
    #[derive(Default)]
    struct Model {
        size: usize,
        store: Vec<u8>,
        hold: Option<Vec<u8>>,
        reader: Option<Vec<u8>>,
    }

    impl Model {
        fn rotate(&mut self) -> bool {
            let free = self.hold.is_none() && self.reader.is_none();
            if free {
                self.hold = Some(core::mem::take(&mut self.store));
            }
            free
        }

        fn store(&mut self, len: usize, byte: u8) -> Result<bool, Full> {
            let len = len.min(self.size);
            let start = self.store.len().next_multiple_of(ALIGNMENT);
            let full = start + len > self.size;
            if full && !self.rotate() {
                return Err(Full);
            }
            let start = if full { 0 } else { start };
            self.store.resize(start, 0);
            self.store.resize(start + len, byte);
            Ok(full)
        }
    }

    fn step() -> impl proptest::strategy::Strategy<Value = Step> {
        use proptest::prelude::*;
        prop_oneof![
            6 => (0usize..90).prop_map(Step::Store),
            1 => Just(Step::Rotate),
            2 => Just(Step::Take),
            2 => Just(Step::GiveBack),
            1 => Just(Step::Reset),
        ]
    }

    proptest::proptest! {
        #[test]
        fn buffers_are_queues(size in 32usize..100, steps in proptest::collection::vec(step(), 0..60)) {
            let mut buffers = Buffers::new(size);
            let mut model = Model { size, ..Model::default() };
            let mut reader = None;
            for (byte, step) in (1u8..).zip(steps) {
                match step {
                    Step::Store(len) => {
                        assert_eq!(fill(&mut buffers, len, byte), model.store(len, byte));
                    }
                    Step::Rotate => assert_eq!(buffers.rotate(), model.rotate()),
                    Step::Take => {
                        let taken = buffers.take_hold();
                        let bytes = taken.as_ref().map(|(buffer, len)| buffer[..*len].to_vec());
                        let expected = model.hold.take();
                        assert_eq!(bytes, expected);
                        if taken.is_some() {
                            (reader, model.reader) = (taken, expected);
                        }
                    }
                    Step::GiveBack => {
                        if let (Some((buffer, len)), Some(bytes)) = (reader.take(), model.reader.take()) {
                            // Nobody touched it meanwhile.
                            assert_eq!(buffer[..len], bytes);
                            assert!(buffers.give_back(buffer).is_none());
                        }
                    }
                    Step::Reset => {
                        buffers.reset();
                        model.store.clear();
                        model.hold = None;
                    }
                }
                assert_eq!(buffers.stored(), model.store.len());
                assert_eq!(buffers.held(), model.hold.as_ref().map_or(0, Vec::len));
                assert_eq!(buffers.has_hold(), model.hold.is_some());
                assert_eq!(buffers.with_reader(), model.reader.is_some());
            }
        }
    }
}
