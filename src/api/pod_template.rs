//! An embedded pod template, and its schema.
//!
//! Invariants kept here: a template that the API server stores can be read by the operator; and server-side apply
//! merges its lists as it merges those of a Pod.

use k8s_openapi::api::core::v1::PodTemplateSpec;
use schemars::{Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value, json};

/// Lists that core merges by keys, and those keys. All other lists are atomic there, as here.
const KEYED: [(&str, &[&str]); 13] = [
    ("claims", &["name"]),
    ("containers", &["name"]),
    ("env", &["name"]),
    ("hostAliases", &["ip"]),
    ("imagePullSecrets", &["name"]),
    ("initContainers", &["name"]),
    ("ports", &["containerPort", "protocol"]),
    ("resourceClaims", &["name"]),
    ("schedulingGates", &["name"]),
    ("topologySpreadConstraints", &["topologyKey", "whenUnsatisfiable"]),
    ("volumeDevices", &["devicePath"]),
    ("volumeMounts", &["mountPath"]),
    ("volumes", &["name"]),
];
/// Objects that core replaces as a whole.
const ATOMIC: [&str; 14] = [
    "configMapKeyRef",
    "dataSource",
    "fieldRef",
    "fileKeyRef",
    "labelSelector",
    "namespaceSelector",
    "nodePublishSecretRef",
    "nodeSelector",
    "preference",
    "requiredDuringSchedulingIgnoredDuringExecution",
    "resourceFieldRef",
    "secretKeyRef",
    "secretRef",
    "selector",
];
/// Fields of a pod that no template can set: the API server refuses them in a create, or computes them.
const NOT_IN_A_TEMPLATE: [&str; 3] = ["ephemeralContainers", "overhead", "priority"];
/// Lists that may be longer than [`ITEMS`], or must be shorter.
const LONGEST: [(&str, u32); 8] = [
    ("args", 256),
    ("command", 256),
    ("containers", 32),
    ("env", 256),
    ("initContainers", 32),
    ("items", 256),
    ("matchExpressions", 256),
    ("values", 256),
];
/// The longest of all other lists.
const ITEMS: u32 = 64;
/// The most entries of a map.
const ENTRIES: u32 = 64;
/// The longest text, in characters.
const TEXT: u32 = 4096;
/// The longest environment variable, argument and annotation, in characters.
const LONG_TEXT: u32 = 32768;
/// Quantities, as the API server reads them.
const QUANTITY: &str = r"^(\+|-)?(([0-9]+(\.[0-9]*)?)|(\.[0-9]+))(([KMGTPE]i)|[numkMGTPE]|([eE](\+|-)?(([0-9]+(\.[0-9]*)?)|(\.[0-9]+))))?$";

/// A pod template as users write it, or its digest. The operator keeps only digests in memory, because templates are
/// large, and it creates a pod only from an object that it read live.
#[derive(Clone, Debug, PartialEq)]
pub enum PodTemplate {
    /// The template.
    Whole(Box<PodTemplateSpec>),
    /// A digest of the template. The operator cannot create a pod from it.
    Digest(String),
}

impl PodTemplate {
    /// The template, unless only its digest is known.
    pub fn whole(&self) -> Option<&PodTemplateSpec> {
        match self {
            Self::Whole(template) => Some(template),
            Self::Digest(_) => None,
        }
    }
}

/// For a field of a struct that is no field of the API: serde never writes it.
pub(super) fn is_no_field<T>(_: &T) -> bool {
    true
}

#[cfg(test)]
impl PodTemplate {
    /// The spec of the template.
    pub(crate) fn spec_mut(&mut self) -> &mut k8s_openapi::api::core::v1::PodSpec {
        match self {
            Self::Whole(template) => template.spec.as_mut().unwrap(),
            Self::Digest(digest) => panic!("{digest} is a digest"),
        }
    }
}

impl From<PodTemplateSpec> for PodTemplate {
    fn from(template: PodTemplateSpec) -> Self {
        Self::Whole(Box::new(template))
    }
}

impl<'de> Deserialize<'de> for PodTemplate {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        PodTemplateSpec::deserialize(deserializer).map(Self::from)
    }
}

impl Serialize for PodTemplate {
    /// A digest is no template: nothing is written for it.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Whole(template) => template.serialize(serializer),
            Self::Digest(_) => serializer.serialize_unit(),
        }
    }
}

