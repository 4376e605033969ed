//! The store: objects and their history.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use serde_json::Value;

use super::kinds::{Kind, KindId};
use super::object::{self, Object};

/// The key of an object. The order of keys is the order of lists.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key {
    pub kind: KindId,
    /// `namespace/name`, or the name of a cluster-scoped object.
    pub path: String,
}

impl Key {
    /// The key of this namespace (empty: cluster-scoped) and name.
    pub fn new(kind: &Kind, namespace: &str, name: &str) -> Self {
        let path = if kind.namespaced { format!("{namespace}/{name}") } else { name.to_owned() };
        Self { kind: kind.id, path }
    }

    /// The namespace; empty for cluster-scoped objects.
    pub fn namespace(&self) -> &str {
        self.path.split_once('/').map_or("", |(namespace, _)| namespace)
    }

    pub fn name(&self) -> &str {
        self.path.split_once('/').map_or(&self.path, |(_, name)| name)
    }
}

/// The kind of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    Added,
    Modified,
    /// The object was removed. The event has its last state.
    Deleted,
}

/// A change of an object.
#[derive(Clone, Debug)]
pub struct Event {
    /// The resourceVersion of the write.
    pub version: u64,
    pub key: Key,
    pub change: Change,
    /// The object after the change.
    pub object: Object,
    /// The object before the change.
    pub before: Option<Object>,
}

/// Objects and their history.
#[derive(Clone)]
pub struct Store {
    version: u64,
    compacted: u64,
    objects: BTreeMap<Key, Object>,
    log: Vec<Event>,
}

/// The version of an empty store. The number is large so that no small number matches a version by chance.
const BEGIN: u64 = 100_000;

impl Default for Store {
    fn default() -> Self {
        Self { version: BEGIN, compacted: BEGIN, objects: BTreeMap::new(), log: Vec::new() }
    }
}

impl Store {
    /// The resourceVersion of the last write.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// The last version that is compacted.
    pub fn compacted(&self) -> u64 {
        self.compacted
    }

    pub fn get(&self, key: &Key) -> Option<&Object> {
        self.objects.get(key)
    }

    /// The objects of all kinds, in order.
    pub fn all(&self) -> impl Iterator<Item = (&Key, &Object)> {
        self.objects.iter()
    }

    /// The objects of a kind, in order.
    pub fn of_kind(&self, kind: KindId) -> impl Iterator<Item = (&Key, &Object)> {
        self.objects.range(Key { kind, path: String::new() }..Key { kind: kind + 1, path: String::new() })
    }

    /// The objects of a kind in a namespace, in order. An empty namespace matches all.
    pub fn within<'a>(
        &'a self,
        kind: KindId,
        namespace: &'a str,
    ) -> impl Iterator<Item = (&'a Key, &'a Object)> + use<'a> {
        let begin = if namespace.is_empty() { String::new() } else { format!("{namespace}/") };
        let from = Bound::Included(Key { kind, path: begin.clone() });
        let here = move |(key, _): &(&Key, &Object)| key.kind == kind && key.path.starts_with(&begin);
        self.objects.range((from, Bound::Unbounded)).take_while(here)
    }

    /// The events after the last compaction, in order.
    pub fn log(&self) -> &[Event] {
        &self.log
    }

    /// The events after a version.
    pub fn since(&self, version: u64) -> &[Event] {
        let begin = self.log.partition_point(|event| event.version <= version);
        &self.log[begin..]
    }

    /// The objects of a kind in a namespace at a version. The version must not be compacted.
    pub fn as_of(&self, version: u64, kind: KindId, namespace: &str) -> BTreeMap<Key, Object> {
        let now = self.within(kind, namespace);
        let mut then: BTreeMap<Key, Object> =
            now.map(|(key, object)| (key.clone(), object.clone())).collect();
        for event in self.since(version).iter().rev() {
            if event.key.kind == kind && (namespace.is_empty() || event.key.namespace() == namespace) {
                match &event.before {
                    Some(before) => then.insert(event.key.clone(), before.clone()),
                    None => then.remove(&event.key),
                };
            }
        }
        then
    }

    /// Stores an object with the next version.
    pub fn put(&mut self, key: Key, mut value: Value) -> Object {
        let object = self.stamp(&mut value);
        let before = self.objects.insert(key.clone(), object.clone());
        let change = if before.is_some() { Change::Modified } else { Change::Added };
        self.log.push(Event { version: self.version, key, change, object: object.clone(), before });
        object
    }

    /// Removes an object. The result is its last state, with the version of the removal.
    pub fn remove(&mut self, key: &Key) -> Option<Object> {
        let before = self.objects.remove(key)?;
        let mut value = (*before).clone();
        let object = self.stamp(&mut value);
        let (key, change, before) = (key.clone(), Change::Deleted, Some(before));
        self.log.push(Event { version: self.version, key, change, object: object.clone(), before });
        Some(object)
    }

    /// Discards the history. A watch from an older version must then list again.
    pub fn compact(&mut self) {
        self.compacted = self.version;
        self.log.clear();
    }

    fn stamp(&mut self, value: &mut Value) -> Object {
        self.version += 1;
        object::meta_mut(value).insert("resourceVersion".into(), self.version.to_string().into());
        Arc::new(std::mem::take(value))
    }
}
