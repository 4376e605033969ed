//! The binding of an agent to a town: once, only to a live town, and never to a successor.

use super::build::{AgentBuilder, Read, mayor, minute, polecat, running_town, town, uid};
use crate::api::AsleepReason::Idle;
use crate::api::condition::{RECONCILING, STALLED, reason};
use crate::api::names;
use crate::lifecycle::{Freshness, Uid, is_new, needs_live_town};

#[test]
fn new_town_is_adopted_before_anything_else() {
    let plan = town().not_adopted().decide(minute(0));
    assert_eq!((plan.does().as_str(), plan.status), ("adopt", None));
    let unlabelled = town().edit(|t| t.metadata.labels = None);
    assert_eq!(unlabelled.decide(minute(0)).does(), "adopt", "finalizer without label");
    let stripped = town().edit(|t| t.metadata.finalizers = None);
    assert_eq!(stripped.decide(minute(0)).does(), "adopt", "label without finalizer");
}

#[test]
fn live_object_with_an_older_finalizer_is_adopted() {
    let [older] = names::OLDER_FINALIZERS;
    let held = |by: &str| {
        let town = running_town().status(|s| s.phase = Some("Idle".into()));
        town.edit(|t| t.metadata.finalizers = Some(vec![by.into()]))
    };
    assert_eq!(held(older).decide(minute(0)).does(), "adopt");
    assert!(!is_new(&held(older).0.town) && is_new(&held("gastown.dev/else").0.town), "it was held before");
    let agent = polecat("toast").hook("b1").edit(|a| a.metadata.finalizers = Some(vec![older.into()]));
    assert_eq!(agent.decide(minute(0)).does(), format!("bind to town {}", uid("gas")));
    let successors = agent.bound_to(&Uid::new("old")).of_live(&running_town()).decide(minute(1));
    assert_eq!((successors.does().as_str(), successors.reason(STALLED)), ("", reason::TOWN_GONE));
}

#[test]
fn object_of_another_installation_is_left_alone() {
    let theirs = polecat("toast").hook("b1").running();
    for (case, town) in [
        ("alive", running_town().foreign()),
        ("idle for ages", running_town().foreign().created(minute(-9000))),
        ("suspended", running_town().suspended().foreign()),
        ("tombstoned", running_town().tombstone("x").foreign()),
        ("being deleted", running_town().destroying(minute(0)).remains(|_| {}).foreign()),
    ] {
        let plan = town.with(theirs.clone()).decide(minute(60));
        assert_eq!(plan, crate::lifecycle::Plan::nothing(), "{case}");
    }
    for (case, agent) in [
        ("alive", theirs.clone()),
        ("tombstoned", theirs.clone().tombstone("x")),
        ("being deleted", theirs.clone().own_tombstone(minute(1)).deleting(minute(1)).remains(|_| {})),
        ("of no town", theirs.townless(Freshness::Live)),
    ] {
        let plan = agent.foreign().decide(minute(60));
        assert_eq!(plan, crate::lifecycle::Plan::nothing(), "{case}");
    }
}

#[test]
fn agent_is_bound_to_a_live_town_that_lists_its_rig() {
    let new = || polecat("toast").unbound();
    let plan = new().decide(minute(0));
    assert_eq!((plan.does(), plan.status), (format!("bind to town {}", uid("gas")), None));
    let plan = new().of(&town().asleep(Idle)).decide(minute(0));
    assert_eq!(plan.does(), format!("bind to town {}", uid("gas")), "also to one that sleeps");
    let rigless = mayor().unbound().of(&running_town().rigs(&[]));
    assert_eq!(rigless.decide(minute(0)).does(), format!("bind to town {}", uid("gas")));
}

#[test]
fn unbound_agent_is_blocked_with_a_reason_until_a_town_accepts_it() {
    let new = || polecat("toast").hook("b1").unbound();
    for (case, agent, condition, why) in [
        ("no town", new().townless(Freshness::Cached), RECONCILING, reason::TOWN_NOT_FOUND),
        ("no town", new().townless(Freshness::Live), RECONCILING, reason::TOWN_NOT_FOUND),
        ("a town that goes", new().of(&town().deleting(minute(0))), RECONCILING, reason::TOWN_TERMINATING),
        ("a tombstoned town", new().of(&town().tombstone("x")), RECONCILING, reason::TOMBSTONED),
        ("no such rig", new().of(&town().rigs(&["other"])), STALLED, reason::RIG_NOT_FOUND),
    ] {
        let plan = agent.decide(minute(0));
        assert_eq!((plan.phase(), plan.does().as_str()), ("Blocked", ""), "{case}");
        assert!(plan.is(condition), "{case}");
        assert_eq!(plan.reason(condition), why, "{case}");
        let settled = agent.after(&plan);
        assert_eq!(settled.decide(minute(9)).status, settled.0.agent.status, "{case}: said once");
    }
}

#[test]
fn agent_is_not_bound_to_a_foreign_unadopted_or_unreadable_town() {
    let new = || polecat("toast").unbound();
    for (case, agent) in [
        ("a town of another installation", new().of(&town().foreign())),
        ("such a town that goes", new().of(&town().deleting(minute(0)).foreign())),
        ("such a town with a tombstone", new().of(&town().tombstone("x").foreign())),
        ("such a town without its rig", new().of(&town().rigs(&[]).foreign())),
        ("a town that is not adopted yet", new().of(&town().not_adopted())),
        ("a town that could not be read", new().town_unknown()),
    ] {
        let plan = agent.decide(minute(0));
        assert_eq!((plan.does().as_str(), plan.status), ("", None), "{case}");
    }
}

