//! The life of the controller, from start to end.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod, Service};
use kube::Client;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio_util::sync::CancellationToken;

use super::census;
use super::flags::{MetricsAuth, RunArgs};
use super::lists::{Listing, Lists};
use super::queue::{Queue, Reconcile, queue};
use super::watches::{everything, ours, watch};
use super::{Looked, reconcile_agent, reconcile_child, reconcile_tombstone, reconcile_town};
use crate::api::{Agent, Tombstone, Town};
use crate::cluster::{
    self, Candidacy, Clock, Cluster, Error, Indexed, Leadership, Limits, Look, MetricsAccess,
};
use crate::lifecycle::ObjectKey;
use crate::telemetry::{self, Admits, Health, Metrics};

/// The timeout for writes in progress when the process receives a signal to end.
const FINISH_WITHIN: Duration = Duration::from_secs(8);

struct Towns(Arc<Cluster>);
struct Agents(Arc<Cluster>);
struct Tombstones(Arc<Cluster>);
struct Children(Arc<Cluster>);

impl Reconcile for Towns {
    async fn reconcile(&self, key: ObjectKey) -> Result<Looked, Error> {
        Box::pin(reconcile_town(&self.0, &key)).await
    }
}

impl Reconcile for Agents {
    async fn reconcile(&self, key: ObjectKey) -> Result<Looked, Error> {
        Box::pin(reconcile_agent(&self.0, &key)).await
    }
}

impl Reconcile for Tombstones {
    async fn reconcile(&self, key: ObjectKey) -> Result<Looked, Error> {
        Box::pin(reconcile_tombstone(&self.0, &key)).await
    }
}

impl Reconcile for Children {
    async fn reconcile(&self, key: ObjectKey) -> Result<Looked, Error> {
        Box::pin(reconcile_child(&self.0, &key)).await
    }
}

/// The queues of all kinds.
#[derive(Clone)]
struct Queues {
    towns: Queue,
    agents: Queue,
    tombstones: Queue,
    children: Queue,
}

impl Queues {
    fn put(&self, look: &Look) {
        match look {
            Look::Town(key) => self.towns.look_at(key),
            Look::Agent(key) => self.agents.look_at(key),
            Look::Tombstone(key) => self.tombstones.look_at(key),
            Look::Child(key) => self.children.look_at(key),
        }
    }
}

/// The number of watched kinds.
const KINDS: usize = 6;

/// Runs until SIGTERM or SIGINT, as the leader or as a standby process. An error comes from the start, or from a
/// leader that must end. Every other error is retried.
pub(super) async fn run(args: RunArgs) -> Result<(), Box<dyn std::error::Error>> {
    let health = Health::default();
    // The beats run in the same task as the reconciles. If a reconcile blocks the thread, the beats stop, and the
    // process counts as not alive.
    tokio::select! {
        ended = Box::pin(work(args, health.clone())) => ended,
        never = health.beats() => match never {},
    }
}

async fn work(args: RunArgs, health: Health) -> Result<(), Box<dyn std::error::Error>> {
    let stop = CancellationToken::new();
    end_on_signal(stop.clone())?;
    let metrics = Arc::new(Metrics::default());
    telemetry::serve(args.health_addr, health.routes(), stop.clone())
        .await
        .map_err(|e| format!("cannot serve health on {} (--health-addr): {e}", args.health_addr))?;
    let (me, terms) = (args.me(), args.terms()?);
    let (office, fence) = cluster::office();
    let client = cluster::connect(&fence, &me)
        .await
        .map_err(|e| format!("cannot create a client for the cluster: {e}"))?;
    let admits = (args.metrics_auth == MetricsAuth::Token).then(|| reviewed_by(&client));
    telemetry::serve(args.metrics_addr, telemetry::metrics_routes(metrics.clone(), admits), stop.clone())
        .await
        .map_err(|e| format!("cannot serve metrics on {} (--metrics-addr): {e}", args.metrics_addr))?;
    cluster::check(&client).await?;
    let install = cluster::identify(&client, &args.install_id).await?;
    let candidacy = Candidacy {
        namespace: args.lease_namespace.clone(),
        release: args.release.clone(),
        install: args.install_id.clone(),
        label: install.0.clone(),
        me: me.clone(),
        terms,
    };
    let mut leadership = cluster::stand(candidacy, office, metrics.clone()).await?;
    tracing::info!(install = install.0, me = me.holder(), version = env!("CARGO_PKG_VERSION"), "starting");

    let limits = Limits {
        late_create: args.apiserver_request_timeout.get(),
        blocked_after: args.deletion_blocked_after.get(),
        attach_max_hold: args.attach_max_hold.get(),
        max_concurrent_starts: args.max_concurrent_starts,
        agent_tombstones: args.agent_tombstones,
        tombstone_max_retention: args.tombstone_max_retention.get(),
        tombstones_per_namespace: args.tombstones_per_namespace,
        max_concurrent_probes: args.max_concurrent_probes,
        volume_group: args.volume_group,
        admission_policies: args.admission_policies,
    };
    let (looks, asked) = cluster::looks();
    let shared = Arc::new(Cluster::new(client, install, metrics.clone(), limits, looks, Clock::system()));
    shared.probes.learn_addresses(args.probe_cidrs).await;
    let (towns, town_work) = queue("Town", args.concurrency, Towns(shared.clone()), metrics.clone());
    let (agents, agent_work) = queue("Agent", args.concurrency, Agents(shared.clone()), metrics.clone());
    let (tombstones, tombstone_work) =
        queue("Tombstone", args.concurrency, Tombstones(shared.clone()), metrics.clone());
    let (children, child_work) = queue("Child", args.concurrency, Children(shared.clone()), metrics.clone());
    let queues = Queues { towns, agents, tombstones, children };

    // The election is decided before the lists: a process that leads from the start need not list twice.
    let leads = tokio::select! {
        leads = leadership.leads_at_first() => leads,
        () = stop.cancelled() => return finish(leadership).await,
    };
    let (mut lists, listing) = Lists::of(KINDS);
    follow(&shared, &listing, &stop);
    let works = CancellationToken::new();
    tokio::spawn(take_looks(asked, queues.clone(), works.clone(), stop.clone()));
    let begun = async {
        unless_lost(&mut leadership, lists.complete()).await?;
        health.ready();
        leadership.won().await?;
        if !leads {
            // The watches may not have reached the last writes of the previous leader yet.
            lists.anew();
            unless_lost(&mut leadership, lists.complete()).await?;
        }
        Ok::<(), String>(())
    };
    tokio::select! {
        begun = begun => begun?,
        () = stop.cancelled() => return finish(leadership).await,
    }
    works.cancel();
    begin(&shared, &queues);
    tokio::spawn(write_reports(shared.clone(), stop.clone()));
    drop(queues);

    // The queues end after the watches have ended and the reconciles in progress have finished.
    let work = async { tokio::join!(town_work, agent_work, tombstone_work, child_work) };
    tokio::pin!(work);
    tokio::select! {
        _ = &mut work => {}
        // The fence is closed. The state in memory may be wrong from now on, so the process ends without it.
        why = leadership.lost() => return Err(why.into()),
        () = stop.cancelled() => {
            tracing::info!("ending");
            if tokio::time::timeout(FINISH_WITHIN, work).await.is_err() {
                tracing::warn!("some reconciles are not complete; the next leader continues them");
            }
        }
    }
    finish(leadership).await
}

