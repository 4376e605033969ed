//! A reconcile: observe, decide, act, report.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use k8s_openapi::jiff::{SignedDuration, Timestamp};

use crate::cluster::{self, Cluster, Error, Expiry, Outcome, Subject};
use crate::lifecycle::{self, Begin, ObjectKey, Plan, TombstoneFacts, Uid};

/// The delay before a record that could not be deleted is reconciled again.
const STAYS_FOR: SignedDuration = SignedDuration::from_hours(1);

/// The delay before records of a namespace with too many of them are reconciled again, while they cannot be deleted.
const TRIM_AGAIN: SignedDuration = SignedDuration::from_secs(5);

/// The longest delay before a failed removal is retried.
const REMOVAL_AT_LEAST_EVERY: SignedDuration = SignedDuration::from_mins(1);

/// The result of a reconcile that was reported.
#[derive(Default)]
pub struct Looked {
    /// The time of the next reconcile if no change comes before; `None`: never.
    pub look_again: Option<Timestamp>,
    /// An action that failed. The operator retries it after a delay, whatever the value of `look_again` is.
    pub failed: Option<Error>,
}

/// Reconciles one town once.
pub async fn reconcile_town(cluster: &Arc<Cluster>, key: &ObjectKey) -> Result<Looked, Error> {
    let Some(snapshot) = cluster::observe_town(cluster, key).await? else { return Ok(Looked::default()) };
    let now = cluster.now();
    let mut plan = lifecycle::decide_town(&snapshot, now);
    // While the town is draining no pod may start: the exclusive gate waits for creates in progress and blocks
    // others.
    let outcome = cluster::act(cluster, Subject::Town(&snapshot.town), &plan.actions, now).await;
    let _alone = if plan.exclusive { Some(cluster.gates.exclusive(&snapshot.uid).await) } else { None };
    let turn_ends = cluster.turn_ends(&snapshot.uid);
    let look_again = [next_look(&plan, &snapshot.uid, now), turn_ends].into_iter().flatten().min();
    let asks = std::mem::take(&mut plan.asks);
    let reported = cluster::report(cluster, &*snapshot.town, &snapshot.uid, plan, &outcome, now).await;
    if reported.is_ok() {
        for ask in asks {
            cluster.probes.ask(ask);
        }
    }
    let deleting = snapshot.town.metadata.deletion_timestamp.is_some();
    looked(look_again, outcome, reported, deleting, now)
}

/// Reconciles one agent once; see [`reconcile_town`].
pub async fn reconcile_agent(cluster: &Arc<Cluster>, key: &ObjectKey) -> Result<Looked, Error> {
    let Some(mut snapshot) = cluster::observe_agent(cluster, key).await? else {
        return Ok(Looked::default());
    };
    let now = cluster.now();
    let mut plan = lifecycle::decide_agent(&snapshot, now);
    let begin = lifecycle::begins(&snapshot, &plan);
    let mut keeps_place_until = None;
    if begin.is_none() {
        // The watch shows all writes of this process for the agent, so its place is visible to its peers.
        keeps_place_until = cluster::give_back_place(cluster, &snapshot, now);
    } else {
        let standing = cluster::take_place(cluster, &snapshot);
        if standing != snapshot.standing {
            snapshot.standing = standing;
            plan = lifecycle::decide_agent(&snapshot, now);
        }
    }
    let outcome = cluster::act(cluster, Subject::Agent(&snapshot.agent), &plan.actions, now).await;
    let (look_again, asks) = (next_look(&plan, &snapshot.uid, now), std::mem::take(&mut plan.asks));
    let reported = cluster::report(cluster, &*snapshot.agent, &snapshot.uid, plan, &outcome, now).await;
    let failed = match begin {
        Some(Begin::Pod) if outcome.pod.is_none() => outcome.error.as_ref(),
        Some(Begin::Attempt) => reported.as_ref().err(),
        _ => None,
    };
    match failed {
        Some(error) if error.outcome_unknown() => cluster::keep_place(cluster, &snapshot, now),
        Some(_) => keeps_place_until = cluster::give_back_place(cluster, &snapshot, now),
        None => {}
    }
    let look_again = [look_again, keeps_place_until].into_iter().flatten().min();
    if reported.is_ok() {
        for ask in asks {
            cluster.probes.ask(ask);
        }
    }
    let deleting = snapshot.agent.metadata.deletion_timestamp.is_some();
    looked(look_again, outcome, reported, deleting, now)
}

/// The result of the actions and of the report. If a deletion waits for a failed write, the next attempt comes within
/// a minute, however often the write has failed before.
fn looked(
    look_again: Option<Timestamp>,
    outcome: Outcome,
    reported: Result<(), Error>,
    deleting: bool,
    now: Timestamp,
) -> Result<Looked, Error> {
    let retry = now.checked_add(REMOVAL_AT_LEAST_EVERY).ok();
    let held_up = outcome.removal_failed || (deleting && (outcome.error.is_some() || reported.is_err()));
    let look_again = if held_up { [look_again, retry].into_iter().flatten().min() } else { look_again };
    match reported {
        Err(error) if !held_up => Err(error),
        reported => Ok(Looked { look_again, failed: outcome.error.or(reported.err()) }),
    }
}

/// Deletes an expired record if no object that it names is left. Deletes the oldest records of its namespace early if
/// there are too many.
pub async fn reconcile_tombstone(cluster: &Arc<Cluster>, key: &ObjectKey) -> Result<Looked, Error> {
    let Some(tombstone) = cluster.caches.tombstones.get(key) else { return Ok(Looked::default()) };
    let looked = expire(cluster, key, &tombstone).await?;
    let (again, failed) = match cluster::trim(cluster, &tombstone.of.key.namespace).await {
        Ok(true) => (cluster.now().checked_add(TRIM_AGAIN).ok(), None),
        Ok(false) => (None, None),
        Err(error) => (None, Some(error)),
    };
    Ok(Looked { look_again: [looked.look_again, again].into_iter().flatten().min(), failed })
}

