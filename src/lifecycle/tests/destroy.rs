//! Destruction: each step begins only after the previous step is proven done.

use k8s_openapi::jiff::Timestamp;

use super::build::{
    AgentBuilder, Read, TownBuilder, claim, claims_left, mayor, minute, nothing_left, pod, polecat,
    running_town, second, set, town, unanswered,
};
use crate::api::condition::{DEGRADED, DELETION_BLOCKED, READY, RECONCILING, STALLED, reason};
use crate::api::{BlockedBy, DestroyStep, names};
use crate::lifecycle::{Action, ChildKind, Freshness, Plan, Record, Uid};

/// A town in destruction since minute 0, with empty live lists.
fn going() -> TownBuilder {
    running_town().destroying(minute(0)).remains(|_| {})
}

fn idle() -> AgentBuilder {
    polecat("toast").hook("b1").done(&["b1"])
}

fn at_work() -> AgentBuilder {
    polecat("toast").hook("b1").attempt("b1", 1, minute(0)).running()
}

fn awaited(plan: &Plan<crate::api::TownStatus>) -> Vec<BlockedBy> {
    plan.status.as_ref().and_then(|s| s.destroy.clone()).map(|d| d.blocked_by).unwrap_or_default()
}

fn step(plan: &Plan<crate::api::TownStatus>) -> DestroyStep {
    plan.status.as_ref().unwrap().destroy.as_ref().unwrap().step
}

#[test]
fn tombstone_is_written_before_any_child_is_deleted() {
    let full = |t: TownBuilder| t.with(at_work()).claim(claim("gas")).remains_as_seen();
    for (case, town) in [
        ("awake", full(running_town())),
        ("asleep", full(town().asleep(crate::api::AsleepReason::Idle))),
        ("falling asleep", full(running_town().draining(crate::api::AsleepReason::Idle, minute(0)))),
        ("with a tombstone that names another", full(running_town()).tombstone("other@2030-01-01T00:00:00Z")),
    ] {
        let plan = town.deleting(minute(1)).decide(minute(1));
        assert_eq!((plan.phase(), plan.does().as_str()), ("Destroying", "write tombstone"), "{case}");
        assert!(plan.exclusive, "{case}: no create may be under way");
    }
}

// I-generation.
#[test]
fn generation_raised_by_a_deletion_delays_nothing() {
    let raised = going().edit(|t| t.metadata.generation = t.metadata.generation.map(|g| g + 1));
    let (as_it_was, raised) = (going().decide(minute(1)), raised.decide(minute(1)));
    assert_eq!(as_it_was.does(), "give receipts, remove finalizer");
    assert_eq!((raised.actions, raised.look_again), (as_it_was.actions, as_it_was.look_again));
}

#[test]
fn unadopted_object_is_left_alone_when_it_is_deleted() {
    let plan = town().not_adopted().deleting(minute(0)).decide(minute(1));
    assert_eq!(plan, Plan::nothing());
    let finalized = polecat("toast").unbound().deleting(minute(0)).decide(minute(1));
    assert_eq!(finalized, Plan::nothing());
}

#[test]
fn object_with_an_older_finalizer_is_destroyed_and_released() {
    for (finalizer, does) in [
        (names::OLDER_FINALIZERS[0], "give receipts, remove finalizer"),
        ("gastown.dev/else", ""),
        ("example.com/hold", ""),
    ] {
        let held = going().edit(|t| t.metadata.finalizers = Some(vec![finalizer.into()]));
        assert_eq!(held.decide(minute(1)).does(), does, "{finalizer}");
        let agent = alone(idle()).own_tombstone(minute(0)).remains(|_| {});
        let agent = agent.edit(|a| a.metadata.finalizers = Some(vec![finalizer.into()]));
        assert_eq!(agent.decide(minute(1)).does(), does, "{finalizer}");
    }
}

#[test]
fn destruction_waits_until_the_remaining_objects_are_read() {
    let mut unread = going();
    unread.0.remains = None;
    assert_eq!(unread.decide(minute(1)), Plan::nothing());
    let mut unread = polecat("toast").own_tombstone(minute(0)).deleting(minute(0));
    unread.0.remains = None;
    assert_eq!(unread.decide(minute(1)), Plan::nothing());
}

