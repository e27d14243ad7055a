//! The options of `bottles dead-letters`.

use clap::{Args, Subcommand};
use common::dead_letter::Reason;

use super::TargetOptions;

#[derive(Args)]
pub(crate) struct DeadLettersOptions {
    #[command(subcommand)]
    pub(crate) verb: DeadLettersVerb,
}

#[derive(Subcommand)]
pub(crate) enum DeadLettersVerb {
    /// Show each: why, how often it was tried, and when
    List(LetterOptions),
    /// Send them back to their queue: the next sync, or a deployed system at once, tries them again
    Replay(ReplayOptions),
    /// Throw them away: the next sync plans their bottles anew
    Drop(LetterOptions),
}

#[derive(Args)]
pub(crate) struct ReplayOptions {
    /// Send back no more than so many a second
    #[arg(long, value_name = "N", default_value = "50", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) per_second: u32,

    #[command(flatten)]
    pub(crate) letters: LetterOptions,
}

#[derive(Args)]
pub(crate) struct LetterOptions {
    /// Only those of these formulae, by name or glob; may be repeated
    #[arg(long, value_name = "GLOB")]
    pub(crate) formula: Vec<String>,

    /// Only those with this reason; may be repeated
    #[arg(long, value_name = "KIND")]
    pub(crate) reason: Vec<Reason>,

    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,

    #[command(flatten)]
    pub(crate) target: TargetOptions,
}
