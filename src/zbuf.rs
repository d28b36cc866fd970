// SPDX-License-Identifier: BSD-2-Clause
//! A zero-copy buffer: pages of the user's, which both sides use in turn.
//!
//! They begin with a header of two generations. The kernel raises its own when
//! it hands the buffer over; the user makes its own equal to give it back.
//! The user can write to all of this at any time, so what the driver knows of
//! a buffer is kept here; only the user's generation is ever read.

use core::mem::offset_of;

use crate::kpi::abi::bpf_zbuf_header;
use crate::kpi::errno::Result;
use crate::kpi::memory::Window;
use crate::kpi::pages::Pages;

const HEADER: usize = size_of::<bpf_zbuf_header>();

/// One of the two buffers of BIOCSETZBUF.
pub(crate) struct Zbuf {
    pages: Pages,
    /// `bzh_kernel_gen`, as it was written last.
    generation: u32,
    /// The user has it.
    assigned: bool,
}

impl Zbuf {
    /// Takes `len` bytes at `address` of the calling process, whose header is
    /// set to zeros. Sleeps.
    ///
    /// # Errors
    /// EINVAL unless these are whole pages, not too many; EFAULT; ENOMEM.
    pub(crate) fn new(address: usize, len: usize) -> Result<Zbuf> {
        let mut pages = Pages::hold(address, len)?;
        pages.window(0).split_at(HEADER).0.put(&[]);
        Ok(Zbuf { pages, generation: 0, assigned: false })
    }

    /// Bytes for records.
    pub(crate) fn size(&self) -> usize {
        self.pages.len().saturating_sub(HEADER)
    }

    /// What the user calls it.
    pub(crate) fn address(&self) -> usize {
        self.pages.address()
    }

    /// The place for records.
    pub(crate) fn window(&mut self) -> Window<'_> {
        self.pages.window(HEADER)
    }

    /// Whether the user has it, or had it and nobody looked since.
    pub(crate) fn is_assigned(&self) -> bool {
        self.assigned
    }

    /// Hands it over with `len` bytes of records, if that was not done before.
    pub(crate) fn assign(&mut self, len: usize) {
        if self.assigned {
            return;
        }
        self.assigned = true;
        self.generation = self.generation.wrapping_add(1);
        // A buffer is at most BPF_MAX_PAGES long.
        let len = u32::try_from(len).unwrap_or(u32::MAX);
        self.pages.set_word(offset_of!(bpf_zbuf_header, bzh_kernel_len), len);
        self.pages.set_word(offset_of!(bpf_zbuf_header, bzh_kernel_gen), self.generation);
    }

    /// Whether the user gave it back.
    pub(crate) fn is_returned(&self) -> bool {
        self.pages.get_word(offset_of!(bpf_zbuf_header, bzh_user_gen)) == self.generation
    }

    /// It is the kernel's again.
    pub(crate) fn take_back(&mut self) {
        self.assigned = false;
    }
}