#[test]
fn destruction_deletes_agents_then_pods_then_claims_then_the_finalizer() {
    let stay = || going().with(idle().running()).claim(claim("gas")).remains_as_seen();
    assert_eq!(stay().decide(minute(1)).does(), "delete agent toast");
    let no_agents = || stay().remains(|r| r.agents = Ok(vec![]));
    assert_eq!(no_agents().decide(minute(1)).does(), "delete pod gas-pod, delete pod toast-pod");
    let no_pods = || no_agents().remains(|r| r.pods = Ok(vec![]));
    assert_eq!(no_pods().decide(minute(1)).does(), "delete claim gas-claim");
    let nothing = no_pods().remains(|r| claims_left(r, Ok(vec![])));
    assert_eq!(nothing.decide(minute(1)).does(), "give receipts, remove finalizer");
    let quick = nothing.decide(second(1));
    assert_eq!((quick.does().as_str(), quick.status), ("give receipts, remove finalizer", None));
}

// reports:P2
#[test]
fn blocked_by_names_the_tombstone_when_the_last_writes_do_not_succeed() {
    let town = going().decide(second(5));
    assert_eq!(
        (town.does().as_str(), awaited(&town)[0].kind.as_str()),
        ("give receipts, remove finalizer", "Tombstone")
    );
    let agent = alone(idle()).own_tombstone(minute(0)).remains(|_| {}).decide(second(5));
    let destroy = agent.status.as_ref().unwrap().destroy.as_ref().unwrap();
    assert_eq!(
        (agent.does().as_str(), destroy.blocked_by[0].kind.as_str()),
        ("give receipts, remove finalizer", "Tombstone")
    );
}

// reports:P2
#[test]
fn abandon_is_offered_only_while_no_write_is_refused() {
    let stuck = || going().remains(|r| r.pods = Ok(vec![pod("gas").ready().told_to_stop(minute(0)).0]));
    let offers =
        |town: TownBuilder| town.decide(minute(10)).message(DELETION_BLOCKED).contains(names::ABANDON);
    assert!(offers(stuck()));
    let refused = |reason| stuck().status(|s| set(&mut s.conditions, DEGRADED, true, reason));
    assert!(!offers(refused(reason::REQUEST_REFUSED)));
    assert!(offers(refused(reason::NODE_LOST)));
}

// reports:P2
#[test]
fn blocked_town_shows_the_blocker_of_its_agent() {
    let waits = |message: Option<&str>| {
        let blocked_by = message.map(|message| BlockedBy {
            kind: "Pod".into(),
            name: "toast-pod".into(),
            message: message.into(),
            ..BlockedBy::default()
        });
        let agent = idle().deleting(minute(0)).status(|s| {
            s.destroy = Some(crate::api::DestroyStatus {
                start_time: k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(minute(0)),
                step: DestroyStep::Compute,
                blocked_by: blocked_by.into_iter().collect(),
            });
        });
        going().with(agent).remains_as_seen()
    };
    let silent = waits(None).decide(minute(1));
    assert_eq!(awaited(&silent)[0].message, "being destroyed");
    let told = waits(Some("denied: audit")).after(&silent);
    assert_eq!(
        awaited(&told.decide(minute(2)))[0].message,
        "being destroyed",
        "one write less for each agent"
    );
    let blocked = told.decide(minute(10));
    assert!(
        blocked.message(DELETION_BLOCKED).contains("it waits for Pod toast-pod: denied: audit"),
        "{blocked:?}"
    );
    let again = told.after(&blocked);
    assert_eq!(again.decide(minute(11)).status, again.0.town.status, "it is written once");
}

#[test]
fn deleting_object_is_awaited_and_not_deleted_again() {
    let agents = going().with(idle().deleting(minute(0))).remains_as_seen();
    let pods = going().remains(|r| r.pods = Ok(vec![pod("gas").ready().told_to_stop(minute(0)).0]));
    let claims = going().remains(|r| {
        let mut claim = claim("gas");
        claim.child.deleting = true;
        claims_left(r, Ok(vec![claim]));
    });
    for (case, town) in [("agents", agents), ("pods", pods), ("claims", claims)] {
        let plan = town.decide(minute(1));
        assert_eq!((plan.phase(), plan.does().as_str()), ("Destroying", ""), "{case}");
        assert_eq!(awaited(&plan).len(), 1, "{case}");
    }
}

