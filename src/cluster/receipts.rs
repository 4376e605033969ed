//! What this process has seen of owners that are being destroyed, what it let go on purpose, and what it has seen
//! gone.
//!
//! The record has what was there when it was begun; what comes to light later is remembered here until the
//! receipts are given. Who has gone is gone for good: a UID is given once.

use std::collections::{BTreeSet, HashMap};
use std::sync::Mutex;

use super::lock;
use crate::api::TombstoneChild;
use crate::lifecycle::Uid;

/// Objects seen while their owner is being destroyed, by owner.
#[derive(Default)]
pub(super) struct Receipts(Mutex<HashMap<Uid, Known>>);

/// What is known of what an owner had.
#[derive(Default)]
struct Known {
    seen: BTreeSet<TombstoneChild>,
    retained: BTreeSet<Uid>,
    gone: BTreeSet<String>,
}

impl Receipts {
    /// Remembers what is there. Everything that was ever seen, and the claims that were let go.
    pub(super) fn saw(
        &self,
        owner: &Uid,
        present: BTreeSet<TombstoneChild>,
    ) -> (BTreeSet<TombstoneChild>, BTreeSet<Uid>) {
        let mut all = lock(&self.0);
        let known = all.entry(owner.clone()).or_default();
        known.seen.extend(present);
        (known.seen.clone(), known.retained.clone())
    }

    /// Remembers what is let go on purpose.
    pub(super) fn retained(&self, owner: &Uid, object: Option<Uid>) {
        lock(&self.0).entry(owner.clone()).or_default().retained.extend(object);
    }

    /// Remembers that the API server has said of an object that it is not there any more.
    pub(super) fn gone(&self, owner: &Uid, object: &str) {
        lock(&self.0).entry(owner.clone()).or_default().gone.insert(object.to_owned());
    }

    /// Whether the API server has said so of this one.
    pub(super) fn is_gone(&self, owner: &Uid, object: &str) -> bool {
        lock(&self.0).get(owner).is_some_and(|known| known.gone.contains(object))
    }

    /// The receipts are given, or the owner is gone.
    pub(super) fn forget(&self, owner: &Uid) {
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
    fn what_was_seen_is_remembered_until_the_receipts_are_given() {
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
    fn what_has_gone_is_remembered_for_its_owner() {
        let receipts = Receipts::default();
        let town = Uid::new("t");
        receipts.gone(&town, "a");
        let is_gone = |owner: &str, object| receipts.is_gone(&Uid::new(owner), object);
        assert_eq!([is_gone("t", "a"), is_gone("t", "b"), is_gone("other", "a")], [true, false, false]);
        receipts.forget(&town);
        assert!(!receipts.is_gone(&town, "a"));
    }
}
