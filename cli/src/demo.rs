//! `bottles demo`: the real pipeline against a look-alike of upstream.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::time::Instant;

use anyhow::Context as _;
use common::bottle::Digest;
use common::dead_letter::{Deed, Letter, Reason};
use common::size::ByteSize;
use serde::Serialize;
use testbed::{Spec, Upstream};
use tokio_util::sync::CancellationToken;
use url::Url;

use crate::args::{
    DemoOptions, LaneOption, PipelineOptions, PlaceOptions, SelectionOptions, UpstreamOptions,
};
use crate::destination::Destination;
use crate::output::{self, Exit, Usage, counted, line};
use crate::place::Local;
use crate::sync::{self, Ask, Report};

/// Marks a folder as a demo's own, which the next demo may replace.
const MARK: &str = "_sync/demo";

/// Bottles above this go to the large queue, so that the demo has one there.
const SIZE_THRESHOLD: u64 = 8 << 20;

#[derive(Serialize)]
struct Answer<'a> {
    dir: &'a Path,
    first: &'a Report,
    second: &'a Report,
    /// Bottles whose bytes were compared with upstream's.
    compared: usize,
    /// What did not go as planned; empty if all did.
    surprises: &'a [String],
}

pub(crate) async fn run(options: DemoOptions) -> anyhow::Result<Exit> {
    let started = Instant::now();
    prepare(&options.dir)?;
    let say = |text: String| {
        if !options.json {
            line(text);
        }
    };

    let spec = Spec::demo(1);
    let planted = Spec::demo_planted();
    let upstream = Upstream::start(spec).await?;
    upstream.plant(&planted);
    let expected = upstream.expected();
    say(format!(
        "1. A look-alike of formulae.brew.sh and ghcr.io runs on this machine: {} of {}.",
        counted(expected.len() as u64, "bottle"),
        counted(
            expected.iter().map(|bottle| &bottle.formula).collect::<BTreeSet<_>>().len() as u64,
            "formula"
        ),
    ));
    say(format!(
        "   Two bottles are bad: {} {} has wrong bytes, {} {} is missing.\n",
        planted.wrong_hash.0, planted.wrong_hash.1, planted.not_found.0, planted.not_found.1
    ));

    let mirror = Local::open(&Destination::Folder(options.dir.clone()), &PlaceOptions::default()).await?;
    let upstream_options = upstream_options(&upstream)?;
    let pipeline = PipelineOptions {
        lane: LaneOption { size_threshold: ByteSize(SIZE_THRESHOLD) },
        concurrency: 16,
        memory: ByteSize(128 << 20),
    };
    let cancel = CancellationToken::new();
    let all = SelectionOptions::default();
    let ask = Ask { selection: &all, upstream: &upstream_options, pipeline: &pipeline, partial: false };
    let named = format!("--to {}", options.dir.display());

    say(format!("2. First sync, into {}:", options.dir.display()));
    let first = sync::sync(&mirror, &ask, &cancel, options.json).await?;
    if !options.json {
        sync::describe(&first, &named);
    }
    let letters = mirror.pipeline.desk().go_through(Deed::Look, |_| true).await?.letters;
    for letter in &letters {
        say(format!("   {}", describe(letter)));
    }

    say("\n3. Second sync: what the mirror has is not fetched again.".to_owned());
    let second = sync::sync(&mirror, &ask, &cancel, options.json).await?;
    if !options.json {
        sync::describe(&second, &named);
    }

    let (compared, mut surprises) = compare(&options.dir, &upstream, &letters);
    surprises.extend(check(&first, &second, &letters));
    if options.json {
        output::json(&Answer {
            dir: &options.dir,
            first: &first,
            second: &second,
            compared,
            surprises: &surprises,
        })?;
    } else {
        conclude(&options.dir, compared, &surprises, started);
    }
    Ok(if surprises.is_empty() { Exit::Done } else { Exit::Failed })
}

/// An empty folder; one of an earlier demo is removed, anyone else's is not.
fn prepare(dir: &Path) -> anyhow::Result<()> {
    if dir.join(MARK).is_file() {
        clear(dir).with_context(|| format!("the earlier demo in {} can't be removed", dir.display()))?;
    }
    let is_empty = match fs::read_dir(dir) {
        Ok(mut entries) => entries.next().is_none(),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => true,
        Err(error) => return Err(error).with_context(|| format!("{} can't be used", dir.display())),
    };
    if !is_empty {
        return Err(Usage(format!(
            "{} is not empty, and no earlier demo's; name another folder with --dir",
            dir.display()
        ))
        .into());
    }
    let mark = dir.join(MARK);
    fs::create_dir_all(mark.parent().unwrap_or(dir))
        .with_context(|| format!("{} can't be made", dir.display()))?;
    fs::write(&mark, "The next `bottles demo` may replace this folder.\n")?;
    Ok(())
}

