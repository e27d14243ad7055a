//! API files: published after what they name, client by client, and taken back.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use common::bottle::{Digest, ObjectKey};
use common::clock::Clock;
use common::publication::Scope;
use common::receipt::What;
use common::store::StoreError;
use futures_util::future::BoxFuture;
use jiff::Timestamp;
use testbed::{Fault, FormulaSpec, Spec, Times};

use crate::fixture::Fixture;
use crate::flaky::{Dice, Fate, FlakyStore, HookedStore};

const TAHOE: &str = "internal/packages.arm64_tahoe.jws.json";
const LINUX: &str = "internal/packages.x86_64_linux.jws.json";
const ALL: [&str; 2] = ["formula.jws.json", "formula.json"];
const NO_BOTTLES: [&str; 3] =
    ["cask.jws.json", "cask_tap_migrations.jws.json", "formula_tap_migrations.jws.json"];

/// Two formulae on two platforms; `version` tells publications apart.
fn spec(version: &str) -> Spec {
    let formula = |name: &str| {
        FormulaSpec::new(name, version).with_bottle("arm64_tahoe", 3_000).with_bottle("x86_64_linux", 3_001)
    };
    Spec { seed: 4, formulae: vec![formula("tool"), formula("other")], ..Spec::default() }
}

async fn fixture(version: &str) -> Fixture {
    let mut fixture = Fixture::new(spec(version)).await;
    fixture.selection = "tags = ['arm64_tahoe', 'x86_64_linux']".parse().unwrap();
    fixture
}

fn missing() -> Fault {
    Fault::Status { code: 404, retry_after: None }
}

