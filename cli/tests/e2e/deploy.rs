//! A stage as `scripts/deploy.sh` deploys it, applied to an emulator.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::Value;
use testbed::{Bucket, Emulator, Spec, Upstream};

use crate::operator::Operator;
use crate::slack::Slack;
use crate::system::service_program;

/// The stage, and what its file says of it.
const STAGE: &str = "dev";
const REGION: &str = "us-west-2";
const STACK: &str = "homebrew-bottles-sync-dev";
const ACCOUNT: &str = "000000000000";

/// What a second plan finds changed although nothing was: the emulator tells
/// these back otherwise than it was told.
const DRIFTS: [&str; 4] =
    ["aws_cloudwatch_metric_alarm", "aws_ecs_service", "aws_secretsmanager_secret", "aws_vpc_endpoint"];

/// Roles, and what the emulator wants them to be allowed although AWS doesn't.
const WHAT_THE_EMULATOR_ASKS: [(&str, &[&str]); 3] = [
    ("producer", &["sqs:SendMessageBatch", "ecs:DescribeServices", "ecs:UpdateService"]),
    ("consumer", &["sqs:DeleteMessageBatch", "sqs:ChangeMessageVisibilityBatch", "sqs:SendMessageBatch"]),
    ("task", &["sqs:DeleteMessageBatch", "sqs:ChangeMessageVisibilityBatch", "sqs:SendMessageBatch"]),
];

/// The project's Terraform and scripts in a folder of their own, since both write
/// beside what they read; and an account to apply them to.
pub(crate) struct Deployment {
    pub(crate) upstream: Upstream,
    pub(crate) slack: Slack,
    pub(crate) operator: Operator,
    emulator: Emulator,
    tools: PathBuf,
    folder: tempfile::TempDir,
}

/// Whether Terraform is there; said if it is not.
pub(crate) fn is_possible() -> bool {
    let is_there = Command::new("terraform").arg("version").output().is_ok();
    if !is_there {
        println!("skipped: no terraform, which deploys what this test looks at");
    }
    is_there
}

impl Deployment {
    pub(crate) async fn prepare() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        for part in ["terraform", "scripts"] {
            copy(&root.join(part), &folder.path().join(part));
        }
        std::os::unix::fs::symlink(root.join("build"), folder.path().join("build")).unwrap();
        let tools = Command::new(root.join("scripts/python-tool.sh")).arg("awscli").output().unwrap();
        assert!(tools.status.success(), "{}", String::from_utf8_lossy(&tools.stderr));
        let tools = PathBuf::from(String::from_utf8(tools.stdout).unwrap().trim());

