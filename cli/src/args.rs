//! The command line, and the environment variables behind it.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{Args, CommandFactory, Parser, Subcommand};
use common::airgap::Since;
use common::bottle::BottleTag;
use common::clock::Grace;
use common::config;
use common::dead_letter::Reason;
use common::registry::{AllowedHost, Rewrite};
use common::size::ByteSize;
use common::telemetry::LogFormat;
use common::verify::Sample;
use url::Url;

use crate::destination::Destination;
use crate::env::{Layout, Shell};
use crate::source::Source;

/// A private copy of Homebrew's bottles that `brew` installs from.
#[derive(Parser)]
#[command(name = "bottles", version, after_help = EXIT_CODES)]
struct Cli {
    #[command(subcommand)]
    command: Command,

    /// What is logged to standard error: error, warn, info, debug, or a filter
    /// such as `common::worker=debug` [default: warn; error in the demo]
    #[arg(long, global = true, value_name = "FILTER", env = config::LOG.name, help_heading = "Logging")]
    log: Option<String>,

    /// How it is logged: text, or json
    #[arg(long, global = true, value_name = "FORMAT", env = config::LOG_FORMAT.name, default_value = config::LOG_FORMAT.default, help_heading = "Logging")]
    log_format: LogFormat,
}

const EXIT_CODES: &str = "Exit codes: 0 done; 1 failed; 2 the command line or the configuration is wrong; \
                          3 done, but something needs attention: dead letters, files that wait, entries that \
                          were skipped, a mirror that is not sound.";

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Show the whole pipeline at work, against a look-alike of upstream on this machine
    Demo(DemoOptions),
    /// Show what a sync would fetch, and change nothing
    Plan(PlanOptions),
    /// Bring a mirror up to date
    Sync(SyncOptions),
    /// Have a deployed system plan a run now
    Run(RunOptions),
    /// Show what a mirror holds, its last run, its queues and its dead letters
    Status(StatusOptions),
    /// Write what is new in a mirror into a bundle, to be carried across an air gap
    Export(ExportOptions),
    /// Apply a bundle to the mirror behind the gap
    Import(ImportOptions),
    /// Look at the bottles that were given up on, send them back, or throw them away
    DeadLetters(DeadLettersOptions),
    /// Show which API files clients read and which wait; publish them all the same, or put the
    /// previous ones back
    Publish(PublishOptions),
    /// Tag what upstream dropped, to expire after a grace
    Retire(RetireOptions),
    /// Compare what a mirror really holds with what it says it holds, and repair it
    Verify(VerifyOptions),
    /// Serve a mirror over HTTP, for brew to install from
    Serve(ServeOptions),
    /// Print what a client of a mirror exports
    Env(EnvOptions),
    /// Take over what the Python system mirrored, without downloading it again
    ImportHashes(ImportHashesOptions),
    /// Write what a mirror holds in the Python system's words
    ExportHashes(ExportHashesOptions),
}

#[derive(Args)]
pub(crate) struct DemoOptions {
    /// Where the demo's mirror goes; one of an earlier demo is replaced
    #[arg(long, value_name = "PATH", default_value = "bottles-demo")]
    pub(crate) dir: PathBuf,

    /// Print one JSON object instead
    #[arg(long)]
    pub(crate) json: bool,
}

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

    /// A store that speaks as S3 does
    #[arg(long, value_name = "URL", env = config::S3_ENDPOINT.name)]
    pub(crate) s3_endpoint: Option<Url>,

    /// What upstream dropped is kept for this long
    #[arg(long, value_name = "DAYS", env = config::EXPIRE_AFTER.name, default_value = config::EXPIRE_AFTER.default)]
    pub(crate) expire_after: Grace,
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

#[derive(Args)]
pub(crate) struct PlanOptions {
    /// Larger bottles go to the large queue
    #[arg(long, value_name = "SIZE", env = config::SIZE_THRESHOLD.name, default_value = config::SIZE_THRESHOLD.default)]
    pub(crate) size_threshold: ByteSize,

    /// Don't read the image indexes: count bottles, but not bytes
    #[arg(long)]
    pub(crate) no_sizes: bool,

    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,

    #[command(flatten)]
    pub(crate) place: PlaceOptions,

    #[command(flatten)]
    pub(crate) stack: StackOption,

    #[command(flatten)]
    pub(crate) function: FunctionOption,

    #[command(flatten)]
    pub(crate) selection: SelectionOptions,

    #[command(flatten)]
    pub(crate) upstream: UpstreamOptions,
}

#[derive(Args)]
pub(crate) struct SyncOptions {
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

/// How the work is spread.
#[derive(Args, Clone)]
#[command(next_help_heading = "Transfers")]
pub(crate) struct PipelineOptions {
    /// Larger bottles go to the large queue
    #[arg(long, value_name = "SIZE", env = config::SIZE_THRESHOLD.name, default_value = config::SIZE_THRESHOLD.default)]
    pub(crate) size_threshold: ByteSize,

