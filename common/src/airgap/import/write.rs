//! Writes what came, while more of it comes.

use std::sync::Arc;

use bytes::Bytes;
use tokio::task::{JoinError, JoinSet};

use crate::airgap::ImportError;
use crate::airgap::volume::Reader;
use crate::bottle::{Collector, Digest, Hasher, ImagePath, ObjectKey, Verified};
use crate::mirror::{LARGEST_BOTTLE, MemoryBudget, PART_SIZE};
use crate::pipeline::STORE_RETRY;
use crate::store::{Body, Condition, Store, StoreError, Upload};

use super::Importer;
use super::receive::{Received, Receiver, wrong_digest};

/// Writes that are under way.
pub(super) struct Writes {
    store: Arc<dyn Store>,
    memory: MemoryBudget,
    tasks: JoinSet<Result<Written, StoreError>>,
}

/// What was written.
enum Written {
    Bottle { size: u64, was_there: bool },
    Object,
}

/// So many writes are under way at once.
const AT_ONCE: usize = 16;

/// So many parts of a large bottle.
const PARTS_AT_ONCE: usize = 4;

impl Writes {
    pub(super) fn new(importer: &Importer) -> Self {
        let store = Arc::clone(&importer.settler.store);
        Self { store, memory: importer.memory.clone(), tasks: JoinSet::new() }
    }

    /// Writes an object that is no bottle.
    pub(super) async fn object(
        &mut self,
        key: ObjectKey,
        bytes: Bytes,
        received: &mut Received,
    ) -> Result<(), ImportError> {
        self.make_room(received).await?;
        let room = self.memory.reserve(bytes.len() as u64).await;
        let store = Arc::clone(&self.store);
        self.tasks.spawn(async move {
            put(&*store, &key, bytes.into()).await?;
            drop(room);
            Ok(Written::Object)
        });
        Ok(())
    }

    /// Waits for all of them.
    pub(super) async fn finish(&mut self, received: &mut Received) -> Result<(), ImportError> {
        let mut outcome = Ok(());
        while let Some(done) = self.tasks.join_next().await {
            outcome = outcome.and(note(done, received));
        }
        outcome
    }

    async fn make_room(&mut self, received: &mut Received) -> Result<(), ImportError> {
        while let Some(done) = self.tasks.try_join_next() {
            note(done, received)?;
        }
        while self.tasks.len() >= AT_ONCE {
            if let Some(done) = self.tasks.join_next().await {
                note(done, received)?;
            }
        }
        Ok(())
    }
}

fn note(
    done: Result<Result<Written, StoreError>, JoinError>,
    received: &mut Received,
) -> Result<(), ImportError> {
    match done.map_err(|error| ImportError::Panicked(error.to_string()))?? {
        Written::Bottle { size, was_there: true } => received.found.add(size),
        Written::Bottle { size, was_there: false } => received.written.add(size),
        Written::Object => {}
    }
    Ok(())
}

async fn put(store: &dyn Store, key: &ObjectKey, body: Body) -> Result<(), StoreError> {
    let again = |error: &StoreError, _| tracing::info!(object.key = %key, %error, "writing again");
    STORE_RETRY.run(|| store.put(key, body.clone(), Condition::Always), again).await?;
    Ok(())
}

async fn holds(store: &dyn Store, key: &ObjectKey, size: u64) -> Result<bool, StoreError> {
    let found = STORE_RETRY.run(|| store.head(key), |_, _| {}).await?;
    Ok(found.is_some_and(|meta| meta.size == size))
}

