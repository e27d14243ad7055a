//! Our record of what the mirror holds, and of what is on its way.
//!
//! One object, `_sync/manifest.jsonl.zst`: a header line, then one line an
//! image, compressed. Only the producer writes it, under the condition that
//! nobody else did since it was read ([`load`], [`save`]).
//!
//! What is known of a bottle is its latest word: of two reports the later one
//! holds, except that a held bottle stays held, since its bytes were verified
//! and are never deleted, until a look at the store finds it missing or damaged:
//! then what was reported before that look is void. So reports may come in any
//! order, and twice.

mod file;
#[cfg(test)]
mod model;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use url::Url;

use crate::bottle::{BottleTag, Digest, FormulaName, ImagePath, ImageTag, ObjectKey, Origin};
use crate::clock;
use crate::dead_letter::{ByReason, Failure};
use crate::message::Message;
use crate::publication::Publication;
use crate::receipt::{Entry, Outcome};
use crate::registry::Validators;
use crate::run::{Count, RunId};

pub use file::{KEY, ManifestError, decode, encode, load, load_folded, save};

/// How long a message lives on a work queue; SQS is set up with it.
pub const QUEUE_RETENTION: Duration = Duration::from_hours(4 * 24);

/// How long a message lives on a dead-letter queue; SQS is set up with it.
pub const DEAD_LETTER_RETENTION: Duration = Duration::from_hours(14 * 24);

/// What the mirror holds.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Manifest {
    /// The catalogue that was planned whole, if nothing stayed undone.
    pub planned: Option<PlannedCatalogue>,
    /// Runs that are not settled yet.
    pub runs: BTreeMap<RunId, OpenRun>,
    /// What clients read, and what waits to be read by them.
    pub publication: Publication,
    /// When settle last changed it: later with every change, whatever the clock says.
    pub folded_at: Option<Timestamp>,
    /// How often something came undone that a plan had done: a plan that went on
    /// meanwhile doesn't know of it.
    pub undone: u64,
    /// The receipts whose orders were obeyed, of those that may still be there.
    pub obeyed: BTreeSet<ObjectKey>,
    /// Up to where bundles of another mirror were applied; `None` if none was.
    pub imported_until: Option<Timestamp>,
    /// What is known of each image.
    pub images: BTreeMap<ImagePath, Image>,
}

/// The catalogue that the manifest accounts for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannedCatalogue {
    /// Where it came from.
    pub url: String,
    /// What tells whether it changed.
    pub validators: Validators,
    /// The selection that was applied to it.
    pub selection: Digest,
    /// The same of the taps' catalogues, by where they came from.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub taps: BTreeMap<String, Validators>,
}

/// A run that is not settled yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenRun {
    /// Whether its plan is still going on, or was cut short.
    pub planning: bool,
    /// How many of its bottles were still on their way at the last look.
    pub remaining: u64,
    /// When that number last changed.
    pub progress_at: Timestamp,
    /// Bottles whose messages were found to be gone.
    #[serde(default)]
    pub lost: u64,
    /// Whether it was found to make no progress, and the team was told.
    #[serde(default)]
    pub stalled: bool,
}

/// What is known of one formula's repository.
#[derive(Debug, Clone, PartialEq)]
pub struct Image {
    /// The formula.
    pub formula: FormulaName,
    /// The registry.
    pub origin: Origin,
    /// Its image indexes by tag.
    pub indexes: BTreeMap<ImageTag, IndexRecord>,
    /// Its bottles by digest.
    pub bottles: BTreeMap<Digest, BottleRecord>,
    /// Bottles that were found damaged and are not known to be mended: whoever asks
    /// for one has it fetched whatever the store seems to hold.
    pub damaged: BTreeSet<Digest>,
}

/// An image index, in place or waiting for its bottles.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IndexRecord {
    /// The sha256 of the newest one that was read.
    pub sha256: Digest,
    /// The bottles that that one names, in order: upstream changes what is under a tag,
    /// so that a held bottle may be named no more, or not yet. None where an earlier
    /// version took no note of it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub names: Vec<Digest>,
    /// Where it waits; `None` once it is in place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub staged: Option<ObjectKey>,
    /// The bottles that it waits for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub awaits: Vec<Digest>,
    /// The one that clients read while this one waits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub in_place: Option<InPlace>,
    /// When it was put in place, as [`Manifest::folded_at`] counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub added_at: Option<Timestamp>,
    /// The sha256 of its copy beside the flat names, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flat: Option<Digest>,
}