#[test]
fn missing_rig_is_named_together_with_the_rigs_of_the_town() {
    let plan = polecat("toast").unbound().of(&town().rigs(&["a", "b"])).decide(minute(0));
    assert!(plan.message(STALLED).contains("rig rig"), "{}", plan.message(STALLED));
    assert!(plan.message(STALLED).contains("(a, b)"), "{}", plan.message(STALLED));
}

/// Agents whose town is gone.
fn orphans() -> Vec<(&'static str, AgentBuilder)> {
    let toast = || polecat("toast").hook("b1").attempt("b1", 1, minute(0)).running();
    vec![
        ("no town of that name", toast().townless(Freshness::Live)),
        ("a successor of that name", toast().bound_to(&Uid::new("old")).of_live(&running_town())),
    ]
}

#[test]
fn orphan_agent_stops_and_keeps_its_claim_and_is_not_bound_again() {
    for (case, agent) in orphans() {
        let plan = agent.claim(super::build::claim("toast")).decide(minute(1));
        assert_eq!((plan.phase(), plan.reason(STALLED)), ("Blocked", reason::TOWN_GONE), "{case}");
        assert_eq!(plan.does(), "delete pod toast-pod", "{case}");
    }
}

#[test]
fn agent_without_its_finalizer_is_bound_again_only_to_its_own_live_town() {
    let stripped = || polecat("toast").hook("b1").edit(|a| a.metadata.finalizers = None);
    assert_eq!(stripped().decide(minute(1)).does(), format!("bind to town {}", uid("gas")));
    let orphan = stripped().bound_to(&Uid::new("old")).of_live(&running_town()).decide(minute(1));
    assert_eq!((orphan.does().as_str(), orphan.reason(STALLED)), ("", reason::TOWN_GONE));
    for (case, agent) in [
        ("its town goes", stripped().of(&running_town().deleting(minute(0)))),
        ("its town is not adopted", stripped().of(&running_town().not_adopted())),
    ] {
        assert_eq!(agent.decide(minute(1)).does(), "", "{case}");
    }
}

// I-cache-lag.
#[test]
fn town_counts_as_gone_only_after_a_live_read() {
    let toast = || polecat("toast").hook("b1").running();
    for (case, agent) in [
        ("absent from the cache", toast().townless(Freshness::Cached)),
        ("another one in the cache", toast().bound_to(&Uid::new("old")).of(&running_town())),
        ("could not be read", toast().town_unknown()),
    ] {
        let plan = agent.decide(minute(1));
        assert_eq!((plan.does().as_str(), plan.status), ("", None), "{case}");
    }
}

/// The rig of the agent was listed before.
fn listed(agent: AgentBuilder) -> AgentBuilder {
    agent.status(|s| s.rig = Some("rig".into()))
}

// A1.
#[test]
fn agent_of_a_rig_that_the_town_never_listed_waits_and_is_kept() {
    let unlisted = polecat("toast").hook("b1").of_live(&running_town().rigs(&["other"]));
    let plan = unlisted.decide(minute(1));
    assert_eq!((plan.does().as_str(), plan.reason(STALLED)), ("", reason::RIG_NOT_FOUND));
    let moved = listed(polecat("toast")).edit(|a| a.spec.rig = Some("orchrad".into()));
    let plan = moved.of_live(&running_town()).decide(minute(1));
    assert_eq!((plan.does().as_str(), plan.reason(STALLED)), ("", reason::RIG_NOT_FOUND));
    let plan = polecat("toast").hook("b1").of(&running_town()).decide(minute(1));
    assert_eq!(plan.status.unwrap().rig.as_deref(), Some("rig"), "the record that the town lists it");
}

#[test]
fn agent_of_a_removed_rig_is_deleted() {
    let plan = listed(polecat("toast")).of_live(&running_town().rigs(&["other"])).decide(minute(1));
    assert_eq!((plan.does().as_str(), plan.status), ("delete agent toast", None));
    let rigless = mayor().of_live(&running_town().rigs(&[])).decide(minute(1));
    assert_eq!(rigless.does(), "create pod", "who names no rig loses none");
}

#[test]
fn rig_counts_as_removed_only_after_a_live_read() {
    let plan = listed(polecat("toast").hook("b1")).of(&running_town().rigs(&["other"])).decide(minute(1));
    assert_eq!((plan.does().as_str(), plan.status), ("", None));
}

#[test]
fn agent_does_not_delete_itself_when_its_town_is_deleting() {
    let going = running_town().rigs(&[]).deleting(minute(0));
    assert_eq!(polecat("toast").of_live(&going).decide(minute(1)).does(), "");
}

#[test]
fn town_is_read_live_before_its_agent_is_stopped_or_deleted() {
    let toast = polecat("toast");
    let facts = |t: &super::build::TownBuilder| t.facts();
    let needs = |a: &AgentBuilder, t: Option<&super::build::TownBuilder>| {
        needs_live_town(&a.0.agent, t.map(facts).as_ref())
    };
    assert!(!needs(&toast, Some(&running_town())), "all is well");
    assert!(needs(&toast, None), "no town in the cache");
    assert!(needs(&listed(toast.clone()), Some(&running_town().rigs(&[]))), "no longer its rig in the cache");
    assert!(!needs(&toast, Some(&running_town().rigs(&[]))), "a rig that was never listed");
    assert!(needs(&toast.clone().bound_to(&Uid::new("old")), Some(&running_town())), "another town");
    assert!(needs(&toast.clone().deleting(minute(0)), Some(&running_town())), "being deleted");
    assert!(!needs(&toast.unbound(), None), "not bound: nothing to lose");
}
