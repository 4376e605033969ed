//! The volume of a town or an agent: it is created and grown, never adopted, never recreated silently, and released by
//! its policy.

use serde_json::{Value, json};

use super::build::{
    AgentBuilder, Read, TownBuilder, claim, claims_left, mayor, minute, polecat, running_town, town,
};
use crate::api::condition::{DEGRADED, READY, RECONCILING, STALLED, reason};
use crate::api::{AsleepReason, StorageStatus};
use crate::lifecycle::{ChildKind, ClaimFacts};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

fn of_size(owner: &str, size: &str) -> ClaimFacts {
    ClaimFacts { requested: Some(Quantity(size.into())), ..claim(owner) }
}

fn lost(owner: &str) -> ClaimFacts {
    ClaimFacts { lost: true, ..claim(owner) }
}

fn sized(size: &str) -> Value {
    json!({"size": size})
}

fn recorded(owner: &str) -> StorageStatus {
    let claim = claim(owner);
    StorageStatus { claim: claim.child.key.name, uid: Some(claim.child.uid.to_string()), capacity: None }
}

/// A task whose next step is its first attempt, or its pod.
fn begun() -> AgentBuilder {
    polecat("toast").hook("b1").attempt("b1", 1, minute(0))
}

fn existing() -> Value {
    json!({"existingClaimName": "mine"})
}

#[test]
fn existing_claim_is_used_and_no_claim_is_created() {
    let plan = town().awake().volume(&existing()).decide(minute(1));
    assert_eq!(plan.does(), "create pod");
    let status = plan.status.unwrap().storage;
    assert_eq!(status, Some(StorageStatus { claim: "mine".into(), ..StorageStatus::default() }));
    let plan = mayor().volume(&existing()).decide(minute(1));
    assert_eq!(
        (plan.does().as_str(), plan.status.unwrap().storage.unwrap().claim.as_str()),
        ("create pod", "mine")
    );
    assert_eq!(begun().volume(&existing()).decide(minute(1)).does(), "create pod");
}

#[test]
fn existing_claim_is_not_deleted_with_its_town() {
    let going = town().volume(&existing()).destroying(minute(1)).remains(|_| ());
    assert_eq!(
        going.decide(minute(1)).does(),
        "give receipts, remove finalizer",
        "it carries no label of ours: it is not listed"
    );
}

#[test]
fn claim_grows_to_a_larger_size_and_never_shrinks() {
    for (spec, there, grows) in [
        ("2Gi", "1Gi", true),
        ("1Gi", "1Gi", false),
        ("1024Mi", "1Gi", false),
        ("1Gi", "2Gi", false),
        ("1Gi", "1G", true),
    ] {
        let town = running_town().volume(&sized(spec)).claim(of_size("gas", there));
        let expected = if grows { format!("grow claim gas-claim to {spec}") } else { String::new() };
        assert_eq!(town.decide(minute(1)).does(), expected, "{spec} for {there}");
        let mayor = mayor().running().volume(&sized(spec)).claim(of_size("mayor", there));
        let expected = if grows { format!("grow claim mayor-claim to {spec}") } else { String::new() };
        assert_eq!(mayor.decide(minute(1)).does(), expected, "{spec} for {there}");
    }
    let unread = running_town().volume(&sized("2Gi")).claim(claim("gas"));
    assert_eq!(unread.decide(minute(1)).does(), "", "of a claim that does not say, nothing is asked");
    let task = begun().volume(&sized("2Gi")).claim(of_size("toast", "1Gi"));
    assert_eq!(task.decide(minute(1)).does(), "grow claim toast-claim to 2Gi, create pod");
}

#[test]
fn terminating_claim_is_awaited_and_never_used() {
    let going = |owner: &str| super::build::going(claim(owner));
    let plan = town().awake().storage().claim(going("gas")).decide(minute(1));
    assert_eq!((plan.phase(), plan.does().as_str()), ("Starting", ""));
    assert_eq!((plan.reason(READY), plan.is(STALLED)), (reason::CLAIM_UNUSABLE, false));
    assert!(plan.is(RECONCILING) && plan.is(DEGRADED));
    assert_eq!(begun().storage().claim(going("toast")).decide(minute(1)).does(), "");
    assert_eq!(mayor().storage().claim(going("mayor")).decide(minute(1)).does(), "");
}

