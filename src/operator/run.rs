//! From start to end of the controller.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod, Service};
use kube::runtime::watcher::{self, Event};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio_util::sync::CancellationToken;

use super::census;
use super::flags::RunArgs;
use super::queue::{Queue, Reconcile, queue};
use super::watches::{ours, watch};
use super::{Looked, reconcile_agent, reconcile_tombstone, reconcile_town};
use crate::api::{Agent, Tombstone, Town};
use crate::cluster::{self, Clock, Cluster, Error, Limits, Look};
use crate::lifecycle::ObjectKey;
use crate::resources::Install;
use crate::telemetry::{self, Health, Metrics};

/// Time for writes under way when the process is told to end.
const FINISH_WITHIN: Duration = Duration::from_secs(8);

struct Towns(Arc<Cluster>);
struct Agents(Arc<Cluster>);
struct Tombstones(Arc<Cluster>);

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

/// Runs until SIGTERM or SIGINT. Errors are those of the start: afterwards everything is retried.
pub(super) async fn run(args: RunArgs) -> Result<(), Box<dyn std::error::Error>> {
    let stop = CancellationToken::new();
    end_on_signal(stop.clone())?;
    let health = Health::default();
    let metrics = Arc::new(Metrics::default());
    telemetry::serve(args.health_addr, health.clone(), metrics.clone(), stop.clone())
        .await
        .map_err(|e| format!("cannot serve health on {} (--health-addr): {e}", args.health_addr))?;
    let client = cluster::connect().await.map_err(|e| format!("no cluster: {e}"))?;
    cluster::check(&client).await?;
    cluster::claim_install(&client, &args.lease_namespace, &args.lease_name, &args.install_id).await?;
    tracing::info!(install_id = args.install_id, version = env!("CARGO_PKG_VERSION"), "starting");

    let limits = Limits {
        late_create: args.apiserver_request_timeout.get(),
        blocked_after: args.deletion_blocked_after.get(),
        attach_max_hold: args.attach_max_hold.get(),
        max_concurrent_starts: args.max_concurrent_starts,
        agent_tombstones: args.agent_tombstones,
        max_concurrent_probes: args.max_concurrent_probes,
    };
    let (looks, asked) = cluster::looks();
    let shared = Arc::new(Cluster::new(
        client,
        Install(args.install_id),
        metrics.clone(),
        limits,
        looks,
        Clock::system(),
    ));
    let (towns, mut known_towns, town_work) = queue(args.concurrency, Towns(shared.clone()), metrics.clone());
    let (agents, mut known_agents, agent_work) =
        queue(args.concurrency, Agents(shared.clone()), metrics.clone());

    let (tombstones, mut known_tombstones, tombstone_work) =
        queue(args.concurrency, Tombstones(shared.clone()), metrics.clone());

    // Decisions need every index: the work begins when each kind was listed once.
    let missing = Arc::new(AtomicUsize::new(6));
    let complete = CancellationToken::new();
    let listed = || {
        let (missing, complete) = (missing.clone(), complete.clone());
        move || {
            if missing.fetch_sub(1, Ordering::AcqRel) == 1 {
                complete.cancel();
            }
        }
    };
    let everything = watcher::Config::default;
    let follow_town = move |event: &Event<_>| known_towns.follow(event);
    let follow_agent = move |event: &Event<_>| known_agents.follow(event);
    tokio::spawn(watch::<Town>(shared.clone(), everything(), stop.clone(), follow_town, listed()));
    tokio::spawn(watch::<Agent>(shared.clone(), everything(), stop.clone(), follow_agent, listed()));
    let follow_tombstone = move |event: &Event<_>| known_tombstones.follow(event);
    tokio::spawn(watch::<Tombstone>(shared.clone(), ours(&shared), stop.clone(), follow_tombstone, listed()));
    tokio::spawn(watch::<Pod>(shared.clone(), ours(&shared), stop.clone(), |_| (), listed()));
    tokio::spawn(watch::<PersistentVolumeClaim>(
        shared.clone(),
        ours(&shared),
        stop.clone(),
        |_| (),
        listed(),
    ));
    tokio::spawn(watch::<Service>(shared.clone(), ours(&shared), stop.clone(), |_| (), listed()));
    tokio::spawn(take_looks(asked, (towns, agents, tombstones), stop.clone()));
    tokio::select! {
        () = complete.cancelled() => health.ready(),
        () = stop.cancelled() => return Ok(()),
    }
    cluster::take_over(&shared);
    // Not before every index is complete: nobody is to read that there are no towns.
    let seen = Arc::downgrade(&shared);
    metrics.count_with(move |metrics| {
        if let Some(seen) = seen.upgrade() {
            census::take(metrics, &seen.install.0, seen.towns.all(), seen.agents.all());
            census::take_tombstones(metrics, &seen.tombstones.all());
        }
    });
    tracing::info!("running");

    // The queues end when the watches have ended and what is under way has finished.
    let work = async { tokio::join!(town_work, agent_work, tombstone_work) };
    tokio::pin!(work);
    tokio::select! {
        _ = &mut work => {}
        () = stop.cancelled() => {
            tracing::info!("ending");
            if tokio::time::timeout(FINISH_WITHIN, work).await.is_err() {
                tracing::warn!("some work is still under way; the next start takes it up");
            }
        }
    }
    Ok(())
}

/// Puts what is to be looked at into its queue.
async fn take_looks(
    mut asked: UnboundedReceiver<Look>,
    (towns, agents, tombstones): (Queue<Town>, Queue<Agent>, Queue<Tombstone>),
    stop: CancellationToken,
) {
    while let Some(Some(look)) = stop.run_until_cancelled(asked.recv()).await {
        match look {
            Look::Town(key) => towns.look_at(&key),
            Look::Agent(key) => agents.look_at(&key),
            Look::Tombstone(key) => tombstones.look_at(&key),
        }
    }
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
