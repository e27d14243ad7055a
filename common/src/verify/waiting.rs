//! What the next settle will fold, read and left where it is.

use futures_util::{StreamExt as _, TryStreamExt as _, stream};

use crate::bottle::ObjectKey;
use crate::receipt::{Entry, PREFIX, Receipt, What};
use crate::store::StoreError;

use super::{Verifier, report};

/// Receipts that were not folded yet.
#[derive(Default)]
pub(super) struct Waiting {
    /// What they report, oldest first.
    pub(super) entries: Vec<Entry>,
    /// What they ask for.
    pub(super) asked: Vec<What>,
    pub(super) counts: report::Waiting,
}

impl Verifier {
    pub(super) async fn waiting(&self) -> Result<Waiting, StoreError> {
        let mut waiting = Waiting::default();
        let most = self.settings.page.max(1);
        let mut after: Option<ObjectKey> = None;
        loop {
            let page = self.patient(|| self.store.list(PREFIX, after.as_ref(), most)).await?;
            let is_last = page.len() < most;
            after = page.last().map(|meta| meta.key.clone());
            let reads = page.into_iter().map(|meta| async move {
                let object = self.patient(|| self.store.get(&meta.key)).await?;
                Ok::<_, StoreError>((meta.key, object))
            });
            let mut objects = stream::iter(reads).buffered(self.settings.concurrency);
            while let Some((key, object)) = objects.try_next().await? {
                // A settle may have folded it meanwhile.
                let Some(object) = object else { continue };
                waiting.counts.receipts += 1;
                match serde_json::from_slice::<Receipt>(&object.body) {
                    Ok(receipt) => {
                        waiting.entries.extend(receipt.entries);
                        waiting.asked.extend(receipt.orders.into_iter().map(|order| order.what));
                    }
                    Err(error) => {
                        tracing::warn!(object.key = %key, %error, "a receipt can't be read: the next settle puts it aside");
                        waiting.counts.unreadable += 1;
                    }
                }
            }
            if is_last {
                break;
            }
        }
        waiting.entries.sort_by_key(|entry| entry.at);
        waiting.counts.orders = waiting.asked.len() as u64;
        Ok(waiting)
    }
}
