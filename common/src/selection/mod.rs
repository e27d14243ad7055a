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
//! portable_ruby = ["x86_64_linux", "arm64_big_sur"] # what brew itself runs on
//! layout = "flat"                       # the bottles' flat names too
//! keep = { tags = ["sonoma"], formulae = ["python@3.9"] } # never retired
//!
//! [portable_ruby_pins]                  # those that the catalogue doesn't list
//! arm64_big_sur = "4dbd6a3a8b8c0a2ba9e2ecd0b6e0f4a5c1b4d2e3f60718293a4b5c6d7e8f9012"
//!
//! [[taps]]                              # other taps: a catalogue's URL, or its file's path
//! name = "brewsci/bio"
//! catalogue = "https://taps.example.com/brewsci-bio/formula.json"
//! # "#.parse()?;
//! # assert!(selection.takes_size(1_000_000));
//! # Ok::<(), common::selection::SelectionError>(())
//! ```

mod closure;
mod ruby;
mod unmatched;

use std::collections::BTreeMap;
use std::str::FromStr;

use globset::{Glob, GlobBuilder, GlobSet, GlobSetBuilder};
use serde::{Deserialize, Serialize};
use url::Url;

use crate::bottle::{BottleTag, Digest, FormulaName};
use crate::size::ByteSize;

pub use closure::{Added, Missing, Selected, SelectedBottle, SelectedFormula, WhyMissing};

/// What the mirror keeps. The default is everything.
#[derive(Debug, Clone)]
pub struct Selection {
    text: SelectionFile,
    allow: GlobSet,
    deny: GlobSet,
    keep: GlobSet,
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
    /// The bottle tags of the portable Ruby to keep, which brew itself runs on.
    pub portable_ruby: Vec<BottleTag>,
    /// The digests of portable Ruby's bottles that the catalogue doesn't list: brew
    /// pins them, and older ones pin older bottles.
    pub portable_ruby_pins: BTreeMap<BottleTag, Digest>,
    /// Under which names bottles are kept.
    pub layout: Layout,
    /// What is never retired, whatever upstream drops.
    pub keep: Keep,
    /// Further taps.
    pub taps: Vec<TapSource>,
}

/// Under which names bottles are kept.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Layout {
    /// The registry's paths, which `HOMEBREW_ARTIFACT_DOMAIN` asks for.
    #[default]
    Oci,
    /// Flat names too, which `HOMEBREW_BOTTLE_DOMAIN` asks for.
    Flat,
}

/// What is never retired.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Keep {
    /// Bottles with one of these tags.
    pub tags: Vec<BottleTag>,
    /// Bottles of these formulae, by name or glob.
    pub formulae: Vec<String>,
}

/// A tap beside homebrew/core.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TapSource {
    /// `USER/TAP`, which all that its catalogue lists is of.
    pub name: String,
    /// Its catalogue in the shape of `formula.json`, or that packed with gzip: a URL, or a
    /// file's path.
    pub catalogue: String,
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
    /// A tap that can't be used.
    #[error("the tap {name:?} in the selection: {why}")]
    Tap {
        /// Its name, as it was given.
        name: String,
        /// What is wrong with it.
        why: &'static str,
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
            portable_ruby: Vec::new(),
            portable_ruby_pins: BTreeMap::new(),
            layout: Layout::Oci,
            keep: Keep::default(),
            taps: Vec::new(),
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
        if text.portable_ruby_pins.keys().any(|tag| !text.portable_ruby.contains(tag)) {
            return Err(SelectionError::Contradiction(
                "`portable_ruby_pins` has a tag that `portable_ruby` doesn't name",
            ));
        }
        for (position, tap) in text.taps.iter().enumerate() {
            let is_name = |part: &str| format!("{part}/x/y").parse::<FormulaName>().is_ok();
            if !tap.name.split_once('/').is_some_and(|(user, tap)| is_name(user) && is_name(tap)) {
                return Err(SelectionError::Tap { name: tap.name.clone(), why: "its name takes USER/TAP" });
            }
            if tap.name.eq_ignore_ascii_case("homebrew/core") {
                let why = "its formulae are the mirror's own; leave it out of `taps`";
                return Err(SelectionError::Tap { name: tap.name.clone(), why });
            }
            if tap.catalogue.is_empty() {
                return Err(SelectionError::Tap { name: tap.name.clone(), why: "its `catalogue` is empty" });
            }
            let scheme = tap.catalogue.split_once("://").map(|(scheme, _)| scheme.to_ascii_lowercase());
            if scheme.is_some_and(|scheme| scheme != "http" && scheme != "https") {
                let why = "its `catalogue` takes an http or https URL, or a file's path: no file://";
                return Err(SelectionError::Tap { name: tap.name.clone(), why });
            }
            if text.taps[..position].iter().any(|other| other.name == tap.name) {
                return Err(SelectionError::Tap { name: tap.name.clone(), why: "it is named twice" });
            }
        }
        let everything = vec!["*".to_owned()];
        let allow = globs(text.formulae.as_ref().unwrap_or(&everything))?;
        let deny = globs(&text.exclude)?;
        let keep = globs(&text.keep.formulae)?;
        Ok(Self { text, allow, deny, keep })
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

    /// The URLs of the taps' catalogues; those in files have none.
    pub fn catalogues(&self) -> Vec<Url> {
        self.text.taps.iter().filter_map(|tap| Url::parse(&tap.catalogue).ok()).collect()
    }

    /// Whether a bottle is never retired. One whose tags nobody knows, after a manifest was
    /// rebuilt, may have any.
    pub fn keeps(&self, formula: &FormulaName, tags: &[BottleTag]) -> bool {
        let kept = &self.text.keep.tags;
        matches(&self.keep, formula)
            || tags.iter().any(|tag| kept.contains(tag))
            || (tags.is_empty() && !kept.is_empty())
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
