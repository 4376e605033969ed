//! The Tombstone: the operator writes it before the first deletion, and completes it with a receipt for each object.

use std::sync::Arc;

use k8s_openapi::jiff::Timestamp;

use super::build::{
    AgentBuilder, Read, TownBuilder, child, claim, claims_left, mayor, minute, pod, polecat, running_town,
    second, town, uid, unanswered,
};
use crate::api::AsleepReason::Idle;
use crate::api::condition::{DEGRADED, DELETION_BLOCKED, READY, STALLED, reason};
use crate::api::{
    Cause, DestroyStep, Duration, ExpiryPolicy, Outcome, ReceiptOutcome, Recreate, Tombstone, TombstoneChild,
    TombstoneKind, TombstonePhase, TombstoneSpec, TombstoneStatus, names,
};
use crate::lifecycle::{
    Action, ChildKind, Freshness, NamespaceFacts, ObjectKey, OwnerRef, Plan, Record, Remains, TombstoneFacts,
    VolumeFacts, concerns, expire_time, is_new, lists_all_claims, removable, starting, tombstone_name,
};

/// A town in destruction since minute 0 with this result of the live lists.
fn going(change: impl FnOnce(&mut Remains)) -> TownBuilder {
    running_town().destroying(minute(0)).remains(change)
}

/// A record that names these children.
fn recorded(children: Vec<TombstoneChild>) -> Tombstone {
    let begun = spec(&running_town().deleting(minute(0)).live().remains(|r| r.record = Record::Missing));
    Tombstone::new("town-x", TombstoneSpec { children, ..begun })
}

fn there(children: Vec<TombstoneChild>) -> Record {
    Record::There(Arc::new(recorded(children)))
}

fn named(kind: &str, name: &str) -> TombstoneChild {
    TombstoneChild { kind: kind.into(), name: name.into(), uid: uid(name).to_string() }
}

fn namespace(terminating: bool) -> NamespaceFacts {
    NamespaceFacts { uid: uid("ns"), terminating }
}

/// The facts of a record with this creation time and this phase.
fn facts(name: &str, created: i64, phase: TombstonePhase, recreate: Recreate) -> TombstoneFacts {
    TombstoneFacts {
        key: ObjectKey { namespace: String::new(), name: name.into() },
        uid: uid(name),
        kind: TombstoneKind::Town,
        of: OwnerRef { key: ObjectKey { namespace: "ns".into(), name: "gas".into() }, uid: uid("gas") },
        namespace_uid: None,
        created: minute(created),
        phase,
        recreate,
        expire_time: minute(60),
    }
}

fn volume(retained: bool) -> VolumeFacts {
    VolumeFacts {
        name: "pv-1".into(),
        uid: uid("pv-1"),
        claim: Some(uid("gas-claim")),
        retained,
        message: "Bound".into(),
    }
}

/// The spec of the record at the beginning of the destruction.
fn spec(town: &TownBuilder) -> TombstoneSpec {
    written(&town.decide(minute(1)))
}

fn written<S>(plan: &Plan<S>) -> TombstoneSpec {
    let spec = plan.actions.iter().find_map(|action| match action {
        Action::CreateTombstone(spec) => Some((**spec).clone()),
        _ => None,
    });
    spec.unwrap()
}

fn receipts<S>(plan: &Plan<S>) -> TombstoneStatus {
    let status = plan.actions.iter().find_map(|action| match action {
        Action::GiveReceipts(_, status) => Some((**status).clone()),
        _ => None,
    });
    status.unwrap()
}

/// Each receipt as `outcome kind name`.
fn said<S>(plan: &Plan<S>) -> Vec<String> {
    let say = |r: &crate::api::Receipt| format!("{:?} {} {}", r.outcome, r.object.kind, r.object.name);
    receipts(plan).receipts.iter().map(|r| say(r).trim_end().to_owned()).collect()
}

fn blocked_by(plan: &Plan<crate::api::TownStatus>) -> Vec<String> {
    let destroy = plan.status.as_ref().unwrap().destroy.clone().unwrap();
    destroy.blocked_by.iter().map(|b| format!("{}: {}", b.kind, b.message)).collect()
}

fn abandons(town: TownBuilder, steps: &str) -> TownBuilder {
    town.edit(|t| {
        t.metadata.annotations.get_or_insert_default().insert(names::ABANDON.into(), steps.into());
    })
}

