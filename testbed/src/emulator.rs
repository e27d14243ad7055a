//! A process that answers as AWS does: SQS, S3, Lambda, its scheduler and more.
//!
//! It is ministack, installed below the target folder by
//! `scripts/python-tool.sh` the first time. Each [`Emulator`] is a process of
//! its own on a port of its own, so that tests share nothing.

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_sdk_s3::config::{Credentials, SharedCredentialsProvider};

/// How long it may take to answer after its start.
const READY_WITHIN: Duration = Duration::from_mins(1);

/// A running emulator. It ends when this is dropped, and when this process dies.
pub struct Emulator {
    shell: Child,
    port: u16,
}

impl Emulator {
    /// Starts one; installs it first if need be, which takes some seconds and
    /// Python 3 with its package index.
    pub fn start() -> anyhow::Result<Self> {
        Self::start_logging(None)
    }

    /// Starts one that writes what it says to `log`.
    pub fn start_logging(log: Option<&Path>) -> anyhow::Result<Self> {
        Self::launch(&[install()?], &[], log)
    }

    /// Starts one in which every caller may do what policies allow, and nothing
    /// else: functions are their roles, and the credentials of
    /// [`Emulator::environment`] are the account's root. Requests count as sent
    /// over TLS.
    pub fn start_strict(log: Option<&Path>) -> anyhow::Result<Self> {
        let python = install()?.with_file_name("python3");
        let arguments = ["-m", "hypercorn", "--keep-alive", "75", "behind_tls:app", "--bind"];
        let program: Vec<_> = [python].into_iter().chain(arguments.map(PathBuf::from)).collect();
        let variables =
            [("AUTH", "true"), ("PYTHONPATH", env!("CARGO_MANIFEST_DIR")), ("PYTHONDONTWRITEBYTECODE", "1")];
        Self::launch(&program, &variables, log)
    }

    /// A program that ends with `--bind` is told where on its command line too.
    fn launch(program: &[PathBuf], variables: &[(&str, &str)], log: Option<&Path>) -> anyhow::Result<Self> {
        let output = || -> anyhow::Result<Stdio> {
            Ok(match log {
                Some(path) => File::options().create(true).append(true).open(path)?.into(),
                None => Stdio::null(),
            })
        };
        let port = free_port()?;
        let address = program.last().filter(|last| last.as_os_str() == "--bind");
        let address = address.map(|_| format!("127.0.0.1:{port}"));
        // The shell's standard input is a pipe from us: it ends when we do,
        // however we do, and takes the emulator with it.
        let mut shell = Command::new("sh")
            .args(["-c", "\"$@\" & child=$!; trap 'kill $child' EXIT TERM; cat >/dev/null", "emulator"])
            .args(program)
            .args(address)
            .envs(variables.iter().copied())
            .env("GATEWAY_PORT", port.to_string())
            .env("BIND_HOST", "127.0.0.1")
            // The functions that it runs call back under this name.
            .env("MINISTACK_HOST", "127.0.0.1")
            .stdin(Stdio::piped())
            .stdout(output()?)
            .stderr(output()?)
            .spawn()
            .context("the emulator can't be started")?;
        let started = Instant::now();
        while !answers(port) {
            if let Some(status) = shell.try_wait()? {
                anyhow::bail!("the emulator ended with {status} before it answered");
            }
            if started.elapsed() > READY_WITHIN {
                let _ = shell.kill();
                anyhow::bail!("the emulator does not answer on port {port}");
            }
            thread::sleep(Duration::from_millis(50));
        }
        Ok(Self { shell, port })
    }

    /// The endpoint of all its services.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// What leads an SDK's client to it.
    pub fn config(&self) -> SdkConfig {
        aws_config_for(&self.url())
    }

    /// What leads an SDK's client to it, in another region.
    pub fn config_in(&self, region: &'static str) -> SdkConfig {
        self.config().into_builder().region(Region::from_static(region)).build()
    }

    /// The environment that leads any AWS client to it.
    pub fn environment(&self) -> [(&'static str, String); 7] {
        [
            ("AWS_ENDPOINT_URL", self.url()),
            ("AWS_REGION", "us-east-1".to_owned()),
            ("AWS_ACCESS_KEY_ID", "test".to_owned()),
            ("AWS_SECRET_ACCESS_KEY", "test".to_owned()),
            ("AWS_EC2_METADATA_DISABLED", "true".to_owned()),
            // Nothing of the user's own.
            ("AWS_CONFIG_FILE", "/dev/null".to_owned()),
            ("AWS_SHARED_CREDENTIALS_FILE", "/dev/null".to_owned()),
        ]
    }
}

impl Drop for Emulator {
    fn drop(&mut self) {
        // The end of its input tells the shell to end the emulator.
        drop(self.shell.stdin.take());
        let _ = self.shell.wait();
    }
}

/// What leads an SDK's client to `endpoint`, with credentials that open nothing.
pub fn aws_config_for(endpoint: &str) -> SdkConfig {
    let credentials = Credentials::new("test", "test", None, None, "emulator");
    SdkConfig::builder()
        .behavior_version(BehaviorVersion::v2026_01_12())
        .region(Region::from_static("us-east-1"))
        .endpoint_url(endpoint)
        .credentials_provider(SharedCredentialsProvider::new(credentials))
        .build()
}

/// The emulator's program, installed below the target folder.
fn install() -> anyhow::Result<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("the workspace has no folder")?;
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from);
    fs::create_dir_all(&target)?;
    // Tests run side by side, and one of them installs it.
    let turn = File::create(target.join(".emulator.lock"))?;
    turn.lock()?;
    let output = Command::new(root.join("scripts/python-tool.sh"))
        .arg("emulator")
        .env("CARGO_TARGET_DIR", &target)
        .stdin(Stdio::null())
        .output()
        .context("scripts/python-tool.sh can't be run")?;
    ensure!(
        output.status.success(),
        "the emulator can't be installed: {}",
        String::from_utf8_lossy(&output.stderr).trim()
    );
    let folder = String::from_utf8(output.stdout).context("a folder's name that is no text")?;
    Ok(Path::new(folder.trim()).join("ministack"))
}

/// A port that nobody listens on at the moment.
fn free_port() -> anyhow::Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}

fn answers(port: u16) -> bool {
    let ask = || -> std::io::Result<String> {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        stream.write_all(b"GET /_ministack/health HTTP/1.0\r\nHost: localhost\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    };
    ask().is_ok_and(|answer| answer.contains(" 200 "))
}
