//! One who answers for a played pod when its activity is asked for: a server on this machine, at an address that a
//! pod could have.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use axum::Router;
use axum::http::{HeaderMap, StatusCode, Uri};
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// An address of this machine that others could reach it at; none on a machine without a network.
pub fn own_address() -> Option<IpAddr> {
    // Nothing is sent: the kernel only says where from it would be.
    let socket = UdpSocket::bind("0.0.0.0:0").ok()?;
    socket.connect("198.51.100.1:9").ok()?;
    Some(socket.local_addr().ok()?.ip()).filter(|ip| !ip.is_loopback() && !ip.is_unspecified())
}

/// A question that was asked.
#[derive(Clone, Debug)]
pub struct Question {
    /// When.
    pub at: Instant,
    /// The path.
    pub path: String,
    /// The bearer token.
    pub token: String,
}

#[derive(Default)]
struct State {
    status: u16,
    body: String,
    asked: Vec<Question>,
}

/// The server. Dropping it ends it.
pub struct Answers {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
    task: JoinHandle<()>,
}

impl Answers {
    /// Listens on a free port; the answer is this until something else is said.
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

    /// The port.
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// From now on the answer is this.
    pub fn say(&self, body: Value) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        (state.status, state.body) = (200, body.to_string());
    }

    /// From now on there is none but this status.
    pub fn refuse(&self, status: u16) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        (state.status, state.body) = (status, String::new());
    }

    /// What was asked so far.
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
