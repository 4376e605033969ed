//! The client: errors are ours to handle, and no request hangs for ever.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use http::HeaderValue;
use kube::client::{Body, ClientBuilder};
use kube::{Client, Config};
use tower::{BoxError, Layer, Service};

use super::lease::{Fence, Identity};

/// Longest wait for the headers of an answer. The bodies of watches live on.
const HEADERS_WITHIN: Duration = Duration::from_secs(20);

/// How audit logs and pods name us.
pub(super) const USER_AGENT: &str = concat!("town-operator/", env!("CARGO_PKG_VERSION"));

/// Connects to the cluster of KUBECONFIG, or to the one that this process runs in; writes pass only through the
/// fence. The client does not retry by itself: a create that is sent again unseen would hide that the first one
/// may have taken effect.
pub async fn connect(fence: &Fence, me: &Identity) -> Result<Client, kube::Error> {
    let layer = CallTimeouts { limit: HEADERS_WITHIN };
    // The fence is the lower one: nothing of ours waits below it.
    Ok(ClientBuilder::try_from(config(me).await?)?.with_layer(fence).with_layer(&layer).build())
}

/// The same without a fence, for who keeps the Lease that opens it, and for nobody else.
pub(super) async fn connect_unfenced(me: &Identity) -> Result<Client, kube::Error> {
    let layer = CallTimeouts { limit: HEADERS_WITHIN };
    Ok(ClientBuilder::try_from(config(me).await?)?.with_layer(&layer).build())
}

async fn config(me: &Identity) -> Result<Config, kube::Error> {
    let mut config = Config::infer().await.map_err(kube::Error::InferConfig)?;
    config.default_retry = false;
    config.connect_timeout = Some(Duration::from_secs(10));
    // One replica can be told from the other.
    let agent = HeaderValue::from_str(&format!("{USER_AGENT} ({})", me.holder()));
    let agent = agent.unwrap_or(HeaderValue::from_static(USER_AGENT));
    config.headers.push((http::header::USER_AGENT, agent));
    Ok(config)
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
