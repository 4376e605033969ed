//! What was seen: the snapshots that decisions are made on.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::jiff::{SignedDuration, Timestamp};

use super::ids::{ObjectKey, OwnerRef, Uid};
use super::kinds::ChildKind;
use crate::api::{
    ActivityReport, Agent, Hook, Port, Recreate, ReportedAgent, ReportedState, Tombstone, TombstoneChild,
    TombstoneKind, TombstonePhase, TombstonePolicy, Town, condition, names,
};

/// Where the facts come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Freshness {
    /// From watches: good enough to start things and to wait.
    Cached,
    /// Read from the API server for this decision: good enough for what cannot be undone.
    Live,
}

/// A question that the API server did not answer: neither present nor absent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unknown {
    /// Kind that was asked for.
    pub kind: &'static str,
    /// The API server's own text, or what went wrong on the way.
    pub message: String,
}

/// Everything that a decision about a town rests on.
#[derive(Clone, Debug)]
pub struct TownSnapshot {
    /// The town.
    pub town: Arc<Town>,
    /// Its UID.
    pub uid: Uid,
    /// This installation.
    pub install: String,
    /// The agents bound to it.
    pub agents: Vec<Arc<Agent>>,
    /// Its pod and the pods of its agents, each under the name that its owner gives.
    pub pods: Vec<PodFacts>,
    /// Other pods of its namespace that carry its UID. Nothing is read off them; they go when the town sleeps.
    pub strays: Vec<PodFacts>,
    /// Pods whose agent is proven gone without having let them go: nobody will read what they did.
    pub ownerless: Vec<PodFacts>,
    /// Its volume claim.
    pub claim: Option<ClaimFacts>,
    /// The Service of its pod.
    pub service: Option<ServiceFacts>,
    /// What its pod said when it was asked for its activity.
    pub probe: ProbeFacts,
    /// What the pods of its agents said, by the agent's UID.
    pub agent_probes: HashMap<Uid, ProbeFacts>,
    /// What a pod made now would carry as its revision.
    pub revision: String,
    /// A digest of the Secrets that its spec names; `None`: they were not read, or not all of them could be.
    pub secrets: Option<String>,
    /// Whether it is its turn to start: only so many towns start at once.
    pub may_start: bool,
    /// How long the input of an attached person can keep the town awake.
    pub attach_max_hold: SignedDuration,
    /// Whether admission policies refuse the deletion of a protected town.
    pub admission_policies: bool,
    /// The record of a destroyed town of the same namespace and name that forbids this one.
    pub forbidden_by: Option<Arc<Tombstone>>,
    /// Where the above was read.
    pub freshness: Freshness,
    /// What is left of it; read only while it is being destroyed.
    pub remains: Option<Remains>,
    /// Pods of it that have gone, of which its usage may not tell yet.
    pub gone_pods: Vec<Run>,
    /// When status was last written by this process; agent counts alone are written once a minute.
    pub reported_at: Option<Timestamp>,
    /// Time after which a deletion that does not get on is reported as blocked.
    pub blocked_after: SignedDuration,
    /// The longest time that a Tombstone outlives what it records.
    pub max_retention: SignedDuration,
}

impl TownSnapshot {
    /// The town's own pod.
    pub fn pod(&self) -> Option<&PodFacts> {
        self.pods.iter().find(|p| p.agent_uid.is_none())
    }

    /// Its pods and its strays.
    pub fn all_pods(&self) -> impl Iterator<Item = &PodFacts> {
        self.pods.iter().chain(&self.strays)
    }

    /// The pod of an agent.
    pub fn pod_of(&self, agent: &Agent) -> Option<&PodFacts> {
        let uid = Uid::of(&agent.metadata)?;
        self.pods.iter().find(|p| p.agent_uid.as_ref() == Some(&uid))
    }

    /// The pods of the agents, by the agent's UID. A decision that needs more than one of them reads them here, so that
    /// it costs no search for each.
    pub fn pods_by_agent(&self) -> HashMap<&str, &PodFacts> {
        pods_by_agent(&self.pods)
    }

