//! The observations of owners that are being destroyed: the objects that this process saw, released on purpose, or
//! saw deleted.
//!
//! The record has the objects from the begin of the destruction. Objects that appear later are remembered here until
//! the receipts are written. A deleted object stays deleted, because a UID is never used again.

use std::collections::{BTreeSet, HashMap};
use std::sync::Mutex;

use crate::api::TombstoneChild;
use crate::cluster::sync::lock;
use crate::lifecycle::Uid;

/// Objects that were seen during the destruction of their owner, by owner.
#[derive(Default)]
pub(crate) struct Receipts(Mutex<HashMap<Uid, Known>>);

/// The known objects of an owner.
#[derive(Default)]
struct Known {
    seen: BTreeSet<TombstoneChild>,
    retained: BTreeSet<Uid>,
    gone: BTreeSet<String>,
}

impl Receipts {
    /// Remembers the present objects. Returns all objects that were ever seen, and the claims that were released.
    pub(crate) fn saw(
        &self,
        owner: &Uid,
        present: BTreeSet<TombstoneChild>,
    ) -> (BTreeSet<TombstoneChild>, BTreeSet<Uid>) {
        let mut all = lock(&self.0);
        let known = all.entry(owner.clone()).or_default();
        known.seen.extend(present);
        (known.seen.clone(), known.retained.clone())
    }

    /// Remembers an object that was released on purpose.
    pub(crate) fn retained(&self, owner: &Uid, object: Option<Uid>) {
        lock(&self.0).entry(owner.clone()).or_default().retained.extend(object);
    }

    /// Remembers the answer of the API server that an object no longer exists.
    pub(crate) fn gone(&self, owner: &Uid, object: &str) {
        lock(&self.0).entry(owner.clone()).or_default().gone.insert(object.to_owned());
    }

    /// Whether the API server has answered that this object no longer exists.
    pub(crate) fn is_gone(&self, owner: &Uid, object: &str) -> bool {
        lock(&self.0).get(owner).is_some_and(|known| known.gone.contains(object))
    }

    /// Forgets the owner: the receipts are written, or the owner is gone.
    pub(crate) fn forget(&self, owner: &Uid) {
        lock(&self.0).remove(owner);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn child(name: &str) -> TombstoneChild {
        TombstoneChild { kind: "Pod".into(), name: name.into(), uid: name.into() }
    }

    #[test]
    fn receipts_remember_seen_and_retained_objects_until_forgotten() {
        let receipts = Receipts::default();
        let town = Uid::new("t");
        receipts.saw(&town, [child("a")].into());
        receipts.retained(&town, Some(Uid::new("b")));
        let (seen, retained) = receipts.saw(&town, [child("b")].into());
        assert_eq!((seen, retained), ([child("a"), child("b")].into(), [Uid::new("b")].into()));
        assert_eq!(receipts.saw(&Uid::new("other"), BTreeSet::new()).0, BTreeSet::new());
        receipts.forget(&town);
        assert_eq!(receipts.saw(&town, BTreeSet::new()), Default::default());
    }

    #[test]
    fn receipts_remember_gone_objects_for_each_owner() {
        let receipts = Receipts::default();
        let town = Uid::new("t");
        receipts.gone(&town, "a");
        let is_gone = |owner: &str, object| receipts.is_gone(&Uid::new(owner), object);
        assert_eq!([is_gone("t", "a"), is_gone("t", "b"), is_gone("other", "a")], [true, false, false]);
        receipts.forget(&town);
        assert!(!receipts.is_gone(&town, "a"));
    }
}
