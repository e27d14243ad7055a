//! A stand-in for the ECS container agent's task protection.

use std::sync::{Arc, Mutex};

use axum::Json;
use axum::extract::State;
use axum::routing::put;
use serde_json::{Value, json};

type Asked = Arc<Mutex<Vec<bool>>>;

pub(crate) struct Agent {
    asked: Asked,
    address: std::net::SocketAddr,
}

impl Agent {
    pub(crate) async fn start() -> Self {
        let asked = Asked::default();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = axum::Router::new()
            .route("/api/task/task-protection/v1/state", put(answer))
            .with_state(Arc::clone(&asked));
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { asked, address }
    }

    pub(crate) fn uri(&self) -> String {
        format!("http://{}/api/task", self.address)
    }

    /// What was asked for: protection, or its end.
    pub(crate) fn asked(&self) -> Vec<bool> {
        self.asked.lock().unwrap().clone()
    }
}

async fn answer(State(asked): State<Asked>, Json(body): Json<Value>) -> Json<Value> {
    let enabled = body["ProtectionEnabled"].as_bool().unwrap();
    // The agent refuses anything else than one minute to two days.
    if enabled && !(1..=2880).contains(&body["ExpiresInMinutes"].as_u64().unwrap()) {
        return Json(json!({ "error": { "Code": "InvalidParameterException" } }));
    }
    asked.lock().unwrap().push(enabled);
    Json(json!({ "protection": { "ProtectionEnabled": enabled, "TaskArn": "arn" } }))
}
