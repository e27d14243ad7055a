//! Settle's part: tags what is dropped, and forgets what has expired.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::time::Duration;

use futures_util::{FutureExt, StreamExt, TryStreamExt, stream};
use jiff::Timestamp;
use serde::Serialize;

use crate::bottle::{BottleTag, Digest, FormulaName, ImagePath, ObjectKey};
use crate::clock;
use crate::manifest::{Manifest, State};
use crate::publication::{NeededBottle, Publication, Scope, Set, SetError};
use crate::run::RunId;
use crate::store::{Store, StoreError, superseded_tags};

/// A bottle that is, or would be, tagged as superseded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Retired {
    /// Its image.
    pub image: ImagePath,
    /// The formula.
    pub formula: FormulaName,
    /// Its digest.
    pub digest: Digest,
    /// Its bottle tags.
    pub tags: Vec<BottleTag>,
    /// Its size in bytes.
    pub size: u64,
    /// Since when upstream doesn't list it.
    pub dropped_at: Option<Timestamp>,
    /// Since when it is tagged; `None` if it isn't yet.
    pub superseded_at: Option<Timestamp>,
    /// When it expires, if nothing changes.
    pub expires_at: Timestamp,
}

/// What is to be retired, and what is in the way.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Outlook {
    /// What would be tagged now.
    pub now: Vec<Retired>,
    /// What is tagged, and expires.
    pub superseded: Vec<Retired>,
    /// Dropped by upstream, but named by API files that are published or were
    /// published before.
    pub still_named: u64,
    /// Why nothing is tagged now, where something is in the way.
    pub blocked: Option<Blocked>,
}

/// Why nothing is retired now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, thiserror::Error)]
#[serde(rename_all = "kebab-case")]
pub enum Blocked {
    /// Nothing was published: nobody knows what clients need.
    #[error("no API files were published yet")]
    NothingPublished,
    /// Newer files wait for their bottles.
    #[error("newer API files wait for their bottles")]
    Waiting,
    /// An operator rolled back.
    #[error("publishing is held back by a rollback")]
    HeldBack,
    /// It would be a large part of the mirror.
    #[error(
        "upstream dropped {bottles} of the {held} bottles at once: look whether that can be, and then \
         `bottles retire --at-most {bottles}`"
    )]
    TooMany {
        /// Bottles that would be tagged.
        bottles: u64,
        /// Bottles that the mirror holds.
        held: u64,
    },
}

/// How many bottles are tagged in one settle; the next one goes on.
const MOST: usize = 1000;

/// Objects are written anew so many at once.
const AT_ONCE: usize = 8;

/// S3's rules are run once a day, and take their time.
const RULE_TAKES: Duration = Duration::from_hours(48);

/// More than one bottle in four at once, and more than this many, is taken for a
/// mistake.
const FEW: u64 = 100;
const ONE_IN: u64 = 4;

/// What is to be retired at `now`, with up to `at_most` bottles allowed by an operator.
pub async fn outlook(
    store: &dyn Store,
    manifest: &Manifest,
    at_most: Option<u64>,
    now: Timestamp,
    grace: Duration,
) -> Result<Outlook, SetError> {
    let mut outlook = Outlook::default();
    let mut dropped = Vec::new();
    let mut held = 0;
    for (path, image) in &manifest.images {
        for (digest, record) in image.bottles.iter().filter(|(_, record)| record.state == State::Held) {
            held += 1;
            let retired = || Retired {
                image: path.clone(),
                formula: image.formula.clone(),
                digest: *digest,
                tags: record.tags.clone(),
                size: record.size,
                dropped_at: record.dropped_at,
                superseded_at: record.superseded_at,
                expires_at: clock::after(record.superseded_at.unwrap_or(now), grace),
            };
            match (record.superseded_at, record.dropped_at) {
                (Some(_), _) => outlook.superseded.push(retired()),
                (None, Some(_)) => dropped.push(retired()),
                (None, None) => {}
            }
        }
    }
    if dropped.is_empty() {
        return Ok(outlook);
    }
    let publication = &manifest.publication;
    if publication.published.is_empty() {
        outlook.blocked = Some(Blocked::NothingPublished);
    } else if publication.held_since.is_some() {
        outlook.blocked = Some(Blocked::HeldBack);
    } else if !publication.staged.is_empty() {
        outlook.blocked = Some(Blocked::Waiting);
    }
    let named = named(store, manifest).await?;
    let before = dropped.len();
    dropped.retain(|one| !named.contains(&(one.image.clone(), one.digest)));
    outlook.still_named = (before - dropped.len()) as u64;
    let bottles = dropped.len() as u64;
    if outlook.blocked.is_none()
        && bottles > FEW.max(held / ONE_IN)
        && at_most.is_none_or(|most| bottles > most)
    {
        outlook.blocked = Some(Blocked::TooMany { bottles, held });
    }
    outlook.now = dropped;
    Ok(outlook)
}

