//! A large bottle: ranges fetched side by side, hashed in order, written in
//! parts that become visible together once all of it is verified.
//!
//! Every part takes its room from the shared budget before it is asked for, and
//! a bottle's parts take it in order. So the earliest unhashed part of a bottle
//! always has its room and goes on, and no two bottles wait for each other.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;

use crate::bottle::{Hasher, Verified};
use crate::registry::{ByteRange, Download, Error, Opened};
use crate::store::Upload;

use super::budget::{MemoryBudget, Reservation};
use super::{Bottle, Mirror, MirrorError, PARTS_AT_ONCE};

/// A part that came, and its room.
struct Part {
    index: u32,
    bytes: Bytes,
    room: Reservation,
}

impl Mirror {
    pub(super) async fn fetch_in_parts(
        &self,
        bottle: &Bottle<'_>,
        part_size: u64,
        cancel: &CancellationToken,
    ) -> Result<(), MirrorError> {
        let begin = || self.store.begin(bottle.key, bottle.size, part_size);
        let upload: Arc<dyn Upload> = Arc::from(self.store_retry.run(begin, |_, _| {}).await?);

        let mut writes = Writes {
            upload: Arc::clone(&upload),
            retry: self.store_retry,
            budget: self.budget.clone(),
            tasks: JoinSet::new(),
        };
        let transfer = async {
            match self.transfer(bottle, part_size, &mut writes).await {
                // Several servers behind one name, of which some take no ranges.
                Err(MirrorError::Upstream(Error::RangeRefused { .. })) => {
                    self.transfer_in_one(bottle, part_size, &mut writes).await
                }
                outcome => outcome,
            }
        };
        let mut outcome = cancel.run_until_cancelled(transfer).await.unwrap_or(Err(MirrorError::Cancelled));
        // No write may still be under way when the upload ends, either way.
        if outcome.is_ok()
            && let Err(error) = writes.finish().await
        {
            outcome = Err(error);
        }
        writes.tasks.shutdown().await;

        match outcome {
            Ok(proof) => Ok(upload.complete(proof).await?),
            Err(error) => {
                if let Err(left) = upload.abort().await {
                    tracing::warn!(object.key = %bottle.key, error = %left, "an unfinished upload is left to the lifecycle rule");
                }
                Err(error)
            }
        }
    }

    async fn transfer(
        &self,
        bottle: &Bottle<'_>,
        part_size: u64,
        writes: &mut Writes,
    ) -> Result<Verified, MirrorError> {
        let room = self.budget.reserve(part_size).await;
        let first = range(bottle.size, part_size, 0);
        let probe = self.upstream.retrying(|| async {
            match self.upstream.open(bottle.url, Some(first)).await? {
                Opened::Part(download) => self.read(download, first.end).await.map(Some),
                Opened::Whole(_) => Ok::<_, Error>(None),
            }
        });
        let Some(bytes) = probe.await? else {
            drop(room);
            return self.transfer_in_one(bottle, part_size, writes).await;
        };
        let mut hashing = Hashing::start(Hasher::new(), &bytes, &self.budget);
        writes.start(Part { index: 0, bytes, room }).await?;

        let count = u32::try_from(bottle.size.div_ceil(part_size)).unwrap_or(u32::MAX);
        let mut parts =
            stream::iter(1..count).map(|index| self.part(bottle, part_size, index)).buffered(PARTS_AT_ONCE);
        while let Some(part) = parts.next().await {
            let part = part?;
            hashing = Hashing::start(hashing.finish().await?, &part.bytes, &self.budget);
            writes.start(part).await?;
        }
        Ok(hashing.finish().await?.verify(bottle.digest).map_err(Error::from)?)
    }

    /// Fetches one part, again and again if need be; each try resolves the
    /// redirect anew.
    async fn part(&self, bottle: &Bottle<'_>, part_size: u64, index: u32) -> Result<Part, MirrorError> {
        let room = self.budget.reserve(part_size).await;
        let range = range(bottle.size, part_size, index);
        let bytes = self
            .upstream
            .retrying(|| async {
                match self.upstream.open(bottle.url, Some(range)).await? {
                    Opened::Part(download) => self.read(download, range.end - range.start).await,
                    Opened::Whole(download) => Err(Error::RangeRefused { what: download.what().to_owned() }),
                }
            })
            .await?;
        Ok(Part { index, bytes, room })
    }

