//! The options of `bottles sync`.

use clap::Args;

use super::{PipelineOptions, PlaceOptions, SelectionOptions, UpstreamOptions};

#[derive(Args)]
pub(crate) struct SyncOptions {
    /// Print one JSON object at the end, and no progress
    #[arg(long)]
    pub(crate) json: bool,

    #[command(flatten)]
    pub(crate) place: PlaceOptions,

    #[command(flatten)]
    pub(crate) selection: SelectionOptions,

    #[command(flatten)]
    pub(crate) upstream: UpstreamOptions,

    #[command(flatten)]
    pub(crate) pipeline: PipelineOptions,
}
