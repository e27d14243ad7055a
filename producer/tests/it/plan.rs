//! Plan: queued by size, tasks asked for, gone on with, and failures that are errors.

use std::time::Duration;

use testbed::{Fault, FormulaSpec, Spec, Times};

use crate::system::System;

/// Small and large bottles: above 1 MB are large.
fn mixed(large: usize) -> Spec {
    let mut spec = Spec::uniform(1, 5, 10_000, &["all"]);
    for n in 0..large {
        spec.formulae.push(FormulaSpec::new(format!("large{n}"), "1.0").with_bottle("all", 1_500_000));
    }
    spec
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bottles_are_queued_by_size_and_tasks_asked_for() {
    let system = System::start(mixed(3), &[]).await;
    let answer = system.plan().await;
    assert_eq!(
        (&answer["report"]["small"]["bottles"], &answer["report"]["large"]["bottles"]),
        (&5.into(), &3.into())
    );
    assert_eq!(
        (system.cloud.depth("small").await.unwrap().0, system.cloud.depth("large").await.unwrap().0),
        (5, 3)
    );
    // Three bottles, two for each task.
    assert_eq!(answer["tasks"]["after"], 2);
    assert_eq!(system.cloud.desired_tasks().await.unwrap(), 2);
    assert_eq!(system.metric("PlannedBottles"), Some(3.0));
    assert_eq!(system.metric("PlansCompleted"), Some(1.0));
    let notices = system.notices().await;
    assert_eq!(notices.len(), 1, "{notices:?}");

    // Nothing is queued twice, and nobody is told of a run that has nothing to do.
    let again = system.plan().await;
    assert_eq!(again["report"]["unchanged"], true);
    assert_eq!(system.cloud.depth("small").await.unwrap().0, 5);
    assert!(system.notices().await.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tasks_are_bounded_and_never_lowered() {
    let system = System::start(mixed(9), &[]).await;
    assert_eq!(system.plan().await["tasks"]["after"], 3, "the bound");
    let mut more = mixed(9);
    more.formulae.push(FormulaSpec::new("another", "1.0").with_bottle("all", 2_000_000));
    system.drain().await;
    system.upstream.replace(more);
    let answer = system.plan().await;
    assert_eq!(answer["report"]["large"]["bottles"], 1);
    assert_eq!((&answer["tasks"]["before"], &answer["tasks"]["after"]), (&3.into(), &3.into()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn small_bottles_ask_for_no_task() {
    let system = System::start(mixed(0), &[]).await;
    assert!(system.plan().await["tasks"].is_null());
    assert_eq!(system.cloud.desired_tasks().await.unwrap(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dry_run_changes_nothing() {
    let system = System::start(mixed(3), &[]).await;
    let event = r#"{"action":"plan","dry_run":true,"selection":{"formulae":["large*"]}}"#;
    let answer = system.invoke(event, Duration::from_mins(5)).await.unwrap();
    assert_eq!(answer["report"]["large"]["bottles"], 3);
    assert_eq!(answer["report"]["small"]["bottles"], 0);
    assert!(answer["report"]["run"].is_null());
    assert!(system.cloud.keys("").await.unwrap().is_empty());
    assert_eq!(system.cloud.depth("large").await.unwrap(), (0, 0));
    assert_eq!(system.cloud.desired_tasks().await.unwrap(), 0);
    assert!(system.notices().await.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_plan_that_runs_short_of_time_is_gone_on_with_by_the_next() {
    let system = System::start(Spec::uniform(1, 60, 5_000, &["all"]), &[("BOTTLES_CONCURRENCY", "1")]).await;
    system.upstream.faults().set(
        "registry:*/manifests/*",
        Fault::Delay(Duration::from_millis(100)),
        Times::Always,
    );
    // Of two seconds a quarter is kept for writing.
    let first = system.invoke(r#"{"action":"plan"}"#, Duration::from_secs(2)).await.unwrap();
    assert_eq!(first["report"]["complete"], false, "{first}");
    let queued = first["report"]["small"]["bottles"].as_u64().unwrap();
    assert!(queued > 0 && queued < 60, "{queued}");
    assert!(system.notices().await.is_empty(), "told of a run that is not planned yet");
    system.settle().await;

    // The scheduler comes again in a week: for it this is a failure, which Lambda tries again.
    let whole = r#"{"action":"plan","whole":true}"#;
    let error = system.invoke(whole, Duration::from_secs(2)).await.unwrap_err();
    assert!(matches!(error, producer::ProducerError::Incomplete(bottles) if bottles > 0), "{error}");
    assert!(system.notices().await.is_empty(), "told of what goes on by itself");
    let queued = system.cloud.depth("small").await.unwrap().0;
    assert!(queued < 60, "{queued}");

    system.upstream.faults().clear();
    let second = system.plan().await;
    assert_eq!(second["report"]["run"], first["report"]["run"]);
    assert_eq!(second["report"]["small"]["bottles"], 60 - queued);
    assert_eq!(system.cloud.depth("small").await.unwrap().0, 60);
    assert_eq!(system.notices().await.len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_plans_at_once_queue_nothing_that_is_missing_later() {
    let system = System::start(Spec::bulk(3, 80, 500..3_000), &[]).await;
    let (a, b) = tokio::join!(system.plan(), system.plan());
    let _ = (a, b);
    system.drain().await;
    system.settle().await;
    system.settle().await;
    for bottle in system.upstream.expected() {
        assert!(system.cloud.object(&bottle.key).await.unwrap() == system.upstream.content(&bottle.digest));
    }
    assert_eq!(system.plan().await["report"]["small"]["bottles"], 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failure_is_an_error_and_the_team_is_told() {
    let system = System::start(mixed(0), &[]).await;
    system.upstream.faults().set("api:*", Fault::Status { code: 404, retry_after: None }, Times::Always);
    let error = system.invoke(r#"{"action":"plan"}"#, Duration::from_mins(5)).await.unwrap_err();
    assert!(error.to_string().contains("formula.json"), "{error}");
    let notices = system.notices().await;
    assert!(notices.len() == 1 && notices[0].to_lowercase().contains("fail"), "{notices:?}");
    for event in ["{}", r#"{"action":"prune"}"#, "[]", "null"] {
        let error = system.invoke(event, Duration::from_mins(1)).await.unwrap_err().to_string();
        assert!(error.contains("action"), "{event}: {error}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tasks_that_can_not_be_had_are_an_error_but_the_plan_stands() {
    let system = System::start(mixed(2), &[("BOTTLES_ECS_SERVICE", "another")]).await;
    let error = system.invoke(r#"{"action":"plan"}"#, Duration::from_mins(5)).await.unwrap_err();
    assert!(
        error.to_string().contains("the plan is made") && error.to_string().contains("another"),
        "{error}"
    );
    assert_eq!(system.cloud.depth("large").await.unwrap().0, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_selection_comes_from_the_variable_or_the_bucket_and_is_never_guessed() {
    let inline = System::start(mixed(1), &[("BOTTLES_SELECTION", "formulae = [\"large0\"]")]).await;
    assert_eq!(inline.plan().await["report"]["selected"], 1);

    let url = "s3://team-bottles/_sync/selection.toml";
    let stored = System::start(mixed(2), &[("BOTTLES_SELECTION", url)]).await;
    let error = stored.invoke(r#"{"action":"plan"}"#, Duration::from_mins(1)).await.unwrap_err().to_string();
    assert!(error.contains("there is no object") && error.contains(url), "{error}");
    assert_eq!(stored.cloud.depth("small").await.unwrap().0, 0, "everything was planned instead");
    stored.cloud.overwrite("_sync/selection.toml", b"formulae = [\"large*\"]").await.unwrap();
    assert_eq!(stored.plan().await["report"]["selected"], 2);
    stored.cloud.overwrite("_sync/selection.toml", b"formula = 1").await.unwrap();
    assert!(stored.invoke(r#"{"action":"plan"}"#, Duration::from_mins(1)).await.is_err());
}
