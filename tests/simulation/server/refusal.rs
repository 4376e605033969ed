//! The errors of the server, with the messages and the structure of the real server.

use serde_json::{Value, json};

use super::kinds::Kind;

/// An error: the `Status` object that answers a request.
#[derive(Clone, Debug, PartialEq)]
pub struct Refusal {
    pub code: u16,
    /// The value of `status.reason`.
    pub reason: &'static str,
    pub message: String,
    /// The value of `status.details`; null if the real server sets none.
    pub details: Value,
}

/// A fault in one field.
#[derive(Clone, Debug, PartialEq)]
pub struct Fault {
    /// For example `FieldValueInvalid`.
    pub reason: &'static str,
    /// The message, without the field.
    pub message: String,
    pub field: String,
}

impl Fault {
    /// A value that is not valid.
    pub fn invalid(field: impl Into<String>, value: &Value, why: impl AsRef<str>) -> Self {
        let message = format!("Invalid value: {value}: {}", why.as_ref());
        Self { reason: "FieldValueInvalid", message, field: field.into() }
    }

    /// A missing value.
    pub fn required(field: impl Into<String>, why: &str) -> Self {
        let message = if why.is_empty() { "Required value".into() } else { format!("Required value: {why}") };
        Self { reason: "FieldValueRequired", message, field: field.into() }
    }

    /// A forbidden change or field.
    pub fn forbidden(field: impl Into<String>, why: &str) -> Self {
        Self { reason: "FieldValueForbidden", message: format!("Forbidden: {why}"), field: field.into() }
    }

    /// A value outside of the list of supported values.
    pub fn not_supported(field: impl Into<String>, value: &Value, supported: &[Value]) -> Self {
        let supported: Vec<String> = supported.iter().map(Value::to_string).collect();
        let message = format!("Unsupported value: {value}: supported values: {}", supported.join(", "));
        Self { reason: "FieldValueNotSupported", message, field: field.into() }
    }
}

impl Refusal {
    /// An error without details.
    pub fn new(code: u16, reason: &'static str, message: impl Into<String>) -> Self {
        Self { code, reason, message: message.into(), details: Value::Null }
    }

    fn about(code: u16, reason: &'static str, message: String, kind: &Kind, name: &str) -> Self {
        let mut details = serde_json::Map::new();
        for (key, value) in [("name", name), ("group", kind.group), ("kind", kind.plural)] {
            if !value.is_empty() {
                details.insert(key.into(), value.into());
            }
        }
        Self { code, reason, message, details: details.into() }
    }

    pub fn not_found(kind: &Kind, name: &str) -> Self {
        Self::about(404, "NotFound", format!("{} \"{name}\" not found", kind.qualified()), kind, name)
    }

    pub fn already_exists(kind: &Kind, name: &str, going: bool) -> Self {
        let going = if going { "object is being deleted: " } else { "" };
        let message = format!("{going}{} \"{name}\" already exists", kind.qualified());
        Self::about(409, "AlreadyExists", message, kind, name)
    }

    /// The object has changed, or is not the object that the request names.
    pub fn conflict(kind: &Kind, name: &str, why: &str) -> Self {
        let message = format!("Operation cannot be fulfilled on {} \"{name}\": {why}", kind.qualified());
        Self::about(409, "Conflict", message, kind, name)
    }

    /// An update names the UID of another object with the same name.
    pub fn another(kind: &Kind, path: &str, name: &str, asked: &str, is: &str) -> Self {
        let place = if kind.definition().is_some() { kind.group } else { "" };
        let slash = if place.is_empty() { "" } else { "/" };
        let why = format!(
            "StorageError: invalid object, Code: 4, Key: /registry{slash}{place}/{}/{path}, ResourceVersion: 0, \
             AdditionalErrorMsg: Precondition failed: UID in precondition: {asked}, UID in object meta: {is}",
            kind.plural
        );
        Self::conflict(kind, name, &why)
    }

    /// A precondition of a delete is violated. The real server names the kind here, and the resource elsewhere.
    pub fn precondition(kind: &Kind, name: &str, why: &str) -> Self {
        let mut refusal = Self::conflict(kind, name, why);
        let qualified = if kind.group.is_empty() {
            kind.kind.to_owned()
        } else {
            format!("{}.{}", kind.kind, kind.group)
        };
        refusal.message = format!("Operation cannot be fulfilled on {qualified} \"{name}\": {why}");
        refusal.details["kind"] = kind.kind.into();
        refusal
    }

    pub fn forbidden(kind: &Kind, name: &str, why: &str) -> Self {
        let named = if name.is_empty() { String::new() } else { format!(" \"{name}\"") };
        let message = format!("{}{named} is forbidden: {why}", kind.qualified());
        Self::about(403, "Forbidden", message, kind, name)
    }

    pub fn invalid(kind: &Kind, name: &str, faults: &[Fault]) -> Self {
        let qualified = if kind.group.is_empty() {
            kind.kind.to_owned()
        } else {
            format!("{}.{}", kind.kind, kind.group)
        };
        let said: Vec<String> =
            faults.iter().map(|fault| format!("{}: {}", fault.field, fault.message)).collect();
        let said = if let [one] = said.as_slice() { one.clone() } else { format!("[{}]", said.join(", ")) };
        let message = format!("{qualified} \"{name}\" is invalid: {said}");
        let mut refusal = Self::about(422, "Invalid", message, kind, name);
        refusal.details["kind"] = kind.kind.into();
        let causes = faults
            .iter()
            .map(|fault| json!({"reason": fault.reason, "message": fault.message, "field": fault.field}));
        refusal.details["causes"] = causes.collect();
        refusal
    }

    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::new(400, "BadRequest", message)
    }

    /// The version that a list or a watch requests is compacted.
    pub fn expired(message: impl Into<String>) -> Self {
        Self::new(410, "Expired", message)
    }

    pub fn too_many_requests(retry_after: u32) -> Self {
        let refusal = Self::new(429, "TooManyRequests", "too many requests, please try again later");
        Self { details: json!({"retryAfterSeconds": retry_after}), ..refusal }
    }

    pub fn internal(why: &str) -> Self {
        let refusal = Self::new(500, "InternalError", format!("Internal error occurred: {why}"));
        Self { details: json!({"causes": [{"message": why}]}), ..refusal }
    }

    /// The server is starting or shutting down.
    pub fn unavailable() -> Self {
        Self::new(503, "ServiceUnavailable", "the server is currently unable to handle the request")
    }

    /// The store did not answer in time. The write may have taken effect.
    pub fn timeout() -> Self {
        let words = "Timeout: request did not complete within requested timeout - context deadline exceeded";
        Self { details: json!({}), ..Self::new(504, "Timeout", words) }
    }

    pub fn unauthorized() -> Self {
        Self::new(401, "Unauthorized", "Unauthorized")
    }

    pub fn status(&self) -> Value {
        let mut status = json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "message": self.message, "code": self.code,
        });
        if !self.reason.is_empty() {
            status["reason"] = self.reason.into();
        }
        if !self.details.is_null() {
            status["details"] = self.details.clone();
        }
        status
    }

    /// The seconds that the client must wait before a retry.
    pub fn retry_after(&self) -> Option<u64> {
        self.details.get("retryAfterSeconds").and_then(Value::as_u64)
    }
}
