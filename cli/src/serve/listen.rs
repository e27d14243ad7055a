//! Connections: accepted until told to stop, then left to end.

use std::net::SocketAddr;
use std::pin::pin;
use std::time::{Duration, Instant};

use axum::Extension;
use axum::Router;
use axum::extract::ConnectInfo;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::patient::Patient;

/// How long is waited for what, and for how many.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// The next request of a connection, to the end of its headers.
    pub(super) request: Duration,
    /// A client to take anything of its answer.
    pub(super) write: Duration,
    /// The end of requests under way, once told to stop.
    pub(super) grace: Duration,
    /// Connections at once. More of them wait to be accepted.
    pub(super) connections: usize,
}

/// After a connection could not be accepted, most likely for want of open files.
const PAUSE: Duration = Duration::from_millis(100);

/// Without trouble for so long, the next is told of again.
const QUIET: Duration = Duration::from_mins(1);

/// Answers requests until `stop` fires and those under way are over, or have had
/// their time.
pub(super) async fn serve(listener: TcpListener, router: Router, limits: Limits, stop: CancellationToken) {
    let mut connections = JoinSet::new();
    let mut trouble: Option<Instant> = None;
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            Some(_) = connections.join_next() => continue,
            accepted = listener.accept(), if connections.len() < limits.connections => accepted,
        };
        match accepted {
            Ok((stream, peer)) => {
                connections.spawn(answer(stream, peer, router.clone(), limits, stop.clone()));
            }
            Err(error) => {
                if trouble.is_none_or(|last| last.elapsed() > QUIET) {
                    tracing::warn!(%error, "connections can't be accepted: they wait until they can be");
                }
                trouble = Some(Instant::now());
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
    drop(listener);
    let over = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(limits.grace, over).await.is_err() {
        tracing::warn!(connections = connections.len(), "their time is over: the rest is broken off");
    }
    // Waited for, so that their lines are in the log.
    connections.shutdown().await;
}

/// The requests of one connection, one after the other.
async fn answer(
    stream: TcpStream,
    peer: SocketAddr,
    router: Router,
    limits: Limits,
    stop: CancellationToken,
) {
    // Small answers would wait for acknowledgements of earlier ones.
    let _ = stream.set_nodelay(true);
    let service = TowerToHyperService::new(router.layer(Extension(ConnectInfo(peer))));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.request)
        .serve_connection(TokioIo::new(Patient::new(stream, limits.write)), service);
    let mut connection = pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        // A client that left, fell silent, or speaks no HTTP.
        tracing::debug!(peer.address = %peer, %error, "a connection ended early");
    }
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use futures_util::stream;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    const ENOUGH: Duration = Duration::from_mins(1);
    const LIMITS: Limits = Limits { request: ENOUGH, write: ENOUGH, grace: ENOUGH, connections: 100 };

    struct Server {
        address: SocketAddr,
        stop: CancellationToken,
        task: tokio::task::JoinHandle<()>,
    }

    async fn start(limits: Limits) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        // A body without an end.
        let endless = || async {
            Body::from_stream(stream::repeat(Ok::<_, std::convert::Infallible>(vec![b'x'; 1000])))
        };
        let router = Router::new().fallback(endless);
        let task = tokio::spawn(serve(listener, router, limits, stop.clone()));
        Server { address, stop, task }
    }

    #[tokio::test]
    async fn a_client_that_asks_for_nothing_is_sent_away() {
        let server = start(Limits { request: Duration::from_millis(50), ..LIMITS }).await;
        for sent in ["", "GET / HTTP/1.1\r\nHost: x\r\n"] {
            let mut silent = TcpStream::connect(server.address).await.unwrap();
            silent.write_all(sent.as_bytes()).await.unwrap();
            let mut answer = Vec::new();
            let ended = tokio::time::timeout(ENOUGH, silent.read_to_end(&mut answer)).await;
            assert!(ended.is_ok(), "it is still waited for: {sent:?}");
        }
        server.stop.cancel();
        tokio::time::timeout(ENOUGH, server.task).await.unwrap().unwrap();
    }

    async fn ask(server: &Server) -> TcpStream {
        let mut client = TcpStream::connect(server.address).await.unwrap();
        client.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
        client
    }

    /// Whether its answer comes.
    async fn is_answered(client: &mut TcpStream) -> bool {
        let mut begun = [0; 5_000];
        tokio::time::timeout(ENOUGH, client.read_exact(&mut begun)).await.unwrap().is_ok()
    }

    #[tokio::test]
    async fn a_client_that_reads_nothing_is_dropped_and_makes_room_for_others() {
        let write = Duration::from_millis(300);
        let server = start(Limits { write, connections: 2, ..LIMITS }).await;
        let stalled = [ask(&server).await, ask(&server).await];
        // It gets its answer once one of them had its time.
        let mut waiting = ask(&server).await;
        let mut begun = [0; 1];
        assert!(tokio::time::timeout(write / 3, waiting.read_exact(&mut begun)).await.is_err());
        assert!(is_answered(&mut waiting).await);
        for mut stalled in stalled {
            let mut all = Vec::new();
            let ended = tokio::time::timeout(ENOUGH, stalled.read_to_end(&mut all)).await;
            assert!(ended.is_ok(), "it is still waited for");
        }
        server.stop.cancel();
        drop(waiting);
        tokio::time::timeout(ENOUGH, server.task).await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn what_does_not_end_is_broken_off_after_its_time() {
        let server = start(Limits { grace: Duration::from_millis(50), ..LIMITS }).await;
        let mut idle = TcpStream::connect(server.address).await.unwrap();
        let mut busy = ask(&server).await;
        assert!(is_answered(&mut busy).await);
        server.stop.cancel();
        tokio::time::timeout(ENOUGH, server.task).await.unwrap().unwrap();
        assert!(TcpStream::connect(server.address).await.is_err(), "it still listens");
        let mut nothing = Vec::new();
        idle.read_to_end(&mut nothing).await.unwrap();
        assert!(nothing.is_empty());
    }
}
