//! The `Town`: a workspace in which agents work.

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::crds::NOT_OBSERVED;
use super::duration::Duration;
use super::open::{known, known_or_default};
use super::pod_template::{self, PodTemplate};
use super::storage::Storage;
use super::tombstone::TombstonePolicy;

/// A town: a workspace in which several AI coding agents work. While it is awake it has pods; when
/// it has had no work for `sleepAfter` it sleeps and costs nothing but its storage; when it is
/// deleted nothing of it is left.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "gastown.dev",
    version = "v1alpha1",
    kind = "Town",
    namespaced,
    status = "TownStatus",
    derive = "PartialEq",
    shortname = "tw",
    category = "gastown",
    selectable = ".status.phase",
    doc = "A town: a workspace in which several AI coding agents work. Awake it has pods, asleep it costs nothing but its storage, deleted it leaves nothing.",
    printcolumn(
        name = "Phase",
        type_ = "string",
        json_path = ".status.phase",
        description = "Where the town is in its life"
    ),
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].status",
        description = "Whether the town is what its spec asks for, a sleeping one included"
    ),
    printcolumn(
        name = "Agents",
        type_ = "string",
        json_path = ".status.agents.summary",
        description = "Agents that work, of all bound to the town"
    ),
    printcolumn(
        name = "Sleeps-At",
        type_ = "string",
        json_path = ".status.sleepTime",
        description = "When the town sleeps if no work comes"
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(
        name = "Node",
        type_ = "string",
        json_path = ".status.pod.nodeName",
        priority = 1,
        description = "Node of the town's pod"
    ),
    printcolumn(
        name = "Reason",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].reason",
        priority = 1,
        description = "Why the town is Ready or not"
    )
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("!has(self.storage) || has(self.template)").message("spec.storage needs spec.template: without a pod of the town's own nothing would mount the volume"),
    validation = Rule::new("!has(self.ports) || has(self.template)").message("spec.ports needs spec.template: without a pod of the town's own nothing would answer"),
    validation = Rule::new("!has(self.activityProbe) || has(self.template)").message("spec.activityProbe needs spec.template: without a pod of the town's own nothing would answer"),
    validation = Rule::new("!has(self.activityProbe) || !has(self.template) || !has(self.template.spec.hostNetwork) || !self.template.spec.hostNetwork").message("spec.activityProbe and hostNetwork do not go together: the token would leave on an address that is the node's"),
)]
pub struct TownSpec {
    /// Why parts of the spec could not be decoded; they are absent here. It is no field of the API.
    #[serde(skip_deserializing, skip_serializing_if = "pod_template::is_no_field")]
    #[schemars(skip)]
    pub unreadable: Option<String>,
    /// The town's own containers: one pod while the town is awake. Absent: the town is only its agents.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "pod_template::schema")]
    pub template: Option<PodTemplate>,
    /// Pod template of agents that bring none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "pod_template::schema")]
    pub agent_template: Option<PodTemplate>,
    /// The town's volume, mounted at `/town` in every container of the town's pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub storage: Option<Storage>,
    /// A Service of the town's pod, so that people and agents reach it by a stable name: people find it in
    /// `status.service`, agents in `GASTOWN_TOWN_HOST`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(min = 1, max = 32))]
    #[x_kube(
        merge_strategy = ListMerge::Map(vec!["name".into()]),
        validation = Rule::new("self.all(p, self.exists_one(q, q.port == p.port && (has(q.protocol) ? q.protocol : 'TCP') == (has(p.protocol) ? p.protocol : 'TCP')))").message("spec.ports must not name a port number twice for one protocol")
    )]
    pub ports: Vec<Port>,
    /// Repositories that agents work on. Removing one destroys its agents.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 200))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub rigs: Vec<Rig>,
    /// Work known outside the cluster, set by a tracker. Above zero it wakes the town and keeps it awake.
    #[serde(default)]
    pub backlog: Backlog,
    /// Asleep by decree: no pods, whatever the work.
    #[serde(default)]
    pub suspend: bool,
    /// Time without work after which the town sleeps; from 10s to 720h.
    #[serde(default = "sleep_after")]
    #[x_kube(validation = Rule::new("duration(self) >= duration('10s') && duration(self) <= duration('720h')").message("spec.sleepAfter must be from 10s to 720h, written like 90s or 1h30m"))]
    pub sleep_after: Duration,
    /// Never sleeps on its own.
    #[serde(default)]
    pub always_on: bool,
    /// How often activity probes ask.
    #[serde(default)]
    pub alarm: Alarm,
    /// How the town's pod is asked whether it has work. Without it, only agents and `backlog` are work.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub activity_probe: Option<ActivityProbe>,
    /// How agents are let finish before their pods go.
    #[serde(default)]
    pub drain: Drain,
    /// When the town ends, and how.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expiry: Option<Expiry>,
    /// Nobody deletes the town while this is true: an admission policy refuses it, and `expiry` with the policy
    /// Destroy puts it to sleep. Only its namespace takes it along.
    #[serde(default)]
    pub deletion_protection: bool,
    /// The record that outlives the town.
    #[serde(default)]
    pub tombstone: TombstonePolicy,
    /// Change it to anything new to wake the town once; empty is no request. No control characters.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 253), regex(pattern = r"^[^\x00-\x1f\x7f-\x9f]*$"))]
    pub wake_request: String,
}

