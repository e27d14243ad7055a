//! What an export takes, and from when.

use std::sync::Arc;

use common::airgap::{ExportError, Since};
use common::bottle::ObjectKey;
use common::manifest;
use common::store::StoreError;
use futures_util::future::BoxFuture;
use jiff::Timestamp;
use testbed::Spec;
use tokio::sync::Notify;

use crate::fixture::Fixture;
use crate::flaky::HookedStore;

use super::{Gap, after, assert_content_before_index, edit, picture, small, wave};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_mirror_is_not_exported_and_nothing_is_left_behind() {
    let gap = Gap::new(wave(0)).await;
    let keys: Vec<String> = picture(&*gap.source.store).await.into_keys().collect();
    let small = keys.iter().find(|key| key.contains("/blobs/") && !key.contains("large")).unwrap();
    let large = keys.iter().find(|key| key.contains("large/blobs/")).unwrap();
    let index = keys.iter().find(|key| key.contains("/manifests/")).unwrap();
    for key in [small, large, index] {
        let sound = gap.source.object(key).await.unwrap();
        let mut flipped = sound.clone();
        *flipped.last_mut().unwrap() ^= 1;
        for damage in [flipped, b"cut".to_vec()] {
            gap.source.overwrite(key, &damage).await;
            let error = gap.try_export(&Since::Start, &gap.path("x.tar.zst"), None).await.unwrap_err();
            assert!(matches!(&error, ExportError::Damaged { key: named, .. } if named.as_str() == key));
            assert!(error.to_string().contains("bottles verify --deep --repair"), "{error}");
            assert_eq!(std::fs::read_dir(gap.carried.path()).unwrap().count(), 0, "{error}");
        }
        gap.source.overwrite(key, &sound).await;
    }
    gap.export(Since::Start, "x.tar.zst").await;
    let existing = gap.try_export(&Since::Start, &gap.path("x.tar.zst"), None).await.unwrap_err();
    assert!(existing.is_usage(), "{existing}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_export_begins_where_it_is_told_to() {
    let gap = Gap::new(small()).await;
    let run = common::run::ids(&*gap.source.store).await.unwrap().remove(0);
    let by_run = gap.export(Since::Run(run), "run.tar.zst").await;
    assert_eq!(by_run.bottles.bottles, 6);
    assert!(by_run.interval.since.is_some());
    let unknown = "20260101T000000Z-abcd".parse().unwrap();
    let error = gap.try_export(&Since::Run(unknown), &gap.path("x.tar.zst"), None).await.unwrap_err();
    assert!(error.is_usage() && error.to_string().contains("`bottles status`"), "{error}");
    let future = gap.source.clock.now().checked_add(jiff::Span::new().hours(1)).unwrap();
    let error = gap.try_export(&Since::Time(future), &gap.path("x.tar.zst"), None).await.unwrap_err();
    assert!(matches!(error, ExportError::Future(_)) && error.is_usage(), "{error}");

    // What was held before such times were recorded came at the beginning.
    edit(&*gap.source.store, |manifest| {
        manifest.folded_at = None;
        for image in manifest.images.values_mut() {
            image.bottles.values_mut().for_each(|record| record.added_at = None);
            image.indexes.values_mut().for_each(|index| index.added_at = None);
        }
    })
    .await;
    let first = gap.export(Since::Start, "0.tar.zst").await;
    assert_eq!((first.bottles.bottles, first.indexes), (6, 3));
    gap.source.testbed.replace(wave(0));
    gap.source.sync().await;
    let second = gap.export(after(&first), "1.tar.zst").await;
    assert_eq!(second.bottles.bottles + 6, gap.source.manifest().await.tally(None).held.bottles);
    gap.import("0.tar.zst").await;
    gap.import("1.tar.zst").await;
    gap.assert_equal().await;
    let nothing = Fixture::new(Spec::default()).await;
    let empty = Gap { source: nothing, ..gap };
    let error = empty.try_export(&Since::Start, &empty.path("x.tar.zst"), None).await.unwrap_err();
    assert!(matches!(error, ExportError::NoMirror), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_export_covers_what_is_settled_and_says_that_there_is_more() {
    let gap = Gap::new(small()).await;
    gap.source.testbed.replace(wave(0));
    gap.source.plan().await;
    gap.source.drain().await;
    let first = gap.export(Since::Start, "0.tar.zst").await;
    assert_eq!((first.bottles.bottles, first.indexes, first.open_runs), (6, 3, 1));
    gap.source.settle().await;
    gap.export(after(&first), "1.tar.zst").await;
    gap.import("0.tar.zst").await;
    gap.import("1.tar.zst").await;
    gap.assert_equal().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_index_that_is_replaced_while_the_export_goes_on_comes_with_the_next_one() {
    let mut gap = Gap::new(wave(0)).await;
    gap.source.testbed.replace(wave(1));
    // After the manifest was read, and before the indexes are.
    let (reached, synced) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (arrives, waits) = (Arc::clone(&reached), Arc::clone(&synced));
    let meddle = move |key: ObjectKey| -> BoxFuture<'static, Result<(), StoreError>> {
        let (arrives, waits) = (Arc::clone(&arrives), Arc::clone(&waits));
        Box::pin(async move {
            if key.as_str() == "_sync/mirror.json" {
                arrives.notify_one();
                waits.notified().await;
            }
            Ok(())
        })
    };
    let inner = Arc::clone(&gap.source.store);
    gap.source.store = Arc::new(HookedStore::before_put(inner, meddle));
    let (first, ()) = tokio::join!(gap.export(Since::Start, "0.tar.zst"), async {
        reached.notified().await;
        gap.source.sync().await;
        synced.notify_one();
    });
    assert_eq!(first.indexes_later, 1);
    let imported = gap.import("0.tar.zst").await;
    assert_eq!((imported.missing.bottles, imported.indexes_waiting), (0, 0));
    // No index names what isn't there.
    assert_content_before_index(&gap).await;
    let second = gap.export(after(&first), "1.tar.zst").await;
    assert!(second.indexes >= 1);
    gap.import("1.tar.zst").await;
    gap.assert_equal().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_exports_at_once_give_the_mirror_one_name() {
    let gap = Gap::new(small()).await;
    let (a, b) = tokio::join!(gap.export(Since::Start, "a.tar.zst"), gap.export(Since::Start, "b.tar.zst"));
    assert_eq!(a.mirror, b.mirror);
    // An export writes nothing else into the mirror.
    let own = gap.source.store.list("_sync/", None, usize::MAX).await.unwrap();
    let own: Vec<_> = own.iter().map(|meta| meta.key.as_str()).collect();
    assert!(own.contains(&"_sync/mirror.json"));
    assert!(own.iter().all(|key| !key.contains("imports") && !key.contains("receipts/")), "{own:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_superseded_bottle_that_has_expired_does_not_stop_an_export() {
    let gap = Gap::new(small()).await;
    let (manifest, _) = manifest::load(&*gap.source.store).await.unwrap();
    let (path, image) = manifest.images.first_key_value().unwrap();
    let digest = *image.bottles.first_key_value().unwrap().0;
    let key = ObjectKey::blob(path, &digest);
    let long_ago: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
    gap.source.store.retag(&key, &common::store::superseded_tags(long_ago)).await.unwrap();
    edit(&*gap.source.store, |manifest| {
        let record = manifest.images.get_mut(path).unwrap().bottles.get_mut(&digest).unwrap();
        (record.dropped_at, record.superseded_at) = (Some(long_ago), Some(long_ago));
    })
    .await;
    let whole = gap.export(Since::Start, "0.tar.zst").await;
    assert_eq!((whole.bottles.bottles, whole.expired), (6, 0));
    gap.source.store.expire(std::slice::from_ref(&key), long_ago).await.unwrap();
    if gap.source.object(key.as_str()).await.is_some() {
        // A bucket expires it by a rule of its own.
        return;
    }
    let exported = gap.export(Since::Start, "1.tar.zst").await;
    assert_eq!((exported.bottles.bottles, exported.expired), (5, 1));
    let imported = gap.import("1.tar.zst").await;
    assert_eq!((imported.bottles.bottles, imported.missing.bottles, imported.indexes_waiting), (5, 0, 0));
}
