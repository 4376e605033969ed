//! Our kinds that the API server does not know: their definitions were removed, or never installed.
//!
//! Invariant kept here: while one of them is not there nothing is created, since it could not be counted, nor its
//! end be recorded. What is being destroyed goes on: a kind that is proven absent has no objects.

use std::collections::BTreeSet;
use std::sync::Mutex;

use super::error::Error;
use super::follow::Followed;
use super::looks::Look;
use super::read::is_absent;
use super::{Cluster, Indexed, lock};

/// The definition of towns.
pub(super) const TOWNS: &str = "towns.gastown.dev";
/// The definition of agents.
pub(super) const AGENTS: &str = "agents.gastown.dev";
/// The definition of records of destructions.
pub(super) const TOMBSTONES: &str = "tombstones.gastown.dev";

/// The definition of a kind; none for what the API server has of itself.
pub(super) fn of_kind(kind: &str) -> Option<&'static str> {
    match kind {
        "Town" => Some(TOWNS),
        "Agent" => Some(AGENTS),
        "Tombstone" => Some(TOMBSTONES),
        _ => None,
    }
}

/// Those that were found absent when their kind was listed last.
#[derive(Default)]
pub(super) struct Absent(Mutex<BTreeSet<&'static str>>);

impl Absent {
    /// Refuses where something is to be created.
    pub(super) fn refuse(&self) -> Result<(), Error> {
        match lock(&self.0).first() {
            Some(name) => Err(Error::NoDefinition { name }),
            None => Ok(()),
        }
    }
}

impl Cluster {
    /// Whether a kind is proven absent, after it could not be listed. From then on nothing is created.
    pub async fn is_undefined<K: Followed>(&self) -> bool {
        let Some(name) = of_kind(&K::kind(&())) else { return false };
        let absent = is_absent(self, name).await.is_ok_and(|absent| absent);
        if absent && lock(&self.absent.0).insert(name) {
            tracing::warn!(
                "the CustomResourceDefinition {name} is not installed: nothing is created until it is, what is \
                 deleted is destroyed; apply the files in crds/"
            );
        }
        absent
    }

    /// A kind was listed: it is there. Once all are, those are looked at for whom nothing was created.
    pub fn is_listed<K: Followed>(&self) {
        let Some(name) = of_kind(&K::kind(&())) else { return };
        let mut absent = lock(&self.absent.0);
        if absent.remove(name) && absent.is_empty() {
            tracing::info!("every CustomResourceDefinition is installed");
            let towns = self.towns.all().into_iter().map(|town| Look::Town(town.key()));
            let agents = self.agents.all().into_iter().map(|agent| Look::Agent(agent.key()));
            towns.chain(agents).for_each(|look| self.looks.ask(look));
        }
    }
}
