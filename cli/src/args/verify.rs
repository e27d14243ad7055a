//! The options of `bottles verify`.

use clap::Args;
use common::config;
use common::verify::Sample;

use super::shared::concurrency;
use super::{LaneOption, TargetOptions};

#[derive(Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a switch of its own on the command line")]
pub(crate) struct VerifyOptions {
    /// Compare every bottle to the byte: by the store's own checksum where it keeps
    /// one, else by reading it. Without it bottles are compared by size
    #[arg(long)]
    pub(crate) deep: bool,

    /// Compare a random part of the bottles to the byte, another one each time: 5%,
    /// 0.5%. It stands for --deep
    #[arg(long, value_name = "N%")]
    pub(crate) sample: Option<Sample>,

    /// Have what is missing or damaged fetched and published again
    #[arg(long)]
    pub(crate) repair: bool,

    /// Make the manifest anew from what the mirror holds, if it is lost or damaged
    #[arg(long, conflicts_with_all = ["repair", "sample"])]
    pub(crate) rebuild_manifest: bool,

    #[command(flatten)]
    pub(crate) lane: LaneOption,

    /// How many objects are looked at at once
    #[arg(long, value_name = "N", env = config::CONCURRENCY.name, default_value = config::CONCURRENCY.default,
          value_parser = concurrency())]
    pub(crate) concurrency: u16,

    /// Print one JSON object, and no progress
    #[arg(long)]
    pub(crate) json: bool,

    #[command(flatten)]
    pub(crate) target: TargetOptions,
}
