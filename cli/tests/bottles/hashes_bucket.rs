//! Coming from the Python system in a bucket, and in a deployed one.

use std::path::Path;
use std::process::Command;

use testbed::{Cloud, Spec, Upstream};

use crate::harness::{Output, Running, bare, number, write};
use crate::hashes::{document, left};

struct Aws {
    runtime: tokio::runtime::Runtime,
    cloud: Cloud,
    upstream: Upstream,
    state: tempfile::TempDir,
}

impl Aws {
    fn with(spec: Spec) -> Self {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let (cloud, upstream) =
            runtime.block_on(async { (Cloud::start().await.unwrap(), Upstream::start(spec).await.unwrap()) });
        Self { runtime, cloud, upstream, state: tempfile::tempdir().unwrap() }
    }

    fn put(&self, key: &str, bytes: &[u8]) {
        self.runtime.block_on(self.cloud.overwrite(key, bytes)).unwrap();
    }

    fn keys(&self, prefix: &str) -> Vec<String> {
        self.runtime.block_on(self.cloud.keys(prefix)).unwrap().into_keys().collect()
    }

    fn run(&self, arguments: &[&str]) -> Output {
        let mut command: Command = bare(arguments);
        command
            .envs(self.cloud.environment())
            .envs(self.upstream.variables())
            .env("XDG_STATE_HOME", self.state.path())
            .env_remove("AWS_PROFILE");
        Running::start(command).wait()
    }

    /// The bottles below `prefix`, each equal to upstream's.
    fn assert_whole(&self, prefix: &str) {
        for bottle in self.upstream.expected() {
            let object =
                self.runtime.block_on(self.cloud.object(&format!("{prefix}{}", bottle.key))).unwrap();
            assert!(object == self.upstream.content(&bottle.digest), "{}", bottle.key);
        }
    }

    fn fetches(&self) -> usize {
        self.upstream.log().count("cdn:*") + self.upstream.log().count("registry:*/blobs/*")
    }
}

#[test]
fn a_mirror_in_a_bucket_takes_over_what_lies_there() {
    let spec = Spec::demo(1);
    let aws = Aws::with(spec.clone());
    let (objects, entries) = left(&aws.upstream, &spec);
    for (key, content) in &objects {
        aws.put(&format!("mirrors/{key}"), content);
    }
    aws.put("state/bottles_hash.json", document(&entries).as_bytes());
    let (file, to) = ("s3://team-bottles/state/bottles_hash.json", "s3://team-bottles/mirrors");
    let before = aws.keys("");
    let dry = aws.run(&["import-hashes", file, "--to", to, "--dry-run", "--json"]).expect(0).json();
    assert_eq!(aws.keys(""), before);
    let report = aws.run(&["import-hashes", file, "--to", to, "--json"]).expect(0).json();
    assert_eq!((&report["adopted"], &report["copied"]), (&dry["adopted"], &dry["copied"]));
    assert_eq!(number(&report, "/dated/objects"), objects.len() as u64);
    aws.run(&["sync", "--to", to]).expect(0);
    assert_eq!(aws.fetches(), 0);
    aws.assert_whole("mirrors/");
    assert_eq!(aws.keys("mirrors/2026").len(), objects.len());
    let exported = aws.run(&["export-hashes", "--to", to]).expect(0);
    assert!(exported.json()["bottles"].as_object().unwrap().keys().eq(entries.keys()), "{exported}");

    let absent = aws.run(&["import-hashes", "s3://team-bottles/absent.json", "--to", to]).expect(2);
    assert!(absent.stderr.contains("s3://team-bottles/absent.json: there is no such object"), "{absent}");
    let nowhere = aws.run(&["import-hashes", file, "--to", "s3://no-such-bucket"]).expect(1);
    assert!(nowhere.stderr.contains("s3://no-such-bucket can't be used"), "{nowhere}");
}

#[test]
fn a_deployed_system_is_told_by_receipts_alone() {
    let spec = Spec::uniform(2, 5, 3_000, &["x86_64_linux"]);
    let aws = Aws::with(spec.clone());
    let variables = aws.cloud.variables();
    aws.runtime.block_on(aws.cloud.make_stack("prod", &variables)).unwrap();
    let (objects, entries) = left(&aws.upstream, &spec);
    for (key, content) in &objects {
        aws.put(key, content);
    }
    let file = write(aws.state.path(), "bottles_hash.json", &document(&entries));
    let output = aws.run(&["import-hashes", &file, "--stack", "prod"]).expect(0);
    assert!(output.stdout.contains("the deployed system takes note"), "{output}");
    assert_eq!((aws.keys("_sync/receipts/").len(), aws.keys("_sync/").len()), (1, 1));
    aws.assert_whole("");
    assert!(Path::new(&file).is_file());
    // What is reported is held, though nobody settled it yet.
    let exported = aws.run(&["export-hashes", "--stack", "prod"]).expect(0).json();
    assert_eq!(exported["bottles"].as_object().unwrap().len(), 5);
    // Whoever settles the bucket finds them held.
    aws.run(&["sync", "--to", "s3://team-bottles"]).expect(0);
    assert_eq!(aws.fetches(), 0);
    let exported = aws.run(&["export-hashes", "--stack", "prod"]).expect(0).json();
    assert_eq!(exported["bottles"].as_object().unwrap().len(), 5);
}
