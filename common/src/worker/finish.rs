//! What becomes of finished messages: reported first, acknowledged after.
//!
//! Those that finish while a report is being written are reported together in
//! the next one, so that the number of receipts follows the store's speed and
//! not the number of bottles.

use std::time::Duration;

use tokio::sync::mpsc;

use crate::dead_letter::Failure;
use crate::message::Message;
use crate::mirror::Mirrored;
use crate::queue::{Delivery, Handle};
use crate::receipt::Receipt;
use crate::retry::{Policy, Retryable, Verdict};

use super::activity::InHand;
use super::heartbeat::Held;
use super::{Releases, Worker, entry};

/// A message that was worked on. It stays hidden from others until this is gone.
pub(super) struct Finished {
    pub(super) delivery: Delivery,
    pub(super) disposition: Disposition,
    /// `None` where nobody extends it.
    pub(super) _held: Option<Held>,
    pub(super) _in_hand: InHand,
}

/// Who acknowledges messages that are done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Acknowledge {
    Worker,
    Caller,
}

/// What is to become of a message.
pub(super) enum Disposition {
    /// The mirror holds the bottle: report and acknowledge.
    Held { message: Message, mirrored: Mirrored, took: Duration },
    /// Given up on: dead-letter, report and acknowledge.
    Dead { message: Option<Message>, failure: Failure },
    /// Back to the queue.
    Release { delay: Duration },
}

/// One receipt reports at most this many bottles.
const LARGEST_BATCH: usize = 256;

/// A queue or store that fails is asked again for this long; after that the
/// messages go back, and their bottles are found in the mirror next time.
const PATIENCE: Policy = Policy {
    first_wait: Duration::from_millis(200),
    longest_wait: Duration::from_secs(5),
    budget: Duration::from_secs(20),
};

impl Worker {
    pub(super) async fn finish(&self, mut finished: mpsc::Receiver<Finished>) {
        let mut batch = Vec::new();
        while finished.recv_many(&mut batch, LARGEST_BATCH).await > 0 {
            self.finish_batch(&batch, Acknowledge::Worker).await;
            batch.clear();
        }
    }

    /// Reports a batch and lets go of it; the messages that were given back.
    pub(super) async fn finish_batch(&self, batch: &[Finished], acknowledge: Acknowledge) -> Vec<Handle> {
        let mut releases = Releases::new();
        let mut done: Vec<&Finished> = Vec::new();
        for finished in batch {
            let handle = &finished.delivery.handle;
            match &finished.disposition {
                Disposition::Release { delay } => {
                    self.progress.account(&finished.disposition);
                    releases.entry(*delay).or_default().push(handle.clone());
                }
                Disposition::Held { .. } | Disposition::Dead { .. } => done.push(finished),
            }
        }
        if let Err(error) = self.report(&done).await {
            // Nothing is lost: the next delivery finds the bottle in the mirror.
            tracing::warn!(%error, messages = done.len(), "could not be reported: given back");
            let delay = self.settings.redelivery.wait_after(1);
            releases.entry(delay).or_default().extend(handles(&done));
            done.clear();
        }
        for finished in &done {
            self.progress.account(&finished.disposition);
        }
        // An acknowledgement needs no retry: redelivery covers it.
        if acknowledge == Acknowledge::Worker
            && let Err(error) = self.queue.acknowledge(&handles(&done)).await
        {
            tracing::warn!(%error, messages = done.len(), "could not be acknowledged: delivered once more");
        }
        for (delay, handles) in &releases {
            if let Err(error) = self.queue.release(handles, *delay).await {
                tracing::warn!(%error, messages = handles.len(), "come back when their time is up");
            }
        }
        releases.into_values().flatten().collect()
    }

    /// Dead letters first, then the receipt: a bottle that is reported dead can
    /// be found where the report says it is.
    async fn report(&self, done: &[&Finished]) -> Result<(), Failed> {
        let dead: Vec<_> = done
            .iter()
            .filter_map(|finished| match &finished.disposition {
                Disposition::Dead { failure, .. } => Some(failure.dead_letter(&finished.delivery.body)),
                _ => None,
            })
            .collect();
        if !dead.is_empty() {
            let send = || async { self.dead_letters.send(&dead).await.map_err(Failed::from) };
            PATIENCE.run(send, |_, _| {}).await?;
        }
        let entries: Vec<_> =
            done.iter().filter_map(|finished| entry(&finished.disposition, &self.clock)).collect();
        if !entries.is_empty() {
            let receipt = Receipt { entries, ..Receipt::default() };
            let save = || async { receipt.save(&*self.store, self.clock.now()).await.map_err(Failed::from) };
            PATIENCE.run(save, |_, _| {}).await?;
        }
        Ok(())
    }
}

fn handles(finished: &[&Finished]) -> Vec<Handle> {
    finished.iter().map(|finished| finished.delivery.handle.clone()).collect()
}

/// A report that failed; always worth another try, since the work is done.
struct Failed(String);

impl Retryable for Failed {
    fn verdict(&self) -> Verdict {
        Verdict::Retry { after: None }
    }
}

impl std::fmt::Display for Failed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<crate::queue::QueueError> for Failed {
    fn from(error: crate::queue::QueueError) -> Self {
        Self(error.to_string())
    }
}

impl From<crate::store::StoreError> for Failed {
    fn from(error: crate::store::StoreError) -> Self {
        Self(error.to_string())
    }
}
