//! A manifest that is lost or damaged, made anew from what the mirror holds.

use std::collections::BTreeMap;

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use serde::Serialize;

use crate::bottle::{ImagePath, KeyKind, ObjectKey};
use crate::manifest::{self, Manifest, ManifestError};
use crate::message::Message;
use crate::publication::Scope;
use crate::queue::QueueError;
use crate::run::{Count, RunId};
use crate::store::{Condition, StoreError, Version};

use super::finding::{Finding, Repair};
use super::remains::{Beside, There};
use super::report::{Checksums, Repaired};
use super::{Depth, Stage, Verifier, VerifyError, manifest_key};

/// What a rebuilt manifest holds.
#[derive(Debug, Clone, Serialize)]
pub struct Rebuilt {
    /// What became of the one before.
    pub was: Was,
    /// Where the damaged one is kept.
    pub kept: Option<ObjectKey>,
    /// Images.
    pub images: usize,
    /// Image indexes in place.
    pub indexes: usize,
    /// Bottles.
    pub held: Count,
    /// Of these, are tagged as superseded.
    pub superseded: u64,
    /// Copies under flat names.
    pub flat_bottles: u64,
    /// API files in place.
    pub api_files: usize,
    /// Scopes of which it is known what they read.
    pub published: Vec<Scope>,
    /// Whether publishing is held back: clients read an older set than they could, as
    /// after a rollback.
    pub is_held_back: bool,
    /// Bottles that were compared to the byte; `None` if that was not asked for.
    pub checksums: Option<Checksums>,
    /// What is there and not in the manifest.
    pub left_out: Vec<Finding>,
    /// Damaged bottles that are fetched again, or that the next plan asks for.
    pub repair: Option<Repaired>,
}

/// What became of the manifest before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "state", rename_all = "kebab-case")]
pub enum Was {
    /// It was not there.
    Absent,
    /// It could not be read.
    Damaged {
        /// What was wrong with it.
        why: String,
    },
}

/// A manifest that was not rebuilt.
#[derive(Debug, thiserror::Error)]
pub enum RebuildError {
    /// There is nothing to mend.
    #[error(
        "the manifest can be read: there is nothing to rebuild, and rebuilding it would forget what is on its way"
    )]
    ReadsWell,
    /// There is nothing to make it from.
    #[error("there are no bottles in the mirror: there is nothing to rebuild its manifest from")]
    NoBottles,
    /// Someone else wrote the manifest meanwhile.
    #[error(
        "the manifest was written by someone else meanwhile, and was left as it is: look again with `bottles verify`"
    )]
    Conflict,
    /// The manifest can't be used, and is not damaged either.
    #[error(transparent)]
    Manifest(ManifestError),
    /// The store can't be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The bottles that are to be fetched again could not be queued.
    #[error(
        "the manifest was rebuilt, but damaged bottles could not be queued: {0}; `bottles verify --deep --repair` does it"
    )]
    Queue(QueueError),
}

impl Verifier {
    /// Makes the manifest anew, if there is none that can be read. Unless sizes are to
    /// do, every bottle is hashed before it is taken to be held; one whose size no index
    /// states always is.
    pub async fn rebuild(&self) -> Result<Rebuilt, RebuildError> {
        let now = self.clock.now();
        let run = RunId::new(now);
        let (was, old) = self.former().await?;
        let (images, beside) = self.everything().await?;
        if images.values().all(|there| there.bottles.is_empty()) {
            return Err(RebuildError::NoBottles);
        }

        let mut manifest = Manifest::default();
        // Nobody knows any more what came when, so all of it came just now.
        let added_at = manifest.tick(now);
        let (mut left_out, mut messages, mut checksums) = (Vec::new(), Vec::new(), Checksums::default());
        self.progress.begin(Stage::Indexes, images.len());
        let made = images.into_iter().map(|(path, there)| self.image(path, there, &beside, &run));
        let mut made = stream::iter(made).buffer_unordered(self.settings.concurrency);
        while let Some(made) = made.try_next().await? {
            self.progress.step(1);
            left_out.extend(made.left_out);
            messages.extend(made.messages);
            checksums.merge(&made.checksums);
            manifest.images.extend(made.image);
        }
        for image in manifest.images.values_mut() {
            image.bottles.values_mut().for_each(|record| record.added_at = Some(added_at));
            image.indexes.values_mut().for_each(|record| record.added_at = Some(added_at));
        }
        left_out.extend(self.restore_publication(&mut manifest, &beside, added_at).await?);

        let kept = match &old {
            Some((body, _)) => Some(self.keep(body.clone()).await?),
            None => None,
        };
        let version = old.as_ref().map(|(_, version)| version);
        match manifest::save(&*self.store, &manifest, version).await {
            Ok(_) => {}
            Err(ManifestError::Conflict) => return Err(RebuildError::Conflict),
            Err(error) => return Err(RebuildError::Manifest(error)),
        }
        left_out.sort_by(|a, b| (!a.wrong, a.kind, &a.key).cmp(&(!b.wrong, b.kind, &b.key)));
        let repair = self.fetch_damaged(run.clone(), &messages, &mut left_out).await?;
        let bottles = || manifest.images.values().flat_map(|image| image.bottles.values());
        Ok(Rebuilt {
            was,
            kept,
            images: manifest.images.len(),
            indexes: manifest.images.values().map(|image| image.indexes.len()).sum(),
            held: manifest.tally(None).held,
            superseded: bottles().filter(|record| record.superseded_at.is_some()).count() as u64,
            flat_bottles: bottles().map(|record| record.flat.len() as u64).sum(),
            api_files: manifest.publication.files.len(),
            published: manifest.publication.published.keys().cloned().collect(),
            is_held_back: manifest.publication.held_since.is_some(),
            checksums: (self.settings.depth != Depth::Sizes).then_some(checksums),
            left_out,
            repair,
        })
    }

