//! The two phases before sleep, the last check, and the wake.

use super::build::{
    AgentBuilder, Read, TownBuilder, failures, mayor, minute, pod, polecat, running_town, says, second,
    sleep_time, town,
};
use crate::api::AsleepReason::{Idle, Suspended};
use crate::api::condition::{ACTIVE, ASLEEP, READY, RECONCILING};
use crate::api::{ReportedState, RestartsStatus};
use crate::lifecycle::{Freshness, PodPhase, Uid, needs_live};

#[test]
fn town_sleeps_when_it_had_no_work_for_sleep_after() {
    let last_work_at_ten = || running_town().last_active(minute(10));
    let woken_at_ten = || running_town().woke(minute(10));
    let pod_since_ten = || town().awake().pod(pod("gas").created(minute(10)).ready());
    let created_at_ten = || {
        let pod = pod("gas").ready();
        town().awake().pod(pod).created(minute(10))
    };
    let bare = || town().awake().no_template();
    // The last event counts: work, a wake, the start of the pod or of the town.
    for (case, town, sleeps_at) in [
        ("never had work", running_town(), 30),
        ("last work at 10", last_work_at_ten(), 40),
        ("woken at 10", woken_at_ten(), 40),
        ("pod started at 10", pod_since_ten(), 40),
        ("created at 10", created_at_ten(), 40),
        ("without a pod of its own", bare(), 30),
        ("sleepAfter of an hour", running_town().sleep_after("1h"), 60),
    ] {
        let early = town.decide(minute(sleeps_at - 1));
        assert_eq!(early.phase(), "Idle", "{case}, a minute early");
        assert_eq!(early.look_again, Some(minute(sleeps_at)), "{case}");
        let shown = early.status.as_ref().and_then(|s| s.sleep_time.as_ref()).map(|t| t.0);
        assert_eq!(shown, Some(minute(sleeps_at)), "{case}");
        assert_eq!(town.decide(second(sleeps_at * 60 - 1)).phase(), "Idle", "{case}, a second early");
        for late in [0, 1, 600] {
            assert_eq!(town.decide(minute(sleeps_at + late)).phase(), "Draining", "{case}, {late} min late");
        }
    }
}

#[test]
fn town_with_work_or_always_on_does_not_sleep() {
    let working = running_town().with(polecat("toast").hook("b1").running());
    for (case, town) in [("alwaysOn", running_town().always_on()), ("has work", working)] {
        let plan = town.decide(minute(600));
        assert!(["Idle", "Running"].contains(&plan.phase()), "{case}: {}", plan.phase());
        assert_eq!(plan.look_again, None, "{case}: no timer where there is no deadline");
        assert_eq!(plan.status.unwrap().sleep_time, None, "{case}");
    }
}

#[test]
fn suspended_town_drains_immediately_even_with_work() {
    let working = || running_town().with(polecat("toast").hook("b1").running());
    for (case, town) in [
        ("idle", running_town().suspended()),
        ("with work", working().suspended()),
        ("always on", running_town().always_on().suspended()),
    ] {
        let plan = town.decide(minute(1));
        let status = plan.status.clone().unwrap();
        assert_eq!(plan.phase(), "Draining", "{case}");
        assert_eq!(status.asleep_reason, Some(Suspended), "{case}");
    }
}

#[test]
fn drain_time_is_written_before_any_pod_is_deleted() {
    let plan = running_town().decide(minute(30));
    assert!(plan.exclusive, "no create may be under way when it is written");
    assert_eq!(plan.does(), "", "the last look comes first");
    assert_eq!(plan.status.as_ref().unwrap().drain_time.as_ref().unwrap().0, minute(30));
    let marked = running_town().after(&plan);
    assert!(needs_live(&marked.0.town), "and that rests on live facts");
    assert!(!marked.facts().awake, "nothing of the town starts from here on");
}

