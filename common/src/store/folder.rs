//! The store of a laptop: a folder.
//!
//! An object is written to a file of its own below `_sync/tmp`, made durable,
//! and renamed to its key, so that nothing half-written is ever seen.

use std::fs::{self, File};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use futures_util::{StreamExt as _, stream};
use jiff::Timestamp;

use crate::bottle::{Digest, Hasher, KeyKind, ObjectKey, Verified};
use crate::owner::{self, Owner};

use super::{
    Body, Condition, Object, ObjectMeta, Reading, Store, StoreError, Tags, Upload, Version, check_adoption,
    check_copy, check_deletable, check_promise, check_proof, check_taggable, superseded_at,
};

/// A file is read in portions of this many bytes.
const PORTION: usize = 256 << 10;

/// A folder that holds objects.
#[derive(Clone)]
pub struct Folder {
    shared: Arc<Shared>,
}

struct Shared {
    root: PathBuf,
    /// `None` where it is only looked at.
    writing: Option<Writing>,
    /// Folders known to exist and to be durable.
    made: Mutex<std::collections::HashSet<PathBuf>>,
}

/// What a process needs that writes.
struct Writing {
    /// Its own part of `_sync/tmp`.
    temporary: PathBuf,
    owner: Owner,
    count: AtomicU64,
}

impl Folder {
    /// Opens a folder, and makes it if need be. What dead processes left
    /// half-written is removed.
    pub fn open(root: &Path) -> Result<Self, StoreError> {
        let fail = |error: io::Error| failed("open", &root.display().to_string(), &error);
        let owners = owners(root);
        let temporary = root.join("_sync/tmp");
        fs::create_dir_all(&temporary).map_err(fail)?;
        let owner = Owner::announce(&owners).map_err(fail)?;
        clean(&temporary, &owners).map_err(fail)?;
        owner::sweep(&owners).map_err(fail)?;
        let temporary = temporary.join(owner.id());
        fs::create_dir(&temporary).map_err(fail)?;
        let writing = Writing { temporary, owner, count: AtomicU64::new(0) };
        let shared = Shared { root: root.to_owned(), writing: Some(writing), made: Mutex::default() };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// Opens a folder to look at it, and leaves no trace there: every write is refused.
    pub fn view(root: &Path) -> Self {
        let shared = Shared { root: root.to_owned(), writing: None, made: Mutex::default() };
        Self { shared: Arc::new(shared) }
    }

    /// The folder.
    pub fn root(&self) -> &Path {
        &self.shared.root
    }

    async fn run<T: Send + 'static>(
        &self,
        operation: &'static str,
        key: &str,
        work: impl FnOnce(&Shared) -> Result<T, Trouble> + Send + 'static,
    ) -> Result<T, StoreError> {
        let shared = Arc::clone(&self.shared);
        match tokio::task::spawn_blocking(move || work(&shared)).await {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(Trouble::Store(error))) => Err(error),
            Ok(Err(Trouble::Io(error))) => Err(failed(operation, key, &error)),
            Err(error) => Err(StoreError::Failed {
                operation,
                key: key.to_owned(),
                cause: error.to_string(),
                transient: true,
            }),
        }
    }
}

/// Where the processes that share a folder announce themselves.
pub(crate) fn owners(root: &Path) -> PathBuf {
    root.join("_sync/owners")
}

#[async_trait]
impl Store for Folder {
    async fn head(&self, key: &ObjectKey) -> Result<Option<ObjectMeta>, StoreError> {
        let key = key.clone();
        self.run("look at", &key.to_string(), move |shared| {
            let meta = optional(fs::metadata(shared.path(&key)))?;
            Ok(meta.filter(fs::Metadata::is_file).map(|meta| meta_of(key, &meta)).transpose()?)
        })
        .await
    }

