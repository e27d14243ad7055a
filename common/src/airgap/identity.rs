//! Which mirror a bundle comes from.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::bottle::{InvalidName, ObjectKey, serde_as_text};
use crate::run;
use crate::store::{Condition, Store, StoreError};

use super::ExportError;

/// A mirror's name for itself: random, made by its first export.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct MirrorId(Arc<str>);

/// Where it is kept.
const KEY: &str = "_sync/mirror.json";

#[derive(Serialize, Deserialize)]
struct Document {
    id: MirrorId,
    created_at: Timestamp,
}

impl MirrorId {
    /// The mirror's name, which is made now if it has none.
    pub(super) async fn of(store: &dyn Store, now: Timestamp) -> Result<Self, ExportError> {
        let key: ObjectKey = KEY.parse().map_err(StoreError::from)?;
        loop {
            if let Some(object) = store.get(&key).await? {
                let document: Document = serde_json::from_slice(&object.body)
                    .map_err(|error| ExportError::Identity { key: KEY, why: error.to_string() })?;
                return Ok(document.id);
            }
            let id = Self(format!("{:016x}{:016x}", run::random(), run::random()).into());
            let document = Document { id: id.clone(), created_at: now };
            let body = serde_json::to_vec_pretty(&document).unwrap_or_default();
            match store.put(&key, body.into(), Condition::Absent).await {
                Ok(_) => return Ok(id),
                // Another export was first: its name holds.
                Err(StoreError::Conflict { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for MirrorId {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        if text.len() == 32 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')) {
            Ok(Self(text.into()))
        } else {
            Err(InvalidName::new("mirror's name", text, "it takes 32 lower-case hexadecimal digits"))
        }
    }
}

impl fmt::Display for MirrorId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for MirrorId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

serde_as_text!(MirrorId);
