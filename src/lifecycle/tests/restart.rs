//! The pod of a town or a Session agent while the town is awake: its creation, its life and its replacement.

use super::build::{AgentBuilder, Read, TownBuilder, claim, mayor, minute, pod, running_town, second, town};
use crate::api::condition::{DEGRADED, READY, RECONCILING, reason};

#[test]
fn awake_town_creates_one_pod_when_it_has_a_template() {
    assert_eq!(town().awake().decide(minute(1)).does(), "create pod");
    assert_eq!(town().decide(minute(1)).does(), "create pod", "also before its first status");
    assert_eq!(running_town().decide(minute(1)).does(), "");
    assert_eq!(town().awake().no_template().decide(minute(1)).does(), "");
}

#[test]
fn claim_is_created_before_the_pod_that_mounts_it() {
    let town = || town().awake().storage();
    assert_eq!(town().decide(minute(1)).does(), "create claim, create pod");
    let plan = town().claim(claim("gas")).decide(minute(1));
    assert_eq!(plan.does(), "create pod");
    assert_eq!(plan.status.unwrap().storage.unwrap().claim, "gas-claim");
    let mut going = claim("gas");
    going.child.deleting = true;
    let plan = town().claim(going).decide(minute(1));
    assert_eq!((plan.does().as_str(), plan.reason(READY)), ("", reason::CLAIM_UNUSABLE));
}

#[test]
fn pod_is_deleted_when_its_template_was_removed() {
    let plan = running_town().no_template().decide(minute(1));
    assert_eq!(plan.does(), "delete pod gas-pod");
    let going = town().awake().no_template().pod(pod("gas").ready().told_to_stop(minute(1)));
    assert_eq!(going.decide(minute(1)).does(), "");
}

#[test]
fn starting_town_shows_the_trouble_of_its_pod() {
    let waiting = town().awake().pod(pod("gas"));
    let plan = waiting.decide(minute(1));
    assert_eq!((plan.phase(), plan.is(RECONCILING), plan.is(DEGRADED)), ("Starting", true, false));
    let troubled = town().awake().pod(pod("gas").trouble(reason::UNSCHEDULABLE, "no node takes it"));
    let plan = troubled.decide(minute(1));
    assert_eq!((plan.phase(), plan.reason(DEGRADED)), ("Starting", reason::UNSCHEDULABLE));
    assert_eq!(plan.message(READY), "no node takes it");
    assert!(plan.is(RECONCILING) && plan.is(DEGRADED));
}

#[test]
fn pod_trouble_is_shown_only_after_three_seconds() {
    let mut young = pod("gas").trouble(reason::UNSCHEDULABLE, "its volume is not bound yet");
    young.0.trouble_since = Some(second(60));
    let town = town().awake().pod(young);
    let plan = town.decide(second(61));
    assert!(!plan.is(DEGRADED));
    assert_eq!(plan.look_again, Some(second(63)), "it is looked at again");
    assert!(town.decide(second(63)).is(DEGRADED));
}

/// The number of consecutive failed starts so far, and the delay in seconds after one more.
const SCHEDULE: [(i32, i64); 4] = [(0, 30), (1, 60), (2, 120), (3, 300)];

#[test]
fn failed_pod_is_counted_and_replaced_after_a_growing_back_off() {
    for (count, wait) in SCHEDULE {
        let due = second(6000 + wait);
        let failed = pod("gas").created(minute(90)).exited(1, minute(100));
        let town = town().awake().always_on().pod(failed).restarts(count, minute(90));
        let early = town.decide(second(6000 + wait - 1));
        assert_eq!((early.does().as_str(), early.reason(READY)), ("", reason::BACK_OFF), "{count}");
        assert_eq!((early.look_again, early.is(DEGRADED)), (Some(due), true), "{count}");
        let plan = town.decide(due);
        assert_eq!(plan.does(), "delete pod gas-pod", "{count}");
        assert_eq!(plan.status.unwrap().restarts.unwrap().count, count + 1);
        let mayor = mayor().restarts(count, minute(90)).pod(|p| p.created(minute(90)).exited(1, minute(100)));
        let early = mayor.decide(second(6000 + wait - 1));
        assert_eq!((early.phase(), early.does().as_str(), early.look_again), ("Starting", "", Some(due)));
        let plan = mayor.decide(due);
        assert_eq!(plan.does(), "delete pod mayor-pod", "{count}");
        assert_eq!(plan.status.unwrap().restarts.unwrap().count, count + 1);
    }
}

