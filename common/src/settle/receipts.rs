//! Reads the receipts that wait.

use futures_util::{FutureExt, StreamExt, TryStreamExt, stream};

use crate::bottle::ObjectKey;
use crate::receipt::{Entry, Order, PREFIX, Receipt, UNREADABLE};
use crate::store::{Condition, Object, Store, StoreError};

/// The receipts of one settle.
pub(super) struct Waiting {
    /// Where they are.
    pub(super) keys: Vec<ObjectKey>,
    /// What they say, oldest first.
    pub(super) entries: Vec<Entry>,
    /// What they ask, oldest first, and where that stands.
    pub(super) orders: Vec<(ObjectKey, Order)>,
    /// How many could not be read.
    pub(super) unreadable: usize,
}

/// One settle folds at most this many objects; the next one goes on.
const MOST: usize = 20_000;

const READS_AT_ONCE: usize = 16;

pub(super) async fn read(store: &dyn Store) -> Result<Waiting, StoreError> {
    let listed = store.list(PREFIX, None, MOST).await?;
    let reads: Vec<_> = listed.into_iter().map(|meta| read_one(store, meta.key).boxed()).collect();
    let mut objects = stream::iter(reads).buffered(READS_AT_ONCE);
    let mut waiting = Waiting { keys: Vec::new(), entries: Vec::new(), orders: Vec::new(), unreadable: 0 };
    while let Some((object, key)) = objects.try_next().await? {
        // Another settle may have folded it meanwhile.
        let Some(object) = object else { continue };
        match serde_json::from_slice::<Receipt>(&object.body) {
            Ok(receipt) => {
                waiting.entries.extend(receipt.entries);
                waiting.orders.extend(receipt.orders.into_iter().map(|order| (key.clone(), order)));
            }
            Err(error) => {
                tracing::error!(object.key = %key, %error, "a receipt can't be read: put aside for someone to look at");
                put_aside(store, &key, object.body).await?;
                waiting.unreadable += 1;
            }
        }
        waiting.keys.push(key);
    }
    waiting.entries.sort_by_key(|entry| entry.at);
    waiting.orders.sort_by_key(|(_, order)| order.at);
    Ok(waiting)
}

async fn read_one(store: &dyn Store, key: ObjectKey) -> Result<(Option<Object>, ObjectKey), StoreError> {
    Ok((store.get(&key).await?, key))
}

async fn put_aside(store: &dyn Store, key: &ObjectKey, body: bytes::Bytes) -> Result<(), StoreError> {
    let name = key.as_str().rsplit('/').next().unwrap_or_default();
    let aside = ObjectKey::sync(&format!("{UNREADABLE}/{name}"))?;
    store.put(&aside, body.into(), Condition::Always).await?;
    Ok(())
}
