//! `bottles retire`: what upstream dropped, and when it goes.

use common::clock::Grace;
use common::manifest::{self, Manifest};
use common::pipeline::Pipeline;
use common::receipt::What;
use common::retire::{self, Blocked, Outlook, Retired};
use common::size::ByteSize;
use serde::Serialize;

use crate::args::RetireOptions;
use crate::deployed::{self, Named, Target};
use crate::output::{self, Exit, counted, grouped, line};
use crate::publish;

#[derive(Serialize)]
struct Answer {
    #[serde(flatten)]
    outlook: Outlook,
    /// Bottles that were tagged now.
    tagged: u64,
    /// Superseded bottles whose tag could not be written.
    untagged: u64,
    /// Bottles that had expired.
    expired: u64,
    /// Whether a deployed system was asked, which does it with its next settle.
    asked: bool,
}

/// So many bottles are shown of each kind.
const SHOWN: usize = 20;

pub(crate) async fn run(options: RetireOptions) -> anyhow::Result<Exit> {
    let named = Named::of(&options.target);
    let target = deployed::open(&options.target.place, named).await?;
    let (mut tagged, mut untagged, mut expired, mut asked) = (0, 0, 0, false);
    if !options.dry_run {
        if let Some(at_most) = options.at_most {
            publish::order(&target, What::Retire { at_most }).await?;
        }
        if target.is_deployed {
            asked = options.at_most.is_some();
        } else {
            let report = target.settle().await?;
            (tagged, untagged, expired) = (report.retired, report.untagged, report.expired);
        }
    }
    let store = &*target.pipeline.store;
    let (manifest, _) = manifest::load(store).await?;
    let (now, grace) = (target.pipeline.clock.now(), target.expire_after.0);
    // What a deployed system was just asked to allow is no longer in the way.
    let allowed = options.at_most.filter(|_| asked);
    let outlook = retire::outlook(store, &manifest, allowed, now, grace).await?;
    let answer = Answer { outlook, tagged, untagged, expired, asked };
    if options.json {
        output::json(&answer)?;
    } else {
        describe(&answer, &options, &target);
    }
    let is_stuck = answer.outlook.blocked.as_ref().is_some_and(is_stuck);
    Ok(if is_stuck { Exit::Attention } else { Exit::Done })
}

/// Whether retirement does not go on by itself.
fn is_stuck(blocked: &Blocked) -> bool {
    match blocked {
        Blocked::TooMany { .. } | Blocked::UnreadableSet { .. } => true,
        Blocked::NothingPublished | Blocked::Waiting | Blocked::HeldBack => false,
    }
}

/// What retirement waits for an operator to look at, if anything.
pub(crate) async fn stuck(
    pipeline: &Pipeline,
    manifest: &Manifest,
    Grace(grace): Grace,
) -> anyhow::Result<Option<Blocked>> {
    let outlook = retire::outlook(&*pipeline.store, manifest, None, pipeline.clock.now(), grace).await?;
    Ok(outlook.blocked.filter(is_stuck))
}

/// The same in words, for a mirror that is named so.
pub(crate) fn describe_stuck(blocked: &Blocked, named: &str) {
    line(format_args!("Retirement   nothing is retired: {blocked}"));
    if matches!(blocked, Blocked::TooMany { .. }) {
        line(format_args!("             bottles retire {named} --dry-run"));
    }
}

fn describe(answer: &Answer, options: &RetireOptions, target: &Target) {
    let Answer { outlook, tagged, untagged, expired, asked } = answer;
    if *tagged > 0 {
        line(format_args!("Tagged       {}", counted(*tagged, "bottle")));
    }
    if *untagged > 0 {
        line(format_args!("Not tagged   {}: the log says why", counted(*untagged, "bottle")));
    }
    if *expired > 0 {
        line(format_args!("Expired      {}", counted(*expired, "bottle")));
    }
    if *asked {
        line("Asked        the system does it with its next settle, within minutes");
    } else if target.is_deployed && !options.dry_run {
        line("Nothing done: the deployed system retires by itself; this is what it sees");
    }
    let title = match &outlook.blocked {
        _ if outlook.now.is_empty() => None,
        Some(blocked) => Some(format!("Would tag, but not now: {blocked}")),
        None => Some("Would tag with the next settle".to_owned()),
    };
    if let Some(title) = title {
        line(title);
        list(&outlook.now);
    }
    if let Some(Blocked::TooMany { bottles, .. }) = outlook.blocked {
        line(format_args!("  if so: bottles retire {} --at-most {bottles}", target.named));
    }
    if !outlook.superseded.is_empty() {
        line("Tagged as superseded");
        list(&outlook.superseded);
    }
    if outlook.still_named > 0 {
        line(format_args!(
            "{} that upstream dropped stay: published API files, or those before them, name them",
            counted(outlook.still_named, "bottle")
        ));
    }
    if *outlook == Outlook::default() {
        line("Upstream lists every bottle that the mirror holds.");
    }
}

fn list(retired: &[Retired]) {
    for one in retired.iter().take(SHOWN) {
        let tags: Vec<_> = one.tags.iter().map(ToString::to_string).collect();
        line(format_args!(
            "  {} {} {}, expires {}",
            one.formula,
            tags.join(","),
            ByteSize(one.size),
            one.expires_at.strftime("%Y-%m-%d")
        ));
    }
    let bytes = retired.iter().map(|one| one.size).sum();
    let more = retired.len().saturating_sub(SHOWN);
    let and = if more > 0 { format!("… and {} more; ", grouped(more as u64)) } else { String::new() };
    line(format_args!("  {and}{} in all, {}", counted(retired.len() as u64, "bottle"), ByteSize(bytes)));
}
