//! The connection between a client and the server. The client is kube's own. The wire applies a fate to each call.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;

use bytes::Bytes;
use futures::channel::oneshot;
use futures::stream;
use http::{Request, Response};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::Frame;
use kube::Client;
use kube::client::Body as Sent;
use tower::BoxError;

use super::call::Call;
use super::read::write;
use super::refusal::Refusal;
use super::watch::{News, Watch};
use super::world::{Answer, Body, World};

/// The fate of a call.
#[derive(Clone, Debug)]
pub enum Fate {
    /// The server handles the call and answers.
    Pass,
    /// The server refuses the call without an effect.
    Refuse(Refusal),
    /// The server handles the call, but the answer is an error.
    HandleAndRefuse(Refusal),
    /// The connection breaks without an effect.
    Break,
    /// The server handles the call, and the connection breaks before the answer.
    HandleAndBreak,
    /// The call has no effect and no answer until the test releases it.
    Hang,
    /// The server handles the call. The answer waits until the test releases it.
    HandleAndHang,
    /// The connection breaks. The server handles the call when the test releases it.
    Delay,
}

/// The decision about the fates of calls.
pub trait Faults: Send {
    /// Called before the server handles the call. The first call has the number 1.
    fn before(&mut self, number: usize, call: &Call, world: &mut World) -> Fate;

    /// Called after the server handled the call, before the client receives the answer.
    fn after(&mut self, number: usize, call: &Call, answer: &Answer, world: &mut World) {
        let _ = (number, call, answer, world);
    }
}

/// A decision that depends only on the number and the call.
impl<F: FnMut(usize, &Call) -> Fate + Send> Faults for F {
    fn before(&mut self, number: usize, call: &Call, _: &mut World) -> Fate {
        self(number, call)
    }
}

/// A client without faults.
pub fn client(world: &Arc<Mutex<World>>) -> Client {
    Wire::new(world, "admin", |_, _: &Call| Fate::Pass).client()
}

/// The connection of one process. The test can cut it to simulate the death of the process.
#[derive(Clone)]
pub struct Wire {
    world: Arc<Mutex<World>>,
    state: Arc<Mutex<State>>,
}

struct State {
    user: String,
    faults: Box<dyn Faults>,
    calls: usize,
    held: BTreeMap<usize, Held>,
    cut: bool,
}

/// A call that the wire holds.
struct Held {
    call: Call,
    /// The answer, if the server has handled the call.
    answer: Option<Answer>,
    /// The receiver of the answer, if the client still waits.
    reply: Option<oneshot::Sender<Answer>>,
}

/// The result that the client receives.
type Received = Result<Response<UnsyncBoxBody<Bytes, io::Error>>, BoxError>;

/// The result of a call after the decision.
enum Outcome {
    Now(Answer),
    Broken,
    Later(oneshot::Receiver<Answer>),
}

impl Wire {
    /// A wire for the calls of a user.
    pub fn new(world: &Arc<Mutex<World>>, user: &str, faults: impl Faults + 'static) -> Self {
        let state = State {
            user: user.to_owned(),
            faults: Box::new(faults),
            calls: 0,
            held: BTreeMap::new(),
            cut: false,
        };
        Self { world: world.clone(), state: Arc::new(Mutex::new(state)) }
    }

    /// A client on this wire. The caller must be inside of a Tokio runtime.
    pub fn client(&self) -> Client {
        let wire = self.clone();
        let service = tower::service_fn(move |request: Request<Sent>| {
            let wire = wire.clone();
            async move { wire.serve(request).await }
        });
        Client::new(service, "default")
    }

    /// The number of calls.
    pub fn calls(&self) -> usize {
        lock(&self.state).calls
    }

    /// The held calls, with their numbers.
    pub fn held(&self) -> Vec<(usize, Call)> {
        lock(&self.state).held.iter().map(|(number, held)| (*number, held.call.clone())).collect()
    }

    /// Releases a held call. The server handles the call unless it has done so, and answers if the client still waits.
    pub fn release(&self, number: usize) {
        let held = lock(&self.state).held.remove(&number);
        if let Some(held) = held {
            let answer = held.answer.unwrap_or_else(|| self.handle(number, &held.call));
            if let Some(reply) = held.reply {
                // The send fails only if the client no longer waits.
                let _ = reply.send(answer);
            }
        }
    }

