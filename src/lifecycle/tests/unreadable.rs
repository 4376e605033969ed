//! Objects whose spec cannot be decoded completely: they cost nothing, and they can be destroyed.

use super::build::{AgentBuilder, Read, TownBuilder, minute, polecat, running_town, town};
use crate::api::AsleepReason;
use crate::api::condition::{READY, RECONCILING, STALLED, reason};

fn unreadable(town: TownBuilder) -> TownBuilder {
    town.edit(|t| t.spec.unreadable = Some("a port is too large".into()))
}

fn unreadable_agent(agent: AgentBuilder) -> AgentBuilder {
    agent.edit(|a| a.spec.unreadable = Some("a port is too large".into()))
}

// security.md S11.
#[test]
fn town_falls_asleep_and_is_stalled_when_its_spec_cannot_be_read() {
    let plan = unreadable(running_town().backlog(1, 0, 0)).decide(minute(1));
    assert_eq!((plan.phase(), plan.does().as_str()), ("Draining", ""));
    assert_eq!((plan.is(STALLED), plan.reason(READY)), (true, reason::UNREADABLE));
    assert!(!plan.is(RECONCILING) && plan.message(STALLED).contains("a port is too large"));
    let drains = running_town().backlog(1, 0, 0).draining(AsleepReason::Suspended, minute(1));
    assert_eq!(unreadable(drains).decide(minute(2)).does(), "delete pod gas-pod");
    let sleeps = town().backlog(1, 0, 0).asleep(AsleepReason::Suspended);
    let plan = unreadable(sleeps.clone()).decide(minute(3));
    assert_eq!((plan.phase(), plan.does().as_str(), plan.look_again), ("Asleep", "", None));
    assert!(plan.is(STALLED));
    assert_ne!(sleeps.decide(minute(3)).phase(), "Asleep", "a corrected spec wakes it");
}

// security.md S11.
#[test]
fn agent_is_left_unchanged_when_its_spec_cannot_be_read() {
    let at_work = polecat("toast").hook("b1").attempt("b1", 1, minute(0)).running();
    for (case, agent) in [("at work", at_work), ("not started", polecat("toast").hook("b1"))] {
        let plan = unreadable_agent(agent).decide(minute(1));
        assert_eq!((plan.phase(), plan.does().as_str()), ("Blocked", ""), "{case}");
        assert_eq!((plan.is(STALLED), plan.reason(READY)), (true, reason::UNREADABLE), "{case}");
    }
}

#[test]
fn agent_is_not_deleted_for_its_rig_when_the_spec_of_its_town_cannot_be_read() {
    let bare = running_town().rigs(&[]);
    let toast = polecat("toast").status(|s| s.rig = Some("rig".into()));
    assert_eq!(toast.clone().of_live(&bare).decide(minute(1)).does(), "delete agent toast");
    assert_ne!(toast.of_live(&unreadable(bare)).decide(minute(1)).does(), "delete agent toast");
}

// security.md S11.
#[test]
fn agent_is_destroyed_by_the_same_steps_when_its_spec_cannot_be_read() {
    let going = |agent: AgentBuilder| agent.deleting(minute(0)).remains(|_| ()).decide(minute(1)).does();
    assert_eq!(going(unreadable_agent(polecat("toast"))), going(polecat("toast")));
    assert!(!going(polecat("toast")).is_empty());
}
