//! `bottles sync`: plan, both consumers, settle, in one process.

use std::sync::Arc;
use std::time::{Duration, Instant};

use common::manifest;
use common::plan::{Mode, PlanReport};
use common::publication::{PublishReport, Scope};
use common::retire::Blocked;
use common::run::{Count, RunRecord};
use common::selection::Selection;
use common::settle::{SettleError, SettleReport, Settler};
use common::size::ByteSize;
use common::worker::{Done, Worker, WorkerError};
use jiff::Timestamp;
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use crate::args::{PipelineOptions, SelectionOptions, SyncOptions, UpstreamOptions};
use crate::output::{self, Exit, Usage, counted, grouped, line};
use crate::place::{self, Local};
use crate::progress::{Display, Watched};
use crate::{airgap, plan, progress, publish, retire, stop};

/// What a sync came to.
#[derive(Serialize)]
pub(crate) struct Report {
    pub(crate) plan: PlanReport,
    /// Whether it was about another selection than the last one that was no `--partial`.
    pub(crate) another_selection: bool,
    pub(crate) small: Done,
    pub(crate) large: Done,
    /// Runs that were completed, this one or earlier ones.
    pub(crate) settled: Vec<RunRecord>,
    /// Image indexes that were put in place.
    pub(crate) indexes: usize,
    /// Copies under flat names that were made.
    pub(crate) flat_copies: usize,
    /// What of the API files was published, and which clients' files wait.
    pub(crate) publication: PublishReport,
    /// Since when a rollback holds publishing back.
    pub(crate) held_since: Option<Timestamp>,
    /// What retirement waits for an operator to look at.
    pub(crate) retirement: Option<Blocked>,
    /// Bottles that upstream dropped, and that were tagged to expire.
    pub(crate) retired: u64,
    /// Bottles that were tagged for long enough, and removed.
    pub(crate) expired: u64,
    /// Bottles of this mirror that are still on their way.
    pub(crate) remaining: u64,
    /// Dead letters, of earlier runs too.
    pub(crate) dead_letters: u64,
    /// Bytes that came from upstream, of repeated tries too.
    pub(crate) received_bytes: u64,
    /// Requests to upstream.
    pub(crate) requests: u64,
    pub(crate) seconds: f64,
    /// Whether it was told to stop.
    pub(crate) interrupted: bool,
}

/// While bottles are moved, receipts are folded this often: a crash then leaves
/// few, and `bottles status` shows how far it is.
const SETTLE_EVERY: Duration = Duration::from_secs(15);

/// Settles after one another, at most: several times what all of upstream takes.
const MOST_SETTLES: usize = 200;

pub(crate) async fn run(options: SyncOptions) -> anyhow::Result<Exit> {
    let SyncOptions { partial, place, selection, upstream, pipeline, json } = options;
    // Before anything is made: a wrong option leaves no folder behind.
    place::upstream(&upstream, &place::selection(&selection)?)?;
    let Some(to) = &place.to else {
        return Err(Usage("name the mirror with --to: a folder, or s3://BUCKET".to_owned()).into());
    };
    let mirror = Local::open(to, &place).await?;
    airgap::check_not_imported(&mirror).await?;
    let cancel = stop::on_signals()?;
    let ask = Ask { selection: &selection, upstream: &upstream, pipeline: &pipeline, partial };
    let report = sync(&mirror, &ask, &cancel, json).await?;
    if json {
        output::json(&report)?;
    } else {
        describe(&report, &format!("--to {to}"));
        if report.dead_letters > 0 {
            line(format_args!("             bottles dead-letters list --to {to}"));
        }
    }
    Ok(exit(&report))
}

/// What a sync is asked for.
pub(crate) struct Ask<'a> {
    pub(crate) selection: &'a SelectionOptions,
    pub(crate) upstream: &'a UpstreamOptions,
    pub(crate) pipeline: &'a PipelineOptions,
    /// Whether the selection is for this time alone, and not what the mirror is to hold.
    pub(crate) partial: bool,
}

