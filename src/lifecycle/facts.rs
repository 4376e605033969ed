//! Observations: the snapshots that are the input of every decision.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::jiff::{SignedDuration, Timestamp};

use super::ids::{ObjectKey, OwnerRef, Uid};
use super::kinds::ChildKind;
use crate::api::{
    ActivityReport, Agent, Hook, Port, Recreate, ReportedAgent, ReportedState, Tombstone, TombstoneChild,
    TombstoneKind, TombstonePhase, TombstonePolicy, Town, TownPhase, condition, names,
};

/// The source of the facts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Freshness {
    /// Read from watches. Sufficient to start objects and to wait.
    Cached,
    /// Read from the API server for this decision. Sufficient for actions that cannot be undone.
    Live,
}

/// A read that the API server did not answer. The object is neither present nor absent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unknown {
    /// The kind of the read object.
    pub kind: &'static str,
    /// The text of the API server, or the error of the transport.
    pub message: String,
}

/// The complete input of a decision about a town.
#[derive(Clone, Debug)]
pub struct TownSnapshot {
    /// The town.
    pub town: Arc<Town>,
    /// The UID of the town.
    pub uid: Uid,
    /// The name of this installation.
    pub install: String,
    /// The agents that are bound to the town.
    pub agents: Vec<Arc<Agent>>,
    /// The pod of the town and the pods of its agents, each under the name that its owner gives.
    pub pods: Vec<PodFacts>,
    /// Other pods of the namespace that carry the UID of the town. The operator reads no result from them. Sleep
    /// deletes them.
    pub strays: Vec<PodFacts>,
    /// Pods that still carry our finalizer while their agent is proven gone. No agent remains that could record their
    /// result.
    pub ownerless: Vec<PodFacts>,
    /// The volume claim of the town.
    pub claim: Option<ClaimFacts>,
    /// The Service of the town's pod.
    pub service: Option<ServiceFacts>,
    /// The result of the activity probes of the town's pod.
    pub probe: ProbeFacts,
    /// The results of the activity probes of the agents' pods, by the UID of the agent.
    pub agent_probes: HashMap<Uid, ProbeFacts>,
    /// The revision that a pod created now would carry.
    pub revision: String,
    /// A digest of the Secrets that the spec names. `None`: the Secrets were not read, or one of them was not
    /// readable.
    pub secrets: Option<String>,
    /// Whether the town may start now. The number of towns that start at the same time is limited.
    pub may_start: bool,
    /// The longest time for which the input of an attached user keeps the town awake.
    pub attach_max_hold: SignedDuration,
    /// Whether admission policies refuse the deletion of a protected town.
    pub admission_policies: bool,
    /// The Tombstone of a destroyed town of the same namespace and name that forbids this town.
    pub forbidden_by: Option<Arc<Tombstone>>,
    /// The source of the fields above.
    pub freshness: Freshness,
    /// The remains of the town. The operator reads them only during the destruction of the town.
    pub remains: Option<Remains>,
    /// Pods of the town that are gone and may be missing in its usage.
    pub gone_pods: Vec<Run>,
    /// The time at which this process last wrote the status. Changes of the agent counts alone are written once a
    /// minute.
    pub reported_at: Option<Timestamp>,
    /// A deletion without progress is reported as blocked after this time.
    pub blocked_after: SignedDuration,
    /// The longest time for which a Tombstone outlives the recorded object.
    pub max_retention: SignedDuration,
}

impl TownSnapshot {
    /// The town's own pod.
    pub fn pod(&self) -> Option<&PodFacts> {
        self.pods.iter().find(|p| p.agent_uid.is_none())
    }

    /// The pods of the town and of its agents, and the strays.
    pub fn all_pods(&self) -> impl Iterator<Item = &PodFacts> {
        self.pods.iter().chain(&self.strays)
    }

    /// The pod of an agent.
    pub fn pod_of(&self, agent: &Agent) -> Option<&PodFacts> {
        let uid = Uid::of(&agent.metadata)?;
        self.pods.iter().find(|p| p.agent_uid.as_ref() == Some(&uid))
    }

