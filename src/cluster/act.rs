//! The writes that a plan asks for, in its order.

use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::jiff::Timestamp;
use kube::Resource;
use kube::api::{Api, DeleteParams, Patch, PatchParams, Preconditions};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::fmt::Debug;

use super::Cluster;
use super::consistency::Kind;
use super::error::Error;
use super::gate::Sent;
use super::live::LiveOwner;
use super::project::{claim_facts, pod_facts};
use crate::api::{Agent, Mode, Town, names};
use crate::lifecycle::{Action, ClaimFacts, ObjectKey, OwnerRef, PodFacts, Uid, label};
use crate::resources;

/// Whose plan is carried out.
#[derive(Clone, Copy)]
pub enum Subject<'a> {
    /// A town's.
    Town(&'a Town),
    /// An agent's, with the mode in force.
    Agent(&'a Agent, Mode),
}

/// What came of the actions.
#[derive(Default)]
pub struct Outcome {
    /// The pod that was created.
    pub pod: Option<PodFacts>,
    /// The claim that was created.
    pub claim: Option<ClaimFacts>,
    /// The object's resourceVersion after our own changes to it.
    pub resource_version: Option<String>,
    /// The first thing that went wrong.
    pub error: Option<Error>,
    /// The finalizer is off: the object is gone, as far as we are concerned.
    pub finished: bool,
}

/// Carries out a plan. What protects (tombstone, finalizer) must succeed before anything else happens;
/// deletes are all attempted even when one fails.
pub async fn act(cluster: &Cluster, subject: Subject<'_>, actions: &[Action], now: Timestamp) -> Outcome {
    let mut outcome = Outcome::default();
    let Some(owner) = subject.owner() else { return outcome };
    for action in actions {
        tracing::info!(object = %owner.key, kind = subject.kind_name(), %action, "acting");
        if let Err(error) = one(cluster, subject, &owner, action, now, &mut outcome).await {
            let go_on = matches!(
                action,
                Action::DeletePod(..)
                    | Action::DeleteClaim(..)
                    | Action::DeleteAgent(..)
                    | Action::ReleaseResult { .. }
            );
            outcome.error.get_or_insert(error);
            if !go_on {
                break;
            }
        }
    }
    outcome
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
        Action::WriteTombstone => {
            // Alone in the gate: whatever create was under way has its answer, and none comes after.
            let gate = cluster.gates.exclusive(&owner.uid).await;
            gate.close();
            let value = format!("{}@{}", owner.uid, Timestamp::from_second(now.as_second()).unwrap_or(now));
            let change = json!({"annotations": {names::TOMBSTONE: value}});
            merge_own(cluster, subject, owner, change, outcome).await
        }
        Action::CreateClaim | Action::CreatePod => {
            create(cluster, subject, owner, action, now, outcome).await
        }
        Action::DeliverHook { pod, uid, hook } => {
            let annotation = hook.as_ref().map(resources::hook_annotation);
            let change = json!({"metadata": {"uid": uid.as_str(), "annotations": {names::HOOK: annotation}}});
            let api: Api<Pod> = Api::namespaced(cluster.client.clone(), &pod.namespace);
            let patched = api
                .patch(&pod.name, &manager(), &Patch::Merge(change))
                .await
                .map_err(|e| Error::known(format!("deliver hook to pod {pod}"), e))?;
            cluster.own_writes.wrote(&owner.uid, Kind::Pod, patched.metadata.resource_version.as_deref());
            Ok(())
        }
        Action::DeletePod(key, uid) => delete::<Pod>(cluster, owner, Kind::Pod, key, uid).await,
        Action::DeleteClaim(key, uid) => {
            delete::<PersistentVolumeClaim>(cluster, owner, Kind::Claim, key, uid).await
        }
        Action::DeleteAgent(key, uid) => delete::<Agent>(cluster, owner, Kind::Agent, key, uid).await,
        Action::CreateService
        | Action::UpdateService(..)
        | Action::CreateToken
        | Action::GrowClaim { .. }
        | Action::RetainClaim(..)
        | Action::DeleteChild(..)
        | Action::DeleteSelf => Ok(()),
        Action::ReleaseResult { pod, uid, position } => {
            let api: Api<Pod> = Api::namespaced(cluster.client.clone(), &pod.namespace);
            remove_finalizer(&api, &pod.name, uid, names::RESULT_FINALIZER, *position).await.map(|_| ())
        }
        Action::RemoveFinalizer => {
            let meta = subject.meta();
            let position = meta.finalizers.iter().flatten().position(|f| f == names::FINALIZER);
            if let Some(position) = position {
                match subject {
                    Subject::Town(_) => {
                        let api: Api<Town> = Api::namespaced(cluster.client.clone(), &owner.key.namespace);
                        remove_finalizer(&api, &owner.key.name, &owner.uid, names::FINALIZER, position)
                            .await?;
                    }
                    Subject::Agent(..) => {
                        let api: Api<Agent> = Api::namespaced(cluster.client.clone(), &owner.key.namespace);
                        remove_finalizer(&api, &owner.key.name, &owner.uid, names::FINALIZER, position)
                            .await?;
                    }
                }
            }
            outcome.finished = true;
            Ok(())
        }
    }
}

