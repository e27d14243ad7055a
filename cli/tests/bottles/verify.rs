//! `bottles verify`: what it says, and with which exit code.

use std::fs;

use serde_json::Value;
use testbed::{Fault, Spec, Times};

use crate::aws::Aws;
use crate::harness::{Mirror, Output, list, number, text};
use crate::tree::picture;

const MANIFEST: &str = "_sync/manifest.jsonl.zst";

impl Mirror {
    fn verify(&self, code: i32, args: &[&str]) -> Output {
        self.run(&[&["verify"], args].concat()).expect(code)
    }

    fn verify_json(&self, code: i32, args: &[&str]) -> Value {
        self.verify(code, &[&["--json"], args].concat()).json()
    }

    /// The same size, other bytes.
    fn alter(&self, key: &str) {
        let mut bytes = fs::read(self.path(key)).unwrap();
        bytes[0] ^= 1;
        fs::write(self.path(key), bytes).unwrap();
    }
}

fn kinds(report: &Value) -> Vec<String> {
    let kind = |finding: &Value| format!("{} {}", text(finding, "/kind"), text(finding, "/subject"));
    list(report, "/findings").iter().map(kind).collect()
}

#[test]
fn a_sound_mirror_is_said_to_be_sound_and_is_left_as_it_is() {
    let mirror = Mirror::of(Spec::demo(1));
    mirror.sync(0, &[]);
    mirror.upstream.log().clear();
    let before = picture(&mirror.path("v2"));
    let manifest = fs::read(mirror.path(MANIFEST)).unwrap();
    let shallow = mirror.verify(0, &[]);
    assert!(shallow.stdout.contains("The mirror is sound."), "{shallow}");
    assert!(shallow.stdout.contains("211 bottles") && !shallow.stdout.contains("To the byte"), "{shallow}");
    let deep = mirror.verify(0, &["--deep", "--repair"]);
    assert!(deep.stdout.contains("To the byte  211 of 211 bottles"), "{deep}");
    let sample = mirror.verify(0, &["--sample", "10%"]);
    assert!(sample.stdout.contains("To the byte  22 of 211 bottles"), "{sample}");
    assert_eq!(picture(&mirror.path("v2")), before);
    assert_eq!(fs::read(mirror.path(MANIFEST)).unwrap(), manifest);
    assert_eq!(mirror.upstream.log().count("*"), 0);
    mirror.check_no_leftovers();
}

