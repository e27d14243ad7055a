//! Bottles that were given up on: why, and how they are told apart.

mod desk;
pub(crate) mod reason;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::message::Message;
use crate::queue::{Delivery, Outgoing};

pub use desk::{Deed, Desk, DeskError, DeskLane, GoneThrough, Letter};
pub use reason::{ByReason, REASONS, Reason};

/// What is known of a failure.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// Why.
    pub reason: Reason,
    /// In a sentence, without signed URLs; at most [`LONGEST_DETAIL`] bytes.
    pub detail: String,
    /// How often the message was received; zero where nobody knows.
    pub attempts: u32,
    /// When it was given up on.
    pub at: Timestamp,
}

/// Details are cut to this many bytes: they travel as message attributes.
pub const LONGEST_DETAIL: usize = 1000;

impl Failure {
    /// A failure, its detail cut to size.
    pub fn new(reason: Reason, detail: &str, attempts: u32, at: Timestamp) -> Self {
        let end = (0..=detail.len().min(LONGEST_DETAIL))
            .rev()
            .find(|end| detail.is_char_boundary(*end))
            .unwrap_or(0);
        Self { reason, detail: detail[..end].to_owned(), attempts, at }
    }

    /// The dead letter of a message: its body as it was, the failure beside it.
    pub fn dead_letter(&self, body: &str) -> Outgoing {
        let attributes = [
            ("reason", self.reason.to_string()),
            ("detail", self.detail.clone()),
            ("attempts", self.attempts.to_string()),
            ("failed_at", self.at.to_string()),
        ];
        // SQS takes no empty attribute.
        let attributes = attributes.into_iter().filter(|(_, value)| !value.is_empty());
        Outgoing {
            body: body.to_owned(),
            attributes: attributes.map(|(name, value)| (name.to_owned(), value)).collect(),
        }
    }
}

/// A message in a dead-letter queue.
#[derive(Debug, Clone)]
pub struct DeadLetter {
    /// The message's body, as it was sent.
    pub body: String,
    /// What it says, where it can be read.
    pub message: Option<Message>,
    /// Why it is there.
    pub failure: Failure,
}

impl DeadLetter {
    /// Reads a delivery from a dead-letter queue.
    pub fn read(delivery: &Delivery) -> Self {
        let attribute = |name: &str| delivery.attributes.get(name).map(String::as_str);
        let failure = match attribute("reason").and_then(|text| text.parse().ok()) {
            Some(reason) => Failure {
                reason,
                detail: attribute("detail").unwrap_or_default().to_owned(),
                attempts: attribute("attempts").and_then(|text| text.parse().ok()).unwrap_or(0),
                at: attribute("failed_at").and_then(|text| text.parse().ok()).unwrap_or(delivery.sent_at),
            },
            // The queue itself moved it: nobody lived to say why.
            None => Failure {
                reason: Reason::Crashed,
                detail: "no process lived long enough to say why".to_owned(),
                attempts: attribute("attempts").and_then(|text| text.parse().ok()).unwrap_or(0),
                at: delivery.sent_at,
            },
        };
        Self { body: delivery.body.clone(), message: Message::parse(&delivery.body).ok(), failure }
    }
}
