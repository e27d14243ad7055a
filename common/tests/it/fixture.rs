//! A whole pipeline in one process: testbed, folder, embedded queues.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use common::bottle::ObjectKey;
use common::clock::Clock;
use common::dead_letter::{Deed, Desk, DeskLane, Letter};
use common::manifest::{self, Manifest};
use common::message::Lane;
use common::mirror::{MemoryBudget, Mirror};
use common::pipeline::{LaneQueues, Pipeline};
use common::plan::{Mode, PlanProgress, PlanReport, PlanSettings, Planner};
use common::queue::{Embedded, Queue, Sqs};
use common::receipt::{Order, Receipt, What};
use common::registry::{Routes, Upstream, UpstreamSettings};
use common::retry::Policy;
use common::selection::Selection;
use common::settle::{SettleReport, SettleSettings, Settler};
use common::store::{Folder, S3, Store};
use common::worker::{Activity, Done, Progress, Worker, WorkerError, WorkerSettings};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;
use url::Url;

/// Bottles above this go to the large queue.
pub(crate) const SIZE_THRESHOLD: u64 = 1 << 20;

/// One lane's queues: work and dead letters.
pub(crate) type Queues = (Arc<dyn Queue>, Arc<dyn Queue>);

/// Which adapters a test target runs its tests on.
#[derive(Clone, Copy, PartialEq, Eq)]
#[expect(dead_code, reason = "each target has one of them")]
pub(crate) enum Backend {
    /// A folder and the embedded queues.
    Local,
    /// S3 and SQS, in an emulator of each test's own.
    Aws,
}

/// What the adapters stand on.
enum Ground {
    Folder(TempDir),
    Cloud(Box<testbed::Cloud>),
}

/// A mirror and its upstream. The ports can be exchanged for decorated ones.
pub(crate) struct Fixture {
    pub(crate) testbed: testbed::Upstream,
    ground: Ground,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) queues: BTreeMap<Lane, Queues>,
    pub(crate) upstream: Arc<Upstream>,
    pub(crate) selection: Selection,
    pub(crate) clock: Clock,
    pub(crate) most_receives: u32,
    pub(crate) visibility: Duration,
    pub(crate) concurrency: usize,
    pub(crate) expire_after: Duration,
}

impl Fixture {
    pub(crate) async fn new(spec: testbed::Spec) -> Self {
        let testbed = testbed::Upstream::start(spec).await.unwrap();
        let clock = Clock::system();
        let (ground, store, queues) = match crate::BACKEND {
            Backend::Local => {
                let folder = tempfile::tempdir().unwrap();
                let store: Arc<dyn Store> = Arc::new(Folder::open(folder.path()).unwrap());
                let queues = embedded(&folder, &clock);
                (Ground::Folder(folder), store, queues)
            }
            Backend::Aws => {
                let cloud = Box::new(testbed::Cloud::start().await.unwrap());
                let store: Arc<dyn Store> =
                    Arc::new(S3::new(cloud.config(), cloud.place().parse().unwrap(), None));
                let queues = sqs(&cloud);
                (Ground::Cloud(cloud), store, queues)
            }
        };
        let upstream = Arc::new(Upstream::new(settings(&testbed)).unwrap());
        Self {
            testbed,
            ground,
            store,
            queues,
            upstream,
            selection: "".parse().unwrap(),
            clock,
            most_receives: 3,
            visibility: Duration::from_secs(30),
            concurrency: 8,
            expire_after: Duration::from_hours(24 * 90),
        }
    }

    pub(crate) fn planner(&self) -> Planner {
        Planner {
            store: Arc::clone(&self.store),
            upstream: Arc::clone(&self.upstream),
            queues: self
                .queues
                .iter()
                .map(|(lane, (work, _))| (*lane, Arc::clone(work)))
                .collect::<HashMap<_, _>>(),
            selection: self.selection.clone(),
            clock: self.clock.clone(),
            settings: PlanSettings {
                api_url: Url::parse(&self.testbed.api_url()).unwrap(),
                size_threshold: SIZE_THRESHOLD,
                concurrency: 8,
                deadline: None,
                is_partial: false,
            },
            progress: PlanProgress::default(),
        }
    }

    pub(crate) async fn plan(&self) -> PlanReport {
        self.planner().plan(Mode::Queue).await.unwrap()
    }

