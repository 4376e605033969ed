//! The structural schema of a kind: pruning, defaults and validation.

use std::collections::BTreeMap;

use k8s_openapi::jiff::Timestamp;
use regex::Regex;
use serde_json::{Map, Value};

use super::refusal::Fault;

/// A node of a schema.
#[derive(Default)]
pub struct Schema {
    is: Option<Type>,
    int_or_string: bool,
    keep_unknown: bool,
    embedded: bool,
    properties: BTreeMap<String, Schema>,
    additional: Option<Box<Schema>>,
    items: Option<Box<Schema>>,
    required: Vec<String>,
    default: Option<Value>,
    choices: Vec<Value>,
    pattern: Option<Regex>,
    format: Format,
    size: Range,
    number: Range,
    list_keys: Vec<String>,
}

#[derive(Clone, Copy, PartialEq)]
enum Type {
    Object,
    Array,
    String,
    Integer,
    Number,
    Boolean,
}

#[derive(Default, PartialEq)]
enum Format {
    #[default]
    None,
    DateTime,
    Int32,
}

#[derive(Default)]
struct Range {
    min: Option<f64>,
    max: Option<f64>,
}

impl Schema {
    /// Parses a schema.
    pub fn new(schema: &Value) -> Self {
        let flag = |key: &str| schema.get(key) == Some(&Value::Bool(true));
        let number = |key: &str| schema.get(key).and_then(Value::as_f64);
        let texts = |key: &str| -> Vec<String> {
            let items = schema.get(key).and_then(Value::as_array).into_iter().flatten();
            items.filter_map(|item| item.as_str().map(str::to_owned)).collect()
        };
        let is = match schema.get("type").and_then(Value::as_str) {
            Some("object") => Some(Type::Object),
            Some("array") => Some(Type::Array),
            Some("string") => Some(Type::String),
            Some("integer") => Some(Type::Integer),
            Some("number") => Some(Type::Number),
            Some("boolean") => Some(Type::Boolean),
            _ => None,
        };
        let inner = |key: &str| {
            let inner = schema.get(key).filter(|inner| inner.is_object());
            inner.map(|inner| Box::new(Self::new(inner)))
        };
        let sized =
            |what: &str| Range { min: number(&format!("min{what}")), max: number(&format!("max{what}")) };
        Self {
            int_or_string: flag("x-kubernetes-int-or-string"),
            keep_unknown: flag("x-kubernetes-preserve-unknown-fields"),
            embedded: flag("x-kubernetes-embedded-resource"),
            properties: schema
                .get("properties")
                .and_then(Value::as_object)
                .into_iter()
                .flatten()
                .map(|(name, inner)| (name.clone(), Self::new(inner)))
                .collect(),
            additional: inner("additionalProperties"),
            items: inner("items"),
            required: texts("required"),
            default: schema.get("default").cloned(),
            choices: schema.get("enum").and_then(Value::as_array).cloned().unwrap_or_default(),
            pattern: schema
                .get("pattern")
                .and_then(Value::as_str)
                .map(|pattern| Regex::new(pattern).expect("a pattern that Rust reads as Go does")),
            format: match schema.get("format").and_then(Value::as_str) {
                Some("date-time") => Format::DateTime,
                Some("int32") => Format::Int32,
                _ => Format::None,
            },
            size: match is {
                Some(Type::Array) => sized("Items"),
                Some(Type::Object) => sized("Properties"),
                _ => sized("Length"),
            },
            number: Range { min: number("minimum"), max: number("maximum") },
            list_keys: texts("x-kubernetes-list-map-keys"),
            is,
        }
    }

    /// Removes unknown fields and nulls, then sets defaults. `value` is a whole object: the fields that every object
    /// has at its root remain.
    pub fn shape(&self, value: &mut Value) {
        let Value::Object(map) = value else { return };
        self.shape_map(map, true);
    }

    fn shape_inner(&self, value: &mut Value) {
        match value {
            Value::Object(map) => self.shape_map(map, self.embedded),
            Value::Array(items) => {
                if let Some(schema) = &self.items {
                    for item in items.iter_mut() {
                        schema.shape_inner(item);
                    }
                }
            }
            _ => {}
        }
    }

    fn shape_map(&self, map: &mut Map<String, Value>, is_object: bool) {
        let of_every_object = |key: &str| is_object && matches!(key, "apiVersion" | "kind" | "metadata");
        map.retain(|key, value| {
            let known = self.keep_unknown || self.additional.is_some() || self.properties.contains_key(key);
            (known && !value.is_null()) || of_every_object(key)
        });
        for (key, value) in map.iter_mut() {
            if let Some(schema) = self.properties.get(key).or(self.additional.as_deref()) {
                schema.shape_inner(value);
            }
        }
        for (key, schema) in &self.properties {
            if let Some(default) = &schema.default
                && !map.contains_key(key)
            {
                let mut value = default.clone();
                schema.shape_inner(&mut value);
                map.insert(key.clone(), value);
            }
        }
    }

    /// The violations in a pruned object. Another function validates the metadata.
    pub fn faults(&self, object: &Value) -> Vec<Fault> {
        let mut faults = Vec::new();
        let fields = object.as_object().into_iter().flatten();
        for (key, value) in fields.filter(|(key, _)| *key != "metadata") {
            if let Some(schema) = self.properties.get(key) {
                schema.check(value, key, &mut faults);
            }
        }
        self.check_required(object, "", &mut faults);
        faults
    }

