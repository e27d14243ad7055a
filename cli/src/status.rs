//! `bottles status`: what a mirror holds, and how it fares.

use common::manifest;
use common::message::Lane;
use common::queue::Depth;
use common::run::{Count, RunRecord};
use common::size::ByteSize;
use serde::Serialize;

use crate::args::StatusOptions;
use crate::local::Local;
use crate::output::{self, Exit, counted, grouped, line};

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
    lanes: Vec<LaneStatus>,
    dead_letters: u64,
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

pub(crate) async fn run(options: StatusOptions) -> anyhow::Result<Exit> {
    let mirror = Local::open_existing(&options.to)?;
    let (manifest, _) = manifest::load(&*mirror.store).await?;
    let tally = manifest.tally(None);
    let mut lanes = Vec::new();
    for lane in mirror.lanes() {
        let (work, dead_letters) = Local::depth(lane).await?;
        lanes.push(LaneStatus { lane: lane.lane, work, dead_letters });
    }
    let indexes = || manifest.images.values().flat_map(|image| image.indexes.values());
    let last_run = RunRecord::latest(&*mirror.store).await?;
    let now = mirror.clock.now();
    let answer = Answer {
        held: tally.held,
        images: manifest.images.len(),
        indexes: indexes().filter(|index| index.staged.is_none()).count(),
        indexes_waiting: indexes().filter(|index| index.staged.is_some()).count(),
        queued: tally.queued,
        dead_letters: lanes.iter().map(|lane| lane.dead_letters.total()).sum(),
        lanes,
        seconds_since_settled: last_run
            .as_ref()
            .and_then(|run| run.outcome.as_ref())
            .map(|outcome| common::clock::since(outcome.settled_at, now).as_secs()),
        last_run,
    };
    if options.json {
        output::json(&answer)?;
    } else {
        describe(&answer, &options);
    }
    Ok(if answer.dead_letters > 0 { Exit::DeadLetters } else { Exit::Done })
}

fn describe(answer: &Answer, options: &StatusOptions) {
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
    match &answer.last_run {
        None => line("Last run     none"),
        Some(run) => describe_run(run, answer),
    }
    if answer.dead_letters > 0 {
        line(format_args!("Look at them bottles dead-letters list --to {}", options.to.display()));
    }
}

fn describe_run(run: &RunRecord, answer: &Answer) {
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
