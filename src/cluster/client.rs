//! The client: errors are ours to handle, and no request hangs for ever.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use kube::client::{Body, ClientBuilder};
use kube::{Client, Config};
use tower::{BoxError, Layer, Service};

/// Longest wait for the headers of an answer. The bodies of watches live on.
const HEADERS_WITHIN: Duration = Duration::from_secs(20);

/// How audit logs name us.
pub(super) const USER_AGENT: &str = concat!("town-operator/", env!("CARGO_PKG_VERSION"));

/// Connects to the cluster of KUBECONFIG, or to the one that this process runs in. The client does not
/// retry by itself: a create that is sent again unseen would hide that the first one may have taken
/// effect.
pub async fn connect() -> Result<Client, kube::Error> {
    let mut config = Config::infer().await.map_err(kube::Error::InferConfig)?;
    config.default_retry = false;
    config.headers.push((http::header::USER_AGENT, http::HeaderValue::from_static(USER_AGENT)));
    config.connect_timeout = Some(Duration::from_secs(10));
    let layer = CallTimeouts { limit: HEADERS_WITHIN };
    Ok(ClientBuilder::try_from(config)?.with_layer(&layer).build())
}

/// Bounds the time until the headers of an answer are there; without it a peer that accepts a request
/// and stays silent would hang a reconcile for ever.
#[derive(Clone, Copy, Debug)]
pub struct CallTimeouts {
    /// The bound.
    pub limit: Duration,
}

impl<S> Layer<S> for CallTimeouts {
    type Service = HeadersWithin<S>;

    fn layer(&self, inner: S) -> Self::Service {
        HeadersWithin { inner, limit: self.limit }
    }
}

/// See [`CallTimeouts`].
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
