//! The five kinds of work, each of which alone keeps a town awake, and the states that are not work.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;

use super::build::{
    AgentBuilder, Read, TownBuilder, entry, mayor, minute, polecat, quiet, running_town, says, second,
    sleep_time, stalled, town, typed,
};
use crate::api::AsleepReason::Idle;
use crate::api::condition::{ACTIVE, DEGRADED, reason};
use crate::api::{ActivityReport, Backlog, ReportedAgent, ReportedState};

/// A mayor that was started long ago, with a pod.
fn seated() -> AgentBuilder {
    mayor().started().running()
}

/// A town whose own pod sends this report about its mayor.
fn told_by_town(report: ActivityReport) -> TownBuilder {
    running_town().heard(minute(LATE), report).with(seated())
}

/// A town whose mayor's own pod sends this report.
fn told_by_agent(report: ActivityReport) -> TownBuilder {
    running_town().with(seated().heard(minute(LATE), report))
}

fn waits(merge_requests: i32, triage: i32, unassigned: i32) -> Backlog {
    Backlog { merge_requests, triage, unassigned }
}

fn reports(backlog: Backlog) -> TownBuilder {
    running_town().heard(minute(LATE), ActivityReport { backlog, ..quiet() })
}

/// A minute long after the idle time of the town.
const LATE: i64 = 600;

#[test]
fn town_stays_awake_for_each_of_the_five_kinds_of_work() {
    let hooked = || seated().hook("b1").delivered("b1");
    for (case, town, why) in vec![
        (
            "1: a Task agent with a pod",
            running_town().with(polecat("toast").hook("b1").running()),
            reason::WORK,
        ),
        (
            "1: working, says the town's pod",
            told_by_town(says("mayor", ReportedState::Working)),
            reason::WORK,
        ),
        ("1: working, says its own pod", told_by_agent(says("mayor", ReportedState::Working)), reason::WORK),
        ("1: stalled of late", told_by_town(stalled("mayor", minute(LATE - 29))), reason::WORK),
        (
            "1: somebody there is no Agent for",
            told_by_town(says("nobody", ReportedState::Working)),
            reason::WORK,
        ),
        ("2: a bead that nobody took up", running_town().with(polecat("toast").hook("b1")), reason::WORK),
        (
            "2: idle, says its own pod, with a hook",
            running_town().with(hooked().heard(minute(LATE), says("mayor", ReportedState::Idle))),
            reason::WORK,
        ),
        (
            "2: idle, says the town's pod, with a hook",
            running_town().heard(minute(LATE), says("mayor", ReportedState::Idle)).with(hooked()),
            reason::WORK,
        ),
        (
            "2: to be asked, and not mentioned",
            running_town().with(hooked().heard(minute(LATE), quiet())),
            reason::WORK,
        ),
        ("3: merge requests, by the spec", running_town().backlog(1, 0, 0), reason::BACKLOG),
        ("3: merge requests, by the pod", reports(waits(1, 0, 0)), reason::BACKLOG),
        ("4: triage, by the spec", running_town().backlog(0, 1, 0), reason::BACKLOG),
        ("4: triage, by the pod", reports(waits(0, 1, 0)), reason::BACKLOG),
        ("5: unassigned, by the spec", running_town().backlog(0, 0, 1), reason::BACKLOG),
        ("5: unassigned, by the pod", reports(waits(0, 0, 1)), reason::BACKLOG),
    ] {
        let plan = town.decide(minute(LATE));
        assert_eq!((plan.phase(), plan.is(ACTIVE), plan.reason(ACTIVE)), ("Running", true, why), "{case}");
        assert_eq!(sleep_time(&plan), None, "{case}: no time to sleep is shown");
    }
}

