//! Pods that do not start, do not stay or do not end: the messages, the retries, and the states that remain.

use super::build::{
    PodBuilder, Read, TownBuilder, mayor, minute, pod, polecat, running_town, second, sleep_time, town,
};
use crate::api::AsleepReason::{Idle, Suspended};
use crate::api::condition::{DEGRADED, READY, reason};
use crate::api::{Outcome, RestartsStatus, TownStatus, names};
use crate::lifecycle::{Plan, events_are_due, reads_secrets_of_town, starting};

fn restarts(plan: &Plan<TownStatus>) -> Option<(i32, i64)> {
    let r: RestartsStatus = plan.status.clone()?.restarts?;
    let began = r.window_start_time?.0.duration_since(minute(0)).as_mins();
    Some((r.count, began))
}

fn with(pod: PodBuilder) -> TownBuilder {
    town().awake().always_on().pod(pod)
}

// decisions 1.3; reports:P7, reports:P11
#[test]
fn start_fails_when_the_pod_is_not_ready_within_ten_minutes() {
    let town = with(pod("gas"));
    let early = town.decide(second(599));
    assert_eq!((early.is(DEGRADED), early.look_again), (false, Some(minute(10))));
    assert!(starting(&town.0, second(599)));
    let plan = town.decide(minute(10));
    assert_eq!((plan.phase(), plan.does().as_str()), ("Starting", "delete pod gas-pod"));
    let failed = plan.status.clone().unwrap().restarts.unwrap();
    assert_eq!((failed.count, failed.external), (1, true), "none of its containers ran");
    assert!(failed.message.contains("pod gas-pod was not Ready within 10 minutes"), "{}", failed.message);
    let mut gone = town.after(&plan);
    gone.0.pods.clear();
    assert_eq!(gone.decide(second(629)).look_again, Some(second(630)), "30 s after the failure");
    assert_eq!(gone.decide(second(630)).does(), "create pod");
    let mut hangs = pod("gas").unready(minute(0));
    hangs.0.trouble = Some((reason::CONTAINER_FAILED, "the probe does not answer".into()));
    let plan = with(hangs).start_began(minute(0)).recorded_pod(minute(0)).decide(minute(10));
    let failed = plan.status.unwrap().restarts.unwrap();
    assert_eq!((failed.external, failed.message.as_str()), (false, "the probe does not answer"));
}

// reports:P11
#[test]
fn pod_events_are_read_when_a_bound_pod_has_no_cause_in_its_status() {
    let mut bound = pod("gas");
    bound.0.node = Some("node-1".into());
    let reads = [30, 60, 179, 180].map(|at| with(bound.clone()).decide(second(at)).look_again.unwrap());
    assert_eq!(reads, [minute(1), minute(3), minute(3), minute(10)]);
    let mut young_or_explained = [bound.clone(), pod("gas"), bound.clone().trouble(reason::IMAGE_PULL, "x")];
    young_or_explained[0].0.created = Some(second(1));
    for pod in young_or_explained.into_iter().chain([bound.clone().ready(), leaving("gas")]) {
        assert!(!events_are_due(&pod.0, minute(1)), "{pod:?}");
    }
    assert!(events_are_due(&bound.0, minute(1)));
    let text = "pod gas-pod does not start: FailedMount: secret \"nope\" not found";
    let explained = with(bound.trouble(reason::CONTAINER_CREATING, text));
    assert_eq!(explained.decide(minute(1)).reason(DEGRADED), reason::CONTAINER_CREATING);
    let failed = explained.decide(minute(10)).status.unwrap().restarts.unwrap();
    assert_eq!((failed.message.as_str(), failed.external), (text, true));
}

#[test]
fn unready_pod_that_was_ready_before_is_kept_and_the_town_is_degraded() {
    let late = with(pod("gas").created(minute(0)).unready(minute(100))).recorded_pod(minute(0));
    assert!(!late.decide(minute(109)).is(DEGRADED), "ten minutes since it was Ready last");
    let plan = late.decide(minute(110));
    assert_eq!((plan.does().as_str(), plan.reason(DEGRADED)), ("", reason::NOT_READY));
}

