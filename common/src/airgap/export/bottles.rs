//! The bottles of a bundle: small ones are read ahead, large ones as they are packed.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use tokio_util::task::AbortOnDropHandle;

use crate::airgap::pack::Packer;
use crate::airgap::source::Source;
use crate::airgap::{ExportError, Interval};
use crate::bottle::{Digest, ImagePath, ObjectKey};
use crate::manifest::{Manifest, State};
use crate::mirror::PART_SIZE;
use crate::run::Count;
use crate::store::Store;

use super::listing::Carried;
use super::{Exporter, pack};

/// A bottle that belongs.
struct Wanted {
    path: ImagePath,
    digest: Digest,
    key: ObjectKey,
    size: u64,
    /// Whether it is tagged to expire, and may be gone.
    may_be_gone: bool,
}

/// A bottle that is read ahead of its turn, unless it is large.
enum Ahead {
    Small(AbortOnDropHandle<Result<Option<Bytes>, ExportError>>),
    Large,
}

/// So many small bottles are read ahead, each up to a part's size in memory.
const AHEAD: usize = 8;

impl Exporter {
    /// Packs the bottles that came to be held in the interval; what was packed, and
    /// how many superseded ones have expired.
    pub(super) async fn pack_bottles(
        &self,
        packer: &mut Packer,
        manifest: &Manifest,
        interval: &Interval,
        carried: &mut Carried,
    ) -> Result<(Count, u64), ExportError> {
        let wanted = wanted(manifest, interval);
        self.progress.expect(wanted.iter().map(|bottle| bottle.size).sum());
        let (mut count, mut expired) = (Count::default(), 0);
        let mut ahead = VecDeque::new();
        let mut coming = wanted.iter();
        for bottle in &wanted {
            while ahead.len() < AHEAD
                && let Some(next) = coming.next()
            {
                ahead.push_back(self.read_ahead(next));
            }
            let is_there = match ahead.pop_front() {
                Some(Ahead::Small(read)) => {
                    let read = read.await.map_err(|error| ExportError::Panicked(error.to_string()))?;
                    self.pack_small(packer, bottle, read?).await?
                }
                Some(Ahead::Large) | None => self.pack_large(packer, bottle).await?,
            };
            if is_there {
                count.add(bottle.size);
                carried.bottles.insert((bottle.path.clone(), bottle.digest));
            } else if bottle.may_be_gone {
                expired += 1;
            } else {
                return Err(ExportError::Damaged { key: bottle.key.clone(), why: "it is gone".to_owned() });
            }
        }
        Ok((count, expired))
    }

    fn read_ahead(&self, bottle: &Wanted) -> Ahead {
        if bottle.size > PART_SIZE {
            return Ahead::Large;
        }
        let (store, key) = (Arc::clone(&self.store), bottle.key.clone());
        let (size, digest) = (bottle.size, bottle.digest);
        Ahead::Small(AbortOnDropHandle::new(tokio::spawn(async move {
            match Source::open(&*store, &key, size, digest).await? {
                Some(source) => source.whole().await.map(Some),
                None => Ok(None),
            }
        })))
    }

    async fn pack_small(
        &self,
        packer: &mut Packer,
        bottle: &Wanted,
        bytes: Option<Bytes>,
    ) -> Result<bool, ExportError> {
        let Some(bytes) = bytes else { return Ok(false) };
        self.progress.advance(bottle.size);
        packer.begin(bottle.key.as_str(), bottle.size).await?;
        packer.chunk(bytes).await?;
        packer.end(bottle.key.as_str(), &bottle.digest);
        Ok(true)
    }

    async fn pack_large(&self, packer: &mut Packer, bottle: &Wanted) -> Result<bool, ExportError> {
        let Wanted { key, size, digest, .. } = bottle;
        let store: &dyn Store = &*self.store;
        let Some(source) = Source::open(store, key, *size, *digest).await? else { return Ok(false) };
        pack(packer, key.as_str(), *size, digest, source, |bytes| self.progress.advance(bytes)).await?;
        Ok(true)
    }
}

fn wanted(manifest: &Manifest, interval: &Interval) -> Vec<Wanted> {
    let mut wanted = Vec::new();
    for (path, image) in &manifest.images {
        for (digest, record) in &image.bottles {
            if record.state == State::Held && interval.takes(record.added_at) {
                wanted.push(Wanted {
                    path: path.clone(),
                    digest: *digest,
                    key: ObjectKey::blob(path, digest),
                    size: record.size,
                    may_be_gone: record.superseded_at.is_some(),
                });
            }
        }
    }
    wanted
}