#[test]
fn tombstone_is_created_before_the_annotation_and_without_other_actions() {
    let full = |t: TownBuilder| {
        let toast = polecat("toast").hook("b1").running();
        t.live().with(toast).claim(claim("gas")).remains_as_seen().remains(|r| r.record = Record::Missing)
    };
    let plan = full(running_town().deleting(minute(0))).decide(minute(0));
    assert_eq!(plan.does(), "create tombstone, write tombstone");
    assert!(plan.exclusive, "no create may be under way");
    // A record that vanishes in the middle is written again, and the destruction waits for it.
    let plan = full(running_town().destroying(minute(0))).decide(minute(9));
    assert_eq!((plan.does().as_str(), plan.exclusive), ("create tombstone", true));
    assert_eq!(
        blocked_by(&plan),
        ["Tombstone: the operator writes it before it destroys anything"],
        "and it is said"
    );
    let kept = running_town().deleting(minute(0)).live().remains(|r| r.record = there(vec![]));
    assert_eq!(
        kept.decide(minute(0)).does(),
        "write tombstone",
        "the record came through, the answer did not"
    );
    let alone = polecat("toast").of_live(&running_town()).deleting(minute(0));
    let alone = alone.remains(|r| r.record = Record::Missing);
    assert_eq!(alone.decide(minute(0)).does(), "create tombstone, write tombstone");
}

#[test]
fn unreadable_tombstone_blocks_the_destruction() {
    let blind = going(|r| {
        r.record = Record::Unknown(unanswered("Tombstone"));
        r.pods = Ok(vec![pod("gas").0]);
    });
    let plan = blind.decide(minute(11));
    assert_eq!(plan.does(), "");
    assert_eq!(blocked_by(&plan), ["Tombstone: the server is down"]);
    assert!(plan.is(DELETION_BLOCKED) && plan.look_again.is_some());
    let alone = polecat("toast").own_tombstone(minute(0)).deleting(minute(0));
    let blind = alone.remains(|r| r.record = Record::Unknown(unanswered("Tombstone")));
    assert_eq!(blind.decide(minute(0)).does(), "");
}

#[test]
fn annotation_is_the_tombstone_when_no_record_is_kept() {
    let plan = running_town().deleting(minute(0)).live().remains(|_| {}).decide(minute(0));
    assert_eq!(plan.does(), "write tombstone");
    let end = going(|_| {}).decide(minute(1));
    assert!(
        matches!(&end.actions[0], Action::GiveReceipts(None, _)),
        "the receipts go elsewhere: {}",
        end.does()
    );
}

#[test]
fn tombstone_contains_owner_delete_time_cause_and_expire_time() {
    let begun = |t: TownBuilder| t.deleting(minute(0)).live().remains(|r| r.record = Record::Missing);
    let plain = spec(&begun(running_town()));
    assert_eq!(
        (plain.kind, plain.namespace.as_str(), plain.name.as_str()),
        (TombstoneKind::Town, "ns", "gas")
    );
    assert_eq!(
        (plain.uid, plain.delete_time.0, plain.cause),
        (uid("gas").to_string(), minute(0), Cause::Deleted)
    );
    let kept = begun(running_town().edit(|t| {
        t.spec.tombstone.retention = Duration::new("1h");
        t.spec.tombstone.recreate = Recreate::Refuse;
    }));
    assert_eq!((spec(&kept).expire_time.0, spec(&kept).recreate), (minute(60), Recreate::Refuse));

    let expired = |at, policy| spec(&begun(running_town().expires(at, policy))).cause;
    assert_eq!(expired(minute(0), ExpiryPolicy::Destroy), Cause::Expiry);
    assert_eq!(expired(second(1), ExpiryPolicy::Destroy), Cause::Deleted, "its time had not come");
    assert_eq!(expired(minute(0), ExpiryPolicy::Sleep), Cause::Deleted, "it would only have slept");
    let with_namespace = begun(running_town().expires(minute(0), ExpiryPolicy::Destroy));
    let with_namespace = with_namespace.remains(|r| r.namespace = Ok(Some(namespace(true))));
    assert_eq!(spec(&with_namespace).cause, Cause::Namespace, "before every other cause");
}

#[test]
fn agent_tombstone_contains_its_cause_and_the_retention_of_its_town() {
    let town = || running_town().edit(|t| t.spec.tombstone.retention = Duration::new("1h"));
    let begun = |agent: AgentBuilder, town: &TownBuilder| {
        let agent = agent.of_live(town).deleting(minute(10)).remains(|r| r.record = Record::Missing);
        written(&agent.decide(minute(10)))
    };
    let done = || polecat("toast").hook("b1").attempt("b1", 1, minute(0)).ended(Outcome::Done, minute(5));
    let plain = begun(polecat("toast"), &town());
    assert_eq!(
        (plain.kind, plain.cause, plain.expire_time.0),
        (TombstoneKind::Agent, Cause::Deleted, minute(70))
    );
    assert_eq!(begun(done().ttl("5m"), &town()).cause, Cause::TTL);
    assert_eq!(begun(done().ttl("6m"), &town()).cause, Cause::Deleted, "before its time");
    assert_eq!(begun(polecat("toast").ttl("1s"), &town()).cause, Cause::Deleted, "it never finished");
    assert_eq!(
        begun(done().status(|s| s.rig = Some("rig".into())).ttl("5m"), &town().rigs(&["other"])).cause,
        Cause::RigRemoved
    );
    let other_town = town().edit(|t| t.metadata.uid = Some("another".into())).rigs(&["other"]);
    let stranger = begun(polecat("toast"), &other_town);
    assert_eq!(stranger.cause, Cause::Deleted, "the rigs of a town that is not its own say nothing");
    assert_ne!(stranger.expire_time.0, minute(70), "nor how long its record stays");
}

