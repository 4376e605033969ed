//! The cost of a decision grows at most linearly with the number of agents.

use super::build::{TownBuilder, minute, narrow_rig, polecat, set};
use crate::api::condition::{self, reason};
use crate::lifecycle::roles::RANKED;

/// A town with a full rig and this number of waiting polecats.
fn waiting(agents: usize) -> TownBuilder {
    (0..agents).fold(narrow_rig(0), |town, n| {
        let agent = polecat(&format!("polecat-{n}")).hook("b1");
        town.with(
            agent
                .created(minute(i64::try_from(n % 997).unwrap()))
                .edit(|a| a.metadata.uid = Some(format!("{n:032x}")))
                .status(|s| set(&mut s.conditions, condition::READY, false, reason::RIG_FULL)),
        )
    })
}

/// The number of agents that one decision ranks.
fn ranked(agents: usize) -> usize {
    let town = waiting(agents);
    RANKED.with(|ranked| ranked.set(0));
    assert_eq!(town.decide(minute(1000)).actions.len(), 0);
    RANKED.with(std::cell::Cell::get)
}

// Reviews code:A16 and sec:S4.
#[test]
fn decision_ranks_each_waiting_agent_a_bounded_number_of_times() {
    let (one, two) = (ranked(500), ranked(1000));
    assert!(one > 0 && two <= 2 * one, "500 agents: {one} ranks, 1,000 agents: {two}");
    assert!(two <= 10_000, "one order of the rig for each agent would take a million ranks: {two}");
}
