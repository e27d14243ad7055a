//! One change of the manifest, and then settle.

use std::collections::HashSet;

use jiff::Timestamp;

use crate::airgap::ImportError;
use crate::airgap::bundle::{ListedBottle, ListedImage, ListedSet};
use crate::bottle::{Digest, ImagePath, ImageTag, ObjectKey};
use crate::manifest::{self, BottleRecord, Image, IndexRecord, Manifest, ManifestError, OpenRun, State};
use crate::message::Message;
use crate::publication::Staged;
use crate::receipt::{Entry, Outcome};
use crate::run::{Count, RunId, RunRecord};
use crate::settle::SettleReport;

use super::receive::{Received, StagedIndex};
use super::{Importer, admit};

/// What a bundle changes.
pub(super) struct Change {
    pub(super) run: RunId,
    /// Where it ends.
    pub(super) until: Timestamp,
    /// Up to where the mirror was when the import began.
    pub(super) have: Option<Timestamp>,
    pub(super) received: Received,
}

/// What became of it.
pub(super) struct Settled {
    pub(super) manifest: Manifest,
    pub(super) report: SettleReport,
}

/// A bottle that the other mirror holds, and this one doesn't.
pub(super) struct Missing {
    image: ImagePath,
    digest: Digest,
    size: u64,
}

impl Importer {
    /// Takes note of what came, and publishes it.
    pub(super) async fn publish(&self, change: &Change) -> Result<Settled, ImportError> {
        self.record(change).await?;
        let mut unused = self.change(change).await?;
        let report = self.settler.settle_after_bottles().await?;
        let (manifest, _) = manifest::load(self.store()).await?;
        let indexes_left = manifest.images.values().flat_map(|image| image.indexes.values());
        let awaited: HashSet<&ObjectKey> = indexes_left.filter_map(|index| index.staged.as_ref()).collect();
        unused.retain(|key| !awaited.contains(key));
        if let Err(error) = self.store().delete(&unused).await {
            tracing::warn!(%error, objects = unused.len(), "could not be removed: they go with the run's record");
        }
        Ok(Settled { manifest, report })
    }

    /// Has the import appear among the mirror's runs.
    async fn record(&self, change: &Change) -> Result<(), ImportError> {
        let mut record = RunRecord::begin(change.run.clone(), self.settler.clock.now());
        record.planned = true;
        record.formulae = change.received.listing.images.len() as u64;
        record.small = change.received.total();
        Ok(record.save(self.store()).await?)
    }

