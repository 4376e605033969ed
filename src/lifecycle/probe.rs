//! Activity probes: whom to ask, when, and with what.
//!
//! Asking is never work, and an answer counts only for the very pod that was asked.

use super::ids::{ObjectKey, Uid, child_name};
use crate::api::ActivityProbe;

/// The Secret that holds the token for the owner's pod: the one that the spec names, or our own.
pub fn token_secret(probe: &ActivityProbe, owner: &ObjectKey, uid: &Uid) -> String {
    probe.token_secret.clone().unwrap_or_else(|| child_name(&owner.name, uid))
}
