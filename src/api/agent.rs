//! The `Agent`: one who works in a town.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::crds::NOT_OBSERVED;
use super::duration::Duration;
use super::open::known;
use super::pod_template::{self, PodTemplate};
use super::storage::Storage;
use super::town::{ActivityProbe, DestroyStatus, PodStatus, RestartsStatus, StorageStatus};

/// One who works in a town, in a pod of its own: for one bead after another (mode Task), or as long
/// as the town is awake (mode Session).
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
    doc = "One who works in a town, in a pod of its own: for one bead after another (mode Task), or as long as the town is awake (mode Session).",
    printcolumn(name = "Town", type_ = "string", json_path = ".spec.townName", description = "The agent's town"),
    printcolumn(
        name = "Role",
        type_ = "string",
        json_path = ".spec.role",
        description = "What the agent does in its town"
    ),
    printcolumn(
        name = "Phase",
        type_ = "string",
        json_path = ".status.phase",
        description = "Where the agent is in its life"
    ),
    printcolumn(
        name = "Bead",
        type_ = "string",
        json_path = ".spec.hook.bead",
        description = "The work on the agent's hook"
    ),
    printcolumn(
        name = "Pod",
        type_ = "string",
        json_path = ".status.pod.name",
        description = "The agent's pod"
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    validation = Rule::new("(has(self.spec.identity) ? self.spec.identity : self.metadata.name) == (has(oldSelf.spec.identity) ? oldSelf.spec.identity : oldSelf.metadata.name)").message("spec.identity cannot be changed or removed; where it is absent it is metadata.name").field_path(".spec.identity"),
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
        description = "Why the agent is Ready or not"
    ),
    printcolumn(
        name = "Attempts",
        type_ = "integer",
        json_path = ".status.work.attempts",
        priority = 1,
        description = "Starts for the bead"
    )
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("!(self.role in ['Refinery', 'Polecat']) || has(self.rig)").message("spec.rig is required for the roles Refinery and Polecat: name one of the town's rigs"),
    validation = Rule::new("!has(oldSelf.rig) || (has(self.rig) && self.rig == oldSelf.rig)").message("spec.rig cannot be changed or removed once it is set: create a new agent for the other rig"),
    validation = Rule::new("(has(self.mode) ? self.mode : (self.role == 'Polecat' ? 'Task' : 'Session')) == (has(oldSelf.mode) ? oldSelf.mode : (oldSelf.role == 'Polecat' ? 'Task' : 'Session'))").message("spec.mode cannot be changed, neither by itself nor by a role with another default; make a new agent"),
    validation = Rule::new("!has(self.activityProbe) || (has(self.mode) ? self.mode == 'Session' : self.role != 'Polecat')").message("spec.activityProbe is for agents of mode Session: a Task agent works as long as its pod runs"),
    validation = Rule::new("!has(self.activityProbe) || !has(self.template) || !has(self.template.spec.hostNetwork) || !self.template.spec.hostNetwork").message("spec.activityProbe and hostNetwork do not go together: the token would leave on an address that is the node's"),
    validation = Rule::new("!has(self.ttlAfterFinished) || (has(self.mode) ? self.mode == 'Task' : self.role == 'Polecat')").message("spec.ttlAfterFinished is for agents of mode Task: no other finishes"),
    validation = Rule::new("!(has(self.mode) ? self.mode == 'Task' : self.role == 'Polecat') || !has(self.template) || !has(self.template.spec) || !has(self.template.spec.restartPolicy) || self.template.spec.restartPolicy == 'Never'").message("spec.template.spec.restartPolicy must be Never, or absent, for an agent of mode Task"),
)]
pub struct AgentSpec {
    /// Why parts of the spec could not be decoded; they are absent here. It is no field of the API.
    #[serde(skip_deserializing, skip_serializing_if = "pod_template::is_no_field")]
    #[schemars(skip)]
    pub unreadable: Option<String>,
    /// A Town in the same namespace; cannot be changed.
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"))]
    #[x_kube(validation = Rule::new("self == oldSelf").message("spec.townName cannot be changed; make a new agent in the other town"))]
    pub town_name: String,
    /// What the agent does in its town.
    pub role: Role,
    /// The rig that the agent works on, one of the town's; required for refinery and polecat. Cannot be changed or
    /// removed once it is set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63), regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub rig: Option<String>,
    /// Name of the agent that stays the same across pods; the object's name where absent. Cannot be changed. No
    /// control characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[^\x00-\x1f\x7f-\x9f]*$"))]
    pub identity: Option<String>,
    /// Task: a pod exists only while the bead on the hook is unfinished; exit 0 is done. Session: the
    /// pod lives while the town is awake. Default by role: Polecat Task, others Session.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<Mode>,
    /// The agent's pod; the town's `agentTemplate` where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "pod_template::schema")]
    pub template: Option<PodTemplate>,
    /// The work on the agent's hook. Setting or changing `bead` wakes the town once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hook: Option<Hook>,
    /// The agent's own volume, mounted at `/agent` in every container of its pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub storage: Option<Storage>,
    /// How the agent's pod is asked what the agent does; for mode Session. Without it such an agent counts as
    /// idle.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub activity_probe: Option<ActivityProbe>,
    /// retry bounds failed starts of the agent's pod and failed attempts at a bead.
    #[serde(default)]
    pub retry: Retry,
    /// The agent deletes itself this long after its bead is done or has failed for good; for mode Task, from
    /// 0s to 8760h. Absent: it stays.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("duration(self) >= duration('0s') && duration(self) <= duration('8760h')").message("spec.ttlAfterFinished must be from 0s to 8760h, written like 90s or 1h30m"))]
    pub ttl_after_finished: Option<Duration>,
}