    async fn read(&self, key: &ObjectKey, range: Option<Range<u64>>) -> Result<Option<Reading>, StoreError> {
        let (key, name) = (key.clone(), key.to_string());
        let opened = self.run("read", &name, move |shared| {
            let Some(mut file) = optional(File::open(shared.path(&key)))? else { return Ok(None) };
            let meta = file.metadata()?;
            if !meta.is_file() {
                return Ok(None);
            }
            let meta = meta_of(key, &meta)?;
            // The version of a small object is its digest; that of a large one would be
            // a pass over all of it.
            let may_be_large =
                matches!(meta.key.kind(), KeyKind::Bottle(_) | KeyKind::FlatBottle | KeyKind::Foreign);
            let version = if may_be_large { version_of_meta(&meta) } else { version_of_file(&mut file)? };
            let range = range.unwrap_or(0..meta.size);
            if range.start > range.end || range.end > meta.size {
                let why = "the range lies outside of it";
                return Err(StoreError::Refused { key: meta.key.to_string(), why }.into());
            }
            file.seek(SeekFrom::Start(range.start))?;
            Ok(Some((file, range.end - range.start, meta, version)))
        });
        let Some((file, left, meta, version)) = opened.await? else { return Ok(None) };
        let folder = self.clone();
        let body = stream::try_unfold((file, left), move |(file, left)| {
            let (folder, name) = (folder.clone(), name.clone());
            async move {
                if left == 0 {
                    return Ok(None);
                }
                let next = folder.run("read", &name, move |_| {
                    let mut file = file;
                    let length = usize::try_from(left).unwrap_or(PORTION).min(PORTION);
                    let mut portion = BytesMut::zeroed(length);
                    file.read_exact(&mut portion)?;
                    Ok((portion.freeze(), file))
                });
                let (portion, file) = next.await?;
                let left = left - portion.len() as u64;
                Ok(Some((portion, (file, left))))
            }
        });
        Ok(Some(Reading { meta, version, body: body.boxed() }))
    }

    async fn put(&self, key: &ObjectKey, body: Body, condition: Condition) -> Result<Version, StoreError> {
        let key = key.clone();
        self.run("write", &key.to_string(), move |shared| {
            let modified = match &body {
                Body::Dated(_, modified) => Some(*modified),
                Body::Plain(_) | Body::Verified(_) => None,
            };
            let body = check_promise(&key, body)?;
            let temporary = shared.create()?;
            (&temporary.file).write_all(&body)?;
            if let Some(modified) = modified {
                temporary.file.set_modified(modified.into())?;
            }
            let version = version_of(&body);
            if condition == Condition::Always {
                shared.publish(temporary, &key)?;
                return Ok(version);
            }
            // Between looking and renaming nobody else may write.
            let _turn = shared.turn()?;
            let current = shared.read(&key)?.map(|object| object.version);
            let holds = match &condition {
                Condition::Always => true,
                Condition::Absent => current.is_none(),
                Condition::Matches(version) => current.as_ref() == Some(version),
            };
            if !holds {
                return Err(StoreError::Conflict { key }.into());
            }
            shared.publish(temporary, &key)?;
            Ok(version)
        })
        .await
    }

    async fn begin(&self, key: &ObjectKey, size: u64, part_size: u64) -> Result<Box<dyn Upload>, StoreError> {
        let key = key.clone();
        let folder = self.clone();
        self.run("begin", &key.to_string(), move |shared| {
            if key.blob_digest().is_none() {
                return Err(
                    StoreError::Refused { key: key.to_string(), why: "only bottles come in parts" }.into()
                );
            }
            let temporary = shared.create()?;
            let upload: Box<dyn Upload> = Box::new(FolderUpload {
                folder,
                temporary: Mutex::new(Some(Arc::new(temporary))),
                key,
                size,
                part_size,
            });
            Ok(upload)
        })
        .await
    }

