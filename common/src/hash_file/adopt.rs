//! One bottle's way from a dated folder to its key.

use std::sync::Arc;
use std::time::Duration;

use futures_util::TryStreamExt as _;

use crate::bottle::{Hasher, ObjectKey};
use crate::retry::{Policy, Retryable as _, Verdict};
use crate::store::{LARGEST_COPY, Reading, Store, StoreError, Version};

use super::contents::Dated;
use super::identify::{Bottle, Target};
use super::progress::ImportProgress;
use super::report::Why;

/// What became of one image's copy of a bottle.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Fate {
    /// The manifest has it as held, and it is there.
    Recorded,
    /// It was under its key.
    Held,
    /// It was verified in a dated folder, and copied.
    Adopted,
    /// It was copied from another image's key.
    Copied,
    /// It is nowhere, and the operator's word is taken.
    Trusted,
    /// It is not in the mirror.
    Skipped(Why, String),
}

/// Adopts bottles. Cheap to clone.
#[derive(Clone)]
pub(super) struct Adopter {
    pub(super) store: Arc<dyn Store>,
    pub(super) retry: Policy,
    pub(super) progress: ImportProgress,
}

/// A bottle that is to be adopted.
pub(super) struct Todo<'a> {
    pub(super) bottle: &'a Bottle,
    /// Where it is under another image's key.
    pub(super) source: Option<ObjectKey>,
    /// Where it is to be.
    pub(super) targets: Vec<Target>,
}

/// What reading an object came to.
enum Read {
    /// It was read whole, in one state.
    Whole(Hasher, Version),
    /// It is not the bottle, or can't be read.
    Refused(Why, String),
}

/// A read that breaks is gone on with so often without a byte of progress.
const MOST_TRIES: u32 = 6;

impl Adopter {
    /// Brings a bottle to its keys; an error is the store's, and about no bottle alone.
    pub(super) async fn adopt(&self, todo: Todo<'_>) -> Result<Vec<(Target, Fate)>, StoreError> {
        let Todo { bottle, mut source, targets } = todo;
        // What was found out of the dated objects, so that they are read once.
        let mut refused: Option<Fate> = None;
        let mut fates = Vec::with_capacity(targets.len());
        for target in targets {
            let to = bottle.key_of(&target);
            let mut fate = match &source {
                Some(from) => self.copy(from, &to, bottle.size).await?,
                None => Fate::Skipped(Why::Absent, "it is nowhere in the place".to_owned()),
            };
            if fate != Fate::Copied {
                fate = match &refused {
                    Some(refused) => refused.clone(),
                    None => self.adopt_dated(bottle, &to).await?.unwrap_or(fate),
                };
                match &fate {
                    Fate::Adopted => source = Some(to),
                    other => refused = Some(other.clone()),
                }
            }
            fates.push((target, fate));
        }
        self.progress.finished();
        Ok(fates)
    }

    async fn copy(&self, from: &ObjectKey, to: &ObjectKey, size: u64) -> Result<Fate, StoreError> {
        match self.retry.run(|| self.store.copy(from, to), |_, _| {}).await {
            Ok(true) => Ok(Fate::Copied),
            Ok(false) => Ok(not_copied(from, size)),
            Err(error @ StoreError::WrongDigest { .. }) => Ok(Fate::Skipped(Why::Damaged, error.to_string())),
            Err(error) => Err(error),
        }
    }

    /// Tries the objects that have its size, the newest first. Why not, is said of the
    /// first; `None` if there is none.
    async fn adopt_dated(&self, bottle: &Bottle, to: &ObjectKey) -> Result<Option<Fate>, StoreError> {
        let mut refused = None;
        for dated in bottle.candidates() {
            match self.adopt_one(bottle, dated, to).await? {
                Fate::Adopted => return Ok(Some(Fate::Adopted)),
                fate => {
                    if let Fate::Skipped(why, detail) = &fate {
                        tracing::warn!(object.key = %dated.key, why = why.as_str(), detail, "not adopted");
                    }
                    refused.get_or_insert(fate);
                }
            }
        }
        Ok(refused)
    }