    /// Small bottles on their way at once; of the large ones a quarter as many
    #[arg(long, value_name = "N", env = config::CONCURRENCY.name, default_value = config::CONCURRENCY.default,
          value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub(crate) concurrency: u16,

    /// How much of bottles may be in memory at once
    #[arg(long, value_name = "SIZE", env = config::MEMORY.name, default_value = config::MEMORY.default, value_parser = memory)]
    pub(crate) memory: ByteSize,
}

#[derive(Args)]
pub(crate) struct StatusOptions {
    /// Look again every few seconds, until nothing is on its way
    #[arg(long)]
    pub(crate) watch: bool,

    /// How long to wait between two looks, in seconds
    #[arg(long, value_name = "SECONDS", default_value = "5", requires = "watch", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) every: u64,

    /// Print one JSON object; with --watch, one a line
    #[arg(long)]
    pub(crate) json: bool,

    #[command(flatten)]
    pub(crate) place: PlaceOptions,

    #[command(flatten)]
    pub(crate) stack: StackOption,

    #[command(flatten)]
    pub(crate) queues: QueueOptions,

    #[command(flatten)]
    pub(crate) service: ServiceOptions,
}

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

    /// A store that speaks as S3 does
    #[arg(long, value_name = "URL", env = config::S3_ENDPOINT.name)]
    pub(crate) s3_endpoint: Option<Url>,
}

#[derive(Args)]
pub(crate) struct ImportOptions {
    /// The bundle: a file, or the folder of its volumes
    #[arg(value_name = "FILE|DIR")]
    pub(crate) bundle: PathBuf,

    /// Go once more through a bundle that was imported before, for bottles that
    /// have been lost or damaged since
    #[arg(long)]
    pub(crate) again: bool,

    /// Print one JSON object at the end, and no progress
    #[arg(long)]
    pub(crate) json: bool,

    #[command(flatten)]
    pub(crate) place: PlaceOptions,
}

#[derive(Args)]
pub(crate) struct DeadLettersOptions {
    #[command(subcommand)]
    pub(crate) verb: DeadLettersVerb,
}

#[derive(Subcommand)]
pub(crate) enum DeadLettersVerb {
    /// Show each: why, how often it was tried, and when
    List(LetterOptions),
    /// Send them back to their queue: the next sync, or a deployed system at once, tries them again
    Replay(ReplayOptions),
    /// Throw them away: the next sync plans their bottles anew
    Drop(LetterOptions),
}

#[derive(Args)]
pub(crate) struct ReplayOptions {
    /// Send back no more than so many a second
    #[arg(long, value_name = "N", default_value = "50", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) per_second: u32,

    #[command(flatten)]
    pub(crate) letters: LetterOptions,
}

#[derive(Args)]
pub(crate) struct LetterOptions {
    /// Only those of these formulae, by name or glob; may be repeated
    #[arg(long, value_name = "GLOB")]
    pub(crate) formula: Vec<String>,

    /// Only those with this reason; may be repeated
    #[arg(long, value_name = "KIND")]
    pub(crate) reason: Vec<Reason>,

    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,

    #[command(flatten)]
    pub(crate) place: PlaceOptions,

    #[command(flatten)]
    pub(crate) stack: StackOption,

    #[command(flatten)]
    pub(crate) queues: QueueOptions,
}

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
    pub(crate) place: PlaceOptions,

    #[command(flatten)]
    pub(crate) stack: StackOption,

    #[command(flatten)]
    pub(crate) queues: QueueOptions,
}

#[derive(Args)]
pub(crate) struct RetireOptions {
    /// Show what would be tagged and what is, with the days on which it expires, and change nothing
    #[arg(long, conflicts_with = "at_most")]
    pub(crate) dry_run: bool,

    /// Tag up to so many bottles though they are a large part of the mirror
    #[arg(long, value_name = "N")]
    pub(crate) at_most: Option<u64>,

    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,

    #[command(flatten)]
    pub(crate) place: PlaceOptions,

    #[command(flatten)]
    pub(crate) stack: StackOption,

    #[command(flatten)]
    pub(crate) queues: QueueOptions,
}

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

    /// Larger bottles go to the large queue
    #[arg(long, value_name = "SIZE", env = config::SIZE_THRESHOLD.name, default_value = config::SIZE_THRESHOLD.default)]
    pub(crate) size_threshold: ByteSize,

    /// How many objects are looked at at once
    #[arg(long, value_name = "N", env = config::CONCURRENCY.name, default_value = config::CONCURRENCY.default,
          value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub(crate) concurrency: u16,

    /// Print one JSON object, and no progress
    #[arg(long)]
    pub(crate) json: bool,

    #[command(flatten)]
    pub(crate) place: PlaceOptions,

    #[command(flatten)]
    pub(crate) stack: StackOption,

    #[command(flatten)]
    pub(crate) queues: QueueOptions,
}

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

    /// A store that speaks as S3 does
    #[arg(long, value_name = "URL", env = config::S3_ENDPOINT.name)]
    pub(crate) s3_endpoint: Option<Url>,
}

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

