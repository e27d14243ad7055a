//! A store in which things happen while an import is at work.

use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use common::bottle::{ObjectKey, Verified};
use common::store::{Body, Condition, ObjectMeta, Reading, Store, StoreError, Tags, Upload, Version};
use futures_util::StreamExt as _;
use futures_util::future::BoxFuture;
use jiff::Timestamp;

use crate::fixture::Fixture;

/// What a test does in between.
pub(crate) type Hook = Box<dyn Fn() -> BoxFuture<'static, ()> + Send + Sync>;

/// A store that tells what was read, and in which things happen in between.
pub(crate) struct Meddled {
    pub(crate) inner: Arc<dyn Store>,
    pub(crate) reads: Mutex<Vec<(String, Option<Range<u64>>)>>,
    /// How many reads of dated objects break in the middle, each after some bytes.
    pub(crate) breaks: AtomicUsize,
    pub(crate) before_second_read: Option<Hook>,
    pub(crate) before_adopt: Option<Hook>,
    pub(crate) copies_nothing: bool,
    /// An object that the store refuses to read, and whether it says that that may pass.
    pub(crate) unreadable: Option<(String, bool)>,
}

impl Meddled {
    pub(crate) fn of(fixture: &Fixture) -> Self {
        Self {
            inner: Arc::clone(&fixture.store),
            reads: Mutex::default(),
            breaks: AtomicUsize::new(0),
            before_second_read: None,
            before_adopt: None,
            copies_nothing: false,
            unreadable: None,
        }
    }

    pub(crate) fn over(fixture: &mut Fixture) -> Arc<Self> {
        let meddled = Arc::new(Self::of(fixture));
        fixture.store = Arc::clone(&meddled) as Arc<dyn Store>;
        meddled
    }
}

fn failed(key: &ObjectKey, transient: bool) -> StoreError {
    StoreError::Failed { operation: "read", key: key.to_string(), cause: "injected".to_owned(), transient }
}

#[async_trait]
impl Store for Meddled {
    async fn head(&self, key: &ObjectKey) -> Result<Option<ObjectMeta>, StoreError> {
        self.inner.head(key).await
    }

    async fn read(&self, key: &ObjectKey, range: Option<Range<u64>>) -> Result<Option<Reading>, StoreError> {
        self.reads.lock().unwrap().push((key.to_string(), range.clone()));
        if let Some((unreadable, transient)) = &self.unreadable
            && unreadable == key.as_str()
        {
            return Err(failed(key, *transient));
        }
        let is_dated = key.as_str().starts_with("2026");
        let one_less = |left: usize| left.checked_sub(1);
        let breaks =
            is_dated && self.breaks.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_less).is_ok();
        if let Some(hook) = self.before_second_read.as_ref().filter(|_| is_dated && !breaks) {
            hook().await;
        }
        let reading = self.inner.read(key, range).await?;
        let key = key.clone();
        Ok(reading.map(|reading| {
            if !breaks {
                return reading;
            }
            // Some bytes come, and then the connection is gone.
            let body = reading
                .body
                .take(1)
                .chain(futures_util::stream::once(async move { Err(failed(&key, true)) }));
            Reading { body: body.boxed(), ..reading }
        }))
    }

    async fn put(&self, key: &ObjectKey, body: Body, condition: Condition) -> Result<Version, StoreError> {
        self.inner.put(key, body, condition).await
    }

    async fn begin(&self, key: &ObjectKey, size: u64, part_size: u64) -> Result<Box<dyn Upload>, StoreError> {
        self.inner.begin(key, size, part_size).await
    }

    async fn copy(&self, from: &ObjectKey, to: &ObjectKey) -> Result<bool, StoreError> {
        self.inner.copy(from, to).await
    }

    async fn adopt(
        &self,
        from: &ObjectKey,
        version: &Version,
        to: &ObjectKey,
        proof: Verified,
    ) -> Result<bool, StoreError> {
        if let Some(hook) = &self.before_adopt {
            hook().await;
        }
        if self.copies_nothing {
            return Ok(false);
        }
        self.inner.adopt(from, version, to, proof).await
    }

    async fn list(
        &self,
        prefix: &str,
        after: Option<&ObjectKey>,
        limit: usize,
    ) -> Result<Vec<ObjectMeta>, StoreError> {
        self.inner.list(prefix, after, limit).await
    }

    async fn delete(&self, keys: &[ObjectKey]) -> Result<(), StoreError> {
        self.inner.delete(keys).await
    }

    async fn retag(&self, key: &ObjectKey, tags: &Tags) -> Result<bool, StoreError> {
        self.inner.retag(key, tags).await
    }

    async fn tags(&self, key: &ObjectKey) -> Result<Tags, StoreError> {
        self.inner.tags(key).await
    }

    async fn expire(&self, keys: &[ObjectKey], before: Timestamp) -> Result<bool, StoreError> {
        self.inner.expire(keys, before).await
    }
}
