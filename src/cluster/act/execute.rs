//! The writes of a plan, in its order.

use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod, Secret, Service};
use k8s_openapi::jiff::Timestamp;
use serde_json::{Value, json};

use crate::api::{Agent, Receipt, TombstoneChild, Town, names};
use crate::cluster::act::create::{Child, create};
use crate::cluster::act::live_owner::{LiveOwner, closed};
use crate::cluster::act::mutate::{change, delete, delete_pod, delete_unchanged, remove_finalizers};
use crate::cluster::act::subject::{Outcome, Subject};
use crate::cluster::act::tombstones;
use crate::cluster::context::Cluster;
use crate::cluster::error::Error;
use crate::cluster::scheduling::create_lock::{Exclusive, Shared};
use crate::lifecycle::{Action, ChildKind, ObjectKey, OwnerRef, Uid, is_held};
use crate::resources;

/// Executes a plan. The protective writes (tombstone, finalizer) must succeed before any later action. All deletes
/// are sent even if one fails. A failed growth of a claim or a refused Service does not delay the pod.
pub async fn act(cluster: &Cluster, subject: Subject<'_>, actions: &[Action], now: Timestamp) -> Outcome {
    let mut outcome = Outcome::default();
    let Some(owner) = subject.owner() else { return outcome };
    for action in actions {
        tracing::info!(object = %owner.key, kind = subject.kind_name(), %action, "acting");
        if let Err(error) = one(cluster, subject, &owner, action, now, &mut outcome).await {
            let go_on = matches!(
                action,
                Action::DeletePod(..)
                    | Action::RetainClaim(..)
                    | Action::DeleteChild(..)
                    | Action::DeleteAgent(..)
                    | Action::CreateService
                    | Action::UpdateService(..)
                    | Action::GrowClaim { .. }
                    | Action::MarkClaim { .. }
                    | Action::ReleaseResult { .. }
            );
            outcome.error.get_or_insert(error);
            outcome.removal_failed |= removes(action);
            if !go_on {
                // After the first failed start, another town gets the place.
                cluster.starts.release(&owner.uid, now);
                break;
            }
        }
    }
    outcome
}

/// Whether an action removes something, or is a step of a destruction. A failure is retried at least once a minute: a
/// refusal blocks a deletion, and another client may have removed its cause.
fn removes(action: &Action) -> bool {
    match action {
        Action::CreateTombstone(_)
        | Action::WriteTombstone
        | Action::AmendTombstone(_)
        | Action::GiveReceipts(..)
        | Action::RetainClaim(..)
        | Action::DeletePod(..)
        | Action::DeleteChild(..)
        | Action::DeleteAgent(..)
        | Action::DeleteSelf
        | Action::ReleaseResult { .. }
        | Action::RemoveFinalizer => true,
        Action::Adopt { .. }
        | Action::CreateClaim
        | Action::CreateService
        | Action::UpdateService(..)
        | Action::CreateToken
        | Action::CreatePod
        | Action::DeliverHook { .. }
        | Action::GrowClaim { .. }
        | Action::MarkClaim { .. } => false,
    }
}

