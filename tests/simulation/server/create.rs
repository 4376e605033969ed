//! The create request.

use serde_json::{Value, json};

use super::call::Call;
use super::kinds::{Definition, Form, Kind, KindId, id, kinds};
use super::object::{self, Object};
use super::refusal::{Fault, Refusal};
use super::store::Key;
use super::validate::metadata_faults;
use super::world::{Answer, World, in_place};

impl World {
    pub(super) fn create_of(&mut self, call: &Call, kind: &Kind) -> Result<Answer, Refusal> {
        let mut object = body(call, kind)?;
        in_place(call, kind, &mut object)?;
        if self.definition(kind).is_some_and(|definition| is_terminating(definition)) {
            let why = "create not allowed while custom resource definition is terminating";
            return Err(Refusal::forbidden(kind, object::name(&object), why));
        }
        self.create_here(kind, &call.namespace, object).map(|object| {
            let shown = if call.metadata_only { super::read::metadata_of(&object).into() } else { object };
            Answer::object(201, shown)
        })
    }

    /// Creates an object without a check of access.
    pub fn create(&mut self, kind: KindId, namespace: &str, mut object: Value) -> Result<Object, Refusal> {
        let kind = kinds().at(kind);
        if kind.namespaced {
            object::meta_mut(&mut object).insert("namespace".into(), namespace.into());
        }
        object["apiVersion"] = kind.api_version().into();
        object["kind"] = kind.kind.into();
        let object = decoded(kind, object)?;
        self.create_here(kind, namespace, object)
    }

    fn create_here(&mut self, kind: &Kind, namespace: &str, mut object: Value) -> Result<Object, Refusal> {
        self.namespace_takes(kind, namespace, object::name(&object))?;
        let prefix = object::text(&object, "generateName").to_owned();
        if object::name(&object).is_empty() && !prefix.is_empty() {
            let name = format!("{prefix}{:05x}", self.draw() & 0xf_ffff);
            object::meta_mut(&mut object).insert("name".into(), name.into());
        }
        if !object::text(&object, "resourceVersion").is_empty() {
            return Err(Refusal::new(500, "", "resourceVersion should not be set on objects to be created"));
        }
        let (uid, now) = (self.new_uid(), object::seconds(self.now));
        let meta = object::meta_mut(&mut object);
        for field in ["deletionTimestamp", "deletionGracePeriodSeconds", "generation", "resourceVersion"] {
            meta.remove(field);
        }
        meta.insert("uid".into(), uid.into());
        meta.insert("creationTimestamp".into(), now.clone());
        if kind.generation {
            meta.insert("generation".into(), 1.into());
        }
        self.prepare(kind, &mut object, &now);
        let mut faults = metadata_faults(kind, &object);
        if let Some(definition) = kind.definition() {
            // A field that `prepare` removes can have a default.
            definition.schema.shape(&mut object);
            faults.extend(definition.schema.faults(&object));
            let more = if blocks(&faults) {
                not_checked(definition)
            } else {
                definition.rules.faults(&object, None)
            };
            faults.extend(more);
        }
        faults.extend(super::typed::faults(kind, &object, None));
        if !faults.is_empty() {
            return Err(Refusal::invalid(kind, object::name(&object), &faults));
        }
        let key = Key::new(kind, namespace, object::name(&object));
        if let Some(there) = self.store.get(&key) {
            return Err(Refusal::already_exists(kind, key.name(), object::is_going(there)));
        }
        Ok(self.put(key, object))
    }

