//! Settle: fold what the consumers reported, publish what is whole, report.
//!
//! Every step may be repeated: receipts are removed only after the manifest has
//! them, an image index may be put in place twice, and a run's outcome is
//! counted from the manifest each time.

mod contested;
mod flat;
mod orders;
mod place;
mod publish;
mod race;
mod receipts;
mod waits;

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;

use crate::bottle::ObjectKey;
use crate::clock::{self, Clock};
use crate::dead_letter::ByReason;
use crate::manifest::{self, BottleRecord, Manifest, ManifestError, OpenRun, State, Tally};
use crate::publication::{self, PublishReport, Scope, SetError};
use crate::queue::{Queue, QueueError};
use crate::receipt::{self, Entry};
use crate::retire;
use crate::run::{self, Outcome, RunId, RunRecord};
use crate::store::{Store, StoreError};

use race::Put;

pub use waits::waiting;

/// Settles runs.
pub struct Settler {
    /// The mirror.
    pub store: Arc<dyn Store>,
    /// The work queues: when they are empty, what is still queued is lost.
    pub queues: Vec<Arc<dyn Queue>>,
    /// The time.
    pub clock: Clock,
    /// How to go about it.
    pub settings: SettleSettings,
}

/// How to settle.
#[derive(Debug, Clone)]
pub struct SettleSettings {
    /// A bottle that was queued this long ago, while the queues are empty and no
    /// receipt names it, has lost its message.
    pub lost_after: Duration,
    /// A run without progress for this long is stalled.
    pub stalled_after: Duration,
    /// What is superseded expires after this long.
    pub expire_after: Duration,
}

/// What a settle came to.
#[derive(Debug, Clone, Default, Serialize)]
pub struct SettleReport {
    /// Receipts that were folded.
    pub receipts: usize,
    /// Receipts that can't be read, and were put aside.
    pub unreadable: usize,
    /// Image indexes that were put in place.
    pub indexes: usize,
    /// Copies under flat names that were made: one settle makes so many, and no more.
    pub copied: usize,
    /// Bottles that are still on their way, over all runs.
    pub remaining: u64,
    /// What was published, and which clients' files wait.
    pub publication: PublishReport,
    /// What an operator had rolled back.
    pub rolled_back: Vec<Scope>,
    /// Bottles that are superseded from now on.
    pub retired: u64,
    /// Superseded bottles whose tag could not be written: they don't expire.
    pub untagged: u64,
    /// Bottles that had expired, and are forgotten.
    pub expired: u64,
    /// Runs that are complete now.
    pub settled: Vec<RunRecord>,
    /// Runs that make no progress.
    pub stalled: Vec<StalledRun>,
}

/// A run that makes no progress.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct StalledRun {
    /// The run.
    pub run: RunId,
    /// Its bottles that are on their way.
    pub remaining: u64,
    /// When their number last changed.
    pub since: Timestamp,
    /// Whether this settle is the first to find it so.
    pub is_new: bool,
}

