//! What upstream drops is tagged, comes back, and expires; and nothing else does.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use common::bottle::ObjectKey;
use common::clock::{self, Clock};
use common::dead_letter::{Failure, Reason};
use common::manifest::State;
use common::plan::Mode;
use common::receipt::What;
use common::retire::{self, Blocked};
use common::store::{StoreError, superseded_at};
use futures_util::future::BoxFuture;
use jiff::Timestamp;
use testbed::{FormulaSpec, Spec};

use crate::fixture::{Backend, Fixture};
use crate::flaky::{Dice, Fate, FlakyStore, HookedStore};

const DAY: Duration = Duration::from_hours(24);

/// Formulae with one bottle each, on Linux; two of them are on macOS too.
fn spec(names: &[&str]) -> Spec {
    let formula = |name: &&str| {
        let formula = FormulaSpec::new(*name, "1.0").with_bottle("x86_64_linux", 2_000);
        if ["tool", "kept"].contains(name) { formula.with_bottle("sonoma", 2_001) } else { formula }
    };
    Spec { seed: 9, formulae: names.iter().map(formula).collect(), ..Spec::default() }
}

async fn fixture(names: &[&str]) -> Fixture {
    let mut fixture = Fixture::new(spec(names)).await;
    fixture.clock = Clock::manual(Timestamp::now());
    fixture
}

/// Publishes `names` in a run of their own.
async fn publish(fixture: &Fixture, names: &[&str]) -> common::settle::SettleReport {
    fixture.clock.advance(Duration::from_mins(10));
    fixture.testbed.replace(spec(names));
    fixture.sync().await.2
}

