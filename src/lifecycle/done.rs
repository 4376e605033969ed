//! The beads that an agent has done.
//!
//! Invariant kept here: a bead that is recorded as done stays known as done for the next thousand beads.

use k8s_openapi::ByteString;
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::api::WorkStatus;

/// The number of stored names, for users.
const NAMES: usize = 32;
/// The number of stored digests.
const DIGESTS: usize = 1000;
/// The length of a digest in bytes.
const BYTES: usize = 8;

/// Whether the record says that the bead is done. Such a bead never starts a pod again.
pub(super) fn is_done(work: &WorkStatus, bead: &str) -> bool {
    if work.done.iter().any(|done| done == bead) {
        return true;
    }
    let digest = digest(bead);
    digests(work).chunks_exact(BYTES).any(|done| *done == digest)
}

/// Records that the bead is done.
pub(super) fn remember(work: &mut WorkStatus, bead: &str) {
    let mut digests = digests(work);
    if !digests.chunks_exact(BYTES).any(|done| *done == digest(bead)) {
        digests.extend(digest(bead));
    }
    let surplus = digests.len().saturating_sub(DIGESTS * BYTES);
    digests.drain(..surplus);
    work.done_digests = match serde_json::to_value(ByteString(digests)) {
        Ok(Value::String(text)) => text,
        _ => String::new(),
    };
    work.done.push(bead.to_owned());
    let surplus = work.done.len().saturating_sub(NAMES);
    work.done.drain(..surplus);
}

/// The initial record of a bead. The beads that are done stay known.
pub(super) fn record_of(bead: &str, before: Option<WorkStatus>) -> WorkStatus {
    let WorkStatus { done, done_digests, .. } = before.unwrap_or_default();
    WorkStatus { bead: bead.to_owned(), done, done_digests, ..WorkStatus::default() }
}

/// The recorded digests. An unreadable text counts as empty, because this operator did not write it.
fn digests(work: &WorkStatus) -> Vec<u8> {
    let read = serde_json::from_value::<ByteString>(Value::String(work.done_digests.clone()));
    read.map(|bytes| bytes.0).unwrap_or_default()
}

/// The first 64 bits of the SHA-256 of the name.
fn digest(bead: &str) -> [u8; BYTES] {
    let mut digest = [0; BYTES];
    digest.iter_mut().zip(Sha256::digest(bead)).for_each(|(byte, of)| *byte = of);
    digest
}

#[cfg(test)]
mod tests {
    use super::*;

    // P20.
    #[test]
    fn bead_stays_done_for_the_next_thousand_beads() {
        let mut work = WorkStatus::default();
        for n in 0..=1000 {
            remember(&mut work, &format!("b{n}"));
        }
        assert_eq!((work.done.len(), work.done.last().map(String::as_str)), (NAMES, Some("b1000")));
        assert!((1..=1000).all(|n| is_done(&work, &format!("b{n}"))));
        assert!(!is_done(&work, "b0"), "the thousand and first is forgotten");
        assert!(!is_done(&work, "b1001"));
        assert!(work.done_digests.len() <= 10_668, "{}", work.done_digests.len());
        let next = record_of("c", Some(work.clone()));
        assert!(is_done(&next, "b1") && next.bead == "c" && next.attempts == 0);
        remember(&mut work, "b1000");
        assert!(is_done(&work, "b1"), "a bead that is recorded twice takes the place of no other");
    }

    #[test]
    fn done_record_keeps_its_names_when_its_digests_are_unreadable() {
        let mut work =
            WorkStatus { done: vec!["a".into()], done_digests: "?".into(), ..WorkStatus::default() };
        assert!(is_done(&work, "a") && !is_done(&work, "b"));
        remember(&mut work, "b");
        assert!(is_done(&work, "a") && is_done(&work, "b"));
    }
}
