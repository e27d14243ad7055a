//! The store port: objects under keys, as S3 has them.
//!
//! A bottle's key promises the digest of its bytes. No adapter ever lets other
//! bytes be seen there: `put` hands the store the expected digest, and an upload
//! in parts can only be completed with the proof that all of it hashed right.

#[cfg(test)]
mod conformance;
#[cfg(feature = "local")]
mod folder;
mod headers;
mod resume;
mod s3;

use std::collections::BTreeMap;
use std::ops::Range;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use futures_util::TryStreamExt as _;
use futures_util::stream::BoxStream;
use jiff::Timestamp;

use crate::bottle::{Digest, InvalidName, KeyKind, ObjectKey, Verified, VerifiedBytes};
use crate::retry::{Retryable, Verdict};

#[cfg(feature = "local")]
pub use folder::Folder;
pub use headers::Headers;
pub use resume::Resumed;
pub use s3::{InvalidLocation, Location, S3};

/// Where objects are kept.
///
/// Every adapter keeps this contract, and `conformance` holds it to it:
///
/// - An object is seen whole or not at all, also after a crash; what was
///   written is durable when the call returns.
/// - `put` to a bottle's key takes bytes that hash to that key's digest and no
///   others ([`StoreError::WrongDigest`]).
/// - `put` under a condition that doesn't hold changes nothing
///   ([`StoreError::Conflict`]); of two that race, one wins.
/// - `list` gives keys in order of their bytes, at most `limit`, after `after`.
/// - `delete` refuses every key outside `_sync/`: bottles are never deleted.
/// - An object's tags go with the write that they came with: what is written over
///   it, or copied to another key, has none.
#[async_trait]
pub trait Store: Send + Sync {
    /// What is known of an object without reading it.
    async fn head(&self, key: &ObjectKey) -> Result<Option<ObjectMeta>, StoreError>;

    /// Opens an object, or a range of its bytes that lies within it, to be read in
    /// chunks: all of them come from one state of it.
    async fn read(&self, key: &ObjectKey, range: Option<Range<u64>>) -> Result<Option<Reading>, StoreError>;

    /// Reads a whole object: for small ones.
    async fn get(&self, key: &ObjectKey) -> Result<Option<Object>, StoreError> {
        match self.read(key, None).await? {
            Some(reading) => reading.whole().await.map(Some),
            None => Ok(None),
        }
    }

    /// Writes a whole object, and returns its new version.
    async fn put(&self, key: &ObjectKey, body: Body, condition: Condition) -> Result<Version, StoreError>;

    /// Begins the upload of a bottle of `size` bytes in parts of `part_size`,
    /// the last of which may be shorter.
    async fn begin(&self, key: &ObjectKey, size: u64, part_size: u64) -> Result<Box<dyn Upload>, StoreError>;

    /// Copies a bottle inside the store: to another bottle's key of the same
    /// digest, or to a flat name. `false` if there is nothing to copy.
    async fn copy(&self, from: &ObjectKey, to: &ObjectKey) -> Result<bool, StoreError>;

    /// Copies an object that is no bottle's to a bottle's key, inside the store.
    /// `proof` is of the bytes of its state `version`; if it has another by now,
    /// nothing is written ([`StoreError::Conflict`]). `false` if it is gone.
    async fn adopt(
        &self,
        from: &ObjectKey,
        version: &Version,
        to: &ObjectKey,
        proof: Verified,
    ) -> Result<bool, StoreError>;

    /// The next `limit` objects whose keys begin with `prefix`.
    async fn list(
        &self,
        prefix: &str,
        after: Option<&ObjectKey>,
        limit: usize,
    ) -> Result<Vec<ObjectMeta>, StoreError>;

    /// Removes objects of the system's own; those that are gone are no error.
    async fn delete(&self, keys: &[ObjectKey]) -> Result<(), StoreError>;

    /// Writes an object anew with the same bytes and these tags, so that the days
    /// that a lifecycle rule counts begin now. `false` if it is not there.
    async fn retag(&self, key: &ObjectKey, tags: &Tags) -> Result<bool, StoreError>;

    /// An object's tags; none if it is not there.
    async fn tags(&self, key: &ObjectKey) -> Result<Tags, StoreError>;

    /// Removes those of `keys` that are tagged as superseded since `before` or
    /// longer, and no others. `false` from a store that expires them by a rule of its
    /// own, within a day or so, and does nothing.
    async fn expire(&self, keys: &[ObjectKey], before: Timestamp) -> Result<bool, StoreError>;
}

