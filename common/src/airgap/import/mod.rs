//! Import: a bundle, into the mirror behind the gap.
//!
//! Bottles become visible as they are verified; that they do is no news to clients,
//! whom nothing names them yet. Image indexes and API files wait in the system's own
//! part of the mirror until all of the bundle came. Then the manifest is changed, and
//! settle publishes as it does everywhere; last the record of imports moves on. Each
//! step may be repeated, so that an import that was killed is simply made again.

mod apply;
mod receive;
mod write;

use serde::Serialize;

use crate::bottle::ObjectKey;
use crate::manifest::{self, Manifest, State};
use crate::mirror::MemoryBudget;
use crate::run::{Count, RunId};
use crate::settle::Settler;
use crate::store::{Store, StoreError, Version};

use super::bundle::Header;
use super::state::{Applied, Imports};
use super::volumes::{self, Bundles, Found};
use super::{ImportError, Interval, MirrorId, Progress};

use apply::Change;
use receive::{Received, Receiver};

/// Imports bundles into a mirror.
pub struct Importer {
    /// The mirror, and what settles it.
    pub settler: Settler,
    /// How much of bottles may be in memory at once.
    pub memory: MemoryBudget,
    /// How far it is: bytes of the bundle's files.
    pub progress: Progress,
    /// Whether a bundle that was imported before is gone through once more, for
    /// bottles that are not held any longer.
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
    /// Bottles that this mirror holds now.
    pub held: Count,
    /// Bottles that the other mirror held and this one doesn't, though an earlier
    /// bundle must have brought them.
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

/// What a bundle means to this mirror.
struct Admitted {
    imports: Imports,
    version: Version,
    /// Whether it goes beyond what the mirror has; else only what is missing is taken
    /// of it.
    is_newer: bool,
}

impl Importer {
    /// Applies bundles, earliest first.
    pub async fn import(&self, bundles: &Bundles) -> Result<Vec<Imported>, ImportError> {
        let mut imported = Vec::new();
        for found in bundles.all() {
            imported.push(self.import_one(found).await?);
        }
        Ok(imported)
    }

    async fn import_one(&self, found: &Found) -> Result<Imported, ImportError> {
        let Header { mirror, interval, created, .. } = found.header.clone();
        let Some(admitted) = self.admit(&found.header).await? else {
            return self.nothing_new(mirror, interval).await;
        };
        for volume in &found.volumes {
            self.progress.expect(std::fs::metadata(volume).map_or(0, |meta| meta.len()));
        }
        let run = run_of(&found.header)?;
        // What verify reported as lost must not be folded after what comes in its stead.
        self.settler.settle().await?;
        let (known, _) = manifest::load(self.store()).await?;
        let received = Receiver::new(self, &run, known).receive(found).await?;
        let change = Change { run, is_newer: admitted.is_newer, received };
        let (manifest, indexes) = self.publish(&change).await?;

        let Admitted { mut imports, version, .. } = admitted;
        let (at, bottles) = (self.settler.clock.now(), change.received.total());
        imports.note(Applied { interval, created, at, bottles });
        imports.save(self.store(), Some(&version)).await?;
        let missing = change.missing(&manifest);
        let Received { written: bottles, found, api_files, .. } = change.received;
        let base = report(mirror, interval, &manifest);
        Ok(Imported { outcome: Outcome::Applied, bottles, found, indexes, api_files, missing, ..base })
    }

    /// Whether a bundle may be applied; `None` if all of it was.
    async fn admit(&self, header: &Header) -> Result<Option<Admitted>, ImportError> {
        let interval = header.interval;
        let begin = Imports::begin(header.mirror.clone());
        let (imports, version) = match Imports::load(self.store()).await? {
            Some((imports, version)) if imports.until.is_some() => (imports, version),
            known => {
                interval.check_follows(None)?;
                let manifest: ObjectKey = manifest_key()?;
                if known.is_none() && self.store().head(&manifest).await?.is_some() {
                    return Err(ImportError::Synced);
                }
                // Said before anything is written: what is there from now on is from an import.
                let version = begin.save(self.store(), known.as_ref().map(|(_, version)| version)).await?;
                (begin, version)
            }
        };
        if imports.mirror != header.mirror {
            let theirs = header.mirror.clone();
            return Err(ImportError::OtherMirror { theirs, ours: imports.mirror });
        }
        interval.check_follows(imports.until)?;
        let is_newer = imports.until.is_none_or(|have| interval.until > have);
        Ok((is_newer || self.again).then_some(Admitted { imports, version, is_newer }))
    }

    async fn nothing_new(&self, mirror: MirrorId, interval: Interval) -> Result<Imported, ImportError> {
        let (manifest, _) = manifest::load(self.store()).await?;
        Ok(report(mirror, interval, &manifest))
    }

    fn store(&self) -> &dyn Store {
        &*self.settler.store
    }

    /// Whether what lies under a bottle's key is taken for the bottle if it has its
    /// size. What was found to be missing or damaged since is brought anew.
    fn trusts(&self, state: Option<&manifest::BottleRecord>) -> bool {
        match state {
            Some(record) if record.state == State::Held => true,
            Some(record) => record.missing_at.is_none() && !self.again,
            None => !self.again,
        }
    }
}

/// What is said of a bundle that changed nothing.
fn report(mirror: MirrorId, interval: Interval, manifest: &Manifest) -> Imported {
    let indexes = manifest.images.values().flat_map(|image| image.indexes.values());
    Imported {
        mirror,
        interval,
        outcome: Outcome::NothingNew,
        bottles: Count::default(),
        found: Count::default(),
        indexes: 0,
        indexes_waiting: indexes.filter(|index| index.staged.is_some()).count(),
        api_files: 0,
        held: manifest.tally(None).held,
        missing: Count::default(),
    }
}

/// A bundle's run on this mirror. Its name follows from the bundle: an import that is
/// made again writes over what the one before it left.
fn run_of(header: &Header) -> Result<RunId, ImportError> {
    let mirror = &header.mirror.as_str()[..4];
    let name = format!("{}-{mirror}", volumes::stamp(header.interval.until));
    Ok(name.parse().map_err(StoreError::from)?)
}

fn manifest_key() -> Result<ObjectKey, ImportError> {
    Ok(manifest::KEY.parse().map_err(StoreError::from)?)
}