    /// What the pod of an agent said.
    pub fn probe_of(&self, agent: &Agent) -> Option<&ProbeFacts> {
        self.agent_probes.get(&Uid::of(&agent.metadata)?)
    }
}

/// The pods of agents, by the agent's UID; of two pods of one agent the first.
pub(super) fn pods_by_agent(pods: &[PodFacts]) -> HashMap<&str, &PodFacts> {
    let mut index = HashMap::new();
    for pod in pods {
        if let Some(agent) = &pod.agent_uid {
            index.entry(agent.as_str()).or_insert(pod);
        }
    }
    index
}

/// Everything that a decision about an agent rests on.
#[derive(Clone, Debug)]
pub struct AgentSnapshot {
    /// The agent.
    pub agent: Arc<Agent>,
    /// Its UID.
    pub uid: Uid,
    /// This installation.
    pub install: String,
    /// The town that it names.
    pub town: TownView,
    /// The record of the destruction of the town that it is bound to.
    pub town_record: Option<Arc<Tombstone>>,
    /// The record of a destroyed agent of the same namespace and name that forbids this one.
    pub forbidden_by: Option<Arc<Tombstone>>,
    /// Its pod.
    pub pod: Option<PodFacts>,
    /// Its volume claim.
    pub claim: Option<ClaimFacts>,
    /// What its pod said when it was asked for its activity.
    pub probe: ProbeFacts,
    /// What a pod made now would carry as its revision.
    pub revision: String,
    /// A digest of the Secrets that its spec names; `None`: they were not read, or not all of them could be.
    pub secrets: Option<String>,
    /// Whether its role and its rig have room for it.
    pub standing: Standing,
    /// Until when a create for it that nobody has an answer to may still take effect; `None`: there is none.
    pub creates_settle_at: Option<Timestamp>,
    /// What is left of it; read only while it is being destroyed.
    pub remains: Option<Remains>,
    /// Time after which a deletion that does not get on is reported as blocked.
    pub blocked_after: SignedDuration,
    /// The longest time that a Tombstone outlives what it records.
    pub max_retention: SignedDuration,
}

/// The town that an agent names.
#[derive(Clone, Debug)]
pub enum TownView {
    /// No town of that name.
    Absent(Freshness),
    /// A town of that name; whether it is the one that the agent is bound to, its UID tells.
    Present(Freshness, Box<TownFacts>),
    /// The API server did not say.
    Unknown(Unknown),
}

/// What an agent needs to know of its town.
#[allow(clippy::struct_excessive_bools)] // Each is a question of its own; they do not form states.
#[derive(Clone, Debug)]
pub struct TownFacts {
    /// Its UID.
    pub uid: Uid,
    /// Carries our finalizer and install label: it cannot go without our seeing its agents.
    pub adopted: bool,
    /// Belongs to another installation.
    pub foreign: bool,
    /// Carries a deletionTimestamp.
    pub deleting: bool,
    /// Carries a tombstone annotation, whatever it names.
    pub tombstoned: bool,
    /// Carries a tombstone that names its own UID.
    pub own_tombstone: bool,
    /// Neither asleep, nor draining, nor suspended: pods may start.
    pub awake: bool,
    /// Asleep, by its own status.
    pub asleep: bool,
    /// Drains before sleeping or being destroyed.
    pub draining: bool,
    /// A person has paused what is done about it, and so about its agents.
    pub paused: bool,
    /// Has work, by its own status.
    pub active: bool,
    /// Its rigs.
    pub rigs: Vec<RigFacts>,
    /// `metadata.generation`.
    pub generation: i64,
    /// When it was last woken.
    pub wake_time: Option<Timestamp>,
    /// When a wake request was last acted on.
    pub wake_request_time: Option<Timestamp>,
    /// How often pods are asked for their activity, while the town has work and while it has none.
    pub alarm: (SignedDuration, SignedDuration),
    /// Parts of its spec could not be decoded.
    pub unreadable: bool,
    /// Whether it has a pod template for agents that bring none.
    pub has_agent_template: bool,
    /// Its bound on draining.
    pub drain_timeout: SignedDuration,
    /// How long records of what is destroyed stay.
    pub tombstone: TombstonePolicy,
}

