//! Rule 2: at least once, idempotent. Nothing is lost and nothing is done wrong.

use std::sync::Arc;
use std::time::Duration;

use common::bottle::ObjectKey;
use common::dead_letter::{Failure, Reason};
use common::manifest::State;
use common::message::{Lane, Message};
use common::queue::{Outgoing, Queue};
use common::receipt::{Entry, Outcome, Receipt};
use common::store::StoreError;
use futures_util::future::BoxFuture;
use testbed::{Fault, FormulaSpec, Spec, Times};
use tokio_util::sync::CancellationToken;

use crate::fixture::{Fixture, one_bottle};
use crate::flaky::{Dice, Fate, FlakyQueue, FlakyStore, HookedStore};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn any_call_may_fail_before_or_after_its_effect() {
    for seed in 1..=crate::SEEDS {
        let mut fixture = Fixture::new(Spec::bulk(seed, 40, 1_000..40_000)).await;
        fixture.most_receives = 1000;
        // A receive that fails after its effect hides messages for this long.
        fixture.visibility = Duration::from_millis(300);
        let sound = Arc::clone(&fixture.store);
        let sound_queues = fixture.queues.clone();
        fixture.make_flaky(&Dice::new(seed * 7919, 12), &Dice::new(seed * 104_729, 12));
        // A settle that reads many receipts may fail every time, at this rate.
        let _ = fixture.repeat_until_whole(30).await;
        fixture.store = sound;
        fixture.queues = sound_queues;
        let (plan, _, _) = fixture.sync().await;
        assert_eq!(plan.total().bottles, 0, "seed {seed}: something was lost");
        assert!(fixture.letters().await.is_empty(), "seed {seed}");
        fixture.assert_whole(&[]).await;
    }
}

