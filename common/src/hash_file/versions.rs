//! Versions of bottles, as far as their image indexes tell.

use std::collections::{BTreeSet, HashMap};

use futures_util::{StreamExt as _, stream};

use crate::bottle::{Digest, ImagePath, ImageTag, ObjectKey, RefName};
use crate::manifest::{Manifest, State};
use crate::pipeline::STORE_RETRY;
use crate::registry::{ImageIndex, LARGEST_INDEX};
use crate::retry::{Retryable as _, Verdict};
use crate::store::{Store, StoreError};

/// How many image indexes are read at once.
const READS_AT_ONCE: usize = 32;

/// The versions of bottles whose image tag may end with a rebuild: by itself it doesn't
/// tell one from a version that ends with a number.
#[derive(Debug, Clone, Default)]
pub struct Versions(HashMap<(ImagePath, ImageTag, Digest), String>);

impl Versions {
    /// Reads those image indexes of the mirror that are needed to tell. A bottle of one
    /// that isn't there, or can't be read, has no version here.
    pub async fn read(store: &dyn Store, manifest: &Manifest) -> Result<Self, StoreError> {
        let mut indexes = BTreeSet::new();
        for (path, image) in &manifest.images {
            let held = image.bottles.values().filter(|record| record.state == State::Held);
            let unclear = held.map(|record| &record.image_tag).filter(|tag| may_have_rebuild(tag));
            indexes.extend(unclear.map(|tag| (path.clone(), tag.clone())));
        }
        let mut reads = stream::iter(indexes)
            .map(|(path, tag)| async move {
                let read = read(store, &path, &tag).await;
                (path, tag, read)
            })
            .buffer_unordered(READS_AT_ONCE);
        let mut versions = HashMap::new();
        while let Some((path, tag, read)) = reads.next().await {
            for (digest, version) in read? {
                versions.insert((path.clone(), tag.clone(), digest), version);
            }
        }
        Ok(Self(versions))
    }

    /// `version[_revision]`, if it is known.
    pub(super) fn of(&self, path: &ImagePath, tag: &ImageTag, digest: &Digest) -> Option<&str> {
        self.0.get(&(path.clone(), tag.clone(), *digest)).map(String::as_str)
    }
}

fn may_have_rebuild(tag: &ImageTag) -> bool {
    let last = tag.as_str().rsplit_once('-').map(|(_, last)| last);
    last.is_some_and(|last| !last.is_empty() && last.bytes().all(|byte| byte.is_ascii_digit()))
}

/// What one index tells of its bottles.
async fn read(
    store: &dyn Store,
    path: &ImagePath,
    tag: &ImageTag,
) -> Result<Vec<(Digest, String)>, StoreError> {
    let key = ObjectKey::index(path, tag);
    let unusable = |why: &str| {
        tracing::warn!(object.key = %key, why, "the rebuild of its bottles is not known");
        Ok(Vec::new())
    };
    let read = || async {
        match store.read(&key, None).await? {
            Some(reading) if reading.meta.size <= LARGEST_INDEX as u64 => reading.whole().await.map(Some),
            _ => Ok(None),
        }
    };
    let object = match STORE_RETRY.run(read, |_, _| {}).await {
        Ok(Some(object)) => object,
        Ok(None) => return unusable("there is no index that can be read"),
        // A store that refuses this one object, as to whom may not read bottles.
        Err(error) if error.verdict() == Verdict::GiveUp => return unusable(&error.to_string()),
        Err(error) => return Err(error),
    };
    let Ok(index) = ImageIndex::parse(object.body) else { return unusable("the index is malformed") };
    let entries = index.described().entries.into_iter();
    let told = entries.filter_map(|entry| {
        let RefName { version, rebuild, .. } = RefName::parse(entry.ref_name.as_deref()?)?;
        let whole = match rebuild {
            None => version.clone(),
            Some(rebuild) => format!("{version}-{rebuild}"),
        };
        (whole == tag.as_str()).then_some((entry.digest, version))
    });
    Ok(told.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_number_at_the_end_may_be_a_rebuild() {
        for (tag, expected) in
            [("1.5.7-1", true), ("2026-01-02", true), ("1.5.7", false), ("1-rc1", false), ("1.0_2", false)]
        {
            assert_eq!(may_have_rebuild(&tag.parse().unwrap()), expected, "{tag}");
        }
    }
}
