//! The agents that began, as far as the watch may not show it yet.
//!
//! Roles and rigs limit the number of agents that run. Agents reconcile at the same time, and each reconcile reads its
//! peers from the watch. Invariant kept here: an agent takes a place before the write that begins it, so that another
//! agent counts this place although no watch shows it yet. After a write without an answer the agent keeps the place
//! until the write can no longer take effect.

use std::collections::HashMap;
use std::sync::Mutex;

use k8s_openapi::jiff::Timestamp;

use crate::cluster::sync::lock;
use crate::lifecycle::{Begun as Agents, Guard, Standing, Uid};

/// The place of an agent after it was given back.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// The agent keeps the place until this time.
    Kept(Timestamp),
    /// The agent kept the place for a write without an answer until now.
    GivenBackLate,
    /// The agent has no place.
    Free,
}

/// The agents that took a place.
#[derive(Default)]
pub(crate) struct Begun(Mutex<HashMap<Uid, Taken>>);

/// A place that an agent took.
struct Taken {
    /// The town of the agent.
    town: Uid,
    /// The end of the effect of a write without an answer.
    until: Option<Timestamp>,
}

impl Begun {
    /// Decides about a place for the agent, with the agents of the town that took one. The answer `Free` takes it. No
    /// other agent takes a place meanwhile.
    pub(crate) fn take(
        &self,
        town: &Uid,
        agent: &Uid,
        standing: impl FnOnce(Agents) -> Standing,
    ) -> Standing {
        let mut places = lock(&self.0);
        let begun = places.iter().filter(|(_, place)| place.town == *town).map(|(agent, _)| agent.clone());
        let standing = standing(begun.collect());
        if standing == Standing::Free && Guard::OwnBegins.holds() {
            let taken = places.entry(agent.clone());
            taken.or_insert_with(|| Taken { town: town.clone(), until: None });
        }
        standing
    }

    /// Keeps the place of an agent at least until this time, because a write that begins the agent has no answer.
    pub(crate) fn keep_until(&self, agent: &Uid, at: Timestamp) {
        if let Some(place) = lock(&self.0).get_mut(agent) {
            place.until = place.until.max(Some(at));
        }
    }

    /// Gives back the place of an agent that does not begin.
    pub(crate) fn give_back(&self, agent: &Uid, now: Timestamp) -> Place {
        let mut places = lock(&self.0);
        let until = places.get(agent).and_then(|place| place.until);
        match until {
            Some(until) if now < until => return Place::Kept(until),
            _ => places.remove(agent),
        };
        if until.is_some() { Place::GivenBackLate } else { Place::Free }
    }

    /// Forgets a town, or the place of an agent.
    pub(crate) fn forget(&self, uid: &Uid) {
        lock(&self.0).retain(|agent, place| agent != uid && place.town != *uid);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn uid(name: &str) -> Uid {
        Uid::new(name)
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    /// Lets an agent begin if no other agent of the town began.
    fn take(begun: &Begun, town: &str, agent: &str) -> bool {
        let alone = |others: Agents| match others.iter().find(|other| **other != uid(agent)) {
            Some(other) => Standing::RoleTaken { holder: other.as_str().into() },
            None => Standing::Free,
        };
        begun.take(&uid(town), &uid(agent), alone) == Standing::Free
    }

    #[test]
    fn agent_takes_the_place_after_its_holder_releases_it() {
        let begun = Begun::default();
        assert!(take(&begun, "town", "first"));
        assert!(take(&begun, "town", "first"), "the holder keeps its place");
        assert!(!take(&begun, "town", "second"));
        assert!(take(&begun, "another town", "second"));
        assert_eq!(begun.give_back(&uid("first"), at(0)), Place::Free);
        assert!(take(&begun, "town", "second"));
        begun.forget(&uid("town"));
        assert!(take(&begun, "town", "third"), "the town is gone");
        for name in ["second", "third"] {
            begun.forget(&uid(name));
        }
        assert!(lock(&begun.0).is_empty(), "no entry stays in memory");
    }

    #[test]
    fn agent_keeps_its_place_until_a_write_without_an_answer_has_no_effect() {
        let begun = Begun::default();
        assert!(take(&begun, "town", "first"));
        begun.keep_until(&uid("first"), at(60));
        begun.keep_until(&uid("first"), at(50));
        begun.keep_until(&uid("second"), at(99));
        assert_eq!(begun.give_back(&uid("first"), at(59)), Place::Kept(at(60)));
        assert!(!take(&begun, "town", "second"));
        assert_eq!(begun.give_back(&uid("first"), at(60)), Place::GivenBackLate);
        assert_eq!(begun.give_back(&uid("first"), at(60)), Place::Free);
        assert!(take(&begun, "town", "second"));
    }
}
