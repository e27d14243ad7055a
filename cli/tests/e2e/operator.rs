//! Whoever runs the command on a deployed system, and looks at what it did.

use std::collections::BTreeSet;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use testbed::{Bucket, Spec, Upstream};

pub(crate) struct Operator {
    /// The system's name.
    pub(crate) stack: String,
    /// What leads the command to it.
    pub(crate) environment: Vec<(String, String)>,
}

pub(crate) struct Output {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    stderr: String,
}

impl Operator {
    pub(crate) fn bottles(&self, arguments: &[&str]) -> Output {
        let output = Command::new(env!("CARGO_BIN_EXE_bottles"))
            .args(arguments)
            .args(["--stack", &self.stack])
            .env_clear()
            .envs(self.environment.clone())
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Output {
            code: output.status.code().unwrap(),
            stdout: text(output.stdout),
            stderr: text(output.stderr),
        }
    }

    /// Looks at the status until it is as it should be.
    pub(crate) fn wait_for(&self, what: &str, within: Duration, is_so: impl Fn(&Value) -> bool) {
        let begun = Instant::now();
        loop {
            let output = self.bottles(&["status", "--json"]);
            let status: Value = serde_json::from_str(&output.stdout).unwrap_or_else(|_| panic!("{output}"));
            if is_so(&status) {
                println!("{what}: {:.0} s", begun.elapsed().as_secs_f64());
                return;
            }
            assert!(begun.elapsed() < within, "{what} did not come: {status}");
            std::thread::sleep(Duration::from_secs(1));
        }
    }
}

/// The digests of the bottles that upstream has wrong.
pub(crate) fn planted(upstream: &Upstream) -> Vec<String> {
    let planted = Spec::demo_planted();
    let expected = upstream.expected();
    [planted.wrong_hash, planted.not_found]
        .iter()
        .map(|(formula, tag)| {
            let found = expected.iter().find(|bottle| bottle.formula == *formula && bottle.tag == *tag);
            found.unwrap().digest.clone()
        })
        .collect()
}

/// How many keys upstream's bottles have in a mirror.
pub(crate) fn keys(upstream: &Upstream) -> usize {
    upstream.expected().into_iter().map(|bottle| bottle.key).collect::<BTreeSet<_>>().len()
}

/// The bucket holds upstream's bottles but `missing`, to the byte, and the image
/// indexes of all that has one.
pub(crate) async fn assert_bucket(bucket: &Bucket, upstream: &Upstream, missing: &[String]) {
    let expected = upstream.expected();
    let mut keys: BTreeSet<String> = BTreeSet::new();
    for bottle in expected.iter().filter(|bottle| !missing.contains(&bottle.digest)) {
        keys.insert(bottle.key.clone());
        keys.insert(format!("v2/homebrew/core/{}/manifests/{}", bottle.image, bottle.image_tag));
    }
    let found: BTreeSet<String> = bucket.keys("v2/").await.unwrap().into_keys().collect();
    assert_eq!(found, keys);
    for bottle in &expected {
        let object = bucket.object(&bottle.key).await.unwrap();
        let content = upstream.content(&bottle.digest).filter(|_| keys.contains(&bottle.key));
        assert!(object == content, "{} has other bytes", bottle.key);
        let index = format!("v2/homebrew/core/{}/manifests/{}", bottle.image, bottle.image_tag);
        if let Some(object) = bucket.object(&index).await.unwrap() {
            assert!(object == upstream.index_bytes(&bottle.formula), "{index} has other bytes");
        }
    }
    assert_published(bucket, upstream, missing).await;
}

/// What clients read first is what upstream has, once nothing is missing: until then
/// the files that name every platform's bottles wait.
async fn assert_published(bucket: &Bucket, upstream: &Upstream, missing: &[String]) {
    let published = bucket.keys("api/").await.unwrap();
    for key in published.keys() {
        let object = bucket.object(key).await.unwrap();
        assert!(object == upstream.api_file(&format!("/{key}")), "{key} has other bytes");
    }
    let has = |key: &str| published.contains_key(key);
    assert_eq!(has("api/formula.jws.json"), missing.is_empty(), "{published:?}");
    assert!(has("api/internal/packages.arm64_tahoe.jws.json"), "{published:?}");
}

impl Output {
    /// What was printed, if it ended with `code`.
    pub(crate) fn json(&self, code: i32) -> Value {
        assert_eq!(self.code, code, "{self}");
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self}"))
    }
}

impl std::fmt::Display for Output {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "exit code {}\n{}\n{}", self.code, self.stdout, self.stderr)
    }
}
