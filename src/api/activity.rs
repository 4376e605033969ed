//! What a pod answers when it is asked for its activity: the contract of `GET /activity`.
//!
//! Unknown fields are ignored, so that a newer container can be asked by an older operator.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde::{Deserialize, Serialize};

use super::town::Backlog;

/// The answer of one pod.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ActivityReport {
    /// The agents that the pod knows of.
    pub agents: Vec<ReportedAgent>,
    /// Work that nobody does yet.
    pub backlog: Backlog,
    /// Whether a person is attached.
    pub attached: bool,
    /// When that person last put something in.
    pub last_input_at: Option<Time>,
}

/// One agent, as its pod reports it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ReportedAgent {
    /// UID of the Agent.
    pub uid: String,
    /// What it does.
    pub state: ReportedState,
    /// When it last did something.
    #[serde(default)]
    pub last_activity_at: Option<Time>,
    /// The bead that it speaks of.
    #[serde(default)]
    pub bead: Option<String>,
    /// A line for people.
    #[serde(default)]
    pub message: Option<String>,
}

/// What an agent does, in its pod's own words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ReportedState {
    /// It works.
    Working,
    /// It waits for a person.
    Waiting,
    /// It has nothing to do.
    Idle,
    /// It should work and does not get on.
    Stalled,
    /// The bead is done.
    Done,
    /// The bead has failed.
    Failed,
}
