//! The options of `bottles demo`.

use std::path::PathBuf;

use clap::Args;

#[derive(Args)]
pub(crate) struct DemoOptions {
    /// Where the demo's mirror goes; one of an earlier demo is replaced
    #[arg(long, value_name = "PATH", default_value = "bottles-demo")]
    pub(crate) dir: PathBuf,

    /// Print one JSON object instead
    #[arg(long)]
    pub(crate) json: bool,
}
