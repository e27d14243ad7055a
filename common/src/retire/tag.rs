//! The tags themselves, on and off, and what goes by them.

use std::time::Duration;

use futures_util::{FutureExt, StreamExt, TryStreamExt, stream};
use jiff::Timestamp;

use crate::bottle::{Digest, ImagePath, ObjectKey};
use crate::manifest::{BottleRecord, Manifest, State};
use crate::store::{Store, StoreError, Tags, superseded_tags};

/// How many bottles are tagged, or looked for, in one settle; the next one goes on.
const MOST: usize = 1000;

/// Objects are written anew so many at once.
const AT_ONCE: usize = 8;

/// S3's rules are run once a day, and take their time.
const RULE_TAKES: Duration = Duration::from_hours(48);

/// A bottle, and its flat names.
type Chosen = (ImagePath, Digest, Vec<ObjectKey>);

/// What became of an object's tags.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Written {
    Done,
    Gone,
    /// They could not be written: another settle tries again.
    Failed,
}

/// Tags that were written, to be noted in the manifest.
#[derive(Default)]
pub struct Tagged(Vec<(ImagePath, Digest, Option<Timestamp>, Written)>);

/// Whether a bottle is superseded and its tag not known to be written.
pub fn is_untagged(record: &BottleRecord) -> bool {
    record.state == State::Held
        && record.superseded_at.is_some()
        && record.dropped_at.is_some()
        && !record.is_tagged
}

/// Whether a bottle is superseded, and wanted again.
fn is_wanted_again(record: &BottleRecord) -> bool {
    record.state == State::Held && record.superseded_at.is_some() && record.dropped_at.is_none()
}

/// Writes the tags of bottles that the stored manifest says are superseded. Those of a
/// manifest that was not stored may not be written.
pub async fn tag(store: &dyn Store, stored: &Manifest) -> Tagged {
    let mut writes = Vec::new();
    for (path, digest, flat) in chosen(stored, is_untagged) {
        let since = stored.bottle(&path, &digest).and_then(|record| record.superseded_at);
        let tags = since.map(superseded_tags).unwrap_or_default();
        let write = async move {
            let written = retag(store, &path, &digest, &flat, &tags).await;
            let written = written.unwrap_or_else(|error| {
                tracing::error!(image = %path, %digest, %error, "it can't be tagged, and does not expire");
                Written::Failed
            });
            (path, digest, since, written)
        };
        writes.push(write.boxed());
    }
    Tagged(stream::iter(writes).buffer_unordered(AT_ONCE).collect().await)
}

impl Tagged {
    /// Takes note of it, of what is superseded since the same moment; whether there was
    /// anything to note.
    pub fn apply(&self, manifest: &mut Manifest) -> bool {
        let mut is_any = false;
        for (path, digest, since, written) in &self.0 {
            let Some(image) = manifest.images.get_mut(path) else { continue };
            let record = image.bottles.get_mut(digest);
            let record = record.filter(|one| one.state == State::Held && one.superseded_at == *since);
            match (record, written) {
                (Some(record), Written::Done) => {
                    is_any |= !record.is_tagged;
                    record.is_tagged = true;
                }
                (Some(_), Written::Gone) => {
                    is_any = true;
                    image.bottles.remove(digest);
                }
                (None, _) | (_, Written::Failed) => {}
            }
        }
        is_any
    }

    /// How many could not be tagged.
    pub fn failed(&self) -> u64 {
        self.0.iter().filter(|one| one.3 == Written::Failed).count() as u64
    }
}

/// Takes the tags off bottles that are wanted again, whether they are known to have
/// been written or not. Those that have expired are forgotten, and planned anew.
/// One whose tag stays is not told to clients.
pub async fn bring_back(store: &dyn Store, manifest: &mut Manifest) {
    let none = Tags::new();
    let wanted = chosen(manifest, is_wanted_again).into_iter();
    let untag = |(path, digest, flat): Chosen| {
        let none = &none;
        async move {
            let written = retag(store, &path, &digest, &flat, none).await;
            let written = written.unwrap_or_else(|error| {
                tracing::error!(image = %path, %digest, %error, "its tag can't be taken off: it may expire");
                Written::Failed
            });
            (path, digest, written)
        }
        .boxed()
    };
    let writes: Vec<_> = wanted.map(untag).collect();
    let written: Vec<_> = stream::iter(writes).buffer_unordered(AT_ONCE).collect().await;
    for (path, digest, written) in written {
        let Some(image) = manifest.images.get_mut(&path) else { continue };
        match written {
            Written::Done => {
                if let Some(record) = image.bottles.get_mut(&digest) {
                    (record.superseded_at, record.is_tagged) = (None, false);
                }
            }
            Written::Gone => {
                image.bottles.remove(&digest);
                manifest.undo_plan();
            }
            Written::Failed => {}
        }
    }
}

/// Removes what is superseded for longer than `grace`, where the store leaves that to
/// us, and forgets what is gone; how many bottles are.
pub async fn expire(
    store: &dyn Store,
    manifest: &mut Manifest,
    now: Timestamp,
    grace: Duration,
) -> Result<u64, StoreError> {
    let before = now.checked_sub(grace).unwrap_or(Timestamp::MIN);
    let key = |(path, digest, _): &Chosen| ObjectKey::blob(path, digest);
    let mut over = chosen(manifest, |record| is_over(record, before));
    let keys: Vec<ObjectKey> = over.iter().flat_map(|one| one.2.iter().cloned().chain([key(one)])).collect();
    if keys.is_empty() {
        return Ok(0);
    }
    if !store.expire(&keys, before).await? {
        // A rule does it, and has had its time with these.
        let before = before.checked_sub(RULE_TAKES).unwrap_or(Timestamp::MIN);
        over = chosen(manifest, |record| is_over(record, before));
    }
    let looks: Vec<_> = over.iter().map(|one| is_there(store, key(one)).boxed()).collect();
    let there: Vec<bool> = stream::iter(looks).buffered(AT_ONCE).try_collect().await?;
    let mut gone = 0;
    for ((path, digest, _), is_there) in over.iter().zip(there) {
        if !is_there && let Some(image) = manifest.images.get_mut(path) {
            image.bottles.remove(digest);
            gone += 1;
        }
    }
    Ok(gone)
}

/// Whether a bottle's grace was over at a moment.
fn is_over(record: &BottleRecord, at: Timestamp) -> bool {
    record.state == State::Held
        && record.is_tagged
        && record.dropped_at.is_some()
        && record.superseded_at.is_some_and(|since| since <= at)
}

fn chosen(manifest: &Manifest, is_chosen: impl Fn(&BottleRecord) -> bool) -> Vec<Chosen> {
    let bottles = manifest
        .images
        .iter()
        .flat_map(|(path, image)| image.bottles.iter().map(move |(digest, record)| (path, digest, record)));
    bottles
        .filter(|(_, _, record)| is_chosen(record))
        .map(|(path, digest, record)| (path.clone(), *digest, record.flat.clone()))
        .take(MOST)
        .collect()
}

/// Replaces the tags of a bottle and of its copies.
async fn retag(
    store: &dyn Store,
    path: &ImagePath,
    digest: &Digest,
    flat: &[ObjectKey],
    tags: &Tags,
) -> Result<Written, StoreError> {
    for key in flat {
        store.retag(key, tags).await?;
    }
    let is_there = store.retag(&ObjectKey::blob(path, digest), tags).await?;
    Ok(if is_there { Written::Done } else { Written::Gone })
}

async fn is_there(store: &dyn Store, key: ObjectKey) -> Result<bool, StoreError> {
    Ok(store.head(&key).await?.is_some())
}
