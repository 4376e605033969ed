//! The probes of activity: their targets, their times, and the effect of the answers on the last check before sleep.

use k8s_openapi::jiff::{SignedDuration, Timestamp};

use super::build::{
    AgentBuilder, PodBuilder, Read, TownBuilder, answered, mayor, minute, pod, polecat, quiet, running_town,
    says, second, town, uid, unheard,
};
use crate::api::AsleepReason::{ActivityUnknown, Idle, Suspended};
use crate::api::{ReportedState, TownStatus};
use crate::lifecycle::{Plan, ProbeFacts};

fn names<S>(plan: &Plan<S>) -> Vec<String> {
    plan.asks.iter().map(|ask| ask.pod.name.clone()).collect()
}

fn unasked() -> TownBuilder {
    running_town().asked()
}

#[test]
fn probe_uses_the_address_of_the_pod_and_the_token_of_its_owner() {
    let plan = unasked().decide(minute(1));
    let ask = &plan.asks[0];
    assert_eq!(
        (ask.pod.name.as_str(), &ask.uid, ask.address.as_str()),
        ("gas-pod", &uid("gas-pod"), "10.0.0.1")
    );
    assert_eq!((ask.probe.port, ask.probe.path.as_str()), (8080, "/activity"));
    assert_eq!(ask.secret, "gas-00000001", "our own");
    let named = unasked().edit(|t| {
        t.spec.activity_probe.as_mut().unwrap().token_secret_name = Some("door".into());
    });
    assert_eq!(named.decide(minute(1)).asks[0].secret, "door", "or the one that the spec names");
    let made_with = |mut t: TownBuilder, secret: &str| {
        t.0.pods[0].token_secret_name = Some(secret.into());
        t
    };
    let old = made_with(named, "old-door").active();
    assert_eq!(
        old.decide(minute(1)).asks[0].secret,
        "old-door",
        "while an old pod stays, the one it was made with"
    );
    let plan = mayor().asked().running().decide(minute(1));
    assert_eq!(
        (names(&plan), plan.asks[0].secret.as_str()),
        (vec!["mayor-pod".to_owned()], "mayor-00000002")
    );
}

#[test]
fn token_secret_is_created_only_when_the_spec_names_none() {
    assert_eq!(town().awake().asked().decide(minute(1)).does(), "create token, create pod");
    let named = town().awake().asked().edit(|t| {
        t.spec.activity_probe.as_mut().unwrap().token_secret_name = Some("door".into());
    });
    assert_eq!(named.decide(minute(1)).does(), "create pod");
    assert_eq!(mayor().asked().decide(minute(1)).does(), "create token, create pod");
}

#[test]
fn pod_is_not_probed_when_its_owner_is_inactive_or_it_cannot_answer() {
    let with = |change: fn(PodBuilder) -> PodBuilder| town().awake().asked().pod(change(pod("gas").ready()));
    let without_address = |mut p: PodBuilder| {
        p.0.address = None;
        p
    };
    for (case, town) in vec![
        ("asleep, with a pod that came late", unasked().asleep(Idle)),
        ("being deleted", unasked().deleting(minute(1))),
        ("being destroyed", unasked().destroying(minute(1)).remains_as_seen()),
        ("tombstoned", unasked().tombstone("x")),
        ("paused", unasked().paused()),
        ("suspended", unasked().suspended()),
        ("without a probe", running_town()),
        ("of another installation", unasked().foreign()),
        ("a pod that is not Ready", with(|p| p.unready(minute(0)))),
        ("a pod that was told to stop", with(|p| p.told_to_stop(minute(1)))),
        ("a pod that ended", with(|p| p.exited(0, minute(1)))),
        ("a pod without an address of its own", with(without_address)),
        ("no pod", town().awake().asked()),
    ] {
        assert_eq!(names(&town.decide(minute(1))), Vec::<String>::new(), "{case}");
    }
    let sits = || mayor().asked().running();
    for (case, agent) in [
        ("being deleted", sits().deleting(minute(1))),
        ("tombstoned", sits().tombstone("x")),
        ("paused", sits().paused()),
        ("of a sleeping town", sits().of(&town().asleep(Idle))),
        ("of a town that is being deleted", sits().of(&running_town().deleting(minute(1)))),
        ("of a tombstoned town", sits().of(&running_town().tombstone("x"))),
        ("not Ready", mayor().asked().pod(|p| p.unready(minute(0)))),
        ("one who does not want to be", mayor().running()),
    ] {
        assert_eq!(names(&agent.decide(minute(1))), Vec::<String>::new(), "{case}");
    }
}

