//! HTTP/1.1 over a connection a request, with the headers given and no others: nothing
//! is redirected, unpacked or escaped behind the caller's back.

use std::io::{self, ErrorKind};
use std::time::Duration;

use tokio::io::{AsyncBufRead, AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// How long a mirror may send nothing.
const PATIENCE: Duration = Duration::from_mins(1);

/// Bytes of a line of a head, or of a chunk's length.
const LINE: u64 = 64 * 1024;

/// Pieces that a body is read in, so that a length is not believed before it came.
const PIECE: u64 = 256 * 1024;

/// Where a mirror is.
#[derive(Debug)]
pub(crate) struct Origin {
    address: String,
    /// Host and port.
    host: Option<String>,
    /// The path of the address, without a slash at the end.
    base: String,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Request<'a> {
    pub(crate) method: &'static str,
    /// Below the origin; sent as it is.
    pub(crate) path: &'a str,
    /// Beside those that each request has.
    pub(crate) headers: &'a [(&'static str, &'a str)],
}

#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Origin {
    pub(crate) fn new(address: &str) -> Self {
        let rest = address.strip_prefix("http://").map(|rest| rest.trim_end_matches('/'));
        let (host, base) = rest.map_or((None, ""), |rest| match rest.find('/') {
            Some(slash) => (Some(&rest[..slash]), &rest[slash..]),
            None => (Some(rest), ""),
        });
        Self { address: address.to_owned(), host: host.map(str::to_owned), base: base.to_owned() }
    }

    /// A path below the origin as it is sent.
    pub(crate) fn path(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }

    /// Sends a request and reads all of the answer.
    pub(crate) async fn exchange(&self, request: Request<'_>) -> io::Result<Reply> {
        let Some(host) = &self.host else {
            return Err(invalid(format!("{} is no http:// address", self.address)));
        };
        let address = if host.contains(':') { host.clone() } else { format!("{host}:80") };
        let stream = patient(TcpStream::connect(address)).await?;
        let mut stream = BufReader::new(stream);
        let head = self.head(host, request);
        patient(stream.get_mut().write_all(head.as_bytes())).await?;
        let (status, headers) = read_head(&mut stream).await?;
        let mut reply = Reply { status, headers, body: Vec::new() };
        if request.method != "HEAD" && status != 204 && status != 304 {
            reply.body = read_body(&mut stream, &reply).await?;
        }
        Ok(reply)
    }

    fn head(&self, host: &str, request: Request<'_>) -> String {
        let Request { method, path, headers } = request;
        let path = self.path(path);
        let mut head = format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: Homebrew/6.0.18\r\n");
        if !headers.iter().any(|(name, _)| *name == "Accept") {
            head += "Accept: */*\r\n";
        }
        for (name, value) in headers {
            head.extend([name, ": ", value, "\r\n"]);
        }
        head + "\r\n"
    }
}

impl Reply {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }
}

async fn read_head(from: &mut (impl AsyncBufRead + Unpin)) -> io::Result<(u16, Vec<(String, String)>)> {
    let first = read_line(from).await?;
    let mut words = first.split(' ');
    let status = match (words.next(), words.next().map(str::parse)) {
        (Some(version), Some(Ok(status))) if version.starts_with("HTTP/1.") => status,
        _ => return Err(invalid(format!("{first:?} is no status line"))),
    };
    let mut headers = Vec::new();
    loop {
        let line = read_line(from).await?;
        if line.is_empty() {
            return Ok((status, headers));
        }
        let Some((name, value)) = line.split_once(':') else {
            return Err(invalid(format!("{line:?} is no header")));
        };
        headers.push((name.to_owned(), value.trim().to_owned()));
    }
}

