//! What became of each object of an owner that is being destroyed.
//!
//! Every object that was seen there is a receipt: it is proven gone, or it was let go on purpose. Until there is
//! a record that outlives the town, receipts go to the log and to the event that ends its life.

use std::collections::{BTreeMap, HashMap};
use std::sync::Mutex;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::kinds::Known;
use super::lock;
use crate::lifecycle::{Remains, Uid};

/// Objects seen while their owner is being destroyed, by owner.
#[derive(Default)]
pub(super) struct Receipts(Mutex<HashMap<Uid, BTreeMap<Item, Outcome>>>);

/// Kind, name and UID.
type Item = (&'static str, String, String);

/// What becomes of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    /// It goes, and once everything is gone, so is it.
    Gone,
    /// It stays, and is nobody's any more.
    Retained,
}

impl Receipts {
    /// Remembers what is there.
    pub(super) fn saw(&self, owner: &Uid, remains: &Remains) {
        let mut items: Vec<Item> = Vec::new();
        for agent in remains.agents.iter().flatten() {
            items.push(item("Agent", &agent.metadata));
        }
        for pod in remains.pods.iter().flatten() {
            items.push(("Pod", pod.key.name.clone(), pod.uid.to_string()));
        }
        for claim in remains.claims.iter().flatten() {
            items.push(("PersistentVolumeClaim", claim.key.name.clone(), claim.uid.to_string()));
        }
        for child in remains.others.iter().flatten() {
            items.push((child.kind.as_str(), child.key.name.clone(), child.uid.to_string()));
        }
        if !items.is_empty() {
            let mut all = lock(&self.0);
            let known = all.entry(owner.clone()).or_default();
            for item in items {
                known.entry(item).or_insert(Outcome::Gone);
            }
        }
    }

    /// Remembers what is let go on purpose.
    pub(super) fn retained<K: Known>(&self, owner: &Uid, object: &ObjectMeta) {
        lock(&self.0).entry(owner.clone()).or_default().insert(item(K::NAME, object), Outcome::Retained);
    }

    /// Everything of the owner is proven gone, or was let go: a line a receipt in the log, and a summary.
    pub(super) fn all_gone(&self, owner: &Uid) -> String {
        let items = lock(&self.0).remove(owner).unwrap_or_default();
        let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
        let mut kept = Vec::new();
        for ((kind, name, uid), outcome) in &items {
            tracing::info!(%owner, kind, name, uid, ?outcome, "receipt");
            match outcome {
                Outcome::Gone => *counts.entry(kind).or_default() += 1,
                Outcome::Retained => kept.push(format!("{kind} {name}")),
            }
        }
        let mut summary = vec!["nothing is left of it".to_owned()];
        if !counts.is_empty() {
            let counts: Vec<_> = counts.iter().map(|(kind, n)| format!("{kind} {n}")).collect();
            summary.push(format!("proven gone: {}", counts.join(", ")));
        }
        if !kept.is_empty() {
            summary.push(format!("retained: {}", kept.join(", ")));
        }
        summary.join("; ")
    }
}

fn item(kind: &'static str, object: &ObjectMeta) -> Item {
    (kind, object.name.clone().unwrap_or_default(), object.uid.clone().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::PersistentVolumeClaim;

    use super::super::project::{child_facts, claim_facts};
    use super::*;
    use crate::lifecycle::{ChildFacts, ChildKind, ClaimFacts};

    fn claim(name: &str) -> ClaimFacts {
        claim_facts(&PersistentVolumeClaim { metadata: meta(name), ..Default::default() }).unwrap()
    }

    fn child(kind: ChildKind) -> ChildFacts {
        child_facts(kind, &meta(kind.as_str())).unwrap()
    }

    fn meta(name: &str) -> ObjectMeta {
        ObjectMeta { name: Some(name.into()), uid: Some(name.into()), ..ObjectMeta::default() }
    }

    #[test]
    fn each_object_has_one_receipt_and_what_was_retained_is_named() {
        let receipts = Receipts::default();
        let town = Uid::new("t");
        let remains = Remains {
            agents: Ok(vec![]),
            pods: Ok(vec![]),
            claims: Ok(vec![claim("kept"), claim("gone")]),
            others: Ok(vec![child(ChildKind::Service), child(ChildKind::Secret)]),
            settled_at: None,
        };
        receipts.saw(&town, &remains);
        receipts.retained::<PersistentVolumeClaim>(&town, &meta("kept"));
        receipts.saw(&town, &remains);
        assert_eq!(
            receipts.all_gone(&town),
            "nothing is left of it; proven gone: PersistentVolumeClaim 1, Secret 1, Service 1; \
             retained: PersistentVolumeClaim kept"
        );
        assert_eq!(receipts.all_gone(&town), "nothing is left of it", "receipts are given once");
    }
}
