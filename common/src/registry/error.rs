//! What can go wrong upstream, and what to do about it.

use std::time::Duration;

use crate::bottle::DigestMismatch;
use crate::catalogue::CatalogueError;
use crate::retry::{Retryable, Verdict};

/// A request to upstream that failed.
///
/// No variant holds a URL's query: redirect targets are signed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// 404 or 410: upstream doesn't have it.
    #[error("upstream does not have {what} (HTTP {status})")]
    NotFound {
        /// Path and host of what was asked for.
        what: String,
        /// 404 or 410.
        status: u16,
    },
    /// 401 or 403, with a fresh token too.
    #[error("upstream refuses {what} (HTTP {status}), with a fresh token too")]
    Unauthorized {
        /// Path and host of what was asked for.
        what: String,
        /// 401 or 403.
        status: u16,
    },
    /// 429, 5xx or another status that may pass.
    #[error("upstream answers HTTP {status} for {what}")]
    Status {
        /// Path and host of what was asked for.
        what: String,
        /// The status.
        status: u16,
        /// `Retry-After`, if there was one.
        retry_after: Option<Duration>,
    },
    /// A status that no retry will change.
    #[error("upstream answers HTTP {status} for {what}, which nothing here expects")]
    Unexpected {
        /// Path and host of what was asked for.
        what: String,
        /// The status.
        status: u16,
    },
    /// No connection, a reset, a timeout, a broken body.
    #[error("the connection for {what} failed: {cause}")]
    Transport {
        /// Path and host of what was asked for.
        what: String,
        /// The chain of causes, without URLs.
        cause: String,
    },
    /// The body is not as long as the image index or the server announced.
    #[error("{what} has {actual} bytes where {expected} were announced")]
    WrongSize {
        /// Path and host of what was asked for.
        what: String,
        /// Bytes announced.
        expected: u64,
        /// Bytes that came, or that the server said would.
        actual: u64,
    },
    /// A server that took a range a moment ago takes none now.
    #[error("{what} is no longer served in ranges")]
    RangeRefused {
        /// Path and host of what was asked for.
        what: String,
    },
    /// The bytes are not the bottle.
    #[error("wrong digest: {0}")]
    WrongDigest(#[from] DigestMismatch),
    /// The URL's host is not on the list.
    #[error(
        "{origin} is not an allowed host; name it with --allow-host (BOTTLES_ALLOW_HOST) if it should be"
    )]
    HostNotAllowed {
        /// Scheme, host and port.
        origin: String,
    },
    /// A redirect without a usable target, or too many of them.
    #[error("the redirect for {what} leads nowhere: {why}")]
    BadRedirect {
        /// Path and host of what was asked for.
        what: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// More came than anything of its kind has.
    #[error("{what} is larger than {limit} bytes, which nothing of its kind is")]
    TooLarge {
        /// Path and host of what was asked for.
        what: String,
        /// The limit in bytes.
        limit: usize,
    },
    /// The image index can't be used.
    #[error("the image index {what} is malformed: {why}")]
    MalformedIndex {
        /// Path and host of the index.
        what: String,
        /// What is wrong with it.
        why: String,
    },
    /// The catalogue can't be used.
    #[error(transparent)]
    Catalogue(#[from] CatalogueError),
    /// The URL itself is no good.
    #[error("{url:?} is no URL that can be fetched: {why}")]
    BadUrl {
        /// As it was given.
        url: String,
        /// What is wrong with it.
        why: String,
    },
}

impl Retryable for Error {
    fn verdict(&self) -> Verdict {
        match self {
            Self::Status { retry_after, .. } => Verdict::Retry { after: *retry_after },
            // A cut body or catalogue is a broken connection by another name.
            Self::Transport { .. } | Self::Catalogue(CatalogueError::Truncated { .. }) => {
                Verdict::Retry { after: None }
            }
            // Wrong bytes are tried once more, but from scratch: `mirror` does that.
            Self::WrongSize { .. }
            | Self::WrongDigest(_)
            | Self::RangeRefused { .. }
            | Self::NotFound { .. }
            | Self::Unauthorized { .. }
            | Self::Unexpected { .. }
            | Self::HostNotAllowed { .. }
            | Self::BadRedirect { .. }
            | Self::MalformedIndex { .. }
            | Self::TooLarge { .. }
            | Self::Catalogue(_)
            | Self::BadUrl { .. } => Verdict::GiveUp,
        }
    }
}

impl Error {
    pub(super) fn transport(what: &str, error: reqwest::Error) -> Self {
        // reqwest puts the URL, signature and all, in front of its message.
        let error = error.without_url();
        let mut cause = error.to_string();
        let mut source = std::error::Error::source(&error);
        while let Some(error) = source {
            cause = format!("{cause}: {error}");
            source = error.source();
        }
        Self::Transport { what: what.to_owned(), cause }
    }
}
