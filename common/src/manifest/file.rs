//! The manifest as an object in the store.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Write};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::bottle::{Digest, FormulaName, ImagePath, ImageTag, ObjectKey, Origin};
use crate::publication::Publication;
use crate::receipt;
use crate::retry::Policy;
use crate::run::RunId;
use crate::store::{Condition, Store, StoreError, Version};

use super::{BottleRecord, Image, IndexRecord, Manifest, OpenRun, PlannedCatalogue};

/// The manifest's key.
pub const KEY: &str = "_sync/manifest.jsonl.zst";

/// The version of the format that this code writes, and the only one it reads.
const FORMAT: u32 = 1;

/// zstd's fastest level: digests don't compress, and all else does at any level.
const LEVEL: i32 = 1;

/// A manifest that could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// It is damaged.
    #[error(
        "the manifest {KEY} is damaged: {0}. `bottles verify --rebuild-manifest` makes it anew from \
         what the mirror holds; or put an earlier version of it back, or move it away: bottles that \
         are in the mirror already are found there and not fetched again"
    )]
    Damaged(String),
    /// It was written by a newer version of this system.
    #[error("the manifest {KEY} has format {0}, and this version reads format {FORMAT}: use a newer version")]
    UnknownFormat(u32),
    /// Someone else wrote it since it was read: read it again.
    #[error("the manifest was changed by someone else in the meantime")]
    Conflict,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

#[derive(Serialize, Deserialize)]
struct Header {
    format: u32,
    images: usize,
    bottles: usize,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    planned: Option<PlannedCatalogue>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    runs: BTreeMap<RunId, OpenRun>,
    #[serde(default)]
    publication: Publication,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    folded_at: Option<Timestamp>,
    #[serde(default)]
    undone: u64,
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    obeyed: BTreeSet<ObjectKey>,
    /// Whether indexes say what they name: earlier versions took no note of it.
    #[serde(default)]
    names: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    imported_until: Option<Timestamp>,
}

// Field by field: a flattened `Image` would be read twice.

#[derive(Serialize)]
struct LineOut<'a> {
    path: &'a ImagePath,
    formula: &'a FormulaName,
    origin: &'a Origin,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    indexes: &'a BTreeMap<ImageTag, IndexRecord>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    bottles: &'a BTreeMap<Digest, BottleRecord>,
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    damaged: &'a BTreeSet<Digest>,
}

#[derive(Deserialize)]
struct LineIn {
    path: ImagePath,
    formula: FormulaName,
    origin: Origin,
    #[serde(default)]
    indexes: BTreeMap<ImageTag, IndexRecord>,
    #[serde(default)]
    bottles: BTreeMap<Digest, BottleRecord>,
    #[serde(default)]
    damaged: BTreeSet<Digest>,
}

/// Reads the manifest; an empty one without a version if there is none yet.
pub async fn load(store: &dyn Store) -> Result<(Manifest, Option<Version>), ManifestError> {
    match store.get(&key()?).await.map_err(ManifestError::Store)? {
        Some(object) => Ok((decode(&object.body)?, Some(object.version))),
        None => Ok((Manifest::default(), None)),
    }
}

/// The manifest as the next settle will have it: with what receipts report.
/// Receipts are asked for again as `retry` says.
pub async fn load_folded(store: &dyn Store, retry: Policy) -> Result<Manifest, ManifestError> {
    // The receipts first: what a settle folds in between is folded twice then, and not
    // missed.
    let entries = retry.run(|| receipt::unfolded(store), |_, _| {}).await?;
    let (mut manifest, _) = load(store).await?;
    for entry in &entries {
        manifest.fold(entry);
    }
    Ok(manifest)
}