/// Each operation of both ports, failing once: the first time or a later one,
/// before its effect or after it took place.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_operation_may_fail_once_before_or_after_its_effect() {
    const OPERATIONS: [&str; 13] = [
        "head",
        "read",
        "put",
        "begin",
        "copy",
        "list",
        "delete",
        "part",
        "complete",
        "send",
        "receive",
        "release",
        "acknowledge",
    ];
    // Two small bottles, one of three parts, and one that is copied.
    let mut spec = Spec::uniform(9, 2, 5_000, &["all"]);
    for name in ["shared", "shared-too"] {
        spec.formulae.push(FormulaSpec::new(name, "1.0").with_content("all", 7_000, 1));
    }
    spec.formulae.push(FormulaSpec::new("large", "1.0").with_bottle("all", 17 << 20));
    let mut fell = 0;
    for operation in OPERATIONS {
        for nth in 1..=crate::NTHS {
            for fate in [Fate::FailsBefore, Fate::FailsAfter] {
                let mut fixture = Fixture::new(spec.clone()).await;
                fixture.visibility = Duration::from_millis(300);
                let (sound, sound_queues) = (Arc::clone(&fixture.store), fixture.queues.clone());
                let dice = Dice::nth(operation, nth, fate);
                fixture.make_flaky(&dice, &dice);
                assert!(fixture.repeat_until_whole(5).await, "{operation} {nth} {fate:?}");
                fell += u64::from(dice.has_fallen());
                fixture.store = sound;
                fixture.queues = sound_queues;
                let (plan, _, _) = fixture.sync().await;
                assert_eq!(plan.total().bottles, 0, "{operation} {nth} {fate:?}: something was lost");
                assert!(fixture.letters().await.is_empty(), "{operation} {nth} {fate:?}");
                fixture.assert_whole(&[]).await;
            }
        }
    }
    // Some operations are not called so often; the first call of each is made.
    assert!(fell >= OPERATIONS.len() as u64, "{fell} calls failed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_whose_time_runs_out_in_the_middle_is_worked_on_twice_and_harms_nothing() {
    let mut fixture = Fixture::new(one_bottle("slow", 9 << 20)).await;
    fixture.visibility = Duration::from_secs(1);
    fixture.most_receives = 100;
    fixture.testbed.faults().set("cdn:*", Fault::Delay(Duration::from_millis(1500)), Times::First(4));
    fixture.plan().await;
    let sound = fixture.queues.clone();
    fixture.make_flaky(&Dice::new(1, 0), &Dice::always("extend"));
    let (a, b) = tokio::join!(fixture.drain(), fixture.drain());
    let finished = a.fetched.bottles + b.fetched.bottles + a.already_held.bottles + b.already_held.bottles;
    assert!(finished >= 2, "the message never came back: {a:?} {b:?}");
    fixture.queues = sound;
    fixture.drain().await;
    fixture.settle().await;
    assert_eq!(fixture.left_unfinished().await, 0);
    fixture.assert_whole(&[]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_that_come_three_times_to_two_workers_end_right() {
    let fixture = Fixture::new(Spec::bulk(4, 30, 1_000..300_000)).await;
    fixture.plan().await;
    for (work, _) in fixture.queues.values() {
        let mut copies = Vec::new();
        loop {
            let batch = work.receive(10, Duration::from_mins(1), Duration::ZERO).await.unwrap();
            if batch.is_empty() {
                break;
            }
            copies.extend(batch);
        }
        let bodies: Vec<_> = copies.iter().map(|copy| Outgoing::new(copy.body.clone())).collect();
        work.send(&bodies).await.unwrap();
        work.send(&bodies).await.unwrap();
        let handles: Vec<_> = copies.into_iter().map(|copy| copy.handle).collect();
        work.release(&handles, Duration::ZERO).await.unwrap();
    }
    tokio::join!(fixture.drain(), fixture.drain());
    let settled = fixture.settle().await;
    assert_eq!((settled.remaining, settled.settled.len()), (0, 1));
    assert_eq!(fixture.manifest().await.tally(None).held.bottles, fixture.expected().len() as u64);
    fixture.assert_whole(&[]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn receipts_may_come_in_any_order() {
    let fixture = Fixture::new(Spec::uniform(1, 3, 2_000, &["all"])).await;
    fixture.plan().await;
    let batch =
        fixture.queues[&Lane::Small].0.receive(10, Duration::from_secs(1), Duration::ZERO).await.unwrap();
    let messages: Vec<_> = batch.iter().map(|delivery| Message::parse(&delivery.body).unwrap()).collect();
    let now = fixture.clock.now();
    let earlier = now.checked_sub(Duration::from_secs(1)).unwrap();
    let report = |message: &Message, at, outcome| {
        let receipt =
            Receipt { entries: vec![Entry { message: message.clone(), at, outcome }], ..Receipt::default() };
        let store = Arc::clone(&fixture.store);
        async move { receipt.save(&*store, at).await.unwrap() }
    };
    let dead = Outcome::Dead(Failure::new(Reason::NotFound, "", 1, now));
    // Held, and reported dead by another delivery: before, after, in one settle or two.
    report(&messages[0], now, Outcome::Held).await;
    report(&messages[0], earlier, dead.clone()).await;
    report(&messages[1], now, Outcome::Held).await;
    report(&messages[2], now, dead.clone()).await;
    fixture.settle().await;
    report(&messages[1], now, dead).await;
    report(&messages[2], earlier, Outcome::Held).await;
    fixture.settle().await;
    let manifest = fixture.manifest().await;
    for message in &messages {
        let record = manifest.bottle(&message.image, &message.digest).unwrap();
        assert_eq!(record.state, State::Held, "{}", message.formula);
    }
}

impl Fixture {
    fn make_flaky(&mut self, store: &Dice, queue: &Dice) {
        self.store = Arc::new(FlakyStore { inner: Arc::clone(&self.store), dice: store.clone() });
        for (work, dead_letters) in self.queues.values_mut() {
            for port in [work, dead_letters] {
                let inner: Arc<dyn Queue> = Arc::clone(port);
                *port = Arc::new(FlakyQueue { inner, dice: queue.clone() });
            }
        }
    }

    /// Like a scheduled system: what fails is begun again. Whether it came to its end.
    async fn repeat_until_whole(&self, most: usize) -> bool {
        for _ in 0..most {
            let _ = self.planner().plan(common::plan::Mode::Queue).await;
            let _ = self.try_drain().await;
            let settled = self.settler().settle().await;
            if settled.is_ok_and(|report| report.remaining == 0)
                && self.manifest_if_any().await.is_some_and(|held| held == self.expected().len())
            {
                return true;
            }
        }
        false
    }

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
    fixture.store = Arc::new(HookedStore::before_put(Arc::clone(&sound), full));
    let error = fixture.try_drain().await.unwrap_err().to_string();
    assert!(error.contains("no room"), "{error}");
    fixture.store = sound;
    assert!(fixture.letters().await.is_empty());
    assert_eq!(fixture.drain().await.fetched.bottles, 6);
    fixture.settle().await;
    fixture.assert_whole(&[]).await;
}
