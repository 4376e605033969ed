//! The holder of a role, and the order of polecats on a rig: all agents of a town compute the same result.

use std::sync::Arc;

use super::build::{AgentBuilder, Read, TownBuilder, mayor, minute, polecat, running_town, second, town};
use crate::api::condition::{ACTIVE, READY, RECONCILING, STALLED, reason};
use crate::api::{Agent, Outcome, Role};
use crate::lifecycle::Standing::{Free, RigFull, RoleTaken};
use crate::lifecycle::{Begun, Standing, standing};

fn a(role: Role, name: &str) -> AgentBuilder {
    polecat(name).edit(|agent| agent.spec.role = role)
}

fn at(agent: AgentBuilder, minutes: i64) -> AgentBuilder {
    agent.created(minute(minutes))
}

fn on(agent: AgentBuilder, rig: &str) -> AgentBuilder {
    agent.edit(|a| a.spec.rig = Some(rig.into()))
}

fn with_uid(agent: AgentBuilder, uid: &str) -> AgentBuilder {
    agent.edit(|a| a.metadata.uid = Some(uid.into()))
}

/// The standing of each agent, in the given order. The order of the peer list has no influence.
fn stand(town: &TownBuilder, agents: &[AgentBuilder]) -> Vec<Standing> {
    let mut peers: Vec<Arc<Agent>> = agents.iter().map(|a| a.0.agent.clone()).collect();
    let facts = town.facts();
    let first: Vec<_> = agents.iter().map(|a| standing(&a.0.agent, &facts, &peers, &Begun::new())).collect();
    peers.reverse();
    let second: Vec<_> = agents.iter().map(|a| standing(&a.0.agent, &facts, &peers, &Begun::new())).collect();
    assert_eq!(first, second, "the order of the list does not matter");
    first
}

fn taken(holder: &str) -> Standing {
    RoleTaken { holder: holder.into() }
}

/// A rig with this limit of polecats.
fn narrow(limit: i32) -> TownBuilder {
    running_town().edit(|t| t.spec.rigs[0].max_polecats = Some(limit))
}

fn waits(position: usize, limit: i32) -> Standing {
    RigFull { position, limit }
}

#[test]
fn mayor_role_goes_to_the_oldest_agent_and_then_to_the_lower_uid() {
    let (old, young) = (at(a(Role::Mayor, "old"), 1), at(a(Role::Mayor, "young"), 2));
    assert_eq!(stand(&running_town(), &[old.clone(), young]), [Free, taken("old")]);
    let twins = [with_uid(old.clone(), "b"), with_uid(at(a(Role::Mayor, "twin"), 1), "a")];
    assert_eq!(stand(&running_town(), &twins), [taken("twin"), Free]);
    let elsewhere = on(at(a(Role::Mayor, "elsewhere"), 2), "other");
    assert_eq!(stand(&running_town(), &[old, elsewhere]), [Free, taken("old")], "whatever the rig");
}

#[test]
fn started_mayor_keeps_its_role_when_an_older_agent_appears() {
    let (old, young) = (at(a(Role::Mayor, "old"), 1), at(a(Role::Mayor, "young"), 2));
    assert_eq!(stand(&running_town(), &[old.clone(), young.clone().started()]), [taken("young"), Free]);
    let both = [old.clone().started(), young.clone().started()];
    assert_eq!(stand(&running_town(), &both), [Free, taken("old")], "of two the older");
    // The agent was started once, and keeps its role during sleep or after a stop.
    let stopped = young.recorded_pod(minute(3));
    assert_eq!(stand(&running_town(), &[old, stopped]), [taken("young"), Free]);
}

#[test]
fn refinery_role_is_given_once_for_each_rig() {
    let here = at(a(Role::Refinery, "here"), 1);
    let there = on(at(a(Role::Refinery, "there"), 2), "other");
    let second = at(a(Role::Refinery, "second"), 3);
    assert_eq!(stand(&running_town(), &[here, there, second]), [Free, Free, taken("here")]);
}

#[test]
fn crew_agents_take_no_role_from_each_other() {
    let crew = [at(a(Role::Crew, "c1"), 1), at(a(Role::Crew, "c2"), 2), at(a(Role::Mayor, "m"), 3)];
    assert_eq!(stand(&running_town(), &crew), [Free, Free, Free]);
}

