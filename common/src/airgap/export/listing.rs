//! What a bundle says of the mirror that it comes from.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use crate::airgap::bundle::{ListedBottle, ListedImage, ListedSet, Listing};
use crate::bottle::{BottleTag, Digest, ImagePath, ImageTag};
use crate::manifest::{BottleRecord, Image, Manifest, State};
use crate::publication::{Scope, Set};

/// What is in the bundle.
#[derive(Default)]
pub(super) struct Carried {
    pub(super) bottles: HashSet<(ImagePath, Digest)>,
    pub(super) indexes: BTreeMap<(ImagePath, ImageTag), Digest>,
}

/// Bottles that were given up on, by image.
type Dead = BTreeSet<(ImagePath, Digest)>;

/// All that the mirror holds, and what of it is in the bundle.
pub(super) fn make(manifest: &Manifest, sets: &[(Set, Vec<Scope>)], carried: &Carried) -> Listing {
    let mut dead = Dead::new();
    let sets = sets
        .iter()
        .map(|(set, scopes)| ListedSet {
            run: set.run.clone(),
            at: set.at,
            scopes: scopes.clone(),
            despite_dead: despite_dead(manifest, set, scopes, &mut dead),
        })
        .collect();
    let images = manifest.images.iter().map(|(path, image)| list(path, image, carried, &dead));
    let images = images.filter(|image| !(image.bottles.is_empty() && image.indexes.is_empty())).collect();
    Listing { sets, images }
}

/// The clients of `scopes` to which the set was published though some of their
/// bottles were given up on, or could not even be planned; the former are noted in
/// `dead`.
fn despite_dead(manifest: &Manifest, set: &Set, scopes: &[Scope], dead: &mut Dead) -> BTreeSet<BottleTag> {
    let is_published = |client: &BottleTag| {
        scopes.contains(&Scope::AllClients) || scopes.contains(&Scope::Client(client.clone()))
    };
    let mut despite = BTreeSet::new();
    for need in &set.needs {
        for bottle in &need.bottles {
            let state = manifest.bottle(&need.image, &bottle.digest).map(|record| &record.state);
            if matches!(state, Some(State::Held | State::Queued)) {
                continue;
            }
            let clients =
                bottle.clients.iter().filter_map(|position| set.clients.get(usize::from(*position)));
            let clients: Vec<_> = clients.filter(|client| is_published(client)).cloned().collect();
            if !clients.is_empty() && state.is_some() {
                dead.insert((need.image.clone(), bottle.digest));
            }
            despite.extend(clients);
        }
    }
    despite
}

fn list(path: &ImagePath, image: &Image, carried: &Carried, dead: &Dead) -> ListedImage {
    let mut bottles = BTreeMap::new();
    for (digest, record) in &image.bottles {
        let at = (path.clone(), *digest);
        let is_carried = carried.bottles.contains(&at);
        match &record.state {
            State::Held => {
                bottles.insert(*digest, ListedBottle { carried: is_carried, ..listed(record) });
            }
            State::Dead(failure) if dead.contains(&at) => {
                bottles.insert(*digest, ListedBottle { dead: Some(failure.clone()), ..listed(record) });
            }
            State::Queued | State::Dead(_) => {}
        }
    }
    let indexes = image.indexes.keys().filter_map(|tag| {
        let sha256 = carried.indexes.get(&(path.clone(), tag.clone()))?;
        Some((tag.clone(), *sha256))
    });
    ListedImage {
        path: path.clone(),
        formula: image.formula.clone(),
        origin: image.origin.clone(),
        indexes: indexes.collect(),
        bottles,
    }
}

fn listed(record: &BottleRecord) -> ListedBottle {
    ListedBottle {
        image_tag: record.image_tag.clone(),
        tags: record.tags.clone(),
        size: record.size,
        file: record.file.clone(),
        dropped_at: record.dropped_at,
        carried: false,
        dead: None,
    }
}
