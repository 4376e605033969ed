//! The replacement of a pod after a change of the template, or at the request of a user.

use super::build::{
    AgentBuilder, Read, TownBuilder, mayor, minute, pod, polecat, running_town, says, town, unheard,
};
use crate::api::condition::{READY, RECONCILING, reason};
use crate::api::{AsleepReason, Outcome, ReportedState};

/// The revision after the change; that of the pods is "r1".
const NEW: &str = "r2";

fn changed(town: TownBuilder) -> TownBuilder {
    town.revision(NEW)
}

fn at_work() -> AgentBuilder {
    polecat("toast").hook("b1").attempt("b1", 1, minute(0)).running()
}

#[test]
fn idle_town_replaces_its_pod_when_its_template_changes() {
    let town = changed(running_town().restarts(3, minute(0)).recorded_pod(minute(0)));
    let plan = town.decide(minute(1));
    assert_eq!((plan.phase(), plan.does().as_str()), ("Starting", "delete pod gas-pod"));
    assert_eq!(plan.message(READY), "replacing the pod: the spec of the pod changed");
    let status = plan.status.clone().unwrap();
    assert_eq!(
        (status.restarts, status.pod.unwrap().uid),
        (None, None),
        "a start that we end does not count"
    );
    let mut gone = town.after(&plan);
    gone.0.pods.clear();
    assert_eq!(gone.decide(minute(1)).does(), "create pod", "at once");
}

#[test]
fn pod_is_not_replaced_for_a_new_template_while_its_town_may_have_work() {
    for (case, town) in [
        ("an agent at work", running_town().with(at_work())),
        ("a backlog", running_town().backlog(1, 0, 0)),
        ("not asked yet", running_town().asked()),
        ("no answer just now", running_town().silent(1, minute(1), minute(1))),
        ("nobody knows", running_town().silent(9, minute(0), minute(1))),
    ] {
        let plan = changed(town).decide(minute(1));
        assert_eq!(plan.does(), "", "{case}");
        assert_eq!(
            (plan.is(RECONCILING), plan.reason(RECONCILING)),
            (true, reason::UPDATE_PENDING),
            "{case}"
        );
        assert!(plan.message(RECONCILING).contains("gastown.dev/restart-at"), "{case}: what to do about it");
    }
    let idle = changed(running_town().heard(minute(1), super::build::quiet()));
    assert_eq!(idle.decide(minute(1)).does(), "delete pod gas-pod", "once it is known to be idle");
}

#[test]
fn pod_that_was_never_ready_is_replaced_immediately_for_a_new_template() {
    let town = changed(town().awake().pod(pod("gas")).with(polecat("toast").hook("b1")));
    assert_eq!(town.decide(minute(1)).does(), "delete pod gas-pod");
    let going = changed(super::build::town().awake().pod(pod("gas").ready().told_to_stop(minute(1))));
    assert_eq!(going.decide(minute(1)).does(), "", "a pod that goes anyway is waited for");
}

// code:A13
#[test]
fn unready_pod_of_a_working_town_is_kept_when_it_was_ready_before() {
    let busy = town().awake().recorded_pod(minute(0)).with(polecat("toast").hook("b1"));
    let plan = changed(busy.pod(pod("gas").unready(minute(1)))).decide(minute(1));
    assert_eq!((plan.does().as_str(), plan.reason(RECONCILING)), ("", reason::UPDATE_PENDING));
}

// code:A19
#[test]
fn pod_of_a_newer_spec_is_not_replaced_by_a_reconcile_of_an_older_spec() {
    let mut stale = changed(running_town());
    stale.0.pods[0].generations = Some((2, 0));
    assert_eq!(stale.decide(minute(1)).does(), "");
    let seen = stale.edited();
    assert_eq!(seen.decide(minute(1)).does(), "delete pod gas-pod");
}

#[test]
fn failed_pod_is_replaced_for_a_new_template_without_back_off() {
    let failed = town().awake().pod(pod("gas").exited(1, minute(1))).restarts(3, minute(0));
    assert_eq!(failed.decide(minute(1)).does(), "", "it would wait");
    let plan = changed(failed).decide(minute(1));
    assert_eq!((plan.does().as_str(), plan.status.unwrap().restarts), ("delete pod gas-pod", None));
    let failed = mayor().pod(|p| p.exited(1, minute(1))).restarts(3, minute(0));
    let plan = failed.revision(NEW).decide(minute(1));
    assert_eq!((plan.does().as_str(), plan.status.unwrap().restarts), ("delete pod mayor-pod", None));
}

#[test]
fn sleeping_or_draining_town_uses_the_new_template_with_its_next_pod() {
    let asleep = changed(town().asleep(AsleepReason::Idle)).decide(minute(1));
    assert_eq!((asleep.phase(), asleep.does().as_str(), asleep.is(RECONCILING)), ("Asleep", "", false));
    let falling = changed(running_town().suspended().draining(AsleepReason::Suspended, minute(1)));
    assert_eq!(falling.with(at_work()).decide(minute(1)).does(), "", "nobody is cut short");
}

