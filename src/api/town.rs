//! The `Town`: a workspace for agents.

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::{CustomResource, KubeSchema};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use super::condition::NOT_OBSERVED;
use super::duration::Duration;
use super::open::{known, known_or_default};
use super::phase;
use super::pod_template::{self, PodTemplate};
use super::storage::Storage;
use super::tombstone::TombstonePolicy;

/// Town is a workspace for several AI coding agents. A town that is awake has pods. A town without work for
/// `sleepAfter` sleeps, and costs only its storage. A deleted town leaves nothing behind.
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
    doc = "Town is a workspace for several AI coding agents. A town that is awake has pods. A town without work for spec.sleepAfter sleeps, and costs only its storage. A deleted town leaves nothing behind.",
    printcolumn(
        name = "Phase",
        type_ = "string",
        json_path = ".status.phase",
        description = "Phase of the town"
    ),
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].status",
        description = "Status of the condition Ready; a sleeping town can be Ready"
    ),
    printcolumn(
        name = "Agents",
        type_ = "string",
        json_path = ".status.agents.summary",
        description = "Number of working agents and of all agents of the town"
    ),
    printcolumn(
        name = "Sleeps-At",
        type_ = "string",
        json_path = ".status.sleepTime",
        description = "Time at which the town falls asleep if it gets no work"
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
        description = "Reason of the condition Ready"
    )
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("!has(self.storage) || has(self.template)").message("spec.storage needs spec.template: without a pod of its own the town cannot mount the volume"),
    validation = Rule::new("!has(self.ports) || has(self.template)").message("spec.ports needs spec.template: without a pod of its own the town cannot serve a port"),
    validation = Rule::new("!has(self.activityProbe) || has(self.template)").message("spec.activityProbe needs spec.template: without a pod of its own the town cannot answer a probe"),
    validation = Rule::new("!has(self.activityProbe) || !has(self.template) || !has(self.template.spec.hostNetwork) || !self.template.spec.hostNetwork").message("spec.activityProbe cannot be used with hostNetwork: the operator would send the token to an address of the node"),
)]
pub struct TownSpec {
    /// unreadable is the error of a spec that could not be decoded completely. The failed parts are absent in this
    /// value. The API has no such field.
    #[serde(skip_deserializing, skip_serializing_if = "pod_template::is_no_field")]
    #[schemars(skip)]
    pub unreadable: Option<String>,
    /// template is the template of the town's own pod, which exists while the town is awake. Without it the town has
    /// no pod of its own, only its agents.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "pod_template::schema")]
    pub template: Option<PodTemplate>,
    /// agentTemplate is the default pod template for agents without spec.template.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "pod_template::schema")]
    pub agent_template: Option<PodTemplate>,
    /// storage is the town's volume. The operator mounts it at `/town` in every container of the town's pod. Without
    /// it the town has no volume.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub storage: Option<Storage>,
    /// ports are the ports of the town's Service, from 1 to 32. The Service gives the town's pod a stable name. Users
    /// find the name in `status.service`, and agents in the variable `GASTOWN_TOWN_HOST`. Without ports the town has no
    /// Service.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(min = 1, max = 32))]
    #[x_kube(
        merge_strategy = ListMerge::Map(vec!["name".into()]),
        validation = Rule::new("self.all(p, self.exists_one(q, q.port == p.port && (has(q.protocol) ? q.protocol : 'TCP') == (has(p.protocol) ? p.protocol : 'TCP')))").message("spec.ports must not name a port number twice for one protocol")
    )]
    pub ports: Vec<Port>,
    /// rigs are the repositories of the town's agents, at most 200. If you remove a rig, the operator destroys the
    /// agents of the rig with their volumes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 200))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub rigs: Vec<Rig>,
    /// backlog is the number of work items outside the cluster. A tracker sets it. A number above zero wakes the town
    /// and keeps it awake. Each number defaults to 0.
    #[serde(default)]
    pub backlog: Backlog,
    /// suspend puts the town to sleep: the operator deletes all its pods, even if the town has work. Defaults to false.
    #[serde(default)]
    pub suspend: bool,
    /// sleepAfter is the time without work after which the town falls asleep, from 10s to 720h. Defaults to 30m.
    #[serde(default = "sleep_after")]
    #[x_kube(validation = Rule::new("duration(self) >= duration('10s') && duration(self) <= duration('720h')").message("spec.sleepAfter must be from 10s to 720h, written like 90s or 1h30m"))]
    pub sleep_after: Duration,
    /// alwaysOn keeps an idle town awake. suspend and expiry still put it to sleep. Defaults to false.
    #[serde(default)]
    pub always_on: bool,
    /// alarm is the period of activity probes, with and without work. Defaults to active 5s and idle 60s.
    #[serde(default)]
    pub alarm: Alarm,
    /// activityProbe configures the HTTP request that asks the town's pod for its activity. Without it only agents and
    /// `backlog` count as work.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub activity_probe: Option<ActivityProbe>,
    /// drain limits the time that working agents get to finish before the operator deletes their pods. Defaults to a
    /// timeout of 2m.
    #[serde(default)]
    pub drain: Drain,
    /// expiry is the time at which the town ends, and its action. Without it the town has no end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expiry: Option<Expiry>,
    /// deletionProtection protects the town from deletion. While it is true, an admission policy refuses the deletion
    /// of the town and of its rigs, and an expiry with policy Destroy puts the town to sleep instead. The deletion of
    /// the namespace still deletes the town. Defaults to false.
    #[serde(default)]
    pub deletion_protection: bool,
    /// tombstone configures the Tombstone, which records the destruction of the town. Defaults to retention 168h and
    /// recreate Allow.
    #[serde(default)]
    pub tombstone: TombstonePolicy,
    /// wakeRequest wakes the town once after each change to a new value. The empty value, the default, requests
    /// nothing. It has at most 253 characters and no control characters.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 253), regex(pattern = r"^[^\x00-\x1f\x7f-\x9f]*$"))]
    pub wake_request: String,
}

