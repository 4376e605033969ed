//! Writes status and events, on transitions only.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use k8s_openapi::jiff::Timestamp;
use kube::api::PartialObjectMeta;
use kube::core::Request;
use kube::{Resource, ResourceExt};
use serde_json::json;

use crate::api::condition::{self, reason};
use crate::api::{Agent, AgentPhase, AgentStatus, PodStatus, StorageStatus, Town, TownPhase, TownStatus};
use crate::cluster::act::subject::Outcome;
use crate::cluster::client::params::post_params;
use crate::cluster::context::Cluster;
use crate::cluster::error::Error;
use crate::cluster::kinds::known::Kind;
use crate::cluster::report::transition_metrics;
use crate::lifecycle::{Plan, Uid, claim_record, overlay, pod_record};

/// A kind with a status that a plan reports.
pub trait Report: Resource<DynamicType = ()> + Clone {
    /// The status of the kind.
    type Status: Clone + PartialEq + Default;
    /// Adds the result of the actions to the status of the decision.
    fn record(status: &mut Self::Status, pod: Option<PodStatus>, claim: Option<StorageStatus>);
    /// Adds an error of the API server to the record of the destruction.
    fn refused(status: &mut Self::Status, message: &str);
    /// The conditions.
    fn conditions(status: &Self::Status) -> &[Condition];
    /// The conditions, for a change.
    fn conditions_mut(status: &mut Self::Status) -> &mut Vec<Condition>;
    /// The phase.
    fn phase(status: &Self::Status) -> Option<&str>;
    /// Whether two statuses are equal without the fields that only accompany other changes.
    fn says_the_same(one: &Self::Status, other: &Self::Status) -> bool;
    /// Sets the phase for an error that a user must resolve.
    fn block(status: &mut Self::Status);
    /// The current status of the object.
    fn status(&self) -> Option<&Self::Status>;
    /// Writes a status to the object of that resource version.
    fn write(
        &self,
        cluster: &Cluster,
        status: Self::Status,
        resource_version: Option<String>,
    ) -> impl Future<Output = Result<Option<String>, kube::Error>> + Send;
    /// Adds the change of status to the metrics.
    fn measure(&self, cluster: &Cluster, uid: &Uid, status: &Self::Status, now: Timestamp);
    /// Records the write for the watch of the kind.
    #[doc(hidden)]
    fn watched(cluster: &Cluster, uid: &Uid, resource_version: Option<&str>);
}

macro_rules! report {
    ($object:ty, $status:ty, $kind:expr, $blocked:expr, $measure:path $(, riding: $rider:ident)?) => {
        impl Report for $object {
            type Status = $status;

            fn record(status: &mut $status, pod: Option<PodStatus>, claim: Option<StorageStatus>) {
                if pod.is_some() {
                    status.pod = pod;
                }
                if claim.is_some() {
                    status.storage = claim;
                }
            }

            fn refused(status: &mut $status, message: &str) {
                for awaited in status.destroy.iter_mut().flat_map(|d| &mut d.blocked_by) {
                    message.clone_into(&mut awaited.message);
                }
            }

            fn conditions(status: &$status) -> &[Condition] {
                &status.conditions
            }

            fn conditions_mut(status: &mut $status) -> &mut Vec<Condition> {
                &mut status.conditions
            }

            fn phase(status: &$status) -> Option<&str> {
                status.phase.as_deref()
            }

            fn says_the_same(one: &$status, other: &$status) -> bool {
                #[allow(unused_mut)] // Agents have no field that only accompanies other changes.
                let mut one = one.clone();
                $(one.$rider.clone_from(&other.$rider);)?
                one == *other
            }

            fn block(status: &mut $status) {
                status.phase = Some($blocked.to_string());
            }

            fn status(&self) -> Option<&$status> {
                self.status.as_ref()
            }

            async fn write(
                &self,
                cluster: &Cluster,
                status: $status,
                resource_version: Option<String>,
            ) -> Result<Option<String>, kube::Error> {
                // The request has only the status. The API server ignores everything else, the spec may be known only
                // partially, and the other metadata are unnecessary.
                let (namespace, name) = (self.namespace().unwrap_or_default(), self.name_any());
                let object = json!({
                    "apiVersion": Self::api_version(&()),
                    "kind": Self::kind(&()),
                    "metadata": {
                        "namespace": namespace,
                        "name": name,
                        "uid": self.metadata.uid,
                        "resourceVersion": resource_version.as_ref().or(self.metadata.resource_version.as_ref()),
                    },
                    "status": status,
                });
                let object = serde_json::to_vec(&object).map_err(kube::Error::SerdeError)?;
                let request = Request::new(Self::url_path(&(), Some(&namespace)))
                    .replace_subresource("status", &name, &post_params(), object)
                    .map_err(kube::Error::BuildRequest)?;
                let written: PartialObjectMeta<Self> = cluster.client.request(request).await?;
                Ok(written.metadata.resource_version)
            }

            fn measure(&self, cluster: &Cluster, uid: &Uid, status: &$status, now: Timestamp) {
                $measure(cluster, self, uid, status, now);
            }

            fn watched(cluster: &Cluster, uid: &Uid, resource_version: Option<&str>) {
                cluster.caches.own_writes.wrote(uid, $kind, resource_version);
            }
        }
    };
}