#[test]
fn tombstone_names_every_object_that_was_ever_seen() {
    let town = running_town().with(polecat("toast").running()).claim(claim("gas")).deleting(minute(0)).live();
    let town = town.remains_as_seen().remains(|r| {
        r.record = Record::Missing;
        r.children.insert(ChildKind::Secret, Ok(vec![child(ChildKind::Secret, "gas")]));
        r.volumes = Ok(vec![volume(false)]);
        // The object is gone by now, and its first record, too.
        r.seen.insert(named("Service", "gas-service"));
    });
    let children = spec(&town).children;
    for wanted in [
        named("Agent", "toast"),
        named("Pod", "gas-pod"),
        named("Pod", "toast-pod"),
        named("PersistentVolumeClaim", "gas-claim"),
        named("Secret", "gas-secret"),
        named("Service", "gas-service"),
        named("PersistentVolume", "pv-1"),
    ] {
        let same = |c: &&TombstoneChild| (&c.kind, &c.name) == (&wanted.kind, &wanted.name);
        assert_eq!(children.iter().filter(same).count(), 1, "{wanted:?} of {children:?}");
    }
    assert_eq!(children.len(), 7);
}

#[test]
fn tombstone_names_at_most_500_objects_and_counts_the_others() {
    let many = |n: usize| (0..n).map(|i| named("Pod", &format!("p{i:04}"))).collect::<Vec<_>>();
    let begun = |n| {
        let town = running_town().deleting(minute(0)).live().remains(|r| r.record = Record::Missing);
        spec(&town.remains(|r| r.seen.extend(many(n))))
    };
    assert_eq!((begun(500).children.len(), begun(500).more_children.len()), (500, 0));
    let more = begun(503);
    assert_eq!(
        (more.children.len(), more.more_children[0].kind.as_str(), more.more_children[0].count),
        (500, "Pod", 3)
    );

    // Only receipts with the outcome Gone can be reduced to counts.
    let end = going(|r| {
        r.seen.extend(many(600));
        r.absent_kinds = vec!["Service"];
        r.retained.insert(uid("p0599"));
    });
    let status = receipts(&end.decide(minute(1)));
    let outcomes: Vec<_> = status.receipts.iter().take(3).map(|r| r.outcome).collect();
    assert_eq!(outcomes, [ReceiptOutcome::NeverExisted, ReceiptOutcome::Retained, ReceiptOutcome::Gone]);
    assert_eq!((status.receipts.len(), status.more_receipts[0].count), (500, 101));
}

#[test]
fn destruction_ends_with_a_receipt_for_each_object() {
    let end = going(|r| {
        r.record = there(vec![
            named("Pod", "gas-pod"),
            named("PersistentVolumeClaim", "gas-claim"),
            named("PersistentVolume", "pv-1"),
        ]);
        r.volumes = Ok(vec![volume(true)]);
        r.retained.insert(uid("gas-claim"));
        r.absent_kinds = vec!["Service"];
    });
    let plan = end.decide(minute(1));
    assert_eq!(plan.does(), "give receipts, remove finalizer");
    let mut all = said(&plan);
    all.sort();
    assert_eq!(
        all,
        [
            "Gone Pod gas-pod",
            "NeverExisted Service",
            "Retained PersistentVolume pv-1",
            "Retained PersistentVolumeClaim gas-claim"
        ]
    );
    let Action::GiveReceipts(Some(record), status) = &plan.actions[0] else { panic!("{}", plan.does()) };
    assert_eq!(*record, tombstone_name(TombstoneKind::Town, &uid("gas")));
    assert_eq!((status.phase, status.receipts[0].time.0), (TombstonePhase::Destroyed, minute(1)));
    let note = plan.note.unwrap();
    assert!(note.contains("nothing is left of it; proven gone: Pod 1; retained: "), "{note}");
}

