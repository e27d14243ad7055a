//! Rule 2: at least once, idempotent. Nothing is lost and nothing is done wrong.

use std::sync::Arc;
use std::time::Duration;

use common::bottle::ObjectKey;
use common::message::Lane;
use common::queue::Queue;
use common::store::StoreError;
use futures_util::future::BoxFuture;
use testbed::{Fault, Spec, Times};
use tokio_util::sync::CancellationToken;

use crate::fixture::{Fixture, one_bottle};
use crate::flaky::{Dice, FlakyQueue, FlakyStore, HookedStore};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn any_call_may_fail_before_or_after_its_effect() {
    for seed in 1..=crate::SEEDS {
        let mut fixture = Fixture::new(Spec::bulk(seed, 40, 1_000..40_000)).await;
        fixture.most_receives = 1000;
        // A receive that fails after its effect hides messages for this long.
        fixture.visibility = Duration::from_millis(300);
        let sound = Arc::clone(&fixture.store);
        fixture.store = Arc::new(FlakyStore { inner: Arc::clone(&sound), dice: Dice::new(seed * 7919, 12) });
        let sound_queues = fixture.queues.clone();
        for (work, dead_letters) in fixture.queues.values_mut() {
            for queue in [work, dead_letters] {
                let inner: Arc<dyn Queue> = Arc::clone(queue);
                *queue = Arc::new(FlakyQueue { inner, dice: Dice::new(seed * 104_729, 12) });
            }
        }
        // Like a scheduled system: what fails is begun again.
        for _ in 0..200 {
            let _ = fixture.planner().plan(common::plan::Mode::Queue).await;
            let _ = fixture.try_drain().await;
            let settled = fixture.settler().settle().await;
            if settled.is_ok_and(|report| report.remaining == 0)
                && fixture.manifest_if_any().await.is_some_and(|held| held == fixture.expected().len())
            {
                break;
            }
        }
        fixture.store = sound;
        fixture.queues = sound_queues;
        let (plan, _, _) = fixture.sync().await;
        assert_eq!(plan.total().bottles, 0, "seed {seed}: something was lost");
        assert!(fixture.letters().await.is_empty(), "seed {seed}");
        fixture.assert_whole(&[]).await;
    }
}