    /// Changes the manifest; again from the read if someone else did meanwhile. The
    /// staged indexes that are not needed.
    async fn change(&self, change: &Change) -> Result<Vec<ObjectKey>, ImportError> {
        loop {
            let (mut manifest, version) = manifest::load(self.store()).await?;
            if change.have.is_none() && admit::is_synced(&manifest) {
                return Err(ImportError::Synced);
            }
            let unused = change.apply(&mut manifest, self.settler.clock.now());
            match manifest::save(self.store(), &manifest, version.as_ref()).await {
                Ok(_) => return Ok(unused),
                Err(ManifestError::Conflict) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

impl Change {
    /// Takes note of bottles, indexes and API files; the staged indexes that are not
    /// needed.
    fn apply(&self, manifest: &mut Manifest, now: Timestamp) -> Vec<ObjectKey> {
        let is_newer = self.is_newer(manifest);
        manifest.imported_until = manifest.imported_until.max(self.have).max(Some(self.until));
        let at = manifest.tick(now);
        let mut unused = Vec::new();
        for listed in &self.received.listing.images {
            let image = manifest.images.get(&listed.path);
            if image.is_none() && listed.indexes.is_empty() && !listed.brings_bottles() {
                continue;
            }
            for (digest, bottle) in &listed.bottles {
                self.note(manifest, listed, (digest, bottle), is_newer, at);
            }
            self.place(manifest, listed, is_newer, &mut unused);
        }
        manifest.runs.entry(self.run.clone()).or_insert(OpenRun::begin(false, now));
        stage(manifest, &self.received.listing.sets);
        unused
    }

    /// Whether the bundle goes beyond what the mirror has; else only what is missing is
    /// taken of it. The manifest knows of imports that ended while this one went on. An
    /// end that it knows is this bundle's own, of which an import died.
    fn is_newer(&self, manifest: &Manifest) -> bool {
        self.have.is_none_or(|have| self.until > have)
            && manifest.imported_until.is_none_or(|applied| self.until >= applied)
    }

    fn note(
        &self,
        manifest: &mut Manifest,
        listed: &ListedImage,
        (digest, bottle): (&Digest, &ListedBottle),
        is_newer: bool,
        at: Timestamp,
    ) {
        let state = manifest.bottle(&listed.path, digest).map(|record| &record.state);
        let was_held = state == Some(&State::Held);
        let outcome = match &bottle.dead {
            None if bottle.carried && !was_held => Some(Outcome::Held),
            Some(failure) if is_newer && !was_held => Some(Outcome::Dead(failure.clone())),
            _ => None,
        };
        if let Some(outcome) = outcome {
            manifest.fold(&Entry { message: self.message(listed, digest, bottle), at, outcome });
        }
        let image = manifest.images.get_mut(&listed.path);
        let Some(record) = image.and_then(|image| image.bottles.get_mut(digest)) else { return };
        if record.state != State::Held {
            return;
        }
        if !was_held {
            record.added_at = Some(at);
        }
        if is_newer || !was_held {
            record.dropped_at = bottle.dropped_at;
            record.image_tag = bottle.image_tag.clone();
            record.tags.clone_from(&bottle.tags);
        }
    }

    fn message(&self, listed: &ListedImage, digest: &Digest, bottle: &ListedBottle) -> Message {
        Message {
            run: self.run.clone(),
            formula: listed.formula.clone(),
            origin: listed.origin.clone(),
            image: listed.path.clone(),
            image_tag: bottle.image_tag.clone(),
            tags: bottle.tags.clone(),
            digest: *digest,
            size: bottle.size,
            copy_from: None,
            file: bottle.file.clone(),
            replace: false,
        }
    }

    /// Has the indexes that came wait for their bottles.
    fn place(
        &self,
        manifest: &mut Manifest,
        listed: &ListedImage,
        is_newer: bool,
        unused: &mut Vec<ObjectKey>,
    ) {
        if listed.indexes.is_empty() {
            return;
        }
        let image = manifest.images.entry(listed.path.clone());
        let image = image.or_insert_with(|| Image::new(&listed.formula, &listed.origin));
        for tag in listed.indexes.keys() {
            let Some(index) = self.received.indexes.get(&ObjectKey::index(&listed.path, tag)) else {
                continue;
            };
            let known = image.indexes.get(tag);
            let is_in_place =
                known.is_some_and(|known| known.staged.is_none() && known.sha256 == index.sha256);
            // An older bundle takes nothing back, and names all that the lost one did.
            let is_older = !is_newer && (known.is_some() || !names_all(image, tag, index));
            if is_in_place || is_older {
                unused.push(index.staged.clone());
                continue;
            }
            // What the other mirror holds and names; but for what it has dropped and
            // this one lets go of.
            let awaits = index.names.iter().filter(|digest| {
                let bottle = listed.bottles.get(digest).filter(|bottle| bottle.dead.is_none());
                bottle.is_some_and(|bottle| bottle.dropped_at.is_none() || is_held(image.bottles.get(digest)))
            });
            let record = IndexRecord {
                sha256: index.sha256,
                names: index.names.clone(),
                staged: Some(index.staged.clone()),
                awaits: awaits.copied().collect(),
                in_place: known.and_then(IndexRecord::in_place),
                added_at: None,
                flat: known.and_then(|known| known.flat),
            };
            image.indexes.insert(tag.clone(), record);
        }
    }

    /// Bottles that the other mirror held, and still wants, and that are not here.
    pub(super) fn missing(&self, manifest: &Manifest) -> Vec<Missing> {
        let mut missing = Vec::new();
        for listed in &self.received.listing.images {
            for (digest, bottle) in &listed.bottles {
                let is_wanted = bottle.dead.is_none() && bottle.dropped_at.is_none();
                if is_wanted && !is_held(manifest.bottle(&listed.path, digest)) {
                    let (image, digest, size) = (listed.path.clone(), *digest, bottle.size);
                    missing.push(Missing { image, digest, size });
                }
            }
        }
        missing
    }
}

/// Those of the bottles that are not here still.
pub(super) fn still_missing(missing: &[Missing], manifest: &Manifest) -> Count {
    let mut count = Count::default();
    for bottle in missing.iter().filter(|one| !is_held(manifest.bottle(&one.image, &one.digest))) {
        count.add(bottle.size);
    }
    count
}

/// Whether an index names each bottle of its tag that is held, and that upstream lists.
fn names_all(image: &Image, tag: &ImageTag, index: &StagedIndex) -> bool {
    image.bottles.iter().all(|(digest, record)| {
        let is_asked_for =
            record.image_tag == *tag && record.state == State::Held && record.dropped_at.is_none();
        !is_asked_for || index.names.contains(digest)
    })
}

/// Has API files wait for what they need.
fn stage(manifest: &mut Manifest, sets: &[ListedSet]) {
    for set in sets {
        let publication = &mut manifest.publication;
        let scopes = set.scopes.iter().filter(|scope| publication.awaits(scope, &set.run));
        let scopes: Vec<_> = scopes.cloned().collect();
        if !scopes.is_empty() {
            let (run, despite_dead) = (set.run.clone(), set.despite_dead.clone());
            publication.add_staged(Staged { run, at: set.at, scopes, despite_dead });
        }
    }
}

impl ListedImage {
    /// Whether the mirror learns of one of its bottles.
    fn brings_bottles(&self) -> bool {
        self.bottles.values().any(|bottle| bottle.carried || bottle.dead.is_some())
    }
}

fn is_held(record: Option<&BottleRecord>) -> bool {
    record.is_some_and(|record| record.state == State::Held)
}