/// Finalizer and labels in one patch. An agent is bound under its town's gate, only to a live town.
async fn adopt(
    cluster: &Cluster,
    subject: Subject<'_>,
    owner: &OwnerRef,
    town_uid: Option<&Uid>,
    outcome: &mut Outcome,
) -> Result<(), Error> {
    let mut finalizers = subject.meta().finalizers.clone().unwrap_or_default();
    if !finalizers.iter().any(|f| f == names::FINALIZER) {
        finalizers.push(names::FINALIZER.into());
    }
    let mut labels = json!({names::INSTALL: cluster.install.0});
    let gate = match town_uid {
        Some(uid) => {
            labels[names::TOWN_UID] = json!(uid.as_str());
            let gate = cluster.gates.shared(uid).await.ok_or_else(|| closed(uid))?;
            LiveOwner::town(cluster, &gate, &subject.town_ref(uid)).await?;
            Some(gate)
        }
        None => None,
    };
    let change = json!({"finalizers": finalizers, "labels": labels});
    let result = merge_own(cluster, subject, owner, change, outcome).await;
    drop(gate);
    result
}

/// Creates the owner's claim or pod, with a proof of life, under the gate.
async fn create(
    cluster: &Cluster,
    subject: Subject<'_>,
    owner: &OwnerRef,
    action: &Action,
    now: Timestamp,
    outcome: &mut Outcome,
) -> Result<(), Error> {
    let town_uid = match subject {
        Subject::Town(_) => owner.uid.clone(),
        Subject::Agent(agent, _) => match label(&agent.metadata, names::TOWN_UID) {
            Some(uid) => Uid::new(uid),
            None => return Err(Error::NotLive { why: format!("agent {} is not bound", owner.key) }),
        },
    };
    let gate = cluster.gates.shared(&town_uid).await.ok_or_else(|| closed(&town_uid))?;
    let own_gate = cluster.gates.shared(&owner.uid).await.ok_or_else(|| closed(&owner.uid))?;
    let live = match subject {
        Subject::Town(_) => LiveOwner::town(cluster, &gate, owner).await?,
        Subject::Agent(..) => LiveOwner::agent(cluster, &gate, &subject.town_ref(&town_uid), owner).await?,
    };
    if matches!(action, Action::CreatePod) {
        live.awake(&cluster.install.0)?;
        let pod = match (subject, live.agent_object()) {
            (Subject::Agent(_, mode), Some(agent)) => {
                resources::agent_pod(agent, mode, live.town_object(), &cluster.install)
            }
            _ => resources::town_pod(live.town_object(), &cluster.install),
        };
        let pod = pod.ok_or_else(|| Error::Conflict { what: "create pod: its template went".into() })?;
        let sent = [gate.send(now), own_gate.send(now)];
        answered(sent, live.create(cluster, "Pod", &pod).await).map(|pod| {
            cluster.own_writes.wrote(&owner.uid, Kind::Pod, pod.metadata.resource_version.as_deref());
            outcome.pod = pod_facts(&pod);
        })
    } else {
        let claim = match live.agent_object() {
            Some(agent) => resources::agent_claim(agent, &cluster.install),
            None => resources::town_claim(live.town_object(), &cluster.install),
        };
        let claim = claim.ok_or_else(|| Error::Conflict { what: "create claim: its storage went".into() })?;
        let sent = [gate.send(now), own_gate.send(now)];
        answered(sent, live.create(cluster, "PersistentVolumeClaim", &claim).await).map(|claim| {
            cluster.own_writes.wrote(&owner.uid, Kind::Claim, claim.metadata.resource_version.as_deref());
            outcome.claim = claim_facts(&claim);
        })
    }
}