/// What agents need to know of a rig.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RigFacts {
    /// Its name.
    pub name: String,
    /// Polecats that may work at once.
    pub max_polecats: i32,
}

impl TownFacts {
    /// How often pods are asked for their activity now.
    pub(super) fn cadence(&self) -> SignedDuration {
        if self.active { self.alarm.0 } else { self.alarm.1 }
    }

    /// What agents need to know of this town, as the given installation sees it.
    pub fn of(town: &Town, install: &str) -> Option<Self> {
        let meta = &town.metadata;
        let status = town.status.as_ref();
        let deleting = meta.deletion_timestamp.is_some();
        let draining = status.is_some_and(|s| s.drain_time.is_some());
        let says = |type_, is| status.is_some_and(|s| super::conditions::says(&s.conditions, type_, is));
        // A status that does not say whether the town sleeps is no decision yet.
        let awake = says(condition::ASLEEP, false);
        let waits = status.and_then(|s| s.phase.as_deref()) == Some(super::town::PENDING);
        let label = super::label(meta, names::INSTALL);
        Some(Self {
            uid: Uid::of(meta)?,
            adopted: super::has_finalizer(meta, names::FINALIZER) && label == Some(install),
            foreign: label.is_some_and(|l| l != install),
            deleting,
            tombstoned: super::tombstone(meta).is_some(),
            own_tombstone: super::has_own_tombstone(meta),
            awake: !deleting && !draining && awake && !town.spec.suspend && !waits,
            asleep: says(condition::ASLEEP, true),
            draining: draining || deleting,
            paused: super::is_paused(meta),
            active: says(condition::ACTIVE, true),
            rigs: town
                .spec
                .rigs
                .iter()
                .map(|r| RigFacts { name: r.name.clone(), max_polecats: r.max_polecats() })
                .collect(),
            generation: meta.generation.unwrap_or_default(),
            wake_time: status.and_then(|s| s.wake_time.as_ref()).map(|t| t.0),
            wake_request_time: status.and_then(|s| s.wake_request_time.as_ref()).map(|t| t.0),
            alarm: (town.spec.alarm.active.get(), town.spec.alarm.idle.get()),
            unreadable: town.spec.unreadable.is_some(),
            has_agent_template: town.spec.agent_template.is_some(),
            drain_timeout: town.spec.drain.timeout.get(),
            tombstone: town.spec.tombstone.clone(),
        })
    }
}

/// What is left of an owner, read live by its UID. An error is not an empty list.
#[derive(Clone, Debug)]
pub struct Remains {
    /// The record of its destruction.
    pub record: Record,
    /// Agents bound to the town; empty for an agent.
    pub agents: Result<Vec<Arc<Agent>>, Unknown>,
    /// Pods.
    pub pods: Result<Vec<PodFacts>, Unknown>,
    /// The other children, by kind. A kind that is not here was not asked for.
    pub children: BTreeMap<ChildKind, Result<Vec<ChildFacts>, Unknown>>,
    /// What Kubernetes made for the pods that are there: claims of ephemeral volumes, the volumes behind them, and
    /// claims of devices.
    pub made_for_pods: Result<BTreeSet<TombstoneChild>, Unknown>,
    /// The volumes behind its claims, those of claims that are gone included. Asked for only once nothing runs.
    pub volumes: Result<Vec<VolumeFacts>, Unknown>,
    /// The claims that were let go on purpose, found as such.
    pub retained: BTreeSet<Uid>,
    /// Everything that this process has seen of it since its destruction began.
    pub seen: BTreeSet<TombstoneChild>,
    /// Kinds that do not exist in this cluster, by a read of their definition.
    pub absent_kinds: Vec<&'static str>,
    /// Its namespace; `None`: the API server says that there is none. Read only while the record is to be written.
    pub namespace: Result<Option<NamespaceFacts>, Unknown>,
    /// When creates of which no answer came can no longer take effect; `None`: there are none.
    pub settled_at: Option<Timestamp>,
}

