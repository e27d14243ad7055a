//! What operators ask of the producer.

use jiff::Timestamp;

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

/// Carries orders out, oldest first. Each may be given twice.
pub(super) async fn obey(
    store: &dyn Store,
    manifest: &mut Manifest,
    orders: &[Order],
    now: Timestamp,
    at: Timestamp,
) -> Result<Obeyed, SettleError> {
    let mut obeyed = Obeyed::default();
    for order in orders {
        tracing::info!(order = ?order.what, "asked by an operator");
        match &order.what {
            What::Reindex { image, tag } => {
                if let Some(image) = manifest.images.get_mut(image)
                    && image.indexes.remove(tag).is_some()
                {
                    manifest.planned = None;
                }
            }
            What::PublishDespiteDead { clients } => {
                for staged in &mut manifest.publication.staged {
                    let named = staged.scopes.iter().filter_map(|scope| match scope {
                        Scope::Client(tag) if clients.is_empty() || clients.contains(tag) => Some(tag),
                        _ => None,
                    });
                    staged.despite_dead.extend(named.cloned());
                }
            }
            What::Republish { paths } => {
                let paths: Vec<ApiPath> = paths.iter().filter_map(|path| path.parse().ok()).collect();
                publish::republish(store, manifest, &paths).await?;
            }
            What::Rollback { clients } => {
                // Given twice it would put forth what was put back.
                if manifest.publication.held_since.is_none_or(|since| since < order.at) {
                    obeyed.rolled_back = publish::roll_back(store, manifest, clients, now, at).await?;
                    manifest.publication.held_since = Some(order.at);
                }
            }
            What::Resume => manifest.publication.held_since = None,
            What::Retire { at_most } => obeyed.retire_at_most = Some(*at_most),
        }
    }
    Ok(obeyed)
}
