//! Events about objects without a reconcile: objects that cannot be decoded, and objects that claim an owner in
//! error.
//!
//! Invariant kept here: such objects cost little, however many a tenant creates. The operator writes an event about
//! an object at most once an hour, writes events one after the other at a bounded rate, and lets no watch wait for an
//! event.

use std::collections::{HashMap, VecDeque};
use std::sync::Mutex;
use std::time::Duration;

use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kube::Resource;
use tokio::sync::Notify;

use crate::cluster::events::publisher::Events;
use crate::cluster::sync::lock;

/// An event about the same object, for the same reason, is written again after this time.
const AGAIN_AFTER: SignedDuration = SignedDuration::from_hours(1);
/// The pause after each event.
const PAUSE: Duration = Duration::from_millis(500);
/// The largest number of waiting events. Further events are dropped.
const WAITING: usize = 200;
/// The largest number of objects that are remembered as reported. At this number, further objects are not reported.
const REMEMBERED: usize = 5_000;

/// Events that wait to be written.
#[derive(Default)]
pub(crate) struct Reports {
    state: Mutex<State>,
    added: Notify,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Report>,
    reported: HashMap<(String, &'static str), Timestamp>,
}

/// An event to be written.
#[derive(Debug)]
struct Report {
    object: ObjectReference,
    reason: &'static str,
    note: String,
}

impl Reports {
    /// Adds an event about an object, unless one was added within the last hour.
    pub(crate) fn add<K: Resource<DynamicType = ()>>(
        &self,
        object: &ObjectMeta,
        reason: &'static str,
        note: &str,
        now: Timestamp,
    ) {
        let mut state = lock(&self.state);
        let key = (object.uid.clone().unwrap_or_default(), reason);
        let over = |at: &Timestamp| now.duration_since(*at) >= AGAIN_AFTER;
        if state.waiting.len() >= WAITING || state.reported.get(&key).is_some_and(|at| !over(at)) {
            return;
        }
        if state.reported.len() >= REMEMBERED {
            state.reported.retain(|_, at| !over(at));
            if state.reported.len() >= REMEMBERED {
                return;
            }
        }
        state.reported.insert(key, now);
        tracing::warn!(kind = %K::kind(&()), namespace = object.namespace, name = object.name, reason, note);
        let object = ObjectReference {
            api_version: Some(K::api_version(&()).into_owned()),
            kind: Some(K::kind(&()).into_owned()),
            namespace: object.namespace.clone(),
            name: object.name.clone(),
            uid: object.uid.clone(),
            ..ObjectReference::default()
        };
        state.waiting.push_back(Report { object, reason, note: note.to_owned() });
        self.added.notify_one();
    }

    /// Drops all waiting events and the remembered objects, because another process may have led meanwhile.
    pub(crate) fn begin(&self) {
        *lock(&self.state) = State::default();
    }

    /// The number of waiting events.
    #[cfg(test)]
    pub(crate) fn waiting(&self) -> usize {
        lock(&self.state).waiting.len()
    }

    /// The reasons and notes of the waiting events.
    #[cfg(test)]
    pub(crate) fn notes(&self) -> Vec<String> {
        lock(&self.state).waiting.iter().map(|report| format!("{} {}", report.reason, report.note)).collect()
    }

    /// Writes the waiting events one after the other, forever.
    pub(crate) async fn write_all(&self, events: &Events) {
        loop {
            let Report { object, reason, note } = self.next().await;
            events.publish(&object, true, reason, &note).await;
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn next(&self) -> Report {
        loop {
            let added = self.added.notified();
            if let Some(report) = lock(&self.state).waiting.pop_front() {
                return report;
            }
            added.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::Pod;

    use super::*;

    fn object(uid: &str) -> ObjectMeta {
        ObjectMeta { uid: Some(uid.into()), name: Some(uid.into()), ..ObjectMeta::default() }
    }

    #[tokio::test]
    async fn object_is_reported_once_an_hour_for_each_reason() {
        let reports = Reports::default();
        let at = |minute: i64| Timestamp::from_second(minute * 60).unwrap();
        for (minute, reason) in [(0, "One"), (1, "One"), (2, "Other"), (59, "One"), (60, "One")] {
            reports.add::<Pod>(&object("p"), reason, "note", at(minute));
        }
        assert_eq!(reports.waiting(), 3);
        let first = reports.next().await;
        assert_eq!((first.object.kind.as_deref(), first.object.name.as_deref()), (Some("Pod"), Some("p")));
        assert_eq!((first.reason, first.note.as_str()), ("One", "note"));
    }

    #[test]
    fn reports_are_bounded_when_a_tenant_makes_many_objects() {
        let reports = Reports::default();
        let now = Timestamp::from_second(0).unwrap();
        for object_number in 0..2 * WAITING {
            reports.add::<Pod>(&object(&object_number.to_string()), "One", "note", now);
        }
        assert_eq!(reports.waiting(), WAITING);
        let mut state = lock(&reports.state);
        state.waiting.clear();
        state.reported = (0..REMEMBERED).map(|n| ((n.to_string(), "One"), now)).collect();
        drop(state);
        reports.add::<Pod>(&object("another"), "One", "note", now);
        assert_eq!(reports.waiting(), 0, "too many objects are remembered");
        let later = now.checked_add(AGAIN_AFTER).unwrap();
        reports.add::<Pod>(&object("another"), "One", "note", later);
        assert_eq!((reports.waiting(), lock(&reports.state).reported.len()), (1, 1));
    }
}
