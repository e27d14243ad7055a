//! The drain loop: receive, work within bounds, keep alive, report, acknowledge.

mod activity;
mod batch;
mod finish;
mod heartbeat;
mod progress;

use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::OptionFuture;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;

use crate::clock::Clock;
use crate::dead_letter::{Failure, Reason};
use crate::message::{Message, MessageError};
use crate::mirror::{Consequence, Mirror, MirrorError};
use crate::queue::{Delivery, Queue, QueueError};
use crate::receipt;
use crate::retry::Policy;
use crate::store::Store;

use finish::{Disposition, Finished};
use heartbeat::Heartbeat;

pub use activity::Activity;
pub use progress::{Done, Progress};

/// How a worker drains its queue.
#[derive(Debug, Clone)]
pub struct WorkerSettings {
    /// How many bottles it works on at once.
    pub concurrency: usize,
    /// How long a message stays hidden unless it is extended, which happens
    /// three times in that time.
    pub visibility: Duration,
    /// How long to wait for messages in one go.
    pub wait: Duration,
    /// How often a message is received before a failure that may pass is taken
    /// for one that won't.
    pub most_receives: u32,
    /// How long a message that failed waits for its next delivery.
    pub redelivery: Policy,
    /// Whether to end once the queue is empty and nothing is in flight.
    pub until_empty: bool,
    /// How long transfers may take to end when told to stop.
    pub grace: Duration,
}

/// Drains one queue.
pub struct Worker {
    /// Where messages come from.
    pub queue: Arc<dyn Queue>,
    /// Where those go that were given up on.
    pub dead_letters: Arc<dyn Queue>,
    /// What moves the bottles.
    pub mirror: Arc<Mirror>,
    /// Where receipts go.
    pub store: Arc<dyn Store>,
    /// The time that receipts carry.
    pub clock: Clock,
    /// How to go about it.
    pub settings: WorkerSettings,
    /// What was done so far; others may look at it.
    pub progress: Progress,
    /// How busy it is; others may watch it.
    pub activity: Activity,
}

