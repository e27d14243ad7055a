//! What is served: a mirror's store, and for a folder the border around it.

use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use common::bottle::{KeyKind, ObjectKey};
use common::store::{Folder, ObjectMeta, Reading, Store, StoreError};

use super::descriptors;
use super::validators::Validators;

/// What one of is in every mirror.
pub(super) const PARTS: [&str; 3] = ["api/", "v2/", "_sync/"];

/// A mirror that is only read. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Site {
    store: Arc<dyn Store>,
    /// Of a folder: no link leads out of it.
    root: Option<Arc<Path>>,
}

/// An object that is there.
pub(super) struct Found {
    pub(super) key: ObjectKey,
    /// In bytes.
    pub(super) size: u64,
    pub(super) validators: Validators,
}

impl Site {
    /// The mirror in a folder, where it leaves no trace.
    pub(crate) fn folder(root: &Path) -> Self {
        Self { store: Arc::new(Folder::view(root)), root: Some(root.into()) }
    }

    /// The mirror in another store.
    pub(crate) fn store(store: Arc<dyn Store>) -> Self {
        Self { store, root: None }
    }

    /// Looks at an object without reading it.
    pub(super) async fn look(&self, key: &ObjectKey) -> Result<Option<Found>, StoreError> {
        if !self.is_served(key).await? {
            return Ok(None);
        }
        let Some(meta) = self.store.head(key).await? else { return Ok(None) };
        if matches!(key.kind(), KeyKind::Bottle(_)) {
            let validators = Validators::of(key, meta.modified, None);
            return Ok(Some(Found { key: key.clone(), size: meta.size, validators }));
        }
        // Only a read tells the version; one byte is enough of it.
        let first = 0..meta.size.min(1);
        Ok(self.store.read(key, Some(first)).await?.map(|reading| Found::of(&reading)))
    }

    /// Opens an object.
    pub(super) async fn read(&self, key: &ObjectKey) -> Result<Option<Reading>, StoreError> {
        if !self.is_served(key).await? {
            return Ok(None);
        }
        self.store.read(key, None).await
    }

    /// Opens a part of what was found; `None` if it is in another state by now.
    pub(super) async fn part(&self, found: &Found, range: Range<u64>) -> Result<Option<Reading>, StoreError> {
        match self.store.read(&found.key, Some(range)).await {
            Ok(reading) => Ok(reading.filter(|reading| {
                let now = Found::of(reading);
                now.size == found.size && now.validators == found.validators
            })),
            // It is shorter now.
            Err(StoreError::Refused { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Whether what may be there under a key is the mirror's.
    async fn is_served(&self, key: &ObjectKey) -> Result<bool, StoreError> {
        if !self.is_within(key).await? {
            return Ok(false);
        }
        // Other programs have folders of this name too: a copy is known by its original.
        match key.indexed() {
            Some(original) => Ok(self.store.head(&original).await?.is_some()),
            None => Ok(true),
        }
    }

    /// Whether an object of a folder lies in it, and is none of the system's own,
    /// wherever links lead. Whoever may change the folder may do so between this
    /// look and the read: it keeps strayed links in, not those who own the folder.
    async fn is_within(&self, key: &ObjectKey) -> Result<bool, StoreError> {
        let Some(root) = self.root.clone() else { return Ok(true) };
        let path = root.join(key.as_str());
        let failed = |cause: String, transient| StoreError::Failed {
            operation: "look at",
            key: key.to_string(),
            cause,
            transient,
        };
        let looked = tokio::task::spawn_blocking(move || is_file_within(&root, &path)).await;
        let looked = looked.map_err(|error| failed(error.to_string(), false))?;
        looked.map_err(|error| failed(error.to_string(), descriptors::are_short(&error)))
    }
}

impl Found {
    pub(super) fn of(reading: &Reading) -> Self {
        let Reading { meta: ObjectMeta { key, size, modified, .. }, version, .. } = reading;
        Self { key: key.clone(), size: *size, validators: Validators::of(key, *modified, Some(version)) }
    }
}

/// Whether a folder holds a mirror.
pub(super) fn is_mirror(root: &Path) -> bool {
    PARTS.iter().any(|part| root.join(part).is_dir())
}

fn is_file_within(root: &Path, path: &Path) -> io::Result<bool> {
    // Where a disk was mounted that is gone, nothing is missing but everything: a client
    // that is told of a missing file would go to the internet for it.
    let gone = || io::Error::new(io::ErrorKind::NotFound, "the mirror's folder is gone, or empty");
    let root = real(root)?.ok_or_else(gone)?;
    let Some(real) = real(path)? else { return if is_mirror(&root) { Ok(false) } else { Err(gone()) } };
    // A pipe would be waited for.
    Ok(real.is_file() && real.starts_with(&root) && !real.starts_with(root.join("_sync")))
}

/// A path without links; `None` if nothing is there.
fn real(path: &Path) -> io::Result<Option<PathBuf>> {
    use io::ErrorKind::{InvalidFilename, NotADirectory, NotFound};
    match path.canonicalize() {
        Ok(real) => Ok(Some(real)),
        // A name too long for the file system is nobody's.
        Err(error) if matches!(error.kind(), NotFound | NotADirectory | InvalidFilename) => Ok(None),
        Err(error) => Err(error),
    }
}
