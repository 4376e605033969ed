//! The effects of watch events: an event updates the index of its kind, and enqueues the affected objects.

use crate::cluster::watch::misplaced::report_if_misplaced;
use crate::cluster::watch::watched::Followed;
use std::collections::HashSet;

use kube::Resource;
use kube::runtime::watcher::Event;

use crate::api::condition::reason;
use crate::cluster::cache::index::Indexed;
use crate::cluster::context::Cluster;
use crate::cluster::kinds::decode::{Decoded, Undecodable};
use crate::lifecycle::{ObjectKey, Uid};

impl Cluster {
    /// Applies a watch event.
    pub fn follow<K: Followed>(&self, event: Event<Decoded<K>>) {
        let index = K::index(&self.caches);
        match event {
            Event::Init => index.relist(),
            Event::InitApply(object) => {
                let revision = revision(&object);
                if let Some(object) = self.read_watched(object) {
                    index.incoming(object, revision);
                }
            }
            Event::InitDone => {
                let (concerned, gone) = index.relisted();
                let uids: HashSet<&Uid> = gone.iter().collect();
                let has_gone = |kept: &K::Kept| kept.uid().is_some_and(|uid| uids.contains(&uid));
                concerned
                    .iter()
                    .filter(|kept| has_gone(kept))
                    .for_each(|kept| K::goes(&self.runs, kept, self.now()));
                for uid in &gone {
                    self.forget(uid);
                }
                for object in &concerned {
                    self.tell::<K>(object);
                }
            }
            Event::Apply(object) => {
                let revision = revision(&object);
                let (key, uid) = (ObjectKey::of(object.meta()), Uid::of(object.meta()));
                if let Some(object) = self.read_watched(object) {
                    let changed = index.apply(object, revision);
                    changed.first().inspect(|now| report_if_misplaced::<K>(self, now));
                    if !matches!(&changed[..], [now, before] if !K::says_more(now, before)) {
                        for object in &changed {
                            self.tell::<K>(object);
                        }
                    }
                } else {
                    // The operator does not act on an object that it cannot decode.
                    drop(index.delete(&key, revision));
                    if let Some(uid) = uid {
                        self.starts.release(&uid, self.now());
                    }
                }
            }
            Event::Delete(object) => {
                let key = ObjectKey::of(object.meta());
                index.get(&key).inspect(|kept| K::goes(&self.runs, kept, self.now()));
                // The object leaves the index first, because state for an object in the index must not be forgotten.
                let before = index.delete(&key, revision(&object));
                if let Some(uid) = Uid::of(object.meta()) {
                    self.forget(&uid);
                }
                if let Some(before) = before {
                    self.tell::<K>(&before);
                }
            }
        }
    }

    fn tell<K: Followed>(&self, changed: &K::Kept) {
        for look in K::concerned(&self.caches, changed) {
            self.looks.ask(look);
        }
    }

    /// The stored form of an object. If only the metadata can be decoded, the operator reports the object and ignores
    /// it, so that it does not block other objects.
    fn read_watched<K: Followed>(&self, object: Decoded<K>) -> Option<K::Kept> {
        match object.0 {
            Ok(object) => object.kept(),
            Err(Undecodable { metadata, error }) => {
                let note = format!("the operator cannot read this object, and ignores it: {error}");
                self.reports.add::<K>(&metadata, reason::UNREADABLE, &note, self.now());
                None
            }
        }
    }
}

fn revision<K: Resource>(object: &K) -> Option<u64> {
    object.meta().resource_version.as_deref().and_then(|rv| rv.parse().ok())
}