        let slack = Slack::start().await;
        let upstream = Upstream::start(Spec::demo(1)).await.unwrap();
        upstream.plant(&Spec::demo_planted());
        let emulator = Emulator::start_strict(Some(&folder.path().join("emulator.log"))).unwrap();
        let environment = emulator
            .environment()
            .into_iter()
            .map(|(name, value)| {
                (name.to_owned(), if name == "AWS_REGION" { REGION.to_owned() } else { value })
            })
            .collect();
        let operator = Operator { stack: STACK.to_owned(), environment };
        let deployment = Self { upstream, slack, operator, emulator, tools, folder };
        deployment.write_settings();
        deployment
    }

    /// The account's own variables, and a provider that reaches the emulator.
    fn write_settings(&self) {
        let terraform = self.folder.path().join("terraform");
        let upstream: BTreeMap<_, _> = self.upstream.variables().into_iter().collect();
        let variables = format!(
            r#"
            aws_account_id = "{ACCOUNT}"
            aws_is_emulated = true
            extra_environment = {{ AWS_ENDPOINT_URL = "{endpoint}" }}

            # All that the look-alike of upstream has; its largest bottles are some megabytes.
            selection            = ""
            target_platforms     = []
            size_threshold_gb    = 0.008
            upstream_api_url     = "{api}"
            upstream_rewrite     = ["{rewrite}"]
            upstream_allow_hosts = ["{host}"]
            requests_per_second  = 1000

            schedule_expression        = "rate(1 minute)"
            settle_schedule_expression = "rate(1 minute)"

            ecs_container_image          = "example.com/consumer-ecs:1"
            enable_slack_notifications   = true
            slack_webhook_version        = 1
            enable_sns_notifications     = true
            notification_email_addresses = ["team@example.com"]
            reader_vpc_endpoint_ids      = ["vpce-0123456789abcdef0"]
            "#,
            endpoint = self.emulator.url(),
            api = upstream["BOTTLES_API_URL"],
            rewrite = upstream["BOTTLES_REWRITE"],
            host = upstream["BOTTLES_ALLOW_HOST"],
        );
        std::fs::write(terraform.join(format!("{STAGE}.local.tfvars")), variables).unwrap();
        let provider = |alias: &str| format!("provider \"aws\" {{\n{alias}  s3_use_path_style = true\n}}\n");
        let providers = [provider(""), provider("  alias = \"backup\"\n")].concat();
        std::fs::write(terraform.join("emulator_override.tf"), providers).unwrap();
    }

    /// What `scripts/deploy.sh` prints with these options.
    pub(crate) fn deploy(&self, options: &[&str], variables: &[(&str, &str)]) -> String {
        let here = self.folder.path();
        let backend = ["use_path_style", "skip_credentials_validation", "skip_requesting_account_id"]
            .map(|option| format!("-backend-config={option}=true"));
        let mut command = Command::new("bash");
        command
            .args([
                "-euc",
                ". scripts/terraform-mirror.sh \"$PWD\" && exec scripts/deploy.sh \"$@\"",
                "deploy.sh",
            ])
            .args(["-e", STAGE])
            .args(options)
            .current_dir(here)
            .stdin(Stdio::null())
            .env("PATH", prefixed(&self.tools))
            .envs(self.operator.environment.clone())
            .envs([("NO_PROXY", "127.0.0.1"), ("no_proxy", "127.0.0.1")])
            .env("TF_CLI_ARGS_init", backend.join(" "))
            .envs(variables.iter().copied());
        for theirs in
            ["AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_DEFAULT_REGION", "TF_DATA_DIR", "TF_WORKSPACE"]
        {
            command.env_remove(theirs);
        }
        let output = command.output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "deploy.sh {options:?}: {}\n{text}\n{errors}", output.status);
        text
    }

    /// What AWS's own command answers.
    pub(crate) fn aws(&self, arguments: &[&str]) -> Value {
        let output = Command::new(self.tools.join("aws"))
            .args(arguments)
            .args(["--region", REGION, "--output", "json", "--endpoint-url", &self.emulator.url()])
            .envs(self.operator.environment.clone())
            .env("NO_PROXY", "127.0.0.1")
            .output()
            .unwrap();
        assert!(output.status.success(), "aws {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        if output.stdout.is_empty() { Value::Null } else { serde_json::from_slice(&output.stdout).unwrap() }
    }

    /// The mirror's bucket.
    pub(crate) fn bucket(&self) -> Bucket {
        Bucket::new(&self.emulator.config_in(REGION), &format!("{STACK}-{ACCOUNT}"))
    }

    /// Terraform's state as it is kept.
    pub(crate) async fn state(&self) -> String {
        let bucket =
            Bucket::new(&self.emulator.config_in(REGION), &format!("terraform-state-{ACCOUNT}-{REGION}"));
        let key = format!("homebrew-bottles-sync/{STAGE}/terraform.tfstate");
        String::from_utf8(bucket.object(&key).await.unwrap().unwrap()).unwrap()
    }

    /// What a second plan would change, but for what the emulator is known for.
    pub(crate) fn changes(&self) -> Vec<String> {
        let plan = self.deploy(&["-p"], &[("TF_CLI_ARGS_plan", "-json")]);
        let lines: Vec<Value> = plan.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
        assert!(lines.iter().any(|line| line["type"] == "change_summary"), "{plan}");
        lines
            .iter()
            .filter(|line| line["type"] == "planned_change")
            .map(|line| &line["change"])
            .filter(|change| {
                let kind = change["resource"]["resource_type"].as_str().unwrap();
                change["action"] != "update" || !DRIFTS.contains(&kind)
            })
            .map(|change| format!("{} {}", change["action"], change["resource"]["addr"]))
            .collect()
    }

    /// What the emulator asks of roles and AWS doesn't: permissions by the names of
    /// SQS's batch operations, which IAM hasn't, and those of ECS for all resources.
    /// Whatever else a role lacks is refused.
    pub(crate) fn allow_what_the_emulator_asks(&self) {
        for (role, actions) in WHAT_THE_EMULATOR_ASKS {
            let statement = serde_json::json!({ "Effect": "Allow", "Action": actions, "Resource": "*" });
            let policy = serde_json::json!({ "Version": "2012-10-17", "Statement": [statement] }).to_string();
            let role = format!("{STACK}-{role}");
            let put = ["iam", "put-role-policy", "--policy-name", "emulator", "--role-name", &role];
            self.aws(&[&put[..], &["--policy-document", &policy]].concat());
        }
    }

    /// Takes that away again: a role with a policy that Terraform doesn't know can't be deleted.
    pub(crate) fn disallow_it(&self) {
        for (role, _) in WHAT_THE_EMULATOR_ASKS {
            let role = format!("{STACK}-{role}");
            self.aws(&["iam", "delete-role-policy", "--policy-name", "emulator", "--role-name", &role]);
        }
    }

    /// Credentials of the task's role. Its policy lets ECS alone take it, so for a
    /// moment it has another one.
    fn task_credentials(&self) -> Vec<(&'static str, String)> {
        let role = format!("{STACK}-task");
        let found = self.aws(&["iam", "get-role", "--role-name", &role]);
        let trust = |policy: &str| {
            let update = ["iam", "update-assume-role-policy", "--role-name", &role, "--policy-document"];
            self.aws(&[&update[..], &[policy]].concat())
        };
        trust(&format!(
            r#"{{"Version":"2012-10-17","Statement":[{{"Effect":"Allow","Principal":{{"AWS":"arn:aws:iam::{ACCOUNT}:root"}},"Action":"sts:AssumeRole"}}]}}"#
        ));
        let arn = found["Role"]["Arn"].as_str().unwrap();
        let session = self.aws(&["sts", "assume-role", "--role-arn", arn, "--role-session-name", "task"]);
        trust(&found["Role"]["AssumeRolePolicyDocument"].to_string());
        [
            ("AWS_ACCESS_KEY_ID", "AccessKeyId"),
            ("AWS_SECRET_ACCESS_KEY", "SecretAccessKey"),
            ("AWS_SESSION_TOKEN", "SessionToken"),
        ]
        .map(|(variable, name)| (variable, session["Credentials"][name].as_str().unwrap().to_owned()))
        .to_vec()
    }

    /// The service, as its applied task definition would have it run, in its role.
    pub(crate) fn start_task(&self) -> Task {
        let family = format!("{STACK}-consumer");
        let definition = self.aws(&["ecs", "describe-task-definition", "--task-definition", &family]);
        let container = &definition["taskDefinition"]["containerDefinitions"][0];
        let environment = container["environment"].as_array().unwrap().iter().map(|pair| {
            (pair["name"].as_str().unwrap().to_owned(), pair["value"].as_str().unwrap().to_owned())
        });
        let log = std::fs::File::create(self.folder.path().join("consumer-ecs.log")).unwrap();
        let process = Command::new(service_program())
            .env_clear()
            .envs(self.operator.environment.clone())
            .envs(self.task_credentials())
            .envs(environment)
            // Not every machine has the one of a container.
            .env("BOTTLES_HEALTH_FILE", self.folder.path().join("healthy"))
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        Task(process)
    }

    /// Everything in the account but the state's own bucket.
    pub(crate) fn left(&self) -> BTreeSet<String> {
        let names = |arguments: &[&str], list: &str, name: &str| -> Vec<String> {
            let answer = self.aws(arguments);
            let entries = answer[list].as_array().cloned().unwrap_or_default();
            entries
                .iter()
                .map(|entry| if name.is_empty() { entry } else { &entry[name] }.to_string())
                .collect()
        };
        [
            names(&["s3api", "list-buckets"], "Buckets", "Name"),
            names(&["sqs", "list-queues"], "QueueUrls", ""),
            names(&["lambda", "list-functions"], "Functions", "FunctionName"),
            names(&["ecs", "list-clusters"], "clusterArns", ""),
            names(&["iam", "list-roles"], "Roles", "RoleName"),
            names(&["logs", "describe-log-groups"], "logGroups", "logGroupName"),
            names(&["cloudwatch", "describe-alarms"], "MetricAlarms", "AlarmName"),
            names(&["scheduler", "list-schedules"], "Schedules", "Name"),
            names(&["sns", "list-topics"], "Topics", "TopicArn"),
            names(&["secretsmanager", "list-secrets"], "SecretList", "Name"),
        ]
        .concat()
        .into_iter()
        .filter(|name| !name.contains("terraform-state-"))
        .collect()
    }

    /// The last of what the emulator and the service said.
    pub(crate) fn logs(&self) -> String {
        let read = |name: &str| {
            let text = std::fs::read_to_string(self.folder.path().join(name)).unwrap_or_default();
            let lines: Vec<_> = text.lines().collect();
            format!("--- {name}\n{}", lines[lines.len().saturating_sub(40)..].join("\n"))
        };
        [read("emulator.log"), read("consumer-ecs.log")].join("\n")
    }
}

impl Drop for Deployment {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", self.logs());
        }
    }
}

/// A task that runs until it is dropped.
pub(crate) struct Task(Child);

impl Drop for Task {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn prefixed(folder: &Path) -> std::ffi::OsString {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::join_paths([folder.to_owned()].into_iter().chain(std::env::split_paths(&path))).unwrap()
}

/// A folder's files, and those of its folders; what Terraform left there stays there.
fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        let is_left_over =
            name.starts_with('.') || name.ends_with(".local.tfvars") || name == "terraform.tfvars";
        if is_left_over {
            continue;
        }
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &to.join(name));
        } else {
            std::fs::copy(entry.path(), to.join(name)).unwrap();
        }
    }
}
