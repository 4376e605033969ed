//! Orphans: pods and claims whose owners are gone, because neither the town nor the agent in their labels exists.
//!
//! Invariant kept here: an owner counts as gone only if uncached lists in the namespace of the child do not contain
//! it. A list that fails proves nothing, and the child stays as it is. This module deletes no child. The operator
//! removes its finalizer from a pod that has ended, because no owner will read the result of the pod. The operator
//! reports every other child in an event.

use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use kube::api::{Api, ListParams, PartialObjectMeta};

use crate::api::condition::reason;
use crate::api::{Agent, Town, names};
use crate::cluster::act::mutate::remove_finalizers;
use crate::cluster::cache::owners::{is_of_another_namespace, seems_orphaned};
use crate::cluster::context::Cluster;
use crate::cluster::error::Error;
use crate::cluster::kinds::definitions::of_kind;
use crate::cluster::kinds::known::Known;
use crate::cluster::read::objects::{get, is_absent, pages};
use crate::cluster::scheduling::requeue::Look;
use crate::lifecycle::{ObjectKey, Uid, label};
use crate::resources::pod_facts;

/// The pods and claims without an owner in the watches.
pub fn orphans(cluster: &Cluster) -> Vec<Look> {
    let pods = cluster.caches.pods.all().into_iter();
    let pods = pods.filter(|pod| {
        seems_orphaned(&cluster.caches, &pod.key.namespace, pod.town_uid.as_ref(), pod.agent_uid.as_ref())
    });
    let claims = cluster.caches.claims.all().into_iter().map(|claim| claim.child.clone());
    let claims = claims.filter(|claim| {
        seems_orphaned(
            &cluster.caches,
            &claim.key.namespace,
            claim.town_uid.as_ref(),
            claim.agent_uid.as_ref(),
        )
    });
    pods.map(|pod| pod.key.clone()).chain(claims.map(|claim| claim.key)).map(Look::Child).collect()
}

/// Releases or reports the pod and the claim of this name, if their owners are proven gone.
pub async fn settle_orphans(cluster: &Cluster, key: &ObjectKey) -> Result<(), Error> {
    if let Some(pod) = cluster.caches.pods.get(key)
        && seems_orphaned(&cluster.caches, &key.namespace, pod.town_uid.as_ref(), pod.agent_uid.as_ref())
        && let Some(pod) = without_owner::<Pod>(cluster, key, &pod.uid).await?
    {
        settle_pod(cluster, key, &pod).await?;
    }
    if let Some(claim) = cluster.caches.claims.get(key).map(|claim| claim.child.clone())
        && seems_orphaned(&cluster.caches, &key.namespace, claim.town_uid.as_ref(), claim.agent_uid.as_ref())
        && let Some(claim) = without_owner::<PersistentVolumeClaim>(cluster, key, &claim.uid).await?
    {
        report::<PersistentVolumeClaim>(
            cluster,
            &claim.metadata,
            "Delete it, or keep its data: set the reclaim policy of its PersistentVolume to Retain, delete the claim, and bind a \
             new claim to the volume.",
        );
    }
    Ok(())
}

/// Releases a pod that has ended: no owner will read its result, and a drain or the deletion of the namespace would
/// wait forever. A pod that still runs is reported.
async fn settle_pod(cluster: &Cluster, key: &ObjectKey, pod: &Pod) -> Result<(), Error> {
    let Some(facts) = pod_facts(pod) else { return Ok(()) };
    let held = facts.finalizers.iter().position(|name| name == names::RESULT_FINALIZER);
    if let Some(position) = held.filter(|_| facts.ended()) {
        tracing::info!(
            pod = %key,
            uid = %facts.uid,
            "the pod has ended and its owners do not exist: the operator releases it"
        );
        let result = [(position, names::RESULT_FINALIZER)];
        remove_finalizers::<Pod>(cluster, key, &facts.uid, &result).await?;
    }
    report::<Pod>(cluster, &pod.metadata, "Delete it.");
    Ok(())
}