#[test]
fn destruction_waits_when_a_list_fails() {
    let agents = || going().remains(|r| r.agents = Err(unanswered("Agent")));
    let pods = || going().remains(|r| r.pods = Err(unanswered("Pod")));
    let claims = || going().remains(|r| claims_left(r, Err(unanswered("PersistentVolumeClaim"))));
    for (case, town) in [("agents", agents()), ("pods", pods()), ("claims", claims())] {
        for now in [minute(1), minute(11), minute(100_000)] {
            let plan = town.decide(now);
            assert_eq!(plan.does(), "", "{case}: the finalizer stays, for ever if need be");
            assert!(awaited(&plan)[0].message.contains("the server is down"), "{case}: says why");
        }
    }
    // The next step does not begin.
    let more = |t: TownBuilder| {
        t.remains(|r| {
            claims_left(r, Ok(vec![claim("gas")]));
        })
    };
    assert_eq!(more(agents().remains(|r| r.pods = Ok(vec![pod("gas").0]))).decide(minute(9)).does(), "");
    assert_eq!(more(pods()).decide(minute(9)).does(), "");
}

#[test]
fn failed_list_is_retried_soon_and_then_with_growing_pauses() {
    let blind = going().remains(|r| r.pods = Err(unanswered("Pod")));
    for (now, again) in [(0, 1), (3, 5), (30, 60), (60, 120), (9000, 9060)] {
        assert_eq!(blind.decide(second(now)).look_again, Some(second(again)), "{now} s");
    }
    let brief = blind.drain("90s").decide(second(60));
    assert_eq!(brief.look_again, Some(second(90)), "at the latest when the drain is over");
    let toast = || alone(at_work()).own_tombstone(minute(0));
    let blind = toast().remains(|r| r.pods = Err(unanswered("Pod")));
    assert_eq!(blind.decide(second(30)).look_again, Some(second(60)));
    let townless = toast().remains_as_seen().town_unknown();
    assert_eq!(townless.decide(second(30)).look_again, Some(second(60)));
}

#[test]
fn deleting_agent_waits_when_its_town_cannot_be_read() {
    let plan = alone(at_work()).remains_as_seen().town_unknown().decide(minute(60));
    assert_eq!(plan.does(), "", "its town may allow it time, or be destroyed together with it");
    let destroy = plan.status.unwrap().destroy.unwrap();
    assert!(destroy.blocked_by[0].message.contains("the server is down"), "and it says why");
}

#[test]
fn destruction_waits_for_an_unanswered_create() {
    let settling = going().remains(|r| r.settled_at = Some(second(90)));
    let early = settling.decide(second(89));
    assert_eq!((early.does().as_str(), early.look_again), ("", Some(second(90))));
    assert_eq!(settling.decide(second(90)).does(), "give receipts, remove finalizer");
    let toast =
        idle().own_tombstone(minute(0)).deleting(minute(0)).remains(|r| r.settled_at = Some(second(90)));
    let early = toast.decide(second(89));
    assert_eq!((early.does().as_str(), early.look_again), ("", Some(second(90))));
    assert_eq!(toast.decide(second(90)).does(), "give receipts, remove finalizer");
}

#[test]
fn working_agents_may_finish_until_the_drain_timeout() {
    let busy = || going().drain("2m").with(at_work()).remains_as_seen();
    let plan = busy().decide(minute(1));
    assert_eq!((plan.does().as_str(), step(&plan)), ("", DestroyStep::Drain));
    assert_eq!(plan.look_again, Some(minute(2)));
    assert_eq!(busy().decide(second(119)).does(), "");
    assert_eq!(busy().decide(minute(2)).does(), "delete agent toast", "the bound is over");
    assert_eq!(busy().drain("0s").decide(minute(0)).does(), "delete agent toast", "no drain was asked for");
    let resting = going().with(idle().running()).remains_as_seen();
    assert_eq!(resting.decide(second(1)).does(), "delete agent toast", "nobody works");
    let ended = polecat("toast").hook("b1").pod(|p| p.exited(0, minute(0)));
    let ended = going().with(ended).remains_as_seen();
    assert_eq!(ended.decide(second(1)).does(), "delete agent toast", "it has finished");
}