#[test]
fn receipts_are_not_written_again_when_they_are_complete() {
    let mut record = recorded(vec![named("Pod", "gas-pod")]);
    let closed = |record: &Tombstone, now: Timestamp| {
        let record = Record::There(Arc::new(record.clone()));
        going(|r| r.record = record).decide(now)
    };
    record.status = Some(receipts(&closed(&record, minute(1))));
    assert_eq!(closed(&record, minute(9)).does(), "remove finalizer", "whenever they were given");
    let mut other = record.clone();
    other.status.as_mut().unwrap().phase = TombstonePhase::Destroying;
    assert_eq!(closed(&other, minute(9)).does(), "give receipts, remove finalizer");
    record.status.as_mut().unwrap().receipts.clear();
    assert_eq!(closed(&record, minute(9)).does(), "give receipts, remove finalizer");
}

#[test]
fn volume_is_recorded_before_its_claim_is_deleted() {
    let with = |record: Record, volumes| {
        going(|r| {
            r.record = record;
            r.volumes = volumes;
            claims_left(r, Ok(vec![claim("gas")]));
        })
    };
    let plan = with(there(vec![]), Ok(vec![volume(false)])).decide(minute(1));
    assert_eq!(plan.does(), "amend tombstone", "and its claim stays for now");
    let plan =
        with(there(vec![named("PersistentVolume", "pv-1")]), Ok(vec![volume(false)])).decide(minute(1));
    assert_eq!(plan.does(), "delete claim gas-claim");
    let plan = with(there(vec![]), Err(unanswered("PersistentVolume"))).decide(minute(1));
    assert_eq!(
        (plan.does(), blocked_by(&plan)),
        (String::new(), vec!["PersistentVolume: the server is down".into()])
    );
    let unkept = with(Record::NotKept, Ok(vec![volume(false)])).decide(minute(1));
    assert_eq!(unkept.does(), "delete claim gas-claim", "there is no record to stand in");
    let Action::AmendTombstone(more) =
        &with(there(vec![]), Ok(vec![volume(false)])).decide(minute(1)).actions[0]
    else {
        panic!("nothing is amended")
    };
    let kinds: Vec<_> = more.iter().map(|child| child.kind.as_str()).collect();
    assert_eq!(kinds, ["PersistentVolumeClaim", "PersistentVolume"], "a volume counts only with its claim");
}

// security.md L5: the pods and agents of a large town take no space from its volumes.
#[test]
fn volume_is_recorded_when_its_town_has_more_than_500_objects() {
    let many =
        |kind: &str, n: usize| (0..n).map(|i| named(kind, &format!("{kind}-{i:04}"))).collect::<Vec<_>>();
    let all =
        [many("Agent", 600), many("PersistentVolume", 600), many("PersistentVolumeClaim", 600)].concat();
    let begun = spec(&running_town().deleting(minute(0)).live().remains(|r| {
        r.record = Record::Missing;
        r.seen.extend(all);
    }));
    let named = |kind: &str| begun.children.iter().filter(|child| child.kind == kind).count();
    assert_eq!([named("Agent"), named("PersistentVolume"), named("PersistentVolumeClaim")], [500, 600, 600]);
    assert_eq!(
        begun.more_children.iter().map(|more| (more.kind.as_str(), more.count)).collect::<Vec<_>>(),
        [("Agent", 100)]
    );
    assert!(lists_all_claims(&begun));

    let late = |children| {
        let town = going(|r| {
            r.record = there(children);
            r.volumes = Ok(vec![volume(false)]);
            claims_left(r, Ok(vec![claim("gas")]));
        });
        town.decide(minute(1)).does()
    };
    assert_eq!(late(many("Pod", 500)), "amend tombstone");
    assert_eq!(late(many("PersistentVolume", 3_498)), "amend tombstone");
    assert_eq!(late(many("PersistentVolume", 3_499)), "delete claim gas-claim", "a record is bounded");
}

// decisions 1.7: after the end of the pod only the record names the owner of the claim.
#[test]
fn claims_of_a_pod_are_recorded_before_the_pod_is_deleted() {
    let with = |record: Record, made: Result<Vec<TombstoneChild>, _>| {
        going(|r| {
            r.record = record;
            r.made_for_pods = made.map(|made| made.into_iter().collect());
            r.pods = Ok(vec![pod("gas").0]);
        })
    };
    let made = || vec![named("PersistentVolumeClaim", "scratch"), named("ResourceClaim", "gpu")];
    assert_eq!(with(there(vec![]), Ok(made())).decide(minute(1)).does(), "amend tombstone");
    assert_eq!(with(there(made()), Ok(made())).decide(minute(1)).does(), "delete pod gas-pod");
    assert_eq!(with(Record::NotKept, Ok(made())).decide(minute(1)).does(), "delete pod gas-pod");
    let blind = with(there(vec![]), Err(unanswered("ResourceClaim"))).decide(minute(1));
    assert_eq!(
        (blind.does(), blocked_by(&blind)),
        (String::new(), vec!["ResourceClaim: the server is down".into()])
    );
    let begun = spec(&running_town().deleting(minute(0)).live().remains(|r| {
        r.record = Record::Missing;
        r.made_for_pods = Ok(made().into_iter().collect());
    }));
    assert_eq!(begun.children, made());
}

