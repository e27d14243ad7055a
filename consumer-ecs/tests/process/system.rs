//! An account, an upstream, and the service as a child.

use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use common::config::{Environment, Settings};
use common::message::Lane;
use common::pipeline::Pipeline;
use common::plan::{Mode, PlanSettings};
use common::service;
use testbed::{Cloud, Spec, Upstream};

/// Everything is large here.
const SIZE_THRESHOLD: u64 = 1 << 20;

pub(crate) struct System {
    pub(crate) cloud: Cloud,
    pub(crate) upstream: Upstream,
    settings: Settings,
    variables: Vec<(String, String)>,
}

/// The service. It is killed when this is dropped.
pub(crate) struct Service {
    child: Child,
    log: tempfile::NamedTempFile,
}

impl System {
    pub(crate) async fn start(spec: Spec) -> Self {
        let cloud = Cloud::start().await.unwrap();
        let upstream = Upstream::start(spec).await.unwrap();
        let mut variables = cloud.variables();
        variables.extend(upstream.variables());
        let settings = Settings::read(&Environment::new(variables.clone()).unwrap()).unwrap();
        Self { cloud, upstream, settings, variables }
    }

    /// Queues everything that upstream has.
    pub(crate) async fn plan(&self) {
        let pipeline = self.pipeline();
        let settings = PlanSettings {
            api_url: self.settings.api_url.clone(),
            size_threshold: SIZE_THRESHOLD,
            concurrency: 8,
            deadline: None,
            is_partial: false,
        };
        let upstream = service::upstream(&self.settings, &[]).unwrap();
        let planner = pipeline.planner(upstream, "".parse().unwrap(), settings);
        let report = planner.plan(Mode::Queue).await.unwrap();
        assert_eq!(report.large.bottles, report.total().bottles);
    }

    fn pipeline(&self) -> Pipeline {
        service::pipeline(&self.settings, self.cloud.config(), &Lane::ALL).unwrap()
    }

    /// The service's program, with the environment of its task.
    pub(crate) fn command(&self, arguments: &[&str], variables: &[(&str, &str)]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_consumer-ecs"));
        command
            .args(arguments)
            .env_clear()
            .envs(self.cloud.environment())
            .envs(self.variables.iter().map(|(name, value)| (name, value)))
            .envs(variables.iter().copied())
            .stdin(Stdio::null());
        command
    }

    /// Starts the service.
    pub(crate) fn service(&self, variables: &[(&str, &str)]) -> Service {
        let log = tempfile::NamedTempFile::new().unwrap();
        let mut command = self.command(&[], variables);
        command.stdout(log.reopen().unwrap()).stderr(log.reopen().unwrap());
        Service { child: command.spawn().unwrap(), log }
    }

    /// How many bottles are in the bucket.
    pub(crate) async fn held(&self) -> usize {
        self.cloud.keys("v2/").await.unwrap().keys().filter(|key| key.contains("/blobs/")).count()
    }

    /// All of upstream's bottles are there, to the byte.
    pub(crate) async fn assert_whole(&self) {
        for bottle in self.upstream.expected() {
            let found = self.cloud.object(&bottle.key).await.unwrap();
            assert!(found == self.upstream.content(&bottle.digest), "{} has other bytes", bottle.key);
        }
    }
}

impl Service {
    /// SIGTERM, and the end that follows it.
    pub(crate) fn stop(&mut self, within: Duration) -> ExitStatus {
        let id = self.child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &id]).status().unwrap().success());
        let begun = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(begun.elapsed() < within, "it does not stop: {}", self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// SIGKILL.
    pub(crate) fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// The most memory that it took so far, in bytes.
    pub(crate) fn peak(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() << 10
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.log.path()).unwrap()
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.kill();
    }
}

pub(crate) async fn wait_for<F: Future<Output = bool>>(what: &str, is_so: impl Fn() -> F) {
    let begun = Instant::now();
    while !is_so().await {
        assert!(begun.elapsed() < Duration::from_mins(1), "{what} did not come");
        tokio::time::sleep(Duration::from_millis(30)).await;
    }
}