#[test]
fn lost_volume_blocks_its_owner_and_creates_no_claim_or_pod() {
    let plan = town().awake().storage().claim(lost("gas")).decide(minute(1));
    assert_eq!((plan.phase(), plan.does().as_str()), ("Blocked", ""));
    assert_eq!((plan.reason(STALLED), plan.reason(DEGRADED)), (reason::STORAGE_LOST, reason::STORAGE_LOST));
    assert!(
        plan.message(READY).contains("restore the volume, or delete the claim"),
        "{}",
        plan.message(READY)
    );
    for agent in [mayor().storage().claim(lost("mayor")), begun().storage().claim(lost("toast"))] {
        let plan = agent.decide(minute(1));
        assert_eq!((plan.phase(), plan.does().as_str()), ("Blocked", ""));
        assert_eq!(
            (plan.reason(STALLED), plan.reason(DEGRADED)),
            (reason::STORAGE_LOST, reason::STORAGE_LOST)
        );
    }
}

#[test]
fn lost_volume_keeps_no_town_awake_and_wakes_none() {
    let asleep = town().asleep(AsleepReason::Idle);
    for agent in
        [mayor().storage().claim(lost("mayor")), polecat("toast").hook("b1").storage().claim(lost("toast"))]
    {
        let blocked = agent.of(&asleep).settled(minute(1));
        assert_eq!(blocked.decide(minute(1)).phase(), "Blocked");
        assert_eq!(asleep.clone().with(blocked).decide(minute(60)).phase(), "Asleep");
    }
}

#[test]
fn vanished_claim_is_recreated_with_a_notice() {
    let town = town().awake().storage().status(|s| s.storage = Some(recorded("gas")));
    let plan = town.decide(minute(1));
    assert_eq!(plan.does(), "create claim, create pod");
    let notice = &plan.notices[0];
    assert_eq!(notice.reason, reason::STORAGE_RECREATED);
    assert!(
        notice.note.contains("gas-claim") && notice.note.contains("the operator creates an empty claim"),
        "{}",
        notice.note
    );
    let first = super::build::town().awake().storage().decide(minute(1));
    assert!(first.notices.is_empty(), "a first one is no news");
    let user = super::build::town().awake().storage();
    let user =
        user.status(|s| s.storage = Some(StorageStatus { claim: "mine".into(), ..StorageStatus::default() }));
    assert!(user.decide(minute(1)).notices.is_empty(), "nor one in place of what was not ours");
    let mayor = mayor().storage().status(|s| s.storage = Some(recorded("mayor"))).decide(minute(1));
    assert_eq!((mayor.does().as_str(), mayor.notices.len()), ("create claim, create pod", 1));
    let toast = begun().storage().status(|s| s.storage = Some(recorded("toast"))).decide(minute(1));
    assert_eq!((toast.does().as_str(), toast.notices.len()), ("create claim, create pod", 1));
}

#[test]
fn claim_is_created_only_while_its_town_is_awake() {
    for (case, town) in [
        ("asleep", town().asleep(AsleepReason::Idle)),
        ("falling asleep", running_town().draining(AsleepReason::Idle, minute(1))),
        ("suspended", town().awake().suspended()),
    ] {
        assert!(!town.storage().decide(minute(1)).does().contains("create claim"), "{case}");
    }
}

fn retained() -> Value {
    json!({"size": "1Gi", "retainPolicy": "Retain"})
}

