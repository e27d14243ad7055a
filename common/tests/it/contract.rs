//! What Terraform must know of the code is written to `terraform/contract.json`,
//! which its modules read: a metric, a dimension or a variable that the code
//! doesn't have fails their plan.

use std::collections::BTreeMap;

use common::config::VARIABLES;
use common::dead_letter::REASONS;
use common::invocation::{Event, PlanRequest, SettleRequest};
use common::manifest::{DEAD_LETTER_RETENTION, QUEUE_RETENTION};
use common::message::Lane;
use common::metrics::{METRICS, NAMESPACE};
use common::registry::StatusClass;
use common::store::SUPERSEDED;
use serde_json::{Value, json};

const SERVICES: [&str; 3] = ["producer", "consumer-lambda", "consumer-ecs"];

#[test]
fn terraform_reads_the_names_that_the_code_has() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../terraform/contract.json");
    let expected = format!("{:#}\n", contract());
    if std::env::var_os("UPDATE_README").is_some() {
        std::fs::write(path, expected).unwrap();
        return;
    }
    assert!(
        std::fs::read_to_string(path).unwrap() == expected,
        "terraform/contract.json is out of date: UPDATE_README=1 cargo test --workspace --test it contract"
    );
}

fn contract() -> Value {
    let metrics: BTreeMap<_, _> = METRICS
        .iter()
        .map(|metric| {
            let dimensions: Vec<_> = ["Environment"].iter().chain(metric.dimensions).collect();
            (metric.name, json!({ "unit": metric.unit, "dimensions": dimensions }))
        })
        .collect();
    let variables: BTreeMap<_, _> =
        VARIABLES.iter().map(|variable| (variable.name, readers(variable.services))).collect();
    let outcomes: Vec<_> = ["mirrored", "skipped", "released"]
        .into_iter()
        .chain(REASONS.iter().map(|(_, name)| *name))
        .collect();
    let whole = PlanRequest { whole: true, ..PlanRequest::default() };
    let plan = event(json!({ "action": "plan", "whole": true }), &Event::Plan(Box::new(whole)));
    let settle = event(json!({ "action": "settle" }), &Event::Settle(SettleRequest::default()));
    json!({
        "about": "Made from the code: UPDATE_README=1 cargo test --workspace --test it contract",
        "namespace": NAMESPACE,
        "metrics": metrics,
        "queues": Lane::ALL.map(Lane::as_str),
        "outcomes": outcomes,
        "upstream_classes": StatusClass::ALL.map(StatusClass::as_str),
        "variables": variables,
        "events": {
            "plan": plan,
            "settle": settle,
        },
        "queue_retention_seconds": QUEUE_RETENTION.as_secs(),
        "dead_letter_retention_seconds": DEAD_LETTER_RETENTION.as_secs(),
        "superseded_tag": { "key": SUPERSEDED.0, "value": SUPERSEDED.1 },
    })
}

/// The services that read a variable, as the table of variables says it.
fn readers(services: &str) -> Vec<&'static str> {
    SERVICES
        .into_iter()
        .filter(|service| match services {
            "all" => true,
            "consumers" => service.starts_with("consumer"),
            list => list.split(", ").any(|name| name == *service),
        })
        .collect()
}

/// What the scheduler sends, if the code reads it as it is meant.
fn event(sent: Value, meant: &Event) -> Value {
    assert_eq!(serde_json::from_value::<Event>(sent.clone()).unwrap(), *meant);
    sent
}