/// Empties a folder, its mark last: one that was cleared half-way is still a demo's.
fn clear(dir: &Path) -> std::io::Result<()> {
    let system = dir.join("_sync");
    for entry in fs::read_dir(dir)?.chain(fs::read_dir(&system)?) {
        let path = entry?.path();
        if path == system || path == dir.join(MARK) {
            continue;
        }
        if path.is_dir() { fs::remove_dir_all(path)? } else { fs::remove_file(path)? }
    }
    fs::remove_dir_all(system)
}

fn upstream_options(upstream: &Upstream) -> anyhow::Result<UpstreamOptions> {
    let cdn = Url::parse(&upstream.cdn_url())?;
    let host = format!("{}:{}", cdn.host_str().unwrap_or_default(), cdn.port().unwrap_or(80));
    Ok(UpstreamOptions {
        api_url: Url::parse(&upstream.api_url())?,
        rewrite: vec![format!("https://ghcr.io={}", upstream.registry_url()).parse()?],
        allow_host: vec![host.parse()?],
        // It is our own machine that is asked.
        requests_per_second: 10_000,
    })
}

fn describe(letter: &Letter) -> String {
    let failure = &letter.letter.failure;
    match &letter.letter.message {
        Some(message) => format!("{} {:?}: {}", message.formula, message.tags, failure.detail),
        None => failure.detail.clone(),
    }
}

/// Every bottle of upstream but the dead ones is there, to the byte; how many
/// are, and which are not.
fn compare(dir: &Path, upstream: &Upstream, letters: &[Letter]) -> (usize, Vec<String>) {
    let dead: Vec<_> =
        letters.iter().filter_map(|letter| Some(letter.letter.message.as_ref()?.key().to_string())).collect();
    let mut compared = 0;
    let mut surprises = Vec::new();
    // One key may stand for two tags.
    let bottles: BTreeMap<_, _> =
        upstream.expected().into_iter().map(|bottle| (bottle.key.clone(), bottle)).collect();
    for bottle in bottles.into_values() {
        let path = dir.join(&bottle.key);
        if dead.contains(&bottle.key) {
            if path.exists() {
                surprises.push(format!("{} was given up on, but is in the mirror", bottle.key));
            }
            continue;
        }
        match fs::read(&path) {
            Ok(bytes) if Digest::of(&bytes).to_string() == bottle.digest => compared += 1,
            Ok(_) => surprises.push(format!("{} has other bytes than upstream's", bottle.key)),
            Err(error) => surprises.push(format!("{} can't be read: {error}", bottle.key)),
        }
    }
    (compared, surprises)
}

fn check(first: &Report, second: &Report, letters: &[Letter]) -> Vec<String> {
    let mut surprises = Vec::new();
    let mut reasons: Vec<_> = letters.iter().map(|letter| letter.letter.failure.reason).collect();
    reasons.sort();
    if reasons != [Reason::NotFound, Reason::WrongDigest] {
        surprises.push(format!("the dead letters are {reasons:?}, not the two that were planted"));
    }
    if first.remaining > 0 || !first.plan.problems.is_empty() {
        surprises.push("the first sync left something undone".to_owned());
    }
    if second.plan.total().bottles > 0 || second.received_bytes > 0 {
        surprises.push("the second sync found something to do".to_owned());
    }
    surprises
}

fn conclude(dir: &Path, compared: usize, surprises: &[String], started: Instant) {
    let dir = dir.display();
    if surprises.is_empty() {
        line(format_args!(
            "\n4. {} compared with upstream's byte for byte: all equal. The two bad ones are in the\n   dead-letter queue, and no byte of them is in the mirror. {:.1} s in all.\n",
            counted(compared as u64, "bottle"),
            started.elapsed().as_secs_f64()
        ));
    } else {
        line("\n4. This did not go as planned:");
        for surprise in surprises {
            line(format_args!("   {surprise}"));
        }
        line("");
    }
    // As it was called: `bottles`, or where cargo put it.
    let bottles = std::env::args().next().unwrap_or_else(|| "bottles".to_owned());
    line(format_args!(
        "Try next:\n  {bottles} status --to {dir}\n  {bottles} dead-letters list --to {dir}\n\
         And on the real upstream:\n  {bottles} plan --formula wget --tag x86_64_linux\n  \
         {bottles} sync --to mirror --formula wget --tag x86_64_linux"
    ));
}
