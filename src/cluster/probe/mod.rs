//! Probes the activity of pods.
//!
//! Invariants kept here:
//! - An answer counts only for the very pod that was probed, by its UID and its address.
//! - A pod has at most one probe at a time.
//! - A pod that answers slowly, wrongly or not at all costs the others only one place for a few seconds. After its
//!   first failure it no longer takes a place of the healthy pods.
//! - The pods of one namespace do not delay the probes of another.
//! - The state of a deleted pod is forgotten.

mod address;
mod places;
mod question;
mod token;

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http::HeaderValue;
use k8s_openapi::jiff::Timestamp;
use kube::Client;
use tokio::time::{Instant, timeout_at};

pub use self::address::Cidr;
use self::address::Reach;
use self::places::{Place, Places};
use self::question::{NoAnswer, plain};
use crate::api::ActivityReport;
use crate::cluster::cache::caches::Caches;
use crate::cluster::cache::index::Group;
use crate::cluster::cache::owners::owners;
use crate::cluster::clock::Clock;
use crate::cluster::scheduling::requeue::{Look, Looks};
use crate::cluster::sync::lock;
use crate::lifecycle::{Ask, FAILURES, ObjectKey, OwnerId, PodFacts, ProbeFacts, Uid};
use crate::telemetry::Metrics;

/// The timeout of a probe: the read of the token, the connection, and the whole answer.
const WITHIN: Duration = Duration::from_secs(5);
/// The delay before a refused token is read again. A pod without a valid token must not cost the API server one read
/// per probe.
const READ_AGAIN_AFTER: Duration = Duration::from_secs(30);
/// The result label of an answer in time.
const ANSWERED: &str = "Answered";
/// The result label of an answer that arrived after the pod was deleted or had moved.
const STALE: &str = "Stale";

/// The probe state of the pods, and the limit of concurrent probes.
pub struct Probes {
    bounds: Bounds,
    /// Places for probes.
    places: Arc<Places>,
    /// The part of these places for pods that did not answer the last probe.
    doubtful: Arc<Places>,
    /// The refused addresses of this cluster.
    reach: Mutex<Reach>,
    parts: Parts,
    pods: Mutex<HashMap<Uid, Known>>,
}

/// The limits of the probes.
#[derive(Clone, Copy)]
struct Bounds {
    at_once: u16,
    within: Duration,
    read_again_after: Duration,
    may_ask: fn(IpAddr) -> bool,
}

/// The state of one pod.
#[derive(Default)]
struct Known {
    facts: ProbeFacts,
    key: Option<Key>,
}

/// The token for a pod, or the reason why there is none.
#[derive(Clone)]
struct Key {
    secret: ObjectKey,
    token: Result<HeaderValue, NoAnswer>,
    read_at: Instant,
}

/// The parts of the operator that probes use.
pub(crate) struct Parts {
    pub(crate) client: Client,
    pub(crate) caches: Arc<Caches>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) clock: Clock,
    pub(crate) looks: Looks,
}

impl Probes {
    /// Starts a probe, and returns immediately. The owner and the town of the pod are enqueued after the answer or
    /// the failure. If the pod is gone or has a probe in progress, the call has no effect.
    pub fn ask(self: &Arc<Self>, ask: Ask) {
        if self.begin(&ask) {
            let probes = self.clone();
            tokio::spawn(async move { probes.carry_out(&ask).await });
        }
    }

    /// Reads the addresses of the cluster that no pod has: the addresses of the API server and the ranges of
    /// Services, as far as the API server shows them. Call this function before the first probe.
    pub async fn learn_addresses(&self, allowed: Vec<Cidr>) {
        let refused = address::of_cluster(&self.parts.client).await;
        self.restrict(allowed, refused);
    }

    /// The state before the first probe, with this limit of concurrent probes.
    pub(crate) fn new(at_once: u16, parts: Parts) -> Self {
        let bounds =
            Bounds { at_once, within: WITHIN, read_again_after: READ_AGAIN_AFTER, may_ask: address::may_ask };
        Self::within(bounds, parts)
    }

    fn within(bounds: Bounds, parts: Parts) -> Self {
        Self {
            bounds,
            places: Places::new(bounds.at_once.into()),
            doubtful: Places::new((bounds.at_once / 4).max(1).into()),
            reach: Mutex::default(),
            parts,
            pods: Mutex::default(),
        }
    }

