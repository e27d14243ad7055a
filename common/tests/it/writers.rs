//! Rule 3: one writer at a time, whoever else tries.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use common::bottle::ObjectKey;
use common::manifest::{self, State};
use common::store::StoreError;
use futures_util::future::BoxFuture;
use testbed::{FormulaSpec, Spec};

use crate::fixture::Fixture;
use crate::flaky::HookedStore;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_manifest_that_someone_else_wrote_is_never_overwritten() {
    let spec = Spec::uniform(1, 4, 2_000, &["all"]);
    let mut fixture = Fixture::new(spec.clone()).await;
    fixture.plan().await;
    fixture.drain().await;
    // The receipts wait. Now upstream has something new, and while it is
    // planned, they are folded.
    let mut newer = spec;
    newer.formulae.push(FormulaSpec::new("new", "1.0").with_bottle("all", 3_000));
    fixture.testbed.replace(newer);
    // A settle by someone else comes in between: after the manifest was read,
    // and before it is written.
    let (inner, other) = (Arc::clone(&fixture.store), Arc::new(fixture.settler()));
    let done = Arc::new(AtomicBool::new(false));
    let meddle = move |key: ObjectKey| -> BoxFuture<'static, Result<(), StoreError>> {
        let (other, done) = (Arc::clone(&other), Arc::clone(&done));
        Box::pin(async move {
            if key.as_str() == manifest::KEY && !done.swap(true, Ordering::Relaxed) {
                assert!(other.settle().await.unwrap().receipts > 0);
            }
            Ok(())
        })
    };
    fixture.store = Arc::new(HookedStore::before_put(inner, meddle));
    assert_eq!(fixture.plan().await.total().bottles, 1);
    let tally = fixture.manifest().await.tally(None);
    assert_eq!((tally.held.bottles, tally.queued.bottles), (4, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_plans_and_settles_at_once_lose_nothing() {
    for seed in 0..crate::SEEDS {
        let fixture = Fixture::new(Spec::bulk(seed, 70, 500..5_000)).await;
        let (a, b, done, _, _) =
            tokio::join!(fixture.plan(), fixture.plan(), fixture.drain(), fixture.settle(), fixture.settle());
        let _ = (a, b, done);
        fixture.drain().await;
        let _ = tokio::join!(fixture.settle(), fixture.settle());
        fixture.settle().await;
        fixture.assert_whole(&[]).await;
        let manifest = fixture.manifest().await;
        assert_eq!(manifest.tally(None).held.bottles, fixture.expected().len() as u64);
        assert!(manifest.runs.is_empty(), "{:?}", manifest.runs);
        assert_eq!(fixture.plan().await.total().bottles, 0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bottle_on_its_way_is_not_queued_again() {
    let fixture = Fixture::new(Spec::bulk(1, 30, 500..5_000)).await;
    let first = fixture.plan().await;
    let second = fixture.plan().await;
    assert!(second.unchanged);

    // The same catalogue under another selection is looked at again.
    let mut fixture = fixture;
    fixture.selection = "formulae=['*']".parse().unwrap();
    let third = fixture.plan().await;
    assert_eq!((third.total().bottles, third.queued as u64), (0, first.total().bottles));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_upstream_changes_is_fetched_and_nothing_else() {
    let spec = Spec::bulk(1, 30, 500..5_000);
    let fixture = Fixture::new(spec.clone()).await;
    fixture.sync().await;

    let mut newer = spec;
    newer.formulae[0].version = "99.0".to_owned();
    newer.formulae[0].bottles.truncate(2);
    for (position, bottle) in newer.formulae[0].bottles.iter_mut().enumerate() {
        bottle.content = 1_000_000 + position as u64;
    }
    newer.formulae.push(FormulaSpec::new("brand-new", "1.0").with_bottle("arm64_tahoe", 777));
    fixture.testbed.replace(newer.clone());
    fixture.testbed.log().clear();
    let (plan, done, _) = fixture.sync().await;
    assert_eq!((plan.total().bottles, done.fetched.bottles), (3, 3));
    assert_eq!(
        fixture.testbed.log().count("registry:*/manifests/*"),
        2,
        "only changed formulae's indexes are read"
    );
    let key = format!("v2/homebrew/core/{}/manifests/99.0", newer.formulae[0].image());
    assert_eq!(fixture.object(&key).await.unwrap(), fixture.testbed.index_bytes(&newer.formulae[0].name));

    // A platform is appended under the same tag: the index is mutable.
    newer.formulae[0].bottles.push(testbed::BottleSpec {
        tag: "x86_64_linux".to_owned(),
        size: 900,
        content: 2_000_000,
    });
    fixture.testbed.replace(newer.clone());
    let (plan, _, settled) = fixture.sync().await;
    assert_eq!((plan.total().bottles, settled.indexes), (1, 1));
    assert_eq!(fixture.object(&key).await.unwrap(), fixture.testbed.index_bytes(&newer.formulae[0].name));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_bottle_under_two_tags_is_one_and_under_two_images_is_copied() {
    let two_tags = FormulaSpec::new("fonts", "1").with_content("arm64_tahoe", 9_000, 42).with_content(
        "arm64_sonoma",
        9_000,
        42,
    );
    let a = FormulaSpec::new("liba", "1").with_content("x86_64_linux", 8_000, 43);
    let b = FormulaSpec::new("libb", "1").with_content("x86_64_linux", 8_000, 43);
    let mut spec = Spec { seed: 1, formulae: vec![two_tags, a], ..Spec::default() };
    let fixture = Fixture::new(spec.clone()).await;
    let (plan, _, _) = fixture.sync().await;
    assert_eq!(plan.total().bottles, 2);
    let record = fixture
        .manifest()
        .await
        .images
        .into_values()
        .find(|image| image.formula.as_str() == "fonts")
        .unwrap();
    let bottle = record.bottles.values().next().unwrap();
    assert_eq!((bottle.tags.len(), &bottle.state), (2, &State::Held));

    spec.formulae.push(b);
    fixture.testbed.replace(spec);
    fixture.testbed.log().clear();
    let (_, done, _) = fixture.sync().await;
    assert_eq!((done.copied.bottles, done.fetched.bottles), (1, 0));
    assert_eq!(fixture.testbed.log().count("*/blobs/*"), 0);
    fixture.assert_whole(&[]).await;
}
