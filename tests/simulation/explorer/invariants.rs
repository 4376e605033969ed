//! The invariants: one function for each. The run calls them after each event.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde_json::Value;
use town_operator::api::names;

use super::{INSTALL, agent_kind, tombstone_kind, town_kind};
use crate::server::call::{Call, Verb};
use crate::server::kinds::id;
use crate::server::object::{self, Object, finalizers, is_going, label, meta, uid};
use crate::server::store::{Change, Event, Key};
use crate::server::world::World;

/// An invariant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Invariant {
    /// I1: when a Town or an Agent is gone, no child of it is left.
    NoLeak,
    /// I2: the operator creates nothing for an owner with a tombstone.
    NoResurrection,
    /// I3: the operator deletes nothing before the tombstone is durable.
    TombstoneFirst,
    /// I4: an owner never has two pods for one purpose.
    OnePod,
    /// I5: the operator neither changes nor deletes foreign objects.
    OnlyOurs,
    /// I6: a bead that is done never starts a pod again.
    DoneIsDone,
    /// I7: at rest the operator sends no request.
    IdleIsFree,
    /// I8: the final state matches the specs, with any fault.
    EventuallyStable,
    /// I9: work that arrives at any moment finds the town awake.
    NoLostWake,
    /// I10: every deletion completes.
    DeletionTerminates,
    /// I11: retries of a failure become less and less frequent.
    NoHotLoop,
    /// I13: the objects of one namespace change nothing in another.
    Tenants,
    /// I14: an agent or a town that cannot run keeps no town awake.
    NoWorkFromWhatCannotRun,
    /// A reboot of the node is one incident, even if it restarts several containers.
    OneIncident,
    /// I15: a town has one mayor, and a rig has no more working polecats than its limit.
    Places,
}

impl fmt::Display for Invariant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoLeak => "I1 no leak",
            Self::NoResurrection => "I2 no resurrection",
            Self::TombstoneFirst => "I3 tombstone first",
            Self::OnePod => "I4 one pod",
            Self::OnlyOurs => "I5 only ours",
            Self::DoneIsDone => "I6 done is done",
            Self::IdleIsFree => "I7 idle is free",
            Self::EventuallyStable => "I8 eventually stable",
            Self::NoLostWake => "I9 no lost wake",
            Self::DeletionTerminates => "I10 deletion terminates",
            Self::NoHotLoop => "I11 no hot loop",
            Self::Tenants => "I13 tenants",
            Self::NoWorkFromWhatCannotRun => "I14 no work from what cannot run",
            Self::OneIncident => "a reboot is one incident",
            Self::Places => "I15 places",
        })
    }
}

#[derive(Clone, Debug)]
pub struct Violation {
    pub invariant: Invariant,
    /// The details.
    pub why: String,
}

pub fn broken(invariant: Invariant, why: impl Into<String>) -> Violation {
    Violation { invariant, why: why.into() }
}

/// The author of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// An operator. At its decision the operator knew every event up to this version.
    Operator {
        knew: u64,
        /// The process has ended, or no longer leads. Its request takes effect late.
        ended: bool,
    },
    /// Any other client.
    Others,
}

/// Whether objects of the kind are children of a town or an agent.
fn is_child(kind: usize) -> bool {
    matches!(kind, id::POD | id::CLAIM | id::SERVICE | id::SECRET)
}

fn is_owner(kind: usize) -> bool {
    kind == town_kind() || kind == agent_kind()
}

fn is_ours(object: &Value) -> bool {
    label(object, names::INSTALL) == Some(INSTALL)
}

/// For example `pod ns/gas-1234`.
fn called(key: &Key) -> String {
    format!("{} {}", super::kind_name(key.kind), key.path)
}

/// An observer that receives every event.
#[derive(Clone, Default)]
pub struct Witness {
    /// Every Town and Agent by UID.
    owners: BTreeMap<String, Owner>,
    /// The UIDs of objects that other clients created with the UID of a town or an agent in a label.
    planted: BTreeSet<String>,
}

#[derive(Clone)]
struct Owner {
    key: Key,
    /// The version of its deletion.
    deleted: Option<u64>,
    /// The version of its tombstone.
    tombstone: Option<u64>,
    /// Another client removed our finalizer, so that the owner was removed without its destruction.
    killed: bool,
}