#[test]
fn what_is_wrong_is_said_repaired_and_fetched_by_the_next_sync() {
    let mirror = Mirror::of(Spec::demo(1));
    mirror.sync(0, &[]);
    let bottles = mirror.upstream.expected();
    let wget = bottles.iter().find(|bottle| bottle.formula == "wget" && bottle.tag == "arm64_tahoe").unwrap();
    let jq = bottles.iter().find(|bottle| bottle.formula == "jq" && bottle.tag == "x86_64_linux").unwrap();
    fs::remove_file(mirror.path(&wget.key)).unwrap();
    mirror.alter(&jq.key);

    // By size alone the one is found.
    let report = mirror.verify_json(3, &[]);
    assert_eq!(kinds(&report), ["missing bottle"]);
    let report = mirror.verify_json(3, &["--deep"]);
    assert_eq!(kinds(&report), ["missing bottle", "wrong-checksum bottle"]);
    let missing = &list(&report, "/findings")[0];
    assert_eq!(text(missing, "/formula"), "wget");
    assert_eq!(text(missing, "/key"), wget.key);
    assert_eq!(text(missing, "/image_tag"), wget.image_tag);
    assert_eq!(text(missing, "/tags/0"), "arm64_tahoe");
    assert_eq!(number(missing, "/expected/size"), wget.size);
    assert_eq!(text(missing, "/expected/sha256"), wget.digest);
    assert_eq!((&missing["found"], &missing["wrong"]), (&Value::Null, &Value::Bool(true)));
    assert!(!text(missing, "/follows").is_empty());
    assert_eq!((&report["sound"], &report["repair"]), (&Value::Bool(false), &Value::Null));
    assert_eq!(number(&report, "/checksums/checked/bottles"), 210);
    assert_eq!(number(&report, "/checksums/of/bottles"), 210);
    assert_eq!(number(&report, "/held/bottles"), 211);

    let said = mirror.verify(3, &["--deep"]).stdout;
    assert!(said.contains("Missing: 1 bottle: clients can't install it"), "{said}");
    assert!(said.contains("wget") && said.contains("arm64_tahoe"), "{said}");
    assert!(said.contains("Wrong checksum: 1 bottle"), "{said}");
    // Without --deep it would find the one that is missing, and no other.
    assert!(said.contains("bottles verify --deep --repair --to"), "{said}");
    let sample = mirror.verify(3, &["--sample", "100%"]).stdout;
    assert!(sample.contains("bottles verify --deep --repair --to"), "{sample}");
    let by_size = mirror.verify(3, &[]).stdout;
    assert!(by_size.contains("bottles verify --repair --to"), "{by_size}");

    let repaired = mirror.verify(3, &["--deep", "--repair"]).stdout;
    assert!(repaired.contains("[queued, small]") && repaired.contains("2 bottles"), "{repaired}");
    assert!(repaired.contains("bottles sync --to"), "{repaired}");
    let again = mirror.verify_json(3, &["--deep", "--repair"]);
    assert_eq!(kinds(&again), ["queued bottle", "queued bottle"]);
    assert_eq!(number(&again, "/repair/small/bottles"), 0);
    let on_its_way = mirror.verify(3, &[]).stdout;
    assert!(on_its_way.contains("not sound yet") && on_its_way.contains("bottles sync"), "{on_its_way}");

    mirror.upstream.log().clear();
    mirror.sync(0, &[]);
    assert_eq!(mirror.fetches(), 2);
    mirror.check_equals_upstream();
    assert!(mirror.verify(0, &["--deep"]).stdout.contains("sound"));
}

#[test]
fn a_repair_that_fails_for_good_is_told_by_both() {
    let mirror = Mirror::of(Spec::demo(1));
    mirror.sync(0, &["--formula", "tree", "--tag", "x86_64_linux"]);
    let bottles = mirror.upstream.expected();
    let tree =
        bottles.iter().find(|bottle| bottle.formula == "tree" && bottle.tag == "x86_64_linux").unwrap();
    fs::remove_file(mirror.path(&tree.key)).unwrap();
    mirror.verify(3, &["--repair"]);
    let gone = Fault::Status { code: 404, retry_after: None };
    mirror.upstream.faults().set(&format!("*{}", tree.digest), gone, Times::Always);
    mirror.sync(3, &["--formula", "tree", "--tag", "x86_64_linux"]);
    let report = mirror.verify(3, &["--repair"]);
    assert!(report.stdout.contains("Repair given up on: 1 bottle"), "{report}");
    assert!(report.stdout.contains("dead-letters replay"), "{report}");
}

#[test]
fn long_lists_are_cut() {
    let mirror = Mirror::of(Spec::uniform(1, 25, 1_000, &["all"]));
    mirror.sync(0, &[]);
    for bottle in mirror.upstream.expected() {
        fs::write(mirror.path(&bottle.key), "half").unwrap();
    }
    let said = mirror.verify(3, &[]).stdout;
    assert!(said.contains("Wrong size: 25 bottles, 100 B"), "{said}");
    assert!(said.contains("4 bytes in place of 1,000"), "{said}");
    assert!(said.contains("… and 5 more (--json shows all)"), "{said}");
    assert_eq!(said.lines().filter(|line| line.contains("in place of")).count(), 20, "{said}");
    assert_eq!(list(&mirror.verify_json(3, &[]), "/findings").len(), 25);
}