async fn tagged(fixture: &Fixture, key: &common::bottle::ObjectKey) -> bool {
    superseded_at(&fixture.store.tags(key).await.unwrap()).is_some()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_upstream_drops_is_tagged_once_nothing_published_names_it() {
    let fixture = fixture(&["tool", "kept"]).await;
    fixture.sync().await;
    let key = fixture.key_of("tool", "x86_64_linux");
    // The first publication without it: what was read before, to which a rollback
    // leads, still names it.
    assert_eq!(publish(&fixture, &["kept"]).await.retired, 0);
    assert!(!tagged(&fixture, &key).await);
    let outlook = outlook(&fixture).await;
    assert_eq!((outlook.now.len(), outlook.still_named), (0, 2));
    assert_eq!(publish(&fixture, &["kept", "newer"]).await.retired, 2);
    assert!(tagged(&fixture, &key).await);
    assert!(fixture.object(key.as_str()).await.is_some());
    assert!(!tagged(&fixture, &fixture.key_of("kept", "x86_64_linux")).await);
}

async fn outlook(fixture: &Fixture) -> retire::Outlook {
    let manifest = fixture.manifest().await;
    let (now, grace) = (fixture.clock.now(), fixture.expire_after);
    retire::outlook(&*fixture.store, &manifest, None, now, grace).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_comes_back_is_untagged_or_fetched_again() {
    let fixture = fixture(&["tool", "kept"]).await;
    fixture.sync().await;
    publish(&fixture, &["kept"]).await;
    publish(&fixture, &["kept", "newer"]).await;
    let keys = fixture.store.list("v2/homebrew/core/tool/blobs/", None, 10).await.unwrap();
    assert_eq!((keys.len(), outlook(&fixture).await.superseded.len()), (2, 2));
    // One of them has expired meanwhile.
    fixture.remove(keys[0].key.as_str()).await;
    fixture.testbed.log().clear();
    publish(&fixture, &["tool", "kept", "newer"]).await;
    for meta in &keys {
        assert!(!tagged(&fixture, &meta.key).await, "{} would expire", meta.key);
    }
    fixture.assert_whole(&[]).await;
    assert_eq!(fixture.testbed.log().count("registry:*/blobs/*"), 1);
    assert_eq!(outlook(&fixture).await, retire::Outlook::default());
}

/// A mirror whose next settle publishes what names `tool` no more, for the second time,
/// and so tags its bottles.
async fn about_to_retire() -> Fixture {
    let fixture = fixture(&["tool", "kept"]).await;
    fixture.sync().await;
    publish(&fixture, &["kept"]).await;
    fixture.clock.advance(Duration::from_mins(10));
    fixture.testbed.replace(spec(&["kept", "newer"]));
    fixture.plan().await;
    fixture.drain().await;
    fixture
}

/// Whoever tags is killed, or fails, at each of its writes, and upstream lists the
/// bottle again at once: nothing that clients are told of may be left with a tag.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_tag_outlives_what_the_manifest_knows_of_it() {
    let all = [("retag", 1), ("put", 3), ("retag", 2), ("put", 1), ("put", 2), ("put", 4)];
    // Which object it is at differs from call to call, and not from store to store.
    let some = match crate::BACKEND {
        Backend::Local => &all[..],
        Backend::Aws => &all[..2],
    };
    for &(operation, nth) in some {
        for fate in [Fate::FailsBefore, Fate::FailsAfter] {
            let mut fixture = about_to_retire().await;
            let sound = Arc::clone(&fixture.store);
            let dice = Dice::nth(operation, nth, fate);
            fixture.store = Arc::new(FlakyStore { inner: Arc::clone(&sound), dice });
            let _ = fixture.settler().settle().await;
            fixture.store = sound;
            publish(&fixture, &["tool", "kept", "newer"]).await;
            for tag in ["x86_64_linux", "sonoma"] {
                let key = fixture.key_of("tool", tag);
                assert!(!tagged(&fixture, &key).await, "{operation} {nth} {fate:?}: {key} would expire");
            }
            fixture.assert_whole(&[]).await;
        }
    }
}

/// A plan that finds the bottle listed again in the middle of a settle that tags it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bottle_that_comes_back_while_it_is_tagged_is_untagged() {
    for nth in 1..=2 {
        let mut fixture = about_to_retire().await;
        let sound = Arc::clone(&fixture.store);
        let planner = Arc::new(fixture.planner());
        fixture.testbed.replace(spec(&["tool", "kept", "newer"]));
        // Before the first or the second time that this settle writes the manifest.
        let left = Arc::new(AtomicUsize::new(nth));
        let meddle = move |key: ObjectKey| -> BoxFuture<'static, Result<(), StoreError>> {
            let (planner, left) = (Arc::clone(&planner), Arc::clone(&left));
            Box::pin(async move {
                if key.as_str() == common::manifest::KEY && left.fetch_sub(1, Ordering::Relaxed) == 1 {
                    planner.plan(Mode::Queue).await.unwrap();
                }
                Ok(())
            })
        };
        fixture.store = Arc::new(HookedStore::before_put(Arc::clone(&sound), meddle));
        fixture.settle().await;
        fixture.store = sound;
        fixture.drain().await;
        fixture.settle().await;
        for tag in ["x86_64_linux", "sonoma"] {
            assert!(!tagged(&fixture, &fixture.key_of("tool", tag)).await, "{nth}: {tag} would expire");
        }
        assert!(fixture.api("formula.jws.json").await == fixture.upstream_api("formula.jws.json"), "{nth}");
        fixture.assert_whole(&[]).await;
    }
}

/// An object that can't be tagged is one that stays; everything else goes on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_can_not_be_tagged_stops_no_settle() {
    let mut fixture = fixture(&["tool", "kept"]).await;
    fixture.sync().await;
    publish(&fixture, &["kept"]).await;
    let sound = Arc::clone(&fixture.store);
    fixture.store = Arc::new(FlakyStore { inner: Arc::clone(&sound), dice: Dice::always("retag") });
    let settled = publish(&fixture, &["kept", "newer"]).await;
    assert_eq!((settled.retired, settled.untagged, settled.settled.len()), (2, 2, 1));
    assert!(fixture.store.list(common::receipt::PREFIX, None, 1).await.unwrap().is_empty());
    fixture.clock.advance(DAY * 200);
    assert_eq!(fixture.settle().await.expired, 0);
    // One that could not be untagged is not told to clients, until it is.
    fixture.store = Arc::clone(&sound);
    fixture.settle().await;
    fixture.store = Arc::new(FlakyStore { inner: Arc::clone(&sound), dice: Dice::always("retag") });
    let settled = publish(&fixture, &["tool", "kept", "newer"]).await;
    assert_eq!(settled.publication.published, []);
    fixture.store = sound;
    assert!(!fixture.settle().await.publication.published.is_empty());
    assert!(fixture.api("formula.jws.json").await == fixture.upstream_api("formula.jws.json"));
}

