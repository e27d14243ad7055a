//! An HTTP client of a few lines that hides nothing: one connection a request, no
//! redirects, and bodies that end early are handed over as they are.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use sha2::{Digest as _, Sha256};
use testbed::{ExpectedBottle, Spec, Upstream};

pub(crate) const INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub(crate) const ANONYMOUS: &str = "Bearer QQ==";

/// Longer than any answer takes, shorter than the stalls that tests set.
const PATIENCE: Duration = Duration::from_millis(1500);

#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    /// Why reading ended, if not at the end of the stream.
    pub(crate) error: Option<ErrorKind>,
}

impl Reply {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }

    pub(crate) fn length(&self) -> u64 {
        self.header("content-length").unwrap().parse().unwrap()
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap()
    }
}

pub(crate) fn start(spec: Spec) -> Upstream {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(Upstream::start(spec)).unwrap()
}

/// Sends a request to an address and reads until the server closes.
pub(crate) fn send(method: &str, url: &str, headers: &[(&str, &str)], body: &str) -> Reply {
    let rest = url.strip_prefix("http://").unwrap();
    let (host, path) = rest.split_at(rest.find('/').unwrap());
    let mut stream = TcpStream::connect(host).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut request = format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n");
    for (name, value) in headers {
        request.extend([*name, ": ", *value, "\r\n"]);
    }
    let length = body.len().to_string();
    request.extend(["Content-Length: ", &length, "\r\n\r\n", body]);
    stream.write_all(request.as_bytes()).unwrap();
    let (mut bytes, mut buffer, mut error) = (Vec::new(), vec![0; 65536], None);
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => break,
            Ok(read) => bytes.extend_from_slice(&buffer[..read]),
            Err(failed) => {
                error = Some(failed.kind());
                break;
            }
        }
    }
    parse(&bytes, error)
}

fn parse(bytes: &[u8], error: Option<ErrorKind>) -> Reply {
    let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") else {
        return Reply { status: 0, headers: Vec::new(), body: bytes.to_vec(), error };
    };
    let head = std::str::from_utf8(&bytes[..end]).unwrap();
    let (first, lines) = head.split_once("\r\n").unwrap();
    let pair = |line: &str| {
        let (name, value) = line.split_once(": ").unwrap();
        (name.to_owned(), value.to_owned())
    };
    Reply {
        status: first.split(' ').nth(1).unwrap().parse().unwrap(),
        headers: lines.split("\r\n").map(pair).collect(),
        body: bytes[end + 4..].to_vec(),
        error,
    }
}

pub(crate) fn get(url: &str, headers: &[(&str, &str)]) -> Reply {
    send("GET", url, headers, "")
}

/// The address of a bottle in the registry.
pub(crate) fn blob_url(upstream: &Upstream, bottle: &ExpectedBottle) -> String {
    format!("{}/{}", upstream.registry_url(), bottle.key)
}

/// The address that the registry redirects to for a bottle.
pub(crate) fn signed_url(upstream: &Upstream, bottle: &ExpectedBottle) -> String {
    let reply = get(&blob_url(upstream, bottle), &[("Authorization", ANONYMOUS)]);
    assert_eq!(reply.status, 307);
    reply.header("location").unwrap().to_owned()
}

/// A bottle from the CDN, with these headers.
pub(crate) fn fetch(upstream: &Upstream, bottle: &ExpectedBottle, headers: &[(&str, &str)]) -> Reply {
    get(&signed_url(upstream, bottle), headers)
}

pub(crate) fn index_url(upstream: &Upstream, bottle: &ExpectedBottle) -> String {
    let ExpectedBottle { image, image_tag, .. } = bottle;
    format!("{}/v2/homebrew/core/{image}/manifests/{image_tag}", upstream.registry_url())
}

/// A formula's index, as a client should ask for it.
pub(crate) fn index(upstream: &Upstream, bottle: &ExpectedBottle) -> Reply {
    get(&index_url(upstream, bottle), &[("Accept", INDEX), ("Authorization", ANONYMOUS)])
}

pub(crate) fn sha256(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}