fn sleep_after() -> Duration {
    Duration::new("30m")
}

/// A repository that agents work on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Rig {
    /// Name of the rig, unique in the town; a DNS label.
    #[schemars(length(min = 1, max = 63), regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub name: String,
    /// Where the repository is; its agents find it in `GASTOWN_RIG_URL`. Credentials do not belong here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 2048), regex(pattern = r"^[^\s\x00-\x1f\x7f-\x9f]+$"))]
    #[x_kube(validation = Rule::new("!self.matches('^[a-zA-Z][a-zA-Z0-9+.-]*://[^/@]*:[^/@]*@') && !self.matches('^[hH][tT][tT][pP][sS]?://[^/?#]*@')").message("spec.rigs[].gitUrl must not hold a password, nor a user or a token where it is http or https: name a Secret in credentialsSecretName"))]
    pub git_url: Option<String>,
    /// The branch that work starts from, `main` where absent; its agents find it in `GASTOWN_RIG_BRANCH`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 255), regex(pattern = r"^[^\s\x00-\x1f\x7f-\x9f]+$"))]
    pub branch: Option<String>,
    /// A Secret that agents of the rig find, read-only, at `/var/run/gastown/git`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"))]
    pub credentials_secret_name: Option<String>,
    /// Polecats of the rig that may work at once, from 0 to 1000, 8 where absent; further ones wait in order of
    /// creation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1000))]
    pub max_polecats: Option<i32>,
}

// The schema has no defaults inside lists: tools that compare a list as a whole would see a difference for ever.
impl Rig {
    /// The branch that work starts from.
    pub fn branch(&self) -> &str {
        self.branch.as_deref().unwrap_or("main")
    }

    /// Polecats of the rig that may work at once.
    pub fn max_polecats(&self) -> i32 {
        self.max_polecats.unwrap_or(8)
    }
}

/// A port of the town's pod that its Service offers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Port {
    /// name is the name of the port in the Service, unique in the town; a DNS label of 1 to 63 characters.
    #[schemars(length(min = 1, max = 63), regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub name: String,
    /// port is the number of the port in the Service, from 1 to 65535, unique for its protocol.
    #[schemars(range(min = 1, max = 65535))]
    pub port: i32,
    /// targetPort is the port of the town's pod: a number from 1 to 65535, or the name of a container's port. The
    /// default is the number in port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("type(self) == int ? self >= 1 && self <= 65535 : self.size() <= 15 && self.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$')").message("spec.ports[].targetPort must be a number from 1 to 65535, or the name of a container's port with at most 15 lower-case letters, digits and '-'"))]
    pub target_port: Option<IntOrString>,
    /// protocol is TCP, UDP or SCTP. The default is TCP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocol: Option<Protocol>,
    /// appProtocol is the application protocol of the port, for example http or kubernetes.io/h2c. Meshes and gateways read it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(min = 1, max = 253),
        regex(pattern = r"^([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$")
    )]
    pub app_protocol: Option<String>,
}