    /// The pods of the agents, by the UID of the agent. A decision about more than one agent uses this index instead
    /// of one search per agent.
    pub fn pods_by_agent(&self) -> HashMap<&str, &PodFacts> {
        pods_by_agent(&self.pods)
    }

    /// The result of the activity probes of the agent's pod.
    pub fn probe_of(&self, agent: &Agent) -> Option<&ProbeFacts> {
        self.agent_probes.get(&Uid::of(&agent.metadata)?)
    }
}

/// The pods of agents, by the UID of the agent. If an agent has two pods, the index has the first.
pub(super) fn pods_by_agent(pods: &[PodFacts]) -> HashMap<&str, &PodFacts> {
    let mut index = HashMap::new();
    for pod in pods {
        if let Some(agent) = &pod.agent_uid {
            index.entry(agent.as_str()).or_insert(pod);
        }
    }
    index
}

/// The complete input of a decision about an agent.
#[derive(Clone, Debug)]
pub struct AgentSnapshot {
    /// The agent.
    pub agent: Arc<Agent>,
    /// The UID of the agent.
    pub uid: Uid,
    /// The name of this installation.
    pub install: String,
    /// The town that the agent names.
    pub town: TownView,
    /// The Tombstone of the town that the agent is bound to.
    pub town_record: Option<Arc<Tombstone>>,
    /// The Tombstone of a destroyed agent of the same namespace and name that forbids this agent.
    pub forbidden_by: Option<Arc<Tombstone>>,
    /// The pod of the agent.
    pub pod: Option<PodFacts>,
    /// The volume claim of the agent.
    pub claim: Option<ClaimFacts>,
    /// The result of the activity probes of the agent's pod.
    pub probe: ProbeFacts,
    /// The revision that a pod created now would carry.
    pub revision: String,
    /// A digest of the Secrets that the spec names. `None`: the Secrets were not read, or one of them was not
    /// readable.
    pub secrets: Option<String>,
    /// Whether the role and the rig of the agent have room for it.
    pub standing: Standing,
    /// Until this time, an unanswered create for the agent may still take effect. `None`: every create is answered.
    pub creates_settle_at: Option<Timestamp>,
    /// The remains of the agent. The operator reads them only during the destruction of the agent.
    pub remains: Option<Remains>,
    /// A deletion without progress is reported as blocked after this time.
    pub blocked_after: SignedDuration,
    /// The longest time for which a Tombstone outlives the recorded object.
    pub max_retention: SignedDuration,
}

/// The town that an agent names.
#[derive(Clone, Debug)]
pub enum TownView {
    /// No town has this name.
    Absent(Freshness),
    /// A town has this name. Its UID shows whether the agent is bound to it.
    Present(Freshness, Box<TownFacts>),
    /// The API server did not answer.
    Unknown(Unknown),
}

/// The facts of a town that decisions about its agents need.
#[allow(clippy::struct_excessive_bools)] // The fields are independent facts; they do not form states.
#[derive(Clone, Debug)]
pub struct TownFacts {
    /// The UID of the town.
    pub uid: Uid,
    /// The town carries our finalizer and install label. The town cannot disappear before the operator reads its
    /// agents.
    pub adopted: bool,
    /// The town belongs to another installation.
    pub foreign: bool,
    /// The town has a deletionTimestamp.
    pub deleting: bool,
    /// The town has a tombstone annotation, with any content.
    pub tombstoned: bool,
    /// The town has a tombstone annotation that names its own UID.
    pub own_tombstone: bool,
    /// Pods may start: the town is neither asleep, nor draining, nor suspended.
    pub awake: bool,
    /// The status of the town says that it sleeps.
    pub asleep: bool,
    /// The town drains before sleep or destruction.
    pub draining: bool,
    /// A user has paused the reconciles of the town. The pause includes its agents.
    pub paused: bool,
    /// The status of the town says that it has work.
    pub active: bool,
    /// Whether its recorded activity is work or unknown, so that its pods are probed at the short interval.
    pub has_short_interval: bool,
    /// The rigs of the town.
    pub rigs: Vec<RigFacts>,
    /// `metadata.generation`.
    pub generation: i64,
    /// The time of the last wake.
    pub wake_time: Option<Timestamp>,
    /// The time at which the operator last acted on a wake request.
    pub wake_request_time: Option<Timestamp>,
    /// The intervals of the activity probes.
    pub alarm: ProbeIntervals,
    /// The operator could not decode parts of the spec.
    pub unreadable: bool,
    /// Whether the town has a pod template for agents without their own.
    pub has_agent_template: bool,
    /// The timeout of a drain.
    pub drain_timeout: SignedDuration,
    /// The retention of the Tombstones.
    pub tombstone: TombstonePolicy,
}

