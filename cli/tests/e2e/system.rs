//! The deployed system, in an emulator.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use testbed::{Cloud, Emulator, Function, Spec, Upstream};

use crate::slack::Slack;

const STACK: &str = "bottles-e2e";
const SECRET: &str = "bottles/slack";

pub(crate) struct System {
    pub(crate) upstream: Upstream,
    pub(crate) slack: Slack,
    cloud: Cloud,
    service: Child,
    folder: tempfile::TempDir,
}

pub(crate) struct Output {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    stderr: String,
}

impl System {
    pub(crate) async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let slack = Slack::start().await;
        let upstream = Upstream::start(Spec::demo(1)).await.unwrap();
        upstream.plant(&Spec::demo_planted());
        let emulator = Emulator::start_logging(Some(&folder.path().join("emulator.log"))).unwrap();
        let cloud = Cloud::on(emulator).await.unwrap();

        let secrets = aws_sdk_secretsmanager::Client::new(cloud.config());
        secrets.create_secret().name(SECRET).secret_string(slack.url()).send().await.unwrap();
        let mut variables = cloud.variables();
        variables.extend(upstream.variables());
        variables.extend(cloud.make_service().await.unwrap());
        let own =
            [("ENVIRONMENT", STACK), ("SIZE_THRESHOLD", "8MiB"), ("SLACK_SECRET", SECRET), ("LOG", "debug")];
        variables.extend(own.map(|(name, value)| (format!("BOTTLES_{name}"), value.to_owned())));
        let mut names = variables.clone();
        names.push(("BOTTLES_PRODUCER".to_owned(), "plan".to_owned()));
        cloud.make_stack(STACK, &names).await.unwrap();

        // Small batches and short times, so that a good deal happens at once.
        let build = Path::new(env!("CARGO_MANIFEST_DIR")).join("../build");
        for (name, package, memory) in
            [("plan", "producer", 512), ("settle", "producer", 512), ("consumer", "consumer-lambda", 512)]
        {
            let function = Function {
                name,
                zip: &build.join(format!("{package}.zip")),
                variables: variables.clone(),
                timeout: Duration::from_mins(1),
                memory,
            };
            cloud.deploy(function).await.unwrap();
        }
        cloud.map("small", "consumer", 10).await.unwrap();
        cloud.schedule("plan", "rate(1 minute)", "plan", r#"{"action":"plan"}"#).await.unwrap();
        cloud.schedule("settle", "rate(1 minute)", "settle", r#"{"action":"settle"}"#).await.unwrap();

        let log = std::fs::File::create(folder.path().join("consumer-ecs.log")).unwrap();
        let service = Command::new(service_program())
            .env_clear()
            .envs(cloud.environment())
            .envs(variables)
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        Self { upstream, slack, cloud, service, folder }
    }

    /// The digests of the bottles that upstream has wrong.
    pub(crate) fn planted(&self) -> Vec<String> {
        let planted = Spec::demo_planted();
        let expected = self.upstream.expected();
        [planted.wrong_hash, planted.not_found]
            .iter()
            .map(|(formula, tag)| {
                let found = expected.iter().find(|bottle| bottle.formula == *formula && bottle.tag == *tag);
                found.unwrap().digest.clone()
            })
            .collect()
    }

    /// How many keys upstream's bottles have in a mirror.
    pub(crate) fn keys(&self) -> usize {
        self.upstream.expected().into_iter().map(|bottle| bottle.key).collect::<BTreeSet<_>>().len()
    }

    /// The operator's command on this system.
    pub(crate) fn bottles(&self, arguments: &[&str]) -> Output {
        let output = Command::new(env!("CARGO_BIN_EXE_bottles"))
            .args(arguments)
            .args(["--stack", STACK])
            .env_clear()
            .envs(self.cloud.environment())
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
            assert!(begun.elapsed() < within, "{what} did not come: {status}\n{}", self.logs());
            std::thread::sleep(Duration::from_secs(1));
        }
    }

    /// The bucket holds upstream's bottles but `missing`, to the byte, and the
    /// image indexes of all that has one.
    pub(crate) async fn assert_bucket(&self, missing: &[String]) {
        let expected = self.upstream.expected();
        let mut keys: BTreeSet<String> = BTreeSet::new();
        for bottle in expected.iter().filter(|bottle| !missing.contains(&bottle.digest)) {
            keys.insert(bottle.key.clone());
            keys.insert(format!("v2/homebrew/core/{}/manifests/{}", bottle.image, bottle.image_tag));
        }
        let found: BTreeSet<String> = self.cloud.keys("v2/").await.unwrap().into_keys().collect();
        assert_eq!(found, keys);
        for bottle in &expected {
            let object = self.cloud.object(&bottle.key).await.unwrap();
            let content = self.upstream.content(&bottle.digest).filter(|_| keys.contains(&bottle.key));
            assert!(object == content, "{} has other bytes", bottle.key);
            let index = format!("v2/homebrew/core/{}/manifests/{}", bottle.image, bottle.image_tag);
            if let Some(object) = self.cloud.object(&index).await.unwrap() {
                assert!(object == self.upstream.index_bytes(&bottle.formula), "{index} has other bytes");
            }
        }
    }

    pub(crate) fn log(&self, name: &str) -> String {
        std::fs::read_to_string(self.folder.path().join(name)).unwrap_or_default()
    }

    fn logs(&self) -> String {
        let read = |name: &str| {
            let text = self.log(name);
            let from = text.len().saturating_sub(6000);
            let from = (from..=text.len()).find(|at| text.is_char_boundary(*at)).unwrap_or(0);
            format!("--- {name}\n{}", &text[from..])
        };
        [read("emulator.log"), read("consumer-ecs.log")].join("\n")
    }
}

impl Drop for System {
    fn drop(&mut self) {
        let _ = self.service.kill();
        let _ = self.service.wait();
        if std::thread::panicking() {
            eprintln!("{}", self.logs());
        }
    }
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

/// The service's program stands beside the command's.
fn service_program() -> PathBuf {
    let program = Path::new(env!("CARGO_BIN_EXE_bottles")).with_file_name("consumer-ecs");
    assert!(program.is_file(), "{} is not built: make e2e does it", program.display());
    program
}
