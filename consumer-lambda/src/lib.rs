//! The function that mirrors the small queue's bottles, a batch at a time.
//!
//! What is done is reported to Lambda by its absence from the answer: Lambda
//! removes those messages. What failed, or does not fit into the time that is
//! left, is named in the answer and comes back.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use aws_lambda_events::event::sqs::{BatchItemFailure, SqsBatchResponse, SqsEvent, SqsMessage};
use common::aws::SdkConfig;
use common::config::Settings;
use common::message::Lane;
use common::metrics::Metrics;
use common::queue::{Delivery, Handle};
use common::registry::Upstream;
use common::service;
use common::worker::{Worker, WorkerSettings};
use jiff::Timestamp;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// The consumer, kept from one invocation to the next.
pub struct Consumer {
    worker: Worker,
    upstream: Arc<Upstream>,
    metrics: Metrics,
}

/// What the runtime, the SDK and the code take of a function's memory, in bytes.
const TAKEN: u64 = 96 << 20;

/// The smallest budget that is worked with, in bytes.
const LEAST_MEMORY: u64 = 16 << 20;

/// Before the function's time is up, this much is kept for the report, but no
/// more than a quarter of what was left at the start.
const KEPT_FOR_REPORT: Duration = Duration::from_secs(20);

impl Consumer {
    /// A consumer for a function of `memory` bytes.
    pub fn new(
        settings: &Settings,
        config: &SdkConfig,
        memory: Option<u64>,
        metrics: Metrics,
    ) -> anyhow::Result<Self> {
        let pipeline = service::pipeline(settings, config, &[Lane::Small])?;
        let upstream = service::upstream(settings, &[])?;
        let budget = settings.memory.unwrap_or_else(|| budget(memory));
        let mirror = pipeline.mirror(Arc::clone(&upstream), budget);
        let lane = pipeline.lanes.first().context("there is no small lane")?;
        let worker = pipeline.worker(
            lane,
            &mirror,
            WorkerSettings {
                concurrency: settings.concurrency,
                // Lambda receives, and hides messages for as long as the queue says.
                visibility: settings.visibility,
                wait: Duration::ZERO,
                most_receives: settings.most_receives,
                redelivery: service::REDELIVERY,
                until_empty: true,
                grace: Duration::ZERO,
            },
        );
        Ok(Self { worker, upstream, metrics })
    }

    /// Works on one batch until `deadline`, less what the report takes.
    pub async fn handle(&self, event: SqsEvent, deadline: Instant) -> anyhow::Result<SqsBatchResponse> {
        let (done, counts) = (self.worker.progress.now(), self.upstream.counts());
        let deliveries: Vec<Delivery> = event.records.into_iter().map(delivery).collect();
        let messages = deliveries.len();
        let names: Vec<(Handle, String)> =
            deliveries.iter().map(|delivery| (delivery.handle.clone(), delivery.id.clone())).collect();

        let stop = CancellationToken::new();
        let left = deadline.saturating_duration_since(Instant::now());
        let guard = tokio::spawn({
            let stop = stop.clone();
            async move {
                tokio::time::sleep(left.saturating_sub(KEPT_FOR_REPORT.min(left / 4))).await;
                tracing::warn!("time is nearly up: what is not done comes back");
                stop.cancel();
            }
        });
        let outcome = self.worker.work_on(deliveries, &stop).await;
        guard.abort();

        let now = self.worker.clock.now();
        let transfers = self.worker.progress.take_transfers();
        self.metrics.consumed(Lane::Small, &self.worker.progress.now().since(&done), &transfers, now);
        self.metrics.upstream(&self.upstream.counts().since(&counts), now);

        let returned = outcome?;
        tracing::info!(messages, returned = returned.len(), "batch done");
        let failure = |handle: Handle| {
            let (_, id) = names.iter().find(|(name, _)| *name == handle)?;
            let mut failure = BatchItemFailure::default();
            failure.item_identifier.clone_from(id);
            Some(failure)
        };
        let mut response = SqsBatchResponse::default();
        response.batch_item_failures = returned.into_iter().filter_map(failure).collect();
        Ok(response)
    }
}

/// Three quarters of what the function has beyond what it takes anyway: the rest
/// is for buffers that are hashed or sent while the next ones fill.
fn budget(memory: Option<u64>) -> u64 {
    let free = memory.unwrap_or(128 << 20).saturating_sub(TAKEN);
    (free / 4 * 3).max(LEAST_MEMORY)
}

/// A message as Lambda hands it over. What can't be read of it is left empty: the
/// worker tells a malformed message from a good one.
fn delivery(message: SqsMessage) -> Delivery {
    let number = |name: &str| message.attributes.get(name).and_then(|text| text.parse::<i64>().ok());
    let receives = number("ApproximateReceiveCount").unwrap_or(1);
    let sent_at = number("SentTimestamp").unwrap_or(0);
    let attributes = message
        .message_attributes
        .into_iter()
        .filter_map(|(name, attribute)| Some((name, attribute.string_value?)))
        .collect();
    Delivery {
        id: message.message_id.unwrap_or_default(),
        handle: Handle(message.receipt_handle.unwrap_or_default()),
        body: message.body.unwrap_or_default(),
        attributes,
        receives: u32::try_from(receives).unwrap_or(1),
        sent_at: Timestamp::from_millisecond(sent_at).unwrap_or(Timestamp::UNIX_EPOCH),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_budget_follows_the_functions_memory() {
        assert_eq!(budget(Some(512 << 20)), ((512 - 96) << 20) / 4 * 3);
        assert_eq!(budget(Some(128 << 20)), 24 << 20);
        assert_eq!(budget(Some(64 << 20)), LEAST_MEMORY);
    }
}
