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

/// An event as SNS sends it to a function.
fn record(message: &str, source: Option<&str>) -> String {
    let attributes = source.map_or_else(
        || serde_json::json!({}),
        |source| serde_json::json!({ "source": { "Type": "String", "Value": source } }),
    );
    serde_json::json!({ "Records": [{
        "EventSource": "aws:sns", "EventVersion": "1.0", "EventSubscriptionArn": "arn:aws:sns:us-east-1:0:t:s",
        "Sns": {
            "Type": "Notification", "MessageId": "m", "TopicArn": "arn:aws:sns:us-east-1:0:t", "Subject": "s",
            "Message": message, "Timestamp": "2026-01-01T00:00:00.000Z", "SignatureVersion": "1",
            "Signature": "s", "SigningCertUrl": "https://example.com", "UnsubscribeUrl": "https://example.com",
            "MessageAttributes": attributes,
        },
    }] })
    .to_string()
}

const ALARM: &str =
    r#"{"AlarmName":"dead letters","NewStateValue":"ALARM","OldStateValue":"OK","NewStateReason":"1 > 0"}"#;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_alarm_needs_neither_bucket_nor_queue_and_our_own_notices_go_no_further() {
    let without = [("BOTTLES_TO", ""), ("BOTTLES_SMALL_QUEUE", ""), ("BOTTLES_SLACK_SECRET", "slack")];
    let system = System::start(Spec::uniform(1, 1, 5_000, &["all"]), &without).await;
    let heard = system.start_slack("slack").await;
    system.invoke(&record(ALARM, None), Duration::from_mins(1)).await.unwrap();
    assert_eq!(heard.lock().unwrap().len(), 1);
    assert!(heard.lock().unwrap()[0].contains("dead letters"), "{heard:?}");
    // Our own notices; and what every new alarm does once.
    system.invoke(&record("Run settled", Some("bottles")), Duration::from_mins(1)).await.unwrap();
    system.invoke(&record(ALARM, Some("bottles")), Duration::from_mins(1)).await.unwrap();
    let new = ALARM
        .replace("\"ALARM\"", "\"OK\"")
        .replace("\"OldStateValue\":\"OK\"", "\"OldStateValue\":\"INSUFFICIENT_DATA\"");
    system.invoke(&record(&new, None), Duration::from_mins(1)).await.unwrap();
    assert_eq!(heard.lock().unwrap().len(), 1, "{heard:?}");
    // What is no alarm is passed on as it is: a budget that is used up.
    system.invoke(&record("Actual cost: $80.01", None), Duration::from_mins(1)).await.unwrap();
    assert!(heard.lock().unwrap()[1].contains("Actual cost: $80.01"), "{heard:?}");
    assert!(system.notices().await.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_alarm_that_can_not_be_passed_on_is_an_error_and_a_run_is_not_failed_by_it() {
    // There is no such secret.
    let slack = [("BOTTLES_SLACK_SECRET", "slack")];
    let system = System::start(Spec::uniform(1, 1, 5_000, &["all"]), &slack).await;
    let error = system.invoke(&record(ALARM, None), Duration::from_mins(1)).await.unwrap_err().to_string();
    assert!(error.contains("slack"), "{error}");
    assert_eq!(system.plan().await["report"]["small"]["bottles"], 1);
}
