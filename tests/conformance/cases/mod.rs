//! The cases. Each file has one subject.

mod access;
mod collected;
mod created;
mod custom;
mod defined;
mod deleted;
mod listed;
mod namespaces;
mod patched;
mod pods;
mod replaced;
mod volumes;
mod watched;

use serde_json::{Value, json};

use crate::script::{Case, Seen};

/// The cases of all files.
pub fn all() -> Vec<Case> {
    // Cases that wait for controllers come first.
    let subjects = [
        defined::cases(),
        namespaces::cases(),
        collected::cases(),
        volumes::cases(),
        watched::cases(),
        deleted::cases(),
        pods::cases(),
        created::cases(),
        replaced::cases(),
        patched::cases(),
        custom::cases(),
        listed::cases(),
        access::cases(),
    ];
    subjects.into_iter().flatten().collect()
}

fn case(name: &'static str) -> Case {
    Case::new(name)
}

/// An object with only this name.
fn named(name: &str) -> Value {
    json!({"metadata": {"name": name}})
}

/// An object with an empty spec.
fn town(name: &str) -> Value {
    json!({"metadata": {"name": name}, "spec": {}})
}

/// An object with a finalizer.
fn held(name: &str) -> Value {
    json!({"metadata": {"name": name, "finalizers": ["example.com/held"]}})
}

/// A town with a finalizer.
fn held_town(name: &str) -> Value {
    json!({"metadata": {"name": name, "finalizers": ["example.com/held"]}, "spec": {}})
}

/// An object whose owner is the object of the first answer.
fn owned(name: &str, seen: &Seen, kind: (&str, &str), blocks: bool) -> Value {
    json!({"metadata": {"name": name, "ownerReferences": [owner(seen, 0, kind, blocks)]}})
}

/// A reference to the object of the answer with this index.
fn owner(seen: &Seen, place: usize, (api_version, kind): (&str, &str), blocks: bool) -> Value {
    let owner = &seen[place];
    json!({
        "apiVersion": api_version, "kind": kind, "name": owner.body["metadata"]["name"], "uid": owner.uid(),
        "blockOwnerDeletion": blocks,
    })
}

/// The object of the answer with this index, changed by the function.
fn again(seen: &Seen, place: usize, change: impl FnOnce(&mut Value)) -> Value {
    let mut object = seen[place].body.clone();
    change(&mut object);
    object
}

const TOWN: (&str, &str) = ("gastown.dev/v1alpha1", "Town");
const SECRET: (&str, &str) = ("v1", "Secret");