/// What a lost or damaged set names can't be known, and settle goes on all the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_set_that_can_not_be_read_retires_nothing_and_stops_no_settle() {
    for is_damaged in [true, false] {
        let fixture = fixture(&["tool", "kept"]).await;
        fixture.sync().await;
        publish(&fixture, &["kept"]).await;
        let previous = fixture.manifest().await.publication.previous.into_values().next().unwrap().run;
        let key = common::publication::set_key(&previous).unwrap();
        if is_damaged {
            fixture.overwrite(key.as_str(), b"no set").await;
        } else {
            fixture.remove(key.as_str()).await;
        }
        fixture.order(What::Rollback { clients: Vec::new() }).await;
        fixture.clock.advance(Duration::from_secs(1));
        fixture.order(What::Resume).await;
        assert_eq!(fixture.settle().await.retired, 0);
        let blocked = outlook(&fixture).await.blocked;
        assert!(
            matches!(&blocked, Some(Blocked::UnreadableSet { run, .. }) if *run == previous),
            "{blocked:?}"
        );
        assert!(fixture.store.list(common::receipt::PREFIX, None, 1).await.unwrap().is_empty());
        // Once nobody would be led back to it, it is in nobody's way.
        let retired = publish(&fixture, &["kept", "newer"]).await.retired;
        assert_eq!(retired, 2, "{is_damaged}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_kept_is_never_retired() {
    for keep in ["keep = { tags = ['sonoma'] }", "keep = { formulae = ['to*'] }"] {
        let mut fixture = fixture(&["tool", "kept"]).await;
        fixture.selection = keep.parse().unwrap();
        fixture.sync().await;
        let (mac, linux) = (fixture.key_of("tool", "sonoma"), fixture.key_of("tool", "x86_64_linux"));
        publish(&fixture, &["kept"]).await;
        publish(&fixture, &["kept", "newer"]).await;
        publish(&fixture, &["kept"]).await;
        assert!(!tagged(&fixture, &mac).await, "{keep}");
        assert_eq!(tagged(&fixture, &linux).await, keep.contains("tags"), "{keep}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_superseded_expires_after_the_grace_and_is_forgotten() {
    let fixture = fixture(&["tool", "kept"]).await;
    fixture.sync().await;
    let key = fixture.key_of("tool", "x86_64_linux");
    publish(&fixture, &["kept"]).await;
    publish(&fixture, &["kept", "newer"]).await;
    fixture.clock.advance(DAY * 89);
    assert_eq!(fixture.settle().await.expired, 0);
    assert!(fixture.object(key.as_str()).await.is_some());
    fixture.clock.advance(DAY * 2);
    let expired = fixture.settle().await.expired;
    match crate::BACKEND {
        Backend::Local => {
            assert_eq!(expired, 2);
            assert!(fixture.object(key.as_str()).await.is_none());
        }
        // There a rule of the bucket's does it; what it did is taken note of.
        Backend::Aws => {
            assert_eq!(expired, 0);
            assert!(fixture.object(key.as_str()).await.is_some());
            fixture.remove(key.as_str()).await;
            fixture.clock.advance(DAY * 2);
            assert_eq!(fixture.settle().await.expired, 1);
        }
    }
    let manifest = fixture.manifest().await;
    assert!(
        manifest.bottle(&"v2/homebrew/core/tool".parse().unwrap(), &key.blob_digest().unwrap()).is_none()
    );
    fixture.assert_unchanged(&["kept", "newer"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn half_a_mirror_is_not_retired_at_once() {
    let names: Vec<String> = (0..240).map(|n| format!("f{n:03}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let fixture = fixture(&names).await;
    fixture.sync().await;
    publish(&fixture, &names[..120]).await;
    assert_eq!(publish(&fixture, &names[..119]).await.retired, 0);
    assert_eq!(outlook(&fixture).await.blocked, Some(Blocked::TooMany { bottles: 120, held: 240 }));
    fixture.order(What::Retire { at_most: 120 }).await;
    assert_eq!(fixture.settle().await.retired, 120);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_formula_that_can_not_be_read_is_not_taken_for_dropped() {
    let fixture = fixture(&["tool", "kept"]).await;
    fixture.sync().await;
    for raw in [serde_json::json!({"name": "tool", "bottle": 5}), serde_json::json!(5)] {
        for names in [&["kept"][..], &["kept", "newer"], &["kept", "newer", "third"]] {
            fixture.clock.advance(Duration::from_mins(10));
            let mut spec = spec(names);
            spec.raw_elements.push(raw.clone());
            fixture.testbed.replace(spec);
            fixture.sync().await;
        }
        assert_eq!(outlook(&fixture).await, retire::Outlook::default(), "{raw}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_retired_while_newer_files_wait_or_a_rollback_holds() {
    let fixture = fixture(&["tool", "kept"]).await;
    fixture.sync().await;
    publish(&fixture, &["kept"]).await;
    fixture.order(What::Rollback { clients: Vec::new() }).await;
    fixture.settle().await;
    assert_eq!(publish(&fixture, &["kept", "newer"]).await.retired, 0);
    assert_eq!(outlook(&fixture).await.blocked, Some(Blocked::HeldBack));
    fixture.order(What::Resume).await;
    fixture.settle().await;
    fixture.clock.advance(Duration::from_mins(10));
    fixture.testbed.replace(spec(&["kept", "newer", "third"]));
    fixture.plan().await;
    assert_eq!(fixture.settle().await.retired, 0);
    assert_eq!(outlook(&fixture).await.blocked, Some(Blocked::Waiting));
    fixture.drain().await;
    fixture.settle().await;
    assert_eq!(outlook(&fixture).await.superseded.len(), 2);
    let expires_at = outlook(&fixture).await.superseded[0].expires_at;
    assert_eq!(clock::since(fixture.clock.now(), expires_at), DAY * 90);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_given_up_on_and_dropped_is_forgotten_when_its_letter_is_gone() {
    let fixture = fixture(&["tool", "kept"]).await;
    fixture.sync().await;
    let keys = ["tool", "kept"].map(|formula| fixture.key_of(formula, "x86_64_linux"));
    let digests = keys.map(|key| key.blob_digest().unwrap());
    let at = fixture.clock.now();
    fixture
        .change_manifest(|manifest| {
            for (digest, record) in manifest.images.values_mut().flat_map(|image| &mut image.bottles) {
                if digests.contains(digest) {
                    record.at = at;
                    record.state = State::Dead(Failure::new(Reason::NotFound, "gone", 1, at));
                }
            }
        })
        .await;
    let known = async || {
        let manifest = fixture.manifest().await;
        digests.map(|digest| manifest.images.values().any(|image| image.bottles.contains_key(&digest)))
    };
    // Its letter may still be sent back.
    publish(&fixture, &["kept"]).await;
    assert_eq!(known().await, [true, true]);
    fixture.clock.advance(DAY * 15);
    publish(&fixture, &["kept", "newer"]).await;
    assert_eq!(known().await, [false, true]);
    // Nothing is left that would have every plan look at everything.
    fixture.clock.advance(Duration::from_mins(10));
    assert!(fixture.plan().await.unchanged);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bottle_whose_tags_nobody_knows_is_kept_until_they_are_known() {
    let mut fixture = fixture(&["tool", "kept"]).await;
    fixture.selection = "keep = { tags = ['sonoma'] }".parse().unwrap();
    fixture.sync().await;
    let keys = ["sonoma", "x86_64_linux"].map(|tag| fixture.key_of("tool", tag));
    let forget = async || {
        let forget = |manifest: &mut common::manifest::Manifest| {
            let bottles = manifest.images.values_mut().flat_map(|image| image.bottles.values_mut());
            bottles.for_each(|record| record.tags.clear());
        };
        fixture.change_manifest(forget).await;
    };
    // As after a rebuild without their index. A catalogue that lists them tells.
    forget().await;
    publish(&fixture, &["tool", "kept", "newer"]).await;
    let manifest = fixture.manifest().await;
    for image in manifest.images.values() {
        assert!(image.bottles.values().all(|record| record.tags.len() == 1), "{}", image.formula);
    }
    forget().await;
    publish(&fixture, &["kept"]).await;
    publish(&fixture, &["kept", "newer"]).await;
    publish(&fixture, &["kept"]).await;
    for key in &keys {
        assert!(!tagged(&fixture, key).await, "{key} may be one that is never retired");
    }
}