    pub(crate) fn settler(&self) -> Settler {
        Settler {
            store: Arc::clone(&self.store),
            queues: self.queues.values().map(|(work, _)| Arc::clone(work)).collect(),
            clock: self.clock.clone(),
            settings: SettleSettings {
                lost_after: Duration::ZERO,
                stalled_after: Duration::from_hours(1),
                expire_after: self.expire_after,
            },
        }
    }

    pub(crate) async fn settle(&self) -> SettleReport {
        self.settler().settle().await.unwrap()
    }

    pub(crate) fn worker(&self, lane: Lane) -> Worker {
        let retry = Policy {
            first_wait: Duration::from_millis(5),
            longest_wait: Duration::from_millis(50),
            budget: Duration::from_millis(500),
        };
        let (work, dead_letters) = &self.queues[&lane];
        let budget = MemoryBudget::new(64 << 20);
        Worker {
            queue: Arc::clone(work),
            dead_letters: Arc::clone(dead_letters),
            mirror: Arc::new(Mirror::new(Arc::clone(&self.store), Arc::clone(&self.upstream), budget, retry)),
            store: Arc::clone(&self.store),
            clock: self.clock.clone(),
            progress: Progress::default(),
            activity: Activity::default(),
            settings: WorkerSettings {
                concurrency: self.concurrency,
                visibility: self.visibility,
                wait: Duration::from_millis(20),
                most_receives: self.most_receives,
                redelivery: retry,
                until_empty: true,
                grace: Duration::from_secs(5),
            },
        }
    }

    /// Drains both queues.
    pub(crate) async fn drain(&self) -> Done {
        self.try_drain().await.unwrap()
    }

    pub(crate) async fn try_drain(&self) -> Result<Done, WorkerError> {
        let cancel = CancellationToken::new();
        let (small, large) = (self.worker(Lane::Small), self.worker(Lane::Large));
        let (a, b) = tokio::join!(small.run(&cancel), large.run(&cancel));
        a.and(b)?;
        let (mut done, large) = (small.progress.now(), large.progress.now());
        done.fetched = done.fetched + large.fetched;
        done.copied = done.copied + large.copied;
        done.already_held = done.already_held + large.already_held;
        done.released += large.released;
        for (reason, count) in large.dead {
            *done.dead.entry(reason).or_default() += count;
        }
        Ok(done)
    }

    /// Plans, drains, settles.
    pub(crate) async fn sync(&self) -> (PlanReport, Done, SettleReport) {
        let plan = self.plan().await;
        let done = self.drain().await;
        (plan, done, self.settle().await)
    }

    pub(crate) async fn manifest(&self) -> Manifest {
        manifest::load(&*self.store).await.unwrap().0
    }

    /// Changes the manifest by hand.
    pub(crate) async fn change_manifest(&self, change: impl FnOnce(&mut Manifest)) {
        let (mut manifest, version) = manifest::load(&*self.store).await.unwrap();
        change(&mut manifest);
        manifest::save(&*self.store, &manifest, version.as_ref()).await.unwrap();
    }

    /// The same mirror as the command and the services have it.
    pub(crate) fn pipeline(&self) -> Pipeline {
        let lanes = self.queues.iter().map(|(lane, (work, dead_letters))| LaneQueues {
            lane: *lane,
            work: Arc::clone(work),
            dead_letters: Arc::clone(dead_letters),
        });
        let (store, clock) = (Arc::clone(&self.store), self.clock.clone());
        Pipeline { store, clock, lanes: lanes.collect(), poll: Duration::ZERO }
    }

    pub(crate) fn desk(&self) -> Desk {
        let lanes = self.queues.iter().map(|(lane, (work, dead_letters))| DeskLane {
            lane: *lane,
            work: Arc::clone(work),
            dead_letters: Arc::clone(dead_letters),
        });
        Desk {
            lanes: lanes.collect(),
            store: Arc::clone(&self.store),
            clock: self.clock.clone(),
            wait: Duration::ZERO,
            pace: None,
        }
    }

    pub(crate) async fn letters(&self) -> Vec<Letter> {
        self.desk().go_through(Deed::Look, |_| true).await.unwrap().letters
    }

