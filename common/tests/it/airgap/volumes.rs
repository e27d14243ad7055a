//! Bundles in several volumes, and folders with some that are not whole.

use std::path::{Path, PathBuf};

use common::airgap::{Exported, ImportError, Outcome, Since};
use jiff::Timestamp;

use super::{Gap, after, small, unpack, wave};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn volumes_are_no_larger_than_asked_for_and_a_missing_one_is_named() {
    const MOST: u64 = 200 << 10;
    let gap = Gap::new(wave(1)).await;
    let folder = gap.path("volumes");
    let exported = gap.try_export(&Since::Start, &folder, Some(MOST)).await.unwrap();
    let volumes: Vec<PathBuf> = exported.files.iter().map(|file| file.path.clone()).collect();
    assert!(volumes.len() > 4, "{volumes:?}");
    for file in &exported.files {
        assert_eq!(file.bytes, std::fs::metadata(&file.path).unwrap().len());
        let entries = unpack(&file.path);
        let alone = entries
            .iter()
            .filter(|(name, _)| Path::new(name).extension().is_none_or(|end| end != "json"))
            .count()
            == 1;
        assert!(file.bytes <= MOST || alone, "{} of {} bytes", file.path.display(), file.bytes);
    }
    // What is no volume is passed over.
    for name in ["notes.txt", "bottles-x.tar.zst", "bottles-20261101T060000123Z-0001.tar.zst.part"] {
        std::fs::write(folder.join(name), b"nothing to do with it").unwrap();
    }
    let aside = gap.path("aside");
    for missing in [0, 2, volumes.len() - 1] {
        std::fs::rename(&volumes[missing], &aside).unwrap();
        match gap.refused("volumes").await {
            ImportError::MissingVolume(path) => assert_eq!(path, volumes[missing]),
            other => panic!("{other}"),
        }
        std::fs::rename(&aside, &volumes[missing]).unwrap();
    }
    // One alone is not enough, whichever it is.
    for alone in [0, 1] {
        let error = gap.try_import_path(&volumes[alone], false).await.unwrap_err();
        assert!(matches!(error, ImportError::OneOfMany(_)), "{error}");
    }
    // Nor is one of another bundle in the place of one.
    let other = gap.path("other");
    let since = Since::Time(Timestamp::UNIX_EPOCH);
    let others = gap.try_export(&since, &other, Some(MOST)).await.unwrap();
    assert_eq!(others.files[1].path.file_name(), volumes[1].file_name());
    std::fs::rename(&volumes[1], &aside).unwrap();
    std::fs::copy(&others.files[1].path, &volumes[1]).unwrap();
    let error = gap.refused("volumes").await;
    assert!(matches!(&error, ImportError::WrongVolume(path) if *path == volumes[1]), "{error}");
    std::fs::rename(&aside, &volumes[1]).unwrap();

    gap.import("volumes").await;
    gap.assert_equal().await;
    // A second export doesn't write over it.
    let again = gap.try_export(&Since::Start, &folder, Some(MOST)).await.unwrap_err();
    assert!(again.is_usage(), "{again}");
    let empty = gap.try_import_path(gap.carried.path(), false).await.unwrap_err();
    assert!(matches!(empty, ImportError::NoBundle(_)), "{empty}");
}

/// A folder with bundles of several volumes, each after the one before it.
async fn three_bundles(gap: &Gap) -> Vec<Exported> {
    let folder = gap.path("carried");
    let (mut since, mut exported) = (Since::Start, Vec::new());
    for number in 0..3 {
        gap.source.testbed.replace(wave(number));
        gap.source.sync().await;
        let one = gap.try_export(&since, &folder, Some(64 << 10)).await.unwrap();
        assert!(one.files.len() > 2, "{one:?}");
        since = after(&one);
        exported.push(one);
    }
    exported
}

fn remove_volume(exported: &Exported, volume: usize) -> PathBuf {
    let path = exported.files[volume].path.clone();
    std::fs::remove_file(&path).unwrap();
    path
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bundle_that_is_not_needed_may_lack_volumes() {
    let gap = Gap::new(small()).await;
    let exported = three_bundles(&gap).await;
    gap.try_import("carried").await.unwrap();
    gap.assert_equal().await;
    // What is left of old ones: without the first volume, another one, or the last.
    remove_volume(&exported[0], 0);
    remove_volume(&exported[1], 1);
    let last = exported[2].files.len() - 1;
    remove_volume(&exported[2], last);
    gap.source.testbed.replace(wave(3));
    gap.source.sync().await;
    gap.try_export(&after(&exported[2]), &gap.path("carried"), None).await.unwrap();
    let imported = gap.try_import("carried").await.unwrap();
    assert_eq!(imported.iter().filter(|one| one.outcome == Outcome::Applied).count(), 1);
    gap.assert_equal().await;
    // Gone through once more, they are needed.
    let error = gap.try_import_path(&gap.path("carried"), true).await.unwrap_err();
    assert!(matches!(error, ImportError::MissingVolume(_)), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bundle_that_lacks_a_volume_is_passed_over_where_a_later_one_brings_all_of_it() {
    for volume in [0, 1, usize::MAX] {
        let gap = Gap::new(small()).await;
        let exported = three_bundles(&gap).await;
        let missing = remove_volume(&exported[1], volume.min(exported[1].files.len() - 1));
        match gap.try_import("carried").await.unwrap_err() {
            ImportError::MissingVolume(path) => assert_eq!(path, missing),
            other => panic!("{other}"),
        }
        // One over both that follow on the first.
        gap.source.testbed.replace(wave(3));
        gap.source.sync().await;
        gap.try_export(&after(&exported[0]), &gap.path("carried"), None).await.unwrap();
        remove_volume(&exported[2], 1);
        gap.try_import("carried").await.unwrap();
        gap.assert_equal().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_killed_export_left_without_its_first_volume_is_replaced() {
    const MOST: u64 = 64 << 10;
    let gap = Gap::new(wave(0)).await;
    let folder = gap.path("carried");
    let left = gap.try_export(&Since::Start, &folder, Some(MOST)).await.unwrap();
    remove_volume(&left, 0);
    let error = gap.refused("carried").await;
    assert!(matches!(&error, ImportError::MissingVolume(path) if *path == left.files[0].path), "{error}");
    // In larger volumes, so that some of those that were left have none in their place.
    let exported = gap.try_export(&Since::Start, &folder, Some(4 * MOST)).await.unwrap();
    assert_eq!(exported.interval, left.interval);
    assert!(exported.files.len() < left.files.len());
    assert_eq!(std::fs::read_dir(&folder).unwrap().count(), exported.files.len());
    gap.try_import("carried").await.unwrap();
    gap.assert_equal().await;
}
