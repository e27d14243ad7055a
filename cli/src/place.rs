//! Where a mirror is, and the pipeline on it: a folder, or a bucket, with the
//! embedded queues; or a deployed system with its own.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use common::bottle::{Digest, ObjectKey};
use common::clock::{Clock, Grace};
use common::manifest;
use common::message::Lane;
use common::pipeline::{LaneQueues, Pipeline};
use common::plan::{PlanSettings, Planner};
use common::queue::Embedded;
use common::registry::{Routes, Upstream, UpstreamSettings};
use common::retry::Policy;
use common::selection::{Selection, SelectionFile};
use common::settle::{SettleSettings, Settler};
use common::store::{Folder, Location, S3, Store};
use common::worker::{Worker, WorkerSettings};
use tempfile::TempDir;

use crate::args::{PipelineOptions, PlaceOptions, SelectionOptions, StoreOption, UpstreamOptions};
use crate::destination::Destination;
use crate::output::Usage;

/// How often a message is received before a passing failure is taken for a lasting one.
const MOST_RECEIVES: u32 = 5;

/// A mirror with embedded queues, opened.
pub(crate) struct Local {
    pub(crate) pipeline: Pipeline,
    pub(crate) expire_after: Grace,
    /// A copy of the queues, where they can only be looked at.
    pub(crate) copy: Option<TempDir>,
}

impl Local {
    /// Opens a mirror, and makes it if need be; a bucket must be there.
    pub(crate) async fn open(to: &Destination, options: &PlaceOptions) -> anyhow::Result<Self> {
        let (store, state): (Arc<dyn Store>, PathBuf) = match to {
            Destination::Folder(root) => (Arc::new(Folder::open(root)?), root.join("_sync")),
            Destination::Bucket(location) => {
                let store = bucket(location, &options.store).await;
                store.check().await.with_context(|| format!("{location} can't be used"))?;
                let state = state_folder(location, options)?;
                std::fs::create_dir_all(&state)
                    .with_context(|| format!("the state folder {} can't be made", state.display()))?;
                (Arc::new(store), state)
            }
        };
        Self::on(store, &state, options)
    }

    /// Opens a folder that can't be written to, for verbs that only look. Whatever would
    /// change it is refused by the store.
    fn view(root: &Path, options: &PlaceOptions) -> anyhow::Result<Self> {
        // SQLite reads no queue that it can't lock, but a copy of one.
        let copy = tempfile::tempdir()?;
        for name in ["queue.sqlite", "queue.sqlite-wal"] {
            let from = root.join("_sync").join(name);
            if from.is_file() {
                let copied =
                    std::fs::read(&from).and_then(|bytes| std::fs::write(copy.path().join(name), bytes));
                copied.with_context(|| format!("{} can't be read", from.display()))?;
            }
        }
        let local = Self::on(Arc::new(Folder::view(root)), copy.path(), options)?;
        Ok(Self { copy: Some(copy), ..local })
    }

    /// A mirror in a store, with the queues that are kept in a folder.
    fn on(store: Arc<dyn Store>, state: &Path, options: &PlaceOptions) -> anyhow::Result<Self> {
        let clock = Clock::system();
        let queues = Embedded::open(&state.join("queue.sqlite"), &state.join("owners"), clock.clone())?;
        // The queue itself moves what was received once more than the worker
        // allows: the backstop for processes that die.
        let lane = |lane, work, dead_letters| LaneQueues {
            lane,
            work: Arc::new(queues.queue(work, Some((dead_letters, MOST_RECEIVES + 1)))),
            dead_letters: Arc::new(queues.queue(dead_letters, None)),
        };
        let lanes = vec![lane(Lane::Small, "small", "small-dead"), lane(Lane::Large, "large", "large-dead")];
        let pipeline = Pipeline { store, clock, lanes, poll: Duration::ZERO };
        Ok(Self { pipeline, expire_after: options.expire_after.unwrap_or_default(), copy: None })
    }