    fn check_required(&self, value: &Value, at: &str, faults: &mut Vec<Fault>) {
        for name in &self.required {
            if value.get(name).is_none() {
                faults.push(Fault::required(child(at, name), ""));
            }
        }
    }

    fn check(&self, value: &Value, at: &str, faults: &mut Vec<Fault>) {
        if !self.fits_type(value) {
            let found = type_name(value);
            let wanted = self.is.map_or("string", Type::name);
            let why = format!("{at} in body must be of type {wanted}: \"{found}\"");
            let mut fault = Fault::invalid(at, &found.into(), why);
            fault.reason = "FieldValueTypeInvalid";
            faults.push(fault);
            return;
        }
        if !self.choices.is_empty() && !self.choices.contains(value) {
            faults.push(Fault::not_supported(at, value, &self.choices));
        }
        match value {
            Value::String(text) => self.check_text(text, value, at, faults),
            Value::Number(number) => {
                let number = number.as_f64().unwrap_or_default();
                if let Some(min) = self.number.min.filter(|min| number < *min) {
                    let why = format!("{at} in body should be greater than or equal to {min}");
                    faults.push(Fault::invalid(at, value, why));
                }
                if let Some(max) = self.number.max.filter(|max| number > *max) {
                    let why = format!("{at} in body should be less than or equal to {max}");
                    faults.push(Fault::invalid(at, value, why));
                }
            }
            Value::Array(items) => {
                self.check_size(items.len(), "items", value, at, faults);
                self.check_list_keys(items, at, faults);
                for (place, item) in items.iter().enumerate() {
                    if let Some(schema) = &self.items {
                        schema.check(item, &format!("{at}[{place}]"), faults);
                    }
                }
            }
            Value::Object(map) => {
                self.check_size(map.len(), "properties", value, at, faults);
                for (key, value) in map {
                    if let Some(schema) = self.properties.get(key).or(self.additional.as_deref()) {
                        schema.check(value, &child(at, key), faults);
                    }
                }
                self.check_required(value, at, faults);
            }
            Value::Null | Value::Bool(_) => {}
        }
    }

    fn check_text(&self, text: &str, value: &Value, at: &str, faults: &mut Vec<Fault>) {
        self.check_size(text.chars().count(), "chars long", value, at, faults);
        if let Some(pattern) = &self.pattern
            && !pattern.is_match(text)
        {
            faults.push(Fault::invalid(at, value, format!("{at} in body should match '{pattern}'")));
        }
        if self.format == Format::DateTime && text.parse::<Timestamp>().is_err() {
            let why = format!("{at} in body must be of type date-time: {value}");
            faults.push(Fault { reason: "FieldValueTypeInvalid", ..Fault::invalid(at, value, why) });
        }
    }

    fn check_size(&self, size: usize, unit: &str, value: &Value, at: &str, faults: &mut Vec<Fault>) {
        // The conversion is exact because sizes are small.
        #[allow(clippy::cast_precision_loss)]
        let number = size as f64;
        if let Some(max) = self.size.max.filter(|max| number > *max) {
            let (reason, message) = match value {
                Value::String(_) => {
                    ("FieldValueTooLong", format!("Too long: may not be more than {max} bytes"))
                }
                _ => ("FieldValueTooMany", format!("Too many: {size}: must have at most {max} items")),
            };
            faults.push(Fault { reason, message, field: at.into() });
        }
        if let Some(min) = self.size.min.filter(|min| number < *min) {
            let why = format!("{at} in body should be at least {min} {unit}");
            faults.push(Fault::invalid(at, value, why));
        }
    }

    fn check_list_keys(&self, items: &[Value], at: &str, faults: &mut Vec<Fault>) {
        if self.list_keys.is_empty() {
            return;
        }
        let key = |item: &Value| -> Map<String, Value> {
            let fields = self.list_keys.iter().filter_map(|key| Some((key.clone(), item.get(key)?.clone())));
            fields.collect()
        };
        for (place, item) in items.iter().enumerate() {
            if items[..place].iter().any(|earlier| key(earlier) == key(item)) {
                let message = format!("Duplicate value: {}", Value::Object(key(item)));
                let field = format!("{at}[{place}]");
                faults.push(Fault { reason: "FieldValueDuplicate", message, field });
            }
        }
    }

    fn fits_type(&self, value: &Value) -> bool {
        if self.int_or_string {
            return value.is_string() || value.is_i64() || value.is_u64();
        }
        match self.is {
            None => true,
            Some(Type::Object) => value.is_object(),
            Some(Type::Array) => value.is_array(),
            Some(Type::String) => value.is_string(),
            Some(Type::Integer) => match self.format {
                Format::Int32 => value.as_i64().is_some_and(|number| i32::try_from(number).is_ok()),
                _ => value.is_i64() || value.is_u64(),
            },
            Some(Type::Number) => value.is_number(),
            Some(Type::Boolean) => value.is_boolean(),
        }
    }
}

impl Type {
    fn name(self) -> &'static str {
        match self {
            Self::Object => "object",
            Self::Array => "array",
            Self::String => "string",
            Self::Integer => "integer",
            Self::Number => "number",
            Self::Boolean => "boolean",
        }
    }
}

fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

fn child(at: &str, name: &str) -> String {
    if at.is_empty() { name.to_owned() } else { format!("{at}.{name}") }
}
