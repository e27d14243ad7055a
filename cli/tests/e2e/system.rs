//! The deployed system, in an emulator.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use testbed::{Cloud, Emulator, Function, Spec, Upstream};

use crate::operator::{self, Operator};
use crate::slack::Slack;

const STACK: &str = "bottles-e2e";
const SECRET: &str = "bottles/slack";

pub(crate) struct System {
    pub(crate) upstream: Upstream,
    pub(crate) slack: Slack,
    pub(crate) operator: Operator,
    cloud: Cloud,
    service: Child,
    folder: tempfile::TempDir,
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
        let operator = Operator { stack: STACK.to_owned(), environment: cloud.environment() };
        Self { upstream, slack, operator, cloud, service, folder }
    }

    /// The bucket holds upstream's bottles but `missing`.
    pub(crate) async fn assert_bucket(&self, missing: &[String]) {
        operator::assert_bucket(&self.cloud.bucket(), &self.upstream, missing).await;
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

/// The service's program stands beside the command's.
pub(crate) fn service_program() -> PathBuf {
    let program = Path::new(env!("CARGO_BIN_EXE_bottles")).with_file_name("consumer-ecs");
    assert!(program.is_file(), "{} is not built: make e2e does it", program.display());
    program
}