impl Witness {
    /// Checks an event.
    pub fn see(&mut self, world: &World, event: &Event, by: By) -> Result<(), Violation> {
        if is_owner(event.key.kind) {
            self.remember(event, by);
        }
        if event.key.kind == tombstone_kind()
            && event.change == Change::Added
            && let Some(owner) = event.object["spec"]["uid"].as_str().and_then(|uid| self.owners.get_mut(uid))
        {
            owner.tombstone.get_or_insert(event.version);
        }
        if by == By::Others && event.change == Change::Added && owners_of(&event.object).next().is_some() {
            self.planted.insert(uid(&event.object).to_owned());
        }
        if let By::Operator { knew, .. } = by {
            only_ours(event)?;
            self.tenants(event)?;
            self.tombstone_first(world, event, knew)?;
        }
        one_pod(world, event)?;
        // The next process cannot know a request of its predecessor that has not taken effect. The operator deletes the
        // surplus pod afterwards.
        if !matches!(by, By::Operator { ended: true, .. }) {
            places(world, event)?;
        }
        done_is_done(world, event)?;
        self.no_leak(world, event)
    }

    /// Checks a request before it reaches the API server.
    pub fn sent(&self, call: &Call) -> Result<(), Violation> {
        self.no_resurrection(call)
    }

    fn remember(&mut self, event: &Event, by: By) {
        let owner = self.owners.entry(uid(&event.object).to_owned()).or_insert_with(|| Owner {
            key: event.key.clone(),
            deleted: None,
            tombstone: None,
            killed: false,
        });
        let ours = |object: &Object| finalizers(object).any(|finalizer| finalizer == names::FINALIZER);
        let was = event.before.as_ref().is_some_and(ours);
        let is = event.change != Change::Deleted && ours(&event.object);
        owner.killed |= by == By::Others && was && !is;
        if is_going(&event.object) || event.change == Change::Deleted {
            owner.deleted.get_or_insert(event.version);
        }
    }

    /// I1. When a Town or an Agent object is gone, no object with its UID and our label exists.
    fn no_leak(&self, world: &World, event: &Event) -> Result<(), Violation> {
        if event.change != Change::Deleted || !is_owner(event.key.kind) {
            return Ok(());
        }
        if self.owners.get(uid(&event.object)).is_some_and(|owner| owner.killed) {
            // The garbage collector has not run yet.
            return Ok(());
        }
        match self.left_of(world, uid(&event.object), event.key.namespace()).first() {
            None => Ok(()),
            Some(left) => Err(broken(
                Invariant::NoLeak,
                format!("{} is gone, and {} of it is there", called(&event.key), called(left)),
            )),
        }
    }

    /// I2. Once the tombstone of a UID is durable, the operator creates nothing for this UID.
    fn no_resurrection(&self, call: &Call) -> Result<(), Violation> {
        if call.verb != Verb::Create
            || !matches!(call.resource.as_str(), "pods" | "persistentvolumeclaims" | "services" | "secrets")
        {
            return Ok(());
        }
        let object: Value = serde_json::from_slice(&call.body).expect("an object");
        for owner in owners_of(&object) {
            if self.owners.get(owner).is_some_and(|owner| owner.tombstone.is_some()) {
                let why = format!("{call} is sent for {}, which has a tombstone", self.name_of(owner));
                return Err(broken(Invariant::NoResurrection, why));
            }
        }
        Ok(())
    }

    /// I3. The operator deletes no child of an owner that is being destroyed before the tombstone of the owner, or of
    /// its town, is durable. The operator deletes data only if the owner is being destroyed.
    fn tombstone_first(&self, world: &World, event: &Event, knew: u64) -> Result<(), Violation> {
        let begins = match (&event.before, event.change) {
            (Some(before), Change::Modified) => is_going(&event.object) && !is_going(before),
            (Some(before), Change::Deleted) => !is_going(before),
            _ => false,
        };
        let kind = event.key.kind;
        if !begins || !(is_child(kind) || kind == agent_kind()) {
            return Ok(());
        }
        let owners: Vec<&Owner> = owners_of(&event.object).filter_map(|uid| self.owners.get(uid)).collect();
        if owners.iter().any(|owner| owner.tombstone.is_some()) {
            return Ok(());
        }
        // Pods and agents can end for other reasons. Only an operator that knows of the deletion must write the
        // tombstone first.
        let destroys = owners.iter().any(|owner| owner.deleted.is_some_and(|deleted| deleted <= knew));
        let ends = kind == id::POD || kind == agent_kind();
        let sleeps = kind == id::POD
            && town_of(world, &event.object).is_some_and(|town| !is_going(town) && falls_asleep(town));
        if ends && (!destroys || sleeps) {
            return Ok(());
        }
        let of: Vec<String> = owners.iter().map(|owner| called(&owner.key)).collect();
        let why = format!("{} is deleted, and no tombstone is on {}", called(&event.key), of.join(" or "));
        Err(broken(Invariant::TombstoneFirst, why))
    }