/// A settle that could not be made.
#[derive(Debug, thiserror::Error)]
pub enum SettleError {
    /// The manifest can't be used.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// A set of API files can't be read or written.
    #[error(transparent)]
    Set(#[from] SetError),
    /// A queue can't be used.
    #[error(transparent)]
    Queue(#[from] QueueError),
    /// The store can't be used.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Sets and API files that nothing refers to are kept for this long: a plan may be
/// about to.
const UNUSED_FOR: Duration = Duration::from_hours(6);

/// How many runs are remembered.
const RUNS_KEPT: usize = 100;

impl Settler {
    /// Folds, publishes, closes runs that are complete.
    pub async fn settle(&self) -> Result<SettleReport, SettleError> {
        self.settle_once(false).await
    }

    /// The same after bottles came of which no receipt tells: those of a bundle.
    pub async fn settle_after_bottles(&self) -> Result<SettleReport, SettleError> {
        self.settle_once(true).await
    }

    async fn settle_once(&self, bottles_came: bool) -> Result<SettleReport, SettleError> {
        // Before the receipts are read: a message that is acknowledged in
        // between has its receipt among them.
        let looked_at = self.clock.now();
        let queues_are_empty = self.queues_are_empty().await?;
        let receipts = receipts::read(&*self.store).await?;
        let mut put: Option<Put> = None;
        loop {
            let (before, version) = manifest::load(&*self.store).await?;
            let mut manifest = before.clone();
            if let Some(put) = put.take() {
                put.make_good(&*self.store, &mut manifest).await?;
            }
            let mut report = SettleReport {
                receipts: receipts.keys.len(),
                unreadable: receipts.unreadable,
                ..Default::default()
            };
            let now = self.clock.now();
            let at = manifest.next_tick(now);
            for entry in &receipts.entries {
                manifest.fold(entry);
            }
            stamp(&mut manifest, &receipts.entries, at);
            let obeyed = orders::obey(&*self.store, &mut manifest, &receipts.orders, now, at).await?;
            report.rolled_back = obeyed.rolled_back;
            self.reopen(&mut manifest, &receipts.entries);
            if queues_are_empty {
                self.forget_lost(&mut manifest, looked_at);
            }
            retire::bring_back(&*self.store, &mut manifest).await;
            // In this order: what clients read first names what is there already.
            let placed = place::place(&*self.store, &mut manifest, at).await?;
            report.indexes = placed.len();
            let is_busy = bottles_came || !receipts.entries.is_empty();
            (report.publication, report.copied) =
                publish::publish(&*self.store, &mut manifest, is_busy, at).await?;
            self.close_runs(&mut manifest, &mut report).await?;
            self.retire(&mut manifest, obeyed.retire_at_most, now, &mut report).await?;
            if manifest != before {
                manifest.folded_at = Some(at);
                match manifest::save(&*self.store, &manifest, version.as_ref()).await {
                    Ok(_) => {}
                    Err(ManifestError::Conflict) => {
                        tracing::info!("the manifest changed meanwhile: settling again");
                        put = Some(Put::between(&before, &manifest));
                        continue;
                    }
                    Err(error) => return Err(error.into()),
                }
            }
            if !report.publication.published.is_empty() {
                self.forget_unused(&manifest, now).await;
            }
            self.clean_up(&receipts.keys, &placed, !report.settled.is_empty()).await;
            // Last, since it may take long. A manifest may have a hundred megabytes here.
            drop(before);
            if bottles(&manifest).any(retire::is_untagged) {
                report.untagged = self.tag_superseded(manifest).await?;
            }
            return Ok(report);
        }
    }

    /// Notes that what upstream dropped is superseded, and forgets what has expired.
    async fn retire(
        &self,
        manifest: &mut Manifest,
        at_most: Option<u64>,
        now: Timestamp,
        report: &mut SettleReport,
    ) -> Result<(), SettleError> {
        let grace = self.settings.expire_after;
        let is_due = |record: &BottleRecord| record.dropped_at.is_some() && record.superseded_at.is_none();
        if bottles(manifest).any(is_due) {
            let outlook = retire::outlook(&*self.store, manifest, at_most, now, grace).await?;
            report.retired = retire::supersede(manifest, &outlook, now);
        }
        report.expired = retire::expire(&*self.store, manifest, now, grace).await?;
        Ok(())
    }

    /// Tags what the stored manifest says is superseded; how many could not be tagged.
    async fn tag_superseded(&self, stored: Manifest) -> Result<u64, SettleError> {
        let tagged = retire::tag(&*self.store, &stored).await;
        drop(stored);
        loop {
            let (mut manifest, version) = manifest::load(&*self.store).await?;
            if !tagged.apply(&mut manifest) {
                return Ok(tagged.failed());
            }
            match manifest::save(&*self.store, &manifest, version.as_ref()).await {
                Ok(_) => return Ok(tagged.failed()),
                Err(ManifestError::Conflict) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    async fn forget_unused(&self, manifest: &Manifest, now: Timestamp) {
        let before = now.checked_sub(UNUSED_FOR).unwrap_or(Timestamp::MIN);
        if let Err(error) = publication::forget_unused(&*self.store, &manifest.publication, before).await {
            tracing::warn!(%error, "API files that nobody needs are left: a later settle removes them");
        }
    }

    async fn queues_are_empty(&self) -> Result<bool, QueueError> {
        for queue in &self.queues {
            if queue.depth().await?.total() > 0 {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// A run whose dead letters were sent back is on its way again, and is settled
    /// once more when they are accounted for.
    fn reopen(&self, manifest: &mut Manifest, entries: &[Entry]) {
        for entry in entries.iter().filter(|entry| entry.outcome == receipt::Outcome::Replayed) {
            let record = manifest.bottle(&entry.message.image, &entry.message.digest);
            let Some(run) =
                record.filter(|record| record.state == State::Queued).map(|record| record.run.clone())
            else {
                continue;
            };
            manifest.runs.entry(run).or_insert_with(|| OpenRun::begin(false, self.clock.now()));
        }
    }

    fn forget_lost(&self, manifest: &mut Manifest, looked_at: Timestamp) {
        let before = looked_at.checked_sub(self.settings.lost_after).unwrap_or(looked_at);
        for (run, lost) in manifest.forget_lost(before) {
            tracing::warn!(run.id = %run, bottles = lost, "they are on no queue: the next plan asks for them again, or a bundle brings them");
            if let Some(open) = manifest.runs.get_mut(&run) {
                open.lost += lost;
            }
        }
    }

    /// Measures the open runs, and closes those with nothing left.
    async fn close_runs(
        &self,
        manifest: &mut Manifest,
        report: &mut SettleReport,
    ) -> Result<(), SettleError> {
        let now = self.clock.now();
        let ids: Vec<RunId> = manifest.runs.keys().cloned().collect();
        for id in ids {
            let tally = manifest.tally(Some(&id));
            let Some(open) = manifest.runs.get_mut(&id) else { continue };
            report.remaining += tally.queued.bottles;
            if open.remaining != tally.queued.bottles {
                open.remaining = tally.queued.bottles;
                open.progress_at = now;
                open.stalled = false;
            }
            if tally.queued.bottles == 0 && !open.planning {
                let lost = open.lost;
                manifest.runs.remove(&id);
                let publication = report.publication.clone();
                report.settled.push(self.close(id, tally, lost, publication, now).await?);
            } else if clock::since(open.progress_at, now) >= self.settings.stalled_after {
                let is_new = !std::mem::replace(&mut open.stalled, true);
                report.stalled.push(StalledRun {
                    run: id,
                    remaining: tally.queued.bottles,
                    since: open.progress_at,
                    is_new,
                });
            }
        }
        Ok(())
    }

    async fn close(
        &self,
        id: RunId,
        tally: Tally,
        lost: u64,
        publication: PublishReport,
        now: Timestamp,
    ) -> Result<RunRecord, SettleError> {
        let mut record = match RunRecord::load(&*self.store, &id).await? {
            Some(record) => record,
            None => RunRecord::begin(id, now),
        };
        record.outcome = Some(Outcome {
            settled_at: now,
            held: tally.held,
            dead: tally.dead.bottles,
            reasons: tally.reasons,
            lost,
            publication,
        });
        record.save(&*self.store).await?;
        Ok(record)
    }

    /// Removes what is no longer needed. What stays is removed the next time.
    async fn clean_up(&self, receipts: &[ObjectKey], placed: &[ObjectKey], runs: bool) {
        for keys in [receipts, placed] {
            if let Err(error) = self.store.delete(keys).await {
                tracing::warn!(%error, objects = keys.len(), "could not be removed: the next settle does it");
            }
        }
        if runs && let Err(error) = self.forget_old_runs().await {
            tracing::warn!(%error, "old runs could not be removed: a later settle does it");
        }
    }

    async fn forget_old_runs(&self) -> Result<(), StoreError> {
        let ids = run::ids(&*self.store).await?;
        for id in &ids[..ids.len().saturating_sub(RUNS_KEPT)] {
            // An image index that still waited there is read again by a later plan.
            let objects = self.store.list(&format!("_sync/{}/", id.folder()), None, usize::MAX).await?;
            let keys: Vec<ObjectKey> = objects.into_iter().map(|meta| meta.key).collect();
            self.store.delete(&keys).await?;
        }
        Ok(())
    }
}

fn bottles(manifest: &Manifest) -> impl Iterator<Item = &BottleRecord> {
    manifest.images.values().flat_map(|image| image.bottles.values())
}

/// Marks what came to be held by these entries.
fn stamp(manifest: &mut Manifest, entries: &[Entry], at: Timestamp) {
    for entry in entries {
        if let Some(image) = manifest.images.get_mut(&entry.message.image)
            && let Some(record) = image.bottles.get_mut(&entry.message.digest)
            && record.state == State::Held
        {
            record.added_at.get_or_insert(at);
        }
    }
}

impl Outcome {
    /// The outcome of a run that had nothing to do.
    pub fn nothing(settled_at: Timestamp) -> Self {
        Self {
            settled_at,
            held: run::Count::default(),
            dead: 0,
            reasons: ByReason::new(),
            lost: 0,
            publication: PublishReport::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A service may run them on any of its threads.
    #[expect(dead_code, reason = "it only has to compile")]
    fn settle_and_plan_may_move_between_threads(settler: &Settler, planner: &crate::plan::Planner) {
        fn must_be_send(_: impl Send) {}
        must_be_send(settler.settle());
        must_be_send(planner.plan(crate::plan::Mode::Queue));
    }
}