/// The intervals of the activity probes of a town.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProbeIntervals {
    /// The interval while the town has work, or while its activity is unknown.
    pub active: SignedDuration,
    /// The interval while the town has no work.
    pub idle: SignedDuration,
}

/// The facts of a rig that decisions about its agents need.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RigFacts {
    /// The name of the rig.
    pub name: String,
    /// The highest number of polecats that work at the same time.
    pub max_polecats: i32,
}

impl TownFacts {
    /// The current interval of the activity probes.
    pub(super) fn cadence(&self) -> SignedDuration {
        if self.has_short_interval { self.alarm.active } else { self.alarm.idle }
    }

    /// The facts of this town for its agents, from the view of the given installation.
    pub fn of(town: &Town, install: &str) -> Option<Self> {
        let meta = &town.metadata;
        let status = town.status.as_ref();
        let deleting = meta.deletion_timestamp.is_some();
        let draining = status.is_some_and(|s| s.drain_time.is_some());
        let says = |type_, is| status.is_some_and(|s| super::conditions::says(&s.conditions, type_, is));
        // A status without the condition Asleep means that the operator has not decided yet.
        let awake = says(condition::ASLEEP, false);
        let waits = status.and_then(|s| s.phase.as_deref()) == Some(TownPhase::Pending.as_str());
        let label = super::meta::label(meta, names::INSTALL);
        Some(Self {
            uid: Uid::of(meta)?,
            adopted: super::meta::has_finalizer(meta, names::FINALIZER) && label == Some(install),
            foreign: label.is_some_and(|l| l != install),
            deleting,
            tombstoned: super::meta::tombstone(meta).is_some(),
            own_tombstone: super::meta::has_own_tombstone(meta),
            awake: !deleting && !draining && awake && !town.spec.suspend && !waits,
            asleep: says(condition::ASLEEP, true),
            draining: draining || deleting,
            paused: super::meta::is_paused(meta),
            active: says(condition::ACTIVE, true),
            has_short_interval: status.is_some_and(|s| super::conditions::has_short_interval(&s.conditions)),
            rigs: town
                .spec
                .rigs
                .iter()
                .map(|r| RigFacts { name: r.name.clone(), max_polecats: r.max_polecats() })
                .collect(),
            generation: meta.generation.unwrap_or_default(),
            wake_time: status.and_then(|s| s.wake_time.as_ref()).map(|t| t.0),
            wake_request_time: status.and_then(|s| s.wake_request_time.as_ref()).map(|t| t.0),
            alarm: ProbeIntervals { active: town.spec.alarm.active.get(), idle: town.spec.alarm.idle.get() },
            unreadable: town.spec.unreadable.is_some(),
            has_agent_template: town.spec.agent_template.is_some(),
            drain_timeout: town.spec.drain.timeout.get(),
            tombstone: town.spec.tombstone.clone(),
        })
    }
}

