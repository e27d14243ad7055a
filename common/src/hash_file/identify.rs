//! Which bottle an entry is.

use std::collections::{BTreeMap, HashMap, HashSet};

use url::Url;

use crate::bottle::{BottleTag, Digest, FormulaName, ImagePath, ImageTag, ObjectKey, Origin};
use crate::catalogue::{Catalogue, Formula};
use crate::run::Count;

use super::contents::{Contents, Dated};
use super::file::HashEntry;
use super::name::EntryKey;
use super::report::{Skipped, Why};

/// One bottle, by all entries that name it with the same size.
#[derive(Debug)]
pub(super) struct Bottle {
    pub(super) digest: Digest,
    /// Bytes, as the entries say.
    pub(super) size: u64,
    pub(super) keys: Vec<EntryKey>,
    /// Where the mirror keeps it: at least one.
    pub(super) targets: Vec<Target>,
    /// Whether the catalogue lists its digest.
    pub(super) is_listed: bool,
    /// Objects that may be it, of whatever size, the newest first.
    pub(super) dated: Vec<Dated>,
}

/// One image's copy of a bottle.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) formula: FormulaName,
    pub(super) origin: Origin,
    pub(super) image: ImagePath,
    pub(super) image_tag: ImageTag,
    pub(super) tags: Vec<BottleTag>,
    /// Its file's URL where it is no blob of a registry.
    pub(super) file: Option<Url>,
}

impl Bottle {
    pub(super) fn key_of(&self, target: &Target) -> ObjectKey {
        ObjectKey::blob(&target.image, &self.digest)
    }

    /// The objects that have its size.
    pub(super) fn candidates(&self) -> impl Iterator<Item = &Dated> {
        self.dated.iter().filter(|dated| dated.size == self.size)
    }

    /// Objects of one of its names.
    fn may_be(&mut self, objects: Vec<Dated>) {
        for object in objects {
            if !self.dated.contains(&object) {
                self.dated.push(object);
            }
        }
    }

    /// Each of its entries, as skipped.
    pub(super) fn skipped(&self, why: Why, detail: &str) -> impl Iterator<Item = Skipped> {
        self.keys.iter().map(move |key| Skipped::new(key.as_str(), why, detail))
    }
}

/// The bottles that the entries are, and the entries that are none.
#[derive(Debug, Default)]
pub(super) struct Identified {
    pub(super) bottles: Vec<Bottle>,
    pub(super) skipped: Vec<Skipped>,
    /// Bottles that the catalogue doesn't list, and that were not asked for.
    pub(super) left_out: Count,
}

/// Which bottles the entries are.
///
/// A digest that the catalogue lists says all; whatever the entry's key. One that it
/// doesn't list is an old bottle's, and is known by its name.
pub(super) fn identify(
    entries: BTreeMap<EntryKey, HashEntry>,
    catalogue: &Catalogue,
    contents: &Contents,
    listed_only: bool,
) -> Identified {
    let mut alike: BTreeMap<(Digest, u64), Vec<EntryKey>> = BTreeMap::new();
    for (key, HashEntry { sha256, size }) in entries {
        alike.entry((sha256, size)).or_default().push(key);
    }
    let digests: HashSet<Digest> = alike.keys().map(|(digest, _)| *digest).collect();
    let known = Known::new(catalogue, &digests);
    let mut identified = Identified::default();
    for ((digest, size), keys) in alike {
        let bottle = match known.by_digest.get(&digest) {
            Some(listed) => listed.bottle(digest, size, keys, contents),
            None if listed_only => {
                identified.left_out.add(size);
                continue;
            }
            None => known.old(digest, size, keys, contents, &mut identified.skipped),
        };
        if !bottle.keys.is_empty() {
            identified.bottles.push(bottle);
        }
    }
    identified
}

