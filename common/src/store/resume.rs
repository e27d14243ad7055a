//! Reads a large object to its end. Where a read breaks off, another one goes on from
//! there: it takes long, and whoever reads many must not begin anew for one of them.

use bytes::Bytes;
use futures_util::TryStreamExt as _;
use futures_util::stream::BoxStream;

use crate::bottle::{Hasher, ObjectKey};
use crate::retry::{Policy, Retryable as _, Verdict};

use super::{Store, StoreError, Version};

/// An object that is read once, from its beginning to its end.
pub struct Resumed<'a> {
    store: &'a dyn Store,
    key: &'a ObjectKey,
    retry: Policy,
    size: u64,
    version: Version,
    is_one_state: bool,
    at: u64,
    body: Option<BoxStream<'static, Result<Bytes, StoreError>>>,
    /// Failures since the last byte.
    failures: u32,
}

/// How often in a row a read may fail.
const MOST_FAILURES: u32 = 7;

impl<'a> Resumed<'a> {
    /// Opens an object; `None` if it is not there.
    pub async fn open(
        store: &'a dyn Store,
        key: &'a ObjectKey,
        retry: Policy,
    ) -> Result<Option<Self>, StoreError> {
        let mut failures = 0;
        let reading = loop {
            match store.read(key, None).await {
                Ok(reading) => break reading,
                Err(error) => wait(key, &retry, &mut failures, error).await?,
            }
        };
        Ok(reading.map(|reading| Self {
            store,
            key,
            retry,
            size: reading.meta.size,
            version: reading.version,
            is_one_state: true,
            at: 0,
            body: Some(reading.body),
            failures,
        }))
    }

    /// Its length in bytes.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Which of its states was read, if it was one and the same to the end.
    pub fn version(self) -> Option<Version> {
        self.is_one_state.then_some(self.version)
    }

    /// The next bytes; `None` at the end. An object that has another length by now, or is
    /// gone, is a [`StoreError::Conflict`].
    pub async fn next(&mut self) -> Result<Option<Bytes>, StoreError> {
        while self.at < self.size {
            let Some(body) = &mut self.body else {
                self.reopen().await?;
                continue;
            };
            let error = match body.try_next().await {
                Ok(Some(chunk)) => {
                    self.at += chunk.len() as u64;
                    self.failures = 0;
                    return Ok(Some(chunk));
                }
                Ok(None) => self.early_end(),
                Err(error) => error,
            };
            self.body = None;
            wait(self.key, &self.retry, &mut self.failures, error).await?;
        }
        Ok(None)
    }

    /// All that is left of it, hashed; `each` hears of the length of every chunk.
    pub async fn hash(&mut self, mut each: impl FnMut(usize)) -> Result<Hasher, StoreError> {
        let mut hasher = Hasher::new();
        while let Some(chunk) = self.next().await? {
            hasher.update(&chunk);
            each(chunk.len());
        }
        Ok(hasher)
    }

    /// Opens it where it broke off.
    async fn reopen(&mut self) -> Result<(), StoreError> {
        let range = (self.at > 0).then_some(self.at..self.size);
        match self.store.read(self.key, range).await {
            Ok(Some(reading)) if reading.meta.size == self.size => {
                self.is_one_state &= reading.version == self.version;
                self.body = Some(reading.body);
                Ok(())
            }
            Ok(_) | Err(StoreError::Refused { .. }) => Err(StoreError::Conflict { key: self.key.clone() }),
            Err(error) => wait(self.key, &self.retry, &mut self.failures, error).await,
        }
    }

    fn early_end(&self) -> StoreError {
        StoreError::Failed {
            operation: "read",
            key: self.key.to_string(),
            cause: format!("it ended after {} bytes of {}", self.at, self.size),
            transient: true,
        }
    }
}

/// Waits before another try, if there is to be one.
async fn wait(
    key: &ObjectKey,
    retry: &Policy,
    failures: &mut u32,
    error: StoreError,
) -> Result<(), StoreError> {
    *failures += 1;
    if error.verdict() == Verdict::GiveUp || *failures >= MOST_FAILURES {
        return Err(error);
    }
    tracing::info!(object.key = %key, %error, "reading on after a failure");
    tokio::time::sleep(retry.wait_after(*failures)).await;
    Ok(())
}
