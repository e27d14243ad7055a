//! The tags themselves, on and off, and what goes by them.

use std::collections::HashSet;
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
enum Written {
    Done,
    Gone,
    /// It can't be written anew, and stays for good.
    Kept,
}

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

/// Writes the tags of bottles that the stored manifest says are superseded, and takes
/// note of it; of how many. Those of a manifest that was not stored may not be written.
pub async fn tag(store: &dyn Store, stored: &mut Manifest) -> Result<u64, StoreError> {
    let mut writes = Vec::new();
    for (path, digest, flat) in chosen(stored, is_untagged) {
        let since = stored.bottle(&path, &digest).and_then(|record| record.superseded_at);
        let tags = since.map(superseded_tags).unwrap_or_default();
        writes.push(async move { retag(store, (path, digest, flat), &tags).await }.boxed());
    }
    let written: Vec<_> = stream::iter(writes).buffer_unordered(AT_ONCE).try_collect().await?;
    let mut count = 0;
    for ((path, digest), written) in written {
        let Some(image) = stored.images.get_mut(&path) else { continue };
        match written {
            Written::Done => {
                count += 1;
                if let Some(record) = image.bottles.get_mut(&digest) {
                    record.is_tagged = true;
                }
            }
            Written::Gone => {
                image.bottles.remove(&digest);
            }
            Written::Kept => {}
        }
    }
    Ok(count)
}

/// Takes the tags off bottles that are wanted again, whether they are known to have
/// been written or not. Those that have expired are forgotten, and planned anew.
pub async fn bring_back(store: &dyn Store, manifest: &mut Manifest) -> Result<(), StoreError> {
    let none = Tags::new();
    let wanted = chosen(manifest, is_wanted_again).into_iter();
    let writes: Vec<_> = wanted.map(|one| retag(store, one, &none).boxed()).collect();
    let written: Vec<_> = stream::iter(writes).buffer_unordered(AT_ONCE).try_collect().await?;
    for ((path, digest), written) in written {
        let Some(image) = manifest.images.get_mut(&path) else { continue };
        match written {
            // What can't be written anew was never tagged either.
            Written::Done | Written::Kept => {
                if let Some(record) = image.bottles.get_mut(&digest) {
                    (record.superseded_at, record.is_tagged) = (None, false);
                }
            }
            Written::Gone => {
                image.bottles.remove(&digest);
                manifest.planned = None;
            }
        }
    }
    Ok(())
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
    let mut over = chosen(manifest, |record| is_over(record, before));
    let key = |(path, digest, _): &Chosen| ObjectKey::blob(path, digest);
    let keys: Vec<ObjectKey> = over.iter().flat_map(|one| one.2.iter().cloned().chain([key(one)])).collect();
    if keys.is_empty() {
        return Ok(0);
    }
    if !store.expire(&keys, before).await? {
        // Asked once each, when a rule has had its time.
        let before = before.checked_sub(RULE_TAKES).unwrap_or(Timestamp::MIN);
        let old = chosen(manifest, |record| is_over(record, before));
        let old: HashSet<(ImagePath, Digest)> = old.into_iter().map(|one| (one.0, one.1)).collect();
        over.retain(|one| old.contains(&(one.0.clone(), one.1)));
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
    let bottles = manifest.images.iter().flat_map(|(path, image)| {
        image.bottles.iter().map(move |(digest, record)| (path, digest, record))
    });
    bottles
        .filter(|(_, _, record)| is_chosen(record))
        .map(|(path, digest, record)| (path.clone(), *digest, record.flat.clone()))
        .take(MOST)
        .collect()
}

/// Replaces the tags of a bottle and of its copies.
async fn retag(
    store: &dyn Store,
    (path, digest, flat): Chosen,
    tags: &Tags,
) -> Result<((ImagePath, Digest), Written), StoreError> {
    for key in &flat {
        match store.retag(key, tags).await {
            Ok(_) => {}
            Err(error @ (StoreError::Refused { .. } | StoreError::Failed { transient: false, .. })) => {
                tracing::warn!(object.key = %key, %error, "its flat name's tags stay as they are");
            }
            Err(error) => return Err(error),
        }
    }
    let written = match store.retag(&ObjectKey::blob(&path, &digest), tags).await {
        Ok(true) => Written::Done,
        Ok(false) => Written::Gone,
        Err(StoreError::Refused { key, why }) => {
            tracing::warn!(object.key = key, why, "its tags stay as they are");
            Written::Kept
        }
        Err(error) => return Err(error),
    };
    Ok(((path, digest), written))
}

async fn is_there(store: &dyn Store, key: ObjectKey) -> Result<bool, StoreError> {
    Ok(store.head(&key).await?.is_some())
}
