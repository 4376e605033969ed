//! The fence: a write passes only in this process's term.
//!
//! Invariant kept here: nothing but a read is handed on to be sent outside of the term, and what waits below, for a
//! connection or a token, is dropped unsent when the term ends meanwhile: it is asked each time before it may go on.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use http::{Method, Request};
use tokio::sync::watch;
use tower::{BoxError, Layer, Service};

use super::clock::Moment;
use super::election::Term;

/// Lets a client's writes pass in a term only. A layer that belongs below all that waits.
#[derive(Clone, Debug)]
pub struct Fence {
    term: watch::Receiver<Option<Term>>,
    now: fn() -> Moment,
}

impl Fence {
    /// A fence that opens in the terms that are published, by this clock.
    pub fn new(term: watch::Receiver<Option<Term>>, now: fn() -> Moment) -> Self {
        Self { term, now }
    }

    fn is_open(&self) -> bool {
        self.term.borrow().is_some_and(|term| term.covers((self.now)()))
    }
}

/// A write that was stopped at the fence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fenced {
    /// Whether it may have been sent before.
    pub begun: bool,
}

impl fmt::Display for Fenced {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.begun {
            "broken off, because this process leads no more"
        } else {
            "not sent, because this process does not lead"
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

/// See [`Fence`].
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
        if matches!(*request.method(), Method::GET | Method::HEAD) {
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
