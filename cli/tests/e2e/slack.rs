//! A stand-in for Slack's incoming webhook.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use axum::extract::State;
use axum::routing::post;

type Heard = Arc<Mutex<Vec<String>>>;

pub(crate) struct Slack {
    heard: Heard,
    address: SocketAddr,
}

impl Slack {
    pub(crate) async fn start() -> Self {
        let heard = Heard::default();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let answer = |State(heard): State<Heard>, body: String| async move {
            heard.lock().unwrap().push(body);
            "ok"
        };
        let router =
            axum::Router::new().route("/services/secret", post(answer)).with_state(Arc::clone(&heard));
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { heard, address }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}/services/secret", self.address)
    }

    pub(crate) fn heard(&self) -> Vec<String> {
        self.heard.lock().unwrap().clone()
    }

    pub(crate) fn said(&self, words: &str) -> bool {
        self.heard().iter().any(|body| body.contains(words))
    }
}
