//! The `Agent`: a worker in a town.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::condition::NOT_OBSERVED;
use super::duration::Duration;
use super::open::known;
use super::phase;
use super::pod_template::{self, PodTemplate};
use super::storage::Storage;
use super::town::{ActivityProbe, DestroyStatus, PodStatus, RestartsStatus, StorageStatus};

/// Agent is a worker in a town, with its own pod. In mode Task the pod exists while the agent has an unfinished bead. In
/// mode Session the pod exists while the town is awake.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "gastown.dev",
    version = "v1alpha1",
    kind = "Agent",
    namespaced,
    status = "AgentStatus",
    derive = "PartialEq",
    shortname = "ta",
    category = "gastown",
    selectable = ".spec.townName",
    selectable = ".status.phase",
    doc = "Agent is a worker in a town, with its own pod. In mode Task the pod exists while the agent has an unfinished bead. In mode Session the pod exists while the town is awake.",
    printcolumn(
        name = "Town",
        type_ = "string",
        json_path = ".spec.townName",
        description = "Name of the agent's town"
    ),
    printcolumn(
        name = "Role",
        type_ = "string",
        json_path = ".spec.role",
        description = "Role of the agent in its town"
    ),
    printcolumn(
        name = "Phase",
        type_ = "string",
        json_path = ".status.phase",
        description = "Phase of the agent"
    ),
    printcolumn(
        name = "Bead",
        type_ = "string",
        json_path = ".spec.hook.bead",
        description = "Name of the bead on the agent's hook"
    ),
    printcolumn(
        name = "Pod",
        type_ = "string",
        json_path = ".status.pod.name",
        description = "Name of the agent's pod"
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    validation = Rule::new("(has(self.spec.identity) ? self.spec.identity : self.metadata.name) == (has(oldSelf.spec.identity) ? oldSelf.spec.identity : oldSelf.metadata.name)").message("spec.identity cannot be changed or removed; its default is metadata.name").field_path(".spec.identity"),
    printcolumn(
        name = "Node",
        type_ = "string",
        json_path = ".status.pod.nodeName",
        priority = 1,
        description = "Node of the agent's pod"
    ),
    printcolumn(
        name = "Reason",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].reason",
        priority = 1,
        description = "Reason of the condition Ready"
    ),
    printcolumn(
        name = "Attempts",
        type_ = "integer",
        json_path = ".status.work.attempts",
        priority = 1,
        description = "Number of failed attempts in a row at the bead, including a running attempt"
    )
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("!(self.role in ['Refinery', 'Polecat']) || has(self.rig)").message("spec.rig is required for the roles Refinery and Polecat: name one of the town's rigs"),
    validation = Rule::new("!has(oldSelf.rig) || (has(self.rig) && self.rig == oldSelf.rig)").message("spec.rig cannot be changed or removed once it is set: create a new agent for the other rig"),
    validation = Rule::new("(has(self.mode) ? self.mode : (self.role == 'Polecat' ? 'Task' : 'Session')) == (has(oldSelf.mode) ? oldSelf.mode : (oldSelf.role == 'Polecat' ? 'Task' : 'Session'))").message("spec.mode cannot be changed, directly or by a role with another default; create a new agent"),
    validation = Rule::new("!has(self.activityProbe) || (has(self.mode) ? self.mode == 'Session' : self.role != 'Polecat')").message("spec.activityProbe is for agents of mode Session: a Task agent works as long as its pod runs"),
    validation = Rule::new("!has(self.activityProbe) || !has(self.template) || !has(self.template.spec.hostNetwork) || !self.template.spec.hostNetwork").message("spec.activityProbe cannot be used with hostNetwork: the operator would send the token to an address of the node"),
    validation = Rule::new("!has(self.ttlAfterFinished) || (has(self.mode) ? self.mode == 'Task' : self.role == 'Polecat')").message("spec.ttlAfterFinished is for agents of mode Task: a Session agent does not finish"),
    validation = Rule::new("!(has(self.mode) ? self.mode == 'Task' : self.role == 'Polecat') || !has(self.template) || !has(self.template.spec) || !has(self.template.spec.restartPolicy) || self.template.spec.restartPolicy == 'Never'").message("spec.template.spec.restartPolicy must be Never, or absent, for an agent of mode Task"),
)]
pub struct AgentSpec {
    /// unreadable is the error of a spec that could not be decoded completely. The failed parts are absent in this
    /// value. The API has no such field.
    #[serde(skip_deserializing, skip_serializing_if = "pod_template::is_no_field")]
    #[schemars(skip)]
    pub unreadable: Option<String>,
    /// townName is the name of the agent's Town, in the same namespace. It cannot be changed.
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"))]
    #[x_kube(validation = Rule::new("self == oldSelf").message("spec.townName cannot be changed; create a new agent in the other town"))]
    pub town_name: String,
    /// role is the role of the agent in its town. Mayor: coordinates the town; a town has one. Refinery: merges the work
    /// of a rig; a rig has one. Polecat: works on one bead after another on a rig. Crew: works with a user. The agent
    /// finds its role in lower case in the variable `GASTOWN_ROLE`.
    pub role: Role,
    /// rig is the name of the agent's rig, one of the rigs of the town. It is required for the roles Refinery and
    /// Polecat. It cannot be changed or removed after it is set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63), regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub rig: Option<String>,
    /// identity is a name of the agent that is the same in all its pods. It cannot be changed. It has at most 253
    /// characters and no control characters. Defaults to the name of the object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[^\x00-\x1f\x7f-\x9f]*$"))]
    pub identity: Option<String>,
    /// mode is the lifetime of the agent's pod. Task: the pod exists while the bead on the hook is unfinished, and exit
    /// code 0 finishes the bead. Session: the pod exists while the town is awake. Defaults to Task for the role Polecat,
    /// and to Session for all other roles.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<Mode>,
    /// template is the template of the agent's pod. Defaults to the town's spec.agentTemplate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "pod_template::schema")]
    pub template: Option<PodTemplate>,
    /// hook is the work of the agent. A new value of `bead` wakes the town once. Without a hook the agent has no work.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hook: Option<Hook>,
    /// storage is the agent's own volume. The operator mounts it at `/agent` in every container of the agent's pod.
    /// Without it the agent has no volume.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub storage: Option<Storage>,
    /// activityProbe configures the HTTP request that asks the agent's pod for its activity. Only agents of mode Session
    /// may have it. Without it such an agent counts as idle.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub activity_probe: Option<ActivityProbe>,
    /// retry limits failed starts of the agent's pod and failed attempts at a bead. Defaults to a limit of 5 and a
    /// window of 30m.
    #[serde(default)]
    pub retry: Retry,
    /// ttlAfterFinished is the time after which the operator deletes an agent whose bead is finished or has finally
    /// failed, from 0s to 8760h. Only agents of mode Task may have it. Without it the agent stays.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("duration(self) >= duration('0s') && duration(self) <= duration('8760h')").message("spec.ttlAfterFinished must be from 0s to 8760h, written like 90s or 1h30m"))]
    pub ttl_after_finished: Option<Duration>,
}

