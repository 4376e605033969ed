//! Which agent holds a role, and whose turn it is on a rig.
//!
//! Invariant kept here: among the agents of one town all come to the same result, whoever is asked first: one
//! mayor a town, one refinery a rig, and no more polecats at work on a rig than it takes.

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

/// Polecats with an unfinished bead work, so many a rig at once: those at it go on, then the oldest; last, with
/// their next attempt, those that have failed.
fn turn(agent: &Agent, limit: i32, peers: &[Arc<Agent>]) -> Standing {
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
        .filter(|peer| rank(peer) < own)
        .count();
    let room = usize::try_from(limit).unwrap_or(0);
    if before < room { Standing::Free } else { Standing::RigFull { position: before - room + 1, limit } }
}

/// Whether an agent of the town that says that it waits for a place on its rig has room now: it takes that with its
/// next look. Who is paused takes none.
pub(super) fn takes_place(s: &TownSnapshot, agent: &Agent) -> bool {
    let conditions = agent.status.as_ref().map_or(&[][..], |status| status.conditions.as_slice());
    let rig = s.town.spec.rigs.iter().find(|rig| agent.spec.rig.as_ref() == Some(&rig.name));
    gives(conditions, condition::READY, reason::RIG_FULL)
        && !is_paused(&agent.metadata)
        && rig.is_some_and(|rig| turn(agent, rig.max_polecats(), &s.agents) == Standing::Free)
}

/// Those at it come first; those that have failed last, in the order of their next attempts: so whoever's time has
/// come waits for nobody whose time has not.
fn rank(agent: &Agent) -> (bool, Option<Timestamp>, (Option<Timestamp>, Option<&str>)) {
    (!at_it(agent), task::tried_again_at(agent), age(agent))
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
