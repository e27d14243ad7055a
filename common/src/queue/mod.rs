//! The queue port: at least once, with visibility, as SQS has it.
//!
//! A message that was received is hidden from the others for its visibility
//! timeout. Whoever got it either acknowledges it (it is gone), extends the
//! timeout while working, or releases it (at once, or after a wait). If nothing
//! is heard the message is delivered again.

#[cfg(test)]
mod conformance;
#[cfg(feature = "local")]
mod embedded;
mod sqs;

use std::collections::BTreeMap;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;

#[cfg(feature = "local")]
pub use embedded::{Embedded, EmbeddedQueue, MOST_CRASHES};
pub use sqs::Sqs;

/// Where messages wait.
///
/// Every adapter keeps this contract, and `conformance` holds it to it:
///
/// - `send` returns once all messages are kept; on an error some may be, so
///   the caller sends all of them again.
/// - `receive` waits up to `wait` for the first message, and returns at most
///   `max` without waiting for more. `max` of zero returns nothing at once.
/// - `extend` counts `visibility` from now; `release` with a delay of zero makes
///   a message visible at once.
/// - A handle that is no longer the latest delivery's is passed over: the
///   message is someone else's now. That is no error, in `extend`, `release`
///   and `acknowledge`.
/// - An empty list is no error, and reaches nobody.
/// - A message received more often than the queue allows goes to the
///   dead-letter queue by itself: the backstop for processes that die.
#[async_trait]
pub trait Queue: Send + Sync {
    /// Puts messages on the queue.
    async fn send(&self, messages: &[Outgoing]) -> Result<(), QueueError>;

    /// Takes up to `max` visible messages, and hides them for `visibility`.
    async fn receive(
        &self,
        max: usize,
        visibility: Duration,
        wait: Duration,
    ) -> Result<Vec<Delivery>, QueueError>;

    /// Hides received messages for `visibility` from now.
    async fn extend(&self, handles: &[Handle], visibility: Duration) -> Result<(), QueueError>;

    /// Gives received messages back, to be received again after `delay`.
    async fn release(&self, handles: &[Handle], delay: Duration) -> Result<(), QueueError>;

    /// Removes received messages.
    async fn acknowledge(&self, handles: &[Handle]) -> Result<(), QueueError>;

    /// How much there is; a remote queue tells it approximately.
    async fn depth(&self) -> Result<Depth, QueueError>;
}

/// A message to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outgoing {
    /// The body, a JSON text.
    pub body: String,
    /// Named strings beside the body; at most ten on SQS.
    pub attributes: BTreeMap<String, String>,
}

impl Outgoing {
    /// A message without attributes.
    pub fn new(body: String) -> Self {
        Self { body, attributes: BTreeMap::new() }
    }
}

/// A message that was received.
#[derive(Debug, Clone)]
pub struct Delivery {
    /// The message's name in its queue, for logs.
    pub id: String,
    /// What acknowledges this delivery.
    pub handle: Handle,
    /// The body.
    pub body: String,
    /// Named strings beside the body.
    pub attributes: BTreeMap<String, String>,
    /// How often it was received, this time included.
    pub receives: u32,
    /// When it was sent.
    pub sent_at: Timestamp,
}

/// What stands for one delivery of one message.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Handle(pub String);

/// How many messages there are, by what they wait for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct Depth {
    /// Can be received now.
    pub visible: u64,
    /// Received, and hidden while someone works on them.
    pub in_flight: u64,
    /// Released, and hidden until their next try.
    pub delayed: u64,
}

impl Depth {
    /// All of them.
    pub fn total(&self) -> u64 {
        self.visible + self.in_flight + self.delayed
    }
}

/// A queue that could not be used.
#[derive(Debug, Clone, thiserror::Error)]
#[error("the {queue} queue can't {operation}: {cause}")]
pub struct QueueError {
    /// The queue's name.
    pub queue: String,
    /// What was tried: "send", "receive".
    pub operation: &'static str,
    /// The chain of causes.
    pub cause: String,
}
