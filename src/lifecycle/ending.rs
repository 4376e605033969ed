//! The endings of pods: one table from the cause to the outcome, and to whether the ending counts as a failure.
//!
//! Invariant kept here: work is done only if the containers of the template ended by themselves with exit code 0,
//! without a disruption. Sources of the rows are the kubelet (`pkg/kubelet`: eviction, preemption, nodeshutdown,
//! lifecycle/predicate, kubelet_pods), the scheduler (`framework/preemption`), and the controllers for taint eviction
//! and pod garbage collection, as of Kubernetes 1.36.

use super::facts::PodFacts;
use crate::api::Outcome;

/// The ending of a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// Every container of the template ended with exit code 0 before the pod was deleted. Injected containers may
    /// still run, or may have failed.
    Completed,
    /// A container or an init container of the template ended with another exit code.
    ContainerFailed,
    /// A container of the template was killed because of its memory use (OOMKilled).
    OutOfMemory,
    /// The kubelet evicted the pod because it exceeded a limit of its own: reason Evicted without DisruptionTarget.
    OwnLimit,
    /// The pod ran longer than its `activeDeadlineSeconds`.
    DeadlineExceeded,
    /// The cluster ended the pod: condition DisruptionTarget, or a reason of a node that shuts down, preempts the pod
    /// or is lost.
    Disrupted,
    /// The kubelet did not admit the pod.
    Rejected,
    /// The pod failed and none of its containers ever ran.
    NeverRan,
    /// The pod was deleted before its work was done.
    Deleted,
    /// The node restarted and lost the containers of a pod that must not restart them.
    ContainersLost,
}

/// The consequence of an ending.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    /// The ending.
    pub ending: Ending,
    /// The outcome of a Task agent's attempt.
    pub outcome: Outcome,
    /// Whether the ending counts as a failed start or attempt. A pod that must run while its town is awake also fails
    /// if it ends with exit code 0.
    pub counts: bool,
}

const fn row(ending: Ending, outcome: Outcome, counts: bool) -> Row {
    Row { ending, outcome, counts }
}

/// The complete table. The pause before the next start grows with every row except the first: 30 s, 1, 2, 5, 10 min.
pub const TABLE: [Row; 10] = [
    row(Ending::Completed, Outcome::Done, false),
    row(Ending::ContainerFailed, Outcome::Failed, true),
    row(Ending::OutOfMemory, Outcome::Failed, true),
    row(Ending::OwnLimit, Outcome::Failed, true),
    row(Ending::DeadlineExceeded, Outcome::Failed, true),
    row(Ending::Disrupted, Outcome::Interrupted, false),
    row(Ending::Rejected, Outcome::Interrupted, false),
    row(Ending::NeverRan, Outcome::Interrupted, false),
    row(Ending::Deleted, Outcome::Interrupted, false),
    row(Ending::ContainersLost, Outcome::Interrupted, false),
];

impl Ending {
    /// The row of the table.
    pub fn row(self) -> Row {
        // Each variant has a row, and a test verifies this. The default for a missing row counts no failure and never
        // reports the bead as done.
        TABLE
            .into_iter()
            .find(|row| row.ending == self)
            .unwrap_or_else(|| row(self, Outcome::Interrupted, false))
    }

    /// Whether this ending is a failure for the pod of a Town or of a Session agent, which must run while the town is
    /// awake.
    pub(super) fn fails_start(self) -> bool {
        self == Self::Completed || self.row().counts
    }

    /// Whether the cause lies outside of the container.
    pub(super) fn is_external(self) -> bool {
        matches!(
            self,
            Self::Disrupted | Self::Rejected | Self::NeverRan | Self::Deleted | Self::ContainersLost
        )
    }
}

impl PodFacts {
    /// Whether the work of the pod is over: no container of the pod runs any more, or every container of its template
    /// has ended and will not start again.
    pub fn work_is_over(&self) -> bool {
        self.ended() || self.termination.is_some()
    }

    /// The ending of the pod. `None` while its work continues.
    pub fn ending(&self) -> Option<Ending> {
        if !self.work_is_over() {
            return None;
        }
        let exit = self.termination.as_ref();
        let ending = if self.rejected {
            Ending::Rejected
        } else if self.disrupted {
            Ending::Disrupted
        } else if self.deleting() && !self.ended_before_deletion() {
            Ending::Deleted
        } else {
            match self.reason.as_deref() {
                Some("DeadlineExceeded") => Ending::DeadlineExceeded,
                Some("Evicted") if self.ran => Ending::OwnLimit,
                // Some kubelets set no condition, only a reason. Terminated is the graceful shutdown of a node.
                Some("Preempting" | "NodeLost" | "NodeShutdown" | "Shutdown" | "Terminated") => {
                    Ending::Disrupted
                }
                _ if exit.is_some_and(|exit| exit.lost) => Ending::ContainersLost,
                _ if exit.is_some_and(|exit| exit.out_of_memory) => Ending::OutOfMemory,
                _ if exit.is_some_and(|exit| exit.exit_code == 0) => Ending::Completed,
                _ if !self.ran => Ending::NeverRan,
                _ => Ending::ContainerFailed,
            }
        };
        Some(ending)
    }

    /// Whether the containers ended by themselves before the pod was deleted. A status that is older than the deletion
    /// proves it. After the kubelet has released the pod (grace period 0), the time of the deletion is no longer
    /// known. The work then counts as not done, because repeated work is better than lost work.
    fn ended_before_deletion(&self) -> bool {
        match (self.stop_requested, &self.termination) {
            (None, _) => true,
            (Some(_), None) => false,
            (Some(_), Some(_)) if self.reported_untouched => true,
            (Some(told), Some(exit)) => exit.at.is_some_and(|at| at < told) && !self.released_by_kubelet,
        }
    }

    /// Whether every container of the template ended by itself with exit code 0, without a disruption.
    pub fn done(&self) -> bool {
        self.ending() == Some(Ending::Completed)
    }
}
