//! The shared state of all reconciles.

use std::sync::Arc;

use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kube::Client;

use crate::cluster::cache::caches::Caches;
use crate::cluster::cache::deletion_ledger::Receipts;
use crate::cluster::cache::missing_crds::Absent;
use crate::cluster::cache::runs::Runs;
use crate::cluster::cache::status_times::StatusTimes;
use crate::cluster::clock::Clock;
use crate::cluster::events::notices::Notices;
use crate::cluster::events::object_reports::Reports;
use crate::cluster::events::publisher::Events;
use crate::cluster::probe::{Parts, Probes};
use crate::cluster::read::namespaces::Namespaces;
use crate::cluster::read::pod_events::PodEvents;
use crate::cluster::scheduling::begun::Begun;
use crate::cluster::scheduling::create_lock::Gates;
use crate::cluster::scheduling::requeue::Looks;
use crate::cluster::scheduling::start_limiter::Starts;
use crate::cluster::scheduling::trims::Trims;
use crate::lifecycle::Uid;
use crate::resources::{Install, VolumeGroup};
use crate::telemetry::Metrics;

/// The shared state of all reconciles: the client, the indexes of the watches, and the writes of this process.
pub struct Cluster {
    /// The client.
    pub client: Client,
    /// The installation of this operator.
    pub install: Install,
    /// The objects that the watches show.
    pub caches: Arc<Caches>,
    /// The gates of towns.
    pub gates: Gates,
    /// The publisher of events.
    pub events: Events,
    /// The metrics.
    pub metrics: Arc<Metrics>,
    /// The activity that pods reported.
    pub probes: Arc<Probes>,
    pub(crate) looks: Looks,
    pub(crate) clock: Clock,
    pub(crate) limits: Limits,
    pub(crate) starts: Starts,
    pub(crate) notices: Notices,
    pub(crate) receipts: Receipts,
    pub(crate) reports: Reports,
    pub(crate) pod_events: PodEvents,
    pub(crate) runs: Runs,
    pub(crate) reported: StatusTimes,
    pub(crate) absent: Absent,
    pub(crate) namespaces: Namespaces,
    pub(crate) trims: Trims,
    pub(crate) begun: Begun,
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
        let caches = Arc::new(Caches::default());
        let parts = Parts {
            client: client.clone(),
            caches: caches.clone(),
            metrics: metrics.clone(),
            clock: clock.clone(),
            looks: looks.clone(),
        };
        Self {
            events: Events::new(client.clone(), metrics.clone()),
            starts: Starts::new(limits.max_concurrent_starts, looks.clone(), metrics.clone()),
            metrics,
            client,
            install,
            caches,
            gates: Gates::new(clock.now()),
            probes: Arc::new(Probes::new(limits.max_concurrent_probes, parts)),
            limits,
            looks,
            clock,
            notices: Notices::default(),
            receipts: Receipts::default(),
            reports: Reports::default(),
            pod_events: PodEvents::default(),
            runs: Runs::default(),
            reported: StatusTimes::default(),
            absent: Absent::default(),
            namespaces: Namespaces::default(),
            trims: Trims::default(),
            begun: Begun::default(),
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

    /// Writes the reports about objects as events, forever.
    pub async fn write_reports(&self) {
        self.reports.write_all(&self.events).await;
    }

    /// Forgets the in-memory state of an object that is gone.
    pub fn forget(&self, uid: &Uid) {
        self.gates.forget(uid);
        self.caches.own_writes.forget(uid);
        self.notices.forget(uid);
        self.namespaces.forget(uid);
        self.receipts.forget(uid);
        self.starts.release(uid, self.now());
        self.probes.forget(uid);
        self.runs.forget(uid);
        self.reported.forget(uid);
        self.begun.forget(uid);
    }
}