impl Listed<'_> {
    /// A bottle that the catalogue lists. Its object has the name that an entry's key
    /// says, or the one that the catalogue does: a key may have the version otherwise.
    fn bottle(&self, digest: Digest, size: u64, keys: Vec<EntryKey>, contents: &Contents) -> Bottle {
        let mut dated: Vec<_> = keys.iter().map(|key| contents.dated(key.stem(), key.tag())).collect();
        for (formula, tag) in &self.names {
            let stem = format!("{}-{}", formula.name.short(), formula.pkg_version);
            dated.push(contents.dated(&stem, tag));
        }
        let targets = self.targets.clone();
        let mut bottle = Bottle { digest, size, keys, targets, is_listed: true, dated: Vec::new() };
        for objects in dated {
            bottle.may_be(objects);
        }
        bottle
    }
}

/// Adds a target, or its tags to that of the same image.
fn merge(targets: &mut Vec<Target>, new: Target) {
    match targets.iter_mut().find(|target| target.image == new.image) {
        Some(target) => {
            target.tags.extend(new.tags);
            target.tags.sort();
            target.tags.dedup();
        }
        None => targets.push(new),
    }
}

/// What the catalogue tells.
struct Known<'a> {
    by_digest: HashMap<Digest, Listed<'a>>,
    formulae: HashMap<&'a str, &'a Formula>,
    tags: HashSet<&'a BottleTag>,
}

/// What it tells of one digest.
#[derive(Default)]
struct Listed<'a> {
    targets: Vec<Target>,
    names: Vec<(&'a Formula, &'a BottleTag)>,
}

impl<'a> Known<'a> {
    fn new(catalogue: &'a Catalogue, digests: &HashSet<Digest>) -> Self {
        let mut known = Self { by_digest: HashMap::new(), formulae: HashMap::new(), tags: HashSet::new() };
        for formula in catalogue.formulae() {
            known.formulae.insert(formula.name.as_str(), formula);
            for (tag, digest) in &formula.bottles {
                known.tags.insert(tag);
                if digests.contains(digest) {
                    let file = formula.files.as_ref().and_then(|_| formula.url(tag, digest).parse().ok());
                    let target = Target { file, ..target(formula, formula.image_tag.clone(), tag) };
                    let listed = known.by_digest.entry(*digest).or_default();
                    merge(&mut listed.targets, target);
                    listed.names.push((formula, tag));
                }
            }
        }
        known
    }

    /// A bottle that it doesn't list, by those of its keys that name one.
    fn old(
        &self,
        digest: Digest,
        size: u64,
        keys: Vec<EntryKey>,
        contents: &Contents,
        skipped: &mut Vec<Skipped>,
    ) -> Bottle {
        let (targets, dated) = (Vec::new(), Vec::new());
        let mut bottle = Bottle { digest, size, keys: Vec::new(), targets, is_listed: false, dated };
        for key in keys {
            let dated = contents.dated(key.stem(), key.tag());
            match self.by_name(&key, dated.iter().find(|dated| dated.size == size)) {
                Ok(target) => merge(&mut bottle.targets, target),
                Err((why, detail)) => {
                    skipped.push(Skipped::new(key.as_str(), why, detail));
                    continue;
                }
            }
            bottle.may_be(dated);
            bottle.keys.push(key);
        }
        bottle
    }

    /// An old bottle: of the formula with the longest name that the key begins with.
    /// The name of a dated object tells revision and rebuild, which a key may not.
    fn by_name(&self, key: &EntryKey, dated: Option<&Dated>) -> Result<Target, (Why, String)> {
        let tag = key.tag();
        if matches!(tag, BottleTag::Other(_)) && !self.tags.contains(tag) {
            let detail = format!("the catalogue doesn't list its digest, and {tag} is no bottle tag");
            return Err((Why::UnknownTag, detail));
        }
        let Some((formula, version)) = self.formula(key.stem()) else {
            let detail = "the catalogue lists neither its digest nor its formula";
            return Err((Why::UnknownFormula, detail.to_owned()));
        };
        let by_file = dated.and_then(|dated| dated.file()?.image_tag(formula.name.as_str())?.parse().ok());
        let image_tag = match by_file {
            Some(image_tag) => image_tag,
            None => version.parse().map_err(|error| {
                (Why::UnknownVersion, format!("the catalogue doesn't list its digest, and {error}"))
            })?,
        };
        Ok(target(formula, image_tag, tag))
    }

