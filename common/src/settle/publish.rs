//! Publishes API files: after the bottles and indexes that they name.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use bytes::Bytes;
use jiff::Timestamp;

use crate::bottle::{BottleTag, Digest};
use crate::manifest::Manifest;
use crate::publication::{
    ApiFile, ApiPath, PublishReport, Published, Scope, Set, SetError, Staged, Waiting, file_key,
};
use crate::run::RunId;
use crate::store::{Body, Condition, Object, Store, StoreError};

use super::waits::{look, of_waiting};
use super::{SettleError, flat};

/// Publishes what is complete, scope by scope: of the sets that a scope waits for,
/// the newest that it may have. `is_busy` is whether bottles came. Beside the report, how
/// many copies under flat names were made.
pub(super) async fn publish(
    store: &dyn Store,
    manifest: &mut Manifest,
    is_busy: bool,
    at: Timestamp,
) -> Result<(PublishReport, usize), SettleError> {
    let mut report = PublishReport::default();
    let mut copied = 0;
    // Flat names that newer sets have given away.
    let mut named = HashSet::new();
    let staged = manifest.publication.staged.clone();
    for (age, staged) in staged.iter().rev().enumerate() {
        let is_awaited = |scope: &Scope| manifest.publication.awaits(scope, &staged.run);
        if !staged.scopes.iter().any(is_awaited) {
            continue;
        }
        let Some(set) = load(store, manifest, staged).await? else { continue };
        copied += flat::copy(store, manifest, &set, &staged.despite_dead, &mut named).await?;
        let waiting = look(manifest, &set);
        let ready = ready(&set, &waiting, staged);
        if manifest.publication.held_since.is_none() {
            for scope in staged.scopes.iter().filter(|scope| is_ready(scope, &ready)) {
                if manifest.publication.awaits(scope, &staged.run)
                    && write(store, manifest, &set, scope, at).await?
                {
                    report.published.push(scope.clone());
                }
            }
        }
        if age == 0 {
            report.waiting = of_waiting(manifest, staged, waiting);
        }
    }
    if is_busy {
        // Bottles that were lost and came again have lost their names too.
        let published = manifest.publication.published.values();
        let runs: BTreeSet<RunId> = published.map(|published| published.run.clone()).collect();
        for run in runs.iter().rev() {
            if let Some(set) = load_if_whole(store, run).await? {
                let all = set.clients.iter().cloned().collect();
                copied += flat::copy(store, manifest, &set, &all, &mut named).await?;
            }
        }
    }
    manifest.publication.forget_published();
    Ok((report, copied))
}

/// Writes files of the sets in place again that are damaged or gone.
pub(super) async fn republish(
    store: &dyn Store,
    manifest: &mut Manifest,
    paths: &[ApiPath],
) -> Result<(), SettleError> {
    let mut by_run: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for path in paths {
        // Whatever becomes of it, what is in place is not what it was.
        manifest.publication.files.remove(path);
        match manifest.publication.published.get(&path.scope()) {
            Some(published) => by_run.entry(published.run.clone()).or_default().push(path),
            // Nobody knows what it should be: the next plan stages it.
            None => manifest.undo_plan(),
        }
    }
    for (run, paths) in by_run {
        let Some(set) = load_if_whole(store, &run).await? else { continue };
        for path in paths {
            let Some(file) = set.files.get(path) else { continue };
            if !put(store, manifest, path, file).await? {
                tracing::error!(file = %path, set = %run, "a staged API file is gone: the next plan stages it anew");
                manifest.undo_plan();
            }
        }
    }
    Ok(())
}

/// Gives clients, `but` for some scopes, what they read before.
pub(super) async fn roll_back(
    store: &dyn Store,
    manifest: &mut Manifest,
    clients: &[BottleTag],
    but: &BTreeSet<Scope>,
    at: Timestamp,
) -> Result<Vec<Scope>, SettleError> {
    let is_meant = |scope: &Scope| match scope {
        Scope::Client(tag) => clients.is_empty() || clients.contains(tag),
        Scope::AllClients | Scope::NoBottles => clients.is_empty(),
    };
    let scopes = manifest.publication.previous.keys();
    let scopes: Vec<Scope> =
        scopes.filter(|scope| is_meant(scope) && !but.contains(scope)).cloned().collect();
    let mut done = Vec::new();
    for scope in scopes {
        let Some(previous) = manifest.publication.previous.get(&scope).cloned() else { continue };
        // It is back already: what it read before is what was taken back.
        let reads = manifest.publication.published.get(&scope);
        if reads.is_some_and(|now| now.run < previous.run) {
            continue;
        }
        let Some(set) = load_if_whole(store, &previous.run).await? else { continue };
        if !is_named(manifest, &set, &scope) {
            tracing::error!(%scope, set = %set.run, "not rolled back: image indexes in place name bottles no more that clients would be told of");
            continue;
        }
        if write(store, manifest, &set, &scope, at).await? {
            done.push(scope);
        }
    }
    Ok(done)
}

