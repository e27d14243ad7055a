//! Reads one element of the catalogue into a [`Formula`].

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};

use crate::bottle::{BottleTag, FormulaName, ImageTag, RootUrl};

use super::{Formula, SystemDependency};

/// A formula and the other names that find it.
pub(super) struct Read {
    pub(super) formula: Formula,
    pub(super) aliases: Vec<FormulaName>,
}

/// Shares what thousands of formulae repeat: names and root URLs.
#[derive(Default)]
pub(super) struct Interner {
    names: HashSet<FormulaName>,
    roots: HashMap<String, RootUrl>,
}

/// Reads an element; `None` if the formula has no bottle.
pub(super) fn read(element: &[u8], interner: &mut Interner) -> Result<Option<Read>, String> {
    let text = std::str::from_utf8(element).map_err(|_| "it is not UTF-8".to_owned())?;
    let raw: RawFormula = serde_json::from_str(text).map_err(|error| error.to_string())?;
    raw.check(interner).map_err(|error| error.to_string())
}

/// The name in an element that could not be read, as far as it can be told.
pub(super) fn name_of(element: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    struct NameOnly {
        name: String,
    }
    if let Ok(NameOnly { name }) = serde_json::from_slice(element) {
        return Some(name);
    }
    // Broken JSON: the text after `"name":"` still helps whoever reads the warning.
    let text = String::from_utf8_lossy(element);
    let rest = text.split_once("\"name\":")?.1.trim_start().strip_prefix('"')?;
    Some(rest.split('"').next()?.chars().take(100).collect())
}

#[derive(Deserialize)]
struct RawFormula<'a> {
    #[serde(borrow)]
    name: Cow<'a, str>,
    #[serde(borrow)]
    full_name: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    versions: Option<RawVersions<'a>>,
    #[serde(default)]
    revision: Option<u32>,
    #[serde(borrow, default)]
    bottle: Option<RawBottle<'a>>,
    #[serde(borrow, default)]
    dependencies: Option<Vec<Cow<'a, str>>>,
    #[serde(borrow, default)]
    uses_from_macos: Option<Vec<RawSystemDependency<'a>>>,
    #[serde(borrow, default)]
    uses_from_macos_bounds: Option<Vec<RawBound<'a>>>,
    #[serde(borrow, default)]
    variations: Option<BTreeMap<Cow<'a, str>, RawVariation<'a>>>,
    #[serde(borrow, default)]
    aliases: Option<Vec<Cow<'a, str>>>,
    #[serde(borrow, default)]
    oldnames: Option<Vec<Cow<'a, str>>>,
}

#[derive(Deserialize)]
struct RawVersions<'a> {
    #[serde(borrow, default)]
    stable: Option<Cow<'a, str>>,
}

#[derive(Deserialize)]
struct RawBottle<'a> {
    #[serde(borrow, default)]
    stable: Option<RawStable<'a>>,
}

#[derive(Deserialize)]
struct RawStable<'a> {
    #[serde(default)]
    rebuild: Option<u32>,
    #[serde(borrow)]
    root_url: Cow<'a, str>,
    #[serde(borrow)]
    files: BTreeMap<Cow<'a, str>, RawFile<'a>>,
}

#[derive(Deserialize)]
struct RawFile<'a> {
    #[serde(borrow)]
    sha256: Cow<'a, str>,
}

#[derive(Deserialize)]
struct RawBound<'a> {
    #[serde(borrow, default)]
    since: Option<Cow<'a, str>>,
}

#[derive(Deserialize)]
struct RawVariation<'a> {
    #[serde(borrow, default)]
    dependencies: Option<Vec<Cow<'a, str>>>,
}

/// `"zlib"`, or `{"flex": "build"}`, or `{"perl": ["build", "test"]}`.
struct RawSystemDependency<'a> {
    name: Cow<'a, str>,
    at_runtime: bool,
}

