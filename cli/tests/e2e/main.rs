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

mod deploy;
mod operator;
mod slack;
mod system;

use std::time::Duration;

use deploy::Deployment;
use system::System;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "make e2e builds what it needs"]
async fn a_scheduled_run_settles_and_replayed_letters_settle_clean() {
    let system = System::start().await;
    let planted = operator::planted(&system.upstream);

    // Nobody calls anything: the schedule does.
    system.operator.wait_for("the scheduled run to settle", Duration::from_mins(6), |status| {
        status["last_run"]["outcome"].is_object() && status["queued"]["bottles"] == 0
    });
    let status = system.operator.bottles(&["status", "--json"]).json(3);
    assert_eq!(status["dead_letters"], 2, "{status}");
    assert!(status["open_runs"].as_array().unwrap().is_empty(), "{status}");
    assert!(status["tasks"]["desired"].as_u64().unwrap() >= 1, "no task was asked for: {status}");
    assert!(system.slack.said("Run started"), "{:?}", system.slack.heard());
    assert!(system.slack.said("2 dead letters"), "{:?}", system.slack.heard());
    system.assert_bucket(&planted).await;

    let letters = system.operator.bottles(&["dead-letters", "list", "--json"]).json(3);
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
    let replayed =
        system.operator.bottles(&["dead-letters", "replay", "--reason", "not-found", "--json"]).json(3);
    assert_eq!((&replayed["letters"].as_array().unwrap().len(), &replayed["remaining"]), (&1, &1.into()));
    let replayed = system.operator.bottles(&["dead-letters", "replay", "--json"]).json(0);
    assert_eq!(replayed["letters"].as_array().unwrap().len(), 1);
    system.operator.wait_for("the replayed bottles to settle", Duration::from_mins(4), |status| {
        status["dead_letters"] == 0
            && status["queued"]["bottles"] == 0
            && status["open_runs"].as_array().is_some_and(Vec::is_empty)
            && status["held"]["bottles"] == operator::keys(&system.upstream) as u64
    });
    system.assert_bucket(&[]).await;
    assert!(system.slack.said("Run settled"), "{:?}", system.slack.heard());

    // By hand, what the schedule does.
    let run = system.operator.bottles(&["run", "--json"]).json(0);
    assert_eq!(run["report"]["unchanged"], true, "{run}");
    let plan = system.operator.bottles(&["plan", "--json"]).json(0);
    assert_eq!(
        (&plan["held"], &plan["small"]["bottles"]),
        (&(operator::keys(&system.upstream) as u64).into(), &0.into()),
        "{plan}"
    );
    let status = system.operator.bottles(&["status", "--watch"]);
    assert_eq!(status.code, 0, "{status}");
    assert!(status.stdout.contains("0 dead letters"), "{status}");

    // Everybody logged at `debug` all the time.
    let service = system.log("consumer-ecs.log");
    assert!(service.contains("\"bottle.digest\"") && service.contains("\"run.id\""), "{service}");
    for secret in ["/services/secret", "sig=", "Authorization", "Bearer"] {
        assert!(!service.contains(secret), "{secret} was logged");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "make e2e-deploy builds what it needs"]
async fn an_applied_stage_mirrors_by_itself_and_is_destroyed_without_a_trace() {
    if !deploy::is_possible() {
        return;
    }
    let deployment = Deployment::prepare().await;
    let before = deployment.left();
    let webhook = deployment.slack.url();
    deployment.deploy(&["-a"], &[("SLACK_WEBHOOK_URL", &webhook)]);
    deployment.allow_what_the_emulator_asks();
    let task = deployment.start_task();

    // From here on nobody does anything: the applied schedule invokes the applied
    // functions, and they use the applied queues and bucket, as the applied roles
    // and policies let them.
    let operator = &deployment.operator;
    operator.wait_for("the scheduled run to settle", Duration::from_mins(6), |status| {
        status["last_run"]["outcome"].is_object() && status["queued"]["bottles"] == 0
    });
    let status = operator.bottles(&["status", "--json"]).json(3);
    assert_eq!(status["dead_letters"], 2, "{status}");
    assert!(status["tasks"]["desired"].as_u64().unwrap() >= 1, "no task was asked for: {status}");
    let planted = operator::planted(&deployment.upstream);
    operator::assert_bucket(&deployment.bucket(), &deployment.upstream, &planted).await;
    assert!(deployment.slack.said("Run started"), "{:?}", deployment.slack.heard());

    // An alarm, as CloudWatch sends it, and a notice of our own, which Slack has had.
    let topic = format!("arn:aws:sns:us-west-2:000000000000:{}", operator.stack);
    let alarm = r#"{"AlarmName":"a-drill","NewStateValue":"ALARM","OldStateValue":"OK"}"#;
    let source = r#"{"source":{"DataType":"String","StringValue":"bottles"}}"#;
    let own = alarm.replace("a-drill", "not-to-be-told");
    let publish = ["sns", "publish", "--topic-arn", &topic, "--message"];
    deployment.aws(&[&publish[..], &[&own, "--message-attributes", source]].concat());
    deployment.aws(&[&publish[..], &[alarm]].concat());
    operator.wait_for("the alarm in Slack", Duration::from_mins(1), |_| deployment.slack.said("a-drill"));
    assert!(!deployment.slack.said("not-to-be-told"), "a notice was told twice");

    deployment.upstream.mend();
    let replayed = operator.bottles(&["dead-letters", "replay", "--json"]).json(0);
    assert_eq!(replayed["letters"].as_array().unwrap().len(), 2, "{replayed}");
    operator.wait_for("the replayed bottles to settle", Duration::from_mins(4), |status| {
        status["dead_letters"] == 0
            && status["queued"]["bottles"] == 0
            && status["open_runs"].as_array().is_some_and(Vec::is_empty)
            && status["held"]["bottles"] == operator::keys(&deployment.upstream) as u64
    });
    operator::assert_bucket(&deployment.bucket(), &deployment.upstream, &[]).await;
    assert!(deployment.slack.said("Run settled"), "{:?}", deployment.slack.heard());

    // What was applied is what a second plan wants, although the system has worked.
    assert_eq!(deployment.changes(), Vec::<String>::new());
    let state = deployment.state().await;
    assert!(
        state.contains(&operator.stack) && !state.contains("/services/secret"),
        "the webhook is in the state"
    );

    drop(task);
    deployment.disallow_it();
    deployment.deploy(&["-d", "-a"], &[]);
    assert_eq!(deployment.left(), before);
}
