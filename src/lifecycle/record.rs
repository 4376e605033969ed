//! The Tombstone of a destruction: its content at the start, and the receipts at the end.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::jiff::{SignedDuration, Timestamp};

use super::agent_view::{bound_to, rig_removed};
use super::clock::{after, stamp};
use super::conditions::Conditions;
use super::facts::{
    AgentSnapshot, ChildFacts, Record, Remains, TombstoneFacts, TownSnapshot, TownView, VolumeFacts,
};
use super::ids::{ObjectKey, Uid};
use super::kinds::ChildKind;
use crate::api::condition::{self, reason};
use crate::api::{
    Cause, DestroyStep, ExpiryPolicy, KindCount, Receipt, ReceiptOutcome, Recreate, TombstoneChild,
    TombstoneKind, TombstonePhase, TombstonePolicy, TombstoneSpec, TombstoneStatus,
};

/// The highest number of receipts in a Tombstone, and the highest number of listed objects that are not storage. The
/// Tombstone has only counts of the other objects.
pub(super) const LISTED: usize = 500;
/// The highest number of listed claims and volumes in a Tombstone. They have a limit of their own, because after the
/// deletion of a claim only the Tombstone names its volume. A Tombstone of this size is far below the size limit of
/// the API server.
pub(super) const STORAGE_LISTED: usize = 3_500;
/// The kind of a volume.
pub const VOLUME: &str = "PersistentVolume";

/// The name of the Tombstone of a town or agent.
pub fn tombstone_name(kind: TombstoneKind, uid: &Uid) -> String {
    let kind = match kind {
        TombstoneKind::Town => "town",
        TombstoneKind::Agent => "agent",
    };
    format!("{kind}-{uid}")
}

/// The content of a town's Tombstone at the start of the destruction.
pub(super) fn of_town(s: &TownSnapshot, remains: &Remains, now: Timestamp) -> TombstoneSpec {
    let delete_time = delete_time(&s.town.metadata, now);
    let cause = match &s.town.spec.expiry {
        _ if remains.goes_with_namespace() => Cause::Namespace,
        Some(expiry) if expiry.policy == ExpiryPolicy::Destroy && expiry.time.0 <= delete_time => {
            Cause::Expiry
        }
        _ => Cause::Deleted,
    };
    let terms = Terms { policy: &s.town.spec.tombstone, longest: s.max_retention };
    begun(TombstoneKind::Town, &s.town.metadata, cause, &terms, remains, delete_time)
}

/// The content of the Tombstone of an agent that is deleted without its town. The town defines the retention.
pub(super) fn of_agent(s: &AgentSnapshot, remains: &Remains, now: Timestamp) -> TombstoneSpec {
    let delete_time = delete_time(&s.agent.metadata, now);
    let finish_time = s.agent.status.as_ref().and_then(|s| s.work.as_ref()?.finish_time.as_ref());
    let over = match (&s.agent.spec.ttl_after_finished, finish_time) {
        (Some(ttl), Some(finished)) => after(finished.0, ttl.get()) <= delete_time,
        _ => false,
    };
    let town = match &s.town {
        TownView::Present(_, town) if bound_to(&s.agent).as_ref() == Some(&town.uid) => Some(town),
        _ => None,
    };
    let rig_removed = town.is_some_and(|town| rig_removed(&s.agent, town));
    let cause = match () {
        () if remains.goes_with_namespace() => Cause::Namespace,
        () if rig_removed => Cause::RigRemoved,
        () if over => Cause::TTL,
        () => Cause::Deleted,
    };
    let policy = town.map(|town| town.tombstone.clone()).unwrap_or_default();
    let terms = Terms { policy: &policy, longest: s.max_retention };
    begun(TombstoneKind::Agent, &s.agent.metadata, cause, &terms, remains, delete_time)
}

fn delete_time(meta: &ObjectMeta, now: Timestamp) -> Timestamp {
    meta.deletion_timestamp.as_ref().map_or(now, |t| t.0)
}

/// The requested and the allowed retention of a Tombstone.
struct Terms<'a> {
    policy: &'a TombstonePolicy,
    longest: SignedDuration,
}

