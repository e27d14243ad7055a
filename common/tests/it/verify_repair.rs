//! Verify's repair: exactly what is missing or damaged is asked for again, once.

use std::sync::Arc;
use std::time::Duration;

use common::manifest::State;
use common::message::{Lane, Message};
use common::publication::Scope;
use common::receipt::{Outcome, Receipt, What};
use common::store::StoreError;
use common::verify::{Depth, Kind, Repair, Report, VerifyError};
use futures_util::future::BoxFuture;
use testbed::{FormulaSpec, Spec};

use crate::fixture::{Fixture, SIZE_THRESHOLD};
use crate::flaky::{Dice, FlakyStore, HookedStore};
use crate::verify::{altered, mirrored, only, tool};
use crate::verify_published::published;

impl Fixture {
    async fn repair(&self, depth: Depth) -> Report {
        let verifier = self.verifier(depth);
        let mut report = verifier.verify().await.unwrap();
        verifier.repair(&mut report).await.unwrap();
        report
    }

    async fn queued(&self, lane: Lane) -> u64 {
        self.queues[&lane].0.depth().await.unwrap().total()
    }

    /// What is on a queue; it stays there.
    async fn messages(&self, lane: Lane) -> Vec<Message> {
        let queue = &self.queues[&lane].0;
        let deliveries = queue.receive(10, Duration::from_mins(1), Duration::ZERO).await.unwrap();
        let handles: Vec<_> = deliveries.iter().map(|delivery| delivery.handle.clone()).collect();
        queue.release(&handles, Duration::ZERO).await.unwrap();
        deliveries.iter().map(|delivery| Message::parse(&delivery.body).unwrap()).collect()
    }

    async fn receipts(&self) -> Vec<Receipt> {
        let mut receipts = Vec::new();
        for meta in self.store.list("_sync/receipts/", None, usize::MAX).await.unwrap() {
            let body = self.store.get(&meta.key).await.unwrap().unwrap().body;
            receipts.push(serde_json::from_slice(&body).unwrap());
        }
        receipts
    }

    async fn orders(&self) -> Vec<What> {
        self.receipts().await.into_iter().flat_map(|receipt| receipt.orders).map(|order| order.what).collect()
    }
}