/// The remains of an owner, read live by its UID. An error is not an empty list.
#[derive(Clone, Debug)]
pub struct Remains {
    /// The Tombstone of the owner.
    pub record: Record,
    /// The agents that are bound to the town. Empty for an agent.
    pub agents: Result<Vec<Arc<Agent>>, Unknown>,
    /// The pods.
    pub pods: Result<Vec<PodFacts>, Unknown>,
    /// The other children, by kind. The operator did not read the kinds that are missing here.
    pub children: BTreeMap<ChildKind, Result<Vec<ChildFacts>, Unknown>>,
    /// The objects that Kubernetes created for the present pods: claims of ephemeral volumes, the volumes behind them,
    /// and claims of devices.
    pub made_for_pods: Result<BTreeSet<TombstoneChild>, Unknown>,
    /// The volumes behind the claims of the owner, including claims that are gone. The operator reads them only when
    /// no pod runs.
    pub volumes: Result<Vec<VolumeFacts>, Unknown>,
    /// The claims that the operator released on purpose, found by their marks.
    pub retained: BTreeSet<Uid>,
    /// Every child of the owner that this process has observed since the start of the destruction.
    pub seen: BTreeSet<TombstoneChild>,
    /// The kinds that do not exist in this cluster. A read of their definitions proves it.
    pub absent_kinds: Vec<&'static str>,
    /// The namespace of the owner. `None`: the API server says that the namespace does not exist. The operator reads
    /// the namespace only before it writes the Tombstone.
    pub namespace: Result<Option<NamespaceFacts>, Unknown>,
    /// From this time on, unanswered creates can no longer take effect. `None`: every create is answered.
    pub settled_at: Option<Timestamp>,
}

impl Remains {
    /// Remains with this record and without any object.
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

    /// Whether the namespace is being deleted. False if the namespace is unknown.
    pub(super) fn goes_with_namespace(&self) -> bool {
        matches!(&self.namespace, Ok(Some(namespace)) if namespace.terminating)
    }
}

/// The facts of a namespace that a Tombstone needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamespaceFacts {
    /// The UID, which distinguishes this namespace from an earlier namespace of the same name.
    pub uid: Uid,
    /// Whether the namespace is being deleted.
    pub terminating: bool,
}

/// The Tombstone of an owner that is being destroyed.
#[derive(Clone, Debug)]
pub enum Record {
    /// The Tombstone exists.
    There(Arc<Tombstone>),
    /// The Tombstone does not exist.
    Missing,
    /// The operator keeps no Tombstone: the kind does not exist here or is being removed, or the owner has no
    /// Tombstone of its own. The annotation replaces the Tombstone.
    NotKept,
    /// The API server did not answer.
    Unknown(Unknown),
}

impl Record {
    /// The children that the Tombstone lists.
    pub fn children(&self) -> &[TombstoneChild] {
        match self {
            Self::There(tombstone) => &tombstone.spec.children,
            Self::Missing | Self::NotKept | Self::Unknown(_) => &[],
        }
    }
}

/// The facts of a Tombstone for its expiry, and for the protection of the destroyed name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TombstoneFacts {
    /// The name, without a namespace.
    pub key: ObjectKey,
    /// The UID.
    pub uid: Uid,
    /// The kind of the destroyed object.
    pub kind: TombstoneKind,
    /// The namespace, name and UID of the destroyed object.
    pub of: OwnerRef,
    /// The UID of the namespace of the destroyed object. `None`: not recorded.
    pub namespace_uid: Option<Uid>,
    /// The creation time of the Tombstone.
    pub created: Timestamp,
    /// The phase of the destruction.
    pub phase: TombstonePhase,
    /// Whether a new object may use the name again.
    pub recreate: Recreate,
    /// The time at which the Tombstone expires.
    pub expire_time: Timestamp,
}

/// A volume behind one of our claims.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VolumeFacts {
    /// The name of the volume.
    pub name: String,
    /// The UID of the volume.
    pub uid: Uid,
    /// The UID of the claim that the volume is bound to.
    pub claim: Option<Uid>,
    /// The volume outlives its claim: its reclaim policy is not Delete.
    pub retained: bool,
    /// The phase of the volume, and the error.
    pub message: String,
}

