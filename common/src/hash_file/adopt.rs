//! One bottle's way from a dated folder to its key.

use std::sync::Arc;

use crate::bottle::{Hasher, ObjectKey};
use crate::retry::{Policy, Retryable as _, Verdict};
use crate::store::{LARGEST_COPY, Resumed, Store, StoreError, Version};

use super::contents::Dated;
use super::identify::{Bottle, Target};
use super::progress::ImportProgress;
use super::report::Why;

/// What became of one image's copy of a bottle.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Fate {
    /// The manifest has it as held, and it is there.
    Recorded,
    /// It was under its key, and was verified there.
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
    /// Where the manifest has it as held, under another image's key.
    pub(super) source: Option<ObjectKey>,
    /// Where it is to be.
    pub(super) targets: Vec<Wanted>,
}

/// One image's copy that is to be.
pub(super) struct Wanted {
    pub(super) target: Target,
    /// Whether something of its size is under its key: it may be the bottle.
    pub(super) is_there: bool,
}

/// What reading an object came to.
enum Read {
    /// It was read whole, in one state.
    Whole(Hasher, Version),
    /// It is not the bottle, or can't be read.
    Refused(Why, String),
}

impl Adopter {
    /// Brings a bottle to its keys; an error is the store's, and about no bottle alone.
    pub(super) async fn adopt(&self, todo: Todo<'_>) -> Result<Vec<(Target, Fate)>, StoreError> {
        let Todo { bottle, mut source, mut targets } = todo;
        // What was found out of the dated objects, so that they are read once.
        let mut refused: Option<Fate> = None;
        let mut fates = Vec::with_capacity(targets.len());
        // The others may be copied from those that are there.
        targets.sort_by_key(|wanted| !wanted.is_there);
        for Wanted { target, is_there } in targets {
            let to = bottle.key_of(&target);
            let mut fate = Fate::Skipped(Why::Absent, "it is nowhere in the place".to_owned());
            if is_there {
                fate = self.verify(&to, bottle).await?;
            }
            if fate != Fate::Held
                && let Some(from) = &source
            {
                fate = self.copy(from, &to, bottle.size).await?;
            }
            if !matches!(fate, Fate::Held | Fate::Copied) {
                fate = match &refused {
                    Some(refused) => refused.clone(),
                    None => self.adopt_dated(bottle, &to).await?.unwrap_or(fate),
                };
                if !matches!(fate, Fate::Adopted) {
                    refused = Some(fate.clone());
                }
            }
            if matches!(fate, Fate::Held | Fate::Adopted) {
                source = Some(to);
            }
            fates.push((target, fate));
        }
        self.progress.finished();
        Ok(fates)
    }

    /// Whether what is under a bottle's key is the bottle: by the store's own checksum,
    /// or by reading it.
    async fn verify(&self, key: &ObjectKey, bottle: &Bottle) -> Result<Fate, StoreError> {
        let known = self.retry.run(|| self.store.head(key), |_, _| {}).await?.and_then(|meta| meta.sha256);
        let actual = match known {
            Some(sha256) => sha256,
            None => match self.read(key, bottle.size).await? {
                Read::Whole(hasher, _) => hasher.finish(),
                Read::Refused(why, detail) => return Ok(Fate::Skipped(why, detail)),
            },
        };
        Ok(if actual == bottle.digest {
            Fate::Held
        } else {
            Fate::Skipped(Why::Damaged, format!("{key} hashes to {actual}"))
        })
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
        let (hasher, version) = match self.read(&dated.key, dated.size).await? {
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

    /// Hashes an object of a size, as long as it is in one state.
    async fn read(&self, key: &ObjectKey, size: u64) -> Result<Read, StoreError> {
        let changed = || Read::Refused(Why::Changed, format!("{key} changed while it was read"));
        let read = async {
            let Some(mut reader) = Resumed::open(&*self.store, key, self.retry).await? else {
                return Ok(Read::Refused(Why::Changed, format!("{key} is gone")));
            };
            if reader.size() != size {
                return Ok(changed());
            }
            let hasher = reader.hash(|length| self.progress.read(length)).await?;
            Ok(reader.version().map_or_else(changed, |version| Read::Whole(hasher, version)))
        };
        match read.await {
            Ok(read) => Ok(read),
            Err(StoreError::Conflict { .. }) => Ok(changed()),
            Err(error) => {
                if error.verdict() != Verdict::GiveUp {
                    // A store that answers has trouble with this object alone.
                    self.store.head(key).await?;
                }
                Ok(Read::Refused(Why::Unreadable, error.to_string()))
            }
        }
    }
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
