//! What the server refuses, in the words and shapes of the real one.

use serde_json::{Value, json};

use super::kinds::Kind;

/// A request that is not fulfilled: the `Status` that answers it.
#[derive(Clone, Debug, PartialEq)]
pub struct Refusal {
    /// HTTP status.
    pub code: u16,
    /// One word, as in `status.reason`.
    pub reason: &'static str,
    /// The sentence.
    pub message: String,
    /// What it is about; null where the real server says nothing.
    pub details: Value,
}

/// One field that is wrong.
#[derive(Clone, Debug, PartialEq)]
pub struct Fault {
    /// `FieldValueInvalid` and its like.
    pub reason: &'static str,
    /// What is wrong, without the field.
    pub message: String,
    /// The path of the field.
    pub field: String,
}

impl Fault {
    /// A value that may not be there.
    pub fn invalid(field: impl Into<String>, value: &Value, why: impl AsRef<str>) -> Self {
        let message = format!("Invalid value: {value}: {}", why.as_ref());
        Self { reason: "FieldValueInvalid", message, field: field.into() }
    }

    /// A value that is missing.
    pub fn required(field: impl Into<String>, why: &str) -> Self {
        let message = if why.is_empty() { "Required value".into() } else { format!("Required value: {why}") };
        Self { reason: "FieldValueRequired", message, field: field.into() }
    }

    /// A change or a field that is not allowed.
    pub fn forbidden(field: impl Into<String>, why: &str) -> Self {
        Self { reason: "FieldValueForbidden", message: format!("Forbidden: {why}"), field: field.into() }
    }

    /// A value that is none of those that may be.
    pub fn not_supported(field: impl Into<String>, value: &Value, supported: &[Value]) -> Self {
        let supported: Vec<String> = supported.iter().map(Value::to_string).collect();
        let message = format!("Unsupported value: {value}: supported values: {}", supported.join(", "));
        Self { reason: "FieldValueNotSupported", message, field: field.into() }
    }
}

impl Refusal {
    /// A refusal with nothing but a code, a reason and words.
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

    /// There is no such object.
    pub fn not_found(kind: &Kind, name: &str) -> Self {
        Self::about(404, "NotFound", format!("{} \"{name}\" not found", kind.qualified()), kind, name)
    }

    /// The name is taken.
    pub fn already_exists(kind: &Kind, name: &str, going: bool) -> Self {
        let going = if going { "object is being deleted: " } else { "" };
        let message = format!("{going}{} \"{name}\" already exists", kind.qualified());
        Self::about(409, "AlreadyExists", message, kind, name)
    }

    /// The object is not, or no longer, the one that the request speaks of.
    pub fn conflict(kind: &Kind, name: &str, why: &str) -> Self {
        let message = format!("Operation cannot be fulfilled on {} \"{name}\": {why}", kind.qualified());
        Self::about(409, "Conflict", message, kind, name)
    }

    /// An update is meant for another object of that name.
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

    /// A precondition of a delete does not hold. The real server calls the kind where else it calls the resource.
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

    /// Somebody may not do this.
    pub fn forbidden(kind: &Kind, name: &str, why: &str) -> Self {
        let named = if name.is_empty() { String::new() } else { format!(" \"{name}\"") };
        let message = format!("{}{named} is forbidden: {why}", kind.qualified());
        Self::about(403, "Forbidden", message, kind, name)
    }

    /// Fields are wrong.
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

    /// The request makes no sense.
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::new(400, "BadRequest", message)
    }

    /// What a list or a watch asked for has been forgotten.
    pub fn expired(message: impl Into<String>) -> Self {
        Self::new(410, "Expired", message)
    }

    /// Too much is asked.
    pub fn too_many_requests(retry_after: u32) -> Self {
        let refusal = Self::new(429, "TooManyRequests", "too many requests, please try again later");
        Self { details: json!({"retryAfterSeconds": retry_after}), ..refusal }
    }

    /// Something broke inside.
    pub fn internal(why: &str) -> Self {
        let refusal = Self::new(500, "InternalError", format!("Internal error occurred: {why}"));
        Self { details: json!({"causes": [{"message": why}]}), ..refusal }
    }

    /// The server is on its way up or down.
    pub fn unavailable() -> Self {
        Self::new(503, "ServiceUnavailable", "the server is currently unable to handle the request")
    }

    /// The store did not answer in time; the write may have taken effect, or may not.
    pub fn timeout() -> Self {
        let words = "Timeout: request did not complete within requested timeout - context deadline exceeded";
        Self { details: json!({}), ..Self::new(504, "Timeout", words) }
    }

    /// Nobody knows who asks.
    pub fn unauthorized() -> Self {
        Self::new(401, "Unauthorized", "Unauthorized")
    }

    /// The `Status` object.
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

    /// For how long the client is asked to wait, in seconds.
    pub fn retry_after(&self) -> Option<u64> {
        self.details.get("retryAfterSeconds").and_then(Value::as_u64)
    }
}
