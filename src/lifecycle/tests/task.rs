//! A Task agent: it has a pod only while its bead is unfinished, and the status records each attempt and each outcome.

use super::build::{
    AgentBuilder, PodBuilder, Read, claim, mayor, minute, pod, polecat, running_town, second, town, uid,
};
use crate::api::AsleepReason::{Idle, Suspended};
use crate::api::Outcome::{Done, Failed, Interrupted};
use crate::api::condition::{DEGRADED, FINISHED, READY, RECONCILING, STALLED, WORKING, reason};
use crate::api::{AgentStatus, WorkStatus, names};
use crate::lifecycle::{Plan, Standing, reads_secrets_of_agent};

/// An agent with bead b1 on its hook.
fn toast() -> AgentBuilder {
    polecat("toast").hook("b1")
}

/// An agent with a first attempt at b1 since minute 0.
fn tried() -> AgentBuilder {
    toast().attempt("b1", 1, minute(0))
}

fn work(plan: &Plan<AgentStatus>) -> WorkStatus {
    plan.status.as_ref().and_then(|s| s.work.clone()).unwrap_or_default()
}

#[test]
fn task_agent_without_a_hook_is_idle() {
    let plan = polecat("toast").decide(minute(1));
    assert_eq!((plan.phase(), plan.does().as_str(), plan.is(READY)), ("Idle", "", true));
}

#[test]
fn attempt_is_recorded_before_its_pod_is_created() {
    let plan = toast().decide(minute(5));
    assert_eq!((plan.phase(), plan.does().as_str()), ("Starting", ""), "the record comes first");
    let attempt = work(&plan);
    assert_eq!((attempt.bead.as_str(), attempt.attempts, attempt.outcome), ("b1", 1, None));
    assert_eq!((attempt.start_time.unwrap().0, attempt.finish_time), (minute(5), None));
    assert_eq!(toast().after(&plan).decide(minute(5)).does(), "create pod");
}

#[test]
fn task_agent_claim_is_created_before_its_pod() {
    assert_eq!(tried().storage().decide(minute(1)).does(), "create claim, create pod");
    assert_eq!(tried().storage().claim(claim("toast")).decide(minute(1)).does(), "create pod");
    let mut going = claim("toast");
    going.child.deleting = true;
    let plan = tried().storage().claim(going).decide(minute(1));
    assert_eq!((plan.does().as_str(), plan.reason(READY)), ("", reason::CLAIM_UNUSABLE));
}

#[test]
fn task_agent_is_working_while_its_pod_runs() {
    let plan = tried().running().decide(minute(1));
    assert_eq!((plan.phase(), plan.is(WORKING), plan.is(READY)), ("Working", true, true));
    let plan = tried().pod(|p| p).decide(minute(1));
    assert_eq!((plan.phase(), plan.is(WORKING), plan.is(RECONCILING)), ("Starting", false, true));
}

#[test]
fn task_agent_runs_only_while_its_town_is_awake() {
    for (case, town) in [
        ("asleep", town().asleep(Idle)),
        ("falling asleep", running_town().draining(Idle, minute(1))),
        ("suspended", running_town().suspended()),
        ("being deleted", running_town().deleting(minute(1))),
    ] {
        let seen = toast().status(|s| s.phase = Some("Idle".into()));
        let plan = seen.of(&town).decide(minute(2));
        assert_eq!((plan.phase(), plan.does().as_str()), ("Asleep", ""), "{case}");
    }
}

