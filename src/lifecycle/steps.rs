//! The steps of a destruction, each over the remains of the owner. A list that was not read blocks the step; an empty
//! list completes it.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::jiff::Timestamp;

use super::clock::{earlier, stamp};
use super::facts::{ChildFacts, PodFacts, Record, Remains, Unknown, VolumeFacts};
use super::ids::{ObjectKey, Uid};
use super::kinds::ChildKind;
use super::plan::Action;
use super::pods::{end_pod, is_overdue, overdue};
use super::record::{self, VOLUME};
use crate::api::{Agent, BlockedBy, DestroyStep, TombstoneChild};

/// The message about an agent that has not reported its awaited objects.
pub(super) const BEING_DESTROYED: &str = "being destroyed";

/// The state of a destruction: the first step that is not proven done.
pub(super) struct Progress {
    pub(super) step: DestroyStep,
    pub(super) actions: Vec<Action>,
    pub(super) awaited: Vec<BlockedBy>,
    pub(super) look_again: Option<Timestamp>,
    /// The step waits for a read, and no watch announces its result.
    pub(super) unread: bool,
    /// The step waits for objects without a watch. The wait is usually short.
    pub(super) unwatched: bool,
    /// No create may be in progress during the actions of the step.
    pub(super) exclusive: bool,
}

impl Progress {
    /// A step without actions, which only waits.
    pub(super) fn waiting(step: DestroyStep, awaited: Vec<BlockedBy>, look_again: Option<Timestamp>) -> Self {
        Self {
            step,
            actions: Vec::new(),
            awaited,
            look_again,
            unread: false,
            unwatched: false,
            exclusive: false,
        }
    }

    /// A step that waits for the result of a failed read.
    pub(super) fn unanswered(step: DestroyStep, unknown: &Unknown) -> Self {
        Self { unread: true, ..Self::waiting(step, vec![unread(unknown)], None) }
    }

    /// Combines two parts into one step. The operator attempts every part, even if another part fails.
    fn and(mut self, other: Self) -> Self {
        self.actions.extend(other.actions);
        self.awaited.extend(other.awaited);
        self.look_again = earlier(self.look_again, other.look_again);
        self.unread |= other.unread;
        self.unwatched |= other.unwatched;
        self
    }
}

/// The agents of a town. Each agent executes its own destruction.
pub(super) fn agents(remains: &Remains) -> Option<Progress> {
    step(
        DestroyStep::Agents,
        &remains.agents,
        |a| awaited_agent(a, &waits_for(a)),
        |a| {
            let uid = Uid::of(&a.metadata)?;
            a.metadata
                .deletion_timestamp
                .is_none()
                .then(|| Action::DeleteAgent(ObjectKey::of(&a.metadata), uid))
        },
    )
}

pub(super) fn pods(remains: &Remains, now: Timestamp) -> Option<Progress> {
    let awaited = |p: &PodFacts| BlockedBy {
        kind: ChildKind::Pod.as_str().into(),
        name: p.key.name.clone(),
        uid: p.uid.to_string(),
        finalizers: p.finalizers.clone(),
        message: match (&p.node, is_overdue(p, now)) {
            (_, true) => overdue(p).1,
            (Some(node), _) => format!("terminating on node {node}"),
            (None, _) => "terminating".into(),
        },
    };
    step(ChildKind::Pod.step(), &remains.pods, awaited, end_pod)
}

