//! A foreign webhook for every new pod of one namespace. The webhook allows all pods. It holds the answers for chosen
//! owners until their release.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use axum::serve::Listener;
use k8s_openapi::ByteString;
use k8s_openapi::api::admissionregistration::v1::ValidatingWebhookConfiguration;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, PostParams};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::server::TlsStream;

use super::story::{Story, template};
use super::wait::{PATIENCE, until};

/// The maximal webhook timeout of the API server.
const LONGEST_SECONDS: u8 = 30;

/// The state of the last review of a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Review {
    /// The API server waits for the answer.
    Awaited,
    /// The webhook has answered.
    Answered,
    /// The API server has given up.
    GivenUp,
}

/// The reviews, by the town or the agent that owns the pod.
#[derive(Default)]
struct Desk {
    held: BTreeSet<String>,
    reviews: BTreeMap<String, Review>,
}

/// The server. The drop of the value ends it.
pub struct Webhook {
    desk: watch::Sender<Desk>,
    task: JoinHandle<()>,
}

impl Webhook {
    /// Starts the webhook with a certificate of the story's control plane, and waits until the API server calls it for
    /// pods of the story's namespace.
    pub async fn of_pods(story: &Story) -> Self {
        let pki = story.cluster.plane().directory().join("pki");
        let chain = CertificateDer::pem_file_iter(pki.join("loopback.crt")).unwrap();
        let key = PrivateKeyDer::from_pem_file(pki.join("loopback.key")).unwrap();
        let tls = ServerConfig::builder().with_no_client_auth();
        let tls = tls.with_single_cert(chain.map(Result::unwrap).collect(), key).unwrap();
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a free port");
        let address = listener.local_addr().unwrap();
        let listener = TlsListener { listener, acceptor: TlsAcceptor::from(Arc::new(tls)) };
        let desk = watch::Sender::<Desk>::default();
        let shared = desk.clone();
        let router = Router::new().fallback(move |body: Bytes| review(shared.clone(), body));
        let task = tokio::spawn(async move {
            let _ = axum::serve(listener, router).await;
        });
        let webhook = Self { desk, task };
        register(story, address, std::fs::read(pki.join("ca.crt")).unwrap()).await;
        webhook.is_asked(story).await;
        webhook
    }

    /// Holds the answers for pods of this town or agent.
    pub fn hold(&self, owner: &str) {
        self.desk.send_modify(|desk| _ = desk.held.insert(owner.to_owned()));
    }

    /// Sends the held answers, and no longer holds new ones.
    pub fn release(&self, owner: &str) {
        self.desk.send_modify(|desk| _ = desk.held.remove(owner));
    }

    /// The review of the pod of this town or agent; `None` without a review.
    pub fn review(&self, owner: &str) -> Option<Review> {
        self.desk.borrow().reviews.get(owner).copied()
    }

    /// Waits until the review has this state.
    pub async fn until(&self, owner: &str, is: Review) {
        until(&format!("the review of the pod of {owner} is {is:?}"), PATIENCE, async || {
            match self.review(owner) {
                Some(review) if review == is => Ok(()),
                other => Err(format!("{other:?}")),
            }
        })
        .await;
    }

    /// Waits until the API server calls the webhook, with a dry run of a pod.
    async fn is_asked(&self, story: &Story) {
        let mut pod = template();
        pod["metadata"] = json!({"name": "trial-0"});
        let pod: Pod = serde_json::from_value(pod).unwrap();
        let on_trial = PostParams { dry_run: true, ..PostParams::default() };
        until("the webhook is asked", PATIENCE, async || {
            story.api::<Pod>().create(&on_trial, &pod).await.map_err(|error| error.to_string())?;
            self.review("trial").map(drop).ok_or_else(|| "not yet".to_owned())
        })
        .await;
    }
}

impl Drop for Webhook {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Registers the webhook with the API server.
async fn register(story: &Story, address: SocketAddr, authority: Vec<u8>) {
    let configuration = json!({
        "metadata": {"name": story.namespace},
        "webhooks": [{
            "name": "pods.town.test",
            "clientConfig": {"url": format!("https://{address}/"), "caBundle": ByteString(authority)},
            "rules": [{
                "apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"],
                "scope": "Namespaced",
            }],
            "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": story.namespace}},
            "failurePolicy": "Fail", "timeoutSeconds": LONGEST_SECONDS,
            "sideEffects": "None", "admissionReviewVersions": ["v1"],
        }],
    });
    let configuration: ValidatingWebhookConfiguration = serde_json::from_value(configuration).unwrap();
    Api::all(story.client()).create(&PostParams::default(), &configuration).await.unwrap();
}

/// Allows a pod after its answer is released.
async fn review(desk: watch::Sender<Desk>, body: Bytes) -> impl IntoResponse {
    let asked: Value = serde_json::from_slice(&body).unwrap();
    let pod = asked["request"]["object"]["metadata"]["name"].as_str().unwrap();
    // The name of a pod is the name of its owner and a part of the UID.
    let (owner, _) = pod.rsplit_once('-').unwrap();
    let question = Question::about(&desk, owner);
    desk.subscribe().wait_for(|desk| !desk.held.contains(owner)).await.expect("the desk is ours");
    question.is_now(Review::Answered);
    let response = json!({"uid": asked["request"]["uid"], "allowed": true});
    let answer =
        json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response});
    ([(CONTENT_TYPE, "application/json")], answer.to_string())
}

/// A review in progress. A drop before the answer means that the API server has given up.
struct Question<'a> {
    desk: &'a watch::Sender<Desk>,
    owner: &'a str,
}

impl<'a> Question<'a> {
    fn about(desk: &'a watch::Sender<Desk>, owner: &'a str) -> Self {
        let question = Self { desk, owner };
        question.is_now(Review::Awaited);
        question
    }

    fn is_now(&self, review: Review) {
        self.desk.send_modify(|desk| _ = desk.reviews.insert(self.owner.to_owned(), review));
    }
}

impl Drop for Question<'_> {
    fn drop(&mut self) {
        self.desk.send_if_modified(|desk| {
            let review = desk.reviews.get_mut(self.owner).filter(|review| **review == Review::Awaited);
            review.map(|review| *review = Review::GivenUp).is_some()
        });
    }
}

/// A listener for connections over TLS.
struct TlsListener {
    listener: TcpListener,
    acceptor: TlsAcceptor,
}

impl Listener for TlsListener {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        loop {
            let (stream, from) = Listener::accept(&mut self.listener).await;
            // A client whose handshake fails tries again.
            if let Ok(stream) = self.acceptor.accept(stream).await {
                return (stream, from);
            }
        }
    }

    fn local_addr(&self) -> std::io::Result<Self::Addr> {
        self.listener.local_addr()
    }
}
