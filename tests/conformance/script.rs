//! A case: a few requests, and conditions to wait for between them. The suite sends the same requests to the real
//! server and to the simulated one.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::StreamExt;
use http::Method;
use http_body_util::BodyExt;
use k8s_openapi::jiff::Timestamp;
use kube::Client;
use kube::client::Body;
use serde_json::{Value, json};

use crate::common::wait::{PATIENCE, until};
use crate::server::access::Grant;
use crate::server::kinds::kinds;
use crate::server::players;
use crate::server::wire::client;
use crate::server::world::World;

/// A user without any right.
pub const NOBODY: &str = "nobody";

/// A node without a machine: the cases write the status of its pods.
pub const NODE: &str = "lent";

/// The limit of steps until a simulation is at rest.
const AT_MOST: usize = 200;

/// The answers so far.
pub type Seen = [Answer];

/// An answer.
#[derive(Clone, Debug)]
pub struct Answer {
    pub code: u16,
    /// The body. For a watch it is the list of its lines.
    pub body: Value,
}

impl Answer {
    /// The UID of the object in the answer.
    pub fn uid(&self) -> &str {
        self.body["metadata"]["uid"].as_str().expect("a UID")
    }

    /// The resourceVersion of the object in the answer.
    pub fn version(&self) -> &str {
        self.body["metadata"]["resourceVersion"].as_str().expect("a resourceVersion")
    }
}

type Make<T> = Box<dyn Fn(&Seen) -> T + Send + Sync>;

enum Step {
    Ask(Request),
    Follow { path: Make<String>, lines: usize },
    Await { path: String, what: Box<dyn Fn(&Answer) -> bool + Send + Sync>, only_real: bool },
}

struct Request {
    method: Method,
    path: Make<String>,
    content_type: &'static str,
    accept: &'static str,
    user: Option<&'static str>,
    body: Make<Option<String>>,
}

/// A case. A path begins with a resource (`towns/gas`) in the namespace of the case, or with a slash. `{ns}` is
/// replaced by that namespace.
pub struct Case {
    /// The subject of the case.
    pub name: &'static str,
    /// The case breaks its cluster, and needs a cluster of its own.
    pub breaks: bool,
    steps: Vec<Step>,
    user: Option<&'static str>,
    accept: &'static str,
}

impl Case {
    pub fn new(name: &'static str) -> Self {
        Self { name, breaks: false, steps: Vec::new(), user: None, accept: "application/json" }
    }

    /// Marks the case as one that breaks its cluster.
    pub fn breaks(mut self) -> Self {
        self.breaks = true;
        self
    }

    /// Sends the following requests as this user.
    pub fn by(mut self, user: &'static str) -> Self {
        self.user = Some(user);
        self
    }

    /// Reads the metadata of an object or of a list.
    pub fn metadata(mut self, path: &str) -> Self {
        self.accept = if path.contains('/') {
            "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"
        } else {
            "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"
        };
        let mut case = self.get(path);
        case.accept = JSON;
        case
    }

    fn ask(
        self,
        method: Method,
        path: impl Into<String>,
        content_type: &'static str,
        body: impl Fn(&Seen) -> Option<Value> + Send + Sync + 'static,
    ) -> Self {
        let text = move |seen: &Seen| body(seen).map(|body| body.to_string());
        self.request(method, path.into(), content_type, text)
    }

    fn request(
        mut self,
        method: Method,
        path: String,
        content_type: &'static str,
        body: impl Fn(&Seen) -> Option<String> + Send + Sync + 'static,
    ) -> Self {
        let (user, accept) = (self.user, self.accept);
        self.steps.push(Step::Ask(Request {
            method,
            path: Box::new(move |_| path.clone()),
            content_type,
            accept,
            user,
            body: Box::new(body),
        }));
        self
    }

    /// Reads an object or a list.
    pub fn get(self, path: &str) -> Self {
        self.ask(Method::GET, path, "", |_| None)
    }

    /// Reads a path that depends on earlier answers.
    pub fn get_with(mut self, path: impl Fn(&Seen) -> String + Send + Sync + 'static) -> Self {
        let (user, accept) = (self.user, self.accept);
        self.steps.push(Step::Ask(Request {
            method: Method::GET,
            path: Box::new(path),
            content_type: "",
            accept,
            user,
            body: Box::new(|_| None),
        }));
        self
    }

    /// Creates an object. The function adds a missing apiVersion and kind.
    pub fn post(self, path: &str, body: Value) -> Self {
        self.post_with(path, move |_| body.clone())
    }

    /// Creates an object that depends on earlier answers.
    pub fn post_with(self, path: &str, body: impl Fn(&Seen) -> Value + Send + Sync + 'static) -> Self {
        let resource = path.to_owned();
        self.ask(Method::POST, path, JSON, move |seen| Some(whole(&resource, body(seen))))
    }

