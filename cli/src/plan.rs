//! `bottles plan`: what a sync would fetch.

use common::invocation::{Event, PlanAnswer, PlanRequest};
use common::plan::{Mode, PlanReport};
use common::size::ByteSize;
use serde::Serialize;

use crate::args::{PlaceOptions, PlanOptions};
use crate::deployed::Named;
use crate::destination::Destination;
use crate::output::{self, Exit, counted, grouped, line};
use crate::place::Local;
use crate::{deployed, place, progress, stop};

/// How many names of a list are shown.
const SHOWN: usize = 20;

#[derive(Serialize)]
struct Answer<'a> {
    #[serde(flatten)]
    report: &'a PlanReport,
    size_threshold: ByteSize,
}

pub(crate) async fn run(options: PlanOptions) -> anyhow::Result<Exit> {
    let named = Named::new(&options.stack).with_function(&options.function);
    let (report, size_threshold) = if named.is_meant() {
        deployed::check_is_no_folder(&options.place)?;
        of_deployed(&named, &options).await?
    } else {
        (of_local(&options).await?, options.lane.size_threshold)
    };
    if options.json {
        output::json(&Answer { report: &report, size_threshold })?;
    } else {
        describe(&report, options.no_sizes);
    }
    Ok(exit(&report))
}

/// What a sync from here would do.
async fn of_local(options: &PlanOptions) -> anyhow::Result<PlanReport> {
    let selection = place::selection(&options.selection)?;
    let upstream = place::upstream(&options.upstream, &selection)?;
    // A dry run leaves no trace: where there is no mirror yet, it is planned for
    // an empty one elsewhere.
    let scratch = tempfile::tempdir()?;
    let elsewhere = Destination::Folder(scratch.path().to_owned());
    let state = PlaceOptions { state: Some(scratch.path().join("state")), ..options.place.clone() };
    let to = match &options.place.to {
        Some(to) if place::holds_mirror(to, &options.place).await? => to,
        _ => &elsewhere,
    };
    // The queues of a bucket's mirror are not looked at: its manifest tells.
    let place = if matches!(to, Destination::Bucket(_)) { &state } else { &options.place };
    let mirror = Local::open(to, place).await?;

    let planner = mirror.planner(upstream, selection, &options.upstream, options.lane.size_threshold.0);
    let cancel = stop::on_signals()?;
    let planning = cancel.run_until_cancelled(planner.plan(Mode::DryRun { sizes: !options.no_sizes }));
    let planning = progress::while_planning(&planner.progress, options.json, planning).await;
    planning.transpose()?.ok_or_else(|| anyhow::anyhow!("stopped"))
}

/// What the deployed producer would do: it has the path to upstream, and the
/// selection that counts.
async fn of_deployed(named: &Named, options: &PlanOptions) -> anyhow::Result<(PlanReport, ByteSize)> {
    let request = PlanRequest {
        selection: place::overriding(&options.selection)?,
        dry_run: true,
        no_sizes: options.no_sizes,
        ..PlanRequest::default()
    };
    let answer: PlanAnswer = deployed::invoke(named, &Event::Plan(Box::new(request))).await?;
    Ok((answer.report, ByteSize(answer.size_threshold)))
}

/// A plan with formulae left out is not the whole plan, whether they could not be
/// planned or a deployed producer's time was up before them.
pub(crate) fn exit(report: &PlanReport) -> Exit {
    if report.is_whole() && report.complete { Exit::Done } else { Exit::Failed }
}

