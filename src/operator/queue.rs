//! The work queues: one for towns, one for agents.
//!
//! `kube`'s applier does the queueing: one reconcile of an object at a time, many objects at once, a
//! later look in time. What it needs to know of an object is only who it is; the facts stand in the
//! indices of the cluster.

use std::collections::HashMap;
use std::convert::Infallible;
use std::fmt::Debug;
use std::future::Future;
use std::hash::Hash;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures::channel::mpsc;
use futures::{FutureExt, StreamExt};
use k8s_openapi::jiff::Timestamp;
use kube::Resource;
use kube::core::PartialObjectMeta;
use kube::runtime::controller::{Action, Config, Error as ApplierError, applier};
use kube::runtime::reflector::{ObjectRef, store::Writer};
use kube::runtime::watcher::Event;

use super::Looked;
use super::alarms::Alarms;
use crate::cluster::Error;
use crate::lifecycle::ObjectKey;
use crate::telemetry::Metrics;

/// Longest time for one reconcile. Every request in it has a bound of its own; this one guards the slot.
const DEADLINE: Duration = Duration::from_mins(2);
/// The longest wait between two attempts at an object that keeps failing.
const LONGEST_WAIT: Duration = Duration::from_mins(5);

/// Where triggers are put in.
pub(super) struct Queue<K: Resource> {
    sender: mpsc::UnboundedSender<ObjectRef<PartialObjectMeta<K>>>,
}

/// Tells the queue which objects exist.
pub(super) struct Known<K: Resource<DynamicType = ()> + 'static>(Writer<PartialObjectMeta<K>>)
where
    PartialObjectMeta<K>: Clone + Resource<DynamicType = ()>;

impl<K: Resource<DynamicType = ()>> Clone for Queue<K> {
    fn clone(&self) -> Self {
        Self { sender: self.sender.clone() }
    }
}

impl<K: Resource<DynamicType = ()>> Queue<K> {
    /// Asks for a look at an object.
    pub(super) fn look_at(&self, key: &ObjectKey) {
        // The other end is gone only while the process ends.
        let named = ObjectRef::new(&key.name);
        let named = if key.namespace.is_empty() { named } else { named.within(&key.namespace) };
        let _ = self.sender.unbounded_send(named);
    }
}

/// How an object of the queue is looked at.
pub(super) trait Reconcile: Send + Sync + 'static {
    /// One reconcile.
    fn reconcile(&self, key: ObjectKey) -> impl Future<Output = Result<Looked, Error>> + Send;
}

/// A reconcile that did not come to its end.
#[derive(Debug, thiserror::Error)]
enum Failed {
    #[error(transparent)]
    Error(#[from] Error),
    #[error("the reconcile panicked; this is a bug")]
    Panicked,
    #[error("the reconcile took longer than {} s", DEADLINE.as_secs())]
    Deadline,
}

impl Failed {
    /// One word for it.
    fn reason(&self) -> &'static str {
        match self {
            Self::Error(error) => error.reason(),
            Self::Panicked => "Panicked",
            Self::Deadline => "Deadline",
        }
    }
}

struct Context<R> {
    reconcile: R,
    kind: String,
    metrics: Arc<Metrics>,
    alarms: Alarms,
    failures: Mutex<HashMap<ObjectKey, u32>>,
}

