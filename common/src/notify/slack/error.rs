//! What can go wrong on the way to Slack, and what to do about it.

use std::time::Duration;

use crate::retry::{Retryable, Verdict};

use super::RETRY;

/// A notice that could not be posted. No variant holds the webhook's URL.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SlackError {
    /// TLS can't be used on this machine.
    #[error("no HTTP client can be made: {cause}")]
    Client {
        /// The chain of causes.
        cause: String,
    },
    /// Secrets Manager doesn't give the secret.
    #[error("the secret {secret} can't be read: {cause}")]
    Secret {
        /// The secret's name.
        secret: String,
        /// What the service or the connection said.
        cause: String,
    },
    /// The secret is not what it should be.
    #[error("the secret {secret} holds no webhook: {why}")]
    NoWebhook {
        /// The secret's name.
        secret: String,
        /// What is wrong with its value.
        why: &'static str,
    },
    /// 403, 404 or 410, with the secret's present value too.
    #[error("Slack refuses the webhook of the secret {secret} (HTTP {status}{word}): was it revoked?")]
    Refused {
        /// The secret's name.
        secret: String,
        /// The status.
        status: u16,
        /// Slack's own word with a colon before it, or nothing.
        word: String,
    },
    /// Any other status than success.
    #[error("Slack answers HTTP {status}{word}")]
    Status {
        /// The status.
        status: u16,
        /// Slack's own word with a colon before it, or nothing.
        word: String,
        /// `Retry-After`, if there was one.
        retry_after: Option<Duration>,
    },
    /// No connection, a reset, a timeout.
    #[error("Slack can't be reached: {cause}")]
    Unreachable {
        /// The chain of causes.
        cause: String,
    },
    /// The time for one notice was up.
    #[error("Slack did not take it in time")]
    TooSlow,
}

impl Retryable for SlackError {
    fn verdict(&self) -> Verdict {
        match self {
            // Asked for more time than a notice has, another post would only
            // be turned away like this one.
            Self::Status { retry_after: Some(wait), .. } if *wait > RETRY.longest_wait => Verdict::GiveUp,
            Self::Status { status: 408 | 429 | 500.., retry_after, .. } => {
                Verdict::Retry { after: *retry_after }
            }
            Self::Unreachable { .. } => Verdict::Retry { after: None },
            Self::Client { .. }
            | Self::Secret { .. }
            | Self::NoWebhook { .. }
            | Self::Refused { .. }
            | Self::Status { .. }
            | Self::TooSlow => Verdict::GiveUp,
        }
    }
}
