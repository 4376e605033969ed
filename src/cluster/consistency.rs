//! Reading one's own writes.
//!
//! A decision must not rest on a view older than this process's own last write for that object, or it
//! would be taken twice. Every write is remembered by the revision it got; the next reconcile of that
//! object waits until the watches have come that far. (The idea of KEP-5647; revisions of one kind can
//! be compared as integers, KEP-5504.)

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::kinds::Known;
use super::{Cluster, lock};
use crate::lifecycle::Uid;

/// Longest wait for a watch. After it the view is used as it is: creates are still safe by their names,
/// deletes by UID and status by revision.
const PATIENCE: Duration = Duration::from_secs(5);

/// The kinds that are watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Kind {
    Town,
    Agent,
    Pod,
    Claim,
    Service,
}

/// The last revision written of each kind, by the object whose reconcile wrote it.
#[derive(Default)]
pub(super) struct OwnWrites(Mutex<HashMap<Uid, HashMap<Kind, u64>>>);

impl OwnWrites {
    /// Remembers a write.
    pub(super) fn wrote(&self, by: &Uid, kind: Kind, resource_version: Option<&str>) {
        if let Some(revision) = resource_version.and_then(|rv| rv.parse().ok()) {
            let mut all = lock(&self.0);
            let last = all.entry(by.clone()).or_default().entry(kind).or_default();
            *last = (*last).max(revision);
        }
    }

    pub(super) fn forget(&self, uid: &Uid) {
        lock(&self.0).remove(uid);
    }

    fn take(&self, uid: &Uid) -> HashMap<Kind, u64> {
        lock(&self.0).remove(uid).unwrap_or_default()
    }
}

impl Cluster {
    /// Remembers what was written for an object, if its kind is watched.
    pub(super) fn wrote<K: Known>(&self, by: &Uid, written: &ObjectMeta) {
        if let Some(kind) = K::WATCHED {
            self.own_writes.wrote(by, kind, written.resource_version.as_deref());
        }
    }

    /// Waits until the watches show what this process wrote for the object.
    pub(super) async fn sees_own_writes(&self, uid: &Uid) {
        let pending = self.own_writes.take(uid);
        let all_seen = async {
            for (kind, revision) in &pending {
                match kind {
                    Kind::Town => self.towns.reaches(*revision).await,
                    Kind::Agent => self.agents.reaches(*revision).await,
                    Kind::Pod => self.pods.reaches(*revision).await,
                    Kind::Claim => self.claims.reaches(*revision).await,
                    Kind::Service => self.services.reaches(*revision).await,
                }
            }
        };
        if tokio::time::timeout(PATIENCE, all_seen).await.is_err() {
            tracing::warn!(%uid, ?pending, "the watches lag behind our own writes");
        }
    }
}