    /// Adds the fields that the server sets in a new object.
    fn prepare(&mut self, kind: &Kind, object: &mut Value, now: &Value) {
        match kind.id {
            id::NAMESPACE => {
                object["spec"] = json!({"finalizers": ["kubernetes"]});
                object["status"] = json!({"phase": "Active"});
                let name = object["metadata"]["name"].clone();
                let labels = &mut object["metadata"]["labels"];
                if !labels.is_object() {
                    *labels = json!({});
                }
                labels["kubernetes.io/metadata.name"] = name;
            }
            id::POD => {
                super::pods::inject(object, self.injects);
                super::pods::prepare(object);
            }
            id::CLAIM => super::volumes::prepare_claim(self, object),
            id::VOLUME => super::volumes::prepare_volume(object),
            id::SERVICE => super::typed::prepare_service(object, self.draw()),
            id::SECRET if object.get("type").is_none() => object["type"] = "Opaque".into(),
            id::EVENT if object.get("deprecatedSource").is_none() => object["deprecatedSource"] = json!({}),
            id::LEASE if object.get("spec").is_none() => object["spec"] = json!({}),
            id::CLASS => super::volumes::prepare_class(object),
            id::DEFINITION => {
                let condition = |kind: &str, reason: &str, message: &str| {
                    json!({
                        "type": kind, "status": "True", "reason": reason, "message": message,
                        "lastTransitionTime": now,
                    })
                };
                let conditions = [
                    condition("NamesAccepted", "NoConflicts", "no conflicts found"),
                    condition("Established", "InitialNamesAccepted", "the initial names have been accepted"),
                ];
                object["status"] = json!({
                    "conditions": conditions, "acceptedNames": object["spec"]["names"].clone(),
                    "storedVersions": [object["spec"]["versions"][0]["name"].clone()],
                });
            }
            _ if kind.status => _ = object.as_object_mut().and_then(|map| map.remove("status")),
            _ => {}
        }
    }
}

/// Whether a definition is being deleted. The server then refuses new objects of its kind.
pub(super) fn is_terminating(definition: &Value) -> bool {
    let mut conditions = definition["status"]["conditions"].as_array().into_iter().flatten();
    conditions.any(|c| c["type"] == "Terminating" && c["status"] == "True")
}

/// The object in the body of a request, in the form that the server stores.
pub(super) fn body(call: &Call, kind: &Kind) -> Result<Value, Refusal> {
    let object: Value = serde_json::from_slice(&call.body)
        .map_err(|error| Refusal::bad_request(format!("the object provided is unrecognized: {error}")))?;
    let (api_version, name) = (kind.api_version(), kind.kind);
    let said = |field: &str| object.get(field).and_then(Value::as_str).unwrap_or_default();
    if !said("kind").is_empty() && said("kind") != name
        || kind.definition().is_some() && said("kind").is_empty()
    {
        return Err(Refusal::bad_request(format!(
            "{} in version \"{}\" cannot be handled as a {name}: no kind \"{}\" is registered for version \"{}\"",
            said("kind"),
            kind.version,
            said("kind"),
            said("apiVersion")
        )));
    }
    if !said("apiVersion").is_empty() && said("apiVersion") != api_version {
        return Err(Refusal::bad_request(format!(
            "the API version in the data ({}) does not match the expected API version ({api_version})",
            said("apiVersion")
        )));
    }
    decoded(kind, object)
}

/// An object in the form that the server stores: without unknown fields, with defaults.
pub(super) fn decoded(kind: &Kind, object: Value) -> Result<Value, Refusal> {
    let mut object = match &kind.form {
        Form::Typed(read) => {
            let cannot = |error| {
                let (name, version) = (kind.kind, kind.version);
                Refusal::bad_request(format!(
                    "{name} in version \"{version}\" cannot be handled as a {name}: {error}"
                ))
            };
            read(object).map_err(cannot)?
        }
        Form::Custom(definition) => {
            let mut object = object;
            definition.schema.shape(&mut object);
            object
        }
    };
    object::clean_metadata(&mut object);
    Ok(object)
}

/// Whether these faults of the schema prevent the evaluation of the CEL rules.
pub(super) fn blocks(faults: &[Fault]) -> bool {
    let blocking = [
        "FieldValueNotSupported",
        "FieldValueRequired",
        "FieldValueTooLong",
        "FieldValueTooMany",
        "FieldValueTypeInvalid",
    ];
    faults.iter().any(|fault| blocking.contains(&fault.reason))
}

/// The faults that report that the server did not evaluate the rules; empty for a kind without rules.
pub(super) fn not_checked(definition: &Definition) -> Vec<Fault> {
    if definition.rules.is_empty() {
        return Vec::new();
    }
    let why = "some validation rules were not checked because the object was invalid; correct the existing errors \
               to complete validation";
    vec![Fault::invalid("<nil>", &Value::Null, why)]
}
