//! The objects from the watches, indexed by owner.
//!
//! Invariant kept here: an object is found by its owner only in the namespace of the owner. The labels of an object
//! in another namespace prove nothing, because another tenant writes them.
//!
//! Each kind has one index, which one watch updates. A relist replaces the whole content, so an object that was
//! deleted while the watch was down also leaves the index. The index also records the progress of the watch, see
//! [`super::read_your_writes`].

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, PoisonError, RwLock};

use kube::ResourceExt;
use tokio::sync::watch;

use crate::api::{Agent, TombstoneKind, Town, names};
use crate::lifecycle::{
    ChildFacts, ClaimFacts, ObjectKey, OwnerId, PodFacts, ServiceFacts, TombstoneFacts, Uid, label, town_key,
};

/// A key of the index.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Group {
    /// The town of this UID in this namespace, and the objects of this namespace that carry the UID.
    Town(OwnerId),
    /// The agent of this UID in this namespace, and the objects of this namespace that carry the UID.
    Agent(OwnerId),
    /// The town or agent of this UID, in any namespace. The only use is the report of an object in another namespace
    /// that claims it.
    Anywhere(Uid),
    /// The agents that name this town, bound or not, and the records of destroyed towns of this name.
    NamesTown(ObjectKey),
    /// The records of objects that were destroyed in a namespace of this name.
    RecordsOf(String),
}

/// An object that can be indexed.
pub trait Indexed {
    /// Namespace and name of the object.
    fn key(&self) -> ObjectKey;
    /// UID of the object.
    fn uid(&self) -> Option<Uid>;
    /// The groups of the object.
    fn groups(&self) -> Vec<Group>;
}

impl Indexed for Town {
    fn key(&self) -> ObjectKey {
        ObjectKey::of(&self.metadata)
    }
    fn uid(&self) -> Option<Uid> {
        Uid::of(&self.metadata)
    }
    fn groups(&self) -> Vec<Group> {
        let itself = OwnerId::of(&self.metadata).map(Group::Town);
        itself.into_iter().chain(Uid::of(&self.metadata).map(Group::Anywhere)).collect()
    }
}

impl Indexed for Agent {
    fn key(&self) -> ObjectKey {
        ObjectKey::of(&self.metadata)
    }
    fn uid(&self) -> Option<Uid> {
        Uid::of(&self.metadata)
    }
    fn groups(&self) -> Vec<Group> {
        let namespace = self.namespace().unwrap_or_default();
        let bound = label(&self.metadata, names::TOWN_UID).map(Uid::new);
        let bound = bound.map(|uid| Group::Town(OwnerId::new(&namespace, &uid)));
        let itself = OwnerId::of(&self.metadata).map(Group::Agent);
        let anywhere = Uid::of(&self.metadata).map(Group::Anywhere);
        let named = Group::NamesTown(town_key(self));
        bound.into_iter().chain(itself).chain(anywhere).chain([named]).collect()
    }
}

impl Indexed for PodFacts {
    fn key(&self) -> ObjectKey {
        self.key.clone()
    }
    fn uid(&self) -> Option<Uid> {
        Some(self.uid.clone())
    }
    fn groups(&self) -> Vec<Group> {
        owners(&self.key.namespace, self.town_uid.as_ref(), self.agent_uid.as_ref())
    }
}

impl Indexed for TombstoneFacts {
    fn key(&self) -> ObjectKey {
        self.key.clone()
    }
    fn uid(&self) -> Option<Uid> {
        Some(self.uid.clone())
    }
    fn groups(&self) -> Vec<Group> {
        let of_namespace = Group::RecordsOf(self.of.key.namespace.clone());
        match self.kind {
            TombstoneKind::Town => vec![of_namespace, Group::NamesTown(self.of.key.clone())],
            TombstoneKind::Agent => vec![of_namespace],
        }
    }
}

impl Indexed for ChildFacts {
    fn key(&self) -> ObjectKey {
        self.key.clone()
    }
    fn uid(&self) -> Option<Uid> {
        Some(self.uid.clone())
    }
    fn groups(&self) -> Vec<Group> {
        owners(&self.key.namespace, self.town_uid.as_ref(), self.agent_uid.as_ref())
    }
}

macro_rules! indexed_as_child {
    ($($facts:ty),*) => {
        $(impl Indexed for $facts {
            fn key(&self) -> ObjectKey {
                self.child.key()
            }
            fn uid(&self) -> Option<Uid> {
                self.child.uid()
            }
            fn groups(&self) -> Vec<Group> {
                self.child.groups()
            }
        })*
    };
}

indexed_as_child!(ClaimFacts, ServiceFacts);

fn owners(namespace: &str, town: Option<&Uid>, agent: Option<&Uid>) -> Vec<Group> {
    let town = town.map(|uid| Group::Town(OwnerId::new(namespace, uid)));
    let agent = agent.map(|uid| Group::Agent(OwnerId::new(namespace, uid)));
    town.into_iter().chain(agent).collect()
}

