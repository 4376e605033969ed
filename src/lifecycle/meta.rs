//! The metadata of an object: labels, annotations and finalizers of ours.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::api::names;

/// An annotation of the object.
pub fn annotation<'a>(meta: &'a ObjectMeta, key: &str) -> Option<&'a str> {
    meta.annotations.as_ref()?.get(key).map(String::as_str)
}

/// The tombstone annotation of an object, with any content.
pub fn tombstone(meta: &ObjectMeta) -> Option<&str> {
    annotation(meta, names::TOMBSTONE)
}

/// Whether the object carries a tombstone that names its own UID.
pub fn has_own_tombstone(meta: &ObjectMeta) -> bool {
    match (tombstone(meta), meta.uid.as_deref()) {
        (Some(value), Some(uid)) => value.split_once('@').is_some_and(|(named, _)| named == uid),
        _ => false,
    }
}

/// Whether a user has paused the reconciles of the object. Deletion continues.
pub(crate) fn is_paused(meta: &ObjectMeta) -> bool {
    annotation(meta, names::PAUSED) == Some("true")
}

/// A label of the object.
pub fn label<'a>(meta: &'a ObjectMeta, key: &str) -> Option<&'a str> {
    meta.labels.as_ref()?.get(key).map(String::as_str)
}

/// Whether the Town or Agent carries our finalizer, under its current name or under the name of an older version.
pub fn is_held(meta: &ObjectMeta) -> bool {
    meta.finalizers.iter().flatten().any(|name| names::is_finalizer(name))
}

/// Whether the object carries the finalizer.
pub fn has_finalizer(meta: &ObjectMeta, finalizer: &str) -> bool {
    meta.finalizers.as_ref().is_some_and(|all| all.iter().any(|f| f == finalizer))
}
