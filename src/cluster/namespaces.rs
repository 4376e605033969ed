//! The UIDs of the namespaces in which objects live.
//!
//! Invariant kept here: a namespace that cannot be read is neither that of a record nor another one. It is an error,
//! and nothing is decided.

use std::collections::HashMap;
use std::sync::Mutex;

use k8s_openapi::api::core::v1::Namespace;

use super::error::Error;
use super::read::get_global;
use super::{Cluster, lock};
use crate::lifecycle::{NamespaceFacts, Uid};

/// The kind.
pub(super) const KIND: &str = "Namespace";

/// The UIDs of namespaces, by the UIDs of objects in them. As long as an object lives, its namespace is the same one:
/// a namespace goes after everything in it. Only objects that a record of destruction may concern are here.
#[derive(Default)]
pub(super) struct Namespaces(Mutex<HashMap<Uid, Uid>>);

impl Namespaces {
    /// The namespace of this object, if it was read before.
    pub(super) fn known(&self, object: &Uid) -> Option<Uid> {
        lock(&self.0).get(object).cloned()
    }

    pub(super) fn forget(&self, object: &Uid) {
        lock(&self.0).remove(object);
    }
}

/// The namespace of this name; `None`: the API server says that there is none.
pub(super) async fn read(cluster: &Cluster, name: &str) -> Result<Option<NamespaceFacts>, Error> {
    let Some(found) = get_global::<Namespace>(cluster, name).await? else { return Ok(None) };
    let unnamed = || Error::Unread { kind: KIND, message: format!("namespace {name} has no UID") };
    let uid = Uid::of(&found.metadata).ok_or_else(unnamed)?;
    Ok(Some(NamespaceFacts { uid, terminating: found.metadata.deletion_timestamp.is_some() }))
}

/// The UID of the namespace in which an object that a watch has shown lives.
pub(super) async fn of(cluster: &Cluster, object: &Uid, name: &str) -> Result<Uid, Error> {
    if let Some(known) = cluster.namespaces.known(object) {
        return Ok(known);
    }
    let absent = || Error::Unread { kind: KIND, message: format!("namespace {name} does not exist") };
    let namespace = read(cluster, name).await?.ok_or_else(absent)?;
    lock(&cluster.namespaces.0).insert(object.clone(), namespace.uid.clone());
    Ok(namespace.uid)
}