/// Writes the manifest if nobody else did since it was read as `version`.
pub async fn save(
    store: &dyn Store,
    manifest: &Manifest,
    version: Option<&Version>,
) -> Result<Version, ManifestError> {
    let body = encode(manifest)?;
    let condition = version.map_or(Condition::Absent, |version| Condition::Matches(version.clone()));
    store.put(&key()?, body.into(), condition).await.map_err(|error| match error {
        StoreError::Conflict { .. } => ManifestError::Conflict,
        error => ManifestError::Store(error),
    })
}

/// The manifest as bytes.
pub fn encode(manifest: &Manifest) -> Result<Vec<u8>, ManifestError> {
    let header = Header {
        format: FORMAT,
        images: manifest.images.len(),
        bottles: count(manifest),
        planned: manifest.planned.clone(),
        runs: manifest.runs.clone(),
        publication: manifest.publication.clone(),
        folded_at: manifest.folded_at,
        undone: manifest.undone,
        obeyed: manifest.obeyed.clone(),
        names: true,
        imported_until: manifest.imported_until,
    };
    let write = || -> std::io::Result<Vec<u8>> {
        let mut encoder = zstd::Encoder::new(Vec::new(), LEVEL)?;
        encoder.include_checksum(true)?;
        serde_json::to_writer(&mut encoder, &header)?;
        encoder.write_all(b"\n")?;
        for (path, image) in &manifest.images {
            let Image { formula, origin, indexes, bottles, damaged } = image;
            serde_json::to_writer(
                &mut encoder,
                &LineOut { path, formula, origin, indexes, bottles, damaged },
            )?;
            encoder.write_all(b"\n")?;
        }
        encoder.finish()
    };
    write().map_err(|error| ManifestError::Damaged(error.to_string()))
}

/// A manifest from its bytes.
pub fn decode(bytes: &[u8]) -> Result<Manifest, ManifestError> {
    let damaged = |why: &dyn std::fmt::Display| ManifestError::Damaged(why.to_string());
    let decoder = zstd::Decoder::new(bytes).map_err(|error| damaged(&error))?;
    let mut lines = BufReader::with_capacity(128 << 10, decoder);
    let mut line = Vec::new();

    let mut next = |line: &mut Vec<u8>| -> Result<bool, ManifestError> {
        line.clear();
        lines.read_until(b'\n', line).map(|read| read > 0).map_err(|error| damaged(&error))
    };
    if !next(&mut line)? {
        return Err(damaged(&"it is empty"));
    }
    let header: Header = serde_json::from_slice(&line).map_err(|error| {
        let format = serde_json::from_slice::<serde_json::Value>(&line).ok();
        match format.and_then(|value| u32::try_from(value.get("format")?.as_u64()?).ok()) {
            Some(format) if format != FORMAT => ManifestError::UnknownFormat(format),
            _ => damaged(&error),
        }
    })?;
    if header.format != FORMAT {
        return Err(ManifestError::UnknownFormat(header.format));
    }
    let mut manifest = Manifest {
        // The next plan goes through all, and reads what it has to know.
        planned: header.planned.filter(|_| header.names),
        runs: header.runs,
        publication: header.publication,
        folded_at: header.folded_at,
        undone: header.undone,
        obeyed: header.obeyed,
        imported_until: header.imported_until,
        images: BTreeMap::new(),
    };
    while next(&mut line)? {
        let LineIn { path, formula, origin, indexes, bottles, damaged } =
            serde_json::from_slice(&line).map_err(|error| damaged(&error))?;
        manifest.images.insert(path, Image { formula, origin, indexes, bottles, damaged });
    }
    if (manifest.images.len(), count(&manifest)) != (header.images, header.bottles) {
        return Err(damaged(&"it holds fewer bottles than it says"));
    }
    Ok(manifest)
}

fn count(manifest: &Manifest) -> usize {
    manifest.images.values().map(|image| image.bottles.len()).sum()
}

fn key() -> Result<ObjectKey, ManifestError> {
    KEY.parse().map_err(|error: crate::bottle::InvalidName| ManifestError::Damaged(error.to_string()))
}
