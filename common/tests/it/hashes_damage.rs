//! What the old system left may be damaged: nothing of it is taken for a bottle.

use std::sync::Arc;

use common::hash_file::Why;
use common::store::Condition;
use common::verify::Depth;
use testbed::{FormulaSpec, Spec};

use crate::fixture::Fixture;
use crate::hashes::{DAY, Old, import, key, keys, object, put, reasons, spec};
use crate::hashes_meddled::Meddled;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_damaged_is_named_and_fetched_by_the_next_sync() {
    let spec = Spec::uniform(4, 5, 60_000, &["x86_64_linux"]);
    let fixture = Fixture::new(spec.clone()).await;
    let mut old = Old::of(&fixture, &spec).await;
    let [truncated, wrong, own, mended, _sound] = &spec.formulae[..] else { unreachable!() };
    let name = |formula, day| object(day, formula, "x86_64_linux");
    let content = |formula: &FormulaSpec| {
        fixture.testbed.content(&fixture.digest_of(&formula.name, "x86_64_linux")).unwrap()
    };
    put(&fixture, &name(truncated, DAY), &content(truncated)[..59_999]).await;
    let mut flipped = content(wrong);
    flipped[59_000] ^= 1;
    put(&fixture, &name(wrong, DAY), &flipped).await;
    // The bottle's own key holds something else: it is written over by the verified one.
    let own_key = fixture.expected().into_keys().find(|key| key.contains(&own.name)).unwrap();
    put(&fixture, &own_key, &content(own)).await;
    fixture.overwrite(&own_key, b"short").await;
    // Of several days the newest that is right is taken.
    put(&fixture, &name(mended, "2026-06-01"), &flipped).await;
    // One that is nowhere.
    old.entry("uniform-00001-0.9-all", &"1".repeat(64), 1_000);
    let report = import(&fixture, &old).await;
    assert_eq!(
        reasons(&report),
        [
            ("uniform-00001-0.9-all", Why::Absent),
            (key(truncated, "x86_64_linux").as_str(), Why::Damaged),
            (key(wrong, "x86_64_linux").as_str(), Why::Damaged),
        ]
    );
    assert!(report.skipped[1].detail.contains("59999 bytes in place of 60000"), "{:?}", report.skipped[1]);
    assert!(report.skipped[2].detail.contains("hashes to"), "{:?}", report.skipped[2]);
    assert_eq!(report.adopted.bottles, 3);

    fixture.settle().await;
    let (plan, done, _) = fixture.sync().await;
    assert_eq!((plan.total().bottles, done.fetched.bottles), (2, 2));
    fixture.assert_whole(&[]).await;
}

