//! One reconcile: observe, decide, act, report.

use k8s_openapi::jiff::{SignedDuration, Timestamp};

use crate::cluster::{self, Cluster, Error, Subject};
use crate::lifecycle::{self, ObjectKey};

/// What came of a reconcile that was reported.
#[derive(Default)]
pub struct Looked {
    /// When to look again if nothing happens before; `None`: never.
    pub look_again: Option<Timestamp>,
    /// An action that failed; it is tried again after a while, whatever `look_again` says.
    pub failed: Option<Error>,
}

/// Brings one town a step nearer to what should be.
pub async fn reconcile_town(cluster: &Cluster, key: &ObjectKey) -> Result<Looked, Error> {
    let Some(snapshot) = cluster::observe_town(cluster, key).await? else { return Ok(Looked::default()) };
    let now = Timestamp::now();
    let plan = lifecycle::decide_town(&snapshot, now);
    let look_again = plan.look_again.map(|at| if plan.lenient { later(at, now) } else { at });
    // Marked as draining, nothing may start: the mark waits for creates under way and keeps others out.
    let outcome = cluster::act(cluster, Subject::Town(&snapshot.town), &plan.actions, now).await;
    let _alone = if plan.exclusive { Some(cluster.gates.exclusive(&snapshot.uid).await) } else { None };
    cluster::report(cluster, &*snapshot.town, &snapshot.uid, plan, &outcome, now).await?;
    Ok(Looked { look_again, failed: outcome.error })
}

/// Brings one agent a step nearer to what should be; see [`reconcile_town`].
pub async fn reconcile_agent(cluster: &Cluster, key: &ObjectKey) -> Result<Looked, Error> {
    let Some(snapshot) = cluster::observe_agent(cluster, key).await? else { return Ok(Looked::default()) };
    let now = Timestamp::now();
    let plan = lifecycle::decide_agent(&snapshot, now);
    let look_again = plan.look_again.map(|at| if plan.lenient { later(at, now) } else { at });
    let outcome = cluster::act(cluster, Subject::Agent(&snapshot.agent), &plan.actions, now).await;
    cluster::report(cluster, &*snapshot.agent, &snapshot.uid, plan, &outcome, now).await?;
    Ok(Looked { look_again, failed: outcome.error })
}

/// A deadline that need not be kept to the second, put off by up to a tenth of the wait: what many are to do at
/// the same time is spread.
fn later(at: Timestamp, now: Timestamp) -> Timestamp {
    let spread = at.duration_since(now).as_secs_f64().max(0.0) * rand::random_range(0.0..0.1);
    SignedDuration::try_from_secs_f64(spread).ok().and_then(|more| at.checked_add(more).ok()).unwrap_or(at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_many_do_at_once_is_spread_over_a_tenth_of_the_wait() {
        let now = Timestamp::from_second(1_900_000_000).unwrap();
        let at = Timestamp::from_second(1_900_000_100).unwrap();
        let spread: std::collections::BTreeSet<_> = (0..50).map(|_| later(at, now)).collect();
        let last = Timestamp::from_second(1_900_000_110).unwrap();
        assert!(spread.len() > 10, "{spread:?}");
        assert!(spread.iter().all(|when| (at..=last).contains(when)), "{spread:?}");
        assert_eq!(later(at, last), at, "what is overdue is not put off");
        assert_eq!(later(Timestamp::MAX, now), Timestamp::MAX);
    }
}
