//! The validation of metadata.

use serde_json::Value;

use super::kinds::{Kind, id};
use super::object;
use super::refusal::Fault;

/// The rule for most names, in the words of the server.
const SUBDOMAIN: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', \
    and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is \
    '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";

/// The rule for names of namespaces and services.
const LABEL: &str = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must \
    start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is \
    '[a-z0-9]([-a-z0-9]*[a-z0-9])?')";

/// The rule for values of labels.
const LABEL_VALUE: &str = "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', \
    and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used \
    for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')";

/// The faults in the metadata of an object.
pub fn metadata_faults(kind: &Kind, value: &Value) -> Vec<Fault> {
    let mut faults = Vec::new();
    let name = object::name(value);
    let short = matches!(kind.id, id::NAMESPACE | id::SERVICE);
    let (rule, longest) = if short { (LABEL, 63) } else { (SUBDOMAIN, 253) };
    if name.is_empty() {
        faults.push(Fault::required("metadata.name", "name or generateName is required"));
    } else if name.len() > longest {
        let why = format!("must be no more than {longest} bytes");
        faults.push(Fault::invalid("metadata.name", &name.into(), why));
    } else if !is_name(name, short) {
        faults.push(Fault::invalid("metadata.name", &name.into(), rule));
    }
    for (_, label) in object::meta(value).get("labels").and_then(Value::as_object).into_iter().flatten() {
        let text = label.as_str().unwrap_or_default();
        if text.len() > 63 {
            faults.push(Fault::invalid("metadata.labels", label, "must be no more than 63 bytes"));
        } else if !is_label_value(text) {
            faults.push(Fault::invalid("metadata.labels", label, LABEL_VALUE));
        }
    }
    let finalizers: Vec<&str> = object::finalizers(value).collect();
    if finalizers.contains(&"orphan") && finalizers.contains(&"foregroundDeletion") {
        let why = "finalizer orphan and foregroundDeletion cannot be both set";
        faults.push(Fault::invalid("metadata.finalizers", &object::meta(value)["finalizers"], why));
    }
    // The real server only warns for custom kinds.
    let own = kind.definition().is_some();
    for (place, finalizer) in finalizers.iter().enumerate().filter(|(_, one)| !own && !is_finalizer(one)) {
        let why = "name is neither a standard finalizer name nor is it fully qualified";
        faults.push(Fault::invalid(format!("metadata.finalizers[{place}]"), &(*finalizer).into(), why));
    }
    let owners = object::meta(value).get("ownerReferences").and_then(Value::as_array).into_iter().flatten();
    let mut controllers = 0;
    for owner in owners {
        for (field, why) in [
            ("apiVersion", "version must not be empty"),
            ("kind", "must not be empty"),
            ("name", "must not be empty"),
            ("uid", "must not be empty"),
        ] {
            let text = owner.get(field).and_then(Value::as_str).unwrap_or_default();
            if text.is_empty() {
                let at = format!("metadata.ownerReferences.{field}");
                faults.push(Fault::invalid(at, &"".into(), why));
            }
        }
        controllers += usize::from(owner.get("controller") == Some(&Value::Bool(true)));
    }
    if controllers > 1 {
        let why = "Only one reference can have Controller set to true. Found \"true\" in references";
        faults.push(Fault::invalid("metadata.ownerReferences", &object::meta(value)["ownerReferences"], why));
    }
    faults
}

/// The forbidden changes of metadata, among them new finalizers on an object that is being deleted.
pub fn metadata_changes(value: &Value, old: &Value) -> Vec<Fault> {
    let mut faults = Vec::new();
    if object::is_going(old) {
        let known: Vec<&str> = object::finalizers(old).collect();
        let new: Vec<&str> = object::finalizers(value).filter(|one| !known.contains(one)).collect();
        if !new.is_empty() {
            let why = format!(
                "no new finalizers can be added if the object is being deleted, found new finalizers {new:?}"
            );
            faults.push(Fault::forbidden("metadata.finalizers", &why));
        }
    }
    for field in ["uid", "deletionTimestamp", "deletionGracePeriodSeconds"] {
        let (is, was) = (object::meta(value).get(field), object::meta(old).get(field));
        if is != was {
            let shown = is.cloned().unwrap_or(Value::Null);
            faults.push(Fault::invalid(format!("metadata.{field}"), &shown, "field is immutable"));
        }
    }
    faults
}

fn is_name(name: &str, short: bool) -> bool {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let label = |label: &str| {
        label.starts_with(plain) && label.ends_with(plain) && label.chars().all(|c| plain(c) || c == '-')
    };
    if short { label(name) } else { name.split('.').all(label) }
}

fn is_label_value(text: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric();
    text.is_empty()
        || text.starts_with(plain)
            && text.ends_with(plain)
            && text.chars().all(|c| plain(c) || "-_.".contains(c))
}

fn is_finalizer(name: &str) -> bool {
    matches!(name, "orphan" | "foregroundDeletion" | "kubernetes")
        || name.contains('/')
        || matches!(name, "customresourcecleanup.apiextensions.k8s.io")
}