async fn expire(
    cluster: &Arc<Cluster>,
    key: &ObjectKey,
    tombstone: &TombstoneFacts,
) -> Result<Looked, Error> {
    let Some(at) = lifecycle::expire_time(tombstone) else { return Ok(Looked::default()) };
    let now = cluster.now();
    if now < at {
        return Ok(Looked { look_again: Some(at), failed: None });
    }
    let wait = match cluster::expire(cluster, key).await? {
        Expiry::Gone => None,
        Expiry::TooEarly => Some(SignedDuration::from_secs(1)),
        Expiry::StillThere => Some(STAYS_FOR),
    };
    let look_again = wait.and_then(|wait| now.checked_add(wait).ok());
    Ok(Looked { look_again, failed: None })
}

/// Releases or reports a pod and a claim without owners in the watches, if the owners are proven gone. The next
/// reconcile comes with the next change in a watch. A failed read is retried with a growing delay.
pub async fn reconcile_child(cluster: &Arc<Cluster>, key: &ObjectKey) -> Result<Looked, Error> {
    cluster::settle_orphans(cluster, key).await.map(|()| Looked::default())
}

/// The time of the next reconcile. A lenient reconcile comes later by up to a tenth of the delay, so that many
/// reconciles for the same time are spread. The spread depends on the UID and the time, not on a random number, so
/// that a run can be repeated.
fn next_look<S>(plan: &Plan<S>, uid: &Uid, now: Timestamp) -> Option<Timestamp> {
    let at = plan.look_again?;
    if !plan.lenient {
        return Some(at);
    }
    let mut hasher = DefaultHasher::new();
    (uid, at.as_nanosecond()).hash(&mut hasher);
    let part = u32::try_from(hasher.finish() % 1000).unwrap_or_default();
    let wait = at.duration_since(now).max(SignedDuration::ZERO).unsigned_abs();
    Some(at.checked_add(wait * part / 10_000).unwrap_or(at))
}

#[cfg(test)]
mod tests {
    use http::{Request, Response};
    use kube::Client;
    use kube::client::Body;
    use tower::service_fn;

    use super::*;
    use crate::cluster::{Clock, Limits, looks};
    use crate::resources::Install;

    #[tokio::test]
    async fn missing_object_causes_no_request_and_no_requeue() {
        let server = service_fn(async |request: Request<Body>| -> Result<Response<Body>, std::io::Error> {
            panic!("{} {}", request.method(), request.uri())
        });
        let (looks, mut asked) = looks();
        let client = Client::new(server, "ns");
        let install = Install("here".into());
        let (limits, clock) = (Limits::LEAST, Clock::system());
        let cluster = Arc::new(Cluster::new(client, install, Arc::default(), limits, looks, clock));
        let gone = ObjectKey { namespace: "ns".into(), name: "gone".into() };
        for looked in [
            reconcile_town(&cluster, &gone).await,
            Box::pin(reconcile_agent(&cluster, &gone)).await,
            reconcile_tombstone(&cluster, &gone).await,
            reconcile_child(&cluster, &gone).await,
        ] {
            let Looked { look_again, failed } = looked.unwrap();
            assert!(look_again.is_none() && failed.is_none(), "no timer is set for it");
        }
        assert!(asked.try_recv().is_err(), "nor is anybody else called");
    }

    // reports:P2
    #[test]
    fn refused_deletion_is_retried_within_a_minute() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let refused = || Error::Overloaded { wait: None };
        let outcome =
            |removal_failed| Outcome { error: Some(refused()), removal_failed, ..Outcome::default() };
        let next = |outcome, reported, deleting, look_again: Option<i64>| {
            looked(look_again.map(at), outcome, reported, deleting, at(0)).map(|looked| looked.look_again)
        };
        assert_eq!(
            next(outcome(true), Ok(()), false, None).unwrap(),
            Some(at(60)),
            "a pod of a living agent"
        );
        assert_eq!(next(outcome(true), Ok(()), true, Some(7)).unwrap(), Some(at(7)));
        assert_eq!(
            next(outcome(false), Ok(()), false, None).unwrap(),
            None,
            "a create has its back-off alone"
        );
        assert_eq!(next(Outcome::default(), Err(refused()), true, None).unwrap(), Some(at(60)), "a status");
        assert!(next(Outcome::default(), Err(refused()), false, None).is_err());
        assert_eq!(next(Outcome::default(), Ok(()), true, None).unwrap(), None, "nothing failed");
    }

    #[test]
    fn requeue_time_is_exact_for_a_deadline_and_spread_for_a_retry() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let look = |plan: &Plan<()>, who: u32, now| next_look(plan, &Uid::new(who.to_string()), at(now));
        let plan = Plan::<()>::nothing().look_again_at(Some(at(100)));
        assert_eq!(look(&plan, 1, 0), Some(at(100)));
        let plan = Plan::<()>::nothing().retry_at(Some(at(100)));
        let looks: Vec<_> = (0..50).map(|who| look(&plan, who, 0).unwrap()).collect();
        assert!(looks.iter().all(|look| (at(100)..at(110)).contains(look)), "{looks:?}");
        assert!(looks.iter().any(|look| look != &looks[0]), "all at once");
        assert!(looks.iter().any(|look| *look > at(105)), "over less than a tenth: {looks:?}");
        assert_eq!(look(&plan, 1, 500), Some(at(100)), "what is overdue is not put off");
        assert_eq!(look(&Plan::<()>::nothing(), 1, 0), None);
    }
}
