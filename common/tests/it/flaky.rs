//! Ports that fail on purpose: before the effect, or after it took place.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use common::bottle::{ObjectKey, Verified};
use common::queue::{Delivery, Depth, Handle, Outgoing, Queue, QueueError};
use common::store::{Body, Condition, ObjectMeta, Reading, Store, StoreError, Tags, Upload, Version};
use futures_util::future::BoxFuture;
use jiff::Timestamp;

/// Decides which calls fail.
#[derive(Clone)]
pub(crate) struct Dice(Arc<Rule>);

enum Rule {
    /// Out of 100 calls, so many fail: by a seeded xorshift, so that a failing
    /// test repeats.
    Random { state: AtomicU64, percent: u64 },
    /// One call of one operation fails, counted from one.
    Nth { operation: &'static str, left: AtomicU64, fate: Fate },
    /// Every call of one operation fails, before its effect.
    Always { operation: &'static str },
}

/// What becomes of a call.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Fate {
    Works,
    FailsBefore,
    /// The effect took place, but the caller doesn't hear of it: a timeout.
    FailsAfter,
}

impl Dice {
    pub(crate) fn new(seed: u64, percent: u64) -> Self {
        Self(Arc::new(Rule::Random { state: AtomicU64::new(seed.max(1)), percent }))
    }

    pub(crate) fn nth(operation: &'static str, nth: u64, fate: Fate) -> Self {
        Self(Arc::new(Rule::Nth { operation, left: AtomicU64::new(nth), fate }))
    }

    pub(crate) fn always(operation: &'static str) -> Self {
        Self(Arc::new(Rule::Always { operation }))
    }

    /// Whether the one call came that had to fail.
    pub(crate) fn has_fallen(&self) -> bool {
        matches!(&*self.0, Rule::Nth { left, .. } if left.load(Ordering::Relaxed) == 0)
    }

    fn roll(&self, called: &str) -> Fate {
        match &*self.0 {
            Rule::Random { state, percent } => {
                let mut x = state.load(Ordering::Relaxed);
                x ^= x << 13;
                x ^= x >> 7;
                x ^= x << 17;
                state.store(x, Ordering::Relaxed);
                match (x >> 8) % 100 {
                    roll if roll >= *percent => Fate::Works,
                    roll if roll % 2 == 0 => Fate::FailsBefore,
                    _ => Fate::FailsAfter,
                }
            }
            Rule::Nth { operation, left, fate } if *operation == called => {
                let one_less = |left: u64| left.checked_sub(1);
                match left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_less) {
                    Ok(1) => *fate,
                    _ => Fate::Works,
                }
            }
            Rule::Always { operation } if *operation == called => Fate::FailsBefore,
            Rule::Nth { .. } | Rule::Always { .. } => Fate::Works,
        }
    }
}

/// A store whose calls fail now and then.
pub(crate) struct FlakyStore {
    pub(crate) inner: Arc<dyn Store>,
    pub(crate) dice: Dice,
}

/// A queue whose calls fail now and then.
pub(crate) struct FlakyQueue {
    pub(crate) inner: Arc<dyn Queue>,
    pub(crate) dice: Dice,
}

/// What happens before a call, which an error prevents: told a key, or a prefix.
type Hook<T> = Box<dyn Fn(T) -> BoxFuture<'static, Result<(), StoreError>> + Send + Sync>;

/// A store in which something happens before each write, or before each object is
/// looked at, read or listed.
pub(crate) struct HookedStore {
    inner: Arc<dyn Store>,
    before_put: Option<Hook<ObjectKey>>,
    before_look: Option<Hook<String>>,
}

impl HookedStore {
    pub(crate) fn before_put(
        inner: Arc<dyn Store>,
        hook: impl Fn(ObjectKey) -> BoxFuture<'static, Result<(), StoreError>> + Send + Sync + 'static,
    ) -> Self {
        Self { inner, before_put: Some(Box::new(hook)), before_look: None }
    }

    pub(crate) fn before_look(
        inner: Arc<dyn Store>,
        hook: impl Fn(String) -> BoxFuture<'static, Result<(), StoreError>> + Send + Sync + 'static,
    ) -> Self {
        Self { inner, before_put: None, before_look: Some(Box::new(hook)) }
    }

    async fn look(&self, at: &str) -> Result<(), StoreError> {
        match &self.before_look {
            Some(hook) => hook(at.to_owned()).await,
            None => Ok(()),
        }
    }
}

struct FlakyUpload {
    inner: Box<dyn Upload>,
    dice: Dice,
}

fn store_failure(operation: &'static str) -> StoreError {
    StoreError::Failed { operation, key: "any".to_owned(), cause: "injected".to_owned(), transient: true }
}

fn queue_failure(operation: &'static str) -> QueueError {
    QueueError { queue: "any".to_owned(), operation, cause: "injected".to_owned() }
}

/// Runs a call by the dice's verdict.
macro_rules! by_fate {
    ($dice:expr, $failure:ident($operation:literal), $call:expr) => {
        match $dice.roll($operation) {
            Fate::Works => $call.await,
            Fate::FailsBefore => Err($failure($operation)),
            Fate::FailsAfter => {
                $call.await?;
                Err($failure($operation))
            }
        }
    };
}

#[async_trait]
impl Store for FlakyStore {
    async fn head(&self, key: &ObjectKey) -> Result<Option<ObjectMeta>, StoreError> {
        by_fate!(self.dice, store_failure("head"), self.inner.head(key))
    }

    async fn read(&self, key: &ObjectKey, range: Option<Range<u64>>) -> Result<Option<Reading>, StoreError> {
        by_fate!(self.dice, store_failure("read"), self.inner.read(key, range.clone()))
    }