/// The pod template's own schema without its descriptions: a CRD must stay small enough for plain
/// `kubectl apply` (the last-applied annotation holds at most 262,144 bytes). The metadata has only
/// labels and annotations, because a template uses no other metadata.
pub(super) fn schema(generator: &mut SchemaGenerator) -> Schema {
    let mut schema = generator.subschema_for::<PodTemplateSpec>();
    if let Some(object) = schema.as_object_mut() {
        object.values_mut().for_each(strip);
        if let Some(Value::Object(properties)) = object.get_mut("properties") {
            properties.insert("metadata".into(), metadata());
            if let Some(Value::Object(fields)) =
                properties.get_mut("spec").and_then(|s| s.get_mut("properties"))
            {
                for field in NOT_IN_A_TEMPLATE {
                    fields.remove(field);
                }
            }
            properties.iter_mut().for_each(|(name, inner)| bound(name, inner));
        }
        object.insert("description".into(), "A pod template, as in a Deployment.".into());
        // The API server requires this of every pod. With the schema a user gets the error before the pod is created.
        object.insert("required".into(), json!(["spec"]));
        let mut tighten = |path: &str, key: &str, value: Value| {
            let field = object.get_mut("properties").and_then(|p| p.pointer_mut(path));
            if let Some(field) = field.and_then(Value::as_object_mut) {
                field.insert(key.into(), value);
            }
        };
        tighten("/spec/properties/containers", "minItems", 1.into());
        tighten("/spec/properties/restartPolicy", "enum", json!(["Always", "OnFailure", "Never"]));
    }
    schema
}

/// The metadata of a template: of a pod, or of the claim of an ephemeral volume.
fn metadata() -> Value {
    let map = json_schema!({"type": "object", "additionalProperties": {"type": "string"}});
    json_schema!({"type": "object", "properties": {"labels": map, "annotations": map}}).to_value()
}

/// Bounds a field of this name, and everything below it.
fn bound(name: &str, schema: &mut Value) {
    if name == "volumeClaimTemplate"
        && let Some(inner) = schema.pointer_mut("/properties/metadata")
    {
        *inner = metadata();
    }
    let Value::Object(schema) = schema else { return };
    match schema.get("type").and_then(Value::as_str) {
        Some("array") => bound_list(name, schema),
        Some("object") => {
            if ATOMIC.contains(&name) {
                schema.insert("x-kubernetes-map-type".into(), "atomic".into());
            }
            if let Some(inner) = schema.get_mut("additionalProperties") {
                bound(name, inner);
                schema.insert("maxProperties".into(), ENTRIES.into());
            }
        }
        Some("string") if !schema.contains_key("enum") => {
            let long = matches!(name, "args" | "command" | "value" | "annotations");
            schema.insert("maxLength".into(), if long { LONG_TEXT } else { TEXT }.into());
        }
        // Zero makes each delete of the pod a forced one: its object is gone before its containers have stopped.
        Some("integer") if name == "terminationGracePeriodSeconds" => {
            schema.insert("minimum".into(), 1.into());
        }
        None if schema.contains_key("x-kubernetes-int-or-string") => bound_int_or_string(name, schema),
        _ => {}
    }
    for (name, inner) in schema.get_mut("properties").and_then(Value::as_object_mut).into_iter().flatten() {
        bound(name, inner);
    }
}

fn bound_list(name: &str, schema: &mut Map<String, Value>) {
    let longest = LONGEST.iter().find(|(list, _)| *list == name).map_or(ITEMS, |(_, longest)| *longest);
    schema.insert("maxItems".into(), longest.into());
    let keys = KEYED.iter().find(|(list, _)| *list == name).map(|(_, keys)| *keys);
    let numbers = schema.get("items").and_then(|items| items.get("type")) == Some(&"integer".into());
    let kind = match keys {
        Some(_) => "map",
        // The exit codes of a restart rule. Groups are numbers, too, and atomic in core.
        None if numbers && name == "values" => "set",
        None => "atomic",
    };
    schema.insert("x-kubernetes-list-type".into(), kind.into());
    if let Some(keys) = keys {
        schema.insert("x-kubernetes-list-map-keys".into(), json!(keys));
    }
    let Some(items) = schema.get_mut("items") else { return };
    bound(name, items);
    if name == "ports" {
        // A key of the list must have a value; core has the same default.
        if let Some(Value::Object(protocol)) = items.pointer_mut("/properties/protocol") {
            protocol.insert("default".into(), "TCP".into());
        }
    } else if let Some(Value::Object(items)) = keys.and(Some(items)) {
        items.insert("required".into(), required(items.get("required"), keys.unwrap_or_default()));
    }
}

/// The required fields, including the keys of the list.
fn required(already: Option<&Value>, keys: &[&str]) -> Value {
    let mut all: Vec<Value> = already.and_then(Value::as_array).cloned().unwrap_or_default();
    let missing: Vec<Value> =
        keys.iter().map(|key| Value::from(*key)).filter(|key| !all.contains(key)).collect();
    all.extend(missing);
    all.into()
}

/// A port is read as a 32-bit number, and a quantity as a text or a number. The API server stores more for both.
fn bound_int_or_string(name: &str, schema: &mut Map<String, Value>) {
    if name == "port" {
        schema.insert("minimum".into(), 1.into());
        schema.insert("maximum".into(), 65535.into());
        schema.insert("maxLength".into(), 15.into());
    } else {
        schema.insert("pattern".into(), QUANTITY.into());
        schema.insert("maxLength".into(), 64.into());
    }
}

/// Removes descriptions; a property that is itself called `description` stays.
fn strip(schema: &mut Value) {
    match schema {
        Value::Object(map) => {
            if map.get("description").is_some_and(Value::is_string) {
                map.remove("description");
            }
            map.values_mut().for_each(strip);
        }
        Value::Array(items) => items.iter_mut().for_each(strip),
        _ => {}
    }
}