/// Brings a mirror up to date.
pub(crate) async fn sync(
    local: &Local,
    ask: &Ask<'_>,
    cancel: &CancellationToken,
    quiet: bool,
) -> anyhow::Result<Report> {
    let started = Instant::now();
    let pipeline = ask.pipeline;
    let selection = place::selection(ask.selection)?;
    let upstream = place::upstream(ask.upstream, &selection)?;
    let settler = local.settler();
    // What an earlier process left behind, first: the plan must know of it.
    let mut settles = vec![settler.settle().await?];

    let another_selection = !ask.partial && is_another(local, &selection).await?;
    if another_selection && !quiet {
        // Before anything is done: there is time to stop it.
        line(
            "Selection    another one than last time: what clients are told follows this one; --partial only \
             fetches",
        );
    }
    let mut planner =
        local.planner(Arc::clone(&upstream), selection, ask.upstream, pipeline.lane.size_threshold.0);
    planner.settings.is_partial = ask.partial;
    let planning = cancel.run_until_cancelled(Box::pin(planner.plan(Mode::Queue)));
    let planning = progress::while_planning(&planner.progress, quiet, planning).await;
    let Some(plan) = planning.transpose()? else {
        anyhow::bail!("stopped while planning; the same command goes on where this one was");
    };

    // An import may have begun on the same new place: what it finds planned, it refuses.
    airgap::check_not_imported(local).await?;

    let mirror = local.pipeline.mirror(Arc::clone(&upstream), pipeline.memory.0);
    let workers: Vec<Worker> =
        local.pipeline.lanes.iter().map(|lane| local.worker(lane, &mirror, pipeline)).collect();
    let mut display = Display::new(watched(local, &workers, &plan).await?, quiet);
    let drained = drain(&workers, &settler, &mut display, cancel).await;
    display.end();

    // Also after a failure: what was done is on record then.
    let last = settler.settle().await?;
    settles.extend(drained?);
    settles.push(last);
    settle_on(&settler, cancel, &mut settles).await?;
    let (manifest, _) = manifest::load(&*local.pipeline.store).await?;

    let done = |lane: usize| workers.get(lane).map(|worker| worker.progress.now()).unwrap_or_default();
    Ok(Report {
        small: done(0),
        large: done(1),
        plan,
        another_selection,
        indexes: settles.iter().map(|settle| settle.indexes).sum(),
        flat_copies: settles.iter().map(|settle| settle.copied).sum(),
        publication: published(&settles),
        held_since: manifest.publication.held_since,
        retirement: retire::stuck(&local.pipeline, &manifest, local.expire_after).await?,
        retired: settles.iter().map(|settle| settle.retired).sum(),
        expired: settles.iter().map(|settle| settle.expired).sum(),
        remaining: settles.last().map_or(0, |last| last.remaining),
        settled: settles.into_iter().flat_map(|settle| settle.settled).collect(),
        dead_letters: local.pipeline.dead_letters().await?,
        received_bytes: mirror.received(),
        requests: upstream.counts().requests(),
        seconds: started.elapsed().as_secs_f64(),
        interrupted: cancel.is_cancelled(),
    })
}

/// Whether the selection is another one than that of the last whole plan.
async fn is_another(local: &Local, selection: &Selection) -> anyhow::Result<bool> {
    let (manifest, _) = manifest::load(&*local.pipeline.store).await?;
    Ok(manifest.planned.is_some_and(|planned| planned.selection != selection.fingerprint()))
}

/// Goes on with what one settle leaves to the next, which with flat names is much.
async fn settle_on(
    settler: &Settler,
    cancel: &CancellationToken,
    settles: &mut Vec<SettleReport>,
) -> Result<(), SettleError> {
    for _ in 0..MOST_SETTLES {
        if cancel.is_cancelled() || !settles.last().is_some_and(goes_on) {
            break;
        }
        settles.push(settler.settle().await?);
    }
    Ok(())
}

/// Whether another settle gets further: this one did, and somebody waits for no more
/// than names.
fn goes_on(last: &SettleReport) -> bool {
    let got_on = last.copied > 0 || last.indexes > 0 || !last.publication.published.is_empty();
    got_on && last.publication.waiting.iter().any(|waiting| waiting.unnamed > 0)
}

/// What was published in all, and what waits at the end.
fn published(settles: &[SettleReport]) -> PublishReport {
    let mut scopes: Vec<Scope> =
        settles.iter().flat_map(|settle| settle.publication.published.iter().cloned()).collect();
    scopes.sort();
    scopes.dedup();
    let waiting = settles.last().map(|settle| settle.publication.waiting.clone());
    PublishReport { published: scopes, waiting: waiting.unwrap_or_default() }
}

/// Runs both workers until their queues are empty, and settles now and then.
async fn drain(
    workers: &[Worker],
    settler: &Settler,
    display: &mut Display,
    cancel: &CancellationToken,
) -> Result<Vec<SettleReport>, WorkerError> {
    let mut reports = Vec::new();
    // One worker that can't go on stops the other one in order.
    let together = cancel.child_token();
    let both = async {
        let runs = workers.iter().map(|worker| async {
            let outcome = worker.run(&together).await;
            if outcome.is_err() {
                together.cancel();
            }
            outcome
        });
        futures_util::future::join_all(runs).await
    };
    tokio::pin!(both);
    let mut tick = tokio::time::interval(Duration::from_millis(100));
    let mut settled_at = Instant::now();
    loop {
        tokio::select! {
            outcomes = &mut both => {
                outcomes.into_iter().collect::<Result<(), WorkerError>>()?;
                return Ok(reports);
            }
            _ = tick.tick() => display.update(),
        }
        if settled_at.elapsed() >= SETTLE_EVERY {
            tokio::select! {
                // The workers go on meanwhile; should they end first, the settle
                // after them does what this one leaves.
                outcomes = &mut both => {
                    outcomes.into_iter().collect::<Result<(), WorkerError>>()?;
                    return Ok(reports);
                }
                report = settler.settle() => match report {
                    Ok(report) => reports.push(report),
                    Err(error) => tracing::warn!(%error, "settling failed; it is tried again"),
                },
            }
            settled_at = Instant::now();
        }
    }
}

