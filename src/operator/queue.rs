//! The work queues: one for each kind with a reconcile.
//!
//! Invariants kept here:
//! - An object has at most one reconcile at a time. A request during a reconcile causes another one after it.
//! - Namespaces share the places fairly ([`FairQueue`]), so that the objects of one tenant do not delay those of
//!   another.
//! - An object that fails repeatedly is retried with a growing delay.
//! - The state of an object that is gone is forgotten.

use std::collections::{BTreeSet, HashMap};
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt};
use k8s_openapi::jiff::Timestamp;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tracing::Instrument;

use super::Looked;
use super::alarms::Alarms;
use crate::cluster::{Error, FairQueue};
use crate::lifecycle::ObjectKey;
use crate::telemetry::Metrics;

/// The timeout of one reconcile. Each request in it has its own timeout; this one protects the place.
const DEADLINE: Duration = Duration::from_mins(2);
/// The longest delay between two attempts for an object that fails repeatedly.
const LONGEST_WAIT: Duration = Duration::from_mins(5);

/// The delay between two attempts to create in a namespace that is being deleted. The watch reports the deletion of
/// the object itself.
const NAMESPACE_TERMINATING_WAIT: Duration = Duration::from_secs(5);

/// The sender of a queue.
#[derive(Clone)]
pub(super) struct Queue(mpsc::UnboundedSender<ObjectKey>);

impl Queue {
    /// Enqueues an object.
    pub(super) fn look_at(&self, key: &ObjectKey) {
        // The receiver is dropped only at the end of the process.
        let _ = self.0.send(key.clone());
    }
}

/// The reconcile of the objects in a queue.
pub(super) trait Reconcile: Send + Sync + 'static {
    /// Runs one reconcile.
    fn reconcile(&self, key: ObjectKey) -> impl Future<Output = Result<Looked, Error>> + Send;
}

/// A reconcile that did not finish.
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
    /// The reason in one word.
    fn reason(&self) -> &'static str {
        match self {
            Self::Error(error) => error.reason(),
            Self::Panicked => "Panicked",
            Self::Deadline => "Deadline",
        }
    }
}

/// The objects that wait, the objects in a reconcile, and the objects with a scheduled time.
struct Schedule {
    due: FairQueue<ObjectKey>,
    /// Whether an object in a reconcile was enqueued again meanwhile.
    running: HashMap<ObjectKey, bool>,
    times: HashMap<ObjectKey, Instant>,
    /// The same times in order.
    order: BTreeSet<(Instant, ObjectKey)>,
}

impl Schedule {
    fn new(concurrency: u16) -> Self {
        let (running, times) = (HashMap::new(), HashMap::new());
        Self { due: FairQueue::new(concurrency), running, times, order: BTreeSet::new() }
    }

    /// Enqueues the object, or marks it for another reconcile after the current one.
    fn ask(&mut self, key: ObjectKey) {
        if let Some(asked) = self.running.get_mut(&key) {
            *asked = true;
            return;
        }
        if let Some(at) = self.times.remove(&key) {
            self.order.remove(&(at, key.clone()));
        }
        self.due.push(&key.namespace.clone(), key);
    }

    /// The next object to reconcile, if a place is free for it.
    fn take(&mut self, now: Instant) -> Option<ObjectKey> {
        while let Some((at, key)) = self.order.first().cloned()
            && at <= now
        {
            self.ask(key);
        }
        let key = self.due.admit()?;
        self.running.insert(key.clone(), false);
        Some(key)
    }

    /// Records the end of a reconcile, and schedules the next one.
    fn ended(&mut self, key: ObjectKey, again: Option<Instant>) {
        self.due.release(&key.namespace);
        if self.running.remove(&key) == Some(true) {
            self.ask(key);
        } else if let Some(at) = again {
            self.times.insert(key.clone(), at);
            self.order.insert((at, key));
        }
    }

    /// The time of the next scheduled object.
    fn next_time(&self) -> Option<Instant> {
        self.order.first().map(|(at, _)| *at)
    }
}

struct Context<R> {
    reconcile: R,
    kind: &'static str,
    metrics: Arc<Metrics>,
    alarms: Alarms,
    failures: Mutex<HashMap<ObjectKey, u32>>,
}

/// Creates a queue, and the future that works on it until every [`Queue`] is dropped.
pub(super) fn queue<R: Reconcile>(
    kind: &'static str,
    concurrency: u16,
    reconcile: R,
    metrics: Arc<Metrics>,
) -> (Queue, impl Future<Output = ()> + Send + 'static) {
    let (sender, asked) = mpsc::unbounded_channel();
    let (alarms, failures) = (Alarms::default(), Mutex::default());
    let context = Context { reconcile, kind, metrics, alarms, failures };
    (Queue(sender), work(asked, Schedule::new(concurrency), context))
}

