//! Labels, annotations and finalizers: every key that this project puts on an object.

/// The prefix of every label, annotation and finalizer of the operator.
pub const PREFIX: &str = "gastown.dev/";
/// Annotation on a Town or Agent: the tombstone, `<uid>@<RFC 3339>`. The operator never runs an
/// object with this annotation, whatever its value.
pub const TOMBSTONE: &str = "gastown.dev/deleted";
/// Annotation on a Town or Agent: the steps of its destruction that an administrator abandons, for
/// example `compute` or `compute,storage`.
pub const ABANDON: &str = "gastown.dev/abandon";
/// Finalizer on Town and Agent.
pub const FINALIZER: &str = "gastown.dev/cleanup";
/// The names of that finalizer in older versions. The operator replaces an older name by [`FINALIZER`] on a live object,
/// and treats it as [`FINALIZER`] on an object that is being deleted.
pub const OLDER_FINALIZERS: [&str; 1] = ["gastown.dev/finalizer"];
/// Finalizer on Task pods: removed once the outcome is recorded, so that a finished pod cannot
/// vanish unread.
pub const RESULT_FINALIZER: &str = "gastown.dev/result";
/// Label on every child and on every bound Agent: the UID of the town that owns it.
pub const TOWN_UID: &str = "gastown.dev/town-uid";
/// Label on every child of an Agent: the UID of that agent.
pub const AGENT_UID: &str = "gastown.dev/agent-uid";
/// Label on every child, Town and Agent: which installation made or runs it.
pub const INSTALL: &str = "gastown.dev/install";
/// Annotation on an Agent: its own UID, written when it is adopted. A copy of it from a backup has another UID.
pub const ADOPTED_UID: &str = "gastown.dev/adopted-uid";
/// Annotation on every child: `<kind>/<namespace>/<name>` of its owner, so that the owner can be
/// looked up (there is no read by UID).
pub const OWNER: &str = "gastown.dev/owner";
/// Annotation on a pod: the agent's hook as JSON, projected into the container by the downward API.
pub const HOOK: &str = "gastown.dev/hook";
/// Annotation on a Town or Agent: `"true"` pauses its reconciliation. Deletion still works.
pub const PAUSED: &str = "gastown.dev/paused";
/// Annotation on a Town or Agent: change it to replace the pod. A pod carries the value it was made with.
pub const RESTART_AT: &str = "gastown.dev/restart-at";
/// Annotation on a pod: a digest of the part of the specs that it was made from.
pub const POD_REVISION: &str = "gastown.dev/pod-revision";
/// Annotation on a pod: the names of the containers of its template, with commas. Every other container was injected.
pub const POD_CONTAINERS: &str = "gastown.dev/containers";
/// Annotation on a pod: `<generation of the town>.<generation of the agent, or 0>` of the specs that it was made from.
pub const POD_GENERATION: &str = "gastown.dev/pod-generation";
/// Annotation on a claim: a digest of the labels and annotations that the operator copied from the spec of its owner,
/// and their keys.
pub const COPIED: &str = "gastown.dev/copied";
/// Annotation on a retained claim, instead of our labels: `<kind>/<namespace>/<name>` of its last owner.
pub const RETAINED_FROM: &str = "gastown.dev/retained-from";
/// Annotation on a claim: `"true"` when the spec of its owner says that the claim outlives the owner. It counts once the
/// owner is gone without having been destroyed by the operator.
pub const RETAIN: &str = "gastown.dev/retain";
/// Annotation on the Lease of an installation: the UID of the Lease, written by a holder that gave it up after its
/// last write. A Lease that somebody created, replaced or restored does not carry its own UID here.
pub const FREED: &str = "gastown.dev/freed";
/// Annotation on the Lease of an installation: `<namespace>/<name>` of the release whose operator led last.
pub const RELEASE: &str = "gastown.dev/release";
/// Annotation on our `CustomResourceDefinition`s: an integer raised with every change of a schema.
pub const SCHEMA_REVISION: &str = "gastown.dev/schema-revision";

/// Label on every child: what part of a town it is, `town` or `agent`.
pub const COMPONENT: &str = "gastown.dev/component";
/// Velero's label on an object that no backup is to hold: a restored one would run, or stand, beside the operator's own.
pub const EXCLUDE_FROM_BACKUP: &str = "velero.io/exclude-from-backup";

/// Recommended label: the application's name.
pub const APP_NAME: &str = "app.kubernetes.io/name";
/// Recommended label: what part of a town an object is, `town` or `agent`.
pub const APP_COMPONENT: &str = "app.kubernetes.io/component";
/// Recommended label: who manages an object.
pub const APP_MANAGED_BY: &str = "app.kubernetes.io/managed-by";

/// The value of [`APP_MANAGED_BY`], the field manager of every write, and the reporter of events.
pub const MANAGER: &str = "town-operator";

/// Whether a finalizer of a Town or Agent is ours, by its name of today or by an older one.
pub fn is_finalizer(name: &str) -> bool {
    name == FINALIZER || OLDER_FINALIZERS.contains(&name)
}