/// The transport protocol of a port.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Protocol {
    /// TCP.
    #[default]
    #[serde(rename = "TCP")]
    Tcp,
    /// UDP.
    #[serde(rename = "UDP")]
    Udp,
    /// SCTP.
    #[serde(rename = "SCTP")]
    Sctp,
}

impl Protocol {
    /// The protocol's name, as in the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Tcp => "TCP",
            Self::Udp => "UDP",
            Self::Sctp => "SCTP",
        }
    }
}

impl Port {
    /// The port with its defaults.
    #[must_use]
    pub fn resolved(&self) -> Self {
        Self {
            target_port: Some(self.target_port.clone().unwrap_or(IntOrString::Int(self.port))),
            protocol: Some(self.protocol.unwrap_or_default()),
            ..self.clone()
        }
    }
}

/// Work known outside the cluster.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Backlog {
    /// Merge requests that wait.
    #[serde(default)]
    #[schemars(range(min = 0))]
    pub merge_requests: i32,
    /// Reports that wait to be looked through.
    #[serde(default)]
    #[schemars(range(min = 0))]
    pub triage: i32,
    /// Pieces of work that nobody has yet; they count if the town has a rig.
    #[serde(default)]
    #[schemars(range(min = 0))]
    pub unassigned: i32,
}

/// How often activity probes ask.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Alarm {
    /// While there is work, from 1s to 10m.
    #[serde(default = "alarm_active")]
    #[x_kube(validation = Rule::new("duration(self) >= duration('1s') && duration(self) <= duration('10m')").message("spec.alarm.active must be from 1s to 10m, written like 5s or 1m30s"))]
    pub active: Duration,
    /// While there is none, from 5s to 1h.
    #[serde(default = "alarm_idle")]
    #[x_kube(validation = Rule::new("duration(self) >= duration('5s') && duration(self) <= duration('1h')").message("spec.alarm.idle must be from 5s to 1h, written like 60s or 1m30s"))]
    pub idle: Duration,
}

impl Default for Alarm {
    fn default() -> Self {
        Self { active: alarm_active(), idle: alarm_idle() }
    }
}

fn alarm_active() -> Duration {
    Duration::new("5s")
}

fn alarm_idle() -> Duration {
    Duration::new("60s")
}

/// How a pod is asked for its activity: `GET` on a port of its own address, with a bearer token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ActivityProbe {
    /// The port.
    #[schemars(range(min = 1, max = 65535))]
    pub port: i32,
    /// The path.
    #[serde(default = "activity_path")]
    #[schemars(length(min = 1, max = 1024), regex(pattern = r"^/[!-~]*$"))]
    pub path: String,
    /// A Secret whose key `token` is the bearer token; absent, the operator makes one. Either way the pod
    /// finds it at `/var/run/gastown/token`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"))]
    pub token_secret_name: Option<String>,
}

fn activity_path() -> String {
    "/activity".to_owned()
}

/// When a town ends, and how.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Expiry {
    /// The time, as RFC 3339 with at most nine decimals, before the year 9999.
    // The API server takes more for a time than can be read as one: without these bounds a town could be
    // stored of which the operator would know nothing.
    #[schemars(regex(
        pattern = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,9})?(Z|[+-][0-9]{2}:[0-9]{2})$"
    ))]
    #[x_kube(validation = Rule::new("self < timestamp('9999-01-01T00:00:00Z')").message("spec.expiry.time must be a time before the year 9999, written like 2030-12-31T18:00:00Z"))]
    pub time: Time,
    /// What happens then.
    #[serde(default)]
    pub policy: ExpiryPolicy,
}

/// What happens to a town whose time is up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ExpiryPolicy {
    /// It is deleted, as by a person; while `deletionProtection` is true it sleeps.
    Destroy,
    /// It sleeps until `expiry` is moved or removed.
    #[default]
    Sleep,
}

