//! One look: a listing against what the manifest expects.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use jiff::Timestamp;

use crate::bottle::{Digest, ImagePath, ImageTag, KeyKind, ObjectKey};
use crate::manifest::{BottleRecord, Image, IndexRecord, Manifest, State};
use crate::message::Message;
use crate::publication::{ApiPath, Scope, Set};
use crate::receipt::What;
use crate::run::{Count, RunId};
use crate::store::{ObjectMeta, StoreError};

use super::finding::{Content, Finding, Findings, Kind, Remedy, Subject};
use super::indexes::Names;
use super::report::{Checked, Objects};
use super::{Known, Verifier, VerifyError, manifest_key};

/// What one look came to.
#[derive(Default)]
pub(super) struct Look {
    pub(super) findings: Findings,
    pub(super) checked: Checked,
    pub(super) queued: u64,
    pub(super) dead: u64,
    pub(super) extra: Count,
    pub(super) foreign: Objects,
    /// Held bottles that are there with their size.
    pub(super) sound: Vec<(ImagePath, Digest)>,
    /// Copies under flat names that are there with their bottle's size, and its digest.
    pub(super) sound_flat: HashMap<ObjectKey, Digest>,
    /// What is superseded since then, or longer, may be gone.
    pub(super) expired_before: Timestamp,
    /// Held bottles that are not there any more, and may be gone.
    pub(super) expired: HashSet<ObjectKey>,
    /// What the image indexes in place name.
    pub(super) names: HashMap<ObjectKey, Names>,
    /// What each scope was told.
    pub(super) published: Vec<(Scope, Arc<Set>)>,
}

/// A bottle as the manifest has it.
#[derive(Clone, Copy)]
pub(super) struct Bottle<'a> {
    pub(super) path: &'a ImagePath,
    pub(super) image: &'a Image,
    pub(super) digest: &'a Digest,
    pub(super) record: &'a BottleRecord,
}

/// An image index as the manifest has it.
#[derive(Clone, Copy)]
pub(super) struct Index<'a> {
    pub(super) path: &'a ImagePath,
    pub(super) image: &'a Image,
    pub(super) tag: &'a ImageTag,
    pub(super) record: &'a IndexRecord,
    /// The sha256 of its copy beside the flat names, if that one is meant.
    pub(super) flat: Option<Digest>,
}