    /// The folder, if it is on one.
    pub(crate) fn folder(&self) -> Option<&std::path::Path> {
        match &self.ground {
            Ground::Folder(folder) => Some(folder.path()),
            Ground::Cloud(_) => None,
        }
    }

    /// An object's bytes, read past everything that a test put between.
    pub(crate) async fn object(&self, key: &str) -> Option<Vec<u8>> {
        match &self.ground {
            Ground::Folder(_) => std::fs::read(self.folder()?.join(key)).ok(),
            Ground::Cloud(cloud) => cloud.object(key).await.unwrap(),
        }
    }

    /// Writes an object as someone else would, who knows no rules.
    pub(crate) async fn overwrite(&self, key: &str, bytes: &[u8]) {
        match &self.ground {
            Ground::Folder(folder) => {
                let path = folder.path().join(key);
                std::fs::create_dir_all(path.parent().unwrap()).unwrap();
                std::fs::write(path, bytes).unwrap();
            }
            Ground::Cloud(cloud) => cloud.overwrite(key, bytes).await.unwrap(),
        }
    }

    /// Removes an object as someone else would, who knows no rules.
    pub(crate) async fn remove(&self, key: &str) {
        match &self.ground {
            Ground::Folder(folder) => std::fs::remove_file(folder.path().join(key)).unwrap(),
            Ground::Cloud(cloud) => cloud.remove(key).await.unwrap(),
        }
    }

    /// Checks that these formulae's bottles are there, to the byte.
    pub(crate) async fn assert_unchanged(&self, formulae: &[&str]) {
        let expected = self.testbed.expected();
        for bottle in expected.iter().filter(|bottle| formulae.contains(&bottle.formula.as_str())) {
            assert!(self.object(&bottle.key).await == self.testbed.content(&bottle.digest), "{}", bottle.key);
        }
    }

    /// Unfinished files, or uploads in parts.
    pub(crate) async fn left_unfinished(&self) -> usize {
        match &self.ground {
            Ground::Folder(folder) => std::fs::read_dir(folder.path().join("_sync/tmp"))
                .unwrap()
                .flat_map(|owner| std::fs::read_dir(owner.unwrap().path()).unwrap())
                .count(),
            Ground::Cloud(cloud) => cloud.unfinished_uploads().await.unwrap(),
        }
    }

    /// Empties all queues behind everyone's back.
    pub(crate) async fn lose_messages(&mut self) {
        match &self.ground {
            Ground::Folder(folder) => {
                self.queues.clear();
                for name in ["queue.sqlite", "queue.sqlite-wal", "queue.sqlite-shm"] {
                    let _ = std::fs::remove_file(folder.path().join("_sync").join(name));
                }
                self.queues = embedded(folder, &self.clock);
            }
            Ground::Cloud(cloud) => {
                for name in ["small", "large"] {
                    cloud.purge(name).await.unwrap();
                }
            }
        }
    }

    /// Asks something of the producer, as an operator does.
    pub(crate) async fn order(&self, what: What) {
        let order = Order { at: self.clock.now(), what };
        let receipt = Receipt { orders: vec![order], ..Receipt::default() };
        receipt.save(&*self.store, self.clock.now()).await.unwrap();
    }

    /// A file below `api/` as clients read it.
    pub(crate) async fn api(&self, path: &str) -> Option<Vec<u8>> {
        self.object(&format!("api/{path}")).await
    }

    /// A file as upstream has it now.
    pub(crate) fn upstream_api(&self, path: &str) -> Option<Vec<u8>> {
        self.testbed.api_file(&format!("/api/{path}"))
    }

    /// The key of a bottle of homebrew/core.
    pub(crate) fn key_of(&self, formula: &str, tag: &str) -> ObjectKey {
        let expected = self.testbed.expected();
        let bottle = expected.iter().find(|bottle| bottle.formula == formula && bottle.tag == tag).unwrap();
        bottle.key.parse().unwrap()
    }

    /// Upstream's bottles by key, each with its digest.
    pub(crate) fn expected(&self) -> BTreeMap<String, String> {
        self.testbed.expected().into_iter().map(|bottle| (bottle.key, bottle.digest)).collect()
    }

    pub(crate) fn digest_of(&self, formula: &str, tag: &str) -> String {
        let expected = self.testbed.expected();
        expected.iter().find(|bottle| bottle.formula == formula && bottle.tag == tag).unwrap().digest.clone()
    }

