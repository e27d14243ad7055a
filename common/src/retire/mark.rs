//! The plan's part: what the catalogues dropped, and what came back.

use std::collections::{BTreeSet, HashMap, HashSet};

use futures_util::{FutureExt, StreamExt, TryStreamExt, stream};
use jiff::Timestamp;

use crate::bottle::{BottleTag, Digest, FormulaName, ImagePath, ObjectKey};
use crate::catalogue::Catalogue;
use crate::manifest::{BottleRecord, Image, Manifest, State};
use crate::selection::Selection;
use crate::store::{Store, StoreError};

/// What the catalogues list.
pub struct Listed {
    /// The bottles of each image, with their tags.
    digests: HashMap<ImagePath, HashMap<Digest, Vec<BottleTag>>>,
    /// What the keys of images begin with that they speak for.
    roots: BTreeSet<String>,
    /// The taps that they speak for, `USER/TAP`; homebrew/core has no name.
    taps: HashSet<String>,
    /// What they call the formula of an image.
    names: HashMap<ImagePath, FormulaName>,
    /// Formulae that could not be read; `None` if one can't even be named.
    unread: Option<BTreeSet<String>>,
}

/// Bottles that are superseded and wanted again, and have expired already.
#[derive(Default)]
pub struct Gone(Vec<(ImagePath, Digest)>);

/// Objects are looked for so many at once.
const AT_ONCE: usize = 16;

impl Listed {
    /// What `catalogue` lists; `roots` are those that it speaks for.
    pub fn of(catalogue: &Catalogue, roots: BTreeSet<String>) -> Self {
        let mut digests: HashMap<ImagePath, HashMap<Digest, Vec<BottleTag>>> = HashMap::new();
        let (mut taps, mut names) = (HashSet::new(), HashMap::new());
        for formula in catalogue.formulae() {
            taps.insert(tap_of(&formula.name).to_owned());
            names.insert(formula.image.clone(), formula.name.clone());
            let listed = digests.entry(formula.image.clone()).or_default();
            for (tag, digest) in &formula.bottles {
                listed.entry(*digest).or_default().push(tag.clone());
            }
        }
        let name = |name: &str| name.parse::<FormulaName>().ok().map(|_| name.to_owned());
        let unread = catalogue.skipped().iter().map(|skipped| name(&skipped.name)).collect();
        Self { digests, roots, taps, names, unread }
    }

    /// Whether a bottle is listed.
    fn lists(&self, path: &ImagePath, digest: &Digest) -> bool {
        self.tags(path, digest).is_some()
    }

    /// The tags of a bottle; `None` if it is not listed.
    fn tags(&self, path: &ImagePath, digest: &Digest) -> Option<&Vec<BottleTag>> {
        self.digests.get(path)?.get(digest)
    }

    /// Whether the catalogues tell for sure that a bottle of this image is not listed.
    fn speaks_for(&self, path: &ImagePath, image: &Image) -> bool {
        let formula = &image.formula;
        let is_root = |at: usize| self.roots.contains(&path.as_str()[..at]);
        // Two taps may have one root. What can't be read may not tell its tap.
        path.as_str().match_indices('/').any(|(at, _)| is_root(at))
            && self.taps.contains(tap_of(formula))
            && self
                .unread
                .as_ref()
                .is_some_and(|unread| !unread.contains(formula.as_str()) && !unread.contains(formula.short()))
    }
}

/// `USER/TAP` of a formula; nothing for homebrew/core's.
fn tap_of(formula: &FormulaName) -> &str {
    formula.as_str().rsplit_once('/').map_or("", |(tap, _)| tap)
}

/// Takes note, in the manifest, of what is dropped since `now` and of what is wanted
/// again: settle takes the tags off that. What was given up on and is dropped is forgotten
/// once its letter is gone: nobody asks for it any more.
pub fn mark(manifest: &mut Manifest, listed: &Listed, selection: &Selection, now: Timestamp) {
    for (path, image) in &mut manifest.images {
        // A manifest that was rebuilt can't always tell.
        if let Some(name) = listed.names.get(path) {
            image.formula.clone_from(name);
        }
        let speaks = listed.speaks_for(path, image);
        image.bottles.retain(|digest, record| {
            let is_over = matches!(record.state, State::Dead(_)) && !record.is_accounted_for(now);
            !(is_over && speaks && !listed.lists(path, digest))
        });
        for (digest, record) in &mut image.bottles {
            // Nor the tags of what no image index names.
            if record.tags.is_empty()
                && let Some(tags) = listed.tags(path, digest)
            {
                record.tags.clone_from(tags);
            }
            if listed.lists(path, digest) || selection.keeps(&image.formula, &record.tags) {
                record.dropped_at = None;
            } else if speaks && record.state == State::Held {
                record.dropped_at.get_or_insert(now);
            }
        }
    }
}

