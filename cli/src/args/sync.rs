//! The options of `bottles sync`.

use clap::Args;

use super::{PipelineOptions, PlaceOptions, SelectionOptions, UpstreamOptions};

#[derive(Args)]
pub(crate) struct SyncOptions {
    /// Only fetch what the selection asks for: nothing is published or retired by it
    #[arg(long)]
    pub(crate) partial: bool,

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
