//! How busy a worker is, for those who watch over its process.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

/// How busy a worker is. Cheap to clone; all clones show the same.
#[derive(Debug, Clone)]
pub struct Activity {
    in_hand: Arc<watch::Sender<usize>>,
    turned_at: Arc<Mutex<Instant>>,
}

/// One message in hand, until this is dropped.
pub(super) struct InHand(Activity);

impl Default for Activity {
    fn default() -> Self {
        Self { in_hand: Arc::new(watch::Sender::new(0)), turned_at: Arc::new(Mutex::new(Instant::now())) }
    }
}

impl Activity {
    /// The number of messages that were received and are neither acknowledged
    /// nor given back, as it changes.
    pub fn in_hand(&self) -> watch::Receiver<usize> {
        self.in_hand.subscribe()
    }

    /// How long ago the loop last went round: it does when something was
    /// received, when a poll ended empty, and when a bottle is done.
    pub fn since_turn(&self) -> Duration {
        self.turned_at.lock().unwrap_or_else(PoisonError::into_inner).elapsed()
    }

    pub(super) fn turn(&self) {
        *self.turned_at.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    pub(super) fn take(&self) -> InHand {
        self.in_hand.send_modify(|count| *count += 1);
        InHand(self.clone())
    }
}

impl Drop for InHand {
    fn drop(&mut self) {
        self.0.in_hand.send_modify(|count| *count -= 1);
    }
}
