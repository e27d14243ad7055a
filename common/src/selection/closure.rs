//! Applies a selection to a catalogue: formulae, their dependencies, their bottles.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use serde::{Deserialize, Serialize};

use crate::bottle::{BottleTag, Digest, FormulaName};
use crate::catalogue::{Catalogue, Formula};

use super::Selection;

/// What of a catalogue is wanted, and how it came to be.
#[derive(Debug, Default)]
pub struct Selected {
    /// The wanted formulae, in the catalogue's order.
    pub formulae: Vec<SelectedFormula>,
    /// The clients' platforms: those that the selection names, or all that occur.
    pub clients: Vec<BottleTag>,
    /// What the dependency closure added, one reason each, by name.
    pub added: Vec<Added>,
    /// What is wanted and can't be had: installing `wanted_by` will fail.
    pub missing: Vec<Missing>,
    /// What the selection names and the catalogue doesn't have: patterns of `formulae`,
    /// tags, and bottles of portable Ruby.
    pub unmatched: Vec<String>,
}

/// One formula and those of its bottles that are wanted.
#[derive(Debug)]
pub struct SelectedFormula {
    /// Its position in the catalogue.
    pub position: usize,
    /// Its bottles, one a digest.
    pub bottles: Vec<SelectedBottle>,
}

/// One wanted bottle.
#[derive(Debug, PartialEq, Eq)]
pub struct SelectedBottle {
    /// Its digest.
    pub digest: Digest,
    /// The bottle tags under which the catalogue lists this digest.
    pub tags: Vec<BottleTag>,
    /// The clients that take it, of those in [`Selected::clients`].
    pub clients: Vec<BottleTag>,
}

/// A formula that is wanted because another one needs it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Added {
    /// The dependency.
    pub formula: FormulaName,
    /// A formula that depends on it.
    pub because: FormulaName,
    /// The clients for which it was added.
    pub clients: Vec<BottleTag>,
}

/// A formula that is wanted and that the mirror won't have.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Missing {
    /// The formula.
    pub formula: FormulaName,
    /// The formula that depends on it.
    pub wanted_by: FormulaName,
    /// Why it can't be had.
    pub why: WhyMissing,
    /// The clients for which it is missing.
    pub clients: Vec<BottleTag>,
}

/// Why a dependency can't be had.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WhyMissing {
    /// The catalogue doesn't list it (it may be in another tap).
    NotInCatalogue,
    /// The selection's `exclude` names it.
    Excluded,
    /// It has no bottle that this client could use.
    NoBottle,
}

/// By a formula's position and a bottle's digest, the clients that take it.
pub(super) type Wanted = BTreeMap<usize, BTreeMap<Digest, BTreeSet<BottleTag>>>;

impl Selection {
    /// The bottles of `catalogue` that this selection asks for.
    pub fn apply(&self, catalogue: &Catalogue) -> Selected {
        let is_named = |formula: &Formula| !formula.is_pinned && self.names(&formula.name);
        let named: Vec<usize> = (0..catalogue.formulae().len())
            .filter(|position| is_named(&catalogue.formulae()[*position]))
            .collect();
        let mut selected = Selected { unmatched: self.unmatched(catalogue), ..Selected::default() };

        // With no platform named, everything that a named formula has is kept,
        // and the closure is followed for every platform that occurs.
        selected.clients = self.clients(catalogue);
        let mut wanted = Wanted::new();
        if self.text.tags.is_none() {
            for position in &named {
                for (_, digest) in &catalogue.formulae()[*position].bottles {
                    wanted.entry(*position).or_default().entry(*digest).or_default();
                }
            }
        }

        let mut notes = Notes::default();
        // Where all is kept there is nothing that a closure could add.
        let is_all = self.text.tags.is_none() && self.text.formulae.is_none() && self.text.exclude.is_empty();
        for client in selected.clients.iter().filter(|_| !is_all) {
            for (position, digest) in self.closure(catalogue, &named, client, &mut notes) {
                wanted.entry(position).or_default().entry(digest).or_default().insert(client.clone());
            }
        }
        // A client takes what suits it best, whatever it was wanted for.
        for (position, digests) in &mut wanted {
            for client in &selected.clients {
                let taken = bottle_for(&catalogue.formulae()[*position], client);
                if let Some(clients) = taken.and_then(|digest| digests.get_mut(&digest)) {
                    clients.insert(client.clone());
                }
            }
        }
        self.add_portable_ruby(catalogue, &selected.clients, &mut wanted, &mut selected.unmatched);

        selected.formulae = wanted
            .into_iter()
            .map(|(position, digests)| SelectedFormula {
                position,
                bottles: digests
                    .into_iter()
                    .map(|(digest, clients)| SelectedBottle {
                        digest,
                        tags: tags_of(&catalogue.formulae()[position], digest),
                        clients: clients.into_iter().collect(),
                    })
                    .collect(),
            })
            .collect();
        selected.added = notes
            .added
            .into_iter()
            .map(|(position, (because, clients))| Added {
                formula: catalogue.formulae()[position].name.clone(),
                because,
                clients,
            })
            .collect();
        selected.added.sort();
        selected.missing = notes
            .missing
            .into_iter()
            .map(|((formula, wanted_by, why), clients)| Missing { formula, wanted_by, why, clients })
            .collect();
        selected
    }