/// How agents are let finish when the town sleeps or is destroyed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Drain {
    /// Longest time to wait for agents that work, from 0s (at once) to 1h. The pods' own
    /// `terminationGracePeriodSeconds` comes after it.
    #[serde(default = "drain_timeout")]
    #[x_kube(validation = Rule::new("duration(self) >= duration('0s') && duration(self) <= duration('1h')").message("spec.drain.timeout must be from 0s to 1h, written like 90s or 1h30m"))]
    pub timeout: Duration,
}

impl Default for Drain {
    fn default() -> Self {
        Self { timeout: drain_timeout() }
    }
}

fn drain_timeout() -> Duration {
    Duration::new("2m")
}

/// What the operator last saw and decided of a town.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct TownStatus {
    /// The `metadata.generation` that this status speaks of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Where the town is in its life: Pending, Starting, Running, Idle, Draining, Asleep, Blocked,
    /// Tombstoned or Destroying.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub phase: Option<String>,
    /// Ready, Reconciling, Stalled, Asleep, Active, Degraded, DeletionBlocked.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
    /// Why the town sleeps, or is about to. Idle: no work for `sleepAfter`. Suspended: `spec.suspend`. Expired:
    /// `spec.expiry` is past. ActivityUnknown: for too long it could not be found out whether the town has work.
    #[serde(default, deserialize_with = "known", skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub asleep_reason: Option<AsleepReason>,
    /// The town's own pod.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pod: Option<PodStatus>,
    /// Agents bound to the town, by state.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub agents: Option<AgentCounts>,
    /// When work was last seen.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_active_time: Option<Time>,
    /// When the town was last woken.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wake_time: Option<Time>,
    /// When the town sleeps if no work comes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sleep_time: Option<Time>,
    /// From when idle time is counted, where that is none of the other times: after its activity was unknown.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub idle_time: Option<Time>,
    /// PodMarkTime is the earliest start of the idle clock while the town has a pod: the time at which the pod was
    /// first Ready, or 10 minutes after the first pod of this start was created.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pod_mark_time: Option<Time>,
    /// AcceptedTime is the time at which the operator first decided to run the town. An expiry that was past at the
    /// creation of the town destroys it only if the town was accepted before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub accepted_time: Option<Time>,
    /// Since when nobody can say whether the town has work; the idle clock stands still meanwhile.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub activity_unknown_time: Option<Time>,
    /// Since when a person is attached; their input counts as work for a bounded time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attach_time: Option<Time>,
    /// When the town began to drain before sleeping.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub drain_time: Option<Time>,
    /// The value of `spec.wakeRequest` that was last acted on.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub handled_wake_request: String,
    /// The town's volume claim.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub storage: Option<StorageStatus>,
    /// Name of the Service that offers `spec.ports`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    /// How long pods of the town ran this month.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub usage: Option<UsageStatus>,
    /// startTime is the time at which the operator began to start the town's pod. It is absent once the pod was
    /// Ready. A start that is not Ready 10 minutes after this time has failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start_time: Option<Time>,
    /// wakeRequestTime is the time at which the operator acted on the last `spec.wakeRequest`. Each failed agent
    /// gets one attempt after it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wake_request_time: Option<Time>,
    /// restarts counts the failed starts and the disruptions of the town's pod in a row.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub restarts: Option<RestartsStatus>,
    /// How far destruction is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub destroy: Option<DestroyStatus>,
}

/// Why a town sleeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum AsleepReason {
    /// No work for `sleepAfter`.
    Idle,
    /// `spec.suspend`.
    Suspended,
    /// `spec.expiry` is past.
    Expired,
    /// For too long nobody could say whether the town has work.
    ActivityUnknown,
}

/// How long pods of a town ran within a month.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct UsageStatus {
    /// The month, UTC, for example `2026-11`.
    pub month: String,
    /// Seconds that pods ran in it, all pods added up, until `since`. A pod that went while no operator ran, or that came
    /// and went before an operator that ended could write it down, is not counted from `since` on.
    pub pod_seconds: i64,
    /// Until when they are counted.
    pub count_time: Time,
}