// code.md A39: the file with the token follows the Secret, so the pod stays.
#[test]
fn deleted_token_secret_is_created_again_for_a_running_pod() {
    let lacking = |mut town: TownBuilder| {
        town.0.probe.secret_missing = true;
        town
    };
    let with_token = |secret: &str| {
        let mut pod = pod("gas").ready();
        pod.0.token_secret_name = Some(secret.into());
        town().awake().asked().pod(pod)
    };
    assert_eq!(lacking(with_token("gas-00000001")).decide(minute(1)).does(), "create token");
    assert_eq!(with_token("gas-00000001").decide(minute(1)).does(), "", "nothing is missing");
    assert_eq!(
        lacking(with_token("mine")).decide(minute(1)).does(),
        "",
        "the pod was made with another Secret"
    );
    let named = |town: TownBuilder| {
        town.edit(|t| t.spec.activity_probe.as_mut().unwrap().token_secret_name = Some("gas-00000001".into()))
    };
    assert_eq!(
        lacking(named(with_token("gas-00000001"))).decide(minute(1)).does(),
        "",
        "the Secret is the user's"
    );

    let sits = |town: &TownBuilder| {
        let mut agent = mayor().asked().running().of(town);
        agent.0.pod.as_mut().unwrap().token_secret_name = Some("mayor-00000002".into());
        agent.0.probe.secret_missing = true;
        agent.decide(minute(1)).does()
    };
    assert_eq!(sits(&running_town()), "create token");
    assert_eq!(sits(&town().asleep(Idle)), "", "nothing is made for a town that sleeps");
}

#[test]
fn probe_period_follows_the_alarm_intervals() {
    let cadence = |town: TownBuilder| {
        town.edit(|t| {
            t.spec.alarm.active = crate::api::Duration::new("7s");
            t.spec.alarm.idle = crate::api::Duration::new("40s");
        })
    };
    for (case, report, every) in [("idle", quiet(), 40), ("at work", says("x", ReportedState::Working), 7)] {
        let town = cadence(running_town().heard(minute(1), report));
        let early = town.decide(second(60 + every - 1));
        assert_eq!((early.asks.len(), early.look_again), (0, Some(second(60 + every))), "{case}");
        assert!(early.lenient, "{case}: a little later is as good");
        let due = town.decide(second(60 + every));
        assert_eq!(due.asks.len(), 1, "{case}");
    }
    // A probe that coincides with another deadline keeps the exact time of that deadline.
    let both = running_town().heard(minute(29), quiet()).decide(minute(29));
    assert_eq!((both.look_again, both.lenient), (Some(minute(30)), false));
    let mut mayor = mayor().heard(minute(1), quiet()).running();
    for (town, every) in [(running_town(), 60), (running_town().active(), 5)] {
        mayor = mayor.of(&town);
        let early = mayor.decide(second(60 + every - 1));
        assert_eq!((early.asks.len(), early.look_again), (0, Some(second(60 + every))));
        assert_eq!(mayor.decide(second(60 + every)).asks.len(), 1);
    }
}

#[test]
fn active_probe_period_is_kept_after_one_failed_probe() {
    let busy = running_town().heard(minute(1), says("x", ReportedState::Working)).settled(minute(1));
    let hiccup = busy.silent(1, minute(2), minute(2));
    assert_eq!(hiccup.decide(second(125)).asks.len(), 1, "5 s after the question");
}

#[test]
fn pod_has_at_most_one_probe_in_progress() {
    let mut town = running_town().heard(minute(1), quiet());
    town.0.probe.under_way = true;
    assert_eq!(town.decide(minute(99)).asks.len(), 0);
    let mut mayor = mayor().heard(minute(1), quiet()).running();
    mayor.0.probe.under_way = true;
    assert_eq!(mayor.decide(minute(99)).asks.len(), 0);
    let mut falling = unasked().draining(Idle, minute(30));
    falling.0.probe.under_way = true;
    let plan = falling.decide(minute(31));
    assert_eq!((plan.phase(), plan.asks.len(), plan.does().as_str()), ("Draining", 0, ""), "it is awaited");
}

#[test]
fn clock_step_back_delays_a_probe_by_at_most_the_step() {
    let town = running_town().heard(minute(20), quiet());
    let plan = town.decide(minute(10));
    assert_eq!((plan.asks.len(), plan.look_again), (0, Some(second(20 * 60 + 60))));
}