#[test]
fn attempt_outcome_is_recorded_before_the_pod_is_released() {
    let told_at_5 = || tried().pod(|p| p.exited(0, minute(5)).told_to_stop(minute(5)));
    let suspended = running_town().suspended().draining(Suspended, minute(1));
    for (case, agent, outcome) in vec![
        ("exit 0", tried().pod(|p| p.exited(0, minute(5))), Done),
        (
            "exit 0 before it was told to stop",
            { tried().pod(|p| p.exited(0, second(299)).told_to_stop(minute(5))) },
            Done,
        ),
        ("exit 0 as it was told to stop", told_at_5(), Interrupted),
        (
            "exit 0 after it was told to stop",
            { tried().pod(|p| p.exited(0, minute(6)).told_to_stop(minute(5))) },
            Interrupted,
        ),
        ("exit 0 after the town told it to stop", told_at_5().of(&suspended), Interrupted),
        (
            "exit 0 before it was told to stop, but nobody can say any more when that was",
            tried().pod(|p| p.exited(0, second(299)).killed(minute(5))),
            Interrupted,
        ),
        ("exit 1", tried().pod(|p| p.exited(1, minute(5))), Failed),
        (
            "exit 1 after the town told it to stop",
            { tried().of(&suspended).pod(|p| p.exited(1, minute(6)).told_to_stop(minute(5))) },
            Interrupted,
        ),
        (
            "told to stop by somebody else",
            tried().pod(|p| p.exited(143, minute(6)).told_to_stop(minute(5))),
            Interrupted,
        ),
        ("killed without grace", tried().pod(|p| p.ready().killed(minute(5))), Interrupted),
    ] {
        let plan = agent.decide(minute(7));
        let ended = work(&plan);
        assert_eq!((plan.does().as_str(), ended.outcome), ("", Some(outcome)), "{case}");
        assert_eq!(ended.finish_time.map(|t| t.0), Some(minute(7)), "{case}");
        assert_eq!(ended.attempts, i32::from(outcome != Interrupted), "{case}: only its own failures count");
        let released = agent.after(&plan).decide(minute(7)).does();
        assert!(released.starts_with("release pod toast-pod"), "{case}: then it is let go: {released}");
    }
}

#[test]
fn evicted_task_pod_is_released_and_its_start_is_not_counted() {
    let evicted = tried().pod(PodBuilder::evicted);
    let plan = evicted.decide(minute(7));
    assert_eq!((work(&plan).outcome, work(&plan).attempts), (Some(Interrupted), 0));
    let plan = evicted.after(&plan).decide(minute(7));
    assert_eq!(plan.does(), "release pod toast-pod, delete pod toast-pod");
}

#[test]
fn release_removes_only_the_finalizer_of_the_operator() {
    let plan = toast().done(&["b1"]).pod(|p| p.exited(0, minute(5))).decide(minute(6));
    let crate::lifecycle::Action::ReleaseResult { position, .. } = plan.actions[0] else {
        panic!("{plan:?}")
    };
    assert_eq!(position, 1, "the second one; the first is somebody else's");
    let going = toast().done(&["b1"]).pod(|p| p.exited(0, minute(5)).told_to_stop(minute(5)));
    assert_eq!(going.decide(minute(6)).does(), "release pod toast-pod", "and not deleted twice");
}

#[test]
fn finished_pod_is_kept_until_late_creates_have_settled() {
    let finished = |code| {
        let mut agent = toast().done(&["b1"]).pod(|p| p.exited(code, minute(5)));
        agent.0.creates_settle_at = Some(minute(8));
        agent
    };
    let plan = finished(0).decide(minute(7));
    assert_eq!((plan.does().as_str(), plan.look_again), ("", Some(minute(8))));
    assert!(finished(0).decide(minute(8)).does().starts_with("release pod"), "then it is let go");
    let mut failed = tried().ended(Failed, minute(6)).pod(|p| p.exited(1, minute(5)));
    failed.0.creates_settle_at = Some(minute(8));
    assert!(
        failed.decide(minute(7)).does().starts_with("release pod"),
        "a bead that failed is tried again anyway"
    );
}

#[test]
fn pod_created_after_its_attempt_ended_starts_a_new_attempt() {
    let interrupted = || tried().ended(Interrupted, minute(2));
    let plan = interrupted().pod(|p| p.created(minute(3)).ready()).decide(minute(4));
    let attempt = work(&plan);
    assert_eq!((attempt.start_time.map(|t| t.0), attempt.outcome), (Some(minute(4)), None));
    let plan =
        interrupted().after(&plan).pod(|p| p.created(minute(3)).exited(0, minute(5))).decide(minute(6));
    assert_eq!(work(&plan).outcome, Some(Done), "and what it does counts");
    let before = interrupted().pod(|p| p.created(minute(1)).ready()).decide(minute(4));
    assert_eq!(
        work(&before).outcome,
        Some(Interrupted),
        "what is seen late of the one before does not begin another"
    );
}