    /// The probe results of the pod with this UID.
    pub fn facts(&self, pod: &Uid) -> ProbeFacts {
        lock(&self.pods).get(pod).map(|known| known.facts.clone()).unwrap_or_default()
    }

    /// Refuses these addresses from now on. If `allowed` is not empty, every address outside of it is refused too.
    pub(crate) fn restrict(&self, allowed: Vec<Cidr>, refused: Vec<(Cidr, &'static str)>) {
        *lock(&self.reach) = Reach::new(allowed, refused);
    }

    /// Records the creation of a Secret: the next probe of a pod that lacked it uses its token.
    pub(crate) fn token_made(&self, secret: &ObjectKey) {
        let mut pods = lock(&self.pods);
        for known in pods.values_mut().filter(|known| known.facts.secret_missing) {
            if known.key.take_if(|key| key.secret == *secret && key.token.is_err()).is_some() {
                known.facts.secret_missing = false;
            }
        }
    }

    /// Forgets a pod that was deleted and has left the index.
    pub(crate) fn forget(&self, pod: &Uid) {
        lock(&self.pods).remove(pod);
    }

    /// Whether the pod exists and has no probe in progress.
    fn begin(&self, ask: &Ask) -> bool {
        // The index is read under the lock, so that the state of a pod that leaves the index later is also forgotten
        // later.
        let mut pods = lock(&self.pods);
        if !there(&self.parts.caches, ask) {
            return false;
        }
        let facts = &mut pods.entry(ask.uid.clone()).or_default().facts;
        facts.wanted_since.get_or_insert_with(|| self.parts.clock.now());
        !std::mem::replace(&mut facts.under_way, true)
    }

    async fn carry_out(&self, ask: &Ask) {
        let _place = self.turn(ask).await;
        // Another pod may have the address by now, and must not get the token.
        if there(&self.parts.caches, ask) {
            let asked_at = self.parts.clock.now();
            let begun = Instant::now();
            let answer = match self.refusal(ask) {
                Some(why) => Err(NoAnswer::NotAllowed(why)),
                None => self.answer(&self.parts.client, ask, begun + self.bounds.within).await,
            };
            self.parts.metrics.probe_took(begun.elapsed());
            let result =
                match pod(&self.parts.caches, ask).filter(|pod| pod.address.as_ref() == Some(&ask.address)) {
                    Some(pod) => {
                        let answer = answer.map(|report| reduced(&self.parts.caches, &pod, report));
                        self.record(ask, pod.agent_uid.as_ref(), (asked_at, self.parts.clock.now()), answer)
                    }
                    None => STALE,
                };
            self.parts.metrics.probed(result);
        }
        if let Some(known) = lock(&self.pods).get_mut(&ask.uid) {
            known.facts.under_way = false;
        }
        for look in concerned(&self.parts.caches, ask) {
            self.parts.looks.ask(look);
        }
    }

    /// Waits for a place. Pods that did not answer the last probe share a part of the places, so that they never take
    /// all.
    async fn turn(&self, ask: &Ask) -> (Option<Place>, Option<Place>) {
        let failed = lock(&self.pods).get(&ask.uid).is_some_and(|known| known.facts.failures > 0);
        let namespace = &ask.pod.namespace;
        let doubtful = if failed { self.doubtful.take(namespace).await } else { None };
        (doubtful, self.places.take(namespace).await)
    }

    /// The reason why the pod must not be probed at its address.
    fn refusal(&self, ask: &Ask) -> Option<String> {
        let address: IpAddr = ask.address.parse().ok()?;
        let hosts = pod(&self.parts.caches, ask).map(|pod| pod.host_ips.clone()).unwrap_or_default();
        lock(&self.reach).refusal(address, &hosts)
    }

    /// Probes with the known token. If the pod refuses it, the function reads the token again and repeats the probe.
    async fn answer(
        &self,
        client: &Client,
        ask: &Ask,
        deadline: Instant,
    ) -> Result<ActivityReport, NoAnswer> {
        let known = lock(&self.pods).get(&ask.uid).and_then(|known| known.key.clone());
        let fresh = |key: &Key| key.read_at.elapsed() < self.bounds.read_again_after;
        let key = match known {
            Some(key) if key.token.is_ok() || fresh(&key) => key,
            _ => self.read_key(client, ask, deadline).await,
        };
        let token = key.token.clone()?;
        let answer = self.put(ask, token.clone(), deadline).await;
        if !matches!(answer, Err(NoAnswer::Unauthorized(_))) || fresh(&key) {
            return answer;
        }
        match self.read_key(client, ask, deadline).await.token? {
            same if same == token => answer,
            other => self.put(ask, other, deadline).await,
        }
    }

    async fn put(
        &self,
        ask: &Ask,
        token: HeaderValue,
        deadline: Instant,
    ) -> Result<ActivityReport, NoAnswer> {
        let question = question::put(ask, token, self.bounds.may_ask);
        timeout_at(deadline, question).await.unwrap_or(Err(NoAnswer::TimedOut(self.bounds.within)))
    }

    async fn read_key(&self, client: &Client, ask: &Ask, deadline: Instant) -> Key {
        let secret = ObjectKey { namespace: ask.pod.namespace.clone(), name: ask.secret.clone() };
        let read = timeout_at(deadline, token::read(client, &secret)).await;
        let late = || NoAnswer::Unauthorized(format!("Secret {secret} could not be read in time"));
        let token = read.unwrap_or_else(|_| Err(late()));
        let key = Key { secret, token, read_at: Instant::now() };
        if let Some(known) = lock(&self.pods).get_mut(&ask.uid) {
            known.key = Some(key.clone());
        }
        key
    }

    /// Stores the result of a probe. Returns its result label.
    fn record(
        &self,
        ask: &Ask,
        agent: Option<&Uid>,
        (asked_at, known_at): (Timestamp, Timestamp),
        answer: Result<ActivityReport, NoAnswer>,
    ) -> &'static str {
        let mut pods = lock(&self.pods);
        let Some(Known { facts, .. }) = pods.get_mut(&ask.uid) else { return STALE };
        facts.asked_at = Some(asked_at);
        facts.known_at = Some(known_at);
        match answer {
            Ok(report) => {
                facts.answered(report, agent);
                ANSWERED
            }
            Err(why) => {
                facts.failing_since.get_or_insert(asked_at);
                // A refused address is not a transient failure, so it is shown immediately.
                let certain = matches!(why, NoAnswer::NotAllowed(_));
                facts.failures = facts.failures.saturating_add(1).max(if certain { FAILURES } else { 0 });
                let (pod, port, path) = (&ask.pod.name, ask.probe.port, plain(&ask.probe.path));
                facts.secret_missing = matches!(why, NoAnswer::NoSecret(_));
                facts.last =
                    Some(Err(format!("the probe of pod {pod} for {path} at port {port} failed: {why}")));
                why.result()
            }
        }
    }
}

