//! The delete request. The server removes the object immediately, after its grace period, or after the removal of the
//! last finalizer.

use k8s_openapi::jiff::SignedDuration;
use serde_json::{Value, json};

use super::call::Call;
use super::kinds::{Kind, id, kinds};
use super::object::{self, Object};
use super::read::Items;
use super::refusal::Refusal;
use super::selector::Selector;
use super::store::Key;
use super::world::{Answer, World};

/// The propagation policy: the effect of a delete on the dependents of the object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Propagation {
    /// The garbage collector deletes the dependents after the object.
    Background,
    /// The garbage collector deletes the dependents before the object.
    Foreground,
    /// The dependents remain.
    Orphan,
}

impl Propagation {
    /// The finalizer that the policy adds to the object.
    fn finalizer(self) -> Option<&'static str> {
        match self {
            Self::Background => None,
            Self::Foreground => Some(FOREGROUND),
            Self::Orphan => Some(ORPHAN),
        }
    }
}

/// Holds an owner until its dependents are deleted.
pub const FOREGROUND: &str = "foregroundDeletion";
/// Holds an owner until no dependent refers to the owner.
pub const ORPHAN: &str = "orphan";

/// Holds a definition while objects of its kind exist.
pub const CLEANUP: &str = "customresourcecleanup.apiextensions.k8s.io";

/// The options of a delete.
#[derive(Clone, Debug, Default)]
pub struct Deletion {
    /// The grace period in seconds; `None`: the default of the kind.
    pub grace: Option<i64>,
    /// The precondition on the UID.
    pub uid: Option<String>,
    /// The precondition on the resourceVersion.
    pub version: Option<String>,
    /// The propagation policy.
    pub propagation: Option<Propagation>,
}

/// The result of a delete.
pub struct Deleted {
    /// The stored object, or the last state of a removed object.
    pub object: Object,
    /// Whether the server removed the object.
    pub gone: bool,
}

impl Deletion {
    fn read(call: &Call) -> Result<Self, Refusal> {
        let body: Value = if call.body.is_empty() {
            Value::Null
        } else {
            serde_json::from_slice(&call.body).map_err(|error| Refusal::bad_request(error.to_string()))?
        };
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let policy =
            text(&body["propagationPolicy"]).or(call.parameter("propagationPolicy").map(str::to_owned));
        let propagation = match policy.as_deref() {
            None => None,
            Some("Background") => Some(Propagation::Background),
            Some("Foreground") => Some(Propagation::Foreground),
            Some("Orphan") => Some(Propagation::Orphan),
            Some(other) => {
                let words = format!(
                    "DeleteOptions.meta.k8s.io \"\" is invalid: propagationPolicy: Unsupported value: \"{other}\": \
                     supported values: \"Background\", \"Foreground\", \"Orphan\", \"nil\""
                );
                let details = json!({
                    "group": "meta.k8s.io", "kind": "DeleteOptions",
                    "causes": [{"reason": "FieldValueNotSupported", "message": "", "field": "propagationPolicy"}],
                });
                return Err(Refusal { details, ..Refusal::new(422, "Invalid", words) });
            }
        };
        let grace = body["gracePeriodSeconds"].as_i64();
        Ok(Self {
            grace: grace.or_else(|| call.parameter("gracePeriodSeconds")?.parse().ok()),
            uid: text(&body["preconditions"]["uid"]),
            version: text(&body["preconditions"]["resourceVersion"]),
            propagation,
        })
    }
}