/// Notes that a create was answered, unless its outcome is unknown.
fn answered<T>(sent: [Sent<'_>; 2], result: Result<T, Error>) -> Result<T, Error> {
    if !result.as_ref().is_err_and(Error::outcome_unknown) {
        sent.into_iter().for_each(Sent::answered);
    }
    result
}

fn closed(uid: &Uid) -> Error {
    Error::NotLive { why: format!("{uid} is being destroyed") }
}

/// Changes the metadata of the object itself, if nobody else changed it meanwhile.
async fn merge_own(
    cluster: &Cluster,
    subject: Subject<'_>,
    owner: &OwnerRef,
    mut metadata: Value,
    outcome: &mut Outcome,
) -> Result<(), Error> {
    metadata["uid"] = json!(owner.uid.as_str());
    metadata["resourceVersion"] = json!(subject.meta().resource_version);
    let patch = Patch::Merge(json!({"metadata": metadata}));
    let what = format!("update {} {}", subject.kind_name(), owner.key);
    let (namespace, name) = (&owner.key.namespace, &owner.key.name);
    let meta = match subject {
        Subject::Town(_) => {
            let api: Api<Town> = Api::namespaced(cluster.client.clone(), namespace);
            api.patch(name, &manager(), &patch).await.map(|town| town.metadata)
        }
        Subject::Agent(..) => {
            let api: Api<Agent> = Api::namespaced(cluster.client.clone(), namespace);
            api.patch(name, &manager(), &patch).await.map(|agent| agent.metadata)
        }
    }
    .map_err(|e| Error::known(what, e))?;
    cluster.own_writes.wrote(&owner.uid, subject.kind(), meta.resource_version.as_deref());
    outcome.resource_version = meta.resource_version;
    Ok(())
}

/// Deletes exactly the object that was planned. One that is gone, or another by that name, is success.
async fn delete<K>(
    cluster: &Cluster,
    owner: &OwnerRef,
    kind: Kind,
    key: &ObjectKey,
    uid: &Uid,
) -> Result<(), Error>
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()> + Clone + Debug + DeserializeOwned,
{
    let api: Api<K> = Api::namespaced(cluster.client.clone(), &key.namespace);
    let exactly = Preconditions { uid: Some(uid.to_string()), resource_version: None };
    let params = DeleteParams { preconditions: Some(exactly), ..DeleteParams::background() };
    match api
        .delete(&key.name, &params)
        .await
        .map_err(|e| Error::api(format!("delete {} {key}", K::kind(&())), e))
    {
        Ok(answer) => {
            if let Some(object) = answer.left() {
                cluster.own_writes.wrote(&owner.uid, kind, object.meta().resource_version.as_deref());
            }
            Ok(())
        }
        Err(error) if error.is_not_found() || matches!(error, Error::Conflict { .. }) => Ok(()),
        Err(error) => Err(error),
    }
}

/// Takes one finalizer off exactly the object that was planned: UID, place and name are all tested.
/// `Ok(false)`: the object is gone already.
async fn remove_finalizer<K>(
    api: &Api<K>,
    name: &str,
    uid: &Uid,
    finalizer: &str,
    position: usize,
) -> Result<bool, Error>
where
    K: Resource + Clone + Debug + DeserializeOwned,
{
    let what = || format!("take {finalizer} off {name}");
    let place = format!("/metadata/finalizers/{position}");
    let operations = json!([
        {"op": "test", "path": "/metadata/uid", "value": uid.as_str()},
        {"op": "test", "path": place, "value": finalizer},
        {"op": "remove", "path": place},
    ]);
    let patch: json_patch::Patch =
        serde_json::from_value(operations).map_err(|e| Error::api(what(), kube::Error::SerdeError(e)))?;
    match api.patch(name, &manager(), &Patch::Json::<()>(patch)).await {
        Ok(_) => Ok(true),
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(false),
        // A test that failed: the object changed since it was read.
        Err(kube::Error::Api(status)) if status.code == 422 => Err(Error::Conflict { what: what() }),
        Err(error) => Err(Error::api(what(), error)),
    }
}

fn manager() -> PatchParams {
    PatchParams { field_manager: Some(names::MANAGER.into()), ..PatchParams::default() }
}

impl Subject<'_> {
    fn meta(&self) -> &ObjectMeta {
        match self {
            Self::Town(town) => &town.metadata,
            Self::Agent(agent, _) => &agent.metadata,
        }
    }

    fn owner(&self) -> Option<OwnerRef> {
        OwnerRef::of(self.meta())
    }

    fn kind(&self) -> Kind {
        match self {
            Self::Town(_) => Kind::Town,
            Self::Agent(..) => Kind::Agent,
        }
    }

    fn kind_name(&self) -> &'static str {
        match self {
            Self::Town(_) => "Town",
            Self::Agent(..) => "Agent",
        }
    }

    /// The town that the subject belongs to, or is, with the UID it must have.
    fn town_ref(&self, uid: &Uid) -> OwnerRef {
        let key = match self {
            Self::Town(town) => ObjectKey::of(&town.metadata),
            Self::Agent(agent, _) => ObjectKey {
                namespace: agent.metadata.namespace.clone().unwrap_or_default(),
                name: agent.spec.town.clone(),
            },
        };
        OwnerRef { key, uid: uid.clone() }
    }
}
