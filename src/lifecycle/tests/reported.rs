//! A Session agent that reports its own activity: its phase, its conditions, and the outcome of its bead.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::build::{
    AgentBuilder, Read, TownBuilder, entry, mayor, minute, quiet, running_town, says, second, stalled, town,
};
use crate::api::condition::{DEGRADED, FINISHED, READY, WORKING, reason};
use crate::api::{ActivityReport, AsleepReason, Outcome, ReportedAgent, ReportedState, WorkStatus};
use crate::lifecycle::Plan;

/// An agent with bead b1 on its hook, delivered to its pod.
fn hooked() -> AgentBuilder {
    mayor().asked().started().hook("b1").delivered("b1").running()
}

fn states(state: ReportedState, bead: Option<&str>, message: &str) -> ActivityReport {
    let message = Some(message.to_owned());
    let entry = ReportedAgent { bead: bead.map(str::to_owned), message, ..entry("mayor", state) };
    ActivityReport { agents: vec![entry], ..quiet() }
}

fn work(plan: &Plan<crate::api::AgentStatus>) -> WorkStatus {
    plan.status.clone().unwrap().work.unwrap()
}

#[test]
fn agent_phase_follows_the_reported_state() {
    for (state, phase, working, why) in [
        (ReportedState::Working, "Working", true, reason::WORK),
        (ReportedState::Waiting, "Waiting", false, reason::WAITING),
        (ReportedState::Stuck, "Stuck", false, reason::REPORTED_STUCK),
        (ReportedState::Idle, "Idle", false, reason::NO_WORK),
    ] {
        for (case, agent) in [("hooked", hooked()), ("without a hook", mayor().started().running())] {
            let plan = agent.heard(minute(1), says("mayor", state)).decide(minute(1));
            assert_eq!((plan.phase(), plan.is(READY)), (phase, true), "{state:?} {case}");
            assert_eq!((plan.is(WORKING), plan.reason(WORKING)), (working, why), "{state:?} {case}");
        }
    }
    let unmentioned = hooked().heard(minute(1), quiet()).decide(minute(1));
    assert_eq!(unmentioned.phase(), "Idle");
}

#[test]
fn report_of_an_unready_agent_is_not_shown() {
    let starting = mayor()
        .hook("b1")
        .pod(|p| p.unready(minute(0)))
        .heard(minute(1), says("mayor", ReportedState::Working));
    assert_eq!(starting.decide(minute(1)).phase(), "Starting");
}

#[test]
fn reported_done_is_recorded_once_and_permanently() {
    for bead in [None, Some("b1")] {
        let done = hooked().heard(minute(9), states(ReportedState::Done, bead, "all merged"));
        let done = done.seen_unfinished(minute(5));
        let plan = done.decide(minute(9));
        assert_eq!((plan.phase(), plan.is(FINISHED), plan.is(READY)), ("Done", true, true), "{bead:?}");
        let recorded = work(&plan);
        assert_eq!((recorded.outcome, recorded.message.as_str()), (Some(Outcome::Done), "all merged"));
        assert_eq!(
            (recorded.done, recorded.finish_time.map(|t| t.0)),
            (vec!["b1".to_owned()], Some(minute(9)))
        );
        let settled = done.after(&plan);
        let again = settled.decide(second(10 * 60));
        assert_eq!(again.status, settled.0.agent.status, "{bead:?}: once");
        let idle = settled.heard(minute(30), says("mayor", ReportedState::Idle)).decide(minute(30));
        assert_eq!((idle.phase(), work(&idle).done), ("Done", vec!["b1".to_owned()]), "{bead:?}: for ever");
    }
}

#[test]
fn reported_failure_is_shown_and_is_neither_work_nor_done() {
    let failed = hooked().heard(minute(9), states(ReportedState::Failed, Some("b1"), "no such branch"));
    let plan = failed.decide(minute(9));
    assert_eq!((plan.phase(), plan.is(FINISHED), plan.is(READY)), ("Failed", false, false));
    assert_eq!(plan.reason(DEGRADED), reason::REPORTED_FAILED);
    assert!(
        plan.message(DEGRADED).contains("bead b1 has failed: no such branch"),
        "{}",
        plan.message(DEGRADED)
    );
    assert_eq!((work(&plan).outcome, work(&plan).done), (Some(Outcome::Failed), Vec::<String>::new()));
    let settled = failed.after(&plan);
    assert_eq!(settled.decide(minute(20)).status, settled.0.agent.status, "once");
    let idle = settled.clone().heard(minute(30), says("mayor", ReportedState::Idle)).decide(minute(30));
    assert_eq!(idle.phase(), "Failed", "whatever it says later");
    assert_eq!(running_town().with(settled.clone()).decide(minute(600)).phase(), "Draining");
    let asleep = town().asleep(AsleepReason::Idle).with(settled.clone().settled(minute(10)));
    let mut asleep = asleep;
    asleep.0.pods.clear();
    assert_eq!(asleep.decide(minute(600)).phase(), "Asleep");
    let next = settled.hook("b2").pod(|p| p.ready().bead("b1"));
    assert_eq!(next.decide(minute(31)).does(), "deliver hook to pod mayor-pod", "a new bead is a new chance");
}