/// A town marked at minute 30 as falling asleep, with a mayor in its own pod.
fn falling() -> TownBuilder {
    running_town().asked().draining(Idle, minute(30))
}

fn look(town: TownBuilder, facts: ProbeFacts, now: Timestamp) -> Plan<TownStatus> {
    let mut town = town;
    town.0.probe = facts;
    town.decide(now)
}

#[test]
fn final_check_probes_again_after_the_drain_time() {
    let before = answered(second(1799), quiet());
    let at_once = look(falling(), before.clone(), minute(30));
    assert_eq!((at_once.asks.len(), at_once.does().as_str()), (0, ""), "marks are in whole seconds");
    assert_eq!(at_once.look_again, Some(second(1801)));
    let plan = look(falling(), before, second(1801));
    assert_eq!((names(&plan), plan.does().as_str()), (vec!["gas-pod".to_owned()], ""));
    let same_second = look(falling(), answered(second(1800), quiet()), second(1802));
    assert_eq!((same_second.asks.len(), same_second.does().as_str()), (1, ""), "before or after? ask again");
}

#[test]
fn final_check_deletes_the_pods_after_a_fresh_answer_without_work() {
    let plan = look(falling(), answered(second(1801), quiet()), second(1802));
    assert_eq!((plan.phase(), plan.does().as_str()), ("Draining", "delete pod gas-pod"));
}

#[test]
fn final_check_cancels_the_drain_when_an_answer_reports_work() {
    for (case, report) in [
        ("an agent at work", says("mayor", ReportedState::Working)),
        ("merge requests", {
            let mut report = quiet();
            report.backlog.merge_requests = 1;
            report
        }),
    ] {
        let plan = look(falling(), answered(second(1801), report), second(1802));
        assert_eq!((plan.phase(), plan.does().as_str()), ("Running", ""), "{case}");
        assert!(plan.note.as_ref().is_some_and(|n| n.starts_with("the town stays awake")), "{case}");
    }
}

#[test]
fn final_check_cancels_an_idle_drain_when_a_probe_fails() {
    let silence = || unheard(1, second(1801), second(1801));
    let plan = look(falling(), silence(), second(1802));
    assert_eq!(plan.phase(), "Idle");
    assert!(plan.note.as_ref().is_some_and(|n| n.contains("connection refused")), "{:?}", plan.note);
    let known = running_town().asked().draining(ActivityUnknown, minute(30));
    let plan = look(known, silence(), second(1802));
    assert_eq!(plan.does(), "delete pod gas-pod");
    let decreed = running_town().asked().suspended().draining(Suspended, minute(30));
    assert_eq!(look(decreed, silence(), second(1802)).does(), "delete pod gas-pod", "a decree asks nobody");
}

#[test]
fn final_check_waits_for_one_more_answer_when_the_activity_was_unknown() {
    let unknown = || running_town().asked().draining(ActivityUnknown, minute(30));
    let plan = look(unknown(), unheard(30, minute(1), minute(29)), second(1801));
    assert_eq!((plan.asks.len(), plan.does().as_str()), (1, ""));
    let plan = look(unknown(), answered(second(1801), says("x", ReportedState::Working)), second(1802));
    assert_eq!(plan.phase(), "Running", "work turns it back, whatever the reason");
    let plan = look(unknown(), answered(second(1801), quiet()), second(1802));
    assert_eq!(plan.does(), "delete pod gas-pod");
}

#[test]
fn final_check_waits_for_an_answer_of_every_probed_pod() {
    let sits = |name: &str| -> AgentBuilder {
        let agent = polecat(name).edit(|a| a.spec.mode = Some(crate::api::Mode::Session));
        agent.asked().started().running()
    };
    let town = || running_town().draining(Idle, minute(30)).with(sits("toast")).with(sits("nux"));
    assert_eq!(names(&town().decide(second(1801))), ["toast-pod", "nux-pod"]);
    let fresh = |report| answered(second(1801), report);
    let mut half = town();
    half.0.agent_probes.insert(uid("toast"), fresh(quiet()));
    let plan = half.decide(second(1802));
    assert_eq!(
        (names(&plan), plan.does().as_str()),
        (vec!["nux-pod".to_owned()], ""),
        "one is left to answer"
    );
    let mut all = half.clone();
    all.0.agent_probes.insert(uid("nux"), fresh(quiet()));
    assert!(all.decide(second(1802)).does().contains("delete pod nux-pod"));
    let mut silent = half.clone();
    silent.0.agent_probes.insert(uid("nux"), unheard(1, second(1801), second(1801)));
    assert!(silent.decide(second(1802)).note.is_some(), "one without an answer turns it back");
    let mut busy = half;
    busy.0.agent_probes.insert(uid("nux"), fresh(says("nux", ReportedState::Working)));
    assert!(busy.decide(second(1802)).note.is_some());
    let gone = running_town().draining(Idle, minute(30)).with(sits("toast").deleting(minute(1)));
    assert_eq!(names(&gone.decide(second(1801))), Vec::<String>::new(), "who is being deleted is not asked");
}

