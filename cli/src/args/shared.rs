//! Options that several verbs have.

use std::path::PathBuf;

use clap::Args;
use clap::builder::RangedI64ValueParser;
use common::bottle::BottleTag;
use common::clock::Grace;
use common::config;
use common::registry::{AllowedHost, Rewrite};
use common::size::ByteSize;
use url::Url;

use crate::destination::Destination;

/// What of upstream is wanted.
#[derive(Args, Clone, Default)]
#[command(next_help_heading = "Selection")]
pub(crate) struct SelectionOptions {
    /// A TOML file that says which bottles to keep; everything where absent
    #[arg(long, value_name = "FILE", env = config::SELECTION.name)]
    pub(crate) selection: Option<PathBuf>,

    /// Keep these formulae only, by name or glob; may be repeated
    #[arg(long, value_name = "GLOB")]
    pub(crate) formula: Vec<String>,

    /// Keep what clients on this platform need; may be repeated
    #[arg(long, value_name = "TAG")]
    pub(crate) tag: Vec<BottleTag>,

    /// Leave out the runtime dependencies of the formulae
    #[arg(long)]
    pub(crate) no_dependencies: bool,
}

/// How upstream is reached.
#[derive(Args, Clone)]
#[command(next_help_heading = "Upstream")]
pub(crate) struct UpstreamOptions {
    /// The folder of the API files
    #[arg(long, value_name = "URL", env = config::API_URL.name, default_value = config::API_URL.default)]
    pub(crate) api_url: Url,

    /// Send requests for one origin to another; may be repeated
    #[arg(long, value_name = "FROM=TO", env = config::REWRITE.name, value_delimiter = ',')]
    pub(crate) rewrite: Vec<Rewrite>,

    /// Allow another host, over plain HTTP too; may be repeated
    #[arg(long, value_name = "HOST[:PORT]", env = config::ALLOW_HOST.name, value_delimiter = ',')]
    pub(crate) allow_host: Vec<AllowedHost>,

    /// The limit on requests, all transfers together
    #[arg(long, value_name = "N", env = config::REQUESTS_PER_SECOND.name, default_value = config::REQUESTS_PER_SECOND.default,
          value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) requests_per_second: u32,
}

/// Where a mirror is.
#[derive(Args, Clone, Default)]
#[command(next_help_heading = "Mirror")]
pub(crate) struct PlaceOptions {
    /// The mirror: a folder, `s3://BUCKET` or `s3://BUCKET/PREFIX`
    #[arg(long, value_name = "PLACE", env = config::TO.name)]
    pub(crate) to: Option<Destination>,

    /// Where the queue of a mirror in a bucket is kept on this machine
    #[arg(long, value_name = "DIR", env = config::STATE.name)]
    pub(crate) state: Option<PathBuf>,

    #[command(flatten)]
    pub(crate) store: StoreOption,

    // No default of clap's: a deployed system may have its own.
    #[arg(long, value_name = "DAYS", env = config::EXPIRE_AFTER.name, help = format!(
        "What upstream dropped is kept for this long [default: what the stack says, else {}]",
        config::EXPIRE_AFTER.default
    ))]
    pub(crate) expire_after: Option<Grace>,
}

/// How the store of a mirror in a bucket is reached.
// No heading of its own: where it is all that is said of the place, it needs none.
#[derive(Args, Clone, Default)]
pub(crate) struct StoreOption {
    /// A store that speaks as S3 does
    #[arg(long, value_name = "URL", env = config::S3_ENDPOINT.name)]
    pub(crate) s3_endpoint: Option<Url>,
}

/// Which deployed system is meant, by its name.
#[derive(Args, Clone, Default)]
#[command(next_help_heading = "Deployed system")]
pub(crate) struct StackOption {
    /// The deployment's name: its bucket, queues and functions are looked up
    #[arg(long, value_name = "NAME", env = config::ENVIRONMENT.name)]
    pub(crate) stack: Option<String>,
}

