//! The part of a plan that changes things: flushed now and then, so that a
//! crash repeats little, and ended with the run's record.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;

use crate::bottle::{Digest, ImagePath, ObjectKey};
use crate::catalogue::Formula;
use crate::manifest::{self, Manifest, ManifestError, OpenRun, PlannedCatalogue, State};
use crate::message::{Lane, Message};
use crate::publication::Staged;
use crate::retire::{self, Gone, Listed};
use crate::run::{Count, Outcome, RunId, RunRecord};
use crate::store::{Store, Version};

use super::diff::Work;
use super::index::IndexDraft;
use super::send::Batch;
use super::{PlanError, PlanReport, Planner};

/// What is flushed together: staged, sent, recorded. A crash repeats at most this.
const FLUSH_FORMULAE: usize = 1000;

/// A long plan is recorded at least this often.
const FLUSH_EVERY: Duration = Duration::from_secs(30);

/// What the end of a plan takes note of.
pub(super) struct Ending {
    /// The catalogue, if nothing stayed undone.
    pub(super) planned: Option<PlannedCatalogue>,
    /// The API files that wait for their bottles.
    pub(super) staged: Option<Staged>,
    pub(super) listed: Listed,
}

/// Takes note of a set outside of a run.
pub(super) async fn stage(
    store: &dyn Store,
    mut manifest: Manifest,
    mut version: Option<Version>,
    staged: &Staged,
) -> Result<(), PlanError> {
    loop {
        manifest.publication.stage(staged.clone());
        match manifest::save(store, &manifest, version.as_ref()).await {
            Ok(_) => return Ok(()),
            Err(ManifestError::Conflict) => (manifest, version) = manifest::load(store).await?,
            Err(error) => return Err(error.into()),
        }
    }
}

/// The part of a plan that changes things.
pub(super) struct Writer<'a> {
    planner: &'a Planner,
    pub(super) run: RunRecord,
    manifest: Manifest,
    version: Option<Version>,
    /// What expired that is wanted again.
    gone: Gone,
    /// As it was when the plan began.
    undone: u64,
    batch: Batch,
    flushed_at: Instant,
}

impl<'a> Writer<'a> {
    pub(super) async fn begin(
        planner: &'a Planner,
        manifest: Manifest,
        version: Option<Version>,
        gone: Gone,
        started_at: Timestamp,
    ) -> Result<Self, PlanError> {
        // A plan that was cut short is gone on with, under its own name.
        let cut_short = manifest.runs.iter().find(|(_, open)| open.planning).map(|(id, _)| id.clone());
        let run = match cut_short {
            Some(id) => match RunRecord::load(&*planner.store, &id).await? {
                Some(run) => run,
                None => RunRecord::begin(id, started_at),
            },
            None => RunRecord::begin(RunId::new(started_at), started_at),
        };
        run.save(&*planner.store).await?;
        let undone = manifest.undone;
        let (batch, flushed_at) = (Batch::default(), Instant::now());
        Ok(Self { planner, run, manifest, version, gone, undone, batch, flushed_at })
    }

    /// Where the mirror holds bottles that are wanted elsewhere too.
    pub(super) fn held_keys(&self, work: &[Work]) -> HashMap<Digest, ObjectKey> {
        let wanted: HashSet<Digest> =
            work.iter().flat_map(|work| work.bottles.iter().map(|bottle| bottle.digest)).collect();
        let mut keys = HashMap::new();
        for (path, image) in &self.manifest.images {
            for (digest, record) in &image.bottles {
                if record.state == State::Held && wanted.contains(digest) {
                    keys.entry(*digest).or_insert_with(|| ObjectKey::blob(path, digest));
                }
            }
        }
        keys
    }

    /// Whether a bottle was found damaged, and is not known to be mended.
    pub(super) fn is_damaged(&self, image: &ImagePath, digest: &Digest) -> bool {
        self.manifest.images.get(image).is_some_and(|image| image.damaged.contains(digest))
    }