/// An image index that clients read while another one waits to replace it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InPlace {
    /// Its sha256.
    pub sha256: Digest,
    /// The bottles that it names, in order.
    pub names: Vec<Digest>,
}

/// What is known of one bottle.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BottleRecord {
    /// The tag of the image index that names it.
    pub image_tag: ImageTag,
    /// Its bottle tags.
    pub tags: Vec<BottleTag>,
    /// Its size in bytes.
    pub size: u64,
    /// The run that asked for it last.
    pub run: RunId,
    /// When `state` came to be.
    pub at: Timestamp,
    /// What is known of it.
    pub state: State,
    /// The file's URL where it is no blob of a registry.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<Url>,
    /// When it came to be held, as [`Manifest::folded_at`] counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub added_at: Option<Timestamp>,
    /// When it was last found to be missing or damaged: what was reported of it
    /// before is no longer so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub missing_at: Option<Timestamp>,
    /// Since when upstream doesn't list it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dropped_at: Option<Timestamp>,
    /// Since when it is superseded, and its object to be tagged so and to expire. Noted
    /// before the tag is written, and taken back only once the tag is off: no object is
    /// tagged of which this is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub superseded_at: Option<Timestamp>,
    /// Whether the tag was written.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_tagged: bool,
    /// Its copies under flat names.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub flat: Vec<ObjectKey>,
}

/// Where a bottle is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Its message is on a queue.
    Queued,
    /// The mirror holds it, verified.
    Held,
    /// It was given up on, and is in a dead-letter queue.
    Dead(Failure),
}

/// How one run's bottles fare.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tally {
    /// On their way.
    pub queued: Count,
    /// In the mirror.
    pub held: Count,
    /// Given up on.
    pub dead: Count,
    /// The same by reason.
    pub reasons: ByReason,
}

impl IndexRecord {
    /// Whether it names a bottle; `None` if nobody knows.
    pub fn names(&self, digest: &Digest) -> Option<bool> {
        (!self.names.is_empty()).then(|| self.names.binary_search(digest).is_ok())
    }

    /// The one that clients read, where it is known what that names.
    pub fn in_place(&self) -> Option<InPlace> {
        match &self.staged {
            None if self.names.is_empty() => None,
            None => Some(InPlace { sha256: self.sha256, names: self.names.clone() }),
            Some(_) => self.in_place.clone(),
        }
    }
}

impl Image {
    /// An image of which nothing is known yet.
    pub fn new(formula: &FormulaName, origin: &Origin) -> Self {
        Self {
            formula: formula.clone(),
            origin: origin.clone(),
            indexes: BTreeMap::new(),
            bottles: BTreeMap::new(),
            damaged: BTreeSet::new(),
        }
    }
}

impl OpenRun {
    /// A run that begins, or goes on; `planning` while its plan does.
    pub fn begin(planning: bool, now: Timestamp) -> Self {
        Self { planning, remaining: 0, progress_at: now, lost: 0, stalled: false }
    }
}

impl Manifest {
    /// What is known of a bottle.
    pub fn bottle(&self, image: &ImagePath, digest: &Digest) -> Option<&BottleRecord> {
        self.images.get(image)?.bottles.get(digest)
    }

    /// Takes note that a bottle's message was sent.
    pub fn queue(&mut self, message: &Message, at: Timestamp) {
        self.note(message, at, State::Queued);
    }

    /// Takes note of one report.
    pub fn fold(&mut self, entry: &Entry) {
        match &entry.outcome {
            Outcome::Held => self.note(&entry.message, entry.at, State::Held),
            Outcome::Dead(failure) => self.note(&entry.message, entry.at, State::Dead(failure.clone())),
            Outcome::Replayed => self.note(&entry.message, entry.at, State::Queued),
            Outcome::Dropped => self.forget(&entry.message, entry.at),
            Outcome::Missing => self.lose(&entry.message, entry.at),
        }
    }

    /// Has the next plan look at everything: something came undone.
    pub fn undo_plan(&mut self) {
        self.planned = None;
        self.undone += 1;
    }

    /// The time of the next change, which is later than that of every change before it.
    pub fn next_tick(&self, now: Timestamp) -> Timestamp {
        let least = self.folded_at.map(|last| clock::after(last, Duration::from_millis(1)));
        least.map_or(now, |least| least.max(now))
    }

    /// The same, noted as the time of the last change.
    pub fn tick(&mut self, now: Timestamp) -> Timestamp {
        let at = self.next_tick(now);
        self.folded_at = Some(at);
        at
    }

