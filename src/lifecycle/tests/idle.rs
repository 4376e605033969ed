//! The idle clock: when it runs, when it stops, and that it survives every restart of the operator.

use k8s_openapi::jiff::{SignedDuration, Timestamp};

use super::build::{
    Read, TownBuilder, mayor, minute, pod, polecat, quiet, running_town, says, second, sleep_time, town, uid,
    unheard,
};
use crate::api::AsleepReason::{ActivityUnknown, Idle};
use crate::api::condition::{ACTIVE, ASLEEP, DEGRADED, reason};
use crate::api::{ReportedState, TownStatus};
use crate::lifecycle::{Plan, ProbeFacts};

/// The operator tolerates this number of failed probes; after one more, the activity is unknown.
const HICCUP: u32 = 2;

fn last_active(plan: &Plan<TownStatus>) -> Option<Timestamp> {
    plan.status.as_ref()?.last_active_time.as_ref().map(|t| t.0)
}

/// A town that never had work, and whose pod has not answered since minute 10.
fn unknown_since_ten(now: i64) -> TownBuilder {
    running_town().heard(minute(9), quiet()).settled(minute(9)).silent(3, minute(10), minute(now))
}

#[test]
fn idle_timer_starts_at_the_latest_of_creation_pod_wake_and_last_work() {
    let pod_at = |m| town().awake().pod(pod("gas").created(minute(m)).ready());
    for (case, town, since) in [
        ("the pod started last", pod_at(20).woke(minute(10)).last_active(minute(5)), 20),
        ("it was woken last", pod_at(5).woke(minute(20)).last_active(minute(10)), 20),
        ("work was last", pod_at(5).woke(minute(10)).last_active(minute(20)), 20),
        ("created last", pod_at(5).created(minute(20)), 20),
    ] {
        assert_eq!(sleep_time(&town.decide(minute(21))), Some(minute(since + 30)), "{case}");
        assert_eq!(town.decide(second((since + 30) * 60 - 1)).phase(), "Idle", "{case}");
        assert_eq!(town.decide(minute(since + 30)).phase(), "Draining", "{case}");
    }
}

// Review P22.
#[test]
fn town_sleeps_when_its_pod_is_never_ready() {
    let unscheduled = || pod("gas").trouble(reason::UNSCHEDULABLE, "0/3 nodes are available");
    let starting = town().awake().woke(minute(0)).pod(unscheduled());
    assert_eq!(starting.decide(minute(9)).phase(), "Starting");
    let (before, after) = (starting.decide(second(40 * 60 - 1)), starting.decide(minute(40)));
    assert_eq!((before.phase(), before.look_again), ("Starting", Some(minute(40))), "10 and 30 minutes");
    assert_eq!((after.phase(), after.status.as_ref().unwrap().asleep_reason), ("Draining", Some(Idle)));
    // The start of the clock is the same for all pods of the start.
    let mut replaced = starting.settled(minute(11));
    replaced.0.pods = vec![unscheduled().created(minute(39)).0];
    assert_eq!(replaced.decide(minute(40)).phase(), "Draining");
    let evicted_again = town().awake().woke(minute(0)).decide(minute(0));
    let evicted_again = town().awake().after(&evicted_again).pod(pod("gas").created(minute(39)));
    assert_eq!(evicted_again.decide(minute(40)).phase(), "Draining", "though no decision saw the first one");
}

#[test]
fn idle_timer_starts_when_the_pod_is_first_ready() {
    let starting = town().awake().woke(minute(0)).pod(pod("gas")).settled(minute(1));
    let mut ready = starting;
    ready.0.pods = vec![pod("gas").ready_since(minute(4)).0];
    let settled = ready.settled(minute(4));
    assert_eq!(sleep_time(&settled.decide(minute(5))), Some(minute(34)));
    // A later readiness does not change it.
    let mut flapped = settled;
    flapped.0.pods = vec![pod("gas").ready_since(minute(20)).0];
    assert_eq!(flapped.decide(minute(34)).phase(), "Draining");
    let mut replaced = flapped.clone();
    replaced.0.pods = vec![pod("gas").created(minute(30)).ready_since(minute(31)).0];
    assert_eq!(
        replaced.decide(minute(34)).phase(),
        "Draining",
        "nor does a pod that took the place of another"
    );
}

