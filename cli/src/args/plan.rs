//! The options of `bottles plan`.

use clap::Args;

use super::{FunctionOption, LaneOption, PlaceOptions, SelectionOptions, StackOption, UpstreamOptions};

#[derive(Args)]
pub(crate) struct PlanOptions {
    #[command(flatten)]
    pub(crate) lane: LaneOption,

    /// Don't read the image indexes: count bottles, but not bytes
    #[arg(long)]
    pub(crate) no_sizes: bool,

    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,

    #[command(flatten)]
    pub(crate) place: PlaceOptions,

    #[command(flatten)]
    pub(crate) stack: StackOption,

    #[command(flatten)]
    pub(crate) function: FunctionOption,

    #[command(flatten)]
    pub(crate) selection: SelectionOptions,

    #[command(flatten)]
    pub(crate) upstream: UpstreamOptions,
}