    async fn adopt_one(&self, bottle: &Bottle, dated: &Dated, to: &ObjectKey) -> Result<Fate, StoreError> {
        let (hasher, version) = match self.read(dated).await? {
            Read::Whole(hasher, version) => (hasher, version),
            Read::Refused(why, detail) => return Ok(Fate::Skipped(why, detail)),
        };
        let from = &dated.key;
        if let Err(mismatch) = hasher.clone().verify(bottle.digest) {
            return Ok(Fate::Skipped(Why::Damaged, format!("{from} hashes to {}", mismatch.actual)));
        }
        let adopt = || async {
            // Each try takes a proof of its own, of the same bytes.
            let proof = hasher
                .clone()
                .verify(bottle.digest)
                .map_err(|mismatch| StoreError::WrongDigest { key: from.clone(), actual: mismatch.actual })?;
            self.store.adopt(from, &version, to, proof).await
        };
        match self.retry.run(adopt, |_, _| {}).await {
            Ok(true) => Ok(Fate::Adopted),
            Ok(false) => Ok(not_copied(from, dated.size)),
            Err(StoreError::Conflict { .. } | StoreError::WrongDigest { .. }) => Ok(changed(from)),
            Err(error) => Err(error),
        }
    }

    /// Hashes an object in chunks. A read that breaks is gone on with where it broke,
    /// as long as the object is still in the state that the first bytes are of.
    async fn read(&self, dated: &Dated) -> Result<Read, StoreError> {
        let Dated { key, size } = dated;
        let mut reader = Reader { hasher: Hasher::new(), at: 0, version: None };
        let mut tries = 0;
        loop {
            let before = reader.at;
            match self.read_on(dated, &mut reader).await {
                Ok(None) => break,
                Ok(Some(refused)) => return Ok(refused),
                Err(error) if error.verdict() == Verdict::GiveUp => {
                    return Ok(Read::Refused(Why::Unreadable, error.to_string()));
                }
                Err(error) => {
                    tries = if reader.at > before { 1 } else { tries + 1 };
                    if tries > MOST_TRIES {
                        // A store that answers has trouble with this object alone.
                        self.store.head(key).await?;
                        return Ok(Read::Refused(Why::Unreadable, error.to_string()));
                    }
                    tracing::info!(object.key = %key, %error, "reading on");
                    tokio::time::sleep(self.retry.wait_after(tries)).await;
                }
            }
        }
        match reader {
            Reader { hasher, at, version: Some(version) } if at == *size => Ok(Read::Whole(hasher, version)),
            Reader { .. } => Ok(Read::Refused(Why::Changed, format!("{key} changed while it was read"))),
        }
    }

    /// Reads on to the end, unless the object is no longer what it was.
    async fn read_on(&self, dated: &Dated, reader: &mut Reader) -> Result<Option<Read>, StoreError> {
        let Dated { key, size } = dated;
        let range = (reader.at > 0).then_some(reader.at..*size);
        let is_over = || Read::Refused(Why::Changed, format!("{key} changed while it was read"));
        let Some(Reading { meta, version, mut body }) = self.store.read(key, range).await? else {
            return Ok(Some(Read::Refused(Why::Changed, format!("{key} is gone"))));
        };
        if meta.size != *size || reader.version.as_ref().is_some_and(|first| *first != version) {
            return Ok(Some(is_over()));
        }
        reader.version = Some(version);
        while let Some(chunk) = body.try_next().await? {
            reader.hasher.update(&chunk);
            reader.at += chunk.len() as u64;
            self.progress.read(chunk.len());
        }
        Ok(None)
    }
}

/// How far an object was read.
struct Reader {
    hasher: Hasher,
    /// Bytes.
    at: u64,
    /// The state that they are of.
    version: Option<Version>,
}

/// Why there is no copy though nothing failed.
fn not_copied(from: &ObjectKey, size: u64) -> Fate {
    if size > LARGEST_COPY {
        let why = "it is larger than the 5 GiB that S3 copies at once";
        Fate::Skipped(Why::TooLarge, why.to_owned())
    } else {
        Fate::Skipped(Why::Changed, format!("{from} is gone"))
    }
}

fn changed(from: &ObjectKey) -> Fate {
    Fate::Skipped(Why::Changed, format!("{from} changed after it was read"))
}

/// How patient to be with the store.
pub(super) const PATIENCE: Policy = Policy {
    first_wait: Duration::from_millis(100),
    longest_wait: Duration::from_secs(5),
    budget: Duration::from_secs(30),
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_that_s3_can_not_make_is_told_from_one_of_what_is_gone() {
        let from = "2026-05-01/x-1.all.bottle.tar.gz".parse().unwrap();
        let why = |size| match not_copied(&from, size) {
            Fate::Skipped(why, _) => why,
            other => panic!("{other:?}"),
        };
        assert_eq!((why(5 << 30), why((5 << 30) + 1)), (Why::Changed, Why::TooLarge));
    }
}
