//! A mirror in a folder: the store, the embedded queues, and the pipeline on them.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use common::clock::Clock;
use common::dead_letter::{Desk, DeskLane};
use common::manifest;
use common::message::Lane;
use common::mirror::{MemoryBudget, Mirror};
use common::plan::{PlanProgress, PlanSettings, Planner};
use common::queue::{Depth, Embedded, Queue};
use common::registry::{Routes, Upstream, UpstreamSettings};
use common::retry::Policy;
use common::selection::{Selection, SelectionFile};
use common::settle::{SettleSettings, Settler};
use common::store::{Folder, Store};
use common::worker::{Progress, Worker, WorkerSettings};

use crate::args::{PipelineOptions, SelectionOptions, UpstreamOptions};
use crate::output::Usage;

/// How often a message is received before a passing failure is taken for a lasting one.
const MOST_RECEIVES: u32 = 5;

/// One mirror's folder, opened.
pub(crate) struct Local {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) clock: Clock,
    lanes: Vec<LaneQueues>,
}

/// One lane's queues.
pub(crate) struct LaneQueues {
    pub(crate) lane: Lane,
    pub(crate) work: Arc<dyn Queue>,
    pub(crate) dead_letters: Arc<dyn Queue>,
}

impl Local {
    /// Opens a mirror, and makes it if need be.
    pub(crate) fn open(root: &Path) -> anyhow::Result<Self> {
        let clock = Clock::system();
        let store = Folder::open(root)?;
        let queues =
            Embedded::open(&root.join("_sync/queue.sqlite"), &root.join("_sync/owners"), clock.clone())?;
        // The queue itself moves what was received once more than the worker
        // allows: the backstop for processes that die.
        let lane = |lane, work, dead_letters| LaneQueues {
            lane,
            work: Arc::new(queues.queue(work, Some((dead_letters, MOST_RECEIVES + 1)))),
            dead_letters: Arc::new(queues.queue(dead_letters, None)),
        };
        let lanes = vec![lane(Lane::Small, "small", "small-dead"), lane(Lane::Large, "large", "large-dead")];
        Ok(Self { store: Arc::new(store), clock, lanes })
    }

    /// Opens a mirror that must be there.
    pub(crate) fn open_existing(root: &Path) -> anyhow::Result<Self> {
        if !holds_mirror(root) {
            return Err(Usage(format!(
                "{} holds no mirror; `bottles sync --to {}` makes one",
                root.display(),
                root.display()
            ))
            .into());
        }
        Self::open(root)
    }

    /// The queues, small first.
    pub(crate) fn lanes(&self) -> &[LaneQueues] {
        &self.lanes
    }

    /// How many dead letters there are.
    pub(crate) async fn dead_letters(&self) -> anyhow::Result<u64> {
        let mut count = 0;
        for lane in &self.lanes {
            count += lane.dead_letters.depth().await?.total();
        }
        Ok(count)
    }

    /// The depth of a lane's queues: work, dead letters.
    pub(crate) async fn depth(lane: &LaneQueues) -> anyhow::Result<(Depth, Depth)> {
        Ok((lane.work.depth().await?, lane.dead_letters.depth().await?))
    }

    pub(crate) fn planner(
        &self,
        upstream: Arc<Upstream>,
        selection: Selection,
        options: &UpstreamOptions,
        size_threshold: u64,
    ) -> Planner {
        let queues: HashMap<_, _> =
            self.lanes.iter().map(|lane| (lane.lane, Arc::clone(&lane.work))).collect();
        Planner {
            store: Arc::clone(&self.store),
            upstream,
            queues,
            selection,
            clock: self.clock.clone(),
            settings: PlanSettings {
                api_url: options.api_url.clone(),
                size_threshold,
                concurrency: 16,
                deadline: None,
            },
            progress: PlanProgress::default(),
        }
    }

    pub(crate) fn settler(&self) -> Settler {
        Settler {
            store: Arc::clone(&self.store),
            queues: self.lanes.iter().map(|lane| Arc::clone(&lane.work)).collect(),
            clock: self.clock.clone(),
            // These queues tell their depth exactly, so what is not there is lost.
            settings: SettleSettings { lost_after: Duration::ZERO, stalled_after: Duration::from_hours(1) },
        }
    }

    pub(crate) fn mirror(&self, upstream: Arc<Upstream>, options: &PipelineOptions) -> Arc<Mirror> {
        let retry = Policy {
            first_wait: Duration::from_millis(100),
            longest_wait: Duration::from_secs(5),
            budget: Duration::from_secs(30),
        };
        let budget = MemoryBudget::new(options.memory.0);
        Arc::new(Mirror::new(Arc::clone(&self.store), upstream, budget, retry))
    }

    pub(crate) fn worker(
        &self,
        lane: &LaneQueues,
        mirror: &Arc<Mirror>,
        options: &PipelineOptions,
    ) -> Worker {
        let concurrency = usize::from(options.concurrency);
        Worker {
            queue: Arc::clone(&lane.work),
            dead_letters: Arc::clone(&lane.dead_letters),
            mirror: Arc::clone(mirror),
            store: Arc::clone(&self.store),
            clock: self.clock.clone(),
            progress: Progress::default(),
            settings: WorkerSettings {
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
            },
        }
    }

    pub(crate) fn desk(&self) -> Desk {
        let lanes = self.lanes.iter().map(|lane| DeskLane {
            lane: lane.lane,
            work: Arc::clone(&lane.work),
            dead_letters: Arc::clone(&lane.dead_letters),
        });
        Desk { lanes: lanes.collect(), store: Arc::clone(&self.store), clock: self.clock.clone() }
    }
}

/// Whether a folder is a mirror's.
pub(crate) fn holds_mirror(root: &Path) -> bool {
    root.join("_sync/queue.sqlite").is_file() || root.join(manifest::KEY).is_file()
}

pub(crate) fn upstream(options: &UpstreamOptions) -> anyhow::Result<Arc<Upstream>> {
    if !matches!(options.api_url.scheme(), "http" | "https") {
        return Err(Usage(format!("--api-url {}: it takes an http or https URL", options.api_url)).into());
    }
    // The API's own host is named by the option, and so allowed.
    let routes = Routes::new(&options.rewrite, &options.allow_host).with_origin_of(&options.api_url);
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

fn read_selection(path: &PathBuf) -> anyhow::Result<SelectionFile> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| Usage(format!("the selection {} can't be read: {error}", path.display())))?;
    let selection: Selection =
        text.parse().map_err(|error| Usage(format!("{}: {error}", path.display()))).context("--selection")?;
    Ok(selection.file().clone())
}