    /// Cuts the connection: the client receives no answer or event, and the server receives no call. The test can still
    /// release held calls.
    pub fn cut(&self) {
        let mut state = lock(&self.state);
        state.cut = true;
        state.held.values_mut().for_each(|held| held.reply = None);
        drop(state);
        lock(&self.world).tell();
    }

    async fn serve(&self, request: Request<Sent>) -> Received {
        let (head, body) = request.into_parts();
        let body = body.collect().await?.to_bytes();
        let user = lock(&self.state).user.clone();
        let outcome = match Call::read(&user, &head, body) {
            Ok(call) => self.decide(call),
            Err(refusal) => Outcome::Now(refusal.into()),
        };
        match outcome {
            Outcome::Now(answer) => self.send(answer),
            Outcome::Broken => Err(broken().into()),
            Outcome::Later(answer) => match answer.await {
                Ok(answer) => self.send(answer),
                Err(_) => Err(broken().into()),
            },
        }
    }

    fn decide(&self, call: Call) -> Outcome {
        let (number, fate) = {
            let mut state = lock(&self.state);
            if state.cut {
                return Outcome::Broken;
            }
            state.calls += 1;
            let number = state.calls;
            (number, state.faults.before(number, &call, &mut lock(&self.world)))
        };
        match fate {
            Fate::Pass => Outcome::Now(self.handle(number, &call)),
            Fate::Refuse(refusal) => Outcome::Now(refusal.into()),
            Fate::HandleAndRefuse(refusal) => {
                self.handle(number, &call);
                Outcome::Now(refusal.into())
            }
            Fate::Break => Outcome::Broken,
            Fate::HandleAndBreak => {
                self.handle(number, &call);
                Outcome::Broken
            }
            Fate::Hang => self.hold(number, call, None),
            Fate::HandleAndHang => {
                let answer = self.handle(number, &call);
                self.hold(number, call, Some(answer))
            }
            Fate::Delay => {
                lock(&self.state).held.insert(number, Held { call, answer: None, reply: None });
                Outcome::Broken
            }
        }
    }

    fn hold(&self, number: usize, call: Call, answer: Option<Answer>) -> Outcome {
        let (reply, receiver) = oneshot::channel();
        lock(&self.state).held.insert(number, Held { call, answer, reply: Some(reply) });
        Outcome::Later(receiver)
    }

    fn handle(&self, number: usize, call: &Call) -> Answer {
        let mut state = lock(&self.state);
        let mut world = lock(&self.world);
        let answer = world.handle(call);
        state.faults.after(number, call, &answer, &mut world);
        answer
    }

    fn send(&self, answer: Answer) -> Received {
        let mut response = Response::builder().status(answer.code);
        let (kind, body) = match answer.body {
            Body::Object(object) => {
                if let Some(seconds) = object["details"]["retryAfterSeconds"].as_u64() {
                    response = response.header(http::header::RETRY_AFTER, seconds);
                }
                let mut text = Vec::new();
                write(&mut text, &object);
                ("application/json", whole(text))
            }
            Body::List(text) => ("application/json", whole(text)),
            Body::Text(text) => ("text/plain; charset=utf-8", whole(text.into())),
            Body::Watch(watch) => ("application/json", self.follow(watch)),
        };
        Ok(response.header(http::header::CONTENT_TYPE, kind).body(body)?)
    }

    /// The body of a watch. The body has no end.
    fn follow(&self, mut watch: Watch) -> UnsyncBoxBody<Bytes, io::Error> {
        let wire = self.clone();
        let frames = stream::poll_fn(move |context| {
            if lock(&wire.state).cut {
                return Poll::Ready(Some(Err(broken())));
            }
            let mut world = lock(&wire.world);
            match world.news(&mut watch) {
                News::Lines(lines) => Poll::Ready(Some(Ok(Frame::data(lines.into())))),
                News::End => Poll::Ready(None),
                News::None => {
                    world.listen(context.waker());
                    Poll::Pending
                }
            }
        });
        UnsyncBoxBody::new(StreamBody::new(frames))
    }
}

fn whole(text: Vec<u8>) -> UnsyncBoxBody<Bytes, io::Error> {
    UnsyncBoxBody::new(Full::new(Bytes::from(text)).map_err(|never| match never {}))
}

fn broken() -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionReset, "connection reset by peer")
}

/// Locks the mutex. A poisoned lock is ignored: the panic of the other holder already fails its test.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
