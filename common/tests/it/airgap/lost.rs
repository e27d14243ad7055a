//! What was lost behind the gap, and is brought again.

use common::airgap::{Exported, ImportError, Outcome, Since};
use common::bottle::{Digest, ObjectKey};
use common::manifest::{self, State};
use common::verify::{Depth, Report};
use testbed::Spec;

use crate::fixture::Fixture;

use super::{Gap, after, edit, picture, small, wave};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bottle_that_was_lost_behind_the_gap_is_brought_again() {
    let gap = Gap::new(wave(0)).await;
    gap.export(Since::Start, "0.tar.zst").await;
    gap.import("0.tar.zst").await;
    let (manifest, _) = manifest::load(&*gap.target.store).await.unwrap();
    // A damaged large one, as verify takes note of it; and one that nobody knows of.
    let large = manifest.images.iter().find(|(path, _)| path.as_str().ends_with("large")).unwrap().0.clone();
    let other = manifest.images.keys().find(|path| **path != large).unwrap().clone();
    let first = |path| *manifest.images[path].bottles.first_key_value().unwrap().0;
    let (damaged, forgotten) = (first(&large), first(&other));
    let keys = [ObjectKey::blob(&large, &damaged), ObjectKey::blob(&other, &forgotten)];
    for key in &keys {
        let mut bytes = gap.target.object(key.as_str()).await.unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        gap.target.overwrite(key.as_str(), &bytes).await;
    }
    edit(&*gap.target.store, |manifest| {
        let record = manifest.images.get_mut(&large).unwrap().bottles.get_mut(&damaged).unwrap();
        (record.state, record.missing_at) = (State::Queued, Some(gap.target.clock.now()));
        manifest.images.get_mut(&other).unwrap().bottles.remove(&forgotten);
    })
    .await;
    assert_eq!(gap.import("0.tar.zst").await.outcome, Outcome::NothingNew);
    let again = gap.try_import_path(&gap.path("0.tar.zst"), true).await.unwrap().remove(0);
    assert_eq!((again.outcome, again.bottles.bottles, again.missing.bottles), (Outcome::Applied, 2, 0));
    assert_eq!(again.indexes, 0, "an older bundle took an index back");
    gap.assert_equal().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bottle_that_a_later_bundle_finds_missing_is_said() {
    let gap = Gap::new(small()).await;
    let first = gap.export(Since::Start, "0.tar.zst").await;
    gap.import("0.tar.zst").await;
    edit(&*gap.target.store, |manifest| {
        manifest.images.values_mut().next().unwrap().bottles.pop_first().unwrap();
    })
    .await;
    // Upstream lists it still: what it dropped is missed by nobody.
    let mut more = small();
    more.formulae.extend(wave(0).formulae);
    gap.source.testbed.replace(more);
    gap.source.sync().await;
    gap.export(after(&first), "1.tar.zst").await;
    let imported = gap.import("1.tar.zst").await;
    assert_eq!((imported.missing.bottles, imported.missing.bytes), (1, 20_000));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_index_waits_behind_the_gap_for_a_bottle_that_was_lost_there() {
    let gap = Gap::new(wave(0)).await;
    let first = gap.export(Since::Start, "0.tar.zst").await;
    gap.import("0.tar.zst").await;
    // Of the formula to which platforms are appended.
    let spec = wave(0);
    let (path, tag) = (spec.formulae[1].image(), spec.formulae[1].image_tag());
    let path = format!("v2/homebrew/core/{path}").parse().unwrap();
    edit(&*gap.target.store, |manifest| {
        manifest.images.get_mut(&path).unwrap().bottles.pop_first().unwrap();
    })
    .await;
    gap.source.testbed.replace(wave(1));
    gap.source.sync().await;
    gap.export(after(&first), "1.tar.zst").await;
    let key = format!("{path}/manifests/{tag}");
    let before = gap.target.object(&key).await.unwrap();
    let imported = gap.import("1.tar.zst").await;
    assert_eq!((imported.indexes_waiting, imported.missing.bottles), (1, 1));
    assert!(gap.target.object(&key).await.unwrap() == before, "it names a bottle that is not held");
    // The older bundle brings the bottle, and does not bring back its own index.
    let again = gap.try_import_path(&gap.path("0.tar.zst"), true).await.unwrap().remove(0);
    assert_eq!((again.indexes, again.indexes_waiting), (1, 0));
    gap.assert_equal().await;
}

/// Has verify look at the mirror behind the gap and report what it finds there.
async fn repair(gap: &Gap) -> Report {
    let mut verifier = gap.target.verifier(Depth::Bytes);
    verifier.settings.is_fed_by_plans = false;
    let mut report = verifier.verify().await.unwrap();
    verifier.repair(&mut report).await.unwrap();
    gap.target.settle().await;
    report
}

/// A mirror behind the gap into which two bundles of one folder were imported, the second
/// with platforms that were appended under an image tag; and that index's key.
async fn appended() -> (Gap, String, Vec<Exported>) {
    let gap = Gap::new(wave(0)).await;
    let folder = gap.path("carried/");
    let first = gap.try_export(&Since::Start, &folder, None).await.unwrap();
    let spec = wave(1);
    let index =
        format!("v2/homebrew/core/{}/manifests/{}", spec.formulae[1].image(), spec.formulae[1].image_tag());
    gap.source.testbed.replace(spec);
    gap.source.sync().await;
    let second = gap.try_export(&after(&first), &folder, None).await.unwrap();
    gap.try_import("carried").await.unwrap();
    gap.assert_equal().await;
    (gap, index, vec![first, second])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_index_that_was_lost_is_brought_by_the_bundle_that_has_the_newest() {
    let (gap, index, exported) = appended().await;
    gap.target.remove(&index).await;
    assert!(!repair(&gap).await.sound);
    // The older bundle's index lacks bottles that are held.
    let old = gap.try_import_path(&exported[0].files[0].path, true).await.unwrap().remove(0);
    assert_eq!((old.indexes, old.indexes_waiting), (0, 0));
    assert!(gap.target.object(&index).await.is_none());
    let again = gap.try_import_path(&gap.path("carried"), true).await.unwrap();
    assert_eq!(again.iter().map(|one| one.indexes).collect::<Vec<_>>(), [1, 0]);
    gap.assert_equal().await;
    assert!(gap.target.verify(Depth::Bytes).await.sound);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bottles_and_an_index_that_were_lost_together_come_back_from_a_folder() {
    let (gap, index, _) = appended().await;
    let image = index.split("/manifests/").next().unwrap();
    let keys = picture(&*gap.target.store).await.into_keys().filter(|key| key.starts_with(image));
    for key in keys.collect::<Vec<_>>() {
        gap.target.remove(&key).await;
    }
    repair(&gap).await;
    let again = gap.try_import_path(&gap.path("carried"), true).await.unwrap();
    // The newest bundle goes first, and lacks what the older one brings.
    assert!(again.iter().all(|one| one.missing.bottles == 0), "{again:?}");
    gap.assert_equal().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn newer_bundles_are_applied_before_older_ones_are_gone_through_again() {
    let (gap, index, exported) = appended().await;
    gap.source.testbed.replace(wave(2));
    gap.source.sync().await;
    gap.try_export(&after(&exported[1]), &gap.path("carried/"), None).await.unwrap();
    gap.target.remove(&index).await;
    repair(&gap).await;
    let again = gap.try_import_path(&gap.path("carried"), true).await.unwrap();
    let ends: Vec<_> = again.iter().map(|one| one.interval.until).collect();
    assert!(ends[0] > ends[1] && ends[1] > ends[2], "{ends:?}");
    gap.assert_equal().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mirror_whose_manifest_is_gone_takes_no_bundle_until_it_is_rebuilt() {
    let (gap, index, exported) = appended().await;
    gap.target.remove(manifest::KEY).await;
    gap.target.remove(&index).await;
    for again in [false, true] {
        let error = gap.try_import_path(&exported[0].files[0].path, again).await.unwrap_err();
        assert!(matches!(error, ImportError::NoManifest { .. }) && error.is_usage(), "{error}");
        assert!(error.to_string().contains("`bottles verify --to PLACE --rebuild-manifest`"), "{error}");
    }
    assert!(gap.target.object(manifest::KEY).await.is_none());
    gap.target.verifier(Depth::Sizes).rebuild().await.unwrap();
    gap.try_import_path(&gap.path("carried"), true).await.unwrap();
    gap.assert_equal().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_bottle_that_verify_found_is_brought_by_the_next_bundle_from_the_start() {
    let (gap, index, _) = appended().await;
    let image = index.split("/manifests/").next().unwrap();
    let is_bottle = |key: &String| key.starts_with(image) && key.contains("/blobs/");
    let key = picture(&*gap.target.store).await.into_keys().find(is_bottle).unwrap();
    let large =
        picture(&*gap.target.store).await.into_keys().find(|key| key.contains("large/blobs/")).unwrap();
    for key in [&key, &large] {
        let mut bytes = gap.target.object(key).await.unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        gap.target.overwrite(key, &bytes).await;
    }
    assert!(!repair(&gap).await.sound);
    gap.source.testbed.replace(wave(2));
    gap.source.sync().await;
    gap.export(Since::Start, "all.tar.zst").await;
    assert_eq!(gap.import("all.tar.zst").await.missing.bottles, 0);
    for key in [&key, &large] {
        let digest = key.parse::<ObjectKey>().unwrap().blob_digest().unwrap();
        assert_eq!(Digest::of(&gap.target.object(key).await.unwrap()), digest, "{key} is damaged still");
    }
    let damaged = gap.target.manifest().await.images.values().any(|image| !image.damaged.is_empty());
    assert!(!damaged);
    assert!(gap.target.verify(Depth::Bytes).await.sound);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flat_name_that_was_lost_with_its_bottle_comes_back_with_it() {
    let mut source = Fixture::new(small()).await;
    source.selection = "layout = 'flat'".parse().unwrap();
    source.sync().await;
    let (target, carried) = (Fixture::new(Spec::default()).await, tempfile::tempdir().unwrap());
    let gap = Gap { source, target, carried };
    gap.export(Since::Start, "0.tar.zst").await;
    gap.import("0.tar.zst").await;
    let (path, image) = gap.target.manifest().await.images.pop_first().unwrap();
    let (digest, record) = image.bottles.first_key_value().unwrap();
    let (blob, flat) = (ObjectKey::blob(&path, digest), record.flat[0].clone());
    let bytes = gap.target.object(flat.as_str()).await.unwrap();
    for key in [&blob, &flat] {
        gap.target.remove(key.as_str()).await;
    }
    repair(&gap).await;
    let again = gap.try_import_path(&gap.path("0.tar.zst"), true).await.unwrap().remove(0);
    assert_eq!(again.bottles.bottles, 1);
    assert!(gap.target.object(flat.as_str()).await == Some(bytes), "{flat} is gone still");
    assert!(gap.target.verify(Depth::Bytes).await.sound);
}
