//! The update and patch requests. Both use the same code after the patch is applied.

use serde_json::Value;

use super::call::Call;
use super::create::{blocks, body, decoded, not_checked};
use super::kinds::{Form, Kind, id, kinds};
use super::object::{self, Object};
use super::refusal::{Fault, Refusal};
use super::store::Key;
use super::validate::{metadata_changes, metadata_faults};
use super::world::{Answer, World, in_place};

/// The part of an object that a request writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The fields except the status.
    Main,
    Status,
    /// The finalizers in the spec of a namespace.
    Finalize,
}

impl Part {
    fn of(call: &Call) -> Self {
        match call.subresource.as_str() {
            "status" => Self::Status,
            "finalize" => Self::Finalize,
            _ => Self::Main,
        }
    }
}

impl World {
    pub(super) fn replace_of(&mut self, call: &Call, kind: &Kind) -> Result<Answer, Refusal> {
        let mut object = body(call, kind)?;
        in_place(call, kind, &mut object)?;
        named(call, &object)?;
        let key = Key::new(kind, &call.namespace, &call.name);
        let uid = object::uid(&object).to_owned();
        let uid = Some(uid).filter(|uid| !uid.is_empty());
        self.store_next(kind, &key, Part::of(call), uid.as_deref(), |_| Ok(object))
            .map(|object| shown(call, object))
    }

    pub(super) fn patch_of(&mut self, call: &Call, kind: &Kind) -> Result<Answer, Refusal> {
        let key = Key::new(kind, &call.namespace, &call.name);
        let change = |old: &Value| {
            let mut object = patched(call, kind, old)?;
            object = decoded(kind, object).map_err(|refusal| Refusal {
                code: 422,
                reason: "Invalid",
                ..refusal
            })?;
            in_place(call, kind, &mut object)?;
            named(call, &object)?;
            Ok(object)
        };
        self.store_next(kind, &key, Part::of(call), None, change).map(|object| shown(call, object))
    }

    /// Changes an object without a check of access or of the resourceVersion.
    pub fn change(
        &mut self,
        key: &Key,
        part: Part,
        change: impl FnOnce(&mut Value),
    ) -> Result<Object, Refusal> {
        let kind = kinds().at(key.kind);
        self.store_next(kind, key, part, None, |old| {
            let mut object = old.clone();
            change(&mut object);
            decoded(kind, object)
        })
    }

    /// Applies the change to the stored object, validates the result and stores it.
    fn store_next(
        &mut self,
        kind: &Kind,
        key: &Key,
        part: Part,
        uid: Option<&str>,
        next: impl FnOnce(&Value) -> Result<Value, Refusal>,
    ) -> Result<Object, Refusal> {
        let name = key.name();
        let old = self.store.get(key).cloned().ok_or_else(|| Refusal::not_found(kind, name))?;
        if let Some(uid) = uid.filter(|uid| *uid != object::uid(&old)) {
            return Err(Refusal::another(kind, &key.path, name, uid, object::uid(&old)));
        }
        let mut new = next(&old)?;
        same_version(kind, name, &new, &old)?;
        Self::prepare_next(kind, part, &mut new, &old);
        let faults = faults_of_change(kind, part, &new, &old);
        if !faults.is_empty() {
            return Err(Refusal::invalid(kind, name, &faults));
        }
        if kind.id == id::CLAIM && part == Part::Main {
            super::volumes::may_grow(self, &new, &old)?;
        }
        if ends_now(kind, &new, &old) {
            self.remove(key);
            return Ok(new.into());
        }
        if new == *old {
            return Ok(old);
        }
        Ok(self.put(key.clone(), new))
    }

    /// Restores the fields that this write must not change, and counts generations.
    fn prepare_next(kind: &Kind, part: Part, new: &mut Value, old: &Object) {
        let (old_meta, meta) = (object::meta(old), object::meta_mut(new));
        for field in ["creationTimestamp", "generation", "resourceVersion"] {
            match old_meta.get(field) {
                Some(value) => meta.insert(field.into(), value.clone()),
                None => meta.remove(field),
            };
        }
        if !meta.contains_key("uid") {
            meta.insert("uid".into(), old_meta["uid"].clone());
        }
        for field in ["deletionTimestamp", "deletionGracePeriodSeconds"] {
            if let Some(value) = old_meta.get(field)
                && (field == "deletionTimestamp" || !meta.contains_key(field))
            {
                meta.insert(field.into(), value.clone());
            }
        }
        match (part, &kind.form) {
            (Part::Status, Form::Custom(_)) => {
                let status = new.get("status").cloned();
                new.clone_from(old);
                put_back(new, "status", status.as_ref());
                refill(kind, new);
            }
            (Part::Status, Form::Typed(_)) => {
                put_back(new, "spec", old.get("spec"));
                match kind.id {
                    id::POD => super::pods::prepare_status(new, old),
                    id::CLAIM | id::SERVICE | id::DEFINITION => *object::meta_mut(new) = old_meta.clone(),
                    _ => {}
                }
            }
            (Part::Finalize, _) => {
                let finalizers = new["spec"]["finalizers"].take();
                new.clone_from(old);
                put_back(new, "spec", None);
                if finalizers.as_array().is_some_and(|list| !list.is_empty()) {
                    new["spec"] = serde_json::json!({"finalizers": finalizers});
                } else {
                    new["spec"] = serde_json::json!({});
                }
            }
            (Part::Main, _) => {
                if kind.status {
                    put_back(new, "status", old.get("status"));
                }
                refill(kind, new);
                if kind.id == id::NAMESPACE {
                    put_back(new, "spec", old.get("spec"));
                }
                if kind.id == id::POD {
                    super::pods::defaults(new);
                }
                if kind.id == id::SECRET && new.get("type").is_none() {
                    new["type"] = "Opaque".into();
                }
                if kind.id == id::SERVICE {
                    super::typed::keep_service(new, old);
                }
                if kind.generation && differs(new, old) {
                    object::bump_generation(new);
                }
            }
        }
    }
}

