//! Coming from the Python system: what it had is taken over, verified, and not
//! downloaded again.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use common::bottle::ObjectKey;
use common::hash_file::{HashFile, ImportProgress, ImportReport, ImportSettings, Importer, Why};
use common::manifest::State;
use common::retry::Policy;
use common::store::Condition;
use serde_json::{Map, Value, json};
use testbed::{FormulaSpec, Spec};
use tokio_util::sync::CancellationToken;

use crate::fixture::Fixture;
use crate::hashes_meddled::Meddled;

pub(crate) const DAY: &str = "2026-05-01";

/// What the Python system left behind.
#[derive(Default)]
pub(crate) struct Old {
    pub(crate) bottles: Map<String, Value>,
}

/// Revision, rebuild, `@`, `+`, hyphens in versions, `all`, one digest under two tags and
/// under two images.
pub(crate) fn spec() -> Spec {
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

pub(crate) fn key(formula: &FormulaSpec, tag: &str) -> String {
    format!("{}-{}-{tag}", formula.name, formula.package_version())
}

pub(crate) fn object(day: &str, formula: &FormulaSpec, tag: &str) -> String {
    let rebuild = if formula.rebuild == 0 { String::new() } else { format!(".{}", formula.rebuild) };
    format!("{day}/{}-{}.{tag}.bottle{rebuild}.tar.gz", formula.name, formula.package_version())
}

impl Old {
    /// All that upstream publishes, downloaded on one day.
    pub(crate) async fn of(fixture: &Fixture, spec: &Spec) -> Self {
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
    pub(crate) fn note(&mut self, fixture: &Fixture, formula: &FormulaSpec, tag: &str) -> Vec<u8> {
        let digest = fixture.digest_of(&formula.name, tag);
        let content = fixture.testbed.content(&digest).unwrap();
        self.entry(&key(formula, tag), &digest, content.len());
        content
    }

    pub(crate) fn entry(&mut self, key: &str, digest: &str, size: usize) {
        let entry = json!({"sha256": digest, "download_date": "2026-05-01T03:00:00", "file_size": size});
        self.bottles.insert(key.to_owned(), entry);
    }

    pub(crate) fn file(&self) -> HashFile {
        let text = json!({"last_updated": "2026-05-01T04:00:00", "bottles": self.bottles}).to_string();
        HashFile::parse(text.as_bytes()).unwrap()
    }
}

pub(crate) async fn put(fixture: &Fixture, key: &str, bytes: &[u8]) {
    let body = Bytes::copy_from_slice(bytes).into();
    fixture.store.put(&key.parse().unwrap(), body, Condition::Always).await.unwrap();
}

pub(crate) fn importer(fixture: &Fixture) -> Importer {
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
        stop: CancellationToken::new(),
    }
}

pub(crate) async fn import(fixture: &Fixture, old: &Old) -> ImportReport {
    importer(fixture).import(old.file()).await.unwrap()
}

/// How many bottles were asked for, from the registry or the CDN.
pub(crate) fn fetches(fixture: &Fixture) -> usize {
    fixture.testbed.log().count("cdn:*") + fixture.testbed.log().count("registry:*/blobs/*")
}

pub(crate) fn reasons(report: &ImportReport) -> Vec<(&str, Why)> {
    report.skipped.iter().map(|skipped| (skipped.key.as_str(), skipped.why)).collect()
}

pub(crate) async fn keys(fixture: &Fixture, prefix: &str) -> Vec<String> {
    let found = fixture.store.list(prefix, None, usize::MAX).await.unwrap();
    found.into_iter().map(|meta| meta.key.to_string()).collect()
}

/// What the manifest has as held, all that it knows of it but when and by which run.
pub(crate) async fn held(fixture: &Fixture) -> BTreeMap<String, String> {
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
async fn what_upstream_does_not_list_any_more_is_counted_apart_or_left_out() {
    let mut now = spec();
    let fixture = Fixture::new(now.clone()).await;
    let mut old = Old::of(&fixture, &now).await;
    now.formulae[0] = FormulaSpec::new("openssl@3", "3.7.0").with_bottle("arm64_tahoe", 2_000);
    fixture.testbed.replace(now);
    old.entry("gone-1.0-all", &"0".repeat(64), 5);
    for dry_run in [true, false] {
        let mut importer = importer(&fixture);
        importer.settings.dry_run = dry_run;
        importer.settings.listed_only = true;
        let report = importer.import(old.file()).await.unwrap();
        // Those that no formula is known of are no others.
        assert_eq!((report.unlisted.bottles, report.unlisted.bytes), (3, 740_005), "{report:?}");
        assert_eq!((report.adopted.bottles, reasons(&report)), (4, vec![]));
    }
    let mut importer = importer(&fixture);
    for dry_run in [true, false] {
        importer.settings.dry_run = dry_run;
        let report = importer.import(old.file()).await.unwrap();
        assert_eq!((report.unlisted.bottles, report.unlisted.bytes), (2, 740_000), "{report:?}");
        assert_eq!((report.adopted.bottles, report.recorded.bottles), (2, 5));
    }
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
