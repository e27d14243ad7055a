//! Keeps received messages hidden while they are worked on.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::task::JoinHandle;

use crate::queue::{Handle, Queue};

/// Extends all held messages together; stops when it is dropped.
pub(super) struct Heartbeat {
    held: Arc<Mutex<HashSet<Handle>>>,
    task: JoinHandle<()>,
}

/// One message that is kept hidden until this is dropped.
pub(super) struct Held {
    handle: Handle,
    held: Arc<Mutex<HashSet<Handle>>>,
}

impl Heartbeat {
    pub(super) fn start(queue: Arc<dyn Queue>, visibility: Duration) -> Self {
        let held: Arc<Mutex<HashSet<Handle>>> = Arc::default();
        let shared = Arc::clone(&held);
        let task = tokio::spawn(async move {
            // Two beats may fail before a message is lost to another worker.
            let mut beat = tokio::time::interval(visibility / 3);
            beat.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            beat.tick().await;
            loop {
                beat.tick().await;
                let handles: Vec<_> = lock(&shared).iter().cloned().collect();
                // The next beat is the retry; at worst a bottle is fetched twice.
                if let Err(error) = queue.extend(&handles, visibility).await {
                    tracing::warn!(%error, messages = handles.len(), "the heartbeat failed");
                }
            }
        });
        Self { held, task }
    }

    pub(super) fn hold(&self, handle: Handle) -> Held {
        lock(&self.held).insert(handle.clone());
        Held { handle, held: Arc::clone(&self.held) }
    }
}

impl Drop for Heartbeat {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        lock(&self.held).remove(&self.handle);
    }
}

fn lock(held: &Mutex<HashSet<Handle>>) -> std::sync::MutexGuard<'_, HashSet<Handle>> {
    held.lock().unwrap_or_else(PoisonError::into_inner)
}
