//! What operators ask of the producer.

use std::collections::BTreeSet;

use jiff::Timestamp;

use crate::bottle::ObjectKey;
use crate::manifest::Manifest;
use crate::publication::{ApiPath, Scope};
use crate::receipt::{Order, What};
use crate::store::Store;

use super::{SettleError, publish};

/// What orders came to.
#[derive(Default)]
pub(super) struct Obeyed {
    /// Scopes that were rolled back.
    pub(super) rolled_back: Vec<Scope>,
    /// So many bottles may be retired at once.
    pub(super) retire_at_most: Option<u64>,
}

/// Carries orders out, oldest first, each receipt's once: one may be there again whose
/// removal failed, or whose settle was killed after it had written the manifest.
pub(super) async fn obey(
    store: &dyn Store,
    manifest: &mut Manifest,
    orders: &[(ObjectKey, Order)],
    now: Timestamp,
    at: Timestamp,
) -> Result<Obeyed, SettleError> {
    let mut obeyed = Obeyed::default();
    let is_new = |key: &ObjectKey| !manifest.obeyed.contains(key);
    let new: Vec<&Order> = orders.iter().filter(|(key, _)| is_new(key)).map(|(_, order)| order).collect();
    if !orders.is_empty() {
        manifest.obeyed = orders.iter().map(|(key, _)| key.clone()).collect();
    }
    for order in new {
        tracing::info!(order = ?order.what, "asked by an operator");
        match &order.what {
            What::Reindex { image, tag } => {
                if let Some(image) = manifest.images.get_mut(image)
                    && image.indexes.remove(tag).is_some()
                {
                    manifest.undo_plan();
                }
            }
            What::PublishDespiteDead { clients } => {
                for at in 0..manifest.publication.staged.len() {
                    let run = manifest.publication.staged[at].run.clone();
                    let named = match clients.as_slice() {
                        [] => publish::load_if_whole(store, &run)
                            .await?
                            .map_or_else(Vec::new, |set| set.clients),
                        named => named.to_vec(),
                    };
                    manifest.publication.staged[at].despite_dead.extend(named);
                }
            }
            What::Republish { paths } => {
                let paths: Vec<ApiPath> = paths.iter().filter_map(|path| path.parse().ok()).collect();
                publish::republish(store, manifest, &paths).await?;
            }
            What::Rollback { clients } => {
                // Twice in one settle it would put forth what was just put back.
                let done: BTreeSet<Scope> = obeyed.rolled_back.iter().cloned().collect();
                let scopes = publish::roll_back(store, manifest, clients, &done, at).await?;
                obeyed.rolled_back.extend(scopes);
                manifest.publication.held_since = Some(now);
            }
            What::Resume => manifest.publication.held_since = None,
            What::Retire { at_most } => obeyed.retire_at_most = Some(*at_most),
        }
    }
    Ok(obeyed)
}
