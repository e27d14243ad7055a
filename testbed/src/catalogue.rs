//! What upstream publishes, and the names that follow from it.

use std::collections::BTreeMap;
use std::ops::Range;

use serde_json::Value;

use crate::platform;
use crate::random::{mix_all, mix_text};
use crate::tap::TapSpec;

/// Everything that one upstream publishes.
#[derive(Clone, Debug, Default)]
pub struct Spec {
    /// Decides the bytes of every bottle. Equal specs give equal answers.
    pub seed: u64,
    /// The formulae of homebrew/core, in the order of the catalogue.
    pub formulae: Vec<FormulaSpec>,
    /// Elements put at the end of the catalogue's array as they are, for example
    /// formulae that break its shape. Nothing else is published for them.
    pub raw_elements: Vec<Value>,
    /// Other taps, no two of one name.
    pub taps: Vec<TapSpec>,
}

/// One formula of a tap.
#[derive(Clone, Debug, Default)]
pub struct FormulaSpec {
    /// The short name; in homebrew/core it is the full name too.
    pub name: String,
    /// The upstream project's version, such as `3.6.0`.
    pub version: String,
    /// Counts changes of the formula at one version; 0 is left out of names.
    pub revision: u32,
    /// Counts new bottles of an unchanged formula; 0 is left out of names.
    pub rebuild: u32,
    /// Names of the formulae needed at run time.
    pub dependencies: Vec<String>,
    /// Formulae that macOS brings along: names, or objects such as
    /// `{"flex": "build"}`. On Linux each is a dependency.
    pub uses_from_macos: Vec<Value>,
    /// Parallel to `uses_from_macos`: `{}`, or the first macOS that brings it along,
    /// `{"since": "sonoma"}`.
    pub uses_from_macos_bounds: Vec<Value>,
    /// By tag: the dependencies there, in place of `dependencies`.
    pub variations: BTreeMap<String, Vec<String>>,
    /// The bottles, one a tag. None at all gives `"bottle": {}`.
    pub bottles: Vec<BottleSpec>,
    /// Index and blobs are there, but neither the catalogue nor a file of the API lists
    /// the formula.
    pub unlisted: bool,
}

/// One bottle: the archive of one formula for one platform.
#[derive(Clone, Debug)]
pub struct BottleSpec {
    /// The platform's tag, such as `arm64_tahoe`, or `all`.
    pub tag: String,
    /// Bytes.
    pub size: u64,
    /// Bottles with the same content and size have the same bytes, so one digest.
    pub content: u64,
}

impl Spec {
    /// `bottles` bottles of `size` bytes (a size drawn for each), seven a formula.
    /// Names are `bulk-00001` and the like, some with `@`, `+`, `.` or `_`; some
    /// formulae have a revision or a rebuild; the first ones are dependencies of the
    /// later ones.
    pub fn bulk(seed: u64, bottles: usize, size: Range<u64>) -> Self {
        let span = size.end.saturating_sub(size.start).max(1);
        let mut left = bottles;
        let mut formulae: Vec<FormulaSpec> = Vec::with_capacity(bottles / BULK_TAGS.len() + 1);
        while left > 0 {
            let number = formulae.len() as u64 + 1;
            let mut formula =
                FormulaSpec::new(bulk_name(number), format!("{}.{}.{}", number % 9, number % 23, number % 7));
            formula.revision = u32::from(number.is_multiple_of(10));
            formula.rebuild = u32::from(number.is_multiple_of(16));
            // A small pool of libraries, none of which has dependencies, keeps every
            // closure short.
            if number > 200 {
                let library = |n: u64| bulk_name(mix_all(&[seed, number, n]) % 100 + 1);
                formula.dependencies = (0..number % 4).map(library).collect();
                formula.dependencies.dedup();
            }
            for tag in &BULK_TAGS[..left.min(BULK_TAGS.len())] {
                let draw = mix_text(&[&formula.name, tag]);
                formula = formula.with_bottle(tag, size.start + mix_all(&[seed, draw]) % span);
                left -= 1;
            }
            formulae.push(formula);
        }
        Self { seed, formulae, ..Self::default() }
    }

    /// `count` formulae, `uniform-00001` and on, with one bottle a tag of exactly
    /// `size` bytes, no two alike.
    pub fn uniform(seed: u64, count: usize, size: u64, tags: &[&str]) -> Self {
        let formula = |number| {
            let formula = FormulaSpec::new(format!("uniform-{number:05}"), "1.0.0");
            tags.iter().fold(formula, |formula, tag| formula.with_bottle(tag, size))
        };
        Self { seed, formulae: (1..=count).map(formula).collect(), ..Self::default() }
    }