#[test]
fn draining_town_is_not_decided_on_cached_facts() {
    let mut town = running_town().draining(Idle, minute(30));
    town.0.freshness = Freshness::Cached;
    let plan = town.decide(minute(31));
    assert_eq!((plan.does().as_str(), plan.status), ("", None));
}

#[test]
fn draining_town_lets_its_agents_finish_until_the_drain_timeout() {
    let at_work = || polecat("toast").hook("b1").attempt("b1", 1, minute(0)).running();
    let town = running_town().suspended().drain("2m").draining(Suspended, minute(30)).with(at_work());
    let early = town.decide(minute(31));
    assert_eq!((early.phase(), early.does().as_str()), ("Draining", ""));
    assert_eq!(early.look_again, Some(minute(32)));
    let late = town.decide(minute(32));
    assert_eq!(
        (late.phase(), late.does().as_str()),
        ("Draining", "delete pod gas-pod, delete pod toast-pod")
    );
}

#[test]
fn drain_waits_only_for_agents_whose_containers_run() {
    let pending = polecat("toast").hook("b1").attempt("b1", 1, minute(0)).pod(|p| p);
    let town = running_town().suspended().drain("1h").draining(Suspended, minute(30)).with(pending);
    assert_eq!(town.decide(minute(30)).does(), "delete pod gas-pod, delete pod toast-pod");
}

// Review code:A10.
#[test]
fn paused_agent_keeps_no_town_awake_and_wakes_none() {
    let stale =
        || mayor().asked().started().running().heard(minute(1), says("mayor", ReportedState::Working));
    for (case, agent) in [
        ("with a bead", polecat("toast").hook("b1")),
        ("with an attempt under way", polecat("toast").hook("b1").attempt("b1", 1, minute(0)).running()),
        ("that was never started", mayor()),
        ("with a new bead", mayor().started().delivered("b0").hook("b1")),
        ("that said that it works", stale()),
        ("that was never asked", mayor().asked().started().running()),
    ] {
        let agent = agent.seen().paused();
        let awake = running_town().with(agent.clone());
        assert_eq!(awake.decide(minute(29)).phase(), "Idle", "{case}");
        assert_eq!(awake.decide(minute(30)).phase(), "Draining", "{case}");
        let falling = running_town().draining(Idle, minute(30)).with(agent.clone()).decide(minute(40));
        assert_eq!(falling.note, None, "{case}: the final check does not turn back");
        assert_eq!(town().asleep(Idle).with(agent).decide(minute(99)).phase(), "Asleep", "{case}");
    }
}

#[test]
fn drain_does_not_wait_with_timeout_zero_or_without_working_agents() {
    let at_work = || polecat("toast").hook("b1").attempt("b1", 1, minute(0)).running();
    let impatient = running_town().suspended().drain("0s").draining(Suspended, minute(30)).with(at_work());
    assert_eq!(impatient.decide(minute(30)).does(), "delete pod gas-pod, delete pod toast-pod");
    let quiet = running_town().draining(Idle, minute(30)).with(mayor().started().running());
    assert_eq!(quiet.decide(minute(30)).does(), "delete pod gas-pod, delete pod mayor-pod");
}

#[test]
fn town_is_asleep_only_after_its_pods_are_gone() {
    let going = town().draining(Idle, minute(30)).pod(pod("gas").ready().told_to_stop(minute(30)));
    let plan = going.decide(minute(31));
    assert_eq!((plan.phase(), plan.does().as_str()), ("Draining", ""), "it waits for the pod to go");
    assert!(!plan.is(ASLEEP));
    let gone = town().draining(Idle, minute(30)).recorded_pod(minute(0)).restarts(2, minute(20));
    let plan = gone.decide(minute(31));
    assert_eq!((plan.phase(), plan.is(ASLEEP), plan.is(READY)), ("Asleep", true, true));
    assert_eq!(plan.look_again, None, "a sleeping town has no timer");
    let status = plan.status.unwrap();
    assert_eq!((status.drain_time, status.asleep_reason, status.restarts), (None, Some(Idle), None));
    assert_eq!(status.pod.as_ref().and_then(|p| p.uid.as_ref()), None, "only when it was started stays");
    assert!(status.pod.unwrap().start_time.is_some());
}