#[test]
fn start_without_a_pod_fails_with_the_message_of_the_refusal() {
    let refused = town().awake().always_on().start_began(minute(0)).status(|s| {
        super::build::set(&mut s.conditions, DEGRADED, true, reason::QUOTA_EXCEEDED);
        s.conditions.last_mut().unwrap().message = "exceeded quota: pods".into();
    });
    assert_eq!(refused.decide(second(599)).does(), "create pod", "it is tried again meanwhile");
    let plan = refused.decide(minute(10));
    let failed = plan.status.clone().unwrap().restarts.unwrap();
    assert_eq!((plan.does().as_str(), failed.count, failed.external), ("", 1, true));
    assert_eq!(failed.message, "exceeded quota: pods");
    let again = refused.after(&plan).decide(second(630));
    assert_eq!(again.does(), "create pod");
    assert_eq!(again.status.unwrap().start_time.unwrap().0, second(630), "the next start has its full time");
}

// code:A3, code:A15, reports:P7
#[test]
fn session_agent_fails_after_its_start_limit_and_keeps_no_town_awake() {
    let mut agent = mayor().asked().hook("b1").retry(2, "30m");
    let mut now = minute(0);
    for failures in 1..=2 {
        let plan = agent.decide(now);
        assert_eq!(plan.does(), "create token, create pod", "{failures}");
        agent = agent.after(&plan);
        now = now.checked_add(k8s_openapi::jiff::SignedDuration::from_mins(10)).unwrap();
        let plan = agent.decide(now);
        assert_eq!(plan.status.as_ref().unwrap().restarts.as_ref().unwrap().count, failures);
        agent = agent.after(&plan);
        now = plan.look_again.unwrap();
    }
    let plan = agent.decide(now.checked_sub(k8s_openapi::jiff::SignedDuration::from_secs(1)).unwrap());
    assert_eq!(plan.phase(), "Failed");
    let town = running_town().with(agent.after(&plan)).decide(minute(31));
    assert_eq!(town.phase(), "Draining", "the town has no other work");
}

#[test]
fn container_restarts_of_a_terminating_or_ended_pod_are_not_counted() {
    for (case, pod) in [
        ("told to stop", pod("gas").ready().told_to_stop(minute(1))),
        ("ended", pod("gas").exited(1, minute(1))),
    ] {
        let plan = with(pod.crashed(3)).recorded_pod(minute(0)).decide(second(61));
        assert_eq!(restarts(&plan), None, "{case}");
    }
}

