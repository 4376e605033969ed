//! The only code that talks to the API server.
//!
//! The directories `observe`, `act` and `report` hold the steps of a reconcile. A decision uses only the result of
//! `observe`; each create reads its owner again. The modules have an order, which `tests/architecture.rs` checks.
//! Invariants kept here:
//! - A create requires a [`LiveOwner`]. Only an uncached read under the gate of its town creates one.
//! - Each delete names the UID that was planned.
//! - A status is written only to the very object that the decision is based on.
//! - An object is neither present nor absent while the API server gives no answer about it.

mod act;
mod cache;
mod cleanup;
mod client;
mod clock;
mod context;
mod error;
mod events;
mod kinds;
mod leader;
mod metrics_access;
mod observe;
mod probe;
mod read;
mod report;
mod scheduling;
mod sync;
mod takeover;
mod watch;

pub use act::execute::act;
pub use act::live_owner::LiveOwner;
pub use act::places::{give_back_place, keep_place, take_place};
pub use act::subject::{Outcome, Subject};
pub use cache::caches::Caches;
pub use cache::index::{Group, Index, Indexed};
pub use cleanup::orphans::{orphans, settle_orphans};
pub use cleanup::tombstones::{Expiry, expire, trim};
pub use client::connect::connect;
pub use client::fence::{Fence, Fenced};
pub use client::identity::Identity;
pub use client::timeouts::CallTimeouts;
pub use client::write_window::Term;
pub use clock::Clock;
pub use context::{Cluster, Limits};
pub use error::Error;
pub use events::publisher::Events;
pub use kinds::decode::{Decode, Decoded, Undecodable};
pub use leader::election::Terms;
pub use leader::elector::{Candidacy, Leadership, LeaseError, Office, lease_name, office, stand};
pub use metrics_access::MetricsAccess;
pub use observe::town::{observe_agent, observe_town};
pub use probe::{Cidr, Probes};
pub use read::objects::PAGE;
pub use read::preflight::{check, identify};
pub use report::status::report;
pub use scheduling::create_lock::Gates;
pub use scheduling::fair_queue::FairQueue;
pub use scheduling::requeue::{Look, Looks, looks};
pub use takeover::take_over;
pub use watch::watched::Followed;