    /// Opens a mirror, or, if it can't be written to, only to look at it.
    async fn open_or_view(to: &Destination, options: &PlaceOptions) -> anyhow::Result<Self> {
        match to {
            Destination::Folder(root) if is_read_only(root) => Self::view(root, options),
            Destination::Folder(_) | Destination::Bucket(_) => Self::open(to, options).await,
        }
    }

    /// Opens a mirror that must be there.
    pub(crate) async fn open_existing(to: &Destination, options: &PlaceOptions) -> anyhow::Result<Self> {
        if !holds_mirror(to, options).await? {
            return Err(Usage(format!("{to} holds no mirror; `bottles sync --to {to}` makes one")).into());
        }
        Self::open_or_view(to, options).await
    }

    /// Opens a mirror of which nothing needs to be left but its bottles.
    pub(crate) async fn open_remains(to: &Destination, options: &PlaceOptions) -> anyhow::Result<Self> {
        let holds_bottles = match to {
            Destination::Folder(root) => root.join("v2").is_dir(),
            Destination::Bucket(location) => {
                let store = bucket(location, &options.store).await;
                store.check().await.with_context(|| format!("{location} can't be used"))?;
                !store.list("v2/", None, 1).await?.is_empty()
            }
        };
        if !holds_bottles && !holds_mirror(to, options).await? {
            return Err(
                Usage(format!("{to} holds no bottles; `bottles sync --to {to}` makes a mirror")).into()
            );
        }
        Self::open_or_view(to, options).await
    }

    pub(crate) fn planner(
        &self,
        upstream: Arc<Upstream>,
        selection: Selection,
        options: &UpstreamOptions,
        size_threshold: u64,
    ) -> Planner {
        let settings = PlanSettings {
            api_url: options.api_url.clone(),
            size_threshold,
            concurrency: 16,
            deadline: None,
            is_partial: false,
        };
        self.pipeline.planner(upstream, selection, settings)
    }

    pub(crate) fn settler(&self) -> Settler {
        self.pipeline.settler(settle_settings(self.expire_after))
    }

    pub(crate) fn worker(
        &self,
        lane: &LaneQueues,
        mirror: &Arc<common::mirror::Mirror>,
        options: &PipelineOptions,
    ) -> Worker {
        let concurrency = usize::from(options.concurrency);
        let settings = WorkerSettings {
            concurrency: if lane.lane == Lane::Small { concurrency } else { concurrency.div_ceil(4) },
            visibility: Duration::from_mins(1),
            wait: Duration::from_millis(100),
            most_receives: MOST_RECEIVES,
            redelivery: Policy {
                first_wait: Duration::from_secs(2),
                longest_wait: Duration::from_mins(1),
                budget: Duration::MAX,
            },
            until_empty: true,
            grace: Duration::from_secs(10),
        };
        self.pipeline.worker(lane, mirror, settings)
    }
}

/// How a mirror with embedded queues is settled.
pub(crate) fn settle_settings(Grace(expire_after): Grace) -> SettleSettings {
    // These queues tell their depth exactly, so what is not there is lost.
    SettleSettings { lost_after: Duration::ZERO, stalled_after: Duration::from_hours(1), expire_after }
}

/// Whether a mirror's folder can't be written to by who runs this.
fn is_read_only(root: &Path) -> bool {
    use std::io::ErrorKind::{PermissionDenied, ReadOnlyFilesystem};
    let tried = tempfile::tempfile_in(root.join("_sync"));
    tried.is_err_and(|error| matches!(error.kind(), PermissionDenied | ReadOnlyFilesystem))
}

/// The mirror in a bucket.
pub(crate) async fn bucket(location: &Location, options: &StoreOption) -> S3 {
    let config = common::aws::load().await;
    S3::new(&config, location.clone(), options.s3_endpoint.as_ref().map(url::Url::as_str))
}

/// Whether there is a mirror.
pub(crate) async fn holds_mirror(to: &Destination, options: &PlaceOptions) -> anyhow::Result<bool> {
    Ok(match to {
        Destination::Folder(root) => {
            root.join("_sync/queue.sqlite").is_file() || root.join(manifest::KEY).is_file()
        }
        Destination::Bucket(location) => {
            let store = bucket(location, &options.store).await;
            store.check().await.with_context(|| format!("{location} can't be used"))?;
            let key: ObjectKey = manifest::KEY.parse()?;
            store.head(&key).await?.is_some()
        }
    })
}