#[test]
fn drain_continues_until_its_timeout_when_pods_cannot_be_listed() {
    let blind = || {
        going().drain("2m").with(at_work()).remains_as_seen().remains(|r| {
            r.pods = Err(unanswered("Pod"));
        })
    };
    let plan = blind().decide(minute(1));
    assert_eq!(plan.does(), "", "perhaps the agent works");
    assert!(awaited(&plan)[0].message.contains("the server is down"), "and it says why");
    assert_eq!(blind().decide(minute(2)).does(), "delete agent toast", "the bound is over");
}

#[test]
fn destruction_releases_a_pod_only_after_its_containers_ended() {
    let held = |p: super::build::PodBuilder| {
        let mut facts = p.0;
        facts.finalizers = vec![names::RESULT_FINALIZER.into()];
        going().remains(|r| r.pods = Ok(vec![facts]))
    };
    let runs = pod("toast").ready();
    assert_eq!(held(runs.clone()).decide(minute(5)).does(), "delete pod toast-pod");
    assert_eq!(held(runs.told_to_stop(minute(4))).decide(minute(5)).does(), "", "it still runs");
    let ended = pod("toast").exited(143, minute(5)).told_to_stop(minute(4));
    assert_eq!(held(ended).decide(minute(5)).does(), "release pod toast-pod");
}

#[test]
fn blocked_by_is_shown_after_5_seconds_and_deletion_blocked_after_10_minutes() {
    let stuck = going().remains(|r| {
        let mut pod = pod("gas").ready().told_to_stop(minute(0)).0;
        pod.finalizers = vec!["elsewhere/hold".into()];
        r.pods = Ok(vec![pod]);
    });
    let first = stuck.decide(second(4));
    assert_eq!((awaited(&first).len(), first.look_again), (0, Some(second(5))), "too early for a word");
    let stuck = stuck.after(&first);
    let named = stuck.decide(second(5));
    assert_eq!((step(&named), named.look_again), (DestroyStep::Compute, Some(second(65))));
    let waits_for = &awaited(&named)[0];
    assert_eq!((waits_for.kind.as_str(), waits_for.name.as_str()), ("Pod", "gas-pod"));
    assert_eq!(waits_for.finalizers, ["elsewhere/hold"]);
    assert!(!named.is(DELETION_BLOCKED));
    let stuck = stuck.after(&named);
    assert_eq!(stuck.decide(minute(9)).status, stuck.0.town.status, "one write");
    let blocked = stuck.decide(minute(10));
    assert!(blocked.is(DELETION_BLOCKED));
    for word in ["Compute", "Pod gas-pod", "node-1", "elsewhere/hold"] {
        assert!(blocked.message(DELETION_BLOCKED).contains(word), "{}", blocked.message(DELETION_BLOCKED));
    }
    assert_eq!((blocked.does().as_str(), blocked.look_again), ("", Some(minute(11))), "nothing is given up");
    let stuck = stuck.after(&blocked);
    assert_eq!(stuck.decide(minute(9999)).status, stuck.0.town.status, "no further write");
}

// The status names a missing right. The status uses the API server's text, also for an object without a UID and for
// the last writes.
#[test]
fn refusal_message_of_a_blocker_is_shown_in_the_condition() {
    let unwritten = town().destroying(minute(0)).edit(|t| t.metadata.annotations = None);
    let unwritten = unwritten.remains(|r| r.record = Record::Missing);
    let proven_gone = going();
    for (case, does) in
        [(unwritten, "create tombstone, write tombstone"), (proven_gone, "give receipts, remove finalizer")]
    {
        let blocked = case.decide(minute(10));
        assert_eq!(blocked.does(), does);
        assert!(blocked.message(DELETION_BLOCKED).contains("Tombstone town-"), "{blocked:?}");
        let refused = case.after(&blocked).status(|status| {
            let awaited = status.destroy.iter_mut().flat_map(|destroy| &mut destroy.blocked_by);
            awaited.for_each(|awaited| awaited.message = "this is forbidden".into());
        });
        let again = refused.decide(minute(11));
        assert_eq!((again.does().as_str(), again.look_again.is_some()), (does, does.starts_with("create")));
        assert!(again.message(DELETION_BLOCKED).contains("this is forbidden"), "{again:?}");
    }
}

