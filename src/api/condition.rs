//! Condition types and reasons: public constants, because users write alerts on them.
//!
//! Each condition of a kind is always present, so that
//! `kubectl wait --for=condition=Asleep=False` works from the first status on.

/// The object has the state that its spec requires. A sleeping town can be Ready.
pub const READY: &str = "Ready";
/// The operator works on a change that finishes without a user.
pub const RECONCILING: &str = "Reconciling";
/// The operator makes no progress until a user acts.
pub const STALLED: &str = "Stalled";
/// The town has no pod of any kind.
pub const ASLEEP: &str = "Asleep";
/// The town has work.
pub const ACTIVE: &str = "Active";
/// A failure occurred, and the operator retries.
pub const DEGRADED: &str = "Degraded";
/// The deletion is blocked by an object.
pub const DELETION_BLOCKED: &str = "DeletionBlocked";
/// The agent's pod is on a node.
pub const POD_SCHEDULED: &str = "PodScheduled";
/// The agent works on its bead.
pub const WORKING: &str = "Working";
/// The bead on the agent's hook is finished.
pub const FINISHED: &str = "Finished";

/// The conditions of a Town, in the order in which they are shown.
pub const OF_TOWN: [&str; 7] = [READY, RECONCILING, STALLED, ASLEEP, ACTIVE, DEGRADED, DELETION_BLOCKED];
/// The conditions of an Agent, in the order in which they are shown.
pub const OF_AGENT: [&str; 8] =
    [READY, RECONCILING, STALLED, POD_SCHEDULED, WORKING, FINISHED, DEGRADED, DELETION_BLOCKED];

/// `status.observedGeneration` of an object before its first reconcile.
pub(super) const NOT_OBSERVED: i64 = -1;

