//! A plan is a dry run: it says what a sync would do, and changes nothing.

use std::fs;
use std::time::Duration;

use serde_json::{Value, json};
use testbed::{Fault, Spec, Times};

use crate::harness::{Mirror, Running, list, number, text};
use crate::tree::picture;

const THRESHOLD: [&str; 2] = ["--size-threshold", "200kB"];

fn plan(mirror: &Mirror, args: &[&str]) -> Value {
    let mut all = vec!["plan", "--json"];
    all.extend_from_slice(&THRESHOLD);
    all.extend_from_slice(args);
    mirror.run(&all).expect(0).json()
}

#[test]
fn a_plan_makes_nothing() {
    let mirror = Mirror::of(Spec::demo(1));
    let nothing = |dir: &std::path::Path| {
        plan(&mirror, &[]);
        plan(&mirror, &["--no-sizes"]);
        for made in [mirror.temporary(), mirror.here()] {
            assert!(picture(&made).is_empty(), "{:?}", picture(&made));
        }
        dir.exists()
    };
    assert!(!nothing(&mirror.dir()));
    fs::create_dir(mirror.dir()).unwrap();
    assert!(nothing(&mirror.dir()));
    assert!(picture(&mirror.dir()).is_empty());
    // Someone else's folder, too.
    fs::write(mirror.path("theirs"), "theirs").unwrap();
    let before = picture(&mirror.dir());
    nothing(&mirror.dir());
    assert_eq!(picture(&mirror.dir()), before);
    // Without a folder there is nothing that it could change.
    let command = mirror.command(&["plan", "--json"]);
    let report = Running::start(command).wait().expect(0).json();
    assert_eq!(number(&report, "/small/bottles"), mirror.distinct_keys() as u64);
    assert_eq!(mirror.blob_requests(), 0);
}

#[test]
fn a_plan_changes_nothing_of_a_mirror() {
    let mirror = Mirror::of(Spec::demo(1));
    mirror.sync(0, &["--formula", "wget"]);
    let before = picture(&mirror.dir());
    let report = plan(&mirror, &[]);
    assert_eq!(picture(&mirror.dir()), before);
    let held = number(&report, "/held");
    assert!(held > 0);
    let planned = number(&report, "/small/bottles") + number(&report, "/large/bottles");
    assert_eq!(held + planned, mirror.distinct_keys() as u64);
}

#[test]
fn a_plan_of_a_whole_mirror_says_so() {
    let mirror = Mirror::of(Spec::demo(1));
    mirror.sync(0, &[]);
    let said = mirror.run(&["plan"]).expect(0).stdout;
    assert!(said.contains("40 formulae with 212 bottles"), "{said}");
    assert!(said.contains("211 held, 0 queued"), "{said}");
}

#[test]
fn a_plan_that_is_told_to_stop_leaves_nothing() {
    let mirror = Mirror::of(Spec::demo(1));
    mirror.upstream.faults().set("api:*", Fault::Delay(Duration::from_secs(30)), Times::Always);
    let mut running = mirror.start(&["plan"]);
    running.until("the catalogue was asked for", || mirror.upstream.log().count("api:*") > 0);
    running.terminate();
    running.until_ended();
    assert!(!mirror.dir().exists());
    assert!(picture(&mirror.temporary()).is_empty(), "{:?}", picture(&mirror.temporary()));
}

#[test]
fn a_plan_says_what_a_sync_then_fetches() {
    let mirror = Mirror::of(Spec::demo(1));
    for args in [["--formula", "wget"], ["--formula", "*"]] {
        let planned = plan(&mirror, &args);
        let mut all = THRESHOLD.to_vec();
        all.extend_from_slice(&args);
        let report = mirror.sync(0, &all);
        for lane in ["small", "large"] {
            for what in ["bottles", "bytes"] {
                let done = |how: &str| number(&report, &format!("/{lane}/{how}/{what}"));
                let planned = number(&planned, &format!("/{lane}/{what}"));
                assert!(planned > 0, "{lane} {what} for {args:?}");
                assert_eq!(planned, done("fetched") + done("copied"), "{lane} {what} for {args:?}");
            }
        }
    }
    mirror.check_equals_upstream();
    // What two images share is copied, if the first of them is there by then.
    assert!((mirror.distinct_digests()..=mirror.distinct_keys()).contains(&mirror.fetches()));
    let after = plan(&mirror, &[]);
    assert_eq!((number(&after, "/small/bottles"), number(&after, "/large/bottles")), (0, 0));
}

#[test]
fn a_plan_without_sizes_reads_no_image_index() {
    let mirror = Mirror::of(Spec::demo(1));
    let report = plan(&mirror, &["--no-sizes"]);
    assert_eq!(number(&report, "/unsized_bottles"), mirror.distinct_keys() as u64);
    assert_eq!(mirror.index_requests() + mirror.blob_requests(), 0);
}

#[test]
fn a_plan_names_what_the_closure_added_and_why() {
    let mirror = Mirror::of(Spec::demo(1));
    let report = plan(&mirror, &["--formula", "jq", "--formula", "openssl@3", "--tag", "arm64_tahoe"]);
    assert_eq!(
        report["added"],
        json!([
            {"formula": "ca-certificates", "because": "openssl@3", "clients": ["arm64_tahoe"]},
            {"formula": "oniguruma", "because": "jq", "clients": ["arm64_tahoe"]},
        ])
    );
    let people = mirror.run(&["plan", "--formula", "jq", "--tag", "arm64_tahoe"]).expect(0).stdout;
    assert!(people.contains("oniguruma (for jq)"), "{people}");

    let report = plan(&mirror, &["--formula", "jq", "--tag", "arm64_tahoe", "--no-dependencies"]);
    assert!(list(&report, "/added").is_empty());
    let report = plan(&mirror, &["--formula", "jq", "--formula", "nonesuch*"]);
    assert_eq!(report["unmatched"], json!(["nonesuch*"]));
    let people = mirror.run(&["plan", "--formula", "jq", "--tag", "x86_64_linx"]).expect(0).stdout;
    assert!(people.contains("match nothing") && people.contains("tags x86_64_linx"), "{people}");
}

#[test]
fn a_plan_names_what_can_not_be_had() {
    let mut spec = Spec::demo(1);
    let jq = spec.formula_mut("jq").unwrap();
    jq.dependencies.push("from-another-tap".to_owned());
    spec.raw_elements.push(json!({"name": "broken", "bottle": {"stable": {"files": 1}}}));
    let mirror = Mirror::of(spec);
    let report = plan(&mirror, &["--formula", "jq", "--tag", "x86_64_linux"]);
    assert_eq!(text(&report, "/missing/0/formula"), "from-another-tap");
    assert_eq!(text(&report, "/missing/0/wanted_by"), "jq");
    assert_eq!(text(&report, "/missing/0/why"), "not-in-catalogue");
    assert_eq!(text(&report, "/skipped/0/name"), "broken");
    mirror.sync(0, &[]);
    mirror.check_equals_upstream();
}
