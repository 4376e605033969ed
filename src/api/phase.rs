//! The phases of Towns and Agents. The status holds the phase as text, so that an object with a phase of another version
//! stays readable.

use super::enumeration::enumeration;

enumeration! {
    /// The phase of a Town.
    pub enum TownPhase {
        /// The town waits for its first start.
        Pending = "Pending",
        /// The town's pod is not Ready yet, or waits for its next start.
        Starting = "Starting",
        /// The town runs and has work.
        Running = "Running",
        /// The town runs and has no work.
        Idle = "Idle",
        /// The town falls asleep: its agents finish, and no pod starts.
        Draining = "Draining",
        /// The town sleeps and has no pods.
        Asleep = "Asleep",
        /// The town does not run until a user acts.
        Blocked = "Blocked",
        /// An annotation marks the town as destroyed, and the operator does not run it.
        Tombstoned = "Tombstoned",
        /// The town is being deleted.
        Destroying = "Destroying",
    }
}

enumeration! {
    /// The phase of an Agent.
    pub enum AgentPhase {
        /// The town of the agent has not started yet.
        Pending = "Pending",
        /// The agent's pod is not Ready yet, or waits for its next start.
        Starting = "Starting",
        /// The agent works.
        Working = "Working",
        /// The agent waits for a user.
        Waiting = "Waiting",
        /// The agent reports that it makes no progress.
        Stuck = "Stuck",
        /// The agent has no work.
        Idle = "Idle",
        /// The bead of the agent is done.
        Done = "Done",
        /// The bead of the agent failed, or the agent is past its retry limit.
        Failed = "Failed",
        /// The town of the agent sleeps.
        Asleep = "Asleep",
        /// The agent does not run until a user acts, or until another agent makes room.
        Blocked = "Blocked",
        /// An annotation marks the agent as destroyed, and the operator does not run it.
        Tombstoned = "Tombstoned",
        /// The agent is being deleted.
        Destroying = "Destroying",
    }
}

/// The description of a field with these values.
fn field(subject: &str, values: impl Iterator<Item = (&'static str, &'static str)>) -> String {
    let values = values.map(|(word, description)| {
        let (first, rest) = description.trim().split_at(1);
        format!("{word}: {}{rest}", first.to_lowercase())
    });
    format!("phase is a summary of the {subject}'s state. {}", values.collect::<Vec<_>>().join(" "))
}

/// The description of `status.phase` of a Town.
pub(super) fn of_town() -> String {
    field("town", TownPhase::ALL.iter().map(|phase| (phase.as_str(), phase.description())))
}

/// The description of `status.phase` of an Agent.
pub(super) fn of_agent() -> String {
    field("agent", AgentPhase::ALL.iter().map(|phase| (phase.as_str(), phase.description())))
}
