//! A server that answers activity probes for a played pod, at an address of this machine that a pod could have.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use axum::Router;
use axum::http::{HeaderMap, StatusCode, Uri};
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// An external address of this machine; `None` on a machine without a network.
pub fn own_address() -> Option<IpAddr> {
    // The socket sends nothing: the kernel only selects the source address.
    let socket = UdpSocket::bind("0.0.0.0:0").ok()?;
    socket.connect("198.51.100.1:9").ok()?;
    Some(socket.local_addr().ok()?.ip()).filter(|ip| !ip.is_loopback() && !ip.is_unspecified())
}

/// A probe that the server received.
#[derive(Clone, Debug)]
pub struct Question {
    pub at: Instant,
    pub path: String,
    pub token: String,
}

#[derive(Default)]
struct State {
    status: u16,
    body: String,
    asked: Vec<Question>,
}

/// The server. The drop of the value ends it.
pub struct Answers {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
    task: JoinHandle<()>,
}

impl Answers {
    /// Listens on a free port, with this initial answer.
    pub async fn with(address: IpAddr, body: Value) -> Self {
        let listener = TcpListener::bind((address, 0)).await.expect("a free port");
        let address = listener.local_addr().unwrap();
        let state = Arc::new(Mutex::new(State { status: 200, body: body.to_string(), asked: Vec::new() }));
        let shared = state.clone();
        let router = Router::new()
            .fallback(move |uri: Uri, head: HeaderMap| std::future::ready(answer(&shared, &uri, &head)));
        let task = tokio::spawn(async move {
            let _ = axum::serve(listener, router).await;
        });
        Self { address, state, task }
    }

    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// Sets the answer.
    pub fn say(&self, body: Value) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        (state.status, state.body) = (200, body.to_string());
    }

    /// Sets an error status as the answer.
    pub fn refuse(&self, status: u16) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        (state.status, state.body) = (status, String::new());
    }

    /// The probes so far.
    pub fn asked(&self) -> Vec<Question> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).asked.clone()
    }
}

impl Drop for Answers {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn answer(state: &Mutex<State>, uri: &Uri, head: &HeaderMap) -> (StatusCode, String) {
    let token = head.get("authorization").and_then(|value| value.to_str().ok()).unwrap_or_default();
    let token = token.trim_start_matches("Bearer ").to_owned();
    let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
    state.asked.push(Question { at: Instant::now(), path: uri.path().to_owned(), token });
    (StatusCode::from_u16(state.status).unwrap(), state.body.clone())
}
