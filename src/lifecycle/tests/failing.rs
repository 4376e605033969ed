//! Pods that do not come, do not stay or do not go: what is said, what is tried again, and what is left alone.

use super::build::{
    PodBuilder, Read, TownBuilder, mayor, minute, pod, polecat, running_town, second, sleep_at, town,
};
use crate::api::AsleepReason::{Idle, Suspended};
use crate::api::condition::{DEGRADED, READY, RECONCILING, reason};
use crate::api::{Outcome, RestartsStatus, TownStatus, names};
use crate::lifecycle::{Plan, starting};

fn restarts(plan: &Plan<TownStatus>) -> Option<(i32, i64)> {
    let r: RestartsStatus = plan.status.clone()?.restarts?;
    let began = r.window_started_at?.0.duration_since(minute(0)).as_mins();
    Some((r.count, began))
}

fn with(pod: PodBuilder) -> TownBuilder {
    town().awake().always_on().pod(pod)
}

#[test]
fn d1_a_pod_that_is_not_ready_for_ten_minutes_is_said_and_left_to_try() {
    for (case, pod) in [("never was", pod("gas")), ("is not any more", pod("gas").unready(minute(0)))] {
        let town = with(pod);
        let early = town.decide(second(599));
        assert_eq!((early.is(DEGRADED), early.look_again), (false, Some(minute(10))), "{case}");
        assert!(starting(&town.0, second(599)), "{case}: it takes its turn");
        let plan = town.decide(minute(10));
        assert_eq!((plan.phase(), plan.does().as_str()), ("Starting", ""), "{case}: unknown is not failed");
        assert_eq!((plan.reason(DEGRADED), plan.is(RECONCILING)), (reason::NOT_READY, true), "{case}");
        assert!(!starting(&town.0, minute(10)), "{case}: another town's turn");
        assert_eq!(plan.look_again, None, "{case}");
    }
    let late = with(pod("gas").created(minute(0)).unready(minute(100)));
    assert!(!late.decide(minute(109)).is(DEGRADED), "ten minutes since it was Ready last");
    assert!(late.decide(minute(110)).is(DEGRADED));
}

#[test]
fn what_the_containers_of_a_pod_did_that_ends_are_no_failed_starts() {
    for (case, pod) in [
        ("told to stop", pod("gas").ready().told_to_stop(minute(1))),
        ("ended", pod("gas").exited(1, minute(1))),
    ] {
        let plan = with(pod.crashed(3)).recorded_pod(minute(0)).decide(second(61));
        assert_eq!(restarts(&plan), None, "{case}");
    }
}

#[test]
fn t15_a_start_that_takes_long_is_ready_when_it_is() {
    let slow = with(pod("gas")).settled(minute(10));
    assert_eq!(slow.decide(minute(11)).reason(DEGRADED), reason::NOT_READY);
    let mut came = slow;
    came.0.pods = vec![pod("gas").ready().0];
    let plan = came.decide(minute(12));
    assert_eq!((plan.phase(), plan.is(DEGRADED)), ("Idle", false));
}

#[test]
fn k15_a_reason_that_the_cluster_gives_is_shown_within_seconds_in_its_words() {
    for why in [reason::IMAGE_PULL, reason::UNSCHEDULABLE, reason::CONTAINER_FAILED] {
        let mut troubled = pod("gas").trouble(why, "its own text");
        troubled.0.trouble_since = Some(minute(5));
        let town = with(troubled);
        assert!(!town.decide(minute(5)).is(DEGRADED), "{why}: not for what ends by itself");
        assert_eq!(town.decide(minute(5)).look_again, Some(second(303)));
        let plan = town.decide(second(303));
        assert_eq!((plan.phase(), plan.reason(DEGRADED)), ("Starting", why));
        assert_eq!((plan.message(DEGRADED), plan.does().as_str()), ("its own text", ""), "{why}");
        assert!(!starting(&town.0, second(303)), "{why}: its place is another's");
    }
}

#[test]
fn each_crash_that_the_kubelet_answers_with_a_new_start_counts_once() {
    let town = with(pod("gas").ready().crashed(2)).recorded_pod(minute(0));
    let plan = town.decide(minute(20));
    assert_eq!((plan.does().as_str(), restarts(&plan)), ("", Some((2, 20))));
    let counted = town.after(&plan);
    assert_eq!(restarts(&counted.decide(minute(21))), Some((2, 20)), "not again");
    let mut more = counted;
    more.0.pods[0].container_restarts = 3;
    assert_eq!(restarts(&more.decide(minute(25))), Some((3, 20)), "in the same window");
    assert_eq!(restarts(&more.decide(minute(50))), Some((1, 50)), "in the next one");
}

