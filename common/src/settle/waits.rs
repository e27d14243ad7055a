//! What clients wait for.

use crate::manifest::{Manifest, State};
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
    let mut waiting: Vec<Waiting> = set.clients.iter().map(Waiting::of).collect();
    for need in &set.needs {
        for bottle in &need.bottles {
            let Some(count) = missing(manifest, need, bottle) else { continue };
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
fn missing(manifest: &Manifest, need: &Need, bottle: &NeededBottle) -> Option<fn(&mut Waiting) -> &mut u64> {
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
    let index = need.index.as_ref().map(|tag| image.and_then(|image| image.indexes.get(tag)));
    let is_named = match index {
        None => true,
        Some(None) => false,
        Some(Some(index)) => index.staged.is_none() && (!need.flat_index || index.flat == Some(index.sha256)),
    };
    let has_names = record.is_some_and(|record| bottle.flat.iter().all(|flat| record.flat.contains(flat)));
    if is_named && has_names { None } else { Some(|waiting| &mut waiting.unnamed) }
}