#[test]
fn failed_pod_past_the_limit_is_deleted_immediately_and_retried_after_the_window() {
    let town = town().awake().always_on().pod(pod("gas").exited(1, minute(100))).restarts(4, minute(90));
    let plan = town.decide(minute(100));
    assert_eq!(
        (plan.does().as_str(), plan.status.clone().unwrap().restarts.unwrap().count),
        ("delete pod gas-pod", 5)
    );
    let mut gone = town.after(&plan);
    gone.0.pods.clear();
    let held = gone.decide(minute(101));
    assert_eq!((held.does().as_str(), held.look_again), ("", Some(minute(130))));
    assert_eq!(held.reason(DEGRADED), reason::START_FAILED);
    assert_eq!(gone.after(&held).decide(minute(130)).does(), "create pod");
    let mayor = mayor().restarts(4, minute(90)).pod(|p| p.exited(1, minute(100)));
    let plan = mayor.decide(minute(100));
    assert_eq!(plan.does(), "delete pod mayor-pod");
    let mut gone = mayor.after(&plan);
    gone.0.pod = None;
    let held = gone.decide(minute(101));
    assert_eq!((held.phase(), held.does().as_str(), held.look_again), ("Failed", "", Some(minute(130))));
    assert_eq!(held.reason(DEGRADED), reason::RETRY_LIMIT_EXCEEDED);
    let half_open = gone.after(&held);
    assert_eq!(half_open.decide(minute(130)).does(), "create pod");
}

#[test]
fn window_of_a_failed_session_agent_doubles_up_to_a_day() {
    for (count, minutes) in [(5, 30), (6, 60), (7, 120), (11, 1440), (60, 1440)] {
        let failed = mayor().restarts(count, minute(0));
        let held = failed.decide(minute(minutes - 1));
        assert_eq!((held.phase(), held.look_again), ("Failed", Some(minute(minutes))), "{count}");
        assert_eq!(failed.decide(minute(minutes)).does(), "create pod", "{count}");
    }
}

#[test]
fn evicted_pod_is_replaced_after_a_growing_pause_and_is_not_counted() {
    let evicted = town().awake().always_on().pod(pod("gas").created(minute(100)).evicted());
    let early = evicted.decide(second(6029));
    assert_eq!((early.does().as_str(), early.look_again), ("", Some(second(6030))));
    let plan = evicted.decide(second(6030));
    let restarts = plan.status.clone().unwrap().restarts.unwrap();
    assert_eq!((plan.does().as_str(), restarts.count, restarts.disruptions), ("delete pod gas-pod", 0, 1));
    let counted =
        evicted.clone().restarts(2, minute(99)).decide(minute(103)).status.unwrap().restarts.unwrap();
    assert_eq!((counted.count, counted.disruptions), (2, 1), "failures stay on record");
    for (before, wait) in [(1, 60), (2, 120), (3, 300), (4, 600), (9, 600)] {
        let again = evicted.clone().status(|s| {
            s.restarts = Some(crate::api::RestartsStatus { disruptions: before, ..Default::default() });
        });
        assert_eq!(again.decide(minute(100)).look_again, Some(second(6000 + wait)), "{before}");
    }
    let mut ran_well = pod("gas").created(minute(0)).evicted();
    ran_well.0.not_ready_since = Some(minute(100));
    let steady = town().awake().always_on().pod(ran_well).status(|s| {
        s.restarts = Some(crate::api::RestartsStatus { disruptions: 9, ..Default::default() });
    });
    assert_eq!(
        steady.decide(minute(100)).look_again,
        Some(second(6030)),
        "a pod that ran well starts a new row"
    );
}

#[test]
fn vanished_pod_is_counted_once_and_replaced_after_a_growing_back_off() {
    for (count, wait) in [(0, 30), (1, 60), (2, 120), (3, 300)] {
        let due = second(6000 + wait);
        let town = town().awake().always_on().recorded_pod(minute(90)).restarts(count, minute(90));
        let plan = town.decide(minute(100));
        assert_eq!((plan.does().as_str(), plan.look_again), ("", Some(due)), "{count}");
        assert_eq!(plan.status.clone().unwrap().restarts.unwrap().count, count + 1);
        let again = town.after(&plan);
        assert_eq!(
            again.decide(second(6000 + wait - 1)).status.unwrap().restarts.unwrap().count,
            count + 1,
            "once"
        );
        assert_eq!(again.decide(due).does(), "create pod", "{count}");
        let mayor = mayor().recorded_pod(minute(90)).restarts(count, minute(90));
        let plan = mayor.decide(minute(100));
        assert_eq!((plan.does().as_str(), plan.look_again), ("", Some(due)), "{count}");
        assert_eq!(mayor.after(&plan).decide(due).does(), "create pod", "{count}");
    }
}

#[test]
fn failed_starts_are_reset_when_the_pod_was_ready_for_the_window() {
    let up = town().awake().always_on().pod(pod("gas").created(minute(10)).ready()).restarts(4, minute(9));
    let plan = up.decide(minute(39));
    assert_eq!(
        (plan.status.clone().unwrap().restarts.unwrap().count, plan.look_again),
        (4, Some(minute(40)))
    );
    assert_eq!(up.decide(minute(40)).status.unwrap().restarts, None);
    let up = mayor().retry(5, "10m").pod(|p| p.created(minute(10)).ready()).restarts(4, minute(9));
    assert_eq!(up.decide(minute(19)).status.unwrap().restarts.unwrap().count, 4);
    assert_eq!(up.decide(minute(20)).status.unwrap().restarts, None, "the agent's own window");
}