#[test]
fn t17_after_five_failed_starts_in_half_an_hour_the_pod_is_deleted_and_the_next_waits_for_the_windows_end() {
    let fifth =
        with(pod("gas").unready(minute(12)).crashed(5)).recorded_pod(minute(0)).restarts(4, minute(2));
    let mut fifth = fifth.status(|s| s.pod.as_mut().unwrap().container_restarts = 4);
    let plan = fifth.decide(minute(12));
    assert_eq!((plan.phase(), plan.does().as_str()), ("Starting", "delete pod gas-pod"));
    assert_eq!((plan.reason(DEGRADED), restarts(&plan)), (reason::START_FAILED, Some((5, 2))));
    assert!(
        plan.message(DEGRADED).contains("5 starts failed within 30 minutes"),
        "{}",
        plan.message(DEGRADED)
    );
    assert!(plan.message(DEGRADED).contains("2030-01-01T00:32:00Z"), "{}", plan.message(DEGRADED));
    assert!(!starting(&fifth.0, minute(12)));
    fifth = fifth.after(&plan);
    let mut gone = fifth.clone();
    gone.0.pods.clear();
    let waits = gone.decide(minute(20));
    assert_eq!((waits.does().as_str(), waits.look_again), ("", Some(minute(32))));
    assert_eq!(waits.reason(DEGRADED), reason::START_FAILED);
    assert_eq!(waits.message(DEGRADED), plan.message(DEGRADED), "what the last one died of is still said");
    let settled = gone.clone().after(&waits);
    assert_eq!(settled.decide(minute(25)).status, settled.0.town.status, "said once");
    let half_open = settled.decide(minute(32));
    assert_eq!((half_open.does().as_str(), half_open.is(DEGRADED)), ("create pod", false));
    let mut again = settled.after(&half_open);
    again.0.pods = vec![pod("gas").created(minute(32)).exited(1, minute(33)).0];
    assert_eq!(again.decide(minute(33)).reason(READY), reason::BACK_OFF, "the next window begins with one");
    assert_eq!(restarts(&again.decide(minute(34))), Some((1, 34)));
}

#[test]
fn c6_the_count_of_failed_starts_survives_a_restart_of_the_operator() {
    // It is all in status: a fresh snapshot has nothing else.
    let held = town().awake().always_on().restarts(5, minute(10));
    assert_eq!(held.decide(minute(39)).does(), "");
    assert_eq!(held.decide(minute(40)).does(), "create pod");
}

#[test]
fn an_edit_of_the_spec_is_a_new_chance() {
    let held = || town().awake().always_on().restarts(5, minute(10));
    assert_eq!(held().decide(minute(20)).does(), "");
    let plan = held().edited().decide(minute(20));
    assert_eq!((plan.does().as_str(), restarts(&plan)), ("create pod", None));
    let same = held().status(|s| s.observed_generation = Some(1));
    assert_eq!(same.decide(minute(20)).does(), "", "only an edit is");
}

#[test]
fn an_edit_is_a_new_chance_also_while_the_last_pod_is_still_going() {
    let going = pod("gas").unready(minute(12)).told_to_stop(minute(13)).stops_by(minute(14));
    let edited = with(going).restarts(5, minute(10)).edited();
    let mut gone = edited.settled(minute(13));
    gone.0.pods.clear();
    assert_eq!(gone.decide(minute(14)).does(), "create pod");
}

#[test]
fn a_town_that_could_not_start_sleeps_as_any_idle_one_and_takes_its_record_with_it() {
    let held = town().awake().restarts(5, minute(10));
    assert_eq!(held.decide(minute(30)).phase(), "Draining");
    let asleep = town().draining(Idle, minute(30)).restarts(5, minute(10)).decide(minute(30));
    assert_eq!((asleep.phase(), restarts(&asleep)), ("Asleep", None));
    let busy = held.with(polecat("toast").hook("b1"));
    assert_eq!(busy.decide(minute(30)).phase(), "Starting", "not while there is work");
}

#[test]
fn a_pod_that_came_up_after_all_is_kept() {
    let plan = with(pod("gas").ready()).restarts(5, minute(10)).decide(minute(20));
    assert_eq!((plan.phase(), plan.does().as_str()), ("Idle", ""));
}

