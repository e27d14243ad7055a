//! Plan: what upstream has, less what the mirror has, onto the queues.
//!
//! Messages are sent before the manifest says so. A producer that dies between
//! the two sends them again the next time, which harms nobody: a consumer finds
//! the bottle in the mirror. The other way round a message could be missing.

mod api;
mod diff;
mod index;
mod moment;
mod needs;
mod report;
mod send;
mod sources;
mod write;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures_util::{StreamExt, stream};
use jiff::Timestamp;
use tokio::time::Instant;
use tracing::Instrument as _;
use url::Url;

use crate::bottle::{BottleTag, Digest, ObjectKey};
use crate::catalogue::{Catalogue, Skipped};
use crate::clock::Clock;
use crate::manifest::{self, Manifest, ManifestError, PlannedCatalogue};
use crate::message::{Lane, Message};
use crate::publication::{ApiFile, ApiPath, Need, Publication, Set, SetError, Staged};
use crate::queue::{Queue, QueueError};
use crate::registry::{self, Upstream};
use crate::retire::{self, Gone, Listed};
use crate::run::{Outcome, RunId, RunRecord};
use crate::selection::Selection;
use crate::store::{Store, StoreError, Version};

pub use report::{ApiReport, PlanReport, Problem, SkippedFormula, UnreadTap};

