//! One reconcile: observe, decide, act, report.

use k8s_openapi::jiff::Timestamp;

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
    // Marked as draining, nothing may start: the mark waits for creates under way and keeps others out.
    let outcome = cluster::act(cluster, Subject::Town(&snapshot.town), &plan.actions, now).await;
    let _alone = if plan.exclusive { Some(cluster.gates.exclusive(&snapshot.uid).await) } else { None };
    let look_again = plan.look_again;
    cluster::report(cluster, &*snapshot.town, &snapshot.uid, plan, &outcome, now).await?;
    Ok(Looked { look_again, failed: outcome.error })
}

/// Brings one agent a step nearer to what should be; see [`reconcile_town`].
pub async fn reconcile_agent(cluster: &Cluster, key: &ObjectKey) -> Result<Looked, Error> {
    let Some(snapshot) = cluster::observe_agent(cluster, key).await? else { return Ok(Looked::default()) };
    let now = Timestamp::now();
    let plan = lifecycle::decide_agent(&snapshot, now);
    let outcome = cluster::act(cluster, Subject::Agent(&snapshot.agent), &plan.actions, now).await;
    let look_again = plan.look_again;
    cluster::report(cluster, &*snapshot.agent, &snapshot.uid, plan, &outcome, now).await?;
    Ok(Looked { look_again, failed: outcome.error })
}
