//! Tells what an import came to.

use common::hash_file::ImportReport;
use common::run::Count;
use common::size::ByteSize;

use super::Target;
use crate::args::ImportHashesOptions;
use crate::output::{counted, grouped, line, warn};

/// How many entries that were skipped are shown.
const SHOWN: usize = 20;

pub(super) fn import(report: &ImportReport, target: &Target, options: &ImportHashesOptions) {
    counts(report, options);
    skipped(report);
    resized(report);
    for pattern in &report.unmatched_trust {
        warn(format_args!("--trust {pattern} matches no formula of the file"));
    }
    dated(report);
    if options.dry_run {
        line("This was a dry run: it looked at presence and sizes alone, and changed nothing.");
        return;
    }
    trusted(report, target);
    match &target.local {
        Some(_) => line(format_args!(
            "Next: `bottles sync {}`, with the selection of this mirror, reads the image indexes of \
             these bottles and fetches the others.",
            target.named
        )),
        None => line(
            "Next: within minutes the deployed system takes note; its next plan reads the image \
             indexes of these bottles and queues the others.",
        ),
    }
}

fn counts(report: &ImportReport, options: &ImportHashesOptions) {
    let row = |name: &str, count: Count, what: &str| {
        if count.bottles > 0 {
            let bottles = counted(count.bottles, "bottle");
            line(format_args!("{name:<12} {bottles}, {}: {what}", ByteSize(count.bytes)));
        }
    };
    let updated = report.last_updated.as_ref().map(|at| format!(", last updated {at}")).unwrap_or_default();
    let entries = if report.entries == 1 { "entry" } else { "entries" };
    line(format_args!("File         {} {entries}{updated}", grouped(report.entries)));
    row("Recorded", report.recorded, "the manifest has them already");
    row("Held", report.held, "under their keys already");
    if options.dry_run {
        row("To adopt", report.adopted, "in dated folders with the right size; not read, so not verified");
        row("To copy", report.copied, "from another image's key");
        row("To trust", report.trusted, "nowhere in the place");
    } else {
        row("Adopted", report.adopted, "in dated folders; read, verified and copied to their keys");
        row("Copied", report.copied, "from another image's key");
        row("Trusted", report.trusted, "nowhere in the place, and not looked for");
    }
    row("Damaged", report.lost, "something else is under their keys, and replaced by the next plan");
    if options.listed_only {
        row("Left out", report.unlisted, "upstream doesn't list them any more");
    } else {
        let what = "of these, that upstream doesn't list any more: they are to be retired. Many at once \
                    are held back until `bottles retire --at-most` allows them; --listed-only leaves \
                    them out";
        row("Unlisted", report.unlisted, what);
    }
}

fn resized(report: &ImportReport) {
    for resized in report.resized.iter().take(SHOWN) {
        warn(format_args!(
            "{} has {} bytes upstream, and not {} as the file says: the former was taken",
            resized.key, resized.upstream, resized.in_file
        ));
    }
    if report.resized.len() > SHOWN {
        let more = (report.resized.len() - SHOWN) as u64;
        warn(format_args!("and so have {} more (--json shows all)", grouped(more)));
    }
}

fn dated(report: &ImportReport) {
    let dated = &report.dated;
    if dated.objects > 0 {
        let [first, last] = [&dated.first, &dated.last].map(|date| date.as_deref().unwrap_or_default());
        line(format_args!(
            "\nThe dated folders, {first} to {last}, hold {}, {}. They stay as they are: \
             once you are content with the mirror you may remove them.",
            counted(dated.objects, "object"),
            ByteSize(dated.bytes)
        ));
    }
}

fn trusted(report: &ImportReport, target: &Target) {
    if report.trusted.bottles > 0 {
        line(format_args!(
            "Warning: {} marked as mirrored without being there. Clients fail on them, and no sync \
             fetches them: `bottles verify {}` finds them.",
            if report.trusted.bottles == 1 {
                "1 bottle is".to_owned()
            } else {
                format!("{} bottles are", grouped(report.trusted.bottles))
            },
            target.named
        ));
    }
}

fn skipped(report: &ImportReport) {
    if report.skipped.is_empty() {
        return;
    }
    let reasons: Vec<_> =
        report.reasons().iter().map(|(why, count)| format!("{} {}", grouped(*count), why.as_str())).collect();
    line(format_args!("Skipped      {}: {}", grouped(report.skipped.len() as u64), reasons.join(", ")));
    for skipped in report.skipped.iter().take(SHOWN) {
        line(format_args!("  {}: {}: {}", skipped.key, skipped.why.as_str(), skipped.detail));
    }
    if report.skipped.len() > SHOWN {
        let more = (report.skipped.len() - SHOWN) as u64;
        line(format_args!("  and {} more (--json shows all)", grouped(more)));
    }
}