/// Where the queues of a bucket's mirror are kept: on this machine.
fn state_folder(location: &Location, options: &PlaceOptions) -> anyhow::Result<PathBuf> {
    if let Some(state) = &options.state {
        return Ok(state.clone());
    }
    let folder = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let base = folder("XDG_STATE_HOME").or_else(|| Some(folder("HOME")?.join(".local/state")));
    let base = base.ok_or_else(|| {
        Usage(
            "the queue needs a folder: name one with --state, since neither XDG_STATE_HOME nor HOME is set"
                .to_owned(),
        )
    })?;
    // The digest keeps two prefixes of one bucket apart, however they are spelled.
    let digest = Digest::of(location.to_string().as_bytes()).to_string();
    Ok(base.join("bottles").join(format!("{}-{}", location.bucket(), &digest[..12])))
}

/// The client of upstream, and of the taps' catalogues that a selection names.
pub(crate) fn upstream(options: &UpstreamOptions, selection: &Selection) -> anyhow::Result<Arc<Upstream>> {
    if !matches!(options.api_url.scheme(), "http" | "https") {
        return Err(Usage(format!("--api-url {}: it takes an http or https URL", options.api_url)).into());
    }
    // The API's own host is named by the option, and so allowed.
    let mut routes = Routes::new(&options.rewrite, &options.allow_host).with_origin_of(&options.api_url);
    for url in selection.catalogues() {
        routes = routes.with_catalogue(&url);
    }
    let settings = UpstreamSettings {
        requests_per_second: options.requests_per_second,
        ..UpstreamSettings::new(routes)
    };
    Ok(Arc::new(Upstream::new(settings)?))
}

/// The selection of the file, narrowed by the options.
pub(crate) fn selection(options: &SelectionOptions) -> anyhow::Result<Selection> {
    let mut file = match &options.selection {
        Some(path) => read_selection(path)?,
        None => SelectionFile::default(),
    };
    if !options.formula.is_empty() {
        file.formulae = Some(options.formula.clone());
    }
    if !options.tag.is_empty() {
        file.tags = Some(options.tag.clone());
    }
    if options.no_dependencies {
        file.dependencies = false;
    }
    Selection::new(file).map_err(|error| Usage(error.to_string()).into())
}

/// The selection of the options, if they make one; else the deployed one holds.
///
/// It replaces the deployed one whole, and so must say what it is about: a tag
/// alone would ask for every formula there is.
pub(crate) fn overriding(options: &SelectionOptions) -> anyhow::Result<Option<SelectionFile>> {
    let SelectionOptions { selection: file, formula, tag, no_dependencies } = options;
    let is_given = file.is_some() || !formula.is_empty() || !tag.is_empty() || *no_dependencies;
    if is_given && file.is_none() && formula.is_empty() {
        return Err(Usage(
            "with a deployed system --tag and --no-dependencies need --formula or --selection beside them: \
             they replace its selection, and would ask for everything (--formula '*' says so)"
                .to_owned(),
        )
        .into());
    }
    if is_given { Ok(Some(selection(options)?.file().clone())) } else { Ok(None) }
}

fn read_selection(path: &Path) -> anyhow::Result<SelectionFile> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| Usage(format!("the selection {} can't be read: {error}", path.display())))?;
    let selection: Selection =
        text.parse().map_err(|error| Usage(format!("{}: {error}", path.display()))).context("--selection")?;
    let mut file = selection.file().clone();
    // A tap's catalogue is where the selection is, unless it says otherwise.
    let folder = path.parent().unwrap_or(Path::new(""));
    for tap in file.taps.iter_mut().filter(|tap| !tap.catalogue.contains("://")) {
        tap.catalogue = folder.join(&tap.catalogue).display().to_string();
    }
    Ok(file)
}
