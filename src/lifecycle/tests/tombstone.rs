//! A live object with a tombstone annotation of any content: the operator runs nothing of it, and keeps its data.

use super::build::{
    AgentBuilder, Read, claim, mayor, minute, pod, polecat, running_town, sleep_time, town, uid,
};
use crate::api::AsleepReason::{Idle, Suspended};
use crate::api::condition::{ASLEEP, READY, RECONCILING, STALLED, reason};
use crate::lifecycle::has_own_tombstone;

fn values() -> [String; 4] {
    let own = format!("{}@2030-01-01T00:00:00Z", uid("gas"));
    [own, "another-uid@2029-01-01T00:00:00Z".into(), "x".into(), String::new()]
}

#[test]
fn tombstoned_town_deletes_its_pods_and_keeps_its_claim() {
    let at_work = polecat("toast").hook("b1").running();
    for value in values() {
        let town = running_town().storage().claim(claim("gas")).with(at_work.clone()).tombstone(&value);
        let plan = town.decide(minute(1));
        assert_eq!(plan.does(), "delete pod gas-pod, delete pod toast-pod", "{value}");
        assert_eq!((plan.phase(), plan.reason(STALLED)), ("Tombstoned", reason::TOMBSTONED), "{value}");
        assert_eq!((plan.is(READY), plan.is(STALLED), plan.is(RECONCILING)), (false, true, false));
        assert!(plan.message(STALLED).contains("remove the annotation"), "says how to undo it");
        assert_eq!(plan.look_again, None, "{value}");
    }
}

#[test]
fn tombstoned_town_never_wakes_and_creates_nothing() {
    let hooked = polecat("toast").hook("b1");
    for (case, town) in [
        ("new", town()),
        ("not adopted", town().not_adopted()),
        ("asleep with work", town().asleep(Idle).with(hooked.clone())),
        ("asked to wake", town().asleep(Idle).wake_request("please")),
        ("always on", town().awake().always_on()),
        ("draining", town().draining(Idle, minute(1))),
        ("suspended", town().asleep(Suspended).suspended()),
        ("with storage to make", town().awake().storage()),
    ] {
        let town = town.tombstone("x");
        let plan = town.decide(minute(50));
        assert_eq!((plan.phase(), plan.does().as_str()), ("Tombstoned", ""), "{case}");
        let settled = town.after(&plan);
        assert_eq!(settled.decide(minute(99)).status, settled.0.town.status, "{case}: said once");
    }
}

#[test]
fn town_continues_after_its_tombstone_is_removed() {
    let slept =
        town().asleep(Idle).tombstone("x").settled(minute(50)).edit(|t| t.metadata.annotations = None);
    assert_eq!(slept.decide(minute(60)).phase(), "Asleep");
    let awake = || running_town().tombstone("x").settled(minute(5)).edit(|t| t.metadata.annotations = None);
    assert!(!awake().decide(minute(6)).is(ASLEEP));
    let late = awake().decide(minute(600));
    assert_eq!((late.phase(), sleep_time(&late)), ("Idle", Some(minute(630))), "with a fresh idle clock");
}

#[test]
fn pods_of_another_installation_are_left_alone() {
    let town = town().awake().pod(pod("gas").ready().foreign()).tombstone("x");
    assert_eq!(town.decide(minute(1)).does(), "");
}

fn stopped(case: &str, agent: &AgentBuilder, phase: &str, pod: &str) {
    let plan = agent.decide(minute(1));
    assert_eq!((plan.phase(), plan.reason(STALLED)), (phase, reason::TOMBSTONED), "{case}");
    assert_eq!(plan.does(), format!("delete pod {pod}"), "{case}");
}

#[test]
fn tombstoned_agent_deletes_its_pod_and_keeps_its_claim() {
    let toast = polecat("toast").hook("b1").attempt("b1", 1, minute(0));
    for value in values() {
        let tombstoned = toast.clone().storage().claim(claim("toast")).tombstone(&value);
        stopped(&value, &tombstoned.clone().running(), "Tombstoned", "toast-pod");
        assert_eq!(tombstoned.decide(minute(1)).does(), "", "{value}: and nothing starts");
        stopped(&value, &mayor().tombstone(&value).running(), "Tombstoned", "mayor-pod");
    }
    let unbound = toast.unbound().tombstone("x").decide(minute(1));
    assert_eq!((unbound.phase(), unbound.does().as_str()), ("Tombstoned", ""), "and it is not bound");
}

#[test]
fn agents_of_a_tombstoned_town_run_no_pods() {
    let grave = running_town().tombstone("x");
    let toast = polecat("toast").hook("b1").attempt("b1", 1, minute(0)).of(&grave);
    stopped("task", &toast.clone().running(), "Blocked", "toast-pod");
    assert_eq!(toast.decide(minute(1)).does(), "");
    stopped("session", &mayor().of(&grave).running(), "Blocked", "mayor-pod");
}

#[test]
fn agents_are_not_deleted_when_a_tombstoned_town_lists_no_rig() {
    let grave = running_town().rigs(&[]).tombstone("x");
    let plan = polecat("toast").hook("b1").of_live(&grave).decide(minute(1));
    assert_eq!((plan.phase(), plan.does().as_str()), ("Blocked", ""));
}

#[test]
fn pod_result_is_recorded_before_a_tombstone_releases_the_pod() {
    let finished = || polecat("toast").hook("b1").attempt("b1", 1, minute(0)).pod(|p| p.exited(0, minute(1)));
    for (case, agent) in [
        ("its own", finished().tombstone("x")),
        ("its town's", finished().of(&running_town().tombstone("x"))),
        ("its town is gone", finished().townless(crate::lifecycle::Freshness::Live)),
    ] {
        let plan = agent.decide(minute(2));
        assert_eq!(plan.does(), "", "{case}");
        assert_eq!(plan.status.as_ref().unwrap().work.as_ref().unwrap().done, ["b1"], "{case}");
        let released = agent.after(&plan).decide(minute(2)).does();
        assert_eq!(released, "release pod toast-pod, delete pod toast-pod", "{case}");
    }
}

#[test]
fn tombstone_annotation_counts_for_its_owner_only_with_its_uid() {
    let own = format!("{}@2030-01-01T00:00:00Z", uid("gas"));
    assert!(has_own_tombstone(&town().tombstone(&own).0.town.metadata));
    for other in ["", "x", uid("gas").as_str(), "other@2030-01-01T00:00:00Z"] {
        assert!(!has_own_tombstone(&town().tombstone(other).0.town.metadata), "{other}");
    }
}
