//! Condition types and reasons: public constants, because people write alerts on them.
//!
//! All conditions of a kind are always present, so that
//! `kubectl wait --for=condition=Asleep=False` works from the first status on.

/// The object is what its spec asks for, a sleeping town included.
pub const READY: &str = "Ready";
/// Something is under way that ends by itself.
pub const RECONCILING: &str = "Reconciling";
/// Nothing more happens until a person acts.
pub const STALLED: &str = "Stalled";
/// No pod of the town exists, of whatever purpose.
pub const ASLEEP: &str = "Asleep";
/// The town has work.
pub const ACTIVE: &str = "Active";
/// Something went wrong that the operator goes on about by itself.
pub const DEGRADED: &str = "Degraded";
/// Deletion waits for something that does not go.
pub const DELETION_BLOCKED: &str = "DeletionBlocked";
/// The agent's pod is on a node.
pub const POD_SCHEDULED: &str = "PodScheduled";
/// The agent works on its bead.
pub const WORKING: &str = "Working";
/// The bead on the agent's hook is done.
pub const FINISHED: &str = "Finished";

/// The conditions of a Town, in the order in which they are shown.
pub const OF_TOWN: [&str; 7] = [READY, RECONCILING, STALLED, ASLEEP, ACTIVE, DEGRADED, DELETION_BLOCKED];
/// The conditions of an Agent, in the order in which they are shown.
pub const OF_AGENT: [&str; 8] =
    [READY, RECONCILING, STALLED, POD_SCHEDULED, WORKING, FINISHED, DEGRADED, DELETION_BLOCKED];

