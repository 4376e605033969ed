//! What this process has seen of owners that are being destroyed, and what it let go on purpose.
//!
//! The record has what was there when it was begun; what comes to light later is remembered here until the
//! receipts are given.

use std::collections::{BTreeSet, HashMap};
use std::sync::Mutex;

use super::lock;
use crate::api::TombstoneChild;
use crate::lifecycle::Uid;

/// Objects seen while their owner is being destroyed, by owner.
#[derive(Default)]
pub(super) struct Receipts(Mutex<HashMap<Uid, Seen>>);

/// What was seen, and what of it was let go.
type Seen = (BTreeSet<TombstoneChild>, BTreeSet<Uid>);

impl Receipts {
    /// Remembers what is there. Everything that was ever seen, and the claims that were let go.
    pub(super) fn saw(&self, owner: &Uid, present: BTreeSet<TombstoneChild>) -> Seen {
        let mut all = lock(&self.0);
        let known = all.entry(owner.clone()).or_default();
        known.0.extend(present);
        known.clone()
    }

    /// Remembers what is let go on purpose.
    pub(super) fn retained(&self, owner: &Uid, object: Option<Uid>) {
        lock(&self.0).entry(owner.clone()).or_default().1.extend(object);
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
        TombstoneChild { kind: "Pod".into(), namespace: "ns".into(), name: name.into(), uid: name.into() }
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
        assert_eq!(receipts.saw(&town, BTreeSet::new()), Seen::default());
    }
}