    /// The formula and the version that a stem is of.
    fn formula(&self, stem: &'a str) -> Option<(&'a Formula, &'a str)> {
        let mut hyphens = stem.rmatch_indices('-').map(|(at, _)| at);
        let (at, formula) = hyphens.find_map(|at| Some((at, *self.formulae.get(&stem[..at])?)))?;
        let version = &stem[at + 1..];
        // `gcc-libs-1.0` where the catalogue has no gcc-libs any more is no `libs-1.0` of gcc.
        let is_version = version.starts_with(|c: char| c.is_ascii_digit()) || !version.contains('-');
        (is_version && !version.is_empty()).then_some((formula, version))
    }
}

fn target(formula: &Formula, image_tag: ImageTag, tag: &BottleTag) -> Target {
    Target {
        formula: formula.name.clone(),
        origin: formula.origin.clone(),
        image: formula.image.clone(),
        image_tag,
        tags: vec![tag.clone()],
        file: None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::catalogue::Reader;
    use crate::store::ObjectMeta;

    fn digest(of: &str) -> Digest {
        Digest::of(of.as_bytes())
    }

    fn catalogue() -> Catalogue {
        let formula = |name: &str, version: &str, revision: u32, rebuild: u32, files: &[(&str, &str)]| {
            let files: serde_json::Map<_, _> = files
                .iter()
                .map(|(tag, of)| ((*tag).to_owned(), json!({"sha256": digest(of).to_string()})))
                .collect();
            json!({"name": name, "versions": {"stable": version}, "revision": revision, "bottle": {"stable":
                {"rebuild": rebuild, "root_url": "https://ghcr.io/v2/homebrew/core", "files": files}}})
        };
        let text = json!([
            formula("openssl@3", "3.6.0", 1, 2, &[("arm64_tahoe", "o1"), ("arm64_next", "o2")]),
            formula("gcc", "15.1", 0, 0, &[("x86_64_linux", "g")]),
            formula("gtk", "1.0", 0, 0, &[("all", "shared"), ("tahoe", "shared")]),
            formula("gtk-doc", "1.0", 0, 0, &[("all", "shared")]),
        ]);
        let mut reader = Reader::new();
        reader.push(text.to_string().as_bytes()).unwrap();
        reader.finish().unwrap()
    }

    /// All have nine bytes.
    fn identified(entries: &[(&str, &str)], objects: &[&str]) -> (Vec<Bottle>, Vec<Skipped>) {
        let objects: Vec<_> = objects.iter().map(|key| (*key, 9)).collect();
        identified_among(entries, &objects)
    }

    fn identified_among(entries: &[(&str, &str)], objects: &[(&str, u64)]) -> (Vec<Bottle>, Vec<Skipped>) {
        let meta = |(key, size): &(&str, u64)| ObjectMeta {
            key: key.parse().unwrap(),
            size: *size,
            modified: jiff::Timestamp::UNIX_EPOCH,
            sha256: None,
        };
        let contents = Contents::new(objects.iter().map(meta).collect());
        let entries = entries
            .iter()
            .map(|(key, of)| (key.parse().unwrap(), HashEntry { sha256: digest(of), size: 9 }))
            .collect();
        let Identified { bottles, skipped, .. } = identify(entries, &catalogue(), &contents, false);
        (bottles, skipped)
    }

    fn targets(bottle: &Bottle) -> Vec<String> {
        let tags =
            |target: &Target| target.tags.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
        bottle
            .targets
            .iter()
            .map(|target| format!("{} {} {}", target.image, target.image_tag, tags(target)))
            .collect()
    }

    #[test]
    fn a_digest_that_the_catalogue_lists_says_all() {
        let (bottles, skipped) =
            identified(&[("whatever-9-tahoe", "shared"), ("openssl@3-3.6.0-arm64_next", "o2")], &[]);
        assert!(skipped.is_empty());
        let mut found: Vec<_> = bottles.iter().map(targets).collect();
        found.sort();
        assert_eq!(
            found,
            [
                vec![
                    "v2/homebrew/core/gtk 1.0 all,tahoe".to_owned(),
                    "v2/homebrew/core/gtk-doc 1.0 all".to_owned()
                ],
                vec!["v2/homebrew/core/openssl/3 3.6.0_1-2 arm64_next".to_owned()],
            ]
        );
    }

    #[test]
    fn an_old_bottle_is_known_by_the_longest_name() {
        for (key, expected) in [
            ("openssl@3-3.5.1_2-arm64_tahoe", "v2/homebrew/core/openssl/3 3.5.1_2 arm64_tahoe"),
            ("openssl@3-3.5.1-arm64_next", "v2/homebrew/core/openssl/3 3.5.1 arm64_next"),
            ("gtk-doc-0.9-all", "v2/homebrew/core/gtk-doc 0.9 all"),
            ("gtk-2026-01-02-all", "v2/homebrew/core/gtk 2026-01-02 all"),
            ("gcc-r12-sonoma", "v2/homebrew/core/gcc r12 sonoma"),
        ] {
            let (bottles, skipped) = identified(&[(key, "old")], &[]);
            assert!(skipped.is_empty(), "{skipped:?}");
            assert_eq!(targets(&bottles[0]), [expected]);
        }
        for (key, why) in [
            ("wget-1.0-all", Why::UnknownFormula),
            ("gcc-libs-1.0-all", Why::UnknownFormula),
            ("openssl-3.6.0-all", Why::UnknownFormula),
            ("gcc-1.0+git-all", Why::UnknownVersion),
            ("gcc-1.0-nowhere", Why::UnknownTag),
        ] {
            let (bottles, skipped) = identified(&[(key, "old")], &[]);
            assert!(bottles.is_empty(), "{bottles:?}");
            assert_eq!(
                skipped.iter().map(|one| (one.key.as_str(), one.why)).collect::<Vec<_>>(),
                [(key, why)]
            );
        }
    }

    #[test]
    fn entries_of_one_bottle_are_one_and_its_file_tells_the_rebuild() {
        let (bottles, _) = identified(
            &[
                ("gtk-0.9-all", "old"),
                ("gtk-0.9-tahoe", "old"),
                ("gtk-doc-0.9-all", "old"),
                ("wget-1-all", "old"),
            ],
            &["2026-01-01/gtk-0.9_1.all.bottle.3.tar.gz", "2026-01-01/gtk-0.9.tahoe.bottle.tar.gz"],
        );
        assert_eq!(bottles.len(), 1);
        assert_eq!(
            targets(&bottles[0]),
            ["v2/homebrew/core/gtk 0.9_1-3 all,tahoe", "v2/homebrew/core/gtk-doc 0.9 all"]
        );
        assert_eq!((bottles[0].keys.len(), bottles[0].dated.len()), (3, 2));
    }

    #[test]
    fn a_file_of_another_size_tells_nothing_of_a_rebuild() {
        let objects =
            [("2026-02-01/gtk-0.9.all.bottle.7.tar.gz", 8), ("2026-01-01/gtk-0.9.all.bottle.3.tar.gz", 9)];
        let (bottles, _) = identified_among(&[("gtk-0.9-all", "old")], &objects);
        assert_eq!(targets(&bottles[0]), ["v2/homebrew/core/gtk 0.9-3 all"]);
    }
}
