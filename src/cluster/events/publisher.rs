//! The events of the operator about objects.
//!
//! Invariant kept here: the API server never refuses an event for its length, however long the name of the object is,
//! and whatever text from others the note contains.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kube::api::{Api, Patch};
use kube::{Client, Resource};
use serde_json::json;

use crate::api::names;
use crate::cluster::client::params::{patch_params, post_params};
use crate::cluster::sync::lock;
use crate::lifecycle::cut;
use crate::telemetry::Metrics;

/// The longest note that the API server accepts, in bytes.
const NOTE: usize = 1024;
/// The longest name of an object.
const NAME: usize = 253;
/// The longest name of the reporting process.
const INSTANCE: usize = 128;
/// An event that repeats within this time increments the count of the first one, which keeps its note.
const REPEATS_WITHIN: SignedDuration = SignedDuration::from_mins(6);
/// The namespace of events about cluster-scoped objects.
const NO_NAMESPACE: &str = "default";

/// The publisher of events. A process has only one, because it merges repeated events.
pub struct Events {
    client: Client,
    instance: String,
    said: Mutex<HashMap<Said, Sent>>,
    metrics: Arc<Metrics>,
}

/// The key by which repeated events are merged.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Said {
    type_: &'static str,
    reason: String,
    kind: Option<String>,
    namespace: Option<String>,
    name: Option<String>,
    uid: Option<String>,
}

/// An event that was written.
#[derive(Clone)]
struct Sent {
    name: String,
    count: i32,
    at: Timestamp,
}

impl Events {
    pub(crate) fn new(client: Client, metrics: Arc<Metrics>) -> Self {
        let host = std::env::var("HOSTNAME").ok().filter(|name| !name.is_empty());
        let instance = cut(host.as_deref().unwrap_or(names::MANAGER), INSTANCE).to_owned();
        Self { client, instance, said: Mutex::default(), metrics }
    }

    /// Publishes an event about an object. A failed write has no other effect.
    pub async fn say<K: Resource<DynamicType = ()>>(
        &self,
        object: &K,
        warning: bool,
        reason: &str,
        note: &str,
    ) {
        self.publish(&object.object_ref(&()), warning, reason, note).await;
    }

    /// Writes an event about the object of this reference.
    pub(crate) async fn publish(&self, object: &ObjectReference, warning: bool, reason: &str, note: &str) {
        let said = Said {
            type_: if warning { "Warning" } else { "Normal" },
            reason: reason.to_owned(),
            kind: object.kind.clone(),
            namespace: object.namespace.clone(),
            name: object.name.clone(),
            uid: object.uid.clone(),
        };
        let now = Timestamp::now();
        let before = {
            let mut all = lock(&self.said);
            all.retain(|_, sent| now.duration_since(sent.at) < REPEATS_WITHIN);
            // After a failed write the event may not exist, so the next one is created again.
            all.remove(&said)
        };
        let written = match before {
            Some(sent) => self.repeat(object, sent, now).await,
            None => self.create(object, &said, note, now).await,
        };
        self.metrics.event(written.is_ok());
        match written {
            Ok(sent) => drop(lock(&self.said).insert(said, sent)),
            Err(error) => tracing::debug!(%error, reason, "the event could not be written"),
        }
    }

    async fn create(
        &self,
        object: &ObjectReference,
        said: &Said,
        note: &str,
        now: Timestamp,
    ) -> Result<Sent, kube::Error> {
        let name = event_name(object.name.as_deref().unwrap_or(names::MANAGER), now);
        let event = Event {
            metadata: ObjectMeta {
                namespace: object.namespace.clone(),
                name: Some(name.clone()),
                ..ObjectMeta::default()
            },
            type_: Some(said.type_.into()),
            reason: Some(said.reason.clone()),
            action: Some("Reconcile".into()),
            note: Some(cut(note, NOTE).to_owned()),
            regarding: Some(object.clone()),
            event_time: Some(MicroTime(now)),
            reporting_controller: Some(names::MANAGER.into()),
            reporting_instance: Some(self.instance.clone()),
            ..Event::default()
        };
        self.api(object).create(&post_params(), &event).await?;
        Ok(Sent { name, count: 1, at: now })
    }

