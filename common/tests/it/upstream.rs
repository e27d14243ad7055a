//! Rule 8, and what upstream is asked and answers.

use std::time::{Duration, Instant};

use common::bottle::FormulaName;
use common::plan::{Mode, PlanError};
use common::registry::{CatalogueAnswer, Upstream, UpstreamSettings};
use testbed::{Fault, Server, Spec, Times};
use url::Url;

use crate::fixture::{Fixture, one_bottle, settings};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_authorization_leaves_the_registry() {
    let fixture = Fixture::new(Spec::demo(1)).await;
    fixture.sync().await;
    assert_eq!(fixture.testbed.log().violations(), Vec::<String>::new());
    let entries = fixture.testbed.log().entries();
    assert!(entries.iter().all(|entry| entry.had_authorization == (entry.server == Server::Registry)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_challenge_is_answered_with_a_fresh_token_once() {
    let fixture = Fixture::new(one_bottle("guarded", 5_000)).await;
    fixture.testbed.require_fresh_token(true);
    fixture.sync().await;
    fixture.assert_whole(&[]).await;
    assert!(fixture.testbed.log().count("registry:/token") >= 1);

    // With a token that is refused too, nobody asks for ever.
    let fixture = Fixture::new(one_bottle("locked", 5_000)).await;
    fixture.testbed.faults().set(
        "registry:*/manifests/*",
        Fault::Status { code: 401, retry_after: None },
        Times::Always,
    );
    let plan = fixture.plan().await;
    assert_eq!(plan.problems.len(), 1);
    assert!(fixture.testbed.log().count("registry:*/manifests/*") <= 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_attempt_resolves_its_redirect_anew() {
    let fixture = Fixture::new(one_bottle("expiring", 5_000)).await;
    let digest = fixture.digest_of("expiring", "x86_64_linux");
    fixture.testbed.faults().set("cdn:*", Fault::Status { code: 403, retry_after: None }, Times::First(2));
    fixture.sync().await;
    fixture.assert_whole(&[]).await;
    assert_eq!(fixture.testbed.log().count(&format!("registry:*{digest}")), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_hold_back_for_as_long_as_a_429_says() {
    let fixture = Fixture::new(Spec::uniform(1, 6, 1_000, &["all"])).await;
    fixture.plan().await;
    let retry_after = Some("1".to_owned());
    fixture.testbed.faults().set(
        "registry:*/blobs/*",
        Fault::Status { code: 429, retry_after },
        Times::First(1),
    );
    fixture.testbed.log().clear();
    let mut upstream = settings(&fixture.testbed);
    upstream.retry.longest_wait = Duration::from_secs(5);
    upstream.retry.budget = Duration::from_secs(10);
    let mut fixture = fixture;
    fixture.upstream = std::sync::Arc::new(Upstream::new(upstream).unwrap());
    fixture.concurrency = 1;
    fixture.drain().await;
    let entries = fixture.testbed.log().entries();
    let refused = entries.iter().position(|entry| entry.status == 429).unwrap();
    let pause = entries[refused + 1].at.duration_since(entries[refused].at);
    assert!(pause >= Duration::from_millis(950), "only {pause:?} after a 429 that asked for a second");
    fixture.settle().await;
    fixture.assert_whole(&[]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_requests_share_one_limit() {
    let fixture = Fixture::new(Spec::uniform(1, 30, 1_000, &["all"])).await;
    let upstream = UpstreamSettings { requests_per_second: 50, ..settings(&fixture.testbed) };
    let mut fixture = fixture;
    fixture.upstream = std::sync::Arc::new(Upstream::new(upstream).unwrap());
    let started = Instant::now();
    fixture.sync().await;
    // The catalogue twice, four signed files, 30 indexes, 30 bottles of two requests each.
    let requests = u32::try_from(fixture.testbed.log().entries().len()).unwrap();
    assert_eq!(requests, 96);
    let least = Duration::from_secs(1) * (requests - 6) / 50;
    assert!(started.elapsed() >= least, "{requests} requests in {:?}", started.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_catalogue_is_asked_for_conditionally() {
    let fixture = Fixture::new(Spec::bulk(1, 20, 500..900)).await;
    assert!(!fixture.sync().await.0.unchanged);
    fixture.testbed.log().clear();
    let second = fixture.plan().await;
    assert!(second.unchanged);
    let entries = fixture.testbed.log().entries();
    assert!(
        entries.iter().all(|entry| entry.path.starts_with("/api/") && entry.status != 200),
        "{entries:?}"
    );
    assert_eq!(entries[0].status, 304);

    // Another selection is another plan, whatever upstream says.
    let mut fixture = fixture;
    fixture.selection = "formulae=['bulk-*']".parse().unwrap();
    assert!(!fixture.plan().await.unchanged);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_size_that_the_index_does_not_say_is_asked_for() {
    let fixture = Fixture::new(Spec::bulk(1, 20, 500..900)).await;
    fixture.testbed.faults().set("registry:*/manifests/*", Fault::MissingSize, Times::Always);
    fixture.sync().await;
    let heads = fixture.testbed.log().entries().iter().filter(|entry| entry.method == "HEAD").count();
    assert!(heads > 0);
    for (key, digest) in fixture.expected() {
        assert!(fixture.object(&key).await == fixture.testbed.content(&digest));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_index_that_can_not_be_used_harms_its_formula_alone_and_is_tried_again() {
    for fault in [
        Fault::Garbage,
        Fault::Status { code: 404, retry_after: None },
        Fault::MissingEntry { tag: "x86_64_linux".to_owned() },
    ] {
        let fixture = Fixture::new(Spec::uniform(1, 4, 900, &["x86_64_linux"])).await;
        let bad = fixture.testbed.expected().remove(1);
        let pattern = format!("registry:/v2/homebrew/core/{}/manifests/*", bad.image);
        fixture.testbed.faults().set(&pattern, fault.clone(), Times::Always);
        let (plan, done, _) = fixture.sync().await;
        let name: FormulaName = bad.formula.parse().unwrap();
        assert_eq!(
            plan.problems.iter().map(|problem| &problem.formula).collect::<Vec<_>>(),
            [&name],
            "{fault:?}"
        );
        assert_eq!(done.fetched.bottles, 3, "{fault:?}");

        fixture.testbed.faults().clear();
        let (plan, _, _) = fixture.sync().await;
        assert!(!plan.unchanged && plan.problems.is_empty(), "{fault:?}: it was not tried again");
        fixture.assert_whole(&[]).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_catalogue_that_can_not_be_used_changes_nothing() {
    let fixture = Fixture::new(Spec::bulk(1, 20, 500..900)).await;
    fixture.sync().await;
    let before = fixture.manifest().await;
    // The conditional answer would hide the fault.
    let mut spec = Spec::bulk(1, 20, 500..900);
    spec.seed = 2;
    fixture.testbed.replace(spec);
    for fault in [
        Fault::Truncate { after_bytes: 3_000 },
        Fault::Garbage,
        Fault::Status { code: 404, retry_after: None },
        Fault::Status { code: 500, retry_after: None },
    ] {
        fixture.testbed.faults().clear();
        fixture.testbed.faults().set("api:*", fault.clone(), Times::Always);
        let error = fixture.planner().plan(Mode::Queue).await.unwrap_err();
        assert!(matches!(error, PlanError::Catalogue { .. }), "{fault:?}: {error}");
        assert!(fixture.manifest().await == before);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_catalogue_cut_short_once_is_fetched_again() {
    let testbed = testbed::Upstream::start(Spec::bulk(1, 50, 500..900)).await.unwrap();
    testbed.faults().set("api:*", Fault::Truncate { after_bytes: 5_000 }, Times::First(1));
    let upstream = Upstream::new(settings(&testbed)).unwrap();
    let url = Url::parse(&format!("{}/formula.json", testbed.api_url())).unwrap();
    let CatalogueAnswer::Fresh { catalogue, .. } = upstream.catalogue(&url, None).await.unwrap() else {
        panic!("it can't be unchanged");
    };
    assert_eq!(catalogue.bottle_count(), testbed.expected().len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn names_and_keys_are_upstreams() {
    let fixture = Fixture::new(Spec::demo(1)).await;
    fixture.sync().await;
    fixture.assert_whole(&[]).await;
    let names: Vec<_> = fixture.expected().into_keys().collect();
    assert!(names.iter().any(|key| key.starts_with("v2/homebrew/core/openssl/3/blobs/sha256:")));
    assert!(names.iter().any(|key| key.starts_with("v2/homebrew/core/gtkx3/blobs/sha256:")));
}
