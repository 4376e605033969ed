//! The objects that the watches show, of all kinds.

use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::api::{Agent, Town};
use crate::cluster::cache::index::Index;
use crate::cluster::cache::read_your_writes::OwnWrites;
use crate::cluster::kinds::known::{Kind, Known};
use crate::lifecycle::{ClaimFacts, PodFacts, ServiceFacts, TombstoneFacts, Uid};

/// The timeout of the wait for a watch. After it the operator uses the view as it is: names still protect creates,
/// UIDs protect deletes, and the resource version protects the status.
const PATIENCE: Duration = Duration::from_secs(5);

/// The indexes of the watches, and the writes of this process that they must show.
#[derive(Default)]
pub struct Caches {
    /// Towns, as watched.
    pub towns: Index<Town>,
    /// Agents, as watched.
    pub agents: Index<Agent>,
    /// Pods of this installation, as watched.
    pub pods: Index<PodFacts>,
    /// Volume claims of this installation, as watched.
    pub claims: Index<ClaimFacts>,
    /// Services of this installation, as watched.
    pub services: Index<ServiceFacts>,
    /// Records of destructions by this installation, as watched.
    pub tombstones: Index<TombstoneFacts>,
    pub(crate) own_writes: OwnWrites,
}

impl Caches {
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
