//! The work of a town: each term alone keeps the town awake, and nothing else does.

use k8s_openapi::jiff::SignedDuration;

use super::build::{
    AgentBuilder, Read, TownBuilder, mayor, minute, pod, polecat, running_town, sleep_time, town,
};
use crate::api::Outcome;
use crate::api::condition::{ACTIVE, READY};
use crate::lifecycle::activity::AgentActivity::{self, Blocked, Done, Failed, Idle, Pending, Working};
use crate::lifecycle::activity::{agent_activity, heard};

fn toast() -> AgentBuilder {
    polecat("toast")
}

/// The activity of an agent without a probe.
fn doing_now(agent: &AgentBuilder) -> AgentActivity {
    let snapshot = &agent.0;
    let asked = crate::lifecycle::session::asked(snapshot);
    let heard = heard(&snapshot.agent, asked.known(SignedDuration::from_mins(1), minute(1)), None);
    agent_activity(&snapshot.agent, snapshot.pod.as_ref(), (heard, &snapshot.probe), minute(1))
}

#[test]
fn task_agent_has_work_while_its_bead_is_unfinished_and_can_be_worked_on() {
    let b1 = || toast().hook("b1").attempt("b1", 1, minute(0));
    let failed_pod = b1().pod(|p| p.exited(1, minute(1)));
    let done_pod = b1().pod(|p| p.exited(0, minute(1)));
    let doomed_pod = b1().pod(|p| p.ready().told_to_stop(minute(1)));
    let other_pod = b1().pod(|p| p.ready().bead("b0"));
    let finished = toast().hook("b1").done(&["b1"]);
    let other_failed = toast().failed("b0", minute(0)).hook("b1");
    for (case, agent, doing, work) in vec![
        ("a hook that nobody took up yet", toast().hook("b1"), Pending, true),
        ("an attempt whose pod is still to come", b1(), Pending, true),
        ("a pod that waits for a node", b1().pod(|p| p), Working, true),
        ("a pod that runs", b1().running(), Working, true),
        ("a pod that is done, not yet recorded", done_pod, Working, true),
        ("a pod that failed: the next attempt comes", failed_pod, Pending, true),
        ("a pod that was told to stop in mid-work", doomed_pod, Pending, true),
        ("a pod of an earlier bead", other_pod, Pending, true),
        ("another bead than the one that failed", other_failed, Pending, true),
        ("nothing on the hook", toast(), Idle, false),
        ("nothing on the hook, and a pod that runs", toast().running(), Idle, false),
        ("a bead that is done", finished.clone(), Done, false),
        ("a bead that is done, and a pod that still runs", finished.running(), Done, false),
        ("past the limit of retries", toast().failed("b1", minute(0)), Failed, false),
        ("unable to run until a person acts", toast().hook("b1").stalled(), Blocked, false),
        ("unable to run, it says, and its pod runs", toast().hook("b1").stalled().running(), Working, true),
    ] {
        let plan = running_town().with(agent.clone()).decide(minute(1));
        assert_eq!(doing_now(&agent), doing, "{case}");
        assert_eq!(plan.is(ACTIVE), work, "{case}");
        assert_eq!(plan.phase(), if work { "Running" } else { "Idle" }, "{case}");
    }
}

#[test]
fn session_agent_without_a_probe_never_makes_the_town_active() {
    let busy = || mayor().running();
    for (case, agent, doing) in [
        ("never started", mayor(), Idle),
        ("a pod that runs", busy(), Idle),
        ("a hook that was not delivered", busy().hook("b1"), Idle),
        ("a hook that was delivered", busy().hook("b1").delivered("b1"), Idle),
        ("unable to run until a person acts", mayor().stalled(), Blocked),
        ("unable to run, and a pod that is there", busy().hook("b1").stalled().running(), Blocked),
    ] {
        let plan = running_town().with(agent.clone()).decide(minute(1));
        assert_eq!(doing_now(&agent), doing, "{case}");
        assert!(!plan.is(ACTIVE), "{case}");
    }
}

