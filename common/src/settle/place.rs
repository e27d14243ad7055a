//! Puts image indexes in place once their bottles are there.

use bytes::Bytes;

use crate::bottle::{Digest, ObjectKey};
use crate::manifest::{Image, IndexRecord, Manifest, State};
use crate::registry::ImageIndex;
use crate::store::{Condition, Store, StoreError};

/// Puts in place what may be; the staged objects that are no longer needed.
pub(super) async fn place(store: &dyn Store, manifest: &mut Manifest) -> Result<Vec<ObjectKey>, StoreError> {
    let mut done = Vec::new();
    for (path, image) in &mut manifest.images {
        let ready: Vec<_> = image
            .indexes
            .iter()
            .filter(|(_, index)| index.staged.is_some() && is_settled(image, index))
            .map(|(tag, _)| tag.clone())
            .collect();
        for tag in ready {
            let key = ObjectKey::index(path, &tag);
            let Some(staged) = image.indexes.get(&tag).and_then(|index| index.staged.clone()) else {
                continue;
            };
            let Some(object) = store.get(&staged).await? else {
                tracing::error!(object.key = %staged, "a staged image index is gone: the next plan reads it again");
                image.indexes.remove(&tag);
                manifest.planned = None;
                continue;
            };
            if !may_replace(store, &key, &object.body, image, &image.indexes[&tag]).await? {
                tracing::debug!(object.key = %key, "waits: the index in place names held bottles that the new one doesn't");
                continue;
            }
            store.put(&key, object.body.into(), Condition::Always).await?;
            if let Some(index) = image.indexes.get_mut(&tag) {
                index.staged = None;
                index.awaits.clear();
            }
            done.push(staged);
        }
    }
    Ok(done)
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
    image: &Image,
    index: &IndexRecord,
) -> Result<bool, StoreError> {
    let is_held =
        |digest: &Digest| image.bottles.get(digest).is_some_and(|record| record.state == State::Held);
    if index.awaits.iter().all(is_held) {
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