/// What an agent does in its town. It reaches the container as `GASTOWN_ROLE`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Role {
    /// Coordinates the town.
    Mayor,
    /// Merges the work of a rig.
    Refinery,
    /// Does one bead after another on a rig.
    Polecat,
    /// Works with a person.
    Crew,
}

impl Agent {
    /// The agent as the operator sees it: without the status that the schema gives to an object that no operator has
    /// looked at yet.
    #[must_use]
    pub fn observed(mut self) -> Self {
        self.status = self.status.filter(|status| status.observed_generation != Some(NOT_OBSERVED));
        self
    }
}

impl Role {
    /// The role's name, as in the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Mayor => "Mayor",
            Self::Refinery => "Refinery",
            Self::Polecat => "Polecat",
            Self::Crew => "Crew",
        }
    }

    /// The role as containers read it in `GASTOWN_ROLE`: in lower case, as Gas Town has it.
    pub fn env_value(self) -> &'static str {
        match self {
            Self::Mayor => "mayor",
            Self::Refinery => "refinery",
            Self::Polecat => "polecat",
            Self::Crew => "crew",
        }
    }
}

/// How long an agent's pod lives. Task: only while the bead on the hook is unfinished; exit 0 is done.
/// Session: while the town is awake. Where nothing is said a polecat has Task, others Session.
// The schema takes this for the description of the fields of this type, too.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Mode {
    /// While the bead on the hook is unfinished.
    Task,
    /// While the town is awake.
    Session,
}

/// The work on an agent's hook.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Hook {
    /// Name of the piece of work. No control characters.
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[^\x00-\x1f\x7f-\x9f]*$"))]
    pub bead: String,
    /// One line for people. No control characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024), regex(pattern = r"^[^\x00-\x1f\x7f-\x9f]*$"))]
    pub title: Option<String>,
    /// What is to be done; at most 65,536 bytes, without control characters other than tab and line breaks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 65536), regex(pattern = r"^[^\x00-\x08\x0b\x0c\x0e-\x1f]*$"))]
    #[x_kube(validation = Rule::new("size(bytes(self)) <= 65536").message("spec.hook.instructions must be at most 65536 bytes; put what is longer where the agent can fetch it"))]
    pub instructions: Option<String>,
}

/// How often the operator starts an agent that fails.
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

/// What the operator last saw and decided of an agent.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct AgentStatus {
    /// The `metadata.generation` that this status speaks of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Where the agent is in its life: Pending, Starting, Working, Waiting, Stuck, Idle, Done,
    /// Failed, Asleep, Blocked, Tombstoned or Destroying.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub phase: Option<String>,
    /// The mode in force: Task or Session.
    #[serde(default, deserialize_with = "known", skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub mode: Option<Mode>,
    /// The identity in force.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub identity: Option<String>,
    /// The rig of the spec, once the town has listed it. The agent is destroyed when the town no longer lists this
    /// rig; an agent of a rig that the town never listed is kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rig: Option<String>,
    /// Ready, Reconciling, Stalled, PodScheduled, Working, Finished, Degraded, DeletionBlocked.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
    /// The agent's pod.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pod: Option<PodStatus>,
    /// The bead that was last started or delivered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub work: Option<WorkStatus>,
    /// What the agent came with, where it was restored from a backup without its status. It does not begin that bead
    /// until the hook or the annotation `gastown.dev/restart-at` changes: nothing says whether it is done.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub restored: Option<RestoredStatus>,
    /// When the agent was last seen to work.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_activity_time: Option<Time>,
    /// The agent's volume claim.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub storage: Option<StorageStatus>,
    /// startTime is the time at which the operator began to start the agent's pod. It is absent once the pod of a
    /// Session agent was Ready, or the pod of a Task agent ran. A start that takes longer than 10 minutes has failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start_time: Option<Time>,
    /// restarts counts the failed starts and the disruptions of a Session agent's pod in a row.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub restarts: Option<RestartsStatus>,
    /// How far destruction is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub destroy: Option<DestroyStatus>,
}

/// The bead that was last started (Task) or delivered (Session).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct WorkStatus {
    /// The bead.
    pub bead: String,
    /// attempts is the number of failed attempts at this bead in a row, an attempt that runs included.
    pub attempts: i32,
    /// windowStartTime is the time of the first attempt in the row.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub window_start_time: Option<Time>,
    /// When the last attempt began.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start_time: Option<Time>,
    /// When the last attempt ended; absent while it runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub finish_time: Option<Time>,
    /// How the last attempt ended. Done: exit 0; this bead never starts a pod again. Failed: any other end of the
    /// container's own. Interrupted: the operator or the node ended it; it does not count against the limit.
    #[serde(default, deserialize_with = "known", skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub outcome: Option<Outcome>,
    /// The container's termination message, or why the attempt ended.
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
    /// The last 32 beads that were done, the newest last.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub done: Vec<String>,
    /// Digests of the last 1,000 beads that were done, the newest last, in base64: 8 bytes each, the first of the
    /// SHA-256 of the name.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 10668))]
    pub done_digests: String,
}

/// What an agent came with that a backup tool created without its status.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RestoredStatus {
    /// The bead that was on the hook.
    pub bead: String,
    /// The value of the annotation `gastown.dev/restart-at`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub restart_at: String,
}

/// How an attempt at a bead ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Outcome {
    /// Exit 0. Done is terminal: this bead never starts a pod again.
    Done,
    /// Any other exit.
    Failed,
    /// Ended by us or by the node before it was finished; not counted against the limit.
    Interrupted,
}
