//! Settle: indexes after bottles, runs that end, messages that are lost.

use std::time::Duration;

use bytes::Bytes;
use common::clock::Clock;
use common::message::Lane;
use common::plan::Mode;
use common::store::Condition;
use testbed::{Fault, FormulaSpec, Spec, Times};

use crate::fixture::Fixture;

fn two_platforms() -> Spec {
    let formula =
        FormulaSpec::new("tool", "1.0").with_bottle("x86_64_linux", 4_000).with_bottle("arm64_tahoe", 4_001);
    Spec { seed: 2, formulae: vec![formula], ..Spec::default() }
}

const INDEX: &str = "v2/homebrew/core/tool/manifests/1.0";

fn missing() -> Fault {
    Fault::Status { code: 404, retry_after: None }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_index_is_seen_only_after_the_bottles_that_it_names() {
    let fixture = Fixture::new(two_platforms()).await;
    fixture.plan().await;
    assert_eq!(fixture.settle().await.indexes, 0);
    assert!(fixture.object(INDEX).await.is_none());
    fixture.drain().await;
    assert!(fixture.object(INDEX).await.is_none(), "a consumer published an index");
    assert_eq!(fixture.settle().await.indexes, 1);
    fixture.assert_whole(&[]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_index_waits_for_the_last_of_its_bottles() {
    let large = crate::fixture::SIZE_THRESHOLD + 1;
    let formula =
        FormulaSpec::new("tool", "1.0").with_bottle("x86_64_linux", 4_000).with_bottle("arm64_tahoe", large);
    let fixture = Fixture::new(Spec { seed: 2, formulae: vec![formula], ..Spec::default() }).await;
    fixture.plan().await;
    // Only the small one is mirrored so far.
    fixture.worker(Lane::Small).run(&tokio_util::sync::CancellationToken::new()).await.unwrap();
    assert_eq!(fixture.settle().await.indexes, 0);
    assert!(fixture.object(INDEX).await.is_none());
    fixture.drain().await;
    assert_eq!(fixture.settle().await.indexes, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_bottle_does_not_hold_back_the_index_from_its_neighbours() {
    let fixture = Fixture::new(two_platforms()).await;
    let dead = fixture.digest_of("tool", "x86_64_linux");
    fixture.testbed.faults().set(&format!("*{dead}"), missing(), Times::Always);
    fixture.sync().await;
    fixture.assert_whole(&[&dead]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_index_of_dead_bottles_does_not_take_away_held_ones() {
    let fixture = Fixture::new(two_platforms()).await;
    fixture.sync().await;
    let before = fixture.object(INDEX).await.unwrap();
    // Under the same tag the Linux bottle is another one now, and it is dead.
    let mut spec = two_platforms();
    spec.formulae[0].bottles[0].content = 99;
    fixture.testbed.replace(spec);
    let dead = fixture.digest_of("tool", "x86_64_linux");
    fixture.testbed.faults().set(&format!("*{dead}"), missing(), Times::Always);
    fixture.sync().await;
    assert_eq!(fixture.object(INDEX).await.unwrap(), before);

    // Once it is mended, the new index comes.
    fixture.testbed.faults().clear();
    fixture.desk().go_through(common::dead_letter::Deed::Replay, |_| true).await.unwrap();
    fixture.drain().await;
    fixture.settle().await;
    assert_eq!(fixture.object(INDEX).await.unwrap(), fixture.testbed.index_bytes("tool"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_is_settled_when_all_is_accounted_for_and_not_before() {
    let fixture = Fixture::new(Spec::uniform(1, 4, 2_000, &["all"])).await;
    let plan = fixture.plan().await;
    let early = fixture.settle().await;
    assert_eq!((early.remaining, early.settled.len()), (4, 0));
    fixture.drain().await;
    let late = fixture.settle().await;
    assert_eq!((late.remaining, late.settled.len()), (0, 1));
    assert_eq!(Some(&late.settled[0].id), plan.run.as_ref());
    assert_eq!(late.settled[0].outcome.as_ref().unwrap().held.bottles, 4);
    let idle = fixture.settle().await;
    assert_eq!((idle.receipts, idle.settled.len(), idle.indexes), (0, 0, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_message_is_noticed_and_its_bottle_planned_again() {
    let mut fixture = Fixture::new(Spec::uniform(1, 4, 2_000, &["all"])).await;
    fixture.plan().await;
    // The queue is gone with everything in it.
    fixture.lose_messages().await;
    let settled = fixture.settle().await;
    assert_eq!(settled.settled[0].outcome.as_ref().unwrap().lost, 4);
    let (plan, done, _) = fixture.sync().await;
    assert_eq!((plan.total().bottles, done.fetched.bottles), (4, 4));
    fixture.assert_whole(&[]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_without_progress_is_stalled() {
    let mut fixture = Fixture::new(Spec::uniform(1, 4, 2_000, &["all"])).await;
    fixture.clock = Clock::manual("2026-01-01T00:00:00Z".parse().unwrap());
    let plan = fixture.plan().await;
    assert!(fixture.settle().await.stalled.is_empty());
    fixture.clock.advance(Duration::from_hours(2));
    let run = plan.run.unwrap();
    let found = fixture.settle().await.stalled;
    assert_eq!((found.len(), &found[0].run, found[0].is_new), (1, &run, true));
    // Told once, however long it lasts.
    let again = fixture.settle().await.stalled;
    assert_eq!((again.len(), again[0].is_new), (1, false));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_that_must_have_died_is_sent_again() {
    let mut fixture = Fixture::new(Spec::uniform(1, 2, 2_000, &["all"])).await;
    fixture.clock = Clock::manual("2026-01-01T00:00:00Z".parse().unwrap());
    fixture.plan().await;
    fixture.clock.advance(common::manifest::QUEUE_RETENTION.checked_sub(Duration::from_secs(1)).unwrap());
    assert_eq!(fixture.plan().await.total().bottles, 0);
    fixture.clock.advance(Duration::from_hours(2));
    assert_eq!(fixture.plan().await.total().bottles, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_receipt_that_cannot_be_read_is_put_aside_and_stops_nothing() {
    let fixture = Fixture::new(Spec::uniform(1, 2, 2_000, &["all"])).await;
    fixture.plan().await;
    fixture.drain().await;
    let key = "_sync/receipts/00-broken.json".parse().unwrap();
    fixture.store.put(&key, Bytes::from_static(b"{\"entries\":[{]").into(), Condition::Always).await.unwrap();
    let settled = fixture.settle().await;
    assert_eq!((settled.unreadable, settled.settled.len()), (1, 1));
    fixture.assert_whole(&[]).await;
    assert!(fixture.object("_sync/receipts-unreadable/00-broken.json").await.is_some());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_plan_that_runs_out_of_time_is_gone_on_with() {
    let fixture = Fixture::new(Spec::bulk(1, 140, 500..900)).await;
    let mut planner = fixture.planner();
    planner.settings.deadline = Some(tokio::time::Instant::now());
    let first = planner.plan(Mode::Queue).await.unwrap();
    assert!(!first.complete && first.total().bottles > 0);
    // What was queued is worked on; the run is not over.
    fixture.drain().await;
    assert!(fixture.settle().await.settled.is_empty());
    let second = fixture.plan().await;
    assert!(second.complete);
    assert_eq!(second.run, first.run);
    fixture.drain().await;
    let settled = fixture.settle().await.settled;
    assert_eq!(settled.len(), 1);
    // The record speaks of both parts.
    assert_eq!(settled[0].small.bottles, fixture.expected().len() as u64);
    fixture.assert_whole(&[]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_bottles_go_to_the_large_queue() {
    let spec = Spec {
        seed: 1,
        formulae: vec![
            FormulaSpec::new("small", "1").with_bottle("all", crate::fixture::SIZE_THRESHOLD),
            FormulaSpec::new("large", "1").with_bottle("all", crate::fixture::SIZE_THRESHOLD + 1),
        ],
        ..Spec::default()
    };
    let fixture = Fixture::new(spec).await;
    fixture.plan().await;
    for lane in Lane::ALL {
        assert_eq!(fixture.queues[&lane].0.depth().await.unwrap().visible, 1, "{lane}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_whose_letters_are_sent_back_is_open_until_they_are_accounted_for() {
    let fixture = Fixture::new(two_platforms()).await;
    let bad = fixture.digest_of("tool", "x86_64_linux");
    fixture.testbed.faults().set(&format!("cdn:*{bad}"), missing(), Times::Always);
    let (plan, _, settled) = fixture.sync().await;
    let run = plan.run.unwrap();
    assert_eq!((settled.settled.len(), settled.settled[0].outcome.as_ref().unwrap().dead), (1, 1));

    fixture.testbed.faults().clear();
    fixture.desk().go_through(common::dead_letter::Deed::Replay, |_| true).await.unwrap();
    let report = fixture.settle().await;
    assert_eq!((report.remaining, report.settled.len()), (1, 0), "a run is settled before its bottles are");
    assert!(fixture.manifest().await.runs.contains_key(&run));
    fixture.drain().await;
    let report = fixture.settle().await;
    let outcome = report.settled[0].outcome.as_ref().unwrap();
    assert_eq!((&report.settled[0].id, outcome.dead, outcome.lost), (&run, 0, 0));
    assert!(fixture.manifest().await.runs.is_empty());
    fixture.assert_whole(&[]).await;
}
