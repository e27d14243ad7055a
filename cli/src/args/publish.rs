//! The options of `bottles publish`.

use clap::Args;
use common::bottle::BottleTag;

use super::TargetOptions;

#[derive(Args)]
#[command(group = clap::ArgGroup::new("order").args(["despite_dead", "rollback", "resume"]))]
#[expect(clippy::struct_excessive_bools, reason = "each is a switch of its own on the command line")]
pub(crate) struct PublishOptions {
    /// Publish what waits now, though some of its bottles were given up on
    #[arg(long)]
    pub(crate) despite_dead: bool,

    /// Put back what clients read before, and publish nothing until --resume
    #[arg(long)]
    pub(crate) rollback: bool,

    /// Publish again what becomes complete
    #[arg(long)]
    pub(crate) resume: bool,

    /// For clients on this platform only; may be repeated
    #[arg(long, value_name = "TAG", requires = "order", conflicts_with = "resume")]
    pub(crate) tag: Vec<BottleTag>,

    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,

    #[command(flatten)]
    pub(crate) target: TargetOptions,
}
