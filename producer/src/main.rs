//! `producer`: plans, settles, and passes alarms on.

use anyhow::Context as _;
use common::config::{Environment, Settings};
use common::metrics::Metrics;
use futures_util::FutureExt as _;
use lambda_runtime::{LambdaEvent, service_fn};
use producer::Producer;
use serde_json::Value;
use tracing::Instrument as _;

#[tokio::main]
async fn main() -> Result<(), lambda_runtime::Error> {
    let producer = &start().await.map_err(|error| format!("{error:#}"))?;
    let handler = service_fn(move |event: LambdaEvent<Value>| async move {
        let deadline = common::clock::instant(event.context.deadline);
        let span = tracing::error_span!("invocation", request.id = event.context.request_id);
        let handled = async {
            producer.handle(event.payload, deadline).boxed().await.map_err(|error| {
                tracing::error!(%error, "the invocation failed");
                lambda_runtime::Error::from(error)
            })
        };
        handled.instrument(span).await
    });
    lambda_runtime::run(handler).await
}

async fn start() -> anyhow::Result<Producer> {
    let settings = Settings::read(&Environment::of_process()?)?;
    common::telemetry::init(&settings.log, settings.log_format, false, std::io::stderr)
        .context(common::config::LOG.name)?;
    let config = common::aws::load().await;
    let metrics = Metrics::new(&settings.environment, std::io::stdout());
    Ok(Producer::new(settings, config, metrics)?)
}
