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
use std::time::Duration;

use futures::channel::mpsc;
use futures::{FutureExt, StreamExt};
use k8s_openapi::jiff::Timestamp;
use kube::Resource;
use kube::core::PartialObjectMeta;
use kube::runtime::controller::{Action, Config, Error as ApplierError, applier};
use kube::runtime::reflector::{ObjectRef, store::Writer};
use kube::runtime::watcher::Event;

use super::Looked;
use crate::cluster::Error;
use crate::lifecycle::ObjectKey;

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
        let _ = self.sender.unbounded_send(ObjectRef::new(&key.name).within(&key.namespace));
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

struct Context<R> {
    reconcile: R,
    failures: Mutex<HashMap<ObjectKey, u32>>,
}

/// Makes a queue, and the future that works on it until every [`Queue`] handle is gone.
pub(super) fn queue<K, R>(
    concurrency: u16,
    reconcile: R,
) -> (Queue<K>, Known<K>, impl Future<Output = ()> + Send + 'static)
where
    K: Resource<DynamicType = ()> + Clone + Debug + Send + Sync + 'static,
    PartialObjectMeta<K>: Resource<DynamicType = ()> + Clone,
    R: Reconcile,
{
    let (sender, triggers) = mpsc::unbounded();
    let writer = Writer::<PartialObjectMeta<K>>::new(());
    let context = Arc::new(Context { reconcile, failures: Mutex::default() });
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
    let work = applied.for_each(|result| async {
        match result {
            // Gone before its turn came: nothing to do.
            Ok(_) | Err(ApplierError::ObjectNotFound(_) | ApplierError::ReconcilerFailed(..)) => {}
            Err(error) => tracing::error!(%error, "the queue"),
        }
    });
    (Queue { sender }, Known(writer), work)
}

async fn look<R: Reconcile>(key: &ObjectKey, context: &Context<R>) -> Result<Action, Failed> {
    let guarded = AssertUnwindSafe(context.reconcile.reconcile(key.clone())).catch_unwind();
    let looked = match tokio::time::timeout(DEADLINE, guarded).await {
        Ok(Ok(result)) => result?,
        Ok(Err(_)) => return Err(Failed::Panicked),
        Err(_) => return Err(Failed::Deadline),
    };
    let look_again = looked.look_again.map(until);
    if let Some(error) = looked.failed {
        let retry = context.failed(key, &Failed::Error(error));
        return Ok(Action::requeue(look_again.map_or(retry, |wait| wait.min(retry))));
    }
    context.failures.lock().unwrap_or_else(PoisonError::into_inner).remove(key);
    Ok(look_again.map_or_else(Action::await_change, Action::requeue))
}

impl<R> Context<R> {
    /// Counts a failure of an object. Returns how long to wait before the next attempt.
    fn failed(&self, key: &ObjectKey, failed: &Failed) -> Duration {
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        let count = failures.entry(key.clone()).or_default();
        *count = count.saturating_add(1);
        let wait = back_off(*count);
        let passing = match failed {
            Failed::Error(error @ Error::Api { .. }) => error.is_namespace_terminating(),
            Failed::Error(error) => matches!(error, Error::Conflict { .. } | Error::NotLive { .. }),
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