/// A bottle on its way into the store, seen by nobody until it is completed.
///
/// Dropped without either call, it is aborted as far as that can be done
/// without waiting.
#[async_trait]
pub trait Upload: Send + Sync {
    /// Writes part `index`, counted from zero. Parts may come in any order, at
    /// the same time, and again after a failure.
    async fn part(&self, index: u32, body: Bytes) -> Result<(), StoreError>;

    /// Makes the bottle visible. The proof is of all its bytes, in order; one
    /// of another digest or length than the key's is refused. Called once, when
    /// every part has returned.
    async fn complete(&self, proof: Verified) -> Result<(), StoreError>;

    /// Forgets the parts; called once, instead of `complete`.
    async fn abort(&self) -> Result<(), StoreError>;
}

/// What is written under a key.
#[derive(Debug, Clone)]
pub enum Body {
    /// Bytes that the store itself checks where the key promises a digest.
    Plain(Bytes),
    /// A bottle that was hashed already.
    Verified(VerifiedBytes),
    /// Bytes with the time at which they last changed where they come from, which
    /// is told instead of the time of the write.
    Dated(Bytes, Timestamp),
}

impl From<Bytes> for Body {
    fn from(bytes: Bytes) -> Self {
        Self::Plain(bytes)
    }
}

impl From<Vec<u8>> for Body {
    fn from(bytes: Vec<u8>) -> Self {
        Self::Plain(bytes.into())
    }
}

impl From<VerifiedBytes> for Body {
    fn from(bytes: VerifiedBytes) -> Self {
        Self::Verified(bytes)
    }
}

/// What must be the case for a write to happen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Condition {
    /// Nothing.
    Always,
    /// The key must be free.
    Absent,
    /// The key must hold this version.
    Matches(Version),
}

/// What tells an object's states apart: S3's `ETag`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version(pub String);

/// An object that is being read.
pub struct Reading {
    /// What is known of it; its size is that of the whole object.
    pub meta: ObjectMeta,
    /// Which of its states is read.
    pub version: Version,
    /// Its bytes, or those of the range.
    pub body: BoxStream<'static, Result<Bytes, StoreError>>,
}

impl Reading {
    /// All that is left to read, in memory.
    pub async fn whole(mut self) -> Result<Object, StoreError> {
        let mut body = BytesMut::with_capacity(usize::try_from(self.meta.size).unwrap_or(0));
        while let Some(chunk) = self.body.try_next().await? {
            body.extend_from_slice(&chunk);
        }
        Ok(Object { body: body.freeze(), version: self.version })
    }
}

/// An object and what is known of it.
#[derive(Debug, Clone)]
pub struct Object {
    /// Its bytes.
    pub body: Bytes,
    /// Which of its states they are.
    pub version: Version,
}

/// What is known of an object without reading it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectMeta {
    /// Its key.
    pub key: ObjectKey,
    /// Its length in bytes.
    pub size: u64,
    /// When it last changed: at its last write, or where it came from.
    pub modified: Timestamp,
    /// The sha256 of all its bytes, where the store has kept one: `head` and `read`
    /// tell it, `list` does not.
    pub sha256: Option<Digest>,
}

/// S3 copies no more at once, in bytes.
/// <https://docs.aws.amazon.com/AmazonS3/latest/API/API_CopyObject.html>
pub const LARGEST_COPY: u64 = 5 << 30;

impl From<InvalidName> for StoreError {
    fn from(error: InvalidName) -> Self {
        Self::Refused { key: error.value, why: error.why }
    }
}

/// An object's tags: at most ten on S3.
pub type Tags = BTreeMap<String, String>;

/// The tag, key and value, of a bottle that upstream dropped: the bucket's
/// lifecycle rule expires what has it. S3 counts the rule's days from an object's
/// last write and not from its tagging, so whoever tags a bottle writes it anew.
/// <https://docs.aws.amazon.com/AmazonS3/latest/userguide/intro-lifecycle-rules.html>
pub const SUPERSEDED: (&str, &str) = ("superseded", "true");

/// The tag that says since when: an RFC 3339 time.
pub const SUPERSEDED_AT: &str = "superseded-at";

/// The tags of a bottle that is superseded since `at`.
pub fn superseded_tags(at: Timestamp) -> Tags {
    let (name, value) = SUPERSEDED;
    Tags::from([(name.to_owned(), value.to_owned()), (SUPERSEDED_AT.to_owned(), format!("{at:.0}"))])
}

/// Since when tags say that a bottle is superseded; `None` if they don't, or not since
/// when.
pub fn superseded_at(tags: &Tags) -> Option<Timestamp> {
    superseded_since(tags, Timestamp::MAX).filter(|at| *at != Timestamp::MAX)
}