async fn one(
    cluster: &Cluster,
    subject: Subject<'_>,
    owner: &OwnerRef,
    action: &Action,
    now: Timestamp,
    outcome: &mut Outcome,
) -> Result<(), Error> {
    match action {
        Action::Adopt { town_uid } => adopt(cluster, subject, owner, town_uid.as_ref(), outcome).await,
        Action::CreateTombstone(spec) => {
            let _gate = close_gate(cluster, owner).await;
            tombstones::create(cluster, (**spec).clone()).await
        }
        Action::AmendTombstone(more) => {
            tombstones::amend(cluster, subject.tombstone(), &owner.uid, more).await
        }
        Action::GiveReceipts(tombstone, status) => {
            if let Some(name) = tombstone {
                tombstones::close(cluster, name, status).await?;
            }
            for Receipt { object, outcome, .. } in &status.receipts {
                let TombstoneChild { kind, name, uid, .. } = object;
                tracing::info!(owner = %owner.uid, kind, name, uid, ?outcome, "receipt");
                cluster.metrics.receipt(outcome.as_str());
            }
            Ok(())
        }
        Action::WriteTombstone => {
            let _gate = close_gate(cluster, owner).await;
            let value = format!("{}@{}", owner.uid, Timestamp::from_second(now.as_second()).unwrap_or(now));
            let change = json!({"annotations": {names::TOMBSTONE: value}});
            merge_own(cluster, subject, owner, change, outcome).await
        }
        Action::CreateClaim => Box::pin(create(cluster, subject, owner, Child::Claim, now, outcome)).await,
        Action::CreateService => {
            Box::pin(create(cluster, subject, owner, Child::Service, now, outcome)).await
        }
        Action::CreateToken => Box::pin(create(cluster, subject, owner, Child::Token, now, outcome)).await,
        Action::CreatePod => Box::pin(create(cluster, subject, owner, Child::Pod, now, outcome)).await,
        Action::UpdateService(key, service) => update_service(cluster, subject, owner, key, service).await,
        Action::DeliverHook { pod, uid, hook } => {
            let annotation = hook.as_ref().map(resources::hook_annotation);
            let hook = json!({"metadata": {"annotations": {names::HOOK: annotation}}});
            change::<Pod>(cluster, &owner.uid, pod, uid, hook).await.map(drop)
        }
        Action::GrowClaim { claim, uid, size } => {
            let size = json!({"spec": {"resources": {"requests": {"storage": size}}}});
            change::<PersistentVolumeClaim>(cluster, &owner.uid, claim, uid, size).await.map(drop)
        }
        Action::MarkClaim { claim, uid, retain, copied, before } => {
            let mark = json!({"metadata": resources::claim_marks(*retain, copied, before.as_deref())});
            change::<PersistentVolumeClaim>(cluster, &owner.uid, claim, uid, mark).await.map(drop)
        }
        Action::RetainClaim(key, uid) => retain(cluster, subject, owner, key, uid).await,
        Action::DeletePod(key, uid) => delete_pod(cluster, &owner.uid, key, uid).await,
        Action::DeleteChild(kind, key, uid) => match kind {
            ChildKind::Pod => delete_pod(cluster, &owner.uid, key, uid).await,
            ChildKind::PersistentVolumeClaim => {
                delete::<PersistentVolumeClaim>(cluster, &owner.uid, key, uid).await
            }
            ChildKind::Service => delete::<Service>(cluster, &owner.uid, key, uid).await,
            ChildKind::Secret => delete::<Secret>(cluster, &owner.uid, key, uid).await,
            // The garbage collector deletes the object with its pod.
            ChildKind::ResourceClaim => Ok(()),
        },
        Action::DeleteAgent(key, uid) => delete::<Agent>(cluster, &owner.uid, key, uid).await,
        Action::DeleteSelf => {
            let decided_on = outcome.resource_version.clone().or(subject.meta().resource_version.clone());
            let left = match subject {
                Subject::Town(_) => delete_unchanged::<Town>(cluster, owner, decided_on).await?,
                Subject::Agent(_) => delete_unchanged::<Agent>(cluster, owner, decided_on).await?,
            };
            if let Some(meta) = left {
                outcome.resource_version = meta.resource_version;
            }
            Ok(())
        }
        Action::ReleaseResult { pod, uid, position } => {
            remove_finalizers::<Pod>(cluster, pod, uid, &[(*position, names::RESULT_FINALIZER)]).await
        }
        Action::RemoveFinalizer => {
            let (key, uid) = (&owner.key, &owner.uid);
            let all = subject.meta().finalizers.iter().flatten().map(String::as_str).enumerate();
            let ours: Vec<_> = all.filter(|(_, name)| names::is_finalizer(name)).collect();
            match subject {
                Subject::Town(_) => remove_finalizers::<Town>(cluster, key, uid, &ours).await?,
                Subject::Agent(_) => remove_finalizers::<Agent>(cluster, key, uid, &ours).await?,
            }
            outcome.finished = true;
            Ok(())
        }
    }
}

/// Closes the gate with exclusive access: each create in progress has its answer, and no further create is sent.
async fn close_gate(cluster: &Cluster, owner: &OwnerRef) -> Exclusive {
    let gate = cluster.gates.exclusive(&owner.uid).await;
    gate.close();
    gate
}

