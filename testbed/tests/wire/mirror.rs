//! A mirror as plain as can be: a folder behind a static server.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::response::Response;
use flate2::Compression;
use flate2::write::GzEncoder;
use jiff::Timestamp;
use jiff::fmt::rfc2822::DateTimePrinter;
use tempfile::TempDir;
use testbed::Upstream;
use testbed::brew::Brew;

pub(crate) struct Mirror {
    folder: TempDir,
    pub(crate) url: String,
    seen: Seen,
    /// Files written so far: the n-th is of the n-th second, so that no two dates are equal.
    written: AtomicU64,
}

/// Requests as they came: the method, the path and the headers.
type Seen = Arc<Mutex<Vec<(Method, String, HeaderMap)>>>;

impl Mirror {
    /// A mirror that holds everything that upstream lists, and what it doesn't.
    pub(crate) async fn of(upstream: &Upstream) -> Self {
        let mirror = Self::empty().await;
        mirror.fill(upstream);
        mirror
    }

    pub(crate) async fn empty() -> Self {
        let (folder, seen) = (TempDir::new().unwrap(), Seen::default());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let state = (folder.path().to_owned(), Arc::clone(&seen));
        let app = Router::new().fallback(serve).with_state(state);
        tokio::spawn(async move { axum::serve(listener, app).await });
        Self { folder, url, seen, written: AtomicU64::new(1) }
    }

    /// Puts in place what upstream has now.
    pub(crate) fn fill(&self, upstream: &Upstream) {
        for bottle in upstream.expected().iter().chain(&upstream.unlisted()) {
            self.put(&bottle.key, &upstream.content(&bottle.digest).unwrap());
            let index = format!("v2/homebrew/core/{}/manifests/{}", bottle.image, bottle.image_tag);
            self.put(&index, &upstream.index_bytes(&bottle.formula));
        }
        self.fill_api(upstream);
    }

    pub(crate) fn fill_api(&self, upstream: &Upstream) {
        for path in upstream.api_paths() {
            self.put(path.trim_start_matches('/'), &upstream.api_file(&path).unwrap());
        }
    }

    /// Puts in place the same bottles as flat files, and the indexes below the root.
    pub(crate) fn fill_flat(&self, upstream: &Upstream) {
        for bottle in upstream.expected_in("homebrew/core") {
            self.put(&bottle.file, &upstream.content(&bottle.digest).unwrap());
            let image = bottle.image.unwrap().replace("v2/homebrew/core/", "");
            let index = format!("{image}/manifests/{}", bottle.image_tag);
            self.put(&index, &upstream.index_bytes(&bottle.formula));
        }
    }

    pub(crate) fn put(&self, key: &str, bytes: &[u8]) {
        let file = self.file(key);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(&file, bytes).unwrap();
        let second = self.written.fetch_add(1, Ordering::Relaxed);
        let date = SystemTime::UNIX_EPOCH + Duration::from_secs(second);
        File::options().append(true).open(file).unwrap().set_modified(date).unwrap();
    }

    /// Writes another text in place of one that a file holds.
    pub(crate) fn alter(&self, key: &str, old: &str, new: &str) {
        let text = fs::read_to_string(self.file(key)).unwrap();
        assert!(text.contains(old), "{key} has no {old}");
        self.put(key, text.replace(old, new).as_bytes());
    }

    pub(crate) fn remove(&self, key: &str) {
        fs::remove_file(self.file(key)).unwrap();
    }

    fn file(&self, key: &str) -> PathBuf {
        self.folder.path().join(key)
    }

    /// The one file whose path begins and ends so.
    pub(crate) fn key(&self, folder: &str, end: &str) -> String {
        let names = fs::read_dir(self.file(folder)).unwrap().map(|entry| entry.unwrap().file_name());
        let mut names = names.map(|name| name.into_string().unwrap()).filter(|name| name.ends_with(end));
        let name = names.next().unwrap();
        assert_eq!(names.next(), None, "{folder}");
        format!("{folder}/{name}")
    }

    pub(crate) fn client(&self, tag: &str) -> Brew {
        Brew::new(&self.url, tag)
    }

    /// The requests so far, as `GET /path`.
    pub(crate) fn asked(&self) -> Vec<String> {
        self.seen.lock().unwrap().iter().map(|(method, path, _)| format!("{method} {path}")).collect()
    }

    /// A header of each request so far; empty where there was none.
    pub(crate) fn headers(&self, name: &header::HeaderName) -> Vec<String> {
        let seen = self.seen.lock().unwrap();
        let value = |headers: &HeaderMap| headers.get(name).map(|value| value.to_str().unwrap().to_owned());
        seen.iter().map(|(_, _, headers)| value(headers).unwrap_or_default()).collect()
    }

    pub(crate) fn forget(&self) {
        self.seen.lock().unwrap().clear();
    }
}

async fn serve(State((folder, seen)): State<(PathBuf, Seen)>, request: Request) -> Response {
    let (parts, _) = request.into_parts();
    let path = parts.uri.path().to_owned();
    seen.lock().unwrap().push((parts.method, path.clone(), parts.headers.clone()));
    let answer = Response::builder();
    let file = folder.join(path.trim_start_matches('/').replace("%40", "@").replace("%2B", "+"));
    let Ok(mut bytes) = fs::read(&file) else {
        return answer.status(StatusCode::NOT_FOUND).body(Body::empty()).unwrap();
    };
    if !path.starts_with("/api/") {
        return answer.body(bytes.into()).unwrap();
    }
    let modified = Timestamp::try_from(fs::metadata(&file).unwrap().modified().unwrap()).unwrap();
    let date = DateTimePrinter::new().timestamp_to_rfc9110_string(&modified).unwrap();
    let mut answer = answer.header(header::LAST_MODIFIED, &date);
    if parts.headers.get(header::IF_MODIFIED_SINCE).is_some_and(|since| *since == date) {
        return answer.status(StatusCode::NOT_MODIFIED).body(Body::empty()).unwrap();
    }
    if parts.headers.get(header::ACCEPT_ENCODING).is_some_and(|all| all.to_str().unwrap().contains("gzip")) {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(&bytes).unwrap();
        bytes = encoder.finish().unwrap();
        answer = answer.header(header::CONTENT_ENCODING, "gzip");
    }
    answer.body(bytes.into()).unwrap()
}
