//! Marks as mirrored what is verifiably in the place.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;
use url::Url;

use crate::catalogue::Catalogue;
use crate::clock::Clock;
use crate::manifest::{self, Manifest, ManifestError};
use crate::pipeline::STORE_RETRY;
use crate::registry::{self, CatalogueAnswer, Upstream};
use crate::retry::Policy;
use crate::run::{Count, RunId};
use crate::store::{Store, StoreError};

use super::adopt::{Adopter, Todo};
use super::contents::Contents;
use super::fate::{Fate, Judged};
use super::file::HashFile;
use super::identify::{Bottle, Identified, identify};
use super::judge::{Judge, Rest};
use super::progress::ImportProgress;
use super::report::{ImportReport, Resized, Why};
use super::reporter::Reporter;
use super::trust::{self, Trust, Trusted};

/// How long what is being read may go on after it was asked to stop.
const GRACE: Duration = Duration::from_secs(10);

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
    /// Fires when it is to stop: it begins nothing new then, gives what is being read
    /// ten seconds, and reports what was finished.
    pub stop: CancellationToken,
}

/// How to import.
#[derive(Debug, Clone)]
pub struct ImportSettings {
    /// The folder of the API files: `https://formulae.brew.sh/api`.
    pub api_url: Url,
    /// Formulae whose bottles are marked as held though they are nowhere.
    pub trust: Trust,
    /// Whether bottles that the catalogue doesn't list any more are left out.
    pub listed_only: bool,
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
        let (trust, retry) = (Trust::default(), STORE_RETRY);
        Self { api_url, trust, listed_only: false, concurrency: 16, dry_run: false, retry }
    }
}

/// An import that could not be made, or not to its end.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// It was asked to stop.
    #[error("stopped while importing; the same command goes on where this one was")]
    Stopped,
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

impl Importer {
    /// Imports a file.
    pub async fn import(&self, file: HashFile) -> Result<ImportReport, ImportError> {
        let run = RunId::new(self.clock.now());
        let span = tracing::error_span!("import", run.id = %run);
        self.import_as(run, file).instrument(span).await
    }

    async fn import_as(&self, run: RunId, file: HashFile) -> Result<ImportReport, ImportError> {
        let looked = self.stop.run_until_cancelled(self.look()).await;
        let Looked { catalogue, manifest, contents, listed_at } = looked.ok_or(ImportError::Stopped)??;
        let entries = (file.entries.len() + file.rejected.len()) as u64;
        let identified = identify(file.entries, &catalogue, &contents, self.settings.listed_only);
        drop(catalogue);
        let Identified { bottles, skipped, left_out } = identified;
        let formulae = bottles.iter().flat_map(|bottle| &bottle.targets).map(|target| &target.formula);
        let mut report = ImportReport {
            run: (!self.settings.dry_run).then(|| run.clone()),
            last_updated: file.last_updated,
            entries,
            skipped: file.rejected,
            unlisted: left_out,
            unmatched_trust: self.settings.trust.unmatched(formulae),
            dated: contents.total.clone(),
            ..ImportReport::default()
        };
        report.skipped.extend(skipped);

        let judge =
            Judge { contents: &contents, listed_at, manifest: &manifest, trust: &self.settings.trust };
        let mut reporter = Reporter::new(self, run, report);
        let done = self.go_through(bottles, &judge, &mut reporter).await;
        // Whatever happened since: what was finished is not to be read again.
        let flushed = reporter.flush().await;
        done.and(flushed)?;
        Ok(reporter.end())
    }

