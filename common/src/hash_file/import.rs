//! Marks as mirrored what is verifiably in the place.

use std::sync::Arc;

use globset::GlobSet;
use tokio::task::JoinSet;
use tracing::Instrument as _;
use url::Url;

use crate::catalogue::Catalogue;
use crate::clock::Clock;
use crate::manifest::{self, Manifest, ManifestError, State};
use crate::message::Message;
use crate::pipeline::STORE_RETRY;
use crate::receipt::{Entry, Outcome, Receipt};
use crate::registry::{self, CatalogueAnswer, Upstream};
use crate::retry::Policy;
use crate::run::{Count, RunId};
use crate::selection;
use crate::store::{Store, StoreError};

use super::adopt::{Adopter, Fate, Todo, Wanted};
use super::contents::Contents;
use super::file::HashFile;
use super::identify::{Bottle, Target, identify};
use super::progress::ImportProgress;
use super::report::{ImportReport, Why};

/// Takes over what the Python system mirrored.
///
/// It reports by receipts, as the consumers do, so that settle is what writes the
/// manifest. A bottle is reported only once it is under its key; an import that was
/// killed is gone on with by doing it again.
pub struct Importer {
    /// The mirror, which is also where the dated folders are.
    pub store: Arc<dyn Store>,
    /// Where the catalogue comes from.
    pub upstream: Arc<Upstream>,
    /// The time.
    pub clock: Clock,
    /// How to go about it.
    pub settings: ImportSettings,
    /// How far it is; others may look at it.
    pub progress: ImportProgress,
}

/// How to import.
#[derive(Debug, Clone)]
pub struct ImportSettings {
    /// The folder of the API files: `https://formulae.brew.sh/api`.
    pub api_url: Url,
    /// Formulae whose bottles are marked as held though they are nowhere.
    pub trust: GlobSet,
    /// How many objects are read at once.
    pub concurrency: usize,
    /// Whether it is only looked at presence and sizes, and nothing is written.
    pub dry_run: bool,
    /// How patient to be with the store.
    pub retry: Policy,
}

impl ImportSettings {
    /// The defaults for this upstream.
    pub fn new(api_url: Url) -> Self {
        let (trust, retry) = (GlobSet::empty(), STORE_RETRY);
        Self { api_url, trust, concurrency: 16, dry_run: false, retry }
    }
}

/// An import that could not be made, or not to its end.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// The catalogue can't be had.
    #[error("the catalogue {url} can't be read: {source}")]
    Catalogue {
        /// Where it should be.
        url: Url,
        /// What went wrong.
        source: registry::Error,
    },
    /// The manifest can't be used.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// The store can't be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A part of the program failed.
    #[error("a task failed: {0}")]
    Panicked(#[from] tokio::task::JoinError),
}

/// One receipt reports at most this many bottles.
const LARGEST_BATCH: usize = 256;

impl Importer {
    /// Imports a file.
    pub async fn import(&self, file: HashFile) -> Result<ImportReport, ImportError> {
        let run = RunId::new(self.clock.now());
        let span = tracing::error_span!("import", run.id = %run);
        self.import_as(run, file).instrument(span).await
    }

    async fn import_as(&self, run: RunId, file: HashFile) -> Result<ImportReport, ImportError> {
        let catalogue = self.catalogue().await?;
        let manifest = manifest::load_folded(&*self.store, self.settings.retry).await?;
        let list = || self.store.list("", None, usize::MAX);
        let contents = Contents::new(self.settings.retry.run(list, |_, _| {}).await?);

        let entries = (file.entries.len() + file.rejected.len()) as u64;
        let (bottles, unknown) = identify(file.entries, &catalogue, &contents);
        drop(catalogue);
        let mut report = ImportReport {
            run: (!self.settings.dry_run).then(|| run.clone()),
            last_updated: file.last_updated,
            entries,
            recorded: Count::default(),
            held: Count::default(),
            adopted: Count::default(),
            copied: Count::default(),
            trusted: Count::default(),
            skipped: file.rejected,
            dated: contents.total.clone(),
        };
        report.skipped.extend(unknown);

        let mut reporter = Reporter { importer: self, run, report, entries: Vec::new() };
        let mut todo = Vec::new();
        for bottle in bottles {
            let (fates, rest) = self.judge(&bottle, &contents, &manifest);
            reporter.take(&bottle, fates).await?;
            if !rest.targets.is_empty() {
                todo.push((bottle, rest));
            }
        }
        if self.settings.dry_run {
            for (bottle, rest) in todo {
                reporter.take(&bottle, foreseen(rest)).await?;
            }
        } else {
            self.adopt(todo, &mut reporter).await?;
        }
        reporter.end().await
    }

