//! Puts image indexes in place once their bottles are there.

use bytes::Bytes;
use futures_util::{FutureExt, StreamExt, TryStreamExt, stream};
use jiff::Timestamp;

use crate::bottle::{Digest, ImagePath, ImageTag, ObjectKey};
use crate::manifest::{Image, IndexRecord, Manifest, State};
use crate::registry::ImageIndex;
use crate::store::{Condition, Store, StoreError};

use super::SettleError;
use super::contested::Contested;

/// An index whose bottles are all accounted for.
struct Ready<'a> {
    path: &'a ImagePath,
    image: &'a Image,
    tag: &'a ImageTag,
    index: &'a IndexRecord,
    staged: &'a ObjectKey,
    /// Whether clients are told along with it of what it brings.
    is_allowed: bool,
}

/// An index that was looked at, and what became of it.
struct Placement {
    path: ImagePath,
    tag: ImageTag,
    staged: ObjectKey,
    fate: Fate,
}

/// What became of an index that was ready.
enum Fate {
    Placed,
    /// The index in place is needed still.
    Waits,
    /// What was staged is gone.
    Gone,
}

/// Indexes are put in place so many at once.
const AT_ONCE: usize = 16;

/// Puts in place what may be; the staged objects that are no longer needed.
pub(super) async fn place(
    store: &dyn Store,
    manifest: &mut Manifest,
    at: Timestamp,
) -> Result<Vec<ObjectKey>, SettleError> {
    let contested = Contested::look(store, manifest).await?;
    // Boxed, and not mapped as they are polled: the compiler can't show of such
    // a closure that its futures may move between threads.
    let placements: Vec<_> = manifest
        .images
        .iter()
        .flat_map(|(path, image)| ready(path, image, &contested))
        .map(|ready| place_one(store, ready).boxed())
        .collect();
    let fates: Vec<Placement> = stream::iter(placements).buffer_unordered(AT_ONCE).try_collect().await?;

    let mut done = Vec::new();
    for Placement { path, tag, staged, fate } in fates {
        let Some(image) = manifest.images.get_mut(&path) else { continue };
        match fate {
            Fate::Waits => {}
            Fate::Gone => {
                image.indexes.remove(&tag);
                manifest.undo_plan();
            }
            Fate::Placed => {
                if let Some(index) = image.indexes.get_mut(&tag) {
                    (index.staged, index.in_place) = (None, None);
                    index.added_at = Some(at);
                    index.awaits.clear();
                }
                done.push(staged);
            }
        }
    }
    Ok(done)
}

fn ready<'a>(
    path: &'a ImagePath,
    image: &'a Image,
    contested: &'a Contested,
) -> impl Iterator<Item = Ready<'a>> {
    image.indexes.iter().filter_map(move |(tag, index)| {
        let staged = index.staged.as_ref().filter(|_| is_ready(image, index))?;
        let is_allowed = contested.allows(path, tag);
        (!contested.withholds(path, tag)).then_some(Ready { path, image, tag, index, staged, is_allowed })
    })
}

async fn place_one(store: &dyn Store, ready: Ready<'_>) -> Result<Placement, StoreError> {
    let key = ObjectKey::index(ready.path, ready.tag);
    let fate = match store.get(ready.staged).await? {
        Some(object) if Digest::of(&object.body) == ready.index.sha256 => {
            if may_replace(store, &key, &object.body, &ready).await? {
                store.put(&key, object.body.into(), Condition::Always).await?;
                Fate::Placed
            } else {
                tracing::debug!(object.key = %key, "waits: the index in place names held bottles that the new one doesn't");
                Fate::Waits
            }
        }
        gone_or_damaged => {
            let what = if gone_or_damaged.is_some() { "damaged" } else { "gone" };
            tracing::error!(object.key = %ready.staged, "a staged image index is {what}: the next plan reads it again");
            Fate::Gone
        }
    };
    Ok(Placement { path: ready.path.clone(), tag: ready.tag.clone(), staged: ready.staged.clone(), fate })
}

/// Whether an index waits, and each awaited bottle is held or given up on.
pub(super) fn is_ready(image: &Image, index: &IndexRecord) -> bool {
    index.staged.is_some() && is_settled(image, index)
}

/// Whether each awaited bottle is held or given up on.
fn is_settled(image: &Image, index: &IndexRecord) -> bool {
    index.awaits.iter().all(|digest| {
        let state = image.bottles.get(digest).map(|record| &record.state);
        matches!(state, Some(State::Held | State::Dead(_)))
    })
}

/// With all its bottles held an index replaces whatever is there. With some
/// given up on, it still serves the platforms of the others, so that one bad
/// bottle doesn't hold back its neighbours; but it must not take away a held
/// bottle that only the index in place names.
async fn may_replace(
    store: &dyn Store,
    key: &ObjectKey,
    new: &Bytes,
    ready: &Ready<'_>,
) -> Result<bool, StoreError> {
    let Ready { image, index, is_allowed, .. } = *ready;
    let is_held =
        |digest: &Digest| image.bottles.get(digest).is_some_and(|record| record.state == State::Held);
    if is_allowed || index.awaits.iter().all(is_held) {
        return Ok(true);
    }
    if !index.awaits.iter().any(is_held) && !names_any_held(new, &is_held) {
        return Ok(false);
    }
    let Some(old) = store.get(key).await? else { return Ok(true) };
    let (Ok(old), Ok(new)) = (ImageIndex::parse(old.body), ImageIndex::parse(new.clone())) else {
        return Ok(false);
    };
    Ok(old.digests().all(|digest| new.names(digest) || !is_held(digest)))
}

fn names_any_held(index: &Bytes, is_held: &impl Fn(&Digest) -> bool) -> bool {
    ImageIndex::parse(index.clone()).is_ok_and(|index| index.digests().any(is_held))
}