/// The part of an answer that decisions read: the agent of the pod, or the agents of the town.
fn reduced(caches: &Caches, pod: &PodFacts, report: ActivityReport) -> ActivityReport {
    if let Some(agent) = &pod.agent_uid {
        return report.reduced(|uid| uid == agent.as_str(), false);
    }
    let town = pod.town_uid.as_ref().map(|uid| Group::Town(OwnerId::new(&pod.key.namespace, uid)));
    let agents = town.map(|town| caches.agents.of(&town)).unwrap_or_default();
    let agents: HashSet<_> = agents.iter().filter_map(|agent| agent.metadata.uid.as_deref()).collect();
    report.reduced(|uid| agents.contains(uid), true)
}

/// Whether the pod exists and has the address of the probe.
fn there(caches: &Caches, ask: &Ask) -> bool {
    pod(caches, ask).is_some_and(|pod| pod.address.as_ref() == Some(&ask.address))
}

fn pod(caches: &Caches, ask: &Ask) -> Option<Arc<PodFacts>> {
    caches.pods.get(&ask.pod).filter(|pod| pod.uid == ask.uid)
}

/// The owners that an answer affects: the agent of the pod, and its town, which stays awake while an agent has work.
fn concerned(caches: &Caches, ask: &Ask) -> Vec<Look> {
    let Some(pod) = pod(caches, ask) else { return Vec::new() };
    owners(caches, &pod.key.namespace, pod.town_uid.as_ref(), pod.agent_uid.as_ref())
}

#[cfg(test)]
mod tests;
