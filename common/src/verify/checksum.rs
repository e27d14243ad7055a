//! Bottles to the byte.

use std::sync::atomic::{AtomicUsize, Ordering};

use futures_util::{StreamExt as _, TryStreamExt as _, stream};

use crate::bottle::{Digest, ObjectKey};
use crate::manifest::Manifest;
use crate::run::{Count, RunId};
use crate::store::{Resumed, StoreError};

use super::finding::{Content, Finding, Kind, Remedy, Subject};
use super::look::{Bottle, Look};
use super::report::Checksums;
use super::{Depth, Stage, Verifier, naming};

/// What became of the comparison of one object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Compared {
    /// It has the bytes that it should have.
    Right(Source),
    /// It has others.
    Wrong(Source, Content),
    /// It can't be read to its end.
    Unreadable(String),
    /// It is not there.
    Gone,
}

/// Who hashed an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Source {
    /// The store, when it was written.
    Store,
    /// This process, just now.
    Read,
}

/// So many objects that can't be read are a disk's bad places; with more of them the
/// store itself is ill, and all would be taken for damaged.
const MOST_UNREADABLE: usize = 20;

/// What follows from a bottle that is damaged and that no record is of.
const NOTED: &str = "the next plan that asks for it fetches it anew";
const UNKNOWN: &str = "nobody asked for it: remove it, or a plan that asks for it takes it for sound";

/// How many objects could not be read.
#[derive(Debug, Default)]
pub(super) struct Unreadable(AtomicUsize);

impl Verifier {
    /// Compares held bottles, or a part of them, and their copies to the byte.
    pub(super) async fn checksums(
        &self,
        manifest: &Manifest,
        run: &RunId,
        look: &mut Look,
    ) -> Result<Checksums, StoreError> {
        let mut counts = Checksums::default();
        let all = std::mem::take(&mut look.sound);
        let size = |(path, digest)| Some(Bottle::of(manifest, path, digest)?.record.size);
        for bottle in all.iter().map(|(path, digest)| (path, digest)) {
            counts.of.add(size(bottle).unwrap_or(0));
        }
        let chosen = match self.settings.depth {
            Depth::Sizes => Vec::new(),
            Depth::Sample(sample) => sample.pick(all),
            Depth::Bytes => all,
        };
        self.progress.begin(Stage::Bottles, chosen.len());
        let compared = chosen.iter().filter_map(|(path, digest)| {
            let bottle = Bottle::of(manifest, path, digest)?;
            Some(async move {
                let compared = self.compare(&bottle.key(), *digest, bottle.record.size).await?;
                Ok::<_, StoreError>((bottle, compared))
            })
        });
        let mut compared = stream::iter(compared).buffer_unordered(self.settings.concurrency);
        while let Some((bottle, compared)) = compared.try_next().await? {
            self.progress.step(1);
            counts.add(&compared, bottle.record.size);
            match compared {
                Compared::Right(_) => {}
                Compared::Wrong(_, found) => {
                    let kind = if found.sha256.is_some() { Kind::WrongChecksum } else { Kind::WrongSize };
                    look.findings.push(bottle.damaged(run, kind, found));
                }
                Compared::Unreadable(why) => {
                    let finding = bottle.damaged(run, Kind::Unreadable, Content::default());
                    look.findings.push(finding.saying(why));
                }
                Compared::Gone => look.findings.push(bottle.missing(run, look.expired_before)),
            }
        }
        drop(compared);
        let chosen = chosen.iter().filter_map(|(path, digest)| Bottle::of(manifest, path, digest));
        counts.flat_bottles = self.flat_checksums(chosen, look).await?;
        if self.settings.depth == Depth::Bytes {
            self.extra_checksums(manifest, look).await?;
        }
        Ok(counts)
    }

    /// Bottles that nobody knows: a plan that asks for one takes what has its size for it.
    async fn extra_checksums(&self, manifest: &Manifest, look: &mut Look) -> Result<(), StoreError> {
        let extra = look.findings.extra(Subject::Bottle).filter_map(|(at, finding)| {
            let size = finding.found.and_then(|found| found.size)?;
            Some((at, finding.key.clone(), finding.key.blob_digest()?, size))
        });
        let extra: Vec<_> = extra.collect();
        let compared = extra.into_iter().map(|(at, key, digest, size)| async move {
            let compared = self.compare(&key, digest, size).await?;
            Ok::<_, StoreError>((at, key, digest, compared))
        });
        let mut compared = stream::iter(compared).buffer_unordered(self.settings.concurrency);
        while let Some((at, key, digest, compared)) = compared.try_next().await? {
            let (kind, found) = match compared {
                Compared::Right(_) | Compared::Gone => continue,
                Compared::Wrong(_, found) => (Kind::WrongChecksum, found),
                Compared::Unreadable(_) => (Kind::Unreadable, Content::default()),
            };
            let is_noted = naming::image_of(&key)
                .and_then(|path| manifest.images.get(&path))
                .is_some_and(|image| image.damaged.contains(&digest));
            let expected = Content { size: None, sha256: Some(digest) };
            let why = if is_noted { NOTED } else { UNKNOWN };
            let finding = Finding::new(kind, Subject::Bottle, key).comparing(expected, Some(found));
            look.findings.condemn(at, finding.saying(why).remedied_by(Remedy::None(why)));
        }
        Ok(())
    }

