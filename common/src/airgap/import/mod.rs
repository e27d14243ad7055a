//! Import: a bundle, into the mirror behind the gap.
//!
//! Bottles become visible as they are verified; that they do is no news to clients,
//! whom nothing names them yet. Image indexes and API files wait in the system's own
//! part of the mirror until all of the bundle came. Then the manifest is changed, and
//! settle publishes as it does everywhere; last the record of imports moves on. Each
//! step may be repeated, so that an import that was killed is simply made again.

mod admit;
mod apply;
mod receive;
mod write;

use jiff::Timestamp;
use serde::Serialize;

use crate::bottle::Digest;
use crate::manifest::{self, Image, Manifest, State};
use crate::mirror::MemoryBudget;
use crate::publication::{PublishReport, Waiting};
use crate::run::{Count, RunId};
use crate::settle::{self, Settler};
use crate::store::{Store, StoreError};

use super::bundle::Header;
use super::state::{Applied, Imports};
use super::volumes::{self, Bundles, Found};
use super::{ImportError, Interval, MirrorId, Progress, chain};

use apply::{Change, Missing};
use receive::{Received, Receiver};

/// Imports bundles into a mirror.
pub struct Importer {
    /// The mirror, and what settles it.
    pub settler: Settler,
    /// How much of bottles may be in memory at once.
    pub memory: MemoryBudget,
    /// How far it is: bytes of the bundle's files.
    pub progress: Progress,
    /// Whether bundles that were imported before are gone through once more, for bottles
    /// and indexes that are not there any longer.
    pub again: bool,
}

/// What became of a bundle.
#[derive(Debug, Clone, Serialize)]
pub struct Imported {
    /// The mirror that it comes from.
    pub mirror: MirrorId,
    /// What it covers.
    #[serde(flatten)]
    pub interval: Interval,
    /// What became of it.
    pub outcome: Outcome,
    /// Bottles that it brought.
    pub bottles: Count,
    /// Bottles in it that were there.
    pub found: Count,
    /// Image indexes that were put in place.
    pub indexes: usize,
    /// Image indexes that wait for bottles.
    pub indexes_waiting: usize,
    /// API files in it.
    pub api_files: u64,
    /// What was published with it, and which clients' files wait after it.
    pub publication: PublishReport,
    /// Since when a rollback, made here, holds publishing back.
    pub held_since: Option<Timestamp>,
    /// Up to where this mirror has what is new in the other one: there the next bundle
    /// begins.
    pub mirror_until: Option<Timestamp>,
    /// Bottles that this mirror holds now.
    pub held: Count,
    /// Bottles that the other mirror held and this one doesn't, after all of the
    /// bundles, though an earlier one must have brought them.
    pub missing: Count,
}

/// What became of a bundle.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// It was applied.
    Applied,
    /// The mirror had all of it.
    NothingNew,
}

impl Importer {
    /// Applies bundles: those that are new to the mirror, earliest first, as they follow
    /// on each other. Whether they do is found out before anything is changed.
    pub async fn import(&self, bundles: &Bundles) -> Result<Vec<Imported>, ImportError> {
        let known = self.known().await?;
        let chain = bundles.chain(known.as_ref(), self.again).await?;
        let (mut imported, mut missing) = (Vec::new(), Vec::new());
        for (position, found) in chain.iter().enumerate() {
            match self.import_one(found).await {
                Ok((one, lacks)) => {
                    imported.push(one);
                    missing.push(lacks);
                }
                // Only now is it known that its last volume is not the last.
                Err(ImportError::MissingVolume(volume))
                    if chain[position + 1..].iter().any(|later| found.is_within(later)) =>
                {
                    chain::pass_over(&volume);
                }
                Err(error) => return Err(error),
            }
        }
        // What one of them lacked another may have brought.
        if missing.iter().any(|missing| !missing.is_empty()) {
            let (manifest, _) = manifest::load(self.store()).await?;
            for (imported, missing) in imported.iter_mut().zip(&missing) {
                imported.missing = apply::still_missing(missing, &manifest);
            }
        }
        Ok(imported)
    }