/// Whether who reads a scope would find the bottles of a set in the image indexes.
fn is_named(manifest: &Manifest, set: &Set, scope: &Scope) -> bool {
    look(manifest, set).iter().all(|one| match scope {
        Scope::Client(client) if one.client != *client => true,
        Scope::NoBottles => true,
        Scope::Client(_) | Scope::AllClients => one.unnamed == 0,
    })
}

/// A set that was published, unless it is gone or damaged: an order that needs it can't
/// be carried out, and must not keep every other from being.
pub(super) async fn load_if_whole(store: &dyn Store, run: &RunId) -> Result<Option<Set>, SettleError> {
    let set = read(store, run).await?;
    Ok(set
        .inspect_err(|why| {
            tracing::error!(set = %run, why, "a published set can't be used: what it was asked for stays undone");
        })
        .ok())
}

/// A set, or what is wrong with it.
async fn read(store: &dyn Store, run: &RunId) -> Result<Result<Set, String>, SettleError> {
    match Set::load(store, run).await {
        Ok(set) => Ok(set.ok_or_else(|| "it is gone".to_owned())),
        Err(SetError::Store(error)) => Err(error.into()),
        Err(error) => Ok(Err(error.to_string())),
    }
}

async fn load(
    store: &dyn Store,
    manifest: &mut Manifest,
    staged: &Staged,
) -> Result<Option<Set>, SettleError> {
    let why = match read(store, &staged.run).await? {
        Ok(set) => return Ok(Some(set)),
        Err(why) => why,
    };
    tracing::error!(set = %staged.run, why, "a staged set can't be used: the next plan stages another");
    manifest.publication.staged.retain(|other| other.run != staged.run);
    manifest.undo_plan();
    Ok(None)
}

/// The clients that may have a set's files, and whether all of them may.
fn ready(set: &Set, waiting: &[Waiting], staged: &Staged) -> (Vec<BottleTag>, bool) {
    let over = waiting.iter().filter(|one| one.is_over(staged.despite_dead.contains(&one.client)));
    let clients: Vec<BottleTag> = over.map(|one| one.client.clone()).collect();
    let all = clients.len() == set.clients.len();
    (clients, all)
}

fn is_ready(scope: &Scope, (clients, all): &(Vec<BottleTag>, bool)) -> bool {
    match scope {
        Scope::Client(client) => clients.contains(client),
        Scope::AllClients => *all,
        // What names no bottle goes along with the first that does.
        Scope::NoBottles => *all || !clients.is_empty(),
    }
}

/// Writes one scope's files, and takes note of what they replace. `false` if one of
/// them is gone: then none is written, and the next plan stages them anew.
async fn write(
    store: &dyn Store,
    manifest: &mut Manifest,
    set: &Set,
    scope: &Scope,
    at: Timestamp,
) -> Result<bool, SettleError> {
    for (path, file) in set.files_of(scope) {
        if whole(store, file).await?.is_none() {
            tracing::error!(file = %path, set = %set.run, "a staged API file is gone: the next plan stages it anew");
            manifest.publication.staged.retain(|staged| staged.run != set.run);
            manifest.undo_plan();
            return Ok(false);
        }
    }
    let files = &manifest.publication.files;
    let is_news = set.files_of(scope).any(|(path, file)| files.get(path) != Some(&file.sha256));
    for (path, file) in set.files_of(scope) {
        if !put(store, manifest, path, file).await? {
            return Ok(false);
        }
    }
    let publication = &mut manifest.publication;
    let now = Published { run: set.run.clone(), at };
    // Where the files are the same, a rollback would change nothing.
    if let Some(before) = publication.published.insert(scope.clone(), now)
        && is_news
    {
        publication.previous.insert(scope.clone(), before);
    }
    tracing::info!(%scope, set = %set.run, "published");
    Ok(true)
}

/// A file as it was staged, to the byte. One that is damaged is removed, so that no plan
/// takes it for what upstream still has.
async fn whole(store: &dyn Store, file: &ApiFile) -> Result<Option<Bytes>, StoreError> {
    let key = file_key(&file.sha256)?;
    let Some(Object { body, .. }) = store.get(&key).await? else { return Ok(None) };
    if Digest::of(&body) == file.sha256 {
        return Ok(Some(body));
    }
    tracing::error!(object.key = %key, "a staged API file is damaged: removing it");
    store.delete(&[key]).await?;
    Ok(None)
}

/// Writes a file, unless it is there: S3 tells a file's age by its last write. `false` if
/// there is none to write.
async fn put(
    store: &dyn Store,
    manifest: &mut Manifest,
    path: &ApiPath,
    file: &ApiFile,
) -> Result<bool, StoreError> {
    if manifest.publication.files.get(path) == Some(&file.sha256) {
        return Ok(true);
    }
    let Some(bytes) = whole(store, file).await? else { return Ok(false) };
    let body = match file.modified {
        Some(modified) => Body::Dated(bytes, modified),
        None => bytes.into(),
    };
    let key = path.key().map_err(StoreError::from)?;
    store.put(&key, body, Condition::Always).await?;
    manifest.publication.files.insert(path.clone(), file.sha256);
    Ok(true)
}
