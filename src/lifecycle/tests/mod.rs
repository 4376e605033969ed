//! The rules of a town's life, each as a table of cases, a story or a property.
//!
//! The tests use only the two decisions with their inputs and outputs, so that the code behind them can be restructured
//! freely.

mod activity;
mod attach;
mod binding;
mod build;
mod conditions;
mod days;
mod destroy;
mod ending;
mod expiry;
mod failing;
mod idle;
mod interleaving;
mod paused;
mod probe;
mod properties;
mod record;
mod reported;
mod restart;
mod roles;
mod scene;
mod session;
mod size;
mod sleep;
mod stamps;
mod stories;
mod task;
mod terms;
mod tombstone;
mod unreadable;
mod update;
mod usage;
mod volume;
mod walk;
