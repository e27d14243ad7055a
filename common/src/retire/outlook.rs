//! What is to be retired, and what is in the way.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;

use crate::bottle::{BottleTag, Digest, FormulaName, ImagePath};
use crate::clock;
use crate::manifest::{Manifest, State};
use crate::publication::{NeededBottle, Publication, Scope, Set, SetError};
use crate::run::RunId;
use crate::store::{LARGEST_COPY, Store, StoreError};

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
    /// Nobody can say what a set names that clients read, or would after a rollback.
    #[error("the set {run} can't be read: {why}; two more publications, and it is needed no longer")]
    UnreadableSet {
        /// The run that staged it.
        run: RunId,
        /// What is wrong with it.
        why: String,
    },
    /// It would be a large part of the mirror.
    #[error("upstream dropped {bottles} of the {held} bottles at once: look whether that can be")]
    TooMany {
        /// Bottles that would be tagged.
        bottles: u64,
        /// Bottles that the mirror holds.
        held: u64,
    },
}

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
) -> Result<Outlook, StoreError> {
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
                (Some(_), Some(_)) => outlook.superseded.push(retired()),
                // S3 writes no larger one anew, and would expire it by its age.
                (None, Some(_)) if record.size <= LARGEST_COPY => dropped.push(retired()),
                (_, None) | (None, Some(_)) => {}
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
    let named = match named(store, manifest).await {
        Ok(named) => named,
        Err(Unknown::Set(run, why)) => {
            outlook.blocked = Some(Blocked::UnreadableSet { run, why });
            return Ok(outlook);
        }
        Err(Unknown::Store(error)) => return Err(error),
    };
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

/// Why it can't be said what is named.
enum Unknown {
    /// A set is gone or damaged.
    Set(RunId, String),
    Store(StoreError),
}

/// Every bottle that API files name which clients read, or would after a rollback.
async fn named(store: &dyn Store, manifest: &Manifest) -> Result<HashSet<(ImagePath, Digest)>, Unknown> {
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
        let set = match Set::load(store, run).await {
            Ok(Some(set)) => set,
            Ok(None) => return Err(Unknown::Set(run.clone(), "it is gone".to_owned())),
            Err(SetError::Store(error)) => return Err(Unknown::Store(error)),
            Err(error @ SetError::Damaged { .. }) => {
                return Err(Unknown::Set(run.clone(), error.to_string()));
            }
        };
        // A client that has no file reads nothing of it.
        let scopes: Vec<&Scope> =
            scopes.into_iter().filter(|scope| set.files_of(scope).next().is_some()).collect();
        let is_named = |bottle: &NeededBottle| scopes.iter().any(|scope| set.tells(scope, bottle));
        for need in &set.needs {
            let bottles = need.bottles.iter().filter(|bottle| is_named(bottle));
            named.extend(bottles.map(|bottle| (need.image.clone(), bottle.digest)));
        }
    }
    Ok(named)
}

/// Takes note, in the manifest, of what an outlook says; of how many bottles. The tags
/// follow.
pub fn supersede(manifest: &mut Manifest, outlook: &Outlook, now: Timestamp) -> u64 {
    match &outlook.blocked {
        None => {}
        Some(blocked @ (Blocked::TooMany { .. } | Blocked::UnreadableSet { .. })) => {
            tracing::error!(why = %blocked, "nothing is retired");
            return 0;
        }
        Some(_) => return 0,
    }
    let mut count = 0;
    for one in &outlook.now {
        let image = manifest.images.get_mut(&one.image);
        if let Some(record) = image.and_then(|image| image.bottles.get_mut(&one.digest)) {
            record.superseded_at = Some(now);
            record.is_tagged = false;
            count += 1;
        }
    }
    count
}
