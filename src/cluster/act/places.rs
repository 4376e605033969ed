//! The places of roles and rigs: taken before the write that begins an agent, and given back.

use k8s_openapi::jiff::Timestamp;

use crate::cluster::cache::children::bound_agents;
use crate::cluster::cache::index::Group;
use crate::cluster::context::Cluster;
use crate::cluster::scheduling::begun::Place;
use crate::cluster::watch::affected::waiting_peers;
use crate::lifecycle::{AgentSnapshot, OwnerId, OwnerRef, Standing, TownView, standing, town_key};

/// Whether an agent may begin now. The answer counts the peers with a pod, and the peers that this process let begin and
/// that the watch does not show yet. Therefore two reconciles at the same time cannot both take the last place of a rig
/// or of a role. An answer `Free` takes the place until [`give_back_place`].
pub fn take_place(cluster: &Cluster, s: &AgentSnapshot) -> Standing {
    let TownView::Present(_, facts) = &s.town else { return Standing::Free };
    let town = OwnerRef { key: town_key(&s.agent), uid: facts.uid.clone() };
    let peers = bound_agents(&cluster.caches, &cluster.install, &town);
    cluster.begun.take(&town.uid, &s.uid, |mut begun| {
        let pods = cluster.caches.pods.of(&Group::Town(OwnerId::new(&town.key.namespace, &town.uid)));
        begun.extend(pods.iter().filter(|pod| !pod.ended()).filter_map(|pod| pod.agent_uid.clone()));
        standing(&s.agent, facts, &peers, &begun)
    })
}

/// Keeps the place of an agent whose begin has no answer: the write may still take effect.
pub fn keep_place(cluster: &Cluster, s: &AgentSnapshot, now: Timestamp) {
    let until = now.checked_add(cluster.limits.late_create).unwrap_or(Timestamp::MAX);
    cluster.begun.keep_until(&s.uid, until);
}

/// Gives back the place of an agent: the watch shows that the agent began, or the agent does not begin. The result is
/// the time until which the agent keeps the place, because a write without an answer may still take effect. After that
/// time the agent must be reconciled, and its peers that wait for the place are enqueued.
pub fn give_back_place(cluster: &Cluster, s: &AgentSnapshot, now: Timestamp) -> Option<Timestamp> {
    match cluster.begun.give_back(&s.uid, now) {
        Place::Kept(until) => Some(until),
        Place::GivenBackLate => {
            for peer in waiting_peers(&cluster.caches, &s.agent) {
                cluster.looks.ask(peer);
            }
            None
        }
        Place::Free => None,
    }
}