impl Terms<'_> {
    fn retention(&self) -> SignedDuration {
        self.policy.retention.get().min(self.longest)
    }
}

/// Reports a town whose Tombstone expires earlier than its spec requests. The town itself has no problem, so the
/// condition DeletionBlocked stays False and carries the reason.
pub(super) fn show_clamped(s: &TownSnapshot, c: &mut Conditions) {
    let asked = &s.town.spec.tombstone.retention;
    if s.town.metadata.deletion_timestamp.is_some() || asked.get() <= s.max_retention {
        return;
    }
    let longest = format!("{:#}", s.max_retention);
    let text = format!(
        "spec.tombstone.retention {asked} is longer than the {longest} that this operator allows \
         (--tombstone-max-retention): the operator deletes the Tombstone of this town {longest} after the deletion of \
         the town; set spec.tombstone.retention to at most {longest}, or ask an administrator to raise the bound"
    );
    c.set(condition::DELETION_BLOCKED, false, reason::RETENTION_CLAMPED, text);
}

fn begun(
    kind: TombstoneKind,
    meta: &ObjectMeta,
    cause: Cause,
    terms: &Terms<'_>,
    remains: &Remains,
    delete_time: Timestamp,
) -> TombstoneSpec {
    let ObjectKey { namespace, name } = ObjectKey::of(meta);
    let (children, more_children) = inventory(everything(remains));
    TombstoneSpec {
        kind,
        namespace,
        namespace_uid: remains.namespace.iter().flatten().next().map(|namespace| namespace.uid.to_string()),
        name,
        uid: meta.uid.clone().unwrap_or_default(),
        delete_time: stamp(delete_time),
        cause,
        recreate: terms.policy.recreate,
        expire_time: stamp(after(delete_time, terms.retention())),
        children,
        more_children,
    }
}

/// Every child of the owner that was observed since the start of the destruction.
fn everything(remains: &Remains) -> BTreeSet<TombstoneChild> {
    present(remains)
        .into_iter()
        .chain(remains.seen.iter().cloned())
        .chain(remains.record.children().iter().cloned())
        .collect()
}

/// The present children, as far as they could be read.
pub fn present(remains: &Remains) -> BTreeSet<TombstoneChild> {
    let agents = remains.agents.iter().flatten().filter_map(|agent| {
        let uid = Uid::of(&agent.metadata)?;
        Some(child("Agent", &ObjectKey::of(&agent.metadata).name, &uid))
    });
    let pods =
        remains.pods.iter().flatten().map(|pod| child(ChildKind::Pod.as_str(), &pod.key.name, &pod.uid));
    let others = remains.children.values().flatten().flatten();
    let others = others.map(of_child);
    let volumes = remains.volumes.iter().flatten().map(volume);
    let made_for_pods = remains.made_for_pods.iter().flatten().cloned();
    agents.chain(pods).chain(others).chain(volumes).chain(made_for_pods).collect()
}

fn child(kind: &str, name: &str, uid: &Uid) -> TombstoneChild {
    TombstoneChild { kind: kind.into(), name: name.into(), uid: uid.to_string() }
}

/// The entry of a child in a Tombstone, for every kind except pods.
pub fn of_child(other: &ChildFacts) -> TombstoneChild {
    child(other.kind.as_str(), &other.key.name, &other.uid)
}

/// The entry of a volume in a Tombstone.
pub fn volume(volume: &VolumeFacts) -> TombstoneChild {
    child(VOLUME, &volume.name, &volume.uid)
}