    pub(super) async fn add(
        &mut self,
        formula: &Formula,
        index: Option<IndexDraft>,
        messages: Vec<Message>,
    ) -> Result<(), PlanError> {
        self.batch.add(formula, index, messages);
        if self.batch.formulae() >= FLUSH_FORMULAE || self.flushed_at.elapsed() >= FLUSH_EVERY {
            self.flush().await?;
        }
        Ok(())
    }

    /// Stages, sends, and only then records.
    async fn flush(&mut self) -> Result<(), PlanError> {
        let mut batch = std::mem::take(&mut self.batch);
        batch.stage(&*self.planner.store, &self.run.id).await?;
        // Before any of them can be worked on: what is reported of them is later.
        let sent_at = self.planner.clock.now();
        batch.send(self.planner).await?;
        let run = self.run.id.clone();
        self.change(|manifest| {
            batch.record(manifest, sent_at);
            manifest.runs.entry(run.clone()).or_insert(OpenRun::begin(true, sent_at));
        })
        .await?;
        self.flushed_at = Instant::now();
        Ok(())
    }

    pub(super) async fn end(mut self, ending: Ending, report: &PlanReport) -> Result<(), PlanError> {
        let complete = report.complete;
        if self.batch.formulae() > 0 {
            self.flush().await?;
        }
        let now = self.planner.clock.now();
        let run = self.run.id.clone();
        let Ending { planned, staged, listed } = ending;
        let (selection, is_partial) = (&self.planner.selection, self.planner.settings.is_partial);
        let undone = self.undone;
        let change = |manifest: &mut Manifest| {
            if complete && !is_partial {
                retire::mark(manifest, &listed, selection, now);
                // What came undone since this plan began it doesn't know of.
                manifest.planned = planned.clone().filter(|_| manifest.undone == undone);
                if let Some(staged) = &staged {
                    manifest.publication.stage(staged.clone());
                }
            }
            if complete && let Some(open) = manifest.runs.get_mut(&run) {
                open.planning = false;
                open.progress_at = now;
            }
        };
        // What is gone was noted for this process alone.
        let mut changed = self.manifest.clone();
        change(&mut changed);
        if changed != self.manifest || !self.gone.is_empty() {
            self.change(change).await?;
        }
        self.run.formulae = report.formulae as u64;
        self.run.problems = (report.problems.len() + report.skipped.len()) as u64;
        self.run.unread_taps = report.unread_names();
        self.run.planned = complete;
        (self.run.small, self.run.large) = self.planned();
        if complete && !self.manifest.runs.contains_key(&self.run.id) {
            self.run.outcome = Some(Outcome::nothing(now));
        }
        self.run.save(&*self.planner.store).await?;
        Ok(())
    }

    /// What this run asked for, by lane. From the manifest, since a plan that
    /// was cut short and gone on with asked for more than this process knows.
    fn planned(&self) -> (Count, Count) {
        let (mut small, mut large) = (Count::default(), Count::default());
        for record in self.manifest.images.values().flat_map(|image| image.bottles.values()) {
            if record.run == self.run.id {
                match self.planner.lane(record.size) {
                    Lane::Small => small.add(record.size),
                    Lane::Large => large.add(record.size),
                }
            }
        }
        (small, large)
    }

    /// Changes the manifest; again from the read if someone else did meanwhile.
    async fn change(&mut self, mut change: impl FnMut(&mut Manifest)) -> Result<(), PlanError> {
        loop {
            change(&mut self.manifest);
            match manifest::save(&*self.planner.store, &self.manifest, self.version.as_ref()).await {
                Ok(version) => {
                    self.version = Some(version);
                    return Ok(());
                }
                Err(ManifestError::Conflict) => {
                    (self.manifest, self.version) = manifest::load(&*self.planner.store).await?;
                    self.gone.apply(&mut self.manifest);
                }
                Err(error) => return Err(error.into()),
            }
        }
    }
}
