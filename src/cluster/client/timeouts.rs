//! Timeouts of requests.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use kube::client::Body;
use tower::{BoxError, Layer, Service};

/// A layer with a timeout for the headers of an answer. Without it, a peer that accepts a request and never answers
/// would block a reconcile forever.
#[derive(Clone, Copy, Debug)]
pub struct CallTimeouts {
    /// The timeout.
    pub limit: Duration,
}

impl<S> Layer<S> for CallTimeouts {
    type Service = HeadersWithin<S>;

    fn layer(&self, inner: S) -> Self::Service {
        HeadersWithin { inner, limit: self.limit }
    }
}

/// The service of the layer [`CallTimeouts`].
#[derive(Clone, Debug)]
pub struct HeadersWithin<S> {
    inner: S,
    limit: Duration,
}

impl<S> Service<http::Request<Body>> for HeadersWithin<S>
where
    S: Service<http::Request<Body>, Error = BoxError>,
    S::Future: Send + 'static,
{
    type Response = S::Response;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let what = format!("{} {}", request.method(), request.uri().path());
        let limit = self.limit;
        let answer = self.inner.call(request);
        Box::pin(async move {
            match tokio::time::timeout(limit, answer).await {
                Ok(result) => result,
                Err(_) => Err(format!("{what}: no answer within {} s", limit.as_secs()).into()),
            }
        })
    }
}
