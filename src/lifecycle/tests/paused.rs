//! A paused town or agent: the operator does nothing except its deletion.

use super::build::{
    AgentBuilder, Read, TownBuilder, claim, mayor, minute, pod, polecat, running_town, set, town,
};
use crate::api::AsleepReason::{Idle, Suspended};
use crate::api::ExpiryPolicy::Destroy;
use crate::api::condition::{READY, RECONCILING, reason};
use crate::lifecycle::{Standing, starting};

#[test]
fn paused_town_gets_no_action_no_probe_and_no_requeue() {
    for (case, town) in vec![
        ("without a pod", town().awake().storage().ports(&[80])),
        ("new", town()),
        ("idle for long", running_town()),
        ("suspended", running_town().suspended()),
        ("falling asleep", running_town().draining(Suspended, minute(1)).suspended()),
        ("asleep, with work", town().asleep(Idle).with(polecat("toast").hook("b1"))),
        ("asleep, with a stray pod", town().asleep(Idle).pod(pod("gas").ready())),
        ("with a new template", running_town().revision("r2")),
        ("told to restart", running_town().restart_at("now")),
        ("failed", town().awake().pod(pod("gas").exited(1, minute(0)))),
        ("expired", running_town().settled(minute(1)).expires(minute(2), Destroy)),
        ("to be asked", running_town().asked()),
        ("with too small a claim", running_town().storage().claim(claim("gas"))),
    ] {
        let town = town.paused().status(|s| set(&mut s.conditions, RECONCILING, false, reason::AS_EXPECTED));
        let plan = town.decide(minute(600));
        assert_eq!((plan.does().as_str(), plan.asks.len(), plan.look_again), ("", 0, None), "{case}");
        assert_eq!((plan.is(RECONCILING), plan.reason(RECONCILING)), (true, reason::PAUSED), "{case}");
        assert!(!starting(&town.0, minute(600)), "{case}: and it takes nobody's turn");
    }
}

#[test]
fn paused_agent_gets_no_action_no_probe_and_no_requeue() {
    for (case, agent) in vec![
        ("without a pod", mayor().storage()),
        ("with a new bead", mayor().running().hook("b1")),
        ("with an attempt to begin", polecat("toast").hook("b1")),
        ("with a pod to create", polecat("toast").hook("b1").attempt("b1", 1, minute(0))),
        (
            "with an outcome to record",
            polecat("toast").hook("b1").attempt("b1", 1, minute(0)).pod(|p| p.exited(0, minute(1))),
        ),
        ("done, and its time is up", polecat("toast").hook("b1").done(&["b1"]).ttl("1s")),
        ("without its role", mayor().standing(Standing::RoleTaken { holder: "x".into() }).running()),
        ("to be asked", mayor().asked().running()),
        ("told to restart", mayor().running().restart_at("now")),
    ] {
        let plan = agent.paused().decide(minute(600));
        assert_eq!((plan.does().as_str(), plan.asks.len(), plan.look_again), ("", 0, None), "{case}");
        assert_eq!(plan.reason(RECONCILING), reason::PAUSED, "{case}");
    }
}

#[test]
fn agents_are_paused_when_their_town_is_paused() {
    let paused = running_town().paused();
    for agent in
        [mayor(), polecat("toast").hook("b1"), mayor().running().restart_at("now"), mayor().asked().running()]
    {
        let plan = agent.of(&paused).decide(minute(600));
        assert_eq!(
            (plan.does().as_str(), plan.asks.len(), plan.reason(RECONCILING)),
            ("", 0, reason::PAUSED)
        );
    }
    let going = mayor().running().deleting(minute(1)).own_tombstone(minute(1)).remains_as_seen().of(&paused);
    assert_eq!(going.decide(minute(1)).does(), "delete pod mayor-pod", "except that deletion goes on");
}

#[test]
fn paused_town_keeps_its_former_status() {
    let before = running_town().settled(minute(1));
    let plan = before.clone().paused().decide(minute(600));
    assert_eq!((plan.phase(), plan.is(READY)), ("Idle", true));
    let settled = before.paused().after(&plan);
    assert_eq!(settled.decide(minute(999)).status, settled.0.town.status, "said once");
    let fresh = town().paused().decide(minute(1));
    assert_eq!(fresh.phase(), "Pending");
}

#[test]
fn town_and_agent_continue_after_the_pause_is_removed() {
    let lift = |t: TownBuilder| t.edit(|t| t.metadata.annotations = None);
    let town = lift(town().paused().settled(minute(1)));
    assert_eq!(town.decide(minute(2)).does(), "create pod");
    let idle = lift(running_town().settled(minute(1)).paused().settled(minute(2)));
    assert_eq!(idle.decide(minute(600)).phase(), "Draining");
    let agent: AgentBuilder = mayor().paused().settled(minute(1)).edit(|a| a.metadata.annotations = None);
    assert_eq!(agent.decide(minute(2)).does(), "create pod");
}

#[test]
fn deletion_and_tombstone_override_a_pause() {
    let paused = || running_town().paused();
    assert_eq!(paused().deleting(minute(1)).remains(|_| {}).decide(minute(1)).does(), "write tombstone");
    let going = paused().destroying(minute(1)).remains_as_seen();
    assert_eq!(going.decide(minute(1)).does(), "delete pod gas-pod");
    let marked = paused().tombstone("x").decide(minute(1));
    assert_eq!((marked.phase(), marked.does().as_str()), ("Tombstoned", "delete pod gas-pod"));
    let agent = || mayor().running().paused();
    let going = agent().deleting(minute(1)).own_tombstone(minute(1)).remains_as_seen();
    assert_eq!(going.decide(minute(1)).does(), "delete pod mayor-pod");
    assert_eq!(agent().tombstone("x").decide(minute(1)).does(), "delete pod mayor-pod");
    let with_town = agent().of(&running_town().tombstone("x")).decide(minute(1));
    assert_eq!(with_town.does(), "delete pod mayor-pod", "also its town's");
}

#[test]
fn pause_annotation_counts_only_with_the_value_true() {
    let other = running_town().edit(|t| {
        t.metadata.annotations = Some([(crate::api::names::PAUSED.into(), "false".into())].into());
    });
    assert_eq!(other.decide(minute(600)).phase(), "Draining");
}

#[test]
fn town_held_since_its_creation_is_not_destroyed_by_an_earlier_expiry() {
    let born_late = || town().expires(minute(-5), Destroy);
    for (case, held) in [("paused", born_late().paused()), ("marked", born_late().tombstone("x"))] {
        let lifted = held.settled(minute(1)).edit(|t| t.metadata.annotations = None);
        let plan = lifted.decide(minute(2));
        assert_eq!((plan.phase(), plan.does().as_str()), ("Blocked", ""), "{case}");
    }
}

// Review code:A10.
#[test]
fn paused_agent_releases_its_ended_pod_when_its_town_falls_asleep() {
    let falling = running_town().draining(Idle, minute(30));
    let agent = polecat("toast").hook("b1").attempt("b1", 1, minute(0)).of(&falling);
    let agent = agent.pod(|p| p.exited(1, minute(20)).told_to_stop(minute(30))).paused();
    let plan = agent.decide(minute(31));
    let work = plan.status.clone().unwrap().work.unwrap();
    assert_eq!((plan.does().as_str(), work.outcome.is_some()), ("", true), "the outcome is on record first");
    assert_eq!(agent.after(&plan).decide(minute(31)).does(), "release pod toast-pod");
}
