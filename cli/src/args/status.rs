//! The options of `bottles status`.

use clap::Args;

use super::{ServiceOptions, TargetOptions};

#[derive(Args)]
pub(crate) struct StatusOptions {
    /// Look again every few seconds, until nothing is on its way
    #[arg(long)]
    pub(crate) watch: bool,

    /// How long to wait between two looks, in seconds
    #[arg(long, value_name = "SECONDS", default_value = "5", requires = "watch", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) every: u64,

    /// Print one JSON object; with --watch, one a line
    #[arg(long)]
    pub(crate) json: bool,

    #[command(flatten)]
    pub(crate) target: TargetOptions,

    #[command(flatten)]
    pub(crate) service: ServiceOptions,
}
