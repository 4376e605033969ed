//! What became of each object of an owner that is being destroyed.
//!
//! Every object that was seen there, and is proven gone, is a receipt. Until there is a record that
//! outlives the town, receipts go to the log and to the event that ends its life.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Mutex;

use super::lock;
use crate::lifecycle::{Remains, Uid};

/// Objects seen while their owner is being destroyed, by owner.
#[derive(Default)]
pub(super) struct Receipts(Mutex<HashMap<Uid, BTreeSet<Item>>>);

/// Kind, name and UID.
type Item = (&'static str, String, String);

impl Receipts {
    /// Remembers what is there.
    pub(super) fn saw(&self, owner: &Uid, remains: &Remains) {
        let mut items: Vec<Item> = Vec::new();
        let uid = |uid: Option<&String>| uid.cloned().unwrap_or_default();
        for agent in remains.agents.iter().flatten() {
            items.push((
                "Agent",
                agent.metadata.name.clone().unwrap_or_default(),
                uid(agent.metadata.uid.as_ref()),
            ));
        }
        for pod in remains.pods.iter().flatten() {
            items.push(("Pod", pod.key.name.clone(), pod.uid.to_string()));
        }
        for claim in remains.claims.iter().flatten() {
            items.push(("PersistentVolumeClaim", claim.key.name.clone(), claim.uid.to_string()));
        }
        if !items.is_empty() {
            lock(&self.0).entry(owner.clone()).or_default().extend(items);
        }
    }

    /// Everything of the owner is proven gone: a line a receipt in the log, and a summary.
    pub(super) fn all_gone(&self, owner: &Uid) -> String {
        let items = lock(&self.0).remove(owner).unwrap_or_default();
        let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
        for (kind, name, uid) in &items {
            tracing::info!(%owner, kind, name, uid, outcome = "Gone", "receipt");
            *counts.entry(kind).or_default() += 1;
        }
        if counts.is_empty() {
            return "nothing was left of it".into();
        }
        let counts: Vec<_> = counts.iter().map(|(kind, n)| format!("{kind} {n}")).collect();
        format!("nothing is left of it; proven gone: {}", counts.join(", "))
    }
}
