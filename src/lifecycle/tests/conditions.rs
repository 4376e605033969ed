//! Conditions: a status always has every condition, and a reconcile writes only changes.

use super::build::{Read, TownBuilder, mayor, minute, polecat, running_town, set, town};
use crate::api::AsleepReason::Idle;
use crate::api::condition::{
    ACTIVE, ASLEEP, DEGRADED, DELETION_BLOCKED, FINISHED, OF_AGENT, OF_TOWN, POD_SCHEDULED, READY,
    RECONCILING, STALLED, WORKING, reason,
};
use crate::lifecycle::{Failure, overlay};

fn types(plan: &impl Read) -> Vec<&str> {
    plan.conditions().iter().map(|c| c.type_.as_str()).collect()
}

#[test]
fn first_status_has_all_conditions() {
    assert_eq!(types(&town().decide(minute(0))), OF_TOWN);
    assert_eq!(types(&town().asleep(Idle).decide(minute(0))), OF_TOWN);
    assert_eq!(types(&mayor().decide(minute(0))), OF_AGENT);
    assert_eq!(types(&polecat("toast").decide(minute(0))), OF_AGENT);
}

#[test]
fn condition_that_is_not_set_has_a_reason_of_its_own() {
    let falling = running_town().draining(Idle, minute(0)).decide(minute(1));
    assert_eq!(
        [ASLEEP, ACTIVE, DELETION_BLOCKED, STALLED].map(|type_| falling.reason(type_)),
        [reason::AWAKE, reason::NO_WORK, reason::NOT_DELETING, reason::AS_EXPECTED]
    );
    let new = mayor().decide(minute(0));
    assert_eq!(
        [FINISHED, WORKING, POD_SCHEDULED, DEGRADED].map(|type_| new.reason(type_)),
        [reason::NO_HOOK, reason::NO_WORK, reason::NO_POD, reason::AS_EXPECTED]
    );
}

// A25.
#[test]
fn condition_message_is_cut_when_it_is_longer_than_32768_bytes() {
    let mut conditions = Vec::new();
    set(&mut conditions, READY, true, reason::RUNNING);
    let failure = Failure { stalled: true, reason: reason::REQUEST_REFUSED, message: "é".repeat(20_000) };
    overlay(&mut conditions, &[], &failure, minute(1));
    assert_eq!(conditions[0].message.len(), 32_768);
}

#[test]
fn condition_keeps_its_transition_time_while_its_status_stays() {
    let idle = running_town().settled(minute(1));
    let busy = idle.clone().with(polecat("toast").hook("b1")).decide(minute(5));
    assert_eq!(busy.condition(ACTIVE).last_transition_time.0, minute(5), "it turned");
    assert_eq!(busy.condition(READY).last_transition_time.0, minute(1), "it did not");
}

#[test]
fn status_has_the_generation_that_was_decided_on() {
    let edited = running_town().settled(minute(1)).edit(|t| t.metadata.generation = Some(7));
    let plan = edited.decide(minute(2));
    assert_eq!(plan.status.as_ref().unwrap().observed_generation, Some(7));
    assert!(plan.conditions().iter().all(|c| c.observed_generation == Some(7)));
}

#[test]
fn status_shows_the_effective_mode_and_identity() {
    let status = mayor().decide(minute(0)).status.unwrap();
    assert_eq!((status.mode, status.identity.as_deref()), (Some(crate::api::Mode::Session), Some("mayor")));
    let named =
        polecat("toast").edit(|a| a.spec.identity = Some("nux".into())).decide(minute(0)).status.unwrap();
    assert_eq!((named.mode, named.identity.as_deref()), (Some(crate::api::Mode::Task), Some("nux")));
    let told = polecat("toast").edit(|a| a.spec.mode = Some(crate::api::Mode::Session)).decide(minute(0));
    assert_eq!(told.does(), "create pod", "the spec's word counts more than the role's");
}

#[test]
fn pod_scheduled_condition_is_written_only_with_other_changes() {
    let pending = mayor().pod(|p| p).settled(minute(1));
    let scheduled = pending.clone().pod(|mut p| {
        p.0.node = Some("node-1".into());
        p
    });
    let plan = scheduled.decide(minute(2));
    assert_eq!(plan.status, pending.0.agent.status, "not worth a write of its own");
    assert!(scheduled.running().decide(minute(2)).is(POD_SCHEDULED), "shown with the next one");
}

fn failure(stalled: bool) -> Failure {
    let reason = if stalled { reason::NAME_TAKEN } else { reason::QUOTA_EXCEEDED };
    Failure { stalled, reason, message: "exceeded quota: pods".into() }
}

#[test]
fn api_server_refusal_overrides_the_decided_conditions() {
    let decided = |t: TownBuilder| t.decide(minute(1));
    for (stalled, shown, not_shown) in [(true, STALLED, RECONCILING), (false, RECONCILING, STALLED)] {
        let mut plan = decided(running_town());
        overlay(&mut plan.status.as_mut().unwrap().conditions, &[], &failure(stalled), minute(1));
        assert!(!plan.is(READY) && plan.is(shown) && !plan.is(not_shown), "{shown}");
        assert_eq!(plan.message(READY), "exceeded quota: pods", "in its own words");
        assert_eq!(plan.is(DEGRADED), !stalled);
        assert_eq!(types(&plan), OF_TOWN);
    }
}

#[test]
fn repeated_refusal_gives_the_same_conditions() {
    let mut first = town().decide(minute(1)).status.unwrap();
    overlay(&mut first.conditions, &[], &failure(false), minute(1));
    let refused = town().status(|s| *s = first.clone());
    let mut again = refused.decide(minute(9)).status.unwrap();
    overlay(&mut again.conditions, &first.conditions, &failure(false), minute(9));
    assert_eq!(again.conditions, first.conditions);
}

#[test]
fn working_condition_is_true_only_while_a_pod_runs() {
    let toast = || polecat("toast").hook("b1").attempt("b1", 1, minute(0));
    assert!(!toast().decide(minute(1)).is(WORKING));
    assert!(!toast().pod(|p| p).decide(minute(1)).is(WORKING));
    assert!(toast().running().decide(minute(1)).is(WORKING));
    let mut stale = Vec::new();
    set(&mut stale, WORKING, true, reason::WORK);
    let over = toast().done(&["b1"]).status(|s| s.conditions = stale).decide(minute(1));
    assert!(!over.is(WORKING), "what was true before is not carried on");
}