    /// The copies of these bottles; how many there are.
    async fn flat_checksums<'a>(
        &self,
        bottles: impl Iterator<Item = Bottle<'a>>,
        look: &mut Look,
    ) -> Result<u64, StoreError> {
        let copies: Vec<_> = bottles
            .flat_map(|bottle| bottle.record.flat.iter().map(move |key| (bottle, key)))
            .filter(|(bottle, key)| look.sound_flat.get(*key) == Some(bottle.digest))
            .collect();
        let count = copies.len() as u64;
        let compared = copies.into_iter().map(|(bottle, key)| async move {
            let compared = self.compare(key, *bottle.digest, bottle.record.size).await?;
            Ok::<_, StoreError>((bottle, key, compared))
        });
        let mut compared = stream::iter(compared).buffer_unordered(self.settings.concurrency);
        while let Some((bottle, key, compared)) = compared.try_next().await? {
            let finding = |kind, found| bottle.flat(kind, key.clone(), found);
            match compared {
                Compared::Right(_) => {}
                Compared::Wrong(_, found) => look.findings.push(finding(Kind::WrongChecksum, Some(found))),
                Compared::Unreadable(why) => {
                    look.findings.push(finding(Kind::Unreadable, Some(Content::default())).saying(why));
                }
                Compared::Gone => look.findings.push(finding(Kind::Missing, None)),
            }
        }
        Ok(count)
    }

    /// Compares one object: by the store's own checksum where it keeps one of all the
    /// bytes, else by reading them.
    pub(super) async fn compare(
        &self,
        key: &ObjectKey,
        expected: Digest,
        size: u64,
    ) -> Result<Compared, StoreError> {
        let meta = match self.patient(|| self.store.head(key)).await {
            Ok(Some(meta)) => meta,
            Ok(None) => return Ok(Compared::Gone),
            Err(error) => return Ok(Compared::Unreadable(self.tolerate(error)?)),
        };
        if meta.size != size {
            return Ok(Compared::Wrong(Source::Store, Content::of_size(meta.size)));
        }
        let (source, sha256) = match meta.sha256 {
            Some(sha256) => (Source::Store, Some(sha256)),
            None => match self.hash(key).await {
                Ok(sha256) => (Source::Read, sha256),
                Err(error) => return Ok(Compared::Unreadable(self.tolerate(error)?)),
            },
        };
        Ok(match sha256 {
            None => Compared::Gone,
            Some(sha256) if sha256 == expected => Compared::Right(source),
            sha256 => Compared::Wrong(source, Content { size: Some(size), sha256 }),
        })
    }

    /// Hashes an object as it is read; `None` if it is not there.
    pub(super) async fn hash(&self, key: &ObjectKey) -> Result<Option<Digest>, StoreError> {
        let Some(mut reader) = Resumed::open(&*self.store, key, self.retry).await? else { return Ok(None) };
        Ok(Some(reader.hash(|_| {}).await?.finish()))
    }

    /// What is wrong with an object that can't be read, however often it is tried. With
    /// many of them it is the store's failure, and is passed on.
    pub(super) fn tolerate(&self, error: StoreError) -> Result<String, StoreError> {
        if self.unreadable.0.fetch_add(1, Ordering::Relaxed) < MOST_UNREADABLE {
            return Ok(error.to_string());
        }
        Err(error)
    }
}

impl Checksums {
    pub(super) fn merge(&mut self, other: &Self) {
        self.checked = self.checked + other.checked;
        self.of = self.of + other.of;
        self.by_store = self.by_store + other.by_store;
        self.read = self.read + other.read;
        self.flat_bottles += other.flat_bottles;
    }

    pub(super) fn add(&mut self, compared: &Compared, size: u64) {
        let by: Option<&mut Count> = match compared {
            Compared::Right(Source::Store) | Compared::Wrong(Source::Store, _) => Some(&mut self.by_store),
            Compared::Right(Source::Read) | Compared::Wrong(Source::Read, _) => Some(&mut self.read),
            Compared::Unreadable(_) | Compared::Gone => None,
        };
        if let Some(by) = by {
            by.add(size);
        }
        self.checked.add(size);
    }
}
