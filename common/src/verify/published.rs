//! What clients were told: API files to the byte, and the bottles that they need.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use crate::bottle::{Digest, ObjectKey};
use crate::manifest::{Manifest, State};
use crate::publication::{ApiFile, ApiPath, Need, NeededBottle, Publication, Published, Scope, Set, set_key};
use crate::receipt::What;
use crate::run::RunId;
use crate::store::{ObjectMeta, StoreError};

use super::finding::{Content, Finding, Kind, Remedy, Subject};
use super::indexes::{self, reindex};
use super::look::Look;
use super::{Known, Verifier};

/// Nothing of a set can be asked for again.
const NO_SET: Remedy = Remedy::None("the next plan that finds a change stages another");

impl Verifier {
    /// Reads what each scope was told.
    pub(super) async fn read_published(
        &self,
        manifest: &Manifest,
        look: &mut Look,
    ) -> Result<(), StoreError> {
        let mut sets: HashMap<&RunId, Option<Arc<Set>>> = HashMap::new();
        for (scope, Published { run, .. }) in &manifest.publication.published {
            if !sets.contains_key(run) {
                let key = set_key(run)?;
                let set = match self.set(run).await? {
                    Some(Ok(set)) => Ok(set),
                    Some(Err(why)) => Err(Finding::new(Kind::Unreadable, Subject::Set, key).saying(why)),
                    None => Err(Finding::new(Kind::Missing, Subject::Set, key)),
                };
                if let Err(finding) = &set {
                    look.findings.push(finding.clone().remedied_by(NO_SET));
                }
                sets.insert(run, set.ok().map(Arc::new));
            }
            match sets.get(run) {
                Some(Some(set)) => look.published.push((scope.clone(), Arc::clone(set))),
                _ => look.findings.name_scope(&set_key(run)?, scope),
            }
        }
        look.checked.scopes = look.published.len() as u64;
        Ok(())
    }

    /// A set, or what is wrong with it; `None` if there is none.
    pub(super) async fn set(&self, run: &RunId) -> Result<Option<Result<Set, String>>, StoreError> {
        let key = set_key(run)?;
        let object = self.patient(|| self.store.get(&key)).await?;
        Ok(object.map(|object| Set::decode(&object.body)))
    }

    /// Compares API files to the byte.
    pub(super) async fn read_api(
        &self,
        known: &Known,
        there: Vec<(ObjectMeta, &ApiPath, Digest)>,
        look: &mut Look,
    ) -> Result<(), StoreError> {
        for (ObjectMeta { key, size, .. }, path, expected) in there {
            look.checked.api_files += 1;
            let expecting = Content { size: None, sha256: Some(expected) };
            let finding = |kind, key, found| {
                Finding::new(kind, Subject::ApiFile, key)
                    .comparing(expecting, found)
                    .remedied_by(Remedy::republish(path))
            };
            match self.hash(&key).await {
                Ok(Some(sha256)) if sha256 == expected => {
                    if is_of_no_set(&known.manifest.publication, path) {
                        look.findings.push(of_no_set(key, sha256));
                    }
                }
                Ok(None) => look.findings.push(finding(Kind::Missing, key, None)),
                Ok(Some(sha256)) => {
                    let found = Content { size: Some(size), sha256: Some(sha256) };
                    let found = if self.is_being_written(known, path, sha256).await? {
                        let unfinished = Finding::new(Kind::Unfinished, Subject::ApiFile, key);
                        unfinished.comparing(expecting, Some(found))
                    } else {
                        finding(Kind::WrongChecksum, key, Some(found))
                    };
                    look.findings.push(found);
                }
                Err(error) => {
                    let why = self.tolerate(error)?;
                    look.findings
                        .push(finding(Kind::Unreadable, key, Some(Content::of_size(size))).saying(why));
                }
            }
        }
        Ok(())
    }

