//! `bottles dead-letters`: look, replay, drop.

use common::dead_letter::{Deed, Desk, Failure, GoneThrough, Letter};
use common::message::Lane;
use common::selection;
use serde::Serialize;

use crate::args::{DeadLettersOptions, DeadLettersVerb, ReplayOptions};
use crate::deployed::{self, Named, Target};
use crate::output::{self, Exit, Usage, counted, line};

#[derive(Serialize)]
struct Answer<'a> {
    /// The verb: `list`, `replay` or `drop`.
    verb: &'static str,
    letters: Vec<Row<'a>>,
    /// Dead letters that are left.
    remaining: u64,
}

#[derive(Serialize)]
struct Row<'a> {
    lane: Lane,
    formula: Option<&'a str>,
    image_tag: Option<&'a str>,
    tags: Vec<String>,
    digest: Option<String>,
    size: Option<u64>,
    #[serde(flatten)]
    failure: &'a Failure,
    /// The message itself, where it can't be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    body: Option<&'a str>,
}

pub(crate) async fn run(options: DeadLettersOptions) -> anyhow::Result<Exit> {
    let (verb, deed, options, pace) = match options.verb {
        DeadLettersVerb::List(options) => ("list", Deed::Look, options, None),
        DeadLettersVerb::Replay(ReplayOptions { per_second, letters }) => {
            ("replay", Deed::Replay, letters, Some(per_second))
        }
        DeadLettersVerb::Drop(options) => ("drop", Deed::Drop, options, None),
    };
    let formulae = selection::globs(&options.formula).map_err(|error| Usage(error.to_string()))?;
    let named = Named::of(&options.target);
    let target = deployed::open(&options.target.place, named).await?;
    let chosen = |letter: &Letter| {
        let by_reason = options.reason.is_empty() || options.reason.contains(&letter.letter.failure.reason);
        let by_name = options.formula.is_empty()
            || letter
                .letter
                .message
                .as_ref()
                .is_some_and(|message| selection::matches(&formulae, &message.formula));
        by_reason && by_name
    };
    // On queues of this machine there is nobody to be hurried.
    let pace = pace.filter(|_| target.is_deployed);
    let GoneThrough { letters, left: remaining } =
        Desk { pace, ..target.pipeline.desk() }.go_through(deed, chosen).await?;
    if options.json {
        output::json(&Answer { verb, letters: letters.iter().map(row).collect(), remaining })?;
    } else {
        describe(deed, &letters, remaining, &target);
    }
    Ok(if remaining > 0 { Exit::Attention } else { Exit::Done })
}

fn row(letter: &Letter) -> Row<'_> {
    let message = letter.letter.message.as_ref();
    Row {
        lane: letter.lane,
        formula: message.map(|message| message.formula.as_str()),
        image_tag: message.map(|message| message.image_tag.as_str()),
        tags: message.iter().flat_map(|message| message.tags.iter().map(ToString::to_string)).collect(),
        digest: message.map(|message| message.digest.to_string()),
        size: message.map(|message| message.size),
        failure: &letter.letter.failure,
        body: message.is_none().then_some(letter.letter.body.as_str()),
    }
}

fn describe(deed: Deed, letters: &[Letter], remaining: u64, target: &Target) {
    for letter in letters {
        let failure = &letter.letter.failure;
        let what = match &letter.letter.message {
            Some(message) => {
                let tags: Vec<_> = message.tags.iter().map(ToString::to_string).collect();
                format!("{} {} {}", message.formula, message.image_tag, tags.join(","))
            }
            None => format!("a message of {} bytes", letter.letter.body.len()),
        };
        line(format_args!(
            "{what}\n  {} on the {} queue{}, {:.0}\n  {}",
            failure.reason,
            letter.lane,
            match failure.attempts {
                0 => String::new(),
                attempts => format!(", after {}", counted(u64::from(attempts), "attempt")),
            },
            failure.at,
            failure.detail
        ));
    }
    let count = counted(letters.len() as u64, "dead letter");
    match deed {
        Deed::Look if remaining == 0 => line("There are no dead letters."),
        Deed::Look => line(format_args!("{count} of {remaining}")),
        Deed::Replay if target.is_deployed => {
            line(format_args!(
                "{count} sent back, {remaining} left; `bottles status {} --watch` shows how they fare",
                target.named
            ));
        }
        Deed::Replay => {
            line(format_args!(
                "{count} sent back, {remaining} left; `bottles sync {}` tries again",
                target.named
            ));
        }
        Deed::Drop if target.is_deployed => {
            line(format_args!("{count} dropped, {remaining} left; the next run plans their bottles anew"));
        }
        Deed::Drop => {
            line(format_args!("{count} dropped, {remaining} left; the next sync plans their bottles anew"));
        }
    }
}