impl Remains {
    /// Nothing found yet, with this record.
    pub fn of(record: Record) -> Self {
        Self {
            record,
            agents: Ok(Vec::new()),
            pods: Ok(Vec::new()),
            children: BTreeMap::new(),
            made_for_pods: Ok(BTreeSet::new()),
            volumes: Ok(Vec::new()),
            retained: BTreeSet::new(),
            seen: BTreeSet::new(),
            absent_kinds: Vec::new(),
            namespace: Ok(None),
            settled_at: None,
        }
    }

    /// Whether the namespace is being deleted, as far as that is known.
    pub(super) fn goes_with_namespace(&self) -> bool {
        matches!(&self.namespace, Ok(Some(namespace)) if namespace.terminating)
    }
}

/// A namespace, as far as a record of destruction needs it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamespaceFacts {
    /// The UID that tells it from an earlier namespace of its name.
    pub uid: Uid,
    /// Whether it is being deleted.
    pub terminating: bool,
}

/// The Tombstone of an owner that is being destroyed.
#[derive(Clone, Debug)]
pub enum Record {
    /// It is there.
    There(Arc<Tombstone>),
    /// It is not.
    Missing,
    /// None is kept: the kind does not exist here or is being removed, or this owner has none of its own. The
    /// annotation is the tombstone then.
    NotKept,
    /// The API server did not say.
    Unknown(Unknown),
}

impl Record {
    /// What stands in it.
    pub fn children(&self) -> &[TombstoneChild] {
        match self {
            Self::There(tombstone) => &tombstone.spec.children,
            Self::Missing | Self::NotKept | Self::Unknown(_) => &[],
        }
    }
}

/// A Tombstone, as far as its own end and the guard that it is need it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TombstoneFacts {
    /// Where it is; without a namespace.
    pub key: ObjectKey,
    /// Who it is.
    pub uid: Uid,
    /// What was destroyed.
    pub kind: TombstoneKind,
    /// Where that was, and who.
    pub of: OwnerRef,
    /// The UID of the namespace in which that was; `None`: not recorded.
    pub namespace_uid: Option<Uid>,
    /// When the record was written.
    pub created: Timestamp,
    /// Where its destruction stands.
    pub phase: TombstonePhase,
    /// Whether a new town may take its name.
    pub recreate: Recreate,
    /// When it goes.
    pub expire_time: Timestamp,
}

/// A volume behind a claim of ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VolumeFacts {
    /// Its name.
    pub name: String,
    /// Who it is.
    pub uid: Uid,
    /// The claim that it is bound to.
    pub claim: Option<Uid>,
    /// It stays when its claim goes: its reclaim policy is not Delete.
    pub retained: bool,
    /// Its phase, and what is wrong with it.
    pub message: String,
}

