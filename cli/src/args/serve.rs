//! The options of `bottles serve`.

use std::net::SocketAddr;

use clap::Args;

use super::StoreOption;
use crate::destination::Destination;

#[derive(Args)]
pub(crate) struct ServeOptions {
    /// The mirror: a folder, `s3://BUCKET` or `s3://BUCKET/PREFIX`
    #[arg(value_name = "PLACE")]
    pub(crate) place: Destination,

    /// Where to listen, such as `0.0.0.0:8080` or `[::1]:8080`; port 0 takes a free one
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:8080")]
    pub(crate) listen: SocketAddr,

    /// Print no access log
    #[arg(long)]
    pub(crate) quiet: bool,

    #[command(flatten)]
    pub(crate) store: StoreOption,
}
