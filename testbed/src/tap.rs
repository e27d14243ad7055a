//! Taps beside homebrew/core, and where each keeps its bottles.

use crate::catalogue::{BottleSpec, FormulaSpec};
use crate::content::Digest;
use crate::escape::escape;

/// The tap whose catalogue is the API's own.
pub(crate) const CORE: &str = "homebrew/core";

/// A tap beside homebrew/core. Its catalogue is served by the API's server at
/// `/taps/<user>/<tap>/formula.json`; the API's files don't know it.
#[derive(Clone, Debug, Default)]
pub struct TapSpec {
    /// `user/tap`, such as `example/tools`.
    pub name: String,
    /// Where its bottles are.
    pub root: TapRoot,
    /// Its formulae by their short names. Dependencies within the tap are named in
    /// full, `user/tap/name`; short names are those of homebrew/core.
    pub formulae: Vec<FormulaSpec>,
}

/// Where a tap's bottles are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TapRoot {
    /// In the registry as those of homebrew/core, below `https://ghcr.io/v2/<user>/<tap>`.
    #[default]
    Registry,
    /// On a plain HTTP host as flat files, without image indexes:
    /// `<files_url>/<user>/<tap>/<name>-<pkg_version>.<tag>.bottle[.<rebuild>].tar.gz`,
    /// with the file's name escaped (`@` is `%40`, `+` is `%2B`).
    Files,
}

impl TapSpec {
    /// A tap without formulae.
    pub fn new(name: impl Into<String>, root: TapRoot) -> Self {
        Self { name: name.into(), root, formulae: Vec::new() }
    }

    /// Two small taps, `example/tools` in the registry and `example/files` on the plain
    /// host, with names to escape, revisions and rebuilds. Neither needs homebrew/core.
    pub fn demo() -> Vec<Self> {
        let library = FormulaSpec::new("libtool++", "1.4")
            .with_bottle("arm64_tahoe", 9_000)
            .with_bottle("x86_64_linux", 12_000);
        let tool = FormulaSpec::new("tool@2", "2.1")
            .with_revision(1)
            .with_rebuild(1)
            .with_dependencies(&["example/tools/libtool++"])
            .with_bottle("arm64_sequoia", 30_000)
            .with_bottle("x86_64_linux", 31_000);
        let data = FormulaSpec::new("data+files", "2026.10").with_bottle("all", 5_000);
        let plain = FormulaSpec::new("plain@1.2", "1.2.7")
            .with_revision(3)
            .with_rebuild(2)
            .with_dependencies(&["example/files/data+files"])
            .with_bottle("arm64_tahoe", 25_000)
            .with_bottle("x86_64_linux", 26_000);
        vec![
            Self::new("example/tools", TapRoot::Registry).with_formula(library).with_formula(tool),
            Self::new("example/files", TapRoot::Files).with_formula(data).with_formula(plain),
        ]
    }

    /// Adds a formula.
    #[must_use]
    pub fn with_formula(mut self, formula: FormulaSpec) -> Self {
        self.formulae.push(formula);
        self
    }
}

/// A tap with the digests of its bottles.
#[derive(Debug)]
pub(crate) struct Tap {
    pub(crate) name: String,
    pub(crate) root: TapRoot,
    /// As the catalogue gives it, without a slash at the end.
    pub(crate) root_url: String,
    formulae: Vec<FormulaSpec>,
    /// By formula, by bottle.
    digests: Vec<Vec<Digest>>,
}

/// A formula with its tap and the digests of its bottles.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bottled<'a> {
    pub(crate) tap: &'a Tap,
    pub(crate) spec: &'a FormulaSpec,
    digests: &'a [Digest],
}

impl Tap {
    /// `files` is the origin of the plain host.
    pub(crate) fn new(spec: TapSpec, files: &str, digest: impl Fn(&BottleSpec) -> Digest) -> Self {
        let TapSpec { name, root, formulae } = spec;
        let root_url = match root {
            // The origin that the real catalogue names; clients put their own in its place.
            TapRoot::Registry => format!("https://ghcr.io/v2/{name}"),
            TapRoot::Files => format!("{files}/{name}"),
        };
        let digests = formulae.iter().map(|one| one.bottles.iter().map(&digest).collect()).collect();
        Self { name, root, root_url, formulae, digests }
    }

    /// Its formulae, also those that its catalogue doesn't list.
    pub(crate) fn formulae(&self) -> impl Iterator<Item = Bottled<'_>> {
        let pairs = self.formulae.iter().zip(&self.digests);
        pairs.map(|(spec, digests)| Bottled { tap: self, spec, digests })
    }

    /// The formulae that its catalogue lists.
    pub(crate) fn listed(&self) -> impl Iterator<Item = Bottled<'_>> {
        self.formulae().filter(|bottled| !bottled.spec.unlisted)
    }

    /// The formula at a place of [`formulae`](Self::formulae).
    pub(crate) fn at(&self, at: usize) -> Bottled<'_> {
        Bottled { tap: self, spec: &self.formulae[at], digests: &self.digests[at] }
    }
}

impl<'a> Bottled<'a> {
    /// Each bottle with its digest.
    pub(crate) fn bottles(&self) -> impl Iterator<Item = (&'a BottleSpec, &'a Digest)> + use<'a> {
        self.spec.bottles.iter().zip(self.digests)
    }

    /// The name; outside homebrew/core with its tap before it.
    pub(crate) fn full_name(&self) -> String {
        match self.tap.name.as_str() {
            CORE => self.spec.name.clone(),
            tap => format!("{tap}/{}", self.spec.name),
        }
    }

    /// The image below `/v2/`, such as `homebrew/core/openssl/3`.
    pub(crate) fn repository(&self) -> Option<String> {
        match self.tap.root {
            TapRoot::Registry => Some(format!("{}/{}", self.tap.name, self.spec.image())),
            TapRoot::Files => None,
        }
    }

    /// The path of a bottle's file on the plain host, not escaped.
    pub(crate) fn file_path(&self, tag: &str) -> Option<String> {
        match self.tap.root {
            TapRoot::Registry => None,
            TapRoot::Files => Some(format!("/{}/{}", self.tap.name, self.spec.flat_file(tag))),
        }
    }

    /// Where the catalogue says that a bottle is.
    pub(crate) fn url(&self, tag: &str, digest: &Digest) -> String {
        let root = &self.tap.root_url;
        match self.tap.root {
            TapRoot::Registry => format!("{root}/{}/blobs/sha256:{}", self.spec.image(), hex::encode(digest)),
            TapRoot::Files => format!("{root}/{}", escape(&self.spec.flat_file(tag))),
        }
    }
}
