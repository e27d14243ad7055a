//! Connections: accepted until told to stop, then left to end.

use std::net::SocketAddr;
use std::pin::pin;
use std::time::Duration;

use axum::Extension;
use axum::Router;
use axum::extract::ConnectInfo;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// How long is waited for what.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// The next request of a connection, to the end of its headers.
    pub(super) request: Duration,
    /// The end of requests under way, once told to stop.
    pub(super) grace: Duration,
}

/// After a connection could not be accepted, most likely for want of open files.
const PAUSE: Duration = Duration::from_millis(100);

/// Answers requests until `stop` fires and those under way are over, or have had
/// their time.
pub(super) async fn serve(listener: TcpListener, router: Router, limits: Limits, stop: CancellationToken) {
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            Some(_) = connections.join_next() => continue,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => {
                connections.spawn(answer(stream, peer, router.clone(), limits.request, stop.clone()));
            }
            Err(error) => {
                tracing::warn!(%error, "a connection can't be accepted");
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
    patience: Duration,
    stop: CancellationToken,
) {
    // Small answers would wait for acknowledgements of earlier ones.
    let _ = stream.set_nodelay(true);
    let service = TowerToHyperService::new(router.layer(Extension(ConnectInfo(peer))));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(patience)
        .serve_connection(TokioIo::new(stream), service);
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

    struct Server {
        address: SocketAddr,
        stop: CancellationToken,
        task: tokio::task::JoinHandle<()>,
    }

    async fn start(request: Duration, grace: Duration) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        // A body without an end.
        let endless = || async {
            Body::from_stream(stream::repeat(Ok::<_, std::convert::Infallible>(vec![b'x'; 1000])))
        };
        let router = Router::new().fallback(endless);
        let task = tokio::spawn(serve(listener, router, Limits { request, grace }, stop.clone()));
        Server { address, stop, task }
    }

    #[tokio::test]
    async fn a_client_that_asks_for_nothing_is_sent_away() {
        let server = start(Duration::from_millis(50), ENOUGH).await;
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

    #[tokio::test]
    async fn what_does_not_end_is_broken_off_after_its_time() {
        let server = start(ENOUGH, Duration::from_millis(50)).await;
        let mut idle = TcpStream::connect(server.address).await.unwrap();
        let mut busy = TcpStream::connect(server.address).await.unwrap();
        busy.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
        let mut begun = [0; 5_000];
        busy.read_exact(&mut begun).await.unwrap();
        server.stop.cancel();
        tokio::time::timeout(ENOUGH, server.task).await.unwrap().unwrap();
        assert!(TcpStream::connect(server.address).await.is_err(), "it still listens");
        let mut nothing = Vec::new();
        idle.read_to_end(&mut nothing).await.unwrap();
        assert!(nothing.is_empty());
    }
}
