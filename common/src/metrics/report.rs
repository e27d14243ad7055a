//! What each part of the system emits.

use std::time::Duration;

use jiff::Timestamp;

use crate::clock;
use crate::message::Lane;
use crate::plan::PlanReport;
use crate::registry::{Counts, StatusClass};
use crate::settle::SettleReport;
use crate::worker::Done;

use super::{Labels, Metric, Metrics};

impl Metrics {
    /// What a consumer did since it last emitted: its bottles, and how long the
    /// transfers took.
    pub fn consumed(&self, lane: Lane, done: &Done, transfers: &[Duration], now: Timestamp) {
        let queue = Some(lane.as_str());
        let count = |metric: &Metric, outcome, count: u64| {
            if count > 0 {
                self.emit(metric, Labels { queue, outcome }, &[number(count)], now);
            }
        };
        let mirrored = done.fetched + done.copied;
        count(&super::BOTTLES, Some("mirrored"), mirrored.bottles);
        count(&super::BOTTLES, Some("skipped"), done.already_held.bottles);
        count(&super::BOTTLES, Some("released"), done.released);
        for (reason, bottles) in &done.dead {
            count(&super::BOTTLES, Some(reason.as_str()), *bottles);
        }
        count(&super::BYTES, None, mirrored.bytes);
        count(&super::DEAD_LETTERED, None, done.dead.values().sum());
        let seconds: Vec<_> = transfers.iter().map(Duration::as_secs_f64).collect();
        self.emit(&super::TRANSFER_SECONDS, Labels { queue, outcome: None }, &seconds, now);
    }

    /// How upstream answered since the last time.
    pub fn upstream(&self, counts: &Counts, now: Timestamp) {
        for class in StatusClass::ALL {
            let labels = Labels { outcome: Some(class.as_str()), ..Labels::default() };
            if counts.of(class) > 0 {
                self.emit(&super::UPSTREAM_RESPONSES, labels, &[number(counts.of(class))], now);
            }
        }
        if counts.retries > 0 {
            self.emit(&super::UPSTREAM_RETRIES, Labels::default(), &[number(counts.retries)], now);
        }
    }

    /// A plan that came to its end.
    pub fn planned(&self, report: &PlanReport, took: Duration, now: Timestamp) {
        let none = Labels::default();
        for (lane, planned) in [(Lane::Small, report.small), (Lane::Large, report.large)] {
            let labels = Labels { queue: Some(lane.as_str()), ..none };
            self.emit(&super::PLANNED_BOTTLES, labels, &[number(planned.bottles)], now);
            self.emit(&super::PLANNED_BYTES, labels, &[number(planned.bytes)], now);
        }
        let problems = report.problems.len() + report.skipped.len() + report.unread_taps.len();
        self.emit(&super::PLAN_SECONDS, none, &[took.as_secs_f64()], now);
        self.emit(&super::PLAN_PROBLEMS, none, &[number(problems as u64)], now);
        if report.complete {
            self.emit(&super::PLANS_COMPLETED, none, &[1.0], now);
        }
    }

    /// A settle that came to its end.
    pub fn settled(&self, report: &SettleReport, last: Option<Timestamp>, now: Timestamp) {
        let none = Labels::default();
        self.emit(&super::REMAINING_BOTTLES, none, &[number(report.remaining)], now);
        self.emit(&super::STALLED_RUNS, none, &[number(report.stalled.len() as u64)], now);
        self.emit(&super::UNREADABLE_RECEIPTS, none, &[number(report.unreadable as u64)], now);
        for run in &report.settled {
            if let Some(outcome) = &run.outcome {
                let seconds = clock::since(run.started_at, outcome.settled_at).as_secs_f64();
                self.emit(&super::RUN_SECONDS, none, &[seconds], now);
            }
        }
        if let Some(last) = last {
            let seconds = clock::since(last, now).as_secs_f64();
            self.emit(&super::SECONDS_SINCE_SETTLED_RUN, none, &[seconds], now);
        }
    }
}

/// CloudWatch keeps doubles; no count here is beyond their whole numbers.
#[expect(clippy::cast_precision_loss, reason = "2^53 bytes are nine petabytes")]
fn number(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::io::Write;
    use std::sync::{Arc, Mutex};

    use serde_json::Value;

    use super::super::METRICS;
    use super::*;
    use crate::dead_letter::Reason;
    use crate::run::Count;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    impl Lines {
        fn values(&self) -> Vec<Value> {
            let bytes = self.0.lock().unwrap();
            String::from_utf8_lossy(&bytes).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
        }
    }

    fn emitted() -> Vec<Value> {
        let lines = Lines::default();
        let metrics = Metrics::new("team-dev", lines.clone());
        let now: Timestamp = "2026-01-01T00:10:00Z".parse().unwrap();
        let done = Done {
            fetched: Count { bottles: 2, bytes: 30 },
            copied: Count { bottles: 1, bytes: 5 },
            already_held: Count { bottles: 4, bytes: 1 },
            dead: [(Reason::NotFound, 1), (Reason::WrongDigest, 2)].into(),
            released: 3,
        };
        metrics.consumed(Lane::Small, &done, &[Duration::from_secs(1), Duration::from_secs(2)], now);
        let report = SettleReport { remaining: 7, ..SettleReport::default() };
        metrics.settled(&report, Some("2026-01-01T00:00:00Z".parse().unwrap()), now);
        lines.values()
    }

    #[test]
    fn every_line_is_an_object_as_cloudwatch_reads_it() {
        let lines = emitted();
        assert!(lines.len() > 8);
        for line in &lines {
            let directive = &line["_aws"]["CloudWatchMetrics"][0];
            assert_eq!(directive["Namespace"], "Bottles");
            let name = directive["Metrics"][0]["Name"].as_str().unwrap();
            let metric = METRICS.iter().find(|metric| metric.name == name).unwrap();
            assert_eq!(directive["Metrics"][0]["Unit"], metric.unit);
            let dimensions: BTreeSet<_> = directive["Dimensions"][0]
                .as_array()
                .unwrap()
                .iter()
                .map(|name| name.as_str().unwrap())
                .collect();
            let expected: BTreeSet<_> = ["Environment"].iter().chain(metric.dimensions).copied().collect();
            assert_eq!(dimensions, expected, "{name}");
            for dimension in dimensions {
                assert!(line[dimension].is_string(), "{name} has no {dimension}");
            }
            assert!(line[name].is_number() || line[name].is_array(), "{name} has no value");
        }
    }

    #[test]
    fn failures_are_told_apart_by_their_reason() {
        let lines = emitted();
        let value = |name: &str, outcome: &str| {
            let found = lines.iter().find(|line| line[name].is_number() && line["Outcome"] == outcome);
            found.map(|line| line[name].as_f64().unwrap())
        };
        assert_eq!(value("Bottles", "mirrored"), Some(3.0));
        assert_eq!(value("Bottles", "skipped"), Some(4.0));
        assert_eq!(value("Bottles", "wrong-digest"), Some(2.0));
        assert_eq!(value("Bottles", "crashed"), None);
        let since = lines.iter().find(|line| line["SecondsSinceSettledRun"].is_number()).unwrap();
        assert_eq!(since["SecondsSinceSettledRun"], 600.0);
        assert_eq!(
            lines.iter().find(|line| line["TransferSeconds"].is_array()).unwrap()["TransferSeconds"][1],
            2.0
        );
    }
}