    async fn import_one(&self, found: &Found) -> Result<(Imported, Vec<Missing>), ImportError> {
        let Header { mirror, interval, created, .. } = found.header.clone();
        let Some(admitted) = self.admit(&found.header).await? else {
            let until = self.known().await?.and_then(|imports| imports.until);
            let (manifest, _) = manifest::load(self.store()).await?;
            return Ok((self.report(mirror, interval, until, manifest).await?, Vec::new()));
        };
        for volume in &found.volumes {
            self.progress.expect(std::fs::metadata(volume).map_or(0, |meta| meta.len()));
        }
        let run = run_of(&found.header)?;
        // What verify reported as lost must not be folded after what comes in its stead.
        self.settler.settle().await?;
        let (known, _) = manifest::load(self.store()).await?;
        let received = Receiver::new(self, &run, known).receive(found).await?;
        let change = Change { run, until: interval.until, have: admitted.imports.until, received };
        let settled = match self.publish(&change).await {
            Err(ImportError::Synced) => {
                Imports::remove(self.store()).await?;
                return Err(ImportError::Synced);
            }
            settled => settled?,
        };
        let (at, bottles) = (self.settler.clock.now(), change.received.total());
        let imports = self.conclude(admitted, Applied { interval, created, at, bottles }).await?;
        let missing = change.missing(&settled.manifest);
        let base = self.report(mirror, interval, imports.until, settled.manifest).await?;
        let publication =
            PublishReport { published: settled.report.publication.published, ..base.publication };
        let Received { written: bottles, found, api_files, .. } = change.received;
        let (outcome, indexes) = (Outcome::Applied, settled.report.indexes);
        Ok((Imported { outcome, bottles, found, indexes, api_files, publication, ..base }, missing))
    }

    /// What is said of a bundle that changed nothing, and of the mirror after each.
    async fn report(
        &self,
        mirror: MirrorId,
        interval: Interval,
        mirror_until: Option<Timestamp>,
        manifest: Manifest,
    ) -> Result<Imported, ImportError> {
        let indexes = manifest.images.values().flat_map(|image| image.indexes.values());
        Ok(Imported {
            mirror,
            interval,
            outcome: Outcome::NothingNew,
            bottles: Count::default(),
            found: Count::default(),
            indexes: 0,
            indexes_waiting: indexes.filter(|index| index.staged.is_some()).count(),
            api_files: 0,
            held_since: manifest.publication.held_since,
            mirror_until,
            held: manifest.tally(None).held,
            missing: Count::default(),
            publication: PublishReport { published: Vec::new(), waiting: self.waiting(manifest).await? },
        })
    }

    /// The clients whose newest files wait. Unlike those of plans, sets that came in
    /// bundles are for some clients each: all of them are looked at.
    async fn waiting(&self, mut manifest: Manifest) -> Result<Vec<Waiting>, ImportError> {
        let mut found: Vec<Waiting> = Vec::new();
        for staged in std::mem::take(&mut manifest.publication.staged).into_iter().rev() {
            manifest.publication.staged = vec![staged];
            for waiting in settle::waiting(self.store(), &manifest).await? {
                if found.iter().all(|other| other.client != waiting.client) {
                    found.push(waiting);
                }
            }
        }
        found.sort_by(|a, b| a.client.cmp(&b.client));
        Ok(found)
    }

    fn store(&self) -> &dyn Store {
        &*self.settler.store
    }

    /// Whether what lies under a bottle's key is taken for the bottle if it has its
    /// size. What was found to be missing or damaged since is brought anew.
    fn trusts(&self, image: Option<&Image>, digest: &Digest) -> bool {
        if image.is_some_and(|image| image.damaged.contains(digest)) {
            return false;
        }
        match image.and_then(|image| image.bottles.get(digest)) {
            Some(record) if record.state == State::Held => true,
            Some(record) => record.missing_at.is_none() && !self.again,
            None => !self.again,
        }
    }
}

/// A bundle's run on this mirror. Its name follows from the bundle: an import that is
/// made again writes over what the one before it left.
fn run_of(header: &Header) -> Result<RunId, ImportError> {
    let mirror = &header.mirror.as_str()[..4];
    let name = format!("{}-{mirror}", volumes::stamp(header.interval.until));
    Ok(name.parse().map_err(StoreError::from)?)
}
