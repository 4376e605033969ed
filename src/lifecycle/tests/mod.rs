//! The rules of a town's life, each as a table of cases, a story or a property.
//!
//! Only the two decisions and what goes in and comes out of them are used here, so that the code behind
//! them can change its shape freely.

mod activity;
mod binding;
mod build;
mod conditions;
mod destroy;
mod properties;
mod restart;
mod scene;
mod session;
mod sleep;
mod stories;
mod task;
mod tombstone;
mod walk;
