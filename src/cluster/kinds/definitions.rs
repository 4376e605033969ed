//! The CustomResourceDefinitions of our kinds.

/// The definition of towns.
pub(crate) const TOWNS: &str = "towns.gastown.dev";
/// The definition of agents.
pub(crate) const AGENTS: &str = "agents.gastown.dev";
/// The definition of records of destructions.
pub(crate) const TOMBSTONES: &str = "tombstones.gastown.dev";

/// The kind of the records of destructions.
pub(crate) const TOMBSTONE: &str = "Tombstone";

/// The definition of a kind; `None`: the kind is built into the API server.
pub(crate) fn of_kind(kind: &str) -> Option<&'static str> {
    match kind {
        "Town" => Some(TOWNS),
        "Agent" => Some(AGENTS),
        "Tombstone" => Some(TOMBSTONES),
        _ => None,
    }
}