// decisions 1.7: the retain policy does not apply to claims of pods.
#[test]
fn claims_of_pods_are_awaited_and_never_retained() {
    let mut scratch = claim("gas").child;
    (scratch.of_pod, scratch.install) = (true, None);
    let left = |kind, child: crate::lifecycle::ChildFacts| {
        let town = going(|r| drop(r.children.insert(kind, Ok(vec![child]))));
        town.volume(&serde_json::json!({"size": "1Gi", "retainPolicy": "Retain"})).decide(minute(1))
    };
    let plan = left(ChildKind::PersistentVolumeClaim, scratch);
    assert_eq!(plan.does(), "delete claim gas-claim", "it is not retained");
    assert!(plan.look_again.is_some_and(|at| at <= second(65)), "no watch tells of it");
    let plan = left(ChildKind::ResourceClaim, child(ChildKind::ResourceClaim, "gas"));
    assert_eq!(plan.does(), "", "the garbage collector deletes it");
    assert_eq!(
        blocked_by(&plan),
        ["ResourceClaim: the garbage collector removes it, because its pod does not exist any more"]
    );
    assert!(plan.look_again.is_some_and(|at| at <= second(65)), "no watch tells of it");
}

#[test]
fn volume_is_awaited_unless_its_policy_or_its_claim_is_retained() {
    let left = |volume: VolumeFacts, retained: &[&str]| {
        going(|r| {
            r.volumes = Ok(vec![volume]);
            r.retained.extend(retained.iter().map(|name| uid(name)));
        })
        .decide(minute(1))
    };
    let waits = left(volume(false), &[]);
    assert_eq!((waits.does(), blocked_by(&waits)), (String::new(), vec!["PersistentVolume: Bound".into()]));
    assert!(waits.look_again.is_some_and(|at| at <= second(65)), "no watch tells of volumes");
    assert_eq!(left(volume(true), &[]).does(), "give receipts, remove finalizer", "its policy keeps it");
    let kept = left(volume(false), &["gas-claim"]);
    assert_eq!(kept.does(), "give receipts, remove finalizer", "its claim was let go");
    let other = left(volume(false), &["other-claim"]);
    assert_eq!(other.does(), "", "another claim that was let go says nothing of it");
}

#[test]
fn token_secret_is_polled_soon_after_its_delete() {
    let left =
        || going(|r| _ = r.children.insert(ChildKind::Secret, Ok(vec![child(ChildKind::Secret, "gas")])));
    let waits = left().decide(second(1));
    assert_eq!((waits.does(), waits.look_again), ("delete secret gas-secret".into(), Some(second(2))));
    // The operator polls less often for an object that remains after its delete.
    let waits = left().decide(minute(1));
    assert_eq!(waits.look_again, Some(second(65)), "no watch tells of Secrets");
}

#[test]
fn abandoned_object_is_not_awaited_and_never_recorded_as_gone() {
    let stuck = || going(|r| r.pods = Ok(vec![pod("gas").ready().told_to_stop(minute(0)).0]));
    assert_eq!(stuck().decide(minute(1)).does(), "");
    assert_eq!(
        abandons(stuck(), "compute").decide(second(4)).does(),
        "",
        "not before it had time to be seen"
    );
    for words in ["compute", "drain, compute", "compute,storage"] {
        let plan = abandons(stuck(), words).decide(second(5));
        assert_eq!(plan.does(), "give receipts, remove finalizer", "{words}");
        assert_eq!(said(&plan), ["Abandoned Pod gas-pod"], "{words}");
        assert_eq!(receipts(&plan).phase, TombstonePhase::Leaked, "{words}");
        let note = plan.note.unwrap();
        assert!(note.contains("abandoned, and may still exist: Pod gas-pod"), "{note}");
    }
    assert_eq!(abandons(stuck(), "storage").decide(minute(1)).does(), "", "another step");
    assert_eq!(abandons(stuck(), "Compute").decide(minute(1)).does(), "", "no step is called that");
}