#[test]
fn pods_of_another_installation_are_neither_awaited_nor_deleted() {
    let town = town().draining(Idle, minute(30)).pod(pod("gas").ready().foreign());
    let plan = town.decide(minute(31));
    assert_eq!((plan.phase(), plan.does().as_str()), ("Asleep", ""));
}

/// The events that wake a sleeping town, and turn back a town that is about to sleep.
fn reasons_to_wake(base: impl Fn() -> TownBuilder) -> Vec<(&'static str, TownBuilder)> {
    let with = |agent: AgentBuilder| base().with(agent.seen());
    let half = polecat("toast").hook("b1").attempt("b1", 2, minute(0));
    let backing_off = half.ended(crate::api::Outcome::Failed, minute(1));
    vec![
        ("a new bead", with(polecat("toast").hook("b1"))),
        ("a bead that is to be tried again", with(backing_off)),
        ("a bead after one that is done", with(polecat("toast").done(&["b0"]).hook("b1"))),
        ("a bead after one that failed", with(polecat("toast").failed("b0", minute(0)).hook("b1"))),
        ("a Session agent that was never started", with(mayor())),
        ("a Session agent's new bead", with(mayor().started().delivered("b0").hook("b1"))),
        ("a Session agent's first bead", with(mayor().started().hook("b1"))),
        ("a wake request", base().wake_request("please")),
        ("alwaysOn", base().always_on()),
    ]
}

#[test]
fn sleeping_town_wakes_for_work_and_when_its_reason_ends() {
    let mut cases = reasons_to_wake(|| town().asleep(Idle));
    cases.push(("suspended was lifted", town().asleep(Suspended)));
    for (case, town) in cases {
        let plan = town.decide(minute(99));
        let status = plan.status.clone().unwrap();
        assert_eq!((plan.phase(), plan.is(ASLEEP)), ("Starting", false), "{case}");
        assert_eq!(status.wake_time.map(|t| t.0), Some(minute(99)), "{case}");
        assert_eq!(status.asleep_reason, None, "{case}");
        assert!(plan.note.as_ref().is_some_and(|n| n.starts_with("woken")), "{case}: says why");
        assert_eq!(plan.does(), "", "{case}: the wake is on record before anything starts");
        assert_eq!(town.after(&plan).decide(minute(99)).does(), "create pod", "{case}");
    }
}

#[test]
fn sleeping_town_does_not_wake_for_other_changes() {
    let sleeping = || town().asleep(Idle);
    for (case, town) in [
        ("nothing", sleeping()),
        ("an agent without a hook", sleeping().with(polecat("toast"))),
        ("a bead that is done", sleeping().with(polecat("toast").hook("b1").done(&["b1"]))),
        ("an agent past its limit", sleeping().with(polecat("toast").failed("b1", minute(0)))),
        ("an agent that waits for a person", sleeping().with(polecat("toast").hook("b1").stalled())),
        ("an agent that is being deleted", sleeping().with(polecat("toast").hook("b1").deleting(minute(1)))),
        ("a bead that was delivered", sleeping().with(mayor().started().hook("b1").delivered("b1"))),
        ("a Session agent that was started", sleeping().with(mayor().started())),
        ("a Session agent that waits for a person", sleeping().with(mayor().stalled())),
        ("another sleepAfter", sleeping().sleep_after("10h")),
        ("the wake request that was answered", {
            sleeping().wake_request("old").status(|s| s.handled_wake_request = "old".into())
        }),
    ] {
        let town = town.settled(minute(98));
        let plan = town.decide(minute(99));
        assert_eq!((plan.phase(), plan.does().as_str()), ("Asleep", ""), "{case}");
        assert_eq!(
            (plan.look_again, &plan.status),
            (None, &town.0.town.status),
            "{case}: no timer, no write"
        );
    }
}