#[test]
fn c9_a_successful_start_alone_does_not_clear_the_record() {
    let up = with(pod("gas").created(minute(11)).ready()).recorded_pod(minute(11)).restarts(4, minute(10));
    assert_eq!(restarts(&up.decide(minute(12))), Some((4, 10)));
}

#[test]
fn an_agents_pod_is_never_given_up() {
    let crashing = mayor().pod(|p| p.unready(minute(1)).crashed(50)).restarts(50, minute(0));
    assert_eq!(crashing.decide(minute(2)).does(), "");
}

#[test]
fn k16_what_a_pod_died_of_is_said() {
    let mut killed = pod("gas").exited(137, minute(1));
    killed = killed.trouble(reason::OOM_KILLED, "container main was killed: out of memory");
    let plan = with(killed.clone()).decide(minute(1));
    assert_eq!((plan.reason(READY), plan.reason(DEGRADED)), (reason::BACK_OFF, reason::OOM_KILLED));
    assert!(plan.message(DEGRADED).contains("exit code 137"), "{}", plan.message(DEGRADED));
    let agent = mayor().pod(|_| killed.clone()).decide(minute(1));
    assert_eq!((agent.phase(), agent.reason(DEGRADED)), ("Starting", reason::OOM_KILLED));
    let failed = with(pod("gas").exited(3, minute(1))).decide(minute(1));
    assert_eq!(failed.reason(DEGRADED), reason::CONTAINER_FAILED);
    assert!(failed.message(DEGRADED).contains("exit code 3"));
}

/// Told to stop at minute 1, with a grace period of a minute.
fn leaving(owner: &str) -> PodBuilder {
    pod(owner).ready().told_to_stop(minute(1)).stops_by(minute(2))
}

/// Half a minute after its grace period, a pod should be gone.
const OVERDUE: i64 = 150;

#[test]
fn k14_a_pod_that_its_node_does_not_let_go_is_named_and_not_replaced() {
    let town = with(leaving("gas"));
    let early = town.decide(second(OVERDUE - 1));
    assert_eq!((early.is(DEGRADED), early.look_again), (false, Some(second(OVERDUE))));
    let plan = town.decide(second(OVERDUE));
    assert_eq!((plan.phase(), plan.does().as_str()), ("Starting", ""), "it may still run");
    assert_eq!((plan.reason(DEGRADED), plan.look_again), (reason::NODE_LOST, None));
    let text = plan.message(DEGRADED);
    for word in ["pod gas-pod", "node node-1", "delete the Node object", "node.kubernetes.io/out-of-service"]
    {
        assert!(text.contains(word), "{word}: {text}");
    }
    let task = polecat("toast").hook("b1").attempt("b1", 1, minute(0)).pod(|_| leaving("toast"));
    let early = task.decide(second(OVERDUE - 1));
    assert_eq!((early.status.is_none(), early.look_again), (true, Some(second(OVERDUE))));
    let plan = task.decide(second(OVERDUE));
    assert_eq!((plan.does().as_str(), plan.reason(DEGRADED)), ("", reason::NODE_LOST));
    let mayor = mayor().pod(|_| leaving("mayor"));
    assert!(!mayor.decide(second(OVERDUE - 1)).is(DEGRADED));
    let plan = mayor.decide(second(OVERDUE));
    assert_eq!((plan.does().as_str(), plan.reason(DEGRADED)), ("", reason::NODE_LOST));
}

#[test]
fn a_town_that_cannot_fall_asleep_says_why() {
    let town = town().suspended().pod(leaving("gas")).draining(Suspended, minute(1));
    let early = town.decide(second(OVERDUE - 1));
    assert_eq!((early.is(DEGRADED), early.look_again), (false, Some(second(OVERDUE))));
    let plan = town.decide(second(OVERDUE));
    assert_eq!((plan.phase(), plan.reason(DEGRADED)), ("Draining", reason::NODE_LOST));
}

#[test]
fn k12_an_ended_pod_that_somebody_elses_finalizer_holds_is_named_with_it() {
    let held = |owner: &str| {
        let mut pod = leaving(owner).exited(0, minute(1)).told_to_stop(minute(1)).stops_by(minute(2));
        pod.0.finalizers = vec!["elsewhere/hold".into(), names::RESULT_FINALIZER.into()];
        pod
    };
    let plan = with(held("gas")).decide(second(OVERDUE));
    assert_eq!(plan.reason(DEGRADED), reason::BLOCKED);
    assert_eq!(plan.message(DEGRADED), "pod gas-pod has ended and is held by the finalizers elsewhere/hold");
    assert_eq!(plan.does(), "", "nobody else's finalizer is touched, and nothing takes its place");
}