// code:A18, reports:P31
#[test]
fn disrupted_pod_is_replaced_after_a_growing_pause_and_is_no_failure() {
    let going = |ran: i64| {
        let mut pod = pod("gas").created(minute(100 - ran)).ready().told_to_stop(minute(100));
        pod.0.disrupted = true;
        town().awake().always_on().recorded_pod(minute(100 - ran)).pod(pod)
    };
    let mut town = going(1);
    let mut pauses = Vec::new();
    for _ in 0..7 {
        let plan = town.decide(minute(100));
        town = town.after(&plan);
        let again = town.decide(second(6001));
        town = town.after(&again);
        town.0.pods.clear();
        let waits = town.decide(second(6001));
        pauses.push(waits.look_again.map(|at| at.duration_since(minute(100)).as_secs()));
        assert_eq!(town.0.town.status.as_ref().unwrap().restarts.as_ref().unwrap().count, 0);
        let mut next = going(1);
        next = next.status(|s| s.restarts.clone_from(&town.0.town.status.as_ref().unwrap().restarts));
        town = next;
    }
    assert_eq!(pauses, [Some(30), Some(60), Some(120), Some(300), Some(600), Some(600), Some(600)]);
    let plan = going(60).decide(minute(100));
    assert_eq!(plan.status.unwrap().restarts.unwrap().disruptions, 1, "a pod that ran well starts a new row");
}

#[test]
fn pod_is_replaced_immediately_when_a_user_deletes_it_after_a_long_run() {
    let town = town().awake().always_on().recorded_pod(minute(0));
    let going = town.pod(pod("gas").ready().told_to_stop(minute(100)));
    let mut gone = going.settled(minute(100));
    gone.0.pods.clear();
    assert_eq!(gone.decide(second(6001)).does(), "create pod");
}

// code:A8, reports:P8
#[test]
fn node_reboot_is_not_counted_as_a_failure_and_the_pod_is_kept() {
    let mut pod = pod("gas").unready(minute(100)).crashed(1);
    pod.0.restarted_by_node = true;
    let town = town().awake().always_on().recorded_pod(minute(0)).restarts(4, minute(90)).pod(pod);
    let plan = town.decide(minute(100));
    assert_eq!((plan.does().as_str(), plan.status.unwrap().restarts.unwrap().count), ("", 4));
}

#[test]
fn first_start_is_not_counted_as_a_restart() {
    let woken = town().awake().woke(minute(99)).status(|s| {
        s.pod = Some(crate::api::PodStatus {
            start_time: Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(minute(99))),
            ..crate::api::PodStatus::default()
        });
    });
    let plan = woken.decide(minute(100));
    assert_eq!((plan.does().as_str(), plan.status.unwrap().restarts), ("create pod", None));
}

#[test]
fn new_pod_is_not_created_while_the_old_pod_terminates() {
    let going = town().awake().pod(pod("gas").ready().told_to_stop(minute(1))).recorded_pod(minute(0));
    let plan = going.decide(minute(2));
    assert_eq!((plan.phase(), plan.does().as_str()), ("Starting", ""));
    let going = mayor().pod(|p| p.ready().told_to_stop(minute(1)));
    let plan = going.decide(minute(2));
    assert_eq!((plan.phase(), plan.does().as_str()), ("Starting", ""));
}

#[test]
fn repeated_decision_about_restarts_causes_no_status_write() {
    let young = |t: TownBuilder| t.pod(pod("gas"));
    let failed = pod("gas").created(minute(100)).exited(1, minute(100));
    for (case, town) in [
        ("starting", young(town().awake().always_on()).start_began(minute(100))),
        ("running", running_town().always_on()),
        ("backing off", town().awake().always_on().pod(failed).restarts(3, minute(90))),
        ("vanished", town().awake().always_on().recorded_pod(minute(100)).restarts(3, minute(90))),
    ] {
        let town = town.settled(second(6005));
        let again = town.decide(second(6015));
        assert_eq!(again.status, town.0.town.status, "{case}");
    }
    let failed = |m: AgentBuilder| m.pod(|p| p.created(minute(100)).exited(1, minute(100)));
    for (case, mayor) in [
        ("starting", mayor().pod(|p| p).start_began(minute(100))),
        ("running", mayor().running()),
        ("backing off", failed(mayor().restarts(3, minute(90)))),
        ("vanished", mayor().recorded_pod(minute(100)).restarts(3, minute(90))),
    ] {
        let mayor = mayor.settled(second(6005));
        let again = mayor.decide(second(6015));
        assert_eq!(again.status, mayor.0.agent.status, "{case}");
    }
}