impl RawFormula<'_> {
    fn check(self, interner: &mut Interner) -> Result<Option<Read>, Box<dyn std::error::Error>> {
        let Some(stable) = self.bottle.and_then(|bottle| bottle.stable) else { return Ok(None) };
        if stable.files.is_empty() {
            return Ok(None);
        }
        let name = interner.name(self.full_name.as_ref().unwrap_or(&self.name))?;
        let root = interner.root(&stable.root_url)?;
        let version = self
            .versions
            .and_then(|versions| versions.stable)
            .ok_or("it has bottles but no stable version")?;
        let (revision, rebuild) = (self.revision.unwrap_or(0), stable.rebuild.unwrap_or(0));
        let image_tag = ImageTag::new(&version, revision, rebuild)?;
        let pkg_version = ImageTag::new(&version, revision, 0)?;

        let mut bottles = Vec::with_capacity(stable.files.len());
        for (tag, file) in stable.files {
            bottles.push((tag.parse::<BottleTag>()?, file.sha256.parse()?));
        }
        let mut variations = Vec::new();
        for (tag, variation) in self.variations.unwrap_or_default() {
            if let Some(names) = variation.dependencies {
                variations.push((tag.parse::<BottleTag>()?, interner.names(&names)?));
            }
        }
        let bounds = self.uses_from_macos_bounds.unwrap_or_default();
        let mut uses_from_macos = Vec::new();
        for (position, dependency) in self.uses_from_macos.unwrap_or_default().into_iter().enumerate() {
            if dependency.at_runtime {
                // A release that isn't known is newer than all that are: every
                // known macOS lacks the thing, and needs the formula.
                let since = bounds.get(position).and_then(|bound| bound.since.as_deref()).map(str::parse);
                let since = since.map(|release| release.unwrap_or(crate::bottle::MacRelease::GoldenGate));
                uses_from_macos.push(SystemDependency { name: interner.name(&dependency.name)?, since });
            }
        }
        let aliases = self.aliases.into_iter().chain(self.oldnames).flatten();
        // An alias that isn't a valid name can't be asked for either.
        let aliases = aliases.filter_map(|alias| alias.parse().ok()).collect();

        Ok(Some(Read {
            formula: Formula {
                image: root.image(&name),
                origin: root.origin().clone(),
                image_tag,
                pkg_version: pkg_version.as_str().into(),
                rebuild,
                files: root.is_files().then_some(root),
                is_pinned: false,
                bottles,
                dependencies: interner.names(self.dependencies.as_deref().unwrap_or_default())?,
                variations,
                uses_from_macos,
                name,
            },
            aliases,
        }))
    }
}

impl Interner {
    fn name(&mut self, text: &str) -> Result<FormulaName, crate::bottle::InvalidName> {
        let name: FormulaName = text.parse()?;
        if let Some(known) = self.names.get(&name) {
            return Ok(known.clone());
        }
        self.names.insert(name.clone());
        Ok(name)
    }

    fn names(&mut self, texts: &[Cow<'_, str>]) -> Result<Vec<FormulaName>, crate::bottle::InvalidName> {
        texts.iter().map(|text| self.name(text)).collect()
    }

    fn root(&mut self, text: &str) -> Result<RootUrl, crate::bottle::InvalidName> {
        if let Some(known) = self.roots.get(text) {
            return Ok(known.clone());
        }
        let root: RootUrl = text.parse()?;
        self.roots.insert(text.to_owned(), root.clone());
        Ok(root)
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for RawSystemDependency<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;

        impl<'de> Visitor<'de> for Either {
            type Value = RawSystemDependency<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a formula name, or one with its contexts")
            }

            fn visit_borrowed_str<E>(self, name: &'de str) -> Result<Self::Value, E> {
                Ok(RawSystemDependency { name: name.into(), at_runtime: true })
            }

            fn visit_str<E>(self, name: &str) -> Result<Self::Value, E> {
                Ok(RawSystemDependency { name: name.to_owned().into(), at_runtime: true })
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let Some((name, contexts)) = map.next_entry::<Cow<'de, str>, Contexts<'de>>()? else {
                    return Err(serde::de::Error::custom("an empty entry in uses_from_macos"));
                };
                while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                Ok(RawSystemDependency { name, at_runtime: contexts.at_runtime() })
            }
        }

        deserializer.deserialize_any(Either)
    }
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Contexts<'a> {
    One(#[serde(borrow)] Cow<'a, str>),
    Many(#[serde(borrow)] Vec<Cow<'a, str>>),
}

impl Contexts<'_> {
    fn at_runtime(&self) -> bool {
        let only_for_building = |context: &str| matches!(context, "build" | "test");
        match self {
            Self::One(context) => !only_for_building(context),
            Self::Many(contexts) => {
                contexts.is_empty() || !contexts.iter().all(|context| only_for_building(context))
            }
        }
    }
}