/// Makes a queue, and the future that works on it until every [`Queue`] handle is gone.
pub(super) fn queue<K, R>(
    concurrency: u16,
    reconcile: R,
    metrics: Arc<Metrics>,
) -> (Queue<K>, Known<K>, impl Future<Output = ()> + Send + 'static)
where
    K: Resource<DynamicType = ()> + Clone + Debug + Send + Sync + 'static,
    PartialObjectMeta<K>: Resource<DynamicType = ()> + Clone,
    R: Reconcile,
{
    let (sender, triggers) = mpsc::unbounded();
    let writer = Writer::<PartialObjectMeta<K>>::new(());
    let kind = K::kind(&()).into_owned();
    let context =
        Arc::new(Context { reconcile, kind, metrics, alarms: Alarms::default(), failures: Mutex::default() });
    let kept = context.clone();
    let applied = applier(
        |object: Arc<PartialObjectMeta<K>>, context: Arc<Context<R>>| {
            async move { look(&ObjectKey::of(&object.metadata), &context).await }.boxed()
        },
        |object, failed, context| Action::requeue(context.failed(&ObjectKey::of(&object.metadata), failed)),
        context,
        writer.as_reader(),
        triggers.map(Ok::<_, Infallible>),
        Config::default().concurrency(concurrency),
    );
    let work = applied.for_each(move |result| {
        match result {
            Ok(_) | Err(ApplierError::ReconcilerFailed(..)) => {}
            // Gone before its turn came: nothing to do.
            Err(ApplierError::ObjectNotFound(gone)) => {
                kept.forget(&ObjectKey { namespace: gone.namespace.unwrap_or_default(), name: gone.name });
            }
            Err(error) => tracing::error!(%error, "the queue"),
        }
        std::future::ready(())
    });
    (Queue { sender }, Known(writer), work)
}

async fn look<R: Reconcile>(key: &ObjectKey, context: &Context<R>) -> Result<Action, Failed> {
    if let Some(late) = context.alarms.taken(key, Timestamp::now()) {
        context.metrics.looked_late(&context.kind, late);
    }
    let began = Instant::now();
    let guarded = AssertUnwindSafe(context.reconcile.reconcile(key.clone())).catch_unwind();
    let ended = tokio::time::timeout(DEADLINE, guarded).await;
    context.metrics.reconciled(&context.kind, began.elapsed());
    let looked = match ended {
        Ok(Ok(result)) => result?,
        Ok(Err(_)) => return Err(Failed::Panicked),
        Err(_) => return Err(Failed::Deadline),
    };
    if let Some(at) = looked.look_again {
        context.alarms.set(key, at, Timestamp::now());
    }
    let look_again = looked.look_again.map(until);
    if let Some(error) = looked.failed {
        let retry = context.failed(key, &Failed::Error(error));
        return Ok(Action::requeue(look_again.map_or(retry, |wait| wait.min(retry))));
    }
    context.failures.lock().unwrap_or_else(PoisonError::into_inner).remove(key);
    Ok(look_again.map_or_else(Action::await_change, Action::requeue))
}

impl<R> Context<R> {
    /// Forgets an object that is gone.
    fn forget(&self, key: &ObjectKey) {
        self.alarms.forget(key);
        self.failures.lock().unwrap_or_else(PoisonError::into_inner).remove(key);
    }

    /// Counts a failure of an object. Returns how long to wait before the next attempt.
    fn failed(&self, key: &ObjectKey, failed: &Failed) -> Duration {
        self.metrics.reconcile_failed(&self.kind, failed.reason());
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        let count = failures.entry(key.clone()).or_default();
        *count = count.saturating_add(1);
        let wait = back_off(*count);
        let passing = match failed {
            Failed::Error(error @ Error::Api { .. }) => error.is_namespace_terminating(),
            Failed::Error(error) => {
                matches!(error, Error::Conflict { .. } | Error::NotLeading { .. } | Error::NotLive { .. })
            }
            Failed::Panicked | Failed::Deadline => false,
        };
        if passing {
            tracing::debug!(object = %key, error = %failed, "looking again");
        } else {
            let wait_s = wait.as_secs_f32();
            tracing::warn!(object = %key, error = %failed, count, wait_s, "reconcile failed");
        }
        wait
    }
}

/// The time until a deadline, a little late rather than early: whoever comes early comes twice.
fn until(at: Timestamp) -> Duration {
    let wait = at.duration_since(Timestamp::now()).unsigned_abs();
    if at <= Timestamp::now() { Duration::from_millis(10) } else { wait + Duration::from_millis(10) }
}

/// 0.25 s doubled with each failure up to 5 min, spread by a quarter so that many do not come at once.
fn back_off(count: u32) -> Duration {
    let base =
        Duration::from_millis(250).saturating_mul(1 << count.saturating_sub(1).min(12)).min(LONGEST_WAIT);
    base.mul_f64(rand::random_range(0.75..1.25))
}

impl<K> Known<K>
where
    K: Resource<DynamicType = ()> + Clone + 'static,
    PartialObjectMeta<K>: Resource<DynamicType = ()> + Clone,
    ObjectRef<PartialObjectMeta<K>>: Eq + Hash,
{
    /// Follows a watch; of each object only its name is kept.
    pub(super) fn follow<O: Resource<DynamicType = ()>>(&mut self, event: &Event<O>) {
        let name_of = |object: &O| {
            let mut meta = k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta::default();
            meta.name.clone_from(&object.meta().name);
            meta.namespace.clone_from(&object.meta().namespace);
            PartialObjectMeta::<K> { types: None, metadata: meta, _phantom: std::marker::PhantomData }
        };
        self.0.apply_watcher_event(&match event {
            Event::Init => Event::Init,
            Event::InitDone => Event::InitDone,
            Event::InitApply(object) => Event::InitApply(name_of(object)),
            Event::Apply(object) => Event::Apply(name_of(object)),
            Event::Delete(object) => Event::Delete(name_of(object)),
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What every look at an object comes to.
    struct Always(fn() -> Result<Looked, Error>);

    impl Reconcile for Always {
        async fn reconcile(&self, _: ObjectKey) -> Result<Looked, Error> {
            (self.0)()
        }
    }

    fn context(outcome: fn() -> Result<Looked, Error>) -> Context<Always> {
        Context {
            reconcile: Always(outcome),
            kind: "Town".into(),
            metrics: Arc::default(),
            alarms: Alarms::default(),
            failures: Mutex::default(),
        }
    }

    fn key() -> ObjectKey {
        ObjectKey { namespace: "ns".into(), name: "t".into() }
    }

    /// Looks twice at one object.
    async fn looked_twice(outcome: fn() -> Result<Looked, Error>) -> Arc<Metrics> {
        let context = context(outcome);
        for _ in 0..2 {
            // As the applier does.
            if let Err(failed) = look(&key(), &context).await {
                context.failed(&key(), &failed);
            }
        }
        context.metrics
    }

    fn conflict() -> Error {
        Error::Conflict { what: "a test".into() }
    }

    #[tokio::test]
    async fn every_look_is_measured_and_every_failure_counts_once() {
        type Outcome = fn() -> Result<Looked, Error>;
        let cases: [(Outcome, Option<&str>); 4] = [
            (|| Ok(Looked::default()), None),
            (|| Err(conflict()), Some("Conflict")),
            (|| Ok(Looked { failed: Some(conflict()), look_again: None }), Some("Conflict")),
            (|| panic!("on purpose"), Some("Panicked")),
        ];
        for (outcome, reason) in cases {
            let metrics = looked_twice(outcome).await;
            assert_eq!(metrics.value(r#"reconciles_total{kind="Town"}"#), Some(2.0), "{reason:?}");
            assert_eq!(metrics.value(r#"reconcile_duration_seconds_count{kind="Town"}"#), Some(2.0));
            for word in ["Conflict", "Panicked", "Other"] {
                let series = format!("reconcile_errors_total{{kind=\"Town\",reason=\"{word}\"}}");
                let expected = if reason == Some(word) { 2.0 } else { 0.0 };
                assert_eq!(metrics.value(&series), Some(expected), "{reason:?}: {series}");
            }
        }
    }

    #[test]
    fn a_look_that_took_too_long_counts_as_such() {
        let context = context(|| Ok(Looked::default()));
        context.failed(&key(), &Failed::Deadline);
        let series = r#"reconcile_errors_total{kind="Town",reason="Deadline"}"#;
        assert_eq!(context.metrics.value(series), Some(1.0));
    }

    #[tokio::test]
    async fn nothing_is_kept_of_an_object_that_is_gone() {
        let later = || Ok(Looked { look_again: Some(Timestamp::MAX), failed: Some(conflict()) });
        let context = context(later);
        assert!(look(&key(), &context).await.is_ok());
        assert!(!context.alarms.is_empty() && !context.failures.lock().unwrap().is_empty());
        context.forget(&key());
        assert!(context.alarms.is_empty() && context.failures.lock().unwrap().is_empty());
    }

    #[tokio::test]
    async fn a_look_at_the_time_that_was_asked_for_is_measured() {
        let due = || Ok(Looked { look_again: Some(Timestamp::now()), failed: None });
        let metrics = looked_twice(due).await;
        assert_eq!(metrics.value(r#"alarm_lateness_seconds_count{kind="Town"}"#), Some(1.0));
        let later = || Ok(Looked { look_again: Some(Timestamp::MAX), failed: None });
        let metrics = looked_twice(later).await;
        assert_eq!(metrics.value(r#"alarm_lateness_seconds_count{kind="Town"}"#), Some(0.0));
    }

    #[test]
    fn failures_are_retried_ever_more_rarely_and_never_hot() {
        for count in 1..40 {
            let wait = back_off(count);
            assert!(wait >= Duration::from_millis(187), "{count}: {wait:?}");
            assert!(wait <= LONGEST_WAIT.mul_f64(1.25), "{count}: {wait:?}");
        }
        assert!(back_off(12) > back_off(3));
    }
}
