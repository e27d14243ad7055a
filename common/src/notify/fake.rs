//! A stand-in for Slack on loopback, and other aids of this module's tests.

use std::io::{self, Write};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use aws_config::SdkConfig;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;
use tracing::subscriber::DefaultGuard;

use super::Slack;

/// A server that remembers what it was asked. It ends with its runtime.
pub(super) struct Fake {
    address: SocketAddr,
    asked: Arc<Mutex<Vec<Asked>>>,
}

/// A request that came.
#[derive(Clone)]
pub(super) struct Asked {
    pub(super) path: String,
    pub(super) content_type: String,
    /// Null if it is no JSON.
    pub(super) body: Value,
    pub(super) at: Instant,
}

/// What to answer.
pub(super) enum Answer {
    /// This, byte for byte.
    Raw(String),
    /// Nothing, with the connection left open.
    Never,
}

impl Answer {
    /// `headers` are whole lines.
    pub(super) fn new(status: u16, headers: &str, body: &str) -> Self {
        let length = body.len();
        Self::Raw(format!(
            "HTTP/1.1 {status} Status\r\nContent-Length: {length}\r\nConnection: close\r\n{headers}\r\n{body}"
        ))
    }

    pub(super) fn ok() -> Self {
        Self::new(200, "", "ok")
    }
}

impl Fake {
    /// Starts one; `answer` gets a request's path, and how many came before it.
    pub(super) async fn start(answer: impl Fn(&str, usize) -> Answer + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (answer, log) = (Arc::new(answer), Arc::clone(&asked));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (answer, log) = (Arc::clone(&answer), Arc::clone(&log));
                tokio::spawn(async move { serve(stream, &*answer, &log).await });
            }
        });
        Self { address, asked }
    }

    pub(super) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub(super) fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }
}

async fn serve(
    stream: TcpStream,
    answer: &(impl Fn(&str, usize) -> Answer + Sync),
    log: &Mutex<Vec<Asked>>,
) -> Option<()> {
    let mut stream = BufReader::new(stream);
    let mut first = String::new();
    stream.read_line(&mut first).await.ok()?;
    let path = first.strip_prefix("POST ")?.split(' ').next()?.to_owned();
    let (mut length, mut content_type) = (0, String::new());
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).await.ok()?;
        match line.trim().split_once(": ") {
            Some((name, value)) if name.eq_ignore_ascii_case("content-length") => {
                length = value.parse().ok()?;
            }
            Some((name, value)) if name.eq_ignore_ascii_case("content-type") => {
                value.clone_into(&mut content_type);
            }
            Some(_) => {}
            None => break,
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.ok()?;
    let body = serde_json::from_slice(&body).unwrap_or_default();
    let before = {
        let mut log = log.lock().unwrap();
        log.push(Asked { path: path.clone(), content_type, body, at: Instant::now() });
        log.len() - 1
    };
    match answer(&path, before) {
        Answer::Raw(text) => stream.get_mut().write_all(text.as_bytes()).await.ok()?,
        Answer::Never => std::future::pending().await,
    }
    Some(())
}

/// A port that nobody listens on.
pub(super) async fn closed_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port()
}

/// Keeps `value` under `name` in Secrets Manager.
pub(super) async fn store_secret(config: &SdkConfig, name: &str, value: &str) -> Slack {
    let secrets = aws_sdk_secretsmanager::Client::new(config);
    secrets.create_secret().name(name).secret_string(value).send().await.unwrap();
    Slack::new(secrets, name.to_owned()).unwrap()
}

/// What this thread logs, at every level, until it is dropped.
pub(super) struct Logs {
    written: Buffer,
    _guard: DefaultGuard,
}

#[derive(Clone, Default)]
struct Buffer(Arc<Mutex<Vec<u8>>>);

impl Logs {
    pub(super) fn capture() -> Self {
        let written = Buffer::default();
        let writer = written.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_max_level(tracing::Level::TRACE)
            .with_ansi(false)
            .with_writer(move || writer.clone())
            .finish();
        Self { written, _guard: tracing::subscriber::set_default(subscriber) }
    }

    pub(super) fn text(&self) -> String {
        String::from_utf8_lossy(&self.written.0.lock().unwrap()).into_owned()
    }
}

impl Write for Buffer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
