//! What needs somebody is said, in words and by exit code 3: by whoever changes the
//! mirror, and by whoever looks at it.

use std::fs;

use serde_json::{Value, json};
use testbed::{Fault, Spec, Times};

use crate::harness::{Mirror, list, number, write};
use crate::tree::picture;

fn formulae(count: usize) -> Spec {
    Spec::uniform(1, count, 1_000, &["x86_64_linux"])
}

/// That `sync`, `status` and `publish` exit with this, and what the first two say as JSON.
fn all_exit(mirror: &Mirror, code: i32) -> [Value; 2] {
    let sync = mirror.sync(code, &[]);
    mirror.run(&["publish"]).expect(code);
    [sync, mirror.run(&["status", "--json"]).expect(code).json()]
}

#[test]
fn a_rollback_that_holds_publishing_back_needs_attention() {
    let mirror = Mirror::of(formulae(2));
    mirror.sync(0, &[]);
    mirror.upstream.replace(formulae(3));
    let [sync, status] = all_exit(&mirror, 0);
    assert_eq!((&sync["held_since"], &status["publication"]["held_since"]), (&Value::Null, &Value::Null));

    mirror.run(&["publish", "--rollback"]).expect(3);
    let [sync, status] = all_exit(&mirror, 3);
    assert!(sync["held_since"].is_string(), "{sync:#}");
    assert_eq!(sync["held_since"], status["publication"]["held_since"]);
    for verb in ["sync", "status", "publish"] {
        let output = mirror.run(&[verb]).expect(3);
        assert!(output.stdout.contains("Held back") && output.stdout.contains("--resume"), "{output}");
    }
    mirror.run(&["publish", "--resume"]).expect(0);
    all_exit(&mirror, 0);
}

#[test]
fn a_client_that_waits_needs_attention_without_a_dead_letter_too() {
    let mirror = Mirror::of(formulae(3));
    mirror.sync(0, &[]);
    // With its bottle gone a flat name can't be given.
    let bottle = mirror.upstream.expected().remove(0);
    fs::remove_file(mirror.path(&bottle.key)).unwrap();
    let flat = write(&mirror.here(), "flat.toml", "layout = 'flat'");
    let sync = mirror.sync(3, &["--selection", &flat]);
    assert_eq!(number(&sync, "/dead_letters"), 0);
    assert_eq!(number(&sync, "/publication/waiting/0/unnamed"), 1);
    let status = mirror.run(&["status", "--json"]).expect(3).json();
    assert_eq!(number(&status, "/publication/waiting/0/unnamed"), 1);
    for output in
        [mirror.run(&["sync", "--selection", &flat]), mirror.run(&["status"]), mirror.run(&["publish"])]
    {
        assert!(output.stdout.contains("without their index or flat name"), "{output}");
        output.expect(3);
    }
}

#[test]
fn a_retirement_that_is_too_large_to_go_on_by_itself_needs_attention() {
    let mirror = Mirror::of(formulae(140));
    mirror.sync(0, &[]);
    // Two publications later no file names any more what upstream dropped.
    mirror.upstream.replace(formulae(10));
    mirror.sync(0, &[]);
    mirror.upstream.replace(formulae(11));
    let sync = mirror.sync(3, &[]);
    assert_eq!(sync["retirement"], json!({"too-many": {"bottles": 129, "held": 140}}));
    let status = mirror.run(&["status", "--json"]).expect(3).json();
    assert_eq!(status["retirement"], sync["retirement"]);
    for verb in ["sync", "status"] {
        let output = mirror.run(&[verb]).expect(3);
        assert!(output.stdout.contains("nothing is retired: upstream dropped 129 of the 140"), "{output}");
    }
    // It is none of publishing's.
    mirror.run(&["publish"]).expect(0);
    mirror.run(&["retire", "--at-most", "129"]).expect(0);
    let [sync, status] = all_exit(&mirror, 0);
    assert_eq!((&sync["retirement"], &status["retirement"]), (&Value::Null, &Value::Null));
}

#[test]
fn api_files_that_could_not_be_staged_are_left_undone() {
    let mirror = Mirror::of(formulae(2));
    mirror.upstream.faults().set("api:*/cask.jws.json", Fault::Garbage, Times::Always);
    let output = mirror.run(&["sync"]).expect(1);
    assert!(output.stdout.contains("API files were not staged"), "{output}");
    mirror.upstream.faults().clear();
    all_exit(&mirror, 0);
}

#[test]
fn publishing_despite_dead_bottles_is_refused_for_who_waits_for_nothing() {
    let mirror = Mirror::of(Spec::demo(1));
    mirror.upstream.plant(&Spec::demo_planted());
    mirror.sync(3, &[]);
    let before = picture(&mirror.dir());
    for tag in ["arm64_tahoe", "ventura"] {
        let output = mirror.run(&["publish", "--despite-dead", "--tag", tag]).expect(2);
        assert!(output.stderr.contains(&format!("{tag} waits for nothing")), "{output}");
    }
    assert_eq!(picture(&mirror.dir()), before);
    mirror.run(&["publish", "--despite-dead", "--tag", "x86_64_linux"]).expect(0);
}

#[test]
fn a_sync_in_part_fetches_and_tells_clients_nothing() {
    let mirror = Mirror::of(formulae(3));
    let (first, second) = (["--formula", "uniform-00001"], ["--formula", "uniform-00002"]);
    mirror.sync(0, &first);
    let told = picture(&mirror.path("api"));
    let sync = mirror.sync(0, &[&["--partial"][..], &second].concat());
    assert_eq!(number(&sync, "/small/fetched/bottles"), 1);
    assert_eq!(sync["another_selection"], json!(false));
    assert!(list(&sync, "/publication/published").is_empty());
    assert_eq!(picture(&mirror.path("api")), told);
    mirror.check_holds(|bottle| bottle.formula != "uniform-00003");
    // What the mirror is to hold is still the first.
    assert_eq!(mirror.sync(0, &first)["plan"]["unchanged"], json!(true));
}

#[test]
fn a_sync_of_another_selection_than_the_last_says_so() {
    let mirror = Mirror::of(formulae(3));
    let (first, second) = (["sync", "--formula", "uniform-00001"], ["sync", "--formula", "uniform-00002"]);
    let says =
        |args: &[&str]| mirror.run(args).expect(0).stdout.contains("Selection    another one than last time");
    assert!(!says(&first) && !says(&first));
    assert!(says(&second));
    assert!(!says(&second));
    assert_eq!(mirror.sync(0, &first[1..])["another_selection"], json!(true));
    assert_eq!(mirror.sync(0, &first[1..])["another_selection"], json!(false));
}