/// Admits users to the metrics whom the API server authenticates and authorizes.
fn reviewed_by(client: &Client) -> Admits {
    let access = Arc::new(MetricsAccess::new(client.clone()));
    Arc::new(move |token, path| {
        let access = access.clone();
        Box::pin(async move { access.admits(&token, path).await })
    })
}

/// Watches every kind.
fn follow(shared: &Arc<Cluster>, listing: &Listing, stop: &CancellationToken) {
    let (listing, stop) = (|| listing.clone(), || stop.clone());
    let own = || ours(shared);
    tokio::spawn(watch::<Town>(shared.clone(), everything(), stop(), listing()));
    tokio::spawn(watch::<Agent>(shared.clone(), everything(), stop(), listing()));
    tokio::spawn(watch::<Tombstone>(shared.clone(), own(), stop(), listing()));
    tokio::spawn(watch::<Pod>(shared.clone(), own(), stop(), listing()));
    tokio::spawn(watch::<PersistentVolumeClaim>(shared.clone(), own(), stop(), listing()));
    tokio::spawn(watch::<Service>(shared.clone(), own(), stop(), listing()));
}

/// Waits for a future, unless this process must end meanwhile.
async fn unless_lost(leadership: &mut Leadership, awaited: impl Future<Output = ()>) -> Result<(), String> {
    tokio::select! {
        () = awaited => Ok(()),
        why = leadership.lost() => Err(why),
    }
}

/// Begins the work of the leader: every list was read after the election, and every object is enqueued.
fn begin(shared: &Arc<Cluster>, queues: &Queues) {
    cluster::take_over(shared);
    // The census starts only now, so that no standby process reports zero towns or counts them twice.
    let seen = Arc::downgrade(shared);
    shared.metrics.count_with(move |metrics| {
        if let Some(seen) = seen.upgrade() {
            let (towns, agents) = (seen.caches.towns.all(), seen.caches.agents.all());
            census::take_pods(metrics, &seen.install.0, &seen.caches.pods.all(), &towns, &agents);
            census::take(metrics, &seen.install.0, towns, agents);
            census::take_tombstones(metrics, &seen.caches.tombstones.all());
        }
    });
    let towns = shared.caches.towns.all().into_iter().map(|town| Look::Town(town.key()));
    let agents = shared.caches.agents.all().into_iter().map(|agent| Look::Agent(agent.key()));
    let tombstones = shared.caches.tombstones.all().into_iter().map(|record| Look::Tombstone(record.key()));
    let orphans = cluster::orphans(shared);
    towns.chain(agents).chain(tombstones).chain(orphans).for_each(|look| queues.put(&look));
    tracing::info!("running");
}

/// Ends the process in order, so that another process may lead immediately.
async fn finish(leadership: Leadership) -> Result<(), Box<dyn std::error::Error>> {
    leadership.resign().await;
    Ok(())
}

/// Moves requests to their queues, but only after the work has begun. Before that the queues would grow without
/// bound, and at the begin every object is enqueued anyway.
async fn take_looks(
    mut asked: UnboundedReceiver<Look>,
    queues: Queues,
    works: CancellationToken,
    stop: CancellationToken,
) {
    while let Some(Some(look)) = stop.run_until_cancelled(asked.recv()).await {
        if works.is_cancelled() {
            queues.put(&look);
        }
    }
}

/// Writes the events outside of reconciles, until `stop`.
async fn write_reports(shared: Arc<Cluster>, stop: CancellationToken) {
    stop.run_until_cancelled(shared.write_reports()).await;
}

fn end_on_signal(stop: CancellationToken) -> std::io::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        stop.cancel();
    });
    Ok(())
}