    /// I13. The operator changes no child and deletes no agent in another namespace than that of the owner.
    fn tenants(&self, event: &Event) -> Result<(), Violation> {
        let kind = event.key.kind;
        let deleted = event.change == Change::Deleted || is_going(&event.object);
        let concerns = is_child(kind) || (kind == agent_kind() && deleted);
        if !concerns {
            return Ok(());
        }
        let mut owners = owners_of(&event.object).filter_map(|uid| self.owners.get(uid));
        match owners.find(|owner| owner.key.namespace() != event.key.namespace()) {
            Some(owner) => {
                let why = format!("{} is changed for {}", called(&event.key), called(&owner.key));
                Err(broken(Invariant::Tenants, why))
            }
            None => Ok(()),
        }
    }

    /// Objects in a namespace with our label and this UID, without those that other clients created.
    fn left_of(&self, world: &World, owner: &str, namespace: &str) -> Vec<Key> {
        let kinds = [id::POD, id::CLAIM, id::SERVICE, id::SECRET, agent_kind()];
        let all = kinds.into_iter().flat_map(|kind| world.store().of_kind(kind));
        let left = all.filter(|(key, object)| {
            let of_owner = is_ours(object) && owners_of(object).any(|uid| uid == owner);
            key.namespace() == namespace && of_owner && !self.planted.contains(uid(object))
        });
        left.map(|(key, _)| key.clone()).collect()
    }

    fn name_of(&self, uid: &str) -> String {
        self.owners.get(uid).map_or_else(|| uid.to_owned(), |owner| called(&owner.key))
    }

    /// Whether the owner with this UID existed and is gone.
    pub fn is_gone(&self, world: &World, uid: &str) -> bool {
        self.owners.get(uid).is_some_and(|owner| {
            let there = world.store().get(&owner.key);
            there.is_none_or(|there| object::uid(there) != uid)
        })
    }

    /// Owners whose deletion was requested and that still exist.
    pub fn still_going(&self, world: &World) -> Vec<String> {
        let gone = |uid: &str| self.is_gone(world, uid);
        let going = self.owners.iter().filter(|(uid, owner)| owner.deleted.is_some() && !gone(uid));
        going.map(|(_, owner)| called(&owner.key)).collect()
    }

    /// Objects that are left of owners that are gone.
    pub fn leaked(&self, world: &World) -> Vec<String> {
        let gone = self.owners.iter().filter(|(uid, _)| self.is_gone(world, uid));
        let left = gone.flat_map(|(uid, owner)| {
            let left = self.left_of(world, uid, owner.key.namespace()).into_iter();
            // A claim has no ownerReference. The claim of a killed owner remains until the operator finds it as an
            // orphan.
            left.filter(|key| !(owner.killed && key.kind == id::CLAIM))
        });
        left.map(|key| called(&key)).collect()
    }
}

/// The UIDs of the owners in the labels of an object: the agent and the town of a child, the town of an agent.
fn owners_of(object: &Value) -> impl Iterator<Item = &str> {
    [names::AGENT_UID, names::TOWN_UID].into_iter().filter_map(|key| label(object, key))
}

fn town_of<'a>(world: &'a World, child: &Value) -> Option<&'a Object> {
    let wanted = label(child, names::TOWN_UID)?;
    world.store().of_kind(town_kind()).map(|(_, town)| town).find(|town| uid(town) == wanted)
}

fn falls_asleep(town: &Value) -> bool {
    !town["status"]["drainTime"].is_null() || town["status"]["phase"] == "Asleep"
}

/// I4. An owner never has two pods for one purpose.
fn one_pod(world: &World, event: &Event) -> Result<(), Violation> {
    if event.key.kind != id::POD || event.change != Change::Added {
        return Ok(());
    }
    let purpose = |pod: &Value| {
        let of =
            [names::INSTALL, names::TOWN_UID, names::AGENT_UID].map(|key| label(pod, key).map(str::to_owned));
        of[1].is_some().then_some(of)
    };
    let Some(new) = purpose(&event.object) else { return Ok(()) };
    let here = |key: &Key| *key != event.key && key.namespace() == event.key.namespace();
    let mut others = world.store().of_kind(id::POD).filter(|(key, _)| here(key));
    match others.find(|(_, pod)| purpose(pod).as_ref() == Some(&new)) {
        None => Ok(()),
        Some((other, _)) => Err(broken(
            Invariant::OnePod,
            format!("{} is there beside {}", called(&event.key), called(other)),
        )),
    }
}