/// role is the role of an agent in its town. The container finds it in the variable `GASTOWN_ROLE`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Role {
    /// The agent coordinates the town.
    Mayor,
    /// The agent merges the work of a rig.
    Refinery,
    /// The agent works on one bead after another on a rig.
    Polecat,
    /// The agent works with a user.
    Crew,
}

impl Agent {
    /// The agent without the default status of the schema, which an object has before its first reconcile.
    #[must_use]
    pub fn observed(mut self) -> Self {
        self.status = self.status.filter(|status| status.observed_generation != Some(NOT_OBSERVED));
        self
    }
}

impl Role {
    /// The name of the role in the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Mayor => "Mayor",
            Self::Refinery => "Refinery",
            Self::Polecat => "Polecat",
            Self::Crew => "Crew",
        }
    }

    /// The value of the variable `GASTOWN_ROLE`: the role in lower case, as in Gas Town.
    pub fn env_value(self) -> &'static str {
        match self {
            Self::Mayor => "mayor",
            Self::Refinery => "refinery",
            Self::Polecat => "polecat",
            Self::Crew => "crew",
        }
    }
}

/// mode is the lifetime of the agent's pod. Task: the pod exists while the bead on the hook is unfinished, and exit
/// code 0 finishes the bead. Session: the pod exists while the town is awake. Defaults to Task for the role Polecat, and
/// to Session for all other roles.
// The schema also uses the text of this type as the description of an optional field.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Mode {
    /// The pod exists while the bead on the hook is unfinished.
    Task,
    /// The pod exists while the town is awake.
    Session,
}

/// Hook is the work of an agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Hook {
    /// bead is the name of the work item, with at most 253 characters and no control characters.
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[^\x00-\x1f\x7f-\x9f]*$"))]
    pub bead: String,
    /// title is a short description of the work item in one line, with at most 1024 characters and no control characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024), regex(pattern = r"^[^\x00-\x1f\x7f-\x9f]*$"))]
    pub title: Option<String>,
    /// instructions is the description of the work for the agent, with at most 65,536 bytes. Tabs and line breaks are
    /// allowed, other control characters are not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 65536), regex(pattern = r"^[^\x00-\x08\x0b\x0c\x0e-\x1f]*$"))]
    #[x_kube(validation = Rule::new("size(bytes(self)) <= 65536").message("spec.hook.instructions must be at most 65536 bytes; store a longer text in a place that the agent can read"))]
    pub instructions: Option<String>,
}