    /// API files in place of which the manifest knows nothing.
    pub(super) async fn read_unknown_api(&self, known: &Known, look: &mut Look) -> Result<(), StoreError> {
        // Of a mirror without a manifest nothing is known at all, which is said.
        if known.version.is_none() {
            return Ok(());
        }
        let extra: Vec<_> =
            look.findings.extra(Subject::ApiFile).map(|(at, one)| (at, one.key.clone())).collect();
        for (at, key) in extra {
            let path = api_path(&key)?;
            if !is_of_no_set(&known.manifest.publication, &path) {
                continue;
            }
            let sha256 = match self.hash(&key).await {
                Ok(Some(sha256)) => sha256,
                Ok(None) => continue,
                Err(error) => {
                    let finding = Finding::new(Kind::Unreadable, Subject::ApiFile, key);
                    look.findings.condemn(at, finding.saying(self.tolerate(error)?));
                    continue;
                }
            };
            if self.is_being_written(known, &path, sha256).await? {
                if let Some(finding) = look.findings.all.get_mut(at) {
                    *finding = Finding::new(Kind::Unfinished, Subject::ApiFile, key);
                }
            } else {
                look.findings.condemn(at, of_no_set(key, sha256));
            }
        }
        Ok(())
    }

    /// Whether a set has these bytes for the path that the next settle publishes, or puts
    /// back: then one is at it, or was killed before the manifest had it.
    async fn is_being_written(
        &self,
        known: &Known,
        path: &ApiPath,
        sha256: Digest,
    ) -> Result<bool, StoreError> {
        let Publication { staged, previous, .. } = &known.manifest.publication;
        let goes_back = known.waiting.asked.iter().any(|what| matches!(what, What::Rollback { .. }));
        let previous = previous.values().filter(|_| goes_back).map(|published| &published.run);
        let runs: BTreeSet<&RunId> = staged.iter().map(|staged| &staged.run).chain(previous).collect();
        for run in runs {
            if let Some(Ok(set)) = self.set(run).await?
                && set.files.get(path).is_some_and(|file| file.sha256 == sha256)
            {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

impl Look {
    /// What clients were told of and the mirror does not have.
    pub(super) fn note_unmet(&mut self, manifest: &Manifest) -> Result<(), StoreError> {
        let published = std::mem::take(&mut self.published);
        for (scope, set) in &published {
            for (path, file) in set.files_of(scope) {
                self.note_unmet_file(manifest, path, file)?;
            }
            for (need, bottles) in needs_of(set, scope) {
                for bottle in &bottles {
                    self.note_unmet_bottle(manifest, need, bottle);
                }
                self.note_unmet_index(need, &bottles);
            }
        }
        self.published = published;
        Ok(())
    }

    /// An API file that was to be published, and of which nobody took note.
    fn note_unmet_file(
        &mut self,
        manifest: &Manifest,
        path: &ApiPath,
        file: &ApiFile,
    ) -> Result<(), StoreError> {
        let key = path.key().map_err(StoreError::from)?;
        if manifest.publication.files.get(path) != Some(&file.sha256) && !self.findings.is_wrong(&key) {
            let finding = Finding::new(Kind::NotHeld, Subject::ApiFile, key);
            let expected = Content { size: Some(file.size), sha256: Some(file.sha256) };
            let finding = finding.comparing(expected, None).remedied_by(Remedy::republish(path));
            self.findings.push(finding.saying("it was not put in place"));
        }
        Ok(())
    }

    fn note_unmet_bottle(&mut self, manifest: &Manifest, need: &Need, bottle: &NeededBottle) {
        let record = manifest.bottle(&need.image, &bottle.digest);
        let key = ObjectKey::blob(&need.image, &bottle.digest);
        let is_expired = || self.expired.contains(&key);
        let why = match record.map(|record| &record.state) {
            Some(State::Held) if is_expired() => Some("it has expired"),
            Some(State::Held) => None,
            Some(State::Queued) => Some("it is on its way"),
            Some(State::Dead(_)) => Some("it was given up on"),
            None => Some("the manifest doesn't know it"),
        };
        if let Some(why) = why
            && !self.findings.is_wrong(&key)
        {
            let mut finding = Finding::new(Kind::NotHeld, Subject::Bottle, key).saying(why);
            finding.formula = manifest.images.get(&need.image).map(|image| image.formula.clone());
            finding.expected = Some(Content { size: None, sha256: Some(bottle.digest) });
            if let Some(record) = record {
                finding.image_tag = Some(record.image_tag.clone());
                finding.tags.clone_from(&record.tags);
            }
            finding.remedy = Some(match (record.map(|record| &record.state), &need.index) {
                (Some(State::Queued), _) => Remedy::None("it is on its way"),
                (Some(State::Dead(_)), _) => Remedy::None("`bottles dead-letters replay` tries again"),
                // The plan that reads the index queues what of it is not held.
                (_, Some(tag)) => reindex(&need.image, tag),
                (_, None) => Remedy::None("the next plan that finds a change queues it"),
            });
            self.findings.push(finding);
        }
        for flat in &bottle.flat {
            if self.sound_flat.get(flat) != Some(&bottle.digest) && !self.findings.is_wrong(flat) {
                let finding = Finding::new(Kind::NotHeld, Subject::FlatBottle, flat.clone());
                let from = ObjectKey::blob(&need.image, &bottle.digest);
                self.findings.push(finding.remedied_by(Remedy::Copy { from, to: flat.clone() }));
            }
        }
    }

    fn note_unmet_index(&mut self, need: &Need, bottles: &[&NeededBottle]) {
        let Some(tag) = &need.index else { return };
        let flat = need.flat_index.then(|| ObjectKey::flat_index(&need.image, tag)).flatten();
        for key in [Some(ObjectKey::index(&need.image, tag)), flat].into_iter().flatten() {
            if self.findings.is_wrong(&key) {
                continue;
            }
            let lacking = match self.names.get(&key) {
                None => Some("it is not in place".to_owned()),
                Some(names) => {
                    let lacking = bottles.iter().find(|bottle| !names.contains(&bottle.digest));
                    lacking.map(|bottle| format!("it does not name {}", bottle.digest))
                }
            };
            if let Some(why) = lacking {
                self.findings.push(indexes::unmet(&need.image, tag, key).saying(why));
            }
        }
    }

    /// Says of each finding who was told of it.
    pub(super) fn name_scopes(&mut self) {
        let published = std::mem::take(&mut self.published);
        for (scope, set) in &published {
            for key in set.files_of(scope).filter_map(|(path, _)| path.key().ok()) {
                self.findings.name_scope(&key, scope);
            }
            for (need, bottles) in needs_of(set, scope) {
                let blobs = bottles.iter().map(|bottle| ObjectKey::blob(&need.image, &bottle.digest));
                let flat = bottles.iter().flat_map(|bottle| bottle.flat.iter().cloned());
                let index = need.index.iter().map(|tag| ObjectKey::index(&need.image, tag));
                let flat_index = need.index.iter().filter(|_| need.flat_index);
                let flat_index = flat_index.filter_map(|tag| ObjectKey::flat_index(&need.image, tag));
                for key in blobs.chain(flat).chain(index).chain(flat_index) {
                    self.findings.name_scope(&key, scope);
                }
            }
        }
    }
}

/// What a set needs for one scope: images, each with its bottles.
pub(super) fn needs_of<'a>(
    set: &'a Set,
    scope: &'a Scope,
) -> impl Iterator<Item = (&'a Need, Vec<&'a NeededBottle>)> {
    let client = match scope {
        Scope::Client(tag) => set.clients.iter().position(|client| client == tag),
        Scope::AllClients | Scope::NoBottles => None,
    };
    let is_for = move |bottle: &NeededBottle| match scope {
        Scope::AllClients => true,
        Scope::NoBottles => false,
        Scope::Client(_) => bottle.clients.iter().any(|at| Some(usize::from(*at)) == client),
    };
    set.needs.iter().filter_map(move |need| {
        let bottles: Vec<_> = need.bottles.iter().filter(|bottle| is_for(bottle)).collect();
        (!bottles.is_empty()).then_some((need, bottles))
    })
}

/// Whether a file names bottles, and its scope reads no set that says which.
pub(super) fn is_of_no_set(publication: &Publication, path: &ApiPath) -> bool {
    let scope = path.scope();
    scope != Scope::NoBottles && !publication.published.contains_key(&scope)
}

/// An API file in place of which nobody knows what it needs.
pub(super) fn of_no_set(key: ObjectKey, sha256: Digest) -> Finding {
    let mut finding = Finding::new(Kind::OfNoSet, Subject::ApiFile, key);
    finding.found = Some(Content { size: None, sha256: Some(sha256) });
    finding.remedied_by(Remedy::None("the next plan, or bundle, has it published anew"))
}

/// A key's path below `api/`.
pub(super) fn api_path(key: &ObjectKey) -> Result<ApiPath, StoreError> {
    key.as_str().strip_prefix("api/").unwrap_or_default().parse().map_err(StoreError::from)
}
