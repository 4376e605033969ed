//! The content of the record of a destruction.

use std::collections::BTreeSet;

use town_operator::api::{ReceiptOutcome, Tombstone, TombstoneChild, TombstonePhase};

/// The inventory of a completed record, if the record proves the end of every object: `Kind/name`.
pub fn proven_gone(record: &Tombstone) -> BTreeSet<String> {
    let status = record.status.clone().unwrap_or_default();
    assert_eq!(status.phase, TombstonePhase::Destroyed, "{record:?}");
    let gone = status.receipts.iter().filter(|receipt| receipt.outcome == ReceiptOutcome::Gone);
    let gone: Vec<&TombstoneChild> = gone.map(|receipt| &receipt.object).collect();
    let without: Vec<_> = record.spec.children.iter().filter(|child| !gone.contains(child)).collect();
    assert!(without.is_empty(), "no receipt for {without:?}: {record:?}");
    gone.iter().map(|object| format!("{}/{}", object.kind, object.name)).collect()
}