#[test]
fn idle_timer_restarts_when_a_user_has_the_pod_replaced() {
    let idle = running_town().settled(minute(1)).restart_at("now");
    let plan = idle.decide(minute(29));
    assert_eq!(plan.does(), "delete pod gas-pod");
    let mut going = idle.after(&plan);
    going.0.pods.clear();
    let created = going.settled(minute(29));
    let mut successor = pod("gas").created(minute(29)).ready_since(minute(30));
    successor.0.restart_at = Some("now".into());
    assert_eq!(sleep_time(&created.pod(successor).decide(minute(30))), Some(minute(60)));
}

// Review code:A10c.
#[test]
fn activity_is_unknown_when_the_last_answer_is_older_than_three_periods() {
    let idle = running_town().heard(minute(10), quiet()).settled(minute(10));
    let bound = 13 * 60 + 5;
    assert_eq!(idle.decide(second(bound - 1)).reason(ACTIVE), reason::NO_WORK);
    let plan = idle.decide(second(bound));
    assert_eq!(
        (plan.reason(ACTIVE), plan.reason(DEGRADED)),
        (reason::ACTIVITY_UNKNOWN, reason::ACTIVITY_UNKNOWN)
    );
    assert!(
        plan.message(DEGRADED).contains("pod gas-pod has not been probed since"),
        "{}",
        plan.message(DEGRADED)
    );
    let busy = running_town().heard(minute(10), says("x", ReportedState::Working)).settled(minute(10));
    assert!(busy.decide(second(619)).is(ACTIVE));
    assert!(!busy.decide(second(620)).is(ACTIVE), "the cadence of a town with work is 5 s");
}

#[test]
fn activity_becomes_unknown_when_the_pod_is_never_probed() {
    let mut waiting = running_town().asked();
    waiting.0.probe.wanted_since = Some(minute(1));
    waiting.0.probe.under_way = true;
    let bound = second(4 * 60 + 5);
    let plan = waiting.decide(minute(2));
    assert_eq!((plan.reason(ACTIVE), plan.look_again), (reason::NO_WORK, Some(bound)));
    assert_eq!(waiting.decide(bound).reason(ACTIVE), reason::ACTIVITY_UNKNOWN);
}

#[test]
fn town_sleeps_within_a_bound_when_its_pod_has_no_address() {
    let mut town = running_town().asked();
    town.0.pods[0].address = None;
    let plan = town.decide(minute(1));
    assert_eq!(plan.reason(ACTIVE), reason::ACTIVITY_UNKNOWN);
    assert!(plan.message(DEGRADED).contains("no address of its own"), "{}", plan.message(DEGRADED));
    let asleep = town.after(&plan).decide(minute(90));
    assert_eq!(
        (asleep.phase(), asleep.status.as_ref().unwrap().asleep_reason),
        ("Draining", Some(ActivityUnknown))
    );
}

#[test]
fn woken_town_gets_a_new_sleep_time() {
    let woken = town().asleep(Idle).wake_request("please").last_active(minute(0)).settled(minute(600));
    let started = woken.pod(pod("gas").created(minute(600)).ready());
    let plan = started.decide(minute(600));
    assert_eq!((plan.phase(), sleep_time(&plan)), ("Idle", Some(minute(630))));
}

#[test]
fn starting_town_ignores_an_old_idle_timer() {
    let starting =
        town().awake().woke(minute(600)).last_active(minute(0)).pod(pod("gas").created(minute(600)));
    let plan = starting.decide(minute(601));
    assert_eq!((plan.phase(), sleep_time(&plan)), ("Starting", None));
}

#[test]
fn idle_timer_survives_steps_of_the_clock() {
    let worked_at_ten = || running_town().last_active(minute(10));
    for (case, now, phase) in [
        ("back before the last work", minute(5), "Idle"),
        ("back before the town was created", minute(-100_000), "Idle"),
        ("forwards by years", minute(10_000_000), "Draining"),
        ("back to the beginning of time", Timestamp::MIN, "Idle"),
        ("forwards to the end of time", Timestamp::MAX, "Draining"),
    ] {
        let plan = worked_at_ten().decide(now);
        assert_eq!(plan.phase(), phase, "{case}");
        if phase == "Idle" {
            let bound = now.saturating_add(SignedDuration::from_mins(30)).unwrap();
            assert_eq!(sleep_time(&plan), Some(bound), "{case}: a stamp in the future is read as now");
        }
        assert!(plan.look_again.is_none_or(|at| at > now), "{case}");
    }
    // The operator writes the time of work by its own clock, which has stepped back; the start of the pod still counts.
    let stepped_back = running_town().active().last_active(minute(500)).decide(minute(20));
    assert_eq!((last_active(&stepped_back), sleep_time(&stepped_back)), (Some(minute(20)), Some(minute(50))));
}

