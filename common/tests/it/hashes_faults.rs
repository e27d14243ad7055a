//! An import that breaks in the middle, and is gone on with.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use common::bottle::ObjectKey;
use common::hash_file::{ImportError, Importer, Why};
use common::store::{Condition, Store};
use testbed::Spec;
use tokio_util::sync::CancellationToken;

use crate::fixture::Fixture;
use crate::flaky::{Dice, Fate, FlakyStore};
use crate::hashes::{DAY, Old, fetches, import, importer, keys, object, spec};
use crate::hashes_meddled::Meddled;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_read_that_breaks_goes_on_where_it_broke_unless_the_object_changed() {
    const SIZE: u64 = 1_500_000;
    let spec = Spec::uniform(8, 1, SIZE, &["all"]);
    for changes in [false, true] {
        let mut fixture = Fixture::new(spec.clone()).await;
        let old = Old::of(&fixture, &spec).await;
        let dated = object(DAY, &spec.formulae[0], "all");
        let mut meddled = Meddled::of(&fixture);
        meddled.breaks.store(1, Ordering::Relaxed);
        let (inner, key) = (Arc::clone(&fixture.store), dated.parse().unwrap());
        let content = fixture.testbed.content(&fixture.digest_of("uniform-00001", "all")).unwrap();
        meddled.before_second_read = Some(Box::new(move || {
            let (inner, key, content) = (Arc::clone(&inner), ObjectKey::clone(&key), content.clone());
            Box::pin(async move {
                if changes {
                    // The end is the same: what is read of it would hash right.
                    let mut other = content;
                    other[0] ^= 1;
                    inner.put(&key, other.into(), Condition::Always).await.unwrap();
                }
            })
        }));
        let meddled = Arc::new(meddled);
        fixture.store = Arc::clone(&meddled) as Arc<dyn Store>;
        let report = import(&fixture, &old).await;
        let reads = meddled.reads.lock().unwrap().clone();
        let of_it: Vec<_> = reads.iter().filter(|(key, _)| *key == dated).map(|(_, range)| range).collect();
        assert_eq!(of_it.len(), 2, "{of_it:?}");
        assert!(matches!(of_it[1], Some(Range { start: 1.., end: SIZE })), "{of_it:?}");
        if changes {
            assert_eq!(report.skipped[0].why, Why::Changed);
            assert!(keys(&fixture, "v2/").await.is_empty());
        } else {
            assert_eq!((report.adopted.bottles, report.skipped.len()), (1, 0));
        }
    }
}

