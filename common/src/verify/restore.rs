//! What clients read, found out again from the API files in place and the sets that
//! are kept.

use std::collections::{BTreeMap, HashSet};

use jiff::Timestamp;

use crate::bottle::{Digest, ObjectKey};
use crate::manifest::{Manifest, State};
use crate::publication::{ApiPath, Published, SETS, Scope, Set};
use crate::store::StoreError;

use super::Verifier;
use super::finding::{Content, Finding, Kind, Subject};
use super::naming;
use super::published::{api_path, is_of_no_set, needs_of, of_no_set};
use super::remains::Beside;

impl Verifier {
    /// Restores what is known of the API files in place, and of each scope the newest
    /// set whose files they are and whose bottles are held, and the one before it, to which
    /// a rollback leads. Of a scope without one nothing is known, and the next plan stages a
    /// set for it. What is in place and of no set is told.
    ///
    /// Where clients read an older set though a newer one is complete, somebody rolled
    /// back, and that goes on to hold.
    pub(super) async fn restore_publication(
        &self,
        manifest: &mut Manifest,
        beside: &Beside,
        at: Timestamp,
    ) -> Result<Vec<Finding>, StoreError> {
        let sets = self.kept_sets().await?;
        restore_flat_names(&sets, manifest, beside);
        let mut unknown = self.restore_files(&sets, manifest, beside).await?;
        let mut published: BTreeMap<Scope, Published> = BTreeMap::new();
        // The newest set that each could read, and the newest of those that are older than
        // what it reads.
        let (mut newer, mut older) = (BTreeMap::new(), BTreeMap::new());
        for set in &sets {
            for scope in set.scopes() {
                let this = Published { run: set.run.clone(), at };
                let has_files = has_files(set, &scope, manifest);
                let is_whole = |scope: &Scope| is_complete(set, scope, manifest, beside);
                // What names no bottle is published along with the first client.
                let may_read = if scope == Scope::NoBottles && !has_files {
                    set.clients.iter().any(|client| is_whole(&Scope::Client(client.clone())))
                } else {
                    is_whole(&scope)
                };
                if !may_read {
                    continue;
                }
                match (has_files, published.contains_key(&scope)) {
                    (true, true) => {}
                    (true, false) => {
                        published.insert(scope, this);
                    }
                    (false, true) => {
                        older.entry(scope).or_insert(this);
                    }
                    (false, false) => {
                        newer.entry(scope).or_insert(this);
                    }
                }
            }
        }
        newer.retain(|scope, _| published.contains_key(scope));
        let publication = &mut manifest.publication;
        publication.held_since = (!newer.is_empty()).then_some(at);
        publication.previous = older;
        publication.previous.extend(newer);
        publication.published = published;
        for (path, sha256) in publication.files.iter().filter(|(path, _)| is_of_no_set(publication, path)) {
            unknown.push(of_no_set(path.key().map_err(StoreError::from)?, *sha256));
        }
        Ok(unknown)
    }

    /// Takes note of the API files that some set has; the others.
    async fn restore_files(
        &self,
        sets: &[Set],
        manifest: &mut Manifest,
        beside: &Beside,
    ) -> Result<Vec<Finding>, StoreError> {
        let mut unknown = Vec::new();
        for key in &beside.api {
            let Some(sha256) = self.hash(key).await? else { continue };
            let path = api_path(key)?;
            // Where no set is kept there is nothing to compare with, and all is published anew.
            if sets.is_empty() || is_of_any(sets, &path, sha256) {
                manifest.publication.files.insert(path, sha256);
                continue;
            }
            let mut finding = Finding::new(Kind::WrongChecksum, Subject::ApiFile, key.clone());
            finding.found = Some(Content { size: None, sha256: Some(sha256) });
            unknown
                .push(finding.saying("no set that is kept has these bytes: the next one is published anew"));
        }
        Ok(unknown)
    }

    /// The sets that are kept and can be read, newest first.
    async fn kept_sets(&self) -> Result<Vec<Set>, StoreError> {
        let listed = self.patient(|| self.store.list(SETS, None, usize::MAX)).await?;
        let mut sets = Vec::new();
        for meta in listed {
            let object = self.patient(|| self.store.get(&meta.key)).await?;
            sets.extend(object.and_then(|object| Set::decode(&object.body).ok()));
        }
        sets.sort_by(|a, b| b.run.cmp(&a.run));
        Ok(sets)
    }
}

fn is_of_any(sets: &[Set], path: &ApiPath, sha256: Digest) -> bool {
    sets.iter().any(|set| set.files.get(path).is_some_and(|file| file.sha256 == sha256))
}

/// The names of bottles from plain file hosts, which no image index tells; and the tags,
/// which only such a name does. Of two sets the newer one's bottle has the name.
fn restore_flat_names(sets: &[Set], manifest: &mut Manifest, beside: &Beside) {
    let mut taken: HashSet<&ObjectKey> = HashSet::new();
    let needs = sets.iter().flat_map(|set| &set.needs);
    for need in needs.filter(|need| naming::is_of_file_host(&need.image)) {
        let Some(image) = manifest.images.get_mut(&need.image) else { continue };
        for bottle in &need.bottles {
            let Some(record) = image.bottles.get_mut(&bottle.digest) else { continue };
            for flat in &bottle.flat {
                if beside.flat.get(flat) == Some(&record.size) && taken.insert(flat) {
                    record.flat.push(flat.clone());
                }
                if let Some(tag) = naming::flat_tag(flat)
                    && !record.tags.contains(&tag)
                {
                    record.tags.push(tag);
                }
            }
        }
    }
}

/// Whether the files in place are the set's.
fn has_files(set: &Set, scope: &Scope, manifest: &Manifest) -> bool {
    set.files_of(scope).all(|(path, file)| manifest.publication.files.get(path) == Some(&file.sha256))
}

/// Whether what a set needs for a scope is there.
fn is_complete(set: &Set, scope: &Scope, manifest: &Manifest, beside: &Beside) -> bool {
    let is_there = |key: Option<ObjectKey>| key.is_some_and(|key| beside.flat.contains_key(&key));
    needs_of(set, scope).all(|(need, bottles)| {
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