/// What lies under a key is taken for the bottle only if it is: not though it has the
/// size, not though another image's copy is asked for, nor though a repair is on its way.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_damaged_under_its_own_key_is_not_held_and_not_copied() {
    let fixture = Fixture::new(spec()).await;
    let mut old = Old::default();
    let shared: Vec<_> = fixture
        .testbed
        .expected()
        .into_iter()
        .filter(|bottle| bottle.formula.starts_with("shared"))
        .collect();
    let mut bytes = fixture.testbed.content(&shared[0].digest).unwrap();
    for formula in spec().formulae.iter().filter(|formula| formula.name.starts_with("shared")) {
        old.note(&fixture, formula, &formula.bottles[0].tag);
    }
    bytes[0] ^= 1;
    fixture.overwrite(&shared[0].key, &bytes).await;
    let report = import(&fixture, &old).await;
    assert_eq!((report.held.bottles, report.copied.bottles), (0, 0), "{report:?}");
    assert!(report.skipped.iter().all(|skipped| skipped.why == Why::Damaged), "{:?}", report.skipped);
    assert!(fixture.object(&shared[1].key).await.is_none(), "what is damaged was copied");
    assert_eq!(report.lost.bottles, 1);
    fixture.overwrite(&shared[0].key, b"short").await;
    let report = import(&fixture, &old).await;
    assert_eq!((report.held.bottles, report.lost.bottles), (0, 1), "{report:?}");
    assert!(report.skipped.iter().any(|skipped| skipped.why == Why::Damaged), "{report:?}");
    // The next sync doesn't take it for the bottle either, though it has its size.
    fixture.overwrite(&shared[0].key, &bytes).await;
    fixture.settle().await;
    fixture.sync().await;
    fixture.assert_unchanged(&[shared[0].formula.as_str()]).await;
    // Nor is the copy of it one of what was damaged.
    fixture.assert_whole(&[]).await;

    // Mirrored, damaged, and found so: an import says nothing else.
    let spec = Spec::uniform(4, 1, 60_000, &["x86_64_linux"]);
    let fixture = Fixture::new(spec.clone()).await;
    fixture.sync().await;
    let mut old = Old::default();
    old.note(&fixture, &spec.formulae[0], "x86_64_linux");
    let key = fixture.expected().into_keys().next().unwrap();
    fixture.overwrite(&key, &crate::verify::altered(&fixture.object(&key).await.unwrap())).await;
    let verifier = fixture.verifier(Depth::Bytes);
    let mut found = verifier.verify().await.unwrap();
    verifier.repair(&mut found).await.unwrap();
    for is_settled in [false, true] {
        if is_settled {
            fixture.settle().await;
        }
        let report = import(&fixture, &old).await;
        assert_eq!((report.held.bottles, report.recorded.bottles), (0, 0), "settled: {is_settled}");
        assert_eq!((report.skipped[0].why, report.lost.bottles), (Why::Damaged, 1));
    }
    fixture.drain().await;
    fixture.settle().await;
    fixture.assert_whole(&[]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_object_that_changes_after_it_was_read_is_not_adopted() {
    let spec = Spec::uniform(6, 1, 50_000, &["all"]);
    let mut fixture = Fixture::new(spec.clone()).await;
    let old = Old::of(&fixture, &spec).await;
    let dated = object(DAY, &spec.formulae[0], "all");
    let mut meddled = Meddled::of(&fixture);
    let (inner, changed) = (Arc::clone(&fixture.store), dated.clone());
    meddled.before_adopt = Some(Box::new(move || {
        let (inner, key) = (Arc::clone(&inner), changed.parse().unwrap());
        // As long as before, and not the bottle.
        Box::pin(async move {
            inner.put(&key, vec![7_u8; 50_000].into(), Condition::Always).await.unwrap();
        })
    }));
    fixture.store = Arc::new(meddled);
    let report = import(&fixture, &old).await;
    assert_eq!(reasons(&report), [(key(&spec.formulae[0], "all").as_str(), Why::Changed)]);
    assert!(report.skipped[0].detail.contains(&dated), "{:?}", report.skipped);
    assert_eq!(keys(&fixture, "v2/").await, Vec::<String>::new(), "what was not verified is visible");
    assert!(keys(&fixture, "_sync/receipts/").await.is_empty());
    assert_eq!(fixture.left_unfinished().await, 0);
    fixture.sync().await;
    fixture.assert_whole(&[]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_that_the_store_does_not_make_is_named() {
    let spec = Spec::uniform(6, 1, 5_000, &["all"]);
    let mut fixture = Fixture::new(spec.clone()).await;
    let old = Old::of(&fixture, &spec).await;
    let meddled = Meddled { copies_nothing: true, ..Meddled::of(&fixture) };
    fixture.store = Arc::new(meddled);
    let report = import(&fixture, &old).await;
    assert_eq!(reasons(&report), [(key(&spec.formulae[0], "all").as_str(), Why::Changed)]);
    assert!(keys(&fixture, "_sync/receipts/").await.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_object_that_can_not_be_read_is_named_and_harms_no_other() {
    for transient in [false, true] {
        let mut fixture = Fixture::new(spec()).await;
        let old = Old::of(&fixture, &spec()).await;
        let gtk = &spec().formulae[1];
        let unreadable = Some((object(DAY, gtk, "x86_64_linux"), transient));
        fixture.store = Arc::new(Meddled { unreadable, ..Meddled::of(&fixture) });
        let report = import(&fixture, &old).await;
        assert_eq!(reasons(&report), [(key(gtk, "x86_64_linux").as_str(), Why::Unreadable)]);
        assert_eq!((report.adopted.bottles, report.copied.bottles), (5, 1));
    }
}

/// The manifest's word for it is not enough: the next plan would have it fetched over a
/// bottle that is right.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_mended_by_the_import_itself_is_not_reported_missing() {
    let spec = Spec::uniform(4, 2, 60_000, &["x86_64_linux"]);
    let fixture = Fixture::new(spec.clone()).await;
    let old = Old::of(&fixture, &spec).await;
    let keys: Vec<_> = fixture.expected().into_keys().collect();
    fixture.overwrite(&keys[0], &vec![7; 60_000]).await;
    fixture.overwrite(&keys[1], b"short").await;
    let report = import(&fixture, &old).await;
    assert_eq!((report.adopted.bottles, report.lost.bottles, reasons(&report)), (2, 0, vec![]));
    fixture.settle().await;
    let (plan, done, _) = fixture.sync().await;
    assert_eq!((plan.held, done.fetched.bottles), (2, 0));
    fixture.assert_whole(&[]).await;
}

/// An entry's size is a stranger's word: it gainsays neither the manifest nor the store.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bottle_on_record_is_not_lost_to_a_wrong_size_in_the_file() {
    let spec = Spec::uniform(4, 1, 60_000, &["x86_64_linux"]);
    let fixture = Fixture::new(spec.clone()).await;
    fixture.sync().await;
    let mut old = Old::default();
    let digest = fixture.digest_of("uniform-00001", "x86_64_linux");
    old.entry("uniform-00001-1.0.0-x86_64_linux", &digest, 5);
    let report = import(&fixture, &old).await;
    assert_eq!((report.recorded.bottles, report.lost.bottles, reasons(&report)), (1, 0, vec![]));
    assert!(keys(&fixture, "_sync/receipts/").await.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_source_that_is_damaged_is_mended_or_reported_and_its_copies_come_from_elsewhere() {
    for is_dated in [true, false] {
        let mut fixture = Fixture::new(spec()).await;
        fixture.selection = "formulae = [\"shared\"]".parse().unwrap();
        fixture.sync().await;
        fixture.selection = "".parse().unwrap();
        let mut old = Old::default();
        for formula in spec().formulae.iter().filter(|formula| formula.name.starts_with("shared")) {
            let content = old.note(&fixture, formula, "all");
            if is_dated {
                put(&fixture, &object(DAY, formula, "all"), &content).await;
            }
        }
        let source = fixture.key_of("shared", "all").to_string();
        let damaged = crate::verify::altered(&fixture.object(&source).await.unwrap());
        fixture.overwrite(&source, &damaged).await;
        let report = import(&fixture, &old).await;
        let counts = (report.recorded.bottles, report.adopted.bottles, report.copied.bottles);
        if is_dated {
            assert_eq!((counts, report.lost.bottles, reasons(&report)), ((0, 1, 1), 0, vec![]));
            fixture.assert_unchanged(&["shared", "shared-too"]).await;
        } else {
            assert_eq!((counts, report.lost.bottles), ((0, 0, 0), 1), "{report:?}");
            assert!(report.skipped.iter().all(|skipped| skipped.why == Why::Damaged), "{report:?}");
        }
        fixture.settle().await;
        fixture.sync().await;
        fixture.assert_whole(&[]).await;
    }
}