#[test]
fn timestamp_at_the_end_of_time_does_not_overflow() {
    let far = running_town().last_active(Timestamp::MAX);
    let plan = far.decide(minute(1));
    assert_eq!((plan.phase(), sleep_time(&plan).is_some()), ("Idle", true));
    let long = running_town().sleep_after("720h").woke(Timestamp::MAX).decide(minute(1));
    assert_eq!(long.phase(), "Idle");
}

#[test]
fn missing_timestamps_do_not_start_the_idle_timer() {
    let mut bare = town().awake().no_template();
    bare = bare.edit(|t| t.metadata.creation_timestamp = None);
    let plan = bare.decide(minute(600));
    assert_eq!(
        (plan.phase(), sleep_time(&plan)),
        ("Idle", None),
        "no stamp at all: nobody can say since when"
    );
    assert_eq!(bare.woke(minute(500)).decide(minute(501)).phase(), "Idle");
}

/// A restarted operator knows nothing about the pods.
fn restarted(mut town: TownBuilder) -> TownBuilder {
    town.0.probe = ProbeFacts::default();
    town.0.reported_at = None;
    town
}

#[test]
fn idle_timer_continues_after_a_restart_of_the_operator_at_any_moment() {
    let quiet_town = running_town().heard(minute(1), quiet()).settled(minute(1));
    for at in [2, 15, 24, 25, 29, 30, 31, 600] {
        let fresh = restarted(quiet_town.clone());
        let plan = fresh.decide(minute(at));
        assert_eq!(plan.phase(), "Idle", "{at}: nothing is asked yet, so nobody sleeps");
        assert_eq!(plan.status, fresh.0.town.status, "{at}: and nothing is written");
        assert_eq!(plan.asks.len(), 1, "{at}: it asks");
        let answered = fresh.heard(minute(at), quiet()).decide(minute(at));
        let slept = at >= 30;
        assert_eq!(answered.phase(), if slept { "Draining" } else { "Idle" }, "{at}: the old clock counts");
        if !slept {
            assert_eq!(sleep_time(&answered), Some(minute(30)), "{at}");
        }
    }
}

#[test]
fn work_that_ended_without_the_operator_counts_until_the_next_answer() {
    let busy = running_town().heard(minute(1), says("x", ReportedState::Working)).settled(minute(1));
    let fresh = restarted(busy);
    let plan = fresh.decide(minute(300));
    assert!(plan.is(ACTIVE), "as it was, until somebody answers");
    assert_eq!(last_active(&plan), Some(minute(1)));
    let plan = fresh.heard(minute(300), quiet()).decide(minute(300));
    assert_eq!((last_active(&plan), sleep_time(&plan)), (Some(minute(300)), Some(minute(330))));
}

#[test]
fn town_status_is_unchanged_after_one_or_two_failed_probes() {
    let quiet_town = running_town().heard(minute(1), quiet()).settled(minute(1));
    let busy_town = running_town().heard(minute(1), says("x", ReportedState::Working)).settled(minute(1));
    for (case, town, phase) in [("idle", quiet_town, "Idle"), ("at work", busy_town, "Running")] {
        for failures in 1..=HICCUP {
            let unheard = town.clone().silent(failures, minute(20), minute(40));
            let plan = unheard.decide(minute(40));
            assert_eq!(plan.phase(), phase, "{case}, {failures}");
            assert_eq!(plan.status, unheard.0.town.status, "{case}, {failures}: nothing is written");
        }
    }
}

#[test]
fn unknown_activity_is_shown_once_in_active_and_degraded() {
    let plan = unknown_since_ten(11).decide(minute(11));
    assert_eq!(plan.condition(ACTIVE).status, "Unknown");
    assert_eq!(
        (plan.reason(ACTIVE), plan.reason(DEGRADED)),
        (reason::ACTIVITY_UNKNOWN, reason::ACTIVITY_UNKNOWN)
    );
    assert!(plan.message(DEGRADED).contains("connection refused"), "{}", plan.message(DEGRADED));
    let since = plan.status.as_ref().unwrap().activity_unknown_time.clone();
    assert_eq!(since.map(|t| t.0), Some(minute(10)));
    let settled = unknown_since_ten(11).settled(minute(11));
    let other_words = settled.clone().silent(9, minute(10), minute(20));
    let mut other_words = other_words;
    other_words.0.probe.last = Some(Err("timed out".into()));
    assert_eq!(other_words.decide(minute(20)).status, settled.0.town.status, "said once");
}