    /// How the bottles of one run fare, or all bottles.
    pub fn tally(&self, run: Option<&RunId>) -> Tally {
        let mut tally = Tally::default();
        for record in self.images.values().flat_map(|image| image.bottles.values()) {
            if run.is_none_or(|run| record.run == *run) {
                match &record.state {
                    State::Queued => tally.queued.add(record.size),
                    State::Held => tally.held.add(record.size),
                    State::Dead(failure) => {
                        tally.dead.add(record.size);
                        *tally.reasons.entry(failure.reason).or_default() += 1;
                    }
                }
            }
        }
        tally
    }

    /// Forgets bottles that were queued before `before` and whose messages are
    /// known to be gone; how many of each run.
    pub fn forget_lost(&mut self, before: Timestamp) -> BTreeMap<RunId, u64> {
        let mut lost = BTreeMap::new();
        for image in self.images.values_mut() {
            image.bottles.retain(|_, record| {
                let gone = record.state == State::Queued && record.at < before;
                if gone {
                    *lost.entry(record.run.clone()).or_default() += 1;
                }
                !gone
            });
        }
        if !lost.is_empty() {
            self.undo_plan();
        }
        lost
    }

    fn note(&mut self, message: &Message, at: Timestamp, state: State) {
        let image = self
            .images
            .entry(message.image.clone())
            .or_insert_with(|| Image::new(&message.formula, &message.origin));
        let new = |state| BottleRecord {
            image_tag: message.image_tag.clone(),
            tags: message.tags.clone(),
            size: message.size,
            run: message.run.clone(),
            at,
            state,
            file: message.file.clone(),
            added_at: None,
            missing_at: None,
            dropped_at: None,
            superseded_at: None,
            is_tagged: false,
            flat: Vec::new(),
        };
        match image.bottles.get_mut(&message.digest) {
            None => {
                image.bottles.insert(message.digest, new(state));
            }
            Some(record) => {
                let is_over = record.missing_at.is_some_and(|missing_at| at < missing_at);
                let stays_held = record.state == State::Held;
                if !stays_held && !is_over && (state == State::Held || record.at <= at) {
                    let BottleRecord { missing_at, superseded_at, .. } = *record;
                    let flat = std::mem::take(&mut record.flat);
                    *record = BottleRecord { missing_at, superseded_at, flat, ..new(state) };
                } else if stays_held && state == State::Held && !is_over {
                    // The latest word: a loss that was found before it is made good.
                    record.at = record.at.max(at);
                }
            }
        }
        let is_held = image.bottles.get(&message.digest).is_some_and(|record| record.state == State::Held);
        if is_held {
            image.damaged.remove(&message.digest);
        }
    }

    /// A bottle that was thought to be held is on its way again. What was reported
    /// later than the loss stays.
    fn lose(&mut self, message: &Message, at: Timestamp) {
        let known = self.images.get_mut(&message.image);
        match known.and_then(|image| image.bottles.get_mut(&message.digest)) {
            Some(record) if record.at > at => {}
            Some(record) => {
                record.run = message.run.clone();
                record.at = at;
                record.state = State::Queued;
                record.added_at = None;
                record.missing_at = Some(at);
                record.is_tagged = false;
            }
            None => {
                self.note(message, at, State::Queued);
                if let Some(record) = self.record_mut(message) {
                    record.missing_at = Some(at);
                }
            }
        }
        let is_lost = self.record_mut(message).is_some_and(|record| record.missing_at == Some(at));
        if let Some(image) = self.images.get_mut(&message.image)
            && is_lost
            && message.replace
        {
            image.damaged.insert(message.digest);
        }
    }

    fn record_mut(&mut self, message: &Message) -> Option<&mut BottleRecord> {
        self.images.get_mut(&message.image)?.bottles.get_mut(&message.digest)
    }

    fn forget(&mut self, message: &Message, at: Timestamp) {
        let Some(image) = self.images.get_mut(&message.image) else { return };
        if let Some(record) = image.bottles.get(&message.digest)
            && matches!(record.state, State::Dead(_))
            && record.at <= at
        {
            image.bottles.remove(&message.digest);
            self.undo_plan();
        }
    }
}

impl BottleRecord {
    /// Whether nothing needs to be done for this bottle: it is held, or its
    /// message is still on a queue somewhere.
    pub fn is_accounted_for(&self, now: Timestamp) -> bool {
        let age = clock::since(self.at, now);
        match self.state {
            State::Held => true,
            State::Queued => age < QUEUE_RETENTION,
            State::Dead(_) => age < DEAD_LETTER_RETENTION,
        }
    }
}