#[test]
fn role_is_free_only_after_its_holder_is_gone_or_tombstoned() {
    let (old, young) = (at(a(Role::Mayor, "old"), 1).started(), at(a(Role::Mayor, "young"), 2));
    let going = old.clone().deleting(minute(9));
    assert_eq!(
        stand(&running_town(), &[going, young.clone()]),
        [Free, taken("old")],
        "its pod may still run"
    );
    assert_eq!(stand(&running_town(), std::slice::from_ref(&young)), [Free]);
    let marked = old.tombstone("x");
    assert_eq!(stand(&running_town(), &[marked, young])[1], Free, "a tombstoned one runs nothing");
}

#[test]
fn agent_without_its_role_runs_nothing_and_names_the_holder() {
    let plan = mayor().standing(taken("old")).running().decide(minute(1));
    assert_eq!((plan.phase(), plan.reason(STALLED)), ("Blocked", reason::ROLE_TAKEN));
    assert_eq!(plan.does(), "delete pod mayor-pod");
    assert_eq!(
        plan.message(READY),
        "agent old is the Mayor of town gas, which can have only one; delete one of the two agents"
    );
    let refinery = a(Role::Refinery, "second").standing(taken("first")).decide(minute(1));
    assert!(
        refinery.message(READY).contains("Refinery of rig rig of town gas"),
        "{}",
        refinery.message(READY)
    );
    let waiting = mayor().standing(taken("old")).settled(minute(1));
    assert_eq!(waiting.decide(minute(9)).status, waiting.0.agent.status, "said once");
    let free = waiting.standing(Free).decide(minute(9));
    assert_eq!((free.does().as_str(), free.is(STALLED)), ("create pod", false));
}

#[test]
fn agent_without_its_role_is_no_work_and_wakes_no_town() {
    let blocked = mayor().standing(taken("old")).settled(minute(1));
    let plan = town().asleep(crate::api::AsleepReason::Idle).with(blocked).decide(minute(60));
    assert_eq!(plan.phase(), "Asleep");
}

#[test]
fn rig_admits_polecats_in_order_of_creation_up_to_its_limit() {
    let hooked = |name: &str, m| at(polecat(name).hook("b1"), m);
    let four = [hooked("p3", 3), hooked("p1", 1), hooked("p4", 4), hooked("p2", 2)];
    assert_eq!(stand(&narrow(2), &four), [waits(1, 2), Free, waits(2, 2), Free]);
    assert_eq!(stand(&narrow(0), &four[..2]), [waits(2, 0), waits(1, 0)]);
    let other_rig = on(hooked("p0", 0), "other");
    assert_eq!(stand(&narrow(1), &[other_rig, hooked("p1", 1)]), [Free, Free], "each rig for itself");
}

#[test]
fn working_polecat_keeps_its_place_when_an_older_one_waits() {
    let old = at(polecat("old").hook("b1"), 1);
    let young = at(polecat("young").hook("b1").attempt("b1", 1, minute(3)), 2);
    assert_eq!(stand(&narrow(1), &[old.clone(), young.clone()]), [waits(1, 1), Free]);
    let between_attempts = young.ended(Outcome::Failed, minute(4));
    assert_eq!(stand(&narrow(1), &[old, between_attempts]), [Free, waits(1, 1)]);
}

#[test]
fn polecat_takes_no_place_when_it_has_no_work_or_has_failed() {
    let waiting = at(polecat("waiting").hook("b1"), 9);
    for (case, other) in [
        ("no hook", at(polecat("p"), 1)),
        ("done", at(polecat("p").hook("b1").done(&["b1"]), 1)),
        ("failed", at(polecat("p").failed("b1", minute(2)), 1)),
        ("tombstoned", at(polecat("p").hook("b1").tombstone("x"), 1)),
        ("paused", at(polecat("p").hook("b1").paused(), 1)),
        ("being deleted, not at work", at(polecat("p").hook("b1").deleting(minute(3)), 1)),
        ("a refinery", at(a(Role::Refinery, "p").hook("b1"), 1)),
    ] {
        assert_eq!(stand(&narrow(1), &[other, waiting.clone()])[1], Free, "{case}");
    }
    let going = at(polecat("p").hook("b1").attempt("b1", 1, minute(2)).deleting(minute(3)), 1);
    assert_eq!(stand(&narrow(1), &[going, waiting])[1], waits(1, 1), "being deleted, its pod still there");
}