/// The function of a deployed system that plans.
#[derive(Args, Clone, Default)]
#[command(next_help_heading = "Deployed system")]
pub(crate) struct FunctionOption {
    /// The function that plans, instead of what the stack names
    #[arg(long, value_name = "FUNCTION", env = config::PRODUCER.name)]
    pub(crate) producer: Option<String>,
}

/// The queues of a deployed system.
#[derive(Args, Clone, Default)]
#[command(next_help_heading = "Deployed system")]
pub(crate) struct QueueOptions {
    /// The small queue, instead of what the stack names
    #[arg(long, value_name = "URL", env = config::SMALL_QUEUE.name)]
    pub(crate) small_queue: Option<String>,

    /// Its dead-letter queue
    #[arg(long, value_name = "URL", env = config::SMALL_DEAD_LETTERS.name)]
    pub(crate) small_dead_letters: Option<String>,

    /// The large queue
    #[arg(long, value_name = "URL", env = config::LARGE_QUEUE.name)]
    pub(crate) large_queue: Option<String>,

    /// Its dead-letter queue
    #[arg(long, value_name = "URL", env = config::LARGE_DEAD_LETTERS.name)]
    pub(crate) large_dead_letters: Option<String>,
}

/// The service of a deployed system that drains the large queue.
#[derive(Args, Clone, Default)]
#[command(next_help_heading = "Deployed system")]
pub(crate) struct ServiceOptions {
    /// The cluster of the service that drains the large queue
    #[arg(long, value_name = "CLUSTER", env = config::ECS_CLUSTER.name)]
    pub(crate) ecs_cluster: Option<String>,

    /// The service
    #[arg(long, value_name = "SERVICE", env = config::ECS_SERVICE.name)]
    pub(crate) ecs_service: Option<String>,
}

/// A mirror to look at or to work on, with embedded queues or deployed.
#[derive(Args, Clone, Default)]
pub(crate) struct TargetOptions {
    #[command(flatten)]
    pub(crate) place: PlaceOptions,

    #[command(flatten)]
    pub(crate) stack: StackOption,

    #[command(flatten)]
    pub(crate) queues: QueueOptions,
}

/// Which queue a bottle goes to.
#[derive(Args, Clone)]
pub(crate) struct LaneOption {
    /// Larger bottles go to the large queue
    #[arg(long, value_name = "SIZE", env = config::SIZE_THRESHOLD.name, default_value = config::SIZE_THRESHOLD.default)]
    pub(crate) size_threshold: ByteSize,
}

/// How the work is spread.
#[derive(Args, Clone)]
#[command(next_help_heading = "Transfers")]
pub(crate) struct PipelineOptions {
    #[command(flatten)]
    pub(crate) lane: LaneOption,

    /// Small bottles on their way at once; of the large ones a quarter as many
    #[arg(long, value_name = "N", env = config::CONCURRENCY.name, default_value = config::CONCURRENCY.default,
          value_parser = concurrency())]
    pub(crate) concurrency: u16,

    /// How much of bottles may be in memory at once
    #[arg(long, value_name = "SIZE", env = config::MEMORY.name, default_value = config::MEMORY.default, value_parser = memory)]
    pub(crate) memory: ByteSize,
}

/// What `--concurrency` takes. The option is each verb's own, since what it counts
/// differs.
pub(super) fn concurrency() -> RangedI64ValueParser<u16> {
    clap::value_parser!(u16).range(1..=1024)
}

/// Two parts, so that one can be written while the next one comes.
const LEAST_MEMORY: u64 = 2 * common::mirror::PART_SIZE;

fn memory(text: &str) -> Result<ByteSize, String> {
    let size: ByteSize = text.parse().map_err(|error| format!("{error}"))?;
    if size.0 < LEAST_MEMORY {
        return Err(format!("at least {}MiB are needed", LEAST_MEMORY >> 20));
    }
    Ok(size)
}
