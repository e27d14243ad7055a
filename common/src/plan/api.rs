//! The API files of the catalogue's own moment.
//!
//! They are read between two reads of the catalogue: if those are the same, what was
//! read in between belongs to it.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::de::IgnoredAny;

use crate::bottle::{BottleTag, Digest};
use crate::publication::{ApiFile, ApiPath, Set, file_key};
use crate::registry::{ApiAnswer, Validators};
use crate::store::{Condition, StoreError};

use super::Planner;

/// API files that were staged.
#[derive(Default)]
pub(super) struct StagedFiles {
    pub(super) files: BTreeMap<ApiPath, ApiFile>,
    /// What upstream doesn't have.
    pub(super) missing: Vec<ApiPath>,
    /// How many were read anew.
    pub(super) fresh: usize,
}

/// API files that could not be had: what was published stays.
#[derive(Debug, thiserror::Error)]
pub(super) enum ApiError {
    #[error("{path} can't be read: {source}")]
    Upstream { path: ApiPath, source: crate::registry::Error },
    #[error("{path} is none of Homebrew's files: {why}")]
    Malformed { path: ApiPath, why: String },
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The catalogue, looked at once more.
pub(super) enum Catalogue {
    Same(ApiFile, bool),
    Changed,
}

impl Planner {
    /// Reads and stages the files that `clients` read, but for the catalogue; those
    /// that upstream says are unchanged are taken over from `newest`.
    pub(super) async fn stage_files(
        &self,
        clients: &[BottleTag],
        newest: Option<&Set>,
    ) -> Result<StagedFiles, ApiError> {
        let mut staged = StagedFiles::default();
        for path in ApiPath::all(clients).into_iter().filter(|path| !path.is_catalogue()) {
            let known = match newest.and_then(|set| set.files.get(&path)) {
                Some(known) if self.is_there(known).await? => Some(known),
                _ => None,
            };
            match self.ask(&path, known.map(|file| &file.validators)).await? {
                ApiAnswer::Missing => {
                    // Where no platform is named, ones occur that brew no longer knows.
                    if self.selection.file().tags.is_some() {
                        tracing::warn!(file = %path, "upstream has no such API file");
                    }
                    staged.missing.push(path);
                }
                ApiAnswer::Unchanged => {
                    if let Some(known) = known {
                        staged.files.insert(path, known.clone());
                    }
                }
                ApiAnswer::Fresh { bytes, validators } => {
                    let file = self.stage(&path, bytes, validators).await?;
                    staged.files.insert(path, file);
                    staged.fresh += 1;
                }
            }
        }
        Ok(staged)
    }

    /// Looks whether the catalogue is still the one with this digest and these
    /// validators, and stages it if so.
    pub(super) async fn stage_catalogue(
        &self,
        path: &ApiPath,
        sha256: Digest,
        validators: &Validators,
        newest: Option<&Set>,
    ) -> Result<Catalogue, ApiError> {
        let known = match newest.and_then(|set| set.files.get(path)) {
            Some(known) if known.sha256 == sha256 && self.is_there(known).await? => Some(known),
            _ => None,
        };
        let asked = known.is_some().then_some(validators).filter(|validators| !validators.is_empty());
        match (self.ask(path, asked).await?, known) {
            (ApiAnswer::Unchanged, Some(file)) => {
                Ok(Catalogue::Same(ApiFile { validators: validators.clone(), ..file.clone() }, false))
            }
            (ApiAnswer::Fresh { bytes, validators }, _) if Digest::of(&bytes) == sha256 => {
                Ok(Catalogue::Same(self.stage(path, bytes, validators).await?, known.is_none()))
            }
            _ => Ok(Catalogue::Changed),
        }
    }

    /// Whether the bytes of a file that was staged are there still: by the store's own
    /// checksum, or by reading them.
    async fn is_there(&self, file: &ApiFile) -> Result<bool, ApiError> {
        let key = file_key(&file.sha256)?;
        let Some(meta) = self.store.head(&key).await? else { return Ok(false) };
        if let Some(sha256) = meta.sha256 {
            return Ok(sha256 == file.sha256);
        }
        Ok(self.store.get(&key).await?.is_some_and(|object| Digest::of(&object.body) == file.sha256))
    }

    async fn ask(&self, path: &ApiPath, known: Option<&Validators>) -> Result<ApiAnswer, ApiError> {
        let answer = self.upstream.api_file(&self.api_url(path.as_str()), known).await;
        answer.map_err(|source| ApiError::Upstream { path: path.clone(), source })
    }

    async fn stage(&self, path: &ApiPath, bytes: Bytes, validators: Validators) -> Result<ApiFile, ApiError> {
        check(path, &bytes)?;
        let (sha256, size) = (Digest::of(&bytes), bytes.len() as u64);
        // Written again though it may be there: what is old and in no set is removed.
        self.store.put(&file_key(&sha256)?, bytes.into(), Condition::Always).await?;
        Ok(ApiFile { sha256, size, modified: validators.modified(), validators })
    }
}

/// Refuses what some server between sends in a file's stead. Its signature is for
/// brew to check.
fn check(path: &ApiPath, bytes: &[u8]) -> Result<(), ApiError> {
    #[derive(serde::Deserialize)]
    struct Signed {
        #[serde(rename = "payload")]
        _payload: IgnoredAny,
        #[serde(rename = "signatures")]
        _signatures: Vec<IgnoredAny>,
    }
    let read = if path.is_catalogue() {
        serde_json::from_slice::<Vec<IgnoredAny>>(bytes).map(|_| ())
    } else {
        serde_json::from_slice::<Signed>(bytes).map(|_| ())
    };
    read.map_err(|error| ApiError::Malformed { path: path.clone(), why: error.to_string() })
}
