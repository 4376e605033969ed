//! Warnings about pods that the kubelet cannot start. The kubelet reports the cause only in events, and not in the
//! status of the pod.
//!
//! Invariant kept here: events explain, and never affect a decision. The events of a pod are read at most once in two
//! minutes, one page of them. Events that cannot be read change nothing.

use std::collections::HashMap;
use std::sync::Mutex;

use k8s_openapi::api::core::v1::Event;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kube::Client;
use kube::api::{Api, ListParams};

use crate::api::condition::reason;
use crate::cluster::read::objects::PAGE;
use crate::cluster::sync::lock;
use crate::lifecycle::{PodFacts, Uid, cut, events_are_due, plain};

/// The events of a pod are read again after this time.
const AGAIN_AFTER: SignedDuration = SignedDuration::from_mins(2);
/// A pod that was not observed for this time is forgotten. A start takes no longer.
const FORGET_AFTER: SignedDuration = SignedDuration::from_mins(15);
/// The largest part of the message of an event that is shown, in bytes.
const MESSAGE: usize = 1024;

/// The last warning about each pod, with the time of the read.
#[derive(Default)]
pub(crate) struct PodEvents(Mutex<HashMap<Uid, (Timestamp, Option<String>)>>);

/// The last warning about a pod.
#[derive(Debug, PartialEq)]
enum Known {
    /// The last read found this warning, or none.
    Is(Option<String>),
    /// No read is recent enough.
    Unread,
}

impl PodEvents {
    fn known(&self, pod: &Uid, now: Timestamp) -> Known {
        match lock(&self.0).get(pod) {
            Some((read_at, warning)) if now.duration_since(*read_at) < AGAIN_AFTER => {
                Known::Is(warning.clone())
            }
            _ => Known::Unread,
        }
    }

    fn remember(&self, pod: &Uid, warning: Option<String>, now: Timestamp) {
        let mut events = lock(&self.0);
        events.retain(|_, (read_at, _)| now.duration_since(*read_at) < FORGET_AFTER);
        events.insert(pod.clone(), (now, warning));
    }

    /// Shows the last warning about a pod as its trouble, if the status of the pod gives no cause and the kubelet had
    /// time to report one.
    pub(crate) async fn explain(&self, client: &Client, pod: &mut PodFacts, now: Timestamp) {
        if !events_are_due(pod, now) {
            return;
        }
        let warning = match self.known(&pod.uid, now) {
            Known::Is(warning) => warning,
            Known::Unread => {
                let read = last_warning(client, pod).await;
                if let Err(error) = &read {
                    tracing::debug!(pod = %pod.key, %error, "events of the pod cannot be read");
                }
                let warning = read.unwrap_or_default();
                self.remember(&pod.uid, warning.clone(), now);
                warning
            }
        };
        pod.trouble = warning.map(|text| (reason::CONTAINER_CREATING, text));
    }
}

async fn last_warning(client: &Client, pod: &PodFacts) -> kube::Result<Option<String>> {
    let api: Api<Event> = Api::namespaced(client.clone(), &pod.key.namespace);
    let selector = format!("involvedObject.uid={},type=Warning", pod.uid);
    let events = api.list(&ListParams::default().fields(&selector).limit(PAGE)).await?;
    Ok(events.items.iter().max_by_key(|event| last_seen(event)).map(|event| warning(pod, event)))
}

/// The time of the newest occurrence. Reporters fill different fields.
fn last_seen(event: &Event) -> Option<Timestamp> {
    let series = event.series.as_ref().and_then(|series| series.last_observed_time.as_ref()).map(|t| t.0);
    let legacy = event.last_timestamp.as_ref().map(|t| t.0);
    let first = event.event_time.as_ref().map(|t| t.0);
    let created = event.metadata.creation_timestamp.as_ref().map(|t| t.0);
    series.max(legacy).max(first).max(created)
}

