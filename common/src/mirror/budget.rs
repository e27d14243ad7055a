//! One bound on the memory of all transfers together.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::{Bytes, BytesMut};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Bytes of bottles that may be in memory at once.
#[derive(Clone, Debug)]
pub struct MemoryBudget {
    free: Arc<Semaphore>,
    /// In units.
    total: u32,
    /// Buffers of parts that are done with. Freeing and taking them anew would
    /// tear the heap apart, and double the process's memory over its budget.
    spare: Arc<Mutex<Vec<BytesMut>>>,
}

/// A part of the budget; given back when it is dropped.
#[derive(Debug)]
pub struct Reservation {
    _permit: Option<OwnedSemaphorePermit>,
}

/// More buffers than this are not kept for reuse.
const MOST_SPARE: usize = 4;

/// The budget is counted in these, in bytes.
const UNIT: u64 = 4096;

impl MemoryBudget {
    /// A budget of `bytes`.
    pub fn new(bytes: u64) -> Self {
        let total = u32::try_from((bytes / UNIT).max(1)).unwrap_or(u32::MAX);
        Self { free: Arc::new(Semaphore::new(total as usize)), total, spare: Arc::default() }
    }

    /// Waits for room for `bytes`. Those who ask are served in turn, so that a
    /// large request isn't starved by small ones; one that is larger than the
    /// whole budget gets all of it.
    pub async fn reserve(&self, bytes: u64) -> Reservation {
        let units = u32::try_from(bytes.div_ceil(UNIT)).unwrap_or(u32::MAX).clamp(1, self.total);
        // The semaphore is never closed.
        Reservation { _permit: Arc::clone(&self.free).acquire_many_owned(units).await.ok() }
    }

    /// An empty buffer for a part of `capacity` bytes, for which room was reserved.
    pub fn buffer(&self, capacity: usize) -> BytesMut {
        let mut spare = self.spare.lock().unwrap_or_else(PoisonError::into_inner);
        match spare.iter().position(|buffer| buffer.capacity() >= capacity) {
            Some(position) => spare.swap_remove(position),
            None => BytesMut::with_capacity(capacity),
        }
    }

    /// Takes a part back that is done with. Of several holders of the same part
    /// each calls this, and the last one's is kept.
    pub fn recycle(&self, part: Bytes) {
        let Ok(mut buffer) = part.try_into_mut() else { return };
        buffer.clear();
        let mut spare = self.spare.lock().unwrap_or_else(PoisonError::into_inner);
        if spare.len() < MOST_SPARE {
            spare.push(buffer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn no_more_than_the_budget_is_out_at_once() {
        let budget = MemoryBudget::new(16 * UNIT);
        let first = budget.reserve(10 * UNIT).await;
        assert!(futures_util::FutureExt::now_or_never(budget.reserve(7 * UNIT)).is_none());
        drop(first);
        let _all = budget.reserve(1 << 40).await;
        assert!(futures_util::FutureExt::now_or_never(budget.reserve(1)).is_none());
    }
}