    /// The manifest that can't be read, and its version.
    async fn former(&self) -> Result<(Was, Option<(bytes::Bytes, Version)>), RebuildError> {
        let key = manifest_key()?;
        let Some(object) = self.patient(|| self.store.get(&key)).await? else {
            return Ok((Was::Absent, None));
        };
        match manifest::decode(&object.body) {
            Ok(_) => Err(RebuildError::ReadsWell),
            Err(ManifestError::Damaged(why)) => {
                Ok((Was::Damaged { why }, Some((object.body, object.version))))
            }
            Err(error) => Err(RebuildError::Manifest(error)),
        }
    }

    async fn everything(&self) -> Result<(BTreeMap<ImagePath, There>, Beside), StoreError> {
        let mut images: BTreeMap<ImagePath, There> = BTreeMap::new();
        let mut beside = Beside::default();
        self.each_object(|meta| {
            let split = |at: &str| -> Option<(ImagePath, String)> {
                let (path, rest) = meta.key.as_str().rsplit_once(at)?;
                Some((path.parse().ok()?, rest.to_owned()))
            };
            match meta.key.kind() {
                KeyKind::Bottle(digest) => {
                    if let Some((path, _)) = split("/blobs/") {
                        images.entry(path).or_default().bottles.insert(digest, meta);
                    }
                }
                KeyKind::Index => match split("/manifests/").map(|(path, tag)| (path, tag.parse())) {
                    Some((path, Ok(tag))) => images.entry(path).or_default().indexes.push((tag, meta)),
                    _ => {
                        beside.flat.insert(meta.key, meta.size);
                    }
                },
                KeyKind::FlatBottle => {
                    beside.flat.insert(meta.key, meta.size);
                }
                KeyKind::Api => beside.api.push(meta.key),
                KeyKind::Foreign | KeyKind::Internal => {}
            }
        })
        .await?;
        Ok((images, beside))
    }

    /// Keeps a damaged manifest for someone to look at.
    async fn keep(&self, body: bytes::Bytes) -> Result<ObjectKey, StoreError> {
        let name = format!("manifest-damaged-{}.jsonl.zst", self.clock.now().strftime("%Y%m%dT%H%M%S%3fZ"));
        let key = ObjectKey::sync(&name).map_err(StoreError::from)?;
        self.patient(|| self.store.put(&key, body.clone().into(), Condition::Always)).await?;
        Ok(key)
    }

    /// What is known to be damaged the next plan asks for. Of what has a size it need not be
    /// waited for.
    async fn fetch_damaged(
        &self,
        run: RunId,
        messages: &[Message],
        left_out: &mut [Finding],
    ) -> Result<Option<Repaired>, RebuildError> {
        let reported = left_out.iter().filter(|finding| finding.repair.is_some()).count() as u64;
        if messages.is_empty() && reported == 0 {
            return Ok(None);
        }
        let mut repaired = Repaired { reported, ..Repaired::of(run) };
        match self.send(messages, &mut repaired).await {
            Ok(()) => {}
            Err(VerifyError::Queue(error)) => return Err(RebuildError::Queue(error)),
            Err(VerifyError::Store(error)) => return Err(RebuildError::Store(error)),
            Err(VerifyError::Manifest(error)) => return Err(RebuildError::Manifest(error)),
        }
        for message in messages {
            let key = message.key();
            let is_sent = self.can_send(message);
            let repair = if is_sent { Repair::Queued { lane: self.lane(message) } } else { Repair::Reported };
            for finding in left_out.iter_mut().filter(|finding| finding.key == key) {
                finding.repair = Some(repair.clone());
            }
        }
        Ok(Some(repaired))
    }
}