/// What may be under a key.
enum Expected<'a> {
    Bottle(Bottle<'a>),
    Flat(Bottle<'a>),
    Index(Index<'a>),
    Api(&'a ApiPath, Digest),
}

/// What is there and has to be read.
#[derive(Default)]
pub(super) struct ToRead<'a> {
    pub(super) indexes: Vec<(ObjectMeta, Index<'a>)>,
    pub(super) api: Vec<(ObjectMeta, &'a ApiPath, Digest)>,
}

impl Verifier {
    pub(super) async fn look(&self, known: &Known, run: &RunId) -> Result<Look, VerifyError> {
        let manifest = &known.manifest;
        let expired_before = self.clock.now().checked_sub(self.settings.expire_after);
        let expired_before = expired_before.unwrap_or(Timestamp::MIN);
        let mut look = Look { expired_before, ..Look::default() };
        let mut expected = expected(manifest)?;
        let mut there = ToRead::default();
        let mut holds_bottles = false;
        self.each_object(|meta| {
            holds_bottles |= meta.key.blob_digest().is_some();
            match expected.remove(&meta.key) {
                Some(expected) => look.compare(run, meta, &expected, &mut there),
                None => look.note_unknown(&meta),
            }
        })
        .await?;
        if known.version.is_none() && holds_bottles {
            let manifest = Finding::new(Kind::Missing, Subject::Manifest, manifest_key()?);
            look.findings.push(manifest.remedied_by(Remedy::None("it is made anew by --rebuild-manifest")));
        }
        for (key, expected) in expected {
            look.note_absent(run, key, &expected);
        }
        for bottle in bottles(manifest) {
            look.note_state(bottle);
        }
        self.read_published(manifest, &mut look).await?;
        self.read_indexes(there.indexes, &mut look).await?;
        self.read_staged_indexes(manifest, &mut look).await?;
        self.read_staged_files(manifest, &mut look).await?;
        self.read_api(known, there.api, &mut look).await?;
        self.read_unknown_api(known, &mut look).await?;
        look.note_unmet(manifest)?;
        Ok(look)
    }
}

impl Look {
    /// An object that the manifest knows.
    fn compare<'a>(
        &mut self,
        run: &RunId,
        meta: ObjectMeta,
        expected: &Expected<'a>,
        there: &mut ToRead<'a>,
    ) {
        match expected {
            Expected::Bottle(bottle) if bottle.is_held() => {
                self.checked.bottles += 1;
                if meta.size == bottle.record.size {
                    self.sound.push((bottle.path.clone(), *bottle.digest));
                } else {
                    let found = Content::of_size(meta.size);
                    self.findings.push(bottle.damaged(run, Kind::WrongSize, found));
                }
            }
            Expected::Flat(bottle) if bottle.is_held() => {
                self.checked.flat_bottles += 1;
                if meta.size == bottle.record.size {
                    self.sound_flat.insert(meta.key, *bottle.digest);
                } else if bottle.may_be_anothers(meta.size) {
                    // A settle gives the name away before the manifest says so.
                    self.findings.push(bottle.flat(Kind::Unfinished, meta.key, None));
                } else {
                    let found = Some(Content::of_size(meta.size));
                    self.findings.push(bottle.flat(Kind::WrongSize, meta.key, found));
                }
            }
            // What of it is there, and what is not, is being changed.
            Expected::Bottle(_) | Expected::Flat(_) => {}
            Expected::Index(index) => there.indexes.push((meta, *index)),
            Expected::Api(path, sha256) => there.api.push((meta, path, *sha256)),
        }
    }

    /// An object that the manifest knows and that is not there.
    fn note_absent(&mut self, run: &RunId, key: ObjectKey, expected: &Expected<'_>) {
        match expected {
            Expected::Bottle(bottle) if bottle.is_held() => {
                if bottle.may_expire(self.expired_before) {
                    self.expired.insert(key);
                }
                self.findings.push(bottle.missing(run, self.expired_before));
            }
            Expected::Flat(bottle) if bottle.is_held() => {
                let is_over = bottle.may_expire(self.expired_before);
                let kind = if is_over { Kind::Expired } else { Kind::Missing };
                self.findings.push(bottle.flat(kind, key, None));
            }
            // One that waits for its first bottles was never in place.
            Expected::Index(index) if index.is_in_place() => {
                self.findings.push(index.finding(Kind::Missing, key, None));
            }
            Expected::Bottle(_) | Expected::Flat(_) | Expected::Index(_) => {}
            Expected::Api(path, sha256) => {
                let expected = Content { size: None, sha256: Some(*sha256) };
                let finding = Finding::new(Kind::Missing, Subject::ApiFile, key).comparing(expected, None);
                self.findings.push(finding.remedied_by(Remedy::republish(path)));
            }
        }
    }

    /// An object that the manifest doesn't know.
    fn note_unknown(&mut self, meta: &ObjectMeta) {
        let subject = match meta.key.kind() {
            KeyKind::Bottle(_) => Subject::Bottle,
            KeyKind::Index if meta.key.as_str().starts_with("v2/") => Subject::Index,
            KeyKind::Index => Subject::FlatIndex,
            KeyKind::FlatBottle => Subject::FlatBottle,
            KeyKind::Api => Subject::ApiFile,
            KeyKind::Foreign | KeyKind::Internal => {
                self.foreign.objects += 1;
                self.foreign.bytes += meta.size;
                return;
            }
        };
        if subject == Subject::Bottle {
            self.extra.add(meta.size);
        }
        let mut finding = Finding::new(Kind::Extra, subject, meta.key.clone());
        finding.found = Some(Content::of_size(meta.size));
        self.findings.push(finding);
    }

    /// A bottle that is not held: on its way, or given up on.
    fn note_state(&mut self, bottle: Bottle<'_>) {
        let was_held = bottle.record.missing_at.is_some();
        match &bottle.record.state {
            State::Held => {}
            State::Queued if was_held => self.findings.push(bottle.finding(Kind::Queued)),
            State::Dead(failure) if was_held => {
                let finding = bottle.finding(Kind::GivenUp).saying(failure.detail.clone());
                self.findings
                    .push(finding.remedied_by(Remedy::None("`bottles dead-letters replay` tries again")));
            }
            State::Queued => self.queued += 1,
            State::Dead(_) => self.dead += 1,
        }
    }
}

impl<'a> Bottle<'a> {
    pub(super) fn of(manifest: &'a Manifest, path: &'a ImagePath, digest: &'a Digest) -> Option<Self> {
        let image = manifest.images.get(path)?;
        Some(Self { path, image, digest, record: image.bottles.get(digest)? })
    }

    pub(super) fn key(&self) -> ObjectKey {
        ObjectKey::blob(self.path, self.digest)
    }

    pub(super) fn is_held(&self) -> bool {
        self.record.state == State::Held
    }

    /// Of two bottles under one flat name the greater one has it.
    fn rank(&self) -> (bool, Option<Timestamp>, Timestamp) {
        let BottleRecord { dropped_at, superseded_at, added_at, at, .. } = self.record;
        (dropped_at.is_none() && superseded_at.is_none(), *added_at, *at)
    }

    /// Whether another held bottle of the image has this size, in bytes.
    fn may_be_anothers(&self, size: u64) -> bool {
        let is_another = |(digest, record): (&Digest, &BottleRecord)| {
            digest != self.digest && record.state == State::Held && record.size == size
        };
        self.image.bottles.iter().any(is_another)
    }

    /// Whether its object may be gone, and nobody is to blame: its days of grace are over.
    fn may_expire(&self, before: Timestamp) -> bool {
        self.record.dropped_at.is_some() && self.record.superseded_at.is_some_and(|since| since <= before)
    }

    fn finding(&self, kind: Kind) -> Finding {
        self.about(kind, Subject::Bottle, self.key())
    }

    fn about(&self, kind: Kind, subject: Subject, key: ObjectKey) -> Finding {
        let mut finding = Finding::new(kind, subject, key);
        finding.formula = Some(self.image.formula.clone());
        finding.image_tag = Some(self.record.image_tag.clone());
        finding.tags.clone_from(&self.record.tags);
        finding.expected = Some(self.content());
        finding
    }

    fn content(&self) -> Content {
        Content { size: Some(self.record.size), sha256: Some(*self.digest) }
    }

    pub(super) fn missing(&self, run: &RunId, expired_before: Timestamp) -> Finding {
        if self.may_expire(expired_before) {
            return self.finding(Kind::Expired);
        }
        self.finding(Kind::Missing).remedied_by(self.fetch(run, false))
    }

    /// What is there is not the bottle.
    pub(super) fn damaged(&self, run: &RunId, kind: Kind, found: Content) -> Finding {
        let finding = self.finding(kind).comparing(self.content(), Some(found));
        finding.remedied_by(self.fetch(run, true))
    }

    /// Something is the matter with its copy under a flat name.
    pub(super) fn flat(&self, kind: Kind, key: ObjectKey, found: Option<Content>) -> Finding {
        let remedy = Remedy::Copy { from: self.key(), to: key.clone() };
        let finding = self.about(kind, Subject::FlatBottle, key).comparing(self.content(), found);
        if kind.is_wrong() { finding.remedied_by(remedy) } else { finding }
    }

    fn fetch(&self, run: &RunId, replace: bool) -> Remedy {
        Remedy::Fetch(Box::new(self.message(run, replace)))
    }

    /// What asks for it.
    pub(super) fn message(&self, run: &RunId, replace: bool) -> Message {
        Message {
            run: run.clone(),
            formula: self.image.formula.clone(),
            origin: self.image.origin.clone(),
            image: self.path.clone(),
            image_tag: self.record.image_tag.clone(),
            tags: self.record.tags.clone(),
            digest: *self.digest,
            size: self.record.size,
            copy_from: None,
            file: self.record.file.clone(),
            replace,
        }
    }
}

impl Index<'_> {
    pub(super) fn is_in_place(&self) -> bool {
        self.record.staged.is_none()
    }

    pub(super) fn is_flat(&self) -> bool {
        self.flat.is_some()
    }

    /// What its bytes hash to, where that is known.
    pub(super) fn sha256(&self) -> Option<Digest> {
        self.flat.or_else(|| self.is_in_place().then_some(self.record.sha256))
    }

    pub(super) fn finding(&self, kind: Kind, key: ObjectKey, found: Option<Content>) -> Finding {
        let subject = if self.is_flat() { Subject::FlatIndex } else { Subject::Index };
        let mut finding = Finding::new(kind, subject, key);
        finding.formula = Some(self.image.formula.clone());
        finding.image_tag = Some(self.tag.clone());
        let expected = Content { size: None, sha256: self.sha256() };
        let what = What::Reindex { image: self.path.clone(), tag: self.tag.clone() };
        finding.comparing(expected, found).remedied_by(Remedy::Order(what))
    }
}

/// Every bottle of the manifest.
fn bottles(manifest: &Manifest) -> impl Iterator<Item = Bottle<'_>> {
    manifest.images.iter().flat_map(|(path, image)| {
        image.bottles.iter().map(move |(digest, record)| Bottle { path, image, digest, record })
    })
}

/// What the manifest knows of, by key.
fn expected(manifest: &Manifest) -> Result<BTreeMap<ObjectKey, Expected<'_>>, VerifyError> {
    let mut expected = BTreeMap::new();
    for bottle in bottles(manifest) {
        expected.insert(bottle.key(), Expected::Bottle(bottle));
        for flat in &bottle.record.flat {
            // A name that was given to a newer bottle since is that one's.
            let is_anothers =
                matches!(expected.get(flat), Some(Expected::Flat(other)) if other.rank() > bottle.rank());
            if !is_anothers {
                expected.insert(flat.clone(), Expected::Flat(bottle));
            }
        }
    }
    for (path, image) in &manifest.images {
        for (tag, record) in &image.indexes {
            let index = Index { path, image, tag, record, flat: None };
            expected.insert(ObjectKey::index(path, tag), Expected::Index(index));
            if let (Some(sha256), Some(key)) = (record.flat, ObjectKey::flat_index(path, tag)) {
                expected.insert(key, Expected::Index(Index { flat: Some(sha256), ..index }));
            }
        }
    }
    for (path, sha256) in &manifest.publication.files {
        expected.insert(path.key().map_err(StoreError::from)?, Expected::Api(path, *sha256));
    }
    Ok(expected)
}