#[test]
fn retained_claim_is_released_with_its_town_and_not_deleted() {
    let going = |t: TownBuilder| t.claim(claim("gas")).destroying(minute(1)).remains_as_seen();
    assert_eq!(going(town().volume(&retained())).decide(minute(1)).does(), "retain claim gas-claim");
    assert_eq!(going(town().storage()).decide(minute(1)).does(), "delete claim gas-claim");
    let with_pod =
        running_town().volume(&retained()).claim(claim("gas")).destroying(minute(1)).remains_as_seen();
    assert_eq!(with_pod.decide(minute(1)).does(), "delete pod gas-pod", "in its order");
    let terminating = super::build::going(claim("gas"));
    let going = town().volume(&retained()).claim(terminating).destroying(minute(1)).remains_as_seen();
    assert_eq!(going.decide(minute(1)).does(), "", "one that somebody deletes is waited for");
}

#[test]
fn retained_claim_is_released_with_its_agent_and_not_deleted() {
    let sits = || mayor().volume(&retained()).claim(claim("mayor")).deleting(minute(1)).remains_as_seen();
    assert_eq!(sits().own_tombstone(minute(1)).decide(minute(1)).does(), "retain claim mayor-claim");
    let town = running_town().destroying(minute(1));
    assert_eq!(sits().of_live(&town).decide(minute(1)).does(), "retain claim mayor-claim", "with its town");
    let plain = mayor().storage().claim(claim("mayor")).deleting(minute(1)).remains_as_seen();
    assert_eq!(plain.of_live(&town).decide(minute(1)).does(), "delete claim mayor-claim");
}

#[test]
fn town_retains_only_its_own_claim() {
    let mut going = town().volume(&retained()).destroying(minute(1));
    going = going.remains(|r| claims_left(r, Ok(vec![claim("gas"), claim("toast")])));
    assert_eq!(going.decide(minute(1)).does(), "retain claim gas-claim, delete claim toast-claim");
}

// code.md A35: a user removed the finalizer of the agent, and its spec is gone with it.
#[test]
fn claim_of_a_missing_agent_is_retained_when_its_own_mark_says_so() {
    let marked = |retain| {
        let mut claim = claim("toast");
        claim.child.retain = retain;
        claim
    };
    let left = |claim| town().storage().destroying(minute(1)).remains(|r| claims_left(r, Ok(vec![claim])));
    assert_eq!(left(marked(true)).decide(minute(1)).does(), "retain claim toast-claim");
    assert_eq!(left(marked(false)).decide(minute(1)).does(), "delete claim toast-claim");
    let own = town().storage().destroying(minute(1)).remains(|r| {
        let mut own = claim("gas");
        own.child.retain = true;
        claims_left(r, Ok(vec![own]));
    });
    assert_eq!(own.decide(minute(1)).does(), "delete claim gas-claim", "the spec of the town counts");

    let alive = |storage: Value, retain| {
        let toast = polecat("toast").volume(&storage);
        let given_up = left(marked(retain)).with(toast).edit(|t| {
            t.metadata
                .annotations
                .get_or_insert_default()
                .insert(crate::api::names::ABANDON.into(), "agents".into());
        });
        let agents = given_up.0.agents.clone();
        given_up.remains(|r| r.agents = Ok(agents)).decide(minute(2)).does()
    };
    assert_eq!(alive(retained(), false), "retain claim toast-claim", "the spec of a living agent counts");
    assert_eq!(alive(json!({"size": "1Gi"}), true), "delete claim toast-claim");
}

// code.md A35.
#[test]
fn retain_policy_is_written_on_the_claim_when_the_spec_changes() {
    let marked = |owner, retain| {
        let mut claim = claim(owner);
        claim.child.retain = retain;
        claim
    };
    let plain = json!({"size": "1Gi"});
    for (storage, before, does) in [
        (retained(), false, "mark claim gas-claim as retained"),
        (retained(), true, ""),
        (plain.clone(), true, "mark claim gas-claim as not retained"),
        (plain.clone(), false, ""),
    ] {
        let with =
            |town: TownBuilder| town.volume(&storage).claim(marked("gas", before)).decide(minute(1)).does();
        assert_eq!(with(running_town()), does, "{storage}");
        assert_eq!(with(town().asleep(AsleepReason::Idle)), does, "asleep, {storage}");
    }
    let agent = |storage: &Value, before| mayor().volume(storage).claim(marked("mayor", before)).running();
    assert_eq!(agent(&retained(), false).decide(minute(1)).does(), "mark claim mayor-claim as retained");
    let asleep = agent(&plain, true).of(&town().asleep(AsleepReason::Idle));
    assert_eq!(asleep.decide(minute(1)).does(), "mark claim mayor-claim as not retained");
    let existing = running_town().volume(&json!({"existingClaimName": "data"})).claim(marked("gas", true));
    assert_eq!(existing.decide(minute(1)).does(), "", "a claim of the user is not ours to mark");
    let going = super::build::going(marked("gas", false));
    let going = running_town().volume(&retained()).claim(going).decide(minute(1)).does();
    assert!(!going.contains("mark"), "{going}");
}

