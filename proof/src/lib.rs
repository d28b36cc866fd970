// SPDX-License-Identifier: BSD-2-Clause
//! State machines of bpfrs that a model checker explores completely.
//!
//! What the driver's own code is explored with (loom, shuttle) sees real
//! atomics and locks, but few threads. Here it is the other way round: the
//! protocol step by step, with all of devfs(5) and revoke(2) around it.

pub mod life;