#[test]
fn report_about_another_bead_does_not_end_the_current_bead() {
    for state in [ReportedState::Done, ReportedState::Failed] {
        let other = hooked().heard(minute(9), states(state, Some("b0"), "")).decide(minute(9));
        assert_eq!(
            (other.phase(), other.is(FINISHED), work(&other).outcome),
            ("Idle", false, None),
            "{state:?}"
        );
        assert!(work(&other).done.is_empty());
    }
}

#[test]
fn reported_end_counts_only_after_the_bead_was_delivered() {
    for state in [ReportedState::Done, ReportedState::Failed] {
        // The pod still has b0, and the report names no bead: the report cannot refer to b1.
        let undelivered = mayor().started().delivered("b0").hook("b1").pod(|p| p.ready().bead("b0"));
        let plan = undelivered.heard(minute(9), says("mayor", state)).decide(minute(9));
        assert_eq!(plan.does(), "deliver hook to pod mayor-pod", "{state:?}");
        assert!(!plan.is(FINISHED), "{state:?}");
        let recorded = work(&plan);
        assert_eq!(
            (recorded.bead.as_str(), recorded.outcome, recorded.done.len()),
            ("b0", None, 0),
            "{state:?}"
        );
        assert_eq!(plan.phase(), "Idle", "{state:?}: nothing of b1 has come to an end");
    }
}

#[test]
fn reported_done_before_the_delivery_does_not_end_the_new_bead() {
    // The answer is older than the delivery that this decision records.
    let fresh = mayor().started().delivered("b0").hook("b1").running();
    let plan = fresh.heard(minute(1), says("mayor", ReportedState::Done)).decide(minute(9));
    assert_eq!(work(&plan).done, Vec::<String>::new());
}

#[test]
fn agent_activity_time_is_written_when_work_begins_and_when_it_ends() {
    let at =
        |agent: &AgentBuilder| agent.0.agent.status.as_ref().unwrap().last_activity_time.clone().map(|t| t.0);
    let idle = hooked().heard(minute(1), says("mayor", ReportedState::Idle)).settled(minute(1));
    assert_eq!(at(&idle), None);
    let works = idle.heard(minute(2), says("mayor", ReportedState::Working)).settled(minute(2));
    assert_eq!(at(&works), Some(minute(2)));
    let still = works.heard(minute(3), states(ReportedState::Working, None, "other words"));
    assert_eq!(still.decide(minute(3)).status, still.0.agent.status, "in between nothing");
    let over = still.heard(minute(4), says("mayor", ReportedState::Waiting)).settled(minute(4));
    assert_eq!(at(&over), Some(minute(4)));
}

#[test]
fn stuck_agent_shows_its_last_activity_time_once() {
    let stuck = hooked().heard(minute(30), stalled("mayor", minute(20)));
    let plan = stuck.decide(minute(30));
    assert_eq!(plan.status.as_ref().unwrap().last_activity_time.as_ref().map(|t| t.0), Some(minute(20)));
    let stuck = stuck.after(&plan);
    let mut report = stalled("mayor", minute(21));
    report.agents[0].message = Some("retry 99".into());
    let again = stuck.heard(minute(31), report);
    assert_eq!(again.decide(minute(31)).status, again.0.agent.status);
}

#[test]
fn reported_message_is_cut_at_1024_bytes_and_cleaned() {
    let flood = "x".repeat(100_000);
    for (state, condition) in [(ReportedState::Waiting, WORKING), (ReportedState::Stuck, WORKING)] {
        let plan = hooked().heard(minute(1), states(state, None, &flood)).decide(minute(1));
        assert_eq!(plan.message(condition).len(), 1024, "{state:?}");
    }
    for state in [ReportedState::Done, ReportedState::Failed] {
        let plan = hooked().heard(minute(1), states(state, Some("b1"), &flood)).decide(minute(1));
        assert_eq!(work(&plan).message.len(), 1024, "{state:?}");
        let status = serde_json::to_string(&plan.status).unwrap();
        assert!(status.len() < 10_000, "{state:?}: {}", status.len());
    }
    let evil = states(ReportedState::Waiting, None, "\u{1b}[2Jpick\u{7} one\n\u{9}");
    let plan = hooked().heard(minute(1), evil).decide(minute(1));
    assert_eq!(plan.message(WORKING), "[2Jpick one");
    let wide = format!("a{}", "ü".repeat(2000));
    let plan = hooked().heard(minute(1), states(ReportedState::Waiting, None, &wide)).decide(minute(1));
    assert_eq!(plan.message(WORKING).len(), 1023, "cut between letters");
}

