//! Two settles at once: what the one that lost has put over the other's.
//!
//! Objects are put before the manifest says so. A settle whose manifest is refused has
//! put what it took for the newest; whoever was first may have put, and noted, something
//! newer before.

use crate::bottle::{Digest, ImagePath, ImageTag};
use crate::manifest::Manifest;
use crate::publication::ApiPath;
use crate::store::Store;

use super::{SettleError, publish};

/// What a settle put whose manifest was refused.
pub(super) struct Put {
    indexes: Vec<(ImagePath, ImageTag, Digest)>,
    files: Vec<(ApiPath, Digest)>,
}

impl Put {
    /// What `after` has in place that `before` hasn't.
    pub(super) fn between(before: &Manifest, after: &Manifest) -> Self {
        let mut indexes = Vec::new();
        for (path, image) in &after.images {
            for (tag, index) in image.indexes.iter().filter(|(_, index)| index.staged.is_none()) {
                let known = before.images.get(path).and_then(|image| image.indexes.get(tag));
                if known.is_none_or(|known| known.staged.is_some()) {
                    indexes.push((path.clone(), tag.clone(), index.sha256));
                }
            }
        }
        let (before, after) = (&before.publication.files, &after.publication.files);
        let is_new = |(path, sha256): &(&ApiPath, &Digest)| before.get(*path) != Some(*sha256);
        let files = after.iter().filter(is_new).map(|(path, sha256)| (path.clone(), *sha256)).collect();
        Self { indexes, files }
    }

    /// Has put again what the manifest says, where this is something else: an API file
    /// now, an index once a plan has read it.
    pub(super) async fn make_good(
        &self,
        store: &dyn Store,
        manifest: &mut Manifest,
    ) -> Result<(), SettleError> {
        let mut is_any = false;
        for (path, tag, sha256) in &self.indexes {
            let Some(image) = manifest.images.get_mut(path) else { continue };
            if image.indexes.get(tag).is_some_and(|one| one.staged.is_none() && one.sha256 != *sha256) {
                tracing::warn!(image = %path, %tag, "put over what another settle put: the next plan reads it again");
                image.indexes.remove(tag);
                is_any = true;
            }
        }
        if is_any {
            manifest.undo_plan();
        }
        let files = &manifest.publication.files;
        let is_other = |(path, sha256): &&(ApiPath, Digest)| files.get(path) != Some(sha256);
        let others: Vec<ApiPath> = self.files.iter().filter(is_other).map(|(path, _)| path.clone()).collect();
        publish::republish(store, manifest, &others).await
    }
}
