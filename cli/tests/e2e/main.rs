//! The whole deployed system, as `make e2e` runs it: functions from their
//! packages, a schedule, the service as a process, and the operator's command;
//! all of AWS is the emulator's.
//!
//! It needs the packages and the service's program, which `make e2e` builds; so
//! it is ignored where tests are run without them.

#![expect(clippy::unwrap_used, reason = "a test that can't go on ends here")]
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "what it waited for, and the logs of what failed"
)]

mod slack;
mod system;

use std::time::Duration;

use system::System;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "make e2e builds what it needs"]
async fn a_scheduled_run_settles_and_replayed_letters_settle_clean() {
    let system = System::start().await;
    let planted = system.planted();

    // Nobody calls anything: the schedule does.
    system.wait_for("the scheduled run to settle", Duration::from_mins(6), |status| {
        status["last_run"]["outcome"].is_object() && status["queued"]["bottles"] == 0
    });
    let status = system.bottles(&["status", "--json"]).json(3);
    assert_eq!(status["dead_letters"], 2, "{status}");
    assert!(status["open_runs"].as_array().unwrap().is_empty(), "{status}");
    assert!(status["tasks"]["desired"].as_u64().unwrap() >= 1, "no task was asked for: {status}");
    assert!(system.slack.said("Run started"), "{:?}", system.slack.heard());
    assert!(system.slack.said("2 dead letters"), "{:?}", system.slack.heard());
    system.assert_bucket(&planted).await;

    let letters = system.bottles(&["dead-letters", "list", "--json"]).json(3);
    let mut reasons: Vec<_> = letters["letters"]
        .as_array()
        .unwrap()
        .iter()
        .map(|letter| {
            (letter["reason"].as_str().unwrap().to_owned(), letter["digest"].as_str().unwrap().to_owned())
        })
        .collect();
    reasons.sort();
    assert_eq!(
        reasons.iter().map(|(reason, _)| reason.as_str()).collect::<Vec<_>>(),
        ["not-found", "wrong-digest"]
    );
    assert!(reasons.iter().all(|(_, digest)| planted.contains(digest)));

    // Selective: one of them first.
    system.upstream.mend();
    let replayed = system.bottles(&["dead-letters", "replay", "--reason", "not-found", "--json"]).json(3);
    assert_eq!((&replayed["letters"].as_array().unwrap().len(), &replayed["remaining"]), (&1, &1.into()));
    let replayed = system.bottles(&["dead-letters", "replay", "--json"]).json(0);
    assert_eq!(replayed["letters"].as_array().unwrap().len(), 1);
    system.wait_for("the replayed bottles to settle", Duration::from_mins(4), |status| {
        status["dead_letters"] == 0
            && status["queued"]["bottles"] == 0
            && status["open_runs"].as_array().is_some_and(Vec::is_empty)
            && status["held"]["bottles"] == system.keys() as u64
    });
    system.assert_bucket(&[]).await;
    assert!(system.slack.said("Run settled"), "{:?}", system.slack.heard());

    // By hand, what the schedule does.
    let run = system.bottles(&["run", "--json"]).json(0);
    assert_eq!(run["report"]["unchanged"], true, "{run}");
    let plan = system.bottles(&["plan", "--json"]).json(0);
    assert_eq!(
        (&plan["held"], &plan["small"]["bottles"]),
        (&(system.keys() as u64).into(), &0.into()),
        "{plan}"
    );
    let status = system.bottles(&["status", "--watch"]);
    assert_eq!(status.code, 0, "{status}");
    assert!(status.stdout.contains("0 dead letters"), "{status}");

    // Everybody logged at `debug` all the time.
    let service = system.log("consumer-ecs.log");
    assert!(service.contains("\"bottle.digest\"") && service.contains("\"run.id\""), "{service}");
    for secret in ["/services/secret", "sig=", "Authorization", "Bearer"] {
        assert!(!service.contains(secret), "{secret} was logged");
    }
}