/// Retry limits the starts of an agent that fails.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Retry {
    /// limit is the number of failed starts and failed attempts in a row, from 1 to 100, after which the agent is
    /// Failed. The default is 5. A Failed agent keeps no town awake.
    #[serde(default = "retry_limit")]
    #[schemars(range(min = 1, max = 100))]
    pub limit: i32,
    /// window is the pause between two attempts of a Failed agent, from 1m to 24h. The default is 30m. It doubles
    /// with each failed attempt, up to 24h. A Session agent whose pod was Ready for this time starts a new count.
    #[serde(default = "retry_window")]
    #[x_kube(validation = Rule::new("duration(self) >= duration('1m') && duration(self) <= duration('24h')").message("spec.retry.window must be from 1m to 24h, written like 90s or 1h30m"))]
    pub window: Duration,
}

impl Default for Retry {
    fn default() -> Self {
        Self { limit: retry_limit(), window: retry_window() }
    }
}

fn retry_limit() -> i32 {
    5
}

fn retry_window() -> Duration {
    Duration::new("30m")
}

/// AgentStatus is the last state of an agent that the operator observed and decided.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct AgentStatus {
    /// observedGeneration is the `metadata.generation` of the spec that this status describes. It is -1 before the first
    /// reconcile.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// phase is a summary of the agent's state.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(description = phase::of_agent())]
    pub phase: Option<String>,
    /// mode is the effective mode of the agent: Task or Session.
    #[serde(default, deserialize_with = "known", skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub mode: Option<Mode>,
    /// identity is the effective identity of the agent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub identity: Option<String>,
    /// rig is the rig of the spec after the town has listed it. The operator destroys the agent when the town no longer
    /// lists this rig. It keeps an agent whose rig the town never listed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rig: Option<String>,
    /// conditions are the conditions of the agent: Ready, Reconciling, Stalled, PodScheduled, Working, Finished, Degraded
    /// and DeletionBlocked. Each is always present.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
    /// pod is the agent's pod.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pod: Option<PodStatus>,
    /// work describes the last bead that was started or delivered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub work: Option<WorkStatus>,
    /// restored describes the hook of an agent that was restored from a backup without its status. The agent does not
    /// start that bead until the hook or the annotation `gastown.dev/restart-at` changes, because the bead may be
    /// finished.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub restored: Option<RestoredStatus>,
    /// lastActivityTime is the last time at which the operator saw the agent work.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_activity_time: Option<Time>,
    /// storage is the agent's volume claim.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub storage: Option<StorageStatus>,
    /// startTime is the time at which the operator began to start the agent's pod. It is absent once the pod of a
    /// Session agent was Ready, or the pod of a Task agent ran. A start that takes longer than 10 minutes has failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start_time: Option<Time>,
    /// restarts counts the failed starts and the disruptions of a Session agent's pod in a row.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub restarts: Option<RestartsStatus>,
    /// destroy is the progress of the destruction. It is absent while the agent is not being deleted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub destroy: Option<DestroyStatus>,
}

/// WorkStatus describes the last bead that was started (mode Task) or delivered (mode Session).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct WorkStatus {
    /// bead is the name of the bead.
    pub bead: String,
    /// attempts is the number of failed attempts at this bead in a row, including a running attempt.
    pub attempts: i32,
    /// windowStartTime is the time of the first attempt in the row.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub window_start_time: Option<Time>,
    /// startTime is the time at which the last attempt began.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start_time: Option<Time>,
    /// finishTime is the time at which the last attempt ended. It is absent while the attempt runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub finish_time: Option<Time>,
    /// outcome is the result of the last attempt. Done: the containers ended with exit code 0, and this bead never starts
    /// a pod again. Failed: a container ended by itself in another way. Interrupted: the operator, the node or a user
    /// ended the attempt, and it does not count against the limit.
    #[serde(default, deserialize_with = "known", skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub outcome: Option<Outcome>,
    /// message is the termination message of the container, or the reason why the attempt ended.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// disruptions is the number of attempts in a row that the cluster or a user ended. They do not count as failed
    /// attempts, but they lengthen the pause before the next attempt.
    #[serde(default, skip_serializing_if = "super::town::is_zero")]
    pub disruptions: i32,
    /// external is true if the cause of the last failed attempt lies outside of the container: image, quota,
    /// admission, scheduling, volume or Secret.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub external: bool,
    /// revision is a digest of what the failed attempts were made from, and past the limit of the
    /// named Secrets. A change of it ends the count.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub revision: String,
    /// done lists the last 32 finished beads, the newest last.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub done: Vec<String>,
    /// doneDigests contains the digests of the last 1,000 finished beads in base64, the newest last. A digest is the
    /// first 8 bytes of the SHA-256 of the bead's name.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 10668))]
    pub done_digests: String,
}

/// RestoredStatus describes the hook of an agent that a backup tool created without its status.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RestoredStatus {
    /// bead is the bead that was on the hook.
    pub bead: String,
    /// restartAt is the value of the annotation `gastown.dev/restart-at` at the restore.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub restart_at: String,
}

/// outcome is the result of an attempt at a bead.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Outcome {
    /// The containers ended with exit code 0. The bead never starts a pod again.
    Done,
    /// A container ended by itself in another way.
    Failed,
    /// The operator, the node or a user ended the attempt. It does not count against the limit.
    Interrupted,
}