    /// The clients' platforms: those that the selection names, or all that occur.
    pub fn clients(&self, catalogue: &Catalogue) -> Vec<BottleTag> {
        self.text.tags.clone().unwrap_or_else(|| platforms(catalogue))
    }

    /// What one client needs: the bottle of each named formula and, breadth
    /// first, of each dependency.
    fn closure(
        &self,
        catalogue: &Catalogue,
        named: &[usize],
        client: &BottleTag,
        notes: &mut Notes,
    ) -> Vec<(usize, Digest)> {
        let formulae = catalogue.formulae();
        let mut reached: Vec<bool> = vec![false; formulae.len()];
        let mut queue: VecDeque<usize> = VecDeque::new();
        let mut bottles = Vec::new();

        for position in named {
            reached[*position] = true;
            queue.push_back(*position);
        }
        while let Some(position) = queue.pop_front() {
            let formula = &formulae[position];
            // A named formula without a bottle for this client can't be
            // installed there, so its dependencies aren't wanted there either.
            let Some(digest) = bottle_for(formula, client) else { continue };
            bottles.push((position, digest));
            if !self.text.dependencies {
                continue;
            }
            for name in formula.dependencies_on(client) {
                let Some(dependency) = catalogue.dependency(name, &formula.name) else {
                    notes.miss(name, &formula.name, WhyMissing::NotInCatalogue, client);
                    continue;
                };
                let found = &formulae[dependency];
                if self.denies(&found.name) {
                    notes.miss(&found.name, &formula.name, WhyMissing::Excluded, client);
                    continue;
                }
                if bottle_for(found, client).is_none() {
                    // With no platform named, old ones occur for which much was never bottled.
                    if self.text.tags.is_none() {
                        continue;
                    }
                    notes.miss(&found.name, &formula.name, WhyMissing::NoBottle, client);
                    continue;
                }
                if !std::mem::replace(&mut reached[dependency], true) {
                    notes.add(dependency, &formula.name, client);
                    queue.push_back(dependency);
                }
            }
        }
        bottles
    }
}

/// What the closure has to say for itself.
#[derive(Default)]
struct Notes {
    added: BTreeMap<usize, (FormulaName, Vec<BottleTag>)>,
    missing: BTreeMap<(FormulaName, FormulaName, WhyMissing), Vec<BottleTag>>,
}

impl Notes {
    fn add(&mut self, position: usize, because: &FormulaName, client: &BottleTag) {
        let (_, clients) = self.added.entry(position).or_insert_with(|| (because.clone(), Vec::new()));
        clients.push(client.clone());
    }

    fn miss(&mut self, formula: &FormulaName, wanted_by: &FormulaName, why: WhyMissing, client: &BottleTag) {
        self.missing.entry((formula.clone(), wanted_by.clone(), why)).or_default().push(client.clone());
    }
}

fn bottle_for(formula: &Formula, client: &BottleTag) -> Option<Digest> {
    let chosen = client.choose(formula.bottles.iter().map(|(tag, _)| tag))?;
    formula.bottles.iter().find(|(tag, _)| tag == chosen).map(|(_, digest)| *digest)
}

fn tags_of(formula: &Formula, digest: Digest) -> Vec<BottleTag> {
    formula.bottles.iter().filter(|(_, other)| *other == digest).map(|(tag, _)| tag.clone()).collect()
}

