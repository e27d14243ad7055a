//! A manifest that is lost or damaged, made anew from what the mirror holds.

use std::collections::BTreeMap;

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use serde::Serialize;

use crate::bottle::{BottleTag, Digest, ImagePath, ImageTag, KeyKind, ObjectKey};
use crate::manifest::{self, BottleRecord, Image, IndexRecord, Manifest, ManifestError, State};
use crate::message::Message;
use crate::publication::Scope;
use crate::queue::QueueError;
use crate::registry::{Described, ImageIndex, LARGEST_INDEX};
use crate::run::{Count, RunId};
use crate::store::{Condition, ObjectMeta, SUPERSEDED, StoreError, Tags, Version, superseded_at};

use super::checksum::Compared;
use super::finding::{Content, Finding, Kind, Subject};
use super::naming::{self, RefName};
use super::report::{Checksums, Repaired};
use super::{Depth, Repair, Stage, Verifier, VerifyError, manifest_key, refused};

/// What a rebuilt manifest holds.
#[derive(Debug, Clone, Serialize)]
pub struct Rebuilt {
    /// What became of the one before.
    pub was: Was,
    /// Where the damaged one is kept.
    pub kept: Option<ObjectKey>,
    /// Images with bottles.
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
    /// Bottles that were compared to the byte; `None` if that was not asked for.
    pub checksums: Option<Checksums>,
    /// What is there and not in the manifest.
    pub left_out: Vec<Finding>,
    /// Damaged bottles that are fetched again.
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

/// What is there of one image.
#[derive(Default)]
struct There {
    indexes: Vec<(ImageTag, ObjectMeta)>,
    bottles: BTreeMap<Digest, ObjectMeta>,
}

/// What is there besides images.
#[derive(Default)]
pub(super) struct Beside {
    /// Flat copies, of bottles and indexes, with their sizes.
    pub(super) flat: BTreeMap<ObjectKey, u64>,
    /// API files.
    pub(super) api: Vec<ObjectKey>,
}

/// What the index of a bottle says of it.
struct Named {
    image_tag: ImageTag,
    size: Option<u64>,
    refs: Vec<RefName>,
}

/// A bottle that is there, and what is known of it.
struct Taken<'a> {
    path: &'a ImagePath,
    image: &'a Image,
    digest: Digest,
    meta: &'a ObjectMeta,
    /// What an image index says of it.
    named: Option<&'a Named>,
}

/// What came of one image.
#[derive(Default)]
struct Made {
    image: Option<(ImagePath, Image)>,
    left_out: Vec<Finding>,
    /// Damaged bottles that are asked for again.
    damaged: Vec<Message>,
    checksums: Checksums,
}

