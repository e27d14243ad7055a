//! `bottles serve` as a child, and a client that sends what it is told to, byte for
//! byte.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// Nothing here takes longer: a hang is a failure, not a wait.
const LONGEST: Duration = Duration::from_mins(1);

/// A server that runs. It is killed when this is dropped.
pub(crate) struct Server {
    child: Child,
    said: TempDir,
    pub(crate) address: SocketAddr,
}

/// A connection, for one request after the other.
pub(crate) struct Connection {
    stream: BufReader<TcpStream>,
}

/// A response; its body as far as it came.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// By lower-case names.
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) body: Vec<u8>,
}

impl Server {
    /// Starts a `bottles serve …`, at a free port of loopback unless it says where.
    pub(crate) fn start(mut command: Command) -> Self {
        if command.get_args().all(|argument| argument != "--listen") {
            command.args(["--listen", "127.0.0.1:0"]);
        }
        let said = tempfile::tempdir().unwrap();
        let file = |name: &str| File::create(said.path().join(name)).unwrap();
        command.stdin(Stdio::null()).stdout(file("stdout")).stderr(file("stderr"));
        let mut server =
            Self { child: command.spawn().unwrap(), said, address: SocketAddr::from(([0, 0, 0, 0], 0)) };
        let line = wait_for("it listens", || {
            if let Some(status) = server.child.try_wait().unwrap() {
                panic!("it ended with {status}: {}", server.stderr());
            }
            server.stdout().lines().next().map(str::to_owned)
        });
        let (_, address) = line.rsplit_once(" on http://").unwrap_or_else(|| panic!("no URL: {line}"));
        server.address = address.parse().unwrap();
        // All addresses of this machine: loopback is one.
        if server.address.ip().is_unspecified() {
            server.address.set_ip([127, 0, 0, 1].into());
        }
        server
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn connect(&self) -> Connection {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(LONGEST)).unwrap();
        Connection { stream: BufReader::new(stream) }
    }

    pub(crate) fn get(&self, path: &str) -> Answer {
        self.ask("GET", path, &[])
    }

    /// A request in a connection of its own.
    pub(crate) fn ask(&self, method: &str, path: &str, headers: &[(&str, &str)]) -> Answer {
        self.connect().ask(method, path, headers)
    }

    /// Standard output, line by line, but whole lines alone.
    pub(crate) fn stdout(&self) -> String {
        let mut text = fs::read_to_string(self.said.path().join("stdout")).unwrap();
        text.truncate(text.rfind('\n').map_or(0, |end| end + 1));
        text
    }

    pub(crate) fn stderr(&self) -> String {
        fs::read_to_string(self.said.path().join("stderr")).unwrap()
    }

    /// The access log, once it has so many lines.
    pub(crate) fn log(&self, lines: usize) -> Vec<String> {
        wait_for("lines of the access log", || {
            let log: Vec<_> = self.stdout().lines().skip(1).map(str::to_owned).collect();
            (log.len() >= lines).then_some(log)
        })
    }

    pub(crate) fn terminate(&self) {
        let status = Command::new("kill").args(["-TERM", &self.id().to_string()]).status().unwrap();
        assert!(status.success(), "it was gone before it was told to stop");
    }

    /// Its end, which must come by itself.
    pub(crate) fn ended(&mut self) -> ExitStatus {
        wait_for("its end", || self.child.try_wait().unwrap())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Connection {
    pub(crate) fn ask(&mut self, method: &str, path: &str, headers: &[(&str, &str)]) -> Answer {
        self.send(method, path, headers);
        let mut answer = self.head();
        let has_none = method == "HEAD" || answer.status == 304;
        if !has_none {
            let length = answer.length();
            answer.body = self.read(length);
            assert_eq!(answer.body.len(), length, "{method} {path}: the body was broken off");
        }
        answer
    }

    pub(crate) fn send(&mut self, method: &str, path: &str, headers: &[(&str, &str)]) {
        let mut text = format!("{method} {path} HTTP/1.1\r\nHost: mirror.example.com\r\n");
        for (name, value) in headers {
            text.extend([name, ": ", value, "\r\n"]);
        }
        text.push_str("\r\n");
        self.stream.get_mut().write_all(text.as_bytes()).unwrap();
    }

    /// The next response up to its body.
    pub(crate) fn head(&mut self) -> Answer {
        let mut line = || {
            let mut line = String::new();
            self.stream.read_line(&mut line).unwrap();
            line.trim_end().to_owned()
        };
        let first = line();
        let status = first.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3)?.parse().ok());
        let status = status.unwrap_or_else(|| panic!("no response: {first:?}"));
        let mut headers = BTreeMap::new();
        loop {
            let line = line();
            let Some((name, value)) = line.split_once(": ") else { break };
            let before = headers.insert(name.to_ascii_lowercase(), value.to_owned());
            assert_eq!(before, None, "{name} comes twice");
        }
        Answer { status, headers, body: Vec::new() }
    }

    /// The next bytes of the body, or as many as there are before its end.
    pub(crate) fn read(&mut self, length: usize) -> Vec<u8> {
        let mut body = Vec::new();
        // One that is broken off ends with an error, or without.
        let _ = self.stream.by_ref().take(length as u64).read_to_end(&mut body);
        body
    }
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }

    pub(crate) fn length(&self) -> usize {
        self.header("content-length").unwrap_or_else(|| panic!("no length: {self:?}")).parse().unwrap()
    }

    pub(crate) fn expect(self, status: u16) -> Self {
        assert!(
            self.status == status,
            "{} in place of {status}: {:?} {}",
            self.status,
            self.headers,
            String::from_utf8_lossy(&self.body)
        );
        self
    }
}

pub(crate) fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(begun.elapsed() < LONGEST, "{what} did not come");
        thread::sleep(Duration::from_millis(5));
    }
}