/// Looks which of the bottles that are superseded and wanted again have expired: they
/// must be fetched anew. Nothing is changed.
pub async fn look_for_gone(
    store: &dyn Store,
    manifest: &Manifest,
    listed: &Listed,
    selection: &Selection,
) -> Result<Gone, StoreError> {
    let mut looks = Vec::new();
    for (path, image) in &manifest.images {
        let superseded = image.bottles.iter().filter(|(_, record)| record.superseded_at.is_some());
        for (digest, record) in superseded {
            if listed.lists(path, digest) || selection.keeps(&image.formula, &record.tags) {
                looks.push(look(store, path, *digest).boxed());
            }
        }
    }
    let looks: Vec<_> = stream::iter(looks).buffer_unordered(AT_ONCE).try_collect().await?;
    Ok(Gone(looks.into_iter().flatten().collect()))
}

/// The bottle, if it is gone.
async fn look(
    store: &dyn Store,
    path: &ImagePath,
    digest: Digest,
) -> Result<Option<(ImagePath, Digest)>, StoreError> {
    let is_there = store.head(&ObjectKey::blob(path, &digest)).await?.is_some();
    Ok((!is_there).then(|| (path.clone(), digest)))
}

impl Gone {
    /// Forgets them.
    pub fn apply(&self, manifest: &mut Manifest) {
        for (path, digest) in &self.0 {
            let Some(image) = manifest.images.get_mut(path) else { continue };
            // One that was queued meanwhile has another state.
            let is_gone =
                |record: &BottleRecord| record.state == State::Held && record.superseded_at.is_some();
            if image.bottles.get(digest).is_some_and(is_gone) {
                image.bottles.remove(digest);
            }
        }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::catalogue::Reader;

    /// A catalogue's formula of one bottle.
    fn element(name: &str, root: &str) -> serde_json::Value {
        let files = json!({"all": {"sha256": Digest::of(name.as_bytes()).to_string()}});
        let (short, full) = (name.rsplit('/').next(), name);
        json!({"name": short, "full_name": full, "versions": {"stable": "1.0"},
            "bottle": {"stable": {"rebuild": 0, "root_url": root, "files": files}}})
    }

    fn listed(elements: &[serde_json::Value]) -> Listed {
        let mut reader = Reader::new();
        reader.push(json!(elements).to_string().as_bytes()).unwrap();
        let catalogue = reader.finish().unwrap();
        let roots = catalogue.formulae().iter().map(|formula| formula.root().to_owned()).collect();
        Listed::of(&catalogue, roots)
    }

    fn speaks(listed: &Listed, formula: &str, path: &str) -> bool {
        let image = Image::new(&formula.parse().unwrap(), &"https://ghcr.io".parse().unwrap());
        listed.speaks_for(&path.parse().unwrap(), &image)
    }

    const CORE: &str = "https://ghcr.io/v2/homebrew/core";
    const SHARED: &str = "https://ghcr.io/v2/example/shared";

    #[test]
    fn only_of_taps_that_were_read_is_it_known_what_they_dropped() {
        let both = listed(&[element("wget", CORE), element("a/one/x", SHARED), element("a/two/y", SHARED)]);
        let path = "v2/example/shared/old";
        assert!(speaks(&both, "a/one/old", path) && speaks(&both, "a/two/old", path));
        assert!(speaks(&both, "old", "v2/homebrew/core/old"));
        assert!(!speaks(&both, "b/tap/old", "v2/b/tap/old"));
        // Another tap with the same root says nothing of it.
        let one = listed(&[element("wget", CORE), element("a/one/x", SHARED)]);
        assert!(speaks(&one, "a/one/old", path) && !speaks(&one, "a/two/old", path));
    }

    #[test]
    fn what_can_not_be_read_is_not_dropped_whatever_its_tap() {
        let broken = json!({"name": "old", "bottle": 5});
        let listed = listed(&[element("wget", CORE), element("a/one/x", SHARED), broken]);
        assert!(!speaks(&listed, "a/one/old", "v2/example/shared/old"));
        assert!(!speaks(&listed, "old", "v2/homebrew/core/old"));
        assert!(speaks(&listed, "a/one/older", "v2/example/shared/older"));
    }
}
