//! The Tombstone of a destruction: what it says when it is begun, and the receipts when it has ended.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::jiff::{SignedDuration, Timestamp};

use super::activity::bound_to;
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

/// At most this many receipts, and this many objects that are no storage, stand in a Tombstone; of the others there are
/// counts.
pub(super) const LISTED: usize = 500;
/// At most this many claims and volumes stand in a Tombstone. They have room of their own: once a claim is gone, nothing
/// but the record names its volume. A record of this size is far below what the API server stores.
pub(super) const STORAGE_LISTED: usize = 3_500;
/// How volumes are called.
pub const VOLUME: &str = "PersistentVolume";

/// The name of the Tombstone of a town or agent.
pub fn tombstone_name(kind: TombstoneKind, uid: &Uid) -> String {
    let kind = match kind {
        TombstoneKind::Town => "town",
        TombstoneKind::Agent => "agent",
    };
    format!("{kind}-{uid}")
}

/// What the Tombstone of a town says when it is begun.
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

/// What the Tombstone of an agent that was deleted alone says when it is begun. How long it stays is up to its
/// town.
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
    let rig_removed = town.is_some_and(|town| super::agent::rig_removed(&s.agent, town));
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

/// How long a record is to stay, and how long it may.
struct Terms<'a> {
    policy: &'a TombstonePolicy,
    longest: SignedDuration,
}

impl Terms<'_> {
    fn retention(&self) -> SignedDuration {
        self.policy.retention.get().min(self.longest)
    }
}

/// A town whose record goes earlier than its spec asks for says so while it lives. The town is as well as without
/// that: the condition that speaks of its deletion has the reason and stays False.
pub(super) fn show_clamped(s: &TownSnapshot, c: &mut Conditions) {
    let asked = &s.town.spec.tombstone.retention;
    if s.town.metadata.deletion_timestamp.is_some() || asked.get() <= s.max_retention {
        return;
    }
    let longest = format!("{:#}", s.max_retention);
    let text = format!(
        "spec.tombstone.retention {asked} is longer than the {longest} that this operator allows \
         (--tombstone-max-retention): the Tombstone of this town goes {longest} after the deletion of the town; set \
         spec.tombstone.retention to at most {longest}, or ask an administrator to raise the bound"
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

/// Everything of it that was ever found since its destruction began.
fn everything(remains: &Remains) -> BTreeSet<TombstoneChild> {
    present(remains)
        .into_iter()
        .chain(remains.seen.iter().cloned())
        .chain(remains.record.children().iter().cloned())
        .collect()
}

/// What is there now, as far as it could be read.
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

/// A child of another kind than a pod, as it stands in a Tombstone.
pub fn of_child(other: &ChildFacts) -> TombstoneChild {
    child(other.kind.as_str(), &other.key.name, &other.uid)
}

/// A volume, as it stands in a Tombstone.
pub fn volume(volume: &VolumeFacts) -> TombstoneChild {
    child(VOLUME, &volume.name, &volume.uid)
}

/// The receipts, once every step is done or was given up.
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
    // What is not simply gone comes first: it is never among those of which there are only counts.
    receipts.sort_by_key(|receipt| receipt.outcome == ReceiptOutcome::Gone);
    let leaked = receipts.iter().any(|receipt| receipt.outcome == ReceiptOutcome::Abandoned);
    let (receipts, more_receipts) = bounded(receipts, |receipt| &receipt.object.kind);
    let phase = if leaked { TombstonePhase::Leaked } else { TombstonePhase::Destroyed };
    TombstoneStatus { phase, receipts, more_receipts }
}

/// Whether a volume stays when its claim goes.
fn stays(remains: &Remains, uid: &Uid) -> bool {
    remains.volumes.iter().flatten().any(|volume| {
        let kept = volume.claim.as_ref().is_some_and(|claim| remains.retained.contains(claim));
        volume.uid == *uid && (volume.retained || kept)
    })
}

/// The kinds that could not be read.
fn unread(remains: &Remains) -> impl Iterator<Item = &'static str> {
    let agents = remains.agents.as_ref().err().map(|_| "Agent");
    let pods = remains.pods.as_ref().err().map(|_| ChildKind::Pod.as_str());
    let volumes = remains.volumes.as_ref().err().map(|_| VOLUME);
    let others = remains.children.iter().filter(|(_, read)| read.is_err()).map(|(kind, _)| kind.as_str());
    agents.into_iter().chain(pods).chain(volumes).chain(others)
}