/// Three small formulae and a large one, each with one bottle.
fn four() -> Spec {
    let mut spec = Spec::uniform(5, 3, 2_000, &["all"]);
    spec.formulae.push(FormulaSpec::new("large", "1.0").with_bottle("all", SIZE_THRESHOLD + 1));
    spec
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_missing_or_damaged_is_asked_for_once_and_nothing_else_is() {
    let fixture = mirrored(four()).await;
    let keys: Vec<String> = fixture.expected().into_keys().collect();
    let [large, missing, truncated, altered_key] = [&keys[0], &keys[1], &keys[2], &keys[3]];
    assert!(large.contains("/large/"), "{keys:?}");
    fixture.remove(large).await;
    fixture.remove(missing).await;
    fixture.overwrite(truncated, b"half").await;
    fixture.overwrite(altered_key, &altered(&fixture.object(altered_key).await.unwrap())).await;

    let begun = fixture.clock.now();
    let report = fixture.repair(Depth::Bytes).await;
    let repaired = report.repair.clone().unwrap();
    assert_eq!((repaired.small.bottles, repaired.large.bottles, repaired.left), (3, 1, 0));
    assert_eq!((fixture.queued(Lane::Small).await, fixture.queued(Lane::Large).await), (3, 1));
    assert!(report.findings.iter().all(|one| matches!(one.repair, Some(Repair::Queued { .. }))));
    let manifest = fixture.manifest().await;
    for lane in Lane::ALL {
        for message in fixture.messages(lane).await {
            let key = message.key().to_string();
            assert_eq!(message.replace, key == *truncated || key == *altered_key, "{key}");
            assert_eq!(message.run, repaired.run);
            let record = manifest.bottle(&message.image, &message.digest).unwrap();
            assert_eq!((&message.tags, &message.image_tag), (&record.tags, &record.image_tag));
            assert_eq!((message.size, &message.copy_from), (record.size, &None));
        }
    }
    let receipts = fixture.receipts().await;
    let entries: Vec<_> = receipts.iter().flat_map(|receipt| &receipt.entries).collect();
    assert_eq!(entries.len(), 4);
    assert!(entries.iter().all(|entry| entry.outcome == Outcome::Missing && entry.at >= begun));

    // What is on its way already is not asked for a second time.
    for turn in 0..2 {
        let again = fixture.repair(Depth::Bytes).await;
        assert_eq!((again.count(Kind::Queued), again.findings.len()), (4, 4), "{turn}: {again:#?}");
        assert_eq!(again.repair.unwrap().total().bottles, 0);
        assert!(!again.sound);
        assert_eq!((fixture.queued(Lane::Small).await, fixture.queued(Lane::Large).await), (3, 1));
        fixture.settle().await;
    }

    fixture.testbed.log().clear();
    let done = fixture.drain().await;
    assert_eq!((done.fetched.bottles, done.already_held.bottles), (4, 0));
    fixture.settle().await;
    let report = fixture.verify(Depth::Bytes).await;
    assert!(report.sound && report.findings.is_empty(), "{:#?}", report.findings);
    fixture.assert_whole(&[]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_look_without_repair_asks_for_nothing() {
    let fixture = mirrored(tool()).await;
    fixture.remove(&fixture.tool_key("x86_64_linux")).await;
    let report = fixture.verify(Depth::Bytes).await;
    assert!(report.is_repairable() && report.repair.is_none() && only(&report).repair.is_none());
    assert_eq!(fixture.queued(Lane::Small).await, 0);
    assert!(fixture.receipts().await.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_bottles_are_reported_in_portions() {
    let fixture = mirrored(Spec::uniform(1, 300, 100, &["all"])).await;
    for key in fixture.expected().into_keys() {
        fixture.remove(&key).await;
    }
    let report = fixture.repair(Depth::Sizes).await;
    assert_eq!(report.repair.unwrap().small.bottles, 300);
    let mut portions: Vec<_> = fixture.receipts().await.iter().map(|receipt| receipt.entries.len()).collect();
    portions.sort_unstable();
    assert_eq!(portions, [44, 256]);
    fixture.drain().await;
    fixture.settle().await;
    assert!(fixture.verify(Depth::Bytes).await.sound);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_repair_that_dies_before_its_report_is_made_again_and_harms_nothing() {
    let mut fixture = mirrored(tool()).await;
    let key = fixture.tool_key("x86_64_linux");
    fixture.overwrite(&key, &altered(&fixture.object(&key).await.unwrap())).await;
    let sound = Arc::clone(&fixture.store);
    let broken = |_| -> BoxFuture<'static, Result<(), StoreError>> {
        Box::pin(async { Err(StoreError::NoRoom { key: "any".to_owned(), cause: "full".to_owned() }) })
    };
    fixture.store = Arc::new(HookedStore::before_put(Arc::clone(&sound), broken));
    let verifier = fixture.verifier(Depth::Bytes);
    let mut report = verifier.verify().await.unwrap();
    let error = verifier.repair(&mut report).await.unwrap_err();
    assert!(matches!(error, VerifyError::Store(StoreError::NoRoom { .. })), "{error}");
    fixture.store = sound;
    assert_eq!(fixture.queued(Lane::Small).await, 1);

    assert_eq!(fixture.repair(Depth::Bytes).await.repair.unwrap().total().bottles, 1);
    assert_eq!(fixture.queued(Lane::Small).await, 2);
    fixture.drain().await;
    fixture.settle().await;
    assert!(fixture.verify(Depth::Bytes).await.sound);
    fixture.assert_whole(&[]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn indexes_and_api_files_are_ordered_from_the_producer_once() {
    let fixture = published().await;
    fixture.remove("v2/homebrew/core/tool/manifests/1.0").await;
    fixture.remove("api/formula.jws.json").await;
    fixture.overwrite("api/cask.jws.json", b"damaged").await;
    let report = fixture.repair(Depth::Sizes).await;
    assert_eq!(report.repair.as_ref().unwrap().orders, 3);
    assert!(report.findings.iter().all(|finding| finding.repair == Some(Repair::Ordered)));
    let reindex =
        What::Reindex { image: "v2/homebrew/core/tool".parse().unwrap(), tag: "1.0".parse().unwrap() };
    let mut paths = vec!["cask.jws.json".to_owned(), "formula.jws.json".to_owned()];
    let orders = fixture.orders().await;
    assert_eq!(orders.len(), 2);
    assert!(orders.contains(&reindex));
    let republished = orders.iter().find_map(|what| match what {
        What::Republish { paths } => Some(paths.clone()),
        _ => None,
    });
    let mut republished = republished.unwrap();
    republished.sort();
    paths.sort();
    assert_eq!(republished, paths);

    let again = fixture.repair(Depth::Sizes).await;
    assert_eq!((again.repair.as_ref().unwrap().orders, again.waiting.orders), (0, 2));
    assert!(again.findings.iter().all(|finding| finding.repair == Some(Repair::AlreadyOrdered)));
    assert!(!again.sound);
    assert_eq!(fixture.orders().await.len(), 2);
    assert_eq!(fixture.queued(Lane::Small).await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flat_copy_waits_for_its_damaged_bottle() {
    let mut fixture = mirrored(tool()).await;
    let flat = "tool-1.0.x86_64_linux.bottle.tar.gz";
    let key = fixture.tool_key("x86_64_linux");
    fixture
        .change_manifest(|manifest| {
            let bottles = &mut manifest.images.values_mut().next().unwrap().bottles;
            let digest = fixture.digest_of("tool", "x86_64_linux").parse().unwrap();
            bottles.get_mut(&digest).unwrap().flat = vec![flat.parse().unwrap()];
        })
        .await;
    fixture.overwrite(&key, b"half").await;
    let report = fixture.repair(Depth::Sizes).await;
    let copy = report.findings.iter().find(|finding| finding.key.as_str() == flat).unwrap();
    assert!(matches!(&copy.repair, Some(Repair::Nothing { why }) if why.contains("again")), "{copy:?}");
    assert_eq!(report.repair.unwrap().left, 1);
    assert!(fixture.object(flat).await.is_none());
    fixture.drain().await;
    fixture.settle().await;
    // Whoever may not write is told so.
    let sound = Arc::clone(&fixture.store);
    fixture.store = Arc::new(FlakyStore { inner: Arc::clone(&sound), dice: Dice::always("copy") });
    let report = fixture.repair(Depth::Sizes).await;
    assert!(matches!(&only(&report).repair, Some(Repair::Nothing { why }) if why.contains("injected")));
    assert_eq!(report.repair.as_ref().unwrap().left, 1);
    fixture.store = sound;
    assert_eq!(fixture.repair(Depth::Sizes).await.repair.unwrap().copies, 1);
    assert!(fixture.verify(Depth::Bytes).await.sound);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_repair_can_not_do_is_said() {
    // A bottle that clients were told of and of which there is no record has its
    // index read again: the plan that does it queues the bottle.
    let fixture = published().await;
    let digest = fixture.digest_of("tool", "x86_64_linux").parse().unwrap();
    fixture
        .change_manifest(|manifest| {
            manifest.images.values_mut().next().unwrap().bottles.remove(&digest);
        })
        .await;
    let report = fixture.repair(Depth::Sizes).await;
    let finding = report.findings.iter().find(|finding| finding.kind == Kind::NotHeld).unwrap();
    assert_eq!(finding.repair, Some(Repair::Ordered));
    assert!(finding.scopes.contains(&Scope::AllClients));

    // One that is on its way is told of, and nothing is asked for.
    let fixture = published().await;
    fixture
        .change_manifest(|manifest| {
            let bottles = &mut manifest.images.values_mut().next().unwrap().bottles;
            bottles.get_mut(&digest).unwrap().state = State::Queued;
        })
        .await;
    let report = fixture.repair(Depth::Sizes).await;
    let finding = report.findings.iter().find(|finding| finding.kind == Kind::NotHeld).unwrap();
    assert!(matches!(&finding.repair, Some(Repair::Nothing { why }) if why.contains("on its way")));
    assert!(fixture.receipts().await.is_empty() && fixture.queued(Lane::Small).await == 0);

    // A mirror behind an air gap fetches nothing: its loss is reported, for a bundle.
    let fixture = mirrored(tool()).await;
    fixture.remove(&fixture.tool_key("x86_64_linux")).await;
    let mut verifier = fixture.verifier(Depth::Sizes);
    verifier.settings.is_fed_by_plans = false;
    let mut report = verifier.verify().await.unwrap();
    verifier.repair(&mut report).await.unwrap();
    assert_eq!(only(&report).repair, Some(Repair::Reported));
    let repaired = report.repair.unwrap();
    assert_eq!((repaired.reported, repaired.total().bottles, fixture.queued(Lane::Small).await), (1, 0, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_bottle_whose_repair_was_lost_is_fetched_by_the_next_plan() {
    let mut fixture = mirrored(tool()).await;
    let key = fixture.tool_key("x86_64_linux");
    let whole = fixture.object(&key).await.unwrap();
    fixture.overwrite(&key, &altered(&whole)).await;
    let verifier = fixture.verifier(Depth::Bytes);
    let mut report = verifier.verify().await.unwrap();
    verifier.repair(&mut report).await.unwrap();
    fixture.settle().await;
    fixture.lose_messages().await;
    // It looks right by its size, and so nobody would fetch it but for what is known.
    fixture.settle().await;
    assert_eq!(fixture.sync().await.1.fetched.bottles, 1);
    assert!(fixture.object(&key).await.unwrap() == whole);
    assert!(fixture.manifest().await.images.values().all(|image| image.damaged.is_empty()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_repair_that_is_reported_before_the_loss_is_no_loss() {
    let fixture = mirrored(tool()).await;
    let key = fixture.tool_key("x86_64_linux");
    let whole = fixture.object(&key).await.unwrap();
    fixture.overwrite(&key, &altered(&whole)).await;
    let verifier = fixture.verifier(Depth::Bytes);
    let mut report = verifier.verify().await.unwrap();
    verifier.repair(&mut report).await.unwrap();
    // The operator's receipt is read last of all.
    let receipts = fixture.store.list("_sync/receipts/", None, 9).await.unwrap();
    let late: Vec<_> =
        futures_util::future::join_all(receipts.iter().map(|meta| fixture.store.get(&meta.key)))
            .await
            .into_iter()
            .map(|object| object.unwrap().unwrap().body)
            .collect();
    for meta in &receipts {
        fixture.remove(meta.key.as_str()).await;
    }
    fixture.drain().await;
    fixture.settle().await;
    for (meta, body) in receipts.iter().zip(late) {
        fixture.store.put(&meta.key, body.into(), common::store::Condition::Always).await.unwrap();
    }
    fixture.settle().await;
    assert!(fixture.verify(Depth::Bytes).await.sound);
    assert_eq!(fixture.manifest().await.tally(None).queued.bottles, 0);
}