fn sleep_after() -> Duration {
    Duration::new("30m")
}

/// Rig is a repository that agents work on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Rig {
    /// name is the name of the rig, unique in the town. It is a DNS label.
    #[schemars(length(min = 1, max = 63), regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub name: String,
    /// gitUrl is the URL of the repository. The agents of the rig find it in the variable `GASTOWN_RIG_URL`. It must
    /// not contain credentials; use credentialsSecretName.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 2048), regex(pattern = r"^[^\s\x00-\x1f\x7f-\x9f]+$"))]
    #[x_kube(validation = Rule::new("!self.matches('^[a-zA-Z][a-zA-Z0-9+.-]*://[^/@]*:[^/@]*@') && !self.matches('^[hH][tT][tT][pP][sS]?://[^/?#]*@')").message("spec.rigs[].gitUrl must not hold a password, and an http or https URL must not hold a user or a token: name a Secret in credentialsSecretName"))]
    pub git_url: Option<String>,
    /// branch is the branch on which work starts. The agents of the rig find it in the variable `GASTOWN_RIG_BRANCH`.
    /// Defaults to `main`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 255), regex(pattern = r"^[^\s\x00-\x1f\x7f-\x9f]+$"))]
    pub branch: Option<String>,
    /// credentialsSecretName is the name of a Secret in the namespace. The operator mounts it read-only at
    /// `/var/run/gastown/git` in the pods of the rig's agents.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"))]
    pub credentials_secret_name: Option<String>,
    /// maxPolecats is the number of polecats of the rig that may work at the same time, from 0 to 1000. Other polecats
    /// wait in the order of their creation. Defaults to 8.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1000))]
    pub max_polecats: Option<i32>,
}