#[test]
fn abandon_annotation_skips_only_the_named_steps() {
    let full = || {
        let busy = polecat("toast").hook("b1").attempt("b1", 1, minute(0)).running();
        let town = running_town().with(busy).claim(claim("gas")).destroying(minute(0)).drain("1h");
        town.remains_as_seen().remains(|r| {
            r.children.insert(ChildKind::Secret, Ok(vec![child(ChildKind::Secret, "gas")]));
        })
    };
    for (words, step) in [
        ("", DestroyStep::Drain),
        ("drain", DestroyStep::Credentials),
        ("drain,credentials", DestroyStep::Agents),
        ("drain,credentials,agents", DestroyStep::Compute),
        ("drain,credentials,agents,compute", DestroyStep::Storage),
        ("credentials,agents,compute,storage", DestroyStep::Drain),
    ] {
        let plan = abandons(full(), words).decide(minute(1));
        assert_eq!(plan.status.unwrap().destroy.unwrap().step, step, "{words}");
    }
    let all = abandons(full(), "drain,credentials,agents,compute,storage").decide(minute(1));
    assert_eq!(all.does(), "give receipts, remove finalizer");
    assert!(said(&all).iter().all(|receipt| receipt.starts_with("Abandoned ")), "{:?}", said(&all));
}

#[test]
fn unreadable_objects_of_an_abandoned_step_count_as_leaked() {
    let blind = going(|r| {
        r.pods = Err(unanswered("Pod"));
        r.seen.insert(named("Pod", "gas-pod"));
        r.seen.insert(named("Service", "gas-service"));
    });
    let plan = abandons(blind.drain("0s"), "compute").decide(minute(1));
    let mut all = said(&plan);
    all.sort();
    assert_eq!(all, ["Abandoned Pod", "Abandoned Pod gas-pod", "Gone Service gas-service"]);
    assert_eq!(receipts(&plan).phase, TombstonePhase::Leaked);
    // An object that is already gone was not given up, even if its step was.
    let gone = going(|r| {
        r.seen.insert(named("Pod", "gas-pod"));
    });
    let plan = abandons(gone, "compute").decide(minute(1));
    assert_eq!(
        (said(&plan), receipts(&plan).phase),
        (vec!["Gone Pod gas-pod".into()], TombstonePhase::Destroyed)
    );
}

#[test]
fn blocked_deletion_explains_abandon_and_names_unknown_words() {
    let stuck = || going(|r| r.pods = Ok(vec![pod("gas").ready().told_to_stop(minute(0)).0]));
    let text = stuck().decide(minute(11)).message(DELETION_BLOCKED).to_owned();
    assert!(text.contains("annotation gastown.dev/abandon=compute"), "{text}");
    assert!(!text.contains("which is not one of"), "{text}");
    let odd = abandons(stuck(), "compude, storage, all").decide(minute(11));
    let text = odd.message(DELETION_BLOCKED);
    let names = "names 'compude', 'all', which is not one of drain, credentials, agents, compute, storage";
    assert!(text.contains(names), "{text}");
    let settling = going(|r| r.settled_at = Some(minute(99))).decide(minute(11));
    assert!(!settling.message(DELETION_BLOCKED).contains("abandon"), "what ends by itself is not given up");
}

#[test]
fn tombstone_expires_only_after_the_destruction_has_ended() {
    let of = |phase| facts("town-x", 0, phase, Recreate::Allow);
    assert_eq!(expire_time(&of(TombstonePhase::Destroying)), None);
    for phase in [TombstonePhase::Destroyed, TombstonePhase::Leaked] {
        assert_eq!(expire_time(&of(phase)), Some(minute(60)));
    }
    assert_ne!(
        tombstone_name(TombstoneKind::Town, &uid("x")),
        tombstone_name(TombstoneKind::Agent, &uid("x"))
    );
}

// S2.
#[test]
fn tombstone_retention_is_limited_by_the_maximum_of_the_operator() {
    let asks = |retention: &str| {
        let town = running_town().edit(|t| t.spec.tombstone.retention = Duration::new(retention));
        let going = town.clone().deleting(minute(0)).live().remains(|r| r.record = Record::Missing);
        (spec(&going).expire_time.0, town)
    };
    for (retention, hours) in [("8760h", 168), ("169h", 168), ("168h", 168), ("167h", 167), ("0s", 0)] {
        let (expire_time, town) = asks(retention);
        assert_eq!(expire_time, minute(hours * 60), "{retention}");
        let plan = town.decide(minute(1));
        let says = plan.reason(DELETION_BLOCKED) == reason::RETENTION_CLAMPED;
        assert_eq!(says, hours == 168 && retention != "168h", "{retention}");
        assert!(plan.is(READY) && !plan.is(DELETION_BLOCKED) && !plan.is(DEGRADED), "{retention}");
    }
    let (_, town) = asks("8760h");
    let text = town.decide(minute(1)).message(DELETION_BLOCKED).to_owned();
    assert!(text.contains("spec.tombstone.retention 8760h is longer than the 168h"), "{text}");
    let mut going = town.clone().destroying(minute(0)).remains(|r| r.pods = Ok(vec![pod("gas").0]));
    assert_eq!(going.decide(minute(11)).reason(DELETION_BLOCKED), reason::BLOCKED, "then it is about that");
    going.0.max_retention = k8s_openapi::jiff::SignedDuration::from_hours(1);
    let begun = going.remains(|r| r.record = Record::Missing);
    assert_eq!(spec(&begun).expire_time.0, minute(60));
    let alone = polecat("toast").of_live(&town).deleting(minute(0));
    let alone = alone.remains(|r| r.record = Record::Missing).decide(minute(0));
    assert_eq!(written(&alone).expire_time.0, minute(168 * 60), "as those of its agents");
}