/// The receipts, after every step is done or abandoned.
pub(super) fn closed(
    remains: &Remains,
    abandoned: &BTreeSet<DestroyStep>,
    now: Timestamp,
) -> TombstoneStatus {
    let there: BTreeSet<String> = present(remains).into_iter().map(|child| child.uid).collect();
    let given_up = |kind: &str| step_of(kind).is_some_and(|step| abandoned.contains(&step));
    let unread: BTreeSet<&str> = unread(remains).filter(|kind| given_up(kind)).collect();
    let outcome = |child: &TombstoneChild| {
        let (uid, kind) = (Uid::new(&child.uid), child.kind.as_str());
        if remains.retained.contains(&uid) || (kind == VOLUME && stays(remains, &uid)) {
            ReceiptOutcome::Retained
        } else if unread.contains(kind) || (there.contains(&child.uid) && given_up(kind)) {
            ReceiptOutcome::Abandoned
        } else {
            ReceiptOutcome::Gone
        }
    };
    let receipt = |object: TombstoneChild, outcome| Receipt { object, outcome, time: stamp(now) };
    let whole =
        |kind: &&str| TombstoneChild { kind: (*kind).into(), name: String::new(), uid: String::new() };
    let never = remains.absent_kinds.iter().map(|kind| receipt(whole(kind), ReceiptOutcome::NeverExisted));
    let blind = unread.iter().map(|kind| receipt(whole(kind), ReceiptOutcome::Abandoned));
    let items = everything(remains).into_iter().map(|child| {
        let outcome = outcome(&child);
        receipt(child, outcome)
    });
    let mut receipts: Vec<_> = never.chain(blind).chain(items).collect();
    // Objects with another outcome than Gone come first, so that the list always names them and never only counts
    // them.
    receipts.sort_by_key(|receipt| receipt.outcome == ReceiptOutcome::Gone);
    let leaked = receipts.iter().any(|receipt| receipt.outcome == ReceiptOutcome::Abandoned);
    let (receipts, more_receipts) = bounded(receipts, |receipt| &receipt.object.kind);
    let phase = if leaked { TombstonePhase::Leaked } else { TombstonePhase::Destroyed };
    TombstoneStatus { phase, receipts, more_receipts }
}

/// Whether a volume outlives its claim.
fn stays(remains: &Remains, uid: &Uid) -> bool {
    remains.volumes.iter().flatten().any(|volume| {
        let kept = volume.claim.as_ref().is_some_and(|claim| remains.retained.contains(claim));
        volume.uid == *uid && (volume.retained || kept)
    })
}

/// The kinds whose read failed.
fn unread(remains: &Remains) -> impl Iterator<Item = &'static str> {
    let agents = remains.agents.as_ref().err().map(|_| "Agent");
    let pods = remains.pods.as_ref().err().map(|_| ChildKind::Pod.as_str());
    let volumes = remains.volumes.as_ref().err().map(|_| VOLUME);
    let others = remains.children.iter().filter(|(_, read)| read.is_err()).map(|(kind, _)| kind.as_str());
    agents.into_iter().chain(pods).chain(volumes).chain(others)
}

/// The step that deletes a kind.
fn step_of(kind: &str) -> Option<DestroyStep> {
    match kind {
        "Agent" => Some(DestroyStep::Agents),
        VOLUME => Some(DestroyStep::Storage),
        _ => ChildKind::ALL.into_iter().find(|row| row.as_str() == kind).map(ChildKind::step),
    }
}

/// Whether objects of this kind hold data, or refer to an object that does.
fn is_storage(kind: &str) -> bool {
    let claims = [ChildKind::PersistentVolumeClaim, ChildKind::ResourceClaim];
    kind == VOLUME || claims.iter().any(|claim| claim.as_str() == kind)
}

/// The number of claims and volumes that still fit in the Tombstone.
pub(super) fn room_for_storage(children: &[TombstoneChild]) -> usize {
    STORAGE_LISTED.saturating_sub(children.iter().filter(|child| is_storage(&child.kind)).count())
}

/// Whether the Tombstone lists every claim that existed at the start of the destruction.
pub fn lists_all_claims(spec: &TombstoneSpec) -> bool {
    spec.more_children.iter().all(|more| more.kind != ChildKind::PersistentVolumeClaim.as_str())
}

/// The listed objects, and the number of the other objects per kind.
fn inventory(all: BTreeSet<TombstoneChild>) -> (Vec<TombstoneChild>, Vec<KindCount>) {
    let (mut storage, mut others) = (0, 0);
    let mut counts: BTreeMap<String, i32> = BTreeMap::new();
    let mut named = Vec::new();
    for child in all {
        let (count, most) =
            if is_storage(&child.kind) { (&mut storage, STORAGE_LISTED) } else { (&mut others, LISTED) };
        *count += 1;
        if *count <= most {
            named.push(child);
        } else {
            *counts.entry(child.kind).or_default() += 1;
        }
    }
    (named, counts.into_iter().map(|(kind, count)| KindCount { kind, count }).collect())
}

