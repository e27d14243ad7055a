//! What a manifest says of one image, found out again from its indexes and bottles.

use std::collections::{BTreeMap, BTreeSet};

use crate::bottle::{BottleTag, Digest, ImagePath, ImageTag, ObjectKey, RefName};
use crate::manifest::{BottleRecord, Image, IndexRecord, State};
use crate::message::Message;
use crate::registry::{Described, ImageIndex, LARGEST_INDEX};
use crate::run::RunId;
use crate::store::{ObjectMeta, StoreError, superseded_since};

use super::checksum::Compared;
use super::finding::{Content, Finding, Kind, Repair, Subject};
use super::look::Bottle;
use super::naming;
use super::report::Checksums;
use super::{Depth, Verifier};

/// What is there of one image.
#[derive(Default)]
pub(super) struct There {
    pub(super) indexes: Vec<(ImageTag, ObjectMeta)>,
    pub(super) bottles: BTreeMap<Digest, ObjectMeta>,
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
pub(super) struct Made {
    pub(super) image: Option<(ImagePath, Image)>,
    pub(super) left_out: Vec<Finding>,
    /// Bottles that have other bytes than they should.
    damaged: BTreeSet<Digest>,
    /// What asks for those of them whose size is known.
    pub(super) messages: Vec<Message>,
    pub(super) checksums: Checksums,
}

impl Verifier {
    /// Makes one image from its indexes and bottles.
    pub(super) async fn image(
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
                Some(key) => self.hash(&key).await?,
                None => None,
            };
            let sha256 = Digest::of(index.bytes());
            let (staged, awaits, in_place, added_at) = Default::default();
            let record = IndexRecord {
                sha256,
                names: index.digests().copied().collect(),
                staged,
                awaits,
                in_place,
                added_at,
                flat,
            };
            records.insert(tag, record);
        }
        let named_by = naming::formula(&path, title.as_deref()).ok().zip(naming::origin(&path).ok());
        let Some((formula, origin)) = named_by else {
            left_out.extend(bottles.into_values().map(unnamed));
            return Ok(Made { left_out, ..Made::default() });
        };
        let mut image = Image { indexes: records, ..Image::new(&formula, &origin) };
        let mut made = Made { left_out, ..Made::default() };
        for (digest, meta) in bottles {
            let taken = Taken { path: &path, image: &image, digest, meta: &meta, named: named.get(&digest) };
            if let Some(record) = self.bottle(&taken, beside, run, &mut made).await? {
                image.bottles.insert(digest, record);
            }
        }
        // Until it is replaced, and whoever is killed before it is asked for.
        image.damaged = std::mem::take(&mut made.damaged);
        let is_empty = image.bottles.is_empty() && image.indexes.is_empty() && image.damaged.is_empty();
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
            (None, true) => record(naming::pinned().map_err(StoreError::from)?, Vec::new(), meta, run),
            (None, false) => {
                made.left_out.push(bottle.left_out(Kind::Extra).saying("no image index names it"));
                return Ok(None);
            }
        };
        let size = named.and_then(|named| named.size);
        if meta.size == 0 || size.is_some_and(|size| size != meta.size) {
            made.left_out.push(bottle.left_out(Kind::WrongSize));
            return Ok(None);
        }
        // Where nobody says how long it is, only its bytes tell whether it is whole.
        let is_read = size.is_none() || self.settings.depth != Depth::Sizes;
        if is_read && !self.is_right(bottle, &record, made).await? {
            return Ok(None);
        }
        let tags = self.patient(|| self.store.tags(&meta.key)).await?;
        record.superseded_at = superseded_since(&tags, meta.modified);
        record.dropped_at = record.superseded_at;
        record.is_tagged = record.superseded_at.is_some();
        if let Some(named) = named.filter(|_| path.is_core()) {
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
        let finding = match compared {
            Compared::Right(_) => return Ok(true),
            Compared::Gone => return Ok(false),
            Compared::Wrong(_, found) => {
                Finding { found: Some(found), ..bottle.left_out(Kind::WrongChecksum) }
            }
            Compared::Unreadable(why) => bottle.left_out(Kind::Unreadable).saying(why),
        };
        made.damaged.insert(bottle.digest);
        if bottle.named.is_some_and(|named| named.size.is_some()) {
            let bottle = Bottle { path: bottle.path, image: bottle.image, digest: &bottle.digest, record };
            made.messages.push(bottle.message(&record.run, true));
            made.left_out.push(finding);
        } else {
            // Its size is the damaged one's: a plan asks upstream for the true one.
            made.left_out.push(Finding { repair: Some(Repair::Reported), ..finding });
        }
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
        is_tagged: false,
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
}
