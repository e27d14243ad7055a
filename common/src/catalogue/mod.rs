//! What upstream offers: formulae.brew.sh's `api/formula.json`.
//!
//! The catalogue is some 30 MB of JSON for 8,000 formulae, of which a few
//! fields matter. [`Reader`] takes it in chunks as they arrive and keeps only
//! those, so memory depends on the number of bottles and not on the
//! catalogue's bytes. A formula that can't be read is skipped, counted and
//! named; it never stops the others.

mod element;
mod reader;
mod split;
mod unpack;

use std::collections::HashMap;
use std::sync::Arc;

use crate::bottle::{BottleTag, Digest, FormulaName, ImagePath, ImageTag, MacRelease, Origin, RootUrl};

pub use reader::Reader;

/// Every formula that has bottles, by name.
#[derive(Debug, Default)]
pub struct Catalogue {
    formulae: Vec<Formula>,
    /// Index into `formulae` by full name, old name and alias.
    by_name: HashMap<FormulaName, u32>,
    skipped: Vec<Skipped>,
    unbottled: usize,
}

/// One formula and its bottles.
#[derive(Debug, Clone)]
pub struct Formula {
    /// The full name.
    pub name: FormulaName,
    /// The registry that serves it.
    pub origin: Origin,
    /// Its repository there, and its key prefix here.
    pub image: ImagePath,
    /// The tag of its image index.
    pub image_tag: ImageTag,
    /// `version[_revision]`, as flat names have it.
    pub pkg_version: Arc<str>,
    /// The rebuild of its bottles.
    pub rebuild: u32,
    /// The host of its files, where they are no blobs of a registry.
    pub files: Option<RootUrl>,
    /// Whether it stands for bottles that the selection pins, and that have no index.
    pub is_pinned: bool,
    /// Its bottles by tag. Two tags may share a digest.
    pub bottles: Vec<(BottleTag, Digest)>,
    /// Runtime dependencies where no variation says otherwise.
    pub dependencies: Vec<FormulaName>,
    /// Runtime dependencies of single platforms.
    pub variations: Vec<(BottleTag, Vec<FormulaName>)>,
    /// What macOS brings and Linux must install.
    pub uses_from_macos: Vec<SystemDependency>,
}

/// The formula that brew itself runs on.
pub const PORTABLE_RUBY: &str = "portable-ruby";

/// The version, and the image tag, that pinned bottles have here.
pub const PINNED: &str = "pinned";

/// homebrew/core's registry.
const CORE_ROOT: &str = "https://ghcr.io/v2/homebrew/core";

const SAME_NAME: &str = "an earlier formula has the same name";

/// A dependency that macOS brings along.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SystemDependency {
    /// The formula that stands in for it.
    pub name: FormulaName,
    /// The first macOS that brings it; `None` if all that are known do.
    pub since: Option<MacRelease>,
}

/// A formula that could not be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Skipped {
    /// Its name, or its position where it has none.
    pub name: String,
    /// What is wrong with it.
    pub why: String,
}

/// A document that is no catalogue.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CatalogueError {
    /// The stream ended before the array did.
    #[error("the catalogue ends in the middle, after {formulae} formulae: the transfer was cut short")]
    Truncated {
        /// How many were read until then.
        formulae: usize,
    },
    /// It is no JSON array.
    #[error("the catalogue is no JSON array of formulae: {0}")]
    NotAnArray(&'static str),
    /// It begins as gzip does.
    #[error("the catalogue is packed with gzip and can't be unpacked: {0}")]
    Gzip(String),
    /// One element is larger than any formula.
    #[error("an element of the catalogue is larger than {limit} bytes")]
    ElementTooLarge {
        /// The limit, in bytes.
        limit: usize,
    },
    /// Every single formula was malformed: the format has changed.
    #[error("none of the catalogue's {count} formulae could be read; the first, {name}: {why}")]
    NothingReadable {
        /// How many there are.
        count: usize,
        /// The first one's name.
        name: String,
        /// What is wrong with it.
        why: String,
    },
}

