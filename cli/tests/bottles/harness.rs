//! A mirror in a folder of its own, an upstream for it, and the program as a child.

use std::ffi::OsStr;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;
use testbed::{Spec, Upstream};

/// No child may run longer: a hang is a failure, not a wait.
const LONGEST_RUN: Duration = Duration::from_mins(2);

/// An upstream, and a folder to mirror it into.
pub(crate) struct Mirror {
    folder: TempDir,
    pub(crate) upstream: Upstream,
}

/// What a child left behind.
pub(crate) struct Output {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    pub(crate) took: Duration,
}

/// A child that may still run. It is killed when this is dropped.
pub(crate) struct Running {
    child: Child,
    stdout: Option<JoinHandle<String>>,
    stderr: Option<JoinHandle<String>>,
    started: Instant,
    limit: Duration,
}

pub(crate) fn start(spec: Spec) -> Upstream {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(Upstream::start(spec)).unwrap()
}

impl Mirror {
    pub(crate) fn of(spec: Spec) -> Self {
        let folder = tempfile::tempdir().unwrap();
        for name in ["here", "temporary"] {
            fs::create_dir(folder.path().join(name)).unwrap();
        }
        Self { folder, upstream: start(spec) }
    }

    /// The mirror's folder. Nothing makes it but the program.
    pub(crate) fn dir(&self) -> PathBuf {
        self.folder.path().join("mirror")
    }

    /// The current directory of every child.
    pub(crate) fn here(&self) -> PathBuf {
        self.folder.path().join("here")
    }

    /// Where every child puts its temporary files.
    pub(crate) fn temporary(&self) -> PathBuf {
        self.folder.path().join("temporary")
    }

    pub(crate) fn path(&self, key: &str) -> PathBuf {
        self.dir().join(key)
    }

    /// Runs a verb on the mirror's folder.
    pub(crate) fn run(&self, args: &[&str]) -> Output {
        self.start(args).wait()
    }

    /// A sync that must end with `code`; its summary.
    pub(crate) fn sync(&self, code: i32, args: &[&str]) -> Value {
        let mut all = vec!["sync", "--json"];
        all.extend_from_slice(args);
        self.run(&all).expect(code).json()
    }

    /// What a verb says with `--json`, whatever its exit code.
    pub(crate) fn json(&self, args: &[&str]) -> Value {
        let mut all = args.to_vec();
        all.push("--json");
        self.run(&all).json()
    }

    /// Starts a verb on the mirror's folder.
    pub(crate) fn start(&self, args: &[&str]) -> Running {
        let mut command = self.command(args);
        command.arg("--to").arg(self.dir());
        Running::start(command)
    }

    /// A verb with all it takes to reach upstream, but no folder.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = bare(args);
        command.current_dir(self.here()).env("TMPDIR", self.temporary());
        if matches!(args.first(), Some(&("sync" | "plan" | "import-hashes"))) {
            let cdn = self.upstream.cdn_url();
            command
                .args(["--api-url", &self.upstream.api_url()])
                .args(["--rewrite", &format!("https://ghcr.io={}", self.upstream.registry_url())])
                .args(["--allow-host", cdn.strip_prefix("http://").unwrap()])
                .args(["--requests-per-second", "10000"]);
        }
        command
    }
}

/// The program, without anything of the environment that would change what it does.
pub(crate) fn bare(args: &[impl AsRef<OsStr>]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bottles"));
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy().to_ascii_uppercase();
        if text.starts_with("BOTTLES_") || text.ends_with("_PROXY") {
            command.env_remove(name);
        }
    }
    command.args(args);
    command
}

impl Running {
    pub(crate) fn start(mut command: Command) -> Self {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        // Read at once: a child whose pipe is full would wait for ever.
        let stdout = Some(read(child.stdout.take().unwrap()));
        let stderr = Some(read(child.stderr.take().unwrap()));
        Self { child, stdout, stderr, started: Instant::now(), limit: LONGEST_RUN }
    }

    pub(crate) fn within(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// How it ended, if it has.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap()
    }