/// Reasons of conditions and events.
pub mod reason {
    /// The operator has not looked at the object yet.
    pub const NOT_OBSERVED: &str = "NotObserved";
    /// The agent works on its bead.
    pub const WORKING_ON: &str = "Working";
    /// Everything is as it should be; nothing to say.
    pub const AS_EXPECTED: &str = "AsExpected";
    /// The pod is Ready.
    pub const RUNNING: &str = "Running";
    /// The pod is being started.
    pub const STARTING: &str = "Starting";
    /// Agents are let finish before pods go.
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
    /// Nobody has work.
    pub const NO_WORK: &str = "NoWork";
    /// The object is being deleted.
    pub const DESTROYING: &str = "Destroying";
    /// A live object carries the tombstone annotation: nothing of it is run, its data is kept.
    pub const TOMBSTONED: &str = "Tombstoned";
    /// The record of a destroyed town of the same name forbids a new one.
    pub const TOMBSTONE_EXISTS: &str = "TombstoneExists";
    /// A name that we need is taken by an object that is not ours.
    pub const NAME_TAKEN: &str = "NameTaken";
    /// Neither the agent nor its town has a pod template.
    pub const NO_TEMPLATE: &str = "NoTemplate";
    /// The town does not list the agent's rig.
    pub const RIG_NOT_FOUND: &str = "RigNotFound";
    /// The agent's town does not exist (yet).
    pub const TOWN_NOT_FOUND: &str = "TownNotFound";
    /// The agent's town is being deleted.
    pub const TOWN_TERMINATING: &str = "TownTerminating";
    /// The agent is bound to a town that is gone, and nothing proves that it was destroyed.
    pub const TOWN_GONE: &str = "TownGone";
    /// The agent was restored from a backup without its status: nothing says whether the bead on its hook is done.
    pub const RESTORED_WITHOUT_STATUS: &str = "RestoredWithoutStatus";
    /// The API server refused a request: admission, permissions, or what was asked for.
    pub const REQUEST_REFUSED: &str = "RequestRefused";
    /// A quota refused to create a child.
    pub const QUOTA_EXCEEDED: &str = "QuotaExceeded";
    /// A `CustomResourceDefinition` of ours is not installed: nothing is created meanwhile.
    pub const DEFINITION_MISSING: &str = "DefinitionMissing";
    /// The API server did not answer, or with an error that may pass.
    pub const API_ERROR: &str = "APIError";
    /// A pod failed and is replaced after a while.
    pub const BACK_OFF: &str = "BackOff";
    /// The container's image cannot be pulled.
    pub const IMAGE_PULL: &str = "ImagePullFailed";
    /// No node takes the pod.
    pub const UNSCHEDULABLE: &str = "Unschedulable";
    /// The kubelet cannot create the containers of the pod: a volume, a Secret or a network is missing.
    pub const CONTAINER_CREATING: &str = "ContainerCreating";
    /// A container of the pod could not be started or exited with an error.
    pub const CONTAINER_FAILED: &str = "ContainerFailed";
    /// The volume claim is being deleted, or belongs to somebody else.
    pub const CLAIM_UNUSABLE: &str = "ClaimUnusable";
    /// The agent has used up `retry.limit` starts within `retry.window`.
    pub const RETRY_LIMIT_EXCEEDED: &str = "RetryLimitExceeded";
    /// The bead on the hook is done.
    pub const DONE: &str = "Done";
    /// There is nothing on the hook.
    pub const NO_HOOK: &str = "NoHook";
    /// The hook has a bead that is not finished.
    pub const UNFINISHED: &str = "Unfinished";
    /// The agent's pod is gone.
    pub const NO_POD: &str = "NoPod";
    /// The pod is on a node.
    pub const SCHEDULED: &str = "Scheduled";
    /// A container of the pod was killed because it used more memory than it may.
    pub const OOM_KILLED: &str = "OOMKilled";
    /// Too many starts of the town's pod have failed; the next one waits.
    pub const START_FAILED: &str = "StartFailed";
    /// The pod has not been Ready for 10 minutes.
    pub const NOT_READY: &str = "NotReady";
    /// A claim that was there is gone, and a new one is made (event).
    pub const STORAGE_RECREATED: &str = "StorageRecreated";
    /// The pod's node does not say what became of it.
    pub const NODE_LOST: &str = "NodeLost";
    /// It waits for its turn to start: only so many towns start at once.
    pub const WAITING_FOR_TURN: &str = "WaitingForTurn";
    /// The agent's town has not started yet.
    pub const TOWN_NOT_STARTED: &str = "TownNotStarted";
    /// Nobody can say whether the town has work.
    pub const ACTIVITY_UNKNOWN: &str = "ActivityUnknown";
    /// Work waits outside the cluster.
    pub const BACKLOG: &str = "Backlog";
    /// A Secret that the spec names, or a key in it, does not exist.
    pub const SECRET_NOT_FOUND: &str = "SecretNotFound";
    /// The volume, or the claim that stands for it, is gone; nothing is made in its place.
    pub const STORAGE_LOST: &str = "StorageLost";
    /// The role is taken by another agent.
    pub const ROLE_TAKEN: &str = "RoleTaken";
    /// As many polecats of the rig work as may.
    pub const RIG_FULL: &str = "RigFull";
    /// `spec.expiry` is past.
    pub const EXPIRED: &str = "Expired";
    /// `spec.expiry` was past when the town was created.
    pub const EXPIRY_IN_PAST: &str = "ExpiryInPast";
    /// `spec.expiry` says Destroy and is past, but `spec.deletionProtection` is true: the town sleeps instead.
    pub const DELETION_PROTECTED: &str = "DeletionProtected";
    /// `spec.deletionProtection` is true, but no admission policy refuses a delete.
    pub const DELETION_UNPROTECTED: &str = "DeletionUnprotected";
    /// The pod was made from an older spec, and is replaced when that disturbs nobody.
    pub const UPDATE_PENDING: &str = "UpdatePending";
    /// Reconciliation is paused.
    pub const PAUSED: &str = "Paused";
    /// The agent waits for a person.
    pub const WAITING: &str = "Waiting";
    /// The agent reports that it does not get on.
    pub const REPORTED_STUCK: &str = "ReportedStuck";
    /// The agent reports that its bead has failed.
    pub const REPORTED_FAILED: &str = "ReportedFailed";
    /// The town will sleep soon (event).
    pub const SLEEPS_SOON: &str = "SleepsSoon";
    /// The town will soon sleep because it expires (event).
    pub const EXPIRES_SOON: &str = "ExpiresSoon";
    /// The town will soon be destroyed because it expires (event).
    pub const DESTROYS_SOON: &str = "DestroysSoon";
    /// Deletion is held up by objects that do not go.
    pub const BLOCKED: &str = "Blocked";
    /// The time of a Tombstone has come, but something that it speaks of is still there (event).
    pub const STILL_THERE: &str = "StillThere";
    /// An object carries the UID of one of our objects and the install label of another operator (event).
    pub const OTHER_INSTALLATION: &str = "OtherInstallation";
    /// An object carries the UID of a town or agent in another namespace (event).
    pub const OWNER_ELSEWHERE: &str = "OwnerElsewhere";
    /// A pod or claim carries the UID of a town or agent that does not exist (event).
    pub const OWNER_GONE: &str = "OwnerGone";
    /// The object has parts that the operator cannot decode: nothing is created from it.
    pub const UNREADABLE: &str = "Unreadable";
    /// `spec.tombstone.retention` is longer than the operator allows: the Tombstone goes earlier.
    pub const RETENTION_CLAMPED: &str = "RetentionClamped";
    /// A Tombstone was removed before its time, because its namespace had too many (event).
    pub const TOMBSTONE_REMOVED: &str = "TombstoneRemoved";
    /// Not being deleted.
    pub const NOT_DELETING: &str = "NotDeleting";
}