report!(Town, TownStatus, Kind::Town, TownPhase::Blocked, transition_metrics::town, riding: usage);
report!(Agent, AgentStatus, Kind::Agent, AgentPhase::Blocked, transition_metrics::agent);

/// Reports the decision and the result of its actions: one write of the status if it changed, and events on
/// transitions. In steady state the operator writes nothing.
pub async fn report<K: Report + Sync>(
    cluster: &Cluster,
    object: &K,
    uid: &Uid,
    plan: Plan<K::Status>,
    outcome: &Outcome,
    now: Timestamp,
) -> Result<(), Error> {
    if outcome.finished {
        let summary = plan.note.unwrap_or_default();
        cluster.receipts.forget(uid);
        transition_metrics::destroyed(&cluster.metrics, object, now);
        cluster.events.say(object, false, "Destroyed", &summary).await;
        return Ok(());
    }
    report_status(cluster, object, uid, (plan.status, plan.note), outcome, now).await?;
    cluster.notices.say(&cluster.events, object, uid, &plan.notices).await;
    Ok(())
}

/// Writes the status if it changes.
async fn report_status<K: Report + Sync>(
    cluster: &Cluster,
    object: &K,
    uid: &Uid,
    (decided, note): (Option<K::Status>, Option<String>),
    outcome: &Outcome,
    now: Timestamp,
) -> Result<(), Error> {
    let before = object.status();
    let old = before.map_or(&[][..], K::conditions);
    let failure = outcome.error.as_ref().and_then(Error::failure);
    let mut status = match (decided, &failure) {
        (Some(status), _) => status,
        (None, Some(_)) => before.cloned().unwrap_or_default(),
        (None, None) => return Ok(()),
    };
    if before == Some(&status) && failure.is_none() {
        return Ok(());
    }
    K::record(&mut status, outcome.pod.as_ref().map(pod_record), outcome.claim.as_ref().map(claim_record));
    if let Some(failure) = &failure {
        overlay(K::conditions_mut(&mut status), old, failure, now);
        K::refused(&mut status, &failure.message);
        if failure.stalled {
            K::block(&mut status);
        }
    }
    // While a plan fails repeatedly, its status equals the current one only after the failure is added.
    if before.is_some_and(|before| K::says_the_same(before, &status)) {
        return Ok(());
    }
    let what = format!("report status of {} {}", K::kind(&()), object.name_any());
    let written = object
        .write(cluster, status.clone(), outcome.resource_version.clone())
        .await
        .map_err(|e| Error::known(what, e))?;
    K::watched(cluster, uid, written.as_deref());
    cluster.reported.record(uid, now);
    object.measure(cluster, uid, &status, now);
    announce::<K>(cluster, object, old, before, &status, note).await;
    Ok(())
}

/// Publishes at most one event for a change of phase, and one event for each error or deviation from the spec.
async fn announce<K: Report>(
    cluster: &Cluster,
    object: &K,
    old: &[Condition],
    before: Option<&K::Status>,
    status: &K::Status,
    note: Option<String>,
) {
    let find = |all: &[Condition], type_: &str| all.iter().find(|c| c.type_ == type_).cloned();
    let new = K::conditions(status);
    let phase = K::phase(status).unwrap_or_default();
    if before.and_then(K::phase) != Some(phase) {
        let text = note.or_else(|| find(new, condition::READY).map(|c| c.message)).unwrap_or_default();
        tracing::info!(object = %object.name_any(), phase, text, "phase");
        cluster.events.say(object, false, phase, &text).await;
    }
    for type_ in [condition::DEGRADED, condition::STALLED, condition::DELETION_BLOCKED] {
        let (was, is) = (find(old, type_), find(new, type_));
        if let Some(is) = is.filter(|c| c.status == "True")
            && was.is_none_or(|was| was.status != "True" || was.reason != is.reason)
        {
            cluster.events.say(object, true, &is.reason, &is.message).await;
        }
    }
    let clamped = |all: &[Condition]| {
        find(all, condition::DELETION_BLOCKED).filter(|c| c.reason == reason::RETENTION_CLAMPED)
    };
    if let Some(is) = clamped(new).filter(|_| clamped(old).is_none()) {
        cluster.events.say(object, true, &is.reason, &is.message).await;
    }
}