impl Fixture {
    /// How many bottles are held, if the manifest can be read this time.
    async fn manifest_if_any(&self) -> Option<usize> {
        let (manifest, _) = common::manifest::load(&*self.store).await.ok()?;
        usize::try_from(manifest.tally(None).held.bottles).ok()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_that_arrives_twice_is_fetched_once() {
    let fixture = Fixture::new(Spec::uniform(1, 10, 5_000, &["all"])).await;
    fixture.plan().await;
    let queue = &fixture.queues[&Lane::Small].0;
    let copies = queue.receive(100, Duration::from_secs(1), Duration::ZERO).await.unwrap();
    let bodies: Vec<_> = copies.iter().map(|copy| common::queue::Outgoing::new(copy.body.clone())).collect();
    queue
        .release(&copies.into_iter().map(|copy| copy.handle).collect::<Vec<_>>(), Duration::ZERO)
        .await
        .unwrap();
    let first = fixture.drain().await;
    queue.send(&bodies).await.unwrap();
    queue.send(&bodies).await.unwrap();
    let second = fixture.drain().await;
    fixture.settle().await;
    assert_eq!((first.fetched.bottles, second.fetched.bottles, second.already_held.bottles), (10, 0, 20));
    fixture.assert_whole(&[]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_vanishes_in_the_middle_loses_nothing() {
    let mut fixture = Fixture::new(Spec::bulk(5, 60, 1_000..2_000_000)).await;
    fixture.visibility = Duration::from_millis(200);
    fixture.testbed.faults().set("cdn:*", Fault::Delay(Duration::from_millis(20)), Times::Always);
    fixture.plan().await;
    for turn in 1..8 {
        // Dropped at some await, as if the process had been killed there.
        let _ = tokio::time::timeout(Duration::from_millis(15 * turn), fixture.drain()).await;
    }
    fixture.testbed.faults().clear();
    fixture.most_receives = 100;
    fixture.drain().await;
    fixture.settle().await;
    fixture.assert_whole(&[]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_transfer_keeps_its_message() {
    let mut fixture = Fixture::new(one_bottle("slow", 100_000)).await;
    fixture.visibility = Duration::from_millis(600);
    fixture.testbed.faults().set("cdn:*", Fault::Delay(Duration::from_millis(1500)), Times::Always);
    fixture.plan().await;
    // A second worker watches for the message to come free.
    let (a, b) = tokio::join!(fixture.drain(), fixture.drain());
    assert_eq!(a.fetched.bottles + b.fetched.bottles, 1, "{a:?} {b:?}");
    assert_eq!(fixture.testbed.log().count("cdn:*"), 1);
}

/// Waits until so many bottles are asked for.
async fn transfers_under_way(fixture: &Fixture, count: usize) {
    for _ in 0..1000 {
        if fixture.testbed.log().count("cdn:*") >= count {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("{count} transfers never began");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_is_told_to_stop_gives_its_messages_back_at_once() {
    let fixture = Fixture::new(Spec::uniform(1, 12, 50_000, &["all"])).await;
    fixture.testbed.faults().set("cdn:*", Fault::Delay(Duration::from_secs(3)), Times::Always);
    fixture.plan().await;
    let cancel = CancellationToken::new();
    let mut worker = fixture.worker(Lane::Small);
    worker.settings.concurrency = 4;
    worker.settings.grace = Duration::ZERO;
    let stop = async {
        transfers_under_way(&fixture, 4).await;
        cancel.cancel();
    };
    let (outcome, ()) = tokio::join!(worker.run(&cancel), stop);
    outcome.unwrap();
    let depth = fixture.queues[&Lane::Small].0.depth().await.unwrap();
    assert_eq!((depth.visible, depth.in_flight), (12, 0));
    assert_eq!(worker.progress.now().released, 4);
    assert!(fixture.store.list("v2/", None, 10).await.unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn transfers_under_way_end_within_the_grace() {
    let fixture = Fixture::new(Spec::uniform(1, 12, 50_000, &["all"])).await;
    fixture.testbed.faults().set("cdn:*", Fault::Delay(Duration::from_millis(700)), Times::Always);
    fixture.plan().await;
    let cancel = CancellationToken::new();
    let mut worker = fixture.worker(Lane::Small);
    worker.settings.concurrency = 4;
    let stop = async {
        transfers_under_way(&fixture, 4).await;
        cancel.cancel();
    };
    let (outcome, ()) = tokio::join!(worker.run(&cancel), stop);
    outcome.unwrap();
    assert_eq!(worker.progress.now().fetched.bottles, 4);
    assert_eq!(fixture.queues[&Lane::Small].0.depth().await.unwrap().visible, 8);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_takes_nothing_stops_the_worker_and_harms_no_message() {
    let mut fixture = Fixture::new(Spec::uniform(1, 6, 5_000, &["all"])).await;
    fixture.plan().await;
    let sound = Arc::clone(&fixture.store);
    let full = |key: ObjectKey| -> BoxFuture<'static, Result<(), StoreError>> {
        Box::pin(async move {
            Err(StoreError::NoRoom { key: key.to_string(), cause: "the disk is full".to_owned() })
        })
    };
    fixture.store = Arc::new(HookedStore { inner: Arc::clone(&sound), before_put: Box::new(full) });
    let error = fixture.try_drain().await.unwrap_err().to_string();
    assert!(error.contains("no room"), "{error}");
    fixture.store = sound;
    assert!(fixture.letters().await.is_empty());
    assert_eq!(fixture.drain().await.fetched.bottles, 6);
    fixture.settle().await;
    fixture.assert_whole(&[]).await;
}
