//! A proxy before the API server with checkpoints: it holds a client at a chosen write, so that the test can kill the
//! client between two writes.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::Router;
use axum::body::{Body, Bytes, to_bytes};
use axum::http::header::HOST;
use axum::http::request::Parts;
use axum::http::{Method, Request, Response, StatusCode};
use kube::Client;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use super::cluster::{Cluster, config};

/// A limit that no object reaches.
const LARGEST: usize = 4 << 20;

/// The side of a write on which the proxy holds the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Side {
    /// The proxy does not send the write.
    Before,
    /// The write has taken effect, and the proxy holds the answer.
    After,
    /// The proxy sends the write, and the write continues after the client gives up, as behind a gateway
    /// that does not forward a cancellation.
    Neither,
}

/// The write at which the proxy holds a client.
struct Checkpoint {
    sort: String,
    at: usize,
    side: Side,
    seen: usize,
    reached: bool,
}

type Points = Arc<Mutex<BTreeMap<String, Checkpoint>>>;

/// A proxy on its own port. The drop of the value ends it.
pub struct Checkpoints {
    kubeconfig: PathBuf,
    points: Points,
    waiting: Arc<Notify>,
    task: JoinHandle<()>,
}

/// The fate of a request.
enum Passage {
    Free,
    GoesOn,
    Held,
    HeldBehind(String),
}

impl Checkpoints {
    /// Starts a proxy before the cluster of this kubeconfig. The proxy uses the credentials of the kubeconfig.
    pub async fn before(cluster: &Cluster, kubeconfig: &Path) -> Self {
        let mut ours = config(kubeconfig).await;
        ours.default_retry = false;
        let client = Client::try_from(ours).expect("a client");
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a free port");
        let file = cluster.scratch().join("checkpoints.kubeconfig");
        let server = format!("http://{}", listener.local_addr().unwrap());
        std::fs::write(&file, plain(&server).to_string()).unwrap();
        let (points, waiting) = (Points::default(), Arc::<Notify>::default());
        let shared = (points.clone(), waiting.clone());
        let router = Router::new().fallback(move |request| {
            let (points, waiting) = shared.clone();
            pass(client.clone(), points, waiting, request)
        });
        let task = tokio::spawn(async move {
            let _ = axum::serve(listener, router).await;
        });
        Self { kubeconfig: file, points, waiting, task }
    }

    /// A kubeconfig that leads through the proxy.
    pub fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    /// Holds the client at the given occurrence of a write of this sort (such as `patch towns/status`) to an object
    /// with this text in its name. From then on no write to such an object passes, unless the side is `Neither`.
    pub fn set(&self, about: &str, sort: &str, at: usize, side: Side) {
        let point = Checkpoint { sort: sort.to_owned(), at, side, seen: 0, reached: false };
        lock(&self.points).insert(about.to_owned(), point);
    }

    /// Whether a client is held at this checkpoint.
    pub fn reached(&self, about: &str) -> bool {
        lock(&self.points).get(about).is_some_and(|point| point.reached)
    }

    /// Removes all checkpoints. A client that is held stays so until its end.
    pub fn open(&self) {
        lock(&self.points).clear();
    }

    /// Removes all checkpoints and answers the held requests with a timeout error, as gateways do.
    pub fn give_up(&self) {
        self.open();
        self.waiting.notify_waiters();
    }
}

impl Drop for Checkpoints {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn lock(points: &Points) -> MutexGuard<'_, BTreeMap<String, Checkpoint>> {
    points.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A kubeconfig without credentials.
fn plain(server: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "here",
        "contexts": [{"name": "here", "context": {"cluster": "here", "user": "nobody"}}],
        "clusters": [{"name": "here", "cluster": {"server": server}}],
        "users": [{"name": "nobody", "user": {}}],
    })
}

async fn pass(
    client: Client,
    points: Points,
    waiting: Arc<Notify>,
    request: Request<Body>,
) -> Response<Body> {
    let (head, body) = request.into_parts();
    let body = to_bytes(body, LARGEST).await.unwrap_or_default();
    let Some(write) = write_in_words(&head) else { return send(client, head, body).await };
    match arrive(&points, &write, &head, &body) {
        Passage::Free => send(client, head, body).await,
        Passage::GoesOn => tokio::spawn(send(client, head, body)).await.expect("an answer, if a bad one"),
        Passage::Held => unanswered(&waiting).await,
        Passage::HeldBehind(about) => {
            let answer = send(client, head, body).await;
            let effective = answer.status().is_success();
            if let Some(point) = lock(&points).get_mut(&about) {
                // The client repeats a refused write, so that this one does not count.
                if effective { point.reached = true } else { point.seen -= 1 }
            }
            if effective { unanswered(&waiting).await } else { answer }
        }
    }
}

/// Holds a request until the proxy gives up the held requests.
async fn unanswered(waiting: &Notify) -> Response<Body> {
    waiting.notified().await;
    let mut answer = Response::new(Body::from("no answer in time"));
    *answer.status_mut() = StatusCode::GATEWAY_TIMEOUT;
    answer
}

async fn send(client: Client, mut head: Parts, body: Bytes) -> Response<Body> {
    head.headers.remove(HOST);
    let request = Request::from_parts(head, kube::client::Body::from(body));
    match client.send(request).await {
        Ok(answer) => answer.map(Body::new),
        Err(error) => {
            let mut answer = Response::new(Body::from(error.to_string()));
            *answer.status_mut() = StatusCode::BAD_GATEWAY;
            answer
        }
    }
}

fn arrive(points: &Points, write: &str, head: &Parts, body: &Bytes) -> Passage {
    let (path, body) = (head.uri.path(), String::from_utf8_lossy(body));
    let mut points = lock(points);
    let Some((about, point)) =
        points.iter_mut().find(|(about, _)| path.contains(about.as_str()) || body.contains(about.as_str()))
    else {
        return Passage::Free;
    };
    if point.reached {
        return Passage::Held;
    }
    if point.sort != write {
        return Passage::Free;
    }
    point.seen += 1;
    match (point.seen == point.at, point.side) {
        (false, _) => Passage::Free,
        (true, Side::Before) => {
            point.reached = true;
            Passage::Held
        }
        (true, Side::After) => Passage::HeldBehind(about.clone()),
        (true, Side::Neither) => Passage::GoesOn,
    }
}

/// For example `patch towns/status`; `None` for a read, an Event or the Lease.
fn write_in_words(head: &Parts) -> Option<String> {
    let verb = match head.method {
        Method::POST => "create",
        Method::PUT => "update",
        Method::PATCH => "patch",
        Method::DELETE => "delete",
        _ => return None,
    };
    // The path is `/api/<version>/..` or `/apis/<group>/<version>/..`, optionally with `namespaces/<namespace>/`.
    let path: Vec<&str> = head.uri.path().split('/').skip(1).collect();
    let path = path.get(if path.first() == Some(&"apis") { 3 } else { 2 }..)?;
    let path = if path.first() == Some(&"namespaces") { path.get(2..)? } else { path };
    let (resource, subresource) = (*path.first()?, path.get(2));
    let subresource = subresource.map(|name| format!("/{name}")).unwrap_or_default();
    (!matches!(resource, "events" | "leases")).then(|| format!("{verb} {resource}{subresource}"))
}