/// The first items, and the number of the other items per kind.
fn bounded<T>(mut items: Vec<T>, kind: impl Fn(&T) -> &String) -> (Vec<T>, Vec<KindCount>) {
    let mut counts: BTreeMap<String, i32> = BTreeMap::new();
    for more in items.iter().skip(LISTED) {
        *counts.entry(kind(more).clone()).or_default() += 1;
    }
    items.truncate(LISTED);
    (items, counts.into_iter().map(|(kind, count)| KindCount { kind, count }).collect())
}

/// Whether a Tombstone concerns this namespace. A Tombstone without the UID of its namespace was written by an older
/// version and concerns every namespace of the name, so that no tool creates again what a user destroyed.
pub fn concerns(recorded: Option<&str>, namespace: &Uid) -> bool {
    recorded.is_none_or(|recorded| recorded == namespace.as_str())
}

/// The Tombstones of a namespace that may be removed if there are too many, in the order of removal. First come
/// complete Tombstones that forbid no name, then those that forbid a name, then those with abandoned objects; within
/// each group the oldest come first. A Tombstone whose owner exists is never removed, because the operator would write
/// it again. The last group has the destructions that never complete, because their owner disappeared before the end.
pub fn removable(
    mut records: Vec<Arc<TombstoneFacts>>,
    owner_is_there: impl Fn(&TombstoneFacts) -> bool,
) -> Vec<Arc<TombstoneFacts>> {
    let rank = |record: &TombstoneFacts| match (record.phase, record.recreate) {
        (TombstonePhase::Destroyed, Recreate::Allow) => 0,
        (TombstonePhase::Destroyed, Recreate::Refuse) => 1,
        (TombstonePhase::Leaked, _) => 2,
        (TombstonePhase::Destroying, _) => 3,
    };
    records.retain(|record| !owner_is_there(record));
    records.sort_by_cached_key(|record| (rank(record), record.created, record.key.clone()));
    records
}

/// The time at which a Tombstone expires. `None`: the destruction is still in progress.
pub fn expire_time(tombstone: &TombstoneFacts) -> Option<Timestamp> {
    (tombstone.phase != TombstonePhase::Destroying).then_some(tombstone.expire_time)
}

/// Whether the Tombstone already has these receipts. The times of the receipts do not matter.
pub(super) fn stands(remains: &Remains, status: &TombstoneStatus) -> bool {
    let Record::There(tombstone) = &remains.record else { return false };
    let said = |status: &TombstoneStatus| -> Vec<_> {
        status.receipts.iter().map(|r| (r.object.clone(), r.outcome)).collect()
    };
    let there = tombstone.status.clone().unwrap_or_default();
    there.phase == status.phase && said(&there) == said(status)
}

/// The receipts as one sentence.
pub(super) fn summary(status: &TombstoneStatus) -> String {
    let mut counts: BTreeMap<&str, i32> = BTreeMap::new();
    let mut named: BTreeMap<ReceiptOutcome, Vec<String>> = BTreeMap::new();
    for receipt in &status.receipts {
        let object = &receipt.object;
        match receipt.outcome {
            ReceiptOutcome::Gone => *counts.entry(&object.kind).or_default() += 1,
            ReceiptOutcome::NeverExisted => {}
            other => named.entry(other).or_default().push(format!("{} {}", object.kind, object.name)),
        }
    }
    for more in &status.more_receipts {
        *counts.entry(&more.kind).or_default() += more.count;
    }
    let of = |outcome| named.get(&outcome).map(|all| all.join(", "));
    let gone: Vec<_> = counts.iter().map(|(kind, n)| format!("{kind} {n}")).collect();
    let mut parts = Vec::new();
    parts.push(match of(ReceiptOutcome::Abandoned) {
        Some(given_up) => format!("abandoned, and may still exist: {given_up}"),
        None => "nothing is left of it".to_owned(),
    });
    if !gone.is_empty() {
        parts.push(format!("proven gone: {}", gone.join(", ")));
    }
    parts.extend(of(ReceiptOutcome::Retained).map(|kept| format!("retained: {kept}")));
    parts.join("; ")
}