// The schema has no defaults inside lists, because tools that compare whole lists would always see a difference.
impl Rig {
    /// The branch on which work starts.
    pub fn branch(&self) -> &str {
        self.branch.as_deref().unwrap_or("main")
    }

    /// Number of polecats of the rig that may work at the same time.
    pub fn max_polecats(&self) -> i32 {
        self.max_polecats.unwrap_or(8)
    }
}

/// Port is a port of the town's pod and of its Service.
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
    #[schemars(schema_with = "target_port")]
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

/// A port number, or the name of a container's port. Each bound applies to one of the two types.
fn target_port(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "x-kubernetes-int-or-string": true,
        "minimum": 1,
        "maximum": 65535,
        "maxLength": 15,
        "pattern": "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$",
    })
}

/// protocol is the transport protocol of the port: TCP, UDP or SCTP. Defaults to TCP.
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

/// Backlog is the number of work items outside the cluster.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Backlog {
    /// mergeRequests is the number of open merge requests. Defaults to 0.
    #[serde(default)]
    #[schemars(range(min = 0))]
    pub merge_requests: i32,
    /// triage is the number of reports that wait for triage. Defaults to 0.
    #[serde(default)]
    #[schemars(range(min = 0))]
    pub triage: i32,
    /// unassigned is the number of work items without an agent. It counts as work only if the town has a rig. Defaults
    /// to 0.
    #[serde(default)]
    #[schemars(range(min = 0))]
    pub unassigned: i32,
}

/// Alarm is the period of activity probes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Alarm {
    /// active is the period of activity probes while the town has work, from 1s to 10m. Defaults to 5s.
    #[serde(default = "alarm_active")]
    #[x_kube(validation = Rule::new("duration(self) >= duration('1s') && duration(self) <= duration('10m')").message("spec.alarm.active must be from 1s to 10m, written like 5s or 1m30s"))]
    pub active: Duration,
    /// idle is the period of activity probes while the town has no work, from 5s to 1h. Defaults to 60s.
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

/// ActivityProbe configures an activity probe: a `GET` request to a port of the pod, with a bearer token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ActivityProbe {
    /// port is the port of the pod that answers activity probes, from 1 to 65535.
    #[schemars(range(min = 1, max = 65535))]
    pub port: i32,
    /// path is the path of the HTTP request. It begins with a slash. Defaults to `/activity`.
    #[serde(default = "activity_path")]
    #[schemars(length(min = 1, max = 1024), regex(pattern = r"^/[!-~]*$"))]
    pub path: String,
    /// tokenSecretName is the name of a Secret with the bearer token under the key `token`. Without it the operator
    /// creates a Secret with a random token. In both cases the pod finds the token in `/var/run/gastown/token`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"))]
    pub token_secret_name: Option<String>,
}

fn activity_path() -> String {
    "/activity".to_owned()
}

/// Expiry is the time at which a town ends, and its action.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Expiry {
    /// time is the time at which the town expires, in RFC 3339 with at most nine decimals, before the year 9999.
    // The API server accepts times that the operator cannot decode. Without these bounds the operator could not read a
    // stored town.
    #[schemars(regex(
        pattern = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,9})?(Z|[+-][0-9]{2}:[0-9]{2})$"
    ))]
    #[x_kube(validation = Rule::new("self < timestamp('9999-01-01T00:00:00Z')").message("spec.expiry.time must be a time before the year 9999, written like 2030-12-31T18:00:00Z"))]
    pub time: Time,
    /// policy is the action at the expiry. Sleep: the town sleeps until the expiry is changed or removed. Destroy: the
    /// operator deletes the town; while deletionProtection is true the town sleeps instead. Defaults to Sleep.
    #[serde(default)]
    pub policy: ExpiryPolicy,
}

/// policy is the action at the expiry of a town.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ExpiryPolicy {
    /// The operator deletes the town. While `deletionProtection` is true the town sleeps.
    Destroy,
    /// The town sleeps until `expiry` is changed or removed.
    #[default]
    Sleep,
}