#[derive(Args)]
pub(crate) struct ImportHashesOptions {
    /// The Python system's `bottles_hash.json`: a file, `s3://BUCKET/KEY`, or a URL
    #[arg(value_name = "FILE")]
    pub(crate) file: Source,

    /// Mark bottles of these formulae as mirrored though they are nowhere in the place,
    /// by name or glob ('*' for all); may be repeated
    #[arg(long, value_name = "GLOB")]
    pub(crate) trust: Vec<String>,

    /// Look at presence and sizes alone, and change nothing
    #[arg(long)]
    pub(crate) dry_run: bool,

    /// How many bottles are read at once
    #[arg(long, value_name = "N", env = config::CONCURRENCY.name, default_value = config::CONCURRENCY.default,
          value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub(crate) concurrency: u16,

    /// Print one JSON object, with every entry that was skipped, and no progress
    #[arg(long)]
    pub(crate) json: bool,

    #[command(flatten)]
    pub(crate) place: PlaceOptions,

    #[command(flatten)]
    pub(crate) stack: StackOption,

    #[command(flatten)]
    pub(crate) queues: QueueOptions,

    #[command(flatten)]
    pub(crate) upstream: UpstreamOptions,
}

#[derive(Args)]
pub(crate) struct ExportHashesOptions {
    /// Write it to this file, whole or not at all, instead of standard output
    #[arg(long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,

    #[command(flatten)]
    pub(crate) place: PlaceOptions,

    #[command(flatten)]
    pub(crate) stack: StackOption,

    #[command(flatten)]
    pub(crate) queues: QueueOptions,
}

/// What to run, and how to log.
pub(crate) struct Invocation {
    pub(crate) command: Command,
    pub(crate) log: String,
    pub(crate) log_format: LogFormat,
}

/// Reads the command line and the environment. Help and what is wrong are
/// printed here.
pub(crate) fn parse() -> Result<Invocation, ExitCode> {
    let names = std::env::vars_os().filter_map(|(name, _)| name.into_string().ok());
    let parsed = config::check_unknown(names)
        .map_err(|error| Cli::command().error(ErrorKind::UnknownArgument, error))
        .and_then(|()| Cli::try_parse_from(std::env::args_os()));
    match parsed {
        Ok(Cli { command, log, log_format }) => {
            // The demo's bad bottles are planted; it tells of them itself.
            let quiet = matches!(command, Command::Demo(_));
            let log = log.unwrap_or_else(|| if quiet { "error" } else { config::LOG.default }.to_owned());
            Ok(Invocation { command, log, log_format })
        }
        Err(error) => {
            // A closed pipe is the reader's choice.
            let _ = error.print();
            Err(ExitCode::from(if error.use_stderr() { 2 } else { 0 }))
        }
    }
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

/// Smaller volumes would be headers more than anything else.
const LEAST_VOLUME: u64 = 64 << 10;

fn volume(text: &str) -> Result<ByteSize, String> {
    let size: ByteSize = text.parse().map_err(|error| format!("{error}"))?;
    if size.0 < LEAST_VOLUME {
        return Err(format!("at least {}KiB are needed", LEAST_VOLUME >> 10));
    }
    Ok(size)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_in_the_documents_is_one() {
        let mut seen = 0;
        for document in [
            include_str!("../../README.md"),
            include_str!("../../docs/architecture.md"),
            include_str!("../../docs/serving.md"),
            include_str!("../../docs/air-gap.md"),
        ] {
            for line in document.lines().filter(|line| line.starts_with("bottles ")) {
                let parsed = Cli::try_parse_from(line.split_whitespace());
                assert!(
                    parsed.is_ok(),
                    "{line}: {}",
                    parsed.err().map(|error| error.to_string()).unwrap_or_default()
                );
                seen += 1;
            }
        }
        assert!(seen > 5);
    }

    #[test]
    fn every_option_that_a_variable_stands_for_is_there() {
        let command = Cli::command();
        let options: Vec<_> = command
            .get_subcommands()
            .chain([&command])
            .flat_map(clap::Command::get_arguments)
            .filter_map(|argument| {
                Some((argument.get_env()?.to_str()?, format!("--{}", argument.get_long()?)))
            })
            .collect();
        for variable in config::VARIABLES.iter().filter(|variable| !variable.option.is_empty()) {
            assert!(
                options.iter().any(|(name, option)| *name == variable.name && option == variable.option),
                "{} {}",
                variable.name,
                variable.option
            );
        }
        assert!(
            options.iter().all(|(name, _)| config::VARIABLES.iter().any(|variable| variable.name == *name))
        );
    }
}
