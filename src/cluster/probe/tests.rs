//! Pods that answer correctly, wrongly, slowly and not at all, each with its own socket.

use std::collections::VecDeque;
use std::future::Future;
use std::io::ErrorKind;
use std::sync::atomic::{AtomicUsize, Ordering};

use http::{Request, Response};
use k8s_openapi::ByteString;
use kube::client::Body;
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::timeout;
use tower::service_fn;

use super::*;
use crate::api::{ActivityProbe, Agent, ReportedState, Town, names};
use crate::cluster::cache::index::Indexed;
use crate::cluster::context::{Cluster, Limits};
use crate::cluster::observe::town::{observe_agent, observe_town};
use crate::cluster::scheduling::requeue::looks;
use crate::lifecycle::child_name;
use crate::resources::{Install, pod_facts};

/// The timeout of the tests. The awaited events happen within milliseconds or never.
const SOON: Duration = Duration::from_secs(20);
/// A timeout that is long enough for an answer from this machine.
const SHORT: Duration = Duration::from_secs(2);
/// A timeout that no test reaches.
const LONG: Duration = Duration::from_mins(10);

async fn soon<T>(what: impl Future<Output = T>) -> T {
    timeout(SOON, what).await.expect("what is awaited comes soon")
}

/// A cluster with pods on this machine, and an API server that serves only a Secret.
struct Scene {
    cluster: Arc<Cluster>,
    asked: UnboundedReceiver<Look>,
    reads: Arc<AtomicUsize>,
}

/// Limits for tests: every address on this machine is allowed, the timeout is long, and a token is read again
/// immediately.
fn bounds() -> Bounds {
    Bounds { at_once: 8, within: LONG, read_again_after: Duration::ZERO, may_ask: |_| true }
}

/// The parts of a cluster that probes use, with this sender of requests.
fn parts(cluster: &Cluster, looks: Looks) -> Parts {
    Parts {
        client: cluster.client.clone(),
        caches: cluster.caches.clone(),
        metrics: cluster.metrics.clone(),
        clock: Clock::system(),
        looks,
    }
}

/// The Secret with this token.
fn secret(token: &str) -> Value {
    let token = ByteString(token.as_bytes().to_vec());
    json!({"metadata": {"name": "s", "namespace": "ns"}, "data": {"token": token}})
}

impl Scene {
    /// A scene in which the Secret has a token.
    fn with(bounds: Bounds) -> Self {
        Self::with_secrets(bounds, [secret("t1")])
    }

    /// A scene in which each read of the Secret returns the next of these values (null: not found). The last one
    /// stays.
    fn with_secrets(bounds: Bounds, found: impl IntoIterator<Item = Value>) -> Self {
        let found: Arc<Mutex<VecDeque<_>>> = Arc::new(Mutex::new(found.into_iter().collect()));
        let reads = Arc::new(AtomicUsize::new(0));
        let count = reads.clone();
        let server = service_fn(move |request: Request<Body>| {
            assert_eq!(request.uri().path(), "/api/v1/namespaces/ns/secrets/s");
            count.fetch_add(1, Ordering::SeqCst);
            let mut found = lock(&found);
            let now = found.front().cloned().filter(|secret| !secret.is_null());
            if found.len() > 1 {
                found.pop_front();
            }
            let absent = json!({"kind": "Status", "status": "Failure", "code": 404, "reason": "NotFound"});
            let code = if now.is_some() { 200 } else { 404 };
            let body = Body::from(now.unwrap_or(absent).to_string().into_bytes());
            async move { Response::builder().status(code).body(body) }
        });
        let (looks, asked) = looks();
        let metrics = Arc::new(Metrics::default());
        let mut cluster = Cluster::new(
            Client::new(server, "ns"),
            Install("test".into()),
            metrics,
            Limits::LEAST,
            looks.clone(),
            Clock::system(),
        );
        cluster.probes = Arc::new(Probes::within(bounds, parts(&cluster, looks)));
        cluster.caches.towns.apply(town(), None);
        cluster.caches.agents.apply(agent(), None);
        Self { cluster: Arc::new(cluster), asked, reads }
    }

    /// A pod of the town, or of its agent, that exists and answers at this port.
    fn pod(&self, name: &str, port: u16) -> Ask {
        self.place(name, "127.0.0.1");
        Ask {
            pod: ObjectKey { namespace: "ns".into(), name: name.into() },
            uid: Uid::new(name),
            address: "127.0.0.1".into(),
            probe: ActivityProbe { port: port.into(), path: "/activity".into(), token_secret_name: None },
            secret: "s".into(),
        }
    }