#[test]
fn pod_trouble_is_shown_within_seconds_with_the_message_of_the_cluster() {
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
fn container_restart_by_the_kubelet_is_counted_once() {
    let mut twice = pod("gas").ready().crashed(2);
    twice.0.ready_since = Some(minute(20));
    let town = with(twice).recorded_pod(minute(0));
    let plan = town.decide(minute(20));
    assert_eq!((plan.does().as_str(), restarts(&plan)), ("", Some((2, 20))));
    let counted = town.after(&plan);
    assert_eq!(restarts(&counted.decide(minute(21))), Some((2, 20)), "not again");
    let mut more = counted;
    more.0.pods[0].container_restarts = 3;
    more.0.pods[0].ready_since = Some(minute(25));
    assert_eq!(restarts(&more.decide(minute(25))), Some((3, 20)), "in the same row");
}

#[test]
fn town_past_its_limit_deletes_the_pod_and_tries_again_once_a_window() {
    let fifth =
        with(pod("gas").unready(minute(12)).crashed(5)).recorded_pod(minute(0)).restarts(4, minute(2));
    let mut fifth = fifth.status(|s| s.pod.as_mut().unwrap().container_restarts = 4);
    fifth.0.pods[0].last_crash = Some("container main ended with exit code 3".into());
    let plan = fifth.decide(minute(12));
    assert_eq!((plan.phase(), plan.does().as_str()), ("Starting", "delete pod gas-pod"));
    assert_eq!((plan.reason(DEGRADED), restarts(&plan)), (reason::START_FAILED, Some((5, 2))));
    for part in [
        "5 starts of the town's pod failed in a row",
        "container main ended with exit code 3",
        "2030-01-01T00:42:00Z",
    ] {
        assert!(plan.message(DEGRADED).contains(part), "{}", plan.message(DEGRADED));
    }
    assert!(!starting(&fifth.0, minute(12)));
    fifth = fifth.after(&plan);
    let mut gone = fifth.clone();
    gone.0.pods.clear();
    let waits = gone.decide(minute(20));
    assert_eq!((waits.does().as_str(), waits.look_again), ("", Some(minute(42))));
    assert_eq!(waits.reason(DEGRADED), reason::START_FAILED);
    assert_eq!(waits.message(DEGRADED), plan.message(DEGRADED), "the cause is still shown");
    let settled = gone.clone().after(&waits);
    assert_eq!(settled.decide(minute(25)).status, settled.0.town.status, "said once");
    let half_open = settled.decide(minute(42));
    assert_eq!((half_open.does().as_str(), half_open.is(DEGRADED)), ("create pod", false));
    let mut again = settled.after(&half_open);
    again.0.pods = vec![pod("gas").created(minute(42)).exited(1, minute(43)).0];
    let plan = again.decide(minute(43));
    assert_eq!(
        (plan.does().as_str(), restarts(&plan).unwrap().0),
        ("delete pod gas-pod", 6),
        "one attempt a window"
    );
}

#[test]
fn failed_start_count_survives_a_restart_of_the_operator() {
    // The status has all data: a snapshot after a restart has no other.
    let held = town().awake().always_on().restarts(5, minute(10));
    assert_eq!(held.decide(minute(39)).does(), "");
    assert_eq!(held.decide(minute(40)).does(), "create pod");
}

// code:A17
#[test]
fn pod_revision_change_resets_the_failed_starts_but_another_edit_does_not() {
    let held = || {
        town().awake().always_on().restarts(5, minute(10)).status(|s| {
            s.restarts.as_mut().unwrap().revision = "r1".into();
        })
    };
    assert_eq!(held().decide(minute(20)).does(), "");
    assert_eq!(
        held().edited().backlog(1, 0, 0).decide(minute(20)).does(),
        "",
        "a tracker writes the backlog"
    );
    let plan = held().edited().revision("r2").decide(minute(20));
    assert_eq!((plan.does().as_str(), restarts(&plan)), ("create pod", None));
}

// decisions 5.2
#[test]
fn change_of_a_named_secret_ends_the_count_of_failed_starts() {
    let town = |recorded: &str, secrets: Option<&str>| {
        let mut town = town().awake().always_on().restarts(5, minute(10)).status(|s| {
            recorded.clone_into(&mut s.restarts.as_mut().unwrap().revision);
        });
        town.0.secrets = secrets.map(str::to_owned);
        town.decide(minute(20))
    };
    let mayor = |recorded: &str, secrets: Option<&str>| {
        let mayor = mayor().restarts(5, minute(10));
        let starts = crate::lifecycle::retry::revision(&mayor.0.agent, "r1");
        let mut mayor = mayor.status(|s| {
            s.restarts.as_mut().unwrap().revision = recorded.replace("r1", &starts);
        });
        mayor.0.secrets = secrets.map(str::to_owned);
        mayor.decide(minute(20))
    };
    for (case, recorded, secrets, new_chance) in [
        ("not read", "r1.s1", None, false),
        ("unchanged", "r1.s1", Some("s1"), false),
        ("read for the first time", "r1", Some("s1"), false),
        ("changed", "r1.s1", Some("s2"), true),
    ] {
        for plan in [town(recorded, secrets).does(), mayor(recorded, secrets).does()] {
            assert_eq!(plan == "create pod", new_chance, "{case}: {plan}");
        }
        let kept = town(recorded, secrets).status.unwrap().restarts.map(|r| r.revision);
        assert_eq!(kept.as_deref(), (!new_chance).then_some("r1.s1").filter(|_| !new_chance), "{case}");
    }
}

#[test]
fn named_secrets_are_read_past_the_limit_only_as_often_as_an_attempt_is_due() {
    let held = |count: i32, recorded: &str| {
        town().awake().always_on().restarts(count, minute(10)).status(|s| {
            recorded.clone_into(&mut s.restarts.as_mut().unwrap().revision);
        })
    };
    let reads = |town: TownBuilder, now| reads_secrets_of_town(&town.0.town, false, now);
    assert!(!reads(held(4, "r1"), minute(11)), "below the limit");
    assert!(reads(held(5, "r1"), minute(11)), "nothing to compare with yet");
    assert!(!reads(held(5, "r1.s1"), minute(39)), "no attempt is due");
    assert!(reads(held(5, "r1.s1"), minute(40)));
    assert!(reads(held(5, "r1.s1").edited(), minute(11)));
    assert!(!reads_secrets_of_town(&held(5, "r1.s1").0.town, true, minute(40)), "the attempt runs");
}

#[test]
fn town_that_could_not_start_sleeps_when_idle_and_clears_its_failed_starts() {
    let held = town().awake().restarts(5, minute(10));
    assert_eq!(held.decide(minute(30)).phase(), "Draining");
    let asleep = town().draining(Idle, minute(30)).restarts(5, minute(10)).decide(minute(30));
    assert_eq!((asleep.phase(), restarts(&asleep)), ("Asleep", None));
    let busy = held.with(polecat("toast").hook("b1"));
    assert_eq!(busy.decide(minute(30)).phase(), "Starting", "not while there is work");
}

#[test]
fn pod_that_becomes_ready_past_the_limit_is_kept() {
    let plan = with(pod("gas").ready()).restarts(5, minute(10)).decide(minute(20));
    assert_eq!((plan.phase(), plan.does().as_str()), ("Idle", ""));
}

#[test]
fn successful_start_alone_does_not_clear_the_record() {
    let up = with(pod("gas").created(minute(11)).ready()).recorded_pod(minute(11)).restarts(4, minute(10));
    assert_eq!(restarts(&up.decide(minute(12))), Some((4, 10)));
}

#[test]
fn failed_pod_shows_its_reason_and_exit_code() {
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

/// The pod is deleted at minute 1, with a grace period of a minute.
fn leaving(owner: &str) -> PodBuilder {
    pod(owner).ready().told_to_stop(minute(1)).stops_by(minute(2))
}

/// The time, half a minute after the grace period, at which the pod is overdue.
const OVERDUE: i64 = 150;

#[test]
fn pod_on_a_lost_node_is_named_and_not_replaced() {
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
fn draining_town_is_degraded_when_its_node_is_lost() {
    let town = town().suspended().pod(leaving("gas")).draining(Suspended, minute(1));
    let early = town.decide(second(OVERDUE - 1));
    assert_eq!((early.is(DEGRADED), early.look_again), (false, Some(second(OVERDUE))));
    let plan = town.decide(second(OVERDUE));
    assert_eq!((plan.phase(), plan.reason(DEGRADED)), ("Draining", reason::NODE_LOST));
}

#[test]
fn ended_pod_is_named_when_a_foreign_finalizer_blocks_its_deletion() {
    let held = |owner: &str| {
        let mut pod = leaving(owner).exited(0, minute(1)).told_to_stop(minute(1)).stops_by(minute(2));
        pod.0.finalizers = vec!["elsewhere/hold".into()];
        pod
    };
    let plan = with(held("gas")).decide(second(OVERDUE));
    assert_eq!(plan.reason(DEGRADED), reason::BLOCKED);
    assert_eq!(
        plan.message(DEGRADED),
        "pod gas-pod has ended, and the finalizers elsewhere/hold block its deletion"
    );
    assert_eq!(plan.does(), "", "nobody else's finalizer is touched, and nothing takes its place");
}

// reports:P2
#[test]
fn ended_pod_held_by_the_result_finalizer_is_not_reported_as_node_lost() {
    let mut held = leaving("gas").exited(0, minute(1)).told_to_stop(minute(1)).stops_by(minute(2));
    held.0.finalizers = vec![names::RESULT_FINALIZER.into()];
    let plan = with(held).decide(second(OVERDUE));
    assert_eq!(plan.reason(DEGRADED), reason::BLOCKED);
    let text = plan.message(DEGRADED);
    assert!(text.contains(names::RESULT_FINALIZER) && !text.contains("Node"), "{text}");
}

#[test]
fn town_without_its_turn_is_pending_and_starts_no_pod() {
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
fn sleeping_town_keeps_its_wake_request_until_its_turn() {
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
fn town_takes_a_start_turn_only_while_it_starts() {
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
fn attempt_on_a_lost_node_is_not_restarted_until_the_pod_is_gone() {
    let lost = polecat("toast").hook("b1").attempt("b1", 1, minute(0)).pod(|_| leaving("toast"));
    for at in [3, 60, 6000] {
        assert_eq!(lost.decide(minute(at)).does(), "", "{at}");
    }
    let gone = lost.pod(|p| p.killed(minute(1)));
    let work = gone.decide(minute(60)).status.unwrap().work.unwrap();
    assert_eq!((work.outcome, work.attempts), (Some(Outcome::Interrupted), 0));
}

#[test]
fn sleeping_town_without_work_has_no_sleep_time() {
    assert_eq!(sleep_time(&town().asleep(Idle).decide(minute(1))), None);
}
