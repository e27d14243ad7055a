//! Runs: one pass of the producer, and the work that it queued.

use std::fmt;
use std::hash::{BuildHasher, Hasher};
use std::str::FromStr;
use std::sync::Arc;

use bytes::Bytes;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::bottle::{InvalidName, ObjectKey, serde_as_text};
use crate::dead_letter::reason::ByReason;
use crate::publication::PublishReport;
use crate::store::{Condition, Store, StoreError};

/// A run's name; later runs sort after earlier ones: `20261123T101500123Z-3fa8`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RunId(Arc<str>);

impl RunId {
    /// A new name for a run that starts `now`.
    pub fn new(now: Timestamp) -> Self {
        Self(format!("{}-{:04x}", now.strftime("%Y%m%dT%H%M%S%3fZ"), random() & 0xffff).into())
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// A name that sorts right after this one.
    #[must_use]
    pub fn next(&self) -> Self {
        let (start, count) = match self.0.rsplit_once("-n") {
            Some((start, count)) => (start, count.parse::<u32>().ok()),
            None => (&*self.0, Some(0)),
        };
        match count {
            Some(count) => Self(format!("{start}-n{:06}", count + 1).into()),
            None => Self(format!("{self}-n000001").into()),
        }
    }

    /// The folder of this run's objects.
    pub fn folder(&self) -> String {
        format!("runs/{self}")
    }

    /// The key of this run's record.
    pub fn key(&self) -> Result<ObjectKey, InvalidName> {
        ObjectKey::sync(&format!("runs/{self}/run.json"))
    }
}

/// A number that differs from call to call and from process to process.
pub(crate) fn random() -> u64 {
    std::collections::hash_map::RandomState::new().build_hasher().finish()
}

impl FromStr for RunId {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        if text.is_empty() || text.len() > 64 {
            return Err(InvalidName::new("run", text, "it takes 1 to 64 characters"));
        }
        if !text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-') {
            return Err(InvalidName::new("run", text, "it holds only letters, digits and -"));
        }
        Ok(Self(text.into()))
    }
}

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

serde_as_text!(RunId);

/// A number of bottles and their bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Count {
    /// Bottles.
    pub bottles: u64,
    /// Their bytes.
    pub bytes: u64,
}

impl Count {
    /// Adds one bottle of `size` bytes.
    pub fn add(&mut self, size: u64) {
        // Sizes come from elsewhere, and an absurd one must stop nobody from looking.
        *self = *self + Self { bottles: 1, bytes: size };
    }
}

impl std::ops::Add for Count {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            bottles: self.bottles.saturating_add(other.bottles),
            bytes: self.bytes.saturating_add(other.bytes),
        }
    }
}

impl std::ops::Sub for Count {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        Self {
            bottles: self.bottles.saturating_sub(other.bottles),
            bytes: self.bytes.saturating_sub(other.bytes),
        }
    }
}

/// What was planned, and what became of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunRecord {
    /// The run.
    pub id: RunId,
    /// When the plan began.
    pub started_at: Timestamp,
    /// Formulae with bottles in the catalogue; zero where it was unchanged.
    pub formulae: u64,
    /// Whether upstream said that the catalogue is the one that was planned before.
    pub unchanged: bool,
    /// Whether the plan went through the whole catalogue.
    pub planned: bool,
    /// What went to the small queue.
    pub small: Count,
    /// What went to the large queue.
    pub large: Count,
    /// Formulae that could not be planned, and those that could not be read.
    pub problems: u64,
    /// Taps whose catalogues could not be read.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unread_taps: Vec<String>,
    /// The outcome, once all is accounted for.
    pub outcome: Option<Outcome>,
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    /// When the last bottle was accounted for.
    pub settled_at: Timestamp,
    /// Bottles of this run that the mirror holds now.
    pub held: Count,
    /// Bottles that were given up on.
    pub dead: u64,
    /// The same by reason.
    pub reasons: ByReason,
    /// Bottles whose messages are gone: they are planned again.
    pub lost: u64,
    /// What of the API files was published then, and which clients' files wait.
    #[serde(default)]
    pub publication: PublishReport,
}

impl RunRecord {
    /// The record of a run that begins.
    pub fn begin(id: RunId, started_at: Timestamp) -> Self {
        Self {
            id,
            started_at,
            formulae: 0,
            unchanged: false,
            planned: false,
            small: Count::default(),
            large: Count::default(),
            problems: 0,
            unread_taps: Vec::new(),
            outcome: None,
        }
    }

    /// Reads a run's record; `None` if there is none that can be read.
    pub async fn load(store: &dyn Store, id: &RunId) -> Result<Option<Self>, StoreError> {
        let Ok(key) = id.key() else { return Ok(None) };
        let Some(object) = store.get(&key).await? else { return Ok(None) };
        Ok(serde_json::from_slice(&object.body)
            .inspect_err(|error| tracing::warn!(run.id = %id, %error, "the run's record can't be read"))
            .ok())
    }

    /// The latest run's record.
    pub async fn latest(store: &dyn Store) -> Result<Option<Self>, StoreError> {
        match ids(store).await?.last() {
            Some(id) => Self::load(store, id).await,
            None => Ok(None),
        }
    }

    /// Writes the record.
    pub async fn save(&self, store: &dyn Store) -> Result<(), StoreError> {
        let key = self.id.key().map_err(|error| StoreError::Refused {
            key: error.value,
            why: "no key can be made of the run's name",
        })?;
        let body = serde_json::to_vec_pretty(self).unwrap_or_default();
        store.put(&key, Bytes::from(body).into(), Condition::Always).await?;
        Ok(())
    }
}

/// When the last run that came to its end did so, of the newest few.
pub async fn last_settled(store: &dyn Store) -> Result<Option<Timestamp>, StoreError> {
    // Runs that are open or were never ended stand before it; not many can.
    const LOOKED_AT: usize = 10;
    for id in ids(store).await?.iter().rev().take(LOOKED_AT) {
        let outcome = RunRecord::load(store, id).await?.and_then(|record| record.outcome);
        if let Some(outcome) = outcome {
            return Ok(Some(outcome.settled_at));
        }
    }
    Ok(None)
}

/// All runs that have a record, oldest first.
pub async fn ids(store: &dyn Store) -> Result<Vec<RunId>, StoreError> {
    let mut ids = Vec::new();
    let mut after = None;
    loop {
        let page = store.list("_sync/runs/", after.as_ref(), 1000).await?;
        for meta in &page {
            let id =
                meta.key.as_str().strip_prefix("_sync/runs/").and_then(|rest| rest.strip_suffix("/run.json"));
            ids.extend(id.and_then(|id| id.parse::<RunId>().ok()));
        }
        match page.last() {
            Some(last) if page.len() == 1000 => after = Some(last.key.clone()),
            _ => break,
        }
    }
    ids.sort();
    Ok(ids)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_absurd_size_stops_nobody_from_counting() {
        let mut count = Count::default();
        count.add(u64::MAX);
        count.add(7);
        assert_eq!(count, Count { bottles: 2, bytes: u64::MAX });
        assert_eq!((count + count).bytes, u64::MAX);
    }
}