async fn read_body(from: &mut (impl AsyncBufRead + Unpin), reply: &Reply) -> io::Result<Vec<u8>> {
    let mut body = Vec::new();
    if reply.header("Transfer-Encoding").is_some_and(|coding| coding.eq_ignore_ascii_case("chunked")) {
        loop {
            let line = read_line(from).await?;
            let digits = line.split(';').next().unwrap_or_default().trim();
            let length = u64::from_str_radix(digits, 16);
            let length = length.map_err(|_| invalid(format!("{line:?} is no length of a chunk")))?;
            read_exactly(from, length, &mut body).await?;
            // After the last chunk a line ends the body; trailers are not read.
            read_line(from).await?;
            if length == 0 {
                return Ok(body);
            }
        }
    }
    match reply.header("Content-Length") {
        Some(length) => {
            let length = length.parse().map_err(|_| invalid(format!("{length:?} is no length")))?;
            read_exactly(from, length, &mut body).await?;
        }
        None => while patient((&mut *from).take(PIECE).read_to_end(&mut body)).await? > 0 {},
    }
    Ok(body)
}

async fn read_exactly(
    from: &mut (impl AsyncBufRead + Unpin),
    length: u64,
    body: &mut Vec<u8>,
) -> io::Result<()> {
    let mut left = length;
    while left > 0 {
        let read = patient((&mut *from).take(left.min(PIECE)).read_to_end(body)).await? as u64;
        if read == 0 {
            let text = format!("the body broke off {left} bytes before its end");
            return Err(io::Error::new(ErrorKind::UnexpectedEof, text));
        }
        left -= read;
    }
    Ok(())
}

/// A line without its end.
async fn read_line(from: &mut (impl AsyncBufRead + Unpin)) -> io::Result<String> {
    let mut line = String::new();
    patient((&mut *from).take(LINE).read_line(&mut line)).await?;
    match line.strip_suffix('\n') {
        Some(line) => Ok(line.strip_suffix('\r').unwrap_or(line).to_owned()),
        None => Err(io::Error::new(ErrorKind::UnexpectedEof, "the answer broke off in its head")),
    }
}

async fn patient<T>(step: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    timeout(PATIENCE, step).await.unwrap_or_else(|_| Err(ErrorKind::TimedOut.into()))
}

fn invalid(text: String) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &[u8]) -> io::Result<Reply> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut from = BufReader::new(bytes);
            let (status, headers) = read_head(&mut from).await?;
            let mut reply = Reply { status, headers, body: Vec::new() };
            reply.body = read_body(&mut from, &reply).await?;
            Ok(reply)
        })
    }

    #[test]
    fn a_body_ends_by_length_by_chunks_or_with_the_connection() {
        let body = |bytes: &[u8]| read(bytes).unwrap().body;
        assert_eq!(body(b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nabcdef"), b"abc");
        let chunks =
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\nA;x\r\n0123456789\r\n0\r\n\r\n";
        assert_eq!(body(chunks), b"ab0123456789");
        assert_eq!(body(b"HTTP/1.0 200 OK\r\n\r\nabc"), b"abc");
    }

    #[test]
    fn what_breaks_off_or_is_no_http_is_an_error() {
        let kind = |bytes: &[u8]| read(bytes).unwrap_err().kind();
        assert_eq!(kind(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nabc"), ErrorKind::UnexpectedEof);
        let chunks = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab";
        assert_eq!(kind(chunks), ErrorKind::UnexpectedEof);
        assert_eq!(kind(b"HTTP/1.1 200 OK\r\nContent-"), ErrorKind::UnexpectedEof);
        assert_eq!(kind(b"SSH-2.0-OpenSSH\r\n"), ErrorKind::InvalidData);
        assert_eq!(kind(b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n"), ErrorKind::InvalidData);
    }

    #[test]
    fn a_mirror_may_be_below_a_path() {
        let origin = Origin::new("http://example.com:80/team/");
        assert_eq!(
            (origin.host.as_deref(), origin.path("/api/x")),
            (Some("example.com:80"), "/team/api/x".into())
        );
        assert_eq!(Origin::new("http://example.com").path("/x"), "/x");
        assert_eq!(Origin::new("https://example.com").host, None);
    }
}