/// Every bottle that API files name which clients read, or would after a rollback.
async fn named(store: &dyn Store, manifest: &Manifest) -> Result<HashSet<(ImagePath, Digest)>, SetError> {
    let Publication { staged, published, previous, .. } = &manifest.publication;
    let mut scopes: BTreeMap<&RunId, BTreeSet<&Scope>> = BTreeMap::new();
    for (scope, published) in published.iter().chain(previous) {
        scopes.entry(&published.run).or_default().insert(scope);
    }
    for staged in staged {
        scopes.entry(&staged.run).or_default().extend(&staged.scopes);
    }
    let mut named = HashSet::new();
    for (run, scopes) in scopes {
        let Some(set) = Set::load(store, run).await? else { continue };
        // A client that has no file reads nothing of it.
        let scopes: Vec<&Scope> =
            scopes.into_iter().filter(|scope| set.files_of(scope).next().is_some()).collect();
        let is_named = |bottle: &NeededBottle| {
            scopes.iter().any(|scope| match scope {
                Scope::AllClients => true,
                Scope::NoBottles => false,
                Scope::Client(tag) => {
                    bottle.clients.iter().any(|client| set.clients.get(usize::from(*client)) == Some(tag))
                }
            })
        };
        for need in &set.needs {
            let bottles = need.bottles.iter().filter(|bottle| is_named(bottle));
            named.extend(bottles.map(|bottle| (need.image.clone(), bottle.digest)));
        }
    }
    Ok(named)
}

/// Tags what an outlook says, and takes note of it in the manifest; how many bottles.
pub async fn retire(
    store: &dyn Store,
    manifest: &mut Manifest,
    outlook: &Outlook,
    now: Timestamp,
) -> Result<u64, StoreError> {
    if let Some(blocked) = &outlook.blocked {
        if matches!(blocked, Blocked::TooMany { .. }) {
            tracing::error!(why = %blocked, "nothing is retired");
        }
        return Ok(0);
    }
    let writes = outlook.now.iter().take(MOST).map(|one| {
        let flat = manifest.bottle(&one.image, &one.digest).map(|record| record.flat.clone());
        tag(store, one, flat.unwrap_or_default(), now).boxed()
    });
    let writes: Vec<_> = writes.collect();
    let outcomes: Vec<_> = stream::iter(writes).buffer_unordered(AT_ONCE).try_collect().await?;
    let mut count = 0;
    for (one, outcome) in outcomes {
        let Some(image) = manifest.images.get_mut(&one.image) else { continue };
        match outcome {
            Tagged::Now => {
                count += 1;
                if let Some(record) = image.bottles.get_mut(&one.digest) {
                    record.superseded_at = Some(now);
                }
            }
            Tagged::Gone => {
                image.bottles.remove(&one.digest);
            }
            Tagged::Kept => {}
        }
    }
    Ok(count)
}

enum Tagged {
    Now,
    Gone,
    /// It can't be written anew: it stays for good.
    Kept,
}

async fn tag<'a>(
    store: &dyn Store,
    one: &'a Retired,
    flat: Vec<ObjectKey>,
    now: Timestamp,
) -> Result<(&'a Retired, Tagged), StoreError> {
    let tags = superseded_tags(now);
    for key in &flat {
        match store.retag(key, &tags).await {
            Ok(_) => {}
            Err(error @ (StoreError::Refused { .. } | StoreError::Failed { transient: false, .. })) => {
                tracing::warn!(object.key = %key, %error, "its flat name is not tagged: it stays");
            }
            Err(error) => return Err(error),
        }
    }
    match store.retag(&ObjectKey::blob(&one.image, &one.digest), &tags).await {
        Ok(true) => Ok((one, Tagged::Now)),
        Ok(false) => Ok((one, Tagged::Gone)),
        Err(StoreError::Refused { key, why }) => {
            tracing::warn!(object.key = key, why, "not retired");
            Ok((one, Tagged::Kept))
        }
        Err(error) => Err(error),
    }
}

/// Removes what is tagged for longer than `grace`, where the store leaves that to us,
/// and forgets what is gone; how many bottles are.
pub async fn expire(
    store: &dyn Store,
    manifest: &mut Manifest,
    now: Timestamp,
    grace: Duration,
) -> Result<u64, StoreError> {
    let before = now.checked_sub(grace).unwrap_or(Timestamp::MIN);
    let mut over = superseded_before(manifest, before);
    over.truncate(MOST);
    let key = |(path, digest, _): &Superseded| ObjectKey::blob(path, digest);
    let keys: Vec<ObjectKey> = over.iter().flat_map(|one| one.2.iter().cloned().chain([key(one)])).collect();
    if keys.is_empty() {
        return Ok(0);
    }
    if !store.expire(&keys, before).await? {
        // Asked once each, when a rule has had its time.
        let before = before.checked_sub(RULE_TAKES).unwrap_or(Timestamp::MIN);
        let old: HashSet<Digest> = superseded_before(manifest, before).into_iter().map(|one| one.1).collect();
        over.retain(|one| old.contains(&one.1));
    }
    let looks: Vec<_> = over.iter().map(|one| look(store, key(one)).boxed()).collect();
    let there: Vec<bool> = stream::iter(looks).buffered(AT_ONCE).try_collect().await?;
    let mut gone = 0;
    for ((path, digest, _), is_there) in over.iter().zip(there) {
        if !is_there && let Some(image) = manifest.images.get_mut(path) {
            image.bottles.remove(digest);
            gone += 1;
        }
    }
    Ok(gone)
}

/// A bottle, and its flat names.
type Superseded = (ImagePath, Digest, Vec<ObjectKey>);

fn superseded_before(manifest: &Manifest, before: Timestamp) -> Vec<Superseded> {
    let mut found = Vec::new();
    for (path, image) in &manifest.images {
        let superseded =
            image.bottles.iter().filter(|(_, record)| record.superseded_at.is_some_and(|at| at <= before));
        found.extend(superseded.map(|(digest, record)| (path.clone(), *digest, record.flat.clone())));
    }
    found
}

async fn look(store: &dyn Store, key: ObjectKey) -> Result<bool, StoreError> {
    Ok(store.head(&key).await?.is_some())
}