    /// Binds a pod to the node without a machine. Waits until the next delete of the pod sees the binding: a real
    /// server can compute the grace period from its cache.
    pub fn bind(self, pod: &str) -> Self {
        let binding = json!({
            "apiVersion": "v1", "kind": "Binding", "metadata": {"name": pod},
            "target": {"apiVersion": "v1", "kind": "Node", "name": NODE},
        });
        let cached = format!("pods?resourceVersion=0&fieldSelector=metadata.name%3D{pod}");
        self.post(&format!("pods/{pod}/binding"), binding).until(&cached, |answer| {
            answer.code != 200 || answer.body["items"][0]["spec"].get("nodeName").is_some()
        })
    }

    /// Replaces an object.
    pub fn put(self, path: &str, body: impl Fn(&Seen) -> Value + Send + Sync + 'static) -> Self {
        let resource = path.to_owned();
        self.ask(Method::PUT, path, JSON, move |seen| Some(whole(&resource, body(seen))))
    }

    /// Changes an object by a merge patch.
    pub fn merge(self, path: &str, change: Value) -> Self {
        self.merge_with(path, move |_| change.clone())
    }

    /// Changes an object by a merge patch that depends on earlier answers.
    pub fn merge_with(self, path: &str, change: impl Fn(&Seen) -> Value + Send + Sync + 'static) -> Self {
        self.ask(Method::PATCH, path, MERGE, move |seen| Some(change(seen)))
    }

    /// Changes an object by a JSON patch.
    pub fn json(self, path: &str, change: Value) -> Self {
        self.json_with(path, move |_| change.clone())
    }

    /// Changes an object by a JSON patch that depends on earlier answers.
    pub fn json_with(self, path: &str, change: impl Fn(&Seen) -> Value + Send + Sync + 'static) -> Self {
        self.ask(Method::PATCH, path, "application/json-patch+json", move |seen| Some(change(seen)))
    }

    /// Deletes an object, without options.
    pub fn delete(self, path: &str) -> Self {
        self.ask(Method::DELETE, path, JSON, |_| None)
    }

    /// Deletes an object with options.
    pub fn delete_with(self, path: &str, options: impl Fn(&Seen) -> Value + Send + Sync + 'static) -> Self {
        self.ask(Method::DELETE, path, JSON, move |seen| Some(options(seen)))
    }

    /// Sends this text unchanged.
    pub fn send(self, method: Method, path: &str, content_type: &'static str, body: &'static str) -> Self {
        self.request(method, path.to_owned(), content_type, move |_| Some(body.to_owned()))
    }

    /// Watches until this number of lines has arrived.
    pub fn follow(mut self, lines: usize, path: impl Fn(&Seen) -> String + Send + Sync + 'static) -> Self {
        self.steps.push(Step::Follow { path: Box::new(path), lines });
        self
    }

    /// Waits until the answer meets the condition. The suite does not compare these answers; add a read after it.
    pub fn until(mut self, path: &str, what: impl Fn(&Answer) -> bool + Send + Sync + 'static) -> Self {
        self.steps.push(Step::Await { path: path.to_owned(), what: Box::new(what), only_real: false });
        self
    }

    /// Waits until the real server has created an object that the simulation does not have.
    pub fn made(mut self, path: &str) -> Self {
        let what = Box::new(|answer: &Answer| answer.code == 200);
        self.steps.push(Step::Await { path: path.to_owned(), what, only_real: true });
        self
    }

    /// Waits until the object is gone.
    pub fn gone(self, path: &str) -> Self {
        self.until(path, |answer| answer.code == 404)
    }

    /// Runs the case on the real server.
    pub async fn on_real(&self, client: Client, namespace: &str) -> Vec<Answer> {
        self.run(&Side { client, namespace: namespace.to_owned(), world: None }).await
    }

    /// Runs the case on a simulated server.
    pub async fn on_simulated(&self, namespace: &str) -> Vec<Answer> {
        let now = Timestamp::from_second(1_893_456_000).expect("a time");
        let mut world = World::new(now, 1);
        let all = json!({"metadata": {"name": namespace, "labels": {"town-operator-test": "true"}}});
        world.create(crate::server::kinds::id::NAMESPACE, "", all).expect("a namespace");
        world
            .create(crate::server::kinds::id::NODE, "", json!({"metadata": {"name": NODE}}))
            .expect("a node");
        world.access.restrict(NOBODY, Vec::<Grant>::new());
        let world = Arc::new(Mutex::new(world));
        let side = Side { client: client(&world), namespace: namespace.to_owned(), world: Some(world) };
        self.run(&side).await
    }