/// The facts of a pod that decisions need.
#[allow(clippy::struct_excessive_bools)] // The fields are independent facts; they do not form states.
#[derive(Clone, Debug, PartialEq)]
pub struct PodFacts {
    /// The namespace and the name.
    pub key: ObjectKey,
    /// The UID.
    pub uid: Uid,
    /// The town that owns the pod, by label.
    pub town_uid: Option<Uid>,
    /// The agent that owns the pod, by label. `None`: the pod belongs to the town itself.
    pub agent_uid: Option<Uid>,
    /// The installation that created the pod, by label.
    pub install: Option<String>,
    /// `status.phase`.
    pub phase: PodPhase,
    /// The condition Ready.
    pub ready: bool,
    /// The node of the pod.
    pub node: Option<String>,
    /// `metadata.creationTimestamp`.
    pub created: Option<Timestamp>,
    /// `status.startTime`.
    pub started: Option<Timestamp>,
    /// The time since which the condition Ready is True.
    pub ready_since: Option<Timestamp>,
    /// The addresses of the node.
    pub host_ips: Vec<String>,
    /// The time of the delete request: the deletionTimestamp minus the grace period.
    pub stop_requested: Option<Timestamp>,
    /// The pod is deleted with a grace period of zero: none of its containers runs, or a user forced the deletion.
    pub released_by_kubelet: bool,
    /// The finalizers, ours and others.
    pub finalizers: Vec<String>,
    /// The end of the grace period: the deletionTimestamp.
    pub stops_by: Option<Timestamp>,
    /// `spec.terminationGracePeriodSeconds`.
    pub grace_period: Option<i64>,
    /// The address for activity probes. `None`: the pod has no address, or shares the address of its node.
    pub address: Option<String>,
    /// The time since which the condition Ready is not True.
    pub not_ready_since: Option<Timestamp>,
    /// The number of restarts of a container of the template by the kubelet: the highest number of all containers.
    /// Injected containers and sidecars do not count.
    pub container_restarts: i32,
    /// The node caused the last restart: the kubelet lost the containers, for example in a reboot.
    pub restarted_by_node: bool,
    /// `status.reason`, from the kubelet or the garbage collector.
    pub reason: Option<String>,
    /// The kubelet did not admit the pod.
    pub rejected: bool,
    /// A container of the template has run, or may have run.
    pub ran: bool,
    /// The generations of the town and of the agent at the creation of the pod.
    pub generations: Option<(i64, i64)>,
    /// The revision at the creation of the pod.
    pub revision: Option<String>,
    /// The value of the annotation `restart-at` at the creation of the pod.
    pub restart_at: Option<String>,
    /// The hook from the creation of the pod, or the hook that was delivered later.
    pub hook: Option<Hook>,
    /// The end of the containers of the template. `None`: a container still runs or will start again.
    pub termination: Option<Termination>,
    /// The condition DisruptionTarget is True: the cluster ends the pod.
    pub disrupted: bool,
    /// The status describes the pod before any delete request.
    pub reported_untouched: bool,
    /// The cause of the last container failure.
    pub last_crash: Option<String>,
    /// The Secret that contains the token of the pod.
    pub token_secret_name: Option<String>,
    /// The obstacle that keeps the pod from running: a condition reason and a text for users.
    pub trouble: Option<(&'static str, String)>,
    /// The start of the obstacle, if known.
    pub trouble_since: Option<Timestamp>,
    /// The claims that Kubernetes creates for the pod, by kind and name. Kubernetes deletes them with the pod.
    pub claims: Vec<PodClaim>,
}

/// The run time of a pod that is gone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    /// The UID of the pod.
    pub pod: Uid,
    /// The start of the pod.
    pub started: Timestamp,
    /// The end of the pod.
    pub ended: Timestamp,
}

/// A claim that Kubernetes creates for a pod: for an ephemeral volume, or for a device from a template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodClaim {
    /// The kind of the claim.
    pub kind: ChildKind,
    /// The name of the claim, in the namespace of the pod.
    pub name: String,
}

impl PodFacts {
    /// Whether the pod has a deletionTimestamp.
    pub fn deleting(&self) -> bool {
        self.stop_requested.is_some()
    }

    /// Whether no container of the pod runs any more.
    pub fn ended(&self) -> bool {
        matches!(self.phase, PodPhase::Succeeded | PodPhase::Failed) || self.released_by_kubelet
    }
}

