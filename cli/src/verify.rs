//! `bottles verify`: what a mirror really holds, and its repair.

use common::airgap::Imports;
use common::run::Count;
use common::size::ByteSize;
use common::verify::{
    Checksums, Content, Depth, Finding, Kind, PAGE, RebuildError, Rebuilt, Repair, Report, Subject,
    VerifySettings, Was,
};

use crate::args::VerifyOptions;
use crate::deployed::{self, Named, Target};
use crate::output::{self, Exit, Usage, counted, grouped, line};
use crate::{progress, stop};

/// How many findings of a kind are shown.
const SHOWN: usize = 20;

pub(crate) async fn run(options: VerifyOptions) -> anyhow::Result<Exit> {
    let named = Named::of(&options.target);
    let depth = match options.sample {
        Some(sample) => Depth::Sample(sample),
        None if options.deep => Depth::Bytes,
        None => Depth::Sizes,
    };
    let target = deployed::open_remains(&options.target.place, named).await?;
    let settings = VerifySettings {
        depth,
        size_threshold: options.lane.size_threshold.0,
        concurrency: usize::from(options.concurrency),
        page: PAGE,
        is_fed_by_plans: Imports::load(&*target.pipeline.store).await?.is_none(),
        expire_after: target.expire_after.0,
    };
    if options.rebuild_manifest {
        return rebuild(&target, settings, options.json).await;
    }
    verify(&target, settings, &options).await
}

async fn verify(target: &Target, settings: VerifySettings, options: &VerifyOptions) -> anyhow::Result<Exit> {
    let verifier = target.pipeline.verifier(settings);
    let cancel = stop::on_signals()?;
    let looking = cancel.run_until_cancelled(verifier.verify());
    let looked = progress::while_verifying(&verifier.progress, options.json, looking).await;
    let Some(mut report) = looked.transpose()? else { anyhow::bail!("stopped: nothing was changed") };
    if options.repair {
        verifier.repair(&mut report).await?;
    }
    if options.json {
        output::json(&report)?;
    } else {
        describe(&report, target, settings.is_fed_by_plans);
    }
    Ok(if report.sound { Exit::Done } else { Exit::Attention })
}

async fn rebuild(target: &Target, settings: VerifySettings, json: bool) -> anyhow::Result<Exit> {
    let verifier = target.pipeline.verifier(settings);
    let rebuilding = verifier.rebuild();
    let rebuilt = match progress::while_verifying(&verifier.progress, json, rebuilding).await {
        Err(error @ (RebuildError::ReadsWell | RebuildError::NoBottles)) => {
            return Err(Usage(error.to_string()).into());
        }
        rebuilt => rebuilt?,
    };
    if json {
        output::json(&rebuilt)?;
    } else {
        describe_rebuilt(&rebuilt, target, settings.is_fed_by_plans);
    }
    let is_whole = !rebuilt.left_out.iter().any(|finding| finding.wrong);
    Ok(if is_whole { Exit::Done } else { Exit::Attention })
}

fn describe(report: &Report, target: &Target, is_fed_by_plans: bool) {
    line(format_args!("Holds        {}", amount(report.held)));
    let checked = &report.checked;
    line(format_args!(
        "Compared     {}, {}, {}, {}",
        counted(checked.bottles, "bottle"),
        counted(checked.indexes, "image index"),
        counted(checked.flat_bottles, "flat bottle"),
        counted(checked.api_files, "API file")
    ));
    if let Some(checksums) = &report.checksums {
        describe_checksums(checksums);
    }
    if report.queued + report.dead > 0 {
        line(format_args!(
            "Not held     {} on their way, {} given up on",
            grouped(report.queued),
            grouped(report.dead)
        ));
    }
    if report.waiting.receipts > 0 {
        line(format_args!(
            "Unsettled    {} {} for a settle",
            counted(report.waiting.receipts, "receipt"),
            if report.waiting.receipts == 1 { "waits" } else { "wait" }
        ));
    }
    if report.foreign.objects > 0 {
        line(format_args!(
            "Foreign      {} that the mirror did not make, {}",
            counted(report.foreign.objects, "object"),
            ByteSize(report.foreign.bytes)
        ));
    }
    describe_findings(&report.findings);
    line("");
    if report.sound {
        line("The mirror is sound.");
        return;
    }
    match &report.repair {
        Some(repaired) => {
            line(format_args!(
                "Repair       {} queued; {} reported; {} ordered; {} copied; {} left as it is",
                amount(repaired.total()),
                grouped(repaired.reported),
                grouped(repaired.orders),
                counted(repaired.copies, "flat bottle"),
                grouped(repaired.left)
            ));
            if repaired.total().bottles + repaired.reported + repaired.orders > 0 {
                line(suggestion(target, is_fed_by_plans));
            }
        }
        None if report.is_repairable() => {
            // Without it the repair would not look at the bytes, and find nothing.
            let deep = if report.is_found_by_bytes() { "--deep " } else { "" };
            line(format_args!(
                "The mirror is not sound. Repair it: bottles verify {deep}--repair {}",
                target.named
            ));
        }
        None if report.count(Kind::Queued) > 0 => {
            line(format_args!("The mirror is not sound yet. {}", suggestion(target, is_fed_by_plans)));
        }
        None => line("The mirror is not sound."),
    }
}