/// A pod of ours. Once it is gone only `startTime` stays.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PodStatus {
    /// Name of the pod.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// UID of the pod.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uid: Option<String>,
    /// Node of the pod.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node_name: Option<String>,
    /// When the pod, or the last one, was created.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start_time: Option<Time>,
    /// How often the kubelet has started its containers anew.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub container_restarts: i32,
    /// ReadyTime is the time at which the pod was first seen Ready. It is absent while the pod was never Ready.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ready_time: Option<Time>,
}

#[allow(clippy::trivially_copy_pass_by_ref)] // The signature that serde asks for.
pub(super) fn is_zero(number: &i32) -> bool {
    *number == 0
}

/// Numbers of agents.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AgentCounts {
    /// Bound to the town.
    pub total: i32,
    /// With work.
    pub working: i32,
    /// Waiting for a person.
    pub waiting: i32,
    /// Agents that report no progress.
    pub stuck: i32,
    /// Past their limit of retries.
    pub failed: i32,
    /// `working/total`, for people.
    pub summary: String,
}

/// A volume claim of ours.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StorageStatus {
    /// Name of the claim.
    pub claim: String,
    /// UID of the claim, where the operator made it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uid: Option<String>,
    /// Capacity of the volume behind the claim: `spec.storage.size` can be lowered to it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub capacity: Option<Quantity>,
}

/// The failed starts and disruptions in a row of a pod that runs while its town is awake.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RestartsStatus {
    /// count is the number of failed starts in a row. It ends when the pod was Ready for the length of the retry
    /// window, or when the revision changes.
    pub count: i32,
    /// windowStartTime is the time of the first failed start in the row.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub window_start_time: Option<Time>,
    /// disruptions is the number of disruptions in a row: evictions, preemptions, lost nodes and deletions by
    /// others. A disruption is not a failed start, but it lengthens the pause before the next start.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub disruptions: i32,
    /// failureTime is the time of the last failed start or disruption. The pause before the next start begins here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure_time: Option<Time>,
    /// message is the cause of the last failed start, in the words of the component that reported it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// external is true if the cause of the last failed start lies outside of the container: image, quota,
    /// admission, scheduling, volume or Secret.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub external: bool,
    /// revision is a digest of what the failed starts were made from, and past the limit of the
    /// named Secrets. A change of it ends the count.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub revision: String,
}

/// How far destruction is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DestroyStatus {
    /// When destruction began.
    pub start_time: Time,
    /// The step under way when this was last written: Tombstone, Drain, Credentials, Agents, Compute, Rest or Verify.
    #[serde(default, deserialize_with = "known_or_default")]
    #[schemars(with = "String")]
    pub step: DestroyStep,
    /// What is awaited.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 20))]
    pub blocked_by: Vec<BlockedBy>,
}

/// The steps of destruction, in their order. A step begins only when the one before it is proven
/// done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub enum DestroyStep {
    /// The tombstone is made durable.
    #[default]
    Tombstone,
    /// Agents that work are let finish, for a bounded time.
    Drain,
    /// The Secrets that we made are deleted, so that nothing can act in its name.
    Credentials,
    /// The agents are deleted; each runs its own destruction.
    Agents,
    /// The pods are deleted and waited for.
    Compute,
    /// Volume claims, the volumes behind them, and whatever else there is.
    Storage,
    /// Every kind is listed once more.
    Verify,
}

impl Town {
    /// The town as the operator sees it: without the status that the schema gives to an object that no operator has
    /// looked at yet.
    #[must_use]
    pub fn observed(mut self) -> Self {
        self.status = self.status.filter(|status| status.observed_generation != Some(NOT_OBSERVED));
        self
    }
}

impl DestroyStep {
    /// The step's name, as in the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Tombstone => "Tombstone",
            Self::Drain => "Drain",
            Self::Credentials => "Credentials",
            Self::Agents => "Agents",
            Self::Compute => "Compute",
            Self::Storage => "Storage",
            Self::Verify => "Verify",
        }
    }
}

/// An object, or a question that got no answer, that destruction waits for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BlockedBy {
    /// Kind of the object.
    pub kind: String,
    /// Name of the object; empty where a list got no answer.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// UID of the object.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub uid: String,
    /// Finalizers that hold the object.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub finalizers: Vec<String>,
    /// What is awaited, or the API server's own error text.
    pub message: String,
}
