//! The options of `bottles run`.

use clap::Args;

use super::{FunctionOption, SelectionOptions, StackOption};

#[derive(Args)]
pub(crate) struct RunOptions {
    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,

    #[command(flatten)]
    pub(crate) selection: SelectionOptions,

    #[command(flatten)]
    pub(crate) stack: StackOption,

    #[command(flatten)]
    pub(crate) function: FunctionOption,
}
