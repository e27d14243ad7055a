//! What is carried, and in which order it is applied.

use std::collections::{BTreeMap, BTreeSet};

use common::airgap::{ImportError, Imports, Outcome, Since};
use common::bottle::Digest;
use common::manifest::Manifest;
use jiff::Timestamp;

use crate::fixture::Fixture;

use super::{Gap, after, edit, picture, small, unpack, wave};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mirror_and_what_is_new_in_it_arrive_byte_for_byte() {
    let gap = Gap::new(wave(0)).await;
    let first = gap.export(Since::Start, "0.tar.zst").await;
    assert_eq!(first.bottles, gap.source.manifest().await.tally(None).held);
    let imported = gap.import("0.tar.zst").await;
    assert_eq!((imported.outcome, imported.bottles), (Outcome::Applied, first.bottles));
    assert_eq!((imported.indexes as u64, imported.found.bottles), (first.indexes, 0));
    gap.assert_equal().await;

    let mut last = first;
    for number in 1..=2 {
        let before = picture(&*gap.source.store).await;
        gap.source.testbed.replace(wave(number));
        gap.source.sync().await;
        let now = picture(&*gap.source.store).await;
        let name = format!("{number}.tar.zst");
        let delta = gap.export(after(&last), &name).await;
        assert_eq!(delta.interval.since, Some(last.interval.until));

        // What is new is in it, and nothing else.
        let new: BTreeSet<_> = now.iter().filter(|(key, digest)| before.get(*key) != Some(digest)).collect();
        let entries = unpack(&gap.path(&name));
        let served = entries.iter().filter(|(name, _)| name.starts_with("v2/"));
        let carried: BTreeMap<_, _> = served.map(|(name, bytes)| (name.clone(), Digest::of(bytes))).collect();
        assert!(new.len() > 3);
        assert_eq!(carried.iter().collect::<BTreeSet<_>>(), new);
        assert_eq!(entries.first().unwrap().0, "bundle.json");
        assert_eq!(entries.last().unwrap().0, "end.json");

        let imported = gap.import(&name).await;
        assert_eq!((imported.bottles, imported.missing.bottles), (delta.bottles, 0));
        gap.assert_equal().await;
        last = delta;
    }

    // Once more changes nothing, nor does an older one.
    let state = Imports::load(&*gap.target.store).await.unwrap().unwrap();
    assert_eq!(state.0.bundles.len(), 3);
    for name in ["2.tar.zst", "0.tar.zst"] {
        assert_eq!(gap.import(name).await.outcome, Outcome::NothingNew);
    }
    assert_eq!(Imports::load(&*gap.target.store).await.unwrap().unwrap(), state);
    // With nothing new a bundle is empty, and changes nothing.
    let empty = gap.export(after(&last), "empty.tar.zst").await;
    assert_eq!((empty.bottles.bottles, empty.indexes, empty.interval.until), (0, 0, last.interval.until));
    assert_eq!(gap.import("empty.tar.zst").await.outcome, Outcome::NothingNew);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bundles_of_one_folder_are_applied_in_order_and_may_overlap() {
    let gap = Gap::new(wave(0)).await;
    let folder = gap.path("carried/");
    let mut last = Since::Start;
    let mut before_last = Since::Start;
    for number in 0..=2 {
        gap.source.testbed.replace(wave(number));
        gap.source.sync().await;
        // Each begins where the one before the last ended.
        let exported = gap.try_export(&before_last, &folder, None).await.unwrap();
        before_last = std::mem::replace(&mut last, after(&exported));
    }
    let imported = gap.try_import("carried").await.unwrap();
    assert_eq!(imported.len(), 3);
    assert!(imported.iter().all(|bundle| bundle.outcome == Outcome::Applied && bundle.missing.bottles == 0));
    assert!(imported[1].found.bottles > 0, "they overlap");
    // The one to which platforms were appended, and the new one; the others are in place.
    assert_eq!(imported[1].indexes, 2);
    gap.assert_equal().await;
    // What was staged and not needed is gone.
    let left = gap.target.store.list("_sync/runs/", None, usize::MAX).await.unwrap();
    assert!(left.iter().all(|meta| !meta.key.as_str().contains("/staged/")), "{left:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gap_is_refused_by_name_and_so_is_another_mirror() {
    let gap = Gap::new(small()).await;
    let first = gap.export(Since::Start, "0.tar.zst").await;
    gap.source.testbed.replace(wave(0));
    gap.source.sync().await;
    let second = gap.export(after(&first), "1.tar.zst").await;
    gap.source.testbed.replace(wave(1));
    gap.source.sync().await;
    gap.export(after(&second), "2.tar.zst").await;

    let error = gap.refused("1.tar.zst").await;
    assert!(matches!(error, ImportError::NotFromStart { .. }) && error.is_usage(), "{error}");
    assert!(error.to_string().contains("--since start"), "{error}");
    gap.import("0.tar.zst").await;
    let before = picture(&*gap.target.store).await;
    let error = gap.try_import("2.tar.zst").await.unwrap_err();
    assert!(matches!(error, ImportError::Gap { .. }) && error.is_usage(), "{error}");
    let (have, since) = (first.interval.until.to_string(), second.interval.until.to_string());
    let text = error.to_string();
    assert!(text.contains(&format!("--since {have}")) && text.contains(&since), "{text}");
    assert_eq!(picture(&*gap.target.store).await, before);

    let other = Gap::new(small()).await;
    other.export(Since::Start, "0.tar.zst").await;
    let error = gap.try_import_path(&other.path("0.tar.zst"), false).await.unwrap_err();
    assert!(matches!(error, ImportError::OtherMirror { .. }) && error.is_usage(), "{error}");

    gap.import("1.tar.zst").await;
    gap.import("2.tar.zst").await;
    gap.assert_equal().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mirror_that_is_synced_takes_no_bundle() {
    let mut gap = Gap::new(small()).await;
    gap.export(Since::Start, "0.tar.zst").await;
    gap.target = Fixture::new(small()).await;
    gap.target.sync().await;
    let before = gap.target.manifest().await;
    let error = gap.try_import("0.tar.zst").await.unwrap_err();
    assert!(matches!(error, ImportError::Synced) && error.is_usage(), "{error}");
    assert_eq!(gap.target.manifest().await, before);
    assert!(Imports::load(&*gap.target.store).await.unwrap().is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_upstream_dropped_is_dropped_behind_the_gap_and_taken_back_there_too() {
    let gap = Gap::new(small()).await;
    let mut last = gap.export(Since::Start, "0.tar.zst").await;
    gap.import("0.tar.zst").await;
    let dropped = |manifest: &Manifest| {
        let bottles = manifest.images.values().flat_map(|image| image.bottles.values());
        bottles.filter(|record| record.dropped_at.is_some()).count()
    };
    // The same bottles are dropped, and listed again.
    for (number, at) in [(1, Some("2026-11-01T00:00:00Z")), (2, None)] {
        let at: Option<Timestamp> = at.map(|at| at.parse().unwrap());
        edit(&*gap.source.store, |manifest| {
            manifest.tick(gap.source.clock.now());
            let image = manifest.images.values_mut().next().unwrap();
            image.bottles.values_mut().for_each(|record| record.dropped_at = at);
        })
        .await;
        let name = format!("{number}.tar.zst");
        last = gap.export(after(&last), &name).await;
        assert_eq!(last.bottles.bottles, 0);
        gap.import(&name).await;
        let (ours, theirs) = (gap.target.manifest().await, gap.source.manifest().await);
        assert_eq!(dropped(&ours), if at.is_some() { 2 } else { 0 });
        for (path, image) in &theirs.images {
            for (digest, record) in &image.bottles {
                assert_eq!(ours.bottle(path, digest).unwrap().dropped_at, record.dropped_at);
            }
        }
    }
    gap.assert_equal().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_a_folder_with_a_gap_in_it_nothing_is_applied() {
    let gap = Gap::new(small()).await;
    let folder = gap.path("carried/");
    let first = gap.try_export(&Since::Start, &folder, None).await.unwrap();
    gap.source.testbed.replace(wave(0));
    gap.source.sync().await;
    let second = gap.try_export(&after(&first), &folder, None).await.unwrap();
    gap.source.testbed.replace(wave(1));
    gap.source.sync().await;
    gap.try_export(&after(&second), &folder, None).await.unwrap();
    let aside = gap.path("aside");
    std::fs::rename(&second.files[0].path, &aside).unwrap();
    let error = gap.refused("carried").await;
    assert!(matches!(error, ImportError::Gap { .. }) && error.is_usage(), "{error}");
    assert!(error.to_string().contains(&format!("--since {}", first.interval.until)), "{error}");
    assert!(picture(&*gap.target.store).await.is_empty(), "the first bundle was applied");
    assert!(Imports::load(&*gap.target.store).await.unwrap().is_none());
    std::fs::rename(&aside, &second.files[0].path).unwrap();
    assert_eq!(gap.try_import("carried").await.unwrap().len(), 3);
    gap.assert_equal().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_old_bundle_says_up_to_where_the_mirror_is() {
    let gap = Gap::new(small()).await;
    let first = gap.export(Since::Start, "0.tar.zst").await;
    gap.source.testbed.replace(wave(0));
    gap.source.sync().await;
    let second = gap.export(after(&first), "1.tar.zst").await;
    gap.import("0.tar.zst").await;
    assert_eq!(gap.import("1.tar.zst").await.mirror_until, Some(second.interval.until));
    let old = gap.import("0.tar.zst").await;
    assert_eq!((old.outcome, old.mirror_until), (Outcome::NothingNew, Some(second.interval.until)));
    let again = gap.try_import_path(&gap.path("0.tar.zst"), true).await.unwrap().remove(0);
    assert_eq!((again.outcome, again.mirror_until), (Outcome::Applied, Some(second.interval.until)));
}