impl Receiver<'_> {
    /// Takes a bottle. It is hashed also where the mirror has it: the bundle must be
    /// right as a whole.
    pub(super) async fn bottle(
        &mut self,
        reader: &mut Reader,
        key: &ObjectKey,
        digest: Digest,
        size: u64,
    ) -> Result<(), ImportError> {
        if size > LARGEST_BOTTLE {
            let why = format!("it has {size} bytes, and a bottle {LARGEST_BOTTLE} at most");
            return Err(reader.malformed(why));
        }
        let path = key.as_str().split("/blobs/").next().and_then(|path| path.parse::<ImagePath>().ok());
        let image = path.and_then(|path| self.known.images.get(&path));
        let is_trusted = self.importer.trusts(image, &digest);
        if size > PART_SIZE {
            self.large(reader, key, digest, size, is_trusted).await
        } else {
            self.small(reader, key, digest, size, is_trusted).await
        }
    }

    async fn small(
        &mut self,
        reader: &mut Reader,
        key: &ObjectKey,
        digest: Digest,
        size: u64,
        is_trusted: bool,
    ) -> Result<(), ImportError> {
        self.writes.make_room(&mut self.received).await?;
        let room = self.writes.memory.reserve(size).await;
        let mut collector = Collector::with_capacity(usize::try_from(size).unwrap_or(0));
        while let Some(chunk) = reader.chunk().await? {
            collector.push(&chunk);
        }
        let bytes = collector.verify(digest);
        let bytes = bytes.map_err(|error| wrong_digest(reader, key.as_str(), error.actual))?;
        let (store, key) = (Arc::clone(&self.writes.store), key.clone());
        self.writes.tasks.spawn(async move {
            let was_there = is_trusted && holds(&*store, &key, size).await?;
            if !was_there {
                put(&*store, &key, bytes.into()).await?;
            }
            drop(room);
            Ok(Written::Bottle { size, was_there })
        });
        Ok(())
    }

    async fn large(
        &mut self,
        reader: &mut Reader,
        key: &ObjectKey,
        digest: Digest,
        size: u64,
        is_trusted: bool,
    ) -> Result<(), ImportError> {
        let store = Arc::clone(&self.writes.store);
        if is_trusted && holds(&*store, key, size).await? {
            let mut hasher = Hasher::new();
            while let Some(chunk) = reader.chunk().await? {
                hasher.update(&chunk);
            }
            verify(hasher, reader, key, digest)?;
            self.received.found.add(size);
            return Ok(());
        }
        let upload = STORE_RETRY.run(|| store.begin(key, size, PART_SIZE), |_, _| {}).await?;
        let upload: Arc<dyn Upload> = Arc::from(upload);
        let mut parts = Parts { upload: Arc::clone(&upload), tasks: JoinSet::new() };
        let memory = self.writes.memory.clone();
        let outcome = match parts.read(reader, key, digest, size, &memory).await {
            Ok(proof) => Ok(upload.complete(proof).await?),
            Err(error) => {
                // No write may still be under way when the upload ends.
                parts.tasks.shutdown().await;
                if let Err(left) = upload.abort().await {
                    tracing::warn!(object.key = %key, error = %left, "an unfinished upload is left to the lifecycle rule");
                }
                Err(error)
            }
        };
        outcome.map(|()| self.received.written.add(size))
    }
}

/// The parts of one bottle that are being written.
struct Parts {
    upload: Arc<dyn Upload>,
    tasks: JoinSet<Result<(), StoreError>>,
}

impl Parts {
    /// Writes all parts as they come; the proof that they hashed right.
    async fn read(
        &mut self,
        reader: &mut Reader,
        key: &ObjectKey,
        digest: Digest,
        size: u64,
        memory: &MemoryBudget,
    ) -> Result<Verified, ImportError> {
        let mut hasher = Hasher::new();
        let mut rest = Bytes::new();
        let count = u32::try_from(size.div_ceil(PART_SIZE)).unwrap_or(u32::MAX);
        for index in 0..count {
            let length = (size - u64::from(index) * PART_SIZE).min(PART_SIZE);
            let length = usize::try_from(length).unwrap_or(usize::MAX);
            while self.tasks.len() >= PARTS_AT_ONCE {
                self.join_one().await?;
            }
            let room = memory.reserve(length as u64).await;
            let mut buffer = memory.buffer(length);
            while buffer.len() < length {
                if rest.is_empty() {
                    let chunk = reader.chunk().await?;
                    rest = chunk.ok_or_else(|| reader.cut_short())?;
                    hasher.update(&rest);
                }
                buffer.extend_from_slice(&rest.split_to(rest.len().min(length - buffer.len())));
            }
            let (upload, memory, bytes) = (Arc::clone(&self.upload), memory.clone(), buffer.freeze());
            self.tasks.spawn(async move {
                STORE_RETRY.run(|| upload.part(index, bytes.clone()), |_, _| {}).await?;
                memory.recycle(bytes);
                drop(room);
                Ok(())
            });
        }
        while !self.tasks.is_empty() {
            self.join_one().await?;
        }
        verify(hasher, reader, key, digest)
    }

    async fn join_one(&mut self) -> Result<(), ImportError> {
        match self.tasks.join_next().await {
            None | Some(Ok(Ok(()))) => Ok(()),
            Some(Ok(Err(error))) => Err(error.into()),
            Some(Err(error)) => Err(ImportError::Panicked(error.to_string())),
        }
    }
}

fn verify(hasher: Hasher, reader: &Reader, key: &ObjectKey, digest: Digest) -> Result<Verified, ImportError> {
    hasher.verify(digest).map_err(|error| wrong_digest(reader, key.as_str(), error.actual))
}