#[test]
fn done_bead_never_runs_again() {
    let done = || polecat("toast").done(&["b0", "b1"]);
    for (case, agent) in [
        ("the last one", done().hook("b1")),
        ("an earlier one", done().hook("b0")),
        ("with its town asleep", done().hook("b1").of(&town().asleep(Idle))),
        ("without a template", done().hook("b1").of(&running_town().no_agent_template())),
    ] {
        let plan = agent.decide(minute(1));
        assert_eq!((plan.phase(), plan.does().as_str()), ("Done", ""), "{case}");
        assert!(plan.is(READY) && plan.is(FINISHED), "{case}");
    }
    let rerun = done().hook("b1").running().decide(minute(1));
    assert_eq!(rerun.does(), "delete pod toast-pod", "a pod for a done bead is ended");
}

#[test]
fn done_list_keeps_the_last_32_beads() {
    let names: Vec<String> = (1..=32).map(|n| format!("b{n}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let agent = polecat("toast").done(&names).hook("new").attempt("new", 1, minute(0));
    let done = work(&agent.pod(|p| p.exited(0, minute(5))).decide(minute(6))).done;
    assert_eq!((done.len(), done[0].as_str(), done[31].as_str()), (32, "b2", "new"));
}

#[test]
fn done_pod_counts_without_a_record_of_its_attempt() {
    let plan = toast().pod(|p| p.exited(0, minute(5))).decide(minute(6));
    assert_eq!(work(&plan).done, ["b1"]);
}

#[test]
fn attempt_with_an_outcome_gets_no_second_outcome() {
    let ended = tried().ended(Failed, minute(4)).pod(|p| p.exited(0, minute(5)));
    let plan = ended.decide(minute(6));
    assert_eq!((plan.does().as_str(), plan.status), ("release pod toast-pod, delete pod toast-pod", None));
}

#[test]
fn failed_attempt_is_retried_after_a_growing_back_off() {
    for (attempts, wait) in [(1, 30), (2, 60), (3, 120), (4, 300)] {
        let failed = toast().attempt("b1", attempts, minute(100)).ended(Failed, minute(101));
        let early = failed.decide(second(6060 + wait - 1));
        assert_eq!((early.phase(), early.reason(READY)), ("Starting", reason::BACK_OFF), "{attempts}");
        assert_eq!((early.look_again, early.is(DEGRADED)), (Some(second(6060 + wait)), true), "{attempts}");
        let due = failed.decide(second(6060 + wait));
        let next = work(&due);
        assert_eq!((next.attempts, next.finish_time, next.outcome), (attempts + 1, None, None));
        assert_eq!(due.does(), "", "the record comes first");
    }
}

#[test]
fn task_agent_is_failed_when_it_reaches_its_retry_limit() {
    let failed = toast().attempt("b1", 5, minute(100)).ended(Failed, minute(110));
    let plan = failed.decide(minute(111));
    assert_eq!((plan.phase(), plan.reason(DEGRADED)), ("Failed", reason::RETRY_LIMIT_EXCEEDED));
    assert_eq!((plan.is(READY), plan.is(STALLED), plan.is(RECONCILING)), (false, false, false));
    assert!(!plan.is(FINISHED), "failed is not finished");
    assert_eq!(plan.look_again, Some(minute(140)), "it is tried once more a window later");
    let own_limit = toast().retry(2, "10m").attempt("b1", 2, minute(100)).ended(Failed, minute(110));
    let plan = own_limit.decide(minute(111));
    assert_eq!((plan.phase(), plan.look_again), ("Failed", Some(minute(120))));
    let raised = failed.retry(6, "30m").decide(minute(111));
    assert_eq!(raised.phase(), "Starting", "a raised limit helps at once");
}

#[test]
fn failed_attempts_are_counted_in_a_row() {
    let failed = |began| toast().attempt("b1", 4, minute(began)).ended(Failed, minute(100));
    let next = work(&failed(10).decide(minute(110)));
    assert_eq!((next.attempts, next.window_start_time.unwrap().0), (5, minute(10)));
}

#[test]
fn failed_agent_retries_once_a_window_that_doubles_up_to_a_day() {
    let hour = 60;
    let day = 24 * hour;
    for (attempts, minutes) in
        [(5, 30), (6, 60), (7, 120), (8, 240), (9, 480), (10, 960), (11, day), (12, day), (500, day)]
    {
        let failed = toast().attempt("b1", attempts, minute(0)).ended(Failed, minute(100));
        let early = failed.decide(minute(100 + minutes - 1));
        assert_eq!((early.phase(), early.look_again), ("Failed", Some(minute(100 + minutes))), "{attempts}");
        let next = work(&failed.decide(minute(100 + minutes)));
        assert_eq!((next.attempts, next.finish_time), (attempts + 1, None), "the count goes on");
    }
}

#[test]
fn failed_agent_stays_failed_while_its_town_sleeps() {
    let failed = polecat("toast").failed("b1", minute(100));
    for (case, town) in
        [("asleep", town().asleep(Idle)), ("draining", running_town().draining(Idle, minute(99)))]
    {
        for now in [101, 131, 10_000] {
            let plan = failed.clone().of(&town).decide(minute(now));
            assert_eq!((plan.phase(), plan.does().as_str()), ("Failed", ""), "{case}, minute {now}");
            assert_eq!(plan.look_again, None, "{case}, minute {now}: a sleeping town has no timers");
            let town = town.clone().with(failed.clone().after(&plan));
            assert_ne!(
                town.decide(minute(now)).phase(),
                "Starting",
                "{case}, minute {now}: it wakes no town"
            );
        }
    }
}

#[test]
fn new_bead_starts_with_its_first_attempt() {
    let next = work(&polecat("toast").failed("b0", minute(100)).hook("b1").decide(minute(101)));
    assert_eq!((next.bead.as_str(), next.attempts), ("b1", 1));
    let next = work(&polecat("toast").done(&["b0"]).hook("b1").decide(minute(101)));
    assert_eq!((next.attempts, next.done), (1, vec!["b0".to_owned()]), "what is done stays done");
}

#[test]
fn task_pod_is_replaced_when_the_hook_has_another_bead() {
    let swapped = polecat("toast").hook("b2").attempt("b1", 1, minute(0));
    let running = swapped.clone().pod(|p| p.ready().bead("b1"));
    assert_eq!(running.decide(minute(1)).does(), "delete pod toast-pod");
    let going = swapped.clone().pod(|p| p.ready().bead("b1").told_to_stop(minute(1)));
    assert_eq!(going.decide(minute(1)).does(), "", "it has its grace period");
    let ended = swapped.pod(|p| p.exited(143, minute(2)).bead("b1").told_to_stop(minute(1)));
    let plan = ended.decide(minute(2));
    assert_eq!(plan.does(), "");
    let recorded = (work(&plan).bead, work(&plan).outcome);
    assert_eq!(recorded, ("b1".into(), Some(Interrupted)), "no attempt at b2 while the old pod is there");
    let plan = ended.after(&plan).decide(minute(2));
    assert_eq!(plan.does(), "release pod toast-pod", "the old pod goes first");
}

#[test]
fn replaced_bead_is_done_when_its_pod_finished_before_its_stop_request() {
    let swapped = polecat("toast").hook("b2").attempt("b1", 1, minute(0));
    let plan = swapped.pod(|p| p.exited(0, minute(1)).bead("b1").told_to_stop(minute(2))).decide(minute(3));
    assert_eq!(work(&plan).done, ["b1"]);
}

#[test]
fn task_pod_is_deleted_when_its_hook_is_removed() {
    let dropped = polecat("toast").attempt("b1", 1, minute(0)).pod(|p| p.ready().bead("b1"));
    assert_eq!(dropped.decide(minute(1)).does(), "delete pod toast-pod");
}

#[test]
fn attempt_with_a_vanished_pod_fails_unless_its_town_sleeps() {
    let vanished = || tried().recorded_pod(minute(0));
    let plan = vanished().decide(minute(1));
    assert_eq!((plan.does().as_str(), work(&plan).outcome, work(&plan).attempts), ("", Some(Failed), 1));
    let plan = vanished().of(&town().asleep(Suspended)).decide(minute(1));
    assert_eq!((work(&plan).outcome, work(&plan).attempts), (Some(Interrupted), 0));
    let never_created = tried().of(&town().asleep(Suspended)).decide(minute(1));
    assert_eq!((work(&never_created).outcome, work(&never_created).attempts), (Some(Interrupted), 0));
    assert_eq!(never_created.phase(), "Asleep");
}

#[test]
fn interrupted_attempt_is_retried_soon_and_is_not_counted() {
    let slept = toast().attempt("b1", 0, minute(0)).ended(Interrupted, minute(10));
    assert_eq!(work(&slept.decide(minute(10))).attempts, 1, "the town slept: at once");
    let woken = slept.status(|s| s.work.as_mut().unwrap().disruptions = 1);
    let early = woken.decide(second(629));
    assert_eq!((early.phase(), early.look_again), ("Starting", Some(second(630))));
    let next = work(&woken.decide(second(630)));
    assert_eq!((next.attempts, next.outcome), (1, None));
}

#[test]
fn task_agent_without_a_template_is_blocked() {
    let plan = toast().of(&running_town().no_agent_template()).decide(minute(1));
    assert_eq!(
        (plan.phase(), plan.reason(STALLED), plan.does().as_str()),
        ("Blocked", reason::NO_TEMPLATE, "")
    );
}

#[test]
fn task_agent_leaves_its_pod_to_a_sleeping_or_draining_town() {
    let plan = tried().of(&town().asleep(Idle)).running().decide(minute(1));
    assert_eq!((plan.does().as_str(), plan.status), ("", None));
    let draining = running_town().suspended().draining(Suspended, minute(1));
    let plan = tried().of(&draining).running().decide(minute(1));
    assert_eq!((plan.phase(), plan.does().as_str()), ("Working", ""), "while the town drains it works on");
}

#[test]
fn repeated_decision_about_a_task_agent_causes_no_status_write() {
    for (case, agent) in [
        ("idle", polecat("toast")),
        ("starting", tried().pod(|p| p)),
        ("working", tried().running()),
        ("done", toast().done(&["b1"])),
        ("failed", toast().attempt("b1", 5, minute(0)).ended(Failed, minute(1))),
        ("backing off", toast().attempt("b1", 4, minute(0)).ended(Failed, minute(1))),
        ("asleep", toast().of(&town().asleep(Idle))),
    ] {
        let agent = agent.settled(minute(2));
        let again = agent.decide(minute(3));
        assert_eq!(again.status, agent.0.agent.status, "{case}");
        assert_eq!(again.does(), "", "{case}");
    }
}

#[test]
fn termination_message_is_kept_with_the_outcome() {
    let said = |code| {
        tried().pod(|mut p| {
            p = p.exited(code, minute(5));
            p.0.termination.as_mut().unwrap().message = "opened PR 7".into();
            p
        })
    };
    let done = work(&said(0).decide(minute(6)));
    assert_eq!((done.outcome, done.message.as_str()), (Some(Done), "opened PR 7"));
    let failed = work(&said(3).decide(minute(6)));
    assert_eq!(failed.message, "pod toast-pod ended with exit code 3: opened PR 7");
    let silent = work(&tried().pod(|p| p.exited(3, minute(5))).decide(minute(6)));
    assert_eq!(silent.message, "pod toast-pod ended with exit code 3", "and no more than there is");
}

#[test]
fn agent_with_a_taken_name_is_left_alone_in_a_sleeping_town_until_it_is_edited() {
    let sleeping = town().asleep(Idle);
    let taken = |agent: AgentBuilder| {
        agent.edit(|a| {
            let status = a.status.get_or_insert_default();
            super::build::set(&mut status.conditions, STALLED, true, reason::NAME_TAKEN);
        })
    };
    let agent = || taken(polecat("toast").hook("b1").settled(minute(1))).of(&sleeping);
    assert_eq!(agent().decide(minute(2)), Plan::nothing(), "it would wake its town again and again");
    let edited = agent().edit(|a| a.metadata.generation = a.metadata.generation.map(|g| g + 1));
    assert_eq!(edited.decide(minute(2)).phase(), "Asleep", "a new chance");
}

/// An agent past its limit of retries, whose pods had the revision r1.
fn past_limit() -> AgentBuilder {
    let failed = toast()
        .attempt("b1", 4, minute(0))
        .ended(Failed, minute(0))
        .status(|s| s.work.as_mut().unwrap().attempts = 4);
    let begun = failed.decide(minute(10));
    let begun = failed.after(&begun).pod(|p| p.exited(1, minute(11)));
    let ended = begun.decide(minute(11));
    let mut ended = begun.after(&ended);
    ended.0.pod = None;
    ended
}

// decisions 5.2
#[test]
fn change_of_a_named_secret_gives_a_failed_agent_a_new_chance() {
    let seen = |secrets: &str, agent: AgentBuilder| {
        let mut agent = agent;
        agent.0.secrets = Some(secrets.into());
        agent
    };
    assert!(reads_secrets_of_agent(&past_limit().0.agent, false, minute(12)), "nothing to compare with yet");
    let first = seen("s1", past_limit());
    let plan = first.decide(minute(12));
    assert_eq!(plan.phase(), "Failed");
    let compared = first.after(&plan);
    assert!(!reads_secrets_of_agent(&compared.0.agent, false, minute(12)));
    assert!(reads_secrets_of_agent(&compared.clone().edited().0.agent, false, minute(12)));
    assert_eq!(seen("s1", compared.clone()).decide(minute(12)).phase(), "Failed");
    let plan = seen("s2", compared).decide(minute(12));
    assert_eq!((plan.phase(), work(&plan).attempts), ("Starting", 1));
}

// code:A17
#[test]
fn failed_agent_retries_after_a_pod_change_but_not_after_another_edit() {
    assert_eq!(past_limit().decide(minute(12)).phase(), "Failed");
    assert_eq!(
        past_limit().edited().ttl("1h").decide(minute(12)).phase(),
        "Failed",
        "the edit does not concern its pod"
    );
    for (case, agent) in
        [("its template", past_limit().revision("r2")), ("restart-at", past_limit().restart_at("now"))]
    {
        let plan = agent.edited().decide(minute(12));
        assert_eq!((plan.phase(), work(&plan).attempts), ("Starting", 1), "{case}");
    }
}

#[test]
fn reset_of_failed_attempts_is_kept_until_the_agent_can_start() {
    let asleep = town().asleep(Idle);
    let full = Standing::RigFull { position: 1, limit: 1 };
    let changed = || past_limit().revision("r2").edited();
    for (case, held) in [
        ("its town sleeps", changed().of(&asleep)),
        ("its rig is full", changed().standing(full)),
        ("its volume is not there", changed().storage().claim(super::build::going(claim("toast")))),
    ] {
        let free =
            held.settled(minute(12)).of(&running_town()).standing(Standing::Free).claim(claim("toast"));
        let plan = free.decide(minute(13));
        assert_eq!((plan.phase(), work(&plan).attempts), ("Starting", 1), "{case}");
    }
}

#[test]
fn wake_request_gives_a_failed_agent_one_attempt() {
    let asked = |at| {
        running_town().status(|s| {
            s.wake_request_time = Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(at));
        })
    };
    let plan = past_limit().of(&asked(minute(10))).decide(minute(12));
    assert_eq!(plan.phase(), "Failed", "the request is older than the failure");
    let plan = past_limit().of(&asked(minute(12))).decide(minute(12));
    assert_eq!((plan.phase(), work(&plan).attempts), ("Starting", 6));
}

// code:A15, reports:P11
#[test]
fn attempt_fails_when_its_pod_does_not_run_within_ten_minutes() {
    let stuck =
        || tried().recorded_pod(minute(0)).pod(|p| p.trouble(reason::IMAGE_PULL, "the image is not there"));
    assert_eq!(stuck().decide(second(599)).look_again, Some(minute(10)));
    let plan = stuck().decide(minute(10));
    let failed = work(&plan);
    assert_eq!(
        (plan.does().as_str(), failed.outcome, failed.attempts),
        ("", Some(Failed), 1),
        "the record comes first"
    );
    assert_eq!((failed.message.as_str(), failed.external), ("the image is not there", true));
    assert_eq!(stuck().after(&plan).decide(minute(10)).does(), "delete pod toast-pod");
    let refused = tried().status(|s| {
        super::build::set(&mut s.conditions, DEGRADED, true, reason::QUOTA_EXCEEDED);
        s.conditions.last_mut().unwrap().message = "exceeded quota: pods".into();
    });
    assert_eq!(refused.decide(second(599)).does(), "create pod");
    let failed = work(&refused.decide(minute(10)));
    assert_eq!((failed.outcome, failed.message.as_str()), (Some(Failed), "exceeded quota: pods"));
}

// reports:P10
#[test]
fn attempt_ends_with_the_template_containers_while_an_injected_one_runs() {
    let beside = |code| {
        tried().running().pod(|p| {
            let mut p = p.exited(code, minute(5));
            p.0.phase = crate::lifecycle::PodPhase::Running;
            p
        })
    };
    for (code, outcome) in [(0, Done), (1, Failed)] {
        let plan = beside(code).decide(minute(6));
        assert_eq!((plan.does().as_str(), work(&plan).outcome), ("", Some(outcome)), "{code}");
        assert_eq!(beside(code).after(&plan).decide(minute(6)).does(), "delete pod toast-pod", "{code}");
    }
}

/// An agent that is done with b1 at minute 10, and deletes itself an hour later.
fn finished() -> AgentBuilder {
    let done = toast().hook("b1").attempt("b1", 1, minute(0)).ended(Done, minute(10)).done(&["b1"]);
    done.ttl("1h")
}

#[test]
fn finished_agent_deletes_itself_when_its_ttl_ends() {
    let done = finished().settled(minute(10));
    let plan = done.decide(minute(69));
    assert_eq!((plan.phase(), plan.does().as_str(), plan.look_again), ("Done", "", Some(minute(70))));
    let plan = done.decide(minute(70));
    assert_eq!((plan.does().as_str(), plan.status.is_none()), ("delete itself", true));
    let asleep = done.clone().of(&town().asleep(Idle));
    assert_eq!(asleep.decide(minute(70)).does(), "delete itself", "also while its town sleeps");
    let endless = done.clone().edit(|a| a.spec.ttl_after_finished = None);
    assert_eq!(
        (endless.decide(minute(9999)).does().as_str(), endless.decide(minute(99)).look_again),
        ("", None)
    );
    let more = done.hook("b2");
    assert_eq!(more.decide(minute(70)).phase(), "Starting", "another bead is more to do");
}

#[test]
fn failed_agent_deletes_itself_when_its_ttl_ends() {
    let failed = toast().failed("b1", minute(10)).ttl("10m").settled(minute(10));
    let plan = failed.decide(minute(19));
    assert_eq!((plan.phase(), plan.does().as_str(), plan.look_again), ("Failed", "", Some(minute(20))));
    assert_eq!(failed.decide(minute(20)).does(), "delete itself");
    let waits_longer = toast().failed("b1", minute(10)).ttl("10h").settled(minute(10));
    assert_eq!(work(&waits_longer.decide(minute(40))).attempts, 6, "its next attempt comes first");
    let between = toast().hook("b1").attempt("b1", 2, minute(0)).ended(Failed, minute(10)).ttl("1s");
    assert_ne!(between.decide(minute(11)).does(), "delete itself", "one that tries again is not finished");
}

#[test]
fn agent_does_not_delete_itself_before_its_outcome_is_recorded() {
    // The pod ended long ago, and the operator sees it only now.
    let unread = tried().ttl("1s").pod(|p| p.exited(0, minute(5)));
    let plan = unread.decide(minute(600));
    assert_eq!((plan.phase(), plan.does().as_str()), ("Done", ""));
    let unreported = finished();
    let plan = unreported.decide(minute(600));
    assert_eq!((plan.phase(), plan.does().as_str()), ("Done", ""), "the phase comes first");
    assert_eq!(unreported.after(&plan).decide(minute(600)).does(), "delete itself");
    let held = finished().settled(minute(10)).pod(|p| p.exited(0, minute(9)));
    assert_eq!(
        held.decide(minute(600)).does(),
        "release pod toast-pod, delete pod toast-pod",
        "its pod goes first"
    );
}

#[test]
fn session_agent_does_not_delete_itself() {
    let done = mayor().hook("b1").delivered("b1").done(&["b1"]).running().ttl("1s").settled(minute(1));
    assert_eq!(done.decide(minute(600)).does(), "");
}

#[test]
fn finished_bead_stays_done_when_its_pod_fails_or_is_gone() {
    let done = || finished().settled(minute(10));
    for (case, agent) in [
        ("its pod is gone", done()),
        ("its pod failed afterwards", done().pod(|p| p.exited(1, minute(11)))),
        ("its pod was evicted", done().pod(PodBuilder::evicted)),
        ("its pod still runs", done().running()),
    ] {
        let plan = agent.decide(minute(12));
        assert!(!plan.does().contains("create"), "{case}: {}", plan.does());
        let work = plan
            .status
            .map_or_else(|| agent.0.agent.status.clone().unwrap().work.unwrap(), |s| s.work.unwrap());
        assert_eq!((work.outcome, work.done), (Some(Done), vec!["b1".to_owned()]), "{case}");
    }
}

#[test]
fn attempt_fails_when_its_pod_ends_with_an_error() {
    let plan = tried().pod(|p| p.exited(1, minute(5))).decide(minute(5));
    assert_eq!((work(&plan).outcome, plan.is(FINISHED)), (Some(Failed), false));
}

#[test]
fn unrecorded_claim_is_recorded_when_the_agent_works_or_has_worked() {
    let works =
        || polecat("toast").storage().hook("b1").attempt("b1", 1, minute(0)).claim(claim("toast")).running();
    for agent in [works(), works().pod(|pod| pod.exited(0, minute(1)))] {
        let plan = agent.edit(|a| a.status.as_mut().unwrap().storage = None).decide(minute(1));
        let recorded = plan.status.unwrap().storage.unwrap();
        assert_eq!(
            (recorded.claim.as_str(), recorded.uid),
            ("toast-claim", Some(uid("toast-claim").to_string()))
        );
    }
}

#[test]
fn town_releases_the_ended_pod_of_a_missing_agent() {
    let mut ended = pod("toast").created(minute(1)).exited(0, minute(5)).told_to_stop(minute(5)).0;
    ended.finalizers = vec![names::RESULT_FINALIZER.into()];
    let mut town = running_town();
    town.0.ownerless = vec![ended];
    let does = town.decide(minute(6)).does();
    assert!(does.contains("release pod toast-pod"), "{does}");
    town.0.ownerless.clear();
    assert!(!town.decide(minute(6)).does().contains("release"), "one that an agent may still read stays");
}

// code:A11
#[test]
fn task_pod_is_created_only_for_the_bead_of_the_open_attempt() {
    let may = |agent: AgentBuilder| crate::lifecycle::may_begin(&agent.0.agent).is_ok();
    assert!(may(tried()));
    assert!(may(mayor().hook("b1")), "a Session agent has no attempts");
    for (case, agent) in [
        ("another bead is on the hook", polecat("toast").hook("b2").attempt("b1", 1, minute(0))),
        ("the hook is empty", polecat("toast").attempt("b1", 1, minute(0))),
        ("the bead is done", toast().done(&["b1"]).attempt("b1", 1, minute(0))),
        ("the attempt has ended", tried().ended(Failed, minute(1))),
        ("no attempt is on record", toast()),
    ] {
        assert!(!may(agent), "{case}");
    }
}
