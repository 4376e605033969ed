//! The answer of a pod to an activity probe: the contract of `GET /activity`.
//!
//! Unknown fields are ignored, so that an older operator can probe a newer container.

use std::collections::{HashMap, HashSet};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};
use serde_json::error::Category;

use super::town::Backlog;

/// The answer of one pod.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ActivityReport {
    /// The agents that the pod reports.
    pub agents: Vec<ReportedAgent>,
    /// The work items that no agent has yet.
    pub backlog: Backlog,
    /// True if a user is attached.
    pub attached: bool,
    /// The time of the last input of the attached user.
    pub last_input_time: Option<Time>,
}

impl ActivityReport {
    /// The top-level fields. An answer without any of them comes from another product, and contains no activity.
    const FIELDS: [&str; 4] = ["agents", "backlog", "attached", "lastInputTime"];

    /// Decodes an answer. The error names the fault and contains no part of the answer, which may be confidential.
    pub fn parse(body: &[u8]) -> Result<Self, String> {
        let wrong = |error: &serde_json::Error| {
            let what = match error.classify() {
                Category::Syntax | Category::Eof | Category::Io => "it is not JSON",
                Category::Data => "it is not an activity answer",
            };
            format!("{what} (line {}, column {})", error.line(), error.column())
        };
        // The values are skipped: an answer may be large, and its tree larger.
        #[allow(clippy::zero_sized_map_values)] // A set cannot decode an object.
        let fields: HashMap<String, IgnoredAny> = serde_json::from_slice(body).map_err(|e| wrong(&e))?;
        if !Self::FIELDS.iter().any(|field| fields.contains_key(*field)) {
            return Err(format!("it has none of the fields {}", Self::FIELDS.join(", ")));
        }
        serde_json::from_slice(body).map_err(|e| wrong(&e))
    }

    /// The answer without parts that no decision uses. Its size depends on the number of existing agents and not on the
    /// text of a container. It keeps the first entry of each agent that `counts`, and with `others` the latest entry in
    /// each state of all other agents. Texts are cut.
    #[must_use]
    pub fn reduced(mut self, counts: impl Fn(&str) -> bool, others: bool) -> Self {
        let mut seen = HashSet::new();
        let mut latest: Vec<ReportedAgent> = Vec::new();
        let mut kept = Vec::new();
        for mut entry in std::mem::take(&mut self.agents) {
            entry.bead = entry.bead.map(|text| text.chars().take(TEXT).collect());
            entry.message = entry.message.map(|text| text.chars().take(TEXT).collect());
            if counts(&entry.uid) {
                if seen.insert(entry.uid.clone()) {
                    kept.push(entry);
                }
                continue;
            }
            let time = |entry: &ReportedAgent| entry.last_activity_time.as_ref().map(|at| at.0);
            let known = latest.iter_mut().find(|other| other.state == entry.state);
            match known {
                Some(other) if time(other) < time(&entry) => *other = entry,
                None if others => latest.push(entry),
                _ => {}
            }
        }
        kept.append(&mut latest);
        kept.shrink_to_fit();
        self.agents = kept;
        self
    }
}

/// The longest text in characters: more than the name of a bead may have, and as many as a message shows.
const TEXT: usize = 1024;

/// The report of a pod on one agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ReportedAgent {
    /// UID of the Agent.
    pub uid: String,
    /// State of the agent.
    pub state: ReportedState,
    /// Time of the agent's last activity.
    #[serde(default)]
    pub last_activity_time: Option<Time>,
    /// The bead of the report.
    #[serde(default)]
    pub bead: Option<String>,
    /// A short text for users.
    #[serde(default)]
    pub message: Option<String>,
}

/// The state of an agent in the report of its pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ReportedState {
    /// The agent works.
    Working,
    /// The agent waits for a user.
    Waiting,
    /// The agent has no work.
    Idle,
    /// The agent has work and makes no progress.
    Stuck,
    /// The bead is finished.
    Done,
    /// The bead has failed.
    Failed,
}

