//! Plan: what upstream has, less what the mirror has, onto the queues.
//!
//! Messages are sent before the manifest says so. A producer that dies between
//! the two sends them again the next time, which harms nobody: a consumer finds
//! the bottle in the mirror. The other way round a message could be missing.

mod diff;
mod index;
mod send;
mod write;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures_util::{StreamExt, stream};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;
use tracing::Instrument as _;
use url::Url;

use crate::bottle::{Digest, FormulaName, ObjectKey};
use crate::catalogue::{Catalogue, Skipped};
use crate::clock::Clock;
use crate::manifest::{self, Manifest, ManifestError, PlannedCatalogue};
use crate::message::{Lane, Message};
use crate::queue::{Queue, QueueError};
use crate::registry::{self, CatalogueAnswer, Upstream, Validators};
use crate::run::{Count, Outcome, RunId, RunRecord};
use crate::selection::{Added, Missing, Selection};
use crate::store::{Store, StoreError};

use diff::Work;
use index::Drafted;
use write::Writer;

/// Plans runs.
pub struct Planner {
    /// The mirror.
    pub store: Arc<dyn Store>,
    /// The client of upstream.
    pub upstream: Arc<Upstream>,
    /// The work queue of each lane.
    pub queues: HashMap<Lane, Arc<dyn Queue>>,
    /// What is wanted.
    pub selection: Selection,
    /// The time.
    pub clock: Clock,
    /// How to go about it.
    pub settings: PlanSettings,
    /// How far it is; others may look at it.
    pub progress: PlanProgress,
}

/// How far a plan is. Cheap to clone; all clones show the same.
#[derive(Debug, Clone, Default)]
pub struct PlanProgress(Arc<[AtomicUsize; 2]>);

impl PlanProgress {
    /// Image indexes that were read, and all that are to be read.
    pub fn now(&self) -> (usize, usize) {
        (self.0[0].load(Ordering::Relaxed), self.0[1].load(Ordering::Relaxed))
    }

    fn begin(&self, total: usize) {
        self.0[0].store(0, Ordering::Relaxed);
        self.0[1].store(total, Ordering::Relaxed);
    }

    fn step(&self) {
        self.0[0].fetch_add(1, Ordering::Relaxed);
    }
}

/// How to plan.
#[derive(Debug, Clone)]
pub struct PlanSettings {
    /// The folder of the API files: `https://formulae.brew.sh/api`.
    pub api_url: Url,
    /// Bottles larger than this, in bytes, go to the large queue.
    pub size_threshold: u64,
    /// How many image indexes are read at once.
    pub concurrency: usize,
    /// When to stop between two formulae, for the next plan to go on.
    pub deadline: Option<Instant>,
}

/// What a plan came to.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct PlanReport {
    /// The run; `None` in a dry run.
    pub run: Option<RunId>,
    /// Whether upstream said that the catalogue is the one planned before.
    pub unchanged: bool,
    /// Whether the whole catalogue was gone through.
    pub complete: bool,
    /// Formulae with bottles in the catalogue.
    pub formulae: usize,
    /// Bottles in the catalogue, by tag.
    pub bottles: usize,
    /// Bottles that the selection asks for, by digest.
    pub selected: usize,
    /// Of these, the mirror holds.
    pub held: usize,
    /// Of these, are on a queue already.
    pub queued: usize,
    /// Of these, are in a dead-letter queue.
    pub dead: usize,
    /// What goes to the small queue.
    pub small: Count,
    /// What goes to the large queue.
    pub large: Count,
    /// Bottles whose sizes were not asked for, in a dry run without sizes.
    pub unsized_bottles: usize,
    /// Bottles outside the selection's size limits.
    pub outside_limits: usize,
    /// What the closure added.
    pub added: Vec<Added>,
    /// What is wanted and can't be had.
    pub missing: Vec<Missing>,
    /// Patterns of the selection that match nothing.
    pub unmatched: Vec<String>,
    /// Formulae that could not be read from the catalogue.
    pub skipped: Vec<SkippedFormula>,
    /// Formulae that could not be planned; the next plan tries them again.
    pub problems: Vec<Problem>,
}

/// A formula that could not be read from the catalogue.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SkippedFormula {
    /// Its name, or its position where it has none.
    pub name: String,
    /// What is wrong with it.
    pub why: String,
}

/// A formula that could not be planned.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Problem {
    /// The formula.
    pub formula: FormulaName,
    /// What is wrong.
    pub why: String,
}

/// A plan that could not be made.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// The catalogue can't be had.
    #[error("the catalogue {url} can't be read: {source}")]
    Catalogue {
        /// Where it should be.
        url: Url,
        /// What went wrong.
        source: registry::Error,
    },
    /// The manifest can't be used.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// A queue can't be used.
    #[error(transparent)]
    Queue(#[from] QueueError),
    /// The store can't be used.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Whether anything is done about the plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Stage, send, record.
    Queue,
    /// Only look. Without sizes, no image index is read.
    DryRun {
        /// Whether image indexes are read for the bottles' sizes.
        sizes: bool,
    },
}