    async fn catalogue(&self) -> Result<Catalogue, ImportError> {
        let mut url = self.settings.api_url.clone();
        let path = format!("{}/formula.json", url.path().trim_end_matches('/'));
        url.set_path(&path);
        match self.upstream.catalogue(&url, None).await {
            Ok(CatalogueAnswer::Fresh { catalogue, .. }) => Ok(catalogue),
            // Nothing was said to be known.
            Ok(CatalogueAnswer::Unchanged) => {
                let what = url.path().to_owned();
                let source = registry::Error::Unexpected { what, status: 304 };
                Err(ImportError::Catalogue { url, source })
            }
            Err(source) => Err(ImportError::Catalogue { url, source }),
        }
    }

    /// What presence and sizes tell: the copies whose fate is known, and those for
    /// which an object has to be read or copied.
    fn judge(&self, bottle: &Bottle, contents: &Contents, manifest: &Manifest) -> (Fates, Rest) {
        let has_candidates = bottle.candidates().next().is_some();
        let is_recorded = |target: &Target| {
            let record = manifest.bottle(&target.image, &bottle.digest);
            record.is_some_and(|record| record.state == State::Held)
        };
        let is_there = |target: &Target| contents.blob(&bottle.key_of(target)) == Some(bottle.size);
        let mut sound = bottle.targets.iter().filter(|target| is_recorded(target) && is_there(target));
        let source = sound.next().map(|target| bottle.key_of(target));
        let may_be_copied = source.is_some() || bottle.targets.iter().any(is_there);
        let mut rest = Rest { source, has_candidates, targets: Vec::new() };
        let mut fates = Vec::new();
        for target in &bottle.targets {
            let (key, is_recorded) = (bottle.key_of(target), is_recorded(target));
            let fate = match contents.blob(&key) {
                Some(size) if size == bottle.size && is_recorded => Fate::Recorded,
                // Nobody vouches for what the manifest doesn't know, or knows to be damaged.
                Some(size) if size == bottle.size => {
                    rest.targets.push(Wanted { target: target.clone(), is_there: true });
                    continue;
                }
                _ if has_candidates || may_be_copied => {
                    rest.targets.push(Wanted { target: target.clone(), is_there: false });
                    continue;
                }
                Some(size) => wrong_size(key.as_str(), size, bottle.size),
                None => match bottle.dated.first() {
                    Some(dated) => wrong_size(dated.key.as_str(), dated.size, bottle.size),
                    None if !selection::matches(&self.settings.trust, &target.formula) => absent(is_recorded),
                    None if is_recorded => Fate::Recorded,
                    None => Fate::Trusted,
                },
            };
            fates.push((target.clone(), fate));
        }
        (fates, rest)
    }

    /// Reads what has to be read, so many at once.
    async fn adopt(&self, todo: Vec<(Bottle, Rest)>, reporter: &mut Reporter<'_>) -> Result<(), ImportError> {
        let to_read = todo.iter().filter(|(_, rest)| rest.source.is_none());
        let bytes = to_read.map(|(bottle, _)| bottle.size).sum();
        let all = Count { bottles: todo.len() as u64, bytes };
        self.progress.begin(all);
        let adopter = Adopter {
            store: Arc::clone(&self.store),
            retry: self.settings.retry,
            progress: self.progress.clone(),
        };
        // Tasks, so that all cores hash; those that are left are aborted with the set.
        let mut tasks = JoinSet::new();
        let mut todo = todo.into_iter();
        loop {
            while tasks.len() < self.settings.concurrency.max(1)
                && let Some((bottle, rest)) = todo.next()
            {
                let adopter = adopter.clone();
                let task = async move {
                    let todo = Todo { bottle: &bottle, source: rest.source, targets: rest.targets };
                    let fates = adopter.adopt(todo).await;
                    (bottle, fates)
                };
                tasks.spawn(task.in_current_span());
            }
            let Some(done) = tasks.join_next().await else { return Ok(()) };
            let (bottle, fates) = done?;
            reporter.take(&bottle, fates?).await?;
        }
    }
}