#[test]
fn failed_polecat_gets_its_next_attempt_when_there_is_room() {
    let failed = at(polecat("failed").failed("b1", minute(2)), 1);
    let hooked = at(polecat("p").hook("b1"), 9);
    assert_eq!(stand(&narrow(1), &[failed.clone(), hooked.clone()]), [waits(1, 1), Free]);
    assert_eq!(stand(&narrow(2), &[failed, hooked]), [Free, Free]);
}

#[test]
fn failed_polecats_retry_only_up_to_the_limit_of_the_rig() {
    let failed = |name: &str, born, m| at(polecat(name).failed("b1", minute(m)), born);
    // The agent that has waited longest for its next attempt is first, then the older one.
    let three = [failed("p3", 1, 4), failed("p2", 3, 2), failed("p1", 2, 2)];
    assert_eq!(stand(&narrow(1), &three), [waits(2, 1), waits(1, 1), Free]);
    assert_eq!(stand(&narrow(2), &three), [waits(1, 2), Free, Free]);
    let longer_window = failed("p0", 0, 1).retry(5, "1h");
    assert_eq!(stand(&narrow(1), &[longer_window, three[2].clone()]), [waits(1, 1), Free]);
    // An agent that waits for room is still failed, even if its status shows only the wait.
    let waiting = three[1].clone().standing(waits(1, 1)).settled(minute(60));
    assert_eq!(waiting.decide(minute(60)).reason(READY), reason::RIG_FULL);
    assert_eq!(stand(&narrow(1), &[three[2].clone(), waiting.clone()]), [Free, waits(1, 1)]);
    assert_eq!(stand(&narrow(1), &[at(polecat("p").hook("b1"), 9), waiting.clone()]), [Free, waits(1, 1)]);
    // An edit resets the failure.
    assert_eq!(stand(&narrow(1), &[three[2].clone(), waiting.edited()]), [waits(1, 1), Free]);
    // An agent in its next attempt continues before agents that have waited longer.
    let trying = failed("p4", 9, 9).attempt("b1", 6, minute(60));
    assert_eq!(stand(&narrow(1), &[three[2].clone(), trying]), [waits(1, 1), Free]);
}

#[test]
fn rig_place_is_free_when_its_holder_is_gone_or_done() {
    let first = at(polecat("first").hook("b1").attempt("b1", 1, minute(2)), 1);
    let next = at(polecat("next").hook("b1"), 2);
    assert_eq!(stand(&narrow(1), &[first.clone(), next.clone()])[1], waits(1, 1));
    let done = first.ended(Outcome::Done, minute(5)).done(&["b1"]);
    assert_eq!(stand(&narrow(1), &[done, next.clone()])[1], Free);
    assert_eq!(stand(&narrow(1), &[next])[0], Free);
}

#[test]
fn rig_with_500_polecats_admits_exactly_its_limit_and_numbers_the_others() {
    let agents: Vec<_> =
        (0..500).map(|i| with_uid(at(polecat("p").hook("b1"), i / 100), &format!("{i:03}"))).collect();
    let peers: Vec<Arc<Agent>> = agents.iter().rev().map(|a| a.0.agent.clone()).collect();
    let facts = narrow(8).facts();
    for (i, agent) in agents.iter().enumerate() {
        let expected = if i < 8 { Free } else { waits(i - 7, 8) };
        assert_eq!(standing(&agent.0.agent, &facts, &peers, &Begun::new()), expected, "{i}");
    }
}