/// The objects that Kubernetes created for the pods. The Tombstone lists their claims and volumes before a pod is
/// deleted: the objects carry no label of ours, so after the deletion of the pod no other source shows their owner.
pub(super) fn made_for_pods(remains: &Remains) -> Option<Progress> {
    let made = match &remains.made_for_pods {
        Ok(made) => made,
        Err(unknown) => return Some(Progress::unanswered(DestroyStep::Compute, unknown)),
    };
    let Record::There(tombstone) = &remains.record else { return None };
    let known: BTreeSet<&str> = tombstone.spec.children.iter().map(|c| c.uid.as_str()).collect();
    let missing = made.iter().filter(|child| !known.contains(child.uid.as_str())).cloned();
    let missing: Vec<_> = missing.take(record::room_for_storage(&tombstone.spec.children)).collect();
    let awaited = |child: &TombstoneChild| BlockedBy {
        kind: child.kind.clone(),
        name: child.name.clone(),
        uid: child.uid.clone(),
        message: "the operator writes it to the Tombstone before it deletes the pod".into(),
        ..BlockedBy::default()
    };
    (!missing.is_empty()).then(|| {
        let waiting = Progress::waiting(DestroyStep::Compute, missing.iter().map(awaited).collect(), None);
        Progress { actions: vec![Action::AmendTombstone(missing)], ..waiting }
    })
}

/// Every other kind that this step deletes. The operator releases a claim that outlives its owner: it removes our
/// marks from the claim.
pub(super) fn children(
    step_: DestroyStep,
    remains: &Remains,
    retain: impl Fn(&ChildFacts) -> bool,
) -> Option<Progress> {
    let kinds = ChildKind::ALL.into_iter().filter(|kind| kind.step() == step_ && *kind != ChildKind::Pod);
    let act = |child: &ChildFacts| {
        let (key, uid) = (child.key.clone(), child.uid.clone());
        let retained = child.kind == ChildKind::PersistentVolumeClaim && !child.of_pod && retain(child);
        match (child.kind, retained) {
            _ if child.deleting => None,
            // The garbage collector deletes the claim.
            (ChildKind::ResourceClaim, _) => None,
            (_, true) => Some(Action::RetainClaim(key, uid)),
            (kind, false) => Some(Action::DeleteChild(kind, key, uid)),
        }
    };
    let of_kind = |kind: ChildKind| match remains.children.get(&kind) {
        Some(children) => {
            let progress = step(step_, children, awaited_child, act);
            // The watches show only objects with our label.
            let unwatched =
                !kind.is_watched() || children.iter().flatten().any(|child| child.install.is_none());
            progress.map(|progress| Progress { unwatched, ..progress })
        }
        None => {
            Some(Progress::unanswered(step_, &Unknown { kind: kind.as_str(), message: "not read".into() }))
        }
    };
    kinds.filter_map(of_kind).reduce(Progress::and)
}

/// The volumes behind the claims. The Tombstone lists a volume and its claim before the claim is deleted: after the
/// deletion no other object names the volume. The step waits for a volume that its reclaim policy deletes.
pub(super) fn volumes(remains: &Remains) -> Option<Progress> {
    let volumes = match &remains.volumes {
        Ok(volumes) => volumes,
        Err(unknown) => return Some(Progress::unanswered(DestroyStep::Storage, unknown)),
    };
    if let Record::There(tombstone) = &remains.record {
        let known: BTreeSet<&str> = tombstone.spec.children.iter().map(|c| c.uid.as_str()).collect();
        let unrecorded = volumes.iter().filter(|v| !known.contains(v.uid.as_str()));
        let claims = remains.children.get(&ChildKind::PersistentVolumeClaim).into_iter().flatten().flatten();
        let claims: BTreeMap<&Uid, &ChildFacts> = claims.map(|claim| (&claim.uid, claim)).collect();
        let mut room = record::room_for_storage(&tombstone.spec.children);
        let mut missing = Vec::new();
        for volume in unrecorded {
            let claim = volume.claim.as_ref().and_then(|uid| claims.get(uid));
            let claim = claim.filter(|claim| !known.contains(claim.uid.as_str()));
            let claim = claim.map(|claim| record::of_child(claim));
            let both: Vec<_> = claim.into_iter().chain([record::volume(volume)]).collect();
            if both.len() > room {
                break;
            }
            room -= both.len();
            missing.extend(both);
        }
        if !missing.is_empty() {
            let awaited = volumes.iter().map(awaited_volume).collect();
            return Some(Progress {
                actions: vec![Action::AmendTombstone(missing)],
                ..Progress::waiting(DestroyStep::Storage, awaited, None)
            });
        }
    }
    None
}

