//! The options of `bottles export` and `bottles import`.

use std::path::PathBuf;

use clap::Args;
use common::airgap::Since;
use common::size::ByteSize;

use super::{PlaceOptions, StoreOption};
use crate::destination::Destination;

#[derive(Args)]
pub(crate) struct ExportOptions {
    /// The mirror: a folder, `s3://BUCKET` or `s3://BUCKET/PREFIX`
    #[arg(long, value_name = "PLACE")]
    pub(crate) from: Destination,

    /// Carry what became new after this: `start`, a date (2026-11-01), a time
    /// (2026-11-01T06:00:00Z), or a run
    #[arg(long, value_name = "RUN|DATE", default_value = "start")]
    pub(crate) since: Since,

    /// The bundle: a file that ends in .tar.zst; or a folder, with a slash at its end
    #[arg(long, value_name = "FILE|DIR")]
    pub(crate) to: PathBuf,

    /// Cut it into volumes of at most this size, in a folder
    #[arg(long, value_name = "SIZE", value_parser = volume)]
    pub(crate) split: Option<ByteSize>,

    /// Print one JSON object at the end, and no progress
    #[arg(long)]
    pub(crate) json: bool,

    #[command(flatten)]
    pub(crate) store: StoreOption,
}

#[derive(Args)]
pub(crate) struct ImportOptions {
    /// The bundle: a file, or the folder of its volumes
    #[arg(value_name = "FILE|DIR")]
    pub(crate) bundle: PathBuf,

    /// Go once more through bundles that were imported before, for bottles and
    /// indexes that have been lost or damaged since
    #[arg(long)]
    pub(crate) again: bool,

    /// Print one JSON object at the end, and no progress
    #[arg(long)]
    pub(crate) json: bool,

    #[command(flatten)]
    pub(crate) place: PlaceOptions,
}

/// Smaller volumes would be headers more than anything else.
const LEAST_VOLUME: u64 = 64 << 10;

fn volume(text: &str) -> Result<ByteSize, String> {
    let size: ByteSize = text.parse().map_err(|error| format!("{error}"))?;
    if size.0 < LEAST_VOLUME {
        return Err(format!("at least {}KiB are needed", LEAST_VOLUME >> 10));
    }
    Ok(size)
}
