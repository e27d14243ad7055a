//! `bottles`: the operator's command of a Homebrew bottle mirror.

mod airgap;
mod args;
mod dead_letters;
mod demo;
mod deployed;
mod destination;
mod env;
mod hashes;
mod output;
mod place;
mod plan;
mod progress;
mod publish;
mod retire;
mod run;
mod serve;
mod source;
mod status;
mod stop;
mod sync;
mod verify;

use std::io::IsTerminal as _;
use std::process::ExitCode;

use args::{Command, Invocation};
use output::Exit;

fn main() -> ExitCode {
    let invocation = match args::parse() {
        Ok(invocation) => invocation,
        Err(exit) => return exit,
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return output::fail(&error.into()),
    };
    match runtime.block_on(run(invocation)) {
        Ok(exit) => exit.into(),
        Err(error) => output::fail(&error),
    }
}

async fn run(invocation: Invocation) -> anyhow::Result<Exit> {
    let Invocation { command, log, log_format } = invocation;
    common::telemetry::init(&log, log_format, std::io::stderr().is_terminal(), progress::LogWriter)
        .map_err(|error| output::Usage(format!("--log: {error}")))?;
    match command {
        Command::Demo(options) => Box::pin(demo::run(options)).await,
        Command::Plan(options) => Box::pin(plan::run(options)).await,
        Command::Sync(options) => Box::pin(sync::run(options)).await,
        Command::Run(options) => run::run(options).await,
        Command::Status(options) => status::run(options).await,
        Command::Export(options) => airgap::export(options).await,
        Command::Import(options) => airgap::import(options).await,
        Command::DeadLetters(options) => dead_letters::run(options).await,
        Command::Publish(options) => publish::run(options).await,
        Command::Retire(options) => retire::run(options).await,
        Command::Verify(options) => verify::run(options).await,
        Command::Serve(options) => serve::run(options).await,
        Command::Env(options) => env::run(&options),
        Command::ImportHashes(options) => hashes::import(options).await,
        Command::ExportHashes(options) => hashes::export(options).await,
    }
}