    async fn put(&self, key: &ObjectKey, body: Body, condition: Condition) -> Result<Version, StoreError> {
        by_fate!(self.dice, store_failure("put"), self.inner.put(key, body.clone(), condition.clone()))
    }

    async fn begin(&self, key: &ObjectKey, size: u64, part_size: u64) -> Result<Box<dyn Upload>, StoreError> {
        let inner = by_fate!(self.dice, store_failure("begin"), self.inner.begin(key, size, part_size))?;
        Ok(Box::new(FlakyUpload { inner, dice: self.dice.clone() }))
    }

    async fn copy(&self, from: &ObjectKey, to: &ObjectKey) -> Result<bool, StoreError> {
        by_fate!(self.dice, store_failure("copy"), self.inner.copy(from, to))
    }

    async fn list(
        &self,
        prefix: &str,
        after: Option<&ObjectKey>,
        limit: usize,
    ) -> Result<Vec<ObjectMeta>, StoreError> {
        by_fate!(self.dice, store_failure("list"), self.inner.list(prefix, after, limit))
    }

    async fn delete(&self, keys: &[ObjectKey]) -> Result<(), StoreError> {
        by_fate!(self.dice, store_failure("delete"), self.inner.delete(keys))
    }

    async fn retag(&self, key: &ObjectKey, tags: &Tags) -> Result<bool, StoreError> {
        by_fate!(self.dice, store_failure("retag"), self.inner.retag(key, tags))
    }

    async fn tags(&self, key: &ObjectKey) -> Result<Tags, StoreError> {
        by_fate!(self.dice, store_failure("tags"), self.inner.tags(key))
    }

    async fn adopt(
        &self,
        from: &ObjectKey,
        version: &Version,
        to: &ObjectKey,
        proof: Verified,
    ) -> Result<bool, StoreError> {
        by_fate!(self.dice, store_failure("adopt"), self.inner.adopt(from, version, to, proof))
    }

    async fn expire(&self, keys: &[ObjectKey], before: Timestamp) -> Result<bool, StoreError> {
        by_fate!(self.dice, store_failure("expire"), self.inner.expire(keys, before))
    }
}

#[async_trait]
impl Upload for FlakyUpload {
    async fn part(&self, index: u32, body: Bytes) -> Result<(), StoreError> {
        by_fate!(self.dice, store_failure("part"), self.inner.part(index, body.clone()))
    }

    async fn complete(&self, proof: Verified) -> Result<(), StoreError> {
        by_fate!(self.dice, store_failure("complete"), self.inner.complete(proof))
    }

    async fn abort(&self) -> Result<(), StoreError> {
        self.inner.abort().await
    }
}

#[async_trait]
impl Queue for FlakyQueue {
    async fn send(&self, messages: &[Outgoing]) -> Result<(), QueueError> {
        by_fate!(self.dice, queue_failure("send"), self.inner.send(messages))
    }

    async fn receive(
        &self,
        max: usize,
        visibility: Duration,
        wait: Duration,
    ) -> Result<Vec<Delivery>, QueueError> {
        by_fate!(self.dice, queue_failure("receive"), self.inner.receive(max, visibility, wait))
    }

    async fn extend(&self, handles: &[Handle], visibility: Duration) -> Result<(), QueueError> {
        by_fate!(self.dice, queue_failure("extend"), self.inner.extend(handles, visibility))
    }

    async fn release(&self, handles: &[Handle], delay: Duration) -> Result<(), QueueError> {
        by_fate!(self.dice, queue_failure("release"), self.inner.release(handles, delay))
    }

    async fn acknowledge(&self, handles: &[Handle]) -> Result<(), QueueError> {
        by_fate!(self.dice, queue_failure("acknowledge"), self.inner.acknowledge(handles))
    }

    async fn depth(&self) -> Result<Depth, QueueError> {
        self.inner.depth().await
    }
}

#[async_trait]
impl Store for HookedStore {
    async fn head(&self, key: &ObjectKey) -> Result<Option<ObjectMeta>, StoreError> {
        self.look(key.as_str()).await?;
        self.inner.head(key).await
    }

    async fn read(&self, key: &ObjectKey, range: Option<Range<u64>>) -> Result<Option<Reading>, StoreError> {
        self.look(key.as_str()).await?;
        self.inner.read(key, range).await
    }

    async fn put(&self, key: &ObjectKey, body: Body, condition: Condition) -> Result<Version, StoreError> {
        if let Some(hook) = &self.before_put {
            hook(key.clone()).await?;
        }
        self.inner.put(key, body, condition).await
    }

    async fn begin(&self, key: &ObjectKey, size: u64, part_size: u64) -> Result<Box<dyn Upload>, StoreError> {
        self.inner.begin(key, size, part_size).await
    }

    async fn copy(&self, from: &ObjectKey, to: &ObjectKey) -> Result<bool, StoreError> {
        self.inner.copy(from, to).await
    }

    async fn list(
        &self,
        prefix: &str,
        after: Option<&ObjectKey>,
        limit: usize,
    ) -> Result<Vec<ObjectMeta>, StoreError> {
        self.look(prefix).await?;
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

    async fn adopt(
        &self,
        from: &ObjectKey,
        version: &Version,
        to: &ObjectKey,
        proof: Verified,
    ) -> Result<bool, StoreError> {
        self.inner.adopt(from, version, to, proof).await
    }

    async fn expire(&self, keys: &[ObjectKey], before: Timestamp) -> Result<bool, StoreError> {
        self.inner.expire(keys, before).await
    }
}