/// Reads the object. Returns it only if it has this UID, still carries our label, and all owners that it names are
/// proven gone.
async fn without_owner<K: Known>(cluster: &Cluster, key: &ObjectKey, uid: &Uid) -> Result<Option<K>, Error> {
    let Some(found) = get::<K>(&cluster.client, key).await? else { return Ok(None) };
    let meta = found.meta();
    let ours = label(meta, names::INSTALL) == Some(&cluster.install.0) && Uid::of(meta).as_ref() == Some(uid);
    let owners = owners(meta);
    // An object with the labels of another namespace is no orphan. A separate report names it, and the operator
    // ignores it.
    if !ours || owners.is_empty() || is_of_another_namespace(&cluster.caches, &key.namespace, &owners) {
        return Ok(None);
    }
    let there = exists::<Town>(cluster, &key.namespace, &owners).await?
        || exists::<Agent>(cluster, &key.namespace, &owners).await?;
    Ok((!there).then_some(found))
}

fn owners(meta: &ObjectMeta) -> Vec<Uid> {
    [names::TOWN_UID, names::AGENT_UID].iter().filter_map(|key| label(meta, key)).map(Uid::new).collect()
}

/// Whether the namespace has an object of this kind with one of these UIDs, by an uncached list.
async fn exists<K: Known>(cluster: &Cluster, namespace: &str, uids: &[Uid]) -> Result<bool, Error> {
    let api: Api<K> = Api::namespaced(cluster.client.clone(), namespace);
    let page = |params: ListParams| {
        let api = api.clone();
        async move { api.list_metadata(&params).await }
    };
    let is_one =
        |object: PartialObjectMeta<K>| Uid::of(&object.metadata).filter(|uid| uids.contains(uid)).map(drop);
    match pages(K::NAME, &ListParams::default(), page, is_one).await {
        Ok(found) => Ok(!found.is_empty()),
        // A kind that is proven absent has no objects.
        Err(error) if error.is_not_served() => match of_kind(K::NAME) {
            Some(definition) if is_absent(&cluster.client, definition).await? => Ok(false),
            _ => Err(error),
        },
        Err(error) => Err(error),
    }
}