/// Every client platform that the catalogue knows of.
pub(super) fn platforms(catalogue: &Catalogue) -> Vec<BottleTag> {
    let formulae = catalogue.formulae().iter().filter(|formula| !formula.is_pinned);
    let tags = formulae.flat_map(|formula| formula.bottles.iter().map(|(tag, _)| tag));
    tags.filter(|tag| **tag != BottleTag::All).collect::<BTreeSet<_>>().into_iter().cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalogue::Reader;

    /// `(name, [(tag, content)], dependencies, extra JSON)`.
    type Sketch<'a> = (&'a str, &'a [(&'a str, &'a str)], &'a [&'a str], &'a str);

    fn catalogue(sketches: &[Sketch<'_>]) -> Catalogue {
        let mut elements = Vec::new();
        for (name, bottles, dependencies, extra) in sketches {
            let files: serde_json::Map<_, _> = bottles
                .iter()
                .map(|(tag, content)| {
                    (
                        (*tag).to_owned(),
                        serde_json::json!({"sha256": Digest::of(content.as_bytes()).to_string()}),
                    )
                })
                .collect();
            let mut element = serde_json::json!({
                "name": name, "versions": {"stable": "1"}, "dependencies": dependencies,
                "bottle": {"stable": {"root_url": "https://ghcr.io/v2/homebrew/core", "files": files}},
            });
            if !extra.is_empty() {
                let extra: serde_json::Map<String, serde_json::Value> = serde_json::from_str(extra).unwrap();
                element.as_object_mut().unwrap().extend(extra);
            }
            elements.push(element);
        }
        let mut reader = Reader::new();
        reader.push(serde_json::to_string(&elements).unwrap().as_bytes()).unwrap();
        reader.finish().unwrap()
    }

    /// `name:content` of every selected bottle.
    fn bottles(selection: &str, sketches: &[Sketch<'_>]) -> String {
        let catalogue = catalogue(sketches);
        let selected = selection.parse::<Selection>().unwrap().apply(&catalogue);
        let content = |digest: Digest| {
            sketches
                .iter()
                .flat_map(|s| s.1)
                .find(|(_, content)| Digest::of(content.as_bytes()) == digest)
                .unwrap()
                .1
        };
        let mut found: Vec<_> = selected
            .formulae
            .iter()
            .flat_map(|formula| {
                let name = catalogue.formulae()[formula.position].name.as_str();
                formula.bottles.iter().map(move |bottle| format!("{name}:{}", content(bottle.digest)))
            })
            .collect();
        found.sort();
        found.join(" ")
    }

    const APPS: &[Sketch<'_>] = &[
        (
            "wget",
            &[("arm64_tahoe", "w-mac"), ("x86_64_linux", "w-lin")],
            &["openssl@3"],
            r#"{"uses_from_macos":["zlib"]}"#,
        ),
        (
            "openssl@3",
            &[("arm64_sequoia", "o-seq"), ("arm64_sonoma", "o-son"), ("x86_64_linux", "o-lin")],
            &["ca"],
            "",
        ),
        ("ca", &[("all", "ca")], &[], ""),
        ("zlib", &[("arm64_tahoe", "z-mac"), ("x86_64_linux", "z-lin")], &[], ""),
        ("lonely", &[("sonoma", "l-intel")], &[], ""),
    ];

    #[test]
    fn the_closure_follows_each_platform_and_its_fallbacks() {
        assert_eq!(
            bottles(
                r#"formulae=["wget"]
                       tags=["arm64_tahoe"]"#,
                APPS
            ),
            "ca:ca openssl@3:o-seq wget:w-mac"
        );
        assert_eq!(
            bottles(
                r#"formulae=["wget"]
                       tags=["x86_64_linux"]"#,
                APPS
            ),
            "ca:ca openssl@3:o-lin wget:w-lin zlib:z-lin"
        );
        assert_eq!(
            bottles(
                r#"formulae=["wget"]
                              tags=["arm64_tahoe"]
                              dependencies=false"#,
                APPS
            ),
            "wget:w-mac"
        );
    }

    #[test]
    fn with_no_platform_named_every_bottle_of_a_named_formula_is_kept() {
        assert_eq!(
            bottles(r#"formulae=["openssl@*"]"#, APPS),
            "ca:ca openssl@3:o-lin openssl@3:o-seq openssl@3:o-son"
        );
        let all = bottles("", APPS);
        assert_eq!(all.split(' ').count(), 9, "{all}");
    }

    #[test]
    fn the_closure_says_what_it_added_and_why() {
        let selection: Selection = "formulae=['wget']\ntags=['arm64_tahoe','x86_64_linux']".parse().unwrap();
        let selected = selection.apply(&catalogue(APPS));
        let added: Vec<_> =
            selected.added.iter().map(|a| format!("{}<-{}{:?}", a.formula, a.because, a.clients)).collect();
        assert_eq!(
            added,
            [
                "ca<-openssl@3[arm64_tahoe, x86_64_linux]",
                "openssl@3<-wget[arm64_tahoe, x86_64_linux]",
                "zlib<-wget[x86_64_linux]"
            ]
        );
    }

    #[test]
    fn what_is_denied_or_absent_is_said() {
        let selection: Selection =
            "formulae=['wget','nonesuch*']\nexclude=['ca']\ntags=['arm64_tahoe']".parse().unwrap();
        let mut sketches = APPS.to_vec();
        sketches[0].2 = &["openssl@3", "lonely", "gone"];
        let selected = selection.apply(&catalogue(&sketches));
        let missing: Vec<_> = selected
            .missing
            .iter()
            .map(|m| format!("{} for {}: {:?}", m.formula, m.wanted_by, m.why))
            .collect();
        assert_eq!(
            missing,
            ["ca for openssl@3: Excluded", "gone for wget: NotInCatalogue", "lonely for wget: NoBottle"]
        );
        assert_eq!(selected.unmatched, ["nonesuch*"]);
    }

    #[test]
    fn a_short_name_is_cores_and_else_one_of_the_same_tap() {
        let sketches: &[Sketch<'_>] = &[
            ("u/t/app", &[("all", "app")], &["lib", "zlib", "other"], ""),
            ("u/t/lib", &[("all", "lib")], &["u/t/deep"], ""),
            ("u/t/deep", &[("all", "deep")], &[], ""),
            ("u/t/zlib", &[("all", "tap-zlib")], &[], ""),
            ("zlib", &[("all", "zlib")], &[], ""),
            ("u/else/other", &[("all", "other")], &[], ""),
        ];
        let selection = "formulae=['u/t/app']\ntags=['x86_64_linux']";
        assert_eq!(bottles(selection, sketches), "u/t/app:app u/t/deep:deep u/t/lib:lib zlib:zlib");
        let selected = selection.parse::<Selection>().unwrap().apply(&catalogue(sketches));
        let missing: Vec<_> = selected.missing.iter().map(|one| one.formula.as_str()).collect();
        assert_eq!(missing, ["other"]);
    }

    #[test]
    fn a_tag_that_nobody_knows_is_said() {
        let unmatched = |selection: &str, sketches: &[Sketch<'_>]| {
            selection.parse::<Selection>().unwrap().apply(&catalogue(sketches)).unmatched
        };
        let typos = "tags=['x86_64_linx','arm64_tahoe','arm64_linux']\nkeep={tags=['snoma','ventura']}";
        assert_eq!(unmatched(typos, APPS), ["tags x86_64_linx", "tags arm64_linux", "keep.tags snoma"]);
        // One takes an older macOS's, one is newer than this program.
        let next: &[Sketch<'_>] = &[("a", &[("arm64_next", "a"), ("arm64_sequoia", "b")], &[], "")];
        let fine = "tags=['arm64_golden_gate','arm64_next']\nkeep={tags=['arm64_next']}";
        assert_eq!(unmatched(fine, next), Vec::<String>::new());
        let all: &[Sketch<'_>] = &[("a", &[("all", "a")], &[], "")];
        assert_eq!(unmatched("tags=['x86_64_linux']", all), Vec::<String>::new());
    }

    #[test]
    fn one_digest_under_two_tags_is_one_bottle() {
        let sketches: &[Sketch<'_>] =
            &[("same", &[("arm64_sonoma", "s"), ("sonoma", "s"), ("x86_64_linux", "t")], &[], "")];
        let catalogue = catalogue(sketches);
        let selected = Selection::new(super::super::SelectionFile::default()).unwrap().apply(&catalogue);
        assert_eq!(selected.formulae[0].bottles.len(), 2);
        let same = selected.formulae[0].bottles.iter().find(|b| b.digest == Digest::of(b"s")).unwrap();
        assert_eq!(same.tags.len(), 2);
    }

    #[test]
    fn dependencies_in_a_circle_end() {
        let sketches: &[Sketch<'_>] =
            &[("a", &[("all", "a")], &["b"], ""), ("b", &[("all", "b")], &["a"], "")];
        assert_eq!(bottles("formulae=['a']\ntags=['arm64_tahoe']", sketches), "a:a b:b");
    }

    #[test]
    fn a_selection_that_makes_no_sense_is_refused() {
        for text in [
            "formulae=[]",
            "tags=[]",
            "tags=['all']",
            "tags=['Tahoe!']",
            "formula=['x']",
            "formulae='x'",
            "formulae=['[']",
            "max_bottle_size='much'",
            "[[taps]]\nname='u/t'\ncatalogue='file:///srv/formula.json'",
            "[[taps]]\nname='u/t'\ncatalogue='s3://bucket/formula.json'",
            "[[taps]]\nname='homebrew/core'\ncatalogue='formula.json'",
            "[[taps]]\nname='u'\ncatalogue='formula.json'",
            "min_bottle_size='2GB'\nmax_bottle_size='1GB'",
            "= =",
        ] {
            assert!(text.parse::<Selection>().is_err(), "{text:?} was taken");
        }
    }

    #[test]
    fn size_limits_are_inclusive() {
        let selection: Selection = "min_bottle_size=10\nmax_bottle_size='1kB'".parse().unwrap();
        assert!([10, 1000].into_iter().all(|size| selection.takes_size(size)));
        assert!(![9, 1001].into_iter().any(|size| selection.takes_size(size)));
    }
}
