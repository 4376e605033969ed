//! The requests of users, and the objects of other owners.

use http::Method;
use serde_json::{Value, json};
use town_operator::api::names;

use super::{EPOCH, INSTALL, agent_kind, town_kind};
use crate::server::call::Call;
use crate::server::kinds::{id, kinds};
use crate::server::object::{Object, label, uid};
use crate::server::players::{self, node, volumes};
use crate::server::store::Key;
use crate::server::world::{Answer, World};

pub const NAMESPACE: &str = "gas";

/// A cluster with the namespace of the story.
pub fn an_empty_cluster() -> World {
    let mut world = World::new(EPOCH, 1);
    create_namespace(&mut world, NAMESPACE);
    node::join(&mut world);
    volumes::offer(&mut world, "standard", "Delete", true);
    world
}

pub fn create_namespace(world: &mut World, name: &str) {
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
    ask(world, &Method::POST, "/api/v1/namespaces", &namespace);
}

/// A cluster with the namespace of the story and foreign objects in it.
pub fn a_cluster() -> World {
    let mut world = an_empty_cluster();
    for object in belongings_of_others() {
        create(&mut world, object);
    }
    players::rest(&mut world, 1000);
    world
}

/// The foreign objects in their current state.
pub fn others(world: &World) -> Vec<(Key, Object)> {
    let theirs = [id::POD, id::CLAIM, id::SERVICE, id::SECRET, town_kind(), agent_kind()];
    let all = theirs.into_iter().flat_map(|kind| world.store().of_kind(kind));
    all.map(|(key, object)| (key.clone(), object.clone())).collect()
}

/// Objects with names and labels like ours: of a client that is no operator, and of another installation.
fn belongings_of_others() -> Vec<Value> {
    let labels = |install: Option<&str>| {
        let mut labels = json!({names::APP_MANAGED_BY: names::MANAGER, "app.kubernetes.io/instance": "gas"});
        if let Some(install) = install {
            labels[names::INSTALL] = install.into();
            labels[names::TOWN_UID] = "00000000-0000-4000-8000-000000000000".into();
        }
        labels
    };
    let object = |kind: &str, name: &str, install: Option<&str>, rest: Value| {
        let version = if matches!(kind, "Town" | "Agent") { "gastown.dev/v1alpha1" } else { "v1" };
        let mut object = json!({
            "apiVersion": version, "kind": kind, "metadata": {"name": name, "labels": labels(install)},
        });
        object.as_object_mut().expect("an object").extend(rest.as_object().cloned().unwrap_or_default());
        object
    };
    let pod = || json!({"spec": {"containers": [{"name": "main", "image": "other"}]}});
    let claim =
        || json!({"spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}});
    vec![
        object("Pod", "gas-00000000", None, pod()),
        object("Pod", "gas-theirs", Some("theirs"), pod()),
        object("PersistentVolumeClaim", "gas-00000000", None, claim()),
        object("PersistentVolumeClaim", "gas-theirs", Some("theirs"), claim()),
        object("Secret", "gas-00000000", None, json!({})),
        object("Secret", "gas-theirs", Some("theirs"), json!({})),
        object("Service", "gas-theirs", Some("theirs"), json!({"spec": {"ports": [{"port": 80}]}})),
        object("Town", "theirs", Some("theirs"), json!({"spec": {"rigs": [{"name": "core"}]}})),
        object("Agent", "theirs", Some("theirs"), json!({"spec": {"townName": "gas", "role": "Crew"}})),
    ]
}

/// A request of a user. The request must succeed.
pub fn ask(world: &mut World, method: &Method, path: &str, body: &Value) -> Answer {
    let answer = try_ask(world, method, path, body);
    assert!(answer.code < 300, "{method} {path}: {} {}", answer.code, answer.value());
    answer
}

/// A request of a user.
pub fn try_ask(world: &mut World, method: &Method, path: &str, body: &Value) -> Answer {
    let kind = if *method == Method::PATCH { "application/merge-patch+json" } else { "application/json" };
    let request = http::Request::builder().method(method).uri(path).header("content-type", kind).body(());
    let (head, ()) = request.expect("a request").into_parts();
    let body = if body.is_null() { Vec::new() } else { serde_json::to_vec(body).expect("JSON") };
    let call = Call::read("a person", &head, body.into()).unwrap_or_else(|_| panic!("{method} {path}"));
    world.handle(&call)
}

fn path(kind: usize, name: &str) -> String {
    path_in(NAMESPACE, kind, name)
}

fn path_in(namespace: &str, kind: usize, name: &str) -> String {
    let kind = kinds().at(kind);
    let group = if kind.group.is_empty() { "/api".to_owned() } else { format!("/apis/{}", kind.group) };
    format!("{group}/{}/namespaces/{namespace}/{}/{name}", kind.version, kind.plural)
        .trim_end_matches('/')
        .to_owned()
}

pub fn create(world: &mut World, object: Value) {
    create_in(world, NAMESPACE, object);
}

pub fn create_in(world: &mut World, namespace: &str, object: Value) {
    let text = |field: &str| object[field].as_str().expect("a kind").to_owned();
    let kind = kinds().of_object(&text("apiVersion"), &text("kind")).expect("a kind").id;
    ask(world, &Method::POST, &path_in(namespace, kind, ""), &object);
}

pub fn create_town(world: &mut World, name: &str, spec: Value) {
    create(
        world,
        json!({"apiVersion": "gastown.dev/v1alpha1", "kind": "Town", "metadata": {"name": name}, "spec": spec}),
    );
}

pub fn create_agent(world: &mut World, name: &str, spec: Value) {
    create(
        world,
        json!({"apiVersion": "gastown.dev/v1alpha1", "kind": "Agent", "metadata": {"name": name}, "spec": spec}),
    );
}

/// Patches an object with a merge patch. A missing object is ignored.
pub fn change(world: &mut World, kind: usize, name: &str, patch: &Value) {
    try_ask(world, &Method::PATCH, &path(kind, name), patch);
}

/// Deletes an object. A missing object is ignored.
pub fn delete(world: &mut World, kind: usize, name: &str) {
    try_ask(world, &Method::DELETE, &path(kind, name), &Value::Null);
}

/// Deletes an object with this propagation policy: `Background`, `Foreground`, `Orphan`.
pub fn delete_by(world: &mut World, kind: usize, name: &str, propagation: &str) {
    let options = json!({"apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": propagation});
    try_ask(world, &Method::DELETE, &path(kind, name), &options);
}

/// An object in the namespace of the story.
pub fn find<'a>(world: &'a World, kind: usize, name: &str) -> Option<&'a Object> {
    world.get(kind, NAMESPACE, name)
}

