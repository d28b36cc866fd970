// SPDX-License-Identifier: BSD-2-Clause
//! The two capture buffers of a descriptor and their rotation.
//!
//! Packets go into the *store* buffer. When it is full, or when a reader may
//! have what is there, the buffers rotate: store becomes *hold*, which the
//! reader gets, and *free* becomes store. There are always two in all, so the
//! one that is not store is free, on hold, or with the reader.
//!
//! Zero-copy buffers rotate alike. On hold means there that the user has it,
//! and it is free when the user gave it back. A full store buffer, too, is
//! handed over at once if there is no other to rotate to.

use crate::kpi::memory::{Array, Window};
use crate::zbuf::Zbuf;

/// Records begin at multiples of this: `BPF_ALIGNMENT` on LP64.
pub const ALIGNMENT: usize = 8;

/// The same for a 32-bit process.
pub const ALIGNMENT32: usize = 4;

/// Rounds up to a multiple of `alignment`, a power of two: `BPF_WORDALIGN`.
pub const fn align(len: usize, alignment: usize) -> usize {
    let mask = alignment.wrapping_sub(1);
    len.wrapping_add(mask) & !mask
}

/// A buffer of either mode.
enum Buffer {
    Kernel(Array<u8>),
    User(Zbuf),
}

impl Buffer {
    #[inline]
    fn size(&self) -> usize {
        match self {
            Buffer::Kernel(bytes) => bytes.len(),
            Buffer::User(zbuf) => zbuf.size(),
        }
    }

    #[inline]
    fn window(&mut self) -> Window<'_> {
        match self {
            Buffer::Kernel(bytes) => Window::from(&mut bytes[..]),
            Buffer::User(zbuf) => zbuf.window(),
        }
    }

    /// Whether packets may be put there.
    fn is_writable(&self) -> bool {
        match self {
            Buffer::Kernel(_) => true,
            Buffer::User(zbuf) => !zbuf.is_assigned(),
        }
    }

    /// Tells the user that there are `len` bytes of records.
    fn hand_over(&mut self, len: usize) {
        if let Buffer::User(zbuf) = self {
            zbuf.assign(len);
        }
    }

    /// Whether the user gave it back.
    fn is_returned(&self) -> bool {
        matches!(self, Buffer::User(zbuf) if zbuf.is_returned())
    }
}

/// The buffer that is not being filled.
enum Other {
    Free(Buffer),
    Hold(Buffer, usize),
    /// The reader has it while it copies out without the lock: ownership
    /// moved, so it can neither rotate nor be freed under the reader.
    WithReader,
}

/// No room, and no free buffer to rotate to: the packet is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

/// Both buffers.
pub struct Buffers {
    store: Buffer,
    stored: usize,
    other: Other,
}

impl Buffers {
    /// Two empty buffers of `size` bytes. Sleeps.
    pub fn new(size: usize) -> Self {
        let buffer = || Buffer::Kernel(Array::zeroed(size));
        Buffers { store: buffer(), stored: 0, other: Other::Free(buffer()) }
    }

    /// Two zero-copy buffers of the same size, `first` to be filled first.
    pub(crate) fn shared(first: Zbuf, second: Zbuf) -> Self {
        Buffers { store: Buffer::User(first), stored: 0, other: Other::Free(Buffer::User(second)) }
    }

    /// The size of each.
    pub fn size(&self) -> usize {
        self.store.size()
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
        matches!(&self.other, Other::Hold(buffer, _) if !buffer.is_returned())
    }

    /// Whether a reader is copying out.
    pub fn with_reader(&self) -> bool {
        matches!(self.other, Other::WithReader)
    }

