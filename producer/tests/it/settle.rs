//! Settle: runs that end or don't get on, and alarms that are passed on.

use std::time::Duration;

use testbed::{Fault, Spec, Times};

use crate::system::System;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_that_ends_is_told_once_with_its_dead_letters() {
    let system = System::start(Spec::uniform(1, 4, 5_000, &["all"]), &[]).await;
    let bad = system.upstream.expected()[1].digest.clone();
    system.upstream.faults().set(&format!("cdn:*{bad}"), Fault::Corrupt, Times::Always);
    system.plan().await;
    let report = system.settle().await;
    assert_eq!((&report["remaining"], report["settled"].as_array().unwrap().len()), (&4.into(), 0));
    assert_eq!(system.metric("RemainingBottles"), Some(4.0));
    assert_eq!(system.metric("SecondsSinceSettledRun"), None);
    system.notices().await;

    system.drain().await;
    let report = system.settle().await;
    let outcome = &report["settled"][0]["outcome"];
    assert_eq!((&outcome["held"]["bottles"], &outcome["reasons"]["wrong-digest"]), (&3.into(), &1.into()));
    let notices = system.notices().await;
    assert!(notices.len() == 1 && notices[0].contains("1 dead letter"), "{notices:?}");
    assert_eq!(system.metric("RemainingBottles"), Some(0.0));
    assert!(system.metric("RunSeconds").is_some());
    assert!(system.metric("SecondsSinceSettledRun").is_some());

    system.settle().await;
    assert!(system.notices().await.is_empty(), "told twice");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_that_does_not_get_on_is_told_once() {
    let stalled = [("BOTTLES_STALLED_AFTER", "1s")];
    let system = System::start(Spec::uniform(1, 2, 5_000, &["all"]), &stalled).await;
    system.plan().await;
    system.settle().await;
    system.notices().await;
    tokio::time::sleep(Duration::from_millis(1100)).await;
    assert_eq!(system.settle().await["stalled"][0]["remaining"], 2);
    let notices = system.notices().await;
    assert!(notices.len() == 1 && notices[0].contains("stalled"), "{notices:?}");
    assert_eq!(system.metric("StalledRuns"), Some(1.0));
    system.settle().await;
    assert!(system.notices().await.is_empty(), "told twice");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_that_are_gone_are_noticed_and_planned_again() {
    let system = System::start(Spec::uniform(1, 3, 5_000, &["all"]), &[("BOTTLES_LOST_AFTER", "1s")]).await;
    system.plan().await;
    system.cloud.purge("small").await.unwrap();
    tokio::time::sleep(Duration::from_millis(1100)).await;
    assert_eq!(system.settle().await["settled"][0]["outcome"]["lost"], 3);
    assert_eq!(system.plan().await["report"]["small"]["bottles"], 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_alarm_needs_neither_bucket_nor_queue_and_our_own_notices_go_no_further() {
    let system = System::start(
        Spec::uniform(1, 1, 5_000, &["all"]),
        &[("BOTTLES_TO", ""), ("BOTTLES_SMALL_QUEUE", "")],
    )
    .await;
    let record = |message: &str| {
        serde_json::json!({ "Records": [{
            "EventSource": "aws:sns", "EventVersion": "1.0", "EventSubscriptionArn": "arn:aws:sns:us-east-1:0:t:s",
            "Sns": {
                "Type": "Notification", "MessageId": "m", "TopicArn": "arn:aws:sns:us-east-1:0:t", "Subject": "s",
                "Message": message, "Timestamp": "2026-01-01T00:00:00.000Z", "SignatureVersion": "1",
                "Signature": "s", "SigningCertUrl": "https://example.com", "UnsubscribeUrl": "https://example.com",
                "MessageAttributes": {},
            },
        }] })
        .to_string()
    };
    let alarm = r#"{"AlarmName":"dead letters","NewStateValue":"ALARM","NewStateReason":"1 > 0"}"#;
    system.invoke(&record(alarm), Duration::from_mins(1)).await.unwrap();
    system.invoke(&record("Run settled"), Duration::from_mins(1)).await.unwrap();
    assert!(system.notices().await.is_empty());
}
