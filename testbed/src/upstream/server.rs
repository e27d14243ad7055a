//! What the four servers do alike: connections, the log, and the faults that come
//! before an answer.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::connect_info::Connected;
use axum::extract::{ConnectInfo, Request, State};
use axum::http::{HeaderMap, Method, header};
use axum::response::Response;
use axum::serve::IncomingStream;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};

use super::answer::Answer;
use super::state::Shared;
use super::{api, cdn, files, registry};
use crate::fault::{Fault, Faults, Stage};
use crate::log::{Entry, Server};

/// Serves one of the four until the task is dropped.
pub(crate) async fn serve(listener: TcpListener, server: Server, shared: Arc<Shared>) {
    let app = Router::new().fallback(handle).with_state((server, shared));
    let app = app.into_make_service_with_connect_info::<Breaker>();
    // It retries failed accepts by itself and never ends.
    let _ = axum::serve(Listener(listener), app).await;
}

/// A request as the servers see it.
#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) method: Method,
    pub(crate) path: String,
    pub(crate) query: String,
    pub(crate) headers: HeaderMap,
    /// The server and the path, for faults.
    pub(crate) target: String,
}

impl Call {
    pub(crate) fn header(&self, name: header::HeaderName) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// The value of a parameter of the query, as it was sent.
    pub(crate) fn parameter(&self, name: &str) -> Option<&str> {
        let mut pairs = self.query.split('&').filter_map(|pair| pair.split_once('='));
        pairs.find(|(key, _)| *key == name).map(|(_, value)| value)
    }

    /// The fault of the body about to be sent; a HEAD has none.
    pub(crate) fn body_fault(&self, faults: &Faults, ranged: bool, index: bool) -> Option<Fault> {
        if self.method == Method::HEAD {
            return None;
        }
        faults.take(&self.target, Stage::Body { ranged, index })
    }

    pub(crate) fn is_read(&self) -> bool {
        self.method == Method::GET || self.method == Method::HEAD
    }
}

async fn handle(
    State((server, shared)): State<(Server, Arc<Shared>)>,
    ConnectInfo(breaker): ConnectInfo<Breaker>,
    request: Request,
) -> Response {
    let (parts, body) = request.into_parts();
    let path = parts.uri.path().to_owned();
    if server == Server::Api && path.starts_with(api::CONTROL) {
        return api::control(&shared, &parts.method, &path, body).await;
    }
    let call = Call {
        target: format!("{server}:{path}"),
        path,
        query: parts.uri.query().unwrap_or_default().to_owned(),
        method: parts.method,
        headers: parts.headers,
    };
    let ticket = shared.log.begin(|| Entry {
        server,
        method: call.method.to_string(),
        path: call.path.clone(),
        range: call.header(header::RANGE).map(str::to_owned),
        had_authorization: call.headers.contains_key(header::AUTHORIZATION),
        status: 0,
        at: Instant::now(),
        bytes_sent: 0,
    });
    shared.turn.pass();
    let delay = shared.faults.delay(&call.target);
    if !delay.is_zero() {
        tokio::time::sleep(delay).await;
    }
    let answer = match shared.faults.take(&call.target, Stage::Arrival) {
        Some(Fault::Status { code, retry_after }) => Answer::failure(code, retry_after.as_deref()),
        Some(Fault::RedirectTo(location)) => Answer::redirect(&location),
        Some(Fault::Reset) => {
            breaker.trip();
            // Never reaches the wire: the tripped connection refuses to write it.
            return Response::default();
        }
        _ if !call.is_read() => Answer::failure(405, None),
        _ => match server {
            Server::Api => api::answer(&shared, &call).await,
            Server::Registry => registry::answer(&shared, &call),
            Server::Cdn => cdn::answer(&shared, &call),
            Server::Files => files::answer(&shared, &call),
        },
    };
    shared.answered(&call.target);
    answer.into_response(&call, ticket)
}

/// Breaks the connection that it belongs to.
#[derive(Clone, Debug)]
struct Breaker(Arc<AtomicBool>);

impl Breaker {
    /// The connection fails at its next write, and is closed with a reset.
    fn trip(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    fn check(&self) -> io::Result<()> {
        if self.0.load(Ordering::Relaxed) {
            return Err(io::ErrorKind::ConnectionReset.into());
        }
        Ok(())
    }
}

impl Connected<IncomingStream<'_, Listener>> for Breaker {
    fn connect_info(stream: IncomingStream<'_, Listener>) -> Self {
        stream.io().breaker.clone()
    }
}

struct Listener(TcpListener);

impl axum::serve::Listener for Listener {
    type Io = Connection;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Connection, SocketAddr) {
        loop {
            match self.0.accept().await {
                Ok((stream, address)) => {
                    // Small answers would wait for acknowledgements of earlier ones.
                    let _ = stream.set_nodelay(true);
                    let breaker = Breaker(Arc::new(AtomicBool::new(false)));
                    return (Connection { stream, breaker }, address);
                }
                // Most likely too many open files: some will be closed.
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }
}

struct Connection {
    stream: TcpStream,
    breaker: Breaker,
}

impl Drop for Connection {
    fn drop(&mut self) {
        if self.breaker.check().is_err() {
            // Closing a socket that doesn't linger sends RST in place of FIN.
            let _ = self.stream.set_zero_linger();
        }
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.breaker.check()?;
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.breaker.check()?;
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
