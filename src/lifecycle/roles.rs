//! The holder of each role, and the order of the polecats on a rig.
//!
//! Invariant kept here: the result is the same for every agent of a town, in any order of reconciles. A town has one
//! mayor, a rig has one refinery, and a rig never has more working polecats than its limit.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use k8s_openapi::jiff::Timestamp;

use super::agent_view::{open_attempt, unfinished};
use super::conditions::gives;
use super::facts::AgentSnapshot;
use super::facts::{Standing, TownFacts, TownSnapshot};
use super::ids::Uid;
use super::meta::{is_paused, tombstone};
use super::plan::{Action, Plan};
use super::retry::tried_again_at;
use crate::api::condition::{self, reason};
use crate::api::{Agent, AgentStatus, Role};

/// Agents that began, by a write of this process that the watch may not show yet.
pub type Begun = HashSet<Uid>;

/// Whether the agent's role and rig have room for it among the agents bound to its town. An agent in `begun` counts as
/// an agent with an open attempt and a pod.
pub fn standing(agent: &Agent, town: &TownFacts, peers: &[Arc<Agent>], begun: &Begun) -> Standing {
    match agent.spec.role {
        Role::Mayor => holder(agent, peers, begun, |_| true),
        Role::Refinery => holder(agent, peers, begun, |peer| peer.spec.rig == agent.spec.rig),
        Role::Polecat => {
            let rig = town.rigs.iter().find(|rig| agent.spec.rig.as_ref() == Some(&rig.name));
            rig.map_or(Standing::Free, |rig| turn(agent, rig.max_polecats, peers, begun))
        }
        Role::Crew => Standing::Free,
    }
}

/// The write of a plan that makes the agent count against the limit of its role or rig.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Begin {
    /// The status records the start of an attempt.
    Attempt,
    /// The plan creates the pod.
    Pod,
}

/// How the plan begins, for an agent whose role or rig limits the number of such agents.
pub fn begins(s: &AgentSnapshot, plan: &Plan<AgentStatus>) -> Option<Begin> {
    let is_open = |status: Option<&AgentStatus>| status.and_then(open_attempt).is_some();
    if s.agent.spec.role == Role::Crew {
        None
    } else if plan.actions.contains(&Action::CreatePod) {
        Some(Begin::Pod)
    } else {
        (is_open(plan.status.as_ref()) && !is_open(s.agent.status.as_ref())).then_some(Begin::Attempt)
    }
}

/// A single agent holds a role: the agent that was started, else the oldest agent.
fn holder(
    agent: &Agent,
    peers: &[Arc<Agent>],
    begun: &Begun,
    same_place: impl Fn(&Agent) -> bool,
) -> Standing {
    let contenders = peers
        .iter()
        .map(Arc::as_ref)
        .filter(|peer| peer.spec.role == agent.spec.role && same_place(peer))
        .filter(|peer| counts(peer));
    match contenders.min_by_key(|peer| (!(was_started(peer) || is_in(begun, peer)), age(peer))) {
        Some(holder) if holder.metadata.uid != agent.metadata.uid => {
            Standing::RoleTaken { holder: holder.metadata.name.clone().unwrap_or_default() }
        }
        _ => Standing::Free,
    }
}

/// Polecats with an unfinished bead work, at most `maxPolecats` of a rig at the same time. Polecats with an open
/// attempt come first, then the oldest, and last the failed ones in the order of their next attempts.
fn turn(agent: &Agent, limit: i32, peers: &[Arc<Agent>], begun: &Begun) -> Standing {
    if unfinished(agent).is_none() {
        return Standing::Free;
    }
    let own = rank(agent, begun);
    let before = peers
        .iter()
        .map(Arc::as_ref)
        .filter(|peer| peer.metadata.uid != agent.metadata.uid)
        .filter(|peer| peer.spec.rig == agent.spec.rig && contends(peer, begun))
        .filter(|peer| rank(peer, begun) < own)
        .count();
    let room = usize::try_from(limit).unwrap_or(0);
    if before < room { Standing::Free } else { Standing::RigFull { position: before - room + 1, limit } }
}

/// Whether the agent is part of the order of its rig. A paused agent takes no place.
fn contends(agent: &Agent, begun: &Begun) -> bool {
    agent.spec.role == Role::Polecat
        && counts(agent)
        && unfinished(agent).is_some()
        && (agent.metadata.deletion_timestamp.is_none() || at_it(agent, begun))
        && !is_paused(&agent.metadata)
}

/// The UIDs of the polecats of a town that have room on their rigs. The function orders each rig once.
pub(super) fn with_room(s: &TownSnapshot) -> HashSet<&str> {
    let mut rigs: HashMap<&str, Vec<_>> = HashMap::new();
    let begun = Begun::new();
    for agent in s.agents.iter().filter(|agent| contends(agent, &begun)) {
        if let Some(rig) = agent.spec.rig.as_deref() {
            rigs.entry(rig).or_default().push((rank(agent, &begun), agent));
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

/// Whether an agent that reports that it waits for its rig has room now. The agent starts at its next reconcile.
pub(super) fn takes_place(agent: &Agent, with_room: &HashSet<&str>) -> bool {
    let conditions = agent.status.as_ref().map_or(&[][..], |status| status.conditions.as_slice());
    gives(conditions, condition::READY, reason::RIG_FULL)
        && agent.metadata.uid.as_deref().is_some_and(|uid| with_room.contains(uid))
}

/// The rank of an agent in the order of its rig. An agent with an open attempt comes first. Failed agents come last,
/// in the order of their next attempts. An agent whose attempt is due therefore never waits for an agent whose attempt
/// is not.
fn rank<'a>(
    agent: &'a Agent,
    begun: &Begun,
) -> (bool, Option<Timestamp>, (Option<Timestamp>, Option<&'a str>)) {
    #[cfg(test)]
    RANKED.with(|ranked| ranked.set(ranked.get() + 1));
    (!at_it(agent, begun), tried_again_at(agent), age(agent))
}

fn is_in(begun: &Begun, agent: &Agent) -> bool {
    !begun.is_empty() && Uid::of(&agent.metadata).is_some_and(|uid| begun.contains(&uid))
}

/// An agent that never runs holds no role. An agent that is being deleted holds its role until it is gone.
fn counts(peer: &Agent) -> bool {
    tombstone(&peer.metadata).is_none() || peer.metadata.deletion_timestamp.is_some()
}

fn was_started(agent: &Agent) -> bool {
    let pod = agent.status.as_ref().and_then(|s| s.pod.as_ref());
    pod.is_some_and(|p| p.start_time.is_some())
}

/// Whether the agent has an attempt without an end.
fn at_it(agent: &Agent, begun: &Begun) -> bool {
    agent.status.as_ref().and_then(open_attempt).is_some() || is_in(begun, agent)
}

/// The older agent comes first. The UID decides between agents of the same second.
fn age(agent: &Agent) -> (Option<Timestamp>, Option<&str>) {
    (agent.metadata.creation_timestamp.as_ref().map(|t| t.0), agent.metadata.uid.as_deref())
}

/// The position in the queue as a text for users. The text is exact only for small positions, so that a long moving
/// queue costs few writes.
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
    /// The number of agents that this thread has ranked: the cost of the order of a rig.
    pub(super) static RANKED: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
}