#[cfg(test)]
mod tests {
    use super::*;

    // Issue 11, item 10: recorded answers of other products.
    #[test]
    fn answer_of_another_product_is_malformed() {
        for (product, body) in [
            ("opencode /session/status, idle", "{}"),
            ("opencode /session/status, busy", r#"{"ses_5f1": {"type": "busy"}}"#),
            ("opencode /global/health", r#"{"healthy": true, "version": "1.18.33"}"#),
            (
                "jupyter-server /api/status",
                r#"{"connections": 0, "kernels": 1, "last_activity": "2026-11-28T09:12:00.123456Z",
                    "started": "2026-11-28T09:00:00.000000Z"}"#,
            ),
            (
                "openhands agent-server /server_info",
                r#"{"uptime": 12.5, "idle_time": 3.1, "title": "OpenHands Agent Server", "version": "1.58.2"}"#,
            ),
            ("code-server /healthz", r#"{"status": "alive", "lastHeartbeat": 1764320000000}"#),
            ("a list", "[]"),
            ("a string", r#""ok""#),
            ("nothing", ""),
            ("HTML", "<html>secret</html>"),
            ("a wrong type", r#"{"agents": {"secret": 1}}"#),
            ("an unknown state", r#"{"agents": [{"uid": "a", "state": "secret"}]}"#),
            ("an agent without a UID", r#"{"agents": [{"state": "idle"}]}"#),
        ] {
            let error = ActivityReport::parse(body.as_bytes()).expect_err(product);
            assert!(!error.contains("secret"), "{product}: the text shows no part of the body: {error}");
        }
    }

    // A container's answer must not decide how much memory the operator uses.
    #[test]
    fn answer_reduction_keeps_the_entries_that_decisions_read() {
        let entry = |uid: &str, state: &str, minute: u8, message: &str| {
            serde_json::json!({"uid": uid, "state": state, "message": message, "bead": "b",
                "lastActivityTime": format!("2030-01-01T00:{minute:02}:00Z")})
        };
        let mut agents =
            vec![entry("ours", "waiting", 1, &"é".repeat(5000)), entry("ours", "idle", 2, "again")];
        agents.extend(
            (0..500).map(|n| entry(&format!("unknown-{n}"), "stuck", u8::try_from(n % 60).unwrap(), "x")),
        );
        agents.push(entry("other", "working", 3, "y"));
        let body = serde_json::json!({"agents": agents, "attached": true}).to_string();
        let report = ActivityReport::parse(body.as_bytes()).unwrap();
        let shown = |report: &ActivityReport| -> Vec<_> {
            let time = |a: &ReportedAgent| a.last_activity_time.as_ref().map(|at| at.0.to_string());
            report.agents.iter().map(|a| (a.state, time(a).unwrap_or_default())).collect()
        };
        let of_town = report.clone().reduced(|uid| uid == "ours", true);
        let at = |minute: u8| format!("2030-01-01T00:{minute:02}:00Z");
        assert_eq!(
            shown(&of_town),
            [
                (ReportedState::Waiting, at(1)),
                (ReportedState::Stuck, at(59)),
                (ReportedState::Working, at(3)),
            ]
        );
        assert_eq!(of_town.agents[0].message.as_ref().unwrap().chars().count(), 1024);
        assert!(of_town.attached);
        assert_eq!(shown(&report.reduced(|uid| uid == "ours", false)), [(ReportedState::Waiting, at(1))]);
    }

    #[test]
    fn answer_with_one_known_field_is_accepted() {
        for body in [
            r#"{"agents": []}"#,
            r#"{"backlog": {}}"#,
            r#"{"attached": false}"#,
            r#"{"lastInputTime": null}"#,
            r#"{"agents": [], "weather": "fair"}"#,
        ] {
            assert_eq!(ActivityReport::parse(body.as_bytes()), Ok(ActivityReport::default()), "{body}");
        }
    }
}
