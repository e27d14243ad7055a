//! `bottles status`: what a mirror holds, and how it fares.

use std::io::IsTerminal as _;
use std::time::Duration;

use common::clock;
use common::ecs::Tasks;
use common::manifest::{self, Manifest, State};
use common::message::Lane;
use common::queue::Depth;
use common::retire::Blocked;
use common::run::{Count, RunId, RunRecord};
use common::size::ByteSize;
use serde::Serialize;

use crate::args::StatusOptions;
use crate::deployed::{self, Named, Target};
use crate::output::{self, Exit, counted, grouped, line};
use crate::{publish, retire, stop};

#[derive(Serialize)]
struct Answer {
    held: Count,
    images: usize,
    /// Image indexes in place.
    indexes: usize,
    /// Image indexes that wait for their bottles.
    indexes_waiting: usize,
    /// Bottles that the manifest has on their way.
    queued: Count,
    /// How long the bottle that was queued first has been on its way.
    oldest_queued_seconds: Option<u64>,
    lanes: Vec<LaneStatus>,
    dead_letters: u64,
    /// What clients read, and what waits.
    publication: publish::Answer,
    /// What retirement waits for an operator to look at.
    retirement: Option<Blocked>,
    /// The large queue's tasks, in a deployed system.
    tasks: Option<Tasks>,
    /// Runs that are not settled yet.
    open_runs: Vec<OpenRunStatus>,
    last_run: Option<RunRecord>,
    /// Seconds since the last run that came to its end.
    seconds_since_settled: Option<u64>,
}

#[derive(Serialize)]
struct LaneStatus {
    lane: Lane,
    work: Depth,
    dead_letters: Depth,
}

#[derive(Serialize)]
struct OpenRunStatus {
    id: RunId,
    /// Bottles that the run asked for.
    planned: u64,
    /// Of these, are on their way.
    remaining: u64,
    /// Whether its plan is still going on, or was cut short.
    planning: bool,
    /// Whether it was found to make no progress.
    stalled: bool,
    seconds_since_progress: u64,
}

pub(crate) async fn run(options: StatusOptions) -> anyhow::Result<Exit> {
    let named = Named::of(&options.target).with_service(&options.service);
    let target = deployed::open(&options.target.place, named).await?;
    if options.watch {
        return watch(&target, &options).await;
    }
    let answer = look(&target).await?;
    if options.json {
        output::json(&answer)?;
    } else {
        describe(&answer, &target);
    }
    Ok(exit(&answer))
}

/// Looks again and again, until nothing is on its way or someone has seen enough.
async fn watch(target: &Target, options: &StatusOptions) -> anyhow::Result<Exit> {
    let cancel = stop::on_signals()?;
    let clears = std::io::stdout().is_terminal() && !options.json;
    loop {
        let answer = look(target).await?;
        if options.json {
            line(serde_json::to_string(&answer)?);
        } else {
            line(if clears { "\x1b[2J\x1b[H" } else { "" });
            describe(&answer, target);
        }
        if answer.is_quiet() {
            return Ok(exit(&answer));
        }
        let pause = tokio::time::sleep(Duration::from_secs(options.every));
        if cancel.run_until_cancelled(pause).await.is_none() {
            return Ok(exit(&answer));
        }
    }
}

impl Answer {
    /// Whether nothing is on its way: not by the manifest, nor by the queues, nor to clients.
    fn is_quiet(&self) -> bool {
        self.open_runs.is_empty()
            && !self.publication.is_due()
            && self.queued.bottles == 0
            && self.lanes.iter().all(|lane| lane.work.total() == 0)
    }

    /// Whether clients wait for somebody to act: what is on its way comes by itself.
    fn is_held_up(&self) -> bool {
        self.publication.is_stuck() || (self.is_quiet() && self.publication.is_behind())
    }
}

fn exit(answer: &Answer) -> Exit {
    let is_well = answer.dead_letters == 0 && !answer.is_held_up() && answer.retirement.is_none();
    if is_well { Exit::Done } else { Exit::Attention }
}

async fn look(target: &Target) -> anyhow::Result<Answer> {
    let pipeline = &target.pipeline;
    let (manifest, _) = manifest::load(&*pipeline.store).await?;
    let tally = manifest.tally(None);
    let mut lanes = Vec::new();
    for lane in &pipeline.lanes {
        let (work, dead_letters) = (lane.work.depth().await?, lane.dead_letters.depth().await?);
        lanes.push(LaneStatus { lane: lane.lane, work, dead_letters });
    }
    let tasks = match &target.ecs {
        Some(service) => Some(service.tasks().await?),
        None => None,
    };
    let indexes = || manifest.images.values().flat_map(|image| image.indexes.values());
    let last_run = RunRecord::latest(&*pipeline.store).await?;
    let now = pipeline.clock.now();
    let since = |at| clock::since(at, now).as_secs();
    let settled_at = common::run::last_settled(&*pipeline.store).await?;
    Ok(Answer {
        held: tally.held,
        images: manifest.images.len(),
        indexes: indexes().filter(|index| index.staged.is_none()).count(),
        indexes_waiting: indexes().filter(|index| index.staged.is_some()).count(),
        queued: tally.queued,
        oldest_queued_seconds: oldest(&manifest).map(since),
        dead_letters: lanes.iter().map(|lane| lane.dead_letters.total()).sum(),
        publication: publish::look(target, &manifest, false).await?,
        retirement: retire::stuck(pipeline, &manifest, target.expire_after).await?,
        lanes,
        tasks,
        open_runs: open_runs(&manifest, now),
        last_run,
        seconds_since_settled: settled_at.map(since),
    })
}

