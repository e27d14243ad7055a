//! The access log, in the Common Log Format: one line a request, when it is over.

use std::fmt::Write as _;
use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::Request;
use axum::http::StatusCode;
use jiff::Timestamp;

use crate::output;

/// Where the lines go. Cheap to clone.
#[derive(Clone)]
pub(crate) struct AccessLog(Arc<dyn Fn(&str) + Send + Sync>);

/// A request that goes on; its line is written when this is dropped.
pub(super) struct Entry {
    log: AccessLog,
    /// Up to the status.
    line: String,
    status: Option<StatusCode>,
    bytes: u64,
}

impl AccessLog {
    /// Lines of standard output.
    pub(crate) fn stdout() -> Self {
        Self::to(|line| output::line(line))
    }

    /// No log.
    pub(crate) fn none() -> Self {
        Self::to(|_| {})
    }

    pub(crate) fn to(write: impl Fn(&str) + Send + Sync + 'static) -> Self {
        Self(Arc::new(write))
    }

    /// Of a request the method, the path and the version are written: neither its
    /// query nor the value of any header.
    pub(super) fn begin(&self, peer: IpAddr, request: &Request) -> Entry {
        let peer = peer.to_canonical();
        let now = Timestamp::now().strftime("%d/%b/%Y:%H:%M:%S +0000");
        let method = escaped(request.method().as_str());
        let path = escaped(request.uri().path());
        let line = format!("{peer} - - [{now}] \"{method} {path} {:?}\"", request.version());
        Entry { log: self.clone(), line, status: None, bytes: 0 }
    }
}

impl Entry {
    pub(super) fn answered(&mut self, status: StatusCode) {
        self.status = Some(status);
    }

    /// So many more bytes of the body were given to the connection.
    pub(super) fn sent(&mut self, bytes: usize) {
        self.bytes += bytes as u64;
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        // A client that left before there was an answer was sent none.
        let status = self.status.map_or_else(|| "-".to_owned(), |status| status.as_str().to_owned());
        let bytes = if self.bytes == 0 { "-".to_owned() } else { self.bytes.to_string() };
        self.log.0(&format!("{} {status} {bytes}", self.line));
    }
}

/// What can't be misread in a line, or change a terminal.
fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'"' | b'\\' => safe.extend(['\\', char::from(byte)]),
            b' '..=b'~' => safe.push(char::from(byte)),
            // Writing to a text can't fail.
            _ => drop(write!(safe, "\\x{byte:02x}")),
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use axum::body::Body;

    use super::*;

    #[test]
    fn a_line_is_written_when_the_request_is_over_and_holds_no_secret() {
        let lines = Arc::new(Mutex::new(Vec::new()));
        let log = AccessLog::to({
            let lines = Arc::clone(&lines);
            move |line| lines.lock().unwrap().push(line.to_owned())
        });
        let request = Request::builder()
            .uri("http://user:pass@mirror.lan/api/x?token=hidden")
            .header("authorization", "Bearer hidden")
            .body(Body::empty())
            .unwrap();
        let mut entry = log.begin("::ffff:192.0.2.7".parse().unwrap(), &request);
        entry.answered(StatusCode::OK);
        entry.sent(3);
        entry.sent(4);
        assert!(lines.lock().unwrap().is_empty());
        drop(entry);
        drop(log.begin("2001:db8::1".parse().unwrap(), &request));
        let lines = lines.lock().unwrap();
        let (first, rest) = lines[0].split_once('[').unwrap();
        let (time, rest) = rest.split_once("] ").unwrap();
        assert_eq!((first, rest), ("192.0.2.7 - - ", "\"GET /api/x HTTP/1.1\" 200 7"));
        assert!(jiff::Zoned::strptime("%d/%b/%Y:%H:%M:%S %z", time).is_ok(), "{time}");
        assert!(
            lines[1].starts_with("2001:db8::1 - - [") && lines[1].ends_with("\"GET /api/x HTTP/1.1\" - -")
        );
        assert!(lines.iter().all(|line| !line.contains("hidden") && !line.contains("pass")), "{lines:?}");
    }

    #[test]
    fn what_would_change_a_line_or_a_terminal_is_escaped() {
        assert_eq!(escaped("/a\x1b[2J\"\\\n\u{9b}é"), "/a\\x1b[2J\\\"\\\\\\x0a\\xc2\\x9b\\xc3\\xa9");
    }
}
