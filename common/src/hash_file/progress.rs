//! How far an import is.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::run::Count;

/// How far an import is. Cheap to clone; all clones show the same.
#[derive(Debug, Clone, Default)]
pub struct ImportProgress(Arc<Counters>);

#[derive(Debug, Default)]
struct Counters {
    bottles: AtomicU64,
    bytes: AtomicU64,
    all_bottles: AtomicU64,
    all_bytes: AtomicU64,
}

impl ImportProgress {
    /// The bottles that are done and the bytes that were read for them, and what both
    /// come to in the end. The bytes of repeated reads count too.
    pub fn now(&self) -> (Count, Count) {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let Counters { bottles, bytes, all_bottles, all_bytes } = &*self.0;
        (
            Count { bottles: load(bottles), bytes: load(bytes) },
            Count { bottles: load(all_bottles), bytes: load(all_bytes) },
        )
    }

    pub(super) fn begin(&self, all: Count) {
        self.0.all_bottles.store(all.bottles, Ordering::Relaxed);
        self.0.all_bytes.store(all.bytes, Ordering::Relaxed);
    }

    pub(super) fn read(&self, bytes: usize) {
        self.0.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub(super) fn finished(&self) {
        self.0.bottles.fetch_add(1, Ordering::Relaxed);
    }
}