/// The objects of one kind.
pub struct Index<T> {
    state: RwLock<State<T>>,
    seen: watch::Sender<u64>,
}

struct State<T> {
    objects: HashMap<Arc<ObjectKey>, Arc<T>>,
    /// The members of each group, in order. Most groups have one member: a set would need ten times the memory.
    groups: HashMap<Group, Vec<Arc<ObjectKey>>>,
    /// The objects of the current relist so far.
    incoming: Vec<Arc<T>>,
}

impl<T> Default for Index<T> {
    fn default() -> Self {
        let state = State { objects: HashMap::new(), groups: HashMap::new(), incoming: Vec::new() };
        Self { state: RwLock::new(state), seen: watch::Sender::new(0) }
    }
}

impl<T: Indexed> Index<T> {
    /// The object of that name.
    pub fn get(&self, key: &ObjectKey) -> Option<Arc<T>> {
        self.read().objects.get(key).cloned()
    }

    /// The objects of a group.
    pub fn of(&self, group: &Group) -> Vec<Arc<T>> {
        let state = self.read();
        let keys = state.groups.get(group);
        keys.into_iter().flatten().filter_map(|key| state.objects.get(&**key).cloned()).collect()
    }

    /// The number of objects in a group.
    pub fn count(&self, group: &Group) -> usize {
        self.read().groups.get(group).map_or(0, Vec::len)
    }

    /// Adds or replaces an object. Returns the affected objects: the current one, and the previous one. The update
    /// comes before any notification: a receiver that read the index too early would miss the object, and would get
    /// no second notification.
    pub fn apply(&self, object: T, revision: Option<u64>) -> Vec<Arc<T>> {
        let object = Arc::new(object);
        let before = self.write().insert(object.clone());
        self.saw(revision);
        std::iter::once(object).chain(before).collect()
    }

    /// Removes an object.
    pub fn delete(&self, key: &ObjectKey, revision: Option<u64>) -> Option<Arc<T>> {
        let before = self.write().remove(key);
        self.saw(revision);
        before
    }

    /// Begins a relist.
    pub fn relist(&self) {
        self.write().incoming.clear();
    }

    /// Adds an object of a relist. An unchanged object is stored only once; otherwise each relist would need twice
    /// the memory of all objects.
    pub fn incoming(&self, object: T, revision: Option<u64>)
    where
        T: PartialEq,
    {
        let mut state = self.write();
        let same = state.objects.get(&object.key()).filter(|known| ***known == object).cloned();
        state.incoming.push(same.unwrap_or_else(|| Arc::new(object)));
        drop(state);
        self.saw(revision);
    }

    /// Ends a relist: objects that the relist did not contain are removed. Returns the affected objects, both the
    /// current and the previous ones, and the UIDs of the removed objects.
    pub fn relisted(&self) -> (Vec<Arc<T>>, Vec<Uid>) {
        let mut state = self.write();
        let before: Vec<_> = state.objects.drain().map(|(_, object)| object).collect();
        state.groups.clear();
        for object in std::mem::take(&mut state.incoming) {
            state.insert(object);
        }
        let there: HashSet<_> = state.objects.values().filter_map(|object| object.uid()).collect();
        let gone = before.iter().filter_map(|o| o.uid()).filter(|uid| !there.contains(uid)).collect();
        let changed = |old: &Arc<T>| !state.objects.get(&old.key()).is_some_and(|now| Arc::ptr_eq(now, old));
        let before: Vec<_> = before.into_iter().filter(changed).collect();
        (state.objects.values().cloned().chain(before).collect(), gone)
    }

    /// Every object of the kind.
    pub fn all(&self) -> Vec<Arc<T>> {
        self.read().objects.values().cloned().collect()
    }

    /// Waits until the watch has reached this revision.
    pub async fn reaches(&self, revision: u64) {
        // The sender lives in self, so the wait cannot fail.
        let _ = self.seen.subscribe().wait_for(|seen| *seen >= revision).await;
    }

    fn saw(&self, revision: Option<u64>) {
        if let Some(revision) = revision {
            self.seen.send_if_modified(|seen| {
                let newer = revision > *seen;
                *seen = (*seen).max(revision);
                newer
            });
        }
    }

