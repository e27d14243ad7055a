//! One bottle, end to end: from upstream into the store, verified on the way.

mod budget;
mod error;
mod parts;
mod whole;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio_util::sync::CancellationToken;
use url::Url;

use crate::bottle::{Digest, ObjectKey};
use crate::message::Message;
use crate::registry::Upstream;
use crate::retry::Policy;
use crate::store::Store;

pub use budget::{MemoryBudget, Reservation};
pub use error::{Consequence, MirrorError};

/// The size of a part in bytes: S3 takes no smaller one than 5 MiB.
pub const PART_SIZE: u64 = 8 << 20;

/// S3 takes no more parts than this for one object.
/// <https://docs.aws.amazon.com/AmazonS3/latest/userguide/qfacts.html>
pub(crate) const MOST_PARTS: u64 = 10_000;

/// The largest bottle in bytes: as many parts as S3 takes for one object. Homebrew's have
/// some gigabytes at most.
pub const LARGEST_BOTTLE: u64 = MOST_PARTS * PART_SIZE;

/// How many parts of one bottle are on their way at once. One stream from a
/// CDN rarely fills a link, and many are impolite.
const PARTS_AT_ONCE: usize = 4;

/// Mirrors bottles. Cheap to share behind an `Arc`.
pub struct Mirror {
    store: Arc<dyn Store>,
    upstream: Arc<Upstream>,
    budget: MemoryBudget,
    store_retry: Policy,
    /// Bytes that came from upstream, of unfinished bottles too.
    received: AtomicU64,
}

/// How a bottle came to be in the mirror.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mirrored {
    /// It was there.
    AlreadyHeld,
    /// It was copied from another key of the mirror.
    Copied,
    /// It was fetched from upstream.
    Fetched,
}

/// The bottle that a transfer is about.
struct Bottle<'a> {
    url: &'a Url,
    key: &'a ObjectKey,
    digest: Digest,
    size: u64,
}

impl Mirror {
    /// A mirror that holds at most `budget` of bottles in memory.
    pub fn new(
        store: Arc<dyn Store>,
        upstream: Arc<Upstream>,
        budget: MemoryBudget,
        store_retry: Policy,
    ) -> Self {
        Self { store, upstream, budget, store_retry, received: AtomicU64::new(0) }
    }

    /// Bytes that came from upstream so far, of unfinished bottles too.
    pub fn received(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }

    /// Brings one bottle into the store, unless it is there.
    ///
    /// Wrong bytes are fetched once more from scratch. When `cancel` fires, the
    /// transfer is given up and its upload aborted.
    pub async fn mirror(
        &self,
        message: &Message,
        cancel: &CancellationToken,
    ) -> Result<Mirrored, MirrorError> {
        let key = message.key();
        let looked = cancel.run_until_cancelled(self.look(message, &key)).await;
        if let Some(mirrored) = looked.unwrap_or(Err(MirrorError::Cancelled))? {
            return Ok(mirrored);
        }
        let url = message.url().map_err(|error| MirrorError::bad_url(message, error))?;
        let bottle = Bottle { url: &url, key: &key, digest: message.digest, size: message.size };
        match self.fetch(&bottle, cancel).await {
            Err(error) if error.is_wrong_bytes() => {
                tracing::warn!(bottle.digest = %bottle.digest, %error, "wrong bytes: fetching once more from scratch");
                self.fetch(&bottle, cancel).await?;
            }
            outcome => outcome?,
        }
        Ok(Mirrored::Fetched)
    }

    /// What the mirror can do without upstream.
    async fn look(&self, message: &Message, key: &ObjectKey) -> Result<Option<Mirrored>, MirrorError> {
        // What is to be replaced may well look right: only its bytes are wrong.
        if !message.replace && self.holds(key, message.size).await? {
            return Ok(Some(Mirrored::AlreadyHeld));
        }
        match &message.copy_from {
            Some(from) if self.copy(from, key).await => Ok(Some(Mirrored::Copied)),
            _ => Ok(None),
        }
    }

    async fn fetch(&self, bottle: &Bottle<'_>, cancel: &CancellationToken) -> Result<(), MirrorError> {
        let part_size = PART_SIZE.max(bottle.size.div_ceil(MOST_PARTS));
        if bottle.size > part_size {
            self.fetch_in_parts(bottle, part_size, cancel).await
        } else {
            cancel.run_until_cancelled(self.fetch_whole(bottle)).await.unwrap_or(Err(MirrorError::Cancelled))
        }
    }

    /// A key only ever holds its own bottle, so that its being there is enough;
    /// another size means that someone else wrote to the store.
    async fn holds(&self, key: &ObjectKey, size: u64) -> Result<bool, MirrorError> {
        let found = self.store_retry.run(|| self.store.head(key), |_, _| {}).await?;
        Ok(match found {
            Some(meta) if meta.size == size => true,
            Some(meta) => {
                tracing::warn!(object.key = %key, object.bytes = meta.size, expected_bytes = size, "damaged in the store: fetching it again");
                false
            }
            None => false,
        })
    }

    /// A copy that can't be made is no failure: the bottle is fetched then.
    async fn copy(&self, from: &ObjectKey, to: &ObjectKey) -> bool {
        self.store.copy(from, to).await.unwrap_or_else(|error| {
            tracing::warn!(object.key = %from, %error, "can't be copied: fetching it instead");
            false
        })
    }

    fn count(&self, bytes: usize) {
        self.received.fetch_add(bytes as u64, Ordering::Relaxed);
    }
}
