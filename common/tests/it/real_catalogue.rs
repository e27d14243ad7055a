//! A sample of a real catalogue, as brew itself writes it.

use std::collections::BTreeMap;

use common::catalogue::{Catalogue, Reader};
use common::selection::Selection;

/// Formulae of the brewsci/bio tap: every shape that occurs there.
const SAMPLE: &[u8] = include_bytes!("../fixtures/brewsci-bio.sample.json");

fn sample() -> Catalogue {
    let mut reader = Reader::new();
    reader.push(SAMPLE).unwrap();
    reader.finish().unwrap()
}

#[test]
fn a_formula_of_a_real_tap_finds_what_it_needs_by_a_short_name() {
    let selection: Selection = "formulae = ['brewsci/bio/oases']\ntags = ['x86_64_linux']".parse().unwrap();
    let selected = selection.apply(&sample());
    // The sample has nothing of homebrew/core.
    assert!(selected.missing.iter().all(|missing| missing.formula.as_str() == "zlib"), "{selected:?}");
    let added: Vec<_> = selected.added.iter().map(|added| added.formula.as_str()).collect();
    assert_eq!(added, ["brewsci/bio/velvet"]);
}

#[test]
fn a_real_catalogue_parses_whole() {
    let catalogue = sample();
    let mut tags: BTreeMap<String, usize> = BTreeMap::new();
    for formula in catalogue.formulae() {
        for (tag, _) in &formula.bottles {
            *tags.entry(tag.to_string()).or_default() += 1;
        }
    }
    let skipped = catalogue.skipped();
    assert!(skipped.is_empty(), "{skipped:?}");
    let counted: Vec<_> = tags.iter().map(|(tag, count)| format!("{tag}:{count}")).collect();
    assert_eq!(counted, EXPECTED);
    let name = "brewsci/bio/meme@4.11.2".parse().unwrap();
    let formula = &catalogue.formulae()[catalogue.position(&name).unwrap()];
    assert_eq!(formula.image.as_str(), "v2/brewsci/bio/meme/4.11.2");
    assert_eq!(catalogue.unbottled(), 2);
}

const EXPECTED: &[&str] = &[
    "arm64_sequoia:8",
    "arm64_sonoma:9",
    "arm64_tahoe:5",
    "big_sur:1",
    "catalina:1",
    "ventura:3",
    "x86_64_linux:15",
    "x86_64_mojave:1",
    "x86_64_sierra:5",
];