// S12.
#[test]
fn tombstone_names_its_namespace_and_waits_when_it_cannot_be_read() {
    let begun = |namespace| {
        let town = running_town().deleting(minute(0)).live();
        town.remains(|r| {
            r.record = Record::Missing;
            r.namespace = namespace;
        })
    };
    let named = begun(Ok(Some(namespace(false))));
    assert_eq!(spec(&named).namespace_uid.as_deref(), Some(uid("ns").as_str()));
    assert_eq!(spec(&begun(Ok(None))).namespace_uid, None, "a namespace that is gone holds nothing up");
    let blind = going(|r| {
        r.record = Record::Missing;
        r.namespace = Err(unanswered("Namespace"));
    });
    let blind = blind.decide(minute(11));
    assert_eq!((blind.does().as_str(), blind.look_again.is_some()), ("", true));
    assert_eq!(blocked_by(&blind), ["Namespace: the server is down"]);
}

// S12.
#[test]
fn tombstone_concerns_the_namespace_of_the_recorded_uid_or_any_without_one() {
    assert!(concerns(Some("one"), &crate::lifecycle::Uid::new("one")));
    assert!(!concerns(Some("one"), &crate::lifecycle::Uid::new("other")));
    assert!(concerns(None, &crate::lifecycle::Uid::new("other")), "an older version wrote it");
}

// S2, decisions 5.9.
#[test]
fn tombstone_removal_begins_with_the_oldest_that_refuses_no_name() {
    use Recreate::{Allow, Refuse};
    use TombstonePhase::{Destroyed, Destroying, Leaked};
    let records = [
        ("under-way", 0, Destroying, Allow),
        ("abandoned", 1, Destroying, Allow),
        ("leaked", 0, Leaked, Allow),
        ("refuses", 1, Destroyed, Refuse),
        ("refuses-older", 0, Destroyed, Refuse),
        ("younger", 5, Destroyed, Allow),
        ("older", 4, Destroyed, Allow),
        ("held", 0, Destroyed, Allow),
    ];
    let records = records.map(|(name, at, phase, recreate)| Arc::new(facts(name, at, phase, recreate)));
    let there = |record: &TombstoneFacts| ["under-way", "held"].contains(&record.key.name.as_str());
    let order: Vec<_> =
        removable(records.to_vec(), there).iter().map(|record| record.key.name.clone()).collect();
    assert_eq!(order, ["older", "younger", "refuses-older", "refuses", "leaked", "abandoned"]);
}

#[test]
fn town_runs_nothing_while_a_tombstone_refuses_its_name() {
    let forbid = |mut town: TownBuilder| {
        town.0.forbidden_by = Some(Arc::new(recorded(vec![])));
        town
    };
    let plan = forbid(running_town()).decide(minute(1));
    assert_eq!((plan.phase(), plan.reason(STALLED)), ("Blocked", reason::TOMBSTONE_EXISTS));
    assert_eq!(plan.does(), "delete pod gas-pod");
    let until = recorded(vec![]).spec.expire_time.0.to_string();
    assert!(
        plan.message(STALLED).contains(&until) && plan.message(STALLED).contains("delete tombstone town-x")
    );
    assert_eq!(forbid(town().not_adopted()).decide(minute(1)).does(), "", "it is not even adopted");
    assert!(starting(&town().awake().0, minute(1)) && !starting(&forbid(town().awake()).0, minute(1)));

    let stalled = forbid(town()).settled(minute(1));
    for (case, town, new) in [
        ("not looked at yet", town(), true),
        ("not adopted", town().asleep(Idle).not_adopted().settled(minute(1)), true),
        ("forbidden", stalled, true),
        ("running", running_town().settled(minute(1)), false),
        ("asleep", town().asleep(Idle).settled(minute(1)), false),
        ("stalled for another reason", town().tombstone("x").settled(minute(1)), false),
    ] {
        assert_eq!(is_new(&town.0.town), new, "{case}");
    }
}

