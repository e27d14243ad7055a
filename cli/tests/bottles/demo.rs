//! The demo shows what it says, and touches nothing but its folder.

use std::fs;
use std::time::Duration;

use serde_json::json;
use testbed::Spec;

use crate::harness::{Mirror, Output, Running, bare, list, number, write};
use crate::tree::{Inspector, picture};

fn demo(mirror: &Mirror, args: &[&str], variables: &[(&str, &str)]) -> Output {
    let mut all = vec!["demo"];
    all.extend_from_slice(args);
    let mut command = bare(&all);
    command.current_dir(mirror.here()).env("TMPDIR", mirror.temporary()).envs(variables.iter().copied());
    Running::start(command).within(Duration::from_secs(45)).wait()
}

fn nothing() -> Mirror {
    Mirror::of(Spec::default())
}

#[test]
fn the_demo_goes_as_planned_and_may_be_repeated() {
    let mirror = nothing();
    for _ in 0..2 {
        let output = demo(&mirror, &[], &[]).expect(0);
        assert!(output.stdout.contains("all equal") && output.stdout.contains("Try next"), "{output}");
        assert!(output.stderr.is_empty(), "{output}");
    }
    let made: Vec<_> = fs::read_dir(mirror.here()).unwrap().map(|one| one.unwrap().file_name()).collect();
    assert_eq!(made, ["bottles-demo"]);
    assert!(picture(&mirror.temporary()).is_empty());
    let visible = Inspector::default().look(&mirror.here().join("bottles-demo"));
    assert_eq!((visible.blobs.len(), visible.indexes.len()), (209, 40));
}

#[test]
fn the_demo_speaks_json() {
    let mirror = nothing();
    for _ in 0..2 {
        let answer = demo(&mirror, &["--dir", "made", "--json"], &[]).expect(0).json();
        assert!(list(&answer, "/surprises").is_empty());
        assert_eq!(number(&answer, "/compared"), 209);
        assert_eq!(number(&answer, "/first/dead_letters"), 2);
        assert_eq!(answer["second"]["plan"]["unchanged"], json!(true));
    }
    let made: Vec<_> = fs::read_dir(mirror.here()).unwrap().map(|one| one.unwrap().file_name()).collect();
    assert_eq!(made, ["made"]);
}

#[test]
fn what_the_demo_says_to_try_next_works() {
    let mirror = nothing();
    demo(&mirror, &[], &[]).expect(0);
    for args in [&["status"][..], &["dead-letters", "list"]] {
        let mut command = bare(args);
        command.current_dir(mirror.here()).args(["--to", "bottles-demo"]);
        Running::start(command).wait().expect(3);
    }
}

#[test]
fn the_demo_refuses_a_folder_that_is_not_its_own() {
    let mirror = nothing();
    let theirs = mirror.here().join("theirs");
    fs::create_dir(&theirs).unwrap();
    write(&theirs, "file", "precious");
    write(&mirror.here(), "no-folder", "precious");
    let before = picture(&mirror.here());
    for dir in ["theirs", "."] {
        let output = demo(&mirror, &["--dir", dir], &[]).expect(2);
        assert!(output.stderr.contains(dir) && output.stderr.contains("--dir"), "{output}");
    }
    assert_ne!(demo(&mirror, &["--dir", "no-folder"], &[]).code, 0);
    assert_eq!(picture(&mirror.here()), before);
}

#[test]
fn the_demo_refuses_a_real_mirror() {
    let mirror = Mirror::of(Spec::uniform(1, 2, 1_000, &["x86_64_linux"]));
    mirror.sync(0, &[]);
    let before = picture(&mirror.dir());
    demo(&mirror, &["--dir", mirror.dir().to_str().unwrap()], &[]).expect(2);
    assert_eq!(picture(&mirror.dir()), before);
}

#[test]
fn the_demo_runs_inside_its_own_folder() {
    let mirror = nothing();
    demo(&mirror, &["--dir", "."], &[]).expect(0);
    demo(&mirror, &["--dir", "."], &[]).expect(0);
}

#[test]
fn the_demo_needs_no_network_where_a_proxy_is_set() {
    let mirror = nothing();
    let nowhere = "http://127.0.0.1:1";
    let proxies =
        ["http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "ALL_PROXY"].map(|name| (name, nowhere));
    demo(&mirror, &[], &proxies).expect(0);
}
