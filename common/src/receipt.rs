//! Receipts: what consumers, and the operator's verbs, report to the producer.
//!
//! They are the log that the manifest is folded from. Each object holds the
//! bottles that were finished together; it is written before their messages are
//! acknowledged, and removed once the manifest has it.

use bytes::Bytes;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::bottle::{BottleTag, ImagePath, ImageTag, InvalidName, ObjectKey};
use crate::dead_letter::Failure;
use crate::message::Message;
use crate::run;
use crate::store::{Condition, Store, StoreError};

/// Where receipts are.
pub const PREFIX: &str = "_sync/receipts/";

/// Where receipts are put that can't be read, for someone to look at.
pub const UNREADABLE: &str = "receipts-unreadable";

const READS_AT_ONCE: usize = 16;

/// What became of some bottles, and what an operator asks of the producer.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receipt {
    /// One entry a bottle.
    pub entries: Vec<Entry>,
    /// What is asked.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub orders: Vec<Order>,
}

/// Something that an operator asks of the producer, who alone writes the manifest
/// and what clients read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
    /// When it was given.
    pub at: Timestamp,
    /// What is to be done.
    pub what: What,
}

/// What an operator may ask.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum What {
    /// Read an image index again with the next plan: it is missing or damaged.
    Reindex {
        /// The image.
        image: ImagePath,
        /// The index's tag.
        tag: ImageTag,
    },
    /// Publish what waits for these clients (all where empty) though some of their
    /// bottles were given up on.
    PublishDespiteDead {
        /// The clients.
        clients: Vec<BottleTag>,
    },
    /// Write API files again that are damaged or gone: their paths below `api/`.
    Republish {
        /// The paths.
        paths: Vec<String>,
    },
    /// Put back what these clients (all where empty) read before, and publish
    /// nothing until asked to.
    Rollback {
        /// The clients.
        clients: Vec<BottleTag>,
    },
    /// Publish again what becomes complete.
    Resume,
    /// Tag as superseded what upstream dropped, though it is a large part of the
    /// mirror: up to so many bottles.
    Retire {
        /// The most.
        at_most: u64,
    },
}

/// What became of one bottle.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// The message that asked for it.
    pub message: Message,
    /// When it happened.
    pub at: Timestamp,
    /// What happened.
    pub outcome: Outcome,
}

/// What happened to a bottle.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// The mirror holds it, verified.
    Held,
    /// It was given up on, and is in a dead-letter queue.
    Dead(Failure),
    /// Its dead letter went back to its queue.
    Replayed,
    /// Its dead letter was thrown away: the next plan asks for it anew.
    Dropped,
    /// It was found to be missing or damaged in the mirror, and its message was sent.
    Missing,
}

impl Receipt {
    /// Writes a receipt under a key of its own.
    pub async fn save(&self, store: &dyn Store, now: Timestamp) -> Result<(), StoreError> {
        let key = new_key(now)?;
        let body = serde_json::to_vec(self).unwrap_or_default();
        store.put(&key, Bytes::from(body).into(), Condition::Absent).await?;
        Ok(())
    }
}

/// What receipts report that no settle has folded yet, oldest first. Those that can't be
/// read are left for the next settle to put aside.
pub async fn unfolded(store: &dyn Store) -> Result<Vec<Entry>, StoreError> {
    let mut entries = Vec::new();
    let listed = store.list(PREFIX, None, usize::MAX).await?;
    let reads: Vec<_> = listed.iter().map(|meta| store.get(&meta.key)).collect();
    let mut objects = stream::iter(reads).buffered(READS_AT_ONCE);
    while let Some(object) = objects.try_next().await? {
        // A settle may have folded it meanwhile.
        let Some(object) = object else { continue };
        if let Ok(receipt) = serde_json::from_slice::<Receipt>(&object.body) {
            entries.extend(receipt.entries);
        }
    }
    entries.sort_by_key(|entry| entry.at);
    Ok(entries)
}

/// A key that no other receipt has; keys sort by time.
fn new_key(now: Timestamp) -> Result<ObjectKey, InvalidName> {
    ObjectKey::sync(&format!("receipts/{}-{:016x}.json", now.strftime("%Y%m%dT%H%M%S%.3fZ"), run::random()))
}