// Decisions 5.1, O2.
#[test]
fn orphan_agent_is_deleted_when_its_town_has_a_tombstone_unless_it_is_a_copy() {
    let record = |children: serde_json::Value| -> Arc<Tombstone> {
        let spec = serde_json::json!({
            "kind": "Town", "namespace": "ns", "name": "gas", "uid": "gas", "deleteTime": minute(10).to_string(),
            "cause": "Deleted", "expireTime": minute(99).to_string(), "children": children,
        });
        Arc::new(Tombstone::new("town-gas", serde_json::from_value(spec).unwrap()))
    };
    let named = serde_json::json!([{"kind": "Agent", "namespace": "ns", "name": "toast", "uid": uid("toast").as_str()}]);
    let left = |record: Option<Arc<Tombstone>>, created: i64| {
        let mut agent = polecat("toast").running().townless(Freshness::Live);
        agent.0.town_record = record;
        let agent = agent.edit(|a| {
            a.metadata.creation_timestamp =
                Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(minute(created)));
        });
        agent.decide(minute(20))
    };
    let none = serde_json::json!([]);
    for (case, record, created) in [
        ("older than the destruction", record(none.clone()), 9),
        ("as old as the destruction", record(none.clone()), 10),
        ("younger, and named by the inventory", record(named), 11),
    ] {
        assert_eq!(left(Some(record), created).does(), "delete agent toast", "{case}");
    }
    for (case, record) in [("younger than the destruction", Some(record(none))), ("no record", None)] {
        let plan = left(record, 11);
        assert_eq!(
            (plan.reason(STALLED), plan.does().as_str()),
            (reason::TOWN_GONE, "delete pod toast-pod"),
            "{case}"
        );
    }
}

/// An agent from a backup: it has its metadata, but no status.
fn copy(agent: AgentBuilder) -> AgentBuilder {
    agent.edit(|a| {
        a.status = None;
        let annotations = a.metadata.annotations.get_or_insert_default();
        annotations.insert(names::ADOPTED_UID.into(), "another".into());
    })
}

// Decisions 5.1.
#[test]
fn restored_agent_without_status_does_not_start_its_bead() {
    for agent in [polecat("toast").hook("b1"), mayor().hook("b1")] {
        let restored = copy(agent.clone()).of(&running_town());
        let plan = restored.decide(minute(1));
        assert_eq!((plan.does().as_str(), plan.reason(STALLED)), ("", reason::RESTORED_WITHOUT_STATUS));
        assert!(plan.message(STALLED).contains("b1") && plan.message(STALLED).contains("restart-at"));
        // A user binds the agent again; the operator no longer treats it as a copy.
        let bound = restored.after(&plan).edit(|a| {
            let own = a.metadata.uid.clone().unwrap();
            a.metadata.annotations.get_or_insert_default().insert(names::ADOPTED_UID.into(), own);
        });
        let plan = bound.decide(minute(2));
        assert_eq!((plan.does().as_str(), plan.reason(STALLED)), ("", reason::RESTORED_WITHOUT_STATUS));
        let other = bound.clone().hook("b2").decide(minute(2));
        assert_ne!(other.reason(STALLED), reason::RESTORED_WITHOUT_STATUS, "another bead is begun");
        let again = bound.edit(|a| {
            a.metadata.annotations.get_or_insert_default().insert(names::RESTART_AT.into(), "now".into());
        });
        assert_ne!(
            again.decide(minute(2)).reason(STALLED),
            reason::RESTORED_WITHOUT_STATUS,
            "a person asks for it"
        );
        let first = agent.of(&running_town()).decide(minute(1));
        assert_ne!(first.reason(STALLED), reason::RESTORED_WITHOUT_STATUS, "an agent that is no copy");
    }
}

// P20.
#[test]
fn agent_is_not_bound_while_a_tombstone_refuses_its_name() {
    let spec = serde_json::json!({
        "kind": "Agent", "namespace": "ns", "name": "toast", "uid": "old", "deleteTime": minute(0).to_string(),
        "cause": "TTL", "expireTime": minute(99).to_string(), "recreate": "Refuse",
    });
    let mut agent = polecat("toast").hook("b1").unbound();
    agent.0.forbidden_by = Some(Arc::new(Tombstone::new("agent-old", serde_json::from_value(spec).unwrap())));
    let plan = agent.decide(minute(1));
    assert_eq!((plan.does().as_str(), plan.reason(STALLED)), ("", reason::TOMBSTONE_EXISTS));
    assert!(plan.message(STALLED).contains("agent-old"), "{}", plan.message(STALLED));
}

// Review code:A22.
#[test]
fn town_is_not_destroyed_by_an_earlier_expiry_after_its_tombstone_is_gone() {
    let mut held = town().expires(minute(-5), ExpiryPolicy::Destroy);
    held.0.forbidden_by = Some(Arc::new(recorded(vec![])));
    let mut freed = held.settled(minute(1));
    freed.0.forbidden_by = None;
    let plan = freed.decide(minute(2));
    assert_eq!((plan.phase(), plan.does().as_str()), ("Blocked", ""));
    assert_eq!(plan.reason(STALLED), reason::EXPIRY_IN_PAST);
}
