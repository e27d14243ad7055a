//! The options of `bottles retire`.

use clap::Args;

use super::TargetOptions;

#[derive(Args)]
pub(crate) struct RetireOptions {
    /// Show what would be tagged and what is, with the days on which it expires, and change nothing
    #[arg(long, conflicts_with = "at_most")]
    pub(crate) dry_run: bool,

    /// Tag up to so many bottles though they are a large part of the mirror
    #[arg(long, value_name = "N")]
    pub(crate) at_most: Option<u64>,

    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,

    #[command(flatten)]
    pub(crate) target: TargetOptions,
}
