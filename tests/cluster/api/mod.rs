//! The API for users: refusals and their messages, defaults, and the output of kubectl.

mod accepted;
mod changed;
mod decoded;
mod refused;
mod shown;

use kube::api::{Api, Patch, PatchParams, PostParams};
use kube::core::{ApiResource, DynamicObject};
use serde_json::{Value, json};

use crate::common::seen::Kind;
use crate::common::story::Story;
use crate::stage::Stories;

pub fn add(stories: &mut Stories) {
    refused::add(stories);
    accepted::add(stories);
    changed::add(stories);
    decoded::add(stories);
    shown::add(stories);
}

/// Fragments of the message of a refusal: the name of the field and the allowed values.
type Words<'a> = &'a [&'a str];

/// The difference between an answer and a refusal with these fragments.
fn lacks(outcome: Result<(), String>, wanted: Words) -> Option<String> {
    let Err(message) = outcome else { return Some(format!("accepted, should be refused with {wanted:?}")) };
    let missing: Vec<&&str> = wanted.iter().filter(|fragment| !message.contains(**fragment)).collect();
    (!missing.is_empty()).then(|| format!("refused, but without {missing:?}: {message}"))
}

/// Creates an object in a dry run: the API server applies schema, defaults and rules, and stores nothing.
async fn try_create<K: Kind>(story: &Story, spec: &Value) -> Result<(), String> {
    let dynamic = Api::<DynamicObject>::namespaced_with(
        story.client(),
        &story.namespace,
        &ApiResource::erase::<K>(&()),
    );
    let object = json!({
        "apiVersion": K::api_version(&()), "kind": K::kind(&()), "metadata": {"name": "dry"}, "spec": spec,
    });
    let object: DynamicObject = serde_json::from_value(object).unwrap();
    let params = PostParams { dry_run: true, ..PostParams::default() };
    dynamic.create(&params, &object).await.map(drop).map_err(said)
}

/// Patches an object in a dry run.
async fn patch<K: Kind>(story: &Story, name: &str, patch: Value) -> Result<(), String> {
    let params = PatchParams { dry_run: true, ..PatchParams::default() };
    story.api::<K>().patch(name, &params, &Patch::Merge(patch)).await.map(drop).map_err(said)
}

/// An object as JSON from the API server, without our types.
async fn read<K: Kind>(story: &Story, name: &str) -> Value {
    let resource = ApiResource::erase::<K>(&());
    let dynamic = Api::<DynamicObject>::namespaced_with(story.client(), &story.namespace, &resource);
    serde_json::to_value(dynamic.get(name).await.unwrap()).unwrap()
}

fn said(error: kube::Error) -> String {
    match error {
        kube::Error::Api(status) => status.message,
        other => panic!("no answer of the API server: {other}"),
    }
}

fn merged(mut one: Value, other: Value) -> Value {
    json_patch::merge(&mut one, &other);
    one
}

fn condition(kind: &str, status: &str, reason: &str) -> Value {
    json!({
        "type": kind, "status": status, "reason": reason, "message": "",
        "lastTransitionTime": "2026-01-01T00:00:00Z", "observedGeneration": 1,
    })
}