#[test]
fn town_drains_when_it_has_none_of_the_five_kinds_of_work() {
    let unlisted = |t: TownBuilder| t.rigs(&[]);
    let of_bead = |state| ReportedAgent { bead: Some("b0".into()), ..entry("mayor", state) };
    let hooked = || seated().hook("b1").delivered("b1");
    let says_of_hook = |state| {
        let heard = hooked().heard(minute(LATE), says("mayor", state));
        running_town().with(heard.seen_unfinished(minute(LATE)))
    };
    for (case, town) in vec![
        ("being there", running_town().with(seated())),
        ("waiting for a person", told_by_town(says("mayor", ReportedState::Waiting))),
        ("waiting, says its own pod", told_by_agent(says("mayor", ReportedState::Waiting))),
        ("waiting for a person about its bead", says_of_hook(ReportedState::Waiting)),
        ("idle without a hook", told_by_town(says("mayor", ReportedState::Idle))),
        ("done with its bead", says_of_hook(ReportedState::Done)),
        ("given up on its bead", says_of_hook(ReportedState::Failed)),
        ("done, without a hook", told_by_town(says("mayor", ReportedState::Done))),
        (
            "done with an earlier bead, without a hook",
            told_by_agent(ActivityReport { agents: vec![of_bead(ReportedState::Done)], ..quiet() }),
        ),
        ("stalled for long", told_by_town(stalled("mayor", minute(LATE - 31)))),
        ("stalled since nobody knows when", told_by_town(says("mayor", ReportedState::Stuck))),
        ("a hook that was delivered to one who is not asked", running_town().with(hooked())),
        ("unassigned work without a rig", unlisted(running_town().backlog(0, 0, 9))),
        ("reported unassigned work without a rig", unlisted(reports(waits(0, 0, 9)))),
        ("a negative backlog", reports(waits(-1, -1, -1))),
        ("being asked and answering", running_town().heard(minute(LATE - 1), quiet())),
        ("a person who is attached", {
            let report = ActivityReport { attached: true, ..quiet() };
            running_town().heard(minute(LATE - 1), report)
        }),
        ("past its limit of retries", running_town().with(polecat("toast").failed("b1", minute(0)))),
        ("unable to run until a person acts", running_town().with(polecat("toast").hook("b1").stalled())),
        ("crashing", running_town().restarts(3, minute(LATE - 1))),
    ] {
        let plan = town.decide(minute(LATE));
        assert!(!plan.is(ACTIVE), "{case}");
        assert_eq!(plan.phase(), "Draining", "{case}");
    }
}

#[test]
fn stuck_agent_is_work_for_less_than_30_minutes_after_its_last_activity() {
    let at = minute(100);
    let ago = |minutes: i64| at - k8s_openapi::jiff::SignedDuration::from_mins(minutes);
    for (case, last, counts) in [
        ("29 minutes ago", ago(29), true),
        ("a second less than half an hour ago", second(70 * 60 + 1), true),
        ("half an hour ago", ago(30), false),
        ("31 minutes ago", ago(31), false),
        ("by a clock that is 29 minutes ahead", ago(-29), true),
        ("by a clock that is half an hour ahead", ago(-30), false),
        ("by a clock that is 31 minutes ahead", ago(-31), false),
        ("at the end of time", Timestamp::MAX, false),
        ("at the beginning of time", Timestamp::MIN, false),
    ] {
        for (who, town) in
            [("town", told_by_town(stalled("mayor", last))), ("agent", told_by_agent(stalled("mayor", last)))]
        {
            let plan = town.decide(at);
            assert_eq!(plan.is(ACTIVE), counts, "{case}, says the pod of the {who}");
            assert_eq!(plan.phase() == "Running", counts, "{case}, says the pod of the {who}");
        }
    }
}

#[test]
fn larger_of_spec_and_reported_backlog_counts() {
    for (spec, reported, has_work) in
        [(0, 0, false), (1, 0, true), (0, 1, true), (3, 2, true), (0, -5, false)]
    {
        for kind in 0..3 {
            let of = |n: i32| match kind {
                0 => waits(n, 0, 0),
                1 => waits(0, n, 0),
                _ => waits(0, 0, n),
            };
            let town = reports(of(reported)).edit(|t| t.spec.backlog = of(spec));
            assert_eq!(town.decide(minute(1)).is(ACTIVE), has_work, "{kind}: {spec} and {reported}");
        }
    }
}

