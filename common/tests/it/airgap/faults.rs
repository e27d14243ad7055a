//! Failures, deaths, and others at work at the same time.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use common::airgap::{Bundles, ImportError, Imports, Outcome, Since};
use common::bottle::ObjectKey;
use common::manifest;
use common::plan::Mode;
use common::store::{Store, StoreError};
use common::verify::Depth;
use futures_util::future::BoxFuture;
use testbed::{FormulaSpec, Spec};

use crate::flaky::{Dice, FlakyStore, HookedStore};

use super::{Gap, assert_content_before_index, small, wave};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn any_call_may_fail_before_or_after_its_effect_on_both_sides() {
    for seed in 1..=crate::SEEDS {
        let mut spec = Spec::bulk(seed, 21, 1_000..40_000);
        spec.formulae.push(FormulaSpec::new("large", "1").with_bottle("all", 9 << 20));
        let mut gap = Gap::new(spec).await;
        let (source, target) = (Arc::clone(&gap.source.store), Arc::clone(&gap.target.store));
        let flaky = |inner: &Arc<dyn Store>, seed| -> Arc<dyn Store> {
            Arc::new(FlakyStore { inner: Arc::clone(inner), dice: Dice::new(seed, 3) })
        };
        gap.source.store = flaky(&source, seed * 7919);
        gap.target.store = flaky(&target, seed * 104_729);
        let path = gap.path("x.tar.zst");
        let mut tries = 0;
        while let Err(error) = gap.try_export(&Since::Start, &path, None).await {
            assert!(!error.is_usage() && !path.exists(), "seed {seed}: {error}");
            tries += 1;
            assert!(tries < 50, "seed {seed}: {error}");
        }
        while let Err(error) = gap.try_import("x.tar.zst").await {
            assert!(!error.is_usage(), "seed {seed}: {error}");
            tries += 1;
            assert!(tries < 100, "seed {seed}: {error}");
        }
        (gap.source.store, gap.target.store) = (source, target);
        gap.target.settle().await;
        gap.assert_equal().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_import_that_dies_at_any_write_is_made_again_and_ends_whole() {
    let mut gap = Gap::new(small()).await;
    gap.export(Since::Start, "0.tar.zst").await;
    let sound = Arc::clone(&gap.target.store);
    let mut deaths = 0;
    loop {
        // The first writes of each life are done, one more each time.
        let left = Arc::new(AtomicUsize::new(deaths));
        let die = move |key: ObjectKey| -> BoxFuture<'static, Result<(), StoreError>> {
            let left = Arc::clone(&left);
            Box::pin(async move {
                let lives =
                    left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1));
                let dead = || StoreError::NoRoom { key: key.to_string(), cause: "killed".to_owned() };
                lives.map(|_| ()).map_err(|_| dead())
            })
        };
        gap.target.store = Arc::new(HookedStore::before_put(Arc::clone(&sound), die));
        let outcome = gap.try_import("0.tar.zst").await;
        gap.target.store = Arc::clone(&sound);
        assert_content_before_index(&gap).await;
        match outcome {
            Ok(_) => break,
            Err(error) => assert!(error.to_string().contains("killed"), "{error}"),
        }
        deaths += 1;
        assert!(deaths < 200);
    }
    // The claim, files, set, indexes, run, manifest, settle, state: bottles were there in time.
    assert!(deaths > 10, "{deaths}");
    gap.assert_equal().await;
    assert_eq!(gap.import("0.tar.zst").await.outcome, Outcome::NothingNew);
}

/// Has something happen, just before the `nth` time that an object is written.
fn before(
    store: &Arc<dyn Store>,
    (key, nth): (&'static str, usize),
    deed: BoxFuture<'static, ()>,
) -> Arc<dyn Store> {
    let (deed, calls) = (Mutex::new(Some(deed)), AtomicUsize::new(0));
    let hook = move |written: ObjectKey| -> BoxFuture<'static, Result<(), StoreError>> {
        let is_due = written.as_str() == key && calls.fetch_add(1, Ordering::Relaxed) + 1 == nth;
        let deed = deed.lock().unwrap().take_if(|_| is_due);
        Box::pin(async move {
            if let Some(deed) = deed {
                deed.await;
            }
            Ok(())
        })
    };
    Arc::new(HookedStore::before_put(Arc::clone(store), hook))
}

/// Three moments of an import: before it says that it begins, before it changes the
/// manifest, and before it says that it has ended.
const MOMENTS: [(&str, usize); 3] =
    [("_sync/imports.json", 1), (manifest::KEY, 1), ("_sync/imports.json", 2)];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_imports_at_once_come_to_what_one_after_the_other_does() {
    for moment in MOMENTS {
        let mut gap = Gap::new(wave(0)).await;
        gap.export(Since::Start, "0.tar.zst").await;
        gap.source.testbed.replace(wave(1));
        gap.source.sync().await;
        let newer = gap.export(Since::Start, "1.tar.zst").await;
        let sound = Arc::clone(&gap.target.store);
        let (importer, bundles) = (gap.importer(false), Bundles::find(&gap.path("1.tar.zst")).await.unwrap());
        let import = async move {
            assert_eq!(importer.import(&bundles).await.unwrap()[0].outcome, Outcome::Applied);
        };
        gap.target.store = before(&sound, moment, Box::pin(import));
        let older = gap.try_import("0.tar.zst").await.unwrap().remove(0);
        gap.target.store = sound;
        assert_eq!(older.mirror_until, Some(newer.interval.until), "{moment:?}");
        gap.assert_equal().await;
        assert!(gap.target.manifest().await.publication.staged.is_empty());
        let (imports, _) = Imports::load(&*gap.target.store).await.unwrap().unwrap();
        assert_eq!(imports.until, Some(newer.interval.until), "{moment:?}");
        // Whichever was first, the other one was made whole, or had nothing to do.
        assert!(!imports.bundles.is_empty());
        assert!(gap.target.verify(Depth::Bytes).await.sound);
        assert_eq!(gap.import("1.tar.zst").await.outcome, Outcome::NothingNew);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_an_import_and_a_sync_on_one_new_place_the_import_gives_way() {
    for moment in ["_sync/imports.json", manifest::KEY] {
        let mut gap = Gap::new(small()).await;
        gap.export(Since::Start, "0.tar.zst").await;
        gap.target.testbed.replace(small());
        let sound = Arc::clone(&gap.target.store);
        let planner = gap.target.planner();
        let plan = async move { drop(planner.plan(Mode::Queue).await.unwrap()) };
        gap.target.store = before(&sound, (moment, 1), Box::pin(plan));
        let error = gap.try_import("0.tar.zst").await.unwrap_err();
        assert!(matches!(error, ImportError::Synced) && error.is_usage(), "{moment}: {error}");
        gap.target.store = sound;
        // Nothing keeps the sync from going on.
        assert!(Imports::load(&*gap.target.store).await.unwrap().is_none(), "{moment}");
        gap.target.drain().await;
        gap.target.settle().await;
        gap.target.assert_whole(&[]).await;
    }
}
