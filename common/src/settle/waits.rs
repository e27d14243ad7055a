//! What clients wait for.

use crate::bottle::{Digest, ImagePath, ImageTag};
use crate::manifest::{IndexRecord, Manifest, State};
use crate::publication::{Need, NeededBottle, Scope, Set, SetError, Staged, Waiting};
use crate::store::Store;

/// Which clients' newest files wait, and for what.
pub async fn waiting(store: &dyn Store, manifest: &Manifest) -> Result<Vec<Waiting>, SetError> {
    let Some(newest) = manifest.publication.staged.last() else { return Ok(Vec::new()) };
    let Some(set) = Set::load(store, &newest.run).await? else { return Ok(Vec::new()) };
    Ok(of_waiting(manifest, newest, look(manifest, &set)))
}

/// Those clients that wait for a set: for their own file, or, where they have none, hold
/// back the one of all.
pub(super) fn of_waiting(manifest: &Manifest, staged: &Staged, mut clients: Vec<Waiting>) -> Vec<Waiting> {
    let is_awaited =
        |scope: &Scope| staged.scopes.contains(scope) && manifest.publication.awaits(scope, &staged.run);
    clients.retain(|one| {
        let own = Scope::Client(one.client.clone());
        if staged.scopes.contains(&own) {
            is_awaited(&own)
        } else {
            is_awaited(&Scope::AllClients) && !one.is_over(staged.despite_dead.contains(&one.client))
        }
    });
    clients
}

/// What each client of a set waits for.
pub(super) fn look(manifest: &Manifest, set: &Set) -> Vec<Waiting> {
    look_as_if(manifest, set, |_, _| false)
}

/// What each client of a set would wait for if some image indexes that wait were in
/// place.
pub(super) fn look_as_if(
    manifest: &Manifest,
    set: &Set,
    is_placed: impl Fn(&ImagePath, &ImageTag) -> bool,
) -> Vec<Waiting> {
    let mut waiting: Vec<Waiting> = set.clients.iter().map(Waiting::of).collect();
    for need in &set.needs {
        for bottle in &need.bottles {
            let Some(count) = missing(manifest, need, bottle, &is_placed) else { continue };
            for client in &bottle.clients {
                if let Some(one) = waiting.get_mut(usize::from(*client)) {
                    *count(one) += 1;
                }
            }
        }
    }
    waiting
}

/// What a bottle lacks to be installed: where that is counted.
fn missing(
    manifest: &Manifest,
    need: &Need,
    bottle: &NeededBottle,
    is_placed: &impl Fn(&ImagePath, &ImageTag) -> bool,
) -> Option<fn(&mut Waiting) -> &mut u64> {
    let image = manifest.images.get(&need.image);
    let record = image.and_then(|image| image.bottles.get(&bottle.digest));
    match record.map(|record| &record.state) {
        None => return Some(|waiting| &mut waiting.unplanned),
        Some(State::Queued) => return Some(|waiting| &mut waiting.queued),
        Some(State::Dead(_)) => return Some(|waiting| &mut waiting.dead),
        Some(State::Held) => {}
    }
    // Until its tag is off it may go at any time, or be gone already.
    if record.is_some_and(|record| record.superseded_at.is_some() && record.dropped_at.is_none()) {
        return Some(|waiting| &mut waiting.queued);
    }
    let is_named = need.index.as_ref().is_none_or(|tag| {
        let index = image.and_then(|image| image.indexes.get(tag));
        index.is_some_and(|index| {
            is_in_place(index, &bottle.digest, need.flat_index)
                || (is_placed(&need.image, tag) && index.names(&bottle.digest) != Some(false))
        })
    });
    // A name that is another bottle's still is given away with its index.
    let has_names = record.is_some_and(|record| bottle.flat.iter().all(|flat| record.flat.contains(flat)))
        || need.index.as_ref().is_some_and(|tag| is_placed(&need.image, tag));
    if is_named && has_names { None } else { Some(|waiting| &mut waiting.unnamed) }
}

/// Whether the index that clients read names a bottle, and has its flat copy.
fn is_in_place(index: &IndexRecord, digest: &Digest, has_flat: bool) -> bool {
    match (&index.staged, &index.in_place) {
        (None, _) => index.names(digest) != Some(false) && (!has_flat || index.flat == Some(index.sha256)),
        (Some(_), Some(one)) => {
            one.names.binary_search(digest).is_ok() && (!has_flat || index.flat == Some(one.sha256))
        }
        (Some(_), None) => false,
    }
}
