//! Rule 1: verified or invisible.

use std::sync::Arc;
use std::time::Duration;

use common::dead_letter::Reason;
use common::registry::{Upstream, UpstreamSettings};
use common::store::Store;
use testbed::{Fault, Times};
use tokio_util::sync::CancellationToken;

use crate::fixture::{Fixture, one_bottle, settings};

const SMALL: u64 = 300_000;
/// Three parts.
const LARGE: u64 = 17 << 20;

/// Reads a key again and again until told to stop; whether anything was ever there.
fn watch(store: &Arc<dyn Store>, key: &str) -> (CancellationToken, tokio::task::JoinHandle<bool>) {
    let (store, key) = (Arc::clone(store), key.parse().unwrap());
    let stop = CancellationToken::new();
    let stopped = stop.clone();
    let watcher = tokio::spawn(async move {
        let mut seen = false;
        while !stopped.is_cancelled() {
            seen |= store.get(&key).await.unwrap().is_some();
        }
        seen
    });
    (stop, watcher)
}

async fn never_visible(size: u64, fault: Fault, reason: Reason) {
    let fixture = Fixture::new(one_bottle("bad", size)).await;
    let digest = fixture.digest_of("bad", "x86_64_linux");
    fixture.testbed.faults().set(&format!("cdn:*{digest}"), fault.clone(), Times::Always);
    let key = fixture.expected().into_keys().next().unwrap();
    let (stop, watcher) = watch(&fixture.store, &key);
    fixture.sync().await;
    stop.cancel();
    assert!(!watcher.await.unwrap(), "{fault:?}: bad bytes were visible");
    assert!(fixture.object(&key).await.is_none());
    let letters = fixture.letters().await;
    assert_eq!(letters.iter().map(|l| l.letter.failure.reason).collect::<Vec<_>>(), [reason], "{fault:?}");
    assert_eq!(fixture.left_unfinished().await, 0, "{fault:?}: an unfinished file is left");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_digest_never_becomes_visible() {
    never_visible(SMALL, Fault::Corrupt, Reason::WrongDigest).await;
    never_visible(LARGE, Fault::Corrupt, Reason::WrongDigest).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_of_the_wrong_length_never_becomes_visible() {
    for size in [SMALL, LARGE] {
        never_visible(size, Fault::Short { bytes: size - 1 }, Reason::WrongSize).await;
        never_visible(size, Fault::Long { extra: 1 }, Reason::WrongSize).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_range_is_not_taken_for_the_right_one() {
    let fixture = Fixture::new(one_bottle("large", LARGE)).await;
    fixture.testbed.faults().set("cdn:*", Fault::WrongContentRange, Times::Always);
    fixture.sync().await;
    fixture.assert_whole(&[]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wrong_bytes_are_fetched_once_more_from_scratch_and_no_more() {
    let fixture = Fixture::new(one_bottle("once", SMALL)).await;
    let digest = fixture.digest_of("once", "x86_64_linux");
    let pattern = format!("cdn:*{digest}");
    fixture.testbed.faults().set(&pattern, Fault::Corrupt, Times::First(1));
    let (_, done, _) = fixture.sync().await;
    assert_eq!(done.fetched.bottles, 1);
    assert_eq!(fixture.testbed.log().count(&pattern), 2);
    fixture.assert_whole(&[]).await;

    let fixture = Fixture::new(one_bottle("always", SMALL)).await;
    let digest = fixture.digest_of("always", "x86_64_linux");
    let pattern = format!("cdn:*{digest}");
    fixture.testbed.faults().set(&pattern, Fault::Corrupt, Times::Always);
    fixture.sync().await;
    assert_eq!(fixture.testbed.log().count(&pattern), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_bottle_comes_in_ranges_or_whole_where_they_are_refused() {
    for (fault, ranged) in [(None, true), (Some(Fault::NoRange), false), (Some(Fault::RangeRefused), false)] {
        let fixture = Fixture::new(one_bottle("large", LARGE)).await;
        if let Some(fault) = fault.clone() {
            fixture.testbed.faults().set("cdn:*", fault, Times::Always);
        }
        fixture.sync().await;
        fixture.assert_whole(&[]).await;
        let whole =
            fixture.testbed.log().entries().iter().any(|entry| {
                entry.status == 200 && entry.path.contains("/blobs/") && entry.bytes_sent >= LARGE
            });
        assert_eq!(whole, !ranged, "{fault:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bottle_whose_ranges_are_refused_half_way_comes_whole() {
    let fixture = Fixture::new(one_bottle("large", LARGE)).await;
    // Behind one name, a server that takes ranges and then one that doesn't.
    fixture.testbed.faults().set("cdn:*", Fault::NoRange, Times::After(1));
    let (_, done, _) = fixture.sync().await;
    assert_eq!((done.fetched.bottles, done.released), (1, 0));
    fixture.assert_whole(&[]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broken_transfer_goes_on_part_by_part() {
    let fixture = Fixture::new(one_bottle("large", LARGE)).await;
    fixture.testbed.faults().set("cdn:*", Fault::Truncate { after_bytes: 1_000_000 }, Times::First(2));
    fixture.sync().await;
    fixture.assert_whole(&[]).await;

    // Without ranges it begins again from the start.
    let fixture = Fixture::new(one_bottle("large", LARGE)).await;
    fixture.testbed.faults().set("cdn:*", Fault::NoRange, Times::Always);
    fixture.testbed.faults().set("cdn:*", Fault::Truncate { after_bytes: 12_000_000 }, Times::Nth(2));
    fixture.sync().await;
    fixture.assert_whole(&[]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transfer_that_stalls_is_broken_off() {
    let mut fixture = Fixture::new(one_bottle("stalls", SMALL)).await;
    let impatient =
        UpstreamSettings { stall_timeout: Duration::from_millis(400), ..settings(&fixture.testbed) };
    fixture.upstream = Arc::new(Upstream::new(impatient).unwrap());
    let stall = Fault::Stall { after_bytes: 1000, r#for: Duration::from_secs(20) };
    fixture.testbed.faults().set("cdn:*", stall, Times::First(1));
    fixture.sync().await;
    fixture.assert_whole(&[]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bottle_damaged_in_the_store_is_fetched_again() {
    let fixture = Fixture::new(one_bottle("damaged", SMALL)).await;
    fixture.sync().await;
    let key = fixture.expected().into_keys().next().unwrap();
    fixture.overwrite(&key, b"cut").await;
    // The manifest is gone too, so the bottle is asked for again.
    fixture.store.delete(&[common::manifest::KEY.parse().unwrap()]).await.unwrap();
    fixture.sync().await;
    fixture.assert_whole(&[]).await;
}
