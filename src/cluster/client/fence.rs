//! The fence: a write passes only in the term of this process.
//!
//! Invariant kept here: outside of the term the fence passes only reads, and reviews, which change nothing, to the
//! service below. The service below may wait for a connection or a token. If the term ends during that wait, the
//! fence drops the write before it is sent: the fence checks the term before each poll.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use http::{Method, Request};
use tokio::sync::watch;
use tower::{BoxError, Layer, Service};

use crate::cluster::client::boot_clock::Moment;
use crate::cluster::client::write_window::Term;
use crate::lifecycle::Guard;

/// The paths of reviews on the API server.
const REVIEWS: [&str; 2] =
    ["/apis/authentication.k8s.io/v1/tokenreviews", "/apis/authorization.k8s.io/v1/subjectaccessreviews"];

/// A layer that passes the writes of a client only in a term. The layer belongs below every layer that waits.
#[derive(Clone, Debug)]
pub struct Fence {
    term: watch::Receiver<Option<Term>>,
    now: fn() -> Moment,
}

impl Fence {
    /// A fence that opens in the terms from this channel, by this clock.
    pub fn new(term: watch::Receiver<Option<Term>>, now: fn() -> Moment) -> Self {
        Self { term, now }
    }

    fn is_open(&self) -> bool {
        !Guard::Fence.holds() || self.term.borrow().is_some_and(|term| term.covers((self.now)()))
    }
}

/// A write that the fence stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fenced {
    /// Whether the client may have sent the write already.
    pub begun: bool,
}

impl fmt::Display for Fenced {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.begun {
            "stopped, because this process is no longer the leader"
        } else {
            "not sent, because this process is not the leader"
        })
    }
}

impl std::error::Error for Fenced {}

impl<S> Layer<S> for Fence {
    type Service = FencedService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        FencedService { inner, fence: self.clone() }
    }
}

/// The service of the layer [`Fence`].
#[derive(Clone, Debug)]
pub struct FencedService<S> {
    inner: S,
    fence: Fence,
}

impl<S, B> Service<Request<B>> for FencedService<S>
where
    S: Service<Request<B>, Error = BoxError>,
    S::Future: Send + 'static,
{
    type Response = S::Response;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        if matches!(*request.method(), Method::GET | Method::HEAD) || is_review(&request) {
            return Box::pin(self.inner.call(request));
        }
        if !self.fence.is_open() {
            return Box::pin(async { Err(Fenced { begun: false }.into()) });
        }
        let mut answer = Box::pin(self.inner.call(request));
        let fence = self.fence.clone();
        let mut begun = false;
        Box::pin(std::future::poll_fn(move |cx| {
            if !fence.is_open() {
                return Poll::Ready(Err(Fenced { begun }.into()));
            }
            begun = true;
            answer.as_mut().poll(cx)
        }))
    }
}

/// Whether a request is a review: the authentication of a token, or the authorization of an access. A review is a
/// POST, but it changes nothing.
fn is_review<B>(request: &Request<B>) -> bool {
    *request.method() == Method::POST && REVIEWS.contains(&request.uri().path())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use tokio::sync::oneshot;

    use super::*;

    fn now() -> Moment {
        Duration::from_secs(100)
    }

    /// A term from `before` seconds before now to `after` seconds after now.
    fn term(before: u64, after: u64) -> Term {
        let from = now().saturating_sub(Duration::from_secs(before));
        Term { from, until: now() + Duration::from_secs(after) }
    }

    /// The service below the fence. It counts the requests, and answers when the gate opens.
    struct Below {
        begun: Arc<AtomicUsize>,
        gate: Option<oneshot::Receiver<()>>,
    }

    impl Service<Request<()>> for Below {
        type Response = &'static str;
        type Error = BoxError;
        type Future = Pin<Box<dyn Future<Output = Result<&'static str, BoxError>> + Send>>;

        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
            Poll::Ready(Ok(()))
        }

        fn call(&mut self, _: Request<()>) -> Self::Future {
            let (begun, gate) = (self.begun.clone(), self.gate.take());
            Box::pin(async move {
                // A client waits for its connection in the same way.
                if let Some(gate) = gate {
                    gate.await?;
                }
                begun.fetch_add(1, Ordering::SeqCst);
                Ok("answer")
            })
        }
    }

    fn request(method: Method) -> Request<()> {
        Request::builder().method(method).uri("/").body(()).unwrap()
    }

    /// The result of a request in this term, and how often it was sent.
    async fn outcome(method: Method, term: Option<Term>) -> (Result<&'static str, Fenced>, usize) {
        let begun = Arc::new(AtomicUsize::new(0));
        let (_sender, receiver) = watch::channel(term);
        let below = Below { begun: begun.clone(), gate: None };
        let answer = Fence::new(receiver, now).layer(below).call(request(method)).await;
        (answer.map_err(|error| *error.downcast::<Fenced>().unwrap()), begun.load(Ordering::SeqCst))
    }

    #[tokio::test]
    async fn write_passes_the_fence_only_during_the_term() {
        let stopped = (Err(Fenced { begun: false }), 0);
        for method in [Method::POST, Method::PUT, Method::PATCH, Method::DELETE] {
            assert_eq!(outcome(method.clone(), Some(term(1, 1))).await, (Ok("answer"), 1), "{method}");
            assert_eq!(outcome(method.clone(), None).await, stopped, "{method}: no term");
            assert_eq!(outcome(method.clone(), Some(term(10, 0))).await, stopped, "{method}: at its end");
            let later = Some(Term { from: now() + Duration::from_secs(1), until: now() * 2 });
            assert_eq!(outcome(method.clone(), later).await, stopped, "{method}: before it begins");
        }
        for method in [Method::GET, Method::HEAD] {
            assert_eq!(outcome(method, None).await, (Ok("answer"), 1), "who stands by may read");
        }
    }

    // S10.
    #[test]
    fn token_review_does_not_count_as_a_write() {
        let asks = |method: Method, path: &str| {
            is_review(
                &Request::builder()
                    .method(method)
                    .uri(format!("https://x{path}?fieldManager=m"))
                    .body(())
                    .unwrap(),
            )
        };
        for path in REVIEWS {
            assert!(asks(Method::POST, path), "{path}");
            assert!(!asks(Method::DELETE, path) && !asks(Method::POST, &format!("{path}/x")), "{path}");
        }
        assert!(!asks(Method::POST, "/api/v1/namespaces/ns/pods"));
    }

    #[tokio::test]
    async fn waiting_write_is_not_sent_after_the_term_ends() {
        let begun = Arc::new(AtomicUsize::new(0));
        let (open, gate) = oneshot::channel();
        let (terms, receiver) = watch::channel(Some(term(1, 1)));
        let below = Below { begun: begun.clone(), gate: Some(gate) };
        let mut answer = Fence::new(receiver, now).layer(below).call(request(Method::POST));
        assert!(futures::poll!(&mut answer).is_pending(), "it waits for its connection");
        terms.send_replace(None);
        open.send(()).unwrap();
        let error = answer.await.unwrap_err();
        assert_eq!(error.downcast_ref(), Some(&Fenced { begun: true }));
        assert_eq!(begun.load(Ordering::SeqCst), 0, "it was sent");
    }
}
