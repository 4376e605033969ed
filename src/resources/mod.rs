//! The content of children, one kind per file. The functions only build objects, and have no client.
//!
//! Invariant kept here: every child carries the UID of its town, the install id and the name of its owner, so that
//! the operator can find the child by UID in every situation.

mod claim;
mod meta;
mod pod;
mod revision;
mod secret;
mod security;
mod service;
#[cfg(test)]
mod tests;
mod volumes;

pub use claim::{agent_claim, claim_marks, town_claim};
pub use meta::Install;
pub use pod::{agent_pod, hook_annotation, town_pod};
pub use revision::{agent_revision, digest, revision, town_revision};
pub use secret::{
    NeededSecret, TOKEN_KEY, agent_token, named_secrets_of_agent, named_secrets_of_town,
    needed_secrets_of_agent, needed_secrets_of_town, town_token,
};
pub use security::VolumeGroup;
pub use service::town_service;
pub use volumes::token_secret_of;