#[test]
fn what_is_known_to_nobody_is_no_fault() {
    let mirror = Mirror::of(Spec::uniform(1, 2, 1_000, &["all"]));
    mirror.sync(0, &[]);
    let image = mirror.path("v2/homebrew/core/old/blobs");
    fs::create_dir_all(&image).unwrap();
    fs::write(image.join(format!("sha256:{}", "0".repeat(64))), "old").unwrap();
    fs::write(mirror.path("index.html"), "hello").unwrap();
    let said = mirror.verify(0, &[]).stdout;
    assert!(said.contains("Extra: 1 bottle, 3 B: known to nobody"), "{said}");
    assert!(said.contains("Foreign      1 object that the mirror did not make, 5 B"), "{said}");
    assert!(said.contains("The mirror is sound."), "{said}");
    let report = mirror.verify_json(0, &[]);
    assert_eq!((number(&report, "/extra/bottles"), number(&report, "/foreign/objects")), (1, 1));
}

#[test]
fn a_lost_or_damaged_manifest_is_rebuilt() {
    let mirror = Mirror::of(Spec::demo(1));
    mirror.sync(0, &[]);
    let refused = mirror.verify(2, &["--rebuild-manifest"]);
    assert!(refused.stderr.contains("can be read"), "{refused}");

    fs::remove_file(mirror.path(MANIFEST)).unwrap();
    let lost = mirror.verify(3, &[]);
    assert!(lost.stdout.contains("Missing: 1 manifest"), "{lost}");
    assert!(lost.stdout.contains("--rebuild-manifest"), "{lost}");
    let rebuilt = mirror.verify(0, &["--rebuild-manifest", "--deep"]);
    assert!(rebuilt.stdout.contains("The manifest was not there."), "{rebuilt}");
    assert!(rebuilt.stdout.contains("Rebuilt      211 bottles"), "{rebuilt}");
    assert!(rebuilt.stdout.contains("40 formulae; 40 image indexes"), "{rebuilt}");
    assert!(rebuilt.stdout.contains("bottles sync --to"), "{rebuilt}");
    mirror.upstream.log().clear();
    mirror.sync(0, &[]);
    assert_eq!(mirror.blob_requests(), 0);
    mirror.check_equals_upstream();

    fs::write(mirror.path(MANIFEST), "no manifest").unwrap();
    assert!(mirror.verify(1, &[]).stderr.contains("--rebuild-manifest"));
    // Everything of the system's own may be gone with it.
    let rebuilt = mirror.verify_json(0, &["--rebuild-manifest"]);
    assert_eq!(text(&rebuilt, "/was/state"), "damaged");
    let kept = mirror.path(text(&rebuilt, "/kept"));
    assert_eq!(fs::read_to_string(kept).unwrap(), "no manifest");
    fs::remove_dir_all(mirror.path("_sync")).unwrap();
    // Nobody knows then whether clients can install what the API files name.
    for args in [&["--rebuild-manifest"][..], &["--deep"]] {
        let said = mirror.verify(3, args).stdout;
        assert!(said.contains("Of no set:") && said.contains("formula.jws.json"), "{said}");
    }
    mirror.sync(0, &[]);
    mirror.verify(0, &["--deep"]);
}

#[test]
fn a_rebuild_that_leaves_something_out_says_so() {
    let mirror = Mirror::of(Spec::uniform(1, 4, 1_000, &["all"]));
    mirror.sync(0, &[]);
    let bottles = mirror.upstream.expected();
    fs::write(mirror.path(&bottles[0].key), "half").unwrap();
    mirror.alter(&bottles[1].key);
    fs::remove_file(mirror.path(MANIFEST)).unwrap();
    let rebuilt = mirror.verify(3, &["--rebuild-manifest", "--deep"]);
    assert!(rebuilt.stdout.contains("Wrong size: 1 bottle"), "{rebuilt}");
    assert!(rebuilt.stdout.contains("Wrong checksum: 1 bottle"), "{rebuilt}");
    assert!(rebuilt.stdout.contains("Queued       1 bottle, 1.0 kB"), "{rebuilt}");
    mirror.sync(0, &[]);
    mirror.check_equals_upstream();
    mirror.verify(0, &["--deep"]);
}