#[test]
fn changed_message_alone_causes_no_status_write() {
    let waits = |text| hooked().heard(minute(1), states(ReportedState::Waiting, None, text));
    let settled = waits("tick 1").settled(minute(1));
    let mut next = settled;
    next.0.probe = waits("tick 2").0.probe;
    assert_eq!(next.decide(minute(2)).status, next.0.agent.status);
}

#[test]
fn silent_agent_keeps_its_phase_until_its_activity_is_unknown() {
    for (state, phase) in [
        (ReportedState::Working, "Working"),
        (ReportedState::Waiting, "Waiting"),
        (ReportedState::Stuck, "Stuck"),
        (ReportedState::Idle, "Idle"),
    ] {
        let known = hooked().heard(minute(1), says("mayor", state)).settled(minute(1));
        for failures in [1, 2] {
            let unheard = known.clone().silent(failures, minute(2), minute(2));
            let plan = unheard.decide(minute(2));
            assert_eq!((plan.phase(), plan.status.is_some()), (phase, true), "{failures}");
            assert_eq!(plan.status, unheard.0.agent.status, "{phase}, {failures}: no write");
        }
        let plan = known.silent(3, minute(2), second(140)).decide(second(140));
        assert_eq!((plan.phase(), plan.reason(DEGRADED)), ("Idle", reason::ACTIVITY_UNKNOWN), "{phase}");
        assert!(plan.message(DEGRADED).contains("connection refused"));
        assert!(plan.is(READY), "its pod is");
    }
}

#[test]
fn report_about_other_agents_does_not_change_the_reporting_agent() {
    let mut report = says("toast", ReportedState::Working);
    report.agents.push(entry("nux", ReportedState::Done));
    let plan = hooked().heard(minute(1), report).decide(minute(1));
    assert_eq!((plan.phase(), work(&plan).outcome), ("Idle", None));
}

#[test]
fn town_sleeps_while_its_mayor_waits_for_a_user() {
    for report in [says("mayor", ReportedState::Waiting), stalled("mayor", minute(-60))] {
        let waits = hooked().heard(minute(1), report.clone()).settled(minute(1)).heard(minute(60), report);
        let town_of = |t: TownBuilder, agent: &AgentBuilder| t.with(agent.clone());
        assert_eq!(town_of(running_town(), &waits).decide(minute(60)).phase(), "Draining");
        let mut gone = waits.clone().of(&town().asleep(AsleepReason::Idle));
        gone.0.pod = None;
        gone.0.probe = crate::lifecycle::ProbeFacts::default();
        let asleep = town_of(town().asleep(AsleepReason::Idle), &gone.settled(minute(61)));
        assert_eq!(asleep.decide(minute(62)).phase(), "Asleep");
    }
}

// Review code:A4.
#[test]
fn reported_end_without_a_bead_counts_only_after_another_state_was_seen() {
    let outcome = |agent: AgentBuilder| work(&agent.decide(minute(1))).outcome;
    for (state, ended) in [(ReportedState::Done, Outcome::Done), (ReportedState::Failed, Outcome::Failed)] {
        let said = |asked: i64, bead| hooked().heard(second(asked), states(state, bead, ""));
        // The status records the delivery at second 0, and such timestamps have whole seconds.
        assert_eq!(outcome(said(5, None)), None, "{state:?}: it may mean the bead before");
        assert_eq!(outcome(said(5, None).seen_unfinished(second(0))), None, "{state:?}: in that second");
        assert_eq!(outcome(said(5, None).seen_unfinished(second(3))), Some(ended), "{state:?}");
        assert_eq!(outcome(said(0, Some("b1"))), Some(ended), "{state:?}: who names the bead means it");
        let recorded = said(5, None).status(|s| s.last_activity_time = Some(Time(second(3))));
        assert_eq!(outcome(recorded), Some(ended), "{state:?}: also by the record of an operator before");
    }
}

// Review code:A12.
#[test]
fn finished_agent_stays_done_when_the_town_sleeps_or_a_probe_fails() {
    let done = hooked().heard(minute(9), states(ReportedState::Done, Some("b1"), "")).settled(minute(9));
    for (case, agent) in [
        ("one probe fails", done.clone().silent(1, minute(10), minute(10))),
        ("the pod does not answer", done.clone().silent(3, minute(10), minute(12))),
        ("the operator has just started", {
            let mut agent = done.clone();
            agent.0.probe = crate::lifecycle::ProbeFacts::default();
            agent
        }),
        ("it does something else", done.clone().heard(minute(12), says("mayor", ReportedState::Working))),
        ("the town sleeps", {
            let mut agent = done.clone().of(&town().asleep(AsleepReason::Idle));
            agent.0.pod = None;
            agent
        }),
        ("its pod starts", {
            let mut agent = done.clone();
            agent.0.pod = None;
            agent
        }),
    ] {
        let plan = agent.decide(minute(12));
        assert_eq!((plan.phase(), plan.is(FINISHED)), ("Done", true), "{case}");
    }
}