/// What clients read now is what upstream has now.
async fn assert_published(fixture: &Fixture, paths: &[&str]) {
    for path in paths {
        let published = fixture.api(path).await;
        assert!(published.is_some(), "{path} is not published");
        assert!(published == fixture.upstream_api(path), "{path} is not what upstream has");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn api_files_are_published_verbatim_after_their_bottles() {
    let fixture = fixture("1.0").await;
    let plan = fixture.plan().await;
    assert_eq!((plan.api.staged, plan.api.files, plan.api.fresh), (true, 7, 7));
    let settled = fixture.settle().await;
    assert_eq!(settled.publication.published, []);
    let waiting: Vec<_> =
        settled.publication.waiting.iter().map(|one| (one.client.to_string(), one.queued)).collect();
    assert_eq!(waiting, [("arm64_tahoe".to_owned(), 2), ("x86_64_linux".to_owned(), 2)]);
    assert!(fixture.store.list("api/", None, 1).await.unwrap().is_empty());

    fixture.drain().await;
    let settled = fixture.settle().await;
    assert_eq!(settled.publication.published.len(), 4);
    assert_eq!(settled.publication.waiting, []);
    assert_published(&fixture, &[TAHOE, LINUX]).await;
    assert_published(&fixture, &ALL).await;
    assert_published(&fixture, &NO_BOTTLES).await;
    // With upstream's own date, which is of whole seconds.
    let meta = fixture.store.head(&format!("api/{TAHOE}").parse().unwrap()).await.unwrap().unwrap();
    assert_eq!(meta.modified.subsec_nanosecond(), 0);
    assert!(meta.modified <= Timestamp::now());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_bottle_holds_back_its_own_client_and_what_names_all() {
    let fixture = fixture("1.0").await;
    let dead = fixture.digest_of("tool", "arm64_tahoe");
    fixture.testbed.faults().set(&format!("registry:*{dead}"), missing(), Times::Always);
    let (.., settled) = fixture.sync().await;
    assert_published(&fixture, &[LINUX]).await;
    assert_published(&fixture, &NO_BOTTLES).await;
    for path in [TAHOE, ALL[0], ALL[1]] {
        assert!(fixture.api(path).await.is_none(), "{path} names a bottle that is not there");
    }
    assert_eq!((settled.publication.waiting.len(), settled.publication.waiting[0].dead), (1, 1));

    // Unless the operator says so, of another client too.
    fixture.order(What::PublishDespiteDead { clients: vec!["x86_64_linux".parse().unwrap()] }).await;
    fixture.settle().await;
    assert!(fixture.api(TAHOE).await.is_none());
    fixture.order(What::PublishDespiteDead { clients: Vec::new() }).await;
    fixture.settle().await;
    assert_published(&fixture, &[TAHOE, ALL[0], ALL[1]]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replayed_bottle_lets_its_client_be_published() {
    let fixture = fixture("1.0").await;
    let dead = fixture.digest_of("tool", "arm64_tahoe");
    let pattern = format!("registry:*{dead}");
    fixture.testbed.faults().set(&pattern, missing(), Times::Always);
    fixture.sync().await;
    fixture.testbed.faults().clear();
    fixture.desk().go_through(common::dead_letter::Deed::Replay, |_| true).await.unwrap();
    fixture.settle().await;
    assert!(fixture.api(TAHOE).await.is_none());
    fixture.drain().await;
    fixture.settle().await;
    assert_published(&fixture, &[TAHOE, ALL[0]]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fallback_bottle_is_waited_for_too() {
    let formula = FormulaSpec::new("old", "1.0").with_bottle("arm64_sonoma", 2_000);
    let spec = Spec { seed: 4, formulae: vec![formula], ..Spec::default() };
    let mut fixture = Fixture::new(spec).await;
    fixture.selection = "tags = ['arm64_tahoe']".parse().unwrap();
    fixture.plan().await;
    fixture.settle().await;
    assert!(fixture.api(TAHOE).await.is_none());
    fixture.drain().await;
    fixture.settle().await;
    assert_published(&fixture, &[TAHOE]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_read_before_is_kept_and_put_back() {
    let fixture = fixture("1.0").await;
    fixture.sync().await;
    let first = fixture.upstream_api(TAHOE).unwrap();
    fixture.testbed.replace(spec("2.0"));
    fixture.plan().await;
    fixture.settle().await;
    assert!(fixture.api(TAHOE).await.unwrap() == first, "published before its bottles");
    fixture.drain().await;
    fixture.settle().await;
    assert_published(&fixture, &[TAHOE, LINUX, ALL[0]]).await;

    fixture.order(What::Rollback { clients: Vec::new() }).await;
    assert!(!fixture.settle().await.rolled_back.is_empty());
    assert!(fixture.api(TAHOE).await.unwrap() == first);
    // Nothing newer comes by itself.
    fixture.testbed.replace(spec("3.0"));
    let (.., settled) = fixture.sync().await;
    assert_eq!(settled.publication.published, []);
    assert!(fixture.api(TAHOE).await.unwrap() == first);
    fixture.order(What::Resume).await;
    fixture.settle().await;
    assert_published(&fixture, &[TAHOE, LINUX, ALL[0]]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_rolled_back_comes_again_once_that_is_asked_for() {
    let fixture = fixture("1.0").await;
    fixture.sync().await;
    fixture.testbed.replace(spec("2.0"));
    fixture.sync().await;
    fixture.order(What::Rollback { clients: Vec::new() }).await;
    fixture.settle().await;
    fixture.sync().await;
    assert!(fixture.api(TAHOE).await != fixture.upstream_api(TAHOE));
    fixture.order(What::Resume).await;
    fixture.settle().await;
    // Upstream is as it was, and all the same not what clients read.
    fixture.sync().await;
    assert_published(&fixture, &[TAHOE, LINUX, ALL[0]]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_that_are_the_same_are_nothing_to_go_back_to() {
    let fixture = fixture("1.0").await;
    fixture.sync().await;
    let first = fixture.upstream_api(TAHOE).unwrap();
    for _ in 0..3 {
        // The second and third time the casks alone are others.
        fixture.testbed.replace(spec("2.0"));
        fixture.sync().await;
    }
    fixture.order(What::Rollback { clients: Vec::new() }).await;
    fixture.settle().await;
    assert!(fixture.api(TAHOE).await.unwrap() == first, "a rollback that changes nothing");
}

/// Receipts may stay though what they ask was done: each is obeyed once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_order_that_is_still_there_is_not_obeyed_again() {
    let mut fixture = fixture("1.0").await;
    fixture.clock = Clock::manual(Timestamp::now());
    fixture.sync().await;
    let first = fixture.upstream_api(TAHOE).unwrap();
    fixture.clock.advance(Duration::from_mins(1));
    fixture.testbed.replace(spec("2.0"));
    fixture.sync().await;
    for what in [What::Rollback { clients: Vec::new() }, What::Resume] {
        fixture.clock.advance(Duration::from_mins(1));
        fixture.order(what).await;
    }
    let sound = Arc::clone(&fixture.store);
    fixture.store = Arc::new(FlakyStore { inner: Arc::clone(&sound), dice: Dice::always("delete") });
    for round in 0..4 {
        fixture.settle().await;
        assert!(fixture.api(TAHOE).await.unwrap() == first, "round {round}");
    }
    fixture.store = sound;
    fixture.settle().await;
    assert!(fixture.api(TAHOE).await.unwrap() == first);
    // Two of them that nobody saw the effect of in between are one.
    for _ in 0..2 {
        fixture.sync().await;
        fixture.clock.advance(Duration::from_mins(1));
        assert_published(&fixture, &[TAHOE]).await;
        for _ in 0..2 {
            fixture.order(What::Rollback { clients: Vec::new() }).await;
        }
        fixture.settle().await;
        assert!(fixture.api(TAHOE).await.unwrap() == first);
        fixture.order(What::Resume).await;
        fixture.settle().await;
    }
}

/// A selection for one plan brings bottles, and changes nothing that clients are told.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_plan_for_a_part_queues_and_does_no_more() {
    let fixture = fixture("1.0").await;
    fixture.sync().await;
    for version in ["2.0", "3.0", "4.0"] {
        fixture.testbed.replace(spec(version));
        let mut planner = fixture.planner();
        planner.settings.is_partial = true;
        planner.selection = "formulae = ['tool']\ntags = ['x86_64_linux']".parse().unwrap();
        let plan = planner.plan(common::plan::Mode::Queue).await.unwrap();
        assert_eq!((plan.total().bottles, plan.api.staged), (1, false));
        fixture.drain().await;
        let settled = fixture.settle().await;
        assert_eq!((settled.publication.published.len(), settled.retired), (0, 0));
    }
    let manifest = fixture.manifest().await;
    let mut records = manifest.images.values().flat_map(|image| image.bottles.values());
    assert!(records.all(|record| record.dropped_at.is_none() && record.superseded_at.is_none()));
    // The next plan takes up where the last whole one left off.
    let (plan, ..) = fixture.sync().await;
    assert_eq!((plan.unchanged, plan.total().bottles), (false, 3));
    assert_published(&fixture, &[TAHOE, LINUX, ALL[0]]).await;
}

/// A client's file that upstream no longer has stays, and so does all that it names.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_whose_file_is_gone_goes_on_with_the_last_one() {
    let fixture = fixture("1.0").await;
    fixture.sync().await;
    let first = fixture.upstream_api(LINUX).unwrap();
    let bottles = ["tool", "other"].map(|name| fixture.key_of(name, "x86_64_linux"));
    fixture.testbed.faults().set(&format!("api:/api/{LINUX}"), missing(), Times::Always);
    for version in ["2.0", "3.0", "4.0"] {
        let formula = |name: &str| FormulaSpec::new(name, version).with_bottle("arm64_tahoe", 3_000);
        let formulae = vec![formula("tool"), formula("other")];
        fixture.testbed.replace(Spec { seed: 4, formulae, ..Spec::default() });
        let (.., settled) = fixture.sync().await;
        let linux = Scope::Client("x86_64_linux".parse().unwrap());
        assert!(!settled.publication.published.contains(&linux), "{version}: nothing was published to it");
        assert_eq!(settled.publication.waiting, []);
    }
    assert!(fixture.api(LINUX).await.unwrap() == first);
    let manifest = fixture.manifest().await;
    for key in bottles {
        assert!(fixture.store.tags(&key).await.unwrap().is_empty(), "{key} would expire");
        let image = key.as_str().split("/blobs/").next().unwrap().parse().unwrap();
        let record = manifest.bottle(&image, &key.blob_digest().unwrap()).unwrap();
        assert_eq!((record.dropped_at.is_some(), record.superseded_at), (true, None), "{key}");
    }
}

/// What comes undone while a plan goes on is not forgotten with its end.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_comes_undone_while_a_plan_goes_on_is_planned_again() {
    let mut fixture = fixture("1.0").await;
    fixture.sync().await;
    fixture.testbed.replace(spec("2.0"));
    let image = "v2/homebrew/core/other".parse().unwrap();
    fixture.order(What::Reindex { image, tag: "1.0".parse().unwrap() }).await;
    let sound = Arc::clone(&fixture.store);
    let settler = Arc::new(fixture.settler());
    let is_first = Arc::new(AtomicBool::new(true));
    let meddle = move |key: ObjectKey| -> BoxFuture<'static, Result<(), StoreError>> {
        let (settler, is_first) = (Arc::clone(&settler), Arc::clone(&is_first));
        Box::pin(async move {
            if key.as_str() == common::manifest::KEY && is_first.swap(false, Ordering::Relaxed) {
                settler.settle().await.unwrap();
            }
            Ok(())
        })
    };
    fixture.store = Arc::new(HookedStore::before_put(Arc::clone(&sound), meddle));
    fixture.plan().await;
    fixture.store = sound;
    assert!(!fixture.plan().await.unchanged, "it was forgotten");
    assert!(fixture.plan().await.unchanged);
}

/// A published file that is damaged, whose staged copy is gone as well.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_nobody_has_any_more_is_staged_anew() {
    let fixture = fixture("1.0").await;
    fixture.sync().await;
    let right = fixture.upstream_api(TAHOE).unwrap();
    fixture.overwrite(&format!("api/{TAHOE}"), b"damaged").await;
    fixture.remove(&format!("_sync/api/files/{}", Digest::of(&right))).await;
    fixture.order(What::Republish { paths: vec![TAHOE.to_owned()] }).await;
    fixture.settle().await;
    fixture.sync().await;
    assert_published(&fixture, &[TAHOE, LINUX, ALL[0]]).await;
    assert!(fixture.plan().await.unchanged);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_client_alone_is_put_back() {
    let fixture = fixture("1.0").await;
    fixture.sync().await;
    let first = fixture.upstream_api(TAHOE).unwrap();
    fixture.testbed.replace(spec("2.0"));
    fixture.sync().await;
    fixture.order(What::Rollback { clients: vec!["arm64_tahoe".parse().unwrap()] }).await;
    assert_eq!(fixture.settle().await.rolled_back, [Scope::Client("arm64_tahoe".parse().unwrap())]);
    assert!(fixture.api(TAHOE).await.unwrap() == first);
    assert_published(&fixture, &[LINUX, ALL[0]]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn upstream_that_changes_while_it_is_read_is_read_again() {
    for pattern in ["api:/api/formula.json", "api:/api/cask.jws.json", "api:/api/formula.jws.json"] {
        let fixture = fixture("1.0").await;
        fixture.testbed.replace_after(pattern, 1, spec("2.0"));
        let (plan, ..) = fixture.sync().await;
        assert_eq!(plan.api.trouble, None, "{pattern}");
        fixture.assert_whole(&[]).await;
        assert_published(&fixture, &[TAHOE, LINUX, ALL[0], ALL[1], NO_BOTTLES[0]]).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn upstream_that_never_holds_still_is_mirrored_but_not_published() {
    let fixture = fixture("1.0").await;
    for round in 0..4 {
        fixture.testbed.replace_after("api:/api/cask.jws.json", round + 1, spec(&format!("2.{round}")));
    }
    let (plan, ..) = fixture.sync().await;
    assert!(plan.api.trouble.unwrap().contains("changed"));
    assert!(fixture.store.list("api/", None, 1).await.unwrap().is_empty());
    assert!(!fixture.store.list("v2/", None, 1).await.unwrap().is_empty());
    // The next plan begins from the start, and is lucky.
    fixture.testbed.replace(spec("3.0"));
    let (plan, ..) = fixture.sync().await;
    assert!(plan.api.staged);
    assert_published(&fixture, &[TAHOE, LINUX, ALL[0], ALL[1]]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_api_file_that_upstream_lacks_is_no_failure() {
    let fixture = fixture("1.0").await;
    fixture.testbed.faults().set("api:/api/cask.jws.json", missing(), Times::Always);
    fixture.testbed.faults().set(&format!("api:/api/{LINUX}"), missing(), Times::Always);
    let (plan, ..) = fixture.sync().await;
    let lacking: Vec<_> = plan.api.missing.iter().map(ToString::to_string).collect();
    assert_eq!(lacking, [LINUX, "cask.jws.json"]);
    assert_published(&fixture, &[TAHOE, ALL[0], ALL[1], NO_BOTTLES[1]]).await;
    assert!(fixture.api("cask.jws.json").await.is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_api_file_that_can_not_be_had_leaves_what_is_published() {
    let broken = Fault::Status { code: 400, retry_after: None };
    for fault in [broken, Fault::Garbage, Fault::Truncate { after_bytes: 40 }] {
        let fixture = fixture("1.0").await;
        fixture.sync().await;
        let first = fixture.upstream_api(LINUX).unwrap();
        fixture.testbed.replace(spec("2.0"));
        fixture.testbed.faults().set("api:/api/formula.jws.json", fault.clone(), Times::Always);
        let (plan, done, _) = fixture.sync().await;
        assert!(plan.api.trouble.is_some(), "{fault:?} was taken");
        assert_eq!(done.fetched.bottles, 4);
        assert!(fixture.api(LINUX).await.unwrap() == first, "{fault:?}");
        fixture.testbed.faults().clear();
        fixture.sync().await;
        assert_published(&fixture, &[TAHOE, LINUX, ALL[0], ALL[1]]).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_did_not_change_is_not_written_again() {
    let fixture = fixture("1.0").await;
    fixture.sync().await;
    let key = "api/formula_tap_migrations.jws.json".parse().unwrap();
    let before = fixture.store.read(&key, None).await.unwrap().unwrap();
    let listed = fixture.store.list("api/formula_tap", None, 1).await.unwrap();
    // The casks alone are others: the catalogue is the same.
    fixture.testbed.replace(spec("1.0"));
    let (plan, ..) = fixture.sync().await;
    assert!(plan.unchanged && plan.api.staged && plan.api.fresh >= 1, "{:?}", plan.api);
    assert_published(&fixture, &["cask.jws.json"]).await;
    let after = fixture.store.read(&key, None).await.unwrap().unwrap();
    assert_eq!(after.version, before.version);
    assert_eq!(fixture.store.list("api/formula_tap", None, 1).await.unwrap()[0].modified, listed[0].modified);
    let (plan, ..) = fixture.sync().await;
    assert!(plan.unchanged && !plan.api.staged);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_older_set_is_published_while_a_newer_one_waits() {
    let fixture = fixture("1.0").await;
    fixture.plan().await;
    let first = fixture.upstream_api(TAHOE).unwrap();
    fixture.testbed.replace(spec("2.0"));
    // What the first plan queued is done when the second plan's is not.
    fixture.drain().await;
    fixture.plan().await;
    let settled = fixture.settle().await;
    assert!(fixture.api(TAHOE).await.unwrap() == first);
    assert_eq!(settled.publication.waiting.len(), 2);
    fixture.drain().await;
    fixture.settle().await;
    assert_published(&fixture, &[TAHOE, LINUX, ALL[0]]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_settle_that_dies_between_two_files_is_made_good_by_the_next() {
    for nth in 1..=9 {
        for fate in [Fate::FailsBefore, Fate::FailsAfter] {
            let mut fixture = fixture("1.0").await;
            fixture.plan().await;
            fixture.drain().await;
            let inner = Arc::clone(&fixture.store);
            let dice = Dice::nth("put", nth, fate);
            fixture.store = Arc::new(FlakyStore { inner: inner.clone(), dice });
            let _ = fixture.settler().settle().await;
            fixture.store = inner;
            fixture.settle().await;
            assert_published(&fixture, &[TAHOE, LINUX, ALL[0], ALL[1]]).await;
            assert_published(&fixture, &NO_BOTTLES).await;
            fixture.assert_whole(&[]).await;
        }
        if matches!(crate::BACKEND, crate::fixture::Backend::Aws) && nth == 2 {
            break;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sets_that_nobody_needs_are_removed() {
    let mut fixture = fixture("1.0").await;
    for version in ["1.0", "2.0", "3.0", "4.0"] {
        fixture.testbed.replace(spec(version));
        fixture.sync().await;
    }
    let sets = || async { fixture.store.list("_sync/api/sets/", None, 100).await.unwrap().len() };
    assert_eq!(sets().await, 4);
    // All were written a moment ago, and are kept for some hours.
    fixture.clock = Clock::manual(common::clock::after(Timestamp::now(), Duration::from_hours(12)));
    fixture.testbed.replace(spec("5.0"));
    fixture.sync().await;
    assert_eq!(fixture.store.list("_sync/api/sets/", None, 100).await.unwrap().len(), 2);
    fixture.order(What::Rollback { clients: Vec::new() }).await;
    assert_eq!(fixture.settle().await.rolled_back.len(), 4);
}
