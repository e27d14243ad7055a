//! The options of `bottles env`.

use clap::Args;

use crate::env::{Layout, Shell};

#[derive(Args)]
pub(crate) struct EnvOptions {
    /// Where clients reach the mirror: http or https, with a path if it is below one
    // As text: what is wrong with it is said without it, for it may hold a password.
    #[arg(long, value_name = "URL")]
    pub(crate) url: String,

    /// For which shell, or file, it is written [default: the one that `$SHELL` names, else sh]
    #[arg(long, value_name = "SHELL")]
    pub(crate) shell: Option<Shell>,

    /// How clients ask: for what ghcr.io holds, or the older way, for files at the root
    #[arg(long, value_name = "LAYOUT", default_value = "oci")]
    pub(crate) layout: Layout,
}
