//! The pod that a town or a Session agent has while the town is awake: made, kept, replaced.

use super::build::{AgentBuilder, Read, TownBuilder, claim, mayor, minute, pod, running_town, second, town};
use crate::api::condition::{DEGRADED, READY, RECONCILING, reason};

#[test]
fn an_awake_town_gets_the_one_pod_it_asks_for() {
    assert_eq!(town().awake().decide(minute(1)).does(), "create pod");
    assert_eq!(town().decide(minute(1)).does(), "create pod", "also before its first status");
    assert_eq!(running_town().decide(minute(1)).does(), "");
    assert_eq!(town().awake().no_template().decide(minute(1)).does(), "");
}

#[test]
fn a_claim_comes_before_the_pod_that_mounts_it() {
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
fn a_pod_whose_template_was_removed_is_deleted() {
    let plan = running_town().no_template().decide(minute(1));
    assert_eq!(plan.does(), "delete pod gas-pod");
    let going = town().awake().no_template().pod(pod("gas").ready().told_to_stop(minute(1)));
    assert_eq!(going.decide(minute(1)).does(), "");
}

#[test]
fn what_keeps_a_pod_from_running_is_shown_in_the_clusters_own_words() {
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
fn trouble_that_is_seconds_old_is_not_worth_a_word() {
    let mut young = pod("gas").trouble(reason::UNSCHEDULABLE, "its volume is not bound yet");
    young.0.trouble_since = Some(second(60));
    let town = town().awake().pod(young);
    let plan = town.decide(second(61));
    assert!(!plan.is(DEGRADED));
    assert_eq!(plan.look_again, Some(second(63)), "it is looked at again");
    assert!(town.decide(second(63)).is(DEGRADED));
}

/// Restarts so far within the window, and how long the next one waits.
const SCHEDULE: [(i32, i64); 6] = [(0, 30), (1, 60), (2, 120), (3, 300), (4, 600), (9, 600)];
/// So many failed starts of a town's pod within the window, and it is given up for the rest of it.
const GIVEN_UP: i32 = 5;

#[test]
fn a_failed_pod_is_replaced_ever_more_slowly_and_counted() {
    for (count, wait) in SCHEDULE {
        let due = second(6000 + wait);
        if count < GIVEN_UP {
            let failed = pod("gas").created(minute(90)).exited(1, minute(100));
            let town = town().awake().always_on().pod(failed).restarts(count, minute(90));
            let early = town.decide(second(6000 + wait - 1));
            assert_eq!((early.does().as_str(), early.reason(READY)), ("", reason::BACK_OFF), "{count}");
            assert_eq!((early.look_again, early.is(DEGRADED)), (Some(due), true), "{count}");
            let plan = town.decide(due);
            assert_eq!(plan.does(), "delete pod gas-pod", "{count}");
            assert_eq!(plan.status.unwrap().restarts.unwrap().count, count + 1);
        }
        let mayor = mayor().restarts(count, minute(90)).pod(|p| p.created(minute(90)).exited(1, minute(100)));
        let early = mayor.decide(second(6000 + wait - 1));
        assert_eq!((early.phase(), early.does().as_str(), early.look_again), ("Starting", "", Some(due)));
        let plan = mayor.decide(due);
        assert_eq!(plan.does(), "delete pod mayor-pod", "{count}");
        assert_eq!(plan.status.unwrap().restarts.unwrap().count, count + 1);
    }
}

#[test]
fn a_pod_that_the_node_threw_out_waits_like_any_other_and_does_not_count() {
    let evicted = town().awake().always_on().pod(pod("gas").created(minute(100)).evicted());
    let early = evicted.decide(second(6029));
    assert_eq!((early.does().as_str(), early.look_again), ("", Some(second(6030))));
    let plan = evicted.decide(second(6030));
    assert_eq!((plan.does().as_str(), plan.status.unwrap().restarts), ("delete pod gas-pod", None));
    let plan = evicted.restarts(2, minute(99)).decide(minute(103)).status.unwrap();
    assert_eq!(plan.restarts.unwrap().count, 2);
}

#[test]
fn a_pod_that_vanished_is_replaced_ever_more_slowly_and_counted() {
    for (count, wait) in [(0, 0), (1, 30), (2, 60), (3, 120), (4, 300), (5, 600), (9, 600)] {
        let due = second(6000 + wait);
        let town = town().awake().always_on().recorded_pod(minute(100)).restarts(count, minute(90));
        let mayor = mayor().recorded_pod(minute(100)).restarts(count, minute(90));
        if wait > 0 {
            assert_eq!(mayor.decide(second(6000 + wait - 1)).does(), "", "{count}");
        }
        if wait > 0 && count < GIVEN_UP {
            let early = town.decide(second(6000 + wait - 1));
            assert_eq!((early.does().as_str(), early.look_again), ("", Some(due)), "{count}");
        }
        if count < GIVEN_UP {
            let plan = town.decide(due);
            assert_eq!(plan.does(), "create pod", "{count}");
            assert_eq!(plan.status.unwrap().restarts.unwrap().count, count + 1);
        }
        let plan = mayor.decide(due);
        assert_eq!(plan.does(), "create pod", "{count}");
        assert_eq!(plan.status.unwrap().restarts.unwrap().count, count + 1);
    }
}

#[test]
fn restarts_are_counted_within_half_an_hour() {
    let vanished = |since| town().awake().always_on().recorded_pod(minute(100)).restarts(5, minute(since));
    assert_eq!(vanished(75).decide(minute(104)).does(), "", "29 minutes: all five count");
    let plan = vanished(75).decide(minute(105));
    let restarts = plan.status.clone().unwrap().restarts.unwrap();
    assert_eq!((plan.does().as_str(), restarts.count), ("create pod", 1), "30 minutes: a new window");
    assert_eq!(restarts.window_started_at.unwrap().0, minute(105));
    let within = mayor().recorded_pod(minute(100)).restarts(5, minute(90)).decide(minute(110));
    let within = within.status.unwrap().restarts.unwrap();
    assert_eq!((within.count, within.window_started_at.unwrap().0), (6, minute(90)), "the window stays");
}

#[test]
fn a_first_start_is_not_a_restart() {
    let woken = town().awake().woke(minute(99)).status(|s| {
        s.pod = Some(crate::api::PodStatus {
            started_at: Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(minute(99))),
            ..crate::api::PodStatus::default()
        });
    });
    let plan = woken.decide(minute(100));
    assert_eq!((plan.does().as_str(), plan.status.unwrap().restarts), ("create pod", None));
}

#[test]
fn the_next_pod_waits_until_the_old_one_is_gone() {
    let going = town().awake().pod(pod("gas").ready().told_to_stop(minute(1))).recorded_pod(minute(0));
    let plan = going.decide(minute(2));
    assert_eq!((plan.phase(), plan.does().as_str()), ("Starting", ""));
    let going = mayor().pod(|p| p.ready().told_to_stop(minute(1)));
    let plan = going.decide(minute(2));
    assert_eq!((plan.phase(), plan.does().as_str()), ("Starting", ""));
}

#[test]
fn looking_twice_writes_once() {
    let young = |t: TownBuilder| t.pod(pod("gas"));
    let failed = pod("gas").created(minute(100)).exited(1, minute(100));
    for (case, town) in [
        ("starting", young(town().awake().always_on())),
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
        ("starting", mayor().pod(|p| p)),
        ("running", mayor().running()),
        ("backing off", failed(mayor().restarts(3, minute(90)))),
        ("vanished", mayor().recorded_pod(minute(100)).restarts(3, minute(90))),
    ] {
        let mayor = mayor.settled(second(6005));
        let again = mayor.decide(second(6015));
        assert_eq!(again.status, mayor.0.agent.status, "{case}");
    }
}