/// When the bottle that was queued first was queued.
fn oldest(manifest: &Manifest) -> Option<jiff::Timestamp> {
    let bottles = manifest.images.values().flat_map(|image| image.bottles.values());
    bottles.filter(|bottle| bottle.state == State::Queued).map(|bottle| bottle.at).min()
}

fn open_runs(manifest: &Manifest, now: jiff::Timestamp) -> Vec<OpenRunStatus> {
    let status = |(id, open): (&RunId, &manifest::OpenRun)| {
        let tally = manifest.tally(Some(id));
        OpenRunStatus {
            id: id.clone(),
            planned: tally.queued.bottles + tally.held.bottles + tally.dead.bottles + open.lost,
            remaining: tally.queued.bottles,
            planning: open.planning,
            stalled: open.stalled,
            seconds_since_progress: clock::since(open.progress_at, now).as_secs(),
        }
    };
    manifest.runs.iter().map(status).collect()
}

fn describe(answer: &Answer, target: &Target) {
    line(format_args!(
        "Holds        {}, {}, of {}",
        counted(answer.held.bottles, "bottle"),
        ByteSize(answer.held.bytes),
        counted(answer.images as u64, "formula")
    ));
    line(format_args!(
        "Indexes      {} in place, {} waiting for their bottles",
        grouped(answer.indexes as u64),
        grouped(answer.indexes_waiting as u64)
    ));
    let clients: Vec<String> = answer.publication.clients().collect();
    line(format_args!(
        "API files    {}",
        if clients.is_empty() {
            "none published yet".to_owned()
        } else {
            format!("for {}", clients.join(", "))
        }
    ));
    publish::summary(&answer.publication, &target.named);
    if let Some(blocked) = &answer.retirement {
        retire::describe_stuck(blocked, &target.named);
    }
    for lane in &answer.lanes {
        line(format_args!(
            "Queue {:<6} {} waiting, {} in flight, {} delayed; {}",
            lane.lane.as_str(),
            grouped(lane.work.visible),
            grouped(lane.work.in_flight),
            grouped(lane.work.delayed),
            counted(lane.dead_letters.total(), "dead letter")
        ));
    }
    if let Some(seconds) = answer.oldest_queued_seconds {
        line(format_args!(
            "On the way   {}, {}; the first one for {}",
            counted(answer.queued.bottles, "bottle"),
            ByteSize(answer.queued.bytes),
            ago(seconds)
        ));
    }
    if let Some(tasks) = answer.tasks {
        line(format_args!(
            "Tasks        {} running, {} pending, {} desired",
            tasks.running, tasks.pending, tasks.desired
        ));
    }
    for run in &answer.open_runs {
        let what = if run.planning { ", its plan goes on" } else { "" };
        let stalled = if run.stalled { ": stalled" } else { "" };
        line(format_args!(
            "Open run     {}: {} of {} left{what}, last progress {} ago{stalled}",
            run.id,
            grouped(run.remaining),
            counted(run.planned, "bottle"),
            ago(run.seconds_since_progress)
        ));
    }
    match &answer.last_run {
        None => line("Last run     none"),
        Some(run) => describe_run(run, answer, target),
    }
    if answer.dead_letters > 0 {
        line(format_args!("Look at them bottles dead-letters list {}", target.named));
    }
}

fn describe_run(run: &RunRecord, answer: &Answer, target: &Target) {
    let planned = run.small + run.large;
    line(format_args!("Last run     {}, begun {:.0}", run.id, run.started_at));
    let what = if run.unchanged {
        "upstream was unchanged".to_owned()
    } else {
        format!("planned {}, {}", counted(planned.bottles, "bottle"), ByteSize(planned.bytes))
    };
    match &run.outcome {
        Some(_) if run.unchanged => {
            line(format_args!("             {what}; {} ago", ago(answer.seconds_since_settled.unwrap_or(0))));
        }
        Some(outcome) => line(format_args!(
            "             {what}; settled {} ago: {} held, {} dead, {} lost",
            ago(answer.seconds_since_settled.unwrap_or(0)),
            grouped(outcome.held.bottles),
            grouped(outcome.dead),
            grouped(outcome.lost)
        )),
        None if target.is_deployed => line(format_args!("             {what}; not settled yet")),
        None => line(format_args!("             {what}; not settled yet: `bottles sync` goes on with it")),
    }
}

fn ago(seconds: u64) -> String {
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7200 => format!("{} min", seconds / 60),
        7200..172_800 => format!("{} h", seconds / 3600),
        _ => format!("{} days", seconds / 86_400),
    }
}
