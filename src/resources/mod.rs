//! The content of children, one kind per file: the functions build the objects, and read stored objects back into the
//! facts that decisions need. They have no client.
//!
//! Invariant kept here: every child carries the UID of its town, the install id and the name of its owner, so that
//! the operator can find the child by UID in every situation.

mod child;
mod claim;
mod meta;
mod persistent_volume;
mod pod;
mod pod_end;
mod pod_facts;
mod pod_trouble;
mod revision;
mod secret;
mod security;
mod service;
mod stored;
mod template;
#[cfg(test)]
mod tests;
mod tombstone;
mod volumes;

pub use child::child_facts;
pub use claim::{agent_claim, claim_facts, claim_marks, town_claim};
pub use meta::Install;
pub use persistent_volume::volume_facts;
pub use pod::{agent_pod, hook_annotation, town_pod};
pub use pod_facts::pod_facts;
pub use revision::{agent_revision, digest, revision, town_revision};
pub use secret::{
    NeededSecret, TOKEN_KEY, agent_token, named_secrets_of_agent, named_secrets_of_town,
    needed_secrets_of_agent, needed_secrets_of_town, town_token,
};
pub use security::VolumeGroup;
pub use service::{service_facts, town_service};
pub use stored::{kept_agent, kept_town};
pub use tombstone::tombstone_facts;
pub use volumes::token_secret_of;
