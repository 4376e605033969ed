//! The objects that the watches show, and the observations of this process.

pub(crate) mod caches;
pub(crate) mod children;
pub(crate) mod deletion_ledger;
pub(crate) mod index;
pub(crate) mod missing_crds;
pub(crate) mod owners;
pub(crate) mod read_your_writes;
pub(crate) mod runs;
pub(crate) mod status_times;