    /// The formula of homebrew/core of that name, to change it before [`replace`].
    ///
    /// [`replace`]: crate::Upstream::replace
    pub fn formula_mut(&mut self, name: &str) -> Option<&mut FormulaSpec> {
        self.formulae.iter_mut().find(|formula| formula.name == name)
    }
}

impl FormulaSpec {
    /// A formula without bottles and dependencies.
    pub fn new(name: impl Into<String>, version: impl Into<String>) -> Self {
        Self { name: name.into(), version: version.into(), ..Self::default() }
    }

    /// The Ruby that brew fetches on a fresh machine, by digests that stand in its own
    /// source: so it is unlisted. Four bottles of 20–50 kB.
    pub fn portable_ruby(version: impl Into<String>) -> Self {
        let formula = Self::new("portable-ruby", version)
            .with_bottle("arm64_big_sur", 41_000)
            .with_bottle("catalina", 38_000)
            .with_bottle("arm64_linux", 23_000)
            .with_bottle("x86_64_linux", 47_000);
        Self { unlisted: true, ..formula }
    }

    /// Adds a bottle of `size` bytes whose content follows from the formula's name,
    /// version, revision and rebuild at this moment, and from the tag.
    #[must_use]
    pub fn with_bottle(self, tag: &str, size: u64) -> Self {
        let package = self.package_version();
        let content = mix_text(&[&self.name, &package, &self.rebuild.to_string(), tag]);
        self.with_content(tag, size, content)
    }

    /// Adds a bottle of a given content, for example one that two formulae share.
    #[must_use]
    pub fn with_content(mut self, tag: &str, size: u64, content: u64) -> Self {
        self.bottles.push(BottleSpec { tag: tag.to_owned(), size, content });
        self
    }

    /// Sets the revision.
    #[must_use]
    pub fn with_revision(mut self, revision: u32) -> Self {
        self.revision = revision;
        self
    }

    /// Sets the rebuild.
    #[must_use]
    pub fn with_rebuild(mut self, rebuild: u32) -> Self {
        self.rebuild = rebuild;
        self
    }

    /// Sets the dependencies.
    #[must_use]
    pub fn with_dependencies(mut self, names: &[&str]) -> Self {
        self.dependencies = owned(names);
        self
    }

    /// Sets the dependencies of one tag, in place of the usual ones.
    #[must_use]
    pub fn with_variation(mut self, tag: &str, names: &[&str]) -> Self {
        self.variations.insert(tag.to_owned(), owned(names));
        self
    }

    /// Adds formulae that macOS brings along: names or objects, without bounds.
    #[must_use]
    pub fn with_uses_from_macos(mut self, uses: impl IntoIterator<Item = Value>) -> Self {
        for one in uses {
            self.uses_from_macos.push(one);
            self.uses_from_macos_bounds.push(Value::Object(serde_json::Map::new()));
        }
        self
    }

    /// `version[_revision]`.
    pub fn package_version(&self) -> String {
        match self.revision {
            0 => self.version.clone(),
            revision => format!("{}_{revision}", self.version),
        }
    }

    /// The image below `<user>/<tap>/`: `@` becomes `/` and `+` becomes `x`.
    pub fn image(&self) -> String {
        self.name.replace('@', "/").replace('+', "x")
    }

    /// The tag of the image: `version[_revision][-rebuild]`.
    pub fn image_tag(&self) -> String {
        match self.rebuild {
            0 => self.package_version(),
            rebuild => format!("{}-{rebuild}", self.package_version()),
        }
    }

    /// The reference name of a bottle in the index:
    /// `version[_revision].<tag>[.<rebuild>]`.
    pub fn reference(&self, tag: &str) -> String {
        match self.rebuild {
            0 => format!("{}.{tag}", self.package_version()),
            rebuild => format!("{}.{tag}.{rebuild}", self.package_version()),
        }
    }

    /// The names of the formulae that the bottle of a platform needs when it runs.
    pub(crate) fn runtime_dependencies(&self, tag: &str) -> impl Iterator<Item = &str> {
        let declared = self.variations.get(tag).unwrap_or(&self.dependencies);
        platform::runtime_dependencies(declared, &self.uses_from_macos, &self.uses_from_macos_bounds, tag)
    }