/// `status.phase` of a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PodPhase {
    /// Some containers have not started.
    Pending,
    /// The pod is bound to a node, and containers run.
    Running,
    /// Every container ended with exit code 0.
    Succeeded,
    /// Every container ended, at least one of them with an error; or the node evicted the pod.
    Failed,
    /// The node does not report.
    Unknown,
}

/// The end of the containers of a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Termination {
    /// The first exit code that is not 0, else 0.
    pub exit_code: i32,
    /// The time at which the last container ended.
    pub at: Option<Timestamp>,
    /// The termination message, or the reason.
    pub message: String,
    /// A container was killed because of its memory use (OOMKilled).
    pub out_of_memory: bool,
    /// The kubelet lost a container and does not know its exit code.
    pub lost: bool,
}

/// The facts of a volume claim that decisions need.
#[derive(Clone, Debug, PartialEq)]
pub struct ClaimFacts {
    /// The facts that every child has.
    pub child: ChildFacts,
    /// The volume behind the claim is gone (phase Lost).
    pub lost: bool,
    /// The requested size.
    pub requested: Option<Quantity>,
    /// The size of the volume.
    pub capacity: Option<Quantity>,
}

/// The facts of a child that its destruction needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChildFacts {
    /// The kind.
    pub kind: ChildKind,
    /// The namespace and the name.
    pub key: ObjectKey,
    /// The UID.
    pub uid: Uid,
    /// The town that owns the child, by label.
    pub town_uid: Option<Uid>,
    /// The agent that owns the child, by label. `None`: the child belongs to the town itself.
    pub agent_uid: Option<Uid>,
    /// The installation that created the child, by label.
    pub install: Option<String>,
    /// The child has a deletionTimestamp.
    pub deleting: bool,
    /// The finalizers.
    pub finalizers: Vec<String>,
    /// Kubernetes created the child for a pod, by ownerReference. The child is deleted with the pod, and no policy
    /// retains it.
    pub of_pod: bool,
    /// The claim carries the mark that it outlives its owner.
    pub retain: bool,
    /// The mark on the claim that lists the copied labels and annotations.
    pub copied: Option<String>,
}

/// The Service of a town's pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceFacts {
    /// The facts that every child has.
    pub child: ChildFacts,
    /// The ports of the Service.
    pub ports: Vec<Port>,
}

/// The results of the HTTP activity probes of a pod. The results belong to the present pod only; the operator drops
/// the results of an older pod.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ProbeFacts {
    /// A probe is in progress.
    pub under_way: bool,
    /// The time at which the first probe was enqueued.
    pub wanted_since: Option<Timestamp>,
    /// The time at which the last completed probe was sent, with or without an answer.
    pub asked_at: Option<Timestamp>,
    /// The time at which the result of this probe was known.
    pub known_at: Option<Timestamp>,
    /// The answer, or the reason for its absence.
    pub last: Option<Result<Arc<ActivityReport>, String>>,
    /// The time of the last input of a user, from the last answer that contained one. The next answer may omit a user
    /// who has detached, so the operator keeps the time.
    pub last_input: Option<Timestamp>,
    /// The send time of the last probe whose answer reported the pod's own agent in another state than done or failed.
    pub unfinished_at: Option<Timestamp>,
    /// The time since which probes have no answer.
    pub failing_since: Option<Timestamp>,
    /// The number of consecutive probes without an answer.
    pub failures: u32,
    /// The last probe had no answer because the Secret with the token of the pod does not exist.
    pub secret_missing: bool,
}

impl ProbeFacts {
    /// Stores an answer of the pod of this agent, or of a town.
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

    /// The answer of the last probe. `None`: the last probe has no answer.
    pub fn report(&self) -> Option<&ActivityReport> {
        self.last.as_ref()?.as_deref().ok()
    }
}

/// Whether an agent's role and rig have room for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// The role and the rig have room.
    Free,
    /// Another agent holds the role.
    RoleTaken {
        /// The name of this agent.
        holder: String,
    },
    /// The rig already has the highest number of working polecats.
    RigFull {
        /// The position of the agent in the queue, from 1.
        position: usize,
        /// The highest number of working polecats.
        limit: i32,
    },
}