/// As long as every try brings some bytes, the next one goes on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_read_may_break_more_often_than_it_may_fail_in_a_row() {
    let spec = Spec::uniform(8, 1, 5_000_000, &["all"]);
    let mut fixture = Fixture::new(spec.clone()).await;
    let old = Old::of(&fixture, &spec).await;
    let meddled = Meddled::over(&mut fixture);
    meddled.breaks.store(12, Ordering::Relaxed);
    let report = import(&fixture, &old).await;
    assert_eq!((report.adopted.bottles, report.skipped.len()), (1, 0), "{:?}", report.skipped);
    assert_eq!(meddled.breaks.load(Ordering::Relaxed), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_import_that_dies_before_its_receipt_is_gone_on_with() {
    for fate in [Fate::FailsBefore, Fate::FailsAfter] {
        let mut fixture = Fixture::new(spec()).await;
        let old = Old::of(&fixture, &spec()).await;
        let sound = Arc::clone(&fixture.store);
        // The copies are made, and nothing is said of them: as if it was killed.
        fixture.store = Arc::new(FlakyStore { inner: Arc::clone(&sound), dice: Dice::always("put") });
        let died = importer(&fixture).import(old.file()).await;
        assert!(matches!(died, Err(ImportError::Store(_))), "{died:?}");
        fixture.store = Arc::clone(&sound);
        assert!(keys(&fixture, "_sync/receipts/").await.is_empty());
        assert_eq!(keys(&fixture, "v2/").await.len(), 7);
        // A receipt that is written and not heard of is written twice.
        let dice = Dice::nth("put", 1, fate);
        fixture.store = Arc::new(FlakyStore { inner: Arc::clone(&sound), dice: dice.clone() });
        let report = import(&fixture, &old).await;
        assert!(dice.has_fallen());
        assert_eq!((report.held.bottles, report.adopted.bottles, report.skipped.len()), (7, 0, 0));
        fixture.store = sound;
        fixture.settle().await;
        fixture.sync().await;
        assert_eq!(fetches(&fixture), 0);
        fixture.assert_whole(&[]).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_operation_may_fail_once_before_or_after_its_effect() {
    for operation in ["list", "read", "adopt", "copy", "put"] {
        for nth in 1..=crate::NTHS {
            for fate in [Fate::FailsBefore, Fate::FailsAfter] {
                let mut fixture = Fixture::new(spec()).await;
                let old = Old::of(&fixture, &spec()).await;
                let sound = Arc::clone(&fixture.store);
                let dice = Dice::nth(operation, nth, fate);
                fixture.store = Arc::new(FlakyStore { inner: Arc::clone(&sound), dice: dice.clone() });
                // The manifest's own read is not tried again here, but by the operator.
                if let Err(error) = importer(&fixture).import(old.file()).await {
                    assert!(operation == "read" && nth == 1, "{operation} {nth} {fate:?}: {error}");
                    import(&fixture, &old).await;
                }
                assert!(dice.has_fallen() || nth > 1, "{operation} was not called");
                fixture.store = sound;
                fixture.settle().await;
                fixture.sync().await;
                assert_eq!(fetches(&fixture), 0, "{operation} {nth} {fate:?}");
                fixture.assert_whole(&[]).await;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_import_on_a_store_that_fails_often_comes_to_its_end() {
    for seed in 1..=crate::SEEDS {
        let spec = Spec::bulk(seed, 60, 500..60_000);
        let mut fixture = Fixture::new(spec.clone()).await;
        let old = Old::of(&fixture, &spec).await;
        let sound = Arc::clone(&fixture.store);
        let dice = Dice::new(seed * 7919, 30);
        fixture.store = Arc::new(FlakyStore { inner: Arc::clone(&sound), dice });
        let mut ended = false;
        for _ in 0..50 {
            // What could not be read this time may be the next time.
            ended = importer(&fixture).import(old.file()).await.is_ok_and(|report| report.skipped.is_empty());
            if ended {
                break;
            }
        }
        assert!(ended, "seed {seed}");
        fixture.store = sound;
        fixture.settle().await;
        fixture.sync().await;
        assert_eq!(fetches(&fixture), 0, "seed {seed}");
        fixture.assert_whole(&[]).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_import_that_is_asked_to_stop_reports_what_it_finished() {
    let spec = Spec::uniform(8, 40, 5_000, &["all"]);
    let mut fixture = Fixture::new(spec.clone()).await;
    let old = Old::of(&fixture, &spec).await;
    let sound = Arc::clone(&fixture.store);
    let mut meddled = Meddled::of(&fixture);
    let (importer_stops, adopted) = (CancellationToken::new(), Arc::new(AtomicUsize::new(0)));
    let stop = importer_stops.clone();
    meddled.before_adopt = Some(Box::new(move || {
        let (stop, nth) = (stop.clone(), adopted.fetch_add(1, Ordering::Relaxed));
        Box::pin(async move {
            if nth == 10 {
                stop.cancel();
            }
        })
    }));
    fixture.store = Arc::new(meddled);
    let importer = Importer { stop: importer_stops, ..importer(&fixture) };
    let stopped = importer.import(old.file()).await;
    assert!(matches!(stopped, Err(ImportError::Stopped)), "{stopped:?}");
    fixture.store = sound;
    fixture.settle().await;
    let held = fixture.manifest().await.tally(None).held.bottles;
    assert_eq!(held, keys(&fixture, "v2/").await.len() as u64);
    assert!((11..20).contains(&held), "{held}");
    // One that is asked before it began says the same.
    let stopped = importer.import(old.file()).await;
    assert!(matches!(stopped, Err(ImportError::Stopped)), "{stopped:?}");
    let report = import(&fixture, &old).await;
    assert_eq!((report.recorded.bottles, report.adopted.bottles), (held, 40 - held));
}