    /// The name of a bottle as a flat file, not escaped:
    /// `name-version[_revision].<tag>.bottle[.<rebuild>].tar.gz`.
    pub fn flat_file(&self, tag: &str) -> String {
        let package = format!("{}-{}", self.name, self.package_version());
        match self.rebuild {
            0 => format!("{package}.{tag}.bottle.tar.gz"),
            rebuild => format!("{package}.{tag}.bottle.{rebuild}.tar.gz"),
        }
    }
}

const BULK_TAGS: [&str; 7] =
    ["arm64_tahoe", "arm64_sequoia", "arm64_sonoma", "tahoe", "sonoma", "x86_64_linux", "arm64_linux"];

/// The number makes each name unique, also after `@` and `+` are replaced.
fn bulk_name(number: u64) -> String {
    match number % 20 {
        3 => format!("bulk-{number:05}@{}.{}", number % 4 + 1, number % 13),
        7 => format!("bulk-{number:05}@{}", number % 30 + 1),
        11 => format!("bulk-{number:05}++"),
        13 => format!("bulk+{number:05}"),
        17 => format!("bulk_{number:05}"),
        19 => format!("bulk.{number:05}"),
        _ => format!("bulk-{number:05}"),
    }
}

fn owned(names: &[&str]) -> Vec<String> {
    names.iter().map(|&name| name.to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn names_follow_the_registrys_rules() {
        let formula = FormulaSpec::new("openssl@3", "3.6.0").with_revision(1).with_rebuild(2);
        assert_eq!(formula.image(), "openssl/3");
        assert_eq!(formula.image_tag(), "3.6.0_1-2");
        assert_eq!(formula.reference("arm64_tahoe"), "3.6.0_1.arm64_tahoe.2");
        let plain = FormulaSpec::new("bar++", "2.3");
        assert_eq!((plain.image().as_str(), plain.image_tag().as_str()), ("barxx", "2.3"));
        assert_eq!(plain.reference("all"), "2.3.all");
        assert_eq!(formula.flat_file("all"), "openssl@3-3.6.0_1.all.bottle.2.tar.gz");
        assert_eq!(plain.flat_file("arm64_tahoe"), "bar++-2.3.arm64_tahoe.bottle.tar.gz");
    }

    #[test]
    fn bulk_gives_the_number_of_bottles_asked_for() {
        let spec = Spec::bulk(5, 3000, 100..200);
        let bottles: Vec<_> = spec.formulae.iter().flat_map(|formula| &formula.bottles).collect();
        assert_eq!(bottles.len(), 3000);
        assert_eq!(spec.formulae.len(), 429);
        assert!(bottles.iter().all(|bottle| (100..200).contains(&bottle.size)));
        let contents: HashSet<_> = bottles.iter().map(|bottle| bottle.content).collect();
        assert_eq!(contents.len(), 3000);
        let images: HashSet<_> = spec.formulae.iter().map(FormulaSpec::image).collect();
        assert_eq!(images.len(), spec.formulae.len());
        for sign in ['@', '+', '.', '_'] {
            assert!(spec.formulae.iter().any(|formula| formula.name.contains(sign)));
        }
        let names: HashSet<_> = spec.formulae.iter().map(|formula| &formula.name).collect();
        assert!(spec.formulae.iter().flat_map(|f| &f.dependencies).all(|d| names.contains(d)));
    }

    #[test]
    fn a_seed_decides_the_sizes() {
        let sizes = |seed| -> Vec<_> {
            let spec = Spec::bulk(seed, 70, 0..1_000_000);
            spec.formulae.iter().flat_map(|f| f.bottles.iter().map(|b| b.size)).collect()
        };
        assert_eq!(sizes(1), sizes(1));
        assert_ne!(sizes(1), sizes(2));
    }

    #[test]
    fn uniform_bottles_are_of_one_size_and_all_different() {
        let spec = Spec::uniform(1, 3, 77, &["x86_64_linux", "arm64_tahoe"]);
        let bottles: Vec<_> = spec.formulae.iter().flat_map(|formula| &formula.bottles).collect();
        assert_eq!(bottles.len(), 6);
        assert!(bottles.iter().all(|bottle| bottle.size == 77));
        assert_eq!(bottles.iter().map(|bottle| bottle.content).collect::<HashSet<_>>().len(), 6);
    }
}