/// The phase of a town or an agent; empty if there is none.
pub fn phase(world: &World, kind: usize, name: &str) -> String {
    let found = find(world, kind, name).and_then(|found| found["status"]["phase"].as_str());
    found.unwrap_or_default().to_owned()
}

/// Force-deletes a pod, without a grace period.
pub fn delete_now(world: &mut World, kind: usize, name: &str) {
    let options = json!({"apiVersion": "v1", "kind": "DeleteOptions", "gracePeriodSeconds": 0});
    try_ask(world, &Method::DELETE, &path(kind, name), &options);
}

/// The objects in the namespace of the story with our label.
pub fn belongs(world: &World) -> Vec<Key> {
    let kinds = [id::POD, id::CLAIM, id::SERVICE, id::SECRET, town_kind(), agent_kind()];
    let all = kinds.into_iter().flat_map(|kind| world.store().of_kind(kind));
    all.filter(|(key, object)| key.namespace() == NAMESPACE && label(object, names::INSTALL) == Some(INSTALL))
        .map(|(key, _)| key.clone())
        .collect()
}

/// Ends the container of an agent's pod with this exit code.
pub fn end_work(world: &mut World, agent: &str, exit_code: i32) {
    if let Some((key, _)) = pod_of(world, agent_kind(), agent) {
        node::exit(world, &key, exit_code, "");
    }
}

/// The pod of this owner.
pub fn pod_of(world: &World, kind: usize, name: &str) -> Option<(Key, Object)> {
    let owner = uid(find(world, kind, name)?).to_owned();
    let mut pods = world.store().of_kind(id::POD).filter(|(key, _)| key.namespace() == NAMESPACE);
    let of = |pod: &Object| {
        let labels = &pod["metadata"]["labels"];
        let belongs_to_it = if kind == agent_kind() {
            labels[names::AGENT_UID] == owner.as_str()
        } else {
            labels[names::TOWN_UID] == owner.as_str() && labels[names::AGENT_UID].is_null()
        };
        belongs_to_it && labels[names::INSTALL] == INSTALL
    };
    pods.find(|(_, pod)| of(pod)).map(|(key, pod)| (key.clone(), pod.clone()))
}

/// Whether the owner has a running pod.
pub fn runs(world: &World, kind: usize, name: &str) -> bool {
    pod_of(world, kind, name).is_some_and(|(_, pod)| pod["status"]["phase"] == "Running")
}