/// Reconciles the enqueued objects. After the last [`Queue`] is dropped, the reconciles in progress finish, and no
/// further one begins.
async fn work<R: Reconcile>(
    mut asked: mpsc::UnboundedReceiver<ObjectKey>,
    mut schedule: Schedule,
    context: Context<R>,
) {
    let mut under_way = FuturesUnordered::new();
    let mut open = true;
    loop {
        while open && let Some(key) = schedule.take(Instant::now()) {
            let context = &context;
            let look = async move {
                let wait = look(&key, context).await;
                (key, wait.and_then(|wait| Instant::now().checked_add(wait)))
            };
            under_way.push(look.boxed());
        }
        if !open && under_way.is_empty() {
            return;
        }
        let next = schedule.next_time();
        tokio::select! {
            key = asked.recv(), if open => match key {
                Some(key) => {
                    schedule.ask(key);
                    while let Ok(key) = asked.try_recv() {
                        schedule.ask(key);
                    }
                }
                None => open = false,
            },
            Some((key, again)) = under_way.next() => schedule.ended(key, again),
            () = time_comes(next), if open => {}
        }
    }
}

async fn time_comes(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// Runs one reconcile of an object. Returns the delay until the next one; `None`: the next one needs a request.
async fn look<R: Reconcile>(key: &ObjectKey, context: &Context<R>) -> Option<Duration> {
    if let Some(late) = context.alarms.taken(key, Timestamp::now()) {
        context.metrics.looked_late(context.kind, late);
    }
    let began = Instant::now();
    // Every log line of a reconcile names its object.
    let span =
        tracing::info_span!("reconcile", kind = context.kind, namespace = key.namespace, object = key.name);
    let reconcile = context.reconcile.reconcile(key.clone()).instrument(span);
    let guarded = AssertUnwindSafe(reconcile).catch_unwind();
    let ended = tokio::time::timeout(DEADLINE, guarded).await;
    context.metrics.reconciled(context.kind, began.elapsed());
    let looked = match ended {
        Ok(Ok(Ok(looked))) => looked,
        Ok(Ok(Err(error))) => return Some(context.failed(key, &Failed::Error(error))),
        Ok(Err(_)) => return Some(context.failed(key, &Failed::Panicked)),
        Err(_) => return Some(context.failed(key, &Failed::Deadline)),
    };
    if let Some(at) = looked.look_again {
        context.alarms.set(key, at, Timestamp::now());
    }
    let wait = looked.look_again.map(until);
    if let Some(error) = looked.failed {
        let asked = asked_wait(&error);
        let retry = context.failed(key, &Failed::Error(error));
        return Some(wait.map_or(retry, |wait| wait.min(retry)).max(asked));
    }
    context.failures.lock().unwrap_or_else(PoisonError::into_inner).remove(key);
    wait
}

impl<R> Context<R> {
    /// Counts a failure of an object. Returns the delay before the next attempt.
    fn failed(&self, key: &ObjectKey, failed: &Failed) -> Duration {
        self.metrics.reconcile_failed(self.kind, failed.reason());
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        let count = failures.entry(key.clone()).or_default();
        let wait = match failed {
            Failed::Error(error) if error.is_namespace_terminating() => NAMESPACE_TERMINATING_WAIT,
            _ => {
                *count = count.saturating_add(1);
                back_off(*count)
            }
        };
        let wait = match failed {
            Failed::Error(error) => wait.max(asked_wait(error)),
            Failed::Panicked | Failed::Deadline => wait,
        };
        let passing = match failed {
            Failed::Error(error @ Error::Api { .. }) => error.is_namespace_terminating(),
            Failed::Error(error) => {
                matches!(error, Error::Conflict { .. } | Error::NotLeading { .. } | Error::NotLive { .. })
            }
            Failed::Panicked | Failed::Deadline => false,
        };
        if passing {
            tracing::debug!(object = %key, error = %failed, "the object reconciles again");
        } else {
            let wait_s = wait.as_secs_f32();
            tracing::warn!(object = %key, error = %failed, count, wait_s, "reconcile failed");
        }
        wait
    }
}

/// The delay that an overloaded API server asks for, limited to the longest delay.
fn asked_wait(error: &Error) -> Duration {
    error.retry_after().unwrap_or_default().min(LONGEST_WAIT)
}

/// The delay until a time, slightly too long rather than too short: a reconcile that starts too early must be
/// repeated.
fn until(at: Timestamp) -> Duration {
    let wait = at.duration_since(Timestamp::now()).unsigned_abs();
    if at <= Timestamp::now() { Duration::from_millis(10) } else { wait + Duration::from_millis(10) }
}

/// A delay of 0.25 s, doubled with each failure up to 5 min, and spread by a quarter so that many objects are not
/// retried at the same time.
fn back_off(count: u32) -> Duration {
    let base =
        Duration::from_millis(250).saturating_mul(1 << count.saturating_sub(1).min(12)).min(LONGEST_WAIT);
    base.mul_f64(rand::random_range(0.75..1.25))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A reconcile with a fixed result.
    struct Always(fn() -> Result<Looked, Error>);

    impl Reconcile for Always {
        async fn reconcile(&self, _: ObjectKey) -> Result<Looked, Error> {
            (self.0)()
        }
    }

    fn context(outcome: fn() -> Result<Looked, Error>) -> Context<Always> {
        Context {
            reconcile: Always(outcome),
            kind: "Town",
            metrics: Arc::default(),
            alarms: Alarms::default(),
            failures: Mutex::default(),
        }
    }

    fn key() -> ObjectKey {
        ObjectKey { namespace: "ns".into(), name: "t".into() }
    }

    /// Reconciles one object twice.
    async fn looked_twice(outcome: fn() -> Result<Looked, Error>) -> Arc<Metrics> {
        let context = context(outcome);
        for _ in 0..2 {
            look(&key(), &context).await;
        }
        context.metrics
    }

    fn conflict() -> Error {
        Error::Conflict { what: "a test".into() }
    }

    #[tokio::test]
    async fn reconcile_is_measured_and_its_failure_is_counted_once() {
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

    // code:A37, reports:P30
    #[tokio::test]
    async fn back_off_is_constant_in_a_terminating_namespace_and_respects_retry_after() {
        let context = context(|| Ok(Looked::default()));
        let terminating = || {
            let status = kube::core::Status::failure("namespace ns is being terminated", "Forbidden");
            let source = Box::new(kube::Error::Api(status.with_code(403).boxed()));
            Failed::Error(Error::Api { what: "create Pod t".into(), source })
        };
        for _ in 0..20 {
            assert_eq!(context.failed(&key(), &terminating()), NAMESPACE_TERMINATING_WAIT);
        }
        assert!(
            context.failed(&key(), &Failed::Error(conflict())) < Duration::from_secs(1),
            "the first failure"
        );
        let asked = Duration::from_secs(42);
        let overloaded = Failed::Error(Error::Overloaded { wait: Some(asked) });
        assert_eq!(context.failed(&key(), &overloaded), asked);
    }

    #[test]
    fn reconcile_timeout_is_counted_with_the_reason_deadline() {
        let context = context(|| Ok(Looked::default()));
        context.failed(&key(), &Failed::Deadline);
        let series = r#"reconcile_errors_total{kind="Town",reason="Deadline"}"#;
        assert_eq!(context.metrics.value(series), Some(1.0));
    }

    #[tokio::test]
    async fn queue_forgets_an_object_that_is_gone() {
        let later = || Ok(Looked { look_again: Some(Timestamp::MAX), failed: Some(conflict()) });
        let mut context = context(later);
        assert!(look(&key(), &context).await.is_some());
        assert!(!context.alarms.is_empty() && !context.failures.lock().unwrap().is_empty());
        // The deletion of the object enqueues it, and no later reconcile is scheduled.
        context.reconcile = Always(|| Ok(Looked::default()));
        assert_eq!(look(&key(), &context).await, None);
        assert!(context.alarms.is_empty() && context.failures.lock().unwrap().is_empty());
    }

    #[tokio::test]
    async fn requeue_lateness_is_measured_only_when_the_requeue_time_has_come() {
        let due = || Ok(Looked { look_again: Some(Timestamp::now()), failed: None });
        let metrics = looked_twice(due).await;
        assert_eq!(metrics.value(r#"alarm_lateness_seconds_count{kind="Town"}"#), Some(1.0));
        let later = || Ok(Looked { look_again: Some(Timestamp::MAX), failed: None });
        let metrics = looked_twice(later).await;
        assert_eq!(metrics.value(r#"alarm_lateness_seconds_count{kind="Town"}"#), Some(0.0));
    }

    #[test]
    fn back_off_grows_and_stays_within_its_bounds() {
        for count in 1..40 {
            let wait = back_off(count);
            assert!(wait >= Duration::from_millis(187), "{count}: {wait:?}");
            assert!(wait <= LONGEST_WAIT.mul_f64(1.25), "{count}: {wait:?}");
        }
        assert!(back_off(12) > back_off(3));
    }

    /// Reconciles that last until the test releases them. The channel has the objects in the order of their begins.
    struct Slow {
        began: mpsc::UnboundedSender<ObjectKey>,
        go_on: Arc<tokio::sync::Semaphore>,
    }

    impl Reconcile for Slow {
        async fn reconcile(&self, key: ObjectKey) -> Result<Looked, Error> {
            // A test may end while reconciles are in progress.
            let _ = self.began.send(key);
            self.go_on.acquire().await.unwrap().forget();
            Ok(Looked::default())
        }
    }

    fn slow() -> (Slow, mpsc::UnboundedReceiver<ObjectKey>, Arc<tokio::sync::Semaphore>) {
        let (began, begins) = mpsc::unbounded_channel();
        let go_on = Arc::new(tokio::sync::Semaphore::new(0));
        (Slow { began, go_on: go_on.clone() }, begins, go_on)
    }

    fn in_namespace(namespace: &str, number: usize) -> ObjectKey {
        ObjectKey { namespace: namespace.into(), name: format!("t-{number}") }
    }

    #[tokio::test]
    async fn object_is_reconciled_while_another_namespace_has_slow_reconciles() {
        let (slow, mut begins, go_on) = slow();
        let (queue, work) = queue("Town", 4, slow, Arc::default());
        let work = tokio::spawn(work);
        for number in 0..50 {
            queue.look_at(&in_namespace("greedy", number));
        }
        for _ in 0..3 {
            assert_eq!(begins.recv().await.unwrap().namespace, "greedy");
        }
        queue.look_at(&in_namespace("modest", 0));
        assert_eq!(begins.recv().await.unwrap().namespace, "modest", "a place was left for it");
        // Two namespaces wait, so each gets its quarter and no more.
        for number in 1..5 {
            queue.look_at(&in_namespace("modest", number));
        }
        for permits in [4, 2, 2] {
            go_on.add_permits(permits);
            let mut next = [begins.recv().await.unwrap().namespace, begins.recv().await.unwrap().namespace];
            next.sort();
            assert_eq!(next, ["greedy", "modest"]);
            assert!(begins.try_recv().is_err());
        }
        work.abort();
    }

    #[tokio::test]
    async fn object_is_reconciled_once_at_a_time_and_again_when_enqueued_meanwhile() {
        let (slow, mut begins, go_on) = slow();
        let metrics: Arc<Metrics> = Arc::default();
        let (queue, work) = queue("Town", 4, slow, metrics.clone());
        let work = tokio::spawn(work);
        for _ in 0..3 {
            queue.look_at(&key());
        }
        assert_eq!(begins.recv().await, Some(key()));
        for _ in 0..3 {
            queue.look_at(&key());
        }
        queue.look_at(&in_namespace("other", 0));
        assert_eq!(begins.recv().await, Some(in_namespace("other", 0)), "and not the same object again");
        go_on.add_permits(2);
        assert_eq!(begins.recv().await, Some(key()));
        // The queue ends after its last handle is dropped and the reconciles in progress have finished.
        drop(queue);
        assert!(!work.is_finished());
        go_on.add_permits(1);
        work.await.unwrap();
        assert_eq!(metrics.value(r#"reconciles_total{kind="Town"}"#), Some(3.0));
        assert_eq!(begins.recv().await, None);
    }

    #[test]
    fn object_is_due_at_its_requeue_time_or_when_it_is_enqueued_earlier() {
        let mut schedule = Schedule::new(4);
        let now = Instant::now();
        let later = |seconds| now + Duration::from_secs(seconds);
        let (one, other) = (in_namespace("a", 1), in_namespace("a", 2));
        for (key, again) in [(&one, 10), (&other, 20)] {
            schedule.ask(key.clone());
            assert_eq!(schedule.take(now).as_ref(), Some(key));
            schedule.ended(key.clone(), Some(later(again)));
        }
        assert_eq!((schedule.take(later(9)), schedule.next_time()), (None, Some(later(10))));
        assert_eq!(schedule.take(later(10)), Some(one.clone()));
        schedule.ask(other.clone());
        assert_eq!(schedule.take(later(10)), Some(other.clone()), "before its time");
        schedule.ended(other, None);
        schedule.ended(one, None);
        assert_eq!(
            (schedule.take(later(30)), schedule.next_time()),
            (None, None),
            "and not again at its time"
        );
        assert!(schedule.times.is_empty() && schedule.running.is_empty());
    }
}