#[test]
fn town_is_active_when_one_agent_has_work() {
    let idle = ["a", "b", "c"].map(polecat);
    let town = idle.into_iter().fold(running_town(), TownBuilder::with);
    assert!(!town.decide(minute(1)).is(ACTIVE));
    assert!(town.with(polecat("toast").hook("b1")).decide(minute(1)).is(ACTIVE));
}

#[test]
fn deleting_agent_has_no_work() {
    let going = polecat("toast").hook("b1").running().deleting(minute(0));
    assert!(!running_town().with(going).decide(minute(1)).is(ACTIVE));
}

#[test]
fn town_pod_that_starts_runs_or_restarts_is_not_work() {
    let young = town().awake().pod(pod("gas"));
    let crashing = running_town().restarts(3, minute(0));
    for (case, town) in [("starts", young), ("runs", running_town()), ("restarts", crashing)] {
        assert!(!town.decide(minute(1)).is(ACTIVE), "{case}");
    }
}

#[test]
fn last_active_time_is_written_when_work_begins_and_when_it_ends() {
    let quiet = running_town().settled(minute(1));
    let busy = quiet.clone().with(polecat("toast").hook("b1"));
    assert_eq!(stamp(&busy.decide(minute(5))), Some(minute(5)), "work begins");
    let busy = busy.settled(minute(5));
    assert_eq!(stamp(&busy.decide(minute(9))), Some(minute(5)), "work goes on: nothing to write");
    let over = running_town().with(polecat("toast").hook("b1").done(&["b1"])).active().last_active(minute(5));
    assert_eq!(stamp(&over.decide(minute(20))), Some(minute(20)), "work ends");
    assert_eq!(stamp(&over.settled(minute(20)).decide(minute(29))), Some(minute(20)), "and stays ended");
    assert_eq!(stamp(&quiet.decide(minute(9))), None, "there never was work");
}

#[test]
fn idle_timer_starts_now_when_a_town_recorded_as_active_is_found_idle() {
    // The operator was down when the work ended, five hours ago.
    let found = running_town().active().last_active(minute(1));
    let plan = found.decide(minute(300));
    assert_eq!(plan.phase(), "Idle");
    assert_eq!(sleep_time(&plan), Some(minute(330)), "it sleeps a whole sleepAfter later");
    assert_eq!(plan.look_again, Some(minute(325)), "and says so five minutes before");
}

#[test]
fn town_without_a_template_is_ready_as_soon_as_its_agents_may_start() {
    let bare = town().no_template().awake();
    let plan = bare.decide(minute(1));
    assert_eq!((plan.phase(), plan.is(READY), plan.does().as_str()), ("Idle", true, ""));
    let plan = bare.with(polecat("toast").hook("b1")).decide(minute(1));
    assert_eq!((plan.phase(), plan.is(READY)), ("Running", true));
}

#[test]
fn agents_are_counted_by_their_activity() {
    let town = running_town()
        .with(polecat("a").hook("b1").running())
        .with(polecat("b").hook("b1").attempt("b1", 1, minute(0)).ended(Outcome::Failed, minute(0)))
        .with(polecat("c").failed("b1", minute(0)))
        .with(mayor());
    let counts = town.decide(minute(1)).status.unwrap().agents.unwrap();
    assert_eq!((counts.total, counts.working, counts.failed, counts.summary.as_str()), (4, 2, 1, "2/4"));
}

#[test]
fn agent_counts_are_written_at_most_once_a_minute() {
    let mut town = running_town().settled(minute(1)).with(mayor());
    town.0.reported_at = Some(minute(1));
    let soon = town.decide(super::build::second(90));
    assert_eq!(soon.status, town.0.town.status, "no write yet");
    assert_eq!(soon.look_again, Some(minute(2)), "but not forgotten");
    let due = town.decide(minute(2));
    assert_eq!(due.status.unwrap().agents.unwrap().summary, "0/1");
}

fn stamp(plan: &crate::lifecycle::Plan<crate::api::TownStatus>) -> Option<k8s_openapi::jiff::Timestamp> {
    plan.status.as_ref().and_then(|s| s.last_active_time.as_ref()).map(|t| t.0)
}
