//! The plan's part: what the catalogues dropped, and what came back.

use std::collections::{BTreeSet, HashMap, HashSet};

use futures_util::{FutureExt, StreamExt, TryStreamExt, stream};
use jiff::Timestamp;

use crate::bottle::{Digest, ImagePath, ObjectKey};
use crate::catalogue::Catalogue;
use crate::manifest::{BottleRecord, Image, Manifest, State};
use crate::selection::Selection;
use crate::store::{Store, StoreError, Tags};

/// What the catalogues list.
pub struct Listed {
    digests: HashMap<ImagePath, HashSet<Digest>>,
    /// What the keys of images begin with that they speak for.
    roots: BTreeSet<String>,
    /// Formulae that could not be read; `None` if one can't even be named.
    unread: Option<BTreeSet<String>>,
}

/// Bottles that were superseded and are listed again.
#[derive(Default)]
pub struct Returned {
    /// They are there, and no longer tagged.
    untagged: Vec<(ImagePath, Digest)>,
    /// They have expired.
    gone: Vec<(ImagePath, Digest)>,
}

/// Objects are written anew so many at once.
const AT_ONCE: usize = 8;

impl Listed {
    /// What `catalogue` lists; `roots` are those that it speaks for.
    pub fn of(catalogue: &Catalogue, roots: BTreeSet<String>) -> Self {
        let mut digests: HashMap<ImagePath, HashSet<Digest>> = HashMap::new();
        for formula in catalogue.formulae() {
            let listed = digests.entry(formula.image.clone()).or_default();
            listed.extend(formula.bottles.iter().map(|(_, digest)| *digest));
        }
        let name = |name: &str| name.parse::<crate::bottle::FormulaName>().ok().map(|_| name.to_owned());
        let unread = catalogue.skipped().iter().map(|skipped| name(&skipped.name)).collect();
        Self { digests, roots, unread }
    }

    /// Whether a bottle is listed.
    fn lists(&self, path: &ImagePath, digest: &Digest) -> bool {
        self.digests.get(path).is_some_and(|listed| listed.contains(digest))
    }

    /// Whether the catalogues tell for sure that a bottle of this image is not listed.
    fn speaks_for(&self, path: &ImagePath, image: &Image) -> bool {
        let is_root = |at: usize| self.roots.contains(&path.as_str()[..at]);
        path.as_str().match_indices('/').any(|(at, _)| is_root(at))
            && self.unread.as_ref().is_some_and(|unread| !unread.contains(image.formula.as_str()))
    }
}

/// Takes note, in the manifest, of what is dropped since `now` and of what is listed
/// again.
pub fn mark(manifest: &mut Manifest, listed: &Listed, selection: &Selection, now: Timestamp) {
    for (path, image) in &mut manifest.images {
        let speaks = listed.speaks_for(path, image);
        for (digest, record) in &mut image.bottles {
            if listed.lists(path, digest) || selection.keeps(&image.formula, &record.tags) {
                record.dropped_at = None;
            } else if speaks && record.state == State::Held {
                record.dropped_at.get_or_insert(now);
            }
        }
    }
}

/// Takes the tags off bottles that are superseded and wanted again, before they
/// expire. Those that have expired already must be fetched.
pub async fn bring_back(
    store: &dyn Store,
    manifest: &Manifest,
    listed: &Listed,
    selection: &Selection,
) -> Result<Returned, StoreError> {
    let mut wanted = Vec::new();
    for (path, image) in &manifest.images {
        let superseded = image.bottles.iter().filter(|(_, record)| record.superseded_at.is_some());
        for (digest, record) in superseded {
            if listed.lists(path, digest) || selection.keeps(&image.formula, &record.tags) {
                wanted.push(untag(store, path, *digest, record).boxed());
            }
        }
    }
    let outcomes: Vec<_> = stream::iter(wanted).buffer_unordered(AT_ONCE).try_collect().await?;
    let mut returned = Returned::default();
    for (bottle, is_there) in outcomes {
        if is_there { returned.untagged.push(bottle) } else { returned.gone.push(bottle) }
    }
    Ok(returned)
}

async fn untag(
    store: &dyn Store,
    path: &ImagePath,
    digest: Digest,
    record: &BottleRecord,
) -> Result<((ImagePath, Digest), bool), StoreError> {
    for flat in &record.flat {
        store.retag(flat, &Tags::new()).await?;
    }
    let is_there = store.retag(&ObjectKey::blob(path, &digest), &Tags::new()).await?;
    Ok(((path.clone(), digest), is_there))
}

impl Returned {
    /// Takes note of it in the manifest.
    pub fn apply(&self, manifest: &mut Manifest) {
        for (path, digest) in &self.untagged {
            if let Some(record) = record(manifest, path, digest) {
                record.superseded_at = None;
                record.dropped_at = None;
            }
        }
        for (path, digest) in &self.gone {
            // One that was queued meanwhile has another state.
            if record(manifest, path, digest).is_some_and(|record| record.superseded_at.is_some())
                && let Some(image) = manifest.images.get_mut(path)
            {
                image.bottles.remove(digest);
            }
        }
    }

    /// Whether there is nothing to take note of.
    pub fn is_empty(&self) -> bool {
        self.untagged.is_empty() && self.gone.is_empty()
    }
}

fn record<'a>(manifest: &'a mut Manifest, path: &ImagePath, digest: &Digest) -> Option<&'a mut BottleRecord> {
    manifest.images.get_mut(path)?.bottles.get_mut(digest)
}