#[test]
fn restart_annotation_replaces_the_pod_immediately_and_once() {
    for (case, town) in [
        ("idle", running_town()),
        ("at work", running_town().with(at_work())),
        ("starting", town().awake().pod(pod("gas"))),
    ] {
        let plan = town.restarts(3, minute(0)).restart_at("now").decide(minute(1));
        assert_eq!((plan.phase(), plan.does().as_str()), ("Starting", "delete pod gas-pod"), "{case}");
        assert_eq!(plan.status.as_ref().unwrap().restarts, None, "{case}: not counted");
        assert!(plan.message(READY).contains("restart-at"), "{case}");
    }
    let obeyed = running_town().edit(|_| ()).restart_at("now");
    let mut obeyed = obeyed;
    obeyed.0.pods[0].restart_at = Some("now".into());
    assert_eq!(obeyed.decide(minute(1)).does(), "", "once");
    let again = obeyed.restart_at("again").decide(minute(1));
    assert_eq!(again.does(), "delete pod gas-pod");
    let mut taken_off = running_town();
    taken_off.0.pods[0].restart_at = Some("now".into());
    assert_eq!(taken_off.decide(minute(1)).does(), "", "taking the annotation off is no word");
}

#[test]
fn restart_annotation_does_not_wake_a_sleeping_town() {
    assert_eq!(town().asleep(AsleepReason::Idle).restart_at("now").decide(minute(1)).phase(), "Asleep");
}

#[test]
fn pod_without_a_revision_is_left_alone() {
    let mut town = changed(running_town());
    town.0.pods[0].revision = None;
    let plan = town.decide(minute(1));
    assert_eq!((plan.does().as_str(), plan.is(RECONCILING)), ("", false));
    let mut mayor = mayor().running().revision(NEW);
    mayor.0.pod.as_mut().unwrap().revision = None;
    assert_eq!(mayor.decide(minute(1)).does(), "");
}

#[test]
fn session_pod_is_replaced_when_neither_its_agent_nor_its_town_has_work() {
    let outdated = || mayor().started().running().restarts(2, minute(0)).revision(NEW);
    let plan = outdated().decide(minute(1));
    assert_eq!((plan.phase(), plan.does().as_str()), ("Starting", "delete pod mayor-pod"));
    assert_eq!(plan.status.unwrap().restarts, None);
    for (case, agent) in [
        ("its town has work", outdated().of(&running_town().active())),
        ("it works", outdated().heard(minute(1), says("mayor", ReportedState::Working))),
    ] {
        let plan = agent.decide(minute(1));
        assert_eq!((plan.does().as_str(), plan.reason(RECONCILING)), ("", reason::UPDATE_PENDING), "{case}");
        let forced = agent.restart_at("now").decide(minute(1));
        assert_eq!(forced.does(), "delete pod mayor-pod", "{case}, but a person asks for it");
    }
    let waits = outdated().heard(minute(1), says("mayor", ReportedState::Waiting));
    assert_eq!(waits.decide(minute(1)).does(), "delete pod mayor-pod", "waiting is not work");
}

#[test]
fn session_pod_is_not_replaced_while_its_activity_is_unknown() {
    for (case, facts) in [
        ("not asked yet", crate::lifecycle::ProbeFacts::default()),
        ("no answer just now", unheard(1, minute(1), minute(1))),
        ("nobody knows", unheard(9, minute(0), minute(1))),
    ] {
        let mut agent = mayor().asked().started().running().hook("b1").delivered("b1").revision(NEW);
        agent.0.pod.as_mut().unwrap().hook = Some(super::build::hook("b1"));
        agent.0.probe = facts;
        assert_eq!(agent.decide(minute(1)).does(), "", "{case}");
    }
}

#[test]
fn task_pod_at_work_is_replaced_only_by_the_restart_annotation() {
    assert_eq!(at_work().revision(NEW).decide(minute(1)).does(), "", "its next attempt takes the new one");
    let starting = polecat("toast").hook("b1").attempt("b1", 1, minute(0)).pod(|p| p);
    assert_eq!(
        starting.revision(NEW).decide(minute(1)).does(),
        "delete pod toast-pod",
        "nothing of it runs yet"
    );
    let plan = at_work().restart_at("now").decide(minute(1));
    assert_eq!(plan.does(), "delete pod toast-pod");
    let told = at_work().restart_at("now").pod(|p| p.killed(minute(1)));
    let plan = told.decide(minute(2));
    let work = plan.status.unwrap().work.unwrap();
    assert_eq!(
        (work.outcome, work.attempts),
        (Some(Outcome::Interrupted), 0),
        "and the start does not count"
    );
}
