//! Terms of stories for the states of towns and agents.

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::ResourceExt;
use serde_json::{Value, json};
use town_operator::api::{Agent, Town};

/// A town or an agent, by its status.
pub trait Told: ResourceExt {
    /// The phase; empty before the first decision.
    fn phase(&self) -> &str;

    fn conditions(&self) -> &[Condition];

    /// The UID of the pod in the status.
    fn pod_uid(&self) -> Option<&str>;

    fn is(&self, kind: &str) -> bool {
        self.conditions().iter().any(|c| c.type_ == kind && c.status == "True")
    }

    fn reason(&self, kind: &str) -> &str {
        self.conditions().iter().find(|c| c.type_ == kind).map_or("", |c| &c.reason)
    }

    fn message(&self, kind: &str) -> &str {
        self.conditions().iter().find(|c| c.type_ == kind).map_or("", |c| &c.message)
    }

    /// Whether the status refers to the current spec.
    fn is_current(&self) -> bool;

    fn id(&self) -> String {
        self.uid().expect("an object of the API server")
    }

    /// The name of the pod and of the claim.
    fn child(&self) -> String {
        let name = self.name_any().replace('.', "-");
        let prefix: String = name.chars().take(40).collect();
        format!("{}-{}", prefix.trim_end_matches('-'), &self.id()[..8])
    }
}

impl Told for Town {
    fn phase(&self) -> &str {
        self.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or_default()
    }

    fn conditions(&self) -> &[Condition] {
        self.status.as_ref().map_or(&[], |status| &status.conditions)
    }

    fn pod_uid(&self) -> Option<&str> {
        self.status.as_ref()?.pod.as_ref()?.uid.as_deref()
    }

    fn is_current(&self) -> bool {
        self.status.as_ref().is_some_and(|status| status.observed_generation == self.metadata.generation)
    }
}

impl Told for Agent {
    fn phase(&self) -> &str {
        self.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or_default()
    }

    fn conditions(&self) -> &[Condition] {
        self.status.as_ref().map_or(&[], |status| &status.conditions)
    }

    fn pod_uid(&self) -> Option<&str> {
        self.status.as_ref()?.pod.as_ref()?.uid.as_deref()
    }

    fn is_current(&self) -> bool {
        self.status.as_ref().is_some_and(|status| status.observed_generation == self.metadata.generation)
    }
}

pub fn idle(town: &Town) -> bool {
    town.phase() == "Idle" && town.is("Ready")
}

pub fn asleep(town: &Town) -> bool {
    town.phase() == "Asleep" && town.is("Asleep") && town.is("Ready")
}

pub fn works(agent: &Agent) -> bool {
    agent.phase() == "Working"
}

pub fn done(agent: &Agent) -> &[String] {
    agent.status.as_ref().and_then(|status| status.work.as_ref()).map_or(&[], |work| &work.done)
}

/// The number of attempts for the current bead.
pub fn attempts(agent: &Agent) -> i32 {
    agent.status.as_ref().and_then(|status| status.work.as_ref()).map_or(0, |work| work.attempts)
}

pub fn seconds(from: &Time, to: &Time) -> i64 {
    to.0.as_second() - from.0.as_second()
}

/// A polecat of mode Task with this bead.
pub fn polecat(bead: &str) -> Value {
    json!({"role": "Polecat", "rig": "core", "hook": {"bead": bead}})
}

/// A town with its own pod, a template for agents and a rig for polecats, which sleeps only after a long time.
pub fn workshop() -> Value {
    let template = crate::common::story::template();
    json!({"template": template, "agentTemplate": template, "rigs": [{"name": "core"}], "drain": {"timeout": "0s"}})
}

/// The same town with additional or replaced fields in its spec.
pub fn workshop_with(more: Value) -> Value {
    let mut spec = workshop();
    json_patch::merge(&mut spec, &more);
    spec
}

pub fn template_of(image: &str) -> Value {
    let mut template = crate::common::story::template();
    template["spec"]["containers"][0]["image"] = image.into();
    template
}

pub fn image(pod: &Pod) -> &str {
    pod.spec.as_ref().and_then(|spec| spec.containers[0].image.as_deref()).unwrap_or_default()
}
