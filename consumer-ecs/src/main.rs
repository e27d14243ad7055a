//! `consumer-ecs`: drains the large queue. `consumer-ecs health` tells whether
//! the one that runs is well.

use std::process::ExitCode;

use common::config::{Environment, Settings};
use common::metrics::Metrics;
use consumer_ecs::health;
use consumer_ecs::protection::Protection;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

#[tokio::main]
async fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let settings = Environment::of_process().and_then(|environment| Settings::read(&environment));
    let settings = match settings {
        Ok(settings) => settings,
        Err(error) => return refuse(&error),
    };
    match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        [] => {}
        ["health"] => return check(&settings),
        _ => return refuse(&"usage: consumer-ecs [health]"),
    }
    let log = common::telemetry::init(&settings.log, settings.log_format, false, std::io::stderr);
    if let Err(error) = log {
        return refuse(&format!("{}: {error}", common::config::LOG.name));
    }
    match run(&settings).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(error = format!("{error:#}"), "stopped by a failure");
            ExitCode::FAILURE
        }
    }
}

async fn run(settings: &Settings) -> anyhow::Result<()> {
    let protection = match std::env::var("ECS_AGENT_URI") {
        Ok(agent) => Some(Protection::new(&agent)?),
        Err(_) => None,
    };
    let stop = stop_on_signals()?;
    let config = common::aws::load().await;
    let metrics = Metrics::new(&settings.environment, std::io::stdout());
    consumer_ecs::run(settings, &config, protection, metrics, &stop).await
}

/// Fires on SIGTERM, which ECS sends before it kills, and on SIGINT.
fn stop_on_signals() -> anyhow::Result<CancellationToken> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let token = CancellationToken::new();
    let fired = token.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::info!("told to stop: receiving no more");
        fired.cancel();
    });
    Ok(token)
}

fn check(settings: &Settings) -> ExitCode {
    let Some(file) = &settings.health_file else {
        return refuse(&format!("{} is not set", common::config::HEALTH_FILE.name));
    };
    match health::check(file) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            say(&why);
            ExitCode::FAILURE
        }
    }
}

fn refuse(why: &dyn std::fmt::Display) -> ExitCode {
    say(why);
    ExitCode::from(2)
}

#[expect(clippy::print_stderr, reason = "before logging is set up, or instead of it")]
fn say(what: &dyn std::fmt::Display) {
    eprintln!("consumer-ecs: {what}");
}
