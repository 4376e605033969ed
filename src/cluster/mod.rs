//! The only code that talks to the API server.
//!
//! [`observe`] holds the only reads of a reconcile. [`act`] and [`report`] hold the only writes. Invariants kept
//! here:
//! - A create requires a [`LiveOwner`]. Only an uncached read under the gate of its town creates one.
//! - Each delete names the UID that was planned.
//! - A status is written only to the very object that the decision is based on.
//! - An object is neither present nor absent while the API server gives no answer about it.

mod access;
mod act;
mod cache;
mod client;
mod clock;
mod consistency;
mod create;
mod decode;
mod definitions;
mod devices;
mod error;
mod events;
mod fair;
mod follow;
mod gate;
mod kinds;
mod lease;
mod live;
mod looks;
mod measure;
mod namespaces;
mod notices;
mod observe;
mod orphans;
mod pod_events;
mod preflight;
mod probe;
mod project;
mod read;
mod receipts;
mod remains;
mod report;
mod reports;
mod runs;
mod secrets;
mod starts;
mod tombstones;
mod write;

pub use access::MetricsAccess;
pub use act::{Outcome, Subject, act};
pub use cache::{Group, Index, Indexed};
pub use client::{CallTimeouts, connect};
pub use clock::Clock;
pub use decode::{Decode, Decoded, Undecodable};
pub use error::Error;
pub use events::Events;
pub use fair::FairQueue;
pub use follow::Followed;
pub use gate::Gates;
pub use lease::{
    Candidacy, Fence, Fenced, Identity, Leadership, LeaseError, Office, Term, Terms, lease_name, office,
    stand,
};
pub use live::LiveOwner;
pub use looks::{Look, Looks, looks};
pub use observe::{observe_agent, observe_town, take_over};
pub use orphans::{orphans, settle_orphans};
pub use preflight::{check, identify};
pub use probe::{Cidr, Probes, ask, learn_addresses};
pub use read::PAGE;
pub use report::report;
pub use reports::write_reports;
pub use tombstones::{Expiry, expire, trim};

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kube::Client;

use crate::api::{Agent, Town};
use crate::lifecycle::{ClaimFacts, PodFacts, ServiceFacts, TombstoneFacts, Uid};
use crate::resources::{Install, VolumeGroup};
use crate::telemetry::Metrics;

/// The shared state of all reconciles: the client, the indexes of the watches, and the writes of this process.
pub struct Cluster {
    /// The client.
    pub client: Client,
    /// The installation of this operator.
    pub install: Install,
    /// Towns, as watched.
    pub towns: Index<Town>,
    /// Agents, as watched.
    pub agents: Index<Agent>,
    /// Pods of this installation, as watched.
    pub pods: Index<PodFacts>,
    /// Volume claims of this installation, as watched.
    pub claims: Index<ClaimFacts>,
    /// Services of this installation, as watched.
    pub services: Index<ServiceFacts>,
    /// Records of destructions by this installation, as watched.
    pub tombstones: Index<TombstoneFacts>,
    /// The gates of towns.
    pub gates: Gates,
    /// The publisher of events.
    pub events: Events,
    /// The metrics.
    pub metrics: Arc<Metrics>,
    /// The activity that pods reported.
    pub probes: Probes,
    looks: Looks,
    clock: Clock,
    limits: Limits,
    starts: starts::Starts,
    notices: notices::Notices,
    own_writes: consistency::OwnWrites,
    receipts: receipts::Receipts,
    reports: reports::Reports,
    pod_events: pod_events::PodEvents,
    runs: runs::Runs,
    reported: Mutex<HashMap<Uid, Timestamp>>,
    absent: definitions::Absent,
    namespaces: namespaces::Namespaces,
    trims: tombstones::Trims,
}

/// The limits of the operator.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// How long a create without an answer may still take effect.
    pub late_create: SignedDuration,
    /// Time after which a deletion without progress is reported as blocked.
    pub blocked_after: SignedDuration,
    /// How long the input of an attached user can keep a town awake.
    pub attach_max_hold: SignedDuration,
    /// The largest number of towns that start at the same time.
    pub max_concurrent_starts: u16,
    /// Whether an agent that is deleted without its town leaves a Tombstone of its own.
    pub agent_tombstones: bool,
    /// The longest time for which a Tombstone outlives the object that it records.
    pub tombstone_max_retention: SignedDuration,
    /// The largest number of Tombstones for the owners of one namespace. Beyond this number the oldest are deleted
    /// early.
    pub tombstones_per_namespace: u32,
    /// The largest number of pods that are probed at the same time.
    pub max_concurrent_probes: u16,
    /// The group that new volumes belong to.
    pub volume_group: VolumeGroup,
    /// Whether the admission policies of the chart are installed.
    pub admission_policies: bool,
}

#[cfg(test)]
impl Limits {
    /// The smallest value of each limit, for tests that reach none.
    pub(crate) const LEAST: Self = Self {
        late_create: SignedDuration::ZERO,
        blocked_after: SignedDuration::ZERO,
        attach_max_hold: SignedDuration::ZERO,
        max_concurrent_starts: 1,
        agent_tombstones: false,
        tombstone_max_retention: SignedDuration::ZERO,
        tombstones_per_namespace: 1,
        max_concurrent_probes: 1,
        volume_group: VolumeGroup(None),
        admission_policies: true,
    };
}

impl Cluster {
    /// A cluster without observations.
    pub fn new(
        client: Client,
        install: Install,
        metrics: Arc<Metrics>,
        limits: Limits,
        looks: Looks,
        clock: Clock,
    ) -> Self {
        Self {
            events: Events::new(client.clone(), metrics.clone()),
            starts: starts::Starts::new(limits.max_concurrent_starts, looks.clone(), metrics.clone()),
            metrics,
            client,
            install,
            towns: Index::default(),
            agents: Index::default(),
            pods: Index::default(),
            claims: Index::default(),
            services: Index::default(),
            tombstones: Index::default(),
            gates: Gates::new(clock.now()),
            probes: Probes::new(limits.max_concurrent_probes, looks.clone()),
            limits,
            looks,
            clock,
            notices: notices::Notices::default(),
            own_writes: consistency::OwnWrites::default(),
            receipts: receipts::Receipts::default(),
            reports: reports::Reports::default(),
            pod_events: pod_events::PodEvents::default(),
            runs: runs::Runs::default(),
            reported: Mutex::default(),
            absent: definitions::Absent::default(),
            namespaces: namespaces::Namespaces::default(),
            trims: tombstones::Trims::default(),
        }
    }

    /// The current time.
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// When the turn of the town to start ends; `None`: the town has no turn. The town must be reconciled then.
    pub fn turn_ends(&self, uid: &Uid) -> Option<Timestamp> {
        self.starts.turn_ends(uid)
    }

    /// Forgets the in-memory state of an object that is gone.
    pub fn forget(&self, uid: &Uid) {
        self.gates.forget(uid);
        self.own_writes.forget(uid);
        self.notices.forget(uid);
        self.namespaces.forget(uid);
        self.receipts.forget(uid);
        self.starts.release(uid, self.now());
        self.probes.forget(uid);
        self.runs.forget(uid);
        lock(&self.reported).remove(uid);
    }
}

/// Locks the mutex. A panic of a holder leaves the maps in here consistent, so poison is ignored.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
