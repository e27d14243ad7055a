//! The pipeline's parts on one mirror's ports: built here, for the command and
//! for each of the services.

use std::sync::Arc;
use std::time::Duration;

use crate::clock::Clock;
use crate::dead_letter::{Desk, DeskLane};
use crate::message::Lane;
use crate::mirror::{MemoryBudget, Mirror};
use crate::plan::{PlanProgress, PlanSettings, Planner};
use crate::queue::{Queue, QueueError};
use crate::registry::Upstream;
use crate::retry::Policy;
use crate::selection::Selection;
use crate::settle::{SettleSettings, Settler};
use crate::store::Store;
use crate::verify::{Verifier, VerifySettings};
use crate::worker::{Activity, Progress, Worker, WorkerSettings};

/// A mirror's store and queues.
pub struct Pipeline {
    /// Where the mirror is.
    pub store: Arc<dyn Store>,
    /// The time.
    pub clock: Clock,
    /// The lanes that this process has to do with, small first.
    pub lanes: Vec<LaneQueues>,
    /// How long a queue is asked for more before it counts as empty.
    pub poll: Duration,
}

/// One lane's queues.
#[derive(Clone)]
pub struct LaneQueues {
    /// Which lane.
    pub lane: Lane,
    /// What is to be done.
    pub work: Arc<dyn Queue>,
    /// What was given up on.
    pub dead_letters: Arc<dyn Queue>,
}

/// The store is asked again for this long in the middle of a transfer.
pub const STORE_RETRY: Policy = Policy {
    first_wait: Duration::from_millis(100),
    longest_wait: Duration::from_secs(5),
    budget: Duration::from_secs(30),
};

impl Pipeline {
    /// What plans.
    pub fn planner(&self, upstream: Arc<Upstream>, selection: Selection, settings: PlanSettings) -> Planner {
        Planner {
            store: Arc::clone(&self.store),
            upstream,
            queues: self.lanes.iter().map(|lane| (lane.lane, Arc::clone(&lane.work))).collect(),
            selection,
            clock: self.clock.clone(),
            settings,
            progress: PlanProgress::default(),
        }
    }

    /// What settles.
    pub fn settler(&self, settings: SettleSettings) -> Settler {
        Settler {
            store: Arc::clone(&self.store),
            queues: self.lanes.iter().map(|lane| Arc::clone(&lane.work)).collect(),
            clock: self.clock.clone(),
            settings,
        }
    }

    /// What moves bottles, at most `memory` bytes of them in memory at once.
    pub fn mirror(&self, upstream: Arc<Upstream>, memory: u64) -> Arc<Mirror> {
        let budget = MemoryBudget::new(memory);
        Arc::new(Mirror::new(Arc::clone(&self.store), upstream, budget, STORE_RETRY))
    }

    /// What drains a lane.
    pub fn worker(&self, lane: &LaneQueues, mirror: &Arc<Mirror>, settings: WorkerSettings) -> Worker {
        Worker {
            queue: Arc::clone(&lane.work),
            dead_letters: Arc::clone(&lane.dead_letters),
            mirror: Arc::clone(mirror),
            store: Arc::clone(&self.store),
            clock: self.clock.clone(),
            progress: Progress::default(),
            activity: Activity::default(),
            settings,
        }
    }

    /// What compares the manifest with what is there.
    pub fn verifier(&self, settings: VerifySettings) -> Verifier {
        let queues = self.lanes.iter().map(|lane| (lane.lane, Arc::clone(&lane.work))).collect();
        Verifier::new(Arc::clone(&self.store), queues, self.clock.clone(), settings, STORE_RETRY)
    }

    /// What goes through the dead letters.
    pub fn desk(&self) -> Desk {
        let lanes = self.lanes.iter().map(|lane| DeskLane {
            lane: lane.lane,
            work: Arc::clone(&lane.work),
            dead_letters: Arc::clone(&lane.dead_letters),
        });
        Desk {
            lanes: lanes.collect(),
            store: Arc::clone(&self.store),
            clock: self.clock.clone(),
            wait: self.poll,
            pace: None,
        }
    }

    /// How many dead letters there are.
    pub async fn dead_letters(&self) -> Result<u64, QueueError> {
        let mut count = 0;
        for lane in &self.lanes {
            count += lane.dead_letters.depth().await?.total();
        }
        Ok(count)
    }
}
