//! Liveness and readiness, for the kubelet. The answers contain no secret, so every client gets one.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;
use tokio::sync::watch;
use tokio::time::Instant;

/// The interval of the beats.
const BEAT: Duration = Duration::from_secs(1);
/// A runtime without a beat for this time is not alive.
const ALIVE_WITHIN: Duration = Duration::from_secs(30);

/// The health of the process.
#[derive(Clone, Debug)]
pub struct Health {
    ready: Arc<AtomicBool>,
    beat: Arc<watch::Sender<Instant>>,
}

impl Default for Health {
    fn default() -> Self {
        Self { ready: Arc::default(), beat: Arc::new(watch::Sender::new(Instant::now())) }
    }
}

impl Health {
    /// Marks the process as ready: every watch has its first list, so decisions are possible.
    pub fn ready(&self) {
        self.ready.store(true, Ordering::Release);
    }

    /// Sends a beat again and again while the task polls this future. The future belongs into the task of the work,
    /// so that a deadlock or an endless loop of the work stops the beats.
    pub async fn beats(&self) -> std::convert::Infallible {
        loop {
            self.beat.send_replace(Instant::now());
            tokio::time::sleep(BEAT).await;
        }
    }

    /// Serves `/healthz` and `/readyz`.
    pub fn routes(&self) -> Router {
        let (alive, ready) = (self.clone(), self.clone());
        Router::new()
            .route("/healthz", get(healthz).with_state(alive))
            .route("/readyz", get(readyz).with_state(ready))
    }

    fn is_ready(&self) -> bool {
        self.ready.load(Ordering::Acquire)
    }

    fn is_alive(&self) -> bool {
        self.beat.borrow().elapsed() < ALIVE_WITHIN
    }
}

async fn healthz(State(health): State<Health>) -> (StatusCode, &'static str) {
    if health.is_alive() {
        (StatusCode::OK, "ok")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "the operator has not got on with its work for 30 s")
    }
}

async fn readyz(State(health): State<Health>) -> (StatusCode, &'static str) {
    if health.is_ready() {
        (StatusCode::OK, "ok")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "waiting for the first lists")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn process_is_alive_only_while_its_runtime_makes_progress() {
        let health = Health::default();
        let asked = async || healthz(State(health.clone())).await.0;
        let work = async {
            // The work that holds the thread progresses only when it is polled.
            tokio::time::sleep(ALIVE_WITHIN * 2).await;
            assert_eq!(asked().await, StatusCode::OK);
        };
        tokio::select! {
            never = health.beats() => match never {},
            () = work => {}
        }
        // No task polls the beats from here on.
        tokio::time::sleep(ALIVE_WITHIN).await;
        assert_eq!(asked().await, StatusCode::SERVICE_UNAVAILABLE);
    }

    #[tokio::test]
    async fn process_is_ready_after_it_is_marked_ready() {
        let health = Health::default();
        assert_eq!(readyz(State(health.clone())).await.0, StatusCode::SERVICE_UNAVAILABLE);
        health.ready();
        assert_eq!(readyz(State(health)).await.0, StatusCode::OK);
    }
}