fn describe(report: &PlanReport, no_sizes: bool) {
    line(format_args!(
        "Upstream   {} with {}",
        counted(report.formulae as u64, "formula"),
        counted(report.bottles as u64, "bottle")
    ));
    line(format_args!(
        "Selected   {}: {} held, {} queued, {} dead-lettered",
        counted(report.selected as u64, "bottle"),
        grouped(report.held as u64),
        grouped(report.queued as u64),
        grouped(report.dead as u64)
    ));
    if no_sizes {
        line(format_args!("To fetch   {}", counted(report.unsized_bottles as u64, "bottle")));
    } else {
        let total = report.total();
        line(format_args!("To fetch   {}, {}", counted(total.bottles, "bottle"), ByteSize(total.bytes)));
        for (name, count) in [("small", report.small), ("large", report.large)] {
            line(format_args!("  {name:<8} {}, {}", counted(count.bottles, "bottle"), ByteSize(count.bytes)));
        }
    }
    if report.outside_limits > 0 {
        line(format_args!(
            "Left out   {} outside the size limits",
            counted(report.outside_limits as u64, "bottle")
        ));
    }
    remarks(report);
    if !report.complete {
        line("\nThe producer's time was up before the end of the catalogue: this is not all.");
    }
}

/// What a plan put on the queues of a deployed system.
pub(crate) fn describe_queued(report: &PlanReport) {
    if let Some(run) = &report.run {
        line(format_args!("Run        {run}"));
    }
    if report.unchanged {
        line("Upstream   unchanged since the last plan");
        remarks(report);
        return;
    }
    describe(report, false);
    if !report.complete {
        line("The next plan goes on from there.");
    }
}

/// What is worth knowing about a plan besides its numbers.
pub(crate) fn remarks(report: &PlanReport) {
    list("Added by the dependency closure", report.added.iter(), |added| {
        format!("{} (for {})", added.formula, added.because)
    });
    list("Wanted, but not to be had", report.missing.iter(), |missing| {
        format!("{} (for {}): {}", missing.formula, missing.wanted_by, reason(missing.why))
    });
    list("Patterns that match nothing", report.unmatched.iter(), Clone::clone);
    list("Skipped, unreadable in the catalogue", report.skipped.iter(), |skipped| {
        format!("{}: {}", skipped.name, skipped.why)
    });
    list("Could not be planned, the next plan tries again", report.problems.iter(), |problem| {
        format!("{}: {}", problem.formula, problem.why)
    });
    list("Taps that can't be read, what the mirror has of them stays", report.unread_taps.iter(), |tap| {
        format!("{}: {}", tap.name, tap.why)
    });
    if let Some(trouble) = &report.api.trouble {
        line(format_args!("\nAPI files were not staged, what is published stays: {trouble}"));
    }
}

fn reason(why: common::selection::WhyMissing) -> &'static str {
    use common::selection::WhyMissing;
    match why {
        WhyMissing::NotInCatalogue => "the catalogue doesn't list it",
        WhyMissing::Excluded => "the selection excludes it",
        WhyMissing::NoBottle => "it has no bottle for that platform",
    }
}

fn list<T>(title: &str, items: impl ExactSizeIterator<Item = T>, describe: impl Fn(T) -> String) {
    let count = items.len();
    if count == 0 {
        return;
    }
    line(format_args!("\n{title}: {}", grouped(count as u64)));
    for item in items.take(SHOWN) {
        line(format_args!("  {}", describe(item)));
    }
    if count > SHOWN {
        line(format_args!("  and {} more (--json shows all)", grouped((count - SHOWN) as u64)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_that_is_not_whole_is_no_success() {
        let report = |complete: bool, problems: &str| -> PlanReport {
            let text = format!(
                r#"{{"run":null,"unchanged":false,"complete":{complete},"formulae":2,"bottles":2,"selected":2,
                "held":0,"queued":0,"dead":0,"small":{{"bottles":1,"bytes":9}},"large":{{"bottles":0,"bytes":0}},
                "unsized_bottles":0,"outside_limits":0,"added":[],"missing":[],"unmatched":[],"skipped":[],
                "problems":{problems}}}"#
            );
            serde_json::from_str(&text).unwrap()
        };
        assert_eq!(exit(&report(true, "[]")), Exit::Done);
        assert_eq!(exit(&report(false, "[]")), Exit::Failed);
        assert_eq!(exit(&report(true, r#"[{"formula":"wget","why":"?"}]"#)), Exit::Failed);
    }
}