/// Reports a child without owners in an event, unless its deletion is in progress: a client deleted the child, or the
/// garbage collector does, because the child refers to an owner that is gone.
fn report<K: Resource<DynamicType = ()>>(cluster: &Cluster, meta: &ObjectMeta, remedy: &str) {
    let owners = owners(meta);
    let collected =
        meta.owner_references.iter().flatten().any(|owner| owners.contains(&Uid::new(&owner.uid)));
    if collected || meta.deletion_timestamp.is_some() {
        return;
    }
    let named: Vec<_> = owners.iter().map(Uid::as_str).collect();
    let note = format!(
        "this {} carries the UID of a town or agent that does not exist in this namespace ({}): a backup tool may have \
         restored it, or a user removed a finalizer. No town uses it, and the operator ignores it. {remedy}",
        K::kind(&()),
        named.join(", ")
    );
    cluster.reports.add::<K>(meta, reason::OWNER_GONE, &note, cluster.now());
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use http::{Method, Request, Response, StatusCode};
    use k8s_openapi::api::core::v1::Service;
    use kube::Client;
    use kube::client::Body;
    use kube::runtime::watcher::Event;
    use serde_json::{Value, json};
    use tokio::sync::mpsc::UnboundedReceiver;
    use tower::service_fn;

    use super::*;
    use crate::cluster::clock::Clock;
    use crate::cluster::context::Limits;
    use crate::cluster::kinds::decode::Decoded;
    use crate::cluster::scheduling::requeue::looks;
    use crate::resources::Install;
    use crate::resources::{claim_facts, pod_facts};

    const TOWN: &str = "3f2a1b4c-0000-4000-8000-000000000000";
    const ANN: &str = "4f2a1b4c-0000-4000-8000-000000000000";

    /// The objects of the API server, and its requests.
    #[derive(Default)]
    struct Server {
        pod: Value,
        claim: Value,
        /// The UIDs of towns and of agents; `None`: the list fails.
        towns: Option<Vec<&'static str>>,
        agents: Option<Vec<&'static str>>,
        asked: Vec<String>,
    }

    impl Server {
        fn answer(&mut self, method: &Method, path: &str) -> (StatusCode, Value) {
            self.asked.push(format!("{method} {path}"));
            let list = |uids: &Option<Vec<&str>>| match uids {
                Some(uids) => {
                    let items: Vec<_> =
                        uids.iter().map(|uid| json!({"metadata": {"name": uid, "uid": uid}})).collect();
                    (
                        StatusCode::OK,
                        json!({"kind": "List", "apiVersion": "v1", "metadata": {}, "items": items}),
                    )
                }
                None => failure(StatusCode::FORBIDDEN, "Forbidden"),
            };
            let object = |object: &Value| match object {
                Value::Null => failure(StatusCode::NOT_FOUND, "NotFound"),
                object => (StatusCode::OK, object.clone()),
            };
            match path.rsplit('/').nth(usize::from(path.ends_with("/p"))) {
                Some("pods") => object(&self.pod),
                Some("persistentvolumeclaims") => object(&self.claim),
                Some("towns") => list(&self.towns),
                Some("agents") => list(&self.agents),
                _ => panic!("{method} {path}"),
            }
        }
    }

    fn failure(code: StatusCode, reason: &str) -> (StatusCode, Value) {
        let status = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code.as_u16(),
            "reason": reason, "message": reason, "details": {"name": "p"}});
        (code, status)
    }

    struct Scene {
        cluster: Cluster,
        server: Arc<Mutex<Server>>,
        looks: UnboundedReceiver<Look>,
    }

    impl Scene {
        fn new(server: Server) -> Self {
            let server = Arc::new(Mutex::new(server));
            let shared = server.clone();
            let service = service_fn(move |request: Request<Body>| {
                let (code, body) = shared.lock().unwrap().answer(request.method(), request.uri().path());
                std::future::ready(
                    Response::builder().status(code).body(Body::from(body.to_string().into_bytes())),
                )
            });
            let (asked, looks) = looks();
            let install = Install("here".into());
            let client = Client::new(service, "ns");
            let cluster =
                Cluster::new(client, install, Arc::default(), Limits::LEAST, asked, Clock::system());
            Self { cluster, server, looks }
        }

        /// Shows the children of the server in the watches.
        fn watched(self) -> Self {
            let server = self.server.lock().unwrap();
            if !server.pod.is_null() {
                let pod = serde_json::from_value(server.pod.clone()).unwrap();
                self.cluster.caches.pods.apply(pod_facts(&pod).unwrap(), None);
            }
            if !server.claim.is_null() {
                let claim = serde_json::from_value(server.claim.clone()).unwrap();
                self.cluster.caches.claims.apply(claim_facts(&claim).unwrap(), None);
            }
            drop(server);
            self
        }

        async fn settle(&self) -> Result<(), Error> {
            let key = ObjectKey { namespace: "ns".into(), name: "p".into() };
            settle_orphans(&self.cluster, &key).await
        }

        fn patches(&self) -> usize {
            self.server.lock().unwrap().asked.iter().filter(|asked| asked.starts_with("PATCH")).count()
        }

        fn events(&self) -> Vec<String> {
            self.cluster.reports.notes()
        }
    }

    fn meta(uid: &str, finalizers: &[&str]) -> Value {
        json!({"namespace": "ns", "name": "p", "uid": uid, "finalizers": finalizers,
            "labels": {names::INSTALL: "here", names::TOWN_UID: TOWN, names::AGENT_UID: ANN}})
    }

    fn pod(phase: &str, deleting: bool) -> Value {
        let mut metadata = meta("pod", &["example.com/first", names::RESULT_FINALIZER]);
        if deleting {
            metadata["deletionTimestamp"] = json!("2030-01-01T00:00:00Z");
        }
        json!({"metadata": metadata, "spec": {"containers": []}, "status": {"phase": phase}})
    }

    fn claim() -> Value {
        json!({"metadata": meta("claim", &[]), "spec": {}})
    }

    fn alone(pod: Value) -> Server {
        Server { pod, towns: Some(vec!["another"]), agents: Some(vec![]), ..Server::default() }
    }

    // security.md L10.
    #[tokio::test]
    async fn orphan_pod_that_has_ended_is_released_when_its_owners_are_proven_gone() {
        let scene = Scene::new(alone(pod("Succeeded", true))).watched();
        scene.settle().await.unwrap();
        assert_eq!(scene.patches(), 1);
        assert!(scene.events().is_empty(), "the pod goes, nobody need act");
        for (case, server) in [
            ("runs", alone(pod("Running", true))),
            ("has its agent", Server { agents: Some(vec![ANN]), ..alone(pod("Succeeded", true)) }),
            ("has its town", Server { towns: Some(vec![TOWN]), ..alone(pod("Succeeded", true)) }),
        ] {
            let scene = Scene::new(server).watched();
            scene.settle().await.unwrap();
            assert_eq!((scene.patches(), scene.events().len()), (0, 0), "a pod that {case}");
        }
    }

    // security.md L10: unknown is not gone.
    #[tokio::test]
    async fn orphan_pod_is_unchanged_when_a_list_of_owners_fails() {
        for server in [
            Server { towns: None, ..alone(pod("Succeeded", true)) },
            Server { agents: None, ..alone(pod("Succeeded", true)) },
        ] {
            let scene = Scene::new(server).watched();
            assert!(scene.settle().await.is_err(), "it is tried again");
            assert_eq!((scene.patches(), scene.events().len()), (0, 0));
        }
    }

    // security.md L10.
    #[tokio::test]
    async fn orphan_pod_is_left_alone_when_it_is_gone_replaced_or_foreign() {
        let mut other = pod("Succeeded", true);
        other["metadata"]["uid"] = json!("other");
        let mut foreign = pod("Succeeded", true);
        foreign["metadata"]["labels"][names::INSTALL] = json!("there");
        let mut bare = pod("Succeeded", true);
        bare["metadata"]["labels"] = json!({names::INSTALL: "here"});
        for now in [Value::Null, other, foreign, bare] {
            let scene = Scene::new(alone(pod("Succeeded", true))).watched();
            scene.server.lock().unwrap().pod = now;
            scene.settle().await.unwrap();
            assert_eq!((scene.patches(), scene.events().len()), (0, 0));
        }
    }

    // reports.md P4.
    #[tokio::test]
    async fn restored_pod_and_claim_are_reported_once_when_their_owners_do_not_exist() {
        let server = Server { claim: claim(), ..alone(pod("Running", false)) };
        let scene = Scene::new(server).watched();
        for _ in 0..2 {
            scene.settle().await.unwrap();
        }
        let events = scene.events();
        assert_eq!(events.len(), 2, "{events:?}");
        for (event, kind) in events.iter().zip(["Pod", "PersistentVolumeClaim"]) {
            assert!(event.starts_with(&format!("{} this {kind} carries", reason::OWNER_GONE)), "{event}");
            assert!(event.contains(TOWN) && event.contains(ANN) && event.contains("Delete it"), "{event}");
        }
        let mut collected = pod("Running", false);
        collected["metadata"]["ownerReferences"] =
            json!([{"apiVersion": "gastown.dev/v1alpha1", "kind": "Agent", "name": "ann", "uid": ANN}]);
        let scene = Scene::new(alone(collected)).watched();
        scene.settle().await.unwrap();
        assert!(scene.events().is_empty(), "the garbage collector takes it");
    }

    // security.md L10, reports.md P4.
    #[tokio::test]
    async fn orphan_pod_is_enqueued_when_the_watches_show_no_owner_of_it() {
        let mut scene = Scene::new(Server::default());
        let child = Look::Child(ObjectKey { namespace: "ns".into(), name: "p".into() });
        let decoded = |object: Value| Decoded(Ok(serde_json::from_value(object).unwrap()));
        scene.cluster.follow::<Pod>(Event::Apply(decoded(pod("Succeeded", true))));
        assert_eq!(scene.looks.try_recv().ok(), Some(child.clone()));
        let service = json!({"metadata": meta("service", &[]), "spec": {}});
        let service: Service = serde_json::from_value(service).unwrap();
        scene.cluster.follow::<Service>(Event::Apply(Decoded(Ok(service))));
        assert!(scene.looks.try_recv().is_err(), "a Service holds up nothing");

        let agent = json!({"apiVersion": "gastown.dev/v1alpha1", "kind": "Agent", "spec": {"townName": "gas", "role": "Crew"},
            "metadata": {"namespace": "ns", "name": "ann", "uid": ANN}});
        let agent: Agent = serde_json::from_value(agent).unwrap();
        scene.cluster.follow::<Agent>(Event::Apply(Decoded(Ok(agent.clone()))));
        scene.cluster.follow::<Pod>(Event::Apply(decoded(pod("Succeeded", true))));
        let mut asked = Vec::new();
        while let Ok(look) = scene.looks.try_recv() {
            asked.push(look);
        }
        assert!(!asked.contains(&child), "{asked:?}");
        assert!(orphans(&scene.cluster).is_empty());
        // A user removed the finalizer of the agent: the agent is deleted, and its pod stays.
        scene.cluster.follow::<Agent>(Event::Delete(Decoded(Ok(agent))));
        while let Ok(look) = scene.looks.try_recv() {
            asked.push(look);
        }
        assert!(asked.contains(&child), "{asked:?}");
        assert_eq!(orphans(&scene.cluster), [child]);
    }
}