    async fn copy(&self, from: &ObjectKey, to: &ObjectKey) -> Result<bool, StoreError> {
        let expected = check_copy(from, to)?;
        let (from, to) = (from.clone(), to.clone());
        self.run("copy", &from.to_string(), move |shared| {
            let Some(mut source) = optional(File::open(shared.path(&from)))? else { return Ok(false) };
            let temporary = shared.create()?;
            let mut tee = Tee { hasher: Hasher::new(), file: &temporary.file };
            io::copy(&mut source, &mut tee)?;
            // A copy of a file that was damaged on disk would be a lie too.
            if let Err(mismatch) = tee.hasher.verify(expected) {
                return Err(StoreError::WrongDigest { key: from, actual: mismatch.actual }.into());
            }
            shared.publish(temporary, &to)?;
            Ok(true)
        })
        .await
    }

    async fn adopt(
        &self,
        from: &ObjectKey,
        version: &Version,
        to: &ObjectKey,
        proof: Verified,
    ) -> Result<bool, StoreError> {
        check_adoption(to, &proof)?;
        let (from, to, version) = (from.clone(), to.clone(), version.clone());
        self.run("adopt", &from.to_string(), move |shared| {
            let Some(mut source) = optional(File::open(shared.path(&from)))? else { return Ok(false) };
            if version_of_meta(&meta_of(from.clone(), &source.metadata()?)?) != version {
                return Err(StoreError::Conflict { key: from }.into());
            }
            let temporary = shared.create()?;
            let mut tee = Tee { hasher: Hasher::new(), file: &temporary.file };
            io::copy(&mut source, &mut tee)?;
            // A file may be written in place, which its metadata tell too late.
            if let Err(mismatch) = tee.hasher.verify(proof.digest()) {
                return Err(StoreError::WrongDigest { key: from, actual: mismatch.actual }.into());
            }
            shared.publish(temporary, &to)?;
            Ok(true)
        })
        .await
    }

    async fn list(
        &self,
        prefix: &str,
        after: Option<&ObjectKey>,
        limit: usize,
    ) -> Result<Vec<ObjectMeta>, StoreError> {
        let (prefix, after) = (prefix.to_owned(), after.cloned());
        self.run("list", &prefix.clone(), move |shared| {
            let mut found = Vec::new();
            let start = prefix.rfind('/').map_or("", |end| &prefix[..end]);
            walk(&shared.root, start, &mut |key, path| {
                let Ok(key) = key.parse::<ObjectKey>() else { return Ok(()) };
                let fits = key.as_str().starts_with(&prefix) && !is_private(key.as_str());
                if fits && after.as_ref().is_none_or(|after| key > *after) {
                    // A file may go away while the folder is read.
                    if let Some(meta) = optional(fs::metadata(path))? {
                        found.push(meta_of(key, &meta)?);
                    }
                }
                Ok(())
            })?;
            found.sort_by(|a, b| a.key.cmp(&b.key));
            found.truncate(limit);
            Ok(found)
        })
        .await
    }

    async fn delete(&self, keys: &[ObjectKey]) -> Result<(), StoreError> {
        check_deletable(keys)?;
        let keys = keys.to_vec();
        self.run("delete", keys.first().map_or("", ObjectKey::as_str).to_owned().as_str(), move |shared| {
            for key in &keys {
                optional(fs::remove_file(shared.path(key)))?;
            }
            Ok(())
        })
        .await
    }

    async fn retag(&self, key: &ObjectKey, tags: &Tags) -> Result<bool, StoreError> {
        check_taggable(key)?;
        let beside = tags_key(key)?;
        let body = serde_json::to_vec(tags).unwrap_or_default();
        let (key, is_none) = (key.clone(), tags.is_empty());
        self.run("tag", &key.to_string(), move |shared| {
            if !shared.path(&key).is_file() {
                return Ok(false);
            }
            if is_none {
                optional(fs::remove_file(shared.path(&beside)))?;
                return Ok(true);
            }
            let temporary = shared.create()?;
            (&temporary.file).write_all(&body)?;
            shared.publish(temporary, &beside)?;
            Ok(true)
        })
        .await
    }

