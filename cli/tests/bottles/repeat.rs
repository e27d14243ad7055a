//! What the mirror has is not asked for again.

use serde_json::json;
use testbed::{FormulaSpec, Spec};

use crate::harness::{Mirror, list, number, text};

#[test]
fn a_second_sync_finds_nothing_to_do() {
    let mirror = Mirror::of(Spec::demo(1));
    let first = mirror.sync(0, &[]);
    assert_eq!(number(&first, "/plan/small/bottles"), mirror.distinct_keys() as u64);
    mirror.check_equals_upstream();
    mirror.check_no_leftovers();

    mirror.upstream.log().clear();
    let second = mirror.sync(0, &[]);
    assert_eq!(second["plan"]["unchanged"], json!(true));
    for lane in ["small", "large"] {
        for what in ["fetched", "copied", "already_held"] {
            assert_eq!(number(&second, &format!("/{lane}/{what}/bottles")), 0);
        }
    }
    let asked: Vec<_> = mirror.upstream.log().entries();
    assert_eq!(number(&second, "/requests"), asked.len() as u64);
    assert_eq!((asked[0].path.as_str(), asked[0].status), ("/api/formula.json", 304));
    // The signed files too are asked for conditionally; some platforms have none.
    assert!(asked.iter().all(|entry| entry.path.starts_with("/api/") && entry.status != 200), "{asked:?}");
    mirror.check_equals_upstream();
}

#[test]
fn a_second_sync_with_dead_letters_finds_nothing_to_do_and_says_that_they_are_there() {
    let mirror = Mirror::of(Spec::demo(1));
    mirror.upstream.plant(&Spec::demo_planted());
    mirror.sync(3, &[]);
    mirror.upstream.log().clear();
    let second = mirror.sync(3, &[]);
    assert_eq!(number(&second, "/plan/small/bottles") + number(&second, "/plan/large/bottles"), 0);
    assert_eq!(number(&second, "/dead_letters"), 2);
    assert_eq!((mirror.blob_requests(), mirror.index_requests()), (0, 0));
}

#[test]
fn a_catalogue_that_only_looks_new_makes_no_work() {
    let mirror = Mirror::of(Spec::demo(1));
    mirror.sync(0, &[]);
    // A formula without bottles.
    let mut spec = Spec::demo(1);
    spec.formulae.push(FormulaSpec::new("source-only", "1.0"));
    mirror.upstream.replace(spec);
    mirror.upstream.log().clear();
    let again = mirror.sync(0, &[]);
    assert_eq!(number(&again, "/plan/held"), mirror.distinct_keys() as u64);
    assert_eq!((mirror.blob_requests(), mirror.index_requests()), (0, 0));
}

#[test]
fn only_what_is_new_is_fetched() {
    let mut spec = Spec::demo(1);
    let mirror = Mirror::of(spec.clone());
    mirror.sync(0, &[]);
    let before = mirror.upstream.expected();

    // A platform appended under the same tag of the image, and a new version.
    let bison = spec.formula_mut("bison").unwrap();
    *bison = bison.clone().with_bottle("arm64_tahoe", 5_000);
    let tree = spec.formula_mut("tree").unwrap();
    "2.3.0".clone_into(&mut tree.version);
    tree.bottles.truncate(1);
    tree.bottles[0].content ^= 1;
    mirror.upstream.replace(spec);
    mirror.upstream.log().clear();
    mirror.sync(0, &[]);

    assert_eq!((mirror.fetches(), mirror.index_requests()), (2, 2));
    // What upstream dropped is kept: a client may still need it.
    let old = |bottle: &testbed::ExpectedBottle| bottle.formula == "tree";
    assert!(before.iter().filter(|bottle| old(bottle)).all(|bottle| mirror.path(&bottle.key).is_file()));
    let bison = mirror.path("v2/homebrew/core/bison/manifests/3.8.2");
    assert_eq!(std::fs::read(bison).unwrap(), mirror.upstream.index_bytes("bison"));
    let status = mirror.json(&["status"]);
    assert_eq!(number(&status, "/held/bottles"), 2 + mirror_keys(&before));
}

fn mirror_keys(bottles: &[testbed::ExpectedBottle]) -> u64 {
    bottles.iter().map(|bottle| &bottle.key).collect::<std::collections::BTreeSet<_>>().len() as u64
}

#[test]
fn a_bottle_of_two_images_is_fetched_once_and_copied() {
    let mirror = Mirror::of(Spec::demo(1));
    let linux = |formula| ["--no-dependencies", "--tag", "x86_64_linux", "--formula", formula];
    mirror.sync(0, &linux("libx+one"));
    let report = mirror.sync(0, &linux("libx+two"));
    assert_eq!(number(&report, "/small/copied/bottles"), 1);
    assert_eq!(mirror.fetches(), 1);
    let keys: Vec<_> = mirror.upstream.expected();
    let both = keys.iter().filter(|one| one.formula.starts_with("libx+") && one.tag == "x86_64_linux");
    assert!(both.clone().count() == 2 && both.into_iter().all(|bottle| mirror.path(&bottle.key).is_file()));
}

#[test]
fn status_names_the_run_that_was_last() {
    let mirror = Mirror::of(Spec::uniform(1, 1, 1_000, &["x86_64_linux"]));
    // Within one second, so that the names of runs can't all follow from the time.
    for _ in 0..8 {
        let report = mirror.sync(0, &[]);
        let status = mirror.json(&["status"]);
        assert_eq!(text(&status, "/last_run/id"), text(&report, "/plan/run"));
    }
    assert!(list(&mirror.json(&["status"]), "/lanes").len() == 2);
}
