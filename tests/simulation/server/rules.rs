//! The CEL rules of a schema.

use std::cell::RefCell;

use kube_cel::{CompiledSchema, Validator, compile_schema};
use serde_json::Value;

use super::refusal::Fault;

thread_local! {
    // Each thread has its own validator: the type is not `Sync`, and a new value is expensive.
    static VALIDATOR: RefCell<Validator> = RefCell::new(Validator::new());
}

/// The rules of one kind, by part of the object (`spec`, `status`).
pub struct Rules(Vec<(String, CompiledSchema)>);

impl Rules {
    /// Compiles the rules of a schema. The part "" has the rules at the root of the object, above spec and status.
    pub fn new(schema: &Value) -> Self {
        let parts = schema["properties"].as_object().into_iter().flatten();
        let with_rules = parts.filter(|(_, schema)| has_rules(schema));
        let mut rules: Vec<_> =
            with_rules.map(|(part, schema)| (part.clone(), compile_schema(schema))).collect();
        if schema.get("x-kubernetes-validations").is_some() {
            let mut root = schema.clone();
            root["properties"].as_object_mut().into_iter().flatten().for_each(|(_, part)| forget_rules(part));
            rules.push((String::new(), compile_schema(&root)));
        }
        Self(rules)
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The violations of the rules. An unchanged part is not validated again.
    pub fn faults(&self, object: &Value, old: Option<&Value>) -> Vec<Fault> {
        let mut faults = Vec::new();
        for (part, schema) in &self.0 {
            let whole = part.is_empty();
            let Some(value) = (if whole { Some(object) } else { object.get(part) }) else { continue };
            let old = if whole { old } else { old.and_then(|old| old.get(part)) };
            // The rules at the root concern the spec.
            if old.is_some_and(|old| if whole { old["spec"] == value["spec"] } else { old == value }) {
                continue;
            }
            let found = VALIDATOR.with_borrow(|validator| validator.validate_compiled(schema, value, old));
            for error in found.err().into_iter().flatten() {
                let inside = if whole || error.field_path.is_empty() { "" } else { "." };
                let field = format!("{part}{inside}{}", error.field_path);
                let mut fault = Fault::invalid(field, &Value::from("object"), &error.message);
                if error.reason.as_deref() == Some("FieldValueForbidden") {
                    fault.reason = "FieldValueForbidden";
                }
                faults.push(fault);
            }
        }
        faults
    }
}

fn forget_rules(schema: &mut Value) {
    match schema {
        Value::Object(map) => {
            map.remove("x-kubernetes-validations");
            map.values_mut().for_each(forget_rules);
        }
        Value::Array(items) => items.iter_mut().for_each(forget_rules),
        _ => {}
    }
}

fn has_rules(schema: &Value) -> bool {
    match schema {
        Value::Object(map) => map.contains_key("x-kubernetes-validations") || map.values().any(has_rules),
        Value::Array(items) => items.iter().any(has_rules),
        _ => false,
    }
}
