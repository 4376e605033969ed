//! The begin of the work of a leader.

use crate::cluster::context::Cluster;
use crate::cluster::observe::town::watched_town;
use crate::cluster::watch::misplaced::report_misplaced;
use crate::lifecycle::{ObjectKey, Uid, starting};

/// Prepares the reconciles of a new leader: from now on only this process writes. Towns that are already starting
/// keep their turns. Call this function before the first observation of a town.
pub fn take_over(cluster: &Cluster) {
    let now = cluster.now();
    cluster.gates.alone_since(now);
    cluster.reports.begin();
    report_misplaced(cluster);
    for town in cluster.caches.towns.all() {
        let Some(uid) = Uid::of(&town.metadata) else { continue };
        let key = ObjectKey::of(&town.metadata);
        let snapshot = watched_town(cluster, town, uid);
        if let Some(created) = snapshot.pod().and_then(|pod| pod.created)
            && starting(&snapshot, now)
        {
            cluster.starts.resume(&snapshot.uid, &key, created, now);
        }
    }
}