type Fates = Vec<(Target, Fate)>;

/// Copies of a bottle for which an object has to be read or copied.
struct Rest {
    source: Option<crate::bottle::ObjectKey>,
    has_candidates: bool,
    targets: Vec<Wanted>,
}

/// What would become of them if the objects are what they seem to be.
fn foreseen(mut rest: Rest) -> Fates {
    rest.targets.sort_by_key(|wanted| !wanted.is_there);
    let mut has_source = rest.source.is_some();
    let fate = |Wanted { target, is_there }| {
        let fate = match (is_there, has_source || !rest.has_candidates) {
            (true, _) => Fate::Held,
            (false, true) => Fate::Copied,
            (false, false) => Fate::Adopted,
        };
        has_source = true;
        (target, fate)
    };
    rest.targets.into_iter().map(fate).collect()
}

fn wrong_size(key: &str, actual: u64, expected: u64) -> Fate {
    Fate::Skipped(Why::Damaged, format!("{key} has {actual} bytes in place of {expected}"))
}

fn absent(is_recorded: bool) -> Fate {
    let detail = if is_recorded {
        "the manifest has it as held, and it is nowhere: `bottles verify` mends that"
    } else {
        "it is neither under its key nor in a dated folder"
    };
    Fate::Skipped(Why::Absent, detail.to_owned())
}

/// Counts what became of bottles, and reports those that are held.
struct Reporter<'a> {
    importer: &'a Importer,
    run: RunId,
    report: ImportReport,
    entries: Vec<Entry>,
}

impl Reporter<'_> {
    async fn take(&mut self, bottle: &Bottle, fates: Fates) -> Result<(), ImportError> {
        let Self { importer, run, report, entries } = self;
        for (target, fate) in fates {
            let count = match &fate {
                Fate::Recorded => &mut report.recorded,
                Fate::Held => &mut report.held,
                Fate::Adopted => &mut report.adopted,
                Fate::Copied => &mut report.copied,
                Fate::Trusted => &mut report.trusted,
                Fate::Skipped(why, detail) => {
                    report.skipped.extend(bottle.skipped(*why, detail));
                    continue;
                }
            };
            count.add(bottle.size);
            if fate != Fate::Recorded {
                let message = message(run, bottle, target);
                entries.push(Entry { message, at: importer.clock.now(), outcome: Outcome::Held });
            }
        }
        if self.entries.len() >= LARGEST_BATCH {
            self.flush().await?;
        }
        Ok(())
    }

    /// Writes the receipts of what was taken.
    async fn flush(&mut self) -> Result<(), ImportError> {
        let Importer { store, clock, settings, .. } = self.importer;
        let mut entries = std::mem::take(&mut self.entries);
        while !settings.dry_run && !entries.is_empty() {
            let rest = entries.split_off(entries.len().min(LARGEST_BATCH));
            let receipt = Receipt { entries, ..Receipt::default() };
            settings.retry.run(|| receipt.save(&**store, clock.now()), |_, _| {}).await?;
            entries = rest;
        }
        Ok(())
    }

    async fn end(mut self) -> Result<ImportReport, ImportError> {
        self.flush().await?;
        self.report.skipped.sort();
        // A bottle that two images lack.
        self.report.skipped.dedup();
        Ok(self.report)
    }
}

fn message(run: &RunId, bottle: &Bottle, target: Target) -> Message {
    let Target { formula, origin, image, image_tag, tags, file } = target;
    Message {
        run: run.clone(),
        formula,
        origin,
        image,
        image_tag,
        tags,
        digest: bottle.digest,
        size: bottle.size,
        copy_from: None,
        file,
        replace: false,
    }
}