    /// SIGKILL; whether it was still running.
    pub(crate) fn kill(&mut self) -> bool {
        let was_running = self.ended().is_none();
        // One that ended in between can't be killed, and needn't be.
        let _ = self.child.kill();
        let status = self.child.wait().unwrap();
        // It may have ended by itself between the look and the signal.
        was_running && status.code().is_none()
    }

    pub(crate) fn terminate(&self) {
        let status = Command::new("kill").args(["-TERM", &self.id().to_string()]).status().unwrap();
        assert!(status.success(), "it was gone before it was told to stop");
    }

    /// Waits until `done` says so; panics if the child ends first.
    pub(crate) fn until(&mut self, what: &str, done: impl Fn() -> bool) {
        while !done() {
            if let Some(status) = self.ended() {
                panic!("it ended with {status} before {what}\n{}", self.take(-1));
            }
            self.check_limit(what);
            thread::sleep(Duration::from_millis(1));
        }
    }

    /// Its output, once it has ended by itself.
    pub(crate) fn wait(mut self) -> Output {
        let status = self.until_ended();
        let output = self.take(status.code().unwrap_or(-1));
        assert!(status.code().is_some(), "it was ended by a signal: {status}\n{output}");
        output
    }

    /// Waits for its end, by a signal or by itself.
    pub(crate) fn until_ended(&mut self) -> ExitStatus {
        loop {
            if let Some(status) = self.ended() {
                return status;
            }
            self.check_limit("its end");
            thread::sleep(Duration::from_millis(2));
        }
    }

    fn check_limit(&mut self, what: &str) {
        if self.started.elapsed() > self.limit {
            self.kill();
            let output = self.take(-1);
            panic!("{what} did not come within {:?}\n{output}", self.limit);
        }
    }

    fn take(&mut self, code: i32) -> Output {
        let text = |pipe: Option<JoinHandle<String>>| pipe.unwrap().join().unwrap();
        let (stdout, stderr) = (text(self.stdout.take()), text(self.stderr.take()));
        Output { code, stdout, stderr, took: self.started.elapsed() }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Output {
    /// Passes an output with this exit code; panics with all that was said otherwise.
    pub(crate) fn expect(self, code: i32) -> Self {
        assert!(self.code == code, "exit code {} in place of {code}\n{self}", self.code);
        self
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("no JSON: {error}\n{self}"))
    }
}

impl std::fmt::Display for Output {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "exit code {}\n--- stdout\n{}\n--- stderr\n{}", self.code, self.stdout, self.stderr)
    }
}

/// The text at a JSON pointer.
pub(crate) fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value
        .pointer(pointer)
        .and_then(Value::as_str)
        .unwrap_or_else(|| panic!("no text at {pointer}: {value:#}"))
}

/// The number at a JSON pointer.
pub(crate) fn number(value: &Value, pointer: &str) -> u64 {
    value
        .pointer(pointer)
        .and_then(Value::as_u64)
        .unwrap_or_else(|| panic!("no number at {pointer}: {value:#}"))
}

/// The list at a JSON pointer.
pub(crate) fn list<'a>(value: &'a Value, pointer: &str) -> &'a [Value] {
    value
        .pointer(pointer)
        .and_then(Value::as_array)
        .unwrap_or_else(|| panic!("no list at {pointer}: {value:#}"))
}

/// Writes a file into a folder; its path as text.
pub(crate) fn write(folder: &Path, name: &str, text: &str) -> String {
    let path = folder.join(name);
    fs::write(&path, text).unwrap();
    path.into_os_string().into_string().unwrap()
}

/// xorshift64*: tests that draw at random draw the same each time.
pub(crate) struct Draws(pub(crate) u64);

impl Draws {
    /// A number below `end`.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 16) % end
    }
}

fn read(mut pipe: impl Read + Send + 'static) -> JoinHandle<String> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        pipe.read_to_end(&mut bytes).unwrap();
        String::from_utf8_lossy(&bytes).into_owned()
    })
}
