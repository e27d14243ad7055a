//! What a plan came to.

use serde::{Deserialize, Serialize};

use crate::bottle::FormulaName;
use crate::publication::ApiPath;
use crate::run::{Count, RunId};
use crate::selection::{Added, Missing};

/// What a plan came to.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct PlanReport {
    /// The run; `None` in a dry run.
    pub run: Option<RunId>,
    /// Whether upstream said that the catalogue is the one planned before.
    pub unchanged: bool,
    /// Whether the whole catalogue was gone through.
    pub complete: bool,
    /// Formulae with bottles in the catalogue.
    pub formulae: usize,
    /// Bottles in the catalogue, by tag.
    pub bottles: usize,
    /// Bottles that the selection asks for, by digest.
    pub selected: usize,
    /// Of these, the mirror holds.
    pub held: usize,
    /// Of these, are on a queue already.
    pub queued: usize,
    /// Of these, are in a dead-letter queue.
    pub dead: usize,
    /// What goes to the small queue.
    pub small: Count,
    /// What goes to the large queue.
    pub large: Count,
    /// Bottles whose sizes were not asked for, in a dry run without sizes.
    pub unsized_bottles: usize,
    /// Bottles outside the selection's size limits.
    pub outside_limits: usize,
    /// What the closure added.
    pub added: Vec<Added>,
    /// What is wanted and can't be had.
    pub missing: Vec<Missing>,
    /// Patterns of the selection that match nothing.
    pub unmatched: Vec<String>,
    /// Formulae that could not be read from the catalogue.
    pub skipped: Vec<SkippedFormula>,
    /// Formulae that could not be planned; the next plan tries them again.
    pub problems: Vec<Problem>,
    /// Taps whose catalogues could not be read: what the mirror has of them stays.
    #[serde(default)]
    pub unread_taps: Vec<UnreadTap>,
    /// The API files.
    #[serde(default)]
    pub api: ApiReport,
}

/// What became of the API files.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct ApiReport {
    /// Whether a set was staged: it is published when its bottles are held.
    pub staged: bool,
    /// Its files.
    pub files: usize,
    /// Of these, were read anew.
    pub fresh: usize,
    /// What upstream doesn't have.
    pub missing: Vec<ApiPath>,
    /// Why none was staged: what is published stays.
    pub trouble: Option<String>,
}

/// A formula that could not be read from the catalogue.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SkippedFormula {
    /// Its name, or its position where it has none.
    pub name: String,
    /// What is wrong with it.
    pub why: String,
}

/// A tap whose catalogue could not be read.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct UnreadTap {
    /// Its name, `USER/TAP`.
    pub name: String,
    /// Where its catalogue should be, and what went wrong.
    pub why: String,
}

/// A formula that could not be planned.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Problem {
    /// The formula.
    pub formula: FormulaName,
    /// What is wrong.
    pub why: String,
}

impl PlanReport {
    pub(super) fn new() -> Self {
        Self {
            run: None,
            unchanged: false,
            complete: true,
            formulae: 0,
            bottles: 0,
            selected: 0,
            held: 0,
            queued: 0,
            dead: 0,
            small: Count::default(),
            large: Count::default(),
            unsized_bottles: 0,
            outside_limits: 0,
            added: Vec::new(),
            missing: Vec::new(),
            unmatched: Vec::new(),
            skipped: Vec::new(),
            problems: Vec::new(),
            unread_taps: Vec::new(),
            api: ApiReport::default(),
        }
    }

    /// Whether nothing that was asked for had to be left out.
    pub fn is_whole(&self) -> bool {
        self.problems.is_empty() && self.unread_taps.is_empty()
    }

    /// The names of the taps that could not be read.
    pub(super) fn unread_names(&self) -> Vec<String> {
        self.unread_taps.iter().map(|tap| tap.name.clone()).collect()
    }

    /// Everything that was put on the queues, or would be.
    pub fn total(&self) -> Count {
        self.small + self.large
    }
}
