//! The UIDs of the namespaces of objects.
//!
//! Invariant kept here: an unreadable namespace neither matches a record nor differs from it. The read fails, and the
//! operator decides nothing.

use std::collections::HashMap;
use std::sync::Mutex;

use k8s_openapi::api::core::v1::Namespace;
use kube::Client;

use crate::cluster::error::Error;
use crate::cluster::read::objects::get_global;
use crate::cluster::sync::lock;
use crate::lifecycle::{NamespaceFacts, Uid};

/// The kind.
pub(crate) const KIND: &str = "Namespace";

/// The UIDs of namespaces, by the UIDs of objects in them. The namespace of an object stays the same while the object
/// exists, because a namespace is deleted after all its objects. The map contains only objects to which a record of a
/// destruction may apply.
#[derive(Default)]
pub(crate) struct Namespaces(Mutex<HashMap<Uid, Uid>>);

impl Namespaces {
    /// The namespace of this object, if it was read before.
    pub(crate) fn known(&self, object: &Uid) -> Option<Uid> {
        lock(&self.0).get(object).cloned()
    }

    /// The UID of the namespace of an object that a watch has shown.
    pub(crate) async fn of(&self, client: &Client, object: &Uid, name: &str) -> Result<Uid, Error> {
        if let Some(known) = self.known(object) {
            return Ok(known);
        }
        let absent = || Error::Unread { kind: KIND, message: format!("namespace {name} does not exist") };
        let namespace = read(client, name).await?.ok_or_else(absent)?;
        lock(&self.0).insert(object.clone(), namespace.uid.clone());
        Ok(namespace.uid)
    }

    pub(crate) fn forget(&self, object: &Uid) {
        lock(&self.0).remove(object);
    }
}

/// The namespace of this name; `None`: the API server answers that there is none.
pub(crate) async fn read(client: &Client, name: &str) -> Result<Option<NamespaceFacts>, Error> {
    let Some(found) = get_global::<Namespace>(client, name).await? else { return Ok(None) };
    let unnamed = || Error::Unread { kind: KIND, message: format!("namespace {name} has no UID") };
    let uid = Uid::of(&found.metadata).ok_or_else(unnamed)?;
    Ok(Some(NamespaceFacts { uid, terminating: found.metadata.deletion_timestamp.is_some() }))
}