/// The volumes of claims that are gone.
pub(super) fn reclaimed(remains: &Remains) -> Option<Progress> {
    let stays =
        |v: &VolumeFacts| v.retained || v.claim.as_ref().is_some_and(|c| remains.retained.contains(c));
    let going = remains.volumes.iter().flatten().filter(|v| !stays(v));
    let awaited: Vec<_> = going.map(awaited_volume).collect();
    (!awaited.is_empty())
        .then(|| Progress { unwatched: true, ..Progress::waiting(DestroyStep::Storage, awaited, None) })
}

/// No object is left, but an unanswered create may still take effect.
pub(super) fn settle(remains: &Remains, now: Timestamp) -> Option<Progress> {
    let at = remains.settled_at.filter(|at| now < *at)?;
    let awaited = vec![BlockedBy {
        kind: "Request".into(),
        message: format!(
            "a create request from before the destruction may take effect until {}",
            stamp(at).0
        ),
        ..BlockedBy::default()
    }];
    Some(Progress::waiting(DestroyStep::Verify, awaited, Some(at)))
}

/// A step over the objects of one kind.
fn step<T, I: IntoIterator<Item = Action>>(
    step: DestroyStep,
    items: &Result<Vec<T>, Unknown>,
    awaited: impl Fn(&T) -> BlockedBy,
    act: impl Fn(&T) -> I,
) -> Option<Progress> {
    match items {
        Err(unknown) => Some(Progress::unanswered(step, unknown)),
        Ok(items) if items.is_empty() => None,
        Ok(items) => Some(Progress {
            actions: items.iter().flat_map(act).collect(),
            ..Progress::waiting(step, items.iter().map(awaited).collect(), None)
        }),
    }
}

fn unread(unknown: &Unknown) -> BlockedBy {
    BlockedBy { kind: unknown.kind.into(), message: unknown.message.clone(), ..BlockedBy::default() }
}

fn awaited_child(child: &ChildFacts) -> BlockedBy {
    BlockedBy {
        kind: child.kind.as_str().into(),
        name: child.key.name.clone(),
        uid: child.uid.to_string(),
        finalizers: child.finalizers.clone(),
        message: match (child.kind, child.deleting) {
            (ChildKind::ResourceClaim, false) => {
                "the garbage collector removes it, because its pod does not exist any more".into()
            }
            _ => "terminating".into(),
        },
    }
}

fn awaited_volume(volume: &VolumeFacts) -> BlockedBy {
    BlockedBy {
        kind: VOLUME.into(),
        name: volume.name.clone(),
        uid: volume.uid.to_string(),
        finalizers: Vec::new(),
        message: volume.message.clone(),
    }
}

/// The object that blocks the destruction of an agent, from the status of the agent.
fn waits_for(agent: &Agent) -> String {
    let destroy = agent.status.as_ref().and_then(|status| status.destroy.as_ref());
    match destroy.and_then(|destroy| destroy.blocked_by.first()) {
        Some(first) => {
            let object = [first.kind.as_str(), first.name.as_str()].join(" ");
            format!("{BEING_DESTROYED}; it waits for {}: {}", object.trim_end(), first.message)
        }
        None => BEING_DESTROYED.to_owned(),
    }
}

pub(super) fn awaited_agent(agent: &Agent, message: &str) -> BlockedBy {
    BlockedBy {
        kind: "Agent".into(),
        name: agent.metadata.name.clone().unwrap_or_default(),
        uid: agent.metadata.uid.clone().unwrap_or_default(),
        finalizers: agent.metadata.finalizers.clone().unwrap_or_default(),
        message: message.into(),
    }
}