/// Since when tags say that a bottle is superseded, `written` if they don't say since
/// when; `None` if it is not.
pub fn superseded_since(tags: &Tags, written: Timestamp) -> Option<Timestamp> {
    let (name, value) = SUPERSEDED;
    let is_superseded = tags.get(name).map(String::as_str) == Some(value);
    let since = tags.get(SUPERSEDED_AT).and_then(|at| at.parse().ok());
    is_superseded.then(|| since.unwrap_or(written))
}

/// An object that could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The condition of a write did not hold.
    #[error("{key} was changed by someone else in the meantime")]
    Conflict {
        /// The object.
        key: ObjectKey,
    },
    /// The bytes are not those that the key promises.
    #[error("the bytes for {key} hash to {actual}: nothing was written")]
    WrongDigest {
        /// The object.
        key: ObjectKey,
        /// What the bytes hash to.
        actual: Digest,
    },
    /// A use of the store that would break a rule.
    #[error("{key}: {why}")]
    Refused {
        /// The object.
        key: String,
        /// Which rule.
        why: &'static str,
    },
    /// The disk is full: nothing will succeed until someone makes room.
    #[error("there is no room to write {key}: {cause}")]
    NoRoom {
        /// The object.
        key: String,
        /// The chain of causes.
        cause: String,
    },
    /// The store itself failed.
    #[error("the store can't {operation} {key}: {cause}")]
    Failed {
        /// What was tried: "put", "list".
        operation: &'static str,
        /// The object.
        key: String,
        /// The chain of causes.
        cause: String,
        /// Whether it may pass.
        transient: bool,
    },
}

impl Retryable for StoreError {
    fn verdict(&self) -> Verdict {
        match self {
            Self::Failed { transient: true, .. } => Verdict::Retry { after: None },
            _ => Verdict::GiveUp,
        }
    }
}

/// The bytes of a body, unless they are not what a bottle's key promises.
pub(crate) fn check_promise(key: &ObjectKey, body: Body) -> Result<Bytes, StoreError> {
    if let Some(expected) = key.blob_digest() {
        let actual = match &body {
            Body::Verified(verified) => verified.digest(),
            Body::Plain(bytes) | Body::Dated(bytes, _) => Digest::of(bytes),
        };
        if actual != expected {
            return Err(StoreError::WrongDigest { key: key.clone(), actual });
        }
    } else if matches!(key.kind(), KeyKind::FlatBottle) {
        return Err(StoreError::Refused {
            key: key.to_string(),
            why: "a flat name is only given to a bottle that is there, by a copy",
        });
    }
    Ok(match body {
        Body::Plain(bytes) | Body::Dated(bytes, _) => bytes,
        Body::Verified(verified) => verified.into_bytes(),
    })
}

/// Refuses to delete what clients may need.
pub(crate) fn check_deletable(keys: &[ObjectKey]) -> Result<(), StoreError> {
    match keys.iter().find(|key| !key.is_internal()) {
        Some(key) => Err(StoreError::Refused {
            key: key.to_string(),
            why: "only the system's own objects are deleted; bottles expire by their tags",
        }),
        None => Ok(()),
    }
}

/// Refuses a copy that would change what a key promises.
pub(crate) fn check_copy(from: &ObjectKey, to: &ObjectKey) -> Result<Digest, StoreError> {
    match (from.blob_digest(), to.kind()) {
        (Some(a), KeyKind::Bottle(b)) if a == b => Ok(a),
        (Some(a), KeyKind::FlatBottle) => Ok(a),
        _ => Err(StoreError::Refused {
            key: to.to_string(),
            why: "only a bottle is copied, to a key of the same digest or to a flat name",
        }),
    }
}

/// Refuses an adoption by the proof of another bottle.
pub(crate) fn check_adoption(to: &ObjectKey, proof: &Verified) -> Result<(), StoreError> {
    if to.blob_digest() == Some(proof.digest()) {
        Ok(())
    } else {
        Err(StoreError::WrongDigest { key: to.clone(), actual: proof.digest() })
    }
}

/// Refuses what would change another object than a bottle.
pub(crate) fn check_taggable(key: &ObjectKey) -> Result<(), StoreError> {
    match key.kind() {
        KeyKind::Bottle(_) | KeyKind::FlatBottle => Ok(()),
        _ => Err(StoreError::Refused { key: key.to_string(), why: "only bottles are tagged" }),
    }
}

/// Refuses the proof of another bottle.
pub(crate) fn check_proof(key: &ObjectKey, size: u64, proof: &Verified) -> Result<(), StoreError> {
    if key.blob_digest() == Some(proof.digest()) && proof.length() == size {
        Ok(())
    } else {
        Err(StoreError::WrongDigest { key: key.clone(), actual: proof.digest() })
    }
}