impl Verifier {
    /// Makes the manifest anew, if there is none that can be read. With
    /// [`Depth::Bytes`] every bottle is hashed before it is taken to be held.
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
        let (mut left_out, mut damaged, mut checksums) = (Vec::new(), Vec::new(), Checksums::default());
        self.progress.begin(Stage::Indexes, images.len());
        let made = images.into_iter().map(|(path, there)| self.image(path, there, &beside, &run));
        let mut made = stream::iter(made).buffer_unordered(self.settings.concurrency);
        while let Some(made) = made.try_next().await? {
            self.progress.step(1);
            left_out.extend(made.left_out);
            damaged.extend(made.damaged);
            checksums.merge(&made.checksums);
            manifest.images.extend(made.image);
        }
        for image in manifest.images.values_mut() {
            image.bottles.values_mut().for_each(|record| record.added_at = Some(added_at));
            image.indexes.values_mut().for_each(|record| record.added_at = Some(added_at));
        }
        self.restore_publication(&mut manifest, &beside, added_at).await?;

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
        let repair = self.fetch_damaged(run.clone(), &damaged, &mut left_out).await?;
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
        self.each_object("", |meta| {
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

    /// Makes one image from its indexes and bottles.
    async fn image(
        &self,
        path: ImagePath,
        there: There,
        beside: &Beside,
        run: &RunId,
    ) -> Result<Made, StoreError> {
        let There { mut indexes, bottles } = there;
        let mut left_out = Vec::new();
        let mut records = BTreeMap::new();
        let mut named: BTreeMap<Digest, Named> = BTreeMap::new();
        let mut title = None;
        // Of two that name a bottle the newer one counts.
        indexes.sort_by_key(|(_, meta)| meta.modified);
        for (tag, meta) in indexes {
            let index = match self.parsed(&meta).await? {
                Ok(index) => index,
                Err(why) => {
                    let mut finding = Finding::new(Kind::Unreadable, Subject::Index, meta.key).saying(why);
                    finding.found = Some(Content::of_size(meta.size));
                    left_out.push(finding);
                    continue;
                }
            };
            let described = index.described();
            title = described.title.clone().or(title);
            note_named(&mut named, &tag, described);
            let flat = match ObjectKey::flat_index(&path, &tag).filter(|key| beside.flat.contains_key(key)) {
                Some(key) => self.patient(|| self.hash(&key)).await?,
                None => None,
            };
            let sha256 = Digest::of(index.bytes());
            records
                .insert(tag, IndexRecord { sha256, staged: None, awaits: Vec::new(), added_at: None, flat });
        }
        let named_by = naming::formula(&path, title.as_deref()).ok().zip(naming::origin(&path).ok());
        let Some((formula, origin)) = named_by else {
            left_out.extend(bottles.into_values().map(unnamed));
            return Ok(Made { left_out, ..Made::default() });
        };
        let mut image = Image { formula, origin, indexes: records, bottles: BTreeMap::new() };
        let mut made = Made { left_out, ..Made::default() };
        for (digest, meta) in bottles {
            let taken = Taken { path: &path, image: &image, digest, meta: &meta, named: named.get(&digest) };
            if let Some(record) = self.bottle(&taken, beside, run, &mut made).await? {
                image.bottles.insert(digest, record);
            }
        }
        let is_empty = image.bottles.is_empty() && image.indexes.is_empty();
        made.image = (!is_empty).then_some((path, image));
        Ok(made)
    }

    /// The record of one bottle, or it is left out.
    async fn bottle(
        &self,
        bottle: &Taken<'_>,
        beside: &Beside,
        run: &RunId,
        made: &mut Made,
    ) -> Result<Option<BottleRecord>, StoreError> {
        let Taken { path, image, meta, named, .. } = bottle;
        let mut record = match (named, naming::may_do_without_index(path)) {
            (Some(named), _) => record(named.image_tag.clone(), named.tags(), meta, run),
            (None, true) => record(naming::pinned().map_err(refused)?, Vec::new(), meta, run),
            (None, false) => {
                made.left_out.push(bottle.left_out(Kind::Extra).saying("no image index names it"));
                return Ok(None);
            }
        };
        if meta.size == 0 || named.and_then(|named| named.size).is_some_and(|size| size != meta.size) {
            made.left_out.push(bottle.left_out(Kind::WrongSize));
            return Ok(None);
        }
        if self.settings.depth != Depth::Sizes && !self.is_right(bottle, &record, made).await? {
            return Ok(None);
        }
        let tags = self.patient(|| self.store.tags(&meta.key)).await?;
        record.superseded_at = is_superseded(&tags).then(|| superseded_at(&tags).unwrap_or(meta.modified));
        record.dropped_at = record.superseded_at;
        if let Some(named) = named.filter(|_| naming::is_core(path)) {
            let flat = named.refs.iter().filter_map(|name| name.flat_key(&image.formula).ok());
            record.flat = flat.filter(|key| beside.flat.get(key) == Some(&meta.size)).collect();
        }
        Ok(Some(record))
    }

    /// Whether a bottle has the bytes that its key promises.
    async fn is_right(
        &self,
        bottle: &Taken<'_>,
        record: &BottleRecord,
        made: &mut Made,
    ) -> Result<bool, StoreError> {
        let meta = bottle.meta;
        let compared = self.compare(&meta.key, bottle.digest, meta.size).await?;
        made.checksums.of.add(meta.size);
        made.checksums.add(&compared, meta.size);
        let mut finding = match compared {
            Compared::Right(_) => return Ok(true),
            Compared::Gone => return Ok(false),
            Compared::Wrong(_, found) => {
                Finding { found: Some(found), ..bottle.left_out(Kind::WrongChecksum) }
            }
            Compared::Unreadable(why) => bottle.left_out(Kind::Unreadable).saying(why),
        };
        if naming::is_of_file_host(bottle.path) {
            let why = "where its file is was lost with the manifest: once it is removed, a plan fetches it";
            finding.repair = Some(Repair::Nothing { why: why.to_owned() });
        } else {
            made.damaged.push(bottle.message(record));
        }
        made.left_out.push(finding);
        Ok(false)
    }

    /// An index, or why it can't be used.
    async fn parsed(&self, meta: &ObjectMeta) -> Result<Result<ImageIndex, String>, StoreError> {
        if meta.size > LARGEST_INDEX as u64 {
            return Ok(Err("it is larger than an index can be".to_owned()));
        }
        Ok(match self.patient(|| self.store.get(&meta.key)).await {
            Ok(Some(object)) => ImageIndex::parse(object.body),
            Ok(None) => Err("it went away meanwhile".to_owned()),
            Err(error) => Err(self.tolerate(error)?),
        })
    }

    /// Keeps a damaged manifest for someone to look at.
    async fn keep(&self, body: bytes::Bytes) -> Result<ObjectKey, StoreError> {
        let name = format!("manifest-damaged-{}.jsonl.zst", self.clock.now().strftime("%Y%m%dT%H%M%S%3fZ"));
        let key = ObjectKey::sync(&name).map_err(refused)?;
        self.patient(|| self.store.put(&key, body.clone().into(), Condition::Always)).await?;
        Ok(key)
    }

    /// A damaged bottle looks right to a plan, and so is asked for here.
    async fn fetch_damaged(
        &self,
        run: RunId,
        damaged: &[Message],
        left_out: &mut [Finding],
    ) -> Result<Option<Repaired>, RebuildError> {
        if damaged.is_empty() {
            return Ok(None);
        }
        let mut repaired = Repaired::of(run);
        match self.send(damaged, &mut repaired).await {
            Ok(()) => {}
            Err(VerifyError::Queue(error)) => return Err(RebuildError::Queue(error)),
            Err(VerifyError::Store(error)) => return Err(RebuildError::Store(error)),
            Err(VerifyError::Manifest(error)) => return Err(RebuildError::Manifest(error)),
        }
        for message in damaged {
            let key = message.key();
            let lane = self.lane(message);
            for finding in left_out.iter_mut().filter(|finding| finding.key == key) {
                finding.repair = Some(Repair::Queued { lane });
            }
        }
        Ok(Some(repaired))
    }
}

fn is_superseded(tags: &Tags) -> bool {
    tags.get(SUPERSEDED.0).map(String::as_str) == Some(SUPERSEDED.1)
}

fn note_named(named: &mut BTreeMap<Digest, Named>, tag: &ImageTag, described: Described) {
    let mut own: BTreeMap<Digest, Named> = BTreeMap::new();
    for entry in described.entries {
        let known = own.entry(entry.digest).or_insert_with(|| Named {
            image_tag: tag.clone(),
            size: entry.size,
            refs: Vec::new(),
        });
        known.refs.extend(entry.ref_name.as_deref().and_then(RefName::parse));
    }
    named.extend(own);
}

fn record(image_tag: ImageTag, tags: Vec<BottleTag>, meta: &ObjectMeta, run: &RunId) -> BottleRecord {
    BottleRecord {
        image_tag,
        tags,
        size: meta.size,
        run: run.clone(),
        at: meta.modified,
        state: State::Held,
        file: None,
        added_at: None,
        missing_at: None,
        dropped_at: None,
        superseded_at: None,
        flat: Vec::new(),
    }
}

impl Named {
    fn tags(&self) -> Vec<BottleTag> {
        self.refs.iter().map(|name| name.tag.clone()).collect()
    }
}

/// A bottle whose image can't be named.
fn unnamed(meta: ObjectMeta) -> Finding {
    let mut finding = Finding::new(Kind::Extra, Subject::Bottle, meta.key);
    finding.found = Some(Content::of_size(meta.size));
    finding.saying("its path names no formula")
}

impl Taken<'_> {
    fn left_out(&self, kind: Kind) -> Finding {
        let expected = Content { size: self.named.and_then(|named| named.size), sha256: Some(self.digest) };
        let finding = Finding::new(kind, Subject::Bottle, self.meta.key.clone());
        let mut finding = finding.comparing(expected, Some(Content::of_size(self.meta.size)));
        finding.formula = Some(self.image.formula.clone());
        finding.image_tag = self.named.map(|named| named.image_tag.clone());
        finding.tags = self.named.map(Named::tags).unwrap_or_default();
        finding
    }

    fn message(&self, record: &BottleRecord) -> Message {
        Message {
            run: record.run.clone(),
            formula: self.image.formula.clone(),
            origin: self.image.origin.clone(),
            image: self.path.clone(),
            image_tag: record.image_tag.clone(),
            tags: record.tags.clone(),
            digest: self.digest,
            size: record.size,
            copy_from: None,
            file: None,
            replace: true,
        }
    }
}