    async fn tags(&self, key: &ObjectKey) -> Result<Tags, StoreError> {
        let beside = tags_key(key)?;
        self.run("read the tags of", &key.to_string(), move |shared| {
            Ok(shared
                .read(&beside)?
                .map_or_else(Tags::new, |object| serde_json::from_slice(&object.body).unwrap_or_default()))
        })
        .await
    }

    async fn expire(&self, keys: &[ObjectKey], before: Timestamp) -> Result<bool, StoreError> {
        for key in keys {
            check_taggable(key)?;
        }
        let first = keys.first().map(ToString::to_string).unwrap_or_default();
        let keys = keys.to_vec();
        self.run("expire", &first, move |shared| {
            shared.writing()?;
            for key in keys {
                let Ok(beside) = tags_key(&key) else { continue };
                let tags = shared.read(&beside)?;
                // What says something else, or nothing that can be read, stays.
                let tags = tags.and_then(|object| serde_json::from_slice::<Tags>(&object.body).ok());
                if tags.as_ref().and_then(superseded_at).is_some_and(|since| since <= before) {
                    optional(fs::remove_file(shared.path(&key)))?;
                    optional(fs::remove_file(shared.path(&beside)))?;
                }
            }
            Ok(true)
        })
        .await
    }
}

struct FolderUpload {
    folder: Folder,
    /// `None` once the upload has ended.
    temporary: Mutex<Option<Arc<Temporary>>>,
    key: ObjectKey,
    size: u64,
    part_size: u64,
}

#[async_trait]
impl Upload for FolderUpload {
    async fn part(&self, index: u32, body: Bytes) -> Result<(), StoreError> {
        let offset = u64::from(index) * self.part_size;
        let expected = self.size.saturating_sub(offset).min(self.part_size);
        if body.len() as u64 != expected {
            return Err(StoreError::Refused {
                key: self.key.to_string(),
                why: "a part has the wrong length",
            });
        }
        let temporary = self.temporary()?;
        self.folder
            .run("write a part of", self.key.as_str(), move |_| {
                Ok(temporary.file.write_all_at(&body, offset)?)
            })
            .await
    }

    async fn complete(&self, proof: Verified) -> Result<(), StoreError> {
        check_proof(&self.key, self.size, &proof)?;
        let temporary = self.temporary()?;
        self.take();
        let key = self.key.clone();
        self.folder
            .run("complete", self.key.as_str(), move |shared| {
                let temporary = Arc::into_inner(temporary)
                    .ok_or_else(|| io::Error::other("a part is still being written"))?;
                Ok(shared.publish(temporary, &key)?)
            })
            .await
    }

    async fn abort(&self) -> Result<(), StoreError> {
        // The file goes with its last holder. A write that was given up may still
        // go on for a moment on its own thread; when this returns, none does.
        let mut temporary = self.take();
        while let Some(held) = temporary.take().and_then(|held| Arc::try_unwrap(held).err()) {
            tokio::time::sleep(Duration::from_millis(2)).await;
            temporary = Some(held);
        }
        Ok(())
    }
}

impl FolderUpload {
    fn temporary(&self) -> Result<Arc<Temporary>, StoreError> {
        let temporary = self.temporary.lock().unwrap_or_else(PoisonError::into_inner);
        temporary
            .clone()
            .ok_or_else(|| StoreError::Refused { key: self.key.to_string(), why: "the upload has ended" })
    }

    fn take(&self) -> Option<Arc<Temporary>> {
        self.temporary.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// A file on its way to a key; removed unless it is published.
struct Temporary {
    file: File,
    path: PathBuf,
    published: bool,
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if !self.published {
            let _ = fs::remove_file(&self.path);
        }
    }
}

impl Shared {
    fn path(&self, key: &ObjectKey) -> PathBuf {
        self.root.join(key.as_str())
    }

