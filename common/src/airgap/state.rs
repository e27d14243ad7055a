//! How far a mirror is that bundles are imported into.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::bottle::ObjectKey;
use crate::run::Count;
use crate::store::{Condition, Store, StoreError, Version};

use super::{ImportError, Interval, MirrorId};

/// What was imported into a mirror: `_sync/imports.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Imports {
    /// The mirror that all bundles come from.
    pub mirror: MirrorId,
    /// This mirror has all that was new there up to this moment; `None` until the
    /// first bundle was applied.
    pub until: Option<Timestamp>,
    /// The last bundles that were applied, oldest first.
    #[serde(default)]
    pub bundles: Vec<Applied>,
}

/// A bundle that was applied.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Applied {
    /// What it covers.
    #[serde(flatten)]
    pub interval: Interval,
    /// When it was exported.
    pub created: Timestamp,
    /// When it was imported.
    pub at: Timestamp,
    /// The bottles that it brought.
    pub bottles: Count,
}

/// So many bundles are remembered.
const REMEMBERED: usize = 100;

/// Where the record of imports is.
pub const IMPORTS: &str = "_sync/imports.json";

impl Imports {
    /// What was imported; `None` if the mirror is not fed by imports.
    pub async fn load(store: &dyn Store) -> Result<Option<(Self, Version)>, ImportError> {
        let Some(object) = store.get(&key()?).await? else { return Ok(None) };
        let imports = serde_json::from_slice(&object.body)
            .map_err(|error| ImportError::State { key: IMPORTS, why: error.to_string() })?;
        Ok(Some((imports, object.version)))
    }

    /// The state of a mirror that nothing was applied to yet.
    pub(super) fn begin(mirror: MirrorId) -> Self {
        Self { mirror, until: None, bundles: Vec::new() }
    }

    /// Takes note of a bundle, once; an older one takes nothing back.
    pub(super) fn note(&mut self, applied: Applied) {
        if self.bundles.contains(&applied) {
            return;
        }
        self.until = self.until.max(Some(applied.interval.until));
        self.bundles.push(applied);
        let surplus = self.bundles.len().saturating_sub(REMEMBERED);
        self.bundles.drain(..surplus);
    }

    /// Writes the state if nobody else did since it was read as `version`.
    pub(super) async fn save(
        &self,
        store: &dyn Store,
        version: Option<&Version>,
    ) -> Result<Version, StoreError> {
        let body = serde_json::to_vec_pretty(self).unwrap_or_default();
        let condition = version.map_or(Condition::Absent, |version| Condition::Matches(version.clone()));
        store.put(&key()?, body.into(), condition).await
    }

    /// Removes the state: the mirror is not fed by imports.
    pub(super) async fn remove(store: &dyn Store) -> Result<(), StoreError> {
        store.delete(&[key()?]).await
    }
}

fn key() -> Result<ObjectKey, StoreError> {
    Ok(IMPORTS.parse()?)
}