    /// Room for a record of `len` bytes, header included, at the next multiple
    /// of `alignment`, if it is there at once, as a rule; else ask
    /// [`Buffers::reserve`].
    #[inline]
    pub fn room(&mut self, len: usize, alignment: usize) -> Option<Window<'_>> {
        let start = align(self.stored, alignment);
        match &self.store {
            Buffer::Kernel(bytes) if bytes.len().checked_sub(start)? >= len => {
                Some(self.place(start, len))
            }
            _ => None,
        }
    }

    /// The same in any buffer, a user's too, and also if the buffers have to
    /// rotate for it, which it says; a record larger than a whole buffer is cut.
    ///
    /// # Errors
    /// [`Full`] if there is no room and no free buffer.
    pub fn reserve(&mut self, len: usize, alignment: usize) -> Result<(Window<'_>, bool), Full> {
        let start = align(self.stored, alignment);
        let rotated = self.make_room(start.saturating_add(len))?;
        let start = if rotated { 0 } else { start };
        let len = len.min(self.size().saturating_sub(start));
        Ok((self.place(start, len), rotated))
    }

    /// A record's place in the store buffer, which has it.
    #[inline]
    fn place(&mut self, start: usize, len: usize) -> Window<'_> {
        let before = core::mem::replace(&mut self.stored, start.wrapping_add(len));
        let mut buffer = self.store.window();
        // What was there must not shine through the gap: a word, of which the
        // header then takes the rest. Now, because a store to the end of the last
        // record before its data, in order, waits for memory far ahead.
        buffer.set(before, [0; ALIGNMENT]);
        buffer.split_at(start).1.split_at(len).0
    }

    /// Rotates if the store buffer does not reach to `end`, unless it is empty,
    /// or is the user's just now.
    fn make_room(&mut self, end: usize) -> Result<bool, Full> {
        self.reclaim();
        let lent = !self.store.is_writable();
        let rotate = (end > self.size() && self.stored != 0) || lent;
        if rotate && !self.rotate() {
            self.store.hand_over(self.stored);
            return Err(Full);
        }
        Ok(rotate)
    }

    /// Frees a hold buffer that the user gave back.
    fn reclaim(&mut self) {
        if matches!(&self.other, Other::Hold(buffer, _) if buffer.is_returned()) {
            self.free_hold();
        }
    }

    fn free_hold(&mut self) {
        match core::mem::replace(&mut self.other, Other::WithReader) {
            Other::Hold(mut buffer, _) => {
                if let Buffer::User(zbuf) = &mut buffer {
                    zbuf.take_back();
                }
                self.other = Other::Free(buffer);
            }
            other => self.other = other,
        }
    }

    /// Puts the store buffer on hold, if the other one is free.
    pub fn rotate(&mut self) -> bool {
        match core::mem::replace(&mut self.other, Other::WithReader) {
            Other::Free(free) => {
                let mut full = core::mem::replace(&mut self.store, free);
                full.hand_over(self.stored);
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

    /// BIOCROTZBUF: hands the store buffer over, if there is anything in it
    /// and the other one is free; its address and how much of it is filled.
    pub(crate) fn rotate_to_user(&mut self) -> Option<(usize, usize)> {
        self.reclaim();
        let rotated = self.stored != 0 && self.store.is_writable() && self.rotate();
        match &self.other {
            Other::Hold(Buffer::User(zbuf), len) if rotated => Some((zbuf.address(), *len)),
            _ => None,
        }
    }

    /// The hold buffer and how much of it is filled, for the reader, who
    /// brings it back with [`Buffers::give_back`]. Not one of the user's own.
    pub fn take_hold(&mut self) -> Option<(Array<u8>, usize)> {
        match core::mem::replace(&mut self.other, Other::WithReader) {
            Other::Hold(Buffer::Kernel(buffer), len) => Some((buffer, len)),
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
            self.other = Other::Free(Buffer::Kernel(buffer));
            None
        } else {
            Some(buffer)
        }
    }

    /// Forgets what was captured. What a reader is copying out it keeps: that
    /// read(2) came before. So does a user what was handed over.
    pub fn reset(&mut self) {
        if self.store.is_writable() {
            self.stored = 0;
        }
        match &self.other {
            Other::Hold(Buffer::Kernel(_), _) => self.free_hold(),
            _ => self.reclaim(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fill_anyhow(buffers: &mut Buffers, len: usize, byte: u8) -> Result<bool, Full> {
        buffers.reserve(len, ALIGNMENT).map(|(record, rotated)| {
            let bytes = vec![byte; record.len()];
            record.put(&bytes);
            rotated
        })
    }

    fn fill(buffers: &mut Buffers, len: usize, byte: u8) -> Result<bool, Full> {
        match buffers.room(len, ALIGNMENT) {
            Some(record) => {
                assert_eq!(record.len(), len);
                record.put(&vec![byte; len]);
                Ok(false)
            }
            None => fill_anyhow(buffers, len, byte),
        }
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
        let (record, rotated) = buffers.reserve(1000, ALIGNMENT).unwrap();
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
        /// Without asking for room that is there at once.
        StoreAnyhow(usize),
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
            4 => (ALIGNMENT..90).prop_map(Step::Store),
            2 => (ALIGNMENT..90).prop_map(Step::StoreAnyhow),
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
                    Step::StoreAnyhow(len) => {
                        let filled = fill_anyhow(&mut buffers, len, byte);
                        assert_eq!(filled, model.store(len, byte));
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
