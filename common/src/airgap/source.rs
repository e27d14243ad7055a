//! Reads what goes into a bundle, and checks it on the way.

use bytes::Bytes;
use futures_util::TryStreamExt as _;
use futures_util::stream::BoxStream;

use crate::bottle::{Digest, Hasher, ObjectKey};
use crate::retry::{Retryable as _, Verdict};
use crate::store::{Store, StoreError};

use super::ExportError;
use crate::pipeline::STORE_RETRY;

/// An object that is read once, from its beginning to its end. Where a read breaks
/// off, another one goes on from there: a large bottle takes long, and an export of
/// many must not begin anew for one of them.
pub(super) struct Source<'a> {
    store: &'a dyn Store,
    key: &'a ObjectKey,
    size: u64,
    expected: Digest,
    hasher: Hasher,
    at: u64,
    body: Option<BoxStream<'static, Result<Bytes, StoreError>>>,
    /// Failures since the last byte.
    failures: u32,
}

/// How often in a row a read may fail.
const MOST_FAILURES: u32 = 6;

impl<'a> Source<'a> {
    /// An object of `size` bytes that should hash to `expected`; `None` if it is gone.
    pub(super) async fn open(
        store: &'a dyn Store,
        key: &'a ObjectKey,
        size: u64,
        expected: Digest,
    ) -> Result<Option<Self>, ExportError> {
        let hasher = Hasher::new();
        let mut source = Self { store, key, size, expected, hasher, at: 0, body: None, failures: 0 };
        Ok(source.begin().await?.then_some(source))
    }

    /// The next bytes; `None` at the end, if all of them hashed right.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>, ExportError> {
        while self.at < self.size {
            let Some(body) = &mut self.body else {
                if !self.begin().await? {
                    return Err(self.damaged("it is gone".to_owned()));
                }
                continue;
            };
            match body.try_next().await {
                Ok(Some(chunk)) => {
                    self.at += chunk.len() as u64;
                    self.failures = 0;
                    self.hasher.update(&chunk);
                    return Ok(Some(chunk));
                }
                Ok(None) => self.failed(self.early_end()).await?,
                Err(error) => self.failed(error).await?,
            }
        }
        match std::mem::take(&mut self.hasher).verify(self.expected) {
            Ok(_) => Ok(None),
            Err(mismatch) => Err(self.damaged(format!("its bytes hash to {}", mismatch.actual))),
        }
    }

    /// All of it, in memory: for what is small.
    pub(super) async fn whole(mut self) -> Result<Bytes, ExportError> {
        let mut bytes = bytes::BytesMut::with_capacity(usize::try_from(self.size).unwrap_or(0));
        while let Some(chunk) = self.next().await? {
            bytes.extend_from_slice(&chunk);
        }
        Ok(bytes.freeze())
    }

    /// Opens it where it is; `false` if it is gone.
    async fn begin(&mut self) -> Result<bool, ExportError> {
        loop {
            let rest = (self.at > 0).then_some(self.at..self.size);
            match self.store.read(self.key, rest).await {
                Ok(None) => return Ok(false),
                Ok(Some(reading)) if reading.meta.size != self.size => {
                    let why = format!("it has {} bytes in place of {}", reading.meta.size, self.size);
                    return Err(self.damaged(why));
                }
                Ok(Some(reading)) => {
                    self.body = Some(reading.body);
                    return Ok(true);
                }
                Err(error) => self.failed(error).await?,
            }
        }
    }

    /// Waits before another try, if there is to be one.
    async fn failed(&mut self, error: StoreError) -> Result<(), ExportError> {
        self.body = None;
        self.failures += 1;
        if error.verdict() == Verdict::GiveUp || self.failures >= MOST_FAILURES {
            return Err(error.into());
        }
        tracing::info!(object.key = %self.key, %error, "reading on after a failure");
        tokio::time::sleep(STORE_RETRY.wait_after(self.failures)).await;
        Ok(())
    }

    fn early_end(&self) -> StoreError {
        StoreError::Failed {
            operation: "read",
            key: self.key.to_string(),
            cause: format!("it ended after {} bytes of {}", self.at, self.size),
            transient: true,
        }
    }

    fn damaged(&self, why: String) -> ExportError {
        ExportError::Damaged { key: self.key.clone(), why }
    }
}

/// Reads a small object; `None` if it is not there.
pub(super) async fn small(store: &dyn Store, key: &ObjectKey) -> Result<Option<Bytes>, StoreError> {
    let object = STORE_RETRY.run(|| store.get(key), |_, _| {}).await?;
    Ok(object.map(|object| object.body))
}