#[test]
fn unknown_activity_counts_from_the_first_pod_that_stopped_answering() {
    let unknown = |town: u8, agent: u8| {
        let mayor = mayor().asked().started().running();
        let mut both = running_town().silent(3, minute(town.into()), minute(11)).with(mayor);
        let mut mayors = unheard(3, minute(agent.into()), minute(11));
        mayors.last = Some(Err("the mayor is silent".into()));
        both.0.agent_probes.insert(uid("mayor"), mayors);
        let plan = both.decide(minute(12));
        let since = plan.status.as_ref().unwrap().activity_unknown_time.as_ref().unwrap().0;
        (since, plan.message(DEGRADED).contains("the mayor is silent"))
    };
    assert_eq!(unknown(3, 5), (minute(3), false));
    assert_eq!(unknown(5, 3), (minute(3), true));
    assert_eq!(unknown(4, 4), (minute(4), false), "of both at once, the town's own pod is named");
    // A pod without a probe so far does not change the unknown state.
    let unasked = mayor().asked().started().running();
    let plan = unknown_since_ten(11).with(unasked).decide(minute(11));
    assert_eq!(plan.reason(ACTIVE), reason::ACTIVITY_UNKNOWN);
}

#[test]
fn idle_timer_pauses_while_the_activity_is_unknown() {
    // The town was idle for 10 minutes and unknown for 40, so that 20 of 30 minutes are left.
    let unknown = unknown_since_ten(50).settled(minute(49));
    let still = unknown.decide(minute(49));
    assert_eq!(still.phase(), "Idle", "past the 30 minutes, and not asleep");
    let known = unknown.heard(minute(50), quiet());
    let plan = known.decide(minute(50));
    assert_eq!(sleep_time(&plan), Some(minute(70)));
    assert!(!plan.is(DEGRADED) && plan.status.as_ref().unwrap().activity_unknown_time.is_none());
    let known = known.after(&plan).heard(minute(69), quiet());
    assert_eq!(known.decide(second(70 * 60 - 1)).phase(), "Idle");
    assert_eq!(known.decide(minute(70)).phase(), "Draining");
}

#[test]
fn idle_timer_continues_correctly_after_two_pauses() {
    let once = unknown_since_ten(20).settled(minute(20)).heard(minute(20), quiet()).settled(minute(20));
    assert_eq!(sleep_time(&once.decide(minute(21))), Some(minute(40)));
    let twice = once.silent(3, minute(25), minute(35)).settled(minute(35)).heard(minute(36), quiet());
    assert_eq!(sleep_time(&twice.decide(minute(36))), Some(minute(51)), "15 minutes were left, and are");
}

#[test]
fn reported_work_ends_the_unknown_activity() {
    let unknown = unknown_since_ten(50).settled(minute(49));
    let plan = unknown.heard(minute(50), says("x", ReportedState::Working)).decide(minute(50));
    assert_eq!((plan.phase(), plan.is(DEGRADED)), ("Running", false));
    let status = plan.status.unwrap();
    assert_eq!((status.activity_unknown_time, status.idle_time), (None, None));
}

#[test]
fn town_sleeps_with_the_reason_activity_unknown_after_a_bound() {
    let bound = 10 + 3 * 30;
    let unknown = unknown_since_ten(11).settled(minute(11));
    let plan = unknown.decide(second(bound * 60 - 1));
    assert_eq!(
        (plan.phase(), sleep_time(&plan), plan.look_again),
        ("Idle", Some(minute(bound)), Some(minute(bound)))
    );
    let plan = unknown.decide(minute(bound));
    assert_eq!(plan.phase(), "Draining");
    assert_eq!(plan.status.as_ref().unwrap().asleep_reason, Some(ActivityUnknown));
    let asleep = town().draining(ActivityUnknown, minute(bound)).decide(minute(bound + 1));
    assert_eq!((asleep.phase(), asleep.reason(ASLEEP)), ("Asleep", reason::ACTIVITY_UNKNOWN));
    assert_eq!(asleep.reason(DEGRADED), reason::ACTIVITY_UNKNOWN, "never silently");
    let status = asleep.status.unwrap();
    assert_eq!((status.asleep_reason, status.activity_unknown_time), (Some(ActivityUnknown), None));
}