    /// All that bottles are judged by.
    async fn look(&self) -> Result<Looked, ImportError> {
        let catalogue = self.catalogue().await?;
        let manifest = manifest::load_folded(&*self.store, self.settings.retry).await?;
        let listed_at = self.clock.now();
        let list = || self.store.list("", None, usize::MAX);
        let contents = Contents::new(self.settings.retry.run(list, |_, _| {}).await?);
        Ok(Looked { catalogue, manifest, contents, listed_at })
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

    async fn go_through(
        &self,
        bottles: Vec<Bottle>,
        judge: &Judge<'_>,
        reporter: &mut Reporter<'_>,
    ) -> Result<(), ImportError> {
        let (mut todo, mut trusted) = (Vec::new(), Vec::new());
        for bottle in bottles {
            let judgement = judge.judge(&bottle);
            reporter.take(&bottle, judgement.judged).await?;
            if !judgement.trusted.is_empty() {
                trusted.push(Trusted { bottle, targets: judgement.trusted });
            } else if !judgement.rest.wanted.is_empty() {
                todo.push((bottle, judgement.rest));
            }
        }
        self.trust(trusted, reporter).await?;
        if !self.settings.dry_run {
            return self.adopt(todo, reporter).await;
        }
        for (bottle, rest) in todo {
            reporter.take(&bottle, rest.foreseen()).await?;
        }
        Ok(())
    }

    /// Takes the file's word, but for sizes that upstream knows.
    async fn trust(&self, trusted: Vec<Trusted>, reporter: &mut Reporter<'_>) -> Result<(), ImportError> {
        let asking = trust::sizes(&self.upstream, trusted, self.settings.concurrency);
        let sized = self.stop.run_until_cancelled(asking).await.ok_or(ImportError::Stopped)?;
        for (Trusted { mut bottle, targets }, size) in sized {
            let fate = match size {
                Some(Err(why)) => Fate::Skipped(Why::UnknownSize, why),
                Some(Ok(size)) if size != bottle.size => {
                    let resized = bottle.keys.iter().map(|key| Resized::new(key, bottle.size, size));
                    reporter.report.resized.extend(resized);
                    bottle.size = size;
                    Fate::Trusted { again: false }
                }
                Some(Ok(_)) | None => Fate::Trusted { again: false },
            };
            let judged = targets.iter().map(|target| Judged::new(target, fate.clone())).collect();
            reporter.take(&bottle, judged).await?;
        }
        Ok(())
    }

    /// Reads what has to be read, so many at once.
    async fn adopt(&self, todo: Vec<(Bottle, Rest)>, reporter: &mut Reporter<'_>) -> Result<(), ImportError> {
        let mut all = Count::default();
        for (bottle, _) in todo.iter().filter(|(_, rest)| rest.source.is_none()) {
            all.add(bottle.size);
        }
        all.bottles = todo.len() as u64;
        self.progress.begin(all);
        let adopter = Adopter {
            store: Arc::clone(&self.store),
            clock: self.clock.clone(),
            retry: self.settings.retry,
            progress: self.progress.clone(),
        };
        let time_is_up = async {
            self.stop.cancelled().await;
            tokio::time::sleep(GRACE).await;
        };
        tokio::pin!(time_is_up);
        // Tasks, so that all cores hash; those that are left are aborted with the set.
        let mut tasks = JoinSet::new();
        let mut todo = todo.into_iter();
        loop {
            while tasks.len() < self.settings.concurrency.max(1)
                && !self.stop.is_cancelled()
                && let Some((bottle, rest)) = todo.next()
            {
                let adopter = adopter.clone();
                let task = async move {
                    let todo = Todo { bottle: &bottle, source: rest.source, wanted: rest.wanted };
                    let judged = adopter.adopt(todo).await;
                    (bottle, judged)
                };
                tasks.spawn(task.in_current_span());
            }
            let done = tokio::select! {
                done = tasks.join_next() => done,
                () = &mut time_is_up => return Err(ImportError::Stopped),
            };
            let Some(done) = done else { break };
            let (bottle, judged) = done?;
            reporter.take(&bottle, judged?).await?;
        }
        if todo.len() > 0 { Err(ImportError::Stopped) } else { Ok(()) }
    }
}

/// All that bottles are judged by.
struct Looked {
    catalogue: Catalogue,
    manifest: Manifest,
    contents: Contents,
    listed_at: jiff::Timestamp,
}