/// Updates the ports of the Service of a town from the spec.
async fn update_service(
    cluster: &Cluster,
    subject: Subject<'_>,
    owner: &OwnerRef,
    key: &ObjectKey,
    uid: &Uid,
) -> Result<(), Error> {
    let wanted = match subject {
        Subject::Town(town) => resources::town_service(town, &cluster.install),
        Subject::Agent(_) => None,
    };
    let Some(ports) = wanted.and_then(|service| service.spec?.ports) else { return Ok(()) };
    change::<Service>(cluster, &owner.uid, key, uid, json!({"spec": {"ports": ports}})).await.map(drop)
}

/// Releases a claim: removes the labels and annotations of the operator, and records the previous owner in an
/// annotation. After this no sweep deletes the claim.
async fn retain(
    cluster: &Cluster,
    subject: Subject<'_>,
    owner: &OwnerRef,
    key: &ObjectKey,
    uid: &Uid,
) -> Result<(), Error> {
    let ours = [names::TOWN_UID, names::AGENT_UID, names::INSTALL, names::COMPONENT, names::APP_MANAGED_BY];
    let labels: Value = ours.into_iter().map(|label| (label.to_owned(), Value::Null)).collect();
    let from = format!("{}/{}", subject.kind_name(), owner.key);
    let annotations = json!({names::OWNER: null, names::RETAIN: null, names::RETAINED_FROM: from});
    let free = json!({"metadata": {"labels": labels, "annotations": annotations}});
    change::<PersistentVolumeClaim>(cluster, &owner.uid, key, uid, free).await?;
    cluster.receipts.retained(&owner.uid, Some(uid.clone()));
    Ok(())
}

/// Adds the finalizer and the labels in one patch. The binding of an agent holds the gate of the town, and needs a
/// proof that the town is alive.
async fn adopt(
    cluster: &Cluster,
    subject: Subject<'_>,
    owner: &OwnerRef,
    town_uid: Option<&Uid>,
    outcome: &mut Outcome,
) -> Result<(), Error> {
    let mut finalizers = subject.meta().finalizers.clone().unwrap_or_default();
    if !finalizers.iter().any(|f| f == names::FINALIZER) {
        finalizers.retain(|name| !names::is_finalizer(name));
        finalizers.push(names::FINALIZER.into());
    }
    let mut labels = json!({names::INSTALL: cluster.install.0});
    let mut annotations = json!({});
    let mut gates = Vec::new();
    if let Some(uid) = town_uid {
        annotations[names::ADOPTED_UID] = json!(owner.uid.as_str());
        labels[names::TOWN_UID] = json!(uid.as_str());
        gates.push(cluster.gates.shared(uid).await.ok_or_else(|| closed(uid))?);
        LiveOwner::prove(cluster, &gates, &subject.town_ref(uid), None).await?;
    }
    let change = json!({"finalizers": finalizers, "labels": labels, "annotations": annotations});
    let fresh = !is_held(subject.meta());
    let result = merge_own(cluster, subject, owner, change, outcome).await;
    if fresh && result.is_ok() {
        // The operator creates nothing for an object without the finalizer, so no create of an earlier leader is in
        // progress.
        cluster.gates.shared(&owner.uid).await.inspect(Shared::first);
    }
    drop(gates);
    result
}

/// Changes the metadata of the object itself. The resource version makes the write fail if another client changed the
/// object meanwhile.
async fn merge_own(
    cluster: &Cluster,
    subject: Subject<'_>,
    owner: &OwnerRef,
    mut metadata: Value,
    outcome: &mut Outcome,
) -> Result<(), Error> {
    metadata["resourceVersion"] = json!(subject.meta().resource_version);
    let metadata = json!({"metadata": metadata});
    let (key, uid) = (&owner.key, &owner.uid);
    let changed = match subject {
        Subject::Town(_) => change::<Town>(cluster, uid, key, uid, metadata).await?,
        Subject::Agent(_) => change::<Agent>(cluster, uid, key, uid, metadata).await?,
    };
    outcome.resource_version = changed.resource_version;
    Ok(())
}