    /// Checks that the mirror holds upstream's bottles but `missing`, to the byte,
    /// and every image index.
    pub(crate) async fn assert_whole(&self, missing: &[&str]) {
        let mut expected = self.expected();
        expected.retain(|_, digest| !missing.contains(&digest.as_str()));
        let found: Vec<_> = self.store.list("v2/", None, usize::MAX).await.unwrap();
        let blobs: Vec<_> = found.iter().filter(|meta| meta.key.blob_digest().is_some()).collect();
        assert_eq!(
            blobs.iter().map(|meta| meta.key.as_str()).collect::<Vec<_>>(),
            expected.keys().collect::<Vec<_>>()
        );
        for meta in blobs {
            let bytes = self.store.get(&meta.key).await.unwrap().unwrap().body;
            let digest = &expected[meta.key.as_str()];
            assert!(Some(bytes.to_vec()) == self.testbed.content(digest), "{} has other bytes", meta.key);
        }
        for bottle in self.testbed.expected() {
            // With no bottle to install, there is nothing for an index to say.
            if !expected
                .keys()
                .any(|key| key.starts_with(&format!("v2/homebrew/core/{}/blobs/", bottle.image)))
            {
                continue;
            }
            let key: ObjectKey =
                format!("v2/homebrew/core/{}/manifests/{}", bottle.image, bottle.image_tag).parse().unwrap();
            let index = self.store.get(&key).await.unwrap().unwrap_or_else(|| panic!("{key} is missing"));
            assert_eq!(index.body.to_vec(), self.testbed.index_bytes(&bottle.formula), "{key}");
        }
        assert!(
            self.store.list("_sync/receipts/", None, 1).await.unwrap().is_empty(),
            "a receipt was not folded"
        );
    }
}

fn sqs(cloud: &testbed::Cloud) -> BTreeMap<Lane, Queues> {
    let client = aws_sdk_sqs::Client::new(cloud.config());
    let queue = |name| -> Arc<dyn Queue> { Arc::new(Sqs::new(client.clone(), cloud.queue(name).to_owned())) };
    let pair = |work, dead| (queue(work), queue(dead));
    BTreeMap::from([(Lane::Small, pair("small", "small-dead")), (Lane::Large, pair("large", "large-dead"))])
}

fn embedded(folder: &TempDir, clock: &Clock) -> BTreeMap<Lane, Queues> {
    let file = folder.path().join("_sync/queue.sqlite");
    let embedded = Embedded::open(&file, &folder.path().join("_sync/owners"), clock.clone()).unwrap();
    let pair = |work, dead| -> Queues {
        (Arc::new(embedded.queue(work, Some((dead, 10)))), Arc::new(embedded.queue(dead, None)))
    };
    BTreeMap::from([(Lane::Small, pair("small", "small-dead")), (Lane::Large, pair("large", "large-dead"))])
}

/// Impatient settings for a testbed.
pub(crate) fn settings(testbed: &testbed::Upstream) -> UpstreamSettings {
    let cdn = testbed.cdn_url();
    let host = cdn.strip_prefix("http://").unwrap();
    let files = testbed.files_url();
    let files = files.strip_prefix("http://").unwrap();
    let rewrite = format!("https://ghcr.io={}", testbed.registry_url());
    let routes = Routes::new(&[rewrite.parse().unwrap()], &[host.parse().unwrap(), files.parse().unwrap()])
        .with_origin_of(&Url::parse(&testbed.api_url()).unwrap());
    UpstreamSettings {
        requests_per_second: 100_000,
        stall_timeout: Duration::from_secs(10),
        retry: Policy {
            first_wait: Duration::from_millis(5),
            longest_wait: Duration::from_millis(200),
            budget: Duration::from_secs(2),
        },
        ..UpstreamSettings::new(routes)
    }
}

/// A spec of one formula with one bottle on `x86_64_linux`.
pub(crate) fn one_bottle(name: &str, size: u64) -> testbed::Spec {
    let formula = testbed::FormulaSpec::new(name, "1.0").with_bottle("x86_64_linux", size);
    testbed::Spec { seed: 7, formulae: vec![formula], ..testbed::Spec::default() }
}