/// What each lane has to do: what was just planned, or what an earlier process left.
async fn watched(local: &Local, workers: &[Worker], plan: &PlanReport) -> anyhow::Result<Vec<Watched>> {
    let mut lanes = Vec::new();
    for ((lane, worker), planned) in local.pipeline.lanes.iter().zip(workers).zip([plan.small, plan.large]) {
        let waiting = lane.work.depth().await?.total();
        let planned = Count { bottles: waiting.max(planned.bottles), bytes: planned.bytes };
        lanes.push(Watched { lane: lane.lane, planned, progress: worker.progress.clone() });
    }
    Ok(lanes)
}

pub(crate) fn exit(report: &Report) -> Exit {
    let is_undone = !report.plan.is_whole() || report.plan.api.trouble.is_some();
    let is_behind = !report.publication.waiting.is_empty() || report.held_since.is_some();
    if report.interrupted || report.remaining > 0 || is_undone {
        Exit::Failed
    } else if report.dead_letters > 0 || is_behind || report.retirement.is_some() {
        Exit::Attention
    } else {
        Exit::Done
    }
}

/// The summary of a sync, of a mirror that is named so.
pub(crate) fn describe(report: &Report, named: &str) {
    let planned = report.plan.total();
    if report.plan.unchanged {
        line("Plan         upstream is unchanged");
    } else if planned.bottles == 0 {
        line(format_args!(
            "Plan         nothing to do: {} of {} selected bottles are held",
            grouped(report.plan.held as u64),
            grouped(report.plan.selected as u64)
        ));
    } else {
        line(format_args!(
            "Plan         {}, {} ({} small, {} large)",
            counted(planned.bottles, "bottle"),
            ByteSize(planned.bytes),
            grouped(report.plan.small.bottles),
            grouped(report.plan.large.bottles)
        ));
    }
    let (small, large) = (&report.small, &report.large);
    let fetched = small.fetched + large.fetched;
    if fetched.bottles > 0 {
        line(format_args!(
            "Fetched      {}, {} in {:.1} s",
            counted(fetched.bottles, "bottle"),
            ByteSize(fetched.bytes),
            report.seconds
        ));
    }
    for (name, count) in
        [("Copied", small.copied + large.copied), ("Found", small.already_held + large.already_held)]
    {
        if count.bottles > 0 {
            line(format_args!("{name:<12} {}, {}", counted(count.bottles, "bottle"), ByteSize(count.bytes)));
        }
    }
    if report.indexes > 0 {
        line(format_args!("Placed       {}", counted(report.indexes as u64, "image index")));
    }
    if report.flat_copies > 0 {
        line(format_args!("Named        {}", counted(report.flat_copies as u64, "flat name")));
    }
    publish::describe_published(&report.publication);
    for (name, count) in [("Superseded", report.retired), ("Expired", report.expired)] {
        if count > 0 {
            line(format_args!("{name:<12} {}", counted(count, "bottle")));
        }
    }
    plan::remarks(&report.plan);
    publish::describe_waiting(&report.publication);
    if let Some(since) = report.held_since {
        publish::describe_held(since, named);
    }
    if let Some(blocked) = &report.retirement {
        retire::describe_stuck(blocked, named);
    }
    if report.remaining > 0 {
        line(format_args!("Left         {}; the same command goes on", counted(report.remaining, "bottle")));
    } else if report.interrupted {
        line("Stopped      the same command goes on");
    }
    if report.dead_letters > 0 {
        let reasons = merged(small, large);
        let reasons: Vec<_> = reasons.iter().map(|(reason, count)| format!("{count} {reason}")).collect();
        let new = if reasons.is_empty() { String::new() } else { format!(", new: {}", reasons.join(", ")) };
        line(format_args!("Dead letters {}{new}", grouped(report.dead_letters)));
    }
}

fn merged(small: &Done, large: &Done) -> common::dead_letter::ByReason {
    let mut reasons = small.dead.clone();
    for (reason, count) in &large.dead {
        *reasons.entry(*reason).or_default() += count;
    }
    reasons
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_settle_follows_while_names_are_missing_and_some_were_made() {
        let report = |copied: usize, unnamed: u64| {
            let waiting = format!(
                r#"{{"client":"x86_64_linux","queued":0,"dead":1,"unplanned":0,"unnamed":{unnamed}}}"#
            );
            let waiting = vec![serde_json::from_str(&waiting).unwrap()];
            let publication = PublishReport { published: Vec::new(), waiting };
            SettleReport { copied, publication, ..SettleReport::default() }
        };
        assert!(goes_on(&report(5000, 1)));
        assert!(!goes_on(&report(5000, 0)), "whoever waits for bottles waits on");
        assert!(!goes_on(&report(0, 1)), "what one could not make the next can't either");
        assert!(goes_on(&SettleReport { indexes: 1, ..report(0, 1) }));
    }
}