    fn read(&self) -> std::sync::RwLockReadGuard<'_, State<T>> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> std::sync::RwLockWriteGuard<'_, State<T>> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T: Indexed> State<T> {
    fn insert(&mut self, object: Arc<T>) -> Option<Arc<T>> {
        let key = Arc::new(object.key());
        let before = self.remove(&key);
        for group in object.groups() {
            let keys = self.groups.entry(group).or_default();
            if let Err(place) = keys.binary_search(&key) {
                if keys.is_empty() {
                    keys.reserve_exact(1);
                }
                keys.insert(place, key.clone());
            }
        }
        self.objects.insert(key, object);
        before
    }

    fn remove(&mut self, key: &ObjectKey) -> Option<Arc<T>> {
        let before = self.objects.remove(key)?;
        for group in before.groups() {
            if let Some(keys) = self.groups.get_mut(&group) {
                if let Ok(place) = keys.binary_search_by(|member| (**member).cmp(key)) {
                    keys.remove(place);
                }
                if keys.is_empty() {
                    self.groups.remove(&group);
                }
            }
        }
        Some(before)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lifecycle::ChildKind;

    fn town(namespace: &str, uid: &str) -> Group {
        Group::Town(OwnerId::new(namespace, &Uid::new(uid)))
    }

    fn pod(name: &str, town: &str) -> ClaimFacts {
        let child = ChildFacts {
            kind: ChildKind::PersistentVolumeClaim,
            key: ObjectKey { namespace: "ns".into(), name: name.into() },
            uid: Uid::new(name),
            town_uid: Some(Uid::new(town)),
            agent_uid: None,
            install: None,
            deleting: false,
            finalizers: vec![],
            of_pod: false,
            retain: false,
            copied: None,
        };
        ClaimFacts { child, lost: false, requested: None, capacity: None }
    }

    #[test]
    fn cached_object_leaves_its_old_group_when_its_owner_changes() {
        let index = Index::default();
        index.apply(pod("a", "t1"), None);
        index.apply(pod("a", "t2"), None);
        assert!(index.of(&town("ns", "t1")).is_empty());
        assert_eq!(index.of(&town("ns", "t2")).len(), 1);
    }

    // security.md S1: whichever namespace sorts first.
    #[test]
    fn cached_object_of_another_namespace_is_not_found_by_its_labels() {
        let index = Index::default();
        index.apply(pod("own", "t"), None);
        for theirs in ["a-team", "z-team"] {
            let mut forged = pod("forged", "t");
            forged.child.key.namespace = theirs.into();
            index.apply(forged, None);
        }
        let found: Vec<_> = index.of(&town("ns", "t")).iter().map(|c| c.child.key.to_string()).collect();
        assert_eq!(found, ["ns/own"]);
    }

    #[test]
    fn index_apply_reports_the_old_and_the_new_owner_of_an_object() {
        let index = Index::default();
        let told = |owner| {
            let concerned = index.apply(pod("a", owner), None);
            let owner = |claim: &ClaimFacts| claim.child.town_uid.clone().unwrap().to_string();
            let found = index.get(&concerned[0].child.key).map(|claim| owner(&claim));
            (concerned.iter().map(|claim| owner(claim)).collect::<Vec<_>>(), found)
        };
        assert_eq!(told("t1"), (vec!["t1".into()], Some("t1".into())));
        assert_eq!(told("t2"), (vec!["t2".into(), "t1".into()], Some("t2".into())));
    }

    // code:A14: the second list must not need the memory of all objects again.
    #[test]
    fn relist_keeps_the_same_entry_when_an_object_has_not_changed() {
        let index = Index::default();
        index.apply(pod("same", "t"), None);
        index.apply(pod("moved", "t"), None);
        let before = index.all();
        index.relist();
        index.incoming(pod("same", "t"), None);
        index.incoming(pod("moved", "t2"), None);
        let (concerned, gone) = index.relisted();
        assert!(gone.is_empty());
        let kept = |name: &str| before.iter().find(|old| old.child.key.name == name).unwrap();
        let key = |name: &str| kept(name).child.key.clone();
        assert!(Arc::ptr_eq(&index.get(&key("same")).unwrap(), kept("same")));
        assert!(!Arc::ptr_eq(&index.get(&key("moved")).unwrap(), kept("moved")));
        let count = |name: &str| concerned.iter().filter(|object| object.child.key.name == name).count();
        assert_eq!((count("same"), count("moved")), (1, 2), "its owners before and after are concerned");
    }

    // I-missed-delete.
    #[test]
    fn object_deleted_while_the_watch_was_down_is_removed_after_the_relist() {
        let index = Index::default();
        index.apply(pod("gone", "t"), None);
        index.relist();
        index.incoming(pod("stays", "t"), None);
        assert_eq!(index.of(&town("ns", "t")).len(), 1, "nothing changes before the list is complete");
        let (concerned, gone) = index.relisted();
        let mut names: Vec<_> = concerned.iter().map(|c| c.child.key.name.as_str()).collect();
        names.sort_unstable();
        assert_eq!(names, ["gone", "stays"]);
        assert_eq!(gone, [Uid::new("gone")]);
        let now: Vec<_> = index.all().iter().map(|p| p.child.key.name.clone()).collect();
        assert_eq!(now, ["stays"]);
    }

    #[tokio::test]
    async fn index_reaches_the_highest_resource_version_of_its_watch() {
        let index = Index::default();
        index.apply(pod("a", "t"), Some(7));
        index.apply(pod("a", "t"), Some(5));
        index.reaches(7).await;
    }
}
