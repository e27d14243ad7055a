//! The options of `bottles import-hashes` and `bottles export-hashes`.

use std::path::PathBuf;

use clap::Args;
use common::config;

use super::shared::concurrency;
use super::{TargetOptions, UpstreamOptions};
use crate::source::Source;

#[derive(Args)]
pub(crate) struct ImportHashesOptions {
    /// The Python system's `bottles_hash.json`: a file, `s3://BUCKET/KEY`, or a URL
    #[arg(value_name = "FILE")]
    pub(crate) file: Source,

    /// Mark bottles of these formulae as mirrored though they are nowhere in the place,
    /// by name or glob ('*' for all); may be repeated
    #[arg(long, value_name = "GLOB")]
    pub(crate) trust: Vec<String>,

    /// Leave out bottles that upstream doesn't list any more, which are to be retired soon
    /// after
    #[arg(long)]
    pub(crate) listed_only: bool,

    /// Look at presence and sizes alone, and change nothing
    #[arg(long)]
    pub(crate) dry_run: bool,

    /// How many bottles are read at once
    #[arg(long, value_name = "N", env = config::CONCURRENCY.name, default_value = config::CONCURRENCY.default,
          value_parser = concurrency())]
    pub(crate) concurrency: u16,

    /// Print one JSON object, with every entry that was skipped, and no progress
    #[arg(long)]
    pub(crate) json: bool,

    #[command(flatten)]
    pub(crate) target: TargetOptions,

    #[command(flatten)]
    pub(crate) upstream: UpstreamOptions,
}

#[derive(Args)]
pub(crate) struct ExportHashesOptions {
    /// Write it to this file, whole or not at all, instead of standard output
    #[arg(long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,

    #[command(flatten)]
    pub(crate) target: TargetOptions,
}
