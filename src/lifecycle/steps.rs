//! The steps of a destruction, each over what is left: an unread list blocks, an empty one is done.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::jiff::Timestamp;

use super::Uid;
use super::clock::{earlier, stamp};
use super::facts::{ChildFacts, PodFacts, Record, Remains, Unknown, VolumeFacts};
use super::ids::ObjectKey;
use super::kinds::ChildKind;
use super::plan::Action;
use super::pods::{end_pod, is_overdue, overdue};
use super::record::{self, VOLUME};
use crate::api::{Agent, BlockedBy, DestroyStep, TombstoneChild};

/// What an agent shows that has not said what it waits for.
pub(super) const BEING_DESTROYED: &str = "being destroyed";

/// Where destruction stands: the first step that is not proven done.
pub(super) struct Progress {
    pub(super) step: DestroyStep,
    pub(super) actions: Vec<Action>,
    pub(super) awaited: Vec<BlockedBy>,
    pub(super) look_again: Option<Timestamp>,
    /// It waits for an answer that no watch will bring.
    pub(super) unread: bool,
    /// It waits for what no watch tells of, and what takes a moment only.
    pub(super) unwatched: bool,
    /// No create may be under way while its actions are carried out.
    pub(super) exclusive: bool,
}

impl Progress {
    /// Nothing to do but to wait.
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

    /// Waits for an answer.
    pub(super) fn unanswered(step: DestroyStep, unknown: &Unknown) -> Self {
        Self { unread: true, ..Self::waiting(step, vec![unread(unknown)], None) }
    }

    /// Both, as one step: everything in it is attempted, whatever fails.
    fn and(mut self, other: Self) -> Self {
        self.actions.extend(other.actions);
        self.awaited.extend(other.awaited);
        self.look_again = earlier(self.look_again, other.look_again);
        self.unread |= other.unread;
        self.unwatched |= other.unwatched;
        self
    }
}

/// The agents of a town; each runs its own destruction.
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

/// The pods.
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

/// What Kubernetes made for the pods. Before a pod goes, its claims and their volumes stand in the record: they carry no
/// label of ours, and once the pod is gone nothing else would tell whose they are.
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
        message: "it is written to the Tombstone before its pod goes".into(),
        ..BlockedBy::default()
    };
    (!missing.is_empty()).then(|| {
        let waiting = Progress::waiting(DestroyStep::Compute, missing.iter().map(awaited).collect(), None);
        Progress { actions: vec![Action::AmendTombstone(missing)], ..waiting }
    })
}

/// Every other kind that this step takes away. A claim that is to outlive its owner is let go: it carries nothing
/// of ours any more.
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
            // The garbage collector takes it away.
            (ChildKind::ResourceClaim, _) => None,
            (_, true) => Some(Action::RetainClaim(key, uid)),
            (kind, false) => Some(Action::DeleteChild(kind, key, uid)),
        }
    };
    let of_kind = |kind: ChildKind| match remains.children.get(&kind) {
        Some(children) => {
            let progress = step(step_, children, awaited_child, act);
            // The watches show only what carries our label.
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

/// The volumes behind the claims. Before a claim goes, its volume and the claim itself stand in the record: once the
/// claim is gone nothing else would name its volume. A volume that its reclaim policy deletes is waited for.
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

/// Nothing is left; but a create whose answer was lost may still take effect.
pub(super) fn settle(remains: &Remains, now: Timestamp) -> Option<Progress> {
    let at = remains.settled_at.filter(|at| now < *at)?;
    let awaited = vec![BlockedBy {
        kind: "Request".into(),
        message: format!("a create sent before destruction may take effect until {}", stamp(at).0),
        ..BlockedBy::default()
    }];
    Some(Progress::waiting(DestroyStep::Verify, awaited, Some(at)))
}

/// One step over the objects of one kind.
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

/// What is awaited of a question that got no answer.
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
                "the garbage collector removes it, since its pod is gone".into()
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

/// What an agent that is being destroyed waits for, in its own words.
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

/// What is awaited of an agent.
pub(super) fn awaited_agent(agent: &Agent, message: &str) -> BlockedBy {
    BlockedBy {
        kind: "Agent".into(),
        name: agent.metadata.name.clone().unwrap_or_default(),
        uid: agent.metadata.uid.clone().unwrap_or_default(),
        finalizers: agent.metadata.finalizers.clone().unwrap_or_default(),
        message: message.into(),
    }
}