    /// Shows the pod at this address in the watch.
    fn place(&self, name: &str, address: &str) {
        let mut labels = json!({(names::TOWN_UID): "town", (names::INSTALL): "test"});
        if name.starts_with("agent") || name.starts_with("mayor") {
            labels[names::AGENT_UID] = json!("agent");
        }
        let pod = json!({"metadata": {"name": name, "namespace": "ns", "uid": name, "labels": labels},
            "status": {"podIP": address}});
        let pod = pod_facts(&serde_json::from_value(pod).unwrap()).unwrap();
        self.cluster.caches.pods.apply(pod, None);
    }

    /// Deletes the pod from the watch.
    fn gone(&self, ask: &Ask) {
        self.cluster.caches.pods.delete(&ask.pod, None);
        self.cluster.forget(&ask.uid);
    }

    fn ask(&self, question: &Ask) {
        self.cluster.probes.ask(question.clone());
    }

    /// Probes, and waits until the town is enqueued.
    async fn answer(&mut self, question: &Ask) -> ProbeFacts {
        self.ask(question);
        assert_eq!(self.look().await, Look::Town(town().key()));
        self.facts(question)
    }

    /// Probes, checks the counter of this result, and returns the reason of the failure.
    async fn no_answer(&mut self, question: &Ask, result: &str) -> String {
        let before = self.counted(result);
        let facts = self.answer(question).await;
        assert_eq!(self.counted(result), before + 1, "{facts:?}");
        facts.last.unwrap().unwrap_err()
    }

    async fn look(&mut self) -> Look {
        soon(self.asked.recv()).await.unwrap()
    }

    fn facts(&self, ask: &Ask) -> ProbeFacts {
        self.cluster.probes.facts(&ask.uid)
    }

    fn counted(&self, result: &str) -> usize {
        let value = self.cluster.metrics.value(&format!("probes_total{{result=\"{result}\"}}"));
        value.map_or(0, |n| n.to_string().parse().unwrap())
    }

    fn reads(&self) -> usize {
        self.reads.load(Ordering::SeqCst)
    }
}

/// Asserts that a probe was enqueued, and that no result is known.
fn assert_unheard(facts: &ProbeFacts) {
    assert!(facts.wanted_since.is_some());
    assert_eq!(*facts, ProbeFacts { wanted_since: facts.wanted_since, ..ProbeFacts::default() });
}

fn town() -> Town {
    serde_json::from_value(json!({"apiVersion": "gastown.dev/v1alpha1", "kind": "Town", "spec": {},
        "metadata": {"name": "gas", "namespace": "ns", "uid": "town", "labels": {(names::INSTALL): "test"}, "finalizers": [names::FINALIZER]},
        "status": {"phase": "Running"}}))
    .unwrap()
}

fn agent() -> Agent {
    let labels = json!({(names::TOWN_UID): "town", (names::INSTALL): "test"});
    serde_json::from_value(json!({"apiVersion": "gastown.dev/v1alpha1", "kind": "Agent",
        "spec": {"townName": "gas", "role": "Mayor", "activityProbe": {"port": 8080}},
        "metadata": {"name": "mayor", "namespace": "ns", "uid": "agent", "labels": labels}}))
    .unwrap()
}

/// The socket of a pod. Each request arrives in `questions`, and waits there for its answer.
struct Door {
    port: u16,
    questions: UnboundedReceiver<Question>,
}

/// A request that has arrived.
struct Question {
    head: String,
    stream: TcpStream,
}

impl Door {
    async fn open() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (arrived, questions) = unbounded_channel();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(take(stream, arrived.clone()));
            }
        });
        Self { port, questions }
    }

    /// A pod that gives this answer to every request.
    async fn saying(answer: impl Into<Vec<u8>>) -> Self {
        let Self { port, mut questions } = Self::open().await;
        let answer = answer.into();
        let (passed, through) = unbounded_channel();
        tokio::spawn(async move {
            while let Some(question) = questions.recv().await {
                question.say(&answer).await;
                // The test counts the requests in this channel, and the drop closes the connection.
                let _ = passed.send(question);
            }
        });
        Self { port, questions: through }
    }

    async fn question(&mut self) -> Question {
        soon(self.questions.recv()).await.unwrap()
    }

    /// The number of requests that have arrived and that the test has not taken.
    fn waiting(&mut self) -> usize {
        std::iter::from_fn(|| self.questions.try_recv().ok()).count()
    }
}