#[test]
fn deletion_blocked_appears_after_the_configured_time() {
    let mut stuck = going().remains(|r| r.pods = Ok(vec![pod("gas").told_to_stop(minute(0)).0]));
    stuck.0.blocked_after = k8s_openapi::jiff::SignedDuration::from_secs(20);
    assert!(!stuck.decide(second(19)).is(DELETION_BLOCKED));
    assert!(stuck.decide(second(20)).is(DELETION_BLOCKED));
}

#[test]
fn blocked_by_names_at_most_20_objects_and_is_not_rewritten_while_one_remains() {
    let herd = |n: usize| (0..n).map(|i| idle_named(i).deleting(minute(0))).fold(going(), TownBuilder::with);
    let many = herd(30).remains_as_seen().settled(minute(1));
    assert_eq!(many.0.town.status.as_ref().unwrap().destroy.as_ref().unwrap().blocked_by.len(), 20);
    let status = many.0.town.status.clone();
    let fewer = herd(19).remains_as_seen().edit(|t| t.status = status.clone());
    let destroy = |p: &Plan<crate::api::TownStatus>| p.status.as_ref().unwrap().destroy.clone();
    assert_eq!(
        destroy(&fewer.decide(minute(2))),
        status.unwrap().destroy,
        "one of those named is still there"
    );
}

fn idle_named(i: usize) -> AgentBuilder {
    polecat(&format!("agent-{i}"))
}

#[test]
fn destroying_town_shows_its_phase_and_is_not_ready() {
    let plan = going().remains(|r| r.pods = Ok(vec![pod("gas").0])).decide(minute(1));
    assert_eq!(plan.phase(), "Destroying");
    assert_eq!((plan.is(READY), plan.is(RECONCILING), plan.is(STALLED)), (false, true, false));
}

#[test]
fn deleting_town_has_no_drain_time_and_no_sleep_time() {
    let drowsy = running_town()
        .draining(crate::api::AsleepReason::Idle, minute(0))
        .deleting(minute(1))
        .remains(|_| {});
    let status = drowsy.decide(minute(1)).status.unwrap();
    assert_eq!((status.drain_time, status.sleep_time), (None, None));
}

/// An agent that is deleted without its town, at minute 0.
fn alone(agent: AgentBuilder) -> AgentBuilder {
    agent.of_live(&running_town().drain("2m")).deleting(minute(0))
}

#[test]
fn agent_deleted_alone_writes_its_own_tombstone_first() {
    let plan = alone(at_work()).remains_as_seen().decide(minute(0));
    assert_eq!((plan.does().as_str(), plan.status), ("write tombstone", None));
    let foreign_stone = alone(at_work()).tombstone("other@2030-01-01T00:00:00Z").remains_as_seen();
    assert_eq!(foreign_stone.decide(minute(0)).does(), "write tombstone");
    let townless = at_work().townless(Freshness::Live).deleting(minute(0)).remains_as_seen();
    assert_eq!(townless.decide(minute(0)).does(), "write tombstone");
}

#[test]
fn agent_deleted_alone_may_finish_until_the_drain_timeout_of_its_town() {
    let busy = alone(at_work()).own_tombstone(minute(0)).remains_as_seen();
    let plan = busy.decide(minute(1));
    assert_eq!(plan.does(), "");
    assert_eq!(plan.look_again, Some(minute(2)));
    assert_eq!(busy.decide(minute(2)).does(), "delete pod toast-pod");
    let resting = alone(mayor().running()).own_tombstone(minute(0)).remains_as_seen();
    assert_eq!(resting.decide(second(1)).does(), "delete pod mayor-pod");
    let orphan = at_work().townless(Freshness::Live).own_tombstone(minute(0)).deleting(minute(0));
    assert_eq!(
        orphan.remains_as_seen().decide(second(1)).does(),
        "delete pod toast-pod",
        "no town, no drain"
    );
    let other = at_work().bound_to(&Uid::new("old")).of_live(&running_town()).own_tombstone(minute(0));
    let other = other.deleting(minute(0)).remains_as_seen();
    assert_eq!(
        other.decide(second(1)).does(),
        "delete pod toast-pod",
        "another town's patience does not count"
    );
}

