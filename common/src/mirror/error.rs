//! Why a bottle could not be mirrored, and what follows from it.

use crate::dead_letter::Reason;
use crate::message::Message;
use crate::registry;
use crate::retry::{Retryable, Verdict};
use crate::store::StoreError;

/// A bottle that could not be mirrored.
#[derive(Debug, thiserror::Error)]
pub enum MirrorError {
    /// Upstream failed, or sent what it should not.
    #[error(transparent)]
    Upstream(#[from] registry::Error),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// It was told to stop.
    #[error("the transfer was stopped")]
    Cancelled,
    /// A part of the code failed.
    #[error("the code failed: {0}")]
    Panicked(String),
}

/// What follows from a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Consequence {
    /// The message goes back and is delivered later.
    TryLater(Reason),
    /// No further try will help: it is dead-lettered now.
    GiveUp(Reason),
    /// Nothing is wrong with the bottle: its message goes back at once.
    Return,
    /// Nothing is wrong with the bottle, and no other bottle will fare better:
    /// the worker stops.
    Abort,
}

impl MirrorError {
    pub(super) fn bad_url(message: &Message, why: url::ParseError) -> Self {
        let url = message.image.blob_url(&message.origin, &message.digest);
        Self::Upstream(registry::Error::BadUrl { url, why: why.to_string() })
    }

    /// Whether the bytes that came were not the bottle's.
    pub fn is_wrong_bytes(&self) -> bool {
        use registry::Error::{WrongDigest, WrongSize};
        matches!(self, Self::Upstream(WrongDigest(_) | WrongSize { .. }))
            || matches!(self, Self::Store(StoreError::WrongDigest { .. }))
    }

    /// What follows for the bottle's message.
    pub fn consequence(&self) -> Consequence {
        use registry::Error as Upstream;
        match self {
            Self::Cancelled => Consequence::Return,
            Self::Panicked(_) => Consequence::TryLater(Reason::Panicked),
            Self::Store(StoreError::NoRoom { .. } | StoreError::Failed { transient: false, .. }) => {
                Consequence::Abort
            }
            Self::Store(StoreError::WrongDigest { .. }) => Consequence::GiveUp(Reason::WrongDigest),
            Self::Store(_) => Consequence::TryLater(Reason::StoreFailing),
            Self::Upstream(error) => match error {
                Upstream::NotFound { .. } => Consequence::GiveUp(Reason::NotFound),
                Upstream::WrongDigest(_) => Consequence::GiveUp(Reason::WrongDigest),
                Upstream::WrongSize { .. } => Consequence::GiveUp(Reason::WrongSize),
                Upstream::Unauthorized { .. } => Consequence::GiveUp(Reason::Unauthorized),
                Upstream::HostNotAllowed { .. } => Consequence::GiveUp(Reason::HostNotAllowed),
                Upstream::Status { .. } => Consequence::TryLater(Reason::UpstreamFailing),
                Upstream::Transport { .. } => Consequence::TryLater(Reason::UpstreamUnreachable),
                Upstream::RangeRefused { .. } => Consequence::TryLater(Reason::UpstreamUnexpected),
                Upstream::Unexpected { .. }
                | Upstream::BadRedirect { .. }
                | Upstream::MalformedIndex { .. }
                | Upstream::TooLarge { .. }
                | Upstream::Catalogue(_)
                | Upstream::BadUrl { .. } => Consequence::GiveUp(Reason::UpstreamUnexpected),
            },
        }
    }
}

impl Retryable for MirrorError {
    fn verdict(&self) -> Verdict {
        match self {
            Self::Upstream(error) => error.verdict(),
            Self::Store(error) => error.verdict(),
            Self::Cancelled | Self::Panicked(_) => Verdict::GiveUp,
        }
    }
}