async fn take(stream: TcpStream, arrived: UnboundedSender<Question>) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match more(&stream, &mut head).await {
            Ok(1..) => {}
            _ => return,
        }
    }
    let _ = arrived.send(Question { head: String::from_utf8(head).unwrap(), stream });
}

/// Reads the available bytes, after waiting for the first.
async fn more(stream: &TcpStream, into: &mut Vec<u8>) -> std::io::Result<usize> {
    loop {
        stream.readable().await?;
        let mut bytes = [0; 4096];
        match stream.try_read(&mut bytes) {
            Ok(n) => {
                into.extend_from_slice(&bytes[..n]);
                return Ok(n);
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
}

impl Question {
    /// Sends this text, and returns whether the client still reads.
    async fn say(&self, mut text: &[u8]) -> bool {
        while !text.is_empty() {
            if self.stream.writable().await.is_err() {
                return false;
            }
            match self.stream.try_write(text) {
                Ok(n) => text = &text[n..],
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(_) => return false,
            }
        }
        true
    }

    /// Sends the whole answer, and closes the connection.
    async fn answer(self, text: Vec<u8>) {
        assert!(self.say(&text).await);
    }

    /// Waits until the client has closed the connection.
    async fn given_up(self) {
        let mut rest = Vec::new();
        soon(async { while let Ok(1..) = more(&self.stream, &mut rest).await {} }).await;
    }
}

/// A complete answer.
fn http(status: &str, body: &str) -> Vec<u8> {
    format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n{body}", body.len()).into_bytes()
}

fn ok(body: &Value) -> Vec<u8> {
    http("200 OK", &body.to_string())
}

fn nothing() -> Vec<u8> {
    ok(&json!({"agents": []}))
}

#[tokio::test]
async fn probe_reads_the_activity_report_of_a_pod() {
    let mut scene = Scene::with(bounds());
    let mut door = Door::saying(ok(&json!({
        "agents": [{"uid": "a", "state": "working", "since": "2030-01-01T00:00:00Z", "mood": "good"}],
        "backlog": {"triage": 3}, "attached": true, "lastInputTime": "2030-01-01T00:00:00Z", "weather": "fair"})))
    .await;
    let ask = scene.pod("pod", door.port);
    assert_eq!(scene.facts(&ask), ProbeFacts::default());

    let facts = scene.answer(&ask).await;

    let report = facts.report().unwrap();
    assert_eq!(report.agents[0].state, ReportedState::Working);
    assert_eq!((report.backlog.triage, report.attached), (3, true));
    assert!(!facts.under_way && facts.asked_at <= facts.known_at && facts.asked_at.is_some());
    assert_eq!((facts.failing_since, facts.failures), (None, 0));
    assert_eq!(scene.counted("Answered"), 1);
    assert_eq!(scene.cluster.metrics.value("probe_duration_seconds_count"), Some(1.0));
    let head = door.question().await.head.to_lowercase();
    let lines: Vec<_> = head.lines().collect();
    assert_eq!(lines[0], "get /activity http/1.1");
    for line in [
        format!("host: 127.0.0.1:{}", door.port),
        "authorization: bearer t1".into(),
        "accept: application/json".into(),
        "connection: close".into(),
        format!("user-agent: town-operator/{}", env!("CARGO_PKG_VERSION")),
    ] {
        assert!(lines.contains(&line.as_str()), "{line}: not in {head}");
    }
}

#[tokio::test]
async fn probe_answer_of_an_agent_pod_enqueues_the_agent_and_its_town() {
    let mut scene = Scene::with(bounds());
    let door = Door::saying(nothing()).await;
    let ask = scene.pod("agent-pod", door.port);
    scene.ask(&ask);
    assert_eq!(scene.look().await, Look::Agent(agent().key()));
    assert_eq!(scene.look().await, Look::Town(town().key()));
    assert!(scene.facts(&ask).report().is_some());
}

#[tokio::test]
async fn snapshots_contain_the_probe_answers_of_town_and_agent_pods() {
    let mut scene = Scene::with(bounds());
    let own = Door::saying(ok(&json!({"backlog": {"triage": 1}}))).await;
    let agents = Door::saying(ok(&json!({"backlog": {"triage": 2}}))).await;
    scene.answer(&scene.pod(&child_name("gas", &Uid::new("town")), own.port)).await;
    scene.ask(&scene.pod(&child_name("mayor", &Uid::new("agent")), agents.port));
    assert_eq!(scene.look().await, Look::Agent(agent().key()));

    let triage = |facts: &ProbeFacts| facts.report().map(|report| report.backlog.triage);
    let seen = observe_town(&scene.cluster, &town().key()).await.unwrap().unwrap();
    assert_eq!(triage(&seen.probe), Some(1));
    assert_eq!(seen.agent_probes.get(&Uid::new("agent")).and_then(triage), Some(2));
    let seen = observe_agent(&scene.cluster, &agent().key()).await.unwrap().unwrap();
    assert_eq!(triage(&seen.probe), Some(2));
}

#[tokio::test]
async fn token_is_read_once_for_each_pod() {
    let mut scene = Scene::with(bounds());
    let mut door = Door::saying(nothing()).await;
    let (one, other) = (scene.pod("one", door.port), scene.pod("other", door.port));
    for _ in 0..3 {
        assert!(scene.answer(&one).await.report().is_some());
    }
    assert_eq!((scene.reads(), door.waiting()), (1, 3));
    assert!(scene.answer(&other).await.report().is_some());
    assert_eq!(scene.reads(), 2, "another pod");
    scene.gone(&one);
    scene.place("one", "127.0.0.1");
    assert!(scene.answer(&one).await.report().is_some());
    assert_eq!(scene.reads(), 3, "nothing is kept of a pod that is gone");
}

#[tokio::test]
async fn token_is_read_again_and_the_probe_repeated_when_the_pod_refuses_it() {
    let mut scene = Scene::with_secrets(bounds(), [secret("old"), secret("new\n")]);
    let mut door = Door::open().await;
    let ask = scene.pod("pod", door.port);
    for status in ["401 Unauthorized", "403 Forbidden"] {
        scene.ask(&ask);
        let question = door.question().await;
        assert!(question.head.contains("Bearer old\r\n"), "{}", question.head);
        question.answer(http(status, "")).await;
        let question = door.question().await;
        assert!(question.head.contains("Bearer new\r\n"), "{}", question.head);
        question.answer(nothing()).await;
        scene.look().await;
        assert!(scene.facts(&ask).report().is_some());
        assert_eq!(scene.counted("Unauthorized"), 0, "only what came of it in the end counts");
        scene = Scene::with_secrets(bounds(), [secret("old"), secret("new\n")]);
        scene.pod("pod", door.port);
    }
}

#[tokio::test]
async fn pod_is_not_probed_a_third_time_when_it_refuses_both_tokens() {
    let mut scene = Scene::with_secrets(bounds(), [secret("old"), secret("new")]);
    let mut door = Door::saying(http("401 Unauthorized", "")).await;
    let ask = scene.pod("pod", door.port);
    let why = scene.no_answer(&ask, "Unauthorized").await;
    assert_eq!(
        why,
        format!(
            "the probe of pod pod for /activity at port {} failed: the pod answered 401 Unauthorized to the token of \
             Secret s. If this continues, the pod has an older token: set the annotation gastown.dev/restart-at on its \
             town or agent to another value to replace the pod",
            door.port
        )
    );
    assert_eq!((door.waiting(), scene.reads()), (2, 2));
    scene.no_answer(&ask, "Unauthorized").await;
    assert_eq!((door.waiting(), scene.reads()), (1, 3), "the same token once more is of no use");
}

#[tokio::test]
async fn token_is_not_read_with_every_probe_when_the_pod_always_refuses_it() {
    let mut scene = Scene::with(Bounds { read_again_after: LONG, ..bounds() });
    let mut door = Door::saying(http("401 Unauthorized", "")).await;
    let ask = scene.pod("pod", door.port);
    for _ in 0..3 {
        scene.no_answer(&ask, "Unauthorized").await;
    }
    assert_eq!((door.waiting(), scene.reads()), (3, 1));
}

#[tokio::test]
async fn pod_is_not_probed_without_a_token_and_the_message_names_the_cause() {
    let mut empty = secret("t1");
    empty["data"] = json!({"password": "eA=="});
    for (found, missing) in [
        (Value::Null, "Secret ns/s with the key 'token' does not exist"),
        (empty, "Secret ns/s has no key 'token'"),
        (secret("two\nlines"), "the key 'token' of Secret ns/s holds no token"),
    ] {
        let mut scene = Scene::with_secrets(bounds(), [found.clone()]);
        let mut door = Door::saying(nothing()).await;
        let ask = scene.pod("pod", door.port);
        let why = scene.no_answer(&ask, "Unauthorized").await;
        assert!(why.ends_with(missing), "{why}");
        assert!(!why.contains("lines"), "a token is shown to nobody: {why}");
        assert_eq!(door.waiting(), 0);

        let mut scene = Scene::with_secrets(Bounds { read_again_after: LONG, ..bounds() }, [found]);
        scene.pod("pod", door.port);
        scene.no_answer(&ask, "Unauthorized").await;
        scene.no_answer(&ask, "Unauthorized").await;
        assert_eq!(scene.reads(), 1, "and is not looked for with every question");
    }
}

// code.md A39.
#[tokio::test]
async fn deleted_secret_is_distinguished_from_a_refused_token() {
    let long = Bounds { read_again_after: LONG, ..bounds() };
    let mut scene = Scene::with_secrets(long, [Value::Null, secret("t1")]);
    let door = Door::saying(nothing()).await;
    let ask = scene.pod("pod", door.port);
    scene.no_answer(&ask, "Unauthorized").await;
    assert!(scene.cluster.probes.facts(&ask.uid).secret_missing);
    let secret_of = |name: &str| ObjectKey { namespace: "ns".into(), name: name.into() };
    scene.cluster.probes.token_made(&secret_of("another"));
    assert!(scene.cluster.probes.facts(&ask.uid).secret_missing, "another Secret was made");
    scene.cluster.probes.token_made(&secret_of("s"));
    assert!(!scene.cluster.probes.facts(&ask.uid).secret_missing);
    assert!(scene.answer(&ask).await.report().is_some(), "the new token is read at once");
    assert_eq!(scene.reads(), 2);

    let mut scene = Scene::with_secrets(bounds(), [secret("old"), secret("new")]);
    let door = Door::saying(http("401 Unauthorized", "")).await;
    let ask = scene.pod("pod", door.port);
    scene.no_answer(&ask, "Unauthorized").await;
    assert!(!scene.cluster.probes.facts(&ask.uid).secret_missing);
}

#[tokio::test]
async fn token_is_found_when_its_secret_appears_later() {
    let mut scene = Scene::with_secrets(bounds(), [Value::Null, secret("t1")]);
    let door = Door::saying(nothing()).await;
    let ask = scene.pod("pod", door.port);
    scene.no_answer(&ask, "Unauthorized").await;
    assert!(scene.answer(&ask).await.report().is_some());
}

#[tokio::test]
async fn probe_times_out_when_the_pod_answers_slowly() {
    let head = "HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n";
    let slow = ["", "HTTP/1.1 200 OK\r\n", head].map(async |said| {
        let mut scene = Scene::with(Bounds { within: SHORT, ..bounds() });
        let mut door = Door::open().await;
        let ask = scene.pod("pod", door.port);
        scene.ask(&ask);
        let question = door.question().await;
        question.say(said.as_bytes()).await;
        scene.look().await;
        assert_eq!(scene.counted("TimedOut"), 1, "after {said:?}");
        let why = scene.facts(&ask).last.unwrap().unwrap_err();
        assert!(why.ends_with("no complete answer within 2 s"), "{why}");
        question.given_up().await;
    });
    futures::future::join_all(slow).await;
}

#[tokio::test]
async fn probe_times_out_when_the_answer_drips() {
    let mut scene = Scene::with(Bounds { within: SHORT, ..bounds() });
    let mut door = Door::open().await;
    let ask = scene.pod("pod", door.port);
    scene.ask(&ask);
    let question = door.question().await;
    question.say(b"HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n").await;
    let drip = async {
        let mut tick = tokio::time::interval(SHORT / 50);
        while question.say(b" ").await {
            tick.tick().await;
        }
    };
    soon(drip).await;
    scene.look().await;
    assert_eq!(scene.counted("TimedOut"), 1);
}

#[tokio::test]
async fn probe_is_cut_off_when_the_answer_never_ends() {
    let chunk = format!("1000\r\n{}\r\n", " ".repeat(0x1000)).into_bytes();
    for (head, piece) in [
        ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n", &chunk[..]),
        ("HTTP/1.1 200 OK\r\ncontent-length: 10000000000\r\n\r\n", &[b' '; 0x1000]),
        ("HTTP/1.1 200 OK\r\n\r\n", &[b' '; 0x1000]),
        ("HTTP/1.1 200 OK\r\n", b"x-more: and more\r\n"),
    ] {
        let mut scene = Scene::with(bounds());
        let mut door = Door::open().await;
        let ask = scene.pod("pod", door.port);
        scene.ask(&ask);
        let question = door.question().await;
        question.say(head.as_bytes()).await;
        soon(async { while question.say(piece).await {} }).await;
        scene.look().await;
        let why = scene.facts(&ask).last.unwrap().unwrap_err();
        assert!(why.contains("the answer is too large: more than "), "{why}");
        assert_eq!(scene.counted("TooLarge"), 1);
    }
}

#[tokio::test]
async fn probe_answer_is_refused_when_its_headers_are_too_large() {
    let mut scene = Scene::with(bounds());
    let answer = |more: usize| {
        let body = r#"{"agents": []}"#;
        format!("HTTP/1.1 200 OK\r\nx: {}\r\ncontent-length: {}\r\n\r\n{body}", "x".repeat(more), body.len())
    };
    let ask = scene.pod("short", Door::saying(answer(8000)).await.port);
    assert!(scene.answer(&ask).await.report().is_some());
    let ask = scene.pod("long", Door::saying(answer(20_000)).await.port);
    let why = scene.no_answer(&ask, "TooLarge").await;
    assert!(why.ends_with("the answer is too large: more than 16 KiB of headers"), "{why}");
}

#[tokio::test]
async fn probe_answer_is_refused_when_it_names_more_than_1000_agents() {
    let mut scene = Scene::with(bounds());
    let agents = |n| json!({"agents": vec![json!({"uid": "agent", "state": "idle"}); n]});
    let ask = scene.pod("most", Door::saying(ok(&agents(1000))).await.port);
    assert_eq!(scene.answer(&ask).await.report().unwrap().agents.len(), 1, "one entry a state is kept");
    let ask = scene.pod("more", Door::saying(ok(&agents(1001))).await.port);
    let why = scene.no_answer(&ask, "TooLarge").await;
    assert!(why.ends_with("the answer is too large: more than 1000 agents"), "{why}");
}

#[tokio::test]
async fn probe_answer_of_500_agents_with_long_messages_is_accepted() {
    let mut scene = Scene::with(bounds());
    let entry = json!({"uid": "agent", "state": "working",
        "since": "2030-01-01T00:00:00Z", "lastActivityTime": "2030-01-01T00:00:00Z", "bead": "gt-12345",
        "message": "m".repeat(300)});
    let door = Door::saying(ok(&json!({"agents": vec![entry; 500]}))).await;
    let ask = scene.pod("pod", door.port);
    assert_eq!(scene.answer(&ask).await.report().unwrap().agents.len(), 1, "one entry a state is kept");
}

#[tokio::test]
async fn malformed_probe_answer_gives_a_short_plain_message() {
    let lie = format!("\u{1b}[2J\u{202e}{}", "lie ".repeat(500));
    let state = |state: &str| json!({"agents": [{"uid": "a", "state": state}]}).to_string();
    for (answer, said) in [
        (http("200 OK", "<html>"), "it is not JSON (line 1, column 1)"),
        (http("200 OK", ""), "it is not JSON"),
        (http("204 No Content", ""), "it is not JSON"),
        (http("200 OK", "[1]"), "it is not an activity answer"),
        (http("200 OK", &state("asleep")), "it is not an activity answer"),
        (http("200 OK", &state(&lie)), "it is not an activity answer"),
        (http("200 OK", "{}"), "it has none of the fields agents, backlog, attached, lastInputTime"),
        (b"SSH-2.0-OpenSSH_9.9\r\n\r\n".to_vec(), "invalid HTTP"),
    ] {
        let mut scene = Scene::with(bounds());
        let ask = scene.pod("pod", Door::saying(answer).await.port);
        let why = scene.no_answer(&ask, "Malformed").await;
        assert!(why.contains("the answer cannot be read: ") && why.contains(said), "{said}: {why}");
        assert!(why.len() < 300 && why.chars().all(|c| c.is_ascii_graphic() || c == ' '), "{why}");
    }
}

#[tokio::test]
async fn refused_probe_shows_only_the_status_of_the_answer() {
    let mut scene = Scene::with(bounds());
    let body = r#"{"error": "believe me", "reason": "Lie"}"#;
    for (status, shown) in [
        ("503 Believe Me", "the pod answered 503 Service Unavailable"),
        ("404 Not Found", "the pod answered 404 Not Found"),
        ("599 Lie", "the pod answered 599 <unknown status code>"),
    ] {
        let ask = scene.pod("pod", Door::saying(http(status, body)).await.port);
        let why = scene.no_answer(&ask, "Refused").await;
        assert!(why.ends_with(shown), "{why}");
    }
}

#[tokio::test]
async fn probe_does_not_follow_redirects_with_its_token() {
    let mut scene = Scene::with(bounds());
    let mut elsewhere = Door::saying(nothing()).await;
    let to = format!("location: http://127.0.0.1:{}/activity", elsewhere.port);
    for status in ["301 Moved Permanently", "302 Found", "307 Temporary Redirect", "308 Permanent Redirect"] {
        let answer = format!("HTTP/1.1 {status}\r\n{to}\r\ncontent-length: 0\r\n\r\n");
        let mut door = Door::saying(answer).await;
        let ask = scene.pod("pod", door.port);
        let why = scene.no_answer(&ask, "Refused").await;
        assert!(why.ends_with(&format!("the pod answered {status}")), "{why}");
        assert_eq!((door.waiting(), elsewhere.waiting()), (1, 0));
    }
}

#[tokio::test]
async fn pod_is_unreachable_when_no_process_listens() {
    let mut scene = Scene::with(bounds());
    // The port is reserved, and no process listens on it.
    let taken = TcpSocket::new_v4().unwrap();
    taken.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let ask = scene.pod("pod", taken.local_addr().unwrap().port());
    let why = scene.no_answer(&ask, "Unreachable").await;
    assert!(why.contains("the pod cannot be reached: Connection refused"), "{why}");
}

#[tokio::test]
async fn pod_is_unreachable_when_it_closes_the_connection() {
    let cut = "HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{";
    for said in ["", "HTTP/1.1 200 OK\r\n", cut] {
        let mut scene = Scene::with(bounds());
        let mut door = Door::open().await;
        let ask = scene.pod("pod", door.port);
        scene.ask(&ask);
        let question = door.question().await;
        question.say(said.as_bytes()).await;
        drop(question);
        scene.look().await;
        assert_eq!(scene.counted("Unreachable"), 1, "{:?}", scene.facts(&ask));
    }
}

#[tokio::test]
async fn probe_is_not_sent_to_an_address_that_is_not_of_a_pod() {
    let mut scene = Scene::with(Bounds { may_ask: address::may_ask, ..bounds() });
    let mut door = Door::saying(nothing()).await;
    let ask = scene.pod("pod", door.port);
    let why = scene.no_answer(&ask, "Unreachable").await;
    assert!(why.ends_with("127.0.0.1 is not a valid address for a probe"), "{why}");
    scene.place("pod", "a.name.somewhere");
    let why = scene.no_answer(&Ask { address: "a.name.somewhere".into(), ..ask }, "Unreachable").await;
    assert!(why.ends_with("a.name.somewhere is not a valid address for a probe"), "{why}");
    assert_eq!(door.waiting(), 0);
}

#[tokio::test]
async fn loopback_is_not_probed_with_the_bounds_of_production() {
    let cluster = Scene::with(bounds()).cluster;
    let (looks, _asked) = looks();
    let bounds = Probes::new(3, parts(&cluster, looks)).bounds;
    assert_eq!((bounds.at_once, bounds.within), (3, WITHIN));
    assert!(!(bounds.may_ask)("127.0.0.1".parse().unwrap()));
}

#[tokio::test]
async fn probes_at_the_same_time_are_bounded() {
    let mut scene = Scene::with(Bounds { at_once: 2, ..bounds() });
    let mut door = Door::open().await;
    for n in 0..5 {
        let ask = scene.pod(&format!("pod-{n}"), door.port);
        scene.ask(&ask);
    }
    let mut waiting: VecDeque<_> = [door.question().await, door.question().await].into();
    for answered in 1..=5 {
        waiting.pop_front().unwrap().answer(nothing()).await;
        scene.look().await;
        if answered <= 3 {
            waiting.push_back(door.question().await);
        }
        assert_eq!(door.waiting(), 0, "two are asked at once");
    }
    assert_eq!(scene.counted("Answered"), 5);
}

#[tokio::test]
async fn failing_pods_leave_probe_places_to_pods_that_answer() {
    let mut scene = Scene::with(Bounds { at_once: 2, ..bounds() });
    let (mut bad, mut good) = (Door::open().await, Door::saying(nothing()).await);
    let fails = ["a", "b", "c"].map(|name| scene.pod(name, bad.port));
    for ask in &fails {
        scene.ask(ask);
        bad.question().await.answer(http("500 Internal Server Error", "")).await;
        scene.look().await;
    }

    for ask in &fails {
        scene.ask(ask);
    }
    let hanging = bad.question().await;
    let ask = scene.pod("good", good.port);
    assert!(scene.answer(&ask).await.report().is_some());

    assert_eq!(good.waiting(), 1);
    assert_eq!(bad.waiting(), 0, "the others wait for the one that hangs");
    hanging.answer(nothing()).await;
    bad.question().await;
}

#[tokio::test]
async fn pod_is_probed_once_at_a_time() {
    let mut scene = Scene::with(bounds());
    let mut door = Door::open().await;
    let ask = scene.pod("pod", door.port);
    scene.ask(&ask);
    let question = door.question().await;
    assert!(scene.facts(&ask).under_way);
    scene.ask(&ask);
    question.answer(nothing()).await;
    scene.look().await;
    assert!(!scene.facts(&ask).under_way);

    scene.ask(&ask);
    door.question().await.answer(nothing()).await;
    scene.look().await;
    assert_eq!((scene.counted("Answered"), door.waiting()), (2, 0));
}

#[tokio::test]
async fn deleted_pod_is_not_probed_and_not_remembered() {
    let scene = Scene::with(bounds());
    let mut door = Door::saying(nothing()).await;
    let ask = scene.pod("pod", door.port);
    scene.gone(&ask);
    scene.ask(&ask);
    assert_eq!(scene.facts(&ask), ProbeFacts::default());
    assert_eq!(door.waiting(), 0);
    scene.ask(&Ask { uid: Uid::new("its predecessor"), ..scene.pod("pod", door.port) });
    assert!(lock(&scene.cluster.probes.pods).is_empty());
}

#[tokio::test]
async fn probe_answer_is_dropped_when_the_pod_is_gone() {
    let scene = Scene::with(bounds());
    let mut door = Door::open().await;
    let ask = scene.pod("pod", door.port);
    scene.ask(&ask);
    let question = door.question().await;
    scene.gone(&ask);
    question.answer(nothing()).await;
    soon(async {
        while scene.counted("Stale") == 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert!(lock(&scene.cluster.probes.pods).is_empty());
}

#[tokio::test]
async fn probe_answer_of_an_old_address_is_dropped_and_the_town_enqueued() {
    let mut scene = Scene::with(bounds());
    let mut door = Door::open().await;
    let ask = scene.pod("pod", door.port);
    scene.ask(&ask);
    let question = door.question().await;
    scene.place("pod", "127.0.0.2");
    question.answer(nothing()).await;
    assert_eq!(scene.look().await, Look::Town(town().key()), "it is to be asked again");
    assert_unheard(&scene.facts(&ask));
    assert_eq!(scene.counted("Stale"), 1);
}

#[tokio::test]
async fn waiting_probe_is_dropped_when_the_pod_changes_its_address() {
    let mut scene = Scene::with(Bounds { at_once: 1, ..bounds() });
    let (mut first, mut old) = (Door::open().await, Door::saying(nothing()).await);
    scene.ask(&scene.pod("first", first.port));
    let question = first.question().await;
    let moves = scene.pod("moves", old.port);
    scene.ask(&moves);
    scene.place("moves", "127.0.0.2");
    question.answer(nothing()).await;
    scene.look().await;
    scene.look().await;
    assert_unheard(&scene.facts(&moves));
    assert_eq!(old.waiting(), 0);
    assert_eq!(scene.cluster.metrics.value("probe_duration_seconds_count"), Some(1.0));
}

#[tokio::test]
async fn failure_streak_begins_with_its_first_probe_and_ends_with_an_answer() {
    let mut scene = Scene::with(bounds());
    let mut door = Door::open().await;
    let ask = scene.pod("pod", door.port);
    let mut seen = Vec::new();
    let fails = || http("503 Service Unavailable", "");
    for answer in [nothing(), fails(), fails(), nothing(), fails()] {
        scene.ask(&ask);
        door.question().await.answer(answer).await;
        scene.look().await;
        seen.push(scene.facts(&ask));
    }
    assert_eq!(seen.iter().map(|facts| facts.failures).collect::<Vec<_>>(), [0, 1, 2, 0, 1]);
    let since: Vec<_> = seen.iter().map(|facts| facts.failing_since).collect();
    assert_eq!(since, [None, seen[1].asked_at, seen[1].asked_at, None, seen[4].asked_at]);
    assert!(seen.windows(2).all(|two| two[0].known_at <= two[1].asked_at));
}
