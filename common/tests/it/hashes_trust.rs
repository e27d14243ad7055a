//! What is marked as mirrored on the operator's word.

use common::bottle::ImagePath;
use common::hash_file::{Trust, Why};
use testbed::{Fault, Spec, Times};

use crate::fixture::Fixture;
use crate::hashes::{DAY, Old, import, importer, key, keys, object, put, reasons, spec};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_files_word_is_taken_only_for_what_is_nowhere_and_only_if_asked() {
    let spec = Spec::uniform(4, 3, 5_000, &["x86_64_linux"]);
    let fixture = Fixture::new(spec.clone()).await;
    let mut old = Old::default();
    for formula in &spec.formulae {
        old.note(&fixture, formula, "x86_64_linux");
    }
    put(&fixture, &object(DAY, &spec.formulae[0], "x86_64_linux"), b"damaged").await;
    let plain = import(&fixture, &old).await;
    assert_eq!(plain.trusted.bottles, 0);
    assert_eq!(plain.reasons().into_iter().collect::<Vec<_>>(), [(Why::Absent, 2), (Why::Damaged, 1)]);

    let mut importer = importer(&fixture);
    importer.settings.trust = Trust::new(vec!["uniform-0000[12]".to_owned()]).unwrap();
    let report = importer.import(old.file()).await.unwrap();
    assert_eq!((report.trusted.bottles, report.trusted.bytes), (1, 5_000));
    assert_eq!(
        reasons(&report),
        [
            ("uniform-00001-1.0.0-x86_64_linux", Why::Damaged),
            ("uniform-00003-1.0.0-x86_64_linux", Why::Absent)
        ]
    );
    fixture.settle().await;
    assert_eq!(fixture.plan().await.total().bottles, 2);
}

/// A wrong size would have the right bottle refused by all who look at it later.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_trusted_has_the_size_that_upstream_says() {
    let spec = spec();
    let fixture = Fixture::new(spec.clone()).await;
    let (openssl, gtk) = (&spec.formulae[0], &spec.formulae[1]);
    let mut old = Old::default();
    let digest = fixture.digest_of("openssl@3", "arm64_tahoe");
    old.entry(&key(openssl, "arm64_tahoe"), &digest, 7);
    old.note(&fixture, gtk, "x86_64_linux");
    // Of what upstream doesn't list any more nobody knows better.
    old.entry("openssl@3-1.0-arm64_tahoe", &"1".repeat(64), 9);
    let mut importer = importer(&fixture);
    importer.settings.trust = Trust::new(vec!["*".to_owned()]).unwrap();
    let report = importer.import(old.file()).await.unwrap();
    assert_eq!((report.trusted.bottles, report.trusted.bytes), (3, 40_000 + 5_000 + 9));
    let resized: Vec<_> = report.resized.iter().map(|one| (&*one.key, one.in_file, one.upstream)).collect();
    assert_eq!(resized, [("openssl@3-3.6.0_1-arm64_tahoe", 7, 40_000)]);
    fixture.settle().await;
    let path: ImagePath = "v2/homebrew/core/openssl/3".parse().unwrap();
    let sizes: Vec<_> =
        fixture.manifest().await.images[&path].bottles.values().map(|record| record.size).collect();
    assert!(sizes.contains(&40_000) && sizes.contains(&9), "{sizes:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_upstream_tells_no_size_of_is_not_trusted() {
    let spec = Spec::uniform(4, 2, 5_000, &["x86_64_linux"]);
    let fixture = Fixture::new(spec.clone()).await;
    let mut old = Old::default();
    for formula in &spec.formulae {
        old.note(&fixture, formula, "x86_64_linux");
    }
    let gone = Fault::Status { code: 404, retry_after: None };
    fixture.testbed.faults().set("registry:*/uniform-00001/*", gone, Times::Always);
    let mut importer = importer(&fixture);
    importer.settings.trust = Trust::new(vec!["*".to_owned()]).unwrap();
    let report = importer.import(old.file()).await.unwrap();
    assert_eq!(report.trusted.bottles, 1);
    assert_eq!(reasons(&report), [("uniform-00001-1.0.0-x86_64_linux", Why::UnknownSize)]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_trusted_once_is_not_taken_for_found_the_next_time() {
    let spec = Spec::uniform(4, 1, 5_000, &["x86_64_linux"]);
    let fixture = Fixture::new(spec.clone()).await;
    let mut old = Old::default();
    old.note(&fixture, &spec.formulae[0], "x86_64_linux");
    let mut importer = importer(&fixture);
    importer.settings.trust = Trust::new(vec!["uniform-*".to_owned(), "absent*".to_owned()]).unwrap();
    for is_settled in [false, true] {
        if is_settled {
            fixture.settle().await;
        }
        for _ in 0..2 {
            let report = importer.import(old.file()).await.unwrap();
            assert_eq!((report.trusted.bottles, report.recorded.bottles), (1, 0), "settled: {is_settled}");
            assert_eq!(report.unmatched_trust, ["absent*"]);
        }
    }
    assert!(keys(&fixture, "_sync/receipts/").await.is_empty(), "it was reported again");
}