/// A pod, as far as decisions need it.
#[allow(clippy::struct_excessive_bools)] // Each is a fact of its own; they do not form states.
#[derive(Clone, Debug, PartialEq)]
pub struct PodFacts {
    /// Where it is.
    pub key: ObjectKey,
    /// Who it is.
    pub uid: Uid,
    /// The town that it belongs to, by label.
    pub town_uid: Option<Uid>,
    /// The agent that it belongs to, by label; none: the town's own pod.
    pub agent_uid: Option<Uid>,
    /// The installation that made it, by label.
    pub install: Option<String>,
    /// `status.phase`.
    pub phase: PodPhase,
    /// The condition Ready.
    pub ready: bool,
    /// The node it is on.
    pub node: Option<String>,
    /// `metadata.creationTimestamp`.
    pub created: Option<Timestamp>,
    /// `status.startTime`.
    pub started: Option<Timestamp>,
    /// Since when the condition Ready is True.
    pub ready_since: Option<Timestamp>,
    /// The addresses of its node.
    pub host_ips: Vec<String>,
    /// When it was told to stop: the deletionTimestamp less the grace period.
    pub stop_requested: Option<Timestamp>,
    /// Deleted with no grace left: nothing of it runs, or somebody forced it.
    pub released_by_kubelet: bool,
    /// Finalizers, ours and others'.
    pub finalizers: Vec<String>,
    /// When the grace period ends that it was given: the deletionTimestamp.
    pub stops_by: Option<Timestamp>,
    /// `spec.terminationGracePeriodSeconds`.
    pub grace_period: Option<i64>,
    /// The address to ask it at; none while it has none, or shares its node's.
    pub address: Option<String>,
    /// Since when the condition Ready is not True.
    pub not_ready_since: Option<Timestamp>,
    /// How often the kubelet has restarted a container of the template: the most of any of them. Injected containers
    /// and sidecars do not count.
    pub container_restarts: i32,
    /// The last restart came from the node: the kubelet lost the containers, as in a reboot.
    pub restarted_by_node: bool,
    /// `status.reason`, as the kubelet or the garbage collector gives it.
    pub reason: Option<String>,
    /// The kubelet did not admit the pod.
    pub rejected: bool,
    /// A container of the template has run, or may have.
    pub ran: bool,
    /// The generations of the town and of the agent that the pod was made from.
    pub generations: Option<(i64, i64)>,
    /// The revision that it was made with.
    pub revision: Option<String>,
    /// The value of the annotation `restart-at` that it was made with.
    pub restart_at: Option<String>,
    /// The hook it was made with or given since.
    pub hook: Option<Hook>,
    /// How the containers of the template ended, once all have and none is started again.
    pub termination: Option<Termination>,
    /// The condition DisruptionTarget is True: the cluster ends the pod.
    pub disrupted: bool,
    /// Its status speaks of it as it was made: when that was reported, nobody had told it to stop.
    pub reported_untouched: bool,
    /// What the container that ended last with an error died of.
    pub last_crash: Option<String>,
    /// The Secret whose token it was made with.
    pub token_secret_name: Option<String>,
    /// What keeps it from running: a condition reason and a text for people.
    pub trouble: Option<(&'static str, String)>,
    /// Since when, where that is known.
    pub trouble_since: Option<Timestamp>,
    /// The claims that Kubernetes makes for it, by kind and name; they go with it.
    pub claims: Vec<PodClaim>,
}

/// How long a pod ran that is gone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    /// The UID of the pod.
    pub pod: Uid,
    /// When it started.
    pub started: Timestamp,
    /// When it ended.
    pub ended: Timestamp,
}

/// A claim that Kubernetes makes for a pod: of an ephemeral volume, or of a device from a template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodClaim {
    /// What it is.
    pub kind: ChildKind,
    /// Its name, in the namespace of the pod.
    pub name: String,
}

impl PodFacts {
    /// Carries a deletionTimestamp.
    pub fn deleting(&self) -> bool {
        self.stop_requested.is_some()
    }

    /// Nothing of it runs any more.
    pub fn ended(&self) -> bool {
        matches!(self.phase, PodPhase::Succeeded | PodPhase::Failed) || self.released_by_kubelet
    }
}

/// `status.phase` of a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PodPhase {
    /// Not all containers have started.
    Pending,
    /// Bound to a node, and containers run.
    Running,
    /// All containers ended with exit 0.
    Succeeded,
    /// All containers ended, one of them with an error, or the pod was evicted.
    Failed,
    /// The node does not say.
    Unknown,
}

/// How a pod's containers ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Termination {
    /// The first exit code that is not 0, or 0.
    pub exit_code: i32,
    /// When the last container ended.
    pub at: Option<Timestamp>,
    /// The termination message, or the reason.
    pub message: String,
    /// A container was killed for its memory.
    pub out_of_memory: bool,
    /// The kubelet lost a container and does not know its exit code.
    pub lost: bool,
}