/// Drain limits the time that agents get to finish before the town sleeps or is destroyed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Drain {
    /// timeout is the longest time that the operator waits for working agents before it deletes their pods, from 0s (no
    /// wait) to 1h. The `terminationGracePeriodSeconds` of a pod starts after it. Defaults to 2m.
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

/// TownStatus is the last state of a town that the operator observed and decided.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct TownStatus {
    /// observedGeneration is the `metadata.generation` of the spec that this status describes. It is -1 before the first
    /// reconcile.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// phase is a summary of the town's state.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(description = phase::of_town())]
    pub phase: Option<String>,
    /// conditions are the conditions of the town: Ready, Reconciling, Stalled, Asleep, Active, Degraded and
    /// DeletionBlocked. Each is always present.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
    /// asleepReason is the reason why the town sleeps or drains. Idle: no work for `sleepAfter`. Suspended:
    /// `spec.suspend` is true. Expired: `spec.expiry` is past. ActivityUnknown: the activity of the town was unknown for
    /// too long.
    #[serde(default, deserialize_with = "known", skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub asleep_reason: Option<AsleepReason>,
    /// pod is the town's own pod.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pod: Option<PodStatus>,
    /// agents is the number of agents bound to the town, by state.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub agents: Option<AgentCounts>,
    /// lastActiveTime is the last time at which the operator saw work.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_active_time: Option<Time>,
    /// wakeTime is the time at which the town last woke up.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wake_time: Option<Time>,
    /// sleepTime is the time at which the town falls asleep if it gets no work.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sleep_time: Option<Time>,
    /// idleTime is the start of the current idle period after its adjustment. The operator adjusts it after a time of
    /// unknown activity.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub idle_time: Option<Time>,
    /// podMarkTime is the earliest start of the idle timer while the town has a pod: the time at which the pod was
    /// first Ready, or 10 minutes after the creation of the first pod of this start.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pod_mark_time: Option<Time>,
    /// acceptedTime is the time at which the operator first decided to run the town. An expiry that was past at the
    /// creation of the town destroys the town only if the operator accepted it before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub accepted_time: Option<Time>,
    /// activityUnknownTime is the time since which the activity of the town is unknown. The idle timer is paused
    /// since then.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub activity_unknown_time: Option<Time>,
    /// attachTime is the time since which a user is attached. Input of the user counts as work for a limited time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attach_time: Option<Time>,
    /// drainTime is the time at which the town began to drain before its sleep.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub drain_time: Option<Time>,
    /// handledWakeRequest is the last value of `spec.wakeRequest` that the operator handled.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub handled_wake_request: String,
    /// storage is the town's volume claim.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub storage: Option<StorageStatus>,
    /// service is the name of the Service with `spec.ports`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    /// usage is the run time of the town's pods in this month.
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
    /// destroy is the progress of the destruction. It is absent while the town is not being deleted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub destroy: Option<DestroyStatus>,
}

/// asleepReason is the reason why a town sleeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum AsleepReason {
    /// No work for `sleepAfter`.
    Idle,
    /// `spec.suspend`.
    Suspended,
    /// `spec.expiry` is past.
    Expired,
    /// The activity of the town was unknown for too long.
    ActivityUnknown,
}

/// UsageStatus is the run time of a town's pods in one month.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct UsageStatus {
    /// month is the month in UTC, for example `2026-11`.
    pub month: String,
    /// podSeconds is the total run time of all pods in this month until countTime, in seconds. After countTime it does
    /// not include a pod that ended while no operator ran, or that started and ended shortly before the operator ended.
    pub pod_seconds: i64,
    /// countTime is the time until which podSeconds is counted.
    pub count_time: Time,
}

