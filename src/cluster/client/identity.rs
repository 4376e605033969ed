//! The identity of this process, in the Lease and in the audit logs of the API server.

/// The identity of a process, which is unique among all processes past and present.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Identity {
    holder: String,
    /// The prefix of the holders that ran in the same pod before.
    pod: Option<String>,
}

impl Identity {
    /// An identity from the name of the process for users, the UID of its pod, and a value that no other process has.
    /// The UID is given only if the pod runs no other process of this kind.
    pub fn new(name: &str, pod_uid: Option<&str>, instance: &str) -> Self {
        let pod = pod_uid.map(|uid| format!("{name}_{uid}_"));
        let holder =
            pod.as_ref().map_or_else(|| format!("{name}_{instance}"), |pod| format!("{pod}{instance}"));
        Self { holder, pod }
    }

    /// The name of the process in the Lease.
    pub fn holder(&self) -> &str {
        &self.holder
    }

    /// Whether the holder is a process that ran in this pod before this one, and so is dead.
    pub(crate) fn succeeds(&self, holder: &str) -> bool {
        holder != self.holder && self.pod.as_ref().is_some_and(|pod| holder.starts_with(pod.as_str()))
    }
}