    fn read(&self, key: &ObjectKey) -> io::Result<Option<Object>> {
        let body = optional(fs::read(self.path(key)))?;
        Ok(body.map(|body| Object { version: version_of(&body), body: body.into() }))
    }

    /// What writing takes; an error where the folder is only looked at.
    fn writing(&self) -> io::Result<&Writing> {
        let refused = || {
            io::Error::new(
                io::ErrorKind::ReadOnlyFilesystem,
                "the folder was opened to be read: it can't be written to, or need not be",
            )
        };
        self.writing.as_ref().ok_or_else(refused)
    }

    fn create(&self) -> io::Result<Temporary> {
        let writing = self.writing()?;
        let path = writing.temporary.join(writing.count.fetch_add(1, Ordering::Relaxed).to_string());
        let file = File::options().read(true).write(true).create_new(true).open(&path)?;
        Ok(Temporary { file, path, published: false })
    }

    /// Makes a file durable, and visible under its key.
    fn publish(&self, mut temporary: Temporary, key: &ObjectKey) -> io::Result<()> {
        temporary.file.sync_data()?;
        let path = self.path(key);
        let parent = path.parent().unwrap_or(&self.root);
        self.make_durable(parent)?;
        fs::rename(&temporary.path, &path)?;
        temporary.published = true;
        if let (KeyKind::Bottle(_) | KeyKind::FlatBottle, Ok(tags)) = (key.kind(), tags_key(key)) {
            // They were the former object's.
            optional(fs::remove_file(self.path(&tags)))?;
        }
        sync_folder(parent)
    }

    /// Makes a folder and those above it, each durable in its own parent.
    fn make_durable(&self, folder: &Path) -> io::Result<()> {
        if folder == self.root || self.made.lock().unwrap_or_else(PoisonError::into_inner).contains(folder) {
            return Ok(());
        }
        if let Some(parent) = folder.parent() {
            self.make_durable(parent)?;
            match fs::create_dir(folder) {
                Ok(()) => sync_folder(parent)?,
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists && folder.is_dir() => {}
                Err(error) => return Err(error),
            }
        }
        self.made.lock().unwrap_or_else(PoisonError::into_inner).insert(folder.to_owned());
        Ok(())
    }

