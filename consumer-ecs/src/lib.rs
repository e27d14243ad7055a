//! The service that drains the large queue.
//!
//! It works until it is told to stop: then it receives no more, lets transfers
//! end within the stop timeout, and gives back the rest. While it has bottles in
//! hand it holds ECS task protection; while it has none it costs one long poll
//! every twenty seconds, and may be taken away at once.

pub mod health;
pub mod protection;

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use common::aws::SdkConfig;
use common::config::Settings;
use common::message::Lane;
use common::metrics::Metrics;
use common::registry::{Counts, Upstream};
use common::service;
use common::worker::{Done, Worker, WorkerSettings};
use tokio_util::sync::CancellationToken;

use protection::Protection;

/// Bytes of bottles in memory at once, unless it is set.
const MEMORY: u64 = 128 << 20;

/// SQS's longest poll: the fewest requests, and no later an answer.
const POLL: Duration = Duration::from_secs(20);

const METRICS_EVERY: Duration = Duration::from_mins(1);

/// Drains the large queue until `stop` fires.
pub async fn run(
    settings: &Settings,
    config: &SdkConfig,
    protection: Option<Protection>,
    metrics: Metrics,
    stop: &CancellationToken,
) -> anyhow::Result<()> {
    let pipeline = service::pipeline(settings, config, &[Lane::Large])?;
    let upstream = service::upstream(settings, &[])?;
    let mirror = pipeline.mirror(Arc::clone(&upstream), settings.memory.unwrap_or(MEMORY));
    let lane = pipeline.lanes.first().context("there is no large lane")?;
    let worker = pipeline.worker(
        lane,
        &mirror,
        WorkerSettings {
            concurrency: settings.concurrency.div_ceil(4),
            visibility: settings.visibility,
            wait: POLL,
            most_receives: settings.most_receives,
            redelivery: service::REDELIVERY,
            until_empty: false,
            grace: settings.stop_timeout,
        },
    );
    if let Some(file) = settings.health_file.clone() {
        tokio::spawn(health::keep(file, worker.activity.clone(), mirror));
    }
    let emitter = Emitter { metrics, worker: &worker, upstream: &upstream };
    let ended = CancellationToken::new();
    tracing::info!("draining the large queue");
    let work = async {
        let outcome = worker.run(stop).await;
        ended.cancel();
        outcome
    };
    let protect = async {
        if let Some(protection) = protection {
            protection.keep(worker.activity.in_hand(), ended.cancelled()).await;
        }
    };
    let (outcome, (), ()) = tokio::join!(work, protect, emitter.emit_until(&ended));
    let done = worker.progress.now().finished();
    tracing::info!(bottles = done.bottles, bottles.bytes = done.bytes, "stopped");
    Ok(outcome?)
}

/// Emits what was done, now and then and at the end.
struct Emitter<'a> {
    metrics: Metrics,
    worker: &'a Worker,
    upstream: &'a Upstream,
}

impl Emitter<'_> {
    async fn emit_until(&self, ended: &CancellationToken) {
        let (mut done, mut counts) = (Done::default(), Counts::default());
        loop {
            let ended = ended.run_until_cancelled(tokio::time::sleep(METRICS_EVERY)).await.is_none();
            let (done_now, counts_now) = (self.worker.progress.now(), self.upstream.counts());
            let now = self.worker.clock.now();
            let transfers = self.worker.progress.take_transfers();
            self.metrics.consumed(Lane::Large, &done_now.since(&done), &transfers, now);
            self.metrics.upstream(&counts_now.since(&counts), now);
            (done, counts) = (done_now, counts_now);
            if ended {
                return;
            }
        }
    }
}
