//! Which agent holds a role, and whose turn it is on a rig.
//!
//! Invariant kept here: among the agents of one town all come to the same result, whoever is asked first: one
//! mayor a town, one refinery a rig, and no more polecats at work on a rig than it takes.

use std::sync::Arc;

use k8s_openapi::jiff::Timestamp;

use super::activity::{has_failed, unfinished};
use super::facts::{Standing, TownFacts};
use super::tombstone;
use crate::api::{Agent, Role};

/// Whether the agent's role and rig have room for it among the agents bound to its town.
pub fn standing(agent: &Agent, town: &TownFacts, peers: &[Arc<Agent>]) -> Standing {
    match agent.spec.role {
        Role::Mayor => holder(agent, peers, |_| true),
        Role::Refinery => holder(agent, peers, |peer| peer.spec.rig == agent.spec.rig),
        Role::Polecat => turn(agent, town, peers),
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

/// Polecats with an unfinished bead work, so many a rig at once: those at it go on, then the oldest. Those that
/// have failed do not count, and come last with their next attempt.
fn turn(agent: &Agent, town: &TownFacts, peers: &[Arc<Agent>]) -> Standing {
    let rig = agent.spec.rig.as_deref();
    let Some(limit) = town.rigs.iter().find(|r| Some(r.name.as_str()) == rig).map(|r| r.max_polecats) else {
        return Standing::Free;
    };
    if unfinished(agent).is_none() {
        return Standing::Free;
    }
    let own = rank(agent);
    let before = peers
        .iter()
        .map(Arc::as_ref)
        .filter(|peer| peer.metadata.uid != agent.metadata.uid)
        .filter(|peer| peer.spec.role == Role::Polecat && peer.spec.rig == agent.spec.rig)
        .filter(|peer| counts(peer) && unfinished(peer).is_some())
        .filter(|peer| peer.metadata.deletion_timestamp.is_none() || at_it(peer))
        .filter(|peer| !failed(peer) || at_it(peer))
        .filter(|peer| rank(peer) < own)
        .count();
    let room = usize::try_from(limit).unwrap_or(0);
    if before < room { Standing::Free } else { Standing::RigFull { position: before - room + 1, limit } }
}

/// Those at it come first, those that have failed last.
fn rank(agent: &Agent) -> (bool, bool, (Option<Timestamp>, Option<&str>)) {
    (!at_it(agent), failed(agent), age(agent))
}

/// One that is never run holds nothing; one that is being deleted holds what it had until it is gone.
fn counts(peer: &Agent) -> bool {
    tombstone(&peer.metadata).is_none() || peer.metadata.deletion_timestamp.is_some()
}

fn was_started(agent: &Agent) -> bool {
    let pod = agent.status.as_ref().and_then(|s| s.pod.as_ref());
    pod.is_some_and(|p| p.started_at.is_some())
}

/// Whether an attempt is on record that has not ended.
fn at_it(agent: &Agent) -> bool {
    let work = agent.status.as_ref().and_then(|s| s.work.as_ref());
    work.is_some_and(|w| w.started_at.is_some() && w.finished_at.is_none())
}

fn failed(agent: &Agent) -> bool {
    agent.spec.hook.as_ref().is_some_and(|hook| has_failed(agent, &hook.bead))
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
