//! The schema of an embedded pod template.

use k8s_openapi::api::core::v1::PodTemplateSpec;
use schemars::{Schema, SchemaGenerator, json_schema};
use serde_json::Value;

/// The pod template's own schema without its descriptions: a CRD must stay small enough for plain
/// `kubectl apply` (the last-applied annotation holds at most 262,144 bytes). Of the metadata only
/// labels and annotations make sense in a template.
pub(super) fn schema(generator: &mut SchemaGenerator) -> Schema {
    let mut schema = generator.subschema_for::<PodTemplateSpec>();
    if let Some(object) = schema.as_object_mut() {
        object.values_mut().for_each(strip);
        object.insert("description".into(), "A pod template, as in a Deployment.".into());
        if let Some(properties) = object.get_mut("properties").and_then(Value::as_object_mut) {
            let map = json_schema!({"type": "object", "additionalProperties": {"type": "string"}});
            properties.insert(
                "metadata".into(),
                json_schema!({"type": "object", "properties": {"labels": map, "annotations": map}})
                    .to_value(),
            );
        }
        // What the API server asks of every pod, said while a person still looks and not when the pod is made.
        object.insert("required".into(), serde_json::json!(["spec"]));
        let mut tighten = |path: &str, key: &str, value: Value| {
            let field = object.get_mut("properties").and_then(|p| p.pointer_mut(path));
            if let Some(field) = field.and_then(Value::as_object_mut) {
                field.insert(key.into(), value);
            }
        };
        tighten("/spec/properties/containers", "minItems", 1.into());
        tighten(
            "/spec/properties/restartPolicy",
            "enum",
            serde_json::json!(["Always", "OnFailure", "Never"]),
        );
    }
    schema
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