/// Who does what was asked for.
fn suggestion(target: &Target, is_fed_by_plans: bool) -> String {
    if !is_fed_by_plans {
        let how = "a bundle from the beginning, or all of them again";
        format!("Bring it anew, with {how}: bottles import --again BUNDLE {}", target.named)
    } else if target.is_deployed {
        format!("The system fetches and publishes it by itself: bottles status {} --watch", target.named)
    } else {
        format!("This fetches and publishes it: bottles sync {}", target.named)
    }
}

fn describe_checksums(checksums: &Checksums) {
    line(format_args!(
        "To the byte  {} of {}, {}: {} by the store's checksum, {} read",
        grouped(checksums.checked.bottles),
        counted(checksums.of.bottles, "bottle"),
        ByteSize(checksums.checked.bytes),
        grouped(checksums.by_store.bottles),
        grouped(checksums.read.bottles)
    ));
}

/// By kind and subject, some of each.
fn describe_findings(findings: &[Finding]) {
    let alike = |a: &Finding, b: &Finding| (a.kind, a.subject) == (b.kind, b.subject);
    for group in findings.chunk_by(alike) {
        let Some(first) = group.first() else { continue };
        let bytes: u64 = group.iter().filter_map(|finding| finding.found?.size).sum();
        let size = if bytes > 0 { format!(", {}", ByteSize(bytes)) } else { String::new() };
        let count = counted(group.len() as u64, subject(first.subject));
        line(format_args!("\n{}: {count}{size}: {}", kind(first.kind), first.follows));
        for finding in group.iter().take(SHOWN) {
            line(format_args!("  {}", describe_finding(finding)));
        }
        if group.len() > SHOWN {
            line(format_args!("  … and {} more (--json shows all)", grouped((group.len() - SHOWN) as u64)));
        }
    }
}

fn describe_finding(finding: &Finding) -> String {
    let mut text = match (&finding.formula, &finding.image_tag) {
        (Some(formula), Some(tag)) => format!("{formula} {tag}"),
        (Some(formula), None) => formula.to_string(),
        (None, _) => finding.key.to_string(),
    };
    let list = |items: &[String]| items.join(",");
    if !finding.tags.is_empty() {
        let tags: Vec<_> = finding.tags.iter().map(ToString::to_string).collect();
        text = format!("{text} {}", list(&tags));
    }
    if let Some(digest) = finding.key.blob_digest().filter(|_| finding.formula.is_some()) {
        text = format!("{text} {digest}");
    } else if finding.formula.is_some() && finding.subject == Subject::FlatBottle {
        text = format!("{text} {}", finding.key);
    }
    if let (Kind::WrongSize | Kind::WrongChecksum, Some(expected), Some(found)) =
        (finding.kind, &finding.expected, &finding.found)
    {
        text = format!("{text}: {}", difference(expected, found));
    }
    if let Some(detail) = &finding.detail {
        text = format!("{text}: {detail}");
    }
    if !finding.scopes.is_empty() {
        let scopes: Vec<_> = finding.scopes.iter().map(ToString::to_string).collect();
        text = format!("{text} (published to {})", list(&scopes));
    }
    match &finding.repair {
        None => text,
        Some(Repair::Queued { lane }) => format!("{text} [queued, {lane}]"),
        Some(Repair::Reported) => format!("{text} [reported as lost]"),
        Some(Repair::Ordered) => format!("{text} [ordered]"),
        Some(Repair::AlreadyOrdered) => format!("{text} [ordered before]"),
        Some(Repair::Copied) => format!("{text} [copied]"),
        Some(Repair::Nothing { why }) => format!("{text} [not repaired: {why}]"),
    }
}