impl Formula {
    /// Whether clients ask for an image index before its bottles.
    pub fn has_index(&self) -> bool {
        self.files.is_none() && !self.is_pinned
    }

    /// What the keys of its tap's images begin with, without a slash at the end.
    pub fn root(&self) -> &str {
        let image = self.name.short().replace('@', "/").replace('+', "x");
        self.image.as_str().strip_suffix(image.as_str()).map_or("", |root| root.trim_end_matches('/'))
    }

    /// The URL of one of its bottles.
    pub fn url(&self, tag: &BottleTag, digest: &Digest) -> String {
        match &self.files {
            Some(root) => root.file_url(&self.flat_name(tag)),
            None => self.image.blob_url(&self.origin, digest),
        }
    }

    /// The file name of one of its bottles:
    /// `name-version[_revision].<tag>.bottle[.<rebuild>].tar.gz`.
    pub fn flat_name(&self, tag: &BottleTag) -> String {
        let (name, version) = (self.name.short(), &self.pkg_version);
        match self.rebuild {
            0 => format!("{name}-{version}.{tag}.bottle.tar.gz"),
            rebuild => format!("{name}-{version}.{tag}.bottle.{rebuild}.tar.gz"),
        }
    }

    /// The names of this formula's runtime dependencies on a client's platform.
    pub fn dependencies_on(&self, tag: &BottleTag) -> impl Iterator<Item = &FormulaName> {
        let own =
            self.variations.iter().find(|(of, _)| of == tag).map_or(&self.dependencies, |(_, names)| names);
        let from_system = self.uses_from_macos.iter().filter(|dependency| match tag.mac_release() {
            Some(release) => dependency.since.is_some_and(|since| release < since),
            None => tag.is_linux(),
        });
        own.iter().chain(from_system.map(|dependency| &dependency.name))
    }
}

impl Catalogue {
    /// Adds another tap's catalogue; what has the name of an earlier formula is skipped.
    pub fn append(&mut self, other: Self) {
        let Self { formulae, by_name, skipped, unbottled } = other;
        let mut positions = vec![None; formulae.len()];
        for (at, formula) in formulae.into_iter().enumerate() {
            if self.by_name.contains_key(&formula.name) {
                self.skipped.push(Skipped { name: formula.name.to_string(), why: SAME_NAME.to_owned() });
                continue;
            }
            let position = u32::try_from(self.formulae.len()).unwrap_or(u32::MAX);
            positions[at] = Some(position);
            self.by_name.insert(formula.name.clone(), position);
            self.formulae.push(formula);
        }
        for (name, at) in by_name {
            if let Some(Some(position)) = positions.get(at as usize) {
                self.by_name.entry(name).or_insert(*position);
            }
        }
        self.skipped.extend(skipped);
        self.unbottled += unbottled;
    }

