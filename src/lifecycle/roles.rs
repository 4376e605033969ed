//! Which agent holds a role, and whose turn it is on a rig.
//!
//! Invariant kept here: among the agents of one town all come to the same result, whoever is asked first: one
//! mayor a town, one refinery a rig, and no more polecats at work on a rig than it takes.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use k8s_openapi::jiff::Timestamp;

use super::activity::unfinished;
use super::conditions::gives;
use super::facts::{Standing, TownFacts, TownSnapshot};
use super::{is_paused, task, tombstone};
use crate::api::condition::{self, reason};
use crate::api::{Agent, Role};

/// Whether the agent's role and rig have room for it among the agents bound to its town.
pub fn standing(agent: &Agent, town: &TownFacts, peers: &[Arc<Agent>]) -> Standing {
    match agent.spec.role {
        Role::Mayor => holder(agent, peers, |_| true),
        Role::Refinery => holder(agent, peers, |peer| peer.spec.rig == agent.spec.rig),
        Role::Polecat => {
            let rig = town.rigs.iter().find(|rig| agent.spec.rig.as_ref() == Some(&rig.name));
            rig.map_or(Standing::Free, |rig| turn(agent, rig.max_polecats, peers))
        }
        Role::Crew => Standing::Free,
    }
}

/// One agent holds a role: whoever has been started, else the oldest.
fn holder(agent: &Agent, peers: &[Arc<Agent>], same_place: impl Fn(&Agent) -> bool) -> Standing {
    let contenders = peers
        .iter()
        .map(Arc::as_ref)
        .filter(|peer| peer.spec.role == agent.spec.role && same_place(peer))
        .filter(|peer| counts(peer));
    match contenders.min_by_key(|peer| (!was_started(peer), age(peer))) {
        Some(holder) if holder.metadata.uid != agent.metadata.uid => {
            Standing::RoleTaken { holder: holder.metadata.name.clone().unwrap_or_default() }
        }
        _ => Standing::Free,
    }
}

/// Polecats with an unfinished bead work, `maxPolecats` of a rig at once: first those whose attempt is under way, then
/// the oldest, and last, in the order of their next attempts, those that have failed.
fn turn(agent: &Agent, limit: i32, peers: &[Arc<Agent>]) -> Standing {
    if unfinished(agent).is_none() {
        return Standing::Free;
    }
    let own = rank(agent);
    let before = peers
        .iter()
        .map(Arc::as_ref)
        .filter(|peer| peer.metadata.uid != agent.metadata.uid)
        .filter(|peer| peer.spec.rig == agent.spec.rig && contends(peer))
        .filter(|peer| rank(peer) < own)
        .count();
    let room = usize::try_from(limit).unwrap_or(0);
    if before < room { Standing::Free } else { Standing::RigFull { position: before - room + 1, limit } }
}

/// Whether the agent takes part in the order of its rig. A paused agent takes no place.
fn contends(agent: &Agent) -> bool {
    agent.spec.role == Role::Polecat
        && counts(agent)
        && unfinished(agent).is_some()
        && (agent.metadata.deletion_timestamp.is_none() || at_it(agent))
        && !is_paused(&agent.metadata)
}

/// The UIDs of the polecats of a town that have room on their rigs. Each rig is ordered once.
pub(super) fn with_room(s: &TownSnapshot) -> HashSet<&str> {
    let mut rigs: HashMap<&str, Vec<_>> = HashMap::new();
    for agent in s.agents.iter().filter(|agent| contends(agent)) {
        if let Some(rig) = agent.spec.rig.as_deref() {
            rigs.entry(rig).or_default().push((rank(agent), agent));
        }
    }
    let mut room = HashSet::new();
    for rig in &s.town.spec.rigs {
        let Some(mut queue) = rigs.remove(rig.name.as_str()) else { continue };
        let limit = usize::try_from(rig.max_polecats()).unwrap_or(0);
        if limit < queue.len() {
            if let Some(last) = limit.checked_sub(1) {
                queue.select_nth_unstable_by(last, |(one, _), (other, _)| one.cmp(other));
            }
            queue.truncate(limit);
        }
        room.extend(queue.into_iter().filter_map(|(_, agent)| agent.metadata.uid.as_deref()));
    }
    room
}

/// Whether an agent that says that it waits for a place on its rig has room now: it takes the place at its next
/// reconcile.
pub(super) fn takes_place(agent: &Agent, with_room: &HashSet<&str>) -> bool {
    let conditions = agent.status.as_ref().map_or(&[][..], |status| status.conditions.as_slice());
    gives(conditions, condition::READY, reason::RIG_FULL)
        && agent.metadata.uid.as_deref().is_some_and(|uid| with_room.contains(uid))
}

/// Those at it come first; those that have failed last, in the order of their next attempts: so whoever's time has
/// come waits for nobody whose time has not.
fn rank(agent: &Agent) -> (bool, Option<Timestamp>, (Option<Timestamp>, Option<&str>)) {
    #[cfg(test)]
    RANKED.with(|ranked| ranked.set(ranked.get() + 1));
    (!at_it(agent), task::tried_again_at(agent), age(agent))
}

/// One that is never run holds nothing; one that is being deleted holds what it had until it is gone.
fn counts(peer: &Agent) -> bool {
    tombstone(&peer.metadata).is_none() || peer.metadata.deletion_timestamp.is_some()
}

fn was_started(agent: &Agent) -> bool {
    let pod = agent.status.as_ref().and_then(|s| s.pod.as_ref());
    pod.is_some_and(|p| p.start_time.is_some())
}

/// Whether an attempt is on record that has not ended.
fn at_it(agent: &Agent) -> bool {
    let work = agent.status.as_ref().and_then(|s| s.work.as_ref());
    work.is_some_and(|w| w.start_time.is_some() && w.finish_time.is_none())
}

/// The older comes first; the UID decides among those of one second.
fn age(agent: &Agent) -> (Option<Timestamp>, Option<&str>) {
    (agent.metadata.creation_timestamp.as_ref().map(|t| t.0), agent.metadata.uid.as_deref())
}

/// A place among those who wait, for people: exact while it is small, so that a long queue that moves on costs
/// few writes.
pub(super) fn place(position: usize) -> String {
    match position {
        0..=10 => format!("number {position}"),
        11..=20 => "among the next 20".into(),
        21..=50 => "among the next 50".into(),
        51..=200 => "among the next 200".into(),
        _ => "far back".into(),
    }
}

#[cfg(test)]
thread_local! {
    /// How many agents this thread has ranked: what the order of a rig costs.
    pub(super) static RANKED: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
}