#[test]
fn agent_destruction_deletes_pod_then_claim_then_finalizer() {
    let stay = || alone(idle().running().claim(claim("toast"))).own_tombstone(minute(0)).remains_as_seen();
    assert_eq!(stay().decide(minute(1)).does(), "delete pod toast-pod");
    let no_pod = || stay().remains(|r| r.pods = Ok(vec![]));
    assert_eq!(no_pod().decide(minute(1)).does(), "delete claim toast-claim");
    let nothing = no_pod().remains(|r| claims_left(r, Ok(vec![])));
    assert_eq!(nothing.decide(minute(1)).does(), "give receipts, remove finalizer");
    let blind = stay().remains(|r| r.pods = Err(unanswered("Pod")));
    assert_eq!(blind.decide(minute(1)).does(), "", "an unread list is not an empty one");
    let blind = no_pod().remains(|r| claims_left(r, Err(unanswered("PersistentVolumeClaim"))));
    assert_eq!(blind.decide(minute(1)).does(), "");
}

#[test]
fn agent_deleted_with_its_town_needs_no_tombstone_and_no_drain() {
    let with = |town: &TownBuilder| at_work().of_live(town).deleting(minute(0)).remains_as_seen();
    let plan = with(&running_town().destroying(minute(0))).decide(second(1));
    assert_eq!(
        (plan.does().as_str(), plan.status.clone()),
        ("delete pod toast-pod", None),
        "and no word is lost"
    );
    let undecided = running_town().deleting(minute(0));
    assert_eq!(with(&undecided).decide(second(1)).does(), "write tombstone", "the town has no tombstone yet");
    let stopped = running_town().tombstone("x");
    assert_eq!(with(&stopped).decide(second(1)).does(), "write tombstone", "the town is not being deleted");
    let successor = running_town().destroying(minute(0));
    let orphan =
        at_work().bound_to(&Uid::new("old")).of_live(&successor).deleting(minute(0)).remains_as_seen();
    assert_eq!(orphan.decide(second(1)).does(), "write tombstone", "it is another town's");
}

#[test]
fn deleting_agent_names_its_blocker_after_5_seconds() {
    let stuck =
        alone(idle().pod(|p| p.ready().told_to_stop(minute(0)))).own_tombstone(minute(0)).remains_as_seen();
    let early = stuck.decide(second(4));
    assert_eq!(
        (early.status.clone(), early.look_again),
        (None, Some(second(5))),
        "quick ones go without a word"
    );
    let named = stuck.decide(second(5));
    let destroy = named.status.as_ref().unwrap().destroy.clone().unwrap();
    assert_eq!((destroy.start_time.0, destroy.step), (minute(0), DestroyStep::Compute));
    assert_eq!(destroy.blocked_by[0].name, "toast-pod");
    let blocked = stuck.after(&named).decide(minute(10));
    assert!(blocked.is(DELETION_BLOCKED));
    assert_eq!(blocked.does(), "");
}

#[test]
fn delete_always_names_the_uid_of_its_object() {
    let all = going().with(idle()).claim(claim("gas")).remains_as_seen();
    let named = |now: Timestamp, t: &TownBuilder| t.decide(now).actions;
    let agents = named(minute(5), &all);
    assert!(matches!(&agents[..], [Action::DeleteAgent(_, uid)] if *uid == super::build::uid("toast")));
    let pods = named(minute(5), &all.clone().remains(|r| r.agents = Ok(vec![])));
    assert!(matches!(&pods[..], [Action::DeletePod(_, uid)] if *uid == super::build::uid("gas-pod")));
    let claims = all.remains(|r| *r = nothing_left()).remains(|r| claims_left(r, Ok(vec![claim("gas")])));
    let claims = named(minute(5), &claims);
    assert!(
        matches!(&claims[..], [Action::DeleteChild(ChildKind::PersistentVolumeClaim, _, uid)] if *uid == super::build::uid("gas-claim"))
    );
}