impl World {
    pub(super) fn delete_of(&mut self, call: &Call, kind: &Kind) -> Result<Answer, Refusal> {
        let deletion = Deletion::read(call)?;
        let key = Key::new(kind, &call.namespace, &call.name);
        let deleted = self.delete(&key, &deletion)?;
        if !deleted.gone || kind.returns_deleted {
            return Ok(Answer::object(200, deleted.object));
        }
        let mut details = serde_json::Map::new();
        for (field, value) in [
            ("name", key.name()),
            ("group", kind.group),
            ("kind", kind.plural),
            ("uid", object::uid(&deleted.object)),
        ] {
            if !value.is_empty() {
                details.insert(field.into(), value.into());
            }
        }
        let status = json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details,
        });
        Ok(Answer::object(200, status.into()))
    }

    pub(super) fn delete_all_of(&mut self, call: &Call, kind: &Kind) -> Result<Answer, Refusal> {
        let deletion = Deletion::read(call)?;
        let selector = Selector::read(call, kind)?;
        let mut items = Items::new(kind, 0, call.metadata_only, &selector);
        let mut chosen = Vec::new();
        for (key, object) in self.store.within(kind.id, &call.namespace) {
            if items.add(key, object) {
                chosen.push(key.clone());
            }
        }
        let answer = items.answer(self.store.version());
        for key in &chosen {
            self.delete(key, &deletion)?;
        }
        Ok(answer)
    }

    /// Deletes an object without a check of access.
    pub fn delete(&mut self, key: &Key, deletion: &Deletion) -> Result<Deleted, Refusal> {
        let kind = kinds().at(key.kind);
        let old = self.store.get(key).cloned().ok_or_else(|| Refusal::not_found(kind, key.name()))?;
        preconditions(kind, key.name(), deletion, &old)?;
        if kind.id == id::NAMESPACE && !object::is_going(&old) {
            return Ok(Deleted { object: self.begin_namespace(key, deletion, &old), gone: false });
        }
        if kind.id == id::DEFINITION && !object::is_going(&old) {
            return Ok(Deleted { object: self.begin_definition(key, &old), gone: false });
        }
        if kind.id == id::NAMESPACE && old["spec"]["finalizers"].as_array().is_some_and(|f| !f.is_empty()) {
            return Ok(Deleted { object: old, gone: false });
        }
        let mut new = (*old).clone();
        let graceful = match self.begin(kind, &mut new, deletion) {
            Begun::Pending => return Ok(Deleted { object: old, gone: false }),
            Begun::Graceful => true,
            Begun::AtOnce => false,
        };
        let finalizers = finalizers_after(&old, deletion.propagation);
        let finalizers: Vec<&str> = finalizers.iter().map(String::as_str).collect();
        object::set_finalizers(&mut new, &finalizers);
        let held = !finalizers.is_empty();
        if held && !graceful {
            self.mark(&mut new, &old);
        }
        let waits = held || (graceful && object::grace(&new).is_some_and(|grace| grace > 0));
        let object = if new == *old { old } else { self.put(key.clone(), new) };
        if waits {
            return Ok(Deleted { object, gone: false });
        }
        let object = self.remove(key).unwrap_or(object);
        Ok(Deleted { object, gone: true })
    }

    /// Starts the deletion. Only pods have a grace period.
    fn begin(&self, kind: &Kind, new: &mut Value, deletion: &Deletion) -> Begun {
        if kind.id != id::POD {
            return Begun::AtOnce;
        }
        let asked = deletion.grace.map(|grace| if grace < 0 { 1 } else { grace });
        if object::is_going(new) {
            let left = object::grace(new).unwrap_or_default();
            if left == 0 {
                return Begun::AtOnce;
            }
            let Some(mut grace) = asked.filter(|asked| *asked < left) else { return Begun::Pending };
            let meta = object::meta_mut(new);
            let due = meta.get("deletionTimestamp").and_then(object::time).unwrap_or(self.now);
            let mut at = due - SignedDuration::from_secs(left) + SignedDuration::from_secs(grace);
            if at < self.now {
                at = self.now;
                grace = i64::from(grace != 0);
            }
            meta.insert("deletionTimestamp".into(), object::seconds(at));
            meta.insert("deletionGracePeriodSeconds".into(), grace.into());
            return Begun::Graceful;
        }
        let own = new["spec"]["terminationGracePeriodSeconds"].as_i64().unwrap_or_default();
        let on_node = new["spec"]["nodeName"].as_str().is_some_and(|node| !node.is_empty());
        let ended = matches!(new["status"]["phase"].as_str(), Some("Failed" | "Succeeded"));
        let grace = if !on_node || ended { 0 } else { asked.unwrap_or(own).max(0) };
        let due = object::seconds(self.now + SignedDuration::from_secs(grace));
        let meta = object::meta_mut(new);
        meta.insert("deletionTimestamp".into(), due);
        meta.insert("deletionGracePeriodSeconds".into(), grace.into());
        object::bump_generation(new);
        Begun::Graceful
    }

    /// Marks an object as being deleted that has no grace period but has a finalizer.
    fn mark(&self, new: &mut Value, old: &Value) {
        if !object::is_going(old) {
            object::bump_generation(new);
        }
        let now = object::seconds(self.now);
        let due = object::meta(old).get("deletionTimestamp").and_then(object::time);
        let meta = object::meta_mut(new);
        if due.is_none_or(|due| due > self.now) {
            meta.insert("deletionTimestamp".into(), now);
        }
        meta.insert("deletionGracePeriodSeconds".into(), 0.into());
    }

    fn begin_namespace(&mut self, key: &Key, deletion: &Deletion, old: &Value) -> Object {
        let mut new = old.clone();
        let now = object::seconds(self.now);
        object::meta_mut(&mut new).insert("deletionTimestamp".into(), now);
        new["status"]["phase"] = "Terminating".into();
        let finalizers = finalizers_after(old, deletion.propagation);
        object::set_finalizers(&mut new, &finalizers.iter().map(String::as_str).collect::<Vec<_>>());
        self.put(key.clone(), new)
    }

    /// Starts the deletion of a definition: the server refuses new objects of the kind, and the definition waits for
    /// the existing objects.
    fn begin_definition(&mut self, key: &Key, old: &Value) -> Object {
        let mut new = old.clone();
        let now = object::seconds(self.now);
        object::meta_mut(&mut new).insert("deletionTimestamp".into(), now.clone());
        let mut finalizers: Vec<&str> = object::finalizers(old).filter(|one| *one != CLEANUP).collect();
        finalizers.push(CLEANUP);
        object::set_finalizers(&mut new, &finalizers);
        if let Some(Value::Array(conditions)) = new["status"].get_mut("conditions") {
            conditions.push(json!({
                "type": "Terminating", "status": "True", "reason": "InstanceDeletionPending",
                "message": "CustomResourceDefinition marked for deletion; CustomResource deletion will begin soon",
                "lastTransitionTime": now,
            }));
        }
        self.put(key.clone(), new)
    }
}

