//! Which of upstream's bottles the mirror keeps.
//!
//! A selection is a small TOML file:
//!
//! ```
//! # let selection: common::selection::Selection = r#"
//! formulae = ["wget", "python@*"]       # names or globs; all where absent
//! exclude = ["*-nightly"]               # wins over everything, dependencies too
//! tags = ["arm64_tahoe", "x86_64_linux"] # the clients' platforms; all where absent
//! dependencies = true                   # the runtime closure, per platform
//! max_bottle_size = "2GB"               # larger bottles are left out
//! # "#.parse()?;
//! # assert!(selection.takes_size(1_000_000));
//! # Ok::<(), common::selection::SelectionError>(())
//! ```

mod closure;

use std::str::FromStr;

use globset::{Glob, GlobBuilder, GlobSet, GlobSetBuilder};
use serde::{Deserialize, Serialize};

use crate::bottle::{BottleTag, Digest, FormulaName};
use crate::size::ByteSize;

pub use closure::{Added, Missing, Selected, SelectedBottle, SelectedFormula, WhyMissing};

/// What the mirror keeps. The default is everything.
#[derive(Debug, Clone)]
pub struct Selection {
    text: SelectionFile,
    allow: GlobSet,
    deny: GlobSet,
}

/// The selection as its file states it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SelectionFile {
    /// Names or globs of the formulae to keep; all where absent.
    pub formulae: Option<Vec<String>>,
    /// Names or globs to leave out, even where they are dependencies.
    pub exclude: Vec<String>,
    /// The platforms of the clients; every platform where absent.
    pub tags: Option<Vec<BottleTag>>,
    /// Whether the runtime dependencies of `formulae` are kept too.
    pub dependencies: bool,
    /// Bottles smaller than this are left out.
    pub min_bottle_size: Option<ByteSize>,
    /// Bottles larger than this are left out.
    pub max_bottle_size: Option<ByteSize>,
}

/// A selection that can't be used.
#[derive(Debug, Clone, thiserror::Error)]
pub enum SelectionError {
    /// It is no TOML, or holds a key that means nothing.
    #[error("the selection can't be read: {0}")]
    Syntax(String),
    /// A pattern is no glob.
    #[error("{pattern:?} in the selection is no name or glob: {why}")]
    Glob {
        /// The pattern.
        pattern: String,
        /// What is wrong with it.
        why: String,
    },
    /// Its values contradict each other, or select nothing.
    #[error("the selection contradicts itself: {0}")]
    Contradiction(&'static str),
}

impl Default for SelectionFile {
    fn default() -> Self {
        Self {
            formulae: None,
            exclude: Vec::new(),
            tags: None,
            dependencies: true,
            min_bottle_size: None,
            max_bottle_size: None,
        }
    }
}

impl Selection {
    /// Checks a selection.
    pub fn new(text: SelectionFile) -> Result<Self, SelectionError> {
        if text.formulae.as_ref().is_some_and(Vec::is_empty) {
            return Err(SelectionError::Contradiction("`formulae` is empty, so nothing is selected"));
        }
        if text.tags.as_ref().is_some_and(Vec::is_empty) {
            return Err(SelectionError::Contradiction("`tags` is empty, so nothing is selected"));
        }
        if text.tags.as_ref().is_some_and(|tags| tags.contains(&BottleTag::All)) {
            return Err(SelectionError::Contradiction(
                "`tags` names clients' platforms, and no client is on `all`; its bottles come with every platform",
            ));
        }
        if let (Some(least), Some(most)) = (text.min_bottle_size, text.max_bottle_size)
            && least > most
        {
            return Err(SelectionError::Contradiction("`min_bottle_size` is greater than `max_bottle_size`"));
        }
        let everything = vec!["*".to_owned()];
        let allow = globs(text.formulae.as_ref().unwrap_or(&everything))?;
        let deny = globs(&text.exclude)?;
        Ok(Self { text, allow, deny })
    }

    /// The selection as its file states it.
    pub fn file(&self) -> &SelectionFile {
        &self.text
    }

    /// Whether a bottle of `size` bytes is within the limits.
    pub fn takes_size(&self, size: u64) -> bool {
        self.text.min_bottle_size.is_none_or(|least| size >= least.0)
            && self.text.max_bottle_size.is_none_or(|most| size <= most.0)
    }

    /// What tells two selections apart: a digest of all that they state.
    pub fn fingerprint(&self) -> Digest {
        Digest::of(serde_json::to_string(&self.text).unwrap_or_default().as_bytes())
    }

    fn names(&self, formula: &FormulaName) -> bool {
        matches(&self.allow, formula) && !self.denies(formula)
    }

    fn denies(&self, formula: &FormulaName) -> bool {
        matches(&self.deny, formula)
    }
}

impl FromStr for Selection {
    type Err = SelectionError;

    fn from_str(text: &str) -> Result<Self, SelectionError> {
        Self::new(toml::from_str(text).map_err(|error| SelectionError::Syntax(error.to_string()))?)
    }
}

fn glob(pattern: &str) -> Result<Glob, SelectionError> {
    GlobBuilder::new(pattern)
        .literal_separator(true)
        .build()
        .map_err(|error| SelectionError::Glob { pattern: pattern.to_owned(), why: error.kind().to_string() })
}

/// Formula globs, as `--formula` takes them: `*` crosses no `/`. See [`matches()`].
pub fn globs(patterns: &[String]) -> Result<GlobSet, SelectionError> {
    let mut set = GlobSetBuilder::new();
    for pattern in patterns {
        set.add(glob(pattern)?);
    }
    set.build().map_err(|error| SelectionError::Syntax(error.to_string()))
}

/// Whether one of `globs` matches a formula by its full name, or by the name
/// that it has inside its tap.
pub fn matches(globs: &GlobSet, formula: &FormulaName) -> bool {
    globs.is_match(formula.as_str()) || globs.is_match(formula.short())
}