#[test]
fn agent_without_a_status_wakes_no_town_but_cancels_its_drain() {
    // The first status tells whether an agent can run; the operator writes it while the town sleeps.
    for agent in [polecat("toast").hook("b1"), mayor()] {
        assert_eq!(town().asleep(Idle).with(agent.clone()).decide(minute(99)).phase(), "Asleep");
        let falling = running_town().draining(Idle, minute(30)).with(agent.clone());
        assert!(falling.decide(minute(30)).note.is_some(), "the last look turns back");
        let looked_at = agent.of(&town().asleep(Idle)).settled(minute(98));
        assert_eq!(town().asleep(Idle).with(looked_at).decide(minute(99)).phase(), "Starting");
    }
}

#[test]
fn suspended_town_does_not_wake_for_work() {
    for (case, town) in reasons_to_wake(|| town().asleep(Suspended).suspended()) {
        assert_eq!(town.decide(minute(99)).phase(), "Asleep", "{case}");
    }
}

#[test]
fn town_suspended_while_asleep_wakes_when_suspend_is_removed() {
    let plan = town().asleep(Idle).suspended().decide(minute(99));
    assert_eq!((plan.phase(), plan.reason(ASLEEP)), ("Asleep", "Suspended"));
    let lifted = town().suspended().after(&plan).edit(|t| t.spec.suspend = false);
    assert_eq!(lifted.decide(minute(100)).phase(), "Starting");
}

#[test]
fn final_check_cancels_the_drain_for_every_reason_to_wake() {
    for (case, town) in reasons_to_wake(|| running_town().draining(Idle, minute(30))) {
        let plan = town.decide(minute(30));
        let status = plan.status.clone().unwrap();
        assert!(["Running", "Idle"].contains(&plan.phase()), "{case}: {}", plan.phase());
        assert_eq!((status.drain_time, status.asleep_reason), (None, None), "{case}");
        assert_eq!(status.wake_time.map(|t| t.0), Some(minute(30)), "{case}: the idle clock starts anew");
        assert_eq!(plan.does(), "", "{case}: no pod is deleted");
        assert!(plan.note.as_ref().is_some_and(|n| n.starts_with("the town stays awake")), "{case}");
    }
}

#[test]
fn final_check_does_not_cancel_the_drain_of_a_suspended_town() {
    for (case, town) in reasons_to_wake(|| running_town().suspended().draining(Suspended, minute(30))) {
        assert_eq!(town.decide(minute(32)).phase(), "Draining", "{case}");
    }
    // The town was suspended after it began to fall asleep: it continues.
    for (case, town) in reasons_to_wake(|| running_town().suspended().draining(Idle, minute(30))) {
        assert_eq!(town.decide(minute(32)).phase(), "Draining", "{case}");
    }
}

#[test]
fn draining_town_stays_awake_when_suspend_is_removed() {
    let plan = running_town().draining(Suspended, minute(30)).decide(minute(31));
    assert_eq!((plan.phase(), plan.does().as_str()), ("Idle", ""));
}

#[test]
fn late_pod_is_deleted_when_its_town_sleeps() {
    let stray = polecat("toast").running();
    let plan = town().asleep(Idle).with(stray).pod(pod("gas").ready()).decide(minute(99));
    assert_eq!((plan.phase(), plan.does().as_str()), ("Asleep", "delete pod toast-pod, delete pod gas-pod"));
    let foreign = town().asleep(Idle).pod(pod("gas").ready().foreign()).decide(minute(99));
    assert_eq!(foreign.does(), "", "what another installation made is left alone");
}

// K2. A reconcile is for a name, and its decision depends on the object that exists now.
#[test]
fn town_does_not_inherit_the_sleep_time_of_its_predecessor() {
    let old = running_town().last_active(minute(10));
    assert_eq!(old.decide(minute(40)).phase(), "Draining");
    let successor = running_town().created(minute(39)).woke(minute(39));
    let plan = successor.decide(minute(40));
    assert_eq!((plan.phase(), plan.does().as_str()), ("Idle", ""));
    assert_eq!(sleep_time(&plan), Some(minute(69)), "it has its own");
}