/// A volume claim, as far as decisions need it.
#[derive(Clone, Debug, PartialEq)]
pub struct ClaimFacts {
    /// What every child has.
    pub child: ChildFacts,
    /// The volume behind it is gone (phase Lost).
    pub lost: bool,
    /// The size that it asks for.
    pub requested: Option<Quantity>,
    /// The size that its volume has.
    pub capacity: Option<Quantity>,
}

/// A child, as far as its destruction needs it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChildFacts {
    /// What it is.
    pub kind: ChildKind,
    /// Where it is.
    pub key: ObjectKey,
    /// Who it is.
    pub uid: Uid,
    /// The town that it belongs to, by label.
    pub town_uid: Option<Uid>,
    /// The agent that it belongs to, by label; none: the town's own.
    pub agent_uid: Option<Uid>,
    /// The installation that made it, by label.
    pub install: Option<String>,
    /// Carries a deletionTimestamp.
    pub deleting: bool,
    /// Finalizers.
    pub finalizers: Vec<String>,
    /// Kubernetes made it for a pod, by its ownerReference: it goes with the pod, and no policy keeps it.
    pub of_pod: bool,
    /// A claim that says that it outlives its owner.
    pub retain: bool,
    /// What it says of the labels and annotations that were copied to it.
    pub copied: Option<String>,
}

/// A Service of a town's pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceFacts {
    /// What every child has.
    pub child: ChildFacts,
    /// The ports that it offers.
    pub ports: Vec<Port>,
}

/// What is known of a pod's activity, asked for over HTTP. All of it is of the pod that is there now: what an
/// older one said is dropped.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ProbeFacts {
    /// A question is under way.
    pub under_way: bool,
    /// When the first question was put in the queue.
    pub wanted_since: Option<Timestamp>,
    /// When the last question that was answered, or not, was sent.
    pub asked_at: Option<Timestamp>,
    /// When that was known.
    pub known_at: Option<Timestamp>,
    /// The answer, or why there is none.
    pub last: Option<Result<Arc<ActivityReport>, String>>,
    /// When a person last put something in, by the last answer that said so: who has left may be gone from the next.
    pub last_input: Option<Timestamp>,
    /// When the last question was sent whose answer showed the pod's own agent in another state than done or failed.
    pub unfinished_at: Option<Timestamp>,
    /// Since when there has been no answer.
    pub failing_since: Option<Timestamp>,
    /// How many questions in a row had none.
    pub failures: u32,
    /// The last question had none because the Secret with the token of the pod does not exist.
    pub secret_missing: bool,
}

impl ProbeFacts {
    /// Takes in an answer of the pod of this agent, or of a town.
    pub fn answered(&mut self, report: ActivityReport, agent: Option<&Uid>) {
        let own = |entry: &&ReportedAgent| agent.is_some_and(|uid| uid.as_str() == entry.uid);
        let finished = |state| matches!(state, ReportedState::Done | ReportedState::Failed);
        if report.agents.iter().find(own).is_some_and(|entry| !finished(entry.state)) {
            self.unfinished_at = self.asked_at;
        }
        self.failing_since = None;
        self.failures = 0;
        self.secret_missing = false;
        self.last_input = report.last_input_time.as_ref().map(|at| at.0).or(self.last_input);
        self.last = Some(Ok(Arc::new(report)));
    }

    /// The last answer, if the last question had one.
    pub fn report(&self) -> Option<&ActivityReport> {
        self.last.as_ref()?.as_deref().ok()
    }
}

/// Whether an agent's role and rig have room for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// They have.
    Free,
    /// Another agent holds the role.
    RoleTaken {
        /// Its name.
        holder: String,
    },
    /// As many polecats of the rig work as may.
    RigFull {
        /// Its place among those who wait, from 1.
        position: usize,
        /// How many may work.
        limit: i32,
    },
}