impl Planner {
    /// Makes a plan, and queues it unless it is a dry run.
    pub async fn plan(&self, mode: Mode) -> Result<PlanReport, PlanError> {
        let started_at = self.clock.now();
        let (manifest, version) = manifest::load(&*self.store).await?;
        // A dry run tells all that there is to tell, and so reads it all.
        let known = if mode == Mode::Queue { self.known_catalogue(&manifest) } else { None };
        let url = self.catalogue_url();
        let answer = self
            .upstream
            .catalogue(&url, known)
            .await
            .map_err(|source| PlanError::Catalogue { url: url.clone(), source })?;
        let (catalogue, validators) = match answer {
            CatalogueAnswer::Unchanged => return self.unchanged(started_at).await,
            CatalogueAnswer::Fresh { catalogue, validators } => (catalogue, validators),
        };
        for Skipped { name, why } in catalogue.skipped() {
            tracing::warn!(formula = name, why, "skipped: it can't be read from the catalogue");
        }

        let selected = self.selection.apply(&catalogue);
        let (work, mut report) = diff::diff(&catalogue, selected, &manifest, started_at);
        if let Mode::DryRun { sizes: false } = mode {
            report.unsized_bottles = work.iter().map(|work| work.bottles.len()).sum();
            return Ok(report);
        }

        let mut writer = match mode {
            Mode::DryRun { .. } => None,
            Mode::Queue => Some(Writer::begin(self, manifest, version, started_at).await?),
        };
        report.run = writer.as_ref().map(|writer| writer.run.id.clone());
        let run = report.run.clone().unwrap_or_else(|| RunId::new(started_at));
        let span = tracing::error_span!("plan", run.id = %run);
        self.go_through(&catalogue, work, &run, writer.as_mut(), &mut report).instrument(span).await?;
        if let Some(writer) = writer {
            let clean = report.complete && report.problems.is_empty();
            let planned = clean.then(|| PlannedCatalogue {
                url: url.to_string(),
                validators,
                selection: self.selection.fingerprint(),
                taps: std::collections::BTreeMap::new(),
            });
            writer.end(planned, &report).await?;
        }
        Ok(report)
    }

    async fn go_through(
        &self,
        catalogue: &Catalogue,
        work: Vec<Work>,
        run: &RunId,
        mut writer: Option<&mut Writer<'_>>,
        report: &mut PlanReport,
    ) -> Result<(), PlanError> {
        // The same bottle under two images is fetched once and copied then.
        let mut elsewhere: HashMap<Digest, ObjectKey> = match &writer {
            Some(writer) => writer.held_keys(&work),
            None => HashMap::new(),
        };
        self.progress.begin(work.len());
        let mut drafts = stream::iter(work)
            .map(|work| index::draft(self, catalogue, work))
            .buffered(self.settings.concurrency.max(1));
        while let Some(Drafted { formula, index, bottles, problems }) = drafts.next().await {
            self.progress.step();
            report.problems.extend(problems);
            let mut messages = Vec::new();
            for (bottle, size) in bottles {
                if !self.selection.takes_size(size) {
                    report.outside_limits += 1;
                    continue;
                }
                let key = ObjectKey::blob(&formula.image, &bottle.digest);
                let copy_from = elsewhere.get(&bottle.digest).filter(|other| **other != key).cloned();
                elsewhere.entry(bottle.digest).or_insert(key);
                let message = Message {
                    run: run.clone(),
                    formula: formula.name.clone(),
                    origin: formula.origin.clone(),
                    image: formula.image.clone(),
                    image_tag: formula.image_tag.clone(),
                    tags: bottle.tags,
                    digest: bottle.digest,
                    size,
                    copy_from,
                    file: None,
                    replace: false,
                };
                match self.lane(size) {
                    Lane::Small => report.small.add(size),
                    Lane::Large => report.large.add(size),
                }
                messages.push(message);
            }
            if let Some(writer) = writer.as_deref_mut() {
                writer.add(formula, index, messages).await?;
            }
            if self.settings.deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                report.complete = false;
                tracing::warn!("time is up: the next plan goes on from here");
                break;
            }
        }
        Ok(())
    }

    /// The validators to send: only if the last plan left nothing undone, was
    /// about the same selection, and nothing of it came undone since.
    fn known_catalogue<'a>(&self, manifest: &'a Manifest) -> Option<&'a Validators> {
        let planned = manifest.planned.as_ref()?;
        let same =
            planned.url == self.catalogue_url().as_str() && planned.selection == self.selection.fingerprint();
        let now = self.clock.now();
        let mut records = manifest.images.values().flat_map(|image| image.bottles.values());
        (same && records.all(|record| record.is_accounted_for(now))).then_some(&planned.validators)
    }

    /// A run that finds nothing changed is recorded too: it shows that the
    /// mirror is alive.
    async fn unchanged(&self, started_at: jiff::Timestamp) -> Result<PlanReport, PlanError> {
        let mut run = RunRecord::begin(RunId::new(started_at), started_at);
        run.unchanged = true;
        run.planned = true;
        run.outcome = Some(Outcome::nothing(self.clock.now()));
        run.save(&*self.store).await?;
        Ok(PlanReport { unchanged: true, run: Some(run.id), ..PlanReport::new() })
    }

    fn lane(&self, size: u64) -> Lane {
        if size > self.settings.size_threshold { Lane::Large } else { Lane::Small }
    }

    fn catalogue_url(&self) -> Url {
        let mut url = self.settings.api_url.clone();
        let path = format!("{}/formula.json", url.path().trim_end_matches('/'));
        url.set_path(&path);
        url
    }
}

impl PlanReport {
    fn new() -> Self {
        Self {
            run: None,
            unchanged: false,
            complete: true,
            formulae: 0,
            bottles: 0,
            selected: 0,
            held: 0,
            queued: 0,
            dead: 0,
            small: Count::default(),
            large: Count::default(),
            unsized_bottles: 0,
            outside_limits: 0,
            added: Vec::new(),
            missing: Vec::new(),
            unmatched: Vec::new(),
            skipped: Vec::new(),
            problems: Vec::new(),
        }
    }

    /// Everything that was put on the queues, or would be.
    pub fn total(&self) -> Count {
        self.small + self.large
    }
}
