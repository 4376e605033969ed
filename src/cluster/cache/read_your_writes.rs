//! Waits for the own writes.
//!
//! A decision must not use a view that is older than the last write of this process for that object. Otherwise the
//! operator could make the same decision twice. The operator remembers each write by its revision. The next reconcile
//! of that object waits until the watches have reached this revision. (The idea comes from KEP-5647. Revisions of one
//! kind can be compared as integers, KEP-5504.)

use std::collections::HashMap;
use std::sync::Mutex;

use crate::cluster::kinds::known::Kind;
use crate::cluster::sync::lock;
use crate::lifecycle::Uid;

/// The last written revision of each kind, by the object whose reconcile wrote it.
#[derive(Default)]
pub(crate) struct OwnWrites(Mutex<HashMap<Uid, HashMap<Kind, u64>>>);

impl OwnWrites {
    /// Remembers a write.
    pub(crate) fn wrote(&self, by: &Uid, kind: Kind, resource_version: Option<&str>) {
        if let Some(revision) = resource_version.and_then(|rv| rv.parse().ok()) {
            let mut all = lock(&self.0);
            let last = all.entry(by.clone()).or_default().entry(kind).or_default();
            *last = (*last).max(revision);
        }
    }

    pub(crate) fn forget(&self, uid: &Uid) {
        lock(&self.0).remove(uid);
    }

    pub(crate) fn take(&self, uid: &Uid) -> HashMap<Kind, u64> {
        lock(&self.0).remove(uid).unwrap_or_default()
    }
}
