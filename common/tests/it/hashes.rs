//! Coming from the Python system: what it had is taken over, verified, and not
//! downloaded again.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use common::bottle::{ObjectKey, Verified};
use common::hash_file::{
    HashFile, ImportError, ImportProgress, ImportReport, ImportSettings, Importer, Why, export,
};
use common::manifest::State;
use common::retry::Policy;
use common::selection;
use common::store::{Body, Condition, ObjectMeta, Reading, Store, StoreError, Tags, Upload, Version};
use common::verify::Depth;
use futures_util::StreamExt as _;
use futures_util::future::BoxFuture;
use jiff::Timestamp;
use serde_json::{Map, Value, json};
use testbed::{FormulaSpec, Spec};

use crate::fixture::Fixture;
use crate::flaky::{Dice, Fate, FlakyStore};

const DAY: &str = "2026-05-01";

/// What the Python system left behind.
#[derive(Default)]
struct Old {
    bottles: Map<String, Value>,
}

/// Revision, rebuild, `@`, `+`, hyphens in versions, `all`, one digest under two tags and
/// under two images.
fn spec() -> Spec {
    let shared = |name| FormulaSpec::new(name, "1.0").with_content("all", 7_000, 1);
    let formulae = vec![
        FormulaSpec::new("openssl@3", "3.6.0")
            .with_revision(1)
            .with_rebuild(2)
            .with_bottle("arm64_tahoe", 40_000)
            .with_bottle("x86_64_linux", 700_000),
        FormulaSpec::new("gtk+3", "3.24.43").with_bottle("x86_64_linux", 5_000),
        FormulaSpec::new("ca-certificates", "2026-01-02").with_bottle("all", 3_000),
        FormulaSpec::new("twins", "1.0").with_content("tahoe", 900, 2).with_content("sonoma", 900, 2),
        shared("shared"),
        shared("shared-too"),
    ];
    Spec { seed: 3, formulae, ..Spec::default() }
}

fn key(formula: &FormulaSpec, tag: &str) -> String {
    format!("{}-{}-{tag}", formula.name, formula.package_version())
}

fn object(day: &str, formula: &FormulaSpec, tag: &str) -> String {
    let rebuild = if formula.rebuild == 0 { String::new() } else { format!(".{}", formula.rebuild) };
    format!("{day}/{}-{}.{tag}.bottle{rebuild}.tar.gz", formula.name, formula.package_version())
}

impl Old {
    /// All that upstream publishes, downloaded on one day.
    async fn of(fixture: &Fixture, spec: &Spec) -> Self {
        let mut old = Self::default();
        for formula in &spec.formulae {
            for bottle in &formula.bottles {
                let content = old.note(fixture, formula, &bottle.tag);
                put(fixture, &object(DAY, formula, &bottle.tag), &content).await;
            }
        }
        old
    }

    /// An entry, without an object; the bottle's bytes.
    fn note(&mut self, fixture: &Fixture, formula: &FormulaSpec, tag: &str) -> Vec<u8> {
        let digest = fixture.digest_of(&formula.name, tag);
        let content = fixture.testbed.content(&digest).unwrap();
        self.entry(&key(formula, tag), &digest, content.len());
        content
    }

    fn entry(&mut self, key: &str, digest: &str, size: usize) {
        let entry = json!({"sha256": digest, "download_date": "2026-05-01T03:00:00", "file_size": size});
        self.bottles.insert(key.to_owned(), entry);
    }

    fn file(&self) -> HashFile {
        let text = json!({"last_updated": "2026-05-01T04:00:00", "bottles": self.bottles}).to_string();
        HashFile::parse(text.as_bytes()).unwrap()
    }
}

async fn put(fixture: &Fixture, key: &str, bytes: &[u8]) {
    let body = Bytes::copy_from_slice(bytes).into();
    fixture.store.put(&key.parse().unwrap(), body, Condition::Always).await.unwrap();
}

fn importer(fixture: &Fixture) -> Importer {
    let retry = Policy {
        first_wait: Duration::from_millis(2),
        longest_wait: Duration::from_millis(20),
        budget: Duration::from_millis(200),
    };
    let api_url = fixture.testbed.api_url().parse().unwrap();
    Importer {
        store: Arc::clone(&fixture.store),
        upstream: Arc::clone(&fixture.upstream),
        clock: fixture.clock.clone(),
        settings: ImportSettings { concurrency: 4, retry, ..ImportSettings::new(api_url) },
        progress: ImportProgress::default(),
    }
}

async fn import(fixture: &Fixture, old: &Old) -> ImportReport {
    importer(fixture).import(old.file()).await.unwrap()
}

