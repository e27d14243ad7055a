//! `consumer-lambda`: mirrors the small queue's bottles.

use anyhow::Context as _;
use aws_lambda_events::event::sqs::SqsEvent;
use common::config::{Environment, Settings};
use common::metrics::Metrics;
use consumer_lambda::Consumer;
use lambda_runtime::{LambdaEvent, service_fn};
use tracing::Instrument as _;

#[tokio::main]
async fn main() -> Result<(), lambda_runtime::Error> {
    let consumer = &start().await.map_err(|error| format!("{error:#}"))?;
    let handler = service_fn(move |event: LambdaEvent<SqsEvent>| async move {
        let deadline = common::clock::instant(event.context.deadline);
        let span = tracing::error_span!("invocation", request.id = event.context.request_id);
        let handled = async {
            consumer.handle(event.payload, deadline).await.map_err(|error| {
                tracing::error!(error = format!("{error:#}"), "the batch failed");
                format!("{error:#}")
            })
        };
        handled.instrument(span).await
    });
    lambda_runtime::run(handler).await
}

async fn start() -> anyhow::Result<Consumer> {
    let settings = Settings::read(&Environment::of_process()?)?;
    common::telemetry::init(&settings.log, settings.log_format, false, std::io::stderr)
        .context(common::config::LOG.name)?;
    let config = common::aws::load().await;
    let metrics = Metrics::new(&settings.environment, std::io::stdout());
    Consumer::new(&settings, &config, memory(), metrics)
}

/// The function's memory in bytes, as Lambda tells it.
fn memory() -> Option<u64> {
    let megabytes: u64 = std::env::var("AWS_LAMBDA_FUNCTION_MEMORY_SIZE").ok()?.parse().ok()?;
    Some(megabytes << 20)
}