use api::StagedFiles;
use diff::Work;
use index::Drafted;
use moment::Moment;
use needs::Left;
use sources::Sources;
use write::{Ending, Writer};

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
    /// Whether the selection is for this plan alone, and not what the mirror is to
    /// hold: then bottles are queued, and nothing is published or retired by it.
    pub is_partial: bool,
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
    /// The API files can't be staged.
    #[error(transparent)]
    Set(#[from] SetError),
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
        let publication = manifest.publication.clone();
        let Moment { sources, unread, files, newest, trouble } = self.read_moment(mode, &manifest).await?;
        let Some(Sources { catalogue, validators, taps, roots, .. }) = sources else {
            let mut report = PlanReport { unchanged: true, unread_taps: unread, ..PlanReport::new() };
            report.api.trouble = trouble;
            return self.unchanged(manifest, version, files.zip(newest), report, started_at).await;
        };
        for Skipped { name, why } in catalogue.skipped() {
            tracing::warn!(formula = name, why, "skipped: it can't be read from the catalogue");
        }
        let listed = (mode == Mode::Queue).then(|| Listed::of(&catalogue, roots));
        let mut manifest = manifest;
        let mut gone = Gone::default();
        if let Some(listed) = &listed {
            gone = retire::look_for_gone(&*self.store, &manifest, listed, &self.selection).await?;
            gone.apply(&mut manifest);
        }

        let selected = self.selection.apply(&catalogue);
        let clients = selected.clients.clone();
        let mut needs = match mode {
            Mode::Queue => needs::of(&catalogue, &selected, self.selection.file().layout),
            Mode::DryRun { .. } => Vec::new(),
        };
        let (work, mut report) = diff::diff(&catalogue, selected, &manifest, started_at);
        report.unread_taps = unread;
        if let Mode::DryRun { sizes: false } = mode {
            report.unsized_bottles = work.iter().map(|work| work.bottles.len()).sum();
            return Ok(report);
        }

        let mut writer = match mode {
            Mode::DryRun { .. } => None,
            Mode::Queue => Some(Writer::begin(self, manifest, version, gone, started_at).await?),
        };
        report.run = writer.as_ref().map(|writer| writer.run.id.clone());
        let run = report.run.clone().unwrap_or_else(|| RunId::new(started_at));
        let span = tracing::error_span!("plan", run.id = %run);
        let left =
            self.go_through(&catalogue, work, &run, writer.as_mut(), &mut report).instrument(span).await?;
        let Some((writer, listed)) = writer.zip(listed) else { return Ok(report) };
        needs::leave_out(&mut needs, &left);
        // Clients would be told of all there is, and find nothing.
        report.api.trouble =
            trouble.or_else(|| (report.selected == 0).then(|| "the selection asks for no bottle".to_owned()));
        let mut ending = Ending { planned: None, staged: None, listed };
        if report.complete {
            if let Some(files) = files.filter(|_| report.api.trouble.is_none()) {
                ending.staged = self
                    .stage_set(files, clients, needs, newest.as_ref(), &publication, &mut report.api)
                    .await?;
            }
            // The next plan takes the set and the catalogue for those of one moment.
            if report.is_whole() && report.api.trouble.is_none() {
                ending.planned = Some(PlannedCatalogue {
                    url: self.catalogue_url().to_string(),
                    validators,
                    selection: self.selection.fingerprint(),
                    taps,
                });
            }
        }
        writer.end(ending, &report).await?;
        Ok(report)
    }

    /// Writes a set of API files and what they need, unless it is the newest one, and
    /// that is read or waited for by all whom it is for.
    async fn stage_set(
        &self,
        files: StagedFiles,
        clients: Vec<BottleTag>,
        needs: Vec<Need>,
        newest: Option<&Set>,
        publication: &Publication,
        report: &mut ApiReport,
    ) -> Result<Option<Staged>, PlanError> {
        let StagedFiles { files, missing, fresh } = files;
        report.files = files.len();
        report.fresh = fresh;
        report.missing = missing;
        // The validators may differ where the bytes don't.
        let digests = |set: &BTreeMap<ApiPath, ApiFile>| -> Vec<_> {
            set.iter().map(|(path, file)| (path.clone(), file.sha256)).collect()
        };
        if let Some(newest) = newest
            && (&newest.clients, &newest.needs) == (&clients, &needs)
            && digests(&newest.files) == digests(&files)
            && publication.is_in_force(newest)
        {
            return Ok(None);
        }
        let at = self.clock.now();
        let mut run = RunId::new(at);
        // Sets are ordered by their names, whatever the clock says.
        if let Some(newest) = newest
            && run <= newest.run
        {
            run = newest.run.next();
        }
        let set = Set { run, at, clients, files, needs };
        set.save(&*self.store).await?;
        report.staged = true;
        Ok(Some(Staged { scopes: set.scopes(), run: set.run, at, despite_dead: BTreeSet::new() }))
    }

    async fn go_through(
        &self,
        catalogue: &Catalogue,
        work: Vec<Work>,
        run: &RunId,
        mut writer: Option<&mut Writer<'_>>,
        report: &mut PlanReport,
    ) -> Result<Left, PlanError> {
        let mut left = Left::new();
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
                    left.insert((formula.image.clone(), bottle.digest));
                    continue;
                }
                let key = ObjectKey::blob(&formula.image, &bottle.digest);
                let copy_from = elsewhere.get(&bottle.digest).filter(|other| **other != key).cloned();
                elsewhere.entry(bottle.digest).or_insert(key);
                let file = index::file_of(formula, &bottle);
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
                    file,
                    replace: writer
                        .as_ref()
                        .is_some_and(|writer| writer.is_damaged(&formula.image, &bottle.digest)),
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
        Ok(left)
    }

    /// A run that finds nothing changed is recorded too: it shows that the mirror is
    /// alive. The API files may have changed all the same, casks for example.
    async fn unchanged(
        &self,
        manifest: Manifest,
        version: Option<Version>,
        files: Option<(StagedFiles, Set)>,
        mut report: PlanReport,
        started_at: Timestamp,
    ) -> Result<PlanReport, PlanError> {
        if let Some((files, newest)) = files {
            let (clients, needs) = (newest.clients.clone(), newest.needs.clone());
            let publication = &manifest.publication;
            let staged =
                self.stage_set(files, clients, needs, Some(&newest), publication, &mut report.api).await?;
            if let Some(staged) = staged {
                write::stage(&*self.store, manifest, version, &staged).await?;
            }
        }
        let mut run = RunRecord::begin(RunId::new(started_at), started_at);
        run.unchanged = true;
        run.planned = true;
        run.unread_taps = report.unread_names();
        run.outcome = Some(Outcome::nothing(self.clock.now()));
        run.save(&*self.store).await?;
        report.run = Some(run.id);
        Ok(report)
    }

    fn lane(&self, size: u64) -> Lane {
        if size > self.settings.size_threshold { Lane::Large } else { Lane::Small }
    }

    fn catalogue_url(&self) -> Url {
        self.api_url("formula.json")
    }

    fn api_url(&self, path: &str) -> Url {
        let mut url = self.settings.api_url.clone();
        let path = format!("{}/{path}", url.path().trim_end_matches('/'));
        url.set_path(&path);
        url
    }
}