/// I15. A new pod of an agent exceeds neither the limit of its role nor the limit of its rig.
fn places(world: &World, event: &Event) -> Result<(), Violation> {
    if event.key.kind != id::POD || event.change != Change::Added {
        return Ok(());
    }
    let Some(agent) = agent_of(world, &event.object) else { return Ok(()) };
    let place = |agent: &Object| (agent["spec"]["role"].clone(), agent["spec"]["rig"].clone());
    let limit = match agent["spec"]["role"].as_str() {
        Some("Mayor") => 1,
        Some("Polecat") => {
            let rig = town_of(world, &event.object).and_then(|town| {
                let rigs = town["spec"]["rigs"].as_array()?;
                rigs.iter().find(|rig| rig["name"] == agent["spec"]["rig"])?["maxPolecats"].as_u64()
            });
            rig.unwrap_or(8)
        }
        _ => return Ok(()),
    };
    let town = label(&event.object, names::TOWN_UID);
    let ended = |pod: &Object| matches!(pod["status"]["phase"].as_str(), Some("Succeeded" | "Failed"));
    let pods = world.store().of_kind(id::POD).filter(|(_, pod)| {
        let of_town = is_ours(pod) && label(pod, names::TOWN_UID) == town && !is_going(pod) && !ended(pod);
        of_town && agent_of(world, pod).is_some_and(|peer| place(peer) == place(agent))
    });
    let pods: Vec<String> = pods.map(|(key, _)| called(key)).collect();
    if u64::try_from(pods.len()).is_ok_and(|count| limit < count) {
        let why = format!("{} is one too many of {pods:?}: the limit is {limit}", called(&event.key));
        return Err(broken(Invariant::Places, why));
    }
    Ok(())
}

fn agent_of<'a>(world: &'a World, child: &Value) -> Option<&'a Object> {
    let wanted = label(child, names::AGENT_UID)?;
    world.store().of_kind(agent_kind()).map(|(_, agent)| agent).find(|agent| uid(agent) == wanted)
}

/// I5. The operator changes or deletes no object without our label, and removes no foreign finalizer.
fn only_ours(event: &Event) -> Result<(), Violation> {
    let kind = event.key.kind;
    if !is_child(kind) && !is_owner(kind) {
        return Ok(());
    }
    let what = || called(&event.key);
    let Some(before) = &event.before else {
        return if is_ours(&event.object) {
            Ok(())
        } else {
            Err(broken(Invariant::OnlyOurs, format!("{} is made without our label", what())))
        };
    };
    // The operator adopts an owner without an installation label.
    let adoptable =
        is_owner(kind) && label(before, names::INSTALL).is_none() && event.change == Change::Modified;
    if !is_ours(before) && !adoptable {
        return Err(broken(Invariant::OnlyOurs, format!("{} is touched, and is not ours", what())));
    }
    let foreign = |object: &Object| -> Vec<String> {
        finalizers(object).filter(|name| !name.starts_with(names::PREFIX)).map(str::to_owned).collect()
    };
    let kept = if event.change == Change::Deleted { Vec::new() } else { foreign(&event.object) };
    match foreign(before).into_iter().find(|finalizer| !kept.contains(finalizer)) {
        None => Ok(()),
        Some(finalizer) => {
            Err(broken(Invariant::OnlyOurs, format!("the finalizer {finalizer} is taken off {}", what())))
        }
    }
}

/// I6. A bead that is recorded as done never starts a pod again.
fn done_is_done(world: &World, event: &Event) -> Result<(), Violation> {
    if event.key.kind != id::POD || event.change != Change::Added {
        return Ok(());
    }
    let hook = meta(&event.object).get("annotations").and_then(|all| all.get(names::HOOK));
    let hook: Option<Value> = hook.and_then(Value::as_str).and_then(|hook| serde_json::from_str(hook).ok());
    let (Some(hook), Some(agent)) = (hook, label(&event.object, names::AGENT_UID)) else { return Ok(()) };
    let bead = &hook["bead"];
    let mut agents = world.store().of_kind(agent_kind());
    let is_owner =
        |(key, object): &(&Key, &Object)| key.namespace() == event.key.namespace() && uid(object) == agent;
    let done = agents.find(is_owner).is_some_and(|(_, agent)| {
        let work = &agent["status"]["work"];
        work["done"].as_array().is_some_and(|done| done.contains(bead))
            || (work["outcome"] == "Done" && work["bead"] == *bead)
    });
    if done {
        return Err(broken(
            Invariant::DoneIsDone,
            format!("{} is started for bead {bead}, which is done", called(&event.key)),
        ));
    }
    Ok(())
}
