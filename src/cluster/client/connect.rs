//! The client of the API server: it returns every error to the operator, and each request has a timeout.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use http::header::RETRY_AFTER;
use http::{HeaderValue, Response, StatusCode};
use kube::client::{Body, ClientBuilder};
use kube::{Client, Config};
use tower::util::MapResultLayer;
use tower::{BoxError, Layer, Service};

use crate::cluster::client::fence::Fence;
use crate::cluster::leader::election::Identity;

/// The timeout for the headers of an answer. The bodies of watches last longer.
const HEADERS_WITHIN: Duration = Duration::from_secs(20);

/// The name of the operator in audit logs and for pods.
pub(crate) const USER_AGENT: &str = concat!("town-operator/", env!("CARGO_PKG_VERSION"));

/// Connects to the cluster of KUBECONFIG, or to the cluster of this process. Writes pass only through the fence. The
/// client does not retry by itself: a hidden second create would conceal that the first one may have taken effect.
pub async fn connect(fence: &Fence, me: &Identity) -> Result<Client, kube::Error> {
    let layer = CallTimeouts { limit: HEADERS_WITHIN };
    // The fence is the lowest of our layers, so that no layer below it waits.
    let overload = MapResultLayer::new(refuse_overload);
    let client = ClientBuilder::try_from(config(me).await?)?.with_layer(fence).with_layer(&layer);
    Ok(client.with_layer(&overload).build())
}

/// The API server, or a proxy before it, answered 429: the request was not executed.
#[derive(Debug, thiserror::Error)]
#[error("the API server is overloaded (429 Too Many Requests)")]
pub(crate) struct Overloaded {
    /// The delay from the header Retry-After.
    pub(crate) wait: Option<Duration>,
}

/// Converts an answer 429 to an error. The client itself drops the header Retry-After, and the answers 429 of the API
/// server have the delay only there.
fn refuse_overload<B>(answer: Result<Response<B>, BoxError>) -> Result<Response<B>, BoxError> {
    let answer = answer?;
    let asked = answer.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.trim().parse().ok());
    match asked {
        Some(seconds) if answer.status() == StatusCode::TOO_MANY_REQUESTS => {
            Err(Box::new(Overloaded { wait: Some(Duration::from_secs(seconds)) }))
        }
        // A webhook may choose this code for its refusal. Then the body has the reason.
        _ => Ok(answer),
    }
}

/// A client without a fence. Only the keeper of the Lease uses this client, because it opens the fence.
pub(crate) async fn connect_unfenced(me: &Identity) -> Result<Client, kube::Error> {
    let layer = CallTimeouts { limit: HEADERS_WITHIN };
    Ok(ClientBuilder::try_from(config(me).await?)?.with_layer(&layer).build())
}

async fn config(me: &Identity) -> Result<Config, kube::Error> {
    let mut config = Config::infer().await.map_err(kube::Error::InferConfig)?;
    config.default_retry = false;
    config.connect_timeout = Some(Duration::from_secs(10));
    // The user agent has the name of the process, so that audit logs distinguish the replicas.
    let agent = HeaderValue::from_str(&format!("{USER_AGENT} ({})", me.holder()));
    let agent = agent.unwrap_or(HeaderValue::from_static(USER_AGENT));
    config.headers.push((http::header::USER_AGENT, agent));
    Ok(config)
}

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

#[cfg(test)]
mod tests {
    use super::*;

    // reports:P30
    #[test]
    fn an_answer_429_keeps_the_wait_of_its_header() {
        let answered = |status: u16, retry_after: Option<&str>| {
            let mut answer = Response::builder().status(status);
            if let Some(value) = retry_after {
                answer = answer.header(RETRY_AFTER, value);
            }
            refuse_overload(Ok(answer.body(()).unwrap()))
        };
        let error = answered(429, Some("7")).unwrap_err();
        assert_eq!(error.downcast_ref::<Overloaded>().unwrap().wait, Some(Duration::from_secs(7)));
        for (status, retry_after) in [(200, None), (503, Some("7")), (429, None), (429, Some("tomorrow"))] {
            assert_eq!(answered(status, retry_after).unwrap().status(), status, "{retry_after:?}");
        }
    }
}