/// PodStatus describes a pod of the operator. After the pod is gone only `startTime` stays.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PodStatus {
    /// name is the name of the pod.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// uid is the UID of the pod.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uid: Option<String>,
    /// nodeName is the name of the pod's node.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node_name: Option<String>,
    /// startTime is the creation time of the pod, or of the last pod if there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start_time: Option<Time>,
    /// containerRestarts is the number of restarts of the pod's containers by the kubelet.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub container_restarts: i32,
    /// readyTime is the first time at which the operator saw the pod Ready. It is absent while the pod was never Ready.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ready_time: Option<Time>,
}

#[allow(clippy::trivially_copy_pass_by_ref)] // Serde requires this signature.
pub(super) fn is_zero(number: &i32) -> bool {
    *number == 0
}

/// AgentCounts is the number of agents by state.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AgentCounts {
    /// total is the number of agents bound to the town.
    pub total: i32,
    /// working is the number of agents that work.
    pub working: i32,
    /// waiting is the number of agents that wait for a user.
    pub waiting: i32,
    /// stuck is the number of agents that report no progress.
    pub stuck: i32,
    /// failed is the number of agents that reached their retry limit.
    pub failed: i32,
    /// summary is the text `working/total` for tables.
    pub summary: String,
}

/// StorageStatus describes a volume claim.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StorageStatus {
    /// claim is the name of the PersistentVolumeClaim.
    pub claim: String,
    /// uid is the UID of the claim. It is absent for an existing claim that the operator did not create.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uid: Option<String>,
    /// capacity is the capacity of the claim's volume. `spec.storage.size` can be lowered to this value.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub capacity: Option<Quantity>,
}

/// RestartsStatus counts the failed starts and disruptions in a row of a pod that runs while its town is awake.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RestartsStatus {
    /// count is the number of failed starts in a row. It restarts at 0 when the pod was Ready for the length of the
    /// retry window, or when the revision changes.
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

/// DestroyStatus is the progress of a destruction.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DestroyStatus {
    /// startTime is the time at which the destruction began.
    pub start_time: Time,
    /// step is the current step. Tombstone: write the Tombstone. Drain: wait for working agents. Credentials: delete
    /// the Secrets of the operator. Agents: delete the agents. Compute: delete the pods. Storage: delete the volumes and
    /// all other objects. Verify: list every kind once more.
    #[serde(default, deserialize_with = "known_or_default")]
    #[schemars(with = "String")]
    pub step: DestroyStep,
    /// blockedBy lists the objects that the current step waits for, at most 20.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 20))]
    pub blocked_by: Vec<BlockedBy>,
}

/// step is a step of a destruction. The steps run in this order. A step begins only after a proof that the step before
/// is complete.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub enum DestroyStep {
    /// The operator writes the tombstone annotation and the Tombstone.
    #[default]
    Tombstone,
    /// Working agents get a limited time to finish.
    Drain,
    /// The operator deletes the Secrets that it created, so that no process can use the town's tokens.
    Credentials,
    /// The operator deletes the agents. Each agent runs its own destruction.
    Agents,
    /// The operator deletes the pods, and waits until they are gone.
    Compute,
    /// The operator deletes the volume claims, their volumes, and all other objects.
    Storage,
    /// The operator lists every kind once more.
    Verify,
}

impl Town {
    /// The town without the default status of the schema, which an object has before its first reconcile.
    #[must_use]
    pub fn observed(mut self) -> Self {
        self.status = self.status.filter(|status| status.observed_generation != Some(NOT_OBSERVED));
        self
    }
}

impl DestroyStep {
    /// The name of the step in the API.
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

/// BlockedBy is an object that blocks the deletion, or a kind that could not be listed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BlockedBy {
    /// kind is the kind of the object that blocks the deletion.
    pub kind: String,
    /// name is the name of the object. It is empty if the kind could not be listed.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// uid is the UID of the object.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub uid: String,
    /// finalizers are the finalizers that keep the object.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub finalizers: Vec<String>,
    /// message is the reason why the deletion waits, or the error of the API server.
    pub message: String,
}