#[test]
fn wake_request_is_answered_once() {
    let woken = town().asleep(Idle).wake_request("please").settled(minute(40));
    let status = woken.0.town.status.clone().unwrap();
    assert_eq!((status.handled_wake_request.as_str(), status.wake_time.unwrap().0), ("please", minute(40)));
    let again = woken.pod(pod("gas").ready()).decide(minute(50)).status.unwrap();
    assert_eq!(again.wake_time.unwrap().0, minute(40), "the same request wakes only once");
}

#[test]
fn wake_request_moves_the_sleep_time_of_an_awake_town() {
    let plan = running_town().wake_request("please").decide(minute(29));
    assert_eq!((plan.phase(), sleep_time(&plan)), ("Idle", Some(minute(59))));
}

#[test]
fn suspended_town_with_work_is_active_until_it_sleeps() {
    let at_work = polecat("toast").hook("b1").running();
    let plan = running_town().suspended().with(at_work).decide(minute(1));
    assert!(plan.is(ACTIVE) && plan.is(RECONCILING) && !plan.is(READY));
    let asleep = town().suspended().draining(Suspended, minute(1)).with(polecat("toast").hook("b1"));
    assert!(!asleep.decide(minute(3)).is(ACTIVE));
}

#[test]
fn terminating_pod_is_not_deleted_again() {
    let going = pod("gas").ready().told_to_stop(minute(30));
    let mut staying = pod("gas").ready();
    staying.0.uid = Uid::new("another");
    let plan = town().draining(Idle, minute(30)).pod(going).pod(staying).decide(minute(31));
    assert_eq!(plan.actions.len(), 1);
    assert_eq!(plan.phase(), "Draining");
}

#[test]
fn pod_of_unknown_phase_is_not_ready_and_not_replaced() {
    let mut lost = pod("gas").ready();
    lost.0.phase = PodPhase::Unknown;
    lost.0.ready = false;
    let plan = town().awake().pod(lost).decide(minute(1));
    assert_eq!((plan.phase(), plan.does().as_str()), ("Starting", ""));
}

// Review code:A3.
#[test]
fn failing_agent_cancels_no_drain_and_wakes_its_town_once_a_window() {
    let failing = |external| {
        let record = RestartsStatus { external, ..failures(1, minute(20)) };
        mayor().seen().hook("b1").status(|s| s.restarts = Some(record))
    };
    for external in [false, true] {
        let plan = running_town().draining(Idle, minute(60)).with(failing(external)).decide(minute(61));
        assert_eq!((plan.note, plan.actions.is_empty()), (None, false), "external: {external}");
    }
    let asleep = |agent| town().asleep(Idle).woke(minute(10)).with(agent);
    let own = asleep(failing(false)).decide(minute(600));
    assert_eq!(
        (own.phase(), own.look_again),
        ("Asleep", None),
        "a container that fails by itself wakes no town"
    );
    let waits = asleep(failing(true)).decide(minute(49));
    assert_eq!(
        (waits.phase(), waits.look_again),
        ("Asleep", Some(minute(50))),
        "20 and the window of 30 minutes"
    );
    let woken = asleep(failing(true)).decide(minute(50));
    assert_eq!(woken.phase(), "Starting");
    assert!(woken.note.as_ref().is_some_and(|n| n.contains("its next attempt is due")), "{:?}", woken.note);
    // The town slept again before that start had failed.
    let again = town().asleep(Idle).woke(minute(50)).with(failing(true)).decide(minute(52));
    assert_eq!((again.phase(), again.look_again), ("Asleep", Some(minute(80))));
    assert_eq!(asleep(failing(true).paused()).decide(minute(600)).phase(), "Asleep");
    let suspended = town().asleep(Suspended).suspended().with(failing(true)).decide(minute(600));
    assert_eq!((suspended.phase(), suspended.look_again), ("Asleep", None));
}
