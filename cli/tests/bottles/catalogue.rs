//! A catalogue that can't be read costs nothing that the mirror has.

use testbed::{Fault, Spec, Times};

use crate::harness::{Mirror, Running, bare, number};

const CATALOGUE: &str = "api:/api/formula.json";

/// The demo's bottles, and one more formula.
fn newer() -> Spec {
    let mut spec = Spec::demo(1);
    spec.formulae.push(testbed::FormulaSpec::new("new", "1.0").with_bottle("x86_64_linux", 4_000));
    spec
}

#[test]
fn a_bad_catalogue_ends_the_sync_and_nothing_is_lost() {
    for fault in [Fault::Garbage, Fault::Status { code: 404, retry_after: None }] {
        let mirror = Mirror::of(Spec::demo(1));
        mirror.sync(0, &[]);
        let held = number(&mirror.json(&["status"]), "/held/bottles");
        mirror.upstream.replace(newer());
        mirror.upstream.faults().set(CATALOGUE, fault, Times::Always);
        mirror.upstream.log().clear();

        for verb in ["sync", "plan"] {
            let output = mirror.run(&[verb]).expect(1);
            let url = format!("{}/formula.json", mirror.upstream.api_url());
            assert!(output.stderr.contains(&url), "{output}");
        }
        assert_eq!(mirror.blob_requests() + mirror.index_requests(), 0);
        mirror.check_holds(|bottle| bottle.formula != "new");
        assert_eq!(number(&mirror.run(&["status", "--json"]).expect(0).json(), "/held/bottles"), held);

        mirror.upstream.faults().clear();
        mirror.sync(0, &[]);
        mirror.check_equals_upstream();
        assert_eq!(mirror.fetches(), 1);
    }
}

#[test]
fn a_first_sync_of_a_bad_catalogue_makes_a_mirror_that_the_next_one_fills() {
    let mirror = Mirror::of(Spec::demo(1));
    mirror.upstream.faults().set(CATALOGUE, Fault::Garbage, Times::First(1));
    mirror.run(&["sync"]).expect(1);
    mirror.run(&["sync"]).expect(0);
    mirror.check_equals_upstream();
}

#[test]
fn a_catalogue_that_is_cut_off_is_read_again() {
    let mirror = Mirror::of(Spec::demo(1));
    mirror.sync(0, &[]);
    mirror.upstream.replace(newer());
    mirror.upstream.faults().set(CATALOGUE, Fault::Truncate { after_bytes: 8_000 }, Times::Nth(1));
    mirror.upstream.faults().set(CATALOGUE, Fault::Short { bytes: 9_000 }, Times::Nth(1));
    mirror.sync(0, &[]);
    mirror.check_equals_upstream();
}

#[test]
fn an_empty_catalogue_takes_nothing_away() {
    let mirror = Mirror::of(Spec::demo(1));
    mirror.sync(0, &[]);
    mirror.upstream.replace(Spec { seed: 1, ..Spec::default() });
    mirror.run(&["sync"]);
    mirror.upstream.replace(Spec::demo(1));
    mirror.check_equals_upstream();
    mirror.upstream.log().clear();
    mirror.sync(0, &[]);
    mirror.check_equals_upstream();
    assert_eq!(mirror.blob_requests(), 0);
}

#[test]
fn a_catalogue_of_which_nothing_can_be_read_is_refused() {
    let mirror = Mirror::of(Spec::demo(1));
    mirror.sync(0, &[]);
    let raw_elements = vec![serde_json::json!({"name": "changed", "bottle": {"stable": {"files": 1}}})];
    mirror.upstream.replace(Spec { seed: 1, raw_elements, ..Spec::default() });
    let output = mirror.run(&["sync"]).expect(1);
    assert!(output.stderr.contains("changed"), "{output}");
    mirror.upstream.replace(Spec::demo(1));
    mirror.check_equals_upstream();
}

#[test]
fn a_catalogue_that_is_always_cut_off_ends_the_sync_and_nothing_is_lost() {
    let mirror = Mirror::of(Spec::demo(1));
    mirror.sync(0, &[]);
    mirror.upstream.replace(newer());
    mirror.upstream.faults().set(CATALOGUE, Fault::Truncate { after_bytes: 8_000 }, Times::Always);
    let output = mirror.run(&["sync"]).expect(1);
    assert!(output.stderr.contains("formula.json"), "{output}");
    mirror.check_holds(|bottle| bottle.formula != "new");
    mirror.upstream.faults().clear();
    mirror.sync(0, &[]);
    mirror.check_equals_upstream();
}

#[test]
fn an_upstream_that_cannot_be_reached_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = bare(&["sync", "--to", "mirror", "--api-url", "http://127.0.0.1:1/api"]);
    command.current_dir(folder.path());
    let output = Running::start(command).wait().expect(1);
    assert!(output.stderr.contains("http://127.0.0.1:1/api/formula.json"), "{output}");
}