/// Reasons of conditions and events.
pub mod reason {
    /// The operator has not reconciled the object yet.
    pub const NOT_OBSERVED: &str = "NotObserved";
    /// The agent works on its bead.
    pub const WORKING_ON: &str = "Working";
    /// The object has its expected state.
    pub const AS_EXPECTED: &str = "AsExpected";
    /// The pod is Ready.
    pub const RUNNING: &str = "Running";
    /// The pod starts.
    pub const STARTING: &str = "Starting";
    /// Agents finish before the operator deletes the pods.
    pub const DRAINING: &str = "Draining";
    /// The town sleeps; also the reason of its agents.
    pub const ASLEEP: &str = "Asleep";
    /// The town is awake.
    pub const AWAKE: &str = "Awake";
    /// No work for `sleepAfter`.
    pub const IDLE: &str = "Idle";
    /// `spec.suspend` is true.
    pub const SUSPENDED: &str = "Suspended";
    /// An agent has work.
    pub const WORK: &str = "Work";
    /// The town has no work.
    pub const NO_WORK: &str = "NoWork";
    /// The object is being deleted.
    pub const DESTROYING: &str = "Destroying";
    /// A live object has the tombstone annotation: the operator runs nothing of it, and keeps its data.
    pub const TOMBSTONED: &str = "Tombstoned";
    /// The Tombstone of a destroyed town of the same name blocks the town.
    pub const TOMBSTONE_EXISTS: &str = "TombstoneExists";
    /// A foreign object has the name that the operator needs.
    pub const NAME_TAKEN: &str = "NameTaken";
    /// The agent has no pod template, and its town has no agentTemplate.
    pub const NO_TEMPLATE: &str = "NoTemplate";
    /// The town does not list the agent's rig.
    pub const RIG_NOT_FOUND: &str = "RigNotFound";
    /// The agent's town does not exist.
    pub const TOWN_NOT_FOUND: &str = "TownNotFound";
    /// The agent's town is being deleted.
    pub const TOWN_TERMINATING: &str = "TownTerminating";
    /// The agent is bound to a town that is gone, without a proof of its destruction.
    pub const TOWN_GONE: &str = "TownGone";
    /// The agent was restored from a backup without its status, so the bead on its hook may be finished.
    pub const RESTORED_WITHOUT_STATUS: &str = "RestoredWithoutStatus";
    /// The API server refused a request: admission, permissions, or an invalid object.
    pub const REQUEST_REFUSED: &str = "RequestRefused";
    /// A quota refused to create a child.
    pub const QUOTA_EXCEEDED: &str = "QuotaExceeded";
    /// A `CustomResourceDefinition` of the operator is not installed. The operator creates nothing until then.
    pub const DEFINITION_MISSING: &str = "DefinitionMissing";
    /// The API server did not answer, or returned a temporary error.
    pub const API_ERROR: &str = "APIError";
    /// A pod failed, and the operator replaces it after a pause.
    pub const BACK_OFF: &str = "BackOff";
    /// The container's image cannot be pulled.
    pub const IMAGE_PULL: &str = "ImagePullFailed";
    /// The scheduler finds no node for the pod.
    pub const UNSCHEDULABLE: &str = "Unschedulable";
    /// The kubelet cannot create the containers of the pod: a volume, a Secret or a network is missing.
    pub const CONTAINER_CREATING: &str = "ContainerCreating";
    /// A container of the pod could not be started or exited with an error.
    pub const CONTAINER_FAILED: &str = "ContainerFailed";
    /// The volume claim is being deleted, or belongs to another owner.
    pub const CLAIM_UNUSABLE: &str = "ClaimUnusable";
    /// The agent has had `retry.limit` failures in a row.
    pub const RETRY_LIMIT_EXCEEDED: &str = "RetryLimitExceeded";
    /// The bead on the hook is finished.
    pub const DONE: &str = "Done";
    /// The hook is empty.
    pub const NO_HOOK: &str = "NoHook";
    /// The hook has a bead that is not finished.
    pub const UNFINISHED: &str = "Unfinished";
    /// The agent's pod is gone.
    pub const NO_POD: &str = "NoPod";
    /// The pod is on a node.
    pub const SCHEDULED: &str = "Scheduled";
    /// The kernel killed a container of the pod at its memory limit.
    pub const OOM_KILLED: &str = "OOMKilled";
    /// Too many starts of the town's pod have failed; the next one waits.
    pub const START_FAILED: &str = "StartFailed";
    /// The pod has not been Ready for 10 minutes.
    pub const NOT_READY: &str = "NotReady";
    /// A claim is gone, and the operator creates a new one (event).
    pub const STORAGE_RECREATED: &str = "StorageRecreated";
    /// The node of the pod does not answer.
    pub const NODE_LOST: &str = "NodeLost";
    /// The town waits for a slot to start, because the number of concurrent starts is limited.
    pub const WAITING_FOR_TURN: &str = "WaitingForTurn";
    /// The agent's town has not started yet.
    pub const TOWN_NOT_STARTED: &str = "TownNotStarted";
    /// The activity of the town is unknown.
    pub const ACTIVITY_UNKNOWN: &str = "ActivityUnknown";
    /// Work waits outside the cluster.
    pub const BACKLOG: &str = "Backlog";
    /// A Secret that the spec names, or a key in it, does not exist.
    pub const SECRET_NOT_FOUND: &str = "SecretNotFound";
    /// The volume or its claim is gone, and the operator creates no replacement.
    pub const STORAGE_LOST: &str = "StorageLost";
    /// Another agent has the role.
    pub const ROLE_TAKEN: &str = "RoleTaken";
    /// The rig has its maximum number of working polecats.
    pub const RIG_FULL: &str = "RigFull";
    /// `spec.expiry` is past.
    pub const EXPIRED: &str = "Expired";
    /// `spec.expiry` was past when the town was created.
    pub const EXPIRY_IN_PAST: &str = "ExpiryInPast";
    /// `spec.expiry` with policy Destroy is past, but `spec.deletionProtection` is true: the town sleeps instead.
    pub const DELETION_PROTECTED: &str = "DeletionProtected";
    /// `spec.deletionProtection` is true, but no admission policy refuses a delete.
    pub const DELETION_UNPROTECTED: &str = "DeletionUnprotected";
    /// The pod has an older spec. The operator replaces it when the town is idle or wakes.
    pub const UPDATE_PENDING: &str = "UpdatePending";
    /// Reconciliation is paused.
    pub const PAUSED: &str = "Paused";
    /// The agent waits for a user.
    pub const WAITING: &str = "Waiting";
    /// The agent reports that it makes no progress.
    pub const REPORTED_STUCK: &str = "ReportedStuck";
    /// The agent reports that its bead has failed.
    pub const REPORTED_FAILED: &str = "ReportedFailed";
    /// The town will sleep soon (event).
    pub const SLEEPS_SOON: &str = "SleepsSoon";
    /// The town will soon sleep because it expires (event).
    pub const EXPIRES_SOON: &str = "ExpiresSoon";
    /// The town will soon be destroyed because it expires (event).
    pub const DESTROYS_SOON: &str = "DestroysSoon";
    /// Objects block the deletion.
    pub const BLOCKED: &str = "Blocked";
    /// The retention of a Tombstone is over, but one of its objects still exists (event).
    pub const STILL_THERE: &str = "StillThere";
    /// An object carries the UID of one of our objects and the install label of another operator (event).
    pub const OTHER_INSTALLATION: &str = "OtherInstallation";
    /// An object carries the UID of a town or agent in another namespace (event).
    pub const OWNER_ELSEWHERE: &str = "OwnerElsewhere";
    /// A pod or claim carries the UID of a town or agent that does not exist (event).
    pub const OWNER_GONE: &str = "OwnerGone";
    /// The operator cannot decode parts of the object, and creates nothing for it.
    pub const UNREADABLE: &str = "Unreadable";
    /// `spec.tombstone.retention` is longer than the limit of the operator, and the limit counts.
    pub const RETENTION_CLAMPED: &str = "RetentionClamped";
    /// The operator deleted a Tombstone before the end of its retention, because its namespace had too many (event).
    pub const TOMBSTONE_REMOVED: &str = "TombstoneRemoved";
    /// The object is not being deleted.
    pub const NOT_DELETING: &str = "NotDeleting";
}