#[test]
fn destruction_deletes_token_secrets_first_and_services_with_the_claims() {
    use super::build::{child, unanswered};
    use crate::lifecycle::ChildKind::{Secret, Service};
    let all = running_town().storage().claim(claim("gas")).destroying(minute(1)).remains_as_seen();
    let all = all.remains(|r| {
        for kind in [Service, Secret] {
            r.children.insert(kind, Ok(vec![child(kind, "gas")]));
        }
    });
    assert_eq!(
        all.clone().decide(minute(1)).does(),
        "delete secret gas-secret",
        "nothing can act in its name"
    );
    let no_secret = all.remains(|r| drop(r.children.insert(Secret, Ok(vec![]))));
    assert_eq!(no_secret.clone().decide(minute(1)).does(), "delete pod gas-pod");
    let nothing_runs = no_secret.remains(|r| r.pods = Ok(vec![]));
    assert_eq!(
        nothing_runs.clone().decide(minute(1)).does(),
        "delete claim gas-claim, delete service gas-service"
    );
    let unread = |kind| {
        let unread = nothing_runs.clone().remains(|r| drop(r.children.insert(kind, Err(unanswered("it")))));
        unread.decide(minute(1)).does()
    };
    assert_eq!(unread(Service), "delete claim gas-claim", "within a step everything is attempted");
    assert_eq!(unread(Secret), "", "between steps nothing is");
    for kind in [Service, Secret] {
        let never_asked = nothing_runs.clone().remains(|r| {
            r.children.insert(ChildKind::PersistentVolumeClaim, Ok(vec![]));
            r.children.insert(Service, Ok(vec![]));
            r.children.remove(&kind);
        });
        assert_eq!(never_asked.decide(minute(1)).does(), "", "{kind:?}: not asked for is not absent");
    }
}

#[test]
fn service_is_created_updated_and_deleted_with_the_ports() {
    let town = || running_town().ports(&[80]);
    let plan = town().decide(minute(1));
    assert_eq!(
        (plan.does().as_str(), plan.status.unwrap().service.as_deref()),
        ("create service", Some("gas-00000001"))
    );
    assert_eq!(town().service(&[80]).decide(minute(1)).does(), "");
    assert_eq!(town().service(&[80, 81]).decide(minute(1)).does(), "update service gas-service");
    let none = running_town().service(&[80]).decide(minute(1));
    assert_eq!((none.does().as_str(), none.status.unwrap().service), ("delete service gas-service", None));
    let mut going = town().service(&[81]);
    going.0.service.as_mut().unwrap().child.deleting = true;
    assert_eq!(going.decide(minute(1)).does(), "", "one that goes is waited for");
    assert_eq!(running_town().decide(minute(1)).does(), "");
    let asleep = super::build::town().asleep(AsleepReason::Idle).ports(&[80, 81]).service(&[80]);
    assert_eq!(asleep.decide(minute(1)).does(), "", "a sleeping town is left alone");
}

// A24.
#[test]
fn service_is_deleted_without_ports_when_the_town_has_no_pod_or_sleeps() {
    let bare = running_town().no_template().service(&[80]).decide(minute(1));
    assert!(bare.does().contains("delete service gas-service"), "{}", bare.does());
    let asleep = town().asleep(AsleepReason::Idle).service(&[80]).decide(minute(1));
    assert_eq!(asleep.does(), "delete service gas-service");
}
