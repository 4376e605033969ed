//! The metrics over HTTP.
//!
//! Invariant kept here: a client reads the metrics only with a token that [`Admits`] accepts, unless the operator is
//! configured to serve the metrics to every client.

use std::pin::Pin;
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;

use super::Metrics;

/// The content type for Prometheus.
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
/// The path of the metrics.
const PATH: &str = "/metrics";

/// Whether a client may read the metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// The client may read the metrics.
    Allowed,
    /// The token is not valid.
    Unauthenticated,
    /// The client is authenticated, but not authorized.
    Forbidden,
    /// The API server did not answer.
    Unknown,
}

/// Decides whether the user of a token may read a path.
pub type Admits =
    Arc<dyn Fn(String, &'static str) -> Pin<Box<dyn Future<Output = Admission> + Send>> + Send + Sync>;

/// Serves `/metrics` to the clients that `admits` accepts; `None`: to every client.
pub fn metrics_routes(metrics: Arc<Metrics>, admits: Option<Admits>) -> Router {
    Router::new().route(PATH, get(scrape).with_state((metrics, admits)))
}

async fn scrape(
    State((metrics, admits)): State<(Arc<Metrics>, Option<Admits>)>,
    headers: HeaderMap,
) -> Response {
    if let Some(admits) = admits {
        let token =
            headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "));
        let admission = match token {
            Some(token) => admits(token.to_owned(), PATH).await,
            None => Admission::Unauthenticated,
        };
        let (status, text) = match admission {
            Admission::Allowed => return numbers(&metrics),
            Admission::Unauthenticated => {
                (StatusCode::UNAUTHORIZED, "send a valid token: Authorization: Bearer <token>")
            }
            Admission::Forbidden => (StatusCode::FORBIDDEN, "the user of this token may not get /metrics"),
            Admission::Unknown => (StatusCode::SERVICE_UNAVAILABLE, "the token could not be reviewed"),
        };
        return (status, text).into_response();
    }
    numbers(&metrics)
}

/// The response with all metrics.
fn numbers(metrics: &Metrics) -> Response {
    match metrics.encode() {
        Ok(text) => ([(header::CONTENT_TYPE, OPEN_METRICS)], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn scraped(admits: Option<Admits>, authorization: Option<&str>) -> Response {
        let mut headers = HeaderMap::new();
        if let Some(value) = authorization {
            headers.insert(header::AUTHORIZATION, value.parse().unwrap());
        }
        scrape(State((Arc::default(), admits)), headers).await
    }

    #[tokio::test]
    async fn scrape_has_the_open_metrics_content_type() {
        let response = scraped(None, None).await;
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(response.headers()[header::CONTENT_TYPE], OPEN_METRICS);
    }

    // S10.
    #[tokio::test]
    async fn scrape_without_an_accepted_token_is_refused() {
        let admits: Admits = Arc::new(|token, path| {
            assert_eq!(path, "/metrics");
            Box::pin(async move {
                match token.as_str() {
                    "good" => Admission::Allowed,
                    "poor" => Admission::Forbidden,
                    "later" => Admission::Unknown,
                    _ => Admission::Unauthenticated,
                }
            })
        });
        for (authorization, status) in [
            (None, 401),
            (Some("good"), 401),
            (Some("Basic good"), 401),
            (Some("Bearer bad"), 401),
            (Some("Bearer poor"), 403),
            (Some("Bearer later"), 503),
            (Some("Bearer good"), 200),
        ] {
            let response = scraped(Some(admits.clone()), authorization).await;
            assert_eq!(response.status(), status, "{authorization:?}");
        }
    }
}