// Review code:A7.
#[test]
fn final_check_needs_one_answer_of_each_pod_after_the_drain_time() {
    let town = (0_i64..20).fold(running_town().draining(Idle, minute(30)), |town, n| {
        let agent = polecat(&format!("p{n}")).edit(|a| a.spec.mode = Some(crate::api::Mode::Session));
        town.with(agent.heard(second(1801 + 5 * n), quiet()).started().running())
    });
    assert!(town.decide(second(1801 + 100)).does().starts_with("delete pod gas-pod"));
}

#[test]
fn final_check_ends_30_seconds_after_the_drain_timeout() {
    let town = |why| {
        let mut town = running_town().asked().drain("2m").draining(why, minute(30));
        town.0.probe.under_way = true;
        town
    };
    let bound = minute(32) + SignedDuration::from_secs(30);
    let waits = town(Idle).decide(minute(31));
    assert_eq!((waits.phase(), waits.does().as_str(), waits.look_again), ("Draining", "", Some(bound)));
    let plan = town(Idle).decide(bound);
    assert_eq!((plan.phase(), plan.does().as_str()), ("Idle", ""), "a silent pod turns it back");
    assert_eq!(
        town(ActivityUnknown).decide(bound).does(),
        "delete pod gas-pod",
        "unless that is why it sleeps"
    );
}

#[test]
fn failing_pod_is_probed_less_often() {
    let waits = |failures| {
        let mayor = mayor().started().running().of(&running_town().active());
        let plan = mayor.silent(failures, minute(1), minute(20)).decide(minute(20));
        plan.look_again.map(|at| at.duration_since(minute(20)).as_secs())
    };
    assert_eq!([3, 4, 5, 6, 7, 99].map(waits), [5, 10, 20, 40, 60, 60].map(Some));
}

#[test]
fn pod_without_a_node_is_not_probed() {
    let mut town = running_town().asked();
    town.0.pods[0].node = None;
    assert_eq!(names(&town.decide(minute(1))), Vec::<String>::new());
}

// Review code:A41.
#[test]
fn drain_of_a_destroying_town_probes_the_pods_at_work() {
    let destroying = |state| {
        let mayor = mayor().started().running().heard(minute(30), says("mayor", state));
        running_town().with(mayor).destroying(minute(30)).remains_as_seen()
    };
    let plan = destroying(ReportedState::Working).decide(minute(31));
    assert_eq!((names(&plan), plan.does().as_str()), (vec!["mayor-pod".to_owned()], ""));
    assert!(!destroying(ReportedState::Idle).decide(second(1801)).does().is_empty(), "it need not wait");
    let own = running_town().heard(minute(30), says("x", ReportedState::Working));
    let own = own.destroying(minute(30)).remains_as_seen();
    assert_eq!(own.decide(second(1801)).does(), "", "what the town's own pod reports counts, too");
}

#[test]
fn final_check_does_not_wait_for_a_pod_that_cannot_answer() {
    let unready = town().asked().pod(pod("gas").unready(minute(1))).draining(Idle, minute(30));
    assert_eq!(unready.decide(second(1801)).does(), "delete pod gas-pod");
}

#[test]
fn drain_probes_the_pods_at_work_and_ends_early_when_they_finish() {
    let town = running_town().suspended().drain("2m").draining(Suspended, minute(30));
    let town = town.heard(minute(30), says("x", ReportedState::Working));
    let early = town.decide(second(1804));
    assert_eq!((early.asks.len(), early.look_again), (0, Some(second(1805))));
    let plan = town.decide(second(1805));
    assert_eq!((plan.asks.len(), plan.does().as_str()), (1, ""));
    let mut done = town.clone();
    done.0.probe = answered(second(1806), quiet());
    assert_eq!(done.decide(second(1806)).does(), "delete pod gas-pod", "it need not wait for the end");
    assert_eq!(town.decide(minute(32)).does(), "delete pod gas-pod", "nor longer than that");
}