/// A removed field can have a default.
fn refill(kind: &Kind, object: &mut Value) {
    if let Some(definition) = kind.definition() {
        definition.schema.shape(object);
    }
}

fn put_back(object: &mut Value, field: &str, value: Option<&Value>) {
    let Some(map) = object.as_object_mut() else { return };
    match value {
        Some(value) => map.insert(field.into(), value.clone()),
        None => map.remove(field),
    };
}

/// Whether a field outside of the metadata differs.
fn differs(new: &Value, old: &Value) -> bool {
    let rest = |object: &Value| -> Vec<(String, Value)> {
        let fields = object.as_object().into_iter().flatten();
        fields
            .filter(|(key, _)| *key != "metadata")
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect()
    };
    let same = |key: &str| new.get(key) == old.get(key);
    if let (Some(new), Some(old)) = (new.as_object(), old.as_object())
        && new.len() == old.len()
    {
        return !new.keys().filter(|key| *key != "metadata").all(|key| same(key));
    }
    rest(new) != rest(old)
}

fn faults_of_change(kind: &Kind, part: Part, new: &Value, old: &Value) -> Vec<Fault> {
    // The real server reports the faults of the metadata twice: for every kind, and again in the validation of the
    // kind.
    let mut faults = metadata_faults(kind, new);
    faults.extend(metadata_changes(new, old));
    let mut found = faults.clone();
    if let Some(definition) = kind.definition() {
        found.extend(definition.schema.faults(new));
        let more =
            if blocks(&found) { not_checked(definition) } else { definition.rules.faults(new, Some(old)) };
        found.extend(more);
    }
    faults.extend(found);
    if part == Part::Main {
        faults.extend(super::typed::faults(kind, new, Some(old)));
    }
    faults
}

/// Whether this write removes the last finalizer of an object that is being deleted.
fn ends_now(kind: &Kind, new: &Value, old: &Value) -> bool {
    object::is_going(old)
        && object::finalizers(new).next().is_none()
        && object::grace(old).is_none_or(|grace| grace == 0)
        && (kind.id != id::NAMESPACE || new["spec"]["finalizers"].as_array().is_none_or(Vec::is_empty))
}

fn same_version(kind: &Kind, name: &str, new: &Value, old: &Value) -> Result<(), Refusal> {
    let (asked, stored) = (object::text(new, "resourceVersion"), object::text(old, "resourceVersion"));
    if asked.is_empty() {
        if kind.unconditional {
            return Ok(());
        }
        let why = "must be specified for an update";
        let fault = Fault::invalid("metadata.resourceVersion", &0.into(), why);
        let mut refusal = Refusal::invalid(kind, name, &[fault]);
        // The real server names the resource here, not the kind.
        refusal.details["kind"] = kind.plural.into();
        refusal.message = format!(
            "{} \"{name}\" is invalid: metadata.resourceVersion: Invalid value: 0: {why}",
            kind.qualified()
        );
        return Err(refusal);
    }
    if asked != stored {
        let why =
            "the object has been modified; please apply your changes to the latest version and try again";
        return Err(Refusal::conflict(kind, name, why));
    }
    Ok(())
}

fn named(call: &Call, object: &Value) -> Result<(), Refusal> {
    let name = object::name(object);
    if name == call.name {
        return Ok(());
    }
    if name.is_empty() {
        return Err(Refusal::bad_request(
            "the name of the object (based on URL) was undeterminable: name must be provided",
        ));
    }
    Err(Refusal::bad_request(format!(
        "the name of the object ({name}) does not match the name on the URL ({})",
        call.name
    )))
}

fn shown(call: &Call, object: Object) -> Answer {
    let object = if call.metadata_only { super::read::metadata_of(&object).into() } else { object };
    Answer::object(200, object)
}

/// The result of a patch.
fn patched(call: &Call, kind: &Kind, old: &Value) -> Result<Value, Refusal> {
    let unreadable =
        |error: serde_json::Error| Refusal::bad_request(format!("error decoding patch: {error}"));
    let mut object = old.clone();
    match call.content_type.as_str() {
        "application/merge-patch+json" => {
            let patch: Value = serde_json::from_slice(&call.body).map_err(unreadable)?;
            if !patch.is_object() {
                return Err(Refusal::bad_request("Invalid JSON Patch"));
            }
            json_patch::merge(&mut object, &patch);
        }
        "application/json-patch+json" => {
            let patch: json_patch::Patch = serde_json::from_slice(&call.body).map_err(unreadable)?;
            json_patch::patch(&mut object, &patch).map_err(|_| {
                let words = "the server rejected our request due to an error in our request";
                Refusal { details: serde_json::json!({}), ..Refusal::new(422, "Invalid", words) }
            })?;
        }
        other => {
            let words = format!(
                "{}: the body of the request was in an unknown format ({other}) - accepted media types include: \
                 application/json-patch+json, application/merge-patch+json",
                kind.qualified()
            );
            return Err(Refusal::new(415, "UnsupportedMediaType", words));
        }
    }
    Ok(object)
}