    /// The whole-body path, for servers that refuse ranges: one stream, cut
    /// into parts as it comes. A broken stream begins from the start.
    async fn transfer_in_one(
        &self,
        bottle: &Bottle<'_>,
        part_size: u64,
        writes: &mut Writes,
    ) -> Result<Verified, MirrorError> {
        let writes = tokio::sync::Mutex::new(writes);
        self.upstream
            .retrying(|| async {
                let mut writes = writes.lock().await;
                // A write of the stream before must not come after one of this.
                writes.finish().await?;
                let (Opened::Part(mut download) | Opened::Whole(mut download)) =
                    self.upstream.open(bottle.url, None).await?;
                let mut hashing = Hashing::start(Hasher::new(), &Bytes::new(), &self.budget);
                let mut left_over = Bytes::new();
                let count = u32::try_from(bottle.size.div_ceil(part_size)).unwrap_or(u32::MAX);
                for index in 0..count {
                    let room = self.budget.reserve(part_size).await;
                    let range = range(bottle.size, part_size, index);
                    let bytes = self
                        .fill(
                            &mut download,
                            &mut left_over,
                            range.end - range.start,
                            bottle.size,
                            range.start,
                        )
                        .await?;
                    hashing = Hashing::start(hashing.finish().await?, &bytes, &self.budget);
                    writes.start(Part { index, bytes, room }).await?;
                }
                let beyond = match left_over.len() {
                    0 => download.chunk().await?.map_or(0, |chunk| chunk.len()),
                    length => length,
                };
                if beyond > 0 {
                    return Err(wrong_size(&download, bottle.size, bottle.size + beyond as u64).into());
                }
                Ok(hashing.finish().await?.verify(bottle.digest).map_err(Error::from)?)
            })
            .await
    }

    /// The next `length` bytes of a stream that began `before` bytes ago.
    async fn fill(
        &self,
        download: &mut Download,
        left_over: &mut Bytes,
        length: u64,
        total: u64,
        before: u64,
    ) -> Result<Bytes, Error> {
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        let mut buffer = self.budget.buffer(length);
        loop {
            let take = left_over.len().min(length - buffer.len());
            buffer.extend_from_slice(&left_over.split_to(take));
            if buffer.len() == length {
                return Ok(buffer.freeze());
            }
            match download.chunk().await? {
                Some(chunk) => {
                    self.count(chunk.len());
                    *left_over = chunk;
                }
                None => return Err(wrong_size(download, total, before + buffer.len() as u64)),
            }
        }
    }

    /// The whole body of a range.
    async fn read(&self, mut download: Download, length: u64) -> Result<Bytes, Error> {
        let mut buffer = self.budget.buffer(usize::try_from(length).unwrap_or(0));
        while let Some(chunk) = download.chunk().await? {
            self.count(chunk.len());
            if (buffer.len() + chunk.len()) as u64 > length {
                return Err(wrong_size(&download, length, (buffer.len() + chunk.len()) as u64));
            }
            buffer.extend_from_slice(&chunk);
        }
        if buffer.len() as u64 != length {
            return Err(wrong_size(&download, length, buffer.len() as u64));
        }
        Ok(buffer.freeze())
    }
}

/// The writes of one upload that are under way; their room is given back as
/// they finish.
struct Writes {
    upload: Arc<dyn Upload>,
    retry: crate::retry::Policy,
    budget: MemoryBudget,
    tasks: JoinSet<Result<(), MirrorError>>,
}

impl Writes {
    async fn start(&mut self, part: Part) -> Result<(), MirrorError> {
        while let Some(done) = self.tasks.try_join_next() {
            joined(done)?;
        }
        // As many writes as fetches: a slow store holds the fetches back.
        while self.tasks.len() >= PARTS_AT_ONCE {
            if let Some(done) = self.tasks.join_next().await {
                joined(done)?;
            }
        }
        let upload = Arc::clone(&self.upload);
        let (retry, budget) = (self.retry, self.budget.clone());
        let write = async move {
            let Part { index, bytes, room } = part;
            retry
                .run(|| upload.part(index, bytes.clone()), |error, _| tracing::info!(%error, "writing again"))
                .await?;
            budget.recycle(bytes);
            drop(room);
            Ok(())
        };
        self.tasks.spawn(write.in_current_span());
        Ok(())
    }

    async fn finish(&mut self) -> Result<(), MirrorError> {
        while let Some(done) = self.tasks.join_next().await {
            joined(done)?;
        }
        Ok(())
    }
}

fn joined(done: Result<Result<(), MirrorError>, tokio::task::JoinError>) -> Result<(), MirrorError> {
    done.unwrap_or_else(|error| Err(MirrorError::Panicked(error.to_string())))
}

/// One part being hashed where it may take its time (8 MiB take some 5 ms),
/// while the next ones arrive.
struct Hashing(tokio::task::JoinHandle<Hasher>);

impl Hashing {
    fn start(mut hasher: Hasher, bytes: &Bytes, budget: &MemoryBudget) -> Self {
        let (bytes, budget) = (bytes.clone(), budget.clone());
        Self(tokio::task::spawn_blocking(move || {
            hasher.update(&bytes);
            budget.recycle(bytes);
            hasher
        }))
    }

    async fn finish(self) -> Result<Hasher, MirrorError> {
        self.0.await.map_err(|error| MirrorError::Panicked(error.to_string()))
    }
}

fn range(size: u64, part_size: u64, index: u32) -> ByteRange {
    let start = u64::from(index) * part_size;
    ByteRange { start, end: (start + part_size).min(size), total: size }
}

fn wrong_size(download: &Download, expected: u64, actual: u64) -> Error {
    Error::WrongSize { what: download.what().to_owned(), expected, actual }
}
