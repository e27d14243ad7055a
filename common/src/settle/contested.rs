//! Image indexes that would take away what clients were told of.
//!
//! Upstream may change the bottles under an image tag. The index that names the new
//! ones names the old ones no more, which the API files name that clients read by then:
//! so it is put in place only along with the API files that name the new ones.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use crate::bottle::{Digest, ImagePath, ImageTag};
use crate::manifest::{Image, IndexRecord, Manifest, State};
use crate::publication::{Scope, Set, Staged, Waiting};
use crate::run::RunId;
use crate::store::Store;

use super::{SettleError, place, publish, waits};

/// An image index by its image and tag.
type Name = (ImagePath, ImageTag);

/// Image indexes that are ready, and that clients have a say in.
#[derive(Default)]
pub(super) struct Contested {
    /// Those who read of what these would take away can be told of what they bring.
    allowed: HashSet<Name>,
    /// These would leave clients with API files that name what they can't find.
    withheld: HashSet<Name>,
}

impl Contested {
    /// Looks which they are.
    pub(super) async fn look(store: &dyn Store, manifest: &Manifest) -> Result<Self, SettleError> {
        let mut taking: BTreeMap<Name, HashSet<Digest>> = BTreeMap::new();
        for (path, image) in &manifest.images {
            for (tag, index) in image.indexes.iter().filter(|(_, index)| place::is_ready(image, index)) {
                let taken = taken(image, index);
                if !taken.is_empty() {
                    taking.insert((path.clone(), tag.clone()), taken);
                }
            }
        }
        if taking.is_empty() {
            return Ok(Self::default());
        }
        let readers = readers(store, manifest, &taking).await?;
        let mut allowed: HashSet<Name> = readers.keys().cloned().collect();
        let newest = match manifest.publication.staged.last() {
            Some(staged) if manifest.publication.held_since.is_none() => {
                publish::load_if_whole(store, &staged.run).await?.map(|set| (staged, set))
            }
            _ => None,
        };
        match &newest {
            None => allowed.clear(),
            Some((staged, set)) => settle_on(&mut allowed, &readers, manifest, staged, set),
        }
        let withheld = readers.into_keys().filter(|name| !allowed.contains(name)).collect();
        Ok(Self { allowed, withheld })
    }

    /// Whether clients are told along with it of what it brings.
    pub(super) fn allows(&self, path: &ImagePath, tag: &ImageTag) -> bool {
        self.allowed.contains(&(path.clone(), tag.clone()))
    }

    /// Whether it has to wait.
    pub(super) fn withholds(&self, path: &ImagePath, tag: &ImageTag) -> bool {
        self.withheld.contains(&(path.clone(), tag.clone()))
    }
}

/// The held bottles that an index names no more, and the one in place does.
fn taken(image: &Image, index: &IndexRecord) -> HashSet<Digest> {
    let is_held =
        |digest: &&Digest| image.bottles.get(*digest).is_some_and(|record| record.state == State::Held);
    let names = index.in_place.iter().flat_map(|one| &one.names);
    names.filter(|digest| index.names(digest) == Some(false)).filter(is_held).copied().collect()
}

/// Who was told of what would be taken away; indexes of which nobody was are left out.
async fn readers(
    store: &dyn Store,
    manifest: &Manifest,
    taking: &BTreeMap<Name, HashSet<Digest>>,
) -> Result<BTreeMap<Name, BTreeSet<Scope>>, SettleError> {
    let mut by_run: BTreeMap<RunId, Vec<&Scope>> = BTreeMap::new();
    for (scope, published) in &manifest.publication.published {
        by_run.entry(published.run.clone()).or_default().push(scope);
    }
    let mut readers: BTreeMap<Name, BTreeSet<Scope>> = BTreeMap::new();
    for (run, scopes) in by_run {
        let Some(set) = publish::load_if_whole(store, &run).await? else { continue };
        for need in &set.needs {
            let Some(tag) = &need.index else { continue };
            let name = (need.image.clone(), tag.clone());
            let Some(taken) = taking.get(&name) else { continue };
            for bottle in need.bottles.iter().filter(|bottle| taken.contains(&bottle.digest)) {
                let told = scopes.iter().filter(|scope| set.tells(scope, bottle));
                readers.entry(name.clone()).or_default().extend(told.map(|scope| (*scope).clone()));
            }
        }
    }
    readers.retain(|_, scopes| !scopes.is_empty());
    Ok(readers)
}

/// Leaves of `allowed` what may be put in place together: each reader of theirs gets the
/// set then.
fn settle_on(
    allowed: &mut HashSet<Name>,
    readers: &BTreeMap<Name, BTreeSet<Scope>>,
    manifest: &Manifest,
    staged: &Staged,
    set: &Set,
) {
    loop {
        let waiting = waits::look_as_if(manifest, set, |path, tag| {
            let name = (path.clone(), tag.clone());
            let image = manifest.images.get(path);
            let is_ready = image.is_some_and(|image| {
                image.indexes.get(tag).is_some_and(|index| place::is_ready(image, index))
            });
            // What nobody has a say in is put in place along with them.
            is_ready && (allowed.contains(&name) || !readers.contains_key(&name))
        });
        let before = allowed.len();
        allowed.retain(|name| {
            readers.get(name).is_none_or(|scopes| scopes.iter().all(|scope| lets_go(scope, staged, &waiting)))
        });
        if allowed.len() == before {
            return;
        }
    }
}

/// Whether a reader of what is taken away is told otherwise now, or never.
fn lets_go(scope: &Scope, staged: &Staged, waiting: &[Waiting]) -> bool {
    let is_over = |one: &Waiting| one.is_over(staged.despite_dead.contains(&one.client));
    match scope {
        // One that the set is not for goes on with what it has, as its last bottles do.
        _ if !staged.scopes.contains(scope) => true,
        Scope::Client(client) => waiting.iter().filter(|one| one.client == *client).all(is_over),
        // One client's dead bottle may hold back what names all for long, and must not
        // hold back the others' own files with it.
        Scope::AllClients => waiting.iter().all(|one| is_over(one) || one.is_stuck()),
        Scope::NoBottles => true,
    }
}