fn warning(pod: &PodFacts, event: &Event) -> String {
    let why = event.reason.as_deref().unwrap_or("no reason");
    let message = plain(event.message.as_deref().unwrap_or_default());
    format!("pod {} does not start: {}: {}", pod.key.name, plain(why), cut(&message, MESSAGE))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use http::{Request, Response};
    use kube::client::Body;
    use serde_json::{Value, json};
    use tower::service_fn;

    use super::*;
    use crate::resources::pod_facts;

    /// The client of an API server that gives this answer to every request, and the number of requests.
    fn client(status: u16, answer: &Value) -> (Client, Arc<AtomicUsize>) {
        let requests = Arc::new(AtomicUsize::new(0));
        let (answer, count) = (answer.to_string(), requests.clone());
        let server = service_fn(move |request: Request<Body>| {
            count.fetch_add(1, Ordering::Relaxed);
            let asked = request.uri().to_string();
            assert!(asked.starts_with("/api/v1/namespaces/ns/events?"), "{asked}");
            assert!(asked.contains("involvedObject.uid%3Dp%2Ctype%3DWarning"), "{asked}");
            let answer = Response::builder().status(status).body(Body::from(answer.clone().into_bytes()));
            async move { answer }
        });
        (Client::new(server, "ns"), requests)
    }

    /// A pod of this age on a node, without created containers.
    fn waiting(seconds: i64) -> PodFacts {
        let created = Timestamp::now().checked_sub(SignedDuration::from_secs(seconds)).unwrap();
        let waits = json!({"name": "main", "ready": false, "restartCount": 0, "image": "i", "imageID": "",
            "state": {"waiting": {"reason": "ContainerCreating"}}});
        let pod = json!({
            "metadata": {"name": "gas", "namespace": "ns", "uid": "p", "creationTimestamp": created.to_string()},
            "spec": {"nodeName": "node-1", "containers": [{"name": "main"}]},
            "status": {"phase": "Pending", "containerStatuses": [waits]},
        });
        pod_facts(&serde_json::from_value(pod).unwrap()).unwrap()
    }

    // reports.md P11.
    #[tokio::test]
    async fn pod_shows_the_kubelets_last_warning_when_its_status_gives_no_cause() {
        let event = |reason: &str, minute: u8, message: &str| {
            json!({"metadata": {}, "involvedObject": {}, "reason": reason, "message": message,
                "lastTimestamp": format!("2030-01-01T00:0{minute}:00Z")})
        };
        let events = json!({"metadata": {}, "items": [
            event("FailedMount", 2, "MountVolume.SetUp failed for volume \"v\":\nsecret \"nope\" not found"),
            event("FailedAttachVolume", 1, "Multi-Attach error"),
        ]});
        let (client, requests) = client(200, &events);
        let known = PodEvents::default();
        let mut young = waiting(50);
        known.explain(&client, &mut young, Timestamp::now()).await;
        assert_eq!((young.trouble, requests.load(Ordering::Relaxed)), (None, 0), "the kubelet has a minute");
        for _ in 0..3 {
            let mut pod = waiting(70);
            known.explain(&client, &mut pod, Timestamp::now()).await;
            let text = "pod gas does not start: FailedMount: MountVolume.SetUp failed for volume \"v\": secret \
                        \"nope\" not found";
            assert_eq!(pod.trouble, Some((reason::CONTAINER_CREATING, text.to_owned())));
        }
        assert_eq!(requests.load(Ordering::Relaxed), 1, "one read in two minutes");
    }

    #[tokio::test]
    async fn pod_stays_without_a_cause_when_its_events_cannot_be_read() {
        let refusal = json!({"kind": "Status", "status": "Failure", "reason": "Forbidden", "code": 403});
        let (client, requests) = client(403, &refusal);
        let known = PodEvents::default();
        for _ in 0..2 {
            let mut pod = waiting(70);
            known.explain(&client, &mut pod, Timestamp::now()).await;
            assert_eq!(pod.trouble, None);
        }
        assert_eq!(requests.load(Ordering::Relaxed), 1, "a refusal is no reason to ask more often");
    }

    #[test]
    fn event_time_is_read_from_every_field_that_may_hold_it() {
        let time = |minute: u8| format!("2030-01-01T00:{minute:02}:00Z");
        let micro = |minute: u8| format!("2030-01-01T00:{minute:02}:00.000000Z");
        let events = [
            json!({"lastTimestamp": time(4)}),
            json!({"eventTime": micro(1), "series": {"count": 3, "lastObservedTime": micro(5)}}),
            json!({"eventTime": micro(3)}),
            json!({"metadata": {"creationTimestamp": time(2)}}),
        ];
        let seen = events.map(|mut event| {
            event["involvedObject"] = json!({});
            if event.get("metadata").is_none() {
                event["metadata"] = json!({});
            }
            last_seen(&serde_json::from_value(event).unwrap()).unwrap().to_string()
        });
        assert_eq!(seen, [time(4), time(5), time(3), time(2)]);
    }

    #[test]
    fn pod_is_forgotten_when_its_start_is_long_over() {
        let events = PodEvents::default();
        let at = |seconds| Timestamp::from_second(seconds).unwrap();
        let (first, second) = (Uid::new("first"), Uid::new("second"));
        events.remember(&first, Some("no volume".into()), at(0));
        assert_eq!(events.known(&first, at(119)), Known::Is(Some("no volume".into())));
        assert_eq!(events.known(&first, at(120)), Known::Unread, "the events are read again");
        events.remember(&second, None, at(900));
        assert_eq!(lock(&events.0).len(), 1);
    }
}
