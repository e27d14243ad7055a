//! One batch of messages that someone else received, and acknowledges: Lambda.

use futures_util::{StreamExt, stream};
use tokio_util::sync::CancellationToken;

use crate::queue::{Delivery, Handle};

use super::finish::{Acknowledge, Finished};
use super::{Worker, WorkerError, attempt};

impl Worker {
    /// Works on `deliveries`; those that are to be delivered again are returned,
    /// and wait for as long as their failure asks for. Everything else was
    /// reported, and may be acknowledged.
    ///
    /// When `stop` fires, transfers are given up and their messages returned at
    /// once, so that the caller can still answer in time. An error means that no
    /// bottle can be stored; all messages come back then.
    pub async fn work_on(
        &self,
        deliveries: Vec<Delivery>,
        stop: &CancellationToken,
    ) -> Result<Vec<Handle>, WorkerError> {
        let works = deliveries.into_iter().map(|delivery| async move {
            let in_hand = self.activity.take();
            let (disposition, fatal) =
                attempt(&self.mirror, &delivery, &self.settings, &self.clock, stop).await;
            (Finished { delivery, disposition, _held: None, _in_hand: in_hand }, fatal)
        });
        let outcomes: Vec<_> =
            stream::iter(works).buffer_unordered(self.settings.concurrency.max(1)).collect().await;
        let (finished, fatal): (Vec<_>, Vec<_>) = outcomes.into_iter().unzip();
        // One receipt for all of them.
        let returned = self.finish_batch(&finished, Acknowledge::Caller).await;
        match fatal.into_iter().flatten().next() {
            Some(error) => Err(error.into()),
            None => Ok(returned),
        }
    }
}
