//! Waits for the own writes.
//!
//! A decision must not use a view that is older than the last write of this process for that object. Otherwise the
//! operator could make the same decision twice. The operator remembers each write by its revision. The next reconcile
//! of that object waits until the watches have reached this revision. (The idea comes from KEP-5647. Revisions of one
//! kind can be compared as integers, KEP-5504.)

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::cluster::context::Cluster;
use crate::cluster::kinds::known::Kind;
use crate::cluster::kinds::known::Known;
use crate::cluster::sync::lock;
use crate::lifecycle::Uid;

/// The timeout of the wait for a watch. After it the operator uses the view as it is: names still protect creates,
/// UIDs protect deletes, and the resource version protects the status.
const PATIENCE: Duration = Duration::from_secs(5);

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

    fn take(&self, uid: &Uid) -> HashMap<Kind, u64> {
        lock(&self.0).remove(uid).unwrap_or_default()
    }
}

impl Cluster {
    /// Remembers a write for an object, if the kind has a watch.
    pub(crate) fn wrote<K: Known>(&self, by: &Uid, written: &ObjectMeta) {
        if let Some(kind) = K::WATCHED {
            self.own_writes.wrote(by, kind, written.resource_version.as_deref());
        }
    }

    /// Waits until the watches show the writes of this process for the object.
    pub(crate) async fn sees_own_writes(&self, uid: &Uid) {
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
            tracing::warn!(%uid, ?pending, "the watches lag behind the writes of the operator");
        }
    }
}
