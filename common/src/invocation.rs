//! What the producer is asked to do, and what it answers.
//!
//! The scheduler sends these as they are written here; `bottles run` and
//! `bottles plan` send the same by hand.

use serde::{Deserialize, Serialize};

use crate::ecs::Raised;
use crate::plan::PlanReport;
use crate::selection::SelectionFile;

/// What is to be done: `{"action":"plan"}` or `{"action":"settle"}`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "action", rename_all = "kebab-case")]
pub enum Event {
    /// Plan a run.
    Plan(Box<PlanRequest>),
    /// Fold receipts, and close runs that are complete.
    Settle(SettleRequest),
}

/// How to plan.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PlanRequest {
    /// What is wanted this time, instead of the configured selection: it is queued, and
    /// nothing is published or retired by it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub selection: Option<SelectionFile>,
    /// Only look: nothing is written, sent or scaled.
    pub dry_run: bool,
    /// In a dry run, count bottles and don't read the image indexes for bytes.
    pub no_sizes: bool,
    /// Fail if the time does not suffice for the whole catalogue: whoever asks
    /// tries again, and that goes on from there. The scheduler asks so, which
    /// would come back in a week otherwise.
    pub whole: bool,
}

/// Nothing more to say.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SettleRequest {}

/// What a plan came to.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct PlanAnswer {
    /// The plan; its lists are cut to [`LONGEST_LIST`] entries.
    pub report: PlanReport,
    /// Above how many bytes bottles went to the large queue.
    pub size_threshold: u64,
    /// The ECS service's desired count, where large bottles wait.
    pub tasks: Option<Raised>,
}

/// Lambda answers with 6 MB at most.
pub const LONGEST_LIST: usize = 1000;

impl PlanAnswer {
    /// An answer that fits.
    pub fn new(mut report: PlanReport, size_threshold: u64, tasks: Option<Raised>) -> Self {
        report.added.truncate(LONGEST_LIST);
        report.missing.truncate(LONGEST_LIST);
        report.unmatched.truncate(LONGEST_LIST);
        report.skipped.truncate(LONGEST_LIST);
        report.problems.truncate(LONGEST_LIST);
        report.unread_taps.truncate(LONGEST_LIST);
        Self { report, size_threshold, tasks }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_what_the_scheduler_sends() {
        let read = |text: &str| serde_json::from_str::<Event>(text);
        assert_eq!(read(r#"{"action":"plan"}"#).unwrap(), Event::Plan(Box::default()));
        assert_eq!(read(r#"{"action":"settle"}"#).unwrap(), Event::Settle(SettleRequest {}));
        let manual =
            r#"{"action":"plan","dry_run":true,"selection":{"formulae":["wget"],"tags":["arm64_tahoe"]}}"#;
        let Event::Plan(request) = read(manual).unwrap() else { panic!("no plan") };
        assert!(request.dry_run && !request.no_sizes);
        assert_eq!(request.selection.unwrap().formulae.unwrap(), ["wget"]);
        for wrong in [
            "{}",
            r#"{"action":"plant"}"#,
            r#"{"action":"plan","dryrun":true}"#,
            r#"{"action":"settle","dry_run":true}"#,
            r#"{"action":"plan","selection":{"formula":["wget"]}}"#,
        ] {
            assert!(read(wrong).is_err(), "{wrong} was taken");
        }
    }
}