/// The watch shows neither of two agents as begun. The agent that began first keeps its place.
#[test]
fn agent_takes_no_place_when_another_agent_began_in_this_process() {
    let older = |role| with_uid(at(a(role, "older").hook("b1"), 1), "a");
    let began = |role| with_uid(at(a(role, "began").hook("b1"), 2), "b");
    let facts = narrow(1).facts();
    for (role, refused) in [
        (Role::Polecat, waits(1, 1)),
        (Role::Mayor, taken("began")),
        (Role::Refinery, taken("began")),
        (Role::Crew, Free),
    ] {
        let peers: Vec<Arc<Agent>> = [older(role), began(role)].map(|agent| agent.0.agent.clone()).into();
        let started = Begun::from([crate::lifecycle::Uid::new("b")]);
        assert_eq!(standing(&peers[0], &facts, &peers, &started), refused, "{role:?}");
        assert_eq!(standing(&peers[1], &facts, &peers, &started), Free, "{role:?}: it keeps its place");
        assert_eq!(standing(&peers[0], &facts, &peers, &Begun::new()), Free, "{role:?}: it is the older one");
    }
}

#[test]
fn waiting_polecat_is_blocked_and_is_no_work_until_there_is_room() {
    let waiting = polecat("toast").hook("b1").standing(waits(3, 8));
    let plan = waiting.decide(minute(1));
    assert_eq!(
        (plan.phase(), plan.reason(RECONCILING), plan.does().as_str()),
        ("Blocked", reason::RIG_FULL, "")
    );
    assert_eq!(
        plan.message(READY),
        "rig rig runs at most 8 polecats at the same time (maxPolecats): number 3 of the agents that wait"
    );
    assert!(!plan.is(STALLED), "it ends by itself");
    let asleep =
        |limit| narrow(limit).asleep(crate::api::AsleepReason::Idle).with(waiting.clone().after(&plan));
    assert_eq!(asleep(0).decide(minute(60)).phase(), "Asleep");
    assert_eq!(asleep(1).decide(minute(60)).phase(), "Running", "until there is room for it");
}

#[test]
fn town_is_active_while_a_place_passes_to_the_next_polecat() {
    let done = at(polecat("first").hook("b1").done(&["b1"]), 1);
    let next = || at(polecat("next").hook("b1").standing(waits(1, 1)).settled(minute(1)), 2);
    let active = |agents: [AgentBuilder; 2]| {
        let [one, other] = agents;
        narrow(1).active().with(one).with(other).decide(minute(9)).is(ACTIVE)
    };
    assert!(active([done.clone(), next()]), "the next one is about to take it");
    assert!(!active([done.clone(), next().paused()]), "who is paused takes nothing");
    assert!(!active([done.clone(), next().deleting(minute(2))]), "nor who goes");
    let unable = at(polecat("first").hook("b1").stalled(), 1);
    assert!(!active([unable, next()]), "who comes first holds the place, though it cannot run");
    assert!(!narrow(0).with(done).with(next()).decide(minute(9)).is(ACTIVE), "there is no place");
}

#[test]
fn waiting_position_is_shown_in_coarse_steps() {
    for (position, text) in [
        (1, "number 1 of"),
        (10, "number 10 of"),
        (11, "among the next 20 of"),
        (20, "among the next 20 of"),
        (21, "among the next 50 of"),
        (50, "among the next 50 of"),
        (51, "among the next 200 of"),
        (200, "among the next 200 of"),
        (201, "far back of"),
    ] {
        let plan = polecat("toast").hook("b1").standing(waits(position, 8)).decide(minute(1));
        assert!(plan.message(READY).contains(text), "{position}: {}", plan.message(READY));
    }
    let far = polecat("toast").hook("b1").standing(waits(150, 8)).settled(minute(1));
    let moved = far.standing(waits(90, 8));
    assert_eq!(moved.decide(minute(2)).status, moved.0.agent.status, "moving on costs no write");
}

#[test]
fn working_polecat_continues_when_its_rig_becomes_full() {
    let at_work = polecat("toast").hook("b1").attempt("b1", 1, minute(0)).running().standing(waits(1, 0));
    let plan = at_work.decide(minute(1));
    assert_eq!((plan.phase(), plan.does().as_str()), ("Working", ""));
    let begun = polecat("toast").hook("b1").attempt("b1", 1, minute(0)).standing(waits(1, 0));
    assert_eq!(begun.decide(second(61)).does(), "create pod", "its attempt is on record: it has its place");
}

#[test]
fn polecat_of_an_unknown_rig_is_not_limited() {
    let agent = on(polecat("p").hook("b1"), "unknown");
    assert_eq!(standing(&agent.0.agent, &running_town().facts(), &[], &Begun::new()), Free);
}
