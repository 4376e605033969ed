//! The connection between an operator and the API server. Each request waits until the run passes it on.

use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use http_body_util::{BodyExt, Full};
use kube::Client;
use kube::client::Body;
use tokio::sync::oneshot;
use tower::{BoxError, Layer, Service};
use town_operator::cluster::{CallTimeouts, Fence};

use crate::server::call::Call;

/// An answer, or a broken connection.
pub type Answer = Result<http::Response<Bytes>, &'static str>;

/// A request that waits.
pub struct Waiting {
    pub call: Call,
    answer: oneshot::Sender<Answer>,
}

impl Waiting {
    /// Sends the answer to the client. The answer is dropped if the client has given up.
    pub fn answer(self, answer: Answer) {
        let _ = self.answer.send(answer);
    }
}

/// A request as the client sent it, and the channel for its answer.
type Unread = (http::request::Parts, Bytes, oneshot::Sender<Answer>);

/// The requests of one operator, in the order of sending.
#[derive(Clone)]
pub struct Line {
    user: Arc<str>,
    sent: Arc<Mutex<Vec<Unread>>>,
}

impl Line {
    /// A connection without requests.
    pub fn of(user: &str) -> Self {
        Self { user: user.into(), sent: Arc::default() }
    }

    /// A client on this connection, with the timeout and the fence of the operator's own client.
    pub fn client(&self, fence: &Fence) -> Client {
        let limit = std::time::Duration::from_secs(20);
        Client::new(CallTimeouts { limit }.layer(fence.layer(self.clone())), "default")
    }

    /// The requests since the last call.
    pub fn take(&self) -> Vec<Waiting> {
        let sent = std::mem::take(&mut *self.sent.lock().unwrap_or_else(PoisonError::into_inner));
        let read = |(head, body, answer)| {
            let call = Call::read(&self.user, &head, body).expect("a request that can be read");
            Waiting { call, answer }
        };
        sent.into_iter().map(read).collect()
    }
}

impl Service<http::Request<Body>> for Line {
    type Response = http::Response<Full<Bytes>>;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Self::Response, BoxError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let sent = self.sent.clone();
        async move {
            let (head, body) = request.into_parts();
            let body = body.collect().await?.to_bytes();
            let (answer, answered) = oneshot::channel();
            sent.lock().unwrap_or_else(PoisonError::into_inner).push((head, body, answer));
            // A dropped request is a lost connection.
            match answered.await {
                Ok(Ok(response)) => Ok(response.map(Full::new)),
                Ok(Err(broken)) => Err(broken.into()),
                Err(_) => Err("connection reset by peer".into()),
            }
        }
        .boxed()
    }
}
