//! What clients read, found out again from the API files in place and the sets that
//! are kept.

use std::collections::BTreeMap;

use jiff::Timestamp;

use crate::bottle::ObjectKey;
use crate::manifest::{Manifest, State};
use crate::publication::{Published, Scope, Set};
use crate::run::RunId;
use crate::store::StoreError;

use super::Verifier;
use super::published::{api_path, needs_of};
use super::remains::Beside;

/// Where the sets are.
const SETS: &str = "_sync/api/sets/";

impl Verifier {
    /// Restores what is known of the API files in place, and of each scope the newest
    /// set whose files they are and whose bottles are held. Of a scope without one
    /// nothing is known, and the next set is published to it anew.
    pub(super) async fn restore_publication(
        &self,
        manifest: &mut Manifest,
        beside: &Beside,
        at: Timestamp,
    ) -> Result<(), StoreError> {
        for key in &beside.api {
            if let Some(sha256) = self.patient(|| self.hash(key)).await? {
                manifest.publication.files.insert(api_path(key)?, sha256);
            }
        }
        let mut published: BTreeMap<Scope, Published> = BTreeMap::new();
        for run in self.kept_sets().await? {
            let Some(Ok(set)) = self.set(&run).await? else { continue };
            for scope in set.scopes() {
                if !published.contains_key(&scope) && is_read(&set, &scope, manifest, beside) {
                    published.insert(scope, Published { run: run.clone(), at });
                }
            }
        }
        manifest.publication.published = published;
        Ok(())
    }

    /// The runs whose sets are kept, newest first.
    async fn kept_sets(&self) -> Result<Vec<RunId>, StoreError> {
        let listed = self.patient(|| self.store.list(SETS, None, usize::MAX)).await?;
        let name =
            |key: &ObjectKey| key.as_str().strip_prefix(SETS)?.strip_suffix(".jsonl.zst")?.parse().ok();
        let mut runs: Vec<RunId> = listed.iter().filter_map(|meta| name(&meta.key)).collect();
        runs.sort();
        runs.reverse();
        Ok(runs)
    }
}

/// Whether the files in place are the set's, and what they need is there.
fn is_read(set: &Set, scope: &Scope, manifest: &Manifest, beside: &Beside) -> bool {
    let mut files = set.files_of(scope).peekable();
    let is_there = |key: Option<ObjectKey>| key.is_some_and(|key| beside.flat.contains_key(&key));
    files.peek().is_some()
        && files.all(|(path, file)| manifest.publication.files.get(path) == Some(&file.sha256))
        && needs_of(set, scope).all(|(need, bottles)| {
            let image = manifest.images.get(&need.image);
            let has_index = need.index.as_ref().is_none_or(|tag| {
                image.is_some_and(|image| image.indexes.contains_key(tag))
                    && (!need.flat_index || is_there(ObjectKey::flat_index(&need.image, tag)))
            });
            has_index
                && bottles.iter().all(|bottle| {
                    let record = manifest.bottle(&need.image, &bottle.digest);
                    record.is_some_and(|record| record.state == State::Held)
                        && bottle.flat.iter().all(|flat| is_there(Some(flat.clone())))
                })
        })
}