    async fn run(&self, side: &Side) -> Vec<Answer> {
        let mut seen: Vec<Answer> = Vec::new();
        for step in &self.steps {
            match step {
                Step::Ask(request) => {
                    let path = side.path(&(request.path)(&seen));
                    let body = (request.body)(&seen).map(|body| body.replace("{ns}", &side.namespace));
                    seen.push(side.ask(request, &path, body).await);
                }
                Step::Follow { path, lines } => {
                    let path = side.path(&path(&seen));
                    seen.push(side.follow(&path, *lines).await);
                }
                Step::Await { only_real: true, .. } if side.world.is_some() => {}
                Step::Await { path, what, .. } => side.wait(&side.path(path), what).await,
            }
        }
        seen
    }
}

const JSON: &str = "application/json";
const MERGE: &str = "application/merge-patch+json";

/// Adds the apiVersion and kind of the path to a body without them.
fn whole(path: &str, mut body: Value) -> Value {
    let resource = path.split(['/', '?']).next().unwrap_or_default();
    let binding = path.ends_with("/binding");
    if let Some(kind) = kinds().iter().find(|kind| kind.plural == resource).filter(|_| !binding)
        && let Some(map) = body.as_object_mut()
    {
        map.entry("apiVersion").or_insert_with(|| kind.api_version().into());
        map.entry("kind").or_insert_with(|| kind.kind.into());
    }
    body
}

/// A side: the real server or the simulated one.
struct Side {
    client: Client,
    namespace: String,
    world: Option<Arc<Mutex<World>>>,
}

impl Side {
    /// The complete path of a short one.
    fn path(&self, short: &str) -> String {
        let short = short.replace("{ns}", &self.namespace);
        if short.starts_with('/') {
            return short;
        }
        let resource = short.split(['/', '?']).next().unwrap_or_default();
        let kind =
            kinds().iter().find(|kind| kind.plural == resource).unwrap_or_else(|| panic!("{resource}?"));
        let root = if kind.group.is_empty() { "/api".into() } else { format!("/apis/{}", kind.group) };
        let place = if kind.namespaced { format!("namespaces/{}/", self.namespace) } else { String::new() };
        format!("{root}/{}/{place}{short}", kind.version)
    }

    async fn ask(&self, request: &Request, path: &str, body: Option<String>) -> Answer {
        let mut head = http::Request::builder().method(request.method.clone()).uri(path);
        head = head.header(http::header::ACCEPT, request.accept);
        if !request.content_type.is_empty() {
            head = head.header(http::header::CONTENT_TYPE, request.content_type);
        }
        if let Some(user) = request.user {
            head = head.header("Impersonate-User", user);
        }
        let body = Body::from(body.unwrap_or_default().into_bytes());
        let response = self.client.send(head.body(body).unwrap()).await;
        let response = response.unwrap_or_else(|error| panic!("{} {path}: {error}", request.method));
        let code = response.status().as_u16();
        let text = response.into_body().collect().await.unwrap().to_bytes();
        let body = serde_json::from_slice(&text);
        Answer { code, body: body.unwrap_or_else(|_| String::from_utf8_lossy(&text).into_owned().into()) }
    }

    async fn look(&self, path: &str) -> Answer {
        let plain = Request {
            method: Method::GET,
            path: Box::new(|_| String::new()),
            content_type: "",
            accept: JSON,
            user: None,
            body: Box::new(|_| None),
        };
        self.ask(&plain, path, None).await
    }

    async fn follow(&self, path: &str, lines: usize) -> Answer {
        let request = http::Request::get(path).body(Body::empty()).unwrap();
        let response =
            self.client.send(request).await.unwrap_or_else(|error| panic!("watch {path}: {error}"));
        let code = response.status().as_u16();
        let mut text = Vec::new();
        let mut chunks = response.into_body().into_data_stream();
        let whole = |text: &[u8]| text.split(|byte| *byte == b'\n').count() - 1;
        while whole(&text) < lines {
            match tokio::time::timeout(PATIENCE, chunks.next()).await {
                Ok(Some(Ok(chunk))) => text.extend_from_slice(&chunk),
                Ok(Some(Err(error))) => panic!("watch {path}: {error}"),
                Ok(None) => break,
                Err(elapsed) => panic!("watch {path}: {} of {lines} lines: {elapsed}", whole(&text)),
            }
        }
        let read = text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        let lines = read.take(lines).map(|line| serde_json::from_slice::<Value>(line).unwrap());
        Answer { code, body: lines.collect() }
    }

    async fn wait(&self, path: &str, what: &(dyn Fn(&Answer) -> bool + Send + Sync)) {
        if let Some(world) = &self.world {
            players::rest(&mut world.lock().unwrap(), AT_MOST);
            let seen = self.look(path).await;
            assert!(what(&seen), "at rest the simulation shows at {path}: {} {:#}", seen.code, seen.body);
            return;
        }
        until(path, PATIENCE + Duration::from_secs(30), async || {
            let seen = self.look(path).await;
            if what(&seen) { Ok(()) } else { Err(format!("{} {:#}", seen.code, seen.body)) }
        })
        .await;
    }
}