#[test]
fn sleeping_town_wakes_for_each_kind_of_new_work() {
    let asleep = || town().asleep(Idle);
    let asked = |given| mayor().asked().started().hook("b1").delivered(given).seen();
    for (case, town, wakes) in [
        ("a hook", asleep().with(polecat("toast").hook("b1").seen()), true),
        ("a hook of one who is to be asked", asleep().with(asked("b0")), true),
        ("one that it was given before the sleep", asleep().with(asked("b1")), false),
        ("merge requests", asleep().backlog(1, 0, 0), true),
        ("triage", asleep().backlog(0, 1, 0), true),
        ("unassigned work", asleep().backlog(0, 0, 1), true),
        ("unassigned work without a rig", asleep().backlog(0, 0, 1).rigs(&[]), false),
        ("nothing", asleep(), false),
    ] {
        let plan = town.decide(minute(LATE));
        assert_eq!(plan.phase(), if wakes { "Starting" } else { "Asleep" }, "{case}");
        let turned =
            town.edit(|_| ()).status(|s| super::build::set(&mut s.conditions, "Asleep", false, "Awake"));
        let plan = turned.draining(Idle, minute(LATE - 1)).decide(minute(LATE));
        assert_eq!(plan.note.is_some(), wakes, "{case}: the last look turns back for the same");
    }
}

#[test]
fn agent_reported_as_waiting_by_its_own_pod_is_no_work() {
    let own = seated().heard(minute(1), says("mayor", ReportedState::Waiting));
    let plan = running_town().with(own).decide(minute(1));
    assert_eq!((plan.phase(), plan.is(ACTIVE)), ("Idle", false));
}

// Review P14.
#[test]
fn probed_agent_is_unknown_when_its_pod_stops_being_ready() {
    let unready = |was_ready: bool| {
        let agent = mayor().started().pod(|p| p.unready(minute(2))).recorded_pod(minute(0));
        let agent = agent.heard(minute(1), says("mayor", ReportedState::Working));
        running_town().with(agent.status(|s| {
            s.pod.as_mut().unwrap().ready_time = was_ready.then(|| Time(minute(1)));
        }))
    };
    let plan = unready(true).decide(minute(3));
    assert_eq!(
        (plan.condition(ACTIVE).status.as_str(), plan.reason(ACTIVE)),
        ("Unknown", reason::ACTIVITY_UNKNOWN)
    );
    assert!(
        plan.message(DEGRADED).contains("pod mayor-pod stopped being Ready"),
        "{}",
        plan.message(DEGRADED)
    );
    let status = plan.status.unwrap();
    assert_eq!(status.activity_unknown_time.unwrap().0, minute(2), "since it stopped");
    assert_eq!(
        unready(false).decide(minute(3)).reason(ACTIVE),
        reason::NO_WORK,
        "one that never was Ready is not"
    );
}

#[test]
fn agents_are_counted_by_their_reported_state() {
    let mut report = quiet();
    for (name, state) in [
        ("a", ReportedState::Working),
        ("b", ReportedState::Waiting),
        ("c", ReportedState::Stuck),
        ("d", ReportedState::Idle),
        ("stranger", ReportedState::Working),
    ] {
        report.agents.push(entry(name, state));
    }
    let sits = |name: &str| {
        let agent = polecat(name).edit(|a| a.spec.mode = Some(crate::api::Mode::Session));
        agent.started().running()
    };
    let town = ["a", "b", "c", "d"].iter().fold(running_town(), |town, name| town.with(sits(name)));
    let counts = town.heard(minute(1), report).decide(minute(1)).status.unwrap().agents.unwrap();
    assert_eq!((counts.total, counts.working, counts.waiting, counts.stuck), (4, 1, 1, 1));
    assert_eq!(counts.summary, "1/4");
}

#[test]
fn user_input_moves_the_sleep_time_but_does_not_set_active() {
    let plan = running_town().heard(minute(29), typed(minute(29))).decide(minute(29));
    assert_eq!((plan.phase(), plan.is(ACTIVE), sleep_time(&plan)), ("Idle", false, Some(minute(59))));
}