enum Begun {
    /// The grace period starts.
    Graceful,
    /// The grace period has started before.
    Pending,
    /// The server removes the object now, or after the removal of its last finalizer.
    AtOnce,
}

fn preconditions(kind: &Kind, name: &str, deletion: &Deletion, old: &Value) -> Result<(), Refusal> {
    let checks = [
        (
            "UID",
            deletion.uid.as_deref(),
            object::uid(old),
            "The object might have been deleted and then recreated",
        ),
        (
            "ResourceVersion",
            deletion.version.as_deref(),
            object::text(old, "resourceVersion"),
            "The object might have been modified",
        ),
    ];
    for (what, asked, is, hint) in checks {
        if let Some(asked) = asked.filter(|asked| *asked != is) {
            if matches!(kind.id, id::NAMESPACE | id::DEFINITION) {
                let why = format!(
                    "Precondition failed: {what} in precondition: {asked}, {what} in object meta: {is}"
                );
                return Err(Refusal::conflict(kind, name, &why));
            }
            let why = format!(
                "the {what} in the precondition ({asked}) does not match the {what} in record ({is}). {hint}"
            );
            return Err(Refusal::precondition(kind, name, &why));
        }
    }
    Ok(())
}

/// The finalizers of an object after a delete with this policy. A delete without a policy keeps the earlier policy.
fn finalizers_after(old: &Value, propagation: Option<Propagation>) -> Vec<String> {
    let mut finalizers: Vec<String> = object::finalizers(old).map(str::to_owned).collect();
    let Some(propagation) = propagation else { return finalizers };
    let wanted = propagation.finalizer();
    finalizers.retain(|one| one != FOREGROUND && one != ORPHAN);
    finalizers.extend(wanted.map(str::to_owned));
    finalizers
}
