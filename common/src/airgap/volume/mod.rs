//! One volume: a compressed archive, written and read as a stream.
//!
//! Compressing and packing are synchronous, and so each volume has a thread of its own
//! for them. What goes to it or comes from it waits in a short channel.

mod read;
mod write;

pub(super) use read::{Entry, Reader};
pub(super) use write::Writer;

/// Files are read and written in portions of this many bytes.
const PORTION: usize = 256 << 10;

/// So many portions wait between the threads.
const WAITING: usize = 8;
