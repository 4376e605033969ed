//! Wiring: flags, watches, queues, and the loop from observations to actions.

mod alarms;
mod census;
mod cli;
mod flags;
mod lists;
mod queue;
mod reconcile;
mod run;
mod watches;

pub use cli::main;
pub use reconcile::{Looked, reconcile_agent, reconcile_child, reconcile_tombstone, reconcile_town};
