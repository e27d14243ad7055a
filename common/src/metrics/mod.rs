//! Metrics, as CloudWatch reads them out of log lines (its embedded metric
//! format): one JSON object a line, on standard output.
//!
//! Each metric is declared once, in [`METRICS`]; the table in docs/metrics.md is
//! made from it. Dimensions are few and fixed, since every combination of their
//! values is paid for: never a formula, never a run.

mod report;

use std::io::Write;
use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;
use serde_json::{Map, Value, json};

/// The namespace of all metrics.
pub const NAMESPACE: &str = "Bottles";

/// One metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Metric {
    /// Its name.
    pub name: &'static str,
    /// CloudWatch's name of its unit.
    pub unit: &'static str,
    /// What it is told apart by, besides `Environment`.
    pub dimensions: &'static [&'static str],
    /// Who emits it, and when.
    pub emitter: &'static str,
    /// What it means.
    pub doc: &'static str,
}

macro_rules! metrics {
    ($($constant:ident $name:literal $unit:literal [$($dimension:literal),*] $emitter:literal $doc:literal;)+) => {
        $(#[doc = $doc] pub const $constant: Metric = Metric {
            name: $name, unit: $unit, dimensions: &[$($dimension),*], emitter: $emitter, doc: $doc,
        };)+
        /// All of them, in the order of their table.
        pub const METRICS: &[Metric] = &[$($constant),+];
    };
}

metrics! {
    BOTTLES "Bottles" "Count" ["Queue", "Outcome"] "consumers"
        "Bottles by what became of them: `mirrored` (fetched or copied), `skipped` (the mirror had them), `released` (given back for a later try), or the reason for which they were dead-lettered.";
    BYTES "Bytes" "Bytes" ["Queue"] "consumers"
        "Bytes of bottles that were mirrored.";
    DEAD_LETTERED "DeadLettered" "Count" ["Queue"] "consumers"
        "Bottles that were dead-lettered, for whatever reason.";
    TRANSFER_SECONDS "TransferSeconds" "Seconds" ["Queue"] "consumers"
        "How long a bottle took from the first request to its last byte in the store; at most a hundred of them for each time that metrics are emitted.";
    UPSTREAM_RESPONSES "UpstreamResponses" "Count" ["Outcome"] "consumers, plan"
        "Answers of upstream by their class: `2xx`, `3xx`, `4xx`, `429`, `5xx`, `unreachable`.";
    UPSTREAM_RETRIES "UpstreamRetries" "Count" [] "consumers, plan"
        "Requests to upstream that were tried again in place.";
    PLANNED_BOTTLES "PlannedBottles" "Count" ["Queue"] "plan"
        "Bottles that a plan queued.";
    PLANNED_BYTES "PlannedBytes" "Bytes" ["Queue"] "plan"
        "Their bytes.";
    PLAN_SECONDS "PlanSeconds" "Seconds" [] "plan"
        "How long a plan took.";
    PLAN_PROBLEMS "PlanProblems" "Count" [] "plan"
        "Formulae that could not be planned, or not be read from the catalogue, and taps whose catalogues could not be read.";
    PLANS_COMPLETED "PlansCompleted" "Count" [] "plan"
        "Plans that went through the whole catalogue, or found it unchanged: a schedule that is missed shows as their absence.";
    REMAINING_BOTTLES "RemainingBottles" "Count" [] "settle"
        "Bottles on their way, over all runs.";
    STALLED_RUNS "StalledRuns" "Count" [] "settle"
        "Runs without progress for too long.";
    UNREADABLE_RECEIPTS "UnreadableReceipts" "Count" [] "settle"
        "Receipts that can't be read and were put aside.";
    RUN_SECONDS "RunSeconds" "Seconds" [] "settle"
        "How long a run took, from its plan's beginning until its last bottle was accounted for.";
    SECONDS_SINCE_SETTLED_RUN "SecondsSinceSettledRun" "Seconds" [] "settle"
        "How long ago the last run came to its end: a mirror that silently stopped shows as its growth.";
}

/// Emits metrics of one deployment. Cheap to clone.
#[derive(Clone)]
pub struct Metrics {
    environment: Arc<str>,
    writer: Arc<Mutex<dyn Write + Send>>,
}

/// What a metric's values are told apart by.
#[derive(Debug, Clone, Copy, Default)]
pub struct Labels<'a> {
    /// The value of `Queue`.
    pub queue: Option<&'a str>,
    /// The value of `Outcome`.
    pub outcome: Option<&'a str>,
}

impl Metrics {
    /// Metrics of this deployment, one object a line to `writer`.
    pub fn new(environment: &str, writer: impl Write + Send + 'static) -> Self {
        Self { environment: environment.into(), writer: Arc::new(Mutex::new(writer)) }
    }

    /// Emits values of one metric; none where there are none. The labels must be
    /// those that the metric is declared with.
    pub fn emit(&self, metric: &Metric, labels: Labels<'_>, values: &[f64], now: Timestamp) {
        if values.is_empty() {
            return;
        }
        let line = self.line(metric, labels, values, now);
        let mut writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        // Metrics are no reason to fail.
        let _ = writeln!(writer, "{line}").and_then(|()| writer.flush());
    }

    /// <https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html>
    fn line(&self, metric: &Metric, labels: Labels<'_>, values: &[f64], now: Timestamp) -> Value {
        let mut names = vec!["Environment"];
        let mut fields = Map::new();
        fields.insert("Environment".to_owned(), json!(&*self.environment));
        for (name, value) in [("Queue", labels.queue), ("Outcome", labels.outcome)] {
            debug_assert_eq!(metric.dimensions.contains(&name), value.is_some(), "{} {name}", metric.name);
            if let Some(value) = value {
                names.push(name);
                fields.insert(name.to_owned(), json!(value));
            }
        }
        let value = if let [value] = values { json!(value) } else { json!(values) };
        fields.insert(metric.name.to_owned(), value);
        fields.insert(
            "_aws".to_owned(),
            json!({
                "Timestamp": now.as_millisecond(),
                "CloudWatchMetrics": [{
                    "Namespace": NAMESPACE,
                    "Dimensions": [names],
                    "Metrics": [{ "Name": metric.name, "Unit": metric.unit }],
                }],
            }),
        );
        Value::Object(fields)
    }
}

/// The table of docs/metrics.md.
pub fn table() -> String {
    let mut table = String::from(
        "| metric | unit | dimensions | emitted by | meaning |\n| --- | --- | --- | --- | --- |\n",
    );
    for Metric { name, unit, dimensions, emitter, doc } in METRICS {
        let dimensions: Vec<_> =
            ["Environment"].iter().chain(*dimensions).map(|name| format!("`{name}`")).collect();
        let row = format!("| `{name}` | {unit} | {} | {emitter} | {doc} |\n", dimensions.join(", "));
        table.push_str(&row);
    }
    table
}
