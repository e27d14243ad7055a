//! The store port: objects under keys, as S3 has them.
//!
//! A bottle's key promises the digest of its bytes. No adapter ever lets other
//! bytes be seen there: `put` hands the store the expected digest, and an upload
//! in parts can only be completed with the proof that all of it hashed right.

#[cfg(test)]
mod conformance;
#[cfg(feature = "local")]
mod folder;
mod s3;

use std::collections::BTreeMap;

use async_trait::async_trait;
use bytes::Bytes;

use crate::bottle::{Digest, ObjectKey, Verified, VerifiedBytes};
use crate::retry::{Retryable, Verdict};

#[cfg(feature = "local")]
pub use folder::Folder;
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
/// - `tag` replaces an object's tags, and survives a rewrite of nothing else.
#[async_trait]
pub trait Store: Send + Sync {
    /// What is known of an object without reading it.
    async fn head(&self, key: &ObjectKey) -> Result<Option<ObjectMeta>, StoreError>;

    /// Reads a whole object: for small ones.
    async fn get(&self, key: &ObjectKey) -> Result<Option<Object>, StoreError>;

    /// Writes a whole object, and returns its new version.
    async fn put(&self, key: &ObjectKey, body: Body, condition: Condition) -> Result<Version, StoreError>;

    /// Begins the upload of a bottle of `size` bytes in parts of `part_size`,
    /// the last of which may be shorter.
    async fn begin(&self, key: &ObjectKey, size: u64, part_size: u64) -> Result<Box<dyn Upload>, StoreError>;

    /// Copies a bottle to another bottle's key of the same digest, inside the
    /// store. `false` if there is nothing to copy.
    async fn copy(&self, from: &ObjectKey, to: &ObjectKey) -> Result<bool, StoreError>;

    /// The next `limit` objects whose keys begin with `prefix`.
    async fn list(
        &self,
        prefix: &str,
        after: Option<&ObjectKey>,
        limit: usize,
    ) -> Result<Vec<ObjectMeta>, StoreError>;

    /// Removes objects of the system's own; those that are gone are no error.
    async fn delete(&self, keys: &[ObjectKey]) -> Result<(), StoreError>;

    /// Replaces an object's tags.
    async fn tag(&self, key: &ObjectKey, tags: &Tags) -> Result<(), StoreError>;

    /// An object's tags.
    async fn tags(&self, key: &ObjectKey) -> Result<Tags, StoreError>;
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
}

/// An object's tags: at most ten on S3.
pub type Tags = BTreeMap<String, String>;

/// The tag, key and value, of a bottle that upstream dropped: the bucket's
/// lifecycle rule expires what has it. S3 counts the rule's days from an object's
/// last write and not from its tagging, so whoever tags a bottle writes it anew.
/// <https://docs.aws.amazon.com/AmazonS3/latest/userguide/intro-lifecycle-rules.html>
pub const SUPERSEDED: (&str, &str) = ("superseded", "true");

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
    let actual = match (&body, key.blob_digest()) {
        (Body::Verified(verified), Some(_)) => verified.digest(),
        (Body::Plain(bytes), Some(_)) => Digest::of(bytes),
        (Body::Plain(bytes), None) => return Ok(bytes.clone()),
        (Body::Verified(verified), None) => return Ok(verified.clone().into_bytes()),
    };
    if key.blob_digest() != Some(actual) {
        return Err(StoreError::WrongDigest { key: key.clone(), actual });
    }
    Ok(match body {
        Body::Plain(bytes) => bytes,
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
    match (from.blob_digest(), to.blob_digest()) {
        (Some(a), Some(b)) if a == b => Ok(a),
        _ => Err(StoreError::Refused {
            key: to.to_string(),
            why: "only a bottle of the same digest is copied here",
        }),
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
