//! Mirrors in a bucket, with this machine's queues, and a deployed system's verbs.

use std::collections::BTreeMap;
use std::fs;
use std::process::Command;

use testbed::{Cloud, Fault, Spec, Times, Upstream};
use tokio::runtime::Runtime;

use crate::harness::{Output, Running, bare, list, number, text};

/// An account, and an upstream.
pub(crate) struct Aws {
    pub(crate) runtime: Runtime,
    pub(crate) cloud: Cloud,
    pub(crate) upstream: Upstream,
    state: tempfile::TempDir,
}

impl Aws {
    pub(crate) fn with(spec: Spec) -> Self {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let (cloud, upstream) =
            runtime.block_on(async { (Cloud::start().await.unwrap(), Upstream::start(spec).await.unwrap()) });
        Self { runtime, cloud, upstream, state: tempfile::tempdir().unwrap() }
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = bare(arguments);
        command
            .envs(self.cloud.environment())
            .envs(self.upstream.variables())
            .env("XDG_STATE_HOME", self.state.path())
            .env_remove("AWS_PROFILE");
        command
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Output {
        Running::start(self.command(arguments)).wait()
    }

    fn keys(&self, prefix: &str) -> Vec<String> {
        self.runtime.block_on(self.cloud.keys(prefix)).unwrap().into_keys().collect()
    }

    fn object(&self, key: &str) -> Option<Vec<u8>> {
        self.runtime.block_on(self.cloud.object(key)).unwrap()
    }

    /// Upstream's bottles are below `prefix`, to the byte, but `missing`.
    pub(crate) fn assert_whole(&self, prefix: &str, missing: &[&str]) {
        let expected: BTreeMap<_, _> =
            self.upstream.expected().into_iter().map(|bottle| (bottle.key.clone(), bottle)).collect();
        for bottle in expected.values() {
            let content =
                self.upstream.content(&bottle.digest).filter(|_| !missing.contains(&bottle.digest.as_str()));
            assert!(self.object(&format!("{prefix}{}", bottle.key)) == content, "{}", bottle.key);
        }
        let blobs = self.keys(&format!("{prefix}v2/")).iter().filter(|key| key.contains("/blobs/")).count();
        assert_eq!(blobs, expected.len() - missing.len());
    }

    /// What `--stack` needs, and the options in its place.
    pub(crate) fn names(&self) -> Vec<(String, String)> {
        let mut names = self.cloud.variables();
        names.extend(self.runtime.block_on(self.cloud.make_service()).unwrap());
        names
    }
}

#[test]
fn a_mirror_in_a_bucket_needs_no_queue_service() {
    let aws = Aws::with(Spec::demo(1));
    let to = "s3://team-bottles/mirrors/brew";
    aws.upstream.plant(&Spec::demo_planted());
    let first = aws.run(&["sync", "--to", to, "--size-threshold", "8MiB", "--json"]).expect(3);
    assert_eq!(number(&first.json(), "/dead_letters"), 2);
    let letters = aws.run(&["dead-letters", "list", "--to", to, "--json"]).expect(3).json();
    let digests: Vec<_> = list(&letters, "/letters").iter().map(|letter| text(letter, "/digest")).collect();
    aws.assert_whole("mirrors/brew/", &digests);
    assert!(aws.keys("").iter().all(|key| key.starts_with("mirrors/brew/")), "written beside the prefix");

    aws.upstream.mend();
    aws.run(&["dead-letters", "replay", "--to", to]).expect(0);
    let second = aws.run(&["sync", "--to", to, "--json"]).expect(0);
    assert_eq!(number(&second.json(), "/dead_letters"), 0);
    aws.assert_whole("mirrors/brew/", &[]);
    let third = aws.run(&["sync", "--to", to, "--json"]).expect(0).json();
    assert_eq!(number(&third, "/received_bytes"), 0);
    let status = aws.run(&["status", "--to", to]).expect(0);
    assert!(status.stdout.contains("settled") || status.stdout.contains("unchanged"), "{status}");
    // The queue is on this machine, and another prefix has another.
    assert_eq!(fs::read_dir(aws.state.path().join("bottles")).unwrap().count(), 1);
    let plan =
        aws.run(&["plan", "--to", "s3://team-bottles/elsewhere", "--no-sizes", "--json"]).expect(0).json();
    assert_eq!(number(&plan, "/held"), 0);
    assert_eq!(fs::read_dir(aws.state.path().join("bottles")).unwrap().count(), 1, "a dry run left a trace");
}

#[test]
fn a_bucket_is_exported_without_a_queue_and_imported_into_another_place() {
    let aws = Aws::with(Spec::demo(1));
    let (from, to) = ("s3://team-bottles/here", "s3://team-bottles/there");
    aws.run(&["sync", "--to", from]).expect(0);
    let states = || fs::read_dir(aws.state.path().join("bottles")).unwrap().count();
    assert_eq!(states(), 1);
    fs::remove_dir_all(aws.state.path().join("bottles")).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("x.tar.zst");
    let before = aws.keys("here/");
    let exported = aws.run(&["export", "--from", from, "--to", file.to_str().unwrap(), "--json"]).expect(0);
    let new: Vec<_> = aws.keys("here/").into_iter().filter(|key| !before.contains(key)).collect();
    assert_eq!(new, ["here/_sync/mirror.json"], "an export wrote more than the mirror's name");
    assert!(!aws.state.path().join("bottles").exists(), "an export made a state folder");

    let imported = aws.run(&["import", file.to_str().unwrap(), "--to", to, "--json"]).expect(0).json();
    assert_eq!(number(&imported, "/bundles/0/bottles/bottles"), number(&exported.json(), "/bottles/bottles"));
    assert_eq!(states(), 1);
    aws.assert_whole("there/", &[]);
    let indexes = |prefix: &str| -> Vec<_> {
        let keys = aws.keys(&format!("{prefix}v2/")).into_iter().filter(|key| key.contains("/manifests/"));
        keys.map(|key| (key[prefix.len()..].to_owned(), aws.object(&key))).collect()
    };
    assert!(indexes("there/") == indexes("here/") && !indexes("here/").is_empty());
    let absent = aws.run(&["export", "--from", "s3://team-bottles/no", "--to", "y.tar.zst"]).expect(2);
    assert!(absent.stderr.contains("no manifest"), "{absent}");
}

#[test]
fn a_bucket_that_can_not_be_used_is_named_before_anything_is_done() {
    let aws = Aws::with(Spec::uniform(1, 1, 1_000, &["all"]));
    let absent = aws.run(&["sync", "--to", "s3://no-such-bucket"]).expect(1);
    assert!(absent.stderr.contains("s3://no-such-bucket can't be used"), "{absent}");
    assert!(absent.stderr.contains("make the bucket"), "{absent}");
    assert_eq!(aws.upstream.log().count("*"), 0);
    for place in ["s3://", "s3://UPPER", "https://team-bottles", "s3://team-bottles/a//b"] {
        let output = aws.run(&["sync", "--to", place]).expect(2);
        assert!(output.stderr.contains("--to"), "{output}");
    }
    let empty = aws.run(&["status", "--to", "s3://team-bottles"]).expect(2);
    assert!(empty.stderr.contains("holds no mirror"), "{empty}");
}

#[test]
fn a_deployed_system_is_named_by_its_stack_or_by_its_parts() {
    let aws = Aws::with(Spec::uniform(1, 2, 1_000, &["all"]));
    let names = aws.names();
    aws.runtime.block_on(aws.cloud.make_stack("prod", &names)).unwrap();
    let by_stack = aws.run(&["status", "--stack", "prod", "--json"]).expect(0).json();
    assert_eq!(number(&by_stack, "/tasks/desired"), 0);
    let parts: Vec<String> = names
        .iter()
        .flat_map(|(name, value)| {
            let option = name.trim_start_matches("BOTTLES_").to_lowercase().replace('_', "-");
            [format!("--{option}"), value.clone()]
        })
        .collect();
    let arguments: Vec<&str> =
        ["status", "--json"].into_iter().chain(parts.iter().map(String::as_str)).collect();
    let by_parts = aws.run(&arguments).expect(0).json();
    assert_eq!(by_parts["lanes"], by_stack["lanes"]);

    let unknown = aws.run(&["status", "--stack", "staging"]).expect(2);
    assert!(unknown.stderr.contains("/bottles/staging"), "{unknown}");
    let partly =
        aws.run(&["status", "--to", "s3://team-bottles", "--small-queue", "http://localhost/q"]).expect(2);
    assert!(partly.stderr.contains("--small-dead-letters"), "{partly}");
    let folder = aws.run(&["status", "--stack", "prod", "--to", "folder"]).expect(2);
    assert!(folder.stderr.contains("is a folder"), "{folder}");
    let nothing = aws.run(&["status"]).expect(2);
    assert!(nothing.stderr.contains("--to") && nothing.stderr.contains("--stack"), "{nothing}");
    let no_function = aws.run(&["run", "--stack", "prod"]).expect(2);
    assert!(no_function.stderr.contains("--producer"), "{no_function}");
    // A tag alone would replace the deployed selection by everything.
    for verb in ["run", "plan"] {
        let everything =
            aws.run(&[verb, "--stack", "prod", "--producer", "nowhere", "--tag", "arm64_tahoe"]).expect(2);
        assert!(everything.stderr.contains("--formula"), "{everything}");
    }
    let absent = aws.run(&["run", "--stack", "prod", "--producer", "nowhere"]).expect(1);
    assert!(absent.stderr.contains("nowhere"), "{absent}");
}

#[test]
fn dead_letters_on_sqs_are_listed_replayed_by_choice_and_dropped() {
    let aws = Aws::with(Spec::uniform(1, 25, 1_000, &["all"]));
    aws.runtime.block_on(aws.cloud.make_stack("prod", &aws.names())).unwrap();
    // The letters of a deployed system: here a sync fills SQS's queues by hand.
    aws.upstream.faults().set("cdn:*", Fault::Corrupt, Times::Always);
    let synced = aws.run(&["sync", "--to", "s3://team-bottles", "--json"]).expect(3).json();
    assert_eq!(number(&synced, "/dead_letters"), 25);
    let letters = aws.run(&["dead-letters", "list", "--to", "s3://team-bottles", "--json"]).expect(3).json();
    for (n, letter) in list(&letters, "/letters").iter().enumerate() {
        // As the consumer sends them: see the body and the attributes in common.
        let reason = if n % 5 == 0 { "not-found" } else { "wrong-digest" };
        aws.runtime.block_on(aws.cloud.send_dead("small-dead", &body(letter), reason)).unwrap();
    }
    let on = ["--stack", "prod", "--json"];
    let run = |verb: &[&str]| aws.run(&[&["dead-letters"], verb, &on].concat());
    let all = run(&["list"]).expect(3).json();
    assert_eq!((list(&all, "/letters").len(), number(&all, "/remaining")), (25, 25));
    // Looking hid none of them.
    assert_eq!(aws.runtime.block_on(aws.cloud.depth("small-dead")).unwrap(), (25, 0));

    let begun = std::time::Instant::now();
    let replayed = run(&["replay", "--reason", "not-found", "--per-second", "2"]).expect(3).json();
    assert_eq!((list(&replayed, "/letters").len(), number(&replayed, "/remaining")), (5, 20));
    assert!(begun.elapsed().as_secs() >= 2, "not bounded in rate: {:?}", begun.elapsed());
    assert_eq!(aws.runtime.block_on(aws.cloud.depth("small")).unwrap(), (5, 0));
    let dropped = run(&["drop"]).expect(0).json();
    assert_eq!((list(&dropped, "/letters").len(), number(&dropped, "/remaining")), (20, 0));
    assert_eq!(aws.runtime.block_on(aws.cloud.depth("small-dead")).unwrap(), (0, 0));
    // The producer hears of each.
    let receipts: String = aws
        .keys("_sync/receipts/")
        .iter()
        .map(|key| String::from_utf8(aws.object(key).unwrap()).unwrap())
        .collect();
    let reported = |outcome| receipts.matches(&format!("\"outcome\":\"{outcome}\"")).count();
    // Those of the sync by hand were folded.
    assert_eq!((reported("replayed"), reported("dropped")), (5, 20));
}

/// A message as it was sent, from what the list tells of it.
fn body(letter: &serde_json::Value) -> String {
    let formula = text(letter, "/formula");
    serde_json::json!({
        "version": 1, "run": "20260101T000000000Z-0000", "formula": formula, "origin": "https://ghcr.io",
        "image": format!("v2/homebrew/core/{formula}"), "image_tag": text(letter, "/image_tag"),
        "tags": letter["tags"], "digest": text(letter, "/digest"), "size": number(letter, "/size"),
    })
    .to_string()
}
