//! Actors besides the user of a story: another tenant, tools that apply and restore objects, an autoscaler, and a node
//! that reboots.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use town_operator::api::names;

use super::people::{NAMESPACE, create, create_in, create_namespace, find, pod_of};
use super::{INSTALL, agent_kind, town_kind};
use crate::server::delete::Deletion;
use crate::server::kinds::{id, kinds};
use crate::server::object::{clean_metadata, is_going, label, meta, meta_mut, uid};
use crate::server::players::node;
use crate::server::store::{Change, Key};
use crate::server::world::World;

/// Namespaces of the other tenant: the names sort before and after the namespace of the story.
pub const TENANTS: [&str; 2] = ["a-tenant", "z-tenant"];

/// A tenant creates objects in its own namespaces that claim to belong to the town and the agent of the story: pods
/// (one of them finished), a claim, a Service, a Secret and an agent.
pub fn forge(world: &mut World, town: &str, agent: &str) {
    let owner = |kind: usize, name: &str| find(world, kind, name).map(|owner| uid(owner).to_owned());
    let (Some(town_uid), Some(agent_uid)) = (owner(town_kind(), town), owner(agent_kind(), agent)) else {
        return;
    };
    let of_town = json!({names::INSTALL: INSTALL, names::TOWN_UID: town_uid});
    let mut of_agent = of_town.clone();
    of_agent[names::AGENT_UID] = agent_uid.into();
    let pod = json!({"containers": [{"name": "main", "image": "forged"}]});
    let claim = json!({"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}});
    for namespace in TENANTS {
        create_namespace(world, namespace);
        let mut forged = |version: &str, kind: &str, name: &str, labels: &Value, spec: &Value| {
            let mut object = json!({
                "apiVersion": version, "kind": kind, "metadata": {"name": name, "labels": labels},
            });
            if !spec.is_null() {
                object["spec"] = spec.clone();
            }
            create_in(world, namespace, object);
        };
        forged("v1", "Pod", "forged-town", &of_town, &pod);
        forged("v1", "Pod", "forged-agent", &of_agent, &pod);
        forged("v1", "PersistentVolumeClaim", "forged", &of_town, &claim);
        forged("v1", "Service", "forged", &of_town, &json!({"ports": [{"port": 80}]}));
        forged("v1", "Secret", "forged", &of_town, &Value::Null);
        let mayor = json!({"townName": town, "role": "Mayor"});
        forged("gastown.dev/v1alpha1", "Agent", "forged", &of_town, &mayor);
        node::exit(world, &node::pod(namespace, "forged-agent"), 0, "done");
    }
}

/// The number of objects of the other tenant that claim another owner and are not being deleted.
pub fn forged(world: &World) -> usize {
    let all = world.store().all();
    let theirs = all.filter(|(key, object)| {
        TENANTS.contains(&key.namespace()) && label(object, names::TOWN_UID).is_some() && !is_going(object)
    });
    theirs.filter(|(key, _)| key.name().starts_with("forged")).count()
}

/// A GitOps tool that tracks objects by the label `app.kubernetes.io/instance` deletes objects that carry the name of
/// its application, have no owner, and are not in git.
pub fn prune(world: &mut World, application: &str) {
    let kinds = [id::POD, id::CLAIM, id::SERVICE, id::SECRET];
    let all = kinds.into_iter().flat_map(|kind| world.store().of_kind(kind));
    let foreign = all.filter(|(key, object)| {
        key.namespace() == NAMESPACE
            && label(object, "app.kubernetes.io/instance") == Some(application)
            && meta(object).get("ownerReferences").is_none()
    });
    for key in foreign.map(|(key, _)| key.clone()).collect::<Vec<_>>() {
        let _ = world.delete(&key, &Deletion::default());
    }
}

/// A backup tool recreates the towns, agents, claims and pods of the namespace in their state before the deletion. As
/// Velero does, the tool removes owner references, status, node and volume, and keeps labels and finalizers. The tool
/// skips existing objects, and objects with the label `velero.io/exclude-from-backup`.
pub fn restore(world: &mut World) {
    let kinds_of_backup = [town_kind(), agent_kind(), id::CLAIM, id::POD];
    let mut saved: BTreeMap<Key, Value> = BTreeMap::new();
    for event in world.log() {
        let kept = event.key.namespace() == NAMESPACE && kinds_of_backup.contains(&event.key.kind);
        if kept && event.change != Change::Deleted && !is_going(&event.object) {
            saved.insert(event.key.clone(), Value::clone(&event.object));
        }
    }
    let excluded = |object: &Value| label(object, "velero.io/exclude-from-backup") == Some("true");
    saved.retain(|key, object| !excluded(object) && world.store().get(key).is_none());
    for kind in kinds_of_backup {
        for (_, mut object) in saved.clone().into_iter().filter(|(key, _)| key.kind == kind) {
            clean_metadata(&mut object);
            for field in ["uid", "resourceVersion", "ownerReferences", "creationTimestamp", "generation"] {
                meta_mut(&mut object).remove(field);
            }
            for (part, field) in [("spec", "nodeName"), ("spec", "volumeName")] {
                if let Some(part) = object[part].as_object_mut() {
                    part.remove(field);
                }
            }
            if let Some(fields) = object.as_object_mut() {
                fields.remove("status");
            }
            object["apiVersion"] = kinds().at(kind).api_version().into();
            object["kind"] = kinds().at(kind).kind.into();
            create(world, object);
        }
    }
}

/// The number of pods that an agent has had.
pub fn pods_of(world: &World, agent: &str) -> usize {
    let Some(owner) = find(world, agent_kind(), agent).map(|agent| uid(agent).to_owned()) else { return 0 };
    let added = world.log().iter().filter(|event| event.change == Change::Added && event.key.kind == id::POD);
    let own = |object: &Value| label(object, names::AGENT_UID) == Some(owner.as_str());
    added.filter(|event| event.key.namespace() == NAMESPACE && own(&event.object)).count()
}

/// The number of objects of a kind with our label that were created in the namespace of the story.
pub fn created(world: &World, kind: usize) -> usize {
    let added = world.log().iter().filter(|event| event.change == Change::Added && event.key.kind == kind);
    let ours = |object: &Value| label(object, names::INSTALL) == Some(INSTALL);
    added.filter(|event| event.key.namespace() == NAMESPACE && ours(&event.object)).count()
}

/// Applies the function to the pod of a town or an agent.
pub fn with_pod(world: &mut World, kind: usize, name: &str, act: fn(&mut World, &Key)) {
    if let Some((key, _)) = pod_of(world, kind, name) {
        act(world, &key);
    }
}