    /// Adds bottles of portable Ruby that it doesn't list. They stand apart from a
    /// listed formula of that name.
    pub fn pin_portable_ruby<'a>(&mut self, pins: impl IntoIterator<Item = (&'a BottleTag, &'a Digest)>) {
        let bottles: Vec<_> = pins.into_iter().map(|(tag, digest)| (tag.clone(), *digest)).collect();
        let names = (PORTABLE_RUBY.parse(), CORE_ROOT.parse::<RootUrl>(), PINNED.parse());
        if let (Ok(name), Ok(root), Ok(image_tag)) = names
            && !bottles.is_empty()
        {
            self.formulae.push(Formula {
                image: root.image(&name),
                name,
                origin: root.origin().clone(),
                image_tag,
                pkg_version: PINNED.into(),
                rebuild: 0,
                files: None,
                is_pinned: true,
                bottles,
                dependencies: Vec::new(),
                variations: Vec::new(),
                uses_from_macos: Vec::new(),
            });
        }
    }

    /// Every formula that has bottles, in the catalogue's order.
    pub fn formulae(&self) -> &[Formula] {
        &self.formulae
    }

    /// The position of a formula in [`Self::formulae`], by full name, alias or old name.
    pub fn position(&self, name: &FormulaName) -> Option<usize> {
        self.by_name.get(name).map(|position| *position as usize)
    }

    /// The position of what a formula depends on. A tap's formulae may leave the tap out
    /// of the names of each other.
    pub fn dependency(&self, name: &FormulaName, of: &FormulaName) -> Option<usize> {
        let in_own_tap = || {
            let tap = of.tap().filter(|_| name.tap().is_none())?;
            self.position(&format!("{tap}/{name}").parse().ok()?)
        };
        self.position(name).or_else(in_own_tap)
    }

    /// The formulae that could not be read.
    pub fn skipped(&self) -> &[Skipped] {
        &self.skipped
    }

    /// How many formulae have no bottle at all.
    pub fn unbottled(&self) -> usize {
        self.unbottled
    }

    /// How many bottles there are, counted by tag and not by digest.
    pub fn bottle_count(&self) -> usize {
        self.formulae.iter().map(|formula| formula.bottles.len()).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(document: &[u8], chunk: usize) -> Result<Catalogue, CatalogueError> {
        let mut reader = Reader::new();
        for part in document.chunks(chunk) {
            reader.push(part)?;
        }
        reader.finish()
    }

    fn formula(name: &str, extra: &str) -> String {
        let digest = Digest::of(name.as_bytes());
        format!(
            r#"{{"name":"{name}","full_name":"{name}","versions":{{"stable":"1.0"}},"bottle":{{"stable":{{"rebuild":0,
            "root_url":"https://ghcr.io/v2/homebrew/core","files":{{"x86_64_linux":{{"sha256":"{digest}"}}}}}}}}{extra}}}"#
        )
    }

    #[test]
    fn one_malformed_formula_is_named_and_harms_no_other() {
        let bad = [
            formula("no-versions", "").replace("\"versions\"", "\"vers\""),
            r#"{"name":"bad-json","versions":{"stable":tru}}"#.to_owned(),
            formula("bad-digest", "").replace("\"sha256\":\"", "\"sha256\":\"zz"),
            formula("bad-root", "").replace("https://ghcr.io/v2", "file:///etc"),
            formula("bad..image", "").replace("1.0", "1/../0"),
            r#"{"name":5}"#.to_owned(),
            r#""just text""#.to_owned(),
            "null".to_owned(),
        ];
        let document = format!("[{},{},{}]", formula("first", ""), bad.join(","), formula("last", ""));
        for chunk in [1, 7, 4096] {
            let catalogue = read(document.as_bytes(), chunk).unwrap();
            let names: Vec<_> = catalogue.formulae().iter().map(|f| f.name.as_str()).collect();
            assert_eq!(names, ["first", "last"]);
            let skipped: Vec<_> = catalogue.skipped().iter().map(|s| s.name.as_str()).collect();
            assert_eq!(
                skipped,
                [
                    "no-versions",
                    "bad-json",
                    "bad-digest",
                    "bad-root",
                    "bad..image",
                    "element 6",
                    "element 7",
                    "element 8"
                ]
            );
        }
    }

    #[test]
    fn unknown_fields_and_missing_ones_are_no_fault() {
        let document = format!(
            r#"[{}, {{"name":"none","versions":{{"stable":null}},"bottle":{{}}}}, {{"name":"null","bottle":{{"stable":null}}}}, {{"name":"head"}}]"#,
            formula("some", r#","future":{"deep":[1,{"x":"]}\""}]},"revision":2"#),
        );
        let catalogue = read(document.as_bytes(), 3).unwrap();
        assert_eq!((catalogue.formulae().len(), catalogue.unbottled(), catalogue.skipped().len()), (1, 3, 0));
        assert_eq!(catalogue.formulae()[0].image_tag.as_str(), "1.0_2");
    }

    #[test]
    fn a_truncated_catalogue_is_refused_whole() {
        let document = format!("[{},{}]", formula("a", ""), formula("b", ""));
        for cut in 1..document.len() {
            let error = read(&document.as_bytes()[..cut], 64).unwrap_err();
            assert!(matches!(error, CatalogueError::Truncated { .. }), "cut at {cut}: {error}");
        }
    }

    fn packed(document: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        std::io::Write::write_all(&mut encoder, document).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn a_catalogue_may_be_packed_with_gzip() {
        let document = format!("[{},{}]", formula("a", ""), formula("b", ""));
        let packed_document = packed(document.as_bytes());
        for chunk in [1, 7, 4096] {
            assert_eq!(read(&packed_document, chunk).unwrap().formulae().len(), 2);
        }
        // In two members, as tools put it that pack in parallel.
        let (one, other) = document.as_bytes().split_at(50);
        let members = [packed(one), packed(other)].concat();
        assert_eq!(read(&members, 64).unwrap().formulae().len(), 2);
        // Cut at its end all elements may be there, but not what says that they are right.
        for cut in [2, 20, packed_document.len() - 9, packed_document.len() - 1] {
            let error = read(&packed_document[..cut], 64).unwrap_err();
            assert!(matches!(error, CatalogueError::Truncated { .. }), "cut at {cut}: {error}");
        }
        assert!(matches!(read(b"\x1f\x8b, but no gzip at all", 64).unwrap_err(), CatalogueError::Gzip(_)));
        assert!(matches!(read(&packed(b"{}"), 64).unwrap_err(), CatalogueError::NotAnArray(_)));
    }

    #[test]
    fn what_is_no_catalogue_is_refused() {
        for document in ["", "{}", "<html>", "[] []", "[{}]x"] {
            assert!(read(document.as_bytes(), 2).is_err(), "{document:?} was taken");
        }
        assert!(matches!(read(b"[1,2]", 9).unwrap_err(), CatalogueError::NothingReadable { count: 2, .. }));
        assert_eq!(read(b" [ ] \n", 1).unwrap().formulae().len(), 0);
    }

    #[test]
    fn dependencies_follow_the_platform() {
        let extra = r#","dependencies":["zlib"],"variations":{"x86_64_linux":{"dependencies":["gcc"]}},
            "uses_from_macos":["curl",{"flex":"build"},{"perl":["build","test"]},"expat"],"uses_from_macos_bounds":[{},{},{},{"since":"sequoia"}]"#;
        let catalogue = read(format!("[{}]", formula("a", extra)).as_bytes(), 11).unwrap();
        let on = |tag: &str| {
            let tag = tag.parse().unwrap();
            catalogue.formulae()[0]
                .dependencies_on(&tag)
                .map(ToString::to_string)
                .collect::<Vec<_>>()
                .join(" ")
        };
        assert_eq!(on("arm64_tahoe"), "zlib");
        assert_eq!(on("arm64_sonoma"), "zlib expat");
        assert_eq!(on("x86_64_linux"), "gcc curl expat");
        assert_eq!(on("arm64_linux"), "zlib curl expat");
    }

    #[test]
    fn an_alias_finds_its_formula_but_never_hides_another() {
        let document = format!(
            "[{},{}]",
            formula("python@3.14", r#","aliases":["python","a"],"oldnames":["py"]"#),
            formula("a", "")
        );
        let catalogue = read(document.as_bytes(), 50).unwrap();
        let position = |name: &str| catalogue.position(&name.parse().unwrap());
        assert_eq!(
            (position("python"), position("py"), position("a"), position("b")),
            (Some(0), Some(0), Some(1), None)
        );
    }
}