#[test]
fn who_waits_for_its_turn_says_so_and_starts_nothing() {
    let new = town().not_its_turn();
    let plan = new.decide(minute(1));
    assert_eq!((plan.phase(), plan.does().as_str()), ("Pending", ""));
    assert_eq!((plan.reason(READY), plan.look_again), (reason::WAITING_FOR_TURN, Some(minute(25))));
    let agent = mayor().of(&new.after(&plan)).decide(minute(1));
    assert_eq!(agent.does(), "", "nor do its agents");
    let crashed = with(pod("gas").exited(1, minute(0))).not_its_turn();
    assert_eq!(crashed.decide(minute(1)).does(), "delete pod gas-pod", "what ended goes");
    let running = running_town().not_its_turn().decide(minute(1));
    assert_eq!((running.phase(), running.does().as_str()), ("Idle", ""), "what runs runs on");
    let replaced =
        town().awake().status(|s| s.phase = Some("Starting".into())).not_its_turn().decide(minute(1));
    assert_eq!((replaced.phase(), replaced.does().as_str()), ("Starting", ""));
}

#[test]
fn a_sleeping_town_sleeps_on_until_it_is_its_turn_and_its_wake_is_not_lost() {
    let waits = town()
        .asleep(Idle)
        .settled(minute(1))
        .with(polecat("toast").hook("b1").seen())
        .wake_request("please");
    let asleep = waits.clone().not_its_turn();
    assert!(starting(&asleep.0, minute(60)), "it asks for its turn");
    let plan = asleep.decide(minute(60));
    assert_eq!((plan.phase(), plan.does().as_str()), ("Asleep", ""));
    assert_eq!(plan.status.as_ref().unwrap().handled_wake_request, "", "not answered yet");
    let plan = waits.after(&plan).decide(minute(61));
    assert_eq!(plan.phase(), "Starting");
}

#[test]
fn who_takes_a_turn_to_start() {
    for (case, town, takes) in vec![
        ("new", town(), true),
        ("awake, without a pod", town().awake(), true),
        ("a pod that is not Ready", town().awake().pod(pod("gas")), true),
        ("asleep, with work", town().asleep(Idle).with(polecat("toast").hook("b1").seen()), true),
        ("running", running_town(), false),
        ("asleep", town().asleep(Idle), false),
        ("asleep, with a pod of its own that is late", town().asleep(Idle).pod(pod("gas").ready()), false),
        ("falling asleep", town().draining(Idle, minute(1)), false),
        ("suspended", town().suspended(), false),
        ("waiting for its next start", town().awake().restarts(5, minute(0)), false),
        ("backing off", town().awake().pod(pod("gas").exited(1, minute(1))), false),
        ("its old pod goes", town().awake().pod(pod("gas").told_to_stop(minute(1))), false),
        ("in trouble", town().awake().pod(pod("gas").trouble(reason::IMAGE_PULL, "x")), false),
        ("crashed", town().awake().pod(pod("gas").unready(minute(1)).crashed(1)), false),
        ("without a pod to start", town().no_template(), false),
        ("not adopted", town().not_adopted(), false),
        ("being deleted", town().deleting(minute(1)), false),
        ("tombstoned", town().tombstone("x"), false),
    ] {
        assert_eq!(starting(&town.0, minute(1)), takes, "{case}");
    }
}

#[test]
fn e10_an_attempt_on_a_lost_node_is_not_begun_anew_before_the_pod_is_proven_gone() {
    let lost = polecat("toast").hook("b1").attempt("b1", 1, minute(0)).pod(|_| leaving("toast"));
    for at in [3, 60, 6000] {
        assert_eq!(lost.decide(minute(at)).does(), "", "{at}");
    }
    let gone = lost.pod(|p| p.killed(minute(1)));
    let work = gone.decide(minute(60)).status.unwrap().work.unwrap();
    assert_eq!((work.outcome, work.attempts), (Some(Outcome::Interrupted), 0));
}

#[test]
fn a_sleeping_town_without_work_shows_no_time_to_sleep() {
    assert_eq!(sleep_at(&town().asleep(Idle).decide(minute(1))), None);
}