fn difference(expected: &Content, found: &Content) -> String {
    match (expected.size, found.size, found.sha256) {
        (_, _, Some(sha256)) => format!("it hashes to {sha256}"),
        (Some(expected), Some(found), None) => {
            format!("{} bytes in place of {}", grouped(found), grouped(expected))
        }
        (_, found, None) => format!("{} bytes", grouped(found.unwrap_or(0))),
    }
}

fn kind(kind: Kind) -> &'static str {
    match kind {
        Kind::Missing => "Missing",
        Kind::WrongSize => "Wrong size",
        Kind::WrongChecksum => "Wrong checksum",
        Kind::Unreadable => "Unreadable",
        Kind::LacksBottle => "Lacks a bottle",
        Kind::NotHeld => "Published and not held",
        Kind::GivenUp => "Repair given up on",
        Kind::StagedGone => "Gone while it waited",
        Kind::StagedDamaged => "Damaged while it waited",
        Kind::OfNoSet => "Of no set",
        Kind::Queued => "Being repaired",
        Kind::Expired => "Expired",
        Kind::Unfinished => "Being written",
        Kind::Extra => "Extra",
    }
}

fn subject(subject: Subject) -> &'static str {
    match subject {
        Subject::Manifest => "manifest",
        Subject::Bottle => "bottle",
        Subject::Index => "image index",
        Subject::FlatBottle => "flat bottle",
        Subject::FlatIndex => "flat image index",
        Subject::ApiFile => "API file",
        Subject::Set => "set",
    }
}

fn describe_rebuilt(rebuilt: &Rebuilt, target: &Target, is_fed_by_plans: bool) {
    match &rebuilt.was {
        Was::Absent => line("The manifest was not there."),
        Was::Damaged { why } => line(format_args!("The manifest was damaged: {why}")),
    }
    if let Some(kept) = &rebuilt.kept {
        line(format_args!("Kept         what was there, as {kept}"));
    }
    line(format_args!(
        "Rebuilt      {} of {}; {}",
        amount(rebuilt.held),
        counted(rebuilt.images as u64, "formula"),
        counted(rebuilt.indexes as u64, "image index")
    ));
    if let Some(checksums) = &rebuilt.checksums {
        describe_checksums(checksums);
    }
    if rebuilt.superseded > 0 {
        line(format_args!("Superseded   {}", counted(rebuilt.superseded, "bottle")));
    }
    if rebuilt.flat_bottles > 0 {
        line(format_args!("Flat copies  {}", grouped(rebuilt.flat_bottles)));
    }
    if rebuilt.api_files > 0 {
        let scopes: Vec<_> = rebuilt.published.iter().map(ToString::to_string).collect();
        let read = if scopes.is_empty() { "nobody knows by whom".to_owned() } else { scopes.join(", ") };
        line(format_args!("Published    {}, read by: {read}", counted(rebuilt.api_files as u64, "API file")));
    }
    if rebuilt.is_held_back {
        line(format_args!(
            "Held back    clients read an older set than they could, as after a rollback; \
             `bottles publish {} --resume` goes on",
            target.named
        ));
    }
    describe_findings(&rebuilt.left_out);
    line("");
    if let Some(repaired) = &rebuilt.repair {
        if repaired.total().bottles > 0 {
            line(format_args!("Queued       {} to be fetched again", amount(repaired.total())));
        }
        if repaired.reported > 0 {
            line(format_args!("Reported     {} as lost", counted(repaired.reported, "bottle")));
        }
    }
    if !is_fed_by_plans {
        line(format_args!("What is still missing a plan can't fetch. {}", suggestion(target, false)));
    } else if target.is_deployed {
        line(format_args!("What is still missing is planned by: bottles run {}", target.named));
    } else {
        line(format_args!("What is still missing is fetched by: bottles sync {}", target.named));
    }
}

fn amount(count: Count) -> String {
    format!("{}, {}", counted(count.bottles, "bottle"), ByteSize(count.bytes))
}
