//! Children that carry the UID of an owner in another namespace.

use crate::cluster::watch::watched::Followed;

use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod, Service};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::api::condition::reason;
use crate::api::{Agent, names};
use crate::cluster::context::Cluster;

/// Reports an object that carries the UID of a town or agent in another namespace. The object has no owner here: the
/// operator reads nothing from it, and neither changes nor deletes it.
pub(crate) fn report_if_misplaced<K: Followed>(cluster: &Cluster, kept: &K::Kept) {
    let Some(child) = K::child(kept).filter(|child| child.is_misplaced(&cluster.caches)) else { return };
    let meta = ObjectMeta {
        namespace: Some(child.key.namespace.clone()),
        name: Some(child.key.name.clone()),
        uid: Some(child.uid.to_string()),
        ..ObjectMeta::default()
    };
    let note = format!(
        "this {} carries the label {} or {} of an object in another namespace: it belongs to no town, and the operator \
         ignores it. Delete it, or remove its labels of gastown.dev.",
        K::kind(&()),
        names::TOWN_UID,
        names::AGENT_UID
    );
    cluster.reports.add::<K>(&meta, reason::OWNER_ELSEWHERE, &note, cluster.now());
}

/// Reports every object that carries the UID of a town or agent in another namespace.
pub(crate) fn report_misplaced(cluster: &Cluster) {
    fn all<K: Followed>(cluster: &Cluster) {
        K::index(&cluster.caches).all().iter().for_each(|kept| report_if_misplaced::<K>(cluster, kept));
    }
    all::<Pod>(cluster);
    all::<PersistentVolumeClaim>(cluster);
    all::<Service>(cluster);
    all::<Agent>(cluster);
}