/// How many bottles were asked for, from the registry or the CDN.
fn fetches(fixture: &Fixture) -> usize {
    fixture.testbed.log().count("cdn:*") + fixture.testbed.log().count("registry:*/blobs/*")
}

fn reasons(report: &ImportReport) -> Vec<(&str, Why)> {
    report.skipped.iter().map(|skipped| (skipped.key.as_str(), skipped.why)).collect()
}

async fn keys(fixture: &Fixture, prefix: &str) -> Vec<String> {
    let found = fixture.store.list(prefix, None, usize::MAX).await.unwrap();
    found.into_iter().map(|meta| meta.key.to_string()).collect()
}

/// What the manifest has as held, all that it knows of it but when and by which run.
async fn held(fixture: &Fixture) -> BTreeMap<String, String> {
    let manifest = fixture.manifest().await;
    let mut held = BTreeMap::new();
    for (path, image) in &manifest.images {
        for (digest, record) in &image.bottles {
            assert_eq!(record.state, State::Held);
            let what = format!("{} {} {:?} {}", image.formula, record.image_tag, record.tags, record.size);
            held.insert(ObjectKey::blob(path, digest).to_string(), what);
        }
    }
    held
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_dated_folders_hold_is_adopted_and_never_fetched_again() {
    let fixture = Fixture::new(spec()).await;
    let old = Old::of(&fixture, &spec()).await;
    let before = keys(&fixture, "2026").await;
    let report = import(&fixture, &old).await;
    assert_eq!(reasons(&report), []);
    // Two tags of one bottle are two entries, and two images of one bottle two copies.
    assert_eq!((report.entries, report.adopted.bottles, report.copied.bottles), (8, 6, 1));
    assert_eq!((report.held.bottles, report.recorded.bottles, report.trusted.bottles), (0, 0, 0));
    assert_eq!((report.dated.objects, report.dated.first.as_deref()), (8, Some(DAY)));
    assert_eq!(report.last_updated.as_deref(), Some("2026-05-01T04:00:00"));
    assert!(fixture.manifest().await.images.is_empty(), "only settle writes the manifest");
    fixture.settle().await;

    let (plan, done, settled) = fixture.sync().await;
    assert_eq!((plan.total().bottles, plan.held, done.fetched.bottles), (0, 7, 0));
    assert_eq!(settled.indexes, 6);
    assert_eq!(fetches(&fixture), 0);
    fixture.assert_whole(&[]).await;
    assert_eq!(fixture.left_unfinished().await, 0);
    assert_eq!(keys(&fixture, "2026").await, before, "the old system's objects were touched");

    // The same again finds all of it on record, and reads nothing.
    let again = import(&fixture, &old).await;
    assert_eq!((again.recorded.bottles, again.adopted.bottles, again.held.bottles), (7, 0, 0));
    assert!(keys(&fixture, "_sync/receipts/").await.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bottle_under_its_own_key_is_verified_there_and_held() {
    let mut fixture = Fixture::new(spec()).await;
    let mut old = Old::of(&fixture, &spec()).await;
    for bottle in fixture.testbed.expected() {
        // The second image's copy is made from the first.
        if bottle.formula != "shared-too" {
            put(&fixture, &bottle.key, &fixture.testbed.content(&bottle.digest).unwrap()).await;
        }
    }
    old.entry("no-entry-without-a-bottle-all", &"0".repeat(64), 5);
    let meddled = Meddled::over(&mut fixture);
    let report = import(&fixture, &old).await;
    assert_eq!((report.held.bottles, report.adopted.bottles, report.copied.bottles), (6, 0, 1));
    assert_eq!(reasons(&report), [("no-entry-without-a-bottle-all", Why::UnknownFormula)]);
    let reads = meddled.reads.lock().unwrap().clone();
    assert!(reads.iter().all(|(key, _)| !key.starts_with("2026")), "{reads:?}");
    fixture.settle().await;
    fixture.sync().await;
    assert_eq!(fetches(&fixture), 0);
    fixture.assert_whole(&[]).await;
}

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
    fixture.overwrite(&shared[0].key, b"short").await;
    let report = import(&fixture, &old).await;
    assert_eq!(report.held.bottles, 0, "{report:?}");
    assert!(report.skipped.iter().any(|skipped| skipped.why == Why::Damaged), "{report:?}");

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
        assert_eq!(report.skipped[0].why, Why::Damaged);
    }
    fixture.drain().await;
    fixture.settle().await;
    fixture.assert_whole(&[]).await;
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_old_bottle_is_adopted_under_its_own_version() {
    // What was current when the Python system fetched it, and isn't any more.
    let mut before = spec();
    let fixture = Fixture::new(before.clone()).await;
    let old = Old::of(&fixture, &before).await;
    let keys_before = fixture.expected();
    before.formulae[0] = FormulaSpec::new("openssl@3", "3.7.0").with_bottle("arm64_tahoe", 2_000);
    before.formulae[2].version = "2026-06-07".to_owned();
    before.formulae[2].bottles[0].content = 99;
    fixture.testbed.replace(before);
    let report = import(&fixture, &old).await;
    assert_eq!((report.skipped.len(), report.adopted.bottles), (0, 6));
    fixture.settle().await;
    let records = held(&fixture).await;
    assert_eq!(records.keys().collect::<Vec<_>>(), keys_before.keys().collect::<Vec<_>>());
    let of = |part: &str| records.values().filter(|what| what.contains(part)).count();
    assert_eq!((of("openssl@3 3.6.0_1-2 "), of("ca-certificates 2026-01-02 ")), (2, 1));
    let (plan, _, _) = fixture.sync().await;
    assert_eq!(plan.total().bottles, 2);
}

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
    importer.settings.trust = selection::globs(&["uniform-0000[12]".to_owned()]).unwrap();
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dry_run_reads_no_bottle_and_writes_nothing() {
    let mut fixture = Fixture::new(spec()).await;
    let mut old = Old::of(&fixture, &spec()).await;
    let gtk = &spec().formulae[1];
    put(&fixture, &object(DAY, gtk, "x86_64_linux"), b"short").await;
    let content = fixture.testbed.content(&fixture.digest_of("shared", "all")).unwrap();
    put(&fixture, &fixture.expected().into_keys().find(|key| key.contains("/shared/")).unwrap(), &content)
        .await;
    old.entry("gone-1.0-all", &"0".repeat(64), 5);
    let before = keys(&fixture, "").await;
    let meddled = Meddled::over(&mut fixture);
    let mut importer = importer(&fixture);
    importer.settings.dry_run = true;
    let report = importer.import(old.file()).await.unwrap();
    assert_eq!((report.held.bottles, report.adopted.bottles, report.copied.bottles), (1, 4, 1));
    assert_eq!(
        reasons(&report),
        [("gone-1.0-all", Why::UnknownFormula), ("gtk+3-3.24.43-x86_64_linux", Why::Damaged)]
    );
    assert_eq!(report.run, None);
    assert_eq!(keys(&fixture, "").await, before);
    let reads = meddled.reads.lock().unwrap().clone();
    assert!(reads.iter().all(|(key, _)| key.starts_with("_sync/")), "{reads:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn receipts_are_of_256_bottles_at_most_and_of_one_run() {
    let spec = Spec::bulk(1, 600, 100..300);
    let fixture = Fixture::new(spec.clone()).await;
    let old = Old::of(&fixture, &spec).await;
    let report = import(&fixture, &old).await;
    assert_eq!(report.adopted.bottles, 600);
    let run = report.run.unwrap().to_string();
    let mut sizes = Vec::new();
    for key in keys(&fixture, "_sync/receipts/").await {
        let receipt: Value = serde_json::from_slice(&fixture.object(&key).await.unwrap()).unwrap();
        let entries = receipt["entries"].as_array().unwrap();
        assert!(entries.iter().all(|entry| entry["message"]["run"] == run.as_str()));
        sizes.push(entries.len());
    }
    sizes.sort_unstable();
    assert_eq!(sizes, [88, 256, 256]);
    fixture.settle().await;
    assert_eq!(fixture.manifest().await.tally(None).held.bottles, 600);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_export_that_is_imported_marks_the_same_bottles() {
    let mut spec = spec();
    let fixture = Fixture::new(spec.clone()).await;
    fixture.sync().await;
    // A bottle of before, and one that was replaced under its very name.
    spec.formulae[0] = FormulaSpec::new("openssl@3", "3.7.0").with_bottle("arm64_tahoe", 2_000);
    spec.formulae[1].bottles[0].content = 77;
    fixture.testbed.replace(spec);
    fixture.sync().await;
    let before = held(&fixture).await;
    assert_eq!(before.len(), 9);
    let manifest = fixture.manifest().await;
    let mut bytes = Vec::new();
    let exported = export(&manifest, fixture.clock.now(), &mut bytes).unwrap();
    assert_eq!(exported.entries, 10);

    fixture.store.delete(&[common::manifest::KEY.parse().unwrap()]).await.unwrap();
    fixture.testbed.log().clear();
    let report = importer(&fixture).import(HashFile::parse(&bytes).unwrap()).await.unwrap();
    assert_eq!((report.held.bottles, report.skipped.len()), (9, 0));
    fixture.settle().await;
    let after = held(&fixture).await;
    assert_eq!(after.keys().collect::<Vec<_>>(), before.keys().collect::<Vec<_>>());
    // Of the one whose name another has, the version is made up.
    let other: Vec<_> = before.iter().filter(|(key, what)| after[*key] != **what).collect();
    assert!(other.len() == 1 && other[0].1.starts_with("gtk+3 "), "{other:?} in place of {after:?}");
    fixture.sync().await;
    assert_eq!(fetches(&fixture), 0);
}

/// What a test does in between.
type Hook = Box<dyn Fn() -> BoxFuture<'static, ()> + Send + Sync>;

/// A store that tells what was read, and in which things happen in between.
struct Meddled {
    inner: Arc<dyn Store>,
    reads: Mutex<Vec<(String, Option<Range<u64>>)>>,
    /// How many reads of dated objects break in the middle, each after some bytes.
    breaks: AtomicUsize,
    before_second_read: Option<Hook>,
    before_adopt: Option<Hook>,
    copies_nothing: bool,
    /// An object that the store refuses to read, and whether it says that that may pass.
    unreadable: Option<(String, bool)>,
}

impl Meddled {
    fn of(fixture: &Fixture) -> Self {
        Self {
            inner: Arc::clone(&fixture.store),
            reads: Mutex::default(),
            breaks: AtomicUsize::new(0),
            before_second_read: None,
            before_adopt: None,
            copies_nothing: false,
            unreadable: None,
        }
    }

    fn over(fixture: &mut Fixture) -> Arc<Self> {
        let meddled = Arc::new(Self::of(fixture));
        fixture.store = Arc::clone(&meddled) as Arc<dyn Store>;
        meddled
    }
}

fn failed(key: &ObjectKey, transient: bool) -> StoreError {
    StoreError::Failed { operation: "read", key: key.to_string(), cause: "injected".to_owned(), transient }
}

#[async_trait]
impl Store for Meddled {
    async fn head(&self, key: &ObjectKey) -> Result<Option<ObjectMeta>, StoreError> {
        self.inner.head(key).await
    }

    async fn read(&self, key: &ObjectKey, range: Option<Range<u64>>) -> Result<Option<Reading>, StoreError> {
        self.reads.lock().unwrap().push((key.to_string(), range.clone()));
        if let Some((unreadable, transient)) = &self.unreadable
            && unreadable == key.as_str()
        {
            return Err(failed(key, *transient));
        }
        let is_dated = key.as_str().starts_with("2026");
        let one_less = |left: usize| left.checked_sub(1);
        let breaks =
            is_dated && self.breaks.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_less).is_ok();
        if let Some(hook) = self.before_second_read.as_ref().filter(|_| is_dated && !breaks) {
            hook().await;
        }
        let reading = self.inner.read(key, range).await?;
        let key = key.clone();
        Ok(reading.map(|reading| {
            if !breaks {
                return reading;
            }
            // Some bytes come, and then the connection is gone.
            let body = reading
                .body
                .take(1)
                .chain(futures_util::stream::once(async move { Err(failed(&key, true)) }));
            Reading { body: body.boxed(), ..reading }
        }))
    }

    async fn put(&self, key: &ObjectKey, body: Body, condition: Condition) -> Result<Version, StoreError> {
        self.inner.put(key, body, condition).await
    }

    async fn begin(&self, key: &ObjectKey, size: u64, part_size: u64) -> Result<Box<dyn Upload>, StoreError> {
        self.inner.begin(key, size, part_size).await
    }

    async fn copy(&self, from: &ObjectKey, to: &ObjectKey) -> Result<bool, StoreError> {
        self.inner.copy(from, to).await
    }

    async fn adopt(
        &self,
        from: &ObjectKey,
        version: &Version,
        to: &ObjectKey,
        proof: Verified,
    ) -> Result<bool, StoreError> {
        if let Some(hook) = &self.before_adopt {
            hook().await;
        }
        if self.copies_nothing {
            return Ok(false);
        }
        self.inner.adopt(from, version, to, proof).await
    }

    async fn list(
        &self,
        prefix: &str,
        after: Option<&ObjectKey>,
        limit: usize,
    ) -> Result<Vec<ObjectMeta>, StoreError> {
        self.inner.list(prefix, after, limit).await
    }

    async fn delete(&self, keys: &[ObjectKey]) -> Result<(), StoreError> {
        self.inner.delete(keys).await
    }

    async fn retag(&self, key: &ObjectKey, tags: &Tags) -> Result<bool, StoreError> {
        self.inner.retag(key, tags).await
    }

    async fn tags(&self, key: &ObjectKey) -> Result<Tags, StoreError> {
        self.inner.tags(key).await
    }

    async fn expire(&self, keys: &[ObjectKey], before: Timestamp) -> Result<bool, StoreError> {
        self.inner.expire(keys, before).await
    }
}
