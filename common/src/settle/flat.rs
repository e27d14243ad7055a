//! Copies under flat names, made inside the store once a bottle is held.

use std::collections::{BTreeSet, HashSet};

use futures_util::{FutureExt, StreamExt, TryStreamExt, stream};

use crate::bottle::{BottleTag, Digest, ImagePath, ImageTag, ObjectKey};
use crate::manifest::{Image, Manifest, State};
use crate::mirror::PART_SIZE;
use crate::publication::{NeededBottle, Set};
use crate::store::{Condition, Store, StoreError};

use super::waits;

/// Copies are made so many at once.
const AT_ONCE: usize = 16;

/// One settle makes at most so many; the next one goes on.
const MOST: usize = 5000;

/// So many bytes of bottles that came in parts: S3 keeps no checksum of those as a whole,
/// and they are read before they are copied. A function's time is limited.
const MOST_READ: u64 = 32 << 30;

/// What was copied.
enum Copied {
    Bottle {
        image: ImagePath,
        digest: Digest,
        to: ObjectKey,
    },
    Index {
        image: ImagePath,
        tag: ImageTag,
        sha256: Digest,
    },
    /// The object is not there: verify finds it.
    Nothing,
}

/// Makes the copies that `set` needs and the mirror can make, but for names that newer
/// sets gave to their bottles: those are in `named`, and so are its own then. How many
/// were made.
pub(super) async fn copy(
    store: &dyn Store,
    manifest: &mut Manifest,
    set: &Set,
    despite_dead: &BTreeSet<BottleTag>,
    named: &mut HashSet<ObjectKey>,
) -> Result<usize, StoreError> {
    let clients = waits::look(manifest, set);
    // A name that is another bottle's is taken from those who read of that one: not
    // before those who read of this one can be told.
    let is_due = |bottle: &NeededBottle| {
        let clients = bottle.clients.iter().filter_map(|client| clients.get(usize::from(*client)));
        clients.into_iter().any(|one| one.has_all(despite_dead.contains(&one.client)))
    };
    let (mut tasks, mut read) = (Vec::new(), 0);
    for need in &set.needs {
        let Some(image) = manifest.images.get(&need.image) else { continue };
        for bottle in &need.bottles {
            let held = image.bottles.get(&bottle.digest).filter(|record| record.state == State::Held);
            let Some(record) = held else { continue };
            for to in &bottle.flat {
                let is_free = named.insert(to.clone()) && !record.flat.contains(to);
                if !is_free
                    || (is_anothers(image, &bottle.digest, to) && !is_due(bottle))
                    || read >= MOST_READ
                {
                    continue;
                }
                read += if record.size > PART_SIZE { record.size } else { 0 };
                tasks.push(copy_bottle(store, &need.image, bottle.digest, to).boxed());
            }
        }
        if let Some(tag) = need.index.as_ref().filter(|_| need.flat_index)
            && let Some(index) = image.indexes.get(tag)
            && index.staged.is_none()
            && index.flat != Some(index.sha256)
        {
            tasks.push(copy_index(store, &need.image, tag, index.sha256).boxed());
        }
    }
    tasks.truncate(MOST);
    let copied: Vec<Copied> = stream::iter(tasks).buffer_unordered(AT_ONCE).try_collect().await?;
    let made = copied.iter().filter(|one| !matches!(one, Copied::Nothing)).count();
    for one in copied {
        match one {
            Copied::Bottle { image, digest, to } => {
                // The name was another bottle's before.
                for other in
                    manifest.images.get_mut(&image).into_iter().flat_map(|image| image.bottles.values_mut())
                {
                    other.flat.retain(|flat| *flat != to);
                }
                if let Some(record) =
                    manifest.images.get_mut(&image).and_then(|image| image.bottles.get_mut(&digest))
                {
                    record.flat.push(to);
                }
            }
            Copied::Index { image, tag, sha256 } => {
                if let Some(index) =
                    manifest.images.get_mut(&image).and_then(|image| image.indexes.get_mut(&tag))
                {
                    index.flat = Some(sha256);
                }
            }
            Copied::Nothing => {}
        }
    }
    Ok(made)
}

/// Whether a name is one of another bottle of the image.
fn is_anothers(image: &Image, digest: &Digest, name: &ObjectKey) -> bool {
    image.bottles.iter().any(|(other, record)| other != digest && record.flat.contains(name))
}

async fn copy_bottle(
    store: &dyn Store,
    image: &ImagePath,
    digest: Digest,
    to: &ObjectKey,
) -> Result<Copied, StoreError> {
    match store.copy(&ObjectKey::blob(image, &digest), to).await {
        Ok(true) => Ok(Copied::Bottle { image: image.clone(), digest, to: to.clone() }),
        Ok(false) => {
            tracing::error!(
                object.key = %to,
                "no copy was made: the bottle is gone, which `bottles verify --repair` mends, or has more than \
                 the 5 GiB that S3 copies at once"
            );
            Ok(Copied::Nothing)
        }
        Err(StoreError::Conflict { .. }) => {
            tracing::warn!(object.key = %to, "no copy was made: its bottle was written anew meanwhile; the next settle makes it");
            Ok(Copied::Nothing)
        }
        // A damaged bottle holds back its own name and no other.
        Err(error @ StoreError::WrongDigest { .. }) => {
            tracing::error!(object.key = %to, %error, "no copy was made: `bottles verify --deep --repair` mends it");
            Ok(Copied::Nothing)
        }
        // One that is refused, for want of a permission too, holds back its own clients.
        Err(error @ (StoreError::Refused { .. } | StoreError::Failed { transient: false, .. })) => {
            tracing::error!(object.key = %to, %error, "no copy was made: who needs this name waits");
            Ok(Copied::Nothing)
        }
        Err(error) => Err(error),
    }
}

async fn copy_index(
    store: &dyn Store,
    image: &ImagePath,
    tag: &ImageTag,
    sha256: Digest,
) -> Result<Copied, StoreError> {
    let Some(to) = ObjectKey::flat_index(image, tag) else { return Ok(Copied::Nothing) };
    let Some(object) = store.get(&ObjectKey::index(image, tag)).await? else { return Ok(Copied::Nothing) };
    match store.put(&to, object.body.into(), Condition::Always).await {
        Ok(_) => Ok(Copied::Index { image: image.clone(), tag: tag.clone(), sha256 }),
        Err(error @ (StoreError::Refused { .. } | StoreError::Failed { transient: false, .. })) => {
            tracing::error!(object.key = %to, %error, "no copy was made: who needs this name waits");
            Ok(Copied::Nothing)
        }
        Err(error) => Err(error),
    }
}