    /// The turn to write under a condition; it ends when the file is dropped.
    fn turn(&self) -> io::Result<File> {
        self.writing()?;
        let file = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(self.root.join("_sync/turn.lock"))?;
        file.lock()?;
        Ok(file)
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        if let Some(writing) = &self.writing {
            let _ = fs::remove_dir_all(&writing.temporary);
            tracing::trace!(owner.id = writing.owner.id(), "the folder is closed");
        }
    }
}

/// Removes what dead processes left half-written.
fn clean(temporary: &Path, owners: &Path) -> io::Result<()> {
    for entry in fs::read_dir(temporary)? {
        let entry = entry?;
        if entry.file_name().to_str().is_some_and(|id| owner::is_dead(owners, id)) {
            fs::remove_dir_all(entry.path()).or_else(|error| match error.kind() {
                // Another process is cleaning up too.
                io::ErrorKind::NotFound => Ok(()),
                _ => Err(error),
            })?;
        }
    }
    Ok(())
}

/// The store's own files, which are no objects.
fn is_private(key: &str) -> bool {
    ["_sync/tmp/", "_sync/owners/", "_sync/tags/", "_sync/turn.lock", "_sync/queue.sqlite"]
        .iter()
        .any(|private| key.starts_with(private))
}

fn tags_key(key: &ObjectKey) -> Result<ObjectKey, StoreError> {
    key.staged_in("tags")
        .map_err(|_| StoreError::Refused { key: key.to_string(), why: "its key is too long to be tagged" })
}

fn version_of(body: &[u8]) -> Version {
    Version(Digest::of(body).to_string())
}

/// The version of a small file, from its bytes. Small is what is no bottle: an API
/// file has 30 MB, and many may be read at once.
fn version_of_file(file: &mut File) -> io::Result<Version> {
    let mut hasher = Hasher::new();
    let mut portion = vec![0; PORTION];
    loop {
        match file.read(&mut portion)? {
            0 => return Ok(Version(hasher.finish().to_string())),
            length => hasher.update(&portion[..length]),
        }
    }
}

/// The version of a file that may be large: files are replaced, never written in place.
fn version_of_meta(meta: &ObjectMeta) -> Version {
    Version(format!("{:x}-{:x}", meta.modified.as_nanosecond(), meta.size))
}

fn meta_of(key: ObjectKey, meta: &fs::Metadata) -> io::Result<ObjectMeta> {
    let modified = Timestamp::try_from(meta.modified()?).unwrap_or(Timestamp::UNIX_EPOCH);
    Ok(ObjectMeta { key, size: meta.len(), modified, sha256: None })
}

fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

fn walk(root: &Path, below: &str, each: &mut impl FnMut(&str, &Path) -> io::Result<()>) -> io::Result<()> {
    let folder = if below.is_empty() { root.to_owned() } else { root.join(below) };
    let Some(entries) = optional(fs::read_dir(&folder))? else { return Ok(()) };
    for entry in entries {
        let entry = entry?;
        let Ok(name) = entry.file_name().into_string() else { continue };
        let key = if below.is_empty() { name } else { format!("{below}/{name}") };
        if entry.file_type()?.is_dir() {
            if !is_private(&format!("{key}/")) {
                walk(root, &key, each)?;
            }
        } else {
            each(&key, &entry.path())?;
        }
    }
    Ok(())
}

fn optional<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        // A file where the key has a folder: the key itself is free.
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

fn failed(operation: &'static str, key: &str, error: &io::Error) -> StoreError {
    let (key, cause) = (key.to_owned(), error.to_string());
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => StoreError::NoRoom { key, cause },
        kind => {
            let lasting = matches!(kind, io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem);
            StoreError::Failed { operation, key, cause, transient: !lasting }
        }
    }
}

enum Trouble {
    Io(io::Error),
    Store(StoreError),
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<StoreError> for Trouble {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

/// Hashes what is written to a file.
struct Tee<'a> {
    hasher: Hasher,
    file: &'a File,
}

impl Write for Tee<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.hasher.update(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::super::conformance;
    use super::*;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn it_keeps_the_store_contract() {
        let folder = tempfile::tempdir().unwrap();
        let store = Folder::open(folder.path()).unwrap();
        conformance::run(&store, true).await;
    }

    #[tokio::test]
    async fn what_a_dead_process_left_half_written_is_removed() {
        let folder = tempfile::tempdir().unwrap();
        let left = folder.path().join("_sync/tmp/1-1-1");
        fs::create_dir_all(&left).unwrap();
        fs::write(left.join("0"), b"half").unwrap();
        let alive = Folder::open(folder.path()).unwrap();
        let mine = alive.shared.create().unwrap();
        let _other = Folder::open(folder.path()).unwrap();
        assert!(!left.exists());
        assert!(mine.path.exists(), "a living process's file was removed");
    }

    #[tokio::test]
    async fn an_upload_that_is_dropped_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let store = Folder::open(folder.path()).unwrap();
        let digest = Digest::of(b"12345678");
        let key = ObjectKey::blob(&"v2/x/y".parse().unwrap(), &digest);
        let upload = store.begin(&key, 8, 4).await.unwrap();
        upload.part(0, Bytes::from_static(b"1234")).await.unwrap();
        drop(upload);
        assert_eq!(fs::read_dir(&store.shared.writing().unwrap().temporary).unwrap().count(), 0);
        assert!(store.head(&key).await.unwrap().is_none());
    }
}
