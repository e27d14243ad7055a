//! Verify: what is there, against what the manifest says and clients are told.
//!
//! A look ([`Verifier::verify`]) lists the mirror once, compares sizes, reads every
//! image index and API file, and hashes bottles where that is asked for. What it
//! finds can be repaired ([`Verifier::repair`]): damaged and missing bottles are
//! queued, the rest is ordered from the producer, who alone writes the manifest and
//! what clients read. A manifest that is lost is made anew ([`Verifier::rebuild`]).
//! Nothing is ever removed.

mod checksum;
mod finding;
mod indexes;
mod listing;
mod look;
mod naming;
mod published;
mod rebuild;
mod remains;
mod repair;
mod report;
mod restore;
mod sample;
mod staged;
mod waiting;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::bottle::ObjectKey;
use crate::clock::Clock;
use crate::manifest::{self, Manifest, ManifestError};
use crate::message::{Lane, Message};
use crate::queue::{Queue, QueueError};
use crate::retry::Policy;
use crate::run::RunId;
use crate::store::{Store, StoreError, Version};

use checksum::Unreadable;
use waiting::Waiting;

pub use finding::{Content, Finding, Kind, Repair, Subject};
pub use rebuild::{RebuildError, Rebuilt, Was};
pub use report::{Checked, Checksums, Objects, Repaired, Report, Waiting as WaitingCounts};
pub use sample::{InvalidSample, Sample};

/// Looks whether a mirror is sound.
pub struct Verifier {
    /// The mirror.
    pub store: Arc<dyn Store>,
    /// The work queue of each lane.
    pub queues: HashMap<Lane, Arc<dyn Queue>>,
    /// The time.
    pub clock: Clock,
    /// How to go about it.
    pub settings: VerifySettings,
    /// How a store that fails is asked again.
    pub retry: Policy,
    /// How far it is; others may look at it.
    pub progress: VerifyProgress,
    unreadable: Unreadable,
}

/// How to verify.
#[derive(Debug, Clone, Copy)]
pub struct VerifySettings {
    /// Of which bottles the bytes are compared.
    pub depth: Depth,
    /// Bottles larger than this, in bytes, go to the large queue.
    pub size_threshold: u64,
    /// How many objects are looked at at once.
    pub concurrency: usize,
    /// How many objects are listed at once: a folder is walked through once for each.
    pub page: usize,
    /// Whether what is lost can be fetched: bundles feed a mirror behind an air gap, and
    /// no plan.
    pub is_fed_by_plans: bool,
    /// What upstream dropped is kept for this long: until then its loss is one.
    pub expire_after: Duration,
}

/// So many objects are listed at once.
pub const PAGE: usize = 10_000;

/// Of which bottles the bytes are compared, and not only the sizes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Depth {
    /// Of none.
    Sizes,
    /// Of a random part, another one each time.
    Sample(Sample),
    /// Of all.
    Bytes,
}

/// How far a look is. Cheap to clone; all clones show the same.
#[derive(Debug, Clone, Default)]
pub struct VerifyProgress(Arc<[AtomicU64; 3]>);

/// What a look is at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Listing: how much there is isn't known before.
    Objects,
    /// Reading image indexes.
    Indexes,
    /// Hashing bottles.
    Bottles,
}

/// A look that could not be made.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// The manifest can't be used.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// A queue can't be used.
    #[error(transparent)]
    Queue(#[from] QueueError),
    /// The store can't be used.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What is known of the mirror: the manifest as it will be after the next settle.
struct Known {
    manifest: Manifest,
    /// `None` if there is no manifest.
    version: Option<Version>,
    waiting: Waiting,
}

/// What a settle or a plan changed in the middle of a look is looked at again, so
/// often in all.
const LOOKS: usize = 3;

impl Verifier {
    /// What looks at this mirror.
    pub fn new(
        store: Arc<dyn Store>,
        queues: HashMap<Lane, Arc<dyn Queue>>,
        clock: Clock,
        settings: VerifySettings,
        retry: Policy,
    ) -> Self {
        let (progress, unreadable) = Default::default();
        Self { store, queues, clock, settings, retry, progress, unreadable }
    }

    /// Looks at the whole mirror, and changes nothing.
    pub async fn verify(&self) -> Result<Report, VerifyError> {
        let at = self.clock.now();
        let run = RunId::new(at);
        let mut looks = 1;
        let (known, mut look) = loop {
            let known = self.known().await?;
            let look = self.look(&known, &run).await?;
            // Who is at work changes objects first and the manifest then.
            if look.findings.all.is_empty() || looks == LOOKS || self.version().await? == known.version {
                break (known, look);
            }
            tracing::info!("the manifest changed meanwhile: looking again");
            looks += 1;
        };
        let checksums = match self.settings.depth {
            Depth::Sizes => None,
            Depth::Sample(_) | Depth::Bytes => Some(self.checksums(&known.manifest, &run, &mut look).await?),
        };
        look.name_scopes();
        Ok(Report::of(at, known, look, checksums))
    }

    async fn known(&self) -> Result<Known, VerifyError> {
        // The receipts first, as in `manifest::load_folded`.
        let waiting = self.waiting().await?;
        let key = manifest_key()?;
        let object = self.patient(|| self.store.get(&key)).await?;
        let (mut manifest, version) = match object {
            Some(object) => (manifest::decode(&object.body)?, Some(object.version)),
            None => (Manifest::default(), None),
        };
        for entry in &waiting.entries {
            manifest.fold(entry);
        }
        Ok(Known { manifest, version, waiting })
    }

    async fn version(&self) -> Result<Option<Version>, VerifyError> {
        let key = manifest_key()?;
        let reading = self.patient(|| self.store.read(&key, Some(0..0))).await?;
        Ok(reading.map(|reading| reading.version))
    }

    /// Asks the store, again if it fails for now.
    async fn patient<T, F>(&self, ask: impl FnMut() -> F) -> Result<T, StoreError>
    where
        F: Future<Output = Result<T, StoreError>>,
    {
        self.retry.run(ask, |error, _| tracing::info!(%error, "asking again")).await
    }

    fn lane(&self, message: &Message) -> Lane {
        if message.size > self.settings.size_threshold { Lane::Large } else { Lane::Small }
    }
}

impl VerifyProgress {
    /// The stage, how many are done and how many there are.
    pub fn now(&self) -> (Stage, u64, u64) {
        let stage = match self.0[0].load(Ordering::Relaxed) {
            0 => Stage::Objects,
            1 => Stage::Indexes,
            _ => Stage::Bottles,
        };
        (stage, self.0[1].load(Ordering::Relaxed), self.0[2].load(Ordering::Relaxed))
    }

    fn begin(&self, stage: Stage, total: usize) {
        self.0[2].store(total as u64, Ordering::Relaxed);
        self.0[1].store(0, Ordering::Relaxed);
        self.0[0].store(stage as u64, Ordering::Relaxed);
    }

    fn step(&self, by: usize) {
        self.0[1].fetch_add(by as u64, Ordering::Relaxed);
    }
}

fn manifest_key() -> Result<ObjectKey, StoreError> {
    Ok(manifest::KEY.parse()?)
}
