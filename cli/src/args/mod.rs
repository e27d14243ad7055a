//! The command line, and the environment variables behind it.

mod airgap;
mod dead_letters;
mod demo;
mod env;
mod hashes;
mod plan;
mod publish;
mod retire;
mod run;
mod serve;
mod shared;
mod status;
mod sync;
mod verify;

use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{CommandFactory, Parser, Subcommand};
use common::config;
use common::telemetry::LogFormat;

pub(crate) use airgap::{ExportOptions, ImportOptions};
pub(crate) use dead_letters::{DeadLettersOptions, DeadLettersVerb, ReplayOptions};
pub(crate) use demo::DemoOptions;
pub(crate) use env::EnvOptions;
pub(crate) use hashes::{ExportHashesOptions, ImportHashesOptions};
pub(crate) use plan::PlanOptions;
pub(crate) use publish::PublishOptions;
pub(crate) use retire::RetireOptions;
pub(crate) use run::RunOptions;
pub(crate) use serve::ServeOptions;
pub(crate) use shared::{
    FunctionOption, LaneOption, PipelineOptions, PlaceOptions, QueueOptions, SelectionOptions,
    ServiceOptions, StackOption, StoreOption, TargetOptions, UpstreamOptions,
};
pub(crate) use status::StatusOptions;
pub(crate) use sync::SyncOptions;
pub(crate) use verify::VerifyOptions;

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
                          3 done, but something needs attention: dead letters, files that wait or are held \
                          back, a retirement that waits for somebody to look, entries that were skipped, a \
                          mirror that is not sound.";

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
            include_str!("../../../README.md"),
            include_str!("../../../docs/architecture.md"),
            include_str!("../../../docs/serving.md"),
            include_str!("../../../docs/air-gap.md"),
            include_str!("../../../docs/deploying.md"),
            include_str!("../../../docs/operating.md"),
            include_str!("../../../docs/troubleshooting.md"),
            include_str!("../../../docs/upgrading.md"),
        ] {
            for line in shown(document) {
                let parsed = Cli::try_parse_from(line.split_whitespace());
                assert!(
                    parsed.is_ok(),
                    "{line}: {}",
                    parsed.err().map(|error| error.to_string()).unwrap_or_default()
                );
                seen += 1;
            }
        }
        assert!(seen > 50, "{seen}");
    }

    /// The command lines in a document's blocks of code.
    fn shown(document: &str) -> Vec<&str> {
        let mut is_code = false;
        let mut lines = Vec::new();
        for line in document.lines().map(str::trim) {
            if line.starts_with("```") {
                is_code = !is_code;
            } else if is_code && line.starts_with("bottles ") {
                lines.push(line);
            }
        }
        lines
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