/// A worker that could not go on. Its messages went back to the queue.
#[derive(Debug, thiserror::Error)]
pub enum WorkerError {
    /// The queue failed, again and again.
    #[error(transparent)]
    Queue(#[from] QueueError),
    /// What stopped one bottle would stop all others.
    #[error("no bottle can be stored: {0}")]
    Store(#[from] MirrorError),
}

/// A queue that fails is asked again for this long before the worker gives up.
const QUEUE_RETRIES: u32 = 5;

impl Worker {
    /// Drains the queue until it is empty, if the settings say so, or until
    /// `cancel` fires: then no more is received, transfers may end within their
    /// grace, and all other messages are given back at once.
    pub async fn run(&self, cancel: &CancellationToken) -> Result<(), WorkerError> {
        // Fires when the worker stops for a reason of its own, too.
        let stopping = cancel.child_token();
        // Fires when transfers have to stop.
        let abort = CancellationToken::new();
        let heartbeat = Heartbeat::start(Arc::clone(&self.queue), self.settings.visibility);
        let (sender, receiver) = mpsc::channel(self.settings.concurrency.max(1) * 2);
        let (outcome, ()) =
            tokio::join!(self.receive(&stopping, &abort, &heartbeat, sender), self.finish(receiver));
        outcome
    }

    async fn receive(
        &self,
        stopping: &CancellationToken,
        abort: &CancellationToken,
        heartbeat: &Heartbeat,
        sender: mpsc::Sender<Finished>,
    ) -> Result<(), WorkerError> {
        let mut tasks: JoinSet<Option<MirrorError>> = JoinSet::new();
        // Kept across turns: a receive that is dropped half-way hides messages.
        let mut receiving = None;
        let mut failures = 0;
        let mut outcome = Ok(());

        while !stopping.is_cancelled() {
            self.activity.turn();
            let free = self.settings.concurrency.saturating_sub(tasks.len());
            if receiving.is_none() && free > 0 {
                receiving = Some(Box::pin(self.queue.receive(
                    free,
                    self.settings.visibility,
                    // With work in hand there is no hurry, but completions must be seen.
                    self.settings.wait,
                )));
            }
            tokio::select! {
                () = stopping.cancelled() => {}
                Some(done) = tasks.join_next() => {
                    if let Ok(Some(error)) = done {
                        outcome = Err(error.into());
                        stopping.cancel();
                        abort.cancel();
                    }
                }
                Some(received) = OptionFuture::from(receiving.as_mut()) => {
                    receiving = None;
                    match received {
                        Ok(deliveries) => {
                            failures = 0;
                            if deliveries.is_empty() && tasks.is_empty() && self.settings.until_empty
                                && self.queue.depth().await?.total() == 0
                            {
                                break;
                            }
                            for delivery in deliveries {
                                self.start(delivery, &mut tasks, abort, heartbeat, &sender);
                            }
                        }
                        Err(error) => {
                            failures += 1;
                            tracing::warn!(%error, failures, "receiving failed");
                            if failures >= QUEUE_RETRIES {
                                outcome = Err(error.into());
                                stopping.cancel();
                            }
                            tokio::time::sleep(self.settings.redelivery.first_wait.min(Duration::from_secs(5))).await;
                        }
                    }
                }
            }
        }
        // What a pending receive still brings goes back untouched.
        let last = async {
            if let Some(Ok(deliveries)) = OptionFuture::from(receiving).await {
                let handles: Vec<_> = deliveries.into_iter().map(|delivery| delivery.handle).collect();
                if let Err(error) = self.queue.release(&handles, Duration::ZERO).await {
                    tracing::warn!(%error, "messages come back when their time is up");
                }
            }
        };
        let ending = async {
            let in_time = tokio::time::timeout(self.settings.grace, async {
                while tasks.join_next().await.is_some() {}
            });
            if in_time.await.is_err() {
                abort.cancel();
                while tasks.join_next().await.is_some() {}
            }
        };
        tokio::join!(last, ending);
        outcome
    }

    fn start(
        &self,
        delivery: Delivery,
        tasks: &mut JoinSet<Option<MirrorError>>,
        abort: &CancellationToken,
        heartbeat: &Heartbeat,
        sender: &mpsc::Sender<Finished>,
    ) {
        let held = Some(heartbeat.hold(delivery.handle.clone()));
        let in_hand = self.activity.take();
        let (mirror, abort, sender) = (Arc::clone(&self.mirror), abort.clone(), sender.clone());
        let (settings, clock) = (self.settings.clone(), self.clock.clone());
        tasks.spawn(async move {
            let (disposition, fatal) = attempt(&mirror, &delivery, &settings, &clock, &abort).await;
            // The other end is there until all senders are gone.
            let _ = sender.send(Finished { delivery, disposition, _held: held, _in_hand: in_hand }).await;
            fatal
        });
    }
}

/// Works on one message; what is to become of it, and the error that stops the
/// worker, if it is such a one.
async fn attempt(
    mirror: &Mirror,
    delivery: &Delivery,
    settings: &WorkerSettings,
    clock: &Clock,
    abort: &CancellationToken,
) -> (Disposition, Option<MirrorError>) {
    let failure = |reason, detail: &dyn std::fmt::Display| {
        Failure::new(reason, &detail.to_string(), delivery.receives, clock.now())
    };
    let message = match Message::parse(&delivery.body) {
        Ok(message) => message,
        Err(error) => {
            let reason = match error {
                MessageError::Malformed(_) => Reason::MalformedMessage,
                MessageError::UnknownVersion(_) => Reason::UnknownVersion,
            };
            tracing::warn!(message.id = delivery.id, %error, "dead-lettered");
            return (Disposition::Dead { message: None, failure: failure(reason, &error) }, None);
        }
    };
    // At the highest level, so that a warning names its bottle whatever the filter.
    let span = tracing::error_span!(
        "bottle",
        run.id = %message.run, message.id = delivery.id, bottle.digest = %message.digest, formula = %message.formula
    );
    // A failure would have been the last one: those before it left no word.
    if delivery.receives > settings.most_receives {
        let detail = "it was in the hands of processes that died, again and again";
        span.in_scope(|| tracing::error!(attempts = delivery.receives, "dead-lettered: {detail}"));
        return (
            Disposition::Dead { failure: failure(Reason::Crashed, &detail), message: Some(message) },
            None,
        );
    }
    let started = Instant::now();
    let transfer = AssertUnwindSafe(mirror.mirror(&message, abort)).catch_unwind();
    let outcome = transfer
        .instrument(span.clone())
        .await
        .unwrap_or_else(|panic| Err(MirrorError::Panicked(describe(&panic))));
    let _entered = span.enter();
    let error = match outcome {
        Ok(mirrored) => {
            tracing::debug!(how = ?mirrored, bottle.bytes = message.size, "held");
            return (Disposition::Held { message, mirrored, took: started.elapsed() }, None);
        }
        Err(error) => error,
    };
    match error.consequence() {
        Consequence::GiveUp(reason) => {
            tracing::warn!(%reason, %error, "dead-lettered");
            (Disposition::Dead { failure: failure(reason, &error), message: Some(message) }, None)
        }
        Consequence::TryLater(reason) if delivery.receives >= settings.most_receives => {
            tracing::warn!(%reason, %error, attempts = delivery.receives, "dead-lettered after the last attempt");
            (Disposition::Dead { failure: failure(reason, &error), message: Some(message) }, None)
        }
        Consequence::TryLater(reason) => {
            let delay = settings.redelivery.wait_after(delivery.receives);
            tracing::warn!(%reason, %error, delay_ms = delay.as_millis(), "given back for a later try");
            (Disposition::Release { delay }, None)
        }
        Consequence::Return => (Disposition::Release { delay: Duration::ZERO }, None),
        Consequence::Abort => {
            tracing::error!(%error, "no bottle can be stored");
            (Disposition::Release { delay: Duration::ZERO }, Some(error))
        }
    }
}

fn describe(panic: &Box<dyn std::any::Any + Send>) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "a panic without a message".to_owned())
}

/// What a disposition reports to the producer.
fn entry(disposition: &Disposition, clock: &Clock) -> Option<receipt::Entry> {
    match disposition {
        Disposition::Held { message, .. } => Some(receipt::Entry {
            message: message.clone(),
            at: clock.now(),
            outcome: receipt::Outcome::Held,
        }),
        Disposition::Dead { message, failure } => Some(receipt::Entry {
            message: message.clone()?,
            at: failure.at,
            outcome: receipt::Outcome::Dead(failure.clone()),
        }),
        Disposition::Release { .. } => None,
    }
}

/// Deliveries to give back, by how long they wait.
type Releases = BTreeMap<Duration, Vec<crate::queue::Handle>>;
