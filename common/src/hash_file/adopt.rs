//! One bottle's way from a dated folder to its key.

use std::collections::VecDeque;
use std::sync::Arc;

use jiff::Timestamp;

use crate::bottle::{Hasher, ObjectKey};
use crate::clock::Clock;
use crate::retry::{Policy, Retryable as _, Verdict};
use crate::store::{LARGEST_COPY, Resumed, Store, StoreError, Version};

use super::contents::Dated;
use super::fate::{Fate, Judged, There, Wanted};
use super::identify::{Bottle, Target};
use super::progress::ImportProgress;
use super::report::Why;

/// Adopts bottles. Cheap to clone.
#[derive(Clone)]
pub(super) struct Adopter {
    pub(super) store: Arc<dyn Store>,
    pub(super) clock: Clock,
    pub(super) retry: Policy,
    pub(super) progress: ImportProgress,
}

/// A bottle that is to be adopted.
pub(super) struct Todo<'a> {
    pub(super) bottle: &'a Bottle,
    /// The copy that the manifest has as held: nothing of it was read.
    pub(super) source: Option<Target>,
    /// Those that are to be.
    pub(super) wanted: Vec<Wanted>,
}

/// What is known while a bottle is brought to its keys.
struct Work<'a> {
    bottle: &'a Bottle,
    judged: Vec<Judged>,
    /// Which of them others are copied from.
    source: Option<usize>,
    wanted: VecDeque<Wanted>,
    /// What was found out of the dated objects, so that they are read once.
    refused: Option<Fate>,
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
    pub(super) async fn adopt(&self, todo: Todo<'_>) -> Result<Vec<Judged>, StoreError> {
        let Todo { bottle, source, mut wanted } = todo;
        // The others may be copied from those that are there.
        wanted.sort_by_key(|wanted| wanted.there != There::OfItsSize);
        let judged: Vec<_> = source.iter().map(|target| Judged::new(target, Fate::Recorded)).collect();
        let source = source.map(|_| 0);
        let mut work = Work { bottle, judged, source, wanted: wanted.into(), refused: None };
        while let Some(wanted) = work.wanted.pop_front() {
            let judged = self.bring(wanted, &mut work).await?;
            if matches!(judged.fate, Fate::Held | Fate::Adopted) {
                work.source = Some(work.judged.len());
            }
            work.judged.push(judged);
        }
        self.progress.finished();
        Ok(work.judged)
    }

    /// Brings it to one key: as it is there, from another key, or from a dated folder.
    async fn bring(&self, wanted: Wanted, work: &mut Work<'_>) -> Result<Judged, StoreError> {
        let Wanted { target, there } = wanted;
        let bottle = work.bottle;
        let to = bottle.key_of(&target);
        let (mut fate, lost_at) = match there {
            There::Nothing => (Fate::Skipped(Why::Absent, "it is nowhere in the place".to_owned()), None),
            There::Other { detail, at } => (Fate::Skipped(Why::Damaged, detail), Some(at)),
            There::OfItsSize => {
                let at = self.clock.now();
                let fate = self.verify(&to, bottle).await?;
                let is_lost = fate != Fate::Held;
                (fate, is_lost.then_some(at))
            }
        };
        if fate != Fate::Held
            && let Some(source) = work.source
        {
            fate = self.copy(source, &to, work).await?;
        }
        if !matches!(fate, Fate::Held | Fate::Copied) {
            fate = match &work.refused {
                Some(refused) => refused.clone(),
                None => self.adopt_dated(bottle, &to).await?.unwrap_or(fate),
            };
            if fate != Fate::Adopted {
                work.refused = Some(fate.clone());
            }
        }
        let lost_at = lost_at.filter(|_| !fate.is_taken());
        Ok(Judged { target, fate, lost_at })
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

    /// Copies it from another image's key. A copy that turns out to be damaged there is
    /// no source any more, and to be mended itself.
    async fn copy(&self, source: usize, to: &ObjectKey, work: &mut Work<'_>) -> Result<Fate, StoreError> {
        let (at, from) = (self.clock.now(), work.bottle.key_of(&work.judged[source].target));
        match self.retry.run(|| self.store.copy(&from, to), |_, _| {}).await {
            Ok(true) => Ok(Fate::Copied),
            Ok(false) => Ok(not_copied(&from, work.bottle.size)),
            Err(StoreError::WrongDigest { actual, .. }) => {
                let detail = format!("{from} hashes to {actual}");
                work.lose_source(source, detail.clone(), at);
                Ok(Fate::Skipped(Why::Damaged, detail))
            }
            Err(StoreError::Conflict { .. }) => Ok(changed(&from)),
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

impl Work<'_> {
    /// One that was only on record is brought to its key as the others are; one that
    /// was verified a moment ago would be damaged again.
    fn lose_source(&mut self, source: usize, detail: String, at: Timestamp) {
        self.source = None;
        if self.judged[source].fate == Fate::Recorded {
            let Judged { target, .. } = self.judged.remove(source);
            self.wanted.push_back(Wanted { target, there: There::Other { detail, at } });
        } else {
            let judged = &mut self.judged[source];
            judged.fate = Fate::Skipped(Why::Damaged, detail);
            judged.lost_at = Some(at);
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