#[test]
fn wrong_usage_is_refused_by_name() {
    let mirror = Mirror::of(Spec::uniform(1, 1, 1_000, &["all"]));
    mirror.sync(0, &[]);
    for (args, word) in [
        (&["--sample", "0"][..], "--sample"),
        (&["--sample", "101%"], "101%"),
        (&["--sample", "some"], "percentage"),
        (&["--rebuild-manifest", "--repair"], "--repair"),
        (&["--rebuild-manifest", "--sample", "5%"], "--sample"),
        (&["--size-threshold", "potato"], "potato"),
        (&["--concurrency", "0"], "--concurrency"),
    ] {
        let output = mirror.verify(2, args);
        assert!(output.stderr.contains(word), "{args:?}\n{output}");
    }
    let absent = Mirror::of(Spec::default());
    for args in [&[][..], &["--rebuild-manifest"]] {
        let output = absent.verify(2, args);
        assert!(output.stderr.contains("bottles sync --to"), "{output}");
        assert!(!absent.dir().exists());
    }
}

#[test]
fn a_mirror_in_a_bucket_is_verified_repaired_and_rebuilt() {
    let aws = Aws::with(Spec::uniform(1, 5, 1_000, &["all"]));
    let to = ["--to", "s3://team-bottles/mirrors/brew"];
    let run = |args: &[&str]| aws.run(&[args, &to].concat());
    run(&["sync"]).expect(0);
    let key = |at: usize| format!("mirrors/brew/{}", aws.upstream.expected()[at].key);
    let report = run(&["verify", "--deep", "--json"]).expect(0).json();
    // S3 hashed them when they came.
    assert_eq!(number(&report, "/checksums/by_store/bottles"), 5);
    aws.runtime.block_on(aws.cloud.remove(&key(0))).unwrap();
    aws.runtime.block_on(aws.cloud.overwrite(&key(1), &[7; 1_000])).unwrap();
    let report = run(&["verify", "--deep", "--repair", "--json"]).expect(3).json();
    assert_eq!(kinds(&report), ["missing bottle", "wrong-checksum bottle"]);
    run(&["sync"]).expect(0);
    run(&["verify", "--deep"]).expect(0);

    aws.runtime.block_on(aws.cloud.remove(&format!("mirrors/brew/{MANIFEST}"))).unwrap();
    let lost = run(&["verify"]).expect(3);
    assert!(lost.stdout.contains("--rebuild-manifest"), "{lost}");
    run(&["verify", "--rebuild-manifest"]).expect(0);
    aws.upstream.log().clear();
    run(&["sync"]).expect(0);
    assert_eq!(aws.upstream.log().count("*/blobs/*"), 0);
    aws.assert_whole("mirrors/brew/", &[]);
    let empty = aws.run(&["verify", "--to", "s3://team-bottles/elsewhere"]).expect(2);
    assert!(empty.stderr.contains("holds no bottles"), "{empty}");
}

#[test]
fn a_deployed_systems_queues_get_what_is_to_be_repaired() {
    let aws = Aws::with(Spec::uniform(1, 5, 1_000, &["all"]));
    aws.runtime.block_on(aws.cloud.make_stack("prod", &aws.names())).unwrap();
    aws.run(&["sync", "--to", "s3://team-bottles"]).expect(0);
    let stack = ["verify", "--stack", "prod"];
    aws.run(&stack).expect(0);
    let bottles = aws.upstream.expected();
    aws.runtime.block_on(aws.cloud.remove(&bottles[0].key)).unwrap();
    aws.runtime.block_on(aws.cloud.remove(&bottles[1].key)).unwrap();
    let said = aws.run(&[&stack[..], &["--repair", "--size-threshold", "999"]].concat()).expect(3);
    assert!(said.stdout.contains("bottles status --stack prod --watch"), "{said}");
    assert_eq!(aws.runtime.block_on(aws.cloud.depth("large")).unwrap(), (2, 0));
    assert_eq!(aws.runtime.block_on(aws.cloud.depth("small")).unwrap(), (0, 0));
    aws.run(&[&stack[..], &["--repair"]].concat()).expect(3);
    assert_eq!(aws.runtime.block_on(aws.cloud.depth("large")).unwrap(), (2, 0));
    assert_eq!(aws.runtime.block_on(aws.cloud.depth("small")).unwrap(), (0, 0));
}
