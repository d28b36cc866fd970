// SPDX-License-Identifier: BSD-2-Clause
//! What filters are tested and measured with: libpcap's compiler and its
//! interpreter, packets, and expressions.

mod expressions;
mod libpcap;
mod packets;

pub use expressions::expressions;
pub use libpcap::{Program, compile};
pub use packets::{imix, variety};