    async fn repeat(
        &self,
        object: &ObjectReference,
        sent: Sent,
        now: Timestamp,
    ) -> Result<Sent, kube::Error> {
        let sent = Sent { count: sent.count.saturating_add(1), at: now, ..sent };
        let change = json!({"series": {"count": sent.count, "lastObservedTime": MicroTime(now)}});
        self.api(object).patch(&sent.name, &patch_params(), &Patch::Merge(change)).await?;
        Ok(sent)
    }

    fn api(&self, object: &ObjectReference) -> Api<Event> {
        let namespace = object.namespace.as_deref().filter(|namespace| !namespace.is_empty());
        Api::namespaced(self.client.clone(), namespace.unwrap_or(NO_NAMESPACE))
    }
}

/// A name for an event about an object of this name. The event name begins with the object name, cut to the length
/// limit of the API server.
fn event_name(object: &str, now: Timestamp) -> String {
    let number = format!("{:x}", now.as_nanosecond());
    let object = cut(object, NAME - 1 - number.len()).trim_end_matches(['.', '-']);
    format!("{object}.{number}")
}

#[cfg(test)]
mod tests {
    use http::{Method, Request, Response};
    use http_body_util::BodyExt;
    use kube::client::Body;
    use serde_json::Value;
    use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
    use tower::service_fn;

    use super::*;

    /// A publisher with an API server that accepts all events, and the requests that it received.
    fn events() -> (Events, UnboundedReceiver<(Method, String, Value)>) {
        let (sent, received) = unbounded_channel();
        let server = service_fn(move |request: Request<Body>| {
            let sent = sent.clone();
            async move {
                let (head, body) = request.into_parts();
                let body = body.collect().await.unwrap().to_bytes();
                let body: Value = serde_json::from_slice(&body).unwrap();
                sent.send((head.method, head.uri.path().to_owned(), body)).unwrap();
                let event = json!({"metadata": {"name": "e"}, "eventTime": null}).to_string();
                Ok::<_, std::io::Error>(Response::new(Body::from(event.into_bytes())))
            }
        });
        (Events::new(Client::new(server, "ns"), Arc::default()), received)
    }

    fn town(name: &str) -> ObjectReference {
        ObjectReference {
            kind: Some("Town".into()),
            namespace: Some("ns".into()),
            name: Some(name.into()),
            ..ObjectReference::default()
        }
    }

    // A25.
    #[tokio::test]
    async fn event_note_is_cut_at_1024_bytes_between_characters() {
        let (events, mut sent) = events();
        events.publish(&town("gas"), true, "Blocked", &format!("a{}", "语".repeat(1000))).await;
        let (_, _, event) = sent.recv().await.unwrap();
        let note = event["note"].as_str().unwrap();
        assert_eq!((note.len(), note.chars().count()), (1024, 342), "{note}");
    }

    // A25.
    #[test]
    fn event_name_is_valid_when_the_object_name_has_maximum_length() {
        let now: Timestamp = "2030-01-01T00:00:00Z".parse().unwrap();
        let number = format!("{:x}", now.as_nanosecond());
        assert_eq!(event_name("gas", now), format!("gas.{number}"));
        for object in ["a".repeat(253), format!("{}-{}", "a".repeat(235), "b".repeat(17)), "a.".repeat(126)] {
            let name = event_name(&object, now);
            assert!(name.len() <= 253 && name.ends_with(&number), "{name}");
            let labels: Vec<_> = name.split('.').collect();
            assert!(labels.iter().all(|label| !label.is_empty() && !label.ends_with('-')), "{name}");
        }
    }

    #[tokio::test]
    async fn event_counts_up_when_it_repeats() {
        let (events, mut sent) = events();
        for reason in ["Blocked", "Blocked", "Other", "Blocked"] {
            events.publish(&town("gas"), true, reason, "note").await;
        }
        let mut said = Vec::new();
        while let Ok((method, path, body)) = sent.try_recv() {
            let begins = path.starts_with("/apis/events.k8s.io/v1/namespaces/ns/events");
            assert!(begins, "{path}");
            said.push((method, body["series"]["count"].as_i64()));
        }
        let (post, patch) = (Method::POST, Method::PATCH);
        assert_eq!(said, [(post.clone(), None), (patch.clone(), Some(2)), (post, None), (patch, Some(3))]);
    }
}