/// The step that takes a kind away.
fn step_of(kind: &str) -> Option<DestroyStep> {
    match kind {
        "Agent" => Some(DestroyStep::Agents),
        VOLUME => Some(DestroyStep::Storage),
        _ => ChildKind::ALL.into_iter().find(|row| row.as_str() == kind).map(ChildKind::step),
    }
}

/// Whether objects of this kind hold data, or stand for what holds it.
fn is_storage(kind: &str) -> bool {
    let claims = [ChildKind::PersistentVolumeClaim, ChildKind::ResourceClaim];
    kind == VOLUME || claims.iter().any(|claim| claim.as_str() == kind)
}

/// How many more claims and volumes the record of a destruction can take.
pub(super) fn room_for_storage(children: &[TombstoneChild]) -> usize {
    STORAGE_LISTED.saturating_sub(children.iter().filter(|child| is_storage(&child.kind)).count())
}

/// Whether the record names every claim that was there when it was begun.
pub fn lists_all_claims(spec: &TombstoneSpec) -> bool {
    spec.more_children.iter().all(|more| more.kind != ChildKind::PersistentVolumeClaim.as_str())
}

/// The objects that the record names, and how many more there are of each kind.
fn inventory(all: BTreeSet<TombstoneChild>) -> (Vec<TombstoneChild>, Vec<KindCount>) {
    let (mut storage, mut others) = (0, 0);
    let mut counts: BTreeMap<String, i32> = BTreeMap::new();
    let mut named = Vec::new();
    for child in all {
        let (count, most) = match is_storage(&child.kind) {
            true => (&mut storage, STORAGE_LISTED),
            false => (&mut others, LISTED),
        };
        *count += 1;
        if *count <= most {
            named.push(child);
        } else {
            *counts.entry(child.kind).or_default() += 1;
        }
    }
    (named, counts.into_iter().map(|(kind, count)| KindCount { kind, count }).collect())
}

/// The first of them, and how many more there are of each kind.
fn bounded<T>(mut items: Vec<T>, kind: impl Fn(&T) -> &String) -> (Vec<T>, Vec<KindCount>) {
    let mut counts: BTreeMap<String, i32> = BTreeMap::new();
    for more in items.iter().skip(LISTED) {
        *counts.entry(kind(more).clone()).or_default() += 1;
    }
    items.truncate(LISTED);
    (items, counts.into_iter().map(|(kind, count)| KindCount { kind, count }).collect())
}

/// Whether a record concerns a namespace of the name that it gives. A record without the UID of its namespace concerns
/// every one: an older version wrote it, and a town that a person has destroyed is not to come back for that.
pub fn concerns(recorded: Option<&str>, namespace: &Uid) -> bool {
    recorded.is_none_or(|recorded| recorded == namespace.as_str())
}

/// The records of a namespace that may be removed because there are too many, in the order in which they go: the
/// oldest first of those that are complete and forbid nothing, then of those that forbid a name, then of those that
/// name what an administrator gave up. A record stays as long as its owner is there: the operator would write it
/// again. A destruction whose owner went without its end is never completed, and its record goes last.
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

/// When a Tombstone may go; `None`: not as long as the destruction is under way.
pub fn expire_time(tombstone: &TombstoneFacts) -> Option<Timestamp> {
    (tombstone.phase != TombstonePhase::Destroying).then_some(tombstone.expire_time)
}

/// Whether these receipts stand there already; when they were given does not matter.
pub(super) fn stands(remains: &Remains, status: &TombstoneStatus) -> bool {
    let Record::There(tombstone) = &remains.record else { return false };
    let said = |status: &TombstoneStatus| -> Vec<_> {
        status.receipts.iter().map(|r| (r.object.clone(), r.outcome)).collect()
    };
    let there = tombstone.status.clone().unwrap_or_default();
    there.phase == status.phase && said(&there) == said(status)
}

/// The receipts in one sentence.
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
        Some(given_up) => format!("given up, and perhaps still there: {given_up}"),
        None => "nothing is left of it".to_owned(),
    });
    if !gone.is_empty() {
        parts.push(format!("proven gone: {}", gone.join(", ")));
    }
    parts.extend(of(ReceiptOutcome::Retained).map(|kept| format!("retained: {kept}")));
    parts.join("; ")
}