#[test]
fn unknown_activity_bound_survives_a_restart_of_the_operator() {
    let fresh = restarted(unknown_since_ten(40).settled(minute(40)));
    let plan = fresh.decide(minute(41));
    assert_eq!(plan.status, fresh.0.town.status, "not asked yet: as it was");
    let mut unheard_again = fresh.clone();
    unheard_again.0.probe = unheard(3, minute(41), minute(43));
    let plan = unheard_again.decide(minute(43));
    assert_eq!(sleep_time(&plan), Some(minute(100)), "since minute 10, not since the restart");
}

#[test]
fn always_on_town_stays_awake_and_degraded_while_its_activity_is_unknown() {
    let unknown = unknown_since_ten(11).always_on();
    for at in [11, 99, 100, 100_000] {
        let plan = unknown.decide(minute(at));
        assert_eq!((plan.phase(), plan.reason(DEGRADED)), ("Idle", reason::ACTIVITY_UNKNOWN), "{at}");
        assert_eq!(sleep_time(&plan), None, "{at}");
    }
}

#[test]
fn known_work_counts_while_a_pod_does_not_answer() {
    let town = unknown_since_ten(50).with(polecat("toast").hook("b1"));
    let plan = town.decide(minute(600));
    assert_eq!((plan.phase(), plan.is(ACTIVE), plan.is(DEGRADED)), ("Running", true, false));
}

#[test]
fn start_is_reported_once_when_the_first_answer_follows_it() {
    let started = town().awake().asked().woke(minute(0)).pod(pod("gas")).settled(minute(0));
    let ready = || {
        let mut town = started.clone();
        town.0.pods.clear();
        town.pod(pod("gas").ready())
    };
    let first = ready().decide(minute(1));
    assert_eq!((first.phase(), sleep_time(&first), first.asks.len()), ("Idle", Some(minute(30)), 1));
    let answered = ready().after(&first).heard(minute(1), quiet());
    assert_eq!(answered.decide(minute(1)).status, answered.0.town.status, "nothing to write");
    // The sleep time is not in the past, and is absent if only an answer can determine it.
    assert_eq!(sleep_time(&ready().decide(minute(30))), None);
    assert_eq!(sleep_time(&ready().active().decide(minute(1))), None);
    assert_eq!(sleep_time(&ready().always_on().decide(minute(1))), None);
}

#[test]
fn starting_pod_is_not_probed_and_its_activity_is_not_unknown() {
    let starting = town().awake().asked().woke(minute(0)).pod(pod("gas"));
    let plan = starting.decide(minute(1));
    assert_eq!((plan.reason(ACTIVE), plan.asks.len()), (reason::NO_WORK, 0));
}

#[test]
fn sleep_is_announced_five_minutes_before_when_sleep_after_is_longer() {
    let town = running_town();
    let early = town.decide(minute(24));
    assert_eq!((early.notices.len(), early.look_again), (0, Some(minute(25))));
    let plan = town.decide(minute(25));
    assert_eq!((plan.notices.len(), plan.look_again), (1, Some(minute(30))));
    let notice = &plan.notices[0];
    assert_eq!((notice.reason, notice.at), (reason::SLEEPS_SOON, minute(30)));
    assert!(notice.note.contains("within 5 minutes unless it gets work"), "{}", notice.note);
    assert_eq!(town.decide(minute(29)).notices, plan.notices, "the same, so that it is said once");
    for (sleep_after, look_again) in [("5m", 5), ("1m", 1)] {
        let plan = running_town().sleep_after(sleep_after).decide(second(1));
        assert_eq!((plan.notices.len(), plan.look_again), (0, Some(minute(look_again))), "{sleep_after}");
    }
}

#[test]
fn idle_timer_is_not_shifted_when_it_began_during_unknown_activity() {
    // The activity is unknown since minute 10, and a user requested a wake at minute 40.
    let mut unknown = unknown_since_ten(45).settled(minute(45)).woke(minute(40));
    unknown = unknown.heard(minute(50), quiet());
    assert_eq!(sleep_time(&unknown.decide(minute(50))), Some(minute(80)), "a whole sleepAfter, and no more");
}
