//! What was asked of the servers: the requests in the order they came.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use serde::Serialize;

use crate::glob::matches;
use crate::sync::lock;

/// Violations kept at most, so that a misbehaving client can't fill the memory.
const VIOLATIONS: usize = 1000;

/// One of the four servers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Server {
    /// Stands for `formulae.brew.sh`.
    Api,
    /// Stands for `ghcr.io`.
    Registry,
    /// Stands for `pkg-containers.githubusercontent.com`.
    Cdn,
    /// The plain host of flat files: see [`TapRoot::Files`](crate::TapRoot::Files).
    Files,
}

/// One request, as far as it got by the time of asking.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The server that got it.
    pub server: Server,
    /// `GET`, `HEAD` and so on.
    pub method: String,
    /// The path without the query, as it was sent.
    pub path: String,
    /// The value of the `Range` header.
    pub range: Option<String>,
    /// True if there was an `Authorization` header.
    pub had_authorization: bool,
    /// The status of the answer; 0 if none was sent, or not yet.
    pub status: u16,
    /// When it came.
    pub at: Instant,
    /// Bytes of the body handed to the connection so far.
    pub bytes_sent: u64,
}

/// The requests to all four servers. A clone is another handle to the same log.
#[derive(Clone, Debug, Default)]
pub struct RequestLog {
    inner: Arc<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    records: Mutex<Vec<Record>>,
    violations: Mutex<Vec<String>>,
    off: AtomicBool,
    in_flight: AtomicUsize,
    most_in_flight: AtomicUsize,
}

#[derive(Debug)]
struct Record {
    entry: Entry,
    progress: Arc<Progress>,
}

#[derive(Debug, Default)]
struct Progress {
    status: AtomicU16,
    bytes_sent: AtomicU64,
}

/// A request being served. Dropping it ends the serving.
#[derive(Debug)]
pub(crate) struct Ticket {
    log: RequestLog,
    progress: Arc<Progress>,
    finished: bool,
}

impl RequestLog {
    /// The requests since the start or the last [`clear`](Self::clear), oldest first.
    pub fn entries(&self) -> Vec<Entry> {
        lock(&self.inner.records).iter().map(Record::entry).collect()
    }

    /// The number of requests whose server and path match, such as
    /// `registry:/v2/*/manifests/*`; see [`Faults::set`](crate::Faults::set).
    pub fn count(&self, pattern: &str) -> usize {
        let records = lock(&self.inner.records);
        records.iter().filter(|Record { entry, .. }| matches(pattern, &entry.target())).count()
    }

    /// Forgets the requests and the violations, and starts
    /// [`max_in_flight`](Self::max_in_flight) anew.
    pub fn clear(&self) {
        lock(&self.inner.records).clear();
        lock(&self.inner.violations).clear();
        let now = self.inner.in_flight.load(Ordering::Relaxed);
        self.inner.most_in_flight.store(now, Ordering::Relaxed);
    }

    /// What no client may do, a line for each time: an `Authorization` header sent to
    /// the CDN. Kept also while recording is off, the first 1000 of them.
    pub fn violations(&self) -> Vec<String> {
        lock(&self.inner.violations).clone()
    }

    /// The highest number of requests served at one time. A request counts from its
    /// arrival until the last byte of its body is handed to the connection.
    pub fn max_in_flight(&self) -> usize {
        self.inner.most_in_flight.load(Ordering::Relaxed)
    }

    /// Whether requests are remembered; they are from the start. Off, the log needs no
    /// memory; what is in it stays.
    pub fn set_recording(&self, on: bool) {
        self.inner.off.store(!on, Ordering::Relaxed);
    }

    /// Notes a request that has come.
    pub(crate) fn begin(&self, entry: impl FnOnce() -> Entry) -> Ticket {
        let progress = Arc::new(Progress::default());
        if !self.inner.off.load(Ordering::Relaxed) {
            let record = Record { entry: entry(), progress: Arc::clone(&progress) };
            lock(&self.inner.records).push(record);
        }
        let now = self.inner.in_flight.fetch_add(1, Ordering::Relaxed) + 1;
        self.inner.most_in_flight.fetch_max(now, Ordering::Relaxed);
        Ticket { log: self.clone(), progress, finished: false }
    }

    pub(crate) fn violation(&self, line: String) {
        let mut violations = lock(&self.inner.violations);
        if violations.len() < VIOLATIONS {
            violations.push(line);
        }
    }
}

impl Entry {
    /// The server and the path, as patterns see them.
    pub fn target(&self) -> String {
        format!("{}:{}", self.server, self.path)
    }
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Api => "api",
            Self::Registry => "registry",
            Self::Cdn => "cdn",
            Self::Files => "files",
        })
    }
}

impl Record {
    fn entry(&self) -> Entry {
        Entry {
            status: self.progress.status.load(Ordering::Relaxed),
            bytes_sent: self.progress.bytes_sent.load(Ordering::Relaxed),
            ..self.entry.clone()
        }
    }
}

impl Ticket {
    pub(crate) fn status(&self, code: u16) {
        self.progress.status.store(code, Ordering::Relaxed);
    }

    pub(crate) fn sent(&self, bytes: u64) {
        self.progress.bytes_sent.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Ends the serving. To be called with the last bytes: once the client has them
    /// its next request may come before this ticket is dropped.
    pub(crate) fn finish(&mut self) {
        if !self.finished {
            self.finished = true;
            self.log.inner.in_flight.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.finish();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(path: &str) -> Entry {
        Entry {
            server: Server::Cdn,
            method: "GET".into(),
            path: path.into(),
            range: None,
            had_authorization: false,
            status: 0,
            at: Instant::now(),
            bytes_sent: 0,
        }
    }

    #[test]
    fn an_entry_shows_how_far_the_answer_got() {
        let log = RequestLog::default();
        let ticket = log.begin(|| request("/a"));
        assert_eq!(log.entries()[0].status, 0);
        ticket.status(200);
        ticket.sent(10);
        ticket.sent(5);
        assert_eq!((log.entries()[0].status, log.entries()[0].bytes_sent), (200, 15));
        assert_eq!((log.count("cdn:/a"), log.count("api:*")), (1, 0));
    }

    #[test]
    fn the_most_in_flight_is_of_those_not_finished() {
        let log = RequestLog::default();
        let mut first = log.begin(|| request("/a"));
        first.finish();
        let second = log.begin(|| request("/b"));
        assert_eq!(log.max_in_flight(), 1);
        drop(log.begin(|| request("/c")));
        assert_eq!(log.max_in_flight(), 2);
        log.clear();
        assert_eq!(log.max_in_flight(), 1);
        drop((first, second));
        log.clear();
        assert_eq!(log.max_in_flight(), 0);
    }

    #[test]
    fn nothing_is_kept_while_recording_is_off() {
        let log = RequestLog::default();
        log.set_recording(false);
        drop(log.begin(|| request("/a")));
        log.violation("x".into());
        assert_eq!((log.entries().len(), log.violations().len()), (0, 1));
    }
}
